//! Auth0, by "Authenticate with Private Key JWT", "Get Access Tokens" and "Call Your API Using the Client Credentials Flow"
//! (auth0.com/docs).

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{
    case::Case,
    keys::{KNOWN, OTHER, verify},
    lookalike::{Asked, Lookalike, Told},
};

const CLIENT: &str = "lbqc3h8yWxtpTjvzAN2RrTgGGVhYQzNs";
const HOST: &str = "https://acme.eu.auth0.com";
const API: &str = "https://orders.acme.example";

/// It calls itself by a name with a slash at its end.
async fn start() -> Lookalike {
    let used: Arc<Mutex<HashSet<String>>> = Arc::default();
    Lookalike::start(move |asked: &Asked| {
        if asked.path == "/.well-known/openid-configuration" {
            let base = &asked.base;
            return Told::new(
                200,
                json!({ "issuer": format!("{base}/"), "token_endpoint": format!("{base}/oauth/token") }),
            );
        }
        if !asked.is_post("/oauth/token") {
            return Told::not_found();
        }
        if asked.get("client_id") != CLIENT {
            return Told::error(401, "access_denied", "Unauthorized");
        }
        let assertion = asked.get("client_assertion");
        if assertion.is_empty() {
            if asked.header("authorization").is_some() || asked.get("client_secret") != "canary-secret" {
                return Told::error(401, "access_denied", "Unauthorized");
            }
        } else {
            let issuer = format!("{}/", asked.base);
            // At most five minutes, and once.
            match verify(&assertion, &KNOWN.decoding(), &[Algorithm::RS256], &issuer, 300) {
                Err(problem) => {
                    return Told::error(401, "invalid_client", &format!("Invalid client assertion: {problem}"));
                }
                Ok((_, claims)) => {
                    assert_eq!((&claims["iss"], &claims["sub"]), (&json!(CLIENT), &json!(CLIENT)));
                    let jti = claims["jti"].as_str().unwrap();
                    assert!(jti.len() <= 64, "{jti}");
                    if !used.lock().unwrap().insert(jti.to_owned()) {
                        return Told::error(401, "invalid_client", "jti was used already");
                    }
                }
            }
        }
        match &*asked.get("audience") {
            "" => {
                let description = "No audience parameter was provided, and no default audience has been configured";
                Told::error(403, "access_denied", description)
            }
            API => Told::token("canary-auth0", json!({ "expires_in": 86400, "scope": "read:orders" })),
            "https://other.acme.example" => {
                let description = format!(
                    "Client is not authorized to access \"https://other.acme.example\". You need to create a \
                     \"client-grant\" associated to this API. (client {CLIENT})"
                );
                Told::error(403, "access_denied", &description)
            }
            other => Told::error(403, "access_denied", &format!("Service not found: {other}")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_the_body_and_an_audience() {
    let files = [("orders/client_secret", "canary-secret\n")];
    let case = Case::new("## Auth0", 0, HOST, start().await, &files).await;
    let (authorization, left) = case.works().await;
    assert_eq!(authorization, "Bearer canary-auth0");
    assert!((86_000..=86_400).contains(&left), "{left}");
    let asked = case.server.posts();
    assert_eq!(asked[0].names(), ["grant_type", "audience", "client_id", "client_secret"]);

    let audience = format!("audience = \"{API}\"\n");
    let fix = ["grant it access there", "set `audience` of profile orders"];
    case.fails(&audience, "", &["403 access_denied: No audience parameter"], &fix).await;
    let other = audience.replace("orders", "other");
    let said = ["403 access_denied: Client is not authorized", "You need to create a \"client-grant\""];
    case.fails(&audience, &other, &said, &["does not allow client", "grant it access there"]).await;
    case.fails("client_secret_post", "client_secret_basic", &["401 access_denied: Unauthorized"], &["client"]).await;
    // `audience` has a key of its own, in the place of a parameter.
    case.is_refused(
        &audience,
        &format!("params = {{ audience = \"{API}\" }}\n"),
        &["audience is a key of the profile"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_and_an_issuer_with_a_slash_at_its_end() {
    let files = [("orders/private_key.pem", &*KNOWN.pem)];
    let case = Case::new("## Auth0", 1, HOST, start().await, &files).await;
    assert_eq!(case.works().await.0, "Bearer canary-auth0");
    let paths: Vec<String> = case.server.asked().into_iter().map(|asked| asked.path).collect();
    let looked = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/oauth/token"];
    assert_eq!(paths, looked);
    // Without the slash the metadata is found all the same, and says how the issuer is written.
    let issuer = format!("issuer = \"{}/\"", case.server.url());
    let without = case.config.replace(&issuer, &issuer.replace("/\"", "\""));
    assert_ne!(without, case.config);
    let case = Case { config: without, ..case };
    assert_eq!(case.works().await.0, "Bearer canary-auth0");

    let method = "token_endpoint_auth_method";
    let other = format!("client_assertion_audience = \"token_endpoint\"\n{method}");
    let said = ["invalid_client: Invalid client assertion: InvalidAudience"];
    case.fails(method, &other, &said, &["client_assertion_audience = \"issuer\""]).await;
    let long = format!("assertion_lifetime = \"10m\"\n{method}");
    case.fails(method, &long, &["invalid_client: Invalid client assertion"], &["clock"]).await;
    case.file("orders/private_key.pem", &OTHER.pem);
    case.fails(method, method, &["InvalidSignature"], &["the public key of profile orders"]).await;
}
