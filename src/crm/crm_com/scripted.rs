//! Whole deliveries against scripted answers: each request as it leaves, token and all, and what each answer leads to.

mod photos;
mod relations;

use bytes::Bytes;
use http::{
    HeaderValue,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::json;

use super::{
    tests::{CONTACT, KEY, company, connector, connector_with, contact, link_with, record},
    *,
};
use crate::{
    config::{CrmComCountryBy, CrmComEntryBy, OnErase},
    crm::{
        Effect, Failure, FailureClass, REMOTE_CONTACT, Response, RetryAfter, TransportError,
        link::{Intent, Sent},
        reference::References,
        relation::Related,
        session::placement::Placement,
    },
    event::{Operation, OutcomeKind, ReasonCode},
    privacy::Secret,
};

fn answer(status: u16, body: impl ToString) -> Answer {
    Ok(Response {
        status: http::StatusCode::from_u16(status).unwrap(),
        headers: http::HeaderMap::new(),
        body: Bytes::from(body.to_string()),
    })
}

fn ok(data: Value) -> Answer {
    answer(200, json!({ "status": { "code": "OK", "message": null, "description": null }, "data": data }))
}

fn refused(code: &str) -> Answer {
    answer(200, json!({ "status": { "code": code, "message": "Ilka is wrong", "description": "" }, "data": null }))
}

fn lost() -> Answer {
    Err(TransportError::Unanswered { reason: String::new() })
}

/// A request as text, once its token is on it. Its kind follows from where it goes.
fn said(request: &Request) -> String {
    let mut request = request.clone();
    let kind = match request.path.as_str() {
        "/contact_information/create" => RequestKind::Create,
        "/contact_information/update" | photo::ADD | photo::REMOVE => RequestKind::Set,
        _ => RequestKind::Read,
    };
    assert_eq!(request.kind, kind, "{request:?}");
    let header =
        |name| request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_str().unwrap());
    assert_eq!(header(ACCEPT), Some("application/json"));
    let is_form = |content_type: &str| content_type.starts_with("multipart/form-data; boundary=");
    match header(CONTENT_TYPE) {
        Some(content_type) if request.path == photo::ADD => assert!(is_form(content_type), "{content_type}"),
        content_type => assert_eq!(content_type, (request.method == Method::POST).then_some("application/json")),
    }
    Placement::Argument { name: "token" }.prepare(&Secret::new("T1")).unwrap().put(&mut request);
    let body = std::str::from_utf8(&request.body).unwrap();
    format!("{} {} {body}", request.method, request.path.replace("/contact_information", "")).trim_end().to_owned()
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
    /// A contact that was never sent.
    fn new(contact: Value) -> Self {
        let (link, look_up, changes, clears) = (None, None, Vec::new(), Vec::new());
        let related = Related::default();
        Self { record: record(contact), link, look_up, changes, clears, operation: Operation::Create, related }
    }

    /// A contact that CRM.COM has as `C1`.
    fn linked(contact: Value, changes: &[&'static str], clears: &[&'static str]) -> Self {
        let link = Some(link_with(&["first_name", "udf_string_16"], Some("C1")));
        let (changes, clears) = (changes.to_vec(), clears.to_vec());
        Self { link, changes, clears, operation: Operation::Update, ..Self::new(contact) }
    }

    fn keys(mut self, crm_com: &CrmCom) -> Self {
        let projection = crm_com.project(&self.record, self.link.as_ref()).unwrap();
        self.look_up = crm_com.look_up_keys(&self.record, &projection);
        self
    }

    /// Plays `script`: each request, as text, and its answer.
    #[track_caller]
    fn play(&self, crm_com: &CrmCom, script: &[(&str, Answer)]) -> Step {
        let mut projection = crm_com.project(&self.record, self.link.as_ref()).unwrap();
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
            match crm_com.next(&delivery, &answers) {
                Step::Call(request) => assert_eq!(said(&request), *expected, "request {}", answers.len() + 1),
                step => panic!("not {expected}, but {step:?}"),
            }
            answers.push(answer.clone());
        }
        match crm_com.next(&delivery, &answers) {
            Step::Call(request) => panic!("the script ends before {}", said(&request)),
            step => step,
        }
    }

    #[track_caller]
    fn accepted(&self, crm_com: &CrmCom, script: &[(&str, Answer)]) -> (Operation, BTreeMap<String, String>) {
        match self.play(crm_com, script) {
            Step::Done(accepted) => (accepted.operation, accepted.remote_ids),
            step => panic!("accepted, not {step:?}"),
        }
    }

    #[track_caller]
    fn found(&self, crm_com: &CrmCom, script: &[(&str, Answer)]) -> BTreeMap<String, String> {
        match self.play(crm_com, script) {
            Step::Found(remote_ids) => remote_ids,
            step => panic!("found, not {step:?}"),
        }
    }

    #[track_caller]
    fn verdict(&self, crm_com: &CrmCom, script: &[(&str, Answer)]) -> Verdict {
        match self.play(crm_com, script) {
            Step::Judged(verdict) => verdict,
            step => panic!("judged, not {step:?}"),
        }
    }

    #[track_caller]
    fn failure(&self, crm_com: &CrmCom, script: &[(&str, Answer)]) -> Failure {
        match self.play(crm_com, script) {
            Step::Failed(failure) => failure,
            step => panic!("failed, not {step:?}"),
        }
    }
}

