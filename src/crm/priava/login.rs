//! OAuth 2.0 as Priava has it: an access token for some hours, and a refresh token that brings the next one.
//!
//! The first grant needs a person in a browser, who gets an authorization code. Either that person exchanges it, and the
//! program begins with the refresh token that came of it; or the program is given the code, and exchanges it. Each renewal may
//! bring another refresh token, which takes the place of the old.
//!
//! A code is good for one exchange, so it must be known which ones were exchanged, by whatever process: a stored refresh token
//! is followed by a line with a hash of the code that it came of. A code with another hash is a new one, and goes first.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use url::form_urlencoded;

use crate::{
    config::PriavaSettings,
    crm::{
        Answer, Effect, Failure, FailureClass, Request, RequestKind, classify,
        classify::StatusClasses,
        session::login::{Login, LoginFailure, Token},
    },
    event::{Reason, ReasonCode},
    privacy::{Secret, hex},
};

/// How long an access token lives where the answer does not say it: the documented six hours.
const LIFE: Duration = Duration::from_secs(6 * 60 * 60);

/// Goes before the hash in the second line of a stored refresh token.
const CAME_OF: &str = "came of the code with SHA-256 ";

/// What a person is to do who gave us a code that is used up or too old.
const DEAD_CODE: &str = "an authorization code is good for one exchange, soon after it was given: make another first grant, and \
                         put its code where authorization_code_env or authorization_code_file says, or its refresh token into \
                         refresh_token_file with no code";

/// The token call of one tenant. Its secrets are the client secret, what is stored of a refresh token, and where one was
/// configured, the code; the last two may be empty.
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

    fn grant(&self, grant_type: &str, field: &str, client_secret: &Secret, token: &str) -> Request {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", grant_type)
            .append_pair("client_id", &self.client_id)
            .append_pair("client_secret", client_secret.expose())
            .append_pair(field, token)
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

    fn refreshing(&self, client_secret: &Secret, refresh_token: &str) -> Request {
        self.grant("refresh_token", "refresh_token", client_secret, refresh_token)
    }
}

/// What is stored: the refresh token, and the hash of the code that it came of, if it came of one here.
fn stored_parts(stored: &Secret) -> (&str, Option<&str>) {
    let mut lines = stored.expose().lines();
    let token = lines.next().unwrap_or_default().trim();
    (token, lines.find_map(|line| line.trim().strip_prefix(CAME_OF)))
}

fn hash(code: &str) -> String {
    hex(Sha256::digest(code.as_bytes()).as_ref())
}

/// The code, if there is one that nobody exchanged yet.
fn new_code(secrets: &[Secret]) -> Option<&str> {
    let code = secrets.get(2).map(Secret::expose).filter(|code| !code.is_empty())?;
    let (_, came_of) = stored_parts(&secrets[1]);
    (came_of != Some(&*hash(code))).then_some(code)
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
        match new_code(secrets) {
            Some(code) => self.grant("authorization_code", "code", &secrets[0], code),
            None => self.refreshing(&secrets[0], stored_parts(&secrets[1]).0),
        }
    }

    fn refresh(&self, secrets: &[Secret], refresh_token: &Secret) -> Option<Request> {
        Some(self.refreshing(&secrets[0], refresh_token.expose()))
    }

    fn stored(&self, secrets: &[Secret], refresh_token: &Secret) -> Secret {
        let came_of = match new_code(secrets) {
            Some(code) => Some(hash(code)),
            // A code that was taken away is still the one that all came of.
            None => stored_parts(&secrets[1]).1.map(str::to_owned),
        };
        match came_of {
            Some(hash) => Secret::new(format!("{}\n{CAME_OF}{hash}\n", refresh_token.expose())),
            None => refresh_token.clone(),
        }
    }

    fn uses_up(&self, secrets: &[Secret]) -> bool {
        new_code(secrets).is_some()
    }

    fn remedy(&self, secrets: &[Secret], failure: &Failure) -> Option<&'static str> {
        let is_dead = failure.reason.crm_code.as_deref() == Some("invalid_grant");
        (is_dead && new_code(secrets).is_some()).then_some(DEAD_CODE)
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
    fn a_first_grant_shows_the_code_in_the_place_of_the_refresh_token() {
        let secrets = [Secret::new("s&cret"), Secret::new(""), Secret::new("c/o=de")];
        let request = login().log_in(&secrets);
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/oauth/token"));
        let names: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-type", "accept", "tenantregion"]);
        let body = "grant_type=authorization_code&client_id=hub+1&client_secret=s%26cret&code=c%2Fo%3Dde\
                    &redirect_uri=https%3A%2F%2Fhub.example.org%2Fdone";
        assert_eq!(request.body, body);
        let granted =
            json!({ "access_token": "a", "refresh_token": "r-1", "token_type": "BEARER", "expires_in": 21600 });
        let token = login().read(&answer(200, &granted)).unwrap();
        assert_eq!((token.secret.expose(), token.refresh_token.unwrap().expose()), ("a", "r-1"));
    }

    #[test]
    fn a_code_is_exchanged_once_and_another_one_is_another_grant() {
        let login = login();
        let shows = |secrets: &[Secret]| {
            let body = login.log_in(secrets).body;
            let pairs: BTreeMap<_, _> = form_urlencoded::parse(&body).into_owned().collect();
            assert_eq!(pairs.contains_key("code"), login.uses_up(secrets));
            pairs.get("code").or(pairs.get("refresh_token")).cloned().unwrap()
        };
        let secret = || Secret::new("s");
        let first = [secret(), Secret::new(""), Secret::new("code-1")];
        assert_eq!(shows(&first), "code-1");
        let stored = login.stored(&first, &Secret::new("r-1"));
        assert_eq!(stored.expose().lines().next(), Some("r-1"));
        assert!(!stored.expose().contains("code-1"), "a hash says as much");
        assert_eq!(shows(&[secret(), stored.clone(), Secret::new("code-1")]), "r-1");
        // The next refresh token came of the same code, whether or not the code is still there.
        for code in ["code-1", ""] {
            let next = login.stored(&[secret(), stored.clone(), Secret::new(code)], &Secret::new("r-2"));
            assert_eq!(shows(&[secret(), next, Secret::new("code-1")]), "r-2");
        }
        assert_eq!(shows(&[secret(), stored.clone()]), "r-1", "the setting was taken away");
        assert_eq!(shows(&[secret(), stored, Secret::new("code-2")]), "code-2");
        // A refresh token that somebody else got is stored as it is.
        assert_eq!(login.stored(&[secret(), Secret::new("r-0")], &Secret::new("r-1")).expose(), "r-1");
    }

    #[test]
    fn a_dead_code_comes_with_a_remedy_and_nothing_else_does() {
        let refused = |code: &str| login().read(&answer(400, &json!({ "error": code }))).unwrap_err().failure;
        let with = |code: &str| [Secret::new("s"), Secret::new(""), Secret::new(code)];
        let remedy = login().remedy(&with("code-1"), &refused("invalid_grant")).unwrap();
        assert!(remedy.contains("make another first grant"), "{remedy}");
        assert_eq!(login().remedy(&with("code-1"), &refused("invalid_client")), None);
        assert_eq!(login().remedy(&with(""), &refused("invalid_grant")), None);
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
