//! NextInteract SAM, section 8 of its contract, under the settings' defaults.

use contact_replicator::config::{CrmKind, OrganizationKind};
use serde_json::{Value, json};

use super::{Deleted, Life, lost_of_organization, of_a_person, of_an_organization, said, take_reference};
use crate::world::{Tenant, World};

const TENANT: &[Tenant] = &[Tenant { name: "sam", kind: CrmKind::NextinteractSam }];

fn held(contact: &Value) -> Value {
    let mut fields = said(&contact["fields"]).expect("a contact has fields");
    take_reference(&mut fields, "externalId");
    // When the change came in.
    let modified = fields.as_object_mut().and_then(|members| members.remove("contactModified"));
    assert!(modified.is_some_and(|modified| modified.is_i64() || modified.is_u64()), "it is in milliseconds");
    fields
}

/// The third e-mail address and the third address, all labels of e-mail and address, and what SAM knows nothing of. The
/// owner and the market sector are switched off by default. That a contact is active needs no word.
const LOST: &[&str] = &[
    "/name/middleName",
    "/name/honorificSuffix",
    "/name/formatted",
    "/emails/value",
    "/emails/type",
    "/addresses",
    "/addresses/type",
    "/addresses/geo",
    "/organization/registrationNumber",
    "/organization/vatNumber",
    "/organization/type",
    "/organization/marketSector",
    "/organization/industry",
    "/gender",
    "/preferredLanguage",
    "/consent/marketing",
    "/consent/dataProcessing",
    "/identifiers",
    "/owner",
    "/photos",
    "/relations",
    "/attributes",
];

fn life() -> Life {
    let full = json!({
        "title": "Ms", "firstname": "Ilka", "lastname": "Sundstrom", "email1": "work@example.com",
        "email2": "home@example.com", "mobile": "+35799555012", "phone": "+390236618300",
        "otherPhone": "+14165550123", "faxNumber": "+442079460018",
        "workAddress1": "Kanal St 14", "workAddress2": "2", "workAddress3": "3, PO Box 88, Ward", "city": "Guelph",
        "state": "ON", "postCode": "N1G 2W1", "countryCode": "CA",
        "otherAddress1": "Pine St", "otherCity": "London", "otherCountryCode": "GB",
        "company": "Harbour Lane", "department": "Sales", "contactProfession": "Lead", "dateOfBirth": 589_248_000_000_u64,
        "notes": "Family", "contactType": "HCP", "contactCategory": "A", "contactSpecialty": "Oncologist",
        "webPage": "https://example.com/7", "facebookId": "f7", "twitterId": "t7",
    });
    let changed = json!({
        "title": "Dr", "firstname": "Ilse", "lastname": "Vale", "email1": "work.too@example.com",
        "email2": "home.too@example.com", "mobile": "+35799555077", "phone": "+390236618311",
        "otherPhone": "+14165550124", "faxNumber": "+442079460019",
        "workAddress1": "Quay Rd 15", "workAddress2": "4", "workAddress3": "5, PO Box 89, North", "city": "Albany",
        "state": "NY", "postCode": "12207", "countryCode": "US",
        "otherAddress1": "Elm St", "otherCity": "Bern", "otherCountryCode": "CH",
        "company": "Mill Lane", "department": "Stock", "contactProfession": "Clerk", "dateOfBirth": 633_744_000_000_u64,
        "notes": "Friends", "contactType": "HCO", "contactCategory": "B", "contactSpecialty": "Cardiologist",
        "webPage": "https://example.com/8", "facebookId": "f8", "twitterId": "t8",
    });
    let least = json!({ "firstname": "Ilse", "lastname": "Vale", "email1": "work.too@example.com" });
    let deleted = Deleted::Unsupported;
    Life {
        tenant: TENANT,
        prepare: |_| (),
        held,
        said: of_a_person(),
        full,
        changed,
        least,
        deleted,
        lost: LOST.to_vec(),
    }
}

#[test]
fn a_life_in_sam_is_what_the_table_says() {
    life().comes_true();
}

#[test]
fn an_organization_in_sam_is_what_the_table_says_where_it_may_be_one() {
    let mut life = life();
    for (held, name) in
        [(&mut life.full, "Harbour Lane"), (&mut life.changed, "Mill Lane"), (&mut life.least, "Mill Lane")]
    {
        let members = held.as_object_mut().expect("a contact is an object");
        ["title", "firstname"].iter().for_each(|of_person| drop(members.remove(*of_person)));
        members.extend([("lastname".to_owned(), json!(name)), ("company".to_owned(), json!(name))]);
    }
    let prepare = |world: &mut World| {
        let sam = world.settings.crm[0].nextinteract_sam.as_mut().expect("it is a SAM");
        sam.organization = OrganizationKind::LastName;
    };
    // As of a person, with all names of one.
    let lost = lost_of_organization(LOST, &["/kind"], &[]);
    Life { said: of_an_organization(), prepare, lost, ..life }.comes_true();
}
