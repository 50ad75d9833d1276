//! One attempt to bring the newest record of a contact to a CRM: drives a [`delivery`](super::delivery), asks for leave
//! before each request, sends it, and says how it ended.
//!
//! Runs as a task of its own, beside others of other contacts. It changes nothing but the CRM: the end goes back to the
//! loop, which drops it if the partition was lost meanwhile.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    batching::Collector,
    delivery::{Action, Machine, Terms},
    lane::{End, Lost, Task},
    way::{OWNERSHIP_PAUSE, Passenger, Sent, Way},
};
use crate::{
    config::DeliverySettings,
    contact::{ContactId, ContactRecord},
    crm::{
        self, Effect, Failure, FailureClass, REMOTE_CONTACT, Request, RequestKind,
        link::Open,
        reference::Library,
        relation::{self, Related},
        session::{CredentialNumber, RenewalError},
    },
    event::{OutcomeKind, ReasonCode, traceparent::TraceParent},
    identity::keys::KeyHash,
    log::{AssignmentNumber, MemberHandle, Partition},
    protection::Protection,
    resync::mode::Decided,
    telemetry::handled::Handled,
    view::{View, ViewError},
};

/// Pause before it is looked again whether a CRM is in shadow after all, which only a restart of some worker changes.
const SHADOW_PAUSE: Duration = Duration::from_secs(1);

/// The unit of a document that says what the contact is to others.
const RELATIONS: &str = "/relations";

/// What all attempts of one CRM share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) terms: Terms,
    pub(super) library: Library,
    pub(super) settings: DeliverySettings,
    pub(super) view: View,
    pub(super) way: Arc<Way>,
    /// Where contacts share calls.
    pub(super) collector: Option<Collector>,
}

/// One attempt, with all that the lane knew when it began.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) shared: Arc<Shared>,
    pub(super) member: Arc<dyn MemberHandle>,
    pub(super) partition: Partition,
    pub(super) assignment: AssignmentNumber,
    pub(super) contact: ContactId,
    pub(super) task: Task,
    pub(super) lost: Option<Lost>,
    /// The gate admits this one delivery only.
    pub(super) probe: bool,
    /// Counted from 1, of what it is for.
    pub(super) number: u32,
    /// What it is for, and where it stands in a trace.
    pub(super) handled: Handled,
}

/// The end of an attempt.
#[derive(Debug)]
pub(super) struct Attempted {
    pub(super) partition: Partition,
    pub(super) assignment: AssignmentNumber,
    pub(super) contact: ContactId,
    pub(super) probe: bool,
    /// The CRM answered, and what it said last was no refusal of the credential.
    pub(super) answered: bool,
    /// Something is left to be said of other contacts.
    pub(super) waits: bool,
    pub(super) number: u32,
    pub(super) handled: Handled,
    /// Requests that left.
    pub(super) requests: u32,
    /// Those of them that others shared.
    pub(super) shared_calls: Vec<TraceParent>,
    pub(super) end: Result<End, ViewError>,
}

/// What an attempt showed on its way.
#[derive(Debug, Default)]
struct Showed {
    answered: bool,
    waits: bool,
    requests: u32,
    shared_calls: Vec<TraceParent>,
}

impl Attempt {
    pub(super) async fn run(self) -> Attempted {
        let mut showed = Showed::default();
        let end = self.handled.clone().during(self.end(&mut showed)).await;
        let Self { partition, assignment, contact, probe, number, handled, .. } = self;
        let Showed { answered, waits, requests, shared_calls } = showed;
        Attempted {
            partition,
            assignment,
            contact,
            probe,
            answered,
            waits,
            number,
            handled,
            requests,
            shared_calls,
            end,
        }
    }

    async fn end(&self, showed: &mut Showed) -> Result<End, ViewError> {
        let shared = &*self.shared;
        let needed = self.task.link.open.as_ref().map_or(0, Open::version);
        let record = shared.view.record_to_deliver(self.contact)?.filter(|record| record.version >= needed);
        let Some(record) = record else {
            // An entry is handled once the view holds its record. A contact that whoever owns the partition now has parked is
            // seen through its link, which may come first; we just do not know yet that we lost the partition.
            return Ok(End::MustWait { until: Instant::now() + OWNERSHIP_PAUSE });
        };
        if shared.terms.shadow && self.has_left_shadow()? {
            return Ok(End::MustWait { until: Instant::now() + SHADOW_PAUSE });
        }
        let related = self.related(&record)?;
        showed.waits = related.is_waiting(self.contact);
        let references = shared.library.at(Instant::now()).with(related);
        let begun = Machine::new(&shared.terms, &self.task, &record, references);
        // What the CRM cannot be told of may be all that has changed.
        if matches!(begun, Ok(_) | Err(End::Judged { outcome: OutcomeKind::Unchanged, .. }))
            && crm::withdraws_in_vain(&*shared.terms.connector, &record)
        {
            shared.way.metrics.consent_not_expressible(&shared.terms.crm);
        }
        let mut machine = match begun {
            Ok(machine) => machine,
            Err(end) => return Ok(end),
        };
        for loss in &machine.projection().losses {
            shared.way.metrics.field_lost(&shared.terms.crm, loss.field);
        }
        if shared.terms.shadow {
            shared.way.metrics.shadowed(&shared.terms.crm, machine.operation());
        }
        if self.probe {
            shared.way.session.look_again().await;
        }
        let mut credential = None;
        let mut action = machine.begin();
        loop {
            action = match action {
                Action::Send(request) => {
                    if let Err(error) = shared.way.session.ready(&shared.way.beside(&self.handled.place)).await {
                        return Ok(machine.unauthorized(self.without_credential(error)));
                    }
                    match self.send(request, machine.goes_alone()).await {
                        Sent::Kept(end) => return Ok(machine.kept_back(end)),
                        Sent::Left { answer, credential: used, sent_at, shared } => {
                            credential = Some(used);
                            showed.requests += 1;
                            showed.shared_calls.extend(shared);
                            showed.answered |= answer.is_ok();
                            machine.answered(answer, sent_at)
                        }
                    }
                }
                Action::Renew => {
                    showed.answered = false;
                    match self.renew(credential).await {
                        Ok(another) => machine.renewed(another),
                        Err(error) => return Ok(machine.unauthorized(self.without_credential(error))),
                    }
                }
                Action::Keep(learned) => {
                    shared.library.keep(learned, Instant::now());
                    machine.taught(shared.library.at(Instant::now()))
                }
                Action::End(end) => {
                    showed.waits |= machine.is_refused_in_part();
                    for loss in machine.listed_losses() {
                        shared.way.metrics.field_lost(&shared.terms.crm, loss.field);
                    }
                    return Ok(end);
                }
            };
        }
    }

