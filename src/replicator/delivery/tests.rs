//! Deliveries to a CRM without an upsert: what is searched for, what is committed before it leaves, what a lost answer
//! leaves behind; and, with faults and crashes at will, that nobody is made twice.

mod linked;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::lane::{Circumstances, Lane},
    *,
};
use crate::{
    config::{CrmSettings, OnDelete, OnGone},
    contact::{ContactId, Document, Version, record::Status},
    crm::{
        Accepted, Response, TransportError, classify,
        classify::StatusClasses,
        rolodex::{People, Rolodex},
        testing::crm_settings,
    },
    event::Operation,
    privacy::Secret,
};

const CONTACT: ContactId = ContactId(uuid::Uuid::from_u128(7));

/// Speaks to an invented CRM: `GET /search` answers the ids that fit, one a line; `POST /contacts` makes a contact and
/// answers its id; `PUT` and `DELETE /contacts/{id}`.
#[derive(Debug, Clone, Copy, Default)]
struct Book {
    planted: bool,
    /// Ids that a search found are committed before the first write.
    saves_found: bool,
    /// After each write the contact is read.
    reads_back: bool,
}

impl Book {
    fn request(method: Method, path: String, body: &BTreeMap<String, Value>, kind: RequestKind) -> Request {
        let body = Bytes::from(serde_json::to_vec(body).unwrap());
        Request { method, path, headers: Vec::new(), body, kind }
    }

    fn read(path: String, body: &BTreeMap<String, String>) -> Step {
        let body = body.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        Step::Call(Self::request(Method::GET, path, &body, RequestKind::Read))
    }

    fn text(answer: &Answer) -> Result<String, Step> {
        let classes = StatusClasses::parse(&BTreeMap::from([("404".to_owned(), FailureClass::Gone)])).unwrap();
        match classify::failure(answer, &classes) {
            Some(failure) => Err(Step::Failed(failure)),
            None => Ok(String::from_utf8(answer.as_ref().unwrap().body.to_vec()).unwrap()),
        }
    }

    fn found(delivery: &Delivery<'_>, answers: &mut std::slice::Iter<'_, Answer>) -> Result<Option<String>, Step> {
        let Some(keys) = delivery.look_up else { return Ok(None) };
        let Some(answer) = answers.next() else { return Err(Self::read("/search".into(), &keys.values)) };
        let text = Self::text(answer)?;
        let mut ids = text.lines().map(str::to_owned);
        let first = ids.next();
        if ids.next().is_some() {
            return Err(Step::Judged(Verdict::new(OutcomeKind::Rejected, ReasonCode::AmbiguousMatch)));
        }
        Ok(first)
    }

    fn steps(&self, delivery: &Delivery<'_>, answers: &[Answer]) -> Result<Step, Step> {
        let mut answers = answers.iter();
        let known = delivery.link.and_then(|link| link.remote_ids.get(REMOTE_CONTACT)).cloned();
        let found = if known.is_none() { Self::found(delivery, &mut answers)? } else { None };
        if let Some(id) = found.clone().filter(|_| self.saves_found) {
            return Ok(Step::Found(BTreeMap::from([(REMOTE_CONTACT.to_owned(), id)])));
        }
        let absent = delivery.projection.presence == Presence::Absent;
        let mut operation = delivery.operation;
        let cleared = delivery.clears.iter().map(|field| (field.clone(), Value::Null)).filter(|_| !absent);
        let fields = &delivery.projection.fields.clone().into_iter().chain(cleared).collect();
        let id = match known.or(found.clone()) {
            Some(id) => {
                if found.is_some() && !absent {
                    operation = Operation::Adopt;
                }
                let method = if absent { Method::DELETE } else { Method::PUT };
                let path = format!("/contacts/{id}");
                let Some(answer) = answers.next() else {
                    return Ok(Step::Call(Self::request(method, path, fields, RequestKind::Set)));
                };
                if !(absent && answer.as_ref().is_ok_and(|response| response.status == StatusCode::NOT_FOUND)) {
                    Self::text(answer)?;
                }
                id
            }
            None if absent => {
                return Ok(Step::Judged(Verdict::new(OutcomeKind::Unchanged, ReasonCode::UnknownContact)));
            }
            None => {
                let Some(answer) = answers.next() else {
                    return Ok(Step::Call(Self::request(
                        Method::POST,
                        "/contacts".into(),
                        fields,
                        RequestKind::Create,
                    )));
                };
                operation = Operation::Create;
                Self::text(answer)?
            }
        };
        if self.reads_back && !absent {
            let Some(answer) = answers.next() else {
                return Ok(Self::read(format!("/contacts/{id}"), &BTreeMap::new()));
            };
            Self::text(answer)?;
        }
        Ok(Step::Done(Accepted { operation, remote_ids: BTreeMap::from([(REMOTE_CONTACT.to_owned(), id)]) }))
    }
}