fn ids(more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = [(REMOTE_CONTACT, "C1")];
    own.iter().chain(more).map(|(role, id)| ((*role).to_owned(), (*id).to_owned())).collect()
}

fn ambiguous() -> Verdict {
    Verdict::new(OutcomeKind::Rejected, ReasonCode::AmbiguousMatch)
}

fn plain() -> CrmCom {
    connector(|_| ())
}

fn ilka() -> Value {
    contact(json!({ "emails": [{ "value": "ilka@example.com", "type": "work" }] }))
}

/// The create of [`ilka`].
const CREATE: &str = "POST /create {\"token\":\"T1\",\"type\":\"PERSON\",\"first_name\":\"Ilka\",\"last_name\":\"Sundstrom\",\
    \"udf_string_16\":\"00000000-0000-0000-0000-0000000001c3\",\
    \"email_set\":[{\"type\":\"BUSINESS\",\"email_address\":\"ilka@example.com\"}]}";
const LIST: &str = "GET /list?token=T1&email_address=ilka%40example.com&number_of_results=50&offset=0\
    &fields_set=id,udf_string_16,emails_set,type,first_name,last_name,company_name";
const STAMP: &str = "POST /update {\"token\":\"T1\",\"contact_information_identifier\":{\"id\":\"C1\"},\
    \"udf_string_16\":\"00000000-0000-0000-0000-0000000001c3 adopted\",\"fields_set\":\"id,udf_string_16\"}";
const SHOW: &str = "GET /show?token=T1&contact_information_identifier=id=C1&fields_set=id,type,udf_string_16";

fn show(sets: &str) -> String {
    format!("{SHOW},{sets}")
}

fn hit(id: &str, reference: Value) -> Value {
    json!({
        "id": id, "type": "PERSON", "first_name": "I.", "last_name": "Sundstrom", "udf_string_16": reference,
        "emails_set": [{ "id": "E1", "type": "Business", "state": "Active", "email": "Ilka@Example.com" }],
    })
}

#[test]
fn the_documented_conversation_comes_out_byte_for_byte() {
    let crm_com = connector_with(|crm| {
        crm.adopt = Adopt::Never;
        crm.crm_com.as_mut().unwrap().entry_by = CrmComEntryBy::Type;
    });
    let document = json!({
        "name": { "honorificPrefix": "Ms", "givenName": "Ilka", "familyName": "Sundstrom" }, "preferredLanguage": "sv",
        "consent": { "marketing": false }, "gender": "female", "birthDate": "1988-09-03",
        "addresses": [{
            "type": "work", "streetAddress": "Limassol Ave", "streetNumber": "14", "locality": "Nicosia",
            "postalCode": "2003", "country": "CY",
        }],
        "phoneNumbers": [{ "value": "+35799555012", "type": "mobile" }],
        "emails": [{ "value": "ilka.sundstrom@example.com", "type": "work" }],
    });
    let case = Case::new(document.clone());
    let case = Case {
        look_up: Some(LookUpKeys {
            values: [("email_address".to_owned(), "ilka.sundstrom@example.com".to_owned())].into(),
            planted: false,
        }),
        ..case
    };
    let list = "GET /list?token=T1&email_address=ilka.sundstrom%40example.com&number_of_results=50&offset=0\
                &fields_set=id,udf_string_16,emails_set";
    let create = r#"POST /create {"token":"T1","type":"PERSON","title":"Ms","first_name":"Ilka","last_name":"Sundstrom","preferred_language":"SWE","udf_string_16":"ct-000451","send_direct_marketing_material":false,"demographics":{"gender":"FEMALE","date_of_birth":{"day":3,"month":9,"year":1988}},"address_set":[{"type":"BUSINESS","street_name":"Limassol Ave","street_number":"14","town_city":"Nicosia","postal_code":"2003","country_identifier":{"two_character_code":"CY"}}],"phone_set":[{"type":"MOBILE","number":"99555012","country_identifier":{"two_character_code":"CY"}}],"email_set":[{"type":"BUSINESS","email_address":"ilka.sundstrom@example.com"}]}"#;
    // The example has a reference of another form than ours.
    let create = create.replace("ct-000451", KEY);
    let made = json!({
        "id": "7C0E5A5B9F3E4E0C8B7A11D2A90F4451", "type": "PERSON", "life_cycle_state": "MARKETING",
        "name": "Ilka Sundstrom", "title": "Ms", "first_name": "Ilka", "middle_name": null, "last_name": "Sundstrom",
        "company_name": null, "company_profile": null,
        "demographics": { "gender": "FEMALE", "date_of_birth": { "day": 3, "month": 9, "year": 1988 } },
    });
    let (operation, remote_ids) = case.accepted(&crm_com, &[(list, ok(json!([]))), (&create, ok(made))]);
    assert_eq!(
        (operation, remote_ids[REMOTE_CONTACT].as_str()),
        (Operation::Create, "7C0E5A5B9F3E4E0C8B7A11D2A90F4451")
    );

    let mut changed = document;
    changed["name"].as_object_mut().unwrap().remove("honorificPrefix");
    changed["phoneNumbers"][0]["value"] = json!("+35799555077");
    let home = json!({
        "type": "home", "streetAddress": "Pine St", "streetNumber": "2", "locality": "Larnaca", "country": "CY",
    });
    changed["addresses"].as_array_mut().unwrap().push(home);
    let changes = ["phone_set.MOBILE", "address_set.HOME"];
    let case = Case::linked(changed, &changes, &["title"]);
    let shown = json!({
        "id": "C1", "type": "PERSON", "udf_string_16": KEY, "addresses_set": [],
        "phones_set": [{
            "id": "P1", "type": "MOBILE", "number": "99555012", "area_code": "357", "full_number": "0035799555012",
            "state": "Active", "country": { "id": "181", "two_character_code": "CY" },
        }],
    });
    let update = r#"POST /update {"token":"T1","contact_information_identifier":{"id":"C1"},"title":null,"phone_set":[{"action":"UPDATE","phone_identifier":{"type":"MOBILE"},"number":"99555077","country_identifier":{"two_character_code":"CY"}}],"address_set":[{"action":"ADD","type":"HOME","street_name":"Pine St","street_number":"2","town_city":"Larnaca","country_identifier":{"two_character_code":"CY"}}],"fields_set":"id,title,phones_set,addresses_set"}"#;
    let show = show("addresses_set,phones_set");
    let script = [(show.as_str(), ok(shown)), (update, ok(json!({ "id": "C1", "title": null })))];
    assert_eq!(case.accepted(&crm_com, &script), (Operation::Update, ids(&[])));
}

