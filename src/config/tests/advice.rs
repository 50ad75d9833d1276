//! What is allowed and unwise: each advice by the settings that draw it, word for word.

use super::fine;
use crate::config::{Severity, advice};

/// Settings, and what is told of them; the base draws the rest.
#[track_caller]
fn advised(changes: &[(&str, &str)], severity: Severity, says: &str) {
    let told = |changes: &[(&str, &str)]| -> Vec<_> {
        advice(&fine(changes)).into_iter().map(|advice| (advice.severity, advice.fault.to_string())).collect()
    };
    let (with, without) = (told(changes), told(&[]));
    let new: Vec<_> = with.iter().filter(|advice| !without.contains(advice)).collect();
    assert!(new.contains(&&(severity, says.to_owned())), "{changes:?} draws {new:#?}");
}

#[test]
fn what_is_dangerous_or_useless_is_warned_of() {
    for (changes, says) in [
        (
            &[("log.kafka.replication_factor", "3")][..],
            "log.kafka.min_insync_replicas = 1: a write counts when one broker has it, and is lost with that broker; set it to 2",
        ),
        (
            &[("log.kafka.replication_factor", "3"), ("log.kafka.min_insync_replicas", "3")],
            "log.kafka.min_insync_replicas = 3: every replica must take each write, so one broker that is down stops all \
             workers; set it one below log.kafka.replication_factor",
        ),
        (
            &[("log.kafka.session_timeout", "\"10m\"")],
            "log.kafka.session_timeout = \"10m\": nobody takes over from a worker that died before this is over; choose 2m or less",
        ),
        (
            &[("log.kafka.transaction_timeout", "\"10m\"")],
            "log.kafka.transaction_timeout = \"10m\": readers, and whoever takes over, wait this long behind the open \
             transaction of a worker that died; choose 2m or less",
        ),
        (
            &[("log.kafka.drain_deadline", "\"1s\"")],
            "log.kafka.drain_deadline = \"1s\": partitions that move leave most requests under way unfinished \
             (request_deadline of crm priava is 30s), and the next owner sends them again; choose at least a quarter of \
             request_deadline, or lower that",
        ),
        (
            &[("crm[0].priava.authorization_code_env", "\"CODE\"")],
            "crm[0].priava.authorization_code_env = \"CODE\": this has no effect: auth is \"api_token\", and nobody exchanges a \
             grant; set auth to \"oauth2\", or leave it out",
        ),
        (
            &[("crm[0].priava.authorization_code_file", "\"/c\""), ("crm[0].priava.refresh_token_file", "\"/r\"")],
            "crm[0].priava.refresh_token_file = \"/r\": this has no effect: auth is \"api_token\", and nobody exchanges a \
             grant; set auth to \"oauth2\", or leave it out",
        ),
        (
            &[("crm[0].priava.organisation_field_names.fax", "\"telefax\"")],
            "crm[0].priava.organisation_field_names = { … }: this has no effect: organisations are not sent; set organisations \
             to true, or leave it out",
        ),
        (
            &[("log.kafka.bootstrap_servers", "\"broker:9092\"")],
            "log.kafka.bootstrap_servers = \"broker:9092\": contacts travel to the brokers unencrypted, and nobody asks who \
             reads them there; set \"security.protocol\" to SASL_SSL under [log.kafka.properties] (needs a build with the \
             feature ssl), or keep the brokers on a network of their own",
        ),
        (
            &[("topics.versions_retention", "\"1d\"")],
            "topics.versions_retention = \"1day\": a CRM that is down for longer, over a weekend for example, loses its work \
             list and needs a resync; choose 3d or more",
        ),
        (
            &[("topics.tombstones_retention", "\"2h\"")],
            "topics.tombstones_retention = \"2h\": a worker that was away for more than half of this reads all topics anew \
             before it works; choose 1d or more",
        ),
        (
            &[("topics.dead_letters_retention", "\"1h\"")],
            "topics.dead_letters_retention = \"1h\": events that could not be read are gone before somebody had a working day \
             to look at them; choose 3d or more",
        ),
        (
            &[("log.kind", "\"local\""), ("log.local.input_retention", "\"2h\"")],
            "log.local.input_retention = \"2h\": changes that came in are gone before a worker that stood still overnight has \
             read them; choose 1d or more",
        ),
        (
            &[("admin.listen", "\"\"")],
            "admin.listen = \"\": nothing can ask whether the worker lives or is ready, and nobody sees its metrics; give it an \
             address, such as 127.0.0.1:9464",
        ),
        (
            &[("admin.listen", "\"0.0.0.0:9464\"")],
            "admin.operator_listen = \"\": operators are answered on a loopback address, or with a token, and there is neither; \
             give it one, such as 127.0.0.1:9465, or name admin.token_file",
        ),
        (
            &[("ingest.listen", "\"0.0.0.0:8700\""), ("ingest.token_env", "\"TOKEN_16\"")],
            "ingest.listen = \"0.0.0.0:8700\": contacts and the token of their senders travel to it unencrypted; put a proxy \
             with TLS before it, or keep it off networks that others share",
        ),
        (
            &[("crm[0].base_url", "\"http://crm.example.com/api\"")],
            "crm[0].base_url = \"http://crm.example.com/api\": contacts and the credential travel to it unencrypted; write https",
        ),
        (
            &[("crm[0].base_url", "\"https://crm.example.com\""), ("crm[0].delivery.requests_per_second", "0.0")],
            "crm[0].delivery.requests_per_second = 0: nothing bounds the requests per second, and a resync sends all contacts \
             at once; set it to what the CRM's contract grants",
        ),
        (
            &[("crm[0].delivery.request_deadline", "\"4m\"")],
            "crm[0].delivery.request_deadline = \"4m\": whoever takes over from a dead worker waits this long before anything \
             is sent to this CRM; choose 2m or less",
        ),
        (
            &[("crm[0].delivery.connect_timeout", "\"30s\"")],
            "crm[0].delivery.connect_timeout = \"30s\": a connection that takes this long leaves no time for an answer; choose \
             less than request_deadline",
        ),
        (
            &[("crm[0].delivery.max_age", "\"2m\"")],
            "crm[0].delivery.max_age = \"2m\": a parked contact is never tried again: its first further try, after parked_delay \
             (2m), comes too late; choose more than parked_delay, or leave it out",
        ),
        (
            &[("crm[0].delivery.max_age", "\"30m\"")],
            "crm[0].delivery.max_age = \"30m\": a fault of an hour with one contact gives its changes up; choose 1h or more, or \
             leave it out",
        ),
        (
            &[("crm[0].on_delete", "\"delete\"")],
            "crm[0].on_delete = \"delete\": this kind of CRM cannot do that under these settings: contacts that all sources \
             deleted stay there as they are, and their events end as unsupported; choose what it can do, or \"keep\" to say \
             that it is meant",
        ),
        (
            &[("crm[0].on_erase", "\"delete\"")],
            "crm[0].on_erase = \"delete\": this kind of CRM cannot do that under these settings: it goes on holding people who \
             asked to be forgotten, and their events end as unsupported; choose what it can do",
        ),
        (
            &[("crm[0].on_erase", "\"keep\"")],
            "crm[0].on_erase = \"keep\": this CRM goes on holding people who asked to be forgotten; choose \"blank\" or \
             \"delete\", or have somebody forget them by hand",
        ),
        (
            &[("crm[0].fields.marketingOptOut", "{ omit = true }")],
            "crm[0].fields: crm priava cannot be told that a person withdrew a consent, it is only counted \
             (consent_not_expressible_total): /consent/marketing; tell its users, or give it a field \
             of the CRM",
        ),
        (
            &[("crm[0].kind", "\"logisense\"")],
            "crm[0].adopt = \"by_key\": no contact that is there already is adopted, since none can be marked as ours; name a \
             type of contact points that holds our reference (contact_points.reference), say with `links` who is who, or set \
             adopt to \"never\"",
        ),
        (
            &[("crm[0].kind", "\"previsto\""), ("crm[0].previsto.plant_number", "false")],
            "crm[0].previsto.plant_number = false: contacts cannot be searched for by our reference; after a lost create, one \
             whose e-mail address and telephone are changed in the CRM meanwhile may be made twice, and one that has neither \
             stops with ambiguous_match; set plant_number to true, and name \"number\" in search_by",
        ),
    ] {
        advised(changes, Severity::Warning, says);
    }
}