impl Connector for Book {
    fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        let mut projection = Projection::default();
        if record.status != Status::Live {
            if link.is_none_or(|link| link.sent.is_empty()) {
                return Err(Verdict::new(OutcomeKind::Unchanged, ReasonCode::UnknownContact));
            }
            projection.presence = Presence::Absent;
            return Ok(projection);
        }
        let Some(contact) = &record.contact else { panic!("a live record has a document") };
        for (name, value) in &contact.0 {
            projection.fields.insert(name.clone(), value.clone());
        }
        if self.planted {
            projection.fields.insert("number".to_owned(), json!(record.contact_id.key()));
        }
        Ok(projection)
    }

    fn fields(&self) -> Vec<String> {
        ["email", "name"].map(str::to_owned).to_vec()
    }

    fn look_up_keys(&self, record: &ContactRecord, projection: &Projection) -> Option<LookUpKeys> {
        let email = projection.fields.get("email").and_then(Value::as_str).map(|email| ("email".into(), email.into()));
        let number = self.planted.then(|| ("number".into(), record.contact_id.key()));
        Some(LookUpKeys { values: email.into_iter().chain(number).collect(), planted: self.planted })
    }

    fn next(&self, delivery: &Delivery<'_>, answers: &[Answer]) -> Step {
        self.steps(delivery, answers).unwrap_or_else(|step| step)
    }
}

fn terms(book: Book, find_before_create: bool) -> Terms {
    terms_of(Arc::new(book), find_before_create)
}

fn terms_of(connector: Arc<dyn Connector>, find_before_create: bool) -> Terms {
    Terms {
        crm: "book".into(),
        connector,
        hasher: Hasher::new(&Secret::new("a secret of the tests")),
        find_before_create,
        shadow: false,
        protections: Protections::default(),
    }
}

fn record(version: Version, email: &str) -> ContactRecord {
    ContactRecord {
        contact_id: CONTACT,
        version,
        status: Status::Live,
        merged_into: None,
        contact: Some(serde_json::from_value::<Document>(json!({ "email": email, "name": "Ilka" })).unwrap()),
        provenance: BTreeMap::new(),
        members: Vec::new(),
        event: None,
        received_at: jiff::Timestamp::UNIX_EPOCH,
        epoch: 1,
        format: 1,
    }
}

fn task(link: Link) -> Task {
    Task { link, forced: false, anew: false, intended: false, tries: 0 }
}

fn nobody() -> Link {
    Link::new(CONTACT)
}

fn keys(email: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("email".to_owned(), email.to_owned())])
}

/// A link with the intent of a create by this address.
fn meant(email: &str) -> Link {
    Link { intent: Some(Intent { keys: keys(email) }), ..nobody() }
}

/// A link of a contact that was stored.
fn linked(sent: Sent) -> Link {
    Link {
        remote_ids: BTreeMap::from([(REMOTE_CONTACT.to_owned(), "1".to_owned())]),
        sent: ["email", "name"].map(|name| (Arc::from(name), sent)).into(),
        presence: Some(Presence::Active),
        ..nobody()
    }
}

fn answer(status: u16, body: &str) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    Ok(Response { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) })
}

fn unanswered() -> Answer {
    Err(TransportError::Unanswered { reason: "reset".into() })
}

/// Plays answers to a delivery. Returns what was sent, method, path and body each, and the end.
fn play(terms: &Terms, task: &Task, record: &ContactRecord, answers: Vec<Answer>) -> (Vec<String>, End) {
    let mut sent = Vec::new();
    let mut machine = match Machine::new(terms, task, record, References::default()) {
        Ok(machine) => machine,
        Err(end) => return (sent, end),
    };
    let mut answers = answers.into_iter();
    let mut action = machine.begin();
    loop {
        action = match action {
            Action::Send(request) => {
                let body = String::from_utf8(request.body.to_vec()).unwrap();
                sent.push(format!("{} {} {body}", request.method, request.path));
                match answers.next() {
                    Some(answer) => machine.answered(answer, Instant::now()),
                    None => return (sent, machine.kept_back(End::Withdrawn)),
                }
            }
            Action::Renew => machine.renewed(true),
            Action::Keep(_) => unreachable!("the book has no lists"),
            Action::End(end) => return (sent, end),
        };
    }
}

