//! A token as files, commands and metadata servers write it: bare, or in a JSON object that may tell how long it lives. Pure.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    oauth::response::{MAX_LIFETIME, MAX_TOKEN, jwt_lifetime},
    secret::Secret,
};

/// A token and what is known of its life.
#[derive(Debug)]
pub(super) struct Found {
    /// Visible ASCII without spaces.
    pub(super) token: Secret,
    /// How long it lives from now; `None` where nobody tells. Zero: it is over.
    pub(super) lifetime: Option<Duration>,
    /// What an operator should know besides.
    pub(super) warning: Option<String>,
}

/// A JSON object with a token in it.
pub(super) struct Document(Map<String, Value>);

/// Understands a text that is a token, or a JSON object with one. `written`: when it was, for `expires_in`.
///
/// # Errors
/// It is neither, in words that quote nothing of it.
pub(super) fn read(text: &str, written: SystemTime, now: SystemTime) -> Result<Found, String> {
    let text = trimmed(text);
    if text.starts_with('{') {
        return Document::parse(text.as_bytes())?.found(&TOKENS, written, now);
    }
    let token = checked(text)?;
    let lifetime = jwt_lifetime(token.expose(), now);
    Ok(Found { token, lifetime, warning: None })
}

impl Document {
    /// Reads the object.
    ///
    /// # Errors
    /// It is none. serde_json's own message may quote it; line and column cannot.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) => Err("JSON that is no object".to_owned()),
            Err(_) if body.trim_ascii().is_empty() => Err("nothing at all".to_owned()),
            Err(e) => Err(format!("no JSON (line {}, column {})", e.line(), e.column())),
        }
    }

    /// A member that is an object.
    pub(super) fn object(&self, name: &str) -> Option<Self> {
        self.0.get(name).and_then(Value::as_object).cloned().map(Self)
    }

    /// A member that is a text with something in it.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// Every text in it, however deep: any of them may be a secret.
    pub(super) fn texts(&self) -> Vec<Secret> {
        let mut found = Vec::new();
        let mut left: Vec<&Value> = self.0.values().collect();
        while let Some(value) = left.pop() {
            match value {
                Value::String(text) => found.push(Secret::new(text.as_str())),
                Value::Array(list) => left.extend(list),
                Value::Object(members) => left.extend(members.values()),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        found
    }

    /// The first of these members that is there.
    fn first<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &Value)> {
        names.iter().find_map(|name| Some((*name, self.0.get(*name).filter(|value| !value.is_null())?)))
    }

    /// The token in the first of these members that is there, and how long it lives: by `expires_in`, by a member with
    /// the moment when it ends, by `exp` of a JWT.
    ///
    /// # Errors
    /// None of them is there, or what is there is no token.
    pub(super) fn found(&self, names: &[&str], written: SystemTime, now: SystemTime) -> Result<Found, String> {
        let (name, value) = self.first(names).ok_or_else(|| format!("JSON without `{}`", names.join("`, `")))?;
        let text = value.as_str().ok_or_else(|| format!("JSON whose `{name}` is no text"))?;
        let token = checked(trimmed(text))?;
        // A file's own time may lie ahead, by a wrong clock or by hand, and so far that nothing can be added to it.
        let written = written.min(now);
        let told = match self.first(&IN) {
            Some((name, value)) => Some((name, seconds(value).map(|seconds| written + clamped(seconds)))),
            None => self.first(&ON).map(|(name, value)| (name, moment(value))),
        };
        let (lifetime, warning) = match told {
            Some((_, Some(end))) => (Some(end.duration_since(now).unwrap_or_default().min(MAX_LIFETIME)), None),
            // `az` writes local time without its zone; what it writes it of is a JWT.
            Some((name, None)) => match jwt_lifetime(token.expose(), now) {
                Some(lifetime) => (Some(lifetime), None),
                None => (None, Some(format!("`{name}` beside the token is no time that can be read, and was ignored"))),
            },
            None => (jwt_lifetime(token.expose(), now), None),
        };
        Ok(Found { token, lifetime, warning })
    }
}

/// A token that can stand in a header field.
///
/// # Errors
/// It cannot, in words that quote nothing of it.
pub(super) fn checked(text: &str) -> Result<Secret, String> {
    if text.is_empty() {
        return Err("nothing at all".to_owned());
    }
    if text.len() > MAX_TOKEN {
        return Err(format!("{} bytes, more than the {MAX_TOKEN} of the longest token", text.len()));
    }
    match text.bytes().enumerate().find(|(_, byte)| !byte.is_ascii_graphic()) {
        None => Ok(Secret::new(text)),
        Some((at, byte)) => Err(format!("a text with {} at byte {at}, which no token has", name_of(byte))),
    }
}

/// What an illegal byte is.
pub(super) const fn name_of(byte: u8) -> &'static str {
    match byte {
        b'\r' | b'\n' => "a line end",
        b' ' => "a space",
        0x80.. => "a character beyond ASCII",
        _ => "a control character",
    }
}

/// Without a byte order mark and what stands around.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim()
}

/// A number of seconds, or a text that is one.
fn seconds(value: &Value) -> Option<f64> {
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    seconds.filter(|seconds: &f64| seconds.is_finite())
}

