//! Credentials that a cloud gives to what runs in it, and those of GitHub Apps.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use url::Url;

use super::SigningKeySource;
use crate::{config::CaBundle, egress::Egress, secret::SecretSource};

/// An installation token of a GitHub App.
#[derive(Clone, Debug, PartialEq)]
pub struct GitHubApp {
    /// `client_id`: that of the app, or its app id; the `iss` of what is signed.
    pub client_id: String,
    /// `installation_id`.
    pub installation_id: String,
    /// `private_key`.
    pub key: SigningKeySource,
    /// `repositories`: the token is good for these alone; none: for all of the installation.
    pub repositories: Vec<String>,
    /// `permissions`: what the token may do; none: all that the installation may.
    pub permissions: Vec<(String, String)>,
    /// `api` (<https://api.github.com>): that of GitHub Enterprise Server ends in `/api/v3`.
    pub api: Url,
    /// `ca_file`.
    pub ca_file: Option<CaBundle>,
    /// `timeout` (10 s).
    pub timeout: Duration,
    /// `egress_proxy`.
    pub egress_proxy: Arc<Egress>,
}

/// What Google's metadata server gives.
#[derive(Clone, Debug, PartialEq)]
pub struct GoogleMetadata {
    /// `account` (default): which service account of the machine.
    pub account: String,
    /// `scope`: of an access token; those of the machine where there is none.
    pub scope: Option<String>,
    /// `audience`: an identity token for it, instead of an access token.
    pub audience: Option<String>,
    /// `metadata_endpoint`: `None`: what `GCE_METADATA_HOST` says, or http://169.254.169.254.
    pub metadata_endpoint: Option<Url>,
    /// `timeout` (10 s).
    pub timeout: Duration,
}

/// What Azure gives a machine (IMDS), or an app by `IDENTITY_ENDPOINT`.
#[derive(Clone, Debug, PartialEq)]
pub struct AzureManagedIdentity {
    /// `resource`: what the token is for, `https://management.azure.com/`.
    pub resource: String,
    /// `client_id` of a user-assigned identity; `None`: the system-assigned one.
    pub client_id: Option<String>,
    /// `metadata_endpoint`; `None`: what `IDENTITY_ENDPOINT` says, or http://169.254.169.254.
    pub metadata_endpoint: Option<Url>,
    /// `timeout` (10 s).
    pub timeout: Duration,
}

/// AWS Signature Version 4.
#[derive(Clone, Debug, PartialEq)]
pub struct AwsSigV4 {
    /// `region`.
    pub region: String,
    /// `service`: `execute-api`, `s3`, ...
    pub service: String,
    /// Where its credentials come from.
    pub credentials: AwsCredentials,
    /// `payload` (auto).
    pub payload: Payload,
    /// `timeout` (10 s) of asking for credentials.
    pub timeout: Duration,
}

/// Where AWS credentials come from.
#[derive(Clone, Debug, PartialEq)]
pub enum AwsCredentials {
    /// `access_key_id`, `secret_access_key` and `session_token`.
    Keys {
        /// `access_key_id`.
        access_key_id: String,
        /// `secret_access_key`.
        secret_access_key: SecretSource,
        /// `session_token`.
        session_token: Option<SecretSource>,
    },
    /// `credentials = "environment"`: `AWS_ACCESS_KEY_ID` and its sisters.
    Environment,
    /// `credentials = "file"`: `credentials_file`, and `credentials_profile` (default) in it.
    File {
        /// The file.
        path: PathBuf,
        /// The section.
        profile: String,
    },
    /// `credentials = "container"`: what `AWS_CONTAINER_CREDENTIALS_FULL_URI` or `..._RELATIVE_URI` names (ECS, EKS Pod
    /// Identity), or `metadata_endpoint`.
    Container(Option<Url>),
    /// `credentials = "imds"`: the machine's role (IMDSv2), at `metadata_endpoint` or http://169.254.169.254.
    Imds(Option<Url>),
}

impl AwsCredentials {
    pub(super) fn secrets(&self) -> Vec<&SecretSource> {
        match self {
            Self::Keys { secret_access_key, session_token, .. } => {
                std::iter::once(secret_access_key).chain(session_token).collect()
            }
            Self::Environment | Self::File { .. } | Self::Container(_) | Self::Imds(_) => Vec::new(),
        }
    }

    pub(super) fn files(&self) -> Vec<&Path> {
        match self {
            Self::File { path, .. } => vec![path],
            Self::Keys { .. } | Self::Environment | Self::Container(_) | Self::Imds(_) => Vec::new(),
        }
    }
}

/// `payload`: whether bodies are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Signed; a body too large to be kept is streamed, signed piece by piece, where the service is s3.
    Auto,
    /// `UNSIGNED-PAYLOAD`.
    Unsigned,
}
