//! Public keys of others: JWK sets (RFC 7517), public keys and certificates in PEM form, and their thumbprints (RFC 7638).

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, DecodingKey};
use p521::ecdsa::signature::Verifier as _;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use x509_parser::{
    prelude::{FromDer as _, X509Certificate},
    public_key::PublicKey as ParsedKey,
    x509::SubjectPublicKeyInfo,
};

use super::jws::{self, Alg};

/// The public keys that somebody signs with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(Vec<PublicKey>);

impl KeySet {
    /// From a JWK set, `{"keys": [...]}`, or from a single JWK.
    ///
    /// # Errors
    /// It is neither; a key is of a kind that is not known here, is malformed, or is a private or symmetric one.
    pub fn from_jwks(value: &Value) -> Result<Self, KeyProblem> {
        let object = value.as_object().ok_or_else(|| problem("a JWK set is a JSON object"))?;
        let keys = match object.get("keys") {
            None => vec![PublicKey::from_jwk(object)?],
            Some(Value::Array(keys)) => keys
                .iter()
                .map(|key| key.as_object().ok_or_else(|| problem("a JWK is a JSON object")))
                .map(|key| key.and_then(PublicKey::from_jwk))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(problem("keys must be a list of JWKs")),
        };
        Ok(Self(keys))
    }

    /// From PEM text: any number of `PUBLIC KEY` and `CERTIFICATE` sections.
    ///
    /// # Errors
    /// There is no such section, or one of another kind, or a key of a kind that is not known here.
    pub fn from_pem(text: &str) -> Result<Self, KeyProblem> {
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
            let (kind, der) = section.map_err(|error| problem(format!("no good PEM: {error}")))?;
            match kind {
                SectionKind::PublicKey => {
                    let (_, info) = SubjectPublicKeyInfo::from_der(&der)
                        .map_err(|error| problem(format!("no public key: {error}")))?;
                    keys.push(PublicKey::from_info(&info)?);
                }
                SectionKind::Certificate => keys.push(PublicKey::from_certificate(&der)?),
                _ => return Err(problem("expected PUBLIC KEY or CERTIFICATE; keep the private key where it is")),
            }
        }
        if keys.is_empty() { Err(problem("there is no PUBLIC KEY or CERTIFICATE in it")) } else { Ok(Self(keys)) }
    }

    /// The same and others.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter()
    }
}

/// Why something is no set of public keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyProblem(String);

fn problem(text: impl Into<String>) -> KeyProblem {
    KeyProblem(text.into())
}

