//! One attempt to bring the newest record of a contact to a CRM: drives a [`delivery`](super::delivery), asks for leave
//! before each request, sends it, and says how it ended.
//!
//! Runs as a task of its own, beside others of other contacts. It changes nothing but the CRM: the end goes back to the
//! loop, which drops it if the partition was lost meanwhile.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Rate,
    concurrency::Concurrency,
    delivery::{Action, Machine, Terms},
    gate::{Admission, Gate},
    lane::{End, Lost, Task},
};
use crate::{
    config::DeliverySettings,
    contact::ContactId,
    crm::{
        self, Answer, Effect, Failure, FailureClass, Request, RequestKind, TransportError,
        link::Open,
        reference::Library,
        remote::Turn as _,
        session::{CredentialNumber, RenewalError, Session},
        transport::Transport,
    },
    event::{OutcomeKind, ReasonCode},
    log::{AssignmentNumber, MemberHandle, Partition},
    metrics::{Metrics, StatusClass},
    protection::Protection,
    resync::mode::Decided,
    view::{View, ViewError},
};

/// Pause before a contact of a partition that may be lost is looked at again.
const OWNERSHIP_PAUSE: Duration = Duration::from_millis(100);

/// Pause before it is looked again whether a CRM is in shadow after all, which only a restart of some worker changes.
const SHADOW_PAUSE: Duration = Duration::from_secs(1);

/// What all attempts of one CRM share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) terms: Terms,
    pub(super) session: Arc<dyn Session>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) library: Library,
    pub(super) settings: DeliverySettings,
    pub(super) view: View,
    pub(super) metrics: Metrics,
    pub(super) gate: Mutex<Gate>,
    pub(super) rate: Arc<Rate>,
    pub(super) concurrency: Mutex<Concurrency>,
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
    pub(super) end: Result<End, ViewError>,
}

impl Attempt {
    pub(super) async fn run(self) -> Attempted {
        let mut answered = false;
        let end = self.end(&mut answered).await;
        let Self { partition, assignment, contact, probe, .. } = self;
        Attempted { partition, assignment, contact, probe, answered, end }
    }

    async fn end(&self, answered: &mut bool) -> Result<End, ViewError> {
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
        let references = shared.library.at(Instant::now());
        let begun = Machine::new(&shared.terms, &self.task, &record, references);
        // What the CRM cannot be told of may be all that has changed.
        if matches!(begun, Ok(_) | Err(End::Judged { outcome: OutcomeKind::Unchanged, .. }))
            && crm::withdraws_in_vain(&*shared.terms.connector, &record)
        {
            shared.metrics.consent_not_expressible(&shared.terms.crm);
        }
        let mut machine = match begun {
            Ok(machine) => machine,
            Err(end) => return Ok(end),
        };
        for loss in &machine.projection().losses {
            shared.metrics.field_lost(&shared.terms.crm, loss.field);
        }
        if shared.terms.shadow {
            shared.metrics.shadowed(&shared.terms.crm, machine.operation());
        }
        let mut credential = None;
        let mut action = machine.begin();
        loop {
            action = match action {
                Action::Send(request) => {
                    if let Err(error) = shared.session.ready(&*shared.transport).await {
                        return Ok(machine.unauthorized(self.without_credential(error)));
                    }
                    if let Some(end) = self.leave(&request).await {
                        return Ok(machine.kept_back(end));
                    }
                    let sent_at = Instant::now();
                    let (answer, used) = self.exchange(request).await;
                    credential = Some(used);
                    *answered |= answer.is_ok();
                    machine.answered(answer, sent_at)
                }
                Action::Renew => {
                    *answered = false;
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
                    for loss in machine.listed_losses() {
                        shared.metrics.field_lost(&shared.terms.crm, loss.field);
                    }
                    return Ok(end);
                }
            };
        }
    }

    /// Whether another worker has gone live: what is answered here from now on would be lost to its resync.
    fn has_left_shadow(&self) -> Result<bool, ViewError> {
        let state = self.shared.view.resolver_state(&Decided::key(&self.shared.terms.crm))?;
        Ok(state.is_some_and(|state| Decided::has_ended(&state)))
    }

    /// Waits for its turn, then checks once more that the request may leave. `None`: it may.
    async fn leave(&self, request: &Request) -> Option<End> {
        let shared = &*self.shared;
        if let Some(lost) = &self.lost
            && !(request.kind == RequestKind::Set && *request == *lost.request)
            && shared.terms.protections.hold(Protection::LostWait)
        {
            // What was lost may land until then, and must not land after this.
            return Some(End::MustWait { until: lost.sent_at + shared.settings.landing_time() });
        }
        shared.rate.wait().await;
        let now = Instant::now();
        let ours = self.member.owns(self.partition) == Some(self.assignment)
            && self.member.confirmed_age() < self.member.session_timeout();
        if !ours && shared.terms.protections.hold(Protection::OwnMap) {
            // The revocation is on its way, or a commit is about to show that the membership still stands.
            return Some(End::MustWait { until: now + OWNERSHIP_PAUSE });
        }
        let admitted = self.probe || shared.gate.lock().admission(now) == Admission::Open;
        (!admitted).then_some(End::Withdrawn)
    }

    async fn exchange(&self, mut request: Request) -> (Answer, CredentialNumber) {
        let shared = &*self.shared;
        let credential = shared.session.authorize(&mut request);
        let started = Instant::now();
        let answer = shared.transport.exchange(request).await;
        if let Ok(response) = &answer {
            shared.session.answered(credential, response);
        }
        let (class, ended) = (class_of(&answer), Instant::now());
        shared.metrics.exchange_ended(&shared.terms.crm, class, ended - started);
        shared.concurrency.lock().exchanged(ended - started, is_too_much(class), ended);
        (answer, credential)
    }

    async fn renew(&self, refused: Option<CredentialNumber>) -> Result<bool, RenewalError> {
        let Some(refused) = refused else { return Ok(false) };
        self.shared.session.renew(refused, &*self.shared.transport).await
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

/// Whether a CRM that has too much to do would answer so.
fn is_too_much(class: StatusClass) -> bool {
    match class {
        StatusClass::Throttled | StatusClass::ServerError | StatusClass::Unanswered | StatusClass::NotSent => true,
        StatusClass::Success | StatusClass::Redirect | StatusClass::ClientError => false,
    }
}

fn class_of(answer: &Answer) -> StatusClass {
    match answer {
        Err(TransportError::NotSent { .. }) => StatusClass::NotSent,
        Err(TransportError::Unanswered { .. } | TransportError::UnusableBody { .. }) => StatusClass::Unanswered,
        Ok(response) => match response.status.as_u16() {
            429 => StatusClass::Throttled,
            200..=299 => StatusClass::Success,
            300..=399 => StatusClass::Redirect,
            400..=499 => StatusClass::ClientError,
            _ => StatusClass::ServerError,
        },
    }
}
