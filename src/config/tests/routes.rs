//! What can be wrong with `[[routes]]`, and which of them meet.

use super::*;

#[test]
fn keys_of_a_route() {
    assert_lines(
        in_route,
        "routes[0]",
        &[
            ("hots = \"a.test\"", "hots", "unknown key", "did you mean `host`?"),
            ("path = \"/v1\"", "path", "unknown key", "did you mean `path_prefix`?"),
            ("colour = 1", "colour", "unknown key", "the keys here are: host, path_prefix"),
            ("host = 1", "host", "the number 1", "write a string"),
            ("host = \"\"", "host", "the host is empty", "\"api.example.com\""),
            ("host = \"https://api.example.com\"", "host", "is no host", "no scheme, no path"),
            ("host = \"api.example.com/v1\"", "host", "is no host", "no scheme, no path"),
            ("host = \"api.example.com:0\"", "host", "port is not a number", "\":PORT\""),
            ("host = \"api..example.com\"", "host", "a label of the host is empty", "\"*.example.com\""),
            ("host = \"bücher.example\"", "host", "a character that is not", "\"api.example.com\""),
            ("host = \"0x7f.1\"", "host", "unusual form", "\"api.example.com\""),
            ("host = \"*\"", "host", "a wildcard is", "\"*.example.com\""),
            ("host = \"api.*.com\"", "host", "a wildcard is", "\"*.example.com\""),
            ("host = \"*.com\"", "host", "\"*.com\" means a whole top-level domain", "two labels after \"*.\""),
            ("host = \"*.com:443\"", "host", "a whole top-level domain", "two labels"),
            ("path_prefix = \"v1\"", "path_prefix", "\"v1\" is no path prefix", "write \"/v1\""),
            ("path_prefix = \"\"", "path_prefix", "\"\" is no path prefix", "write \"/\""),
            ("path_prefix = \"/a/../b\"", "path_prefix", "is no path prefix", "in its normal form: \"/b\""),
            ("path_prefix = \"/%7Ea\"", "path_prefix", "is no path prefix", "in its normal form: \"/~a\""),
            ("path_prefix = \"/a%2fb\"", "path_prefix", "is no path prefix", "ambiguous"),
            ("path_prefix = \"/a?b\"", "path_prefix", "is no path prefix", "no query"),
            ("path_prefix = \"/a b\"", "path_prefix", "that no request's path has", "percent-encoded"),
            ("path_prefix = \"/é\"", "path_prefix", "that no request's path has", "percent-encoded"),
            ("methods = \"GET\"", "methods", "a string", "a list of strings"),
            ("methods = []", "methods", "no method at all", "leave the key out for every method"),
            ("methods = [\"get\"]", "methods", "\"get\" is no method", "\"GET\""),
            ("methods = [\"GET\", \"GET\"]", "methods", "GET twice", "name it once"),
            ("methods = [\"CONNECT\"]", "methods", "the method CONNECT", "remove it"),
            ("methods = [\"TRACE\"]", "methods", "the method TRACE", "remove it"),
            ("methods = [\"\"]", "methods", "\"\" is no method", "\"GET\""),
            ("methods = [\"A B\"]", "methods", "\"A B\" is no method", "\"GET\""),
            ("profile = \"q\"", "profile", "there is no profile \"q\"", "did you mean \"p\"?"),
            ("profile = \"non\"", "profile", "there is no profile \"non\"", "did you mean \"none\"?"),
            ("profile = \"payments\"", "profile", "there is no profile", "define [profiles.payments], or write one of"),
            ("profile = false", "profile", "false", "write a string"),
            ("upstream = \"api.example.com\"", "upstream", "no http or https URL", "https://HOST[:PORT][/PATH]"),
            ("upstream = \"wss://api.example.com\"", "upstream", "no http or https URL", "https://HOST"),
            ("upstream = \"https://\"", "upstream", "the host is empty", "https://HOST"),
            ("upstream = \"https://u:p@a.test\"", "upstream", "the authority has userinfo", "https://HOST"),
            ("upstream = \"https://a.test:99999\"", "upstream", "the port is not", "https://HOST"),
            ("upstream = \"https://a.test?x\"", "upstream", "a query or a fragment", "https://HOST"),
            ("upstream = \"https://a.test/x#y\"", "upstream", "a query or a fragment", "https://HOST"),
            ("upstream = \"https://a.test/x/../y\"", "upstream", "not in its normal form", "without dots"),
            ("upstream = \"https://a.test/a%2fb\"", "upstream", "not in its normal form", "without dots"),
            ("upstream = \"https://a.test/a b\"", "upstream", "not in its normal form", "percent-encoded"),
            ("server_name = \"a b\"", "server_name", "\"a b\" is no server name", "the name in the certificate"),
            (
                "server_name = \"a.test\"\nupstream = \"http://127.0.0.1\"",
                "server_name",
                "`server_name` with an upstream of http://",
                "there is no TLS there",
            ),
            ("connect_timeout = 5", "connect_timeout", "the number 5", "a duration with its unit"),
            ("connect_timeout = \"0s\"", "connect_timeout", "no time at all", "leave it out for 5s"),
            ("response_timeout = \"0s\"", "response_timeout", "no time at all", "leave it out for 60s"),
        ],
    );
}

