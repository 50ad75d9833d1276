//! Which log, and how to speak to it.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    pub kind: LogKind,
    pub kafka: KafkaSettings,
    pub local: LocalSettings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    Kafka,
    Local,
}

/// The log of a single worker, on its own disk.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalSettings {
    /// Empty: `log` below the worker's folder. [`Settings::log_folder`](super::Settings::log_folder) says which.
    pub folder: PathBuf,
    /// Size of the folder above which changes from outside are refused.
    pub bytes_max: u64,
    /// How long what came in is kept.
    #[serde(with = "humantime_serde")]
    pub input_retention: Duration,
    /// What is expired or superseded goes at least this often.
    #[serde(with = "humantime_serde")]
    pub compact_interval: Duration,
    /// How fast compaction reads.
    pub compact_bytes_per_second: u64,
    /// sled's page caches together, in bytes.
    pub cache_bytes: u64,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// `host:port`, comma between.
    pub bootstrap_servers: String,
    /// How long the broker waits for a silent member before it gives its partitions to others.
    #[serde(with = "humantime_serde")]
    pub session_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub heartbeat_interval: Duration,
    /// How long the broker keeps a transaction open whose writer went silent; readers wait behind it.
    #[serde(with = "humantime_serde")]
    pub transaction_timeout: Duration,
    /// How long a revoke waits for the drain of the partitions that leave.
    #[serde(with = "humantime_serde")]
    pub drain_deadline: Duration,
    /// Replication factor and `min.insync.replicas` of the topics that we create.
    pub replication_factor: i32,
    pub min_insync_replicas: i32,
    /// Passed to librdkafka as they are (`security.protocol`, `sasl.mechanism`, …). In the file, a name that ends in
    /// `_env` or `_file` says where the value is to be read; here it stands without that ending, with the value read.
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Properties may hold passwords: their names are shown, their values are not.
        f.debug_struct("KafkaSettings")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
