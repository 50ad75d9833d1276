//! Every interleaving of a small world, with the real code in it.

mod crm;
mod interned;
mod invariants;
mod print;
mod search;
mod world;

use self::{
    crm::Kind,
    invariants::Invariant,
    world::{Budget, Configuration, Model},
};
use crate::protection::Protection;

fn upsert() -> Configuration {
    Configuration {
        name: "upsert",
        kind: Kind::Upsert,
        find_before_create: true,
        contents: vec![[1, 0], [1, 2]],
        budget: Budget::default(),
        tries_before_parking: 2,
        off: None,
    }
}

fn try_out(configuration: Configuration) {
    let name = configuration.name;
    let model = Model::new(configuration);
    let begun = tokio::time::Instant::now();
    match search::explore(&model, None) {
        Ok(explored) => println!("{name}: {explored:?} {:?} {:?}", begun.elapsed(), model.sizes()),
        Err(violation) => {
            panic!(
                "{name}: {:?} after {} states:\n{}",
                violation.invariant,
                violation.states,
                violation.trace.join("\n")
            )
        }
    }
}

#[test]
fn plain() {
    try_out(upsert());
    try_out(Configuration { budget: Budget { lost: 1, ..Budget::default() }, ..upsert() });
    try_out(Configuration { budget: Budget { crashes: 1, ..Budget::default() }, ..upsert() });
}

#[test]
fn settled_off() {
    let model = Model::new(Configuration { off: Some(Protection::Settled), ..upsert() });
    let violation = search::explore(&model, Some(Invariant::no_call_repeated_for_settled)).unwrap_err();
    println!("{}", violation.trace.join("\n"));
}

#[test]
fn scratch() {
    #![expect(clippy::disallowed_methods, reason = "scratch")]
    let Ok(text) = std::env::var("EXH") else { return };
    for text in text.split(';') {
        let mut configuration = Configuration { name: Box::leak(text.to_owned().into_boxed_str()), ..upsert() };
        let mut wanted = None;
        for part in text.split_whitespace() {
            let (key, value) = part.split_once('=').unwrap();
            let number = || value.parse::<u8>().unwrap();
            let budget = &mut configuration.budget;
            match key {
                "crash" => budget.crashes = number(),
                "lost" => budget.lost = number(),
                "refuse" => budget.refusals = number(),
                "error" => budget.errors = number(),
                "unknown" => budget.unknown = number(),
                "hand" => budget.handovers = number(),
                "expel" => budget.expulsions = number(),
                "delete" => budget.deletions = number(),
                "tries" => configuration.tries_before_parking = number().into(),
                "find" => configuration.find_before_create = number() == 1,
                "kind" => {
                    configuration.kind = match value {
                        "upsert" => Kind::Upsert,
                        "planted" => Kind::Create { planted: true },
                        "mail" => Kind::Create { planted: false },
                        _ => unreachable!(),
                    }
                }
                "v" => {
                    configuration.contents =
                        value.split(',').map(|v| [v.as_bytes()[0] - b'0', v.as_bytes()[1] - b'0']).collect();
                }
                "off" => configuration.off = Protection::ALL.iter().find(|p| format!("{p:?}") == value).copied(),
                "want" => {
                    use Invariant::*;
                    wanted = [
                        exactly_one_outcome,
                        converged,
                        no_duplicate_contact,
                        unchanged_is_true,
                        no_call_repeated_for_settled,
                        order,
                        one_in_flight,
                        commit_never_passes_unanswered,
                        every_state_can_finish,
                        assertions_of_the_code,
                    ]
                    .into_iter()
                    .find(|i| format!("{i:?}") == value);
                }
                _ => unreachable!(),
            }
        }
        let model = Model::new(configuration);
        let begun = tokio::time::Instant::now();
        match search::explore(&model, wanted) {
            Ok(explored) => println!("OK {text}: {explored:?} {:?} {:?}", begun.elapsed(), model.sizes()),
            Err(violation) => {
                println!(
                    "VIOLATION {text}: {:?} after {} states:\n{}",
                    violation.invariant,
                    violation.states,
                    violation.trace.join("\n")
                )
            }
        }
    }
}