#[test]
fn what_a_route_must_say() {
    let text = "\n\n[[routes]]\npath_prefix = \"/\"\n";
    let errors = errors(text);
    let [host, profile] = errors.as_slice() else { panic!("{errors:#?}") };
    assert_problem(host, (text, 3, "routes[0]", "`host` is missing", "write host = \"api.example.com\""));
    assert_problem(profile, (text, 3, "routes[0]", "`profile` is missing", "\"none\" to forward bare"));
}

#[test]
fn a_profile_that_is_wrong_itself_is_still_found_by_routes() {
    let text = MINIMAL.replace("client_id = \"client\"", "client_id = \"\"");
    assert_rows(&[(&text, 4, "profiles.p.client_id", "an empty string", "")]);
}

#[test]
fn equally_specific_routes_name_both_lines() {
    for (one, other) in [
        ("host = \"a.test\"", "host = \"A.test.\""),
        ("host = \"*.a.test:443\"", "host = \"*.A.test:443\""),
        ("host = \"[::1]\"", "host = \"[0:0::1]\""),
        ("host = \"a.test\"\npath_prefix = \"/v1\"", "host = \"a.test\"\npath_prefix = \"/v1\""),
        ("host = \"a.test\"\nmethods = [\"GET\", \"PUT\"]", "host = \"a.test\"\nmethods = [\"PUT\"]"),
    ] {
        let text = format!(
            "[[routes]]\nprofile = \"none\"\n{one}\n\n[[routes]]\nhost = \"b.test\"\nprofile = \"none\"\n\n\
             [[routes]]\nprofile = \"none\"\n{other}\n"
        );
        let line = text.lines().enumerate().filter(|(_, line)| *line == "[[routes]]").last().unwrap().0 + 1;
        assert_rows(&[(&text, line, "routes[2]", "the route of line 1, equally well", "tell them apart")]);
    }
}

#[test]
fn routes_that_can_be_told_apart() {
    for (one, other) in [
        ("host = \"a.test\"", "host = \"*.a.test\""),
        ("host = \"a.test\"", "host = \"a.test:443\""),
        ("host = \"*.a.test\"", "host = \"*.b.a.test\""),
        ("host = \"a.test\"", "host = \"a.test\"\npath_prefix = \"/\""),
        ("host = \"a.test\"\npath_prefix = \"/v1\"", "host = \"a.test\"\npath_prefix = \"/v1/\""),
        ("host = \"a.test\"\nmethods = [\"GET\"]", "host = \"a.test\""),
        ("host = \"a.test\"\nmethods = [\"GET\"]", "host = \"a.test\"\nmethods = [\"HEAD\", \"POST\"]"),
    ] {
        good(&format!("[[routes]]\nprofile = \"none\"\n{one}\n[[routes]]\nprofile = \"none\"\n{other}\n"));
    }
}

