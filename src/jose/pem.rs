//! Private keys in PEM: PKCS#8, PKCS#1 and SEC1 (RFC 7468, RFC 5958, RFC 8017, RFC 5915).

use p256::{
    NistP256,
    elliptic_curve::{
        Curve, FieldBytesSize, SecretKey,
        sec1::{ModulusSize, ValidatePublicKey},
    },
    pkcs8::{AssociatedOid as _, ObjectIdentifier, PrivateKeyInfo, der::Decode as _},
};
use p384::NistP384;
use p521::NistP521;
use rsa::{BigUint, pkcs1::UintRef};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use sec1::EcPrivateKey;
use zeroize::Zeroizing;

use super::{KeyError, material::Material};

/// The one private key of a PEM text.
pub(super) fn read(text: &str) -> Result<Material, KeyError> {
    // What is no plain private key is told by its label: a decoder skips it, or calls it damaged.
    if has(text, "ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(KeyError::Encrypted);
    }
    if has(text, "OPENSSH PRIVATE KEY") {
        return Err(KeyError::OpenSsh);
    }
    let mut keys = Vec::new();
    let mut others = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        let (kind, der) = section.map_err(|_| KeyError::Damaged { format: "PEM" })?;
        match kind {
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                keys.push((kind, Zeroizing::new(der)));
            }
            other => others.push(other),
        }
    }
    match keys.as_slice() {
        [(SectionKind::PrivateKey, der)] => pkcs8(der),
        [(SectionKind::RsaPrivateKey, der)] => rsa(der),
        [(_, der)] => sec1(der),
        [] if others.contains(&SectionKind::Certificate) => Err(KeyError::Certificate),
        [] if others.contains(&SectionKind::PublicKey) || has(text, "RSA PUBLIC KEY") => Err(KeyError::PublicKey),
        // A label of DSA, or of a kind that nobody has heard of yet.
        [] if text.contains(" PRIVATE KEY-----") => Err(KeyError::UnsupportedType),
        [] => Err(KeyError::NoPrivateKey),
        several => Err(KeyError::Several { number: several.len() }),
    }
}

fn has(text: &str, label: &str) -> bool {
    text.lines().any(|line| {
        let label_of = line.trim().strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        label_of == Some(label)
    })
}

fn pkcs8(der: &[u8]) -> Result<Material, KeyError> {
    let damaged = KeyError::Damaged { format: "PKCS#8" };
    let Ok(info) = PrivateKeyInfo::from_der(der) else {
        // Old versions of ring wrote Ed25519 keys with a tag that ring still reads and nobody else does.
        return Material::ed25519_pkcs8(der).map_err(|_| damaged);
    };
    match info.algorithm.oid {
        RSA => rsa(info.private_key),
        ED25519 => Material::ed25519_pkcs8(der),
        EC => {
            let curve = info.algorithm.parameters_oid().map_err(|_| KeyError::UnsupportedType)?;
            let key = EcPrivateKey::from_der(info.private_key).map_err(|_| damaged.clone())?;
            curve_key(Some(curve), key, damaged)
        }
        _ => Err(KeyError::UnsupportedType),
    }
}

fn rsa(der: &[u8]) -> Result<Material, KeyError> {
    let key = rsa::pkcs1::RsaPrivateKey::from_der(der).map_err(|_| KeyError::Damaged { format: "PKCS#1" })?;
    if key.other_prime_infos.is_some() {
        return Err(KeyError::UnsupportedType);
    }
    let number = |octets: UintRef<'_>| BigUint::from_bytes_be(octets.as_bytes());
    let primes = vec![number(key.prime1), number(key.prime2)];
    Material::rsa(number(key.modulus), number(key.public_exponent), number(key.private_exponent), primes)
}

fn sec1(der: &[u8]) -> Result<Material, KeyError> {
    let damaged = KeyError::Damaged { format: "SEC1" };
    let key = EcPrivateKey::from_der(der).map_err(|_| damaged.clone())?;
    curve_key(key.parameters.and_then(|parameters| parameters.named_curve()), key, damaged)
}

/// Without the curve's name its length tells it: that of the private number is fixed (RFC 5915 section 3).
fn curve_key(curve: Option<ObjectIdentifier>, key: EcPrivateKey<'_>, damaged: KeyError) -> Result<Material, KeyError> {
    match (curve, key.private_key.len()) {
        (Some(NistP256::OID), _) | (None, 32) => on_curve(key, damaged).map(Material::P256),
        (Some(NistP384::OID), _) | (None, 48) => on_curve(key, damaged).map(Material::P384),
        (Some(NistP521::OID), _) | (None, 66) => on_curve(key, damaged).map(Material::P521),
        _ => Err(KeyError::UnsupportedType),
    }
}

/// Takes the private number, and checks the public point if there is one.
fn on_curve<C>(key: EcPrivateKey<'_>, damaged: KeyError) -> Result<SecretKey<C>, KeyError>
where
    C: Curve + ValidatePublicKey,
    FieldBytesSize<C>: ModulusSize,
{
    SecretKey::<C>::from_slice(key.private_key).map_err(|_| damaged)?;
    SecretKey::try_from(key).map_err(|_| KeyError::PublicMismatch)
}

/// rsaEncryption, RFC 8017 appendix C.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// id-ecPublicKey, RFC 5480 section 2.1.1.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// id-Ed25519, RFC 8410 section 3.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
