//! Settings of a Previsto connection.
//!
//! Previsto documents its fields well and its behaviour hardly: what a search covers, how a value is cleared, whether
//! an update may archive. Each answer that had to be assumed stands here as a default.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::StreetNumber;
use crate::crm::FailureClass;

/// How one organisation in Previsto is spoken to. Defaults: table `previsto` of the reference configuration.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PrevistoSettings {
    /// Name of the environment variable that holds the secret API key. Exactly one of this and `api_key_file` is set.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub api_key_env: Option<String>,
    /// File that holds the secret API key; white space around it is ignored. Read again when the key is refused.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub api_key_file: Option<PathBuf>,
    /// Whether `number` is ours to fill: it then holds the contact id, by which a contact is found again.
    pub plant_number: bool,
    /// Whether `meta[source]` names this installation.
    pub send_source: bool,
    /// What is searched for before a contact is created, in this order.
    #[serde(skip_serializing)]
    pub search_by: Vec<SearchKey>,
    /// Contacts asked for in one page of a search.
    #[serde(skip_serializing)]
    pub page_size: u32,
    /// Pages read of one search; a search that has more is not decided.
    #[serde(skip_serializing)]
    pub search_pages_max: u32,
    /// Goes before the name of a free attribute to make its key in `meta`. Keys that begin so are taken for ours.
    pub attribute_prefix: String,
    /// Whether free attributes that are numbers or booleans are written as text, or left out.
    pub meta_scalars: MetaScalars,
    /// Whether a house number goes before or after the street.
    pub street_number: StreetNumber,
    /// How a telephone number is written.
    pub phone_form: PhoneForm,
    /// How a position is written.
    pub location_form: LocationForm,
    /// How a field that was sent once and is gone is cleared.
    pub clear_with: FormClear,
    /// Fields (Previsto's names, `meta.` before those of `meta`) that keep their value when the record has none.
    pub never_cleared: BTreeSet<String>,
    /// Whether an update may change `archived`. If not, only a create says it.
    pub archived_on_update: bool,
    /// What stands in `name`, which cannot be empty, once a person is to be forgotten.
    pub blank_name: String,
    /// HTTP status to failure class (`transient`, `throttled`, `auth`, `conflict`, `rejected`, `gone`, `connection`),
    /// before the built-in reading. A 2xx is success all the same.
    #[serde(skip_serializing)]
    pub status_classes: BTreeMap<String, FailureClass>,
}

/// What a contact can be searched for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchKey {
    Number,
    Email,
    Phone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MetaScalars {
    Text,
    Omit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PhoneForm {
    /// `+` and digits; a number that cannot be written so is left out.
    International,
    /// As the source wrote it.
    AsWritten,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LocationForm {
    /// `location[]=` twice.
    Repeated,
    /// `location[0]=` and `location[1]=`.
    Indexed,
    /// `location=` once, with a comma between.
    Joined,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FormClear {
    /// The field with nothing behind the equals sign.
    Empty,
    /// The word `null`.
    Null,
    /// The field is left out, and keeps its value.
    Omit,
}
