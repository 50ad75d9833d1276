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
const SECTIONS: [&str; 4] = ["First steps", "Emit your first change", "Read what became of it", "See how it stands"];

/// The commands of a section. Who reads them takes longer than a decision; a shell asks until there is one.
fn commands(readme: &str, section: &str) -> String {
    let section = readme.split(&format!("\n## {section}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let block = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let is_ours = |line: &&str| !line.starts_with("cargo build") && !line.starts_with("export PATH=");
    let patient = |line: &str| match line.strip_prefix("contact-replicator explain") {
        Some(asked) => format!("until contact-replicator explain{asked}; do sleep 0.2; done\n"),
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
