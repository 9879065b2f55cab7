//! The keys of OAuth2 profiles: which grant, who asks, where.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};
use url::Url;

use crate::{config::CaBundle, egress::Egress, jose::Algorithm, provider::shown, secret::SecretSource};

/// The OAuth2 keys of a profile. Its `Debug` shows neither parameters nor what of a URL may hold a secret.
#[derive(Clone, PartialEq)]
pub struct OAuth2 {
    /// `grant_type`, and what it needs.
    pub grant: Grant,
    /// `token_endpoint`, or `issuer`, whose metadata names it.
    pub endpoint: Endpoint,
    /// `client_id`; not all that is asked for by an assertion needs one.
    pub client_id: Option<String>,
    /// `token_endpoint_auth_method`, and what it needs.
    pub authentication: Authentication,
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
    /// `dpop` (RFC 9449).
    pub dpop: Option<Dpop>,
    /// `ca_file`: trusted for the token endpoint besides the system's roots.
    pub ca_file: Option<CaBundle>,
    /// `timeout` (10 s) of a whole token request.
    pub timeout: Duration,
    /// `egress_proxy`: what the token endpoint is reached through; that of the file where the profile has none.
    pub egress_proxy: Arc<Egress>,
}

/// Where the token endpoint is. One of the two is there.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `token_endpoint`: https, or http where that is allowed.
    pub token_endpoint: Option<Url>,
    /// `issuer`: its metadata (RFC 8414, OpenID Connect Discovery) names the token endpoint where that is not written.
    pub issuer: Option<Issuer>,
    /// `allow_plaintext_token_endpoint`: also for the one that metadata names.
    pub allow_plaintext: bool,
}

impl Endpoint {
    /// The URL that is asked first.
    pub fn first(&self) -> Option<&Url> {
        self.token_endpoint.as_ref().or_else(|| self.issuer.as_ref().map(|issuer| &issuer.url))
    }
}

/// An authorization server, by what it calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// As it is written: assertions name it letter by letter.
    pub text: String,
    /// The same, to be asked.
    pub url: Url,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("token_endpoint", &self.token_endpoint.as_ref().map(shown))
            .field("issuer", &self.issuer.as_ref().map(|issuer| shown(&issuer.url)))
            .field("allow_plaintext", &self.allow_plaintext)
            .finish()
    }
}

/// `grant_type`.
#[derive(Clone, Debug, PartialEq)]
pub enum Grant {
    /// RFC 6749 4.4.
    ClientCredentials,
    /// RFC 6749 6: each answer's refresh token takes the place of the one before.
    RefreshToken {
        /// `refresh_token`: the first.
        token: SecretSource,
        /// `refresh_token_state_file`: where the latest is kept, so that a restart does not lose it.
        state_file: Option<PathBuf>,
    },
    /// RFC 6749 4.3: deprecated, and still what some servers want.
    Password {
        /// `username`.
        username: String,
        /// `password`.
        password: SecretSource,
    },
    /// RFC 7523 2.1.
    JwtBearer(Assertion),
    /// RFC 8693.
    TokenExchange {
        /// `subject_token`.
        subject: Subject,
        /// `subject_token_type`, a URI.
        subject_token_type: String,
        /// `actor_token` and `actor_token_type`.
        actor: Option<(SecretSource, String)>,
        /// `requested_token_type`, a URI.
        requested_token_type: Option<String>,
    },
}

impl Grant {
    /// The registered name.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::RefreshToken { .. } => "refresh_token",
            Self::Password { .. } => "password",
            Self::JwtBearer(_) => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Self::TokenExchange { .. } => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }
}

/// What a jwt-bearer grant presents.
#[derive(Clone, Debug, PartialEq)]
pub enum Assertion {
    /// `assertion`: made by something else.
    Given(SecretSource),
    /// `private_key` and `claims`: made by lanyard for each token request.
    Signed {
        /// The key.
        key: SigningKeySource,
        /// `claims`: `iss`, `sub`, `aud` and what else it says.
        claims: Map<String, Value>,
        /// `assertion_lifetime` (2 min).
        lifetime: Duration,
    },
    /// `service_account`: a key file of Google's, which has all of that in it.
    ServiceAccount {
        /// The JSON file.
        file: SecretSource,
        /// `claims`: `sub` for domain-wide delegation, and what else is to be said.
        claims: Map<String, Value>,
        /// `assertion_lifetime` (2 min).
        lifetime: Duration,
    },
}

/// Whose token is exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `{ file = ... }` or `{ env = ... }`: always the same one's.
    Source(SecretSource),
    /// `{ header = "Authorization" }`: that of each request.
    Caller {
        /// The field that holds it, behind `Bearer` if that is `Authorization`.
        header: HeaderName,
        /// `max_subjects` (1,000): how many are remembered.
        max_subjects: usize,
    },
}

/// `token_endpoint_auth_method` (names registered by RFC 7591 and RFC 8705).
#[derive(Clone, Debug, PartialEq)]
pub enum Authentication {
    /// `none`: a public client, or one that only its assertion proves.
    None,
    /// `client_secret_basic`: HTTP Basic, both parts form-encoded first (RFC 6749 2.3.1).
    ClientSecretBasic(SecretSource),
    /// `client_secret_post`: `client_id` and `client_secret` in the body.
    ClientSecretPost(SecretSource),
    /// `client_secret_jwt` and `private_key_jwt` (RFC 7523 2.2, OpenID Connect Core 9).
    SignedJwt {
        /// `client_secret`, or `private_key`.
        key: SigningKeySource,
        /// `client_certificate_file`: its thumbprint stands in the header (`x5t#S256`), as Entra ID wants it.
        certificate_file: Option<PathBuf>,
        /// `client_assertion_audience`.
        audience: AssertionAudience,
        /// `assertion_lifetime` (2 min).
        lifetime: Duration,
    },
    /// `private_key_jwt` with a `client_assertion` that something else makes: a projected service-account token.
    Assertion(SecretSource),
    /// `tls_client_auth` and `self_signed_tls_client_auth` (RFC 8705 2).
    Tls {
        /// Which of the two; what is sent is the same.
        self_signed: bool,
        /// `client_certificate_file`.
        certificate_file: PathBuf,
        /// `client_key_file`.
        key_file: PathBuf,
    },
}

