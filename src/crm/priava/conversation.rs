//! The connector and the simulated Priava in conversation, over TCP and within the process.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    config::{CrmSettings, DeliverySettings, PriavaAuth},
    contact::{ContactId, ContactRecord, Document, record::Status},
    crm::{
        self, Answer, Crm, Delivery, Effect, Failure, FailureClass, Presence, REMOTE_CONTACT, RetryAfter, Step,
        TransportError,
        link::{Link, Sent},
        reference::References,
        session::{CredentialNumber, RenewalError},
        testing::crm_settings,
        transport::{Http, Transport},
    },
    event::{Operation, ReasonCode},
    sandbox::{Fault, FaultPlan, Instead, RateLimit, Sandbox, SandboxSettings, in_process::InProcess, server::Server},
};

const CONTACT: ContactId = ContactId(uuid::Uuid::from_u128(451));

/// One tenant, and a way to it.
struct Setup {
    crm: Crm,
    sandbox: Sandbox,
    transport: Arc<dyn Transport>,
    folder: TempDir,
    settings: CrmSettings,
    /// Closes its port when dropped.
    _server: Option<Server>,
}

fn credentials() -> (TempDir, CrmSettings) {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "sandbox-token\n").unwrap();
    (folder, crm_settings(token))
}

fn in_process(limits: fn(&mut DeliverySettings)) -> Setup {
    let (folder, mut settings) = credentials();
    limits(&mut settings.delivery);
    let sandbox = Sandbox::new(SandboxSettings::default()).unwrap();
    let delivery = &settings.delivery;
    let transport = InProcess::new(sandbox.clone(), delivery.request_deadline, delivery.response_bytes_max);
    let crm = crm::build(&settings, "contact-hub").unwrap();
    Setup { crm, sandbox, transport: Arc::new(transport), folder, settings, _server: None }
}

async fn over_tcp(limits: fn(&mut DeliverySettings)) -> Setup {
    let (folder, mut settings) = credentials();
    limits(&mut settings.delivery);
    let sandbox = Sandbox::new(SandboxSettings::default()).unwrap();
    let server = Server::start(sandbox.clone()).await.unwrap();
    let transport = Http::new(&server.base_url(&sandbox), &settings.delivery).unwrap();
    let crm = crm::build(&settings, "contact-hub").unwrap();
    Setup { crm, sandbox, transport: Arc::new(transport), folder, settings, _server: Some(server) }
}

async fn both(limits: fn(&mut DeliverySettings)) -> [Setup; 2] {
    [in_process(limits), over_tcp(limits).await]
}

impl Setup {
    /// One exchange, and what the connector makes of it.
    async fn deliver(&self, record: &ContactRecord, link: Option<&Link>, clears: &[String]) -> (Answer, Step) {
        let connector = &self.crm.connector;
        let projection = connector.project(record, link).unwrap();
        let delivery = Delivery {
            record,
            link,
            projection: &projection,
            changes: &[],
            clears,
            operation: Operation::Update,
            look_up: None,
            references: &References::default(),
            tries: 0,
        };
        let Step::Call(mut request) = connector.next(&delivery, &[]) else { panic!("a call comes first") };
        self.crm.session.authorize(&mut request);
        let answer = self.transport.exchange(request).await;
        let step = connector.next(&delivery, std::slice::from_ref(&answer));
        (answer, step)
    }

    async fn accepted(&self, record: &ContactRecord, link: Option<&Link>, clears: &[String]) -> String {
        match self.deliver(record, link, clears).await.1 {
            Step::Done(accepted) => accepted.remote_ids[REMOTE_CONTACT].clone(),
            step => panic!("accepted, not {step:?}"),
        }
    }

    async fn failed(&self, record: &ContactRecord) -> (Answer, Failure) {
        match self.deliver(record, None, &[]).await {
            (answer, Step::Failed(failure)) => (answer, failure),
            (_, step) => panic!("failed, not {step:?}"),
        }
    }

    fn stored(&self) -> Value {
        self.sandbox.contact(&CONTACT.key()).unwrap()
    }
}

