//! What a topic has to be, what it was found to be, and every difference between the two.
//!
//! One list of needs serves to create a topic and to judge one that exists, so what we create is never judged wrong. A
//! topic that differs is never altered by us: it may differ for a reason, and librdkafka's way to alter one replaces its
//! whole set of settings. So each difference tells key, value found, value needed and what an operator may do.
//!
//! No I/O: whoever has a [`TopicFound`] can compare.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::Serialize;

use super::{Cleanup, TopicSpec};
use crate::config::KafkaSettings;

/// A topic as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicFound {
    pub partitions: u32,
    /// Replicas of the partition that has the fewest; `None` where the log keeps no replicas.
    pub replicas: Option<u32>,
    /// The topic's settings as the broker names them, each as text.
    pub settings: BTreeMap<String, String>,
}

/// One way in which a topic is not as this program needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub topic: Arc<str>,
    /// The broker's name of the setting, or `partitions` or `replicas`.
    pub key: &'static str,
    pub found: String,
    pub needed: String,
    /// What an operator may do, with the exact arguments of Kafka's tools.
    pub remedy: String,
    /// A promise rests on it: no worker starts. Otherwise it is worth knowing.
    pub matters: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, key, found, needed, remedy, .. } = self;
        write!(f, "topic {topic}: {key} is {found}, needed is {needed}; {remedy}")
    }
}

/// All differences that keep a worker from starting: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differences(pub Vec<Difference>);

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [only] => only.fmt(f),
            all => {
                write!(f, "{} settings of topics are not as needed", all.len())?;
                all.iter().try_for_each(|difference| write!(f, "\n  {difference}"))
            }
        }
    }
}

/// How a value that was found is measured by the one needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Exactly,
    /// More does no harm; minus one is "without limit" in all settings where it can occur.
    AtLeast,
}

/// A setting that a topic needs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Need {
    key: &'static str,
    value: String,
    measure: Measure,
    /// What may be done instead of altering the topic.
    instead: &'static str,
    matters: bool,
}

const CHOOSE_ANOTHER: &str = "or choose another topics.prefix";
const LOWER_RETENTION: &str = "or lower the retention under [topics]";
const LOWER_SIZE: &str = "or lower topics.message_bytes_max";
const LOWER_INSYNC: &str = "or lower log.kafka.min_insync_replicas";
const ASK_OWNER: &str = "if whoever publishes to it agrees: a change that is compacted away is never read";
const KEEP_BY_TIME: &str = "or records may be deleted before their time";

fn needs(spec: &TopicSpec, kafka: Option<&KafkaSettings>) -> Vec<Need> {
    let need = |key, value: String, measure, instead| Need { key, value, measure, instead, matters: true };
    let mut needs = Vec::new();
    match spec.cleanup {
        Cleanup::Compact { tombstones } => {
            // `compact,delete` would forget contacts that nobody changes.
            needs.push(need("cleanup.policy", "compact".to_owned(), Measure::Exactly, CHOOSE_ANOTHER));
            let tombstones = tombstones.as_millis().to_string();
            needs.push(need("delete.retention.ms", tombstones, Measure::AtLeast, LOWER_RETENTION));
        }
        Cleanup::Delete { after } => {
            needs.push(need("cleanup.policy", "delete".to_owned(), Measure::Exactly, CHOOSE_ANOTHER));
            needs.push(need("retention.ms", after.as_millis().to_string(), Measure::AtLeast, LOWER_RETENTION));
            if kafka.is_some() {
                // The broker's default may have a limit.
                let by_time = need("retention.bytes", "-1".to_owned(), Measure::Exactly, KEEP_BY_TIME);
                needs.push(Need { matters: false, ..by_time });
            }
        }
        Cleanup::Foreign => {
            let policy = need("cleanup.policy", "delete".to_owned(), Measure::Exactly, ASK_OWNER);
            return vec![Need { matters: false, ..policy }];
        }
    }
    needs.push(need("max.message.bytes", spec.message_bytes_max.to_string(), Measure::AtLeast, LOWER_SIZE));
    if let Some(kafka) = kafka {
        let insync = kafka.min_insync_replicas.to_string();
        needs.push(need("min.insync.replicas", insync, Measure::AtLeast, LOWER_INSYNC));
    }
    needs
}

