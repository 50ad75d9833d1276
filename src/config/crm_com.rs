//! Settings of a CRM.COM connection.
//!
//! CRM.COM documents its fields well, and neither its errors nor what a null, an empty set or a removal do. Each answer
//! that had to be assumed stands here as a default. What a tenant decides by itself (the meaning of its user-defined
//! fields, its categories, groups and countries) is a table.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::StreetNumber;
use crate::crm::FailureClass;

/// How one tenant of CRM.COM is spoken to. Defaults: table `crm_com` of the reference configuration.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CrmComSettings {
    /// What `secret` is: the password of a user, or a web API key.
    #[serde(skip_serializing)]
    pub login: CrmComLogin,
    /// Of a login by user: who logs in.
    #[serde(skip_serializing)]
    pub username: String,
    /// Of a login by user: the organisation to log in to.
    #[serde(skip_serializing)]
    pub organisation: String,
    /// Id of the organisational unit to work for; empty: not sent.
    #[serde(skip_serializing)]
    pub unit: String,
    /// Name of the environment variable that holds the password or web API key. Exactly one of this and `secret_file` is
    /// set.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub secret_env: Option<String>,
    /// File that holds it; white space around it is ignored. Read again when it is refused.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub secret_file: Option<PathBuf>,
    /// How long a token lasts that does not say so itself.
    #[serde(with = "humantime_serde")]
    #[serde(skip_serializing)]
    pub token_life: Duration,
    /// How long before its end a token is renewed.
    #[serde(with = "humantime_serde")]
    #[serde(skip_serializing)]
    pub renew_before: Duration,
    /// Between two logins.
    #[serde(with = "humantime_serde")]
    #[serde(skip_serializing)]
    pub login_interval: Duration,
    /// Whether the token is given back when the worker stops.
    #[serde(skip_serializing)]
    pub release_token: bool,
    /// User-defined field of text that holds the contact id. What a user fills in there is overwritten.
    pub external_ref_slot: String,
    /// User-defined field of text that names this installation; empty: not sent.
    pub source_slot: String,
    /// JSON pointer of an attribute of the document to the user-defined field that holds it.
    pub user_defined: BTreeMap<String, String>,
    /// What is searched for before a contact is created, in this order.
    #[serde(skip_serializing)]
    pub search_by: Vec<CrmComKey>,
    /// How a telephone number is written in a search.
    #[serde(skip_serializing)]
    pub phone_search: CrmComPhoneSearch,
    /// Contacts asked for in one page of a search.
    #[serde(skip_serializing)]
    pub page_size: u32,
    /// Pages read of one search; a search that has more is not decided.
    #[serde(skip_serializing)]
    pub search_pages_max: u32,
    /// Whether a search says how many contacts it wants and how many to skip; releases before R13 know neither.
    #[serde(skip_serializing)]
    pub send_paging: bool,
    /// What of ours `vat_registration_number` searches for.
    #[serde(skip_serializing)]
    pub vat_search: CrmComVatSearch,
    /// `status.code` by which a search that succeeded says that it found nothing.
    #[serde(skip_serializing)]
    pub no_hits_codes: BTreeSet<String>,
    /// Whether answers are asked for by the names of what is needed of them.
    #[serde(skip_serializing)]
    pub send_fields_set: bool,
    /// Whether an entry of a set is named by its id or by its type.
    #[serde(skip_serializing)]
    pub entry_by: CrmComEntryBy,
    /// What an update carries of `demographics` and `company_profile`.
    #[serde(skip_serializing)]
    pub object_updates: CrmComObjectUpdates,
    /// Types for what a set has no type of its own for, or has one already.
    pub overflow_types: Vec<String>,
    /// Whether the primary entry of a set is marked as such.
    pub send_primary: bool,
    /// Which members an address has.
    pub address_format: CrmComAddressFormat,
    /// Which members of an address hold the parts of the document's.
    pub address_parts: CrmComAddressParts,
    /// What takes the place of a street that an address has none of, in this order; an address that has none of them
    /// either is left out.
    pub without_street: Vec<CrmComStreet>,
    /// Whether a house number goes before or after the street, where both are in one text.
    pub street_number: StreetNumber,
    /// Country of telephone numbers that are written without one (ISO 3166-1 alpha-2); empty: they are left out.
    pub phone_country: String,
    /// How a country is named, in this order: the next way is taken when the tenant does not know one.
    pub country_by: Vec<CrmComCountryBy>,
    /// `status.code` of a write that names what the tenant does not have.
    #[serde(skip_serializing)]
    pub unknown_reference_codes: BTreeSet<String>,
    /// ISO 3166-1 alpha-2 code to the country's name, or `id:` and its id, in the tenant's table.
    pub countries: BTreeMap<String, String>,
    /// ISO 639-1 code to CRM.COM's word for a language. Empty: none.
    pub languages: BTreeMap<String, String>,
    /// What a document says of the organisation's type, to the category in CRM.COM.
    pub categories: BTreeMap<String, String>,
    pub category_by: String,
    /// What a document says of the owner, to the group in CRM.COM.
    pub groups: BTreeMap<String, String>,
    pub group_by: String,
    /// Value of the free attribute `privacyLevel`, to the level in CRM.COM.
    pub privacy_levels: BTreeMap<String, String>,
    pub privacy_level_by: String,
    /// What a document says of the industry, to the industry in CRM.COM.
    pub industries: BTreeMap<String, String>,
    pub industry_by: String,
    /// What a document says of the market sector, to the industry sector in CRM.COM.
    pub industry_sectors: BTreeMap<String, String>,
    pub industry_sector_by: String,
    /// Largest photo that is sent, in bytes; 0: none is.
    pub photo_bytes_max: usize,
    /// Media types of the photos that are sent.
    pub photo_types: Vec<String>,
    /// Whether a photo that is added takes the place of the one before; otherwise that one is removed first.
    #[serde(skip_serializing)]
    pub photo_replaces: bool,
    /// What a relation that is added calls the other contact.
    #[serde(skip_serializing)]
    pub relation_party: String,
    /// What a document says that a contact is to another, to CRM.COM's type of relation. Its own types need not be listed.
    pub relation_types: BTreeMap<String, String>,
    /// Whether notes are sent.
    pub send_notes: bool,
    /// Fields (CRM.COM's names, dotted within objects and sets) that keep their value when the record has none.
    pub never_cleared: BTreeSet<String>,
    /// Stand in for names, which cannot be empty, once a person is to be forgotten.
    pub blank_first_name: String,
    pub blank_last_name: String,
    pub blank_company_name: String,
    /// `status.code` of an answer to failure class, before the built-in reading.
    #[serde(skip_serializing)]
    pub code_classes: BTreeMap<String, FailureClass>,
    /// Part of the message of an answer, in lower case, to failure class; for codes that nothing else gives one.
    #[serde(skip_serializing)]
    pub message_classes: BTreeMap<String, FailureClass>,
    /// HTTP status to failure class, for answers whose code says nothing.
    #[serde(skip_serializing)]
    pub status_classes: BTreeMap<String, FailureClass>,
}

