//! What is allowed and yet unwise: settings that are dangerous, that have no effect, or that say less than they seem to.
//!
//! A worker takes them all; `check` tells them. An advice names its key, what stands there, what follows from it, and what to
//! do instead, as a fault does. The bounds here are no limits: they say from where on somebody should have meant it.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use humantime_serde::re::humantime::format_duration;
use serde::Serialize;

use super::{
    Adopt, CrmKind, CrmSettings, Fault, FormClear, LogKind, Mode, OnDelete, OnErase, PriavaAuth, PriavaSettings,
    SearchKey, Settings,
};
use crate::crm;

/// How much a finding of `check` matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing works until it is mended.
    Error,
    /// It works, and costs something.
    Warning,
    /// Worth knowing, and perhaps meant so.
    Note,
}

/// An advice: a fault that is none, with how much it matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    pub severity: Severity,
    #[serde(flatten)]
    pub fault: Fault,
}

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A weekend, and the Monday on which somebody sees it.
const OUTAGE: Duration = DAY.saturating_mul(3);
/// Longer, and a dead worker is missed.
const TAKE_OVER_MAX: Duration = Duration::from_secs(2 * 60);
/// What Kubernetes grants a process that is asked to stop, unless it is told otherwise.
const GRACE: Duration = Duration::from_secs(30);

/// All that is allowed and unwise in `settings`, the gravest first.
pub fn advice(settings: &Settings) -> Vec<Advice> {
    let mut told = Told::default();
    match settings.log.kind {
        LogKind::Kafka => kafka(settings, &mut told),
        LogKind::Local => local(settings, &mut told),
    }
    retention(settings, &mut told);
    sources(settings, &mut told);
    addresses(settings, &mut told);
    for (index, crm) in settings.crm.iter().enumerate() {
        of_crm(&format!("crm[{index}]"), crm, settings, &mut told);
    }
    told.0.sort_by_key(|advice| advice.severity);
    told.0
}

#[derive(Default)]
struct Told(Vec<Advice>);

impl Told {
    fn add(&mut self, severity: Severity, key: &str, value: Option<String>, reason: impl Into<String>, remedy: &str) {
        let (reason, remedy) = (reason.into(), remedy.to_owned());
        self.0.push(Advice { severity, fault: Fault { key: key.to_owned(), value, line: None, reason, remedy } });
    }

    fn warn(&mut self, key: &str, value: impl ToString, reason: impl Into<String>, remedy: &str) {
        self.add(Severity::Warning, key, Some(value.to_string()), reason, remedy);
    }