/// The settings that a topic is created with.
pub(super) fn settings_of(spec: &TopicSpec, kafka: Option<&KafkaSettings>) -> Vec<(&'static str, String)> {
    match spec.cleanup {
        Cleanup::Foreign => Vec::new(),
        _ => needs(spec, kafka).into_iter().map(|need| (need.key, need.value)).collect(),
    }
}

/// All differences between a topic as it is needed and as it was found. `kafka` is the cluster that holds it; without one
/// it is a log of our own, which has neither replicas nor tools.
pub fn differences(spec: &TopicSpec, kafka: Option<&KafkaSettings>, found: &TopicFound) -> Vec<Difference> {
    let servers = kafka.map_or("", |kafka| &kafka.bootstrap_servers);
    let differs = |key, found: String, needed: String, remedy: String, matters| Difference {
        topic: Arc::clone(&spec.name),
        key,
        found,
        needed,
        remedy,
        matters,
    };
    let mut differences = Vec::new();
    let is_ours = spec.cleanup != Cleanup::Foreign;
    if is_ours && found.partitions != spec.partitions {
        let remedy = "set topics.partitions to what is found, or choose another topics.prefix: with partitions added, \
                      records of a contact would part from its links";
        let (found, needed) = (found.partitions.to_string(), spec.partitions.to_string());
        differences.push(differs("partitions", found, needed, remedy.to_owned(), true));
    }
    if let (true, Some(kafka), Some(replicas)) = (is_ours, kafka, found.replicas) {
        let needed = u32::try_from(kafka.replication_factor).unwrap_or(0);
        if replicas < needed {
            let remedy = format!(
                "give each of its partitions {needed} brokers with kafka-reassign-partitions --bootstrap-server {servers} \
                 --reassignment-json-file FILE --execute, or lower log.kafka.replication_factor"
            );
            let needed = format!("at least {needed}");
            differences.push(differs("replicas", replicas.to_string(), needed, remedy, true));
        }
    }
    for Need { key, value, measure, instead, matters } in needs(spec, kafka) {
        let text = found.settings.get(key).cloned().unwrap_or_default();
        let enough = match measure {
            Measure::Exactly => text == value,
            Measure::AtLeast => {
                let number = |text: &str| text.parse::<u128>().ok();
                text == "-1" || number(&text).zip(number(&value)).is_some_and(|(found, needed)| found >= needed)
            }
        };
        if enough {
            continue;
        }
        let remedy = match kafka {
            Some(_) => format!(
                "run kafka-configs --bootstrap-server {servers} --alter --entity-type topics --entity-name {} --add-config \
                 {key}={value}, {instead}",
                spec.name
            ),
            None => instead.trim_start_matches("or ").to_owned(),
        };
        let needed = if measure == Measure::AtLeast { format!("at least {value}") } else { value };
        let text = if text.is_empty() { "not set".to_owned() } else { text };
        differences.push(differs(key, text, needed, remedy, matters));
    }
    differences
}

