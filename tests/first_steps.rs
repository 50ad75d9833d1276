//! The first steps of README, run as they are written.
//!
//! The commands are read from README itself. Only what belongs to a machine is changed: the program is the one under
//! test, it is not built by them, the working folder is a temporary one with a copy of the settings, and the ports are
//! free ones, in the commands and in the settings alike.

#![expect(clippy::unwrap_used, reason = "a claim fails by panicking")]

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(60);

/// The sections whose commands are run, one after the other.
const SECTIONS: [&str; 7] = [
    "First steps",
    "Emit your first change",
    "Read what became of it",
    "See how it stands",
    "Act",
    "Drive contacts again",
    "Contacts that are stuck",
];

/// Blocks of commands that no test of this file runs: their section, how they begin, and who runs them or why nobody does.
const ELSEWHERE: [(&str, &str, &str); 8] = [
    ("Run it", "cargo run --release -- demo", "tests/demo.rs runs the command"),
    ("Test it", "cargo test", "`.ci/run` does"),
    ("Beside a real Kafka", "cargo build --release", "tests/kafka/first_steps.rs runs it, with a broker of its own"),
    ("Beside a real Kafka", "curl -i http://127.0.0.1:8700/events", "the ingest is held by tests/it and tests/kafka"),
    ("Dead letters", "contact-replicator dead-letters", "names a position that varies; tests/it replays"),
    ("See what a CRM holds, and whether it is right", "contact-replicator inspect", "names an id of a CRM that varies"),
    ("A CRM that is not empty", "contact-replicator links set", "names an id of a CRM that varies"),
    ("Deploy", "docker compose", "needs a container engine and a cluster"),
];

/// Each block of commands of README, with its section.
fn blocks(readme: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for section in readme.split("\n## ").skip(1) {
        let name = section.lines().next().unwrap_or_default();
        let of_section = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap_or_default());
        found.extend(of_section.map(|block| (name.to_owned(), block.to_owned())));
    }
    found
}

#[test]
fn every_block_of_commands_in_the_readme_is_run_or_exempt_by_name() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let all = blocks(&readme);
    let exempt = |section: &str, block: &str| {
        ELSEWHERE.iter().position(|(name, begins, _)| *name == section && block.starts_with(begins))
    };
    let mut first_of_section = std::collections::BTreeSet::new();
    let mut used = std::collections::BTreeSet::new();
    for (section, block) in &all {
        let is_run = SECTIONS.contains(&section.as_str()) && first_of_section.insert(section);
        let excuse = exempt(section, block);
        used.extend(excuse);
        assert!(
            is_run || excuse.is_some(),
            "README, section {section:?}: nobody runs the block that begins {:?}.\nTo have it run, make it the first block of a \
             section in SECTIONS of tests/first_steps.rs, whose commands run one after the other against config/embedded.toml; \
             to exempt it, add the section, its first words and the reason to ELSEWHERE there.",
            block.lines().next().unwrap_or_default()
        );
    }
    for (index, (section, begins, _)) in ELSEWHERE.iter().enumerate() {
        assert!(used.contains(&index), "README has no block {begins:?} in {section:?}: take it out of ELSEWHERE");
    }
}

/// Commands that ask the worker of the machine at the address where it listens by default; here it listens elsewhere.
const ASKING: [&str; 5] = ["pause", "resume", "resync", "retry", "skip"];

/// The commands of a section. Who reads them takes longer than a decision; a shell asks until there is one.
fn commands(readme: &str, section: &str) -> String {
    let section = readme.split(&format!("\n## {section}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let block = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let is_ours = |line: &&str| !line.starts_with("cargo build") && !line.starts_with("export PATH=");
    let patient = |line: &str| match line.strip_prefix("contact-replicator explain") {
        Some(asked) => format!("until contact-replicator explain{asked}; do sleep 0.2; done\n"),
        None if ASKING.iter().any(|name| line.starts_with(&format!("contact-replicator {name} "))) => {
            format!("{line} --admin http://127.0.0.1:9464\n")
        }
        None => format!("{line}\n"),
    };
    block.lines().filter(is_ours).map(patient).collect()
}

/// A shell that ends with its value, and all that it started.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        // It waits for the end of its input, and then ends what it started.
        drop(self.0.stdin.take());
        let _status = self.0.wait().is_err();
    }
}

/// What a simulated CRM holds.
fn contacts(port: u16, crm: &str) -> Option<Vec<Value>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let head = "HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(format!("GET /{crm}/_sandbox/contacts {head}").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let mut page: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
    serde_json::from_value(page["contacts"].take()).ok()
}

/// Whether these, in order, are all that its contacts have in a field.
fn holds(contacts: &[Value], field: &str, expected: [&str; 2]) -> bool {
    let mut found: Vec<_> = contacts.iter().filter_map(|contact| contact["fields"][field].as_str()).collect();
    found.sort_unstable();
    found == expected
}

