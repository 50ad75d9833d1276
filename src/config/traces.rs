//! The export of spans.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesSettings {
    /// Where spans are sent, with OTLP over HTTP; empty: off.
    pub endpoint: String,
    /// Where headers for the collector stand, which may be credentials.
    #[serde(default)]
    pub headers_env: Option<String>,
    #[serde(default)]
    pub headers_file: Option<PathBuf>,
    /// What was found there; values do not print.
    #[serde(skip)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The share of traces begun here that is recorded.
    pub ratio: f64,
    /// How long the collector may take for a batch.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Spans that may wait; beyond, they are lost.
    pub queue_spans_max: usize,
    /// Spans in one request.
    pub batch_spans_max: usize,
    /// How long the first span of a batch waits for others.
    #[serde(with = "humantime_serde")]
    pub batch_age_max: Duration,
    /// `service.name` of the spans.
    pub service_name: String,
    /// Further attributes of the resource.
    pub resource: BTreeMap<String, String>,
}

impl TracesSettings {
    pub fn is_on(&self) -> bool {
        !self.endpoint.is_empty()
    }
}
