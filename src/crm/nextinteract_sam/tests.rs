//! What the connector sends, byte for byte, what it makes of each answer, and where each attribute goes.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::{login::UserLogin, *};
use crate::{
    config::{
        AppCode, BirthDateForm, LoginForm, OnDelete, OnErase, OrganizationKind, PhoneForm, SamClear, StreetNumber,
    },
    contact::{ContactId, Document},
    crm::{
        Loss, Presence,
        link::Sent,
        reference::References,
        session::login::{Login, LoginFailure, Token},
        testing::sam_crm,
    },
    event::OutcomeKind,
    privacy::Secret,
};

const CONTACT: ContactId = ContactId(uuid::Uuid::from_u128(451));

fn crm() -> CrmSettings {
    sam_crm("/none/email".into(), "/none/password".into())
}

fn connector_with(change: impl FnOnce(&mut CrmSettings)) -> NextinteractSam {
    let mut settings = crm();
    change(&mut settings);
    NextinteractSam::new(&settings, "contact-hub").unwrap()
}

fn sam_with(change: impl FnOnce(&mut NextinteractSamSettings)) -> NextinteractSam {
    connector_with(|crm| change(crm.nextinteract_sam.as_mut().unwrap()))
}

fn record(contact: Value) -> ContactRecord {
    ContactRecord {
        contact_id: CONTACT,
        version: 1,
        status: Status::Live,
        merged_into: None,
        contact: Some(Document::parse(contact).unwrap().0),
        provenance: BTreeMap::new(),
        members: Vec::new(),
        event: None,
        received_at: jiff::Timestamp::from_millisecond(1_760_000_000_000).unwrap(),
        epoch: 1,
        format: 1,
    }
}

fn ilka() -> Value {
    json!({
        "name": { "givenName": "Ilka", "familyName": "Sundstrom" },
        "emails": [{ "value": "ilka.sundstrom@example.com" }],
        "phoneNumbers": [{ "value": "+61 400 555 012", "type": "mobile" }],
        "addresses": [{ "type": "work", "locality": "Glebe", "postalCode": "2037", "country": "AU" }],
    })
}

fn delivery<'a>(record: &'a ContactRecord, projection: &'a Projection, references: &'a References) -> Delivery<'a> {
    Delivery {
        record,
        link: None,
        projection,
        changes: &[],
        clears: &[],
        operation: Operation::Update,
        look_up: None,
        references,
        tries: 0,
    }
}

/// What comes next after `answers`, for a contact that failed `tries` times before.
fn next(connector: &NextinteractSam, record: &ContactRecord, tries: u32, answers: &[Answer]) -> Step {
    let (projection, references) = (connector.project(record, None).unwrap(), References::default());
    connector.next(&Delivery { tries, ..delivery(record, &projection, &references) }, answers)
}

fn row(connector: &NextinteractSam, contact: Value) -> Map {
    let Step::Call(request) = next(connector, &record(contact), 0, &[]) else { panic!("a call comes first") };
    let [row]: [Map; 1] = serde_json::from_slice(&request.body).unwrap();
    row
}

type Map = serde_json::Map<String, Value>;

fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    Ok(Response { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body: body.into() })
}

fn rows(rows: Value) -> Answer {
    answer(200, rows.to_string())
}

fn affected(count: u32) -> Answer {
    rows(json!([{ "recordId": CONTACT.key(), "rowsAffected": count }]))
}

#[test]
fn a_write_is_an_array_of_whole_rows_in_the_order_of_the_sample() {
    let Step::Call(request) = next(&sam_with(|_| ()), &record(ilka()), 0, &[]) else { panic!("a call comes first") };
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/rest/company/contact/upsert"));
    assert_eq!(request.kind, RequestKind::Set);
    let headers: Vec<_> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(headers, [("content-type", "application/json"), ("accept", "application/json")]);
    let expected = concat!(
        r#"[{"contactId":null,"countryCode":"AU","otherCountryCode":null,"#,
        r#""externalId":"00000000-0000-0000-0000-0000000001c3","contactType":null,"title":null,"firstname":"Ilka","#,
        r#""lastname":"Sundstrom","mobile":"+61400555012","phone":null,"otherPhone":null,"department":null,"#,
        r#""contactProfession":null,"contactSpecialty":null,"contactCategory":null,"#,
        r#""email1":"ilka.sundstrom@example.com","email2":null,"company":null,"workAddress1":null,"#,
        r#""workAddress2":null,"workAddress3":null,"city":"Glebe","state":null,"postCode":"2037","ownedBy":null,"#,
        r#""notes":null,"facebookId":null,"dateOfBirth":null,"webPage":null,"otherAddress1":null,"#,
        r#""otherAddress2":null,"otherAddress3":null,"otherCity":null,"otherState":null,"otherPostcode":null,"#,
        r#""faxNumber":null,"twitterId":null,"contactCreated":null,"contactCreatedBy":null,"#,
        r#""contactModified":1760000000000,"contactModifiedBy":null}]"#
    );
    assert_eq!(request.body, expected);
}

