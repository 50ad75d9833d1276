//! One CRM: what all kinds share, and the part of its kind.

use std::sync::Arc;

use serde::Deserialize;

use super::{DeliverySettings, PriavaSettings};

/// One CRM: what all kinds share, and the part of its kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrmSettings {
    /// Names its topic of links, its group and its metrics; unique.
    pub name: Arc<str>,
    pub kind: CrmKind,
    /// Where its API begins; http or https, without query, user or password.
    pub base_url: String,
    pub delivery: DeliverySettings,
    /// What becomes of a contact that all sources deleted.
    pub on_delete: OnDelete,
    /// Present exactly for the kind of this name.
    #[serde(default)]
    pub priava: Option<PriavaSettings>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrmKind {
    Priava,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    Delete,
    Deactivate,
    Keep,
}
