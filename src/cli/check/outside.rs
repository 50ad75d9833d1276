//! What settings point to: the log and its topics, the CRMs, the files with secrets.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use url::Url;

use super::super::{
    open_log, reach,
    topics::{Surveyed, survey},
};
use crate::{
    config::{Advice, CrmSettings, Effective, Fault, Holds, LogKind, SecretPlace, Settings, Severity},
    log::{
        Log, LogError,
        local::{self, Presence},
    },
};

/// How long each thing outside may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is as it should be, in words, or what is not.
pub(super) type Found = Result<String, Advice>;

/// Asks the log and each CRM.
pub(super) async fn look(settings: &Settings) -> Vec<Found> {
    let mut found = Vec::new();
    match presence(settings) {
        Some(line) => found.push(Ok(line)),
        None => match open_log(settings).await {
            Ok(log) => found.extend(topics(settings, &*log).await),
            Err(error) => found.push(Err(log_fault(settings, &error))),
        },
    }
    for (index, crm) in settings.crm.iter().enumerate() {
        found.push(reachable(index, crm).await);
    }
    found
}

fn finding(severity: Severity, key: String, value: Option<String>, reason: String, remedy: String) -> Advice {
    Advice { severity, fault: Fault { key, value, line: None, reason, remedy } }
}

async fn reachable(index: usize, crm: &CrmSettings) -> Found {
    let CrmSettings { name, base_url, .. } = crm;
    let fault = |reason: String| {
        let (key, value) = (format!("crm[{index}].base_url"), Some(format!("{base_url:?}")));
        let remedy = "correct it, or ask who runs the CRM or the network between".to_owned();
        finding(Severity::Error, key, value, format!("crm {name}: {reason}"), remedy)
    };
    let url = Url::parse(base_url).map_err(|error| fault(error.to_string()))?;
    match reach::reach(&url, crm.delivery.connect_timeout.min(PATIENCE)).await {
        Ok(reached) => {
            let how = if reached.encrypted { "its certificate is trusted" } else { "without encryption" };
            Ok(format!(
                "crm {name}: {} can be reached, {how}; the credential is seen with the first delivery",
                reached.address
            ))
        }
        Err(error) => Err(fault(error.to_string())),
    }
}

/// What there is to say of a log on disk that is not to be opened now.
fn presence(settings: &Settings) -> Option<String> {
    if settings.log.kind != LogKind::Local {
        return None;
    }
    let folder = settings.log_folder();
    match local::presence(&folder) {
        Presence::Missing => Some(format!("log: {} is made by the first worker", folder.display())),
        Presence::InUse => Some(format!("log: {} is open in a running process", folder.display())),
        Presence::Free => None,
    }
}

fn log_fault(settings: &Settings, error: &LogError) -> Advice {
    let (key, value, remedy) = match (settings.log.kind, error) {
        (LogKind::Local, _) => {
            let folder = settings.log_folder().display().to_string();
            ("log.local.folder", Some(format!("{folder:?}")), "see that this user may read and write it")
        }
        (LogKind::Kafka, LogError::Unusable { .. }) => ("log.kafka", None, "correct it under [log.kafka]"),
        (LogKind::Kafka, LogError::Connection { .. }) => {
            ("log.kafka.properties", None, "mend that side, here or at the brokers; workers wait for it meanwhile")
        }
        (LogKind::Kafka, LogError::Unauthorized { .. }) => (
            "log.kafka.properties",
            None,
            "have it permitted: contact-replicator topics --acls User:NAME prints the commands",
        ),
        (LogKind::Kafka, _) => {
            let servers = &settings.log.kafka.bootstrap_servers;
            let remedy = "start a broker there, or correct the address; workers wait for it meanwhile";
            ("log.kafka.bootstrap_servers", Some(format!("{servers:?}")), remedy)
        }
    };
    finding(Severity::Error, key.to_owned(), value, error.to_string(), remedy.to_owned())
}

/// A line for each topic that is read or written, and for each way in which one is not as needed.
async fn topics(settings: &Settings, log: &dyn Log) -> Vec<Found> {
    match survey(settings, log).await {
        Ok(surveyed) => surveyed.iter().flat_map(of_topic).collect(),
        Err(error) => vec![Err(log_fault(settings, &error))],
    }
}

fn of_topic(topic: &Surveyed) -> Vec<Found> {
    let Surveyed { topic: name, is_input, needed, found, differences, .. } = topic;
    let kind = if *is_input { "input topic" } else { "topic" };
    let (key, mut all) = (format!("topic {name}"), Vec::new());
    match (found, needed.partitions) {
        (None, None) => {
            let remedy = "whoever publishes to it creates it; workers wait for it meanwhile";
            all.push(Err(finding(Severity::Error, key, None, "it is missing".into(), remedy.into())));
            return all;
        }
        (None, Some(needed)) => {
            return vec![Ok(format!("{kind} {name}: missing; the first worker creates it with {needed} partitions"))];
        }
        (Some(found), _) if !topic.is_fault() => {
            all.push(Ok(format!("{kind} {name}: {} partitions", found.partitions)))
        }
        (Some(_), _) => {}
    }
    for difference in differences {
        let severity = if difference.matters { Severity::Error } else { Severity::Warning };
        let reason = format!("{} is {}, needed is {}", difference.key, difference.found, difference.needed);
        all.push(Err(finding(severity, key.clone(), None, reason, difference.remedy.clone())));
    }
    all
}

/// Files with secrets that every user of this machine may read.
pub(super) fn open_secrets(settings: &[Effective]) -> Vec<Advice> {
    let of_file = |setting: &Effective| {
        let Holds::Secret { place: SecretPlace::File(path), .. } = &setting.holds else { return None };
        let is_open = fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0);
        is_open.then(|| {
            let (key, path) = (format!("{}_file", setting.key), path.display().to_string());
            let remedy = format!("chmod 600 {path}");
            let reason = "every user of this machine may read this secret".to_owned();
            finding(Severity::Warning, key, Some(format!("{path:?}")), reason, remedy)
        })
    };
    settings.iter().filter_map(of_file).collect()
}
