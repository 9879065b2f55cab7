//! One HTTP request to a provider of credentials: a token endpoint, its metadata, a cloud's metadata server.
//!
//! No redirect is followed, everything has a limit, and a failure says what to do about it. `told` says why there is no
//! answer, `tunnelled` goes through an egress proxy.

mod told;
mod tunnelled;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Method, StatusCode};
use rustls::ClientConfig;
use url::Url;
use zeroize::Zeroizing;

use self::tunnelled::Tunnelled;
use crate::{
    config::{CaBundle, Scheme},
    credential::{FetchError, FetchErrorKind},
    egress::{Egress, Proxy, connect::Dialer},
    secret::Secret,
    tls::{self, Identity, TlsError},
};

/// Asks the provider of one profile. Built once, so that its connection can be used again.
pub struct Provider {
    profile: Arc<str>,
    settings: Settings,
    direct: reqwest::Client,
    dialer: Dialer,
    tls: Arc<ClientConfig>,
    /// Whether the pool may hold a connection: the last answer was read to its end.
    pooled: AtomicBool,
}

/// How a provider is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether it may speak TLS: a container without any root certificate is fine for one that does not.
    pub https: bool,
    /// `ca_file`: trusted besides the system's roots.
    pub ca_file: Option<CaBundle>,
    /// `timeout` of a whole fetch; half of it is for a connection.
    pub timeout: Duration,
    /// `egress_proxy`.
    pub egress_proxy: Arc<Egress>,
    /// The certificate that we show (RFC 8705).
    pub identity: Option<Identity>,
}

/// One question.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// What is asked, for people: "token endpoint".
    pub what: &'static str,
    /// The key of the profile that says where it is: `token_endpoint`.
    pub key: &'static str,
    /// Its method.
    pub method: Method,
    /// Where it goes.
    pub url: &'a Url,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Secret,
}

/// One answer, of any status.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body; empty where that of a refusal did not arrive, whose status says enough.
    pub body: Body,
}

/// A body, which may hold a token: its `Debug` shows its length alone.
pub struct Body(Zeroizing<Vec<u8>>);

impl Body {
    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Status, header fields and what came of the body.
type Whole = (StatusCode, HeaderMap, Result<Zeroizing<Vec<u8>>, FetchError>);

impl Provider {
    /// Prepares the client of `profile`.
    ///
    /// # Errors
    /// TLS cannot be set up: no trusted roots, a bad `ca_file`; or the HTTP client cannot.
    pub fn new(profile: &str, settings: Settings, dialer: &Dialer) -> Result<Self, BuildError> {
        Self::with_resolver(profile, settings, dialer, Arc::new(dialer.resolver.clone()))
    }

    /// The same, with names looked up elsewhere.
    ///
    /// # Errors
    /// As [`Provider::new`].
    pub fn with_resolver(
        profile: &str,
        settings: Settings,
        dialer: &Dialer,
        resolver: Arc<dyn reqwest::dns::Resolve>,
    ) -> Result<Self, BuildError> {
        let mut tls = if settings.https {
            tls::client_config(settings.ca_file.as_ref())?
        } else {
            tls::client_config_without_roots()?
        };
        if let Some(identity) = &settings.identity {
            tls.client_auth_cert_resolver = identity.resolver();
        }
        let direct = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .http1_only()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(connect_timeout(settings.timeout))
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(1)
            .dns_resolver(resolver)
            .build()?;
        Ok(Self {
            profile: profile.into(),
            settings,
            direct,
            dialer: dialer.clone(),
            tls: Arc::new(tls),
            pooled: AtomicBool::new(false),
        })
    }

    /// The profile's name.
    pub fn profile(&self) -> &str {
        &self.profile
    }

