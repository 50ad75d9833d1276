//! One contact about whom everything is said that the contact document has, from its first day to its return: made, changed
//! in every attribute, emptied of all that need not be there, deleted, and made again, in each CRM. After each step the
//! simulated CRM holds what the mapping table of its contract says, and the loss report names all the rest.
//!
//! What is to be there is written down here from those tables, section 8 of each contract, value by value; nothing of it
//! is asked of a connector.

mod crm_com;
mod logisense;
mod nextinteract_sam;
mod previsto;
mod priava;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use contact_replicator::{
    config::CrmKind,
    contact::{Document, schema},
    event::{Operation, Outcome, OutcomeKind, ReasonCode},
};
use serde_json::{Map, Value, json};

use crate::{
    history::event,
    scene::{Scene, play},
    world::{Setup, Tenant, World},
};

/// Pictures of one point, and the digests of their files.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mM4YKkNAALhASXEQ85BAAAAAElFTkSuQmCC";
const PNG_SHA256: &str = "eb9f666683f8e33570773414f70f1925b4b3cd4e6b3aa6687d893bdbde67e24f";
const GIF: &str = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==";
const GIF_SHA256: &str = "693d949d8c3fdc7fd4ace7c340b5f177a9f0c5be7bafee8bc93a7d88b7523d75";

/// Whom the two name as somebody that is something to them: source, subject and family name. They are there before.
const OTHERS: [(&str, &str, &str); 2] = [("/shop", "2", "Payer"), ("/erp", "3", "Guardian")];

/// What all CRMs insist on, of one of the [`OTHERS`].
fn other(subject: &str, family: &str) -> Value {
    json!({
        "name": { "givenName": "Otto", "familyName": family },
        "emails": [{ "value": format!("other{subject}@example.com") }],
        "phoneNumbers": [{ "value": format!("+3579955500{subject}"), "type": "mobile" }],
    })
}

/// A person about whom everything is said.
fn everything() -> Value {
    json!({
        "kind": "person",
        "name": {
            "honorificPrefix": "Ms", "givenName": "Ilka", "middleName": "Vera", "familyName": "Sundstrom",
            "honorificSuffix": "PhD", "formatted": "Ilka Vera Sundstrom",
        },
        "emails": [
            { "value": "work@example.com", "type": "work", "primary": true },
            { "value": "home@example.com", "type": "home" },
            { "value": "other@example.com", "type": "other" },
        ],
        "phoneNumbers": [
            { "value": "+35799555012", "type": "mobile", "primary": true },
            { "value": "+390236618300", "type": "work" },
            { "value": "+442079460018", "type": "fax" },
            { "value": "+14165550123", "type": "other" },
        ],
        "addresses": [
            {
                "type": "work", "streetAddress": "Kanal St", "streetNumber": "14", "apartment": "2", "floor": "3",
                "poBox": "88", "locality": "Guelph", "district": "Ward", "region": "ON", "postalCode": "N1G 2W1",
                "country": "CA", "geo": { "longitude": -80.25, "latitude": 43.5 }, "primary": true,
            },
            { "type": "home", "streetAddress": "Pine St", "locality": "London", "country": "GB" },
            { "type": "postal", "poBox": "77", "country": "GB" },
        ],
        "organization": {
            "name": "Harbour Lane", "department": "Sales", "title": "Lead", "registrationNumber": "R7",
            "vatNumber": "V7", "type": "household", "marketSector": "state", "industry": "shops",
        },
        "birthDate": "1988-09-03", "gender": "female", "preferredLanguage": "sv", "notes": "Family",
        "consent": { "marketing": true, "dataProcessing": true }, "active": true,
        "identifiers": { "id_number": "I7", "passport": "P7", "ssn": "S7", "customer_no": "K7" },
        "owner": "hq",
        "photos": [{ "value": format!("data:image/png;base64,{PNG}"), "type": "photo" }],
        "relations": [{ "type": "pays", "source": "/shop", "subject": "2", "notes": "n" }],
        "attributes": {
            "debtor_number": "D7", "contactType": "HCP", "contactCategory": "A", "contactSpecialty": "Oncologist",
            "webPage": "https://example.com/7", "facebookId": "f7", "twitterId": "t7", "shoe": 44,
            "since": "2020-02-29", "privacyLevel": "high", "sendAffiliateMarketingMaterial": false,
            "contact_type": "Billing", "accountingMode": "AddToDraft", "accountingTime": "BeforeWork",
            "invoiceDelivery": "Email", "notifyBeforeWork": true, "ean": "5790",
        },
    })
}

