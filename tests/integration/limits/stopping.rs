//! SIGTERM: what is in flight ends, nothing new begins, and then the process is gone.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::support::h2;

/// A request that its upstream has seen.
async fn in_flight(lanyard: &Lanyard, upstream: &Upstream, path: &str) -> Wire {
    let mut wire = Wire::open(lanyard.address()).await;
    wire.send(format!("GET http://api.example.test{path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    eventually("at the upstream", async || upstream.seen.requests().iter().any(|request| request.path == path)).await;
    wire
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_ends_and_nothing_new_begins() {
    let (mut lanyard, _idp, upstream) = start("drain_timeout = \"20s\"").await;
    let mut idle = Wire::open(lanyard.address()).await;
    idle.send(GOOD).await;
    assert_eq!(status_of(&idle.answer().await), 200);
    let silent = Wire::open(lanyard.address()).await;
    let mut wire = in_flight(&lanyard, &upstream, "/slow/1500").await;

    lanyard.signal("TERM");
    // Connections without a request are closed at once.
    assert_eq!(idle.closed().await, "");
    assert_eq!(silent.closed().await, "");
    eventually("new connections are refused", async || {
        tokio::net::TcpStream::connect(lanyard.address()).await.is_err()
    })
    .await;
    let answer = wire.answer().await;
    assert_eq!((status_of(&answer), field(&answer, "connection")), (200, Some("close")), "{answer}");
    let answered = Instant::now();
    assert_eq!(wire.closed().await, "");
    assert_eq!(lanyard.ended().await, Some(0));
    assert!(answered.elapsed() < Duration::from_secs(2), "it took {:?} to stop", answered.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_timeout_cuts_what_does_not_end() {
    let (mut lanyard, _idp, upstream) = start("drain_timeout = \"1s\"").await;
    let wire = in_flight(&lanyard, &upstream, "/slow/60000").await;
    let asked = Instant::now();
    lanyard.signal("TERM");
    let answer = wire.closed().await;
    assert!(status_of(&answer) != 200, "{answer}");
    assert_eq!(lanyard.ended().await, Some(0));
    assert!(asked.elapsed() >= Duration::from_millis(900) && asked.elapsed() < Duration::from_secs(4));
}

/// Tunnels, WebSockets and streams end when their ends like, and the process with the last of them.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_long_lived_ends_in_its_own_time() {
    let echo = ByHand::start(|mut stream| async move {
        let mut chunk = vec![0; 4096];
        loop {
            let read = stream.read(&mut chunk).await.unwrap_or(0);
            if read == 0 {
                break;
            }
            let upgrade = chunk[..read].starts_with(b"GET");
            let answer: &[u8] = if upgrade {
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            } else {
                &chunk[..read]
            };
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    let grpc = h2::Grpc::start(None).await;
    let idp = Idp::start().await;
    let to = |host: &str, address| {
        format!(
            "[[routes]]\nhost = \"{host}\"\nprofile = \"billing\"\nupstream = \"http://{address}\"\nintercept = true\n"
        )
    };
    let config = format!(
        "[ca]\ndirectory = \"ca\"\n{}{}{}",
        idp.profile("billing"),
        to("ws.test", echo.address),
        to("grpc.test", grpc.address)
    );
    let mut lanyard = Lanyard::start(&config).await;
    lanyard.ready().await;
    let ca = std::fs::read_to_string(lanyard.folder.path().join("ca/ca.crt")).unwrap();
    let mut blind = Wire::over(tunnel(lanyard.address(), &echo.address.to_string()).await);
    blind.send("x").await;
    assert_eq!(blind.exactly(1).await, "x");
    let inside = tls(tunnel(lanyard.address(), "ws.test:443").await, &ca, "ws.test", &["http/1.1"]).await.unwrap();
    let mut socket = Wire::over(inside);
    socket.send("GET / HTTP/1.1\r\nHost: ws.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await;
    assert_eq!(status_of(&socket.until("\r\n\r\n").await), 101);
    let inside = tls(tunnel(lanyard.address(), "grpc.test:443").await, &ca, "grpc.test", &["h2"]).await.unwrap();
    let h2::H2 { requests, connection } = h2::H2::over(inside).await;
    let call = axum::http::Request::post("https://grpc.test/echo.Echo/Both").header("content-type", "application/grpc");
    let (answer, mut send) = requests.begin(call.body(()).unwrap(), false).await.head().await;
    let mut body = answer.into_body();
    // A tunnel that is asked for and not used yet holds nothing up.
    let unused = tunnel(lanyard.address(), "ws.test:443").await;

    lanyard.signal("TERM");
    eventually("it drains", async || tokio::net::TcpStream::connect(lanyard.address()).await.is_err()).await;
    for n in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let message = format!("message {n}");
        blind.send(&message).await;
        assert_eq!(blind.exactly(message.len()).await, message);
        socket.send(&message).await;
        assert_eq!(socket.exactly(message.len()).await, message);
        send.send_data(message.clone().into(), false).unwrap();
        assert_eq!(h2::next(&mut body).await.unwrap(), message);
    }
    assert!(lanyard.is_running());
    drop((blind, socket, unused));
    send.send_data(bytes::Bytes::new(), true).unwrap();
    assert_eq!(h2::next(&mut body).await, None);
    let done = Instant::now();
    drop((body, send, requests));
    assert_eq!(lanyard.ended().await, Some(0));
    assert!(done.elapsed() < Duration::from_secs(1), "it took {:?} to stop", done.elapsed());
    // The client's own goodbye may come too late to be taken.
    drop(connection.await.unwrap());
}
