//! The simulated CRMs: strict, with scripted and seeded faults.
//!
//! What a connector believes of a CRM and what the CRM does must not come from one place, or both would be wrong
//! together: nothing here names a type of a connector. [`Sandbox::handle`] is the whole simulated system, an HTTP request
//! in and an answer (or a broken connection) out. [`server`] puts it on a TCP port; [`in_process`] hands it requests
//! without a socket, so that a paused clock can be used.
//!
//! A request that has arrived runs to its end whether or not the caller still waits: a write that takes effect after the
//! caller gave up is the very thing that has to be simulated. Every request is logged, with what became of it, for
//! assertions. All time is tokio's, so a paused clock holds everything still.
//!
//! Four control addresses stand beside the simulated system, outside its faults and its log: `GET /_sandbox/contacts`,
//! `GET /_sandbox/requests`, `POST /_sandbox/faults` (a [`FaultPlan`]) and `POST /_sandbox/tokens` (a list of texts).

mod faults;
pub mod in_process;
mod priava;
mod requests;
pub mod server;

use std::{collections::BTreeSet, fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use parking_lot::Mutex;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::Instant};

use self::{
    faults::Faults,
    priava::{Reply, Tenant},
    requests::Log,
};
pub use self::{
    faults::{BadPlan, Chance, Fault, FaultPlan, Instead, RateLimit, Scripted, Window},
    requests::LoggedRequest,
};
use crate::clock::Clock;

/// How a simulated Priava behaves. The defaults are what its connector assumes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxSettings {
    /// Address of the HTTP server; port 0: any free one.
    pub listen: SocketAddr,
    /// Decides the ids that are given out and the faults that strike by chance.
    pub seed: u64,
    /// Goes before the documented paths.
    pub base_path: String,
    /// Accepted tokens, in the header `APIToken` or as bearer tokens.
    pub tokens: BTreeSet<String>,
    /// The tenant's list of titles.
    pub titles: Vec<String>,
    /// Whether a title outside the list is dropped; otherwise the contact is refused.
    pub ignore_unknown_titles: bool,
    /// The tenant's lists of organisation types and market sectors; an empty list takes anything.
    pub organisation_types: Vec<String>,
    pub market_sectors: Vec<String>,
    /// Whether a contact with an unknown key is refused; otherwise the key is ignored.
    pub refuse_unknown_keys: bool,
    /// Whether an update removes what it does not mention; otherwise that stays.
    pub absent_clears: bool,
    /// How long every answer takes.
    #[serde(with = "humantime_serde")]
    pub latency: Duration,
    /// Largest request body over TCP, in bytes.
    pub request_bytes_max: usize,
    /// Connections over TCP at once.
    pub connections_max: usize,
    /// Requests that the log keeps; older ones are dropped, and counted.
    pub log_max: usize,
    /// Whether the log keeps whole bodies, and not only their hashes.
    pub log_bodies: bool,
    pub faults: FaultPlan,
}

impl Default for SandboxSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            seed: 0,
            base_path: "/api/rest".to_owned(),
            tokens: BTreeSet::from(["sandbox-token".to_owned()]),
            titles: ["Mr", "Mrs", "Ms", "Miss", "Dr", "Prof"].map(str::to_owned).into(),
            ignore_unknown_titles: false,
            organisation_types: Vec::new(),
            market_sectors: Vec::new(),
            refuse_unknown_keys: false,
            absent_clears: false,
            latency: Duration::ZERO,
            request_bytes_max: 1024 * 1024,
            connections_max: 1024,
            log_max: 100_000,
            log_bodies: false,
            faults: FaultPlan::default(),
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

/// A simulated Priava tenant. Clones are the same tenant.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

struct Inner {
    settings: SandboxSettings,
    clock: Clock,
    started: Instant,
    state: Mutex<State>,
}

struct State {
    tenant: Tenant,
    tokens: BTreeSet<String>,
    faults: Faults,
    log: Log,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        write!(f, "sandbox with {} contacts", state.tenant.len())
    }
}

impl Sandbox {
    pub fn new(settings: SandboxSettings) -> Result<Self, BadPlan> {
        Self::with_clock(settings, Clock::System)
    }

    /// `clock` tells the time of day for the log.
    pub fn with_clock(settings: SandboxSettings, clock: Clock) -> Result<Self, BadPlan> {
        let state = State {
            tenant: Tenant::new(settings.seed),
            tokens: settings.tokens.clone(),
            faults: Faults::new(settings.faults.clone(), settings.seed, Instant::now())?,
            log: Log::new(settings.log_max),
        };
        Ok(Self(Arc::new(Inner { settings, clock, started: Instant::now(), state: Mutex::new(state) })))
    }

