//! What the server remembers of what it issued: opaque tokens, refresh tokens, and which tokens are revoked.
//! Tokens themselves are kept as digests, and what has expired is swept away.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::claims::{Audience, Claims};

/// A token that can be looked up, but not read back.
type Fingerprint = [u8; 32];

#[derive(Default)]
pub(super) struct Ledger {
    opaque: HashMap<Fingerprint, Claims>,
    refresh: HashMap<Fingerprint, Refresh>,
    /// `jti` of the revoked access tokens, and when they would have expired.
    revoked: HashMap<String, u64>,
    /// How many entries make the next sweep worth its while.
    sweep_at: usize,
}

/// What a refresh token is good for.
#[derive(Clone)]
pub(super) struct Refresh {
    pub(super) iss: String,
    pub(super) client_id: String,
    pub(super) scope: Option<String>,
    pub(super) aud: Audience,
    pub(super) exp: u64,
}

impl Ledger {
    pub(super) fn remember(&mut self, token: &str, claims: Claims, now: u64) {
        self.sweep(now);
        self.opaque.insert(fingerprint(token), claims);
    }

    pub(super) fn opaque(&self, token: &str) -> Option<Claims> {
        self.opaque.get(&fingerprint(token)).cloned()
    }

    pub(super) fn revoke(&mut self, claims: &Claims, now: u64) {
        self.sweep(now);
        self.revoked.insert(claims.jti.clone(), claims.exp);
    }

    pub(super) fn is_revoked(&self, jti: &str) -> bool {
        self.revoked.contains_key(jti)
    }

    pub(super) fn remember_refresh(&mut self, token: &str, refresh: Refresh, now: u64) {
        self.sweep(now);
        self.refresh.insert(fingerprint(token), refresh);
    }

    /// What the refresh token is good for, if it is good at all.
    pub(super) fn refresh(&self, token: &str, now: u64) -> Option<Refresh> {
        self.refresh.get(&fingerprint(token)).filter(|refresh| now < refresh.exp).cloned()
    }

    /// Ends the refresh token. False: somebody else has used it up in the meantime.
    pub(super) fn forget_refresh(&mut self, token: &str) -> bool {
        self.refresh.remove(&fingerprint(token)).is_some()
    }

    /// Forgets what has expired, seldom enough that it costs next to nothing for each token.
    fn sweep(&mut self, now: u64) {
        if self.len() < self.sweep_at.max(SWEEP_FROM) {
            return;
        }
        self.opaque.retain(|_, claims| now < claims.exp);
        self.refresh.retain(|_, refresh| now < refresh.exp);
        self.revoked.retain(|_, exp| now < *exp);
        self.sweep_at = self.len() * 2;
    }

    fn len(&self) -> usize {
        self.opaque.len() + self.refresh.len() + self.revoked.len()
    }
}

fn fingerprint(token: &str) -> Fingerprint {
    Sha256::digest(token).into()
}

const SWEEP_FROM: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_expired_is_swept_away() {
        let mut ledger = Ledger::default();
        let claims = |exp| Claims {
            iss: String::new(),
            sub: String::new(),
            client_id: String::new(),
            aud: Audience::Many(Vec::new()),
            exp,
            iat: 0,
            jti: String::new(),
            scope: None,
            cnf: None,
        };
        for n in 0..5 * SWEEP_FROM as u64 {
            ledger.remember(&n.to_string(), claims(n + 10), n);
        }
        assert!(ledger.len() <= SWEEP_FROM, "{}", ledger.len());
        let last = 5 * SWEEP_FROM as u64 - 1;
        assert_eq!(ledger.opaque(&last.to_string()).map(|claims| claims.exp), Some(last + 10));
    }
}
