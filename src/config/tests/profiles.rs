//! What can be wrong with `[profiles.NAME]`.

use super::*;

#[test]
fn keys_of_the_token_request() {
    let long_scope = r#"scope = "api:\"read""#;
    assert_lines(
        in_profile,
        "profiles.p",
        &[
            ("tokenendpoint = \"x\"", "tokenendpoint", "unknown key", "did you mean `token_endpoint`?"),
            ("client_secrets = \"x\"", "client_secrets", "unknown key", "did you mean `client_secret`?"),
            ("colour = 1", "colour", "unknown key", "docs/configuration.md has the keys"),
            ("type = \"baerer\"", "type", "\"baerer\" is no kind of profile", "did you mean \"bearer\"?"),
            ("type = \"oauth2\"", "type", "\"oauth2\" is no kind", "leave it out for OAuth2"),
            (
                "type = \"bearer\"\ngrant_type = \"client_credentials\"",
                "type",
                "`type` and `grant_type` in one profile",
                "remove `type`",
            ),
            ("grant_type = \"client_credential\"", "grant_type", "\"client_credential\"", "did you mean"),
            ("grant_type = \"authorization_code\"", "grant_type", "\"authorization_code\"", "a person and a browser"),
            (
                "issuer = \"https://a.test/t/.well-known/openid-configuration\"",
                "issuer",
                "the address of an issuer's metadata",
                "write issuer = \"https://a.test/t\"",
            ),
            (
                "signing_alg = \"RS256\"",
                "signing_alg",
                "`signing_alg` in a profile of OAuth2",
                "write token_endpoint_auth_signing_alg",
            ),
            (
                "service_account = { env = \"SECRET\" }",
                "service_account",
                "`service_account` has no meaning here",
                "or write what it goes with: grant_type = \"urn:",
            ),
            ("grant_type = \"magic\"", "grant_type", "\"magic\"", "write one of: \"client_credentials\""),
            (
                "token_endpoint_auth_method = \"client_secret_basik\"",
                "token_endpoint_auth_method",
                "\"client_secret_basik\"",
                "did you mean \"client_secret_basic\"?",
            ),
            ("client_id = \"\"", "client_id", "an empty string", "write its value"),
            ("client_id = 7", "client_id", "the number 7", "write a string"),
            ("scope = \"\"", "scope", "no scope at all", "leave the key out"),
            ("scope = []", "scope", "no scope at all", "leave the key out"),
            ("scope = [\"a\", 1]", "scope", "the number 1", "a string or a list of strings"),
            (long_scope, "scope", "is no scope", "RFC 6749 3.3"),
            ("scope = \"lire:été\"", "scope", "is no scope", "visible ASCII"),
            ("audience = \" \"", "audience", "an empty string", "write its value"),
            ("resource = []", "resource", "no resource", "leave the key out"),
            ("resource = \"api\"", "resource", "no absolute URI", "without fragment"),
            ("resource = \"https://a.test/#x\"", "resource", "no absolute URI", "without fragment"),
            ("resource = \"https://u:p@a.test/\"", "resource", "no absolute URI", "without fragment"),
            ("params = \"a=b\"", "params", "a string", "{ name = \"value\" }"),
            ("params = { pin = 1234 }", "params", "an integer for pin", "{ name = \"value\" }"),
            ("params = { \"a\\nb\" = 1 }", "params", "an integer for a\\nb", "{ name = \"value\" }"),
            ("params = { \"\" = \"x\" }", "params", "a parameter without a name", "{ name = \"value\" }"),
            ("params.scope = \"x\"", "params", "`scope` in params", "scope is a key of the profile"),
            ("params = { client_secret = \"x\" }", "params", "`client_secret` in params", "write it there"),
            ("headers = { Authorization = \"x\" }", "headers", "`authorization` in headers", "remove it"),
            ("headers = { Host = \"x\" }", "headers", "`host` in headers", "lanyard writes it itself"),
            ("headers = { \"x y\" = \"x\" }", "headers", "\"x y\" is no header field", "{ \"x-name\" = \"value\" }"),
            ("headers = { x = \"a\\nb\" }", "headers", "or its value is none", "{ \"x-name\" = \"value\" }"),
            ("request_format = \"JSON\"", "request_format", "\"JSON\"", "did you mean \"json\"?"),
            ("request_format = \"xml\"", "request_format", "\"xml\"", "one of: \"form\", \"json\""),
            ("timeout = 10", "timeout", "the number 10", "write a duration with its unit: \"10s\""),
            ("timeout = 0", "timeout", "the number 0", "a duration with its unit: \"500ms\""),
            ("timeout = 99999999", "timeout", "the number 99999999", "a duration with its unit: \"500ms\""),
            ("timeout = \"10\"", "timeout", "\"10\"", "write a duration with its unit: \"10s\""),
            ("timeout = \"10 s\"", "timeout", "\"10 s\"", "a duration with its unit"),
            ("timeout = \"1.5s\"", "timeout", "\"1.5s\"", "a duration with its unit"),
            ("timeout = \"-1s\"", "timeout", "\"-1s\"", "a duration with its unit"),
            ("timeout = \"0s\"", "timeout", "no time at all", "leave it out for 10s"),
            ("timeout = \"99999999999999999999s\"", "timeout", "99999", "a duration with its unit"),
            ("timeout = \"9000h\"", "timeout", "\"9000h\"", "at most a year"),
            ("egress_proxy = \"proxy:3128\"", "egress_proxy", "not http://", "http://proxy.example.com:3128"),
            ("egress_proxy = \"https://proxy\"", "egress_proxy", "not http://", "write http://HOST:PORT"),
            ("egress_proxy = \"http://\"", "egress_proxy", "no URL", "http://proxy.example.com:3128"),
        ],
    );
}

