//! `[profiles.NAME]` in its checked form.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode};
use url::Url;

use super::CaBundle;
use crate::{egress::Egress, secret::SecretSource};

/// One `[profiles.NAME]`: a named way to get a credential, and how requests carry it.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// NAME.
    pub name: Arc<str>,
    /// How the credential is got.
    pub kind: CredentialKind,
    /// Where requests carry it.
    pub placement: Placement,
    /// `existing` (replace).
    pub existing: Existing,
    /// `prefetch` (true): fetched at start.
    pub prefetch: bool,
    /// `required` (true): readiness needs it.
    pub required: bool,
    /// `refresh_before` (60 s).
    pub refresh_before: Duration,
    /// `default_token_lifetime` (5 min): where neither `expires_in` nor the token tells.
    pub default_token_lifetime: Duration,
    /// `token_wait` (5 s): how long a request waits for a token that is not there.
    pub token_wait: Duration,
    /// `idle_after` (never): a profile unused for so long stops refreshing.
    pub idle_after: Option<Duration>,
    /// `retry_statuses` (401).
    pub retry_statuses: Vec<StatusCode>,
    /// `replay_limit` (64 KiB, the most there can be), bytes.
    pub replay_limit: usize,
    /// `reject_interval` (10 s): upstream rejections cost at most one token request in this time.
    pub reject_interval: Duration,
    /// `on_unavailable` (fail).
    pub on_unavailable: OnUnavailable,
}

/// Where requests carry a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In a header field of its own.
    Header {
        /// `header` (Authorization).
        name: HeaderName,
        /// `prefix` (Bearer): stands before the token, with a space between; empty: the bare token.
        prefix: String,
    },
    /// In the query.
    Query {
        /// `parameter`, percent-encoded.
        parameter: String,
    },
    /// In what each request is signed with.
    Signature {
        /// The header fields that the signature writes.
        fields: Vec<HeaderName>,
    },
}

impl Placement {
    /// The header fields that are written, and taken out of what the client sent.
    pub fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Header { name, .. } => std::slice::from_ref(name),
            Self::Query { .. } => &[],
            Self::Signature { fields } => fields,
        }
    }
}

/// What a profile is: which protocol yields its credential.
#[derive(Clone, Debug, PartialEq)]
pub enum CredentialKind {
    /// An OAuth2 grant (RFC 6749).
    OAuth2(Box<OAuth2>),
}

/// The OAuth2 keys of a profile. Its `Debug` shows neither parameters nor what of a URL may hold a secret.
#[derive(Clone, PartialEq)]
pub struct OAuth2 {
    /// `grant_type`.
    pub grant_type: GrantType,
    /// `token_endpoint`: https, or http where that is allowed.
    pub token_endpoint: Url,
    /// `token_endpoint_auth_method`.
    pub token_endpoint_auth_method: AuthMethod,
    /// `client_id`.
    pub client_id: String,
    /// `client_secret`.
    pub client_secret: SecretSource,
    /// `scope`, a list joined by spaces (RFC 6749 3.3).
    pub scope: Option<String>,
    /// `audience`.
    pub audience: Option<String>,
    /// `resource` (RFC 8707), each an absolute URI without fragment.
    pub resource: Vec<String>,
    /// `params`: further parameters of the token request, sorted by name.
    pub params: Vec<(String, String)>,
    /// `headers` of the token request; their values are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `request_format` (form).
    pub request_format: RequestFormat,
    /// `ca_file`: trusted for the token endpoint besides the system's roots.
    pub ca_file: Option<CaBundle>,
    /// `timeout` (10 s) of a whole token request.
    pub timeout: Duration,
    /// `egress_proxy`: what the token endpoint is reached through; that of the file where the profile has none.
    pub egress_proxy: Arc<Egress>,
}

impl fmt::Debug for OAuth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All fields by name: a new one has to be thought about.
        let Self {
            grant_type,
            token_endpoint,
            token_endpoint_auth_method,
            client_id,
            client_secret,
            scope,
            audience,
            resource,
            params,
            headers,
            request_format,
            ca_file,
            timeout,
            egress_proxy,
        } = self;
        f.debug_struct("OAuth2")
            .field("grant_type", grant_type)
            .field("token_endpoint", &without_secrets(token_endpoint))
            .field("token_endpoint_auth_method", token_endpoint_auth_method)
            .field("client_id", client_id)
            .field("client_secret", client_secret)
            .field("scope", scope)
            .field("audience", audience)
            .field("resource", resource)
            .field("params", &params.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("headers", &headers.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("request_format", request_format)
            .field("ca_file", ca_file)
            .field("timeout", timeout)
            .field("egress_proxy", egress_proxy)
            .finish()
    }
}

/// Scheme, host, port and path of a URL: no userinfo, no query.
fn without_secrets(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// `grant_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantType {
    /// RFC 6749 4.4.
    ClientCredentials,
}

/// `token_endpoint_auth_method` (names registered by RFC 7591).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// HTTP Basic, both parts form-encoded first (RFC 6749 2.3.1).
    ClientSecretBasic,
    /// `client_id` and `client_secret` in the body.
    ClientSecretPost,
}

/// `request_format`: how the token request's body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFormat {
    /// `application/x-www-form-urlencoded` (RFC 6749).
    Form,
    /// `application/json` (Aidbox and others).
    Json,
}

/// `existing`: what to do where the client sent the header itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// The client's goes, ours comes.
    Replace,
    /// The client's stays, nothing is injected.
    Keep,
    /// The request is refused with 400.
    Reject,
}

/// `on_unavailable`: what to do when there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnavailable {
    /// Refuse with `token_unavailable`.
    Fail,
    /// Forward without any credential.
    Pass,
}
