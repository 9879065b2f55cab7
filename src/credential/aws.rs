//! `type = "aws_sigv4"`: AWS credentials from where they come, and a signer made of them.
//!
//! Each fetch reads its source anew: keys and files may rotate, and session credentials end. `endpoint` asks what hands
//! credentials out by HTTP, `signer` signs the requests.

mod endpoint;
mod signer;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;

use self::{
    endpoint::Endpoint,
    signer::{RequestSigner, Shared},
};
use super::{Credential, FetchError, FetchErrorKind, Fetched, Material, signing::secret};
use crate::{
    aws::{Credentials, CredentialsError},
    config::{AwsCredentials, AwsSigV4},
    egress::connect::Dialer,
    secret::{Secret, SecretSource},
};

/// Gets the credentials of one profile.
#[derive(Debug)]
pub struct Aws {
    profile: Arc<str>,
    source: Source,
    /// What the signers of one credential after the other have in common.
    shared: Arc<Shared>,
}

/// Where they come from, ready to be asked.
#[derive(Debug)]
enum Source {
    /// This key.
    Keys { access_key_id: String, secret_access_key: SecretSource, session_token: Option<SecretSource> },
    /// `AWS_ACCESS_KEY_ID` and its sisters.
    Environment,
    /// A profile of the shared credentials file.
    File { path: PathBuf, profile: String },
    /// A container's or a machine's role.
    Endpoint(Box<Endpoint>),
}

impl Aws {
    /// Prepares the source of `profile`.
    ///
    /// # Errors
    /// The HTTP client cannot be built: no trusted roots; or region and service are no names.
    pub fn new(profile: &str, config: &AwsSigV4, dialer: &Dialer) -> Result<Self, String> {
        let source = match &config.credentials {
            AwsCredentials::Keys { access_key_id, secret_access_key, session_token } => Source::Keys {
                access_key_id: access_key_id.clone(),
                secret_access_key: secret_access_key.clone(),
                session_token: session_token.clone(),
            },
            AwsCredentials::Environment => Source::Environment,
            AwsCredentials::File { path, profile } => Source::File { path: path.clone(), profile: profile.clone() },
            AwsCredentials::Container(url) => {
                let environment = endpoint::Environment::read(variable);
                Source::Endpoint(Box::new(Endpoint::container(
                    profile,
                    url.as_ref(),
                    environment,
                    config.timeout,
                    dialer,
                )?))
            }
            AwsCredentials::Imds(url) => {
                Source::Endpoint(Box::new(Endpoint::imds(profile, url.as_ref(), config.timeout, dialer)?))
            }
        };
        let shared = Shared::new(profile, config).map_err(|error| error.to_string())?;
        Ok(Self { profile: profile.into(), source, shared: Arc::new(shared) })
    }

    async fn credentials(&self) -> Result<Credentials, FetchError> {
        match &self.source {
            Source::Keys { access_key_id, secret_access_key, session_token } => {
                let session_token = match session_token {
                    Some(source) => Some(secret(source, "session_token", &self.profile).await?),
                    None => None,
                };
                Ok(Credentials {
                    access_key_id: access_key_id.clone(),
                    secret_access_key: secret(secret_access_key, "secret_access_key", &self.profile).await?,
                    session_token,
                    expiration: None,
                })
            }
            Source::Environment => Credentials::from_environment(|name| variable(name).map(Secret::new))
                .map_err(|error| unusable(&error, FetchErrorKind::Secret, "the environment")),
            Source::File { path, profile } => {
                let source = SecretSource::File(path.clone());
                let text = secret(&source, "credentials_file", &self.profile).await?;
                let place = format!("credentials_file {}", path.display());
                Credentials::from_ini(&text, profile).map_err(|error| unusable(&error, FetchErrorKind::Secret, &place))
            }
            Source::Endpoint(endpoint) => endpoint.ask().await,
        }
    }
}

#[async_trait]
impl Credential for Aws {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        let credentials = self.credentials().await?;
        let lifetime = match (credentials.expiration, &self.source) {
            (Some(end), _) => Some(left(end, SystemTime::now())),
            // An endpoint that does not say is asked again; keys that somebody wrote down are good until they are replaced.
            (None, Source::Endpoint(_)) => None,
            (None, _) => Some(Fetched::FOREVER),
        };
        let signer = RequestSigner::new(Arc::clone(&self.shared), credentials);
        Ok(Fetched { material: Material::Signer(Arc::new(signer)), lifetime, warning: None })
    }

    fn files(&self) -> Vec<PathBuf> {
        match &self.source {
            Source::Keys { secret_access_key, session_token, .. } => std::iter::once(secret_access_key)
                .chain(session_token)
                .filter_map(|source| source.file().map(Into::into))
                .collect(),
            Source::File { path, .. } => vec![path.clone()],
            // What holds the authorization of a container's endpoint says nothing of the credentials.
            Source::Environment | Source::Endpoint(_) => Vec::new(),
        }
    }
}

/// How long there is until a moment; nothing, if it is over.
fn left(end: SystemTime, now: SystemTime) -> Duration {
    end.duration_since(now).unwrap_or(Duration::ZERO)
}

/// A variable of the environment that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Credentials that cannot be used, as the failure of a fetch. `place`: where they came from.
fn unusable(error: &CredentialsError, kind: FetchErrorKind, place: &str) -> FetchError {
    let kind = match error {
        CredentialsError::Refused => FetchErrorKind::Refused,
        _ => kind,
    };
    FetchError { kind, detail: format!("{place}: {error}"), hint: error.hint().to_owned(), retry_after: None }
}

#[cfg(test)]
mod tests;
