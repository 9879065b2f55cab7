//! When a token is renewed and how long a failure is waited out. Pure: time and chance are arguments.

use std::time::Duration;

/// How long after it was asked for a token is renewed: at 80 % of its lifetime, or `refresh_before` ahead of its end
/// if that is earlier, but never before half of it, and never sooner than [`MIN_INTERVAL`]. `chance` (0 to 1) moves
/// it up to a tenth of the lifetime earlier, so that a fleet that started together does not renew together.
pub fn refresh_after(lifetime: Duration, refresh_before: Duration, chance: f64) -> Duration {
    let latest = lifetime.mul_f64(0.8).min(lifetime.saturating_sub(refresh_before));
    let jittered = latest.saturating_sub(lifetime.mul_f64(0.1 * chance.clamp(0.0, 1.0)));
    jittered.max(lifetime / 2).max(MIN_INTERVAL)
}

/// How long to wait after the `failures`th failure in a row. Exponential with 20 % jitter; a provider that says when
/// to come back (`Retry-After`) is believed, and what trying again cannot mend is tried rarely.
pub fn backoff(failures: u32, transient: bool, retry_after: Option<Duration>, chance: f64) -> Duration {
    let chance = chance.clamp(0.0, 1.0);
    if let Some(asked) = retry_after {
        return asked.max(MIN_INTERVAL).mul_f64(1.0 + 0.1 * chance);
    }
    let (first, longest) = if transient { TRANSIENT } else { PERMANENT };
    let doubled = first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(16)));
    doubled.min(longest).mul_f64(0.8 + 0.4 * chance)
}

/// The provider is not asked more often than this in the normal course of a token's life.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// First and longest wait where trying again may help.
const TRANSIENT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// First and longest wait where somebody has to mend something (`invalid_client`, `invalid_scope`, ...).
const PERMANENT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    #[test]
    fn refresh_is_at_80_percent_or_before_the_margin_but_not_before_half() {
        for (lifetime, before, chance, expected) in [
            (3600.0, 60.0, 0.0, 2880.0),  // 80 %
            (3600.0, 900.0, 0.0, 2700.0), // the margin is earlier
            (3600.0, 60.0, 1.0, 2520.0),  // jitter takes a tenth of the lifetime
            (100.0, 60.0, 0.0, 50.0),     // never before half
            (100.0, 60.0, 1.0, 50.0),     // not by jitter either
            (10.0, 60.0, 0.5, 5.0),
            (1.0, 60.0, 0.0, 1.0), // a 1-second token does not spin
            (0.1, 60.0, 1.0, 1.0),
        ] {
            let got = refresh_after(secs(lifetime), secs(before), chance);
            assert_eq!(got.as_secs_f64().round(), expected, "lifetime {lifetime}, before {before}, chance {chance}");
        }
    }

    #[test]
    fn backoff_grows_and_is_bounded() {
        for (failures, transient, retry_after, chance, expected) in [
            (1, true, None, 0.5, 1.0),
            (2, true, None, 0.5, 2.0),
            (5, true, None, 0.5, 16.0),
            (6, true, None, 0.5, 30.0),
            (60, true, None, 0.5, 30.0),
            (1, true, None, 0.0, 0.8),
            (1, true, None, 1.0, 1.2),
            (1, false, None, 0.5, 30.0),
            (2, false, None, 0.5, 60.0),
            (u32::MAX, false, None, 0.5, 300.0),
            (9, true, Some(7.0), 0.0, 7.0), // Retry-After beats our own guess
            (9, true, Some(7.0), 1.0, 7.7), // and is never undercut
            (1, false, Some(0.0), 0.0, 1.0),
        ] {
            let got = backoff(failures, transient, retry_after.map(secs), chance);
            assert!((got.as_secs_f64() - expected).abs() < 1e-6, "failures {failures}: {got:?}, not {expected}");
        }
    }
}
