//! Settings of a LogiSense connection.
//!
//! LogiSense documents the members of a contact and little of what becomes of them: how children are patched, what
//! clears a value, whether contacts can be searched. Each answer that had to be assumed stands here as a default.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{ClearWith, MiddleName, StreetNumber};
use crate::crm::FailureClass;

/// How one LogiSense Billing is spoken to. Defaults: table `logisense` of the reference configuration.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LogisenseSettings {
    /// Who logs in.
    #[serde(skip_serializing)]
    pub login: LoginAs,
    /// Of a user.
    #[serde(skip_serializing)]
    pub username: String,
    #[serde(skip_serializing)]
    pub client_id: String,
    /// Name of the environment variable that holds the password or the client secret. Exactly one of this and
    /// `secret_file` is set.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub secret_env: Option<String>,
    /// File that holds it; white space around it is ignored. Read again when it is refused.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub secret_file: Option<PathBuf>,
    /// Where tokens are given, below `base_url`.
    #[serde(skip_serializing)]
    pub login_path: String,
    /// What goes before the names of entities, below `base_url`.
    #[serde(skip_serializing)]
    pub resource_path: String,
    /// Whether a token is renewed by its refresh token, and not by a login each time.
    #[serde(skip_serializing)]
    pub refresh: bool,
    /// A token with less than this left is renewed.
    #[serde(with = "humantime_serde")]
    #[serde(skip_serializing)]
    pub renew_before: Duration,
    /// Between two logins.
    #[serde(with = "humantime_serde")]
    #[serde(skip_serializing)]
    pub login_interval_min: Duration,
    /// By what a contact is found of which nothing but its create was sent.
    #[serde(skip_serializing)]
    pub create_marker: CreateMarker,
    /// Whether `Contact/Search` is tried before all contacts are gone through.
    #[serde(skip_serializing)]
    pub search: bool,
    /// Contacts asked for in one page.
    #[serde(skip_serializing)]
    pub page_size: u32,
    /// Pages read of one walk; a walk that has more is not decided.
    #[serde(skip_serializing)]
    pub walk_pages_max: u32,
    /// What becomes of a walk that has more pages than may be read.
    #[serde(skip_serializing)]
    pub beyond_walk: BeyondWalk,
    /// Number of the first page.
    #[serde(skip_serializing)]
    pub first_page: u32,
    /// Query argument that holds the number of a page.
    #[serde(skip_serializing)]
    pub page_number_argument: String,
    /// The one that holds the size of a page; empty: not sent.
    #[serde(skip_serializing)]
    pub page_size_argument: String,
    /// The one that says whether the total may be left out; empty: not sent.
    #[serde(skip_serializing)]
    pub exclude_total_argument: String,
    /// Namesakes whose details are read after a search; where there are more, it is not decided.
    #[serde(skip_serializing)]
    pub candidates_max: u32,
    /// Type of a contact, by its name or id.
    pub contact_type: String,
    /// Type of an organisation's contact; empty: organisations are not sent.
    pub organization_contact_type: String,
    /// Free attribute that names the type of a contact; empty: none does.
    pub contact_type_attribute: String,
    /// What a contact says of the account's taxation; absent: nothing.
    #[serde(default)]
    pub is_used_for_tax: Option<bool>,
    /// What becomes of a middle name.
    pub middle_name: MiddleName,
    /// Whether a house number goes before or after the street.
    pub street_number: StreetNumber,
    /// What becomes of a contact whose country or state the tenant does not have.
    pub unknown_place: UnknownPlace,
    /// Member of a country and of a state that holds its code.
    pub code_member: String,
    /// Contact points sent of one kind, at most.
    pub points_max: usize,
    /// How a field that was sent once and is gone is cleared.
    pub clear_with: ClearWith,
    /// Fields that keep their value when the record has none.
    pub never_cleared: BTreeSet<String>,
    /// What stands in `lastName`, which cannot be empty, once a person is to be forgotten.
    pub blank_name: String,
    /// Types of contact points.
    pub contact_points: ContactPointTypes,
    /// Where a patch has the changes to children.
    #[serde(skip_serializing)]
    pub patch: PatchShape,
    /// Country codes (ISO 3166-1 alpha-2) and what the tenant's list has instead.
    pub countries: BTreeMap<String, String>,
    /// HTTP status to failure class, before the built-in reading. A 2xx is no failure by its status.
    #[serde(skip_serializing)]
    pub status_classes: BTreeMap<String, FailureClass>,
}

/// Types of contact points, by name or id. Empty: the kind is not sent.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ContactPointTypes {
    pub email: String,
    pub mobile: String,
    /// Also of a telephone of no or another kind.
    pub work: String,
    pub home: String,
    pub fax: String,
    /// Holds the contact id.
    pub reference: String,
}

/// Where a patch of a contact has the changes to its children.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PatchShape {
    /// Member that holds them; empty: they stand beside the contact's own members.
    pub details: String,
    /// Member that holds the changes to contact points.
    pub contact_points: String,
    pub contact_points_as: PatchItems,
    /// Member that holds the change to the address.
    pub address: String,
    pub address_as: PatchItems,
}

/// How changes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PatchItems {
    /// An object whose member `items` is a list of them.
    Items,
    /// A list of them.
    List,
    /// The only one there is, by itself.
    Single,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BeyondWalk {
    /// Contacts of the same name are searched for instead, where there is a search.
    Search,
    /// It is not decided.
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginAs {
    /// By user name and password.
    User,
    /// By client id and client secret.
    Client,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreateMarker {
    /// The title, which holds the contact id until the contact is whole.
    Title,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownPlace {
    /// It is sent without, and the loss counted.
    Lose,
    Reject,
}
