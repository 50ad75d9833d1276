//! What must hold after every run, whatever happened in it.
//!
//! What others can see is judged by the checks that the demo judges by; here is what only this program's own topics show.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use contact_replicator::{
    cli::demo::{
        checks::{self, Checked},
        evidence::{self, Call, CrmEvidence, Evidence, Links},
    },
    config::{CrmSettings, TopicNames},
    contact::{ContactId, format, record::Status},
    crm::link::Link,
    log::{Isolation, Log, TopicPartition},
    sandbox::Action,
};
use jiff::Timestamp;

use crate::{
    published::all_is_as_the_schemas_say,
    world::{CRM, PARTITIONS, Simulated, World, group_of},
};

/// Adds what the CRMs say to what the log says.
pub(crate) async fn with_crms(world: &World, mut evidence: Evidence) -> Evidence {
    evidence.crms.clear();
    for (crm, settings) in world.crms.iter().zip(&world.settings.crm) {
        evidence.crms.push(books(crm, settings, &world.settings.instance).await);
    }
    evidence.links = all_links(world).await.into_iter().map(|(crm, links)| (crm.into(), links)).collect();
    evidence
}

async fn books(crm: &Simulated, settings: &CrmSettings, instance: &str) -> CrmEvidence {
    let page = async |path: &str| {
        let request = http::Request::get(path).body(Bytes::new()).expect("a request");
        crm.sandbox.handle(request).await.expect("control addresses have no faults").into_body()
    };
    let contacts = page("/_sandbox/contacts").await;
    let requests = page("/_sandbox/requests").await;
    let expectation = evidence::expectation(settings, instance).expect("the settings of the world are fit");
    CrmEvidence::read(crm.name, &contacts, &requests, expectation).expect("the sandbox's own pages")
}

/// Those of the first CRM.
pub(crate) async fn links(world: &World) -> Links {
    links_in(world, CRM).await
}

/// Those of every CRM, by its name.
pub(crate) async fn all_links(world: &World) -> BTreeMap<&'static str, Links> {
    let mut all = BTreeMap::new();
    for crm in &world.crms {
        all.insert(crm.name, links_in(world, crm.name).await);
    }
    all
}

async fn links_in(world: &World, crm: &str) -> Links {
    let topic = TopicNames::new(&world.settings.topics.prefix).links(crm);
    let mut links = BTreeMap::new();
    let mut follower = world.log.follower().await.expect("the log in memory is there");
    for partition in 0..PARTITIONS {
        let at = TopicPartition::new(topic.clone(), partition);
        let bounds = world.log.watermarks(&at).await.expect("the topic exists");
        follower.assign(at.clone(), bounds.low).await.expect("the low end exists");
        let mut position = bounds.low;
        while position < bounds.high {
            let progress = follower.poll(1_000, Duration::from_secs(1)).await.expect("the follower reads on");
            for record in progress.records {
                if record.key.as_deref().is_some_and(|key| !key.starts_with(b"#")) {
                    let value = record.value.expect("links are never nulled");
                    let link: Link = format::decode(&value).expect("a link of ours");
                    links.insert(link.contact_id, link);
                }
            }
            if progress.positions.is_empty() {
                // For so long there was nothing: a transaction that stays open holds back what is behind it.
                break;
            }
            position = progress.positions.into_iter().find(|(moved, _)| *moved == at).map_or(position, |(_, to)| to);
        }
    }
    links
}

/// Every version up to `answered` has its outcome, or is the parked one; and nothing above `answered` has one, unless
/// it is the version that settled.
fn all_up_to_answered_is_answered_or_open(evidence: &Evidence, links: &BTreeMap<&'static str, Links>) -> Checked {
    let mut faults = Vec::new();
    for (crm, links) in links {
        let of_crm = evidence.outcomes.iter().filter(|outcome| &*outcome.crm == *crm && !outcome.is_asked());
        let outcomes: BTreeSet<(ContactId, u64)> =
            of_crm.filter_map(|outcome| Some((outcome.contact_id?, outcome.version?))).collect();
        for entry in evidence.entries.iter().filter(|entry| !entry.is_asked()) {
            let link = links.get(&entry.contact_id);
            let answered = link.is_some_and(|link| entry.version <= link.answered);
            let open = link
                .and_then(|link| link.open.as_ref())
                .and_then(|open| open.entry.as_ref())
                .is_some_and(|parked| parked.version == entry.version);
            let has_outcome = outcomes.contains(&(entry.contact_id, entry.version));
            if has_outcome != (answered && !open) {
                let (contact, version) = (entry.contact_id, entry.version);
                faults.push(format!(
                    "version {version} of {contact} in {crm}: answered {answered}, parked {open}, outcome {has_outcome}"
                ));
            }
        }
    }
    checked("all_up_to_answered_is_answered_or_open", &faults)
}

