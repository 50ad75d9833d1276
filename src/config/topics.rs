//! Our own topics: names, sizes, and how long what is in them stays.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;

/// Our own topics.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSettings {
    /// Goes before the name of each of our topics.
    pub prefix: String,
    /// Partition count of the topics keyed by contact. Fixed for good.
    pub partitions: u32,
    #[serde(with = "humantime_serde")]
    pub versions_retention: Duration,
    #[serde(with = "humantime_serde")]
    pub outcomes_retention: Duration,
    #[serde(with = "humantime_serde")]
    pub dead_letters_retention: Duration,
    #[serde(with = "humantime_serde")]
    pub identity_events_retention: Duration,
    #[serde(with = "humantime_serde")]
    pub audit_retention: Duration,
    /// `delete.retention.ms` of the compacted topics.
    #[serde(with = "humantime_serde")]
    pub tombstones_retention: Duration,
    pub message_bytes_max: u32,
}

/// Names of our topics, prefix included.
#[derive(Debug, Clone)]
pub struct TopicNames {
    pub records: Arc<str>,
    pub keys: Arc<str>,
    pub versions: Arc<str>,
    pub resolver: Arc<str>,
    pub outcomes: Arc<str>,
    pub dead_letters: Arc<str>,
    pub identity_events: Arc<str>,
    pub audit: Arc<str>,
    links_prefix: String,
}

impl TopicNames {
    pub fn new(prefix: &str) -> Self {
        let name = |name: &str| Arc::from(format!("{prefix}{name}"));
        Self {
            records: name("contact-records"),
            keys: name("contact-keys"),
            versions: name("contact-versions"),
            resolver: name("contact-resolver"),
            outcomes: name("contact-outcomes"),
            dead_letters: name("contact-dead-letters"),
            identity_events: name("contact-identity-events"),
            audit: name("contact-audit"),
            links_prefix: format!("{prefix}contact-links."),
        }
    }

    /// The links of one CRM.
    pub fn links(&self, crm: &str) -> Arc<str> {
        Arc::from(format!("{}{crm}", self.links_prefix))
    }
}
