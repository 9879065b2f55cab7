//! What `lanyard issuer` knows of clients, and what those clients need to hold.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use lanyard::{
    jose::{Algorithm, Header, Prover, SigningKey, certificate_thumbprint, claims::Claims},
    secret::Secret,
};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Map, Value, json};

use super::{
    super::interop::registrations::{RESOURCE_SERVER, SECRET, secret},
    cases::{GRANTS, ROWS, Row},
};
use crate::support::{Authority, Folder, send};

/// Whose assertions the server trusts.
pub const WORKLOADS: &str = "https://workloads.example";
/// Who logs in, and of whom assertions tell.
pub const USER: &str = "alice";
pub const PASSWORD: &str = "canary-password";
/// Who acts for her.
pub const ACTOR: &str = "an-agent";
/// A workload, by what Kubernetes calls it.
const WORKLOAD: &str = "system:serviceaccount:shop:billing";
/// The file of the key that tokens are bound to in some rows.
pub const BOUND_KEY: &str = "bound.pem";

macro_rules! key {
    ($name:literal) => {
        include_str!(concat!("../../../src/jose/tests/keys/test-key-", $name, ".pem"))
    };
}

/// The private keys of clients, by file.
const KEYS: [(&str, &str); 11] = [
    ("rsa.pem", key!("rsa-pkcs8")),
    ("rsa-pkcs1.pem", key!("rsa-pkcs1")),
    ("p256.pem", key!("p256-pkcs8")),
    ("p256-sec1.pem", key!("p256-sec1")),
    ("p384.pem", key!("p384-pkcs8")),
    ("p384-sec1.pem", key!("p384-sec1")),
    ("p521.pem", key!("p521-pkcs8")),
    ("p521-sec1.pem", key!("p521-sec1")),
    ("ed25519.pem", key!("ed25519-pkcs8")),
    ("key.jwk", EXAMPLE),
    (BOUND_KEY, key!("p256-sec1")),
];

/// The key of RFC 7517 appendix A.2, for signatures.
const EXAMPLE: &str = r#"{"kty":"EC","crv":"P-256","alg":"ES256","kid":"second",
    "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    "d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}"#;

