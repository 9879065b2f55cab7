//! The table: which client authentication and grant a server takes, and how a profile asks for it. To add a way to get a
//! token is to add a line.
//!
//! Every cell was seen to work with another client (Python's joserfc and urllib), and what the servers insist on then:
//!
//! * **oidc-provider**: a client assertion's `aud` is the issuer or the token endpoint, alone or in a list; `iss`, `sub`,
//!   `exp` and `jti` have to be there, `iat` and `kid` need not, `typ` is not looked at, each `jti` is taken once. It says no
//!   more than "client authentication failed", whatever was wrong. DPoP: without a proof `invalid_grant`; without a nonce 400
//!   `use_dpop_nonce` and `DPoP-Nonce`; `token_type` is `DPoP`, and introspection tells `cnf.jkt`. A scope that the server
//!   does not know is left out in silence, one that the client may not have is `invalid_scope`. One `resource` alone.
//! * **Authlib**: a client assertion's `aud` is the issuer or the token endpoint; `jti` is wanted, `iat` and `kid` are not;
//!   a `kid` that is there has to be known. PS256 and EdDSA are refused ("not recommended"). Basic credentials are **not**
//!   form-decoded: a secret with reserved characters works by `client_secret_post` alone. With the grant of RFC 7523 the
//!   issuer of the assertion is the client, whatever else authenticates; its `kid` has to be there.
//! * **fosite**: a client assertion's `aud` is the token endpoint, the issuer is refused; `jti` is wanted and taken once
//!   (`jti_known`); the JWK has to say `"use": "sig"`; no EdDSA, no `client_secret_jwt`. An assertion that is a grant wants
//!   `aud` (the token endpoint), `jti` and `iat`, and takes EdDSA. Refresh tokens want the scope `offline`.
//! * **Couper**: whatever its configuration checks.

use super::registrations::{ISSUER, PASSWORD, RESERVED, SECRET, USER};

pub const CLIENT_CREDENTIALS: &str = "client_credentials";
pub const REFRESH_TOKEN: &str = "refresh_token";
pub const PASSWORD_GRANT: &str = "password";
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// The columns of the table.
pub const GRANTS: &[&str] = &[CLIENT_CREDENTIALS, REFRESH_TOKEN, PASSWORD_GRANT, JWT_BEARER, TOKEN_EXCHANGE];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Server {
    OidcProvider,
    Authlib,
    Fosite,
    Couper,
}
use Server::{Authlib, Couper, Fosite, OidcProvider};

