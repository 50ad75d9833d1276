//! The input of one term: every partition of every input topic, from the position last decided.
//!
//! Other teams own these topics. They may not exist yet, grow partitions, or delete what we have not read; the last is
//! said loudly, because it is loss, and then reading goes on with what is left: stopping would only lose more. No operator
//! is asked for his word, as for a topic of ours: nothing that we know rests on what is gone, and who knows what was lost
//! is whoever sent it.
//!
//! A topic that is gone is waited for, and read on from where it was left. One that was made anew ends before that place,
//! which shows, and is read from its beginning. Filled again beyond that place before anybody looked, it looks like the one
//! before, for it has no birth record: what lies below is not read. Whoever replaces a topic takes another name.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{Parts, RESOLVER, ResolverError, state::Position};
use crate::log::{Follower, LogError, Offset, Progress, Record, TopicPartition};

/// How often topics are asked for partitions that are new, and for their ends.
const LOOK_AROUND: Duration = Duration::from_secs(15);
/// How long one poll waits for input.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// Input of one transaction, in bytes. More would not be committed before the transaction times out, nor ever after,
/// because the next try would be as large.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Pause after the log was not available.
const UNAVAILABLE_PAUSE: Duration = Duration::from_millis(250);

/// Why input cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    #[error("the input cannot be read")]
    Log(#[from] LogError),
    #[error("the state of the resolver cannot be used")]
    State(#[from] ResolverError),
}

pub(super) struct Inputs {
    parts: Parts,
    follower: Box<dyn Follower>,
    /// Where reading stands, per partition: ahead of what is decided by the batches under way.
    read: BTreeMap<TopicPartition, Offset>,
    /// Where reading stood in partitions that are gone.
    left: BTreeMap<TopicPartition, Offset>,
    /// Polled, and not yet handed out.
    waiting: Progress,
    look_around_at: Instant,
    /// Topics that were said to be missing.
    missing: Vec<Arc<str>>,
}

impl Inputs {
    /// Assigns every partition there is. The view must have followed the resolver state to its end.
    pub(super) async fn open(parts: &Parts) -> Result<Self, InputError> {
        let mut inputs = Self {
            follower: parts.log.follower().await?,
            parts: parts.clone(),
            read: BTreeMap::new(),
            left: BTreeMap::new(),
            waiting: Progress::default(),
            look_around_at: Instant::now(),
            missing: Vec::new(),
        };
        inputs.look_around().await?;
        Ok(inputs)
    }

    /// Where reading stands, per partition.
    pub(super) fn positions(&self) -> impl Iterator<Item = (&TopicPartition, Offset)> {
        self.read.iter().map(|(at, offset)| (at, *offset))
    }

    /// The next of what came, after a short wait; often nothing.
    pub(super) async fn next(&mut self, records_max: usize) -> Result<Progress, InputError> {
        if !self.waiting.records.is_empty() {
            return Ok(first_part(&mut self.waiting, BATCH_BYTES_MAX));
        }
        if Instant::now() >= self.look_around_at {
            self.look_around().await.or_else(pass_if_transient)?;
        }
        match self.follower.poll(records_max, POLL_WAIT).await {
            Ok(progress) => {
                for (at, offset) in &progress.positions {
                    self.read.insert(at.clone(), *offset);
                }
                self.waiting = progress;
                self.report_age();
                Ok(first_part(&mut self.waiting, BATCH_BYTES_MAX))
            }
            Err(LogError::OutOfRange { at, offset }) => {
                self.go_on_where_there_is_something(at, offset).await?;
                Ok(Progress::default())
            }
            Err(LogError::UnknownTopic { topic }) => {
                self.forget(&topic).await?;
                Ok(Progress::default())
            }
            Err(failure) if failure.is_transient() => {
                warn!(error = %failure, "the input is not available; it will be tried again");
                tokio::time::sleep(UNAVAILABLE_PAUSE).await;
                Ok(Progress::default())
            }
            Err(failure) => Err(failure.into()),
        }
    }

    async fn go_on_where_there_is_something(&mut self, at: TopicPartition, offset: Offset) -> Result<(), InputError> {
        let low = self.parts.log.watermarks(&at).await?.low;
        // Below the position only if the topic was made anew; then how much is missing cannot be told, and it counts as one.
        let lost = low.saturating_sub(offset).max(1);
        error!(topic = %at.topic, partition = at.partition, position = offset, oldest = low, lost,
            "input was deleted before it was read; reading goes on with the oldest record there is");
        self.parts.metrics.input_lost(&at.topic, lost);
        self.follower.assign(at.clone(), low).await?;
        self.read.insert(at, low);
        Ok(())
    }

    /// Assigns partitions that are new, and measures the lag.
    async fn look_around(&mut self) -> Result<(), InputError> {
        self.look_around_at = Instant::now() + LOOK_AROUND;
        for topic in self.parts.inputs.clone() {
            let Some(partitions) = self.parts.log.partitions(&topic).await? else {
                self.forget(&topic).await?;
                if !self.missing.contains(&topic) {
                    warn!(%topic, "an input topic does not exist yet; it will be looked for again");
                    self.missing.push(topic);
                }
                continue;
            };
            self.missing.retain(|missing| *missing != topic);
            // Made anew, it may have fewer.
            for at in self.partitions_of(&topic).into_iter().filter(|at| at.partition >= partitions) {
                error!(%topic, partition = at.partition, "an input partition is gone; what was not read of it is lost");
                self.parts.metrics.input_lost(&topic, 1);
                self.stop_reading(&at).await?;
            }
            for partition in 0..partitions {
                let at = TopicPartition::new(Arc::clone(&topic), partition);
                if !self.read.contains_key(&at) {
                    self.assign(at).await?;
                }
            }
        }
        let mut lag = 0;
        for (at, offset) in &self.read {
            match self.parts.log.watermarks(at).await {
                Ok(watermarks) => lag += watermarks.high.saturating_sub(*offset),
                // It went just now, and will be missed the next time.
                Err(LogError::UnknownTopic { .. }) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        self.parts.metrics.lag(RESOLVER, lag);
        if lag == 0 {
            self.parts.metrics.oldest_input_age(Duration::ZERO);
        }
        Ok(())
    }

    /// How old the input is that is read now. Retention goes by the same timestamps, which are the publisher's: what
    /// nears it is about to be deleted unread.
    fn report_age(&self) {
        let Some(oldest) = self.waiting.records.iter().map(|record| record.timestamp).min() else { return };
        let age = Duration::try_from(self.parts.clock.now().duration_since(oldest)).unwrap_or_default();
        self.parts.metrics.oldest_input_age(age);
    }

    fn partitions_of(&self, topic: &str) -> Vec<TopicPartition> {
        self.read.keys().filter(|at| *at.topic == *topic).cloned().collect()
    }

    /// Stops reading a topic that is gone, until it is found again.
    async fn forget(&mut self, topic: &Arc<str>) -> Result<(), InputError> {
        let partitions = self.partitions_of(topic);
        if !partitions.is_empty() {
            error!(%topic, "an input topic is gone; unless it comes back, what was not read of it is lost");
            self.missing.push(Arc::clone(topic));
        }
        for at in partitions {
            self.stop_reading(&at).await?;
        }
        Ok(())
    }

    async fn stop_reading(&mut self, at: &TopicPartition) -> Result<(), InputError> {
        let position = self.read.remove(at);
        self.left.extend(position.map(|position| (at.clone(), position)));
        Ok(self.follower.unassign(at).await?)
    }

    async fn assign(&mut self, at: TopicPartition) -> Result<(), InputError> {
        let offset = match (self.left.remove(&at), self.parts.state::<Position>(&Position::key(&at))?) {
            // What was read and is not decided yet must not come twice.
            (Some(left), _) => left,
            (None, Some(position)) => position.offset,
            (None, None) => self.parts.log.watermarks(&at).await?.low,
        };
        info!(topic = %at.topic, partition = at.partition, offset, "reads input");
        self.follower.assign(at.clone(), offset).await?;
        self.read.insert(at, offset);
        Ok(())
    }
}

fn pass_if_transient(failure: InputError) -> Result<(), InputError> {
    match failure {
        InputError::Log(failure) if failure.is_transient() => {
            warn!(error = %failure, "the input topics could not be looked at; they will be again");
            Ok(())
        }
        failure => Err(failure),
    }
}

/// Takes from the front of `progress` about as many records as `bytes_max` allows, and never none of some.
fn first_part(progress: &mut Progress, bytes_max: usize) -> Progress {
    let mut bytes = 0;
    let fits = |record: &&Record| {
        let fits = bytes < bytes_max;
        bytes += record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len);
        fits
    };
    let count = progress.records.iter().take_while(fits).count();
    if count == progress.records.len() {
        // With the last records come the positions, which may be beyond them.
        return std::mem::take(progress);
    }
    let records: Vec<Record> = progress.records.drain(..count).collect();
    let reached: BTreeMap<_, _> = records.iter().map(|record| (record.at.clone(), record.offset + 1)).collect();
    Progress { records, positions: reached.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: u32, offset: Offset, bytes: usize) -> Record {
        Record {
            at: TopicPartition::new("input", partition),
            offset,
            timestamp: jiff::Timestamp::UNIX_EPOCH,
            key: None,
            value: Some(vec![b'x'; bytes].into()),
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_large_poll_is_handed_out_in_parts_that_end_at_their_own_positions() {
        let place = |partition, offset| (TopicPartition::new("input", partition), offset);
        let mut progress = Progress {
            records: vec![record(0, 4, 60), record(1, 7, 60), record(0, 5, 500), record(0, 9, 1)],
            positions: vec![place(0, 12), place(1, 8)],
        };
        let mut parts = Vec::new();
        while !progress.records.is_empty() {
            let part = first_part(&mut progress, 100);
            parts.push((part.records.len(), part.positions));
        }
        let expected =
            [(2, vec![place(0, 5), place(1, 8)]), (1, vec![place(0, 6)]), (1, vec![place(0, 12), place(1, 8)])];
        assert_eq!(parts, expected);
    }
}
