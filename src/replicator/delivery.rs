//! One delivery: what to send to bring a contact's newest record to its CRM, request after request, and how it ended.
//!
//! A machine without I/O: record and link go in, then answers; requests come out, and at last an [`End`]. Whoever drives
//! it ([`super::attempt`]) owns the socket and the clock and asks for leave before each request, so the same machine runs
//! where every interleaving is tried.
//!
//! It decides what all CRMs have in common: whether there is anything to do, what a dead predecessor may have left
//! behind, whether the contact must be searched for before it is created, and what must be committed before a request may
//! leave (fields that are sent for the first time, the keys of a create). What a request looks like is the connector's
//! business.
//!
//! Invariant: a request that creates leaves only if its contact could be found again were the answer lost: by our
//! reference, for which every create is preceded by a search, or by an intent that is committed. And a delivery sends at
//! most one request that creates whose answer is not a certain refusal.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use tokio::time::Instant;

use super::{
    lane::{End, Lost, Task},
    plan::Plan,
};
use crate::{
    contact::{ContactRecord, record::Status},
    crm::{
        Answer, Connector, Delivery, Effect, Failure, FailureClass, LookUpKeys, Loss, Presence, Projection,
        REMOTE_CONTACT, Request, RequestKind, Step, Verdict,
        link::{Intent, Link, Linked, Sent},
        reference::{Learned, References},
    },
    event::{Operation, OutcomeKind, ReasonCode},
    privacy::Hasher,
    protection::{Protection, Protections},
};

/// What all deliveries of one CRM share.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Name of the CRM.
    pub crm: Arc<str>,
    pub connector: Arc<dyn Connector>,
    pub hasher: Hasher,
    /// A contact that is not linked is searched for before it is created.
    pub find_before_create: bool,
    /// Nothing is sent: a delivery ends where it would begin.
    pub shadow: bool,
    pub protections: Protections,
}

/// What is to be done for a delivery.
#[derive(Debug)]
pub enum Action {
    /// Send it, then say [`Machine::answered`]; or, if it may not leave, [`Machine::kept_back`].
    Send(Request),
    /// The credential was refused: renew it, then say [`Machine::renewed`], or [`Machine::unauthorized`] if that failed.
    Renew,
    /// Keep it for all deliveries, then say [`Machine::taught`].
    Keep(Learned),
    End(End),
}

/// A delivery under way.
#[derive(Debug)]
pub struct Machine<'a> {
    terms: &'a Terms,
    record: &'a ContactRecord,
    /// The link, as it may be.
    link: Cow<'a, Link>,
    tries: u32,
    references: References,
    uncertain: bool,
    projection: Projection,
    plan: Plan,
    look_up: Option<LookUpKeys>,
    /// By what to search once more where the first search, by the keys of an older create, found nothing.
    look_up_next: Option<LookUpKeys>,
    /// To be committed before a create leaves.
    intent: Option<Intent>,
    answers: Vec<Answer>,
    last: Option<(Request, Option<Instant>)>,
    /// A request before the last one changed something.
    changed: bool,
    /// A create before the last request, and when it was sent: the link does not know yet what it made.
    created: Option<(Request, Instant)>,
    renewed: bool,
    /// The last request is not to be joined with others.
    alone: bool,
    /// Fields that name other contacts were not taken.
    refused: bool,
}

