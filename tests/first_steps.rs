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
use tempfile::TempDir;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(60);

/// Blocks of commands that are run one after the other against config/embedded.toml: their section, and how they begin.
const BLOCKS: [(&str, &str); 10] = [
    ("First steps", "cargo build"),
    ("Beside a real Kafka", "curl -i http://127.0.0.1:8700/events"),
    ("Emit your first change", "# Can it be read?"),
    ("Read what became of it", "contact-replicator explain"),
    ("See how it stands", "contact-replicator status"),
    ("Act", "contact-replicator pause"),
    ("Drive contacts again", "contact-replicator resync"),
    ("See what a CRM holds, and whether it is right", "contact-replicator inspect"),
    ("Contacts that are stuck", "contact-replicator retry"),
    ("A CRM that is not empty", "contact-replicator links set"),
];

/// The block about events that could not be taken: there have to be some.
const DEAD_LETTERS: (&str, &str) = ("Dead letters", "contact-replicator dead-letters");

/// Blocks that no test of this file runs: their section, how they begin, and who runs them or why nobody does.
const ELSEWHERE: [(&str, &str, &str); 4] = [
    ("Run it", "cargo run --release -- demo", "tests/demo.rs runs the command"),
    ("Test it", "cargo test", "`.ci/run` does"),
    ("Beside a real Kafka", "cargo build --release", "tests/kafka/first_steps.rs runs it, with a broker of its own"),
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
    let readme = readme();
    let all = blocks(&readme);
    let listed =
        || BLOCKS.into_iter().chain([DEAD_LETTERS]).chain(ELSEWHERE.map(|(section, begins, _)| (section, begins)));
    let is_of = |(section, begins): (&str, &str), (name, block): &(String, String)| {
        section == name && block.starts_with(begins)
    };
    for block in &all {
        assert!(
            listed().any(|listed| is_of(listed, block)),
            "README, section {:?}: nobody runs the block that begins {:?}.\nTo have it run, add the section and its first words to \
             BLOCKS of tests/first_steps.rs; to exempt it, add them with the reason to ELSEWHERE there.",
            block.0,
            block.1.lines().next().unwrap_or_default()
        );
    }
    for (section, begins) in listed() {
        let is_there = all.iter().any(|block| is_of((section, begins), block));
        assert!(is_there, "README has no block {begins:?} in {section:?}: take it out of the list");
    }
}

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// Commands that ask the worker of the machine at the address where it listens by default; here it listens elsewhere.
const ASKING: [&str; 8] = ["pause", "resume", "resync", "retry", "skip", "dead-letters", "verify", "links"];

