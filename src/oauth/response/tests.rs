use http::{HeaderMap, HeaderValue, StatusCode};

use super::*;
use crate::{
    config::OAuth2,
    oauth::{
        scrub::Scrubber,
        tests::{client_secret, endpoint, oauth2},
    },
};

/// 2023-11-14T22:13:20Z.
const NOW: u64 = 1_700_000_000;

fn read_with(
    config: &OAuth2,
    status: u16,
    headers: &[(&'static str, &'static str)],
    body: &[u8],
) -> Result<Granted, FetchError> {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    let url = endpoint(config);
    let scrubber = Scrubber::new(config, url, &client_secret("canary-secret"));
    let asked = Asked {
        profile: "billing",
        endpoint: "https://auth.test/token",
        url,
        config,
        scrubber: &scrubber,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW),
    };
    read(Answer { status: StatusCode::from_u16(status).unwrap(), headers: &headers, body }, &asked)
}

fn read_ok(body: &str) -> Granted {
    read_with(&oauth2("https://auth.test/token"), 200, &[], body.as_bytes()).unwrap()
}

/// The problem of a 200, which has to be an invalid response.
fn problem(body: &[u8]) -> (String, String) {
    let error = read_with(&oauth2("https://auth.test/token"), 200, &[], body).unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::InvalidResponse, "{error:?}");
    let prefix = "token endpoint https://auth.test/token sent no usable token: ";
    (error.detail.strip_prefix(prefix).unwrap_or(&error.detail).to_owned(), error.hint)
}

fn seconds(n: u64) -> Option<Duration> {
    Some(Duration::from_secs(n))
}

