//! Who is who, as a table of small histories in a notation of their own, and what must hold after any history.
//!
//! `shop:1 v5{ann@x.ch, Ann Roth}` is a snapshot of the shop's subject 1, of version 5, with an address and a name;
//! without `v5` it is newer than all before it. Each step is
//! a second later than the one before it. `shop:1 again` is the last event of that subject once more. Contacts are
//! written as their live source records, `shop:1+erp:9`; a key as whom it leads to, the owner first, `shop:1 > erp:2`.

use std::collections::HashMap;

use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{
    Answer, Decision, Notice, keys,
    keys::{KeyHash, KeyType},
    tests::{World, context, document, placed, policy},
};
use crate::{
    contact::{
        ContactId, ContactRecord,
        normalise::email,
        record::{Member, Status},
    },
    event::{
        ReasonCode,
        change::{Change, Verb},
    },
};

/// A log under way.
#[derive(Default)]
struct Teller {
    world: World,
    told: u64,
    last: HashMap<String, Change>,
}

impl Teller {
    fn tell(&mut self, step: &str) -> Decision {
        let change = self.change(step.trim());
        self.told += 1;
        self.last.insert(format!("{}:{}", change.source, change.subject), change.clone());
        self.world.tell(&change)
    }

    fn change(&self, step: &str) -> Change {
        let (head, items) = match step.split_once('{') {
            Some((head, items)) => (head, Some(items.strip_suffix('}').expect("a view ends with }"))),
            None => (step, None),
        };
        let mut words = head.split_whitespace();
        let name = words.next().expect("a step names a source record");
        let (source, subject) = name.split_once(':').expect("source:subject");
        let mut sequence = 1000 + self.told;
        let mut verb = items.map(|items| Verb::Snapshot(document(view(items))));
        for word in words {
            match word {
                "again" => return self.last[name].clone(),
                "delete" => verb = Some(Verb::Delete),
                "erase" => verb = Some(Verb::Erase),
                version => {
                    sequence = version.strip_prefix('v').and_then(|text| text.parse().ok()).expect("v and a number")
                }
            }
        }
        let id = format!("event {}", self.told);
        let placed =
            placed(&id, subject, Some(sequence.to_string().into()), self.told, verb.expect("a step says something"));
        let record_timestamp =
            placed.record_timestamp + SignedDuration::from_secs(i64::try_from(self.told).expect("a short log"));
        Change { source: source.into(), record_timestamp, ..placed }
    }

    fn persons(&self) -> Vec<String> {
        let mut persons: Vec<String> = self.world.live().into_iter().map(named).collect();
        persons.sort_unstable();
        persons
    }

    /// Whom an address leads to, each by its first live source record.
    fn holders(&self, address: &str) -> String {
        let hash = KeyHash::of_email(&context().hasher, &email(address).expect("an address"));
        let Some(entry) = self.world.keys.get(&hash) else { return String::new() };
        let first = |contact| named(&self.world.records[&contact]).split('+').next().unwrap_or_default().to_owned();
        let generic = if entry.generic { "generic: " } else { "" };
        format!("{generic}{}", entry.holders().map(first).collect::<Vec<_>>().join(" > "))
    }
}

fn view(items: &str) -> Value {
    let mut view = Map::new();
    let mut emails = Vec::new();
    for item in items.split(", ").filter(|item| !item.is_empty()) {
        match item.split_once(' ') {
            _ if item.contains('@') => emails.push(json!({ "value": item })),
            Some(("born", date)) => drop(view.insert("birthDate".into(), date.into())),
            Some(("marketing", word)) => drop(view.insert("consent".into(), json!({"marketing": word == "yes"}))),
            Some((given, family)) => {
                drop(view.insert("name".into(), json!({"givenName": given, "familyName": family})));
            }
            None => drop(view.insert("name".into(), json!({ "givenName": item }))),
        }
    }
    if !emails.is_empty() {
        view.insert("emails".into(), emails.into());
    }
    Value::Object(view)
}

