use std::time::Duration;

use super::{
    path::normalise,
    pattern::{Host, HostError, HostPattern, PathPrefix, split_authority},
    *,
};

fn route(host: &str, prefix: Option<&str>, methods: Option<&[Method]>) -> Route {
    Route {
        host: HostPattern::parse(host).unwrap(),
        path_prefix: prefix.map(|p| PathPrefix::parse(p).unwrap()),
        methods: methods.map(<[Method]>::to_vec),
        profile: None,
        upstream: None,
        ca_file: None,
        server_name: None,
        egress_proxy: std::sync::Arc::default(),
        connect_timeout: Duration::ZERO,
        response_timeout: Duration::ZERO,
        intercept: false,
        line: 0,
    }
}

type Row = (&'static str, &'static str, Option<&'static str>, Option<&'static [Method]>);

fn table(routes: &[Row]) -> Table<&'static str> {
    Table::new(routes.iter().map(|(name, host, prefix, methods)| (route(host, *prefix, *methods), *name)))
}

#[test]
fn the_most_specific_route_wins_whatever_the_order() {
    let mut routes: Vec<Row> = vec![
        ("any", "*.example.com", None, None),
        ("longer", "*.api.example.com", None, None),
        ("exact", "api.example.com", None, None),
        ("port", "api.example.com:8443", None, None),
        ("v1", "api.example.com", Some("/v1"), None),
        ("v1-admin", "api.example.com", Some("/v1/admin/"), None),
        ("v1-get", "api.example.com", Some("/v1"), Some(&[Method::GET])),
    ];
    for _ in 0..2 {
        let table = table(&routes);
        for (host, port, path, method, expected) in [
            ("api.example.com", 443, "/", Method::GET, Some("exact")),
            ("api.example.com", 8443, "/v1/x", Method::GET, Some("port")),
            ("api.example.com", 443, "/v1", Method::POST, Some("v1")),
            ("api.example.com", 443, "/v1/x", Method::GET, Some("v1-get")),
            ("api.example.com", 443, "/v1/admin", Method::GET, Some("v1-get")),
            ("api.example.com", 443, "/v1/admin/x", Method::GET, Some("v1-admin")),
            ("api.example.com", 443, "/v10", Method::GET, Some("exact")),
            ("www.example.com", 443, "/v1", Method::GET, Some("any")),
            ("a.api.example.com", 443, "/", Method::GET, Some("longer")),
            ("a.b.api.example.com", 443, "/", Method::GET, Some("longer")),
            ("example.com", 443, "/", Method::GET, None),
            ("evil-api.example.com.evil.test", 443, "/", Method::GET, None),
            ("evilexample.com", 443, "/", Method::GET, None),
            ("api.example.com.evil.test", 443, "/", Method::GET, None),
        ] {
            let found = table.find(host, port, path, &method).unwrap().copied();
            assert_eq!(found, expected, "{method} {host}:{port}{path}");
        }
        routes.reverse();
    }
}

#[test]
fn a_less_specific_host_serves_where_the_path_of_the_more_specific_one_does_not_match() {
    let table = table(&[("v1", "api.example.com", Some("/v1/"), None), ("rest", "*.example.com", None, None)]);
    assert_eq!(table.find("api.example.com", 443, "/v2/", &Method::GET), Ok(Some(&"rest")));
}

