//! Installation tokens of a GitHub App (`github_app`): a JWT of the app's own key is exchanged for a token of an hour.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::{Map, Value};
use url::Url;

use super::{
    Credential, FetchError, FetchErrorKind, Fetched, Material,
    answer::{self, Asked},
    document::Document,
    metadata::below,
    signing::{sign, signing_key},
};
use crate::{
    config::{GitHubApp, SigningKeySource},
    egress::connect::Dialer,
    jose::{Algorithm, claims::Claims},
    provider::{self, Provider, Question, Reply, Settings, shown},
    secret::Secret,
};

/// The installation of a profile.
#[derive(Debug)]
pub struct Installation {
    provider: Provider,
    config: GitHubApp,
    key: SigningKeySource,
    url: Url,
}

impl Installation {
    /// The installation of `profile`.
    ///
    /// # Errors
    /// TLS cannot be set up: no trusted roots, a bad `ca_file`; or the HTTP client cannot.
    pub fn new(profile: &Arc<str>, config: &GitHubApp, dialer: &Dialer) -> Result<Self, String> {
        let settings = Settings {
            https: config.api.scheme() == "https",
            ca_file: config.ca_file.clone(),
            timeout: config.timeout,
            egress_proxy: Arc::clone(&config.egress_proxy),
            identity: None,
        };
        Ok(Self {
            provider: Provider::new(profile, settings, dialer).map_err(|error| error.to_string())?,
            // GitHub takes no other.
            key: SigningKeySource { algorithm: Some(Algorithm::Rs256), ..config.key.clone() },
            url: below(&config.api, &["app", "installations", &config.installation_id, "access_tokens"]),
            config: config.clone(),
        })
    }

    /// What proves that it is the app: good for nine minutes from now, and begun a minute ago, for clocks differ.
    async fn proof(&self, now: SystemTime) -> Result<Secret, FetchError> {
        let key = signing_key(&self.key, "private_key", self.provider.profile()).await?;
        let began = now.checked_sub(CLOCK_SKEW).unwrap_or(now);
        let mut claims = Claims::new(began, PROOF_LIFETIME);
        claims.iss = Some(self.config.client_id.clone());
        claims.jti = None;
        sign(&key, &self.key, None, &claims)
    }

    /// What the token is asked for; nothing where it may do all that the installation may.
    fn body(&self) -> Secret {
        let mut members = Map::new();
        if !self.config.repositories.is_empty() {
            members.insert("repositories".to_owned(), self.config.repositories.clone().into());
        }
        if !self.config.permissions.is_empty() {
            let all = self.config.permissions.iter().map(|(name, access)| (name.clone(), access.as_str().into()));
            members.insert("permissions".to_owned(), Value::Object(all.collect()));
        }
        Secret::new(if members.is_empty() { String::new() } else { Value::Object(members).to_string() })
    }

    async fn exchange(&self) -> Result<Fetched, FetchError> {
        let proof = self.proof(SystemTime::now()).await?;
        let body = self.body();
        let mut headers = HeaderMap::new();
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", proof.expose())).map_err(|_| FetchError {
            kind: FetchErrorKind::Secret,
            detail: "the signed JWT cannot stand in a header field".to_owned(),
            hint: "report it".to_owned(),
            retry_after: None,
        })?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
        headers.insert(HeaderName::from_static("x-github-api-version"), HeaderValue::from_static(API_VERSION));
        if !body.expose().is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let (method, url) = (Method::POST, &self.url);
        let reply = self.provider.ask(Question { what: WHAT, key: "api", method, url, headers, body }).await?;
        let secrets = [proof];
        let asked = Asked { what: WHAT, url, secrets: &secrets };
        if !reply.status.is_success() {
            let (kind, hint) = self.refusal(&reply);
            return Err(answer::refused(asked, &reply, kind, hint));
        }
        let now = SystemTime::now();
        let found = Document::parse(reply.body.bytes())
            .and_then(|document| document.found(&["token"], now, now))
            .map_err(|problem| {
                answer::unusable(asked, &problem, "check api: that of GitHub Enterprise Server ends in /api/v3")
            })?;
        Ok(Fetched { material: Material::Token(found.token), lifetime: found.lifetime, warning: found.warning })
    }

    /// What a refusal is, and what to do about it.
    fn refusal(&self, reply: &Reply) -> (FetchErrorKind, String) {
        let profile = self.provider.profile();
        // The primary limit says so by a header field, the secondary one by Retry-After (403 both).
        let exhausted = reply.headers.get("x-ratelimit-remaining").is_some_and(|left| left.as_bytes() == b"0")
            || reply.headers.contains_key(http::header::RETRY_AFTER);
        match reply.status {
            StatusCode::UNAUTHORIZED => (
                FetchErrorKind::InvalidClient,
                format!(
                    "look at this machine's clock, and that private_key of profile {profile} is one of the app's \
                     and client_id the app's"
                ),
            ),
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS if exhausted => {
                (FetchErrorKind::RateLimited, "GitHub limits the requests of this app: it is asked again".to_owned())
            }
            StatusCode::FORBIDDEN => (
                FetchErrorKind::UnauthorizedClient,
                "the app or its installation is suspended, or an IP allow list keeps lanyard out".to_owned(),
            ),
            StatusCode::NOT_FOUND => (
                FetchErrorKind::Refused,
                format!(
                    "check installation_id ({}) of profile {profile}: it stands in the URL of the installation's \
                     settings, and has to be one of this app's",
                    self.config.installation_id
                ),
            ),
            StatusCode::UNPROCESSABLE_ENTITY => (
                FetchErrorKind::InvalidScope,
                format!(
                    "check repositories (names without their owner) and permissions of profile {profile}: \
                     the installation has to have them all"
                ),
            ),
            status if status.is_redirection() => {
                (FetchErrorKind::Refused, format!("set api of profile {profile} to the final address"))
            }
            status => (answer::kind(status), "see https://www.githubstatus.com, or the server's log".to_owned()),
        }
    }
}

#[async_trait]
impl Credential for Installation {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        self.provider.in_time(&format!("{WHAT} {}", shown(&self.url)), self.exchange()).await
    }

    fn files(&self) -> Vec<PathBuf> {
        // A new password of the proxy is worth a try too.
        let proxy = provider::proxy(&self.config.egress_proxy, &self.url).and_then(|proxy| proxy.file());
        self.key.source.file().into_iter().chain(proxy).map(PathBuf::from).collect()
    }
}

const WHAT: &str = "GitHub";
const API_VERSION: &str = "2022-11-28";
/// How far back the proof begins.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// GitHub takes no proof that ends more than ten minutes from now by its clock.
const PROOF_LIFETIME: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
