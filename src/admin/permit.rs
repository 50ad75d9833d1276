//! Who may ask about contacts and act on them: one door for all that operators do.
//!
//! **Loopback is enough.** Whoever is on the machine of a worker can read its settings and secrets. So an address that only
//! this machine can reach asks for no token, unless the settings want one there, too. What it must refuse is what reaches it
//! against the will of that person: a web page. Hence the `Host` must name this machine (or a page whose name was made to lead
//! here could read the answer), an `Origin` is refused, and so is a body that is not JSON, which a page could send unasked.
//!
//! **Elsewhere a token** is asked for, and without one in the settings nothing is answered. A page cannot know it, so that the
//! `Host` matters less; it is an IP address or one of the names in the settings all the same. The token's file is read again
//! when it was last read some seconds ago, so that another takes effect without a restart; while it cannot be read, the last
//! one counts.
//!
//! **Guessing** is slowed down ([`Tries`]): who showed [`WRONG_TOKENS_PER_PEER`] wrong tokens within [`WINDOW`] is told to come
//! back, whatever they show; so no peer can use up the [`WRONG_TOKENS_IN_TOTAL`] that all may show together. Beyond those, only
//! peers that showed the right token lately are heard, so that those who work go on while others guess from many places.
//!
//! No answer says more than the status of the question; no token, and nothing of a question, is ever repeated or logged.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use percent_encoding::percent_decode;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use tracing::warn;

use crate::{
    audit::Operator, config::AdminSettings, crm::session::SecretSource, event::audit::Authentication, privacy::Secret,
};

/// Name of who asks, percent-encoded where it is not plain ASCII. For the audit trail.
pub const OPERATOR: &str = "x-operator";
/// Why they ask, likewise.
pub const REASON: &str = "x-reason";

/// Wrong tokens that one peer may show within [`WINDOW`]. Of IPv6, a network of 64 bits is one peer.
pub const WRONG_TOKENS_PER_PEER: u32 = 10;
/// Wrong tokens that all peers may show together within [`WINDOW`].
pub const WRONG_TOKENS_IN_TOTAL: u32 = 100;
/// Over which wrong tokens are counted.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How long the right token speaks for the peer that showed it.
pub const TRUST: Duration = Duration::from_secs(60 * 60);
/// Peers that are remembered for the right token.
pub const TRUSTED_MAX: usize = 1_000;
/// How old what was read of the token's file may be.
pub const TOKEN_AGE_MAX: Duration = Duration::from_secs(5);

/// What operators must show, by the settings.
#[derive(Debug, Clone, Default)]
pub struct Access(Option<Arc<Guarded>>);

#[derive(Debug)]
struct Guarded {
    /// Absent: nobody is answered but on loopback.
    token: Option<Token>,
    on_loopback: bool,
    hosts: Vec<String>,
    tries: Mutex<Tries>,
}

impl Access {
    /// As `settings` want it; by default, loopback alone and no token. Clones count wrong tokens together.
    pub fn new(settings: &AdminSettings) -> Self {
        let source = SecretSource::new(settings.token_env.as_deref(), settings.token_file.as_deref()).ok();
        let token = source.zip(settings.token.as_ref()).map(|(source, token)| Token::new(source, token));
        let hosts = settings.hosts.clone();
        Self(Some(Arc::new(Guarded { token, on_loopback: settings.token_on_loopback, hosts, tries: Mutex::default() })))
    }

    /// The door of an address that is listened on.
    pub(super) fn at(&self, address: SocketAddr) -> Door {
        let is_loopback = address.ip().is_loopback();
        let guard = match &self.0 {
            Some(guarded) if guarded.token.is_some() && (!is_loopback || guarded.on_loopback) => Guard::Token,
            _ if is_loopback => Guard::Loopback,
            _ => Guard::Closed,
        };
        Door { guard, access: self.clone() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    Loopback,
    Token,
    Closed,
}

/// The door of one address.
#[derive(Debug, Clone)]
pub(super) struct Door {
    guard: Guard,
    access: Access,
}

/// Lets a question pass, with the [`Operator`] who asks among its extensions, or refuses it.
pub(super) async fn permit(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let (peer, uri, headers) = (peer.ip().to_canonical(), request.uri(), request.headers());
    let admitted = match *request.method() {
        Method::GET => door.recognize(peer, uri, headers).await,
        _ => door.admit(peer, uri, headers).await,
    };
    match admitted {
        Ok(operator) => {
            request.extensions_mut().insert(operator);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Why a question is not heard.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    why: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), retry_after: None }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response =
            (self.status, [(header::CACHE_CONTROL, "no-store")], format!("{}\n", self.why)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, (after.as_secs() + 1).into());
        }
        response
    }
}

