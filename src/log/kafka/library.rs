//! What librdkafka says of itself.

use rdkafka::{ClientConfig, util::get_rdkafka_version};

/// The library that is linked, and what it was built with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    pub version: String,
    /// Names with commas between, as its property `builtin.features` has them.
    pub features: String,
}

pub fn library() -> Library {
    let (_, version) = get_rdkafka_version();
    let features = ClientConfig::new().create_native_config().and_then(|config| config.get("builtin.features"));
    Library { version, features: features.unwrap_or_else(|_absent| "features unknown".to_owned()) }
}
