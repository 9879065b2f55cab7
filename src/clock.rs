//! The one clock of a token's life: monotonic, and it counts the time a machine spends asleep.
//!
//! A changed wall clock neither expires nor revives a token, and a laptop that slept past expiry wakes up to a fetch.
//! Tests on tokio's paused time use [`Clock::tokio`].

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A moment since some fixed one, in boot time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(Duration);

impl Moment {
    /// The moment so long after the clock's zero.
    pub const fn from_zero(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// Time since the clock's zero.
    pub const fn since_zero(self) -> Duration {
        self.0
    }
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

impl Sub for Moment {
    type Output = Duration;
    /// Time from `earlier` to `self`, zero if there is none.
    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Tells the moment.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Boot,
    Tokio(tokio::time::Instant),
}

impl Clock {
    /// The system's boot-time clock.
    pub const fn boot() -> Self {
        Self(Kind::Boot)
    }

    /// Tokio's clock, which a test can pause and advance.
    pub fn tokio() -> Self {
        Self(Kind::Tokio(tokio::time::Instant::now()))
    }

    /// The moment it is.
    pub fn now(&self) -> Moment {
        match self.0 {
            Kind::Boot => Moment(boot_time()),
            Kind::Tokio(zero) => Moment(zero.elapsed()),
        }
    }
}

fn boot_time() -> Duration {
    // Linux stops CLOCK_MONOTONIC while asleep and has CLOCK_BOOTTIME; macOS's CLOCK_MONOTONIC counts sleep.
    #[cfg(target_os = "linux")]
    const ID: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const ID: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(ID);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_goes_forward() {
        let clock = Clock::boot();
        let first = clock.now();
        assert!(first.since_zero() > Duration::ZERO);
        assert!(clock.now() >= first);
    }

    #[test]
    fn an_earlier_moment_is_no_time_away() {
        let zero = Moment::default();
        let later = zero + Duration::from_secs(3);
        assert_eq!(later - zero, Duration::from_secs(3));
        assert_eq!(zero - later, Duration::ZERO);
    }
}
