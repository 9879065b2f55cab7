//! The client side of OAuth2: gets an access token from a token endpoint (RFC 6749 and what extends it).
//!
//! `discovery` says where, `secrets` what the request is made from, `grant` what is asked for, `authenticate` who asks,
//! `response` and `error` what the answer means, `scrub` what of it may be shown; `refresh_token` follows rotation, `dpop`
//! binds tokens to a key. The request itself goes by [`provider`].

pub mod authenticate;
mod discovery;
mod dpop;
pub mod error;
pub mod grant;
mod refresh_token;
pub mod response;
pub mod scrub;
pub mod secrets;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use http::{HeaderMap, Method};
use url::Url;

use self::{
    discovery::Discovery,
    dpop::{Binding, DPOP},
    error::{Answer, Asked},
    refresh_token::Rotation,
    response::Granted,
    scrub::Scrubber,
    secrets::About,
};
use crate::{
    config::{Authentication, Grant, OAuth2},
    credential::{Credential, FetchError, FetchErrorKind, Fetched, Material, signing::secret},
    egress::{Proxy, connect::Dialer},
    jose::Prover,
    provider::{self, BuildError, Provider, Question, Reply, Settings, shown},
    secret::{Secret, SecretSource},
    tls::Identity,
};

/// Asks one profile's token endpoint. Built once a profile, so that its connection can be used again.
pub struct TokenClient {
    config: OAuth2,
    /// The endpoint, or the issuer, as it may be shown.
    place: String,
    dialer: Dialer,
    /// Built anew when the certificate that it shows is another.
    provider: Mutex<Arc<Provider>>,
    discovery: Discovery,
    rotation: Option<Rotation>,
    binding: Option<Binding>,
}

impl TokenClient {
    /// Prepares the client of `profile`.
    ///
    /// # Errors
    /// TLS cannot be set up: no trusted roots, a bad `ca_file`; or the HTTP client cannot.
    pub fn new(profile: &str, config: &OAuth2, dialer: &Dialer) -> Result<Self, BuildError> {
        let settings = settings(config);
        let provider = match Provider::new(profile, settings.clone(), dialer) {
            // What has no CA at all can still ask an issuer that speaks no TLS, and its token endpoint if that does not.
            Err(_) if config.endpoint.first().is_some_and(|url| url.scheme() == "http") => {
                Provider::new(profile, Settings { https: false, ..settings }, dialer)?
            }
            made => made?,
        };
        Ok(Self::with(config, provider, dialer))
    }

    fn with(config: &OAuth2, provider: Provider, dialer: &Dialer) -> Self {
        let rotation = match &config.grant {
            Grant::RefreshToken { state_file, .. } => Some(Rotation::new(state_file.clone())),
            _ => None,
        };
        Self {
            place: config.endpoint.first().map(shown).unwrap_or_default(),
            dialer: dialer.clone(),
            provider: Mutex::new(Arc::new(provider)),
            discovery: Discovery::default(),
            rotation,
            binding: config.dpop.as_ref().map(|_| Binding::new()),
            config: config.clone(),
        }
    }

    /// Gets a token; for the owner of `subject`, where the profile acts on behalf of its callers.
    ///
    /// # Errors
    /// Whatever keeps it from that.
    pub async fn fetch_for(&self, subject: Option<&Secret>) -> Result<Fetched, FetchError> {
        let provider = self.provider().await?;
        provider.in_time(&format!("token endpoint {}", self.place), self.exchange(&provider, subject)).await
    }

    /// The client that shows the certificate which is there now.
    async fn provider(&self) -> Result<Arc<Provider>, FetchError> {
        let current = Arc::clone(&self.provider.lock().unwrap_or_else(PoisonError::into_inner));
        let Authentication::Tls { certificate_file, key_file, .. } = &self.config.authentication else {
            return Ok(current);
        };
        let profile = current.profile();
        let read = |path: &PathBuf| SecretSource::File(path.clone());
        let certificate = secret(&read(certificate_file), "client_certificate_file", profile).await?;
        let key = secret(&read(key_file), "client_key_file", profile).await?;
        let unusable = |problem: String| FetchError {
            kind: FetchErrorKind::Secret,
            detail: format!("the client certificate of profile {profile} cannot be used: {problem}"),
            hint: "look at client_certificate_file and client_key_file; a renewal replaces both".to_owned(),
            retry_after: None,
        };
        let identity = Identity::parse(certificate.expose(), &key).map_err(|error| unusable(error.to_string()))?;
        if current.shows(&identity) {
            return Ok(current);
        }
        let settings = Settings { identity: Some(identity), ..settings(&self.config) };
        let next = Provider::new(profile, settings, &self.dialer).map_err(|error| unusable(error.to_string()))?;
        let next = Arc::new(next);
        *self.provider.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        Ok(next)
    }

