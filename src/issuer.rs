//! The embedded authorization server, for demo, development and tests; not for production: it keeps all it knows in
//! memory.
//!
//! | endpoint | does |
//! |---|---|
//! | `POST /oauth/token`, `/auth/token`, `/token` | issues access tokens (RFC 6749): `token.rs` |
//! | `POST /oauth/introspect`, `/oauth/revoke` | RFC 7662 and RFC 7009: `introspect.rs` |
//! | `GET /.well-known/jwks.json`, `/.well-known/oauth-authorization-server`, `/.well-known/openid-configuration` | keys and metadata (RFC 8414): `metadata.rs` |
//! | the same under `/api/v1/tenant/{tenant}`, and `GET .../strategies` | any tenant name; it becomes part of `iss` |
//!
//! | at these | it knows |
//! |---|---|
//! | client authentication | `client_secret_basic`, `client_secret_post` (also in JSON), `client_secret_jwt`, `private_key_jwt`, a trusted issuer's JWT (RFC 7523), `tls_client_auth`, `self_signed_tls_client_auth` (RFC 8705), `none`: `client_auth.rs`, `certificate_auth.rs` |
//! | grants | `client_credentials`, `refresh_token`, `password`, JWT bearer (RFC 7523), token exchange (RFC 8693): `grant.rs` |
//! | binding | `cnf` with `x5t#S256` (RFC 8705) or `jkt` (DPoP, RFC 9449): `dpop.rs` |
//!
//! Clients are made from [`Settings`], or read from a file ([`Registrations`]). HTTPS is [`tls`]; the protected API that
//! accepts the tokens is [`resource`].

mod assertion;
mod certificate_auth;
mod claims;
mod client;
mod client_auth;
mod dpop;
mod error;
mod grant;
mod incoming;
mod introspect;
mod jwk;
mod jws;
mod keys;
mod ledger;
mod metadata;
mod parameters;
pub mod resource;
mod settings;
mod tenant;
pub mod tls;
mod token;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    http::Uri,
    routing::{get, post},
};

use self::{
    assertion::Used, certificate_auth::ClientCa, client_auth::Clients, dpop::Nonces, error::OAuthError, keys::Keys,
    ledger::Ledger, tenant::Tenant,
};
pub use self::{
    client::{
        AuthMethod, CertificateName, Client, ClientFormatError, ClientProblem, GrantType, User,
        file::{RegistrationError, Registrations},
    },
    dpop::NoncePolicy,
    jwk::{KeyProblem, KeySet},
    settings::{Algorithm, IssuerError, Settings, Transport, TrustedIssuer, UnknownAlgorithm},
};

/// Tells the time of day, which is what `iat` and `exp` are made of; tests set their own.
pub type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// An authorization server: its keys, its clients, and what it has issued.
pub struct Issuer {
    /// The issuer identifier, exactly as in `iss` of tokens that belong to no tenant.
    identifier: String,
    transport: Transport,
    clients: Clients,
    trusted_issuers: Vec<TrustedIssuer>,
    client_ca: ClientCa,
    keys: Keys,
    /// The assertions that may not be used again.
    used: Used,
    /// The same of DPoP proofs, which anybody can make: they must not crowd out the others.
    used_proofs: Used,
    /// How nonces are made, here and at the protected API, which has its own.
    nonce_policy: Option<NoncePolicy>,
    nonces: Option<Nonces>,
    ledger: Mutex<Ledger>,
    lifetime: Duration,
    send_expires_in: bool,
    send_refresh_token: bool,
    default_audience: Option<String>,
    clock: WallClock,
    token_requests: AtomicU64,
    tokens_issued: AtomicU64,
}

impl Issuer {
    /// Makes the server that listens at `address`. Generates its key, which takes about a second for RS256: in an
    /// asynchronous program, call it where blocking is allowed.
    ///
    /// # Errors
    /// The settings contradict each other or name nothing usable; the key cannot be generated.
    pub fn new(settings: Settings, address: SocketAddr) -> Result<Self, IssuerError> {
        Self::with_clock(settings, address, Arc::new(SystemTime::now))
    }

