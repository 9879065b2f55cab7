//! What the server remembers of what it issued: opaque tokens, refresh tokens, and which tokens are revoked.
//! Tokens themselves are kept as digests, and what has expired is swept away.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::claims::{Audience, Claims, Confirmation};

/// A token that can be looked up, but not read back.
type Fingerprint = [u8; 32];

#[derive(Default)]
pub(super) struct Ledger {
    opaque: HashMap<Fingerprint, Claims>,
    refresh: HashMap<Fingerprint, Refresh>,
    /// `jti` of the revoked access tokens, and when they would have expired.
    revoked: HashMap<String, u64>,
    /// `jti` of the access tokens that came with a refresh token, with its family and when they expire.
    families: HashMap<String, (String, u64)>,
    /// How many entries make the next sweep worth its while.
    sweep_at: usize,
}

/// What a refresh token is good for.
#[derive(Clone)]
pub(super) struct Refresh {
    pub(super) iss: String,
    pub(super) client_id: String,
    /// Whom its access tokens stand for.
    pub(super) sub: String,
    pub(super) scope: Option<String>,
    pub(super) aud: Audience,
    /// What a request must prove that uses it, for a public client.
    pub(super) cnf: Option<Confirmation>,
    pub(super) exp: u64,
    /// All that came of one grant.
    pub(super) family: String,
    /// It has been used. It is kept until it expires, so that a second use is noticed.
    pub(super) used: bool,
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

    /// Remembers a refresh token, and `jti` and `exp` of the access token that came with it.
    pub(super) fn remember_refresh(&mut self, token: &str, refresh: Refresh, access: (&str, u64), now: u64) {
        self.sweep(now);
        self.families.insert(access.0.to_owned(), (refresh.family.clone(), access.1));
        self.refresh.insert(fingerprint(token), refresh);
    }

    /// What the refresh token is good for, if it has not expired; it may have been used.
    pub(super) fn refresh(&self, token: &str, now: u64) -> Option<Refresh> {
        self.refresh.get(&fingerprint(token)).filter(|refresh| now < refresh.exp).cloned()
    }

    /// Uses the refresh token up. False: somebody else has done so in the meantime.
    pub(super) fn use_refresh(&mut self, token: &str) -> bool {
        match self.refresh.get_mut(&fingerprint(token)) {
            Some(refresh) => !std::mem::replace(&mut refresh.used, true),
            None => false,
        }
    }

    /// Ends all that came of one grant.
    pub(super) fn revoke_family(&mut self, family: &str) {
        self.refresh.retain(|_, refresh| refresh.family != family);
        let revoked = &mut self.revoked;
        self.families.retain(|jti, (of, exp)| {
            let keep = of != family;
            if !keep {
                revoked.insert(jti.clone(), *exp);
            }
            keep
        });
    }

    /// Forgets what has expired, seldom enough that it costs next to nothing for each token.
    fn sweep(&mut self, now: u64) {
        if self.len() < self.sweep_at.max(SWEEP_FROM) {
            return;
        }
        self.opaque.retain(|_, claims| now < claims.exp);
        self.refresh.retain(|_, refresh| now < refresh.exp);
        self.revoked.retain(|_, exp| now < *exp);
        self.families.retain(|_, (_, exp)| now < *exp);
        self.sweep_at = self.len() * 2;
    }

    fn len(&self) -> usize {
        self.opaque.len() + self.refresh.len() + self.revoked.len() + self.families.len()
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
            act: None,
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