const SEARCH_OLD: &str = r#"GET /search {"email":"old@x.org"}"#;
const SEARCH_NEW: &str = r#"GET /search {"email":"new@x.org"}"#;
const CREATE_NEW: &str = r#"POST /contacts {"email":"new@x.org","name":"Ilka"}"#;
const UPDATE_NEW: &str = r#"PUT /contacts/1 {"email":"new@x.org","name":"Ilka"}"#;

fn intends(end: &End, email: &str) -> bool {
    matches!(end, End::Intended { intent } if intent.keys == keys(email))
}

#[test]
fn a_planted_reference_is_searched_for_and_then_created_in_one_go() {
    let terms = terms(Book { planted: true, ..Book::default() }, true);
    let (sent, end) = play(&terms, &task(nobody()), &record(1, "new@x.org"), vec![answer(200, ""), answer(200, "1")]);
    assert_eq!(sent.len(), 2);
    assert!(sent[0].starts_with("GET /search") && sent[0].contains(&CONTACT.key()), "{sent:?}");
    assert!(sent[1].starts_with("POST"), "{sent:?}");
    let End::Delivered { operation, accepted, .. } = end else { panic!("{end:?}") };
    assert_eq!((operation, accepted.remote_ids[REMOTE_CONTACT].as_str()), (Operation::Create, "1"));
}

#[test]
fn where_only_the_contacts_own_data_is_found_the_create_waits_for_its_intent() {
    let terms = terms(Book::default(), true);
    let record = record(1, "new@x.org");
    let (sent, end) = play(&terms, &task(nobody()), &record, vec![answer(200, "")]);
    assert_eq!(sent, [SEARCH_NEW]);
    assert!(intends(&end, "new@x.org"), "{end:?}");

    let fresh = Task { intended: true, ..task(meant("new@x.org")) };
    let (sent, end) = play(&terms, &fresh, &record, vec![answer(200, "1")]);
    assert_eq!(sent, [CREATE_NEW], "nothing was sent under it, so there is nothing to search for again");
    assert!(matches!(end, End::Delivered { operation: Operation::Create, .. }), "{end:?}");
}

#[test]
fn without_the_first_search_even_a_planted_reference_needs_an_intent() {
    for planted in [true, false] {
        let terms = terms(Book { planted, ..Book::default() }, false);
        let (sent, end) = play(&terms, &task(nobody()), &record(1, "new@x.org"), vec![]);
        assert!(sent.is_empty() && matches!(end, End::Intended { .. }), "{end:?}");
    }
}

#[test]
fn an_intent_that_may_have_been_used_is_searched_for_as_it_was_sent() {
    for find_before_create in [true, false] {
        let terms = terms(Book::default(), find_before_create);
        let (sent, end) =
            play(&terms, &task(meant("old@x.org")), &record(2, "new@x.org"), vec![answer(200, "1"), answer(200, "")]);
        assert_eq!(sent, [SEARCH_OLD, UPDATE_NEW]);
        assert!(matches!(end, End::Delivered { operation: Operation::Adopt, .. }), "{end:?}");
    }
}

#[test]
fn new_keys_are_searched_for_as_well_and_intended_before_the_create() {
    let record = record(2, "new@x.org");
    let found_nothing = || vec![answer(200, ""), answer(200, "")];
    let (sent, end) = play(&terms(Book::default(), true), &task(meant("old@x.org")), &record, found_nothing());
    assert_eq!(sent, [SEARCH_OLD, SEARCH_NEW]);
    assert!(intends(&end, "new@x.org"), "{end:?}");

    let (sent, end) = play(&terms(Book::default(), false), &task(meant("old@x.org")), &record, found_nothing());
    assert_eq!(sent, [SEARCH_OLD], "a first search is saved");
    assert!(intends(&end, "new@x.org"), "{end:?}");
}

#[test]
fn one_that_the_new_keys_find_is_not_made_again() {
    let answers = vec![answer(200, ""), answer(200, "1"), answer(200, "")];
    let (sent, _) = play(&terms(Book::default(), true), &task(meant("old@x.org")), &record(2, "new@x.org"), answers);
    assert_eq!(sent, [SEARCH_OLD, SEARCH_NEW, UPDATE_NEW]);
}

