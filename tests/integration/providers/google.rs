//! Google, by "Using OAuth 2.0 for Server to Server Applications" (developers.google.com) and "Get an ID token"
//! (cloud.google.com).

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::{
    case::Case,
    keys::{KNOWN, OTHER, unsigned, verify},
    lookalike::{Asked, Lookalike, Told},
};

const ACCOUNT: &str = "sync@acme.iam.gserviceaccount.com";
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";
const REPORT: &str = "https://report-abcdefgh-ew.a.run.app";

fn answer(asked: &Asked) -> Told {
    if !asked.is_post("/token") {
        return Told::not_found();
    }
    if asked.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
        return Told::error(400, "unsupported_grant_type", "Invalid grant_type: client_credentials");
    }
    let endpoint = format!("{}/token", asked.base);
    let verified = verify(&asked.get("assertion"), &KNOWN.decoding(), &[Algorithm::RS256], &endpoint, 3600);
    let (header, said) = match verified {
        Ok(good) => good,
        Err(problem) if problem == "InvalidSignature" => {
            return Told::error(400, "invalid_grant", "Invalid JWT Signature.");
        }
        Err(problem) if problem == "InvalidAudience" => {
            return Told::error(
                400,
                "invalid_grant",
                "Invalid JWT: Failed audience check. The right audience is https://oauth2.googleapis.com/token",
            );
        }
        Err(_) => {
            let description = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. \
                               Check your iat and exp values in the JWT claim.";
            return Told::error(400, "invalid_grant", description);
        }
    };
    assert_eq!(header.kid.as_deref(), Some("a1b2c3"));
    if said["iss"] != ACCOUNT {
        return Told::error(400, "invalid_grant", "Invalid grant: account not found");
    }
    let id = |audience: &Value| {
        let now = jsonwebtoken::get_current_timestamp();
        unsigned(
            &json!({ "iss": "https://accounts.google.com", "aud": audience, "exp": now + 3600, "canary": "canary-id" }),
        )
    };
    match (&said["scope"], &said["target_audience"]) {
        (Value::Null, Value::Null) => {
            Told::error(400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        }
        // Nothing but this.
        (Value::Null, audience) => Told::new(200, json!({ "id_token": id(audience) })),
        (scope, _) if scope == SCOPE => {
            if said["sub"] != ACCOUNT && said["sub"] != "ann@acme.example" && !said["sub"].is_null() {
                let description = "Client is unauthorized to retrieve access tokens using this method, or client not \
                                   authorized for any of the scopes requested.";
                return Told::error(401, "unauthorized_client", description);
            }
            Told::token("canary-google", json!({ "expires_in": 3599 }))
        }
        _ => Told::error(400, "invalid_scope", "Some requested scopes were invalid. {invalid=[x]}"),
    }
}

/// As the console hands it out, for a token endpoint of ours.
fn key_file(endpoint: &str, pem: &str) -> String {
    let file = json!({
        "type": "service_account",
        "project_id": "acme",
        "private_key_id": "a1b2c3",
        "private_key": pem,
        "client_email": ACCOUNT,
        "client_id": "100000000000000000001",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": endpoint,
        "universe_domain": "googleapis.com",
    });
    serde_json::to_string_pretty(&file).unwrap()
}

/// The block, with a token endpoint that is not Google's.
async fn case(nth: usize, name: &str) -> Case {
    let case = Case::new("## Google Cloud", nth, "", Lookalike::start(answer).await, &[]).await;
    let endpoint = format!("{}/token", case.server.url());
    case.file(&format!("{name}/key.json"), &key_file(&endpoint, &KNOWN.pem));
    // Google's, unless it is written.
    let config =
        case.config.replace("service_account = ", &format!("token_endpoint = \"{endpoint}\"\nservice_account = "));
    Case { config, ..case }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account() {
    let case = case(0, "storage").await;
    let endpoint = format!("{}/token", case.server.url());
    let (authorization, left) = case.works().await;
    assert_eq!(authorization, "Bearer canary-google");
    assert!((3500..=3599).contains(&left), "{left}");
    let asked = case.server.posts();
    assert_eq!(asked[0].names()[..2], ["grant_type", "assertion"]);

    let scope = format!("scope = \"{SCOPE}\"\n");
    case.fails(&scope, "", &["invalid_scope: Invalid OAuth scope"], &["set `scope` of profile storage"]).await;
    case.fails(&scope, "scope = \"x\"\n", &["invalid_scope: Some requested scopes"], &["does not grant one of `x`"])
        .await;
    let user = format!("{scope}claims = {{ sub = \"bob@acme.example\" }}\n");
    case.fails(&scope, &user, &["401 unauthorized_client: Client is unauthorized"], &["the jwt-bearer grant"]).await;
    let long = format!("{scope}assertion_lifetime = \"2h\"\n");
    case.fails(&scope, &long, &["invalid_grant: Invalid JWT: Token must be a short-lived"], &["clock"]).await;
    case.is_refused(
        &scope,
        &format!("{scope}client_secret = \"canary-x\"\nrefresh_token = \"x\"\n"),
        &["refresh_token"],
    )
    .await;

    // For a user, who is delegated.
    let for_ann = case.config.replace(&scope, &user.replace("bob", "ann"));
    let case = Case { config: for_ann, ..case };
    assert_eq!(case.works().await.0, "Bearer canary-google");

    for (text, said, fix) in [
        (key_file(&endpoint, &OTHER.pem), "invalid_grant: Invalid JWT Signature.", "the key that it has for them"),
        (KNOWN.pem.clone(), "is no key file of Google's: no JSON object", "put the whole file there"),
        (KNOWN.jwk.clone(), "it has no `client_email`", "put the whole file there"),
        (key_file(&endpoint, "canary-no-pem"), "neither PEM nor a JWK", "-----BEGIN PRIVATE KEY-----"),
    ] {
        case.file("storage/key.json", &text);
        case.fails("storage", "storage", &[said], &[fix]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_for_cloud_run() {
    let case = case(1, "report").await;
    let (authorization, left) = case.works().await;
    let token = authorization.strip_prefix("Bearer ").unwrap();
    assert_eq!(super::keys::claims(token).unwrap()["aud"], REPORT);
    // By its own `exp`: nothing else tells.
    assert!((3500..=3600).contains(&left), "{left}");
    let claims = format!("claims = {{ target_audience = \"{REPORT}\" }}\n");
    let fix = ["set `scope` of profile report"];
    case.fails(&claims, "", &["invalid_scope: Invalid OAuth scope or ID token audience"], &fix).await;
    // `audience` is a parameter of the request, which Google does not read.
    let audience = format!("audience = \"{REPORT}\"\n");
    case.fails(&claims, &audience, &["invalid_scope: Invalid OAuth scope or ID token audience"], &fix).await;
}
