//! The one place where a profile's current token lives: lock-free to read, written by one task.
//!
//! Requests read [`Slot::usable`]; those that find nothing join the round that is in flight, or ask for one, and all of
//! them share its result, also a failure. What only waiters and the task touch (`Rounds`) sits behind a watch channel.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use super::{refresh, schedule};
use crate::{
    clock::{Clock, Moment},
    config::Placement,
    credential::{Credential, FetchError, Fetched, Signer},
    metrics::ProfileMetrics,
    secret::Secret,
    telemetry::RequestId,
};

/// What a profile yielded: a header value, when it ends, and which one it is.
#[derive(Clone, Debug)]
pub struct Token {
    /// What requests carry of it.
    pub form: Form,
    /// Counts up from 1 within a slot: says which token an upstream rejected.
    pub serial: u64,
    /// When it was asked for.
    pub fetched_at: Moment,
    /// From here on it is not sent.
    pub expires_at: Moment,
    /// When it is renewed in the background.
    pub refresh_at: Moment,
}

impl Token {
    /// Whether it has an end.
    pub fn expires(&self) -> bool {
        self.expires_at - self.fetched_at < Fetched::FOREVER
    }
}

/// A token in the form that requests carry.
#[derive(Clone, Debug)]
pub enum Form {
    /// The header's value with its prefix, marked sensitive.
    Header(HeaderValue),
    /// The query parameter's value, percent-encoded.
    Query(Secret),
    /// Each request is signed.
    Signer(Arc<dyn Signer>),
}

impl Form {
    /// Whether requests carry the very same text of both, or are signed with one key: what was refused once is refused
    /// again.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Header(one), Self::Header(other)) => one == other,
            (Self::Query(one), Self::Query(other)) => one == other,
            (Self::Signer(one), Self::Signer(other)) => one.key().is_some_and(|key| other.key() == Some(key)),
            _ => false,
        }
    }
}

/// How a slot behaves: the part of a profile that a token's life depends on.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The profile's name, for logs.
    pub profile: Arc<str>,
    /// Where requests carry the token.
    pub placement: Placement,
    /// Fetch at start.
    pub prefetch: bool,
    /// Renew so long before expiry.
    pub refresh_before: Duration,
    /// Lifetime of a token that does not tell.
    pub default_token_lifetime: Duration,
    /// How long a request waits.
    pub token_wait: Duration,
    /// Unused for so long, the token is no longer renewed.
    pub idle_after: Option<Duration>,
    /// Rejections cost at most one token request in this time.
    pub reject_interval: Duration,
}

/// A profile's slot, with the task that renews it. Dropping the last handle ends the task.
#[derive(Debug)]
pub struct Slot {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// Why there is no token for a request.
#[derive(Clone, Debug)]
pub enum Unavailable {
    /// The last token request failed and the next one is not due yet.
    Failed {
        /// What the provider said, or what kept us from asking it.
        error: Arc<FetchError>,
        /// When the next try is due.
        retry_after: Duration,
    },
    /// No answer within `token_wait`; the token request goes on.
    StillWaiting {
        /// How long it was waited for.
        waited: Duration,
    },
}

/// What `/status` tells of a slot; never a token.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The current token's serial number, its age and the time it has left (`None`: it does not expire), if it is usable.
    pub token: Option<(u64, Duration, Option<Duration>)>,
    /// Whether a token request is under way.
    pub fetching: bool,
    /// Token requests that ended.
    pub rounds: u64,
    /// Failures since the last success.
    pub failures: u32,
    /// When the last token arrived and when it expires, if it does, by the wall clock of that moment.
    pub last_success: Option<(SystemTime, Option<SystemTime>)>,
    /// The last failure, unless a success came after it.
    pub last_error: Option<Arc<FetchError>>,
    /// How long until the next try, after a failure.
    pub retry_after: Option<Duration>,
}

/// What readers, waiters and the task share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) policy: Policy,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<ProfileMetrics>,
    pub(super) current: ArcSwapOption<Token>,
    pub(super) rounds: watch::Sender<Rounds>,
    pub(super) wake: Notify,
    /// Moment of the last use, in milliseconds since the clock's zero; kept up only where `idle_after` asks for it.
    last_used: AtomicU64,
    files: Vec<PathBuf>,
}

/// The token requests of a slot, one round each.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Rounds that began.
    pub(super) started: u64,
    /// Rounds that ended; one less than `started` while one is in flight.
    pub(super) finished: u64,
    /// When the last round began.
    pub(super) started_at: Option<Moment>,
    /// What the last round brought.
    pub(super) outcome: Option<Result<Arc<Token>, Arc<FetchError>>>,
    /// Before this moment a failure is not tried again.
    pub(super) retry_at: Moment,
    /// Failures since the last success.
    pub(super) failures: u32,
    /// When a rejection last asked for a round.
    pub(super) rejected_at: Option<Moment>,
    /// Somebody wants a round.
    pub(super) wanted: Option<Wanted>,
    /// When the last token arrived and when it expires, if it does, by the wall clock of that moment.
    pub(super) last_success: Option<(SystemTime, Option<SystemTime>)>,
}

