//! A metadata server that follows a script: what it is asked, byte for byte, and what is made of its answers.

use std::time::Duration;

use super::*;
use crate::{
    credential::{FetchError, FetchErrorKind},
    oauth::tests::{
        dialer,
        server::{Reply, Server, Step},
    },
};

fn config(server: &Server) -> GoogleMetadata {
    GoogleMetadata {
        account: "default".to_owned(),
        scope: None,
        audience: None,
        metadata_endpoint: Some(Url::parse(&server.url("")).unwrap()),
        timeout: Duration::from_secs(5),
    }
}

fn account(config: &GoogleMetadata) -> ServiceAccount {
    ServiceAccount::with("p", config, &dialer(), None).unwrap()
}

fn google(reply: Reply) -> Step {
    Step::Answer(reply.header("Metadata-Flavor", "Google"))
}

fn granted() -> Step {
    google(Reply::json(r#"{"access_token":"canary-token","expires_in":3599,"token_type":"Bearer"}"#))
}

async fn failure(config: &GoogleMetadata) -> FetchError {
    let account = account(config);
    let error = account.fetch().await.unwrap_err();
    assert!(!error.hint.is_empty() && !format!("{error:?} {account:?}").contains("canary"), "{error:?}");
    error
}

#[tokio::test]
async fn an_access_token_is_asked_for_by_exactly_this_request() {
    for (account_name, scope, path) in [
        ("default", None, "default/token"),
        ("app@project.iam.gserviceaccount.com", None, "app@project.iam.gserviceaccount.com/token"),
        (
            "default",
            Some("https://www.googleapis.com/auth/a https://www.googleapis.com/auth/b"),
            "default/token?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fa%2Chttps%3A%2F%2Fwww.googleapis.com%2Fauth%2Fb",
        ),
    ] {
        let server = Server::start(vec![granted()]).await;
        let mut config = config(&server);
        config.account = account_name.to_owned();
        config.scope = scope.map(str::to_owned);
        let fetched = account(&config).fetch().await.unwrap();
        assert_eq!(fetched.material.token().unwrap().expose(), "canary-token");
        assert_eq!(fetched.lifetime.unwrap().as_secs(), 3599);
        let expected = format!(
            "GET /computeMetadata/v1/instance/service-accounts/{path} HTTP/1.1\r\nmetadata-flavor: Google\r\n\
             accept: */*\r\nuser-agent: lanyard/{}\r\nhost: {}\r\n\r\n",
            env!("CARGO_PKG_VERSION"),
            server.address
        );
        assert_eq!(server.requests(), [expected]);
    }
}

#[tokio::test]
async fn an_identity_token_lives_as_long_as_it_says() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let exp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 3600;
    let token = format!("e30.{}.canary", URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{exp}}}")));
    let server = Server::start(vec![google(Reply::new("200 OK").body(&token))]).await;
    let mut config = config(&server);
    config.audience = Some("https://api.example.com".to_owned());
    let fetched = account(&config).fetch().await.unwrap();
    assert_eq!(fetched.material.token().unwrap().expose(), token);
    assert!((3590..=3600).contains(&fetched.lifetime.unwrap().as_secs()));
    let request = server.requests().remove(0);
    let line = "GET /computeMetadata/v1/instance/service-accounts/default/identity\
                ?audience=https%3A%2F%2Fapi.example.com&format=full HTTP/1.1\r\n";
    assert!(request.starts_with(line), "{request}");
}

#[tokio::test]
async fn refusals_and_impostors_are_told() {
    let ours = r#"{"access_token":"canary-token"}"#;
    for (step, kind, detail, hint) in [
        (
            google(Reply::new("404 Not Found").body("not found")),
            FetchErrorKind::Refused,
            "answered 404: not found",
            "attach a service account",
        ),
        (
            google(Reply::new("403 Forbidden").body("<html>x")),
            FetchErrorKind::InvalidClient,
            "answered 403",
            "workloadIdentityUser",
        ),
        (google(Reply::new("400 Bad Request")), FetchErrorKind::InvalidRequest, "answered 400", "scope or audience"),
        (google(Reply::new("429 Slow Down")), FetchErrorKind::RateLimited, "answered 429", "asked again"),
        (google(Reply::new("503 Unavailable")), FetchErrorKind::ServerError, "answered 503", "asked again"),
        // A redirect is not followed.
        (
            google(Reply::new("302 Found").header("Location", "http://127.0.0.1:1/")),
            FetchErrorKind::Refused,
            "answered 302",
            "",
        ),
        (
            Step::Answer(Reply::json(ours)),
            FetchErrorKind::InvalidResponse,
            "200 without Metadata-Flavor: Google",
            "something else",
        ),
        (
            Step::Answer(Reply::json(ours).header("Metadata-Flavor", "Amazon")),
            FetchErrorKind::InvalidResponse,
            "200 without Metadata-Flavor: Google",
            "something else",
        ),
        (google(Reply::json("{}")), FetchErrorKind::InvalidResponse, "JSON without `access_token`", ""),
        (
            google(Reply::json(r#"{"access_token":"canary canary"}"#)),
            FetchErrorKind::InvalidResponse,
            "a space at byte 6",
            "",
        ),
        (Step::Close, FetchErrorKind::Unreachable, "ended before the whole answer", "on Google Cloud alone"),
        (
            Step::CutShort("200 OK"),
            FetchErrorKind::Unreachable,
            "ended before the whole answer",
            "on Google Cloud alone",
        ),
    ] {
        let server = Server::start(vec![step]).await;
        let error = failure(&config(&server)).await;
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(error.detail.contains(detail) && error.hint.contains(hint), "{error:?}");
        assert_eq!(server.requests().len(), 1);
    }
    let silent = Server::start(vec![Step::Silence]).await;
    let mut config = config(&silent);
    config.timeout = Duration::from_millis(200);
    assert_eq!(failure(&config).await.kind, FetchErrorKind::Timeout);
}

#[tokio::test]
async fn the_environment_says_where_it_is() {
    let server = Server::start(vec![granted()]).await;
    let mut config = config(&server);
    config.metadata_endpoint = None;
    let address = server.address.to_string();
    let account = ServiceAccount::with("p", &config, &dialer(), Some(&address)).unwrap();
    assert!(account.fetch().await.is_ok());
    let usual = ServiceAccount::with("p", &config, &dialer(), None).unwrap();
    assert!(usual.url.as_str().starts_with("http://169.254.169.254/computeMetadata/v1/"));
    let problem = ServiceAccount::with("p", &config, &dialer(), Some("a b")).unwrap_err();
    assert!(problem.contains("GCE_METADATA_HOST"), "{problem}");
}
