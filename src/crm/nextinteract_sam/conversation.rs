//! The connector and the simulated SAM in conversation, over TCP and within the process.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    config::{CrmSettings, LoginForm},
    contact::{ContactId, ContactRecord, Document, record::Status},
    crm::{
        self, Answer, Crm, Delivery, Effect, Failure, FailureClass, REMOTE_CONTACT, Request, Split, Step,
        link::{Link, Sent},
        reference::References,
        session::{CredentialNumber, RenewalError},
        testing::sam_crm,
        transport::{Http, Transport},
    },
    event::Operation,
    sandbox::{
        Action, Fault, FaultPlan, Instead, Kind, NextinteractSamSettings, Only, SamDoorSettings, Sandbox,
        SandboxSettings, Scripted, in_process::InProcess, server::Server,
    },
};

const LOGIN: &str = "/rest/user/login";

/// One company, and a way to it.
struct Setup {
    crm: Crm,
    sandbox: Sandbox,
    transport: Arc<dyn Transport>,
    folder: TempDir,
    /// Closes its port when dropped.
    _server: Option<Server>,
}

fn sandbox(sam: NextinteractSamSettings) -> Sandbox {
    Sandbox::new(SandboxSettings { nextinteract_sam: sam, ..SandboxSettings::of(Kind::NextinteractSam) }).unwrap()
}

fn credentials() -> (TempDir, CrmSettings) {
    let folder = tempfile::tempdir().unwrap();
    let (email, password) = (folder.path().join("email"), folder.path().join("password"));
    std::fs::write(&email, "sync@example.org\n").unwrap();
    std::fs::write(&password, "sandbox-token\n").unwrap();
    let mut crm = sam_crm(email, password);
    crm.delivery.request_deadline = Duration::from_secs(5);
    (folder, crm)
}

fn in_process(sam: NextinteractSamSettings, change: fn(&mut CrmSettings)) -> Setup {
    let (folder, mut settings) = credentials();
    change(&mut settings);
    let sandbox = sandbox(sam);
    let delivery = &settings.delivery;
    let transport = InProcess::new(sandbox.clone(), delivery.request_deadline, delivery.response_bytes_max);
    let crm = crm::build(&settings, "contact-hub").unwrap();
    Setup { crm, sandbox, transport: Arc::new(transport), folder, _server: None }
}

async fn over_tcp(sam: NextinteractSamSettings, change: fn(&mut CrmSettings)) -> Setup {
    let (folder, mut settings) = credentials();
    change(&mut settings);
    let sandbox = sandbox(sam);
    let server = Server::start(sandbox.clone()).await.unwrap();
    let transport = Http::new(&server.base_url(&sandbox), &settings.delivery).unwrap();
    let crm = crm::build(&settings, "contact-hub").unwrap();
    Setup { crm, sandbox, transport: Arc::new(transport), folder, _server: Some(server) }
}

async fn both(sam: NextinteractSamSettings, change: fn(&mut CrmSettings)) -> [Setup; 2] {
    [in_process(sam.clone(), change), over_tcp(sam, change).await]
}

fn plain(_crm: &mut CrmSettings) {}

impl Setup {
    /// One exchange with the credential that is in use, which is got first if need be.
    async fn exchange(&self, mut request: Request) -> (Answer, CredentialNumber) {
        self.crm.session.ready(&*self.transport).await.unwrap();
        let number = self.crm.session.authorize(&mut request);
        let answer = self.transport.exchange(request).await;
        if let Ok(response) = &answer {
            self.crm.session.answered(number, response);
        }
        (answer, number)
    }

    fn next(&self, record: &ContactRecord, link: Option<&Link>, answers: &[Answer]) -> Step {
        let connector = &self.crm.connector;
        let (projection, references) = (connector.project(record, link).unwrap(), References::default());
        let delivery = Delivery {
            record,
            link,
            projection: &projection,
            changes: &[],
            clears: &[],
            operation: Operation::Update,
            look_up: None,
            references: &references,
            tries: 0,
        };
        connector.next(&delivery, answers)
    }

