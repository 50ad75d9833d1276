//! Outcome events: what became of a change. Exactly one terminal outcome for each (accepted event, configured CRM).
//!
//! Others read these, so the form is a contract: CloudEvents in binary mode, whose data always has the same members,
//! null where there is nothing to say. The `id` is made of what the outcome answers and nothing else, so that a reader
//! can drop a repeat, whoever wrote it and when. Ids and names only; with [`Subjects::Hashed`], not even the subject.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EventRef, entry::Cause, labels::labels};
use crate::{
    config::SubjectForm,
    contact::{ContactId, Version, format::FormatError},
    log::{Header, Offset, Partition, Record},
    privacy::{Hasher, hex},
};

/// The `crm` of an outcome that was reached before the fan-out.
pub const ANY_CRM: &str = "*";

/// What the `type` of an outcome event begins with; the outcome follows.
pub const TYPE_PREFIX: &str = "contact.replication.";

/// One terminal outcome. Carries ids only, never a value of a contact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub event: Option<EventRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Absent for a quarantined event.
    pub contact_id: Option<ContactId>,
    pub version: Option<Version>,
    pub crm: Arc<str>,
    pub outcome: OutcomeKind,
    pub operation: Option<Operation>,
    pub remote_id: Option<String>,
    pub reason: Option<Reason>,
    pub attempts: u32,
    pub received_at: Timestamp,
    pub settled_at: Timestamp,
    /// The version whose outcome tells the end, when this one was superseded.
    pub by_version: Option<Version>,
    /// W3C trace context of the event. Travels as an attribute, not in the data.
    #[serde(skip)]
    pub traceparent: Option<Arc<str>>,
}

labels! {
    pub enum OutcomeKind {
        /// The CRM holds this version now; `operation` says what was done.
        Delivered = "delivered",
        /// Nothing that this CRM would store differs from what it was last sent, and no call was made; with `crm: "*"` the record itself did not change.
        Unchanged = "unchanged",
        /// A newer version took its place before it was delivered; the outcome of `by_version` tells the end.
        Superseded = "superseded",
        /// The CRM will not take it as it stands, or something that it requires is missing; the next version is tried again.
        Rejected = "rejected",
        /// This CRM cannot express what was to be done; an operator should know.
        Unsupported = "unsupported",
        /// It was given up at the age that is configured; by default there is none.
        Expired = "expired",
        /// It was seen before.
        Duplicate = "duplicate",
        /// It is older than what is known.
        Stale = "stale",
        /// A setting or a policy kept it away from this CRM.
        Filtered = "filtered",
        /// It cannot be read or decided; its bytes are a dead letter.
        Quarantined = "quarantined",
    }
}

impl OutcomeKind {
    /// The codes that may come with it. Where there are any, one does come.
    pub const fn codes(self) -> &'static [ReasonCode] {
        use ReasonCode as Code;
        match self {
            Self::Delivered | Self::Superseded => &[],
            Self::Unchanged => &[Code::SameProjection, Code::SameRecord, Code::UnknownContact, Code::NothingWaiting],
            Self::Rejected => &[
                Code::MissingField,
                Code::InvalidField,
                Code::Conflict,
                Code::AmbiguousMatch,
                Code::Gone,
                Code::TooLarge,
                Code::Refused,
            ],
            Self::Unsupported => &[Code::Kind, Code::Delete, Code::Deactivate, Code::Erase],
            Self::Expired => &[Code::MaxAge],
            Self::Duplicate | Self::Stale => &[Code::SameEvent, Code::SameVersion, Code::OlderVersion],
            Self::Filtered => &[Code::Where, Code::KeptByPolicy, Code::Shadow, Code::Suppressed, Code::Skipped],
            Self::Quarantined => &[
                Code::NotCloudevents,
                Code::MissingAttribute,
                Code::BadAttribute,
                Code::UnknownType,
                Code::NotJson,
                Code::TooDeep,
                Code::TooLarge,
                Code::WrongType,
                Code::BadValue,
                Code::NoSubject,
                Code::TombstoneWithoutSource,
                Code::UnknownSource,
                Code::TimeInFuture,
                Code::RecordTooLarge,
                Code::InternalError,
            ],
        }
    }
}

