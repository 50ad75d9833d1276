//! One attempt to bring the newest record of a contact to a CRM: plan, ask for leave, send, and say how it ended.
//!
//! Runs as a task of its own, beside others of other contacts. It changes nothing but the CRM: the end goes back to the
//! loop, which drops it if the partition was lost meanwhile.

use std::{borrow::Cow, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    gate::{Admission, Gate},
    lane::{End, Lost},
    limits::Rate,
    plan::Plan,
};
use crate::{
    config::DeliverySettings,
    contact::ContactId,
    crm::{
        Answer, Crm, Delivery, Effect, FailureClass, Request, Step, TransportError,
        link::{Link, Sent},
        session::CredentialNumber,
        transport::Transport,
    },
    event::{OutcomeKind, ReasonCode},
    log::{AssignmentNumber, MemberHandle, Partition},
    metrics::{Metrics, StatusClass},
    privacy::Hasher,
    view::{View, ViewError},
};

/// Pause before a contact of a partition that may be lost is looked at again.
const OWNERSHIP_PAUSE: Duration = Duration::from_millis(100);

/// What all attempts of one CRM share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) crm: Crm,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) settings: DeliverySettings,
    pub(super) view: View,
    pub(super) hasher: Hasher,
    pub(super) metrics: Metrics,
    pub(super) gate: Mutex<Gate>,
    pub(super) rate: Rate,
}

/// One attempt, with all that the lane knew when it began.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) shared: Arc<Shared>,
    pub(super) member: Arc<dyn MemberHandle>,
    pub(super) partition: Partition,
    pub(super) assignment: AssignmentNumber,
    pub(super) contact: ContactId,
    pub(super) link: Link,
    pub(super) lost: Option<Lost>,
    pub(super) forced: bool,
    /// The gate admits this one request only.
    pub(super) probe: bool,
}

/// The end of an attempt.
#[derive(Debug)]
pub(super) struct Attempted {
    pub(super) partition: Partition,
    pub(super) assignment: AssignmentNumber,
    pub(super) contact: ContactId,
    pub(super) probe: bool,
    pub(super) end: Result<End, ViewError>,
}

impl Attempt {
    pub(super) async fn run(self) -> Attempted {
        let end = self.end().await;
        let Self { partition, assignment, contact, probe, .. } = self;
        Attempted { partition, assignment, contact, probe, end }
    }

    async fn end(&self) -> Result<End, ViewError> {
        let shared = &*self.shared;
        let record =
            shared.view.record_to_deliver(self.contact)?.expect("an entry is handled once the view holds its record");
        let version = record.version;
        let link = self.suspected();
        let judged = |outcome, reason| {
            let suspected = if self.is_uncertain() { link.sent.keys().cloned().collect() } else { Vec::new() };
            Ok(End::Judged { version, outcome, reason: Some(reason), suspected })
        };
        let projection = match shared.crm.connector.project(&record, Some(&link)) {
            Ok(projection) => projection,
            Err(verdict) => return judged(verdict.outcome, verdict.reason),
        };
        let plan = Plan::new(&shared.name, &projection, &link, &shared.hasher);
        if plan.unchanged {
            return judged(OutcomeKind::Unchanged, ReasonCode::SameProjection.into());
        }
        let unannounced = plan.unannounced(&self.link);
        if !unannounced.is_empty() {
            return Ok(End::Announced { fields: unannounced });
        }
        for loss in &projection.losses {
            shared.metrics.field_lost(&shared.name, loss.field);
        }
        let delivery = Delivery {
            record: &record,
            link: Some(&link),
            projection: &projection,
            clears: &plan.clears,
            operation: plan.operation,
        };
        let mut answers: Vec<Answer> = Vec::new();
        let mut last: Option<Lost> = None;
        let mut credential = None;
        let mut renewed = false;
        loop {
            match shared.crm.connector.next(&delivery, &answers) {
                Step::Call(request) => {
                    if answers.is_empty()
                        && !renewed
                        && let Some(refused) = self.leave(&request).await
                    {
                        return Ok(refused);
                    }
                    let sent_at = Instant::now();
                    let (answer, used) = self.exchange(request.clone()).await;
                    answers.push(answer);
                    credential = Some(used);
                    last = Some(Lost { request: Arc::new(request), sent_at });
                }
                Step::Done(accepted) => {
                    let operation = accepted.operation;
                    let accepted = plan.accepted(&projection, accepted);
                    return Ok(End::Delivered { version, operation, accepted });
                }
                Step::Failed(failure)
                    if failure.class == FailureClass::Auth && !renewed && self.renew(credential).await =>
                {
                    // A new credential: the same delivery again, once.
                    renewed = true;
                    answers.clear();
                }
                Step::Failed(failure) => {
                    let lost = last.filter(|_| failure.effect == Effect::Unknown);
                    return Ok(End::Failed { version, failure, carried: plan.carried(), lost });
                }
            }
        }
    }

    /// Whether somebody may have written to the contact without being able to commit it.
    fn is_uncertain(&self) -> bool {
        self.forced || self.link.open.is_some()
    }

    /// The link, as it may be. What a predecessor sent before it died may have changed any field that was ever sent, or
    /// announced; and where nothing was, it may have been the first write, with whatever fields the record had then.
    fn suspected(&self) -> Cow<'_, Link> {
        if !self.is_uncertain() || (self.link.sent.is_empty() && !self.forced) {
            return Cow::Borrowed(&self.link);
        }
        let mut link = self.link.clone();
        if link.sent.is_empty() {
            link.sent =
                self.shared.crm.connector.fields().into_iter().map(|field| (field.into(), Sent::Void)).collect();
        }
        link.sent.values_mut().for_each(|sent| *sent = Sent::Void);
        Cow::Owned(link)
    }

    /// Waits for its turn, then checks once more that the request may leave. `None`: it may.
    async fn leave(&self, request: &Request) -> Option<End> {
        let shared = &*self.shared;
        if let Some(lost) = &self.lost
            && !(request.idempotent && *request == *lost.request)
        {
            // What was lost may land until then, and must not land after this.
            return Some(End::MustWait { until: lost.sent_at + shared.settings.request_deadline });
        }
        shared.rate.wait().await;
        let now = Instant::now();
        let ours = self.member.owns(self.partition) == Some(self.assignment)
            && self.member.confirmed_age() < self.member.session_timeout();
        if !ours {
            // The revocation is on its way, or a commit is about to show that the membership still stands.
            return Some(End::MustWait { until: now + OWNERSHIP_PAUSE });
        }
        let admitted = self.probe || shared.gate.lock().admission(now) == Admission::Open;
        (!admitted).then_some(End::Withdrawn)
    }

    async fn exchange(&self, mut request: Request) -> (Answer, CredentialNumber) {
        let shared = &*self.shared;
        let credential = shared.crm.session.authorize(&mut request);
        let started = Instant::now();
        let answer = shared.transport.exchange(request).await;
        shared.metrics.exchange_ended(&shared.name, class_of(&answer), started.elapsed());
        (answer, credential)
    }

    async fn renew(&self, refused: Option<CredentialNumber>) -> bool {
        let Some(refused) = refused else { return false };
        match self.shared.crm.session.renew(refused).await {
            Ok(changed) => changed,
            Err(error) => {
                tracing::error!(crm = %self.shared.name, %error, "the credential could not be renewed");
                false
            }
        }
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
