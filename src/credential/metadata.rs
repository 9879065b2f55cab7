//! A cloud's metadata server: asked in clear text on the machine's own link, so never through a proxy, and never where it
//! sends us by a redirect.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method};
use url::Url;

use super::{FetchError, FetchErrorKind};
use crate::{
    egress::{Egress, connect::Dialer},
    provider::{Provider, Question, Reply, Settings, shown},
    secret::Secret,
};

/// Asks the metadata server of one profile.
#[derive(Debug)]
pub(super) struct Metadata {
    provider: Provider,
    /// "metadata server".
    what: &'static str,
    /// What says where it is: a key or a variable.
    key: &'static str,
    /// What to do where nobody is there.
    absent: &'static str,
}

/// Which metadata server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server<'a> {
    /// Where it is.
    pub(super) url: &'a Url,
    /// Its name, for people.
    pub(super) what: &'static str,
    /// What says where it is.
    pub(super) key: &'static str,
    /// What to do where nobody is there.
    pub(super) absent: &'static str,
}

impl Metadata {
    pub(super) fn new(profile: &str, server: Server<'_>, timeout: Duration, dialer: &Dialer) -> Result<Self, String> {
        let settings = Settings {
            https: server.url.scheme() == "https",
            ca_file: None,
            timeout,
            egress_proxy: Arc::new(Egress::direct()),
            identity: None,
        };
        let provider = Provider::new(profile, settings, dialer).map_err(|error| error.to_string())?;
        Ok(Self { provider, what: server.what, key: server.key, absent: server.absent })
    }

    /// One question, with this header field.
    pub(super) async fn get(&self, url: &Url, (name, value): (&'static str, HeaderValue)) -> Result<Reply, FetchError> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value);
        let (what, key, body) = (self.what, self.key, Secret::new(""));
        let question = Question { what, key, method: Method::GET, url, headers, body };
        let told = format!("{what} {}", shown(url));
        let answer = self.provider.in_time(&told, self.provider.ask(question)).await;
        answer.map_err(|mut error| {
            use FetchErrorKind as Kind;
            if matches!(error.kind, Kind::Unresolved | Kind::Unreachable | Kind::Timeout) {
                error.hint = self.absent.to_owned();
            }
            error
        })
    }

    pub(super) fn profile(&self) -> &str {
        self.provider.profile()
    }
}

/// What stands in the environment, and is not empty.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Appends to the path of a URL, each part as it is.
pub(super) fn below(url: &Url, parts: &[&str]) -> Url {
    let mut url = url.clone();
    // Fails only for URLs that cannot have a path; the configuration takes none.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(parts);
    }
    url
}
