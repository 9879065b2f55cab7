//! Logs that cannot leak: lanyard's own events, as JSON or text, and nothing of anybody else's.
//!
//! The libraries below us log what they handle: pingora's DEBUG lines hold whole requests with the injected header,
//! its ERROR lines the query string, parse errors the raw bytes. No level cap is safe against that, so their events
//! are dropped at every level; what an operator needs of them, lanyard says itself. A panic's text is dropped too,
//! unless it is a literal in the code, for a formatted one can hold anything.

mod json;

use std::{fmt, io::IsTerminal, sync::Once};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    filter::FilterFn, fmt::layer, layer::SubscriberExt, registry, reload, util::SubscriberInitExt,
};

use crate::config::{Log, LogFormat};

/// Changes the level of a running process.
#[derive(Clone)]
pub struct LevelHandle(reload::Handle<OwnEvents, tracing_subscriber::Registry>);

impl fmt::Debug for LevelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LevelHandle")
    }
}

type OwnEvents = FilterFn<Box<dyn Fn(&Metadata<'_>) -> bool + Send + Sync>>;

impl LevelHandle {
    /// From now on events of this level and above are written.
    pub fn set(&self, level: Level) {
        if self.0.reload(own_events(level)).is_err() {
            tracing::warn!("log level not changed: the subscriber is gone");
        }
    }
}

/// Sets up logging to standard error and the panic hook, once a process.
pub fn init(log: &Log) -> LevelHandle {
    let (filter, handle) = reload::Layer::new(own_events(log.level()));
    let terminal = std::io::stderr().is_terminal();
    let format = log.format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let writer = layer().with_writer(std::io::stderr).with_target(false);
    let subscriber = registry().with(filter);
    // An error says that somebody set one up before us, as a test harness does.
    drop(match format {
        LogFormat::Json => subscriber.with(writer.event_format(json::Json)).try_init(),
        LogFormat::Text => subscriber.with(writer.with_ansi(terminal)).try_init(),
    });
    log_panics();
    LevelHandle(handle)
}

/// Lets through the events of this crate up to `level`, and no others.
fn own_events(level: Level) -> OwnEvents {
    FilterFn::new(Box::new(move |metadata: &Metadata<'_>| {
        let target = metadata.target();
        *metadata.level() <= level && (target == "lanyard" || target.starts_with("lanyard::"))
    }))
}

fn log_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let what = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(text withheld)");
            tracing::error!(place, what, "internal error: a task panicked");
        }));
    });
}

/// What the lines of a request in a log have in common: 16 hexadecimal digits, unique enough to find them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(u64);

impl RequestId {
    /// A new one.
    pub fn new() -> Self {
        Self(fastrand::u64(..))
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A new name of 16 hexadecimal digits, for what is no request.
pub fn new_id() -> String {
    RequestId::new().to_string()
}

/// Milliseconds to the microsecond, for logs.
pub fn millis(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal_and_differ() {
        let (a, b) = (new_id(), new_id());
        assert_ne!(a, b);
        assert!(a.len() == 16 && a.bytes().all(|c| c.is_ascii_hexdigit()));
    }
}
