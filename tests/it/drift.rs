//! CRM.COM and LogiSense, compared with the records: of a contact with all that can be said nothing is reported as long as
//! nobody touches it, whatever comes back otherwise than it was sent; what somebody changes by hand is found field by field;
//! and a repair brings that contact back and writes to no other.

use std::collections::BTreeSet;

use bytes::Bytes;
use contact_replicator::{
    config::{CrmComSettings, CrmKind},
    contact::ContactId,
    explain::Asked,
    resync::{self, Reply, What},
    sandbox::Sandbox,
    verify::{self, Counts, Found, Line, Order, Whom},
};
use serde_json::{Value, json};

use crate::{
    history::event,
    scene::{Scene, change, play},
    world::{Setup, Tenant, World, operator},
};

const CRM_COM: &[Tenant] = &[Tenant { name: "crm-com", kind: CrmKind::CrmCom }];
const LOGISENSE: &[Tenant] = &[Tenant { name: "billing", kind: CrmKind::Logisense }];

/// Every attribute of the document.
fn everything() -> Value {
    json!({
        "kind": "person",
        "name": {
            "honorificPrefix": "Ms", "givenName": "Ilka", "middleName": "Vera", "familyName": "Sundstrom",
            "honorificSuffix": "PhD", "formatted": "Ilka Vera Sundstrom",
        },
        "emails": [
            { "value": "Ilka@Example.com", "type": "work", "primary": true },
            { "value": "ilka@example.org", "type": "home" }, { "value": "more@example.com", "type": "work" },
        ],
        "phoneNumbers": [
            { "value": "+357 99 555012", "type": "mobile", "primary": true }, { "value": "+39 02 3661 8300", "type": "work" },
            { "value": "+44 (0)20 7946 0018", "type": "fax" }, { "value": "+1 416 555 0123", "type": "other" },
        ],
        "addresses": [
            {
                "type": "work", "streetAddress": "Kanal St\nRear", "streetNumber": "14", "apartment": "3", "floor": "2",
                "poBox": "88", "locality": "Guelph", "district": "Centre", "region": "ON", "postalCode": "N1G 2W1",
                "country": "CA", "geo": { "longitude": -80, "latitude": 43.5 }, "primary": true,
            },
            { "type": "home", "streetAddress": "Pine St", "locality": "Larnaca" },
            { "type": "postal", "poBox": "77", "country": "GB" },
        ],
        "organization": {
            "name": "Harbour", "department": "Sales", "title": "Lead", "registrationNumber": "1", "vatNumber": "2",
            "type": "household", "marketSector": "state", "industry": "shops",
        },
        "birthDate": "1988-09-03", "gender": "female", "preferredLanguage": "sv-SE", "notes": "Family\r\nof  Anna",
        "owner": "hq", "consent": { "marketing": true, "dataProcessing": false }, "active": true,
        "identifiers": { "id_number": "I7", "passport": "P7", "ssn": "S7", "customer_no": "K7" },
        "attributes": {
            "shoe": 44.5, "since": "2020-02-29", "privacyLevel": "high", "sendAffiliateMarketingMaterial": false,
        },
        "photos": [{ "value": "https://photos.example.com/1" }],
        "relations": [{ "type": "spouse", "source": "/shop", "subject": "2", "notes": "n" }],
    })
}

fn tables(settings: &mut CrmComSettings) {
    let table = |rows: &[(&str, &str)]| rows.iter().map(|(ours, theirs)| ((*ours).into(), (*theirs).into())).collect();
    settings.source_slot = "udf_string_15".to_owned();
    settings.user_defined = table(&[
        ("/active", "udf_string_1"),
        ("/organization/title", "udf_string_3"),
        ("/consent/dataProcessing", "udf_string_4"),
        ("/attributes/shoe", "udf_float_1"),
        ("/attributes/since", "udf_date_1"),
        ("/identifiers/customer_no", "udf_string_5"),
    ]);
    settings.categories = table(&[("household", "Residential")]);
    settings.groups = table(&[("hq", "Head office")]);
    settings.industries = table(&[("shops", "Retail")]);
    settings.industry_sectors = table(&[("state", "Public")]);
    settings.privacy_levels = table(&[("high", "3")]);
}

/// A CRM that has the contact with everything, and a bystander.
struct Compared {
    scene: Scene,
    crm: &'static str,
    /// What the CRM calls the contact with everything.
    full: String,
    hand: Hand,
}

/// Somebody who works in the CRM itself.
struct Hand {
    sandbox: Sandbox,
    token: String,
}

