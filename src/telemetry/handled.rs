//! What is being handled, for the log lines that are written meanwhile: each carries the ids by which the service owner, the
//! trace and the log find each other.
//!
//! Not a span of `tracing`: its fields would be turned into text for each event, whether a line is written or not. Here ids are
//! laid beside the task that handles the event, and looked at when a line is written.

use std::fmt::{self, Write as _};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use super::traces::Place;
use crate::{
    config::LogFormat,
    contact::ContactId,
    event::{EventRef, traceparent::TraceParent},
};

tokio::task_local! {
    static HANDLED: Handled;
}

/// An event, or an attempt to deliver it.
#[derive(Debug, Clone, Default)]
pub struct Handled {
    pub contact: Option<ContactId>,
    pub event: Option<EventRef>,
    pub place: Place,
}

impl Handled {
    /// Lines that `future` writes carry these ids.
    pub async fn during<F: Future>(self, future: F) -> F::Output {
        HANDLED.scope(self, future).await
    }

    /// Lines that `work` writes carry these ids.
    pub fn within<T>(self, work: impl FnOnce() -> T) -> T {
        HANDLED.sync_scope(self, work)
    }

    /// Tells each id with its name. The event's subject is not among them: it may be personal.
    fn ids(&self, mut tell: impl FnMut(&'static str, Id<'_>)) {
        if let Some(context) = self.place.traceparent().and_then(|text| TraceParent::parse(text)) {
            tell("trace_id", Id::Text(&format_args!("{:032x}", context.trace)));
            tell("span_id", Id::Text(&format_args!("{:016x}", context.span)));
        }
        if let Some(contact) = &self.contact {
            tell("contact_id", Id::Text(contact));
        }
        if let Some(event) = &self.event {
            if let Some(id) = &event.id {
                tell("event_id", Id::Text(id));
            }
            tell("topic", Id::Text(&event.topic));
            tell("partition", Id::Number(event.partition.into()));
            tell("offset", Id::Number(event.offset));
        }
    }
}

enum Id<'a> {
    Text(&'a dyn fmt::Display),
    Number(u64),
}

/// Writes lines as `inner` does, with the ids of what is being handled at their end.
pub(super) struct WithIds<F> {
    pub(super) inner: F,
    pub(super) format: LogFormat,
}

impl<S, N, F> FormatEvent<S, N> for WithIds<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut ids = String::new();
        // A line that says one of them itself says it of what it is about.
        let fields = event.metadata().fields();
        // An error is that nothing is being handled.
        let _outside = HANDLED
            .try_with(|handled| {
                handled.ids(|name, id| {
                    if fields.field(name).is_none() {
                        self.tell(&mut ids, name, &id);
                    }
                });
            })
            .is_err();
        if ids.is_empty() {
            return self.inner.format_event(context, to, event);
        }
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n');
        match self.format {
            LogFormat::Text => writeln!(to, "{line}{ids}"),
            LogFormat::Json => writeln!(to, "{}{ids}}}", line.strip_suffix('}').unwrap_or(line)),
        }
    }
}

impl<F> WithIds<F> {
    fn tell(&self, ids: &mut String, name: &str, id: &Id<'_>) {
        let written = match (self.format, id) {
            (LogFormat::Text, Id::Text(text)) => write!(ids, " {name}={}", text.to_string().escape_default()),
            (LogFormat::Text, Id::Number(number)) => write!(ids, " {name}={number}"),
            (LogFormat::Json, Id::Text(text)) => write!(ids, ",\"{name}\":{}", serde_json::json!(text.to_string())),
            (LogFormat::Json, Id::Number(number)) => write!(ids, ",\"{name}\":{number}"),
        };
        written.expect("writing to a text does not fail");
    }
}
