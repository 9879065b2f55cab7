//! Header fields, paths, browsers and reverse listeners.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_credential_leaves() {
    let scene = Scene::new("").await;
    for fields in [
        "Authorization: Basic mine",
        "Authorization: Basic mine\r\nAuthorization: Bearer other",
        "authorization: a\r\nAUTHORIZATION: b",
        "Authorization_: a",
        "Connection: authorization",
        "Connection: Authorization\r\nAuthorization: Basic mine",
        "Connection: keep-alive, authorization, x-private\r\nX-Private: 1",
        "Proxy-Authorization: Basic proxy\r\nProxy-Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nTE: gzip",
        "X-Comment: Authorization: Bearer x",
    ] {
        let head = format!("GET http://api.example.test/x HTTP/1.1\r\nHost: api.example.test\r\n{fields}\r\n\r\n");
        let mut wire = Wire::open(scene.lanyard.address()).await;
        wire.send(head).await;
        let answer = wire.answer().await;
        assert_eq!(status_of(&answer), 200, "{fields}: {answer}");
        let seen = scene.upstream.seen.last();
        assert_eq!(seen.all("authorization"), scene.bearer(), "{fields}");
        for name in
            ["proxy-authorization", "proxy-connection", "keep-alive", "te", "x-private", "authorization_", "connection"]
        {
            assert_eq!(seen.all(name), [""; 0], "{fields}");
        }
        assert_eq!(seen.all("via").len(), 1);
    }
    // Continuation lines and names with spaces are no HTTP (RFC 9112 5.1, 5.2).
    scene
        .refuses(&[
            ("GET http://api.example.test/ HTTP/1.1\r\nHost: x\r\nAuthorization: a\r\n b", BAD),
            ("GET http://api.example.test/ HTTP/1.1\r\nHost: x\r\nX: a\r\n\tAuthorization: b", BAD),
            ("GET http://api.example.test/ HTTP/1.1\r\nHost: x\r\nAuthorization : b", BAD),
            ("GET http://api.example.test/ HTTP/1.1\r\nHost: x\r\n Authorization: b", BAD),
            ("GET http://api.example.test/ HTTP/1.1\r\nHost: x\r\nAuthorization", BAD),
            ("GET http://api.example.test/ HTTP/1.1\r\nHost: x\r\nX: a\0b", BAD),
        ])
        .await;
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_without_a_profile_keeps_the_clients_own() {
    let config = "[[routes]]\nhost = \"bare.example.test\"\nprofile = \"none\"\nupstream = \"http://{upstream}\"";
    let scene = Scene::new(config).await;
    let head = "GET http://bare.example.test/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic mine\r\n\
                Proxy-Authorization: Basic proxy";
    assert_eq!(status_of(&scene.ask(head).await), 200);
    let seen = scene.upstream.seen.last();
    assert_eq!((seen.all("authorization"), seen.all("proxy-authorization")), (vec!["Basic mine".into()], vec![]));
    assert_eq!(scene.lanyard.metric("lanyard_requests_total{outcome=\"passed\",profile=\"none\"}").await, 1.0);
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answers_hop_by_hop_fields_stay_here() {
    let upstream = ByHand::start(|mut stream| async move {
        use tokio::io::AsyncWriteExt;
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x-hop, close\r\nX-Hop: 1\r\nKeep-Alive: \
                      timeout=9\r\nProxy-Authenticate: Basic\r\nProxy-Connection: close\r\nX-Kept: 1\r\n\r\nok";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let scene = Scene::new(&upstream.route("hop.example.test", "p")).await;
    let mut wire = Wire::open(scene.lanyard.address()).await;
    wire.send("GET http://hop.example.test/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = wire.answer().await;
    assert_eq!((status_of(&answer), field(&answer, "x-kept")), (200, Some("1")), "{answer}");
    for name in ["x-hop", "keep-alive", "proxy-authenticate", "proxy-connection"] {
        assert_eq!(field(&answer, name), None, "{answer}");
    }
    // The upstream's "close" is not the client's.
    wire.send("GET http://hop.example.test/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(status_of(&wire.answer().await), 200);
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unclear_paths_match_no_prefix() {
    let config = "[forward]\nunmatched = \"deny\"\n[[routes]]\nhost = \"paths.example.test\"\npath_prefix = \
                  \"/v1/\"\nprofile = \"p\"\nupstream = \"http://{upstream}\"";
    let scene = Scene::new(config).await;
    for path in ["/v1/x", "/v1/", "/%761/x", "/a/../v1/x", "/./v1/x", "/v1/x?to=/../..", "/v1/%2e/x"] {
        let answer = scene.ask(&format!("GET http://paths.example.test{path} HTTP/1.1\r\nHost: x")).await;
        assert_eq!(status_of(&answer), 200, "{path}: {answer}");
        assert_eq!(scene.upstream.seen.last().all("authorization"), scene.bearer());
    }
    let heads = ["/v1", "/v10", "/V1/x", "/v1/../admin", "/v1/%2e%2e/admin", "/../v1/x", "/x/v1/", "?/v1/x", ""]
        .map(|path| format!("GET http://paths.example.test{path} HTTP/1.1\r\nHost: x"));
    scene.refuses(&heads.iter().map(|head| (&**head, DENIED)).collect::<Vec<_>>()).await;
    // Read in one way they match, and in the other they do not.
    let heads = ["/v1%2fx", "/v1/..%2fadmin", "/v1\\x", "/v1/..%5cadmin", "//v1/x"]
        .map(|path| format!("GET http://paths.example.test{path} HTTP/1.1\r\nHost: x"));
    scene.refuses(&heads.iter().map(|head| (&**head, BAD)).collect::<Vec<_>>()).await;
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_pages_get_no_credential_and_no_rebinding() {
    let config = "[[listeners]]\naddress = \"127.0.0.1:0\"\nupstream = \"http://{upstream}\"\n\
                  allowed_hosts = [\"lanyard.example.test\"]\n\
                  [[listeners]]\naddress = \"127.0.0.1:0\"\nupstream = \"http://{upstream}\"\nallow_browsers = true\n\
                  [[routes]]\nhost = \"127.0.0.1\"\nprofile = \"p\"\nupstream = \"http://{upstream}\"";
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let config = config.replace("{upstream}", &upstream.address.to_string()) + "\n" + &idp.profile("p");
    let lanyard = Lanyard::start(&config).await;
    lanyard.ready().await;
    let bearer = vec![format!("Bearer {}", idp.last_token())];
    let ask = async |listener: usize, host: &str, field: &str| {
        let head = format!("GET /x HTTP/1.1\r\nHost: {host}\r\n{field}Connection: close\r\n\r\n");
        raw(&lanyard.addresses[listener], head).await
    };
    let own = lanyard.addresses[0].clone();
    for host in [&own, "localhost", "LOCALHOST:1", "app.localhost", "[::1]", "lanyard.example.test"] {
        assert_eq!(status_of(&ask(0, host, "").await), 200, "{host}");
        assert_eq!(upstream.seen.last().all("authorization"), bearer, "{host}");
    }
    let before = upstream.seen.requests().len();
    for host in ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "evil-lanyard.example.test", "10.0.0.1"] {
        assert_eq!(verdict(&ask(0, host, "").await), (421, "misdirected"), "{host}");
    }
    assert_eq!(upstream.seen.requests().len(), before);

    let same = format!("Origin: http://{own}\r\n");
    for (field, foreign) in [
        ("Origin: http://evil.test\r\n", true),
        ("Origin: null\r\n", true),
        ("Sec-Fetch-Site: cross-site\r\n", true),
        ("Sec-Fetch-Site: same-site\r\n", true),
        ("Sec-Fetch-Site: CROSS-SITE\r\n", true),
        ("Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n", true),
        ("Sec-Fetch-Site: none\r\n", false),
        (&same, false),
    ] {
        for listener in [0, 1] {
            assert_eq!(status_of(&ask(listener, &own, field).await), 200);
            let expected = if foreign && listener == 0 { vec![] } else { bearer.clone() };
            assert_eq!(upstream.seen.last().all("authorization"), expected, "{field} {listener}");
        }
    }
    lanyard.finish().await;
}
