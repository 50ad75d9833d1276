//! One CRM: what all kinds share, and the part of its kind.

use std::sync::Arc;

use serde::Deserialize;

use super::{DeliverySettings, NextinteractSamSettings, PrevistoSettings, PriavaSettings};

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
    /// What becomes of a contact whose person asked to be forgotten.
    pub on_erase: OnErase,
    /// What becomes of a contact that somebody removed from the CRM.
    pub on_gone: OnGone,
    /// Whether a contact that is not linked is searched for before it is created, in CRMs that can be searched.
    pub find_before_create: bool,
    /// Which contacts found so are taken for ours.
    pub adopt: Adopt,
    /// Present exactly for the kind of this name.
    #[serde(default)]
    pub priava: Option<PriavaSettings>,
    /// Present exactly for the kind of this name.
    #[serde(default)]
    pub previsto: Option<PrevistoSettings>,
    /// Present exactly for the kind of this name.
    #[serde(default)]
    pub nextinteract_sam: Option<NextinteractSamSettings>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrmKind {
    Priava,
    Previsto,
    NextinteractSam,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    Delete,
    Deactivate,
    Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnErase {
    Delete,
    /// Every field is cleared, or overwritten where the CRM insists on one.
    Blank,
    Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnGone {
    Recreate,
    Drop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adopt {
    /// One that carries nobody's reference and has an e-mail address or a telephone number of the contact, and a name
    /// that may be theirs.
    ByKey,
    /// Only one that carries our reference.
    Never,
}
