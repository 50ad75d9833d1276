//! The topics that the program creates.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    config::{LogKind, Settings, TopicNames},
    log::{Cleanup, NewRecord, TopicPartition, TopicSpec},
    view::follower::BIRTH_KEY,
};

/// The topics that the program creates, as the settings want them.
///
/// What says who somebody is or what a CRM holds is compacted, for good; what reports or lists work is deleted with age.
/// All topics but the resolver's are keyed (by contact, by key, or by what came in) and have one partition count, so that
/// whatever concerns a contact has the same partition number everywhere. Of a log of kind "local" the input topics are
/// among them: nobody else could create those.
pub fn topic_specs(settings: &Settings) -> Vec<TopicSpec> {
    let topics = &settings.topics;
    let names = TopicNames::new(&topics.prefix);
    let spec = |name: &Arc<str>, partitions, cleanup| TopicSpec {
        name: name.clone(),
        partitions,
        cleanup,
        message_bytes_max: topics.message_bytes_max,
    };
    let keyed = topics.partitions;
    let compact = Cleanup::Compact { tombstones: topics.tombstones_retention };
    let mut specs = vec![
        spec(&names.records, keyed, compact),
        spec(&names.keys, keyed, compact),
        spec(&names.versions, keyed, Cleanup::Delete { after: topics.versions_retention }),
        // Its single partition is the lease: whoever owns it decides who is who.
        spec(&names.resolver, 1, compact),
        spec(&names.outcomes, keyed, Cleanup::Delete { after: topics.outcomes_retention }),
        spec(&names.dead_letters, keyed, Cleanup::Delete { after: topics.dead_letters_retention }),
        spec(&names.identity_events, keyed, Cleanup::Delete { after: topics.identity_events_retention }),
    ];
    specs.extend(settings.crm.iter().map(|crm| spec(&names.links(&crm.name), keyed, compact)));
    specs.extend(input_specs(settings));
    specs
}

/// The input topics, where this program is to create them.
pub fn input_specs(settings: &Settings) -> Vec<TopicSpec> {
    let spec = |name: &Arc<str>| TopicSpec {
        name: name.clone(),
        partitions: settings.topics.partitions,
        cleanup: Cleanup::Delete { after: settings.log.local.input_retention },
        message_bytes_max: settings.topics.message_bytes_max,
    };
    match settings.log.kind {
        LogKind::Kafka => Vec::new(),
        LogKind::Local => settings.input.topics.iter().map(|topic| spec(&topic.name)).collect(),
    }
}

/// The records that each partition of a compacted topic begins with: an id that a topic made anew will not have.
pub(super) fn birth_records(specs: &[TopicSpec], created: &[Arc<str>]) -> Vec<NewRecord> {
    specs
        .iter()
        .filter(|spec| matches!(spec.cleanup, Cleanup::Compact { .. }) && created.contains(&spec.name))
        .flat_map(|spec| (0..spec.partitions).map(|partition| TopicPartition::new(spec.name.clone(), partition)))
        .map(|to| NewRecord {
            to,
            key: Some(BIRTH_KEY.into()),
            value: Some(Uuid::new_v4().to_string().into()),
            headers: Vec::new(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_topics_are_created_only_where_nobody_else_could() {
        let mut settings = Settings::reference();
        let input = settings.input.topics[0].name.clone();
        let found = |settings: &Settings| topic_specs(settings).into_iter().find(|spec| spec.name == input);
        assert!(found(&settings).is_none());
        settings.log.kind = LogKind::Local;
        let spec = found(&settings).unwrap();
        assert_eq!(spec.cleanup, Cleanup::Delete { after: settings.log.local.input_retention });
    }
}
