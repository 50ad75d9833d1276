//! Settings of a Priava connection.
//!
//! Priava's public pages leave much open: names of fields, the polarity of a flag, what a `null` does. Each such guess
//! stands here with its guess as default, so that a tenant that behaves otherwise needs a line of configuration and not
//! a new release.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::crm::FailureClass;

/// How one tenant of Priava is spoken to. Defaults: table `priava` of the reference configuration.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PriavaSettings {
    /// How Priava is told who calls.
    #[serde(skip_serializing)]
    pub auth: PriavaAuth,
    /// Of `api_token`: name of the environment variable that holds the token. Exactly one of this and `token_file` is set.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub token_env: Option<String>,
    /// Of `api_token`: file that holds the token; white space around it is ignored. Read again when the token is refused.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub token_file: Option<PathBuf>,
    /// Header that carries the token.
    #[serde(skip_serializing)]
    pub token_header: String,
    /// Goes before the token in that header (`"Bearer "` for a bearer token).
    #[serde(skip_serializing)]
    pub token_prefix: String,
    /// Of `oauth2`: what Priava calls this program.
    #[serde(skip_serializing)]
    pub client_id: String,
    /// Of `oauth2`: name of the environment variable that holds the client secret. Exactly one of this and
    /// `client_secret_file` is set.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub client_secret_env: Option<String>,
    /// Of `oauth2`: file that holds the client secret.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub client_secret_file: Option<PathBuf>,
    /// Of `oauth2`: file that holds the refresh token of the first grant. Overwritten with each one that Priava gives in its
    /// place, so every worker has a file, and a grant, of its own. With a code it need not be there yet.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub refresh_token_file: Option<PathBuf>,
    /// Of `oauth2`: name of the environment variable that holds the authorization code of a first grant that nobody has used
    /// yet. At most one of this and `authorization_code_file` is set. A code is exchanged once, for the refresh token that
    /// `refresh_token_file` then holds, with a note of the code that it came of.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub authorization_code_env: Option<String>,
    /// Of `oauth2`: file that holds the code. It may be deleted once it is used.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub authorization_code_file: Option<PathBuf>,
    /// Of `oauth2`: as it was given with the first grant.
    #[serde(skip_serializing)]
    pub redirect_uri: String,
    /// Of `oauth2`: path of the token call below `base_url`.
    #[serde(skip_serializing)]
    pub oauth_path: String,
    /// Value of the header `TenantRegion` (`APAC`, `EU`, `US`), which goes with each call and without which there is no token
    /// call; empty: the header is not sent.
    #[serde(skip_serializing)]
    pub tenant_region: String,
    /// Path of the upsert below `base_url`.
    #[serde(skip_serializing)]
    pub path: String,
    /// Value of `integrationSrc`, part of the key under which Priava finds a contact again, so never change it; empty:
    /// the instance name.
    pub integration_src: String,
    /// What becomes of a middle name.
    pub middle_name: MiddleName,
    /// The tenant's list of titles. A title is compared without regard to case or a trailing dot and sent as it stands
    /// here; one that is not in the list is left out.
    pub titles: Vec<String>,
    /// Whether a house number goes before or after the street.
    pub street_number: StreetNumber,
    /// How a country is written.
    pub country_form: CountryForm,
    /// ISO 3166-1 alpha-2 code to the name in the tenant's country list, where it differs from the English short name.
    pub countries: BTreeMap<String, String>,
    /// Whether `organisation`, `organisationType` and `organisationMarketSector` are sent. Naming an organisation that
    /// Priava does not know creates it.
    pub send_organisation: bool,
    /// The tenant's lists of types and market sectors of organisations. A text is compared without regard to case and sent as
    /// it stands here; one that is not in the list is left out. Empty: any is sent.
    pub organisation_types: Vec<String>,
    pub market_sectors: Vec<String>,
    /// Whether contacts of kind organization are sent, to an endpoint of their own; otherwise their events end as
    /// `unsupported`, `kind`.
    pub organisations: bool,
    /// Path of the upsert of an organisation below `base_url`.
    #[serde(skip_serializing)]
    pub organisations_path: String,
    /// Value of `inactive` for a contact that is not active.
    pub inactive_value: bool,
    /// Namespace of `identifiers` whose value, where it is a whole number, is sent as `externalReferenceNo`, which users
    /// of Priava see; empty: not sent.
    pub external_reference_no: String,
    /// How a field that was sent once and is gone is cleared.
    pub clear_with: ClearWith,
    /// Fields (Priava's names, dotted within addresses, of organisations after `organisation:`) that keep their value in Priava when the record has none.
    pub never_cleared: BTreeSet<String>,
    /// First name of a contact whose person asked to be forgotten; Priava insists on one.
    pub placeholder_first_name: String,
    /// Last name of such a contact.
    pub placeholder_last_name: String,
    /// E-mail address of such a contact.
    pub placeholder_email: String,
    /// Name of an organisation that is to be forgotten.
    pub placeholder_organisation: String,
    /// Documented or assumed field name to the tenant's own. Names of the three addresses and of the members within
    /// them stand side by side (`postalAddress`, `suburb`).
    pub field_names: BTreeMap<String, String>,
    /// The same of organisations.
    pub organisation_field_names: BTreeMap<String, String>,
    /// HTTP status to failure class (`transient`, `throttled`, `auth`, `conflict`, `rejected`, `connection`), before the
    /// built-in reading. A 2xx is success all the same.
    #[serde(skip_serializing)]
    pub status_classes: BTreeMap<String, FailureClass>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriavaAuth {
    /// A token that never runs out, in a header.
    ApiToken,
    /// A bearer token that is renewed by a refresh token.
    Oauth2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MiddleName {
    /// Left out. The default, because `firstName` is part of the key that Priava matches by where it has no id.
    Drop,
    /// Appended to `firstName`.
    Append,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StreetNumber {
    Before,
    After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CountryForm {
    /// The English short name.
    Name,
    /// The ISO 3166-1 alpha-2 code.
    Alpha2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClearWith {
    /// An explicit `null`.
    Null,
    /// Text becomes `""`; anything else `null`.
    Empty,
    /// The field is left out: right where a write replaces the whole contact.
    Omit,
}
