//! The simulated LogiSense by itself, spoken to in plain HTTP.

use super::*;
use crate::sandbox::{Fault, FaultPlan, Instead, Kind, Sandbox, SandboxSettings, Scripted};

fn sandbox(change: impl FnOnce(&mut LogisenseSettings)) -> Sandbox {
    let mut settings = SandboxSettings::of(Kind::Logisense);
    change(&mut settings.logisense);
    Sandbox::new(settings).unwrap()
}

async fn send(sandbox: &Sandbox, method: &str, path: &str, token: &str, media: &str, body: &str) -> (u16, String) {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", media)
        .body(Bytes::copy_from_slice(body.as_bytes()))
        .unwrap();
    let response = sandbox.handle(request).await.unwrap();
    (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap())
}

async fn log_in(sandbox: &Sandbox, form: &str) -> (u16, Value) {
    let (status, body) = send(sandbox, "POST", entrance::PATH, "", "application/x-www-form-urlencoded", form).await;
    (status, serde_json::from_str(&body).unwrap())
}

const USER: &str =
    "username=contact-replicator&password=sandbox-token&grant_type=password&client_id=contact-replicator";

/// One who is logged in.
struct Caller {
    sandbox: Sandbox,
    token: String,
}

impl Caller {
    async fn new(change: impl FnOnce(&mut LogisenseSettings)) -> Self {
        let sandbox = sandbox(change);
        let token = log_in(&sandbox, USER).await.1["access_token"].as_str().unwrap().to_owned();
        Self { sandbox, token }
    }

    async fn text(&self, method: &str, rest: &str, body: &str) -> (u16, String) {
        send(&self.sandbox, method, &format!("{RESOURCES}{rest}"), &self.token, "application/json", body).await
    }

