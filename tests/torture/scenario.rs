//! What is done to an installation under load: faults by a script, or one thing alone that must go smoothly.

use std::{str::FromStr, sync::Arc, time::Duration};

use contact_replicator::cli::demo::{checks::Checked, evidence::Evidence};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    deeds,
    history::{History, What},
    recovery,
    script::Script,
    settings::SESSION_TIMEOUT,
    world::{REQUEST_DEADLINE, World},
};

/// How long workers are left alone between two restarts.
const PAUSE: Duration = Duration::from_secs(3);
/// How long they are left alone before one goes, so that it is seen what is whose.
const CALM: Duration = Duration::from_secs(6);
/// How long one stays away: longer than anybody may take to take over.
const AWAY: Duration = SESSION_TIMEOUT.saturating_add(REQUEST_DEADLINE).saturating_add(Duration::from_secs(7));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Every kind of fault, by the script.
    Faults,
    /// One worker is joined by another.
    SecondWorker,
    /// Each worker is stopped and started again in turn.
    RollingRestart,
    /// Workers stop and die, one at a time and far apart, so that nothing disturbs how long others take to take over.
    Recovery,
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "faults" => Ok(Self::Faults),
            "second-worker" => Ok(Self::SecondWorker),
            "rolling-restart" => Ok(Self::RollingRestart),
            "recovery" => Ok(Self::Recovery),
            _ => Err("there are faults, second-worker, rolling-restart and recovery".to_owned()),
        }
    }
}

impl Scenario {
    /// How many workers there are in the end, if so many were asked for.
    pub(crate) fn workers(self, asked: usize) -> usize {
        if self == Self::SecondWorker { 2 } else { asked }
    }

    /// How many of them are there from the beginning.
    pub(crate) fn workers_at_first(self, workers: usize) -> usize {
        if self == Self::SecondWorker { 1 } else { workers }
    }

    /// Does it, and returns when it is done. The load began at `begun`.
    pub(crate) async fn carry_out(self, world: &World, script: &Script, begun: Instant, lasts: Duration) {
        match self {
            Self::Faults => deeds::carry_out(world, script, begun).await,
            Self::SecondWorker => {
                tokio::time::sleep(lasts / 2).await;
                let seat = &world.seats[1];
                world.start(seat, &mut *seat.running.lock().await);
                world.ready(seat).await;
            }
            Self::RollingRestart => {
                for seat in &world.seats[..world.shape.workers] {
                    tokio::time::sleep(PAUSE).await;
                    let mut running = seat.running.lock().await;
                    world.stop(seat, &mut running).await;
                    world.start(seat, &mut running);
                    drop(running);
                    world.ready(seat).await;
                }
            }
            Self::Recovery => recover(world, begun + lasts).await,
        }
    }

    /// What it promises beside that.
    pub(crate) fn checks(self, evidence: &Evidence, history: &History, partitions: u32) -> Vec<Checked> {
        if self != Self::SecondWorker {
            return Vec::new();
        }
        let joined = history.acts.iter().filter(|act| matches!(act.what, What::Started { .. })).nth(1);
        let joined = joined.map_or(Timestamp::MAX, |act| act.until);
        vec![shares_are_even(evidence, history, joined, partitions)]
    }
}

/// Who goes, and how.
#[derive(Debug, Clone, Copy)]
enum Going {
    ResolverStops,
    ResolverDies,
    AnotherDies,
}

/// Each way of going once, and again until the time is over.
async fn recover(world: &World, ends: Instant) {
    let ways = [Going::ResolverStops, Going::ResolverDies, Going::AnotherDies];
    for (round, going) in ways.into_iter().cycle().enumerate() {
        if round >= ways.len() && Instant::now() >= ends {
            return;
        }
        tokio::time::sleep(CALM).await;
        let resolver = world.resolver().await.unwrap_or_default();
        let goes = match going {
            Going::ResolverStops | Going::ResolverDies => resolver,
            Going::AnotherDies => (resolver + 1) % world.shape.workers,
        };
        let seat = &world.seats[goes];
        let mut running = seat.running.lock().await;
        match going {
            Going::ResolverStops => world.stop(seat, &mut running).await,
            Going::ResolverDies | Going::AnotherDies => world.kill(seat, &mut running).await,
        }
        tokio::time::sleep(AWAY).await;
        world.start(seat, &mut running);
        drop(running);
        world.ready(seat).await;
    }
}

/// Two workers have half of each CRM's partitions each, give or take one.
fn shares_are_even(evidence: &Evidence, history: &History, from: Timestamp, partitions: u32) -> Checked {
    let mut told = Vec::new();
    let mut ok = !evidence.crms.is_empty();
    for crm in &evidence.crms {
        let shares = recovery::shares(crm, history, from, partitions);
        let half = partitions as usize / 2;
        ok &= shares.len() == 2 && shares.values().all(|share| share.abs_diff(half) <= 1);
        let of_each: Vec<String> =
            shares.iter().map(|(worker, share): (&Arc<str>, &usize)| format!("{worker} {share}")).collect();
        told.push(format!("{}: {}", crm.name, of_each.join(", ")));
    }
    let detail = format!("of {partitions} partitions each, {}", told.join("; "));
    Checked { name: "the_second_worker_has_about_half", ok, detail }
}
