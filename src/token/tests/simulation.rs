//! Many random lives of a slot, with what must hold at every moment.

use super::*;

/// What must hold: never two fetches at once, never an expired token, serials that only grow, no wait beyond
/// `token_wait`, and no more token requests than the schedule allows.
#[tokio::test(start_paused = true)]
async fn a_slot_keeps_its_promises_whatever_happens() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (provider, slot) = start(|policy| {
            policy.prefetch = random.bool();
            policy.idle_after = random.bool().then(|| Duration::from_secs(random.u64(5..60)));
        });
        let began = Instant::now();
        let (mut last, mut changes, mut rejections) = (0, 0, 0);
        for _ in 0..150 {
            match random.u32(0..10) {
                0 => provider.always(random.u64(0..3000), Ok(random.u64(1..30))),
                1 => provider.always(random.u64(0..8000), Err(random.choice(FetchErrorKind::ALL).unwrap())),
                2 => {
                    changes += 1;
                    slot.source_changed();
                }
                3 => {
                    rejections += 1;
                    let rejected = tokio::spawn({
                        let slot = Arc::clone(&slot);
                        async move { slot.reject(last, RequestId::new()).await.map(|token| token.serial) }
                    });
                    if let Some(newer) = rejected.await.unwrap() {
                        assert!(newer > last, "seed {seed}");
                    }
                }
                4..7 => {
                    let began = Instant::now();
                    if let Ok(token) = slot.get(RequestId::new()).await {
                        assert!(token.serial >= last, "seed {seed}: a serial went back");
                        last = token.serial;
                    }
                    assert!(
                        began.elapsed() <= Duration::from_millis(5001),
                        "seed {seed}: waited {:?}",
                        began.elapsed()
                    );
                }
                _ => pass(random.f64() * 10.0).await,
            }
            if let Some(token) = slot.usable() {
                let (_, _, left) = slot.status().token.expect("a usable token has a status");
                assert!(left.unwrap() > Duration::ZERO && token.serial >= last, "seed {seed}");
            }
        }
        assert_eq!(provider.most_in_flight.load(Ordering::SeqCst), 1, "seed {seed}: two fetches at once");
        let most = began.elapsed().as_secs() + 2 + changes + rejections;
        assert!(provider.calls() <= most, "seed {seed}: {} calls, at most {most}", provider.calls());
    }
}
