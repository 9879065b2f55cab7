//! What a profile can be: something that yields a credential when it is asked to.
//!
//! One trait, so that a token's life (`token`) knows nothing of OAuth, and one error, which knows whether trying again
//! soon can help and what an operator should do. What has to be signed anew for each request is a [`Signer`].
//!
//! OAuth2's grants are in `oauth`; here is one file for each other kind, and what they share: `signing` reads keys,
//! `document` finds a token in text or JSON, `answer` tells of a provider's refusal, `metadata` asks a cloud's metadata server.

mod answer;
pub mod aws;
pub mod azure_managed_identity;
mod document;
pub mod exec;
pub mod file;
pub mod fixed;
pub mod github_app;
pub mod google_metadata;
pub mod jwt;
mod metadata;
pub mod signing;

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue};
use smallvec::SmallVec;

use crate::{aws::ChunkEncoder, secret::Secret};

/// A source of credentials. Called by one task at a time; everything that may rotate is read at each call.
#[async_trait]
pub trait Credential: Send + Sync + fmt::Debug {
    /// Gets a new credential now.
    ///
    /// # Errors
    /// Whatever keeps it from that, told so that an operator can act.
    async fn fetch(&self) -> Result<Fetched, FetchError>;

    /// The files that a fetch reads; a change of one is a reason to fetch again.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// What a fetch yields.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// What requests carry of it.
    pub material: Material,
    /// How long it lives from the moment the request was sent; `None` where nobody tells. Zero: it is already over;
    /// [`Fetched::FOREVER`]: it does not expire.
    pub lifetime: Option<Duration>,
    /// Something that succeeded but that an operator should know: the provider granted fewer scopes than asked for.
    pub warning: Option<String>,
}

impl Fetched {
    /// The lifetime of what does not expire: a thousand years, which every clock can count to and no provider is believed.
    pub const FOREVER: Duration = Duration::from_secs(1000 * 365 * 24 * 60 * 60);

    /// A token that says nothing else.
    pub const fn token(token: Secret, lifetime: Option<Duration>) -> Self {
        Self { material: Material::Token(token), lifetime, warning: None }
    }
}

/// What requests carry of a credential.
#[derive(Clone, Debug)]
pub enum Material {
    /// The same text on every request: it stands in a header field, or in the query.
    Token(Secret),
    /// Something of its own on each.
    Signer(Arc<dyn Signer>),
}

impl Material {
    /// The text, if it is one.
    pub const fn token(&self) -> Option<&Secret> {
        match self {
            Self::Token(token) => Some(token),
            Self::Signer(_) => None,
        }
    }
}

/// Signs requests one by one, with what a fetch brought. Called on the request path: it waits for nothing.
pub trait Signer: Send + Sync + fmt::Debug {
    /// The header fields that this request carries besides its own, each of which the profile names in its placement.
    ///
    /// # Errors
    /// The request cannot be signed as it is, in words for the client and the log.
    fn sign(&self, request: &Outgoing<'_>) -> Result<Signature, SigningError>;

    /// The same for a request whose body comes while it goes out.
    ///
    /// # Errors
    /// As [`Signer::sign`].
    fn sign_streamed(&self, request: &Outgoing<'_>) -> Result<Streamed, SigningError> {
        Ok(Streamed { fields: self.sign(request)?, chunks: None })
    }

    /// Whether it has to see the whole of a body before it signs. Asked before any of the body is read, with what the
    /// client says of it; `length`: bytes, where that was told.
    fn wants_body(&self, _headers: &HeaderMap, _length: Option<u64>) -> bool {
        false
    }

    /// Which key it signs with, where a fetch may bring the same one again: then there is nothing to try anew.
    fn key(&self) -> Option<&str> {
        None
    }

    /// The upstream refused what was signed, and this was the time there (`Date`).
    fn refused_at(&self, _date: SystemTime) {}

    /// A server gave this nonce for what is signed next (RFC 9449 8.2): whether it is a new one, so that a request it
    /// refused for the lack of it is worth sending again.
    fn learn(&self, _scheme: &str, _authority: &str, _nonce: &HeaderValue) -> bool {
        false
    }
}

/// The header fields that a signer adds, with their names as HTTP/1.1 is used to them.
pub type Signature = SmallVec<[(&'static str, HeaderValue); 4]>;

/// The signature of a request whose body follows.
#[derive(Debug)]
pub struct Streamed {
    /// Its header fields, in place of any with the same names.
    pub fields: Signature,
    /// What the body passes through on its way, if it is signed in pieces.
    pub chunks: Option<Box<ChunkEncoder>>,
}

/// A request as its upstream will see it, but for the signature.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Its method.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// What `Host` or `:authority` says.
    pub authority: &'a [u8],
    /// Its path and query.
    pub path_and_query: &'a str,
    /// Its header fields but for `Host`, in their order.
    pub fields: &'a [(&'a str, &'a [u8])],
    /// Its body.
    pub body: Body<'a>,
}

/// What is known of a body before it goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// It comes while it goes out; its length, where that was told.
    Streamed(Option<u64>),
}

/// Why a request cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct SigningError {
    /// What is wrong with it.
    pub detail: String,
    /// What to do about it.
    pub hint: String,
}

