//! Several workers together: what they make of each CRM, and which of its partitions none of them owns. Pure.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::{CrmStatus, WorkerStatus};
use crate::log::Partition;

/// One CRM of an installation, over the workers that answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Total {
    pub instance: Arc<str>,
    pub crm: Arc<str>,
    pub partitions_all: u32,
    /// Partitions that nobody who answered owns: another worker does, or nobody.
    pub partitions_unowned: Vec<Partition>,
    /// Partitions that two say they own: one of them has not heard yet that it lost it, or they were asked while it moved.
    pub partitions_owned_twice: Vec<Partition>,
    pub pending: u64,
    pub oldest_pending_seconds: u64,
    pub lag_records: u64,
    pub in_flight: u64,
    pub requests_per_second: f64,
    pub outcomes_per_second: f64,
    pub parked: u64,
}

impl Total {
    pub fn partitions_owned(&self) -> usize {
        self.partitions_all as usize - self.partitions_unowned.len()
    }
}

/// Each CRM of each installation, in the order in which they were told.
pub fn totals<'a>(workers: impl IntoIterator<Item = &'a WorkerStatus>) -> Vec<Total> {
    let mut totals: Vec<(Total, BTreeMap<Partition, u32>)> = Vec::new();
    for worker in workers {
        for crm in &worker.crms {
            let same = |(total, _): &&mut (Total, _)| total.instance == worker.instance && total.crm == crm.crm;
            match totals.iter_mut().find(same) {
                Some((total, owners)) => add(total, owners, crm),
                None => {
                    let (mut total, mut owners) = (empty(&worker.instance, crm), BTreeMap::new());
                    add(&mut total, &mut owners, crm);
                    totals.push((total, owners));
                }
            }
        }
    }
    let finished = |(mut total, owners): (Total, BTreeMap<Partition, u32>)| {
        total.partitions_unowned = (0..total.partitions_all).filter(|at| !owners.contains_key(at)).collect();
        total.partitions_owned_twice = owners.iter().filter(|(_, owners)| **owners > 1).map(|(at, _)| *at).collect();
        total
    };
    totals.into_iter().map(finished).collect()
}

fn empty(instance: &Arc<str>, crm: &CrmStatus) -> Total {
    Total {
        instance: instance.clone(),
        crm: crm.crm.clone(),
        partitions_all: crm.partitions_all,
        partitions_unowned: Vec::new(),
        partitions_owned_twice: Vec::new(),
        pending: 0,
        oldest_pending_seconds: 0,
        lag_records: 0,
        in_flight: 0,
        requests_per_second: 0.0,
        outcomes_per_second: 0.0,
        parked: 0,
    }
}

fn add(total: &mut Total, owners: &mut BTreeMap<Partition, u32>, crm: &CrmStatus) {
    for partition in &crm.partitions {
        *owners.entry(*partition).or_default() += 1;
    }
    total.pending += crm.pending;
    total.oldest_pending_seconds = total.oldest_pending_seconds.max(crm.oldest_pending_seconds);
    total.lag_records += crm.lag_records;
    total.in_flight += crm.in_flight;
    total.requests_per_second += crm.requests_per_second.unwrap_or_default();
    total.outcomes_per_second += crm.outcomes_per_second.values().sum::<f64>();
    total.parked += crm.parked;
}
