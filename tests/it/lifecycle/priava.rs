//! Priava, section 8 of its contract, under the settings' defaults.

use contact_replicator::config::CrmKind;
use serde_json::{Value, json};

use super::{Deleted, Life, of_a_person, said, take_reference};
use crate::world::{CRM, Tenant};

const TENANT: &[Tenant] = &[Tenant { name: CRM, kind: CrmKind::Priava }];

fn held(contact: &Value) -> Value {
    let mut fields = said(&contact["fields"]).expect("a contact has fields");
    take_reference(&mut fields, "externalIntegrationId");
    fields
}

/// Middle names and suffixes, further e-mail addresses and numbers, what an address has no line for, numbers of the
/// organisation, and what Priava knows nothing of.
const LOST: &[&str] = &[
    "/name/middleName",
    "/name/honorificSuffix",
    "/name/formatted",
    "/emails/value",
    "/phoneNumbers/value",
    "/addresses/poBox",
    "/addresses/district",
    "/addresses/geo",
    "/organization/registrationNumber",
    "/organization/vatNumber",
    "/organization/industry",
    "/birthDate",
    "/gender",
    "/preferredLanguage",
    "/notes",
    "/identifiers",
    "/owner",
    "/photos",
    "/relations",
    "/attributes",
];

#[test]
fn a_life_in_priava_is_what_the_table_says() {
    let full = json!({
        "integrationSrc": "sim", "firstName": "Ilka", "lastName": "Sundstrom", "title": "Ms",
        "email": "work@example.com", "mobile": "+35799555012", "phoneNumber": "+390236618300",
        "organisation": "Harbour Lane", "department": "Sales", "jobTitle": "Lead", "debtorNumber": "D7",
        "marketingOptOut": false, "personalInformationConsent": true, "inactive": false,
        "organisationAddress": {
            "addressLine1": "Kanal St 14", "addressLine2": "2", "addressLine3": "3", "suburb": "Guelph",
            "state": "ON", "postcode": "N1G 2W1", "country": "Canada",
        },
        "postalAddress": { "addressLine1": "PO Box 77", "country": "United Kingdom" },
        "otherAddress": { "addressLine1": "Pine St", "suburb": "London", "country": "United Kingdom" },
    });
    let changed = json!({
        "integrationSrc": "sim", "firstName": "Ilse", "lastName": "Vale", "title": "Dr",
        "email": "work.too@example.com", "mobile": "+35799555077", "phoneNumber": "+390236618311",
        "organisation": "Mill Lane", "department": "Stock", "jobTitle": "Clerk", "debtorNumber": "D8",
        "marketingOptOut": true, "personalInformationConsent": false, "inactive": false,
        "organisationAddress": {
            "addressLine1": "Quay Rd 15", "addressLine2": "4", "addressLine3": "5", "suburb": "Albany",
            "state": "NY", "postcode": "12207", "country": "United States",
        },
        "postalAddress": { "addressLine1": "PO Box 78", "country": "Switzerland" },
        "otherAddress": { "addressLine1": "Elm St", "suburb": "Bern", "country": "Switzerland" },
    });
    let least = json!({
        "integrationSrc": "sim", "firstName": "Ilse", "lastName": "Vale", "email": "work.too@example.com",
        "inactive": false,
    });
    let deleted = Deleted::Stays(json!({ "inactive": true }));
    let life = Life {
        tenant: TENANT,
        prepare: |_| (),
        held,
        said: of_a_person(),
        full,
        changed,
        least,
        deleted,
        lost: LOST.to_vec(),
    };
    life.comes_true();
}