#[test]
fn expires_in_is_read_as_servers_write_it() {
    for (written, lifetime) in [
        ("3600", seconds(3600)),
        ("3600.0", seconds(3600)),
        ("3.6e3", seconds(3600)),
        (r#""3600""#, seconds(3600)),
        (r#"" 3600.5 ""#, Some(Duration::from_millis(3_600_500))),
        ("null", None),
        (r#""""#, None),
        ("0", seconds(0)),
        ("-5", seconds(0)),
        (r#""-5""#, seconds(0)),
        ("0.5", Some(Duration::from_millis(500))),
        ("1e300", Some(MAX_LIFETIME)),
        ("99999999999999999999999999", Some(MAX_LIFETIME)),
    ] {
        let fetched = read_ok(&format!(r#"{{"access_token":"t","expires_in":{written}}}"#));
        assert_eq!(fetched.lifetime, lifetime, "{written}");
        assert_eq!(fetched.warnings, Vec::<String>::new(), "{written}");
    }
    assert_eq!(read_ok(r#"{"access_token":"t"}"#).lifetime, None);
}

#[test]
fn an_expires_in_that_is_no_number_is_ignored_with_a_warning() {
    for written in ["true", "[]", r#""soon""#, r#""inf""#, r#""NaN""#] {
        let fetched = read_ok(&format!(r#"{{"access_token":"t","expires_in":{written}}}"#));
        assert_eq!(fetched.lifetime, None, "{written}");
        assert!(fetched.warnings[0].contains("expires_in"), "{written}");
    }
}

#[test]
fn a_jwt_tells_its_own_lifetime_where_the_answer_does_not() {
    let jwt = |claims: &str| format!("eyJhbGciOiJub25lIn0.{}.c2ln", BASE64URL.encode(claims));
    for (claims, lifetime) in [
        (format!(r#"{{"exp":{}}}"#, NOW + 600), seconds(600)),
        // It was made a while ago: what counts is what is left.
        (format!(r#"{{"iat":{},"exp":{}.0}}"#, NOW - 300, NOW + 600), seconds(600)),
        (format!(r#"{{"exp":{}}}"#, NOW - 1), seconds(0)),
        (r#"{"exp":1e300}"#.to_owned(), Some(MAX_LIFETIME)),
        (r#"{"exp":"soon"}"#.to_owned(), None),
        (r#"{"sub":"x"}"#.to_owned(), None),
        ("no json".to_owned(), None),
    ] {
        let fetched = read_ok(&format!(r#"{{"access_token":"{}"}}"#, jwt(&claims)));
        assert_eq!(fetched.lifetime, lifetime, "{claims}");
    }
    let token = jwt(&format!(r#"{{"exp":{}}}"#, NOW + 600));
    let told = read_ok(&format!(r#"{{"access_token":"{token}","expires_in":60}}"#));
    assert_eq!(told.lifetime, seconds(60), "expires_in comes first");
    for opaque in ["a.b", "a.!!.c", "a.b.c.d", "a.b.c.d.e"] {
        assert_eq!(read_ok(&format!(r#"{{"access_token":"{opaque}"}}"#)).lifetime, None, "{opaque}");
    }
}

#[test]
fn answers_that_differ_in_what_does_not_matter_are_fine() {
    for body in [
        r#"{"access_token":"t","token_type":"Bearer"}"#,
        r#"{"access_token":"t","token_type":"bearer"}"#,
        r#"{"access_token":"t","token_type":"BEARER "}"#,
        r#"{"access_token":"t","token_type":"BearerToken"}"#,
        r#"{"access_token":"t","token_type":""}"#,
        r#"{"access_token":"t","token_type":null}"#,
        r#"{"access_token":"t","error":null}"#,
        r#"{"access_token":"t","refresh_token":"r","extra":{"a":[1]},"userinfo":null}"#,
        "\u{feff}\r\n {\"access_token\":\"t\"}\n",
    ] {
        assert_eq!(read_ok(body).token.expose(), "t", "{body}");
    }
    let config = oauth2("https://auth.test/token");
    for status in [200, 201, 202, 203] {
        let html = [("content-type", "text/html; charset=utf-8")];
        let fetched = read_with(&config, status, &html, br#"{"access_token":"t"}"#).unwrap();
        assert_eq!(fetched.token.expose(), "t");
        assert_eq!((fetched.lifetime, fetched.warnings), (None, Vec::new()));
    }
}

#[test]
fn tokens_of_all_visible_characters_are_fine_up_to_the_limit() {
    let visible: String = (0x21..=0x7e_u8).map(char::from).collect();
    let body = serde_json::json!({ "access_token": visible }).to_string();
    assert_eq!(read_ok(&body).token.expose(), visible);
    let longest = "x".repeat(MAX_TOKEN);
    assert_eq!(read_ok(&format!(r#"{{"access_token":"{longest}"}}"#)).token.expose(), longest);
}

#[test]
fn a_success_that_is_none_says_exactly_why() {
    let long = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(MAX_TOKEN + 1));
    for (body, expected) in [
        ("", "200 with an empty body"),
        (" \r\n", "200 with an empty body"),
        ("{}", "200 without an access_token"),
        (r#"{"id_token":"x"}"#, "200 without an access_token, only an id_token"),
        (r#"{"access_token":null}"#, "200 without an access_token"),
        (r#"{"access_token":42}"#, "access_token is a number, not text"),
        (r#"{"access_token":{"value":"x"}}"#, "access_token is an object, not text"),
        (r#"{"access_token":""}"#, "an empty access_token"),
        (r#"{"access_token":"canary tok"}"#, "an access_token with a space at byte 6"),
        (r#"{"access_token":"canary\r\nX: y"}"#, "an access_token with a line end at byte 6"),
        (r#"{"access_token":"canary\u0000"}"#, "an access_token with a control character at byte 6"),
        (r#"{"access_token":"canaryü"}"#, "an access_token with a character beyond ASCII at byte 6"),
        (&long, "an access_token of 16385 bytes, more than 16384"),
        (r#"{"access_token":"canary","expi"#, "JSON that ends too early, after 30 bytes"),
        ("[]", "JSON that is a list, not an object"),
        (r#""canary""#, "JSON that is a text, not an object"),
        ("access_token=canary", "a body that is not JSON (line 1, column 1)"),
        ("{'access_token':1}", "a body that is not JSON (line 1, column 2)"),
        (r#"{"access_token":"canary","token_type":"DPoP"}"#, "a token of type `DPoP`, not Bearer"),
        (r#"{"access_token":"canary","token_type":"mac"}"#, "a token of type `mac`, not Bearer"),
        (r#"{"access_token":"canary","token_type":"N_A"}"#, "a token of type `N_A`, not Bearer"),
        (r#"{"access_token":"canary","token_type":"x"}"#, "a token of type `x`, not Bearer"),
        (r#"{"access_token":"canary","token_type":"canary-secret"}"#, "a token of type `[redacted]`, not Bearer"),
        (r#"{"access_token":"canary","token_type":7}"#, "token_type is a number, not text"),
    ] {
        let (problem, hint) = problem(body.as_bytes());
        assert_eq!(problem, expected, "{body}");
        assert!(!hint.is_empty() && !hint.contains("canary"), "{hint}");
    }
}

#[test]
fn what_to_do_is_told_apart() {
    for (body, expected) in [
        (&b"<!doctype html><p>canary"[..], "this looks like a web page, is token_endpoint right?"),
        (b"", "check that token_endpoint is the address"),
        (br#"{"a"#, "cuts its answers short"),
        (br#"{"access_token":"t","token_type":"DPoP"}"#, "set dpop = true in this profile"),
        (br#"{"access_token":"t","token_type":"MAC"}"#, "signed requests (MAC)"),
        (br#"{"access_token":"t","token_type":"n_a"}"#, "no access token (N_A"),
        (b"\xff\xfe", "check that token_endpoint is the address"),
    ] {
        let (_, hint) = problem(body);
        assert!(hint.contains(expected), "{hint}");
    }
    let html = [("content-type", "text/html")];
    let error = read_with(&oauth2("https://auth.test/token"), 200, &html, b"Log in, canary").unwrap_err();
    assert!(error.detail.ends_with("HTML instead of JSON"), "{error}");
}

#[test]
fn an_error_with_status_200_is_the_error() {
    let error = read_with(&oauth2("https://auth.test/token"), 200, &[], br#"{"error":"invalid_client"}"#).unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::InvalidClient);
    let error = read_with(&oauth2("https://auth.test/token"), 200, &[], br#"{"error":{"code":7}}"#).unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Refused);
}

#[test]
fn a_redirect_is_refused_and_says_where_to() {
    let config = oauth2("https://auth.test/token");
    for (location, expected) in [
        (
            Some("https://evil.test:8443/steal?canary=1#x"),
            "token endpoint https://auth.test/token answered 302, a redirect to evil.test",
        ),
        (Some("/login?canary"), "token endpoint https://auth.test/token answered 302, a redirect to auth.test"),
        (Some("https://:::"), "token endpoint https://auth.test/token answered 302"),
        (None, "token endpoint https://auth.test/token answered 302"),
    ] {
        let headers: Vec<_> = location.map(|to| ("location", to)).into_iter().collect();
        let error = read_with(&config, 302, &headers, br#"{"access_token":"canary"}"#).unwrap_err();
        assert_eq!((error.kind, error.detail.as_str()), (FetchErrorKind::Refused, expected));
        assert!(error.hint.contains("redirects are not followed"), "{}", error.hint);
    }
}

#[test]
fn a_narrower_scope_is_a_warning() {
    let mut config = oauth2("https://auth.test/token");
    config.scope = Some("read write admin".to_owned());
    let warned = |scope: &str| {
        let body = format!(r#"{{"access_token":"t","scope":{scope}}}"#);
        read_with(&config, 200, &[], body.as_bytes()).unwrap().warnings.pop()
    };
    assert_eq!(warned(r#""admin write read more""#), None);
    assert_eq!(warned(r#"["read","write","admin"]"#), None);
    assert_eq!(warned(r#""read,write,admin""#), None);
    assert_eq!(warned("null"), None);
    assert_eq!(
        warned(r#""read""#).unwrap(),
        "the server granted a narrower scope than asked for, without `write admin`"
    );
    assert_eq!(warned(r#""reader write admin""#).unwrap().matches("`read`").count(), 1);
    assert_eq!(read_ok(r#"{"access_token":"t","scope":""}"#).warnings.len(), 0, "none was asked for");
}

#[test]
fn an_id_token_is_taken_where_one_was_asked_for() {
    let mut config = oauth2("https://auth.test/token");
    let body = br#"{"id_token":"canary-id"}"#;
    for (claim, taken) in [("target_audience", true), ("audience", false)] {
        let claims = serde_json::json!({ claim: "https://run.test" }).as_object().unwrap().clone();
        let file = crate::oauth::tests::literal("x");
        config.grant = Grant::JwtBearer(Assertion::ServiceAccount { file, claims, lifetime: Duration::from_secs(1) });
        let granted = read_with(&config, 200, &[], body);
        assert_eq!(granted.is_ok_and(|granted| granted.token == Secret::new("canary-id")), taken, "{claim}");
    }
}
