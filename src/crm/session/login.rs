//! A credential that a login gives, and that runs out.
//!
//! What a login looks like is a [`Login`] of its own for each kind of CRM, pure like its connector. When to log in is the
//! same for all, and decided here: before the first request, shortly before the token ends, and when the CRM refuses it;
//! one login at a time, however many requests wait for it; and never sooner after the one before than is configured,
//! since some CRMs lock the account of whoever tries too often.
//!
//! Secrets that were refused are not tried again until they are others: no retry makes a wrong password right. They are
//! read anew each time, so a file with another password is all that an operator has to provide. A refresh token belongs to
//! the secrets it came of, and is not used once they are others.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::{sync::Mutex, time::Instant};

use super::{
    CredentialNumber, RenewalError, SecretSource, Session, SessionError,
    placement::{Placed, Placement},
    secret,
};
use crate::{
    crm::{Answer, Effect, Failure, FailureClass, Request, Response, RetryAfter, transport::Transport},
    event::ReasonCode,
    privacy::Secret,
};

/// How one kind of CRM gives tokens. Pure.
pub trait Login: Send + Sync + fmt::Debug {
    /// The request that logs in; `secrets` are in the order in which [`LoginTerms::secrets`] names their sources.
    fn log_in(&self, secrets: &[Secret]) -> Request;

    /// The request that gets another token by the refresh token of the last one; `None` where there is no such request.
    fn refresh(&self, _secrets: &[Secret], _refresh_token: &Secret) -> Option<Request> {
        None
    }

    /// What is stored of a refresh token that came of a login with `secrets`, or of a refresh after it.
    fn stored(&self, _secrets: &[Secret], refresh_token: &Secret) -> Secret {
        refresh_token.clone()
    }

    /// Whether a login with these secrets uses one of them up: it is not made while what comes of it could not be stored.
    fn uses_up(&self, _secrets: &[Secret]) -> bool {
        false
    }

    /// What an operator is to do about refused secrets, where that is more than to put others in their place.
    fn remedy(&self, _secrets: &[Secret], _failure: &Failure) -> Option<&'static str> {
        None
    }

    /// The request that ends a token, which is put on it like on any other; `None` where there is no such request.
    fn release(&self) -> Option<Request> {
        None
    }

    /// What the answer to either request gives.
    ///
    /// # Errors
    /// Class `Auth`: the secrets are refused, and only others help. Any other class means what it means of any request.
    fn read(&self, answer: &Answer) -> Result<Token, LoginFailure>;

    /// A token that came with the answer to another request.
    fn renewed_by(&self, _response: &Response) -> Option<Token> {
        None
    }
}

/// What a login gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub secret: Secret,
    /// From the moment it was asked for.
    pub life: Duration,
    pub refresh_token: Option<Secret>,
}

/// Why a login gave nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct LoginFailure {
    pub failure: Failure,
    /// Of refused secrets (class `Auth`): when the same may be tried again, as with an account that is locked for a
    /// while. `None`: never.
    pub again_after: Option<Duration>,
}

impl From<Failure> for LoginFailure {
    fn from(failure: Failure) -> Self {
        Self { failure, again_after: None }
    }
}

/// When to log in, with what, and where the token goes.
#[derive(Debug, Clone)]
pub struct LoginTerms {
    /// Name of the CRM, for the log.
    pub crm: Arc<str>,
    pub secrets: Vec<SecretSource>,
    pub placement: Placement,
    /// A token with less than this left is renewed; of one that lives less than twice as long, half its life.
    pub renew_before: Duration,
    /// Between two logins, successful or not.
    pub interval_min: Duration,
    /// Where each new refresh token is stored, if it must outlive the process.
    pub refresh_token_file: Option<PathBuf>,
}

/// A session that logs in.
pub struct LoginSession {
    login: Box<dyn Login>,
    terms: LoginTerms,
    current: RwLock<Current>,
    /// Held by the one login under way.
    attempts: Mutex<Attempts>,
}

/// The token in use.
#[derive(Default)]
struct Current {
    number: u64,
    token: Option<InUse>,
}

struct InUse {
    placed: Placed,
    renew_at: Instant,
    ends_at: Instant,
    refresh_token: Option<Secret>,
}

/// What is remembered of logins.
#[derive(Default)]
struct Attempts {
    last: Option<Instant>,
    refused: Option<Refused>,
    /// What the token in use was obtained with; of a refresh token that is stored, the stored one.
    obtained_with: Option<Vec<Secret>>,
}