/// The same person, with another value of every attribute.
fn everything_else() -> Value {
    json!({
        "kind": "person",
        "name": {
            "honorificPrefix": "Dr", "givenName": "Ilse", "middleName": "Maj", "familyName": "Vale",
            "honorificSuffix": "MD", "formatted": "Ilse Maj Vale",
        },
        "emails": [
            { "value": "work.too@example.com", "type": "work", "primary": true },
            { "value": "home.too@example.com", "type": "home" },
            { "value": "other.too@example.com", "type": "other" },
        ],
        "phoneNumbers": [
            { "value": "+35799555077", "type": "mobile", "primary": true },
            { "value": "+390236618311", "type": "work" },
            { "value": "+442079460019", "type": "fax" },
            { "value": "+14165550124", "type": "other" },
        ],
        "addresses": [
            {
                "type": "work", "streetAddress": "Quay Rd", "streetNumber": "15", "apartment": "4", "floor": "5",
                "poBox": "89", "locality": "Albany", "district": "North", "region": "NY", "postalCode": "12207",
                "country": "US", "geo": { "longitude": -73.75, "latitude": 42.625 }, "primary": true,
            },
            { "type": "home", "streetAddress": "Elm St", "locality": "Bern", "country": "CH" },
            { "type": "postal", "poBox": "78", "country": "CH" },
        ],
        "organization": {
            "name": "Mill Lane", "department": "Stock", "title": "Clerk", "registrationNumber": "R8",
            "vatNumber": "V8", "type": "firm", "marketSector": "private", "industry": "software",
        },
        "birthDate": "1990-01-31", "gender": "male", "preferredLanguage": "el", "notes": "Friends",
        "consent": { "marketing": false, "dataProcessing": false }, "active": true,
        "identifiers": { "id_number": "I8", "passport": "P8", "ssn": "S8", "customer_no": "K8" },
        "owner": "branch",
        "photos": [{ "value": format!("data:image/gif;base64,{GIF}"), "type": "thumbnail" }],
        "relations": [{ "type": "pays", "source": "/erp", "subject": "3", "notes": "m" }],
        "attributes": {
            "debtor_number": "D8", "contactType": "HCO", "contactCategory": "B", "contactSpecialty": "Cardiologist",
            "webPage": "https://example.com/8", "facebookId": "f8", "twitterId": "t8", "shoe": 45.5,
            "since": "2021-03-01", "privacyLevel": "low", "sendAffiliateMarketingMaterial": true,
            "contact_type": "Billing", "accountingMode": "AddToInvoice", "accountingTime": "AfterWork",
            "invoiceDelivery": "None", "notifyBeforeWork": false, "ean": "5791",
        },
    })
}

/// What all CRMs insist on, and nothing else. Of some attributes it is said that they are empty, of others nothing.
fn the_least() -> Value {
    json!({
        "name": { "honorificPrefix": null, "givenName": "Ilse", "familyName": "Vale" },
        "emails": [{ "value": "work.too@example.com", "primary": true }],
        "phoneNumbers": [], "addresses": null, "organization": { "name": null, "title": "" }, "notes": null,
        "birthDate": null, "consent": { "marketing": null },
    })
}

/// An organization about which everything is said that is said of a person.
fn organization(mut said: Value) -> Value {
    said["kind"] = json!("organization");
    said
}

/// What a life is told: everything, everything else, the least.
fn of_a_person() -> [Value; 3] {
    [everything(), everything_else(), the_least()]
}