impl<'a> Machine<'a> {
    /// Begins with what the CRM should hold of `record`.
    ///
    /// # Errors
    /// Its end, if nothing is to be sent now.
    #[expect(clippy::result_large_err, reason = "an end is what a delivery is made for; it is moved once")]
    pub fn new(
        terms: &'a Terms,
        task: &'a Task,
        record: &'a ContactRecord,
        references: References,
    ) -> Result<Self, End> {
        let uncertain = (task.forced && terms.protections.hold(Protection::TakeoverResend))
            || task.anew
            || task.link.open.is_some();
        let link = suspected(terms, task, record, uncertain);
        let judged = |verdict: Verdict| End::Judged {
            version: record.version,
            outcome: verdict.outcome,
            reason: Some(verdict.reason),
            suspected: if uncertain { link.sent.keys().cloned().collect() } else { Vec::new() },
        };
        let mut projection = terms.connector.project(record, Some(&link)).map_err(judged)?;
        let related = references.related();
        if projection.presence != Presence::Absent {
            related.lay_over(&mut projection, record.contact_id);
        }
        let unsaid: BTreeSet<Arc<str>> = related.unsaid(record.contact_id).collect();
        let leaves_alone = |field: &str| unsaid.contains(field) || terms.connector.leaves_alone(record, field);
        let plan = Plan::new(&terms.crm, &projection, &link, &terms.hasher, leaves_alone);
        if plan.unchanged && !task.anew {
            return Err(judged(Verdict::new(OutcomeKind::Unchanged, ReasonCode::SameProjection)));
        }
        // A deletion carries no fields, and in shadow nothing does.
        let carries = projection.presence != Presence::Absent && !terms.shadow;
        let unannounced = if carries { plan.unannounced(&task.link) } else { Vec::new() };
        if !unannounced.is_empty() {
            return Err(End::Announced { fields: unannounced });
        }
        let Search { look_up, look_up_next, intent } = search(terms, task, record, &projection);
        Ok(Self {
            terms,
            record,
            link,
            tries: task.tries,
            references,
            uncertain,
            projection,
            plan,
            look_up,
            look_up_next,
            intent,
            answers: Vec::new(),
            last: None,
            changed: false,
            created: None,
            renewed: false,
            alone: false,
            refused: false,
        })
    }

    /// What the CRM cannot carry of the record.
    pub fn projection(&self) -> &Projection {
        &self.projection
    }

    /// What the delivery is to be called, as far as can be told before it.
    pub fn operation(&self) -> Operation {
        match (self.record.status, self.projection.presence) {
            (Status::Erased, Presence::Absent) => Operation::Erase,
            (Status::Erased, _) => Operation::Blank,
            _ => self.plan.operation,
        }
    }

    /// What else of it is lost, by the lists of the CRM that are at hand by now.
    pub fn listed_losses(&self) -> Vec<Loss> {
        self.terms.connector.losses(&self.projection, &self.references)
    }

    /// Whether the request of [`Action::Send`] is not to share a call with those of others.
    pub fn goes_alone(&self) -> bool {
        self.alone
    }

    /// Whether the CRM did not take what the contact is to another one.
    pub fn is_refused_in_part(&self) -> bool {
        self.refused
    }

    /// The first thing to do.
    pub fn begin(&mut self) -> Action {
        if !self.terms.shadow {
            return self.next();
        }
        let link = &self.link;
        Action::End(End::Judged {
            version: self.record.version,
            outcome: OutcomeKind::Filtered,
            reason: Some(ReasonCode::Shadow.into()),
            // Of before the shadow.
            suspected: if self.uncertain { link.sent.keys().cloned().collect() } else { Vec::new() },
        })
    }

    /// Takes the answer to the request that was sent at `sent_at`.
    pub fn answered(&mut self, answer: Answer, sent_at: Instant) -> Action {
        let (_, at) = self.last.as_mut().expect("an answer follows a request");
        *at = Some(sent_at);
        self.answers.push(answer);
        self.next()
    }

    /// The request did not leave, and `end` says why. What was stored before it stays stored.
    pub fn kept_back(self, end: End) -> End {
        if !self.changed {
            return end;
        }
        let until = if let End::MustWait { until } = end { Some(until) } else { None };
        End::Interrupted { until, carried: self.plan.carried(), lost: self.lost_create() }
    }

    /// Takes the result of a renewal: with another credential, the request that was refused is sent again, once. What was
    /// answered before it stands, or what a create has made would be made anew.
    pub fn renewed(&mut self, another: bool) -> Action {
        self.renewed = true;
        if another {
            self.answers.pop();
            self.last = None;
        }
        self.next()
    }

    /// There is no credential to go on with.
    pub fn unauthorized(mut self, failure: Failure) -> End {
        self.failed(failure)
    }

    /// Begins anew, with lists that hold what the connector learned.
    pub fn taught(&mut self, references: References) -> Action {
        self.references = references.with(self.references.related().clone());
        self.answers.clear();
        self.last = None;
        self.next()
    }

