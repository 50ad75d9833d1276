//! The authorization server: who may come in, and for how long.

use std::{collections::HashMap, time::Duration};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use http::{Method, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::LogisenseSettings;
use crate::{
    privacy::hex,
    sandbox::{
        form,
        system::{Call, Reply, media_type},
    },
};

pub(super) const PATH: &str = "/AuthorizationServer/api/v6/Access/Login";
const REFRESH_LIFE: Duration = Duration::from_secs(12 * 60 * 60);

/// Who holds a token, by the secret that was shown for it, and until when.
struct Pass {
    secret: String,
    ends_at: Instant,
}

#[derive(Default)]
pub(super) struct Entrance {
    seed: u64,
    issued: u64,
    opened: Option<Instant>,
    access: HashMap<String, Pass>,
    refresh: HashMap<String, Pass>,
}

impl Entrance {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Whether a token is good: not over, and got by a secret that is still accepted.
    pub(super) fn admits(&self, token: &str, call: Call<'_>) -> bool {
        self.access.get(token).is_some_and(|pass| call.now < pass.ends_at && call.tokens.contains(&pass.secret))
    }

    pub(super) fn forget(&mut self, token: &str) {
        self.access.remove(token);
    }

    /// Answers a login or a refresh.
    pub(super) fn answer(&mut self, settings: &LogisenseSettings, call: Call<'_>) -> Reply {
        let bad = |error: &str| Reply::json(StatusCode::BAD_REQUEST, json!({ "error": error }).to_string());
        if call.request.method() != Method::POST {
            return Reply::empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        if media_type(call.request).as_deref() != Some("application/x-www-form-urlencoded") {
            return bad("invalid_request");
        }
        let Ok(pairs) = form::pairs(call.request.body()) else { return bad("invalid_request") };
        let pairs: HashMap<&str, &str> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut names: Vec<&str> = pairs.keys().copied().collect();
        names.sort_unstable();
        let of_client = pairs.get("client_id") == Some(&settings.client_id.as_str());
        let secret = match (names.as_slice(), pairs.get("grant_type")) {
            (["client_id", "grant_type", "password", "username"], Some(&"password")) => {
                (of_client && pairs["username"] == settings.username).then(|| pairs["password"].to_owned())
            }
            (["client_id", "client_secret", "grant_type"], Some(&"password")) => {
                of_client.then(|| pairs["client_secret"].to_owned())
            }
            (["client_id", "grant_type", "refresh_token"], Some(&"refresh_token")) => {
                let pass = self.refresh.remove(pairs["refresh_token"]);
                pass.filter(|pass| of_client && call.now < pass.ends_at).map(|pass| pass.secret)
            }
            _ => return bad("unsupported_grant_type"),
        };
        match secret.filter(|secret| call.tokens.contains(secret)) {
            Some(secret) => self.issue(settings, secret, call.now),
            None => bad("invalid_grant"),
        }
    }

    fn issue(&mut self, settings: &LogisenseSettings, secret: String, now: Instant) -> Reply {
        self.issued += 1;
        self.access.retain(|_, pass| now < pass.ends_at);
        // There is no time of day here: it is counted from the first login.
        let since = now.duration_since(*self.opened.get_or_insert(now)).as_secs();
        let ends = since + settings.token_life.as_secs();
        let part = |text: String| BASE64_URL_SAFE_NO_PAD.encode(text);
        let noise = hex(Sha256::digest(format!("{} {}", self.seed, self.issued)).as_slice());
        let head = part(json!({ "alg": "HS256", "typ": "JWT" }).to_string());
        let payload = part(json!({ "sub": settings.username, "iat": since, "exp": ends }).to_string());
        let access = format!("{head}.{payload}.{noise}");
        let refresh = part(format!("refresh {noise}"));
        let pass = |life: Duration| Pass { secret: secret.clone(), ends_at: now + life };
        self.access.insert(access.clone(), pass(settings.token_life));
        self.refresh.insert(refresh.clone(), pass(REFRESH_LIFE));
        let seconds = settings.token_life.as_secs();
        let expires_in = if settings.expires_in_as_text { json!(seconds.to_string()) } else { json!(seconds) };
        let moment = |seconds: u64| {
            let moment = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or_default()).unwrap_or_default();
            httpdate::fmt_http_date(moment.into())
        };
        let body = json!({
            "access_token": access, "refresh_token": refresh, "token_type": "bearer", "expires_in": expires_in,
            "audience": settings.client_id, ".issued": moment(since), ".expires": moment(ends), "actingOwnerId": "1",
        });
        Reply::json(StatusCode::OK, body.to_string())
    }
}