impl Hand {
    async fn send(&self, method: &str, path: &str, media: &str, body: String) -> Value {
        let request = http::Request::builder().method(method).uri(path).header("content-type", media);
        let request = request.header("authorization", format!("Bearer {}", self.token)).body(Bytes::from(body));
        let answer = self.sandbox.handle(request.expect("a request")).await.expect("nothing is broken");
        assert!(answer.status().is_success(), "{method} {path}: {:?}", answer.body());
        serde_json::from_slice(answer.body()).expect("an answer is JSON")
    }

    /// Into CRM.COM, with the password that the sandbox takes.
    async fn in_crm_com(sandbox: Sandbox) -> Self {
        let mut hand = Self { sandbox, token: String::new() };
        let login = json!({ "username": "contact-replicator", "password": "sandbox-token", "organisation": "example" });
        let path = "/crmapi/rest/v2/authentication/token";
        let answer = hand.send("POST", path, "application/json", login.to_string()).await;
        hand.token = answer["data"]["token"].as_str().expect("a token").to_owned();
        hand
    }

    async fn update_in_crm_com(&self, id: &str, mut change: Value) {
        change["token"] = json!(self.token);
        change["contact_information_identifier"] = json!({ "id": id });
        let path = "/crmapi/rest/v2/contact_information/update";
        let answer = self.send("POST", path, "application/json", change.to_string()).await;
        assert_eq!(answer["status"]["code"], "OK", "{change}: {answer}");
    }

    /// Into LogiSense, likewise.
    async fn in_logisense(sandbox: Sandbox) -> Self {
        let mut hand = Self { sandbox, token: String::new() };
        let form =
            "username=contact-replicator&password=sandbox-token&grant_type=password&client_id=contact-replicator";
        let path = "/AuthorizationServer/api/v6/Access/Login";
        let answer = hand.send("POST", path, "application/x-www-form-urlencoded", form.to_owned()).await;
        hand.token = answer["access_token"].as_str().expect("a token").to_owned();
        hand
    }

    async fn patch_in_logisense(&self, id: &str, change: Value) {
        let path = format!("/ResourceServer/api/v6/Contact/{id}");
        let method = if change.get("details").is_some() { "PATCH" } else { "PUT" };
        self.send(method, &path, "application/json", change.to_string()).await;
    }
}

impl Compared {
    async fn new(crms: &'static [Tenant]) -> Self {
        let mut world = World::of(Setup { crms, ..Setup::default() }).await;
        if let Some(crm_com) = &mut world.settings.crm[0].crm_com {
            tables(crm_com);
        }
        let mut scene = Scene::begin(world).await;
        scene.ready(0).await;
        scene.world.publish(vec![event("/shop", "full", "full-1", "contact.updated", 1, Some(everything()))]).await;
        scene.settled().await;
        let full = scene.world.sandbox.contacts()[0]["id"].as_str().expect("a contact has an id").to_owned();
        scene.world.publish(vec![change("bystander", 1, "Bea")]).await;
        scene.settled().await;
        let sandbox = scene.world.sandbox.clone();
        let hand = match crms[0].kind {
            CrmKind::CrmCom => Hand::in_crm_com(sandbox).await,
            _ => Hand::in_logisense(sandbox).await,
        };
        Self { scene, crm: crms[0].name, full, hand }
    }

    /// What the CRM holds of the contact with everything, and how often the bystander was written.
    fn stored(&self) -> (Value, u64) {
        let contacts = self.scene.world.sandbox.contacts();
        let of = |is_full: bool| {
            let contact = contacts.iter().find(|contact| (contact["id"] == self.full.as_str()) == is_full);
            contact.expect("both are there")
        };
        let mut held = of(true)["fields"].clone();
        without_made(&mut held);
        (held, of(false)["writes"].as_u64().expect("a count"))
    }

    /// Who differs and in what, and how many of what.
    async fn verified(&self) -> (Vec<(ContactId, String, BTreeSet<String>)>, Counts) {
        let order = Order { crm: self.crm.to_owned(), whom: Whom::All };
        let mut lines = verify::begin(self.scene.world.desk(0), &order).expect("the worker takes it");
        let (mut found, mut last) = (Vec::new(), None);
        while let Some(line) = lines.recv().await {
            if let Line::Found(finding) = &line {
                let Found::Drifted(fields) = &finding.what else { panic!("{finding:?}") };
                found.push((finding.contact, finding.remote_id.clone(), fields.clone()));
            }
            last = Some(line);
        }
        let Some(Line::Ended(counts)) = last else { panic!("{last:?}") };
        (found, counts)
    }

    /// Nothing differs, and both were compared.
    async fn assert_clean(&self, when: &Value) {
        let (found, counts) = self.verified().await;
        assert_eq!((&found, counts.equal, counts.looked_at), (&Vec::new(), 2, 2), "{when}");
    }

