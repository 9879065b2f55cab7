//! Somebody who signs JWTs of any shape, right or wrong.

use jsonwebtoken::{Algorithm as Name, EncodingKey, jwk::Jwk};
use rand_core::RngCore as _;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use serde_json::{Value, json};

use super::*;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub(super) struct Signer {
    pub(super) alg: &'static str,
    key: Key,
    pub(super) jwk: Value,
}

enum Key {
    Library(EncodingKey, Name),
    P521(Box<p521::ecdsa::SigningKey>),
}

impl Signer {
    /// ES256, with a key of its own.
    pub(super) fn new() -> Self {
        Self::with(&rcgen::PKCS_ECDSA_P256_SHA256, "ES256", Name::ES256)
    }

    pub(super) fn es384() -> Self {
        Self::with(&rcgen::PKCS_ECDSA_P384_SHA384, "ES384", Name::ES384)
    }

    pub(super) fn ed25519() -> Self {
        // PKCS#8 of version 1 (RFC 8410 section 7): jsonwebtoken does not read what rcgen writes.
        let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
        der.extend(rand_core::OsRng.next_u64().to_be_bytes().repeat(4));
        Self::from_der(&der, "EdDSA", Name::EdDSA)
    }

    fn with(kind: &'static rcgen::SignatureAlgorithm, alg: &'static str, name: Name) -> Self {
        Self::from_der(&rcgen::KeyPair::generate_for(kind).unwrap().serialize_der(), alg, name)
    }

    fn from_der(der: &[u8], alg: &'static str, name: Name) -> Self {
        let key = if name == Name::EdDSA { EncodingKey::from_ed_der(der) } else { EncodingKey::from_ec_der(der) };
        let jwk = serde_json::to_value(Jwk::from_encoding_key(&key, name).unwrap()).unwrap();
        Self { alg, jwk: plain(jwk), key: Key::Library(key, name) }
    }

    pub(super) fn es512() -> Self {
        let secret = p521::ecdsa::SigningKey::random(&mut rand_core::OsRng);
        let point = p521::ecdsa::VerifyingKey::from(&secret).to_encoded_point(false);
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (text(point.x().unwrap()), text(point.y().unwrap()));
        let jwk = json!({ "kty": "EC", "crv": "P-521", "x": x, "y": y });
        Self { alg: "ES512", jwk, key: Key::P521(Box::new(secret)) }
    }

    /// The six algorithms of one RSA key.
    pub(super) fn rsa() -> Vec<Self> {
        let der = rsa::RsaPrivateKey::new(&mut rand_core::OsRng, 2048).unwrap().to_pkcs1_der().unwrap();
        let names = [
            ("RS256", Name::RS256),
            ("RS384", Name::RS384),
            ("RS512", Name::RS512),
            ("PS256", Name::PS256),
            ("PS384", Name::PS384),
            ("PS512", Name::PS512),
        ];
        let each = names.into_iter().map(|(alg, name)| {
            let key = EncodingKey::from_rsa_der(der.as_bytes());
            let jwk = serde_json::to_value(Jwk::from_encoding_key(&key, name).unwrap()).unwrap();
            Self { alg, jwk: plain(jwk), key: Key::Library(key, name) }
        });
        each.collect()
    }

    pub(super) fn secret(secret: &str, alg: &'static str) -> Self {
        let name = match alg {
            "HS256" => Name::HS256,
            "HS384" => Name::HS384,
            _ => Name::HS512,
        };
        Self { alg, key: Key::Library(EncodingKey::from_secret(secret.as_bytes()), name), jwk: Value::Null }
    }

    pub(super) fn keys(&self) -> KeySet {
        KeySet::from_jwks(&self.jwk).unwrap()
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({ "alg": self.alg, "typ": "JWT" }), claims)
    }

    /// Whatever the header says, the signature is of this key.
    pub(super) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = match &self.key {
            Key::Library(key, name) => jsonwebtoken::crypto::sign(message.as_bytes(), key, *name).unwrap(),
            Key::P521(key) => {
                use p521::ecdsa::signature::RandomizedSigner as _;
                let signature: p521::ecdsa::Signature = key.sign_with_rng(&mut rand_core::OsRng, message.as_bytes());
                URL_SAFE_NO_PAD.encode(signature.to_bytes())
            }
        };
        format!("{message}.{signature}")
    }
}

/// Only what makes the key.
fn plain(mut jwk: Value) -> Value {
    jwk.as_object_mut().unwrap().retain(|name, _| ["kty", "crv", "x", "y", "n", "e"].contains(&name.as_str()));
    jwk
}
