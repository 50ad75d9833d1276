//! A small run that went well, and for each invariant the ways in which it could have gone wrong, and what it forgives.

mod run;

use std::time::Duration;

use contact_replicator::{
    cli::demo::{
        checks::{Left, Leftover, Sender, Sending},
        evidence::{Call, Evidence, Stored},
    },
    config::CrmKind,
    event::{
        Entry, OutcomeKind, ReasonCode,
        entry::{Cause, CauseKind},
    },
    sandbox::Action,
};
use serde_json::json;

use self::run::{Run, TERMS, at, call, contact, fails, fields, holds, peer, run, signed, worker_name};
use crate::{
    history::{History, Line, What},
    judge::{self, Ended, Known, Verdict, deeds::Deeds, figures::figures},
};

fn frozen(number: u16) -> What {
    What::Frozen { worker: worker_name(number) }
}

fn killed(number: u16) -> What {
    What::Killed { worker: worker_name(number) }
}

fn down(crm: &str) -> What {
    What::CrmDown { crm: crm.into() }
}

#[test]
fn each_deed_has_the_consequences_that_it_may_have_and_no_others() {
    let (worker, by) = (|| worker_name(1), Duration::from_secs(1));
    // Whether it may keep the worker from hearing answers, and whether it may have something done again.
    let deeds = [
        (What::Started { worker: worker() }, false, false),
        (What::Stopped { worker: worker() }, false, false),
        (What::Killed { worker: worker() }, true, true),
        (What::Frozen { worker: worker() }, true, true),
        (What::ViewDeleted { worker: worker() }, false, false),
        (What::ViewTorn { worker: worker() }, false, false),
        (What::BrokerRestarted, false, true),
        (What::BrokerKilled, false, true),
        (What::BrokerDelayed { worker: worker(), by }, false, false),
        (What::BrokerCut { worker: worker() }, true, true),
        (What::CommitCut { worker: worker() }, true, true),
        (What::CrmCut { worker: worker() }, true, true),
        (down("venues"), false, false),
        (What::CrmThrottled { crm: "venues".into(), patience: by }, false, false),
        (What::AnswersLost { crm: "venues".into() }, false, true),
    ];
    for (what, deafens, repeats) in deeds {
        let mut run = run();
        run.act(22_405, 22_405, what.clone());
        let deeds = Deeds::of(&run.history, &TERMS);
        let venues = &run.evidence.crms[0];
        let [first, other, then] = [0, 1, 2].map(|index| deeds.standing(venues, &venues.calls[index]));
        assert_eq!((first, other), (Sender::Heard, Sender::Heard), "{what:?}");
        assert_eq!(then == Sender::Unheard, deafens, "{what:?}");
        assert_eq!(deeds.may_repeat(at(20_000), at(25_000)), repeats, "{what:?}");
        assert_eq!(deeds.may_repeat_at_all(), repeats, "{what:?}");
    }
}

/// Adds a call to the first CRM.
fn called(run: &mut Run, call: Call) {
    run.venues().calls.push(call);
}

#[test]
fn a_run_that_went_well_keeps_every_promise() {
    let run = run();
    let Verdict { checked, left } = run.judged();
    for checked in checked {
        assert!(checked.ok, "{}: {}", checked.name, checked.detail);
    }
    assert_eq!(left, []);
}

#[test]
fn of_nothing_only_that_is_well_which_lists_faults_or_does_not_apply() {
    let terms = TERMS;
    let verdict = judge::all(&Evidence::default(), &History::default(), &Known::default(), &terms);
    let well: Vec<&str> = verdict.checked.iter().filter(|checked| checked.ok).map(|checked| checked.name).collect();
    let expected = [
        "every_input_is_accounted_for",
        "what_was_sent_again_counts_once",
        "superseded_points_forward",
        "contact_ids_and_versions_rise_by_one",
        "every_quarantined_event_is_a_dead_letter_byte_for_byte",
        "everything_published_can_be_read",
        "what_was_left_is_mended",
        "a_crm_that_is_down_delays_only_itself",
        "a_view_built_anew_is_the_same",
    ];
    assert_eq!(well, expected);
}

