//! `type = "aws_sigv4"`: every request that arrives is looked at by botocore, which computes the signature anew.

mod life;
mod metadata;
mod server;

use std::{sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};

use self::server::{Key, Keys, Service, python};
use super::support::*;

/// A profile with the key of this number.
fn profile(service: &str, number: u64, more: &str) -> String {
    let (id, key) = Key::number(number, None);
    format!(
        "[profiles.aws]\ntype = \"aws_sigv4\"\nregion = \"us-east-1\"\nservice = \"{service}\"\n\
         access_key_id = \"{id}\"\nsecret_access_key = \"{}\"\nsession_token = \"{}\"\n{more}",
        key.secret,
        key.token.unwrap(),
    )
}

/// One whose credentials come from elsewhere.
fn sourced(source: &str) -> String {
    format!(
        "[profiles.aws]\ntype = \"aws_sigv4\"\nregion = \"us-east-1\"\nservice = \"s3\"\ncredentials = {source}\n\
         refresh_before = \"1s\"\n"
    )
}

/// Keys with the one of this number, which does not end.
fn keys(number: u64) -> Keys {
    Arc::new(std::sync::Mutex::new([Key::number(number, None)].into()))
}

/// One request on a connection of its own; its answer.
async fn ask(address: &str, method: &str, target: &str, fields: &str, body: &[u8]) -> String {
    let mut wire = Wire::open(address).await;
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    wire.send(format!("{method} http://api.test{target} HTTP/1.1\r\nHost: api.test\r\n{length}{fields}\r\n")).await;
    // A request that is refused is not read to its end.
    drop(tokio::io::AsyncWriteExt::write_all(&mut wire.stream, body).await);
    wire.answer().await
}

/// Has pingora send a request that would go the short way.
const NOT_PLAIN: &str = "Connection: keep-alive, x-nothing\r\n";

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.chunks(10_000) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// Octets that do not repeat soon.
fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(2_654_435_761) >> 16) as u8).collect()
}

const TARGETS: &[&str] = &[
    "/",
    "/a%20b/c%2Fd/e",
    "/a+b/~x-_.!*'();@:$,",
    "/%C3%A9/%E2%82%AC%7E",
    "/a//b/./c/../d/",
    "/x?b=2&a=1&a=0&a&A=3",
    "/x?empty=&plus=a+b&slash=%2F&space=%20&tilde=~&encoded=%7E&star=*",
    "/x?a=b=c&&z=%C3%A9&%61=0",
    "/x?list-type=2&prefix=a/b&delimiter=/",
];

