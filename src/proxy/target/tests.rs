use super::*;

fn forward_listener() -> Listening {
    Listening { role: Arc::new(Role::Forward), local: "127.0.0.1:8080".parse().ok(), original: None }
}

fn reverse_listener(path: Option<&str>) -> Listening {
    let upstream = Upstream {
        scheme: Scheme::Https,
        host: Host::parse("api.example.com").unwrap(),
        port: 443,
        path: path.map(str::to_owned),
    };
    let allowed_hosts = vec![HostPattern::parse("*.internal.test").unwrap(), HostPattern::parse("gw:9001").unwrap()];
    let role = Arc::new(Role::Reverse { upstream, allowed_hosts });
    Listening { role, local: "192.0.2.7:9001".parse().ok(), original: None }
}

fn ask(listening: &Listening, method: Method, target: &str, host: Option<&str>) -> Result<String, Code> {
    let named = Named { method: &method, request_target: target.as_bytes(), host: host.map(str::as_bytes) };
    decide(listening, named)
        .map(|t| format!("{} {} {}", t.scheme.as_str(), t.authority(), t.path_and_query))
        .map_err(|refusal| refusal.code)
}

#[test]
fn the_absolute_uri_decides_on_a_forward_listener() {
    let bad = Err(Code::BadRequest);
    for (target, host, expected) in [
        ("http://api.example.com/v1?x=1", Some("other"), Ok("http api.example.com:80 /v1?x=1")),
        ("http://API.Example.com.:80/", None, Ok("http api.example.com:80 /")),
        ("HTTPS://api.example.com/", None, Ok("https api.example.com:443 /")),
        ("http://api.example.com", None, Ok("http api.example.com:80 /")),
        ("http://api.example.com?x", None, Ok("http api.example.com:80 /?x")),
        ("http://api.example.com:8443/", None, Ok("http api.example.com:8443 /")),
        ("http://[::1]:80/", None, Ok("http [::1]:80 /")),
        ("http://user@api.example.com/", None, bad),
        ("http://api.example.com@evil.test/", None, bad),
        ("http://api.example.com:0/", None, bad),
        ("http://api.example.com:99999/", None, bad),
        ("http://api.example.com:+80/", None, bad),
        ("http:///path", None, bad),
        ("http://", None, bad),
        ("ftp://api.example.com/", None, bad),
        ("api.example.com:443", None, bad),
        ("api.example.com", None, bad),
        ("http://api.example.com/#f", None, bad),
        ("http://api.example.com/a b", None, bad),
        ("http://api.example.com\\@evil.test/", None, bad),
        ("http://2130706433/", None, bad),
        ("http://127.1/", None, bad),
        ("http://b\u{fc}cher.example/", None, bad),
    ] {
        assert_eq!(ask(&forward_listener(), Method::GET, target, host), expected.map(str::to_owned), "{target}");
    }
    assert_eq!(ask(&forward_listener(), Method::OPTIONS, "http://h", None).unwrap(), "http h:80 *");
}

#[test]
fn host_decides_for_origin_form_and_needs_a_route() {
    let bad = Err(Code::BadRequest);
    for (host, expected) in [
        (Some("api.example.com"), Ok("http api.example.com:80 /x")),
        (Some("api.example.com:8080"), Ok("http api.example.com:80 /x")), // our own port says nothing
        (Some("api.example.com:8443"), Ok("http api.example.com:8443 /x")),
        (Some("[::1]"), Ok("http [::1]:80 /x")),
        (None, bad),
        (Some(""), bad),
        (Some("a, b"), bad),
        (Some("a/evil"), bad),
        (Some("a:99999"), bad),
        (Some("u@a"), bad),
        (Some("a b"), bad),
    ] {
        assert_eq!(ask(&forward_listener(), Method::GET, "/x", host), expected.map(str::to_owned), "{host:?}");
    }
    let named = Named { method: &Method::GET, request_target: b"/", host: Some(b"a") };
    assert_eq!(decide(&forward_listener(), named).unwrap().named_by, NamedBy::Host);
}