/// As [`of_a_person`].
fn of_an_organization() -> [Value; 3] {
    let mut least = organization(the_least());
    least["organization"]["name"] = json!("Mill Lane");
    least.as_object_mut().expect("a contact is an object").remove("name");
    [organization(everything()), organization(everything_else()), least]
}

#[test]
fn everything_is_all_that_the_document_has_and_everything_else_is_other() {
    let (first, other) = (everything(), everything_else());
    for said in [&first, &other] {
        let document: Document = serde_json::from_value(said.clone()).expect("a contact");
        let said: BTreeSet<&str> = schema::leaves_said(&document).collect();
        assert_eq!(schema::leaves().filter(|leaf| !said.contains(leaf)).collect::<Vec<_>>(), Vec::<&str>::new());
    }
    // A kind never changes, that all are active is what the deletion is about, and labels are how values are told apart.
    let same = ["/kind", "/active", "/type", "/primary", "/contact_type"];
    let mut equal = Vec::new();
    alike("", &first, &other, &mut equal);
    equal.retain(|pointer| !same.iter().any(|end| pointer.ends_with(end)));
    assert_eq!(equal, ["/organization/type"; 0]);
}

/// The places at which both say the same.
fn alike(at: &str, one: &Value, other: &Value, equal: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(members), _) => {
            members.iter().for_each(|(name, member)| alike(&format!("{at}/{name}"), member, &other[name], equal));
        }
        (Value::Array(items), _) => {
            items.iter().enumerate().for_each(|(index, item)| alike(at, item, &other[index], equal));
        }
        _ if one == other => equal.push(at.to_owned()),
        _ => {}
    }
}

#[test]
fn an_organization_is_not_supported_where_there_are_only_persons() {
    for kind in [CrmKind::Priava, CrmKind::NextinteractSam, CrmKind::Logisense] {
        play(async {
            let tenant: &'static [Tenant] = Box::leak(Box::new([Tenant { name: "persons", kind }]));
            let mut scene = Scene::begin(World::of(Setup { crms: tenant, ..Setup::default() }).await).await;
            let said = organization(everything());
            scene.world.publish(vec![event("/shop", "1", "e1", "contact.updated", 1, Some(said))]).await;
            let evidence = scene.settled().await;
            let [end] = evidence.outcomes.as_slice() else { panic!("one end, not {:?}", evidence.outcomes) };
            let reason = end.reason.as_ref().map(|reason| reason.code);
            assert_eq!((end.outcome, reason), (OutcomeKind::Unsupported, Some(ReasonCode::Kind)), "{kind:?}");
            assert!(scene.world.sandbox.contacts().is_empty(), "{kind:?}");
        });
    }
}

/// All that a person's name has, which an organization does not go by.
const NAMES: &[&str] = &[
    "/name/honorificPrefix",
    "/name/givenName",
    "/name/middleName",
    "/name/familyName",
    "/name/honorificSuffix",
    "/name/formatted",
];

/// A loss report with more places in it, and without those that an organization has a field for.
fn lost_of_organization(lost: &[&'static str], more: &[&'static str], carried: &[&str]) -> Vec<&'static str> {
    let kept = lost.iter().filter(|place| !carried.contains(place));
    kept.chain(more).chain(NAMES).copied().collect()
}

/// What becomes of a contact that is deleted.
enum Deleted {
    /// It is as it was, but for these fields.
    Stays(Value),
    /// It is as it was: the CRM has no word for it.
    Unsupported,
    /// Nobody is there.
    Gone,
}

/// The expected life of a contact in one CRM.
struct Life {
    tenant: &'static [Tenant],
    prepare: fn(&mut World),
    /// What a simulated CRM shows of a contact, in the words in which it is expected: without our reference and what the
    /// CRM makes itself.
    held: fn(&Value) -> Value,
    /// What is said: as [`of_a_person`] or [`of_an_organization`] has it.
    said: [Value; 3],
    /// What the CRM holds of each of the three. Whom it names by an id of its own is named by the family name.
    full: Value,
    changed: Value,
    least: Value,
    deleted: Deleted,
    /// The loss report, which is the same of everything and of everything else.
    lost: Vec<&'static str>,
}

