//! Commits transactions under one transactional id.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    control::{Point, Verdict},
    group::LocalGeneration,
    shared::Shared,
    transactions::{End, Epoch, Identity},
};
use crate::log::{GroupOffsets, LogError, Transaction, WriteError, Writer};

pub(super) struct LocalWriter {
    shared: Arc<Shared>,
    id: String,
    epoch: Epoch,
}

impl LocalWriter {
    pub(super) async fn open(shared: Arc<Shared>, id: &str) -> Result<Self, LogError> {
        let epoch = shared.with(|state, _| state.open_id(id));
        shared.written().await?;
        Ok(Self { shared, id: id.to_owned(), epoch })
    }

    fn identity(&self) -> Identity<'_> {
        Identity { id: &self.id, epoch: self.epoch }
    }

    /// What a test wants to happen here; a hang is over when this returns.
    async fn verdict(&self, point: Point) -> Verdict {
        let faults = self.shared.with(|state, _| state.faults.clone());
        match faults.map_or(Verdict::Proceed, |faults| faults.judge(point, &self.id)) {
            Verdict::Hang(duration) => {
                tokio::time::sleep(duration).await;
                Verdict::Proceed
            }
            verdict => verdict,
        }
    }

    /// A point of `prepare`, where a verdict about commits can only mean an abort.
    async fn pass(&self, point: Point) -> Result<(), WriteError> {
        match self.verdict(point).await {
            Verdict::Proceed | Verdict::Hang(_) | Verdict::LateMarkers(_) => Ok(()),
            Verdict::Refused => Err(WriteError::Refused),
            Verdict::FailAborted | Verdict::UnknownButCommitted | Verdict::UnknownAndAborted => Err(injected_abort()),
        }
    }

    async fn prepare_steps(&self, transaction: Transaction) -> Result<(), WriteError> {
        let Transaction { records, offsets } = transaction;
        self.shared.with(|state, now| state.begin(self.identity(), now))?;
        self.pass(Point::BeforePrepare).await?;
        let timestamp = self.shared.timestamp();
        self.shared.with(|state, _| state.send(self.identity(), records, timestamp))?;
        if let Some(GroupOffsets { member, commits, relies_on }) = offsets {
            // The generation first, then ownership: if it were the other way round, a partition that is lost between
            // the two would be committed under the generation that took it away.
            let generation = member.generation();
            let owned = member.owned();
            if relies_on.iter().any(|(partition, number)| owned.get(partition) != Some(number)) {
                return Err(WriteError::Refused);
            }
            self.pass(Point::BeforeOffsets).await?;
            let generation = generation.0.downcast_ref::<LocalGeneration>().ok_or(WriteError::Refused)?;
            self.shared.with(|state, _| state.send_offsets(self.identity(), member.group(), generation, commits))?;
        }
        self.pass(Point::AfterPrepare).await
    }

    fn end(&self, end: End) -> Result<(), WriteError> {
        self.shared.with(|state, now| state.end(self.identity(), end, now))
    }

    /// Aborts because of `error`; being fenced meanwhile outweighs it.
    fn abort(&self, error: WriteError) -> WriteError {
        match self.end(End::Abort) {
            Err(WriteError::Fenced) => WriteError::Fenced,
            Ok(()) | Err(_) => error,
        }
    }
}

fn injected_abort() -> WriteError {
    WriteError::Aborted { reason: "a fault was injected".to_owned() }
}

fn injected_unknown() -> WriteError {
    WriteError::Unknown { reason: "a fault was injected".to_owned() }
}

#[async_trait]
impl Writer for LocalWriter {
    fn transactional_id(&self) -> &str {
        &self.id
    }

    async fn prepare(&mut self, transaction: Transaction) -> Result<(), WriteError> {
        self.prepare_steps(transaction).await.map_err(|error| self.abort(error))
    }

    async fn commit(&mut self) -> Result<(), WriteError> {
        match self.verdict(Point::BeforeCommit).await {
            Verdict::Proceed | Verdict::Hang(_) => self.end(End::Commit)?,
            Verdict::LateMarkers(delay) => self.end(End::CommitMarkedAfter(delay))?,
            Verdict::FailAborted => return Err(self.abort(injected_abort())),
            Verdict::Refused => return Err(self.abort(WriteError::Refused)),
            Verdict::UnknownButCommitted => {
                self.end(End::Commit)?;
                return Err(injected_unknown());
            }
            // Still open: the next writer of this id aborts it, or its time-out does.
            Verdict::UnknownAndAborted => return Err(injected_unknown()),
        }
        // Answered once a killed process could not forget it.
        self.shared.written().await.map_err(|error| WriteError::Unknown { reason: error.to_string() })?;
        match self.verdict(Point::AfterCommit).await {
            Verdict::Proceed | Verdict::Hang(_) | Verdict::LateMarkers(_) => Ok(()),
            // It is committed, whatever a script says; only the answer can be lost.
            Verdict::FailAborted | Verdict::Refused | Verdict::UnknownButCommitted | Verdict::UnknownAndAborted => {
                Err(injected_unknown())
            }
        }
    }
}
