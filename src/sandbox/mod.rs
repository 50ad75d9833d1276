//! The simulated CRMs: strict, with scripted and seeded faults.
//!
//! What a connector believes of a CRM and what the CRM does must not come from one place, or both would be wrong
//! together: nothing here names a type of a connector. A [`Sandbox`] is one whole simulated CRM, of some [`Kind`];
//! [`Sandbox::handle`] takes an HTTP request in and gives an answer (or a broken connection) out. [`server`] puts one or
//! several on a TCP port; [`in_process`] hands one its requests without a socket, so that a paused clock can be used.
//!
//! Each kind is a file or folder of its own that knows one CRM's rules; what they have in common is here: accepted
//! credentials, latency, faults and the log of requests (`system.rs` has the seam between the two).
//!
//! A request that has arrived runs to its end whether or not the caller still waits: a write that takes effect after the
//! caller gave up is the very thing that has to be simulated. Every request is logged, with what became of it, for
//! assertions. All time is tokio's, so a paused clock holds everything still.
//!
//! Four control addresses stand beside the simulated system, outside its faults and its log: `GET /_sandbox/contacts`,
//! `GET /_sandbox/requests`, `POST /_sandbox/faults` (a [`FaultPlan`]) and `POST /_sandbox/tokens` (a list of texts).

mod control;
mod crm_com;
mod faults;
mod form;
pub mod in_process;
mod logisense;
mod nextinteract_sam;
mod previsto;
mod priava;
mod requests;
pub mod server;
mod system;

use std::{collections::BTreeSet, fmt, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::{sync::oneshot, time::Instant};

pub use self::{
    crm_com::CrmComSettings,
    faults::{BadPlan, Chance, Fault, FaultPlan, Instead, Only, RateLimit, Scripted, Window},
    logisense::LogisenseSettings,
    nextinteract_sam::{NextinteractSamSettings, SamDoorSettings},
    previsto::PrevistoSettings,
    priava::{OAuthSettings, PriavaSettings},
    requests::LoggedRequest,
    system::Action,
};
use self::{
    faults::{Arrival, Faults},
    requests::Log,
    system::{Call, System},
};
use crate::clock::Clock;

/// Which CRM is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    #[default]
    Priava,
    Previsto,
    CrmCom,
    Logisense,
    NextinteractSam,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Priava, Self::Previsto, Self::NextinteractSam, Self::CrmCom, Self::Logisense];

    /// As in paths and flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Priava => "priava",
            Self::Previsto => "previsto",
            Self::CrmCom => "crm_com",
            Self::Logisense => "logisense",
            Self::NextinteractSam => "nextinteract_sam",
        }
    }

    /// As its maker writes it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Priava => "Priava",
            Self::Previsto => "Previsto",
            Self::CrmCom => "CRM.COM",
            Self::Logisense => "LogiSense",
            Self::NextinteractSam => "NextInteract SAM",
        }
    }

    /// Goes before the documented paths, and belongs to the address that a connector is given.
    pub fn base_path(self) -> &'static str {
        match self {
            Self::Priava => priava::BASE_PATH,
            Self::Previsto | Self::Logisense | Self::NextinteractSam => "",
            Self::CrmCom => crm_com::BASE_PATH,
        }
    }
}

/// Not the name of a simulated CRM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no simulated CRM of that name")]
pub struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownKind)
    }
}

/// How a simulated CRM behaves. The defaults are what its connector assumes.
#[derive(Debug, Clone)]
pub struct SandboxSettings {
    pub kind: Kind,
    /// Decides the ids that are given out and the faults that strike by chance.
    pub seed: u64,
    /// Accepted credentials: whatever the simulated system calls so.
    pub tokens: BTreeSet<String>,
    /// How long every answer takes.
    pub latency: Duration,
    /// Largest request body over TCP, in bytes.
    pub request_bytes_max: usize,
    /// Requests that the log keeps; older ones are dropped, and counted.
    pub log_max: usize,
    /// Whether the log keeps whole queries, bodies and answers, and not only hashes of bodies.
    pub log_bodies: bool,
    pub faults: FaultPlan,
    /// Only for this kind.
    pub priava: PriavaSettings,
    /// Only for this kind.
    pub previsto: PrevistoSettings,
    /// Only for this kind.
    pub crm_com: CrmComSettings,
    /// Only for this kind.
    pub logisense: LogisenseSettings,
    /// Only for this kind.
    pub nextinteract_sam: NextinteractSamSettings,
}