labels! {
    pub enum Operation {
        Create = "create",
        Update = "update",
        Deactivate = "deactivate",
        Reactivate = "reactivate",
        Delete = "delete",
        Erase = "erase",
        Blank = "blank",
        Adopt = "adopt",
    }
}

/// Why, in codes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    pub code: ReasonCode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The CRM's own code, where it has a closed vocabulary; never its message, which may quote the contact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crm_code: Option<String>,
    /// The field at fault: a name on the wire or a JSON pointer, never its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl From<ReasonCode> for Reason {
    fn from(code: ReasonCode) -> Self {
        Self { code, http_status: None, crm_code: None, field: None }
    }
}

labels! {
    /// All codes, a closed list; which outcome may carry which is in [`OutcomeKind::codes`].
    pub enum ReasonCode {
        /// What this CRM would store is what it accepted last.
        SameProjection = "same_projection",
        /// The change makes no difference to the record.
        SameRecord = "same_record",
        /// There is nothing to delete or erase: the contact is not known, or was never in this CRM.
        UnknownContact = "unknown_contact",
        /// There was nothing to pass over: what an operator wanted skipped had ended.
        NothingWaiting = "nothing_waiting",
        /// A field that the CRM requires is missing; `field` names it.
        MissingField = "missing_field",
        /// The CRM, or the mapping to it, does not take a value; `field` names the place where that is known.
        InvalidField = "invalid_field",
        /// It contradicts what the CRM holds, also when it was tried once more.
        Conflict = "conflict",
        /// It cannot be told which contact of the CRM it is: a search finds several, or more than the CRM's settings allow to read (`search_pages_max`, `walk_pages_max`, `candidates_max`), or none can be made after a create whose answer was lost.
        AmbiguousMatch = "ambiguous_match",
        /// The CRM no longer has the contact, and the settings say not to make it anew.
        Gone = "gone",
        /// It is larger than the CRM, or for a dead letter the program, takes.
        TooLarge = "too_large",
        /// The CRM refused it for another reason; `http_status` and `crm_code` say more.
        Refused = "refused",
        /// The CRM has no contacts of this kind, or has this one as another kind that cannot be retired.
        Kind = "kind",
        /// The CRM cannot delete.
        Delete = "delete",
        /// The CRM cannot deactivate.
        Deactivate = "deactivate",
        /// The CRM cannot forget a person.
        Erase = "erase",
        /// It was older than `delivery.max_age` when a try failed.
        MaxAge = "max_age",
        /// An event of this source and id was taken before.
        SameEvent = "same_event",
        /// An event of this version was taken before.
        SameVersion = "same_version",
        /// A newer event of this source about this contact was taken before.
        OlderVersion = "older_version",
        /// The filter of the CRM does not match the contact.
        Where = "where",
        /// The settings say to keep the contact in the CRM as it is.
        KeptByPolicy = "kept_by_policy",
        /// The CRM is in shadow: it is not called.
        Shadow = "shadow",
        /// The contact is kept away from this CRM. This release does not write it.
        Suppressed = "suppressed",
        /// An operator had it passed over.
        Skipped = "skipped",
        /// It is no CloudEvent 1.0.
        NotCloudevents = "not_cloudevents",
        /// An attribute of the event is missing.
        MissingAttribute = "missing_attribute",
        /// An attribute of the event is ill-formed.
        BadAttribute = "bad_attribute",
        /// Its `type` says nothing that could have happened to a contact.
        UnknownType = "unknown_type",
        /// Its data is no JSON.
        NotJson = "not_json",
        /// It is nested more deeply than `input.event_depth_max`.
        TooDeep = "too_deep",
        /// A value is of another JSON type than its place takes.
        WrongType = "wrong_type",
        /// A value is ill-formed: a date, a country, a language.
        BadValue = "bad_value",
        /// It does not say which contact it is about.
        NoSubject = "no_subject",
        /// A record without a value came to a topic for which no source is configured.
        TombstoneWithoutSource = "tombstone_without_source",
        /// Its source has no `[[source]]`, and `input.known_sources_only` is set.
        UnknownSource = "unknown_source",
        /// Its time is further ahead than `input.future_max`.
        TimeInFuture = "time_in_future",
        /// The record would become larger than `identity.record_bytes_max`, or than a topic takes.
        RecordTooLarge = "record_too_large",
        /// The decision failed by a fault of this program.
        InternalError = "internal_error",
    }
}

