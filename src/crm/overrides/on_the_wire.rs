//! What rules fill, clear and leave alone, in the requests as they are sent: of CRM.COM and LogiSense, where a contact takes
//! several, and a value has a shape of its own on the way.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::{
    tests::{connector, link, record, with_fields},
    *,
};
use crate::{
    crm::{
        Answer, Delivery, Response,
        link::Link,
        reference::Library,
        testing::{KEY, crm_com_crm, logisense_crm},
    },
    event::Operation,
};

/// The tenant's lists of LogiSense.
const LISTS: &[(&str, &str)] = &[
    ("ContactType", r#"[{"identity":20,"name":"Billing"},{"identity":21,"name":"Key account"}]"#),
    ("ContactPointType", r#"[{"identity":41,"name":"email","contactTypeId":21,"allowMultiple":true}]"#),
    ("Country", r#"[{"identity":2,"name":"Canada","code":"CA"}]"#),
    ("State", r#"[{"identity":9,"name":"Ontario","code":"ON","countryId":2}]"#),
];

/// What the delivery of a contact asks next, after `answers` and the lists that it asks for: method, path and body.
fn next(
    connector: &dyn Connector,
    (record, link): (&ContactRecord, Option<&Link>),
    (changes, clears): (&[&str], &[&str]),
    answers: &[Answer],
) -> String {
    let projection = connector.project(record, link).unwrap();
    let changes: Vec<Arc<str>> = changes.iter().map(|path| Arc::from(*path)).collect();
    let clears: Vec<String> = clears.iter().map(|path| (*path).to_owned()).collect();
    let operation = if link.is_some() { Operation::Update } else { Operation::Create };
    let library = Library::new(Duration::from_secs(60), Duration::from_secs(60));
    let mut heard = answers.to_vec();
    loop {
        let delivery = Delivery {
            record,
            link,
            projection: &projection,
            changes: &changes,
            clears: &clears,
            operation,
            look_up: None,
            references: &library.at(Instant::now()),
            tries: 0,
        };
        match connector.next(&delivery, &heard) {
            Step::Learned(learned) => {
                library.keep(learned, Instant::now());
                heard = answers.to_vec();
            }
            Step::Call(request) => match LISTS.iter().find(|(list, _)| request.path.ends_with(&format!("/{list}/"))) {
                Some((_, items)) => {
                    let items: Value = serde_json::from_str(items).unwrap();
                    heard.push(ok(json!({ "totalCount": items.as_array().map(Vec::len), "items": items })));
                }
                None => {
                    let body = std::str::from_utf8(&request.body).unwrap();
                    return format!("{} {} {body}", request.method, request.path);
                }
            },
            step => panic!("a request, not {step:?}"),
        }
    }
}

fn ok(body: Value) -> Answer {
    Ok(Response { status: http::StatusCode::OK, headers: http::HeaderMap::new(), body: Bytes::from(body.to_string()) })
}

#[test]
fn a_create_and_an_update_of_crm_com_carry_what_rules_say() {
    let connector = connector(&with_fields(
        crm_com_crm(),
        json!({
            "title": { "from": "/attributes/salutation", "values": { "Frau": "Ms" } },
            "last_name": "/attributes/surname",
            "category_identifier": "/attributes/tier",
            "notes": { "omit": true },
            "udf_float_2": "/attributes/seats",
            "demographics.date_of_birth": "/attributes/since",
            "demographics.country_of_residence_identifier": { "constant": "CY" },
        }),
    ));
    let said =
        |attributes: Value| record(json!({ "notes": "n", "phoneNumbers": [], "emails": [], "attributes": attributes }));
    let whole = said(json!({
        "salutation": "Frau", "surname": "Vale", "tier": "gold", "seats": 4, "since": "2001-04-01",
    }));
    let create = concat!(
        r#"POST /contact_information/create {"type":"PERSON","title":"Ms","first_name":"Ilka","last_name":"Vale","#,
        r#""category_identifier":{"name":"gold"},"udf_string_16":"00000000-0000-0000-0000-0000000001c3","udf_float_2":4,"#,
        r#""demographics":{"date_of_birth":{"day":1,"month":4,"year":2001},"#,
        r#""country_of_residence_identifier":{"two_character_code":"CY"}}}"#
    );
    assert_eq!(next(&*connector, (&whole, None), (&[], &[]), &[]), create);

    // What is left to the CRM's users is no more cleared than it is sent.
    let link = link(&["first_name", "notes", "title", "udf_float_2", "udf_string_16"]);
    let less = said(json!({ "surname": "Vale", "salutation": null, "since": null }));
    let update = concat!(
        r#"POST /contact_information/update {"contact_information_identifier":{"id":"7"},"title":null,"last_name":"Vale","#,
        r#""udf_float_2":null,"demographics":{"date_of_birth":null},"fields_set":"id,title,last_name,udf_float_2,demographics"}"#
    );
    let changes = ["title", "last_name", "demographics.date_of_birth"];
    assert_eq!(next(&*connector, (&less, Some(&link)), (&changes, &["udf_float_2"]), &[]), update);
}

#[test]
fn both_requests_of_logisense_carry_what_rules_say() {
    let connector = connector(&with_fields(
        logisense_crm(),
        json!({
            "contactTypeId": { "from": "/attributes/tier", "values": { "gold": "Key account" }, "otherwise": "Billing" },
            "title": "/attributes/salutation", "isUsedForTax": "/attributes/taxed",
            "address.address2": { "constant": "c/o Acme" }, "address.stateId": "/attributes/province",
        }),
    ));
    let record = |attributes: Value| {
        let address = json!([{ "streetAddress": "Kanal St", "locality": "Guelph", "region": "QC", "country": "CA" }]);
        record(json!({ "phoneNumbers": [], "emails": [], "addresses": address, "attributes": attributes }))
    };
    let whole = record(json!({ "tier": "gold", "salutation": "Frau", "taxed": true, "province": "ON" }));
    let create = concat!(
        r#"POST /ResourceServer/api/v6/Contact/ {"contactTypeId":21,"title":"00000000-0000-0000-0000-0000000001c3","#,
        r#""firstName":"Ilka","lastName":"Sundstrom","isUsedForTax":true}"#
    );
    assert_eq!(next(&*connector, (&whole, None), (&[], &[]), &[]), create);

    let mut begun = link(&[]);
    begun.incomplete = true;
    let bare = json!({ "instance": {
        "identity": 7, "contactTypeId": 21, "title": KEY, "firstName": "Ilka", "lastName": "Sundstrom",
        "isUsedForTax": true, "details": { "contactPoints": [], "address": null },
    } });
    let patch = concat!(
        r#"PATCH /ResourceServer/api/v6/Contact/7 {"title":"Frau","details":{"address":{"items":[{"patchType":"create","#,
        r#""patchClientId":1,"address1":"Kanal St","address2":"c/o Acme","cityName":"Guelph","stateId":9,"countryId":2}]}}}"#
    );
    assert_eq!(next(&*connector, (&whole, Some(&begun)), (&[], &[]), &[ok(bare)]), patch);

    // The flag has no empty state: it is cleared to what it is by default.
    let known = link(&["contactTypeId", "firstName", "isUsedForTax", "lastName", "title"]);
    let less = record(json!({ "tier": "gold", "salutation": null, "taxed": null, "province": "ON" }));
    let put = r#"PUT /ResourceServer/api/v6/Contact/7 {"identity":7,"title":null,"isUsedForTax":false}"#;
    assert_eq!(next(&*connector, (&less, Some(&known)), (&["isUsedForTax", "title"], &[]), &[]), put);
}
