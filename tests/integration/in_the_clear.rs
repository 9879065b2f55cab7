//! What a wire shows: on no way to an upstream that speaks TLS, to a token endpoint that does, or back to the client,
//! a token or a secret is to be read.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::support::{h2::H2, *};

/// A wire between two ends that keeps every byte that went over it.
struct Recorder {
    relay: ByHand,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    async fn before(server: SocketAddr) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        let relay = ByHand::start(move |client| {
            let kept = Arc::clone(&kept);
            async move {
                let server = TcpStream::connect(server).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                let there = copy(from_client, to_server, &kept);
                let back = copy(from_server, to_client, &kept);
                tokio::join!(there, back);
            }
        })
        .await;
        Self { relay, bytes }
    }

    fn address(&self) -> SocketAddr {
        self.relay.address
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, kept: &Mutex<Vec<u8>>) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        kept.lock().unwrap().extend_from_slice(&chunk[..read]);
        if to.write_all(&chunk[..read]).await.is_err() {
            break;
        }
    }
    drop(to.shutdown().await);
}

/// Whether `needle` is in there, as it is or as HTTP/2 and Basic may write it.
fn shows(bytes: &[u8], needle: &str) -> bool {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let contains = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    // Base64 of what begins at any of three places: the part that does not depend on its neighbours.
    let encoded = (0..3).map(|shift| {
        let text = BASE64_STANDARD.encode([&b"xx"[..shift], needle.as_bytes()].concat());
        text.into_bytes()[4..needle.len()].to_vec()
    });
    contains(needle.as_bytes()) || encoded.into_iter().any(|text| contains(&text))
}

#[test]
fn the_eye_sees() {
    use base64::{Engine, prelude::BASE64_STANDARD};
    assert!(shows(b"Authorization: Bearer canary-token-1\r\n", "canary-token-1"));
    for prefix in ["", "a", "ab", "abc"] {
        let basic = BASE64_STANDARD.encode(format!("{prefix}canary-client-secret:x"));
        assert!(shows(basic.as_bytes(), "canary-client-secret"), "{prefix}");
    }
    assert!(!shows(b"canary-tok en-1", "canary-token-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_wire_shows_a_token_or_a_secret() {
    let (idp, ca) = (Idp::start().await, Authority::new());
    for alpn in [&["h2", "http/1.1"][..], &["http/1.1"]] {
        let upstream = Upstream::start_tls(ca.server(&["localhost"], alpn)).await;
        upstream.seen.want_token();
        // The provider speaks TLS here: what it gets passes through a relay that ends TLS before the harness's own.
        let provider = tls_before(&idp, ca.server(&["localhost"], &[])).await;
        let (to_upstream, to_provider) =
            (Recorder::before(upstream.address).await, Recorder::before(provider.address).await);
        let folder = Folder::new();
        folder.write("ca.pem", ca.pem());
        let port = to_upstream.address().port();
        let route = |host: &str| {
            format!(
                "[[routes]]\nhost = \"{host}\"\nprofile = \"billing\"\nupstream = \"https://localhost:{port}\"\nca_file = \"ca.pem\"\nintercept = true\n"
            )
        };
        let profile = idp
            .profile("billing")
            .replace(&idp.url(), &format!("https://localhost:{}/token", to_provider.address().port()));
        let config = format!(
            "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n\
             upstream = \"https://localhost:{port}\"\n[ca]\ndirectory = \"ca\"\n{profile}ca_file = \"ca.pem\"\n{}{}",
            route("api.test"),
            route("localhost"),
        );
        let lanyard = Lanyard::start_in(folder, &config, &[]).await;
        lanyard.ready().await;
        let own = std::fs::read_to_string(lanyard.folder.path().join("ca/ca.crt")).unwrap();
        // And between the clients and lanyard: a token is never theirs to see.
        let forward = Recorder::before(lanyard.addresses[0].parse().unwrap()).await;
        let reverse = Recorder::before(lanyard.addresses[1].parse().unwrap()).await;
        let (proxy, base) = (forward.address().to_string(), reverse.address().to_string());

        // The server of the harness tells what it saw, but for this path.
        let client = client(Some(&proxy));
        assert_eq!(send(client.post("http://api.test/status/200?absolute").body("x")).await.status, 200);
        for head in [
            "GET https://api.test/status/200?absolute-https HTTP/1.1\r\nHost: api.test\r\n\r\n",
            "GET /status/200?origin HTTP/1.1\r\nHost: api.test\r\n\r\n",
        ] {
            let mut wire = Wire::open(&proxy).await;
            wire.send(head).await;
            assert_eq!(status_of(&wire.answer().await), 200);
        }
        assert_eq!(get(&format!("http://{base}/status/200?reverse")).await.status, 200);
        assert_eq!(H2::open(&base).await.requests.ask(&format!("http://{base}/status/200?h2c"), "x").await.status, 200);
        let mut clear = Wire::over(tunnel(&proxy, "api.test:80").await);
        clear.send("GET /status/200?tunnel HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
        assert_eq!(status_of(&clear.answer().await), 200);
        let mut inside = Wire::over(tls(tunnel(&proxy, "api.test:443").await, &own, "api.test", &[]).await.unwrap());
        inside.send("GET /status/200?intercepted HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
        assert_eq!(status_of(&inside.answer().await), 200);
        let inside = tls(tunnel(&proxy, "api.test:443").await, &own, "api.test", &["h2"]).await.unwrap();
        let H2 { requests, .. } = H2::over(inside).await;
        assert_eq!(requests.ask("https://api.test/status/200?intercepted-h2", "").await.status, 200);
        // A rejected token too: two of them travel.
        let first = idp.last_token();
        upstream.seen.revoke(&first);
        assert_eq!(send(client.post("http://api.test/status/200?retried").body("x")).await.status, 200);

        let requests = upstream.seen.requests();
        assert_eq!(requests.len(), 10, "each way was gone, and one of them twice");
        assert!(requests.iter().all(|request| request.all("authorization").len() == 1), "each carried a token");
        let recorded = [to_upstream.bytes(), to_provider.bytes(), forward.bytes(), reverse.bytes()];
        for (wire, bytes) in ["upstream", "provider", "forward listener", "reverse listener"].iter().zip(&recorded) {
            assert!(bytes.len() > 200, "the wire to the {wire} carried something: {} bytes", bytes.len());
            for secret in [SECRET, &first, &idp.last_token()] {
                assert!(!shows(bytes, secret), "the wire to the {wire} shows {secret}");
            }
        }
        lanyard.finish().await;
    }
}

/// TLS in front of the provider of the harness.
async fn tls_before(idp: &Idp, settings: Arc<rustls::ServerConfig>) -> ByHand {
    let address = idp.url().trim_start_matches("http://").trim_end_matches("/token").to_owned();
    ByHand::start(move |client| {
        let (address, acceptor) = (address.clone(), tokio_rustls::TlsAcceptor::from(Arc::clone(&settings)));
        async move {
            let Ok(mut client) = acceptor.accept(client).await else { return };
            let mut provider = TcpStream::connect(address).await.unwrap();
            drop(tokio::io::copy_bidirectional(&mut client, &mut provider).await);
        }
    })
    .await
}
