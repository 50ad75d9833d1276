//! The command against a simulated CRM.COM, LogiSense and SAM, without a socket.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::{
    crm::testing::{crm_com_crm, logisense_crm, sam_crm},
    sandbox::{
        Action, Fault, FaultPlan, Instead, Kind, Only, Sandbox, SandboxSettings, Scripted, Window,
        in_process::InProcess,
    },
};

const CONTACTS: usize = 25;
const JSON: &str = "application/json";

/// A CRM with some contacts, and the way to it.
struct System {
    sandbox: Sandbox,
    crm: crm::Crm,
    caller: Caller,
    /// Of whoever made the contacts.
    token: String,
    _secret: tempfile::TempDir,
}

impl System {
    /// One whose lists come in pages of ten.
    fn of(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "sandbox-token").unwrap();
        let mut settings = match kind {
            Kind::CrmCom => crm_com_crm(),
            Kind::NextinteractSam => sam_crm(secret.clone(), secret.clone()),
            _ => logisense_crm(),
        };
        if let Some(crm_com) = &mut settings.crm_com {
            (crm_com.secret_file, crm_com.page_size) = (Some(secret.clone()), 10);
            crm_com.login_interval = Duration::ZERO;
        }
        if let Some(logisense) = &mut settings.logisense {
            (logisense.secret_env, logisense.secret_file, logisense.page_size) = (None, Some(secret.clone()), 10);
        }
        let sandbox = Sandbox::new(SandboxSettings::of(kind)).unwrap();
        let crm = crm::build(&settings, "sim").unwrap();
        let caller = Caller {
            session: crm.session.clone(),
            transport: Arc::new(InProcess::new(sandbox.clone(), Duration::from_secs(5), 1 << 20)),
            library: Arc::new(Library::new(Duration::from_secs(60), Duration::from_secs(60))),
            turn: Arc::new(Rate::whole(0.0)),
        };
        Self { sandbox, crm, caller, token: String::new(), _secret: folder }
    }

    async fn send(&self, path: &str, media: &str, body: impl Into<Bytes>) -> Value {
        let request = http::Request::post(path).header("content-type", media);
        let request = request.header("authorization", format!("Bearer {}", self.token)).body(body.into());
        let answer = self.sandbox.handle(request.unwrap()).await.unwrap();
        serde_json::from_slice(answer.body()).unwrap()
    }

    /// Persons who share an e-mail address. Returns their ids.
    async fn crm_com() -> (Self, Vec<String>) {
        let mut system = Self::of(Kind::CrmCom);
        let login = json!({ "username": "contact-replicator", "password": "sandbox-token", "organisation": "example" });
        let answer = system.send("/crmapi/rest/v2/authentication/token", JSON, login.to_string()).await;
        system.token = answer["data"]["token"].as_str().unwrap().to_owned();
        let mut ids = Vec::new();
        for number in 0..CONTACTS {
            let person = json!({
                "token": system.token, "type": "PERSON", "first_name": format!("Ann {number:02}"), "last_name": "Vale",
                "email_set": [{ "type": "PERSONAL", "email_address": "vale@example.com" }],
            });
            let answer = system.send("/crmapi/rest/v2/contact_information/create", JSON, person.to_string()).await;
            ids.push(answer["data"]["id"].as_str().unwrap().to_owned());
        }
        (system, ids)
    }

    async fn logisense() -> Self {
        let mut system = Self::of(Kind::Logisense);
        let form =
            "username=contact-replicator&password=sandbox-token&grant_type=password&client_id=contact-replicator";
        let path = "/AuthorizationServer/api/v6/Access/Login";
        let answer = system.send(path, "application/x-www-form-urlencoded", form).await;
        system.token = answer["access_token"].as_str().unwrap().to_owned();
        for number in 0..CONTACTS {
            let contact = json!({ "contactTypeId": 20, "firstName": format!("Ann {number:02}"), "lastName": "Vale" });
            system.send("/ResourceServer/api/v6/Contact/", JSON, contact.to_string()).await;
        }
        system
    }

    /// The contacts that are listed, and what is said beside them.
    async fn listed(
        &self,
        asked: Option<&str>,
        said: Option<&str>,
        limit: u64,
        from: Option<u64>,
    ) -> (Vec<Value>, String) {
        let reader = reader(&self.crm, "crm").unwrap();
        let view = view(reader, asked, true).unwrap().name;
        let by = by(reader, said, &mut io::empty()).unwrap();
        let list = List { caller: &self.caller, reader, view, by, limit, from };
        let (mut output, mut aside) = (Vec::new(), Vec::new());
        assert_eq!(list.tell(&"crm".into(), &mut output, &mut aside).await.unwrap(), Exit::Done);
        let lines = String::from_utf8(output).unwrap();
        assert!(!lines.contains("token") && !lines.contains(&self.token), "{lines}");
        (lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), String::from_utf8(aside).unwrap())
    }

    async fn one(&self, asked: Option<&str>, id: &str) -> Result<Value, ReadError> {
        let reader = reader(&self.crm, "crm").unwrap();
        let view = view(reader, asked, false).unwrap().name;
        let held = self.caller.read(|references, answers| reader.one(&One { id, view, references }, answers)).await?;
        Ok(held.document)
    }

    /// Method and path of what was asked for since there were so many requests, without the token.
    fn asked_since(&self, before: usize) -> Vec<String> {
        let requests = self.sandbox.requests().split_off(before);
        requests.iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

fn names(contacts: &[Value], member: &str) -> Vec<String> {
    let mut names: Vec<String> = contacts.iter().map(|contact| contact[member].as_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}

fn everybody() -> Vec<String> {
    (0..CONTACTS).map(|number| format!("Ann {number:02}")).collect()
}

#[tokio::test]
async fn crm_com_lists_by_a_key_over_all_pages() {
    let (system, _) = System::crm_com().await;
    let before = system.sandbox.requests().len();
    let (contacts, aside) = system.listed(None, Some("email_address=VALE@example.com"), 1_000, None).await;
    assert_eq!((names(&contacts, "first_name"), aside.as_str()), (everybody(), ""));
    assert!(
        contacts.iter().all(|contact| contact["emails_set"][0]["email"] == "vale@example.com"),
        "the whole contact"
    );
    // A login, three pages with somebody on them, and one that is empty.
    assert_eq!(system.asked_since(before).len(), 5);
    let (contacts, aside) = system.listed(None, Some("email_address=vale@example.com"), 12, None).await;
    assert!(
        contacts.len() == 12 && aside.contains("12 contacts were listed") && aside.contains("--from 10 "),
        "{aside}"
    );
    let (contacts, _) = system.listed(None, Some("email_address=vale@example.com"), 1_000, Some(20)).await;
    assert_eq!(contacts.len(), 5);
    assert_eq!(system.listed(None, Some("id_number=nobody"), 1_000, None).await, (Vec::new(), String::new()));
    let reader = reader(&system.crm, "crm").unwrap();
    let error = by(reader, None, &mut io::empty()).unwrap_err();
    assert!(error.to_string().contains("keys are: email_address, phone_number"), "{error}");
}

#[tokio::test]
async fn crm_com_shows_a_contact_and_its_photo() {
    let (system, ids) = System::crm_com().await;
    let contact = system.one(None, &ids[3]).await.unwrap();
    assert_eq!((&contact["id"], &contact["first_name"]), (&json!(ids[3]), &json!("Ann 03")));
    for asked in [None, Some("photo"), Some("photo_file")] {
        assert!(system.one(asked, "nobody").await.unwrap_err().is_gone(), "{asked:?}");
    }
    assert_eq!(system.one(Some("photo_file"), &ids[3]).await.unwrap(), Value::Null, "it has none");

    let photo = format!(
        "--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n{}\r\n--x\r\nContent-Disposition: form-data; \
         name=\"contact_information_identifier\"\r\n\r\nid={}\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; \
         filename=\"ann.gif\"\r\nContent-Type: image/gif\r\n\r\nGIF89a\r\n--x--\r\n",
        system.token, ids[3]
    );
    let path = "/crmapi/rest/v2/contact_information/profile_photo/add";
    system.send(path, "multipart/form-data; boundary=x", photo).await;
    let facts = system.one(Some("photo"), &ids[3]).await.unwrap();
    let address = format!("/crm/ImageDownloadServlet?id={}", ids[3]);
    let name = format!("{}_ann.gif", ids[3]);
    let expected = json!({ "file_name": name, "file_content_url": address, "file_mime_type": "image/gif" });
    assert_eq!(facts, expected);
    let before = system.sandbox.requests().len();
    let file = system.one(Some("photo_file"), &ids[3]).await.unwrap();
    assert_eq!((&file["file_content"], &file["file_name"]), (&json!("R0lGODlh"), &json!(name)));
    let asked = system.asked_since(before);
    assert!(asked[0].starts_with("GET /crmapi/rest/v2/contact_information/profile_photo/view"), "{asked:?}");
    assert!(asked[1].starts_with("GET /crm/ImageDownloadServlet"), "{asked:?}");
    assert!(!file.to_string().contains("token"), "{file}");
}

#[tokio::test]
async fn logisense_lists_all_contacts_at_once_or_page_by_page() {
    let system = System::logisense().await;
    for (asked, pages, with_children) in
        [(None, 3, true), (Some("detail"), 3, true), (Some("contact"), 3, false), (Some("all"), 1, false)]
    {
        system.listed(asked, None, 1, None).await;
        let before = system.sandbox.requests().len();
        let (contacts, aside) = system.listed(asked, None, 1_000, None).await;
        assert_eq!((names(&contacts, "firstName"), aside.as_str()), (everybody(), ""), "{asked:?}");
        assert_eq!(system.asked_since(before).len(), pages, "{asked:?}");
        assert!(contacts.iter().all(|contact| contact.get("details").is_some() == with_children), "{asked:?}");
    }
    let (contacts, aside) = system.listed(None, None, 12, None).await;
    assert!(contacts.len() == 12 && aside.contains("12 of 25") && aside.contains("--from 2 "), "{aside}");
    let (contacts, _) = system.listed(Some("contact"), None, 1_000, Some(3)).await;
    assert_eq!(names(&contacts, "firstName"), everybody()[20..]);
    let reader = reader(&system.crm, "crm").unwrap();
    let error = by(reader, Some("lastName=Secret-Canary"), &mut io::empty()).unwrap_err().to_string();
    assert!(error.contains("leave out --by") && !error.contains("Canary"), "{error}");
}

#[tokio::test]
async fn logisense_shows_a_contact_bare_or_with_its_children() {
    let system = System::logisense().await;
    let (contacts, _) = system.listed(Some("contact"), None, 1, None).await;
    let id = contacts[0]["identity"].to_string();
    assert_eq!(system.one(Some("contact"), &id).await.unwrap(), contacts[0]);
    let detail = system.one(None, &id).await.unwrap();
    assert_eq!((&detail["identity"], &detail["details"]["contactPoints"]), (&contacts[0]["identity"], &json!([])));
    for (asked, id) in [(None, "1"), (Some("contact"), "1"), (Some("contact"), "no/number")] {
        assert!(system.one(asked, id).await.unwrap_err().is_gone(), "{asked:?} {id}");
    }
    let reader = reader(&system.crm, "crm").unwrap();
    let error = view(reader, Some("all"), false).unwrap_err();
    assert!(error.to_string().contains("there are: detail (the contact, its points"), "{error}");
}

#[tokio::test]
async fn a_token_that_ended_is_renewed_and_none_is_told() {
    let (system, ids) = System::crm_com().await;
    system.one(None, &ids[0]).await.unwrap();
    let script = vec![Scripted::every(2, Action::Get, Instead::ExpireToken)];
    let plan = FaultPlan { script, ..FaultPlan::default() };
    system.sandbox.set_faults(plan).unwrap();
    for _ in 0..4 {
        assert_eq!(system.one(None, &ids[0]).await.unwrap()["first_name"], "Ann 00");
    }
    let (from, lasts) = (Duration::ZERO, Duration::from_secs(600));
    let away = Window { from, lasts, only: Only::default(), fault: Fault::status(503) };
    let plan = FaultPlan { windows: vec![away], ..FaultPlan::default() };
    system.sandbox.set_faults(plan).unwrap();
    let error = system.one(None, &ids[0]).await.unwrap_err();
    let told = format!("{error} {error:?}");
    assert!(told.contains("503") && !told.contains("token") && !told.contains(&system.token), "{told}");
}

#[tokio::test(start_paused = true)]
async fn its_requests_keep_to_the_rate_of_the_crm() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "x").unwrap();
    let mut settings = crm_com_crm();
    settings.crm_com.as_mut().unwrap().secret_file = Some(secret);
    settings.base_url = "http://127.0.0.1:1/crmapi/rest/v2".to_owned();
    settings.delivery.requests_per_second = 2.0;
    let (_, caller) = caller(&settings, "sim").unwrap();
    let begun = Instant::now();
    for _ in 0..3 {
        caller.turn.wait().await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn sam_shows_whoever_logs_in_their_own_address() {
    let system = System::of(Kind::NextinteractSam);
    let own = json!({ "results": [{ "key": "address1Name", "value": "100 Test Street" }] });
    assert_eq!(system.one(None, "17").await.unwrap(), own);
    let asked = system.asked_since(0);
    assert_eq!(asked, ["POST /rest/user/login", "GET /rest/user/contact/17"]);
    assert_eq!(system.one(Some("scheme"), "sync@example.org").await.unwrap(), json!({ "type": "S" }));
    let refused = system.one(Some("own"), "18").await.unwrap_err();
    let failure = refused.failure().unwrap();
    assert_eq!(failure.reason.crm_code.as_deref(), Some("WSInvalidParameterException"));
}
