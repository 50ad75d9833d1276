//! Links that the view does not have, read from the log.
//!
//! A worker follows the links of partitions that it owns. Asked about a contact of another's partition, it reads that
//! partition once from the beginning and keeps what concerns the one contact. That costs the whole partition, so it is
//! done for somebody who asked, within a deadline, and for few at a time; nothing of it reaches the view.
//!
//! Only committed records are seen, so an open transaction holds the reading back where it began. What was seen by the
//! deadline is told with how far it goes.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::{
    contact::{ContactId, format},
    crm::link::Link,
    log::{Log, LogError, Offset, TopicPartition},
};

/// Records of one poll, and how long it waits for them.
const RECORDS_MAX: usize = 1_000;
const POLL_WAIT: Duration = Duration::from_millis(200);

/// What a partition says of one contact.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) link: Option<Link>,
    /// Everything below was seen.
    pub(super) position: Option<Offset>,
    pub(super) end: Option<Offset>,
    /// Why it was not read, or not to the end.
    pub(super) problem: Option<String>,
}

impl Found {
    fn failed(reason: impl Into<String>) -> Self {
        Self { problem: Some(reason.into()), ..Self::default() }
    }

    fn is_done(&self) -> bool {
        self.problem.is_some() || self.position >= self.end
    }
}

/// Reads `places` from their beginnings to where they end now, all at once, and keeps the newest link of `contact`.
/// Whatever happens, each place has its answer when it is `deadline`.
pub(super) async fn read(
    log: &dyn Log,
    places: &[TopicPartition],
    contact: ContactId,
    deadline: Instant,
) -> BTreeMap<TopicPartition, Found> {
    let mut found = BTreeMap::new();
    if places.is_empty() {
        return found;
    }
    // What was found by then is kept here, outside of what is cut off.
    let late = match timeout_at(deadline, read_all(log, places, contact, &mut found)).await {
        Ok(Ok(())) => return found,
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => "the deadline passed before its end".to_owned(),
    };
    for place in places {
        let found = found.entry(place.clone()).or_insert_with(Found::default);
        if !found.is_done() || found.end.is_none() {
            found.problem = Some(late.clone());
        }
    }
    found
}

