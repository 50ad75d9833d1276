//! CRM.COM, section 8 of its contract, of a tenant with lists and fields of its own.

use contact_replicator::config::{CrmComSettings, CrmKind};
use serde_json::{Value, json};

use super::{
    Deleted, GIF_SHA256, Life, PNG_SHA256, lost_of_organization, of_a_person, of_an_organization, take_reference,
};
use crate::{
    crm_com::{configured, held_of, table},
    world::Tenant,
};

const TENANT: &[Tenant] = &[Tenant { name: "crm-com", kind: CrmKind::CrmCom }];

fn with_lists(settings: &mut CrmComSettings) {
    configured(settings);
    settings.groups = table([("hq", "Head office"), ("branch", "Branch")]);
    settings.industries = table([("shops", "Retail"), ("software", "Software")]);
    settings.industry_sectors = table([("state", "Public"), ("private", "Private")]);
    settings.privacy_levels = table([("high", "3"), ("low", "1")]);
    settings.relation_types = table([("pays", "CUSTOM2")]);
}

fn held(contact: &Value) -> Value {
    let mut fields = held_of(contact.clone());
    take_reference(&mut fields, "udf_string_16");
    let members = fields.as_object_mut().expect("a contact is an object");
    assert_eq!(members.remove("udf_string_15"), Some(json!("sim")));
    // Of whom a relation names, CRM.COM shows the name too.
    for relation in members.get_mut("relation_set").and_then(Value::as_array_mut).into_iter().flatten() {
        relation["contact"] = relation["contact"]["id"].clone();
    }
    let photo = &contact["photo"];
    if !photo.is_null() {
        members.insert("photo".to_owned(), json!([photo["file_mime_type"], photo["sha256"]]));
    }
    fields
}

/// What belongs to companies, what the tenant has no field for, and what CRM.COM knows nothing of; of the label `other`
/// that its entries stand where anything stands that there is no type left for. The full name is not among them: CRM.COM
/// puts the same one together.
const LOST: &[&str] = &[
    "/name/honorificSuffix",
    "/emails/type",
    "/phoneNumbers/type",
    "/addresses/geo",
    "/organization/name",
    "/organization/registrationNumber",
    "/organization/vatNumber",
    "/attributes",
];