#[test]
fn a_contact_that_is_ours_is_committed_before_anything_is_written_to_it() {
    let crm_com = plain();
    let case = Case::new(ilka()).keys(&crm_com);
    assert_eq!(case.found(&crm_com, &[(LIST, ok(json!([hit("C1", json!(KEY))])))]), ids(&[]));
    let adopted = json!([hit("C1", json!(format!("{KEY} adopted")))]);
    assert_eq!(case.found(&crm_com, &[(LIST, ok(adopted))]), ids(&[("adopted", "part")]));
    let two = json!([hit("C1", json!(KEY)), hit("C2", json!(KEY))]);
    assert_eq!(case.verdict(&crm_com, &[(LIST, ok(two))]), ambiguous());
}

#[test]
fn one_key_is_searched_for_after_the_other() {
    let crm_com = connector_with(|crm| crm.adopt = Adopt::Never);
    let document = contact(json!({
        "emails": [{ "value": "ilka@example.com" }], "phoneNumbers": [{ "value": "+35799555012", "type": "mobile" }],
        "identifiers": { "id_number": "7" },
    }));
    let case = Case::new(document).keys(&crm_com);
    let list = |asked: &str, shown: &str| {
        format!("GET /list?token=T1&{asked}&number_of_results=50&offset=0&fields_set=id,udf_string_16,{shown}")
    };
    let by_email = list("email_address=ilka%40example.com", "emails_set");
    let by_phone = list("phone_number=35799555012", "phones_set");
    let by_number = list("id_number=7", "demographics");
    let other = || ok(json!([hit("C9", json!("another"))]));
    let script = [
        (by_email.as_str(), other()),
        (by_phone.as_str(), ok(json!([]))),
        (by_number.as_str(), ok(json!([{ "id": "C1", "udf_string_16": KEY }]))),
    ];
    assert_eq!(case.found(&crm_com, &script), ids(&[]));
}

#[test]
fn pages_are_read_until_one_is_short_and_no_further_than_allowed() {
    let crm_com = connector(|settings| (settings.page_size, settings.search_pages_max) = (2, 2));
    let case = Case::new(ilka()).keys(&crm_com);
    let page = |offset: u32| {
        LIST.replace("number_of_results=50", "number_of_results=2").replace("offset=0", &format!("offset={offset}"))
    };
    let (first, second) = (page(0), page(2));
    let others = |count: usize| ok(Value::from(vec![hit("C9", json!("another")); count]));
    let script = [(first.as_str(), others(2)), (second.as_str(), others(1)), (CREATE, ok(json!({ "id": "C1" })))];
    assert_eq!(case.accepted(&crm_com, &script), (Operation::Create, ids(&[])));
    assert_eq!(case.verdict(&crm_com, &[(&first, others(2)), (&second, others(2))]), ambiguous());
}