/// The last version of the first contact ends without having been told apart from others in a CRM of this kind.
fn stopped_in(run: &mut Run, kind: CrmKind) {
    run.is_of(kind);
    let outcome = run
        .evidence
        .outcomes
        .iter_mut()
        .rfind(|outcome| (&*outcome.crm, outcome.contact_id) == (run::CRMS[0], Some(contact(1))));
    let outcome = outcome.unwrap();
    (outcome.outcome, outcome.reason) = (OutcomeKind::Rejected, Some(ReasonCode::AmbiguousMatch.into()));
}

#[test]
fn a_contact_stops_as_ambiguous_only_in_crm_com_and_only_after_a_create_that_nobody_heard() {
    let check = "ambiguous_only_where_no_reference_is_found";
    let created = |answered| Call { action: Action::Create, answered, ..call(4, 10_000, 1, 1, "Ada", "Roth") };
    holds(check, "0 contacts stopped", |_| {});
    holds(check, "1 contacts stopped", |run| {
        stopped_in(run, CrmKind::CrmCom);
        called(run, created(false));
    });
    holds(check, "1 contacts stopped", |run| {
        stopped_in(run, CrmKind::CrmCom);
        called(run, created(true));
        run.act(10_005, 10_005, killed(1));
    });
    fails(check, "though no create of it went unheard", |run| {
        stopped_in(run, CrmKind::CrmCom);
        called(run, created(true));
    });
    for kind in [CrmKind::Priava, CrmKind::Previsto, CrmKind::Logisense, CrmKind::NextinteractSam] {
        fails(check, "is ambiguous in venues", |run| {
            stopped_in(run, kind);
            called(run, created(false));
        });
    }
}

#[test]
fn an_event_that_was_accepted_and_is_not_there_is_found() {
    let check = "everything_accepted_is_in_the_log";
    let name = || ("/shop".to_owned(), "e-9".to_owned());
    let sent = |times_sent, times_accepted| {
        move |run: &mut Run| {
            run.known.sent.insert(name(), Sending { times_sent, times_accepted });
        }
    };
    fails(check, "\"e-9\" was sent 1 times, accepted 1 times, and is there 0 times", sent(1, 1));
    holds(check, "4 events", sent(1, 0));
    fails(check, "never sent", |run| run.known.sent.retain(|(_, id), _| id != "e-0"));
}

#[test]
fn an_event_that_was_sent_twice_and_counts_twice_is_found() {
    let check = "what_was_sent_again_counts_once";
    fails(check, "sent again, ended as None", |run| drop(run.evidence.outcomes.pop()));
    holds(check, "1 repeats", |_| {});
    let again_as = |kind| move |run: &mut Run| run.evidence.outcomes.last_mut().unwrap().outcome = kind;
    fails(check, "sent again, ended as Some(Stale)", again_as(OutcomeKind::Stale));
    // What was not accepted is not remembered, and so ends the same way again.
    let first_as = |kind| {
        move |run: &mut Run| {
            let mut early = run.evidence.outcomes.last().unwrap().clone();
            (early.event, early.outcome, early.reason) = (run.evidence.entries[0].event.clone(), kind, None);
            run.evidence.entries.remove(0);
            run.evidence.outcomes.push(early);
        }
    };
    holds(check, "1 repeats", |run| {
        again_as(OutcomeKind::Stale)(run);
        first_as(OutcomeKind::Stale)(run);
    });
    fails(check, "sent again, ended as Some(Stale)", |run| {
        again_as(OutcomeKind::Stale)(run);
        first_as(OutcomeKind::Filtered)(run);
    });
    fails(check, "is taken for a repeat", |run| {
        first_as(OutcomeKind::Duplicate)(run);
        run.evidence.outcomes.last_mut().unwrap().reason = Some(ReasonCode::SameEvent.into());
    });
}