    fn row(&self, record: &ContactRecord, link: Option<&Link>) -> Request {
        match self.next(record, link, &[]) {
            Step::Call(request) => request,
            step => panic!("a call comes first, not {step:?}"),
        }
    }

    async fn deliver(&self, record: &ContactRecord, link: Option<&Link>) -> Step {
        let (answer, _) = self.exchange(self.row(record, link)).await;
        self.next(record, link, &[answer])
    }

    async fn accepted(&self, record: &ContactRecord, link: Option<&Link>) {
        match self.deliver(record, link).await {
            Step::Done(accepted) => assert_eq!(accepted.remote_ids[REMOTE_CONTACT], record.contact_id.key()),
            step => panic!("accepted, not {step:?}"),
        }
    }

    async fn failed(&self, record: &ContactRecord) -> Failure {
        match self.deliver(record, None).await {
            Step::Failed(failure) => failure,
            step => panic!("failed, not {step:?}"),
        }
    }

    /// What is stored, but for when it was.
    fn stored(&self, id: u128) -> Value {
        let mut stored = self.sandbox.contact(&contact(id).key()).unwrap();
        stored.as_object_mut().unwrap().remove("contactModified");
        stored
    }

    fn logins(&self) -> usize {
        self.sandbox.requests().iter().filter(|request| request.path == LOGIN).count()
    }
}

fn contact(id: u128) -> ContactId {
    ContactId(uuid::Uuid::from_u128(id))
}

fn record(id: u128, contact: Value) -> ContactRecord {
    ContactRecord {
        contact_id: self::contact(id),
        version: 1,
        status: Status::Live,
        merged_into: None,
        contact: Some(Document::parse(contact).unwrap().0),
        provenance: BTreeMap::new(),
        members: Vec::new(),
        event: None,
        received_at: jiff::Timestamp::UNIX_EPOCH,
        epoch: 1,
        format: 1,
    }
}

fn named(id: u128, family: &str) -> ContactRecord {
    record(id, json!({ "name": { "familyName": family } }))
}

fn link_of(record: &ContactRecord) -> Link {
    let mut link = Link::new(record.contact_id);
    link.sent.insert("lastname".into(), Sent::Hash(1));
    link
}

#[tokio::test]
async fn a_contact_is_created_changed_cleared_and_erased_as_one_row() {
    for setup in both(NextinteractSamSettings::default(), plain).await {
        let first = record(
            1,
            json!({
                "name": { "givenName": "Ilka", "familyName": "Sundstrom" },
                "emails": [{ "value": "ilka@example.com" }],
                "birthDate": "2001-02-03",
                "addresses": [{ "streetAddress": "100 Test Street", "country": "AU" }],
            }),
        );
        setup.accepted(&first, None).await;
        let expected = json!({
            "externalId": contact(1).key(), "firstname": "Ilka", "lastname": "Sundstrom", "email1": "ilka@example.com",
            "dateOfBirth": 981_158_400_000_u64, "workAddress1": "100 Test Street", "countryCode": "AU",
        });
        assert_eq!(setup.stored(1), expected);
        let link = link_of(&first);
        let changed = record(1, json!({ "name": { "familyName": "Vale" }, "notes": "n" }));
        setup.accepted(&changed, Some(&link)).await;
        assert_eq!(setup.stored(1), json!({ "externalId": contact(1).key(), "lastname": "Vale", "notes": "n" }));
        let erased = ContactRecord { status: Status::Erased, contact: None, ..changed };
        setup.accepted(&erased, Some(&link)).await;
        assert_eq!(setup.stored(1), json!({ "externalId": contact(1).key(), "lastname": "Erased" }));
        assert_eq!(setup.sandbox.contacts().len(), 1);
        assert_eq!(setup.logins(), 1);
    }
}

