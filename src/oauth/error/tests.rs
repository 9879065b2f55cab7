use http::HeaderValue;

use super::*;
use crate::{
    credential::FetchErrorKind as Kind,
    oauth::tests::{client_secret, endpoint, literal, oauth2},
    secret::Secret,
};

/// 2023-11-14T22:13:20Z.
const NOW: u64 = 1_700_000_000;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn refused_with(config: &OAuth2, secret: &str, status: u16, headers: &HeaderMap, body: &str) -> FetchError {
    let url = endpoint(config);
    let scrubber = &Scrubber::new(config, url, &client_secret(secret));
    let (profile, endpoint) = ("billing", "https://auth.test/token");
    let asked = Asked { profile, endpoint, url, config, scrubber, now: now() };
    refusal(Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: body.as_bytes() }, &asked)
}

fn refused(status: u16, body: &str) -> FetchError {
    let mut config = oauth2("https://auth.test/token");
    config.scope = Some("a b".to_owned());
    refused_with(&config, "canary-secret", status, &HeaderMap::new(), body)
}

#[test]
fn every_code_has_its_kind_and_its_fix() {
    for (code, kind, hint) in [
        (
            "invalid_client",
            Kind::InvalidClient,
            "check client_id and client_secret of profile billing; some servers want token_endpoint_auth_method = \"client_secret_post\"",
        ),
        ("unauthorized_client", Kind::UnauthorizedClient, "enable client credentials for it there"),
        (
            "invalid_scope",
            Kind::InvalidScope,
            "does not grant one of `a b` to this client: ask for it there, or change `scope`",
        ),
        ("invalid_grant", Kind::InvalidGrant, "client `client` is active there"),
        ("invalid_request", Kind::InvalidRequest, "(some want audience or resource)"),
        ("invalid_target", Kind::InvalidTarget, "`resource` or `audience`"),
        ("unsupported_grant_type", Kind::UnsupportedGrantType, "enable client credentials for client `client`"),
        ("temporarily_unavailable", Kind::ServerError, "tries again"),
        ("access_denied", Kind::Refused, "set `audience` of profile billing"),
        ("consent_required", Kind::Refused, "consent once, in a browser"),
        ("invalid_dpop_proof", Kind::Refused, "set dpop = true in profile billing"),
        ("use_dpop_nonce", Kind::Refused, "set dpop = true in profile billing"),
        ("never_heard_of", Kind::Refused, "the server refuses this request"),
    ] {
        let error = refused(400, &format!(r#"{{"error":"{code}","error_description":"Because."}}"#));
        assert_eq!(error.kind, kind, "{code}");
        assert_eq!(error.detail, format!("token endpoint https://auth.test/token answered 400 {code}: Because."));
        assert!(error.hint.contains(hint), "{}", error.hint);
    }
}

#[test]
fn hints_follow_the_settings() {
    let none = HeaderMap::new();
    let mut config = oauth2("https://auth.test/token");
    let hint = |config: &OAuth2, status, code: &str| {
        refused_with(config, "canary-secret", status, &none, &format!(r#"{{"error":"{code}"}}"#)).hint
    };
    assert!(hint(&config, 400, "invalid_scope").contains("set `scope`"));
    assert!(hint(&config, 400, "invalid_request").contains("some want scope or audience or resource"));
    assert!(hint(&config, 415, "").contains("request_format = \"json\""));
    // Keycloak's word for a wrong secret.
    assert!(hint(&config, 401, "unauthorized_client").starts_with("check client_id and client_secret"));
    config.dpop = Some(crate::config::Dpop { key: None });
    assert!(hint(&config, 400, "invalid_dpop_proof").contains("clock"));
    config.dpop = None;
    config.authentication = Authentication::ClientSecretPost(literal("x"));
    config.request_format = RequestFormat::Json;
    config.scope = Some("x".to_owned());
    config.audience = Some("x".to_owned());
    config.resource = vec!["x".to_owned()];
    assert!(hint(&config, 401, "invalid_client").contains("client_secret_basic"));
    assert!(hint(&config, 415, "").contains("request_format = \"form\""));
    assert!(!hint(&config, 400, "invalid_request").contains("some want"));
    assert!(!hint(&config, 403, "access_denied").contains("audience"));
}

#[test]
fn statuses_speak_where_bodies_do_not() {
    for (status, body, kind) in [
        (401, "", Kind::InvalidClient),
        (401, "<html>no</html>", Kind::InvalidClient),
        (401, r#"{"error":"Unauthorized"}"#, Kind::InvalidClient),
        (401, r#"{"error":"invalid_scope"}"#, Kind::InvalidScope),
        (403, "", Kind::InvalidClient),
        (403, r#"{"error":"access_denied"}"#, Kind::Refused),
        (403, r#"{"error":"unauthorized_client"}"#, Kind::UnauthorizedClient),
        (400, "", Kind::Refused),
        (400, "[]", Kind::Refused),
        (400, r#"{"error":null}"#, Kind::Refused),
        (404, "not found", Kind::Refused),
        (408, "", Kind::Timeout),
        (429, r#"{"error":"invalid_client"}"#, Kind::RateLimited),
        (500, r#"{"error":"invalid_client"}"#, Kind::ServerError),
        (502, "<html>", Kind::ServerError),
        (503, "", Kind::ServerError),
        (504, "", Kind::ServerError),
    ] {
        assert_eq!(refused(status, body).kind, kind, "{status} {body}");
    }
    assert_eq!(refused(403, "").detail, "token endpoint https://auth.test/token answered 403 Forbidden");
    assert!(refused(404, "").hint.contains("check token_endpoint of profile billing"));
    assert!(refused(407, "").hint.contains("egress_proxy"));
}

#[test]
fn errors_of_other_forms_are_understood() {
    for (body, kind, said) in [
        (r#"{"error":{"code":401,"message":"No.","status":"UNAUTHENTICATED"}}"#, Kind::Refused, "UNAUTHENTICATED: No."),
        (r#"{"error":{"code":"invalid_client","message":"No."}}"#, Kind::InvalidClient, "invalid_client: No."),
        (r#"{"error":{"code":7}}"#, Kind::Refused, "Bad Request"),
        (r#"{"error":true}"#, Kind::Refused, "Bad Request"),
        (r#"{"errors":[{"code":"E42","detail":"No."},{"detail":"x"}]}"#, Kind::Refused, "E42: No."),
        (r#"{"errors":["No."]}"#, Kind::Refused, "Bad Request: No."),
        (r#"{"errors":[1]}"#, Kind::Refused, "Bad Request"),
        (r#"{"errors":[]}"#, Kind::Refused, "Bad Request"),
        (r#"{"message":"No."}"#, Kind::Refused, "Bad Request: No."),
        (r#"{"type":"about:blank","title":"No."}"#, Kind::Refused, "Bad Request: No."),
    ] {
        let error = refused(400, body);
        assert_eq!(error.kind, kind, "{body}");
        assert_eq!(error.detail, format!("token endpoint https://auth.test/token answered 400 {said}"), "{body}");
    }
}

#[test]
fn a_code_that_is_none_is_not_shown() {
    for code in ["", "ünknown", r"a\\b", r"a\nb", &"x".repeat(65)] {
        let error = refused(400, &format!(r#"{{"error":"{code}"}}"#));
        assert_eq!(error.detail, "token endpoint https://auth.test/token answered 400 Bad Request", "{code}");
        assert_eq!(error.kind, Kind::Refused);
    }
    assert!(refused(400, &format!(r#"{{"error":"{}"}}"#, "x".repeat(64))).detail.ends_with(&"x".repeat(64)));
}

#[test]
fn what_a_server_reflects_is_not_shown() {
    let secret = "can/ary:s3 cr+et";
    let config = oauth2("https://auth.test/token");
    for reflected in [
        secret.to_owned(),
        super::super::authenticate::encode(secret),
        super::super::authenticate::basic(config.client_id.as_deref().unwrap(), &Secret::new(secret))
            .expose()
            .to_owned(),
    ] {
        for body in [
            serde_json::json!({ "error": "invalid_client", "error_description": format!("bad\u{0} {reflected}!") }),
            serde_json::json!({ "error": reflected }),
            serde_json::json!({ "error": { "code": reflected, "message": reflected } }),
            serde_json::json!({ "errors": [reflected] }),
            serde_json::json!({ "message": reflected }),
        ] {
            let error = refused_with(&config, secret, 400, &HeaderMap::new(), &body.to_string());
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(&reflected) && !shown.contains(secret), "{shown}");
            assert!(shown.contains("[redacted]"), "{shown}");
        }
    }
}

#[test]
fn a_description_is_stripped_and_cut() {
    let body = serde_json::json!({ "error": "invalid_client", "error_description": format!("a\r\n\u{1b}[1m{}", "x".repeat(500)) });
    let error = refused(400, &body.to_string());
    let description = error.detail.split("invalid_client: ").nth(1).unwrap();
    assert_eq!(description.chars().count(), 400);
    assert!(description.starts_with("a [1mxxx") && description.ends_with('…'), "{description}");
}

#[test]
fn retry_after_is_seconds_or_a_date_and_at_most_an_hour() {
    for (value, wait) in [
        ("30", Some(30)),
        (" 30 ", Some(30)),
        ("0", Some(0)),
        ("3601", Some(3600)),
        ("99999999999999999999999", Some(3600)),
        ("Tue, 14 Nov 2023 22:14:20 GMT", Some(60)),
        ("Tue, 14 Nov 2023 22:12:20 GMT", Some(0)),
        ("Wed, 14 Nov 2029 22:14:20 GMT", Some(3600)),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ] {
        let headers: HeaderMap = [(RETRY_AFTER, HeaderValue::from_static(value))].into_iter().collect();
        let expected = wait.map(Duration::from_secs);
        assert_eq!(retry_after(&headers, now()), expected, "{value:?}");
        for status in [429, 503] {
            let config = oauth2("https://auth.test/token");
            let error = refused_with(&config, "canary-secret", status, &headers, "");
            assert_eq!(error.retry_after, expected, "{value:?}");
        }
    }
    assert_eq!(retry_after(&HeaderMap::new(), now()), None);
}
