//! Salesforce, by "OAuth 2.0 JWT Bearer Flow for Server-to-Server Integration" (help.salesforce.com), and DocuSign, by "How
//! to get an access token with JWT Grant" (developers.docusign.com) and "OAuth JWT: Granting Consent" (docusign.com).

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{
    case::Case,
    keys::{KNOWN, OTHER, verify},
    lookalike::{Asked, Lookalike, Told},
};

const CONSUMER: &str = "3MVG99OxTyEMCQ3gNp2PjkqeZKxnmAiG1xV4oHh9AKL";
const INTEGRATION: &str = "7c2b8d7e-83c3-4940-af5e-cda8a50dd73f";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

fn salesforce(asked: &Asked) -> Told {
    if !asked.is_post("/services/oauth2/token") {
        return Told::not_found();
    }
    if asked.get("grant_type") != JWT_BEARER {
        return Told::error(400, "unsupported_grant_type", "grant type not supported");
    }
    // The audience is the login host, and three minutes are the most.
    let verified = verify(&asked.get("assertion"), &KNOWN.decoding(), &[Algorithm::RS256], &asked.base, 180);
    let said = match verified {
        Ok((_, said)) => said,
        Err(problem) if problem == "InvalidAudience" => {
            return Told::error(400, "invalid_grant", "audience is invalid");
        }
        Err(problem) if problem == "InvalidSignature" => {
            return Told::error(400, "invalid_grant", "invalid assertion");
        }
        Err(_) => return Told::error(400, "invalid_grant", "expired authorization code"),
    };
    if said["iss"] != CONSUMER {
        return Told::error(400, "invalid_client_id", "client identifier invalid");
    }
    if said["sub"] != "integration@acme.example" {
        return Told::error(400, "invalid_grant", "user hasn't approved this consumer");
    }
    // It does not say how long it lives.
    Told::token(
        "00D5g000008zXYZ!canary-salesforce",
        json!({
            "scope": "web api",
            "instance_url": "https://acme.my.salesforce.com",
            "id": "https://login.salesforce.com/id/00D5g000008zXYZEA2/0055g00000A1B2CAAV",
        }),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn salesforce_tells_no_lifetime() {
    let files = [("crm/private_key.pem", &*KNOWN.pem)];
    let host = "https://login.salesforce.com";
    let case = Case::new("## Salesforce", 0, host, Lookalike::start(salesforce).await, &files).await;
    let (authorization, left) = case.works().await;
    assert_eq!(authorization, "Bearer 00D5g000008zXYZ!canary-salesforce");
    assert!((800..=900).contains(&left), "default_token_lifetime: {left}");
    assert_eq!(case.server.posts()[0].names()[..2], ["grant_type", "assertion"]);

    let login = format!("aud = \"{}\"", case.server.url());
    let fix = ["check iss, sub and aud (claims of profile crm)"];
    case.fails(&login, "aud = \"https://acme.my.salesforce.com\"", &["invalid_grant: audience is invalid"], &fix).await;
    case.fails(&format!(", {login}"), "", &["invalid_grant: audience is invalid"], &fix).await;
    let fix = ["an administrator has approved this client"];
    case.fails("integration@", "ann@", &["invalid_grant: user hasn't approved this consumer"], &fix).await;
    case.fails(CONSUMER, "3MVG9", &["invalid_client_id: client identifier invalid"], &["client `3MVG9`"]).await;
    let long = "assertion_lifetime = \"5m\"\ndefault_token_lifetime";
    case.fails("default_token_lifetime", long, &["invalid_grant: expired"], &["this machine's clock"]).await;
    case.file("crm/private_key.pem", &OTHER.pem);
    case.fails("crm", "crm", &["invalid_grant: invalid assertion"], &["the key that it has for them"]).await;
    // The key signs the assertion, unless the client proves itself by another; a secret does not.
    case.is_refused("private_key = ", "client_secret = \"canary-x\"\npublic_key = ", &["private_key", "claims"]).await;
}

fn docusign(asked: &Asked) -> Told {
    if !asked.is_post("/oauth/token") {
        return Told::not_found();
    }
    if asked.get("grant_type") != JWT_BEARER {
        return Told::error(400, "unsupported_grant_type", "");
    }
    // The audience is a bare name.
    let verified =
        verify(&asked.get("assertion"), &KNOWN.decoding(), &[Algorithm::RS256], "account-d.docusign.com", 3600);
    let said = match verified {
        Ok((_, said)) => said,
        Err(problem) if problem == "InvalidSignature" => {
            return Told::error(400, "invalid_grant", "no_valid_keys_or_signatures");
        }
        Err(_) => return Told::error(400, "invalid_grant", ""),
    };
    if said["iss"] != INTEGRATION {
        return Told::error(400, "invalid_grant", "issuer_not_found");
    }
    let scope = said["scope"].as_str().unwrap_or_default();
    let wanted = ["signature", "impersonation"];
    if said["sub"] == "00000000-0b35-4ad5-a5c1-3f6f0a2d0d2c" {
        return Told::error(400, "invalid_grant", "user_not_found");
    }
    if wanted.iter().any(|one| !scope.split(' ').any(|had| had == *one)) {
        return Told::error(400, "consent_required", "");
    }
    Told::token("canary-docusign", json!({ "expires_in": 3600, "scope": "signature impersonation" }))
}

#[tokio::test(flavor = "multi_thread")]
async fn docusign_wants_consent() {
    let files = [("esign/private_key.pem", &*KNOWN.pem)];
    let host = "https://account-d.docusign.com";
    let case = Case::new("## DocuSign", 0, host, Lookalike::start(docusign).await, &files).await;
    assert_eq!(case.works().await.0, "Bearer canary-docusign");
    assert_eq!(case.server.posts()[0].names(), ["grant_type", "assertion"]);

    let fix = ["consent once, in a browser"];
    case.fails(", scope = \"signature impersonation\"", "", &["answered 400 consent_required"], &fix).await;
    let fix = ["check iss, sub and aud (claims of profile esign)"];
    case.fails("aud = \"account-d", "aud = \"https://account-d", &["answered 400 invalid_grant"], &fix).await;
    case.fails(", aud = \"account-d.docusign.com\"", "", &["answered 400 invalid_grant"], &fix).await;
    case.fails("464f7988-", "00000000-", &["invalid_grant: user_not_found"], &fix).await;
    case.is_refused(&format!("iss = \"{INTEGRATION}\", "), "", &["claims without `iss`", "write iss"]).await;
    case.file("esign/private_key.pem", &OTHER.pem);
    case.fails("esign", "esign", &["invalid_grant: no_valid_keys_or_signatures"], &["the key that it has for them"])
        .await;
}
