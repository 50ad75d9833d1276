//! Settings, typed and checked; every default stands in `config/reference.toml`, which the program itself parses.
//!
//! A file of the operator is laid over the reference ([`load`]), read into the structs of this folder (one file per
//! area), its secrets are fetched ([`secrets`]), and what fields must hold of each other is checked ([`rules`]). All
//! faults are found in one go, because an operator who mends one fault at a time restarts as often as there are faults.
//!
//! What exists as [`Settings`] is valid: modules take their area as it is and check nothing again. Keys have no default
//! in code, so that the reference cannot lie; an `Option` is a key that may be left out. Editors are told the same by a
//! JSON Schema ([`json_schema()`]), which is made of both.
//!
//! Whoever wants to look at a file rather than to use it reads it as a [`Reading`]: what holds and where it comes from
//! ([`effective`]), what is wrong, and what is allowed and yet unwise ([`advice()`]).

mod advice;
mod crm;
mod crm_com;
mod delivery;
mod effective;
mod fault;
mod identity;
mod ingest;
mod input;
mod json_schema;
mod load;
mod log;
mod logisense;
mod mapping;
mod nextinteract_sam;
mod places;
mod previsto;
mod priava;
mod reading;
mod rules;
mod secrets;
mod shape;
#[cfg(test)]
mod tests;
mod topics;
mod traces;

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde::Deserialize;

use crate::privacy::Secret;

pub use self::{
    advice::{Advice, Severity, advice},
    crm::{Adopt, CrmKind, CrmSettings, OnDelete, OnErase, OnGone},
    crm_com::{
        CrmComAddressFormat, CrmComAddressParts, CrmComCountryBy, CrmComEntryBy, CrmComKey, CrmComLogin,
        CrmComObjectUpdates, CrmComPhoneSearch, CrmComSettings, CrmComStreet, CrmComVatSearch,
    },
    delivery::DeliverySettings,
    effective::{Effective, Holds, Origin, SecretPlace},
    fault::{ConfigError, Fault},
    identity::{
        Guard, IdentityBlock, IdentityGuards, IdentityLimits, IdentityRule, IdentitySettings, Merge, Requirement,
        ResolverSettings, RuleKey,
    },
    ingest::IngestSettings,
    input::{InputSettings, InputTopicSettings, Order, SourceSettings},
    json_schema::json_schema,
    load::REFERENCE,
    log::{KafkaSettings, LocalSettings, LogKind, LogSettings},
    logisense::{
        BeyondWalk, ContactPointTypes, CreateMarker, LoginAs, LogisenseSettings, PatchItems, PatchShape, UnknownPlace,
    },
    mapping::{Condition, FieldRule, Mode, OnLeave, RuleTable},
    nextinteract_sam::{
        AppCode, BirthDateForm, LoginForm, NextinteractSamSettings, OrganizationKind, SamClear, StampModified,
    },
    previsto::{FormClear, LocationForm, MetaScalars, PhoneForm, PrevistoSettings, SearchKey},
    priava::{ClearWith, CountryForm, MiddleName, PriavaAuth, PriavaSettings, StreetNumber},
    reading::Reading,
    secrets::Surroundings,
    topics::{TopicNames, TopicSettings},
    traces::TracesSettings,
};

/// The whole configuration, checked. Read it with [`Settings::load`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Names the installation: prefix of groups and transactional ids, and `source` of what it publishes.
    pub instance: Arc<str>,
    pub worker: WorkerSettings,
    pub log: LogSettings,
    pub topics: TopicSettings,
    pub input: InputSettings,
    pub source: Vec<SourceSettings>,
    pub identity: IdentitySettings,
    pub resolver: ResolverSettings,
    pub view: ViewSettings,
    pub outcomes: OutcomeSettings,
    pub crm: Vec<CrmSettings>,
    pub ingest: IngestSettings,
    pub admin: AdminSettings,
    pub telemetry: TelemetrySettings,
}

impl Settings {
    /// The folder of the log of kind "local".
    pub fn log_folder(&self) -> PathBuf {
        let folder = &self.log.local.folder;
        if folder.as_os_str().is_empty() { self.worker.data.join("log") } else { folder.clone() }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerSettings {
    /// Names the process, stable over restarts. Empty in the file: the host name, which then stands here.
    pub id: Arc<str>,
    /// Environment variable that holds the id, where workers share one file.
    pub id_env: Option<String>,
    /// Whether the operator chose the id; a host name may be given to another host.
    #[serde(skip)]
    pub named: bool,
    /// Topics of ours that the operator says may have been replaced since this worker last followed them. Said when it
    /// is started, once, not in the file, which would say it for ever.
    #[serde(skip)]
    pub accepted_topics: Vec<Arc<str>>,
    /// Folder of this worker, locked while it runs.
    pub data: PathBuf,
    /// How long a shutdown may drain before it gives up what is in flight.
    #[serde(with = "humantime_serde")]
    pub shutdown_deadline: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewSettings {
    /// sled's page cache, in bytes.
    pub cache_bytes: u64,
    /// Records applied in one batch.
    pub batch_records_max: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeSettings {
    pub subject: SubjectForm,
}

/// How outcomes name the subject of a source whose ids are personal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectForm {
    Plain,
    Hashed,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    /// Address of `/metrics`, `/livez`, `/readyz` and, on loopback or with a token, of what operators ask; empty: off.
    pub listen: String,
    /// A second address of the same, for operators where others must reach `listen`; empty: off.
    pub operator_listen: String,
    /// Where the token stands that operators must show wherever others than this machine can reach an address.
    #[serde(default)]
    pub token_env: Option<String>,
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// What was found there when the settings were read. A file is read again.
    #[serde(skip)]
    pub token: Option<Secret>,
    /// The token is asked for on loopback, too.
    pub token_on_loopback: bool,
    /// Names of this worker, besides addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Open connections of each address.
    pub connections_max: usize,
    /// How long whoever asks may take for the headers of a request, and may say nothing between two of them.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// How fast dead letters are sent in again; 0: no limit.
    pub replays_per_second: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    pub format: LogFormat,
    /// As in `RUST_LOG`.
    pub level: String,
    pub traces: TracesSettings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}
