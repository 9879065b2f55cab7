//! Where an issuer's token endpoint is: its metadata (RFC 8414, then OpenID Connect Discovery), kept for a while, and kept
//! on where it cannot be had anew.

use std::{sync::Mutex, time::Duration};

use http::{HeaderMap, HeaderValue, Method, header::ACCEPT};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use crate::{
    config::Endpoint,
    credential::{FetchError, FetchErrorKind},
    provider::{Provider, Question, shown},
    route::pattern::Host,
    secret::Secret,
};

/// An issuer's metadata, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Discovery(Mutex<Option<Known>>);

#[derive(Clone, Debug)]
struct Known {
    found: Found,
    at: Instant,
}

/// Where tokens come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The token endpoint.
    pub(super) token_endpoint: Url,
    /// The one for clients that show a certificate (RFC 8705 5), where it is another.
    pub(super) mtls_token_endpoint: Option<Url>,
    /// What the server calls itself, letter by letter: its assertions are for that (Auth0 insists on the slash at the end).
    pub(super) issuer: Option<String>,
}

/// What of the metadata is read.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    token_endpoint: Option<String>,
    mtls_endpoint_aliases: Option<Aliases>,
}

#[derive(Deserialize)]
struct Aliases {
    token_endpoint: Option<String>,
}

impl Discovery {
    /// The token endpoint: as it is written, or as the issuer's metadata has it.
    ///
    /// # Errors
    /// The metadata cannot be had and was never, or is not to be trusted.
    pub(super) async fn find(&self, endpoint: &Endpoint, provider: &Provider) -> Result<Found, FetchError> {
        let issuer = match (&endpoint.token_endpoint, &endpoint.issuer) {
            (Some(written), issuer) => {
                return Ok(Found {
                    token_endpoint: written.clone(),
                    mtls_token_endpoint: None,
                    issuer: issuer.as_ref().map(|issuer| issuer.text.clone()),
                });
            }
            (None, Some(issuer)) => issuer,
            (None, None) => return Err(neither(provider.profile())),
        };
        let known = self.known();
        if let Some(fresh) = known.as_ref().filter(|known| known.at.elapsed() < KEPT_FOR) {
            return Ok(fresh.found.clone());
        }
        match ask(&issuer.text, &issuer.url, endpoint.allow_plaintext, provider).await {
            Ok(found) => {
                *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                    Some(Known { found: found.clone(), at: Instant::now() });
                Ok(found)
            }
            Err(error) => match known {
                Some(old) => {
                    let (profile, detail, hint) = (provider.profile(), &*error.detail, &*error.hint);
                    tracing::warn!(
                        profile,
                        detail,
                        hint,
                        "the issuer's metadata cannot be read anew: the old one serves"
                    );
                    Ok(old.found)
                }
                None => Err(error),
            },
        }
    }

    fn known(&self) -> Option<Known> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// Asks at each place where metadata may be; what the last one said is the error.
async fn ask(issuer: &str, url: &Url, allow_plaintext: bool, provider: &Provider) -> Result<Found, FetchError> {
    let mut last = None;
    for place in places(url) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let (what, key, body) = ("metadata of the issuer", "issuer", Secret::new(""));
        let question = Question { what, key, method: Method::GET, url: &place, headers, body };
        let reply = provider.ask(question).await?;
        if !reply.status.is_success() {
            let hint = format!("check issuer of profile {}, or name token_endpoint instead", provider.profile());
            let detail = format!("metadata of the issuer {} answered {}", shown(&place), reply.status.as_u16());
            let kind =
                if reply.status.is_server_error() { FetchErrorKind::ServerError } else { FetchErrorKind::Refused };
            let error = FetchError { kind, detail, hint, retry_after: None };
            if reply.status.is_server_error() {
                return Err(error);
            }
            last = Some(error);
            continue;
        }
        return read(reply.body.bytes(), issuer, &place, allow_plaintext, provider.profile());
    }
    Err(last.unwrap_or_else(|| neither(provider.profile())))
}