#[test]
fn a_path_matches_a_prefix_only_if_it_does_so_however_it_is_read() {
    let table = table(&[("v1", "h", Some("/v1/"), None)]);
    let (yes, no, ambiguous) = (Ok(Some(&"v1")), Ok(None), Err(Ambiguous));
    for (path, expected) in [
        ("/v1/x", yes),
        ("/v1/./x", yes),
        ("/x/../v1/y", yes),
        ("/%76%31/x", yes),
        ("/v1/group%2Fproject", yes), // the same route whether or not %2F separates
        ("/v1/a%5cb", yes),
        ("/v1/a\\b", yes),
        ("/v1/%2e%2e/admin", no),
        ("/v1/../admin", no),
        ("/v1", no),
        ("/V1/x", no),
        ("/other/a%2Fb", no),
        ("/v1/..%2fadmin", ambiguous),
        ("/v1/x%2f..%2f..%2fadmin", ambiguous),
        ("/v1%2fx", ambiguous),
        ("/admin%2f..%2fv1/x", ambiguous),
        ("/v1\\x", ambiguous),
        ("/v1/..\\x", ambiguous),
        ("/v1/..%5cx", ambiguous),
        ("//v1/x", ambiguous),
        ("/v1//x", yes),
        ("/../v1/x", no),
        ("/v1/%", no),
        ("/v1/%zz", no),
        ("/v1/%00", no),
        ("/v1/..;/admin", no),
        ("/v1/%2e%2e;a=b/admin", no),
    ] {
        assert_eq!(table.find("h", 443, path, &Method::GET), expected, "{path}");
    }
}

#[test]
fn a_route_without_a_prefix_takes_any_path_unless_a_prefix_might() {
    let table = table(&[("v1", "h", Some("/v1"), None), ("rest", "h", None, None)]);
    for (path, expected) in [
        ("/a%2fb", Ok(Some(&"rest"))),
        ("/%zz", Ok(Some(&"rest"))),
        ("//a", Ok(Some(&"rest"))),
        ("/v1%2fx", Err(Ambiguous)),
        ("//v1", Err(Ambiguous)),
        ("/%2fv1", Err(Ambiguous)),
    ] {
        assert_eq!(table.find("h", 443, path, &Method::GET), expected, "{path}");
    }
}

#[test]
fn paths_have_one_normal_form() {
    for (path, normal) in [
        ("/", Some("/")),
        ("/a/b", Some("/a/b")),
        ("/a/./b/", Some("/a/b/")),
        ("/a/..", Some("/")),
        ("/a/b/..", Some("/a/")),
        ("/a/.", Some("/a/")),
        ("/.well-known/x", Some("/.well-known/x")),
        ("/a%7Eb%c3%a9", Some("/a~b%C3%A9")),
        ("/..", None),
        ("/a/../../b", None),
    ] {
        assert_eq!(normalise(path).as_deref(), normal, "{path}");
    }
}

#[test]
fn hosts_are_normalised_or_refused() {
    for (text, expected) in [
        ("API.Example.COM", Ok("api.example.com")),
        ("api.example.com.", Ok("api.example.com")),
        ("127.0.0.1", Ok("127.0.0.1")),
        ("[::1]", Ok("::1")),
        ("[0:0:0:0:0:0:0:1]", Ok("::1")),
        ("my_host", Ok("my_host")),
        ("xn--bcher-kva.example", Ok("xn--bcher-kva.example")),
        ("", Err(HostError::Empty)),
        (".", Err(HostError::Empty)),
        ("a..b", Err(HostError::EmptyLabel)),
        ("a.b..", Err(HostError::EmptyLabel)),
        ("b\u{fc}cher.example", Err(HostError::Character)),
        ("a b", Err(HostError::Character)),
        ("a%2eb", Err(HostError::Character)),
        ("a,b", Err(HostError::Character)),
        ("a/b", Err(HostError::Character)),
        ("[::1", Err(HostError::Bracket)),
        ("[127.0.0.1]", Err(HostError::Bracket)),
        ("[fe80::1%25eth0]", Err(HostError::Bracket)),
        ("2130706433", Err(HostError::OddAddress)),
        ("0x7f000001", Err(HostError::OddAddress)),
        ("127.1", Err(HostError::OddAddress)),
        ("0177.0.0.1", Err(HostError::OddAddress)),
    ] {
        assert_eq!(Host::parse(text).as_ref().map(Host::as_str).map_err(|e| *e), expected, "{text}");
    }
    assert_eq!(Host::parse(&"a".repeat(64)), Err(HostError::TooLong));
    assert_eq!(Host::parse(&"a.".repeat(127)).map(|_| ()), Ok(()));
    assert_eq!(Host::parse(&"ab.".repeat(86)), Err(HostError::TooLong));
}