#[test]
fn an_intent_of_the_same_keys_needs_no_second_commit() {
    let answers = vec![answer(200, ""), answer(200, "1")];
    let (sent, end) = play(&terms(Book::default(), false), &task(meant("new@x.org")), &record(2, "new@x.org"), answers);
    assert_eq!(sent, [SEARCH_NEW, CREATE_NEW]);
    assert!(matches!(end, End::Delivered { .. }), "{end:?}");
}

#[test]
fn nothing_is_searched_for_where_the_id_is_known() {
    let (sent, end) = play(
        &terms(Book::default(), true),
        &task(linked(Sent::Hash(1))),
        &record(2, "new@x.org"),
        vec![answer(200, "")],
    );
    assert_eq!(sent, [UPDATE_NEW]);
    assert!(matches!(end, End::Delivered { operation: Operation::Update, .. }), "{end:?}");
}

#[test]
fn many_hits_are_refused_and_nothing_is_made() {
    let (sent, end) =
        play(&terms(Book::default(), true), &task(nobody()), &record(1, "new@x.org"), vec![answer(200, "1\n2")]);
    assert_eq!(sent.len(), 1);
    let End::Judged { outcome, reason, suspected, .. } = end else { panic!("{end:?}") };
    assert_eq!((outcome, reason.unwrap().code), (OutcomeKind::Rejected, ReasonCode::AmbiguousMatch));
    assert!(suspected.is_empty(), "a search changed nothing");
}

#[test]
fn what_a_search_found_is_committed_before_anything_is_sent_to_it() {
    let terms = terms(Book { saves_found: true, ..Book::default() }, true);
    let (sent, end) = play(&terms, &task(nobody()), &record(1, "new@x.org"), vec![answer(200, "1")]);
    assert_eq!(sent, [SEARCH_NEW]);
    let End::Found { remote_ids, carried } = end else { panic!("{end:?}") };
    assert!(carried.is_empty());
    let (sent, end) =
        play(&terms, &task(Link { remote_ids, ..nobody() }), &record(1, "new@x.org"), vec![answer(200, "")]);
    assert_eq!(sent, [UPDATE_NEW]);
    assert!(matches!(end, End::Delivered { operation: Operation::Adopt, .. }), "{end:?}");
}

#[test]
fn a_search_without_an_answer_changed_nothing() {
    for lost in [unanswered(), answer(500, "")] {
        let (_, end) = play(&terms(Book::default(), true), &task(nobody()), &record(1, "new@x.org"), vec![lost]);
        let End::Failed { failure, lost, .. } = end else { panic!("{end:?}") };
        assert_eq!((failure.effect, lost), (Effect::None, None));
    }
}

#[test]
fn a_create_without_an_answer_is_lost() {
    let fresh = Task { intended: true, ..task(meant("new@x.org")) };
    let (_, end) = play(&terms(Book::default(), true), &fresh, &record(1, "new@x.org"), vec![unanswered()]);
    let End::Failed { failure, lost, carried, .. } = end else { panic!("{end:?}") };
    assert_eq!(failure.effect, Effect::Unknown);
    assert_eq!(lost.map(|lost| lost.request.kind), Some(RequestKind::Create));
    assert_eq!(carried.len(), 2);
}

#[test]
fn a_write_that_is_followed_by_a_failing_read_voids_what_it_carried() {
    let terms = terms(Book { reads_back: true, ..Book::default() }, true);
    for failing in [unanswered(), answer(429, ""), answer(400, "")] {
        let (sent, end) =
            play(&terms, &task(linked(Sent::Hash(1))), &record(2, "new@x.org"), vec![answer(200, ""), failing]);
        assert_eq!(sent.len(), 2);
        let End::Failed { failure, carried, lost, .. } = end else { panic!("{end:?}") };
        assert_eq!((failure.effect, carried.len()), (Effect::Unknown, 2));
        assert_eq!(lost, None, "the write itself was answered");
    }
}