#[tokio::test]
async fn rows_of_several_contacts_share_a_call_and_each_learns_its_own_fate() {
    let sam = NextinteractSamSettings {
        unstored: ["Unlucky".to_owned()].into(),
        unmentioned: ["Silent".to_owned()].into(),
        ..NextinteractSamSettings::default()
    };
    for setup in both(sam, plain).await {
        let records = [named(1, "Vale"), named(2, "Unlucky"), named(3, "Silent"), named(4, "Okoro")];
        let rows: Vec<Request> = records.iter().map(|record| setup.row(record, None)).collect();
        let batching = setup.crm.connector.batching().unwrap();
        let keys: Vec<String> = rows.iter().map(|row| batching.row_key(row).unwrap()).collect();
        let (answer, _) = setup.exchange(batching.join(&rows.iter().collect::<Vec<_>>())).await;
        let Split::Rows(answers) = batching.split(&answer, &keys.iter().map(String::as_str).collect::<Vec<_>>()) else {
            panic!("a success is for each")
        };
        let fates = records.iter().zip(answers).map(|(record, answer)| setup.next(record, None, &[answer]));
        let fates: Vec<_> = fates
            .map(|step| match step {
                Step::Done(_) => "stored",
                Step::CallAlone(_) => "alone",
                Step::Failed(failure) if failure.effect == Effect::Unknown => "unknown",
                step => panic!("not {step:?}"),
            })
            .collect();
        assert_eq!(fates, ["stored", "alone", "unknown", "stored"]);
        assert_eq!(setup.sandbox.contacts().len(), 3);
    }
}

#[tokio::test]
async fn one_bad_record_refuses_the_whole_call() {
    let sam = NextinteractSamSettings { refused: ["Poison".to_owned()].into(), ..NextinteractSamSettings::default() };
    for setup in both(sam, plain).await {
        let rows = [setup.row(&named(1, "Vale"), None), setup.row(&named(2, "Poison"), None)];
        let batching = setup.crm.connector.batching().unwrap();
        let (answer, _) = setup.exchange(batching.join(&[&rows[0], &rows[1]])).await;
        assert!(matches!(batching.split(&answer, &["a", "b"]), Split::Halve));
        assert_eq!(setup.sandbox.contacts().len(), 0);
        setup.accepted(&named(1, "Vale"), None).await;
        let failure = setup.failed(&named(2, "Poison")).await;
        assert_eq!((failure.class, failure.effect), (FailureClass::Rejected, Effect::None));
        assert_eq!(failure.reason.crm_code.as_deref(), Some("WSInvalidParameterException"));
    }
}

