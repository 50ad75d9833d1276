//! The broker: a Kafka of this command's own, in a folder and on a port of its own, which ends with it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The first of four ports in a row. `KAFKA_PORT` in the environment takes its place.
const PORT: u16 = 19_292;

/// A Kafka at work; it stops with this value, and leaves nothing.
pub(crate) struct Broker {
    port: u16,
    folder: PathBuf,
}

impl Broker {
    pub(crate) fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        #[expect(clippy::disallowed_methods, reason = "a benchmark has no settings file")]
        let port = std::env::var("KAFKA_PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(PORT);
        let broker = Self { port, folder: root.join("target/bench-kafka") };
        // Of a run that was killed.
        broker.kafka("stop");
        broker.remove();
        broker.kafka("start");
        broker
    }

    pub(crate) fn servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    #[track_caller]
    fn kafka(&self, command: &str) {
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kafka/kafka.sh"));
        script.arg(command).env("KAFKA_PORT", self.port.to_string()).env("KAFKA_DATA", &self.folder);
        let said = script.output().unwrap();
        assert!(said.status.success(), "kafka.sh {command}: {}", String::from_utf8_lossy(&said.stderr));
    }

    fn remove(&self) {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                eprintln!("{} stays: {error}", self.folder.display());
            }
            _ => {}
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kafka("stop");
        self.remove();
    }
}
