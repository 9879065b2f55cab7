//! Okta, by "Implement OAuth for Okta with a service app", "Configure OAuth 2.0 Demonstrating Proof-of-Possession"
//! (developer.okta.com) and its support articles "The audience claim for client_assertion must be the endpoint invoked for
//! the request" and "The DPoP Proof JWT Header Is Missing".

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::Jwk};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    case::Case,
    keys::{KNOWN, OTHER, claims, verify},
    lookalike::{Asked, Lookalike, Told},
};

const CLIENT: &str = "0oakdtexeaxklfpc61d7";
const HOST: &str = "https://acme.okta.com";
const NONCE: &str = "eyJ7S_zG.eyJH0-Z.HX4w-7v";

/// The authorization server at this path, which knows one scope, and may want DPoP.
async fn start(path: &'static str, scope: &'static str, dpop: bool) -> Lookalike {
    let used: Arc<Mutex<HashSet<String>>> = Arc::default();
    Lookalike::start(move |asked: &Asked| {
        if !asked.is_post(path) {
            return Told::not_found();
        }
        let endpoint = format!("{}{path}", asked.base);
        let assertion = asked.get("client_assertion");
        if assertion.is_empty() {
            let description = "Client Credentials requests to the Org Authorization Server must use the private_key_jwt \
                               token_endpoint_auth_method.";
            return Told::error(401, "invalid_client", description);
        }
        if claims(&assertion).unwrap()["aud"] != endpoint {
            let description = "The audience claim for client_assertion must be the endpoint invoked for the request.";
            return Told::error(401, "invalid_client", description);
        }
        let verified = verify(&assertion, &KNOWN.decoding(), &[Algorithm::RS256], &endpoint, 3600);
        let Ok((header, said)) = verified else {
            return Told::error(401, "invalid_client", "The client_assertion signature is invalid.");
        };
        assert_eq!(header.kid.as_deref(), Some("key-1"));
        assert_eq!((&said["iss"], &said["sub"]), (&json!(CLIENT), &json!(CLIENT)));
        let jti = said["jti"].as_str().unwrap().to_owned();
        if !used.lock().unwrap().insert(jti) {
            return Told::error(401, "invalid_client", "The client_assertion has already been used.");
        }
        if dpop && let Err(refusal) = proof(asked, "POST", &endpoint, Some(NONCE), None) {
            return refusal;
        }
        if asked.get("scope").is_empty() {
            let description = "The 'scope' parameter is required for client credentials.";
            return Told::error(400, "invalid_scope", description);
        }
        if asked.get("scope") != scope {
            let description = "One or more scopes are not configured for the authorization server resource.";
            return Told::error(400, "invalid_scope", description);
        }
        let kind = if dpop { "DPoP" } else { "Bearer" };
        Told::token("canary-okta", json!({ "token_type": kind, "expires_in": 3600, "scope": scope }))
    })
    .await
}

