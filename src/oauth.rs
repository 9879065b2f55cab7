//! The client side of OAuth2: gets an access token from a token endpoint (RFC 6749, client credentials).
//!
//! `grant` says what is asked for, `authenticate` who asks, `response` and `error` what the answer means, `scrub` what of
//! it may be shown. The request itself goes by [`provider`](crate::provider).

pub mod authenticate;
pub mod error;
pub mod grant;
pub mod response;
pub mod scrub;

use std::{fmt, path::PathBuf, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use http::Method;

use self::{
    error::{Answer, Asked},
    scrub::Scrubber,
};
use crate::{
    config::OAuth2,
    credential::{Credential, FetchError, FetchErrorKind, Fetched},
    egress::{Proxy, connect::Dialer},
    provider::{self, BuildError, Provider, Question, Settings, shown},
};

/// Asks one profile's token endpoint. Built once a profile, so that its connection can be used again.
pub struct TokenClient {
    config: OAuth2,
    /// The endpoint as it may be shown.
    endpoint: String,
    provider: Provider,
}

impl TokenClient {
    /// Prepares the client of `profile`.
    ///
    /// # Errors
    /// TLS cannot be set up: no trusted roots, a bad `ca_file`; or the HTTP client cannot.
    pub fn new(profile: &str, config: &OAuth2, dialer: &Dialer) -> Result<Self, BuildError> {
        Ok(Self::with(config, Provider::new(profile, settings(config), dialer)?))
    }

    fn with(config: &OAuth2, provider: Provider) -> Self {
        Self { config: config.clone(), endpoint: shown(&config.token_endpoint), provider }
    }

    async fn exchange(&self) -> Result<Fetched, FetchError> {
        let profile = self.provider.profile();
        let secret = self.config.client_secret.read().await.map_err(|e| FetchError {
            kind: FetchErrorKind::Secret,
            detail: format!("client_secret cannot be read: {e}"),
            hint: format!("check client_secret of profile {profile}"),
            retry_after: None,
        })?;
        let scrubber = Scrubber::new(&self.config, &secret);
        let parameters = grant::parameters(&self.config);
        let request = authenticate::token_request(&self.config, &parameters, &secret);
        let question = Question {
            what: "token endpoint",
            key: "token_endpoint",
            method: Method::POST,
            url: &self.config.token_endpoint,
            headers: request.headers,
            body: request.body,
        };
        let reply = self.provider.ask(question).await?;
        let asked = Asked {
            profile,
            endpoint: &self.endpoint,
            config: &self.config,
            scrubber: &scrubber,
            now: SystemTime::now(),
        };
        response::read(Answer { status: reply.status, headers: &reply.headers, body: reply.body.bytes() }, &asked)
    }
}

#[async_trait]
impl Credential for TokenClient {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        self.provider.in_time(&format!("token endpoint {}", self.endpoint), self.exchange()).await
    }

    fn files(&self) -> Vec<PathBuf> {
        // A new password of the proxy is worth a try too.
        let proxy = proxy(&self.config).and_then(|proxy| proxy.file());
        self.config.client_secret.file().into_iter().chain(proxy).map(PathBuf::from).collect()
    }
}

impl fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenClient")
            .field("profile", &self.provider.profile())
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// How the token endpoint is reached.
fn settings(config: &OAuth2) -> Settings {
    Settings {
        https: config.token_endpoint.scheme() == "https",
        ca_file: config.ca_file.clone(),
        timeout: config.timeout,
        egress_proxy: Arc::clone(&config.egress_proxy),
        identity: None,
    }
}

/// The proxy on the way to the token endpoint.
pub(crate) fn proxy(config: &OAuth2) -> Option<&Arc<Proxy>> {
    provider::proxy(&config.egress_proxy, &config.token_endpoint)
}

#[cfg(test)]
pub(crate) mod tests;
