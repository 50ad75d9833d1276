//! What is known of the source record that a change speaks of, and whether the change is news to it.
//!
//! A source record has one place at a time. While live it is a member of its owner's record, with version and event
//! ids; otherwise its key alone keeps both, for good. So a delete, even of a subject never heard of, is remembered,
//! and nothing older can undo it.

use std::sync::Arc;

use super::{Known, candidates::Held, keys::KeyEntry};
use crate::{
    contact::{
        ContactId, ContactRecord, Document,
        record::{EVENT_IDS_MAX, Member, Status},
    },
    event::{
        Precedence, SourceVersion,
        change::{Change, Verb},
    },
    privacy::{Hasher, hex},
};

/// What is known of one source's subject.
#[derive(Debug)]
pub(super) enum SourceRecord {
    Unknown,
    Live {
        record: Arc<ContactRecord>,
        place: usize,
    },
    /// Deleted, or known only by a delete; then it never had a contact.
    Gone {
        entry: Arc<KeyEntry>,
        record: Option<Arc<ContactRecord>>,
    },
}

/// How a change stands to what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    News,
    /// News of an equal version: it came later, so it counts.
    Tie,
    SameEvent,
    SameVersion,
    Older,
}

impl SourceRecord {
    /// Reads what is known, from the source id's key on.
    ///
    /// # Panics
    /// If a key names an owner that has no such live member: both are written in one transaction, so that is our bug.
    pub(super) fn read<K: Known + ?Sized>(change: &Change, held: &Held, known: &K) -> Result<Self, K::Error> {
        let Some(entry) = &held.entry else {
            return Ok(Self::Unknown);
        };
        let Some(owner) = entry.owner else {
            let record = match entry.last_owner {
                Some(contact) => known.record(contact)?,
                None => None,
            };
            return Ok(Self::Gone { entry: Arc::clone(entry), record });
        };
        let record = known.record(owner)?.expect("the owner of a key has a record");
        let place = record
            .members
            .iter()
            .position(|member| member.state.live && member.subject == change.subject && member.source == change.source)
            .expect("the owner of a source id has its source record as a live member");
        Ok(Self::Live { record, place })
    }

    pub(super) fn live_member(&self) -> Option<&Member> {
        match self {
            Self::Live { record, place } => record.members.get(*place),
            Self::Unknown | Self::Gone { .. } => None,
        }
    }

    /// The contact it belongs to, or last belonged to.
    pub(super) fn record(&self) -> Option<&Arc<ContactRecord>> {
        match self {
            Self::Live { record, .. } => Some(record),
            Self::Gone { record, .. } => record.as_ref(),
            Self::Unknown => None,
        }
    }

    pub(super) fn last_owner(&self) -> Option<ContactId> {
        match self {
            Self::Live { record, .. } => Some(record.contact_id),
            Self::Gone { entry, .. } => entry.last_owner,
            Self::Unknown => None,
        }
    }

    pub(super) fn version(&self) -> Option<&SourceVersion> {
        match self {
            Self::Live { .. } => self.live_member().map(|member| &member.state.version),
            Self::Gone { entry, .. } => entry.version.as_ref(),
            Self::Unknown => None,
        }
    }

    /// Whether its contact, or the one it last belonged to, has not been erased.
    pub(super) fn has_document(&self) -> bool {
        self.record().is_some_and(|record| record.status != Status::Erased)
    }

    fn event_ids(&self) -> &[String] {
        match self {
            Self::Live { .. } => self.live_member().map_or(&[], |member| &member.state.event_ids),
            Self::Gone { entry, .. } => &entry.event_ids,
            Self::Unknown => &[],
        }
    }

    /// The remembered event ids with `event_id` as the newest; the oldest leave beyond [`EVENT_IDS_MAX`].
    pub(super) fn event_ids_with(&self, event_id: String) -> Vec<String> {
        let known = self.event_ids();
        let kept = known.get((known.len() + 1).saturating_sub(EVENT_IDS_MAX)..).unwrap_or_default();
        let mut event_ids = Vec::with_capacity(kept.len() + 1);
        event_ids.extend_from_slice(kept);
        event_ids.push(event_id);
        event_ids
    }

    /// The version that the source record has once `change` is accepted.
    pub(super) fn version_after(&self, change: &Change) -> SourceVersion {
        match (&change.verb, self.version()) {
            // A null value has no version of its own: it takes the highest seen.
            (Verb::Tombstone, Some(version)) => version.clone(),
            _ => change.version.clone(),
        }
    }

    /// Judges `change`, after which this source's view would be `view_after` (`None`: gone).
    pub(super) fn standing(&self, change: &Change, event_id: &str, view_after: Option<&Content>) -> Standing {
        if self.event_ids().iter().any(|known| known == event_id) {
            return Standing::SameEvent;
        }
        let Some(version) = self.version() else {
            return Standing::News;
        };
        let precedence = match change.verb {
            Verb::Tombstone => Precedence::Equal,
            Verb::Snapshot(_) | Verb::Patch(_) | Verb::Delete | Verb::Erase => change.version.compare(version),
        };
        let member = self.live_member();
        match (precedence, member, view_after) {
            (Precedence::Newer, _, _) => Standing::News,
            (Precedence::Older, _, _) => Standing::Older,
            // What was deleted still has a document, until somebody asks that it be forgotten.
            (Precedence::Equal, None, None) if change.verb == Verb::Erase && self.has_document() => Standing::News,
            (Precedence::Equal, None, None) => Standing::SameVersion,
            // Only something newer than a delete makes a contact anew: a copy of the last update that comes late, under
            // an id of its own, must not bring back who was deleted.
            (Precedence::Equal, None, Some(_)) => Standing::Older,
            (Precedence::Equal, Some(member), Some(content)) if member.state.content == content.hash => {
                Standing::SameVersion
            }
            // A tombstone has no version that could be equal.
            (Precedence::Equal, Some(_), None) if change.verb == Verb::Tombstone => Standing::News,
            (Precedence::Equal, Some(_), _) => Standing::Tie,
        }
    }

    /// What this source says after `change`: `None` once it is gone.
    pub(super) fn view_after(&self, change: &Change, hasher: &Hasher) -> Option<Content> {
        let view = match &change.verb {
            Verb::Snapshot(document) => document.clone(),
            Verb::Patch(patch) => match self.live_member() {
                Some(member) => member.state.view.patched(patch),
                // A patch of an unknown subject is its first view.
                None => Document::default().patched(patch),
            },
            Verb::Delete | Verb::Tombstone | Verb::Erase => return None,
        };
        Some(Content::new(view, hasher))
    }
}

/// A view with its hash, by which a repeat under a new event id is known.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) view: Document,
    pub(super) hash: String,
}

impl Content {
    fn new(view: Document, hasher: &Hasher) -> Self {
        let bytes = serde_json::to_vec(&view).expect("a document of JSON values is JSON");
        let hash = hex(&hasher.hash64("content", &[&bytes]).to_be_bytes());
        Self { view, hash }
    }
}

/// The hash under which a source record remembers an event.
pub(super) fn event_id_hash(change: &Change, hasher: &Hasher) -> String {
    hex(&hasher.hash64("event_id", &[change.source.as_bytes(), change.id.as_bytes()]).to_be_bytes())
}
