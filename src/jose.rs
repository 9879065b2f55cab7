//! Private keys, and what is signed with them: client assertions (RFC 7523), self-signed JWTs and DPoP proofs (RFC 9449).
//!
//! A [`SigningKey`] is read once from PEM or JWK ([`SigningKey::parse`]) and signs any number of times; everything is
//! pure but for the random numbers of signatures and identifiers. Elliptic curves go through ring (on P-256 a signature
//! takes a 25th of the time of the alternative, and a DPoP proof is made for each request) except P-521, which ring has
//! not; RSA and HMAC go through jsonwebtoken.

mod algorithm;
mod certificate;
pub mod claims;
mod dpop;
mod error;
mod jwk;
mod key;
mod material;
mod pem;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand_core::{OsRng, RngCore as _};
use serde::Serialize;
use zeroize::Zeroizing;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use certificate::{certificate_belongs_to, certificate_chain, certificate_thumbprint};
pub use dpop::{Prover, ath};
pub use error::{KeyError, SignError};
pub use key::SigningKey;

use crate::secret::Secret;

/// The parts of a JWS header that a caller chooses (RFC 7515 section 4.1); `alg` is the key's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The media type of the whole: `JWT`, `dpop+jwt`.
    pub typ: Option<String>,
    /// Which key it is; none: that of the key's JWK, if it has one.
    pub kid: Option<String>,
    /// SHA-256 of the certificate that belongs to the key: see [`certificate_thumbprint`].
    pub x5t_s256: Option<String>,
    /// That certificate and those above it: see [`certificate_chain`]. Left out if empty.
    pub x5c: Vec<String>,
    /// Embeds the public key as `jwk`.
    pub jwk: bool,
}

impl SigningKey {
    /// A compact JWS (RFC 7515 section 7.1) of a header and claims.
    ///
    /// # Errors
    /// The claims cannot be written as a JSON object, or the system has no random numbers.
    pub fn sign(&self, header: &Header, claims: &impl Serialize) -> Result<Secret, SignError> {
        let header = serde_json::to_vec(&WireHeader {
            typ: header.typ.as_deref(),
            alg: self.algorithm().as_str(),
            kid: header.kid.as_deref().or_else(|| self.kid()),
            x5t_s256: header.x5t_s256.as_deref(),
            x5c: &header.x5c,
            jwk: self.public_jwk().filter(|_| header.jwk),
        })
        .map_err(|_| SignError::Claims)?;
        let claims = Zeroizing::new(serde_json::to_vec(claims).map_err(|_| SignError::Claims)?);
        if !claims.starts_with(b"{") {
            return Err(SignError::Claims);
        }
        self.compact(&URL_SAFE_NO_PAD.encode(header), &claims).map(Secret::new)
    }

    /// The compact JWS of a header that is encoded already, and a payload that is not.
    fn compact(&self, header: &str, payload: &[u8]) -> Result<String, SignError> {
        let encoded = header.len() + payload.len() / 3 * 4 + 6;
        let mut jws = String::with_capacity(encoded + self.signature_space());
        jws.push_str(header);
        jws.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut jws);
        let signature = self.signature(jws.as_bytes())?;
        jws.push('.');
        jws.push_str(&signature);
        Ok(jws)
    }
}

/// A fresh identifier for `jti` (RFC 7519 section 4.1.7): 128 random bits in base64url.
pub fn new_jti() -> String {
    let mut bytes = [0; 16];
    OsRng.fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A header as it is written.
#[derive(Serialize)]
struct WireHeader<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    typ: Option<&'a str>,
    alg: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
    #[serde(rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    x5t_s256: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    x5c: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    jwk: Option<&'a serde_json::Value>,
}

#[cfg(test)]
mod tests;
