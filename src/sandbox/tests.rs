//! The simulated system by itself, spoken to in plain HTTP.

use http::Method;
use serde_json::json;

use super::*;

fn sandbox(change: impl FnOnce(&mut SandboxSettings)) -> Sandbox {
    let mut settings = SandboxSettings::default();
    change(&mut settings);
    Sandbox::new(settings).unwrap()
}

fn request(body: &Value) -> http::Request<Bytes> {
    http::Request::post("/api/rest/v1/crm/contacts")
        .header("APIToken", "sandbox-token")
        .header("content-type", "application/json")
        .body(Bytes::from(body.to_string()))
        .unwrap()
}

async fn send(sandbox: &Sandbox, request: http::Request<Bytes>) -> (u16, Value) {
    let response = sandbox.handle(request).await.unwrap();
    let body = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
    (response.status().as_u16(), body)
}

async fn post(sandbox: &Sandbox, body: Value) -> (u16, Value) {
    send(sandbox, request(&body)).await
}

fn organisations(sandbox: &Sandbox) -> Vec<Value> {
    let remarks = sandbox.0.state.lock().system.remarks();
    remarks["organisations"].as_array().unwrap().clone()
}

fn with(more: Value) -> Value {
    let mut body =
        json!({ "firstName": "Ilka", "lastName": "Vale", "email": "i@example.com", "mobile": "+61400555012" });
    let Value::Object(more) = more else { panic!("an object") };
    body.as_object_mut().unwrap().extend(more);
    body
}

#[tokio::test]
async fn the_credential_the_path_the_method_and_the_media_type_are_checked() {
    let sandbox = sandbox(|_| ());
    let check = |change: fn(&mut http::Request<Bytes>), status| {
        let sandbox = sandbox.clone();
        async move {
            let mut request = request(&with(json!({})));
            change(&mut request);
            let (answered, body) = send(&sandbox, request).await;
            assert_eq!(answered, status);
            assert!(status == 200 || body["error"].is_string());
        }
    };
    check(|request| drop(request.headers_mut().remove("apitoken")), 401).await;
    check(|request| drop(request.headers_mut().insert("apitoken", "other".parse().unwrap())), 401).await;
    check(|request| *request.uri_mut() = "/api/rest/v1/crm/contact".parse().unwrap(), 404).await;
    check(|request| *request.uri_mut() = "/v1/crm/contacts".parse().unwrap(), 404).await;
    check(|request| *request.method_mut() = Method::PUT, 405).await;
    check(|request| drop(request.headers_mut().remove("content-type")), 415).await;
    check(|request| *request.body_mut() = Bytes::from_static(b"[]"), 400).await;
    assert!(sandbox.contacts().is_empty(), "nothing was stored so far");
    check(
        |request| {
            request.headers_mut().remove("apitoken");
            request.headers_mut().insert("authorization", "Bearer sandbox-token".parse().unwrap());
        },
        200,
    )
    .await;
}

#[tokio::test]
async fn an_id_with_its_source_is_the_key_and_never_falls_back_to_the_name() {
    let sandbox = sandbox(|_| ());
    let created = |(status, body): (u16, Value)| {
        assert_eq!(status, 200);
        (body["id"].as_u64().unwrap(), body["created"].as_bool().unwrap())
    };
    let (first, is_new) =
        created(post(&sandbox, with(json!({ "externalIntegrationId": "1", "integrationSrc": "a" }))).await);
    assert!(is_new);
    let renamed = with(json!({ "externalIntegrationId": "1", "integrationSrc": "a", "lastName": "Other" }));
    assert_eq!(created(post(&sandbox, renamed).await), (first, false));
    for other in [
        json!({ "externalIntegrationId": "1", "integrationSrc": "b" }),
        json!({ "externalIntegrationId": "1" }),
        json!({ "externalIntegrationId": "2", "integrationSrc": "a", "lastName": "Other" }),
    ] {
        assert!(created(post(&sandbox, with(other)).await).1);
    }
    assert_eq!(sandbox.contacts().len(), 4);
}

#[tokio::test]
async fn without_an_id_the_name_and_email_match_the_oldest_without_regard_to_case() {
    let sandbox = sandbox(|_| ());
    let (_, first) = post(&sandbox, with(json!({ "externalIntegrationId": "1" }))).await;
    let (_, second) = post(&sandbox, with(json!({ "externalIntegrationId": "2" }))).await;
    assert_ne!(first["id"], second["id"]);
    let (_, matched) = post(&sandbox, with(json!({ "firstName": "ILKA", "email": "I@EXAMPLE.COM" }))).await;
    assert_eq!(matched, json!({ "id": first["id"], "created": false }));
    let (_, fresh) = post(&sandbox, with(json!({ "lastName": "Vale-Sundstrom" }))).await;
    assert_eq!(fresh["created"], true, "a renamed person is another one");
}

