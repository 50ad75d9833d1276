//! One decision, from a change to what is written.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Context, Known,
    candidates::{self, Candidate, Held},
    judgement::judge,
    keys::{self, KeyEntry, KeyHash, KeyType},
    source_record::{Content, SourceRecord, Standing, event_id_hash},
};
use crate::{
    contact::{
        ContactId, ContactRecord, Document, Version,
        format::encode,
        record::{FORMAT, Member, MemberState, Status},
        survivorship,
    },
    event::{
        Entry, OutcomeKind, ReasonCode,
        change::{Change, Fault},
    },
    privacy::Hasher,
};

/// What became of a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Keys that changed.
    pub keys: Vec<NewKey>,
    /// Records that changed; usually one, two in a merge.
    pub records: Vec<NewRecord>,
    /// Work for the replicators: an entry for each version raised.
    pub entries: Vec<Entry>,
    /// Who answers the event.
    pub answer: Answer,
    /// The change had the version of the one before it, and took its place.
    pub tied: bool,
}

/// A key with its new entry.
#[derive(Debug, Clone, PartialEq)]
pub struct NewKey {
    pub hash: KeyHash,
    pub entry: Arc<KeyEntry>,
}

/// A contact's new record, and its bytes: the limit is on them, so they are made here and only once.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRecord {
    pub record: Arc<ContactRecord>,
    pub encoded: Bytes,
}

/// Who answers an event: exactly one of them does.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Each CRM's replicator, by the entry that carries the event.
    Replicators,
    /// The resolver, once for all CRMs.
    Resolver(Ending),
    /// Nobody can: the event goes to the dead letters.
    DeadLetters(Fault),
}

/// An outcome reached before the fan-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    pub outcome: OutcomeKind,
    pub code: ReasonCode,
    /// The contact the change is about, if it is known.
    pub contact_id: Option<ContactId>,
    pub version: Option<Version>,
}

impl Decision {
    fn without_effect(answer: Answer) -> Self {
        Self { keys: Vec::new(), records: Vec::new(), entries: Vec::new(), answer, tied: false }
    }
}

/// Decides one change.
///
/// # Errors
/// Those of `known`: nothing was decided.
///
/// # Panics
/// If what is known contradicts itself, which is our bug: the caller quarantines the event.
pub fn resolve<K: Known + ?Sized>(change: &Change, known: &K, context: &Context) -> Result<Decision, K::Error> {
    let held = candidates::look_up(keys::asserted(change, &context.hasher), known)?;
    let source_id = held.first().expect("a change always asserts its source id");
    let before = SourceRecord::read(change, source_id, known)?;
    let event_id = event_id_hash(change, &context.hasher);
    let after = before.view_after(change, &context.hasher);

    let standing = before.standing(change, &event_id, after.as_ref());
    let tied = match standing {
        Standing::News => false,
        Standing::Tie => true,
        Standing::SameEvent => {
            return Ok(ended(OutcomeKind::Duplicate, ReasonCode::SameEvent, &before));
        }
        Standing::SameVersion => {
            return Ok(ended(OutcomeKind::Duplicate, ReasonCode::SameVersion, &before));
        }
        Standing::Older => return Ok(ended(OutcomeKind::Stale, ReasonCode::OlderVersion, &before)),
    };

    let step = Step { change, context, source_id, before: &before, event_id };
    let mut decision = match after {
        Some(content) => step.spoke(content, &held, known)?,
        None => step.gone(),
    };
    decision.tied = tied;
    Ok(decision)
}

fn ended(outcome: OutcomeKind, code: ReasonCode, about: &SourceRecord) -> Decision {
    Decision::without_effect(Answer::Resolver(Ending {
        outcome,
        code,
        contact_id: about.last_owner(),
        version: about.record().map(|record| record.version),
    }))
}

/// An accepted change on its way into a contact.
struct Step<'a> {
    change: &'a Change,
    context: &'a Context,
    source_id: &'a Held,
    before: &'a SourceRecord,
    event_id: String,
}

