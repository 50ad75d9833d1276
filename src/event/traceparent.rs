//! Where a change stands in a trace, as W3C Trace Context writes it (<https://www.w3.org/TR/trace-context/>).
//!
//! A text that has not this form is ignored, as the standard asks, and a later version is read as far as it begins like the
//! first. What is written is of version 00.

use std::{fmt, sync::Arc};

use crate::log::Record;

/// The header of a request, and of a Kafka record, that holds it.
pub const TRACEPARENT: &str = "traceparent";

/// The flags of version 00: whether the span was recorded, and whether the trace's id is random.
const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;
/// Longer ones, which only a later version could have, are ignored.
const BYTES_MAX: usize = 1024;

/// A span as those that come after it know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// Not 0.
    pub trace: u128,
    /// Not 0.
    pub span: u64,
    flags: u8,
}

impl TraceParent {
    /// A span of a trace that begins here.
    pub fn root(trace: u128, span: u64, sampled: bool) -> Self {
        Self { trace, span, flags: RANDOM | if sampled { SAMPLED } else { 0 } }
    }

    /// A later span of the same trace.
    pub fn child(self, span: u64) -> Self {
        Self { span, ..self }
    }

    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// `None` for what is to be ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if text.len() > BYTES_MAX {
            return None;
        }
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let has_form = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
        if !has_form || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self { trace, span, flags: flags & (SAMPLED | RANDOM) })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// The context of an event: `own` is what the event itself says, beside the header that its producer put on the record. Of
/// one trace, the header is nearer: the producer sent the event after it was made. Of two, the event's own counts.
pub(super) fn of_event(own: Option<&str>, record: &Record) -> Option<Arc<str>> {
    let parsed = |text: &str| TraceParent::parse(text);
    let own = own.and_then(|text| Some((parsed(text)?, text)));
    let sent = header(record, TRACEPARENT).and_then(|text| Some((parsed(text)?, text)));
    let (_, text) = match (own, sent) {
        (Some(own), Some(sent)) if own.0.trace == sent.0.trace => sent,
        (own, sent) => own.or(sent)?,
    };
    Some(text.into())
}

/// As far as headers tell: the context of a record that could not be read.
pub fn of_headers(record: &Record) -> Option<Arc<str>> {
    of_event(header(record, "ce_traceparent"), record)
}

fn header<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    record.header(name).and_then(|value| std::str::from_utf8(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Header, TopicPartition};

    const ONE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const CHILD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-01";
    const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in [ONE, OTHER, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03"] {
            assert_eq!(TraceParent::parse(text).unwrap().to_string(), text);
        }
        assert!(TraceParent::parse(ONE).unwrap().is_sampled() && !TraceParent::parse(OTHER).unwrap().is_sampled());
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = ONE.replacen("00", "cc", 1).replace("-01", "-ff-what-will-be");
        assert_eq!(TraceParent::parse(&later).unwrap().to_string(), ONE.replace("-01", "-03"));
    }

    #[test]
    fn what_is_ill_formed_is_ignored() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_producers_header_is_nearer_within_one_trace_and_gives_way_between_two() {
        let record = |sent: Option<&str>| Record {
            at: TopicPartition::new("t", 0),
            offset: 0,
            timestamp: jiff::Timestamp::UNIX_EPOCH,
            key: None,
            value: None,
            headers: sent.map(|sent| Header::new(TRACEPARENT, sent.to_owned())).into_iter().collect(),
        };
        for (own, sent, expected) in [
            (Some(ONE), Some(CHILD), Some(CHILD)),
            (Some(ONE), Some(OTHER), Some(ONE)),
            (Some(ONE), Some("nonsense"), Some(ONE)),
            (Some("nonsense"), Some(CHILD), Some(CHILD)),
            (None, Some(CHILD), Some(CHILD)),
            (Some(ONE), None, Some(ONE)),
            (None, None, None),
        ] {
            assert_eq!(of_event(own, &record(sent)).as_deref(), expected, "{own:?} and {sent:?}");
        }
    }
}