fn named(record: &ContactRecord) -> String {
    let live = record.members.iter().filter(|member| member.state.live);
    live.map(|member| format!("{}:{}", member.source, member.subject)).collect::<Vec<_>>().join("+")
}

/// How the last event ended, and what else was found out with it.
fn ends(decision: &Decision) -> String {
    let end = match &decision.answer {
        Answer::Replicators => "entry".to_owned(),
        Answer::Resolver(ending) => ending.outcome.to_string(),
        Answer::DeadLetters(fault) => fault.code.to_string(),
    };
    let tied = decision.tied.then(|| "tie".to_owned());
    let notices = decision.notices.iter().map(|notice| match notice {
        Notice::Conflict { key_type, code, .. } => format!("conflict {} {code}", key_type.as_str()),
        Notice::Generic { key_type, .. } => format!("generic {}", key_type.as_str()),
    });
    let dropped = decision.dropped.iter().map(|dropped| format!("dropped {} {}", dropped.count, dropped.code));
    std::iter::once(end).chain(tied).chain(notices).chain(dropped).collect::<Vec<_>>().join(", ")
}

/// Tells the steps, and holds contacts, keys and the end of the last event to what is expected.
#[track_caller]
fn check(case: u32, steps: &str, persons: &str, keys: &[(&str, &str)], end: &str) -> Teller {
    let mut teller = Teller::default();
    let last = steps.split(" ; ").map(|step| teller.tell(step)).last().expect("a case has steps");
    let mut expected: Vec<&str> = persons.split_whitespace().collect();
    expected.sort_unstable();
    assert_eq!(teller.persons(), expected, "case {case}: contacts");
    for (address, holders) in keys {
        assert_eq!(teller.holders(address), *holders, "case {case}: {address}");
    }
    assert_eq!(ends(&last), end, "case {case}: end");
    invariants(&teller.world);
    teller
}

