//! Every way an upstream can fail has its code.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Reads a request's head, says this, and closes.
async fn saying(bytes: &'static [u8]) -> ByHand {
    ByHand::start(move |mut stream| async move {
        read_head(&mut stream).await;
        // lanyard may have left already.
        drop(stream.write_all(bytes).await);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_of_an_upstream_has_its_code() {
    let idp = Idp::start().await;
    let (garbage, ssh, silent) =
        (saying(b"\x15\x03\x01\0\x02\x02\x0a").await, saying(b"SSH-2.0-x\r\n\r\n").await, saying(b"").await);
    let half = saying(b"HTTP/1.1 200 OK\r\nContent-Le").await;
    let hanging = ByHand::start(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let interim = ByHand::start(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    // Nobody listens there any more.
    let gone = ByHand::start(|_| async {}).await.route("gone.test", "p");
    let plain = ByHand::start(|mut stream| async move {
        // Some of a ClientHello is enough to see that it is none of ours.
        assert_eq!(stream.read_u8().await.unwrap(), 0x16);
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await);
    })
    .await;
    let tls = plain.route("tls.test", "p").replace("http:", "https:");
    let config = format!(
        "{}{}{}{}{}{gone}{tls}{}response_timeout = \"1s\"\n{}response_timeout = \"1s\"\n[[routes]]\nhost = \
         \"nowhere.test\"\nprofile = \"p\"\nupstream = \"http://does-not-exist.invalid\"\n",
        idp.profile("p"),
        garbage.route("garbage.test", "p"),
        ssh.route("ssh.test", "p"),
        silent.route("silent.test", "p"),
        half.route("half.test", "p"),
        hanging.route("hanging.test", "p"),
        interim.route("interim.test", "p"),
    );
    let lanyard = Lanyard::start(&config).await;
    lanyard.ready().await;
    for (host, expected) in [
        ("garbage", (502, "upstream_protocol")),
        ("ssh", (502, "upstream_protocol")),
        ("silent", (502, "upstream_unreachable")),
        ("half", (502, "upstream_unreachable")),
        ("gone", (502, "upstream_unreachable")),
        ("tls", (502, "upstream_tls")),
        ("nowhere", (502, "upstream_unresolved")),
        ("hanging", (504, "upstream_timeout")),
        ("interim", (504, "upstream_timeout")),
    ] {
        for method in ["GET", "POST"] {
            let mut wire = Wire::open(lanyard.address()).await;
            let body = if method == "POST" { "Content-Length: 2\r\n\r\nhi" } else { "\r\n" };
            wire.send(format!("{method} http://{host}.test/ HTTP/1.1\r\nHost: x\r\n{body}")).await;
            let mut answer = wire.until("\r\n\r\n").await;
            while status_of(&answer) < 200 {
                answer = wire.until("\r\n\r\n").await;
            }
            assert_eq!(verdict(&answer), expected, "{method} {host}: {answer}");
            let length = field(&answer, "content-length").unwrap().parse().unwrap();
            let body: serde_json::Value = serde_json::from_str(&wire.exactly(length).await).unwrap();
            assert_eq!((body["error"].as_str(), body["profile"].as_str()), (Some(expected.1), Some("p")));
            assert!(!body["hint"].as_str().unwrap().is_empty());
        }
    }
    // A POST that may have been acted on is not sent twice.
    assert_eq!(hanging.connections(), 2);
    no_connections(&lanyard).await;
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_not_passed_off_as_whole() {
    let (cut, chunked) = (
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345").await,
        saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n").await,
    );
    let idp = Idp::start().await;
    let config = format!("{}{}{}", idp.profile("p"), cut.route("cut.test", "p"), chunked.route("chunked.test", "p"));
    let lanyard = Lanyard::start(&config).await;
    for host in ["cut", "chunked"] {
        let request = client(Some(lanyard.address())).get(format!("http://{host}.test/"));
        // How much got through by then is chance; that it was not all is not.
        let whole = async { request.send().await?.error_for_status()?.text().await }.await;
        assert!(whole.is_err(), "{host}: the client has to notice: {whole:?}");
    }
    no_connections(&lanyard).await;
    lanyard.finish().await;
}
