//! The keys: made at start, gone with the process.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation, decode, encode};
use p256::{elliptic_curve::sec1::ToEncodedPoint, pkcs8::EncodePrivateKey};
use rsa::{
    pkcs1::EncodeRsaPrivateKey,
    rand_core::{OsRng, RngCore},
    traits::PublicKeyParts,
};
use serde_json::{Value, json};

use super::{Algorithm, Claims, IssuerError};

/// What tokens are signed and verified with.
pub(super) struct Keys(Kind);

enum Kind {
    Signing { algorithm: jsonwebtoken::Algorithm, encoding: EncodingKey, decoding: DecodingKey, jwk: Option<Value> },
    Opaque,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys([redacted])")
    }
}

impl Keys {
    pub(super) fn generate(algorithm: Algorithm) -> Result<Self, IssuerError> {
        let failed = |e: &dyn std::fmt::Display| IssuerError(e.to_string());
        let kind = match algorithm {
            Algorithm::Opaque => Kind::Opaque,
            Algorithm::Hs256 => {
                let mut key = [0; 32];
                OsRng.fill_bytes(&mut key);
                Kind::Signing {
                    algorithm: jsonwebtoken::Algorithm::HS256,
                    encoding: EncodingKey::from_secret(&key),
                    decoding: DecodingKey::from_secret(&key),
                    jwk: None,
                }
            }
            Algorithm::Rs256 => {
                let key = rsa::RsaPrivateKey::new(&mut OsRng, RSA_BITS).map_err(|e| failed(&e))?;
                let der = key.to_pkcs1_der().map_err(|e| failed(&e))?;
                let (n, e) = (text(&key.n().to_bytes_be()), text(&key.e().to_bytes_be()));
                Kind::Signing {
                    algorithm: jsonwebtoken::Algorithm::RS256,
                    encoding: EncodingKey::from_rsa_der(der.as_bytes()),
                    decoding: DecodingKey::from_rsa_components(&n, &e).map_err(|e| failed(&e))?,
                    jwk: Some(json!({ "kty": "RSA", "use": "sig", "kid": KID, "alg": "RS256", "n": n, "e": e })),
                }
            }
            Algorithm::Es256 => {
                let key = p256::SecretKey::random(&mut OsRng);
                let der = key.to_pkcs8_der().map_err(|e| failed(&e))?;
                let point = key.public_key().to_encoded_point(false);
                let coordinate = |c: Option<&p256::FieldBytes>| c.map(|c| text(c)).unwrap_or_default();
                let (x, y) = (coordinate(point.x()), coordinate(point.y()));
                Kind::Signing {
                    algorithm: jsonwebtoken::Algorithm::ES256,
                    encoding: EncodingKey::from_ec_der(der.as_bytes()),
                    decoding: DecodingKey::from_ec_components(&x, &y).map_err(|e| failed(&e))?,
                    jwk: Some(json!({
                        "kty": "EC", "use": "sig", "kid": KID, "alg": "ES256", "crv": "P-256", "x": x, "y": y,
                    })),
                }
            }
        };
        Ok(Self(kind))
    }

    /// The token that says this; `None`: tokens are opaque.
    pub(super) fn sign(&self, claims: &Claims) -> Option<Result<String, IssuerError>> {
        let Kind::Signing { algorithm, encoding, .. } = &self.0 else { return None };
        let header = Header { typ: Some("at+jwt".to_owned()), kid: Some(KID.to_owned()), ..Header::new(*algorithm) };
        Some(encode(&header, claims, encoding).map_err(|e| IssuerError(e.to_string())))
    }

    /// What a token says, if we signed it. Its expiry is not looked at.
    pub(super) fn verify(&self, token: &str, issuer: &str) -> Option<Claims> {
        let Kind::Signing { algorithm, decoding, .. } = &self.0 else { return None };
        let mut validation = Validation::new(*algorithm);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.set_issuer(&[issuer]);
        decode(token, decoding, &validation).ok().map(|token| token.claims)
    }

    /// The public keys (RFC 7517).
    pub(super) fn jwks(&self) -> Value {
        let keys: Vec<&Value> = match &self.0 {
            Kind::Signing { jwk, .. } => jwk.iter().collect(),
            Kind::Opaque => Vec::new(),
        };
        json!({ "keys": keys })
    }
}

/// 256 random bits as text.
pub(super) fn random() -> String {
    let mut bytes = [0; 32];
    OsRng.fill_bytes(&mut bytes);
    text(&bytes)
}

fn text(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

const KID: &str = "oauth2-key-1";
const RSA_BITS: usize = 2048;