#[test]
fn the_cases_come_out_as_written() {
    let one = "shop:1+erp:9";
    let two = "shop:1 erp:9";
    let a = |holders| ("a@x.ch", holders);
    let b = |holders| ("b@x.ch", holders);
    let fam = |holders| ("fam@x.ch", holders);

    check(1, "shop:1{ann@x.ch} ; erp:9{ANN@X.CH}", one, &[("ann@x.ch", "shop:1")], "entry");
    check(2, "shop:1{a@x.ch} ; shop:1 again", "shop:1", &[a("shop:1")], "duplicate");
    check(3, "shop:1 v5{a@x.ch} ; shop:1 v5{a@x.ch}", "shop:1", &[a("shop:1")], "duplicate");
    check(5, "shop:1 v5{a@x.ch} ; shop:1 v4{b@x.ch}", "shop:1", &[a("shop:1"), b("")], "stale");
    check(7, "shop:1 v5{a@x.ch} ; shop:1 v5{b@x.ch}", "shop:1", &[a(""), b("shop:1")], "entry, tie");
    check(9, "shop:1{ann@x.ch} ; erp:9{a\u{ad}nn@x.ch}", one, &[("ann@x.ch", "shop:1")], "entry");
    check(11, "shop:1{Ann <ann@x.ch>} ; erp:9{mailto:ann@x.ch}", one, &[("ann@x.ch", "shop:1")], "entry");
    check(
        13,
        "shop:1{j.doe@x.ch} ; erp:9{jdoe@x.ch} ; web:3{jdoe+a@x.ch}",
        "shop:1 erp:9 web:3",
        &[("j.doe@x.ch", "shop:1"), ("jdoe@x.ch", "erp:9"), ("jdoe+a@x.ch", "web:3")],
        "entry",
    );
    check(15, "shop:1{x@straße.de} ; erp:9{x@strasse.de}", two, &[], "entry");
    check(17, "shop:1{x@Ｅxample。ch} ; erp:9{x@example.ch}", one, &[], "entry");
    check(19, "shop:1{İPEK@x.com} ; erp:9{ipek@x.com}", two, &[], "entry");
    check(21, "shop:1{x@İstanbul.com} ; erp:9{x@istanbul.com}", two, &[], "entry");
    check(
        23,
        "shop:1{info@firm.ch, Ann} ; erp:9{info@firm.ch, Bob}",
        two,
        &[("info@firm.ch", "")],
        "entry, dropped 1 blocked:role",
    );
    check(
        25,
        "shop:1{fam@x.ch, Ann Roth} ; shop:2{fam@x.ch, Bob Roth}",
        "shop:1 shop:2",
        &[fam("shop:1 > shop:2")],
        "entry, conflict email same_source",
    );
    check(
        27,
        "shop:1{fam@x.ch, Ann Roth} ; shop:2{fam@x.ch, Bob Roth} ; erp:7{fam@x.ch, Bob Roth}",
        "shop:1 shop:2+erp:7",
        &[fam("shop:1 > shop:2")],
        "unchanged",
    );
    check(
        29,
        "shop:1{a@x.ch} ; shop:1{b@x.ch} ; shop:2{a@x.ch}",
        "shop:1 shop:2",
        &[a("shop:2"), b("shop:1")],
        "entry",
    );
    check(
        31,
        "shop:1{a@x.ch} ; shop:1{b@x.ch} ; erp:5 v1{a@x.ch}",
        "shop:1 erp:5",
        &[a("erp:5"), b("shop:1")],
        "entry",
    );
    check(
        32,
        "shop:1{a@x.ch} ; erp:2{Ann} ; erp:2{Ann, a@x.ch}",
        "shop:1 erp:2",
        &[a("shop:1 > erp:2")],
        "entry, conflict email not_merged",
    );
    check(
        33,
        "shop:1{a@x.ch} ; shop:2{b@x.ch} ; erp:3{b@x.ch} ; erp:3{a@x.ch}",
        "shop:1 shop:2+erp:3",
        &[a("shop:1 > shop:2"), b("shop:2")],
        "entry, conflict email same_source",
    );
    check(
        35,
        "shop:1{a@x.ch} ; erp:2{b@x.ch} ; web:3{a@x.ch, b@x.ch}",
        "shop:1+web:3 erp:2",
        &[a("shop:1"), b("erp:2 > shop:1")],
        "entry, conflict email not_merged",
    );
    check(55, "shop:1{a@x.ch} ; shop:1 v2000 delete ; shop:1 v1999{b@x.ch}", "", &[a(""), b("")], "stale");
    let recreated =
        check(56, "shop:1 v8{a@x.ch} ; shop:1 v9 delete ; shop:1 v10{a@x.ch}", "shop:1", &[a("shop:1")], "entry");
    assert_eq!(recreated.world.records.len(), 2, "a new id");
    let left = check(
        57,
        "shop:1{a@x.ch, Ann Roth} ; erp:9{a@x.ch, Ann Kern} ; shop:1 delete",
        "erp:9",
        &[a("erp:9")],
        "unchanged",
    );
    assert_eq!(left.world.records.len(), 1);
    check(57, "erp:9{a@x.ch, Ann Kern} ; shop:1{a@x.ch, Ann Roth} ; shop:1 delete", "erp:9", &[a("erp:9")], "entry");
    check(59, "old:1{a@x.ch} ; old:2{a@x.ch}", "old:1+old:2", &[a("old:1")], "unchanged");
    let consent = check(
        61,
        "erp:9{a@x.ch, marketing no} ; shop:1{a@x.ch, marketing yes}",
        "erp:9+shop:1",
        &[a("erp:9")],
        "unchanged",
    );
    assert_eq!(consent.world.live()[0].contact, Some(document(view("a@x.ch, marketing no"))));
}

#[test]
fn an_event_with_too_many_keys_uses_the_first_and_counts_the_rest() {
    let addresses: Vec<String> = (0..200).map(|number| format!("a{number}@x.ch")).collect();
    let teller = check(
        63,
        &format!("shop:1{{{}}}", addresses.join(", ")),
        "shop:1",
        &[("a0@x.ch", "shop:1"), ("a18@x.ch", "shop:1"), ("a19@x.ch", "")],
        "entry, dropped 181 key_limit",
    );
    // The source id is the first of the twenty.
    assert_eq!(teller.world.keys.len(), policy().limits.keys_per_event);
}

