//! What a provider that is no token endpoint answers where it refuses: its own words, made fit to be shown. Pure.

use std::time::SystemTime;

use http::StatusCode;
use url::Url;

use super::{FetchError, FetchErrorKind, document::Document};
use crate::{
    oauth::{error::retry_after, scrub::Scrubber},
    provider::{Reply, shown},
    secret::Secret,
};

/// Who was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// "GitHub".
    pub(super) what: &'a str,
    /// Where.
    pub(super) url: &'a Url,
    /// What the question had in it that nobody may see.
    pub(super) secrets: &'a [Secret],
}

/// A refusal: `kind` and `hint` are what the caller knows of its status.
pub(super) fn refused(asked: Asked<'_>, reply: &Reply, kind: FetchErrorKind, hint: String) -> FetchError {
    let status = reply.status.as_u16();
    let said = said(reply, asked.secrets).map(|said| format!(": {said}")).unwrap_or_default();
    FetchError {
        kind,
        detail: format!("{} {} answered {status}{said}", asked.what, shown(asked.url)),
        hint,
        retry_after: retry_after(&reply.headers, SystemTime::now()),
    }
}

/// A success that is none.
pub(super) fn unusable(asked: Asked<'_>, problem: &str, hint: &str) -> FetchError {
    FetchError {
        kind: FetchErrorKind::InvalidResponse,
        detail: format!("{} {} sent {problem}", asked.what, shown(asked.url)),
        hint: hint.to_owned(),
        retry_after: None,
    }
}

/// What a status means by itself.
pub(super) fn kind(status: StatusCode) -> FetchErrorKind {
    match status {
        StatusCode::TOO_MANY_REQUESTS => FetchErrorKind::RateLimited,
        StatusCode::BAD_REQUEST => FetchErrorKind::InvalidRequest,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FetchErrorKind::InvalidClient,
        status if status.is_server_error() => FetchErrorKind::ServerError,
        _ => FetchErrorKind::Refused,
    }
}

/// The words for people in a refusal's JSON, or a short plain text.
fn said(reply: &Reply, secrets: &[Secret]) -> Option<String> {
    let scrubber = Scrubber::knowing(secrets);
    let body = reply.body.bytes();
    let text = match Document::parse(body) {
        Ok(document) => {
            let words: Vec<&str> = WORDS.iter().filter_map(|name| document.text(name)).collect();
            words.join(": ")
        }
        // A page for browsers says nothing in its first words.
        Err(_) if body.trim_ascii_start().starts_with(b"<") => return None,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let clean = scrubber.clean(&text, MAX_SHOWN);
    (!clean.is_empty()).then_some(clean)
}

/// GitHub's, Azure's and Google's members, in the order in which they are shown.
const WORDS: [&str; 3] = ["error", "error_description", "message"];
/// How much of a server's own words is shown, characters.
const MAX_SHOWN: usize = 200;
