//! Claims about the scripts by which installations are tortured. The torture command has no test harness of its own.

#[path = "torture/script.rs"]
mod script;

use std::{collections::BTreeSet, time::Duration};

use self::script::{Fault, Kind, Scope, Script};

const LASTS: Duration = Duration::from_secs(40);

fn scope(seed: u64) -> Scope {
    Scope { seed, lasts: LASTS, workers: 3, crms: 2, kinds: Kind::ALL.to_vec() }
}

#[test]
fn a_seed_names_its_script() {
    assert_eq!(Script::new(&scope(1)), Script::new(&scope(1)));
    assert_ne!(Script::new(&scope(1)), Script::new(&scope(2)));
}

#[test]
fn every_kind_of_fault_and_of_installation_occurs() {
    let scripts: Vec<Script> = (0..20).map(|seed| Script::new(&scope(seed))).collect();
    let kinds: BTreeSet<Kind> = scripts.iter().flat_map(|script| &script.faults).map(|fault| fault.kind).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), Kind::ALL);
    let shapes: BTreeSet<(bool, u32)> = scripts.iter().map(|script| (script.named, script.partitions)).collect();
    assert_eq!(shapes.len(), 4, "{shapes:?}");
    assert!(scripts.iter().all(|script| script.faults.len() >= 8), "a run is worth its time");
}

#[test]
fn faults_come_in_order_and_leave_room_to_heal() {
    // Whatever is about the same worker, the same CRM or the broker.
    let thing = |fault: &Fault| match fault.kind {
        Kind::Kill | Kind::Freeze | Kind::Storm | Kind::ViewDeleted | Kind::ViewTorn => ("process", fault.whom),
        Kind::BrokerStop | Kind::BrokerKill => ("broker", 0),
        Kind::BrokerDelay | Kind::BrokerCut | Kind::CommitCut => ("line to the broker", fault.whom),
        Kind::CrmCut => ("line to the CRMs", fault.whom),
        _ => ("CRM", fault.whom),
    };
    for seed in 0..200 {
        let faults = Script::new(&scope(seed)).faults;
        assert!(faults.is_sorted_by_key(|fault| fault.at), "seed {seed}");
        for (index, fault) in faults.iter().enumerate() {
            let ends = fault.at + fault.lasts;
            assert!(ends <= LASTS, "seed {seed}: {fault:?} outlasts the run");
            let next = faults[index + 1..].iter().find(|next| thing(next) == thing(fault));
            assert!(
                next.is_none_or(|next| next.at >= ends + Duration::from_secs(3)),
                "seed {seed}: {fault:?}, {next:?}"
            );
        }
    }
}

#[test]
fn a_freeze_outlasts_the_session() {
    let frozen: Vec<Fault> =
        (0..50).flat_map(|seed| Script::new(&scope(seed)).faults).filter(|fault| fault.kind == Kind::Freeze).collect();
    assert!(!frozen.is_empty());
    assert!(frozen.iter().all(|fault| fault.lasts > Duration::from_secs(6)), "{frozen:?}");
}

#[test]
fn nothing_happens_but_what_was_asked_for() {
    let faults = Script::new(&Scope { kinds: vec![Kind::Kill, Kind::CrmDown], ..scope(3) }).faults;
    let kinds: BTreeSet<Kind> = faults.iter().map(|fault| fault.kind).collect();
    assert_eq!(kinds, BTreeSet::from([Kind::Kill, Kind::CrmDown]));
    assert_eq!(Script::new(&Scope { kinds: Vec::new(), ..scope(3) }).faults, []);
}
