//! Amazon Cognito, by "Token endpoint" and "Scopes, M2M, and resource servers" of the Amazon Cognito Developer Guide.

use serde_json::json;

use super::{
    case::Case,
    lookalike::{Asked, Lookalike, Told},
};

const HOST: &str = "https://acme.auth.eu-west-1.amazoncognito.com";
const CLIENT: &str = "djc98u3jiedmi283eu928";
const KNOWN_SCOPES: [&str; 2] = ["photos.acme.example/read", "photos.acme.example/write"];

/// Its errors are a code and nothing else.
fn answer(asked: &Asked) -> Told {
    if !asked.is_post("/oauth2/token") {
        return Told::not_found();
    }
    let header = asked.basic();
    let body = Some((asked.get("client_id"), asked.get("client_secret"))).filter(|(_, secret)| !secret.is_empty());
    let ((Some((client, secret)), None) | (None, Some((client, secret)))) = (header, body) else {
        return Told::error(400, "invalid_request", "");
    };
    if client != CLIENT || secret != "canary-abc/def+0123=456" {
        return Told::error(400, "invalid_client", "");
    }
    if asked.get("grant_type") != "client_credentials" {
        return Told::error(400, "unauthorized_client", "");
    }
    if asked.get("scope").split(' ').any(|scope| !KNOWN_SCOPES.contains(&scope)) {
        return Told::error(400, "invalid_scope", "");
    }
    Told::token("canary-cognito", json!({ "expires_in": 3600 }))
}

#[tokio::test(flavor = "multi_thread")]
async fn cognito() {
    let files = [("photos/client_secret", "canary-abc/def+0123=456\n")];
    let case = Case::new("## Amazon Cognito", 0, HOST, Lookalike::start(answer).await, &files).await;
    assert_eq!(case.works().await.0, "Bearer canary-cognito");
    let asked = case.server.posts();
    assert_eq!(asked[0].names(), ["grant_type", "scope"]);
    assert_eq!(asked[0].get("scope"), KNOWN_SCOPES.join(" "));
    // As it says itself, one of the two and never both.
    let post = "token_endpoint_auth_method = \"client_secret_post\"\nclient_id";
    let case = Case { config: case.config.replace("client_id", post), ..case };
    assert_eq!(case.works().await.0, "Bearer canary-cognito");

    let fix = ["check client_id and client_secret of profile photos"];
    case.fails(CLIENT, "djc98u3jiedmi283eu929", &["answered 400 invalid_client"], &fix).await;
    let fix = ["does not grant one of `photos.acme.example/read photos.acme.example/erase`"];
    case.fails("photos.acme.example/write", "photos.acme.example/erase", &["answered 400 invalid_scope"], &fix).await;
    let grant = "grant_type = \"password\"\nusername = \"ann\"\npassword = \"canary-ann\"\nclient_id";
    case.fails("client_id", grant, &["answered 400 unauthorized_client"], &["enable the password grant"]).await;
}
