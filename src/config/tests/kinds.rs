//! Profiles of every kind but OAuth2 and AWS: what they mean, and what can be wrong with them.

use serde_json::json;

use super::*;

/// A configuration with this in `[profiles.p]`, from the second line on.
fn of(lines: &str) -> String {
    format!("[profiles.p]\n{lines}\n[[routes]]\nhost = \"api.example.com\"\nprofile = \"p\"\n")
}

fn profile(lines: &str) -> Arc<Profile> {
    Arc::clone(&good(&of(lines)).profiles["p"])
}

fn env() -> SecretSource {
    SecretSource::Env("SECRET".to_owned())
}

fn field(name: &'static str, prefix: &str) -> Placement {
    Placement::Header { name: http::HeaderName::from_static(name), prefix: prefix.to_owned() }
}

#[test]
fn secrets_as_they_are() {
    let secret =
        |template: &str| CredentialKind::Static(Static::Secret { secret: env(), template: template.to_owned() });
    for (lines, kind, placement) in [
        ("type = \"bearer\"\ntoken = { env = \"SECRET\" }", secret("{secret}"), field("authorization", "Bearer")),
        (
            "type = \"bearer\"\ntoken = { env = \"SECRET\" }\nheader = \"X-Token\"\nprefix = \"Key\"",
            secret("{secret}"),
            field("x-token", "Key"),
        ),
        (
            "type = \"header\"\nheader = \"DD-API-KEY\"\nsecret = { env = \"SECRET\" }",
            secret("{secret}"),
            field("dd-api-key", ""),
        ),
        (
            "type = \"header\"\nheader = \"Authorization\"\nsecret = { env = \"SECRET\" }\ntemplate = \"Token token={secret}\"",
            secret("Token token={secret}"),
            field("authorization", ""),
        ),
        (
            "type = \"query\"\nparameter = \"api key\"\nsecret = { env = \"SECRET\" }",
            secret("{secret}"),
            Placement::Query { parameter: "api%20key".to_owned() },
        ),
        (
            "type = \"basic\"\nusername = \"me@example.com\"\npassword = { env = \"SECRET\" }",
            CredentialKind::Static(Static::Basic { username: "me@example.com".to_owned(), password: env() }),
            field("authorization", "Basic"),
        ),
    ] {
        let profile = profile(lines);
        assert_eq!((&profile.kind, &profile.placement), (&kind, &placement), "{lines}");
        assert_eq!(profile.kind.secrets(), [&env()]);
        assert!(profile.kind.files().is_empty() && profile.kind.egress().is_none() && profile.kind.proxy().is_none());
    }
}

#[test]
fn what_lanyard_makes_or_finds() {
    let lines = "type = \"jwt\"\nprivate_key = { env = \"SECRET\" }\nkey_id = \"k\"\nsigning_alg = \"ES256\"\n\
                 claims = { iss = \"team\", aud = [\"a\", \"b\"], n = 1 }\ntoken_lifetime = \"20m\"";
    let CredentialKind::Jwt(jwt) = &profile(lines).kind else { panic!("no JWT") };
    assert_eq!(jwt.key.source, env());
    assert_eq!((jwt.key.algorithm.unwrap().as_str(), jwt.key.key_id.as_deref()), ("ES256", Some("k")));
    assert_eq!(serde_json::Value::from(jwt.claims.clone()), json!({ "iss": "team", "aud": ["a", "b"], "n": 1 }));
    assert_eq!(jwt.token_lifetime, Duration::from_secs(1200));
    let CredentialKind::Jwt(jwt) = &profile("type = \"jwt\"\nsecret = { env = \"SECRET\" }").kind else {
        panic!("no JWT")
    };
    assert_eq!((jwt.key.algorithm.unwrap().as_str(), jwt.token_lifetime), ("HS256", Duration::from_secs(300)));

    let file = profile("type = \"file\"\npath = \"secret\"");
    assert_eq!(file.kind.files(), [Path::new("/etc/lanyard/secret")]);

    let lines = "type = \"exec\"\ncommand = [\"bin/get\", \"--json\"]\nenvironment = { A = \"x\" }\ntimeout = \"2s\"";
    let CredentialKind::Exec(exec) = &profile(lines).kind else { panic!("no command") };
    assert_eq!(exec.command, ["/etc/lanyard/bin/get", "--json"]);
    assert_eq!(
        (exec.environment.as_slice(), exec.timeout),
        (&[("A".to_owned(), "x".to_owned())][..], Duration::from_secs(2))
    );
    let CredentialKind::Exec(exec) = &profile("type = \"exec\"\ncommand = [\"aws\", \"eks\"]").kind else {
        panic!("no command")
    };
    assert_eq!((exec.command[0].as_str(), exec.timeout), ("aws", Duration::from_secs(10)));
}

