//! Each limit at its edges.

use super::{faulty, fine, limit};

#[test]
fn each_limit_takes_its_bounds_and_nothing_beyond() {
    let delivery = |name: &str| format!("crm[0].delivery.{name}");
    // Key, below, lowest, highest, above; empty where there is nothing beyond. What a limit is tied to is set wide.
    let wide: &[(&str, &str)] = &[
        ("worker.shutdown_deadline", "\"1h\""),
        ("log.kafka.session_timeout", "\"30m\""),
        ("log.kafka.drain_deadline", "\"100ms\""),
        ("log.kafka.heartbeat_interval", "\"100ms\""),
        ("log.kafka.replication_factor", "32"),
        ("topics.message_bytes_max", "4194304"),
        ("identity.record_bytes_max", "4128768"),
        ("telemetry.traces.queue_spans_max", "10000"),
        ("telemetry.traces.batch_spans_max", "1"),
        ("ingest.backlog_max", "10000"),
        ("ingest.batch_events_max", "1"),
        ("ingest.connections_max", "1024"),
        ("ingest.requests_max", "1"),
        ("crm[0].delivery.reference_age_max", "\"30d\""),
        ("crm[0].delivery.reference_miss_age", "\"1ms\""),
        ("crm[0].delivery.request_deadline", "\"5m\""),
        ("crm[0].delivery.connect_timeout", "\"1ms\""),
        ("crm[0].delivery.retry_delay", "\"1ms\""),
        ("crm[0].delivery.retry_delay_max", "\"30d\""),
        ("crm[0].delivery.parked_delay", "\"1ms\""),
        ("crm[0].delivery.parked_delay_max", "\"30d\""),
        ("crm[0].delivery.probe_delay", "\"1ms\""),
        ("crm[0].delivery.probe_delay_max", "\"30d\""),
    ];
    let delays = [
        "retry_delay",
        "retry_delay_max",
        "parked_delay",
        "parked_delay_max",
        "probe_delay",
        "probe_delay_max",
        "retry_after_max",
        "reference_age_max",
        "reference_miss_age",
    ];
    let mut limits: Vec<(String, [&str; 4])> = vec![
        ("log.kafka.session_timeout".into(), ["5999ms", "6s", "30m", "1801s"]),
        ("log.kafka.heartbeat_interval".into(), ["99ms", "100ms", "10m", "601s"]),
        ("log.kafka.transaction_timeout".into(), ["9999ms", "10s", "15m", "901s"]),
        ("log.kafka.drain_deadline".into(), ["99ms", "100ms", "1h", ""]),
        ("log.local.input_retention".into(), ["59m", "1h", "36500d", "36501d"]),
        ("log.local.compact_interval".into(), ["999ms", "1s", "7d", "8d"]),
        ("worker.shutdown_deadline".into(), ["", "100ms", "1h", "3601s"]),
        ("topics.versions_retention".into(), ["59m", "1h", "36500d", "36501d"]),
        ("topics.outcomes_retention".into(), ["59m", "1h", "36500d", "36501d"]),
        ("topics.dead_letters_retention".into(), ["59m", "1h", "36500d", "36501d"]),
        ("topics.identity_events_retention".into(), ["59m", "1h", "36500d", "36501d"]),
        ("topics.audit_retention".into(), ["59m", "1h", "36500d", "36501d"]),
        ("topics.tombstones_retention".into(), ["59m", "1h", "36500d", "36501d"]),
        ("input.future_max".into(), ["", "0s", "365d", "366d"]),
        ("ingest.read_timeout".into(), ["99ms", "100ms", "5m", "301s"]),
        ("admin.header_timeout".into(), ["99ms", "100ms", "5m", "301s"]),
        ("telemetry.traces.timeout".into(), ["99ms", "100ms", "1m", "61s"]),
        ("telemetry.traces.batch_age_max".into(), ["9ms", "10ms", "1m", "61s"]),
        (delivery("request_deadline"), ["99ms", "100ms", "5m", "301s"]),
        (delivery("connect_timeout"), ["0s", "1ms", "5m", ""]),
        (delivery("search_lag"), ["", "0s", "1h", "3601s"]),
        (delivery("max_age"), ["", "301s", "36500d", "36501d"]),
    ];
    limits.extend(delays.iter().map(|name| (delivery(name), ["0s", "1ms", "30d", "31d"])));
    for (key, edges) in &limits {
        limit(wide, key, edges.map(|edge| if edge.is_empty() { String::new() } else { format!("\"{edge}\"") }));
    }
    let numbers: Vec<(String, [&str; 4])> = vec![
        ("topics.partitions".into(), ["0", "1", "10000", "10001"]),
        ("topics.message_bytes_max".into(), ["", "4194304", "4194304", "4194305"]),
        ("log.kafka.replication_factor".into(), ["0", "1", "32", "33"]),
        ("log.kafka.min_insync_replicas".into(), ["0", "1", "32", "33"]),
        ("input.event_bytes_max".into(), ["1023", "1024", "1048576", "1048577"]),
        ("input.event_depth_max".into(), ["0", "1", "100", "101"]),
        ("identity.limits.source_ids_per_source".into(), ["-1", "0", "1000", "1001"]),
        ("identity.limits.emails".into(), ["0", "1", "100", "101"]),
        ("identity.limits.records".into(), ["0", "1", "1000", "1001"]),
        ("identity.limits.keys_per_event".into(), ["1", "2", "100", "101"]),
        ("identity.limits.generic_after".into(), ["1", "2", "100", "101"]),
        ("source[0].source_ids_per_source".into(), ["-1", "0", "1000", "1001"]),
        ("resolver.batch_events_max".into(), ["0", "1", "10000", "10001"]),
        ("resolver.panics_in_a_row_max".into(), ["0", "1", "1000", "1001"]),
        ("resolver.standby_lag_max".into(), ["", "0", "9223372036854775807", ""]),
        ("log.local.bytes_max".into(), ["67108863", "67108864", "1125899906842624", "1125899906842625"]),
        ("log.local.compact_bytes_per_second".into(), ["1048575", "1048576", "1099511627776", "1099511627777"]),
        ("log.local.cache_bytes".into(), ["25165823", "25165824", "1099511627776", "1099511627777"]),
        ("view.cache_bytes".into(), ["8388607", "8388608", "1099511627776", "1099511627777"]),
        ("view.batch_records_max".into(), ["0", "1", "100000", "100001"]),
        ("telemetry.traces.queue_spans_max".into(), ["0", "1", "1000000", "1000001"]),
        ("telemetry.traces.batch_spans_max".into(), ["0", "1", "10000", "10001"]),
        ("telemetry.traces.ratio".into(), ["-0.1", "0.0", "1.0", "1.1"]),
        ("ingest.backlog_max".into(), ["0", "1", "1000000000", "1000000001"]),
        ("ingest.batch_events_max".into(), ["0", "1", "10000", "10001"]),
        ("ingest.requests_max".into(), ["0", "1", "1024", "1025"]),
        ("ingest.connections_max".into(), ["0", "1", "65536", "65537"]),
        (delivery("in_flight_max"), ["0", "1", "4096", "4097"]),
        ("admin.connections_max".into(), ["0", "1", "65536", "65537"]),
        ("admin.replays_per_second".into(), ["0.0009", "0.001", "1000000", "1000001"]),
        // Of at most 2 here.
        (delivery("in_flight_min"), ["0", "1", "2", "3"]),
        (delivery("requests_per_second"), ["0.0009", "0.001", "1000000", "1000001"]),
        (delivery("resync_contacts_per_second"), ["0.0009", "0.001", "1000000", "1000001"]),
        (delivery("verify_contacts_per_second"), ["0.0009", "0.001", "1000000", "1000001"]),
        (delivery("response_bytes_max"), ["1023", "1024", "67108864", "67108865"]),
        (delivery("tries_before_parking"), ["0", "1", "100", "101"]),
        (delivery("unanswered_max"), ["0", "1", "100000", "100001"]),
        (delivery("failures_before_pause"), ["0", "1", "100000", "100001"]),
    ];
    for (key, edges) in &numbers {
        limit(wide, key, edges.map(ToOwned::to_owned));
    }
}