    fn note(&mut self, key: &str, value: impl ToString, reason: impl Into<String>, remedy: &str) {
        self.add(Severity::Note, key, Some(value.to_string()), reason, remedy);
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn lasting(duration: Duration) -> String {
    quoted(&format_duration(duration).to_string())
}

fn kafka(settings: &Settings, told: &mut Told) {
    let kafka = &settings.log.kafka;
    let (replicas, insync) = (kafka.replication_factor, kafka.min_insync_replicas);
    if replicas == 1 {
        let reason = "when the one broker of a partition goes down while a transaction ends there, Kafka may leave it open for \
                      good, and everybody waits behind it";
        told.warn(
            "log.kafka.replication_factor",
            replicas,
            reason,
            "for more than a trial, set it to 3 and min_insync_replicas to 2",
        );
    } else if insync == replicas {
        let reason = "every replica must take each write, so one broker that is down stops all workers";
        told.warn("log.kafka.min_insync_replicas", insync, reason, "set it one below log.kafka.replication_factor");
    } else if insync == 1 {
        let reason = "a write counts when one broker has it, and is lost with that broker";
        told.warn("log.kafka.min_insync_replicas", insync, reason, "set it to 2");
    }
    if kafka.session_timeout > TAKE_OVER_MAX {
        let reason = "nobody takes over from a worker that died before this is over";
        told.warn("log.kafka.session_timeout", lasting(kafka.session_timeout), reason, "choose 2m or less");
    }
    if kafka.transaction_timeout > TAKE_OVER_MAX {
        let reason =
            "readers, and whoever takes over, wait this long behind the open transaction of a worker that died";
        told.warn("log.kafka.transaction_timeout", lasting(kafka.transaction_timeout), reason, "choose 2m or less");
    }
    for crm in &settings.crm {
        let deadline = crm.delivery.request_deadline;
        if kafka.drain_deadline * 4 < deadline {
            let reason = format!(
                "partitions that move leave most requests under way unfinished (request_deadline of crm {} is {}), and the next \
                 owner sends them again",
                crm.name,
                format_duration(deadline)
            );
            let remedy = "choose at least a quarter of request_deadline, or lower that";
            told.warn("log.kafka.drain_deadline", lasting(kafka.drain_deadline), reason, remedy);
            break;
        }
    }
    let shutdown = settings.worker.shutdown_deadline;
    if shutdown > GRACE {
        let reason = "Kubernetes ends a process after 30s unless it is told otherwise, and nearly done work with it";
        let remedy = "grant more than this (terminationGracePeriodSeconds, stop_grace_period, TimeoutStopSec)";
        told.note("worker.shutdown_deadline", lasting(shutdown), reason, remedy);
    }
    if !settings.worker.named {
        let reason = "the host name stands for it, so the worker is no static member: each restart moves its partitions, and \
                      whoever gets them waits until the view holds them";
        let remedy = "name each worker for good, by worker.id or worker.id_env";
        told.note("worker.id", quoted(&settings.worker.id), reason, remedy);
    }
    encryption(settings, told);
}

fn encryption(settings: &Settings, told: &mut Told) {
    let kafka = &settings.log.kafka;
    let is_remote = |server: &str| server.trim().rsplit_once(':').is_some_and(|(host, _)| !is_loopback(host));
    let property = |name: &str| kafka.properties.get(name).map(|value| value.to_ascii_uppercase());
    let protocol = property("security.protocol").unwrap_or_else(|| "PLAINTEXT".to_owned());
    if !kafka.bootstrap_servers.split(',').any(is_remote) || protocol.ends_with("SSL") {
        return;
    }
    let reason = match protocol.as_str() {
        "SASL_PLAINTEXT" => "contacts, and with mechanism PLAIN the password, travel to the brokers unencrypted",
        _ => "contacts travel to the brokers unencrypted, and nobody asks who reads them there",
    };
    let remedy = "set \"security.protocol\" to SASL_SSL under [log.kafka.properties] (needs a build with the feature ssl), or \
                  keep the brokers on a network of their own";
    told.warn("log.kafka.bootstrap_servers", quoted(&kafka.bootstrap_servers), reason, remedy);
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn local(settings: &Settings, told: &mut Told) {
    let data = &settings.worker.data;
    if data.is_relative() && settings.log_folder().is_relative() {
        let reason =
            "the log is below the folder in which the worker is started: started elsewhere, it begins a new one";
        told.note("worker.data", quoted(&data.display().to_string()), reason, "write a path that begins with /");
    }
}

fn retention(settings: &Settings, told: &mut Told) {
    let topics = &settings.topics;
    if topics.versions_retention < OUTAGE {
        let reason =
            "a CRM that is down for longer, over a weekend for example, loses its work list and needs a resync";
        told.warn("topics.versions_retention", lasting(topics.versions_retention), reason, "choose 3d or more");
    }
    if topics.tombstones_retention < DAY {
        let reason = "a worker that was away for more than half of this reads all topics anew before it works";
        told.warn("topics.tombstones_retention", lasting(topics.tombstones_retention), reason, "choose 1d or more");
    }
    if topics.dead_letters_retention < OUTAGE {
        let reason = "events that could not be read are gone before somebody had a working day to look at them";
        told.warn("topics.dead_letters_retention", lasting(topics.dead_letters_retention), reason, "choose 3d or more");
    }
    if settings.log.kind == LogKind::Local && settings.log.local.input_retention < DAY {
        let reason = "changes that came in are gone before a worker that stood still overnight has read them";
        let retention = settings.log.local.input_retention;
        told.warn("log.local.input_retention", lasting(retention), reason, "choose 1d or more");
    }
}

fn sources(settings: &Settings, told: &mut Told) {
    let unranked: Vec<_> =
        settings.source.iter().filter(|source| !settings.identity.source_priority.contains(&source.name)).collect();
    if settings.source.len() > 1 && unranked.len() > 1 {
        let names: Vec<_> = unranked.iter().map(|source| &*source.name).collect();
        let reason = format!(
            "of {} none is trusted more than the others: where they differ on a part of a contact, the most recent wins",
            names.join(", ")
        );
        let priority = quoted_list(&settings.identity.source_priority);
        told.note("identity.source_priority", priority, reason, "list them, the most trusted first");
    }
}

fn quoted_list(items: &[impl AsRef<str>]) -> String {
    let items: Vec<_> = items.iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

fn addresses(settings: &Settings, told: &mut Told) {
    let admin = &settings.admin;
    let is_open =
        |listen: &str| listen.parse::<std::net::SocketAddr>().is_ok_and(|address| !address.ip().is_loopback());
    if admin.listen.is_empty() {
        let reason = "nothing can ask whether the worker lives or is ready, and nobody sees its metrics";
        told.warn("admin.listen", "\"\"", reason, "give it an address, such as 127.0.0.1:9464");
    }
    let asks_for_token = admin.token_env.is_some() || admin.token_file.is_some();
    let is_reached = !admin.listen.is_empty() && (asks_for_token || !is_open(&admin.listen));
    if admin.operator_listen.is_empty() && !is_reached {
        let reason = "operators are answered on a loopback address, or with a token, and there is neither";
        told.warn(
            "admin.operator_listen",
            "\"\"",
            reason,
            "give it one, such as 127.0.0.1:9465, or name admin.token_file",
        );
    }
    if is_open(&settings.ingest.listen) {
        let reason = "contacts and the token of their senders travel to it unencrypted";
        let remedy = "put a proxy with TLS before it, or keep it off networks that others share";
        told.warn("ingest.listen", quoted(&settings.ingest.listen), reason, remedy);
    }
    let level = &settings.telemetry.level;
    if ["debug", "trace"].iter().any(|word| level.to_lowercase().contains(word)) {
        let reason = "so many lines slow the worker down, and hide those that matter";
        told.note("telemetry.level", quoted(level), reason, "go back to info when you have seen what you looked for");
    }
}

fn of_crm(at: &str, crm: &CrmSettings, settings: &Settings, told: &mut Told) {
    let key = |name: &str| format!("{at}.{name}");
    if crm.mode == Mode::Shadow {
        let reason = format!("nothing is sent to crm {}, only counted", crm.name);
        told.note(&key("mode"), "\"shadow\"", reason, "set it to \"live\" when that is to begin");
    }
    let url = url::Url::parse(&crm.base_url).ok();
    let is_far = url.as_ref().and_then(url::Url::host_str).is_some_and(|host| !is_loopback(host));
    if is_far && url.is_some_and(|url| url.scheme() == "http") {
        let reason = "contacts and the credential travel to it unencrypted";
        told.warn(&key("base_url"), quoted(&crm.base_url), reason, "write https");
    }
    pace(at, crm, settings, is_far, told);
    policies(at, crm, told);
    what_it_cannot_carry(at, crm, settings, told);
    if let Some(previsto) = &crm.previsto
        && (!previsto.plant_number || !previsto.search_by.contains(&SearchKey::Number))
    {
        let reason = "contacts cannot be searched for by our reference; after a lost create, one whose e-mail address and \
                      telephone are changed in the CRM meanwhile may be made twice, and one that has neither stops with \
                      ambiguous_match";
        let (name, value) = match previsto.plant_number {
            true => ("previsto.search_by", "without \"number\""),
            false => ("previsto.plant_number", "false"),
        };
        told.warn(&key(name), value, reason, "set plant_number to true, and name \"number\" in search_by");
    }
    if let Some(priava) = &crm.priava {
        of_priava(at, priava, told);
    }
    let is_markless = crm.logisense.as_ref().is_some_and(|logisense| logisense.contact_points.reference.is_empty());
    if is_markless && crm.adopt == Adopt::ByKey {
        let reason = "no contact that is there already is adopted, since none can be marked as ours";
        let remedy = "name a type of contact points that holds our reference (contact_points.reference), say with `links` who \
                      is who, or set adopt to \"never\"";
        told.warn(&key("adopt"), "\"by_key\"", reason, remedy);
    }
}

/// What is set and changes nothing.
fn of_priava(at: &str, priava: &PriavaSettings, told: &mut Told) {
    let key = |name: &str| format!("{at}.priava.{name}");
    if priava.auth == PriavaAuth::ApiToken {
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        for (name, value) in [
            ("authorization_code_env", priava.authorization_code_env.clone()),
            ("authorization_code_file", file(&priava.authorization_code_file)),
            ("refresh_token_file", file(&priava.refresh_token_file)),
        ] {
            let Some(value) = value else { continue };
            let reason = "this has no effect: auth is \"api_token\", and nobody exchanges a grant";
            told.warn(&key(name), quoted(&value), reason, "set auth to \"oauth2\", or leave it out");
        }
    }
    if !priava.organisations && !priava.organisation_field_names.is_empty() {
        let reason = "this has no effect: organisations are not sent";
        told.warn(&key("organisation_field_names"), "{ … }", reason, "set organisations to true, or leave it out");
    }
}

fn pace(at: &str, crm: &CrmSettings, settings: &Settings, is_far: bool, told: &mut Told) {
    let delivery = &crm.delivery;
    let key = |name: &str| format!("{at}.delivery.{name}");
    if delivery.request_deadline > TAKE_OVER_MAX {
        let reason = "whoever takes over from a dead worker waits this long before anything is sent to this CRM";
        told.warn(&key("request_deadline"), lasting(delivery.request_deadline), reason, "choose 2m or less");
    }
    if delivery.connect_timeout == delivery.request_deadline {
        let reason = "a connection that takes this long leaves no time for an answer";
        told.warn(
            &key("connect_timeout"),
            lasting(delivery.connect_timeout),
            reason,
            "choose less than request_deadline",
        );
    }
    if is_far && delivery.requests_per_second == 0.0 {
        let reason = "nothing bounds the requests per second, and a resync sends all contacts at once";
        told.warn(&key("requests_per_second"), "0", reason, "set it to what the CRM's contract grants");
    }
    let Some(max_age) = delivery.max_age else { return };
    if max_age <= delivery.parked_delay {
        let reason = format!(
            "a parked contact is never tried again: its first further try, after parked_delay ({}), comes too late",
            format_duration(delivery.parked_delay)
        );
        told.warn(&key("max_age"), lasting(max_age), reason, "choose more than parked_delay, or leave it out");
    } else if max_age < HOUR {
        let reason = "a fault of an hour with one contact gives its changes up";
        told.warn(&key("max_age"), lasting(max_age), reason, "choose 1h or more, or leave it out");
    }
    if max_age > settings.topics.versions_retention {
        let reason = "this has no effect: entries are gone before, with topics.versions_retention";
        told.note(&key("max_age"), lasting(max_age), reason, "leave it out, or choose less");
    }
}

/// What is asked for and the kind cannot do.
fn policies(at: &str, crm: &CrmSettings, told: &mut Told) {
    let key = |name: &str| format!("{at}.{name}");
    let marks_active = crm.crm_com.as_ref().is_some_and(|crm_com| crm_com.user_defined.contains_key("/active"));
    let archives = crm.previsto.as_ref().is_some_and(|previsto| previsto.archived_on_update);
    let clears = crm.previsto.as_ref().is_some_and(|previsto| previsto.clear_with != FormClear::Omit);
    let deletes = match (crm.kind, crm.on_delete) {
        (_, OnDelete::Keep)
        | (CrmKind::Priava, OnDelete::Deactivate)
        | (CrmKind::Previsto | CrmKind::Logisense, OnDelete::Delete) => true,
        (CrmKind::CrmCom, OnDelete::Deactivate) => marks_active,
        (CrmKind::Previsto, OnDelete::Deactivate) => archives,
        (CrmKind::Priava | CrmKind::CrmCom, OnDelete::Delete)
        | (CrmKind::Logisense, OnDelete::Deactivate)
        | (CrmKind::NextinteractSam, _) => false,
    };
    if !deletes {
        let value = quoted(if crm.on_delete == OnDelete::Delete { "delete" } else { "deactivate" });
        let reason = "this kind of CRM cannot do that under these settings: contacts that all sources deleted stay there as they \
                      are, and their events end as unsupported";
        told.warn(&key("on_delete"), value, reason, "choose what it can do, or \"keep\" to say that it is meant");
    }
    let erases = match (crm.kind, crm.on_erase) {
        (_, OnErase::Keep) | (CrmKind::Previsto | CrmKind::Logisense, OnErase::Delete) => true,
        (CrmKind::Previsto, OnErase::Blank) => clears,
        (_, OnErase::Blank) => true,
        (_, OnErase::Delete) => false,
    };
    if !erases {
        let value = quoted(if crm.on_erase == OnErase::Delete { "delete" } else { "blank" });
        let reason = "this kind of CRM cannot do that under these settings: it goes on holding people who asked to be forgotten, \
                      and their events end as unsupported";
        told.warn(&key("on_erase"), value, reason, "choose what it can do");
    }
    if crm.on_erase == OnErase::Keep {
        let reason = "this CRM goes on holding people who asked to be forgotten";
        told.warn(
            &key("on_erase"),
            "\"keep\"",
            reason,
            "choose \"blank\" or \"delete\", or have somebody forget them by hand",
        );
    }
}

/// What a CRM cannot carry, for each reason, and the consents whose withdrawal it cannot be told.
fn what_it_cannot_carry(at: &str, crm: &CrmSettings, settings: &Settings, told: &mut Told) {
    let Ok(connector) = crm::connector(crm, &settings.instance) else { return };
    let key = format!("{at}.fields");
    let untold: Vec<&str> =
        crm::CONSENTS.into_iter().filter(|consent| connector.consent_field(consent).is_none()).collect();
    if !untold.is_empty() {
        let reason = format!(
            "crm {} cannot be told that a person withdrew a consent, it is only counted (consent_not_expressible_total): {}",
            crm.name,
            untold.join(", ")
        );
        let remedy = "tell its users, or give it a field of the CRM";
        told.add(Severity::Warning, &key, None, reason, remedy);
    }
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for loss in connector.cannot_carry() {
        by_reason.entry(loss.why).or_default().push(loss.field);
    }
    for (why, mut fields) in by_reason {
        fields.sort_unstable();
        let reason = format!("crm {} does not get, {why}: {}", crm.name, fields.join(", "));
        told.add(Severity::Note, &key, None, reason, "give a field of the CRM to what it is to get");
    }
}
