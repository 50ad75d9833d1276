//! Log lines and spans: where they go and in which form.
//!
//! Lines go to standard error, so that a command's own output can be piped. Fields come first, then a fixed lowercase
//! sentence; `error` is for what needs a person. No line carries a value of a contact.
//!
//! A line that is written while an event or an attempt is handled carries its ids ([`handled`]); the same ids are in the spans that
//! are exported, if an operator wants that ([`traces`]).
//!
//! Three things would break that behind our back, and are stopped here: sled prints what it stores below the level of a
//! warning, rlibphonenumber the number that it reads, and a panic its message, which may quote what it choked on.

pub mod handled;
pub mod traces;

use std::{
    io::{self, IsTerminal, Write as _},
    panic::{self, PanicHookInfo},
    thread,
};

use tracing::{Level, Metadata, Subscriber, error};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::filter_fn, fmt, layer::SubscriberExt, registry::LookupSpan,
    util::SubscriberInitExt,
};

use self::handled::WithIds;
use crate::config::{LogFormat, Surroundings};

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("the log level {level:?} is no filter")]
    Level {
        level: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("log lines go elsewhere already")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// Whether text may be coloured: on a terminal whose user did not say otherwise (<https://no-color.org>).
pub fn coloured(surroundings: Surroundings<'_>) -> bool {
    colour_is_welcome(surroundings) && io::stderr().is_terminal()
}

/// Whether the user did not decline colours, wherever the text goes.
pub fn colour_is_welcome(surroundings: Surroundings<'_>) -> bool {
    (surroundings.variable)("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Sends log lines of this process to standard error from now on.
///
/// # Errors
/// If the level is no filter, or if this was done before.
pub fn start(format: LogFormat, level: &str, coloured: bool) -> Result<(), TelemetryError> {
    let filter = filter(level)?;
    Ok(tracing_subscriber::registry().with(lines(format, coloured, io::stderr)).with(filter).try_init()?)
}

/// Whether `level` can be used as one.
pub fn is_filter(level: &str) -> bool {
    filter::<Registry>(level).is_ok()
}

/// Lets a panic say where it happened, and nothing else: from now on, in all threads of this process.
pub fn hide_panic_messages() {
    panic::set_hook(Box::new(tell_panic));
}

fn tell_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    if tracing::dispatcher::has_been_set() {
        error!(%location, thread, "a thread panicked, which is a fault of this program");
    } else {
        // Before log lines have a place to go to. A standard error that is closed has no reader to miss it.
        let _closed = writeln!(io::stderr(), "thread {thread} panicked at {location}").is_err();
    }
}

/// The lines that `level` asks for, without those that could show what a library works on.
///
/// For the whole subscriber and not for the layer that writes: a filter of one layer keeps its last answer for the event
/// that it expects next, and where the `log` crate only asks whether a line would be shown, that next event is another one,
/// which is then lost (tokio-rs/tracing, issue 2519).
fn filter<S>(level: &str) -> Result<impl Layer<S> + Send + Sync + use<S>, TelemetryError>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let asked = EnvFilter::builder().parse(level);
    let asked = asked.map_err(|source| TelemetryError::Level { level: level.to_owned(), source })?;
    // Beside the filter and not a directive in it: a more specific directive of the user's would win.
    Ok(asked.and_then(filter_fn(may_be_shown)))
}

/// sled prints keys and values, which are contacts, in its lines for debugging; rlibphonenumber prints telephone numbers.
fn may_be_shown(line: &Metadata<'_>) -> bool {
    let library = line.target().split("::").next().unwrap_or_default();
    !["sled", "rlibphonenumber"].contains(&library) || *line.level() <= Level::WARN
}

fn lines<W>(format: LogFormat, coloured: bool, to: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'writer> fmt::MakeWriter<'writer> + Send + Sync + 'static,
{
    match format {
        LogFormat::Text => {
            let written = fmt::layer().with_ansi(coloured).with_writer(to);
            written.map_event_format(|inner| WithIds { inner: inner.with_ansi(coloured), format }).boxed()
        }
        LogFormat::Json => {
            let written = fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(to);
            written.map_event_format(|inner| WithIds { inner, format }).boxed()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::{info, info_span};

    use super::*;
    use crate::event::EventRef;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, level: &str) -> String {
        let lines = Lines::default();
        let to = lines.clone();
        let layer = super::lines(format, false, move || to.clone());
        let subscriber = tracing_subscriber::registry().with(layer).with(filter(level).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            info_span!("event", offset = 7).in_scope(|| info!(attempt = 2, "delivery will be retried"));
        });
        let bytes = lines.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_text_line_has_its_fields_its_sentence_and_no_colour_where_none_is_wanted() {
        let line = written(LogFormat::Text, "info");
        assert!(
            line.contains("delivery will be retried") && line.contains("attempt=2") && line.contains("offset=7"),
            "{line}"
        );
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }

    #[test]
    fn a_json_line_is_one_object_with_its_fields_on_top() {
        let line: serde_json::Value = serde_json::from_str(&written(LogFormat::Json, "info")).unwrap();
        assert_eq!((&line["message"], &line["attempt"]), (&"delivery will be retried".into(), &2.into()));
        assert_eq!(line["span"]["offset"], 7);
    }

    #[test]
    fn a_line_written_while_an_event_is_handled_carries_its_ids_once() {
        let event = EventRef {
            source: None,
            id: Some("e\"1".into()),
            subject: Some("ann@example.com".into()),
            topic: "changes".into(),
            partition: 3,
            offset: 9,
        };
        let parent = Arc::from("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let place = traces::Traces::default().begin(Some(&parent));
        let handled = handled::Handled { contact: None, event: Some(event), place };
        for format in [LogFormat::Json, LogFormat::Text] {
            let lines = Lines::default();
            let to = lines.clone();
            let layer = super::lines(format, false, move || to.clone());
            let subscriber = tracing_subscriber::registry().with(layer).with(filter("info").unwrap());
            tracing::subscriber::with_default(subscriber, || {
                handled.clone().within(|| info!(offset = 7, "a decision panicked"));
                info!("outside");
            });
            let written = String::from_utf8(lines.0.lock().clone()).unwrap();
            let (line, outside) = written.trim_end().split_once('\n').unwrap();
            assert!(!outside.contains("trace_id") && !written.contains("ann@"), "{written}");
            match format {
                LogFormat::Json => {
                    let line: serde_json::Value = serde_json::from_str(line).unwrap();
                    assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
                    assert_eq!((&line["span_id"], &line["event_id"]), (&"00f067aa0ba902b7".into(), &"e\"1".into()));
                    assert_eq!((&line["topic"], &line["partition"]), (&"changes".into(), &3.into()));
                    assert_eq!((&line["offset"], &line["message"]), (&7.into(), &"a decision panicked".into()));
                }
                LogFormat::Text => {
                    assert!(line.ends_with(
                        "trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7 event_id=e\\\"1 topic=changes partition=3"
                    ), "{line}");
                    assert_eq!(line.matches("offset=").count(), 1, "{line}");
                }
            }
        }
    }

    #[test]
    fn the_level_keeps_lines_back() {
        assert_eq!(written(LogFormat::Text, "warn"), "");
        assert!(!is_filter("info,="));
    }

    #[test]
    fn lines_below_the_level_are_known_not_to_be_shown_before_they_are_asked_about() {
        for (level, most) in [("warn", Level::WARN), ("info,sled=debug", Level::DEBUG)] {
            let lines = super::lines(LogFormat::Text, false, io::sink);
            let subscriber = tracing_subscriber::registry().with(lines).with(filter(level).unwrap());
            assert_eq!(subscriber.max_level_hint(), Some(most.into()), "{level}");
        }
    }

    #[test]
    fn what_a_library_works_on_is_shown_at_no_level() {
        for level in ["trace", "sled=trace,rlibphonenumber=trace", "info,sled::pagecache=trace,sled[stored]=trace"] {
            let lines = Lines::default();
            let to = lines.clone();
            let layer = super::lines(LogFormat::Text, false, move || to.clone());
            let subscriber = tracing_subscriber::registry().with(layer).with(filter(level).unwrap());
            tracing::subscriber::with_default(subscriber, || {
                tracing::trace!(target: "sled", "stored");
                info_span!(target: "sled::pagecache", "stored").in_scope(|| {
                    tracing::debug!(target: "sled::pagecache::iterator", "stored");
                    info!(target: "sled::tree", "stored");
                });
                tracing::trace!(target: "rlibphonenumber::phonenumberutil", "stored");
                tracing::warn!(target: "sled::tree", "cannot go on");
            });
            let written = String::from_utf8(lines.0.lock().clone()).unwrap();
            assert!(!written.contains("stored"), "{level}: {written}");
            assert!(written.contains("cannot go on"), "{level}: {written}");
        }
    }

    /// A line of a library that writes through the `log` crate.
    struct Foreign;

    static FOREIGN: Foreign = Foreign;
    static FOREIGN_LINE: Metadata<'static> = tracing::metadata! {
        name: "foreign",
        target: "sled",
        level: Level::DEBUG,
        fields: &[],
        callsite: &FOREIGN,
        kind: tracing::metadata::Kind::EVENT,
    };

    impl tracing::callsite::Callsite for Foreign {
        fn set_interest(&self, _interest: tracing::subscriber::Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            &FOREIGN_LINE
        }
    }

    #[test]
    fn a_library_that_asks_whether_a_line_would_be_shown_costs_no_other_line() {
        let lines = Lines::default();
        let to = lines.clone();
        let layer = super::lines(LogFormat::Text, false, move || to.clone());
        let subscriber =
            tracing_subscriber::registry().with(layer).with(filter("info,contact_replicator=debug").unwrap());
        tracing::subscriber::with_default(subscriber, || {
            for attempt in 0..3 {
                let shown = tracing::dispatcher::get_default(|dispatch| dispatch.enabled(&FOREIGN_LINE));
                assert!(!shown);
                info!(attempt, "delivery will be retried");
            }
        });
        let written = String::from_utf8(lines.0.lock().clone()).unwrap();
        assert_eq!(written.lines().count(), 3, "{written}");
    }

    #[test]
    fn no_color_is_honoured() {
        let surroundings =
            Surroundings { variable: &|name| (name == "NO_COLOR").then(|| "1".into()), ..Surroundings::process() };
        assert!(!coloured(surroundings));
    }
}
