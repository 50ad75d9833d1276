//! How LogiSense gives tokens: a form to the authorization server, for a user or a client, and again to refresh.

use std::time::Duration;

use http::{
    HeaderValue, Method,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::body_of;
use crate::{
    config::{LoginAs, LogisenseSettings},
    crm::{
        Answer, Effect, Failure, FailureClass, Request, RequestKind, classify,
        classify::StatusClasses,
        session::login::{Login, LoginFailure, Token},
    },
    event::{Reason, ReasonCode},
    privacy::Secret,
};

#[derive(Debug)]
pub(super) struct Door {
    path: String,
    login: LoginAs,
    username: String,
    client_id: String,
    refreshes: bool,
    status_classes: StatusClasses,
}

impl Door {
    pub(super) fn new(settings: &LogisenseSettings, status_classes: StatusClasses) -> Self {
        Self {
            path: settings.login_path.clone(),
            login: settings.login,
            username: settings.username.clone(),
            client_id: settings.client_id.clone(),
            refreshes: settings.refresh,
            status_classes,
        }
    }

    fn request(&self, pairs: &[(&str, &str)]) -> Request {
        const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        Request {
            method: Method::POST,
            path: self.path.clone(),
            headers: vec![(ACCEPT, JSON), (CONTENT_TYPE, FORM)],
            body: body.into(),
            kind: RequestKind::Read,
        }
    }
}

impl Login for Door {
    fn log_in(&self, secrets: &[Secret]) -> Request {
        let secret = secrets.first().map(Secret::expose).unwrap_or_default();
        let client = ("client_id", self.client_id.as_str());
        // For a client, too, the grant is called `password`.
        let grant = ("grant_type", "password");
        match self.login {
            LoginAs::User => self.request(&[("username", &self.username), ("password", secret), grant, client]),
            LoginAs::Client => self.request(&[client, ("client_secret", secret), grant]),
        }
    }

    fn refresh(&self, _secrets: &[Secret], refresh_token: &Secret) -> Option<Request> {
        let token = ("refresh_token", refresh_token.expose());
        let pairs = [("grant_type", "refresh_token"), token, ("client_id", self.client_id.as_str())];
        self.refreshes.then(|| self.request(&pairs))
    }

    fn read(&self, answer: &Answer) -> Result<Token, LoginFailure> {
        let members = serde_json::from_slice::<Map<String, Value>>(body_of(answer)).unwrap_or_default();
        if let Some(mut failure) = classify::failure(answer, &self.status_classes) {
            let error = members.get("error").and_then(Value::as_str);
            failure.reason.crm_code = error.and_then(|error| classify::crm_code(error, []));
            match (error, failure.class) {
                (Some("invalid_grant" | "invalid_client"), _) => failure.class = FailureClass::Auth,
                // A login is about no contact: what refuses it, refuses all of them.
                (_, FailureClass::Rejected | FailureClass::Conflict | FailureClass::Gone) => {
                    failure.class = FailureClass::Connection;
                }
                _ => {}
            }
            return Err(failure.into());
        }
        let text = |name: &str| members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let life = match members.get("expires_in") {
            Some(Value::Number(seconds)) => seconds.as_u64(),
            Some(Value::String(seconds)) => seconds.trim().parse().ok(),
            _ => None,
        };
        match (text("access_token"), life.filter(|seconds| *seconds > 0)) {
            (Some(token), Some(seconds)) => Ok(Token {
                secret: Secret::new(token),
                life: Duration::from_secs(seconds),
                refresh_token: text("refresh_token").map(Secret::new),
            }),
            _ => Err(unreadable(answer).into()),
        }
    }
}

fn unreadable(answer: &Answer) -> Failure {
    let http_status = answer.as_ref().ok().map(|response| response.status.as_u16());
    let reason = Reason { http_status, ..ReasonCode::Refused.into() };
    Failure { class: FailureClass::Transient, effect: Effect::None, reason, retry_after: None }
}
