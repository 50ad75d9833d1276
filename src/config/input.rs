//! What is read, and from whom.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSettings {
    pub topics: Vec<InputTopicSettings>,
    /// Largest event, in bytes (`too_large`).
    pub event_bytes_max: usize,
    /// Deepest nesting of JSON (`too_deep`).
    pub event_depth_max: usize,
    /// How far ahead of our clock an event's time may be (`time_in_future`).
    #[serde(with = "humantime_serde")]
    pub future_max: Duration,
    /// Whether a source that is not listed under `[[source]]` is refused (`unknown_source`).
    pub known_sources_only: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputTopicSettings {
    pub name: Arc<str>,
    /// The source that a tombstone on this topic speaks for; without it, tombstones are dead letters.
    #[serde(default)]
    pub tombstone_source: Option<Arc<str>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// `source` of its events.
    pub uri: Arc<str>,
    /// Short name, for `source_priority`.
    pub name: Arc<str>,
    /// Country of its telephone numbers written without one (ISO 3166-1 alpha-2).
    #[serde(default)]
    pub region: Option<String>,
    /// What orders its changes; absent: `sequence`, else `time`, else log position.
    #[serde(default)]
    pub order: Option<Order>,
    /// Live source records of this source in one contact, in place of `identity.limits.source_ids_per_source`.
    #[serde(default)]
    pub source_ids_per_source: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    Sequence,
    Time,
    Log,
}
