//! What settings must hold of themselves and of each other.
//!
//! Each rule is one call that names the keys it looks at, the value at fault, the reason and the remedy. A rule over a
//! key that could not be read is left out: it would judge the default in its place.

use std::{collections::BTreeSet, fmt::Display, net::SocketAddr, ops::RangeInclusive, time::Duration};

use humantime_serde::re::humantime::format_duration;

use super::{
    CrmComLogin, CrmComSettings, CrmKind, CrmSettings, DeliverySettings, IdentitySettings, IngestSettings,
    KafkaSettings, LoginAs, LogisenseSettings, Merge, NextinteractSamSettings, PrevistoSettings, PriavaAuth,
    PriavaSettings, RuleKey, Settings, TopicNames, fault::Faults,
};
use crate::{crm, log::kafka::OURS, telemetry};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEARS: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Room for a message's headers and key beside its value, in bytes.
const ENVELOPE_BYTES: usize = 65_536;
/// Room for the parts of a record that are not contacts, in bytes.
const RECORD_OVERHEAD_BYTES: usize = 16_384;
/// Fewer letters can be guessed, and the index with them.
const SECRET_LENGTH_MIN: usize = 32;
/// Below, compaction could not begin in time.
const LOG_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// Three segments are open at times, and sled needs some for each.
const LOG_CACHE_BYTES_MIN: u64 = 3 * 8 * 1024 * 1024;
/// Kafka's limit for the name of a topic.
const TOPIC_NAME_LENGTH_MAX: usize = 249;
/// Shorter tokens can be guessed over the network.
const TOKEN_LENGTH_MIN: usize = 16;
/// What bodies of requests may take together, in bytes.
const INGEST_BYTES_MAX: usize = 1 << 30;

pub(super) fn check(settings: &Settings, faults: &mut Faults) {
    let mut rules = Rules { faults };
    names(settings, &mut rules);
    kafka(&settings.log.kafka, &mut rules);
    local(settings, &mut rules);
    worker(settings, &mut rules);
    topics(settings, &mut rules);
    input(settings, &mut rules);
    sources(settings, &mut rules);
    identity(settings, &mut rules);
    loops(settings, &mut rules);
    crms(settings, &mut rules);
    ingest(settings, &mut rules);
    outside(settings, &mut rules);
}

struct Rules<'a> {
    faults: &'a mut Faults,
}