#[test]
fn a_call_of_nobody_is_found_and_a_port_may_be_used_again() {
    let check = "every_call_has_a_sender";
    fails(check, "nobody knows who sent call 2", |run| run.venues().calls[1].peer = None);
    fails(check, "nobody knows", |run| run.history.lines.truncate(1));
    fails(check, "nobody knows", |run| run.history.lines[0].from = at(21_000));
    // Worker 2 has the port of worker 1 from then on, and is not held to what worker 1 was asked.
    let later = |run: &mut Run| {
        let refused = Call {
            status: Some(429),
            retry_after: Some(Duration::from_secs(9)),
            effect: None,
            ..call(4, 23_000, 1, 2, "Ben", "Vale")
        };
        called(run, refused);
        called(run, Call { effect: None, status: Some(503), ..call(5, 24_000, 1, 2, "Ben", "Vale") });
        run.history.lines.push(Line { from: at(23_500), peer: peer(1), worker: worker_name(2) });
    };
    holds("nothing_before_retry_after", "1 times", later);
    fails("nothing_before_retry_after", "call 5", |run| {
        later(run);
        run.history.lines.pop();
    });
}

/// The first version takes effect once more, late.
fn steps_back(run: &mut Run) {
    called(run, call(4, 40_000, 1, 1, "Ada", "Roth"));
    run.venues().stored.retain(|stored| stored.external_id != Some(contact(1).key()));
    let stored = fields(contact(1), "Ada", "Roth");
    let external_id = Some(contact(1).key());
    run.venues().stored.push(Stored { remote_id: "1".to_owned(), external_id, fields: stored });
}

#[test]
fn a_step_back_is_forgiven_only_to_one_that_could_not_hear_at_that_time() {
    let check = "order_per_contact";
    let with = |from, until, what: What| {
        move |run: &mut Run| {
            steps_back(run);
            run.act(from, until, what);
        }
    };
    fails(check, "went back to [1, 1] after 2", steps_back);
    holds(check, "1 late", |run| {
        steps_back(run);
        run.venues().calls[3].answered = false;
    });
    holds(check, "1 late", |run| {
        steps_back(run);
        run.venues().calls[3].ended = Some(Duration::from_millis(41_600));
    });
    holds(check, "1 late", with(40_005, 40_005, killed(1)));
    fails(check, "went back", with(40_005, 40_005, killed(2)));
    fails(check, "went back", with(39_000, 39_000, killed(1)));
    holds(check, "1 late", with(39_990, 45_000, What::CrmCut { worker: worker_name(1) }));
    fails(
        check,
        "went back",
        with(39_990, 45_000, What::BrokerDelayed { worker: worker_name(1), by: Duration::from_secs(1) }),
    );
    fails(check, "went back", with(39_990, 45_000, down("jobs")));
}

#[test]
fn what_a_replaced_worker_left_is_listed_and_to_be_mended() {
    let (equal, mended) = ("the_crm_equals_the_records", "what_was_left_is_mended");
    let left_by = |from, until, number| {
        move |run: &mut Run| {
            steps_back(run);
            run.act(from, until, frozen(number));
        }
    };
    fails(equal, "differs from version 2 in first, last", steps_back);
    holds(equal, "1 are as one left them", left_by(22_450, 39_900, 1));
    holds("order_per_contact", "1 late", left_by(22_450, 39_900, 1));
    let mut run = run();
    left_by(22_450, 39_900, 1)(&mut run);
    let crm = run.evidence.crms[0].name.clone();
    let expected = Leftover { contact: contact(1), crm, call: 4, what: Left::Differs };
    assert_eq!(run.left(), run.judged().left);
    assert_eq!(run.left(), [expected]);
    run.known.mended = true;
    let checked = run.checked(mended);
    assert!(!checked.ok && checked.detail.contains("still as call 4 left it"), "{}", checked.detail);

    // Of another worker, too short to be replaced, long over, and landing before its successor would write.
    for (from, until, number) in [(22_450, 39_900, 2), (35_000, 39_900, 1), (10_000, 38_000, 1), (39_000, 60_000, 1)] {
        fails(equal, "differs from version 2", left_by(from, until, number));
    }
    // A field that it did not touch is not its fault, nor one that was written since.
    fails(equal, "differs from version 2", |run| {
        left_by(22_450, 39_900, 1)(run);
        run.venues().stored[1].fields.insert("title".to_owned(), "Dr".into());
    });
    fails(equal, "differs from version 2", |run| {
        left_by(22_450, 39_900, 1)(run);
        called(run, call(5, 50_000, 2, 1, "Eva", "Kern"));
    });
    fails("order_per_contact", "carried what no version ever said", |run| {
        left_by(22_450, 39_900, 1)(run);
        run.venues().calls[3].fields = Some(fields(contact(1), "Ada", "Smith"));
    });
}

