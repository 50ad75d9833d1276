//! Whole deliveries against scripted answers: each request as it must be, and what each answer leads to.

mod payer;

use serde_json::json;

use super::{
    tests::{CONTACT, KEY, connector, connector_with, contact, link_with, record},
    *,
};
use crate::{
    config::{OnDelete, OnErase},
    crm::{Response, RetryAfter, TransportError, link::Intent, link::Sent, reference::References, relation::Related},
};

fn answer(status: u16, body: impl ToString) -> Answer {
    Ok(Response {
        status: http::StatusCode::from_u16(status).unwrap(),
        headers: http::HeaderMap::new(),
        body: Bytes::from(body.to_string()),
    })
}

fn ok(body: Value) -> Answer {
    answer(200, body)
}

/// What is delivered.
struct Case {
    record: ContactRecord,
    link: Option<Link>,
    look_up: Option<LookUpKeys>,
    changes: Vec<&'static str>,
    clears: Vec<&'static str>,
    operation: Operation,
    related: Related,
}

impl Case {
    /// A contact that was never sent, found or created by whatever its own look-up keys are.
    fn new(contact: Value) -> Self {
        Self {
            record: record(contact),
            link: None,
            look_up: None,
            changes: Vec::new(),
            clears: Vec::new(),
            operation: Operation::Create,
            related: Related::default(),
        }
    }

    /// A contact that Previsto has as `con_90a1`.
    fn linked(contact: Value, changes: &[&'static str]) -> Self {
        let link = link_with(&["name", "meta.externalRef"], Some("con_90a1"));
        Self { link: Some(link), changes: changes.to_vec(), operation: Operation::Update, ..Self::new(contact) }
    }

    fn keys(mut self, previsto: &Previsto) -> Self {
        let projection = previsto.project(&self.record, self.link.as_ref()).unwrap();
        self.look_up = previsto.look_up_keys(&self.record, &projection);
        self
    }

    fn status(mut self, status: Status, operation: Operation) -> Self {
        self.record.status = status;
        self.operation = operation;
        self
    }

    /// Plays `script`: each request, as text, and its answer.
    #[track_caller]
    fn play(&self, previsto: &Previsto, script: &[(&str, Answer)]) -> Step {
        let mut projection = previsto.project(&self.record, self.link.as_ref()).unwrap();
        self.related.lay_over(&mut projection, CONTACT);
        let changes: Vec<_> = self.changes.iter().map(|path| (*path).into()).collect();
        let clears: Vec<_> = self.clears.iter().map(|path| (*path).to_owned()).collect();
        let delivery = Delivery {
            record: &self.record,
            link: self.link.as_ref(),
            projection: &projection,
            changes: &changes,
            clears: &clears,
            operation: self.operation,
            look_up: self.look_up.as_ref(),
            references: &References::default().with(self.related.clone()),
            tries: 0,
        };
        let mut answers: Vec<Answer> = Vec::new();
        for (expected, answer) in script {
            match previsto.next(&delivery, &answers) {
                Step::Call(request) => assert_eq!(said(&request), *expected, "request {}", answers.len() + 1),
                step => panic!("not {expected}, but {step:?}"),
            }
            answers.push(answer.clone());
        }
        match previsto.next(&delivery, &answers) {
            Step::Call(request) => panic!("the script ends before {}", said(&request)),
            step => step,
        }
    }

    #[track_caller]
    fn accepted(&self, previsto: &Previsto, script: &[(&str, Answer)]) -> (Operation, String) {
        match self.play(previsto, script) {
            Step::Done(accepted) => (accepted.operation, accepted.remote_ids[REMOTE_CONTACT].clone()),
            step => panic!("accepted, not {step:?}"),
        }
    }

    #[track_caller]
    fn verdict(&self, previsto: &Previsto, script: &[(&str, Answer)]) -> Verdict {
        match self.play(previsto, script) {
            Step::Judged(verdict) => verdict,
            step => panic!("judged, not {step:?}"),
        }
    }

    #[track_caller]
    fn failure(&self, previsto: &Previsto, script: &[(&str, Answer)]) -> Failure {
        match self.play(previsto, script) {
            Step::Failed(failure) => failure,
            step => panic!("failed, not {step:?}"),
        }
    }
}

/// A request as text. Its kind follows from what it does, and its headers from whether it has a body.
fn said(request: &Request) -> String {
    let kind = match (request.method.as_str(), request.path.as_str()) {
        ("GET", _) => RequestKind::Read,
        ("POST", "/contacts") => RequestKind::Create,
        _ => RequestKind::Set,
    };
    assert_eq!(request.kind, kind, "{request:?}");
    let header =
        |name| request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_str().unwrap());
    assert_eq!(header(ACCEPT), Some("application/json"));
    let form = (request.method == Method::POST).then_some("application/x-www-form-urlencoded");
    assert_eq!(header(CONTENT_TYPE), form);
    let body = std::str::from_utf8(&request.body).unwrap();
    format!("{} {} {body}", request.method, request.path).trim_end().to_owned()
}