fn record(contact: Value) -> ContactRecord {
    ContactRecord {
        contact_id: CONTACT,
        version: 1,
        status: Status::Live,
        merged_into: None,
        contact: Some(serde_json::from_value::<Document>(contact).unwrap()),
        provenance: BTreeMap::new(),
        members: Vec::new(),
        event: None,
        received_at: jiff::Timestamp::UNIX_EPOCH,
        epoch: 1,
        format: 1,
    }
}

fn ilka() -> Value {
    json!({
        "name": { "honorificPrefix": "Ms", "givenName": "Ilka", "familyName": "Sundstrom" },
        "emails": [{ "value": "ilka@example.com" }],
        "phoneNumbers": [{ "value": "+61400555012", "type": "mobile" }],
        "addresses": [{ "type": "postal", "poBox": "88", "locality": "Glebe", "country": "AU" }],
        "consent": { "marketing": false },
        "active": true,
    })
}

/// A link that says that `record` was accepted.
fn link_after(setup: &Setup, record: &ContactRecord) -> Link {
    let projection = setup.crm.connector.project(record, None).unwrap();
    let mut link = Link::new(CONTACT);
    link.sent = projection.fields.keys().map(|path| (path.as_str().into(), Sent::Hash(1))).collect();
    link.presence = Some(Presence::Active);
    link
}

#[tokio::test]
async fn a_contact_is_created_updated_cleared_and_deactivated_under_one_id() {
    for setup in both(|_| ()).await {
        let first = record(ilka());
        let id = setup.accepted(&first, None, &[]).await;
        let mut expected = json!({
            "firstName": "Ilka", "lastName": "Sundstrom", "email": "ilka@example.com", "title": "Ms",
            "mobile": "+61400555012", "marketingOptOut": true, "inactive": false,
            "externalIntegrationId": CONTACT.key(), "integrationSrc": "contact-hub",
            "postalAddress": { "addressLine1": "PO Box 88", "suburb": "Glebe", "country": "Australia" },
        });
        assert_eq!(setup.stored(), expected);

        let link = link_after(&setup, &first);
        let mut renamed = ilka();
        renamed["name"] = json!({ "givenName": "Ilka", "familyName": "Vale" });
        renamed["addresses"] = json!([{ "type": "postal", "locality": "Perth", "country": "AU" }]);
        let mut renamed = record(renamed);
        let clears = ["title".to_owned(), "postalAddress.addressLine1".to_owned()];
        assert_eq!(setup.accepted(&renamed, Some(&link), &clears).await, id);
        expected["lastName"] = json!("Vale");
        expected["postalAddress"] = json!({ "suburb": "Perth", "country": "Australia" });
        expected.as_object_mut().unwrap().remove("title");
        assert_eq!(setup.stored(), expected);

        renamed.status = Status::Deleted;
        assert_eq!(setup.accepted(&renamed, Some(&link), &[]).await, id);
        expected["inactive"] = json!(true);
        assert_eq!(setup.stored(), expected);
        assert_eq!(setup.sandbox.contacts().len(), 1);
    }
}

#[tokio::test]
async fn an_erased_contact_is_the_same_one_with_nothing_of_the_person_left() {
    for setup in both(|_| ()).await {
        let first = record(ilka());
        let id = setup.accepted(&first, None, &[]).await;
        let link = link_after(&setup, &first);
        let stub = ContactRecord { status: Status::Erased, contact: None, ..record(json!({})) };
        let (_, step) = setup.deliver(&stub, Some(&link), &[]).await;
        let Step::Done(accepted) = step else { panic!("accepted, not {step:?}") };
        assert_eq!((accepted.operation, &accepted.remote_ids[REMOTE_CONTACT]), (Operation::Blank, &id));
        let expected = json!({
            "firstName": "Erased", "lastName": "Erased", "email": "erased@example.invalid", "inactive": true,
            "externalIntegrationId": CONTACT.key(), "integrationSrc": "contact-hub",
        });
        assert_eq!(setup.stored(), expected);
        assert_eq!(setup.sandbox.contacts().len(), 1);
    }
}

