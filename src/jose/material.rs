//! The private part of a key, whatever it was read from, and the signer and the public JWK that follow from it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, KeyPair as _,
    },
};
use rsa::{BigUint, pkcs1::EncodeRsaPrivateKey as _, traits::PublicKeyParts as _};
use serde_json::json;
use zeroize::Zeroizing;

use super::{Algorithm, KeyError};

/// A private key that was read.
pub(super) enum Material {
    Octets(Zeroizing<Vec<u8>>),
    Rsa(Box<rsa::RsaPrivateKey>),
    P256(p256::SecretKey),
    P384(p384::SecretKey),
    P521(p521::SecretKey),
    Ed25519(Ed25519KeyPair),
}

/// A private key in the hands of the library that signs with it.
pub(super) enum Signer {
    /// RSA and HMAC.
    Jsonwebtoken(EncodingKey, jsonwebtoken::Algorithm),
    /// P-256 and P-384.
    Ecdsa(EcdsaKeyPair),
    P521(p521::ecdsa::SigningKey),
    Ed25519(Ed25519KeyPair),
}

impl Material {
    /// An RSA key of these numbers; its primes may be left out.
    pub(super) fn rsa(n: BigUint, e: BigUint, d: BigUint, primes: Vec<BigUint>) -> Result<Self, KeyError> {
        let bits = n.bits();
        if bits < RSA_LEAST {
            return Err(KeyError::RsaTooShort { bits });
        }
        if bits > RSA_MOST {
            return Err(KeyError::RsaTooLong { bits });
        }
        // The library subtracts one from the product of both before it looks at them.
        if d.bits() == 0 || e.bits() == 0 || d.bits() > bits || e.bits() > bits {
            return Err(KeyError::RsaInconsistent);
        }
        let key = rsa::RsaPrivateKey::from_components(n, e, d, primes).map_err(|_| KeyError::RsaInconsistent)?;
        Ok(Self::Rsa(Box::new(key)))
    }

    /// PKCS#8 in version 1 (RFC 8410 section 7) and version 2 (RFC 5958), the latter checked against its public part.
    pub(super) fn ed25519_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|rejected| {
            if rejected.to_string() == "InconsistentComponents" {
                KeyError::PublicMismatch
            } else {
                KeyError::Damaged { format: "PKCS#8" }
            }
        })?;
        Ok(Self::Ed25519(pair))
    }

    /// The algorithm of a key whose owner names none.
    pub(super) const fn usual_algorithm(&self) -> Algorithm {
        match self {
            Self::Octets(_) => Algorithm::Hs256,
            Self::Rsa(_) => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
            Self::P384(_) => Algorithm::Es384,
            Self::P521(_) => Algorithm::Es512,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// The key's point, uncompressed (SEC1 section 2.3.3); empty where there is none.
    pub(super) fn point(&self) -> Vec<u8> {
        match self {
            Self::P256(key) => key.public_key().to_encoded_point(false).as_bytes().to_vec(),
            Self::P384(key) => key.public_key().to_encoded_point(false).as_bytes().to_vec(),
            Self::P521(key) => key.public_key().to_encoded_point(false).as_bytes().to_vec(),
            Self::Octets(_) | Self::Rsa(_) | Self::Ed25519(_) => Vec::new(),
        }
    }

    /// The members of the public JWK that RFC 7638 section 3.2 and RFC 8037 section 2 call required.
    pub(super) fn public_jwk(&self) -> Option<serde_json::Value> {
        let base64 = |octets: &[u8]| URL_SAFE_NO_PAD.encode(octets);
        let curve = |name| {
            let point = self.point();
            let coordinates = point.get(1..).unwrap_or_default();
            let (x, y) = coordinates.split_at_checked(coordinates.len() / 2).unwrap_or_default();
            Some(json!({"crv": name, "kty": "EC", "x": base64(x), "y": base64(y)}))
        };
        match self {
            Self::Octets(_) => None,
            Self::Rsa(key) => {
                Some(json!({"e": base64(&key.e().to_bytes_be()), "kty": "RSA", "n": base64(&key.n().to_bytes_be())}))
            }
            Self::P256(_) => curve("P-256"),
            Self::P384(_) => curve("P-384"),
            Self::P521(_) => curve("P-521"),
            Self::Ed25519(pair) => {
                Some(json!({"crv": "Ed25519", "kty": "OKP", "x": base64(pair.public_key().as_ref())}))
            }
        }
    }

    /// Hands the key to the library that signs with it.
    pub(super) fn signer(self, algorithm: Algorithm) -> Result<Signer, KeyError> {
        let point = self.point();
        match (self, algorithm) {
            (Self::Octets(key), Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512) => {
                jsonwebtoken(EncodingKey::from_secret(&key), algorithm)
            }
            (
                Self::Rsa(key),
                Algorithm::Rs256
                | Algorithm::Rs384
                | Algorithm::Rs512
                | Algorithm::Ps256
                | Algorithm::Ps384
                | Algorithm::Ps512,
            ) => {
                let der = key.to_pkcs1_der().map_err(|_| KeyError::RsaInconsistent)?;
                jsonwebtoken(EncodingKey::from_rsa_der(der.as_bytes()), algorithm)
            }
            (Self::P256(key), Algorithm::Es256) => {
                ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, &Zeroizing::new(key.to_bytes()), &point)
            }
            (Self::P384(key), Algorithm::Es384) => {
                ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, &Zeroizing::new(key.to_bytes()), &point)
            }
            (Self::P521(key), Algorithm::Es512) => {
                let key = p521::ecdsa::SigningKey::from_bytes(&Zeroizing::new(key.to_bytes()));
                key.map(Signer::P521).map_err(|_| KeyError::PublicMismatch)
            }
            (Self::Ed25519(pair), Algorithm::EdDsa) => Ok(Signer::Ed25519(pair)),
            (other, algorithm) => Err(other.misfit(algorithm)),
        }
    }

    const fn misfit(&self, algorithm: Algorithm) -> KeyError {
        let (key, fitting) = match self {
            Self::Octets(_) => ("a shared secret", "a shared secret signs HS256, HS384 and HS512"),
            Self::Rsa(_) => ("an RSA key", "an RSA key signs RS256, RS384, RS512, PS256, PS384 and PS512"),
            Self::P256(_) => ("an EC key on P-256", "a key on P-256 signs ES256"),
            Self::P384(_) => ("an EC key on P-384", "a key on P-384 signs ES384"),
            Self::P521(_) => ("an EC key on P-521", "a key on P-521 signs ES512"),
            Self::Ed25519(_) => ("an Ed25519 key", "an Ed25519 key signs EdDSA"),
        };
        KeyError::Algorithm { algorithm, key, fitting }
    }
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, d: &[u8], point: &[u8]) -> Result<Signer, KeyError> {
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, d, point, &SystemRandom::new());
    pair.map(Signer::Ecdsa).map_err(|_| KeyError::PublicMismatch)
}

fn jsonwebtoken(key: EncodingKey, algorithm: Algorithm) -> Result<Signer, KeyError> {
    // Both name the algorithms as the registry does; those that it lacks do not come here.
    let algorithm = algorithm.as_str().parse().map_err(|_| KeyError::UnsupportedType)?;
    Ok(Signer::Jsonwebtoken(key, algorithm))
}

/// RFC 7518 sections 3.3 and 3.5.
const RSA_LEAST: usize = 2048;
/// A signature takes time with the third power of the length: four times as long a key, 64 times as long.
const RSA_MOST: usize = 8192;
