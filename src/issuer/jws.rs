//! Signed JWTs of others: taken apart, and their signatures checked (RFC 7515, RFC 7519, RFC 8725).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::jwk::{KeySet, PublicKey, checked, short};
pub(super) use crate::jose::Algorithm as Alg;
use crate::secret::Secret;

/// The algorithm of this name. `none` is not among them.
pub(super) fn algorithm(name: &str) -> Option<Alg> {
    // RFC 9864 names the curve as well.
    if name == "Ed25519" { Some(Alg::EdDsa) } else { name.parse().ok() }
}

/// The names of those with a shared key, or of those with a key pair.
pub(super) fn names(shared: bool) -> impl Iterator<Item = &'static str> {
    Alg::ALL.into_iter().filter(move |alg| alg.is_symmetric() == shared).map(Alg::as_str)
}

/// Whether RSA keys sign with it.
pub(super) const fn is_rsa(alg: Alg) -> bool {
    matches!(alg, Alg::Rs256 | Alg::Rs384 | Alg::Rs512 | Alg::Ps256 | Alg::Ps384 | Alg::Ps512)
}

/// The same for jsonwebtoken, which knows no ES512.
pub(super) fn in_library(alg: Alg) -> Option<Algorithm> {
    alg.as_str().parse().ok()
}

/// How many bytes a shared key has at least (RFC 7518 section 3.2).
const fn shortest_key(alg: Alg) -> usize {
    match alg {
        Alg::Hs384 => 48,
        Alg::Hs512 => 64,
        _ => 32,
    }
}

/// What is wrong with a JWT, in words for `error_description`. It holds no part of a signature or key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Problem(pub(super) String);

pub(super) fn problem<T>(text: impl Into<String>) -> Result<T, Problem> {
    Err(Problem(text.into()))
}

