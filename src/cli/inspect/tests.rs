//! The command against a simulated Previsto, without a socket.

use std::{collections::BTreeSet, path::Path, time::Duration};

use bytes::Bytes;
use clap::Parser;

use super::*;
use crate::{
    crm::{
        Answer,
        remote::{Compared, Held, ReadStep},
        testing::{crm_settings, previsto_crm, sam_crm},
    },
    sandbox::{Kind, Sandbox, SandboxSettings, in_process::InProcess},
};

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
}

#[test]
fn one_is_named_or_many_are_listed() {
    let parsed = |line: &[&str]| {
        let line = [&["inspect", "--config", "a.toml", "--crm", "b"], line].concat();
        CommandLine::try_parse_from(line).map(|line| line.arguments)
    };
    assert_eq!(parsed(&["con_1"]).unwrap().remote_id.as_deref(), Some("con_1"));
    let listed = parsed(&["--list", "--by", "search=x", "--limit", "5", "--from", "2"]).unwrap();
    assert_eq!((listed.limit.get(), listed.from), (5, Some(2)));
    for wrong in [
        &[][..],
        &["con_1", "--list"],
        &["con_1", "--by", "search=x"],
        &["con_1", "--from", "2"],
        &["con_1", "--limit", "5"],
        &["--list", "--limit", "0"],
    ] {
        assert!(parsed(wrong).is_err(), "{wrong:?}");
    }
}

/// A Previsto with so many contacts in pages of ten, and the way to it.
async fn previsto(contacts: usize, folder: &Path) -> (crm::Crm, Caller) {
    let sandbox = Sandbox::new(SandboxSettings::of(Kind::Previsto)).unwrap();
    for number in 0..contacts {
        let request = http::Request::post(format!("{}/contacts", Kind::Previsto.base_path()))
            .header("authorization", "Basic c2FuZGJveC10b2tlbjo=")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(format!("name=Ann+{number:02}")))
            .unwrap();
        assert!(sandbox.handle(request).await.unwrap().status().is_success());
    }
    let key = folder.join("key");
    std::fs::write(&key, "sandbox-token").unwrap();
    let mut settings = previsto_crm();
    let section = settings.previsto.as_mut().unwrap();
    section.api_key_file = Some(key);
    section.page_size = 10;
    let built = crm::build(&settings, "sim").unwrap();
    let caller = Caller {
        session: built.session.clone(),
        transport: Arc::new(InProcess::new(sandbox, Duration::from_secs(5), 1 << 20)),
        library: Arc::new(Library::new(Duration::from_secs(60), Duration::from_secs(60))),
        turn: Arc::new(Rate::whole(0.0)),
    };
    (built, caller)
}

/// The names that are listed, and what is said beside them.
async fn listed(contacts: usize, by: Option<(&str, &str)>, limit: u64, from: Option<u64>) -> (Vec<String>, String) {
    let folder = tempfile::tempdir().unwrap();
    let (built, caller) = previsto(contacts, folder.path()).await;
    let reader = reader(&built, "previsto").unwrap();
    let by = by.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let list = List { caller: &caller, reader, view: "contact", by, limit, from };
    let (mut output, mut aside) = (Vec::new(), Vec::new());
    let exit = list.tell(&"previsto".into(), &mut output, &mut aside).await.unwrap();
    assert_eq!(exit, Exit::Done);
    let lines = String::from_utf8(output).unwrap();
    let name = |line: &str| {
        let contact: serde_json::Value = serde_json::from_str(line).unwrap();
        contact["name"].as_str().unwrap().to_owned()
    };
    (lines.lines().map(name).collect(), String::from_utf8(aside).unwrap())
}

#[tokio::test]
async fn every_contact_is_listed_once_whatever_the_pages() {
    for contacts in [0, 1, 10, 25] {
        let (names, aside) = listed(contacts, None, 1_000, None).await;
        let expected: Vec<String> = (0..contacts).map(|number| format!("Ann {number:02}")).collect();
        assert_eq!((names, aside.as_str()), (expected, ""));
    }
}

#[tokio::test]
async fn a_list_is_bounded_goes_on_where_it_ended_and_can_be_narrowed() {
    let (names, aside) = listed(25, None, 12, None).await;
    assert_eq!(names.len(), 12);
    assert!(aside.contains("12 of 25 contacts") && aside.contains("--from 1 "), "{aside}");
    // At the bound, and not over it.
    assert_eq!(listed(12, None, 12, None).await.1, "");
    let (names, _) = listed(25, None, 1_000, Some(2)).await;
    assert_eq!(names, ["Ann 20", "Ann 21", "Ann 22", "Ann 23", "Ann 24"]);
    assert_eq!(listed(25, Some(("search", "n 07")), 1_000, None).await.0, ["Ann 07"]);
}

