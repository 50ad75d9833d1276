//! What the CRMs say, against what the topics say.
//!
//! A request is judged by its content: the versions whose projection equals it are those it may have carried. Content
//! may come back (a name changed and changed back), so one request may fit several versions; wherever it does, the
//! reading is chosen under which the program did well.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Checked, Findings, by_version, newest};
use crate::{
    cli::demo::evidence::{Call, CrmEvidence, Evidence, Fields},
    contact::{ContactId, ContactRecord, Version},
    crm::REMOTE_CONTACT,
    event::{Operation, Outcome, OutcomeKind, ReasonCode, outcome::ANY_CRM},
    sandbox::Action,
};

/// Requests that only ask, for each contact that is not linked: by number, e-mail address and telephone, two pages each.
const LOOK_UPS_MAX: usize = 6;
/// A request that was on its way when a refusal was given may arrive for this long after it.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// Per contact, what each version that was found would be in this CRM.
fn contents(evidence: &Evidence, crm: &CrmEvidence) -> BTreeMap<String, Vec<(Version, Fields)>> {
    let mut contents: BTreeMap<String, Vec<(Version, Fields)>> = BTreeMap::new();
    for record in &evidence.records {
        // Whatever was sent is known to the CRM or about to be, so both readings of a record count.
        for stored in [false, true] {
            if let Some(fields) = crm.expectation.of(record, stored) {
                contents.entry(record.contact_id.key()).or_default().push((record.version, fields));
            }
        }
    }
    contents
}

fn calls_by_contact(crm: &CrmEvidence) -> BTreeMap<&str, Vec<&Call>> {
    let mut by_contact: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &crm.calls {
        if let Some(contact) = &call.external_id {
            by_contact.entry(contact).or_default().push(call);
        }
    }
    by_contact
}

/// Nothing can be said of calls that were dropped, nor of a CRM that is not there.
fn ensure_complete(findings: &mut Findings, evidence: &Evidence) {
    findings.ensure(!evidence.crms.is_empty(), || "no CRM to judge".to_owned());
    for crm in &evidence.crms {
        findings.ensure(crm.calls_dropped == 0, || {
            format!("the log of {} dropped {} calls: nothing can be said of them", crm.name, crm.calls_dropped)
        });
    }
}

fn differing(found: &Fields, wanted: &Fields) -> Vec<String> {
    let names: BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
    names.into_iter().filter(|name| found.get(*name) != wanted.get(*name)).cloned().collect()
}

/// No two stored contacts have the same external id, and none has an id that no record knows.
pub fn no_duplicate_contact_in_the_crm(evidence: &Evidence) -> Checked {
    let mut findings = Findings::of("no_duplicate_contact_in_the_crm");
    findings.ensure(!evidence.crms.is_empty(), || "no CRM to judge".to_owned());
    let known: BTreeSet<String> = evidence.records.iter().map(|record| record.contact_id.key()).collect();
    let mut judged = 0_usize;
    for crm in &evidence.crms {
        let mut seen = BTreeSet::new();
        for stored in &crm.stored {
            judged += 1;
            match &stored.external_id {
                None => findings.fault(format!("{} stores a contact without our id", crm.name)),
                Some(id) if !known.contains(id) => {
                    findings.fault(format!("{} stores {id}, which is no contact", crm.name))
                }
                Some(id) => findings.ensure(seen.insert(id), || format!("{} stores {id} twice", crm.name)),
            }
        }
    }
    findings.verdict(format!("{judged} stored contacts, all different and known"))
}

