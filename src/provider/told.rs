//! Why there is no answer at all: reads the chain of causes of an HTTP client's error, or the proxy's refusal.
//!
//! Names the address without its query, and nothing of the request's content.

use std::{error::Error, io};

use rustls::CertificateError;

use super::{MAX_SHOWN, Provider, Question, connect_timeout, shown};
use crate::{
    credential::{FetchError, FetchErrorKind},
    egress::connect::{NoTunnel, Why},
};

/// How far a token request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The endpoint's name.
    Name,
    /// The connection.
    Connect,
    /// The connection, which took too long.
    ConnectTimeout,
    /// The request and its answer.
    Exchange,
}

impl Provider {
    /// Says what an error of the HTTP client means.
    pub(super) fn failed(&self, question: &Question<'_>, error: &reqwest::Error) -> FetchError {
        let stage = if error.is_dns() {
            Stage::Name
        } else if error.is_timeout() {
            Stage::ConnectTimeout
        } else if error.is_connect() {
            Stage::Connect
        } else {
            Stage::Exchange
        };
        self.told(question, error, stage)
    }

    /// Says what an error means at this stage.
    pub(super) fn told(&self, question: &Question<'_>, error: &(dyn Error + 'static), stage: Stage) -> FetchError {
        let (profile, key) = (&self.profile, question.key);
        let at = format!("{} {}", question.what, shown(question.url));
        let host = question.url.host_str().unwrap_or_default();
        let via = super::proxy(&self.settings.egress_proxy, question.url)
            .map(|proxy| format!(" through egress proxy {}", proxy.name()))
            .unwrap_or_default();
        let cause = cause(error);
        let (kind, detail, hint) = if let Some(tls) = find::<rustls::Error>(error) {
            let (problem, hint) = tls_problem(tls, profile, key);
            (FetchErrorKind::Tls, format!("{at}: {problem}"), hint)
        } else if stage == Stage::Name {
            (
                FetchErrorKind::Unresolved,
                format!("{at}: the name does not resolve: {cause}"),
                format!("check the host of {key} of profile {profile}, and the name service: `{host}`"),
            )
        } else if stage == Stage::ConnectTimeout {
            let limit = connect_timeout(self.settings.timeout);
            (
                FetchErrorKind::Timeout,
                format!("{at}: no connection{via} within {limit:?}"),
                format!(
                    "check the network and its firewalls on the way to {host}, or raise `timeout` of profile {profile}"
                ),
            )
        } else if is_no_http(error) {
            (
                FetchErrorKind::InvalidResponse,
                format!("{at} did not answer in HTTP: {cause}"),
                format!("check scheme and port of {key} of profile {profile}"),
            )
        } else if stage == Stage::Connect {
            (
                FetchErrorKind::Unreachable,
                format!("{at}: no connection{via}: {cause}"),
                format!("check host and port of {key} of profile {profile}, and that the server runs"),
            )
        } else {
            (
                FetchErrorKind::Unreachable,
                format!("{at}: the connection{via} ended before the whole answer: {cause}"),
                format!("look at the log of {host}, or of a proxy before it"),
            )
        };
        FetchError { kind, detail, hint, retry_after: None }
    }

    /// Says why there is no tunnel to the endpoint.
    pub(super) fn no_tunnel(question: &Question<'_>, error: &NoTunnel) -> FetchError {
        let kind = match &error.why {
            Why::NoAddress(_) => FetchErrorKind::Unresolved,
            Why::TimedOut(_) | Why::Answered(http::StatusCode::GATEWAY_TIMEOUT) => FetchErrorKind::Timeout,
            Why::Secret(_) => FetchErrorKind::Secret,
            Why::Own(_) | Why::Unreachable(_) | Why::Broken(_) | Why::Answered(_) | Why::NotHttp | Why::TooLong => {
                FetchErrorKind::Unreachable
            }
        };
        let detail = format!("{} {}: {error}", question.what, shown(question.url));
        FetchError { kind, detail, hint: error.hint(), retry_after: None }
    }
}

/// Whether the connection ended without any answer, as a pooled one does when the server has just closed it.
pub(super) fn is_closed(error: &reqwest::Error) -> bool {
    if error.is_timeout() || error.is_connect() {
        return false;
    }
    let by_io = find::<io::Error>(error).is_some_and(|e| {
        use io::ErrorKind as Kind;
        matches!(e.kind(), Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof)
    });
    by_io || chain(error).any(|e| INCOMPLETE.contains(&e.to_string().as_str()))
}

/// The innermost cause, in its own words.
pub(super) fn cause(error: &(dyn Error + 'static)) -> String {
    let text = chain(error).last().map_or_else(String::new, ToString::to_string);
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

fn tls_problem(error: &rustls::Error, profile: &str, key: &str) -> (String, String) {
    use CertificateError as Certificate;
    match error {
        rustls::Error::InvalidCertificate(reason) => {
            let hint = match reason {
                Certificate::Expired | Certificate::ExpiredContext { .. } => {
                    "the server's certificate has to be renewed there; check this machine's clock too".to_owned()
                }
                Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                    "check this machine's clock, and the server's certificate".to_owned()
                }
                Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                    format!("name the server in {key} of profile {profile} as its certificate does")
                }
                Certificate::Revoked => "the server needs a new certificate".to_owned(),
                _ => format!("set ca_file of profile {profile} to the CA that issued the server's certificate"),
            };
            (format!("certificate not trusted: {reason}"), hint)
        }
        rustls::Error::InvalidMessage(_) => (
            format!("the server does not speak TLS: {error}"),
            format!("check scheme and port of {key} of profile {profile}"),
        ),
        other => (
            format!("TLS failed: {other}"),
            "lanyard speaks TLS 1.2 and 1.3: check the versions and ciphers that the server allows".to_owned(),
        ),
    }
}

fn is_no_http(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|e| {
        let text = e.to_string();
        NO_HTTP.iter().any(|sign| text.starts_with(sign))
    })
}

/// The first cause of one type.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|e| e.downcast_ref())
}

/// An error and its causes. What an `io::Error` wraps is among them, which its `source` would skip.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |e| {
        let e: &'a (dyn Error + 'static) = *e;
        match e.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => e.source(),
        }
    })
}

/// hyper's words for a connection that ended before an answer began; its error type is not ours to name.
const INCOMPLETE: [&str; 2] = ["connection closed before message completed", "connection closed"];
/// hyper's words for what is no HTTP/1.
const NO_HTTP: [&str; 3] = ["invalid HTTP", "invalid header", "message head is too large"];