#[test]
fn part_of_an_older_version_that_a_replaced_worker_wrote_may_stand_among_newer_ones() {
    // As where a write carries only what changed: the next version restates one name, not the other.
    let mixed = |run: &mut Run| {
        called(run, call(4, 40_000, 1, 1, "Ada", "Kern"));
        run.changes(50_000, 2, 1, "Eva", "Bohr");
        run.venues().calls.last_mut().unwrap().fields = Some(fields(contact(1), "Ada", "Bohr"));
        run.venues().stored.last_mut().unwrap().fields = fields(contact(1), "Ada", "Bohr");
    };
    let frozen = |run: &mut Run| run.act(22_450, 39_900, frozen(1));
    fails("order_per_contact", "carried no version that ever was", mixed);
    fails("the_crm_equals_the_records", "differs from version 3 in first", mixed);
    for check in ["order_per_contact", "the_crm_equals_the_records"] {
        holds(check, "", |run| {
            mixed(run);
            frozen(run);
        });
    }
}

#[test]
fn a_contact_that_a_replaced_worker_removed_is_listed() {
    let removed = |run: &mut Run| {
        called(run, Call { action: Action::Delete, fields: None, ..call(4, 40_000, 1, 1, "", "") });
        run.venues().stored.retain(|stored| stored.external_id != Some(contact(1).key()));
    };
    fails("the_crm_equals_the_records", "is not in venues", removed);
    fails("every_contact_in_the_crm_has_one_link", "which is not there", removed);
    for check in ["the_crm_equals_the_records", "every_contact_in_the_crm_has_one_link"] {
        holds(check, "", |run| {
            removed(run);
            run.act(22_450, 39_900, frozen(1));
        });
    }
}

#[test]
fn a_contact_that_is_there_twice_is_listed_only_if_a_replaced_worker_made_it() {
    let twice = |run: &mut Run| {
        called(run, Call { action: Action::Create, ..call(4, 40_000, 1, 1, "Ada", "Roth") });
        let mut again = run.venues().stored.last().unwrap().clone();
        (again.remote_id, again.fields) = ("9".to_owned(), fields(contact(1), "Ada", "Roth"));
        run.venues().stored.push(again);
    };
    fails("no_duplicate_contact_in_the_crm", "twice", twice);
    fails("every_contact_in_the_crm_has_one_link", "no link names", twice);
    let mut run = run();
    twice(&mut run);
    run.act(22_450, 39_900, frozen(1));
    let Verdict { checked, left } = run.judged();
    for name in
        ["no_duplicate_contact_in_the_crm", "every_contact_in_the_crm_has_one_link", "the_crm_equals_the_records"]
    {
        let checked = checked.iter().find(|checked| checked.name == name).unwrap();
        assert!(checked.ok, "{name}: {}", checked.detail);
    }
    let [Leftover { call: 4, what: Left::Duplicate, .. }] = left.as_slice() else { panic!("{left:?}") };
    fails("no_duplicate_contact_in_the_crm", "twice", |run| {
        twice(run);
        run.act(22_450, 39_900, frozen(1));
        let third = run.venues().stored.last().unwrap().clone();
        run.venues().stored.push(third);
    });
}

