use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use http::{Method, header};
use serde_json::{Value, json};

use super::*;
use crate::sandbox::{Fault, FaultPlan, Instead, Kind, Sandbox, SandboxSettings};

struct Tester {
    sandbox: Sandbox,
    token: String,
}

impl Tester {
    async fn new(change: impl FnOnce(&mut CrmComSettings)) -> Self {
        let mut settings = SandboxSettings::of(Kind::CrmCom);
        change(&mut settings.crm_com);
        let sandbox = Sandbox::new(settings).unwrap();
        let mut tester = Self { sandbox, token: String::new() };
        tester.token = tester.log_in().await;
        tester
    }

    async fn log_in(&self) -> String {
        let login = json!({ "username": "contact-replicator", "password": "sandbox-token", "organisation": "example" });
        self.said("/authentication/token", login).await["token"].as_str().unwrap().to_owned()
    }

    async fn ask(&self, method: Method, path: &str, kind: Option<&str>, body: impl Into<Bytes>) -> (u16, Bytes) {
        let mut request = http::Request::builder().method(method).uri(path);
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let response = self.sandbox.handle(request.body(body.into()).unwrap()).await.unwrap();
        (response.status().as_u16(), response.into_body())
    }

    /// Code and data of the answer to a POST as it stands.
    async fn post_bare(&self, path: &str, body: Value) -> (String, Value) {
        let path = format!("{BASE_PATH}{path}");
        let (status, answer) = self.ask(Method::POST, &path, Some("application/json"), body.to_string()).await;
        assert_eq!(status, 200);
        read(&answer)
    }

    async fn said(&self, path: &str, body: Value) -> Value {
        let (code, data) = self.post_bare(path, body).await;
        assert_eq!(code, "OK");
        data
    }

    async fn post(&self, what: &str, mut body: Value) -> (String, Value) {
        body["token"] = self.token.clone().into();
        self.post_bare(&format!("/contact_information/{what}"), body).await
    }

    async fn code(&self, what: &str, body: Value) -> String {
        self.post(what, body).await.0
    }

    async fn get(&self, what: &str, query: &str) -> (String, Value) {
        let path = format!("{BASE_PATH}/contact_information/{what}?token={}&{query}", self.token);
        let (status, answer) = self.ask(Method::GET, &path, None, "").await;
        assert_eq!(status, 200);
        read(&answer)
    }

    async fn person(&self, more: Value) -> String {
        let mut person = json!({ "type": "PERSON", "first_name": "Ilka", "last_name": "Sundstrom" });
        person.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (code, data) = self.post("create", person).await;
        assert_eq!(code, "OK");
        data["id"].as_str().unwrap().to_owned()
    }

    async fn update(&self, id: &str, more: Value) -> (String, Value) {
        let mut body = json!({ "contact_information_identifier": { "id": id } });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post("update", body).await
    }

    async fn show(&self, id: &str) -> Value {
        let (code, data) = self.get("show", &format!("contact_information_identifier=id={id}")).await;
        assert_eq!(code, "OK");
        data
    }
}

fn read(answer: &[u8]) -> (String, Value) {
    let answer: Value = serde_json::from_slice(answer).unwrap();
    assert!(answer["status"].as_object().unwrap().contains_key("message"));
    (answer["status"]["code"].as_str().unwrap().to_owned(), answer["data"].clone())
}

