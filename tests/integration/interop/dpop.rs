//! A resource server's side of DPoP (RFC 9449 4.3, 7.1 and 9): is this proof for this request, with this token, new, and of
//! the key that the token is for?

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, jwk::Jwk, jwk::ThumbprintHash};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    super::support::send,
    registrations::{Registrations, SECRET},
    resource::{self, ResourceServer},
    servers::AuthorizationServer,
};

/// The nonce that the resource server wants.
pub const NONCE: &str = "a-nonce-of-the-resource-server";

/// The proofs that were seen.
#[derive(Clone, Default)]
pub struct Proofs(Arc<Mutex<HashSet<String>>>);

impl Proofs {
    /// What is wrong with a proof: `use_dpop_nonce` or `invalid_dpop_proof`, and why.
    pub fn check(
        &self,
        proof: &str,
        (method, url): (&str, &str),
        token: &str,
        thumbprint: &str,
    ) -> Result<(), (&'static str, String)> {
        let wrong = |why: &str| ("invalid_dpop_proof", why.to_owned());
        let header = jsonwebtoken::decode_header(proof).map_err(|error| wrong(&error.to_string()))?;
        let jwk = header.jwk.ok_or_else(|| wrong("no `jwk`"))?;
        if header.typ.as_deref() != Some("dpop+jwt") {
            return Err(wrong("`typ` is not `dpop+jwt`"));
        }
        let mut validation = Validation::new(header.alg);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let key = DecodingKey::from_jwk(&jwk).map_err(|error| wrong(&error.to_string()))?;
        let claims =
            jsonwebtoken::decode::<Value>(proof, &key, &validation).map_err(|error| wrong(&error.to_string()))?;
        let claims = claims.claims;
        for (claim, expected) in [("htm", method), ("htu", url), ("ath", &hash(token))] {
            if claims[claim] != expected {
                return Err(wrong(&format!("`{claim}` is {} instead of {expected}", claims[claim])));
            }
        }
        if jwk.thumbprint(ThumbprintHash::SHA256).unwrap() != thumbprint {
            return Err(wrong("the token is for another key"));
        }
        if claims["iat"].as_u64().is_none_or(|issued| issued.abs_diff(now()) > 60) {
            return Err(wrong("`iat` is not now"));
        }
        if claims["nonce"] != NONCE {
            return Err(("use_dpop_nonce", "`nonce` is missing, or old".to_owned()));
        }
        let new = claims["jti"].as_str().is_some_and(|id| self.0.lock().unwrap().insert(id.to_owned()));
        if new { Ok(()) } else { Err(wrong("`jti` is missing, or was seen before")) }
    }
}

fn hash(token: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(token))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A client's key.
struct Prover(EncodingKey);

impl Prover {
    fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self(EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap())
    }

    /// A proof, with these claims in the place of the usual ones.
    fn proof(&self, method: &str, url: &str, others: Value) -> String {
        let mut claims =
            json!({"htm": method, "htu": url, "iat": now(), "jti": format!("{:032x}", fastrand::u128(..))});
        claims.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
        let jwk = Jwk::from_encoding_key(&self.0, Algorithm::ES256).unwrap();
        let header = Header { typ: Some("dpop+jwt".to_owned()), jwk: Some(jwk), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &self.0).unwrap()
    }
}

/// So that a row of the table with DPoP means something: only a good proof gets through.
#[tokio::test(flavor = "multi_thread")]
async fn the_resource_server_takes_a_bound_token_with_a_good_proof_alone() {
    let registrations = Registrations::new();
    let server = AuthorizationServer::oidc_provider(&registrations.of_oidc_provider()).await;
    let ca = registrations.authority.pem();
    let resource = ResourceServer::start(server.told("introspection_endpoint"), ca).await;
    let (client, prover) = (resource::client(ca), Prover::new());

    let endpoint = server.told("token_endpoint");
    let fetch = async |nonce: &str| {
        let request = client.post(endpoint).basic_auth("dpop", Some(SECRET)).body("grant_type=client_credentials");
        let proof =
            prover.proof("POST", endpoint, if nonce.is_empty() { json!({}) } else { json!({ "nonce": nonce }) });
        let form = "application/x-www-form-urlencoded";
        send(request.header("content-type", form).header("dpop", proof)).await
    };
    let first = fetch("").await;
    assert_eq!((first.status, first.json()["error"].as_str()), (400, Some("use_dpop_nonce")));
    let answer = fetch(first.header("dpop-nonce").unwrap()).await.json();
    assert_eq!(answer["token_type"], "DPoP");
    let token = answer["access_token"].as_str().unwrap();

    let url = resource.url();
    let ask = async |scheme: &str, proof: Option<String>| {
        let request = client.get(&url).header("authorization", format!("{scheme} {token}"));
        send(if let Some(proof) = proof { request.header("dpop", proof) } else { request }).await
    };
    let good = json!({"ath": hash(token), "nonce": NONCE});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        Some(prover.proof("GET", &url, claims))
    };
    assert_eq!(ask("Bearer", None).await.status, 401);
    assert_eq!(ask("DPoP", None).await.status, 401);
    let asked = ask("DPoP", with("nonce", Value::Null)).await;
    assert_eq!((asked.status, asked.header("dpop-nonce")), (401, Some(NONCE)));
    assert!(asked.header("www-authenticate").unwrap().contains("error=\"use_dpop_nonce\""), "{asked:?}");
    for (name, value) in [
        ("htm", json!("POST")),
        ("htu", json!("http://127.0.0.1/other")),
        ("ath", json!(hash("another token"))),
        ("iat", json!(now() - 3600)),
        ("jti", Value::Null),
    ] {
        let refused = ask("DPoP", with(name, value)).await;
        assert!(refused.status == 401 && refused.body.contains(&format!("`{name}`")), "{name}: {refused:?}");
    }
    let another = ask("DPoP", Some(Prover::new().proof("GET", &url, good.clone()))).await;
    assert!(another.status == 401 && another.body.contains("another key"), "{another:?}");

    let proof = prover.proof("GET", &url, good);
    let taken = ask("DPoP", Some(proof.clone())).await;
    assert_eq!((taken.status, taken.json()["client_id"].as_str()), (200, Some("dpop")));
    assert_eq!(ask("DPoP", Some(proof)).await.status, 401);
}
