//! The connector and its login under the delivery machine, against the simulated CRM.COM: whatever is lost, at whichever
//! request, there is one contact in the end, and it holds what the newest record says.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::{
    tests::{CONTACT, KEY, connector_with, contact, record},
    *,
};
use crate::{
    config::OnErase,
    crm::{
        Effect, FailureClass, Presence, REMOTE_CONTACT, TransportError, link::Sent, reference::References,
        session::Session, testing::crm_com_crm, transport::Transport,
    },
    event::{Operation, ReasonCode},
    privacy::{Hasher, Secret},
    protection::Protections,
    replicator::{
        delivery::{Action, Machine, Terms},
        lane::{End, Task},
    },
    sandbox::{Kind, Sandbox, SandboxSettings, in_process::InProcess},
};

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
    session: Arc<dyn Session>,
    sandbox: Sandbox,
    transport: InProcess,
    /// As committed.
    link: Link,
    forced: bool,
    intended: bool,
    /// The fault, and how many requests go well before it.
    fault: Option<(Fault, usize)>,
    _secret: tempfile::TempDir,
}

fn run(change: impl Fn(&mut CrmSettings), find_before_create: bool, fault: Option<(Fault, usize)>) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "sandbox-token").unwrap();
    let with_secret = |crm: &mut CrmSettings| {
        change(crm);
        crm.crm_com.as_mut().unwrap().secret_file = Some(secret.clone());
    };
    let mut settings = crm_com_crm();
    with_secret(&mut settings);
    let sandbox = Sandbox::new(SandboxSettings::of(Kind::CrmCom)).unwrap();
    let terms = Terms {
        crm: "crm-com".into(),
        connector: Arc::new(connector_with(with_secret)),
        hasher: Hasher::new(&Secret::new("a secret of the tests")),
        shadow: false,
        find_before_create,
        protections: Protections::default(),
    };
    Run {
        terms,
        session: Arc::new(session(&settings).unwrap()),
        transport: InProcess::new(sandbox.clone(), Duration::from_secs(30), 1 << 20),
        sandbox,
        link: Link::new(CONTACT),
        forced: false,
        intended: false,
        fault,
        _secret: folder,
    }
}