/// What oidc-provider's own clients may ask for besides client credentials.
const OF_USERS: &[&str] = &[REFRESH_TOKEN, JWT_BEARER, TOKEN_EXCHANGE];
const EVERY: &[&str] = &[CLIENT_CREDENTIALS, REFRESH_TOKEN, JWT_BEARER, TOKEN_EXCHANGE];
/// The same at Authlib...
const PASSWORDS: &[&str] = &[REFRESH_TOKEN, PASSWORD_GRANT];
const CLIENTS_AND_PASSWORDS: &[&str] = &[CLIENT_CREDENTIALS, REFRESH_TOKEN, PASSWORD_GRANT];
/// ... and at fosite.
const BEARERS: &[&str] = &[REFRESH_TOKEN, PASSWORD_GRANT, JWT_BEARER];
const CLIENTS_AND_BEARERS: &[&str] = &[CLIENT_CREDENTIALS, REFRESH_TOKEN, PASSWORD_GRANT, JWT_BEARER];

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    row(OidcProvider, "client_secret_basic").works(EVERY),
    row(OidcProvider, "client_secret_basic").client("reserved", "reserved characters").works(&[CLIENT_CREDENTIALS]),
    row(OidcProvider, "client_secret_basic").with("resource = \"https://api.example\"\n", "`resource`").works(&[CLIENT_CREDENTIALS]),
    row(OidcProvider, "client_secret_basic").with("issuer = \"{issuer}\"\n", "`issuer`").works(&[CLIENT_CREDENTIALS]),
    row(OidcProvider, "client_secret_basic").client("dpop", "DPoP, nonces").with("dpop = true\n", "DPoP, nonces").works(&[CLIENT_CREDENTIALS, REFRESH_TOKEN]),
    row(OidcProvider, "client_secret_post").works(EVERY),
    row(OidcProvider, "client_secret_jwt").works(EVERY),
    row(OidcProvider, "private_key_jwt").client("private_key_jwt-RS256", "RS256").works(EVERY),
    row(OidcProvider, "private_key_jwt").client("private_key_jwt-PS256", "PS256").works(EVERY),
    row(OidcProvider, "private_key_jwt").client("private_key_jwt-ES256", "ES256").works(EVERY),
    row(OidcProvider, "private_key_jwt").client("private_key_jwt-EdDSA", "EdDSA").works(EVERY),
    row(OidcProvider, "tls_client_auth").works(EVERY),
    row(OidcProvider, "self_signed_tls_client_auth").works(EVERY),
    row(OidcProvider, "none").works(OF_USERS),
    row(Authlib, "client_secret_basic").works(CLIENTS_AND_PASSWORDS),
    row(Authlib, "client_secret_basic").with("issuer = \"{issuer}\"\n", "`issuer`").works(&[CLIENT_CREDENTIALS]),
    row(Authlib, "client_secret_post").works(CLIENTS_AND_PASSWORDS),
    row(Authlib, "client_secret_post").client("reserved", "reserved characters").works(&[CLIENT_CREDENTIALS]),
    row(Authlib, "client_secret_jwt").works(CLIENTS_AND_PASSWORDS),
    row(Authlib, "private_key_jwt").client("private_key_jwt-RS256", "RS256").works(CLIENTS_AND_PASSWORDS),
    row(Authlib, "private_key_jwt").client("private_key_jwt-ES256", "ES256").works(CLIENTS_AND_PASSWORDS),
    row(Authlib, "none").works(PASSWORDS),
    row(Authlib, "none").client(ISSUER, "the assertion's issuer").works(&[JWT_BEARER]),
    row(Fosite, "client_secret_basic").client("test-client", "its how-to's client").works(&[CLIENT_CREDENTIALS]),
    row(Fosite, "client_secret_post").client("test-client", "its how-to's client").works(&[CLIENT_CREDENTIALS]),
    row(Fosite, "client_secret_basic").works(CLIENTS_AND_BEARERS),
    row(Fosite, "client_secret_basic").client("reserved", "reserved characters").works(&[CLIENT_CREDENTIALS]),
    row(Fosite, "client_secret_post").works(CLIENTS_AND_BEARERS),
    row(Fosite, "private_key_jwt").client("private_key_jwt-RS256", "RS256").works(CLIENTS_AND_BEARERS),
    row(Fosite, "private_key_jwt").client("private_key_jwt-PS256", "PS256").works(CLIENTS_AND_BEARERS),
    row(Fosite, "private_key_jwt").client("private_key_jwt-ES256", "ES256").works(CLIENTS_AND_BEARERS),
    row(Fosite, "none").works(BEARERS),
    row(Couper, "client_secret_basic").client("my-client", "").works(&[CLIENT_CREDENTIALS]),
    row(Couper, "client_secret_post").client("my-client", "").works(&[CLIENT_CREDENTIALS]),
];

/// What servers refuse, and what they say then.
#[rustfmt::skip]
pub const REFUSALS: &[Refusal] = &[
    Refusal { of: row(OidcProvider, "client_secret_basic"), what: WRONG_SECRET, says: &["401 invalid_client", "client authentication failed"] },
    Refusal { of: row(OidcProvider, "client_secret_post"), what: WRONG_SECRET, says: &["401 invalid_client", "client authentication failed"] },
    Refusal { of: row(OidcProvider, "client_secret_basic"), what: FORBIDDEN_SCOPE, says: &["400 invalid_scope", "requested scope is not allowed"] },
    Refusal { of: row(OidcProvider, "client_secret_basic").with("resource = \"https://unknown.example\"\n", ""), what: "an unknown `resource`", says: &["400 invalid_target", "resource indicator is missing, or unknown"] },
    Refusal { of: row(Authlib, "client_secret_basic"), what: WRONG_SECRET, says: &["401 invalid_client", "The client cannot authenticate with methods"] },
    Refusal { of: row(Authlib, "client_secret_post"), what: WRONG_SECRET, says: &["401 invalid_client", "The client cannot authenticate with methods"] },
    Refusal { of: row(Authlib, "client_secret_basic"), what: FORBIDDEN_SCOPE, says: &["400 invalid_scope", "The requested scope is invalid, unknown, or malformed"] },
    Refusal { of: row(Fosite, "client_secret_basic"), what: WRONG_SECRET, says: &["401 invalid_client", "Client authentication failed"] },
    Refusal { of: row(Fosite, "client_secret_post"), what: WRONG_SECRET, says: &["401 invalid_client", "Client authentication failed"] },
    Refusal { of: row(Fosite, "client_secret_basic"), what: FORBIDDEN_SCOPE, says: &["400 invalid_scope", "not allowed to request scope 'nonsense'"] },
    // Couper answers with a page of HTML: there is nothing to say but the status.
    Refusal { of: row(Couper, "client_secret_basic").client("my-client", ""), what: WRONG_SECRET, says: &["401"] },
    Refusal { of: row(Couper, "client_secret_post").client("my-client", ""), what: WRONG_SECRET, says: &["401 invalid_client"] },
];

