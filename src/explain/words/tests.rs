//! What stands on the page, case by case.

use serde_json::{Value, json};

use super::*;

const CONTACT: &str = "00000000-0000-8000-8000-000000000007";
const OTHER: &str = "00000000-0000-8000-8000-000000000008";

fn event() -> Value {
    json!({"source": "/shop", "id": "e-1", "subject": "4711", "topic": "contact-changes", "partition": 3, "offset": 17})
}

fn reading(way: &str, position: Option<u64>, end: Option<u64>) -> Value {
    json!({"topic": "contact-links.priava", "partition": 2, "way": way, "position": position, "end": end, "problem": null})
}

fn link() -> Value {
    json!({
        "remote_ids": {"contact": "R-1"},
        "presence": "active",
        "answered": 3,
        "settled": {"version": 3, "outcome": "delivered", "operation": "update", "attempts": 1},
        "open": null,
        "intent": null,
        "fields_sent": 5,
        "fields_uncertain": 0,
    })
}

fn crm() -> Value {
    json!({
        "crm": "priava",
        "reading": reading("view", Some(9), Some(9)),
        "owner": {"worker": "w0", "released": false},
        "paused": null,
        "ordered": null,
        "link": link(),
        "waiting": null,
    })
}

fn person() -> Value {
    json!({
        "contact_id": CONTACT, "version": 3, "status": "live", "merged_into": null,
        "since": "2026-03-02T11:57:30Z", "event": event(), "epoch": 5, "partition": 2,
        "members": [{
            "source": "/shop", "subject": "4711", "live": true, "spoke_at": "2026-03-02T11:57:30Z",
            "by": null, "refusals": [], "dropped": [],
        }],
    })
}

fn answer() -> Value {
    json!({
        "instance": "sim", "worker": "w0", "asked_at": "2026-03-02T12:00:00Z", "asked": "member",
        "contact": person(), "claimants": [], "generic": false, "absence": null, "crms": [crm()],
        "readings": [],
    })
}

/// The answer with other values at these places.
fn with(mut answer: Value, changes: &[(&str, Value)]) -> Answer {
    for (place, value) in changes {
        *answer.pointer_mut(place).unwrap_or_else(|| panic!("there is no {place}")) = value.clone();
    }
    serde_json::from_value(answer).unwrap()
}

/// Holds the page to lines that it must have, with their depth, and texts that it must not have.
#[track_caller]
fn check(changes: &[(&str, Value)], lines: &[&str], absent: &[&str]) {
    let page = told(&with(answer(), changes));
    for line in lines {
        assert!(page.lines().any(|told| told == *line), "no line {line:?} in\n{page}");
    }
    for text in absent {
        assert!(!page.contains(text), "{text:?} in\n{page}");
    }
}

#[test]
fn a_contact_that_is_where_it_should_be_is_one_short_page() {
    let page = told(&with(answer(), &[]));
    let expected = format!(
        "\
contact {CONTACT}: live, version 3
  since 2026-03-02 11:57:30Z (2 min 30 s ago), by event \"e-1\" of /shop on \"4711\" (contact-changes[3]@17)
  decided in term 5; partition 2
  made up of 1 source record:
    \"4711\" of /shop: live, last heard of 2026-03-02 11:57:30Z (2 min 30 s ago); the contact was founded with it

priava: up to date with version 3
  last outcome: version 3 delivered by update, after 1 attempt
  as last accepted it holds the contact as active, with 5 fields
  its id there (contact): R-1
  worked on by w0
  read from this worker's view (contact-links.priava[2]), to its end

told by worker w0 of sim, 2026-03-02 12:00:00Z (now)
"
    );
    assert_eq!(page, expected);
}

