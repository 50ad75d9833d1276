//! One decision, from a change to what is written.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Context, Known,
    candidates::{self, Candidate, Held},
    claims::Claims,
    judgement::{Party, Refusal, judge, judge_groups},
    keys::{self, AssertedKey, KeyEntry, KeyHash, KeyType},
    membership::{Dropped, Membership, REFUSALS_MAX, Refused},
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
        change::{Change, Fault, Verb},
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
    /// What others may want to know of who is who.
    pub notices: Vec<Notice>,
    /// Values that the change asserts and that were not used as keys.
    pub dropped: Vec<Dropped>,
}

/// Something found out about who is who. Ids and types only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Two contacts assert one key and stay two.
    Conflict { contact: ContactId, other: ContactId, key_type: KeyType, code: Refusal },
    /// So many contacts assert one key that it leads nobody new to any of them; the last of them is `contact`.
    Generic { contact: ContactId, key_type: KeyType, holders: Vec<ContactId> },
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
    /// An event that changes nothing.
    pub(crate) fn without_effect(answer: Answer) -> Self {
        Self {
            keys: Vec::new(),
            records: Vec::new(),
            entries: Vec::new(),
            answer,
            tied: false,
            notices: Vec::new(),
            dropped: Vec::new(),
        }
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
    let source_id = candidates::look_up(keys::source_id(change, &context.hasher), known)?;
    let before = SourceRecord::read(change, &source_id, known)?;
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

    let step = Step { change, context, known, source_id: &source_id, before: &before, event_id };
    let mut decision = match after {
        Some(content) => step.spoke(content)?,
        None if change.verb == Verb::Erase && before.has_document() => step.erased()?,
        None => step.gone()?,
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
struct Step<'a, K: ?Sized> {
    change: &'a Change,
    context: &'a Context,
    known: &'a K,
    source_id: &'a Held,
    before: &'a SourceRecord,
    event_id: String,
}

/// The contact that a change goes to, and those it does not go to.
struct Choice {
    /// `None`: a new one.
    record: Option<Arc<ContactRecord>>,
    /// The key that led to it.
    by: Option<KeyType>,
    refused: Vec<Refused>,
}

impl<K: Known + ?Sized> Step<'_, K> {
    /// The source has a view of the subject.
    fn spoke(self, content: Content) -> Result<Decision, K::Error> {
        let keys::Asserted { keys, mut dropped } =
            keys::asserted(&content.view, &self.context.policy, &self.context.hasher);
        let held: Vec<Held> =
            keys.into_iter().map(|key| candidates::look_up(key, self.known)).collect::<Result<_, _>>()?;
        let candidates = candidates::collect(&held);
        let Choice { record, by, mut refused } = self.choose(&candidates, &held, &content.view)?;
        let contact_id = match &record {
            Some(record) => record.contact_id,
            None => self.found()?,
        };

        let mut claims = Claims::new(contact_id, self.context);
        let mut keys: Vec<AssertedKey> = Vec::with_capacity(held.len());
        for Held { key, entry } in &held {
            if claims.claim(key, entry.as_deref(), &mut dropped) {
                keys.push(key.clone());
            }
        }
        let released = self.released(&keys);
        let mut member = self.member(content);
        member.state.membership = Membership { by, keys, refusals: Vec::new(), dropped: dropped.clone() };
        let members = match &record {
            Some(record) => members_with(record, member),
            None => vec![member],
        };
        for key in released {
            claims.release_unless_asserted(&key, &members, self.known)?;
        }

        let mut notices = claims.generic;
        for candidate in candidates.iter().filter(|candidate| claims.shadows.contains(&candidate.by.hash)) {
            // That P is new to the key is news; that it still is not alone would be told with every event.
            let code = match refused.iter().find(|refused| refused.contact == candidate.contact) {
                Some(refused) => refused.code,
                None => self.why_not_merged(&members, candidate)?,
            };
            let (other, key_type) = (candidate.contact, candidate.by.key_type.clone());
            if refused.iter().all(|refused| refused.contact != other) {
                refused.push(Refused { contact: other, key_type: key_type.clone(), code });
            }
            notices.push(Notice::Conflict { contact: contact_id, other, key_type, code });
        }
        let members = self.with_refusals(members, refused);

        let mut new_keys = claims.keys;
        if self.before.live_member().is_none() {
            new_keys.insert(0, self.claimed_by(contact_id));
        }
        let decision = self.written(new_keys, contact_id, record.as_deref(), members);
        let record_bytes_max = self.context.policy.limits.record_bytes_max;
        if decision.records.iter().any(|new| new.encoded.len() > record_bytes_max) {
            let fault = Fault { code: ReasonCode::RecordTooLarge, pointer: None, event: self.change.event.clone() };
            return Ok(Decision::without_effect(Answer::DeadLetters(fault)));
        }
        Ok(Decision { notices, dropped, ..decision })
    }

    /// Keys of this source record that it no longer asserts.
    fn released(&self, keys: &[AssertedKey]) -> Vec<AssertedKey> {
        let before = self.before.live_member().map_or(&[][..], |member| &member.state.membership.keys);
        before.iter().filter(|key| !keys.contains(key)).cloned().collect()
    }

    /// The source no longer has the subject.
    fn gone(self) -> Result<Decision, K::Error> {
        let entry = self.entry(None, self.before.last_owner(), self.before.event_ids_with(self.event_id.clone()));
        let source_id = NewKey { hash: self.source_id.key.hash, entry: Arc::new(entry) };
        let SourceRecord::Live { record, place } = self.before else {
            let code = match self.before.last_owner() {
                Some(_) => ReasonCode::SameRecord,
                None => ReasonCode::UnknownContact,
            };
            return Ok(Decision { keys: vec![source_id], ..ended(OutcomeKind::Unchanged, code, self.before) });
        };
        let last = record.members.get(*place).expect("a live source record has its place");
        let state = MemberState {
            live: false,
            version: self.before.version_after(self.change),
            view: Document::default(),
            spoke_at: self.change.spoke_at(self.context.now),
            // The key keeps them from now on.
            event_ids: Vec::new(),
            content: last.state.content.clone(),
            membership: Membership { by: last.state.membership.by.clone(), ..Membership::default() },
        };
        let member = Member { source: Arc::clone(&last.source), subject: Arc::clone(&last.subject), state };
        let members = members_with(record, member);
        let mut claims = Claims::new(record.contact_id, self.context);
        for key in self.released(&[]) {
            claims.release_unless_asserted(&key, &members, self.known)?;
        }
        let keys = std::iter::once(source_id).chain(claims.keys).collect();
        Ok(self.written(keys, record.contact_id, Some(record), self.without_old_dead(members)))
    }

    /// The person asked to be forgotten: of the contact only its id stays, and of its source records the hash and the
    /// version, below which nothing comes back.
    fn erased(self) -> Result<Decision, K::Error> {
        let record = self.before.record().expect("what is erased has a record");
        let contact_id = record.contact_id;
        // This event is remembered: come again, it must not erase whom a later event made anew.
        let entry = self.entry(None, Some(contact_id), vec![self.event_id.clone()]);
        let mut keys = vec![NewKey { hash: self.source_id.key.hash, entry: Arc::new(entry) }];
        let mut claims = Claims::new(contact_id, self.context);
        for member in &record.members {
            for key in &member.state.membership.keys {
                claims.release(key, self.known)?;
            }
            let hash = KeyHash::of_source_id(&self.context.hasher, &member.source, &member.subject);
            if hash == self.source_id.key.hash {
                continue;
            }
            let known = self.known.key(hash)?.expect("a member of a contact has a key");
            let version = if member.state.live { Some(member.state.version.clone()) } else { known.version.clone() };
            // What has moved on to another contact is that one's.
            if member.state.live || (known.owner, known.last_owner) == (None, Some(contact_id)) {
                let entry = KeyEntry {
                    version,
                    last_owner: Some(contact_id),
                    epoch: self.context.epoch,
                    ..KeyEntry::free(KeyType::SourceId)
                };
                keys.push(NewKey { hash, entry: Arc::new(entry) });
            }
        }
        keys.extend(claims.keys);
        let stub = ContactRecord {
            contact_id,
            version: record.version + 1,
            status: Status::Erased,
            merged_into: None,
            contact: None,
            provenance: BTreeMap::new(),
            members: Vec::new(),
            event: Some(self.change.event.clone()),
            received_at: self.context.now,
            epoch: self.context.epoch,
            format: FORMAT,
        };
        let entries = vec![self.entry_of(&stub)];
        let records = vec![NewRecord { encoded: encode(&stub), record: Arc::new(stub) }];
        Ok(Decision { keys, records, entries, ..Decision::without_effect(Answer::Replicators) })
    }

    /// The contact that the change belongs to: its own, or else the first candidate that nothing speaks against.
    fn choose(&self, candidates: &[Candidate], held: &[Held], view: &Document) -> Result<Choice, K::Error> {
        if let SourceRecord::Live { record, .. } = self.before {
            // Sticky: nothing but the source's own word takes a source record out of its contact.
            let by = self.before.live_member().and_then(|member| member.state.membership.by.clone());
            return Ok(Choice { record: Some(Arc::clone(record)), by, refused: Vec::new() });
        }
        let mut choice = Choice { record: None, by: None, refused: Vec::new() };
        if candidates.is_empty() {
            return Ok(choice);
        }
        let keys: Vec<AssertedKey> = held.iter().map(|held| held.key.clone()).collect();
        let joining = Party::new(&self.change.source, view, &keys);
        for Candidate { contact, by } in candidates {
            let record = self.record_of(*contact)?;
            let judgement = judge(&joining, &record, &by.key_type, &self.context.policy);
            if judgement.is_admissible() {
                return Ok(Choice { record: Some(record), by: Some(by.key_type.clone()), ..choice });
            }
            let refused = |code| Refused { contact: *contact, key_type: by.key_type.clone(), code };
            choice.refused.extend(judgement.refusals.into_iter().map(refused));
        }
        Ok(choice)
    }

    /// What keeps a contact with these members and a candidate from being one.
    fn why_not_merged(&self, members: &[Member], candidate: &Candidate) -> Result<Refusal, K::Error> {
        let other = self.record_of(candidate.contact)?;
        let ours = Party::of_members(members);
        let judgement =
            judge_groups(&ours, &Party::of_members(&other.members), &candidate.by.key_type, &self.context.policy);
        Ok(judgement.refusals.first().copied().unwrap_or(Refusal::NotMerged))
    }

    fn record_of(&self, contact: ContactId) -> Result<Arc<ContactRecord>, K::Error> {
        match self.before.record() {
            Some(record) if record.contact_id == contact => Ok(Arc::clone(record)),
            _ => Ok(self.known.record(contact)?.expect("the holder of a key has a record")),
        }
    }

    /// An id for a new contact. The founding event names it; should that very event have founded one before (its id was
    /// forgotten and it came again as something newer), the next in its series does.
    fn found(&self) -> Result<ContactId, K::Error> {
        for attempt in 0_u32.. {
            let contact_id = contact_id(&self.context.hasher, self.change, attempt);
            if self.known.record(contact_id)?.is_none() {
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
                membership: Membership::default(),
            },
        }
    }

    /// Lets the source record of this change remember whom it was not joined to; what was asked before stays until it is
    /// asked again.
    fn with_refusals(&self, mut members: Vec<Member>, mut refused: Vec<Refused>) -> Vec<Member> {
        if refused.is_empty()
            && let Some(before) = self.before.live_member()
        {
            refused.clone_from(&before.state.membership.refusals);
        }
        refused.truncate(REFUSALS_MAX);
        let own = members.iter_mut().find(|member| self.is_about(member));
        own.expect("the change's own source record is a member").state.membership.refusals = refused;
        members
    }

    fn is_about(&self, member: &Member) -> bool {
        member.subject == self.change.subject && member.source == self.change.source
    }

    /// Of the source records that are gone only so many stay in the record as it may have live ones; the oldest leave.
    /// Their keys remember them.
    fn without_old_dead(&self, mut members: Vec<Member>) -> Vec<Member> {
        let dead = members.iter().filter(|member| !member.state.live).count();
        let mut surplus = dead.saturating_sub(self.context.policy.limits.records);
        members.retain(|member| {
            let leaves = surplus > 0 && !member.state.live && !self.is_about(member);
            surplus -= usize::from(leaves);
            !leaves
        });
        members
    }

    fn claimed_by(&self, contact_id: ContactId) -> NewKey {
        // The member keeps the event ids of a live source record.
        let entry = self.entry(Some(contact_id), None, Vec::new());
        NewKey { hash: self.source_id.key.hash, entry: Arc::new(entry) }
    }

    fn entry(&self, owner: Option<ContactId>, last_owner: Option<ContactId>, event_ids: Vec<String>) -> KeyEntry {
        KeyEntry {
            owner,
            version: Some(self.before.version_after(self.change)),
            event_ids,
            last_owner,
            epoch: self.context.epoch,
            ..KeyEntry::free(KeyType::SourceId)
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
        Decision { keys, records, entries, ..Decision::without_effect(answer) }
    }

    fn entry_of(&self, record: &ContactRecord) -> Entry {
        Entry {
            contact_id: record.contact_id,
            version: record.version,
            event: Some(self.change.event.clone()),
            received_at: self.context.now,
            traceparent: self.change.traceparent.clone(),
            cause: None,
            crm: None,
            link_to: None,
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
