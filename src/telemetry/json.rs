//! One event, one line of JSON.
//!
//! What tracing-subscriber's own format writes, field for field. That one makes a serializer's map for each event, and
//! checks each of its many small pieces for UTF-8: 31,000 instructions for the line of a request, more than the request
//! itself takes.

use std::fmt::{self, Debug, Write};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// The format.
#[derive(Debug)]
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        out.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut out)?;
        out.write_str("\",\"level\":\"")?;
        out.write_str(event.metadata().level().as_str())?;
        out.write_char('"')?;
        let mut fields = Fields { out, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        fields.out.write_str("}\n")
    }
}

/// Writes fields, each with the comma before it.
struct Fields<'a> {
    out: Writer<'a>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn write(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let write = || {
            self.out.write_str(",\"")?;
            // An identifier of the code: nothing to escape.
            self.out.write_str(field.name())?;
            self.out.write_str("\":")?;
            value(&mut self.out)
        };
        if self.result.is_ok() {
            self.result = write();
        }
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no name for what is no number.
        self.write(field, |out| if value.is_finite() { write!(out, "{value}") } else { out.write_str("null") });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, |out| write!(out, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, |out| write!(out, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, |out| out.write_str(if value { "true" } else { "false" }));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, |out| {
            out.write_char('"')?;
            Escaped(out).write_str(value)?;
            out.write_char('"')
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write(field, |out| {
            out.write_char('"')?;
            write!(Escaped(out), "{value:?}")?;
            out.write_char('"')
        });
    }
}

/// Writes text as the inside of a JSON string (RFC 8259 7).
struct Escaped<'a, W>(&'a mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
            let (plain, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
            self.0.write_str(plain)?;
            match from.bytes().next().unwrap_or_default() {
                b'"' => self.0.write_str("\\\"")?,
                b'\\' => self.0.write_str("\\\\")?,
                b'\n' => self.0.write_str("\\n")?,
                b'\r' => self.0.write_str("\\r")?,
                b'\t' => self.0.write_str("\\t")?,
                control => write!(self.0, "\\u{control:04x}")?,
            }
            rest = from.get(1..).unwrap_or_default();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use serde_json::{Value, json};
    use tracing_subscriber::{fmt::layer, layer::SubscriberExt, registry};

    use super::*;

    /// What is written to it.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines of both formats for the same events.
    fn both(events: impl Fn()) -> [Vec<Value>; 2] {
        let read = |sink: &Sink| -> Vec<Value> {
            let bytes = sink.0.lock().unwrap().clone();
            let lines = String::from_utf8(bytes).unwrap();
            lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
        };
        let (ours, theirs) = (Sink::default(), Sink::default());
        let (one, other) = (ours.clone(), theirs.clone());
        let json = layer().with_writer(move || other.clone()).with_target(false).json().flatten_event(true);
        let subscriber = registry()
            .with(layer().with_writer(move || one.clone()).event_format(Json))
            .with(json.with_current_span(false).with_span_list(false));
        tracing::subscriber::with_default(subscriber, events);
        [read(&ours), read(&theirs)]
    }

    #[test]
    fn every_kind_of_field_is_written_as_before() {
        let [ours, theirs] = both(|| {
            let text = "quote \" backslash \\ newline \n return \r tab \t bell \u{7} escape \u{1b} delete \u{7f} \u{e9}\u{1f980}";
            tracing::info!(
                text,
                empty = "",
                shown = %text,
                debugged = ?text,
                none = None::<&str>,
                some = Some(7),
                small = i64::MIN,
                large = u64::MAX,
                yes = true,
                share = 0.25,
                whole = 3.0,
                tiny = 1e-9,
                nothing = f64::NAN,
                "message with {} \"quotes\"", 2
            );
            tracing::warn!("alone");
        });
        assert_eq!(ours.len(), 2);
        for (mut ours, mut theirs) in ours.into_iter().zip(theirs) {
            for line in [&mut ours, &mut theirs] {
                let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
                assert!(time.as_str().is_some_and(|time| time.len() == 27 && time.ends_with('Z')), "{time}");
                if let Some(whole) = line.get_mut("whole") {
                    *whole = json!(whole.as_f64());
                }
            }
            assert_eq!(ours, theirs);
        }
    }
}
