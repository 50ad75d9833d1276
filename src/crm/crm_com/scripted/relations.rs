//! What a contact is to others: what is said of it to CRM.COM, and what is not.

use super::*;
use crate::{contact::ContactId, crm::relation};

const OTHER: ContactId = ContactId(uuid::Uuid::from_u128(452));

fn path() -> &'static str {
    Box::leak(relation::path("relation_set.EMPLOYER", OTHER).into_boxed_str())
}

fn employed(notes: &str) -> Value {
    contact(json!({ "relations": [{ "type": "employer", "source": "/shop", "subject": "2", "notes": notes }] }))
}

/// What is known of whom a case names: the other as `C2`, if CRM.COM holds it.
fn knowing(mut case: Case, crm_com: &CrmCom, is_there: bool) -> Case {
    for relation in crm_com.relations(&case.record) {
        case.related.note(relation, Some(OTHER));
    }
    if is_there {
        case.related.note_id(OTHER, "C2".to_owned());
    }
    case
}

fn update(action: &str) -> String {
    format!(
        r#"POST /update {{"token":"T1","contact_information_identifier":{{"id":"C1"}},"relation_set":[{action}],"fields_set":"id,relation_set"}}"#
    )
}

fn shown(relations: Value) -> Answer {
    ok(json!({ "id": "C1", "type": "PERSON", "udf_string_16": KEY, "relation_set": relations }))
}

const ADD: &str = r#"{"action":"ADD","type":"EMPLOYER","contact_information":{"id":"C2"},"notes":"n"}"#;

#[test]
fn relations_are_read_and_each_that_differs_is_a_request_of_its_own() {
    let crm_com = plain();
    let show = show("relation_set");
    let case = || knowing(Case::linked(employed("n"), &[path()], &[]), &crm_com, true);
    let done = || ok(json!({ "id": "C1" }));
    let entry = |of_type: &str, other: &str, notes: &str| json!({ "id": "R1", "type": of_type, "notes": notes, "contact": { "id": other }, "state": "Active" });
    for others in [json!([]), json!([entry("EMPLOYER", "C3", "n"), entry("CLIENT", "C2", "n")])] {
        let script = [(show.as_str(), shown(others)), (&update(ADD), done())];
        assert_eq!(case().accepted(&crm_com, &script).0, Operation::Update);
    }
    let same = shown(json!([entry("Employer", "C2", "n")]));
    assert_eq!(case().accepted(&crm_com, &[(&show, same)]).0, Operation::Update, "it is there");
    let other_notes = shown(json!([entry("EMPLOYER", "C2", "m")]));
    let renote = update(r#"{"action":"UPDATE","relation_identifier":{"id":"R1"},"notes":"n"}"#);
    case().accepted(&crm_com, &[(&show, other_notes), (&renote, done())]);

    let mut gone = Case::linked(contact(json!({})), &[], &[path()]);
    gone.related.note_id(OTHER, "C2".to_owned());
    let remove = update(r#"{"action":"REMOVE","relation_identifier":{"id":"R1"}}"#);
    gone.accepted(&crm_com, &[(&show, shown(json!([entry("EMPLOYER", "C2", "n")]))), (&remove, done())]);
    gone.accepted(&crm_com, &[(&show, shown(json!([])))]);
}

#[test]
fn the_other_contact_of_a_relation_is_called_as_the_settings_say() {
    let crm_com = connector(|settings| settings.relation_party = "contact_information_identifier".to_owned());
    let case = knowing(Case::linked(employed("n"), &[path()], &[]), &crm_com, true);
    let add = update(&ADD.replace("contact_information", "contact_information_identifier"));
    case.accepted(&crm_com, &[(&show("relation_set"), shown(json!([]))), (&add, ok(json!({ "id": "C1" })))]);
}

#[test]
fn a_relation_that_is_not_taken_holds_back_nothing_else() {
    let crm_com = plain();
    let show = show("relation_set");
    let case = knowing(Case::linked(employed("n"), &[path()], &[]), &crm_com, true);
    for code in ["REFERENCE_NOT_FOUND", "NOT_FOUND", "DUPLICATE"] {
        let script = [(show.as_str(), shown(json!([]))), (&update(ADD), refused(code))];
        match case.play(&crm_com, &script) {
            Step::DoneBut { accepted, refused } => {
                assert_eq!((accepted.remote_ids, refused), (ids(&[]), vec![path().into()]));
            }
            step => panic!("{step:?}"),
        }
    }
    let script = [(show.as_str(), shown(json!([]))), (&update(ADD), lost())];
    assert_eq!(case.failure(&crm_com, &script).effect, Effect::Unknown);
    let unseen = ok(json!({ "id": "C1", "type": "PERSON" }));
    assert_eq!(case.failure(&crm_com, &[(&show, unseen)]).class, FailureClass::Transient);
}

#[test]
fn a_new_contact_is_there_before_its_relations() {
    let crm_com = plain();
    let create = format!(
        r#"POST /create {{"token":"T1","type":"PERSON","first_name":"Ilka","last_name":"Sundstrom","udf_string_16":"{KEY}"}}"#
    );
    let made = || ok(json!({ "id": "C1" }));
    let known = knowing(Case::new(employed("n")), &crm_com, true);
    match known.play(&crm_com, &[(&create, made())]) {
        Step::Part { left, .. } => assert_eq!(left, [path().into()]),
        step => panic!("{step:?}"),
    }
    let alone = knowing(Case::new(employed("n")), &crm_com, false);
    assert_eq!(alone.accepted(&crm_com, &[(&create, made())]).0, Operation::Create, "the other is not there");
}

#[test]
fn a_type_is_crm_coms_own_or_stands_in_the_table() {
    let crm_com = connector(|settings| {
        settings.relation_types.insert("boss".to_owned(), "EMPLOYER".to_owned());
    });
    let relation = |of_type: &str| json!({ "type": of_type, "source": "/shop", "subject": "2" });
    for (word, place, lost) in [
        ("boss", Some("relation_set.EMPLOYER"), &[][..]),
        ("Family member", Some("relation_set.FAMILY_MEMBER"), &[]),
        ("work_colleague", Some("relation_set.WORK_COLLEAGUE"), &[]),
        ("custom3", Some("relation_set.CUSTOM3"), &[]),
        ("nemesis", None, &["/relations"]),
    ] {
        let record = record(contact(json!({ "relations": [relation(word)] })));
        let places: Vec<_> = crm_com.relations(&record).into_iter().map(|relation| relation.place).collect();
        assert_eq!(places, place.into_iter().collect::<Vec<_>>(), "{word}");
        let losses = crm_com.project(&record, None).unwrap().losses;
        assert_eq!(losses.iter().map(|loss| loss.field).collect::<Vec<_>>(), lost, "{word}");
    }
    let nobody = record(contact(json!({ "relations": [{ "type": "friend" }] })));
    assert!(crm_com.relations(&nobody).is_empty());
    let erased = ContactRecord { status: Status::Erased, ..record(employed("n")) };
    assert!(crm_com.relations(&erased).is_empty(), "who is forgotten is nothing to anybody");
}
