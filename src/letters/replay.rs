//! Sends dead letters in again: judged first, in small transactions with their audit record, and at a pace of its own.

use std::{collections::BTreeMap, mem, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Ended, Filter, Letter, Line, Now, Run,
    scan::{Marks, Scan},
    short, tell,
};
use crate::{
    clock::Clock,
    event::{
        EventRef, ReasonCode,
        audit::{Action, Target},
        change::{self, Rules},
        dead_letter::{self, DeadLetter},
    },
    explain,
    log::{LogError, NewRecord, Partition, Record, TopicPartition, partition_of},
    resync::job::Pace,
};

/// Letters of one transaction, and their bytes.
const LETTERS_AT_ONCE: usize = 100;
const BYTES_AT_ONCE: usize = 1024 * 1024;
/// How often it is looked whether the pace allows more.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Which of the letters that are meant are sent in.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) filter: Filter,
    pub(super) dry_run: bool,
    /// Also those that nothing but their position orders.
    pub(super) undated: bool,
    /// Also those that were sent in before.
    pub(super) again: bool,
}

impl Choice {
    fn takes(&self, letter: &Letter) -> bool {
        let fits = match letter.now {
            Now::Readable => true,
            Now::Undated => self.undated,
            Now::Fails { .. } | Now::LeftOut | Now::NoInput => false,
        };
        fits && (self.again || !letter.replayed)
    }
}

/// Says of a letter what would become of it here and now.
pub(super) struct Judge {
    /// Partition counts of the input topics.
    inputs: BTreeMap<Arc<str>, u32>,
    rules: Arc<Rules>,
    clock: Clock,
}

impl Judge {
    pub(super) async fn of(parts: &explain::Parts) -> Result<Self, LogError> {
        let mut inputs = BTreeMap::new();
        for topic in &parts.inputs {
            inputs.extend(parts.log.partitions(topic).await?.map(|count| (topic.clone(), count)));
        }
        Ok(Self { inputs, rules: parts.rules.clone(), clock: parts.clock })
    }

    /// The event as it would be written, if its topic is an input.
    fn record(&self, letter: &DeadLetter) -> Option<NewRecord> {
        let count = *self.inputs.get(&letter.topic)?;
        // Beside the changes of the same contact that it was among, whoever had chosen its partition.
        let partition: Partition = match &letter.key {
            _ if letter.partition < count => letter.partition,
            Some(key) => partition_of(key, count),
            None => letter.partition % count.max(1),
        };
        Some(dead_letter::replay(letter, TopicPartition::new(letter.topic.clone(), partition)))
    }

    /// What would become of it, and what can be read of the event's identity.
    pub(super) fn judge(&self, letter: &DeadLetter) -> (Now, EventRef) {
        let place = EventRef {
            source: None,
            id: None,
            subject: None,
            topic: letter.topic.clone(),
            partition: letter.partition,
            offset: letter.offset,
        };
        if letter.is_left_out() {
            return (Now::LeftOut, place);
        }
        let Some(NewRecord { to, key, value, headers }) = self.record(letter) else { return (Now::NoInput, place) };
        let now = self.clock.now();
        let record = Record { at: to, offset: letter.offset, timestamp: now, key, value, headers };
        match change::read(&record, &self.rules, now) {
            Ok(change) => {
                let is_undated = change.version.sequence.is_none() && change.version.time.is_none();
                (if is_undated { Now::Undated } else { Now::Readable }, change.event)
            }
            Err(fault) => {
                let (code, remedy) = (fault.code, fault.remedy());
                (Now::Fails { code, pointer: fault.pointer.as_deref().map(short), remedy: short(&remedy) }, fault.event)
            }
        }
    }
}

/// Letters that go together.
#[derive(Default)]
struct Together {
    records: Vec<NewRecord>,
    letters: Vec<Letter>,
    bytes: usize,
}

impl Run {
    pub(super) async fn replay(
        &mut self,
        mut scan: Scan,
        judge: &Judge,
        marks: &Marks,
        choice: &Choice,
    ) -> Result<(), Ended> {
        let per_second = self.desk.shown()?.parts().replays_per_second;
        let mut pace = Pace::new(per_second, Instant::now());
        let mut together = Together::default();
        while let Some((record, letter)) = self.next(&mut scan).await? {
            if !choice.filter.fits(&letter) {
                continue;
            }
            self.found += 1;
            let told = tell(&record, &letter, judge, marks);
            if !choice.takes(&told) {
                self.tell(Line::Letter(told)).await?;
                continue;
            }
            if choice.dry_run {
                self.replayed += 1;
                self.tell(Line::Letter(told)).await?;
                continue;
            }
            let record = judge.record(&letter).expect("what can be read has an input");
            together.bytes += told.key_bytes + told.value_bytes;
            together.records.push(record);
            together.letters.push(told);
            if together.records.len() >= LETTERS_AT_ONCE || together.bytes >= BYTES_AT_ONCE {
                self.send_in(mem::take(&mut together), &mut pace).await?;
            }
        }
        self.send_in(together, &mut pace).await
    }

    /// Writes these, as fast as the pace allows.
    async fn send_in(&mut self, together: Together, pace: &mut Pace) -> Result<(), Ended> {
        let Together { mut records, mut letters, .. } = together;
        while !records.is_empty() {
            if self.told.is_closed() {
                return Err(Ended::Unheard);
            }
            let room = pace.room(Instant::now(), records.len());
            if room == 0 {
                sleep(LOOK_EVERY).await;
                continue;
            }
            let now: Vec<NewRecord> = records.drain(..room).collect();
            let told: Vec<Letter> = letters.drain(..room).collect();
            let shown = self.desk.shown()?;
            let parts = shown.parts();
            let target =
                Target { letters: told.iter().map(|letter| letter.at.to_string()).collect(), ..Target::default() };
            parts.trail.act(&self.operator, Action::DeadLettersReplay, target, now).await?;
            for letter in &told {
                parts.metrics.dead_letter_replayed(letter.code);
            }
            drop(shown);
            pace.used(told.len());
            self.replayed += told.len() as u64;
            for letter in told {
                self.tell(Line::Replayed(letter)).await?;
            }
        }
        Ok(())
    }
}

impl DeadLetter {
    /// Whether only the place of the event is left of it.
    fn is_left_out(&self) -> bool {
        let is_large = matches!(self.code, ReasonCode::TooLarge | ReasonCode::RecordTooLarge);
        is_large && self.key.is_none() && self.value.is_none() && self.headers.is_empty()
    }
}
