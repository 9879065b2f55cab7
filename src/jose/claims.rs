//! The claims of an assertion: RFC 7523 section 3, RFC 7519 section 4.1.

use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value};

use super::new_jti;

/// What an assertion says. A claim in `extra` takes the place of ours with the same name.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// Who signs.
    pub iss: Option<String>,
    /// Whom it is about: the client itself (RFC 7523 section 3), or the user it acts for.
    pub sub: Option<String>,
    /// Whom it is for: one text, which every server understands.
    pub aud: Option<String>,
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
    /// What tells it from all others, so that it cannot be used twice.
    pub jti: Option<String>,
    /// Any others.
    pub extra: Map<String, Value>,
}

impl Claims {
    /// Claims that hold from `now` for `lifetime`, with a fresh `jti` and nothing else.
    pub fn new(now: SystemTime, lifetime: Duration) -> Self {
        let iat = seconds(now);
        let exp = iat.saturating_add(lifetime.as_secs());
        Self { iss: None, sub: None, aud: None, iat, exp, jti: Some(new_jti()), extra: Map::new() }
    }
}

impl Serialize for Claims {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let texts = [("iss", &self.iss), ("sub", &self.sub), ("aud", &self.aud), ("jti", &self.jti)];
        for (name, value) in texts {
            if let Some(value) = value.as_ref().filter(|_| !self.extra.contains_key(name)) {
                map.serialize_entry(name, value)?;
            }
        }
        for (name, value) in [("iat", self.iat), ("exp", self.exp)] {
            if !self.extra.contains_key(name) {
                map.serialize_entry(name, &value)?;
            }
        }
        for (name, value) in &self.extra {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Seconds since 1970 (NumericDate, RFC 7519 section 2); before that, 0.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
