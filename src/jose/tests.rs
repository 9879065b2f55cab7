//! What is signed is checked by the library that did not sign it: ring for RSA and HMAC, jsonwebtoken for the curves
//! (only P-521 has but one library here, and is checked with the signature of RFC 7515 too).

mod assertions;
mod errors;
mod formats;
mod proofs;
mod vectors;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use p521::ecdsa::signature::Verifier as _;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaPublicKeyComponents,
};
use serde_json::Value;

use super::{Algorithm, SigningKey};
use crate::secret::Secret;

/// A key that openssl or ssh-keygen made for these tests.
macro_rules! test_key {
    ($name:literal) => {
        include_str!(concat!("keys/test-", $name, ".pem"))
    };
}
use test_key;

fn parse(text: &str) -> SigningKey {
    SigningKey::parse(&Secret::new(text), None, None).unwrap()
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// Header and claims of a compact JWS.
fn read(jws: &str) -> (Value, Value) {
    let parts: Vec<&str> = jws.split('.').collect();
    assert_eq!(parts.len(), 3);
    (serde_json::from_slice(&decode(parts[0])).unwrap(), serde_json::from_slice(&decode(parts[1])).unwrap())
}

/// Whether the signature of a compact JWS is that of this key's private half.
fn verifies(algorithm: Algorithm, jwk: &Value, jws: &str) -> bool {
    let (input, signature) = jws.rsplit_once('.').unwrap();
    let octets = |member: &str| decode(jwk[member].as_str().unwrap());
    let rsa = |parameters| {
        let key = RsaPublicKeyComponents { n: octets("n"), e: octets("e") };
        key.verify(parameters, input.as_bytes(), &decode(signature)).is_ok()
    };
    match algorithm {
        Algorithm::Hs256 => hmac(ring::hmac::HMAC_SHA256, &octets("k"), input, signature),
        Algorithm::Hs384 => hmac(ring::hmac::HMAC_SHA384, &octets("k"), input, signature),
        Algorithm::Hs512 => hmac(ring::hmac::HMAC_SHA512, &octets("k"), input, signature),
        Algorithm::Rs256 => rsa(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => rsa(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => rsa(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => rsa(&RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => rsa(&RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => rsa(&RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => {
            let public: jsonwebtoken::jwk::Jwk = serde_json::from_value(jwk.clone()).unwrap();
            let key = jsonwebtoken::DecodingKey::from_jwk(&public).unwrap();
            let algorithm = algorithm.as_str().parse().unwrap();
            jsonwebtoken::crypto::verify(signature, input.as_bytes(), &key, algorithm).unwrap()
        }
        Algorithm::Es512 => {
            let point = [&[4], octets("x").as_slice(), &octets("y")].concat();
            let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(&point).unwrap();
            let signature = p521::ecdsa::Signature::from_slice(&decode(signature)).unwrap();
            key.verify(input.as_bytes(), &signature).is_ok()
        }
    }
}

fn hmac(algorithm: ring::hmac::Algorithm, key: &[u8], input: &str, signature: &str) -> bool {
    ring::hmac::verify(&ring::hmac::Key::new(algorithm, key), input.as_bytes(), &decode(signature)).is_ok()
}
