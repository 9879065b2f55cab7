//! HTTP/2 from clients: with prior knowledge, one request path with HTTP/1.1, and gRPC with all that it needs.

use std::time::Duration;

use axum::http::{Request, Version};
use bytes::Bytes;
use futures::future::join_all;

use super::support::{
    h2::{Grpc, H2, next},
    *,
};

fn config(idp: &Idp, upstream: &Upstream, more: &str) -> String {
    format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\nupstream = \"{}\"\n{}{}\
         [[routes]]\nhost = \"127.0.0.1\"\nprofile = \"billing\"\n{more}",
        upstream.url(),
        idp.profile("billing"),
        upstream.route("api.test", "billing"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_connection_are_injected_refused_and_retried_one_by_one() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    lanyard.ready().await;
    let H2 { requests: forward, .. } = H2::open(lanyard.address()).await;
    for n in 0..3 {
        let answer = forward.ask(&format!("http://api.test/{n}"), "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let seen = upstream.seen.last();
        assert_eq!((seen.path, seen.version), (format!("/{n}"), Version::HTTP_11));
        assert_eq!(seen.headers.get_all("authorization").iter().count(), 1);
        assert_eq!(seen.headers["authorization"], format!("Bearer {}", idp.last_token()));
        assert_eq!(seen.headers["host"], upstream.address.to_string());
    }
    // The client's own credential and crumbs of cookies.
    let request = Request::get("http://api.test/own")
        .header("authorization", "Bearer mine")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(())
        .unwrap();
    assert_eq!(forward.begin(request, true).await.answer().await.status, 200);
    let seen = upstream.seen.last();
    assert_eq!(seen.all("authorization"), [format!("Bearer {}", idp.last_token())]);
    assert_eq!(seen.all("cookie"), ["a=1; b=2"]);

    let refused = forward.ask("http://other.test/", "").await;
    assert_eq!((refused.status, refused.refusal()), (403, "route_denied"), "{}", refused.body);
    let trace = Request::builder().method("TRACE").uri("http://api.test/").body(()).unwrap();
    assert_eq!(forward.begin(trace, true).await.answer().await.status, 405);
    let connect = Request::builder().method("CONNECT").uri("api.test:443").body(()).unwrap();
    let answer = forward.begin(connect, false).await.answer().await;
    assert_eq!((answer.status, answer.refusal()), (403, "connect_denied"));
    assert!(answer.body.contains("HTTP/1.1"), "{}", answer.body);
    let mut many = Request::get("http://api.test/");
    for n in 0..101 {
        many = many.header(format!("x-{n}"), "y");
    }
    let answer = forward.begin(many.body(()).unwrap(), true).await.answer().await;
    assert_eq!((answer.status, answer.refusal()), (431, "headers_too_large"));

    // The connection outlived all of that, and a rejected token is replaced for 20 streams by one call.
    upstream.seen.revoke(&idp.last_token());
    let streams = join_all((0..20u64).map(|n| {
        let request = Request::post(format!("http://api.test/retried/{n}")).body(()).unwrap();
        let forward = forward.clone();
        async move {
            let mut stream = forward.begin(request, false).await;
            stream.send.send_data(Bytes::from(vec![b'x'; 1000]), true).unwrap();
            stream.answer().await
        }
    }))
    .await;
    for answer in streams {
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body.contains("\"length\":1000"), "{}", answer.body);
    }
    assert_eq!(idp.calls(), 2);

    let H2 { requests: reverse, .. } = H2::open(&lanyard.addresses[1]).await;
    let answer = reverse.ask(&format!("http://{}/base", lanyard.addresses[1]), "").await;
    assert_eq!((answer.status, upstream.seen.last().path.as_str()), (200, "/base"));
    assert_eq!(upstream.seen.last().all("authorization"), [format!("Bearer {}", idp.last_token())]);
    let rebound = reverse.ask("http://evil.test/", "").await;
    assert_eq!((rebound.status, rebound.refusal()), (421, "misdirected"));
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_frames_a_body_has_one_meaning_as_in_http1() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    lanyard.ready().await;
    let H2 { requests, .. } = H2::open(lanyard.address()).await;
    for (url, lengths) in
        [("http://api.test/", &["3", "3"][..]), ("http://api.test/", &["03"]), ("ftp://api.test/", &["3"])]
    {
        let mut request = Request::post(url);
        for length in lengths {
            request = request.header("content-length", *length);
        }
        let mut stream = requests.begin(request.body(()).unwrap(), false).await;
        // The refusal may be there first.
        drop(stream.send.send_data(Bytes::from_static(b"abc"), true));
        let answer = stream.answer().await;
        assert_eq!((answer.status, answer.refusal()), (400, "bad_request"), "{url} {lengths:?} {}", answer.body);
    }
    assert_eq!(upstream.seen.requests().len(), 0);
    // The connection outlived it, and names that some servers take for the real ones stay here.
    let request =
        Request::post("http://api.test/").header("content_length", "9").header("transfer_encoding", "chunked");
    let mut stream = requests.begin(request.header("content-length", "3").body(()).unwrap(), false).await;
    stream.send.send_data(Bytes::from_static(b"abc"), true).unwrap();
    assert_eq!(stream.answer().await.status, 200);
    let seen = upstream.seen.last();
    assert_eq!(seen.all("content-length"), ["3"]);
    assert!(!seen.headers.keys().any(|name| name.as_str().contains('_')), "{:?}", seen.headers);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_hold_for_each_stream_and_a_silent_stream_lives_on() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let limits = "[limits]\nbody_timeout = \"300ms\"\nidle_timeout = \"1s\"\n";
    let silent = ByHand::start(async |mut stream| {
        use tokio::io::AsyncWriteExt;
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(2500)).await;
        stream.write_all(b"data: 2\n\n").await.unwrap();
    })
    .await;
    let routes = format!("{}response_timeout = \"1s\"\n", silent.route("events.test", "billing"));
    let slow = upstream.route("api.test", "billing");
    let text = config(&idp, &upstream, "").replace(&slow, &format!("{slow}response_timeout = \"1s\"\n{routes}"));
    let lanyard = Lanyard::start(&(text + limits)).await;
    lanyard.ready().await;
    let H2 { requests: client, connection } = H2::open(lanyard.address()).await;

    let events = client.clone();
    let events = tokio::spawn(async move { events.ask("http://events.test/", "").await });
    let overdue = client.ask("http://api.test/slow/5000", "").await;
    assert_eq!((overdue.status, overdue.refusal()), (504, "upstream_timeout"), "{}", overdue.body);
    assert!(overdue.body.contains("response_timeout"), "{}", overdue.body);

    let request = Request::post("http://api.test/body").header("content-length", "10").body(()).unwrap();
    let mut stream = client.begin(request, false).await;
    stream.send.send_data(Bytes::from_static(b"1234"), false).unwrap();
    let answer = stream.answer().await;
    assert_eq!((answer.status, answer.refusal()), (408, "body_timeout"), "{}", answer.body);

    // Longer than every timeout, and not cut.
    assert_eq!(events.await.unwrap().body, "data: 1\n\ndata: 2\n\n");
    // An idle connection is closed, after it was told.
    let ended = tokio::time::timeout(Duration::from_secs(10), connection).await.expect("it is closed");
    ended.unwrap().unwrap();
    lanyard.finish().await;
}

