//! DPoP proofs, RFC 9449 section 4.2.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::json;

use super::{Algorithm, SigningKey, parse, read, test_key, verifies};
use crate::{
    jose::{KeyError, Prover, ath},
    secret::Secret,
};

#[test]
fn a_proof_has_what_rfc_9449_asks_for() {
    let key = Arc::new(SigningKey::generate().unwrap());
    let prover = Prover::new(Arc::clone(&key)).unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_562_262_616);
    let proof = prover.proof_at(now, "POST", "https://server.example.com/token", None, None).unwrap();
    assert!(proof.is_sensitive());
    let (header, claims) = read(proof.to_str().unwrap());
    assert_eq!(header, json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": key.public_jwk().unwrap()}));
    let jti = claims["jti"].as_str().unwrap();
    assert_eq!(
        claims,
        json!({"jti": jti, "htm": "POST", "htu": "https://server.example.com/token", "iat": 1_562_262_616})
    );
    assert!(verifies(Algorithm::Es256, &header["jwk"], proof.to_str().unwrap()));
}

#[test]
fn a_proof_for_a_resource_names_the_token_and_the_nonce_and_no_query() {
    let prover = Prover::new(Arc::new(SigningKey::generate().unwrap())).unwrap();
    let hash = ath(&Secret::new("token"));
    let nonce = "a \"nonce\"\\";
    let proof = prover.proof("GET", "https://r.example/p?q=secret#f", Some(&hash), Some(nonce)).unwrap();
    let (_, claims) = read(proof.to_str().unwrap());
    assert_eq!(claims["htu"], "https://r.example/p");
    assert_eq!(claims["ath"], hash);
    assert_eq!(claims["nonce"], nonce);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let iat = claims["iat"].as_u64().unwrap();
    assert!(iat <= now && now - iat < 60);
}

#[test]
fn no_two_proofs_are_alike() {
    let prover = Prover::new(Arc::new(SigningKey::generate().unwrap())).unwrap();
    let jti =
        || read(prover.proof("GET", "https://r.example/", None, None).unwrap().to_str().unwrap()).1["jti"].clone();
    assert_ne!(jti(), jti());
}

#[test]
fn every_key_with_a_public_half_proves() {
    for text in [
        test_key!("key-rsa-pkcs8"),
        test_key!("key-p384-pkcs8"),
        test_key!("key-p521-pkcs8"),
        test_key!("key-ed25519-pkcs8"),
    ] {
        let prover = Prover::new(Arc::new(parse(text))).unwrap();
        let proof = prover.proof("GET", "https://r.example/", None, None).unwrap();
        let (header, _) = read(proof.to_str().unwrap());
        assert!(verifies(prover.key().algorithm(), &header["jwk"], proof.to_str().unwrap()));
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert_eq!(header["jwk"].get(private), None);
        }
    }
    let shared = SigningKey::from_secret(&Secret::new("secret"), Algorithm::Hs256).unwrap();
    let error = Prover::new(Arc::new(shared)).unwrap_err();
    assert_eq!(error.to_string(), "HS256 cannot be signed with a shared secret in a DPoP proof");
    assert!(matches!(error, KeyError::Algorithm { .. }));
}
