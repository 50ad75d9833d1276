//! What a cluster that authorises must permit a worker.
//!
//! The list is complete and has nothing to spare: with all of it a worker does all it can, and without any one of it some
//! part says which one it misses. What another permission implies is left out (`Read` and `Write` imply `Describe`), and
//! so is what concerns other principals: the services that publish, the readers of outcomes.
//!
//! A worker fences the writer of a predecessor, whoever that was, so what it may write with is all transactional ids of its
//! CRMs' replicators, by their prefix.

use std::{fmt, sync::Arc};

use crate::{
    audit,
    config::{Settings, TopicNames},
    log::Cleanup,
    replicator, resolver,
    worker::{births, topic_specs},
};

/// What may be done, in the words of Kafka's own tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    Read,
    Write,
    Create,
    DescribeConfigs,
}

impl Operation {
    /// As `kafka-acls --operation` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Create => "Create",
            Self::DescribeConfigs => "DescribeConfigs",
        }
    }
}

/// What it is done to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    Topic(Arc<str>),
    Group(Arc<str>),
    TransactionalId(Arc<str>),
    /// All transactional ids that begin so.
    TransactionalIds {
        prefix: Arc<str>,
    },
}

/// One permission. Displays as the arguments of `kafka-acls --add --allow-principal …` that grant it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Permission {
    pub operation: Operation,
    pub resource: Resource,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--operation {} ", self.operation.name())?;
        match &self.resource {
            Resource::Topic(name) => write!(f, "--topic {name}"),
            Resource::Group(name) => write!(f, "--group {name}"),
            Resource::TransactionalId(id) => write!(f, "--transactional-id {id}"),
            Resource::TransactionalIds { prefix } => {
                write!(f, "--transactional-id {prefix} --resource-pattern-type prefixed")
            }
        }
    }
}

/// All that a worker of this installation must be permitted, each once, in a stable order.
///
/// `Create` is of use only as long as a topic is missing; whoever creates our topics by other means may leave it out.
pub fn permissions(settings: &Settings) -> Vec<Permission> {
    let names = TopicNames::new(&settings.topics.prefix);
    let mut permissions = Vec::new();
    let mut permit = |operations: &[Operation], resource: Resource| {
        permissions.extend(
            operations.iter().map(|operation| Permission { operation: *operation, resource: resource.clone() }),
        );
    };
    for topic in &settings.input.topics {
        permit(&[Operation::Read], Resource::Topic(topic.name.clone()));
        // What is accepted over HTTP, and dead letters that are sent in again.
        permit(&[Operation::Write], Resource::Topic(topic.name.clone()));
    }
    let inputs: Vec<&Arc<str>> = settings.input.topics.iter().map(|topic| &topic.name).collect();
    for spec in topic_specs(settings).into_iter().filter(|spec| !inputs.contains(&&spec.name)) {
        // What is compacted is followed, the work list is read by its groups, dead letters and which of them were sent in
        // again are told to operators, and what else reports is for others.
        let is_told = [&names.versions, &names.dead_letters, &names.audit].contains(&&spec.name);
        let is_read = matches!(spec.cleanup, Cleanup::Compact { .. }) || is_told;
        if is_read {
            permit(&[Operation::Read], Resource::Topic(spec.name.clone()));
        }
        permit(&[Operation::Write, Operation::Create, Operation::DescribeConfigs], Resource::Topic(spec.name));
    }
    let resolver: Arc<str> = resolver::group(&settings.instance).into();
    permit(&[Operation::Read], Resource::Group(resolver.clone()));
    permit(&[Operation::Write], Resource::TransactionalId(resolver));
    permit(&[Operation::Write], Resource::TransactionalId(births::writer_id(&settings.instance).into()));
    // What operators ask for is written under the id of the worker that is asked.
    permit(&[Operation::Write], Resource::TransactionalIds { prefix: audit::writer_prefix(&settings.instance).into() });
    for crm in &settings.crm {
        let group = replicator::group(&settings.instance, &crm.name);
        permit(&[Operation::Read], Resource::Group(group.as_str().into()));
        permit(&[Operation::Write], Resource::TransactionalIds { prefix: format!("{group}-").into() });
    }
    permissions
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn listed(settings: &Settings) -> Vec<String> {
        permissions(settings).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_permission_stands_once_and_reads_as_arguments() {
        let mut settings = Settings::reference();
        settings.instance = "contacts".into();
        settings.topics.prefix = "crm.".to_owned();
        let listed = listed(&settings);
        assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len());
        let crm = &settings.crm[0].name;
        for expected in [
            "--operation Read --topic contact-changes".to_owned(),
            "--operation Read --topic crm.contact-versions".to_owned(),
            "--operation Write --topic crm.contact-outcomes".to_owned(),
            "--operation Create --topic crm.contact-dead-letters".to_owned(),
            format!("--operation DescribeConfigs --topic crm.contact-links.{crm}"),
            "--operation Read --group contacts-resolver".to_owned(),
            "--operation Write --transactional-id contacts-resolver".to_owned(),
            "--operation Write --transactional-id contacts-topics".to_owned(),
            "--operation Write --topic crm.contact-audit".to_owned(),
            "--operation Write --transactional-id contacts-operator- --resource-pattern-type prefixed".to_owned(),
            format!("--operation Read --group contacts-{crm}"),
            format!("--operation Write --transactional-id contacts-{crm}- --resource-pattern-type prefixed"),
        ] {
            assert!(listed.contains(&expected), "{expected} is not in {listed:#?}");
        }
        assert!(!listed.contains(&"--operation Read --topic crm.contact-outcomes".to_owned()));
    }

    #[test]
    fn dead_letters_are_read_and_written_to_input_topics_again() {
        let listed = listed(&Settings::reference());
        for (operation, topic) in
            [("Write", "contact-changes"), ("Read", "contact-dead-letters"), ("Read", "contact-audit")]
        {
            assert!(listed.contains(&format!("--operation {operation} --topic {topic}")), "{topic}");
        }
    }
}