    async fn ask(&self, method: &str, rest: &str, body: Value) -> (u16, Value) {
        let (status, text) = self.text(method, rest, &body.to_string()).await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    async fn create(&self, title: &str) -> u64 {
        let said = json!({ "contactTypeId": 20, "title": title, "firstName": "Ilka", "lastName": "Sundstrom" });
        let (status, body) = self.ask("POST", "Contact/", said).await;
        assert_eq!(status, 200, "{body}");
        body["results"]["items"][0]["identity"].as_u64().unwrap()
    }

    async fn patch(&self, id: u64, details: Value) -> (u16, Value) {
        self.ask("PATCH", &format!("Contact/{id}"), json!({ "details": details })).await
    }

    async fn detail(&self, id: u64) -> Value {
        self.ask("GET", &format!("Contact/{id}/Detail"), Value::Null).await.1["instance"].clone()
    }
}

#[tokio::test]
async fn the_worked_example_is_answered_as_documented() {
    let caller = Caller::new(|_| ()).await;
    let create =
        r#"{"contactTypeId":20,"title":"ct-000451","firstName":"Ilka","lastName":"Sundstrom","isUsedForTax":false}"#;
    let (status, made) = caller.text("POST", "Contact/", create).await;
    let contact = r#"{"identity":318,"contactTypeId":20,"contactTypeName":"Billing","title":"ct-000451","firstName":"Ilka","lastName":"Sundstrom","isUsedForTax":false}"#;
    let results = format!(r#","type":"create","results":{{"totalCount":1,"items":[{contact}]}}}}"#);
    assert_eq!(status, 200);
    assert!(made.starts_with(r#"{"trackingId":""#) && made.ends_with(&results), "{made}");

    let (status, patched) = caller
        .patch(
            318,
            json!({
                "contactPoints": { "items": [
                    { "patchType": "create", "patchClientId": 1, "contactPointTypeId": 41, "value": "ilka@example.com" },
                    { "patchType": "create", "patchClientId": 2, "contactPointTypeId": 44, "value": "ct-000451" },
                ] },
                "address": { "items": [{
                    "patchType": "create", "patchClientId": 3, "address1": "14 Kanal St", "cityName": "Guelph",
                    "stateId": 9, "countryId": 2, "zipCode": "N1G 2W1",
                }] },
            }),
        )
        .await;
    assert_eq!((status, &patched["type"]), (200, &json!("patch")));
    let items = patched["results"]["items"].as_array().unwrap();
    let seen: Vec<_> = items.iter().map(|item| (item["identity"].as_u64(), item["dtoTypeKey"].as_str())).collect();
    let expected = [(901, "contactPoint"), (902, "contactPoint"), (77, "address")];
    assert_eq!(seen, expected.map(|(id, kind)| (Some(id), Some(kind))));
    assert!(items.iter().all(|item| item["action"] == "created" && item.get("patchClientId").is_none()));

    let (status, put) = caller.ask("PUT", "Contact/318", json!({ "identity": 318, "lastName": "Vale" })).await;
    assert_eq!((status, &put["type"]), (200, &json!("update")));
    let detail = caller.detail(318).await;
    assert_eq!((&detail["lastName"], &detail["firstName"]), (&json!("Vale"), &json!("Ilka")));
    assert_eq!(detail["details"]["address"]["countryCode"], "CA");
    assert_eq!(detail["details"]["contactPoints"][1]["contactPointTypeName"], "reference");

    let (_, page) = caller.ask("GET", "Contact/Paged/Detail?pageNumber=1&pageSize=100", Value::Null).await;
    assert_eq!(page["pagedResults"]["totalCount"], 1);
    assert_eq!(page["pagedResults"]["items"][0], detail);
    assert_eq!(page["pagination"], json!({ "pageNumber": 1, "pageSize": 100, "excludeTotalCount": false }));

    let delete = json!({ "details": {}, "contacts": { "items": [{ "patchType": "delete", "identity": 318 }] } });
    let (status, deleted) = caller.ask("PATCH", "Contact/318", delete.clone()).await;
    let item = json!({ "identity": 318, "action": "deleted", "dtoTypeKey": "contact", "instance": null });
    assert_eq!((status, &deleted["results"]["items"]), (200, &json!([item])));
    assert_eq!(caller.ask("PATCH", "Contact/318", delete).await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_given_for_a_secret_refreshed_once_and_runs_out() {
    let caller = Caller::new(|_| ()).await;
    let (status, given) = log_in(&caller.sandbox, USER).await;
    assert_eq!((status, &given["expires_in"], &given["token_type"]), (200, &json!(1800), &json!("bearer")));
    assert_eq!(given["access_token"].as_str().unwrap().split('.').count(), 3);
    let client = "client_id=contact-replicator&client_secret=sandbox-token&grant_type=password";
    assert_eq!(log_in(&caller.sandbox, client).await.0, 200);
    let invalid = (400, json!({ "error": "invalid_grant" }));
    assert_eq!(log_in(&caller.sandbox, &USER.replace("sandbox-token", "wrong")).await, invalid);
    assert_eq!(log_in(&caller.sandbox, &USER.replace("username=contact", "username=x")).await, invalid);
    let odd = log_in(&caller.sandbox, "grant_type=password").await;
    assert_eq!(odd, (400, json!({ "error": "unsupported_grant_type" })));

    assert_eq!(caller.ask("GET", "Contact/", Value::Null).await.0, 200);
    tokio::time::advance(Duration::from_secs(1801)).await;
    assert_eq!(caller.text("GET", "Contact/", "").await, (401, String::new()));
    let refresh = given["refresh_token"].as_str().unwrap();
    let form = format!("grant_type=refresh_token&refresh_token={refresh}&client_id=contact-replicator");
    let (status, renewed) = log_in(&caller.sandbox, &form).await;
    assert_eq!(status, 200);
    assert_eq!(log_in(&caller.sandbox, &form).await, invalid, "a refresh token is good for once");
    let renewed =
        Caller { sandbox: caller.sandbox.clone(), token: renewed["access_token"].as_str().unwrap().to_owned() };
    assert_eq!(renewed.ask("GET", "Contact/", Value::Null).await.0, 200);
    let plan =
        FaultPlan { script: vec![Scripted::every(1, Action::Search, Instead::ExpireToken)], ..FaultPlan::default() };
    caller.sandbox.set_faults(plan).unwrap();
    assert_eq!(renewed.ask("GET", "Contact/", Value::Null).await.0, 401, "a token can be taken away");
    caller.sandbox.set_faults(FaultPlan::default()).unwrap();
    let again = log_in(&caller.sandbox, USER).await;
    caller.sandbox.set_tokens(["other".to_owned()]);
    let token = again.1["access_token"].as_str().unwrap().to_owned();
    let again = Caller { sandbox: caller.sandbox, token };
    assert_eq!(again.ask("GET", "Contact/", Value::Null).await.0, 401, "and so can its secret");
}

#[tokio::test]
async fn every_fault_of_a_request_is_named_and_nothing_of_it_is_stored() {
    let caller = Caller::new(|_| ()).await;
    let (status, body) = caller.ask("POST", "Contact/", json!({ "contactTypeId": 99, "shoe": 1 })).await;
    assert_eq!((status, &body["type"], body["errors"].as_array().unwrap().len()), (400, &json!("create"), 3), "{body}");
    let message = &caller.ask("POST", "Contact/", json!({ "contactTypeId": 20 })).await.1["errors"][0];
    assert_eq!(message, &json!({ "code": 11_900_000, "message": "'LastName' must be supplied" }));
    let id = caller.create("x").await;
    let before = caller.detail(id).await;
    let point = |more: Value| {
        let mut point = json!({ "patchType": "create", "contactPointTypeId": 41, "value": "a@b.c" });
        point.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        point
    };
    let points = |items: Value| json!({ "contactPoints": { "items": items } });
    let address = |item: Value| json!({ "address": { "items": [item] } });
    for refused in [
        points(json!([point(json!({})), point(json!({ "contactPointTypeId": 99 }))])),
        points(json!([point(json!({})), point(json!({ "contactPointTypeId": 51 }))])),
        points(json!([point(json!({})), point(json!({ "value": "no address" }))])),
        points(json!([point(json!({ "shoe": 1 }))])),
        points(json!([point(json!({ "patchType": "attach" }))])),
        points(json!([point(json!({ "contactPointTypeId": 43 })), point(json!({ "contactPointTypeId": 43 }))])),
        points(json!([{ "patchType": "delete", "identity": 1 }])),
        address(json!({ "patchType": "create" })),
        address(json!({ "patchType": "create", "address1": "x", "stateId": 9 })),
        address(json!({ "patchType": "create", "address1": "x", "countryId": 999 })),
        address(json!({ "patchType": "update", "identity": 1, "address1": "x" })),
        json!({ "shoe": {} }),
    ] {
        assert_eq!(caller.patch(id, refused.clone()).await.0, 400, "{refused}");
    }
    assert_eq!(caller.detail(id).await, before);
    assert_eq!(caller.ask("PUT", &format!("Contact/{id}"), json!({ "lastName": null })).await.0, 400);
    assert_eq!(caller.ask("PUT", &format!("Contact/{id}"), json!({ "identity": 1 })).await.0, 400);
    assert_eq!(caller.ask("PUT", "Contact/1", json!({ "lastName": "x" })).await.0, 404);
    assert_eq!(caller.ask("DELETE", &format!("Contact/{id}"), Value::Null).await.0, 405);
    assert_eq!(caller.ask("GET", "Invoice/", Value::Null).await.0, 404);
    let hiding = Caller::new(|settings| settings.faults_with_200 = true).await;
    let (status, body) = hiding.ask("POST", "Contact/", json!({})).await;
    assert!(status == 200 && body.get("results").is_none() && body["errors"].is_array(), "{body}");
}

#[tokio::test]
async fn addresses_stand_by_themselves() {
    let caller = Caller::new(|_| ()).await;
    let (one, other) = (caller.create("one").await, caller.create("other").await);
    let address = |item: Value| json!({ "address": { "items": [item] } });
    let create = |line: &str| address(json!({ "patchType": "create", "address1": line }));
    caller.patch(one, create("first")).await;
    assert_eq!(caller.patch(other, address(json!({ "patchType": "attach", "identity": 77 }))).await.0, 200);
    caller.patch(one, address(json!({ "patchType": "update", "identity": 77, "address1": "changed" }))).await;
    assert_eq!(caller.detail(other).await["details"]["address"]["address1"], "changed", "it is shared");
    caller.patch(one, create("second")).await;
    assert_eq!(caller.detail(one).await["details"]["address"]["identity"], 78);
    assert_eq!(caller.detail(other).await["details"]["address"]["identity"], 77);
    caller.patch(other, address(json!({ "patchType": "detach", "identity": 77 }))).await;
    assert!(caller.detail(other).await["details"].get("address").is_none());
    let (_, page) = send(&caller.sandbox, "GET", "/_sandbox/contacts", "", "application/json", "").await;
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["unattachedAddresses"], json!([77]));
}

#[tokio::test]
async fn contacts_are_searched_by_their_own_fields_where_that_is_possible() {
    let caller = Caller::new(|_| ()).await;
    let id = caller.create("ct-1").await;
    caller.create("ct-2").await;
    let query = |name: &str, value: &str| json!({ "query": { "top": 10, "search": [{ "name": name, "operator": "eq", "value": value }] } });
    let (status, found) = caller.ask("POST", "Contact/Search", query("title", "ct-1")).await;
    assert_eq!((status, &found["pagedResults"]["items"][0]["identity"]), (200, &json!(id)));
    assert_eq!(found["pagedResults"]["totalCount"], 1);
    assert_eq!(caller.ask("POST", "Contact/Search", query("value", "x")).await.0, 400, "no children");
    let without = Caller::new(|settings| settings.search = false).await;
    assert_eq!(without.ask("POST", "Contact/Search", query("title", "ct-1")).await.0, 404);
    for (list, first) in [("ContactType/", "Billing"), ("ContactPointType/", "email"), ("Country/", "United States")] {
        assert_eq!(caller.ask("GET", list, Value::Null).await.1["items"][0]["name"], first);
    }
    assert_eq!(caller.ask("GET", "State/", Value::Null).await.1["items"][2]["code"], "ON");
    assert_eq!(caller.ask("GET", "Contact/Paged?pageNumber=0", Value::Null).await.0, 400);
    let (_, second) = caller.ask("GET", "Contact/Paged?pageNumber=2&pageSize=1", Value::Null).await;
    assert_eq!(second["pagedResults"]["items"][0]["title"], "ct-2");
}

#[tokio::test]
async fn contacts_are_read_bare_or_whole_as_documented() {
    let caller = Caller::new(|_| ()).await;
    let ids = [caller.create("one").await, caller.create("two").await];
    let bare = |id: u64, title: &str| {
        json!({
            "identity": id, "contactTypeId": 20, "contactTypeName": "Billing", "title": title, "firstName": "Ilka",
            "lastName": "Sundstrom", "isUsedForTax": false,
        })
    };
    let both = json!([bare(ids[0], "one"), bare(ids[1], "two")]);
    let read = async |rest: &str| {
        let (status, mut body) = caller.ask("GET", rest, Value::Null).await;
        assert!(body.as_object_mut().unwrap().remove("trackingId").is_some_and(|id| id.is_string()), "{body}");
        (status, body)
    };
    assert_eq!(read("Contact/").await, (200, json!({ "totalCount": 2, "items": both })));
    let pagination = |size: u32| json!({ "pageNumber": 1, "pageSize": size, "excludeTotalCount": false });
    let paged = json!({ "pagination": pagination(20), "pagedResults": { "totalCount": 2, "items": both } });
    assert_eq!(read("Contact/Paged").await, (200, paged));
    let first = json!({ "pagination": pagination(1), "pagedResults": { "totalCount": 2, "items": [both[0]] } });
    assert_eq!(read("Contact/Paged?pageNumber=1&pageSize=1&excludeTotalCount=false").await, (200, first));
    assert_eq!(read(&format!("Contact/{}", ids[1])).await, (200, json!({ "instance": both[1] })));
    let mut whole = bare(ids[1], "two");
    whole["details"] = json!({ "contactPoints": [] });
    assert_eq!(read(&format!("Contact/{}/Detail", ids[1])).await, (200, json!({ "instance": whole })));
    for missing in ["Contact/1", "Contact/1/Detail"] {
        assert_eq!(read(missing).await.0, 404, "{missing}");
    }
}

#[tokio::test]
async fn faults_strike_by_what_a_request_would_do() {
    let caller = Caller::new(|_| ()).await;
    let plan = FaultPlan {
        script: vec![Scripted::every(1, Action::Create, Fault::status(503).instead)],
        ..FaultPlan::default()
    };
    caller.sandbox.set_faults(plan).unwrap();
    assert_eq!(caller.ask("POST", "Contact/", json!({})).await.0, 503);
    assert_eq!(caller.ask("GET", "Contact/", Value::Null).await.0, 200);
    assert_eq!(caller.sandbox.requests().last().unwrap().action, Action::Search);
}