impl Life {
    fn comes_true(self) {
        play(async {
            let mut world = World::of(Setup { crms: self.tenant, ..Setup::default() }).await;
            (self.prepare)(&mut world);
            let mut scene = Scene::begin(world).await;
            let others = OTHERS.map(|(source, subject, family)| {
                let said = other(subject, family);
                event(source, subject, &format!("other{subject}"), "contact.updated", 1, Some(said))
            });
            scene.world.publish(others.into()).await;
            scene.settled().await;

            let before = self.lost(&scene);
            let end = self.says(&mut scene, 1, Some(self.said[0].clone())).await;
            assert_eq!((end.outcome, end.operation), (OutcomeKind::Delivered, Some(Operation::Create)), "{end:?}");
            self.holds(&scene, "made", 1, &self.full);
            self.loses(&scene, "everything", &before);

            let before = self.lost(&scene);
            let end = self.says(&mut scene, 2, Some(self.said[1].clone())).await;
            assert_eq!((end.outcome, end.operation), (OutcomeKind::Delivered, Some(Operation::Update)));
            self.holds(&scene, "changed", 1, &self.changed);
            self.loses(&scene, "everything else", &before);

            let end = self.says(&mut scene, 3, Some(self.said[2].clone())).await;
            assert_eq!((end.outcome, end.operation), (OutcomeKind::Delivered, Some(Operation::Update)));
            self.holds(&scene, "emptied", 1, &self.least);

            let end = self.says(&mut scene, 4, None).await;
            let stay = match &self.deleted {
                Deleted::Stays(fields) => {
                    assert_eq!((end.outcome, end.operation), (OutcomeKind::Delivered, Some(Operation::Deactivate)));
                    let mut held = self.least.clone();
                    merge(&mut held, fields);
                    self.holds(&scene, "deleted", 1, &held);
                    1
                }
                Deleted::Unsupported => {
                    let reason = end.reason.as_ref().map(|reason| reason.code);
                    assert_eq!((end.outcome, reason), (OutcomeKind::Unsupported, Some(ReasonCode::Deactivate)));
                    self.holds(&scene, "deleted", 1, &self.least);
                    1
                }
                Deleted::Gone => {
                    assert_eq!((end.outcome, end.operation), (OutcomeKind::Delivered, Some(Operation::Delete)));
                    assert_eq!(scene.world.sandbox.contacts().len(), OTHERS.len());
                    0
                }
            };

            // Who comes back is somebody new.
            let end = self.says(&mut scene, 5, Some(self.said[0].clone())).await;
            assert_eq!((end.outcome, end.operation), (OutcomeKind::Delivered, Some(Operation::Create)));
            self.holds(&scene, "made again", stay + 1, &self.full);
        });
    }

    /// Says it of the one subject, and waits for what became of it.
    async fn says(&self, scene: &mut Scene, version: u64, said: Option<Value>) -> Outcome {
        let verb = if said.is_some() { "contact.updated" } else { "contact.deleted" };
        let id = format!("e{version}");
        scene.world.publish(vec![event("/shop", "1", &id, verb, version, said)]).await;
        let evidence = scene.settled().await;
        // What was answered may be read a moment after its effect.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let is_its =
            |outcome: &&Outcome| outcome.event.as_ref().is_some_and(|event| event.id.as_deref() == Some(id.as_str()));
        evidence.outcomes.iter().find(is_its).cloned().expect("all has ended")
    }

    /// So many contacts are there beside the others, and the newest is this.
    #[track_caller]
    fn holds(&self, scene: &Scene, what: &str, count: usize, expected: &Value) {
        let contacts = scene.world.sandbox.contacts();
        let (others, ours) = contacts.split_at(OTHERS.len());
        assert_eq!(ours.len(), count, "{what}");
        let mut newest = ours.last().expect("somebody is there").clone();
        others.iter().for_each(|other| name_other(&mut newest, other));
        let held = (self.held)(&newest);
        assert!(held == *expected, "{what}: {}", differences(&held, expected));
    }

