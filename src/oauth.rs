//! The client side of OAuth2: gets an access token from a token endpoint (RFC 6749, client credentials).
//!
//! `grant` says what is asked for, `authenticate` who asks, `response` and `error` what the answer means, `transport` why
//! there is none, `scrub` what of it may be shown. This file is the part with sockets.

pub mod authenticate;
pub mod error;
pub mod grant;
pub mod response;
pub mod scrub;
mod transport;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use self::{
    error::{Answer, Asked},
    scrub::Scrubber,
    transport::Transport,
};
use crate::{
    config::OAuth2,
    credential::{Credential, FetchError, FetchErrorKind, Fetched},
    tls::{self, TlsError},
};

/// Asks one profile's token endpoint. Built once a profile, so that its connection can be used again.
pub struct TokenClient {
    profile: Arc<str>,
    config: OAuth2,
    /// The endpoint as it may be shown.
    endpoint: String,
    http: reqwest::Client,
    /// Whether the pool may hold a connection: the last answer was read to its end.
    pooled: AtomicBool,
}

impl TokenClient {
    /// Prepares the client of `profile`. Names are resolved by `resolver`, or by the system where there is none.
    ///
    /// # Errors
    /// TLS cannot be set up: no trusted roots, a bad `ca_file`; or the HTTP client cannot.
    pub fn new(
        profile: &str,
        config: &OAuth2,
        resolver: Option<Arc<dyn reqwest::dns::Resolve>>,
    ) -> Result<Self, BuildError> {
        // A container without any root certificate is fine for an endpoint that needs none.
        let https = config.token_endpoint.scheme() == "https"
            || config.egress_proxy.as_ref().is_some_and(|proxy| proxy.scheme() == "https");
        let tls =
            if https { tls::client_config(config.ca_file.as_ref())? } else { tls::client_config_without_roots()? };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .user_agent(concat!("lanyard/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(connect_timeout(config.timeout))
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(1);
        if let Some(proxy) = &config.egress_proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy.clone())?);
        }
        if let Some(resolver) = resolver {
            builder = builder.dns_resolver(resolver);
        }
        Ok(Self {
            profile: profile.into(),
            config: config.clone(),
            endpoint: shown(&config.token_endpoint),
            http: builder.build()?,
            pooled: AtomicBool::new(false),
        })
    }

    async fn exchange(&self) -> Result<Fetched, FetchError> {
        let secret = self.config.client_secret.read().await.map_err(|e| FetchError {
            kind: FetchErrorKind::Secret,
            detail: format!("client_secret cannot be read: {e}"),
            hint: format!("check client_secret of profile {}", self.profile),
            retry_after: None,
        })?;
        let scrubber = Scrubber::new(&self.config, &secret);
        let parameters = grant::parameters(&self.config);
        let request = authenticate::token_request(&self.config, &parameters, &secret);

        let send = || {
            self.http
                .request(Method::POST, self.config.token_endpoint.clone())
                .headers(request.headers.clone())
                .body(request.body.expose().to_owned())
                .send()
        };
        let transport = Transport { profile: &self.profile, endpoint: &self.endpoint, config: &self.config };
        // A server may close an idle connection just as we write on it. That says nothing of the server, and asking for a
        // token twice does no harm, so then, and only then, the request is sent once more; the pool is empty by now.
        let reused = self.pooled.swap(false, Ordering::Relaxed);
        let answer = match send().await {
            Err(e) if reused && transport::is_closed(&e) => send().await,
            first => first,
        };
        let answer = answer.map_err(|e| transport.failed(&e))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = match self.read_body(answer, &transport).await {
            Ok(body) => {
                self.pooled.store(true, Ordering::Relaxed);
                body
            }
            // A refusal's status and Retry-After say enough.
            Err(_) if !status.is_success() => zeroize::Zeroizing::default(),
            Err(e) => return Err(e),
        };
        self.understand(status, &headers, &body, &scrubber)
    }

    async fn read_body(
        &self,
        mut answer: reqwest::Response,
        transport: &Transport<'_>,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, FetchError> {
        let mut body = zeroize::Zeroizing::new(Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(|e| transport.failed(&e))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(FetchError {
                    kind: FetchErrorKind::InvalidResponse,
                    detail: format!("token endpoint {} sent more than {MAX_BODY} bytes", self.endpoint),
                    hint: "no token response is so long: is token_endpoint right?".to_owned(),
                    retry_after: None,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn understand(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        scrubber: &Scrubber,
    ) -> Result<Fetched, FetchError> {
        let asked = Asked {
            profile: &self.profile,
            endpoint: &self.endpoint,
            config: &self.config,
            scrubber,
            now: SystemTime::now(),
        };
        response::read(Answer { status, headers, body }, &asked)
    }
}

#[async_trait]
impl Credential for TokenClient {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        match tokio::time::timeout(self.config.timeout, self.exchange()).await {
            Ok(result) => result,
            Err(_) => Err(FetchError {
                kind: FetchErrorKind::Timeout,
                detail: format!(
                    "token endpoint {} gave no whole answer within {:?}",
                    self.endpoint, self.config.timeout
                ),
                hint: format!("see why the server is slow, or raise `timeout` of profile {}", self.profile),
                retry_after: None,
            }),
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        self.config.client_secret.file().map(PathBuf::from).into_iter().collect()
    }
}

impl fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenClient")
            .field("profile", &self.profile)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Why a profile's client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client cannot.
    #[error("the HTTP client cannot be set up: {0}")]
    Http(String),
}

impl From<reqwest::Error> for BuildError {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(transport::cause(&error.without_url()))
    }
}

/// `url` as it may be shown: without userinfo, query and fragment.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails only for URLs that cannot have any.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return url.host_str().unwrap_or_default().to_owned();
    }
    url.into()
}

/// Half of `timeout`: what is left is for the answer, and a name's dead address leaves time for its next one.
fn connect_timeout(timeout: Duration) -> Duration {
    timeout / 2
}

/// The largest answer that is read, bytes.
const MAX_BODY: usize = 1024 * 1024;
/// How long a connection is kept for the next request. Most servers give up on theirs after 60 s or more.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(45);

#[cfg(test)]
pub(crate) mod tests;
