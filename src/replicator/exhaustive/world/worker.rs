//! What a worker does: its attempts, and what it decides and commits. The decisions are the real ones; here is only the
//! loop around them, as `membership` and `attempt` have it.

use std::rc::Rc;

use super::{
    Attempt, CONTACT, Codes, Exchange, LANDING, Model, Next, Outcome, Process, REQUESTS, Transaction, World, attempt,
};
use crate::{
    crm::{
        Request, RequestKind,
        link::{Link, Open},
        reference::References,
    },
    event::OutcomeKind,
    protection::Protection,
    replicator::{
        delivery::{Action, Machine},
        exhaustive::{
            crm::Code,
            invariants::{self, Invariant},
            print,
        },
        lane::{Decided, End, Lane, Lost, Task},
        partition::{Owned, Pending, Phase, Release},
    },
};

impl Model {
    /// The delivery machine after `answers`, and what it wants.
    #[expect(clippy::result_large_err, reason = "as the machine's own end")]
    pub(super) fn drive<'a>(
        &'a self,
        task: &'a Task,
        record: u8,
        answers: &Codes,
    ) -> Result<(Machine<'a>, Action), End> {
        let mut machine =
            Machine::new(&self.terms, task, &self.records[usize::from(record) - 1], References::default())?;
        let mut action = machine.begin();
        for answer in answers.iter().flatten() {
            action = machine.answered(answer.answer(), self.now);
            if let (Action::Renew, Code::Unauthorized { renewed }) = (&action, answer) {
                action = machine.renewed(*renewed);
            }
        }
        Ok((machine, action))
    }

    pub(super) fn next(&self, task: u32, record: u8, answers: Codes) -> Rc<Next> {
        let key = (task, record, answers);
        if let Some(next) = self.nexts.borrow().get(&key) {
            return next.clone();
        }
        let next = match self.drive(&self.tasks.get(task), record, &answers) {
            Err(end) | Ok((_, Action::End(end))) => Next::End(end),
            Ok((_, Action::Send(request))) => Next::Send(self.request_number(request)),
            Ok((_, Action::Keep(_))) => unreachable!("there are no lists"),
            Ok((_, Action::Renew)) => unreachable!("the answer said what became of the renewal"),
        };
        let next = Rc::new(next);
        self.nexts.borrow_mut().insert(key, next.clone());
        next
    }

    /// Hands entries to the lane as far as the view covers them.
    pub(super) fn handle_incoming(&self, owned: &mut Owned, process: &Process) {
        while let Some((entry, offset)) = owned.incoming.front().filter(|_| owned.reads()).cloned() {
            if u64::from(process.sees_record) < entry.version {
                break;
            }
            owned.incoming.pop_front();
            owned.handle(entry, offset, || Link::clone(&*self.link(process.sees_link)));
        }
    }

    /// Lets go of a lane with nothing left to do, once the view holds its link.
    pub(super) fn rest(&self, world: &mut World, worker: usize) {
        let process = &world.processes[worker];
        let Some(owned) = self.owned_of(process) else { return };
        let Some(lane) = owned.lanes.get(&CONTACT) else { return };
        let seen = lane.link == *self.link(process.sees_link) || !self.holds(Protection::Overlay);
        if lane.is_idle(self.now, LANDING) && owned.pending.links.is_empty() && seen {
            self.change(world, worker, |owned| owned.forget(CONTACT));
        }
    }

    pub(super) fn begin(&self, world: &mut World, worker: usize) -> Result<(), Invariant> {
        let (task, lost, needed) = self.change(world, worker, |owned| {
            let lane = owned.lanes.get_mut(&CONTACT).expect("a lane is ready");
            lane.begin();
            let needed = lane.link.open.as_ref().map_or(1, Open::version);
            (lane.task(), lane.lost(self.now, LANDING).cloned(), needed)
        });
        let process = &mut world.processes[worker];
        let attempt = Attempt {
            assignment: process.assignment,
            task: self.task_number(task),
            record: process.sees_record,
            answers: [None; REQUESTS],
            lost: lost.map(|Lost { request, .. }| self.request_number(Request::clone(&request))),
            request: 0,
            exchange: Exchange::ToSend,
        };
        let slot = process.attempts.iter().position(Option::is_none).expect("one is free");
        process.attempts[slot] = Some(attempt);
        if u64::from(attempt.record) < needed {
            return self.ended(world, worker, slot, End::MustWait { until: self.now });
        }
        self.go_on(world, worker, slot)
    }

    /// Lets the machine of an attempt say what comes next.
    pub(super) fn go_on(&self, world: &mut World, worker: usize, slot: usize) -> Result<(), Invariant> {
        let mut attempt = attempt(world, worker, slot);
        match &*self.next(attempt.task, attempt.record, attempt.answers) {
            Next::Send(request) => {
                (attempt.request, attempt.exchange) = (*request, Exchange::ToSend);
                world.processes[worker].attempts[slot] = Some(attempt);
                Ok(())
            }
            Next::End(end) => self.ended(world, worker, slot, end.clone()),
        }
    }

    /// Asks for leave as an attempt does, and sends.
    pub(super) fn send(&self, world: &mut World, worker: usize, slot: usize) -> Result<(), Invariant> {
        let mut sending = attempt(world, worker, slot);
        let process = &world.processes[worker];
        let request = self.requests.get(sending.request);
        let repeats = |lost: u32| request.kind == RequestKind::Set && lost == sending.request;
        let ours = self.owned_of(process).is_some_and(|owned| owned.assignment == u64::from(sending.assignment));
        let kept_back = if sending.lost.is_some_and(|lost| !repeats(lost)) && self.holds(Protection::LostWait) {
            Some(End::MustWait { until: self.now + LANDING })
        } else if (!ours || process.expelled) && self.holds(Protection::OwnMap) {
            Some(End::MustWait { until: self.now })
        } else {
            None
        };
        if let Some(end) = kept_back {
            let task = self.tasks.get(sending.task);
            let Ok((machine, _)) = self.drive(&task, sending.record, &sending.answers) else {
                unreachable!("it wanted to send")
            };
            return self.ended(world, worker, slot, machine.kept_back(end));
        }
        sending.exchange = Exchange::Sent;
        world.processes[worker].attempts[slot] = Some(sending);
        invariants::one_in_flight(world)
    }

    pub(super) fn answer(&self, world: &mut World, worker: usize, slot: usize, code: Code) -> Result<(), Invariant> {
        let mut answered = attempt(world, worker, slot);
        let place = answered.answers.iter_mut().find(|answer| answer.is_none()).expect("few requests");
        *place = Some(code);
        world.processes[worker].attempts[slot] = Some(answered);
        self.go_on(world, worker, slot)
    }

    pub(super) fn ended(&self, world: &mut World, worker: usize, slot: usize, end: End) -> Result<(), Invariant> {
        let ended = attempt(world, worker, slot);
        let process = &mut world.processes[worker];
        process.attempts[slot] = None;
        process.attempts.sort_unstable_by_key(Option::is_none);
        let Some(owned) = self.owned_of(process) else { return Ok(()) };
        if owned.assignment != u64::from(ended.assignment) && self.holds(Protection::AssignmentNumber) {
            return Ok(());
        }
        if owned.lanes.get(&CONTACT).is_none_or(|lane| !lane.is_in_flight()) {
            assert!(!self.holds(Protection::AssignmentNumber), "a lane outlives its attempt");
            return Ok(());
        }
        if let End::Judged { outcome: OutcomeKind::Unchanged, .. } = &end {
            invariants::unchanged_is_true(self, world, ended.record)?;
        }
        self.change(world, worker, |owned| {
            let lane = owned.lanes.get_mut(&CONTACT).expect("just seen");
            let decided: Decided = lane.end(end, self.circumstances());
            owned.note(CONTACT, decided);
        });
        Ok(())
    }

    /// Takes what was decided, as a batch does, and prepares its transaction.
    pub(super) fn prepare(&self, world: &mut World, worker: usize) {
        let assignment = world.processes[worker].assignment;
        let transaction = self.change(world, worker, |owned| {
            let releasing = self.commits(owned).expect("there is something to commit");
            let released = releasing && owned.may_release(self.now, LANDING);
            if releasing {
                owned.release = Release::Committing;
            }
            let Pending { links, answers, .. } = std::mem::take(&mut owned.pending);
            let lane = owned.lanes.get(&CONTACT);
            let link = links.first().map(|_| &lane.expect("a lane outlives its commit").link);
            let outcomes = answers.into_iter().map(|(_, answer)| Outcome {
                version: u8::try_from(answer.entry.version).expect("few"),
                kind: answer.outcome,
                asked: answer.entry.is_asked(),
                by: answer.by_version.map(|by| u8::try_from(by).expect("few")),
            });
            Transaction {
                assignment,
                link: link.map(|link| self.link_number(link.clone())),
                outcomes: outcomes.collect(),
                offset: u8::try_from(owned.ledger.commit_point()).expect("few"),
                released,
                awaited: link.is_some() && lane.is_some_and(Lane::awaits_commit),
            }
        });
        let print = print::transaction(&transaction, transaction.assignment, transaction.link);
        world.open[worker] = Some(self.transactions.number(transaction, print));
    }

    pub(super) fn take_effect(&self, world: &mut World, worker: usize, transaction: &Transaction) {
        let Some(owned) = self.owned_of(&world.processes[worker]) else { return };
        if owned.assignment != u64::from(transaction.assignment) {
            return;
        }
        self.change(world, worker, |owned| {
            if transaction.awaited
                && owned.pending.links.is_empty()
                && let Some(lane) = owned.lanes.get_mut(&CONTACT)
            {
                lane.committed();
            }
            if owned.release == Release::Committing {
                owned.release = Release::Done;
            }
            owned.claimed = true;
            if owned.phase == Phase::Claiming {
                let cools = owned.is_tainted() && self.holds(Protection::TakeoverWait);
                if cools {
                    owned.phase = Phase::Cooling { until: self.now + LANDING };
                } else {
                    owned.cooled();
                }
            }
        });
    }
}
