//! contact-replicator: from a change on Kafka to every configured CRM, answered exactly once.

pub mod clock;
pub mod log;
pub mod privacy;