/// Whatever a CRM stores is named by the link of the contact whose id it carries and by no other, and what a link names is
/// there. A contact of which nothing was ever delivered may be there without a link: a write that was given up has landed,
/// and the next one looks for it.
pub fn every_contact_in_the_crm_has_one_link(evidence: &Evidence) -> Checked {
    let mut findings = Findings::of("every_contact_in_the_crm_has_one_link");
    findings.ensure(!evidence.crms.is_empty(), || "no CRM to judge".to_owned());
    let mut judged = 0_usize;
    for crm in &evidence.crms {
        let Some(links) = evidence.links.get(&crm.name) else {
            findings.fault(format!("the links of {} were not read", crm.name));
            continue;
        };
        let delivered = evidence.outcomes.iter().filter(|outcome| outcome.crm == crm.name);
        let delivered = delivered.filter(|outcome| outcome.outcome == OutcomeKind::Delivered);
        let delivered: BTreeSet<String> = delivered.filter_map(|outcome| Some(outcome.contact_id?.key())).collect();
        let mut named: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (contact, link) in links {
            if let Some(remote_id) = link.remote_ids.get(REMOTE_CONTACT) {
                named.entry(remote_id).or_default().push(contact.key());
            }
        }
        for stored in &crm.stored {
            judged += 1;
            let (remote_id, owner) = (stored.remote_id.as_str(), stored.external_id.as_ref());
            match named.remove(remote_id).as_deref() {
                Some([contact]) => findings.ensure(owner == Some(contact), || {
                    format!("{remote_id} in {} is named by the link of another, {contact}", crm.name)
                }),
                Some(several) => {
                    findings.fault(format!("{remote_id} is named by {} links of {}", several.len(), crm.name));
                }
                None => findings.ensure(owner.is_some_and(|owner| !delivered.contains(owner)), || {
                    format!("{} stores {remote_id}, which no link names", crm.name)
                }),
            }
        }
        for (remote_id, contacts) in named {
            findings.fault(format!(
                "the link of {} in {} names {remote_id}, which is not there",
                contacts.join(" and of "),
                crm.name
            ));
        }
    }
    findings.verdict(format!("{judged} stored contacts, each named by its link and no other"))
}

/// Each stored contact is what its newest record says, if that version ended well; and if it did not, what an older one
/// said.
pub fn the_crm_equals_the_records(evidence: &Evidence) -> Checked {
    let mut findings = Findings::of("the_crm_equals_the_records");
    findings.ensure(!evidence.crms.is_empty(), || "no CRM to judge".to_owned());
    let (mut equal, mut older, mut absent) = (0_usize, 0_usize, 0_usize);
    for crm in &evidence.crms {
        let mut outcomes = by_version(evidence, &crm.name);
        // What an operator had driven anew is there, however its event had ended.
        let anew = evidence.outcomes.iter().filter(|outcome| outcome.crm == crm.name && outcome.is_asked());
        let anew = anew.filter(|outcome| outcome.outcome == OutcomeKind::Delivered);
        outcomes.extend(anew.filter_map(|outcome| Some(((outcome.contact_id?, outcome.version?), outcome))));
        let contents = contents(evidence, crm);
        let stored: BTreeMap<&str, &Fields> =
            crm.stored.iter().filter_map(|stored| Some((stored.external_id.as_deref()?, &stored.fields))).collect();
        for (contact, record) in newest(evidence) {
            let key = contact.key();
            let found = stored.get(key.as_str()).copied();
            let Some(outcome) = outcomes.get(&(contact, record.version)) else {
                findings.fault(format!("{contact} version {} has no outcome in {}", record.version, crm.name));
                continue;
            };
            let ended_well = matches!(outcome.outcome, OutcomeKind::Delivered | OutcomeKind::Unchanged);
            let removed = matches!(outcome.operation, Some(Operation::Delete | Operation::Erase));
            match (found, ended_well) {
                (Some(_), true) if removed => findings.fault(format!("{contact} is still in {}", crm.name)),
                (Some(found), true) => {
                    equal += 1;
                    ensure_equal(&mut findings, crm, contact, record, found);
                }
                (None, true) => {
                    absent += 1;
                    let wanted = crm.expectation.of(record, false).is_some();
                    let claimed = outcome.outcome == OutcomeKind::Delivered && !removed;
                    findings.ensure(!wanted && !claimed, || format!("{contact} is not in {}", crm.name));
                }
                (Some(found), false) => {
                    older += 1;
                    let earlier =
                        contents.get(&key).into_iter().flatten().filter(|(version, _)| *version < record.version);
                    let fits = earlier.into_iter().any(|(_, fields)| fields == found);
                    findings.ensure(fits, || {
                        format!("{contact} in {} is no earlier version, though its newest was not taken", crm.name)
                    });
                }
                (None, false) => absent += 1,
            }
        }
    }
    findings.verdict(format!(
        "{equal} contacts equal their newest record, {older} an older one since the newest was not taken, {absent} are \
         rightly not there"
    ))
}

fn ensure_equal(
    findings: &mut Findings,
    crm: &CrmEvidence,
    contact: ContactId,
    record: &ContactRecord,
    found: &Fields,
) {
    match crm.expectation.of(record, true) {
        None => findings.fault(format!("{contact} should not be in {}", crm.name)),
        Some(wanted) => findings.ensure(*found == wanted, || {
            let fields = differing(found, &wanted).join(", ");
            format!("{contact} in {} differs from version {} in {fields}", crm.name, record.version)
        }),
    }
}

