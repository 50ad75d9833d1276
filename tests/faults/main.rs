//! What goes wrong on the first day, and what the built program says: each wrong key, wrong unit, missing secret, folder or
//! port gives a sentence with the place and the remedy. Faults of settings are rows of [`table`]; those that a worker meets
//! only when it runs are told one by one below. What needs a broker is in `tests/kafka`.

#![expect(clippy::unwrap_used, reason = "a claim fails by panicking")]

mod table;

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::Instant;

const SECRET: &str = "only for tests, and of no use to anybody";
const PATIENCE: Duration = Duration::from_secs(60);

/// Settings without a fault, but that nobody listens for the CRM.
const SETTINGS: &str = r#"instance = "faults"
[worker]
id = "worker-1"
data = "data"
[log]
kind = "local"
[topics]
partitions = 2
[[source]]
uri = "https://shop.example.com"
name = "shop"
[identity]
source_priority = ["shop"]
[[crm]]
name = "priava"
kind = "priava"
base_url = "http://127.0.0.1:1/api"
"#;

/// What is added where no address is to be listened on.
const SILENT: &str = "[admin]\nlisten = \"\"\n";

struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("folder.secret")).unwrap();
        fs::write(folder.path().join("empty.secret"), "\n").unwrap();
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, settings: &str, words: &[&str]) -> Command {
        fs::write(self.path().join("settings.toml"), settings).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_contact-replicator"));
        command.args(words).args(["--config", "settings.toml"]).current_dir(self.path()).stdin(Stdio::null());
        command.env("CONTACT_REPLICATOR_SECRET", SECRET).env("PRIAVA_API_TOKEN", "token").env("NO_COLOR", "1");
        command.env("EMPTY_ONE", " ").env("SHORT_ONE", "short").env_remove("NOT_SET_ANYWHERE");
        command
    }

    fn told(&self, settings: &str, words: &[&str]) -> (i32, String) {
        let Output { status, stdout, stderr } = self.command(settings, words).output().unwrap();
        (status.code().unwrap(), String::from_utf8([stdout, stderr].concat()).unwrap())
    }

    /// A worker that ends by itself, and with this one sentence.
    #[track_caller]
    fn run_ends_with(&self, settings: &str, sentence: &str) {
        let (exit, told) = self.told(settings, &["run"]);
        let last = told.lines().rfind(|line| line.starts_with("contact-replicator: ")).unwrap_or(&told);
        assert_eq!((exit, last), (3, format!("contact-replicator: {sentence}").as_str()));
    }

    /// A worker that runs until its value is dropped, ready for work.
    fn worker(&self, settings: &str) -> Worker {
        let log = fs::File::create(self.path().join("worker.log")).unwrap();
        let worker = Worker(self.command(settings, &["run"]).stderr(log).spawn().unwrap());
        let begun = Instant::now();
        while !self.worker_said("this worker is the active resolver") {
            let said = fs::read_to_string(self.path().join("worker.log")).unwrap();
            assert!(begun.elapsed() < PATIENCE, "it never decided:\n{said}");
            // How often it is looked.
            std::thread::park_timeout(Duration::from_millis(50));
        }
        worker
    }

    fn worker_said(&self, words: &str) -> bool {
        fs::read_to_string(self.path().join("worker.log")).unwrap().contains(words)
    }
}

struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ended = self.0.kill().is_err();
        let _status = self.0.wait().is_err();
    }
}

#[test]
fn each_fault_of_settings_is_told_in_one_sentence_with_the_place_and_the_remedy() {
    let desk = Desk::new();
    let mut wrong = Vec::new();
    for row in table::ROWS {
        assert!(SETTINGS.contains(row.written), "{}: nobody wrote {:?}", row.fault, row.written);
        let (exit, told) = desk.told(&SETTINGS.replacen(row.written, row.instead, 1), &["check", "--quiet"]);
        let errors: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("ERROR ")).collect();
        if (exit, &errors[..]) != (row.exit, row.told) {
            wrong.push(format!(
                "{} ends with {exit}, not {}, and says\n  {}",
                row.fault,
                row.exit,
                errors.join("\n  ")
            ));
        }
        assert!(!told.contains("hunter2"), "{}: {told}", row.fault);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(table::ROWS.len() >= 50);
}