#[test]
fn of_claimants_the_oldest_follows_when_the_owner_lets_go() {
    let family = "shop:1{fam@x.ch, Ann} ; shop:2{fam@x.ch, Bob} ; shop:3{fam@x.ch, Cid}";
    let fam = |holders| [("fam@x.ch", holders)];
    let all = "shop:1 shop:2 shop:3";
    check(
        0,
        family,
        all,
        &fam("shop:1 > shop:2 > shop:3"),
        "entry, conflict email same_source, conflict email same_source",
    );
    check(1, &format!("{family} ; shop:1{{Ann}}"), all, &fam("shop:2 > shop:3"), "entry");
    check(2, &format!("{family} ; shop:1 delete"), "shop:2 shop:3", &fam("shop:2 > shop:3"), "entry");
    check(3, &format!("{family} ; shop:2 erase"), "shop:1 shop:3", &fam("shop:1 > shop:3"), "entry");
    // Who comes back claims anew, as the youngest.
    check(
        4,
        &format!("{family} ; shop:1{{Ann}} ; shop:1{{fam@x.ch, Ann}}"),
        all,
        &fam("shop:2 > shop:3 > shop:1"),
        "entry, conflict email same_source, conflict email same_source",
    );
    // A conflict that is known is not told again.
    check(5, &format!("{family} ; shop:3{{fam@x.ch, Cid Roth}}"), all, &fam("shop:1 > shop:2 > shop:3"), "entry");
}

#[test]
fn a_key_is_kept_while_another_record_of_the_contact_asserts_it() {
    let joined = "shop:1{a@x.ch} ; erp:2{a@x.ch}";
    check(
        0,
        &format!("{joined} ; shop:1{{b@x.ch}}"),
        "shop:1+erp:2",
        &[("a@x.ch", "shop:1"), ("b@x.ch", "shop:1")],
        "entry",
    );
    check(1, &format!("{joined} ; shop:1{{b@x.ch}} ; erp:2 delete"), "shop:1", &[("a@x.ch", "")], "unchanged");
}

#[test]
fn a_key_that_many_assert_leads_nobody_new_to_anybody() {
    let people = ["Ann", "Bob", "Cid", "Dan"].map(str::to_owned);
    let told: Vec<String> =
        (1..).zip(&people).map(|(subject, name)| format!("shop:{subject}{{desk@x.ch, {name}}}")).collect();
    let four = told.join(" ; ");
    let same_source = ["conflict email same_source"; 4].join(", ");
    let five = format!("{four} ; shop:5{{desk@x.ch, Eve}}");
    let persons = "shop:1 shop:2 shop:3 shop:4 shop:5";
    let generic = [("desk@x.ch", "generic: shop:1 > shop:2 > shop:3 > shop:4 > shop:5")];
    let mut ends: Vec<&str> = vec!["entry", "generic email"];
    ends.push(&same_source);
    check(0, &five, persons, &generic, &ends.join(", "));
    check(
        1,
        &format!("{five} ; erp:9{{desk@x.ch, Eve}}"),
        &format!("{persons} erp:9"),
        &generic,
        "entry, dropped 1 generic",
    );
    // Before, it did lead to Dan.
    check(2, &format!("{four} ; erp:9{{desk@x.ch, Dan}}"), "shop:1 shop:2 shop:3 shop:4+erp:9", &[], "unchanged");
    // Who holds it keeps it with each change, and gives it back.
    check(3, &format!("{five} ; shop:5{{desk@x.ch, Eva}}"), persons, &generic, "entry");
    check(
        4,
        &format!("{five} ; shop:1{{Ann}}"),
        persons,
        &[("desk@x.ch", "generic: shop:2 > shop:3 > shop:4 > shop:5")],
        "entry",
    );
}