/// What a gRPC client sends, over clear text and over TLS: messages both ways at once, trailers, and taking it back.
#[tokio::test(flavor = "multi_thread")]
async fn grpc_streams_both_ways_with_trailers_and_cancellation() {
    for tls in [false, true] {
        let (idp, ca) = (Idp::start().await, Authority::new());
        let upstream = Grpc::start(tls.then(|| ca.server(&["localhost"], &["h2"]))).await;
        let folder = Folder::new();
        folder.write("ca.pem", ca.pem());
        let (scheme, more) = if tls { ("https", "ca_file = \"ca.pem\"\n") } else { ("http", "") };
        let to = format!("{scheme}://localhost:{}", upstream.address.port());
        let config = format!(
            "{}[[routes]]\nhost = \"grpc.test\"\nprofile = \"billing\"\nupstream = \"{to}\"\n{more}",
            idp.profile("billing")
        );
        let lanyard = Lanyard::start_in(folder, &config, &[]).await;
        lanyard.ready().await;
        let H2 { requests: client, .. } = H2::open(lanyard.address()).await;
        let call = |path: &str| {
            Request::post(format!("http://grpc.test{path}"))
                .header("content-type", "application/grpc+proto")
                .header("te", "trailers")
                .body(())
                .unwrap()
        };

        // Both ways: each message is answered before the next is sent.
        let stream = client.begin(call("/echo.Echo/Both"), false).await;
        let (answer, mut send) = stream.head().await;
        let mut body = answer.into_body();
        for message in ["one", "two", "three"] {
            send.send_data(Bytes::copy_from_slice(message.as_bytes()), false).unwrap();
            assert_eq!(next(&mut body).await.unwrap(), message);
        }
        send.send_data(Bytes::new(), true).unwrap();
        assert_eq!(next(&mut body).await, None);
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");

        // Unary, and 30 at once.
        let calls = join_all((0..30).map(|n| {
            let (client, request) = (client.clone(), call("/echo.Echo/Unary"));
            async move {
                let mut stream = client.begin(request, false).await;
                stream.send.send_data(Bytes::from(vec![b'a'; 1000 * n + 1]), true).unwrap();
                (n, stream.answer().await)
            }
        }))
        .await;
        for (n, answer) in calls {
            assert_eq!((answer.status, answer.body.len()), (200, 1000 * n + 1));
            assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
        }

        // A client that takes its call back: the upstream learns it.
        let stream = client.begin(call("/echo.Echo/Cancelled"), false).await;
        let (answer, mut send) = stream.head().await;
        send.send_data(Bytes::from_static(b"x"), false).unwrap();
        let mut body = answer.into_body();
        assert_eq!(next(&mut body).await.unwrap(), "x");
        send.send_reset(::h2::Reason::CANCEL);
        eventually("the upstream sees the cancellation", async || upstream.seen().cancelled == 1).await;

        let seen = upstream.seen();
        assert_eq!(seen.heads.len(), 32);
        for (path, headers) in &seen.heads {
            assert_eq!(headers["authorization"], format!("Bearer {}", idp.last_token()), "{path}");
            assert_eq!(headers["te"], "trailers", "{path}");
        }
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_streams_end_and_takes_no_new_connection() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let mut lanyard = Lanyard::start(&config(&idp, &upstream, "")).await;
    lanyard.ready().await;
    let client = H2::open(lanyard.address()).await;
    let idle = H2::open(lanyard.address()).await;
    assert_eq!(idle.requests.ask("http://api.test/", "").await.status, 200);
    let last = client.requests.clone();
    let last = tokio::spawn(async move { last.ask("http://api.test/slow/1500", "").await.status });
    eventually("it is on its way", async || upstream.seen.last().path == "/slow/1500").await;
    let asked = tokio::time::Instant::now();
    lanyard.signal("TERM");
    // GOAWAY ends the idle connection at once, and the busy one after its last stream.
    eventually("the busy one is told", async || client.requests.were_sent_away().await).await;
    assert!(!last.is_finished(), "it is told while its stream goes on");
    tokio::time::timeout(Duration::from_secs(1), idle.connection).await.expect("GOAWAY").unwrap().unwrap();
    assert_eq!(last.await.unwrap(), 200);
    assert_eq!(lanyard.ended().await, Some(0));
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    drop(client.connection.await);
}

/// h2spec against a listener in clear text, and inside an intercepted CONNECT.
#[tokio::test(flavor = "multi_thread")]
async fn h2spec_passes() {
    let (tools, idp, upstream) = (tools().await, Idp::start().await, Upstream::start().await);
    let own = "[ca]\ndirectory = \"ca\"\n[[routes]]\nhost = \"127.0.0.1\"\nprofile = \"billing\"\nintercept = true\n";
    let text = config(&idp, &upstream, "").replace("[[routes]]\nhost = \"127.0.0.1\"\nprofile = \"billing\"\n", own);
    let lanyard = Lanyard::start(&format!("{text}upstream = \"{}\"\n", upstream.url())).await;
    lanyard.ready().await;
    // It knows no proxies: this gives it one, under the name that it calls it by.
    let address = lanyard.address().to_owned();
    let own_name = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let authority = std::sync::Arc::clone(&own_name);
    let bridge = ByHand::start(move |mut client| {
        let (address, authority) = (address.clone(), std::sync::Arc::clone(&authority));
        async move {
            let mut inside = tunnel(&address, authority.get().unwrap()).await;
            drop(tokio::io::copy_bidirectional(&mut client, &mut inside).await);
        }
    })
    .await;
    own_name.set(bridge.address.to_string()).unwrap();
    let clear: std::net::SocketAddr = lanyard.addresses[1].parse().unwrap();
    // What begins with no preface of HTTP/2 is HTTP/1.1 to a listener that speaks both, and gets its answer: 400.
    let preface = ["Sends invalid connection preface"];
    for (port, tls, may_fail) in [(clear.port(), &[][..], &preface[..]), (bridge.address.port(), &["-t", "-k"], &[])] {
        let run = tokio::process::Command::new(tools.join("h2spec/h2spec"))
            // Some cases send what is wrong right after a request, and want no answer before it was seen.
            .args(["-h", "127.0.0.1", "-o", "5", "-P", "/slow/150", "-p", &port.to_string()])
            .args(tls)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(300), run).await.expect("it ends").unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let summary = told.lines().rev().find(|line| line.contains(" tests, ")).unwrap_or_else(|| panic!("{output:?}"));
        println!("{summary}");
        let (_, failures) = told.split_once("Failures:").unwrap_or_default();
        let failed: Vec<&str> = failures.lines().filter_map(|line| Some(line.split_once("\u{d7} ")?.1)).collect();
        let unexpected = failed.iter().filter(|case| !may_fail.iter().any(|known| case.contains(known)));
        assert_eq!(unexpected.count(), 0, "{failures}");
        assert!(summary.starts_with("145 tests"), "{summary}");
    }
    lanyard.finish().await;
}
