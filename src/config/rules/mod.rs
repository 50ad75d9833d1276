//! What settings must hold of themselves and of each other. What concerns CRMs is in [`crm`].
//!
//! Each rule is one call that names the keys it looks at, the value at fault, the reason and the remedy. A rule over a
//! key that could not be read is left out: it would judge the default in its place.

mod crm;

use std::{collections::BTreeSet, fmt::Display, net::SocketAddr, ops::RangeInclusive, time::Duration};

use humantime_serde::re::humantime::format_duration;

use super::{IdentitySettings, KafkaSettings, Merge, RuleKey, Settings, TopicNames, TracesSettings, fault::Faults};
use crate::{log::kafka::OURS, privacy::Secret, telemetry};

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
/// Of a token with which a whole installation can be stopped, and its contacts be asked for.
const ADMIN_TOKEN_LENGTH_MIN: usize = 32;
/// Of a name in DNS.
const HOST_LENGTH_MAX: usize = 253;
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
    crm::check(settings, &mut rules);
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
    // librdkafka makes no client whose transactions could end before one of its requests does (socket.timeout.ms, 10 s).
    rules.lasting("log.kafka.transaction_timeout", kafka.transaction_timeout, 10 * SECOND..=15 * MINUTE);
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
        ("topics.audit_retention", topics.audit_retention),
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
        let told = [&names.dead_letters, &names.identity_events, &names.audit];
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
    token("ingest.token", ingest.token.as_ref(), ingest.token_env.is_some(), TOKEN_LENGTH_MIN, rules);
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

/// A secret that senders show in a header: where it stands, under keys that begin with `stem`.
fn token(stem: &str, token: Option<&Secret>, by_variable: bool, length_min: usize, rules: &mut Rules<'_>) {
    let Some(token) = token else {
        return;
    };
    let key = format!("{stem}_{}", if by_variable { "env" } else { "file" });
    let long_enough = token.expose().len() >= length_min;
    let remedy = format!("use at least {length_min} letters, for example of `openssl rand -hex {length_min}`");
    rules.require_unseen(long_enough, &key, "the token found there is short enough to be guessed", remedy);
    let sendable = token.expose().chars().all(|letter| letter.is_ascii_graphic());
    rules.require_unseen(sendable, &key, "a header cannot carry the token found there", "use visible ASCII letters");
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
    let admin = &settings.admin;
    let listen = &admin.operator_listen;
    let address = listen.parse::<SocketAddr>();
    rules.require(
        listen.is_empty() || address.is_ok(),
        &["admin.operator_listen"],
        quoted(listen),
        "this is no address to listen on",
        "write a loopback ip:port such as 127.0.0.1:9465, or \"\" for off",
    );
    let rate = admin.replays_per_second;
    rules.require(
        rate == 0.0 || (0.001..=1_000_000.0).contains(&rate),
        &["admin.replays_per_second"],
        rate,
        "this is out of bounds",
        "choose from 0.001 to 1000000, or 0 for no limit",
    );
    rules.within("admin.connections_max", admin.connections_max, 1..=65_536);
    rules.lasting("admin.header_timeout", admin.header_timeout, SECOND / 10..=5 * MINUTE);
    let has_token = admin.token_env.is_some() || admin.token_file.is_some();
    rules.require(
        has_token || address.ok().is_none_or(|address| address.ip().is_loopback()),
        &["admin.operator_listen", "admin.token_env", "admin.token_file"],
        quoted(listen),
        "whoever reaches this address could ask for contacts and stop the work on a CRM",
        "ask for a token (admin.token_env or admin.token_file), or write a loopback ip:port such as 127.0.0.1:9465",
    );
    rules.require(
        has_token || !admin.token_on_loopback,
        &["admin.token_on_loopback", "admin.token_env", "admin.token_file"],
        admin.token_on_loopback,
        "there is no token that could be asked for",
        "name one in admin.token_env or admin.token_file",
    );
    token("admin.token", admin.token.as_ref(), admin.token_env.is_some(), ADMIN_TOKEN_LENGTH_MIN, rules);
    for (index, host) in admin.hosts.iter().enumerate() {
        let is_name = !host.is_empty()
            && host.len() <= HOST_LENGTH_MAX
            && host.chars().all(|letter| letter.is_ascii_alphanumeric() || "-.".contains(letter));
        rules.require(
            is_name,
            &[&format!("admin.hosts[{index}]")],
            quoted(host),
            "this is no name of a host",
            "write a name without scheme and port, such as worker-0.contacts.example.com",
        );
    }
    rules.require(
        listen.is_empty() || *listen != settings.admin.listen,
        &["admin.operator_listen", "admin.listen"],
        quoted(listen),
        "admin.listen is the same address",
        "leave admin.operator_listen empty: a loopback address of admin.listen answers operators itself",
    );
    traces(&settings.telemetry.traces, rules);
    let level = &settings.telemetry.level;
    let holds = telemetry::is_filter(level) && !level.trim().is_empty();
    rules.require(holds, &["telemetry.level"], quoted(level), "this is no filter", "write \"info\", or as in RUST_LOG");
}

fn traces(traces: &TracesSettings, rules: &mut Rules<'_>) {
    let endpoint = url::Url::parse(&traces.endpoint);
    let holds = endpoint.is_ok_and(|url| {
        let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        matches!(url.scheme(), "http" | "https") && url.host().is_some() && url.query().is_none() && is_plain
    });
    rules.require(
        holds || !traces.is_on(),
        &["telemetry.traces.endpoint"],
        quoted(&traces.endpoint),
        "this is no address of a collector",
        "write one such as \"http://127.0.0.1:4318/v1/traces\", or \"\" for off; credentials go into headers_env or headers_file",
    );
    rules.within("telemetry.traces.ratio", traces.ratio, 0.0..=1.0);
    rules.lasting("telemetry.traces.timeout", traces.timeout, SECOND / 10..=MINUTE);
    rules.within("telemetry.traces.batch_spans_max", traces.batch_spans_max, 1..=10_000);
    rules.within("telemetry.traces.queue_spans_max", traces.queue_spans_max, 1..=1_000_000);
    rules.require(
        traces.queue_spans_max >= traces.batch_spans_max,
        &["telemetry.traces.queue_spans_max", "telemetry.traces.batch_spans_max"],
        traces.queue_spans_max,
        "a batch would never be full",
        "choose at least telemetry.traces.batch_spans_max",
    );
    rules.lasting("telemetry.traces.batch_age_max", traces.batch_age_max, SECOND / 100..=MINUTE);
    rules.require(
        !traces.service_name.is_empty(),
        &["telemetry.traces.service_name"],
        quoted(&traces.service_name),
        "nobody would know whose spans they are",
        "write a name, such as \"contact-replicator\"",
    );
}
