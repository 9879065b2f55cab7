//! Private keys as JWK or in a JWK set (RFC 7517, RFC 7518 section 6, RFC 8037 section 2).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::Ed25519KeyPair;
use rsa::BigUint;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::{Algorithm, KeyError, material::Material};

/// What a JWK holds.
pub(super) struct Found {
    pub(super) material: Material,
    pub(super) algorithm: Option<Algorithm>,
    pub(super) kid: Option<String>,
}

/// The one private key of a JWK or a set, or the one with this `kid`; `algorithm` is what the caller chose instead of
/// the JWK's.
pub(super) fn read(text: &str, kid: Option<&str>, algorithm: Option<Algorithm>) -> Result<Found, KeyError> {
    let file: Jwk = serde_json::from_str(text).map_err(|e| KeyError::Json { line: e.line(), column: e.column() })?;
    match (&file.kty, &file.keys) {
        (Some(_), _) => {
            // A key that does not say which one it is may be the wanted one; another one's name it must not have.
            if let (Some(wanted), Some(own)) = (kid, &file.kid)
                && wanted != own
            {
                return Err(KeyError::NoSuchKid { kid: wanted.to_owned() });
            }
            file.found(algorithm)
        }
        (None, Some(keys)) => chosen(keys, kid)?.found(algorithm),
        (None, None) => Err(KeyError::NotAJwk),
    }
}

fn chosen<'a>(keys: &'a [Jwk], kid: Option<&str>) -> Result<&'a Jwk, KeyError> {
    let fitting = |key: &&Jwk| key.is_private() && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid));
    let candidates: Vec<&Jwk> = keys.iter().filter(fitting).collect();
    let signing: Vec<&Jwk> = candidates.iter().copied().filter(|key| key.is_for_signing()).collect();
    match (signing.as_slice(), candidates.as_slice(), kid) {
        ([one], ..) => Ok(one),
        ([], [], Some(kid)) => Err(KeyError::NoSuchKid { kid: kid.to_owned() }),
        ([], [], None) if keys.is_empty() => Err(KeyError::Empty),
        ([], [], None) => Err(KeyError::PublicKey),
        ([], ..) => Err(KeyError::NotForSigning),
        (several, ..) => Err(KeyError::Several { number: several.len() }),
    }
}

/// A JWK, or a set of them: one type for both, so that a mistake has its line.
#[derive(Deserialize)]
struct Jwk {
    kty: Option<String>,
    keys: Option<Vec<Self>>,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<Hidden>,
    y: Option<Hidden>,
    d: Option<Hidden>,
    n: Option<Hidden>,
    e: Option<Hidden>,
    p: Option<Hidden>,
    q: Option<Hidden>,
    oth: Option<serde::de::IgnoredAny>,
    k: Option<Hidden>,
}

/// A text that is zeroed when it goes.
struct Hidden(Zeroizing<String>);

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl Jwk {
    fn is_private(&self) -> bool {
        self.d.is_some() || self.k.is_some()
    }

    /// RFC 7517 sections 4.2 and 4.3.
    fn is_for_signing(&self) -> bool {
        self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|operation| operation == "sign"))
    }

    fn found(&self, algorithm: Option<Algorithm>) -> Result<Found, KeyError> {
        let material = self.material()?;
        if !self.is_for_signing() {
            return Err(KeyError::NotForSigning);
        }
        let algorithm = match (algorithm, &self.alg) {
            (Some(chosen), _) => Some(chosen),
            (None, Some(name)) => Some(name.parse().map_err(|_| KeyError::UnknownAlgorithm)?),
            (None, None) => None,
        };
        Ok(Found { material, algorithm, kid: self.kid.clone() })
    }

    fn material(&self) -> Result<Material, KeyError> {
        match (self.kty.as_deref().unwrap_or_default(), self.crv.as_deref()) {
            ("oct", _) => {
                let key = bytes("k", self.k.as_ref())?;
                if key.is_empty() { Err(KeyError::Empty) } else { Ok(Material::Octets(key)) }
            }
            ("RSA", _) => self.rsa(),
            ("EC", Some("P-256")) => self.curve(32, |d| p256::SecretKey::from_slice(d).map(Material::P256)),
            ("EC", Some("P-384")) => self.curve(48, |d| p384::SecretKey::from_slice(d).map(Material::P384)),
            ("EC", Some("P-521")) => self.curve(66, |d| p521::SecretKey::from_slice(d).map(Material::P521)),
            ("OKP", Some("Ed25519")) => {
                let (d, x) = (self.private()?, bytes("x", self.x.as_ref())?);
                let length =
                    |member, octets: &[u8]| (octets.len() == 32).then_some(()).ok_or(KeyError::BadMember { member });
                length("d", &d)?;
                length("x", &x)?;
                let pair = Ed25519KeyPair::from_seed_and_public_key(&d, &x).map_err(|_| KeyError::PublicMismatch)?;
                Ok(Material::Ed25519(pair))
            }
            ("EC" | "OKP", None) => Err(KeyError::MissingMember { member: "crv" }),
            _ => Err(KeyError::UnsupportedType),
        }
    }

    /// The private member `d`; a key without it is a public one.
    fn private(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        if self.d.is_none() { Err(KeyError::PublicKey) } else { bytes("d", self.d.as_ref()) }
    }

    /// The CRT members are computed anew and not read: nothing but `p` and `q` goes into them. Without these, too, both
    /// follow from `d`.
    fn rsa(&self) -> Result<Material, KeyError> {
        let d = self.private()?;
        if self.oth.is_some() {
            return Err(KeyError::UnsupportedType);
        }
        let number = |member, text| bytes(member, text).map(|octets| BigUint::from_bytes_be(&octets));
        let (n, e) = (number("n", self.n.as_ref())?, number("e", self.e.as_ref())?);
        let primes = match (&self.p, &self.q) {
            (None, None) => Vec::new(),
            (p, q) => vec![number("p", p.as_ref())?, number("q", q.as_ref())?],
        };
        Material::rsa(n, e, BigUint::from_bytes_be(&d), primes)
    }

    fn curve(
        &self,
        length: usize,
        key: impl FnOnce(&[u8]) -> Result<Material, p256::elliptic_curve::Error>,
    ) -> Result<Material, KeyError> {
        let d = self.private()?;
        let (x, y) = (bytes("x", self.x.as_ref())?, bytes("y", self.y.as_ref())?);
        if d.len() != length {
            return Err(KeyError::BadMember { member: "d" });
        }
        let material = key(&d).map_err(|_| KeyError::BadMember { member: "d" })?;
        // The point is what the private number says it is: a key with another one would sign what nobody can check.
        let point = material.point();
        let own = point.get(1..).unwrap_or_default().split_at_checked(length);
        if own == Some((&x, &y)) { Ok(material) } else { Err(KeyError::PublicMismatch) }
    }
}

fn bytes(member: &'static str, text: Option<&Hidden>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let text = text.ok_or(KeyError::MissingMember { member })?;
    URL_SAFE_NO_PAD.decode(text.0.as_bytes()).map(Zeroizing::new).map_err(|_| KeyError::BadMember { member })
}
