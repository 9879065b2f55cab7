//! Keys of clients, and the servers' side of their assertions.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use rsa::{
    RsaPrivateKey,
    pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding},
    traits::{PrivateKeyParts, PublicKeyParts},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An RSA key in the forms that providers hand out.
pub struct Key {
    /// PKCS#8, PEM.
    pub pem: String,
    /// With its private members, and the `kid` "key-1".
    pub jwk: String,
    pub public_pem: String,
    /// A self-signed certificate, PEM.
    pub certificate: String,
    /// SHA-256 of the certificate, base64url.
    pub thumbprint: String,
}

/// The one that the server knows.
pub static KNOWN: LazyLock<Key> = LazyLock::new(Key::new);
/// One that it does not.
pub static OTHER: LazyLock<Key> = LazyLock::new(Key::new);

impl Key {
    fn new() -> Self {
        let key = RsaPrivateKey::new(&mut rand_core::OsRng, 2048).unwrap();
        let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
        let number = |n: &rsa::BigUint| BASE64_URL_SAFE_NO_PAD.encode(n.to_bytes_be());
        let primes = key.primes();
        let jwk = json!({
            "kty": "RSA", "kid": "key-1", "use": "sig", "alg": "RS256",
            "n": number(key.n()), "e": number(key.e()), "d": number(key.d()),
            "p": number(&primes[0]), "q": number(&primes[1]),
            "dp": number(key.dp().unwrap()), "dq": number(key.dq().unwrap()),
            "qi": number(&key.qinv().unwrap().to_biguint().unwrap()),
        });
        let pair = rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &rcgen::PKCS_RSA_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(["client".to_owned()]).unwrap().self_signed(&pair).unwrap();
        Self {
            jwk: jwk.to_string(),
            public_pem: key.to_public_key().to_public_key_pem(LineEnding::LF).unwrap(),
            thumbprint: BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(certificate.der())),
            certificate: certificate.pem(),
            pem,
        }
    }

    pub fn decoding(&self) -> DecodingKey {
        DecodingKey::from_rsa_pem(self.public_pem.as_bytes()).unwrap()
    }
}

/// What an assertion says, if this key signed it by one of these algorithms for this audience, and it is neither too old nor
/// longer good than so many seconds. Without leeway.
pub fn verify(
    jwt: &str,
    key: &DecodingKey,
    algorithms: &[Algorithm],
    audience: &str,
    longest: u64,
) -> Result<(Header, Value), String> {
    let header = jsonwebtoken::decode_header(jwt).map_err(|error| error.to_string())?;
    if !algorithms.contains(&header.alg) {
        return Err(format!("{:?}", header.alg));
    }
    let mut validation = Validation::new(header.alg);
    validation.leeway = 0;
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["iss", "aud", "exp"]);
    let decoded = jsonwebtoken::decode::<Value>(jwt, key, &validation).map_err(|error| error.to_string())?;
    let claims = decoded.claims;
    assert!(claims["aud"].is_string(), "{claims}");
    let now = jsonwebtoken::get_current_timestamp();
    let (issued, end) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    if issued > now || end - issued > longest || end > now + longest {
        return Err(format!("{issued} to {end} at {now}"));
    }
    Ok((header, claims))
}

/// A JWT that nobody verifies.
pub fn unsigned(claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({ "alg": "RS256" })), part(claims))
}

/// The claims of a JWT that nobody verifies.
pub fn claims(jwt: &str) -> Option<Value> {
    let part = jwt.split('.').nth(1)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