impl Door {
    /// Who asks with a body, which is JSON.
    async fn admit(&self, peer: IpAddr, uri: &Uri, headers: &HeaderMap) -> Result<Operator, Refusal> {
        let operator = self.recognize(peer, uri, headers).await?;
        if !is_json(headers) {
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a question is application/json"));
        }
        Ok(operator)
    }

    /// Who asks, whatever it is.
    async fn recognize(&self, peer: IpAddr, uri: &Uri, headers: &HeaderMap) -> Result<Operator, Refusal> {
        let forbidden = |why: &str| Refusal::new(StatusCode::FORBIDDEN, why);
        if self.guard == Guard::Closed {
            return Err(forbidden(
                "operators are answered on a loopback address, or with a token: set admin.operator_listen (or admin.listen) \
                 to 127.0.0.1 with a port and ask on the worker's own machine, or name a token in admin.token_file",
            ));
        }
        let host = headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
        if !host.is_some_and(|host| self.answers_to(&host))
            || uri.authority().is_some_and(|host| !self.answers_to(host))
        {
            return Err(forbidden(match self.guard {
                Guard::Token => {
                    "the request is addressed to a name that is not the worker's: use its IP address, or list the name in \
                     admin.hosts"
                }
                _ => "the request is addressed to another host than this machine: use 127.0.0.1 or localhost",
            }));
        }
        if headers.contains_key(header::ORIGIN) {
            return Err(forbidden("web pages are told nothing"));
        }
        let authenticated = match self.guard {
            Guard::Token => {
                self.check_token(peer, headers).await?;
                Authentication::Token
            }
            _ => Authentication::Loopback,
        };
        let (by, reason) = (said(headers, OPERATOR)?, said(headers, REASON)?);
        Operator::new(by.as_deref(), reason.as_deref(), authenticated, peer)
            .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))
    }

    fn answers_to(&self, host: &Authority) -> bool {
        let listed = |guarded: &Arc<Guarded>| guarded.hosts.iter().any(|name| name.eq_ignore_ascii_case(host.host()));
        match self.guard {
            Guard::Token => {
                is_this_machine(host) || address(host).is_some() || self.access.0.as_ref().is_some_and(listed)
            }
            _ => is_this_machine(host),
        }
    }

    async fn check_token(&self, peer: IpAddr, headers: &HeaderMap) -> Result<(), Refusal> {
        let guarded = self.access.0.as_ref().expect("a door with a token has settings");
        let token = guarded.token.as_ref().expect("a door with a token has one");
        let Some(shown) = bearer(headers) else {
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "a token is asked for here: show it as Authorization: Bearer …, or name its file with --admin-token-file",
            ));
        };
        let is_right = token.is(shown).await;
        let verdict = guarded.tries.lock().judge(peer, is_right, Instant::now());
        match verdict {
            Verdict::Right => Ok(()),
            Verdict::Wrong { last } => {
                if last {
                    warn!(%peer, "wrong tokens were shown at the address of operators; this peer is told to come back later");
                }
                Err(Refusal::new(StatusCode::UNAUTHORIZED, "this is not the token"))
            }
            Verdict::Later(after) => Err(Refusal {
                retry_after: Some(after),
                ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens were shown: come back later")
            }),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
        let essence = kind.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/json")
    })
}

/// Whether a name can lead nowhere else, whoever is asked for its address.
fn is_this_machine(host: &Authority) -> bool {
    host.host().eq_ignore_ascii_case("localhost") || address(host).is_some_and(|address| address.is_loopback())
}

/// The address that a host is written as, if it is one.
fn address(host: &Authority) -> Option<IpAddr> {
    let name = host.host();
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => name.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    }
}

/// What is shown as a token.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let shown = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = shown.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// The text of a header of ours.
fn said(headers: &HeaderMap, name: &str) -> Result<Option<String>, Refusal> {
    let text = headers.get(name).map(|value| percent_decode(value.as_bytes()).decode_utf8());
    let text = text.transpose().map_err(|_not_text| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("{name} is no UTF-8, percent-encoded where it is not plain ASCII"),
        )
    })?;
    Ok(text.map(|text| text.into_owned()))
}

