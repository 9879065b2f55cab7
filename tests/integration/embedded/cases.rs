//! The table: how a client authenticates at `lanyard issuer`, and how a profile says so. To add a way is to add a line.

use super::{
    super::interop::registrations::{RESERVED, SECRET, secret},
    registrations::{BOUND_KEY, PASSWORD, Registrations, USER},
    servers::Server,
};
use crate::support::Folder;

/// The columns of the table. The last two are one grant: with a token in a file, and with that of whoever asks.
pub const GRANTS: [Grant; 6] =
    [Grant::ClientCredentials, Grant::Refresh, Grant::Password, Grant::JwtBearer, Grant::Exchange, Grant::OnBehalf];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    ClientCredentials,
    Refresh,
    Password,
    JwtBearer,
    Exchange,
    OnBehalf,
}

impl Grant {
    /// Its column, and a part of the names of its profiles and hosts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::Refresh => "refresh_token",
            Self::Password => "password",
            Self::JwtBearer => "jwt-bearer",
            Self::Exchange => "token-exchange",
            Self::OnBehalf => "the caller's token",
        }
    }

    pub const fn registered(self) -> &'static str {
        match self {
            Self::JwtBearer => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Self::Exchange | Self::OnBehalf => "urn:ietf:params:oauth:grant-type:token-exchange",
            other => other.name(),
        }
    }
}

const ALL: &[Grant] = &GRANTS;
/// RFC 6749 4.4: who has no credentials has none to ask by.
const OF_PUBLIC: &[Grant] = &[Grant::Refresh, Grant::Password, Grant::JwtBearer, Grant::Exchange, Grant::OnBehalf];

/// HS512 wants 64 bytes at least (RFC 7518 3.2).
const LONG_SECRET: &str = "canary-client-secret-of-more-than-64-bytes-so-that-hs512-will-take-it";

/// A way to authenticate.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub server: Server,
    /// `token_endpoint_auth_method`.
    pub method: &'static str,
    /// What is special about it.
    pub note: &'static str,
    /// `token_endpoint_auth_signing_alg`; empty: as the key says.
    pub algorithm: &'static str,
    /// The file with its key.
    pub key: &'static str,
    /// What the profile has besides.
    toml: &'static str,
    /// Whether the profile has `issuer` in the place of `token_endpoint`.
    discovers: bool,
    pub works: &'static [Grant],
}

const fn row(method: &'static str, note: &'static str) -> Row {
    Row { server: Server::Tls, method, note, algorithm: "", key: "", toml: "", discovers: false, works: ALL }
}

const fn signed(algorithm: &'static str, key: &'static str, note: &'static str) -> Row {
    Row { algorithm, key, ..row("private_key_jwt", note) }
}

impl Row {
    const fn at(self, server: Server) -> Self {
        Self { server, ..self }
    }

    const fn with(self, toml: &'static str) -> Self {
        Self { toml, ..self }
    }

    const fn discovers(self) -> Self {
        Self { discovers: true, ..self }
    }

    const fn works(self, works: &'static [Grant]) -> Self {
        Self { works, ..self }
    }

    /// Its first cell.
    pub fn heading(&self) -> String {
        let note = if self.note.is_empty() { String::new() } else { format!(", {}", self.note) };
        format!("`{}`{note}", self.method)
    }

    /// `client_id`: a client for each row.
    pub fn client(&self) -> String {
        let text = format!("{}-{}", self.method, self.note).to_lowercase();
        let word = |part: &str| part.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        text.split([' ', '-', '_', '/']).map(word).filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
    }

