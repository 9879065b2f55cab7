//! `egress_proxy`, of the file, of a profile and of a route.

use super::*;
use crate::config::Scheme;

/// A good configuration with these as the first lines of `[egress_proxy]`.
fn in_egress(lines: &str) -> String {
    format!("[egress_proxy]\n{lines}\n{MINIMAL}")
}

/// The proxies of tunnels, of the profile and of the route, for a host over https.
fn ways(config: &Config, host: &str) -> [Option<String>; 3] {
    let CredentialKind::OAuth2(oauth2) = &config.profiles["p"].kind else { panic!("not OAuth2") };
    [&config.egress_proxy, &oauth2.egress_proxy, &config.routes[0].egress_proxy]
        .map(|egress| egress.through(Scheme::Https, host).map(|proxy| proxy.name()))
}

#[test]
fn what_says_nothing_takes_the_files_and_what_says_something_takes_its_own() {
    let file = "[egress_proxy]\nurl = \"http://a:1\"\nno_proxy = \"direct.test\"\n";
    for (text, host, expected) in [
        (MINIMAL.to_owned(), "x.test", [None, None, None]),
        (format!("{file}{MINIMAL}"), "x.test", [Some("a"), Some("a"), Some("a")]),
        (format!("{file}{MINIMAL}"), "direct.test", [None, None, None]),
        (format!("egress_proxy = \"http://a:1\"\n{MINIMAL}"), "direct.test", [Some("a"), Some("a"), Some("a")]),
        (format!("{file}{}", in_profile("egress_proxy = \"none\"")), "x.test", [Some("a"), None, Some("a")]),
        (format!("{file}{}", in_route("egress_proxy = \"none\"")), "x.test", [Some("a"), Some("a"), None]),
        (format!("{file}{}", in_route("egress_proxy = \"http://b:1\"")), "x.test", [Some("a"), Some("a"), Some("b")]),
        // An own proxy has an own no_proxy.
        (format!("{file}{}", in_route("egress_proxy = \"http://b:1\"")), "direct.test", [None, None, Some("b")]),
        (
            in_profile("egress_proxy = { url = \"http://b:1\", no_proxy = [\".test\"] }"),
            "x.example",
            [None, Some("b"), None],
        ),
        (in_profile("egress_proxy = { url = \"http://b:1\", no_proxy = [\".test\"] }"), "x.test", [None, None, None]),
    ] {
        let expected = expected.map(|host| host.map(|host| format!("http://{host}:1")));
        assert_eq!(ways(&good(&text), host), expected, "{host} in:\n{text}");
    }
}

#[test]
fn mistakes() {
    let both = "username = \"u\"\npassword = { env = \"SECRET\" }";
    for (lines, line, key, what, hint) in [
        ("", 1, "", "`url` is missing", "environment = true"),
        ("url = 1", 2, ".url", "the number 1", "a string"),
        ("url = \"https://proxy\"", 2, ".url", "not http://", "write http://HOST:PORT"),
        ("url = \"proxy:3128\"", 2, ".url", "not http://", "write http://HOST:PORT"),
        ("url = \"http://proxy/x\"", 2, ".url", "a path", "write http://HOST:PORT"),
        ("url = \"http://proxy\"\nurls = 1", 3, ".urls", "unknown key", "did you mean `url`"),
        ("url = \"http://proxy\"\nusername = \"u\"", 3, ".username", "without `password`", "password = "),
        (
            "url = \"http://proxy\"\npassword = { env = \"SECRET\" }",
            3,
            ".password",
            "without `username`",
            "username = ",
        ),
        (
            "url = \"http://proxy\"\nusername = \"a:b\"\npassword = { env = \"SECRET\" }",
            3,
            ".username",
            "no name for HTTP Basic",
            "no colon",
        ),
        ("url = \"http://proxy\"\nno_proxy = \"*.a.test\"", 3, ".no_proxy", "a wildcard", ".example.com"),
        ("url = \"http://proxy\"\nno_proxy = [\"a\", \"b:80\"]", 3, ".no_proxy", "a port", "every port"),
        ("environment = true\nurl = \"http://proxy\"", 3, ".url", "beside `environment", "not both"),
        ("url = \"http://127.0.0.1:8080\"", 1, "", "lanyard's own listener", "never proxies to itself"),
        ("url = \"http://localhost:9090\"", 1, "", "lanyard's own listener", "never proxies to itself"),
    ] {
        let text = in_egress(lines);
        let told = parse_in(&text, &machine().with_value("HTTPS_PROXY", "http://proxy:3128")).unwrap_err();
        let errors: Vec<&Problem> = told.errors().collect();
        let [error] = errors.as_slice() else { panic!("{} errors in:\n{text}\n{told}", errors.len()) };
        let key = if key.starts_with('.') { format!("egress_proxy{key}") } else { "egress_proxy".to_owned() };
        assert_problem(error, (&text, line, &key, what, hint));
    }
    good(&in_egress(&format!("url = \"http://proxy\"\n{both}")));
    assert_lines(
        in_route,
        "routes[0]",
        &[
            ("egress_proxy = 1", "egress_proxy", "an integer", "\"none\""),
            ("egress_proxy = \"None\"", "egress_proxy", "no URL", "http://HOST:PORT"),
            ("egress_proxy = { }", "egress_proxy", "`url` is missing", "url = "),
            (
                "egress_proxy = { url = \"http://p\", colour = 1 }",
                "egress_proxy.colour",
                "unknown key",
                "the keys here",
            ),
        ],
    );
}