/// What one source says about one subject is one contact's: nobody is two contacts.
fn every_source_record_is_of_one_contact(evidence: &Evidence) -> Checked {
    let mut newest = BTreeMap::new();
    for record in &evidence.records {
        newest.insert(record.contact_id, record);
    }
    let mut faults = Vec::new();
    let mut owners = BTreeMap::new();
    for record in newest.values().filter(|record| record.status == Status::Live) {
        for member in record.members.iter().filter(|member| member.state.live) {
            if let Some(other) = owners.insert((&member.source, &member.subject), record.contact_id) {
                faults.push(format!("a source record is of {other} and of {}", record.contact_id));
            }
        }
    }
    checked("every_source_record_is_of_one_contact", &faults)
}

/// A worker ends when it is asked to or killed, and at no other time.
fn no_worker_ends_unasked(world: &World) -> Checked {
    let ended: Vec<String> = world.ended_unasked().iter().map(|worker| format!("worker {worker}")).collect();
    checked("no_worker_ends_unasked", &ended)
}

/// While a CRM takes nothing, nobody hammers it: within any second, no more calls in a row fail than were under way when it
/// began to, and as many as it takes to see that it fails; by each worker, and by the one that is started in its place.
///
/// A call that it takes ends the row: at hundreds of calls a second, one in ten that fails is many, and no reason to stop.
fn failing_crms_are_not_hammered(world: &World, evidence: &Evidence) -> Checked {
    let mut faults = Vec::new();
    for (crm, settings) in evidence.crms.iter().zip(&world.settings.crm) {
        let delivery = &settings.delivery;
        let max = 2 * world.workers() * (delivery.in_flight_max + delivery.failures_before_pause as usize);
        let arrived = |row: &[Call]| row.iter().map(|call| call.arrived).collect::<Vec<_>>();
        let mut rows = crm.calls.split(Call::was_accepted).map(arrived);
        let too_many = rows.find_map(|row| {
            row.windows(max + 1).find(|window| window[max] - window[0] < Duration::from_secs(1)).map(|window| window[0])
        });
        faults.extend(
            too_many.map(|from| format!("more than {max} calls in a row failed in {} from {from:?}", crm.name)),
        );
    }
    checked("failing_crms_are_not_hammered", &faults)
}

pub(crate) const OFFSETS: &str = "committed_offsets_never_go_back";

/// What the groups of the CRMs have committed, looked at again and again.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    reached: BTreeMap<(String, TopicPartition), u64>,
    faults: Vec<String>,
}

impl Offsets {
    pub(crate) async fn look(&mut self, world: &World) {
        let versions = TopicNames::new(&world.settings.topics.prefix).versions;
        for crm in &world.crms {
            let group = group_of(crm.name);
            for partition in 0..PARTITIONS {
                let at = TopicPartition::new(versions.clone(), partition);
                let committed = world.log.committed(&group, &at, Isolation::ReadUncommitted).await;
                let Some(committed) = committed.expect("the log in memory is there") else { continue };
                let reached = self.reached.entry((group.clone(), at.clone())).or_default();
                if committed.offset < *reached {
                    self.faults.push(format!("{group} went from {reached} to {} in {at}", committed.offset));
                }
                *reached = committed.offset;
            }
        }
    }

    /// No commit takes back another.
    pub(crate) fn checked(&self) -> Checked {
        checked(OFFSETS, &self.faults)
    }
}

/// Writes from `since` on, when a CRM takes everything again: for each contact one for what piled up meanwhile, one for
/// each version that came later, and `extra` for what was open when it came back and for owners that changed. What only
/// asks is bounded elsewhere, and often cannot be told to be about anybody.
pub(crate) fn calls_after_an_outage_bounded(
    world: &World,
    evidence: &Evidence,
    since: Timestamp,
    extra: usize,
) -> Checked {
    let mut faults = Vec::new();
    let mut later: BTreeMap<String, usize> = BTreeMap::new();
    for entry in evidence.entries.iter().filter(|entry| entry.received_at >= since || entry.is_asked()) {
        *later.entry(entry.contact_id.key()).or_default() += 1;
    }
    for crm in &evidence.crms {
        let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
        // One that begins a contact is followed by the one that delivers the rest of it; a login is about nobody.
        let writes = crm.calls.iter().filter(|call| !call.is_read() && !call.begins && call.action != Action::Other);
        for call in writes.filter(|call| world.born + call.arrived >= since) {
            match call.external_id.as_deref() {
                Some(contact) => *calls.entry(contact).or_default() += 1,
                None => faults.push(format!("{call:?} to {} writes, and of whom cannot be told", crm.name)),
            }
        }
        for (contact, calls) in calls {
            let max = 1 + extra + later.get(contact).copied().unwrap_or(0);
            if calls > max {
                faults.push(format!("{contact} was sent to {} {calls} times, and {max} would do", crm.name));
            }
        }
    }
    checked("calls_after_an_outage_bounded", &faults)
}

