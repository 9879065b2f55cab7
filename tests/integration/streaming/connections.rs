//! One connection, many requests, and every way a request or an answer may end.

use super::*;

const TO: &str = "http://api.example.test";

async fn start() -> (Lanyard, Idp, Upstream) {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&format!("{}{}", idp.profile("p"), upstream.route("api.example.test", "p"))).await;
    lanyard.ready().await;
    (lanyard, idp, upstream)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_share_one_connection_on_either_side() {
    let (lanyard, _idp, upstream) = start().await;
    let mut wire = Wire::open(lanyard.address()).await;
    for number in 0..20 {
        let (method, body) = if number % 2 == 0 { ("GET", "\r\n") } else { ("POST", "Content-Length: 2\r\n\r\nhi") };
        wire.send(format!("{method} {TO}/{number} HTTP/1.1\r\nHost: x\r\n{body}")).await;
        let answer = wire.answer().await;
        assert_eq!(status_of(&answer), 200, "{answer}");
        assert_eq!(upstream.seen.last().path, format!("/{number}"));
    }
    assert_eq!(upstream.seen.connections(), 1);
    drop(wire);
    // Another client uses it too.
    assert_eq!(get_via(lanyard.address(), &format!("{TO}/x")).await.status, 200);
    assert_eq!(upstream.seen.connections(), 1);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let (lanyard, idp, upstream) = start().await;
    let get = |path: &str| format!("GET {TO}{path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let length = |path: &str| format!("POST {TO}{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    let chunked = |path: &str| {
        format!("POST {TO}{path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    };
    for requests in [
        vec![get("/slow/100?1"), get("/2")],
        vec![get("/slow/100?1"), length("/2"), get("/3"), length("/4"), get("/5")],
        vec![get("/slow/100?1"), chunked("/2")],
    ] {
        let before = upstream.seen.requests().len();
        let mut wire = Wire::open(lanyard.address()).await;
        wire.send(requests.concat()).await;
        for request in &requests {
            let answer = wire.answer().await;
            assert_eq!(status_of(&answer), 200, "{request}: {answer}");
            let path = request.split([' ', '\r']).nth(1).unwrap().trim_start_matches(TO);
            let seen = answer.split_once("\r\n\r\n").unwrap().1;
            let seen: serde_json::Value = serde_json::from_str(seen).unwrap();
            assert_eq!(seen["path"], path, "out of order");
            assert_eq!(seen["length"], if request.starts_with("POST") { 3 } else { 0 });
        }
        assert_eq!(upstream.seen.requests().len(), before + requests.len());
    }
    // What follows a chunked body too soon is not answered, but the client sees that, and nothing is mixed up.
    let mut wire = Wire::open(lanyard.address()).await;
    wire.send(chunked("/slow/100?1") + &get("/2")).await;
    assert_eq!(status_of(&wire.answer().await), 200);
    assert_eq!(wire.closed().await, "");
    assert_eq!(upstream.seen.last().path, "/slow/100?1");

    let bearer = [format!("Bearer {}", idp.last_token())];
    assert!(upstream.seen.requests().iter().all(|request| request.all("authorization") == bearer));
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closed_its_sending_side_gets_its_answer() {
    let (lanyard, _idp, _upstream) = start().await;
    for (request, length) in [
        (format!("GET {TO}/slow/300 HTTP/1.1\r\nHost: x\r\n\r\n"), 0),
        (format!("GET {TO}/slow/300 HTTP/1.0\r\n\r\n"), 0),
        (format!("POST {TO}/slow/300 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"), 3),
        (
            format!(
                "POST {TO}/slow/300 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            ),
            3,
        ),
    ] {
        let mut wire = Wire::open(lanyard.address()).await;
        wire.send(&request).await;
        wire.stream.shutdown().await.unwrap();
        let answer = wire.closed().await;
        assert_eq!(status_of(&answer), 200, "{request}: {answer}");
        assert!(answer.contains(&format!("\"length\":{length}")), "{answer}");
    }
    // Half a body never becomes a whole one.
    for framing in ["Content-Length: 9\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut wire = Wire::open(lanyard.address()).await;
        wire.send(format!("POST {TO}/half HTTP/1.1\r\nHost: x\r\n{framing}")).await;
        wire.stream.shutdown().await.unwrap();
        let answer = wire.closed().await;
        assert_ne!(status_of(&answer), 200, "{answer}");
    }
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_end_where_they_should() {
    let (lanyard, _idp, upstream) = start().await;
    let mut wire = Wire::open(lanyard.address()).await;
    for (method, path, status) in [
        ("HEAD", "/x", 200),
        ("GET", "/status/204", 204),
        ("GET", "/status/304", 304),
        ("HEAD", "/status/404", 404),
        ("DELETE", "/status/204", 204),
    ] {
        wire.send(format!("{method} {TO}{path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let head = wire.until("\r\n\r\n").await;
        assert_eq!(status_of(&head), status, "{head}");
        assert_eq!(field(&head, "transfer-encoding"), None, "{head}");
        assert_eq!(upstream.seen.last().method, method);
    }
    wire.send(format!("GET {TO}/last HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    let answer = wire.answer().await;
    assert!(answer.contains("/last"), "nothing was left over: {answer}");
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_clients_get_what_they_understand() {
    let upstream = ByHand::start(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let idp = Idp::start().await;
    let lanyard = Lanyard::start(&format!("{}{}", idp.profile("p"), upstream.route("old.test", "p"))).await;
    let answer = raw(lanyard.address(), "GET http://old.test/ HTTP/1.0\r\n\r\n").await;
    assert_eq!((status_of(&answer), field(&answer, "transfer-encoding")), (200, None), "{answer}");
    assert!(answer.ends_with("\r\n\r\nabcdef"), "{answer}");
    // The connection is not kept where its end is the body's.
    let answer = raw(lanyard.address(), "GET http://old.test/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    assert_eq!(field(&answer, "connection"), Some("close"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nabcdef"), "{answer}");
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_wait_for_100_continue() {
    let (lanyard, _idp, upstream) = start().await;
    let head = format!("POST {TO}/c HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let mut wire = Wire::open(lanyard.address()).await;
    for _ in 0..2 {
        wire.send(&head).await;
        let interim = wire.until("\r\n\r\n").await;
        assert_eq!(status_of(&interim), 100, "{interim}");
        wire.send("12345").await;
        let answer = wire.answer().await;
        assert_eq!(status_of(&answer), 200, "{answer}");
        assert!(answer.contains("\"length\":5"));
    }
    // An upstream that wants no body says so at once.
    upstream.seen.refuse_all();
    wire.send(&head).await;
    let answer = wire.until("\r\n\r\n").await;
    assert_eq!((status_of(&answer), field(&answer, "connection")), (401, Some("close")), "{answer}");
    drop(wire);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_do_no_harm() {
    let received = Arc::new(std::sync::Mutex::new(String::new()));
    let body = Arc::clone(&received);
    let upstream = ByHand::start(move |mut stream| {
        let body = Arc::clone(&body);
        async move {
            loop {
                let mut request = read_head(&mut stream).await;
                while request.contains("chunked") && !request.contains("\r\n0\r\n") {
                    let mut more = [0; 1024];
                    let read = stream.read(&mut more).await.unwrap();
                    assert!(read > 0, "{request}");
                    request += &String::from_utf8_lossy(&more[..read]);
                }
                if request.is_empty() {
                    return;
                }
                *body.lock().unwrap() = request;
                let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n\
                              0\r\nX-Sum: 6\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let idp = Idp::start().await;
    let lanyard = Lanyard::start(&format!("{}{}", idp.profile("p"), upstream.route("trailers.test", "p"))).await;
    for _ in 0..3 {
        let answer = get_via(lanyard.address(), "http://trailers.test/").await;
        assert_eq!((answer.status, &*answer.body), (200, "abc"));
    }
    // A request's trailers, which could name Authorization, are no header fields afterwards.
    let mut wire = Wire::open(lanyard.address()).await;
    wire.send(
        "POST http://trailers.test/ HTTP/1.1\r\nHost: x\r\nTrailer: Authorization\r\nTransfer-Encoding: \
         chunked\r\n\r\n3\r\nabc\r\n0\r\nAuthorization: Bearer smuggled\r\n\r\n",
    )
    .await;
    let answer = wire.answer().await;
    assert_eq!(status_of(&answer), 200, "{answer}");
    let sent = received.lock().unwrap().clone();
    assert!(sent.contains("3\r\nabc\r\n") && !sent.contains("smuggled"), "{sent}");
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_comes_does_not_hold_the_connection_after_its_answer() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    upstream.seen.refuse_all();
    let config = format!("{}{}", idp.profile("p"), upstream.route("api.test", "p"));
    let lanyard = Lanyard::start(&config).await;
    lanyard.ready().await;
    let text = "POST /x HTTP/1.1\r\nHost: api.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    // `raw` waits at most 10 s for the other side to close, and body_timeout is 30 s.
    let answer = raw(lanyard.address(), text).await;
    assert_eq!(status_of(&answer), 401, "{answer}");
    lanyard.finish().await;
}