#[tokio::test(start_paused = true)]
async fn users_and_keys_get_tokens_that_end() {
    let tester = Tester::new(|_| ()).await;
    assert_eq!(tester.token.split('.').count(), 3, "a JWT");
    let wrong = |name: &str| {
        let mut login =
            json!({ "username": "contact-replicator", "password": "sandbox-token", "organisation": "example" });
        login[name] = "other".into();
        login
    };
    for name in ["username", "password", "organisation"] {
        assert_eq!(tester.post_bare("/authentication/token", wrong(name)).await.0, "AUTHENTICATION_FAILED");
    }
    assert_eq!(tester.post_bare("/authentication/token", json!({})).await.0, "MANDATORY_FIELD_MISSING");

    let key = |key: &str| {
        let request = http::Request::post(format!("{BASE_PATH}/authentication/web_api_key/token"));
        let request = request.header(header::CONTENT_TYPE, "application/json");
        request.header(header::AUTHORIZATION, key).body(Bytes::from("{}")).unwrap()
    };
    // "sandbox-token:" and "other:" in Base64.
    let given = tester.sandbox.handle(key("Basic c2FuZGJveC10b2tlbjo=")).await.unwrap();
    assert_eq!(read(given.body()).0, "OK");
    for wrong in ["Basic b3RoZXI6", "Bearer c2FuZGJveC10b2tlbjo=", "Basic c2FuZGJveC10b2tlbg=="] {
        let refused = tester.sandbox.handle(key(wrong)).await.unwrap();
        assert_eq!(read(refused.body()).0, "AUTHENTICATION_FAILED");
    }

    assert_eq!(tester.get("list", "id_number=1").await.0, "OK");
    tokio::time::advance(Duration::from_secs(2 * 60 * 60)).await;
    assert_eq!(tester.get("list", "id_number=1").await.0, "INVALID_TOKEN");
    let token = tester.log_in().await;
    let released = tester.post_bare("/authentication/token/release", json!({ "token": token })).await;
    assert_eq!(released, ("OK".to_owned(), Value::Null));
    let tester = Tester { token, ..tester };
    assert_eq!(tester.get("list", "id_number=1").await.0, "INVALID_TOKEN");
}

#[tokio::test(start_paused = true)]
async fn a_token_of_digits_lasts_from_use_to_use() {
    let tester = Tester::new(|settings| settings.json_web_tokens = false).await;
    assert!(tester.token.len() == 32 && tester.token.bytes().all(|byte| byte.is_ascii_hexdigit()));
    for _ in 0..4 {
        tokio::time::advance(Duration::from_secs(59 * 60)).await;
        assert_eq!(tester.get("list", "id_number=1").await.0, "OK");
    }
    tokio::time::advance(Duration::from_secs(60 * 60)).await;
    assert_eq!(tester.get("list", "id_number=1").await.0, "INVALID_TOKEN");
}

#[tokio::test]
async fn a_refused_token_is_a_code_or_a_status_as_switched() {
    let tester = Tester::new(|settings| settings.http_statuses = true).await;
    let (status, answer) =
        tester.ask(Method::GET, &format!("{BASE_PATH}/contact_information/list?token=no&id_number=1"), None, "").await;
    assert_eq!((status, read(&answer).0.as_str()), (401, "INVALID_TOKEN"));
    tester.sandbox.set_faults(FaultPlan::at(1, Instead::ExpireToken)).unwrap();
    let (status, _) = tester
        .ask(Method::GET, &format!("{BASE_PATH}/contact_information/list?token={}&id_number=1", tester.token), None, "")
        .await;
    assert_eq!(status, 401, "the fault ended the token");
    tester.sandbox.set_faults(FaultPlan::at(1, Fault::status(503))).unwrap();
    assert_eq!(tester.ask(Method::GET, &format!("{BASE_PATH}/nowhere"), None, "").await.0, 503);
    assert_eq!(tester.ask(Method::GET, &format!("{BASE_PATH}/nowhere"), None, "").await.0, 404);
}

