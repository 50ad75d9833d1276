//! The photo of a contact: the form that carries it, and what comes before and after it.

use super::*;

/// `GIF89a`, as a data URL.
const URL: &str = "data:image/gif;base64,R0lGODlh";
const NAME: &str = "610f5ae4d76e332636a17bd357fd6ce9.gif";

fn with_photo() -> Value {
    contact(json!({ "photos": [{ "value": URL, "type": "photo" }] }))
}

fn part(step: Step) -> (BTreeMap<String, String>, Vec<String>) {
    match step {
        Step::Part { remote_ids, left } => (remote_ids, left.iter().map(ToString::to_string).collect()),
        step => panic!("in part, not {step:?}"),
    }
}

/// The form that adds the photo of [`with_photo`], the token in front.
fn add() -> String {
    let boundary = format!("contact-replicator-{}", NAME.trim_end_matches(".gif"));
    format!(
        "POST /profile_photo/add --{boundary}\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nT1\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"contact_information_identifier\"\r\n\r\nid=C1\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{NAME}\"\r\n\
         Content-Type: image/gif\r\n\r\nGIF89a\r\n--{boundary}--"
    )
}

const VIEW: &str = "GET /profile_photo/view?token=T1&contact_information_identifier=id=C1";
const REMOVE: &str = r#"POST /profile_photo/remove {"token":"T1","contact_information_identifier":{"id":"C1"}}"#;
const UPDATE: &str = "POST /update {\"token\":\"T1\",\"contact_information_identifier\":{\"id\":\"C1\"},\
    \"first_name\":\"Ilka\",\"fields_set\":\"id,first_name\"}";

fn facts(name: &str) -> Answer {
    ok(
        json!({ "file_name": name, "file_content_url": "/crm/ImageDownloadServlet?id=C1", "file_mime_type": "image/gif" }),
    )
}

/// A contact that CRM.COM has, and what is known of its photo there.
fn linked(contact: Value, changes: &[&'static str], clears: &[&'static str], sent: Option<Sent>) -> Case {
    let mut case = Case::linked(contact, changes, clears);
    let link = case.link.as_mut().unwrap();
    link.sent.extend(sent.map(|sent| (wire::PHOTO.into(), sent)));
    case
}

#[test]
fn the_form_that_carries_a_photo_comes_out_byte_for_byte() {
    let crm_com = plain();
    let case = linked(with_photo(), &["profile_photo"], &[], Some(Sent::Hash(7)));
    assert_eq!(case.accepted(&crm_com, &[(&add(), facts(NAME))]), (Operation::Update, ids(&[])));
    let without = linked(contact(json!({})), &[], &["profile_photo"], Some(Sent::Hash(7)));
    for done in [answer(200, ""), ok(Value::Null), refused("NOT_FOUND")] {
        assert_eq!(without.accepted(&crm_com, &[(REMOVE, done)]).0, Operation::Update);
    }
}

#[test]
fn what_was_written_before_the_photo_is_committed_before_it() {
    let crm_com = plain();
    let created = Case::new(with_photo()).play(&crm_com, &[(&create(), ok(json!({ "id": "C1" })))]);
    assert_eq!(part(created), (ids(&[]), vec!["profile_photo".to_owned()]));
    let case = linked(with_photo(), &["first_name", "profile_photo"], &[], Some(Sent::Hash(7)));
    let updated = case.play(&crm_com, &[(UPDATE, ok(json!({ "id": "C1" })))]);
    assert_eq!(part(updated), (ids(&[]), vec!["profile_photo".to_owned()]));
}

fn create() -> String {
    format!(
        r#"POST /create {{"token":"T1","type":"PERSON","first_name":"Ilka","last_name":"Sundstrom","udf_string_16":"{KEY}"}}"#
    )
}

#[test]
fn where_all_is_in_doubt_a_photo_is_looked_at_and_follows_at_once() {
    let crm_com = plain();
    let mut case = linked(with_photo(), &["first_name", "profile_photo"], &[], None);
    case.link.as_mut().unwrap().sent.values_mut().for_each(|sent| *sent = Sent::Void);
    let written = || (UPDATE, ok(json!({ "id": "C1" })));
    let add = add();
    for (seen, sends) in [
        (ok(Value::Null), true),
        (facts("other.gif"), true),
        (refused("NOT_FOUND"), true),
        (facts(NAME), false),
        (facts(&format!("217F_key_{NAME}")), false),
    ] {
        let mut script = vec![written(), (VIEW, seen)];
        script.extend(sends.then(|| (add.as_str(), facts(NAME))));
        assert_eq!(case.accepted(&crm_com, &script).0, Operation::Update);
    }
    let mut without = linked(contact(json!({})), &[], &["profile_photo"], Some(Sent::Void));
    assert_eq!(without.accepted(&crm_com, &[(VIEW, ok(Value::Null))]).0, Operation::Update, "there is none");
    without.accepted(&crm_com, &[(VIEW, facts("other.gif")), (REMOVE, answer(200, ""))]);
    without.link.as_mut().unwrap().remote_ids.insert("adopted".into(), "part".into());
    let stamp = format!(
        r#"POST /update {{"token":"T1","contact_information_identifier":{{"id":"C1"}},"udf_string_16":"{KEY}","fields_set":"id,udf_string_16"}}"#
    );
    let kept = without.accepted(&crm_com, &[(&stamp, ok(json!({ "id": "C1" })))]);
    assert_eq!(kept.1, ids(&[("adopted", "all")]), "the photo of whoever was there before us stays");
}

#[test]
fn where_a_photo_does_not_replace_another_that_one_is_removed_first() {
    let crm_com = connector(|settings| settings.photo_replaces = false);
    let case = linked(with_photo(), &["profile_photo"], &[], Some(Sent::Hash(7)));
    let add = add();
    let script = [(VIEW, facts("other.gif")), (REMOVE, answer(200, "")), (&add, facts(NAME))];
    assert_eq!(case.accepted(&crm_com, &script).0, Operation::Update);
    case.accepted(&crm_com, &[(VIEW, ok(Value::Null)), (&add, facts(NAME))]);
    case.accepted(&crm_com, &[(VIEW, facts(NAME))]);
    let failure = case.failure(&crm_com, &[(VIEW, facts("other.gif")), (REMOVE, lost())]);
    assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::Unknown));
}

#[test]
fn a_photo_that_is_refused_says_which_field_it_was() {
    let crm_com = plain();
    let case = linked(with_photo(), &["profile_photo"], &[], Some(Sent::Hash(7)));
    let failure = case.failure(&crm_com, &[(&add(), refused("INVALID_VALUE"))]);
    assert_eq!((failure.class, failure.reason.field.as_deref()), (FailureClass::Rejected, Some("/photos")));
    let failure = case.failure(&crm_com, &[(&add(), refused("NOT_FOUND"))]);
    assert_eq!(failure.class, FailureClass::Gone, "the contact itself");
    let failure = case.failure(&crm_com, &[(&add(), lost())]);
    assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::Unknown));
    let failure = case.failure(&crm_com, &[(&add(), answer(200, "<html>"))]);
    assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::Unknown), "no usable word");
}
