//! The embedded authorization server, for demo, development and tests. It keeps everything in memory and signs with
//! keys made at start: never for production.
//!
//! Each of these also stands under a tenant's prefix, `/api/v1/tenant/{tenant}`:
//! * `POST /oauth/token` (also `/token`, `/auth/token`): client credentials (RFC 6749 4.4), form or JSON body.
//! * `POST /oauth/introspect` (RFC 7662) and `POST /oauth/revoke` (RFC 7009), for clients.
//! * `GET /.well-known/jwks.json` (RFC 7517), `/.well-known/oauth-authorization-server` (RFC 8414) and
//!   `/.well-known/openid-configuration`.
//!
//! `GET /api/v1/tenant/{tenant}/strategies` says what a tenant has.

mod client_auth;
mod error;
mod inspect;
mod keys;
mod metadata;
mod resource;
mod token;

use std::{
    collections::{HashMap, HashSet},
    str::FromStr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};

use self::keys::Keys;
use crate::secret::Secret;

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its URL: the claim `iss`, and the base of the metadata.
    pub issuer: String,
    /// How access tokens are made.
    pub algorithm: Algorithm,
    /// How long they live.
    pub lifetime: Duration,
    /// Whether the response has `expires_in`.
    pub send_expires_in: bool,
    /// Who may ask.
    pub clients: Vec<Client>,
    /// The claim `aud` where the request names none.
    pub default_audience: Option<String>,
}

/// A client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// `client_secret`.
    pub secret: Secret,
    /// The scopes it may have.
    pub scopes: Vec<String>,
    /// The audiences it may name; none: any.
    pub audiences: Vec<String>,
}

/// How access tokens are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// A JWT signed with RSA.
    Rs256,
    /// A JWT signed with ECDSA on P-256.
    Es256,
    /// A JWT with an HMAC, which only this process can verify.
    Hs256,
    /// Random bytes: only introspection tells what they are.
    Opaque,
}

/// A server.
#[derive(Debug)]
pub struct Issuer {
    settings: Settings,
    keys: Keys,
    requests: AtomicU64,
    issued: Mutex<Issued>,
}

/// What was given out.
#[derive(Debug, Default)]
struct Issued {
    opaque: HashMap<String, Claims>,
    revoked: HashSet<String>,
}

/// What a token says (RFC 9068).
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<String>,
    exp: u64,
    iat: u64,
    jti: String,
    #[serde(default)]
    scope: String,
    client_id: String,
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Invalid {
    Malformed,
    Expired,
    Revoked,
}

/// The keys cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the issuer's keys cannot be made: {0}")]
pub struct IssuerError(String);

impl Settings {
    /// One client, `demo` with the secret `demo-secret` and the scopes `api:read` and `api:write`; RS256; an hour.
    pub fn development(issuer: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            algorithm: Algorithm::Rs256,
            lifetime: Duration::from_secs(3600),
            send_expires_in: true,
            clients: vec![Client {
                id: "demo".to_owned(),
                secret: Secret::new("demo-secret"),
                scopes: vec!["api:read".to_owned(), "api:write".to_owned()],
                audiences: Vec::new(),
            }],
            default_audience: None,
        }
    }
}

impl Issuer {
    /// Makes the keys.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn new(settings: Settings) -> Result<Self, IssuerError> {
        let keys = Keys::generate(settings.algorithm)?;
        Ok(Self { settings, keys, requests: AtomicU64::new(0), issued: Mutex::default() })
    }

    /// Its endpoints.
    pub fn router(self: &Arc<Self>) -> Router {
        let endpoints = Router::new()
            .route("/oauth/token", post(token::grant))
            .route("/token", post(token::grant))
            .route("/auth/token", post(token::grant))
            .route("/oauth/introspect", post(inspect::introspect))
            .route("/oauth/revoke", post(inspect::revoke))
            .route("/.well-known/jwks.json", get(metadata::jwks))
            .route("/.well-known/oauth-authorization-server", get(metadata::server))
            .route("/.well-known/openid-configuration", get(metadata::server));
        Router::new()
            .merge(endpoints.clone())
            .nest("/api/v1/tenant/{tenant}", endpoints.route("/strategies", get(metadata::strategies)))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::clone(self))
    }

    /// An API that wants a token of this server, with this scope and audience: any method, any path. Answers 401 and
    /// 403 as RFC 6750 has it.
    pub fn protected_api(self: &Arc<Self>, scope: Option<&str>, audience: Option<&str>) -> Router {
        let wants = resource::Wants {
            scope: scope.map(str::to_owned),
            audience: audience.map(str::to_owned),
            issuer: Arc::clone(self),
        };
        Router::new().fallback(resource::serve).with_state(Arc::new(wants))
    }

    /// How many token requests there were, good and bad.
    pub fn token_requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What a token says, if it is good now.
    fn verify(&self, token: &str) -> Result<Claims, Invalid> {
        let claims = match self.issued().opaque.get(token) {
            Some(claims) => claims.clone(),
            None => self.keys.verify(token, &self.settings.issuer).ok_or(Invalid::Malformed)?,
        };
        if claims.exp <= unix_now() {
            return Err(Invalid::Expired);
        }
        if self.issued().revoked.contains(&claims.jti) {
            return Err(Invalid::Revoked);
        }
        Ok(claims)
    }

    fn issued(&self) -> MutexGuard<'_, Issued> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FromStr for Algorithm {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "rs256" => Ok(Self::Rs256),
            "es256" => Ok(Self::Es256),
            "hs256" => Ok(Self::Hs256),
            "opaque" => Ok(Self::Opaque),
            _ => Err("write RS256, ES256, HS256 or opaque".to_owned()),
        }
    }
}

impl FromStr for Client {
    type Err = String;
    /// `ID:SECRET[:SCOPE,SCOPE]`. The error never shows the text, for it holds a secret.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(id), Some(secret), scopes) if !id.is_empty() && !secret.is_empty() => Ok(Self {
                id: id.to_owned(),
                secret: Secret::new(secret),
                scopes: scopes
                    .unwrap_or_default()
                    .split([',', ' '])
                    .filter(|s| !s.is_empty())
                    .map(str::to_owned)
                    .collect(),
                audiences: Vec::new(),
            }),
            _ => Err("write ID:SECRET or ID:SECRET:SCOPE,SCOPE".to_owned()),
        }
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

/// Of a request, bytes.
const MAX_BODY: usize = 64 * 1024;

#[cfg(test)]
mod tests;