const WRONG_SECRET: &str = "a wrong secret";
const FORBIDDEN_SCOPE: &str = "a scope that it may not have";

/// A way to authenticate, with the grants that go with it.
#[derive(Clone, Copy)]
pub struct Row {
    pub server: Server,
    /// `token_endpoint_auth_method`.
    pub method: &'static str,
    /// `client_id`: like the method unless there is another client for it.
    pub client: &'static str,
    /// What is special about it.
    note: &'static str,
    /// What the profile has besides.
    toml: &'static str,
    /// The grants that work with it.
    pub works: &'static [&'static str],
}

const fn row(server: Server, method: &'static str) -> Row {
    Row { server, method, client: method, note: "", toml: "", works: &[] }
}

impl Row {
    const fn client(self, client: &'static str, note: &'static str) -> Self {
        Self { client, note, ..self }
    }

    const fn with(self, toml: &'static str, note: &'static str) -> Self {
        Self { toml, note, ..self }
    }

    const fn works(self, works: &'static [&'static str]) -> Self {
        Self { works, ..self }
    }

    /// Its first two cells.
    pub fn heading(&self) -> String {
        let note = if self.note.is_empty() { String::new() } else { format!(", {}", self.note) };
        format!("{} | `{}`{note}", self.server.name(), self.method)
    }

    /// The profile, without `ca_file`. Files are those of [`super::registrations::Registrations::write`].
    pub fn profile(&self, grant: &str, issuer: &str, token_endpoint: &str) -> String {
        let Self { client, method, .. } = self;
        let mut profile = format!(
            "[profiles.p]\nclient_id = \"{client}\"\ntoken_endpoint_auth_method = \"{method}\"\ngrant_type = \"{grant}\"\n"
        );
        profile += &self.toml.replace("{issuer}", issuer);
        if !self.toml.contains("issuer = ") {
            profile += &format!("token_endpoint = \"{token_endpoint}\"\n");
        }
        profile += &match self.method {
            "private_key_jwt" => {
                let algorithm = self.note;
                format!(
                    "private_key = {{ file = \"{algorithm}.pem\" }}\nkey_id = \"{algorithm}\"\n\
                     token_endpoint_auth_signing_alg = \"{algorithm}\"\n"
                )
            }
            "tls_client_auth" => client_certificate("signed"),
            "self_signed_tls_client_auth" => client_certificate("self-signed"),
            "none" => String::new(),
            _ => format!("client_secret = \"{}\"\n", self.secret()),
        };
        profile += &match grant {
            REFRESH_TOKEN => "refresh_token = { file = \"refresh_token\" }\n".to_owned(),
            PASSWORD_GRANT => format!("username = \"{USER}\"\npassword = \"{PASSWORD}\"\n"),
            JWT_BEARER => "assertion = { file = \"assertion\" }\n".to_owned(),
            TOKEN_EXCHANGE => "subject_token = { file = \"assertion\" }\n\
                 subject_token_type = \"urn:ietf:params:oauth:token-type:jwt\"\n"
                .to_owned(),
            _ => String::new(),
        };
        if self.has_scope() { profile + "scope = \"read\"\n" } else { profile }
    }

    /// The client's secret.
    fn secret(&self) -> &'static str {
        match self.client {
            "reserved" => RESERVED,
            "test-client" => "foobar",
            "my-client" => "my-client-secret",
            _ => SECRET,
        }
    }

    /// Whether the client may have a scope.
    pub fn has_scope(&self) -> bool {
        !["test-client", "my-client"].contains(&self.client)
    }
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            OidcProvider => "oidc-provider",
            Authlib => "Authlib",
            Fosite => "ory/fosite",
            Couper => "Couper",
        }
    }
}

fn client_certificate(name: &str) -> String {
    format!("client_certificate_file = \"{name}.crt\"\nclient_key_file = \"{name}.key\"\n")
}

/// A mistake in a profile that would work.
pub struct Refusal {
    pub of: Row,
    pub what: &'static str,
    /// What the server says, which the operator and the client are told.
    pub says: &'static [&'static str],
}

impl Refusal {
    /// The profile with the mistake.
    pub fn profile(&self, token_endpoint: &str) -> String {
        let profile = self.of.profile(CLIENT_CREDENTIALS, "", token_endpoint);
        match self.what {
            WRONG_SECRET => profile.replace(self.of.secret(), "canary-wrong-secret"),
            // oidc-provider leaves out in silence what it does not know itself.
            FORBIDDEN_SCOPE if self.of.server == OidcProvider => profile.replace("\"read\"", "\"write\""),
            FORBIDDEN_SCOPE => profile.replace("\"read\"", "\"nonsense\""),
            _ => profile,
        }
    }
}