#[test]
fn keys_of_every_kind() {
    assert_lines(
        in_profile,
        "profiles.p",
        &[
            ("header = \"Host\"", "header", "host cannot carry a credential", "X-Api-Key"),
            ("header = \"Content-Length\"", "header", "content-length cannot", "Authorization"),
            ("header = \"Proxy-Authorization\"", "header", "proxy-authorization cannot carry", "\"Authorization\""),
            ("header = \"Expect\"", "header", "expect cannot carry a credential", "\"Authorization\""),
            ("header = \"X Api\"", "header", "\"X Api\" is no name of a header field", "Authorization"),
            ("header = \"\"", "header", "is no name of a header field", "Authorization"),
            ("prefix = \"Bearer \"", "prefix", "a prefix with a space", "write one word"),
            ("prefix = \"a\\nb\"", "prefix", "a prefix with a space", "\"\" for the bare token"),
            ("existing = \"replaced\"", "existing", "\"replaced\"", "did you mean \"replace\"?"),
            ("existing = \"x\"", "existing", "\"x\"", "one of: \"replace\", \"keep\", \"reject\""),
            ("on_unavailable = \"fial\"", "on_unavailable", "\"fial\"", "did you mean \"fail\"?"),
            ("prefetch = \"true\"", "prefetch", "a string", "write true or false"),
            ("required = 1", "required", "the number 1", "write true or false"),
            ("refresh_before = 60", "refresh_before", "the number 60", "with its unit"),
            ("refresh_before = 1.5", "refresh_before", "the number 1.5", "with its unit"),
            ("default_token_lifetime = \"0m\"", "default_token_lifetime", "no time at all", "leave it out for 300s"),
            ("token_wait = \"0s\"", "token_wait", "no time at all", "leave it out for 5s"),
            ("idle_after = \"0s\"", "idle_after", "no time at all", "leave it out for never"),
            ("idle_after = false", "idle_after", "false", "with its unit"),
            ("reject_interval = \"0ms\"", "reject_interval", "no time at all", "leave it out for 10s"),
            ("retry_statuses = 401", "retry_statuses", "the number 401", "a list of whole numbers: [401]"),
            ("retry_statuses = [\"401\"]", "retry_statuses", "a string", "a list of whole numbers: [401]"),
            ("retry_statuses = [401, 200]", "retry_statuses", "the status 200", "from 400 to 599"),
            ("retry_statuses = [4010]", "retry_statuses", "the status 4010", "from 400 to 599"),
            ("retry_statuses = [-401]", "retry_statuses", "the number -401", "[401]"),
            ("replay_limit = 65536", "replay_limit", "the number 65536", "write a size with its unit: \"64KiB\""),
            ("replay_limit = 1000", "replay_limit", "the number 1000", "write a size with its unit: \"1000B\""),
            ("replay_limit = \"64KB\"", "replay_limit", "\"64KB\"", "a size with its unit: \"512B\", \"64KiB\""),
            ("replay_limit = \"65KiB\"", "replay_limit", "66560 bytes", "at most \"64KiB\""),
            ("replay_limit = \"99999999999999MiB\"", "replay_limit", "99999999999999MiB", "with its unit"),
        ],
    );
}

