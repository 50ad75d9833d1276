//! A world told: each step as a line to read aloud.

use std::fmt;

use super::{Model, Outcome, Transaction, World, attempt, steps::Step};
use crate::replicator::exhaustive::crm;

impl Model {
    pub(super) fn told(&self, world: &World, step: Step) -> String {
        let request = |worker: usize, slot: usize| {
            let attempt = attempt(world, worker, slot);
            format!("{} for version {}", crm::describe(&self.requests.get(attempt.request)), attempt.record)
        };
        let adrift = |at: usize| {
            let (request, version) = world.adrift[at].expect("it is there");
            format!("{} for version {version}", crm::describe(&self.requests.get(request)))
        };
        let transaction = |worker: usize| {
            let number = world.open[worker].expect("it is open");
            self.transactions.get(number).to_string()
        };
        let name = |worker: usize| ["A", "B"][worker];
        match step {
            Step::Publish => {
                let said = self.contents(world.published + 1);
                if said == crm::ABSENT {
                    return format!("version {} is published: the contact is to go", world.published + 1);
                }
                let said: Vec<_> = crm::FIELDS.iter().zip(said).filter(|(_, value)| *value != 0).collect();
                format!("version {} is published: {said:?}", world.published + 1)
            }
            Step::Send(worker, slot) => format!("{} wants to send: {}", name(worker), request(worker, slot)),
            Step::Land(worker, slot) => format!("lands, of {}: {}", name(worker), request(worker, slot)),
            Step::Answer(worker, slot) => format!("{} hears the answer to: {}", name(worker), request(worker, slot)),
            Step::LoseAnswer(worker, slot) => {
                format!("{} loses the answer to: {}", name(worker), request(worker, slot))
            }
            Step::Refuse(worker, slot) => format!("{} is refused (400): {}", name(worker), request(worker, slot)),
            Step::Unauthorized(worker, slot, renewed) => {
                let then = if renewed { "renewed" } else { "not renewed" };
                format!("{} is refused its credential ({then}): {}", name(worker), request(worker, slot))
            }
            Step::NotSent(worker, slot) => {
                format!("{} gets no connection for: {}", name(worker), request(worker, slot))
            }
            Step::Fail(worker, slot, effect) => {
                format!("{} is answered 500 (effect: {effect:?}): {}", name(worker), request(worker, slot))
            }
            Step::LandAdrift(at) => format!("lands, given up before: {}", adrift(at)),
            Step::VanishAdrift(at) => format!("never lands: {}", adrift(at)),
            Step::Commit(worker) => format!("{} commits {}", name(worker), transaction(worker)),
            Step::CommitUnknown(worker) => {
                format!("{} does not hear whether it committed {}", name(worker), transaction(worker))
            }
            Step::CommitOfTheDead(worker) => {
                format!("the transaction that {} left is committed: {}", name(worker), transaction(worker))
            }
            Step::Delete => "somebody deletes the contact in the CRM".to_owned(),
            Step::Haunt => "a worker that was thought dead writes to the CRM".to_owned(),
            Step::Ask => format!("an operator asks for the contact: {}", self.configuration.asks),
            Step::TimePasses => "the landing time passes".to_owned(),
            Step::SeeRecords(worker) => format!("{} sees the newest record", name(worker)),
            Step::SeeLinks(worker) => format!("{} sees the newest link", name(worker)),
            Step::Assign(worker) => format!("{} is assigned the partition", name(worker)),
            Step::FindOffset(worker) => format!("{} reads the committed offset", name(worker)),
            Step::TakeOver(worker) => format!("{} has taken over", name(worker)),
            Step::Read(worker) => format!("{} reads an entry", name(worker)),
            Step::NeighbourEnds(worker) => format!("{} has the answer of another contact", name(worker)),
            Step::Wake(worker) => format!("{} wakes the parked contact", name(worker)),
            Step::Begin(worker) => format!("{} begins an attempt", name(worker)),
            Step::Prepare(worker) => format!("{} begins a commit", name(worker)),
            Step::Revoke(worker) => format!("{} is to hand the partition over", name(worker)),
            Step::LetGo(worker) => format!("{} lets the partition go", name(worker)),
            Step::Expel(worker) => format!("{} is expelled without knowing", name(worker)),
            Step::LearnOfExpulsion(worker) => format!("{} learns that it was expelled", name(worker)),
            Step::Crash(worker) => format!("{} dies", name(worker)),
            Step::Start(worker) => format!("{} starts again", name(worker)),
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (owned, links, requests) = (self.owned.len(), self.links.len(), self.requests.len());
        write!(f, "{owned} states of the partition, {links} links, {requests} requests")
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}", self.offset)?;
        if self.link.is_some() {
            f.write_str(", the link")?;
        }
        for Outcome { version, kind, asked, .. } in &self.outcomes {
            let what = if *asked { "what was asked at version" } else { "version" };
            write!(f, ", {what} {version} {kind:?}")?;
        }
        f.write_str(if self.released { ", released" } else { "" })
    }
}