#[test]
fn a_create_that_is_followed_by_a_failure_counts_as_lost_since_nobody_knows_its_id() {
    let terms = terms(Book { reads_back: true, ..Book::default() }, true);
    let fresh = Task { intended: true, ..task(meant("new@x.org")) };
    let (_, end) = play(&terms, &fresh, &record(1, "new@x.org"), vec![answer(200, "1"), answer(429, "")]);
    let End::Failed { failure, lost, .. } = end else { panic!("{end:?}") };
    assert_eq!((failure.class, failure.effect), (FailureClass::Throttled, Effect::Unknown));
    assert_eq!(lost.map(|lost| lost.request.kind), Some(RequestKind::Create));

    let (_, end) = play(&terms, &fresh, &record(1, "new@x.org"), vec![answer(200, "1")]);
    let End::Interrupted { lost, .. } = end else { panic!("{end:?}") };
    assert_eq!(lost.map(|lost| lost.request.kind), Some(RequestKind::Create));
}

#[test]
fn a_request_that_is_kept_back_leaves_all_as_it_was_unless_one_before_it_wrote() {
    let book = Book { reads_back: true, ..Book::default() };
    let (sent, end) = play(&terms(book, true), &task(nobody()), &record(1, "new@x.org"), vec![]);
    assert_eq!((sent.len(), end), (1, End::Withdrawn));
    let (sent, end) =
        play(&terms(book, true), &task(linked(Sent::Hash(1))), &record(2, "new@x.org"), vec![answer(200, "")]);
    assert_eq!(sent.len(), 2);
    let End::Interrupted { carried, until, lost } = end else { panic!("{end:?}") };
    assert_eq!((carried.len(), until, lost), (2, None, None));
}

#[test]
fn a_renewal_sends_the_refused_request_again_once_and_no_other() {
    let terms = terms(Book { reads_back: true, planted: true, ..Book::default() }, true);
    let answers = vec![answer(200, ""), answer(200, "1"), answer(401, ""), answer(200, "")];
    let (sent, end) = play(&terms, &task(nobody()), &record(1, "new@x.org"), answers);
    let methods: Vec<_> = sent.iter().map(|request| request.split(' ').next().unwrap()).collect();
    assert_eq!(methods, ["GET", "POST", "GET", "GET"], "the create is not repeated");
    assert!(matches!(end, End::Delivered { .. }), "{end:?}");

    let (sent, end) = play(&terms, &task(nobody()), &record(1, "new@x.org"), vec![answer(401, ""), answer(401, "")]);
    assert_eq!(sent.len(), 2);
    let End::Failed { failure, .. } = end else { panic!("{end:?}") };
    assert_eq!((failure.class, failure.effect), (FailureClass::Auth, Effect::None));
}

#[test]
fn a_verdict_after_a_write_voids_what_was_written() {
    /// Writes, and then says that it cannot be.
    #[derive(Debug)]
    struct Fickle(Book);
    impl Connector for Fickle {
        fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
            self.0.project(record, link)
        }
        fn fields(&self) -> Vec<String> {
            self.0.fields()
        }
        fn next(&self, delivery: &Delivery<'_>, answers: &[Answer]) -> Step {
            match answers.len() {
                0 => self.0.next(delivery, answers),
                _ => Step::Judged(Verdict::new(OutcomeKind::Rejected, ReasonCode::InvalidField)),
            }
        }
    }
    let terms = Terms { connector: Arc::new(Fickle(Book::default())), ..terms(Book::default(), true) };
    let (_, end) = play(&terms, &task(linked(Sent::Hash(1))), &record(2, "new@x.org"), vec![answer(200, "")]);
    let End::Judged { suspected, .. } = end else { panic!("{end:?}") };
    assert_eq!(suspected.len(), 2);
}

#[test]
fn after_an_unclean_takeover_everything_is_said_again_and_nothing_counts_as_unchanged() {
    let terms = terms(Book::default(), true);
    let (_, end) = play(&terms, &task(linked(Sent::Void)), &record(1, "new@x.org"), vec![answer(200, "")]);
    let End::Delivered { accepted, .. } = end else { panic!("{end:?}") };
    let settled = crate::crm::link::Settled {
        version: 1,
        outcome: OutcomeKind::Delivered,
        operation: None,
        reason: None,
        attempts: 1,
    };
    let link = Link { sent: accepted.sent, settled: Some(settled), ..linked(Sent::Void) };
    let (sent, end) = play(&terms, &task(link.clone()), &record(2, "new@x.org"), vec![]);
    assert!(sent.is_empty());
    assert!(matches!(end, End::Judged { outcome: OutcomeKind::Unchanged, .. }), "{end:?}");
    let forced = Task { forced: true, ..task(link) };
    let (sent, _) = play(&terms, &forced, &record(2, "new@x.org"), vec![answer(200, "")]);
    assert_eq!(sent, [UPDATE_NEW]);
}