impl Run {
    /// Delivers the first of `records`, and after the fault the second. Returns what it was called in the end.
    async fn deliver(&mut self, older: &ContactRecord, newer: &ContactRecord) -> Result<Operation, Verdict> {
        let mut record = older;
        for _ in 0..30 {
            let task =
                Task { link: self.link.clone(), forced: self.forced, anew: false, intended: self.intended, tries: 0 };
            let Some(end) = self.attempt(&task, record).await else {
                (self.forced, self.intended, record) = (true, false, newer);
                continue;
            };
            match end {
                End::Announced { fields } => self.void(fields),
                End::Intended { intent } => (self.link.intent, self.intended) = (Some(intent), true),
                End::Found { remote_ids, carried } => {
                    self.intended = false;
                    self.void(carried);
                    self.link.remote_ids.extend(remote_ids);
                    self.link.intent = None;
                }
                End::Part { remote_ids, sent } => {
                    (self.forced, self.intended) = (false, false);
                    self.link.incomplete |= !self.link.remote_ids.contains_key(REMOTE_CONTACT);
                    self.link.sent = sent;
                    self.link.remote_ids.extend(remote_ids);
                    self.link.intent = None;
                }
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
                    self.link.sent = accepted.sent;
                    self.link.remote_ids.extend(accepted.remote_ids);
                    self.link.intent = None;
                    self.link.incomplete = false;
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
    async fn attempt(&mut self, task: &Task, record: &ContactRecord) -> Option<End> {
        let terms = self.terms.clone();
        let mut machine = match Machine::new(&terms, task, record, References::default()) {
            Ok(machine) => machine,
            Err(end) => return Some(end),
        };
        let mut action = machine.begin();
        let mut used = None;
        loop {
            let mut request = match action {
                Action::Send(request) => request,
                Action::Keep(_) => unreachable!("CRM.COM has no lists"),
                Action::Renew => {
                    let refused = used.expect("a request was sent");
                    let renewed = self.session.renew(refused, &self.transport).await.unwrap();
                    action = machine.renewed(renewed);
                    continue;
                }
                Action::End(end) => return Some(end),
            };
            self.session.ready(&self.transport).await.unwrap();
            used = Some(self.session.authorize(&mut request));
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

    /// What CRM.COM has, ids and removed entries apart.
    fn held(&self) -> Vec<Value> {
        let held = |contact: Value| {
            let mut whole = plain(contact["fields"].clone());
            whole["photo"] = contact["photo"]["file_name"].clone();
            whole
        };
        self.sandbox.contacts().into_iter().map(held).collect()
    }

    /// Something that was there before us.
    async fn was_there(&self, contact: Value) {
        let login = json!({ "username": "contact-replicator", "password": "sandbox-token", "organisation": "example" });
        let token = self.say("/authentication/token", login).await["data"]["token"].clone();
        let mut contact = contact;
        contact["token"] = token;
        let made = self.say("/contact_information/create", contact).await;
        assert_eq!(made["status"]["code"], "OK", "{made}");
    }

    async fn say(&self, path: &str, body: Value) -> Value {
        let body = Some(Bytes::from(body.to_string()));
        let request = json_request(Method::POST, path.to_owned(), body, RequestKind::Read);
        serde_json::from_slice(&self.transport.exchange(request).await.unwrap().body).unwrap()
    }
}

fn plain(mut contact: Value) -> Value {
    let members = contact.as_object_mut().unwrap();
    members.remove("id");
    for set in ["addresses_set", "phones_set", "emails_set"] {
        let entries = members[set].as_array_mut().unwrap();
        entries.retain(|entry| entry["state"] == "Active");
        entries.iter_mut().for_each(|entry| drop(entry.as_object_mut().unwrap().remove("id")));
        entries.sort_by_key(|entry| entry["type"].to_string());
    }
    contact
}

fn first() -> ContactRecord {
    record(contact(json!({
        "emails": [{ "value": "ilka@example.com", "type": "work" }, { "value": "i@example.com", "type": "work" }],
        "phoneNumbers": [{ "value": "+35799555012", "type": "mobile" }], "notes": "n", "gender": "female",
        "addresses": [{ "type": "home", "streetAddress": "Pine St", "streetNumber": "2", "country": "CY" }],
        "preferredLanguage": "sv", "identifiers": { "id_number": "7" },
    })))
}

fn second() -> ContactRecord {
    let document = contact(json!({
        "emails": [{ "value": "ilka.vale@example.com", "type": "work" }], "consent": { "marketing": true },
        "addresses": [{ "type": "home", "streetAddress": "Elm St", "locality": "Larnaca" }],
    }));
    ContactRecord { version: 2, ..record(document) }
}

fn with_photo(record: ContactRecord, picture: &[u8]) -> ContactRecord {
    let url = format!("data:image/gif;base64,{}", STANDARD.encode(picture));
    let mut document = serde_json::to_value(record.contact.unwrap()).unwrap();
    document["photos"] = json!([{ "value": url }]);
    ContactRecord { contact: Some(serde_json::from_value(document).unwrap()), ..record }
}

/// Every fault at every request, and none.
fn faults() -> impl Iterator<Item = (bool, Option<(Fault, usize)>)> {
    let kinds = [Fault::LostBefore, Fault::LostAfter, Fault::DiesAfter];
    let faults = kinds.into_iter().flat_map(|fault| (0..14).map(move |at| Some((fault, at)))).chain([None]);
    faults.flat_map(|fault| [true, false].map(|find_before_create| (find_before_create, fault)))
}

#[tokio::test(start_paused = true)]
async fn whatever_is_lost_there_is_one_contact_and_it_holds_the_newest_record() {
    let mut alone = run(|_| (), false, None);
    alone.deliver(&second(), &second()).await.unwrap();
    for (find_before_create, fault) in faults() {
        let what = format!("found {find_before_create}, {fault:?}");
        let mut run = run(|_| (), find_before_create, fault);
        match run.deliver(&first(), &second()).await {
            Ok(_) => {}
            Err(verdict) => panic!("{what}: {verdict:?}"),
        }
        assert_eq!(run.held(), alone.held(), "{what}");
        let there = run.sandbox.contact(KEY).unwrap();
        assert_eq!(run.link.remote_ids.get(REMOTE_CONTACT).unwrap(), &there["id"], "{what}");
        assert_eq!(run.link.intent, None, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_lost_the_photo_is_that_of_the_newest_record() {
    let (red, blue) = (b"GIF89a red", b"GIF89a blue");
    let another = ContactRecord { version: 2, ..first() };
    for (older, newer) in [
        (with_photo(first(), red), with_photo(second(), blue)),
        (with_photo(first(), red), second()),
        (first(), with_photo(second(), blue)),
        (with_photo(first(), red), with_photo(another, red)),
    ] {
        let mut alone = run(|_| (), false, None);
        alone.deliver(&newer, &newer).await.unwrap();
        for (find_before_create, fault) in faults() {
            let what = format!("found {find_before_create}, {fault:?}");
            let mut run = run(|_| (), find_before_create, fault);
            match run.deliver(&older, &newer).await {
                Ok(_) => {}
                Err(verdict) => assert_eq!(verdict.reason.code, ReasonCode::SameProjection, "{what}"),
            }
            assert_eq!(run.held(), alone.held(), "{what}");
            assert!(!run.link.incomplete, "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_photo_is_sent_once_and_read_where_it_is_in_doubt() {
    let mut run = run(|_| (), true, None);
    let record = with_photo(first(), b"GIF89a");
    let renamed = ContactRecord { version: 2, ..with_photo(second(), b"GIF89a") };
    assert_eq!(run.deliver(&record, &record).await, Ok(Operation::Create));
    assert_eq!(run.deliver(&renamed, &renamed).await, Ok(Operation::Update));
    run.forced = true;
    assert_eq!(run.deliver(&renamed, &renamed).await, Ok(Operation::Update));
    let asked = |end: &str| run.sandbox.requests().iter().filter(|request| request.path.ends_with(end)).count();
    assert_eq!((asked("/profile_photo/add"), asked("/profile_photo/view"), asked("/create")), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn whatever_is_lost_an_erased_contact_holds_nothing() {
    for (find_before_create, fault) in faults() {
        let what = format!("found {find_before_create}, {fault:?}");
        let mut run = run(|crm| crm.on_erase = OnErase::Blank, find_before_create, fault);
        let erased = ContactRecord { version: 2, status: Status::Erased, contact: None, ..first() };
        match run.deliver(&with_photo(first(), b"GIF89a"), &erased).await {
            Ok(operation) => assert_eq!(operation, Operation::Blank, "{what}"),
            Err(verdict) => {
                assert_eq!(verdict.reason.code, ReasonCode::UnknownContact, "{what}");
                assert_eq!(run.held(), Vec::<Value>::new(), "{what}");
                continue;
            }
        }
        let held = run.held();
        let [contact] = held.as_slice() else { panic!("{what}: {held:?}") };
        assert_eq!(contact["photo"], Value::Null, "{what}");
        let text = contact.to_string();
        for personal in ["Ilka", "Sundstrom", "ilka", "99555012", "Pine", "FEMALE", "SWE"] {
            assert!(!text.contains(personal), "{what}: {personal} is in {text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_lost_a_contact_of_nobody_becomes_ours_and_keeps_what_we_do_not_know() {
    for (_, fault) in faults().filter(|(find_before_create, _)| *find_before_create) {
        let what = format!("{fault:?}");
        let mut run = run(|_| (), true, fault);
        run.was_there(json!({
            "type": "PERSON", "title": "Dr", "first_name": "I.", "last_name": "Sundstrom",
            "email_set": [{ "type": "PERSONAL", "email_address": "Ilka@Example.com" }], "udf_string_2": "theirs",
            "demographics": { "passport_number": "P1" },
        }))
        .await;
        let document = || contact(json!({ "emails": [{ "value": "ilka@example.com", "type": "work" }], "notes": "n" }));
        let (older, newer) = (record(document()), ContactRecord { version: 2, ..record(document()) });
        match run.deliver(&older, &newer).await {
            Ok(_) => {}
            Err(verdict) => assert_eq!(verdict.reason.code, ReasonCode::SameProjection, "{what}"),
        }
        let held = run.held();
        let [contact] = held.as_slice() else { panic!("{what}: {held:?}") };
        assert_eq!((&contact["udf_string_16"], &contact["first_name"]), (&json!(KEY), &json!("Ilka")), "{what}");
        assert_eq!((&contact["title"], &contact["udf_string_2"]), (&json!("Dr"), &json!("theirs")), "{what}");
        assert_eq!(contact["demographics"]["passport_number"], "P1", "{what}");
        let types: Vec<_> = contact["emails_set"].as_array().unwrap().iter().map(|entry| &entry["type"]).collect();
        assert_eq!(types, ["BUSINESS", "PERSONAL"], "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_contact_with_nothing_to_search_by_is_never_made_twice() {
    let bare = || record(contact(json!({ "notes": "n" })));
    for (find_before_create, fault) in faults() {
        let what = format!("found {find_before_create}, {fault:?}");
        let mut run = run(|_| (), find_before_create, fault);
        let newer = ContactRecord { version: 2, ..record(contact(json!({ "notes": "m" }))) };
        if let Err(verdict) = run.deliver(&bare(), &newer).await {
            assert_eq!(verdict.reason.code, ReasonCode::AmbiguousMatch, "{what}");
        }
        assert!(run.held().len() <= 1, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_is_replaced_in_the_middle_of_a_delivery() {
    let mut run = run(|_| (), true, None);
    run.deliver(&first(), &first()).await.unwrap();
    run.sandbox
        .set_faults(crate::sandbox::FaultPlan::at(1, crate::sandbox::Instead::ExpireToken))
        .expect("a possible plan");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(run.deliver(&second(), &second()).await.unwrap(), Operation::Update);
    assert_eq!(run.sandbox.contact(KEY).unwrap()["addresses_set"][0]["street_name"], "Elm St");
    assert_eq!(run.link.presence, Some(Presence::Active));
}