#[test]
fn values_that_name_nobody_are_no_keys() {
    for (address, code) in [
        ("noreply@x.ch", "blocked:role"),
        ("NoReply@x.ch", "blocked:role"),
        ("ann@x.test", "blocked:domain"),
        ("ann@mail.localhost", "blocked:domain"),
        ("ann@x@y@", "invalid"),
    ] {
        let steps = format!("shop:1{{{address}}} ; erp:9{{{address}}}");
        check(0, &steps, "shop:1 erp:9", &[], &format!("entry, dropped 1 {code}"));
    }
    check(1, "shop:1{ann@contest.ch} ; erp:9{ann@contest.ch}", "shop:1+erp:9", &[], "unchanged");
    for (raw, code) in [("N/A", keys_code("N/A")), ("-1", keys_code("-1")), ("0000", keys_code("0000"))] {
        assert_eq!(code, "blocked:value", "{raw}");
    }
}

fn keys_code(raw: &str) -> String {
    let asserted = keys::asserted(&document(json!({"emails": [{"value": raw}]})), &policy(), &context().hasher);
    assert!(asserted.keys.is_empty());
    asserted.dropped[0].code.to_string()
}

#[test]
fn source_records_that_are_gone_do_not_pile_up_in_a_contact_that_lives_on() {
    let comings: Vec<String> =
        (0..50).map(|subject| format!("old:{subject}{{a@x.ch}} ; old:{subject} delete")).collect();
    let steps = format!("shop:1{{a@x.ch}} ; {}", comings.join(" ; "));
    let teller = check(0, &steps, "shop:1", &[("a@x.ch", "shop:1")], "unchanged");
    let members: Vec<&str> = teller.world.live()[0].members.iter().map(|member| &*member.subject).collect();
    assert_eq!(members.len(), 1 + policy().limits.records);
    assert_eq!((members.first(), members.last()), (Some(&"1"), Some(&"49")));
    // Who left the record is still known by its key.
    check(1, &format!("{steps} ; old:3 v1000{{a@x.ch}}"), "shop:1", &[], "stale");
}

#[test]
fn a_guard_that_disagrees_keeps_two_apart() {
    check(
        0,
        "shop:1{a@x.ch, born 1980-01-01} ; erp:9{a@x.ch, born 1980-01-02}",
        "shop:1 erp:9",
        &[("a@x.ch", "shop:1 > erp:9")],
        "entry, conflict email birth_date",
    );
}

#[test]
fn a_source_record_explains_how_it_came_to_its_contact() {
    let teller = check(
        0,
        "shop:1{fam@x.ch, Ann Roth} ; shop:2{fam@x.ch, Bob Roth} ; erp:7{fam@x.ch, Bob Roth}",
        "shop:1 shop:2+erp:7",
        &[],
        "unchanged",
    );
    let live = teller.world.live();
    let of = |name: &str| -> (&ContactRecord, &Member) {
        let find = |record: &&ContactRecord| record.members.iter().any(|member| &*member.subject == name);
        let record = live.iter().copied().find(find).expect("a live contact");
        (record, record.members.iter().find(|member| &*member.subject == name).expect("its member"))
    };
    let (ann, founder) = of("1");
    assert_eq!((founder.state.membership.by.as_ref(), founder.state.membership.refusals.len()), (None, 0));
    let told = |member: &Member| {
        let refusals = member.state.membership.refusals.iter();
        refusals.map(|refused| (refused.contact, refused.code.to_string())).collect::<Vec<_>>()
    };
    let (_, bob) = of("2");
    let both = [(ann.contact_id, "same_source".to_owned()), (ann.contact_id, "name_incompatible".to_owned())];
    assert_eq!((bob.state.membership.by.as_ref(), told(bob)), (None, both.to_vec()));
    let (_, joined) = of("7");
    assert_eq!(joined.state.membership.by, Some(KeyType::Email));
    assert_eq!(told(joined), [(ann.contact_id, "name_incompatible".to_owned())]);
}