/// The token, as it was last read.
struct Token {
    source: SecretSource,
    known: Mutex<Known>,
}

struct Known {
    /// A hash: of one length whatever was shown, so that comparing takes the same time.
    hash: [u8; 32],
    read_at: Instant,
    /// It was told that the file cannot be read.
    told: bool,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token of {:?}", self.source)
    }
}

impl Token {
    fn new(source: SecretSource, token: &Secret) -> Self {
        let known = Known { hash: hash(token.expose().as_bytes()), read_at: Instant::now(), told: false };
        Self { source, known: Mutex::new(known) }
    }

    async fn is(&self, shown: &[u8]) -> bool {
        let is_old = {
            let mut known = self.known.lock();
            let is_old = matches!(self.source, SecretSource::File(_)) && known.read_at.elapsed() > TOKEN_AGE_MAX;
            if is_old {
                // Whoever comes meanwhile goes by what is known.
                known.read_at = Instant::now();
            }
            is_old
        };
        if is_old {
            let source = self.source.clone();
            let read = tokio::task::spawn_blocking(move || source.read());
            let read = read.await.expect("reading a secret does not panic");
            let mut known = self.known.lock();
            match read {
                Ok(token) => {
                    (known.hash, known.told) = (hash(token.expose().as_bytes()), false);
                }
                Err(error) if !known.told => {
                    known.told = true;
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "admin.token_file cannot be read: the last token counts"
                    );
                }
                Err(_) => {}
            }
        }
        let shown = hash(shown);
        shown.ct_eq(&self.known.lock().hash).into()
    }
}

fn hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Right,
    /// `last`: the peer may show no other for a while.
    Wrong {
        last: bool,
    },
    /// It was not looked at.
    Later(Duration),
}

/// Wrong tokens of some time.
#[derive(Debug, Clone, Copy)]
struct Count {
    since: Instant,
    wrong: u32,
}

impl Count {
    fn new(now: Instant) -> Self {
        Self { since: now, wrong: 0 }
    }

    /// How long no more may be shown, if `max` were.
    fn closed_for(&self, max: u32, now: Instant) -> Option<Duration> {
        let rest = WINDOW.checked_sub(now - self.since).filter(|rest| !rest.is_zero());
        rest.filter(|_| self.wrong >= max)
    }

    fn add(&mut self, now: Instant) {
        if now - self.since >= WINDOW {
            *self = Self::new(now);
        }
        self.wrong += 1;
    }

    fn is_over(&self, now: Instant) -> bool {
        now - self.since >= WINDOW
    }
}

/// What peers showed lately. Bounded: by the wrong tokens that are looked at, and by [`TRUSTED_MAX`].
#[derive(Debug, Default)]
struct Tries {
    wrong: HashMap<IpAddr, Count>,
    total: Option<Count>,
    trusted: HashMap<IpAddr, Instant>,
}

impl Tries {
    fn judge(&mut self, peer: IpAddr, is_right: bool, now: Instant) -> Verdict {
        let peer = network(peer);
        let closed = self.wrong.get(&peer).and_then(|count| count.closed_for(WRONG_TOKENS_PER_PEER, now));
        let is_trusted = self.trusted.get(&peer).is_some_and(|at| now - *at < TRUST);
        let total = self.total.get_or_insert_with(|| Count::new(now));
        let closed = closed.or_else(|| total.closed_for(WRONG_TOKENS_IN_TOTAL, now).filter(|_| !is_trusted));
        if let Some(closed) = closed {
            return Verdict::Later(closed);
        }
        if is_right {
            self.trusted.retain(|_, at| now - *at < TRUST);
            if self.trusted.len() < TRUSTED_MAX || is_trusted {
                self.trusted.insert(peer, now);
            }
            return Verdict::Right;
        }
        total.add(now);
        self.wrong.retain(|_, count| !count.is_over(now));
        let count = self.wrong.entry(peer).or_insert_with(|| Count::new(now));
        count.add(now);
        Verdict::Wrong { last: count.wrong == WRONG_TOKENS_PER_PEER }
    }
}

/// Whom an address stands for: whoever has an IPv6 address has its network.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests;
