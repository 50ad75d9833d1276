//! Logins: who gets a token, and how long it is good for.

use std::collections::HashMap;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use hmac::{Hmac, KeyInit, Mac};
use http::header;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::time::{Duration, Instant};

use super::{CrmComSettings, MISSING, Refused};
use crate::{privacy::hex, sandbox::system::Call};

const REFUSED: Refused = Refused::of("AUTHENTICATION_FAILED", "the credentials are wrong");
const NO_TOKEN: Refused = Refused::of("INVALID_TOKEN", "no such token");
/// When the simulated clock began, in seconds of Unix time: only differences mean anything.
const EPOCH: u64 = 1_700_000_000;

/// The tokens that are good.
pub(super) struct Sessions {
    username: String,
    organisation: String,
    json_web_tokens: bool,
    life: Duration,
    idle: Duration,
    seed: u64,
    given: u64,
    began: Option<Instant>,
    good: HashMap<String, Session>,
}

struct Session {
    /// What it was got by: it is good as long as that is.
    credential: String,
    issued: Instant,
    used: Instant,
    /// Whether it lasts from use to use, instead of from its issue on.
    lasts_by_use: bool,
}

impl Sessions {
    pub(super) fn new(settings: &CrmComSettings, seed: u64) -> Self {
        Self {
            username: settings.username.clone(),
            organisation: settings.organisation.clone(),
            json_web_tokens: settings.json_web_tokens,
            life: settings.token_life,
            idle: settings.token_idle,
            seed,
            given: 0,
            began: None,
            good: HashMap::new(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.good.len()
    }

    pub(super) fn end(&mut self, token: &str) {
        self.good.remove(token);
    }

    pub(super) fn log_in(&mut self, body: &Map<String, Value>, call: Call<'_>) -> Result<String, Refused> {
        let text = |name: &str| body.get(name).and_then(Value::as_str).ok_or(Refused::of(MISSING, "a login is whole"));
        let (username, password, organisation) = (text("username")?, text("password")?, text("organisation")?);
        if username != self.username || organisation != self.organisation || !call.tokens.contains(password) {
            return Err(REFUSED);
        }
        Ok(self.issue(password, !self.json_web_tokens, call.now))
    }

    pub(super) fn log_in_by_key(&mut self, _body: &Map<String, Value>, call: Call<'_>) -> Result<String, Refused> {
        let value = call.request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let encoded = value.and_then(|value| value.strip_prefix("Basic ")).ok_or(REFUSED)?;
        let decoded = BASE64_STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let key = decoded.as_deref().and_then(|text| text.strip_suffix(':')).ok_or(REFUSED)?;
        if !call.tokens.contains(key) {
            return Err(REFUSED);
        }
        Ok(self.issue(key, false, call.now))
    }

    fn issue(&mut self, credential: &str, lasts_by_use: bool, now: Instant) -> String {
        self.given += 1;
        let digest = Sha256::digest(format!("{} {}", self.seed, self.given));
        let name = hex(&digest[..16]);
        let began = *self.began.get_or_insert(now);
        let token = if self.json_web_tokens {
            let issued = EPOCH + now.duration_since(began).as_secs();
            let claims = json!({
                "jti": name, "usr": self.username, "org": self.organisation, "oun": null, "exp": issued + self.life.as_secs(),
                "iat": issued,
            });
            signed(&claims)
        } else {
            name
        };
        let session = Session { credential: credential.to_owned(), issued: now, used: now, lasts_by_use };
        self.good.insert(token.clone(), session);
        token
    }

    pub(super) fn check(&mut self, token: Option<&str>, call: Call<'_>) -> Result<(), Refused> {
        let session = token.and_then(|token| self.good.get_mut(token)).ok_or(NO_TOKEN)?;
        let (since, life) = if session.lasts_by_use { (session.used, self.idle) } else { (session.issued, self.life) };
        if call.now.duration_since(since) >= life || !call.tokens.contains(&session.credential) {
            return Err(Refused::of("INVALID_TOKEN", "token expired"));
        }
        session.used = call.now;
        Ok(())
    }
}

/// A JWT, signed by HS256.
fn signed(claims: &Value) -> String {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let head = format!("{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(&claims.to_string()));
    let mut mac = Hmac::<Sha256>::new_from_slice(b"sandbox").expect("any length is a key");
    mac.update(head.as_bytes());
    format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}
