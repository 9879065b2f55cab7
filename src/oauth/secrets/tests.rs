use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;
use crate::{
    jose::Algorithm,
    oauth::tests::{literal, oauth2},
};

/// 2023-11-14T22:13:20Z.
const NOW: u64 = 1_700_000_000;

fn about<'a>() -> About<'a> {
    About {
        profile: "billing",
        token_endpoint: "https://auth.test/token",
        issuer: Some("https://auth.test"),
        instead: None,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW),
    }
}

/// Header and claims of a JWT.
fn parts(jwt: &Secret) -> (Value, Value) {
    let mut parts = jwt.expose().split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let mut next = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (next(), next())
}

fn hmac() -> SigningKeySource {
    SigningKeySource {
        source: literal("canary-secret-of-32-bytes-at-least"),
        algorithm: Some(Algorithm::Hs256),
        key_id: None,
    }
}

#[tokio::test]
async fn a_client_assertion_names_the_client_and_is_never_the_same() {
    let mut config = oauth2("https://auth.test/token");
    for (audience, aud) in [
        (AssertionAudience::Issuer, "https://auth.test"),
        (AssertionAudience::TokenEndpoint, "https://auth.test/token"),
        (AssertionAudience::Text("urn:x".to_owned()), "urn:x"),
    ] {
        let lifetime = Duration::from_secs(120);
        config.authentication = Authentication::SignedJwt { key: hmac(), certificate_file: None, audience, lifetime };
        let mut seen = Vec::new();
        for _ in 0..2 {
            let secrets = read(&config, about()).await.unwrap();
            let Proof::Assertion(jwt) = &secrets.proof else { panic!("{secrets:?}") };
            let (header, claims) = parts(jwt);
            assert_eq!(header, serde_json::json!({ "typ": "JWT", "alg": "HS256" }));
            // RFC 7523 3.
            assert_eq!(
                (&claims["iss"], &claims["sub"], &claims["aud"]),
                (&"client".into(), &"client".into(), &aud.into())
            );
            assert_eq!((&claims["iat"], &claims["exp"]), (&NOW.into(), &(NOW + 120).into()));
            seen.push(claims["jti"].as_str().unwrap().to_owned());
            assert!(secrets.all().any(|one| one == jwt) && !format!("{secrets:?}").contains(jwt.expose()));
        }
        assert_ne!(seen[0], seen[1]);
    }
}

#[tokio::test]
async fn an_assertion_says_what_is_written() {
    let mut config = oauth2("https://auth.test/token");
    let written = serde_json::json!({ "iss": "app", "sub": "user", "aud": "https://login.test", "scope": "a b" });
    let Value::Object(claims) = written.clone() else { panic!("{written}") };
    let lifetime = Duration::from_secs(60);
    config.grant = Grant::JwtBearer(Assertion::Signed { key: hmac(), claims, lifetime });
    let secrets = read(&config, about()).await.unwrap();
    let [("assertion", jwt)] = secrets.grant.as_slice() else { panic!("{secrets:?}") };
    let (_, claims) = parts(jwt);
    for name in ["iss", "sub", "aud", "scope"] {
        assert_eq!(claims[name], written[name], "{name}");
    }
    assert_eq!(claims["exp"], NOW + 60);
}

#[tokio::test]
async fn a_service_account_that_is_none_is_told_without_being_shown() {
    let mut config = oauth2("https://auth.test/token");
    for (text, said) in [
        ("canary", "no JSON object (line 1, column 1)"),
        (r#"{"client_email":"a@b"}"#, "it has no `private_key`"),
        (r#"{"private_key":"canary"}"#, "it has no `client_email`"),
        (r#"{"private_key":"canary","client_email":"a@b"}"#, "cannot be used"),
    ] {
        let (file, lifetime) = (literal(text), Duration::from_secs(60));
        config.grant = Grant::JwtBearer(Assertion::ServiceAccount { file, claims: Map::new(), lifetime });
        let error = read(&config, about()).await.unwrap_err();
        assert!(error.detail.contains(said) && !format!("{error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn the_latest_refresh_token_and_the_callers_own_stand_in() {
    let mut config = oauth2("https://auth.test/token");
    let latest = Secret::new("latest");
    config.grant = Grant::RefreshToken { token: literal(" first\n"), state_file: None };
    assert_eq!(read(&config, about()).await.unwrap().grant, [("refresh_token", Secret::new("first"))]);
    let next = About { instead: Some(&latest), ..about() };
    assert_eq!(read(&config, next).await.unwrap().grant, [("refresh_token", latest.clone())]);

    config.grant = Grant::TokenExchange {
        subject: Subject::Caller { header: http::header::AUTHORIZATION, max_subjects: 1 },
        subject_token_type: "x".to_owned(),
        actor: Some((literal("actor"), "y".to_owned())),
        requested_token_type: None,
    };
    let expected = [("subject_token", latest.clone()), ("actor_token", Secret::new("actor"))];
    assert_eq!(read(&config, next).await.unwrap().grant, expected);
    assert!(read(&config, about()).await.unwrap_err().detail.contains("there is no request"));
}

#[tokio::test]
async fn the_assertion_of_a_caller_is_presented_as_it_is() {
    let mut config = oauth2("https://auth.test/token");
    let header = http::header::AUTHORIZATION;
    config.grant = Grant::JwtBearer(Assertion::Caller { header, max_subjects: 1 });
    let of_caller = Secret::new("canary-caller");
    let secrets = read(&config, About { instead: Some(&of_caller), ..about() }).await.unwrap();
    assert_eq!(secrets.grant, [("assertion", of_caller)]);
    // Without a request there is none.
    assert_eq!(read(&config, about()).await.unwrap_err().kind, FetchErrorKind::Secret);
    assert_eq!(config.caller(), Some((&http::header::AUTHORIZATION, 1)));
}