    /// What was just changed by hand is found under these names, and a repair undoes it and nothing else.
    async fn assert_mended(&mut self, change: &Value, expected: &[&str], before: &(Value, u64)) {
        let (found, counts) = self.verified().await;
        let [(contact, remote_id, fields)] = found.as_slice() else { panic!("{change}: {found:?}") };
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!((remote_id, fields.as_slice(), counts.equal), (&self.full, expected, 1), "{change}");
        let named = vec![Asked::About(contact.to_string())];
        let mend = resync::Order { crm: self.crm.to_owned(), what: What::Contacts(named) };
        let reply = resync::obey(self.scene.world.desk(0), &mend, &operator()).await.expect("the worker takes it");
        assert!(matches!(reply, Reply::Contacts { appended, .. } if appended.len() == 1));
        self.scene.settled().await;
        self.assert_clean(change).await;
        assert_eq!(self.stored(), *before, "{change}");
    }
}

/// Takes out what a CRM makes itself: ids of parts, and entries that were removed.
fn without_made(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for name in ["identity", "id"] {
                members.remove(name);
            }
            members.values_mut().for_each(without_made);
        }
        Value::Array(items) => {
            items.retain(|item| item["state"] != "Inactive");
            items.iter_mut().for_each(without_made);
            items.sort_by_key(Value::to_string);
        }
        _ => {}
    }
}

#[test]
fn what_was_changed_in_crm_com_by_hand_is_found_field_by_field_and_mended() {
    play(async {
        let mut compared = Compared::new(CRM_COM).await;
        compared.assert_clean(&Value::Null).await;
        let before = compared.stored();
        let entry = |set: &str, identifier: &str, of_type: &str, action: &str, more: Value| {
            let mut item = json!({ "action": action, identifier: { "type": of_type } });
            item.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            json!({ set: [item] })
        };
        for (change, fields) in [
            (json!({ "title": "Dr", "first_name": "Ilse" }), &["first_name", "title"][..]),
            (json!({ "middle_name": null }), &["middle_name"]),
            (json!({ "preferred_language": "ENG" }), &["preferred_language"]),
            (json!({ "category_identifier": { "name": "Business" } }), &["category_identifier"]),
            (json!({ "owned_by_group_identifier": null }), &["owned_by_group_identifier"]),
            (json!({ "privacy_level_identifier": { "number": "1" } }), &["privacy_level_identifier"]),
            (json!({ "notes": "by hand" }), &["notes"]),
            (json!({ "send_direct_marketing_material": false }), &["send_direct_marketing_material"]),
            (json!({ "send_affiliate_marketing_material": true }), &["send_affiliate_marketing_material"]),
            (json!({ "udf_string_1": "false", "udf_string_15": "x" }), &["udf_string_1", "udf_string_15"]),
            (json!({ "udf_float_1": 45, "udf_date_1": null }), &["udf_date_1", "udf_float_1"]),
            (
                json!({ "demographics": { "gender": "MALE", "id_number": "I8" } }),
                &["demographics.gender", "demographics.id_number"],
            ),
            (
                json!({ "demographics": { "date_of_birth": { "day": 4, "month": 9, "year": 1988 } } }),
                &["demographics.date_of_birth"],
            ),
            (json!({ "demographics": { "industry_identifier": null } }), &["demographics.industry_identifier"]),
            (
                entry(
                    "email_set",
                    "email_identifier",
                    "PERSONAL",
                    "UPDATE",
                    json!({ "email_address": "x@example.com" }),
                ),
                &["email_set.PERSONAL"],
            ),
            (entry("email_set", "email_identifier", "CUSTOM1", "REMOVE", json!({})), &["email_set.CUSTOM1"]),
            (
                entry("phone_set", "phone_identifier", "MOBILE", "UPDATE", json!({ "number": "99555013" })),
                &["phone_set.MOBILE"],
            ),
            (entry("phone_set", "phone_identifier", "FAX", "REMOVE", json!({})), &["phone_set.FAX"]),
            (
                entry(
                    "address_set",
                    "address_identifier",
                    "BUSINESS",
                    "UPDATE",
                    json!({ "floor": 3, "town_city": null }),
                ),
                &["address_set.BUSINESS"],
            ),
            (entry("address_set", "address_identifier", "HOME", "REMOVE", json!({})), &["address_set.HOME"]),
        ] {
            compared.hand.update_in_crm_com(&compared.full, change.clone()).await;
            compared.assert_mended(&change, fields, &before).await;
        }
        // What is not ours, and what only looks otherwise.
        let theirs = json!({
            "udf_string_9": "theirs",
            "email_set": [{ "action": "UPDATE", "email_identifier": { "type": "BUSINESS" }, "email_address": "ILKA@example.com" }],
            "address_set": [{ "action": "ADD", "type": "CUSTOM5", "street_name": "Theirs" }],
        });
        compared.hand.update_in_crm_com(&compared.full, theirs.clone()).await;
        compared.assert_clean(&theirs).await;
    });
}

