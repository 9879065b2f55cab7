use super::*;
use crate::config::Scheme;

fn environment(variables: &[(&str, &str)]) -> Result<(Egress, Vec<Oddity>), Unusable> {
    read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
}

#[test]
fn variables_count_in_curls_order() {
    for (variables, http, https) in [
        (&[][..], None, None),
        (&[("http_proxy", "http://a:1")], Some("http://a:1"), None),
        (&[("HTTP_PROXY", "http://a:1")], Some("http://a:1"), None),
        (&[("http_proxy", "http://a:1"), ("HTTP_PROXY", "http://b:1")], Some("http://a:1"), None),
        (&[("http_proxy", ""), ("HTTP_PROXY", "http://b:1")], Some("http://b:1"), None),
        (&[("https_proxy", "http://a:1"), ("HTTPS_PROXY", "http://b:1")], None, Some("http://a:1")),
        (&[("HTTPS_PROXY", "http://b")], None, Some("http://b:80")),
        (&[("ALL_PROXY", "http://a:1")], Some("http://a:1"), Some("http://a:1")),
        (&[("all_proxy", "http://a:1"), ("ALL_PROXY", "http://b:1")], Some("http://a:1"), Some("http://a:1")),
        (&[("ALL_PROXY", "http://a:1"), ("HTTPS_PROXY", "http://b:1")], Some("http://a:1"), Some("http://b:1")),
        // A server for CGI takes HTTP_PROXY from the field `Proxy:` of a request.
        (&[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://a:1")], None, None),
        (&[("REQUEST_METHOD", "GET"), ("http_proxy", "http://a:1")], Some("http://a:1"), None),
        (&[("HTTPS_PROXY", "proxy:3128")], None, Some("http://proxy:3128")),
        (&[("HTTPS_PROXY", "user:p%40ss@proxy:3128")], None, Some("http://proxy:3128")),
    ] {
        let (egress, _) = environment(variables).unwrap();
        let name = |scheme| egress.through(scheme, "example.com").map(|proxy| proxy.name());
        let found = (name(Scheme::Http), name(Scheme::Https));
        assert_eq!(found, (http.map(str::to_owned), https.map(str::to_owned)), "{variables:?}");
    }
}

#[test]
fn no_proxy_is_read_and_its_oddities_told() {
    let all = ("ALL_PROXY", "http://a:1");
    for (variables, expected) in [
        (&[all, ("NO_PROXY", "a.test")][..], "a.test"),
        (&[all, ("no_proxy", "b.test"), ("NO_PROXY", "a.test")], "b.test"),
        (&[all, ("no_proxy", ""), ("NO_PROXY", "a.test")], "a.test"),
        (&[all, ("NO_PROXY", "*")], "*"),
    ] {
        assert_eq!(environment(variables).unwrap().0.no_proxy.to_string(), expected, "{variables:?}");
    }
    assert_eq!(environment(&[all, ("NO_PROXY", "*.a.test")]).unwrap().1.len(), 1);
}

#[test]
fn another_kind_of_proxy_is_no_reason_to_go_directly() {
    for (variable, value) in
        [("https_proxy", "socks5://canary@a:1"), ("ALL_PROXY", "https://canary@a"), ("http_proxy", "http://")]
    {
        let unusable = environment(&[(variable, value)]).unwrap_err();
        assert_eq!(unusable.variable, variable);
        assert!(!format!("{unusable:?}").contains("canary"));
    }
}