impl Rules<'_> {
    /// `holds`, or else the first of `keys` is at fault.
    fn require(
        &mut self,
        holds: bool,
        keys: &[&str],
        value: impl Display,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if !holds && !self.faults.holds_any(keys) {
            let key = keys.first().expect("a rule looks at a key");
            self.faults.add(key, Some(value.to_string()), reason, remedy);
        }
    }

    /// As [`Rules::require`], for a value that is not to be shown.
    fn require_unseen(&mut self, holds: bool, key: &str, reason: impl Into<String>, remedy: impl Into<String>) {
        if !holds {
            self.faults.add(key, None, reason, remedy);
        }
    }

    fn within<T: PartialOrd + Display + Copy>(&mut self, key: &str, value: T, range: RangeInclusive<T>) {
        let (low, high) = (range.start(), range.end());
        self.require(
            range.contains(&value),
            &[key],
            value,
            "this is out of bounds",
            format!("choose from {low} to {high}"),
        );
    }

    fn lasting(&mut self, key: &str, value: Duration, range: RangeInclusive<Duration>) {
        let (low, high) = (format_duration(*range.start()), format_duration(*range.end()));
        let remedy = format!("choose from {low} to {high}");
        self.require(range.contains(&value), &[key], format_duration(value), "this is out of bounds", remedy);
    }

    /// `lower` lasts no longer than `upper`.
    fn ordered(&mut self, (lower_key, lower): (&str, Duration), (upper_key, upper): (&str, Duration)) {
        let reason = format!("this is longer than {upper_key} ({})", format_duration(upper));
        let remedy = format!("shorten this or lengthen {upper_key}");
        self.require(lower <= upper, &[lower_key, upper_key], format_duration(lower), reason, remedy);
    }

    /// A path below the address of a CRM.
    fn path(&mut self, key: &str, path: &str) {
        let fits = |letter: char| letter.is_ascii_graphic() && !"?#".contains(letter);
        let holds = path.starts_with('/') && path.chars().all(fits);
        self.require(holds, &[key], quoted(path), "this is no path", "begin with /, and leave out query and blanks");
    }

    /// A name of ours: it becomes part of topics, groups and labels.
    fn name(&mut self, key: &str, value: &str) {
        let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        let holds = (1..=64).contains(&value.len()) && value.chars().all(fits);
        self.require(
            holds,
            &[key],
            quoted(value),
            "this is not a name",
            "use 1 to 64 lower-case letters, digits and hyphens",
        );
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn millis(duration: Duration) -> bool {
    duration.subsec_nanos().is_multiple_of(1_000_000)
}

fn names(settings: &Settings, rules: &mut Rules<'_>) {
    rules.name("instance", &settings.instance);
    let id = &settings.worker.id;
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let holds = (1..=128).contains(&id.len()) && id.chars().all(fits);
    let remedy = "use 1 to 128 letters, digits, dots, hyphens and underscores";
    rules.require(holds, &["worker.id"], quoted(id), "this cannot name a worker", remedy);
}

fn kafka(kafka: &KafkaSettings, rules: &mut Rules<'_>) {
    let servers = &kafka.bootstrap_servers;
    let is_server = |server: &str| {
        server
            .trim()
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    let key = "log.kafka.bootstrap_servers";
    let remedy = "write host:port, with commas between several";
    rules.require(servers.split(',').all(is_server), &[key], quoted(servers), "this names no brokers", remedy);

    rules.lasting("log.kafka.session_timeout", kafka.session_timeout, 6 * SECOND..=30 * MINUTE);
    rules.lasting("log.kafka.heartbeat_interval", kafka.heartbeat_interval, SECOND / 10..=10 * MINUTE);
    rules.lasting("log.kafka.transaction_timeout", kafka.transaction_timeout, SECOND..=15 * MINUTE);
    rules.require(
        kafka.heartbeat_interval * 3 <= kafka.session_timeout,
        &["log.kafka.heartbeat_interval", "log.kafka.session_timeout"],
        format_duration(kafka.heartbeat_interval),
        "two lost heartbeats would cost the membership",
        "choose at most a third of log.kafka.session_timeout",
    );

    rules.lasting("log.kafka.drain_deadline", kafka.drain_deadline, SECOND / 10..=HOUR);
    rules.within("log.kafka.replication_factor", kafka.replication_factor, 1..=32);
    rules.require(
        (1..=kafka.replication_factor).contains(&kafka.min_insync_replicas),
        &["log.kafka.min_insync_replicas", "log.kafka.replication_factor"],
        kafka.min_insync_replicas,
        "no broker could ever take a write",
        "choose from 1 to log.kafka.replication_factor",
    );
    properties(kafka, rules);
}

/// Properties that hold a secret and may be given only by `_env` or `_file`.
const SECRET_PROPERTIES: [&str; 6] = [
    "sasl.password",
    "sasl.oauthbearer.client.secret",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.config",
];

pub(super) fn is_secret_property(name: &str) -> bool {
    SECRET_PROPERTIES.contains(&name)
}

fn properties(kafka: &KafkaSettings, rules: &mut Rules<'_>) {
    for name in kafka.properties.keys() {
        let key = format!("log.kafka.properties.{name}");
        let reason = "the program sets this itself, and its promises depend on it";
        rules.require_unseen(!OURS.contains(&name.as_str()), &key, reason, "remove it");
    }
}

fn local(settings: &Settings, rules: &mut Rules<'_>) {
    let local = &settings.log.local;
    let (folder, data) = (settings.log_folder(), &settings.worker.data);
    rules.require(
        folder != *data && folder != data.join("view"),
        &["log.local.folder", "worker.data"],
        quoted(&folder.display().to_string()),
        "this is the folder of the worker or of its view",
        "name another, or leave it empty",
    );
    rules.within("log.local.bytes_max", local.bytes_max, LOG_BYTES_MIN..=1 << 50);
    rules.lasting("log.local.input_retention", local.input_retention, HOUR..=YEARS);
    rules.require(
        millis(local.input_retention),
        &["log.local.input_retention"],
        format_duration(local.input_retention),
        "a log counts in milliseconds",
        "leave out what is finer",
    );
    rules.lasting("log.local.compact_interval", local.compact_interval, SECOND..=7 * DAY);
    rules.within("log.local.compact_bytes_per_second", local.compact_bytes_per_second, 1 << 20..=1 << 40);
    rules.within("log.local.cache_bytes", local.cache_bytes, LOG_CACHE_BYTES_MIN..=1 << 40);
}

fn worker(settings: &Settings, rules: &mut Rules<'_>) {
    let data = &settings.worker.data;
    rules.require(!data.as_os_str().is_empty(), &["worker.data"], "\"\"", "a worker needs a folder", "name one");
    rules.lasting("worker.shutdown_deadline", settings.worker.shutdown_deadline, SECOND / 10..=HOUR);
    rules.ordered(
        ("log.kafka.drain_deadline", settings.log.kafka.drain_deadline),
        ("worker.shutdown_deadline", settings.worker.shutdown_deadline),
    );
}

fn topics(settings: &Settings, rules: &mut Rules<'_>) {
    let topics = &settings.topics;
    let names = TopicNames::new(&topics.prefix);
    let longest = settings.crm.iter().map(|crm| names.links(&crm.name)).chain([names.identity_events.clone()]);
    let fits = topics.prefix.is_empty() || is_topic_name(&topics.prefix);
    let remedy = "use letters, digits, dots, hyphens and underscores; no name may pass 249 of them";
    rules.require(
        fits && longest.max_by_key(|name| name.len()).is_none_or(|name| name.len() <= TOPIC_NAME_LENGTH_MAX),
        &["topics.prefix"],
        quoted(&topics.prefix),
        "this cannot begin the name of a topic",
        remedy,
    );
    rules.within("topics.partitions", topics.partitions, 1..=10_000);
    for (key, retention) in [
        ("topics.versions_retention", topics.versions_retention),
        ("topics.outcomes_retention", topics.outcomes_retention),
        ("topics.dead_letters_retention", topics.dead_letters_retention),
        ("topics.identity_events_retention", topics.identity_events_retention),
        ("topics.tombstones_retention", topics.tombstones_retention),
    ] {
        rules.lasting(key, retention, HOUR..=YEARS);
        rules.require(
            millis(retention),
            &[key],
            format_duration(retention),
            "Kafka counts in milliseconds",
            "leave out what is finer",
        );
    }
    // The upper bound is what our producers take.
    rules.within("topics.message_bytes_max", topics.message_bytes_max, 131_072..=4_194_304);
    let room = topics.message_bytes_max as usize;
    for (key, needed) in [
        ("identity.record_bytes_max", settings.identity.record_bytes_max),
        ("input.event_bytes_max", settings.input.event_bytes_max),
    ] {
        rules.require(
            needed.saturating_add(ENVELOPE_BYTES) <= room,
            &["topics.message_bytes_max", key],
            topics.message_bytes_max,
            format!("a message at {key} ({needed}) would not fit"),
            format!("choose {} or more, or lower {key}", needed.saturating_add(ENVELOPE_BYTES)),
        );
    }
}

fn is_topic_name(name: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    (1..=TOPIC_NAME_LENGTH_MAX).contains(&name.len()) && name.chars().all(fits) && name != "." && name != ".."
}

fn input(settings: &Settings, rules: &mut Rules<'_>) {
    let input = &settings.input;
    rules.require(
        !input.topics.is_empty(),
        &["input.topics"],
        "[]",
        "there is nothing to read",
        "name a topic under [[input.topics]]",
    );
    let names = TopicNames::new(&settings.topics.prefix);
    let own = |name: &str| {
        let ours = [&names.records, &names.keys, &names.versions, &names.resolver, &names.outcomes];
        let told = [&names.dead_letters, &names.identity_events];
        ours.iter().chain(&told).any(|own| ***own == *name)
            || settings.crm.iter().any(|crm| *names.links(&crm.name) == *name)
    };
    let mut seen = BTreeSet::new();
    for (index, topic) in input.topics.iter().enumerate() {
        let key = format!("input.topics[{index}].name");
        let name = &*topic.name;
        let remedy = "use up to 249 letters, digits, dots, hyphens and underscores";
        rules.require(is_topic_name(name), &[&key], quoted(name), "this cannot name a topic", remedy);
        rules.require(
            !own(name),
            &[&key, "topics.prefix"],
            quoted(name),
            "this is a topic of our own",
            "name another team's topic",
        );
        rules.require(seen.insert(name), &[&key], quoted(name), "this topic is listed twice", "remove one of the two");
        let Some(source) = &topic.tombstone_source else {
            continue;
        };
        let key = format!("input.topics[{index}].tombstone_source");
        rules.require(
            !source.is_empty(),
            &[&key],
            quoted(source),
            "this names no source",
            "give a source's uri, or remove the key",
        );
        rules.require(
            !input.known_sources_only || settings.source.iter().any(|known| known.uri == *source),
            &[&key, "source"],
            quoted(source),
            "input.known_sources_only is set and this source is not known",
            "add a [[source]] with this uri",
        );
    }
    rules.within("input.event_bytes_max", input.event_bytes_max, 1024..=1024 * 1024);
    // serde_json stops at 128 levels of its own accord; we want to be the ones who stop.
    rules.within("input.event_depth_max", input.event_depth_max, 1..=100);
    rules.lasting("input.future_max", input.future_max, Duration::ZERO..=365 * DAY);
    rules.require(
        !input.known_sources_only || !settings.source.is_empty(),
        &["input.known_sources_only", "source"],
        input.known_sources_only,
        "no source is known, so every event would be refused",
        "add a [[source]], or set it to false",
    );
}

fn sources(settings: &Settings, rules: &mut Rules<'_>) {
    let (mut uris, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (index, source) in settings.source.iter().enumerate() {
        let key = |name: &str| format!("source[{index}].{name}");
        let (uri, name) = (key("uri"), key("name"));
        rules.require(
            !source.uri.is_empty(),
            &[&uri],
            "\"\"",
            "a source has a uri",
            "write the `source` of its events",
        );
        rules.require(
            uris.insert(&source.uri),
            &[&uri],
            quoted(&source.uri),
            "this source is listed twice",
            "remove one of the two",
        );
        rules.name(&name, &source.name);
        rules.require(
            names.insert(&source.name),
            &[&name],
            quoted(&source.name),
            "two sources have this name",
            "rename one of them",
        );
        if let Some(limit) = source.source_ids_per_source {
            rules.within(&key("source_ids_per_source"), limit, 0..=1000);
        }
        if let Some(region) = &source.region {
            let holds = region.len() == 2 && region.chars().all(|letter| letter.is_ascii_uppercase());
            rules.require(
                holds,
                &[&key("region")],
                quoted(region),
                "this is no country code",
                "write two capital letters (ISO 3166-1)",
            );
        }
    }
}

fn identity(settings: &Settings, rules: &mut Rules<'_>) {
    let identity = &settings.identity;
    if let Some(secret) = &identity.secret {
        let key = if identity.secret_env.is_some() { "identity.secret_env" } else { "identity.secret_file" };
        let long_enough = secret.expose().chars().count() >= SECRET_LENGTH_MIN;
        let remedy = format!("use at least {SECRET_LENGTH_MIN} characters, for example of `openssl rand -hex 32`");
        rules.require_unseen(long_enough, key, "the secret found there is short enough to be guessed", remedy);
    }
    let mut seen = BTreeSet::new();
    for (index, name) in identity.source_priority.iter().enumerate() {
        let key = format!("identity.source_priority[{index}]");
        let known = settings.source.iter().any(|source| source.name == *name);
        rules.require(
            known,
            &[&key, "source"],
            quoted(name),
            "no [[source]] has this name",
            "add the source, or remove the name",
        );
        rules.require(seen.insert(name), &[&key], quoted(name), "this name is listed twice", "remove one of the two");
    }
    who_is_who(identity, rules);
    let needed = settings.input.event_bytes_max.saturating_mul(2).saturating_add(RECORD_OVERHEAD_BYTES);
    rules.require(
        identity.record_bytes_max >= needed,
        &["identity.record_bytes_max", "input.event_bytes_max"],
        identity.record_bytes_max,
        "a contact with one event at input.event_bytes_max would not fit",
        format!("choose {needed} or more, or lower input.event_bytes_max"),
    );
}

fn who_is_who(identity: &IdentitySettings, rules: &mut Rules<'_>) {
    rules.require(
        identity.merge != Merge::Safe,
        &["identity.merge"],
        quoted("safe"),
        "contacts are not merged by rule yet",
        "choose \"report\", which tells what would have to be merged, or \"off\"",
    );
    let (mut keys, mut domains) = (Vec::new(), BTreeSet::new());
    for (index, rule) in identity.rule.iter().enumerate() {
        let at = format!("identity.rule[{index}]");
        let key = format!("{at}.key");
        let is_source_id = rule.key == RuleKey::SourceId;
        let reason = "the source id is the first rule, and only that";
        rules.require_unseen(is_source_id == (index == 0), &key, reason, "begin with an entry of key \"source_id\"");
        rules.require_unseen(!keys.contains(&rule.key), &key, "two rules have this key", "remove one of the two");
        keys.push(rule.key);
        let requires = format!("{at}.require");
        let reason = "nothing speaks against what a source itself calls a contact";
        rules.require_unseen(!is_source_id || rule.require.is_empty(), &requires, reason, "remove the key");
    }
    let remedy = "write an entry of key \"source_id\"";
    rules.require(!identity.rule.is_empty(), &["identity.rule"], "[]", "no event would have a contact", remedy);

    let limits = &identity.limits;
    rules.within("identity.limits.source_ids_per_source", limits.source_ids_per_source, 0..=1000);
    rules.within("identity.limits.emails", limits.emails, 1..=100);
    rules.within("identity.limits.records", limits.records, 1..=1000);
    rules.within("identity.limits.keys_per_event", limits.keys_per_event, 2..=100);
    rules.within("identity.limits.generic_after", limits.generic_after, 2..=100);

    for (index, provider) in identity.email_providers.iter().enumerate() {
        let key = format!("identity.email_providers[{index}]");
        let remedy = "list the domains of one provider, in lower case, each once";
        rules.require(!provider.is_empty(), &[&key], "[]", "a provider has a domain", remedy);
        for domain in provider {
            rules.require(is_domain(domain), &[&key], quoted(domain), "this is no domain", remedy);
            rules.require(domains.insert(domain), &[&key], quoted(domain), "this domain is listed twice", remedy);
        }
    }
    let block = &identity.block;
    for (index, local) in block.email_local.iter().enumerate() {
        let key = format!("identity.block.email_local[{index}]");
        let holds = !local.is_empty() && !local.contains('@') && local.to_lowercase() == *local;
        let remedy = "write what stands before the @, in lower case";
        rules.require(holds, &[&key], quoted(local), "no address has this local part", remedy);
    }
    for (index, domain) in block.email_domain.iter().enumerate() {
        let key = format!("identity.block.email_domain[{index}]");
        let remedy = "write the domain in lower case and ASCII, without a dot before it";
        rules.require(is_domain(domain), &[&key], quoted(domain), "this is no domain", remedy);
    }
    for (index, pattern) in block.value_regex.iter().enumerate() {
        let key = format!("identity.block.value_regex[{index}]");
        let remedy = "write it in the syntax of the Rust crate regex, which has no back-references";
        rules.require(
            regex::Regex::new(pattern).is_ok(),
            &[&key],
            quoted(pattern),
            "this is no regular expression",
            remedy,
        );
    }
}

/// A name of one or more labels as a key holds it.
fn is_domain(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.split('.').all(|label| !label.is_empty() && label.bytes().all(fits))
}

fn loops(settings: &Settings, rules: &mut Rules<'_>) {
    rules.within("resolver.batch_events_max", settings.resolver.batch_events_max, 1..=10_000);
    rules.within("resolver.panics_in_a_row_max", settings.resolver.panics_in_a_row_max, 1..=1000);
    rules.within("resolver.standby_lag_max", settings.resolver.standby_lag_max, 0..=i64::MAX.unsigned_abs());
    rules.within("view.cache_bytes", settings.view.cache_bytes, 8 * 1024 * 1024..=1 << 40);
    rules.within("view.batch_records_max", settings.view.batch_records_max, 1..=100_000);
}

fn crms(settings: &Settings, rules: &mut Rules<'_>) {
    rules.require(!settings.crm.is_empty(), &["crm"], "[]", "there is no CRM to deliver to", "add a [[crm]]");
    let mut names = BTreeSet::new();
    for (index, crm) in settings.crm.iter().enumerate() {
        let at = format!("crm[{index}]");
        let key = format!("{at}.name");
        rules.name(&key, &crm.name);
        rules.require(
            names.insert(&crm.name),
            &[&key],
            quoted(&crm.name),
            "two CRMs have this name",
            "rename one of them",
        );
        rules.require(
            &*crm.name != "resolver",
            &[&key],
            quoted(&crm.name),
            "the resolver's group and metrics have this name",
            "choose another",
        );
        base_url(&format!("{at}.base_url"), &crm.base_url, rules);
        delivery(&at, &crm.delivery, rules);
        kind(&at, crm, rules);
        for misfit in crm::misfits(crm, &settings.instance) {
            // Constants are not shown: nobody knows what they hold.
            rules.require_unseen(false, &format!("{at}.{}", misfit.key), misfit.reason, misfit.remedy);
        }
    }
}

fn kind(at: &str, crm: &CrmSettings, rules: &mut Rules<'_>) {
    let tables = [
        (CrmKind::Priava, "priava", crm.priava.is_some()),
        (CrmKind::Previsto, "previsto", crm.previsto.is_some()),
        (CrmKind::CrmCom, "crm_com", crm.crm_com.is_some()),
        (CrmKind::Logisense, "logisense", crm.logisense.is_some()),
        (CrmKind::NextinteractSam, "nextinteract_sam", crm.nextinteract_sam.is_some()),
    ];
    for (kind, name, is_there) in tables {
        let key = format!("{at}.{name}");
        if kind == crm.kind {
            let remedy = format!("write a table [crm.{name}]");
            rules.require_unseen(is_there, &key, "settings of this kind are missing", remedy);
        } else {
            rules.require_unseen(!is_there, &key, "this CRM is of another kind", "remove the table");
        }
    }
    if let Some(settings) = &crm.priava {
        priava(&format!("{at}.priava"), settings, rules);
    }
    if let Some(settings) = &crm.previsto {
        previsto(&format!("{at}.previsto"), settings, rules);
    }
    if let Some(settings) = &crm.crm_com {
        crm_com(&format!("{at}.crm_com"), settings, rules);
    }
    if let Some(settings) = &crm.logisense {
        logisense(&format!("{at}.logisense"), settings, rules);
    }
    if let Some(settings) = &crm.nextinteract_sam {
        nextinteract_sam(&format!("{at}.nextinteract_sam"), settings, rules);
    }
}

fn priava(at: &str, priava: &PriavaSettings, rules: &mut Rules<'_>) {
    let key = |name: &str| format!("{at}.{name}");
    let header = &priava.token_header;
    let holds = http::HeaderName::try_from(header.as_str()).is_ok();
    rules.require(
        holds,
        &[&key("token_header")],
        quoted(header),
        "this cannot name a header",
        "write it as in APIToken",
    );
    for (name, value) in [("token_prefix", &priava.token_prefix), ("tenant_region", &priava.tenant_region)] {
        let holds = http::HeaderValue::try_from(value.as_str()).is_ok();
        rules.require_unseen(holds, &key(name), "a header cannot carry this", "use visible letters");
    }
    rules.path(&key("path"), &priava.path);
    if priava.auth == PriavaAuth::Oauth2 {
        let missing = |value: &str| value.trim().is_empty();
        for (name, value) in [("client_id", &priava.client_id), ("redirect_uri", &priava.redirect_uri)] {
            let remedy = "write what Priava was told when the grant was made";
            rules.require(!missing(value), &[&key(name)], quoted(value), "\"oauth2\" does not work without it", remedy);
        }
        rules.path(&key("oauth_path"), &priava.oauth_path);
    }
    for (name, value) in [
        ("placeholder_first_name", &priava.placeholder_first_name),
        ("placeholder_last_name", &priava.placeholder_last_name),
    ] {
        let holds = !value.trim().is_empty();
        rules.require(holds, &[&key(name)], quoted(value), "Priava takes no contact without it", "write a word");
    }
    let email = &priava.placeholder_email;
    let holds = email
        .split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !email.contains(char::is_whitespace));
    let remedy = "write one that nobody has, as in erased@example.invalid";
    rules.require(holds, &[&key("placeholder_email")], quoted(email), "this is no e-mail address", remedy);
    for (code, name) in &priava.countries {
        let holds = code.len() == 2 && code.chars().all(|letter| letter.is_ascii_uppercase()) && !name.is_empty();
        let remedy = "write two capital letters (ISO 3166-1) and the name";
        rules.require(holds, &[&key(&format!("countries.{code}"))], quoted(name), "this names no country", remedy);
    }
    let mut names = BTreeSet::new();
    for (ours, theirs) in &priava.field_names {
        let key = key(&format!("field_names.{ours}"));
        rules.require(
            !theirs.is_empty(),
            &[&key],
            "\"\"",
            "a field has a name",
            "write the tenant's name, or remove the key",
        );
        rules.require(names.insert(theirs), &[&key], quoted(theirs), "two fields have this name", "rename one of them");
    }
    status_classes(at, priava.status_classes.keys(), rules);
}

fn status_classes<'a>(at: &str, statuses: impl Iterator<Item = &'a String>, rules: &mut Rules<'_>) {
    for status in statuses {
        let holds = status.len() == 3 && status.parse::<u16>().is_ok_and(|status| (300..=599).contains(&status));
        let key = format!("{at}.status_classes.{status}");
        rules.require_unseen(holds, &key, "this is not the status of a failure", "write a status from 300 to 599");
    }
}

fn previsto(at: &str, previsto: &PrevistoSettings, rules: &mut Rules<'_>) {
    let key = |name: &str| format!("{at}.{name}");
    let mut seen = BTreeSet::new();
    let searched = &previsto.search_by;
    rules.require(
        !searched.is_empty() && searched.iter().all(|by| seen.insert(*by)),
        &[&key("search_by")],
        format!("{searched:?}").to_lowercase(),
        "each key of a search is named once, and one at least",
        "write [\"number\", \"email\", \"phone\"], or some of them",
    );
    // Older pages of Previsto say 100, newer ones 1000.
    rules.within(&key("page_size"), previsto.page_size, 1..=1000);
    rules.within(&key("search_pages_max"), previsto.search_pages_max, 2..=1000);
    let prefix = &previsto.attribute_prefix;
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    // Our own keys are made of letters alone: with such an end, no attribute can take the place of one.
    let holds = prefix.len() <= 32 && prefix.chars().all(fits) && prefix.ends_with(['_', '-', '.']);
    rules.require(
        holds,
        &[&key("attribute_prefix")],
        quoted(prefix),
        "this does not set attributes apart",
        "use up to 32 letters and digits, and end with _, - or .",
    );
    let name = &previsto.blank_name;
    let holds = !name.trim().is_empty() && name.chars().count() <= 200 && !name.chars().any(char::is_control);
    let remedy = "use 1 to 200 visible letters";
    rules.require(holds, &[&key("blank_name")], quoted(name), "a contact in Previsto has a name", remedy);
    for field in &previsto.never_cleared {
        let known = crm::previsto::is_clearable(field, prefix);
        let remedy = "use Previsto's names, with `meta.` before those of meta";
        rules.require(known, &[&key("never_cleared")], quoted(field), "no field of this name is ever cleared", remedy);
    }
    status_classes(at, previsto.status_classes.keys(), rules);
}

fn crm_com(at: &str, crm_com: &CrmComSettings, rules: &mut Rules<'_>) {
    let key = |name: &str| format!("{at}.{name}");
    if crm_com.login == CrmComLogin::User {
        for (name, text) in [("username", &crm_com.username), ("organisation", &crm_com.organisation)] {
            let reason = "a login by user needs it";
            rules.require(!text.trim().is_empty(), &[&key(name)], quoted(text), reason, "write it as CRM.COM knows it");
        }
    }
    rules.lasting(&key("token_life"), crm_com.token_life, MINUTE..=DAY);
    rules.lasting(&key("renew_before"), crm_com.renew_before, Duration::ZERO..=HOUR);
    rules.lasting(&key("login_interval"), crm_com.login_interval, Duration::ZERO..=HOUR);
    rules.require(
        crm_com.renew_before < crm_com.token_life,
        &[&key("renew_before"), &key("token_life")],
        format_duration(crm_com.renew_before),
        "no token would ever be young enough",
        "choose less than token_life",
    );
    crm_com_slots(at, crm_com, rules);
    let mut seen = BTreeSet::new();
    let searched = &crm_com.search_by;
    rules.require(
        !searched.is_empty() && searched.iter().all(|by| seen.insert(*by)),
        &[&key("search_by")],
        format!("{} keys", searched.len()),
        "each key of a search is named once, and one at least",
        "write [\"email_address\", \"phone_number\"], or others",
    );
    rules.within(&key("page_size"), crm_com.page_size, 1..=500);
    rules.within(&key("search_pages_max"), crm_com.search_pages_max, 1..=1000);
    let mut seen = BTreeSet::new();
    for name in &crm_com.overflow_types {
        let holds = crm::crm_com::is_custom_type(name) && seen.insert(name);
        let remedy = "use CUSTOM1 to CUSTOM5, each once";
        rules.require(holds, &[&key("overflow_types")], quoted(name), "this is no type for what is left", remedy);
    }
    let is_code = |code: &str| code.len() == 2 && code.chars().all(|letter| letter.is_ascii_uppercase());
    let country = &crm_com.phone_country;
    let remedy = "write two capital letters (ISO 3166-1), or leave it empty";
    let holds = country.is_empty() || is_code(country);
    rules.require(holds, &[&key("phone_country")], quoted(country), "this names no country", remedy);
    let reason = "a country has to be named somehow";
    let remedy = "write [\"two_character_code\"], or more ways";
    rules.require(!crm_com.country_by.is_empty(), &[&key("country_by")], "[]", reason, remedy);
    for (code, name) in &crm_com.countries {
        let holds = is_code(code) && !name.is_empty() && name != "id:";
        let remedy = "write two capital letters (ISO 3166-1) and the name, or id: and the id";
        rules.require(holds, &[&key(&format!("countries.{code}"))], quoted(name), "this names no country", remedy);
    }
    for (name, by) in [
        ("category_by", &crm_com.category_by),
        ("group_by", &crm_com.group_by),
        ("privacy_level_by", &crm_com.privacy_level_by),
        ("industry_by", &crm_com.industry_by),
        ("industry_sector_by", &crm_com.industry_sector_by),
    ] {
        let holds = ["name", "id", "code", "alternative_code", "number"].contains(&by.as_str());
        let remedy = "choose from name, id, code, alternative_code, number";
        rules.require(holds, &[&key(name)], quoted(by), "nothing is named by this", remedy);
    }
    for field in &crm_com.never_cleared {
        let known = crm::crm_com::is_clearable(field);
        let remedy = "use CRM.COM's names, as in notes, demographics.gender, phone_set.CUSTOM1";
        rules.require(known, &[&key("never_cleared")], quoted(field), "no field of this name is ever cleared", remedy);
    }
    for (name, text) in [
        ("blank_first_name", &crm_com.blank_first_name),
        ("blank_last_name", &crm_com.blank_last_name),
        ("blank_company_name", &crm_com.blank_company_name),
    ] {
        let holds = !text.trim().is_empty() && text.chars().count() <= 200 && !text.chars().any(char::is_control);
        let remedy = "use 1 to 200 visible letters";
        rules.require(holds, &[&key(name)], quoted(text), "CRM.COM takes no contact without it", remedy);
    }
    status_classes(at, crm_com.status_classes.keys(), rules);
}

/// The user-defined fields of a CRM.COM: each exists, and holds one thing.
fn crm_com_slots(at: &str, crm_com: &CrmComSettings, rules: &mut Rules<'_>) {
    let key = |name: &str| format!("{at}.{name}");
    let mut taken = BTreeSet::new();
    let mut slot = |place: String, name: &str, is_text: bool| {
        let known = crm::crm_com::user_defined(name);
        let fits = if is_text { known == Some(true) } else { known.is_some() };
        let remedy = if is_text {
            "use udf_string_1 to 16"
        } else {
            "use udf_string_1 to 16, udf_float_1 to 8 or udf_date_1 to 8"
        };
        rules.require(fits, &[&place], quoted(name), "there is no such user-defined field", remedy);
        let reason = "this field holds something else already";
        rules.require(taken.insert(name.to_owned()), &[&place], quoted(name), reason, "choose another");
    };
    slot(key("external_ref_slot"), &crm_com.external_ref_slot, true);
    if !crm_com.source_slot.is_empty() {
        slot(key("source_slot"), &crm_com.source_slot, true);
    }
    for (pointer, name) in &crm_com.user_defined {
        slot(key(&format!("user_defined.{pointer}")), name, false);
    }
    for (pointer, name) in &crm_com.user_defined {
        let place = key(&format!("user_defined.{pointer}"));
        let remedy = "write a JSON pointer to one value, as in /organization/department or /attributes/shoe";
        rules.require(
            crm::crm_com::is_single(pointer),
            &[&place],
            quoted(name),
            "no document has one value there",
            remedy,
        );
    }
}

fn logisense(at: &str, logisense: &LogisenseSettings, rules: &mut Rules<'_>) {
    let key = |name: &str| format!("{at}.{name}");
    let needed = |name: &str, text: &str, remedy: &str, rules: &mut Rules<'_>| {
        let holds = !text.trim().is_empty() && text.chars().count() <= 200 && !text.chars().any(char::is_control);
        rules.require(holds, &[&key(name)], quoted(text), "LogiSense does not do without it", remedy);
    };
    if logisense.login == LoginAs::User {
        needed("username", &logisense.username, "write the name of a user, or set login = \"client\"", rules);
    }
    needed("client_id", &logisense.client_id, "write the id of the client", rules);
    needed("contact_type", &logisense.contact_type, "write a name of the list ContactType", rules);
    needed("blank_name", &logisense.blank_name, "use 1 to 200 visible letters", rules);
    needed("code_member", &logisense.code_member, "write the name of a member of Country and State", rules);
    for (name, path) in [("login_path", &logisense.login_path), ("resource_path", &logisense.resource_path)] {
        let fits = |letter: char| letter.is_ascii_graphic() && !"?#".contains(letter);
        let holds = path.starts_with('/') && !path.ends_with('/') && path.chars().all(fits);
        let remedy = "begin with /, end without, and leave out query and blanks";
        rules.require(holds, &[&key(name)], quoted(path), "this is no path", remedy);
    }
    rules.within(&key("page_size"), logisense.page_size, 2..=1000);
    rules.within(&key("walk_pages_max"), logisense.walk_pages_max, 1..=10_000);
    rules.within(&key("candidates_max"), logisense.candidates_max, 1..=1000);
    rules.within(&key("points_max"), logisense.points_max, 1..=20);
    rules.lasting(&key("renew_before"), logisense.renew_before, SECOND..=DAY);
    rules.lasting(&key("login_interval_min"), logisense.login_interval_min, Duration::ZERO..=DAY);
    for field in &logisense.never_cleared {
        let known = crm::logisense::is_clearable(field, logisense.points_max);
        let remedy = "use title, firstName, address.… or contactPoint.… as LogiSense names them";
        rules.require(known, &[&key("never_cleared")], quoted(field), "no field of this name is ever cleared", remedy);
    }
    for (code, name) in &logisense.countries {
        let holds = code.len() == 2 && code.chars().all(|letter| letter.is_ascii_uppercase()) && !name.is_empty();
        let remedy = "write two capital letters (ISO 3166-1) and what the tenant has";
        rules.require(holds, &[&key(&format!("countries.{code}"))], quoted(name), "this names no country", remedy);
    }
    status_classes(at, logisense.status_classes.keys(), rules);
}

