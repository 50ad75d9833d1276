//! Rates over the last minute, from counts that only ever rise.
//!
//! Pure: whoever takes the samples brings the instant.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::event::OutcomeKind;

/// What a rate looks back on, at most.
const SPAN: Duration = Duration::from_secs(60);
/// A rate over less says nothing.
const SPAN_MIN: Duration = Duration::from_secs(1);

/// What was counted since the worker started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) decisions: u64,
    pub(super) crms: BTreeMap<Arc<str>, CrmCounts>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct CrmCounts {
    pub(super) requests: u64,
    pub(super) outcomes: BTreeMap<OutcomeKind, u64>,
}

/// What there was at some moments of the last minute, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Samples(VecDeque<(Instant, Counts)>);

impl Samples {
    /// Notes what is counted now. The newest of those older than the span stays, so that a rate is over all of it.
    pub(super) fn note(&mut self, now: Instant, counts: Counts) {
        self.0.push_back((now, counts));
        while self.0.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= SPAN) {
            self.0.pop_front();
        }
    }

    /// What rates up to now are counted from; `None` where nothing is long enough ago.
    pub(super) fn base(&self, now: Instant) -> Option<Base<'_>> {
        let in_span = self.0.iter().find(|(at, _)| now.duration_since(*at) <= SPAN)?;
        let (at, counts) = in_span;
        let span = now.duration_since(*at);
        (span >= SPAN_MIN).then_some(Base { span, counts })
    }
}

/// What there was some time ago.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base<'a> {
    pub(super) span: Duration,
    counts: &'a Counts,
}

impl Base<'_> {
    pub(super) fn decisions(&self, now: u64) -> f64 {
        self.per_second(self.counts.decisions, now)
    }

    pub(super) fn requests(&self, crm: &str, now: u64) -> f64 {
        self.per_second(self.counts.crms.get(crm).map_or(0, |crm| crm.requests), now)
    }

    /// Those that did not come are left out.
    pub(super) fn outcomes(&self, crm: &str, now: &BTreeMap<OutcomeKind, u64>) -> BTreeMap<OutcomeKind, f64> {
        let before =
            |kind| self.counts.crms.get(crm).and_then(|crm| crm.outcomes.get(kind)).copied().unwrap_or_default();
        let rates = now.iter().map(|(kind, now)| (*kind, self.per_second(before(kind), *now)));
        rates.filter(|(_, rate)| *rate > 0.0).collect()
    }

    /// To two places: more would be noise.
    fn per_second(&self, before: u64, now: u64) -> f64 {
        let rate = now.saturating_sub(before) as f64 / self.span.as_secs_f64();
        (rate * 100.0).round() / 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(decisions: u64) -> Counts {
        let outcomes = BTreeMap::from([(OutcomeKind::Delivered, decisions / 2), (OutcomeKind::Rejected, 3)]);
        let crm = CrmCounts { requests: decisions * 2, outcomes };
        Counts { decisions, crms: BTreeMap::from([("priava".into(), crm)]) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_over_the_last_minute_or_what_there_is_of_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut samples = Samples::default();
        assert!(samples.base(start).is_none());
        samples.note(start, counts(0));
        assert!(samples.base(start + Duration::from_millis(900)).is_none(), "too short to say anything");
        assert_eq!(samples.base(at(4)).map(|base| base.decisions(8)), Some(2.0));
        for seconds in (5..=300).step_by(5) {
            // Ten a second for two minutes, then nothing.
            samples.note(at(seconds), counts(seconds.min(120) * 10));
            assert!(samples.0.len() <= 13, "{}", samples.0.len());
        }
        let base = samples.base(at(302)).unwrap();
        assert!(base.span <= SPAN && base.span > Duration::from_secs(50), "{:?}", base.span);
        assert_eq!((base.decisions(1_200), base.requests("priava", 2_400)), (0.0, 0.0));
        let now = BTreeMap::from([(OutcomeKind::Delivered, 600 + 57), (OutcomeKind::Rejected, 3)]);
        assert_eq!(base.outcomes("priava", &now), BTreeMap::from([(OutcomeKind::Delivered, 1.0)]));
    }
}