struct Refused {
    secrets: Vec<Secret>,
    failure: Failure,
    again_at: Option<Instant>,
}

impl fmt::Debug for LoginSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginSession").field("login", &self.login).field("terms", &self.terms).finish_non_exhaustive()
    }
}

impl LoginSession {
    /// Reads the secrets once, so that one that is missing is told at start. Calls nobody.
    pub fn new(login: impl Login + 'static, terms: LoginTerms) -> Result<Self, SessionError> {
        terms.secrets.iter().try_for_each(|source| source.read().map(drop))?;
        Ok(Self {
            login: Box::new(login),
            terms,
            current: RwLock::default(),
            attempts: Mutex::new(Attempts::default()),
        })
    }

    fn number(&self) -> CredentialNumber {
        CredentialNumber(self.current.read().number)
    }

    /// Puts another token in use, by the refresh token if there is one and the CRM takes it, else by a login.
    async fn obtain(&self, attempts: &mut Attempts, transport: &dyn Transport) -> Result<(), RenewalError> {
        let secrets = self.read_secrets().await?;
        let now = Instant::now();
        let still_refused = attempts
            .refused
            .as_ref()
            .filter(|refused| refused.secrets == secrets && refused.again_at.is_none_or(|again_at| now < again_at));
        if let Some(refused) = still_refused {
            return Err(RenewalError::Login(refused.failure.clone()));
        }
        // Somebody put others there to have them used.
        let are_others = attempts.obtained_with.as_ref().is_some_and(|with| *with != secrets);
        let refresh_token = self.current.read().token.as_ref().and_then(|token| token.refresh_token.clone());
        let refresh_token = refresh_token.filter(|_| !are_others);
        if let Some(request) = refresh_token.and_then(|token| self.login.refresh(&secrets, &token)) {
            let asked_at = Instant::now();
            match self.login.read(&transport.exchange(request).await) {
                Ok(token) => return self.take(attempts, secrets, token, asked_at).await,
                Err(LoginFailure { failure, .. }) if waits(failure.class) => return Err(RenewalError::Login(failure)),
                // It has run out, or was revoked: whoever has the secrets gets another.
                Err(LoginFailure { .. }) => {}
            }
            if let Some(token) = &mut self.current.write().token {
                token.refresh_token = None;
            }
        }
        let now = Instant::now();
        let next = attempts.last.map(|last| last + self.terms.interval_min).filter(|next| *next > now);
        if let Some(next) = next {
            return Err(RenewalError::Login(too_soon(next - now)));
        }
        if self.login.uses_up(&secrets) {
            self.can_store().await?;
        }
        attempts.last = Some(now);
        match self.login.read(&transport.exchange(self.login.log_in(&secrets)).await) {
            Ok(token) => {
                attempts.refused = None;
                self.take(attempts, secrets, token, now).await?;
                tracing::debug!(crm = %self.terms.crm, "logged in");
                Ok(())
            }
            Err(LoginFailure { failure, again_after }) => {
                if failure.class == FailureClass::Auth {
                    if let Some(remedy) = self.login.remedy(&secrets, &failure) {
                        let code = failure.reason.crm_code.as_deref();
                        tracing::error!(crm = %self.terms.crm, code, remedy, "the login is refused for good");
                    }
                    let again_at = again_after.map(|after| Instant::now() + after);
                    attempts.refused = Some(Refused { secrets, failure: failure.clone(), again_at });
                }
                Err(RenewalError::Login(failure))
            }
        }
    }

    /// Puts a token in use and stores its refresh token: whatever becomes of this process, it is the one that is valid now.
    async fn take(
        &self,
        attempts: &mut Attempts,
        secrets: Vec<Secret>,
        token: Token,
        asked_at: Instant,
    ) -> Result<(), RenewalError> {
        let stored = token.refresh_token.as_ref().map(|refresh_token| self.login.stored(&secrets, refresh_token));
        let store = self.terms.refresh_token_file.clone().zip(stored);
        self.put_in_use(token, asked_at)?;
        attempts.obtained_with = Some(secrets);
        if let Some((path, refresh_token)) = store {
            let stored = tokio::task::spawn_blocking(move || secret::replace(&path, &refresh_token)).await;
            if let Err(error) = stored.expect("storing a token does not panic") {
                tracing::error!(crm = %self.terms.crm, %error, "a new refresh token could not be stored: when this worker \
                    is started again, it may need a new grant");
            } else {
                attempts.obtained_with = self.read_secrets().await.ok();
            }
        }
        Ok(())
    }

