//! An identity service that follows a script: what it is asked, byte for byte, and what is made of its answers.

use std::time::Duration;

use super::*;
use crate::oauth::tests::{
    dialer,
    server::{Reply, Server, Step},
};

fn config(server: &Server) -> AzureManagedIdentity {
    AzureManagedIdentity {
        resource: "https://management.azure.com/".to_owned(),
        client_id: None,
        metadata_endpoint: Some(Url::parse(&server.url("")).unwrap()),
        timeout: Duration::from_secs(5),
    }
}

fn machine(config: &AzureManagedIdentity) -> ManagedIdentity {
    ManagedIdentity::with("p", config, &dialer(), Environment::default()).unwrap()
}

fn app(config: &AzureManagedIdentity, server: &Server) -> ManagedIdentity {
    let config = AzureManagedIdentity { metadata_endpoint: None, ..config.clone() };
    let environment =
        Environment { endpoint: Some(server.url("/msi/token")), header: Some("canary-identity-header".to_owned()) };
    ManagedIdentity::with("p", &config, &dialer(), environment).unwrap()
}

const RESOURCE: &str = "https%3A%2F%2Fmanagement.azure.com%2F";

#[tokio::test]
async fn a_machine_asks_by_exactly_this_request() {
    for (client_id, more) in [(None, ""), (Some("11111111-2222"), "&client_id=11111111-2222")] {
        let body = r#"{"access_token":"canary-token","client_id":"x","expires_in":"3599","expires_on":"1506484173",
            "ext_expires_in":"86399","not_before":"1506480273","resource":"y","token_type":"Bearer"}"#;
        let server = Server::start(vec![Step::Answer(Reply::json(body))]).await;
        let mut config = config(&server);
        config.client_id = client_id.map(str::to_owned);
        let fetched = machine(&config).fetch().await.unwrap();
        assert_eq!(fetched.material.token().unwrap().expose(), "canary-token");
        assert_eq!(fetched.lifetime.unwrap().as_secs(), 3599);
        let expected = format!(
            "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource={RESOURCE}{more} HTTP/1.1\r\n\
             metadata: true\r\naccept: */*\r\nuser-agent: lanyard/{}\r\nhost: {}\r\n\r\n",
            env!("CARGO_PKG_VERSION"),
            server.address
        );
        assert_eq!(server.requests(), [expected]);
    }
}

#[tokio::test]
async fn an_app_asks_its_own_endpoint() {
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 7200;
    let body = format!("{{\"access_token\":\"canary-token\",\"expires_on\":\"{end}\",\"token_type\":\"Bearer\"}}");
    let server = Server::start(vec![Step::Answer(Reply::json(&body))]).await;
    let identity = app(&config(&server), &server);
    let fetched = identity.fetch().await.unwrap();
    assert!((7190..=7200).contains(&fetched.lifetime.unwrap().as_secs()));
    let request = server.requests().remove(0);
    let start = format!("GET /msi/token?api-version=2019-08-01&resource={RESOURCE} HTTP/1.1\r\n");
    assert!(request.starts_with(&start), "{request}");
    assert!(
        request.contains("\r\nx-identity-header: canary-identity-header\r\n") && !request.contains("metadata: true")
    );
    assert!(!format!("{identity:?}").contains("canary"));
}

#[tokio::test]
async fn the_environment_is_read_as_azure_means_it() {
    let server = Server::start(Vec::new()).await;
    let config = AzureManagedIdentity { metadata_endpoint: None, ..config(&server) };
    let usual = ManagedIdentity::with("p", &config, &dialer(), Environment::default()).unwrap();
    assert!(usual.url.as_str().starts_with("http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018"));
    for (endpoint, header, problem) in [
        ("http://127.0.0.1:1/", None, "as Azure Arc does"),
        ("canary", Some("canary".to_owned()), "IDENTITY_ENDPOINT is no URL"),
    ] {
        let environment = Environment { endpoint: Some(endpoint.to_owned()), header };
        let told = ManagedIdentity::with("p", &config, &dialer(), environment).unwrap_err();
        assert!(told.contains(problem) && !told.contains("canary"), "{told}");
    }
    let environment = Environment { endpoint: Some(server.url("/x")), header: Some("canary\n".to_owned()) };
    let error = ManagedIdentity::with("p", &config, &dialer(), environment).unwrap().fetch().await.unwrap_err();
    assert!(error.detail.contains("IDENTITY_HEADER") && !format!("{error:?}").contains("canary"), "{error:?}");
}

#[tokio::test]
async fn refusals_are_told_and_known_for_what_they_are() {
    let none = r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
    let reflected = r#"{"error":"x","error_description":"you sent canary-identity-header"}"#;
    for (reply, kind, detail, hint) in [
        (
            Reply::new("400 Bad Request").body(none),
            FetchErrorKind::InvalidRequest,
            "answered 400: invalid_request: Identity not found",
            "assign a managed identity",
        ),
        (
            Reply::new("401 Unauthorized").body(reflected),
            FetchErrorKind::InvalidClient,
            "x: you sent [redacted]",
            "take the request",
        ),
        (Reply::new("404 Not Found"), FetchErrorKind::ServerError, "answered 404", "asked again"),
        (Reply::new("410 Gone"), FetchErrorKind::ServerError, "answered 410", "asked again"),
        (
            Reply::new("429 Too Many").header("Retry-After", "7"),
            FetchErrorKind::RateLimited,
            "answered 429",
            "asked again",
        ),
        (Reply::new("500 Oops"), FetchErrorKind::ServerError, "answered 500", "asked again"),
        (
            Reply::new("302 Found").header("Location", "/elsewhere"),
            FetchErrorKind::Refused,
            "answered 302",
            "asked again",
        ),
        (Reply::json("[]"), FetchErrorKind::InvalidResponse, "JSON that is no object", "on Azure alone"),
        (Reply::json(r#"{"access_token":""}"#), FetchErrorKind::InvalidResponse, "nothing at all", "on Azure alone"),
    ] {
        let server = Server::start(vec![Step::Answer(reply)]).await;
        let identity = app(&config(&server), &server);
        let error = identity.fetch().await.unwrap_err();
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(error.detail.contains(detail) && error.hint.contains(hint), "{error:?}");
        assert_eq!(error.retry_after, (kind == FetchErrorKind::RateLimited).then_some(Duration::from_secs(7)));
        assert!(!format!("{error:?}").contains("canary") && server.requests().len() == 1);
    }
    let nobody = Server::closed().await;
    let mut config = config(&Server::start(Vec::new()).await);
    config.metadata_endpoint = Some(Url::parse(&format!("http://{nobody}/")).unwrap());
    let error = machine(&config).fetch().await.unwrap_err();
    assert!(error.kind == FetchErrorKind::Unreachable && error.hint.contains("on Azure alone"), "{error:?}");
}