#[test]
fn who_it_is_and_why_is_told_of_each_source_record() {
    let joined = json!([
        {"source": "/shop", "subject": "4711", "live": false, "spoke_at": "2026-03-01T12:00:00Z", "by": null,
            "refusals": [], "dropped": []},
        {"source": "/erp", "subject": "9", "live": true, "spoke_at": "2026-03-02T11:59:59Z", "by": "email",
            "refusals": [{"contact": OTHER, "key_type": "email", "code": "same_source"}],
            "dropped": [{"key_type": "email", "code": "blocked:role", "count": 2}]},
    ]);
    check(
        &[("/contact/members", joined), ("/contact/event", Value::Null), ("/contact/status", json!("deleted"))],
        &[
            &format!("contact {CONTACT}: deleted, version 3"),
            "  since 2026-03-02 11:57:30Z (2 min 30 s ago), by no event: the program or an operator did it",
            "  made up of 2 source records:",
            "    \"4711\" of /shop: deleted, last heard of 2026-03-01 12:00:00Z (1 d 0 h ago); the contact was founded with it",
            "    \"9\" of /erp: live, last heard of 2026-03-02 11:59:59Z (1 s ago); joined by email",
            &format!("      not joined to {OTHER}, to which its email leads: same_source"),
            "      not used as a key: 2 emails, blocked:role",
        ],
        &[],
    );
    check(
        &[("/contact/merged_into", json!(OTHER)), ("/contact/status", json!("merged"))],
        &[
            &format!("contact {CONTACT}: merged into another, version 3"),
            &format!("  it became {OTHER}: ask about that one"),
        ],
        &[],
    );
    check(
        &[("/claimants", json!([OTHER])), ("/generic", json!(true))],
        &[
            "  so many assert what was asked for that it leads nobody new to anybody",
            "  what was asked for is also asserted by other contacts, in the order of their claims:",
            &format!("    {OTHER}"),
        ],
        &[],
    );
}

#[test]
fn where_a_crm_stands_is_its_first_line() {
    let settled = |outcome: &str, reason: Value| json!({"version": 3, "outcome": outcome, "operation": null, "reason": reason, "attempts": 2});
    let open = |next: &str| {
        json!({"version": 3, "event": event(), "cause": null, "received_at": "2026-03-02T11:57:30Z", "attempts": 4,
            "next_attempt": next})
    };
    const LINK: &str = "/crms/0/link";
    const WAITING: &str = "/crms/0/waiting";
    let rejected =
        settled("rejected", json!({"code": "invalid_field", "http_status": 422, "crm_code": "E7", "field": "zip"}));
    for (changes, first, line) in [
        (
            vec![("/crms/0/link/settled", settled("unchanged", json!({"code": "same_projection"})))],
            "priava: up to date with version 3",
            "  last outcome: version 3 unchanged, same_projection, after 2 attempts",
        ),
        (
            vec![("/crms/0/link/settled", rejected)],
            "priava: rejected; nothing more is tried until the contact changes",
            "  last outcome: version 3 rejected, invalid_field at zip, HTTP 422, their code E7, after 2 attempts",
        ),
        (
            vec![("/crms/0/link/open", open("2026-03-02T12:28:05Z"))],
            "priava: version 3 is parked since attempt 4; next try at 2026-03-02 12:28:05Z (in 28 min 5 s)",
            "  parked: event \"e-1\" of /shop on \"4711\" (contact-changes[3]@17), read 2026-03-02 11:57:30Z (2 min 30 s ago)",
        ),
        (
            vec![("/crms/0/link/open", open("2026-03-02T09:58:00Z")), (WAITING, json!({"from": 4, "to": 4}))],
            "priava: version 3 is parked since attempt 4; its next try was due at 2026-03-02 09:58:00Z (2 h 2 min ago); version 4 waits",
            "  last outcome: version 3 delivered by update, after 1 attempt",
        ),
        (
            vec![(WAITING, json!({"from": 4, "to": 6}))],
            "priava: versions 4 to 6 wait",
            "  last outcome: version 3 delivered by update, after 1 attempt",
        ),
        (
            vec![(LINK, Value::Null), (WAITING, json!({"from": 1, "to": 1}))],
            "priava: nothing has ended here yet; version 1 waits",
            "  worked on by w0",
        ),
        (
            vec![
                (LINK, Value::Null),
                ("/crms/0/reading/way", json!("log")),
                ("/crms/0/reading/problem", json!("the deadline passed before its end")),
            ],
            "priava: not known, since its links could not be read",
            "  read from the log, since this worker does not own it (contact-links.priava[2]), to its end; the deadline passed before its end",
        ),
        (
            vec![("/crms/0/link/intent", json!(["email", "name"])), ("/crms/0/link/presence", Value::Null)],
            "priava: up to date with version 3",
            "    by email, name, as they were sent",
        ),
        (
            vec![("/crms/0/link/settled", Value::Null)],
            "priava: every version up to 3 has its outcome",
            "  last outcome: none yet",
        ),
    ] {
        check(&changes, &[first, line], &[]);
    }
}