/// The commands of a block. Who reads them takes longer than a decision; a shell asks until there is one.
fn commands(readme: &str, (section, begins): (&str, &str)) -> String {
    let (_, block) =
        blocks(readme).into_iter().find(|(name, block)| name == section && block.starts_with(begins)).unwrap();
    let is_ours = |line: &&str| !line.starts_with("cargo build") && !line.starts_with("export PATH=");
    let told = |line: &str| match line.strip_prefix("contact-replicator explain") {
        Some(asked) => format!("until contact-replicator explain{asked}; do sleep 0.2; done\n"),
        None if ASKING.iter().any(|name| line.starts_with(&format!("contact-replicator {name} "))) => {
            let (command, remark) = line.split_once(" #").unwrap_or((line, ""));
            format!("{command} --admin http://127.0.0.1:9464 #{remark}\n")
        }
        None => format!("{line}\n"),
    };
    block.lines().filter(is_ours).map(told).collect()
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
fn holds(contacts: &[Value], field: &str, expected: &[&str]) -> bool {
    let mut found: Vec<_> = contacts.iter().filter_map(|contact| contact["fields"][field].as_str()).collect();
    found.sort_unstable();
    found == expected
}

/// A folder and ports of its own, for commands and settings that name others.
struct Stage {
    folder: TempDir,
    ingest: u16,
    crms: u16,
    admin: u16,
}

impl Stage {
    fn new() -> Self {
        // Held together, so that they differ.
        let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [ingest, crms, admin] = free.map(|listener| listener.local_addr().unwrap().port());
        Self { folder: tempfile::tempdir().unwrap(), ingest, crms, admin }
    }

    /// The same with its own ports.
    fn local(&self, text: &str) -> String {
        [(8700, self.ingest), (8701, self.crms), (9464, self.admin)]
            .iter()
            .fold(text.to_owned(), |text, (written, port)| {
                text.replace(&format!("127.0.0.1:{written}"), &format!("127.0.0.1:{port}"))
            })
    }

    /// A copy of settings of the tree under this name, changed.
    fn settings(&self, from: &str, to: &str, change: impl FnOnce(String) -> String) {
        let written = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(from)).unwrap();
        assert!(written.contains("127.0.0.1:8700") && written.contains("127.0.0.1:8701"), "{from} names other ports");
        let to = self.folder.path().join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let admin = format!("\n[admin]\nlisten = \"127.0.0.1:{}\"\n", self.admin);
        fs::write(to, change(self.local(&written)) + &admin).unwrap();
    }

    /// Runs commands until one fails or there are no more, and then waits.
    fn run(&self, commands: &str) -> Shell {
        let program = Path::new(env!("CARGO_BIN_EXE_contact-replicator")).parent().unwrap();
        let script = format!(
            "set -e\nPATH={program:?}:$PATH\ntrap 'kill $(jobs -p); wait' EXIT\n{}\necho 'done' >reached\nread -r end || true\n",
            self.local(commands)
        );
        let told = fs::File::create(self.folder.path().join("told")).unwrap();
        let mut bash = Command::new("bash");
        bash.arg("-c").arg(script).current_dir(self.folder.path()).stdin(Stdio::piped());
        Shell(bash.stdout(told.try_clone().unwrap()).stderr(told).spawn().unwrap())
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("told")).unwrap_or_default()
    }

    /// Waits until all commands were run and all is as wanted; returns what was said.
    fn until(&self, mut shell: Shell, wanted: impl Fn() -> bool) -> String {
        let begun = Instant::now();
        while !(self.folder.path().join("reached").exists() && wanted()) {
            if let Some(status) = shell.0.try_wait().unwrap() {
                panic!("a command failed, {status}:\n{}", self.said());
            }
            assert!(begun.elapsed() < PATIENCE, "never as wanted:\n{}", self.said());
            // How often it is looked.
            std::thread::park_timeout(Duration::from_millis(50));
        }
        drop(shell);
        self.said()
    }
}

#[test]
fn the_first_steps_of_the_readme_lead_to_one_contact_of_each_person_in_each_crm() {
    let readme = readme();
    let stage = Stage::new();
    stage.settings("config/embedded.toml", "config/embedded.toml", |written| written);
    let samples = stage.folder.path().join("config/samples");
    fs::create_dir(&samples).unwrap();
    for sample in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples")).unwrap() {
        let sample = sample.unwrap();
        fs::copy(sample.path(), samples.join(sample.file_name())).unwrap();
    }
    let [first, rest @ ..] = BLOCKS.map(|block| commands(&readme, block));
    // Later blocks name the first contact of Previsto, and mean that of the first steps.
    let made =
        "until curl --silent http://127.0.0.1:8701/previsto/_sandbox/contacts | grep con_90a1; do sleep 0.2; done\n";
    let shell = stage.run(&format!("{first}{made}{}", rest.concat()));
    let said = stage.until(shell, || {
        let [priava, previsto] = ["priava", "previsto"].map(|crm| contacts(stage.crms, crm).unwrap_or_default());
        // The last command has one made a second time, as whoever asks for that wants.
        holds(&priava, "lastName", &["Hopper", "King"])
            && holds(&previsto, "name", &["Ada King", "Ada King", "Grace Hopper"])
    });
    for expected in [
        "published 2 events",
        "{\"accepted\":1}",
        "ok    line 1\n1 events, 0 at fault",
        "joined by email",
        "resolver: ACTIVE, term 1; contact-changes",
        "\"id\": \"con_90a1\"",
        " equal, 0 differ, 0 gone, 0 unreadable",
    ] {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
}