#[test]
fn a_search_may_say_by_a_code_that_it_found_nothing() {
    let crm_com = plain();
    let case = Case::new(ilka()).keys(&crm_com);
    let created = || (CREATE, ok(json!({ "id": "C1" })));
    assert_eq!(case.accepted(&crm_com, &[(LIST, refused("NOT_FOUND")), created()]).0, Operation::Create);
    let strict = connector(|settings| settings.no_hits_codes = ["NOBODY".to_owned()].into());
    assert_eq!(case.failure(&strict, &[(LIST, refused("NOT_FOUND"))]).class, FailureClass::Rejected);
    assert_eq!(case.accepted(&strict, &[(LIST, refused("NOBODY")), created()]).0, Operation::Create);
    let ruled = connector(|settings| {
        settings.code_classes = BTreeMap::from([("NOT_FOUND".to_owned(), FailureClass::Transient)])
    });
    assert_eq!(case.failure(&ruled, &[(LIST, refused("NOT_FOUND"))]).class, FailureClass::Transient);
    let body = json!({ "status": { "code": "NOT_FOUND" }, "data": null });
    let failure = case.failure(&crm_com, &[(LIST, answer(404, body))]);
    assert_eq!(failure.class, FailureClass::Rejected, "another address may be meant, which proves nothing");
}

#[test]
fn a_release_without_pages_is_asked_for_all_at_once() {
    let old = connector(|settings| (settings.send_paging, settings.page_size) = (false, 1));
    let case = Case::new(ilka()).keys(&old);
    let list = LIST.replace("&number_of_results=50&offset=0", "");
    assert_eq!(case.found(&old, &[(&list, ok(json!([hit("C9", json!("another")), hit("C1", json!(KEY))])))]), ids(&[]));
}

