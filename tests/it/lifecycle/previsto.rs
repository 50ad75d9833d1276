//! Previsto, section 8 of its contract, under the settings' defaults: deleted contacts are archived.

use contact_replicator::config::{CrmKind, OnDelete};
use serde_json::{Value, json};

use super::{Deleted, Life, lost_of_organization, of_a_person, of_an_organization, said, take_reference};
use crate::world::{Tenant, World};

const TENANT: &[Tenant] = &[Tenant { name: "previsto", kind: CrmKind::Previsto }];

fn held(contact: &Value) -> Value {
    let mut fields = said(&contact["fields"]).expect("a contact has fields");
    take_reference(&mut fields, "number");
    take_reference(&mut fields["meta"], "externalRef");
    let members = fields.as_object_mut().expect("a contact has fields");
    members.remove("id");
    members.remove("agentIds");
    fields
}

/// What does not stand in the one name, further e-mail addresses, numbers and addresses with all labels, what the one
/// address has no field for, the number of the register beside that of the tax, what fits into no text, and what is noted of whoever
/// pays.
const LOST: &[&str] = &[
    "/name/honorificPrefix",
    "/name/honorificSuffix",
    "/emails/value",
    "/emails/type",
    "/phoneNumbers/value",
    "/phoneNumbers/type",
    "/addresses",
    "/addresses/type",
    "/addresses/district",
    "/addresses/region",
    "/addresses/poBox",
    "/organization/registrationNumber",
    "/organization/industry",
    "/identifiers",
    "/owner",
    "/photos",
    "/relations/notes",
];

fn life(prepare: fn(&mut World), deleted: Deleted) -> Life {
    let full = json!({
        "name": "Ilka Vera Sundstrom", "email": "work@example.com", "phone": "+35799555012",
        "address": "Kanal St 14, 3", "appartment": "2", "postalCode": "N1G 2W1", "city": "Guelph",
        "countryCode": "CA", "location": [-80.25, 43.5], "registrationNo": "V7", "note": "Family", "archived": false,
        "accountingMode": "AddToDraft", "accountingTime": "BeforeWork", "invoiceDelivery": "Email",
        "notifyBeforeWork": true, "ean": "5790", "payingContactId": "Payer",
        "meta": {
            "source": "sim", "kind": "person", "organization": "Harbour Lane", "department": "Sales",
            "jobTitle": "Lead", "organizationType": "household", "marketSector": "state",
            "birthDate": "1988-09-03", "gender": "female", "language": "sv", "consentMarketing": "true",
            "consentDataProcessing": "true", "attr_debtor_number": "D7", "attr_contactType": "HCP",
            "attr_contactCategory": "A", "attr_contactSpecialty": "Oncologist",
            "attr_webPage": "https://example.com/7", "attr_facebookId": "f7", "attr_twitterId": "t7",
            "attr_shoe": "44", "attr_since": "2020-02-29", "attr_privacyLevel": "high",
            "attr_sendAffiliateMarketingMaterial": "false", "attr_contact_type": "Billing",
        },
    });
    let changed = json!({
        "name": "Ilse Maj Vale", "email": "work.too@example.com", "phone": "+35799555077",
        "address": "Quay Rd 15, 5", "appartment": "4", "postalCode": "12207", "city": "Albany",
        "countryCode": "US", "location": [-73.75, 42.625], "registrationNo": "V8", "note": "Friends",
        "archived": false, "accountingMode": "AddToInvoice", "accountingTime": "AfterWork",
        "invoiceDelivery": "None", "notifyBeforeWork": false, "ean": "5791", "payingContactId": "Guardian",
        "meta": {
            "source": "sim", "kind": "person", "organization": "Mill Lane", "department": "Stock",
            "jobTitle": "Clerk", "organizationType": "firm", "marketSector": "private",
            "birthDate": "1990-01-31", "gender": "male", "language": "el", "consentMarketing": "false",
            "consentDataProcessing": "false", "attr_debtor_number": "D8", "attr_contactType": "HCO",
            "attr_contactCategory": "B", "attr_contactSpecialty": "Cardiologist",
            "attr_webPage": "https://example.com/8", "attr_facebookId": "f8", "attr_twitterId": "t8",
            "attr_shoe": "45.5", "attr_since": "2021-03-01", "attr_privacyLevel": "low",
            "attr_sendAffiliateMarketingMaterial": "true", "attr_contact_type": "Billing",
        },
    });
    let least = json!({
        "name": "Ilse Vale", "email": "work.too@example.com", "archived": false, "notifyBeforeWork": false,
        "meta": { "source": "sim" },
    });
    Life { tenant: TENANT, prepare, held, said: of_a_person(), full, changed, least, deleted, lost: LOST.to_vec() }
}

#[test]
fn a_life_in_previsto_is_what_the_table_says() {
    life(|_| (), Deleted::Stays(json!({ "archived": true }))).comes_true();
}

#[test]
fn a_life_in_previsto_may_end_for_good() {
    life(|world| world.settings.crm[0].on_delete = OnDelete::Delete, Deleted::Gone).comes_true();
}

#[test]
fn an_organization_in_previsto_is_what_the_table_says() {
    let mut life = life(|_| (), Deleted::Stays(json!({ "archived": true })));
    for (held, name) in [(&mut life.full, "Harbour Lane"), (&mut life.changed, "Mill Lane")] {
        held["name"] = json!(name);
        held["meta"]["kind"] = json!("organization");
        held["meta"].as_object_mut().expect("it is an object").remove("organization");
    }
    life.least["name"] = json!("Mill Lane");
    life.least["meta"]["kind"] = json!("organization");
    // As of a person; an organization goes by its own name, so that those of a person are lost.
    let lost = lost_of_organization(LOST, &[], &[]);
    Life { said: of_an_organization(), lost, ..life }.comes_true();
}