const SEARCH: &str = "GET /contacts?search=00000000-0000-0000-0000-0000000001c3&size=100&page=0";
const SEARCH_1: &str = "GET /contacts?search=00000000-0000-0000-0000-0000000001c3&size=100&page=1";
const BY_EMAIL: &str = "GET /contacts?search=ilka%40example.com&size=100&page=0";
const BY_EMAIL_1: &str = "GET /contacts?search=ilka%40example.com&size=100&page=1";
const BY_PHONE: &str = "GET /contacts?search=%2B4520555012&size=100&page=0";
const BY_PHONE_1: &str = "GET /contacts?search=%2B4520555012&size=100&page=1";
const READ: &str = "GET /contacts/con_90a1";
/// Name and references as a form, without the number.
const MARKED: &str = "meta%5BexternalRef%5D=00000000-0000-0000-0000-0000000001c3&meta%5Bsource%5D=contact-hub";

fn plain() -> Previsto {
    connector(|_| ())
}

fn posted(path: &str, said: &str) -> String {
    format!("POST {path} {said}")
}

/// The whole projection of [`ilka`] as a form, with `more` between the name and its number.
fn whole(path: &str, more: &str) -> String {
    posted(path, &format!("name=Ilka%20Sundstrom{more}&number={KEY}&{MARKED}"))
}

fn ilka() -> Value {
    contact(json!({ "emails": [{ "value": "ilka@example.com" }] }))
}

/// What adopts a contact.
fn stamp(more: &str) -> String {
    let whole = whole("/contacts/con_90a1", more);
    whole.replace("&meta%5BexternalRef%5D", "&meta%5Badopted%5D=true&meta%5BexternalRef%5D")
}

const EMAIL: &str = "&email=ilka%40example.com";

fn hit(id: &str, meta: Value) -> Value {
    json!({
        "id": id, "name": "Ilka Sundstrom", "email": "Ilka@Example.com", "phone": null, "number": null, "archived": false,
        "meta": meta,
    })
}

fn ours() -> Value {
    hit("con_90a1", json!({ "externalRef": KEY }))
}

/// Searches by number and by e-mail address, of which the second finds `hits`.
fn found_by_email(hits: Value) -> Vec<(&'static str, Answer)> {
    vec![(SEARCH, ok(json!([]))), (BY_EMAIL, ok(hits)), (BY_EMAIL_1, ok(json!([])))]
}

#[test]
fn the_documented_conversation_comes_out_byte_for_byte() {
    let previsto = connector(|settings| settings.send_source = false);
    let document = json!({
        "name": { "givenName": "Ilka", "familyName": "Sundstrom" },
        "addresses": [{
            "streetAddress": "Kanalgade", "streetNumber": "14", "apartment": "2. tv", "postalCode": "8000",
            "locality": "Aarhus", "country": "DK",
        }],
        "phoneNumbers": [{ "value": "+4520555012" }],
        "emails": [{ "value": "ilka.sundstrom@example.com" }],
    });
    let object = json!({
        "id": "con_90a1", "name": "Ilka Sundstrom", "address": "Kanalgade 14", "appartment": "2. tv", "postalCode": "8000",
        "city": "Aarhus", "countryCode": "DK", "location": [10.2039, 56.1572], "number": KEY, "remoteId": null,
        "remoteOrderId": null, "phone": "+4520555012", "email": "ilka.sundstrom@example.com", "registrationNo": null,
        "ean": null, "accountingMode": null, "accountingTime": null, "invoiceDelivery": null, "notifyBeforeWork": false,
        "archived": false, "agentIds": [], "meta": { "externalRef": KEY },
    });
    let create = "POST /contacts name=Ilka%20Sundstrom&address=Kanalgade%2014&appartment=2.%20tv&postalCode=8000\
                  &city=Aarhus&countryCode=DK&phone=%2B4520555012&email=ilka.sundstrom%40example.com\
                  &number=ct-000451&meta%5BexternalRef%5D=ct-000451";
    // The example has a reference of another form than ours.
    let create = create.replace("ct-000451", KEY);
    let accepted = Case::new(document.clone()).accepted(&previsto, &[(&create, ok(object.clone()))]);
    assert_eq!(accepted, (Operation::Create, "con_90a1".to_owned()));

    let mut changed = document;
    changed["phoneNumbers"] = json!([{ "value": "+4520555099" }]);
    let case = Case::linked(changed, &["phone"]);
    let update = "POST /contacts/con_90a1 phone=%2B4520555099";
    let accepted = case.accepted(&previsto, &[(update, ok(object.clone()))]);
    assert_eq!(accepted, (Operation::Update, "con_90a1".to_owned()));

    let deleting = connector_with(|crm| crm.on_delete = OnDelete::Delete);
    let case = case.status(Status::Deleted, Operation::Delete);
    let delete = "DELETE /contacts/con_90a1";
    assert_eq!(case.accepted(&deleting, &[(delete, answer(204, ""))]).0, Operation::Delete);
    let again = json!({ "type": "invalid_request", "message": "no such contact", "param": "id" });
    assert_eq!(case.accepted(&deleting, &[(delete, answer(404, again))]).0, Operation::Delete);
}

