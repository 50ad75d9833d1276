//! Creates our topics, and compares those that exist with what this program needs.
//!
//! Nothing that exists is ever altered. librdkafka's way to alter a topic replaces its whole set of settings, and a
//! topic that differs may differ for a reason: an operator is told what to do instead.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication},
    error::RDKafkaErrorCode,
};
use tokio::time::Instant;

use super::{
    client::{Connection, Context, Offloaded, Task, creation_error, error_of_code, log_error},
    inquiry::Inquiry,
};
use crate::log::{Cleanup, LogError, TopicSpec};

const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// How long a created topic may take to be known to the broker that we ask.
const KNOWN_WITHIN: Duration = Duration::from_secs(15);

/// Creates what is missing and compares the rest; returns the names of those created.
pub(super) async fn ensure(
    connection: &Connection,
    inquiry: &Inquiry,
    topics: &[TopicSpec],
) -> Result<Vec<Arc<str>>, LogError> {
    let ours: Vec<&TopicSpec> = topics.iter().filter(|spec| spec.cleanup != Cleanup::Foreign).collect();
    // Made for this call alone: nothing serves the log lines of a client for administration, so they would pile up.
    let admin: AdminClient<Context> = connection
        .administration()
        .create_with_context(Context::new("administration"))
        .map_err(|error| creation_error(&error))?;
    let admin = Offloaded::new(admin);
    let mut created = Vec::new();
    for spec in &ours {
        if inquiry.partitions(&spec.name).await?.is_none() && create(connection, &admin, spec).await? {
            created.push(Arc::clone(&spec.name));
        }
    }
    for spec in &ours {
        let found = known_partitions(inquiry, spec).await?;
        if found != spec.partitions {
            return Err(differs(spec, "number of partitions", found, spec.partitions, REMEDY_PARTITIONS));
        }
    }
    let settings = describe(&admin, inquiry, &ours).await?;
    for spec in &ours {
        compare(spec, connection.settings.min_insync_replicas, &settings[&spec.name])?;
    }
    Ok(created)
}

/// Whether we were the one to create it: another worker may be faster.
async fn create(connection: &Connection, admin: &AdminClient<Context>, spec: &TopicSpec) -> Result<bool, LogError> {
    const TASK: Task = Task::new("creating a topic", "CREATE");
    let settings = settings_of(spec, connection.settings.min_insync_replicas);
    let partitions = i32::try_from(spec.partitions).unwrap_or(i32::MAX);
    let replication = TopicReplication::Fixed(connection.settings.replication_factor);
    let topic = settings
        .iter()
        .fold(NewTopic::new(&spec.name, partitions, replication), |topic, (name, value)| topic.set(name, value));
    let subject = format!("topic {}", spec.name);
    let results = admin.create_topics([&topic], &options()).await.map_err(|error| log_error(TASK, &subject, &error))?;
    match results.into_iter().next() {
        Some(Ok(_)) => Ok(true),
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, RDKafkaErrorCode::InvalidReplicationFactor))) => Err(LogError::Unusable {
            reason: format!(
                "{subject} cannot have {} replicas: the cluster has fewer brokers; set log.kafka.replication_factor",
                connection.settings.replication_factor
            ),
        }),
        Some(Err((_, code))) => Err(error_of_code(TASK, &subject, code)),
        None => Err(error_of_code(TASK, &subject, RDKafkaErrorCode::Fail)),
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_DEADLINE)).operation_timeout(Some(REQUEST_DEADLINE))
}

/// The settings that a topic is created with.
fn settings_of(spec: &TopicSpec, min_insync_replicas: i32) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("max.message.bytes", spec.message_bytes_max.to_string()),
        ("min.insync.replicas", min_insync_replicas.to_string()),
    ];
    match spec.cleanup {
        Cleanup::Compact { tombstones } => {
            settings.push(("cleanup.policy", "compact".to_owned()));
            settings.push(("delete.retention.ms", tombstones.as_millis().to_string()));
        }
        Cleanup::Delete { after } => {
            settings.push(("cleanup.policy", "delete".to_owned()));
            settings.push(("retention.ms", after.as_millis().to_string()));
            // The broker's default may have a limit, which would delete before the time.
            settings.push(("retention.bytes", "-1".to_owned()));
        }
        Cleanup::Foreign => {}
    }
    settings
}