    /// Whether a refresh token could be stored.
    async fn can_store(&self) -> Result<(), SessionError> {
        let Some(path) = self.terms.refresh_token_file.clone() else { return Ok(()) };
        let tried = tokio::task::spawn_blocking(move || secret::is_replaceable(&path)).await;
        tried.expect("making a file does not panic")
    }

    async fn read_secrets(&self) -> Result<Vec<Secret>, SessionError> {
        let sources = self.terms.secrets.clone();
        let read = move || sources.iter().map(SecretSource::read).collect();
        tokio::task::spawn_blocking(read).await.expect("reading secrets does not panic")
    }

    fn put_in_use(&self, token: Token, asked_at: Instant) -> Result<(), SessionError> {
        let placed = self.terms.placement.prepare(&token.secret)?;
        let ends_at = asked_at + token.life;
        let renew_at = ends_at - self.terms.renew_before.min(token.life / 2);
        let mut current = self.current.write();
        current.number += 1;
        current.token = Some(InUse { placed, renew_at, ends_at, refresh_token: token.refresh_token });
        Ok(())
    }

    /// The instants at which the token in use is to be renewed, and ends.
    fn times(&self) -> Option<(Instant, Instant)> {
        self.current.read().token.as_ref().map(|token| (token.renew_at, token.ends_at))
    }
}

fn waits(class: FailureClass) -> bool {
    matches!(class, FailureClass::Transient | FailureClass::Throttled)
}

fn too_soon(wait: Duration) -> Failure {
    Failure {
        class: FailureClass::Throttled,
        effect: Effect::None,
        reason: ReasonCode::Refused.into(),
        retry_after: Some(RetryAfter::Delay(wait)),
    }
}

#[async_trait]
impl Session for LoginSession {
    async fn ready(&self, transport: &dyn Transport) -> Result<(), RenewalError> {
        let lasts = |times: Option<(Instant, Instant)>, now| times.is_some_and(|(renew_at, _)| now < renew_at);
        if lasts(self.times(), Instant::now()) {
            return Ok(());
        }
        let still_valid = self.times().is_some_and(|(_, ends_at)| Instant::now() < ends_at);
        let mut attempts = match self.attempts.try_lock() {
            Ok(attempts) => attempts,
            // Whoever renews it is in no hurry, and neither are we.
            Err(_busy) if still_valid => return Ok(()),
            Err(_busy) => self.attempts.lock().await,
        };
        if lasts(self.times(), Instant::now()) {
            return Ok(());
        }
        match self.obtain(&mut attempts, transport).await {
            Err(error) if still_valid => {
                tracing::debug!(crm = %self.terms.crm, %error, "the token could not be renewed before its end");
                Ok(())
            }
            obtained => obtained,
        }
    }

    fn authorize(&self, request: &mut Request) -> CredentialNumber {
        let current = self.current.read();
        if let Some(token) = &current.token {
            token.placed.put(request);
        }
        CredentialNumber(current.number)
    }

    fn answered(&self, used: CredentialNumber, response: &Response) {
        let Some(token) = self.login.renewed_by(response).filter(|_| used == self.number()) else { return };
        if let Err(error) = self.put_in_use(token, Instant::now()) {
            tracing::warn!(crm = %self.terms.crm, %error, "the CRM gave a token that cannot be used");
        }
    }

    async fn renew(&self, refused: CredentialNumber, transport: &dyn Transport) -> Result<bool, RenewalError> {
        let mut attempts = self.attempts.lock().await;
        if self.number() != refused {
            return Ok(true);
        }
        self.obtain(&mut attempts, transport).await.map(|()| true)
    }

    async fn look_again(&self) {
        let attempts = self.attempts.lock().await;
        let Ok(secrets) = self.read_secrets().await else { return };
        if attempts.obtained_with.as_ref().is_some_and(|with| *with != secrets) {
            // The next request finds no token, and logs in.
            self.current.write().token = None;
        }
    }

    async fn end(&self, transport: &dyn Transport) {
        // No login gives another meanwhile.
        let _attempts = self.attempts.lock().await;
        let Some(mut request) = self.login.release() else { return };
        let Some(token) = self.current.write().token.take().filter(|token| Instant::now() < token.ends_at) else {
            return;
        };
        token.placed.put(&mut request);
        if let Err(error) = transport.exchange(request).await {
            tracing::debug!(crm = %self.terms.crm, %error, "the token was not given back; it ends by itself");
        }
    }
}

#[cfg(test)]
mod tests;