/// Why a round is wanted, and who waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) reason: Reason,
    /// The request that waits, for the log.
    pub(super) request_id: Option<RequestId>,
}

/// Why a token is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// At start.
    Prefetch,
    /// A request needs one.
    Demand,
    /// The current one is due.
    Refresh,
    /// The last try failed and its back-off is over.
    Retry,
    /// An upstream rejected the current one.
    Rejected,
    /// A file that the credential is made from changed.
    SourceChanged,
}

impl Reason {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Prefetch => "prefetch",
            Self::Demand => "demand",
            Self::Refresh => "refresh",
            Self::Retry => "retry",
            Self::Rejected => "rejected",
            Self::SourceChanged => "source_changed",
        }
    }
}

/// Where a request that found no token goes.
enum Join {
    /// Wait for the end of this round.
    Wait(u64),
    /// There is something newer already, or nothing that waiting would bring.
    Settled,
}

impl Slot {
    /// Makes a slot and starts its task on the current tokio runtime.
    pub fn start(policy: Policy, credential: Arc<dyn Credential>, metrics: Arc<ProfileMetrics>, clock: Clock) -> Self {
        let shared = Arc::new(Shared {
            last_used: AtomicU64::new(millis(clock.now())),
            files: credential.files(),
            policy,
            clock,
            metrics,
            current: ArcSwapOption::empty(),
            rounds: watch::Sender::new(Rounds::default()),
            wake: Notify::new(),
        });
        let task = tokio::spawn(refresh::run(Arc::clone(&shared), credential)).abort_handle();
        Self { shared, task }
    }

    /// The current token if it may be sent now. Lock-free; what every request calls.
    pub fn usable(&self) -> Option<Arc<Token>> {
        let now = self.shared.clock.now();
        self.shared.touch(now);
        let token = self.shared.usable(now)?;
        if now >= token.refresh_at {
            // Overdue: the task slept with the machine, or stopped because nobody used the profile.
            self.shared.wake.notify_one();
        }
        Some(token)
    }

    /// The current token, or that of one shared fetch, waited for at most `token_wait`.
    ///
    /// # Errors
    /// The fetch failed (for everyone who waited), or did not end in time.
    pub async fn get(&self, request_id: RequestId) -> Result<Arc<Token>, Unavailable> {
        if let Some(token) = self.usable() {
            return Ok(token);
        }
        let shared = &self.shared;
        let mut rounds = shared.rounds.subscribe();
        let round = match shared.join_demand(request_id) {
            Join::Wait(round) => round,
            Join::Settled => return shared.settled(),
        };
        let asked = shared.clock.now();
        let ended = shared.end_of(&mut rounds, round).await;
        let waited = shared.clock.now() - asked;
        shared.metrics.token_wait.observe(waited.as_secs_f64());
        if ended { shared.settled() } else { Err(Unavailable::StillWaiting { waited }) }
    }

    /// An upstream rejected the token with this serial: a newer one, if there is one or if one fetch brings it.
    /// `None` where the rejection has to stand: the provider was asked for this too recently, or has nothing newer.
    pub async fn reject(&self, serial: u64, request_id: RequestId) -> Option<Arc<Token>> {
        let shared = &self.shared;
        let mut rounds = shared.rounds.subscribe();
        if let Join::Wait(round) = shared.join_rejected(serial, request_id) {
            // Whether it ended in time or not, we take what there is.
            shared.end_of(&mut rounds, round).await;
        }
        let newer = shared.settled().ok()?;
        (newer.serial > serial).then_some(newer)
    }

    /// A file that the credential is made from changed: fetch with the new content while the old token serves.
    pub fn source_changed(&self) {
        self.shared.want(Wanted { reason: Reason::SourceChanged, request_id: None });
    }

    /// The files that the credential is made from.
    pub fn files(&self) -> &[PathBuf] {
        &self.shared.files
    }

    /// Whether a token could be sent now, without counting as a use.
    pub fn is_ready(&self) -> bool {
        self.shared.usable(self.shared.clock.now()).is_some()
    }

    /// Whether the provider has answered, or failed to, at least once.
    pub fn has_answer(&self) -> bool {
        self.shared.rounds.borrow().finished > 0
    }

    /// Waits for the first answer.
    pub async fn first_answer(&self) {
        // The channel cannot close while we hold the slot.
        drop(self.shared.rounds.subscribe().wait_for(|r| r.finished > 0).await);
    }