#[test]
fn two_requests_at_once_are_forgiven_only_to_one_that_was_given_up_or_replaced() {
    let check = "one_request_in_flight_per_contact";
    let at_once = |run: &mut Run| {
        called(run, call(4, 40_000, 1, 1, "Eva", "Kern"));
        called(run, call(5, 40_005, 2, 1, "Eva", "Kern"));
    };
    fails(check, "call 5", at_once);
    let with = |from, until, what: What| {
        move |run: &mut Run| {
            at_once(run);
            run.act(from, until, what);
        }
    };
    holds(check, "", with(40_002, 40_002, killed(1)));
    fails(check, "call 5", with(40_002, 40_002, What::BrokerRestarted));
    // The later one is of a worker that was replaced, the earlier one of its successor.
    holds(check, "", with(22_450, 39_900, frozen(2)));
    holds(check, "", |run| {
        at_once(run);
        run.venues().calls[3].answered = false;
    });
}

#[test]
fn impatience_is_held_against_the_process_that_was_asked() {
    let check = "nothing_before_retry_after";
    let refused = |status| {
        move |run: &mut Run, worker: u16, number: u128| {
            let refusal = Call {
                status: Some(status),
                retry_after: Some(Duration::from_secs(9)),
                effect: None,
                ..call(4, 30_000, 1, 2, "Ben", "Vale")
            };
            called(run, refused_as(refusal));
            called(run, Call { status: Some(503), effect: None, ..call(5, 34_000, worker, number, "Ben", "Vale") });
        }
    };
    let (all, one) = (refused(429), refused(503));
    fails(check, "call 5", |run| all(run, 1, 1));
    holds(check, "1 times", |run| all(run, 2, 1));
    fails(check, "call 5", |run| one(run, 1, 2));
    holds(check, "1 times", |run| one(run, 1, 1));
    holds(check, "1 times", |run| one(run, 2, 2));
    holds(check, "1 times", |run| {
        all(run, 1, 1);
        run.act(32_000, 33_000, What::Started { worker: worker_name(1) });
    });
    fails(check, "call 5", |run| {
        all(run, 1, 1);
        run.act(32_000, 33_000, What::Started { worker: worker_name(2) });
    });
    holds(check, "0 times", |run| {
        all(run, 1, 1);
        run.venues().calls[3].answered = false;
    });
}

fn refused_as(refusal: Call) -> Call {
    Call { fields: None, ..refusal }
}

#[test]
fn a_call_is_repeated_only_after_a_disturbance() {
    let check = "repeats_only_where_disturbed";
    let again = |run: &mut Run| called(run, call(4, 40_000, 2, 1, "Eva", "Kern"));
    let with = |moment, what: What| {
        move |run: &mut Run| {
            again(run);
            run.act(moment, moment, what);
        }
    };
    fails(check, "1 times more than needed", again);
    holds(check, "1 calls", with(30_000, killed(1)));
    holds(check, "1 calls", with(15_000, What::BrokerKilled));
    fails(check, "more than needed", with(1_000, killed(1)));
    fails(check, "more than needed", with(41_000, killed(1)));
    fails(check, "more than needed", with(30_000, What::Stopped { worker: worker_name(1) }));
    fails(check, "more than needed", with(30_000, What::ViewDeleted { worker: worker_name(1) }));
    holds("calls_per_event", "venues: 4 calls", with(30_000, killed(1)));
    holds(check, "1 calls", |run| {
        let late = call(4, 40_000, 2, 1, "Eva", "Kern");
        called(run, Call { ended: Some(late.arrived + TERMS.request_deadline), ..late });
    });

    let uncommitted = |run: &mut Run| run.known.uncommitted.push(run.known.uncommitted[0].clone());
    fails(check, "1 outcomes were written again", uncommitted);
    holds(check, "1 uncommitted outcomes", |run| {
        uncommitted(run);
        run.act(30_000, 30_000, killed(1));
    });
    for moved in [What::Started { worker: worker_name(2) }, What::Stopped { worker: worker_name(2) }] {
        holds(check, "1 uncommitted outcomes", |run| {
            uncommitted(run);
            run.act(30_000, 31_000, moved);
        });
    }
    fails(check, "0 outcomes were read", |run| run.known.uncommitted.clear());
}