#[test]
fn what_a_cloud_gives() {
    let lines = "type = \"github_app\"\nclient_id = \"Iv1.x\"\ninstallation_id = \"123\"\nprivate_key = { env = \"SECRET\" }\n\
                 repositories = [\"a\"]\npermissions = { contents = \"read\" }\napi = \"https://github.example.com/api/v3\"\n\
                 egress_proxy = \"http://proxy:3128\"\ntimeout = \"3s\"";
    let whole = profile(lines);
    let CredentialKind::GitHubApp(app) = &whole.kind else { panic!("no app") };
    assert_eq!(
        (app.client_id.as_str(), app.installation_id.as_str(), app.timeout),
        ("Iv1.x", "123", Duration::from_secs(3))
    );
    assert_eq!(app.repositories, ["a"]);
    assert_eq!(app.permissions, [("contents".to_owned(), "read".to_owned())]);
    assert_eq!(app.api.as_str(), "https://github.example.com/api/v3");
    assert!(whole.kind.proxy().is_some() && whole.kind.secrets() == [&env()]);
    let least = "type = \"github_app\"\nclient_id = \"1\"\ninstallation_id = \"2\"\nprivate_key = { env = \"SECRET\" }";
    let CredentialKind::GitHubApp(app) = &profile(least).kind else { panic!("no app") };
    assert_eq!((app.api.as_str(), app.timeout), ("https://api.github.com/", Duration::from_secs(10)));

    let CredentialKind::GoogleMetadata(google) = &profile("type = \"google_metadata\"").kind else {
        panic!("no Google")
    };
    assert_eq!((google.account.as_str(), &google.scope, &google.audience), ("default", &None, &None));
    let lines = "type = \"google_metadata\"\naudience = \"https://a.test\"\naccount = \"x\"\nmetadata_endpoint = \"http://127.0.0.1:8000\"";
    let CredentialKind::GoogleMetadata(google) = &profile(lines).kind else { panic!("no Google") };
    assert_eq!((google.account.as_str(), google.audience.as_deref()), ("x", Some("https://a.test")));
    assert_eq!(google.metadata_endpoint.as_ref().unwrap().as_str(), "http://127.0.0.1:8000/");

    let lines = "type = \"azure_managed_identity\"\nresource = \"https://vault.azure.net\"\nclient_id = \"c\"";
    let CredentialKind::AzureManagedIdentity(azure) = &profile(lines).kind else { panic!("no Azure") };
    assert_eq!((azure.resource.as_str(), azure.client_id.as_deref()), ("https://vault.azure.net", Some("c")));
    assert!(azure.metadata_endpoint.is_none());
}

