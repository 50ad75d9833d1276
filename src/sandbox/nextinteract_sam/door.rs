//! Who may come in: logins of both versions and of federated users, tokens and their lives, and accounts that are locked.

use std::{collections::HashMap, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode, header::AUTHORIZATION};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::exception;
use crate::sandbox::{
    form,
    system::{Call, Reply, media_type},
};

/// Header of a token, there and back.
pub(super) const TOKEN: &str = "x-nextinteract-authtoken";
const LIFE: &str = "x-nextinteract-authtoken-expiry-seconds";

/// Longest values that a login of version 1 may have.
const EMAIL_LENGTH_MAX: usize = 255;
const PASSWORD_LENGTH_MAX: usize = 30;

/// How users of a simulated SAM come in.
#[derive(Debug, Clone)]
pub struct SamDoorSettings {
    pub token_life: Duration,
    /// Whether the answer to a login says how long the token lives.
    pub tells_life: bool,
    /// Whether a call in the last seconds of its token is answered with another token, and how many seconds those are.
    pub renews_within: Option<Duration>,
    /// After so many wrong passwords in a row, the account is locked.
    pub locks_after: Option<u32>,
}

impl Default for SamDoorSettings {
    fn default() -> Self {
        Self { token_life: Duration::from_secs(1800), tells_life: true, renews_within: None, locks_after: None }
    }
}

pub(super) struct Door {
    settings: SamDoorSettings,
    seed: u64,
    /// When each token ends.
    tokens: HashMap<String, Instant>,
    given: u64,
    logins: u64,
    refused: u64,
    /// Wrong passwords in a row, by account.
    wrong: HashMap<String, u32>,
}

/// What a login says.
struct Credentials {
    email: String,
    password: String,
}

impl Door {
    pub(super) fn new(settings: SamDoorSettings, seed: u64) -> Self {
        Self { settings, seed, tokens: HashMap::new(), given: 0, logins: 0, refused: 0, wrong: HashMap::new() }
    }

    /// Logins that gave a token.
    pub(super) fn logins(&self) -> u64 {
        self.logins
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    pub(super) fn takes(&self, token: &str, now: Instant) -> bool {
        self.tokens.get(token).is_some_and(|ends_at| now < *ends_at)
    }

    pub(super) fn expire(&mut self, token: &str) {
        self.tokens.remove(token);
    }

    pub(super) fn log_in(&mut self, call: &Call<'_>) -> Reply {
        match self.admit(call) {
            Ok(()) => {
                self.logins += 1;
                let mut reply = Reply::empty(StatusCode::OK);
                self.give(call.now, &mut reply.headers);
                reply
            }
            Err(reply) => {
                self.refused += 1;
                *reply
            }
        }
    }

    fn admit(&mut self, call: &Call<'_>) -> Result<(), Box<Reply>> {
        let unnamed = || {
            let name = "WSNoUsernameOrPasswordException";
            Box::new(exception(StatusCode::BAD_REQUEST, name, 1001.0, "a user has an e-mail address and a password"))
        };
        let Credentials { email, password } = said(call)?.ok_or_else(unnamed)?;
        let locked = |wrong: u32| self.settings.locks_after.is_some_and(|max| wrong >= max);
        let wrong = self.wrong.entry(email).or_default();
        if locked(*wrong) {
            let name = "WSAccountLockedException";
            return Err(Box::new(exception(StatusCode::UNAUTHORIZED, name, 1004.0, "the account is locked")));
        }
        if call.tokens.contains(&password) {
            *wrong = 0;
            return Ok(());
        }
        *wrong += 1;
        let name = "WSAuthenticationFailedException";
        Err(Box::new(exception(StatusCode::UNAUTHORIZED, name, 1005.0, "wrong e-mail address or password")))
    }

    /// Another token for whoever shows one that is about to end.
    pub(super) fn renew(&mut self, token: &str, now: Instant, headers: &mut HeaderMap) {
        let Some(window) = self.settings.renews_within else { return };
        if self.tokens.get(token).is_some_and(|ends_at| *ends_at <= now + window) {
            self.give(now, headers);
        }
    }

    fn give(&mut self, now: Instant, headers: &mut HeaderMap) {
        self.tokens.retain(|_, ends_at| now < *ends_at);
        self.given += 1;
        // As SAM's own look, with a sign that must not be lost.
        let token = format!("tok{}.{}w==", self.seed, self.given);
        headers.insert(TOKEN, HeaderValue::try_from(&token).expect("it is visible"));
        if self.settings.tells_life {
            headers.insert(LIFE, HeaderValue::from(self.settings.token_life.as_secs()));
        }
        self.tokens.insert(token, now + self.settings.token_life);
    }
}

/// The credentials of a login of either version; `None` if one is missing.
fn said(call: &Call<'_>) -> Result<Option<Credentials>, Box<Reply>> {
    let invalid =
        |message: &str| Box::new(exception(StatusCode::BAD_REQUEST, "WSInvalidParameterException", 1002.0, message));
    let body = call.request.body();
    let (members, version) = match media_type(call.request).as_deref() {
        Some("application/json") => {
            let members: Map<String, Value> =
                serde_json::from_slice(body).map_err(|_no_object| invalid("the body is not a JSON object"))?;
            let text = |(name, value): (String, Value)| Some((name, value.as_str()?.to_owned()));
            (members.into_iter().filter_map(text).collect(), "2")
        }
        Some("application/x-www-form-urlencoded") => {
            (form::pairs(body).map_err(|_broken| invalid("the form is broken"))?, "1")
        }
        _ => return Err(invalid("send JSON or a form")),
    };
    let member = |wanted: &str| members.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    if member("version").as_deref() != Some(version) {
        return Err(invalid("version and encoding do not fit"));
    }
    if !member("appCode").is_none_or(|code| ["NI", "MY"].contains(&code.as_str())) {
        return Err(invalid("there is no such appCode"));
    }
    let nonempty = |name: &str| member(name).filter(|text: &String| !text.is_empty());
    // A federated user shows what the identity provider gave, and has no password here.
    let federated = call.request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let federated = federated.and_then(|value| value.strip_prefix("Bearer ")).filter(|_| version == "2");
    let password = match federated {
        Some(_) if member("uPassword").is_some() => return Err(invalid("a federated user has no password")),
        Some(token) => Some(token.to_owned()),
        None => nonempty("uPassword"),
    };
    let Some((email, password)) = nonempty("uEmail").zip(password) else { return Ok(None) };
    if version == "1" && (email.len() > EMAIL_LENGTH_MAX || password.len() > PASSWORD_LENGTH_MAX) {
        return Err(invalid("e-mail address or password is too long"));
    }
    Ok(Some(Credentials { email, password }))
}