#[test]
fn a_contact_of_ours_is_searched_for_first_and_brought_up_to_date_if_it_is_there() {
    let previsto = plain();
    let case = Case::new(ilka()).keys(&previsto);
    let made = ok(json!({ "id": "con_7", "meta": {} }));
    let mut script = vec![(SEARCH, ok(json!([]))), (BY_EMAIL, ok(json!([])))];
    let create = whole("/contacts", EMAIL);
    script.push((&create, made));
    assert_eq!(case.accepted(&previsto, &script), (Operation::Create, "con_7".to_owned()));

    let update = whole("/contacts/con_90a1", EMAIL);
    let script = [(SEARCH, ok(json!([ours()]))), (SEARCH_1, ok(json!([]))), (update.as_str(), ok(ours()))];
    assert_eq!(case.accepted(&previsto, &script), (Operation::Create, "con_90a1".to_owned()));
    let by_number = json!({ "id": "con_90a1", "number": KEY, "meta": { "externalRef": null } });
    let script = [(SEARCH, ok(json!([by_number]))), (SEARCH_1, ok(json!([]))), (update.as_str(), ok(ours()))];
    assert_eq!(case.accepted(&previsto, &script), (Operation::Create, "con_90a1".to_owned()));
}

#[test]
fn whatever_a_dead_predecessor_left_is_cleared() {
    let previsto = plain();
    let mut case = Case::new(ilka()).keys(&previsto);
    let mut link = Link::new(CONTACT);
    link.sent = previsto.fields().into_iter().map(|field| (field.into(), Sent::Void)).collect();
    case.link = Some(link);
    case.clears = vec!["phone", "meta.gender", "number", "name", "unheardOf"];
    let found = hit(
        "con_90a1",
        json!({ "externalRef": KEY, "attr_pet": "Rex", "jobTitle": "Lead", "hairColor": "Brown", "source": "other" }),
    );
    let update = posted(
        "/contacts/con_90a1",
        &format!(
            "name=Ilka%20Sundstrom&phone={EMAIL}&archived=false&number={KEY}&meta%5Battr_pet%5D=&meta%5BexternalRef%5D={KEY}\
             &meta%5Bgender%5D=&meta%5BjobTitle%5D=&meta%5Bsource%5D=contact-hub"
        ),
    );
    let script = [(SEARCH, ok(json!([found]))), (SEARCH_1, ok(json!([]))), (update.as_str(), ok(ours()))];
    assert_eq!(case.accepted(&previsto, &script).0, Operation::Create);
}

#[test]
fn an_adopted_contact_keeps_what_nobody_knows_to_be_ours() {
    let previsto = plain();
    let mut case = Case::new(ilka()).keys(&previsto);
    let mut link = Link::new(CONTACT);
    link.sent = previsto.fields().into_iter().map(|field| (field.into(), Sent::Void)).collect();
    case.link = Some(link);
    case.clears = vec!["note", "phone"];
    let adopted = hit("con_90a1", json!({ "externalRef": KEY, "adopted": "true", "attr_pet": "Rex" }));
    let play = |case: &Case, body: &str| {
        let update = posted("/contacts/con_90a1", body);
        let script = [(SEARCH, ok(json!([adopted]))), (SEARCH_1, ok(json!([]))), (update.as_str(), ok(ours()))];
        assert_eq!(case.accepted(&previsto, &script).0, Operation::Create);
    };
    let pet = "meta%5Battr_pet%5D=";
    play(&case, &format!("name=Ilka%20Sundstrom{EMAIL}&archived=false&number={KEY}&{pet}&{MARKED}"));
    case.link = Some(link_with(&["name", "note", "meta.externalRef"], None));
    case.clears = vec!["note"];
    play(&case, &format!("name=Ilka%20Sundstrom{EMAIL}&note=&number={KEY}&{pet}&{MARKED}"));
}

#[test]
fn a_found_contact_that_is_archived_is_taken_back() {
    let previsto = plain();
    let case = Case::new(ilka()).keys(&previsto);
    let mut archived = ours();
    archived["archived"] = json!(true);
    let update = whole("/contacts/con_90a1", &format!("{EMAIL}&archived=false"));
    let script = [(SEARCH, ok(json!([archived]))), (SEARCH_1, ok(json!([]))), (update.as_str(), ok(ours()))];
    assert_eq!(case.accepted(&previsto, &script).0, Operation::Create);
}

#[test]
fn two_contacts_with_our_reference_are_too_many() {
    let previsto = plain();
    let case = Case::new(ilka()).keys(&previsto);
    let twice = json!([ours(), hit("con_2", json!({ "externalRef": KEY }))]);
    let verdict = case.verdict(&previsto, &[(SEARCH, ok(twice)), (SEARCH_1, ok(json!([])))]);
    assert_eq!(verdict, Verdict::new(OutcomeKind::Rejected, ReasonCode::AmbiguousMatch));
}

#[test]
fn pages_are_walked_until_one_is_empty_and_what_comes_twice_counts_once() {
    let previsto = connector(|settings| (settings.page_size, settings.search_pages_max) = (2, 4));
    let case = Case::new(ilka()).keys(&previsto);
    let page = |page: u32| format!("GET /contacts?search={KEY}&size=2&page={page}");
    let pages: Vec<String> = (0..4).map(page).collect();
    let other = |id: &str| hit(id, json!({ "externalRef": "another" }));
    let update = whole("/contacts/con_90a1", EMAIL);
    let script = [
        (pages[0].as_str(), ok(json!([other("a"), ours()]))),
        (pages[1].as_str(), ok(json!([ours(), other("b")]))),
        (pages[2].as_str(), ok(json!([other("b")]))),
        (pages[3].as_str(), ok(json!([]))),
        (update.as_str(), ok(ours())),
    ];
    assert_eq!(case.accepted(&previsto, &script), (Operation::Create, "con_90a1".to_owned()));
    let endless: Vec<_> = pages.iter().map(|page| (page.as_str(), ok(json!([other("a")])))).collect();
    let verdict = case.verdict(&previsto, &endless);
    assert_eq!(verdict, Verdict::new(OutcomeKind::Rejected, ReasonCode::AmbiguousMatch), "the budget is spent");
}