/// A version is called unchanged only if an earlier one with the same content was stored: else it was stored itself, and
/// whoever counts changes would miss it.
pub fn no_delivered_version_published_as_unchanged(evidence: &Evidence) -> Checked {
    let mut findings = Findings::of("no_delivered_version_published_as_unchanged");
    findings.ensure(!evidence.crms.is_empty(), || "no CRM to judge".to_owned());
    let mut judged = 0_usize;
    for crm in &evidence.crms {
        // One that is only to be there if it was before is rightly unchanged where it never was.
        let contents: BTreeMap<(ContactId, Version), Fields> = evidence
            .records
            .iter()
            .filter_map(|record| Some(((record.contact_id, record.version), crm.expectation.of(record, false)?)))
            .collect();
        let outcomes = by_version(evidence, &crm.name);
        for ((contact, version), outcome) in &outcomes {
            let Some(content) = contents.get(&(*contact, *version)) else { continue };
            if outcome.outcome != OutcomeKind::Unchanged {
                continue;
            }
            judged += 1;
            let stored = outcomes
                .range((*contact, 0)..(*contact, *version))
                .filter(|(_, outcome)| matches!(outcome.outcome, OutcomeKind::Delivered | OutcomeKind::Unchanged));
            // One that compaction took may have been like it.
            let mut stored = stored.map(|(version, _)| contents.get(version));
            findings.ensure(stored.any(|earlier| earlier.is_none_or(|earlier| earlier == content)), || {
                format!("{contact} version {version} is unchanged in {}, though nothing like it was stored", crm.name)
            });
        }
    }
    findings.verdict(format!("{judged} versions called unchanged, each like one that was stored"))
}

/// What takes effect in the CRM never goes back to an older version, but for a request that was given up and landed late.
pub fn order_per_contact(evidence: &Evidence) -> Checked {
    let mut findings = Findings::of("order_per_contact");
    ensure_complete(&mut findings, evidence);
    let (mut judged, mut late) = (0_usize, 0_usize);
    for crm in &evidence.crms {
        let contents = contents(evidence, crm);
        for (contact, mut calls) in calls_by_contact(crm) {
            // A delete carries no version.
            calls.retain(|call| call.effect.is_some() && call.action != Action::Delete);
            calls.sort_by_key(|call| call.effect);
            let mut reached = 0;
            for call in calls {
                judged += 1;
                let Some(fields) = &call.fields else {
                    findings.fault(format!("{} did not keep the content of {call:?}", crm.name));
                    continue;
                };
                let versions = contents.get(contact).into_iter().flatten();
                let carried: Vec<Version> =
                    versions.filter(|(_, content)| content == fields).map(|(version, _)| *version).collect();
                if carried.is_empty() {
                    findings.fault(format!("{call:?} in {} carried no version that ever was", crm.name));
                }
                // The oldest reading that is in order leaves most room to what comes after.
                match carried.iter().copied().filter(|version| *version >= reached).min() {
                    // A lost request may have carried an older version all the same.
                    Some(_) if !call.answered && carried.iter().any(|version| *version < reached) => {}
                    Some(version) => reached = version,
                    None if !call.answered => late += 1,
                    None => {
                        findings.fault(format!("{call:?} in {} went back to {carried:?} after {reached}", crm.name));
                    }
                }
            }
        }
    }
    findings.verdict(format!("{judged} effects in order, {late} late ones of requests given up"))
}

/// No request about a contact arrives while an earlier one that the caller still waits for is being worked on.
pub fn one_request_in_flight_per_contact(evidence: &Evidence) -> Checked {
    let mut findings = Findings::of("one_request_in_flight_per_contact");
    ensure_complete(&mut findings, evidence);
    let mut judged = 0_usize;
    for crm in &evidence.crms {
        for calls in calls_by_contact(crm).values() {
            // When the last answer that was waited for was given.
            let mut busy: Option<(&Call, Duration)> = None;
            for call in calls {
                judged += 1;
                if let Some((earlier, until)) = busy {
                    findings.ensure(call.arrived >= until, || {
                        format!("{call:?} reached {} before {earlier:?} was answered", crm.name)
                    });
                }
                if call.answered {
                    match call.ended {
                        Some(ended) => busy = Some((call, busy.map_or(ended, |(_, until)| until.max(ended)))),
                        None => findings.fault(format!("{call:?} in {} was answered but did not end", crm.name)),
                    }
                }
            }
        }
    }
    findings.verdict(format!("{judged} calls, one at a time for each contact"))
}