#[tokio::test]
async fn every_country_that_is_sent_is_one_that_the_vendor_lists() {
    let setup = in_process(|_| ());
    let (first, last) = (b'A', b'Z');
    let mut sent = 0;
    for code in (first..=last).flat_map(|a| (first..=last).map(move |b| String::from_utf8(vec![a, b]).unwrap())) {
        let mut contact = ilka();
        contact["addresses"] = json!([{ "type": "home", "country": code }]);
        setup.accepted(&record(contact), None, &[]).await;
        let stored = setup.stored();
        sent += u32::from(stored.get("otherAddress").is_some());
        let cleared = json!({ "name": ilka()["name"], "emails": ilka()["emails"], "addresses": null });
        let mut cleared = record(cleared);
        cleared.contact.as_mut().unwrap().0.insert("phoneNumbers".to_owned(), ilka()["phoneNumbers"].clone());
        setup.accepted(&cleared, None, &[]).await;
    }
    assert_eq!(sent, 249, "of 676 codes, as many as there are countries");
}

#[tokio::test]
async fn a_refused_contact_is_rejected_with_the_code_and_stores_nothing() {
    for setup in both(|_| ()).await {
        let plan = Instead::Status {
            status: 400,
            headers: BTreeMap::new(),
            body: r#"{"error":"validation_error","error_description":"title Ms of Sundstrom"}"#.to_owned(),
            effect: false,
        };
        setup.sandbox.set_faults(FaultPlan::at(1, plan)).unwrap();
        let (_, failure) = setup.failed(&record(ilka())).await;
        assert_eq!((failure.class, failure.effect), (FailureClass::Rejected, Effect::None));
        assert_eq!(failure.reason.code, ReasonCode::InvalidField);
        assert_eq!(failure.reason.http_status, Some(400));
        assert_eq!(failure.reason.crm_code.as_deref(), Some("validation_error"));
        assert!(setup.sandbox.contacts().is_empty());
    }
}

#[tokio::test]
async fn a_broken_connection_is_unanswered_whether_or_not_the_write_landed() {
    for setup in both(|_| ()).await {
        for (instead, landed) in [(Instead::ResetBefore, 0), (Instead::ResetAfter, 1)] {
            setup.sandbox.set_faults(FaultPlan::at(1, instead)).unwrap();
            let (answer, failure) = setup.failed(&record(ilka())).await;
            assert!(matches!(answer, Err(TransportError::Unanswered { .. })), "{answer:?}");
            assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::Unknown));
            assert_eq!(setup.sandbox.contacts().len(), landed);
        }
        setup.accepted(&record(ilka()), None, &[]).await;
        assert_eq!(setup.sandbox.contacts().len(), 1, "the repeat found what the lost call had made");
        let effects: Vec<_> = setup.sandbox.requests().iter().map(|entry| entry.effect).collect();
        assert_eq!(effects, [None, Some(1), Some(2)], "each exchange was one request");
    }
}

#[tokio::test]
async fn an_unreachable_system_has_certainly_stored_nothing() {
    let setup = in_process(|_| ());
    setup.sandbox.set_faults(FaultPlan::at(1, Instead::Unreachable)).unwrap();
    let (_, failure) = setup.failed(&record(ilka())).await;
    assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::None));
}

#[tokio::test]
async fn no_answer_by_the_deadline_is_unanswered() {
    let limits = |settings: &mut DeliverySettings| settings.request_deadline = Duration::from_millis(200);
    for setup in both(limits).await {
        let hang = Fault::delay_after(Duration::from_secs(60));
        setup.sandbox.set_faults(FaultPlan::at(1, hang)).unwrap();
        let (answer, failure) = setup.failed(&record(ilka())).await;
        assert!(matches!(answer, Err(TransportError::Unanswered { .. })), "{answer:?}");
        assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::Unknown));
        assert_eq!(setup.sandbox.contacts().len(), 1, "it had landed");
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_on_a_paused_clock() {
    let setup = in_process(|settings| settings.request_deadline = Duration::from_secs(30));
    let hang = Fault::delay_before(Duration::from_secs(3600));
    setup.sandbox.set_faults(FaultPlan::at(1, hang)).unwrap();
    let before = tokio::time::Instant::now();
    let (answer, _) = setup.failed(&record(ilka())).await;
    assert!(matches!(answer, Err(TransportError::Unanswered { .. })), "{answer:?}");
    assert_eq!(before.elapsed(), Duration::from_secs(30));
}