#[test]
fn ports_are_strict() {
    for (text, expected) in [
        ("h", Ok(None)),
        ("h:", Ok(None)),
        ("h:80", Ok(Some(80))),
        ("h:65535", Ok(Some(65535))),
        ("[::1]:80", Ok(Some(80))),
        ("h:0", Err(HostError::Port)),
        ("h:+80", Err(HostError::Port)),
        ("h:080", Err(HostError::Port)),
        ("h:65536", Err(HostError::Port)),
        ("h:99999", Err(HostError::Port)),
        ("h:8 0", Err(HostError::Port)),
        ("h:80:80", Err(HostError::Port)),
        ("u@h", Err(HostError::UserInfo)),
        ("[::1]x", Err(HostError::Bracket)),
        ("::1", Err(HostError::Port)),
    ] {
        assert_eq!(split_authority(text).map(|(_, port)| port), expected, "{text}");
    }
}

#[test]
fn patterns_match_whole_labels() {
    for (pattern, host, port, expected) in [
        ("example.com", "example.com", 443, true),
        ("example.com", "a.example.com", 443, false),
        ("*.example.com", "a.example.com", 443, true),
        ("*.example.com", "a.b.example.com", 443, true),
        ("*.example.com", "example.com", 443, false),
        ("*.example.com", ".example.com", 443, false),
        ("*.example.com", "evilexample.com", 443, false),
        ("example.com:8443", "example.com", 443, false),
        ("example.com:8443", "example.com", 8443, true),
        ("example.com:443", "example.com", 80, true), // http://example.com/ goes out to 443
        ("example.com:443", "example.com", 8080, false),
        ("example.com:80", "example.com", 443, false),
        ("[::1]:80", "::1", 80, true),
    ] {
        assert_eq!(HostPattern::parse(pattern).unwrap().matches(host, port), expected, "{pattern} {host}:{port}");
    }
    for bad in ["*", "*example.com", "a.*.com", "*.*.com", "*.127.0.0.1", "*.", "", "*.[::1]"] {
        assert!(HostPattern::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn prefixes_have_to_be_in_normal_form() {
    for (text, good) in [
        ("/", true),
        ("/v1", true),
        ("/v1/", true),
        ("/~user", true),
        ("v1", false),
        ("/v1?x", false),
        ("/v1/../v2", false),
        ("/%7Euser", false),
        ("/a%2fb", false),
        ("", false),
    ] {
        assert_eq!(PathPrefix::parse(text).is_ok(), good, "{text}");
    }
    assert_eq!(PathPrefix::parse("/foo").unwrap().rest_of("/foo/1"), Some("/1"));
    assert_eq!(PathPrefix::parse("/").unwrap().rest_of("/foo"), Some("foo"));
}

/// What is taken for plain is read in one way, by both readings.
#[test]
fn a_plain_path_is_what_it_looks_like() {
    let pieces = ["/", ".", "..", "a", "b.c", "%", "%2f", "%41", "\\", "//", ";x", "-_~"];
    let mut random = fastrand::Rng::with_seed(1);
    let mut plain = 0;
    for _ in 0..20_000 {
        let text: String = (0..random.usize(0..6)).map(|_| pieces[random.usize(..pieces.len())]).collect();
        let text = format!("/{text}");
        if path::is_plain(&text) {
            plain += 1;
            assert_eq!(normalise(&text).as_deref(), Some(&*text));
            assert!(!path::has_hidden_separator(&text), "{text}");
        }
    }
    assert!(plain > 1000, "{plain}");
}
