//! The topics that the program creates.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    config::{Settings, TopicNames},
    log::{Cleanup, NewRecord, TopicPartition, TopicSpec},
    view::follower::BIRTH_KEY,
};

/// Our own topics, as the settings want them.
///
/// What says who somebody is or what a CRM holds is compacted, for good; what reports or lists work is deleted with age.
/// All topics but the resolver's are keyed (by contact, by key, or by what came in) and have one partition count, so that
/// whatever concerns a contact has the same partition number everywhere.
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
    specs
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