    fn next(&mut self) -> Action {
        let delivery = Delivery {
            record: self.record,
            link: Some(&self.link),
            projection: &self.projection,
            changes: &self.plan.changes,
            clears: &self.plan.clears,
            operation: self.plan.operation,
            look_up: self.look_up.as_ref(),
            references: &self.references,
            tries: self.tries,
        };
        match self.terms.connector.next(&delivery, &self.answers) {
            Step::Call(request) => {
                self.alone = false;
                self.call(request)
            }
            Step::CallAlone(request) => {
                self.alone = true;
                self.call(request)
            }
            Step::Done(accepted) => {
                let (version, operation) = (self.record.version, accepted.operation);
                let accepted = self.plan.clone().accepted(&self.projection, accepted);
                Action::End(End::Delivered { version, operation, accepted })
            }
            Step::DoneBut { accepted, refused } => {
                self.refused = true;
                let (version, operation) = (self.record.version, accepted.operation);
                let mut accepted = self.plan.clone().accepted(&self.projection, accepted);
                accepted.sent.extend(refused.into_iter().map(|field| (field, Sent::Void)));
                Action::End(End::Delivered { version, operation, accepted })
            }
            Step::Judged(verdict) => {
                let suspected =
                    if self.uncertain || self.may_have_changed() { self.plan.carried() } else { Vec::new() };
                Action::End(End::Judged {
                    version: self.record.version,
                    outcome: verdict.outcome,
                    reason: Some(verdict.reason),
                    suspected,
                })
            }
            Step::Found(remote_ids) => {
                assert!(remote_ids.contains_key(REMOTE_CONTACT), "a contact that was found has an id");
                let carried = if self.may_have_changed() { self.plan.carried() } else { Vec::new() };
                Action::End(End::Found { remote_ids, carried })
            }
            Step::Created(remote_ids) => {
                assert!(remote_ids.contains_key(REMOTE_CONTACT), "a contact that was created has an id");
                Action::End(End::Created { remote_ids, carried: self.plan.carried() })
            }
            Step::Part { remote_ids, left } => {
                assert!(remote_ids.contains_key(REMOTE_CONTACT), "what a contact holds in part is held by its id");
                let sent = self.plan.clone().but(&left, &self.terms.crm, &self.link, &self.terms.hasher);
                Action::End(End::Part { remote_ids, sent })
            }
            Step::Learned(learned) => {
                assert!(!self.may_have_changed(), "what a delivery needs to know it reads before it writes");
                Action::Keep(learned)
            }
            Step::Failed(failure) if failure.class == FailureClass::Auth && self.may_send_again(failure.effect) => {
                if failure.effect == Effect::Unknown {
                    self.changed = self.may_have_changed();
                }
                Action::Renew
            }
            Step::Failed(failure) => Action::End(self.failed(failure)),
        }
    }

    fn call(&mut self, request: Request) -> Action {
        if request.kind == RequestKind::Create {
            if let Some(keys) = self.look_up_next.take() {
                self.look_up = Some(keys);
                self.answers.clear();
                return self.next();
            }
            if let Some(intent) = self.intent.take() {
                return Action::End(End::Intended { intent });
            }
        }
        self.changed = self.may_have_changed();
        if let Some((last, Some(at))) = self.last.take()
            && last.kind == RequestKind::Create
        {
            self.created = Some((last, at));
        }
        self.last = Some((request.clone(), None));
        Action::Send(request)
    }

    /// Whether the last request may follow itself, with another credential: once, and not if it may have made a contact.
    fn may_send_again(&self, effect: Effect) -> bool {
        let creates = self.last.as_ref().is_some_and(|(request, _)| request.kind == RequestKind::Create);
        !(self.renewed || creates && effect == Effect::Unknown)
    }

    fn may_have_changed(&self) -> bool {
        self.changed || self.last.as_ref().is_some_and(|(request, _)| request.kind != RequestKind::Read)
    }