#[tokio::test]
async fn each_way_to_log_in_is_understood() {
    let by_form: fn(&mut CrmSettings) = |crm| crm.nextinteract_sam.as_mut().unwrap().login = LoginForm::Form;
    let federated: fn(&mut CrmSettings) = |crm| crm.nextinteract_sam.as_mut().unwrap().login = LoginForm::Federated;
    for login in [by_form, federated] {
        for setup in both(NextinteractSamSettings::default(), login).await {
            setup.accepted(&named(1, "Vale"), None).await;
            assert_eq!(setup.logins(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_taken_back_costs_one_login_whoever_carried_it() {
    let setup = in_process(NextinteractSamSettings::default(), plain);
    setup.accepted(&named(1, "Vale"), None).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let upserts = Only::action(Action::Upsert);
    let expired = Scripted { only: upserts, ..Scripted::at(1, Instead::ExpireToken) };
    setup.sandbox.set_faults(FaultPlan { script: vec![expired], ..FaultPlan::default() }).unwrap();
    let refused = futures::future::join_all((2..7).map(async |id| {
        let record = named(id, "Vale");
        let (answer, number) = setup.exchange(setup.row(&record, None)).await;
        let Step::Failed(failure) = setup.next(&record, None, &[answer]) else { panic!("the token is gone") };
        assert_eq!(failure.class, FailureClass::Auth);
        setup.crm.session.renew(number, &*setup.transport).await.unwrap()
    }));
    assert_eq!(refused.await, [true; 5]);
    setup.accepted(&named(2, "Vale"), None).await;
    assert_eq!(setup.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_its_end_and_an_offered_one_is_taken() {
    let door = SamDoorSettings { token_life: Duration::from_secs(600), ..SamDoorSettings::default() };
    let sam = NextinteractSamSettings { door: door.clone(), ..NextinteractSamSettings::default() };
    let setup = in_process(sam, plain);
    setup.accepted(&named(1, "Vale"), None).await;
    tokio::time::sleep(Duration::from_secs(545)).await;
    setup.accepted(&named(1, "Vale"), None).await;
    assert_eq!(setup.logins(), 2, "less than a minute was left");

    let door = SamDoorSettings { renews_within: Some(Duration::from_secs(120)), ..door };
    let setup = in_process(NextinteractSamSettings { door, ..NextinteractSamSettings::default() }, plain);
    for _ in 0..10 {
        setup.accepted(&named(1, "Vale"), None).await;
        tokio::time::sleep(Duration::from_secs(500)).await;
    }
    assert_eq!(setup.logins(), 1, "each token brought the next");
}

#[tokio::test(start_paused = true)]
async fn a_token_without_a_word_about_its_life_is_taken_to_last_a_quarter_of_an_hour() {
    let door = SamDoorSettings { tells_life: false, ..SamDoorSettings::default() };
    let setup = in_process(NextinteractSamSettings { door, ..NextinteractSamSettings::default() }, plain);
    setup.accepted(&named(1, "Vale"), None).await;
    tokio::time::sleep(Duration::from_secs(13 * 60)).await;
    setup.accepted(&named(1, "Vale"), None).await;
    assert_eq!(setup.logins(), 1);
    tokio::time::sleep(Duration::from_secs(90)).await;
    setup.accepted(&named(1, "Vale"), None).await;
    assert_eq!(setup.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_tried_once_and_locks_nobody_out() {
    let door = SamDoorSettings { locks_after: Some(2), ..SamDoorSettings::default() };
    let setup = in_process(NextinteractSamSettings { door, ..NextinteractSamSettings::default() }, plain);
    let password = setup.folder.path().join("password");
    std::fs::write(&password, "wrong").unwrap();
    for _ in 0..5 {
        let Err(RenewalError::Login(failure)) = setup.crm.session.ready(&*setup.transport).await else {
            panic!("the password is wrong")
        };
        assert_eq!(failure.class, FailureClass::Auth);
        assert_eq!(failure.reason.crm_code.as_deref(), Some("WSAuthenticationFailedException"));
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    assert_eq!(setup.logins(), 1);
    std::fs::write(&password, "sandbox-token").unwrap();
    setup.accepted(&named(1, "Vale"), None).await;
}

#[tokio::test]
async fn a_missing_right_is_no_reason_to_log_in_again() {
    let sam = NextinteractSamSettings { permitted: false, ..NextinteractSamSettings::default() };
    for setup in both(sam, plain).await {
        let failure = setup.failed(&named(1, "Vale")).await;
        assert_eq!(failure.class, FailureClass::Connection);
        assert_eq!(failure.reason.crm_code.as_deref(), Some("WSInsufficientPermissionsException"));
    }
}

#[tokio::test]
async fn what_the_network_does_to_a_write_is_told_apart() {
    for setup in both(NextinteractSamSettings::default(), plain).await {
        setup.accepted(&named(1, "Vale"), None).await;
        for (fault, class, effect) in [
            (Fault::status(503), FailureClass::Transient, Effect::Unknown),
            (Fault::retry_after(429, 7), FailureClass::Throttled, Effect::None),
            (Instead::ResetAfter.into(), FailureClass::Transient, Effect::Unknown),
            (Instead::LongBody { bytes: 2 << 20 }.into(), FailureClass::Transient, Effect::Unknown),
        ] {
            setup.sandbox.set_faults(FaultPlan::at(1, fault)).unwrap();
            let failure = setup.failed(&named(2, "Vale")).await;
            assert_eq!((failure.class, failure.effect), (class, effect));
        }
        assert_eq!(setup.sandbox.contacts().len(), 2, "what was lost had its effect, once");
    }
}
