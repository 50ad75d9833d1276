//! What the CRMs say, against what the topics say.
//!
//! A request is judged by its content: the versions whose projection equals it are those it may have carried. Content
//! may come back (a name changed and changed back), so one request may fit several versions; wherever it does, the
//! reading is chosen under which the program did well.
//!
//! Where processes are killed and frozen, more is known of those who sent a call than the CRM can know: the checks that
//! end in `_by` take that as an argument, and the others go by the CRM's word alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;

use super::{
    Checked, Findings, by_version, newest,
    senders::{Left, Leftover, Sender, Senders, Stains, as_the_crm_says, differing},
};
use crate::{
    cli::demo::evidence::{Call, CrmEvidence, Evidence, Fields},
    config::CrmKind,
    contact::{ContactId, Version},
    crm::REMOTE_CONTACT,
    event::{Operation, Outcome, OutcomeKind, ReasonCode, entry::CauseKind, outcome::ANY_CRM},
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

/// No two stored contacts have the same external id, and none has an id that no record knows.
pub fn no_duplicate_contact_in_the_crm(evidence: &Evidence) -> Checked {
    no_duplicate_contact_in_the_crm_by(evidence, &as_the_crm_says).0
}

/// The creates of deposed senders, by contact.
fn deposed_creates<'a>(crm: &'a CrmEvidence, senders: &Senders<'_>) -> BTreeMap<&'a str, Vec<u64>> {
    let mut creates: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for call in &crm.calls {
        if call.action == Action::Create
            && call.effect.is_some()
            && senders(crm, call) == Sender::Deposed
            && let Some(contact) = &call.external_id
        {
            creates.entry(contact).or_default().push(call.sequence);
        }
    }
    creates
}

/// The same, but for those that deposed senders made, which are listed.
pub fn no_duplicate_contact_in_the_crm_by(evidence: &Evidence, senders: &Senders<'_>) -> (Checked, Vec<Leftover>) {
    let mut left = Vec::new();
    let mut findings = Findings::of("no_duplicate_contact_in_the_crm");
    findings.ensure(!evidence.crms.is_empty(), || "no CRM to judge".to_owned());
    let known: BTreeMap<String, ContactId> =
        evidence.records.iter().map(|record| (record.contact_id.key(), record.contact_id)).collect();
    let mut judged = 0_usize;
    for crm in &evidence.crms {
        let mut excused = deposed_creates(crm, senders);
        let mut seen = BTreeSet::new();
        for stored in &crm.stored {
            judged += 1;
            match &stored.external_id {
                None => findings.fault(format!("{} stores a contact without our id", crm.name)),
                Some(id) => match (known.get(id), excused.get_mut(id.as_str())) {
                    (None, _) => findings.fault(format!("{} stores {id}, which is no contact", crm.name)),
                    (Some(_), _) if seen.insert(id) => {}
                    (Some(contact), Some(creates)) if !creates.is_empty() => {
                        let (contact, crm, call) = (*contact, Arc::clone(&crm.name), creates.remove(0));
                        left.push(Leftover { contact, crm, call, what: Left::Duplicate });
                    }
                    (Some(_), _) => findings.fault(format!("{} stores {id} twice", crm.name)),
                },
            }
        }
    }
    (findings.verdict(format!("{judged} stored contacts, all different and known")), left)
}

/// Whatever a CRM stores is named by the link of the contact whose id it carries and by no other, and what a link names is
/// there. A contact of which nothing was ever delivered may be there without a link: a write that was given up has landed,
/// and the next one looks for it.
pub fn every_contact_in_the_crm_has_one_link(evidence: &Evidence) -> Checked {
    every_contact_in_the_crm_has_one_link_but(evidence, &[])
}

/// The same, but for what deposed senders left: a contact that is there once more has no link of its own, and one that was
/// removed still has its link.
pub fn every_contact_in_the_crm_has_one_link_but(evidence: &Evidence, left: &[Leftover]) -> Checked {
    let mut findings = Findings::of("every_contact_in_the_crm_has_one_link");
    findings.ensure(!evidence.crms.is_empty(), || "no CRM to judge".to_owned());
    let mut judged = 0_usize;
    for crm in &evidence.crms {
        let Some(links) = evidence.links.get(&crm.name) else {
            findings.fault(format!("the links of {} were not read", crm.name));
            continue;
        };
        let left = |contact: &str, what| {
            left.iter().any(|left| left.crm == crm.name && left.what == what && left.contact.key() == contact)
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
                None => {
                    let may_be = |owner: &String| !delivered.contains(owner) || left(owner, Left::Duplicate);
                    findings.ensure(owner.is_some_and(may_be), || {
                        format!("{} stores {remote_id}, which no link names", crm.name)
                    });
                }
            }
        }
        named.retain(|_, contacts| !contacts.iter().all(|contact| left(contact, Left::Differs)));
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
    the_crm_equals_the_records_by(evidence, &as_the_crm_says).0
}

/// The same, but for what deposed senders made of a contact, which is listed.
pub fn the_crm_equals_the_records_by(evidence: &Evidence, senders: &Senders<'_>) -> (Checked, Vec<Leftover>) {
    let mut left = Vec::new();
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
        let calls = calls_by_contact(crm);
        let mut stored: BTreeMap<&str, Vec<&Fields>> = BTreeMap::new();
        for found in &crm.stored {
            if let Some(contact) = &found.external_id {
                stored.entry(contact).or_default().push(&found.fields);
            }
        }
        for (contact, record) in newest(evidence) {
            let key = contact.key();
            // That there are several is judged elsewhere; here it is enough that one of them is as it should be.
            let found = stored.get(key.as_str()).and_then(|all| {
                let wanted = if all.len() > 1 { crm.expectation.of(record, true) } else { None };
                all.iter().find(|found| wanted.as_ref() == Some(**found)).or(all.first()).copied()
            });
            let stains = || Stains::of(crm, calls.get(key.as_str()).map_or(&[], Vec::as_slice), senders);
            let mut blame = |findings: &mut Findings, call: Option<u64>, fault: String| match call {
                Some(call) => {
                    left.push(Leftover { contact, crm: Arc::clone(&crm.name), call, what: Left::Differs });
                }
                None => findings.fault(fault),
            };
            let Some(outcome) = outcomes.get(&(contact, record.version)) else {
                findings.fault(format!("{contact} version {} has no outcome in {}", record.version, crm.name));
                continue;
            };
            let ended_well = matches!(outcome.outcome, OutcomeKind::Delivered | OutcomeKind::Unchanged);
            let removed = matches!(outcome.operation, Some(Operation::Delete | Operation::Erase));
            match (found, ended_well) {
                (Some(_), true) if removed => {
                    blame(&mut findings, stains().written(), format!("{contact} is still in {}", crm.name));
                }
                (Some(found), true) => match crm.expectation.of(record, true) {
                    None => {
                        blame(&mut findings, stains().written(), format!("{contact} should not be in {}", crm.name));
                    }
                    Some(wanted) if *found == wanted => equal += 1,
                    Some(wanted) => {
                        let fields = differing(found, &wanted).join(", ");
                        let fault =
                            format!("{contact} in {} differs from version {} in {fields}", crm.name, record.version);
                        blame(&mut findings, stains().explain(found, &wanted), fault);
                    }
                },
                (None, true) => {
                    absent += 1;
                    let wanted = crm.expectation.of(record, false).is_some();
                    let claimed = outcome.outcome == OutcomeKind::Delivered && !removed;
                    if wanted || claimed {
                        blame(&mut findings, stains().removed(), format!("{contact} is not in {}", crm.name));
                    }
                }
                (Some(found), false) => {
                    older += 1;
                    let earlier =
                        || contents.get(&key).into_iter().flatten().filter(|(version, _)| *version < record.version);
                    // What was begun stays so when nothing that can be sent comes after.
                    let of_contact = calls.get(key.as_str()).map_or(&[][..], Vec::as_slice);
                    let landed = of_contact.iter().filter(|call| !call.is_read() && call.effect.is_some());
                    let begun = landed.max_by_key(|call| call.effect).is_some_and(|call| call.begins);
                    let is = |fields: &Fields| match begun {
                        true => found.iter().all(|(name, value)| fields.get(name) == Some(value)),
                        false => fields == found,
                    };
                    if !earlier().any(|(_, fields)| is(fields)) {
                        let stains = stains();
                        let nearest = earlier().map(|(_, fields)| differing(found, fields)).min_by_key(Vec::len);
                        let differs = nearest.unwrap_or_default().join(", ");
                        let name = &crm.name;
                        blame(
                            &mut findings,
                            earlier().find_map(|(_, fields)| stains.explain(found, fields)),
                            format!(
                                "{contact} in {name} is no earlier version, though its newest was not taken ({differs})"
                            ),
                        );
                    }
                }
                (None, false) => absent += 1,
            }
        }
    }
    let judged = format!(
        "{equal} contacts equal their newest record, {older} an older one since the newest was not taken, {absent} are \
         rightly not there, {} are as one left them that had been deposed",
        left.len()
    );
    (findings.verdict(judged), left)
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
            // What an operator asked to be sent again may well be as it was.
            let was_asked_for = outcome.cause.as_ref().is_some_and(|cause| cause.kind != CauseKind::Merge);
            if outcome.outcome != OutcomeKind::Unchanged || was_asked_for {
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
    order_per_contact_by(evidence, &as_the_crm_says)
}

/// The same, given who heard the answers and who had been deposed. What a deposed sender wrote may be older, field by
/// field, and stands until the next write of that field.
pub fn order_per_contact_by(evidence: &Evidence, senders: &Senders<'_>) -> Checked {
    let mut findings = Findings::of("order_per_contact");
    ensure_complete(&mut findings, evidence);
    let (mut judged, mut late) = (0_usize, 0_usize);
    for crm in &evidence.crms {
        let contents = contents(evidence, crm);
        for (contact, mut calls) in calls_by_contact(crm) {
            calls.retain(|call| call.effect.is_some());
            calls.sort_by_key(|call| call.effect);
            let mut reached = 0;
            let mut stains = Stains::default();
            for call in calls {
                let sender = senders(crm, call);
                stains.add(call, sender == Sender::Deposed);
                if call.action == Action::Delete {
                    // It carries no version.
                    continue;
                }
                judged += 1;
                let Some(fields) = &call.fields else {
                    findings.fault(format!("{} did not keep the content of {call:?}", crm.name));
                    continue;
                };
                let versions = || contents.get(contact).into_iter().flatten();
                if sender == Sender::Deposed {
                    late += 1;
                    let was_said = |name: &str, value: Option<&Value>| {
                        value.is_none() || versions().any(|(_, content)| content.get(name) == value)
                    };
                    findings.ensure(stains.made_by(call).all(|(name, value)| was_said(name, value)), || {
                        format!("{call:?} in {} carried what no version ever said", crm.name)
                    });
                    continue;
                }
                let is_carried = |content: &Fields| match call.begins {
                    true => fields.iter().all(|(name, value)| content.get(name) == Some(value)),
                    false => stains.allow(fields, content),
                };
                let carried: Vec<Version> =
                    versions().filter(|(_, content)| is_carried(content)).map(|(version, _)| *version).collect();
                if carried.is_empty() {
                    findings.fault(format!("{call:?} in {} carried no version that ever was", crm.name));
                }
                // The oldest reading that is in order leaves most room to what comes after.
                match carried.iter().copied().filter(|version| *version >= reached).min() {
                    // A lost request may have carried an older version all the same.
                    Some(_) if sender != Sender::Heard && carried.iter().any(|version| *version < reached) => {}
                    Some(version) => reached = version,
                    None if sender != Sender::Heard => late += 1,
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
    one_request_in_flight_per_contact_by(evidence, &as_the_crm_says)
}

/// The same, given who heard the answers and who had been deposed.
pub fn one_request_in_flight_per_contact_by(evidence: &Evidence, senders: &Senders<'_>) -> Checked {
    let mut findings = Findings::of("one_request_in_flight_per_contact");
    ensure_complete(&mut findings, evidence);
    let mut judged = 0_usize;
    for crm in &evidence.crms {
        for calls in calls_by_contact(crm).values() {
            // When the last answer that was waited for was given.
            let mut busy: Option<(&Call, Duration)> = None;
            for call in calls {
                judged += 1;
                let sender = senders(crm, call);
                if sender == Sender::Deposed {
                    continue;
                }
                if let Some((earlier, until)) = busy {
                    findings.ensure(call.arrived >= until, || {
                        let (before, took) = (until - call.arrived, until.saturating_sub(earlier.arrived));
                        let which = format!("{before:?} before {earlier:?} was answered, which took {took:?}");
                        format!("{call:?} reached {} {which}", crm.name)
                    });
                }
                if sender == Sender::Heard {
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
    nothing_before_retry_after_by(evidence, |_, _, _| true)
}

/// The same, where `knew` says of a refusal and a later call whether the sender of the call knew of the refusal.
pub fn nothing_before_retry_after_by(
    evidence: &Evidence,
    knew: impl Fn(&CrmEvidence, &Call, &Call) -> bool,
) -> Checked {
    let mut findings = Findings::of("nothing_before_retry_after");
    ensure_complete(&mut findings, evidence);
    let (mut judged, mut on_their_way) = (0_usize, 0_usize);
    for crm in &evidence.crms {
        for refusal in crm.calls.iter().filter(|call| call.answered) {
            let (Some(patience), Some(ended)) = (refusal.retry_after, refusal.ended) else { continue };
            judged += 1;
            let first = crm.calls.partition_point(|call| call.arrived <= ended);
            let meanwhile = crm.calls[first..].iter().take_while(|call| call.arrived < ended + patience);
            let concerned = meanwhile.filter(|call| {
                let whole = refusal.status == Some(429);
                (whole || (call.external_id.is_some() && call.external_id == refusal.external_id))
                    && knew(crm, refusal, call)
            });
            for call in concerned {
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

/// Whether of such a CRM a contact may have to be read before it is changed, for the ids of its entries.
fn reads_before_it_changes(kind: CrmKind) -> bool {
    match kind {
        CrmKind::CrmCom | CrmKind::Logisense => true,
        CrmKind::Priava | CrmKind::Previsto | CrmKind::NextinteractSam => false,
    }
}

/// How often a contact was changed that was there, or found to be as it should be.
fn updated(evidence: &Evidence, crm: &CrmEvidence) -> usize {
    let of_crm = evidence.outcomes.iter().filter(|outcome| outcome.crm == crm.name);
    of_crm.filter(|outcome| matches!(outcome.outcome, OutcomeKind::Delivered | OutcomeKind::Unchanged)).count()
}

/// By contact, how many calls the CRM took beyond those that delivered versions, and those that failed, account for.
pub fn repeated_calls<'a>(evidence: &Evidence, crm: &'a CrmEvidence) -> BTreeMap<&'a str, usize> {
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
    let mut beyond = BTreeMap::new();
    for (contact, calls) in calls_by_contact(crm) {
        // One that begins a contact is followed by the one that delivers the rest of it.
        let writes = calls.iter().filter(|call| !call.is_read() && !call.begins);
        let accepted = writes.filter(|call| call.was_accepted()).count();
        let failed = calls.iter().filter(|call| !call.was_accepted()).count();
        // After a failure a version may be delivered although a newer one answers for it by then.
        let allowed = delivered.get(contact).copied().unwrap_or(0) + failed;
        if accepted > allowed {
            beyond.insert(contact, accepted - allowed);
        }
    }
    beyond
}

/// A CRM is called for versions that end in it and for what has to be repeated, and for nothing else: what was
/// superseded, unchanged or refused beforehand costs no call.
pub fn calls_per_event(evidence: &Evidence) -> Checked {
    calls_per_event_but(evidence, evidence.repeats_allowed)
}

/// The same, but for this many repeats in each CRM.
pub fn calls_per_event_but(evidence: &Evidence, repeats_allowed: usize) -> Checked {
    let mut findings = Findings::of("calls_per_event");
    ensure_complete(&mut findings, evidence);
    let events = evidence.entries.iter().filter(|entry| entry.event.is_some()).count();
    let mut told = Vec::new();
    for crm in &evidence.crms {
        let beyond: usize = repeated_calls(evidence, crm).values().sum();
        let accepted_in_all = crm.calls.iter().filter(|call| call.was_accepted()).count();
        findings.ensure(beyond <= repeats_allowed, || {
            format!("{} took {beyond} calls that no delivered version accounts for", crm.name)
        });
        let calls = crm.calls.len();
        let look_ups = crm.calls.iter().filter(|call| call.is_read()).count();
        let searched = evidence.outcomes.iter().filter(|outcome| outcome.crm == crm.name && may_have_searched(outcome));
        let begun = searched.count() + calls - accepted_in_all;
        let read_first = if reads_before_it_changes(crm.expectation.kind()) { updated(evidence, crm) } else { 0 };
        let look_ups_max = (begun * LOOK_UPS_MAX + read_first).saturating_add(repeats_allowed);
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
