//! One timer for all the deadlines of a connection.
//!
//! A connection waits for one thing at a time, and hardly ever long enough: a head, the next request, an answer. To set
//! and drop a timer for each wait costs more than the wait's own work. This one goes on running from wait to wait; it is
//! set anew only where it would ring too late, and where it rings too early it is set to what is due by then.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// The timer of a connection.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once `at` is over; until then the task is woken by then, and perhaps before.
    pub(super) fn poll(&mut self, at: Instant, task: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        loop {
            if sleep.deadline() > at {
                sleep.as_mut().reset(at);
            }
            ready!(sleep.as_mut().poll(task));
            if sleep.deadline() >= at || Instant::now() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_what_is_asked_for_whatever_was_asked_for_before() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        let is_over = async |alarm: &mut Alarm, at| poll_fn(|task| Poll::Ready(alarm.poll(at, task).is_ready())).await;
        assert!(!is_over(&mut alarm, second(5)).await);
        // Later, earlier, later again.
        for (at, rung) in [(60, 60), (61, 61), (63, 63), (62, 63), (90, 90)] {
            poll_fn(|task| alarm.poll(second(at), task)).await;
            assert_eq!(start.elapsed().as_secs(), rung, "{at}");
        }
        assert!(!is_over(&mut alarm, second(200)).await);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(!is_over(&mut alarm, second(111)).await);
        assert!(is_over(&mut alarm, second(109)).await);
    }
}
