//! The token goes where it is meant to go, and nowhere else.

mod fields;
mod framing;
mod tunnels;

use super::support::*;

/// A lanyard, its provider and its upstream; `api.example.test` is matched.
struct Scene {
    lanyard: Lanyard,
    idp: Idp,
    upstream: Upstream,
}

impl Scene {
    /// `config` may use `{upstream}` for the upstream's `HOST:PORT`.
    async fn new(config: &str) -> Self {
        let (idp, upstream) = (Idp::start().await, Upstream::start().await);
        let config = config.replace("{upstream}", &upstream.address.to_string());
        let lanyard =
            Lanyard::start(&format!("{config}\n{}{}", idp.profile("p"), upstream.route("api.example.test", "p"))).await;
        lanyard.ready().await;
        Self { lanyard, idp, upstream }
    }

    /// Sends a head (without its last empty line) on a connection of its own.
    async fn ask(&self, head: &str) -> String {
        raw(self.lanyard.address(), format!("{head}\r\nConnection: close\r\n\r\n")).await
    }

    fn bearer(&self) -> Vec<String> {
        vec![format!("Bearer {}", self.idp.last_token())]
    }

    /// The next request, a good one, gets through, and has the token.
    async fn still_works(&self) {
        let answer = get_via(self.lanyard.address(), "http://api.example.test/good").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(self.upstream.seen.last().all("authorization"), self.bearer());
    }

    /// None of these heads reaches the upstream, each is refused so.
    async fn refuses(&self, cases: &[(&str, (u16, &str))]) {
        let before = self.upstream.seen.requests().len();
        for (head, expected) in cases {
            let answer = self.ask(head).await;
            assert_eq!(verdict(&answer), *expected, "{head:?}: {answer}");
            assert_eq!(self.upstream.seen.requests().len(), before, "{head:?} reached the upstream");
        }
        self.still_works().await;
    }
}

const BAD: (u16, &str) = (400, "bad_request");
const DENIED: (u16, &str) = (403, "route_denied");
const LOOP: (u16, &str) = (508, "loop_detected");