#[test]
fn a_deletion_announces_nothing_and_is_certain_before_it_says_unknown() {
    let terms = terms(Book::default(), true);
    let deleted = ContactRecord { status: Status::Deleted, ..record(2, "new@x.org") };
    let (sent, end) = play(&terms, &task(nobody()), &deleted, vec![]);
    assert!(sent.is_empty());
    assert!(matches!(end, End::Judged { outcome: OutcomeKind::Unchanged, .. }), "{end:?}");

    // A predecessor may have made it.
    let forced = Task { forced: true, ..task(meant("old@x.org")) };
    let (sent, end) = play(&terms, &forced, &deleted, vec![answer(200, "1"), answer(200, "")]);
    assert_eq!(sent, [SEARCH_OLD, "DELETE /contacts/1 {}"]);
    let End::Delivered { operation, accepted, .. } = end else { panic!("{end:?}") };
    assert_eq!((operation, accepted.presence), (Operation::Delete, Presence::Absent));
}

/// The CRM that [`Book`] speaks to.
#[derive(Debug, Default)]
struct Store {
    contacts: BTreeMap<u32, BTreeMap<String, Value>>,
    made: u32,
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    LostBefore,
    LostAfter,
    /// The effect, and then an error.
    Failed,
    Throttled,
    /// It did not leave.
    KeptBack,
}

/// A CRM of a few lines.
trait Held: std::fmt::Debug {
    fn take(&mut self, request: &Request) -> Answer;

    /// Somebody removes all of it.
    fn vanish(&mut self);

    fn contacts(&self) -> Vec<BTreeMap<String, Value>>;

    /// The document of a contact in the words of this CRM.
    fn document(&self, email: &str, name: Option<&str>) -> Value;

    fn serve(&mut self, request: &Request, fate: Fate) -> Answer {
        match fate {
            Fate::Answered => self.take(request),
            Fate::LostBefore => unanswered(),
            Fate::LostAfter => self.take(request).and_then(|_| unanswered()),
            Fate::Failed => self.take(request).and_then(|_| answer(500, "")),
            Fate::Throttled | Fate::KeptBack => answer(429, ""),
        }
    }
}

impl Held for People {
    fn take(&mut self, request: &Request) -> Answer {
        self.answer(request)
    }

    fn vanish(&mut self) {
        People::vanish(self);
    }

    fn contacts(&self) -> Vec<BTreeMap<String, Value>> {
        self.held().map(|person| person.clone().into_iter().collect()).collect()
    }

    fn document(&self, email: &str, name: Option<&str>) -> Value {
        let said = name.map(|name| ("notes".to_owned(), json!(name)));
        let emails = ("emails".to_owned(), json!([{ "value": email }]));
        Value::Object(said.into_iter().chain([emails]).collect())
    }
}

impl Held for Store {
    fn take(&mut self, request: &Request) -> Answer {
        let body: BTreeMap<String, Value> = serde_json::from_slice(&request.body).unwrap();
        let id: Option<u32> = request.path.rsplit('/').next().and_then(|id| id.parse().ok());
        match (request.method.as_str(), id) {
            ("GET", None) => {
                let fits =
                    |contact: &BTreeMap<String, Value>| body.iter().any(|(key, value)| contact.get(key) == Some(value));
                let ids: Vec<_> =
                    self.contacts.iter().filter(|(_, contact)| fits(contact)).map(|(id, _)| id.to_string()).collect();
                answer(200, &ids.join("\n"))
            }
            ("POST", _) => {
                self.made += 1;
                self.contacts.insert(self.made, BTreeMap::new());
                self.set(self.made, body);
                answer(200, &self.made.to_string())
            }
            (_, Some(id)) if !self.contacts.contains_key(&id) => answer(404, ""),
            ("PUT", Some(id)) => {
                self.set(id, body);
                answer(200, "")
            }
            ("DELETE", Some(id)) => {
                self.contacts.remove(&id);
                answer(200, "")
            }
            _ => answer(200, ""),
        }
    }

    fn vanish(&mut self) {
        self.contacts.clear();
    }

    fn contacts(&self) -> Vec<BTreeMap<String, Value>> {
        self.contacts.values().cloned().collect()
    }

    fn document(&self, email: &str, name: Option<&str>) -> Value {
        let said = name.map(|name| ("name".to_owned(), json!(name)));
        Value::Object(said.into_iter().chain([("email".to_owned(), json!(email))]).collect())
    }
}

