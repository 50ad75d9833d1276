//! The demo as anybody starts it: the built program, with nothing installed, judged by its own report and exit code.

use std::process::{Command, Output};

use serde_json::Value;

/// Small enough for every save, large enough for each kind of change and fault.
const SCALE: [&str; 4] = ["--events", "1000", "--contacts", "250"];

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
    let failed = report["calls"]["venues"]["failed"].as_object().expect("calls that failed, by status");
    assert!(failed.contains_key("429") && failed.contains_key("lost"), "the CRM misbehaved: {failed:?}");
    assert_eq!(report["checks"].as_object().map(|checks| checks.len()), Some(13));
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
    let calls = &report["calls"]["venues"];
    assert_eq!(calls["failed"], serde_json::json!({}), "{report:#}");
    assert_eq!(calls["total"], report["outcomes"]["venues"]["delivered"], "{report:#}");
}

#[test]
fn the_report_for_people_ticks_each_promise_and_says_where_to_go_next() {
    let output = demo(&["--seed", "105"]);
    let text = String::from_utf8(output.stdout).expect("the report is text");
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("  ✓ ").count(), 13, "{text}");
    assert!(text.contains("README.md"), "{text}");
}
