//! Tokens on behalf of many: a slot for each subject whose own token came with a request (RFC 8693).
//!
//! Found by a hash of the subject's token, and by nothing else: what one subject has, no other gets. Bounded in number;
//! whoever was not seen for a while is forgotten, with the tokens.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};

use super::{Policy, Slot};
use crate::{
    clock::{Clock, Moment},
    credential::Credential,
    metrics::ProfileMetrics,
    secret::Secret,
};

/// What makes the credential of a subject from the token that it came with.
pub type Exchange = dyn Fn(Secret) -> Arc<dyn Credential> + Send + Sync;

/// The slots of a profile's subjects.
pub struct Subjects {
    policy: Policy,
    most: usize,
    exchange: Box<Exchange>,
    metrics: Arc<ProfileMetrics>,
    clock: Clock,
    /// Read without a lock; who adds one makes the next map.
    known: ArcSwap<HashMap<Key, Arc<Subject>>>,
    adding: Mutex<()>,
}

/// SHA-256 of a subject's token.
type Key = [u8; 32];

struct Subject {
    slot: Arc<Slot>,
    /// Milliseconds since the clock's zero.
    last_seen: AtomicU64,
}

impl Subjects {
    /// No subjects yet, at most so many.
    pub fn new(
        policy: Policy,
        most: usize,
        exchange: Box<Exchange>,
        metrics: Arc<ProfileMetrics>,
        clock: Clock,
    ) -> Self {
        let idle_after = policy.idle_after.map_or(FORGOTTEN_AFTER, |idle| idle.min(FORGOTTEN_AFTER));
        let policy = Policy { prefetch: false, idle_after: Some(idle_after), ..policy };
        Self { policy, most, exchange, metrics, clock, known: ArcSwap::default(), adding: Mutex::new(()) }
    }

    /// The slot of the subject that has this token. Must be called on a tokio runtime: a new slot has a task.
    pub fn of(&self, token: &str) -> Arc<Slot> {
        let key: Key = Sha256::digest(token).into();
        let now = self.clock.now();
        if let Some(subject) = self.known.load().get(&key) {
            subject.last_seen.store(millis(now), Ordering::Relaxed);
            return Arc::clone(&subject.slot);
        }
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known.load();
        // Another request of the same subject may have been faster.
        if let Some(subject) = known.get(&key) {
            return Arc::clone(&subject.slot);
        }
        let mut next = HashMap::clone(&known);
        next.retain(|_, subject| now - seen(subject) < FORGOTTEN_AFTER);
        if next.len() >= self.most {
            make_room(&mut next, self.most);
        }
        let credential = (self.exchange)(Secret::new(token));
        let slot = Arc::new(Slot::start(self.policy.clone(), credential, Arc::clone(&self.metrics), self.clock));
        let subject = Subject { slot: Arc::clone(&slot), last_seen: AtomicU64::new(millis(now)) };
        next.insert(key, Arc::new(subject));
        self.known.store(Arc::new(next));
        slot
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.known.load().len()
    }
}

/// Takes out a tenth: those who have no token before those who have, and of them who was not seen for longest. Whoever
/// sends tokens that are none pushes out their like.
fn make_room(known: &mut HashMap<Key, Arc<Subject>>, most: usize) {
    let mut by_worth: Vec<(bool, u64, Key)> = known
        .iter()
        .map(|(key, subject)| (subject.slot.is_ready(), subject.last_seen.load(Ordering::Relaxed), *key))
        .collect();
    by_worth.sort_unstable();
    let left = most.saturating_sub((most / 10).max(1));
    let surplus = known.len().saturating_sub(left);
    for (_, _, key) in by_worth.iter().take(surplus) {
        known.remove(key);
    }
}

fn seen(subject: &Subject) -> Moment {
    Moment::from_zero(Duration::from_millis(subject.last_seen.load(Ordering::Relaxed)))
}

fn millis(moment: Moment) -> u64 {
    u64::try_from(moment.since_zero().as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Subjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subjects").field("count", &self.count()).field("most", &self.most).finish_non_exhaustive()
    }
}

/// A subject that was not seen for so long is forgotten, and its token not renewed.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use async_trait::async_trait;
    use tokio::time::advance;

    use super::*;
    use crate::{
        credential::{FetchError, FetchErrorKind, Fetched},
        metrics::Metrics,
        telemetry::RequestId,
        token::{Form, tests::policy},
    };

    /// Gives each subject a token with its name in it, except those that are called "bad".
    #[derive(Debug)]
    struct Named(Secret, Arc<AtomicUsize>);

    #[async_trait]
    impl Credential for Named {
        async fn fetch(&self) -> Result<Fetched, FetchError> {
            self.1.fetch_add(1, Ordering::SeqCst);
            if self.0.expose().starts_with("bad") {
                let (detail, hint) = ("no".to_owned(), String::new());
                return Err(FetchError { kind: FetchErrorKind::InvalidGrant, detail, hint, retry_after: None });
            }
            let token = Secret::new(format!("for-{}", self.0.expose()));
            Ok(Fetched::token(token, Some(Duration::from_secs(60))))
        }
    }

    fn subjects(most: usize) -> (Subjects, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let exchange: Box<Exchange> = Box::new(move |subject| Arc::new(Named(subject, Arc::clone(&counted))));
        let metrics = Metrics::new().profile(&"p".into());
        (Subjects::new(policy(), most, exchange, metrics, Clock::tokio()), calls)
    }

    async fn token(subjects: &Subjects, subject: &str) -> Option<String> {
        match &subjects.of(subject).get(RequestId::new()).await.ok()?.form {
            Form::Header(value) => Some(value.to_str().unwrap().to_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_subject_has_its_own_token_and_one_exchange() {
        let (subjects, calls) = subjects(10);
        for _ in 0..3 {
            for name in ["alice", "bob"] {
                assert_eq!(token(&subjects, name).await, Some(format!("Bearer for-{name}")));
            }
        }
        assert_eq!((calls.load(Ordering::SeqCst), subjects.count()), (2, 2));
        assert!(!format!("{subjects:?}").contains("alice"));
    }

    #[tokio::test(start_paused = true)]
    async fn they_are_bounded_and_those_without_a_token_go_first() {
        let (subjects, calls) = subjects(20);
        assert!(token(&subjects, "alice").await.is_some());
        for number in 0..500 {
            assert_eq!(token(&subjects, &format!("bad-{number}")).await, None);
            assert!(subjects.count() <= 20);
        }
        // Who sends tokens that are none has not pushed her out.
        let before = calls.load(Ordering::SeqCst);
        assert!(token(&subjects, "alice").await.is_some());
        assert_eq!(calls.load(Ordering::SeqCst), before);
        for number in 0..100 {
            assert!(token(&subjects, &format!("good-{number}")).await.is_some());
        }
        assert!(subjects.count() <= 20);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_not_seen_for_long_is_forgotten() {
        let (subjects, calls) = subjects(10);
        token(&subjects, "alice").await;
        advance(FORGOTTEN_AFTER * 2).await;
        let renewed = calls.load(Ordering::SeqCst);
        token(&subjects, "bob").await;
        assert_eq!(subjects.count(), 1);
        // While she was away her token was renewed for a while, and then not any more.
        advance(FORGOTTEN_AFTER * 2).await;
        assert!(calls.load(Ordering::SeqCst) <= renewed + 1 + 10, "{calls:?} after {renewed}");
    }
}