#[tokio::test]
async fn a_body_that_comes_too_late_leaves_the_status() {
    let limits = |settings: &mut DeliverySettings| settings.request_deadline = Duration::from_millis(200);
    for setup in both(limits).await {
        let slow = Instead::SlowBody { pause: Duration::from_secs(60) };
        setup.sandbox.set_faults(FaultPlan::at(1, slow)).unwrap();
        let (answer, step) = setup.deliver(&record(ilka()), None, &[]).await;
        assert!(matches!(answer, Err(TransportError::UnusableBody { status, .. }) if status == 200), "{answer:?}");
        let Step::Done(accepted) = step else { panic!("a success needs no body") };
        assert_eq!(accepted.remote_ids[REMOTE_CONTACT], CONTACT.key());
    }
}

#[tokio::test]
async fn a_body_that_comes_slowly_but_in_time_is_read() {
    for setup in both(|_| ()).await {
        let slow = Instead::SlowBody { pause: Duration::from_millis(20) };
        setup.sandbox.set_faults(FaultPlan::at(1, slow)).unwrap();
        let id = setup.accepted(&record(ilka()), None, &[]).await;
        assert_eq!(id, setup.sandbox.contacts()[0]["id"].to_string());
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_read() {
    for setup in both(|settings| settings.response_bytes_max = 1000).await {
        setup.sandbox.set_faults(FaultPlan::at(1, Instead::LongBody { bytes: 1001 })).unwrap();
        let (answer, step) = setup.deliver(&record(ilka()), None, &[]).await;
        assert!(matches!(answer, Err(TransportError::UnusableBody { status, .. }) if status == 200), "{answer:?}");
        assert!(matches!(step, Step::Done(_)));
        setup.sandbox.set_faults(FaultPlan::at(1, Instead::LongBody { bytes: 1000 })).unwrap();
        assert!(setup.deliver(&record(ilka()), None, &[]).await.0.is_ok());
    }
}

#[tokio::test]
async fn too_many_requests_are_throttled_with_the_wait_that_is_asked_for() {
    for setup in both(|_| ()).await {
        let rate_limit = Some(RateLimit { per_second: 0, retry_after_seconds: 17 });
        setup.sandbox.set_faults(FaultPlan { rate_limit, ..FaultPlan::default() }).unwrap();
        let (_, failure) = setup.failed(&record(ilka())).await;
        assert_eq!((failure.class, failure.effect), (FailureClass::Throttled, Effect::None));
        assert_eq!(failure.retry_after, Some(RetryAfter::Delay(Duration::from_secs(17))));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_pauses_the_connection() {
    for setup in both(|_| ()).await {
        let headers = BTreeMap::from([("location".to_owned(), "/api/rest/v1/crm/contacts".to_owned())]);
        let redirect = Instead::Status { status: 307, headers, body: String::new(), effect: false };
        setup.sandbox.set_faults(FaultPlan::at(1, redirect)).unwrap();
        let (_, failure) = setup.failed(&record(ilka())).await;
        assert_eq!((failure.class, failure.effect), (FailureClass::Connection, Effect::None));
        assert_eq!(setup.sandbox.requests().len(), 1);
    }
}

#[tokio::test]
async fn an_error_after_the_write_landed_counts_as_unknown() {
    for setup in both(|_| ()).await {
        setup.sandbox.set_faults(FaultPlan::at(1, Fault::status_after_effect(500))).unwrap();
        let (_, failure) = setup.failed(&record(ilka())).await;
        assert_eq!((failure.class, failure.effect), (FailureClass::Transient, Effect::Unknown));
        assert_eq!(setup.sandbox.contacts().len(), 1);
    }
}

#[tokio::test]
async fn a_token_that_was_replaced_is_found_by_one_renewal() {
    for setup in both(|_| ()).await {
        setup.sandbox.set_tokens(["rotated".to_owned()]);
        let (_, failure) = setup.failed(&record(ilka())).await;
        assert_eq!((failure.class, failure.effect), (FailureClass::Auth, Effect::None));
        assert!(!setup.crm.session.renew(CredentialNumber(0), &*setup.transport).await.unwrap());
        std::fs::write(setup.folder.path().join("token"), "rotated").unwrap();
        assert!(setup.crm.session.renew(CredentialNumber(0), &*setup.transport).await.unwrap());
        setup.accepted(&record(ilka()), None, &[]).await;
    }
}

/// A tenant that gives access tokens for an hour.
fn with_oauth(setup: &mut Setup) -> std::path::PathBuf {
    let mut settings = crm_settings(setup.folder.path().join("token"));
    let priava = settings.priava.as_mut().unwrap();
    let [secret, refresh_token] = ["secret", "refresh"].map(|name| setup.folder.path().join(name));
    std::fs::write(&secret, "sandbox-token").unwrap();
    std::fs::write(&refresh_token, "sandbox-refresh").unwrap();
    priava.auth = PriavaAuth::Oauth2;
    priava.client_id = "sandbox-client".to_owned();
    priava.client_secret_file = Some(secret);
    priava.refresh_token_file = Some(refresh_token.clone());
    priava.redirect_uri = "https://localhost/granted".to_owned();
    priava.tenant_region = "EU".to_owned();
    setup.crm = crm::build(&settings, "contact-hub").unwrap();
    setup.settings = settings;
    refresh_token
}

#[tokio::test]
async fn an_access_token_that_is_refused_is_renewed_by_the_newest_refresh_token() {
    for mut setup in both(|_| ()).await {
        let refresh_token = with_oauth(&mut setup);
        setup.crm.session.ready(&*setup.transport).await.unwrap();
        setup.accepted(&record(ilka()), None, &[]).await;
        setup.sandbox.set_faults(FaultPlan::at(1, Instead::ExpireToken)).unwrap();
        let (_, failure) = setup.failed(&record(ilka())).await;
        assert_eq!((failure.class, failure.effect), (FailureClass::Auth, Effect::None));
        assert!(setup.crm.session.renew(CredentialNumber(1), &*setup.transport).await.unwrap());
        setup.accepted(&record(ilka()), None, &[]).await;
        let calls: Vec<_> = setup.sandbox.requests().into_iter().map(|call| call.path).collect();
        let contacts = "/api/rest/v1/crm/contacts";
        let token = "/api/rest/oauth/token";
        assert_eq!(calls, [token, contacts, contacts, token, contacts]);

        // A worker that is started anew goes on with what was stored.
        assert_eq!(std::fs::read_to_string(&refresh_token).unwrap(), "refresh-2");
        std::fs::write(setup.folder.path().join("secret"), "sandbox-token").unwrap();
        let again = std::fs::read_to_string(&refresh_token).unwrap();
        with_oauth(&mut setup);
        std::fs::write(&refresh_token, again).unwrap();
        setup.crm.session.ready(&*setup.transport).await.unwrap();
        setup.accepted(&record(ilka()), None, &[]).await;
    }
}

#[tokio::test]
async fn a_code_is_exchanged_and_what_it_brought_is_stored_with_a_note_of_it() {
    for mut setup in both(|_| ()).await {
        let refresh_token = with_oauth(&mut setup);
        std::fs::remove_file(&refresh_token).unwrap();
        let code = setup.folder.path().join("code");
        std::fs::write(&code, "sandbox-code\n").unwrap();
        let mut settings = setup.settings.clone();
        settings.priava.as_mut().unwrap().authorization_code_file = Some(code.clone());
        setup.crm = crm::build(&settings, "contact-hub").unwrap();
        setup.crm.session.ready(&*setup.transport).await.unwrap();
        setup.accepted(&record(ilka()), None, &[]).await;
        let stored = std::fs::read_to_string(&refresh_token).unwrap();
        assert!(stored.starts_with("refresh-1\ncame of the code with SHA-256 "), "{stored}");

        // Whoever begins anew goes on with it, with the code and without.
        for round in 2..=3 {
            setup.crm = crm::build(&settings, "contact-hub").unwrap();
            setup.crm.session.ready(&*setup.transport).await.unwrap();
            setup.accepted(&record(ilka()), None, &[]).await;
            assert!(std::fs::read_to_string(&refresh_token).unwrap().starts_with(&format!("refresh-{round}\n")));
            if code.exists() {
                std::fs::remove_file(&code).unwrap();
            }
        }
        // The setting may go too; the file is read as before.
        settings.priava.as_mut().unwrap().authorization_code_file = None;
        setup.crm = crm::build(&settings, "contact-hub").unwrap();
        setup.crm.session.ready(&*setup.transport).await.unwrap();
        assert!(setup.sandbox.requests().iter().all(|call| call.status == Some(200)));
        std::fs::remove_file(&refresh_token).unwrap();
        settings.priava.as_mut().unwrap().authorization_code_file = Some(code);
        crm::build(&settings, "contact-hub").unwrap_err();
    }
}

#[tokio::test]
async fn an_organisation_is_created_updated_cleared_and_deactivated_under_one_id() {
    for mut setup in both(|_| ()).await {
        let mut settings = setup.settings.clone();
        settings.priava.as_mut().unwrap().organisations = true;
        setup.crm = crm::build(&settings, "contact-hub").unwrap();
        let said = json!({
            "kind": "organization", "organization": { "name": "Harbour Lane", "type": "Agency" },
            "emails": [{ "value": "office@example.com" }],
            "phoneNumbers": [{ "value": "+61255501234", "type": "work" }],
            "addresses": [{ "type": "work", "streetAddress": "Quay 1", "country": "AU" }], "active": true,
        });
        let first = record(said.clone());
        let id = setup.accepted(&first, None, &[]).await;
        let mut expected = json!({
            "name": "Harbour Lane", "type": "Agency", "email": "office@example.com", "businessPhone": "+61255501234",
            "externalIntegrationId": CONTACT.key(), "integrationSrc": "contact-hub", "inactive": false,
            "organisationAddress": { "addressLine1": "Quay 1", "country": "Australia" },
        });
        assert_eq!(setup.stored(), expected);
        let link = link_after(&setup, &first);
        let mut renamed = said;
        renamed["organization"] = json!({ "name": "Mill Lane" });
        let mut renamed = record(renamed);
        let clears = ["organisation:type".to_owned()];
        assert_eq!(setup.accepted(&renamed, Some(&link), &clears).await, id);
        expected["name"] = json!("Mill Lane");
        expected.as_object_mut().unwrap().remove("type");
        assert_eq!(setup.stored(), expected);
        renamed.status = Status::Deleted;
        assert_eq!(setup.accepted(&renamed, Some(&link), &[]).await, id);
        expected["inactive"] = json!(true);
        assert_eq!(setup.stored(), expected);
        assert_eq!(setup.sandbox.contacts().len(), 1);
        assert_eq!(setup.sandbox.remarks()["unknownMembers"], json!({}));
    }
}

#[tokio::test]
async fn a_dead_grant_is_tried_once_until_there_is_another() {
    for mut setup in both(|_| ()).await {
        let refresh_token = with_oauth(&mut setup);
        std::fs::write(&refresh_token, "dead").unwrap();
        for _ in 0..3 {
            let Err(RenewalError::Login(failure)) = setup.crm.session.ready(&*setup.transport).await else {
                panic!("refused")
            };
            assert_eq!(failure.class, FailureClass::Auth);
            assert_eq!(failure.reason.crm_code.as_deref(), Some("invalid_grant"));
        }
        assert_eq!(setup.sandbox.calls(), 1);
    }
}

#[tokio::test]
async fn a_connection_that_is_kept_serves_many_requests_at_once_and_a_stopped_server_none() {
    let (_folder, settings) = credentials();
    let sandbox = Sandbox::new(SandboxSettings::default()).unwrap();
    let server = Server::start(sandbox.clone()).await.unwrap();
    let http = Http::new(&server.base_url(&sandbox), &settings.delivery).unwrap();
    let crm = crm::build(&settings, "contact-hub").unwrap();
    let record = record(ilka());
    let projection = crm.connector.project(&record, None).unwrap();
    let delivery = Delivery {
        record: &record,
        link: None,
        projection: &projection,
        changes: &[],
        clears: &[],
        operation: Operation::Create,
        look_up: None,
        references: &References::default(),
        tries: 0,
    };
    let request = || {
        let Step::Call(mut request) = crm.connector.next(&delivery, &[]) else { panic!("a call") };
        crm.session.authorize(&mut request);
        request
    };
    let answers = futures::future::join_all((0..64).map(|_| http.exchange(request()))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|response| response.status == 200)));
    assert_eq!(sandbox.contacts()[0]["writes"], 64);
    assert_eq!(sandbox.contacts().len(), 1);

    server.stop().await;
    let error = http.exchange(request()).await.unwrap_err();
    assert!(!matches!(error, TransportError::UnusableBody { .. }), "{error}");
    assert_eq!(sandbox.requests().len(), 64);
}
