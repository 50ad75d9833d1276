//! Which parts of a worker do their work, told by the parts themselves.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::RwLock;

/// All parts of a worker. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    /// Why each part is not ready; `None` for one that is.
    parts: Arc<RwLock<BTreeMap<Arc<str>, Option<String>>>>,
}

impl Readiness {
    /// Adds a part, which is not ready until it says so.
    pub fn part(&self, name: impl Into<Arc<str>>) -> Part {
        let name = name.into();
        self.parts.write().insert(name.clone(), Some("starting".into()));
        Part { all: self.clone(), name }
    }

    /// Whether every part is ready.
    pub fn is_ready(&self) -> bool {
        self.missing().is_empty()
    }

    /// The parts that are not ready, and why. Where no part is known yet, the worker itself has only begun.
    pub fn missing(&self) -> Vec<(Arc<str>, String)> {
        let parts = self.parts.read();
        if parts.is_empty() {
            return vec![("worker".into(), "starting".into())];
        }
        parts.iter().filter_map(|(name, reason)| Some((name.clone(), reason.clone()?))).collect()
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
        self.all.parts.write().insert(self.name.clone(), reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_that_is_not_ready_makes_the_whole_not_ready() {
        let readiness = Readiness::default();
        assert!(!readiness.is_ready(), "nothing has begun yet");
        let (one, other) = (readiness.part("one"), readiness.part("other"));
        one.ready();
        assert!(!readiness.is_ready());
        other.ready();
        assert!(readiness.is_ready());
        one.not_ready("its partitions moved");
        assert_eq!(readiness.missing(), [("one".into(), "its partitions moved".into())]);
    }
}