fn nextinteract_sam(at: &str, sam: &NextinteractSamSettings, rules: &mut Rules<'_>) {
    let key = |name: &str| format!("{at}.{name}");
    let platform = &sam.platform;
    let holds = platform.len() <= 64 && platform.chars().all(|letter| letter.is_ascii_graphic() || letter == ' ');
    rules.require(
        holds,
        &[&key("platform")],
        quoted(platform),
        "this is no name",
        "use up to 64 visible letters, or none",
    );
    rules.lasting(&key("token_life"), sam.token_life, MINUTE..=DAY);
    rules.lasting(&key("renew_before"), sam.renew_before, Duration::ZERO..=HOUR);
    rules.lasting(&key("login_interval_min"), sam.login_interval_min, SECOND..=HOUR);
    if let Some(after) = sam.locked_retry_after {
        rules.lasting(&key("locked_retry_after"), after, MINUTE..=30 * DAY);
    }
    // Above, a SAM is taken to refuse the whole call.
    rules.within(&key("batch_rows_max"), sam.batch_rows_max, 1..=500);
    rules.within(&key("batch_bytes_max"), sam.batch_bytes_max, 1024..=64 * 1024 * 1024);
    rules.lasting(&key("batch_age_max"), sam.batch_age_max, Duration::ZERO..=10 * SECOND);
    rules.within(&key("unstored_retries_max"), sam.unstored_retries_max, 0..=5);
    rules.within(&key("company_service_tries_max"), sam.company_service_tries_max, 1..=1000);
    let name = &sam.blank_last_name;
    let holds = !name.trim().is_empty() && name.chars().count() <= 200 && !name.chars().any(char::is_control);
    let remedy = "use 1 to 200 visible letters";
    rules.require(holds, &[&key("blank_last_name")], quoted(name), "a contact in SAM has a last name", remedy);
    let code_key = &sam.error_code_key;
    let holds = (1..=64).contains(&code_key.len()) && code_key.chars().all(|letter| letter.is_ascii_graphic());
    let remedy = "use 1 to 64 visible letters";
    rules.require(holds, &[&key("error_code_key")], quoted(code_key), "a member of an error has a name", remedy);
    status_classes(at, sam.status_classes.keys(), rules);
    for code in sam.code_classes.keys() {
        let holds = code.len() == 4 && code.parse::<u16>().is_ok_and(|code| code >= 1000);
        let key = key(&format!("code_classes.{code}"));
        rules.require_unseen(holds, &key, "this is no code of SAM", "write a number from 1000 to 9999");
    }
}