#[test]
fn a_crm_that_waits_for_another_is_found() {
    let check = "a_crm_that_is_down_delays_only_itself";
    // Something comes each second, and is settled in the other CRM, or is not.
    let load = |run: &mut Run| {
        for second in 30..60 {
            run.changes(second * 1_000, 2, 2, "Ben", &format!("Vale {second}"));
        }
        run.act(32_000, 58_000, down("jobs"));
    };
    let silent = |run: &mut Run| {
        let silence = at(40_000)..at(44_600);
        run.evidence.outcomes.retain(|outcome| &*outcome.crm == "jobs" || !silence.contains(&outcome.settled_at));
    };
    holds(check, "26 s with a CRM down", load);
    fails(check, "venues was silent for", |run| {
        load(run);
        silent(run);
    });
    // Its own silence is its own affair, as is that while something else is wrong or still shows.
    holds(check, "26 s", |run| {
        load(run);
        run.evidence.outcomes.retain(|outcome| &*outcome.crm != "jobs" || outcome.settled_at < at(32_000));
    });
    for moment in [33_000, 41_000] {
        holds(check, "s with a CRM down", |run| {
            load(run);
            silent(run);
            run.act(moment, moment, killed(1));
        });
    }
    fails(check, "venues was silent", |run| {
        load(run);
        silent(run);
        run.act(29_000, 29_000, killed(1));
    });
    // Nothing came, so nothing is missed; but if nothing ever came, nothing was seen.
    holds(check, "26 s", |run| {
        load(run);
        silent(run);
        run.evidence.inputs.retain(|record| !(at(39_000)..at(44_000)).contains(&record.timestamp));
    });
    fails(check, "nothing came in", |run| run.act(50_000, 60_000, down("jobs")));
    holds(check, "no CRM was down", |_| {});
}

#[test]
fn terms_of_office_follow_each_other() {
    let check = "one_resolver_at_a_time";
    let begin = |run: &mut Run, epoch: u64, moment| {
        run.known.state.push(signed("contact-resolver", 9, "epoch", &json!({ "epoch": epoch }), moment));
    };
    let decide = |run: &mut Run, topic: &str, epoch: u64, moment| {
        run.known.decided.push(signed(topic, 9, "a", &json!({ "epoch": epoch }), moment));
    };
    holds(check, "2 terms", |run| {
        begin(run, 2, 30_000);
        decide(run, "contact-records", 2, 30_100);
    });
    fails(check, "of term 1 comes after one of 2", |run| {
        begin(run, 2, 30_000);
        decide(run, "contact-keys", 2, 30_100);
        decide(run, "contact-keys", 1, 29_000);
    });
    fails(check, "of term 1 was sent at", |run| {
        begin(run, 2, 30_000);
        decide(run, "contact-versions", 1, 30_001);
    });
    fails(check, "of term 1 comes after one of 2", |run| {
        begin(run, 2, 30_000);
        let position =
            signed("contact-resolver", 10, "position/contact-changes/0", &json!({"offset": 4, "epoch": 1}), 29_000);
        run.known.state.push(position);
    });
    fails(check, "which never began", |run| decide(run, "contact-records", 2, 30_100));
    fails(check, "term 3 begins after term 1", |run| begin(run, 3, 30_000));
    fails(check, "term 1 begins after term 1", |run| begin(run, 1, 30_000));
    fails(check, "cannot be read", |run| {
        run.known.decided.push(signed("contact-records", 9, "a", &json!("no object"), 1));
    });
    fails(check, "nothing was decided", |run| run.known.decided.clear());
    fails(check, "no term ever began", |run| run.known.state.clear());
    // What an operator asks a worker for is written whoever resolves.
    let entry = |kind| Entry {
        cause: Some(Cause { kind, id: "c-1".to_owned() }),
        event: None,
        ..run().evidence.entries[0].clone()
    };
    let caused = |kind| {
        move |run: &mut Run| {
            begin(run, 2, 30_000);
            run.known.decided.push(signed(
                "contact-versions",
                9,
                "a",
                &serde_json::to_value(entry(kind)).unwrap(),
                31_000,
            ));
        }
    };
    holds(check, "2 terms", caused(CauseKind::Resync));
    fails(check, "of term 1 was sent at", caused(CauseKind::Merge));
}