#[test]
fn an_erasure_leaves_nothing_but_ids_and_the_version_below_which_nothing_returns() {
    let joined = "shop:1 v5{a@x.ch, Ann} ; erp:2 v5{a@x.ch, Ann}";
    let teller = check(0, &format!("{joined} ; shop:1 v6 erase"), "", &[("a@x.ch", "")], "entry");
    let stub = teller.world.records.values().next().expect("a stub");
    assert_eq!((stub.status, stub.version, &stub.contact), (Status::Erased, 2, &None));
    assert!(stub.members.is_empty() && stub.provenance.is_empty());
    for (hash, entry) in &teller.world.keys {
        if entry.key_type == KeyType::SourceId {
            assert_eq!((entry.owner, entry.last_owner), (None, Some(stub.contact_id)), "{hash:?}");
            assert!(entry.version.is_some());
        } else {
            assert!(entry.is_void());
        }
    }
    for (step, persons, end) in [
        ("shop:1 v5{a@x.ch}", "", "stale"),
        ("erp:2 v5{a@x.ch}", "", "stale"),
        ("shop:1 again", "", "duplicate"),
        ("shop:1 v6 erase", "", "duplicate"),
        ("shop:1 v7 erase", "", "unchanged"),
        ("shop:1 v7 delete", "", "unchanged"),
        ("shop:1 v7{a@x.ch}", "shop:1", "entry"),
        ("erp:2 v6{a@x.ch}", "erp:2", "entry"),
    ] {
        check(1, &format!("{joined} ; shop:1 v6 erase ; {step}"), persons, &[], end);
    }
    // The erasure that comes again does not touch who came after it.
    let after = "shop:1 v6 erase ; erp:2 v9{a@x.ch} ; shop:1 again";
    check(2, &format!("{joined} ; {after}"), "erp:2", &[("a@x.ch", "erp:2")], "duplicate");
}

#[test]
fn an_erasure_reaches_what_was_deleted_before() {
    let deleted = "shop:1 v5{a@x.ch} ; shop:1 v6 delete";
    for erase in ["shop:1 v6 erase", "shop:1 v7 erase"] {
        let teller = check(0, &format!("{deleted} ; {erase}"), "", &[], "entry");
        assert!(teller.world.records.values().all(|record| record.contact.is_none()));
    }
    check(1, &format!("{deleted} ; shop:1 v5 erase"), "", &[], "stale");
    check(2, "shop:1 v5 erase", "", &[], "unchanged");
    check(3, "shop:1 v5 erase ; shop:1 v4{a@x.ch}", "", &[], "stale");
}

/// What holds after any event.
fn invariants(world: &World) {
    let context = context();
    let mut homes: HashMap<KeyHash, ContactId> = HashMap::new();
    let mut supported: HashMap<KeyHash, Vec<ContactId>> = HashMap::new();
    for record in world.records.values() {
        let mut live = record.members.iter().filter(|member| member.state.live).peekable();
        assert_eq!(record.status == Status::Live, live.peek().is_some(), "a contact lives by its source records");
        for member in live {
            let hash = KeyHash::of_source_id(&context.hasher, &member.source, &member.subject);
            assert_eq!(homes.insert(hash, record.contact_id), None, "a live source record is in one contact");
            let held = &member.state.membership.keys;
            for key in held {
                let contacts = supported.entry(key.hash).or_default();
                if !contacts.contains(&record.contact_id) {
                    contacts.push(record.contact_id);
                }
            }
            for key in keys::asserted(&member.state.view, &context.policy, &context.hasher).keys {
                assert!(
                    held.contains(&key) || world.keys[&key.hash].generic,
                    "what is asserted and says something is held"
                );
            }
        }
    }
    for (hash, entry) in &world.keys {
        let mut holders: Vec<ContactId> = entry.holders().collect();
        if entry.key_type == KeyType::SourceId {
            assert_eq!(entry.owner, homes.remove(hash), "a source id is owned by the contact of its record");
            assert!(entry.claimants.is_empty());
            continue;
        }
        assert!(entry.owner.is_some() || entry.claimants.is_empty(), "who claims a key has it when nobody else does");
        assert!(holders.len() <= context.policy.limits.generic_after, "claims are bounded");
        let mut supporters = supported.remove(hash).unwrap_or_default();
        holders.sort_unstable();
        supporters.sort_unstable();
        assert_eq!(holders, supporters, "exactly those hold a key whose live source records assert it");
    }
    assert!(homes.is_empty() && supported.is_empty(), "every key is known");
}

