//! A token's life in virtual time: the clock is tokio's, paused, and the provider does as it is told.

mod simulation;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, advance, sleep};

use super::*;
use crate::{
    clock::Clock,
    config::Placement,
    credential::{Credential, FetchError, FetchErrorKind, Fetched},
    metrics::Metrics,
    secret::Secret,
    telemetry::RequestId,
};

/// A provider that counts, delays, and answers as it is told.
#[derive(Debug, Default)]
struct Provider {
    calls: AtomicU64,
    in_flight: AtomicU64,
    most_in_flight: AtomicU64,
    script: Mutex<VecDeque<Result<u64, FetchErrorKind>>>,
    usual: Mutex<(Duration, Option<Result<u64, FetchErrorKind>>)>,
    retry_after: Mutex<Option<Duration>>,
}

#[async_trait]
impl Credential for Provider {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        let (delay, usual) = *self.usual.lock().unwrap();
        let answer = self.script.lock().unwrap().pop_front().or(usual).unwrap_or(Ok(3600));
        sleep(delay).await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        match answer {
            Ok(PANICS) => panic!("a credential with a bug"),
            Ok(ILLEGAL) => Ok(Fetched::token(Secret::new("a\nb"), None)),
            Ok(lifetime) => {
                let lifetime = (lifetime != UNTOLD).then(|| Duration::from_secs(lifetime));
                Ok(Fetched::token(Secret::new(format!("token-{number}")), lifetime))
            }
            Err(kind) => Err(FetchError {
                kind,
                detail: "as told".to_owned(),
                hint: "none".to_owned(),
                retry_after: *self.retry_after.lock().unwrap(),
            }),
        }
    }
}

const UNTOLD: u64 = u64::MAX;
const PANICS: u64 = u64::MAX - 1;
const ILLEGAL: u64 = u64::MAX - 2;

impl Provider {
    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn always(&self, delay_ms: u64, answer: Result<u64, FetchErrorKind>) {
        *self.usual.lock().unwrap() = (Duration::from_millis(delay_ms), Some(answer));
    }

    fn next(&self, answer: Result<u64, FetchErrorKind>) {
        self.script.lock().unwrap().push_back(answer);
    }
}

fn header(prefix: &str) -> Placement {
    Placement::Header { name: http::header::AUTHORIZATION, prefix: prefix.to_owned() }
}

pub(super) fn policy() -> Policy {
    Policy {
        profile: "p".into(),
        placement: header("Bearer"),
        prefetch: false,
        refresh_before: Duration::from_secs(60),
        default_token_lifetime: Duration::from_secs(300),
        token_wait: Duration::from_secs(5),
        idle_after: None,
        reject_interval: Duration::from_secs(10),
    }
}

fn start(change: impl FnOnce(&mut Policy)) -> (Arc<Provider>, Arc<Slot>) {
    let mut policy = policy();
    change(&mut policy);
    let provider = Arc::new(Provider::default());
    let metrics = Metrics::new().profile(&"p".into());
    let credential: Arc<dyn Credential> = Arc::clone(&provider) as _;
    (provider, Arc::new(Slot::start(policy, credential, metrics, Clock::tokio())))
}

/// Lets time go by in small steps, so that the task sees every moment.
async fn pass(seconds: f64) {
    let step = Duration::from_millis(50);
    for _ in 0..(seconds / 0.05).round() as u64 {
        advance(step).await;
        tokio::task::yield_now().await;
    }
}

