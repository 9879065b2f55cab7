//! CONNECT that lanyard answers itself: what is inside is served as any other request, and nothing else is looked into.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{
    h2::{Grpc, H2},
    *,
};

/// lanyard with a route to an upstream that is intercepted.
struct Scene {
    lanyard: Lanyard,
    idp: Idp,
    upstream: Upstream,
}

impl Scene {
    async fn new(more: &str) -> Self {
        let (idp, upstream) = (Idp::start().await, Upstream::start().await);
        let lanyard = Lanyard::start(&config(&idp, &upstream, more)).await;
        lanyard.ready().await;
        Self { lanyard, idp, upstream }
    }

    fn ca(&self) -> String {
        std::fs::read_to_string(self.lanyard.folder.path().join("ca/ca.crt")).unwrap()
    }

    /// TLS inside a CONNECT to `authority`, whose certificate has to be for its host.
    async fn https(&self, authority: &str, alpn: &[&str]) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        let host = authority.rsplit_once(':').unwrap().0;
        let stream = tunnel(self.lanyard.address(), authority).await;
        tls(stream, &self.ca(), host, alpn).await.unwrap()
    }
}

fn config(idp: &Idp, upstream: &Upstream, more: &str) -> String {
    format!(
        "[ca]\ndirectory = \"ca\"\n{}{}intercept = true\n{more}",
        idp.profile("billing"),
        upstream.route("api.test", "billing")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_inside_take_the_same_path_in_every_version_of_http() {
    let scene = Scene::new("").await;
    let bearer = format!("Bearer {}", scene.idp.last_token());
    for alpn in [&["http/1.1"][..], &[]] {
        let mut wire = Wire::over(scene.https("api.test:443", alpn).await);
        for n in 0..3 {
            wire.send(format!("POST /{n} HTTP/1.1\r\nHost: api.test\r\nContent-Length: 2\r\n\r\nhi")).await;
            let answer = wire.answer().await;
            assert_eq!(status_of(&answer), 200, "{answer}");
            let seen = scene.upstream.seen.last();
            assert_eq!((seen.path.as_str(), seen.all("authorization")), (&*format!("/{n}"), vec![bearer.clone()]));
        }
    }
    let stream = scene.https("api.test:443", &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let H2 { requests, .. } = H2::over(stream).await;
    for n in 0..3 {
        assert_eq!(requests.ask(&format!("https://api.test/{n}"), "hi").await.status, 200);
        assert_eq!(scene.upstream.seen.last().all("authorization").concat(), bearer);
    }
    let refused = requests.ask("https://other.test/", "").await;
    assert_eq!((refused.status, refused.refusal()), (421, "misdirected"));

    // A token that is rejected is replaced here too.
    scene.upstream.seen.revoke(&scene.idp.last_token());
    assert_eq!(requests.ask("https://api.test/again", "body").await.status, 200);
    assert_eq!(scene.idp.calls(), 2);
    assert_eq!(scene.lanyard.metric("lanyard_interceptions_total{result=\"tls\"}").await, 3.0);
    assert_eq!(scene.lanyard.metric("lanyard_tunnels_total").await, 0.0);
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_for_the_host_that_connect_named() {
    let scene = Scene::new("").await;
    let mut wire = Wire::over(scene.https("api.test:443", &[]).await);
    for (head, expected) in [
        ("GET /a HTTP/1.1\r\nHost: API.test.:443\r\n\r\n", (200, "")),
        ("GET https://api.test/b HTTP/1.1\r\nHost: api.test\r\n\r\n", (200, "")),
        ("GET / HTTP/1.1\r\nHost: api.test:444\r\n\r\n", (421, "misdirected")),
        ("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", (421, "misdirected")),
        ("GET https://other.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n", (421, "misdirected")),
        ("CONNECT other.test:443 HTTP/1.1\r\nHost: other.test\r\n\r\n", (403, "connect_denied")),
        ("TRACE / HTTP/1.1\r\nHost: api.test\r\n\r\n", (405, "method_not_allowed")),
        ("GET / HTTP/1.1\r\n\r\n", (400, "bad_request")),
    ] {
        wire.send(head).await;
        let answer = wire.answer().await;
        assert_eq!(verdict(&answer), expected, "{head}: {answer}");
        if expected.0 != 200 {
            // A refusal ends the connection.
            wire = Wire::over(scene.https("api.test:443", &[]).await);
        }
    }
    // The server name that the client's TLS asks for changes nothing: the certificate is for the host of the CONNECT.
    let stream = tunnel(scene.lanyard.address(), "api.test:443").await;
    let error = tls(stream, &scene.ca(), "bank.test", &[]).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
    assert_eq!(scene.upstream.seen.requests().len(), 2);
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_hosts_are_never_looked_into() {
    let ca = Authority::new();
    let private = Upstream::start_tls(ca.server(&["private.localhost", "in.private.localhost"], &["http/1.1"])).await;
    let port = private.address.port();
    // A wildcard that intercepts, and a host below it that does not.
    let more = concat!(
        "[[routes]]\nhost = \"*.localhost\"\nprofile = \"billing\"\nintercept = true\n",
        "[[routes]]\nhost = \"private.localhost\"\nprofile = \"billing\"\n"
    );
    let scene = Scene::new(more).await;
    let stream = tunnel(scene.lanyard.address(), &format!("private.localhost:{port}")).await;
    let mut wire = Wire::over(tls(stream, ca.pem(), "private.localhost", &[]).await.expect("its own certificate"));
    wire.send("GET /own HTTP/1.1\r\nHost: private.localhost\r\n\r\n").await;
    assert_eq!(status_of(&wire.answer().await), 200);
    assert!(private.seen.last().all("authorization").is_empty() && private.seen.last().all("via").is_empty());
    drop(wire);
    // Why it carried no token is told.
    let line = scene.lanyard.wait_for("the tunnel", |event| event["outcome"] == "bypassed").await;
    assert!(line["hint"].as_str().unwrap().contains("intercept = true"), "{line}");
    // The certificate for the host below the wildcard is lanyard's.
    drop(scene.https(&format!("in.private.localhost:{port}"), &[]).await);
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_may_come_late_early_or_in_pieces() {
    let scene = Scene::new("[forward]\nconnect = \"deny\"\nunmatched = \"deny\"\n").await;
    // After other requests of the same connection, with a body between them.
    let mut wire = Wire::open(scene.lanyard.address()).await;
    wire.send("POST http://api.test/1 HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\n\r\nbody").await;
    assert_eq!(status_of(&wire.answer().await), 200);
    wire.send("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n").await;
    assert_eq!(status_of(&wire.until("\r\n\r\n").await), 200);
    let mut wire = Wire::over(tls(wire.stream, &scene.ca(), "api.test", &[]).await.unwrap());
    wire.send("GET /2 HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
    assert_eq!(status_of(&wire.answer().await), 200);
    assert_eq!(scene.upstream.seen.last().path, "/2");

    // What a client sends before it has its answer is kept: a relay that puts the first bytes right behind the head.
    let address = scene.lanyard.address().to_owned();
    let relay = ByHand::start(move |mut client| {
        let address = address.clone();
        async move {
            let mut hello = vec![0; 1024];
            let read = client.read(&mut hello).await.unwrap();
            let mut wire = Wire::open(&address).await;
            let mut first = b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n".to_vec();
            first.extend_from_slice(&hello[..read]);
            // Byte by byte: neither a head nor a record arrives whole.
            for byte in &first[..60] {
                wire.send([*byte]).await;
            }
            wire.send(&first[60..]).await;
            assert_eq!(status_of(&wire.until("\r\n\r\n").await), 200);
            client.write_all(&wire.more().await).await.unwrap();
            drop(tokio::io::copy_bidirectional(&mut client, &mut wire.stream).await);
        }
    })
    .await;
    let stream = tokio::net::TcpStream::connect(relay.address).await.unwrap();
    let mut wire = Wire::over(tls(stream, &scene.ca(), "api.test", &[]).await.unwrap());
    wire.send("GET /early HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
    assert_eq!(status_of(&wire.answer().await), 200);
    scene.lanyard.finish().await;
}

/// For one reader its body is a body, and for another the first bytes of the tunnel.
#[tokio::test(flavor = "multi_thread")]
async fn a_connect_with_a_body_is_refused() {
    let scene = Scene::new("").await;
    for body in ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let connect = format!("CONNECT api.test:80 HTTP/1.1\r\nHost: api.test:80\r\n{body}");
        let answer = raw(scene.lanyard.address(), connect + "GET / HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
        assert_eq!(verdict(&answer), (400, "bad_request"), "{answer}");
    }
    assert_eq!(scene.upstream.seen.requests().len(), 0);
    let mut wire = Wire::open(scene.lanyard.address()).await;
    wire.send("CONNECT api.test:80 HTTP/1.1\r\nHost: api.test:80\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(status_of(&wire.until("\r\n\r\n").await), 200);
    scene.lanyard.finish().await;
}

/// Some clients ask for a tunnel for `http://` URLs too.
#[tokio::test(flavor = "multi_thread")]
async fn plain_requests_in_a_tunnel_are_injected_wherever_a_route_is_for_their_host() {
    let server_first = ByHand::start(|mut stream| async move {
        stream.write_all(b"220 hello\r\n").await.unwrap();
        let mut line = vec![0; 64];
        let read = stream.read(&mut line).await.unwrap();
        stream.write_all(&line[..read]).await.unwrap();
    })
    .await;
    let (upstream, grpc) = (Upstream::start().await, Grpc::start(None).await);
    let plain = |port: u16| format!("[[routes]]\nhost = \"127.0.0.1:{port}\"\nprofile = \"billing\"\n");
    let to = format!("upstream = \"http://{}\"\n", upstream.address);
    let grpc_to = format!("upstream = \"http://{}\"\n", grpc.address);
    let routes = [
        plain(upstream.address.port()) + &to,
        plain(grpc.address.port()) + &grpc_to,
        plain(server_first.address.port()),
    ];
    let scene = Scene::new(&routes.concat()).await;
    for authority in ["api.test:80".to_owned(), upstream.address.to_string()] {
        let mut wire = Wire::over(tunnel(scene.lanyard.address(), &authority).await);
        for n in 0..2 {
            let host = authority.trim_end_matches(":80");
            wire.send(format!("GET /plain/{n} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            let answer = wire.answer().await;
            assert_eq!(status_of(&answer), 200, "{answer}");
        }
        let server = if authority == "api.test:80" { &scene.upstream } else { &upstream };
        assert_eq!(server.seen.last().path, "/plain/1");
        assert_eq!(server.seen.last().all("authorization"), [format!("Bearer {}", scene.idp.last_token())]);
        // Nobody else's host is reached through it.
        wire.send("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
        assert_eq!(verdict(&wire.answer().await), (421, "misdirected"));
    }
    let H2 { requests, .. } = H2::over(tunnel(scene.lanyard.address(), &grpc.address.to_string()).await).await;
    let call = axum::http::Request::post(format!("http://{}/echo.Echo/Unary", grpc.address));
    let call = call.header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap();
    let answer = requests.begin(call, true).await.answer().await;
    assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
    assert!(grpc.seen().heads[0].1["authorization"].to_str().unwrap().contains(&scene.idp.last_token()));

    // WebDAV and its like carry the token too.
    let mut wire = Wire::over(tunnel(scene.lanyard.address(), &upstream.address.to_string()).await);
    for method in ["PROPFIND", "UPDATEREDIRECTREF", "x-own"] {
        // In pieces: what it begins with is no request yet.
        wire.send(&method[..3]).await;
        wire.send(format!("{} /dav HTTP/1.1\r\nHost: {}\r\n\r\n", &method[3..], upstream.address)).await;
        wire.answer().await;
        assert_eq!((upstream.seen.last().method.as_str(), upstream.seen.last().path.as_str()), (method, "/dav"));
    }
    assert_eq!(upstream.seen.last().all("authorization"), [format!("Bearer {}", scene.idp.last_token())]);
    drop(wire);

    // A protocol where the server speaks first stays a tunnel, and so does one that is not HTTP.
    let mut wire = Wire::tunnel(scene.lanyard.address(), &server_first.address.to_string()).await;
    assert_eq!(wire.until("\r\n").await, "220 hello\r\n");
    wire.send("GET / is only a line here").await;
    assert_eq!(wire.until("here").await, "GET / is only a line here");
    drop(wire);
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_sockets_live_inside_for_as_long_as_their_ends_like() {
    let upstream = ByHand::start(|mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.contains("Authorization: Bearer canary-token"), "{head}");
        assert!(head.to_ascii_lowercase().contains("upgrade: websocket"), "{head}");
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        let mut chunk = [0; 64];
        loop {
            let read = stream.read(&mut chunk).await.unwrap_or(0);
            if read == 0 {
                break;
            }
            stream.write_all(&chunk[..read]).await.unwrap();
        }
    })
    .await;
    let more = format!(
        "{}intercept = true\n[limits]\nidle_timeout = \"1s\"\nbody_timeout = \"1s\"\nheader_timeout = \"1s\"\n",
        upstream.route("ws.test", "billing")
    );
    let more = more.replace("intercept = true\n[", "intercept = true\nresponse_timeout = \"1s\"\n[");
    let scene = Scene::new(&more).await;
    for tls in [true, false] {
        let ask = "GET /chat HTTP/1.1\r\nHost: ws.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        if tls {
            chat(Wire::over(scene.https("ws.test:443", &["http/1.1"]).await), ask).await;
        } else {
            chat(Wire::over(tunnel(scene.lanyard.address(), "ws.test:80").await), ask).await;
        }
    }
    scene.lanyard.finish().await;
}

async fn chat<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut wire: Wire<S>, ask: &str) {
    wire.send(ask).await;
    assert_eq!(status_of(&wire.until("\r\n\r\n").await), 101);
    for message in ["first", "after a silence longer than every timeout"] {
        wire.send(message).await;
        assert_eq!(wire.exactly(message.len()).await, message);
        tokio::time::sleep(Duration::from_millis(1800)).await;
    }
    wire.send("still there").await;
    assert_eq!(wire.exactly(11).await, "still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_trust_the_ca_is_counted_and_told_what_it_needs() {
    let scene = Scene::new("").await;
    let stream = tunnel(scene.lanyard.address(), "api.test:443").await;
    tls(stream, Authority::new().pem(), "api.test", &[]).await.unwrap_err();
    let line = scene.lanyard.wait_for("a warning", |event| event["level"] == "WARN").await;
    for word in
        ["api.test", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "truststore"]
    {
        assert!(line.to_string().contains(word), "{word}: {line}");
    }
    assert_eq!(scene.lanyard.metric("lanyard_interceptions_total{result=\"untrusted\"}").await, 1.0);
    // One that says nothing, and one that leaves.
    drop(tunnel(scene.lanyard.address(), "api.test:443").await);
    let mut stream = tunnel(scene.lanyard.address(), "api.test:443").await;
    stream.write_all(b"\x16\x03\x01\x00\x05hello").await.unwrap();
    eventually("both are counted", async || {
        scene.lanyard.metric("lanyard_interceptions_total{result=\"failed\"}").await == 2.0
    })
    .await;
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ca_outlives_restarts_and_only_covers_what_it_was_made_for() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let text = config(&idp, &upstream, "");
    let mut first = Lanyard::start(&text).await;
    let ca = first.folder.path().join("ca");
    let pem = std::fs::read_to_string(ca.join("ca.crt")).unwrap();
    assert_eq!(std::fs::metadata(ca.join("ca.key")).unwrap().permissions().mode() & 0o777, 0o600);
    // A host that the CA may not sign for: the reload says so, and changes nothing.
    let wider = text.replace("directory = \"ca\"", &format!("directory = {ca:?}"))
        + &upstream.route("new.example.com", "billing")
        + "intercept = true\n";
    first.write_config(&wider);
    let answer = first.reload().await;
    assert_eq!(answer.status, 422);
    for word in ["new.example.com", "lanyard ca create --force"] {
        assert!(answer.body.contains(word), "{word}: {}", answer.body);
    }
    assert_eq!(first.stop().await, Some(0));

    let kept = Folder::new();
    std::fs::create_dir(kept.path().join("ca")).unwrap();
    for name in ["ca.crt", "ca.key"] {
        std::fs::copy(ca.join(name), kept.path().join("ca").join(name)).unwrap();
    }
    drop(first);
    let (code, _, told) = run(&kept, &wider.replace(&format!("{ca:?}"), "\"ca\"")).await;
    assert!(code == Some(1) && told.contains("new.example.com"), "{code:?} {told}");
    std::fs::set_permissions(kept.path().join("ca/ca.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, told) = run(&kept, &text).await;
    assert!(code == Some(1) && told.contains("others can read") && told.contains("chmod 600"), "{code:?} {told}");
    std::fs::set_permissions(kept.path().join("ca/ca.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let second = Lanyard::start_in(kept, &text, &[]).await;
    second.ready().await;
    let stream = tunnel(second.address(), "api.test:443").await;
    tls(stream, &pem, "api.test", &[]).await.expect("the CA of the first start");
    second.finish().await;
}

/// Whoever can write to its folder can put a CA of their own there.
#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_the_ca_is_its_owners_alone_to_write_to() {
    let home = Folder::new();
    let route = "[[routes]]\nhost = \"api.test\"\nprofile = \"none\"\nintercept = true\n";
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    let config = home.write("proxy.toml", format!("[ca]\ndirectory = \"data/ca\"\n{listener}{route}"));
    let script = format!("umask 000; exec {} run --config {config:?}", lanyard::BINARY);
    let mut shell = tokio::process::Command::new("sh");
    let mut running = shell.args(["-c", &script]).kill_on_drop(true).spawn().unwrap();
    while !home.path().join("data/ca/ca.key").exists() {
        assert!(running.try_wait().unwrap().is_none(), "it ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for folder in ["data", "data/ca"] {
        let mode = std::fs::metadata(home.path().join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{folder}");
    }
}

/// `lanyard run`, which does not start.
async fn run(folder: &Folder, config: &str) -> (Option<i32>, String, String) {
    let path = folder.write("proxy.toml", config);
    lanyard::command(&["run", "--config", path.to_str().unwrap()], &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_ca_is_in_no_file() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let text = config(&idp, &upstream, "").replace("directory = \"ca\"", "ephemeral = true");
    let home = Folder::new();
    let lanyard = Lanyard::start_in(Folder::new(), &text, &[("HOME", home.path().to_str().unwrap())]).await;
    lanyard.ready().await;
    // Its certificate is the last of the chain that it shows.
    let stream = tunnel(lanyard.address(), "api.test:443").await;
    tls(stream, Authority::new().pem(), "api.test", &[]).await.unwrap_err();
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_replaced_is_used_without_a_restart_and_drops_nothing() {
    let scene = Scene::new("").await;
    let old = scene.ca();
    let mut open = Wire::over(scene.https("api.test:443", &[]).await);
    let files = ::lanyard::ca::Files::at(Some(&scene.lanyard.folder.path().join("ca"))).unwrap();
    files.create(&[], true).unwrap();
    // Clients have to trust the new one first: it signs when it is told to.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let stream = tunnel(scene.lanyard.address(), "api.test:443").await;
    tls(stream, &old, "api.test", &[]).await.unwrap();
    assert_eq!(scene.lanyard.reload().await.status, 200);
    for (ca, trusted) in [(scene.ca(), true), (old, false)] {
        let stream = tunnel(scene.lanyard.address(), "api.test:443").await;
        assert_eq!(tls(stream, &ca, "api.test", &[]).await.is_ok(), trusted);
    }
    open.send("GET /open HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
    assert_eq!(status_of(&open.answer().await), 200);
    assert_eq!(scene.idp.calls(), 1);
    scene.lanyard.finish().await;
}
