//! The CRMs: one folder each, behind one seam.
//!
//! A [`Connector`] is pure: from a record, what is known of the remote side (its [`link`]), and the answers so far it makes
//! the next request or the result. It has no clock, no socket and no memory. [`transport`] does the one HTTP exchange.
//! Everything that all CRMs share (retry, limits, order, outcomes) is in `replicator`; connectors do not know each other.
//!
//! A folder holds `wire` (their JSON), `mapping` (ours to theirs, with the loss report), and the connector itself. What all
//! mappings do with a document is in `reading` and `draft`; what operators change about any of them, in `overrides`.
//!
//! # What CRMs ask of us, and where it lives
//!
//! | | |
//! |---|---|
//! | a credential in a header, as bearer, as user of Basic, in a body, a query or a part | [`session::placement`] |
//! | a session that logs in, refreshes, is renewed early, once for all, and not too often | [`session::login`] |
//! | a stale token told from bad credentials or a missing right | each connector's reading of failures: [`FailureClass::Auth`], [`FailureClass::Connection`] |
//! | several requests, resumable after a crash | [`Step::Found`], [`Step::Created`], [`Step::Part`], and a connector's conversation, which begins anew from the link |
//! | upsert, create and update, set actions, bulk | [`RequestKind`], the connectors, [`Batching`] |
//! | find before create, and after a lost one | [`LookUpKeys`], `replicator::delivery` |
//! | an effect that is not known | [`Effect::Unknown`], [`link::Sent::Void`] |
//! | remote ids, of parts too, and a contact that is not finished | [`link::Link::remote_ids`], [`link::Link::incomplete`] |
//! | read, compare, write what differs | conversations of [`crm_com`] and [`logisense`] |
//! | calls that several contacts share, halved when refused | [`Batching`], `replicator::batching` |
//! | absent, null, value | [`Projection::fields`], and the `wire` of each connector |
//! | JSON, forms with brackets, forms with a file, queries | the `wire` of each connector; a photo of [`crm_com`] |
//! | lists that are referred to by id | [`mod@reference`] |
//! | mapping rules, value tables, and what is lost | `overrides`, [`Projection::losses`], [`Connector::cannot_carry`], [`Connector::losses`] |
//! | required fields before any call | the `mapping` of each connector: [`Verdict`] |
//! | what a deletion, an erasure and a withdrawn consent become | `on_delete`, `on_erase` in the mappings; [`Connector::consent_field`] |
//! | classes of failures, overridable | [`classify`], and tables of codes in the settings |
//! | success that is no 2xx, or is one and none | each connector: [`crm_com`] goes by its codes, [`nextinteract_sam`] by rows |
//! | limits of rate and concurrency, `Retry-After` | `replicator::limits`, `replicator::concurrency`, `replicator::gate` |
//! | order per contact | `replicator::lane` |
//! | one contact that refers to another | [`relation`]: no contact waits for another, and none is forgotten |
//! | comparison that knows what does not come back as sent | [`remote::Reader::differences`] of [`previsto`], [`crm_com`] and [`logisense`] |
//! | what is gone | [`FailureClass::Gone`], `on_gone` |
//! | persons and organisations behind endpoints of their own | [`priava`], [`naming::ENTITY`] |
//! | side effects that are switched | settings of each kind: `send_organisation`, `is_used_for_tax`, steering fields of Previsto |
//! | credentials kept out of logs | [`session::placement`] puts them on a copy; [`Request`] does not print queries and bodies |
//! | pages by offset, from zero, from one with a total | conversations of [`crm_com`], [`previsto`], [`logisense`] |
//! | a CRM's own id of a call | [`logisense`] tells it in the log of attempts |