    pub fn settings(&self) -> &SandboxSettings {
        &self.0.settings
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

    /// The fields of the newest contact with this `externalIntegrationId`.
    pub fn contact(&self, external_id: &str) -> Option<Value> {
        self.0.state.lock().tenant.contact(external_id)
    }

    /// All contacts, oldest first, each with `id`, `writes`, `organisationId` and `fields`.
    pub fn contacts(&self) -> Vec<Value> {
        self.0.state.lock().tenant.contacts()
    }

    /// All organisations, oldest first.
    pub fn organisations(&self) -> Vec<Value> {
        self.0.state.lock().tenant.organisations()
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
            return Ok(self.control(address, &request));
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
            let contact = priava::contact_key(request.body());
            let fault = state.faults.strike(contact.as_deref(), Instant::now());
            let body = self.0.settings.log_bodies.then(|| request.body().clone());
            let entry = LoggedRequest {
                sequence: 0,
                since_start: self.0.started.elapsed(),
                arrived_at: self.0.clock.now(),
                method: request.method().to_string(),
                path: request.uri().path().to_owned(),
                contact,
                body_hash: requests::hash(request.body()),
                body,
                faulty: fault != Fault::default(),
                effect: None,
                ended: false,
                ended_since_start: None,
                status: None,
                retry_after: None,
                answered: false,
            };
            (state.log.arrived(entry), fault)
        };
        pause(self.0.settings.latency + fault.delay_before).await;
        let result = self.take_effect(&request, sequence, &fault);
        pause(fault.delay_after).await;

        let head = result.as_ref().ok().map(|response| (response.status(), response.headers()));
        let answered = head.is_some() && !answer.is_closed();
        // Logged before the caller can see the answer, and taken back if there is no caller any more.
        self.0.state.lock().log.ended(sequence, self.0.started.elapsed(), head, answered);
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
                if let Some(token) = token_of(request) {
                    let token = token.to_owned();
                    state.tokens.remove(&token);
                }
            }
            Instead::Nothing
            | Instead::Status { effect: true, .. }
            | Instead::ResetAfter
            | Instead::SlowBody { .. }
            | Instead::LongBody { .. } => {}
        }
        let reply = self.respond(request, &mut state);
        if reply.stored {
            state.log.took_effect(sequence);
        }
        drop(state);
        let mut response = respond_json(reply.status, &reply.body);
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

    /// What the system itself answers.
    fn respond(&self, request: &http::Request<Bytes>, state: &mut State) -> Reply {
        let settings = &self.0.settings;
        let path = request.uri().path().strip_prefix(settings.base_path.as_str());
        if path != Some(priava::CONTACTS_PATH) {
            return Reply::refusal(StatusCode::NOT_FOUND, "not_found", "there is nothing at this address");
        }
        if request.method() != Method::POST {
            return Reply::refusal(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "use POST");
        }
        if !token_of(request).is_some_and(|token| state.tokens.contains(token)) {
            return Reply::refusal(StatusCode::UNAUTHORIZED, "unauthorized", "the token is missing or not valid");
        }
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.and_then(|value| value.split(';').next()).map(str::trim);
        if !media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json")) {
            return Reply::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "send JSON");
        }
        state.tenant.upsert(settings, request.body())
    }

    fn control(&self, address: &str, request: &http::Request<Bytes>) -> http::Response<Bytes> {
        match (request.method(), address) {
            (&Method::GET, "contacts") => respond_json(
                StatusCode::OK,
                &json!({ "contacts": self.contacts(), "organisations": self.organisations() }),
            ),
            (&Method::GET, "requests") => {
                let query = request.uri().query().unwrap_or_default();
                let after = query.strip_prefix("after=").and_then(|number| number.parse().ok()).unwrap_or(0);
                let state = self.0.state.lock();
                let body = json!({ "dropped": state.log.dropped(), "requests": state.log.after(after) });
                respond_json(StatusCode::OK, &body)
            }
            (&Method::POST, "faults") => {
                let plan = parse(request.body());
                command(plan.and_then(|plan| self.set_faults(plan).map_err(|error| error.to_string())))
            }
            (&Method::POST, "tokens") => {
                command(parse::<Vec<String>>(request.body()).map(|tokens| self.set_tokens(tokens)))
            }
            _ => respond_json(StatusCode::NOT_FOUND, &json!({ "error": "no such control address" })),
        }
    }
}

async fn pause(duration: Duration) {
    // Even a sleep of zero waits for the next tick of the timer.
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn command(result: Result<(), String>) -> http::Response<Bytes> {
    match result {
        Ok(()) => respond_json(StatusCode::OK, &json!({})),
        Err(why) => respond_json(StatusCode::BAD_REQUEST, &json!({ "error": why })),
    }
}

fn token_of(request: &http::Request<Bytes>) -> Option<&str> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    header("apitoken").or_else(|| header("authorization").and_then(|value| value.strip_prefix("Bearer ")))
}

fn respond_json(status: StatusCode, body: &Value) -> http::Response<Bytes> {
    let mut response = http::Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests;
