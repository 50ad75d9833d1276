//! Whoever pays for a contact: said once that one is there, replaced by the next, and no reason to hold back the rest.

use super::*;
use crate::{contact::ContactId, crm::relation};

const OTHER: ContactId = ContactId(uuid::Uuid::from_u128(452));
const THIRD: ContactId = ContactId(uuid::Uuid::from_u128(453));

fn payer(contact: ContactId) -> &'static str {
    Box::leak(relation::path("payingContactId", contact).into_boxed_str())
}

fn paid() -> Value {
    contact(json!({ "relations": [{ "type": "Pays", "source": "/shop", "subject": "2" }] }))
}

/// [`OTHER`] pays, and is there as `con_2`, or not.
fn paid_by_other(mut case: Case, previsto: &Previsto, is_there: bool) -> Case {
    for relation in previsto.relations(&case.record) {
        case.related.note(relation, Some(OTHER));
    }
    if is_there {
        case.related.note_id(OTHER, "con_2".to_owned());
    }
    case
}

fn known(mut case: Case, path: &str) -> Case {
    case.link.as_mut().unwrap().sent.insert(path.into(), Sent::Hash(7));
    case
}

const UPDATE: &str = "POST /contacts/con_90a1";

#[test]
fn whoever_pays_is_named_by_previstos_id() {
    let previsto = connector(|_| ());
    let done = || ok(json!({ "id": "con_90a1" }));
    let says = |text: &str| format!("{UPDATE} payingContactId={text}");
    let case = paid_by_other(Case::linked(paid(), &[payer(OTHER)]), &previsto, true);
    assert_eq!(case.accepted(&previsto, &[(&says("con_2"), done())]).0, Operation::Update);
    let mut another = known(paid_by_other(Case::linked(paid(), &[payer(OTHER)]), &previsto, true), payer(THIRD));
    another.clears = vec![payer(THIRD)];
    another.accepted(&previsto, &[(&says("con_2"), done())]);
    let mut nobody = known(Case::linked(contact(json!({})), &[]), payer(OTHER));
    nobody.clears = vec![payer(OTHER)];
    nobody.accepted(&previsto, &[(says("").trim_end(), done())]);
}

#[test]
fn whoever_pays_stays_as_long_as_that_contact_is_out_of_sight() {
    let previsto = connector(|_| ());
    let mut unseen = known(paid_by_other(Case::linked(paid(), &[]), &previsto, false), payer(OTHER));
    unseen.clears = vec![payer(THIRD)];
    assert_eq!(unseen.verdict(&previsto, &[]).reason.code, ReasonCode::SameProjection, "nothing is taken away");
    let mut replaced = known(paid_by_other(Case::linked(paid(), &[]), &previsto, false), payer(THIRD));
    replaced.clears = vec![payer(THIRD)];
    let none = format!("{UPDATE} payingContactId=");
    replaced.accepted(&previsto, &[(&none, ok(json!({ "id": "con_90a1" })))]);
}

#[test]
fn a_payer_that_is_not_taken_holds_back_nothing_else() {
    let previsto = connector(|_| ());
    let case = paid_by_other(Case::linked(paid(), &["name", payer(OTHER)]), &previsto, true);
    let (whole, rest) =
        (format!("{UPDATE} name=Ilka%20Sundstrom&payingContactId=con_2"), format!("{UPDATE} name=Ilka%20Sundstrom"));
    let refused = |param: &str| answer(400, json!({ "type": "invalid_request", "message": "no", "param": param }));
    match case.play(&previsto, &[(&whole, refused("payingContactId")), (&rest, ok(json!({ "id": "con_90a1" })))]) {
        Step::DoneBut { refused, .. } => assert_eq!(refused, [payer(OTHER).into()]),
        step => panic!("{step:?}"),
    }
    let failure = case.failure(&previsto, &[(&whole, refused("name"))]);
    assert_eq!((failure.class, failure.reason.field.as_deref()), (FailureClass::Rejected, Some("name")));
}

#[test]
fn one_relation_is_carried_and_all_others_are_lost() {
    let previsto = connector(|_| ());
    let pays = || json!({ "type": "pays", "source": "/shop", "subject": "2" });
    for (relations, carried, lost) in [
        (json!([pays()]), 1, &[][..]),
        (json!([pays(), { "type": "spouse", "subject": "3" }]), 1, &["/relations"]),
        (json!([pays(), pays()]), 1, &["/relations"]),
        (json!([{ "type": "pays", "subject": "2", "notes": "n" }]), 1, &["/relations/notes"]),
        (json!([{ "type": "pays" }]), 0, &["/relations"]),
        (json!([]), 0, &[]),
    ] {
        let record = record(contact(json!({ "relations": relations })));
        assert_eq!(previsto.relations(&record).len(), carried, "{relations}");
        let losses = previsto.project(&record, None).unwrap().losses;
        assert_eq!(losses.iter().map(|loss| loss.field).collect::<Vec<_>>(), lost, "{relations}");
    }
}