    /// Like [`Issuer::new`], with a clock of the caller's: a test can let tokens expire without waiting.
    ///
    /// # Errors
    /// As for [`Issuer::new`].
    pub fn with_clock(settings: Settings, address: SocketAddr, clock: WallClock) -> Result<Self, IssuerError> {
        settings.check()?;
        let scheme = if settings.transport == Transport::Tls { "https" } else { "http" };
        Ok(Self {
            identifier: settings.issuer.unwrap_or_else(|| format!("{scheme}://{}", reachable(address))),
            transport: settings.transport,
            client_ca: ClientCa::new(&settings.client_ca)?,
            clients: Clients::new(settings.clients),
            trusted_issuers: settings.trusted_issuers,
            used: Used::default(),
            used_proofs: Used::default(),
            nonce_policy: settings.dpop_nonce,
            nonces: settings.dpop_nonce.map(Nonces::new),
            keys: Keys::new(settings.algorithm, settings.hs256_key.as_ref())?,
            ledger: Mutex::default(),
            lifetime: settings.lifetime,
            send_expires_in: settings.send_expires_in,
            send_refresh_token: settings.send_refresh_token,
            default_audience: settings.default_audience,
            clock,
            token_requests: AtomicU64::new(0),
            tokens_issued: AtomicU64::new(0),
        })
    }

    /// All endpoints of the server.
    pub fn router(self: &Arc<Self>) -> Router {
        let endpoints = || {
            Router::new()
                .route("/oauth/token", post(token::token))
                .route("/oauth/introspect", post(introspect::introspect))
                .route("/oauth/revoke", post(introspect::revoke))
                .route("/.well-known/jwks.json", get(metadata::jwks))
                .route("/.well-known/oauth-authorization-server", get(metadata::oauth))
                .route("/.well-known/openid-configuration", get(metadata::openid))
        };
        Router::new()
            .merge(endpoints())
            .route("/token", post(token::token))
            .route("/auth/token", post(token::token))
            .nest("/api/v1/tenant/{tenant}", endpoints().route("/strategies", get(metadata::strategies)))
            // RFC 8414 section 3.1: the well-known part goes in front of the issuer's path.
            .route("/.well-known/oauth-authorization-server/api/v1/tenant/{tenant}", get(metadata::oauth))
            .route("/.well-known/openid-configuration/api/v1/tenant/{tenant}", get(metadata::openid))
            .method_not_allowed_fallback(async || OAuthError::method_not_allowed())
            .fallback(async |uri: Uri| OAuthError::no_such_endpoint(uri.path()))
            .with_state(Arc::clone(self))
    }

    /// A protected API for tokens of this server that asks the same of every method: this scope, this audience.
    /// [`resource::router`] can ask for more.
    pub fn protected_api(self: &Arc<Self>, required_scope: Option<&str>, audience: Option<&str>) -> Router {
        let scope = required_scope.map(str::to_owned);
        let requirements = resource::Requirements {
            audience: audience.map(str::to_owned),
            read_scope: scope.clone(),
            write_scope: scope,
            url: None,
        };
        resource::router(Arc::clone(self), requirements)
    }

    /// The issuer identifier: the base URL of the endpoints, and `iss` of tokens that belong to no tenant.
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// How many requests have come to the token endpoint, whatever became of them.
    pub fn token_requests(&self) -> u64 {
        self.token_requests.load(Ordering::Relaxed)
    }

    /// How many access tokens have been issued.
    pub fn tokens_issued(&self) -> u64 {
        self.tokens_issued.load(Ordering::Relaxed)
    }

    /// `iss` of the tokens of `tenant`, and the base URL of its endpoints.
    fn identifier_of(&self, tenant: &Tenant) -> String {
        match tenant.name() {
            None => self.identifier.clone(),
            Some(name) => format!("{}{}{name}", self.base(), tenant::PREFIX),
        }
    }

    /// What stands before the path in URLs of the endpoints of `tenant`: the identifier, and the base of those for clients
    /// with certificates, if that is another.
    fn bases_of(&self, tenant: &Tenant) -> Vec<String> {
        let identifier = self.identifier_of(tenant);
        let mut bases = vec![identifier.trim_end_matches('/').to_owned()];
        bases.extend(self.alias_of(tenant));
        bases
    }

    /// The base of the endpoints for clients with certificates, if they have URLs of their own.
    fn alias_of(&self, tenant: &Tenant) -> Option<String> {
        let Transport::Both(address) = self.transport else { return None };
        let base = format!("https://{}", reachable(address));
        Some(tenant.name().map_or_else(|| base.clone(), |name| format!("{base}{}{name}", tenant::PREFIX)))
    }

    fn has_tls(&self) -> bool {
        self.transport != Transport::Plain
    }

    /// The identifier without a slash at its end, to put a path behind.
    fn base(&self) -> &str {
        self.identifier.trim_end_matches('/')
    }

    /// Seconds since 1970.
    fn now(&self) -> u64 {
        (self.clock)().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves `router` on `listener` until `shutdown`, then finishes the requests that are under way.
///
/// # Errors
/// The listener fails for good.
pub async fn serve(
    listener: tokio::net::TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

/// The address as a client on this machine would write it: one that means "all interfaces" cannot be dialled everywhere.
fn reachable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { format!("localhost:{}", address.port()) } else { address.to_string() }
}

#[cfg(test)]
mod tests;