#[test]
fn a_token_in_clear_text_is_worth_a_warning_off_loopback() {
    let text = in_route("upstream = \"http://10.0.0.7\"");
    let warnings = warnings(&text, &machine());
    let [warning] = warnings.as_slice() else { panic!("{warnings:#?}") };
    assert_problem(warning, (&text, 2, "routes[0].upstream", "goes out in clear text", "write https://"));
    good(&in_route("upstream = \"http://localhost:8081\""));
    good("[[routes]]\nhost = \"a.test\"\nprofile = \"none\"\nupstream = \"http://10.0.0.7\"\n");
}

#[test]
fn a_route_narrows_its_token() {
    let text = r#"
[profiles.p]
token_endpoint = "https://auth.example.com/token"
client_id = "client"
client_secret = { env = "SECRET" }
scope = "read write"
audience = "https://all.example.com"

[[routes]]
host = "a.example.com"
path_prefix = "/v1"
profile = "p"
scope = ["read"]

[[routes]]
host = "b.example.com"
profile = "p"
scope = "read"

[[routes]]
host = "a.example.com"
path_prefix = "/v1"
methods = ["POST"]
profile = "p"
resource = "https://one.example.com"

[[routes]]
host = "c.example.com"
profile = "p"
audience = "https://c.example.com"
"#;
    let config = good(text);
    let names: Vec<&str> = config.profiles.keys().map(|name| &**name).collect();
    assert_eq!(names, ["p", "p@a.example.com/v1", "p@a.example.com/v1#2", "p@c.example.com"]);
    let used: Vec<&str> = config.routes.iter().filter_map(|route| route.profile.as_deref()).collect();
    assert_eq!(used, ["p@a.example.com/v1", "p@a.example.com/v1", "p@a.example.com/v1#2", "p@c.example.com"]);
    let oauth2 = |name: &str| match &config.profiles[name].kind {
        CredentialKind::OAuth2(oauth2) => oauth2.clone(),
        other => panic!("{other:?}"),
    };
    let all = oauth2("p");
    let narrow = OAuth2 { scope: Some("read".to_owned()), ..*all.clone() };
    assert_eq!(*oauth2("p@a.example.com/v1"), narrow);
    let narrow = OAuth2 { resource: vec!["https://one.example.com".to_owned()], ..*all.clone() };
    assert_eq!(*oauth2("p@a.example.com/v1#2"), narrow);
    let narrow = OAuth2 { audience: Some("https://c.example.com".to_owned()), ..*all };
    assert_eq!(*oauth2("p@c.example.com"), narrow);
    // Nothing goes out with the one that all of them are made from.
    assert!(!config.profiles["p"].prefetch && config.profiles["p@c.example.com"].prefetch);
}

#[test]
fn what_cannot_be_narrowed() {
    let with = |profile: &str, route: &str| {
        format!("{}{profile}\n[[routes]]\nhost = \"b.example.com\"\n{route}\nscope = \"read\"\n", MINIMAL)
    };
    let bearer = with("\n[profiles.b]\ntype = \"bearer\"\ntoken = { env = \"SECRET\" }", "profile = \"b\"");
    let none = with("", "profile = \"none\"");
    let refresh = with(
        "\n[profiles.r]\ngrant_type = \"refresh_token\"\nrefresh_token = { env = \"SECRET\" }\nclient_id = \"c\"\n\
         client_secret = { env = \"SECRET\" }\ntoken_endpoint = \"https://auth.example.com/token\"",
        "profile = \"r\"",
    );
    assert_rows(&[
        (&bearer, 17, "routes[1].scope", "profile b is not OAuth2", "write a profile for this route"),
        (&none, 14, "routes[1].scope", "no profile", "name the profile"),
        (&refresh, 20, "routes[1].scope", "one refresh token", "a refresh token of its own"),
    ]);
}
