//! The token call of Priava's OAuth 2.0: refresh tokens in, access tokens out.

use std::{collections::HashMap, time::Duration};

use http::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use super::{
    super::{
        form,
        system::{Call, Reply, media_type},
    },
    refusal,
};

/// Path of the token call.
pub(super) const PATH: &str = "/api/rest/oauth/token";

/// The one client that Priava knows, and how its tokens live. The client secret is any accepted token of the sandbox.
#[derive(Debug, Clone)]
pub struct OAuthSettings {
    pub client_id: String,
    pub redirect_uri: String,
    /// That came with the first grant.
    pub refresh_token: String,
    /// How long an access token lives.
    pub life: Duration,
    /// Whether each refresh token can be used once, and brings the next one.
    pub rotates: bool,
}

impl Default for OAuthSettings {
    fn default() -> Self {
        Self {
            client_id: "sandbox-client".to_owned(),
            redirect_uri: "https://localhost/granted".to_owned(),
            refresh_token: "sandbox-refresh".to_owned(),
            life: Duration::from_secs(21_600),
            rotates: true,
        }
    }
}

/// Tokens that were given out.
pub(super) struct Grants {
    settings: OAuthSettings,
    refresh_token: String,
    given: u64,
    /// Access tokens, and when each ends.
    access: HashMap<String, Instant>,
}

impl Grants {
    pub(super) fn new(settings: OAuthSettings) -> Self {
        Self { refresh_token: settings.refresh_token.clone(), settings, given: 0, access: HashMap::new() }
    }

    pub(super) fn is_valid(&self, access_token: &str, now: Instant) -> bool {
        self.access.get(access_token).is_some_and(|end| now < *end)
    }

    pub(super) fn revoke(&mut self, access_token: &str) {
        self.access.remove(access_token);
    }

    pub(super) fn answer(&mut self, call: Call<'_>) -> Reply {
        if media_type(call.request).as_deref() != Some("application/x-www-form-urlencoded") {
            return refusal(StatusCode::BAD_REQUEST, "invalid_request", "send a form");
        }
        let Ok(said) = form::pairs(call.request.body()) else {
            return refusal(StatusCode::BAD_REQUEST, "invalid_request", "the form is malformed");
        };
        let said = |name: &str| said.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        if said("grant_type") != Some("refresh_token") {
            return refusal(StatusCode::BAD_REQUEST, "unsupported_grant_type", "use refresh_token");
        }
        let knows_secret = said("client_secret").is_some_and(|secret| call.tokens.contains(secret));
        if said("client_id") != Some(&self.settings.client_id) || !knows_secret {
            return refusal(StatusCode::BAD_REQUEST, "invalid_client", "there is no such client");
        }
        if said("redirect_uri") != Some(&self.settings.redirect_uri) {
            return refusal(StatusCode::BAD_REQUEST, "invalid_request", "the redirect_uri is another");
        }
        if said("refresh_token") != Some(&self.refresh_token) {
            return refusal(StatusCode::BAD_REQUEST, "invalid_grant", "the refresh token is not valid");
        }
        self.given += 1;
        let access_token = format!("access-{}", self.given);
        self.access.insert(access_token.clone(), call.now + self.settings.life);
        if self.settings.rotates {
            self.refresh_token = format!("refresh-{}", self.given);
        }
        let body = json!({
            "access_token": access_token, "refresh_token": self.refresh_token, "token_type": "BEARER",
            "expires_in": self.settings.life.as_secs(),
        });
        Reply::json(StatusCode::OK, body.to_string())
    }
}
