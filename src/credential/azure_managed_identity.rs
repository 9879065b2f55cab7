//! Azure's managed identities (`azure_managed_identity`): of a machine by its metadata service (IMDS), of an app in App
//! Service, Functions and Container Apps by `IDENTITY_ENDPOINT`.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use http::{HeaderValue, StatusCode};
use url::Url;

use super::{
    Credential, FetchError, FetchErrorKind, Fetched, Material,
    answer::{self, Asked, kind},
    document::Document,
    metadata::{Metadata, Server, below, variable},
};
use crate::{config::AzureManagedIdentity, egress::connect::Dialer, secret::Secret};

/// The managed identity of a profile.
#[derive(Debug)]
pub struct ManagedIdentity {
    metadata: Metadata,
    url: Url,
    /// What an app proves itself with; `None`: it is a machine.
    header: Option<Secret>,
}

/// What App Service puts into the environment of an app.
#[derive(Debug, Default)]
struct Environment {
    /// `IDENTITY_ENDPOINT`.
    endpoint: Option<String>,
    /// `IDENTITY_HEADER`.
    header: Option<String>,
}

impl ManagedIdentity {
    /// The managed identity of `profile`.
    ///
    /// # Errors
    /// `IDENTITY_ENDPOINT` is no URL or stands alone, or the HTTP client cannot be built.
    pub fn new(profile: &Arc<str>, config: &AzureManagedIdentity, dialer: &Dialer) -> Result<Self, String> {
        let environment = Environment { endpoint: variable(ENDPOINT), header: variable(HEADER) };
        Self::with(profile, config, dialer, environment)
    }

    fn with(
        profile: &str,
        config: &AzureManagedIdentity,
        dialer: &Dialer,
        environment: Environment,
    ) -> Result<Self, String> {
        let (mut url, header, key) = match (&config.metadata_endpoint, environment) {
            (Some(endpoint), _) => (below(endpoint, &IMDS), None, "metadata_endpoint"),
            (None, Environment { endpoint: Some(endpoint), header: Some(header) }) => {
                let url = Url::parse(&endpoint).map_err(|error| format!("{ENDPOINT} is no URL: {error}"))?;
                (url, Some(Secret::new(header)), ENDPOINT)
            }
            (None, Environment { endpoint: Some(_), header: None }) => {
                return Err(format!(
                    "{ENDPOINT} is set without {HEADER}, as Azure Arc does, which is not spoken here; \
                     set metadata_endpoint to ask IMDS"
                ));
            }
            (None, Environment { endpoint: None, .. }) => {
                let url = Url::parse(ADDRESS).map_err(|error| error.to_string())?;
                (below(&url, &IMDS), None, "metadata_endpoint")
            }
        };
        let version = if header.is_some() { "2019-08-01" } else { "2018-02-01" };
        let server = Server { url: &url, what: WHAT, key, absent: ABSENT };
        let metadata = Metadata::new(profile, server, config.timeout, dialer)?;
        url.query_pairs_mut().append_pair("api-version", version).append_pair("resource", &config.resource);
        if let Some(client_id) = &config.client_id {
            url.query_pairs_mut().append_pair("client_id", client_id);
        }
        Ok(Self { metadata, url, header })
    }

    fn hint(&self, status: StatusCode) -> String {
        let profile = self.metadata.profile();
        match status {
            StatusCode::BAD_REQUEST => format!(
                "assign a managed identity to the machine or app, and check client_id and resource of profile {profile}"
            ),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "the service does not take the request: see that nothing stands between it and lanyard".to_owned()
            }
            _ => "the service is busy or being updated: it is asked again".to_owned(),
        }
    }
}

#[async_trait]
impl Credential for ManagedIdentity {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        let field = match &self.header {
            None => ("metadata", HeaderValue::from_static("true")),
            Some(secret) => {
                let mut value = HeaderValue::from_str(secret.expose()).map_err(|_| FetchError {
                    kind: FetchErrorKind::Secret,
                    detail: format!("the environment variable {HEADER} cannot stand in a header field"),
                    hint: "App Service sets it: leave it as it is".to_owned(),
                    retry_after: None,
                })?;
                value.set_sensitive(true);
                ("x-identity-header", value)
            }
        };
        let reply = self.metadata.get(&self.url, field).await?;
        let asked = Asked { what: WHAT, url: &self.url, secrets: self.header.as_slice() };
        if !reply.status.is_success() {
            // While it is being updated the service says 404 and 410; its documentation wants both tried again.
            let kind = match reply.status {
                StatusCode::NOT_FOUND | StatusCode::GONE => FetchErrorKind::ServerError,
                status => kind(status),
            };
            return Err(answer::refused(asked, &reply, kind, self.hint(reply.status)));
        }
        let now = SystemTime::now();
        let found = Document::parse(reply.body.bytes())
            .and_then(|document| document.found(&["access_token"], now, now))
            .map_err(|problem| answer::unusable(asked, &problem, ABSENT))?;
        Ok(Fetched { material: Material::Token(found.token), lifetime: found.lifetime, warning: found.warning })
    }
}

const ENDPOINT: &str = "IDENTITY_ENDPOINT";
const HEADER: &str = "IDENTITY_HEADER";
const ADDRESS: &str = "http://169.254.169.254";
/// Where IMDS has its tokens.
const IMDS: [&str; 4] = ["metadata", "identity", "oauth2", "token"];
const WHAT: &str = "Azure's identity service";
const ABSENT: &str =
    "it is there on Azure alone (virtual machines, AKS, App Service, ...); elsewhere take a profile of another kind";

#[cfg(test)]
mod tests;
