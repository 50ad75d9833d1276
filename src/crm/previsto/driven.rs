//! The connector under the delivery machine, against a Previsto of a few lines: whatever is lost, at whichever request,
//! there is one contact in the end, and it holds what the newest record says.

use std::sync::Arc;

use serde_json::json;
use tokio::time::Instant;

use super::{
    tests::{CONTACT, connector_with, contact, record},
    *,
};
use crate::{
    config::OnDelete,
    crm::{Response, TransportError, link::Sent, reference::References},
    privacy::{Hasher, Secret},
    protection::Protections,
    replicator::{
        delivery::{Action, Machine, Terms},
        lane::{End, Task},
    },
};

/// Contacts by id, as their own JSON.
#[derive(Default)]
struct Fake {
    contacts: BTreeMap<String, Value>,
    made: u32,
}

impl Fake {
    fn answer(&mut self, request: &Request) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let id = path.strip_prefix("/contacts/");
        let (status, body) = match (request.method.as_str(), id) {
            ("POST", None) => {
                self.made += 1;
                let id = format!("con_{}", self.made);
                let contact =
                    set(json!({ "id": id, "notifyBeforeWork": false, "archived": false, "meta": {} }), &request.body);
                self.contacts.insert(id, contact.clone());
                (200, contact)
            }
            ("GET", None) => {
                let query: BTreeMap<String, String> =
                    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
                let covers = |contact: &&Value| {
                    ["name", "number", "email", "phone"]
                        .iter()
                        .any(|field| contact[*field].as_str().is_some_and(|text| text.contains(&query["search"])))
                };
                let hits: Vec<_> = self.contacts.values().filter(covers).cloned().collect();
                (200, if query["page"] == "0" { Value::Array(hits) } else { json!([]) })
            }
            (method, Some(id)) => match (method, self.contacts.remove(id)) {
                (_, None) => (404, json!({ "type": "invalid_request", "param": "id" })),
                ("DELETE", Some(_)) => (204, Value::Null),
                (method, Some(contact)) => {
                    let contact = if method == "POST" { set(contact, &request.body) } else { contact };
                    self.contacts.insert(id.to_owned(), contact.clone());
                    (200, contact)
                }
            },
            _ => (405, Value::Null),
        };
        let body = Bytes::from(body.to_string());
        Ok(Response { status: http::StatusCode::from_u16(status).unwrap(), headers: http::HeaderMap::new(), body })
    }

    /// What is there, the ids apart.
    fn held(&self) -> Vec<Value> {
        let without_id = |mut contact: Value| {
            contact.as_object_mut().unwrap().remove("id");
            contact
        };
        self.contacts.values().cloned().map(without_id).collect()
    }
}

fn set(mut contact: Value, form: &[u8]) -> Value {
    for (name, value) in url::form_urlencoded::parse(form) {
        let key = name.strip_prefix("meta[").and_then(|key| key.strip_suffix(']'));
        let place = if key.is_some() { &mut contact["meta"] } else { &mut contact };
        let members = place.as_object_mut().unwrap();
        let name = key.unwrap_or(&name);
        match &*value {
            "" => drop(members.remove(name)),
            "true" | "false" if key.is_none() => drop(members.insert(name.to_owned(), json!(value == "true"))),
            text => drop(members.insert(name.to_owned(), json!(text))),
        }
    }
    contact
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The request does not arrive, and the worker hears nothing.
    LostBefore,
    /// It has its effect, and the worker hears nothing.
    LostAfter,
    /// It has its effect, and the worker dies.
    DiesAfter,
}

struct Run {
    terms: Terms,
    fake: Fake,
    /// As committed.
    link: Link,
    forced: bool,
    intended: bool,
    /// The fault, and how many requests go well before it.
    fault: Option<(Fault, usize)>,
}

