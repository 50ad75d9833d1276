//! What has been counted so far, read back: for whoever shows a worker as a whole.
//!
//! Nothing is counted twice for that: these are the series that `/metrics` shows.

use std::collections::BTreeMap;

use super::{Metrics, PerCrm};
use crate::event::OutcomeKind;

/// What stands of one CRM on this worker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OfCrm {
    /// Outcomes committed, by kind; those that never came are left out.
    pub outcomes: BTreeMap<OutcomeKind, u64>,
    /// Exchanges that ended, however they did.
    pub requests: u64,
    /// Entries read and not yet answered, parked ones apart.
    pub pending: u64,
    pub oldest_entry_age_seconds: u64,
    /// Contacts that wait for a later try.
    pub parked: u64,
    pub waiting_for_others: u64,
    pub links_of_other_mappings: u64,
    pub in_flight: u64,
    pub in_flight_limit: u64,
    pub entries_lost: u64,
    /// Records between the committed position and the end of the work list, of the partitions owned.
    pub lag: u64,
}

impl Metrics {
    /// What stands of a CRM; `None` for one that is not configured.
    pub fn of_crm(&self, crm: &str) -> Option<OfCrm> {
        let series = self.shared.crms.get(crm)?;
        let lag = self.shared.loops.get(crm).map_or(0, |series| count(series.lag.get()));
        Some(OfCrm {
            outcomes: outcomes(series),
            requests: series.exchanges.values().map(|exchanges| exchanges.get_sample_count()).sum(),
            pending: count(series.pending.get()),
            oldest_entry_age_seconds: count(series.oldest_entry_age.get()),
            parked: count(series.parked.get()),
            waiting_for_others: count(series.waiting_for_others.get()),
            links_of_other_mappings: count(series.other_mapping.get()),
            in_flight: count(series.in_flight.get()),
            in_flight_limit: count(series.in_flight_limit.get()),
            entries_lost: series.entries_lost.get(),
            lag,
        })
    }

    /// Input events that this worker decided, whatever became of them.
    pub fn decisions(&self) -> u64 {
        self.shared.events_read.get()
    }

    /// See [`Metrics::oldest_input_age`].
    pub fn oldest_input_age_seconds(&self) -> u64 {
        count(self.shared.oldest_input_age.get())
    }
}

fn outcomes(series: &PerCrm) -> BTreeMap<OutcomeKind, u64> {
    let mut outcomes = BTreeMap::new();
    for ((kind, _), counted) in &series.outcomes.counted {
        *outcomes.entry(*kind).or_default() += counted.get();
    }
    outcomes.retain(|_, count| *count > 0);
    outcomes
}

/// A gauge of ours is never negative.
fn count(gauge: i64) -> u64 {
    u64::try_from(gauge).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::{Registry, StatusClass};

    #[test]
    fn what_was_counted_is_read_back() {
        let metrics = Metrics::new(&Registry::new(), &["priava".into()]).unwrap();
        assert_eq!(metrics.of_crm("other"), None);
        assert_eq!(metrics.of_crm("priava"), Some(OfCrm::default()));
        metrics.exchange_ended("priava", StatusClass::Success, Duration::ZERO);
        metrics.exchange_ended("priava", StatusClass::NotSent, Duration::ZERO);
        metrics.pending("priava", 3);
        metrics.oldest_entry_age("priava", Duration::from_secs(4));
        metrics.parked("priava", 5);
        metrics.waiting_for_others("priava", 6);
        metrics.links_of_other_mappings("priava", 7);
        metrics.in_flight("priava", 8, 9);
        metrics.entries_lost("priava", 10);
        metrics.lag("priava", 11);
        metrics.event_read();
        metrics.oldest_input_age(Duration::from_secs(12));
        let expected = OfCrm {
            outcomes: BTreeMap::new(),
            requests: 2,
            pending: 3,
            oldest_entry_age_seconds: 4,
            parked: 5,
            waiting_for_others: 6,
            links_of_other_mappings: 7,
            in_flight: 8,
            in_flight_limit: 9,
            entries_lost: 10,
            lag: 11,
        };
        assert_eq!(metrics.of_crm("priava"), Some(expected));
        assert_eq!((metrics.decisions(), metrics.oldest_input_age_seconds()), (1, 12));
    }
}