#[test]
fn names_fit_their_bounds() {
    let long = |length: usize| format!("\"{}\"", "a".repeat(length));
    for (key, longest) in [("instance", 64), ("crm[0].name", 64), ("source[0].name", 64), ("worker.id", 128)] {
        fine(&[(key, &long(longest))]);
        faulty(&[(key, &long(longest + 1))], key, "letters");
    }
    for key in ["instance", "crm[0].name", "source[0].name"] {
        faulty(&[(key, "\"\"")], key, "letters");
    }
    // contact-identity-events, the longest of our names here, has 23 letters.
    fine(&[("topics.prefix", &long(249 - 23))]);
    faulty(&[("topics.prefix", &long(249 - 22))], "topics.prefix", "249");
    fine(&[("input.topics[0].name", &long(249))]);
    faulty(&[("input.topics[0].name", &long(250))], "input.topics[0].name", "249");
}

#[test]
fn pairs_may_be_equal_at_their_bound() {
    fine(&[("log.kafka.session_timeout", "\"9s\""), ("log.kafka.heartbeat_interval", "\"3s\"")]);
    fine(&[("log.kafka.drain_deadline", "\"25s\"")]);
    fine(&[("crm[0].delivery.connect_timeout", "\"30s\"")]);
    fine(&[("identity.record_bytes_max", "540672")]);
    fine(&[("topics.message_bytes_max", "2162688")]);
    fine(&[("crm[0].delivery.requests_per_second", "0")]);
    fine(&[("crm[0].delivery.resync_contacts_per_second", "0")]);
    fine(&[("crm[0].delivery.verify_contacts_per_second", "0")]);
    fine(&[("admin.listen", "\"\"")]);
    fine(&[("admin.listen", "\"0.0.0.0:9464\""), ("admin.operator_listen", "\"127.0.0.1:9465\"")]);
    let worker = fine(&[("worker.id_env", "\"TOKEN_15\"")]).worker;
    assert_eq!((&*worker.id, worker.named), ("aaaaaaaaaaaaaaa", true), "named, so that its membership is static");
    fine(&[("ingest.backlog_max", "100")]);
    fine(&[("ingest.connections_max", "16")]);
    // 40 batches of 100 events of 262144 bytes.
    fine(&[("ingest.listen", "\"127.0.0.1:8700\""), ("ingest.requests_max", "40")]);
    fine(&[("ingest.listen", "\"0.0.0.0:8700\""), ("ingest.token_env", "\"TOKEN_16\"")]);
}