impl Store {
    fn set(&mut self, id: u32, body: BTreeMap<String, Value>) {
        let contact = self.contacts.entry(id).or_default();
        contact.extend(body);
        contact.retain(|_, value| !value.is_null());
    }
}

/// One turn of the world around a contact.
#[derive(Debug, Clone)]
enum Turn {
    /// Its record has another address, and a name or none; or is deleted.
    Change {
        email: usize,
        name: bool,
        live: bool,
    },
    /// Somebody removes it from the CRM.
    Vanish,
    Attempt {
        fates: Vec<Fate>,
        crash: bool,
    },
}

/// A lane, what is committed of its link, and the CRM.
#[derive(Debug)]
struct World {
    terms: Terms,
    store: Box<dyn Held>,
    record: ContactRecord,
    committed: Link,
    lane: Lane,
    now: Instant,
}

impl World {
    /// More than it takes for anything lost to land.
    const APART: std::time::Duration = std::time::Duration::from_secs(60);

    fn new(terms: Terms, store: Box<dyn Held>) -> Self {
        let (record, now) = (record(0, "a@x.org"), Instant::now());
        let lane = Lane::new(nobody(), Protections::default());
        Self { terms, store, record, committed: nobody(), lane, now }
    }

    fn commit(&mut self) {
        self.committed = self.lane.link.clone();
        self.lane.committed();
    }

    fn change(&mut self, email: usize, name: bool, live: bool) {
        let contact = self.store.document(["a@x.org", "b@x.org", "c@x.org"][email], name.then_some("Ilka"));
        self.record.version += 1;
        self.record.status = if live { Status::Live } else { Status::Deleted };
        self.record.contact = Some(serde_json::from_value(contact).unwrap());
        self.read(self.record.version, false);
        self.commit();
    }

    fn read(&mut self, version: Version, forced: bool) {
        let entry = crate::event::Entry {
            contact_id: CONTACT,
            version,
            event: None,
            received_at: jiff::Timestamp::UNIX_EPOCH,
            traceparent: None,
            cause: None,
            crm: None,
            link_to: None,
            epoch: 1,
            format: 1,
        };
        self.lane.read(entry, version, forced);
    }

    /// A successor knows what is committed, and reads what that does not answer.
    fn crash(&mut self) {
        self.lane = Lane::new(self.committed.clone(), Protections::default());
        (1..=self.record.version).for_each(|version| self.read(version, true));
        self.commit();
    }

    fn attempt(&mut self, fates: &[Fate], crash: bool) {
        self.now += Self::APART;
        if !self.lane.is_ready(self.now, jiff::Timestamp::MAX) {
            return;
        }
        self.lane.begin();
        let task = self.lane.task();
        let end = self.drive(&task, fates);
        if crash {
            return self.crash();
        }
        let circumstances = Circumstances {
            now: self.now,
            wall: jiff::Timestamp::UNIX_EPOCH,
            paused: false,
            on_gone: OnGone::Recreate,
            max_age: None,
            retry_delay: std::time::Duration::from_secs(1),
            parked_delay: std::time::Duration::from_secs(1),
            tries_before_parking: 3,
            landing_time: Self::APART,
            mapping: crate::crm::fingerprint::Fingerprint::default(),
        };
        self.lane.end(end, circumstances);
        self.commit();
    }

    fn drive(&mut self, task: &Task, fates: &[Fate]) -> End {
        let mut machine = match Machine::new(&self.terms, task, &self.record, References::default()) {
            Ok(machine) => machine,
            Err(end) => return end,
        };
        let mut fates = fates.iter().copied();
        let mut action = machine.begin();
        loop {
            action = match action {
                Action::Send(request) => match fates.next().unwrap_or(Fate::Answered) {
                    Fate::KeptBack => return machine.kept_back(End::Withdrawn),
                    fate => machine.answered(self.store.serve(&request, fate), self.now),
                },
                Action::Renew => machine.renewed(true),
                Action::Keep(_) => unreachable!("the book has no lists"),
                Action::End(end) => return end,
            };
        }
    }
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let fate = prop_oneof![
        4 => Just(Fate::Answered), 1 => Just(Fate::LostBefore), 2 => Just(Fate::LostAfter), 1 => Just(Fate::Failed),
        1 => Just(Fate::Throttled), 1 => Just(Fate::KeptBack),
    ];
    let change = (0_usize..3, any::<bool>(), prop::bool::weighted(0.8));
    let attempt = (prop::collection::vec(fate, 0..5), prop::bool::weighted(0.2));
    prop::collection::vec(
        prop_oneof![
            3 => change.prop_map(|(email, name, live)| Turn::Change { email, name, live }),
            1 => Just(Turn::Vanish),
            8 => attempt.prop_map(|(fates, crash)| Turn::Attempt { fates, crash }),
        ],
        1..40,
    )
}