    pub fn secret(&self) -> &'static str {
        match self.method {
            "client_secret_jwt" => LONG_SECRET,
            _ if self.note.contains("reserved") => RESERVED,
            _ => SECRET,
        }
    }

    /// The profile's name for a grant.
    pub fn profile_name(&self, grant: Grant) -> String {
        // The client's own name is too long for a host's.
        let number = ROWS.iter().position(|row| row.heading() == self.heading()).unwrap();
        format!("row{number}-{}", grant.name().replace(['\'', ' ', '_'], "-"))
    }

    /// The host whose route has the profile of a grant.
    pub fn host(&self, grant: Grant) -> String {
        self.profile_name(grant) + ".test"
    }

    pub fn is_bound(&self) -> bool {
        self.toml.contains("dpop")
    }

    /// Whether tokens are for the certificate of this name.
    pub fn certificate(&self) -> Option<&'static str> {
        match self.method {
            "tls_client_auth" => Some("signed"),
            "self_signed_tls_client_auth" => Some("self-signed"),
            _ => None,
        }
    }

    /// The profile, with the files that [`Registrations::write`] put into the folder.
    pub fn profile(&self, grant: Grant, issuer: &str, folder: &Folder) -> String {
        let files = folder.path().display();
        let mut toml = format!(
            "[profiles.{}]\nclient_id = \"{}\"\ntoken_endpoint_auth_method = \"{}\"\ngrant_type = \"{}\"\n\
             scope = \"read write\"\nca_file = \"{files}/ca.pem\"\ntoken_wait = \"60s\"\ntimeout = \"60s\"\n",
            self.profile_name(grant),
            self.client(),
            self.method,
            grant.registered()
        );
        if self.discovers || self.toml.contains("\"issuer\"") {
            toml += &format!("issuer = \"{issuer}\"\n");
        }
        if !self.discovers {
            toml += &format!("token_endpoint = \"{issuer}/oauth/token\"\n");
        }
        if self.key.contains("jwt") {
            toml += &format!("client_assertion = {{ file = \"{files}/{}\" }}\n", self.key);
        } else if !self.key.is_empty() {
            toml += &format!("private_key = {{ file = \"{files}/{}\" }}\n", self.key);
        }
        if !self.algorithm.is_empty() {
            toml += &format!("token_endpoint_auth_signing_alg = \"{}\"\n", self.algorithm);
        }
        if let Some(name) = self.certificate() {
            toml += &format!(
                "client_certificate_file = \"{files}/{name}.crt\"\nclient_key_file = \"{files}/{name}.key\"\n"
            );
        }
        if self.method.starts_with("client_secret") {
            toml += &format!("client_secret = \"{}\"\n", self.secret());
        }
        toml += &self.toml.replace("{files}", &files.to_string()).replace("{issuer}", issuer);
        // A refresh token is for what it was got for.
        if grant != Grant::Refresh {
            toml += "audience = \"https://api.test\"\n";
        }
        toml += &match grant {
            Grant::ClientCredentials => String::new(),
            Grant::Refresh => format!(
                "refresh_token = {{ file = \"{files}/{client}.refresh\" }}\n\
                 refresh_token_state_file = \"{files}/{client}.state\"\n",
                client = self.client()
            ),
            Grant::Password => format!("username = \"{USER}\"\npassword = \"{PASSWORD}\"\n"),
            Grant::JwtBearer => format!("assertion = {{ file = \"{files}/user.jwt\" }}\n"),
            Grant::Exchange => format!(
                "subject_token = {{ file = \"{files}/user.jwt\" }}\nactor_token = {{ file = \"{files}/actor.jwt\" }}\n"
            ),
            Grant::OnBehalf => {
                "subject_token = { header = \"Authorization\" }\nsubject_token_type = \"jwt\"\n".to_owned()
            }
        };
        toml
    }

    /// Gets the first refresh token, as a person who logs in does, and writes it down.
    pub async fn log_in(&self, registrations: &Registrations, issuer: &str, folder: &Folder) {
        let token = registrations.log_in(self, issuer, folder).await;
        secret(folder, &format!("{}.refresh", self.client()), &token);
    }

    pub fn has_bound_key(&self) -> bool {
        self.toml.contains(BOUND_KEY)
    }
}

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    row("client_secret_basic", ""),
    row("client_secret_basic", "reserved characters"),
    row("client_secret_basic", "`issuer`").discovers(),
    row("client_secret_basic", "DPoP").with("dpop = true\n"),
    row("client_secret_basic", "DPoP, nonces good for three proofs").at(Server::Nonces).with("dpop = true\n"),
    row("client_secret_post", ""),
    row("client_secret_post", "reserved characters"),
    row("client_secret_post", "JSON").with("request_format = \"json\"\n"),
    Row { algorithm: "HS256", ..row("client_secret_jwt", "HS256") },
    Row { algorithm: "HS384", ..row("client_secret_jwt", "HS384") },
    Row { algorithm: "HS512", ..row("client_secret_jwt", "HS512") },
    Row { algorithm: "HS256", ..row("client_secret_jwt", "the issuer as audience").with("client_assertion_audience = \"issuer\"\n") },
    signed("RS256", "rsa.pem", "RS256"),
    signed("RS384", "rsa.pem", "RS384"),
    signed("RS512", "rsa.pem", "RS512"),
    signed("PS256", "rsa.pem", "PS256"),
    signed("PS384", "rsa.pem", "PS384"),
    signed("PS512", "rsa.pem", "PS512"),
    signed("ES256", "p256.pem", "ES256"),
    signed("ES384", "p384.pem", "ES384"),
    signed("ES512", "p521.pem", "ES512"),
    signed("EdDSA", "ed25519.pem", "EdDSA"),
    signed("", "rsa-pkcs1.pem", "RSA in PKCS#1"),
    signed("", "p256-sec1.pem", "P-256 in SEC1"),
    signed("", "p384-sec1.pem", "P-384 in SEC1"),
    signed("", "p521-sec1.pem", "P-521 in SEC1"),
    signed("", "key.jwk", "a JWK"),
    signed("", "keys.jwks", "a key of a JWK set").with("key_id = \"second\"\n"),
    signed("", "self-signed.key", "x5t#S256").with("client_certificate_file = \"{files}/self-signed.crt\"\n"),
    signed("ES256", "p256.pem", "`issuer`").discovers(),
    signed("ES256", "p256.pem", "the token endpoint as audience").with("issuer = \"{issuer}\"\nclient_assertion_audience = \"token_endpoint\"\n"),
    signed("ES256", "p256.pem", "the issuer as audience").with("client_assertion_audience = \"issuer\"\n"),
    signed("ES256", "p256.pem", "the issuer as audience, by its text").with("client_assertion_audience = \"{issuer}\"\n"),
    signed("ES256", "p256.pem", "DPoP, nonces").at(Server::Nonces).with("dpop_key = { file = \"{files}/bound.pem\" }\n"),
    signed("", "projected.jwt", "a projected service-account token"),
    row("tls_client_auth", ""),
    row("tls_client_auth", "`mtls_endpoint_aliases`").at(Server::Both).discovers(),
    row("tls_client_auth", "DPoP").with("dpop = true\n"),
    row("self_signed_tls_client_auth", ""),
    row("none", "").works(OF_PUBLIC),
    row("none", "DPoP, nonces, a key from a file").at(Server::Nonces).with("dpop_key = { file = \"{files}/bound.pem\" }\n").works(OF_PUBLIC),
];
