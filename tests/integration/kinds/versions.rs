//! A credential in the query, and one that signs each request, reach their upstream by every version of HTTP, through an
//! intercepted CONNECT, and with an upgrade.

use std::sync::{Arc, Mutex};

use axum::http::{Request, Version};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use super::recorder::only;
use crate::support::{h2::H2, idp::Reply, lanyard::command, *};

const TOKEN: &str = "canary-bound";
const KEY: &str = "canary-query";

/// A provider of bound tokens, and the two profiles.
async fn profiles() -> (Idp, String) {
    let idp = Idp::start().await;
    let token = format!("{{\"access_token\":\"{TOKEN}\",\"token_type\":\"DPoP\",\"expires_in\":3600}}");
    idp.always(Reply::Json(200, "", token));
    let query = format!("[profiles.query]\ntype = \"query\"\nparameter = \"api_key\"\nsecret = \"{KEY}\"\n");
    let config = format!("[ca]\ndirectory = \"ca\"\n{}dpop = true\n{query}", idp.profile("dpop"));
    (idp, config)
}

/// A proof that its own key signed, for this request and this token (RFC 9449 4.3).
fn assert_proof(proof: &str, method: &str, url: &str) {
    let header = jsonwebtoken::decode_header(proof).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.required_spec_claims.clear();
    let key = DecodingKey::from_jwk(&header.jwk.unwrap()).unwrap();
    let claims = jsonwebtoken::decode::<Value>(proof, &key, &validation).unwrap().claims;
    assert_eq!((claims["htm"].as_str(), claims["htu"].as_str()), (Some(method), Some(url)), "{claims}");
    assert_eq!(claims["ath"], BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(TOKEN)), "{claims}");
}