/// The partitions of a topic that exists or was created just now, by us or by another worker.
async fn known_partitions(inquiry: &Inquiry, spec: &TopicSpec) -> Result<u32, LogError> {
    let deadline = Instant::now() + KNOWN_WITHIN;
    loop {
        if let Some(partitions) = inquiry.partitions(&spec.name).await? {
            return Ok(partitions);
        }
        if Instant::now() >= deadline {
            return Err(LogError::Unavailable {
                doing: "waiting for a created topic",
                reason: format!("the broker does not know topic {} yet", spec.name),
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn describe(
    admin: &AdminClient<Context>,
    inquiry: &Inquiry,
    topics: &[&TopicSpec],
) -> Result<HashMap<Arc<str>, ConfigResource>, LogError> {
    const TASK: Task = Task::new("reading the settings of a topic", "DESCRIBE_CONFIGS");
    if topics.is_empty() {
        return Ok(HashMap::new());
    }
    let asked: Vec<_> = topics.iter().map(|spec| ResourceSpecifier::Topic(&spec.name)).collect();
    let answers =
        admin.describe_configs(&asked, &options()).await.map_err(|error| log_error(TASK, "our topics", &error))?;
    let mut settings = HashMap::new();
    for (spec, answer) in topics.iter().zip(answers) {
        let subject = format!("topic {}", spec.name);
        let found = answer.map_err(|code| error_of_code(TASK, &subject, code))?;
        // The client library passes over the error of a single topic, which is there with nothing in it.
        if found.entries.is_empty() {
            return Err(match inquiry.partitions(&spec.name).await? {
                None => LogError::UnknownTopic { topic: Arc::clone(&spec.name) },
                Some(_) => error_of_code(TASK, &subject, RDKafkaErrorCode::TopicAuthorizationFailed),
            });
        }
        settings.insert(Arc::clone(&spec.name), found);
    }
    if settings.len() < topics.len() {
        return Err(error_of_code(TASK, "our topics", RDKafkaErrorCode::Fail));
    }
    Ok(settings)
}

const REMEDY_PARTITIONS: &str = "records of a contact would part from its links: set topics.partitions to what is found, or choose another \
     topics.prefix";
const REMEDY_ALTER: &str = "alter it with kafka-configs --alter --entity-type topics, or choose another topics.prefix";
const REMEDY_REPLICAS: &str =
    "alter it with kafka-configs --alter --entity-type topics, or lower log.kafka.min_insync_replicas";
const REMEDY_RETENTION: &str =
    "alter it with kafka-configs --alter --entity-type topics, or lower the retention under [topics]";

fn differs(
    spec: &TopicSpec,
    setting: &'static str,
    found: impl ToString,
    needed: impl ToString,
    remedy: &'static str,
) -> LogError {
    LogError::Topic {
        topic: Arc::clone(&spec.name),
        setting,
        found: found.to_string(),
        needed: needed.to_string(),
        remedy,
    }
}

/// Compares what the program's promises rest on. Longer retention and larger records than asked for do no harm.
fn compare(spec: &TopicSpec, min_insync_replicas: i32, found: &ConfigResource) -> Result<(), LogError> {
    let text = |setting: &str| found.get(setting).and_then(|entry| entry.value.clone()).unwrap_or_default();
    let at_least = |setting: &'static str, needed: u128, remedy: &'static str| {
        let value = text(setting);
        // Minus one is "without limit" in all settings where it can occur.
        let enough = value == "-1" || value.parse::<u128>().is_ok_and(|value| value >= needed);
        if enough { Ok(()) } else { Err(differs(spec, setting, value, format!("at least {needed}"), remedy)) }
    };
    let policy = |needed: &'static str| {
        let value = text("cleanup.policy");
        if value == needed { Ok(()) } else { Err(differs(spec, "cleanup.policy", value, needed, REMEDY_ALTER)) }
    };
    match spec.cleanup {
        Cleanup::Compact { tombstones } => {
            // `compact,delete` would forget contacts that nobody changes.
            policy("compact")?;
            at_least("delete.retention.ms", tombstones.as_millis(), REMEDY_RETENTION)?;
        }
        Cleanup::Delete { after } => {
            policy("delete")?;
            at_least("retention.ms", after.as_millis(), REMEDY_RETENTION)?;
            let bytes = text("retention.bytes");
            if bytes != "-1" {
                tracing::warn!(topic = %spec.name, %bytes, "retention.bytes may delete records before their time");
            }
        }
        Cleanup::Foreign => return Ok(()),
    }
    at_least("max.message.bytes", u128::from(spec.message_bytes_max), REMEDY_ALTER)?;
    at_least("min.insync.replicas", u128::try_from(min_insync_replicas).unwrap_or(0), REMEDY_REPLICAS)
}

#[cfg(test)]
mod tests {
    use rdkafka::admin::{ConfigEntry, ConfigSource, OwnedResourceSpecifier};

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn spec(cleanup: Cleanup) -> TopicSpec {
        TopicSpec { name: "t".into(), partitions: 3, cleanup, message_bytes_max: 1000 }
    }

    /// A topic with the settings it would have been created with, but for `changed`.
    fn found(spec: &TopicSpec, changed: (&str, &str)) -> ConfigResource {
        let mut settings: HashMap<&str, String> = settings_of(spec, 2).into_iter().collect();
        settings.insert(changed.0, changed.1.to_owned());
        let entries = settings.into_iter().map(|(name, value)| ConfigEntry {
            name: name.to_owned(),
            value: Some(value),
            source: ConfigSource::DynamicTopic,
            is_read_only: false,
            is_default: false,
            is_sensitive: false,
        });
        ConfigResource { specifier: OwnedResourceSpecifier::Topic("t".to_owned()), entries: entries.collect() }
    }

    fn check(cleanup: Cleanup, changed: (&str, &str), expected: Option<&str>) {
        let spec = spec(cleanup);
        let fault = match compare(&spec, 2, &found(&spec, changed)) {
            Ok(()) => None,
            Err(LogError::Topic { setting, found, .. }) => {
                assert_eq!(found, changed.1);
                Some(setting)
            }
            Err(other) => panic!("{other}"),
        };
        assert_eq!(fault, expected, "{changed:?}");
    }

    #[test]
    fn a_compacted_topic_is_held_to_what_it_was_created_with() {
        let compact = Cleanup::Compact { tombstones: DAY };
        check(compact, ("unrelated", "1"), None);
        check(compact, ("cleanup.policy", "compact,delete"), Some("cleanup.policy"));
        check(compact, ("cleanup.policy", "delete"), Some("cleanup.policy"));
        check(compact, ("delete.retention.ms", "1000"), Some("delete.retention.ms"));
        check(compact, ("delete.retention.ms", "99999999999"), None);
        check(compact, ("max.message.bytes", "999"), Some("max.message.bytes"));
        check(compact, ("max.message.bytes", "1001"), None);
        check(compact, ("min.insync.replicas", "1"), Some("min.insync.replicas"));
    }

    #[test]
    fn a_topic_with_retention_may_keep_longer_and_never_shorter() {
        let delete = Cleanup::Delete { after: DAY };
        check(delete, ("retention.ms", "-1"), None);
        check(delete, ("retention.ms", "86400000"), None);
        check(delete, ("retention.ms", "86399999"), Some("retention.ms"));
        check(delete, ("cleanup.policy", "compact"), Some("cleanup.policy"));
    }
}