#[test]
fn a_worker_says_the_same_of_its_settings_and_ends_with_2() {
    let desk = Desk::new();
    let settings = SETTINGS.replace("partitions = 2", "partition = 0").replace("instance = \"faults\"", "instance = 5");
    let (exit, told) = desk.told(&settings, &["run"]);
    assert_eq!(exit, 2);
    assert!(told.starts_with("contact-replicator: settings.toml cannot be used:\n  line 1: instance = 5: "), "{told}");
    assert!(told.contains("\n  line 8: topics.partition: there is no such key; was `partitions` meant? "), "{told}");
}

#[test]
fn an_address_in_use_is_told_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let desk = Desk::new();
    desk.run_ends_with(
        &format!("{SETTINGS}[admin]\nlisten = \"{address}\"\n"),
        &format!(
            "admin.listen = \"{address}\" cannot be listened on; end what listens there (`ss -ltnp` tells), or choose another \
             address: Address already in use (os error 98)"
        ),
    );
    desk.run_ends_with(
        &format!("{SETTINGS}{SILENT}[ingest]\nlisten = \"{address}\"\n"),
        &format!(
            "the worker ended: ingest.listen = \"{address}\" cannot be listened on; end what listens there, or choose another \
             address: Address already in use (os error 98)"
        ),
    );
}

#[test]
fn brokers_that_do_not_answer_are_told_with_their_key() {
    // Nobody listens there: such ports are given to nobody who does not ask for them.
    let servers = "127.0.0.1:1";
    let kafka = format!("kind = \"kafka\"\n[log.kafka]\nbootstrap_servers = \"{servers}\"");
    let settings = SETTINGS.replace("kind = \"local\"", &kafka);
    let settings = settings.replace("[identity]", "[[input.topics]]\nname = \"contact-changes\"\n[identity]");
    let desk = Desk::new();
    fs::write(desk.path().join("none.ndjson"), "").unwrap();
    let key = format!("log.kafka.bootstrap_servers = \"{servers}\"");
    for words in [&["topics", "--check"][..], &["topics", "--create"], &["publish", "none.ndjson"]] {
        let (exit, told) = desk.told(&settings, words);
        let sentence = format!(
            "contact-replicator: {key}: nobody answered in time; start a broker there, or correct the address: "
        );
        assert!(exit == 3 && told.contains(&sentence), "{words:?} ends with {exit}: {told}");
    }
    let (exit, told) = desk.told(&settings, &["check", "--quiet"]);
    let is_told = told.lines().any(|line| {
        line.starts_with(&format!("ERROR line 8: {key}: "))
            && line.contains("; start a broker there, or correct the address")
    });
    assert!(exit == 1 && is_told, "check ends with {exit}: {told}");
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    Desk::new().run_ends_with(
        &format!("{}{SILENT}", SETTINGS.replace("data = \"data\"", "data = \"settings.toml\"")),
        "the log failed: the log cannot be used: the log in settings.toml/log failed while creating it: Not a directory (os \
         error 20); make sure that its disk works and has room, then start again",
    );
}

#[test]
fn a_folder_of_another_process_another_secret_and_another_count_of_partitions_are_told() {
    let desk = Desk::new();
    let settings = format!("{SETTINGS}{SILENT}");
    let worker = desk.worker(&settings);
    desk.run_ends_with(
        &settings,
        "the log failed: the log cannot be used: the log in data/log is used by another process; stop that one, or publish \
         through it with publish --url; several workers need log.kind = \"kafka\"",
    );
    drop(worker);

    fs::write(desk.path().join("another.secret"), "another one, only for tests, and of no use").unwrap();
    desk.run_ends_with(
        &settings.replace("[identity]\n", "[identity]\nsecret_file = \"another.secret\"\n"),
        "the worker ended: the resolver ended the worker: the identity secret is not the one that this installation's contacts \
         were made with, and with another one every event would become a new contact: configure the original secret",
    );

    let more = settings.replace("partitions = 2", "partitions = 3");
    let sentence = "topic contact-records: partitions is 2, needed is 3; set topics.partitions to what is found, or choose \
                    another topics.prefix: with partitions added, records of a contact would part from its links";
    desk.run_ends_with(&more, &format!("the worker ended: the topics of this installation cannot be used: {sentence}"));
    for (words, word) in [(&["topics", "--check"][..], "FAIL "), (&["check", "--quiet"], "ERROR")] {
        let (exit, told) = desk.told(&more, words);
        let line = format!("{word} {sentence}");
        let is_told = told.lines().any(|said| said.split_whitespace().eq(line.split_whitespace()));
        assert!(exit == 1 && is_told, "{words:?}: {told}");
    }
}