//!
//! # Adding a CRM
//!
//! One folder with a [`Connector`] and a function `session`, an entry each in [`build`] and `of_kind`, a table of settings in
//! `config` with its rules, and what `config/reference.toml` says of it. `rolodex`, which only tests have, is the least that
//! is whole: 272 lines that search, create, update, clear, delete, erase, classify, and let operators fill fields. What its
//! parts stand on, and a real one's:
//!
//! | | |
//! |---|---|
//! | reading the document, and saying, clearing and losing what it says | `reading`, `draft` |
//! | requests one after the other, and how a delivery ends | `dialogue` |
//! | what an answer means, by its status | [`classify`] |
//! | a token that is configured, or that a login gives | [`session`] |
//!
//! With an upsert by a key of ours, [`Connector::next`] is one request and its conclusion, as in [`priava`]; without, a
//! search comes first: where it finds our own reference, [`LookUpKeys::planted`] says so; where it does not, the keys are
//! committed before a create leaves. The tests of `replicator::delivery` lose answers of either kind at will.

pub mod classify;
pub mod crm_com;
mod dialogue;
mod draft;
pub mod fingerprint;
pub mod link;
pub mod logisense;
pub mod naming;
pub mod nextinteract_sam;
mod overrides;
pub mod previsto;
pub mod priava;
mod reading;
pub mod reference;
pub mod relation;
pub mod remote;
#[cfg(test)]
pub(crate) mod rolodex;
pub mod session;
pub mod transport;
mod written;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value;

pub use self::overrides::Misfit;
use self::{
    link::Link,
    naming::Naming,
    overrides::{Overridden, Overrides},
    reference::{Learned, References},
    relation::Relation,
    remote::{NoReader, Reader},
    session::{Session, SessionError},
};
use crate::{
    config::{CrmKind, CrmSettings},
    contact::{ContactRecord, document::Said, record::Status},
    event::{Operation, OutcomeKind, Reason, ReasonCode},
};

/// One request to a CRM. The path is below the configured base URL.
#[derive(Clone, PartialEq)]
pub struct Request {
    pub method: http::Method,
    /// Path and query below the base URL, percent-encoded, starting with `/`. Segments `..` lead above it (RFC 3986,
    /// section 5.2.4).
    pub path: String,
    /// Header names in lower case. Credentials are marked sensitive.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    pub body: Bytes,
    pub kind: RequestKind,
}

/// What a request does to the contacts of a CRM, and so what must hold before it is sent, or sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Changes nothing.
    Read,
    /// Sets what is to be there: sent twice, it has the effect of being sent once.
    Set,
    /// Makes a contact, another one each time it is sent.
    Create,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Bodies hold contacts and queries may; the path before the query holds ids at most.
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{} {path} ({} bytes)", self.method, self.body.len())
    }
}

/// What came back: the whole response, within the body limit.
#[derive(Clone)]
pub struct Response {
    pub status: http::StatusCode,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.status, self.body.len())
    }
}

/// Why there is no usable response.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// Nothing was sent: name, connection, or TLS failed.
    #[error("no connection: {reason}")]
    NotSent { reason: String },
    /// The request may have arrived, in whole, and may have had its effect.
    #[error("no answer: {reason}")]
    Unanswered { reason: String },
    /// A status line came, but not a body that could be used (cut off, or over the limit).
    #[error("the body of a {status} answer is unusable: {reason}")]
    UnusableBody { status: http::StatusCode, reason: String },
}

/// The answer to a request, good or bad.
pub type Answer = Result<Response, TransportError>;

/// What a CRM should hold of a record.
#[derive(Clone, Default, PartialEq)]
pub struct Projection {
    /// Per field on the wire (dotted for nested ones, such as `postalAddress.suburb`), what is to be there.
    /// Absent: nothing is said. [`Value::Null`]: to be cleared.
    pub fields: BTreeMap<String, Value>,
    /// Whether the CRM is to hold it as an active contact.
    pub presence: Presence,
    /// Parts of the record that this CRM cannot carry: JSON pointers, for the loss report.
    pub losses: Vec<Loss>,
}

impl Projection {
    /// The CRM is not to hold it at all.
    pub fn absent() -> Self {
        Self { presence: Presence::Absent, ..Self::default() }
    }
}

impl fmt::Debug for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "projection of {} fields, {:?}, {} losses", self.fields.len(), self.presence, self.losses.len())
    }
}

