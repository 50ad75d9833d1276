//! What SAM shows: to whoever logs in, their own address, by the id of their company; and how a user is to log in, by their
//! e-mail address. Neither is a way to a contact, and neither is compared with one; people try by the first whether a login is
//! good, and learn by the second which one is meant for the user of a connection.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{
    HeaderValue, Method,
    header::{ACCEPT, CONTENT_TYPE},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;

use super::{NextinteractSam, failures::unreadable};
use crate::crm::{
    Answer, Effect, FailureClass, Request, RequestKind,
    remote::{Compared, Held, One, Page, ReadStep, Reader, RemoteView, Walk},
};

/// The one field that the documents name.
const FIELD: &str = "address1Name";

const OWN: &str = "own";
const SCHEME: &str = "scheme";
/// What an answer about the scheme holds that nobody is to see: by it a client shows itself to the identity provider.
const CLIENT_SECRET: &str = "clientSecret";

/// Whose scheme is asked for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    u_email: &'a str,
    device_type: &'a str,
    app_code: &'static str,
}

impl NextinteractSam {
    fn scheme_of(&self, email: &str) -> Request {
        let asked =
            Asked { u_email: email, device_type: &self.settings.device_type, app_code: self.settings.app_code.word() };
        Request {
            method: Method::POST,
            path: "/rest/user/scheme".to_owned(),
            headers: vec![
                (CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (ACCEPT, HeaderValue::from_static("application/json")),
            ],
            body: serde_json::to_vec(&asked).expect("texts serialise").into(),
            kind: RequestKind::Read,
        }
    }
}

impl Reader for NextinteractSam {
    fn views(&self) -> &'static [RemoteView] {
        &[
            RemoteView {
                name: OWN,
                shows: "the address of the user who logs in, by the id of the company",
                lists: false,
                shows_one: true,
            },
            RemoteView {
                name: SCHEME,
                shows: "how a user is to log in, by the user's e-mail address",
                lists: false,
                shows_one: true,
            },
        ]
    }