#[test]
fn rows_are_joined_as_they_are_and_named_by_our_reference() {
    let connector = sam_with(|_| ());
    let batching = connector.batching().unwrap();
    let request = |id: u128| {
        let record = ContactRecord { contact_id: ContactId(uuid::Uuid::from_u128(id)), ..record(ilka()) };
        let Step::Call(request) = next(&connector, &record, 0, &[]) else { panic!("a call comes first") };
        request
    };
    let (first, second) = (request(1), request(2));
    assert_eq!(batching.row_key(&first), Some(ContactId(uuid::Uuid::from_u128(1)).key()));
    let joined = batching.join(&[&first, &second]);
    let inner = |request: &Request| String::from_utf8(request.body[1..request.body.len() - 1].to_vec()).unwrap();
    assert_eq!(joined.body, format!("[{},{}]", inner(&first), inner(&second)));
    assert_eq!((&joined.path, &joined.headers, joined.kind), (&first.path, &first.headers, first.kind));
    assert_eq!(batching.join(&[&first]), first);
    assert_eq!(
        batching.limits(),
        BatchLimits { rows_max: 100, bytes_max: 1 << 20, age_max: Duration::from_millis(200) }
    );
}

#[test]
fn each_row_gets_what_the_answer_says_of_it_wherever_that_stands() {
    let batching = sam_with(|_| ()).batching().unwrap();
    let whole = rows(json!([
        { "recordId": "c", "rowsAffected": 0 },
        { "recordId": "stranger", "rowsAffected": 1 },
        { "recordId": "a", "rowsAffected": 2 },
    ]));
    let Split::Rows(answers) = batching.split(&whole, &["a", "b", "c"]) else { panic!("a success is for each") };
    let bodies: Vec<Value> =
        answers.iter().map(|answer| serde_json::from_slice(&answer.as_ref().unwrap().body).unwrap()).collect();
    let expected =
        [json!([{ "recordId": "a", "rowsAffected": 2 }]), json!([]), json!([{ "recordId": "c", "rowsAffected": 0 }])];
    assert_eq!(bodies, expected);
}

#[test]
fn a_call_is_halved_only_where_a_row_may_be_the_cause() {
    let batching = sam_with(|_| ()).batching().unwrap();
    let halved = |answer: &Answer| matches!(batching.split(answer, &["a", "b"]), Split::Halve);
    for about_a_row in [
        error(400, "WSInvalidParameterException", 1002.0),
        error(400, "WSEmailAlreadyExistsException", 1010.0),
        answer(400, ""),
        answer(413, ""),
    ] {
        assert!(halved(&about_a_row), "{about_a_row:?}");
    }
    for about_all in [
        error(401, "WSInvalidAuthTokenException", 1006.0),
        error(500, "WSCompanyServiceException", 2020.0),
        answer(429, ""),
        answer(503, ""),
        answer(404, ""),
        answer(200, "not JSON"),
        Err(TransportError::Unanswered { reason: String::new() }),
        Err(TransportError::NotSent { reason: String::new() }),
    ] {
        assert!(!halved(&about_all), "{about_all:?}");
    }
}

#[test]
fn a_row_that_was_stored_is_delivered_under_our_reference() {
    for count in [1, 2] {
        let Step::Done(accepted) = next(&sam_with(|_| ()), &record(ilka()), 0, &[affected(count)]) else {
            panic!("accepted")
        };
        assert_eq!(accepted.operation, Operation::Update);
        assert_eq!(accepted.remote_ids, BTreeMap::from([(REMOTE_CONTACT.to_owned(), CONTACT.key())]));
    }
}

#[test]
fn a_row_that_was_not_stored_goes_once_more_by_itself_and_is_then_rejected() {
    let (connector, record) = (sam_with(|_| ()), record(ilka()));
    assert!(matches!(next(&connector, &record, 0, &[affected(0)]), Step::CallAlone(_)));
    let Step::Failed(failure) = next(&connector, &record, 0, &[affected(0), affected(0)]) else { panic!("rejected") };
    assert_eq!((failure.class, failure.effect), (FailureClass::Rejected, Effect::None));
    assert!(matches!(next(&connector, &record, 0, &[affected(0), affected(1)]), Step::Done(_)));
    let never = sam_with(|sam| sam.unstored_retries_max = 0);
    assert!(matches!(next(&never, &record, 0, &[affected(0)]), Step::Failed(_)));
}

#[test]
fn a_row_that_is_not_mentioned_may_be_there() {
    let twice =
        json!([{ "recordId": CONTACT.key(), "rowsAffected": 1 }, { "recordId": CONTACT.key(), "rowsAffected": 0 }]);
    for unclear in [
        rows(json!([])),
        rows(json!([{ "recordId": "other", "rowsAffected": 1 }])),
        rows(json!([{ "recordId": CONTACT.key() }])),
        rows(twice),
        answer(200, "OK"),
        answer(204, ""),
        Err(TransportError::UnusableBody { status: StatusCode::OK, reason: String::new() }),
    ] {
        let Step::Failed(failure) = next(&sam_with(|_| ()), &record(ilka()), 0, &[unclear]) else { panic!("failed") };
        assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::Unknown));
    }
}