#[test]
fn what_is_missing_or_wrong() {
    let app = "type = \"github_app\"\nclient_id = \"1\"\ninstallation_id = \"2\"";
    let key = "private_key = { env = \"SECRET\" }";
    for (lines, line, key, what, hint) in [
        ("type = \"bearer\"".to_owned(), 1, "", "`token` is missing", "token = { file"),
        ("type = \"header\"\nsecret = { env = \"SECRET\" }".to_owned(), 1, "", "`header` is missing", "X-Api-Key"),
        ("type = \"header\"\nheader = \"X-Key\"".to_owned(), 1, "", "`secret` is missing", "secret = { file"),
        ("type = \"query\"\nsecret = { env = \"SECRET\" }".to_owned(), 1, "", "`parameter` is missing", "api_key"),
        (
            "type = \"query\"\nparameter = \"\"\nsecret = { env = \"SECRET\" }".to_owned(),
            3,
            "parameter",
            "an empty string",
            "its value",
        ),
        ("type = \"basic\"\npassword = { env = \"SECRET\" }".to_owned(), 1, "", "`username` is missing", "username = "),
        ("type = \"basic\"\nusername = \"u\"".to_owned(), 1, "", "`password` is missing", "password = { file"),
        (
            "type = \"basic\"\nusername = \"a:b\"\npassword = { env = \"SECRET\" }".to_owned(),
            3,
            "username",
            "HTTP Basic cannot carry",
            "without a colon",
        ),
        ("type = \"jwt\"".to_owned(), 1, "", "`private_key` is missing", "for HS256"),
        (
            format!("type = \"jwt\"\n{key}\nsecret = {{ env = \"SECRET\" }}"),
            4,
            "secret",
            "`secret` and `private_key`",
            "remove one",
        ),
        (format!("type = \"jwt\"\n{key}\ntoken_lifetime = \"0s\""), 4, "token_lifetime", "no time at all", "300s"),
        (format!("type = \"jwt\"\n{key}\nsigning_alg = \"none\""), 4, "signing_alg", "none", "RS256"),
        (format!("type = \"jwt\"\n{key}\nclaims = \"iss\""), 4, "claims", "a string", ""),
        ("type = \"file\"".to_owned(), 1, "", "`path` is missing", "path = "),
        ("type = \"exec\"".to_owned(), 1, "", "`command` is missing", "command = ["),
        ("type = \"exec\"\ncommand = []".to_owned(), 3, "command", "no command", "write ["),
        ("type = \"exec\"\ncommand = \"get\"".to_owned(), 3, "command", "a string", "list"),
        ("type = \"exec\"\ncommand = [\"a\\u0000\"]".to_owned(), 3, "command", "NUL", "remove it"),
        (
            "type = \"exec\"\ncommand = [\"a\"]\nenvironment = { \"A=B\" = \"x\" }".to_owned(),
            4,
            "environment",
            "no environment can hold",
            "NAME = ",
        ),
        ("type = \"exec\"\ncommand = [\"a\"]\ntimeout = \"0s\"".to_owned(), 4, "timeout", "no time at all", "10s"),
        (app.to_owned(), 1, "", "`private_key` is missing", "app.pem"),
        (format!("{}\n{key}", app.replace("client_id = \"1\"\n", "")), 1, "", "`client_id` is missing", "app's id"),
        (format!("{}\n{key}", app.replace("\"2\"", "\"two\"")), 4, "installation_id", "no number", "settings"),
        (format!("{app}\n{key}\napi = \"http://github.test\""), 6, "api", "clear text", "https://"),
        (format!("{app}\n{key}\nca_file = \"missing.pem\""), 6, "ca_file", "cannot be read", "PEM"),
        (
            "type = \"google_metadata\"\nscope = \"a\"\naudience = \"b\"".to_owned(),
            4,
            "audience",
            "`scope` and `audience`",
            "remove one",
        ),
        (
            "type = \"google_metadata\"\nmetadata_endpoint = \"metadata\"".to_owned(),
            3,
            "metadata_endpoint",
            "no URL",
            "http://169",
        ),
        ("type = \"azure_managed_identity\"".to_owned(), 1, "", "`resource` is missing", "management.azure.com"),
        (
            "type = \"azure_managed_identity\"\nresource = [\"a\", \"b\"]".to_owned(),
            3,
            "resource",
            "not one resource",
            "for one",
        ),
    ] {
        let path = if key.is_empty() { "profiles.p".to_owned() } else { format!("profiles.p.{key}") };
        assert_rows(&[(&of(&lines), line, &path, what, hint)]);
    }
    for parameter in ["?api_key", "api_key=", "a&b", "api_key#"] {
        let lines = format!("type = \"query\"\nsecret = {{ env = \"SECRET\" }}\nparameter = \"{parameter}\"");
        assert_rows(&[(&of(&lines), 4, "profiles.p.parameter", "more than a name", "parameter = \"api_key\"")]);
    }
    for template in ["", "no place", "{secret}{secret}", "{secret}\\n", "{secret}é"] {
        let lines = format!(
            "type = \"header\"\nheader = \"X-Key\"\nsecret = {{ env = \"SECRET\" }}\ntemplate = \"{template}\""
        );
        assert_rows(&[(&of(&lines), 5, "profiles.p.template", "cannot be put into", "{secret} in it, once")]);
    }
}

/// Whatever is a key of one kind and not of another is told, with the kinds that have it.
#[test]
fn keys_of_other_kinds() {
    let secret = "{ env = \"SECRET\" }";
    let least = [
        ("bearer", format!("token = {secret}")),
        ("header", format!("header = \"X-Key\"\nsecret = {secret}")),
        ("query", format!("parameter = \"k\"\nsecret = {secret}")),
        ("basic", format!("username = \"u\"\npassword = {secret}")),
        ("jwt", format!("private_key = {secret}")),
        ("file", "path = \"secret\"".to_owned()),
        ("exec", "command = [\"a\"]".to_owned()),
        ("github_app", format!("client_id = \"1\"\ninstallation_id = \"2\"\nprivate_key = {secret}")),
        ("google_metadata", String::new()),
        ("azure_managed_identity", "resource = \"https://a.test\"".to_owned()),
    ];
    let lines = [
        ("token_endpoint = \"https://a.test\"", &["OAuth2"][..]),
        ("template = \"{secret}\"", &["\"header\""]),
        ("parameter = \"k2\"", &["\"query\""]),
        ("username = \"u\"", &["\"basic\""]),
        ("claims = { a = 1 }", &["\"jwt\""]),
        ("path = \"x\"", &["\"file\""]),
        ("command = [\"x\"]", &["\"exec\""]),
        ("installation_id = \"1\"", &["\"github_app\""]),
        ("account = \"x\"", &["\"google_metadata\""]),
        ("resource = \"https://a.test\"", &["\"azure_managed_identity\""]),
        ("region = \"x\"", &["\"aws_sigv4\""]),
        ("prefix = \"Key\"", &["\"bearer\"", "\"exec\""]),
    ];
    let mut told = 0;
    for (name, keys) in &least {
        assert_eq!(profile(&format!("type = \"{name}\"\n{keys}")).name.as_ref(), "p");
        for (line, owners) in &lines {
            let key = line.split(' ').next().unwrap();
            let own = owners.iter().any(|owner| *owner == format!("\"{name}\""));
            let placed = key == "prefix" && !matches!(*name, "query" | "basic");
            if own || placed || keys.contains(&format!("{key} = ")) {
                continue;
            }
            let text = of(&format!("{line}\ntype = \"{name}\"\n{keys}"));
            let what = format!("`{key}` in a profile of type = \"{name}\"");
            assert_rows(&[(&text, 2, &format!("profiles.p.{key}"), &what, owners[0])]);
            told += 1;
        }
    }
    assert!(told > 90, "{told}");
}