/// Why there is no credential. It never holds a secret or a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchError {
    /// The closed set that metrics and back-off go by.
    pub kind: FetchErrorKind,
    /// What happened, in one line: "token endpoint https://... answered 401 invalid_client: Client authentication failed".
    pub detail: String,
    /// What to do about it, in one line.
    pub hint: String,
    /// When the provider wants to be asked again (`Retry-After`).
    pub retry_after: Option<Duration>,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for FetchError {}

impl FetchError {
    /// Whether trying again soon can help, without anybody changing anything.
    pub const fn is_transient(&self) -> bool {
        self.kind.is_transient()
    }
}

/// What kind of failure a fetch met; the values of the label `result` of `lanyard_token_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FetchErrorKind {
    /// The name of the provider does not resolve.
    Unresolved,
    /// No connection: refused, reset, no route.
    Unreachable,
    /// TLS failed: certificate not trusted, wrong name, expired.
    Tls,
    /// No whole answer within `timeout`.
    Timeout,
    /// 5xx.
    ServerError,
    /// 429.
    RateLimited,
    /// `invalid_client`, or a 401 or 403 that does not say more.
    InvalidClient,
    /// `unauthorized_client`.
    UnauthorizedClient,
    /// `invalid_scope`.
    InvalidScope,
    /// `invalid_grant`.
    InvalidGrant,
    /// `invalid_request`.
    InvalidRequest,
    /// `invalid_target` (RFC 8707).
    InvalidTarget,
    /// `unsupported_grant_type`.
    UnsupportedGrantType,
    /// Any other refusal: an error code we do not know, a 3xx, a 4xx without one.
    Refused,
    /// A success that is none: HTML, truncated JSON, no `access_token`, an illegal token, a foreign `token_type`.
    InvalidResponse,
    /// A secret of ours cannot be read.
    Secret,
}

impl FetchErrorKind {
    /// Every kind, for registering metrics.
    pub const ALL: [Self; 16] = [
        Self::Unresolved,
        Self::Unreachable,
        Self::Tls,
        Self::Timeout,
        Self::ServerError,
        Self::RateLimited,
        Self::InvalidClient,
        Self::UnauthorizedClient,
        Self::InvalidScope,
        Self::InvalidGrant,
        Self::InvalidRequest,
        Self::InvalidTarget,
        Self::UnsupportedGrantType,
        Self::Refused,
        Self::InvalidResponse,
        Self::Secret,
    ];

    /// The name in metrics, logs and `/status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::ServerError => "server_error",
            Self::RateLimited => "rate_limited",
            Self::InvalidClient => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidTarget => "invalid_target",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::Refused => "refused",
            Self::InvalidResponse => "invalid_response",
            Self::Secret => "secret",
        }
    }

    /// Whether the same request may succeed soon without anybody changing anything.
    pub const fn is_transient(self) -> bool {
        match self {
            Self::Unresolved
            | Self::Unreachable
            | Self::Tls
            | Self::Timeout
            | Self::ServerError
            | Self::RateLimited
            | Self::InvalidResponse
            | Self::Secret => true,
            Self::InvalidClient
            | Self::UnauthorizedClient
            | Self::InvalidScope
            | Self::InvalidGrant
            | Self::InvalidRequest
            | Self::InvalidTarget
            | Self::UnsupportedGrantType
            | Self::Refused => false,
        }
    }
}