#[tokio::test]
async fn a_create_answers_in_short_and_a_show_in_full_under_other_names() {
    let tester = Tester::new(|_| ()).await;
    let body = json!({
        "type": "PERSON", "title": "Ms", "first_name": "Ilka", "last_name": "Sundstrom", "preferred_language": "SWE",
        "category_identifier": { "name": "Residential" }, "owned_by_group_identifier": { "alternative_code": "BRANCH" },
        "privacy_level_identifier": { "number": "2" }, "notes": "Family", "middle_name": "Vera", "send_direct_marketing_material": 1,
        "udf_string_16": "ct-1", "udf_float_8": 1.5, "udf_date_1": "2020-01-02T03:04:05",
        "demographics": {
            "gender": "FEMALE", "date_of_birth": { "day": 3, "month": 9, "year": 1988 },
            "industry_identifier": { "code": "RETAIL" }, "country_of_residence_identifier": { "two_character_code": "CY" },
        },
        "address_set": [{ "type": "Home", "street_name": "Elm", "floor": 2, "notes": "n" }],
        "phone_set": [{ "type": "MOBILE", "number": "99555012", "notes": "after six" }],
        "email_set": [{ "action": "whatever", "type": "BUSINESS", "email_address": "i@example.com" }],
        "colour": "red",
    });
    let (code, short) = tester.post("create", body.clone()).await;
    assert_eq!(
        (code.as_str(), &short["name"], &short["life_cycle_state"]),
        ("OK", &json!("Ilka Sundstrom"), &json!("MARKETING"))
    );
    assert_eq!(short["demographics"]["date_of_birth"], json!({ "day": 3, "month": 9, "year": 1988 }));
    assert_eq!(short["demographics"]["name_day"], json!({ "day": null, "month": null }));
    for absent in ["notes", "udf_string_16", "emails_set", "category"] {
        assert!(short.get(absent).is_none(), "{absent}");
    }
    let id = short["id"].as_str().unwrap();
    let whole = tester.show(id).await;
    assert_eq!(whole["notes"], format!("contact-replicator 1/1/2026 9:00:00 Family"));
    assert_eq!(whole["authorization_settings"]["send_direct_marketing_material"], true);
    assert_eq!((&whole["category"]["name"], &whole["privacy_level"]["id"]), (&json!("Residential"), &json!("L2")));
    assert_eq!(whole["demographics"]["country_of_residence"]["alternative_code"], "CYP");
    let address = &whole["addresses_set"][0];
    assert_eq!((&address["type"], &address["state"], address.get("notes")), (&json!("HOME"), &json!("Active"), None));
    let phone = &whole["phones_set"][0];
    assert_eq!(
        (&phone["area_code"], &phone["full_number"]),
        (&json!("357"), &json!("0035799555012")),
        "the default country"
    );
    assert_eq!((&phone["notes"], &whole["emails_set"][0]["notes"]), (&json!("after six"), &Value::Null));
    let profile = &whole["company_profile"];
    assert_eq!((&profile["industry"]["name"], profile.get("profile_year")), (&json!("Retail"), Some(&Value::Null)));
    for empty in ["udf_string_1", "udf_float_1", "udf_date_8"] {
        assert_eq!(whole.get(empty), Some(&Value::Null), "{empty}");
    }
    assert_eq!((&whole["organizational_unit"], &whole["privacy_level"]["number"]), (&json!(0), &json!("2")));
    assert_eq!(whole["emails_set"][0]["email"], "i@example.com");
    assert_eq!(tester.sandbox.contact("ct-1").unwrap(), whole);
    let mut asked = body;
    asked["fields_set"] = "first_name,email_set".into();
    assert_eq!(
        tester.post("create", asked).await.1,
        json!({ "first_name": "Ilka" }),
        "even the id has to be asked for"
    );
    let page = tester.ask(Method::GET, "/_sandbox/contacts", None, "").await.1;
    let page: Value = serde_json::from_slice(&page).unwrap();
    assert_eq!(page["ignoredMembers"], json!({ "colour": 2 }));
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_nothing_of_it_is_stored() {
    let tester = Tester::new(|_| ()).await;
    let person = json!({ "type": "PERSON", "first_name": "Ilka", "last_name": "Sundstrom" });
    for (name, value, code) in [
        ("type", json!("ALIEN"), "INVALID_VALUE"),
        ("first_name", Value::Null, "MANDATORY_FIELD_MISSING"),
        ("last_name", json!(" "), "MANDATORY_FIELD_MISSING"),
        ("title", json!(5), "INVALID_FORMAT"),
        ("company_name", json!("Acme"), "INVALID_VALUE"),
        ("company_profile", json!({}), "INVALID_VALUE"),
        ("preferred_language", json!("ITA"), "INVALID_VALUE"),
        ("category_identifier", json!({ "name": "Unknown" }), "REFERENCE_NOT_FOUND"),
        ("category_identifier", json!({ "name": "Residential", "id": "code0" }), "INVALID_FORMAT"),
        ("category_identifier", json!({ "number": 1 }), "INVALID_VALUE"),
        ("category_identifier", json!("Residential"), "INVALID_FORMAT"),
        ("send_direct_marketing_material", json!(2), "INVALID_FORMAT"),
        ("udf_string_1", json!(1), "INVALID_FORMAT"),
        ("udf_float_1", json!("1"), "INVALID_FORMAT"),
        ("udf_date_1", json!("2020-01-02"), "INVALID_FORMAT"),
        ("demographics", json!({ "gender": "OTHER" }), "INVALID_VALUE"),
        ("demographics", json!({ "date_of_birth": { "day": 30, "month": 2, "year": 1988 } }), "INVALID_VALUE"),
        ("address_set", json!([{ "type": "HOME" }]), "MANDATORY_FIELD_MISSING"),
        ("address_set", json!([{ "street_name": "a" }]), "MANDATORY_FIELD_MISSING"),
        ("address_set", json!([{ "type": "OTHER", "street_name": "a" }]), "INVALID_VALUE"),
        ("address_set", json!([{ "type": "HOME", "street_name": "a", "floor": "2" }]), "INVALID_FORMAT"),
        ("address_set", json!([{ "type": "HOME", "street_name": "a", "address_line_1": "a" }]), "INVALID_VALUE"),
        (
            "address_set",
            json!([{ "type": "HOME", "street_name": "a" }, { "type": "home", "street_name": "b" }]),
            "TYPE_ALREADY_EXISTS",
        ),
        (
            "phone_set",
            json!([{ "type": "MOBILE", "country_identifier": { "name": "Cyprus" } }]),
            "MANDATORY_FIELD_MISSING",
        ),
        (
            "phone_set",
            json!([{ "type": "MOBILE", "number": "1", "country_identifier": { "id": "0" } }]),
            "REFERENCE_NOT_FOUND",
        ),
        ("email_set", json!([{ "type": "MOBILE", "email_address": "a@b" }]), "INVALID_VALUE"),
        ("email_set", json!({}), "INVALID_FORMAT"),
    ] {
        let mut wrong = person.clone();
        wrong[name] = value.clone();
        assert_eq!(tester.code("create", wrong).await, code, "{name}: {value}");
    }
    assert_eq!(tester.code("create", json!({ "type": "PERSON", "first_name": "I" })).await, "MANDATORY_FIELD_MISSING");
    assert_eq!(tester.code("create", json!({ "first_name": "I" })).await, "MANDATORY_FIELD_MISSING");
    assert_eq!(tester.code("create", json!({ "type": "COMPANY" })).await, "MANDATORY_FIELD_MISSING");
    assert_eq!(tester.sandbox.contacts(), Vec::<Value>::new());
    let bare = tester.ask(Method::POST, &format!("{BASE_PATH}/contact_information/create"), None, "{}").await;
    assert_eq!(read(&bare.1).0, "INVALID_TOKEN", "the token is looked at first");
}

#[tokio::test]
async fn an_update_leaves_what_it_does_not_name_and_clears_what_is_null() {
    let tester = Tester::new(|_| ()).await;
    let id = tester
        .person(json!({
            "title": "Ms", "middle_name": "Vera", "notes": "n", "demographics": { "gender": "FEMALE", "id_number": "7" },
            "email_set": [{ "type": "PERSONAL", "email_address": "i@example.com" }],
        }))
        .await;
    let more = json!({
        "type": "COMPANY", "title": null, "first_name": "Ilse", "demographics": { "gender": null }, "email_set": [],
        "phone_set": null,
    });
    let (code, whole) = tester.update(&id, more).await;
    assert_eq!((code.as_str(), &whole["type"], &whole["title"]), ("OK", &json!("PERSON"), &Value::Null));
    assert_eq!((&whole["first_name"], &whole["middle_name"]), (&json!("Ilse"), &json!("Vera")));
    assert_eq!((&whole["demographics"]["gender"], &whole["demographics"]["id_number"]), (&Value::Null, &json!("7")));
    assert_eq!(whole["emails_set"].as_array().unwrap().len(), 1);
    assert_eq!(tester.update(&id, json!({ "last_name": null })).await.0, "MANDATORY_FIELD_MISSING");
    assert_eq!(tester.update("none", json!({})).await.0, "NOT_FOUND");
    assert_eq!(tester.update(&id, json!({ "demographics": null })).await.1["demographics"]["id_number"], Value::Null);
    let (_, chosen) = tester.update(&id, json!({ "fields_set": "id,title,nothing" })).await;
    assert_eq!(chosen, json!({ "id": id, "title": null }));
}

#[tokio::test]
async fn sets_are_changed_by_actions_and_a_type_has_one_active_entry() {
    let tester = Tester::new(|_| ()).await;
    let id = tester.person(json!({ "phone_set": [{ "type": "MOBILE", "number": "1" }] })).await;
    let phones = |items: Value| json!({ "phone_set": items });
    let by_type = json!({ "type": "MOBILE" });
    for (item, code) in [
        (json!({ "type": "FAX", "number": "1" }), "MANDATORY_FIELD_MISSING"),
        (json!({ "action": "CHANGE", "type": "FAX", "number": "1" }), "INVALID_VALUE"),
        (json!({ "action": "ADD", "type": "MOBILE", "number": "2" }), "TYPE_ALREADY_EXISTS"),
        (json!({ "action": "UPDATE", "number": "2" }), "MANDATORY_FIELD_MISSING"),
        (json!({ "action": "UPDATE", "phone_identifier": { "type": "FAX" }, "number": "2" }), "INVALID_VALUE"),
        (json!({ "action": "UPDATE", "phone_identifier": by_type, "number": null }), "MANDATORY_FIELD_MISSING"),
        (json!({ "action": "REMOVE", "phone_identifier": { "id": "E99" } }), "INVALID_VALUE"),
    ] {
        assert_eq!(tester.update(&id, phones(json!([item]))).await.0, code, "{item}");
    }
    let half = json!([
        { "action": "ADD", "type": "FAX", "number": "3" }, { "action": "ADD", "type": "MOBILE", "number": "4" },
    ]);
    assert_eq!(tester.update(&id, phones(half)).await.0, "TYPE_ALREADY_EXISTS");
    assert_eq!(tester.show(&id).await["phones_set"].as_array().unwrap().len(), 1, "as a whole or not at all");
    let all = json!([
        { "action": "update", "phone_identifier": by_type, "number": "2", "country_identifier": { "name": "Denmark" } },
        { "action": "ADD", "type": "FAX", "number": "3" },
    ]);
    let (code, whole) = tester.update(&id, phones(all)).await;
    assert_eq!((code.as_str(), &whole["phones_set"][0]["full_number"]), ("OK", &json!("00452")));
    tester.update(&id, phones(json!([{ "action": "REMOVE", "phone_identifier": by_type }]))).await;
    let (code, whole) = tester.update(&id, phones(json!([{ "action": "ADD", "type": "MOBILE", "number": "5" }]))).await;
    let states: Vec<_> = whole["phones_set"].as_array().unwrap().iter().map(|phone| phone["state"].clone()).collect();
    assert_eq!((code.as_str(), states), ("OK", vec![json!("Inactive"), json!("Active"), json!("Active")]));
}

#[tokio::test]
async fn a_list_needs_a_key_and_finds_what_has_all_of_them() {
    let tester = Tester::new(|_| ()).await;
    let person = |email: &str, phone: &str, number: &str| {
        json!({
            "demographics": { "id_number": number }, "phone_set": [{ "type": "MOBILE", "number": phone }],
            "email_set": [{ "type": "PERSONAL", "email_address": email }],
        })
    };
    let one = tester.person(person("One@example.com", "99555012", "7")).await;
    let two = tester.person(person("two@example.com", "99555013", "7")).await;
    let found = async |query: &str| {
        let (code, data) = tester.get("list", query).await;
        assert_eq!(code, "OK");
        data.as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let both = BTreeSet::from([one.clone(), two.clone()]);
    assert_eq!(tester.get("list", "").await.0, "MANDATORY_FIELD_MISSING");
    assert_eq!(found("email_address=one%40EXAMPLE.com").await, BTreeSet::from([one.clone()]));
    assert_eq!(found("id_number=7").await, both);
    assert_eq!(found("id_number=7&email_address=two%40example.com").await, BTreeSet::from([two]));
    for phone in ["99555012", "35799555012", "0035799555012"] {
        assert_eq!(found(&format!("phone_number={phone}")).await, BTreeSet::from([one.clone()]), "{phone}");
    }
    assert_eq!(found("phone_number=9955501").await, BTreeSet::new());
    assert_eq!(found("id_number=7&number_of_results=1").await.len(), 1);
    assert_eq!(found("id_number=7&number_of_results=1&offset=1").await.len(), 1);
    assert_eq!(found("id_number=7&offset=2").await.len(), 0);
    let removed = json!({ "email_set": [{ "action": "REMOVE", "email_identifier": { "type": "PERSONAL" } }] });
    tester.update(&one, removed).await;
    assert_eq!(found("email_address=one%40example.com").await, BTreeSet::new(), "what was removed does not match");
    let (_, hits) = tester.get("list", "id_number=7&fields_set=first_name").await;
    assert_eq!(hits[0], json!({ "first_name": "Ilka" }));
    let (_, shown) = tester.get("show", "contact_information_identifier=id_number=7&fields_set=id").await;
    assert_eq!(shown, json!({ "id": one }));
}

#[tokio::test]
async fn a_relation_is_to_another_contact_that_is_there() {
    let tester = Tester::new(|_| ()).await;
    let (one, other) = (tester.person(json!({})).await, tester.person(json!({})).await);
    let add = |id: &str| json!({ "relation_set": [{ "action": "ADD", "type": "FRIEND", "contact_information": { "id": id } }] });
    for nobody in ["nobody", one.as_str()] {
        assert_eq!(tester.update(&one, add(nobody)).await.0, "REFERENCE_NOT_FOUND");
    }
    tester.update(&other, json!({ "demographics": { "id_number": "7" } })).await;
    let by_number = json!({ "relation_set": [
        { "action": "ADD", "type": "FRIEND", "contact_information_identifier": { "id_number": "7" } },
    ] });
    for add in [add(&other), by_number] {
        let (code, whole) = tester.update(&one, add).await;
        let shown = &whole["relation_set"][0];
        assert_eq!((code.as_str(), &shown["contact"]["id"]), ("OK", &json!(other)));
        assert_eq!((&shown["contact"]["first_name"], shown.get("state")), (&json!("Ilka"), None));
        let id = shown["id"].clone();
        let remove = json!({ "relation_set": [{ "action": "REMOVE", "relation_identifier": { "id": id } }] });
        assert_eq!(tester.update(&one, remove).await.1["relation_set"], json!([]));
    }
}

#[tokio::test]
async fn switches_make_a_tenant_of_another_kind() {
    let tester = Tester::new(|settings| {
        settings.unique = true;
        settings.international_addresses = true;
        settings.removes = true;
        settings.countries_without_codes.insert("CY".to_owned());
    })
    .await;
    let same = json!({ "demographics": { "id_number": "7" } });
    let id = tester.person(same.clone()).await;
    let mut person = json!({ "type": "PERSON", "first_name": "Ilka", "last_name": "Sundstrom" });
    person["demographics"] = same["demographics"].clone();
    assert_eq!(tester.code("create", person).await, "DUPLICATE");
    let add = |more: Value| {
        let mut item = json!({ "action": "ADD", "type": "HOME" });
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "address_set": [item] })
    };
    assert_eq!(tester.update(&id, add(json!({ "street_name": "a" }))).await.0, "INVALID_VALUE");
    let by = |member: &str, code: &str| add(json!({ "address_line_1": "a", "country_identifier": { member: code } }));
    assert_eq!(tester.update(&id, by("two_character_code", "CY")).await.0, "REFERENCE_NOT_FOUND");
    assert_eq!(tester.update(&id, by("alternative_code", "CYP")).await.0, "OK");
    let remove = json!({ "address_set": [{ "action": "REMOVE", "address_identifier": { "type": "HOME" } }] });
    assert_eq!(tester.update(&id, remove).await.1["addresses_set"], json!([]));
}