#[test]
fn an_event_of_a_source_that_nobody_had_listed_is_sent_in_again_as_the_readme_says() {
    let stage = Stage::new();
    let listed = |written: String| format!("{written}\n[input]\nknown_sources_only = true\n");
    stage.settings("config/embedded.toml", "listed.toml", listed);
    stage.settings("config/embedded.toml", "unlisted.toml", |written| {
        listed(written.replace("https://shop.example.com", "https://another.example.com"))
    });
    let event = r#"{"specversion":"1.0","id":"1","source":"https://shop.example.com","type":"com.example.contact.created.v1","subject":"4711","sequence":"1","data":{"name":{"givenName":"Ada","familyName":"King"},"emails":[{"value":"ada@example.com"}],"phoneNumbers":[{"value":"+4930123456","type":"work"}]}}"#;
    fs::write(stage.folder.path().join("changes.ndjson"), event).unwrap();
    let block = commands(&readme(), DEAD_LETTERS);
    let position = "'contact-changes[3]@17'";
    assert!(block.contains(position), "README names another position:\n{block}");
    let block = block.replace(position, "\"$position\"");
    let list = "contact-replicator dead-letters list --admin http://127.0.0.1:9464";
    let ready = "curl --silent --retry 30 --retry-delay 1 --retry-connrefused http://127.0.0.1:9464/readyz\n";
    let shell = stage.run(&format!(
        "export CONTACT_REPLICATOR_SECRET='only for tests, and of no use to anybody'\n\
         export PRIAVA_API_TOKEN=sandbox-token PREVISTO_API_KEY=sandbox-token\n\
         contact-replicator sandbox --listen 127.0.0.1:8701 --token sandbox-token &\n\
         contact-replicator publish --config unlisted.toml changes.ndjson\n\
         contact-replicator run --config unlisted.toml &\nworker=$!\n{ready}\
         until {list} | grep unknown_source; do sleep 0.2; done\n\
         kill $worker\nwait $worker\n\
         contact-replicator run --config listed.toml &\n{ready}\
         position=$({list} | grep --only-matching 'contact-changes\\[[0-9]*\\]@[0-9]*' | head -n 1)\n{block}"
    ));
    let said = stage.until(shell, || {
        ["priava", "previsto"].iter().all(|crm| contacts(stage.crms, crm).is_some_and(|contacts| contacts.len() == 1))
    });
    for expected in ["1 of 1 dead letters would be sent in", "1 of 1 dead letters are sent in"] {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
}

/// The head of a file of settings tells the commands: with its credentials, contacts arrive in every CRM that it names.
#[test]
fn the_example_with_all_five_crms_passes_the_check_and_brings_a_contact_to_each() {
    let stage = Stage::new();
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let written = fs::read_to_string(tree.join("config/five-crms.toml")).unwrap();
    let exports: String = written
        .lines()
        .filter_map(|line| Some(format!("{}\n", line.strip_prefix("#   ")?)))
        .filter(|line| line.starts_with("export "))
        .collect();
    stage.settings("config/five-crms.toml", "five.toml", |written| written);
    let sample = tree.join("config/samples/person.json");
    let shell = stage.run(&format!(
        "{exports}\
         contact-replicator sandbox --listen 127.0.0.1:8701 --token sandbox-token &\n\
         until contact-replicator check --config five.toml --quiet; do sleep 0.2; done\n\
         contact-replicator run --config five.toml &\n\
         curl --silent --retry 30 --retry-delay 1 --retry-connrefused http://127.0.0.1:9464/readyz\n\
         curl --fail http://127.0.0.1:8700/events -H 'content-type: application/cloudevents+json' --data-binary @{sample:?}\n"
    ));
    let kinds = ["priava", "previsto", "nextinteract_sam", "crm_com", "logisense"];
    stage.until(shell, || kinds.map(|kind| contacts(stage.crms, kind).unwrap_or_default().len()) == [1; 5]);
}
