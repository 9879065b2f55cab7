//! Servers that the documents lanyard was asked for from describe: Aidbox ("Client Credentials", docs.aidbox.app) and a
//! server with a tenant in the path.

use serde_json::{Value, json};

use super::{
    case::Case,
    lookalike::{Asked, Lookalike, Told},
};

fn aidbox(asked: &Asked) -> Told {
    if !asked.is_post("/auth/token") {
        return Told::not_found();
    }
    if asked.header("content-type") != Some("application/json") {
        return Told::error(415, "invalid_request", "Unsupported media type");
    }
    let said: Value = serde_json::from_str(&asked.body).unwrap();
    if said["grant_type"] != "client_credentials" {
        return Told::error(400, "unsupported_grant_type", "");
    }
    if said["client_id"] != "api-client" || said["client_secret"] != "canary-secret" {
        return Told::error(401, "invalid_client", "Unauthorized client");
    }
    // No lifetime, and a refresh token that nobody asked for.
    Told::token("canary-aidbox", json!({ "refresh_token": "canary-refresh" }))
}

#[tokio::test(flavor = "multi_thread")]
async fn aidbox_takes_json() {
    let files = [("fhir/client_secret", "canary-secret\n")];
    let host = "https://box.acme.example";
    let case = Case::new("## Aidbox", 0, host, Lookalike::start(aidbox).await, &files).await;
    let (authorization, left) = case.works().await;
    assert_eq!(authorization, "Bearer canary-aidbox");
    assert!((500..=600).contains(&left), "default_token_lifetime: {left}");
    let sent =
        "{\"grant_type\":\"client_credentials\",\"client_id\":\"api-client\",\"client_secret\":\"canary-secret\"}";
    assert_eq!(case.server.posts()[0].body, sent);
    case.fails("request_format = \"json\"\n", "", &["answered 415"], &["misses a parameter"]).await;
    let fix = ["check client_id and client_secret of profile fhir"];
    case.fails("\"api-client\"", "\"api\"", &["401 invalid_client: Unauthorized client"], &fix).await;
}

fn tenant(asked: &Asked) -> Told {
    if !asked.is_post("/api/v1/tenant/test-tenant/oauth/token") {
        return Told::error(404, "not_found", "Tenant not found");
    }
    if asked.get("grant_type").is_empty() {
        return Told::error(400, "invalid_request", "Missing grant_type parameter");
    }
    if asked.get("grant_type") != "client_credentials" {
        return Told::error(400, "unsupported_grant_type", "Grant type not supported");
    }
    if asked.get("client_id") != "service-client-123" || asked.get("client_secret") != "canary-secret" {
        return Told::error(401, "invalid_client", "Client authentication failed");
    }
    let scope = asked.get("scope");
    if scope.split(' ').any(|one| !["api:read", "api:write"].contains(&one)) {
        return Told::error(400, "invalid_scope", "Scope not allowed");
    }
    Told::token("canary-tenant", json!({ "expires_in": 3600, "scope": scope }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_stands_in_the_path() {
    let files = [("tenant/client_secret", "canary-secret")];
    let host = "https://auth.acme.example";
    let case = Case::new("## A multi-tenant server", 0, host, Lookalike::start(tenant).await, &files).await;
    assert_eq!(case.works().await.0, "Bearer canary-tenant");
    let names = case.server.posts()[0].names();
    assert_eq!(names, ["grant_type", "scope", "client_id", "client_secret"]);
    let fix = ["check token_endpoint of profile tenant"];
    case.fails("test-tenant", "another-tenant", &["404 not_found: Tenant not found"], &fix).await;
    let fix = ["check client_id and client_secret", "client_secret_basic"];
    case.fails("service-client-123", "x", &["401 invalid_client: Client authentication failed"], &fix).await;
    case.fails("api:write", "api:erase", &["invalid_scope: Scope not allowed"], &["`api:read api:erase`"]).await;
}