#[test]
fn what_can_be_run_with_but_is_not_well() {
    for (lines, line, key, what, hint) in [
        ("type = \"file\"\npath = \"missing\"", 3, "path", "/etc/lanyard/missing cannot be read now", "by then"),
        ("type = \"exec\"\ncommand = [\"get token\"]", 3, "command", "a space in it", "no shell"),
        ("type = \"bearer\"\ntoken = \"literal\"", 3, "token", "a secret in the configuration itself", "{ file = "),
        (
            "type = \"bearer\"\ntoken = { file = \"large\" }",
            3,
            "token",
            "/etc/lanyard/large is 65537 bytes",
            "nothing but",
        ),
    ] {
        let text = of(lines);
        let machine = machine().with_file("/etc/lanyard/large", "a".repeat(65537));
        let warnings = warnings(&text, &machine);
        let [warning] = warnings.as_slice() else { panic!("{warnings:#?}") };
        assert_problem(warning, (&text, line, &format!("profiles.p.{key}"), what, hint));
    }
}

/// Everything of these kinds that may hold a secret holds one.
#[test]
fn nothing_of_it_shows_a_secret() {
    for lines in [
        "type = \"bearer\"\ntoken = \"canary\"",
        "type = \"header\"\nheader = \"X-Key\"\nsecret = \"canary\"\ntemplate = \"Key {secret}\"",
        "type = \"query\"\nparameter = \"k\"\nsecret = \"canary\"",
        "type = \"basic\"\nusername = \"u\"\npassword = \"canary\"",
        "type = \"jwt\"\nsecret = \"canary\"\nclaims = { pin = \"canary\" }",
        "type = \"jwt\"\nprivate_key = \"canary\"",
        "type = \"exec\"\ncommand = [\"a\", \"--key=canary\"]\nenvironment = { KEY = \"canary\" }",
        "type = \"github_app\"\nclient_id = \"1\"\ninstallation_id = \"2\"\nprivate_key = \"canary\"\n\
         egress_proxy = \"http://u:canary@proxy:3128\"",
    ] {
        let text = of(lines);
        let loaded = parse_in(&text, &machine()).unwrap();
        let warnings: String = loaded.warnings.iter().map(ToString::to_string).collect();
        let shown = format!("{loaded:?} {:#?} {warnings}", loaded.config);
        assert!(!shown.contains("canary"), "{lines}\n{shown}");
        // The same with a mistake beside it, and in it.
        for text in
            [format!("colour = 1\n{text}"), text.replace("\"canary", "[\"canary"), text.replace("canary\"", "canary")]
        {
            let told = match parse_in(&text, &machine()) {
                Ok(loaded) => format!("{loaded:?}"),
                Err(e) => format!("{e} {e:?}"),
            };
            assert!(!told.contains("canary"), "{text}\n{told}");
        }
    }
}

#[test]
fn what_a_token_endpoint_has_no_token_of() {
    for (profile, fails) in [
        ("type = \"bearer\"\ntoken = { env = \"SECRET\" }", false),
        ("type = \"basic\"\nusername = \"u\"\npassword = { env = \"SECRET\" }", true),
        ("type = \"query\"\nparameter = \"key\"\nsecret = { env = \"SECRET\" }", true),
    ] {
        let text = format!(
            "[token_endpoint]\naddress = \"127.0.0.1:9091\"\nprofiles = {{ p = \"token\" }}\n[profiles.p]\n{profile}\n\
             [[routes]]\nhost = \"a.test\"\nprofile = \"p\"\n"
        );
        match parse_in(&text, &machine()) {
            Ok(_) => assert!(!fails, "{text}"),
            Err(error) => {
                assert!(fails && error.to_string().contains("profile p has no token to give away"), "{error}")
            }
        }
    }
}
