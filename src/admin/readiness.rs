//! Which parts of a worker do their work, told by the parts themselves.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::RwLock;

use crate::metrics::Metrics;

/// All parts of a worker. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    told: Arc<RwLock<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    /// Why each part is not ready; `None` for one that is.
    parts: BTreeMap<Arc<str>, Option<String>>,
    metrics: Metrics,
}

impl Readiness {
    /// Has `metrics` show it, too, from the next word of a part on.
    pub fn report_to(&self, metrics: Metrics) {
        self.told.write().metrics = metrics;
    }

    /// Adds a part, which is not ready until it says so.
    pub fn part(&self, name: impl Into<Arc<str>>) -> Part {
        let name = name.into();
        self.set(name.clone(), Some("starting".into()));
        Part { all: self.clone(), name }
    }

    /// Whether every part is ready.
    pub fn is_ready(&self) -> bool {
        self.missing().is_empty()
    }

    /// The parts that are not ready, and why. Where no part is known yet, the worker itself has only begun.
    pub fn missing(&self) -> Vec<(Arc<str>, String)> {
        let parts = &self.told.read().parts;
        if parts.is_empty() {
            return vec![("worker".into(), "starting".into())];
        }
        parts.iter().filter_map(|(name, reason)| Some((name.clone(), reason.clone()?))).collect()
    }

    fn set(&self, part: Arc<str>, reason: Option<String>) {
        let mut told = self.told.write();
        told.parts.insert(part, reason);
        // Under the lock, so that of two parts that speak at once the later one is the one that is shown.
        told.metrics.worker_ready(told.parts.values().all(Option::is_none));
    }
}

/// Speaks for one part.
#[derive(Debug, Clone)]
pub struct Part {
    all: Readiness,
    name: Arc<str>,
}

impl Part {
    pub fn ready(&self) {
        self.tell(None);
    }

    /// `reason` is a plain sentence about this part, never about a contact: anybody may read it.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.tell(Some(reason.into()));
    }

    fn tell(&self, reason: Option<String>) {
        self.all.set(self.name.clone(), reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Registry, render};

    #[test]
    fn one_part_that_is_not_ready_makes_the_whole_not_ready() {
        let registry = Registry::new();
        let readiness = Readiness::default();
        readiness.report_to(Metrics::new(&registry, &[]).unwrap());
        let shown = || render(&registry).unwrap().contains("\ncontact_replicator_worker_ready 1\n");
        assert!(!readiness.is_ready() && !shown(), "nothing has begun yet");
        let (one, other) = (readiness.part("one"), readiness.part("other"));
        one.ready();
        assert!(!readiness.is_ready() && !shown());
        other.ready();
        assert!(readiness.is_ready() && shown());
        one.not_ready("its partitions moved");
        assert_eq!(readiness.missing(), [("one".into(), "its partitions moved".into())]);
        assert!(!shown());
    }
}
