//! How SAM gives tokens: a user logs in, and the token comes in a header of the answer, which has no body. A user whom an
//! identity provider knows shows that provider's access token in place of a password.
//!
//! SAM may put a fresh token on any answer shortly before the old one ends; it is taken over wherever it is seen. What ends
//! a login for good (a wrong password, a locked account) is class `Auth`, so that the same password is not sent again.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use serde::Serialize;
use url::form_urlencoded;

use super::failures::{LOCKED, Reading, unreadable};
use crate::{
    config::{LoginForm, NextinteractSamSettings},
    crm::{
        Answer, Effect, FailureClass, Request, RequestKind, Response,
        session::login::{Login, LoginFailure, Token},
    },
    privacy::Secret,
};

const PATH: &str = "/rest/user/login";
/// Carries the token, there and back.
pub(super) const TOKEN: HeaderName = HeaderName::from_static("x-nextinteract-authtoken");
/// Seconds that a token lives.
const LIFE: HeaderName = HeaderName::from_static("x-nextinteract-authtoken-expiry-seconds");

/// Logs a user in.
#[derive(Debug)]
pub(super) struct UserLogin {
    form: LoginForm,
    app_code: &'static str,
    platform: String,
    token_life: Duration,
    locked_retry_after: Option<Duration>,
    reading: Reading,
}

/// A login of version 2.
#[derive(Serialize)]
struct Credentials<'a> {
    #[serde(rename = "uEmail")]
    email: &'a str,
    #[serde(rename = "uPassword", skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    platform: &'a str,
    #[serde(rename = "appCode")]
    app_code: &'static str,
    version: &'static str,
}

impl UserLogin {
    pub(super) fn new(settings: &NextinteractSamSettings, reading: Reading) -> Self {
        Self {
            form: settings.login,
            app_code: settings.app_code.word(),
            platform: settings.platform.clone(),
            token_life: settings.token_life,
            locked_retry_after: settings.locked_retry_after,
            reading,
        }
    }

    fn body(&self, email: &str, password: &str) -> (&'static str, Bytes) {
        match self.form {
            LoginForm::Json | LoginForm::Federated => {
                let (platform, app_code) = (self.platform.as_str(), self.app_code);
                let password = (self.form == LoginForm::Json).then_some(password);
                let credentials = Credentials { email, password, platform, app_code, version: "2" };
                ("application/json", serde_json::to_vec(&credentials).expect("texts serialise").into())
            }
            LoginForm::Form => {
                let pairs = [("uEmail", email), ("uPassword", password), ("appCode", self.app_code), ("version", "1")];
                let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
                ("application/x-www-form-urlencoded", body.into())
            }
        }
    }

    fn token(&self, headers: &HeaderMap) -> Option<Token> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let token = text(TOKEN).filter(|token| !token.is_empty())?;
        // Fractions of a second mean nothing, as in SAM's codes.
        let seconds = text(LIFE).and_then(|life| life.split('.').next()?.parse().ok());
        let life = seconds.map_or(self.token_life, Duration::from_secs);
        Some(Token { secret: Secret::new(token), life, refresh_token: None })
    }
}

fn bearer(token: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Login for UserLogin {
    fn log_in(&self, secrets: &[Secret]) -> Request {
        let [email, password] = secrets else { panic!("a user has an e-mail address and a password") };
        let (content_type, body) = self.body(email.expose(), password.expose());
        let mut headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (ACCEPT, HeaderValue::from_static("application/json")),
        ];
        if self.form == LoginForm::Federated {
            // What a header cannot carry is no token, and SAM is to say so.
            headers.extend(bearer(password).map(|value| (AUTHORIZATION, value)));
        }
        Request { method: Method::POST, path: PATH.to_owned(), headers, body, kind: RequestKind::Read }
    }

    fn read(&self, answer: &Answer) -> Result<Token, LoginFailure> {
        if let Some(read) = self.reading.login(answer) {
            let again_after = self.locked_retry_after.filter(|_| read.code == Some(LOCKED));
            return Err(LoginFailure { failure: read.failure, again_after });
        }
        let token = answer.as_ref().ok().and_then(|response| self.token(&response.headers));
        token.ok_or_else(|| {
            // Something answers there that is no login of SAM.
            let mut failure = unreadable(answer);
            (failure.class, failure.effect) = (FailureClass::Connection, Effect::None);
            failure.into()
        })
    }

    fn renewed_by(&self, response: &Response) -> Option<Token> {
        if response.status.is_success() { self.token(&response.headers) } else { None }
    }
}
