//! How it is decided who is who.

use std::{path::PathBuf, sync::Arc};

use serde::Deserialize;

use crate::privacy::Secret;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentitySettings {
    /// Keys the identity index. Losing or changing it makes every event a new contact, so another one refuses to start.
    #[serde(skip)]
    pub secret: Option<Secret>,
    pub secret_env: Option<String>,
    pub secret_file: Option<PathBuf>,
    /// Short names of sources, the most trusted first; the rest follow by recency.
    pub source_priority: Vec<Arc<str>>,
    /// Largest merged record, in bytes (`record_too_large`).
    pub record_bytes_max: usize,
    pub merge: Merge,
    /// E-mail providers that ignore dots and tags, each by its domains; the first stands for all.
    pub email_providers: Vec<Vec<Arc<str>>>,
    /// Which keys lead to a contact, the strongest first.
    pub rule: Vec<IdentityRule>,
    pub limits: IdentityLimits,
    pub guards: IdentityGuards,
    pub block: IdentityBlock,
}

/// What is done about two contacts that share a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Merge {
    /// Counted.
    Off,
    /// Counted, and told on `contact-identity-events`.
    Report,
    /// They become one where nothing speaks against it.
    Safe,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityRule {
    pub key: RuleKey,
    /// What must hold, besides limits and guards, for the key to join a source record to a contact.
    pub require: Vec<Requirement>,
    /// Whether two contacts that share the key may be merged.
    pub merges: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleKey {
    SourceId,
    Email,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    NameCompatible,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityLimits {
    /// Live source records of one source in one contact; 0: any number. A source may have a limit of its own.
    pub source_ids_per_source: usize,
    /// Distinct e-mail addresses of one contact beyond which nothing more joins it.
    pub emails: usize,
    /// Live source records of one contact.
    pub records: usize,
    /// Keys of one event, its source id among them; the rest is dropped.
    pub keys_per_event: usize,
    /// Contacts that assert a key beyond which it says nothing any more about who somebody is.
    pub generic_after: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityGuards {
    /// Facts that two source records of one contact may not disagree on.
    pub disagree: Vec<Guard>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    BirthDate,
    TaxId,
}

/// Values that are no keys, because they name no one person.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityBlock {
    /// Local parts of e-mail addresses.
    pub email_local: Vec<String>,
    /// Domains of e-mail addresses, and all below them.
    pub email_domain: Vec<String>,
    /// Patterns of values, as they are written.
    pub value_regex: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolverSettings {
    /// Events decided in one transaction.
    pub batch_events_max: usize,
    /// Decisions that panic in a row before the worker stops.
    pub panics_in_a_row_max: u32,
    /// How near the view must be to the end of the log before this worker may stand for the lease, in records.
    pub standby_lag_max: u64,
}