#[test]
fn a_contact_of_nobody_is_stamped_and_read_back() {
    let previsto = plain();
    let case = Case::new(ilka()).keys(&previsto);
    let stamp = stamp(EMAIL);
    let nobodys = || hit("con_90a1", json!({ "hairColor": "Brown", "externalRef": "" }));
    let stamped = |read: Value| {
        let mut script = found_by_email(json!([nobodys()]));
        script.extend([(stamp.as_str(), ok(nobodys())), (READ, ok(read))]);
        case.play(&previsto, &script)
    };
    let Step::Done(accepted) = stamped(ours()) else { panic!("accepted") };
    assert_eq!((accepted.operation, accepted.remote_ids[REMOTE_CONTACT].as_str()), (Operation::Adopt, "con_90a1"));
    for lost in [hit("con_90a1", json!({ "externalRef": "another" })), nobodys()] {
        let Step::Judged(verdict) = stamped(lost) else { panic!("judged") };
        assert_eq!(verdict, Verdict::new(OutcomeKind::Rejected, ReasonCode::AmbiguousMatch));
    }
}

#[test]
fn a_contact_may_be_adopted_by_its_telephone_number() {
    let previsto = plain();
    let case = Case::new(contact(json!({ "phoneNumbers": [{ "value": "+45 20 55 50 12" }] }))).keys(&previsto);
    let found = json!({ "id": "con_90a1", "name": "I. Sundstrom", "phone": "0045 20555012", "number": "K-17" });
    let stamp = stamp("&phone=%2B4520555012");
    let script = [
        (SEARCH, ok(json!([]))),
        (BY_PHONE, ok(json!([found]))),
        (BY_PHONE_1, ok(json!([]))),
        (stamp.as_str(), ok(found.clone())),
        (READ, ok(ours())),
    ];
    assert_eq!(case.accepted(&previsto, &script).0, Operation::Adopt);
}

#[test]
fn what_is_not_surely_the_contact_is_not_adopted() {
    let create = whole("/contacts", EMAIL);
    let made = || (create.as_str(), ok(json!({ "id": "con_7" })));
    let check = |previsto: &Previsto, hits: Value| {
        let case = Case::new(ilka()).keys(previsto);
        let mut script = found_by_email(hits);
        script.push(made());
        assert_eq!(case.accepted(previsto, &script), (Operation::Create, "con_7".to_owned()));
    };
    let with = |name: &str, value: Value| {
        let mut hit = hit("con_1", json!({}));
        hit[name] = value;
        json!([hit])
    };
    let previsto = plain();
    check(&previsto, json!([hit("con_1", json!({ "externalRef": "another" }))]));
    check(&previsto, with("number", json!("00000000-0000-0000-0000-0000000001c4")));
    check(&previsto, with("email", json!("ilka@example.com.au")));
    check(&previsto, with("name", json!("Jonas Sundstrom")));
    check(&previsto, with("name", json!("J. Sundstrom")));
    for nameless in [json!(null), json!(""), json!("-")] {
        check(&previsto, with("name", nameless));
    }

    let never = connector_with(|crm| crm.adopt = Adopt::Never);
    let case = Case::new(ilka()).keys(&never);
    assert_eq!(case.accepted(&never, &[(SEARCH, ok(json!([]))), made()]).1, "con_7");
}

#[test]
fn several_that_might_be_adopted_are_too_many() {
    let previsto = plain();
    let case = Case::new(ilka()).keys(&previsto);
    let script = found_by_email(json!([hit("con_1", json!({})), hit("con_2", json!({}))]));
    let verdict = case.verdict(&previsto, &script);
    assert_eq!(verdict, Verdict::new(OutcomeKind::Rejected, ReasonCode::AmbiguousMatch));
}

#[test]
fn without_a_number_of_ours_the_contacts_own_data_is_searched() {
    let previsto = connector(|settings| settings.plant_number = false);
    let case = Case::new(ilka()).keys(&previsto);
    assert!(!case.look_up.as_ref().unwrap().planted);
    let update = posted("/contacts/con_90a1", &format!("name=Ilka%20Sundstrom{EMAIL}&{MARKED}"));
    let script = [(BY_EMAIL, ok(json!([ours()]))), (BY_EMAIL_1, ok(json!([]))), (update.as_str(), ok(ours()))];
    assert_eq!(case.accepted(&previsto, &script), (Operation::Create, "con_90a1".to_owned()));
}

