//! Keycloak, by "Securing applications and services with OpenID Connect", "Configuring and using token exchange" and the
//! client authenticators of its "Server Administration Guide" (keycloak.org/docs).

use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::json;

use super::{
    case::Case,
    keys::{claims, unsigned, verify},
    lookalike::{Asked, Lookalike, Told},
};

const HOST: &str = "https://sso.acme.example";
const TOKEN: &str = "/realms/acme/protocol/openid-connect/token";
const SECRET: &str = "canary-gF8vQ2nTkZ4xW7yLbR1cD6eH3jM9";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

async fn start() -> Lookalike {
    Lookalike::start(|asked: &Asked| {
        let realm = format!("{}/realms/acme", asked.base);
        // Where OpenID Connect has it, and nowhere else.
        if asked.path == "/realms/acme/.well-known/openid-configuration" {
            let endpoint = format!("{}{TOKEN}", asked.base);
            let mtls = json!({ "token_endpoint": endpoint });
            return Told::new(
                200,
                json!({ "issuer": realm, "token_endpoint": endpoint, "mtls_endpoint_aliases": mtls }),
            );
        }
        if asked.path.starts_with("/realms/") && asked.method == "GET" {
            return Told::new(404, json!({ "error": "Realm does not exist" }));
        }
        if !asked.is_post(TOKEN) {
            return Told::new(404, json!({ "error": "Unable to find matching target resource method" }));
        }
        let assertion = asked.get("client_assertion");
        let client = if assertion.is_empty() {
            let Some((id, secret)) = asked.basic() else {
                return Told::error(401, "invalid_client", "Invalid client or Invalid client credentials");
            };
            if secret != SECRET {
                return Told::error(401, "unauthorized_client", "Invalid client or Invalid client credentials");
            }
            id
        } else {
            let key = DecodingKey::from_secret(SECRET.as_bytes());
            match verify(&assertion, &key, &[Algorithm::HS256, Algorithm::HS512], &realm, 300) {
                Ok((_, said)) if said["iss"] == said["sub"] && said["jti"].is_string() => {
                    said["iss"].as_str().unwrap().to_owned()
                }
                _ => {
                    let description = "Client authentication with client secret signed JWT failed: Signature on JWT token \
                                       by client secret  failed validation";
                    return Told::error(401, "unauthorized_client", description);
                }
            }
        };
        match &*asked.get("grant_type") {
            "client_credentials" if client == "stock-sync" => {}
            "client_credentials" => {
                return Told::error(401, "unauthorized_client", "Client not enabled to retrieve service account");
            }
            EXCHANGE => return exchange(asked, &client),
            _ => return Told::error(400, "unsupported_grant_type", "Unsupported grant_type"),
        }
        if asked.get("scope") == "nonsense" {
            return Told::error(400, "invalid_scope", "Invalid scopes: nonsense");
        }
        let more = json!({ "expires_in": 300, "refresh_expires_in": 0, "not-before-policy": 0, "scope": "email profile" });
        Told::token("canary-keycloak", more)
    })
    .await
}