impl SandboxSettings {
    pub fn of(kind: Kind) -> Self {
        Self { kind, ..Self::default() }
    }
}

impl Default for SandboxSettings {
    fn default() -> Self {
        Self {
            kind: Kind::default(),
            seed: 0,
            tokens: BTreeSet::from(["sandbox-token".to_owned()]),
            latency: Duration::ZERO,
            request_bytes_max: 1024 * 1024,
            log_max: 100_000,
            log_bodies: false,
            faults: FaultPlan::default(),
            priava: PriavaSettings::default(),
            previsto: PrevistoSettings::default(),
            crm_com: CrmComSettings::default(),
            logisense: LogisenseSettings::default(),
            nextinteract_sam: NextinteractSamSettings::default(),
        }
    }
}

/// There is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reset {
    /// The connection broke after the request may have arrived.
    #[error("the connection was closed without an answer")]
    Closed,
    /// The request did not arrive. Over TCP this looks the same as [`Reset::Closed`].
    #[error("the system cannot be reached")]
    Unreachable,
}

/// An extension of an answer: its body comes this much later than its head.
#[derive(Debug, Clone, Copy)]
pub struct SlowBody(pub Duration);

/// An extension of a request: the other end of the connection that it came over.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// One simulated CRM. Clones are the same one.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

struct Inner {
    settings: SandboxSettings,
    clock: Clock,
    started: Instant,
    state: Mutex<State>,
}

struct State {
    system: Box<dyn System>,
    tokens: BTreeSet<String>,
    faults: Faults,
    log: Log,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        write!(f, "simulated {} with {} contacts", self.kind().title(), state.system.count())
    }
}

impl Sandbox {
    pub fn new(settings: SandboxSettings) -> Result<Self, BadPlan> {
        Self::with_clock(settings, Clock::System)
    }

    /// `clock` tells the time of day for the log.
    pub fn with_clock(settings: SandboxSettings, clock: Clock) -> Result<Self, BadPlan> {
        let system: Box<dyn System> = match settings.kind {
            Kind::Priava => Box::new(priava::Tenant::new(settings.priava.clone(), settings.seed)),
            Kind::Previsto => Box::new(previsto::Organisation::new(settings.previsto.clone(), settings.seed)),
            Kind::CrmCom => Box::new(crm_com::Tenant::new(settings.crm_com.clone(), settings.seed)),
            Kind::Logisense => Box::new(logisense::Billing::new(settings.logisense.clone(), settings.seed)),
            Kind::NextinteractSam => {
                Box::new(nextinteract_sam::Company::new(settings.nextinteract_sam.clone(), settings.seed))
            }
        };
        let state = State {
            system,
            tokens: settings.tokens.clone(),
            faults: Faults::new(settings.faults.clone(), settings.seed, Instant::now())?,
            log: Log::new(settings.log_max),
        };
        Ok(Self(Arc::new(Inner { settings, clock, started: Instant::now(), state: Mutex::new(state) })))
    }

    pub fn settings(&self) -> &SandboxSettings {
        &self.0.settings
    }

