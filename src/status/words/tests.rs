use std::collections::BTreeMap;

use super::*;
use crate::{
    event::OutcomeKind,
    status::{Build, FORMAT, InputStatus, LastError, Limits, NotReady, Pause},
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn crm(name: &str, partitions: &[Partition]) -> CrmStatus {
    CrmStatus {
        crm: name.into(),
        kind: "priava".into(),
        state: CrmState::Live,
        pause: None,
        partitions: partitions.to_vec(),
        partitions_working: partitions.len() as u64,
        partitions_all: 4,
        pending: 3,
        oldest_pending_seconds: 130,
        lag_records: 4,
        in_flight: 2,
        requests_per_second: Some(4.12),
        outcomes_per_second: BTreeMap::from([(OutcomeKind::Delivered, 3.0), (OutcomeKind::Rejected, 0.5)]),
        outcomes: BTreeMap::from([(OutcomeKind::Delivered, 1_021), (OutcomeKind::Rejected, 2)]),
        parked: 0,
        next_parked_due: None,
        waiting_for_others: 0,
        links_of_other_mappings: 0,
        entries_lost: 0,
        limits: Limits {
            requests_per_second: Some(10.0),
            requests_per_second_share: Some(5.0),
            in_flight_limit: 8,
            in_flight_max: 16,
        },
        last_error: None,
    }
}

fn paused() -> CrmStatus {
    CrmStatus {
        state: CrmState::Paused,
        pause: Some(Pause {
            reason: "failing".into(),
            since: at("2026-03-02T11:55:40Z"),
            next_probe: Some(at("2026-03-02T12:00:12Z")),
            remedy: "see what is wrong".into(),
        }),
        parked: 17,
        next_parked_due: Some(at("2026-03-02T12:03:00Z")),
        last_error: Some(LastError {
            class: "transient".into(),
            http_status: Some(503),
            crm_code: Some("busy".into()),
            at: at("2026-03-02T11:59:55Z"),
        }),
        ..crm("venues", &[2])
    }
}

fn status(worker: &str, crms: Vec<CrmStatus>) -> WorkerStatus {
    WorkerStatus {
        format: FORMAT,
        worker: worker.into(),
        instance: "trial".into(),
        build: Build { version: "0.1.0".into(), commit: Some("abc".into()) },
        started_at: at("2026-03-02T11:00:00Z"),
        told_at: at("2026-03-02T12:00:00Z"),
        log: "kafka".into(),
        log_problem: None,
        ready: true,
        not_ready: Vec::new(),
        rates_over_seconds: Some(60),
        resolver: Some(ResolverStatus {
            role: Role::Active,
            holder: Some(worker.into()),
            term: Some(7),
            inputs: vec![InputStatus { topic: "contact-changes".into(), undecided: Some(12) }],
            oldest_input_seconds: Some(3),
            decisions_per_second: Some(41.2),
        }),
        view: Some(ViewStatus { short_records: Some(0), bytes: Some(54_525_952), format: 3 }),
        crms,
    }
}

fn text(asked: &[Asked], width: Option<usize>) -> String {
    told(asked).iter().flat_map(|line| line.painted(width, false)).map(|line| line + "\n").collect()
}

fn answered(status: WorkerStatus) -> Asked {
    Asked { admin: "http://127.0.0.1:9464".into(), answer: Ok(status) }
}

#[test]
fn one_worker_is_told_with_what_needs_somebody_and_how_to_mend_it() {
    let page = text(&[answered(status("w0", vec![crm("previsto", &[0, 1]), paused()]))], None);
    let expected = "\
w0 of trial at http://127.0.0.1:9464  ready
  version 0.1.0 (abc), log kafka, since 2026-03-02 11:00:00Z (60 min)
  resolver: ACTIVE, term 7; contact-changes 12 undecided; oldest input 3 s; 41.2 decisions/s
  view: caught up, 52 MiB, format 3

  CRM       STATE   PARTITIONS  PENDING  OLDEST  IN FLIGHT  REQUESTS/S  OUTCOMES/S  PARKED  NEXT DUE
  previsto  live           2/4        3   2 min        2/8     4.1/5.0         3.5       0         -
    since the start: delivered 1021, rejected 2
  venues    PAUSED         1/4        3   2 min        2/8     4.1/5.0         3.5      17  in 3 min
    paused for 4 min: failing; next probe in 12 s
    see what is wrong
    last error 5 s ago: transient, HTTP 503, code busy
    since the start: delivered 1021, rejected 2
";
    assert_eq!(page, expected);
}

#[test]
fn several_add_up_and_what_nobody_owns_is_named() {
    let standby = {
        let mut status = status("w1", vec![crm("previsto", &[1]), CrmStatus { partitions: vec![0], ..paused() }]);
        let resolver = status.resolver.as_mut().unwrap();
        (resolver.role, resolver.holder, resolver.oldest_input_seconds) = (Role::Standby, Some("w0".into()), None);
        status
    };
    let gone = Asked { admin: "http://127.0.0.1:1".into(), answer: Err("there was no usable answer".into()) };
    let page = text(&[answered(status("w0", vec![crm("previsto", &[0, 1]), paused()])), answered(standby), gone], None);
    assert!(page.contains("  resolver: standby, w0 took over last, term 7; contact-changes 12 undecided"), "{page}");
    let (_, together) = page.split_once("NO ANSWER from http://127.0.0.1:1\n").unwrap();
    let expected = "  there was no usable answer

2 of 3 asked workers  1 WITHOUT AN ANSWER
  resolver: w0 decides

  CRM       PARTITIONS  PENDING  OLDEST  IN FLIGHT  REQUESTS/S  OUTCOMES/S  PARKED
  previsto         2/4        6   2 min          4         8.2         7.0       0
    owned by nobody who was asked: 2-3
    claimed by two: they move just now, or one has not heard yet: 1
  venues           2/4        6   2 min          4         8.2         7.0      34
    owned by nobody who was asked: 1, 3
";
    assert_eq!(together, expected);
}

#[test]
fn a_worker_that_starts_says_what_it_waits_for_and_nothing_else() {
    let mut starting = status("w0", Vec::new());
    (starting.ready, starting.resolver, starting.view) = (false, None, None);
    starting.not_ready = vec![NotReady { part: "log".into(), why: "no broker answers".into() }];
    let page = text(&[answered(starting)], None);
    let lines: Vec<_> = page.lines().collect();
    assert_eq!(lines.len(), 3, "{page}");
    assert!(lines[0].ends_with("NOT READY") && lines[2] == "  log: no broker answers", "{page}");
}

#[test]
fn what_is_not_known_is_not_told_as_zero() {
    let mut unknown = status("w0", vec![CrmStatus { requests_per_second: None, ..crm("previsto", &[0]) }]);
    unknown.log_problem = Some("no answer".into());
    unknown.view = Some(ViewStatus { short_records: None, bytes: None, format: 3 });
    unknown.resolver = Some(ResolverStatus {
        role: Role::Standby,
        holder: None,
        term: None,
        inputs: vec![InputStatus { topic: "contact-changes".into(), undecided: None }],
        oldest_input_seconds: None,
        decisions_per_second: None,
    });
    let page = text(&[answered(unknown)], None);
    assert!(page.contains("  resolver: standby, who decides is not known; contact-changes not known\n"), "{page}");
    assert!(page.contains("  view: how far it is behind is not known, format 3\n"), "{page}");
    assert!(page.contains("the log does not say how far it goes: no answer\n"), "{page}");
    let row = page.lines().find(|line| line.starts_with("  previsto")).unwrap();
    assert_eq!(row.split_whitespace().filter(|cell| *cell == "-").count(), 3, "{row}");
}

#[test]
fn no_line_is_wider_than_the_terminal_and_nothing_from_outside_moves_the_cursor() {
    let mut hostile = status("w\u{1b}[2J", vec![paused()]);
    hostile.crms[0].last_error.as_mut().unwrap().crm_code = Some("\u{1b}]0;x\u{7}".into());
    let asked = [answered(hostile), Asked { admin: "http://h".into(), answer: Err("\u{9b}31m".into()) }];
    for width in [24, 40, 80, 200] {
        for line in told(&asked).iter().flat_map(|line| line.painted(Some(width), false)) {
            assert!(line.chars().count() <= width, "{width}: {line}");
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
    let coloured: String = told(&asked).iter().flat_map(|line| line.painted(Some(80), true)).collect();
    assert!(coloured.contains("\u{1b}[1;31mPAUSED\u{1b}[0m") && !coloured.contains("\u{1b}[2J"), "{coloured:?}");
}
