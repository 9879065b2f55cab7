//! Proof of possession (RFC 9449): a JWT in the header `DPoP`, signed for one request with the key that the token is bound
//! to; and the nonces that servers put into it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::HeaderMap;
use url::Url;

use super::{
    Issuer,
    jwk::{PublicKey, digest, short},
    jws::{Jwt, Problem, problem},
    keys::random_text,
};

/// What a proof has to be for.
pub(super) struct Request<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) method: &'a str,
    /// The URLs of the endpoint, each of which will do.
    pub(super) urls: &'a [String],
    /// The access token beside it, at a protected resource.
    pub(super) access_token: Option<&'a str>,
    pub(super) nonces: Option<&'a Nonces>,
}

/// Why a proof is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is no good.
    Invalid(Problem),
    /// It has no nonce, or one that is no longer good: the answer brings another (RFC 9449 section 8).
    Nonce,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Invalid(problem)
    }
}

impl Issuer {
    /// The thumbprint of the key that the request proves to have; none if it has no proof.
    pub(super) fn check_proof(&self, request: &Request<'_>) -> Result<Option<String>, Refusal> {
        let mut values = request.headers.get_all("dpop").iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Problem("more than one DPoP header".to_owned()).into());
        }
        let Ok(text) = value.to_str() else { return Err(Problem("not a signed JWT".to_owned()).into()) };
        let jwt = Jwt::parse(text)?;
        let thumbprint = check(&jwt, request, self.now())?;
        if let Some(nonces) = request.nonces {
            let nonce = jwt.text("nonce").ok_or(Refusal::Nonce)?;
            if !nonces.accept(nonce, self.now()) {
                return Err(Refusal::Nonce);
            }
        }
        let Some(jti) = jwt.text("jti").filter(|jti| !jti.is_empty()) else {
            return Err(Problem("jti is missing".to_owned()).into());
        };
        let until = self.now().saturating_add(2 * WINDOW);
        self.used_proofs.first_time(&[&thumbprint, jti], until, self.now())?;
        Ok(Some(thumbprint))
    }
}

/// RFC 9449 section 4.3, all but nonce and single use. Returns the thumbprint of the key.
fn check(jwt: &Jwt<'_>, request: &Request<'_>, now: u64) -> Result<String, Problem> {
    if !jwt.typ.as_deref().is_some_and(|typ| typ.eq_ignore_ascii_case("dpop+jwt")) {
        return problem(format!("typ is {}, expected dpop+jwt", short(jwt.typ.as_deref().unwrap_or("missing"))));
    }
    if jwt.alg.is_symmetric() {
        return problem(format!("alg is {}; a proof is signed with a private key", jwt.alg.as_str()));
    }
    let Some(jwk) = &jwt.jwk else { return problem("jwk is missing in the header") };
    let key = PublicKey::from_jwk(jwk).map_err(|what| Problem(format!("jwk in the header: {what}")))?;
    if !key.suits(jwt.alg) {
        return problem(format!("alg {} does not go with the key in jwk ({})", jwt.alg.as_str(), key.describe()));
    }
    if !jwt.is_signed_by(&key) {
        return problem("the signature is not by the key in jwk");
    }
    let Some(htm) = jwt.text("htm") else { return problem("htm is missing") };
    if htm != request.method {
        return problem(format!("htm is {}, and the request is a {}", short(htm), request.method));
    }
    let Some(htu) = jwt.text("htu") else { return problem("htu is missing") };
    let Some(told) = plain(htu) else { return problem(format!("htu is {}, which is no URL", short(htu))) };
    if !request.urls.iter().any(|url| plain(url).as_ref() == Some(&told)) {
        return problem(format!("htu is {}, expected {}", short(htu), request.urls.join(" or ")));
    }
    let Some(iat) = jwt.time("iat")? else { return problem("iat is missing") };
    if iat > now.saturating_add(WINDOW) {
        return problem(format!("iat is {} s in the future; {WINDOW} s are accepted: check the clocks", iat - now));
    }
    if now > iat.saturating_add(WINDOW) {
        return problem(format!("iat is {} s ago; a proof is good for {WINDOW} s", now - iat));
    }
    if let Some(token) = request.access_token {
        let Some(ath) = jwt.text("ath") else { return problem("ath is missing") };
        if ath != digest(token.as_bytes()) {
            return problem("ath is the hash of another access token");
        }
    }
    Ok(key.thumbprint())
}

/// The URL without query and fragment, in its normal form (RFC 9449 section 4.3).
fn plain(text: &str) -> Option<String> {
    let mut url = Url::parse(text).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    url.has_host().then(|| url.into())
}

/// How long a nonce is good, and for how many proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoncePolicy {
    /// For how long, in whole seconds.
    pub lifetime: Duration,
    /// For how many proofs; at least one.
    pub uses: u32,
}

impl Default for NoncePolicy {
    /// Five minutes and any number of proofs that a test will send.
    fn default() -> Self {
        Self { lifetime: Duration::from_secs(300), uses: 1_000_000 }
    }
}

