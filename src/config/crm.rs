//! One CRM: what all kinds share, and the part of its kind.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Condition, CrmComSettings, DeliverySettings, FieldRule, LogisenseSettings, Mode, NextinteractSamSettings, OnLeave,
    PrevistoSettings, PriavaSettings,
};

/// One CRM: what all kinds share, and the part of its kind.
///
/// It is serialised for [`Fingerprint`](crate::crm::fingerprint::Fingerprint) alone: what does not shape what the CRM is sent
/// is left out.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CrmSettings {
    /// Names its topic of links, its group and its metrics; unique.
    #[serde(skip_serializing)]
    pub name: Arc<str>,
    pub kind: CrmKind,
    /// Where its API begins; http or https, without query, user or password.
    #[serde(skip_serializing)]
    pub base_url: String,
    /// Whether it is called.
    #[serde(skip_serializing)]
    pub mode: Mode,
    #[serde(skip_serializing)]
    pub delivery: DeliverySettings,
    /// What becomes of a contact that all sources deleted.
    pub on_delete: OnDelete,
    /// What becomes of a contact whose person asked to be forgotten.
    pub on_erase: OnErase,
    /// What becomes of a contact that somebody removed from the CRM.
    #[serde(skip_serializing)]
    pub on_gone: OnGone,
    /// Whether a contact that is not linked is searched for before it is created, in CRMs that can be searched.
    #[serde(skip_serializing)]
    pub find_before_create: bool,
    /// Which contacts found so are taken for ours.
    #[serde(skip_serializing)]
    pub adopt: Adopt,
    /// What a contact must be for the CRM to have it: all of these hold.
    #[serde(rename = "where")]
    pub filter: Vec<Condition>,
    /// What becomes of a contact that the CRM has and for which they hold no longer.
    pub on_leave: OnLeave,
    /// Fields of the CRM that are filled otherwise than its mapping does by itself.
    pub fields: BTreeMap<String, FieldRule>,
    /// Present exactly for the kind of this name.
    #[serde(default)]
    pub priava: Option<PriavaSettings>,
    /// Present exactly for the kind of this name.
    #[serde(default)]
    pub previsto: Option<PrevistoSettings>,
    /// Present exactly for the kind of this name.
    #[serde(default)]
    pub crm_com: Option<CrmComSettings>,
    /// Present exactly for the kind of this name.
    #[serde(default)]
    pub logisense: Option<LogisenseSettings>,
    /// Present exactly for the kind of this name.
    #[serde(default)]
    pub nextinteract_sam: Option<NextinteractSamSettings>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CrmKind {
    Priava,
    Previsto,
    CrmCom,
    Logisense,
    NextinteractSam,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    Delete,
    Deactivate,
    Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
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
