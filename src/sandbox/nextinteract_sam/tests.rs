//! What the simulated SAM takes and what it refuses, asked over its own interface.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, header::CONTENT_TYPE};
use serde_json::{Value, json};

use super::{door::TOKEN, *};
use crate::sandbox::{FaultPlan, Instead, Kind as SystemKind, Sandbox, SandboxSettings};

const LIFE: &str = "x-nextinteract-authtoken-expiry-seconds";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

fn sandbox(sam: NextinteractSamSettings) -> Sandbox {
    Sandbox::new(SandboxSettings { nextinteract_sam: sam, ..SandboxSettings::of(SystemKind::NextinteractSam) }).unwrap()
}

async fn post(sandbox: &Sandbox, path: &str, token: &str, media: &str, body: impl Into<Bytes>) -> Response<Bytes> {
    let request = http::Request::builder().method(Method::POST).uri(path).header(CONTENT_TYPE, media);
    let request = if token.is_empty() { request } else { request.header(TOKEN, token) };
    sandbox.handle(request.body(body.into()).unwrap()).await.unwrap()
}

fn login_body(password: &str) -> String {
    json!({ "uEmail": "sync@example.org", "uPassword": password, "appCode": "NI", "version": "2" }).to_string()
}

async fn log_in(sandbox: &Sandbox) -> String {
    let answer = post(sandbox, LOGIN_PATH, "", JSON, login_body("sandbox-token")).await;
    assert_eq!((answer.status(), answer.body().len()), (StatusCode::OK, 0));
    answer.headers()[TOKEN].to_str().unwrap().to_owned()
}

async fn upsert(sandbox: &Sandbox, token: &str, records: Value) -> Response<Bytes> {
    post(sandbox, UPSERT_PATH, token, JSON, records.to_string()).await
}

fn told(answer: &Response<Bytes>) -> (u16, Value) {
    let body: Value = serde_json::from_slice(answer.body()).unwrap();
    (answer.status().as_u16(), body.get("errorCode").cloned().unwrap_or(body))
}

#[tokio::test]
async fn a_write_replaces_the_whole_contact() {
    let sandbox = sandbox(NextinteractSamSettings::default());
    let token = log_in(&sandbox).await;
    let rows = json!([
        { "externalId": "a", "lastname": "Vale", "notes": "n", "countryCode": "AU", "shoeSize": 42, "city": null },
        { "externalId": "b", "lastname": "Okoro", "contactModified": 1_416_018_840_030_u64 },
    ]);
    let stored = json!([{ "recordId": "a", "rowsAffected": 1 }, { "recordId": "b", "rowsAffected": 1 }]);
    assert_eq!(told(&upsert(&sandbox, &token, rows).await), (200, stored));
    assert_eq!(
        sandbox.contact("a").unwrap(),
        json!({ "externalId": "a", "lastname": "Vale", "notes": "n", "countryCode": "AU" })
    );
    upsert(&sandbox, &token, json!([{ "externalId": "a", "lastname": "Vale", "notes": null }])).await;
    assert_eq!(sandbox.contact("a").unwrap(), json!({ "externalId": "a", "lastname": "Vale" }));
    let contacts = sandbox.contacts();
    assert_eq!((contacts.len(), &contacts[0]["writes"]), (2, &json!(2)));
    // SAM's own id wins over the caller's.
    let id = contacts[1]["id"].clone();
    upsert(&sandbox, &token, json!([{ "contactId": id, "externalId": "c", "lastname": "New" }])).await;
    assert_eq!(sandbox.contacts().len(), 2);
    let page = http::Request::get("/_sandbox/contacts").body(Bytes::new()).unwrap();
    let page: Value = serde_json::from_slice(sandbox.handle(page).await.unwrap().body()).unwrap();
    assert_eq!(page["unknownMembers"], json!({ "shoeSize": 1 }));
    assert_eq!(page["recordsPerCall"], json!([2, 1, 1]));
    assert_eq!(page["logins"], json!(1));
}

#[tokio::test]
async fn one_bad_record_refuses_all_and_stores_nothing() {
    let sam = NextinteractSamSettings {
        records_max: 2,
        refused: ["Poison".to_owned()].into(),
        ..NextinteractSamSettings::default()
    };
    let sandbox = sandbox(sam);
    let token = log_in(&sandbox).await;
    let good = json!({ "externalId": "a", "lastname": "Vale" });
    for bad in [
        json!({ "externalId": "b" }),
        json!({ "lastname": "b" }),
        json!({ "externalId": "b", "lastname": " " }),
        json!({ "externalId": 7, "lastname": "b" }),
        json!({ "externalId": "b", "lastname": "b", "notes": 7 }),
        json!({ "externalId": "b", "lastname": "b", "countryCode": "AUS" }),
        json!({ "externalId": "b", "lastname": "b", "otherCountryCode": "" }),
        json!({ "externalId": "b", "lastname": "b", "dateOfBirth": "2001-02-03" }),
        json!({ "externalId": "b", "lastname": "Poison" }),
        json!("b"),
    ] {
        assert_eq!(told(&upsert(&sandbox, &token, json!([good, bad])).await), (400, json!(1002.0)), "{bad}");
    }
    for whole in [json!([]), json!([good, good, good]), json!({ "externalId": "a", "lastname": "Vale" })] {
        assert_eq!(told(&upsert(&sandbox, &token, whole).await), (400, json!(1002.0)));
    }
    assert_eq!(sandbox.contacts().len(), 0);
    let twice = upsert(&sandbox, &token, json!([good, good])).await;
    assert_eq!(told(&twice).1.as_array().unwrap().len(), 2, "in order, a row for each");
}