#[test]
fn a_pause_is_told_as_far_as_the_worker_that_answers_can_know() {
    const PAUSED: &str = "/crms/0/paused";
    for (reason, why) in [
        ("failing", "contact after contact fails; it is probed, and goes on by itself"),
        ("credentials", "it refuses the credential; correct it, for the probes use it too"),
        ("connection", "base URL, path or rights are wrong, or it redirects; it is probed"),
    ] {
        check(&[(PAUSED, json!(reason))], &[&format!("  THE CRM IS PAUSED: {why}")], &[]);
    }
    // An operator's word is for all workers, whoever owns the partition.
    let ordered = json!({
        "paused": true, "by": "ann", "reason": "CHG-1207", "at": "2026-03-02T11:00:00Z", "format": 1,
    });
    let line = "  THE CRM IS PAUSED since 2026-03-02 11:00:00Z by an operator, ann: CHG-1207; resume ends it";
    for way in ["view", "log"] {
        let reading = reading(way, Some(9), Some(9));
        let changes = [(PAUSED, json!("operator")), ("/crms/0/ordered", ordered.clone()), ("/crms/0/reading", reading)];
        check(&changes, &[line], &["which answers, has paused"]);
    }
    check(
        &[
            (PAUSED, json!("failing")),
            ("/crms/0/reading", reading("log", Some(9), Some(9))),
            ("/crms/0/owner", json!({"worker": "w1", "released": false})),
        ],
        &[
            "  w0, which answers, has paused the CRM: contact after contact fails; it is probed, and goes on by itself",
            "  worked on by w1; whether that one has paused the CRM, it alone knows",
            "  read from the log, since this worker does not own it (contact-links.priava[2]), to its end",
        ],
        &["THE CRM IS PAUSED"],
    );
    check(
        &[("/crms/0/owner", json!({"worker": "w1", "released": true}))],
        &["  last worked on by w1, which gave it back"],
        &[],
    );
    check(&[("/crms/0/owner", Value::Null)], &["  nobody is known to work on it"], &[]);
}

#[test]
fn how_old_what_was_read_may_be_is_always_told() {
    for (position, end, says) in [
        (Some(9), Some(9), "to its end"),
        (Some(8), Some(9), "1 record short of its end: there may be news"),
        (Some(2), Some(9), "7 records short of its end: there may be news"),
        (Some(2), None, "up to 2; where it ends is not known"),
        (None, Some(9), "which it does not follow now: it may be old"),
    ] {
        let line = format!("  read from this worker's view (contact-links.priava[2]), {says}");
        check(&[("/crms/0/reading", reading("view", position, end))], &[&line], &[]);
        check(&[("/readings", json!([reading("view", position, end)]))], &[&line], &[]);
    }
}