fn base_url(key: &str, text: &str, rules: &mut Rules<'_>) {
    let remedy = "write it as in https://api.example.com/rest";
    // Never shown: it may hold a password until we know that it does not.
    let Ok(url) = url::Url::parse(text) else {
        rules.require_unseen(false, key, "this is not an absolute address", remedy);
        return;
    };
    let personal = !url.username().is_empty() || url.password().is_some();
    rules.require_unseen(
        !personal,
        key,
        "an address is no place for a user or password",
        "remove what stands before the @",
    );
    rules.require_unseen(
        url.query().is_none() && url.fragment().is_none(),
        key,
        "this has a query or a fragment",
        "remove what follows the path",
    );
    let spoken = matches!(url.scheme(), "http" | "https") && url.has_host();
    rules.require(spoken, &[key], quoted(text), "only http and https are spoken", remedy);
}

fn delivery(at: &str, delivery: &DeliverySettings, rules: &mut Rules<'_>) {
    let key = |name: &str| format!("{at}.delivery.{name}");
    let shortest = Duration::from_millis(1);
    rules.within(&key("in_flight_max"), delivery.in_flight_max, 1..=4096);
    rules.require(
        (1..=delivery.in_flight_max).contains(&delivery.in_flight_min),
        &[&key("in_flight_min"), &key("in_flight_max")],
        delivery.in_flight_min,
        format!("it is not between 1 and in_flight_max, which is {}", delivery.in_flight_max),
        "lower it, or raise in_flight_max",
    );
    for (name, rate) in [
        ("requests_per_second", delivery.requests_per_second),
        ("resync_contacts_per_second", delivery.resync_contacts_per_second),
        ("verify_contacts_per_second", delivery.verify_contacts_per_second),
    ] {
        rules.require(
            rate == 0.0 || (0.001..=1_000_000.0).contains(&rate),
            &[&key(name)],
            rate,
            "this is out of bounds",
            "choose from 0.001 to 1000000, or 0 for no limit",
        );
    }
    rules.lasting(&key("request_deadline"), delivery.request_deadline, 100 * shortest..=5 * MINUTE);
    rules.lasting(&key("connect_timeout"), delivery.connect_timeout, shortest..=5 * MINUTE);
    rules.within(&key("response_bytes_max"), delivery.response_bytes_max, 1024..=64 * 1024 * 1024);
    rules.within(&key("tries_before_parking"), delivery.tries_before_parking, 1..=100);
    rules.within(&key("unanswered_max"), delivery.unanswered_max, 1..=100_000);
    rules.within(&key("failures_before_pause"), delivery.failures_before_pause, 1..=100_000);
    for (name, delay) in [
        ("retry_delay", delivery.retry_delay),
        ("retry_delay_max", delivery.retry_delay_max),
        ("parked_delay", delivery.parked_delay),
        ("parked_delay_max", delivery.parked_delay_max),
        ("probe_delay", delivery.probe_delay),
        ("probe_delay_max", delivery.probe_delay_max),
        ("retry_after_max", delivery.retry_after_max),
        ("reference_age_max", delivery.reference_age_max),
        ("reference_miss_age", delivery.reference_miss_age),
    ] {
        rules.lasting(&key(name), delay, shortest..=30 * DAY);
    }
    rules.lasting(&key("search_lag"), delivery.search_lag, Duration::ZERO..=60 * MINUTE);
    if let Some(max_age) = delivery.max_age {
        rules.lasting(&key("max_age"), max_age, Duration::from_secs(1)..=36_500 * DAY);
        rules.require(
            max_age > delivery.request_deadline,
            &[&key("max_age"), &key("request_deadline")],
            format_duration(max_age),
            "an event would be given up at its first failure",
            format!("choose more than request_deadline ({})", format_duration(delivery.request_deadline)),
        );
    }
    for (lower, upper) in [
        (("connect_timeout", delivery.connect_timeout), ("request_deadline", delivery.request_deadline)),
        (("retry_delay", delivery.retry_delay), ("retry_delay_max", delivery.retry_delay_max)),
        (("parked_delay", delivery.parked_delay), ("parked_delay_max", delivery.parked_delay_max)),
        (("probe_delay", delivery.probe_delay), ("probe_delay_max", delivery.probe_delay_max)),
        (("reference_miss_age", delivery.reference_miss_age), ("reference_age_max", delivery.reference_age_max)),
    ] {
        rules.ordered((&key(lower.0), lower.1), (&key(upper.0), upper.1));
    }
}