#[tokio::test]
async fn what_is_not_mentioned_stays_and_null_clears() {
    let sandbox = sandbox(|_| ());
    let key = json!({ "externalIntegrationId": "1" });
    let first = json!({ "externalIntegrationId": "1", "title": "Ms", "department": "Ops",
        "postalAddress": { "suburb": "Glebe", "state": "NSW" }, "otherAddress": { "suburb": "Perth" } });
    post(&sandbox, with(first)).await;
    let update = json!({ "externalIntegrationId": "1", "title": null, "postalAddress": { "state": null }, "otherAddress": null });
    let mut without_phone = with(update);
    without_phone.as_object_mut().unwrap().remove("mobile");
    assert_eq!(post(&sandbox, without_phone).await.0, 200, "the phone rule is for creating only");
    let mut expected = with(key);
    expected["department"] = json!("Ops");
    expected["postalAddress"] = json!({ "suburb": "Glebe" });
    assert_eq!(sandbox.contact("1").unwrap(), expected);
}

#[tokio::test]
async fn an_update_can_be_made_to_replace_everything() {
    let sandbox = sandbox(|settings| settings.priava.absent_clears = true);
    post(&sandbox, with(json!({ "externalIntegrationId": "1", "title": "Ms" }))).await;
    post(&sandbox, with(json!({ "externalIntegrationId": "1" }))).await;
    assert_eq!(sandbox.contact("1").unwrap(), with(json!({ "externalIntegrationId": "1" })));
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_and_stores_nothing() {
    let sandbox = sandbox(|settings| settings.priava.organisation_types = vec!["Agency".to_owned()]);
    let check = async |body: Value, word: &str| {
        let (status, answer) = post(&sandbox, body).await;
        assert_eq!((status, &answer["error"]), (400, &json!("validation_error")), "{word}");
        assert!(answer["error_description"].as_str().unwrap().contains(word), "{answer}");
    };
    check(with(json!({ "firstName": null })), "firstName").await;
    check(with(json!({ "lastName": " " })), "lastName").await;
    check(json!({ "firstName": "A", "lastName": "B", "mobile": "1" }), "email").await;
    check(json!({ "firstName": "A", "lastName": "B", "email": "c@example.com" }), "phoneNumber or mobile").await;
    check(with(json!({ "mobile": 61400555012_u64 })), "mobile").await;
    check(with(json!({ "externalReferenceNo": "7" })), "externalReferenceNo").await;
    check(with(json!({ "inactive": "true" })), "inactive").await;
    check(with(json!({ "postalAddress": "Glebe" })), "postalAddress").await;
    check(with(json!({ "postalAddress": { "suburb": 1 } })), "postalAddress.suburb").await;
    check(with(json!({ "postalAddress": { "country": "Atlantis" } })), "postalAddress.country").await;
    check(with(json!({ "title": "Freifrau" })), "title").await;
    check(with(json!({ "organisation": "Lane", "organisationType": "Circus" })), "organisationType").await;
    assert!(sandbox.contacts().is_empty() && organisations(&sandbox).is_empty());
}

#[tokio::test]
async fn countries_are_taken_as_name_or_code() {
    let sandbox = sandbox(|_| ());
    for country in ["Australia", "AU", "united kingdom", "Åland Islands", "CÔTE D'IVOIRE"] {
        assert_eq!(post(&sandbox, with(json!({ "otherAddress": { "country": country } }))).await.0, 200, "{country}");
    }
}

#[tokio::test]
async fn leniency_can_be_set() {
    let lenient = sandbox(|settings| settings.priava.ignore_unknown_titles = true);
    assert_eq!(post(&lenient, with(json!({ "title": "Freifrau", "surname": "x" }))).await.0, 200);
    assert_eq!(lenient.contacts()[0]["fields"], with(json!({})), "the title and the unknown key are dropped");
    let strict = sandbox(|settings| settings.priava.refuse_unknown_keys = true);
    assert_eq!(post(&strict, with(json!({ "surname": "x" }))).await.0, 400);
    assert_eq!(post(&strict, with(json!({ "otherAddress": { "city": "x" } }))).await.0, 400);
}

#[tokio::test]
async fn an_unknown_organisation_is_created_from_the_contact_and_a_known_one_is_left_alone() {
    let sandbox = sandbox(|_| ());
    let first = json!({ "externalIntegrationId": "1", "organisation": "Harbour Lane", "organisationType": "Agency" });
    post(&sandbox, with(first)).await;
    let again = json!({ "externalIntegrationId": "2", "organisation": " harbour lane ", "organisationType": "Circus",
        "email": "other@example.com" });
    post(&sandbox, with(again)).await;
    let known = organisations(&sandbox);
    assert_eq!(known.len(), 1);
    assert_eq!(known[0]["name"], "Harbour Lane");
    let expected = json!({ "mobile": "+61400555012", "email": "i@example.com", "organisationType": "Agency" });
    assert_eq!(known[0]["fields"], expected);
    for contact in sandbox.contacts() {
        assert_eq!(contact["organisationId"], known[0]["id"]);
        assert_eq!(contact["fields"]["organisation"], "Harbour Lane");
    }
    post(&sandbox, with(json!({ "externalIntegrationId": "1", "organisation": null }))).await;
    assert_eq!(sandbox.contacts()[0]["organisationId"], Value::Null);
    assert_eq!(organisations(&sandbox).len(), 1);
}

#[tokio::test]
async fn ids_follow_from_the_seed() {
    let id = async |seed| post(&sandbox(|settings| settings.seed = seed), with(json!({}))).await.1["id"].clone();
    assert_eq!(id(5).await, id(5).await);
    assert_ne!(id(5).await, id(6).await);
}

#[tokio::test(start_paused = true)]
async fn a_write_lands_even_if_the_caller_has_gone() {
    let sandbox = sandbox(|settings| {
        settings.faults = FaultPlan::at(1, Fault::delay_before(Duration::from_secs(10)));
    });
    let late = sandbox.handle(request(&with(json!({ "externalIntegrationId": "1", "title": "Ms" }))));
    tokio::time::timeout(Duration::from_secs(1), late).await.unwrap_err();
    post(&sandbox, with(json!({ "externalIntegrationId": "1", "title": "Dr" }))).await;
    assert_eq!(sandbox.contact("1").unwrap()["title"], "Dr");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(sandbox.contact("1").unwrap()["title"], "Ms", "the older write landed later");
    let log = sandbox.requests();
    let seen: Vec<_> = log.iter().map(|entry| (entry.sequence, entry.effect, entry.answered)).collect();
    assert_eq!(seen, [(1, Some(2), false), (2, Some(1), true)]);
    assert_eq!(log[1].since_start, Duration::from_secs(1));
}

#[tokio::test]
async fn the_log_says_what_became_of_each_request() {
    let script = |call, fault: Fault| Scripted::at(call, fault);
    let sandbox = sandbox(|settings| {
        settings.faults.script = vec![
            script(2, Instead::ResetBefore.into()),
            script(3, Instead::ResetAfter.into()),
            script(4, Fault::status(503)),
            script(5, Fault::status_after_effect(500)),
            script(6, Instead::Unreachable.into()),
        ];
    });
    let body = with(json!({ "externalIntegrationId": "c-1" }));
    let mut results = Vec::new();
    for _ in 0..7 {
        let result = sandbox.handle(request(&body)).await;
        results.push(result.map(|response| response.status().as_u16()));
    }
    let (closed, unreachable) = (Err(Reset::Closed), Err(Reset::Unreachable));
    assert_eq!(results, [Ok(200), closed, closed, Ok(503), Ok(500), unreachable, Ok(200)]);
    let log = sandbox.requests();
    let seen: Vec<_> = log.iter().map(|entry| (entry.status, entry.effect, entry.answered, entry.faulty)).collect();
    assert_eq!(
        seen,
        [
            (Some(200), Some(1), true, false),
            (None, None, false, true),
            (None, Some(2), false, true),
            (Some(503), None, true, true),
            (Some(500), Some(3), true, true),
            (None, None, false, true),
            (Some(200), Some(4), true, false),
        ]
    );
    assert!(log.iter().all(|entry| entry.ended && entry.contact.as_deref() == Some("c-1")));
    assert!(log.iter().all(|entry| entry.body_hash == log[0].body_hash && entry.body.is_none()));
}

#[tokio::test]
async fn an_expired_token_is_refused_until_another_is_accepted() {
    let sandbox = sandbox(|settings| settings.faults = FaultPlan::at(1, Instead::ExpireToken));
    for _ in 0..2 {
        assert_eq!(post(&sandbox, with(json!({}))).await.0, 401);
    }
    sandbox.set_tokens(["sandbox-token".to_owned()]);
    assert_eq!(post(&sandbox, with(json!({}))).await.0, 200);
}

#[tokio::test]
async fn the_control_addresses_show_the_store_and_the_log_and_take_faults() {
    let sandbox = sandbox(|settings| settings.log_bodies = true);
    let body = with(json!({ "externalIntegrationId": "c-1" }));
    post(&sandbox, body.clone()).await;
    let get = |path: &str| http::Request::get(path.to_owned()).body(Bytes::new()).unwrap();
    let put = |path: &str, body: &str| {
        http::Request::post(path.to_owned()).body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
    };
    let (status, store) = send(&sandbox, get("/_sandbox/contacts")).await;
    assert_eq!((status, &store["contacts"][0]["fields"]), (200, &body));
    assert_eq!(store["contacts"][0]["writes"], 1);

    let plan = r#"{ "script": [{ "call": 1, "fault": { "instead": { "kind": "status", "status": 418 } } }] }"#;
    assert_eq!(send(&sandbox, put("/_sandbox/faults", plan)).await.0, 200);
    assert_eq!(post(&sandbox, body.clone()).await.0, 418);
    assert_eq!(send(&sandbox, put("/_sandbox/faults", r#"{ "scrip": [] }"#)).await.0, 400);
    let bad_status = plan.replace("418", "99");
    assert_eq!(send(&sandbox, put("/_sandbox/faults", &bad_status)).await.0, 400);
    assert_eq!(send(&sandbox, put("/_sandbox/tokens", r#"["other"]"#)).await.0, 200);
    assert_eq!(post(&sandbox, body.clone()).await.0, 401);
    assert_eq!(send(&sandbox, get("/_sandbox/nothing")).await.0, 404);

    let (_, log) = send(&sandbox, get("/_sandbox/requests?after=1")).await;
    assert_eq!(log["dropped"], 0);
    let statuses: Vec<&Value> = log["requests"].as_array().unwrap().iter().map(|entry| &entry["status"]).collect();
    assert_eq!(statuses, [418, 401], "the log leaves the control addresses out");
    assert_eq!(serde_json::from_str::<Value>(log["requests"][0]["body"].as_str().unwrap()).unwrap(), body);
}

#[tokio::test]
async fn no_debug_output_shows_a_contact() {
    let sandbox = sandbox(|settings| settings.log_bodies = true);
    post(&sandbox, with(json!({ "jobTitle": "canary" }))).await;
    assert!(!format!("{sandbox:?} {:?}", sandbox.requests()).contains("canary"));
}

fn organisation_call(body: &Value) -> http::Request<Bytes> {
    let mut call = request(body);
    *call.uri_mut() = "/api/rest/v1/crm/organisations".parse().unwrap();
    call
}

fn lane(more: Value) -> Value {
    let mut body = json!({ "name": "Harbour Lane", "businessPhone": "+61255501234" });
    let Value::Object(more) = more else { panic!("an object") };
    body.as_object_mut().unwrap().extend(more);
    body
}

#[tokio::test]
async fn an_organisation_is_found_by_its_id_and_source_else_by_its_name() {
    for falls_back in [false, true] {
        let sandbox = sandbox(|settings| settings.priava.organisations_fall_back_to_name = falls_back);
        let send = async |more: Value| send(&sandbox, organisation_call(&lane(more))).await.1;
        post(&sandbox, with(json!({ "organisation": "harbour lane" }))).await;
        let made = organisations(&sandbox)[0]["id"].clone();
        assert!(sandbox.contacts().iter().all(|contact| contact["id"] != made), "no call of its own made it");
        let by_name = send(json!({ "name": " HARBOUR lane " })).await;
        assert_eq!(by_name, json!({ "id": made, "created": false }));
        let by_id = send(json!({ "externalIntegrationId": "1", "integrationSrc": "a" })).await;
        assert_eq!(by_id["created"], !falls_back, "an id that is new");
        let renamed = send(json!({ "externalIntegrationId": "1", "integrationSrc": "a", "name": "Mill Lane" })).await;
        assert_eq!((&renamed["id"], &renamed["created"]), (&by_id["id"], &json!(false)));
        assert_eq!(sandbox.contact("1").unwrap()["name"], "Mill Lane");
        let other = send(json!({ "externalIntegrationId": "1", "integrationSrc": "b", "name": "Third" })).await;
        assert_eq!(other["created"], true, "another source");
    }
}

#[tokio::test]
async fn what_breaks_a_rule_of_organisations_is_refused_and_stores_nothing() {
    let sandbox = sandbox(|settings| {
        settings.priava.organisation_types = vec!["Agency".to_owned()];
        settings.priava.market_sectors = vec!["Arts".to_owned()];
    });
    let check = async |body: Value, word: &str| {
        let (status, answer) = send(&sandbox, organisation_call(&body)).await;
        assert_eq!((status, &answer["error"]), (400, &json!("validation_error")), "{word}");
        assert!(answer["error_description"].as_str().unwrap().contains(word), "{answer}");
    };
    check(lane(json!({ "name": " " })), "name").await;
    check(json!({ "name": "Lane", "fax": "1", "mobile": "2" }), "businessPhone or otherPhone").await;
    check(lane(json!({ "externalReferenceNo": 7 })), "externalReferenceNo").await;
    check(lane(json!({ "inactive": "true" })), "inactive").await;
    check(lane(json!({ "type": "Circus" })), "type").await;
    check(lane(json!({ "marketSector": "Machines" })), "marketSector").await;
    check(lane(json!({ "parent": "Nobody" })), "parent").await;
    check(lane(json!({ "otherAddress": { "country": "Atlantis" } })), "otherAddress.country").await;
    assert!(organisations(&sandbox).is_empty() && sandbox.contacts().is_empty());
    let mut put = organisation_call(&lane(json!({})));
    *put.method_mut() = Method::PUT;
    assert_eq!(send(&sandbox, put).await.0, 405);
    let mut nobody = organisation_call(&lane(json!({})));
    nobody.headers_mut().remove("apitoken");
    assert_eq!(send(&sandbox, nobody).await.0, 401);
}

#[tokio::test]
async fn what_an_organisation_does_not_mention_stays_null_clears_and_unknown_keys_are_counted() {
    let sandbox = sandbox(|_| ());
    let first = json!({ "externalIntegrationId": "1", "website": "https://example.com", "fax": "1", "mobile": "2" });
    assert_eq!(send(&sandbox, organisation_call(&lane(first))).await.0, 200);
    let again = json!({ "externalIntegrationId": "1", "name": "Lane", "fax": null, "mobile": "3",
        "postalAddress": { "city": "Glebe" } });
    assert_eq!(send(&sandbox, organisation_call(&again)).await.0, 200, "the phone rule is for creating only");
    let expected = json!({ "externalIntegrationId": "1", "name": "Lane", "businessPhone": "+61255501234",
        "website": "https://example.com" });
    assert_eq!(sandbox.contact("1").unwrap(), expected);
    assert_eq!(sandbox.remarks()["unknownMembers"], json!({ "mobile": 2, "postalAddress.city": 1 }));
    assert_eq!(sandbox.contacts()[0]["writes"], 2);
}

#[tokio::test]
async fn an_authorization_code_is_good_for_one_exchange() {
    let sandbox = sandbox(|_| ());
    let ask_from = async |region: &str, grant: &str| {
        let form = format!(
            "{grant}&client_id=sandbox-client&client_secret=sandbox-token&redirect_uri=https%3A%2F%2Flocalhost%2Fgranted"
        );
        let request = http::Request::post("/api/rest/oauth/token")
            .header("content-type", "application/x-www-form-urlencoded;charset=utf-8")
            .header("TenantRegion", region)
            .body(Bytes::from(form))
            .unwrap();
        send(&sandbox, request).await
    };
    let ask = async |grant: &str| ask_from("EU", grant).await;
    let refused = |(status, body): (u16, Value)| (status, body["error"].as_str().unwrap().to_owned());
    let dead = (400, "invalid_grant".to_owned());
    assert_eq!(refused(ask("grant_type=authorization_code&code=other").await), dead);
    let nowhere = ask_from("MARS", "grant_type=authorization_code&code=sandbox-code").await;
    assert_eq!(refused(nowhere), (400, "invalid_request".to_owned()));
    let (status, granted) = ask("grant_type=authorization_code&code=sandbox-code").await;
    assert_eq!((status, &granted["token_type"], &granted["expires_in"]), (200, &json!("BEARER"), &json!(21600)));
    assert_eq!(refused(ask("grant_type=authorization_code&code=sandbox-code").await), dead);
    let next = format!("grant_type=refresh_token&refresh_token={}", granted["refresh_token"].as_str().unwrap());
    assert_eq!(ask(&next).await.0, 200);
    assert_eq!(refused(ask(&next).await), dead, "and so is a refresh token");
    assert_eq!(refused(ask("grant_type=password&code=x").await).1, "unsupported_grant_type");
}
