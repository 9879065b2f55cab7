//! `[profiles.NAME]` in its checked form: what every kind has. `oauth2`, `own` and `cloud` have what is of one kind.

mod cloud;
mod oauth2;
mod own;

use std::{path::Path, sync::Arc, time::Duration};

use http::{HeaderName, StatusCode};
use url::Url;

pub use self::{
    cloud::{AwsCredentials, AwsSigV4, AzureManagedIdentity, GitHubApp, GoogleMetadata, Payload},
    oauth2::{
        Assertion, AssertionAudience, Authentication, Dpop, Endpoint, Grant, Issuer, OAuth2, RequestFormat,
        SigningKeySource, Subject,
    },
    own::{Exec, FileToken, SignedJwt, Static},
};
use super::CaBundle;
use crate::{
    egress::{Egress, Proxy},
    provider,
    secret::SecretSource,
};

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

/// What a profile is: what yields its credential.
#[derive(Clone, Debug, PartialEq)]
pub enum CredentialKind {
    /// An OAuth2 grant (RFC 6749): profiles without `type`.
    OAuth2(Box<OAuth2>),
    /// A secret as it is: `bearer`, `header`, `query`, `basic`.
    Static(Static),
    /// A JWT that lanyard signs: `jwt`.
    Jwt(Box<SignedJwt>),
    /// A token that something else keeps fresh in a file: `file`.
    File(FileToken),
    /// What a command prints: `exec`.
    Exec(Box<Exec>),
    /// An installation token of a GitHub App: `github_app`.
    GitHubApp(Box<GitHubApp>),
    /// What Google's metadata server gives: `google_metadata`.
    GoogleMetadata(Box<GoogleMetadata>),
    /// What Azure gives a machine or an app: `azure_managed_identity`.
    AzureManagedIdentity(Box<AzureManagedIdentity>),
    /// AWS Signature Version 4: `aws_sigv4`.
    AwsSigV4(Box<AwsSigV4>),
}

impl CredentialKind {
    /// Every secret that it is made from.
    pub fn secrets(&self) -> Vec<&SecretSource> {
        match self {
            Self::OAuth2(oauth2) => oauth2.secrets(),
            Self::Static(Static::Basic { password, .. }) => vec![password],
            Self::Static(Static::Secret { secret, .. }) => vec![secret],
            Self::Jwt(jwt) => vec![&jwt.key.source],
            Self::GitHubApp(app) => vec![&app.key.source],
            Self::AwsSigV4(aws) => aws.credentials.secrets(),
            Self::File(_) | Self::Exec(_) | Self::GoogleMetadata(_) | Self::AzureManagedIdentity(_) => Vec::new(),
        }
    }

    /// Every file that a fetch reads, but for those of [`CredentialKind::secrets`] and of the egress proxy.
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Self::OAuth2(oauth2) => oauth2.files(),
            Self::File(file) => vec![&file.path],
            Self::AwsSigV4(aws) => aws.credentials.files(),
            Self::Static(_)
            | Self::Jwt(_)
            | Self::Exec(_)
            | Self::GitHubApp(_)
            | Self::GoogleMetadata(_)
            | Self::AzureManagedIdentity(_) => Vec::new(),
        }
    }

    /// Its provider: where it is asked first, through what, and the CAs that its certificate may come from besides the
    /// system's. `None` where nobody is asked, or a metadata server, which is always asked directly.
    fn provider(&self) -> Option<(Option<&Url>, &Arc<Egress>, Option<&CaBundle>)> {
        match self {
            Self::OAuth2(oauth2) => Some((oauth2.endpoint.first(), &oauth2.egress_proxy, oauth2.ca_file.as_ref())),
            Self::GitHubApp(app) => Some((Some(&app.api), &app.egress_proxy, app.ca_file.as_ref())),
            Self::Static(_)
            | Self::Jwt(_)
            | Self::File(_)
            | Self::Exec(_)
            | Self::GoogleMetadata(_)
            | Self::AzureManagedIdentity(_)
            | Self::AwsSigV4(_) => None,
        }
    }

    /// What its provider is reached through, where it has one that is asked by HTTP.
    pub fn egress(&self) -> Option<&Arc<Egress>> {
        self.provider().map(|(_, egress, _)| egress)
    }

    /// The egress proxy on the way to its provider, if there is one.
    pub fn proxy(&self) -> Option<&Arc<Proxy>> {
        let (url, egress, _) = self.provider()?;
        provider::proxy(egress, url?)
    }

    /// The CAs that its provider's certificate may come from, besides the system's.
    pub fn ca_file(&self) -> Option<&CaBundle> {
        self.provider()?.2
    }

    /// Where each caller's own token is exchanged: the profile, the field that holds it, and for how many.
    pub fn caller(&self) -> Option<(&OAuth2, &HeaderName, usize)> {
        match self {
            Self::OAuth2(oauth2) => oauth2.caller().map(|(header, most)| (&**oauth2, header, most)),
            _ => None,
        }
    }
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
