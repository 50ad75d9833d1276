//! The demo as anybody starts it: the built program, with nothing installed, judged by its own report and exit code.

use std::process::{Command, Output};

use serde_json::Value;

/// Small enough for every save, large enough for each kind of change and fault.
const SCALE: [&str; 4] = ["--events", "1000", "--contacts", "250"];

/// One of each kind, as the settings of the demo name them.
const CRMS: [&str; 2] = ["venues", "fieldwork"];
const CHECKS: usize = 16;

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_contact-replicator"))
        .arg("demo")
        .args(SCALE)
        .args(arguments)
        .output()
        .expect("the program can be started")
}

/// The report of a run, which is all there is on standard output.
fn report(arguments: &[&str]) -> Value {
    let output = demo(&[arguments, &["--json"]].concat());
    let (printed, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}\n{told}"));
    assert_eq!(report["ok"].as_bool(), Some(output.status.success()), "{report:#}\n{told}");
    report
}

#[track_caller]
fn every_promise_holds(seed: &str) {
    let report = report(&["--seed", seed]);
    assert_eq!(report["ok"], true, "seed {seed}: {report:#}");
    assert_eq!(report["events"], 1_000);
    for crm in CRMS {
        let calls = &report["calls"][crm];
        let failed = calls["failed"].as_object().expect("calls that failed, by status");
        assert!(failed.contains_key("429") && failed.contains_key("lost"), "{crm} misbehaved: {failed:?}");
        assert!(calls["lost_answers"].as_u64() > Some(0) && calls["duplicates"] == 0, "{calls}");
    }
    assert!(report["calls"]["fieldwork"]["lost_creates"].as_u64() > Some(0), "{report:#}");
    let people = &report["people"];
    assert!(people["of_several_sources"].as_u64() > Some(20), "{people}");
    assert_eq!((&people["found"], &people["contacts"].as_u64().is_some()), (&people["live"], &true));
    for none in ["joined_wrongly", "split", "missing"] {
        assert_eq!(people[none], 0, "{people}");
    }
    assert_eq!(report["checks"].as_object().map(|checks| checks.len()), Some(CHECKS));
}

#[test]
fn every_promise_holds_under_one_seed() {
    every_promise_holds("101");
}

#[test]
fn every_promise_holds_under_another_seed() {
    every_promise_holds("102");
}

#[test]
fn every_promise_holds_under_a_third_seed() {
    every_promise_holds("103");
}

#[test]
fn without_faults_each_accepted_call_is_a_delivered_outcome() {
    let report = report(&["--seed", "104", "--no-faults"]);
    assert_eq!(report["ok"], true, "{report:#}");
    for crm in CRMS {
        let calls = &report["calls"][crm];
        assert_eq!(calls["failed"], serde_json::json!({}), "{report:#}");
        let count = |value: &Value| value.as_u64().expect("a count");
        let writes = count(&calls["total"]) - count(&calls["look_ups"]);
        assert_eq!(writes, count(&report["outcomes"][crm]["delivered"]), "{report:#}");
    }
}

#[test]
fn the_report_for_people_ticks_each_promise_and_says_where_to_go_next() {
    let output = demo(&["--seed", "105"]);
    let text = String::from_utf8(output.stdout).expect("the report is text");
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("  ✓ ").count(), CHECKS, "{text}");
    assert!(text.contains("README.md"), "{text}");
}