    fn failed(&mut self, mut failure: Failure) -> End {
        let wrote = self.last.take().filter(|(request, _)| request.kind != RequestKind::Read);
        let lost = match (wrote, failure.effect) {
            (Some((request, Some(sent_at))), Effect::Unknown) => Some(Lost { request: Arc::new(request), sent_at }),
            _ => self.lost_create(),
        };
        // A search that got no answer changed nothing; what was written before it did.
        failure.effect = if lost.is_some() || self.changed { Effect::Unknown } else { Effect::None };
        End::Failed { version: self.record.version, failure, carried: self.plan.carried(), lost }
    }

    /// A create that was answered, while what it made is forgotten with this delivery: the next one searches for it, and
    /// must not do so before the search can find it.
    fn lost_create(&self) -> Option<Lost> {
        self.created.as_ref().map(|(request, sent_at)| Lost { request: Arc::new(request.clone()), sent_at: *sent_at })
    }
}

/// The link, as it may be. What a predecessor sent before it died may have changed any field that was ever sent, or
/// announced; and where nothing was, it may have been the first write, with whatever fields the record had then. What is
/// driven anew may have been changed likewise, by anybody, unless nothing was ever sent of it.
///
/// To a contact that was there before us nobody sent what was not announced: the rest is its owner's, until the person is to
/// be forgotten.
fn suspected<'a>(terms: &Terms, task: &'a Task, record: &ContactRecord, uncertain: bool) -> Cow<'a, Link> {
    let is_untouched = task.link.linked == Some(Linked::Existing) && task.link.sent.is_empty();
    if is_untouched && record.status != Status::Erased {
        return Cow::Borrowed(&task.link);
    }
    let uncertain = uncertain || is_untouched;
    let anew = task.anew && task.link.was_ever_sent();
    if !uncertain || (task.link.sent.is_empty() && !task.forced && !anew && !is_untouched) {
        return Cow::Borrowed(&task.link);
    }
    let mut link = task.link.clone();
    if link.sent.is_empty() {
        link.sent = terms.connector.fields().into_iter().map(|field| (field.into(), Sent::Void)).collect();
    }
    link.sent.values_mut().for_each(|sent| *sent = Sent::Void);
    Cow::Owned(link)
}

/// What comes before a create.
#[derive(Debug, Default)]
struct Search {
    look_up: Option<LookUpKeys>,
    look_up_next: Option<LookUpKeys>,
    intent: Option<Intent>,
}

/// What to search for before a create, and what to commit before it leaves.
///
/// With every create preceded by a search for our own reference, the next search finds one whose answer was lost, whoever
/// makes it. Where the search is saved, or only the contact's own data can be searched for, the intent says that there
/// may be something to find, and by what; a search by it comes first unless it was committed for this very delivery. If
/// the contact has other keys by now, a search by those follows: the first one said nothing about them.
fn search(terms: &Terms, task: &Task, record: &ContactRecord, projection: &Projection) -> Search {
    if task.link.remote_ids.contains_key(REMOTE_CONTACT) {
        return Search::default();
    }
    let Some(keys) = terms.connector.look_up_keys(record, projection) else { return Search::default() };
    if task.link.linked == Some(Linked::New) {
        // An operator has looked, and knows it for a contact of its own. The intent takes the place of that word.
        let intent = Some(Intent { keys: keys.values }).filter(|_| terms.protections.hold(Protection::Intent));
        return Search { intent, ..Search::default() };
    }
    let known = task.link.intent.as_ref().map(|intent| &intent.keys);
    let is_known = known == Some(&keys.values);
    let intent = (!(is_known || terms.find_before_create && keys.planted))
        .then(|| Intent { keys: keys.values.clone() })
        .filter(|_| terms.protections.hold(Protection::Intent));
    let wanted = terms.find_before_create && !is_known;
    let (look_up, look_up_next) = match known {
        Some(_) if task.intended && is_known => (None, None),
        Some(values) => {
            let as_sent = LookUpKeys { values: values.clone(), planted: keys.planted };
            (Some(as_sent), wanted.then_some(keys))
        }
        None => (wanted.then_some(keys), None),
    };
    let holds = |_: &LookUpKeys| terms.protections.hold(Protection::LookUp);
    Search { look_up: look_up.filter(holds), look_up_next: look_up_next.filter(holds), intent }
}

#[cfg(test)]
mod tests;
