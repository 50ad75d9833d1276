//! The token call of Priava's OAuth 2.0: authorization codes and refresh tokens in, access tokens out.
//!
//! A code is good for one exchange. Each grant has a refresh token of its own.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

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

/// Where tenants are.
const REGIONS: [&str; 3] = ["APAC", "EU", "US"];

/// The one client that Priava knows, and how its tokens live. The client secret is any accepted token of the sandbox.
#[derive(Debug, Clone)]
pub struct OAuthSettings {
    pub client_id: String,
    pub redirect_uri: String,
    /// That came with a first grant.
    pub refresh_token: String,
    /// Codes of first grants that nobody has exchanged.
    pub codes: Vec<String>,
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
            codes: vec!["sandbox-code".to_owned()],
            life: Duration::from_secs(21_600),
            rotates: true,
        }
    }
}

/// Tokens that were given out.
pub(super) struct Grants {
    settings: OAuthSettings,
    /// One of each grant, which is good for the next refresh.
    refresh_tokens: BTreeSet<String>,
    codes: BTreeSet<String>,
    given: u64,
    /// Access tokens, and when each ends.
    access: HashMap<String, Instant>,
}

impl Grants {
    pub(super) fn new(settings: OAuthSettings) -> Self {
        let refresh_tokens = BTreeSet::from([settings.refresh_token.clone()]);
        let codes = settings.codes.iter().cloned().collect();
        Self { settings, refresh_tokens, codes, given: 0, access: HashMap::new() }
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
        let region = call.request.headers().get("tenantregion").and_then(|region| region.to_str().ok());
        if !region.is_some_and(|region| REGIONS.contains(&region)) {
            return refusal(StatusCode::BAD_REQUEST, "invalid_request", "the TenantRegion is missing or unknown");
        }
        let Ok(said) = form::pairs(call.request.body()) else {
            return refusal(StatusCode::BAD_REQUEST, "invalid_request", "the form is malformed");
        };
        let said = |name: &str| said.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let by_code = match said("grant_type") {
            Some("authorization_code") => true,
            Some("refresh_token") => false,
            _ => {
                let description = "use authorization_code or refresh_token";
                return refusal(StatusCode::BAD_REQUEST, "unsupported_grant_type", description);
            }
        };
        let knows_secret = said("client_secret").is_some_and(|secret| call.tokens.contains(secret));
        if said("client_id") != Some(&self.settings.client_id) || !knows_secret {
            return refusal(StatusCode::BAD_REQUEST, "invalid_client", "there is no such client");
        }
        if said("redirect_uri") != Some(&self.settings.redirect_uri) {
            return refusal(StatusCode::BAD_REQUEST, "invalid_request", "the redirect_uri is another");
        }
        let known = if by_code { &mut self.codes } else { &mut self.refresh_tokens };
        let shown = said(if by_code { "code" } else { "refresh_token" }).unwrap_or_default().to_owned();
        if !known.contains(&shown) {
            return refusal(StatusCode::BAD_REQUEST, "invalid_grant", "the code or refresh token is not valid");
        }
        self.given += 1;
        let access_token = format!("access-{}", self.given);
        self.access.insert(access_token.clone(), call.now + self.settings.life);
        let refresh_token = if by_code || self.settings.rotates {
            known.remove(&shown);
            format!("refresh-{}", self.given)
        } else {
            shown
        };
        self.refresh_tokens.insert(refresh_token.clone());
        let body = json!({
            "access_token": access_token, "refresh_token": refresh_token, "token_type": "BEARER",
            "expires_in": self.settings.life.as_secs(),
        });
        Reply::json(StatusCode::OK, body.to_string())
    }
}