/// While a CRM has asked for patience nothing is sent to it: nothing at all after a 429, nothing about that contact after
/// another answer with `Retry-After`. Requests that were on their way already do not count.
pub fn nothing_before_retry_after(evidence: &Evidence) -> Checked {
    let mut findings = Findings::of("nothing_before_retry_after");
    ensure_complete(&mut findings, evidence);
    let (mut judged, mut on_their_way) = (0_usize, 0_usize);
    for crm in &evidence.crms {
        for refusal in crm.calls.iter().filter(|call| call.answered) {
            let (Some(patience), Some(ended)) = (refusal.retry_after, refusal.ended) else { continue };
            judged += 1;
            let concerned = crm.calls.iter().filter(|call| {
                let whole = refusal.status == Some(429);
                call.sequence > refusal.sequence
                    && (whole || (call.external_id.is_some() && call.external_id == refusal.external_id))
            });
            for call in concerned.filter(|call| call.arrived > ended && call.arrived < ended + patience) {
                if call.arrived <= ended + ON_ITS_WAY {
                    on_their_way += 1;
                } else {
                    findings.fault(format!("{call:?} reached {} within the patience asked by {refusal:?}", crm.name));
                }
            }
        }
    }
    findings.verdict(format!("{judged} times asked for patience, {on_their_way} requests were on their way"))
}

/// Whether it came about by asking whether the contact is there.
fn may_have_searched(outcome: &Outcome) -> bool {
    let unknown = outcome.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::UnknownContact);
    let makes_or_removes =
        matches!(outcome.operation, Some(Operation::Create | Operation::Adopt | Operation::Delete | Operation::Erase));
    unknown || makes_or_removes || outcome.outcome == OutcomeKind::Rejected
}

/// A CRM is called for versions that end in it and for what has to be repeated, and for nothing else: what was
/// superseded, unchanged or refused beforehand costs no call.
pub fn calls_per_event(evidence: &Evidence) -> Checked {
    let mut findings = Findings::of("calls_per_event");
    ensure_complete(&mut findings, evidence);
    let events = evidence.entries.iter().filter(|entry| entry.event.is_some()).count();
    let mut told = Vec::new();
    for crm in &evidence.crms {
        let mut delivered: BTreeMap<String, usize> = BTreeMap::new();
        for outcome in &evidence.outcomes {
            let of_crm = *outcome.crm == *crm.name && &*outcome.crm != ANY_CRM;
            if of_crm
                && outcome.outcome == OutcomeKind::Delivered
                && let Some(contact) = outcome.contact_id
            {
                *delivered.entry(contact.key()).or_default() += 1;
            }
        }
        let mut beyond = 0;
        for (contact, calls) in calls_by_contact(crm) {
            let accepted = calls.iter().filter(|call| call.was_accepted() && !call.is_read()).count();
            let failed = calls.iter().filter(|call| !call.was_accepted()).count();
            // After a failure a version may be delivered although a newer one answers for it by then.
            let allowed = delivered.get(contact).copied().unwrap_or(0) + failed;
            beyond += accepted.saturating_sub(allowed);
        }
        let accepted_in_all = crm.calls.iter().filter(|call| call.was_accepted()).count();
        findings.ensure(beyond <= evidence.repeats_allowed, || {
            format!("{} took {beyond} calls that no delivered version accounts for", crm.name)
        });
        let calls = crm.calls.len();
        let look_ups = crm.calls.iter().filter(|call| call.is_read()).count();
        let searched = evidence.outcomes.iter().filter(|outcome| outcome.crm == crm.name && may_have_searched(outcome));
        let begun = searched.count() + calls - accepted_in_all;
        let look_ups_max = (begun * LOOK_UPS_MAX).saturating_add(evidence.repeats_allowed);
        findings.ensure(look_ups <= look_ups_max, || {
            format!("{} was asked {look_ups} look-ups, and {look_ups_max} would do", crm.name)
        });
        let per_event = calls as f64 / events.max(1) as f64;
        let failed = calls - accepted_in_all;
        told.push(format!(
            "{}: {calls} calls for {events} events, {per_event:.2} each; {accepted_in_all} accepted, {failed} refused or lost",
            crm.name
        ));
    }
    findings.verdict(told.join("; "))
}
