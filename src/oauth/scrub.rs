//! What a server wrote, made fit to be shown: no control characters, no secret of ours, no more than so much. Pure.
//!
//! Some servers reflect the request in their errors, so whatever came from one passes here before it is shown.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use url::Url;

use super::{
    authenticate::{basic, encode},
    secrets::Secrets,
};
use crate::{config::OAuth2, secret::Secret};

/// Knows every form in which a server could send the secrets of one request back.
pub struct Scrubber {
    /// Longest first, so that no form leaves the rest of a longer one behind.
    forms: Vec<Secret>,
    /// Nothing is shown: a secret is too short to be told from ordinary text.
    withhold: bool,
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrubber").finish_non_exhaustive()
    }
}

impl Scrubber {
    /// Knows what a token request of `config` with `secrets` holds: those, and what else may be one: the values of
    /// `headers` and `params` and of the endpoint's query. (An egress proxy's password never comes so far.)
    pub fn new(config: &OAuth2, endpoint: &Url, secrets: &Secrets) -> Self {
        let mut forms = Vec::new();
        for secret in secrets.all() {
            add(&mut forms, secret.expose(), MIN_SECRET);
        }
        if let Some(secret) = secrets.client_secret() {
            let id = config.client_id.as_deref().unwrap_or_default();
            forms.push(basic(id, secret));
            forms.push(Secret::new(BASE64.encode(format!("{id}:{}", secret.expose()))));
        }
        for (_, value) in &config.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            add(&mut forms, &value, MIN_VALUE);
            // "Bearer SECRET": the part after the scheme is one on its own.
            if let Some((_, rest)) = value.split_once(' ') {
                add(&mut forms, rest, MIN_VALUE);
            }
        }
        for (_, value) in &config.params {
            add(&mut forms, value, MIN_VALUE);
        }
        for (_, value) in endpoint.query_pairs() {
            add(&mut forms, &value, MIN_VALUE);
        }
        forms.sort_by_key(|form| std::cmp::Reverse(form.expose().len()));
        Self { forms, withhold: secrets.all().any(|secret| secret.expose().len() < MIN_SECRET) }
    }

    /// Knows these, whatever they are of.
    pub fn knowing(secrets: &[Secret]) -> Self {
        let mut forms = Vec::new();
        for secret in secrets {
            add(&mut forms, secret.expose(), MIN_SECRET);
        }
        forms.sort_by_key(|form| std::cmp::Reverse(form.expose().len()));
        Self { forms, withhold: secrets.iter().any(|secret| secret.expose().len() < MIN_SECRET) }
    }

    /// `text` as it may be shown, at most `limit` characters of it.
    pub fn clean(&self, text: &str, limit: usize) -> String {
        if self.withhold {
            return WITHHELD.to_owned();
        }
        // Before and after: a form may hold control characters, or be torn apart by them.
        let text = self.scrub(text);
        let plain: String = text.chars().filter(|c| !is_control(*c)).collect();
        let scrubbed = self.scrub(&plain);
        // A line end parts words, unless it tears a secret apart.
        let plain = if scrubbed == plain { self.scrub(&on_one_line(&text)) } else { scrubbed };
        let plain = plain.trim();
        if plain.chars().count() <= limit {
            return plain.to_owned();
        }
        let mut cut: String = plain.chars().take(limit.saturating_sub(1)).collect();
        cut.push('…');
        cut
    }

    fn scrub(&self, text: &str) -> String {
        self.forms.iter().fold(text.to_owned(), |text, form| {
            if text.contains(form.expose()) { text.replace(form.expose(), REDACTED) } else { text }
        })
    }
}

/// Without control characters, and with a space for line ends and tabs.
fn on_one_line(text: &str) -> String {
    let lines = text.split(['\r', '\n', '\t']).map(|line| line.chars().filter(|c| !is_control(*c)).collect::<String>());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Adds `text` and the forms that encodings give it, unless it is too short to be told from ordinary words.
fn add(forms: &mut Vec<Secret>, text: &str, least: usize) {
    if text.len() < least {
        return;
    }
    let encoded = encode(text);
    let quoted = serde_json::to_string(text).unwrap_or_default();
    let escaped = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default();
    let all = [
        text.to_owned(),
        text.chars().filter(|c| !is_control(*c)).collect(),
        encoded.replace('+', "%20"),
        lower_case_escapes(&encoded),
        encoded,
        BASE64.encode(text),
        escaped.to_owned(),
    ];
    // What control characters leave may be too short, or nothing, which is contained in everything.
    forms.extend(all.into_iter().filter(|form| form.len() >= least).map(Secret::new));
}

/// `%2F` as `%2f`, the rest as it is.
fn lower_case_escapes(encoded: &str) -> String {
    let mut left = 0_u8;
    encoded
        .chars()
        .map(|c| {
            if c == '%' {
                left = 2;
                c
            } else if left > 0 {
                left -= 1;
                c.to_ascii_lowercase()
            } else {
                c
            }
        })
        .collect()
}

/// Control characters, and the invisible ones that reorder what a terminal shows.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The shortest secret that is searched for in a server's text; with a shorter one the text is withheld.
const MIN_SECRET: usize = 4;
/// The shortest value of `headers` and `params` that is searched for: shorter ones are words like `true`.
const MIN_VALUE: usize = 8;
const REDACTED: &str = "[redacted]";
const WITHHELD: &str = "[withheld: a secret of this profile is too short to be searched for]";

#[cfg(test)]
mod tests;