#[test]
fn warnings_are_told() {
    let literal = "url = \"http://proxy\"\nusername = \"u\"\npassword = \"canary\"";
    let loopback = "upstream = \"http://127.0.0.1:81\"\negress_proxy = \"http://proxy\"";
    for (text, line, key, what, hint) in [
        (in_egress(literal), 4, "egress_proxy.password", "a secret in the configuration itself", "file"),
        (
            in_profile("egress_proxy = \"http://user:canary@proxy\""),
            2,
            "profiles.p.egress_proxy",
            "a secret in the configuration itself",
            "password = { file",
        ),
        (in_route(loopback), 3, "routes[0].egress_proxy", "127.0.0.1 is reached through", "no_proxy"),
        (in_egress("environment = true"), 2, "egress_proxy.environment", "no proxy is named", "HTTPS_PROXY"),
    ] {
        let warnings = warnings(&text, &machine());
        let [warning] = warnings.as_slice() else { panic!("{text}\n{warnings:#?}") };
        assert_problem(warning, (&text, line, key, what, hint));
        assert!(!warning.to_string().contains("canary"));
    }
}

#[test]
fn the_environment_counts_where_it_is_asked_for_and_nowhere_else() {
    let environment = machine()
        .with_value("HTTPS_PROXY", "http://user:canary@a:1")
        .with_value("NO_PROXY", "direct.test")
        .with_value("HTTP_PROXY", "http://b:1");
    let load = |text: &str| parse_in(text, &environment).unwrap();
    assert_eq!(ways(&load(MINIMAL).config, "x.test"), [None, None, None]);
    let a = Some("http://a:1".to_owned());
    let asked = load(&in_egress("environment = true"));
    assert_eq!(asked.warnings, []);
    assert_eq!(ways(&asked.config, "x.test"), [a.clone(), a.clone(), a.clone()]);
    assert_eq!(ways(&asked.config, "direct.test"), [None, None, None]);
    assert!(!format!("{asked:?}").contains("canary"));
    // What is written goes before NO_PROXY.
    let config = load(&in_egress("environment = true\nno_proxy = \"other.test\"")).config;
    assert_eq!(ways(&config, "direct.test"), [a.clone(), a.clone(), a.clone()]);
    assert_eq!(ways(&config, "other.test"), [None, None, None]);
    let config = load(&in_route("egress_proxy = { environment = true }")).config;
    assert_eq!(ways(&config, "x.test"), [None, None, a]);

    let socks = machine().with_value("ALL_PROXY", "socks5://user:canary@a:1");
    let text = in_egress("environment = true");
    let error = parse_in(&text, &socks).unwrap_err();
    assert_problem(&error.0[0], (&text, 2, "egress_proxy.environment", "ALL_PROXY names", "http://HOST:PORT"));
    assert!(!error.to_string().contains("canary"));
}
