//! Bodies whose end could be read in two ways never reach an upstream.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_two_ends_is_refused() {
    let scene = Scene::new("").await;
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4, 4",
        "Content-Length: 010",
        "Content-Length: +4",
        "Content-Length: -1",
        "Content-Length: 0x4",
        "Content-Length: 4 4",
        "Content-Length: 99999999999999999999",
        "Content-Length:",
        "Content-Length : 4",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding:\u{b}chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\r\n chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Content-Length: 4\n",
    ] {
        let before = scene.upstream.seen.requests().len();
        let text = format!(
            "POST http://api.example.test/a HTTP/1.1\r\nHost: api.example.test\r\n{fields}\r\n\r\n\
             0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: api.example.test\r\n\r\n"
        );
        let answer = raw(scene.lanyard.address(), text).await;
        assert_eq!(verdict(&answer), BAD, "{fields:?}: {answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{fields:?}: {e}: {body}"));
        assert_eq!(body["error"], "bad_request");
        assert!(body["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
        assert_eq!(scene.upstream.seen.requests().len(), before, "{fields:?} reached the upstream");
    }
    scene.still_works().await;
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_line_feeds_and_half_heads_are_refused() {
    let scene = Scene::new("").await;
    for text in [
        "GET http://api.example.test/ HTTP/1.1\nHost: api.example.test\r\n\r\n",
        "GET http://api.example.test/ HTTP/1.1\r\nHost: api.example.test\nX: y\r\n\r\n",
        "GET http://api.example.test/ HTTP/1.1\r\nHost: api.example.test\r\n\n\r\n\r\n",
        "GET http://api.example.test/ HTTP/1.1\r\r\nHost: api.example.test\r\n\r\n",
        "GET  http://api.example.test/ HTTP/1.1\r\nHost: api.example.test\r\n\r\n",
        "GET http://api.example.test/ HTTP/1.2\r\nHost: api.example.test\r\n\r\n",
        "GET http://api.example.test/ HTTP/2.0\r\nHost: api.example.test\r\n\r\n",
        "GET http://api.example.test/ http/1.1\r\nHost: api.example.test\r\n\r\n",
        "GET http://api.example.test/\r\nHost: api.example.test\r\n\r\n",
        "G\0T http://api.example.test/ HTTP/1.1\r\nHost: api.example.test\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        let answer = raw(scene.lanyard.address(), text).await;
        assert_eq!(verdict(&answer), BAD, "{text:?}: {answer}");
    }
    assert_eq!(scene.upstream.seen.requests().len(), 0);
    // An empty line before a request is nothing (RFC 9112 2.2).
    let answer = scene.ask("\r\n\r\nGET http://api.example.test/ HTTP/1.1\r\nHost: api.example.test").await;
    assert_eq!(status_of(&answer), 200, "{answer}");
    scene.still_works().await;
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_chunks_end_the_request() {
    let scene = Scene::new("").await;
    for chunks in ["x\r\n", "-1\r\n", "4\r\nabcdefgh\r\n0\r\n\r\n", "10000000000000000\r\n", "0x4\r\nabcd\r\n0\r\n\r\n"]
    {
        let text = format!(
            "POST http://api.example.test/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}\
             GET http://api.example.test/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        let answer = raw(scene.lanyard.address(), text).await;
        assert_eq!(verdict(&answer), BAD, "{chunks:?}: {answer}");
    }
    assert!(scene.upstream.seen.requests().iter().all(|request| !request.path.contains("smuggled")));
    scene.still_works().await;
    scene.lanyard.finish().await;
}