impl Step<'_> {
    /// The source has a view of the subject.
    fn spoke<K: Known + ?Sized>(self, content: Content, held: &[Held], known: &K) -> Result<Decision, K::Error> {
        let member = self.member(content);
        let mut keys = Vec::new();
        let decision = match self.choose(held, known)? {
            Some(record) => {
                if self.before.live_member().is_none() {
                    keys.push(self.claimed_by(record.contact_id));
                }
                self.written(keys, record.contact_id, Some(&record), members_with(&record, member))
            }
            None => {
                let contact_id = self.found(known)?;
                keys.push(self.claimed_by(contact_id));
                self.written(keys, contact_id, None, vec![member])
            }
        };
        let too_large = decision.records.iter().any(|new| new.encoded.len() > self.context.limits.record_bytes_max);
        if too_large {
            let fault = Fault { code: ReasonCode::RecordTooLarge, pointer: None, event: self.change.event.clone() };
            return Ok(Decision::without_effect(Answer::DeadLetters(fault)));
        }
        Ok(decision)
    }

    /// The source no longer has the subject.
    fn gone(self) -> Decision {
        let entry = self.entry(None, self.before.last_owner(), self.before.event_ids_with(self.event_id.clone()));
        let keys = vec![NewKey { hash: self.source_id.key.hash, entry: Arc::new(entry) }];
        match self.before {
            SourceRecord::Live { record, place } => {
                let last = record.members.get(*place).expect("a live source record has its place");
                let state = MemberState {
                    live: false,
                    version: self.before.version_after(self.change),
                    view: Document::default(),
                    spoke_at: self.change.spoke_at(self.context.now),
                    // The key keeps them from now on.
                    event_ids: Vec::new(),
                    content: last.state.content.clone(),
                };
                let member = Member { source: Arc::clone(&last.source), subject: Arc::clone(&last.subject), state };
                self.written(keys, record.contact_id, Some(record), members_with(record, member))
            }
            SourceRecord::Gone { .. } | SourceRecord::Unknown => {
                let code = match self.before.last_owner() {
                    Some(_) => ReasonCode::SameRecord,
                    None => ReasonCode::UnknownContact,
                };
                Decision { keys, ..ended(OutcomeKind::Unchanged, code, self.before) }
            }
        }
    }

    /// The contact that the change belongs to: the first candidate that nothing speaks against.
    fn choose<K: Known + ?Sized>(&self, held: &[Held], known: &K) -> Result<Option<Arc<ContactRecord>>, K::Error> {
        for candidate in candidates::collect(held) {
            let record = self.record_of(&candidate, known)?;
            if judge(&candidate, &record, self.change, &self.context.limits).is_admissible() {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    fn record_of<K: Known + ?Sized>(&self, candidate: &Candidate, known: &K) -> Result<Arc<ContactRecord>, K::Error> {
        match self.before.record() {
            Some(record) if record.contact_id == candidate.contact => Ok(Arc::clone(record)),
            _ => Ok(known.record(candidate.contact)?.expect("the owner of a key has a record")),
        }
    }

    /// An id for a new contact. The founding event names it; should that very event have founded one before (its id was
    /// forgotten and it came again as something newer), the next in its series does.
    fn found<K: Known + ?Sized>(&self, known: &K) -> Result<ContactId, K::Error> {
        for attempt in 0_u32.. {
            let contact_id = contact_id(&self.context.hasher, self.change, attempt);
            if known.record(contact_id)?.is_none() {
                return Ok(contact_id);
            }
        }
        unreachable!("an event founds fewer than four thousand million contacts")
    }

    fn member(&self, content: Content) -> Member {
        Member {
            source: Arc::clone(&self.change.source),
            subject: Arc::clone(&self.change.subject),
            state: MemberState {
                live: true,
                version: self.before.version_after(self.change),
                view: content.view,
                spoke_at: self.change.spoke_at(self.context.now),
                event_ids: self.before.event_ids_with(self.event_id.clone()),
                content: content.hash,
            },
        }
    }

    fn claimed_by(&self, contact_id: ContactId) -> NewKey {
        // The member keeps the event ids of a live source record.
        let entry = self.entry(Some(contact_id), None, Vec::new());
        NewKey { hash: self.source_id.key.hash, entry: Arc::new(entry) }
    }

    fn entry(&self, owner: Option<ContactId>, last_owner: Option<ContactId>, event_ids: Vec<String>) -> KeyEntry {
        KeyEntry {
            key_type: KeyType::SourceId,
            owner,
            version: Some(self.before.version_after(self.change)),
            event_ids,
            last_owner,
            epoch: self.context.epoch,
            format: FORMAT,
        }
    }

    /// The contact with these members, whose record was `before`: merges what they say, raises the version if that
    /// changed the document or the status, and says who answers.
    fn written(
        &self,
        keys: Vec<NewKey>,
        contact_id: ContactId,
        before: Option<&ContactRecord>,
        members: Vec<Member>,
    ) -> Decision {
        let lives = members.iter().any(|member| member.state.live);
        let (status, contact, provenance) = if lives {
            let (document, provenance) = survivorship::merge(&members, &self.context.source_priority);
            (Status::Live, Some(document), provenance)
        } else {
            // The last document stays: a CRM that keeps or deactivates what is deleted may still need it.
            let (contact, provenance) =
                before.map(|old| (old.contact.clone(), old.provenance.clone())).unwrap_or_default();
            (Status::Deleted, contact, provenance)
        };
        let same = before.filter(|old| old.status == status && old.contact == contact);
        let (version, event, received_at) = match same {
            Some(old) => (old.version, old.event.clone(), old.received_at),
            None => {
                let version = before.map_or(0, |old| old.version) + 1;
                (version, Some(self.change.event.clone()), self.context.now)
            }
        };
        let record = ContactRecord {
            contact_id,
            version,
            status,
            merged_into: None,
            contact,
            provenance,
            members,
            event,
            received_at,
            epoch: self.context.epoch,
            format: FORMAT,
        };
        let (entries, answer) = if same.is_none() {
            (vec![self.entry_of(&record)], Answer::Replicators)
        } else {
            let ending = Ending {
                outcome: OutcomeKind::Unchanged,
                code: ReasonCode::SameRecord,
                contact_id: Some(contact_id),
                version: Some(version),
            };
            (Vec::new(), Answer::Resolver(ending))
        };
        let encoded = encode(&record);
        let records = vec![NewRecord { record: Arc::new(record), encoded }];
        Decision { keys, records, entries, answer, tied: false }
    }

    fn entry_of(&self, record: &ContactRecord) -> Entry {
        Entry {
            contact_id: record.contact_id,
            version: record.version,
            event: Some(self.change.event.clone()),
            received_at: self.context.now,
            traceparent: self.change.traceparent.clone(),
            cause: None,
            epoch: self.context.epoch,
            format: FORMAT,
        }
    }
}

/// The members of a record with `member` among them, in its old place if it has one.
fn members_with(record: &ContactRecord, member: Member) -> Vec<Member> {
    let is_same = |old: &Member| old.source == member.source && old.subject == member.subject;
    let place = record.members.iter().position(is_same).unwrap_or(record.members.len());
    let before = record.members.iter().take(place).cloned();
    let after = record.members.iter().skip(place + 1).cloned();
    before.chain([member]).chain(after).collect()
}

fn contact_id(hasher: &Hasher, change: &Change, attempt: u32) -> ContactId {
    let parts = [change.source.as_bytes(), change.subject.as_bytes(), change.id.as_bytes(), &attempt.to_be_bytes()];
    ContactId(Uuid::new_v8(hasher.hash128("contact_id", &parts)))
}