#[test]
fn a_tenant_that_clears_what_is_absent_gets_whole_objects() {
    let document = contact(json!({ "gender": "female", "birthDate": "1988-09-03", "identifiers": { "ssn": "3" } }));
    let case = Case::linked(document, &["demographics.gender"], &[]);
    let update = |inside: &str| {
        format!(
            r#"POST /update {{"token":"T1","contact_information_identifier":{{"id":"C1"}},"demographics":{{{inside}}},"fields_set":"id,demographics"}}"#
        )
    };
    let done = || ok(json!({ "id": "C1" }));
    case.accepted(&plain(), &[(&update(r#""gender":"FEMALE""#), done())]);
    let whole = connector(|settings| settings.object_updates = crate::config::CrmComObjectUpdates::Whole);
    let all =
        update(r#""gender":"FEMALE","social_security_number":"3","date_of_birth":{"day":3,"month":9,"year":1988}"#);
    case.accepted(&whole, &[(&all, done())]);
}

#[test]
fn a_country_by_a_rule_is_named_in_one_way_after_the_other_too() {
    let mut crm = crate::crm::testing::crm_com_crm();
    crm.crm_com.as_mut().unwrap().unknown_reference_codes = ["NO_SUCH_COUNTRY".to_owned()].into();
    let crm_com = CrmCom::new(&crm, "contact-hub").unwrap();
    let path = "demographics.country_of_residence_identifier";
    let fields = BTreeMap::from([(path.to_owned(), crm_com.shaped(path, json!("cy")))]);
    let body = |by| {
        let named = sets::with_countries(&crm_com.settings, &fields, by);
        wire::nested(Members::default(), &named).body()
    };
    let ways = sets::ways(&crm_com.settings, fields.values());
    assert_eq!(ways, [CrmComCountryBy::TwoCharacterCode, CrmComCountryBy::AlternativeCode]);
    let expected = |member: &str, code: &str| {
        format!(r#"{{"demographics":{{"country_of_residence_identifier":{{"{member}":"{code}"}}}}}}"#)
    };
    assert_eq!(body(ways[0]), expected("two_character_code", "CY"));
    assert_eq!(body(ways[1]), expected("alternative_code", "CYP"));
    let document = contact(json!({ "addresses": [{ "type": "home", "streetAddress": "Pine St", "country": "CY" }] }));
    let create = |country: &str| {
        format!(
            r#"POST /create {{"token":"T1","type":"PERSON","first_name":"Ilka","last_name":"Sundstrom","udf_string_16":"{KEY}","address_set":[{{"type":"HOME","street_name":"Pine St","country_identifier":{{{country}}}}}]}}"#
        )
    };
    let (first, second) = (create(r#""two_character_code":"CY""#), create(r#""alternative_code":"CYP""#));
    let script = [(first.as_str(), refused("NO_SUCH_COUNTRY")), (second.as_str(), ok(json!({ "id": "C1" })))];
    assert_eq!(Case::new(document).accepted(&crm_com, &script).0, Operation::Create, "by the configured code");
}

#[test]
fn a_contact_of_nobody_is_stamped_read_back_and_committed() {
    let crm_com = plain();
    let case = Case::new(ilka()).keys(&crm_com);
    let nobodys = || (LIST, ok(json!([hit("C1", Value::Null)])));
    let stamped = |reference: &str| (SHOW, ok(json!({ "id": "C1", "type": "PERSON", "udf_string_16": reference })));
    let written = || (STAMP, ok(json!({ "id": "C1" })));
    let script = [nobodys(), written(), stamped(&format!("{KEY} adopted"))];
    assert_eq!(case.found(&crm_com, &script), ids(&[("adopted", "part")]));
    assert_eq!(case.verdict(&crm_com, &[nobodys(), written(), stamped("another")]), ambiguous());
    let failure = case.failure(&crm_com, &[nobodys(), (STAMP, lost())]);
    assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::Unknown));
    let failure = case.failure(&crm_com, &[nobodys(), (STAMP, refused("NOT_FOUND"))]);
    assert_eq!(failure.class, FailureClass::Transient, "it was there a moment ago");
}

#[test]
fn only_what_is_nobodys_and_likely_the_contact_is_adopted() {
    let crm_com = plain();
    let case = Case::new(ilka()).keys(&crm_com);
    let with = |name: &str, value: Value| {
        let mut hit = hit("C1", Value::Null);
        hit[name] = value;
        hit
    };
    for other in [
        with("udf_string_16", json!("anything")),
        with("type", json!("COMPANY")),
        with("first_name", json!("Bernd")),
        with("last_name", Value::Null),
        with("emails_set", json!([])),
        with("emails_set", json!([{ "type": "BUSINESS", "state": "Inactive", "email": "ilka@example.com" }])),
        with("emails_set", json!([{ "type": "BUSINESS", "email": "vera@example.com" }])),
    ] {
        let script = [(LIST, ok(json!([other]))), (CREATE, ok(json!({ "id": "C1" })))];
        assert_eq!(case.accepted(&crm_com, &script).0, Operation::Create, "{other}");
    }
    let two = json!([hit("C1", Value::Null), hit("C2", Value::Null)]);
    assert_eq!(case.verdict(&crm_com, &[(LIST, ok(two))]), ambiguous());
}

#[test]
fn a_contact_with_nothing_to_search_by_stops_once_a_create_may_have_left() {
    let crm_com = plain();
    let mut case = Case::new(contact(json!({}))).keys(&crm_com);
    let create = format!(
        r#"POST /create {{"token":"T1","type":"PERSON","first_name":"Ilka","last_name":"Sundstrom","udf_string_16":"{KEY}"}}"#
    );
    assert_eq!(case.accepted(&crm_com, &[(&create, ok(json!({ "id": "C1" })))]).0, Operation::Create);
    let mut link = Link::new(CONTACT);
    link.intent = Some(Intent { keys: BTreeMap::new() });
    case.link = Some(link);
    assert_eq!(case.verdict(&crm_com, &[]), ambiguous());
}

#[test]
fn what_is_to_be_erased_and_was_never_seen_is_searched_for_by_what_was_committed() {
    let crm_com = plain();
    let mut case = Case::new(Value::Null);
    case.record.status = Status::Erased;
    let mut link = Link::new(CONTACT);
    link.intent = Some(Intent { keys: [("email_address".to_owned(), "ilka@example.com".to_owned())].into() });
    case.look_up = Some(LookUpKeys { values: link.intent.clone().unwrap().keys, planted: false });
    case.link = Some(link);
    assert_eq!(case.found(&crm_com, &[(LIST, ok(json!([hit("C1", json!(KEY))])))]), ids(&[]));
    let second = case.verdict(&crm_com, &[(LIST, ok(json!([hit("C1", Value::Null)])))]);
    assert_eq!(
        second,
        Verdict::new(OutcomeKind::Unchanged, ReasonCode::UnknownContact),
        "nobody is adopted to be erased"
    );
    case.look_up = Some(LookUpKeys::default());
    assert_eq!(case.verdict(&crm_com, &[]), ambiguous());
}

#[test]
fn sets_are_read_and_only_what_differs_is_sent() {
    let crm_com = plain();
    let document = contact(json!({
        "emails": [{ "value": "ilka@example.com", "type": "work" }, { "value": "new@example.com" }],
        "phoneNumbers": [{ "value": "+35799555012", "type": "mobile" }],
    }));
    let changes = ["email_set.BUSINESS", "email_set.PERSONAL", "phone_set.MOBILE"];
    let case = Case::linked(document, &changes, &["email_set.CUSTOM1", "email_set.CUSTOM2", "phone_set.FAX"]);
    let show = show("phones_set,emails_set");
    let shown = |mobile: &str| {
        ok(json!({
            "id": "C1", "type": "PERSON", "udf_string_16": KEY,
            "phones_set": [{ "id": "P1", "type": "Mobile", "number": "99555012", "full_number": mobile }],
            "emails_set": [
                { "id": 1, "type": "Business", "state": "Active", "email": "ilka@example.com" },
                { "id": 2, "type": "PERSONAL", "state": "Inactive", "email": "old@example.com" },
                { "id": 3, "type": "CUSTOM1", "state": "Active", "email": "more@example.com" },
            ],
        }))
    };
    let update = r#"POST /update {"token":"T1","contact_information_identifier":{"id":"C1"},"email_set":[{"action":"ADD","type":"PERSONAL","email_address":"new@example.com"},{"action":"REMOVE","email_identifier":{"id":"3"}}],"fields_set":"id,emails_set"}"#;
    for mobile in ["0035799555012", "35799555012", "+35799555012"] {
        let script = [(show.as_str(), shown(mobile)), (update, ok(json!({ "id": "C1" })))];
        assert_eq!(case.accepted(&crm_com, &script).0, Operation::Update, "{mobile}");
    }
    let same = json!({
        "id": "C1", "type": "PERSON", "udf_string_16": KEY,
        "phones_set": [{ "id": "P1", "type": "MOBILE", "number": "99555012", "area_code": "357" }],
        "emails_set": [{ "type": "BUSINESS", "email": "ilka@example.com" }, { "type": "PERSONAL", "email": "new@example.com" }],
    });
    assert_eq!(case.accepted(&crm_com, &[(&show, ok(same))]), (Operation::Update, ids(&[])), "it is all there");
}

#[test]
fn an_address_that_is_changed_loses_what_it_no_longer_has() {
    let crm_com = plain();
    let document = contact(json!({ "addresses": [{ "type": "home", "streetAddress": "Pine St", "country": "CY" }] }));
    let case = Case::linked(document, &["address_set.HOME"], &[]);
    let show = show("addresses_set");
    let shown = |more: Value| {
        let mut address =
            json!({ "id": "A1", "type": "Home", "street_name": "Pine St", "care_of": "theirs", "area": "a" });
        address.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ok(json!({ "id": "C1", "type": "PERSON", "addresses_set": [address] }))
    };
    let update = r#"POST /update {"token":"T1","contact_information_identifier":{"id":"C1"},"address_set":[{"action":"UPDATE","address_identifier":{"id":"A1"},"street_name":"Pine St","street_number":null,"floor":null,"country_identifier":{"two_character_code":"CY"}}],"fields_set":"id,addresses_set"}"#;
    let more = json!({ "street_number": "2", "floor": 3, "country": { "two_character_code": "CY" } });
    assert_eq!(case.accepted(&crm_com, &[(&show, shown(more)), (update, ok(json!({})))]).0, Operation::Update);
    for country in [
        json!({ "two_character_code": "CY" }),
        json!({ "two_character_code": null, "alternative_code": "CYP" }),
        json!({ "three_character_code": "cyp" }),
    ] {
        let script = [(show.as_str(), shown(json!({ "country": country })))];
        assert_eq!(case.accepted(&crm_com, &script).0, Operation::Update, "{country}");
    }
}

#[test]
fn a_country_that_is_not_known_is_named_in_another_way() {
    let named = connector(|settings| {
        settings.countries.insert("CY".to_owned(), "id:181".to_owned());
    });
    let document = contact(json!({ "addresses": [{ "type": "home", "streetAddress": "Pine St", "country": "CY" }] }));
    let case = Case::new(document);
    let create = |country: &str| {
        format!(
            r#"POST /create {{"token":"T1","type":"PERSON","first_name":"Ilka","last_name":"Sundstrom","udf_string_16":"{KEY}","address_set":[{{"type":"HOME","street_name":"Pine St","country_identifier":{{{country}}}}}]}}"#
        )
    };
    let ways = [r#""two_character_code":"CY""#, r#""alternative_code":"CYP""#, r#""id":"181""#].map(create);
    let unknown = || refused("REFERENCE_NOT_FOUND");
    let made = || ok(json!({ "id": "C1" }));
    let script = [(ways[0].as_str(), unknown()), (&ways[1], unknown()), (&ways[2], made())];
    assert_eq!(case.accepted(&named, &script).0, Operation::Create);
    let failure = case.failure(&named, &[(&ways[0], unknown()), (&ways[1], unknown()), (&ways[2], unknown())]);
    assert_eq!(
        (failure.class, failure.reason.crm_code.as_deref()),
        (FailureClass::Rejected, Some("REFERENCE_NOT_FOUND"))
    );
    let script = [(ways[0].as_str(), unknown()), (&ways[1], made())];
    assert_eq!(case.accepted(&plain(), &script).0, Operation::Create, "what no table has is not tried");
    let only = connector(|settings| settings.country_by = vec![CrmComCountryBy::ThreeCharacterCode]);
    let three = create(r#""three_character_code":"CYP""#);
    assert_eq!(case.failure(&only, &[(&three, unknown())]).class, FailureClass::Rejected);
    let without = Case::new(ilka());
    assert_eq!(
        without.failure(&plain(), &[(CREATE, unknown())]).class,
        FailureClass::Rejected,
        "no country is at fault"
    );
}

#[test]
fn a_person_does_not_become_a_company() {
    let crm_com = plain();
    let case = Case::linked(company(json!({})), &["type", "company_name"], &["first_name", "demographics.gender"]);
    let conflict = Verdict::field(OutcomeKind::Rejected, ReasonCode::Conflict, "/kind");
    assert_eq!(case.verdict(&crm_com, &[(SHOW, ok(json!({ "id": "C1", "type": "PERSON" })))]), conflict);
    let update = r#"POST /update {"token":"T1","contact_information_identifier":{"id":"C1"},"company_name":"Acme","fields_set":"id,company_name"}"#;
    let script = [(SHOW, ok(json!({ "id": "C1", "type": "Company" }))), (update, ok(json!({ "id": "C1" })))];
    assert_eq!(case.accepted(&crm_com, &script).0, Operation::Update, "what only persons have is not cleared there");
}

#[test]
fn a_linked_contact_that_somebody_else_claims_is_left_alone() {
    let case = Case::linked(ilka(), &["email_set.BUSINESS"], &[]);
    let shown = json!({ "id": "C1", "type": "PERSON", "udf_string_16": "another", "emails_set": [] });
    assert_eq!(case.verdict(&plain(), &[(&show("emails_set"), ok(shown))]), ambiguous());
}

#[test]
fn an_adopted_contact_keeps_what_nobody_knows_to_be_ours() {
    let crm_com = plain();
    let mut case = Case::linked(contact(json!({})), &["first_name", "last_name"], &["title", "notes"]);
    let link = case.link.as_mut().unwrap();
    link.remote_ids.insert("adopted".to_owned(), "part".to_owned());
    link.sent.insert("title".into(), Sent::Void);
    link.sent.insert("notes".into(), Sent::Hash(1));
    let update = format!(
        r#"POST /update {{"token":"T1","contact_information_identifier":{{"id":"C1"}},"first_name":"Ilka","last_name":"Sundstrom","notes":null,"udf_string_16":"{KEY}","fields_set":"id,first_name,last_name,notes,udf_string_16"}}"#
    );
    let done = case.accepted(&crm_com, &[(&update, ok(json!({ "id": "C1" })))]);
    assert_eq!(done, (Operation::Update, ids(&[("adopted", "all")])));
}

#[test]
fn an_erased_contact_keeps_nothing_but_names_that_say_nothing() {
    let crm_com = connector_with(|crm| crm.on_erase = OnErase::Blank);
    let mut case =
        Case::linked(Value::Null, &["first_name", "last_name", "company_name", "notes", "email_set.BUSINESS"], &[]);
    case.record.status = Status::Erased;
    case.changes.extend(["demographics.gender", "company_profile.vat_registration_number"]);
    let shown = |of_type: &str| {
        ok(json!({
            "id": "C1", "type": of_type, "udf_string_16": KEY,
            "emails_set": [{ "id": "E1", "type": "BUSINESS", "email": "ilka@example.com" }],
        }))
    };
    let show = show("emails_set");
    let of_person = r#"POST /update {"token":"T1","contact_information_identifier":{"id":"C1"},"first_name":"Erased","last_name":"Erased","notes":null,"demographics":{"gender":null},"email_set":[{"action":"REMOVE","email_identifier":{"id":"E1"}}],"fields_set":"id,first_name,last_name,notes,demographics,emails_set"}"#;
    let script = [(show.as_str(), shown("PERSON")), (of_person, ok(json!({ "id": "C1" })))];
    assert_eq!(case.accepted(&crm_com, &script).0, Operation::Blank);
    let of_company = r#"POST /update {"token":"T1","contact_information_identifier":{"id":"C1"},"company_name":"Erased","notes":null,"company_profile":{"vat_registration_number":null},"email_set":[{"action":"REMOVE","email_identifier":{"id":"E1"}}],"fields_set":"id,company_name,notes,company_profile,emails_set"}"#;
    let script = [(show.as_str(), shown("COMPANY")), (of_company, ok(json!({ "id": "C1" })))];
    assert_eq!(case.accepted(&crm_com, &script).0, Operation::Blank);
}

#[test]
fn answers_are_not_asked_for_by_name_where_a_release_cannot() {
    let old = connector(|settings| settings.send_fields_set = false);
    let case = Case::new(ilka()).keys(&old);
    let list = LIST.split("&fields_set").next().unwrap();
    assert_eq!(case.found(&old, &[(list, ok(json!([hit("C1", json!(KEY))])))]), ids(&[]));
    let case = Case::linked(contact(json!({})), &["first_name"], &["notes"]);
    let update =
        r#"POST /update {"token":"T1","contact_information_identifier":{"id":"C1"},"first_name":"Ilka","notes":null}"#;
    assert_eq!(case.accepted(&old, &[(update, ok(json!({})))]).0, Operation::Update);
}

#[test]
fn each_code_has_its_class_whatever_the_status() {
    use FailureClass::{Auth, Conflict, Connection, Gone, Rejected, Throttled, Transient};
    let crm_com = plain();
    let (creating, updating) = (Case::new(ilka()), Case::linked(contact(json!({})), &["first_name"], &[]));
    let update = r#"POST /update {"token":"T1","contact_information_identifier":{"id":"C1"},"first_name":"Ilka","fields_set":"id,first_name"}"#;
    for (code, on_create, on_update, effect) in [
        ("INVALID_TOKEN", Auth, Auth, Effect::None),
        ("TOKEN_EXPIRED", Auth, Auth, Effect::None),
        ("AUTHENTICATION_FAILED", Auth, Auth, Effect::None),
        ("ACCESS_DENIED", Connection, Connection, Effect::None),
        ("MANDATORY_FIELD_MISSING", Rejected, Rejected, Effect::None),
        ("INVALID_VALUE", Rejected, Rejected, Effect::None),
        ("INVALID_FORMAT", Rejected, Rejected, Effect::None),
        ("REFERENCE_NOT_FOUND", Rejected, Rejected, Effect::None),
        ("NOT_FOUND", Rejected, Gone, Effect::None),
        ("DUPLICATE", Conflict, Conflict, Effect::None),
        ("TYPE_ALREADY_EXISTS", Conflict, Conflict, Effect::None),
        ("SYSTEM_ERROR", Transient, Transient, Effect::Unknown),
    ] {
        for status in [200, 400, 404] {
            let body = json!({ "status": { "code": code, "message": "Ilka", "description": "" }, "data": null });
            for (failure, class) in [
                (creating.failure(&crm_com, &[(CREATE, answer(status, &body))]), on_create),
                (updating.failure(&crm_com, &[(update, answer(status, &body))]), on_update),
            ] {
                assert_eq!((failure.class, failure.effect), (class, effect), "{status} {code}");
                assert_eq!(
                    (failure.reason.http_status, failure.reason.crm_code.as_deref()),
                    (Some(status), Some(code))
                );
                assert!(!format!("{failure:?}").contains("Ilka"));
            }
        }
    }
    for (answered, class, effect) in [
        (refused("SOMETHING_ELSE"), Rejected, Effect::None),
        (answer(401, json!({ "status": { "code": "SOMETHING_ELSE" } })), Auth, Effect::None),
        (answer(401, ""), Auth, Effect::None),
        (answer(403, "<html>"), Connection, Effect::None),
        (answer(404, "<html>"), Connection, Effect::None),
        (answer(429, ""), Throttled, Effect::None),
        (answer(500, "<html>"), Transient, Effect::Unknown),
        (answer(503, json!({ "status": { "code": "OK" }, "data": {} })), Transient, Effect::Unknown),
        (answer(302, ""), Connection, Effect::None),
        (answer(200, "<html>"), Transient, Effect::Unknown),
        (answer(200, ""), Transient, Effect::Unknown),
        (answer(200, json!({ "id": "C1" })), Transient, Effect::Unknown),
        (ok(json!({ "type": "PERSON" })), Transient, Effect::Unknown),
        (ok(json!({ "id": "no id" })), Transient, Effect::Unknown),
        (lost(), Transient, Effect::Unknown),
        (Err(TransportError::NotSent { reason: String::new() }), Transient, Effect::None),
    ] {
        let told = format!("{answered:?}");
        let failure = creating.failure(&crm_com, &[(CREATE, answered)]);
        assert_eq!((failure.class, failure.effect), (class, effect), "{told}");
    }
    let searching = Case::new(ilka()).keys(&crm_com);
    for unreadable in [answer(200, "<html>"), ok(json!({})), ok(json!([{}]))] {
        let failure = searching.failure(&crm_com, &[(LIST, unreadable)]);
        assert_eq!((failure.class, failure.effect), (Transient, Effect::None), "a search changes nothing");
    }
}

#[test]
fn a_configured_class_replaces_the_built_in_one() {
    let crm_com = connector(|settings| {
        settings.code_classes.insert("DUPLICATE".to_owned(), FailureClass::Rejected);
        settings.code_classes.insert("LICENCE_EXPIRED".to_owned(), FailureClass::Connection);
        settings.message_classes.insert("is WRONG".to_owned(), FailureClass::Transient);
        settings.status_classes.insert("418".to_owned(), FailureClass::Throttled);
    });
    let case = Case::new(ilka());
    let class = |answer| case.failure(&crm_com, &[(CREATE, answer)]).class;
    assert_eq!(class(refused("DUPLICATE")), FailureClass::Rejected);
    assert_eq!(class(refused("LICENCE_EXPIRED")), FailureClass::Connection);
    assert_eq!(class(refused("UNHEARD_OF")), FailureClass::Transient);
    assert_eq!(class(answer(418, "")), FailureClass::Throttled);
}

#[test]
fn a_wait_that_is_asked_for_is_kept() {
    let mut throttled = answer(429, "");
    throttled.as_mut().unwrap().headers.insert(http::header::RETRY_AFTER, HeaderValue::from_static("17"));
    let failure = Case::new(ilka()).failure(&plain(), &[(CREATE, throttled)]);
    assert_eq!(failure.retry_after, Some(RetryAfter::Delay(std::time::Duration::from_secs(17))));
}

#[test]
fn no_debug_output_shows_a_value_of_a_contact() {
    let crm_com = plain();
    let document = json!({
        "name": { "givenName": "canary", "familyName": "canary" }, "notes": "canary",
        "emails": [{ "value": "canary@example.com" }], "identifiers": { "ssn": "canary" },
    });
    let case = Case::new(document).keys(&crm_com);
    let projection = crm_com.project(&case.record, None).unwrap();
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
    let searching = crm_com.next(&delivery, &[]);
    let creating = crm_com.next(&delivery, &[ok(json!([]))]);
    assert!(matches!(creating, Step::Call(_)));
    let rejected = crm_com.next(&delivery, &[ok(json!([])), refused("canary")]);
    let read = wire::Contact::of(json!({ "id": "canary", "first_name": "canary" }));
    for debug in [
        format!("{crm_com:?}"),
        format!("{projection:?}"),
        format!("{delivery:?}"),
        format!("{searching:?}"),
        format!("{creating:?}"),
        format!("{rejected:?}"),
        format!("{read:?}"),
        format!("{:?}", wire::envelope(br#"{"status":{"code":"OK"},"data":{"id":"canary"}}"#)),
    ] {
        assert!(!debug.contains("canary"), "{debug}");
    }
}