/// A step of a random history: few sources, subjects, addresses and names, so that they meet.
fn steps() -> impl Strategy<Value = Vec<String>> {
    let address = prop_oneof![Just("a@x.ch"), Just("A@x.ch"), Just("b@x.ch"), Just("c@x.ch"), Just("info@x.ch")];
    let name = prop_oneof![Just("Ann"), Just("Bob"), Just("Anna Roth"), Just("A. Roth"), Just("born 1980-01-01")];
    let said = (proptest::collection::vec(address, 0..4), proptest::collection::vec(name, 0..2))
        .prop_map(|(addresses, names)| format!("{{{}}}", [addresses, names].concat().join(", ")));
    let what = prop_oneof![10 => said, 2 => Just(" delete".to_owned()), 1 => Just(" erase".to_owned()), 1 => Just(" again".to_owned())];
    let version = prop_oneof![4 => Just(None), 1 => (1000..1040_u32).prop_map(Some)];
    let step = (prop_oneof!["shop", "erp", "old"], 1..7_u8, version, what);
    proptest::collection::vec(step, 1..40).prop_map(|steps| {
        let mut told: Vec<String> = Vec::new();
        let mut steps_out = Vec::new();
        for (source, subject, version, what) in steps {
            let name = format!("{source}:{subject}");
            if what == " again" && !told.contains(&name) {
                continue;
            }
            let version =
                version.filter(|_| what != " again").map(|version| format!(" v{version}")).unwrap_or_default();
            told.push(name.clone());
            steps_out.push(format!("{name}{version}{what}"));
        }
        steps_out
    })
}

proptest! {
    #[test]
    fn any_history_of_shared_addresses_keeps_the_invariants(steps in steps()) {
        let mut teller = Teller::default();
        for step in &steps {
            let before = teller.world.clone();
            let decision = teller.tell(step);
            invariants(&teller.world);
            if let Answer::DeadLetters(fault) = &decision.answer {
                prop_assert_eq!(fault.code, ReasonCode::RecordTooLarge);
            }
            let carried = decision.entries.iter().filter(|entry| entry.event.is_some()).count();
            prop_assert_eq!(carried, usize::from(decision.answer == Answer::Replicators));
            for new in &decision.keys {
                prop_assert_eq!(&teller.world.keys[&new.hash], &new.entry, "a key is decided once");
            }
            for new in &decision.records {
                let version = before.records.get(&new.record.contact_id).map_or(0, |old| old.version);
                prop_assert!(new.record.version - version <= 1);
            }
            // A live source record stays where it is.
            for (contact, old) in &before.records {
                for member in old.members.iter().filter(|member| member.state.live) {
                    let now = teller.world.records.values().find(|record| record.members.iter().any(|other| {
                        other.state.live && other.source == member.source && other.subject == member.subject
                    }));
                    prop_assert!(now.is_none_or(|record| record.contact_id == *contact));
                }
            }
        }
    }

    #[test]
    fn the_same_log_gives_the_same_world(steps in steps()) {
        let told = || {
            let mut teller = Teller::default();
            let decisions: Vec<_> = steps.iter().map(|step| teller.tell(step)).collect();
            (teller.world, decisions)
        };
        prop_assert_eq!(told(), told());
    }
}

#[test]
fn a_void_key_need_not_be_kept() {
    let mut teller = Teller::default();
    teller.tell("shop:1{a@x.ch}");
    let released = teller.tell("shop:1{b@x.ch}");
    let void: Vec<bool> = released.keys.iter().map(|new| new.entry.is_void()).collect();
    assert_eq!(void, [false, true]);
    // With or without it, the next decision is the same.
    let (mut kept, mut dropped) = (teller.world.clone(), teller.world.clone());
    dropped.keys.retain(|_, entry| !entry.is_void());
    let next = teller.change("erp:2{a@x.ch}");
    assert_eq!(kept.tell(&next), dropped.tell(&next));
}
