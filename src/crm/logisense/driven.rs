//! The connector under the delivery machine, against the simulated LogiSense: whatever is lost, at whichever request or
//! commit, there is one whole contact in the end, and it holds what the newest record says.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use super::{
    session,
    tests::{CONTACT, contact, crm_with, record},
    *,
};
use crate::{
    config::OnDelete,
    crm::{
        Presence, REMOTE_CONTACT, TransportError, link::Sent, reference::Library, session::Session,
        transport::Transport,
    },
    event::{Operation, OutcomeKind},
    privacy::{Hasher, Secret},
    protection::Protections,
    replicator::{
        delivery::{Action, Machine, Terms},
        lane::{End, Task},
    },
    sandbox::{Kind, LogisenseSettings as Simulation, Sandbox, SandboxSettings, in_process::InProcess},
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The request does not arrive, and the worker hears nothing.
    LostBefore,
    /// It has its effect, and the worker hears nothing.
    LostAfter,
    /// It has its effect, and the worker dies.
    DiesAfter,
    /// The worker dies with the answer in its hands, before what became of it is committed.
    DiesCommitting,
}

const FAULTS: [Fault; 4] = [Fault::LostBefore, Fault::LostAfter, Fault::DiesAfter, Fault::DiesCommitting];

struct Run {
    terms: Terms,
    sandbox: Sandbox,
    transport: InProcess,
    session: Arc<dyn Session>,
    library: Library,
    /// As committed.
    link: Link,
    forced: bool,
    intended: bool,
    /// The fault, and how many requests, or commits, go well before it.
    fault: Option<(Fault, usize)>,
    requests: usize,
    /// Of the secret, which logins read.
    _folder: tempfile::TempDir,
}