/// Asks a host by HTTP/1.1 as a plain request and as a chunked one, by HTTP/2, and through a CONNECT that lanyard answers.
async fn ask_each_way(lanyard: &Lanyard, host: &str, mut check: impl FnMut(&str)) {
    let path = "/a?api_key=own&x=1";
    for (method, fields, body) in [("GET", "", ""), ("POST", "Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n")]
    {
        let fields = format!("Authorization: Basic own\r\nDPoP: own\r\nDPoP_: own\r\n{fields}Connection: close");
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n\r\n");
        let answer = raw(lanyard.address(), format!("{head}{body}")).await;
        assert_eq!(status_of(&answer), 200, "{answer}");
        check(method);
    }
    let H2 { requests, .. } = H2::open(lanyard.address()).await;
    let request = Request::get(format!("http://{host}{path}")).header("dpop", "own").body(()).unwrap();
    assert_eq!(requests.begin(request, true).await.answer().await.status, 200);
    check("GET");

    let ca = std::fs::read_to_string(lanyard.folder.path().join("ca/ca.crt")).unwrap();
    for alpn in ["http/1.1", "h2"] {
        let stream = tunnel(lanyard.address(), &format!("{host}:443")).await;
        let stream = tls(stream, &ca, host, &[alpn]).await.unwrap();
        if alpn == "h2" {
            let H2 { requests, .. } = H2::over(stream).await;
            assert_eq!(requests.ask(&format!("https://{host}{path}"), "hi").await.status, 200);
        } else {
            let mut wire = Wire::over(stream);
            let request = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nhi");
            wire.send(request).await;
            assert_eq!(status_of(&wire.answer().await), 200);
        }
        check("POST");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_reach_upstreams_of_both_versions_by_every_way_in() {
    for (alpn, version) in [("http/1.1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
        let (authority, folder) = (Authority::new(), Folder::new());
        let upstream = Upstream::start_tls(authority.server(&["localhost"], &[alpn])).await;
        folder.write("ca.pem", authority.pem());
        let origin = format!("https://localhost:{}", upstream.address.port());
        let (_idp, mut config) = profiles().await;
        for name in ["query", "dpop"] {
            let route = format!("[[routes]]\nhost = \"{name}.test\"\nprofile = \"{name}\"\nupstream = \"{origin}\"\n");
            config += &format!("{route}ca_file = \"ca.pem\"\nintercept = true\n");
        }
        let lanyard = Lanyard::start_in(folder, &config, &[]).await;
        lanyard.ready().await;
        ask_each_way(&lanyard, "query.test", |method| {
            let seen = upstream.seen.last();
            assert_eq!((seen.method.as_str(), seen.version), (method, version));
            assert_eq!(seen.path, format!("/a?x=1&api_key={KEY}"));
        })
        .await;
        ask_each_way(&lanyard, "dpop.test", |method| {
            let seen = upstream.seen.last();
            assert_eq!((seen.path.as_str(), seen.version), ("/a?api_key=own&x=1", version));
            assert_eq!(seen.all("authorization"), [format!("DPoP {TOKEN}")]);
            let proofs = seen.all("dpop");
            assert!(proofs.len() == 1 && seen.all("dpop_").is_empty(), "{:?}", seen.headers);
            assert_proof(&proofs[0], method, &format!("{origin}/a"));
        })
        .await;
        lanyard.finish().await;
    }
}

/// RFC 9112 3.2.4: `*` stands alone. A parameter behind it would make a request target of no form.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_has_no_query_is_refused_where_the_query_carries_the_credential() {
    let (_idp, config) = profiles().await;
    let upstream = Upstream::start().await;
    let routes = upstream.route("query.test", "query") + &upstream.route("dpop.test", "dpop");
    let lanyard = Lanyard::start(&(config + &routes)).await;
    lanyard.ready().await;
    for fields in ["", "Expect: 100-continue\r\n"] {
        let ask = |host: &str| {
            raw(lanyard.address(), format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n"))
        };
        let before = upstream.seen.requests().len();
        let answer = ask("query.test").await;
        assert_eq!(verdict(&answer), (400, "bad_request"), "{answer}");
        assert!(answer.contains("parameter api_key") && upstream.seen.requests().len() == before, "{answer}");
        assert_eq!(status_of(&ask("dpop.test").await), 200);
        assert_eq!(upstream.seen.requests().len(), before + 1);
    }
    let path = lanyard.config_path();
    let explain = ["explain", "--config", path.to_str().unwrap(), "OPTIONS", "http://query.test"];
    let (exit, told, _) = command(&explain, &[]).await;
    assert_eq!(exit, Some(1), "{told}");
    assert!(told.contains("refused: 400 bad_request") && told.contains("parameter api_key"), "{told}");
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_carries_them() {
    let heads = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&heads);
    let upstream = ByHand::start(move |mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            let head = read_head(&mut stream).await;
            *seen.lock().unwrap() = head;
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello";
            stream.write_all(answer).await.unwrap();
            drop(read_head(&mut stream).await);
        }
    })
    .await;
    let (_idp, config) = profiles().await;
    let routes = upstream.route("query.test", "query") + &upstream.route("dpop.test", "dpop");
    let lanyard = Lanyard::start(&(config + &routes)).await;
    lanyard.ready().await;
    for host in ["query.test", "dpop.test"] {
        let mut wire = Wire::open(lanyard.address()).await;
        // What is named in `Connection` goes, but not what lanyard writes.
        wire.send(format!(
            "GET /chat?api_key=own&x=1 HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade, Authorization, DPoP\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ))
        .await;
        let answer = wire.until("\r\n\r\n").await;
        assert_eq!(status_of(&answer), 101, "{answer}");
        assert_eq!(wire.exactly(5).await, "hello");
        let seen = heads.lock().unwrap().clone();
        let head = seen.trim_end();
        assert_eq!(only(head, "connection"), "Upgrade");
        if host == "query.test" {
            assert!(seen.starts_with(&format!("GET /chat?x=1&api_key={KEY} HTTP/1.1\r\n")), "{seen}");
        } else {
            assert!(seen.starts_with("GET /chat?api_key=own&x=1 HTTP/1.1\r\n"), "{seen}");
            assert_eq!(only(head, "authorization"), format!("DPoP {TOKEN}"));
            assert_proof(only(head, "dpop"), "GET", &format!("http://{}/chat", upstream.address));
        }
    }
    lanyard.finish().await;
}