/// How outcomes name subjects.
#[derive(Debug, Clone)]
pub enum Subjects {
    Plain,
    /// As a keyed hash of the subject alone: whoever has the secret, or asks about a known subject, finds its outcomes.
    Hashed(Hasher),
}

impl Subjects {
    pub fn new(form: SubjectForm, hasher: &Hasher) -> Self {
        match form {
            SubjectForm::Plain => Self::Plain,
            SubjectForm::Hashed => Self::Hashed(hasher.clone()),
        }
    }

    /// A subject in this form.
    pub fn name(&self, subject: &Arc<str>) -> Arc<str> {
        match self {
            Self::Plain => subject.clone(),
            Self::Hashed(hasher) => hash(hasher, subject.as_bytes()).into(),
        }
    }

    /// An input key in this form. The key of an event should be its subject, so it is as personal as that.
    fn key(&self, key: &[u8]) -> Bytes {
        match self {
            Self::Plain => Bytes::copy_from_slice(key),
            Self::Hashed(hasher) => hash(hasher, key).into(),
        }
    }
}

fn hash(hasher: &Hasher, subject: &[u8]) -> String {
    hex(&hasher.hash128("outcome:subject", &[subject]))
}

/// The parts of an outcome's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The contact, or where there is none, the key of the input record.
    pub key: Option<Bytes>,
    pub headers: Vec<Header>,
    pub value: Bytes,
}

impl Outcome {
    /// The outcome as an event of `instance`. `input_key` is that of the input record, for an outcome without contact.
    ///
    /// # Panics
    /// If the outcome answers neither an event nor a cause: nobody could ever tell what it is the end of.
    pub fn encode(&self, instance: &str, subjects: &Subjects, input_key: Option<&[u8]>) -> Encoded {
        let contact = self.contact_id.map(|contact| contact.key());
        let mut headers = vec![
            header("ce_specversion", "1.0"),
            header("ce_id", &self.id()),
            header("ce_source", instance),
            header("ce_type", &self.event_type()),
            header("ce_time", &self.settled_at.to_string()),
        ];
        let event_source = self.event.as_ref().and_then(|event| event.source.as_deref());
        let optional = [
            ("ce_subject", contact.as_deref()),
            ("ce_eventsource", event_source),
            ("ce_traceparent", self.traceparent.as_deref()),
        ];
        headers.extend(optional.into_iter().filter_map(|(name, value)| Some(header(name, value?))));
        headers.push(header("content-type", "application/json"));

        let data = Data::of(self, subjects);
        Encoded {
            key: contact.map(Bytes::from).or_else(|| input_key.map(|key| subjects.key(key))),
            headers,
            value: serde_json::to_vec(&data).expect("an outcome is made of what JSON can express").into(),
        }
    }

    /// Reads an outcome event back. Its subject stays hashed if it was.
    ///
    /// # Errors
    /// If it is not an outcome as [`Outcome::encode`] writes it, or its attributes say otherwise than its data.
    pub fn decode(record: &Record) -> Result<Self, FormatError> {
        let malformed = |reason: &str| FormatError::Malformed { reason: reason.to_owned() };
        let value = record.value.as_deref().ok_or_else(|| malformed("an outcome has a value"))?;
        let mut outcome: Self = serde_json::from_slice(value).map_err(|error| FormatError::malformed(&error))?;
        let says = |name: &str, expected: Option<&str>| {
            record.header(name).map(|value| &**value) == expected.map(str::as_bytes)
        };
        if outcome.event.is_none() && outcome.cause.is_none() {
            return Err(malformed("the outcome answers neither an event nor a cause"));
        }
        if !says("ce_specversion", Some("1.0")) || !says("ce_type", Some(&outcome.event_type())) {
            return Err(malformed("the event is not of the type that its data says"));
        }
        if !says("ce_id", Some(&outcome.id())) {
            return Err(malformed("the id of the event is not that of the outcome in it"));
        }
        if !says("ce_subject", outcome.contact_id.map(|contact| contact.key()).as_deref()) {
            return Err(malformed("the subject of the event is not the contact in it"));
        }
        let traceparent = record.header("ce_traceparent").and_then(|value| std::str::from_utf8(value).ok());
        outcome.traceparent = traceparent.map(Arc::from);
        Ok(outcome)
    }

