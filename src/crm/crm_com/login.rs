//! How CRM.COM gives tokens: to a user by password, or to a program by a web API key.
//!
//! A token says itself how long it lasts if it is a JWT, and else lasts as long as the settings say. Given back it is only
//! where the settings say so: CRM.COM does not tell whether a user who logs in twice gets the same one, and it ends by itself.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{
    HeaderValue, Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::Value;

use super::{
    refusals::{self, Refusals},
    wire::Members,
};
use crate::{
    config::{CrmComLogin, CrmComSettings, CrmSettings},
    crm::{
        Answer, Effect, Failure, FailureClass, Request, RequestKind, SetupError,
        dialogue::json_request,
        session::{
            SecretSource,
            login::{Login, LoginFailure, LoginSession, LoginTerms, Token},
            placement::Placement,
        },
    },
    event::ReasonCode,
    privacy::Secret,
};

/// The session of one tenant.
pub(in crate::crm) fn session(crm: &CrmSettings) -> Result<LoginSession, SetupError> {
    let settings = super::section(crm)?;
    let secret = SecretSource::new(settings.secret_env.as_deref(), settings.secret_file.as_deref())?;
    let terms = LoginTerms {
        crm: crm.name.clone(),
        secrets: vec![secret],
        placement: Placement::Argument { name: "token" },
        renew_before: settings.renew_before,
        interval_min: settings.login_interval,
        refresh_token_file: None,
    };
    Ok(LoginSession::new(Door::new(settings)?, terms)?)
}

/// How one tenant is logged in to.
#[derive(Debug)]
struct Door {
    settings: CrmComSettings,
    refusals: Refusals,
}

impl Door {
    fn new(settings: &CrmComSettings) -> Result<Self, SetupError> {
        Ok(Self { settings: settings.clone(), refusals: Refusals::new(settings)? })
    }
}

impl Login for Door {
    fn log_in(&self, secrets: &[Secret]) -> Request {
        let secret = secrets.first().expect("the terms name one source").expose();
        let CrmComSettings { login, username, organisation, unit, .. } = &self.settings;
        let json = HeaderValue::from_static("application/json");
        let mut headers = vec![(ACCEPT, json.clone()), (CONTENT_TYPE, json)];
        let (path, body) = match login {
            CrmComLogin::User => {
                let body = Members::default().with("username", username.as_str()).with("password", secret);
                ("/authentication/token", body.with("organisation", organisation.as_str()))
            }
            CrmComLogin::WebApiKey => {
                // What a header cannot carry is no key, and CRM.COM is to say so.
                headers.extend(Placement::BasicUser.prepare(&Secret::new(secret)).ok().map(|placed| basic(&placed)));
                ("/authentication/web_api_key/token", Members::default())
            }
        };
        let body = if unit.is_empty() { body } else { body.with("unit", unit.as_str()) };
        let body = body.body();
        Request { method: Method::POST, path: path.to_owned(), headers, body, kind: RequestKind::Read }
    }

    fn release(&self) -> Option<Request> {
        let path = "/authentication/token/release".to_owned();
        let request = json_request(Method::POST, path, Some(Members::default().body()), RequestKind::Read);
        self.settings.release_token.then_some(request)
    }

    fn read(&self, answer: &Answer) -> Result<Token, LoginFailure> {
        let failed =
            |class| Failure { class, effect: Effect::None, reason: ReasonCode::Refused.into(), retry_after: None };
        let envelope = match self.refusals.read(answer) {
            Ok(envelope) => envelope,
            // No contact is at fault here: what refuses the login as it stands refuses all of them.
            Err(failure) => {
                let class = match failure.class {
                    FailureClass::Rejected | FailureClass::Gone | FailureClass::Conflict => FailureClass::Connection,
                    class => class,
                };
                return Err(refusals::told(Failure { class, ..failure }, answer, []).into());
            }
        };
        let Some(token) = envelope.and_then(|envelope| Some(envelope.data.get("token")?.as_str()?.to_owned())) else {
            return Err(refusals::told(failed(FailureClass::Transient), answer, []).into());
        };
        let life = life(&token).unwrap_or(self.settings.token_life);
        Ok(Token { secret: Secret::new(token), life, refresh_token: None })
    }
}

fn basic(placed: &crate::crm::session::placement::Placed) -> (http::HeaderName, HeaderValue) {
    let mut bare = Request {
        method: Method::POST,
        path: String::new(),
        headers: Vec::new(),
        body: bytes::Bytes::new(),
        kind: RequestKind::Read,
    };
    placed.put(&mut bare);
    let found = bare.headers.into_iter().find(|(name, _)| *name == AUTHORIZATION);
    found.expect("a Basic credential is a header")
}