#[test]
fn what_was_changed_in_logisense_by_hand_is_found_field_by_field_and_mended() {
    play(async {
        let mut compared = Compared::new(LOGISENSE).await;
        compared.assert_clean(&Value::Null).await;
        let before = compared.stored();
        let id = &compared.full.clone();
        // By its value, what a point of the contact is called now; and what its address is.
        let details = |compared: &Compared| {
            let contacts = compared.scene.world.sandbox.contacts();
            let contact = contacts.iter().find(|contact| contact["id"] == json!(id)).expect("it is there");
            contact["fields"]["details"].clone()
        };
        let point = |compared: &Compared, value: &str| {
            let details = details(compared);
            let mut points = details["contactPoints"].as_array().expect("points").iter();
            points.find(|point| point["value"] == value).expect("such a point")["identity"].clone()
        };
        let points = |items: Value| json!({ "details": { "contactPoints": { "items": items } } });
        for (change, fields) in [
            (json!({ "title": null, "firstName": "Ilse" }), &["firstName", "title"][..]),
            (json!({ "lastName": "Vale" }), &["lastName"]),
        ] {
            compared.hand.patch_in_logisense(id, change.clone()).await;
            compared.assert_mended(&change, fields, &before).await;
        }
        for (value, fields) in [
            ("Ilka@Example.com", "contactPoint.email.1"),
            ("ilka@example.org", "contactPoint.email.2"),
            ("+357 99 555012", "contactPoint.mobile.1"),
            ("+39 02 3661 8300", "contactPoint.work.1"),
            ("+44 (0)20 7946 0018", "contactPoint.fax.1"),
        ] {
            let other = if value.contains('@') { "x@example.com" } else { "+1 519 555 0100" };
            let change =
                points(json!([{ "patchType": "update", "identity": point(&compared, value), "value": other }]));
            compared.hand.patch_in_logisense(id, change.clone()).await;
            compared.assert_mended(&change, &[fields], &before).await;
            let change = points(json!([{ "patchType": "delete", "identity": point(&compared, value) }]));
            compared.hand.patch_in_logisense(id, change.clone()).await;
            compared.assert_mended(&change, &[fields], &before).await;
        }
        let surplus = points(
            json!([{ "patchType": "create", "patchClientId": 1, "contactPointTypeId": 41, "value": "x@example.com" }]),
        );
        compared.hand.patch_in_logisense(id, surplus.clone()).await;
        compared.assert_mended(&surplus, &["contactPoint.email.4"], &before).await;
        for (members, fields) in [
            (json!({ "address1": "Elsewhere", "address2": null }), &["address.address1", "address.address2"][..]),
            (json!({ "cityName": "Elora", "zipCode": "X" }), &["address.cityName", "address.zipCode"]),
            (json!({ "stateId": null }), &["address.stateId"]),
            (json!({ "latitude": 44.5 }), &["address.latitude"]),
        ] {
            let mut item = json!({ "patchType": "update", "identity": details(&compared)["address"]["identity"] });
            item.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
            let change = json!({ "details": { "address": { "items": [item] } } });
            compared.hand.patch_in_logisense(id, change.clone()).await;
            compared.assert_mended(&change, fields, &before).await;
        }
        let identity = details(&compared)["address"]["identity"].clone();
        let detach =
            json!({ "details": { "address": { "items": [{ "patchType": "detach", "identity": identity }] } } });
        compared.hand.patch_in_logisense(id, detach.clone()).await;
        let all = ["address1", "address2", "cityName", "countryId", "latitude", "longitude", "stateId", "zipCode"];
        let all: Vec<String> = all.iter().map(|member| format!("address.{member}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        compared.assert_mended(&detach, &all, &before).await;
    });
}

#[test]
fn what_a_comparison_reads_counts_among_the_exchanges_of_the_worker() {
    play(async {
        let compared = Compared::new(LOGISENSE).await;
        let exchanges =
            || compared.scene.world.metric(0, r#"request_duration_seconds_count{crm="billing",result="success"}"#);
        let (counted, asked) = (exchanges(), compared.scene.world.sandbox.calls());
        compared.verified().await;
        let sent = compared.scene.world.sandbox.calls() - asked;
        // A contact each, and the lists that they refer to.
        assert!(sent >= 2, "{sent}");
        assert_eq!(exchanges() - counted, sent as f64);
    });
}
