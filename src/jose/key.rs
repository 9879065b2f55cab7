//! A private key that signs.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use p521::ecdsa::signature::RandomizedSigner as _;
use rand_core::OsRng;
use ring::rand::SystemRandom;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    Algorithm, KeyError, SignError, jwk,
    material::{Material, Signer},
    pem,
};
use crate::secret::Secret;

/// A private key (or a shared secret) with the algorithm that it signs with. Share it by `Arc`.
pub struct SigningKey {
    algorithm: Algorithm,
    kid: Option<String>,
    public_jwk: Option<serde_json::Value>,
    thumbprint: Option<String>,
    signer: Signer,
}

impl SigningKey {
    /// Reads PEM (PKCS#8, PKCS#1 `RSA PRIVATE KEY`, SEC1 `EC PRIVATE KEY`), a JWK, or a JWK set.
    ///
    /// Without an `algorithm` it is that of the JWK's `alg`, else the usual one of the key's type: RS256, ES256, ES384,
    /// ES512, EdDSA, HS256. `kid` chooses a key of a JWK set; a single JWK must not have another one, and PEM has none.
    ///
    /// # Errors
    /// There is no private key in the text, or it cannot be used: each [`KeyError`] has a hint, and none quotes the text.
    pub fn parse(text: &Secret, algorithm: Option<Algorithm>, kid: Option<&str>) -> Result<Self, KeyError> {
        let text = text.expose().trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if text.starts_with('{') {
            let found = jwk::read(text, kid, algorithm)?;
            return Self::new(found.material, found.algorithm, found.kid);
        }
        // PEM may have text before it: `openssl pkcs12` writes attributes there.
        if text.contains("-----BEGIN ") {
            return Self::new(pem::read(text)?, algorithm, None);
        }
        Err(KeyError::NotAKey)
    }

    /// A shared secret, for HMAC: its octets are the key (OpenID Connect Core section 10.1).
    ///
    /// RFC 7518 section 3.2 wants as many octets as the hash has; shorter ones are taken, since a client has no choice.
    ///
    /// # Errors
    /// The secret is empty, or the algorithm is not one of HMAC.
    pub fn from_secret(secret: &Secret, algorithm: Algorithm) -> Result<Self, KeyError> {
        if secret.expose().is_empty() {
            return Err(KeyError::Empty);
        }
        let octets = Zeroizing::new(secret.expose().as_bytes().to_vec());
        Self::new(Material::Octets(octets), Some(algorithm), None)
    }

    /// A fresh key on P-256 for ES256, as DPoP needs one.
    ///
    /// # Errors
    /// The system's random number generator failed.
    pub fn generate() -> Result<Self, KeyError> {
        // Asked for once in a way that can fail, before a library asks in one that panics.
        rand_core::RngCore::try_fill_bytes(&mut OsRng, &mut [0]).map_err(|_| KeyError::Random)?;
        Self::new(Material::P256(p256::SecretKey::random(&mut OsRng)), None, None)
    }

    fn new(material: Material, algorithm: Option<Algorithm>, kid: Option<String>) -> Result<Self, KeyError> {
        let algorithm = algorithm.unwrap_or_else(|| material.usual_algorithm());
        let public_jwk = material.public_jwk();
        let thumbprint = public_jwk.as_ref().map(thumbprint);
        Ok(Self { algorithm, kid, public_jwk, thumbprint, signer: material.signer(algorithm)? })
    }

    /// What it signs with.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The `kid` of the JWK that it was read from.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The public half with the required members only; none for HMAC.
    pub const fn public_jwk(&self) -> Option<&serde_json::Value> {
        self.public_jwk.as_ref()
    }

    /// The JWK thumbprint of the public half (RFC 7638): SHA-256 in base64url; none for HMAC.
    pub fn thumbprint(&self) -> Option<&str> {
        self.thumbprint.as_deref()
    }

    /// The signature of a JWS signing input, in base64url.
    pub(super) fn signature(&self, input: &[u8]) -> Result<String, SignError> {
        let encoded = |octets: &[u8]| Ok(URL_SAFE_NO_PAD.encode(octets));
        match &self.signer {
            Signer::Jsonwebtoken(key, algorithm) => {
                jsonwebtoken::crypto::sign(input, key, *algorithm).map_err(|_| SignError::Signature)
            }
            Signer::Ecdsa(pair) => {
                encoded(pair.sign(&SystemRandom::new(), input).map_err(|_| SignError::Signature)?.as_ref())
            }
            Signer::P521(key) => {
                let signature: p521::ecdsa::Signature =
                    key.try_sign_with_rng(&mut OsRng, input).map_err(|_| SignError::Signature)?;
                encoded(&signature.to_bytes())
            }
            Signer::Ed25519(pair) => encoded(pair.sign(input).as_ref()),
        }
    }

    /// Octets that a signature takes with its dot, for most keys.
    pub(super) const fn signature_space(&self) -> usize {
        match self.signer {
            Signer::Jsonwebtoken(..) => 344,
            Signer::Ecdsa(_) | Signer::Ed25519(_) => 130,
            Signer::P521(_) => 178,
        }
    }
}

/// The thumbprint of a JWK that has the required members only (RFC 7638 section 3): they are hashed in the order of their
/// names without white space, which is how serde_json writes its map.
pub(super) fn thumbprint(jwk: &serde_json::Value) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(jwk.to_string()))
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .field("thumbprint", &self.thumbprint)
            .finish_non_exhaustive()
    }
}
