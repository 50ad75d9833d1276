//! How fast, how often, how long a CRM is spoken to.

use std::time::Duration;

use serde::Deserialize;

/// How fast, how often, how long: the same keys for every CRM.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliverySettings {
    /// Requests under way at once, per worker.
    pub in_flight_max: usize,
    /// Fewest that a CRM is driven down to which is slow or refuses.
    pub in_flight_min: usize,
    /// Requests per second over all workers; each takes the share of the partitions it owns. 0: no limit.
    pub requests_per_second: f64,
    /// Contacts per second that a resync of all of them asks to be driven anew. 0: no limit.
    pub resync_contacts_per_second: f64,
    /// Contacts per second that a comparison with what the CRM holds reads. 0: no limit of its own.
    pub verify_contacts_per_second: f64,
    /// Every request ends within this, connect included; nothing that could cross it is sent earlier.
    #[serde(with = "humantime_serde")]
    pub request_deadline: Duration,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Largest response body, in bytes.
    pub response_bytes_max: usize,
    /// Delay before the second try; doubled for each further one, full jitter.
    #[serde(with = "humantime_serde")]
    pub retry_delay: Duration,
    #[serde(with = "humantime_serde")]
    pub retry_delay_max: Duration,
    /// Tries before a contact is parked.
    pub tries_before_parking: u32,
    /// Delay of a parked contact; doubled for each further one up to the maximum.
    #[serde(with = "humantime_serde")]
    pub parked_delay: Duration,
    #[serde(with = "humantime_serde")]
    pub parked_delay_max: Duration,
    /// Unanswered entries of one partition before it is paused.
    pub unanswered_max: usize,
    /// Failures of contacts in a row, no success between, that pause the CRM.
    pub failures_before_pause: u32,
    /// Delay between probes of a paused CRM; doubled up to the maximum.
    #[serde(with = "humantime_serde")]
    pub probe_delay: Duration,
    #[serde(with = "humantime_serde")]
    pub probe_delay_max: Duration,
    /// Longest `Retry-After` that is believed.
    #[serde(with = "humantime_serde")]
    pub retry_after_max: Duration,
    /// How long after a create a search of the CRM may still miss it.
    #[serde(with = "humantime_serde")]
    pub search_lag: Duration,
    /// A list of the CRM that contacts refer to (countries, types) is read again once it is older.
    #[serde(with = "humantime_serde")]
    pub reference_age_max: Duration,
    /// One that lacks what a contact refers to is read again already when it is older than this.
    #[serde(with = "humantime_serde")]
    pub reference_miss_age: Duration,
    /// An event this old at a failed try is given up.
    #[serde(default, with = "humantime_serde")]
    pub max_age: Option<Duration>,
}

impl DeliverySettings {
    /// How long after it was sent a request whose answer was lost may still take effect, or escape a look-up.
    pub fn landing_time(&self) -> Duration {
        self.request_deadline + self.search_lag
    }
}