/// RFC 9449 4.3, and what Okta says where it does not hold.
fn proof(asked: &Asked, method: &str, uri: &str, nonce: Option<&str>, token: Option<&str>) -> Result<Value, Told> {
    let Some(proof) = asked.header("dpop") else {
        return Err(Told::error(400, "invalid_dpop_proof", "The DPoP proof JWT header is missing."));
    };
    let header = jsonwebtoken::decode_header(proof).unwrap();
    assert_eq!(header.typ.as_deref(), Some("dpop+jwt"));
    let jwk: Jwk = header.jwk.expect("the public key");
    let mut validation = Validation::new(header.alg);
    validation.set_required_spec_claims::<&str>(&[]);
    validation.validate_exp = false;
    let said = jsonwebtoken::decode::<Value>(proof, &DecodingKey::from_jwk(&jwk).unwrap(), &validation).unwrap().claims;
    assert_eq!((&said["htm"], &said["htu"]), (&json!(method), &json!(uri)));
    assert!(said["jti"].is_string());
    let age = jsonwebtoken::get_current_timestamp().abs_diff(said["iat"].as_u64().unwrap());
    assert!(age < 60, "{said}");
    if let Some(token) = token {
        assert_eq!(said["ath"], BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(token)));
    }
    if let Some(nonce) = nonce
        && said["nonce"] != nonce
    {
        let description = "Authorization server requires nonce in DPoP proof.";
        return Err(Told::error(400, "use_dpop_nonce", description).with("dpop-nonce", nonce));
    }
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_authorization_server() {
    let server = start("/oauth2/default/v1/token", "inventory.read", false).await;
    let files = [("inventory/private_key.jwk", &*KNOWN.jwk)];
    let case = Case::new("### A custom authorization server", 0, HOST, server, &files).await;
    assert_eq!(case.works().await.0, "Bearer canary-okta");

    let scope = "scope = \"inventory.read\"\n";
    case.fails(scope, "", &["invalid_scope: The 'scope' parameter is required"], &["set `scope` of profile"]).await;
    let fix = ["does not grant one of `inventory.write`"];
    case.fails("inventory.read", "inventory.write", &["invalid_scope: One or more scopes"], &fix).await;
    let method = "token_endpoint_auth_method";
    let other = format!("client_assertion_audience = \"{HOST}\"\n{method}");
    let said = ["invalid_client: The audience claim for client_assertion must be the endpoint"];
    case.fails(method, &other, &said, &["others \"token_endpoint\""]).await;
    case.file("inventory/private_key.jwk", &OTHER.jwk);
    case.fails(method, method, &["signature is invalid"], &["public key of profile inventory (key_id, too)"]).await;
    // The public half, which is what Okta keeps; and a set, of which one has to be named.
    let mut public: Value = serde_json::from_str(&KNOWN.jwk).unwrap();
    for private in ["d", "p", "q", "dp", "dq", "qi"] {
        public.as_object_mut().unwrap().remove(private);
    }
    case.file("inventory/private_key.jwk", &public.to_string());
    case.fails(method, method, &["this is a public key"], &["the private key's file"]).await;
    let set = format!("{{\"keys\":[{},{}]}}", KNOWN.jwk, OTHER.jwk.replace("key-1", "key-2"));
    case.file("inventory/private_key.jwk", &set);
    case.fails(method, method, &["there are 2 private keys"], &["name one by its kid"]).await;
    let named = case.config.replace(method, &format!("key_id = \"key-1\"\n{method}"));
    let case = Case { config: named, ..case };
    assert_eq!(case.works().await.0, "Bearer canary-okta");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_api_with_dpop() {
    let server = start("/oauth2/v1/token", "okta.users.read", true).await;
    let files = [("okta/private_key.jwk", &*KNOWN.jwk)];
    let case = Case::new("### Okta's own API, with DPoP", 0, HOST, server, &files).await;
    let (authorization, left) = case.works().await;
    assert_eq!(authorization, "DPoP canary-okta");
    assert!((3500..=3600).contains(&left), "{left}");
    // Once for the nonce, once with it; each with an assertion of its own.
    let asked = case.server.posts();
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0].get("client_assertion"), asked[1].get("client_assertion"));
    // The request has a proof for itself.
    let seen = case.upstream.seen.last();
    let as_asked = Asked {
        method: "GET".to_owned(),
        path: seen.path.clone(),
        headers: seen.headers.clone(),
        body: String::new(),
        base: String::new(),
    };
    let url = format!("{}/things", case.upstream.url());
    let host = seen.all("host")[0].clone();
    let uri = url.replace(&case.upstream.address.to_string(), &host);
    proof(&as_asked, "GET", &uri, None, Some("canary-okta")).unwrap();

    let said = ["invalid_dpop_proof: The DPoP proof JWT header is missing."];
    case.fails("dpop = true\n", "", &said, &["set dpop = true in profile okta"]).await;
    let both = "dpop = false\ndpop_key = { file = \"/run/secrets/okta/dpop.pem\" }\n";
    case.is_refused("dpop = true\n", both, &["`dpop_key` and `dpop = false`"]).await;
    // A server that does not bind what it issues.
    let server = start("/oauth2/v1/token", "okta.users.read", false).await;
    let case = Case::new("### Okta's own API, with DPoP", 0, HOST, server, &files).await;
    case.fails("okta", "okta", &["a token of type `Bearer`, not DPoP"], &["allow DPoP for this client"]).await;
    assert_eq!(case.upstream.seen.requests().len(), 0);
}
