//! Whether one candidate may be the contact that a change is about.
//!
//! A pure function of the candidate, its record and the change, which returns its reasons. A source id is sticky: it
//! says outright whose the change is, so nothing but the end of that contact speaks against it. Every weaker key only
//! suggests, and a guard may object.

use super::{Limits, candidates::Candidate, keys::KeyType};
use crate::{
    contact::{ContactRecord, record::Status},
    event::change::Change,
};

/// A reason against a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The contact is deleted, merged away or erased.
    NotLive,
    /// The same source already speaks of this contact under another subject: to that source they are two people.
    SameSource,
    /// The contact has as many source records as it may have.
    TooManyRecords,
}

/// What speaks against a candidate; nothing does when it is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    pub refusals: Vec<Refusal>,
}

impl Judgement {
    pub fn is_admissible(&self) -> bool {
        self.refusals.is_empty()
    }
}

/// Judges `candidate`, whose newest record is `record`.
pub fn judge(candidate: &Candidate, record: &ContactRecord, change: &Change, limits: &Limits) -> Judgement {
    let mut refusals = Vec::new();
    if record.status != Status::Live {
        refusals.push(Refusal::NotLive);
    }
    if candidate.by != KeyType::SourceId {
        let live = || record.members.iter().filter(|member| member.state.live);
        if live().any(|member| member.source == change.source) {
            refusals.push(Refusal::SameSource);
        }
        if live().count() >= limits.source_records_max {
            refusals.push(Refusal::TooManyRecords);
        }
    }
    Judgement { refusals }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::tests::{LIMITS, change_of, record_of};

    #[track_caller]
    fn check(by: KeyType, record: &ContactRecord, expected: &[Refusal]) {
        let candidate = Candidate { contact: record.contact_id, by };
        assert_eq!(judge(&candidate, record, &change_of("shop", "1"), &LIMITS).refusals, expected);
    }

    #[test]
    fn a_source_id_is_sticky_while_its_contact_lives() {
        let mut record = record_of(&[("shop", "1", true), ("shop", "2", true)]);
        check(KeyType::SourceId, &record, &[]);
        record.status = Status::Deleted;
        check(KeyType::SourceId, &record, &[Refusal::NotLive]);
    }

    #[test]
    fn a_weaker_key_does_not_join_two_subjects_of_one_source() {
        check(KeyType::Email, &record_of(&[("shop", "2", true)]), &[Refusal::SameSource]);
        check(KeyType::Email, &record_of(&[("shop", "2", false), ("erp", "2", true)]), &[]);
    }

    #[test]
    fn a_weaker_key_does_not_join_a_contact_that_is_full() {
        let members: Vec<_> = (0..LIMITS.source_records_max).map(|_| ("erp", "2", true)).collect();
        check(KeyType::Phone, &record_of(&members), &[Refusal::TooManyRecords]);
    }
}
