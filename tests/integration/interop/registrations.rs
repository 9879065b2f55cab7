//! What a test hands over to the authorization servers: clients for every method and grant, with keys of this run alone,
//! and what those clients need to hold. Metadata has the names of RFC 7591.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use rsa::{
    RsaPrivateKey,
    pkcs8::{EncodePrivateKey, LineEnding},
    traits::PublicKeyParts,
};
use serde_json::{Value, json};

use super::{
    super::support::{Authority, Folder},
    cases::{CLIENT_CREDENTIALS, JWT_BEARER, PASSWORD_GRANT, REFRESH_TOKEN, TOKEN_EXCHANGE},
};

/// Of every client with a secret. HS256 wants 32 bytes at least (RFC 7518 3.2).
pub const SECRET: &str = "canary-client-secret-of-more-than-32-bytes";
/// A secret that HTTP Basic changes unless it is form-encoded first (RFC 6749 2.3.1).
pub const RESERVED: &str = "canary-secret: 100% + more/than & 32 bytes";
/// Who has a password, who is the subject of assertions, and who once allowed refresh tokens.
pub const USER: &str = "alice";
pub const PASSWORD: &str = "canary-password";
/// Whose assertions servers trust (RFC 7523 2.1), and of whose workload identities (RFC 8693).
pub const ISSUER: &str = "https://workloads.example";
/// The client that a resource server is when it asks about a token (RFC 7662 2.1).
pub const RESOURCE_SERVER: &str = "resource-server";

/// The keys and certificates of a run.
pub struct Registrations {
    pub authority: Authority,
    /// `localhost`, signed by the authority: certificate and key.
    server: (String, String),
    /// Signed by the authority: for `tls_client_auth`.
    signed: (String, String),
    /// Signed by itself: for `self_signed_tls_client_auth`.
    self_signed: (String, String),
    /// A JWK of the self-signed certificate.
    certificate: Value,
    keys: Vec<Key>,
}

/// A key pair to sign with, named for its algorithm.
struct Key {
    algorithm: &'static str,
    pem: String,
    /// The public half.
    jwk: Value,
}

impl Registrations {
    pub fn new() -> Self {
        let authority = Authority::new();
        let (certificate, self_signed) = self_signed();
        let rsa = RsaPrivateKey::new(&mut rand_core::OsRng, 2048).unwrap();
        let rsa_pem = rsa.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
        let rsa_jwk = json!({"kty": "RSA", "n": url64(&rsa.n().to_bytes_be()), "e": url64(&rsa.e().to_bytes_be())});
        let elliptic = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let edwards = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let edwards_jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": url64(edwards.public_key_raw())});
        let keys = [
            ("RS256", rsa_pem.clone(), rsa_jwk.clone()),
            ("PS256", rsa_pem, rsa_jwk),
            ("ES256", elliptic.serialize_pem(), elliptic_jwk(&elliptic)),
            ("EdDSA", edwards_pem(&edwards), edwards_jwk),
        ];
        let keys = keys.map(|(algorithm, pem, mut jwk)| {
            jwk["kid"] = json!(algorithm);
            jwk["alg"] = json!(algorithm);
            jwk["use"] = json!("sig");
            Key { algorithm, pem, jwk }
        });
        Self {
            server: authority.pair(&["localhost"]),
            signed: authority.pair(&["client.example"]),
            authority,
            self_signed,
            certificate,
            keys: keys.into(),
        }
    }

    /// What oidc-provider knows.
    pub fn of_oidc_provider(&self) -> Value {
        let every = [CLIENT_CREDENTIALS, REFRESH_TOKEN, JWT_BEARER, TOKEN_EXCHANGE];
        let mut clients = self.clients(&every);
        let mut signed = client("tls_client_auth", "tls_client_auth", &every);
        signed["tls_client_auth_san_dns"] = json!("client.example");
        let mut self_signed = client("self_signed_tls_client_auth", "self_signed_tls_client_auth", &every);
        self_signed["jwks"] = json!({"keys": [self.certificate]});
        let mut proved = with_secret("dpop", "client_secret_basic", &every);
        proved["dpop_bound_access_tokens"] = json!(true);
        clients.extend([signed, self_signed, proved, with_reserved("client_secret_basic", &every)]);
        for client in &mut clients {
            client["redirect_uris"] = json!([]);
            client["response_types"] = json!([]);
        }
        json!({
            "tls": {"certificate": self.server.0, "key": self.server.1, "client_ca": self.authority.pem()},
            "issuers": self.issuers(),
            "clients": clients,
        })
    }

    /// What Authlib's server knows.
    pub fn of_authlib(&self) -> Value {
        let every = [CLIENT_CREDENTIALS, REFRESH_TOKEN, PASSWORD_GRANT];
        let mut clients = self.clients(&every);
        clients.push(with_reserved("client_secret_post", &every));
        json!({"user": user(), "issuers": self.issuers(), "clients": clients})
    }