#[tokio::test]
async fn a_photo_comes_in_a_form_of_parts_and_is_downloaded_elsewhere() {
    let tester = Tester::new(|_| ()).await;
    let id = tester.person(json!({})).await;
    let form = |content: &[u8]| {
        let mut form = format!(
            "--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n{}\r\n--x\r\nContent-Disposition: form-data; \
             name=\"contact_information_identifier\"\r\n\r\nid={id}\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; \
             filename=\"ilka.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n",
            tester.token
        )
        .into_bytes();
        form.extend(content);
        form.extend(b"\r\n--x--\r\n");
        form
    };
    let add = format!("{BASE_PATH}/contact_information/profile_photo/add");
    let kind = Some("multipart/form-data; boundary=x");
    let (_, answer) = tester.ask(Method::POST, &add, kind, form(b"\xff\xd8\r\n\x00")).await;
    let (code, facts) = read(&answer);
    assert_eq!(
        (code.as_str(), &facts["file_name"], &facts["file_mime_type"]),
        ("OK", &json!(format!("{id}_ilka.jpg")), &json!("image/jpeg"))
    );
    let view = format!("contact_information_identifier=id={id}");
    assert_eq!(tester.get("profile_photo/view", &view).await.1, facts);
    let address = format!("{}&token={}", facts["file_content_url"].as_str().unwrap(), tester.token);
    assert_eq!(tester.ask(Method::GET, &address, None, "").await, (200, Bytes::from_static(b"\xff\xd8\r\n\x00")));
    let (_, answer) = tester.ask(Method::POST, &add, kind, form(b"text")).await;
    assert_eq!(read(&answer).0, "INVALID_FORMAT");
    let mut large = b"\xff\xd8".to_vec();
    large.resize(PHOTO_BYTES_MAX + 1, 0);
    let (_, answer) = tester.ask(Method::POST, &add, kind, form(&large)).await;
    assert_eq!(read(&answer).0, "INVALID_VALUE");
    let remove = json!({ "token": tester.token, "contact_information_identifier": { "id": id } });
    let path = format!("{BASE_PATH}/contact_information/profile_photo/remove");
    let removed = tester.ask(Method::POST, &path, Some("application/json"), remove.to_string()).await;
    assert_eq!(removed, (200, Bytes::new()), "the documents show no answer");
    assert_eq!(tester.get("profile_photo/view", &view).await.1, Value::Null);
}

#[tokio::test]
async fn the_log_says_whom_a_request_was_about() {
    let tester = Tester::new(|_| ()).await;
    let id = tester.person(json!({ "udf_string_16": "ct-1" })).await;
    tester.update(&id, json!({ "title": "Ms" })).await;
    tester.show(&id).await;
    let told: Vec<_> = tester
        .sandbox
        .requests()
        .into_iter()
        .map(|logged| (logged.action, logged.contact, logged.remote_id, logged.effect.is_some()))
        .collect();
    let (reference, id) = (Some("ct-1".to_owned()), Some(id));
    assert_eq!(
        told,
        [
            (Action::Other, None, None, false),
            (Action::Create, reference.clone(), id.clone(), true),
            (Action::Update, reference.clone(), id.clone(), true),
            (Action::Get, reference, id, false),
        ]
    );
}