/// The least that must hold of any way to write contacts, for every way of searching: nobody is made twice, and once
/// nothing fails any more the CRM holds exactly what the record says.
fn check(book: Book, find_before_create: bool, turns: &[Turn], protections: Protections) -> Result<(), TestCaseError> {
    let terms = Terms { protections, ..terms(book, find_before_create) };
    check_in(World::new(terms, Box::new(Store::default())), turns)
}

fn check_in(mut world: World, turns: &[Turn]) -> Result<(), TestCaseError> {
    for turn in turns {
        match turn {
            Turn::Change { email, name, live } => world.change(*email, *name, *live),
            Turn::Vanish => world.store.vanish(),
            Turn::Attempt { fates, crash } => world.attempt(fates, *crash),
        }
        prop_assert!(world.store.contacts().len() <= 1, "made twice");
    }
    // Somebody may have removed it since it was sent, which only another change tells.
    for (email, name) in [(0, true), (1, false)] {
        world.change(email, name, world.record.status == Status::Live);
        for _ in 0..10 {
            world.attempt(&[], false);
        }
    }
    prop_assert!(world.lane.is_idle(world.now, World::APART) && world.lane.link.open.is_none(), "not settled");
    let mut stored = world.store.contacts();
    stored.iter_mut().for_each(|contact| drop(contact.remove("number")));
    let live = world.record.status == Status::Live;
    let expected = BTreeMap::from([("email".to_owned(), json!("b@x.org"))]);
    prop_assert_eq!(stored, if live { vec![expected] } else { Vec::new() });
    Ok(())
}

proptest! {
    #[test]
    fn nobody_is_made_twice_and_the_crm_ends_equal_to_the_record(
        turns in turns(), planted in any::<bool>(), saves_found in any::<bool>(), reads_back in any::<bool>(),
        find_before_create in any::<bool>(),
    ) {
        // Where an answer about the write of an adoption is lost, only its own data can find it again.
        let saves_found = saves_found || !planted;
        check(Book { planted, saves_found, reads_back }, find_before_create, &turns, Protections::default())?;
    }
}

proptest! {
    #[test]
    fn a_connector_of_three_hundred_lines_makes_nobody_twice_either(turns in turns(), find_before_create in any::<bool>()) {
        let settings = CrmSettings { on_delete: OnDelete::Delete, ..crm_settings("/nowhere".into()) };
        let rolodex = Arc::new(Rolodex::new(&settings, &BTreeMap::new()).unwrap());
        check_in(World::new(terms_of(rolodex, find_before_create), Box::new(People::default())), &turns)?;
    }
}

#[test]
fn without_search_or_intent_somebody_is_made_twice() {
    let change = Turn::Change { email: 0, name: true, live: true };
    let lost = Turn::Attempt { fates: vec![Fate::Answered, Fate::LostAfter], crash: false };
    let again = Turn::Attempt { fates: Vec::new(), crash: false };
    let planted = Book { planted: true, ..Book::default() };
    let turns = [change.clone(), lost, again.clone(), again.clone()];
    check(planted, true, &turns, Protections::default()).unwrap();
    let unsearched = Protections::default().without(Protection::LookUp);
    let lost_at_once = Turn::Attempt { fates: vec![Fate::LostAfter], crash: false };
    let turns = [change.clone(), lost_at_once, again.clone(), again.clone()];
    check(planted, true, &turns, unsearched).unwrap_err();

    let lost_with_its_worker = Turn::Attempt { fates: vec![Fate::LostAfter], crash: true };
    let moved = Turn::Change { email: 2, name: true, live: true };
    let intend = Turn::Attempt { fates: Vec::new(), crash: false };
    let turns = [change, intend, lost_with_its_worker, moved, again.clone(), again];
    check(Book { saves_found: true, ..Book::default() }, false, &turns, Protections::default()).unwrap();
    let unintended = Protections::default().without(Protection::Intent);
    let turns = [turns[0].clone(), turns[2].clone(), turns[3].clone(), turns[4].clone()];
    check(Book { saves_found: true, ..Book::default() }, false, &turns, unintended).unwrap_err();
}