    /// What is known of the contacts that `record` names, and of those that it named when it was last sent.
    fn related(&self, record: &ContactRecord) -> Result<Related, ViewError> {
        let Shared { terms, view, .. } = &*self.shared;
        let mut related = Related::default();
        if !terms.connector.relates() {
            return Ok(related);
        }
        let relations = terms.connector.relations(record);
        let speaker = match relations.iter().any(|relation| relation.source.is_none()) {
            // Whose word it is stands in the larger part of a record.
            true => view.record(self.contact)?.and_then(|mut whole| whole.provenance.remove(RELATIONS)),
            false => None,
        };
        let mut others: Vec<ContactId> =
            self.task.link.sent.keys().filter_map(|field| Some(relation::parts(field)?.1)).collect();
        for relation in relations {
            let source = relation.source.as_deref().or(speaker.as_ref().map(|speaker| &*speaker.source));
            let key = source.map(|source| KeyHash::of_source_id(&terms.hasher, source, &relation.subject));
            let entry = key.map(|key| view.key(key)).transpose()?.flatten();
            // A contact that its source deleted may still be in the CRM.
            let other = entry.and_then(|entry| entry.owner.or(entry.last_owner));
            others.extend(other);
            related.note(relation, other);
        }
        for other in others {
            let link = view.link(&terms.crm, other)?;
            if let Some(id) = link.and_then(|mut link| link.remote_ids.remove(REMOTE_CONTACT)) {
                related.note_id(other, id);
            }
        }
        Ok(related)
    }

    /// Whether another worker has gone live: what is answered here from now on would be lost to its resync.
    fn has_left_shadow(&self) -> Result<bool, ViewError> {
        let state = self.shared.view.resolver_state(&Decided::key(&self.shared.terms.crm))?;
        Ok(state.is_some_and(|state| Decided::has_ended(&state)))
    }

    /// Sends the request, by itself or with those of other contacts.
    async fn send(&self, request: Request, alone: bool) -> Sent {
        let shared = &*self.shared;
        if let Some(lost) = &self.lost
            && !(request.kind == RequestKind::Set && request == *lost.request)
            && shared.terms.protections.hold(Protection::LostWait)
        {
            // What was lost may land until then, and must not land after this.
            return Sent::Kept(End::MustWait { until: lost.sent_at + shared.settings.landing_time() });
        }
        let passenger = self.passenger();
        // A probe is to find out about the CRM, not about how many come along.
        let collector = shared.collector.as_ref().filter(|_| !alone && !self.probe);
        match collector.and_then(|collector| Some((collector, collector.row_key(&request)?))) {
            Some((collector, key)) => collector.send(request, key, passenger).await,
            None => shared.way.send(request, &passenger).await,
        }
    }

    fn passenger(&self) -> Passenger {
        let Self { partition, assignment, probe, .. } = *self;
        let place = self.handled.place.clone();
        Passenger { member: self.member.clone(), partition, assignment, probe, place }
    }

    async fn renew(&self, refused: Option<CredentialNumber>) -> Result<bool, RenewalError> {
        let Some(refused) = refused else { return Ok(false) };
        self.shared.way.session.renew(refused, &self.shared.way.beside(&self.handled.place)).await
    }

    /// What having no credential means for the delivery.
    fn without_credential(&self, error: RenewalError) -> Failure {
        match error {
            RenewalError::Login(failure) => failure,
            RenewalError::Secret(error) => {
                tracing::error!(crm = %self.shared.terms.crm, %error, "the credential could not be renewed");
                Failure {
                    class: FailureClass::Auth,
                    effect: Effect::None,
                    reason: ReasonCode::Refused.into(),
                    retry_after: None,
                }
            }
        }
    }
}