/// By part of an address of the document, the member of CRM.COM's that holds it. Empty: none.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CrmComAddressParts {
    pub locality: String,
    pub district: String,
    pub region: String,
    pub postal_code: String,
    pub po_box: String,
}

impl CrmComAddressParts {
    /// Each part by its key, with its member.
    pub(crate) fn each(&self) -> [(&'static str, &str); 5] {
        let Self { locality, district, region, postal_code, po_box } = self;
        [
            ("locality", locality),
            ("district", district),
            ("region", region),
            ("postal_code", postal_code),
            ("po_box", po_box),
        ]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrmComLogin {
    User,
    WebApiKey,
}

/// What a contact can be searched for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrmComKey {
    EmailAddress,
    PhoneNumber,
    VatRegistrationNumber,
    IdNumber,
    PassportNumber,
    SocialSecurityNumber,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrmComPhoneSearch {
    /// Country calling code and national part.
    Full,
    National,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrmComVatSearch {
    VatRegistrationNumber,
    RegistrationNumber,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrmComObjectUpdates {
    /// What differs: a member that is absent stays as it is.
    Members,
    /// All of an object of which something differs: a member that is absent is cleared.
    Whole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrmComEntryBy {
    Id,
    Type,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CrmComAddressFormat {
    /// Street, number, floor and apartment each by itself.
    CrmCom,
    /// All of them in one line.
    International,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CrmComStreet {
    PoBox,
    Locality,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CrmComCountryBy {
    TwoCharacterCode,
    ThreeCharacterCode,
    /// Which holds the alpha-3 code.
    AlternativeCode,
    /// As the table `countries` has it.
    Configured,
}
