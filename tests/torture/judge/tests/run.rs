//! A small run that went well: two workers, two CRMs, two contacts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use contact_replicator::{
    cli::demo::{
        checks::{Checked, Leftover, Sending},
        evidence::{Call, CrmEvidence, Evidence, Expectation, Fields, Stored},
    },
    config::CrmKind,
    contact::{
        ContactId, ContactRecord, Document, Version,
        record::{FORMAT, Status},
    },
    crm::{REMOTE_CONTACT, link::Link},
    event::{Entry, EventRef, Operation, Outcome, OutcomeKind, Reason, ReasonCode, outcome::ANY_CRM},
    log::{Header, Offset, Record, TopicPartition},
    sandbox::Action,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    history::{Act, History, Line, What},
    judge::{self, Ended, Known, Process, Terms, Verdict},
};

pub(super) const CRMS: [&str; 2] = ["venues", "jobs"];
const TOPIC: &str = "contact-changes";

pub(super) const TERMS: Terms = Terms {
    request_deadline: Duration::from_secs(2),
    session_timeout: Duration::from_secs(6),
    aftermath: Duration::from_secs(10),
    silence_max: Duration::from_secs(3),
    lines_max: 10,
};

pub(super) struct Run {
    pub(super) evidence: Evidence,
    pub(super) history: History,
    pub(super) known: Known,
}

/// This long after the run began.
pub(super) fn at(milliseconds: u64) -> Timestamp {
    let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    begun + Duration::from_millis(milliseconds)
}

pub(super) fn contact(number: u128) -> ContactId {
    ContactId(Uuid::from_u128(number))
}

/// The end of the only connection of a worker.
pub(super) fn peer(worker: u16) -> SocketAddr {
    ([127, 0, 0, 1], 40_000 + worker).into()
}

/// Holds the id and the two names that a contact may have.
#[derive(Debug)]
struct Names(CrmKind);

impl Expectation for Names {
    fn kind(&self) -> CrmKind {
        self.0
    }

    fn of(&self, record: &ContactRecord, _: bool) -> Option<Fields> {
        let name = record.contact.as_ref()?.members().get("name")?;
        let name = |part: &str| name.get(part).and_then(Value::as_str).map(str::to_owned);
        Some(fields(record.contact_id, &name("givenName")?, &name("familyName")?))
    }
}