#[test]
fn with_nothing_to_search_by_only_what_was_never_sent_is_created() {
    let previsto = connector(|settings| settings.plant_number = false);
    let mut case = Case::new(contact(json!({}))).keys(&previsto);
    assert!(case.look_up.as_ref().unwrap().values.is_empty());
    let create = posted("/contacts", &format!("name=Ilka%20Sundstrom&{MARKED}"));
    let script = [(create.as_str(), ok(json!({ "id": "con_7" })))];
    assert_eq!(case.accepted(&previsto, &script).1, "con_7");
    // A predecessor that died before it committed anything cannot have sent a create.
    let mut suspected = Link::new(CONTACT);
    suspected.sent = previsto.fields().into_iter().map(|field| (field.into(), Sent::Void)).collect();
    case.link = Some(suspected);
    let create = posted("/contacts", &format!("name=Ilka%20Sundstrom&archived=false&{MARKED}"));
    assert_eq!(case.accepted(&previsto, &[(create.as_str(), ok(json!({ "id": "con_7" })))]).1, "con_7");

    let mut intended = Link::new(CONTACT);
    intended.intent = Some(Intent { keys: BTreeMap::new() });
    for link in [intended, link_with(&["name", "meta.externalRef"], None)] {
        case.link = Some(link);
        let verdict = case.verdict(&previsto, &[]);
        assert_eq!(verdict, Verdict::new(OutcomeKind::Rejected, ReasonCode::AmbiguousMatch));
    }
}

#[test]
fn an_update_carries_what_differs_and_all_of_meta_with_any_part_of_it() {
    let previsto = plain();
    let document = || contact(json!({ "notes": "n", "gender": "female", "attributes": { "pet": "Rex" } }));
    let check = |changes: &[&'static str], clears: &[&'static str], body: &str| {
        let mut case = Case::linked(document(), changes);
        case.clears = clears.to_vec();
        let update = posted("/contacts/con_90a1", body);
        assert_eq!(case.accepted(&previsto, &[(&update, ok(ours()))]), (Operation::Update, "con_90a1".to_owned()));
    };
    check(&["note"], &[], "note=n");
    check(&["note"], &["phone", "location", "number", "meta.externalRef"], "location=&phone=&note=n");
    let meta = "meta%5Battr_pet%5D=Rex";
    check(&["meta.gender"], &[], &format!("{meta}&{}&meta%5Bgender%5D=female&{}", refs(), source()));
    check(
        &[],
        &["meta.attr_old", "meta.kind"],
        &format!("meta%5Battr_old%5D=&{meta}&{}&meta%5Bgender%5D=female&meta%5Bkind%5D=&{}", refs(), source()),
    );
}

fn refs() -> String {
    format!("meta%5BexternalRef%5D={KEY}")
}

fn source() -> &'static str {
    "meta%5Bsource%5D=contact-hub"
}

#[test]
fn with_nothing_to_say_nothing_is_sent() {
    let unchanged = Verdict::new(OutcomeKind::Unchanged, ReasonCode::SameProjection);
    assert_eq!(Case::linked(ilka(), &[]).verdict(&plain(), &[]), unchanged);
    let mut case = Case::linked(ilka(), &[]);
    case.clears = vec!["phone", "note"];
    let omit = connector(|settings| settings.clear_with = crate::config::FormClear::Omit);
    assert_eq!(case.verdict(&omit, &[]), unchanged);
    case.clears = vec!["note"];
    let keep = connector(|settings| settings.never_cleared.extend(["note".to_owned()]));
    assert_eq!(case.verdict(&keep, &[]), unchanged);
}

#[test]
fn an_id_is_one_step_of_a_path_whatever_it_holds() {
    let mut case = Case::linked(ilka(), &["email"]);
    case.link.as_mut().unwrap().remote_ids.insert(REMOTE_CONTACT.to_owned(), "a/b?c d".to_owned());
    let update = "POST /contacts/a%2Fb%3Fc%20d email=ilka%40example.com";
    assert_eq!(case.accepted(&plain(), &[(update, answer(200, ""))]).1, "a/b?c d");
}

#[test]
fn a_contact_is_archived_and_what_comes_back_shows_it() {
    let previsto = plain();
    let mut case = Case::linked(ilka(), &["archived"]).status(Status::Deleted, Operation::Deactivate);
    let archive = "POST /contacts/con_90a1 archived=true";
    let mut archived = ours();
    archived["archived"] = json!(true);
    let done = (Operation::Deactivate, "con_90a1".to_owned());
    assert_eq!(case.accepted(&previsto, &[(archive, ok(archived.clone()))]), done);
    let unsupported = Verdict::new(OutcomeKind::Unsupported, ReasonCode::Deactivate);
    assert_eq!(case.verdict(&previsto, &[(archive, ok(ours()))]), unsupported);
    // An answer that does not show it is followed by one that does.
    for silent in [answer(200, ""), answer(204, "OK"), ok(json!({ "id": "con_90a1" }))] {
        assert_eq!(case.accepted(&previsto, &[(archive, silent), (READ, ok(archived.clone()))]), done);
    }
    assert_eq!(case.verdict(&previsto, &[(archive, answer(200, "")), (READ, ok(ours()))]), unsupported);
    let failure = case.failure(&previsto, &[(archive, answer(200, "")), (READ, answer(200, "<html>"))]);
    assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::None));

    // Without a document, all else stays as Previsto has it.
    case.record.contact = None;
    case.clears = vec!["phone", "email"];
    assert_eq!(case.accepted(&previsto, &[(archive, ok(archived.clone()))]), done);

    let back = Case::linked(contact(json!({ "active": true })), &["archived"]);
    let back = Case { operation: Operation::Reactivate, ..back };
    let taken_back = "POST /contacts/con_90a1 archived=false";
    assert_eq!(back.accepted(&previsto, &[(taken_back, ok(ours()))]).0, Operation::Reactivate);
    assert_eq!(back.verdict(&previsto, &[(taken_back, ok(archived))]), unsupported);
}