#[tokio::test(flavor = "multi_thread")]
async fn every_spelling_of_the_host_gets_the_token_and_the_upstreams_host() {
    let scene = Scene::new("[forward]\nunmatched = \"deny\"").await;
    for head in [
        "GET http://api.example.test/ HTTP/1.1\r\nHost: api.example.test",
        "GET http://API.Example.TEST./ HTTP/1.1\r\nHost: api.example.test",
        "GET http://api.example.test:80/ HTTP/1.1\r\nHost: api.example.test",
        "GET http://api.example.test:/ HTTP/1.1\r\nHost: api.example.test",
        "GET http://api.example.test:8443/ HTTP/1.1\r\nHost: api.example.test",
        "GET http://api.example.test HTTP/1.1\r\nHost: api.example.test",
        "GET http://api.example.test?q HTTP/1.1\r\nHost: api.example.test",
        "GET HTTP://api.example.test/ HTTP/1.1\r\nHost: api.example.test",
        "GET https://api.example.test/ HTTP/1.1\r\nHost: api.example.test",
        // The URI decides, whatever Host says.
        "GET http://api.example.test/ HTTP/1.1\r\nHost: evil.test",
        "GET http://api.example.test/ HTTP/1.0",
        "GET / HTTP/1.1\r\nHost: api.example.test",
        "GET / HTTP/1.1\r\nHost: API.EXAMPLE.TEST.:80",
        "GET / HTTP/1.0\r\nHost: api.example.test",
        "OPTIONS * HTTP/1.1\r\nHost: api.example.test",
    ] {
        let before = scene.upstream.seen.requests().len();
        let answer = scene.ask(head).await;
        assert_eq!(status_of(&answer), 200, "{head}: {answer}");
        assert_eq!(scene.upstream.seen.requests().len(), before + 1);
        let seen = scene.upstream.seen.last();
        assert_eq!(seen.all("authorization"), scene.bearer(), "{head}");
        assert_eq!(seen.all("host"), [scene.upstream.address.to_string()], "{head}");
    }
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_hosts_and_unclear_ones_get_nothing() {
    let config = "[forward]\nunmatched = \"deny\"\n[[routes]]\nhost = \"ported.example.test:8443\"\nprofile = \"p\"\n\
                  upstream = \"http://{upstream}\"\n[[routes]]\nhost = \"*.wild.example.test\"\nprofile = \"p\"\n\
                  upstream = \"http://{upstream}\"";
    let scene = Scene::new(config).await;
    for target in ["http://ported.example.test:8443/", "http://a.wild.example.test/", "http://a.b.wild.example.test/"] {
        let answer = scene.ask(&format!("GET {target} HTTP/1.1\r\nHost: x")).await;
        assert_eq!(status_of(&answer), 200, "{target}: {answer}");
    }
    let absolute = [
        ("http://evil-api.example.test/", DENIED),
        ("http://api.example.test.evil.test/", DENIED),
        ("http://example.test/", DENIED),
        ("http://ported.example.test/", DENIED),
        ("http://ported.example.test:80/", DENIED),
        ("http://wild.example.test/", DENIED),
        ("http://awild.example.test/", DENIED),
        ("http://[::1]:9/", DENIED),
        ("http://[::ffff:127.0.0.1]:9/", DENIED),
        ("http://user@api.example.test/", BAD),
        ("http://user:password@api.example.test/", BAD),
        ("http://api.example.test@evil.test/", BAD),
        ("http://evil.test#@api.example.test/", BAD),
        ("http://evil.test\\@api.example.test/", BAD),
        ("http://api.example.test:0/", BAD),
        ("http://api.example.test:65536/", BAD),
        ("http://api.example.test:+80/", BAD),
        ("http://api.example.test:080/", BAD),
        ("http://api.example.test:8o/", BAD),
        ("http://api.example.test:80:80/", BAD),
        ("http://api..example.test/", BAD),
        ("http://.api.example.test/", BAD),
        ("http://api.example.test../", BAD),
        ("http://api%2eexample.test/", BAD),
        ("http://api.example.test%00/", BAD),
        ("http://api.example.test\u{1}/", BAD),
        ("http://api\u{ff0e}example.test/", BAD),
        ("http://[::1/", BAD),
        ("http://::1/", BAD),
        ("http://[fe80::1%25eth0]/", BAD),
        ("http://[api.example.test]/", BAD),
        ("http://0x7f.1/", BAD),
        ("http://2130706433/", BAD),
        ("http://0177.0.0.1/", BAD),
        ("http://127.1/", BAD),
        ("http:///x", BAD),
        ("http:api.example.test", BAD),
        ("//api.example.test/", DENIED),
        ("api.example.test/", BAD),
        ("api.example.test:80", BAD),
        ("*", BAD),
        ("ftp://api.example.test/", BAD),
        ("ws://api.example.test/", BAD),
        ("file:///etc/passwd", BAD),
    ]
    .map(|(target, expected)| (format!("GET {target} HTTP/1.1\r\nHost: evil.test"), expected));
    let absolute: Vec<_> = absolute.iter().map(|(head, expected)| (&**head, *expected)).collect();
    scene.refuses(&absolute).await;
    scene
        .refuses(&[
            ("GET http://evil.test/ HTTP/1.1\r\nHost: api.example.test", DENIED),
            ("GET / HTTP/1.1\r\nHost: evil.test", DENIED),
            ("GET / HTTP/1.1\r\nHost: api.example.test\r\nHost: api.example.test", BAD),
            ("GET / HTTP/1.1\r\nHost: api.example.test\r\nHost: evil.test", BAD),
            ("GET http://api.example.test/ HTTP/1.1\r\nHost: api.example.test\r\nhost: evil.test", BAD),
            ("GET / HTTP/1.1\r\nHost: api.example.test, evil.test", BAD),
            ("GET / HTTP/1.1\r\nHost: evil.test,api.example.test", BAD),
            ("GET / HTTP/1.1\r\nHost: user@api.example.test", BAD),
            ("GET / HTTP/1.1\r\nHost: api.example.test:99999", BAD),
            ("GET / HTTP/1.1\r\nHost: http://api.example.test", BAD),
            ("GET / HTTP/1.1\r\nHost:", BAD),
            ("GET / HTTP/1.1\r\nAccept: */*", BAD),
            ("GET http://api.example.test/ HTTP/1.1\r\nAccept: */*", BAD),
            ("TRACE http://api.example.test/ HTTP/1.1\r\nHost: x", (405, "method_not_allowed")),
            ("TRACK http://api.example.test/ HTTP/1.1\r\nHost: x", (405, "method_not_allowed")),
        ])
        .await;
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unmatched_requests_pass_bare_where_that_is_allowed() {
    let scene = Scene::new("").await;
    let port = scene.upstream.address.port();
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
        let answer = get_via(scene.lanyard.address(), &format!("http://{host}/x")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(scene.upstream.seen.last().all("authorization"), [""; 0]);
        assert_eq!(scene.upstream.seen.last().all("host"), [host]);
    }
    // By Host alone it needs a route: its sender may not know that a proxy is there.
    let head = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}");
    scene.refuses(&[(&head, DENIED)]).await;
    // Metadata services are never dialled.
    scene
        .refuses(&[
            ("GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\nHost: x", DENIED),
            ("GET http://[::ffff:169.254.169.254]/ HTTP/1.1\r\nHost: x", DENIED),
            ("GET http://[64:ff9b::169.254.169.254]/ HTTP/1.1\r\nHost: x", DENIED),
            ("GET http://[fd00:ec2::254]/ HTTP/1.1\r\nHost: x", DENIED),
            ("GET http://100.100.100.200/ HTTP/1.1\r\nHost: x", DENIED),
            ("GET http://0.0.0.0/ HTTP/1.1\r\nHost: x", DENIED),
            ("CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x", DENIED),
            ("CONNECT [::ffff:169.254.169.254]:443 HTTP/1.1\r\nHost: x", DENIED),
        ])
        .await;
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_comes_back_to_lanyard() {
    let back = tokio::sync::watch::Sender::new(String::new());
    let receiver = back.subscribe();
    // An upstream that hands every connection back to lanyard.
    let mirror = ByHand::start(move |mut stream| {
        let address = receiver.borrow().clone();
        async move {
            let mut lanyard = tokio::net::TcpStream::connect(address).await.unwrap();
            drop(tokio::io::copy_bidirectional(&mut stream, &mut lanyard).await);
        }
    })
    .await;
    let listeners = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    let scene = Scene::new(&format!(
        "{listeners}{}{}",
        mirror.route("mirror.example.test", "p"),
        mirror.route(&mirror.address.to_string(), "p")
    ))
    .await;
    back.send_replace(scene.lanyard.address().to_owned());
    let (own, second, admin) =
        (scene.lanyard.address(), scene.lanyard.addresses[1].clone(), scene.lanyard.admin.clone());
    let port = own.rsplit(':').next().unwrap();
    let heads = [
        format!("GET http://{own}/ HTTP/1.1\r\nHost: x"),
        format!("GET http://localhost:{port}/ HTTP/1.1\r\nHost: x"),
        format!("GET http://[::ffff:127.0.0.1]:{port}/ HTTP/1.1\r\nHost: x"),
        format!("GET http://{second}/ HTTP/1.1\r\nHost: x"),
        format!("GET http://{admin}/metrics HTTP/1.1\r\nHost: x"),
        format!("CONNECT {own} HTTP/1.1\r\nHost: x"),
        format!("CONNECT {admin} HTTP/1.1\r\nHost: x"),
        "GET http://mirror.example.test/ HTTP/1.1\r\nHost: x".to_owned(),
    ];
    scene.refuses(&heads.iter().map(|head| (&**head, LOOP)).collect::<Vec<_>>()).await;

    // A route that leads to a listener of lanyard's own.
    let config = format!(
        "{listeners}{}{}[[routes]]\nhost = \"self.example.test\"\nprofile = \"p\"\nupstream = \"http://{second}\"\n",
        scene.idp.profile("p"),
        scene.upstream.route("api.example.test", "p")
    );
    scene.lanyard.write_config(&config);
    assert_eq!(scene.lanyard.reload().await.status, 200);
    scene.refuses(&[("GET http://self.example.test/ HTTP/1.1\r\nHost: x", LOOP)]).await;
    scene.lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_slash_below_a_prefix_takes_its_token_and_one_that_climbs_out_is_refused() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let route = upstream.route("api.test", "p").replace("[[routes]]\n", "[[routes]]\npath_prefix = \"/api/v4\"\n");
    let lanyard = Lanyard::start(&format!("{}{route}", idp.profile("p"))).await;
    lanyard.ready().await;
    let ask = async |path: &str| {
        let text = format!("GET http://api.test{path} HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n");
        status_of(&raw(lanyard.address(), text).await)
    };
    assert_eq!(ask("/api/v4/projects/group%2Fname").await, 200);
    assert_eq!(upstream.seen.last().path, "/api/v4/projects/group%2Fname");
    assert_eq!(upstream.seen.last().all("authorization"), [format!("Bearer {}", idp.last_token())]);
    let before = upstream.seen.requests().len();
    assert_eq!(ask("/api/v4/..%2f..%2fadmin").await, 400);
    assert_eq!(upstream.seen.requests().len(), before);
    // `Upgrade` counts only where `Connection` names it.
    let text =
        "GET http://api.test/api/v4 HTTP/1.1\r\nHost: api.test\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n";
    assert_eq!(status_of(&raw(lanyard.address(), text).await), 200);
    assert!(upstream.seen.last().all("upgrade").is_empty());
    lanyard.finish().await;
}
