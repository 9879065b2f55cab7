//! The main job on every way in.

use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_injected_on_every_way_in() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    upstream.seen.want_token();
    let config = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\nupstream = \"{}\"\n\
         [[listeners]]\naddress = \"unix:lanyard.sock\"\n{}{}{}",
        upstream.url(),
        idp.profile("billing"),
        upstream.route("api.example.test", "billing"),
        upstream.route(&upstream.address.to_string(), "billing"),
    );
    let lanyard = Lanyard::start(&config).await;
    lanyard.ready().await;
    let bearer = vec![format!("Bearer {}", idp.last_token())];

    // Without lanyard.
    assert_eq!(get(&format!("{}/x", upstream.url())).await.status, 401);
    // Absolute-form.
    let answer = get_via(lanyard.address(), "http://api.example.test/x?y=1").await;
    assert_eq!((answer.status, answer.json()["path"].as_str()), (200, Some("/x?y=1")));
    assert_eq!(upstream.seen.last().all("authorization"), bearer);
    // Origin-form by Host.
    let answer = raw(lanyard.address(), "GET /z HTTP/1.1\r\nHost: api.example.test\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status_of(&answer), 200, "{answer}");
    // https:// in plain HTTP to the proxy.
    let text = "GET https://api.example.test/z HTTP/1.1\r\nHost: api.example.test\r\nConnection: close\r\n\r\n";
    assert_eq!(status_of(&raw(lanyard.address(), text).await), 200);
    // Reverse.
    assert_eq!(get(&format!("http://{}/r", lanyard.addresses[1])).await.status, 200);
    assert_eq!(upstream.seen.last().all("authorization"), bearer);
    // Unix socket.
    let mut stream = tokio::net::UnixStream::connect(lanyard.folder.path().join("lanyard.sock")).await.unwrap();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(b"GET /u HTTP/1.1\r\nHost: api.example.test\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status_of(&answer), 200, "{answer}");

    assert_eq!(idp.calls(), 1);
    assert_eq!(lanyard.metric("lanyard_requests_total{outcome=\"injected\",profile=\"billing\"}").await, 5.0);
    lanyard.finish().await;
}
