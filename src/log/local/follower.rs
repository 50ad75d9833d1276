//! Reads chosen partitions up to their stable ends.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
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
    records_max: usize,
) -> Result<Result<Progress, LogError>, Option<Instant>> {
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
    let mut progress = Progress::default();
    let mut again: Option<Instant> = None;
    for place in 0..followed.len() {
        let place = (place + turn) % followed.len();
        let followed = &mut followed[place];
        if followed.lost || progress.records.len() >= records_max {
            continue;
        }
        let Some(partition) = state.topics.partition(&followed.at) else {
            continue;
        };
        let end = followed.end(partition.stable_end(), lag, now);
        let room = records_max - progress.records.len();
        let position = partition.read(followed.position, end, room, &mut progress.records);
        if position != followed.position {
            followed.position = position;
            progress.positions.push((followed.at.clone(), position));
        }
        again = again.into_iter().chain(followed.delayed.front().map(|(due, _)| *due)).min();
    }
    if progress.positions.is_empty() { Err(again) } else { Ok(Ok(progress)) }
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
        let seen = shared.wait(until, |state, now| look(state, now, followed, *turn, records_max.max(1))).await;
        seen.unwrap_or_else(|| Ok(Progress::default()))
    }
}
