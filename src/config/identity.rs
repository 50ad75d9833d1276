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
    /// Source records of one contact.
    pub source_records_max: usize,
    /// Largest merged record, in bytes (`record_too_large`).
    pub record_bytes_max: usize,
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