fn ingest(settings: &Settings, rules: &mut Rules<'_>) {
    let ingest = &settings.ingest;
    rules.within("ingest.batch_events_max", ingest.batch_events_max, 1..=10_000);
    rules.within("ingest.backlog_max", ingest.backlog_max, 1..=1_000_000_000);
    rules.require(
        ingest.backlog_max >= ingest.batch_events_max as u64,
        &["ingest.backlog_max", "ingest.batch_events_max"],
        ingest.backlog_max,
        "the largest batch could never be taken",
        "choose at least ingest.batch_events_max",
    );
    rules.within("ingest.requests_max", ingest.requests_max, 1..=1024);
    rules.within("ingest.connections_max", ingest.connections_max, 1..=65_536);
    rules.require(
        ingest.connections_max >= ingest.requests_max,
        &["ingest.connections_max", "ingest.requests_max"],
        ingest.connections_max,
        "there could never be so many requests as ingest.requests_max",
        "choose at least ingest.requests_max",
    );
    rules.lasting("ingest.read_timeout", ingest.read_timeout, SECOND / 10..=5 * MINUTE);
    if ingest.listen.is_empty() {
        return;
    }
    let Some(address) = ingest.address() else {
        let remedy = "write ip:port, or \"\" for off";
        rules.require(false, &["ingest.listen"], quoted(&ingest.listen), "this is no address to listen on", remedy);
        return;
    };
    rules.require(
        address.ip().is_loopback() || ingest.token_env.is_some() || ingest.token_file.is_some(),
        &["ingest.listen", "ingest.token_env", "ingest.token_file"],
        quoted(&ingest.listen),
        "whoever reaches this address could publish changes of any contact",
        "ask for a token (ingest.token_env or ingest.token_file), or listen on 127.0.0.1",
    );
    token(ingest, rules);
    let event = settings.input.event_bytes_max;
    let bodies = ingest.requests_max.saturating_mul(ingest.batch_events_max).saturating_mul(event);
    rules.require(
        bodies <= INGEST_BYTES_MAX,
        &["ingest.requests_max", "ingest.batch_events_max", "input.event_bytes_max"],
        ingest.requests_max,
        format!("so many batches at their largest take {bodies} bytes, over {INGEST_BYTES_MAX}"),
        "lower this, ingest.batch_events_max or input.event_bytes_max",
    );
}

