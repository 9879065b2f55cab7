//! Clients that are slow, silent, large or too many; upstreams that fail; the end of the process.

mod stopping;
mod upstream_faults;

use std::time::Duration;

use tokio::time::Instant;

use super::support::*;

/// With these `[limits]`, and `api.example.test` at the upstream.
async fn start(limits: &str) -> (Lanyard, Idp, Upstream) {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let config = format!("[limits]\n{limits}\n{}{}", idp.profile("p"), upstream.route("api.example.test", "p"));
    let lanyard = Lanyard::start(&config).await;
    lanyard.ready().await;
    (lanyard, idp, upstream)
}

async fn no_connections(lanyard: &Lanyard) {
    let series = format!("lanyard_connections{{listener=\"{}\"}}", lanyard.address());
    eventually("no connections", async || lanyard.metric(&series).await == 0.0).await;
}

const GOOD: &str = "GET http://api.example.test/ HTTP/1.1\r\nHost: api.example.test\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_slow_heads_are_gone_in_time_and_hold_up_nobody() {
    let (lanyard, _idp, upstream) = start("header_timeout = \"2s\"").await;
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let address = lanyard.address().to_owned();
        slow.spawn(async move {
            let wire = Wire::open(&address).await;
            let opened = Instant::now();
            let (mut reader, mut writer) = wire.stream.into_split();
            let dripping = tokio::spawn(async move {
                use tokio::io::AsyncWriteExt;
                for byte in GOOD.as_bytes() {
                    if writer.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            });
            let mut answer = String::new();
            drop(tokio::io::AsyncReadExt::read_to_string(&mut reader, &mut answer).await);
            dripping.abort();
            (opened.elapsed(), answer)
        });
    }
    let address = lanyard.address().to_owned();
    let good = tokio::spawn(async move {
        for _ in 0..10 {
            let asked = Instant::now();
            assert_eq!(get_via(&address, "http://api.example.test/").await.status, 200);
            assert!(asked.elapsed() < Duration::from_secs(1), "a good client waited for {:?}", asked.elapsed());
        }
    });
    while let Some(one) = slow.join_next().await {
        let (lived, answer) = one.unwrap();
        assert_eq!(verdict(&answer), (408, "header_timeout"), "{answer}");
        // Closing waits a second at most for a client that goes on sending.
        assert!(lived >= Duration::from_millis(1900) && lived < Duration::from_millis(3500), "{lived:?}");
    }
    good.await.unwrap();
    no_connections(&lanyard).await;
    assert!(upstream.seen.requests().iter().all(|request| request.path == "/"));
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_closed() {
    let limits = "header_timeout = \"1s\"\nidle_timeout = \"2s\"\nbody_timeout = \"1s\"";
    let (lanyard, _idp, upstream) = start(limits).await;
    let fresh = async {
        let (opened, wire) = (Instant::now(), Wire::open(lanyard.address()).await);
        assert_eq!(wire.closed().await, "");
        opened.elapsed()
    };
    let idle = async {
        let mut wire = Wire::open(lanyard.address()).await;
        wire.send(GOOD).await;
        assert_eq!(status_of(&wire.answer().await), 200);
        let answered = Instant::now();
        assert_eq!(wire.closed().await, "");
        answered.elapsed()
    };
    let body = async |framing: &str, some: &str| {
        let mut wire = Wire::open(lanyard.address()).await;
        let head = "POST http://api.example.test/ HTTP/1.1\r\nHost: api.example.test";
        wire.send(format!("{head}\r\n{framing}\r\n\r\n{some}")).await;
        let sent = Instant::now();
        let answer = wire.closed().await;
        assert_eq!(verdict(&answer), (408, "body_timeout"), "{framing}: {answer}");
        sent.elapsed()
    };
    let all = tokio::join!(
        fresh,
        idle,
        body("Content-Length: 10", "12345"),
        body("Content-Length: 10", ""),
        body("Transfer-Encoding: chunked", "5\r\n12345\r\n"),
        body("Transfer-Encoding: chunked", "5\r\n12"),
    );
    let near = |lived: Duration, seconds: f64| {
        assert!((lived.as_secs_f64() - seconds - 0.5).abs() < 0.7, "{lived:?}, and not {seconds} s");
    };
    near(all.0, 1.0);
    near(all.1, 2.0);
    for lived in [all.2, all.3, all.4, all.5] {
        near(lived, 1.0);
    }
    no_connections(&lanyard).await;
    assert_eq!(upstream.seen.last().path, "/");
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_slow_but_alive_goes_through() {
    let (lanyard, _idp, upstream) =
        start("body_timeout = \"1s\"\nheader_timeout = \"1s\"\nidle_timeout = \"1s\"").await;
    let mut wire = Wire::open(lanyard.address()).await;
    wire.send("POST http://api.example.test/ HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 6\r\n\r\n").await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        wire.send("x").await;
    }
    let answer = wire.answer().await;
    assert_eq!(status_of(&answer), 200, "{answer}");
    assert!(answer.contains("\"length\":6"), "{answer}");
    drop(upstream);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_may_be_as_large_as_its_limits_and_no_larger() {
    let (lanyard, _idp, upstream) = start("max_header_size = \"4KiB\"\nmax_headers = 10").await;
    let sized = |size: usize| {
        let (start, end) = ("GET http://api.example.test/ HTTP/1.1\r\nHost: api.example.test\r\nX: ", "\r\n\r\n");
        format!("{start}{}{end}", "x".repeat(size - start.len() - end.len()))
    };
    let counted = |count: usize| {
        let more: String = (1..count).map(|n| format!("X-{n}: {n}\r\n")).collect();
        format!("GET http://api.example.test/ HTTP/1.1\r\nHost: api.example.test\r\n{more}\r\n")
    };
    for head in [sized(4096), counted(10)] {
        let mut wire = Wire::open(lanyard.address()).await;
        wire.send(&head).await;
        assert_eq!(status_of(&wire.answer().await), 200, "{head}");
    }
    let before = upstream.seen.requests().len();
    for head in [sized(4097), counted(11), counted(300), sized(200_000), "x".repeat(5000)] {
        let answer = raw(lanyard.address(), &head).await;
        assert_eq!(verdict(&answer), (431, "headers_too_large"), "{} bytes: {answer}", head.len());
    }
    assert_eq!(upstream.seen.requests().len(), before);
    assert_eq!(lanyard.metric("lanyard_refusals_total{code=\"headers_too_large\"}").await, 5.0);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_told_so() {
    let (lanyard, _idp, _upstream) = start("max_connections = 5").await;
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut wire = Wire::open(lanyard.address()).await;
        wire.send(GOOD).await;
        assert_eq!(status_of(&wire.answer().await), 200);
        held.push(wire);
    }
    for _ in 0..3 {
        let answer = raw(lanyard.address(), GOOD).await;
        assert_eq!(verdict(&answer), (503, "overloaded"), "{answer}");
        assert!(field(&answer, "retry-after").is_some());
    }
    // Those that are in are served on.
    held[0].send(GOOD).await;
    assert_eq!(status_of(&held[0].answer().await), 200);
    drop(held.pop());
    eventually("there is room again", async || {
        let mut wire = Wire::open(lanyard.address()).await;
        wire.send(GOOD).await;
        status_of(&wire.answer().await) == 200
    })
    .await;
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_are_told_what_to_do() {
    let (lanyard, _idp, _upstream) = start("header_timeout = \"5s\"").await;
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    for (bytes, word) in [(&hello[..], "TLS"), (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "HTTP/1.1")] {
        let asked = Instant::now();
        let answer = raw(lanyard.address(), bytes).await;
        assert_eq!(verdict(&answer), (400, "bad_request"), "{answer}");
        assert!(answer.contains(word), "{answer}");
        assert!(asked.elapsed() < Duration::from_secs(3), "it is told at once");
    }
    lanyard.finish().await;
}