pub(super) fn fields(contact: ContactId, given: &str, family: &str) -> Fields {
    let named = [("id", contact.key()), ("first", given.to_owned()), ("last", family.to_owned())];
    named.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

fn input(offset: Offset, id: &str, milliseconds: u64) -> Record {
    Record {
        at: TopicPartition::new(TOPIC, 0),
        offset,
        timestamp: at(milliseconds),
        key: Some(Bytes::from_static(b"42")),
        value: Some(Bytes::from_static(b"{}")),
        headers: vec![Header::new("ce_source", &b"/shop"[..]), Header::new("ce_id", Bytes::from(id.to_owned()))],
    }
}

fn record(number: u128, version: Version, given: &str, family: &str) -> ContactRecord {
    let said = json!({
        "name": {"givenName": given, "familyName": family},
        "emails": [{"value": format!("{number}@example.com")}],
        "phoneNumbers": [{"value": format!("+44 7700 90000{number}")}],
    });
    ContactRecord {
        contact_id: contact(number),
        version,
        status: Status::Live,
        merged_into: None,
        contact: Some(Document::parse(said).unwrap().0),
        provenance: BTreeMap::new(),
        members: Vec::new(),
        event: None,
        received_at: Timestamp::UNIX_EPOCH,
        epoch: 1,
        format: FORMAT,
    }
}

fn outcome(entry: &Entry, crm: &str, milliseconds: u64) -> Outcome {
    Outcome {
        event: entry.event.clone(),
        cause: None,
        contact_id: Some(entry.contact_id),
        version: Some(entry.version),
        crm: crm.into(),
        outcome: OutcomeKind::Delivered,
        operation: Some(Operation::Update),
        remote_id: None,
        reason: None,
        attempts: 1,
        received_at: at(milliseconds),
        settled_at: at(milliseconds),
        by_version: None,
        traceparent: None,
    }
}

/// A call that took 10 ms and was taken.
pub(super) fn call(sequence: u64, milliseconds: u64, worker: u16, number: u128, given: &str, family: &str) -> Call {
    Call {
        sequence,
        arrived: Duration::from_millis(milliseconds),
        arrived_at: at(milliseconds),
        peer: Some(peer(worker)),
        ended: Some(Duration::from_millis(milliseconds + 10)),
        action: Action::Upsert,
        external_id: Some(contact(number).key()),
        fields: Some(fields(contact(number), given, family)),
        begins: false,
        effect: Some(sequence),
        status: Some(200),
        refused: false,
        answered: true,
        retry_after: None,
    }
}

/// A record of a topic of the resolver's.
pub(super) fn signed(topic: &str, offset: Offset, key: &'static str, value: &Value, milliseconds: u64) -> Record {
    Record {
        at: TopicPartition::new(topic, 0),
        offset,
        timestamp: at(milliseconds),
        key: Some(Bytes::from_static(key.as_bytes())),
        value: Some(value.to_string().into()),
        headers: Vec::new(),
    }
}

impl Run {
    /// Adds an event that changes a contact, and is delivered to all half a second after it came.
    pub(super) fn changes(&mut self, milliseconds: u64, worker: u16, number: u128, given: &str, family: &str) {
        let evidence = &mut self.evidence;
        let offset = evidence.inputs.len() as Offset;
        let id = format!("e-{offset}");
        let input = input(offset, &id, milliseconds);
        let version =
            1 + evidence.entries.iter().filter(|entry| entry.contact_id == contact(number)).count() as Version;
        let entry = Entry {
            contact_id: contact(number),
            version,
            event: Some(EventRef::at(&input)),
            received_at: at(milliseconds),
            traceparent: None,
            cause: None,
            crm: None,
            link_to: None,
            epoch: 1,
            format: FORMAT,
        };
        evidence.inputs.push(input);
        evidence.records.push(record(number, version, given, family));
        for crm in &mut evidence.crms {
            let settled = milliseconds + 500;
            evidence.outcomes.push(outcome(&entry, &crm.name, settled));
            self.known.uncommitted.push(evidence.outcomes.last().unwrap().id());
            let call = call(crm.calls.len() as u64 + 1, settled - 100, worker, number, given, family);
            crm.stored.retain(|stored| stored.external_id != call.external_id);
            crm.stored.push(Stored {
                remote_id: number.to_string(),
                external_id: call.external_id.clone(),
                fields: fields(contact(number), given, family),
            });
            crm.calls.push(call);
            let mut link = Link::new(contact(number));
            link.remote_ids.insert(REMOTE_CONTACT.to_owned(), number.to_string());
            evidence.links.entry(Arc::clone(&crm.name)).or_default().insert(contact(number), link);
        }
        evidence.entries.push(entry);
        self.known.sent.insert(("/shop".to_owned(), id), Sending { times_sent: 1, times_accepted: 1 });
    }

    /// Adds an event that was sent before.
    pub(super) fn repeats(&mut self, offset: Offset, milliseconds: u64) {
        let evidence = &mut self.evidence;
        let id = format!("e-{offset}");
        let again = input(evidence.inputs.len() as Offset, &id, milliseconds);
        let event = Some(EventRef::at(&again));
        let (outcome, reason) = (OutcomeKind::Duplicate, Some(Reason::from(ReasonCode::SameEvent)));
        let entry = &evidence.entries[0];
        let early = Outcome {
            event,
            outcome,
            reason,
            contact_id: None,
            version: None,
            operation: None,
            ..self::outcome(entry, ANY_CRM, milliseconds)
        };
        self.known.uncommitted.push(early.id());
        evidence.outcomes.push(early);
        evidence.inputs.push(again);
        self.known.sent.insert(("/shop".to_owned(), id), Sending { times_sent: 2, times_accepted: 1 });
    }

    pub(super) fn act(&mut self, from: u64, until: u64, what: What) {
        self.history.acts.push(Act { from: at(from), until: at(until), what });
    }

    /// What the first CRM says.
    pub(super) fn venues(&mut self) -> &mut CrmEvidence {
        &mut self.evidence.crms[0]
    }

    /// The first CRM is one of this kind.
    pub(super) fn is_of(&mut self, kind: CrmKind) {
        self.venues().expectation = Arc::new(Names(kind));
    }

    pub(super) fn judged(&self) -> Verdict {
        judge::all(&self.evidence, &self.history, &self.known, &TERMS)
    }

    /// What is to be mended, which is asked before the run is judged.
    pub(super) fn left(&self) -> Vec<Leftover> {
        judge::left(&self.evidence, &self.history, &TERMS)
    }

    #[track_caller]
    pub(super) fn checked(&self, name: &str) -> Checked {
        self.judged().checked.into_iter().find(|checked| checked.name == name).unwrap()
    }
}

/// Contact 1 has two versions, contact 2 one; the first event came twice. Worker 1 sends but for the second contact.
pub(super) fn run() -> Run {
    let crm = |name: &str| CrmEvidence {
        name: name.into(),
        stored: Vec::new(),
        calls: Vec::new(),
        calls_dropped: 0,
        expectation: Arc::new(Names(CrmKind::Priava)),
    };
    let evidence = Evidence { crms: CRMS.map(crm).into(), ..Evidence::default() };
    let line = |worker| Line { from: at(0), peer: peer(worker), worker: worker_name(worker) };
    let started = |worker| Act { from: at(0), until: at(500), what: What::Started { worker: worker_name(worker) } };
    let history =
        History { acts: [1, 2].map(started).into(), healed: Some(at(90_000)), lines: [1, 2].map(line).into() };
    let mut run = Run { evidence, history, known: Known::default() };
    run.changes(20_000, 1, 1, "Ada", "Roth");
    run.changes(21_000, 2, 2, "Ben", "Vale");
    run.changes(22_000, 1, 1, "Eva", "Kern");
    run.repeats(0, 23_000);

    let epoch = json!({"epoch": 1});
    run.known.state = vec![
        signed("contact-resolver", 0, "#birth", &json!("an id"), 0),
        signed("contact-resolver", 1, "epoch", &epoch, 600),
        signed("contact-resolver", 2, "key_check", &json!({"check": "00"}), 600),
        signed("contact-resolver", 3, "position/contact-changes/0", &json!({"offset": 3, "epoch": 1}), 22_100),
    ];
    run.known.decided = vec![
        signed("contact-records", 0, "a", &epoch, 20_100),
        signed("contact-versions", 0, "a", &epoch, 20_100),
        signed("contact-keys", 0, "k", &epoch, 20_100),
    ];
    let process = |number: u16, line: &str| Process {
        worker: worker_name(number),
        ended: Ended::Asked { code: Some(0) },
        lines: vec![line.to_owned()],
    };
    run.known.processes = vec![
        process(1, "INFO contact_replicator::resolver: this worker is the active resolver epoch=1"),
        process(2, "INFO contact_replicator::worker: ready address=127.0.0.1:1"),
    ];
    let published: BTreeSet<_> = CRMS.into();
    let delivered = |crm: &str| ((crm.to_owned(), "delivered".to_owned(), "none".to_owned()), 3);
    let mut counted: BTreeMap<_, _> = published.into_iter().map(delivered).collect();
    counted.insert((ANY_CRM.to_owned(), "duplicate".to_owned(), "same_event".to_owned()), 1);
    run.known.counted = Some(counted);
    run.known.digests = Some(["d1".to_owned(), "d1".to_owned()]);
    run
}

pub(super) fn worker_name(number: u16) -> Arc<str> {
    format!("worker-{number}").into()
}

/// Asserts that the invariant `name` is broken once `spoilt`, and says so.
#[track_caller]
pub(super) fn fails(name: &str, says: &str, spoil: impl FnOnce(&mut Run)) {
    let mut run = run();
    let before = run.checked(name);
    assert!(before.ok, "before anything was done: {}", before.detail);
    spoil(&mut run);
    let checked = run.checked(name);
    assert!(!checked.ok && checked.detail.contains(says), "{}", checked.detail);
}

/// Asserts that it still holds after a change, and says so.
#[track_caller]
pub(super) fn holds(name: &str, says: &str, change: impl FnOnce(&mut Run)) {
    let mut run = run();
    change(&mut run);
    let checked = run.checked(name);
    assert!(checked.ok && checked.detail.contains(says), "{}", checked.detail);
}
