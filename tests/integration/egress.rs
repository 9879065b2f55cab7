//! Behind a corporate proxy: what goes through it and what does not, what it sees, and what is told when it fails.

use std::time::Duration;

use axum::http::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{lanyard::command, *};

/// Where every client that looks at its environment would fail.
const DEAD: [(&str, &str); 6] = [
    ("HTTP_PROXY", "http://127.0.0.1:1"),
    ("http_proxy", "http://127.0.0.1:1"),
    ("HTTPS_PROXY", "http://127.0.0.1:1"),
    ("https_proxy", "http://127.0.0.1:1"),
    ("ALL_PROXY", "http://127.0.0.1:1"),
    ("all_proxy", "http://127.0.0.1:1"),
];

/// A profile whose provider only the proxy can resolve.
fn profile(name: &str, idp: &Idp, proxy: &ForwardProxy) -> String {
    let address = idp.url().trim_start_matches("http://").trim_end_matches("/token").to_owned();
    proxy.knows("idp.auth.svc:80", address.parse().unwrap());
    idp.profile(name).replace(&idp.url(), "http://idp.auth.svc/token")
}

fn route(host: &str, profile: &str, upstream: &str, more: &str) -> String {
    format!("[[routes]]\nhost = \"{host}\"\nprofile = \"{profile}\"\nupstream = \"{upstream}\"\n{more}\n")
}

