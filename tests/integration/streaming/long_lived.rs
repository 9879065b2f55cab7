//! What is alive is not cut, however long it is silent.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

/// Every timeout is far below the silences here.
const SHORT: &str = "[limits]\nbody_timeout = \"2s\"\nidle_timeout = \"2s\"\nheader_timeout = \"2s\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_arrive_at_once_through_long_silences() {
    let zero = Instant::now();
    let upstream = ByHand::start(move |mut stream| async move {
        read_head(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        for silence in [0, 20, 20, 20] {
            tokio::time::sleep(Duration::from_secs(silence)).await;
            let event = format!("data: {:08}\n\n", zero.elapsed().as_millis());
            stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    })
    .await;
    let idp = Idp::start().await;
    let route = upstream.route("events.test", "p") + "response_timeout = \"2s\"\n";
    let lanyard = Lanyard::start(&format!("{SHORT}{}{route}", idp.profile("p"))).await;
    let request = client(Some(lanyard.address())).get("http://events.test/").timeout(Duration::from_secs(90));
    let mut answer = request.send().await.unwrap();
    let mut events = 0;
    while let Some(event) = answer.chunk().await.unwrap() {
        let text = String::from_utf8(event.to_vec()).unwrap();
        let sent: u128 = text.trim().strip_prefix("data: ").unwrap().parse().unwrap();
        let late = zero.elapsed().as_millis() - sent;
        assert!(late < 1000, "event {events} came {late} ms late");
        events += 1;
    }
    assert_eq!(events, 4);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_has_the_token_and_lives_through_silence() {
    let heads = Arc::new(std::sync::Mutex::new(String::new()));
    let seen = Arc::clone(&heads);
    let upstream = ByHand::start(move |mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            let head = read_head(&mut stream).await;
            if head.contains("/refused") {
                let no = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
                return stream.write_all(no).await.unwrap();
            }
            *seen.lock().unwrap() = head;
            let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            // The first frame comes with the answer.
            stream.write_all(format!("{answer}hello").as_bytes()).await.unwrap();
            let mut frame = [0; 4096];
            loop {
                let read = stream.read(&mut frame).await.unwrap_or(0);
                if read == 0 {
                    return;
                }
                stream.write_all(&frame[..read]).await.unwrap();
            }
        }
    })
    .await;
    let idp = Idp::start().await;
    let route = upstream.route("socket.test", "p") + "response_timeout = \"2s\"\n";
    let lanyard = Lanyard::start(&format!("{SHORT}{}{route}", idp.profile("p"))).await;
    lanyard.ready().await;
    let upgrade = |path: &str| {
        format!(
            "GET http://socket.test{path} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    let mut wire = Wire::open(lanyard.address()).await;
    wire.send(upgrade("/chat")).await;
    let head = wire.until("\r\n\r\n").await;
    assert_eq!(status_of(&head), 101, "{head}");
    assert_eq!(field(&head, "upgrade"), Some("websocket"), "{head}");
    assert_eq!(wire.exactly(5).await, "hello");
    let seen = heads.lock().unwrap().clone();
    assert_eq!(field(&seen, "authorization"), Some(&*format!("Bearer {}", idp.last_token())), "{seen}");
    assert_eq!(field(&seen, "upgrade"), Some("websocket"));
    assert_eq!(field(&seen, "sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    for silence in [0, 35] {
        tokio::time::sleep(Duration::from_secs(silence)).await;
        wire.send([0x81, 3, 0, 0xff, 0x0d]).await;
        assert_eq!(wire.more().await, [0x81, 3, 0, 0xff, 0x0d]);
    }
    drop(wire);
    let series = format!("lanyard_connections{{listener=\"{}\"}}", lanyard.address());
    eventually("no connections", async || lanyard.metric(&series).await == 0.0).await;

    let mut wire = Wire::open(lanyard.address()).await;
    wire.send(upgrade("/refused")).await;
    let answer = wire.answer().await;
    assert_eq!(status_of(&answer), 403, "{answer}");
    assert!(answer.ends_with("no"));
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_alive_puts_off_when_its_answer_is_due() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let route = upstream.route("up.test", "p") + "response_timeout = \"1s\"\n";
    let lanyard = Lanyard::start(&format!("{SHORT}{}{route}", idp.profile("p"))).await;
    let mut wire = Wire::open(lanyard.address()).await;
    wire.send("POST http://up.test/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        wire.send("1\r\nx\r\n").await;
    }
    wire.send("0\r\n\r\n").await;
    let answer = wire.answer().await;
    assert_eq!(status_of(&answer), 200, "{answer}");
    assert!(answer.contains("\"length\":6"), "{answer}");
    lanyard.finish().await;
}

/// An answer that is there before the request is: pingora takes half of them for a stream that is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_lives_however_fast_its_server_is() {
    let upstream = ByHand::start(|mut stream| async move {
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // The client has its answer already: what it says next may come with its head.
        let request = read_head(&mut stream).await;
        let early = request.split_once("\r\n\r\n").unwrap().1;
        stream.write_all(early.as_bytes()).await.unwrap();
        let mut piece = [0; 64];
        while let Ok(read @ 1..) = stream.read(&mut piece).await {
            stream.write_all(&piece[..read]).await.unwrap();
        }
    })
    .await;
    let idp = Idp::start().await;
    let config = format!("{}{}", idp.profile("p"), upstream.route("ws.test", "p"));
    let lanyard = Lanyard::start(&config).await;
    lanyard.ready().await;
    for n in 0..40 {
        let mut wire = Wire::open(lanyard.address()).await;
        wire.send("GET http://ws.test/ HTTP/1.1\r\nHost: ws.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        assert_eq!(status_of(&wire.until("\r\n\r\n").await), 101);
        wire.send("hello").await;
        assert_eq!(wire.exactly(5).await, "hello", "socket {n}");
    }
    lanyard.finish().await;
}