impl Run {
    fn new(change: impl FnOnce(&mut CrmSettings), find_before_create: bool, fault: Option<(Fault, usize)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "sandbox-token").unwrap();
        let mut crm = crm_with(|crm| {
            crm.on_delete = OnDelete::Delete;
            crm.logisense.as_mut().unwrap().secret_file = Some(secret);
        });
        change(&mut crm);
        let session = session(&crm).unwrap();
        let search = crm.logisense.as_ref().unwrap().search;
        let simulation = Simulation { search, ..Simulation::default() };
        let sandbox =
            Sandbox::new(SandboxSettings { logisense: simulation, ..SandboxSettings::of(Kind::Logisense) }).unwrap();
        // Asked for while its secret can be read.
        crm.logisense.as_mut().unwrap().search = true;
        let terms = Terms {
            crm: "logisense".into(),
            connector: Arc::new(Logisense::new(&crm).unwrap()),
            hasher: Hasher::new(&Secret::new("a secret of the tests")),
            shadow: false,
            find_before_create,
            protections: Protections::default(),
        };
        Self {
            terms,
            transport: InProcess::new(sandbox.clone(), Duration::from_secs(5), 1 << 20),
            sandbox,
            session: Arc::new(session),
            library: Library::new(Duration::from_secs(3600), Duration::from_secs(60)),
            link: Link::new(CONTACT),
            forced: false,
            intended: false,
            fault,
            requests: 0,
            _folder: folder,
        }
    }

    fn strikes(&mut self, committing: bool) -> Option<Fault> {
        match &mut self.fault {
            Some((fault, left)) if (*fault == Fault::DiesCommitting) == committing => {
                if *left == 0 {
                    return self.fault.take().map(|(fault, _)| fault);
                }
                *left -= 1;
                None
            }
            _ => None,
        }
    }

    /// Delivers the first of `records`, and after the fault the second. Returns what it was called in the end.
    async fn deliver<'a>(
        &mut self,
        mut record: &'a ContactRecord,
        newer: &'a ContactRecord,
    ) -> Result<Operation, Verdict> {
        for _ in 0..30 {
            let task =
                Task { link: self.link.clone(), forced: self.forced, anew: false, intended: self.intended, tries: 0 };
            let end = self.attempt(&task, record).await;
            let Some(end) = end.filter(|_| self.strikes(true).is_none()) else {
                (self.forced, self.intended, record) = (true, false, newer);
                continue;
            };
            match end {
                End::Announced { fields } => self.void(fields),
                End::Intended { intent } => (self.link.intent, self.intended) = (Some(intent), true),
                End::Found { remote_ids, carried } => {
                    self.void(carried);
                    self.link.remote_ids.extend(remote_ids);
                    (self.link.intent, self.intended) = (None, false);
                }
                End::Created { remote_ids, carried } => {
                    self.void(carried);
                    (self.forced, self.intended) = (false, false);
                    self.link.remote_ids.extend(remote_ids);
                    self.link.intent = None;
                    self.link.incomplete = true;
                }
                End::Failed { carried, failure, .. } => {
                    assert_eq!(failure.class, FailureClass::Transient, "{failure:?}");
                    self.intended = false;
                    if failure.effect == Effect::Unknown || self.forced {
                        self.void(carried);
                        self.forced = false;
                    }
                    record = newer;
                }
                End::Delivered { operation, accepted, .. } => {
                    (self.forced, self.intended) = (false, false);
                    if accepted.presence == Presence::Absent {
                        self.link.forget_remote();
                    } else {
                        self.link.sent = accepted.sent;
                        self.link.remote_ids.extend(accepted.remote_ids);
                        self.link.incomplete = false;
                        self.link.intent = None;
                    }
                    self.link.presence = Some(accepted.presence);
                    // An attempt without a fault takes the newer record afterwards, as a later event would.
                    if record == newer {
                        return Ok(operation);
                    }
                    record = newer;
                }
                End::Judged { outcome, reason, suspected, .. } => {
                    self.void(suspected);
                    return Err(Verdict { outcome, reason: reason.expect("a verdict has a reason") });
                }
                end => panic!("{end:?}"),
            }
        }
        panic!("it goes on without end");
    }

    /// `None`: the worker died.
    async fn attempt(&mut self, task: &Task, record: &ContactRecord) -> Option<End> {
        let terms = self.terms.clone();
        let mut machine = match Machine::new(&terms, task, record, self.library.at(Instant::now())) {
            Ok(machine) => machine,
            Err(end) => return Some(end),
        };
        let mut action = machine.begin();
        loop {
            let mut request = match action {
                Action::Send(request) => request,
                Action::Keep(learned) => {
                    self.library.keep(learned, Instant::now());
                    action = machine.taught(self.library.at(Instant::now()));
                    continue;
                }
                Action::Renew => panic!("the token is good"),
                Action::End(end) => return Some(end),
            };
            self.session.ready(&self.transport).await.unwrap();
            self.session.authorize(&mut request);
            self.requests += 1;
            let lost = || Err(TransportError::Unanswered { reason: String::new() });
            let answer = match self.strikes(false) {
                None => self.transport.exchange(request).await,
                Some(Fault::LostBefore) => lost(),
                Some(fault) => {
                    let _had_its_effect: Answer = self.transport.exchange(request).await;
                    if fault == Fault::DiesAfter {
                        return None;
                    }
                    lost()
                }
            };
            action = machine.answered(answer, Instant::now());
        }
    }

    fn void(&mut self, fields: Vec<Arc<str>>) {
        self.link.sent.extend(fields.into_iter().map(|field| (field, Sent::Void)));
    }

    /// What is there, without the ids of the contact and its children.
    fn held(&self) -> Vec<Value> {
        self.sandbox.contacts().into_iter().map(|contact| without_ids(contact["fields"].clone())).collect()
    }
}

fn without_ids(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().filter(|(name, _)| !matches!(name.as_str(), "identity" | "contactId"));
            Value::Object(members.map(|(name, member)| (name, without_ids(member))).collect())
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(without_ids).collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        value => value,
    }
}