    async fn exchange(&self, provider: &Provider, subject: Option<&Secret>) -> Result<Fetched, FetchError> {
        let found = self.discovery.find(&self.config.endpoint, provider).await?;
        let url = match (&self.config.authentication, found.mtls_token_endpoint) {
            (Authentication::Tls { .. }, Some(alias)) => alias,
            _ => found.token_endpoint,
        };
        let at = Server { url: &url, issuer: found.issuer.as_deref() };
        let latest = self.latest_refresh_token(provider.profile()).await?;
        let prover = match (&self.binding, &self.config.dpop) {
            (Some(binding), Some(dpop)) => Some((binding, binding.prover(dpop, provider.profile()).await?)),
            _ => None,
        };
        let instead = subject.or_else(|| latest.as_ref().map(|(_, token)| token));
        let first = self.ask(provider, at, instead, prover.as_ref()).await?;
        // RFC 9449 8: the server wants a nonce of its own in the proof. All else that is good for once is made anew too.
        let wants_nonce = first.reply.status.is_client_error()
            && prover.as_ref().is_some_and(|(binding, _)| binding.learn(&first.reply.headers, first.nonce.as_deref()));
        let asked = if wants_nonce { self.ask(provider, at, instead, prover.as_ref()).await? } else { first };
        if let Some((binding, _)) = &prover {
            binding.learn(&asked.reply.headers, None);
        }
        let mut granted = self.understand(provider.profile(), &url, &asked)?;
        if let (Some((configured, before)), Some(next)) = (&latest, granted.refresh_token.take())
            && *before != next
            && let Some(rotation) = &self.rotation
        {
            if let Err(problem) = rotation.replace(configured, next) {
                granted.warnings.push(problem);
            } else if !rotation.is_kept() {
                granted.warnings.push(KEPT_NOWHERE.to_owned());
            }
        }
        let lifetime = match subject {
            None => granted.lifetime,
            Some(subject) => outlives_nobody(granted.lifetime, subject),
        };
        let material = match prover {
            None => Material::Token(granted.token),
            Some((binding, prover)) => {
                Material::Signer(binding.signer(prover, &granted.token).map_err(|problem| illegal(&problem))?)
            }
        };
        let warning = (!granted.warnings.is_empty()).then(|| granted.warnings.join("; "));
        Ok(Fetched { material, lifetime, warning })
    }

    /// Sends one token request, with secrets read and signed for it alone.
    async fn ask(
        &self,
        provider: &Provider,
        Server { url, issuer }: Server<'_>,
        instead: Option<&Secret>,
        prover: Option<&(&Binding, Arc<Prover>)>,
    ) -> Result<Asking, FetchError> {
        let about = About {
            profile: provider.profile(),
            token_endpoint: url.as_str(),
            issuer,
            instead,
            now: SystemTime::now(),
        };
        let secrets = secrets::read(&self.config, about).await?;
        let parameters = grant::parameters(&self.config, &secrets);
        let request = authenticate::token_request(&self.config, &parameters, &secrets.proof);
        let mut headers: HeaderMap = request.headers;
        let mut nonce = None;
        if let Some((binding, prover)) = prover {
            let (proof, used) = binding.prove(prover, "POST", url)?;
            headers.insert(DPOP, proof);
            nonce = used;
        }
        let question = Question {
            what: "token endpoint",
            key: if self.config.endpoint.token_endpoint.is_some() { "token_endpoint" } else { "issuer" },
            method: Method::POST,
            url,
            headers,
            body: request.body,
        };
        let reply = provider.ask(question).await?;
        Ok(Asking { scrubber: Scrubber::new(&self.config, url, &secrets), reply, nonce })
    }

    fn understand(&self, profile: &str, url: &Url, asking: &Asking) -> Result<Granted, FetchError> {
        let Asking { reply, scrubber, .. } = asking;
        let endpoint = shown(url);
        let (config, now) = (&self.config, SystemTime::now());
        let asked = Asked { profile, endpoint: &endpoint, url, config, scrubber, now };
        response::read(Answer { status: reply.status, headers: &reply.headers, body: reply.body.bytes() }, &asked)
    }