/// How long a JWT lasts from its issue (RFC 7519, section 4.1); `None` if it does not say.
fn life(token: &str) -> Option<Duration> {
    let mut parts = token.split('.');
    let claims = parts.nth(1).filter(|_| parts.count() == 1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?).ok()?;
    let seconds = |name: &str| claims.get(name)?.as_f64().filter(|seconds| seconds.is_finite());
    let life = seconds("exp")? - seconds("iat")?;
    Duration::try_from_secs_f64(life).ok().filter(|life| !life.is_zero())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::crm::{Response, TransportError, testing::crm_com_crm};

    fn door(change: impl FnOnce(&mut CrmComSettings)) -> Door {
        let mut settings = crm_com_crm().crm_com.unwrap();
        change(&mut settings);
        Door::new(&settings).unwrap()
    }

    fn said(request: &Request) -> (String, Option<&str>) {
        let header =
            |name| request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_str().unwrap());
        assert_eq!((header(ACCEPT), header(CONTENT_TYPE)), (Some("application/json"), Some("application/json")));
        let body = std::str::from_utf8(&request.body).unwrap();
        (format!("{} {} {body}", request.method, request.path), header(AUTHORIZATION))
    }

    fn answer(status: u16, body: impl ToString) -> Answer {
        let status = http::StatusCode::from_u16(status).unwrap();
        Ok(Response { status, headers: http::HeaderMap::new(), body: Bytes::from(body.to_string()) })
    }

    fn given(token: &str) -> Answer {
        answer(
            200,
            json!({ "status": { "code": "OK", "message": null, "description": null }, "data": { "token": token } }),
        )
    }

    fn jwt(claims: &Value) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(r#"{"alg":"HS256"}"#), part(&claims.to_string()), part("signature"))
    }

    #[test]
    fn a_user_logs_in_with_password_and_organisation() {
        let secrets = [Secret::new("pass\"word")];
        let login = door(|_| ()).log_in(&secrets);
        let expected = r#"POST /authentication/token {"username":"contact-replicator","password":"pass\"word","organisation":"example"}"#;
        assert_eq!(said(&login), (expected.to_owned(), None));
        let login = door(|settings| settings.unit = "U7".to_owned()).log_in(&secrets);
        assert!(said(&login).0.ends_with(r#""organisation":"example","unit":"U7"}"#));
    }

    #[test]
    fn a_web_api_key_is_a_basic_user() {
        let with_key = |unit: &str| {
            door(|settings| (settings.login, settings.unit) = (CrmComLogin::WebApiKey, unit.to_owned()))
                .log_in(&[Secret::new("key")])
        };
        let (login, unit) = (with_key(""), with_key("U7"));
        assert_eq!(said(&login), ("POST /authentication/web_api_key/token {}".to_owned(), Some("Basic a2V5Og==")));
        assert_eq!(said(&unit).0, r#"POST /authentication/web_api_key/token {"unit":"U7"}"#);
        assert!(login.headers.iter().any(|(name, value)| name == AUTHORIZATION && value.is_sensitive()));
    }

    #[test]
    fn a_token_is_given_back_where_that_is_wanted() {
        assert!(door(|_| ()).release().is_none());
        let mut release = door(|settings| settings.release_token = true).release().unwrap();
        Placement::Argument { name: "token" }.prepare(&Secret::new("T1")).unwrap().put(&mut release);
        let expected = r#"POST /authentication/token/release {"token":"T1"}"#;
        assert_eq!(said(&release), (expected.to_owned(), None));
    }

    #[test]
    fn a_token_lasts_as_long_as_it_says_or_as_the_settings_say() {
        let check = |token: &str, seconds: u64| {
            let token = door(|_| ()).read(&given(token)).unwrap();
            assert_eq!(token.life, Duration::from_secs(seconds));
        };
        check(&"0123456789abcdef".repeat(2), 55 * 60);
        check(&jwt(&json!({ "iat": 1_700_000_000, "exp": 1_700_007_200 })), 7200);
        for silent in [json!({ "exp": 1 }), json!({ "iat": 5, "exp": 5 }), json!({ "iat": 9, "exp": 5 }), json!([])] {
            check(&jwt(&silent), 55 * 60);
        }
        check("a.b", 55 * 60);
        check("a.%.c", 55 * 60);
    }

    #[test]
    fn a_refused_login_says_whether_other_secrets_would_help() {
        use FailureClass::{Auth, Connection, Throttled, Transient};
        let door = door(|_| ());
        let class = |answer: Answer| door.read(&answer).unwrap_err().failure.class;
        let refused = |code: &str| answer(200, json!({ "status": { "code": code }, "data": null }));
        assert_eq!(class(refused("AUTHENTICATION_FAILED")), Auth);
        let told = door.read(&refused("AUTHENTICATION_FAILED")).unwrap_err().failure.reason;
        assert_eq!((told.http_status, told.crm_code.as_deref()), (Some(200), Some("AUTHENTICATION_FAILED")));
        assert_eq!(class(refused("ACCESS_DENIED")), Connection);
        assert_eq!(class(refused("INVALID_VALUE")), Connection, "no contact is at fault");
        assert_eq!(class(refused("SYSTEM_ERROR")), Transient);
        assert_eq!(class(answer(401, "")), Auth);
        assert_eq!(class(answer(404, "<html>")), Connection);
        assert_eq!(class(answer(429, "")), Throttled);
        assert_eq!(class(answer(503, "")), Transient);
        assert_eq!(class(answer(200, "<html>")), Transient);
        assert_eq!(class(answer(200, json!({ "status": { "code": "OK" }, "data": {} }))), Transient);
        assert_eq!(class(Err(TransportError::Unanswered { reason: String::new() })), Transient);
    }

    #[test]
    fn nothing_of_a_login_prints() {
        let door = door(|_| ());
        let token = door.read(&given("canary")).unwrap();
        for debug in [format!("{:?}", door.log_in(&[Secret::new("canary")])), format!("{token:?}")] {
            assert!(!debug.contains("canary"), "{debug}");
        }
    }
}
