//! A world with a witness: what most tests of a promise begin with, and how they wait.
//!
//! A test waits for a state and never for a duration, but for the simulated time in which a fault is to last.

use std::{sync::Arc, time::Duration};

use contact_replicator::{
    cli::demo::evidence::{Evidence, ReadError, Reader},
    config::TopicNames,
    log::NewRecord,
    sandbox::LoggedRequest,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{history, invariants, world::World};

/// Simulated time in which everything must settle once nothing goes wrong any more.
const SETTLED_WITHIN: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(100);

/// Runs a test on one thread with a paused clock.
pub(crate) fn play(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(test);
}

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) reader: Reader,
}

impl Scene {
    /// A world in which `workers` run.
    pub(crate) async fn with_workers(workers: usize) -> Self {
        Self::begin(World::new(1, workers).await).await
    }

    /// Starts all workers of `world`, and waits until there are topics to read.
    pub(crate) async fn begin(world: World) -> Self {
        let all: Vec<usize> = (0..world.workers()).collect();
        Self::begin_with(world, &all).await
    }

    /// Starts these workers, and waits until there are topics to read.
    pub(crate) async fn begin_with(mut world: World, workers: &[usize]) -> Self {
        for worker in workers {
            world.start(*worker);
        }
        let topics = TopicNames::new("");
        let inputs = inputs(&world);
        let reader = loop {
            tokio::time::sleep(PAUSE).await;
            if let Ok(reader) = Reader::open(&world.log, &inputs, &topics).await {
                break reader;
            }
        };
        Self { world, reader }
    }

    /// Reads again all that there still is, in partitions that are new also.
    pub(crate) async fn look_anew(&mut self) {
        let reader = Reader::open(&self.world.log, &inputs(&self.world), &TopicNames::new("")).await;
        self.reader = reader.expect("the topics are there");
    }

    /// Waits until every part of the worker does its work.
    #[track_caller]
    pub(crate) fn ready(&self, worker: usize) -> impl Future<Output = ()> {
        self.until("a ready worker", move |world| world.missing(worker).is_empty())
    }

    /// Waits until `holds`, which is called again and again as time passes.
    ///
    /// # Panics
    /// If that takes too long.
    #[track_caller]
    pub(crate) fn until(&self, what: &'static str, mut holds: impl FnMut(&World) -> bool) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let deadline = Instant::now() + SETTLED_WITHIN;
            while !holds(&self.world) {
                assert!(Instant::now() < deadline, "{caller}: {what} did not come about\n{}", self.world.state());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// As [`Scene::until`], looking often enough to act between two steps of a worker.
    #[track_caller]
    pub(crate) fn until_soon(
        &self,
        what: &'static str,
        mut holds: impl FnMut(&World) -> bool,
    ) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let deadline = Instant::now() + SETTLED_WITHIN;
            while !holds(&self.world) {
                assert!(Instant::now() < deadline, "{caller}: {what} did not come about\n{}", self.world.state());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// What can be read now: a transaction that stays open holds back what is behind it.
    pub(crate) async fn evidence_so_far(&mut self) -> Evidence {
        match self.reader.catch_up(&self.world.log, Duration::from_secs(1)).await {
            Ok(()) | Err(ReadError::Deadline { .. }) => {}
            Err(error) => panic!("the log cannot be read: {error}"),
        }
        invariants::with_crms(&self.world, self.reader.evidence().clone()).await
    }

    /// All that was seen so far, whether or not it has settled.
    pub(crate) async fn evidence(&mut self) -> Evidence {
        self.reader.catch_up(&self.world.log, PATIENCE).await.expect("the log can be read");
        invariants::with_crms(&self.world, self.reader.evidence().clone()).await
    }

    /// Waits until every input has its end and every entry its answer.
    ///
    /// # Panics
    /// If that takes too long.
    pub(crate) async fn settled(&mut self) -> Evidence {
        let deadline = Instant::now() + SETTLED_WITHIN;
        loop {
            tokio::time::sleep(PAUSE).await;
            let evidence = self.evidence().await;
            if invariants::is_settled(&evidence) {
                return evidence;
            }
            if Instant::now() > deadline {
                panic!("it did not settle: {:?}", invariants::all_hold(&self.world, &evidence).await);
            }
        }
    }

    /// Waits as [`Scene::settled`] does, then holds all promises against what is there. `repeats_allowed` is the number
    /// of calls that a killed worker may have made without being able to say so.
    ///
    /// # Panics
    /// If one is broken.
    pub(crate) async fn settled_as_promised(&mut self, repeats_allowed: usize) -> Evidence {
        let mut evidence = self.settled().await;
        evidence.repeats_allowed = repeats_allowed;
        if let Err(broken) = invariants::all_hold(&self.world, &evidence).await {
            panic!("{broken}");
        }
        evidence
    }
}

fn inputs(world: &World) -> Vec<Arc<str>> {
    world.settings.input.topics.iter().map(|topic| topic.name.clone()).collect()
}

/// A change of a person that every CRM takes.
pub(crate) fn change(subject: &str, sequence: u64, given_name: &str) -> NewRecord {
    history::event(
        "/shop",
        subject,
        &format!("{subject}-{sequence}"),
        "contact.updated",
        sequence,
        Some(person(subject, given_name)),
    )
}

/// A person whom nobody mistakes for another subject.
pub(crate) fn person(subject: &str, given_name: &str) -> Value {
    json!({
        "name": { "givenName": given_name, "familyName": format!("F{subject}") },
        "emails": [{ "value": format!("{subject}@example.com"), "type": "work", "primary": true }],
        "phoneNumbers": [{ "value": "+41446681800", "type": "mobile" }],
    })
}

/// The requests that stored something in the first CRM.
pub(crate) fn effects(world: &World) -> Vec<LoggedRequest> {
    world.sandbox.requests().into_iter().filter(|request| request.effect.is_some()).collect()
}
