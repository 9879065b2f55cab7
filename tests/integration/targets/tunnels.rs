//! CONNECT.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Echoes bytes, and says goodbye when the other side has ended.
async fn echo() -> ByHand {
    ByHand::start(|mut stream| async move {
        let mut chunk = [0; 4096];
        loop {
            let read = stream.read(&mut chunk).await.unwrap_or(0);
            if read == 0 {
                break;
            }
            stream.write_all(&chunk[..read]).await.unwrap();
        }
        stream.write_all(b"bye").await.unwrap();
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_carries_bytes_both_ways_and_is_counted() {
    let (scene, echo) = (Scene::new("").await, echo().await);
    let mut wire = Wire::open(scene.lanyard.address()).await;
    // The first bytes come with the head.
    wire.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\nearly ", echo.address)).await;
    let head = wire.until("\r\n\r\n").await;
    assert_eq!(status_of(&head), 200, "{head}");
    assert_eq!((field(&head, "content-length"), field(&head, "transfer-encoding")), (None, None));
    assert_eq!(wire.exactly(6).await, "early ");
    wire.send("and late").await;
    assert_eq!(wire.exactly(8).await, "and late");
    let long = "x".repeat(1 << 20);
    let (mut reader, mut writer) = wire.stream.into_split();
    let sent = long.clone();
    let writing = tokio::spawn(async move {
        writer.write_all(sent.as_bytes()).await.unwrap();
        writer.shutdown().await.unwrap();
        writer
    });
    let mut received = String::new();
    reader.read_to_string(&mut received).await.unwrap();
    assert_eq!(received.len(), long.len() + 3);
    assert!(received.ends_with("bye"), "a half-closed tunnel still answers");
    drop(writing.await.unwrap());
    eventually("counted", async || {
        scene.lanyard.metric("lanyard_requests_total{outcome=\"bypassed\",profile=\"none\"}").await == 1.0
    })
    .await;
    assert_eq!(scene.lanyard.metric("lanyard_tunnels_total").await, 1.0);
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_that_cannot_be_is_refused() {
    let scene = Scene::new("").await;
    scene
        .refuses(&[
            ("CONNECT api.example.test HTTP/1.1\r\nHost: x", BAD),
            ("CONNECT api.example.test: HTTP/1.1\r\nHost: x", BAD),
            ("CONNECT api.example.test:0 HTTP/1.1\r\nHost: x", BAD),
            ("CONNECT api.example.test:443x HTTP/1.1\r\nHost: x", BAD),
            ("CONNECT user@api.example.test:443 HTTP/1.1\r\nHost: x", BAD),
            ("CONNECT http://api.example.test:443 HTTP/1.1\r\nHost: x", BAD),
            ("CONNECT /path HTTP/1.1\r\nHost: x", BAD),
            ("CONNECT ::1:443 HTTP/1.1\r\nHost: x", BAD),
            ("CONNECT 2130706433:443 HTTP/1.1\r\nHost: x", BAD),
            ("CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x", (502, "upstream_unreachable")),
        ])
        .await;
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_can_be_forbidden() {
    let config = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n\
                  upstream = \"http://{upstream}\"\n[forward]\nconnect = \"deny\"";
    let scene = Scene::new(config).await;
    let target = scene.upstream.address;
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    for address in &scene.lanyard.addresses {
        let answer = raw(address, &head).await;
        assert_eq!(verdict(&answer), (403, "connect_denied"), "{answer}");
    }
    assert_eq!(scene.upstream.seen.connections(), 0);
    scene.still_works().await;
    scene.lanyard.finish().await;

    let scene = Scene::new("[forward]\nunmatched = \"deny\"").await;
    scene.refuses(&[("CONNECT evil.test:443 HTTP/1.1\r\nHost: x", DENIED)]).await;
    scene.lanyard.finish().await;
}
