//! What comes in and what goes out: the public contract of this program.
//!
//! [`change`] reads a contact-change event (CloudEvents 1.0 over Kafka, binary or structured) or says what is wrong
//! with it and where; [`version`] orders the changes of one source's subject; [`entry`] is the replicators' work list;
//! [`outcome`] is what became of an event, [`dead_letter`] the place for what could not be read, and [`identity_event`] what
//! was found out about who is who, and [`audit`] what operators did; [`traceparent`] is where an event stands in a trace.
//! [`schemas`] tells all of it to programs.
//! Pure: bytes in, values out.

pub mod audit;
pub mod change;
pub mod dead_letter;
pub mod entry;
mod envelope;
pub mod identity_event;
pub(crate) mod labels;
pub mod outcome;
pub mod schemas;
mod time;
pub mod traceparent;
pub mod version;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use entry::Entry;
pub use outcome::{Operation, Outcome, OutcomeKind, Reason, ReasonCode};
pub use version::{Precedence, SourceVersion};

use crate::log::{Offset, Partition, Record};

/// Names an input event and the place it was read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventRef {
    /// The emitting system, as in the event. Absent only for what could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<str>>,
    pub topic: Arc<str>,
    pub partition: Partition,
    pub offset: Offset,
}

impl EventRef {
    /// The place a record was read from, with nothing yet known of the event in it.
    pub fn at(record: &Record) -> Self {
        Self {
            source: None,
            id: None,
            subject: None,
            topic: record.at.topic.clone(),
            partition: record.at.partition,
            offset: record.offset,
        }
    }
}