/// A JWT that has been taken apart. Before its signature is checked, nothing in it is true.
pub(super) struct Jwt<'a> {
    pub(super) alg: Alg,
    pub(super) kid: Option<String>,
    pub(super) typ: Option<String>,
    x5t: Option<String>,
    /// The key that the JWT brings with it, for DPoP only: whoever signs an assertion does not choose its key.
    pub(super) jwk: Option<Map<String, Value>>,
    pub(super) claims: Map<String, Value>,
    message: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    /// Takes it apart.
    pub(super) fn parse(text: &'a str) -> Result<Self, Problem> {
        if text.len() > LIMIT {
            return problem(format!("{} bytes are too many for a JWT; at most {LIMIT}", text.len()));
        }
        let Some((message, signature)) = text.rsplit_once('.') else { return problem(NOT_COMPACT) };
        let Some((header, claims)) = message.split_once('.') else { return problem(NOT_COMPACT) };
        if claims.contains('.') {
            return problem(NOT_COMPACT);
        }
        let header = object(header, "header")?;
        let text = |name: &str| header.get(name).and_then(Value::as_str);
        let alg = match text("alg") {
            None => return problem("alg is missing in the header"),
            Some(none) if none.eq_ignore_ascii_case("none") => {
                return problem("alg is none: without a signature it proves nothing");
            }
            Some(name) => match algorithm(name) {
                Some(alg) => alg,
                None => return problem(format!("alg {} is not supported", short(name))),
            },
        };
        if header.contains_key("crit") {
            return problem("crit in the header names extensions, and none are known here");
        }
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return problem("the signature is no base64url") };
        Ok(Self {
            alg,
            kid: text("kid").map(str::to_owned),
            typ: text("typ").map(str::to_owned),
            x5t: text("x5t#S256").map(str::to_owned),
            jwk: header.get("jwk").and_then(Value::as_object).cloned(),
            claims: object(claims, "claims set")?,
            message: message.as_bytes(),
            signature,
        })
    }

    /// A claim that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }

    /// A claim that is a time (NumericDate, RFC 7519 section 2), in whole seconds.
    pub(super) fn time(&self, name: &str) -> Result<Option<u64>, Problem> {
        match self.claims.get(name) {
            None => Ok(None),
            Some(value) => match value.as_u64().or_else(|| whole(value.as_f64()?)) {
                Some(time) => Ok(Some(time)),
                None => problem(format!("{name} is no number of seconds since 1970")),
            },
        }
    }

    /// Checks the signature against the keys that its owner has registered.
    pub(super) fn verify(&self, keys: &KeySet) -> Result<(), Problem> {
        if self.alg.is_symmetric() {
            // The oldest trick: a public key as the secret of HS256 (RFC 8725 section 2.1).
            return problem(format!("alg is {}, but what is registered are public keys", self.alg.as_str()));
        }
        // A key that says nothing of its id or certificate can be meant by any.
        let named = |key: &&PublicKey| match (&self.kid, &key.kid) {
            (Some(wanted), Some(kid)) => wanted == kid,
            _ => true,
        };
        let certified = |key: &&PublicKey| match (&self.x5t, &key.x5t) {
            (Some(wanted), Some(x5t)) => wanted == x5t,
            _ => true,
        };
        let by_name: Vec<&PublicKey> = keys.iter().filter(named).collect();
        if by_name.is_empty() {
            let known: Vec<&str> = keys.iter().filter_map(|key| key.kid.as_deref()).take(8).collect();
            let asked = short(self.kid.as_deref().unwrap_or_default());
            return problem(format!("kid {asked} is not among the registered keys: {}", known.join(", ")));
        }
        let by_certificate: Vec<&PublicKey> = by_name.into_iter().filter(certified).collect();
        if by_certificate.is_empty() {
            return problem("x5t#S256 is the thumbprint of a certificate that is not registered");
        }
        let fit: Vec<&PublicKey> = by_certificate.iter().copied().filter(|key| key.suits(self.alg)).collect();
        if fit.is_empty() {
            let kinds: Vec<&str> = by_certificate.iter().map(|key| key.describe()).take(8).collect();
            return problem(format!(
                "alg {} does not go with the registered key ({})",
                self.alg.as_str(),
                kinds.join(", ")
            ));
        }
        if fit.iter().any(|key| self.is_signed_by(key)) {
            return Ok(());
        }
        problem("the signature is not valid: signed with another key, or changed since")
    }

    /// Whether the signature is by this key.
    pub(super) fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verify(self.alg, self.message, &self.signature)
    }

    /// Checks the MAC against a secret that both sides have.
    pub(super) fn verify_shared(&self, secret: &Secret) -> Result<(), Problem> {
        let (Some(algorithm), true) = (in_library(self.alg), self.alg.is_symmetric()) else {
            return problem(format!("alg is {}, but what is registered is a client_secret", self.alg.as_str()));
        };
        let bytes = secret.expose().as_bytes();
        if bytes.is_empty() || !checked(&DecodingKey::from_secret(bytes), algorithm, self.message, &self.signature) {
            return problem("the signature is not valid: signed with another client_secret, or changed since");
        }
        // Said only to one that knows the secret.
        if bytes.len() < shortest_key(self.alg) {
            let (name, shortest) = (self.alg.as_str(), shortest_key(self.alg));
            return problem(format!(
                "a client_secret of {} bytes is too short for {name}: at least {shortest} (RFC 7518 section 3.2)",
                bytes.len()
            ));
        }
        Ok(())
    }
}

fn object(encoded: &str, part: &str) -> Result<Map<String, Value>, Problem> {
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(encoded) else { return problem(format!("the {part} is no base64url")) };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) | Err(_) => problem(format!("the {part} is no JSON object")),
    }
}

fn whole(seconds: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    (0.0..1e15).contains(&seconds).then_some(seconds as u64)
}

const NOT_COMPACT: &str = "not a signed JWT: expected three parts with dots between them";

/// The longest JWT that is looked at, in bytes.
const LIMIT: usize = 16 * 1024;
