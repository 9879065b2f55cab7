use super::*;
use crate::oauth::tests::{
    dialer,
    server::{Reply, Server, Step},
};

fn provider() -> Provider {
    let settings = crate::provider::Settings {
        https: false,
        ca_file: None,
        timeout: Duration::from_secs(5),
        egress_proxy: std::sync::Arc::default(),
        identity: None,
    };
    Provider::new("billing", settings, &dialer()).unwrap()
}

fn endpoint(issuer: &str) -> Endpoint {
    let url = Url::parse(issuer).unwrap();
    let issuer = crate::config::Issuer { text: issuer.to_owned(), url };
    Endpoint { token_endpoint: None, issuer: Some(issuer), allow_plaintext: false }
}

#[test]
fn metadata_is_looked_for_where_the_rfcs_put_it() {
    let at = |issuer: &str| places(&Url::parse(issuer).unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        at("https://a.test"),
        ["https://a.test/.well-known/oauth-authorization-server", "https://a.test/.well-known/openid-configuration"]
    );
    // RFC 8414 3.1, and OpenID Connect Discovery 4.1.
    assert_eq!(
        at("https://a.test/issuer1/"),
        [
            "https://a.test/.well-known/oauth-authorization-server/issuer1",
            "https://a.test/issuer1/.well-known/openid-configuration",
            "https://a.test/.well-known/openid-configuration/issuer1",
        ]
    );
}

#[tokio::test]
async fn it_is_found_kept_and_survives_an_outage() {
    let none = || Step::Answer(Reply::new("404 Not Found"));
    let server = Server::start(vec![none()]).await;
    let issuer = server.url("");
    let body = format!(
        r#"{{"issuer":"{issuer}","token_endpoint":"{issuer}/t","mtls_endpoint_aliases":{{"token_endpoint":"https://m.test/t"}}}}"#
    );
    server.then(vec![Step::Answer(Reply::json(&body)), Step::Answer(Reply::new("500 Oops"))]);
    let (discovery, provider) = (Discovery::default(), provider());
    let found = discovery.find(&endpoint(&issuer), &provider).await.unwrap();
    assert_eq!(found.token_endpoint.as_str(), format!("{issuer}/t"));
    assert_eq!(found.mtls_token_endpoint.as_ref().map(Url::as_str), Some("https://m.test/t"));
    assert_eq!(discovery.find(&endpoint(&issuer), &provider).await.as_ref(), Ok(&found));
    assert_eq!(server.requests().len(), 2, "the second time it was known");

    // An hour later the server is down.
    let old = Known { found: found.clone(), at: Instant::now() - KEPT_FOR };
    *discovery.0.lock().unwrap() = Some(old);
    assert_eq!(discovery.find(&endpoint(&issuer), &provider).await, Ok(found));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn metadata_that_is_not_to_be_trusted_is_refused() {
    let place = Url::parse("https://a.test/.well-known/x").unwrap();
    let refused = |body: &str| {
        let error = read(body.as_bytes(), "https://a.test", &place, false, "billing").unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::InvalidResponse);
        format!("{} | {}", error.detail, error.hint)
    };
    for (body, said) in [
        ("<html>", "is none (line 1, column 1) | check `issuer`"),
        ("{}", "is none"),
        (r#"{"issuer":"https://evil.test"}"#, "is of another issuer, \"https://evil.test\" (RFC 8414 3.3)"),
        (r#"{"issuer":"https://a.test"}"#, "has no token_endpoint"),
        (r#"{"issuer":"https://a.test/","token_endpoint":"t"}"#, "has a token_endpoint that is no URL"),
        (r#"{"issuer":"https://a.test","token_endpoint":"http://b.test/t"}"#, "in clear text"),
        (r#"{"issuer":"https://a.test","token_endpoint":"http://127.0.0.1/t"}"#, "in clear text"),
        (r#"{"issuer":"https://a.test","token_endpoint":"http://b.auth.svc/t"}"#, "in clear text"),
        (r#"{"issuer":"https://a.test","token_endpoint":"file:///t"}"#, "without a host"),
        (r#"{"issuer":"https://a.test","token_endpoint":"https://u:p@b.test/t"}"#, "with userinfo"),
    ] {
        let told = refused(body);
        assert!(told.contains(said), "{body}: {told}");
    }
    let good = br#"{"issuer":"https://a.test/","token_endpoint":"https://b.test/t"}"#;
    // An assertion names it as the server does, not as somebody typed it.
    let found = read(good, "https://a.test", &place, false, "billing").unwrap();
    assert_eq!(found.issuer.as_deref(), Some("https://a.test/"));
}
