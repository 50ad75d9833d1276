//! What must hold after every run, whatever happened in it.
//!
//! What others can see is judged by the checks that the demo judges by; here is what only this program's own topics show.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use contact_replicator::{
    cli::demo::{
        checks,
        evidence::{CrmEvidence, Evidence, Projected},
    },
    config::TopicNames,
    contact::{ContactId, format},
    crm,
    crm::link::Link,
    log::{Log, TopicPartition},
};

use crate::world::{CRM, PARTITIONS, World};

/// Adds what the CRM says to what the log says.
pub(crate) async fn with_crm(world: &World, mut evidence: Evidence) -> Evidence {
    let crm = crm::build(&world.settings.crm[0], &world.settings.instance).expect("the settings of the world are fit");
    let page = async |path: &str| {
        let request = http::Request::get(path).body(Bytes::new()).expect("a request");
        world.sandbox.handle(request).await.expect("control addresses have no faults").into_body()
    };
    let contacts = page("/_sandbox/contacts").await;
    let requests = page("/_sandbox/requests").await;
    let expectation = Arc::new(Projected(crm.connector));
    evidence.crms = vec![CrmEvidence::read(CRM, &contacts, &requests, expectation).expect("the sandbox's own pages")];
    evidence
}

/// The newest link of each contact.
pub(crate) async fn links(world: &World) -> BTreeMap<ContactId, Link> {
    let topic = TopicNames::new(&world.settings.topics.prefix).links(CRM);
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
            position = progress.positions.into_iter().find(|(moved, _)| *moved == at).map_or(position, |(_, to)| to);
        }
    }
    links
}

/// Every version up to `answered` has its outcome, or is the parked one; and nothing above `answered` has one, unless
/// it is the version that settled.
pub(crate) fn all_up_to_answered_is_answered_or_open(evidence: &Evidence, links: &BTreeMap<ContactId, Link>) {
    let outcomes: BTreeMap<(ContactId, u64), ()> = evidence
        .outcomes
        .iter()
        .filter(|outcome| &*outcome.crm == CRM)
        .filter_map(|outcome| Some(((outcome.contact_id?, outcome.version?), ())))
        .collect();
    for entry in &evidence.entries {
        let link = links.get(&entry.contact_id);
        let answered = link.is_some_and(|link| entry.version <= link.answered);
        let open = link.and_then(|link| link.open.as_ref()).is_some_and(|open| open.entry.version == entry.version);
        let has_outcome = outcomes.contains_key(&(entry.contact_id, entry.version));
        assert_eq!(
            has_outcome,
            answered && !open,
            "version {} of {}: answered {answered}, parked {open}",
            entry.version,
            entry.contact_id
        );
    }
}

/// The checks whose failure means that work is still under way.
pub(crate) fn is_settled(evidence: &Evidence) -> bool {
    checks::every_input_is_accounted_for(evidence).ok && checks::every_entry_has_one_outcome_per_crm(evidence).ok
}

/// All that others can see. Patience that a CRM asked for is kept by the worker that was asked: with several workers
/// the CRM cannot tell who knew of it.
pub(crate) fn all_promises_are_kept(evidence: &Evidence, workers: usize) -> Result<(), String> {
    let broken: Vec<String> = checks::all(evidence)
        .into_iter()
        .filter(|checked| !checked.ok && (workers == 1 || checked.name != "nothing_before_retry_after"))
        .map(|checked| format!("{}: {}", checked.name, checked.detail))
        .collect();
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
}

/// What happened to the contacts that `broken` names, for whoever has to understand a failed run.
pub(crate) fn stories(broken: &str, evidence: &Evidence, links: &BTreeMap<ContactId, Link>) -> String {
    let mut named: Vec<ContactId> = broken
        .split(|c: char| !c.is_ascii_hexdigit() && c != '-')
        .filter_map(|word| ContactId::from_key(word.as_bytes()))
        .collect();
    named.sort_unstable();
    named.dedup();
    named.iter().take(2).map(|contact| story(*contact, evidence, links)).collect()
}

fn story(contact: ContactId, evidence: &Evidence, links: &BTreeMap<ContactId, Link>) -> String {
    let mut lines = vec![format!("the story of {contact}; its link: {:#?}", links.get(&contact))];
    for record in evidence.records.iter().filter(|record| record.contact_id == contact) {
        lines.push(format!("record {} {:?} at {}", record.version, record.status, record.received_at));
    }
    for outcome in
        evidence.outcomes.iter().filter(|outcome| outcome.contact_id == Some(contact) && &*outcome.crm == CRM)
    {
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
    for call in evidence.crms.iter().flat_map(|crm| &crm.calls).filter(|call| call.external_id.as_deref() == Some(&key))
    {
        lines.push(format!(
            "{call:?} at {:?}: effect {:?} status {:?} answered {} ended {:?}, fields {:?}",
            call.arrived, call.effect, call.status, call.answered, call.ended, call.fields
        ));
    }
    lines.join("\n") + "\n"
}