#[test]
fn nobody_found_says_what_to_try() {
    let behind = json!([reading("view", Some(2), Some(9))]);
    let there = json!([reading("view", Some(9), Some(9))]);
    let absence = |because: Value, undecided: Option<u64>, source: Option<&str>| json!({"because": because, "source": source, "undecided": undecided});
    const UNREADABLE: &str =
        "  an event that could not be read is on contact-dead-letters, with the reason in its headers";
    for (asked, absence, readings, lines, absent) in [
        (
            "email",
            absence(json!("unknown"), Some(0), None),
            &there,
            &[
                "nobody was found; what was looked for is an e-mail address",
                "  every event that was published is decided",
                "  only an address that a live source record has now leads to its contact, former ones do not",
                UNREADABLE,
            ][..],
            &["may be behind"][..],
        ),
        (
            "member",
            absence(json!("unknown"), Some(3), Some("shop")),
            &behind,
            &[
                "nobody was found; what was looked for is a source and its subject",
                "  it was read as a subject of the source shop",
                "  this worker's view may be behind (below): ask again in a moment, or another worker",
                "  3 events on the input topics without a decision yet: it may be among them",
            ],
            &[],
        ),
        (
            "member",
            absence(json!("record_missing"), None, None),
            &there,
            &["  it leads to a contact whose record this worker has not read yet: ask again in a moment"],
            &["the source shop"],
        ),
        (
            "contact",
            absence(json!("unknown"), None, None),
            &there,
            &[
                "nobody was found; what was looked for is the id of a contact",
                "  how many events wait for a decision is not known, since the log does not answer",
            ],
            &["contact-dead-letters"],
        ),
        (
            "email",
            absence(json!("generic"), Some(0), None),
            &there,
            &["  so many contacts assert it that it leads to none; ask by source and subject"],
            &[],
        ),
        (
            "email",
            absence(json!({"no_key": "blocked:role"}), Some(0), None),
            &there,
            &["  it is no key (blocked:role): it is a mailbox of a role, not of a person; ask by source and subject"],
            &["every event"],
        ),
    ] {
        let changes = [
            ("/asked", json!(asked)),
            ("/contact", Value::Null),
            ("/crms", json!([])),
            ("/absence", absence),
            ("/readings", readings.clone()),
        ];
        check(&changes, lines, absent);
    }
}

#[test]
fn ages_are_told_in_their_two_largest_units() {
    for (seconds, expected) in [
        (0, "now"),
        (59, "59 s ago"),
        (60, "1 min ago"),
        (61, "1 min 1 s ago"),
        (3_600, "1 h 0 min ago"),
        (86_399, "23 h 59 min ago"),
        (90_000, "1 d 1 h ago"),
        (-45, "in 45 s"),
        (-5_400, "in 1 h 30 min"),
    ] {
        assert_eq!(Age(SignedDuration::from_secs(seconds)).to_string(), expected, "{seconds}");
    }
}

#[test]
fn what_came_from_outside_cannot_move_the_cursor_or_begin_a_line() {
    let nasty = "4\u{1b}[2J\n\u{202e}priava: up to date\u{9b}";
    let event = json!({"source": nasty, "id": nasty, "subject": nasty, "topic": "t", "partition": 0, "offset": 1});
    let changes = [
        ("/contact/members/0/subject", json!(nasty)),
        ("/contact/members/0/source", json!(nasty)),
        ("/contact/event", event),
        ("/crms/0/link/remote_ids/contact", json!(nasty)),
        ("/crms/0/owner/worker", json!(nasty)),
    ];
    let page = told(&with(answer(), &changes));
    let escaped = |letter: char| letter != '\n' && (letter.is_control() || letter == '\u{202e}');
    assert!(!page.contains(escaped), "{page:?}");
    assert_eq!(page.lines().filter(|line| line.contains("up to date")).count(), 5, "{page}");
    assert_eq!(page.lines().filter(|line| line.trim_start().starts_with("priava:")).count(), 1, "{page}");
}