#[test]
fn a_create_that_is_to_be_archived_is_checked_too() {
    let case = Case { operation: Operation::Deactivate, ..Case::new(contact(json!({ "active": false }))) };
    let create = whole("/contacts", "&archived=true");
    let made = |archived| [(create.as_str(), ok(json!({ "id": "con_7", "archived": archived })))];
    assert_eq!(
        case.accepted(&plain(), &made(true)).0,
        Operation::Create,
        "an inactive contact is created all the same"
    );
    let unsupported = Verdict::new(OutcomeKind::Unsupported, ReasonCode::Deactivate);
    assert_eq!(case.verdict(&plain(), &made(false)), unsupported);
}

#[test]
fn a_contact_that_may_never_have_been_created_is_not_created_to_be_archived() {
    let previsto = plain();
    let mut case = Case::linked(ilka(), &[]).status(Status::Deleted, Operation::Deactivate);
    case.link.as_mut().unwrap().remote_ids.clear();
    let nothing = [(SEARCH, ok(json!([]))), (BY_EMAIL, ok(json!([])))];
    let unknown = Verdict::new(OutcomeKind::Unchanged, ReasonCode::UnknownContact);
    assert_eq!(case.verdict(&previsto, &nothing), unknown, "without keys given, it is searched for by its own");
    let case = case.keys(&previsto);
    assert_eq!(case.verdict(&previsto, &nothing), unknown);
    let nobodys = found_by_email(json!([hit("con_1", json!({}))]));
    assert_eq!(case.verdict(&previsto, &nobodys), unknown, "nothing is adopted to be archived");
    let update = whole("/contacts/con_90a1", &format!("{EMAIL}&archived=true"));
    let mut archived = ours();
    archived["archived"] = json!(true);
    let script = [(SEARCH, ok(json!([ours()]))), (SEARCH_1, ok(json!([]))), (update.as_str(), ok(archived))];
    assert_eq!(case.accepted(&previsto, &script), (Operation::Deactivate, "con_90a1".to_owned()));
}

#[test]
fn a_deletion_without_an_id_deletes_all_that_carries_our_reference() {
    let previsto = connector_with(|crm| crm.on_delete = OnDelete::Delete);
    let mut case = Case::linked(ilka(), &[]).status(Status::Deleted, Operation::Delete);
    case.link.as_mut().unwrap().remote_ids.clear();
    let case = case.keys(&previsto);
    let hits = json!([ours(), hit("con_2", json!({ "externalRef": KEY })), hit("con_3", json!({}))]);
    let script = [
        (SEARCH, ok(hits)),
        (SEARCH_1, ok(json!([]))),
        ("DELETE /contacts/con_2", answer(404, "")),
        ("DELETE /contacts/con_90a1", answer(204, "")),
    ];
    assert_eq!(case.accepted(&previsto, &script).0, Operation::Delete);
    let unknown = Verdict::new(OutcomeKind::Unchanged, ReasonCode::UnknownContact);
    assert_eq!(case.verdict(&previsto, &found_by_email(json!([hit("con_3", json!({}))]))), unknown);
}

#[test]
fn a_deleted_contact_is_found_by_what_its_create_said_or_by_what_it_said_last() {
    let previsto = connector_with(|crm| {
        crm.on_delete = OnDelete::Delete;
        crm.previsto.as_mut().unwrap().plant_number = false;
    });
    let mut case = Case::new(ilka()).status(Status::Deleted, Operation::Delete);
    let keys = BTreeMap::from([("phone".to_owned(), "+4520555012".to_owned())]);
    let mut link = Link::new(CONTACT);
    link.intent = Some(Intent { keys: keys.clone() });
    case.link = Some(link);
    case.look_up = Some(LookUpKeys { values: keys, planted: false });
    let delete = || ("DELETE /contacts/con_90a1", answer(204, ""));
    let at_once = [(BY_PHONE, ok(json!([ours()]))), (BY_PHONE_1, ok(json!([]))), delete()];
    assert_eq!(case.accepted(&previsto, &at_once).0, Operation::Delete);
    let later = [(BY_PHONE, ok(json!([]))), (BY_EMAIL, ok(json!([ours()]))), (BY_EMAIL_1, ok(json!([]))), delete()];
    assert_eq!(case.accepted(&previsto, &later).0, Operation::Delete);
}

