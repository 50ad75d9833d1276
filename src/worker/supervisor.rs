//! Runs the parts of a worker side by side, and ends them together.
//!
//! A worker is whole or not at all: when one part cannot go on, the others are asked to stop, and the sentence of the
//! first failure is the worker's own. Shutdown is one path whoever asks for it (a signal, a failure): say stop once, let
//! each part finish or give back what it has, and after the deadline say which ones were cut off. What is cut off loses
//! nothing, since positions are committed only with results; the next worker finds more to do, that is all.

use std::{collections::BTreeMap, error::Error, future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
    time::{Instant, timeout_at},
};
use tracing::{error, info};

/// What a part ends with: whether it left nothing undone, or why it could not go on.
pub(super) type PartResult = Result<bool, Box<dyn Error + Send + Sync>>;

/// How a worker ended that was asked to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stopped {
    /// Parts that left work undone or were cut off at the deadline.
    pub undone: Vec<Arc<str>>,
}

/// A part that could not go on.
#[derive(Debug, thiserror::Error)]
#[error("the {part} ended the worker")]
pub struct PartError {
    pub part: Arc<str>,
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

#[derive(Debug, thiserror::Error)]
enum PartFault {
    #[error("it panicked, which is a fault of this program")]
    Panicked,
    #[error("it ended unasked, which is a fault of this program")]
    EndedUnasked,
}

/// The parts of one worker. Dropping it ends them all at once, as a crash would.
#[derive(Debug)]
pub(super) struct Supervisor {
    parts: JoinSet<PartResult>,
    names: BTreeMap<Id, Arc<str>>,
    watches: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Supervisor {
    pub(super) fn new() -> Self {
        Self { parts: JoinSet::new(), names: BTreeMap::new(), watches: JoinSet::new(), stop: watch::Sender::new(false) }
    }

    /// Turns true when the parts are to stop.
    pub(super) fn stop(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    pub(super) fn add(&mut self, name: impl Into<Arc<str>>, part: impl Future<Output = PartResult> + Send + 'static) {
        let id = self.parts.spawn(part).id();
        self.names.insert(id, name.into());
    }

    /// Runs something as long as the worker does. What it leaves when it is cut off, nobody misses.
    pub(super) fn beside(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.watches.spawn(work);
    }

    /// Tells each new status of a part, as long as the worker runs.
    pub(super) fn watch<T: Clone + Send + Sync + 'static>(
        &mut self,
        mut status: watch::Receiver<T>,
        tell: impl Fn(T) + Send + 'static,
    ) {
        self.watches.spawn(async move {
            loop {
                let current = status.borrow_and_update().clone();
                tell(current);
                if status.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// Runs until `asked` ends or a part does, then stops all parts within `deadline`.
    ///
    /// # Errors
    /// The first part that could not go on.
    pub(super) async fn run(
        mut self,
        asked: impl Future<Output = ()>,
        deadline: Duration,
    ) -> Result<Stopped, PartError> {
        let mut stopped = Stopped::default();
        let mut failed = None;
        tokio::select! {
            () = asked => info!("the worker stops"),
            Some(ended) = self.parts.join_next_with_id() => {
                let (part, result) = self.named(ended);
                let source = match result {
                    Ok(_) => Box::new(PartFault::EndedUnasked),
                    Err(source) => source,
                };
                error!(%part, error = %source, "the worker stops, since a part of it cannot go on");
                failed = Some(PartError { part, source });
            }
        }
        self.stop.send_replace(true);
        let deadline = Instant::now() + deadline;
        while let Ok(Some(ended)) = timeout_at(deadline, self.parts.join_next_with_id()).await {
            match self.named(ended) {
                (_, Ok(true)) => {}
                (part, Ok(false)) => stopped.undone.push(part),
                (part, Err(source)) => {
                    error!(%part, error = %source, "a part failed while the worker stopped");
                    failed.get_or_insert(PartError { part, source });
                }
            }
        }
        stopped.undone.extend(std::mem::take(&mut self.names).into_values());
        self.parts.shutdown().await;
        match failed {
            None => Ok(stopped),
            Some(failure) => Err(failure),
        }
    }

    fn named(&mut self, ended: Result<(Id, PartResult), JoinError>) -> (Arc<str>, PartResult) {
        let (id, result) = match ended {
            Ok(ended) => ended,
            Err(panicked) => (panicked.id(), Err(PartFault::Panicked.into())),
        };
        (self.names.remove(&id).expect("every part has a name"), result)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// A part that ends so many seconds after it was asked to.
    async fn part(mut stop: watch::Receiver<bool>, seconds: u64, result: PartResult) -> PartResult {
        stop.wait_for(|stop| *stop).await.expect("the supervisor outlives its parts");
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        result
    }

    fn reason(error: &PartError) -> (String, String) {
        (error.to_string(), error.source.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn parts_that_end_in_time_leave_nothing_undone() {
        let mut supervisor = Supervisor::new();
        supervisor.add("one", part(supervisor.stop(), 1, Ok(true)));
        supervisor.add("other", part(supervisor.stop(), 9, Ok(true)));
        assert_eq!(supervisor.run(ready(()), DEADLINE).await.unwrap(), Stopped::default());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_undone_or_cut_off_is_named() {
        let mut supervisor = Supervisor::new();
        supervisor.add("drained", part(supervisor.stop(), 1, Ok(true)));
        supervisor.add("gave up", part(supervisor.stop(), 1, Ok(false)));
        supervisor.add("slow", part(supervisor.stop(), 11, Ok(true)));
        let begun = Instant::now();
        let stopped = supervisor.run(ready(()), DEADLINE).await.unwrap();
        assert_eq!(stopped.undone, ["gave up".into(), "slow".into()]);
        assert_eq!(begun.elapsed(), DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_fails_stops_the_others_and_its_sentence_stands() {
        let mut supervisor = Supervisor::new();
        supervisor.add("one", part(supervisor.stop(), 1, Err("too late to matter".into())));
        supervisor.add("other", ready(Err("the disk is full".into())));
        let error = supervisor.run(pending(), DEADLINE).await.unwrap_err();
        assert_eq!(reason(&error), ("the other ended the worker".into(), "the disk is full".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_panics_or_ends_unasked_is_a_failure() {
        let mut supervisor = Supervisor::new();
        supervisor.add("one", async { panic!("a bug") });
        let error = supervisor.run(pending(), DEADLINE).await.unwrap_err();
        assert_eq!(reason(&error).1, "it panicked, which is a fault of this program");

        let mut supervisor = Supervisor::new();
        supervisor.add("one", ready(Ok(true)));
        let error = supervisor.run(pending(), DEADLINE).await.unwrap_err();
        assert_eq!(reason(&error).1, "it ended unasked, which is a fault of this program");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_while_stopping_is_told() {
        let mut supervisor = Supervisor::new();
        supervisor.add("one", part(supervisor.stop(), 1, Err("a commit stayed unknown".into())));
        let error = supervisor.run(ready(()), DEADLINE).await.unwrap_err();
        assert_eq!(reason(&error).1, "a commit stayed unknown");
    }
}
