//! Settings of a connection to NextInteract SAM.
//!
//! SAM documents one sample of a write and a list of errors. How rows are counted, what an absent member does, how a day
//! is written: each answer that had to be assumed stands here as a default.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{PhoneForm, StreetNumber};
use crate::crm::FailureClass;

/// How one company in SAM is spoken to. Defaults: table `nextinteract_sam` of the reference configuration.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NextinteractSamSettings {
    /// Name of the environment variable that holds the user's e-mail address. Exactly one of this and `email_file` is set.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub email_env: Option<String>,
    /// File that holds the user's e-mail address; white space around it is ignored.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub email_file: Option<PathBuf>,
    /// Name of the environment variable that holds the user's password. Exactly one of this and `password_file` is set.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub password_env: Option<String>,
    /// File that holds the user's password, or the access token of a federated user; white space around it is ignored. Read
    /// again for each login.
    #[serde(default)]
    #[serde(skip_serializing)]
    pub password_file: Option<PathBuf>,
    /// Which version of the login is used.
    #[serde(skip_serializing)]
    pub login: LoginForm,
    #[serde(skip_serializing)]
    pub app_code: AppCode,
    /// Value of `platform` in a login of version 2; empty: not sent.
    #[serde(skip_serializing)]
    pub platform: String,
    /// Value of `deviceType` where it is asked how a user is to log in.
    #[serde(skip_serializing)]
    pub device_type: String,
    /// Life of a token that comes without one.
    #[serde(with = "humantime_serde")]
    #[serde(skip_serializing)]
    pub token_life: Duration,
    /// A token with less than this left is renewed.
    #[serde(with = "humantime_serde")]
    #[serde(skip_serializing)]
    pub renew_before: Duration,
    /// Between two logins.
    #[serde(with = "humantime_serde")]
    #[serde(skip_serializing)]
    pub login_interval_min: Duration,
    /// When a locked account is tried again; absent: not before its credentials are others.
    #[serde(default, with = "humantime_serde")]
    #[serde(skip_serializing)]
    pub locked_retry_after: Option<Duration>,
    /// Contacts in one call.
    #[serde(skip_serializing)]
    pub batch_rows_max: usize,
    /// What these may take together, in bytes.
    #[serde(skip_serializing)]
    pub batch_bytes_max: usize,
    /// How long a contact waits for others to share its call.
    #[serde(with = "humantime_serde")]
    #[serde(skip_serializing)]
    pub batch_age_max: Duration,
    /// How often a contact is sent again, alone, that SAM says it has not stored.
    #[serde(skip_serializing)]
    pub unstored_retries_max: u32,
    /// Failures of a contact before an error of the company service is taken for its own.
    #[serde(skip_serializing)]
    pub company_service_tries_max: u32,
    /// What becomes of organizations.
    pub organization: OrganizationKind,
    /// How a telephone number is written.
    pub phone_form: PhoneForm,
    /// Whether a house number goes before or after the street.
    pub street_number: StreetNumber,
    /// Whether the job title is the profession of whom nothing else is said.
    pub profession_from_job_title: bool,
    /// Whether the market sector is the specialty of whom nothing else is said.
    pub specialty_from_market_sector: bool,
    /// How a day of birth is written.
    pub birth_date: BirthDateForm,
    /// Whether the owner is sent as `ownedBy`.
    pub send_owner: bool,
    /// Whether this installation is named as `contactCreatedBy`.
    pub send_source: bool,
    /// What is sent as `contactModified`.
    pub modified: StampModified,
    /// What is sent for a text of which nothing is said.
    pub clear_with: SamClear,
    /// Last name of a contact whose person asked to be forgotten; SAM insists on one.
    pub blank_last_name: String,
    /// Member of an error that holds its code.
    #[serde(skip_serializing)]
    pub error_code_key: String,
    /// HTTP status to failure class, where an answer has no known code. A 2xx is success all the same.
    #[serde(skip_serializing)]
    pub status_classes: BTreeMap<String, FailureClass>,
    /// Error code to failure class, before the documented reading.
    #[serde(skip_serializing)]
    pub code_classes: BTreeMap<String, FailureClass>,
}

/// The versions of the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginForm {
    /// Version 2.
    Json,
    /// Version 1.
    Form,
    /// Version 2 of a user whom an identity provider knows, by its access token.
    Federated,
}

/// For which application a user logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum AppCode {
    #[serde(rename = "NI")]
    Ni,
    #[serde(rename = "MY")]
    My,
}

impl AppCode {
    /// As SAM writes it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ni => "NI",
            Self::My => "MY",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrganizationKind {
    /// They end as `unsupported`.
    Unsupported,
    /// Their name is last name and company.
    LastName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BirthDateForm {
    /// Milliseconds from 1970 to the beginning of the day, UTC.
    EpochMs,
    /// `YYYY-MM-DD`.
    Date,
    Omit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StampModified {
    /// When the change was received that the record is from, in milliseconds from 1970.
    ReceivedAt,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SamClear {
    Null,
    /// `""`.
    Empty,
}
