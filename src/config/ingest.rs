//! Taking events over HTTP.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::privacy::Secret;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestSettings {
    /// Address of `/events`; empty: off.
    pub listen: String,
    /// Where the token stands that a sender must show. Needed wherever others than this machine can reach the address.
    #[serde(default)]
    pub token_env: Option<String>,
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// What was found there.
    #[serde(skip)]
    pub token: Option<Secret>,
    /// Events that may wait for a decision; beyond, senders are told to come back.
    pub backlog_max: u64,
    /// Events in one batch.
    pub batch_events_max: usize,
    /// Requests whose body is read and written at once; others wait.
    pub requests_max: usize,
    /// Open connections.
    pub connections_max: usize,
    /// How long a sender may take for its headers, for its body, and a request for its turn.
    #[serde(with = "humantime_serde")]
    pub read_timeout: Duration,
}

impl IngestSettings {
    /// Where to listen; `None` if it is off.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }
}
