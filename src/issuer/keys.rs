//! The key that access tokens are signed with, and the random texts that nobody can guess.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    DecodingKey, EncodingKey, Header, Validation,
    errors::ErrorKind,
    jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};
use p256::pkcs8::EncodePrivateKey as _;
use rand_core::{OsRng, RngCore as _};
use rsa::pkcs1::EncodeRsaPrivateKey as _;

use super::{
    claims::{Claims, TokenProblem},
    settings::{Algorithm, IssuerError},
};
use crate::secret::Secret;

/// Signs tokens and checks signatures, or does neither where tokens are opaque.
pub(super) struct Keys(Option<Key>);

struct Key {
    header: Header,
    sign: EncodingKey,
    verify: DecodingKey,
    validation: Validation,
    /// The public half, if there is one.
    public: Option<Jwk>,
}

impl Keys {
    pub(super) fn new(algorithm: Algorithm, hs256_key: Option<&Secret>) -> Result<Self, IssuerError> {
        match algorithm {
            Algorithm::Opaque => Ok(Self(None)),
            Algorithm::Hs256 => {
                let random;
                let bytes = match hs256_key {
                    Some(key) => key.expose().as_bytes(),
                    None => {
                        random = Secret::new(random_text::<32>());
                        random.expose().as_bytes()
                    }
                };
                if bytes.len() < 32 {
                    tracing::warn!(target: "lanyard::issuer", bytes = bytes.len(), "the key for hs256 is shorter than the 32 bytes of RFC 7518");
                }
                let (sign, verify) = (EncodingKey::from_secret(bytes), DecodingKey::from_secret(bytes));
                Ok(Self(Some(Key::new(jsonwebtoken::Algorithm::HS256, sign, verify, None))))
            }
            Algorithm::Rs256 => {
                let private = rsa::RsaPrivateKey::new(&mut OsRng, RSA_BITS).map_err(|e| IssuerError::Key(e.into()))?;
                let der = private.to_pkcs1_der().map_err(|e| IssuerError::Key(e.into()))?;
                Self::pair(jsonwebtoken::Algorithm::RS256, EncodingKey::from_rsa_der(der.as_bytes()))
            }
            Algorithm::Es256 => {
                let private = p256::SecretKey::random(&mut OsRng);
                let der = private.to_pkcs8_der().map_err(|e| IssuerError::Key(e.into()))?;
                Self::pair(jsonwebtoken::Algorithm::ES256, EncodingKey::from_ec_der(der.as_bytes()))
            }
        }
    }

    fn pair(algorithm: jsonwebtoken::Algorithm, sign: EncodingKey) -> Result<Self, IssuerError> {
        let mut public = Jwk::from_encoding_key(&sign, algorithm).map_err(|e| IssuerError::Key(e.into()))?;
        let kid = public.thumbprint(ThumbprintHash::SHA256).map_err(|e| IssuerError::Key(e.into()))?;
        public.common.key_id = Some(kid);
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        // Checking with what is published proves with every token that the published key is the right one.
        let verify = DecodingKey::from_jwk(&public).map_err(|e| IssuerError::Key(e.into()))?;
        Ok(Self(Some(Key::new(algorithm, sign, verify, Some(public)))))
    }

    /// The claims as a signed token; none where tokens are opaque.
    pub(super) fn sign(&self, claims: &Claims) -> Option<Result<String, jsonwebtoken::errors::Error>> {
        self.0.as_ref().map(|key| jsonwebtoken::encode(&key.header, claims, &key.sign))
    }

    /// The claims of a token that this key signed; none where tokens are opaque. Says nothing of issuer and time.
    pub(super) fn verify(&self, token: &str) -> Option<Result<Claims, TokenProblem>> {
        let key = self.0.as_ref()?;
        Some(match jsonwebtoken::decode::<Claims>(token, &key.verify, &key.validation) {
            Ok(data) if data.header.typ.as_deref() == Some(ACCESS_TOKEN_TYPE) => Ok(data.claims),
            Ok(_) => Err(TokenProblem::Malformed),
            Err(error) => Err(match error.kind() {
                ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenProblem::BadSignature,
                _ => TokenProblem::Malformed,
            }),
        })
    }

    /// Whether tokens are JWTs, and not opaque.
    pub(super) const fn makes_jwts(&self) -> bool {
        self.0.is_some()
    }

    /// The public keys, for everybody.
    pub(super) fn public(&self) -> JwkSet {
        JwkSet { keys: self.0.iter().filter_map(|key| key.public.clone()).collect() }
    }

    /// The name of the algorithm of tokens that can be checked with the published keys.
    pub(super) fn public_algorithm(&self) -> Option<&'static str> {
        match self.0.as_ref()?.header.alg {
            jsonwebtoken::Algorithm::RS256 => Some("RS256"),
            jsonwebtoken::Algorithm::ES256 => Some("ES256"),
            _ => None,
        }
    }
}

impl Key {
    fn new(algorithm: jsonwebtoken::Algorithm, sign: EncodingKey, verify: DecodingKey, public: Option<Jwk>) -> Self {
        let mut header = Header::new(algorithm);
        header.typ = Some(ACCESS_TOKEN_TYPE.to_owned());
        header.kid = public.as_ref().and_then(|jwk| jwk.common.key_id.clone()).or_else(|| Some("hs256".to_owned()));
        // Signature and algorithm only: issuer, audience and time are checked the same way for opaque tokens.
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self { header, sign, verify, validation, public }
    }
}

/// `N` bytes from the system's random number generator, as text.
pub(super) fn random_text<const N: usize>() -> String {
    let mut bytes = [0; N];
    OsRng.fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// RFC 9068 section 2.1: an access token says that it is one.
const ACCESS_TOKEN_TYPE: &str = "at+jwt";

const RSA_BITS: usize = 2048;
