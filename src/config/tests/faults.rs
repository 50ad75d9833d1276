//! How faults are told: all at once, with what stands there and what could.

use std::path::Path;

use super::{PASSWORD, faulty, parse, with};
use crate::config::{Settings, Surroundings};

#[test]
fn all_faults_are_told_at_once() {
    let faults = parse(&with(&[
        ("instance", "\"Contacts\""),
        ("nonsense", "1"),
        ("worker.shutdown_deadline", "\"soon\""),
        ("topics.partitions", "\"many\""),
        ("input.topics[0].nme", "\"x\""),
        ("identity.secret_env", "\"MISSING\""),
        ("identity.source_priority", "[\"shop\", 5]"),
        ("crm[0].kind", "\"priva\""),
        ("crm[0].delivery.in_flight_max", "-1"),
        ("crm[0].delivery.retry_delay", "\"1h\""),
        ("crm[0].base_url", ""),
        ("telemetry", "5"),
    ]))
    .expect_err("these settings are faulty");
    let mut keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "crm[0].base_url",
            "crm[0].delivery.in_flight_max",
            "crm[0].delivery.retry_delay",
            "crm[0].kind",
            "identity.secret_env",
            "identity.source_priority[1]",
            "input.topics[0].nme",
            "instance",
            "nonsense",
            "telemetry",
            "topics.partitions",
            "worker.shutdown_deadline",
        ],
        "{faults:#?}"
    );
}

