//! Google's metadata server (`google_metadata`): an access token, or an identity token, of the service account that a
//! machine, a pod or a Cloud Run service has.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use http::{HeaderValue, StatusCode};
use url::Url;

use super::{
    Credential, FetchError, Fetched, Material,
    answer::{self, Asked, kind},
    document::{self, Document},
    metadata::{Metadata, Server, below, variable},
};
use crate::{config::GoogleMetadata, egress::connect::Dialer};

/// The service account of a profile.
#[derive(Debug)]
pub struct ServiceAccount {
    metadata: Metadata,
    url: Url,
    account: String,
    identity: bool,
}

impl ServiceAccount {
    /// The service account of `profile`.
    ///
    /// # Errors
    /// `GCE_METADATA_HOST` is no host, or the HTTP client cannot be built.
    pub fn new(profile: &Arc<str>, config: &GoogleMetadata, dialer: &Dialer) -> Result<Self, String> {
        Self::with(profile, config, dialer, variable(HOST).as_deref())
    }

    /// The same with this `GCE_METADATA_HOST`.
    fn with(profile: &str, config: &GoogleMetadata, dialer: &Dialer, host: Option<&str>) -> Result<Self, String> {
        let (base, key) = match (&config.metadata_endpoint, host) {
            (Some(endpoint), _) => (endpoint.clone(), "metadata_endpoint"),
            (None, host) => {
                let url = Url::parse(&format!("http://{}/", host.unwrap_or(ADDRESS)));
                (url.map_err(|error| format!("{HOST} is no HOST or HOST:PORT: {error}"))?, HOST)
            }
        };
        let part = if config.audience.is_some() { "identity" } else { "token" };
        let account = config.account.as_str();
        let mut url = below(&base, &["computeMetadata", "v1", "instance", "service-accounts", account, part]);
        if let Some(audience) = &config.audience {
            url.query_pairs_mut().append_pair("audience", audience).append_pair("format", "full");
        } else if let Some(scope) = &config.scope {
            url.query_pairs_mut().append_pair("scopes", &scope.replace(' ', ","));
        }
        let server = Server { url: &base, what: WHAT, key, absent: ABSENT };
        Ok(Self {
            metadata: Metadata::new(profile, server, config.timeout, dialer)?,
            url,
            account: account.to_owned(),
            identity: config.audience.is_some(),
        })
    }

    fn hint(&self, status: StatusCode) -> String {
        let profile = self.metadata.profile();
        match status {
            StatusCode::NOT_FOUND => format!(
                "attach a service account to the machine, or correct account ({:?}) of profile {profile}; \
                 on GKE, Workload Identity has to be set up",
                self.account
            ),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                "let the Kubernetes service account act as the Google one (roles/iam.workloadIdentityUser)".to_owned()
            }
            StatusCode::BAD_REQUEST => format!("check scope or audience of profile {profile}"),
            _ => "the metadata server is busy or being updated: it is asked again".to_owned(),
        }
    }
}

#[async_trait]
impl Credential for ServiceAccount {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        let reply = self.metadata.get(&self.url, (FLAVOR.0, HeaderValue::from_static(FLAVOR.1))).await?;
        let asked = Asked { what: WHAT, url: &self.url, secrets: &[] };
        // Whoever else answers there must not be taken for it.
        if reply.headers.get(FLAVOR.0).is_none_or(|flavor| flavor.as_bytes() != FLAVOR.1.as_bytes()) {
            let problem = format!("{} without Metadata-Flavor: Google", reply.status.as_u16());
            return Err(answer::unusable(asked, &problem, "something else answers at this address: see what"));
        }
        if !reply.status.is_success() {
            return Err(answer::refused(asked, &reply, kind(reply.status), self.hint(reply.status)));
        }
        let now = SystemTime::now();
        let text = String::from_utf8_lossy(reply.body.bytes());
        let found = if self.identity {
            document::read(&text, now, now)
        } else {
            Document::parse(reply.body.bytes()).and_then(|document| document.found(&["access_token"], now, now))
        };
        let found = found.map_err(|problem| answer::unusable(asked, &problem, ABSENT))?;
        Ok(Fetched { material: Material::Token(found.token), lifetime: found.lifetime, warning: found.warning })
    }
}

/// Where the server is if it is elsewhere: HOST or HOST:PORT.
const HOST: &str = "GCE_METADATA_HOST";
const ADDRESS: &str = "169.254.169.254";
const WHAT: &str = "Google's metadata server";
const FLAVOR: (&str, &str) = ("metadata-flavor", "Google");
const ABSENT: &str =
    "it is there on Google Cloud alone (Compute Engine, GKE, Cloud Run, ...); elsewhere take a profile of another kind";

#[cfg(test)]
mod tests;