#[tokio::test]
async fn marked_contacts_meet_their_fate_and_leave_the_rest_stored() {
    let sam = NextinteractSamSettings {
        unstored: ["b".to_owned()].into(),
        unmentioned: ["Silent".to_owned()].into(),
        crashing: ["Crash".to_owned()].into(),
        ..NextinteractSamSettings::default()
    };
    let sandbox = sandbox(sam);
    let token = log_in(&sandbox).await;
    let record = |id: &str, name: &str| json!({ "externalId": id, "lastname": name });
    let rows = json!([record("a", "Vale"), record("b", "Okoro"), record("c", "Silent")]);
    let expected = json!([{ "recordId": "a", "rowsAffected": 1 }, { "recordId": "b", "rowsAffected": 0 }]);
    assert_eq!(told(&upsert(&sandbox, &token, rows).await), (200, expected));
    assert!(sandbox.contact("b").is_none() && sandbox.contact("c").is_some());
    let crash = upsert(&sandbox, &token, json!([record("d", "Vale"), record("e", "Crash")])).await;
    assert_eq!(told(&crash), (500, json!(2020.0)));
    assert!(sandbox.contact("d").is_none());
}

#[tokio::test]
async fn a_login_needs_its_version_and_its_credentials() {
    let sandbox = sandbox(NextinteractSamSettings::default());
    let tries = [
        (JSON, login_body("wrong"), 401, 1005.0),
        (JSON, login_body(""), 400, 1001.0),
        (JSON, json!({ "uPassword": "sandbox-token", "version": "2" }).to_string(), 400, 1001.0),
        (JSON, json!({ "uEmail": "a", "uPassword": "sandbox-token" }).to_string(), 400, 1002.0),
        (JSON, json!({ "uEmail": "a", "uPassword": "b", "version": "2", "appCode": "XX" }).to_string(), 400, 1002.0),
        (JSON, "[]".to_owned(), 400, 1002.0),
        (FORM, "uEmail=a&uPassword=sandbox-token&version=2".to_owned(), 400, 1002.0),
        (FORM, format!("uEmail=a&uPassword={}&version=1", "p".repeat(31)), 400, 1002.0),
        ("text/plain", login_body("sandbox-token"), 400, 1002.0),
    ];
    for (media, body, status, code) in tries {
        let answer = post(&sandbox, LOGIN_PATH, "", media, body.clone()).await;
        assert_eq!(told(&answer), (status, json!(code)), "{body}");
        assert!(!answer.headers().contains_key(TOKEN));
    }
    let form = post(&sandbox, LOGIN_PATH, "", FORM, "uEmail=a%40b&uPassword=sandbox-token&appCode=NI&version=1").await;
    assert_eq!(form.headers()[LIFE], "1800");
}

#[tokio::test]
async fn a_user_sees_their_own_address_and_no_other_company() {
    let sandbox = sandbox(NextinteractSamSettings::default());
    let token = log_in(&sandbox).await;
    let own = async |path: &str, token: &str| {
        let request = http::Request::get(path).header("x-nextinteract-authtoken", token);
        let answer = sandbox.handle(request.body(Bytes::new()).unwrap()).await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice::<Value>(answer.body()).unwrap())
    };
    let path = "/rest/user/contact/17?fields=address1Name";
    let shown = json!({ "results": [{ "key": "address1Name", "value": "100 Test Street" }] });
    assert_eq!(own(path, &token).await, (200, shown));
    assert_eq!(own(path, "another").await.1["errorCode"], json!(1006.0));
    for other in
        ["/rest/user/contact/18?fields=address1Name", "/rest/user/contact/17?fields=x", "/rest/user/contact/17"]
    {
        let (status, error) = own(other, &token).await;
        assert_eq!((status, &error["errorCode"]), (400, &json!(1002.0)), "{other}");
    }
}