#[test]
fn what_may_be_meant_so_is_noted() {
    for (changes, says) in [
        (
            &[("worker.shutdown_deadline", "\"1m\"")][..],
            "worker.shutdown_deadline = \"1m\": Kubernetes ends a process after 30s unless it is told otherwise, and nearly \
             done work with it; grant more than this (terminationGracePeriodSeconds, stop_grace_period, TimeoutStopSec)",
        ),
        (
            &[("log.kind", "\"local\"")],
            "worker.data = \"data\": the log is below the folder in which the worker is started: started elsewhere, it begins a \
             new one; write a path that begins with /",
        ),
        (
            &[("source[1].uri", "\"b\""), ("source[1].name", "\"billing\"")],
            "identity.source_priority = []: of shop, billing none is trusted more than the others: where they differ on a part \
             of a contact, the most recent wins; list them, the most trusted first",
        ),
        (
            &[("telemetry.level", "\"debug\"")],
            "telemetry.level = \"debug\": so many lines slow the worker down, and hide those that matter; go back to info when \
             you have seen what you looked for",
        ),
        (
            &[("crm[0].mode", "\"shadow\"")],
            "crm[0].mode = \"shadow\": nothing is sent to crm priava, only counted; set it to \"live\" when that is to begin",
        ),
        (
            &[("crm[0].delivery.max_age", "\"30d\"")],
            "crm[0].delivery.max_age = \"30days\": this has no effect: entries are gone before, with \
             topics.versions_retention; leave it out, or choose less",
        ),
    ] {
        advised(changes, Severity::Note, says);
    }
}

#[test]
fn the_base_draws_no_more_than_what_a_trial_deserves() {
    let told: Vec<_> = advice(&fine(&[])).into_iter().map(|advice| (advice.severity, advice.fault.key)).collect();
    let expected = [
        (Severity::Warning, "log.kafka.replication_factor"),
        (Severity::Note, "worker.id"),
        (Severity::Note, "crm[0].fields"),
    ];
    assert_eq!(told, expected.map(|(severity, key)| (severity, key.to_owned())));
}

#[test]
fn what_is_protected_draws_no_advice_about_it() {
    for (changes, key) in [
        (&[("worker.id", "\"w-1\"")][..], "worker.id"),
        (
            &[("log.kafka.replication_factor", "3"), ("log.kafka.min_insync_replicas", "2")],
            "log.kafka.replication_factor",
        ),
        (
            &[("log.kafka.bootstrap_servers", "\"broker:9093\""), ("log.kafka.properties.security.protocol", "ssl")],
            "log.kafka.bootstrap_servers",
        ),
        (
            &[("admin.listen", "\"0.0.0.0:9464\""), ("admin.operator_listen", "\"127.0.0.1:9465\"")],
            "admin.operator_listen",
        ),
    ] {
        let told = advice(&fine(changes));
        assert!(told.iter().all(|advice| advice.fault.key != key), "{changes:?} draws {told:#?}");
    }
}
