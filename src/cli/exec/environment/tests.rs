//! What becomes of an environment.

use std::collections::BTreeMap;

use super::*;
use crate::config;

/// The new environment and the warnings, for a route to this host.
fn changed(host: &str, before: &[(&str, &str)]) -> (BTreeMap<String, Option<String>>, Vec<String>) {
    let toml = format!(
        "[profiles.p]\ntoken_endpoint = \"https://auth.test/token\"\nclient_id = \"id\"\nclient_secret = {{ env = \"CLIENT_SECRET\" }}\n\
         [[routes]]\nhost = \"{host}\"\nprofile = \"p\"\n"
    );
    let config = config::parse(&toml, "proxy.toml", Path::new("."), &config::System).unwrap().config;
    let surroundings = Surroundings { proxy: "127.0.0.1:1234".parse().unwrap(), config: &config, trust: None };
    let variable = |name: &str| before.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
    let (changes, warnings) = surroundings.changes(&variable);
    let changes = changes.into_iter().map(|(name, value)| (name, value.map(|v| v.into_string().unwrap()))).collect();
    (changes, warnings.into_iter().map(|warning| warning.what).collect())
}

/// A route's host, what was set before, `NO_PROXY` after, and a part of each warning.
type Row = (&'static str, &'static [(&'static str, &'static str)], &'static str, &'static [&'static str]);

#[test]
fn the_proxy_is_set_in_every_spelling_and_the_secret_is_gone() {
    let (changes, warnings) = changed("api.test", &[("HTTP_PROXY", "http://corporate:3128"), ("CLIENT_SECRET", "x")]);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "grpc_proxy"] {
        assert_eq!(changes[name].as_deref(), Some("http://127.0.0.1:1234"), "{name}");
    }
    assert_eq!(changes["CLIENT_SECRET"], None);
    assert_eq!(changes["NODE_USE_ENV_PROXY"].as_deref(), Some("1"));
    assert!(!changes.contains_key("ALL_PROXY") && !changes.contains_key("SSL_CERT_FILE"));
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(!changed("api.test", &[("NODE_USE_ENV_PROXY", "0")]).0.contains_key("NODE_USE_ENV_PROXY"));
}

#[test]
fn no_proxy_keeps_what_was_there_and_this_machine_is_added_unless_a_route_is_for_it() {
    let rows: &[Row] = &[
        ("api.test", &[], "localhost,127.0.0.1,::1", &[]),
        (
            "api.test",
            &[("NO_PROXY", "a.test, .b.test,10.0.0.0/8")],
            "a.test,.b.test,10.0.0.0/8,localhost,127.0.0.1,::1",
            &[],
        ),
        (
            "api.test",
            &[("NO_PROXY", "a.test,x"), ("no_proxy", "c.test,x")],
            "a.test,x,c.test,localhost,127.0.0.1,::1",
            &[],
        ),
        ("api.test", &[("no_proxy", "127.0.0.1")], "127.0.0.1,localhost,::1", &[]),
        ("localhost", &[], "127.0.0.1,::1", &[]),
        ("api.localhost:8443", &[], "127.0.0.1,::1", &[]),
        ("127.0.0.1", &[], "localhost,::1", &[]),
        ("[::1]", &[], "localhost,127.0.0.1", &[]),
        (
            "api.test",
            &[("NO_PROXY", "test")],
            "test,localhost,127.0.0.1,::1",
            &["\"test\" keeps requests for api.test"],
        ),
        ("*.api.test", &[("NO_PROXY", ".API.test:443")], ".API.test:443,localhost,127.0.0.1,::1", &["for *.api.test"]),
        ("api.test", &[("no_proxy", "*")], "*", &["\"*\" keeps requests for api.test"]),
        ("api.test", &[("NO_PROXY", "pi.test,i.api.test")], "pi.test,i.api.test,localhost,127.0.0.1,::1", &[]),
    ];
    for (host, before, expected, told) in rows {
        let (changes, warnings) = changed(host, before);
        for name in NO_PROXY {
            assert_eq!(changes[name].as_deref(), Some(*expected), "{host} {before:?}");
        }
        assert_eq!(warnings.len(), told.len(), "{warnings:?}");
        assert!(warnings.iter().zip(*told).all(|(warning, part)| warning.contains(part)), "{warnings:?}");
    }
}

#[test]
fn java_gets_the_same_in_its_own_words() {
    let proxy = "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=1234 -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=1234";
    for (before, expected) in [
        (&[][..], format!("{proxy} -Dhttp.nonProxyHosts=localhost|*.localhost|127.0.0.1|[::1]")),
        (
            &[("JAVA_TOOL_OPTIONS", "-Xmx1g"), ("NO_PROXY", ".in.test,10.0.0.0/8,a.test:80,b.test")][..],
            format!(
                "-Xmx1g {proxy} -Dhttp.nonProxyHosts=*.in.test|b.test|*.b.test|localhost|*.localhost|127.0.0.1|[::1]"
            ),
        ),
        (&[("JAVA_TOOL_OPTIONS", "-Dhttp.nonProxyHosts=x")][..], format!("-Dhttp.nonProxyHosts=x {proxy}")),
        (&[("NO_PROXY", "*")][..], format!("{proxy} -Dhttp.nonProxyHosts=*")),
    ] {
        assert_eq!(changed("api.test", before).0["JAVA_TOOL_OPTIONS"].as_deref(), Some(expected.as_str()));
    }
}