fn error(status: u16, name: &str, code: f64) -> Answer {
    answer(status, json!({ "errorName": name, "errorCode": code, "message": "about sundstrom" }).to_string())
}

fn failed(connector: &NextinteractSam, answer: Answer) -> Failure {
    match next(connector, &record(ilka()), 0, &[answer]) {
        Step::Failed(failure) => failure,
        step => panic!("failed, not {step:?}"),
    }
}

#[test]
fn each_error_that_a_write_meets_has_its_class() {
    use FailureClass::{Auth, Conflict, Connection, Gone, Rejected, Throttled, Transient};
    let connector = sam_with(|_| ());
    let table = [
        ("WSInvalidAuthTokenException", 401, 1006.0, Auth),
        ("WSInsufficientPermissionsException", 401, 1003.0, Connection),
        ("WSAccountLockedException", 401, 1004.0, Connection),
        ("WSAuthenticationFailedException", 401, 1005.0, Connection),
        ("WSNoUsernameOrPasswordException", 400, 1001.0, Connection),
        ("WSInvalidParameterException", 400, 1002.0, Rejected),
        ("WSUserServiceUnavailableException", 500, 2002.0, Transient),
        ("WSCompanyServiceUnavailableException", 500, 2021.0, Transient),
        ("WSCompanyServiceException", 500, 2020.0, Transient),
        ("WSUserServiceException", 500, 2001.0, Transient),
        ("WSCacheServiceException", 500, 2027.0, Transient),
        ("WSInternalException", 500, 2000.0, Transient),
        ("WSEmailAlreadyExistsException", 400, 1010.0, Conflict),
        ("WSUserNotFoundException", 400, 1009.0, Gone),
    ];
    for (name, status, code, class) in table {
        let effect = if status == 500 { Effect::Unknown } else { Effect::None };
        // By its code, by its code as a text, and by its name wherever that stands.
        let number = code as u32;
        for answer in [
            error(status, name, code),
            answer(status, format!(r#"{{"errorCode":{number}}}"#)),
            answer(status, format!(r#"{{"errorCode":"{code:.1}"}}"#)),
            answer(status, format!("<html>{name}: no</html>")),
            answer(status, format!(r#"{{"error":{{"type":"com.{name}"}}}}"#)),
        ] {
            let failure = failed(&connector, answer);
            assert_eq!((failure.class, failure.effect), (class, effect), "{name}");
            assert_eq!(failure.reason.crm_code.as_deref(), Some(name));
            assert_eq!(failure.reason.http_status, Some(status));
        }
    }
    let unavailable = failed(&connector, answer(503, "WSCacheServiceUnavailableException"));
    assert_eq!(unavailable.class, Transient);
    assert_eq!(unavailable.reason.crm_code.as_deref(), Some("WSCacheServiceUnavailableException"));
    // Without a code the status decides.
    for (status, class) in [
        (400, Rejected),
        (401, Auth),
        (403, Connection),
        (404, Connection),
        (429, Throttled),
        (500, Transient),
        (502, Transient),
        (503, Transient),
        (504, Transient),
    ] {
        let failure = failed(&connector, answer(status, ""));
        assert_eq!((failure.class, failure.reason.crm_code), (class, None), "{status}");
    }
    let lost = failed(&connector, Err(TransportError::Unanswered { reason: String::new() }));
    assert_eq!((lost.class, lost.effect), (Transient, Effect::Unknown));
}

#[test]
fn nothing_of_a_message_becomes_a_code() {
    let connector = sam_with(|_| ());
    for body in [
        r#"{"errorName":"WSSundstromException","errorCode":7,"message":"sundstrom"}"#,
        r#"{"errorName":"Sundstrom","errorCode":"sundstrom"}"#,
        r#"{"errorCode":1e300}"#,
        r#"{"errorCode":-1006}"#,
    ] {
        assert_eq!(failed(&connector, answer(400, body)).reason.crm_code, None, "{body}");
    }
}

#[test]
fn codes_and_statuses_can_be_given_other_classes() {
    let connector = sam_with(|sam| {
        sam.code_classes =
            [("2020".to_owned(), FailureClass::Rejected), ("3001".to_owned(), FailureClass::Gone)].into();
        sam.status_classes = [("500".to_owned(), FailureClass::Conflict)].into();
        sam.error_code_key = "code".to_owned();
    });
    let coded = |code: u32| answer(500, format!(r#"{{"code":{code}}}"#));
    assert_eq!(failed(&connector, coded(2020)).class, FailureClass::Rejected);
    assert_eq!(failed(&connector, coded(3001)).class, FailureClass::Gone);
    assert_eq!(failed(&connector, coded(2000)).class, FailureClass::Transient);
    assert_eq!(failed(&connector, answer(500, "")).class, FailureClass::Conflict);
}

#[test]
fn an_error_of_the_company_service_passes_until_it_is_the_contacts_own() {
    let (connector, record) = (sam_with(|_| ()), record(ilka()));
    let down = || error(500, "WSCompanyServiceException", 2020.0);
    for tries in [0, 1] {
        let Step::Failed(failure) = next(&connector, &record, tries, &[down()]) else { panic!("failed") };
        assert_eq!(failure.class, FailureClass::Transient);
    }
    assert!(matches!(next(&connector, &record, 2, &[down()]), Step::CallAlone(_)), "alone it may do");
    assert!(matches!(next(&connector, &record, 2, &[down(), affected(1)]), Step::Done(_)));
    let Step::Failed(failure) = next(&connector, &record, 2, &[down(), down()]) else { panic!("failed") };
    assert_eq!(failure.class, FailureClass::Rejected);
    assert_eq!(failure.reason.crm_code.as_deref(), Some("WSCompanyServiceException"));
    let Step::Failed(failure) = next(&connector, &record, 9, &[error(500, "WSInternalException", 2000.0)]) else {
        panic!("failed")
    };
    assert_eq!(failure.class, FailureClass::Transient, "others always pass");
}

fn user_login(change: impl FnOnce(&mut NextinteractSamSettings)) -> UserLogin {
    let mut settings = crm().nextinteract_sam.unwrap();
    change(&mut settings);
    UserLogin::new(&settings, Reading::new(&settings).unwrap())
}

fn credentials() -> [Secret; 2] {
    [Secret::new("sync+sam@example.org"), Secret::new("p&ss \"word\"")]
}

#[test]
fn a_login_of_version_2_is_json() {
    let request = user_login(|_| ()).log_in(&credentials());
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/rest/user/login"));
    assert_eq!(request.headers[0].1, "application/json");
    let expected = r#"{"uEmail":"sync+sam@example.org","uPassword":"p&ss \"word\"","appCode":"NI","version":"2"}"#;
    assert_eq!(request.body, expected);
    let request = user_login(|sam| {
        sam.platform = "hub".to_owned();
        sam.app_code = AppCode::My;
    })
    .log_in(&credentials());
    let expected = r#"{"uEmail":"sync+sam@example.org","uPassword":"p&ss \"word\"","platform":"hub","appCode":"MY","version":"2"}"#;
    assert_eq!(request.body, expected);
}

#[test]
fn a_federated_login_shows_the_access_token_of_the_provider_and_no_password() {
    let login = user_login(|sam| sam.login = LoginForm::Federated);
    let request = login.log_in(&[Secret::new("sync@example.org"), Secret::new("eyJ.access")]);
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/rest/user/login"));
    let headers: Vec<_> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let json = "application/json";
    assert_eq!(headers, [("content-type", json), ("accept", json), ("authorization", "Bearer eyJ.access")]);
    assert!(request.headers[2].1.is_sensitive());
    assert_eq!(request.body, r#"{"uEmail":"sync@example.org","appCode":"NI","version":"2"}"#);
    let unfit = login.log_in(&[Secret::new("sync@example.org"), Secret::new("two\nlines")]);
    assert_eq!(unfit.headers.len(), 2);
}

#[test]
fn a_login_of_version_1_is_a_form() {
    let request = user_login(|sam| sam.login = LoginForm::Form).log_in(&credentials());
    assert_eq!(request.headers[0].1, "application/x-www-form-urlencoded");
    assert_eq!(request.body, "uEmail=sync%2Bsam%40example.org&uPassword=p%26ss+%22word%22&appCode=NI&version=1");
}

fn with_token(status: u16, headers: &[(&'static str, &'static str)]) -> Response {
    let headers = headers.iter().map(|(name, value)| ((*name).try_into().unwrap(), HeaderValue::from_static(value)));
    Response { status: StatusCode::from_u16(status).unwrap(), headers: headers.collect(), body: Bytes::new() }
}

const NAME: &str = "x-nextinteract-authtoken";
const LIFE: &str = "x-nextinteract-authtoken-expiry-seconds";

#[test]
fn a_token_and_its_life_are_in_headers() {
    let login = user_login(|_| ());
    let token = |headers| login.read(&Ok(with_token(200, headers))).unwrap();
    let lasts =
        |seconds| Token { secret: Secret::new("q8Zk1w=="), life: Duration::from_secs(seconds), refresh_token: None };
    assert_eq!(token(&[(NAME, "q8Zk1w=="), (LIFE, "1800")]), lasts(1800));
    assert_eq!(token(&[(NAME, "q8Zk1w=="), (LIFE, " 30.5 ")]), lasts(30));
    assert_eq!(token(&[(NAME, "q8Zk1w==")]), lasts(15 * 60));
    assert_eq!(token(&[(NAME, "q8Zk1w=="), (LIFE, "soon")]), lasts(15 * 60));
    for headers in [&[][..], &[(NAME, "")], &[(LIFE, "1800")]] {
        let LoginFailure { failure, again_after } = login.read(&Ok(with_token(200, headers))).unwrap_err();
        assert_eq!((failure.class, again_after), (FailureClass::Connection, None));
    }
}

#[test]
fn any_good_answer_may_bring_another_token() {
    let login = user_login(|_| ());
    let renewed = |status, headers| login.renewed_by(&with_token(status, headers));
    assert_eq!(renewed(200, &[(NAME, "next"), (LIFE, "60")]).unwrap().secret.expose(), "next");
    assert_eq!(renewed(200, &[]), None);
    assert_eq!(renewed(401, &[(NAME, "next")]), None);
}

#[test]
fn a_login_that_would_fail_again_is_not_repeated() {
    let login = user_login(|_| ());
    let class = |answer: Answer| login.read(&answer).unwrap_err().failure.class;
    for (name, status, code) in [
        ("WSAuthenticationFailedException", 401, 1005.0),
        ("WSAccountLockedException", 401, 1004.0),
        ("WSNoUsernameOrPasswordException", 400, 1001.0),
        ("WSUserNotFoundException", 400, 1009.0),
        ("WSInsufficientPermissionsException", 401, 1003.0),
    ] {
        assert_eq!(class(error(status, name, code)), FailureClass::Auth, "{name}");
        assert_eq!(class(answer(status, name)), FailureClass::Auth, "{name} without its code");
    }
    assert_eq!(class(answer(401, "")), FailureClass::Auth);
    assert_eq!(class(error(400, "WSInvalidParameterException", 1002.0)), FailureClass::Connection);
    assert_eq!(class(answer(404, "")), FailureClass::Connection);
    assert_eq!(class(answer(429, "")), FailureClass::Throttled);
    assert_eq!(class(error(500, "WSUserServiceException", 2001.0)), FailureClass::Transient);
    assert_eq!(class(Err(TransportError::NotSent { reason: String::new() })), FailureClass::Transient);
}

#[test]
fn a_locked_account_is_tried_again_only_if_it_is_said_when() {
    let locked = || error(401, "WSAccountLockedException", 1004.0);
    assert_eq!(user_login(|_| ()).read(&locked()).unwrap_err().again_after, None);
    let hour = Duration::from_secs(3600);
    let login = user_login(|sam| sam.locked_retry_after = Some(hour));
    assert_eq!(login.read(&locked()).unwrap_err().again_after, Some(hour));
    let wrong = error(401, "WSAuthenticationFailedException", 1005.0);
    assert_eq!(login.read(&wrong).unwrap_err().again_after, None);
}

/// The fields that `contact` adds to a name, and what is lost of it.
#[track_caller]
fn maps(connector: &NextinteractSam, contact: Value, expected: Value, lost: &[&str]) {
    let mut document = json!({ "name": { "familyName": "Sundstrom" } });
    document.as_object_mut().unwrap().extend(contact.as_object().unwrap().clone());
    let projection = connector.project(&record(document), None).unwrap();
    let mut fields = Value::Object(projection.fields.into_iter().collect());
    for always in ["externalId", "lastname"] {
        fields.as_object_mut().unwrap().remove(always);
    }
    assert_eq!(fields, expected, "{contact}");
    let mut fields: Vec<&str> = projection.losses.iter().map(|loss| loss.field).collect();
    fields.dedup();
    assert_eq!(fields, lost, "{contact}");
}

#[test]
fn a_name_goes_where_it_belongs_and_is_taken_apart_only_where_parts_are_missing() {
    let sam = sam_with(|_| ());
    let check = |name: Value, expected: Value, lost: &[&str]| {
        let projection = sam.project(&record(json!({ "name": name })), None).unwrap();
        let mut fields = Value::Object(projection.fields.into_iter().collect());
        fields.as_object_mut().unwrap().remove("externalId");
        assert_eq!(fields, expected);
        assert_eq!(projection.losses.iter().map(|loss| loss.field).collect::<Vec<_>>(), lost);
    };
    check(
        json!({ "honorificPrefix": "Dr", "givenName": "Ilka", "familyName": "Vale", "formatted": "Dr Ilka Vale" }),
        json!({ "title": "Dr", "firstname": "Ilka", "lastname": "Vale" }),
        &["/name/formatted"],
    );
    check(json!({ "formatted": "Ilka Vale" }), json!({ "firstname": "Ilka", "lastname": "Vale" }), &[]);
    check(
        json!({ "givenName": "Ilka", "middleName": "Ann", "formatted": "Ilka Ann Vale", "honorificSuffix": "PhD" }),
        json!({ "firstname": "Ilka", "lastname": "Vale" }),
        &["/name/honorificSuffix", "/name/middleName"],
    );
    check(json!({ "formatted": "Madonna" }), json!({ "lastname": "Madonna" }), &[]);
    check(json!({ "familyName": "Vale" }), json!({ "lastname": "Vale" }), &[]);
    for nameless in [json!({}), json!({ "name": { "givenName": "Ilka" } }), json!({ "name": { "familyName": " " } })] {
        let verdict = sam.project(&record(nameless), None).unwrap_err();
        assert_eq!(verdict, Verdict::field(OutcomeKind::Rejected, ReasonCode::MissingField, "/name/familyName"));
    }
}

#[test]
fn an_organization_is_no_person_unless_it_is_told_to_be_one() {
    let contact =
        json!({ "kind": "organization", "organization": { "name": "Vale Labs" }, "name": { "givenName": "V" } });
    let verdict = sam_with(|_| ()).project(&record(contact.clone()), None).unwrap_err();
    assert_eq!(verdict, Verdict::new(OutcomeKind::Unsupported, ReasonCode::Kind));
    let sam = sam_with(|sam| sam.organization = OrganizationKind::LastName);
    let projection = sam.project(&record(contact), None).unwrap();
    assert_eq!(
        (&projection.fields["lastname"], &projection.fields["company"]),
        (&json!("Vale Labs"), &json!("Vale Labs"))
    );
    assert_eq!(projection.fields.len(), 3);
    let nameless = sam.project(&record(json!({ "kind": "organization" })), None).unwrap_err();
    assert_eq!(nameless.reason.field.as_deref(), Some("/organization/name"));
}

#[test]
fn two_addresses_of_mail_are_kept_the_primary_one_first() {
    let sam = sam_with(|_| ());
    let mail = |address: &str| json!({ "value": address });
    maps(&sam, json!({ "emails": [mail("a@x.org")] }), json!({ "email1": "a@x.org" }), &[]);
    maps(
        &sam,
        json!({ "emails": [mail("a@x.org"), { "value": "b@x.org", "primary": true, "type": "work" }] }),
        json!({ "email1": "b@x.org", "email2": "a@x.org" }),
        &["/emails/type"],
    );
    maps(
        &sam,
        json!({ "emails": [mail("a@x.org"), mail("b@x.org"), mail("c@x.org")] }),
        json!({ "email1": "a@x.org", "email2": "b@x.org" }),
        &["/emails/value"],
    );
    maps(&sam, json!({ "emails": [] }), json!({}), &[]);
}

#[test]
fn one_number_of_each_kind_is_kept() {
    let sam = sam_with(|_| ());
    let phone = |number: &str, label: &str| json!({ "value": number, "type": label });
    maps(
        &sam,
        json!({ "phoneNumbers": [
            phone("+61 400 555 012", "mobile"), phone("+61255501001", "work"), phone("+61255501002", "other"),
            phone("+61255501003", "fax"),
        ] }),
        json!({
            "mobile": "+61400555012", "phone": "+61255501001", "otherPhone": "+61255501002", "faxNumber": "+61255501003",
        }),
        &[],
    );
    maps(
        &sam,
        json!({ "phoneNumbers": [phone("+61255501001", "home"), phone("+61255501002", "work")] }),
        json!({ "phone": "+61255501001", "otherPhone": "+61255501002" }),
        &[],
    );
    maps(
        &sam,
        json!({ "phoneNumbers": [phone("+61255501001", "work"), phone("+61255501002", "work"), phone("+61255501003", "other")] }),
        json!({ "phone": "+61255501001", "otherPhone": "+61255501003" }),
        &["/phoneNumbers/value"],
    );
    maps(&sam, json!({ "phoneNumbers": [phone("02 5550 1001", "work")] }), json!({}), &["/phoneNumbers/value"]);
    maps(
        &sam_with(|sam| sam.phone_form = PhoneForm::AsWritten),
        json!({ "phoneNumbers": [phone("02 5550 1001", "work")] }),
        json!({ "phone": "02 5550 1001" }),
        &[],
    );
}

#[test]
fn two_addresses_are_kept_and_what_they_have_too_much_is_joined() {
    let sam = sam_with(|_| ());
    let work = json!({
        "type": "work", "streetAddress": "Test Street", "streetNumber": "100", "apartment": "Flat 2", "floor": "3rd floor",
        "poBox": "88", "district": "North", "locality": "Sydney", "region": "NSW", "postalCode": "2061", "country": "AU",
    });
    maps(
        &sam,
        json!({ "addresses": [{ "locality": "Perth", "country": "AU", "primary": true }, work, { "locality": "Hobart" }] }),
        json!({
            "workAddress1": "Test Street 100", "workAddress2": "Flat 2",
            "workAddress3": "3rd floor, PO Box 88, North",
            "city": "Sydney", "state": "NSW", "postCode": "2061", "countryCode": "AU",
            "otherCity": "Perth", "otherCountryCode": "AU",
        }),
        &["/addresses", "/addresses/type"],
    );
    maps(
        &sam_with(|sam| sam.street_number = StreetNumber::Before),
        json!({ "addresses": [
            { "streetAddress": "A\nB", "streetNumber": "1", "geo": { "longitude": 1.0, "latitude": 2.0 } },
            { "streetAddress": "C", "region": "S", "postalCode": "P" },
        ] }),
        json!({
            "workAddress1": "1 A", "workAddress2": "B", "otherAddress1": "C", "otherState": "S", "otherPostcode": "P",
        }),
        &["/addresses/geo"],
    );
}

#[test]
fn work_notes_birth_and_owner_go_where_the_settings_say() {
    let sam = sam_with(|_| ());
    let organization = json!({
        "name": "Vale Labs", "department": "R&D", "title": "Pharmacist", "marketSector": "Oncology", "vatNumber": "1",
        "registrationNumber": "2", "type": "lab", "industry": "health",
    });
    let lost = [
        "/organization/industry",
        "/organization/marketSector",
        "/organization/registrationNumber",
        "/organization/type",
        "/organization/vatNumber",
    ];
    maps(
        &sam,
        json!({ "organization": organization }),
        json!({ "company": "Vale Labs", "department": "R&D", "contactProfession": "Pharmacist" }),
        &lost,
    );
    maps(
        &sam_with(|sam| sam.specialty_from_market_sector = true),
        json!({ "organization": { "title": "a", "marketSector": "b" }, "attributes": { "profession": "c" } }),
        json!({ "contactProfession": "c", "contactSpecialty": "b" }),
        &["/organization/title"],
    );
    maps(
        &sam_with(|sam| sam.profession_from_job_title = false),
        json!({ "organization": { "title": "a" } }),
        json!({}),
        &["/organization/title"],
    );
    maps(
        &sam,
        json!({ "notes": "n", "birthDate": "2001-02-03", "owner": "o" }),
        json!({ "notes": "n", "dateOfBirth": 981_158_400_000_u64 }),
        &["/owner"],
    );
    maps(&sam, json!({ "birthDate": "1969-12-31" }), json!({ "dateOfBirth": -86_400_000 }), &[]);
    maps(
        &sam_with(|sam| {
            (sam.birth_date, sam.send_owner, sam.send_source) = (BirthDateForm::Date, true, true);
        }),
        json!({ "birthDate": "2001-02-03", "owner": "o" }),
        json!({ "dateOfBirth": "2001-02-03", "ownedBy": "o", "contactCreatedBy": "contact-hub" }),
        &[],
    );
    maps(
        &sam_with(|sam| sam.birth_date = BirthDateForm::Omit),
        json!({ "birthDate": "2001-02-03" }),
        json!({}),
        &["/birthDate"],
    );
}

#[test]
fn free_attributes_with_a_fixed_name_have_a_field() {
    maps(
        &sam_with(|_| ()),
        json!({ "attributes": {
            "profession": "Doctor", "contactType": "A", "contactCategory": 7, "contactSpecialty": "Oncologist",
            "webPage": "https://x.org", "facebookId": "f", "twitterId": true, "shoe": null,
        } }),
        json!({
            "contactProfession": "Doctor", "contactType": "A", "contactCategory": "7", "contactSpecialty": "Oncologist",
            "webPage": "https://x.org", "facebookId": "f", "twitterId": "true",
        }),
        &[],
    );
    maps(&sam_with(|_| ()), json!({ "attributes": { "shoe": 42 } }), json!({}), &["/attributes"]);
}

#[test]
fn a_withdrawn_consent_and_an_inactive_contact_are_delivered_with_the_rest_and_told_as_lost() {
    let sam = sam_with(|_| ());
    let losses = |contact: Value| {
        let mut document = ilka();
        document.as_object_mut().unwrap().extend(contact.as_object().unwrap().clone());
        let projection = sam.project(&record(document), None).unwrap();
        assert_eq!(projection.presence, Presence::Active);
        let Loss { field, why } = *projection.losses.iter().find(|loss| loss.field != "/addresses/type").unwrap();
        (field, why)
    };
    assert_eq!(losses(json!({ "consent": { "marketing": false } })), ("/consent/marketing", "consent_not_expressible"));
    assert_eq!(
        losses(json!({ "consent": { "dataProcessing": false } })),
        ("/consent/dataProcessing", "consent_not_expressible")
    );
    assert_eq!(losses(json!({ "consent": { "marketing": true } })), ("/consent/marketing", "no field for it"));
    assert_eq!(losses(json!({ "active": false })).0, "/active");
}

#[test]
fn every_attribute_is_carried_or_told_as_lost() {
    let rest = json!({
        "gender": "x", "preferredLanguage": "en", "identifiers": { "a": "1" },
        "photos": [{ "value": "https://x.org/p.png" }], "relations": [{ "type": "spouse", "subject": "s" }],
    });
    let lost = ["/gender", "/identifiers", "/photos", "/preferredLanguage", "/relations"];
    maps(&sam_with(|_| ()), rest, json!({}), &lost);
}

#[test]
fn every_loss_names_a_place_of_the_document() {
    let known: Vec<&str> = crate::contact::schema::paths().collect();
    for pointer in mapping::places_lost() {
        assert!(known.contains(&pointer), "{pointer} is none of {known:?}");
    }
}

fn ended(status: Status, on_delete: OnDelete, on_erase: OnErase, ever_sent: bool) -> Result<Projection, Verdict> {
    let connector = connector_with(|crm| (crm.on_delete, crm.on_erase) = (on_delete, on_erase));
    let mut link = Link::new(CONTACT);
    if ever_sent {
        link.sent.insert("notes".into(), Sent::Void);
    }
    connector.project(&ContactRecord { status, ..record(ilka()) }, Some(&link))
}

#[test]
fn what_sam_cannot_do_ends_as_unsupported() {
    let verdict = |status, on_delete, on_erase| ended(status, on_delete, on_erase, true).unwrap_err();
    for status in [Status::Deleted, Status::Merged] {
        for (policy, outcome, reason) in [
            (OnDelete::Delete, OutcomeKind::Unsupported, ReasonCode::Delete),
            (OnDelete::Deactivate, OutcomeKind::Unsupported, ReasonCode::Deactivate),
            (OnDelete::Keep, OutcomeKind::Filtered, ReasonCode::KeptByPolicy),
        ] {
            assert_eq!(verdict(status, policy, OnErase::Blank), Verdict::new(outcome, reason));
        }
    }
    let erase = |policy| verdict(Status::Erased, OnDelete::Keep, policy);
    assert_eq!(erase(OnErase::Delete), Verdict::new(OutcomeKind::Unsupported, ReasonCode::Erase));
    assert_eq!(erase(OnErase::Keep), Verdict::new(OutcomeKind::Filtered, ReasonCode::KeptByPolicy));
    let unknown = ended(Status::Deleted, OnDelete::Delete, OnErase::Delete, false).unwrap_err();
    assert_eq!(unknown, Verdict::new(OutcomeKind::Unchanged, ReasonCode::UnknownContact));
}

#[test]
fn of_who_is_to_be_forgotten_only_our_reference_is_left() {
    let projection = ended(Status::Erased, OnDelete::Keep, OnErase::Blank, true).unwrap();
    let expected = [("externalId".to_owned(), json!(CONTACT.key())), ("lastname".to_owned(), json!("Erased"))];
    assert_eq!(projection.fields, BTreeMap::from(expected));
    let (connector, references) = (sam_with(|_| ()), References::default());
    let erased = ContactRecord { status: Status::Erased, contact: None, ..record(json!({})) };
    let Step::Done(accepted) = connector.next(&delivery(&erased, &projection, &references), &[affected(1)]) else {
        panic!("accepted")
    };
    assert_eq!(accepted.operation, Operation::Blank);
}

#[test]
fn what_is_not_said_is_cleared_as_the_settings_say() {
    let sam = sam_with(|sam| (sam.clear_with, sam.modified) = (SamClear::Empty, StampModified::Null));
    let row = row(&sam, json!({ "name": { "familyName": "Vale" } }));
    assert_eq!(row.len(), 41);
    assert_eq!((&row["notes"], &row["city"]), (&json!(""), &json!("")));
    for null in ["contactId", "countryCode", "otherCountryCode", "dateOfBirth", "contactModified", "ownedBy"] {
        assert_eq!(row[null], Value::Null, "{null}");
    }
}

#[test]
fn every_key_that_a_mapping_fills_can_be_cleared() {
    let connector = sam_with(|_| ());
    let fields = connector.fields();
    assert_eq!(fields.len(), 41 - 3);
    assert!(!fields.iter().any(|key| ["externalId", "lastname", "contactModified"].contains(&key.as_str())));
}

#[test]
fn the_key_that_an_operator_gave_goes_with_each_row_and_is_what_the_answer_names() {
    let sam = connector_with(|_| ());
    let record = record(ilka());
    let mut link = Link::new(CONTACT);
    link.remote_ids = sam.naming().read("K-17").unwrap();
    let projection = sam.project(&record, Some(&link)).unwrap();
    assert_eq!(projection.fields["externalId"], "K-17");
    let erased = ContactRecord { status: Status::Erased, contact: None, ..record.clone() };
    assert_eq!(sam.project(&erased, Some(&link)).unwrap().fields["externalId"], "K-17");
    let references = References::default();
    let delivery = Delivery { link: Some(&link), ..delivery(&record, &projection, &references) };
    let Step::Call(request) = sam.next(&delivery, &[]) else { panic!("a call comes first") };
    assert_eq!(sam.batching().unwrap().row_key(&request).as_deref(), Some("K-17"));
    let stored = |id: &str| {
        let body = json!([{ "recordId": id, "rowsAffected": 1 }]).to_string();
        sam.next(&delivery, &[Ok(Response { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into() })])
    };
    let Step::Done(accepted) = stored("K-17") else { panic!("it is stored") };
    assert_eq!(accepted.remote_ids[REMOTE_CONTACT], "K-17");
    assert!(!matches!(stored(&CONTACT.key()), Step::Done(_)), "another row");
}