/// Something a CRM cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss {
    /// JSON pointer of the attribute, array indices left out (`/emails/value`). From a closed set: the schema's paths.
    pub field: &'static str,
    pub why: &'static str,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    #[default]
    Active,
    Inactive,
    /// Not there at all.
    Absent,
}

/// A terminal result reached without a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub outcome: OutcomeKind,
    pub reason: Reason,
}

impl Verdict {
    pub fn new(outcome: OutcomeKind, code: ReasonCode) -> Self {
        Self { outcome, reason: code.into() }
    }

    pub fn field(outcome: OutcomeKind, code: ReasonCode, field: impl Into<String>) -> Self {
        Self { outcome, reason: Reason { field: Some(field.into()), ..code.into() } }
    }

    /// The record lacks what the CRM takes no contact without.
    pub fn missing(field: impl Into<String>) -> Self {
        Self::field(OutcomeKind::Rejected, ReasonCode::MissingField, field)
    }

    /// The CRM has no way to do what the policy wants.
    pub fn unsupported(code: ReasonCode) -> Self {
        Self::new(OutcomeKind::Unsupported, code)
    }

    /// A policy leaves in the CRM what is no longer to be there.
    pub fn kept() -> Self {
        Self::new(OutcomeKind::Filtered, ReasonCode::KeptByPolicy)
    }

    /// There is nothing to take back of a contact that was never sent.
    pub fn never_sent() -> Self {
        Self::new(OutcomeKind::Unchanged, ReasonCode::UnknownContact)
    }
}

/// All that a connector may look at to plan a delivery.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    pub record: &'a ContactRecord,
    /// What the CRM last accepted; `None` if nothing was ever sent.
    pub link: Option<&'a Link>,
    pub projection: &'a Projection,
    /// Fields of the projection that differ from what was last accepted: all an update need carry.
    pub changes: &'a [Arc<str>],
    /// Fields that were sent once and are no longer in the projection: to be cleared.
    pub clears: &'a [String],
    /// What this delivery is to be called in its outcome.
    pub operation: Operation,
    /// No remote id is known and yet the CRM may hold the contact: it is to be searched for by these keys before anything
    /// is created. Never set for a connector without [`Connector::look_up_keys`].
    pub look_up: Option<&'a LookUpKeys>,
    /// Lists of the CRM, as far as they are known.
    pub references: &'a References,
    /// How often the delivery has failed before.
    pub tries: u32,
}

/// By what a contact can be found in a CRM that has no upsert.
#[derive(Clone, Default, PartialEq)]
pub struct LookUpKeys {
    /// Per key of the CRM (such as `number` or `email`), the value as a create carries it.
    pub values: BTreeMap<String, String>,
    /// Our own constant reference is among them, so that a create can be found whatever changes afterwards.
    pub planted: bool,
}

impl fmt::Debug for LookUpKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values are the contact's.
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// What to do next in a delivery.
#[derive(Debug)]
pub enum Step {
    Call(Request),
    /// As [`Step::Call`], but the request is not to be joined with those of others (see [`Batching`]).
    CallAlone(Request),
    Done(Accepted),
    /// A search found the contact, under these ids by role. They are committed before anything more is sent, and the next
    /// delivery knows them: where only the contact's own data can be searched for, what is sent next may change that.
    Found(BTreeMap<String, String>),
    /// The contact was created, under these ids by role, and is not yet all that it should be. They are committed before
    /// anything more is sent, so that no half contact is lost sight of, and the next delivery brings the rest.
    Created(BTreeMap<String, String>),
    /// What was sent so far is accepted, under these ids by role, and `left` are the fields that are not sent yet. The rest is
    /// committed before anything more is sent, and the next delivery has these fields alone to bring. A connector may end a
    /// delivery so only if it sent some of [`Delivery::changes`], and `left` are fewer than these; or it would go on for ever.
    Part {
        remote_ids: BTreeMap<String, String>,
        left: Vec<Arc<str>>,
    },
    /// As [`Step::Done`], but `refused` are fields that the CRM did not take. That is no reason to reject the contact: they
    /// name another one, which may be there later.
    DoneBut {
        accepted: Accepted,
        refused: Vec<Arc<str>>,
    },
    /// A list of the CRM was read. The delivery begins anew with it at hand.
    Learned(Learned),
    /// What the CRM answered decides it: there is nothing to do, or nothing that can be done.
    Judged(Verdict),
    Failed(Failure),
}