    /// What `/status` tells.
    pub fn status(&self) -> Status {
        let now = self.shared.clock.now();
        let rounds = self.shared.rounds.borrow();
        let last_error = rounds.outcome.as_ref().and_then(|outcome| outcome.as_ref().err()).cloned();
        Status {
            token: self
                .shared
                .usable(now)
                .map(|t| (t.serial, now - t.fetched_at, t.expires().then(|| t.expires_at - now))),
            fetching: rounds.started > rounds.finished,
            rounds: rounds.finished,
            failures: rounds.failures,
            last_success: rounds.last_success,
            retry_after: last_error.is_some().then(|| rounds.retry_at - now),
            last_error,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    /// The current token if it may be sent at `now`.
    pub(super) fn usable(&self, now: Moment) -> Option<Arc<Token>> {
        let token = self.current.load();
        let token = token.as_ref()?;
        (now < token.expires_at).then(|| Arc::clone(token))
    }

    /// Whether nobody used the profile for `idle_after`.
    pub(super) fn is_idle(&self, now: Moment) -> bool {
        self.policy.idle_after.is_some_and(|idle_after| {
            let last_used = Moment::from_zero(Duration::from_millis(self.last_used.load(Ordering::Relaxed)));
            now - last_used >= idle_after
        })
    }

    fn touch(&self, now: Moment) {
        if self.policy.idle_after.is_some() {
            self.last_used.store(millis(now), Ordering::Relaxed);
        }
    }

    /// Joins the round in flight or asks for one, unless the provider is being left alone after a failure.
    fn join_demand(&self, request_id: RequestId) -> Join {
        let now = self.clock.now();
        let is_settled = |current: Option<&Token>| current.is_some_and(|token| now < token.expires_at);
        self.join(is_settled, |rounds| {
            let wanted = Wanted { reason: Reason::Demand, request_id: Some(request_id) };
            (!rounds.is_backing_off(now)).then_some(wanted)
        })
    }

    /// Joins the round in flight or asks for one, if this token is still the current one and `reject_interval` is over.
    fn join_rejected(&self, serial: u64, request_id: RequestId) -> Join {
        let now = self.clock.now();
        let is_settled = |current: Option<&Token>| current.is_none_or(|token| token.serial != serial);
        self.join(is_settled, |rounds| {
            let recent = rounds.rejected_at.is_some_and(|at| now - at < self.policy.reject_interval);
            if recent || rounds.is_backing_off(now) {
                return None;
            }
            rounds.rejected_at = Some(now);
            self.metrics.token_rejected.inc();
            Some(Wanted { reason: Reason::Rejected, request_id: Some(request_id) })
        })
    }

    /// Under the lock of the rounds: nothing to wait for where the current token settles it; else the round in flight
    /// or already wanted; else a new one, if `ask` wants it.
    fn join(
        &self,
        is_settled: impl FnOnce(Option<&Token>) -> bool,
        ask: impl FnOnce(&mut Rounds) -> Option<Wanted>,
    ) -> Join {
        let mut joined = Join::Settled;
        self.rounds.send_if_modified(|rounds| {
            if is_settled(self.current.load().as_deref()) {
                return false;
            }
            if rounds.started > rounds.finished {
                joined = Join::Wait(rounds.started);
            } else if rounds.wanted.is_some() {
                joined = Join::Wait(rounds.started + 1);
            } else if let Some(wanted) = ask(rounds) {
                rounds.wanted = Some(wanted);
                joined = Join::Wait(rounds.started + 1);
            }
            false // waiters need not wake up for a wish
        });
        self.wake.notify_one();
        joined
    }

    /// Waits for the end of a round, at most `token_wait`. What `wait_for` gives is a lock on the rounds: it must not
    /// outlive this function, for who has it and asks for the rounds again waits for a writer that waits for it.
    async fn end_of(&self, rounds: &mut watch::Receiver<Rounds>, round: u64) -> bool {
        tokio::time::timeout(self.policy.token_wait, rounds.wait_for(|r| r.finished >= round)).await.is_ok()
    }

    fn want(&self, wanted: Wanted) {
        self.rounds.send_if_modified(|rounds| {
            rounds.wanted = Some(wanted);
            false
        });
        self.wake.notify_one();
    }

    /// What the last round left: a usable token, one that was good for its own round only, or the failure.
    fn settled(&self) -> Result<Arc<Token>, Unavailable> {
        let now = self.clock.now();
        if let Some(token) = self.usable(now) {
            return Ok(token);
        }
        let rounds = self.rounds.borrow();
        match &rounds.outcome {
            // A token without lifetime is not cached, but it is what the provider gave to those who waited.
            Some(Ok(token)) if token.expires_at == token.fetched_at => Ok(Arc::clone(token)),
            Some(Err(error)) => {
                Err(Unavailable::Failed { error: Arc::clone(error), retry_after: rounds.retry_at - now })
            }
            Some(Ok(_)) | None => Err(Unavailable::StillWaiting { waited: Duration::ZERO }),
        }
    }
}

impl Rounds {
    /// Whether the last round failed and the next try is not due.
    pub(super) fn is_backing_off(&self, now: Moment) -> bool {
        matches!(self.outcome, Some(Err(_))) && now < self.retry_at
    }

    /// The earliest moment for a round that nothing forces.
    pub(super) fn earliest(&self) -> Moment {
        self.started_at.map_or_else(Moment::default, |at| at + schedule::MIN_INTERVAL)
    }
}

fn millis(moment: Moment) -> u64 {
    u64::try_from(moment.since_zero().as_millis()).unwrap_or(u64::MAX)
}