/// The keys and certificates of a run.
pub struct Registrations {
    authority: Authority,
    /// Certificate and key, by the name of their files.
    pairs: [(&'static str, (String, String)); 2],
}

impl Registrations {
    pub fn new() -> Self {
        let authority = Authority::new();
        let signed = authority.pair(&["client.example"]);
        Self { authority, pairs: [("signed", signed), ("self-signed", self_signed())] }
    }

    /// The SHA-256 thumbprint of a certificate.
    pub fn thumbprint(&self, name: &str) -> String {
        certificate_thumbprint(&self.pair(name).0).unwrap()
    }

    fn pair(&self, name: &str) -> &(String, String) {
        &self.pairs.iter().find(|(one, _)| *one == name).unwrap().1
    }

    /// The text of a private key's file.
    pub fn key_text(&self, file: &str) -> String {
        match file {
            "keys.jwks" => format!("{{\"keys\":[{},{EXAMPLE}]}}", EXAMPLE.replace("\"second\"", "\"first\"")),
            "self-signed.key" => self.pair("self-signed").1.clone(),
            _ => KEYS.iter().find(|(name, _)| *name == file).unwrap().1.to_owned(),
        }
    }

    /// Writes what servers and clients need to have before there is a server.
    pub fn write(&self, folder: &Folder) {
        folder.write("client-ca.pem", self.authority.pem());
        for (name, (certificate, key)) in &self.pairs {
            folder.write(&format!("{name}.crt"), certificate);
            secret(folder, &format!("{name}.key"), key);
        }
        for (name, text) in KEYS {
            secret(folder, name, text);
        }
        secret(folder, "keys.jwks", &self.key_text("keys.jwks"));
        folder.write("clients.json", self.clients().to_string());
    }

    fn clients(&self) -> Value {
        let mut clients: Vec<Value> = ROWS.iter().map(|row| self.client(row)).collect();
        clients.push(json!({"client_id": RESOURCE_SERVER, "client_secret": SECRET}));
        let rsa = public(&self.key_text("rsa.pem"), "RS256");
        let projected = ROWS.iter().find(|row| row.key == "projected.jwt").unwrap().client();
        let trusted = json!({
            "issuer": WORKLOADS, "jwks": {"keys": [rsa]}, "subjects": {WORKLOAD: projected},
            "audiences": ["https://auth.test"],
        });
        json!({"clients": clients, "trusted_issuers": [trusted]})
    }

    fn client(&self, row: &Row) -> Value {
        let grants: Vec<&str> = GRANTS.iter().map(|grant| grant.registered()).collect();
        let mut client = json!({
            "client_id": row.client(), "token_endpoint_auth_method": row.method, "grant_types": grants,
            "scope": "read write", "users": {USER: PASSWORD},
        });
        if row.method.starts_with("client_secret") {
            client["client_secret"] = json!(row.secret());
        }
        match row.key {
            "" | "projected.jwt" => {}
            "self-signed.key" => client["certificate_file"] = json!("self-signed.crt"),
            file => {
                client["jwks"] = json!({"keys": [public(&self.key_text(file), row.algorithm)]});
                if !row.algorithm.is_empty() {
                    client["token_endpoint_auth_signing_alg"] = json!(row.algorithm);
                }
            }
        }
        match row.method {
            "tls_client_auth" => client["tls_client_auth_san_dns"] = json!("client.example"),
            "self_signed_tls_client_auth" => client["certificate_file"] = json!("self-signed.crt"),
            _ => {}
        }
        client
    }

    /// Writes what is for one server: whom to trust, and the tokens of others for it.
    pub fn write_for(&self, folder: &Folder, ca: &str) {
        folder.write("ca.pem", ca);
        secret(folder, "user.jwt", &self.token_of(USER, 600));
        secret(folder, "actor.jwt", &self.token_of(ACTOR, 600));
        secret(folder, "projected.jwt", &self.token_of(WORKLOAD, 600));
    }

    /// A token of the trusted issuer, good for so many seconds, which may be used any number of times.
    pub fn token_of(&self, subject: &str, seconds: u64) -> String {
        let mut claims = claims(WORKLOADS, subject, "https://auth.test", seconds);
        claims.jti = None;
        self.signed("rsa.pem", "RS256", &claims)
    }

    /// A JWT with the key in a file.
    pub fn signed(&self, file: &str, algorithm: &str, claims: &Claims) -> String {
        let key = parse(&self.key_text(file), algorithm);
        key.sign(&Header::default(), claims).unwrap().expose().to_owned()
    }

    /// A refresh token, by a person's password and the client's own credentials, made here and not by lanyard's client.
    pub async fn log_in(&self, row: &Row, issuer: &str, folder: &Folder) -> String {
        let client_id = row.client();
        let mut fields = vec![
            ("grant_type", "password".to_owned()),
            ("username", USER.to_owned()),
            ("password", PASSWORD.to_owned()),
            ("scope", "read write".to_owned()),
            ("audience", "https://api.test".to_owned()),
        ];
        let file = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let ca = reqwest::Certificate::from_pem(file("ca.pem").as_bytes()).unwrap();
        let mut builder = reqwest::Client::builder().no_proxy().tls_certs_only([ca]);
        let mut authorization = None;
        match row.method {
            "client_secret_basic" => authorization = Some((encoded(&client_id), encoded(row.secret()))),
            "client_secret_post" => {
                fields.extend([("client_id", client_id), ("client_secret", row.secret().to_owned())]);
            }
            "tls_client_auth" | "self_signed_tls_client_auth" => {
                let (certificate, key) = self.pair(row.certificate().unwrap());
                let identity = reqwest::Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap();
                builder = builder.identity(identity);
                fields.push(("client_id", client_id));
            }
            "none" => fields.push(("client_id", client_id)),
            _ => {
                let assertion = match row.key {
                    "" => {
                        let algorithm = algorithm(row.algorithm).unwrap();
                        let key = SigningKey::from_secret(&Secret::new(row.secret()), algorithm).unwrap();
                        let claims = claims(&client_id, &client_id, issuer, 60);
                        key.sign(&Header::default(), &claims).unwrap().expose().to_owned()
                    }
                    "projected.jwt" => file(row.key),
                    key => self.signed(key, row.algorithm, &claims(&client_id, &client_id, issuer, 60)),
                };
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                fields.extend([("client_assertion", assertion), ("client_assertion_type", kind.to_owned())]);
            }
        }
        let client = builder.build().unwrap();
        // The token endpoint with TLS is another one where there are two.
        let metadata = format!("{issuer}/.well-known/oauth-authorization-server");
        let metadata = send(client.get(metadata)).await.json();
        let endpoint = metadata["mtls_endpoint_aliases"]["token_endpoint"].as_str();
        let endpoint = endpoint.or_else(|| metadata["token_endpoint"].as_str()).unwrap();
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
        let prover = row.has_bound_key().then(|| {
            let key = parse(&self.key_text(BOUND_KEY), "");
            Prover::new(Arc::new(key)).unwrap()
        });
        let mut nonce = None;
        for _ in 0..2 {
            let mut request = client.post(endpoint).header("content-type", "application/x-www-form-urlencoded");
            request = request.body(form.clone());
            if let Some((id, secret)) = &authorization {
                request = request.basic_auth(id, Some(secret));
            }
            if let Some(prover) = &prover {
                request = request.header("dpop", prover.proof("POST", endpoint, None, nonce.as_deref()).unwrap());
            }
            let answer = send(request).await;
            if answer.body.contains("use_dpop_nonce") {
                nonce = answer.header("dpop-nonce").map(str::to_owned);
                continue;
            }
            assert_eq!(answer.status, 200, "{}: {}", row.client(), answer.body);
            return answer.json()["refresh_token"].as_str().expect("a refresh token").to_owned();
        }
        panic!("{}: the server wants nonce after nonce", row.client());
    }

    /// The public half of a file's key, a JWK.
    pub fn public_key(&self, file: &str, algorithm: &str) -> String {
        public(&self.key_text(file), algorithm).to_string()
    }

    /// The thumbprint of [`BOUND_KEY`].
    pub fn bound_thumbprint(&self) -> String {
        parse(&self.key_text(BOUND_KEY), "").thumbprint().unwrap().to_owned()
    }
}

/// What a JWT says that is good for so many seconds, and for one use.
pub fn claims(iss: &str, sub: &str, aud: &str, seconds: u64) -> Claims {
    let mut claims = Claims::new(SystemTime::now(), Duration::from_secs(seconds));
    (claims.iss, claims.sub, claims.aud) = (Some(iss.to_owned()), Some(sub.to_owned()), Some(aud.to_owned()));
    claims
}

fn algorithm(name: &str) -> Option<Algorithm> {
    Algorithm::ALL.into_iter().find(|one| one.as_str() == name)
}

fn parse(text: &str, name: &str) -> SigningKey {
    let kid = text.contains("\"keys\"").then_some("second");
    SigningKey::parse(&Secret::new(text), algorithm(name), kid).unwrap()
}

/// The public half as a JWK.
fn public(text: &str, algorithm: &str) -> Value {
    let key = parse(text, algorithm);
    let mut jwk: Map<String, Value> = key.public_jwk().unwrap().as_object().unwrap().clone();
    jwk.extend(key.kid().map(|kid| ("kid".to_owned(), json!(kid))));
    Value::Object(jwk)
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn self_signed() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a client by itself");
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}