    fn keys(&self) -> &'static [&'static str] {
        &[]
    }

    fn one(&self, one: &One<'_>, answers: &[Answer]) -> ReadStep<Held> {
        let Some(answer) = answers.last() else {
            if one.view == SCHEME {
                return ReadStep::Call(self.scheme_of(one.id));
            }
            let company = utf8_percent_encode(one.id, NON_ALPHANUMERIC);
            return ReadStep::Call(Request {
                method: Method::GET,
                path: format!("/rest/user/contact/{company}?fields={FIELD}"),
                headers: vec![(ACCEPT, HeaderValue::from_static("application/json"))],
                body: Bytes::new(),
                kind: RequestKind::Read,
            });
        };
        if let Some(read) = self.reading.write(answer) {
            return ReadStep::Failed(read.failure);
        }
        let document = answer.as_ref().ok().and_then(|response| serde_json::from_slice::<Value>(&response.body).ok());
        let is_shown = |document: &Value| match one.view {
            SCHEME => document.get("type").is_some_and(Value::is_string),
            _ => document.get("results").is_some_and(Value::is_array),
        };
        let document = document.filter(is_shown).map(|mut document| {
            document.as_object_mut().map(|members| members.remove(CLIENT_SECRET));
            document
        });
        match document {
            Some(document) => ReadStep::Done(Held { id: None, document }),
            None => {
                let mut failure = unreadable(answer);
                (failure.class, failure.effect) = (FailureClass::Transient, Effect::None);
                ReadStep::Failed(failure)
            }
        }
    }

    fn page(&self, _walk: &Walk<'_>, _answers: &[Answer]) -> ReadStep<Page> {
        unreachable!("no view lists anything")
    }

    fn differences(&self, _compared: &Compared<'_>, _answers: &[Answer]) -> ReadStep<BTreeSet<String>> {
        unreachable!("no contact can be read back")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crm::{Connector, Response, reference::References, testing::sam_crm};

    fn sam() -> NextinteractSam {
        NextinteractSam::new(&sam_crm("/none/email".into(), "/none/password".into()), "contact-hub").unwrap()
    }

    fn answer(status: u16, body: &Value) -> Answer {
        let status = http::StatusCode::from_u16(status).unwrap();
        Ok(Response { status, headers: http::HeaderMap::new(), body: Bytes::from(body.to_string()) })
    }

    fn read(id: &str, answers: &[Answer]) -> ReadStep<Held> {
        sam().one(&One { id, view: "own", references: &References::default() }, answers)
    }

    fn scheme(sam: &NextinteractSam, answers: &[Answer]) -> ReadStep<Held> {
        sam.one(&One { id: "sync@example.org", view: "scheme", references: &References::default() }, answers)
    }

    #[test]
    fn the_scheme_of_a_user_is_asked_by_e_mail_address_and_no_secret_is_shown() {
        let ReadStep::Call(request) = scheme(&sam(), &[]) else { panic!("a request") };
        assert_eq!((request.method.as_str(), &*request.path), ("POST", "/rest/user/scheme"));
        assert_eq!(request.body, r#"{"uEmail":"sync@example.org","deviceType":"Desktop","appCode":"NI"}"#);
        let header = |name| request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        assert_eq!([header(CONTENT_TYPE), header(ACCEPT)], [(); 2].map(|()| Some("application/json".parse().unwrap())));
        assert!(request.kind == RequestKind::Read);
        let mut crm = sam_crm("/none/email".into(), "/none/password".into());
        crm.nextinteract_sam.as_mut().unwrap().device_type = "Android Phone".to_owned();
        let ReadStep::Call(other) = scheme(&NextinteractSam::new(&crm, "hub").unwrap(), &[]) else {
            panic!("a request")
        };
        assert!(String::from_utf8_lossy(&other.body).contains(r#""deviceType":"Android Phone""#));

        let shown = json!({ "type": "I", "clientId": "c", "clientSecret": "canary", "idp": "https://idp.example.org" });
        let ReadStep::Done(held) = scheme(&sam(), &[answer(200, &shown)]) else { panic!("it is shown") };
        assert_eq!(held.document, json!({ "type": "I", "clientId": "c", "idp": "https://idp.example.org" }));
        for other in [json!({ "results": [] }), json!([]), json!("S")] {
            let ReadStep::Failed(failure) = scheme(&sam(), &[answer(200, &other)]) else {
                panic!("no scheme: {other}")
            };
            assert_eq!(failure.class, FailureClass::Transient);
        }
    }

    #[test]
    fn the_callers_own_address_is_read_by_the_id_of_the_company() {
        let ReadStep::Call(request) = read("17", &[]) else { panic!("a request") };
        assert_eq!((request.method.as_str(), &*request.path), ("GET", "/rest/user/contact/17?fields=address1Name"));
        let headers: Vec<_> = request.headers.iter().map(|(name, value)| (name.as_str(), value)).collect();
        assert_eq!(headers, [("accept", &HeaderValue::from_static("application/json"))]);
        assert!(request.body.is_empty() && request.kind == RequestKind::Read);
        let ReadStep::Call(odd) = read("1/..", &[]) else { panic!("a request") };
        assert_eq!(odd.path, "/rest/user/contact/1%2F%2E%2E?fields=address1Name");
        let shown = json!({ "results": [{ "key": "address1Name", "value": "100 Test Street" }] });
        let ReadStep::Done(held) = read("17", &[answer(200, &shown)]) else { panic!("it is shown") };
        assert_eq!((held.id, held.document), (None, shown));
    }

    #[test]
    fn what_is_no_answer_and_what_is_refused_is_told() {
        let class = |status, body: Value| match read("17", &[answer(status, &body)]) {
            ReadStep::Failed(failure) => failure.class,
            step => panic!("failed, not {step:?}"),
        };
        assert_eq!(class(200, json!({})), FailureClass::Transient);
        assert_eq!(class(200, json!("hello")), FailureClass::Transient);
        let error = |name: &str, code: f64| json!({ "errorName": name, "errorCode": code, "message": "" });
        assert_eq!(class(401, error("WSInvalidAuthTokenException", 1006.0)), FailureClass::Auth);
        assert_eq!(class(401, error("WSInsufficientPermissionsException", 1003.0)), FailureClass::Connection);
        assert_eq!(class(400, error("WSInvalidParameterException", 1002.0)), FailureClass::Rejected);
    }

    #[test]
    fn contacts_cannot_be_read_back_all_the_same() {
        assert!(sam().reader().is_err() && sam().shows().is_ok());
    }
}