    /// Whether this is the certificate that it shows.
    pub fn shows(&self, identity: &Identity) -> bool {
        self.settings.identity.as_ref() == Some(identity)
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// There is no answer, or only a part of a success.
    pub async fn ask(&self, question: Question<'_>) -> Result<Reply, FetchError> {
        let (status, headers, body) = match proxy(&self.settings.egress_proxy, question.url) {
            None => self.directly(&question).await?,
            Some(proxy) => {
                let tunnelled = Tunnelled {
                    dialer: &self.dialer,
                    proxy,
                    tls: &self.tls,
                    connect_timeout: connect_timeout(self.settings.timeout),
                };
                tunnelled.ask(self, &question).await?
            }
        };
        let body = match body {
            Ok(body) => body,
            // A refusal's status and Retry-After say enough.
            Err(_) if !status.is_success() => Zeroizing::default(),
            Err(error) => return Err(error),
        };
        Ok(Reply { status, headers, body: Body(body) })
    }

    /// Does the whole of a fetch within `timeout`. `what` and `url`: what is to be named where it takes longer.
    ///
    /// # Errors
    /// Those of the fetch, or that it took too long.
    pub async fn in_time<T>(
        &self,
        what: &str,
        fetch: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        let limit = self.settings.timeout;
        match tokio::time::timeout(limit, fetch).await {
            Ok(result) => result,
            Err(_) => Err(FetchError {
                kind: FetchErrorKind::Timeout,
                detail: format!("{what} gave no whole answer within {limit:?}"),
                hint: format!("see why the server is slow, or raise `timeout` of profile {}", self.profile),
                retry_after: None,
            }),
        }
    }

    async fn directly(&self, question: &Question<'_>) -> Result<Whole, FetchError> {
        let send = || {
            let request = self.direct.request(question.method.clone(), question.url.clone());
            let request = request.headers(question.headers.clone());
            let body = question.body.expose();
            if body.is_empty() { request } else { request.body(body.to_owned()) }.send()
        };
        // A server may close an idle connection just as we write on it. That says nothing of the server, and asking for a
        // token twice does no harm, so then, and only then, the request is sent once more; the pool is empty by now.
        let reused = self.pooled.swap(false, Ordering::Relaxed);
        let answer = match send().await {
            Err(e) if reused && told::is_closed(&e) => send().await,
            first => first,
        };
        let answer = answer.map_err(|e| self.failed(question, &e))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = self.read_body(answer, question).await;
        self.pooled.store(body.is_ok(), Ordering::Relaxed);
        Ok((status, headers, body))
    }

    async fn read_body(
        &self,
        mut answer: reqwest::Response,
        question: &Question<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, FetchError> {
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.failed(question, &e))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(too_long(question));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("profile", &self.profile).field("settings", &self.settings).finish()
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
        Self::Http(told::cause(&error.without_url()))
    }
}

/// The proxy on the way to a URL.
pub fn proxy<'a>(egress: &'a Egress, url: &Url) -> Option<&'a Arc<Proxy>> {
    let scheme = if url.scheme() == "http" { Scheme::Http } else { Scheme::Https };
    egress.through(scheme, url.host_str().unwrap_or_default().trim_matches(['[', ']']))
}

/// `url` as it may be shown: without userinfo, query and fragment.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails only for URLs that cannot have any.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return url.host_str().unwrap_or_default().to_owned();
    }
    url.into()
}

fn too_long(question: &Question<'_>) -> FetchError {
    FetchError {
        kind: FetchErrorKind::InvalidResponse,
        detail: format!("{} {} sent more than {MAX_BODY} bytes", question.what, shown(question.url)),
        hint: format!("no answer of this kind is so long: is {} right?", question.key),
        retry_after: None,
    }
}

/// Half of `timeout`: what is left is for the answer, and a name's dead address leaves time for its next one.
fn connect_timeout(timeout: Duration) -> Duration {
    timeout / 2
}

const USER_AGENT: &str = concat!("lanyard/", env!("CARGO_PKG_VERSION"));
/// The largest answer that is read, bytes.
const MAX_BODY: usize = 1024 * 1024;
/// How much of an error's own words is shown, characters.
const MAX_SHOWN: usize = 200;
/// How long a connection is kept for the next request. Most servers give up on theirs after 60 s or more.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(45);