/// The CRM holds it now.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    pub operation: Operation,
    /// Ids on the remote side by role; the contact's own is [`REMOTE_CONTACT`].
    pub remote_ids: BTreeMap<String, String>,
}

/// The role of the contact's own id among the remote ids of a link.
pub const REMOTE_CONTACT: &str = "contact";

/// Why an attempt did not succeed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub class: FailureClass,
    /// Whether the CRM may have stored (part of) what was sent.
    pub effect: Effect,
    pub reason: Reason,
    /// How long the CRM asked us to wait.
    pub retry_after: Option<RetryAfter>,
}

/// How long to wait, as `Retry-After` says it (RFC 9110, section 10.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    Delay(Duration),
    At(jiff::Timestamp),
}

impl RetryAfter {
    /// The wait that is left at `now`; nothing if the moment has passed.
    pub fn delay(self, now: jiff::Timestamp) -> Duration {
        match self {
            Self::Delay(delay) => delay,
            Self::At(moment) => Duration::try_from(moment.duration_since(now)).unwrap_or_default(),
        }
    }
}

/// Classes differ in what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// Try this contact again, with growing delay.
    Transient,
    /// The whole CRM asks for patience; does not use up tries.
    Throttled,
    /// The credential was refused.
    Auth,
    /// Somebody else wrote at the same time: try once more, then reject.
    Conflict,
    /// This record will not be taken as it stands.
    Rejected,
    /// The CRM no longer has what the link names.
    Gone,
    /// Nothing will succeed until an operator acts or the CRM is itself again: pause, keep the queue, probe.
    Connection,
}

impl FailureClass {
    /// As it is told, and as settings name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Auth => "auth",
            Self::Conflict => "conflict",
            Self::Rejected => "rejected",
            Self::Gone => "gone",
            Self::Connection => "connection",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    None,
    Unknown,
}

/// What operators may do with a field of a CRM, by configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    pub takes: Takes,
    /// The CRM takes no contact without it.
    pub required: bool,
}

impl Field {
    pub const fn optional(takes: Takes) -> Self {
        Self { takes, required: false }
    }

    pub const fn required(takes: Takes) -> Self {
        Self { takes, required: true }
    }
}

/// The values that a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    Number,
    Boolean,
    /// A text, a number or a boolean.
    Scalar,
    /// A day, or a moment without a zone (ISO 8601).
    Date,
    /// No single value, so that it can only be left to the CRM's users.
    Parts,
}

/// Why operators may not fill a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSettable {
    /// The CRM has no field of this name.
    Unknown,
    /// The CRM gives it by itself.
    Id,
    /// It decides which other fields a contact has.
    Form,
    /// It is an entry among others, each written by an action of its own.
    Entry,
    /// It carries our reference.
    Reference,
    /// It says whether the contact is active.
    Presence,
}

/// What a person agrees to: where it is withdrawn, somebody must know of each CRM that cannot be told.
pub const CONSENTS: [&str; 2] = ["/consent/marketing", "/consent/dataProcessing"];

/// Whether a person withdrew a consent that `connector` has no field for.
pub fn withdraws_in_vain(connector: &dyn Connector, record: &ContactRecord) -> bool {
    let document = record.contact.as_ref().filter(|_| record.status == Status::Live);
    let is_withdrawn = |pointer: &str| {
        let said = document.map(|document| document.at(pointer));
        said == Some(Said::Value(&Value::Bool(false)))
    };
    let has_field = |pointer| connector.takes_consents(record) && connector.consent_field(pointer).is_some();
    CONSENTS.into_iter().any(|pointer| is_withdrawn(pointer) && !has_field(pointer))
}

