//! OAuth 2.0 as Priava has it: an access token for some hours, and a refresh token that brings the next one.
//!
//! The first grant (by authorization code) needs a person in a browser; the program begins with the refresh token that
//! came of it. Each renewal may bring another one, which takes the place of the old.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

use crate::{
    config::PriavaSettings,
    crm::{
        Answer, Effect, Failure, FailureClass, Request, RequestKind, classify,
        classify::StatusClasses,
        session::login::{Login, LoginFailure, Token},
    },
    event::{Reason, ReasonCode},
    privacy::Secret,
};

/// How long an access token lives where the answer does not say it: the documented six hours.
const LIFE: Duration = Duration::from_secs(6 * 60 * 60);

/// The token call of one tenant. Its secrets are the client secret and the refresh token.
#[derive(Debug)]
pub(super) struct OAuth {
    path: String,
    client_id: String,
    redirect_uri: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl OAuth {
    pub(super) fn new(settings: &PriavaSettings, region: Option<(HeaderName, HeaderValue)>) -> Self {
        const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded;charset=utf-8");
        let headers = [(CONTENT_TYPE, FORM), (ACCEPT, HeaderValue::from_static("application/json"))];
        Self {
            path: settings.oauth_path.clone(),
            client_id: settings.client_id.clone(),
            redirect_uri: settings.redirect_uri.clone(),
            headers: headers.into_iter().chain(region).collect(),
        }
    }

    fn grant(&self, client_secret: &Secret, refresh_token: &Secret) -> Request {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", &self.client_id)
            .append_pair("client_secret", client_secret.expose())
            .append_pair("refresh_token", refresh_token.expose())
            .append_pair("redirect_uri", &self.redirect_uri)
            .finish();
        Request {
            method: Method::POST,
            path: self.path.clone(),
            headers: self.headers.clone(),
            body: Bytes::from(form),
            kind: RequestKind::Read,
        }
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Option<Value>,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

fn seconds(life: &Value) -> Option<Duration> {
    let seconds = life.as_u64().or_else(|| life.as_str()?.trim().parse().ok())?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

impl Login for OAuth {
    fn log_in(&self, secrets: &[Secret]) -> Request {
        let [client_secret, refresh_token] = secrets else { unreachable!("there are two secrets") };
        self.grant(client_secret, refresh_token)
    }

    fn refresh(&self, secrets: &[Secret], refresh_token: &Secret) -> Option<Request> {
        Some(self.grant(&secrets[0], refresh_token))
    }

    fn read(&self, answer: &Answer) -> Result<Token, LoginFailure> {
        let body = answer.as_ref().map(|response| response.body.as_ref()).unwrap_or_default();
        if let Some(mut failure) = classify::failure(answer, &StatusClasses::default()) {
            let code = serde_json::from_slice::<Refused>(body).ok().map(|refused| refused.error);
            failure.reason.crm_code = code.and_then(|code| classify::crm_code(&code, []));
            if matches!(failure.class, FailureClass::Rejected) {
                // A dead refresh token (`invalid_grant`), or a client that Priava does not know: the same call again would
                // end the same.
                failure.class = FailureClass::Auth;
            }
            return Err(failure.into());
        }
        let Ok(granted) = serde_json::from_slice::<Granted>(body) else {
            let http_status = answer.as_ref().ok().map(|response| response.status.as_u16());
            let reason = Reason { http_status, ..ReasonCode::Refused.into() };
            let failure = Failure { class: FailureClass::Connection, effect: Effect::None, reason, retry_after: None };
            return Err(failure.into());
        };
        Ok(Token {
            secret: Secret::new(granted.access_token),
            life: granted.expires_in.as_ref().and_then(seconds).unwrap_or(LIFE),
            refresh_token: granted.refresh_token.filter(|token| !token.is_empty()).map(Secret::new),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::crm::{Response, testing::priava_settings};

    fn login() -> OAuth {
        let mut settings = priava_settings();
        settings.client_id = "hub 1".to_owned();
        settings.redirect_uri = "https://hub.example.org/done".to_owned();
        OAuth::new(&settings, Some((HeaderName::from_static("tenantregion"), HeaderValue::from_static("EU"))))
    }

    fn answer(status: u16, body: &Value) -> Answer {
        let status = http::StatusCode::from_u16(status).unwrap();
        Ok(Response { status, headers: http::HeaderMap::new(), body: Bytes::from(body.to_string()) })
    }

    #[test]
    fn the_token_call_is_a_form_with_the_region_in_a_header() {
        let secrets = [Secret::new("s&cret"), Secret::new("refresh-1")];
        let request = login().log_in(&secrets);
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/oauth/token"));
        let headers: BTreeMap<_, _> =
            request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(headers["content-type"], "application/x-www-form-urlencoded;charset=utf-8");
        assert_eq!(headers["tenantregion"], "EU");
        let body = "grant_type=refresh_token&client_id=hub+1&client_secret=s%26cret&refresh_token=refresh-1\
                    &redirect_uri=https%3A%2F%2Fhub.example.org%2Fdone";
        assert_eq!(request.body, body);
        let next = login().refresh(&secrets, &Secret::new("refresh-2")).unwrap();
        assert_eq!(next.body, body.replace("refresh-1", "refresh-2"));
    }

    #[test]
    fn a_grant_lives_as_long_as_it_says_or_six_hours() {
        for (expires_in, seconds) in [
            (json!(21600), 21600),
            (json!("900"), 900),
            (json!(null), 21600),
            (json!(0), 21600),
            (json!("soon"), 21600),
        ] {
            let body =
                json!({ "access_token": "a", "refresh_token": "r", "token_type": "BEARER", "expires_in": expires_in });
            let token = login().read(&answer(200, &body)).unwrap();
            assert_eq!(token.life, Duration::from_secs(seconds), "{expires_in}");
            assert_eq!((token.secret.expose(), token.refresh_token.unwrap().expose()), ("a", "r"));
        }
        assert_eq!(login().read(&answer(200, &json!({ "access_token": "a" }))).unwrap().refresh_token, None);
    }

    #[test]
    fn each_failure_of_the_token_call_has_its_class() {
        use FailureClass::{Auth, Connection, Throttled, Transient};
        let dead = json!({ "error": "invalid_grant", "error_description": "the refresh token of Ilka is dead" });
        for (answer, class, code) in [
            (answer(400, &dead), Auth, Some("invalid_grant")),
            (answer(400, &json!({ "error": "invalid_client" })), Auth, Some("invalid_client")),
            (answer(401, &json!({})), Auth, None),
            (answer(404, &json!({})), Connection, None),
            (answer(200, &json!("a token")), Connection, None),
            (answer(429, &json!({})), Throttled, None),
            (answer(503, &json!({})), Transient, None),
        ] {
            let failure = login().read(&answer).unwrap_err();
            assert_eq!(
                (failure.failure.class, failure.failure.reason.crm_code.as_deref()),
                (class, code),
                "{answer:?}"
            );
            assert_eq!(failure.again_after, None);
        }
    }
}