#[tokio::test]
async fn whoever_asks_is_told_how_a_user_logs_in() {
    let sandbox = sandbox(NextinteractSamSettings::default());
    let asked = json!({ "uEmail": "sync@example.org", "deviceType": "Android Phone", "appCode": "MY" });
    let answer = post(&sandbox, SCHEME_PATH, "", JSON, asked.to_string()).await;
    assert_eq!(told(&answer), (200, json!({ "type": "S" })));
    for (member, value) in [("uEmail", json!("")), ("deviceType", json!("Phone")), ("appCode", Value::Null)] {
        let mut wrong = asked.clone();
        wrong[member] = value;
        let answer = post(&sandbox, SCHEME_PATH, "", JSON, wrong.to_string()).await;
        assert_eq!(told(&answer), (400, json!(1002.0)), "{member}");
    }
}

#[tokio::test]
async fn a_federated_user_shows_an_access_token_and_has_no_password() {
    let sandbox = sandbox(NextinteractSamSettings::default());
    let by = async |authorization: &str, body: &str| {
        let request =
            http::Request::post(LOGIN_PATH).header("content-type", JSON).header("authorization", authorization);
        let answer = sandbox.handle(request.body(Bytes::from(body.to_owned())).unwrap()).await.unwrap();
        (answer.status().as_u16(), answer.headers().contains_key("x-nextinteract-authtoken"))
    };
    let body = r#"{"uEmail":"sync@example.org","appCode":"NI","version":"2"}"#;
    assert_eq!(by("Bearer sandbox-token", body).await, (200, true));
    assert_eq!(by("Bearer another", body).await, (401, false));
    assert_eq!(by("Basic sandbox-token", body).await, (400, false));
    assert_eq!(by("Bearer sandbox-token", &login_body("sandbox-token")).await, (400, false));
}

#[tokio::test]
async fn a_token_is_needed_and_several_are_good_at_a_time() {
    let sandbox = sandbox(NextinteractSamSettings::default());
    let row = json!([{ "externalId": "a", "lastname": "Vale" }]);
    let (first, second) = (log_in(&sandbox).await, log_in(&sandbox).await);
    for (token, status) in [("", 401), ("sandbox-token", 401), (first.as_str(), 200), (second.as_str(), 200)] {
        assert_eq!(upsert(&sandbox, token, row.clone()).await.status(), status, "{token}");
    }
    sandbox.set_faults(FaultPlan::at(1, Instead::ExpireToken)).unwrap();
    assert_eq!(told(&upsert(&sandbox, &first, row.clone()).await), (401, json!(1006.0)));
    assert_eq!(upsert(&sandbox, &first, row.clone()).await.status(), 401);
    assert_eq!(upsert(&sandbox, &second, row).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_token_ends_and_may_be_renewed_shortly_before() {
    let door = SamDoorSettings {
        token_life: Duration::from_secs(100),
        renews_within: Some(Duration::from_secs(30)),
        tells_life: false,
        ..SamDoorSettings::default()
    };
    let sandbox = sandbox(NextinteractSamSettings { door, ..NextinteractSamSettings::default() });
    let row = json!([{ "externalId": "a", "lastname": "Vale" }]);
    let token = log_in(&sandbox).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!upsert(&sandbox, &token, row.clone()).await.headers().contains_key(TOKEN));
    tokio::time::sleep(Duration::from_secs(20)).await;
    let answer = upsert(&sandbox, &token, row.clone()).await;
    let next = answer.headers()[TOKEN].to_str().unwrap().to_owned();
    assert!(!answer.headers().contains_key(LIFE));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(upsert(&sandbox, &token, row.clone()).await.status(), 401);
    assert_eq!(upsert(&sandbox, &next, row).await.status(), 200);
}

#[tokio::test]
async fn wrong_passwords_lock_an_account_where_that_is_wanted() {
    let door = SamDoorSettings { locks_after: Some(2), ..SamDoorSettings::default() };
    let sandbox = sandbox(NextinteractSamSettings { door, ..NextinteractSamSettings::default() });
    for code in [1005.0, 1005.0, 1004.0] {
        assert_eq!(told(&post(&sandbox, LOGIN_PATH, "", JSON, login_body("wrong")).await), (401, json!(code)));
    }
    let right = post(&sandbox, LOGIN_PATH, "", JSON, login_body("sandbox-token")).await;
    assert_eq!(told(&right), (401, json!(1004.0)));
}

#[tokio::test]
async fn who_may_not_write_is_told_so_and_other_places_are_not_there() {
    let sandbox = sandbox(NextinteractSamSettings { permitted: false, ..NextinteractSamSettings::default() });
    let token = log_in(&sandbox).await;
    let row = json!([{ "externalId": "a", "lastname": "Vale" }]);
    assert_eq!(told(&upsert(&sandbox, &token, row).await), (401, json!(1003.0)));
    assert_eq!(post(&sandbox, "/rest/elsewhere", &token, JSON, "").await.status(), 404);
    let get = http::Request::get(UPSERT_PATH).body(Bytes::new()).unwrap();
    assert_eq!(sandbox.handle(get).await.unwrap().status(), 405);
}