/// A moment: RFC 3339, or seconds since 1970; larger numbers are milliseconds.
fn moment(value: &Value) -> Option<SystemTime> {
    if let Some(seconds) = seconds(value) {
        let seconds = if seconds >= MILLISECONDS { seconds / 1000.0 } else { seconds };
        return SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds.max(0.0)).ok()?);
    }
    // Some write a space in the place of the T.
    let text = value.as_str()?.trim().replacen(' ', "T", 1);
    OffsetDateTime::parse(&text, &Rfc3339).ok().map(SystemTime::from)
}

fn clamped(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, MAX_LIFETIME.as_secs_f64()))
}

/// Where a token stands in the JSON of files and commands: OAuth2's name, that of `az`, and the plain one.
pub(super) const TOKENS: [&str; 3] = ["access_token", "accessToken", "token"];
/// Seconds that it lives.
const IN: [&str; 2] = ["expires_in", "expiresIn"];
/// The moment when it ends; `expires_on` before `expiresOn`, which is local time.
const ON: [&str; 8] = [
    "expires_on",
    "expires_at",
    "expirationTimestamp",
    "expiration",
    "expiry",
    "token_expiry",
    "expiresAt",
    "expiresOn",
];
/// From here on a number is of milliseconds: as seconds it would be in the year 5138.
const MILLISECONDS: f64 = 1e11;

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn jwt(exp: u64) -> String {
        format!("{}.{}.x", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{exp}}}")))
    }

    #[test]
    fn tokens_are_found_with_their_life() {
        let of = jwt(1600);
        for (text, lifetime) in [
            ("canary", None),
            ("\u{feff} canary\r\n", None),
            (&of, Some(600)),
            (r#"{"access_token":"canary","expires_in":3600}"#, Some(3500)),
            (r#"{"access_token":"canary","expires_in":"3600"}"#, Some(3500)),
            (r#"{"token":"canary"}"#, None),
            (r#"{"access_token":null,"token":"canary","expires_in":null}"#, None),
            (r#"{"token":"canary","expires_in":50}"#, Some(0)),
            (r#"{"token":"canary","expires_in":1e300}"#, Some(MAX_LIFETIME.as_secs() - 100)),
            (r#"{"token":"canary","expires_in":-1}"#, Some(0)),
            (r#"{"accessToken":"canary","expires_on":1060,"expiresOn":"2026-01-01 10:00:00.000000"}"#, Some(60)),
            (r#"{"token":"canary","expiry":"1970-01-01T00:20:00Z"}"#, Some(200)),
            (r#"{"token":"canary","expiration":"1970-01-01 02:20:00.5+02:00"}"#, Some(200)),
            (r#"{"token":"canary","expires_at":1900000000000}"#, Some(MAX_LIFETIME.as_secs())),
            (r#"{"token":"canary","expires_at":900}"#, Some(0)),
        ] {
            let found = read(text, at(900), at(1000)).unwrap();
            assert_eq!(found.lifetime.map(|lifetime| lifetime.as_secs()), lifetime, "{text}");
            assert!(found.warning.is_none() && !format!("{found:?}").contains("canary"));
        }
        // A file says by itself when it was written, and may say anything.
        for written in [at(5000), at(i64::MAX.unsigned_abs())] {
            let found = read(r#"{"token":"canary","expires_in":60}"#, written, at(1000)).unwrap();
            assert_eq!(found.lifetime, Some(Duration::from_secs(60)));
        }
        let local = format!("{{\"accessToken\":\"{of}\",\"expiresOn\":\"2026-01-01 10:00:00.000000\"}}");
        let found = read(&local, at(1000), at(1000)).unwrap();
        assert!(found.lifetime == Some(Duration::from_secs(600)) && found.warning.is_none());
        let found = read(r#"{"token":"canary","expiry":"tomorrow"}"#, at(1000), at(1000)).unwrap();
        assert!(found.lifetime.is_none() && found.warning.unwrap().contains("`expiry`"));
    }

    #[test]
    fn what_is_no_token_is_told_and_not_quoted() {
        let long = "c".repeat(MAX_TOKEN + 1);
        for (text, problem) in [
            ("", "nothing at all"),
            (" \n", "nothing at all"),
            ("Bearer canary", "a space at byte 6"),
            ("canary\ncanary", "a line end at byte 6"),
            ("canary\u{1}", "a control character at byte 6"),
            ("canäry", "a character beyond ASCII at byte 3"),
            (&long, "more than the 16384"),
            ("{canary", "no JSON (line 1, column 2)"),
            ("{}", "JSON without `access_token`, `accessToken`, `token`"),
            (r#"{"token":["canary"]}"#, "JSON whose `token` is no text"),
            (r#"{"token":"canary canary"}"#, "a space at byte 6"),
            (r#"{"token":""}"#, "nothing at all"),
        ] {
            let told = read(text, at(0), at(0)).unwrap_err();
            assert!(told.contains(problem) && !told.contains("canary"), "{text}: {told}");
        }
        assert_eq!(Document::parse(b"[1]").err().unwrap(), "JSON that is no object");
        assert_eq!(Document::parse(b"\n").err().unwrap(), "nothing at all");
    }
}
