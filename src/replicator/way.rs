//! The way to one CRM: how a request leaves, whoever asked for it.
//!
//! Whatever leaves takes its turn in the rate, and only then shows once more that it may: the partition is still ours, and
//! the CRM takes requests. What an exchange took and how it ended is told here, once for each call, however many contacts
//! share it.

use std::{iter, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{concurrency::Concurrency, gate::Gate, lane::End, limits::Rate};
use crate::{
    crm::{
        Answer, Request, TransportError,
        remote::Turn,
        session::{CredentialNumber, Session},
        transport::Transport,
    },
    event::traceparent::{TRACEPARENT, TraceParent},
    log::{AssignmentNumber, MemberHandle, Partition},
    metrics::{Metrics, StatusClass},
    protection::{Protection, Protections},
    telemetry::traces::{Call, Exchanged, Place, Traces},
};

/// Pause before a contact of a partition that may be lost is looked at again.
pub(super) const OWNERSHIP_PAUSE: Duration = Duration::from_millis(100);

/// The way to one CRM.
#[derive(Debug)]
pub(super) struct Way {
    /// Name of the CRM.
    pub(super) crm: Arc<str>,
    pub(super) session: Arc<dyn Session>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) metrics: Metrics,
    pub(super) traces: Traces,
    pub(super) gate: Mutex<Gate>,
    pub(super) rate: Arc<Rate>,
    /// Of calls.
    pub(super) concurrency: Mutex<Concurrency>,
    /// Contacts that may share a call.
    pub(super) rows_per_call: usize,
    /// Contacts that may be under way, whatever they share.
    pub(super) in_flight_max: usize,
    pub(super) protections: Protections,
}

/// On whose behalf a request leaves.
#[derive(Debug, Clone)]
pub(super) struct Passenger {
    pub(super) member: Arc<dyn MemberHandle>,
    pub(super) partition: Partition,
    pub(super) assignment: AssignmentNumber,
    /// The gate admits this one delivery only.
    pub(super) probe: bool,
    /// Where the attempt stands in a trace.
    pub(super) place: Place,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Sent {
    /// It did not leave.
    Kept(End),
    Left {
        answer: Answer,
        credential: CredentialNumber,
        sent_at: Instant,
        /// The span of a call that several shared.
        shared: Option<TraceParent>,
    },
}

impl Way {
    /// How many contacts may be under way: as many as fill the calls that may be.
    pub(super) fn contacts_max(&self) -> usize {
        let calls = self.concurrency.lock().limit();
        calls.saturating_mul(self.rows_per_call).min(self.in_flight_max)
    }

    /// Sends the request of one contact by itself.
    pub(super) async fn send(&self, request: Request, passenger: &Passenger) -> Sent {
        self.rate.wait().await;
        if let Some(end) = self.kept_back(passenger) {
            return Sent::Kept(end);
        }
        let sent_at = Instant::now();
        let call = self.traces.call(iter::once(&passenger.place));
        let (answer, credential) = self.exchange(request, &call).await;
        Sent::Left { answer, credential, sent_at, shared: None }
    }

    /// Why a request may not leave at this moment; `None`: it may.
    pub(super) fn kept_back(&self, passenger: &Passenger) -> Option<End> {
        let now = Instant::now();
        let Passenger { member, partition, assignment, probe, .. } = passenger;
        let ours = member.owns(*partition) == Some(*assignment) && member.confirmed_age() < member.session_timeout();
        if !ours && self.protections.hold(Protection::OwnMap) {
            // The revocation is on its way, or a commit is about to show that the membership still stands.
            return Some(End::MustWait { until: now + OWNERSHIP_PAUSE });
        }
        let admitted = self.gate.lock().still_admits(*probe, now);
        (!admitted).then_some(End::Withdrawn)
    }

    /// One exchange, with the credential that is in use.
    pub(super) async fn exchange(&self, mut request: Request, call: &Call) -> (Answer, CredentialNumber) {
        let credential = self.session.authorize(&mut request);
        let started = Instant::now();
        let answer = self.traced(request, call).await;
        if let Ok(response) = &answer {
            self.session.answered(credential, response);
        }
        let (class, ended) = (class_of(&answer), Instant::now());
        self.metrics.exchange_ended(&self.crm, class, ended - started);
        self.concurrency.lock().exchanged(ended - started, is_too_much(class), ended);
        (answer, credential)
    }
}

impl Way {
    /// What is sent to the CRM on behalf of the attempt at `place`, but not for its contact: a login.
    pub(super) fn beside<'a>(&'a self, place: &'a Place) -> impl Transport + 'a {
        Logins { way: self, place }
    }

    /// Sends a request that says where it stands in a trace.
    async fn traced(&self, mut request: Request, call: &Call) -> Answer {
        let traceparent = call.place.traceparent().and_then(|text| HeaderValue::from_str(text).ok());
        request.headers.extend(traceparent.map(|value| (HeaderName::from_static(TRACEPARENT), value)));
        let told = call.place.span().map(|_span| {
            // A query may hold what a contact is searched by.
            let path = request.path.split('?').next().unwrap_or_default();
            (request.method.clone(), path.to_owned())
        });
        let answer = self.transport.exchange(request).await;
        if let Some((method, path)) = told {
            let exchanged = Exchanged { crm: &self.crm, method: method.as_str(), path: &path, answer: &answer };
            self.traces.exchanged(call, &exchanged);
        }
        answer
    }
}

/// The way of logins.
#[derive(Debug)]
struct Logins<'a> {
    way: &'a Way,
    place: &'a Place,
}

#[async_trait]
impl Transport for Logins<'_> {
    async fn exchange(&self, request: Request) -> Answer {
        let call = self.way.traces.call(iter::once(self.place));
        self.way.traced(request, &call).await
    }
}

/// The turn of requests beside deliveries: they share the rate, and what they took is told as that of any exchange.
#[derive(Debug)]
pub struct Beside {
    /// Name of the CRM.
    pub crm: Arc<str>,
    pub rate: Arc<Rate>,
    pub metrics: Metrics,
}

#[async_trait]
impl Turn for Beside {
    async fn wait(&self) {
        self.rate.wait().await;
    }

    fn ended(&self, answer: &Answer, took: Duration) {
        self.metrics.exchange_ended(&self.crm, class_of(answer), took);
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