fn first() -> ContactRecord {
    record(contact(json!({
        "name": { "honorificPrefix": "Ms.", "givenName": "Ilka", "familyName": "Sundstrom" },
        "emails": [{ "value": "ilka@example.com" }, { "value": "ilka@example.org" }],
        "phoneNumbers": [{ "value": "+1 519 555 0112", "type": "mobile" }, { "value": "+1 519 555 0113", "type": "fax" }],
        "addresses": [{
            "streetAddress": "14 Kanal St", "locality": "Guelph", "region": "ON", "country": "CA", "postalCode": "N1G 2W1",
        }],
    })))
}

fn second() -> ContactRecord {
    let document = contact(json!({
        "emails": [{ "value": "ilka.vale@example.com" }],
        "phoneNumbers": [{ "value": "+1 519 555 0112", "type": "work" }],
        "addresses": [{ "streetAddress": "2 Mill Rd", "locality": "Albany", "region": "New York", "country": "US" }],
    }));
    ContactRecord { version: 2, ..record(document) }
}

/// What can be set otherwise, and matters to what is found again.
#[derive(Debug, Clone, Copy)]
struct Variant {
    marker: CreateMarker,
    search: bool,
    reference: bool,
    find_before_create: bool,
}

impl Variant {
    fn all() -> impl Iterator<Item = Self> {
        (0..16).map(|number| Self {
            marker: if number & 1 == 0 { CreateMarker::Title } else { CreateMarker::Off },
            search: number & 2 == 0,
            reference: number & 4 != 0,
            find_before_create: number & 8 == 0,
        })
    }

    fn apply(self, crm: &mut CrmSettings) {
        let settings = crm.logisense.as_mut().unwrap();
        settings.create_marker = self.marker;
        settings.search = self.search;
        if self.reference {
            settings.contact_points.reference = "reference".to_owned();
        }
    }

    fn run(self, fault: Option<(Fault, usize)>) -> Run {
        Run::new(|crm| self.apply(crm), self.find_before_create, fault)
    }
}