#[test]
fn the_first_steps_of_the_readme_lead_to_one_contact_of_each_person_in_each_crm() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(tree.join("README.md")).unwrap();
    let mut commands: String = SECTIONS.map(|section| commands(&readme, section)).concat();
    let mut settings = fs::read_to_string(tree.join("config/embedded.toml")).unwrap();
    // Held together, so that they differ.
    let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [ingest, crms, admin] = free.map(|listener| listener.local_addr().unwrap().port());
    for (written, port) in [("127.0.0.1:8700", ingest), ("127.0.0.1:8701", crms)] {
        for text in [&mut commands, &mut settings] {
            assert!(text.contains(written), "nobody names {written}");
            *text = text.replace(written, &format!("127.0.0.1:{port}"));
        }
    }
    commands = commands.replace("127.0.0.1:9464", &format!("127.0.0.1:{admin}"));
    settings.push_str(&format!("\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n"));

    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("config")).unwrap();
    fs::write(folder.path().join("config/embedded.toml"), settings).unwrap();
    fs::create_dir(folder.path().join("config/samples")).unwrap();
    for sample in fs::read_dir(tree.join("config/samples")).unwrap() {
        let sample = sample.unwrap();
        fs::copy(sample.path(), folder.path().join("config/samples").join(sample.file_name())).unwrap();
    }
    let program = Path::new(env!("CARGO_BIN_EXE_contact-replicator")).parent().unwrap();
    let script = format!(
        "set -e\nPATH={program:?}:$PATH\ntrap 'kill $(jobs -p); wait' EXIT\n{commands}\necho 'done' >reached\nread -r end || true\n"
    );
    let told = fs::File::create(folder.path().join("told")).unwrap();
    let mut bash = Command::new("bash");
    bash.arg("-c").arg(script).current_dir(folder.path()).stdin(Stdio::piped());
    let mut shell = Shell(bash.stdout(told.try_clone().unwrap()).stderr(told).spawn().unwrap());

    let begun = Instant::now();
    let said = || fs::read_to_string(folder.path().join("told")).unwrap_or_default();
    loop {
        if let Some(status) = shell.0.try_wait().unwrap() {
            panic!("a command failed, {status}:\n{}", said());
        }
        let found = ["priava", "previsto"].map(|crm| contacts(crms, crm).unwrap_or_default());
        let [priava, previsto] = found.each_ref();
        if holds(priava, "lastName", ["Hopper", "King"])
            && holds(previsto, "name", ["Ada King", "Grace Hopper"])
            && folder.path().join("reached").exists()
        {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "never in both:\n{}", said());
        // How often it is looked.
        std::thread::park_timeout(Duration::from_millis(50));
    }
    drop(shell);
    assert!(said().contains("published 2 events"), "{}", said());
    assert!(said().contains("ok    line 1\n1 events, 0 at fault"), "{}", said());
    assert!(said().contains("joined by email"), "{}", said());
    assert!(said().contains("resolver: ACTIVE, term 1; contact-changes"), "{}", said());
}

/// The head of a file of settings tells the commands: with its credentials, contacts arrive in every CRM that it names.
#[test]
fn the_example_with_all_five_crms_passes_the_check_and_brings_a_contact_to_each() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [ingest, crms, admin] = free.map(|listener| listener.local_addr().unwrap().port());
    let local = |text: &str| {
        let text = text.replace("127.0.0.1:8700", &format!("127.0.0.1:{ingest}"));
        text.replace("127.0.0.1:8701", &format!("127.0.0.1:{crms}"))
    };
    let written = fs::read_to_string(tree.join("config/five-crms.toml")).unwrap();
    let exports: String = written
        .lines()
        .filter_map(|line| Some(format!("{}\n", line.strip_prefix("#   ")?)))
        .filter(|line| line.starts_with("export "))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("{}\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n", local(&written));
    fs::write(folder.path().join("five.toml"), settings).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_contact-replicator")).parent().unwrap();
    let sample = tree.join("config/samples/person.json");
    let script = format!(
        "set -e\nPATH={program:?}:$PATH\ntrap 'kill $(jobs -p); wait' EXIT\n{exports}\
         contact-replicator sandbox --listen 127.0.0.1:{crms} --token sandbox-token &\n\
         until contact-replicator check --config five.toml --quiet; do sleep 0.2; done\n\
         contact-replicator run --config five.toml &\n\
         curl --silent --retry 30 --retry-delay 1 --retry-connrefused http://127.0.0.1:{admin}/readyz\n\
         curl --fail http://127.0.0.1:{ingest}/events -H 'content-type: application/cloudevents+json' --data-binary @{sample:?}\n\
         read -r end || true\n"
    );
    let told = fs::File::create(folder.path().join("told")).unwrap();
    let mut bash = Command::new("bash");
    bash.arg("-c").arg(script).current_dir(folder.path()).stdin(Stdio::piped());
    let mut shell = Shell(bash.stdout(told.try_clone().unwrap()).stderr(told).spawn().unwrap());
    let begun = Instant::now();
    let kinds = ["priava", "previsto", "nextinteract_sam", "crm_com", "logisense"];
    loop {
        let said = fs::read_to_string(folder.path().join("told")).unwrap_or_default();
        if let Some(status) = shell.0.try_wait().unwrap() {
            panic!("a command failed, {status}:\n{said}");
        }
        let held = kinds.map(|kind| contacts(crms, kind).unwrap_or_default().len());
        if held == [1; 5] {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{kinds:?} hold {held:?}:\n{said}");
        // How often it is looked.
        std::thread::park_timeout(Duration::from_millis(50));
    }
}