/// One public key, and what its owner says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    pub(super) kid: Option<String>,
    /// The SHA-256 thumbprint of its certificate, if one is known (`x5t#S256`, RFC 7517 section 4.9).
    pub(super) x5t: Option<String>,
    /// The one algorithm that it is meant for.
    alg: Option<String>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec { curve: Curve, x: Vec<u8>, y: Vec<u8> },
    Ed25519 { x: Vec<u8> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// How many bytes a coordinate has.
    const fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

impl PublicKey {
    /// From a JWK. One with a private part is refused, so that nobody gets used to handing those around.
    pub(super) fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, KeyProblem> {
        if let Some(private) = PRIVATE_MEMBERS.iter().find(|name| jwk.contains_key(**name)) {
            return Err(problem(format!("the JWK has the member {private}: it is a private or symmetric key")));
        }
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| {
            let value = text(name).ok_or_else(|| problem(format!("the JWK has no {name}")))?;
            URL_SAFE_NO_PAD.decode(value).map_err(|_| problem(format!("{name} of the JWK is no base64url")))
        };
        if text("use").is_some_and(|used| used != "sig") {
            return Err(problem("use of the JWK is not sig"));
        }
        let kind = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => rsa(&bytes("n")?, &bytes("e")?)?,
            (Some("EC"), Some("P-256")) => ec(Curve::P256, &bytes("x")?, &bytes("y")?)?,
            (Some("EC"), Some("P-384")) => ec(Curve::P384, &bytes("x")?, &bytes("y")?)?,
            (Some("EC"), Some("P-521")) => ec(Curve::P521, &bytes("x")?, &bytes("y")?)?,
            (Some("OKP"), Some("Ed25519")) => ed25519(&bytes("x")?)?,
            (None, _) => return Err(problem("the JWK has no kty")),
            (Some("EC" | "OKP"), crv) => {
                let known = "P-256, P-384, P-521, Ed25519";
                return Err(problem(format!("crv of the JWK is {}; known: {known}", short(crv.unwrap_or("missing")))));
            }
            (Some(kty), _) => return Err(problem(format!("kty of the JWK is {}; known: RSA, EC, OKP", short(kty)))),
        };
        let certified = match jwk.get("x5c").and_then(|chain| chain.get(0)).and_then(Value::as_str) {
            None => None,
            Some(first) => {
                let der = STANDARD.decode(first).map_err(|_| problem("x5c of the JWK is no base64"))?;
                if Self::from_certificate(&der)?.kind != kind {
                    return Err(problem("the certificate in x5c of the JWK is that of another key"));
                }
                Some(digest(&der))
            }
        };
        let x5t = certified.or_else(|| text("x5t#S256").map(str::to_owned));
        Ok(Self { kid: text("kid").map(str::to_owned), x5t, alg: text("alg").map(str::to_owned), kind })
    }

    /// From a certificate. It says whose key it is by its thumbprint.
    pub(super) fn from_certificate(der: &[u8]) -> Result<Self, KeyProblem> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| problem(format!("no certificate: {error}")))?;
        Ok(Self { x5t: Some(digest(der)), ..Self::from_info(certificate.public_key())? })
    }

    fn from_info(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, KeyProblem> {
        let kind = match info.parsed() {
            Ok(ParsedKey::RSA(key)) => rsa(key.modulus, key.exponent)?,
            Ok(ParsedKey::EC(point)) => {
                let (tag, rest) = point.data().split_first().ok_or_else(|| problem("an empty point"))?;
                let curve = match rest.len() / 2 {
                    32 => Curve::P256,
                    48 => Curve::P384,
                    66 => Curve::P521,
                    _ => return Err(problem("a key on another curve than P-256, P-384 and P-521")),
                };
                let (x, y) = rest.split_at(rest.len() / 2);
                if *tag != 4 {
                    return Err(problem("a compressed point"));
                }
                ec(curve, x, y)?
            }
            _ if info.algorithm.algorithm.to_id_string() == ED25519 => ed25519(&info.subject_public_key.data)?,
            Ok(_) | Err(_) => return Err(problem("a key of another kind than RSA, EC and Ed25519")),
        };
        Ok(Self { kid: None, x5t: None, alg: None, kind })
    }

    /// The thumbprint of the key (RFC 7638), in base64url: `jkt` of RFC 9449.
    pub(super) fn thumbprint(&self) -> String {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        // Members sorted by name, no spaces (RFC 7638 section 3.3).
        let canonical = match &self.kind {
            Kind::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(e), text(n)),
            Kind::Ec { curve, x, y } => {
                format!(r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#, curve.name(), text(x), text(y))
            }
            Kind::Ed25519 { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, text(x)),
        };
        digest(canonical.as_bytes())
    }

    /// Whether signatures of this algorithm can be by this key.
    pub(super) fn suits(&self, alg: Alg) -> bool {
        self.alg.as_ref().is_none_or(|only| only == alg.as_str()) && self.kind_suits(alg)
    }

    fn kind_suits(&self, alg: Alg) -> bool {
        match &self.kind {
            Kind::Rsa { .. } => jws::is_rsa(alg),
            Kind::Ec { curve, .. } => matches!(
                (curve, alg),
                (Curve::P256, Alg::Es256) | (Curve::P384, Alg::Es384) | (Curve::P521, Alg::Es512)
            ),
            Kind::Ed25519 { .. } => alg == Alg::EdDsa,
        }
    }

    /// Whether the signature over the message is by this key.
    pub(super) fn verify(&self, alg: Alg, message: &[u8], signature: &[u8]) -> bool {
        if !self.suits(alg) {
            return false;
        }
        let (key, algorithm) = match (&self.kind, jws::in_library(alg)) {
            (Kind::Ec { curve: Curve::P521, x, y }, _) => return verify_p521(x, y, message, signature),
            (_, None) => return false,
            (Kind::Rsa { n, e }, Some(algorithm)) => (DecodingKey::from_rsa_raw_components(n, e), algorithm),
            (Kind::Ec { x, y, .. }, Some(algorithm)) => (DecodingKey::from_ec_der(&point(x, y)), algorithm),
            (Kind::Ed25519 { x }, Some(algorithm)) => (DecodingKey::from_ed_der(x), algorithm),
        };
        checked(&key, algorithm, message, signature)
    }

    /// What kind of key it is, for people.
    pub(super) const fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Rsa { .. } => "RSA",
            Kind::Ec { curve, .. } => curve.name(),
            Kind::Ed25519 { .. } => "Ed25519",
        }
    }
}

/// Whether a signature or a MAC is right, by jsonwebtoken's own code.
pub(super) fn checked(key: &DecodingKey, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
    let signature = URL_SAFE_NO_PAD.encode(signature);
    jsonwebtoken::crypto::verify(&signature, message, key, algorithm).unwrap_or(false)
}

/// jsonwebtoken knows no ES512.
fn verify_p521(x: &[u8], y: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(&point(x, y));
    let signature = p521::ecdsa::Signature::from_slice(signature);
    matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(message, &signature).is_ok())
}

/// An uncompressed point (SEC 1 section 2.3.3).
fn point(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}

fn rsa(n: &[u8], e: &[u8]) -> Result<Kind, KeyProblem> {
    let plain = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    let (n, e) = (plain(n), plain(e));
    let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
    if !(2048..=4096).contains(&bits) {
        return Err(problem(format!("an RSA key of {bits} bits; expected 2048 to 4096")));
    }
    if e.is_empty() || e.len() > 4 {
        return Err(problem("an RSA key with a strange exponent"));
    }
    Ok(Kind::Rsa { n, e })
}

fn ec(curve: Curve, x: &[u8], y: &[u8]) -> Result<Kind, KeyProblem> {
    if x.len() != curve.size() || y.len() != curve.size() {
        return Err(problem(format!("x and y on {} have {} bytes each", curve.name(), curve.size())));
    }
    Ok(Kind::Ec { curve, x: x.to_vec(), y: y.to_vec() })
}

fn ed25519(x: &[u8]) -> Result<Kind, KeyProblem> {
    if x.len() == 32 { Ok(Kind::Ed25519 { x: x.to_vec() }) } else { Err(problem("x on Ed25519 has 32 bytes")) }
}

/// SHA-256 in base64url.
pub(super) fn digest(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(bytes))
}

/// What somebody else wrote, cut to what an error message can hold.
pub(super) fn short(text: &str) -> String {
    const LIMIT: usize = 120;
    let mut start: String = text.chars().take(LIMIT).collect();
    if start.len() < text.len() {
        start.push_str("...");
    }
    start
}

/// The members of a JWK that no public key has (RFC 7518 section 6).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// RFC 8410 section 3.
const ED25519: &str = "1.3.101.112";

#[cfg(test)]
mod tests;