    /// The configured refresh token and the latest that came from it.
    async fn latest_refresh_token(&self, profile: &str) -> Result<Option<(Secret, Secret)>, FetchError> {
        let (Some(rotation), Grant::RefreshToken { token, .. }) = (&self.rotation, &self.config.grant) else {
            return Ok(None);
        };
        let configured = Secret::new(secret(token, "refresh_token", profile).await?.expose().trim());
        let latest = rotation.current(&configured).map_err(|problem| FetchError {
            kind: FetchErrorKind::Secret,
            detail: format!("refresh_token_state_file of profile {profile}: {problem}"),
            hint: "let lanyard read and write it; if it is not lanyard's, remove it".to_owned(),
            retry_after: None,
        })?;
        Ok(Some((configured, latest)))
    }
}

/// Who is asked.
#[derive(Clone, Copy)]
struct Server<'a> {
    url: &'a Url,
    /// What it calls itself, where that is known.
    issuer: Option<&'a str>,
}

/// What an operator has to know before the next start.
const KEPT_NOWHERE: &str = "the server replaced the refresh token, and the new one is in memory alone: without \
                            refresh_token_state_file the next start (and lanyard doctor) presents the old one, which may end the login";

/// One token request and its answer.
struct Asking {
    reply: Reply,
    scrubber: Scrubber,
    /// The nonce in its proof.
    nonce: Option<String>,
}

/// A token that was got on behalf of somebody is used for as long as that one's own, at most (RFC 8693 5). What does not
/// tell how long it lives is taken for one that tells nothing: `default_token_lifetime` counts.
fn outlives_nobody(granted: Option<Duration>, subject: &Secret) -> Option<Duration> {
    match (granted, response::jwt_lifetime(subject.expose(), SystemTime::now())) {
        (Some(granted), Some(subject)) => Some(granted.min(subject)),
        (granted, None) => granted,
        (None, subject) => subject,
    }
}

fn illegal(problem: &str) -> FetchError {
    FetchError {
        kind: FetchErrorKind::InvalidResponse,
        detail: format!("the token endpoint sent {problem}"),
        hint: "this is a fault of the server: report it there".to_owned(),
        retry_after: None,
    }
}

#[async_trait]
impl Credential for TokenClient {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        self.fetch_for(None).await
    }

    fn files(&self) -> Vec<PathBuf> {
        // A new password of the proxy is worth a try too.
        let proxy = proxy(&self.config).and_then(|proxy| proxy.file());
        let secrets = self.config.secrets().into_iter().filter_map(SecretSource::file);
        secrets.chain(self.config.files()).chain(proxy).map(PathBuf::from).collect()
    }
}

impl fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenClient").field("endpoint", &self.place).finish_non_exhaustive()
    }
}

/// Exchanges the token of one subject.
#[derive(Debug)]
pub struct OnBehalf {
    /// The client that asks, shared by all subjects.
    pub client: Arc<TokenClient>,
    /// The subject's own token.
    pub subject: Secret,
}

#[async_trait]
impl Credential for OnBehalf {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        if response::jwt_lifetime(self.subject.expose(), SystemTime::now()).is_some_and(|left| left.is_zero()) {
            // The server would say the same, and nobody has to ask it.
            return Err(FetchError {
                kind: FetchErrorKind::InvalidGrant,
                detail: "the caller's own token has expired".to_owned(),
                hint: "send a fresh one".to_owned(),
                retry_after: None,
            });
        }
        self.client.fetch_for(Some(&self.subject)).await
    }
}

/// How the token endpoint is reached.
fn settings(config: &OAuth2) -> Settings {
    Settings {
        // Whatever scheme the issuer has, metadata may name an endpoint with another.
        https: config.endpoint.token_endpoint.as_ref().is_none_or(|url| url.scheme() == "https"),
        ca_file: config.ca_file.clone(),
        timeout: config.timeout,
        egress_proxy: Arc::clone(&config.egress_proxy),
        identity: None,
    }
}

/// The proxy on the way to the token endpoint.
pub(crate) fn proxy(config: &OAuth2) -> Option<&Arc<Proxy>> {
    provider::proxy(&config.egress_proxy, config.endpoint.first()?)
}

#[cfg(test)]
pub(crate) mod tests;