async fn read_all(
    log: &dyn Log,
    places: &[TopicPartition],
    contact: ContactId,
    found: &mut BTreeMap<TopicPartition, Found>,
) -> Result<(), LogError> {
    let mut follower = log.follower().await?;
    for place in places {
        let begun = async {
            let bounds = log.watermarks(place).await?;
            follower.assign(place.clone(), bounds.low).await?;
            Ok::<_, LogError>(bounds)
        };
        let begun = match begun.await {
            Ok(bounds) => Found { position: Some(bounds.low), end: Some(bounds.high), ..Found::default() },
            Err(error) => Found::failed(error.to_string()),
        };
        found.insert(place.clone(), begun);
    }
    let key = contact.key();
    while found.values().any(|found| !found.is_done()) {
        let progress = match follower.poll(RECORDS_MAX, POLL_WAIT).await {
            Ok(progress) => progress,
            Err(LogError::OutOfRange { at, offset }) => {
                let problem = LogError::OutOfRange { at: at.clone(), offset };
                found.insert(at, Found::failed(problem.to_string()));
                continue;
            }
            Err(error) => return Err(error),
        };
        for record in progress.records {
            let Some(found) = found.get_mut(&record.at) else { continue };
            if found.problem.is_some() || record.key.as_deref() != Some(key.as_bytes()) {
                continue;
            }
            match record.value.map(|value| format::decode(&value)).transpose() {
                Ok(link) => found.link = link,
                // Without the link before it, which it replaced.
                Err(error) => *found = Found::failed(error.to_string()),
            }
        }
        for (at, position) in progress.positions {
            if let Some(found) = found.get_mut(&at) {
                found.position = found.position.max(Some(position));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::{
        clock::Clock,
        contact::format::encode,
        log::{
            Cleanup, NewRecord, TopicSpec, Transaction,
            local::{self, LocalLog},
        },
    };

    const TOPIC: &str = "contact-links.priava";

    async fn log() -> LocalLog {
        let log = LocalLog::new(local::Settings::default(), Clock::System);
        let spec = TopicSpec {
            name: TOPIC.into(),
            partitions: 2,
            cleanup: Cleanup::Compact { tombstones: Duration::from_secs(3600) },
            message_bytes_max: 1 << 20,
        };
        log.ensure_topics(&[spec]).await.unwrap();
        log
    }

    fn contact(number: u128) -> ContactId {
        ContactId(Uuid::from_u128(number))
    }

    fn link(number: u128, answered: u64) -> Link {
        Link { answered, ..Link::new(contact(number)) }
    }

    fn record(partition: u32, link: &Link) -> NewRecord {
        NewRecord {
            to: TopicPartition::new(TOPIC, partition),
            key: Some(link.contact_id.key().into()),
            value: Some(encode(link)),
            headers: Vec::new(),
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_link_of_the_contact_is_found_in_each_partition() {
        let log = log().await;
        let noise: Vec<_> = (100..4_000).map(|number| record(0, &link(number, 9))).collect();
        log.append(vec![record(0, &link(7, 1)), record(1, &link(7, 5))]).await.unwrap();
        log.append(noise).await.unwrap();
        log.append(vec![record(0, &link(7, 2))]).await.unwrap();
        let places = [TopicPartition::new(TOPIC, 0), TopicPartition::new(TOPIC, 1)];
        let found = read(&log, &places, contact(7), soon()).await;
        let answered: Vec<_> = found.values().map(|found| found.link.as_ref().map(|link| link.answered)).collect();
        assert_eq!(answered, [Some(2), Some(5)]);
        for found in found.values() {
            assert_eq!((found.position, &found.problem), (found.end, &None));
        }
        let found = read(&log, &places[..1], contact(8), soon()).await;
        assert_eq!(found[&places[0]].link, None);
        assert_eq!(found[&places[0]].problem, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_committed_is_not_seen_and_the_deadline_says_how_far_it_came() {
        let log = log().await;
        log.append(vec![record(0, &link(7, 1))]).await.unwrap();
        let mut writer = log.writer("open").await.unwrap();
        let transaction = Transaction { records: vec![record(0, &link(7, 2))], offsets: None };
        writer.prepare(transaction).await.unwrap();
        let place = TopicPartition::new(TOPIC, 0);
        // Before the log itself ends what nobody commits.
        let deadline = Instant::now() + Duration::from_millis(500);
        let found = read(&log, std::slice::from_ref(&place), contact(7), deadline).await;
        let found = &found[&place];
        assert_eq!(found.link.as_ref().map(|link| link.answered), Some(1));
        assert_eq!((found.position, found.end), (Some(1), Some(2)));
        assert!(found.problem.as_ref().is_some_and(|problem| problem.contains("deadline")), "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_that_is_missing_or_unreadable_is_told_beside_the_others() {
        let log = log().await;
        let newer = serde_json::json!({"contact_id": contact(7), "answered": 3, "format": 99});
        let mut broken = record(1, &link(7, 1));
        broken.value = Some(newer.to_string().into());
        log.append(vec![record(0, &link(7, 1)), broken]).await.unwrap();
        let places = [TopicPartition::new(TOPIC, 0), TopicPartition::new(TOPIC, 1), TopicPartition::new("missing", 0)];
        let log: Arc<dyn Log> = Arc::new(log);
        let found = read(&*log, &places, contact(7), soon()).await;
        assert_eq!(found[&places[0]].link.as_ref().map(|link| link.answered), Some(1));
        assert!(found[&places[1]].problem.as_ref().is_some_and(|problem| problem.contains("layout 99")));
        assert!(found[&places[2]].problem.as_ref().is_some_and(|problem| problem.contains("missing")));
    }
}