    /// What fosite's server knows, besides `test-client` with `foobar`.
    pub fn of_fosite(&self) -> Value {
        let mut clients = self.clients(&[CLIENT_CREDENTIALS, REFRESH_TOKEN, PASSWORD_GRANT, JWT_BEARER]);
        clients.push(with_reserved("client_secret_basic", &[CLIENT_CREDENTIALS]));
        // Fosite wants this scope for a refresh token.
        for client in &mut clients {
            client["scope"] = json!("read offline");
        }
        json!({"user": user(), "issuers": self.issuers(), "clients": clients})
    }

    /// A client for each method without certificates, and one for each algorithm.
    fn clients(&self, grants: &[&str]) -> Vec<Value> {
        let methods = ["client_secret_basic", "client_secret_post", "client_secret_jwt"];
        let mut clients: Vec<Value> = methods.iter().map(|method| with_secret(method, method, grants)).collect();
        for key in &self.keys {
            let mut client = client(&format!("private_key_jwt-{}", key.algorithm), "private_key_jwt", grants);
            client["token_endpoint_auth_signing_alg"] = json!(key.algorithm);
            client["jwks"] = json!({"keys": [key.jwk]});
            clients.push(client);
        }
        // Client credentials without credentials are none (RFC 6749 4.4).
        let public: Vec<&str> = grants.iter().copied().filter(|grant| *grant != CLIENT_CREDENTIALS).collect();
        clients.push(client("none", "none", &public));
        clients.push(with_secret(RESOURCE_SERVER, "client_secret_basic", &[CLIENT_CREDENTIALS]));
        clients
    }

    fn issuers(&self) -> Value {
        let keys: Vec<&Value> = self.keys.iter().map(|key| &key.jwk).collect();
        json!([{"issuer": ISSUER, "subject": USER, "jwks": {"keys": keys}}])
    }

    /// Writes everything that a profile's `{ file = ... }` may name: `ca.pem`, `RS256.pem` and its like, `signed.crt`,
    /// `signed.key`, `self-signed.crt`, `self-signed.key`, and `assertion`, a JWT about [`USER`] for this audience.
    pub fn write(&self, folder: &Folder, audience: &str) {
        folder.write("ca.pem", self.authority.pem());
        for (name, (certificate, key)) in [("signed", &self.signed), ("self-signed", &self.self_signed)] {
            folder.write(&format!("{name}.crt"), certificate);
            secret(folder, &format!("{name}.key"), key);
        }
        for key in &self.keys {
            secret(folder, &format!("{}.pem", key.algorithm), &key.pem);
        }
        secret(folder, "assertion", &self.assertion(audience));
    }

    /// A JWT of the issuer's about the user, good for ten minutes and one use.
    fn assertion(&self, audience: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({
            "iss": ISSUER, "sub": USER, "aud": audience, "iat": now, "exp": now + 600,
            "jti": format!("{:032x}", fastrand::u128(..)),
        });
        let key = self.keys.iter().find(|key| key.algorithm == "RS256").unwrap();
        let header = Header { kid: Some("RS256".to_owned()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_rsa_pem(key.pem.as_bytes()).unwrap()).unwrap()
    }
}

fn user() -> Value {
    json!({"username": USER, "password": PASSWORD})
}

/// A client whose id is not its method's name where two clients have the same.
fn client(id: &str, method: &str, grants: &[&str]) -> Value {
    json!({"client_id": id, "token_endpoint_auth_method": method, "grant_types": grants, "scope": "read"})
}

fn with_secret(id: &str, method: &str, grants: &[&str]) -> Value {
    let mut client = client(id, method, grants);
    client["client_secret"] = json!(SECRET);
    client
}

fn with_reserved(method: &str, grants: &[&str]) -> Value {
    let mut client = client("reserved", method, grants);
    client["client_secret"] = json!(RESERVED);
    client
}

/// A certificate that only its own key vouches for: its JWK, and the pair in PEM.
fn self_signed() -> (Value, (String, String)) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a client by itself");
    let certificate = params.self_signed(&key).unwrap();
    let mut jwk = elliptic_jwk(&key);
    jwk["x5c"] = json!([BASE64_STANDARD.encode(certificate.der())]);
    (jwk, (certificate.pem(), key.serialize_pem()))
}

/// The public half of a key on P-256, which is 0x04, x and y.
fn elliptic_jwk(key: &KeyPair) -> Value {
    let (x, y) = key.public_key_raw()[1..].split_at(32);
    json!({"kty": "EC", "crv": "P-256", "x": url64(x), "y": url64(y)})
}

/// The private half of a key on Ed25519 as OpenSSL writes it (RFC 8410 7), without the public half that ring adds.
fn edwards_pem(key: &KeyPair) -> String {
    let mut first_version = key.serialize_der()[..48].to_vec();
    // The length of what follows, and version 0.
    (first_version[1], first_version[4]) = (46, 0);
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(first_version))
}

fn url64(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Writes a file that its owner alone may read.
pub fn secret(folder: &Folder, name: &str, content: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path: &Path = &folder.write(name, content);
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}