    /// Whether both are the same simulated CRM.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub fn kind(&self) -> Kind {
        self.0.settings.kind
    }

    /// Replaces the faults; counts and windows start anew.
    pub fn set_faults(&self, plan: FaultPlan) -> Result<(), BadPlan> {
        let faults = Faults::new(plan, self.0.settings.seed, Instant::now())?;
        self.0.state.lock().faults = faults;
        Ok(())
    }

    /// Replaces the tokens that are accepted.
    pub fn set_tokens(&self, tokens: impl IntoIterator<Item = String>) {
        self.0.state.lock().tokens = tokens.into_iter().collect();
    }

    /// The fields of the newest contact with this reference (of a Priava, its `externalIntegrationId`).
    pub fn contact(&self, reference: &str) -> Option<Value> {
        self.0.state.lock().system.contact(reference)
    }

    /// What the control page of contacts shows beside the contacts, such as the organisations of a Priava.
    pub fn remarks(&self) -> Map<String, Value> {
        self.0.state.lock().system.remarks()
    }

    /// All contacts, oldest first, each with `id`, `reference`, `writes` and `fields`.
    pub fn contacts(&self) -> Vec<Value> {
        self.0.state.lock().system.contacts()
    }

    /// The requests so far, oldest first, as far as the log still has them.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.0.state.lock().log.after(0)
    }

    /// How many requests arrived so far.
    pub fn calls(&self) -> u64 {
        self.0.state.lock().log.arrivals()
    }

    /// Answers one request.
    pub async fn handle(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, Reset> {
        if let Some(address) = request.uri().path().strip_prefix("/_sandbox/") {
            return Ok(control::answer(self, address, &request));
        }
        let (answer, answered) = oneshot::channel();
        // A task of its own: the system does not stop because a caller went away.
        tokio::spawn(self.clone().process(request, answer));
        answered.await.unwrap_or(Err(Reset::Closed))
    }

    async fn process(
        self,
        request: http::Request<Bytes>,
        answer: oneshot::Sender<Result<http::Response<Bytes>, Reset>>,
    ) {
        let (sequence, fault) = {
            let mut state = self.0.state.lock();
            let asked = state.system.asked(&request);
            let arrival = Arrival {
                action: asked.action,
                method: request.method().as_str(),
                path: request.uri().path(),
                contact: asked.contact.as_deref(),
            };
            let fault = state.faults.strike(&arrival, Instant::now());
            let keep = self.0.settings.log_bodies;
            let entry = LoggedRequest {
                sequence: 0,
                since_start: self.0.started.elapsed(),
                arrived_at: self.0.clock.now(),
                peer: request.extensions().get().map(|Peer(peer)| *peer),
                method: request.method().to_string(),
                path: request.uri().path().to_owned(),
                query: request.uri().query().filter(|_| keep).map(str::to_owned),
                action: asked.action,
                contact: asked.contact,
                remote_id: asked.remote_id,
                body_hash: requests::hash(request.body()),
                body: keep.then(|| request.body().clone()),
                faulty: fault != Fault::default(),
                effect: None,
                ended: false,
                ended_since_start: None,
                status: None,
                retry_after: None,
                answer: None,
                left: None,
                answered: false,
            };
            (state.log.arrived(entry), fault)
        };
        pause(self.0.settings.latency + fault.delay_before).await;
        let result = self.take_effect(&request, sequence, &fault);
        pause(fault.delay_after).await;

        let response = result.as_ref().ok();
        let answered = response.is_some() && !answer.is_closed();
        // Logged before the caller can see the answer, and taken back if there is no caller any more.
        self.0.state.lock().log.ended(sequence, self.0.started.elapsed(), response, answered);
        let given_up = answer.send(result).is_err();
        if given_up {
            self.0.state.lock().log.given_up(sequence);
        }
    }

    /// Carries out the request, unless the fault says otherwise, and makes the answer.
    fn take_effect(
        &self,
        request: &http::Request<Bytes>,
        sequence: u64,
        fault: &Fault,
    ) -> Result<http::Response<Bytes>, Reset> {
        let mut state = self.0.state.lock();
        match &fault.instead {
            Instead::Unreachable => return Err(Reset::Unreachable),
            Instead::ResetBefore => return Err(Reset::Closed),
            Instead::Status { effect: false, .. } => return Ok(fault.answer()),
            Instead::ExpireToken => {
                if let Some(token) = state.system.credential(request) {
                    state.tokens.remove(&token);
                    state.system.revoke(&token);
                }
            }
            Instead::Nothing
            | Instead::Status { effect: true, .. }
            | Instead::ResetAfter
            | Instead::SlowBody { .. }
            | Instead::LongBody { .. } => {}
        }
        let State { system, tokens, log, .. } = &mut *state;
        let mut reply = system.answer(Call { request, tokens, now: Instant::now() });
        log.carried_out(sequence, &mut reply);
        drop(state);
        let mut response = reply.into_response();
        match &fault.instead {
            Instead::ResetAfter => return Err(Reset::Closed),
            Instead::Status { .. } => return Ok(fault.answer()),
            Instead::SlowBody { pause } => {
                response.extensions_mut().insert(SlowBody(*pause));
            }
            Instead::LongBody { bytes } => *response.body_mut() = Bytes::from(vec![b' '; *bytes]),
            Instead::Nothing | Instead::ExpireToken | Instead::ResetBefore | Instead::Unreachable => {}
        }
        Ok(response)
    }
}

async fn pause(duration: Duration) {
    // Even a sleep of zero waits for the next tick of the timer.
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

#[cfg(test)]
mod tests;