/// The nonces of one server: those of the token endpoint are no good at the protected resource, nor the other way round.
pub(super) struct Nonces {
    policy: NoncePolicy,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: HashMap<String, Nonce>,
    /// In the order in which they were made; the oldest goes when there are too many.
    order: VecDeque<String>,
}

struct Nonce {
    made: u64,
    handed_out: u32,
    used: u32,
}

impl Nonces {
    pub(super) fn new(policy: NoncePolicy) -> Self {
        Self { policy: NoncePolicy { uses: policy.uses.max(1), ..policy }, state: Mutex::default() }
    }

    /// A nonce for the next proof: the latest, while half of its life and of its uses are left.
    pub(super) fn current(&self, now: u64) -> String {
        let (half_life, half_uses) = (self.policy.lifetime.as_secs() / 2, self.policy.uses.div_ceil(2));
        let mut state = self.state();
        if let Some(latest) = state.order.back().cloned()
            && let Some(nonce) = state.live.get_mut(&latest)
            && now.saturating_sub(nonce.made) <= half_life
            && nonce.handed_out < half_uses
            && nonce.used < half_uses
        {
            nonce.handed_out += 1;
            return latest;
        }
        let text = random_text::<16>();
        state.live.insert(text.clone(), Nonce { made: now, handed_out: 1, used: 0 });
        state.order.push_back(text.clone());
        if state.order.len() > LIVE
            && let Some(oldest) = state.order.pop_front()
        {
            state.live.remove(&oldest);
        }
        text
    }

    /// Uses the nonce once, if it is still good.
    fn accept(&self, text: &str, now: u64) -> bool {
        let mut state = self.state();
        let Some(nonce) = state.live.get_mut(text) else { return false };
        let good = nonce.used < self.policy.uses && now.saturating_sub(nonce.made) <= self.policy.lifetime.as_secs();
        nonce.used = nonce.used.saturating_add(1);
        good
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far `iat` may be from now, in seconds, either way.
const WINDOW: u64 = 60;

/// How many nonces are remembered.
const LIVE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// The proof of RFC 9449 section 4.1, for the token endpoint.
    const TOKEN_PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";

    /// The proof of section 7.1, for a protected resource, and the token beside it.
    const RESOURCE_PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";

    #[test]
    fn the_examples_of_rfc_9449_are_accepted() {
        let headers = HeaderMap::new();
        let at = |url: &str, method, token| {
            let urls = [url.to_owned()];
            let request = Request { headers: &headers, method, urls: &urls, access_token: token, nonces: None };
            let (proof, now) =
                if token.is_some() { (RESOURCE_PROOF, 1_562_262_618) } else { (TOKEN_PROOF, 1_562_262_616) };
            check(&Jwt::parse(proof).unwrap(), &request, now).map_err(|problem| problem.0)
        };
        // Section 6.1 has the thumbprint of this key.
        let jkt = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I".to_owned();
        assert_eq!(at("https://server.example.com/token", "POST", None), Ok(jkt.clone()));
        let resource = "https://resource.example.org/protectedresource";
        assert_eq!(at(resource, "GET", Some(TOKEN)), Ok(jkt));
        assert!(at(resource, "GET", Some("x")).unwrap_err().contains("ath is the hash of another"));
        assert!(at("https://server.example.com/token", "GET", None).unwrap_err().contains("htm is POST"));
        assert!(at("https://server.example.com/other", "POST", None).unwrap_err().contains("htu is https://server"));
    }

    #[test]
    fn urls_are_compared_without_what_means_nothing() {
        assert_eq!(plain("HTTPS://Server.Example:443/a?b=c#d"), plain("https://server.example/a"));
        assert_ne!(plain("https://server.example/a"), plain("https://server.example/a/"));
        assert_ne!(plain("https://server.example/a"), plain("http://server.example/a"));
        assert_eq!(plain("data:,x"), None);
        assert_eq!(plain("server.example/a"), None);
    }

    #[test]
    fn a_nonce_is_good_for_a_time_and_a_number_of_proofs() {
        let nonces = Nonces::new(NoncePolicy { lifetime: Duration::from_secs(60), uses: 4 });
        let first = nonces.current(100);
        assert_eq!(nonces.current(130), first);
        assert_ne!(nonces.current(131), first);
        assert!((0..4).all(|_| nonces.accept(&first, 160)));
        assert!(!nonces.accept(&first, 160) && !nonces.accept("x", 160));
        let second = nonces.current(131);
        assert!(nonces.accept(&second, 191) && !nonces.accept(&second, 192));
        let single = Nonces::new(NoncePolicy { uses: 1, ..NoncePolicy::default() });
        let (one, two) = (single.current(0), single.current(0));
        assert!(one != two && single.accept(&one, 0) && !single.accept(&one, 0) && single.accept(&two, 0));
        for _ in 0..2 * LIVE {
            single.current(0);
        }
        assert_eq!(single.state().live.len(), LIVE);
    }
}