fn spawn_gets(slot: &Arc<Slot>, count: usize) -> Vec<tokio::task::JoinHandle<(Result<u64, Unavailable>, Duration)>> {
    (0..count)
        .map(|_| {
            let slot = Arc::clone(slot);
            tokio::spawn(async move {
                let began = Instant::now();
                (slot.get(RequestId::new()).await.map(|token| token.serial), began.elapsed())
            })
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn twenty_waiters_share_one_failure() {
    let (provider, slot) = start(|_| {});
    provider.always(100, Err(FetchErrorKind::Unreachable));
    for waiter in spawn_gets(&slot, 20) {
        let (result, took) = waiter.await.unwrap();
        assert!(matches!(result, Err(Unavailable::Failed { .. })), "{result:?}");
        assert!(took < Duration::from_millis(150), "{took:?}");
    }
    assert_eq!(provider.calls(), 1);
    // During the back-off nobody waits and nobody asks.
    let (result, took) = spawn_gets(&slot, 1).remove(0).await.unwrap();
    assert!(matches!(result, Err(Unavailable::Failed { retry_after, .. }) if retry_after > Duration::ZERO));
    assert_eq!((took, provider.calls()), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn the_first_waiter_may_leave() {
    let (provider, slot) = start(|_| {});
    provider.always(300, Ok(3600));
    let mut waiters = spawn_gets(&slot, 2);
    sleep(Duration::from_millis(200)).await;
    waiters.remove(0).abort();
    assert_eq!(waiters.remove(0).await.unwrap().0.unwrap(), 1);
    assert_eq!(provider.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_is_never_waited_for() {
    let (provider, slot) = start(|policy| policy.prefetch = true);
    provider.always(400, Ok(100));
    slot.first_answer().await;
    let mut last = 0;
    for _ in 0..12_000 {
        advance(Duration::from_millis(50)).await;
        tokio::task::yield_now().await;
        let token = slot.usable().expect("always a usable token");
        assert!(token.serial >= last);
        last = token.serial;
    }
    // 600 s, each token renewed at its half at the earliest and at its 80 % at the latest.
    assert!((7..=13).contains(&provider.calls()), "{}", provider.calls());
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_bridged_until_expiry_and_not_longer() {
    let (provider, slot) = start(|policy| policy.prefetch = true);
    provider.next(Ok(100));
    slot.first_answer().await;
    provider.always(10, Err(FetchErrorKind::ServerError));
    pass(99.5).await;
    assert!(slot.usable().is_some());
    pass(1.0).await;
    assert!(slot.usable().is_none());
    assert!(matches!(slot.get(RequestId::new()).await, Err(Unavailable::Failed { .. })));
    let asked = provider.calls();
    assert!((3..=9).contains(&asked), "backs off: {asked} calls in 50 s");
    provider.always(10, Ok(100));
    pass(40.0).await;
    assert!(slot.usable().is_some(), "the first success ends it");
    assert_eq!(slot.status().failures, 0);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_mended_is_tried_rarely_and_retry_after_is_believed() {
    let (provider, slot) = start(|policy| policy.prefetch = true);
    provider.always(0, Err(FetchErrorKind::InvalidClient));
    pass(20.0).await;
    assert_eq!(provider.calls(), 1);
    pass(300.0).await;
    assert!((3..=5).contains(&provider.calls()), "{}", provider.calls());

    let (provider, slot_2) = start(|policy| policy.prefetch = true);
    *provider.retry_after.lock().unwrap() = Some(Duration::from_secs(50));
    provider.always(0, Err(FetchErrorKind::RateLimited));
    pass(49.0).await;
    assert_eq!(provider.calls(), 1);
    pass(8.0).await;
    assert_eq!(provider.calls(), 2);
    drop((slot, slot_2));
}

#[tokio::test(start_paused = true)]
async fn one_rejected_token_costs_one_fetch() {
    let (provider, slot) = start(|policy| policy.prefetch = true);
    slot.first_answer().await;
    provider.always(100, Ok(3600));
    let waiters: Vec<_> = (0..20u64)
        .map(|n| {
            let slot = Arc::clone(&slot);
            tokio::spawn(async move {
                sleep(Duration::from_millis(n * 30)).await;
                slot.reject(1, RequestId::new()).await.map(|token| token.serial)
            })
        })
        .collect();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), Some(2));
    }
    assert_eq!(provider.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_rejects_everything_costs_one_fetch_an_interval() {
    let (provider, slot) = start(|policy| policy.prefetch = true);
    slot.first_answer().await;
    for _ in 0..1000 {
        let serial = slot.get(RequestId::new()).await.unwrap().serial;
        if let Some(newer) = slot.reject(serial, RequestId::new()).await {
            // The new token is refused as well.
            slot.reject(newer.serial, RequestId::new()).await;
        }
        advance(Duration::from_millis(35)).await;
    }
    // 35 s: at 0, 10, 20 and 30.
    assert_eq!(provider.calls(), 1 + 4);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_while_the_provider_is_down_leaves_the_token() {
    let (provider, slot) = start(|policy| policy.prefetch = true);
    slot.first_answer().await;
    provider.always(10, Err(FetchErrorKind::Unreachable));
    assert!(slot.reject(1, RequestId::new()).await.is_none());
    assert_eq!(slot.usable().unwrap().serial, 1);
    assert!(slot.reject(1, RequestId::new()).await.is_none());
    assert_eq!(provider.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_rejection_takes_the_newer_token_without_waiting_for_a_refresh() {
    let (provider, slot) = start(|policy| policy.prefetch = true);
    slot.first_answer().await;
    assert_eq!(slot.reject(1, RequestId::new()).await.unwrap().serial, 2);
    provider.always(4000, Ok(3600));
    slot.source_changed();
    pass(0.5).await;
    assert_eq!(provider.calls(), 3, "a fetch is in flight");
    let began = Instant::now();
    assert_eq!(slot.reject(1, RequestId::new()).await.unwrap().serial, 2);
    assert_eq!((began.elapsed(), provider.calls()), (Duration::ZERO, 3));
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_is_tried_at_once_while_the_old_token_serves() {
    let (provider, slot) = start(|policy| policy.prefetch = true);
    slot.first_answer().await;
    provider.next(Err(FetchErrorKind::InvalidClient));
    slot.source_changed();
    pass(0.5).await;
    assert_eq!((provider.calls(), slot.usable().unwrap().serial), (2, 1));
    assert_eq!(slot.status().last_error.unwrap().kind, FetchErrorKind::InvalidClient);
    // Good again: the back-off of the bad one is not waited for.
    slot.source_changed();
    pass(0.5).await;
    assert_eq!((provider.calls(), slot.usable().unwrap().serial), (3, 2));
    assert!(slot.status().last_error.is_none());
    // A change during a fetch, which may have read the old file, makes another one.
    provider.always(500, Ok(3600));
    slot.source_changed();
    pass(0.2).await;
    slot.source_changed();
    pass(2.0).await;
    assert_eq!(provider.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn short_lived_tokens_do_not_spin() {
    let (provider, slot) = start(|policy| policy.prefetch = true);
    provider.always(0, Ok(1));
    pass(60.0).await;
    assert!((50..=61).contains(&provider.calls()), "{}", provider.calls());

    // Without a lifetime a token is for those who waited, and is not kept.
    let (provider, slot_2) = start(|_| {});
    provider.always(0, Ok(0));
    for waiter in spawn_gets(&slot_2, 3) {
        assert_eq!(waiter.await.unwrap().0.unwrap(), 1);
    }
    assert!(slot_2.usable().is_none());
    let (second, took) = spawn_gets(&slot_2, 1).remove(0).await.unwrap();
    assert_eq!((second.unwrap(), provider.calls()), (2, 2));
    assert!(took <= Duration::from_secs(1), "{took:?}");
    drop(slot);
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_bounded_and_the_fetch_goes_on() {
    let (provider, slot) = start(|_| {});
    provider.always(8000, Ok(3600));
    let (result, took) = spawn_gets(&slot, 1).remove(0).await.unwrap();
    assert!(matches!(result, Err(Unavailable::StillWaiting { .. })));
    assert_eq!(took.as_secs(), 5);
    pass(4.0).await;
    assert_eq!((slot.usable().unwrap().serial, provider.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_idle_profile_rests_and_wakes() {
    let (provider, slot) = start(|policy| {
        policy.prefetch = true;
        policy.idle_after = Some(Duration::from_secs(250));
    });
    provider.always(0, Ok(100));
    pass(240.0).await;
    let calls = provider.calls();
    assert!(calls >= 3, "kept warm until then: {calls}");
    pass(1000.0).await;
    assert!(provider.calls() <= calls + 1, "{} calls", provider.calls());
    let before = provider.calls();
    assert!(slot.get(RequestId::new()).await.is_ok());
    assert_eq!(provider.calls(), before + 1);
    pass(200.0).await;
    assert!(provider.calls() > before + 1, "and is kept warm again");
}

#[tokio::test(start_paused = true)]
async fn a_token_carries_its_prefix_and_hides_itself() {
    for (prefix, lifetime, value) in [("Bearer", UNTOLD, "Bearer token-1"), ("", 60, "token-1")] {
        let (provider, slot) = start(|policy| policy.placement = header(prefix));
        provider.always(0, Ok(lifetime));
        let token = slot.get(RequestId::new()).await.unwrap();
        let Form::Header(carried) = &token.form else { panic!("{token:?}") };
        assert!(carried == value && carried.is_sensitive());
        assert!(!format!("{token:?}{slot:?}").contains("token-1"));
        let lives = if lifetime == UNTOLD { 300 } else { 60 };
        assert_eq!(token.expires_at - token.fetched_at, Duration::from_secs(lives));
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_expire_is_fetched_once_and_again_when_it_changes() {
    let (provider, slot) = start(|policy| policy.prefetch = true);
    provider.always(0, Ok(Fetched::FOREVER.as_secs()));
    pass(1.0).await;
    for _ in 0..20 {
        advance(Duration::from_secs(30 * 24 * 60 * 60)).await;
        tokio::task::yield_now().await;
    }
    let token = slot.usable().unwrap();
    assert!(!token.expires() && token.serial == 1);
    let (_, age, left) = slot.status().token.unwrap();
    assert!(age > Duration::from_secs(500 * 24 * 60 * 60) && left.is_none());
    assert!(matches!(slot.status().last_success, Some((_, None))));
    slot.source_changed();
    pass(1.0).await;
    assert_eq!((provider.calls(), slot.usable().unwrap().serial), (2, 2));
}

#[tokio::test]
async fn the_same_text_is_told_from_another() {
    let carried = |text: &str| Form::Header(http::HeaderValue::from_str(text).unwrap());
    let asked = |text: &str| Form::Query(Secret::new(text));
    for (one, other, same) in [
        (carried("a"), carried("a"), true),
        (carried("a"), carried("b"), false),
        (asked("a"), asked("a"), true),
        (asked("a"), asked("b"), false),
        (carried("a"), asked("a"), false),
    ] {
        assert_eq!(one.is_same(&other), same, "{one:?} {other:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bug_or_an_illegal_token_is_a_failed_round() {
    for bad in [PANICS, ILLEGAL] {
        let (provider, slot) = start(|_| {});
        provider.next(Ok(bad));
        let failed = slot.get(RequestId::new()).await;
        assert!(
            matches!(&failed, Err(Unavailable::Failed { error, .. }) if error.kind == FetchErrorKind::InvalidResponse)
        );
        pass(2.0).await;
        assert_eq!(slot.get(RequestId::new()).await.unwrap().serial, if bad == PANICS { 1 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_ends_the_task_and_its_fetch() {
    let (provider, slot) = start(|policy| policy.prefetch = true);
    provider.always(5000, Ok(3600));
    pass(1.0).await;
    assert_eq!(Arc::strong_count(&provider), 3, "the test, the task and its fetch");
    drop(slot);
    pass(0.2).await;
    assert_eq!(Arc::strong_count(&provider), 1);
}

/// With real threads: those who wait for a round, those who come while it ends, and the task that ends it.
#[test]
fn waiters_on_many_threads_never_lock_each_other_out() {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(8).enable_all().build().unwrap();
        runtime.block_on(async {
            for _ in 0..300 {
                let (provider, slot) = start(|_| {});
                provider.always(1, Err(FetchErrorKind::Unreachable));
                let failures = futures::future::join_all(spawn_gets(&slot, 40)).await;
                assert!(failures.into_iter().all(|failure| failure.unwrap().0.is_err()));
                assert_eq!(provider.calls(), 1);
            }
        });
        done.send(()).unwrap();
    });
    ended.recv_timeout(Duration::from_secs(60)).expect("a deadlock");
}