    /// How often the loss report has each place.
    fn lost(&self, scene: &Scene) -> BTreeMap<String, f64> {
        let begin = format!("contact_replicator_fields_lost_total{{crm=\"{}\",field=\"", self.tenant[0].name);
        let counted = |line: &str| {
            let (place, rest) = line.strip_prefix(&begin)?.split_once('"')?;
            Some((place.to_owned(), rest.rsplit_once(' ')?.1.parse().ok()?))
        };
        scene.world.metrics(0).lines().filter_map(counted).collect()
    }

    /// The loss report has these places, and no other, beside what it had before.
    #[track_caller]
    fn loses(&self, scene: &Scene, what: &str, before: &BTreeMap<String, f64>) {
        let now = self.lost(scene);
        let is_new = |place: &&String| now[*place] > before.get(*place).copied().unwrap_or_default();
        let lost: BTreeSet<&str> = now.keys().filter(is_new).map(String::as_str).collect();
        let expected: BTreeSet<&str> = self.lost.iter().copied().collect();
        let only = |these: &BTreeSet<&str>, those: &BTreeSet<&str>| -> Vec<String> {
            these.difference(those).map(|place| (*place).to_owned()).collect()
        };
        let (more, missing) = (only(&lost, &expected), only(&expected, &lost));
        assert!(
            more.is_empty() && missing.is_empty(),
            "of {what} it reports {more:?}, and does not report {missing:?}"
        );
    }
}

/// Puts the family name of another contact wherever `contact` has the id that the CRM gave it.
fn name_other(contact: &mut Value, other: &Value) {
    let (_, _, family) =
        OTHERS.into_iter().find(|(_, _, family)| other.to_string().contains(family)).expect("an other");
    let id = other["id"].clone();
    match contact {
        Value::Object(members) => members.values_mut().for_each(|member| name_other(member, other)),
        Value::Array(items) => items.iter_mut().for_each(|item| name_other(item, other)),
        value if *value == id && value.is_string() => *value = json!(family),
        _ => {}
    }
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(members), Value::Object(more)) => {
            more.iter().for_each(|(name, value)| merge(members.entry(name.clone()).or_insert(Value::Null), value));
        }
        (into, more) => *into = more.clone(),
    }
}

/// Where two values differ, a line each.
fn differences(held: &Value, expected: &Value) -> String {
    let (mut of_held, mut of_expected) = (Vec::new(), Vec::new());
    flat("", held, &mut of_held);
    flat("", expected, &mut of_expected);
    let only = |these: &[(String, String)], those: &[(String, String)], sign: &str| {
        let those: BTreeSet<_> = those.iter().collect();
        let lines =
            these.iter().filter(|one| !those.contains(one)).map(|(at, value)| format!("\n  {sign} {at}: {value}"));
        lines.collect::<String>()
    };
    format!("{}{}", only(&of_held, &of_expected, "it has"), only(&of_expected, &of_held, "it should have"))
}

fn flat(at: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            members.iter().for_each(|(name, member)| flat(&format!("{at}/{name}"), member, into));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(index, item)| flat(&format!("{at}/{index}"), item, into));
        }
        value => into.push((at.to_owned(), value.to_string())),
    }
}

/// Without members that are `null`, at any depth, and without objects that are then empty.
fn said(value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(members) => {
            let members: Map<_, _> =
                members.iter().filter_map(|(name, value)| Some((name.clone(), said(value)?))).collect();
            (!members.is_empty()).then_some(Value::Object(members))
        }
        value => Some(value.clone()),
    }
}

/// Takes our reference away, which is the id of the contact.
#[track_caller]
fn take_reference(fields: &mut Value, name: &str) {
    let reference = fields.as_object_mut().and_then(|members| members.remove(name));
    let length = reference.as_ref().and_then(Value::as_str).map(str::len);
    assert_eq!(length, Some(36), "{name} is our reference: {reference:?}");
}