#[test]
fn a_term_has_one_worker() {
    let check = "each_term_has_one_worker";
    let line =
        |epoch: u64| format!("INFO contact_replicator::resolver: this worker is the active resolver epoch={epoch}");
    let begin = |run: &mut Run| {
        run.known.state.push(signed("contact-resolver", 9, "epoch", &json!({"epoch": 2}), 30_000));
    };
    holds(check, "2 terms", |run| {
        begin(run);
        run.known.processes[1].lines.push(line(2));
    });
    fails(check, "both resolve in term 1", |run| run.known.processes[1].lines.push(line(1)));
    fails(check, "term 2, which never began", |run| run.known.processes[1].lines.push(line(2)));
    fails(check, "nobody says to have resolved in term 2", begin);
    holds(check, "1 terms", |run| {
        begin(run);
        run.act(30_200, 30_200, killed(2));
    });
    fails(check, "nobody says", |run| {
        begin(run);
        run.act(40_200, 40_200, killed(2));
    });
    fails(check, "nobody says to have resolved", |run| run.known.processes[0].lines.clear());
}

#[test]
fn metrics_that_are_not_what_was_published_are_found() {
    let check = "metrics_equal_the_outcomes";
    let set = |crm: &str, outcome: &str, code: &str, number| {
        let kind = (crm.to_owned(), outcome.to_owned(), code.to_owned());
        move |run: &mut Run| run.known.counted.as_mut().unwrap().extend([(kind, number)])
    };
    holds(check, "7 outcomes, 0 of them", |_| {});
    fails(
        check,
        "2 outcomes of venues, delivered, none were counted, and 3 published",
        set("venues", "delivered", "none", 2),
    );
    fails(check, "4 outcomes of venues", set("venues", "delivered", "none", 4));
    fails(check, "and none published", set("jobs", "rejected", "gone", 1));
    fails(check, "0 outcomes of *, duplicate, same_event", |run| {
        run.known.counted.as_mut().unwrap().retain(|(crm, _, _), _| crm != "*");
    });
    fails(check, "figures are not known", |run| run.known.counted = None);
    holds(check, "figures with it", |run| {
        run.known.counted = None;
        run.act(30_000, 30_000, killed(1));
    });
    holds(check, "1 of them of commits", |run| {
        set("venues", "delivered", "none", 2)(run);
        run.act(30_000, 30_000, What::CommitCut { worker: worker_name(1) });
    });
    fails(check, "4 outcomes of venues", |run| {
        set("venues", "delivered", "none", 4)(run);
        run.act(30_000, 30_000, What::CommitCut { worker: worker_name(1) });
    });
}

#[test]
fn views_that_differ_and_runs_that_never_settle_are_found() {
    fails("a_view_built_anew_is_the_same", "d1, the one built anew d2", |run| {
        run.known.digests = Some(["d1".to_owned(), "d2".to_owned()]);
    });
    fails("a_view_built_anew_is_the_same", "has no digest", |run| {
        run.known.digests = Some([String::new(), String::new()])
    });
    holds("a_view_built_anew_is_the_same", "no view", |run| run.known.digests = None);
    fails("everything_settled", "contact 7 has no outcome", |run| {
        run.known.unsettled.push("contact 7 has no outcome".to_owned());
    });
    fails("everything_settled", "never over", |run| run.history.healed = None);
}