#[test]
fn a_fault_says_what_stands_there_and_what_could_stand_there() {
    for (changes, key, says) in [
        (&[("nonsense", "1")][..], "nonsense", "there is no such key; known here: `instance`, `worker`"),
        (
            &[("worker.idd", "1")],
            "worker.idd",
            "was `id` meant? known here: `id`, `id_env`, `data`, `shutdown_deadline`",
        ),
        (&[("crm[0].delivery.tries", "1")], "crm[0].delivery.tries", "`tries_before_parking`"),
        (
            &[("crm[0].kind", "\"priva\"")],
            "crm[0].kind",
            "crm[0].kind = \"priva\": there is no such choice; was `priava` meant? choose from: `priava`",
        ),
        (&[("log.kind", "\"pulsar\"")], "log.kind", "choose from: `kafka` or `local`"),
        (&[("log.local.folder", "\"data/view\"")], "log.local.folder", "the folder of the worker or of its view"),
        (&[("log.local.folder", "\"data\"")], "log.local.folder", "name another, or leave it empty"),
        (&[("log.local.input_retention", "\"3600s 1us\"")], "log.local.input_retention", "milliseconds"),
        (&[("source[0].order", "\"name\"")], "source[0].order", "`sequence`"),
        (
            &[("topics.partitions", "\"x\"")],
            "topics.partitions",
            "topics.partitions = \"x\": expected a whole number from 0 on",
        ),
        (&[("topics.partitions", "-1")], "topics.partitions", "expected a whole number from 0 on"),
        (&[("worker.shutdown_deadline", "25")], "worker.shutdown_deadline", "= 25: expected a duration"),
        (&[("worker.shutdown_deadline", "\"25 parsecs\"")], "worker.shutdown_deadline", "expected a duration"),
        (&[("crm", "5")], "crm", "write [[crm]] before each entry"),
        (&[("input", "5")], "input", "expected a table"),
        (&[("crm", "[5]")], "crm[0]", "this is not a table"),
        (&[("crm", "")], "crm", "there is no CRM to deliver to"),
        (&[("crm[0].name", "")], "crm[0].name", "this key is required"),
        (&[("crm[0].kind", "")], "crm[0].kind", "this key is required"),
        (&[("source[0].uri", "")], "source[0].uri", "this key is required"),
        (&[("input.topics[0].name", "")], "input.topics[0].name", "this key is required"),
        (
            &[("identity.secret_env", "\"MISSING_ONE\"")],
            "identity.secret_env",
            "the environment variable MISSING_ONE is not set",
        ),
        (&[("identity.secret_env", "\"EMPTY\"")], "identity.secret_env", "empty"),
        (&[("identity.secret_env", "\"SHORT\"")], "identity.secret_env", "at least 32 characters"),
        (&[("identity.secret_file", "\"/none\"")], "identity.secret_file", "/none"),
        (
            &[("identity.secret_env", "\"A\""), ("identity.secret_file", "\"/run/secret\"")],
            "identity.secret_env",
            "keep one of the two",
        ),
        (
            &[("log.kafka.properties.sasl.password", PASSWORD)],
            "log.kafka.properties.sasl.password",
            "sasl.password_env",
        ),
        (&[("log.kafka.properties.group.id", "x")], "log.kafka.properties.group.id", "remove it"),
        (&[("worker.id", "\"a b\"")], "worker.id", "this cannot name a worker"),
        (&[("worker.data", "\"\"")], "worker.data", "a worker needs a folder"),
        (&[("log.kafka.bootstrap_servers", "\"\"")], "log.kafka.bootstrap_servers", "host:port"),
        (&[("log.kafka.bootstrap_servers", "\"a:1,b\"")], "log.kafka.bootstrap_servers", "\"a:1,b\""),
        (&[("log.kafka.bootstrap_servers", "\"a:0\"")], "log.kafka.bootstrap_servers", "host:port"),
        (&[("log.kafka.heartbeat_interval", "\"3334ms\"")], "log.kafka.heartbeat_interval", "a third"),
        (
            &[("log.kafka.drain_deadline", "\"26s\"")],
            "log.kafka.drain_deadline",
            "longer than worker.shutdown_deadline (25s)",
        ),
        (
            &[("log.kafka.min_insync_replicas", "2")],
            "log.kafka.min_insync_replicas",
            "no broker could ever take a write",
        ),
        (&[("topics.prefix", "\"a/\"")], "topics.prefix", "\"a/\""),
        (&[("topics.versions_retention", "\"3600s 1us\"")], "topics.versions_retention", "milliseconds"),
        (&[("topics.message_bytes_max", "2097152")], "topics.message_bytes_max", "choose 2162688 or more"),
        (&[("input.topics", "[]")], "input.topics", "there is nothing to read"),
        (&[("input.topics[0].name", "\"contact-records\"")], "input.topics[0].name", "a topic of our own"),
        (&[("input.topics[0].name", "\"contact-links.priava\"")], "input.topics[0].name", "a topic of our own"),
        (&[("input.topics[0].name", "\"a b\"")], "input.topics[0].name", "this cannot name a topic"),
        (&[("input.topics[1].name", "\"contact-changes\"")], "input.topics[1].name", "listed twice"),
        (&[("input.topics[0].tombstone_source", "\"\"")], "input.topics[0].tombstone_source", "names no source"),
        (
            &[("input.known_sources_only", "true"), ("input.topics[0].tombstone_source", "\"other\"")],
            "input.topics[0].tombstone_source",
            "this source is not known",
        ),
        (
            &[("input.known_sources_only", "true"), ("source", "")],
            "input.known_sources_only",
            "every event would be refused",
        ),
        (&[("source[1].name", "\"b\"")], "source[1].uri", "listed twice"),
        (&[("source[1].uri", "\"b\"")], "source[1].name", "two sources have this name"),
        (&[("source[0].uri", "\"\"")], "source[0].uri", "a source has a uri"),
        (&[("source[0].region", "\"de\"")], "source[0].region", "two capital letters"),
        (
            &[("identity.source_priority", "[\"shop\", \"erp\"]")],
            "identity.source_priority[1]",
            "no [[source]] has this name",
        ),
        (&[("identity.source_priority", "[\"shop\", \"shop\"]")], "identity.source_priority[1]", "listed twice"),
        (&[("identity.record_bytes_max", "540671")], "identity.record_bytes_max", "choose 540672 or more"),
        (&[("crm[1].kind", "\"priava\"")], "crm[1].name", "two CRMs have this name"),
        (&[("crm[0].name", "\"resolver\"")], "crm[0].name", "the resolver's group"),
        (&[("crm[0].name", "\"operator\"")], "crm[0].name", "what operators ask for"),
        (&[("crm[0].name", "\"Priava\"")], "crm[0].name", "lower-case"),
        (&[("crm[0].base_url", "\"ftp://a/\"")], "crm[0].base_url", "only http and https"),
        (&[("crm[0].base_url", "\"api.example.com\"")], "crm[0].base_url", "not an absolute address"),
        (&[("crm[0].base_url", "\"https://a/?x=1\"")], "crm[0].base_url", "query"),
        (&[("crm[0].base_url", "\"https://a/#x\"")], "crm[0].base_url", "fragment"),
        (&[("crm[0].base_url", "\"https://u@a/\"")], "crm[0].base_url", "before the @"),
        (
            &[("crm[0].delivery.connect_timeout", "\"31s\"")],
            "crm[0].delivery.connect_timeout",
            "request_deadline (30s)",
        ),
        (&[("crm[0].delivery.retry_delay", "\"61s\"")], "crm[0].delivery.retry_delay", "retry_delay_max (1m)"),
        (&[("crm[0].delivery.parked_delay", "\"2h\"")], "crm[0].delivery.parked_delay", "parked_delay_max (1h)"),
        (&[("crm[0].delivery.probe_delay", "\"2m\"")], "crm[0].delivery.probe_delay", "probe_delay_max (1m)"),
        (&[("crm[0].delivery.requests_per_second", "-1.0")], "crm[0].delivery.requests_per_second", "0 for no limit"),
        (&[("crm[0].delivery.requests_per_second", "nan")], "crm[0].delivery.requests_per_second", "0 for no limit"),
        (&[("crm[0].priava.token_env", "\"MISSING_TOKEN\"")], "crm[0].priava.token_env", "MISSING_TOKEN is not set"),
        (&[("crm[0].priava.token_file", "\"/none\"")], "crm[0].priava.token_file", "/none"),
        (&[("crm[0].priava.token_header", "\"a b\"")], "crm[0].priava.token_header", "cannot name a header"),
        (&[("crm[0].priava.token_prefix", "\"\\n\"")], "crm[0].priava.token_prefix", "a header cannot carry this"),
        (&[("crm[0].priava.path", "\"v1\"")], "crm[0].priava.path", "begin with /"),
        (&[("crm[0].priava.path", "\"/v1?x\"")], "crm[0].priava.path", "this is no path"),
        (&[("crm[0].priava.organisations_path", "\"v1\"")], "crm[0].priava.organisations_path", "begin with /"),
        (
            &[("crm[0].priava.organisation_field_names.fax", "\"\"")],
            "crm[0].priava.organisation_field_names.fax",
            "a field has a name",
        ),
        (
            &[("crm[0].priava.placeholder_organisation", "\" \"")],
            "crm[0].priava.placeholder_organisation",
            "write a word",
        ),
        (&[("crm[0].priava.organisation_types", "[\" \"]")], "crm[0].priava.organisation_types", "an entry is empty"),
        (&[("crm[0].priava.market_sectors", "[\"\"]")], "crm[0].priava.market_sectors", "an entry is empty"),
        (&[("crm[0].priava.countries.de", "\"Germany\"")], "crm[0].priava.countries.de", "two capital letters"),
        (&[("crm[0].priava.field_names.title", "\"\"")], "crm[0].priava.field_names.title", "a field has a name"),
        (
            &[("crm[0].priava.field_names.a", "\"x\""), ("crm[0].priava.field_names.b", "\"x\"")],
            "crm[0].priava.field_names.b",
            "two fields have this name",
        ),
        (&[("crm[0].priava.status_classes.200", "\"transient\"")], "crm[0].priava.status_classes.200", "300 to 599"),
        (&[("crm[0].priava.status_classes.600", "\"transient\"")], "crm[0].priava.status_classes.600", "300 to 599"),
        (
            &[("crm[0].priava.status_classes.418", "\"tea\"")],
            "crm[0].priava.status_classes.418",
            "choose from: `transient`",
        ),
        (&[("crm[0].delivery.max_age", "\"30s\"")], "crm[0].delivery.max_age", "request_deadline (30s)"),
        (&[("crm[0].on_erase", "\"forget\"")], "crm[0].on_erase", "`blank`"),
        (&[("crm[0].on_gone", "\"delete\"")], "crm[0].on_gone", "`recreate`"),
        (&[("crm[0].adopt", "\"always\"")], "crm[0].adopt", "`by_key`"),
        (&[("crm[0].priava.placeholder_first_name", "\" \"")], "crm[0].priava.placeholder_first_name", "write a word"),
        (&[("crm[0].priava.placeholder_last_name", "\"\"")], "crm[0].priava.placeholder_last_name", "write a word"),
        (&[("crm[0].priava.placeholder_email", "\"erased\"")], "crm[0].priava.placeholder_email", "example.invalid"),
        (&[("ingest.listen", "\"localhost\"")], "ingest.listen", "ip:port"),
        (&[("ingest.listen", "\"0.0.0.0:8700\"")], "ingest.listen", "ask for a token"),
        (&[("ingest.listen", "\"[::]:8700\"")], "ingest.listen", "ask for a token"),
        (
            &[("ingest.listen", "\"127.0.0.1:8700\""), ("ingest.token_env", "\"MISSING_TOKEN\"")],
            "ingest.token_env",
            "MISSING_TOKEN is not set",
        ),
        (&[("ingest.listen", "\"0.0.0.0:8700\""), ("ingest.token_file", "\"/none\"")], "ingest.token_file", "/none"),
        (
            &[("ingest.listen", "\"0.0.0.0:8700\""), ("ingest.token_env", "\"TOKEN_15\"")],
            "ingest.token_env",
            "at least 16 letters",
        ),
        (
            &[("ingest.listen", "\"0.0.0.0:8700\""), ("ingest.token_env", "\"TOKEN_BLANK\"")],
            "ingest.token_env",
            "a header cannot carry",
        ),
        (&[("ingest.backlog_max", "99")], "ingest.backlog_max", "the largest batch could never be taken"),
        (&[("ingest.connections_max", "15")], "ingest.connections_max", "at least ingest.requests_max"),
        (
            &[("ingest.listen", "\"127.0.0.1:8700\""), ("ingest.requests_max", "41")],
            "ingest.requests_max",
            "over 1073741824",
        ),
        (&[("identity.merge", "\"safe\"")], "identity.merge", "not merged by rule yet"),
        (&[("identity.rule", "[]")], "identity.rule", "source_id"),
        (&[("identity.rule", "[{ key = \"email\" }]")], "identity.rule[0].key", "first rule"),
        (
            &[("identity.rule", "[{ key = \"source_id\" }, { key = \"source_id\" }]")],
            "identity.rule[1].key",
            "first rule",
        ),
        (
            &[("identity.rule", "[{ key = \"source_id\" }, { key = \"email\" }, { key = \"email\" }]")],
            "identity.rule[2].key",
            "two rules have this key",
        ),
        (
            &[("identity.rule", "[{ key = \"source_id\", require = [\"name_compatible\"] }]")],
            "identity.rule[0].require",
            "nothing speaks against",
        ),
        (&[("identity.rule", "[{ key = \"email_hash\" }]")], "identity.rule[0].key", "choose from"),
        (&[("identity.email_providers", "[[]]")], "identity.email_providers[0]", "a provider has a domain"),
        (&[("identity.email_providers", "[[\"X.ch\"]]")], "identity.email_providers[0]", "no domain"),
        (&[("identity.email_providers", "[[\"x.ch\"], [\"x.ch\"]]")], "identity.email_providers[1]", "listed twice"),
        (&[("identity.block.email_local", "[\"Info\"]")], "identity.block.email_local[0]", "lower case"),
        (&[("identity.block.email_domain", "[\".test\"]")], "identity.block.email_domain[0]", "without a dot"),
        (&[("identity.block.value_regex", "['(']")], "identity.block.value_regex[0]", "regular expression"),
        (&[("identity.guards.disagree", "[\"shoe_size\"]")], "identity.guards.disagree[0]", "choose from"),
        (&[("admin.listen", "\"localhost\"")], "admin.listen", "ip:port"),
        (&[("admin.operator_listen", "\"0.0.0.0:1\"")], "admin.operator_listen", "loopback ip:port"),
        (&[("admin.operator_listen", "\"localhost:1\"")], "admin.operator_listen", "loopback ip:port"),
        (&[("admin.token_on_loopback", "true")], "admin.token_on_loopback", "name one in admin.token_env"),
        (&[("admin.token_env", "\"MISSING_TOKEN\"")], "admin.token_env", "set MISSING_TOKEN"),
        (&[("admin.token_env", "\"TOKEN_15\"")], "admin.token_env", "at least 32 letters"),
        (&[("admin.hosts", "[\"http://worker\"]")], "admin.hosts[0]", "without scheme and port"),
        (&[("admin.hosts", "[\"\"]")], "admin.hosts[0]", "without scheme and port"),
        (&[("admin.operator_listen", "\"127.0.0.1:9464\"")], "admin.operator_listen", "the same address"),
        (&[("worker.id_env", "\"MISSING_ID\"")], "worker.id_env", "set MISSING_ID"),
        (&[("worker.id_env", "\"EMPTY\"")], "worker.id_env", "set EMPTY"),
        (&[("worker.id", "\"w\""), ("worker.id_env", "\"TOKEN_15\"")], "worker.id_env", "keep one of the two"),
        (&[("telemetry.level", "\"info,=\"")], "telemetry.level", "this is no filter"),
        (&[("telemetry.level", "\" \"")], "telemetry.level", "this is no filter"),
        (&[("telemetry.traces.endpoint", "\"localhost:4317\"")], "telemetry.traces.endpoint", "4318/v1/traces"),
        (&[("telemetry.traces.endpoint", "\"http://a:b@localhost/\"")], "telemetry.traces.endpoint", "headers_env"),
        (&[("telemetry.traces.queue_spans_max", "511")], "telemetry.traces.queue_spans_max", "batch_spans_max"),
        (&[("telemetry.traces.service_name", "\"\"")], "telemetry.traces.service_name", "whose spans"),
        (
            &[("telemetry.traces.endpoint", "\"http://localhost/\""), ("telemetry.traces.headers_env", "\"MISSING\"")],
            "telemetry.traces.headers_env",
            "MISSING",
        ),
        (
            &[("telemetry.traces.endpoint", "\"http://localhost/\""), ("telemetry.traces.headers_env", "\"TOKEN_15\"")],
            "telemetry.traces.headers_env",
            "no list of headers",
        ),
    ] {
        faulty(changes, key, says);
    }
}

#[test]
fn a_missing_file_is_a_fault_like_any_other() {
    let error =
        Settings::load(Path::new("/none/at/all.toml"), Surroundings::process()).expect_err("there is no such file");
    assert!(error.to_string().contains("/none/at/all.toml cannot be used:\n  the file cannot be read"), "{error}");
}