fn through(proxy: &ForwardProxy, more: &str) -> String {
    format!("[egress_proxy]\nurl = \"{}\"\n{more}\n", proxy.url())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_through_tunnels_and_the_proxy_learns_no_secret() {
    for (alpn, version) in [(&["http/1.1"][..], Version::HTTP_11), (&["h2", "http/1.1"], Version::HTTP_2)] {
        let (idp, ca, proxy) = (Idp::start().await, Authority::new(), ForwardProxy::start().await);
        let (secure, plain) = (Upstream::start_tls(ca.server(&["api.invalid"], alpn)).await, Upstream::start().await);
        proxy.knows("api.invalid:443", secure.address);
        proxy.knows("plain.invalid:80", plain.address);
        proxy.knows("tunnel.invalid:443", plain.address);
        proxy.want_login("lanyard", "canary-proxy-password");
        let folder = Folder::new();
        folder.write("ca.pem", ca.pem());
        folder.write("password", "canary-proxy-password\n");
        let config = format!(
            "{}{}{}{}",
            through(&proxy, "username = \"lanyard\"\npassword = { file = \"password\" }"),
            profile("billing", &idp, &proxy),
            route("secure.test", "billing", "https://api.invalid", "ca_file = \"ca.pem\""),
            route("plain.test", "billing", "http://plain.invalid", ""),
        );
        let lanyard = Lanyard::start_in(folder, &config, &DEAD).await;
        lanyard.ready().await;

        // TLS is spoken with the upstream, and verified for its name.
        let answer = get_via(lanyard.address(), "http://secure.test/x").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let seen = secure.seen.last();
        assert_eq!(seen.version, version);
        let bearer = vec![format!("Bearer {}", idp.last_token())];
        assert_eq!((seen.all("authorization"), seen.all("proxy-authorization")), (bearer.clone(), vec![]));
        let answer = send(client(Some(lanyard.address())).post("http://secure.test/x").body("12345")).await;
        assert_eq!(answer.json()["length"], 5);
        secure.seen.revoke(&idp.last_token());
        assert_eq!(get_via(lanyard.address(), "http://secure.test/again").await.status, 200);
        assert!(!proxy.passed().contains("canary-token"), "the proxy saw a token");

        // Clear text and blind tunnels go by CONNECT too.
        assert_eq!(get_via(lanyard.address(), "http://plain.test/y").await.status, 200);
        assert_eq!(plain.seen.last().all("host"), ["plain.invalid"]);
        assert_eq!(plain.seen.last().all("proxy-authorization"), Vec::<String>::new());
        let mut wire = Wire::open(lanyard.address()).await;
        wire.send("CONNECT tunnel.invalid:443 HTTP/1.1\r\nHost: tunnel.invalid:443\r\n\r\n").await;
        assert_eq!(status_of(&wire.until("\r\n\r\n").await), 200);
        wire.send("GET /z HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert_eq!(status_of(&wire.answer().await), 200);
        drop(wire);

        // One tunnel to the provider for each token, one for each upstream, one for the client's own. An HTTP/1.1 upstream
        // has a second one: the first told which version it speaks.
        let mut targets = proxy.targets();
        targets.sort();
        if version == Version::HTTP_11 {
            assert_eq!(targets.remove(0), "api.invalid:443");
        }
        let expected =
            ["api.invalid:443", "idp.auth.svc:80", "idp.auth.svc:80", "plain.invalid:80", "tunnel.invalid:443"];
        assert_eq!(targets, expected);
        for head in proxy.heads() {
            assert!(head.starts_with("CONNECT ") && head.contains("Proxy-Authorization: Basic "), "{head}");
            assert!(!head.contains("Bearer") && !head.contains("canary"), "{head}");
        }
        let line = lanyard.wait_for("the request", |event| event["path"] == "/y").await;
        assert_eq!(line["egress_proxy"], proxy.url());
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_are_used_again_by_the_same_target_and_profile_alone() {
    let (idp, proxy) = (Idp::start().await, ForwardProxy::start().await);
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    proxy.knows("one.invalid:80", one.address);
    proxy.knows("other.invalid:80", other.address);
    proxy.knows("one.invalid:81", other.address);
    let config = format!(
        "{}{}{}{}{}{}{}",
        through(&proxy, "no_proxy = \"127.0.0.0/8\""),
        idp.profile("a"),
        idp.profile("b"),
        route("a.test", "a", "http://one.invalid", ""),
        route("b.test", "b", "http://one.invalid", ""),
        route("other.test", "a", "http://other.invalid", ""),
        route("port.test", "a", "http://one.invalid:81", ""),
    );
    let lanyard = Lanyard::start(&config).await;
    lanyard.ready().await;
    for _ in 0..5 {
        assert_eq!(get_via(lanyard.address(), "http://a.test/").await.status, 200);
    }
    assert_eq!(proxy.targets(), ["one.invalid:80"]);
    // The proxy's address is the same for all, and for another port the name too: nothing but our key keeps them apart.
    assert_eq!(get_via(lanyard.address(), "http://port.test/").await.status, 200);
    assert_eq!(get_via(lanyard.address(), "http://other.test/").await.status, 200);
    assert_eq!(get_via(lanyard.address(), "http://b.test/").await.status, 200);
    assert_eq!(get_via(lanyard.address(), "http://one.invalid/").await.status, 200);
    assert_eq!(get_via(lanyard.address(), "http://other.invalid/").await.status, 200);
    assert_eq!((one.seen.requests().len(), other.seen.requests().len()), (7, 3));
    assert_eq!(
        proxy.targets(),
        [
            "one.invalid:80",
            "one.invalid:81",
            "other.invalid:80",
            "one.invalid:80",
            "one.invalid:80",
            "other.invalid:80"
        ]
    );
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_and_a_route_have_their_own_say() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let (file, other) = (ForwardProxy::start().await, ForwardProxy::start().await);
    for proxy in [&file, &other] {
        proxy.knows("up.invalid:80", upstream.address);
    }
    let own = format!("egress_proxy = {{ url = \"{}\", no_proxy = [\"x.invalid\"] }}\n", other.url());
    let direct = "egress_proxy = \"none\"\n";
    let config = [
        through(&file, "no_proxy = [\"direct.invalid\"]"),
        idp.profile("bare"),
        direct.to_owned(),
        profile("own", &idp, &other),
        own.clone(),
        route("file.test", "bare", "http://up.invalid", ""),
        route("own.test", "own", "http://up.invalid", &own),
        route("none.test", "bare", &upstream.url(), direct),
    ]
    .concat();
    let lanyard = Lanyard::start(&config).await;
    lanyard.ready().await;
    assert_eq!((file.targets(), other.targets()), (vec![], vec!["idp.auth.svc:80".to_owned()]));
    for (host, expected) in [("file.test", (1, 1)), ("own.test", (1, 2)), ("none.test", (1, 2))] {
        let answer = get_via(lanyard.address(), &format!("http://{host}/")).await;
        assert_eq!(answer.status, 200, "{host}: {}", answer.body);
        assert_eq!((file.targets().len(), other.targets().len()), expected, "{host}");
    }
    // What no_proxy names is looked up here, and is not there.
    let answer = get_via(lanyard.address(), "http://direct.invalid/").await;
    assert_eq!((answer.refusal(), file.targets().len()), (Some("upstream_unresolved"), 1), "{}", answer.body);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_proxy_does_wrong_is_told_to_the_client() {
    let (idp, proxy) = (Idp::start().await, ForwardProxy::start().await);
    let config = format!(
        "{}{}{}{}",
        through(&proxy, "no_proxy = \"127.0.0.1\""),
        idp.profile("p"),
        route("api.test", "p", "https://api.invalid", "connect_timeout = \"500ms\""),
        route("dead.test", "p", "https://api.invalid", "egress_proxy = \"http://127.0.0.1:1\"")
            + &route("unknown.test", "p", "https://api.invalid", "egress_proxy = \"http://proxy.invalid:3128\""),
    );
    let lanyard = Lanyard::start(&config).await;
    lanyard.ready().await;
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(20_000));
    let told = async |host: &str, status: u16, code: &str, detail: &str, hint: &str| {
        let answer = get_via(lanyard.address(), &format!("http://{host}/")).await;
        assert_eq!((answer.status, answer.refusal()), (status, Some(code)), "{detail}: {}", answer.body);
        let json = answer.json();
        let (found, mend) = (json["detail"].as_str().unwrap(), json["hint"].as_str().unwrap());
        assert!(found.contains(detail) && found.contains("egress proxy"), "{detail}: {}", answer.body);
        assert!(mend.contains(hint), "{hint}: {}", answer.body);
        assert_eq!(json["profile"], "p");
    };
    for (refusal, status, code, detail, hint) in [
        ("HTTP/1.1 407 X\r\n\r\n", 502, "upstream_unreachable", "wants credentials", "set username and password"),
        ("HTTP/1.1 401 X\r\n\r\n", 502, "upstream_unreachable", "wants credentials (401", "set username and password"),
        ("HTTP/1.1 403 X\r\n\r\n", 502, "upstream_unreachable", "403 Forbidden", "have api.invalid:443 allowed"),
        ("HTTP/1.1 502 X\r\n\r\n", 502, "upstream_unreachable", "502 Bad Gateway", "cannot reach api.invalid:443"),
        ("HTTP/1.1 503 X\r\n\r\n", 502, "upstream_unreachable", "503 Service", "cannot reach api.invalid:443"),
        ("HTTP/1.1 504 X\r\n\r\n", 504, "upstream_timeout", "504 Gateway", "cannot reach api.invalid:443"),
        ("canary-rubbish\r\n", 502, "upstream_unreachable", "not HTTP/1", "really an HTTP proxy"),
        ("", 502, "upstream_unreachable", "without an answer", "really an HTTP proxy"),
        (&long, 502, "upstream_unreachable", "more than 16384 bytes", "really an HTTP proxy"),
    ] {
        proxy.refuse_with(Some(refusal));
        told("api.test", status, code, detail, hint).await;
        // A client's own tunnel ends the same way.
        let answer = raw(lanyard.address(), "CONNECT api.invalid:443 HTTP/1.1\r\nHost: api.invalid:443\r\n\r\n").await;
        assert_eq!(verdict(&answer), (status, code), "{answer}");
        assert!(answer.contains(detail), "{answer}");
    }
    proxy.be_silent(true);
    told("api.test", 504, "upstream_timeout", "within connect_timeout", "check that it is up").await;
    told("dead.test", 502, "upstream_unreachable", "no connection to egress proxy http://127.0.0.1:1", "is up").await;
    told("unknown.test", 502, "upstream_unresolved", "proxy.invalid does not resolve", "name servers").await;
    // The token was not asked for again, and went nowhere.
    assert_eq!(idp.calls(), 1);
    assert_eq!(proxy.passed(), "");
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_through_the_proxy_is_verified_all_the_same() {
    let (idp, ca, proxy) = (Idp::start().await, Authority::new(), ForwardProxy::start().await);
    let upstream = Upstream::start_tls(ca.server(&["other.invalid"], &["h2", "http/1.1"])).await;
    proxy.knows("api.invalid:443", upstream.address);
    let folder = Folder::new();
    folder.write("ca.pem", ca.pem());
    let config = format!(
        "{}{}{}{}",
        through(&proxy, "no_proxy = \"127.0.0.1\""),
        idp.profile("p"),
        route("named.test", "p", "https://api.invalid", "ca_file = \"ca.pem\""),
        route("trusted.test", "p", "https://api.invalid", ""),
    );
    let lanyard = Lanyard::start_in(folder, &config, &[]).await;
    lanyard.ready().await;
    for host in ["named.test", "trusted.test"] {
        let answer = get_via(lanyard.address(), &format!("http://{host}/")).await;
        assert_eq!(answer.refusal(), Some("upstream_tls"), "{}", answer.body);
    }
    assert_eq!(upstream.seen.requests().len(), 0);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_vetted_as_ever_and_lanyard_is_no_proxy_of_its_own() {
    let (proxy, idp) = (ForwardProxy::start().await, Idp::start().await);
    let lanyard = Lanyard::start(&through(&proxy, "")).await;
    for target in ["http://169.254.169.254/", "http://[fe80::1]/", "http://100.100.100.200/"] {
        let answer = get_via(lanyard.address(), target).await;
        assert_eq!(answer.refusal(), Some("route_denied"), "{target}: {}", answer.body);
    }
    let answer = raw(lanyard.address(), "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(verdict(&answer), (403, "route_denied"));
    let answer = get_via(lanyard.address(), &format!("http://{}/", lanyard.admin)).await;
    assert_eq!(answer.refusal(), Some("loop_detected"), "{}", answer.body);
    assert_eq!(proxy.heads().len(), 0);

    // Its own port is not in the file, so only the running process can tell.
    let own = format!("[egress_proxy]\nurl = \"http://{}\"\n{}", lanyard.address(), idp.profile("p"));
    lanyard.write_config(&own);
    assert_eq!(lanyard.reload().await.status, 200);
    let answer = get_via(lanyard.address(), "http://api.invalid/").await;
    assert_eq!((answer.status, answer.refusal()), (508, Some("loop_detected")), "{}", answer.body);
    assert!(answer.json()["hint"].as_str().unwrap().contains("not a listener of lanyard's"), "{}", answer.body);
    let status = lanyard.status().await;
    assert!(status["profiles"]["p"].to_string().contains("is lanyard itself"), "{status}");
    assert_eq!(idp.calls(), 0);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_and_a_reload_take_effect() {
    let (idp, upstream) = (Idp::start().await, Upstream::start().await);
    let (proxy, next) = (ForwardProxy::start().await, ForwardProxy::start().await);
    proxy.knows("up.invalid:80", upstream.address);
    next.knows("up.invalid:80", upstream.address);
    proxy.want_login("user", "canary-second");
    let folder = Folder::new();
    let password = folder.write("password", "canary-first");
    let config = |proxy: &ForwardProxy| {
        format!(
            "{}{}{}",
            through(proxy, "username = \"user\"\npassword = { file = \"password\" }\nno_proxy = \"127.0.0.1\""),
            idp.profile("p"),
            route("api.test", "p", "http://up.invalid", "")
        )
    };
    let lanyard = Lanyard::start_in(folder, &config(&proxy), &[]).await;
    lanyard.ready().await;
    let answer = get_via(lanyard.address(), "http://api.test/").await;
    assert!(answer.status == 502 && answer.body.contains("does not take the credentials"), "{}", answer.body);
    std::fs::write(&password, "canary-second").unwrap();
    assert_eq!(get_via(lanyard.address(), "http://api.test/").await.status, 200);

    lanyard.write_config(&config(&next));
    assert_eq!(lanyard.reload().await.status, 200);
    assert_eq!(get_via(lanyard.address(), "http://api.test/").await.status, 200);
    assert_eq!(next.targets(), ["up.invalid:80"]);
    std::fs::remove_file(&password).unwrap();
    // The tunnel that is there is as good as it was; a new one needs the password.
    assert_eq!(get_via(lanyard.address(), "http://api.test/").await.status, 200);
    let answer = get_via(lanyard.address(), "http://up.invalid/").await;
    assert_eq!(answer.refusal(), Some("upstream_unreachable"), "{}", answer.body);
    assert!(answer.body.contains("the password of egress proxy"), "{}", answer.body);
    lanyard.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_counts_where_it_is_asked_for() {
    let (idp, upstream, proxy) = (Idp::start().await, Upstream::start().await, ForwardProxy::start().await);
    proxy.knows("up.invalid:80", upstream.address);
    proxy.want_login("user", "canary-password");
    let url = proxy.url().replace("http://", "http://user:canary-password@");
    let environment = [("HTTP_PROXY", &*url), ("NO_PROXY", "127.0.0.1"), ("http_proxy", ""), ("no_proxy", "")];
    let route = route("api.test", "p", "http://up.invalid", "");
    for (asked, status, tunnels) in [("", 502, 0), ("[egress_proxy]\nenvironment = true\n", 200, 1)] {
        let config = format!("{asked}{}{route}", idp.profile("p"));
        let lanyard = Lanyard::start_in(Folder::new(), &config, &environment).await;
        lanyard.ready().await;
        assert_eq!(get_via(lanyard.address(), "http://api.test/").await.status, status);
        assert_eq!(proxy.heads().len(), tunnels);
        lanyard.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_the_admin_listener_name_the_proxy_and_no_password() {
    let (idp, proxy) = (Idp::start().await, ForwardProxy::start().await);
    proxy.want_login("user", "canary-password");
    let own = "egress_proxy = \"none\"";
    let config = format!(
        "{}{}{}{}",
        through(&proxy, "username = \"user\"\npassword = \"canary-password\"\nno_proxy = \"direct.test, 10.0.0.0/8\""),
        profile("p", &idp, &proxy),
        route("api.test", "p", "https://api.invalid", ""),
        route("own.test", "p", "https://api.invalid", own),
    );
    let folder = Folder::new();
    let file = folder.write("proxy.toml", &config);
    let file = file.to_str().unwrap();
    let name = format!("through:  egress proxy {} (CONNECT api.invalid:443)", proxy.url());
    let token = format!("token:    fetched through egress proxy {}", proxy.url());
    for (url, parts) in [
        ("http://api.test/x", &[&*name, &*token][..]),
        ("http://own.test/x", &["goes to:  https://api.invalid", &*token]),
        ("http://direct.test/x", &["through:  nothing: no_proxy names it"]),
        ("http://other.test/x", &["(CONNECT other.test:80)"]),
    ] {
        let (exit, told, problems) = command(&["explain", "GET", url, "--config", file], &DEAD).await;
        assert_eq!(exit, Some(0), "{told}{problems}");
        assert!(parts.iter().all(|part| told.contains(part)), "{url}:\n{told}");
        assert!(!(told + &problems).contains(CANARY));
    }
    let (exit, told, _) = command(&["doctor", "--config", file], &DEAD).await;
    assert!(exit == Some(0) && told.contains(&format!("through egress proxy {}", proxy.url())), "{told}");
    proxy.want_login("user", "canary-other");
    let (exit, told, _) = command(&["doctor", "--config", file], &DEAD).await;
    assert!(exit == Some(1) && told.contains("does not take the credentials") && !told.contains(CANARY), "{told}");
    proxy.want_login("user", "canary-password");
    let (exit, _, told) = command(&["check", "--config", file], &DEAD).await;
    assert!(exit == Some(0) && told.contains("proxy.toml:4: warning: egress_proxy.password"), "{told}");

    let lanyard = Lanyard::start(&config).await;
    let shown = get(&format!("http://{}/config", lanyard.admin)).await.json();
    let expected = serde_json::json!({
        "url": proxy.url(), "username": "[redacted]", "password": "[redacted]", "no_proxy": "direct.test,10.0.0.0/8",
    });
    assert_eq!(shown["egress_proxy"], expected);
    assert_eq!(shown["profiles"]["p"]["egress_proxy"], expected);
    assert_eq!(shown["routes"][1]["egress_proxy"], "none");
    lanyard.finish().await;
}

/// The real curl decides with the same rules. (Ranges of IPv6 are not asked about: many a curl strips the brackets of
/// the host and then compares texts.)
#[tokio::test(flavor = "multi_thread")]
async fn no_proxy_is_read_as_curl_reads_it() {
    async fn answering(status: &'static str) -> ByHand {
        ByHand::start(move |mut stream| async move {
            let mut head = [0; 4096];
            drop(stream.read(&mut head).await);
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            drop(stream.write_all(answer.as_bytes()).await);
        })
        .await
    }
    let (direct, proxy) = (answering("204").await, answering("403").await);
    let lists = [
        "example.com",
        ".example.com",
        "Example.COM.",
        "localhost, .example.com",
        "example.com:80",
        "*.example.com",
        "*",
        "*,example.org",
        ",,other, ,example.com,",
        "10.1.2.3",
        "10.0.0.0/8",
        "10.1.2.0/25",
        "10.1.2.3/32",
        "10.1.2.3/33",
        "10.0.0.0/0",
        "::1",
        "[::1]",
    ];
    let hosts = [
        "example.com",
        "www.example.com",
        "EXAMPLE.com",
        "notexample.com",
        "localhost",
        "10.1.2.3",
        "10.200.0.1",
        "[::1]",
        "[fd00::1]",
    ];
    let mut rows = Vec::new();
    for list in lists {
        for host in hosts {
            rows.push((list, host));
        }
    }
    let (port, through) = (direct.address.port(), format!("http://{}", proxy.address));
    let ask = async |(list, host): (&str, &str)| {
        let curl = tokio::process::Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20", "--proxy", &through])
            .args(["--noproxy", list, "--connect-to", &format!("::127.0.0.1:{port}"), &format!("http://{host}/")])
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .output()
            .await
            .expect("curl is installed: scripts/setup.sh does it");
        // With --connect-to curl asks the proxy by CONNECT, whose refusal is no answer: 000.
        String::from_utf8(curl.stdout).unwrap() == "204"
    };
    let mut differ = Vec::new();
    for rows in rows.chunks(4) {
        let answers = futures::future::join_all(rows.iter().map(|row| ask(*row))).await;
        for ((list, host), by_curl) in rows.iter().zip(answers) {
            let rules = ::lanyard::egress::no_proxy::NoProxy::parse(list).0;
            let host = ::lanyard::route::pattern::Host::parse(host).unwrap();
            if rules.covers(host.as_str()) != by_curl {
                differ.push(format!("{list:?} and {host}: curl goes directly: {by_curl}"));
            }
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert!(direct.connections() > 20 && proxy.connections() > 20);
    println!("{} pairs as curl, {} of them without the proxy", rows.len(), direct.connections());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_through_the_proxy_lives_as_long_as_it_likes() {
    let (idp, proxy) = (Idp::start().await, ForwardProxy::start().await);
    let upstream = ByHand::start(|mut stream| async move {
        drop(read_head(&mut stream).await);
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        drop(stream.write_all(head.as_bytes()).await);
        let mut piece = [0; 64];
        while let Ok(read @ 1..) = stream.read(&mut piece).await {
            drop(stream.write_all(&piece[..read]).await);
        }
    })
    .await;
    proxy.knows("ws.invalid:80", upstream.address);
    let config = format!(
        "{}{}{}",
        through(&proxy, "no_proxy = \"127.0.0.1\""),
        idp.profile("p"),
        route("ws.test", "p", "http://ws.invalid", "connect_timeout = \"300ms\"")
    );
    let lanyard = Lanyard::start(&config).await;
    lanyard.ready().await;
    let mut wire = Wire::open(lanyard.address()).await;
    wire.send("GET http://ws.test/ HTTP/1.1\r\nHost: ws.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(status_of(&wire.until("\r\n\r\n").await), 101);
    for text in ["hello", "still here"] {
        tokio::time::sleep(Duration::from_millis(500)).await;
        wire.send(text).await;
        assert_eq!(wire.exactly(text.len()).await, text);
    }
    drop(wire);
    lanyard.finish().await;
}