#[tokio::test(flavor = "multi_thread")]
async fn odd_paths_and_queries_are_signed_on_both_ways() {
    for service in ["execute-api", "s3"] {
        let upstream = Service::start(&keys(1)).await;
        let lanyard =
            Lanyard::start(&format!("{}{}", profile(service, 1, ""), upstream.route("api.test", "aws", ""))).await;
        for target in TARGETS {
            for more in ["", NOT_PLAIN] {
                let fields =
                    format!("X-Amz-Meta-Note:  two   spaces \r\nX-Custom: a\r\nX-Custom: b\r\nAccept: */*\r\n{more}");
                let answer = ask(lanyard.address(), "GET", target, &fields, b"").await;
                assert_eq!(status_of(&answer), 200, "{target}: {answer}");
            }
        }
        let fields =
            "Authorization: AWS4-HMAC-SHA256 mine\r\nX-Amz-Date: 20130524T000000Z\r\nX-Amz-Security-Token: mine\r\n";
        assert_eq!(status_of(&ask(lanyard.address(), "DELETE", "/mine", fields, b"").await), 200);
        upstream.verified(service).await;
        let arrived: Vec<String> =
            upstream.requests().iter().map(|request| request["target"].as_str().unwrap().to_owned()).collect();
        let sent: Vec<&str> = TARGETS.iter().flat_map(|target| [*target; 2]).chain(["/mine"]).collect();
        assert_eq!(arrived, sent);
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_up_to_64_kib_are_signed_whole_and_larger_ones_refused() {
    let upstream = Service::start(&keys(1)).await;
    let lanyard =
        Lanyard::start(&format!("{}{}", profile("execute-api", 1, ""), upstream.route("api.test", "aws", ""))).await;
    let proxy = lanyard.address();
    let mut sent = Vec::new();
    for (size, fields) in [(5, ""), (5, NOT_PLAIN), (16 * 1024, ""), (20_000, ""), (65_536, "")] {
        let body = noise(size);
        let answer = ask(proxy, "POST", "/x", fields, &body).await;
        assert_eq!(status_of(&answer), 200, "{size}: {answer}");
        sent.push(body);
    }
    // Who asks before it sends is told to go on, once.
    let mut wire = Wire::open(proxy).await;
    wire.send("PUT http://api.test/x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(status_of(&wire.answer().await), 100);
    wire.send("body").await;
    assert_eq!(status_of(&wire.answer().await), 200);
    sent.push(b"body".to_vec());
    for size in [0, 1, 30_000, 65_536] {
        let body = noise(size);
        let mut wire = Wire::open(proxy).await;
        wire.send("PUT http://api.test/c HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        wire.send(chunked(&body)).await;
        let answer = wire.answer().await;
        assert_eq!(status_of(&answer), 200, "{size}: {answer}");
        sent.push(body);
    }
    // What the client says of its body itself is enough.
    let large = noise(10 << 20);
    let fields = format!("X-Amz-Content-Sha256: {}\r\n", hex::encode(Sha256::digest(&large)));
    assert_eq!(status_of(&ask(proxy, "POST", "/said", &fields, &large).await), 200);
    sent.push(large);
    let fields = format!("X-Amz-Content-Sha256: {}\r\n", hex::encode(Sha256::digest(b"small")));
    assert_eq!(status_of(&ask(proxy, "POST", "/said", &fields, b"small").await), 200);
    sent.push(b"small".to_vec());

    for size in [65_537, 10 << 20] {
        let answer = ask(proxy, "POST", "/x", "", &noise(size)).await;
        assert_eq!(verdict(&answer), (413, "unsignable"), "{answer}");
        assert!(answer.contains("x-amz-content-sha256"), "{answer}");
    }
    let mut wire = Wire::open(proxy).await;
    wire.send("PUT http://api.test/c HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    wire.send(chunked(&noise(65_537))).await;
    assert_eq!(verdict(&wire.answer().await), (413, "unsignable"));
    for fields in [
        "X-Amz-Content-Sha256: nothing\r\n",
        "X-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\n",
        "X-Amz-Content-Sha256: UNSIGNED-PAYLOAD\r\nX-Amz-Content-Sha256: UNSIGNED-PAYLOAD\r\n",
    ] {
        for more in ["", NOT_PLAIN] {
            let answer = ask(proxy, "POST", "/x", &format!("{fields}{more}"), b"body").await;
            assert_eq!(verdict(&answer), (413, "unsignable"), "{answer}");
        }
    }
    assert_eq!(upstream.verified("execute-api").await, sent, "nothing of the refused ones arrived");
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_signed_in_chunks_for_s3() {
    let authority = Authority::new();
    for alpn in [None, Some(&["http/1.1"][..]), Some(&["h2", "http/1.1"])] {
        let upstream = match alpn {
            None => Service::start(&keys(1)).await,
            Some(alpn) => Service::start_tls(&keys(1), authority.server(&["localhost"], alpn)).await,
        };
        let folder = Folder::new();
        folder.write("ca.pem", authority.pem());
        let ca_file = if alpn.is_some() { "ca_file = \"ca.pem\"\n" } else { "" };
        let config = format!("{}{}", profile("s3", 1, ""), upstream.route("api.test", "aws", ca_file));
        let lanyard = Lanyard::start_in(folder, &config, &[]).await;
        let mut sent = Vec::new();
        for (size, fields) in
            [(0, ""), (100, ""), (65_536, ""), (65_537, ""), (131_072, "Content-Encoding: gzip\r\n"), (10 << 20, "")]
        {
            let body = noise(size);
            let answer = ask(lanyard.address(), "PUT", "/bucket/key", fields, &body).await;
            assert_eq!(status_of(&answer), 200, "{size}: {answer}");
            sent.push(body);
        }
        let mut wire = Wire::open(lanyard.address()).await;
        wire.send("PUT http://api.test/c HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        wire.send(chunked(&noise(65_537))).await;
        let answer = wire.answer().await;
        assert_eq!(verdict(&answer), (413, "unsignable"), "{answer}");
        assert!(answer.contains("Content-Length"), "{answer}");
        assert_eq!(upstream.verified("s3").await, sent);
        let version = if alpn.is_some_and(|alpn| alpn.contains(&"h2")) { "HTTP/2.0" } else { "HTTP/1.1" };
        assert!(upstream.requests().iter().all(|request| request["version"] == version), "{version}");
        let encodings: Vec<_> = upstream
            .requests()
            .iter()
            .flat_map(|request| request["headers"].as_array().unwrap().clone())
            .filter_map(|field| (field[0] == "content-encoding").then(|| field[1].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(encodings, ["aws-chunked", "aws-chunked,gzip", "aws-chunked"]);
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_clients_have_their_bodies_signed_too() {
    let authority = Authority::new();
    for alpn in ["http/1.1", "h2"] {
        let upstream = Service::start_tls(&keys(1), authority.server(&["localhost"], &[alpn])).await;
        let folder = Folder::new();
        folder.write("ca.pem", authority.pem());
        let config = format!(
            "[[listeners]]\naddress = \"127.0.0.1:0\"\nupstream = \"https://localhost:{}\"\n{}{}",
            upstream.address.port(),
            profile("s3", 1, ""),
            "[[routes]]\nhost = \"localhost\"\nprofile = \"aws\"\nca_file = \"ca.pem\"\n"
        );
        let config = config.replace("\"localhost\"", &format!("\"localhost:{}\"", upstream.address.port()));
        let lanyard = Lanyard::start_in(folder, &config, &[]).await;
        let client = h2::H2::open(lanyard.address()).await;
        let mut sent = Vec::new();
        for (size, told) in [(0, false), (7, false), (65_536, false), (65_536, true), (200_000, true)] {
            let (answer, body) = put(&client, lanyard.address(), size, told).await;
            assert_eq!(answer.status, 200, "{alpn}, {size}: {}", answer.body);
            sent.push(body);
        }
        let (answer, _) = put(&client, lanyard.address(), 65_537, false).await;
        assert_eq!((answer.status, answer.refusal()), (413, "unsignable"), "{}", answer.body);
        assert_eq!(upstream.verified("s3").await, sent);
        lanyard.finish().await;
    }
}

/// PUT by HTTP/2, which does not have to tell a length; a body of none ends with a frame of its own.
async fn put(client: &h2::H2, address: &str, size: usize, told: bool) -> (h2::H2Answer, Vec<u8>) {
    let body = noise(size);
    let mut request = ::http::Request::put(format!("http://{address}/bucket/key"));
    if told {
        request = request.header("content-length", size);
    }
    let mut stream = client.requests.begin(request.body(()).unwrap(), false).await;
    stream.send.send_data(body.clone().into(), true).unwrap();
    (stream.answer().await, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_bodies_go_where_nobody_can_change_them() {
    let authority = Authority::new();
    let tls = Service::start_tls(&keys(1), authority.server(&["localhost", "127.0.0.1"], &["http/1.1"])).await;
    let folder = Folder::new();
    folder.write("ca.pem", authority.pem());
    // In clear text, and not to this machine by its name.
    let far = "[[routes]]\nhost = \"far.test\"\nprofile = \"aws\"\n";
    let config = format!(
        "{}{}{far}",
        profile("s3", 1, "payload = \"unsigned\"\n"),
        tls.route("api.test", "aws", "ca_file = \"ca.pem\"\n")
    );
    let lanyard = Lanyard::start_in(folder, &config, &[]).await;
    let body = noise(1 << 20);
    assert_eq!(status_of(&ask(lanyard.address(), "PUT", "/bucket/a", "", &body).await), 200);
    let mut wire = Wire::open(lanyard.address()).await;
    wire.send("PUT http://api.test/bucket/c HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    wire.send(chunked(&body)).await;
    let answer = wire.answer().await;
    assert_eq!(status_of(&answer), 200, "{answer}");
    assert_eq!(tls.verified("s3").await, [body.clone(), body]);
    for request in tls.requests() {
        let said = ["x-amz-content-sha256", "UNSIGNED-PAYLOAD"];
        assert!(request["headers"].as_array().unwrap().iter().any(|field| *field == serde_json::json!(said)));
    }
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_works_by_endpoint_and_by_proxy() {
    let authority = Authority::new();
    // S3 speaks HTTP/1.1 alone.
    let upstream = Service::start_tls(&keys(1), authority.server(&["localhost"], &["http/1.1"])).await;
    let folder = Folder::new();
    folder.write("ca.pem", authority.pem());
    let port = upstream.address.port();
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    let config = format!(
        "{listener}{listener}upstream = \"https://localhost:{port}\"\n[ca]\ndirectory = \"ca\"\n{}{}{}",
        profile("s3", 1, ""),
        format_args!("[[routes]]\nhost = \"localhost:{port}\"\nprofile = \"aws\"\nca_file = \"ca.pem\"\n"),
        upstream.route("s3.us-east-1.amazonaws.com", "aws", "ca_file = \"ca.pem\"\nintercept = true\n"),
    );
    let lanyard = Lanyard::start_in(folder, &config, &[]).await;
    let ca = lanyard.folder.path().join("ca/ca.crt");
    let tools = tools().await;
    for (endpoint, proxy) in [
        (format!("http://{}", lanyard.addresses[1]), String::new()),
        ("https://s3.us-east-1.amazonaws.com".to_owned(), format!("http://{}", lanyard.addresses[0])),
    ] {
        let mut sdk = python(tools, "client.py");
        sdk.arg(&endpoint).env("HTTPS_PROXY", proxy).env("AWS_CA_BUNDLE", &ca);
        let output = tokio::time::timeout(Duration::from_secs(120), sdk.output()).await.expect("it ends").unwrap();
        let (printed, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{endpoint}: {problem}\n{:?}", lanyard.log());
        assert_eq!(printed.trim(), "1 200");
    }
    upstream.verified("s3").await;
    let said = |what: &str| {
        upstream.requests().iter().any(|request| request["headers"].to_string().contains(&format!("\"{what}\"")))
    };
    assert!(said("STREAMING-UNSIGNED-PAYLOAD-TRAILER"), "over TLS the SDK leaves bodies unsigned");
    lanyard.finish().await;
}
