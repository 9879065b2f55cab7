//! Signals for the command that `exec` runs.
//!
//! The command is in our process group, so that job control of a shell takes both for one job. What the terminal sends
//! by a key reaches it directly, and must not reach it twice: the second Ctrl-C means something else to many programs.

use std::io;

use rustix::process::Signal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// Those that were sent to us, in their order.
#[derive(Debug)]
pub(super) struct Signals {
    sender: mpsc::Sender<Signal>,
    receiver: mpsc::Receiver<Signal>,
    /// Of those, the ones that were ignored when we began (`nohup`, a background job of a script).
    ignored: Vec<Signal>,
}

impl Signals {
    /// From now on they do not end us. Those that are ignored stay so until the command has inherited that.
    ///
    /// # Errors
    /// A handler cannot be installed.
    pub(super) fn listen() -> io::Result<Self> {
        let mask = ignored();
        let is_ignored = |signal: &Signal| mask & (1 << (signal.as_raw() - 1)) != 0;
        let (sender, receiver) = mpsc::channel(16);
        let (ignored, others): (Vec<_>, Vec<_>) = PASSED_ON.into_iter().partition(is_ignored);
        let signals = Self { sender, receiver, ignored };
        signals.catch(&others)?;
        Ok(signals)
    }

    /// The command runs: it may have a use for what was ignored.
    ///
    /// # Errors
    /// A handler cannot be installed.
    pub(super) fn listen_to_all(&self) -> io::Result<()> {
        self.catch(&self.ignored)
    }

    fn catch(&self, signals: &[Signal]) -> io::Result<()> {
        for caught in signals.iter().copied() {
            let mut arrivals = signal(SignalKind::from_raw(caught.as_raw()))?;
            let sender = self.sender.clone();
            tokio::spawn(async move {
                while arrivals.recv().await.is_some() {
                    if sender.send(caught).await.is_err() {
                        return;
                    }
                }
            });
        }
        Ok(())
    }

    /// The next one to pass on.
    pub(super) async fn next(&mut self) -> Signal {
        loop {
            match self.receiver.recv().await {
                Some(signal) if BY_KEY.contains(&signal) && in_foreground() => {} // the terminal sent it to both
                Some(signal) => return signal,
                None => return std::future::pending().await, // we hold a sender: it cannot be
            }
        }
    }

    /// The next one that ends a program which does nothing about it.
    pub(super) async fn ending(&mut self) -> Signal {
        loop {
            match self.receiver.recv().await {
                Some(signal) if ENDING.contains(&signal) => return signal,
                Some(_) => {}
                None => return std::future::pending().await,
            }
        }
    }
}

/// Whether the terminal's keys send their signals to our process group.
fn in_foreground() -> bool {
    let Ok(terminal) = std::fs::File::open("/dev/tty") else { return false };
    rustix::termios::tcgetpgrp(&terminal).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// A bit for each signal that is ignored, where the system tells (Linux).
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    u64::from_str_radix(line.trim(), 16).unwrap_or(0)
}

const PASSED_ON: [Signal; 7] =
    [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::WINCH];
const BY_KEY: [Signal; 3] = [Signal::INT, Signal::QUIT, Signal::WINCH];
const ENDING: [Signal; 4] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];