/// Standard token exchange: the client is in the audience of the token, and the new one is for a client that is known.
fn exchange(asked: &Asked, client: &str) -> Told {
    assert_eq!(client, "shop-backend");
    if asked.get("subject_token_type") != "urn:ietf:params:oauth:token-type:access_token" {
        return Told::error(400, "invalid_request", "Parameter 'subject_token' supports access tokens only");
    }
    let said = claims(&asked.get("subject_token")).unwrap_or_default();
    if said["exp"].as_u64().unwrap_or(0) < jsonwebtoken::get_current_timestamp() {
        return Told::error(400, "invalid_request", "Invalid token");
    }
    if said["aud"] != client {
        return Told::error(403, "access_denied", "Client is not within the token audience");
    }
    match &*asked.get("audience") {
        "stock" => Told::token(
            "canary-exchanged",
            json!({
                "expires_in": 300, "refresh_expires_in": 0, "scope": "email profile",
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            }),
        ),
        other => Told::error(400, "invalid_client", &format!("Requested audience not available: {other}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_never_sent() {
    let files = [("stock/client_secret", SECRET)];
    let case = Case::new("### With a secret that is never sent", 0, HOST, start().await, &files).await;
    let (authorization, left) = case.works().await;
    assert_eq!(authorization, "Bearer canary-keycloak");
    assert!((200..=300).contains(&left), "{left}");
    let asked = case.server.asked();
    let paths: Vec<&str> = asked.iter().map(|asked| &*asked.path).collect();
    // RFC 8414 first.
    let (first, second) =
        ("/.well-known/oauth-authorization-server/realms/acme", "/realms/acme/.well-known/openid-configuration");
    assert_eq!(paths, [first, second, TOKEN]);
    assert!(asked.iter().all(|asked| !asked.body.contains(SECRET)));

    let issuer = format!("{}/realms/acme", case.server.url());
    let wrong = format!("{}/realms/amce", case.server.url());
    case.fails(&issuer, &wrong, &["answered 404"], &["check issuer of profile stock"]).await;
    let said = ["401 unauthorized_client: Client not enabled to retrieve service account"];
    let fix = ["check client_id and client_secret", "does not allow it client credentials"];
    case.fails("stock-sync", "shop-backend", &said, &fix).await;
    let scope = "client_id = \"stock-sync\"\nscope = \"nonsense\"";
    case.fails("client_id = \"stock-sync\"", scope, &["invalid_scope"], &["does not grant one of `nonsense`"]).await;
    case.file("stock/client_secret", &SECRET.replace("gF8", "xxx"));
    let fix = ["check client_id and client_secret of profile stock"];
    case.fails("stock", "stock", &["401 unauthorized_client: Client authentication"], &fix).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_exchanged() {
    let token = |audience: &str, lives: i64| {
        let now = i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap();
        unsigned(&json!({ "aud": audience, "exp": now + lives, "sub": "ann", "canary": "canary-ann" }))
    };
    let good = token("shop-backend", 600);
    let files = [("stock/client_secret", SECRET), ("stock/token", &*good)];
    let case = Case::new("### Token exchange", 0, HOST, start().await, &files).await;
    assert_eq!(case.works().await.0, "Bearer canary-exchanged");
    let asked = case.server.posts().pop().unwrap();
    assert_eq!(asked.names(), ["grant_type", "subject_token_type", "subject_token", "audience"]);
    assert_eq!((asked.get("subject_token"), asked.basic().unwrap().0), (good.clone(), "shop-backend".to_owned()));

    let fix = ["check client_id and client_secret"];
    case.fails("audience = \"stock\"", "audience = \"nobody\"", &["Requested audience not available: nobody"], &fix)
        .await;
    let kind = "subject_token_type = \"access_token\"\n";
    case.fails(kind, "", &["invalid_request: Parameter 'subject_token'"], &["compare profile stock"]).await;
    case.is_refused(kind, "subject_token_type = \"bearer\"\n", &["is no token type", "\"access_token\""]).await;
    case.file("stock/token", &token("another", 600));
    let said = ["403 access_denied: Client is not within the token audience"];
    case.fails("stock", "stock", &said, &["does not allow client `shop-backend`"]).await;
    case.file("stock/token", &token("shop-backend", -60));
    case.fails("stock", "stock", &["invalid_request: Invalid token"], &["refuses"]).await;
    case.file("stock/token", &good);
    case.file("stock/client_secret", "canary-wrong");
    let said = ["401 unauthorized_client: Invalid client or Invalid client credentials"];
    case.fails("stock", "stock", &said, &["check client_id and client_secret"]).await;
    // Keys of another grant.
    case.is_refused("audience", "assertion = \"canary-x\"\naudience", &["assertion", "jwt-bearer"]).await;
    case.is_refused("audience", "refresh_token = \"canary-x\"\naudience", &["grant_type = \"refresh_token\""]).await;
}