/// Speaks to one kind of CRM. Pure.
pub trait Connector: Send + Sync + fmt::Debug {
    /// What the CRM should hold of `record`, or the outcome that needs no call (a required field is missing, a
    /// policy keeps it away, the CRM cannot express it).
    fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict>;

    /// Every field that a delivery may carry and that can be cleared. What a worker that died had sent is only known to be
    /// among them.
    fn fields(&self) -> Vec<String>;

    /// What operators may do with a field of this name, as it stands in projections.
    ///
    /// # Errors
    /// Why nothing.
    fn field(&self, _name: &str) -> Result<Field, NotSettable> {
        Err(NotSettable::Unknown)
    }

    /// Whether a contact of such a projection has a field of this name at all: a rule for one that it has not says nothing.
    fn has_field(&self, _name: &str, _projection: &Projection) -> bool {
        true
    }

    /// The value that a rule gives to a field, as projections of this CRM have it.
    fn shaped(&self, _name: &str, value: Value) -> Value {
        value
    }

    /// Whether what the CRM has of a field stays there although the projection has it no longer.
    fn leaves_alone(&self, _record: &ContactRecord, _field: &str) -> bool {
        false
    }

    /// Attributes that the CRM has no place for under this configuration, whatever the contact.
    fn cannot_carry(&self) -> Vec<Loss> {
        Vec::new()
    }

    /// The field that says whether a person agrees, for one of [`CONSENTS`].
    fn consent_field(&self, _pointer: &str) -> Option<String> {
        None
    }

    /// Whether [`Connector::consent_field`] speaks of contacts such as this one.
    fn takes_consents(&self, _record: &ContactRecord) -> bool {
        true
    }

    /// By what the contact that a create of `projection` makes can be found again; `None` where every write is an upsert
    /// by our own key, so that nothing need be looked for.
    fn look_up_keys(&self, _record: &ContactRecord, _projection: &Projection) -> Option<LookUpKeys> {
        None
    }

    /// What operators name a contact of the CRM by when they say which of ours it is.
    fn naming(&self) -> Naming {
        Naming::words()
    }

    /// What the contact is to others, as far as the CRM has a place for it. A delivery's projection then has a field for each
    /// whose other is known, under the path that [`relation::path`] makes, with the other's `id` and `notes`.
    fn relations(&self, _record: &ContactRecord) -> Vec<Relation> {
        Vec::new()
    }

    /// Whether [`Connector::relations`] ever says anything, so that the links of all contacts are worth knowing.
    fn relates(&self) -> bool {
        false
    }

    /// Parts of a projection that are lost because the CRM's lists have no place for them, as far as these are known.
    fn losses(&self, _projection: &Projection, _references: &References) -> Vec<Loss> {
        Vec::new()
    }

    /// The next request of a delivery, or its result. `answers` are those of the requests so far, oldest first.
    fn next(&self, delivery: &Delivery<'_>, answers: &[Answer]) -> Step;

    /// Reads back what the CRM holds.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn reader(&self) -> Result<&dyn Reader, NoReader> {
        Err(NoReader("no way is known to ask it for one"))
    }

    /// How the CRM shows people what it can show of itself; contacts, wherever these can be read back.
    ///
    /// # Errors
    /// Why it can show nothing.
    fn shows(&self) -> Result<&dyn Reader, NoReader> {
        self.reader()
    }

    /// How requests of several contacts travel as one; `None` where each travels by itself.
    fn batching(&self) -> Option<Arc<dyn Batching>> {
        None
    }
}

/// How requests of several contacts are joined into one call, and how its answer is taken apart. Pure.
///
/// A connector plans each contact by itself, with a request that would do if it travelled alone: such a request is a
/// *row*. Whoever sends joins rows that are alike, and hands each of them an answer of its own. So a connector need not
/// know whether its request had company.
pub trait Batching: Send + Sync + fmt::Debug {
    fn limits(&self) -> BatchLimits;