/// Every difference of all topics that keeps a worker from starting, as one fault; what is only worth knowing is told.
pub(super) fn judge(differences: impl IntoIterator<Item = Difference>) -> Result<(), Differences> {
    let (grave, light): (Vec<_>, Vec<_>) = differences.into_iter().partition(|difference| difference.matters);
    for difference in light {
        tracing::warn!(%difference, "a topic is not as it should be");
    }
    if grave.is_empty() { Ok(()) } else { Err(Differences(grave)) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Settings;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const COMPACT: Cleanup = Cleanup::Compact { tombstones: DAY };
    const DELETE: Cleanup = Cleanup::Delete { after: DAY };

    fn spec(cleanup: Cleanup) -> TopicSpec {
        TopicSpec { name: "t".into(), partitions: 3, cleanup, message_bytes_max: 1000 }
    }

    fn kafka() -> KafkaSettings {
        KafkaSettings {
            bootstrap_servers: "broker:9092".to_owned(),
            replication_factor: 3,
            min_insync_replicas: 2,
            ..Settings::reference().log.kafka
        }
    }

    /// A topic as it would have been created, but for `changed`.
    fn found(spec: &TopicSpec, changed: &[(&str, &str)]) -> TopicFound {
        let created = settings_of(spec, Some(&kafka())).into_iter().map(|(key, value)| (key.to_owned(), value));
        let mut found = TopicFound { partitions: spec.partitions, replicas: Some(3), settings: created.collect() };
        for (key, value) in changed {
            match *key {
                "partitions" => found.partitions = value.parse().unwrap(),
                "replicas" => found.replicas = Some(value.parse().unwrap()),
                key => drop(found.settings.insert(key.to_owned(), (*value).to_owned())),
            }
        }
        found
    }

    fn check(cleanup: Cleanup, changed: &[(&str, &str)], expected: &[(&str, bool)]) {
        let spec = spec(cleanup);
        let differences = differences(&spec, Some(&kafka()), &found(&spec, changed));
        let told: Vec<_> = differences.iter().map(|difference| (difference.key, difference.matters)).collect();
        assert_eq!(told, expected, "{changed:?}");
    }

    #[test]
    fn a_state_topic_is_held_to_what_it_was_created_with() {
        check(COMPACT, &[("unrelated", "1")], &[]);
        check(COMPACT, &[("cleanup.policy", "compact,delete")], &[("cleanup.policy", true)]);
        check(COMPACT, &[("cleanup.policy", "delete")], &[("cleanup.policy", true)]);
        check(COMPACT, &[("delete.retention.ms", "1000")], &[("delete.retention.ms", true)]);
        check(COMPACT, &[("delete.retention.ms", "99999999999")], &[]);
        check(COMPACT, &[("max.message.bytes", "999")], &[("max.message.bytes", true)]);
        check(COMPACT, &[("max.message.bytes", "1001")], &[]);
        check(COMPACT, &[("min.insync.replicas", "1")], &[("min.insync.replicas", true)]);
        check(COMPACT, &[("replicas", "2")], &[("replicas", true)]);
        check(COMPACT, &[("replicas", "4")], &[]);
        check(COMPACT, &[("partitions", "4")], &[("partitions", true)]);
    }

    #[test]
    fn a_topic_with_retention_may_keep_longer_and_never_shorter() {
        check(DELETE, &[("retention.ms", "-1")], &[]);
        check(DELETE, &[("retention.ms", "86400000")], &[]);
        check(DELETE, &[("retention.ms", "86399999")], &[("retention.ms", true)]);
        check(DELETE, &[("cleanup.policy", "compact")], &[("cleanup.policy", true)]);
        check(DELETE, &[("retention.bytes", "1000000")], &[("retention.bytes", false)]);
    }

    #[test]
    fn an_input_topic_that_is_compacted_is_told_of_and_keeps_nobody_from_starting() {
        let settings = [("cleanup.policy".to_owned(), "compact".to_owned())].into();
        let found = TopicFound { partitions: 7, replicas: Some(1), settings };
        let told = differences(&spec(Cleanup::Foreign), Some(&kafka()), &found);
        assert!(told.len() == 1 && !told[0].matters, "{told:?}");
    }

    #[test]
    fn all_differences_are_told_at_once_each_with_its_remedy() {
        let spec = spec(COMPACT);
        let changed = [("cleanup.policy", "delete"), ("delete.retention.ms", "1"), ("partitions", "6")];
        let fault = judge(differences(&spec, Some(&kafka()), &found(&spec, &changed))).unwrap_err();
        let text = fault.to_string();
        for part in [
            "topic t: partitions is 6, needed is 3",
            "topic t: cleanup.policy is delete, needed is compact; run kafka-configs --bootstrap-server broker:9092 --alter \
             --entity-type topics --entity-name t --add-config cleanup.policy=compact",
            "topic t: delete.retention.ms is 1, needed is at least 86400000",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_log_of_our_own_has_no_replicas_to_compare() {
        let spec = spec(DELETE);
        let settings = settings_of(&spec, None).into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let found = TopicFound { partitions: 3, replicas: None, settings };
        assert_eq!(differences(&spec, None, &found), []);
    }
}
