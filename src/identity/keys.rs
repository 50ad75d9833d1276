//! Keys: normalised identifiers, kept as keyed hashes, and who owns each.
//!
//! Which keys an event asserts is decided here and nowhere else ([`source_id`], [`asserted`]), in the order in which the
//! rules rank them. Whom they bring up, and whether that is the same person, are other questions with modules of their
//! own.
//!
//! A key has one owner. Who asserts it too, and is somebody else, has a *shadow claim*: matching tries claimants after
//! the owner, so that each member of a family with one mailbox is found again, and when the owner lets go of the key,
//! the oldest claim takes its place. So a key that anybody asserts is never without an owner, except one that so many
//! asserted that it no longer tells anything ([`KeyEntry::generic`]).

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::{
    membership::{DropCode, Dropped, drop_key},
    policy::{Policy, Rule},
};
use crate::{
    config::RuleKey,
    contact::{
        ContactId, Document,
        document::Said,
        normalise::{email, text},
        record::FORMAT,
    },
    event::{SourceVersion, change::Change},
    privacy::{Hasher, hex},
};

/// HMAC-SHA-256 of type and normalised value, truncated to 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub [u8; 16]);

impl KeyHash {
    /// The key of one source's subject.
    pub fn of_source_id(hasher: &Hasher, source: &str, subject: &str) -> Self {
        Self(hasher.hash128("key:source_id", &[source.as_bytes(), subject.as_bytes()]))
    }

    /// The key of an e-mail address in its normal form.
    pub fn of_email(hasher: &Hasher, normalised: &str) -> Self {
        Self(hasher.hash128("key:email", &[normalised.as_bytes()]))
    }

    /// As record key of `contact-keys`.
    pub fn key(&self) -> String {
        hex(&self.0)
    }

    fn from_key(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut hash = [0; 16];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != hash.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(hash))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key())
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.key())
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        Self::from_key(&text).ok_or_else(|| de::Error::custom("a key is 32 hexadecimal digits"))
    }
}

/// What `contact-keys` holds of one key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyEntry {
    #[serde(rename = "type")]
    pub key_type: KeyType,
    /// The owner; `None` when nobody asserts the key now.
    pub owner: Option<ContactId>,
    /// Others who assert the key, in the order of their claims. Fewer than `generic_after`, the owner counted in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimants: Vec<ContactId>,
    /// So many asserted it that it leads nobody new to anybody. Those who held it then still do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub generic: bool,
    /// Of a source id: the version last accepted when it was last written, kept after a delete, for good. While the
    /// source record is live, the newest stands with the member in the contact's record, so that an update that
    /// changes no owner writes no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<SourceVersion>,
    /// Of a source id without a live source record: hashes of the last events it accepted, so that an event that comes
    /// again after the delete is still known. A live one keeps them with the member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_ids: Vec<String>,
    /// Of a source id: the contact it last belonged to, also after a delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_owner: Option<ContactId>,
    pub epoch: u64,
    pub format: u32,
}

/// What a claim made of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    Owner,
    Shadow { became_generic: bool },
}

impl KeyEntry {
    /// A key that nobody asserts.
    pub(super) fn free(key_type: KeyType) -> Self {
        Self {
            key_type,
            owner: None,
            claimants: Vec::new(),
            generic: false,
            version: None,
            event_ids: Vec::new(),
            last_owner: None,
            epoch: 0,
            format: FORMAT,
        }
    }

    /// Whom the key leads to: the owner, then the claimants in the order of their claims.
    pub fn holders(&self) -> impl Iterator<Item = ContactId> {
        self.owner.into_iter().chain(self.claimants.iter().copied())
    }

    pub(super) fn is_held_by(&self, contact: ContactId) -> bool {
        self.holders().any(|holder| holder == contact)
    }

    /// Whether it says nothing, so that the log need not hold it.
    pub fn is_void(&self) -> bool {
        self.key_type != KeyType::SourceId && self.owner.is_none() && !self.generic
    }