    /// The CloudEvents `id`: the same whenever the same (event, CRM) or (cause, contact, CRM) is answered.
    pub fn id(&self) -> String {
        let crm = &self.crm;
        match (&self.cause, &self.event) {
            (Some(Cause { kind, id }), _) => {
                let contact = self.contact_id.map_or_else(|| "-".to_owned(), |contact| contact.key());
                format!("cause/{kind}/{id}/{contact}/{crm}")
            }
            (None, Some(event)) => format!("event/{}/{}/{}/{crm}", event.topic, event.partition, event.offset),
            (None, None) => panic!("an outcome answers an event or a cause"),
        }
    }

    /// Whether it answers what an operator asked, and so stands outside the accounting of events.
    pub fn is_asked(&self) -> bool {
        self.cause.as_ref().is_some_and(|cause| cause.kind.is_asked())
    }

    /// The CloudEvents `type`.
    pub fn event_type(&self) -> String {
        format!("{TYPE_PREFIX}{}", self.outcome)
    }
}

fn header(name: &str, value: &str) -> Header {
    Header::new(name, Bytes::copy_from_slice(value.as_bytes()))
}

/// The data as readers know it: unlike our own records, with every member, so that none has to be guessed from its
/// absence. Only `cause` comes with nothing but what has one.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Outcome")]
pub(super) struct Data<'a> {
    /// What it answers; null where an operator or the program itself asked.
    event: Option<EventData<'a>>,
    /// Who asked, where no event did. Such outcomes stand outside the one for each event and CRM.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a Cause>,
    /// Null for a quarantined event, which has no contact.
    contact_id: Option<ContactId>,
    /// Of the contact, when this was settled.
    version: Option<Version>,
    /// Its name in the settings; "*" for what ended before any CRM.
    crm: &'a str,
    outcome: OutcomeKind,
    /// What was done in the CRM.
    operation: Option<Operation>,
    /// What the CRM calls the contact.
    remote_id: Option<&'a str>,
    /// Why, in codes.
    reason: Option<ReasonData<'a>>,
    /// Tries that it took.
    attempts: u32,
    /// When the event was read.
    received_at: Timestamp,
    settled_at: Timestamp,
    /// The version whose outcome tells the end, when this one was superseded.
    by_version: Option<Version>,
}

/// How an event is named in data of ours.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Event")]
pub(super) struct EventData<'a> {
    source: Option<&'a str>,
    id: Option<&'a str>,
    /// As in the event, or a hash of it where `outcomes.subject` says so.
    subject: Option<Arc<str>>,
    topic: &'a str,
    partition: Partition,
    offset: Offset,
}

impl<'a> EventData<'a> {
    pub(super) fn of(event: &'a EventRef, subjects: &Subjects) -> Self {
        Self {
            source: event.source.as_deref(),
            id: event.id.as_deref(),
            subject: event.subject.as_ref().map(|subject| subjects.name(subject)),
            topic: &event.topic,
            partition: event.partition,
            offset: event.offset,
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Reason")]
struct ReasonData<'a> {
    code: ReasonCode,
    http_status: Option<u16>,
    /// The CRM's own code, where it has a closed vocabulary.
    crm_code: Option<&'a str>,
    /// The field at fault: the CRM's name of it, or a JSON pointer.
    field: Option<&'a str>,
}

impl<'a> Data<'a> {
    fn of(outcome: &'a Outcome, subjects: &Subjects) -> Self {
        Self {
            event: outcome.event.as_ref().map(|event| EventData::of(event, subjects)),
            cause: outcome.cause.as_ref(),
            contact_id: outcome.contact_id,
            version: outcome.version,
            crm: &outcome.crm,
            outcome: outcome.outcome,
            operation: outcome.operation,
            remote_id: outcome.remote_id.as_deref(),
            reason: outcome.reason.as_ref().map(|reason| ReasonData {
                code: reason.code,
                http_status: reason.http_status,
                crm_code: reason.crm_code.as_deref(),
                field: reason.field.as_deref(),
            }),
            attempts: outcome.attempts,
            received_at: outcome.received_at,
            settled_at: outcome.settled_at,
            by_version: outcome.by_version,
        }
    }
}

#[cfg(test)]
mod tests;
