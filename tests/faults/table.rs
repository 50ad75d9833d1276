//! Faults of settings, and what `check` says of each: the whole sentence, with the place and the remedy.

/// One fault: what is written in place of what stands in the settings of the test, and what becomes of it.
pub(crate) struct Row {
    pub(crate) fault: &'static str,
    pub(crate) written: &'static str,
    pub(crate) instead: &'static str,
    pub(crate) exit: i32,
    /// Every error that is told, as it is told.
    pub(crate) told: &'static [&'static str],
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        fault: "an unknown key",
        written: r#"partitions = 2"#,
        instead: r#"partition = 2"#,
        exit: 2,
        told: &[
            r#"line 8: topics.partition: there is no such key; was `partitions` meant? known here: `prefix`, `partitions`, `versions_retention`, `outcomes_retention`, `dead_letters_retention`, `identity_events_retention`, `audit_retention`, `tombstones_retention`, `message_bytes_max`"#,
        ],
    },
    Row {
        fault: "an unknown table",
        written: r#"[topics]"#,
        instead: r#"[topic]"#,
        exit: 2,
        told: &[
            r#"line 7: topic: there is no such key; was `topics` meant? known here: `instance`, `worker`, `log`, `topics`, `input`, `source`, `identity`, `resolver`, `view`, `outcomes`, `crm`, `ingest`, `admin`, `telemetry`"#,
        ],
    },
    Row {
        fault: "an unknown key of a CRM",
        written: r#"kind = "priava""#,
        instead: r#"kind = "priava"
base_uri = "x""#,
        exit: 2,
        told: &[
            r#"line 17: crm[0].base_uri: there is no such key; was `base_url` meant? known here: `name`, `kind`, `base_url`, `mode`, `delivery`, `on_delete`, `on_erase`, `on_gone`, `find_before_create`, `adopt`, `where`, `on_leave`, `fields`, `priava`, `previsto`, `crm_com`, `logisense`, `nextinteract_sam`"#,
        ],
    },
    Row {
        fault: "a wrong unit",
        written: r#"id = "worker-1""#,
        instead: r#"id = "worker-1"
shutdown_deadline = "25 parsecs""#,
        exit: 2,
        told: &[
            r#"line 4: worker.shutdown_deadline = "25 parsecs": expected a duration; write a number and its unit in quotes, as in "250ms", "30s", "5m", "12h" or "7d""#,
        ],
    },
    Row {
        fault: "a duration without a unit",
        written: r#"id = "worker-1""#,
        instead: r#"id = "worker-1"
shutdown_deadline = 25"#,
        exit: 2,
        told: &[
            r#"line 4: worker.shutdown_deadline = 25: expected a duration; write a number and its unit in quotes, as in "250ms", "30s", "5m", "12h" or "7d""#,
        ],
    },
    Row {
        fault: "a wrong type",
        written: r#"partitions = 2"#,
        instead: r#"partitions = "two""#,
        exit: 2,
        told: &[
            r#"line 8: topics.partitions = "two": expected a whole number from 0 on, without quotes; see config/reference.toml for how it is written"#,
        ],
    },
    Row {
        fault: "a negative number",
        written: r#"partitions = 2"#,
        instead: r#"partitions = -2"#,
        exit: 2,
        told: &[
            r#"line 8: topics.partitions = -2: expected a whole number from 0 on, without quotes; see config/reference.toml for how it is written"#,
        ],
    },
    Row {
        fault: "a number in a text's place",
        written: r#"instance = "faults""#,
        instead: r#"instance = 5"#,
        exit: 2,
        told: &[r#"line 1: instance = 5: expected a text in quotes; see config/reference.toml for how it is written"#],
    },
    Row {
        fault: "a text in a list's place",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"source_priority = "shop""#,
        exit: 2,
        told: &[
            r#"line 13: identity.source_priority: expected a list in brackets; see config/reference.toml for how it is written"#,
        ],
    },
    Row {
        fault: "out of bounds",
        written: r#"partitions = 2"#,
        instead: r#"partitions = 10001"#,
        exit: 2,
        told: &[r#"line 8: topics.partitions = 10001: this is out of bounds; choose from 1 to 10000"#],
    },
    Row {
        fault: "a text that is not closed",
        written: r#"kind = "local""#,
        instead: r#"kind = "local"#,
        exit: 2,
        told: &[
            r#"line 6: column 14 is not TOML: invalid basic string, expected `"`; see config/reference.toml for how each key is written"#,
        ],
    },
    Row {
        fault: "a table that is not closed",
        written: r#"[worker]"#,
        instead: r#"[worker"#,
        exit: 2,
        told: &[
            r#"line 2: column 8 is not TOML: unclosed table, expected `]`; see config/reference.toml for how each key is written"#,
        ],
    },
    Row {
        fault: "a key given twice",
        written: r#"partitions = 2"#,
        instead: r#"partitions = 2
partitions = 3"#,
        exit: 2,
        told: &[
            r#"line 9: column 1 is not TOML: duplicate key; see config/reference.toml for how each key is written"#,
        ],
    },
    Row {
        fault: "a value that is missing",
        written: r#"partitions = 2"#,
        instead: r#"partitions ="#,
        exit: 2,
        told: &[
            r#"line 8: column 13 is not TOML: string values must be quoted, expected literal string; see config/reference.toml for how each key is written"#,
        ],
    },
    Row {
        fault: "an unknown kind of CRM",
        written: r#"kind = "priava""#,
        instead: r#"kind = "piava""#,
        exit: 2,
        told: &[
            r#"line 16: crm[0].kind = "piava": there is no such choice; was `priava` meant? choose from: `priava`, `previsto`, `crm_com`, `logisense`, `nextinteract_sam`"#,
        ],
    },
    Row {
        fault: "an unknown kind of log",
        written: r#"kind = "local""#,
        instead: r#"kind = "pulsar""#,
        exit: 2,
        told: &[r#"line 6: log.kind = "pulsar": there is no such choice; choose from: `kafka` or `local`"#],
    },
    Row {
        fault: "a CRM without a name",
        written: r#"name = "priava"
"#,
        instead: r#""#,
        exit: 2,
        told: &[r#"line 14: crm[0].name: this key is required; give it; it has no default"#],
    },
    Row {
        fault: "two CRMs of one name",
        written: r#"[[crm]]"#,
        instead: r#"[[crm]]
name = "priava"
kind = "priava"
base_url = "http://127.0.0.1:1/b"
[[crm]]"#,
        exit: 2,
        told: &[r#"line 19: crm[1].name = "priava": two CRMs have this name; rename one of them"#],
    },
    Row {
        fault: "a name that is none",
        written: r#"name = "priava""#,
        instead: r#"name = "My Priava""#,
        exit: 2,
        told: &[
            r#"line 15: crm[0].name = "My Priava": this is not a name; use 1 to 64 lower-case letters, digits and hyphens"#,
        ],
    },
    Row {
        fault: "no CRM",
        written: r#"[[crm]]
name = "priava"
kind = "priava"
base_url = "http://127.0.0.1:1/api"
"#,
        instead: r#""#,
        exit: 2,
        told: &[r#"crm = []: there is no CRM to deliver to; add a [[crm]]"#],
    },
    Row {
        fault: "the table of another kind",
        written: r#"base_url = "http://127.0.0.1:1/api""#,
        instead: r#"base_url = "http://127.0.0.1:1/api"
[crm.previsto]
page_size = 5"#,
        exit: 2,
        told: &[r#"line 18: crm[0].previsto: this cannot be read; see config/reference.toml for how it is written"#],
    },
    Row {
        fault: "an address without a scheme",
        written: r#""http://127.0.0.1:1/api""#,
        instead: r#""127.0.0.1/api""#,
        exit: 2,
        told: &[
            r#"line 17: crm[0].base_url: this is not an absolute address; write it as in https://api.example.com/rest"#,
        ],
    },
    Row {
        fault: "an address of another protocol",
        written: r#""http://127.0.0.1:1/api""#,
        instead: r#""ftp://127.0.0.1/api""#,
        exit: 2,
        told: &[
            r#"line 17: crm[0].base_url = "ftp://127.0.0.1/api": only http and https are spoken; write it as in https://api.example.com/rest"#,
        ],
    },
    Row {
        fault: "an address with a password",
        written: r#""http://127.0.0.1:1/api""#,
        instead: r#""https://user:hunter2@crm.example.com/api""#,
        exit: 2,
        told: &[
            r#"line 17: crm[0].base_url: an address is no place for a user or password; remove what stands before the @"#,
        ],
    },
    Row {
        fault: "an address with a query",
        written: r#""http://127.0.0.1:1/api""#,
        instead: r#""https://crm.example.com/api?key=hunter2""#,
        exit: 2,
        told: &[r#"line 17: crm[0].base_url: this has a query or a fragment; remove what follows the path"#],
    },
    Row {
        fault: "a field that the CRM does not have",
        written: r#"base_url = "http://127.0.0.1:1/api""#,
        instead: r#"base_url = "http://127.0.0.1:1/api"
[crm.fields]
shoeSize = "/attributes/shoe""#,
        exit: 2,
        told: &[
            r#"line 19: crm[0].fields.shoeSize: the CRM has no such field; use its own names, with quotes around one that has dots"#,
        ],
    },
    Row {
        fault: "a place that no contact has",
        written: r#"base_url = "http://127.0.0.1:1/api""#,
        instead: r#"base_url = "http://127.0.0.1:1/api"
[crm.fields]
title = "/salutation""#,
        exit: 2,
        told: &[
            r#"line 19: crm[0].fields.title: no contact has an attribute there; name one of the contact document, as in "/attributes/tier""#,
        ],
    },
    Row {
        fault: "a field that carries our reference",
        written: r#"base_url = "http://127.0.0.1:1/api""#,
        instead: r#"base_url = "http://127.0.0.1:1/api"
[crm.fields]
externalIntegrationId = "/attributes/id""#,
        exit: 2,
        told: &[
            r#"line 19: crm[0].fields.externalIntegrationId: this field marks a contact as ours, and is how it is found again; remove the rule"#,
        ],
    },
    Row {
        fault: "a condition that is none",
        written: r#"base_url = "http://127.0.0.1:1/api""#,
        instead: r#"base_url = "http://127.0.0.1:1/api"
where = [{ at = "/attributes/tier" }]"#,
        exit: 2,
        told: &[
            r#"line 18: crm[0].where[0]: it is not clear what must hold; write `at` and exactly one of `is`, `is_not`, `one_of`, `present` and `absent`"#,
        ],
    },
    Row {
        fault: "a variable that is not set",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"secret_env = "NOT_SET_ANYWHERE""#,
        exit: 2,
        told: &[
            r#"line 13: identity.secret_env = NOT_SET_ANYWHERE: the environment variable NOT_SET_ANYWHERE is not set; set NOT_SET_ANYWHERE, or name a file in identity.secret_file"#,
        ],
    },
    Row {
        fault: "a variable that is empty",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"secret_env = "EMPTY_ONE""#,
        exit: 2,
        told: &[r#"line 13: identity.secret_env: the secret found there is empty; put the secret there"#],
    },
    Row {
        fault: "a secret that is too short",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"secret_env = "SHORT_ONE""#,
        exit: 2,
        told: &[
            r#"line 13: identity.secret_env: the secret found there is short enough to be guessed; use at least 32 characters, for example of `openssl rand -hex 32`"#,
        ],
    },
    Row {
        fault: "a secret in place of its variable",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"secret_env = "hunter2-hunter2""#,
        exit: 2,
        told: &[
            r#"line 13: identity.secret_env: this is not the name of an environment variable; give the name of a variable (A-Z, 0-9, _), not the secret itself"#,
        ],
    },
    Row {
        fault: "a secret in the file of settings",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"secret = "hunter2-hunter2""#,
        exit: 2,
        told: &[
            r#"line 13: identity.secret: there is no such key; was `secret_env` meant? known here: `secret_env`, `secret_file`, `source_priority`, `record_bytes_max`, `merge`, `email_providers`, `rule`, `limits`, `guards`, `block`"#,
        ],
    },
    Row {
        fault: "a file of a secret that is not there",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"secret_file = "missing.secret""#,
        exit: 2,
        told: &[
            r#"line 13: identity.secret_file = missing.secret: the file cannot be read: entity not found; create it, readable for this user alone"#,
        ],
    },
    Row {
        fault: "a file of a secret that is empty",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"secret_file = "empty.secret""#,
        exit: 2,
        told: &[r#"line 13: identity.secret_file: the secret found there is empty; put the secret there"#],
    },
    Row {
        fault: "a file of a secret that cannot be read",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"secret_file = "folder.secret""#,
        exit: 2,
        told: &[
            r#"line 13: identity.secret_file = folder.secret: the file cannot be read: is a directory; create it, readable for this user alone"#,
        ],
    },
    Row {
        fault: "a secret said twice",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"secret_env = "SHORT_ONE"
secret_file = "empty.secret""#,
        exit: 2,
        told: &[r#"line 13: identity.secret_env: identity.secret_file is given too; keep one of the two"#],
    },
    Row {
        fault: "the credential of a CRM that is not set",
        written: r#"base_url = "http://127.0.0.1:1/api""#,
        instead: r#"base_url = "http://127.0.0.1:1/api"
[crm.priava]
token_env = "NOT_SET_ANYWHERE""#,
        exit: 2,
        told: &[
            r#"line 19: crm[0].priava.token_env = NOT_SET_ANYWHERE: the environment variable NOT_SET_ANYWHERE is not set; set NOT_SET_ANYWHERE, or name a file in crm[0].priava.token_file"#,
        ],
    },
    Row {
        fault: "a source that is not known",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"source_priority = ["shop", "erp"]"#,
        exit: 2,
        told: &[
            r#"line 13: identity.source_priority[1] = "erp": no [[source]] has this name; add the source, or remove the name"#,
        ],
    },
    Row {
        fault: "a heartbeat as long as the session",
        written: r#"kind = "local""#,
        instead: r#"kind = "kafka"
[log.kafka]
heartbeat_interval = "10s""#,
        exit: 2,
        told: &[
            r#"line 8: log.kafka.heartbeat_interval = 10s: two lost heartbeats would cost the membership; choose at most a third of log.kafka.session_timeout"#,
        ],
    },
    Row {
        fault: "a drain longer than the shutdown",
        written: r#"kind = "local""#,
        instead: r#"kind = "local"
[log.kafka]
drain_deadline = "1m""#,
        exit: 2,
        told: &[
            r#"line 8: log.kafka.drain_deadline = 1m: this is longer than worker.shutdown_deadline (25s); shorten this or lengthen worker.shutdown_deadline"#,
        ],
    },
    Row {
        fault: "a message smaller than a record",
        written: r#"partitions = 2"#,
        instead: r#"partitions = 2
message_bytes_max = 1048576"#,
        exit: 2,
        told: &[
            r#"line 9: topics.message_bytes_max = 1048576: a message at identity.record_bytes_max (2097152) would not fit; choose 2162688 or more, or lower identity.record_bytes_max"#,
        ],
    },
    Row {
        fault: "a retention below its bound",
        written: r#"partitions = 2"#,
        instead: r#"partitions = 2
versions_retention = "10m""#,
        exit: 2,
        told: &[
            r#"line 9: topics.versions_retention = 10m: this is out of bounds; choose from 1h to 99years 11months 5days 9h 50m 24s"#,
        ],
    },
    Row {
        fault: "more replicas in sync than there are",
        written: r#"kind = "local""#,
        instead: r#"kind = "kafka"
[log.kafka]
min_insync_replicas = 2"#,
        exit: 2,
        told: &[
            r#"line 8: log.kafka.min_insync_replicas = 2: no broker could ever take a write; choose from 1 to log.kafka.replication_factor"#,
        ],
    },
    Row {
        fault: "brokers without a port",
        written: r#"kind = "local""#,
        instead: r#"kind = "kafka"
[log.kafka]
bootstrap_servers = "broker""#,
        exit: 2,
        told: &[
            r#"line 8: log.kafka.bootstrap_servers = "broker": this names no brokers; write host:port, with commas between several"#,
        ],
    },
    Row {
        fault: "a password of Kafka in the file",
        written: r#"kind = "local""#,
        instead: r#"kind = "kafka"
[log.kafka.properties]
"sasl.password" = "hunter2""#,
        exit: 2,
        told: &[
            r#"line 8: log.kafka.properties.sasl.password: a secret does not belong into this file; write "sasl.password_env" or "sasl.password_file" and where to find it"#,
        ],
    },
    Row {
        fault: "a property that the program sets itself",
        written: r#"kind = "local""#,
        instead: r#"kind = "kafka"
[log.kafka.properties]
"group.id" = "mine""#,
        exit: 2,
        told: &[
            r#"line 8: log.kafka.properties.group.id: the program sets this itself, and its promises depend on it; remove it"#,
        ],
    },
    Row {
        fault: "an open ingest without a token",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"source_priority = ["shop"]
[ingest]
listen = "0.0.0.0:8700""#,
        exit: 2,
        told: &[
            r#"line 15: ingest.listen = "0.0.0.0:8700": whoever reaches this address could publish changes of any contact; ask for a token (ingest.token_env or ingest.token_file), or listen on 127.0.0.1"#,
        ],
    },
    Row {
        fault: "an address that is none",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"source_priority = ["shop"]
[admin]
listen = "localhost""#,
        exit: 2,
        told: &[
            r#"line 15: admin.listen = "localhost": this is no address to listen on; write ip:port, or "" for off"#,
        ],
    },
    Row {
        fault: "an open address for operators",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"source_priority = ["shop"]
[admin]
operator_listen = "0.0.0.0:9465""#,
        exit: 2,
        told: &[
            r#"line 15: admin.operator_listen = "0.0.0.0:9465": whoever reaches this address could ask for contacts and stop the work on a CRM; ask for a token (admin.token_env or admin.token_file), or write a loopback ip:port such as 127.0.0.1:9465"#,
        ],
    },
    Row {
        fault: "a filter of log lines that is none",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"source_priority = ["shop"]
[telemetry]
level = "info,=""#,
        exit: 2,
        told: &[r#"line 15: telemetry.level = "info,=": this is no filter; write "info", or as in RUST_LOG"#],
    },
    Row {
        fault: "an expression that is none",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"source_priority = ["shop"]
[identity.block]
value_regex = ["("]"#,
        exit: 2,
        told: &[
            r#"line 15: identity.block.value_regex[0] = "(": this is no regular expression; write it in the syntax of the Rust crate regex, which has no back-references"#,
        ],
    },
    Row {
        fault: "a CRM that nobody listens for",
        written: r#"source_priority = ["shop"]"#,
        instead: r#"source_priority = ["shop"]"#,
        exit: 1,
        told: &[
            r#"line 17: crm[0].base_url = "http://127.0.0.1:1/api": crm priava: 127.0.0.1:1 cannot be connected to: Connection refused (os error 111); correct it, or ask who runs the CRM or the network between"#,
        ],
    },
    Row {
        fault: "an unknown property of Kafka",
        written: r#"kind = "local""#,
        instead: r#"kind = "kafka"
[log.kafka.properties]
"no.such.property" = "x""#,
        exit: 1,
        told: &[
            r#"line 7: log.kafka: the log cannot be used: librdkafka does not know property no.such.property, or not this value of it; correct it under [log.kafka]"#,
            r#"line 19: crm[0].base_url = "http://127.0.0.1:1/api": crm priava: 127.0.0.1:1 cannot be connected to: Connection refused (os error 111); correct it, or ask who runs the CRM or the network between"#,
        ],
    },
    Row {
        fault: "a broker that is not there",
        written: r#"kind = "local""#,
        instead: r#"kind = "kafka"
[log.kafka]
bootstrap_servers = "127.0.0.1:1""#,
        exit: 1,
        told: &[
            r#"line 8: log.kafka.bootstrap_servers = "127.0.0.1:1": the log is not available while asking for the partitions of a topic: topic contact-records: BrokerTransportFailure (Local: Broker transport failure); start a broker there, or correct the address; workers wait for it meanwhile"#,
            r#"line 19: crm[0].base_url = "http://127.0.0.1:1/api": crm priava: 127.0.0.1:1 cannot be connected to: Connection refused (os error 111); correct it, or ask who runs the CRM or the network between"#,
        ],
    },
];
