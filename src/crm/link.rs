//! The link: what is known of one contact in one CRM, as `contact-links.<crm>` holds it.
//!
//! Links are never nulled; they shrink. All judgement of what was answered and what was sent rests on them.

use std::{collections::BTreeMap, fmt, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    contact::{ContactId, Version},
    crm::{Presence, fingerprint::Fingerprint},
    event::{Entry, Operation, OutcomeKind, Reason, entry::LinkTo},
    log::Offset,
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    pub contact_id: ContactId,
    /// Ids on the remote side by role; see [`crate::crm::REMOTE_CONTACT`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remote_ids: BTreeMap<String, String>,
    /// Per field on the wire, what the CRM last accepted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sent: BTreeMap<Arc<str>, Sent>,
    /// Whether the CRM was last told to hold the contact as active; `None` before the first accepted write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<Presence>,
    /// The mapping under which the CRM last accepted the contact, or was known to hold it; `None` also where a release wrote
    /// that did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Fingerprint>,
    /// We created the contact, and have not yet brought all of it there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
    /// A create that may have been sent, and whose result is not known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// A request of which nobody has the result may have carried what an operator then gave up: what is known here counts for
    /// nothing until the CRM was sent all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub doubted: bool,
    /// What an operator said of which contact of the CRM it is, until the CRM has taken it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked: Option<Linked>,
    /// What operators said of that below this offset of the work list has been taken in here.
    #[serde(default, skip_serializing_if = "is_first")]
    pub linked_until: Offset,
    /// The last version that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Settled>,
    /// What is parked, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<Open>,
    /// Something of it names a contact that the CRM does not hold, and is to be said once it does; see
    /// [`crate::crm::relation`]. Of no account while anything is parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Every version up to here has its outcome, except `open`.
    pub answered: Version,
    /// Every entry of an operator below this offset of the work list has its outcome, except `open`.
    #[serde(default, skip_serializing_if = "is_first")]
    pub asked_until: Offset,
    pub format: u32,
}

impl Link {
    pub fn new(contact_id: ContactId) -> Self {
        Self {
            contact_id,
            remote_ids: BTreeMap::new(),
            sent: BTreeMap::new(),
            presence: None,
            mapping: None,
            incomplete: false,
            intent: None,
            doubted: false,
            linked: None,
            linked_until: 0,
            settled: None,
            open: None,
            waiting: None,
            answered: 0,
            asked_until: 0,
            format: crate::contact::record::FORMAT,
        }
    }

    /// Whether anything was ever sent of the contact, as far as is known here.
    pub fn was_ever_sent(&self) -> bool {
        !self.sent.is_empty() || self.presence.is_some()
    }

    /// Whether there may be a contact in the CRM for all that is known here, the effect of a lost create apart.
    pub fn may_be_there(&self) -> bool {
        !self.sent.is_empty() || !self.remote_ids.is_empty()
    }

    /// Whether the CRM may hold anything of the contact, for all that is known here: it may be there, or a create may have
    /// been lost.
    pub fn may_be_held(&self) -> bool {
        self.may_be_there() || self.intent.is_some()
    }

    /// Forgets what the CRM holds, once it holds nothing.
    pub fn forget_remote(&mut self) {
        self.remote_ids.clear();
        self.sent.clear();
        self.presence = None;
        self.mapping = None;
        self.incomplete = false;
        self.intent = None;
        self.linked = None;
    }

    /// Takes in what an operator said in the entry at `offset` of the work list. What was known of another contact counts
    /// for nothing: all is sent to this one.
    pub fn take_in(&mut self, link_to: &LinkTo, offset: Offset) {
        self.linked_until = offset + 1;
        match link_to {
            LinkTo::Remote(ids) if ids.iter().all(|(role, id)| self.remote_ids.get(role) == Some(id)) => {}
            LinkTo::Remote(ids) => {
                self.forget_remote();
                self.remote_ids = ids.clone();
                self.linked = Some(Linked::Existing);
            }
            LinkTo::New => {
                self.forget_remote();
                self.linked = Some(Linked::New);
            }
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
fn is_first(offset: &Offset) -> bool {
    *offset == 0
}

/// What was last accepted of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// Keyed 64-bit hash of the value (of `null` once cleared).
    Hash(#[serde(with = "hex64")] u64),
    /// Sent, but with unknown effect: equals nothing.
    Void,
}

/// What follows from an operator's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Linked {
    /// The contact was there before us: what nobody is known to have sent is not ours to clear.
    Existing,
    /// The contact is made without being searched for.
    New,
}

pub(super) mod hex64 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::crm) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:016x}"))
    }

    pub(in crate::crm) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

/// What a create is to be found by, committed before it leaves: the contact's own data may be another by the time its
/// answer turns out to be lost.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The keys as sent; see [`crate::crm::LookUpKeys`].
    pub keys: BTreeMap<String, String>,
}

impl fmt::Debug for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values are the contact's.
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

/// How a version ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    pub version: Version,
    pub outcome: OutcomeKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    pub attempts: u32,
}

/// What is parked: its retry lives here, the partition has moved on. An event, or what an operator asked, or both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// The newest event that was not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Entry>,
    /// The last thing that an operator asked for and that was not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Entry>,
    pub attempts: u32,
    pub next_attempt: Timestamp,
}

/// When it is looked again whether other contacts are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// How often it was looked in vain.
    pub looks: u32,
    pub next_look: Timestamp,
}

impl Open {
    /// What waits, the event first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entry.iter().chain(&self.asked)
    }

    /// The version that a record must have reached for what waits to be tried.
    pub fn version(&self) -> Version {
        self.entries().map(|entry| entry.version).max().unwrap_or_default()
    }
}
