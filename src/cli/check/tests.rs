//! What is told of settings: values with their origins, findings by severity, and never a secret.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A file of settings with a log on disk that is not there yet, and a CRM that nobody listens for.
const BASE: &str = r#"
instance = "check"
[worker]
data = "/nowhere/at/all"
[log]
kind = "local"
[identity]
secret_file = "SECRET_FILE"
[[crm]]
name = "priava"
kind = "priava"
base_url = "http://127.0.0.1:1/api"
[crm.fields]
department = { constant = "sesame" }
marketingOptOut = { omit = true }
"#;

struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), SECRET).unwrap();
        fs::set_permissions(folder.path().join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        Self { folder }
    }

    fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    async fn told(&self, more: &str, flags: &str) -> (Exit, String) {
        let file = self.folder.path().join("settings.toml");
        let text = BASE.replace("SECRET_FILE", &self.secret().display().to_string());
        fs::write(&file, format!("{more}{text}")).unwrap();
        let has = |flag: &str| flags.contains(flag);
        let arguments = Arguments {
            configured: Configured { config: file },
            all: has("--all"),
            quiet: has("--quiet"),
            json: has("--json"),
        };
        let variable = |name: &str| (name == "PRIAVA_API_TOKEN").then(|| "sesame-sesame".to_owned());
        let surroundings = Surroundings { variable: &variable, ..Surroundings::process() };
        let mut output = Vec::new();
        let reading = Reading::of_file(&arguments.configured.config, surroundings);
        let exit = tell(&arguments, &reading, &mut output).await.unwrap();
        (exit, String::from_utf8(output).unwrap())
    }
}

#[tokio::test]
async fn each_value_is_told_with_its_origin_and_defaults_are_folded_away() {
    let desk = Desk::new();
    let (exit, told) = desk.told("", "").await;
    assert_eq!(exit, Exit::CheckFailed, "nobody listens for the CRM");
    for line in [
        "  instance = \"check\"  # line 2\n",
        "  log.kind = \"local\"  # line 6\n",
        &format!("  identity.secret = (set, from file {})  # line 8\n", desk.secret().display()),
        "  crm[0].priava.token = (set, from variable PRIAVA_API_TOKEN)  # default\n",
        "  crm[0].fields.department.constant = (not shown)  # line 14\n",
        "more are at their defaults; --all tells them\n",
        "ok    settings\n",
        "ok    log: /nowhere/at/all/log is made by the first worker\n",
        "ERROR line 12: crm[0].base_url = \"http://127.0.0.1:1/api\": crm priava: 127.0.0.1:1 cannot be connected to: \
         Connection refused (os error 111); correct it, or ask who runs the CRM or the network between\n",
        "WARN  line 13: crm[0].fields: crm priava cannot be told that a person withdrew a consent",
    ] {
        assert!(told.contains(line), "{line:?} is not in\n{told}");
    }
    assert!(!told.contains("topics.partitions"), "{told}");
    assert!(told.contains("worker.id = ") && told.contains("# host name"), "{told}");
    let (_, all) = desk.told("", "--all").await;
    assert!(all.contains("  topics.partitions = 24  # default\n"), "{all}");
    assert!(all.contains("  crm[0].delivery.retry_delay = \"1s\"  # default\n"), "{all}");
    for text in [&told, &all] {
        assert!(!text.contains("sesame") && !text.contains(SECRET), "{text}");
    }
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_told_with_all_their_faults_and_nobody_is_asked() {
    let desk = Desk::new();
    let (exit, told) = desk.told("nonsense = \"sesame\"\ntopics.partitions = 0\nview.cache_bytes = 1\n", "").await;
    assert_eq!(exit, Exit::Usage);
    assert!(told.contains("  nonsense = (not shown)  # line 1\n"), "{told}");
    assert!(
        told.contains("ERROR line 2: topics.partitions = 0: this is out of bounds; choose from 1 to 10000\n"),
        "{told}"
    );
    assert!(told.contains("ERROR line 3: view.cache_bytes = 1: "), "{told}");
    assert!(
        told.ends_with("nobody outside was asked, since the settings cannot be used\n3 errors, 0 warnings, 0 notes\n"),
        "{told}"
    );
    assert!(!told.contains("sesame"), "{told}");
}

#[tokio::test]
async fn quiet_tells_what_matters_alone() {
    let (_, told) = Desk::new().told("", "--quiet").await;
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines.iter().all(|line| line.starts_with("ERROR ") || line.starts_with("WARN  ")), "{told}");
    assert!(lines.iter().is_sorted_by_key(|line| line.starts_with("WARN")), "{told}");
}

#[tokio::test]
async fn tools_get_the_same_as_json() {
    let desk = Desk::new();
    let (exit, told) = desk.told("", "--json").await;
    assert_eq!(exit, Exit::CheckFailed);
    let told: Value = serde_json::from_str(&told).unwrap();
    let setting = |key: &str| {
        let settings = told["settings"].as_array().unwrap();
        settings.iter().find(|setting| setting["key"] == key).cloned().unwrap()
    };
    let origin = |line: u32| serde_json::json!({ "from": "file", "line": line });
    assert_eq!(
        setting("instance"),
        serde_json::json!({ "key": "instance", "is": "value", "value": "\"check\"", "origin": origin(2) })
    );
    assert_eq!(
        setting("identity.secret"),
        serde_json::json!({
            "key": "identity.secret", "is": "secret", "file": desk.secret(), "is_set": true, "origin": origin(8)
        })
    );
    assert_eq!(told["settings_usable"], true);
    let finding = &told["findings"][0];
    assert_eq!(
        (&finding["severity"], &finding["key"], &finding["line"]),
        (&"error".into(), &"crm[0].base_url".into(), &12.into())
    );
    assert!(finding["reason"].is_string() && finding["remedy"].is_string());
}

#[tokio::test]
async fn a_secret_that_everybody_may_read_is_warned_of() {
    let desk = Desk::new();
    let warning = format!(
        "WARN  line 8: identity.secret_file = \"{0}\": every user of this machine may read this secret; chmod 600 {0}\n",
        desk.secret().display()
    );
    for (mode, is_told) in [(0o644, true), (0o640, false), (0o600, false)] {
        fs::set_permissions(desk.secret(), fs::Permissions::from_mode(mode)).unwrap();
        let (_, told) = desk.told("", "").await;
        assert_eq!(told.contains(&warning), is_told, "{mode:o}:\n{told}");
    }
}