#[test]
fn an_erased_contact_without_an_id_is_found_by_what_was_committed() {
    let previsto = connector(|settings| settings.plant_number = false);
    let mut case = Case::new(Value::Null).status(Status::Erased, Operation::Delete);
    let keys = BTreeMap::from([("email".to_owned(), "ilka@example.com".to_owned())]);
    let mut link = Link::new(CONTACT);
    link.intent = Some(Intent { keys: keys.clone() });
    case.link = Some(link);
    case.look_up = Some(LookUpKeys { values: keys, planted: false });
    let script =
        [(BY_EMAIL, ok(json!([ours()]))), (BY_EMAIL_1, ok(json!([]))), ("DELETE /contacts/con_90a1", answer(204, ""))];
    assert_eq!(case.accepted(&previsto, &script).0, Operation::Erase);
    case.look_up = Some(LookUpKeys::default());
    let verdict = case.verdict(&previsto, &[]);
    assert_eq!(verdict, Verdict::new(OutcomeKind::Rejected, ReasonCode::AmbiguousMatch), "nobody can tell");
}

#[test]
fn an_erased_contact_is_deleted_or_blanked() {
    let case = Case::linked(Value::Null, &[]).status(Status::Erased, Operation::Delete);
    let script = [("DELETE /contacts/con_90a1", answer(204, ""))];
    assert_eq!(case.accepted(&plain(), &script).0, Operation::Erase);

    let blanking = connector_with(|crm| {
        crm.on_erase = OnErase::Blank;
        crm.previsto.as_mut().unwrap().never_cleared.insert("meta.attr_pet".to_owned());
    });
    let mut case = Case::linked(Value::Null, &["name", "email", "meta.gender", "archived"]);
    case = case.status(Status::Erased, Operation::Deactivate);
    case.clears = vec!["meta.attr_pet"];
    let blank = format!(
        "POST /contacts/con_90a1 name=%28erased%29&email=&archived=true&meta%5Battr_pet%5D=&{}&meta%5Bgender%5D=&{}",
        refs(),
        source()
    );
    let mut archived = ours();
    archived["archived"] = json!(true);
    assert_eq!(case.accepted(&blanking, &[(&blank, ok(archived))]).0, Operation::Blank);
}

#[test]
fn an_unreadable_success_is_unknown_for_a_create_and_tried_again_for_a_read() {
    let previsto = plain();
    let case = Case::new(ilka());
    let create = whole("/contacts", EMAIL);
    let cut_off = || Err(TransportError::UnusableBody { status: http::StatusCode::OK, reason: String::new() });
    for unreadable in [answer(200, ""), answer(201, "<html>"), ok(json!({ "id": "a b" })), ok(json!([])), cut_off()] {
        let failure = case.failure(&previsto, &[(&create, unreadable)]);
        assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::Unknown));
        assert!(failure.reason.http_status.is_some_and(|status| status < 300));
    }
    let case = case.keys(&previsto);
    for unreadable in [answer(200, ""), ok(json!({})), ok(json!([{}])), cut_off()] {
        let failure = case.failure(&previsto, &[(SEARCH, unreadable)]);
        assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::None));
    }
    let stamp = stamp(EMAIL);
    let mut script = found_by_email(json!([hit("con_90a1", json!({}))]));
    script.extend([(stamp.as_str(), answer(200, "")), (READ, answer(200, ""))]);
    let failure = case.failure(&previsto, &script);
    assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::None));
    // An update needs no body.
    let linked = Case::linked(ilka(), &["email"]);
    for unread in [answer(200, "<html>"), answer(204, ""), cut_off()] {
        let script = [("POST /contacts/con_90a1 email=ilka%40example.com", unread)];
        assert_eq!(linked.accepted(&previsto, &script).0, Operation::Update);
    }
}

#[test]
fn each_refusal_has_its_class_and_shows_nothing_of_the_contact() {
    use FailureClass::{Auth, Conflict, Connection, Gone, Rejected, Throttled, Transient};
    let previsto = plain();
    let create = whole("/contacts", EMAIL);
    let update = "POST /contacts/con_90a1 email=ilka%40example.com";
    let (creating, updating) = (Case::new(ilka()), Case::linked(ilka(), &["email"]));
    let searching = Case::new(ilka()).keys(&previsto);
    let refusal = |kind: &str| json!({ "type": kind, "message": "ilka@example.com is wrong", "param": "email" });
    for (status, kind, on_create, on_update, effect) in [
        (400, "invalid_request", Rejected, Rejected, Effect::None),
        (400, "api_error", Transient, Transient, Effect::Unknown),
        (401, "invalid_request", Auth, Auth, Effect::None),
        (403, "invalid_request", Connection, Connection, Effect::None),
        (404, "invalid_request", Connection, Gone, Effect::None),
        (405, "invalid_request", Connection, Connection, Effect::None),
        (409, "invalid_request", Conflict, Conflict, Effect::None),
        (422, "invalid_request", Rejected, Rejected, Effect::None),
        (429, "api_error", Throttled, Throttled, Effect::None),
        (302, "api_error", Connection, Connection, Effect::None),
        (408, "api_error", Transient, Transient, Effect::Unknown),
        (500, "api_error", Transient, Transient, Effect::Unknown),
        (503, "invalid_request", Transient, Transient, Effect::Unknown),
    ] {
        for (failure, class) in [
            (creating.failure(&previsto, &[(&create, answer(status, refusal(kind)))]), on_create),
            (updating.failure(&previsto, &[(update, answer(status, refusal(kind)))]), on_update),
            (searching.failure(&previsto, &[(SEARCH, answer(status, refusal(kind)))]), on_create),
        ] {
            assert_eq!((failure.class, failure.effect), (class, effect), "{status} {kind}");
            assert_eq!(failure.reason.http_status, Some(status));
            assert_eq!(failure.reason.crm_code.as_deref(), Some(kind));
            assert_eq!(failure.reason.field.as_deref(), Some("email"));
            assert!(!format!("{failure:?}").contains("ilka"));
        }
    }
    let quoting = json!({ "type": "Sundstrom", "message": "x", "param": "ilka@example.com" });
    let failure = creating.failure(&previsto, &[(&create, answer(400, quoting))]);
    assert_eq!((failure.reason.crm_code, failure.reason.field), (None, None));
    let bare = creating.failure(&previsto, &[(&create, answer(400, "<html>"))]);
    assert_eq!((bare.class, bare.reason.code), (Rejected, ReasonCode::InvalidField));
}