#[test]
fn a_redirected_request_is_for_the_host_that_it_names_at_the_port_that_it_went_to() {
    let original: SocketAddr = "192.0.2.9:8443".parse().unwrap();
    let listening = Listening {
        role: Arc::new(Role::Transparent),
        local: "127.0.0.1:15001".parse().ok(),
        original: Some(original),
    };
    let bad = Err(Code::BadRequest);
    for (target, host, expected) in [
        ("/x?q", Some("API.example.com"), Ok("http api.example.com:8443 /x?q")),
        ("/x", Some("api.example.com:80"), Ok("http api.example.com:8443 /x")),
        ("http://api.example.com:80/x", Some("other"), Ok("http api.example.com:8443 /x")),
        ("/x", Some("192.0.2.7"), Ok("http 192.0.2.7:8443 /x")),
        ("/x", None, bad),
        ("/x", Some("u@a"), bad),
    ] {
        assert_eq!(ask(&listening, Method::GET, target, host), expected.map(str::to_owned), "{target} {host:?}");
    }
    let named = Named { method: &Method::GET, request_target: b"/", host: Some(b"a") };
    assert_eq!(decide(&listening, named).unwrap().named_by, NamedBy::Redirected(original));
    let straight = Listening { original: None, ..listening };
    assert_eq!(ask(&straight, Method::GET, "/x", Some("api.example.com")), Err(Code::LoopDetected));
}

#[test]
fn a_reverse_listener_has_one_target_and_wants_to_be_meant() {
    let target = Ok("https api.example.com:443 /x".to_owned());
    for (host, expected) in [
        ("127.0.0.1:9001", target.clone()),
        ("localhost", target.clone()),
        ("app.localhost:1", target.clone()),
        ("[::1]:9001", target.clone()),
        ("192.0.2.7:9001", target.clone()),
        ("api.example.com", target.clone()),
        ("a.internal.test", target.clone()),
        ("gw:9001", target),
        ("gw:9002", Err(Code::Misdirected)),
        ("evil.test", Err(Code::Misdirected)),
        ("192.0.2.8", Err(Code::Misdirected)),
        ("localhost.evil.test", Err(Code::Misdirected)),
        ("", Err(Code::BadRequest)),
    ] {
        assert_eq!(ask(&reverse_listener(None), Method::GET, "/x", Some(host)), expected, "{host}");
    }
    assert_eq!(
        ask(&reverse_listener(None), Method::GET, "http://evil.test/x", Some("localhost")),
        Err(Code::Misdirected)
    );
    assert_eq!(
        ask(&reverse_listener(Some("/base")), Method::GET, "/x?q", Some("localhost")).unwrap(),
        "https api.example.com:443 /base/x?q"
    );
}

#[test]
fn the_path_of_a_reverse_upstream_cannot_be_left() {
    let ask = |path| ask(&reverse_listener(Some("/base")), Method::GET, path, Some("localhost"));
    assert_eq!(ask("/a/../b?x=/../y").unwrap(), "https api.example.com:443 /base/b?x=/../y");
    assert_eq!(ask("/../admin"), Err(Code::BadRequest));
    assert_eq!(ask("/%2e%2e/admin"), Err(Code::BadRequest));
}

#[test]
fn trace_is_refused_everywhere() {
    assert_eq!(ask(&forward_listener(), Method::TRACE, "http://h/", None), Err(Code::MethodNotAllowed));
    assert_eq!(
        ask(&forward_listener(), Method::from_bytes(b"TrAcE").unwrap(), "http://h/", None),
        Err(Code::MethodNotAllowed)
    );
    assert_eq!(
        ask(&reverse_listener(None), Method::from_bytes(b"TRACK").unwrap(), "/", Some("localhost")),
        Err(Code::MethodNotAllowed)
    );
}

#[test]
fn paths_join_with_one_slash() {
    for (base, rest, joined) in [
        ("/resource", "", "/resource"),
        ("/resource", "/1?x", "/resource/1?x"),
        ("/resource", "?x", "/resource?x"),
        ("/resource", "1", "/resource/1"),
        ("/resource/", "1", "/resource/1"),
        ("/resource/", "/1", "/resource/1"),
        ("/resource/", "", "/resource/"),
        ("/resource/", "?x", "/resource/?x"),
        ("/resource/", "/", "/resource/"),
        ("/resource", "/", "/resource/"),
    ] {
        assert_eq!(join(base, rest), joined, "{base} + {rest}");
    }
}
