//! Tokens that are bound to a key (RFC 9449): a proof with each token request, and a signer for what the token is used for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::{
    config::Dpop,
    credential::{
        FetchError, Outgoing, Signature, Signer, SigningError,
        signing::{secret, unsigned, unusable},
    },
    jose::{Prover, SigningKey, ath},
    secret::Secret,
};

/// A profile's key, and what servers want to see in its proofs.
#[derive(Debug)]
pub(super) struct Binding {
    /// `dpop_key`'s text, and the prover that was made from it; for a key of our own there is no text.
    prover: Mutex<Option<(Option<Secret>, Arc<Prover>)>>,
    /// The nonce that the token endpoint last gave.
    nonce: Mutex<Option<String>>,
    /// Those of resource servers.
    nonces: Arc<Nonces>,
}

/// The nonces of resource servers, by origin (RFC 9449 9): read for each request, written when a server gives a new one.
#[derive(Debug, Default)]
struct Nonces(ArcSwap<HashMap<Box<str>, Box<str>>>);

impl Nonces {
    fn of(&self, origin: &str) -> Option<Box<str>> {
        self.0.load().get(origin).cloned()
    }

    fn put(&self, origin: &str, nonce: &str) {
        if self.0.load().get(origin).is_some_and(|known| &**known == nonce) {
            return;
        }
        self.0.rcu(|nonces| {
            let mut next = HashMap::clone(nonces);
            // A wildcard route may meet any number of hosts.
            if next.len() >= MAX_ORIGINS && !next.contains_key(origin) {
                next.clear();
            }
            next.insert(origin.into(), nonce.into());
            next
        });
    }
}

impl Binding {
    pub(super) fn new() -> Self {
        Self { prover: Mutex::new(None), nonce: Mutex::new(None), nonces: Arc::default() }
    }

    /// The prover with the profile's key, which is read anew for each token.
    ///
    /// # Errors
    /// The key cannot be read or used.
    pub(super) async fn prover(&self, config: &Dpop, profile: &str) -> Result<Arc<Prover>, FetchError> {
        let text = match &config.key {
            Some(source) => Some(secret(source, "dpop_key", profile).await?),
            None => None,
        };
        let mut known = self.prover.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, prover)) = known.as_ref().filter(|(from, _)| *from == text) {
            return Ok(Arc::clone(prover));
        }
        let key = match &text {
            Some(text) => SigningKey::parse(text, None, None),
            None => SigningKey::generate(),
        };
        let prover = key.and_then(|key| Prover::new(Arc::new(key)));
        let prover = Arc::new(prover.map_err(|error| unusable(&error, "dpop_key", profile))?);
        *known = Some((text, Arc::clone(&prover)));
        Ok(prover)
    }

    /// The proof of one token request, and the nonce in it.
    ///
    /// # Errors
    /// It cannot be signed.
    pub(super) fn prove(
        &self,
        prover: &Prover,
        method: &str,
        url: &Url,
    ) -> Result<(HeaderValue, Option<String>), FetchError> {
        let nonce = self.nonce.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let proof = prover.proof(method, &htu(url), None, nonce.as_deref()).map_err(unsigned)?;
        Ok((proof, nonce))
    }

    /// Keeps the nonce of an answer; whether it is another than the request had. What is kept may be the same already:
    /// requests for many callers go out at once.
    pub(super) fn learn(&self, headers: &HeaderMap, used: Option<&str>) -> bool {
        let Some(nonce) = headers.get(DPOP_NONCE).and_then(legal_nonce) else { return false };
        *self.nonce.lock().unwrap_or_else(PoisonError::into_inner) = Some(nonce.to_owned());
        used != Some(nonce)
    }

    /// What signs requests with this token.
    ///
    /// # Errors
    /// The token cannot stand in a header field.
    pub(super) fn signer(&self, prover: Arc<Prover>, token: &Secret) -> Result<Arc<dyn Signer>, String> {
        let text = Secret::new(format!("DPoP {}", token.expose()));
        let mut authorization = HeaderValue::from_str(text.expose())
            .map_err(|_| "a token that cannot stand in a header field".to_owned())?;
        authorization.set_sensitive(true);
        Ok(Arc::new(Bound { prover, authorization, ath: ath(token), nonces: Arc::clone(&self.nonces) }))
    }
}

/// A token with the key that it is bound to.
struct Bound {
    prover: Arc<Prover>,
    authorization: HeaderValue,
    ath: String,
    nonces: Arc<Nonces>,
}

impl Signer for Bound {
    fn sign(&self, request: &Outgoing<'_>) -> Result<Signature, SigningError> {
        let failed = |detail: String| SigningError { detail, hint: "report it".to_owned() };
        let authority = std::str::from_utf8(request.authority).map_err(|_| failed("Host is no text".to_owned()))?;
        let origin = origin(request.scheme, authority);
        let path = request.path_and_query.split('?').next().unwrap_or_default();
        let nonce = self.nonces.of(&origin);
        let proof = self.prover.proof(request.method, &[&*origin, path].concat(), Some(&self.ath), nonce.as_deref());
        let proof = proof.map_err(|error| failed(error.to_string()))?;
        Ok(Signature::from_iter([("Authorization", self.authorization.clone()), ("DPoP", proof)]))
    }

    fn learn(&self, scheme: &str, authority: &str, nonce: &HeaderValue) -> bool {
        let Some(nonce) = legal_nonce(nonce) else { return false };
        let origin = origin(scheme, authority);
        let is_new = self.nonces.of(&origin).as_deref() != Some(nonce);
        self.nonces.put(&origin, nonce);
        is_new
    }
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("prover", &self.prover).finish_non_exhaustive()
    }
}

/// `https://api.example.com`.
fn origin(scheme: &str, authority: &str) -> String {
    [scheme, "://", authority].concat()
}

/// The token endpoint as a proof names it: without query and fragment (RFC 9449 4.2).
fn htu(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// A nonce as RFC 9449 8.1 has it: visible ASCII without `"` and `\`, and not too long.
fn legal_nonce(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let legal = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    (!text.is_empty() && text.len() <= MAX_NONCE && text.bytes().all(legal)).then_some(text)
}

/// RFC 9449 8.
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// The proof's header field.
pub(super) const DPOP: HeaderName = HeaderName::from_static("dpop");
const MAX_NONCE: usize = 512;
/// So many resource servers' nonces are remembered.
const MAX_ORIGINS: usize = 1000;