#[tokio::test]
async fn one_contact_is_read_and_one_that_is_missing_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (built, caller) = previsto(2, folder.path()).await;
    let reader = reader(&built, "previsto").unwrap();
    let first = caller
        .read(|references, answers| reader.page(&Walk { view: "contact", by: None, at: None, references }, answers))
        .await
        .unwrap();
    let id = first.items[0].id.clone().unwrap();
    let read = async |id: &str| {
        caller.read(|references, answers| reader.one(&One { id, view: "contact", references }, answers)).await
    };
    assert_eq!(read(&id).await.unwrap(), first.items[0]);
    assert!(read("con_none").await.unwrap_err().is_gone());
}

#[test]
fn what_the_crm_cannot_do_is_said_with_what_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "t").unwrap();
    let priava = crm::build(&crm_settings(token.clone()), "sim").unwrap();
    let error = reader(&priava, "venues").map(drop).unwrap_err();
    assert!(
        error.to_string().starts_with("contacts of venues cannot be read back: its API takes contacts and"),
        "{error}"
    );
    let sam = crm::build(&sam_crm(token.clone(), token.clone()), "sim").unwrap();
    let sam = reader(&sam, "visits").unwrap();
    assert_eq!(view(sam, None, false).unwrap().name, "own");
    assert_eq!(view(sam, None, true).unwrap_err().to_string(), "this CRM shows no lists");

    let mut settings = previsto_crm();
    settings.previsto.as_mut().unwrap().api_key_file = Some(token);
    let previsto = crm::build(&settings, "sim").unwrap();
    let previsto = reader(&previsto, "previsto").unwrap();
    assert_eq!(view(previsto, None, false).unwrap().name, "contact");
    let error = view(previsto, Some("photo"), true).unwrap_err();
    assert!(error.to_string().contains("there are: contact (all fields"), "{error}");
    let of = |said: Option<&str>| by(previsto, said, &mut " Aarhus\n".as_bytes()).map_err(|error| error.to_string());
    assert_eq!(of(None), Ok(None));
    assert_eq!(of(Some("search=a=b")), Ok(Some(("search".to_owned(), "a=b".to_owned()))));
    assert_eq!(of(Some("search=-")), Ok(Some(("search".to_owned(), "Aarhus".to_owned()))));
    for wrong in ["search", "email=secret-canary"] {
        let error = of(Some(wrong)).unwrap_err();
        assert!(error.contains("there are: search, nearby") && !error.contains("canary"), "{error}");
    }
    let unknown = find(&crate::config::Settings::reference(), "nobody").unwrap_err();
    assert!(unknown.to_string().contains("there are: "), "{unknown}");
}

/// Lists the same contact for ever.
#[derive(Debug)]
struct Circling;

impl Reader for Circling {
    fn views(&self) -> &'static [RemoteView] {
        &[]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["email"]
    }

    fn needs_key(&self) -> bool {
        true
    }

    fn one(&self, _one: &One<'_>, _answers: &[Answer]) -> ReadStep<Held> {
        unreachable!("it is only listed")
    }

    fn page(&self, walk: &Walk<'_>, _answers: &[Answer]) -> ReadStep<Page> {
        let held = Held { id: Some("1".to_owned()), document: serde_json::Value::Null };
        ReadStep::Done(Page { items: vec![held], next: Some(walk.at.unwrap_or_default() + 1), total: None })
    }

    fn differences(&self, _compared: &Compared<'_>, _answers: &[Answer]) -> ReadStep<BTreeSet<String>> {
        unreachable!("it is only listed")
    }
}

#[tokio::test]
async fn a_list_that_goes_round_in_circles_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (_, caller) = previsto(0, folder.path()).await;
    let list = List { caller: &caller, reader: &Circling, view: "contact", by: None, limit: 1_000, from: None };
    let (mut output, mut aside) = (Vec::new(), Vec::new());
    let exit = list.tell(&"previsto".into(), &mut output, &mut aside).await.unwrap();
    assert_eq!((exit, output.as_slice()), (Exit::CheckFailed, &b"null\n"[..]));
    let aside = String::from_utf8(aside).unwrap();
    // The first page had something new.
    assert!(aside.contains(&format!("go on with --from {}", STALE_PAGES_MAX + 1)), "{aside}");
}

#[test]
fn a_crm_that_lists_only_by_a_key_says_so() {
    let error = by(&Circling, None, &mut io::empty()).unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    assert!(error.to_string().contains("keys are: email"), "{error}");
}
