//! Reads chosen partitions up to their stable ends.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    memory::{Read, Wanted},
    no_such_topic,
    shared::{Shared, State},
};
use crate::log::{Follower, LogError, Offset, Progress, TopicPartition};

pub(super) struct LocalFollower {
    shared: Arc<Shared>,
    followed: Vec<Followed>,
    /// Where the next poll begins, so that one busy partition does not starve the rest.
    turn: usize,
}

struct Followed {
    at: TopicPartition,
    position: Offset,
    /// Its position does not exist, which was said: silent until it is assigned anew.
    lost: bool,
    /// Stable ends that were seen, and when they may be read up to; empty without lag.
    delayed: VecDeque<(Instant, Offset)>,
    readable: Offset,
}

impl LocalFollower {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, followed: Vec::new(), turn: 0 }
    }
}

impl Followed {
    /// How far may be read at `now`, given the stable end and the lag of followers.
    fn end(&mut self, stable_end: Offset, lag: Duration, now: Instant) -> Offset {
        if lag.is_zero() {
            self.delayed.clear();
            return stable_end;
        }
        if self.delayed.back().map_or(self.readable, |(_, end)| *end) < stable_end {
            self.delayed.push_back((now + lag, stable_end));
        }
        while let Some((due, end)) = self.delayed.front().copied()
            && due <= now
        {
            self.readable = end;
            self.delayed.pop_front();
        }
        self.readable
    }
}

/// What there is to read now, or when there may be more.
fn look(
    state: &mut State,
    now: Instant,
    followed: &mut [Followed],
    turn: usize,
) -> Result<Result<Vec<Wanted>, LogError>, Option<Instant>> {
    if let Some(error) = state.failure() {
        return Ok(Err(error));
    }
    // Before any record is in hand, which the error would lose.
    for followed in followed.iter_mut().filter(|followed| !followed.lost) {
        let error = match state.topics.partition(&followed.at) {
            Some(partition) if partition.contains(followed.position) => continue,
            Some(_) => LogError::OutOfRange { at: followed.at.clone(), offset: followed.position },
            None => no_such_topic(&followed.at),
        };
        followed.lost = true;
        return Ok(Err(error));
    }
    let lag = state.follower_lag;
    let mut wanted = Vec::new();
    let mut again: Option<Instant> = None;
    for place in 0..followed.len() {
        let place = (place + turn) % followed.len();
        let followed = &mut followed[place];
        if followed.lost {
            continue;
        }
        let Some(partition) = state.topics.partition(&followed.at) else {
            continue;
        };
        let end = followed.end(partition.stable_end(), lag, now);
        wanted.extend(partition.wanted(followed.position, end));
        again = again.into_iter().chain(followed.delayed.front().map(|(due, _)| *due)).min();
    }
    if wanted.is_empty() { Err(again) } else { Ok(Ok(wanted)) }
}

#[async_trait]
impl Follower for LocalFollower {
    async fn assign(&mut self, at: TopicPartition, offset: Offset) -> Result<(), LogError> {
        self.unassign(&at).await?;
        self.followed.push(Followed { at, position: offset, lost: false, delayed: VecDeque::new(), readable: 0 });
        Ok(())
    }

    async fn unassign(&mut self, at: &TopicPartition) -> Result<(), LogError> {
        self.followed.retain(|followed| followed.at != *at);
        Ok(())
    }

    async fn poll(&mut self, records_max: usize, wait: Duration) -> Result<Progress, LogError> {
        let Self { shared, followed, turn } = self;
        let until = Instant::now().checked_add(wait);
        *turn = turn.wrapping_add(1);
        let Some(wanted) = shared.wait(until, |state, now| look(state, now, followed, *turn)).await.transpose()? else {
            return Ok(Progress::default());
        };
        let read = shared.read(wanted, records_max.max(1)).await?;
        // Positions move only here, with the records in hand: a poll that is given up read nothing.
        let mut progress = Progress::default();
        for (wanted, Read { records, position }) in read {
            if let Some(followed) = followed.iter_mut().find(|followed| followed.at == wanted.at) {
                followed.position = position;
            }
            progress.records.extend(records);
            progress.positions.push((wanted.at, position));
        }
        Ok(progress)
    }
}
