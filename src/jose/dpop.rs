//! DPoP proofs (RFC 9449 section 4.2): one for each request, so everything that does not change is encoded once.

use std::{sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{KeyError, SignError, SigningKey, WireHeader, claims::seconds, new_jti};
use crate::secret::Secret;

/// Makes proofs with one key.
#[derive(Clone, Debug)]
pub struct Prover {
    key: Arc<SigningKey>,
    /// The header, encoded.
    header: Arc<str>,
}

impl Prover {
    /// Makes proofs with this key.
    ///
    /// # Errors
    /// The key is a shared secret, which proves possession to nobody (RFC 9449 section 4.2).
    pub fn new(key: Arc<SigningKey>) -> Result<Self, KeyError> {
        let misfit = KeyError::Algorithm {
            algorithm: key.algorithm(),
            key: "a shared secret in a DPoP proof",
            fitting: "use an EC, Ed25519 or RSA key, or let lanyard make one",
        };
        let jwk = Some(key.public_jwk().ok_or_else(|| misfit.clone())?);
        let alg = key.algorithm().as_str();
        let header = WireHeader { typ: Some("dpop+jwt"), alg, kid: None, x5t_s256: None, x5c: &[], jwk };
        let header = serde_json::to_vec(&header).map_err(|_| misfit)?;
        Ok(Self { header: URL_SAFE_NO_PAD.encode(header).into(), key })
    }

    /// The key that proves.
    pub const fn key(&self) -> &Arc<SigningKey> {
        &self.key
    }

    /// The value of the header field `DPoP` for one request, made now: its method, its URI (a query or a fragment is
    /// left out), for a resource the [`ath`] of the token, and the nonce that the server last gave.
    ///
    /// # Errors
    /// The system's random number generator failed.
    pub fn proof(
        &self,
        method: &str,
        htu: &str,
        access_token_hash: Option<&str>,
        nonce: Option<&str>,
    ) -> Result<HeaderValue, SignError> {
        self.proof_at(SystemTime::now(), method, htu, access_token_hash, nonce)
    }

    /// The same at another time.
    ///
    /// # Errors
    /// The system's random number generator failed.
    pub fn proof_at(
        &self,
        now: SystemTime,
        method: &str,
        htu: &str,
        access_token_hash: Option<&str>,
        nonce: Option<&str>,
    ) -> Result<HeaderValue, SignError> {
        let jti = new_jti();
        let htu = htu.split(['?', '#']).next().unwrap_or_default();
        let claims = Proof { jti: &jti, htm: method, htu, iat: seconds(now), ath: access_token_hash, nonce };
        let claims = serde_json::to_vec(&claims).map_err(|_| SignError::Claims)?;
        let jws = self.key.compact(&self.header, &claims)?;
        let mut value = HeaderValue::from_maybe_shared(bytes::Bytes::from(jws)).map_err(|_| SignError::Claims)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// The hash of an access token that ties a proof to it (RFC 9449 section 4.2): SHA-256 in base64url.
pub fn ath(token: &Secret) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.expose()))
}

/// The claims of a proof.
#[derive(Serialize)]
struct Proof<'a> {
    jti: &'a str,
    htm: &'a str,
    htu: &'a str,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ath: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}