fn checked(name: &'static str, faults: &[String]) -> Checked {
    Checked { name, ok: faults.is_empty(), detail: faults.iter().take(5).cloned().collect::<Vec<_>>().join("; ") }
}

/// The checks whose failure means that work is still under way.
pub(crate) fn is_settled(evidence: &Evidence) -> bool {
    checks::every_input_is_accounted_for(evidence).ok && checks::every_entry_has_one_outcome_per_crm(evidence).ok
}

/// Those invariants that do not hold.
pub(crate) async fn broken(world: &World, evidence: &Evidence) -> Vec<Checked> {
    let links = all_links(world).await;
    let ours = [
        all_up_to_answered_is_answered_or_open(evidence, &links),
        every_source_record_is_of_one_contact(evidence),
        no_worker_ends_unasked(world),
        failing_crms_are_not_hammered(world, evidence),
        nothing_before_retry_after(world, evidence),
        all_is_as_the_schemas_say(evidence),
    ];
    let all = checks::all(evidence).into_iter().filter(|checked| checked.name != "nothing_before_retry_after");
    all.chain(ours).filter(|checked| !checked.ok).collect()
}

/// Patience that a CRM asked for is kept by the process that was asked: one that is started afterwards cannot know, and
/// with several workers the CRM cannot tell who did.
fn nothing_before_retry_after(world: &World, evidence: &Evidence) -> Checked {
    checks::nothing_before_retry_after_by(evidence, |_, refusal, call| {
        let (asked, sent) = (world.born + refusal.arrived, world.born + call.arrived);
        let same_process = !world.started.iter().any(|started| (asked..=sent).contains(started));
        world.workers() == 1 && same_process
    })
}

/// All that must hold at the end of a run.
///
/// # Errors
/// What does not, with the stories of the contacts concerned.
pub(crate) async fn all_hold(world: &World, evidence: &Evidence) -> Result<(), String> {
    let broken = broken(world, evidence).await;
    if broken.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = broken.iter().map(|checked| format!("{}: {}", checked.name, checked.detail)).collect();
    let told = told.join("\n");
    let stories = stories(&told, evidence, &all_links(world).await);
    Err(format!("{told}\n{}\n{stories}", world.state()))
}

/// What happened to the contacts that `broken` names, for whoever has to understand a failed run.
fn stories(broken: &str, evidence: &Evidence, links: &BTreeMap<&'static str, Links>) -> String {
    let mut named: Vec<ContactId> = broken
        .split(|c: char| !c.is_ascii_hexdigit() && c != '-')
        .filter_map(|word| ContactId::from_key(word.as_bytes()))
        .collect();
    named.sort_unstable();
    named.dedup();
    let of_contact = |contact: &ContactId| -> String {
        links.iter().map(|(crm, links)| story(*contact, crm, evidence, links.get(contact))).collect()
    };
    named.iter().take(2).map(of_contact).collect()
}

fn story(contact: ContactId, crm: &str, evidence: &Evidence, link: Option<&Link>) -> String {
    let mut lines = vec![format!("the story of {contact} in {crm}; its link: {link:#?}")];
    for record in evidence.records.iter().filter(|record| record.contact_id == contact) {
        lines.push(format!("record {} {:?} at {}", record.version, record.status, record.received_at));
    }
    let outcomes =
        evidence.outcomes.iter().filter(|outcome| outcome.contact_id == Some(contact) && &*outcome.crm == crm);
    for outcome in outcomes {
        lines.push(format!(
            "outcome of {:?}: {} by {:?}, {} attempts, received {}, settled {}",
            outcome.version,
            outcome.outcome,
            outcome.by_version,
            outcome.attempts,
            outcome.received_at,
            outcome.settled_at
        ));
    }
    let key = contact.key();
    let calls = evidence.crms.iter().filter(|books| &*books.name == crm).flat_map(|books| &books.calls);
    for call in calls.filter(|call| call.external_id.as_deref() == Some(&key)) {
        lines.push(format!(
            "{call:?} at {:?}: effect {:?} status {:?} answered {} ended {:?}, fields {:?}",
            call.arrived, call.effect, call.status, call.answered, call.ended, call.fields
        ));
    }
    lines.join("\n") + "\n"
}
