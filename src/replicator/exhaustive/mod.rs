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
            panic!("{name}: {:?} after {} states:\n{}", violation.invariant, violation.states, violation.trace.join("\n"))
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