/// Goes through all faults at all steps, until a run ends before its fault comes.
async fn everything(check: impl AsyncFn(Variant, Option<(Fault, usize)>, &str) -> bool) {
    for variant in Variant::all() {
        check(variant, None, &format!("{variant:?} without a fault")).await;
        for fault in FAULTS {
            for at in 0.. {
                assert!(at < 60, "it goes on without end");
                let what = format!("{variant:?}, {fault:?} at {at}");
                if !check(variant, Some((fault, at)), &what).await {
                    assert!(at > 1, "{what}: there are steps to break");
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_lost_there_is_one_whole_contact_and_it_holds_the_newest_record() {
    everything(async |variant, fault, what| {
        let mut alone = variant.run(None);
        alone.deliver(&second(), &second()).await.unwrap();
        let mut run = variant.run(fault);
        let ended = run.deliver(&first(), &second()).await;
        ended.unwrap_or_else(|verdict| panic!("{what}: {verdict:?}"));
        assert_eq!(run.held(), alone.held(), "{what}");
        let id = run.link.remote_ids.get(REMOTE_CONTACT).unwrap();
        assert_eq!(run.sandbox.contacts()[0]["id"], json!(id), "{what}");
        assert!(run.link.intent.is_none() && !run.link.incomplete, "{what}");
        fault.is_some() && run.fault.is_none()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn whatever_is_lost_a_deleted_contact_is_gone_and_an_erased_one_says_nothing() {
    for status in [Status::Deleted, Status::Erased] {
        everything(async |variant, fault, what| {
            let mut run = variant.run(fault);
            let contact = first().contact.filter(|_| status == Status::Deleted);
            let gone = ContactRecord { version: 2, status, contact, ..first() };
            match run.deliver(&first(), &gone).await {
                Ok(operation) => assert!(matches!(operation, Operation::Delete | Operation::Blank), "{what}"),
                Err(verdict) if verdict.reason.code == ReasonCode::UnknownContact => {}
                // Without a marker, and with the names forgotten, nobody can tell.
                Err(verdict) => {
                    assert_eq!(verdict, Verdict::new(OutcomeKind::Rejected, ReasonCode::AmbiguousMatch), "{what}");
                    panic!("{what}: what was sent is known by the intent");
                }
            }
            let held = serde_json::to_string(&run.held()).unwrap();
            assert!(!held.contains("ilka") && !held.contains("Kanal") && !held.contains("Sundstrom"), "{what}: {held}");
            if status == Status::Deleted {
                assert_eq!(run.held(), Vec::<Value>::new(), "{what}");
            }
            fault.is_some() && run.fault.is_none()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_lost_a_contact_of_nobody_becomes_ours_and_keeps_what_we_do_not_know() {
    everything(async |variant, fault, what| {
        let mut run = Run::new(|crm| variant.apply(crm), true, fault);
        let mut theirs = variant.run(None);
        let body = |text: Value| Some(Bytes::from(text.to_string()));
        let make = async |run: &mut Run, method, path: &str, said: Value| {
            let logisense = Logisense::new(&crm_with(|_| ())).unwrap();
            let mut request = logisense.request(method, path, body(said), RequestKind::Set);
            run.session.ready(&run.transport).await.unwrap();
            run.session.authorize(&mut request);
            assert_eq!(run.transport.exchange(request).await.unwrap().status, 200);
        };
        for run in [&mut run, &mut theirs] {
            let said = json!({ "contactTypeId": 20, "title": "Dr.", "firstName": "I.", "lastName": "Sundstrom" });
            make(run, Method::POST, "Contact/", said).await;
            let points = json!([
                { "patchType": "create", "contactPointTypeId": 41, "value": "ilka@example.com" },
                { "patchType": "create", "contactPointTypeId": 41, "value": "shop@example.com" },
                { "patchType": "create", "contactPointTypeId": 43, "value": "+1 1" },
            ]);
            let address = json!([{ "patchType": "create", "address1": "Shared" }]);
            let said = json!({ "details": { "contactPoints": { "items": points }, "address": { "items": address } } });
            make(run, Method::PATCH, "Contact/318", said).await;
        }
        let name = json!({ "givenName": "Ilka", "familyName": "Sundstrom" });
        let older = record(json!({ "name": name, "emails": [{ "value": "ilka@example.com" }] }));
        let more = json!([{ "value": "ilka@example.com" }, { "value": "ilka@example.org" }]);
        let address = json!([{ "streetAddress": "14 Kanal St" }]);
        let newer = record(json!({ "name": name, "emails": more, "addresses": address }));
        let newer = ContactRecord { version: 2, ..newer };
        let ended = run.deliver(&older, &newer).await;
        if !variant.reference {
            // Nothing could tell it from one of ours.
            ended.unwrap_or_else(|verdict| panic!("{what}: {verdict:?}"));
            let before = theirs.sandbox.contacts().remove(0);
            let there = run.sandbox.contacts();
            assert_eq!((there.len(), &there[0]["fields"]), (2, &before["fields"]), "{what}");
        } else {
            ended.unwrap_or_else(|verdict| panic!("{what}: {verdict:?}"));
            assert_eq!(run.sandbox.contacts().len(), 1, "{what}");
            let held = &run.sandbox.contacts()[0]["fields"];
            assert_eq!((&held["title"], &held["firstName"]), (&json!("Dr."), &json!("Ilka")), "{what}");
            let values: Vec<&str> = held["details"]["contactPoints"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|point| point["contactPointTypeId"] != 44)
                .map(|point| point["value"].as_str().unwrap())
                .collect();
            let expected = ["ilka@example.com", "shop@example.com", "+1 1", "ilka@example.org"];
            assert_eq!(values, expected, "{what}");
            assert_eq!(held["details"]["address"]["address1"], "14 Kanal St", "{what}");
            // The shared one is as it was.
            let page = run.sandbox.handle(http::Request::get("/_sandbox/contacts").body(Bytes::new()).unwrap());
            let page: Value = serde_json::from_slice(page.await.unwrap().body()).unwrap();
            assert_eq!(page["unattachedAddresses"], json!([77]), "{what}");
        }
        fault.is_some() && run.fault.is_none()
    })
    .await;
}
