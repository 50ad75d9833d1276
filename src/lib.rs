//! contact-replicator: from a change on Kafka to every configured CRM, answered exactly once.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod contact;
pub mod crm;
pub mod event;
pub mod identity;
pub mod log;
pub mod metrics;
pub mod privacy;
pub mod replicator;
pub mod resolver;
pub mod sandbox;
pub mod telemetry;
pub mod view;
pub mod worker;
