//! Prints of large values that know no hash: equal for equal values, and nearly always different for others.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::time::Instant;

use super::world::{CONTACT, Transaction};
use crate::{
    crm::{
        Request,
        link::{Link, Sent},
    },
    replicator::{lane::Task, partition::Owned},
};

fn print(feed: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    feed(&mut hasher);
    hasher.finish()
}

fn feed_link(link: &Link, hasher: &mut DefaultHasher) {
    link.remote_ids.hash(hasher);
    for (field, sent) in &link.sent {
        let hash = if let Sent::Hash(hash) = sent { Some(*hash) } else { None };
        (field, hash).hash(hasher);
    }
    link.presence.is_some().hash(hasher);
    link.intent.as_ref().map(|intent| &intent.keys).hash(hasher);
    let settled = link.settled.as_ref();
    settled.map(|settled| (settled.version, settled.outcome, settled.operation, settled.attempts)).hash(hasher);
    let open = link.open.as_ref();
    open.map(|open| (open.version(), open.asked.is_some(), open.attempts, open.next_attempt)).hash(hasher);
    (link.answered, link.asked_until, link.doubted).hash(hasher);
}

pub(super) fn link(link: &Link) -> u64 {
    print(|hasher| feed_link(link, hasher))
}

pub(super) fn task(task: &Task) -> u64 {
    print(|hasher| {
        (task.forced, task.anew, task.intended).hash(hasher);
        feed_link(&task.link, hasher);
    })
}

pub(super) fn same_task(one: &Task, other: &Task) -> bool {
    one.forced == other.forced && one.anew == other.anew && one.intended == other.intended && one.link == other.link
}

pub(super) fn request(request: &Request) -> u64 {
    print(|hasher| (&request.path, &request.body).hash(hasher))
}

pub(super) fn transaction(transaction: &Transaction, assignment: u8, link: Option<u32>) -> u64 {
    print(|hasher| (assignment, link, transaction.outcomes.len()).hash(hasher))
}

pub(super) fn owned(owned: &Owned, now: Instant) -> u64 {
    print(|hasher| {
        (owned.assignment, std::mem::discriminant(&owned.phase), owned.claimed).hash(hasher);
        (owned.ledger.next(), owned.ledger.commit_point(), owned.pending.answers.len()).hash(hasher);
        if let Some(lane) = owned.lanes.get(&CONTACT) {
            feed_link(&lane.link, hasher);
            let kept = lane.lost(now, std::time::Duration::from_secs(1)).is_some();
            (lane.tries(), lane.is_in_flight(), lane.awaits_commit(), kept).hash(hasher);
        }
    })
}

pub(super) fn same_owned(one: &Owned, other: &Owned) -> bool {
    one.is_as(other)
}