/// The places of RFC 8414 3 and OpenID Connect Discovery 4, in the order in which they are asked.
fn places(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let mut places = Vec::new();
    for candidate in [
        format!("/.well-known/oauth-authorization-server{path}"),
        format!("{path}/.well-known/openid-configuration"),
        // Where OpenID Connect's document is put as RFC 8414 5 has it.
        format!("/.well-known/openid-configuration{path}"),
    ] {
        let mut place = issuer.clone();
        place.set_path(&candidate);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

fn read(body: &[u8], issuer: &str, place: &Url, allow_plaintext: bool, profile: &str) -> Result<Found, FetchError> {
    let is_secure = place.scheme() == "https";
    let place = shown(place);
    let wrong = |problem: String, hint: &str| FetchError {
        kind: FetchErrorKind::InvalidResponse,
        detail: format!("metadata of the issuer {place} {problem}"),
        hint: hint.to_owned(),
        retry_after: None,
    };
    // serde_json's message may quote the body; line and column cannot.
    let metadata: Metadata = serde_json::from_slice(super::response::without_bom(body)).map_err(|error| {
        let problem = format!("is none (line {}, column {})", error.line(), error.column());
        wrong(problem, "check `issuer`: it is the address that the server calls itself by")
    })?;
    // RFC 8414 3.3. A slash at the end is a matter of taste to many servers.
    if metadata.issuer.trim_end_matches('/') != issuer.trim_end_matches('/') {
        let said: String = metadata.issuer.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
        let hint = format!("write issuer = {said:?} in profile {profile}, if that is the server that you mean");
        return Err(wrong(format!("is of another issuer, {said:?} (RFC 8414 3.3)"), &hint));
    }
    let usable = |text: &str| {
        let url = Url::parse(text).map_err(|_| "a token_endpoint that is no URL")?;
        // RFC 8414 2 wants https. What is near may do without it where the issuer does, but nobody is led from TLS to none.
        let plain = (is_secure || !url.host_str().is_some_and(is_near)) && !allow_plaintext;
        match url.scheme() {
            _ if url.host_str().is_none_or(str::is_empty) => Err("a token_endpoint without a host"),
            _ if !url.username().is_empty() || url.password().is_some() => Err("a token_endpoint with userinfo"),
            "https" => Ok(url),
            "http" if !plain => Ok(url),
            "http" => Err("a token_endpoint in clear text (http://)"),
            _ => Err("a token_endpoint that is no URL of HTTP"),
        }
    };
    let told =
        |problem: &str| wrong(format!("has {problem}"), "this is a fault of the server; name token_endpoint instead");
    let token_endpoint = metadata.token_endpoint.as_deref().ok_or_else(|| told("no token_endpoint"))?;
    let token_endpoint = usable(token_endpoint).map_err(told)?;
    let alias = metadata.mtls_endpoint_aliases.and_then(|aliases| aliases.token_endpoint);
    let mtls_token_endpoint = match alias {
        Some(alias) => Some(usable(&alias).map_err(told)?),
        None => None,
    };
    Ok(Found { token_endpoint, mtls_token_endpoint, issuer: Some(metadata.issuer) })
}

/// Loopback, or a service of the same cluster.
fn is_near(host: &str) -> bool {
    Host::parse(host).is_ok_and(|host| host.is_loopback())
        || host.ends_with(".svc")
        || host.ends_with(".svc.cluster.local")
}

fn neither(profile: &str) -> FetchError {
    FetchError {
        kind: FetchErrorKind::Refused,
        detail: format!("profile {profile} has neither token_endpoint nor an issuer with metadata"),
        hint: "name token_endpoint".to_owned(),
        retry_after: None,
    }
}

/// Metadata is read anew after this time, with the next token request.
const KEPT_FOR: Duration = Duration::from_secs(60 * 60);
/// How much of a foreign issuer's name is shown, characters.
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests;