    /// Gives the key to `contact`, or a shadow claim if somebody has it.
    pub(super) fn claim(&mut self, contact: ContactId, generic_after: usize) -> Claim {
        assert!(!self.is_held_by(contact) && !self.generic, "only a key that it can hold and does not is claimed");
        if self.owner.is_none() {
            self.owner = Some(contact);
            return Claim::Owner;
        }
        self.claimants.push(contact);
        self.generic = self.holders().count() >= generic_after;
        Claim::Shadow { became_generic: self.generic }
    }

    /// Takes the key, or the claim, from `contact`; the oldest claim is promoted.
    pub(super) fn release(&mut self, contact: ContactId) {
        if self.owner == Some(contact) {
            self.owner = (!self.claimants.is_empty()).then(|| self.claimants.remove(0));
        } else {
            self.claimants.retain(|claimant| *claimant != contact);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    SourceId,
    SharedId(Arc<str>),
    Email,
    Phone,
}

impl KeyType {
    /// Its name for people and labels. Of shared ids the namespace is left out.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::SourceId => "source_id",
            Self::SharedId(_) => "shared_id",
            Self::Email => "email",
            Self::Phone => "phone",
        }
    }
}

/// A key that a change asserts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AssertedKey {
    #[serde(rename = "type")]
    pub key_type: KeyType,
    pub hash: KeyHash,
}

/// The key that every change asserts, before all others.
pub fn source_id(change: &Change, hasher: &Hasher) -> AssertedKey {
    let hash = KeyHash::of_source_id(hasher, &change.source, &change.subject);
    AssertedKey { key_type: KeyType::SourceId, hash }
}

/// What a view asserts beside the source id.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Asserted {
    /// Distinct, the strongest rule first, in each in the order of the view.
    pub keys: Vec<AssertedKey>,
    pub dropped: Vec<Dropped>,
}

/// The keys that a source's view asserts beside its source id.
pub fn asserted(view: &Document, policy: &Policy, hasher: &Hasher) -> Asserted {
    let mut asserted = Asserted::default();
    // The source id is one of the keys of an event.
    let keys_max = policy.limits.keys_per_event.saturating_sub(1);
    for Rule { key, .. } in &policy.rules {
        match key {
            RuleKey::SourceId => {}
            RuleKey::Email => asserted.emails(view, keys_max, policy, hasher),
        }
    }
    asserted
}

impl Asserted {
    fn emails(&mut self, view: &Document, keys_max: usize, policy: &Policy, hasher: &Hasher) {
        let Said::Value(Value::Array(emails)) = view.at("/emails") else {
            return;
        };
        for raw in emails.iter().filter_map(|email| email.get("value")?.as_str()) {
            if self.keys.len() == keys_max {
                drop_key(&mut self.dropped, KeyType::Email, DropCode::KeyLimit);
                continue;
            }
            match email_key(raw, policy) {
                Ok(normalised) => {
                    let key = AssertedKey { key_type: KeyType::Email, hash: KeyHash::of_email(hasher, &normalised) };
                    if !self.keys.contains(&key) {
                        self.keys.push(key);
                    }
                }
                Err(code) => drop_key(&mut self.dropped, KeyType::Email, code),
            }
        }
    }
}

/// The key that an event with this e-mail address asserts, for whoever looks it up.
///
/// # Errors
/// Why it is none.
pub fn of_email(raw: &str, policy: &Policy, hasher: &Hasher) -> Result<KeyHash, DropCode> {
    email_key(raw, policy).map(|normalised| KeyHash::of_email(hasher, &normalised))
}

fn email_key(raw: &str, policy: &Policy) -> Result<String, DropCode> {
    if policy.block.is_value(&text::text(raw)) {
        return Err(DropCode::Value);
    }
    let normalised = policy.email.normalise(raw).ok_or(DropCode::Invalid)?;
    let (local, domain) = email::parts(&normalised);
    if policy.block.is_role(local) {
        return Err(DropCode::Role);
    }
    if policy.block.is_domain(domain) {
        return Err(DropCode::Domain);
    }
    Ok(normalised)
}