    /// What the answer to this request names it by; `None` if it travels alone whatever the limits say. Two rows of one
    /// call never have the same.
    fn row_key(&self, request: &Request) -> Option<String>;

    /// One request for all `rows`, which have method, path and headers in common.
    fn join(&self, rows: &[&Request]) -> Request;

    /// What the answer to a joined request says to each of `keys`, which are in the order of its rows.
    fn split(&self, answer: &Answer, keys: &[&str]) -> Split;
}

/// How much is joined into one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    pub rows_max: usize,
    /// Of the bodies of all rows. A row that has more travels alone.
    pub bytes_max: usize,
    /// How long the first row waits for others.
    pub age_max: Duration,
}

/// What the answer to a joined request means.
#[derive(Debug)]
pub enum Split {
    /// One answer for each row, in the order of their keys.
    Rows(Vec<Answer>),
    /// All were refused for the sake of some: nothing was stored, and each half may be sent by itself.
    Halve,
}

/// What it takes to speak to one configured CRM, the exchange itself apart.
#[derive(Debug, Clone)]
pub struct Crm {
    pub connector: Arc<dyn Connector>,
    pub session: Arc<dyn Session>,
}

/// Why a configured CRM cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the table `{kind}` is missing")]
    Section { kind: &'static str },
    #[error("`{key}` is not usable: {why}")]
    Setting { key: &'static str, why: &'static str },
    #[error("`field_names` or `never_cleared` is not usable")]
    Name(#[from] priava::NameError),
    #[error("`status_classes` is not usable")]
    Status(#[from] classify::UnknownStatus),
    #[error("there is no usable credential")]
    Credential(#[from] SessionError),
    #[error("the mapping is not usable")]
    Mapping(#[from] Misfit),
}

/// Makes the connector and the session of a configured CRM. Reads its credential, but calls nobody.
pub fn build(settings: &CrmSettings, instance: &str) -> Result<Crm, SetupError> {
    let session: Arc<dyn Session> = match settings.kind {
        CrmKind::Priava => priava::session(settings)?,
        CrmKind::Previsto => Arc::new(previsto::session(settings)?),
        CrmKind::CrmCom => Arc::new(crm_com::session(settings)?),
        CrmKind::Logisense => Arc::new(logisense::session(settings)?),
        CrmKind::NextinteractSam => Arc::new(nextinteract_sam::session(settings)?),
    };
    Ok(Crm { connector: connector(settings, instance)?, session })
}

/// Makes the connector of a configured CRM.
pub fn connector(settings: &CrmSettings, instance: &str) -> Result<Arc<dyn Connector>, SetupError> {
    let inner = of_kind(settings, instance)?;
    let overrides = Overrides::new(settings, &*inner).map_err(|mut misfits| misfits.swap_remove(0))?;
    if overrides.is_empty() {
        return Ok(inner);
    }
    let with = |on_delete| of_kind(&CrmSettings { on_delete, ..settings.clone() }, instance);
    Ok(Arc::new(Overridden::new(inner, overrides, settings.on_leave, with)?))
}

/// All in the settings of a CRM that fits neither it nor the contact document. Of a CRM that cannot be set up otherwise,
/// nothing is told.
pub fn misfits(settings: &CrmSettings, instance: &str) -> Vec<Misfit> {
    match of_kind(settings, instance) {
        Ok(inner) => Overrides::new(settings, &*inner).err().unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

fn of_kind(settings: &CrmSettings, instance: &str) -> Result<Arc<dyn Connector>, SetupError> {
    Ok(match settings.kind {
        CrmKind::Priava => Arc::new(priava::Priava::new(settings, instance)?),
        CrmKind::Previsto => Arc::new(previsto::Previsto::new(settings, instance)?),
        CrmKind::CrmCom => Arc::new(crm_com::CrmCom::new(settings, instance)?),
        CrmKind::Logisense => Arc::new(logisense::Logisense::new(settings)?),
        CrmKind::NextinteractSam => Arc::new(nextinteract_sam::NextinteractSam::new(settings, instance)?),
    })
}

#[cfg(test)]
pub(crate) mod testing;
