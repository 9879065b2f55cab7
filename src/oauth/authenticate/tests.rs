use http::HeaderName;

use super::*;
use crate::oauth::tests::{literal, oauth2};

fn proof(secret: &str) -> Proof {
    Proof::Secret(Secret::new(secret))
}

/// Method, format, Authorization, body, for id `my client:1` and the secret of each case.
#[test]
fn the_exact_bytes_of_every_method_and_format() {
    use Authentication::{ClientSecretBasic as Basic, ClientSecretPost as Post};
    use RequestFormat::{Form, Json};
    type Method = fn(crate::secret::SecretSource) -> Authentication;
    let cases: [(Method, _, _, _, _); 5] = [
        (Basic, Form, "plain", Some("my+client%3A1:plain"), "grant_type=client_credentials&scope=a+b"),
        (
            Basic,
            Form,
            "p%c:d e+f&g=ü~",
            Some("my+client%3A1:p%25c%3Ad+e%2Bf%26g%3D%C3%BC%7E"),
            "grant_type=client_credentials&scope=a+b",
        ),
        (Basic, Json, "a:b", Some("my+client%3A1:a%3Ab"), r#"{"grant_type":"client_credentials","scope":"a b"}"#),
        (
            Post,
            Form,
            "p%c:d e+f&g=ü",
            None,
            "grant_type=client_credentials&scope=a+b&client_id=my+client%3A1&client_secret=p%25c%3Ad+e%2Bf%26g%3D%C3%BC",
        ),
        (
            Post,
            Json,
            "p%c:d e+f&\"\\ü",
            None,
            r#"{"grant_type":"client_credentials","scope":"a b","client_id":"my client:1","client_secret":"p%c:d e+f&\"\\ü"}"#,
        ),
    ];
    for (method, format, secret, authorization, body) in cases {
        let mut config = oauth2("https://auth.test/token");
        config.client_id = Some("my client:1".to_owned());
        config.authentication = method(literal("unused"));
        config.request_format = format;
        let request = token_request(&config, &[("grant_type", "client_credentials"), ("scope", "a b")], &proof(secret));
        assert_eq!(request.body.expose(), body);
        let content_type = if format == Form { "application/x-www-form-urlencoded" } else { "application/json" };
        assert_eq!(request.headers[CONTENT_TYPE], content_type);
        assert_eq!(request.headers[ACCEPT], "application/json");
        let sent = request.headers.get(AUTHORIZATION);
        assert_eq!(
            sent.map(|value| value.to_str().unwrap().to_owned()),
            authorization.map(|pair| format!("Basic {}", BASE64.encode(pair)))
        );
        assert!(sent.is_none_or(HeaderValue::is_sensitive));
    }
}

#[test]
fn a_repeated_parameter_repeats_in_a_form_and_is_a_list_in_json() {
    let parameters = [("resource", "https://a/"), ("x", "1"), ("resource", "https://b/")];
    assert_eq!(form(&parameters), "resource=https%3A%2F%2Fa%2F&x=1&resource=https%3A%2F%2Fb%2F");
    assert_eq!(json(&parameters), r#"{"resource":["https://a/","https://b/"],"x":"1"}"#);
}

#[test]
fn headers_of_the_profile_are_sent_as_secrets_and_cannot_say_who_asks() {
    let mut config = oauth2("https://auth.test/token");
    config.headers = [("x-api-key", "one"), ("x-api-key", "two"), ("accept", "*/*"), ("authorization", "Basic other")]
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .to_vec();
    let request = token_request(&config, &[], &proof("canary"));
    let keys: Vec<_> = request.headers.get_all("x-api-key").iter().collect();
    assert_eq!(keys, ["one", "two"]);
    assert!(keys.iter().all(|value| value.is_sensitive()));
    assert_eq!(request.headers[ACCEPT], "*/*");
    assert_eq!(request.headers.get_all(AUTHORIZATION).iter().count(), 1);
    assert_ne!(request.headers[AUTHORIZATION], "Basic other");
}

#[test]
fn a_request_does_not_show_itself() {
    let mut config = oauth2("https://auth.test/token");
    config.authentication = Authentication::ClientSecretPost(literal("unused"));
    let request = token_request(&config, &[], &proof("canary"));
    assert_eq!(format!("{request:?}"), "TokenRequest { .. }");
}

#[test]
fn assertions_and_public_clients_say_who_they_are_in_the_body() {
    let mut config = oauth2("https://auth.test/token");
    for (proof, body) in [
        (Proof::None, "x=1&client_id=client"),
        (
            Proof::Assertion(Secret::new("a.b.c")),
            "x=1&client_id=client&client_assertion_type=\
             urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=a.b.c",
        ),
    ] {
        let request = token_request(&config, &[("x", "1")], &proof);
        assert_eq!(request.body.expose(), body);
        assert!(!request.headers.contains_key(AUTHORIZATION));
    }
    config.client_id = None;
    assert_eq!(token_request(&config, &[("x", "1")], &Proof::None).body.expose(), "x=1");
}