fn token(ingest: &IngestSettings, rules: &mut Rules<'_>) {
    let Some(token) = &ingest.token else {
        return;
    };
    let key = if ingest.token_env.is_some() { "ingest.token_env" } else { "ingest.token_file" };
    let long_enough = token.expose().len() >= TOKEN_LENGTH_MIN;
    let remedy = format!("use at least {TOKEN_LENGTH_MIN} letters, for example of `openssl rand -hex 16`");
    rules.require_unseen(long_enough, key, "the token found there is short enough to be guessed", remedy);
    let sendable = token.expose().chars().all(|letter| letter.is_ascii_graphic());
    rules.require_unseen(sendable, key, "a header cannot carry the token found there", "use visible ASCII letters");
}

fn outside(settings: &Settings, rules: &mut Rules<'_>) {
    let listen = &settings.admin.listen;
    let holds = listen.is_empty() || listen.parse::<SocketAddr>().is_ok();
    rules.require(
        holds,
        &["admin.listen"],
        quoted(listen),
        "this is no address to listen on",
        "write ip:port, or \"\" for off",
    );
    let level = &settings.telemetry.level;
    let holds = telemetry::is_filter(level) && !level.trim().is_empty();
    rules.require(holds, &["telemetry.level"], quoted(level), "this is no filter", "write \"info\", or as in RUST_LOG");
}