#[test]
fn the_token_endpoint() {
    assert_lines(
        in_profile,
        "profiles.p",
        &[
            ("token_endpoint = \"auth.example.com\"", "token_endpoint", "no URL", "https://auth.example.com/oauth/"),
            ("token_endpoint = \"ftp://a.test/\"", "token_endpoint", "neither http nor https", "https://auth.example"),
            ("token_endpoint = \"https://a.test/#x\"", "token_endpoint", "a URL with a fragment", "write it like"),
            ("token_endpoint = \"https://u:p@a.test/\"", "token_endpoint", "userinfo", "client_id and client_secret"),
            ("token_endpoint = \"https://u@a.test/\"", "token_endpoint", "userinfo", "client_id and client_secret"),
            (
                "token_endpoint = \"http://auth.example.com/\"",
                "token_endpoint",
                "the client secret would be sent in clear text",
                "allow_plaintext_token_endpoint = true",
            ),
            ("token_endpoint = \"http://10.0.0.1/\"", "token_endpoint", "in clear text", "write https://"),
            ("token_endpoint = \"http://mysvc/\"", "token_endpoint", "in clear text", "write https://"),
            ("token_endpoint = \"http://a.svc.example.com/\"", "token_endpoint", "in clear text", "write https://"),
            (
                "token_endpoint = \"http://a.test/\"\nallow_plaintext_token_endpoint = false",
                "token_endpoint",
                "in clear text",
                "write https://",
            ),
        ],
    );
    let late = in_profile("allow_plaintext_token_endpoint = \"yes\"");
    assert_rows(&[(&late, 2, "profiles.p.allow_plaintext_token_endpoint", "a string", "true or false")]);
}

#[test]
fn what_a_profile_must_say() {
    let text = "\n[profiles.p]\n\n[[routes]]\nhost = \"a.test\"\nprofile = \"p\"\n";
    let errors = errors(text);
    let [endpoint, secret, client] = errors.as_slice() else { panic!("{errors:#?}") };
    assert_problem(endpoint, (text, 2, "profiles.p", "`token_endpoint` is missing", "write token_endpoint = \"https:"));
    assert_problem(client, (text, 2, "profiles.p", "`client_id` is missing", "write client_id = "));
    assert_problem(secret, (text, 2, "profiles.p", "`client_secret` is missing", "{ file = \"/run/secrets/"));
}

#[test]
fn one_profile_tells_everything_at_once() {
    let lines = "header = \"Host\"\ngrant_type = \"x\"\ntoken_endpoint_auth_method = \"y\"\ntimeout = 1\n\
        token_wait = \"0s\"\nparams = 1\nexisting = \"z\"";
    let text = in_profile(lines);
    let lines: Vec<_> = errors(&text).iter().map(|problem| problem.line.unwrap()).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6, 7, 8]);

    // Another kind asks for no keys of OAuth2, and what every kind has is looked at.
    let text = "[profiles.p]\ntype = \"bearer\"\nheader = \"Host\"\ntoken_wait = \"0s\"\n";
    let keys: Vec<_> = errors(text).into_iter().map(|problem| problem.key).collect();
    assert_eq!(keys, ["profiles.p", "profiles.p.header", "profiles.p.token_wait"]);
}

#[test]
fn a_state_file_is_one_refresh_tokens_alone() {
    let profile = |name: &str, token: &str, state: &str| {
        format!(
            "[profiles.{name}]\ntoken_endpoint = \"https://a.test/t\"\ntoken_endpoint_auth_method = \"none\"\n\
             client_id = \"x\"\ngrant_type = \"refresh_token\"\nrefresh_token = {{ file = \"{token}\" }}\n\
             refresh_token_state_file = \"{state}\"\n"
        )
    };
    let told = |text: &str| parse_in(text, &machine()).unwrap_err().to_string();
    let shared = told(&[profile("a", "a", "state"), profile("b", "b", "/etc/lanyard/state")].concat());
    assert!(
        shared.contains("profiles.b.refresh_token_state_file: a refresh_token_state_file that another"),
        "{shared}"
    );
    let own = told(&profile("a", "token", "token"));
    assert!(own.contains("profiles.a.refresh_token_state_file: the file of `refresh_token` itself"), "{own}");
    parse_in(&[profile("a", "a", "state-a"), profile("b", "b", "state-b")].concat(), &machine()).unwrap();
}

#[test]
fn names_of_profiles() {
    let named = |name: &str| MINIMAL.replace("[profiles.p]", &format!("[profiles.{name}]"));
    let route = "[[routes]]\nhost = \"api.example.com\"\nprofile = \"p\"\n";
    for (name, key, what, hint) in [
        ("none", "profiles.none", "a profile called \"none\"", "choose another name"),
        ("\"a b\"", "profiles.\"a b\"", "no plain word", "1 to 64 letters"),
        ("\"\"", "profiles.\"\"", "no plain word", "1 to 64 letters"),
        ("\"é\"", "profiles.\"é\"", "no plain word", "1 to 64 letters"),
        ("\"a\\nb\"", "profiles.\"a\\nb\"", "no plain word", "1 to 64 letters"),
    ] {
        let text = named(name).replace(route, "");
        assert_rows(&[(&text, 2, key, what, hint)]);
    }
    let long = "p".repeat(65);
    let text = named(&long).replace(route, "");
    assert_rows(&[(&text, 2, &format!("profiles.{long}"), "no plain word", "1 to 64 letters")]);
}