#[test]
fn processes_that_end_otherwise_than_asked_are_found() {
    let check = "workers_end_when_asked";
    let ended = |ended| move |run: &mut Run| run.known.processes[0].ended = ended;
    fails(check, "asked to stop, and ended with Some(1)", ended(Ended::Asked { code: Some(1) }));
    fails(check, "asked to stop, and ended with Some(4)", ended(Ended::Asked { code: Some(4) }));
    let stopped = |from: u64, fault: What| {
        move |run: &mut Run| {
            run.known.processes[0].ended = Ended::Asked { code: Some(4) };
            let worker = run.known.processes[0].worker.clone();
            run.act(20_000, 28_000, What::Stopped { worker });
            run.act(from, from + 5_000, fault.clone());
        }
    };
    holds(check, "2 of them asked", stopped(16_000, What::BrokerKilled));
    holds(check, "2 of them asked", stopped(27_000, What::BrokerCut { worker: "worker-1".into() }));
    fails(check, "asked to stop, and ended with Some(4)", stopped(29_000, What::BrokerKilled));
    fails(
        check,
        "asked to stop, and ended with Some(4)",
        stopped(21_000, What::BrokerCut { worker: "worker-2".into() }),
    );
    fails(check, "ended by itself, with Some(0)", ended(Ended::Unasked { code: Some(0) }));
    holds(check, "1 of them asked", ended(Ended::Killed));
    fails(check, "panicked 1 times", |run| {
        run.known.processes[0].lines.push("thread 'main' panicked at src/main.rs:1:1:".to_owned());
    });
    fails(check, "no processes", |run| run.known.processes.clear());
}

#[test]
fn lines_that_tell_or_flood_are_found() {
    let check = "lines_are_few_and_tell_nothing";
    for telling in ["sent 1@example.com", "the domain is @example.com", "called +44 7700 900002."] {
        fails(check, "worker-1 has 1 lines with a value of a contact", |run| {
            run.known.processes[0].lines.push(telling.to_owned());
        });
    }
    let lines = |count| move |run: &mut Run| run.known.processes[1].lines.extend(vec!["well".to_owned(); count]);
    fails(check, "worker-2 has 11 lines", lines(10));
    holds(check, "11 lines", lines(9));
    fails(check, "no lines", |run| run.known.processes.clear());
}

#[test]
fn figures_are_those_of_the_run() {
    let mut run = run();
    called(&mut run, call(4, 40_000, 1, 1, "Eva", "Kern"));
    called(&mut run, Call { action: Action::Search, effect: None, answered: false, ..call(5, 40_100, 2, 2, "", "") });
    run.act(23_000, 39_900, frozen(1));
    run.known.uncommitted.push(run.known.uncommitted[0].clone());
    let figures = figures(&run.evidence, &run.history, &run.known, &TERMS);
    assert_eq!((figures.events, figures.entries, figures.contacts, figures.outcomes), (4, 3, 2, 7));
    assert_eq!((figures.outcomes_repeated, figures.outcomes_repeated_uncommitted), (0, 1));
    let [venues, jobs] = figures.crms.as_slice() else { panic!("{figures:?}") };
    assert_eq!((venues.calls, venues.look_ups, venues.calls_repeated), (5, 1, 1));
    assert_eq!((venues.calls_unheard, venues.calls_deposed), (1, 1));
    assert_eq!((venues.calls_per_event, jobs.calls_per_event), (1.25, 0.75));
    assert_eq!((jobs.superseded, jobs.unchanged), (0.0, 0.0));
}

/// As large as a run of the command, so that whoever makes the judge slow notices.
#[test]
fn a_large_run_is_judged() {
    const EVENTS: u64 = 10_000;
    let mut run = run();
    run.history.healed = Some(at(EVENTS * 20));
    for event in 0..EVENTS {
        let number = 10 + u128::from(event * event % 1_009);
        run.changes(30_000 + event * 10, 1, number, "Ada", &format!("Roth {event}"));
    }
    for second in 0..100 {
        run.act(30_000 + second * 1_000, 30_500 + second * 1_000, What::CrmCut { worker: worker_name(2) });
    }
    let counted = run.known.counted.as_mut().unwrap();
    counted.values_mut().filter(|count| **count == 3).for_each(|count| *count += EVENTS);
    for checked in run.judged().checked {
        assert!(checked.ok, "{}: {}", checked.name, checked.detail);
    }
}
