//! The claims of an assertion (RFC 7521 section 5, RFC 7523 section 3), and the memory of those that were used.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    Issuer,
    jwk::short,
    jws::{Jwt, Problem, problem},
};

/// What an assertion has to say.
pub(super) struct Expected<'a> {
    /// One of these has to be in `aud`.
    pub(super) audiences: &'a [String],
    /// How far away `exp` may be, in seconds.
    pub(super) longest: u64,
    /// Whether there has to be a `jti`.
    pub(super) jti: Single,
}

/// Whether an assertion is good for one use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Single {
    /// It is, and `jti` has to be there.
    Required,
    /// It is if it has a `jti`.
    IfNamed,
    /// It is a credential that is presented again and again, as a projected service-account token is.
    Never,
}

impl Issuer {
    /// Checks all claims but `iss` and `sub`, for an assertion whose signature is checked; then notes that it was used.
    pub(super) fn check_claims(&self, jwt: &Jwt<'_>, expected: &Expected<'_>) -> Result<(), Problem> {
        let now = self.now();
        if let Some(typ) = jwt.typ.as_deref().filter(|typ| OTHER_KINDS.contains(&typ.to_ascii_lowercase().as_str())) {
            return problem(format!("typ is {typ}: a JWT for another purpose"));
        }
        check_audience(jwt, expected.audiences)?;
        let Some(exp) = jwt.time("exp")? else { return problem("exp is missing") };
        if exp.saturating_add(LEEWAY) <= now {
            return problem(format!("it expired {} s ago (exp)", now.saturating_sub(exp)));
        }
        if exp > now.saturating_add(expected.longest).saturating_add(LEEWAY) {
            let (far, longest) = (exp.saturating_sub(now), expected.longest);
            return problem(format!("exp is {far} s away; at most {longest} s are accepted"));
        }
        for name in ["nbf", "iat"] {
            if let Some(time) = jwt.time(name)?.filter(|time| *time > now.saturating_add(LEEWAY)) {
                return problem(format!("{name} is {} s in the future: check the clocks", time.saturating_sub(now)));
            }
        }
        match (expected.jti, jwt.text("jti")) {
            (Single::Required, None | Some("")) => problem("jti is missing"),
            (Single::Required | Single::IfNamed, Some(jti)) => {
                let who = jwt.text("iss").unwrap_or_default();
                self.used.first_time(&[who, jti], exp.saturating_add(LEEWAY), now)
            }
            (Single::IfNamed, None) | (Single::Never, _) => Ok(()),
        }
    }
}

fn check_audience(jwt: &Jwt<'_>, expected: &[String]) -> Result<(), Problem> {
    let named: Vec<&str> = match jwt.claims.get("aud") {
        None => return problem("aud is missing"),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        Some(_) => return problem("aud is neither a string nor a list of strings"),
    };
    if named.iter().any(|aud| expected.iter().any(|one| one == aud)) {
        return Ok(());
    }
    let mut wanted = expected.iter();
    let issuer = wanted.next().map(String::as_str).unwrap_or_default();
    let rest: Vec<&str> = wanted.map(String::as_str).collect();
    let named = short(&named.join(", "));
    problem(format!("aud is {named}, expected the issuer {issuer} or the token endpoint {}", rest.join(" or ")))
}

/// What was used and may not be used again, until it would have expired anyway. It has a bound.
#[derive(Default)]
pub(super) struct Used(Mutex<HashMap<[u8; 32], u64>>);

impl Used {
    /// Notes the use; a second one is a problem. When the memory is full of what may still be replayed, nothing new is
    /// accepted: to forget one would let it be used again.
    pub(super) fn first_time(&self, parts: &[&str], until: u64, now: u64) -> Result<(), Problem> {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MEMORY {
            known.retain(|_, until| now < *until);
        }
        let full = known.len() >= MEMORY;
        match known.entry(hash.finalize().into()) {
            std::collections::hash_map::Entry::Occupied(mut entry) => {
                if now < *entry.get() {
                    return problem("jti was used before: each JWT is good for one request");
                }
                entry.insert(until);
            }
            std::collections::hash_map::Entry::Vacant(_) if full => {
                return problem("too many JWTs at once: the memory of used jti is full, try again later");
            }
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(until);
            }
        }
        Ok(())
    }
}

/// How far clocks may be apart, in seconds.
pub(super) const LEEWAY: u64 = 30;

/// How far away `exp` may be in an assertion that somebody made for one request, in seconds.
pub(super) const LONGEST: u64 = 3600;

/// The same for a token of a trusted issuer, which is presented many times.
pub(super) const LONGEST_FEDERATED: u64 = 24 * 3600;

/// How many uses are remembered.
const MEMORY: usize = 100_000;

/// RFC 8725 section 3.11: a JWT for one purpose is not taken for another.
const OTHER_KINDS: [&str; 4] = ["at+jwt", "application/at+jwt", "dpop+jwt", "application/dpop+jwt"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_has_a_bound_and_forgets_only_what_has_expired() {
        let used = Used::default();
        for n in 0..MEMORY {
            used.first_time(&["x", &n.to_string()], 100 + u64::from(n == 7), 0).unwrap();
        }
        assert!(used.first_time(&["x", "new"], 200, 99).unwrap_err().0.contains("full"));
        assert!(used.first_time(&["x", "7"], 200, 99).unwrap_err().0.contains("used before"));
        used.first_time(&["x", "new"], 200, 100).unwrap();
        assert!(used.first_time(&["x", "7"], 200, 100).unwrap_err().0.contains("used before"));
        used.first_time(&["x", "8"], 200, 100).unwrap();
        // Where one part ends and the next begins matters.
        used.first_time(&["x8", ""], 200, 100).unwrap();
    }
}