#[test]
fn forms_of_a_secret() {
    assert_lines(
        in_profile,
        "profiles.p",
        &[
            ("client_secret = 1234", "client_secret", "an integer", "{ file = \"/run/secrets/...\" } or { env"),
            ("client_secret = \"\"", "client_secret", "an empty secret", "{ file = "),
            ("client_secret = {}", "client_secret", "exactly one of `file` and `env`", "{ file = "),
            ("client_secret = { file = \"a\", env = \"B\" }", "client_secret", "exactly one of", "{ env = \"NAME\" }"),
            ("client_secret = { \"a\\nb\" = \"a\" }", "client_secret", "the key `a\\nb`", "{ file = "),
            ("client_secret = { path = \"a\" }", "client_secret", "the key `path`", "{ file = "),
            ("client_secret = { env = 1 }", "client_secret", "`env` that is no string", "{ env = \"NAME\" }"),
            ("client_secret = { file = \"\" }", "client_secret", "`file` that is empty", "{ file = "),
            ("client_secret = { env = \"\" }", "client_secret", "`env` that is empty", "{ env = "),
            ("client_secret = [\"a\"]", "client_secret", "an array", "{ file = "),
        ],
    );
}

#[test]
fn secrets_that_can_be_run_with_but_are_not_well() {
    let mut environment =
        machine().with_file("/etc/lanyard/empty", " \n").with_file("/run/open", "open").with_file("/run/good", "good");
    environment.world_readable.insert("/run/open".into());
    for (secret, what, hint) in [
        ("\"literal\"", "a secret in the configuration itself", "keep the secret out of this file"),
        ("{ file = \"missing\" }", "/etc/lanyard/missing cannot be read now", "it is read at each use"),
        ("{ file = \"empty\" }", "/etc/lanyard/empty is empty", "write the secret into it"),
        ("{ file = \"/run/open\" }", "everybody on this machine may read /run/open", "chmod 600"),
        ("{ env = \"NOT_SET\" }", "the environment variable NOT_SET is not set here", "where `lanyard run`"),
    ] {
        let text = in_profile(&format!("client_secret = {secret}"));
        let warnings = warnings(&text, &environment);
        let [warning] = warnings.as_slice() else { panic!("{warnings:#?}") };
        assert_problem(warning, (&text, 2, "profiles.p.client_secret", what, hint));
        assert_eq!(warning.severity, Severity::Warning);
    }
    let good = in_profile("client_secret = { file = \"/run/good\" }");
    assert_eq!(warnings(&good, &environment), []);
}

#[test]
fn a_profile_that_nothing_uses() {
    let text = MINIMAL.replace("profile = \"p\"", "profile = \"none\"");
    let warnings = warnings(&text, &machine());
    let [warning] = warnings.as_slice() else { panic!("{warnings:#?}") };
    assert_problem(warning, (&text, 2, "profiles.p", "no route uses this profile", "add a [[routes]] with it"));
}

#[test]
fn an_assertion_is_for_the_issuer_where_that_is_known() {
    use crate::config::{AssertionAudience, Authentication, CredentialKind};
    let audience = |keys: &str| {
        let text = format!(
            "[profiles.p]\n{keys}\nclient_id = \"c\"\nprivate_key = {{ env = \"SECRET\" }}\n\
             [[routes]]\nhost = \"h.test\"\nprofile = \"p\"\n"
        );
        let config = good(&text);
        let CredentialKind::OAuth2(oauth2) = &config.profiles["p"].kind else { panic!("{text}") };
        let Authentication::SignedJwt { audience, .. } = &oauth2.authentication else { panic!("{text}") };
        audience.clone()
    };
    let (issuer, endpoint) = ("issuer = \"https://a.test\"", "token_endpoint = \"https://a.test/t\"");
    let with = |key: &str, audience: &str| format!("{key}\nclient_assertion_audience = \"{audience}\"");
    assert_eq!(audience(endpoint), AssertionAudience::TokenEndpoint);
    assert_eq!(audience(issuer), AssertionAudience::Issuer);
    assert_eq!(audience(&with(issuer, "issuer")), AssertionAudience::Issuer);
    assert_eq!(audience(&with(issuer, "token_endpoint")), AssertionAudience::TokenEndpoint);
    assert_eq!(audience(&with(endpoint, "urn:x")), AssertionAudience::Text("urn:x".to_owned()));
}
