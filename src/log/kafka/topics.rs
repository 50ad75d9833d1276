//! Creates our topics, and describes those that exist.
//!
//! Nothing that exists is ever altered; [`comparison`](crate::log::comparison) says why, and what is told instead.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    admin::{
        AdminClient, AdminOptions, ConfigResource, ConfigResourceResult, NewTopic, ResourceSpecifier, TopicReplication,
    },
    error::RDKafkaErrorCode,
};
use tokio::time::Instant;

use super::{
    client::{Connection, Context, Offloaded, Task, creation_error, error_of_code, log_error},
    inquiry::{Inquiry, Shape},
};
use crate::log::{
    Cleanup, LogError, TopicFound, TopicSpec,
    comparison::{differences, judge, settings_of},
};

const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// How long a created topic may take to be known to the broker that we ask, and once more to any other.
const KNOWN_WITHIN: Duration = Duration::from_secs(15);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

/// Creates what is missing and compares the rest; returns the names of those created.
pub(super) async fn ensure(
    connection: &Connection,
    inquiry: &Inquiry,
    topics: &[TopicSpec],
) -> Result<Vec<Arc<str>>, LogError> {
    let ours: Vec<&TopicSpec> = topics.iter().filter(|spec| spec.cleanup != Cleanup::Foreign).collect();
    let admin = administration(connection)?;
    let mut created = Vec::new();
    for spec in &ours {
        if inquiry.partitions(&spec.name).await?.is_none() && create(connection, &admin, spec).await? {
            created.push(Arc::clone(&spec.name));
        }
    }
    let mut shapes = Vec::with_capacity(ours.len());
    for spec in &ours {
        shapes.push((Arc::clone(&spec.name), known_shape(inquiry, spec).await?));
    }
    let found = settings(&admin, shapes).await?;
    let compared = |(spec, found): (&&TopicSpec, TopicFound)| differences(spec, Some(&connection.settings), &found);
    judge(ours.iter().zip(found).flat_map(compared)).map_err(LogError::Topics)?;
    Ok(created)
}

/// Each topic as it is found; `None` for one that does not exist.
pub(super) async fn describe(
    connection: &Connection,
    inquiry: &Inquiry,
    topics: &[Arc<str>],
) -> Result<Vec<Option<TopicFound>>, LogError> {
    let mut shapes = Vec::with_capacity(topics.len());
    for topic in topics {
        shapes.push(inquiry.shape(topic).await?);
    }
    let existing = topics.iter().zip(&shapes).filter_map(|(topic, shape)| Some((Arc::clone(topic), shape.clone()?)));
    let admin = administration(connection)?;
    let mut found = settings(&admin, existing.collect()).await?.into_iter();
    Ok(shapes.into_iter().map(|shape| shape.and_then(|_exists| found.next())).collect())
}

/// Made for one call: nothing serves the log lines of a client for administration, so they would pile up.
fn administration(connection: &Connection) -> Result<Offloaded<AdminClient<Context>>, LogError> {
    let admin: AdminClient<Context> = connection
        .administration()
        .create_with_context(Context::new("administration"))
        .map_err(|error| creation_error(&error))?;
    Ok(Offloaded::new(admin))
}

/// Whether we were the one to create it: another worker may be faster.
async fn create(connection: &Connection, admin: &AdminClient<Context>, spec: &TopicSpec) -> Result<bool, LogError> {
    const TASK: Task = Task::new("creating a topic", "CREATE");
    let settings = settings_of(spec, Some(&connection.settings));
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

/// The shape of a topic that exists or was created just now, by us or by another worker.
async fn known_shape(inquiry: &Inquiry, spec: &TopicSpec) -> Result<Shape, LogError> {
    let deadline = Instant::now() + KNOWN_WITHIN;
    loop {
        if let Some(shape) = inquiry.shape(&spec.name).await? {
            return Ok(shape);
        }
        if Instant::now() >= deadline {
            return Err(LogError::Unavailable {
                doing: "waiting for a created topic",
                reason: format!("the broker does not know topic {} yet", spec.name),
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

const READING: Task = Task::new("reading the settings of a topic", "DESCRIBE_CONFIGS");

/// Adds to each topic's shape its settings, in the same order.
///
/// The client library passes over the error of a single topic, which is there with nothing in it. That it exists has been
/// seen; but the broker that is asked for its settings is any, and of several one may not have heard of a new topic yet. So
/// only what stays empty is what we may not read.
async fn settings(admin: &AdminClient<Context>, topics: Vec<(Arc<str>, Shape)>) -> Result<Vec<TopicFound>, LogError> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<_> = topics.iter().map(|(topic, _)| ResourceSpecifier::Topic(topic)).collect();
    heard_of(|| async {
        let answers = admin.describe_configs(&asked, &options()).await;
        read_settings(&topics, answers.map_err(|error| log_error(READING, "our topics", &error))?)
    })
    .await
}

/// Asks again what may not be read, until it may or has long been known to all brokers.
async fn heard_of<T, A: Future<Output = Result<T, LogError>>>(ask: impl Fn() -> A) -> Result<T, LogError> {
    let deadline = Instant::now() + KNOWN_WITHIN;
    loop {
        let answer = ask().await;
        if !matches!(answer, Err(LogError::Unauthorized { .. })) || Instant::now() >= deadline {
            return answer;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn read_settings(
    topics: &[(Arc<str>, Shape)],
    answers: Vec<ConfigResourceResult>,
) -> Result<Vec<TopicFound>, LogError> {
    if answers.len() != topics.len() {
        return Err(error_of_code(READING, "our topics", RDKafkaErrorCode::Fail));
    }
    let mut found = Vec::with_capacity(topics.len());
    for ((topic, shape), answer) in topics.iter().zip(answers) {
        let resource = answer.map_err(|code| error_of_code(READING, &format!("topic {topic}"), code))?;
        if resource.entries.is_empty() {
            return Err(error_of_code(READING, &format!("topic {topic}"), RDKafkaErrorCode::TopicAuthorizationFailed));
        }
        found.push(described(shape, resource));
    }
    Ok(found)
}

fn described(shape: &Shape, resource: ConfigResource) -> TopicFound {
    let settings = resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect();
    TopicFound { partitions: shape.partitions, replicas: Some(shape.replicas_min), settings }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn refused() -> LogError {
        error_of_code(READING, "topic contact-keys", RDKafkaErrorCode::TopicAuthorizationFailed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_one_broker_has_not_heard_of_yet_is_asked_for_again() {
        let times = Cell::new(0);
        let ask = || async {
            times.set(times.get() + 1);
            if times.get() < 3 { Err(refused()) } else { Ok(times.get()) }
        };
        assert_eq!(heard_of(ask).await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_empty_may_not_be_read() {
        let begun = Instant::now();
        let refused = heard_of(|| async { Err::<(), _>(refused()) }).await.unwrap_err();
        assert!(matches!(refused, LogError::Unauthorized { .. }), "{refused}");
        assert_eq!(begun.elapsed(), KNOWN_WITHIN);
    }

    #[tokio::test(start_paused = true)]
    async fn no_other_error_is_asked_about_again() {
        let begun = Instant::now();
        let failed = || error_of_code(READING, "our topics", RDKafkaErrorCode::Fail);
        assert!(heard_of(|| async { Err::<(), _>(failed()) }).await.is_err());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