#[test]
fn a_lost_answer_leaves_the_effect_unknown_and_an_unsent_request_none() {
    let previsto = plain();
    let create = whole("/contacts", EMAIL);
    let lost = || Err(TransportError::Unanswered { reason: String::new() });
    let failure = Case::new(ilka()).failure(&previsto, &[(&create, lost())]);
    assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::Unknown));
    let unsent = Err(TransportError::NotSent { reason: String::new() });
    let failure = Case::new(ilka()).failure(&previsto, &[(&create, unsent)]);
    assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::None));
    let deleting = connector_with(|crm| crm.on_delete = OnDelete::Delete);
    let case = Case::linked(ilka(), &[]).status(Status::Deleted, Operation::Delete);
    let failure = case.failure(&deleting, &[("DELETE /contacts/con_90a1", lost())]);
    assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::Unknown));
}

#[test]
fn a_wait_that_is_asked_for_is_kept() {
    let mut throttled = answer(429, "");
    throttled.as_mut().unwrap().headers.insert(http::header::RETRY_AFTER, HeaderValue::from_static("17"));
    let failure = Case::new(ilka()).failure(&plain(), &[(&whole("/contacts", EMAIL), throttled)]);
    assert_eq!(failure.retry_after, Some(RetryAfter::Delay(std::time::Duration::from_secs(17))));
}

#[test]
fn a_hit_that_vanishes_is_searched_for_again() {
    let previsto = plain();
    let case = Case::new(ilka()).keys(&previsto);
    let update = whole("/contacts/con_90a1", EMAIL);
    let script = [(SEARCH, ok(json!([ours()]))), (SEARCH_1, ok(json!([]))), (update.as_str(), answer(404, ""))];
    let failure = case.failure(&previsto, &script);
    assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::None));
}

#[test]
fn a_configured_class_replaces_the_built_in_one() {
    let class = |status: &str, class| {
        let entry = (status.to_owned(), class);
        connector_with(|crm| {
            crm.on_delete = OnDelete::Delete;
            crm.previsto.as_mut().unwrap().status_classes.extend([entry]);
        })
    };
    let update = "POST /contacts/con_90a1 email=ilka%40example.com";
    let updating = Case::linked(ilka(), &["email"]);
    let failure = updating.failure(&class("404", FailureClass::Connection), &[(update, answer(404, ""))]);
    assert_eq!(failure.class, FailureClass::Connection);
    let refusal = json!({ "type": "api_error" });
    let failure = updating.failure(&class("400", FailureClass::Rejected), &[(update, answer(400, refusal))]);
    assert_eq!((failure.class, failure.effect), (FailureClass::Rejected, Effect::None));
    let case = updating.status(Status::Deleted, Operation::Delete);
    let script = [("DELETE /contacts/con_90a1", answer(404, ""))];
    assert_eq!(case.failure(&class("404", FailureClass::Connection), &script).class, FailureClass::Connection);
}

#[test]
fn no_debug_output_shows_a_value_of_a_contact() {
    let previsto = plain();
    let document = json!({
        "name": { "formatted": "canary", "honorificPrefix": "canary" }, "notes": "canary",
        "emails": [{ "value": "canary@example.com" }], "addresses": [{ "streetAddress": "canary" }],
        "attributes": { "canary": "canary" },
    });
    let case = Case::new(document).keys(&previsto);
    let projection = previsto.project(&case.record, None).unwrap();
    let delivery = Delivery {
        record: &case.record,
        link: None,
        projection: &projection,
        changes: &[],
        clears: &[],
        operation: Operation::Create,
        look_up: case.look_up.as_ref(),
        references: &References::default(),
        tries: 0,
    };
    let searching = previsto.next(&delivery, &[]);
    let empty = || ok(json!([]));
    let creating = previsto.next(&delivery, &[empty(), empty()]);
    assert!(matches!(creating, Step::Call(_)));
    let refused = previsto.next(&delivery, &[empty(), empty(), answer(400, r#"{"type":"canary","param":"canary"}"#)]);
    let made = wire::contact(br#"{"id":"canary","name":"canary"}"#);
    for debug in [
        format!("{previsto:?}"),
        format!("{projection:?}"),
        format!("{delivery:?}"),
        format!("{searching:?}"),
        format!("{creating:?}"),
        format!("{refused:?}"),
        format!("{made:?}"),
    ] {
        assert!(!debug.contains("canary"), "{debug}");
    }
}
