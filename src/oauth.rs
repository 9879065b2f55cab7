//! The client side of OAuth2: gets an access token from a token endpoint (RFC 6749, client credentials).
//!
//! `grant` says what is asked for, `authenticate` who asks, `response` and `error` what the answer means, `transport` why
//! there is none, `scrub` what of it may be shown, `tunnelled` goes through an egress proxy. This file is the rest of the
//! part with sockets.

pub mod authenticate;
pub mod error;
pub mod grant;
pub mod response;
pub mod scrub;
mod transport;
mod tunnelled;

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
    authenticate::TokenRequest,
    error::{Answer, Asked},
    scrub::Scrubber,
    transport::Transport,
    tunnelled::{Tunnelled, Whole},
};
use crate::{
    config::{OAuth2, Scheme},
    credential::{Credential, FetchError, FetchErrorKind, Fetched},
    egress::{Proxy, connect::Dialer},
    tls::{self, TlsError},
};

/// Asks one profile's token endpoint. Built once a profile, so that its connection can be used again.
pub struct TokenClient {
    profile: Arc<str>,
    config: OAuth2,
    /// The endpoint as it may be shown.
    endpoint: String,
    way: Way,
    /// Whether the pool may hold a connection: the last answer was read to its end.
    pooled: AtomicBool,
}

/// How the endpoint is reached.
enum Way {
    Directly(reqwest::Client),
    Through(Tunnelled),
}

impl TokenClient {
    /// Prepares the client of `profile`.
    ///
    /// # Errors
    /// TLS cannot be set up: no trusted roots, a bad `ca_file`; or the HTTP client cannot.
    pub fn new(profile: &str, config: &OAuth2, dialer: &Dialer) -> Result<Self, BuildError> {
        Self::with_resolver(profile, config, dialer, Arc::new(dialer.resolver.clone()))
    }

    fn with_resolver(
        profile: &str,
        config: &OAuth2,
        dialer: &Dialer,
        resolver: Arc<dyn reqwest::dns::Resolve>,
    ) -> Result<Self, BuildError> {
        // A container without any root certificate is fine for an endpoint that needs none.
        let https = config.token_endpoint.scheme() == "https";
        let tls =
            if https { tls::client_config(config.ca_file.as_ref())? } else { tls::client_config_without_roots()? };
        let connect_timeout = connect_timeout(config.timeout);
        let way = match proxy(config) {
            Some(proxy) => Way::Through(Tunnelled {
                dialer: dialer.clone(),
                proxy: Arc::clone(proxy),
                tls: Arc::new(tls),
                connect_timeout,
            }),
            None => Way::Directly(
                reqwest::Client::builder()
                    .tls_backend_preconfigured(tls)
                    .http1_only()
                    .user_agent(USER_AGENT)
                    .redirect(reqwest::redirect::Policy::none())
                    .referer(false)
                    .retry(reqwest::retry::never())
                    .no_proxy()
                    .connect_timeout(connect_timeout)
                    .pool_idle_timeout(POOL_IDLE_TIMEOUT)
                    .pool_max_idle_per_host(1)
                    .dns_resolver(resolver)
                    .build()?,
            ),
        };
        Ok(Self {
            profile: profile.into(),
            config: config.clone(),
            endpoint: shown(&config.token_endpoint),
            way,
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

        let transport = Transport { profile: &self.profile, endpoint: &self.endpoint, config: &self.config };
        let (status, headers, body) = match &self.way {
            Way::Directly(http) => self.ask(http, &request, &transport).await?,
            Way::Through(tunnelled) => tunnelled.ask(&self.config.token_endpoint, &request, &transport).await?,
        };
        let body = match body {
            Ok(body) => body,
            // A refusal's status and Retry-After say enough.
            Err(_) if !status.is_success() => zeroize::Zeroizing::default(),
            Err(e) => return Err(e),
        };
        self.understand(status, &headers, &body, &scrubber)
    }

    async fn ask(
        &self,
        http: &reqwest::Client,
        request: &TokenRequest,
        transport: &Transport<'_>,
    ) -> Result<Whole, FetchError> {
        let send = || {
            http.request(Method::POST, self.config.token_endpoint.clone())
                .headers(request.headers.clone())
                .body(request.body.expose().to_owned())
                .send()
        };
        // A server may close an idle connection just as we write on it. That says nothing of the server, and asking for a
        // token twice does no harm, so then, and only then, the request is sent once more; the pool is empty by now.
        let reused = self.pooled.swap(false, Ordering::Relaxed);
        let answer = match send().await {
            Err(e) if reused && transport::is_closed(&e) => send().await,
            first => first,
        };
        let answer = answer.map_err(|e| transport.failed(&e))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = self.read_body(answer, transport).await;
        self.pooled.store(body.is_ok(), Ordering::Relaxed);
        Ok((status, headers, body))
    }

    async fn read_body(
        &self,
        mut answer: reqwest::Response,
        transport: &Transport<'_>,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, FetchError> {
        let mut body = zeroize::Zeroizing::new(Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(|e| transport.failed(&e))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(too_long(&self.endpoint));
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
        // A new password of the proxy is worth a try too.
        let proxy = proxy(&self.config).and_then(|proxy| proxy.file());
        self.config.client_secret.file().into_iter().chain(proxy).map(PathBuf::from).collect()
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

/// The proxy on the way to the token endpoint.
pub(crate) fn proxy(config: &OAuth2) -> Option<&Arc<Proxy>> {
    let scheme = if config.token_endpoint.scheme() == "http" { Scheme::Http } else { Scheme::Https };
    let host = config.token_endpoint.host_str().unwrap_or_default();
    config.egress_proxy.through(scheme, host.trim_matches(['[', ']']))
}

fn too_long(endpoint: &str) -> FetchError {
    FetchError {
        kind: FetchErrorKind::InvalidResponse,
        detail: format!("token endpoint {endpoint} sent more than {MAX_BODY} bytes"),
        hint: "no token response is so long: is token_endpoint right?".to_owned(),
        retry_after: None,
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

const USER_AGENT: &str = concat!("lanyard/", env!("CARGO_PKG_VERSION"));
/// The largest answer that is read, bytes.
const MAX_BODY: usize = 1024 * 1024;
/// How long a connection is kept for the next request. Most servers give up on theirs after 60 s or more.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(45);

#[cfg(test)]
pub(crate) mod tests;