impl Run {
    /// Delivers the first of `records`, and after the fault the second. Returns what it was called in the end.
    fn deliver<'a>(&mut self, mut record: &'a ContactRecord, newer: &'a ContactRecord) -> Result<Operation, Verdict> {
        for _ in 0..20 {
            let task =
                Task { link: self.link.clone(), forced: self.forced, anew: false, intended: self.intended, tries: 0 };
            let Some(end) = self.attempt(&task, record) else {
                (self.forced, self.intended, record) = (true, false, newer);
                continue;
            };
            match end {
                End::Announced { fields } => self.void(fields),
                End::Intended { intent } => (self.link.intent, self.intended) = (Some(intent), true),
                End::Failed { carried, failure, .. } => {
                    assert_eq!(failure.class, FailureClass::Transient);
                    self.intended = false;
                    if failure.effect == Effect::Unknown {
                        self.void(carried);
                    }
                    record = newer;
                }
                End::Delivered { operation, accepted, .. } => {
                    (self.forced, self.intended) = (false, false);
                    if accepted.presence == Presence::Absent {
                        self.link.forget_remote();
                    } else {
                        self.link.sent = accepted.sent;
                        self.link.remote_ids = accepted.remote_ids;
                        self.link.intent = None;
                    }
                    self.link.presence = Some(accepted.presence);
                    // An attempt without a fault takes the newer record afterwards, as a later event would.
                    if record == newer {
                        return Ok(operation);
                    }
                    record = newer;
                }
                End::Judged { outcome, reason, .. } => {
                    return Err(Verdict { outcome, reason: reason.expect("a verdict has a reason") });
                }
                end => panic!("{end:?}"),
            }
        }
        panic!("it goes on without end");
    }

    /// `None`: the worker died.
    fn attempt(&mut self, task: &Task, record: &ContactRecord) -> Option<End> {
        let terms = self.terms.clone();
        let mut machine = match Machine::new(&terms, task, record, References::default()) {
            Ok(machine) => machine,
            Err(end) => return Some(end),
        };
        let mut action = machine.begin();
        loop {
            let request = match action {
                Action::Send(request) => request,
                Action::Keep(_) => unreachable!("Previsto has no lists"),
                Action::Renew => panic!("the key is good"),
                Action::End(end) => return Some(end),
            };
            let fault = match &mut self.fault {
                Some((_, 0)) => self.fault.take().map(|(fault, _)| fault),
                Some((_, left)) => {
                    *left -= 1;
                    None
                }
                None => None,
            };
            let lost = || Err(TransportError::Unanswered { reason: String::new() });
            let answer = match fault {
                None => self.fake.answer(&request),
                Some(Fault::LostBefore) => lost(),
                Some(fault) => {
                    let _had_its_effect: Answer = self.fake.answer(&request);
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
}

fn run(change: impl FnOnce(&mut CrmSettings), find_before_create: bool, fault: Option<(Fault, usize)>) -> Run {
    let terms = Terms {
        crm: "previsto".into(),
        connector: Arc::new(connector_with(change)),
        hasher: Hasher::new(&Secret::new("a secret of the tests")),
        find_before_create,
        shadow: false,
        protections: Protections::default(),
    };
    Run { terms, fake: Fake::default(), link: Link::new(CONTACT), forced: false, intended: false, fault }
}

fn first() -> ContactRecord {
    record(contact(json!({
        "emails": [{ "value": "ilka@example.com" }], "phoneNumbers": [{ "value": "+4520555012" }], "notes": "n",
        "gender": "female", "attributes": { "pet": "Rex", "ean": "5790" },
    })))
}

fn second() -> ContactRecord {
    let document = contact(json!({ "emails": [{ "value": "ilka.vale@example.com" }], "attributes": { "shoe": 44 } }));
    ContactRecord { version: 2, ..record(document) }
}

fn everything(check: impl Fn(&dyn Fn(&mut CrmSettings), bool, Option<(Fault, usize)>, &str)) {
    for plant_number in [true, false] {
        for find_before_create in [true, false] {
            let planting = |crm: &mut CrmSettings| {
                crm.on_delete = OnDelete::Delete;
                crm.previsto.as_mut().unwrap().plant_number = plant_number;
            };
            check(&planting, find_before_create, None, "without a fault");
            for fault in [Fault::LostBefore, Fault::LostAfter, Fault::DiesAfter] {
                for at in 0..6 {
                    let what = format!("planted {plant_number}, found {find_before_create}, {fault:?} at {at}");
                    check(&planting, find_before_create, Some((fault, at)), &what);
                }
            }
        }
    }
}

#[test]
fn whatever_is_lost_there_is_one_contact_and_it_holds_the_newest_record() {
    everything(|change, find_before_create, fault, what| {
        let mut alone = run(|crm| change(crm), false, None);
        alone.deliver(&second(), &second()).unwrap();
        let mut run = run(|crm| change(crm), find_before_create, fault);
        run.deliver(&first(), &second()).unwrap_or_else(|verdict| panic!("{what}: {verdict:?}"));
        assert_eq!(run.fake.held(), alone.fake.held(), "{what}");
        assert_eq!(run.fake.made, 1, "{what}");
        let id = run.link.remote_ids.get(REMOTE_CONTACT).unwrap();
        assert!(run.fake.contacts.contains_key(id), "{what}");
        assert_eq!(run.link.intent, None, "{what}");
    });
}

#[test]
fn whatever_is_lost_a_deleted_or_erased_contact_is_gone() {
    for status in [Status::Deleted, Status::Erased] {
        everything(|change, find_before_create, fault, what| {
            let mut run = run(|crm| change(crm), find_before_create, fault);
            let contact = first().contact.filter(|_| status == Status::Deleted);
            let gone = ContactRecord { version: 2, status, contact, ..first() };
            match run.deliver(&first(), &gone) {
                Ok(operation) => assert!(matches!(operation, Operation::Delete | Operation::Erase), "{what}"),
                Err(verdict) => assert_eq!(verdict.reason.code, ReasonCode::UnknownContact, "{what}"),
            }
            assert_eq!(run.fake.held(), Vec::<Value>::new(), "{what}");
        });
    }
}

#[test]
fn whatever_is_lost_a_contact_of_nobody_becomes_ours_and_keeps_what_we_do_not_know() {
    everything(|change, _, fault, what| {
        let mut run = run(|crm| change(crm), true, fault);
        let theirs = json!({
            "id": "con_x", "name": "I. Sundstrom", "email": "ilka@example.com", "ean": "1", "archived": true,
            "meta": { "hairColor": "Brown" },
        });
        run.fake.contacts.insert("con_x".to_owned(), theirs);
        let document = || contact(json!({ "emails": [{ "value": "ilka@example.com" }] }));
        let (older, newer) = (record(document()), ContactRecord { version: 2, ..record(document()) });
        match run.deliver(&older, &newer) {
            Ok(_) => {}
            Err(verdict) => assert_eq!(verdict.reason.code, ReasonCode::SameProjection, "{what}"),
        }
        assert_eq!(run.fake.made, 0, "{what}");
        let held = &run.fake.contacts["con_x"];
        assert_eq!(held["meta"]["externalRef"], CONTACT.key(), "{what}");
        assert_eq!((&held["name"], &held["archived"]), (&json!("Ilka Sundstrom"), &json!(false)), "{what}");
        assert_eq!((&held["ean"], &held["meta"]["hairColor"]), (&json!("1"), &json!("Brown")), "{what}");
    });
}