fn life() -> Life {
    let full = json!({
        "type": "PERSON", "title": "Ms", "first_name": "Ilka", "middle_name": "Vera", "last_name": "Sundstrom",
        "preferred_language": "SWE", "category": "Residential", "owned_by_group": "Head office",
        "privacy_level": "Level 3", "notes": "contact-replicator 1/1/2026 9:00:00 Family",
        "authorization_settings":
            { "send_direct_marketing_material": true, "send_affiliate_marketing_material": false },
        "udf_string_1": "true", "udf_string_2": "Sales", "udf_string_3": "Lead", "udf_string_4": "true",
        "udf_string_5": "K7", "udf_float_1": 44, "udf_date_1": "2020-02-29T00:00:00",
        "photo": ["image/png", PNG_SHA256],
        "relation_set": [{ "type": "CUSTOM2", "notes": "n", "contact": "Payer" }],
        "demographics": {
            "gender": "FEMALE", "id_number": "I7", "passport_number": "P7", "social_security_number": "S7",
            "date_of_birth": { "day": 3, "month": 9, "year": 1988 }, "industry": "Retail", "industry_sector": "Public",
        },
        "emails_set": [
            { "type": "BUSINESS", "email": "work@example.com" }, { "type": "CUSTOM1", "email": "other@example.com" },
            { "type": "PERSONAL", "email": "home@example.com" },
        ],
        "phones_set": [
            { "type": "CUSTOM1", "number": "4165550123", "country": "Canada" },
            { "type": "FAX", "number": "2079460018", "country": "United Kingdom" },
            { "type": "LANDLINE", "number": "0236618300", "country": "Italy" },
            { "type": "MOBILE", "number": "99555012", "country": "Cyprus" },
        ],
        "addresses_set": [
            {
                "type": "BUSINESS", "street_name": "Kanal St", "street_number": "14", "apartment_number": "2",
                "floor": 3, "po_box": "88", "town_city": "Guelph", "district": "Ward", "municipality": "ON",
                "postal_code": "N1G 2W1", "country": "Canada",
            },
            { "type": "HOME", "street_name": "Pine St", "town_city": "London", "country": "United Kingdom" },
            { "type": "POBOX", "street_name": "PO Box 77", "po_box": "77", "country": "United Kingdom" },
        ],
    });
    let changed = json!({
        "type": "PERSON", "title": "Dr", "first_name": "Ilse", "middle_name": "Maj", "last_name": "Vale",
        "preferred_language": "ELL", "category": "Business", "owned_by_group": "Branch",
        "privacy_level": "Level 1", "notes": "contact-replicator 1/1/2026 9:00:00 Friends",
        "authorization_settings":
            { "send_direct_marketing_material": false, "send_affiliate_marketing_material": true },
        "udf_string_1": "true", "udf_string_2": "Stock", "udf_string_3": "Clerk", "udf_string_4": "false",
        "udf_string_5": "K8", "udf_float_1": 45.5, "udf_date_1": "2021-03-01T00:00:00",
        "photo": ["image/gif", GIF_SHA256],
        "relation_set": [{ "type": "CUSTOM2", "notes": "m", "contact": "Guardian" }],
        "demographics": {
            "gender": "MALE", "id_number": "I8", "passport_number": "P8", "social_security_number": "S8",
            "date_of_birth": { "day": 31, "month": 1, "year": 1990 }, "industry": "Software",
            "industry_sector": "Private",
        },
        "emails_set": [
            { "type": "BUSINESS", "email": "work.too@example.com" },
            { "type": "CUSTOM1", "email": "other.too@example.com" },
            { "type": "PERSONAL", "email": "home.too@example.com" },
        ],
        "phones_set": [
            { "type": "CUSTOM1", "number": "4165550124", "country": "Canada" },
            { "type": "FAX", "number": "2079460019", "country": "United Kingdom" },
            { "type": "LANDLINE", "number": "0236618311", "country": "Italy" },
            { "type": "MOBILE", "number": "99555077", "country": "Cyprus" },
        ],
        "addresses_set": [
            {
                "type": "BUSINESS", "street_name": "Quay Rd", "street_number": "15", "apartment_number": "4",
                "floor": 5, "po_box": "89", "town_city": "Albany", "district": "North", "municipality": "NY",
                "postal_code": "12207", "country": "United States",
            },
            { "type": "HOME", "street_name": "Elm St", "town_city": "Bern", "country": "Switzerland" },
            { "type": "POBOX", "street_name": "PO Box 78", "po_box": "78", "country": "Switzerland" },
        ],
    });
    let least = json!({
        "type": "PERSON", "first_name": "Ilse", "last_name": "Vale",
        "emails_set": [{ "type": "PERSONAL", "email": "work.too@example.com" }],
    });
    Life {
        tenant: TENANT,
        prepare: |world| with_lists(world.settings.crm[0].crm_com.as_mut().expect("it is a CRM.COM")),
        held,
        said: of_a_person(),
        full,
        changed,
        least,
        deleted: Deleted::Stays(json!({ "udf_string_1": "false" })),
        lost: LOST.to_vec(),
    }
}

#[test]
fn a_life_in_crm_com_is_what_the_table_says() {
    life().comes_true();
}

#[test]
fn a_company_in_crm_com_is_what_the_table_says() {
    let mut life = life();
    for (held, name, numbers) in
        [(&mut life.full, "Harbour Lane", ("R7", "V7")), (&mut life.changed, "Mill Lane", ("R8", "V8"))]
    {
        let members = held.as_object_mut().expect("a contact is an object");
        ["title", "first_name", "middle_name", "last_name"]
            .iter()
            .for_each(|of_person| drop(members.remove(*of_person)));
        let person = members.remove("demographics").expect("a person has them");
        members.insert("type".to_owned(), json!("COMPANY"));
        members.insert("company_name".to_owned(), json!(name));
        members.insert(
            "company_profile".to_owned(),
            json!({
                "registration_number": numbers.0, "vat_registration_number": numbers.1,
                "industry": person["industry"], "industry_sector": person["industry_sector"],
            }),
        );
    }
    life.least = json!({
        "type": "COMPANY", "company_name": "Mill Lane",
        "emails_set": [{ "type": "PERSONAL", "email": "work.too@example.com" }],
    });
    // What belongs to persons, among it their national numbers, and the rest as of a person.
    let lost = lost_of_organization(
        LOST,
        &["/birthDate", "/gender", "/identifiers"],
        &["/organization/name", "/organization/registrationNumber", "/organization/vatNumber"],
    );
    Life { said: of_an_organization(), lost, ..life }.comes_true();
}
