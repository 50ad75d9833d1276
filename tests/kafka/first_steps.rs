//! What README has a newcomer do beside a real Kafka: its commands, with a broker of their own, as they stand there but for
//! ports and the build.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::Instant;

use crate::ports;

/// Java starts in it, too.
const PATIENCE: Duration = Duration::from_secs(120);

/// The commands of the section. Whoever reads them takes longer than a server to start; a shell asks until it is there.
fn commands(readme: &str) -> String {
    let section = readme.split("\n## Beside a real Kafka\n").nth(1).unwrap();
    let block = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let is_ours = |line: &&str| !line.starts_with("cargo build") && !line.starts_with("export PATH=");
    let patient = |line: &str| match ["check", "explain"]
        .iter()
        .any(|name| line.starts_with(&format!("contact-replicator {name} ")))
    {
        true => format!("until {line}; do sleep 0.2; done\n"),
        false => format!("{line}\n"),
    };
    block.lines().filter(is_ours).map(patient).collect()
}

#[tokio::test]
async fn the_steps_of_the_readme_beside_a_real_kafka_lead_to_a_contact_that_is_explained() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(tree.join("README.md")).unwrap();
    let mut settings = fs::read_to_string(tree.join("config/kafka.toml")).unwrap();
    let mut commands = commands(&readme);
    let free = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [crm, admin] = free.map(|listener| listener.local_addr().unwrap().port());
    let kafka = ports::free_block(4);
    for text in [&mut commands, &mut settings] {
        *text = text.replace("127.0.0.1:8701", &format!("127.0.0.1:{crm}"));
        *text = text.replace("127.0.0.1:9092", &format!("127.0.0.1:{kafka}"));
    }
    commands = commands.replace("deploy/kafka/", &format!("{}/deploy/kafka/", tree.display()));
    settings.push_str(&format!("\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n"));
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("config")).unwrap();
    fs::write(folder.path().join("config/kafka.toml"), settings).unwrap();

    let program = Path::new(env!("CARGO_BIN_EXE_contact-replicator")).parent().unwrap();
    let stop = format!("{}/deploy/kafka/kafka.sh stop", tree.display());
    let script = format!("set -e\nPATH={program:?}:$PATH\ntrap 'kill $(jobs -p); wait; {stop}' EXIT\n{commands}");
    let told = fs::File::create(folder.path().join("told")).unwrap();
    let mut bash = Command::new("bash");
    bash.arg("-c").arg(script).current_dir(folder.path()).stdin(Stdio::null());
    bash.env("KAFKA_DATA", folder.path().join("kafka")).env("KAFKA_PORT", kafka.to_string()).env("KAFKA_HEAP", "512m");
    let mut shell = bash.stdout(told.try_clone().unwrap()).stderr(told).spawn().unwrap();

    let begun = Instant::now();
    let said = || fs::read_to_string(folder.path().join("told")).unwrap_or_default();
    let status = loop {
        if let Some(status) = shell.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end:\n{}", said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    eprintln!("from the first command to the end of Kafka: {:?}", begun.elapsed());
    assert!(status.success(), "{status}:\n{}", said());
    for expected in ["\"outcome\":\"delivered\"", "\"lastName\":\"Lovelace\"", "priava: up to date with version 1"] {
        assert!(said().contains(expected), "{expected} is not in\n{}", said());
    }
}
