//! The topics that the settings need, what each is for, and their creation.

use std::sync::Arc;

use super::births;
use crate::{
    audit::PARTITIONS as AUDIT_PARTITIONS,
    config::{CrmSettings, LogKind, Settings, TopicNames},
    log::{Cleanup, Log, LogError, TopicPartition, TopicSpec},
};

/// A topic that the settings need, and why.
#[derive(Debug, Clone)]
pub struct PlannedTopic {
    pub spec: TopicSpec,
    /// What it is for, in one phrase.
    pub purpose: String,
}

/// The topics that the settings need, input topics last.
///
/// What says who somebody is or what a CRM holds is compacted, for good; what reports or lists work is deleted with age.
/// All topics of ours but the resolver's and the audit trail are keyed (by contact, by key, or by what came in) and have one
/// partition count, so that whatever concerns a contact has the same partition number everywhere. Of a log of kind "local" the input
/// topics are ours, too: nobody else could create those.
pub fn planned_topics(settings: &Settings) -> Vec<PlannedTopic> {
    let topics = &settings.topics;
    let names = TopicNames::new(&topics.prefix);
    let planned = |name: &Arc<str>, partitions, cleanup, purpose: &str| PlannedTopic {
        spec: TopicSpec { name: name.clone(), partitions, cleanup, message_bytes_max: topics.message_bytes_max },
        purpose: purpose.to_owned(),
    };
    let keyed = topics.partitions;
    let compact = Cleanup::Compact { tombstones: topics.tombstones_retention };
    let delete = |after| Cleanup::Delete { after };
    let mut all = vec![
        planned(&names.records, keyed, compact, "who our contacts are"),
        planned(&names.keys, keyed, compact, "who owns an identifier"),
        planned(&names.versions, keyed, delete(topics.versions_retention), "the replicators' work list"),
        // Its single partition is the lease: whoever owns it decides who is who.
        planned(&names.resolver, 1, compact, "lease, input positions, term, pauses"),
        planned(&names.outcomes, keyed, delete(topics.outcomes_retention), "what became of each change"),
        planned(&names.dead_letters, keyed, delete(topics.dead_letters_retention), "changes that cannot be read"),
        planned(
            &names.identity_events,
            keyed,
            delete(topics.identity_events_retention),
            "contacts that share a key and are not one",
        ),
        planned(&names.audit, AUDIT_PARTITIONS, delete(topics.audit_retention), "what operators did, and why"),
    ];
    let links = |crm: &CrmSettings| {
        planned(&names.links(&crm.name), keyed, compact, &format!("ids in {}, and what it last accepted", crm.name))
    };
    all.extend(settings.crm.iter().map(links));
    let input = delete(settings.log.local.input_retention);
    let cleanup = if settings.log.kind == LogKind::Local { input } else { Cleanup::Foreign };
    all.extend(settings.input.topics.iter().map(|topic| planned(&topic.name, keyed, cleanup, "changes from services")));
    all
}

/// The topics that the program creates, as the settings want them.
pub fn topic_specs(settings: &Settings) -> Vec<TopicSpec> {
    let ours = |spec: &TopicSpec| spec.cleanup != Cleanup::Foreign;
    planned_topics(settings).into_iter().map(|topic| topic.spec).filter(ours).collect()
}

/// The input topics, where this program is to create them.
pub fn input_specs(settings: &Settings) -> Vec<TopicSpec> {
    let is_input = |spec: &TopicSpec| settings.input.topics.iter().any(|topic| topic.name == spec.name);
    topic_specs(settings).into_iter().filter(is_input).collect()
}

/// What was missing of our topics, and was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Created {
    pub topics: Vec<Arc<str>>,
    /// Partitions that got their birth record, in whatever topic.
    pub births: Vec<TopicPartition>,
}

/// Creates our topics where they are missing, and compares the others with what is needed. Compacted ones begin with a
/// birth record in each partition, also one that its creator left without; of those for which `is_born` tells that they have
/// theirs, fewer are looked at.
///
/// # Errors
/// [`LogError::Topics`] with every difference that matters; then nothing is written to any.
pub async fn create_topics(
    log: &dyn Log,
    settings: &Settings,
    is_born: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Created, LogError> {
    let specs = topic_specs(settings);
    let topics = log.ensure_topics(&specs).await?;
    let births = births::ensure(log, &settings.instance, &specs, is_born).await?;
    Ok(Created { topics, births })
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