/// `client_assertion_audience`: who an assertion is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssertionAudience {
    /// `"issuer"`: the default where an issuer is known (draft-ietf-oauth-rfc7523bis).
    Issuer,
    /// `"token_endpoint"`.
    TokenEndpoint,
    /// Whatever the server wants to see.
    Text(String),
}

/// A key that lanyard signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeySource {
    /// PEM, a JWK or a JWK set; for HMAC the secret itself. Read at each use.
    pub source: SecretSource,
    /// `token_endpoint_auth_signing_alg`, or `signing_alg`; `None`: what the key says or is made for.
    pub algorithm: Option<Algorithm>,
    /// `key_id`: the `kid` in the header, and which key of a JWK set.
    pub key_id: Option<String>,
}

/// `dpop`: tokens are bound to a key (RFC 9449).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dpop {
    /// `dpop_key`; `None`: one that is made at start.
    pub key: Option<SecretSource>,
}

/// `request_format`: how the token request's body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFormat {
    /// `application/x-www-form-urlencoded` (RFC 6749).
    Form,
    /// `application/json` (Aidbox and others).
    Json,
}

impl Authentication {
    /// The registered name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientSecretBasic(_) => "client_secret_basic",
            Self::ClientSecretPost(_) => "client_secret_post",
            Self::SignedJwt { key, .. } if key.algorithm.is_some_and(Algorithm::is_symmetric) => "client_secret_jwt",
            Self::SignedJwt { .. } | Self::Assertion(_) => "private_key_jwt",
            Self::Tls { self_signed: false, .. } => "tls_client_auth",
            Self::Tls { self_signed: true, .. } => "self_signed_tls_client_auth",
        }
    }

    /// The client secret, if that is what it proves itself by.
    pub const fn client_secret(&self) -> Option<&SecretSource> {
        match self {
            Self::ClientSecretBasic(secret) | Self::ClientSecretPost(secret) => Some(secret),
            Self::None | Self::SignedJwt { .. } | Self::Assertion(_) | Self::Tls { .. } => None,
        }
    }
}

impl OAuth2 {
    /// Whether the token is that of whoever sends the request.
    pub const fn caller(&self) -> Option<(&HeaderName, usize)> {
        match &self.grant {
            Grant::TokenExchange { subject: Subject::Caller { header, max_subjects }, .. } => {
                Some((header, *max_subjects))
            }
            _ => None,
        }
    }

    /// Every secret that a token request is made from.
    pub fn secrets(&self) -> Vec<&SecretSource> {
        let of_client = match &self.authentication {
            Authentication::ClientSecretBasic(secret)
            | Authentication::ClientSecretPost(secret)
            | Authentication::Assertion(secret) => Some(secret),
            Authentication::SignedJwt { key, .. } => Some(&key.source),
            Authentication::None | Authentication::Tls { .. } => None,
        };
        let (of_grant, actor) = match &self.grant {
            Grant::ClientCredentials => (None, None),
            Grant::RefreshToken { token, .. } => (Some(token), None),
            Grant::Password { password, .. } => (Some(password), None),
            Grant::JwtBearer(Assertion::Given(secret) | Assertion::ServiceAccount { file: secret, .. }) => {
                (Some(secret), None)
            }
            Grant::JwtBearer(Assertion::Signed { key, .. }) => (Some(&key.source), None),
            Grant::TokenExchange { subject, actor, .. } => {
                let subject = match subject {
                    Subject::Source(source) => Some(source),
                    Subject::Caller { .. } => None,
                };
                (subject, actor.as_ref().map(|(secret, _)| secret))
            }
        };
        let of_proof = self.dpop.as_ref().and_then(|dpop| dpop.key.as_ref());
        of_client.into_iter().chain(of_grant).chain(actor).chain(of_proof).collect()
    }

    /// The files that it reads besides.
    pub fn files(&self) -> Vec<&Path> {
        match &self.authentication {
            Authentication::SignedJwt { certificate_file, .. } => {
                certificate_file.iter().map(PathBuf::as_path).collect()
            }
            Authentication::Tls { certificate_file, key_file, .. } => vec![certificate_file, key_file],
            Authentication::None
            | Authentication::ClientSecretBasic(_)
            | Authentication::ClientSecretPost(_)
            | Authentication::Assertion(_) => Vec::new(),
        }
    }
}

impl fmt::Debug for OAuth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All fields by name: a new one has to be thought about.
        let Self {
            grant,
            endpoint,
            client_id,
            authentication,
            scope,
            audience,
            resource,
            params,
            headers,
            request_format,
            dpop,
            ca_file,
            timeout,
            egress_proxy,
        } = self;
        f.debug_struct("OAuth2")
            .field("grant", grant)
            .field("endpoint", endpoint)
            .field("client_id", client_id)
            .field("authentication", authentication)
            .field("scope", scope)
            .field("audience", audience)
            .field("resource", resource)
            .field("params", &params.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("headers", &headers.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("request_format", request_format)
            .field("dpop", dpop)
            .field("ca_file", ca_file)
            .field("timeout", timeout)
            .field("egress_proxy", egress_proxy)
            .finish()
    }
}
