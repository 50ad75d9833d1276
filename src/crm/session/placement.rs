//! Where on a request a credential goes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::SessionError;
use crate::{crm::Request, privacy::Secret};

/// Where on a request a credential goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// In this header, behind this prefix.
    Header { name: HeaderName, prefix: String },
    /// As the user name of HTTP Basic, with an empty password (RFC 7617).
    BasicUser,
    /// Under this name, wherever the request has its arguments: as a member of its JSON object, as a part of its
    /// `multipart/form-data`, or, without a body, in its query.
    Argument { name: &'static str },
}

impl Placement {
    /// As a bearer token (RFC 6750, section 2.1).
    pub fn bearer() -> Self {
        Self::Header { name: AUTHORIZATION, prefix: "Bearer ".to_owned() }
    }

    /// `secret` in the form in which requests carry it.
    ///
    /// # Errors
    /// The secret holds what no request can carry in this place.
    pub fn prepare(&self, secret: &Secret) -> Result<Placed, SessionError> {
        let secret = secret.expose();
        // A colon would end the user name, and what is not visible is a slip of whoever wrote the file.
        let is_user_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        let header = |name: &HeaderName, text: String| {
            let mut value = HeaderValue::try_from(text).map_err(|_invalid| SessionError::Malformed)?;
            value.set_sensitive(true);
            Ok(Placed(Form::Header(name.clone(), value)))
        };
        match self {
            _ if secret.is_empty() => Err(SessionError::Malformed),
            Self::Header { name, prefix } => header(name, format!("{prefix}{secret}")),
            Self::BasicUser if !is_user_name(secret) => Err(SessionError::Malformed),
            Self::BasicUser => header(&AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{secret}:")))),
            // Within a part of a body a line end would end the value.
            Self::Argument { .. } if secret.contains(char::is_control) => Err(SessionError::Malformed),
            Self::Argument { name } => Ok(Placed(Form::Argument(name, Secret::new(secret)))),
        }
    }
}

/// A credential, ready to go on requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// A sensitive value, which does not print.
    Header(HeaderName, HeaderValue),
    Argument(&'static str, Secret),
}

impl Placed {
    /// Puts the credential on `request`.
    ///
    /// # Panics
    /// If it is an argument and the request has a body that is neither a JSON object nor `multipart/form-data` with a
    /// boundary: connectors make the body they declare.
    pub fn put(&self, request: &mut Request) {
        match &self.0 {
            Form::Header(name, value) => {
                request.headers.retain(|(known, _)| known != name);
                request.headers.push((name.clone(), value.clone()));
            }
            Form::Argument(name, secret) => put_argument(name, secret.expose(), request),
        }
    }
}

fn put_argument(name: &str, secret: &str, request: &mut Request) {
    let content_type = request.headers.iter().find(|(known, _)| *known == CONTENT_TYPE);
    let content_type = content_type.and_then(|(_, value)| value.to_str().ok());
    match content_type {
        None => {
            assert!(request.body.is_empty(), "a body says what it is");
            let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
            let rest = if query.is_empty() { String::new() } else { format!("&{query}") };
            request.path = format!("{path}?{name}={}{rest}", utf8_percent_encode(secret, NON_ALPHANUMERIC));
        }
        Some("application/json") => {
            let members = request.body.strip_prefix(b"{").expect("a JSON object begins with a brace");
            let secret = serde_json::to_string(secret).expect("a text serialises");
            let comma = if members == b"}" { "" } else { "," };
            request.body = joined(&[format!("{{\"{name}\":{secret}{comma}").as_bytes(), members]);
        }
        Some(multipart) => {
            let boundary = multipart.strip_prefix("multipart/form-data; boundary=").expect("JSON or multipart");
            let part = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{secret}\r\n");
            request.body = joined(&[part.as_bytes(), &request.body]);
        }
    }
}

fn joined(parts: &[&[u8]]) -> Bytes {
    let mut whole = BytesMut::with_capacity(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| whole.put_slice(part));
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crm::RequestKind;

    fn request(path: &str, content_type: Option<&'static str>, body: &'static str) -> Request {
        let headers = content_type.map(|value| (CONTENT_TYPE, HeaderValue::from_static(value)));
        Request {
            method: http::Method::POST,
            path: path.to_owned(),
            headers: headers.into_iter().collect(),
            body: Bytes::from_static(body.as_bytes()),
            kind: RequestKind::Read,
        }
    }

    fn put(placement: &Placement, secret: &str, mut request: Request) -> Request {
        placement.prepare(&Secret::new(secret)).unwrap().put(&mut request);
        request
    }

    #[test]
    fn a_header_carries_it_once_and_does_not_print_it() {
        let name = HeaderName::from_static("apitoken");
        let placement = Placement::Header { name: name.clone(), prefix: String::new() };
        let twice = put(&placement, "second", put(&placement, "first", request("/", None, "")));
        let [(found, value)] = twice.headers.as_slice() else { panic!("one header") };
        assert_eq!((found, value.to_str().unwrap(), value.is_sensitive()), (&name, "second", true));
        assert!(matches!(placement.prepare(&Secret::new("two\nlines")), Err(SessionError::Malformed)));
        assert!(matches!(placement.prepare(&Secret::new("")), Err(SessionError::Malformed)));
        let bearer = put(&Placement::bearer(), "abc", request("/", None, ""));
        assert_eq!(bearer.headers, [(AUTHORIZATION, HeaderValue::from_static("Bearer abc"))]);
    }

    #[test]
    fn a_basic_user_has_an_empty_password() {
        let sent = put(&Placement::BasicUser, "sk_demo", request("/", None, ""));
        assert_eq!(sent.headers, [(AUTHORIZATION, HeaderValue::from_static("Basic c2tfZGVtbzo="))]);
        for malformed in ["", "sk:demo", "sk demo", "sk\ndemo", "schl\u{fc}ssel"] {
            let refused = Placement::BasicUser.prepare(&Secret::new(malformed));
            assert!(matches!(refused, Err(SessionError::Malformed)), "{malformed:?}");
        }
    }

    #[test]
    fn an_argument_goes_where_the_request_has_its_arguments() {
        let placement = Placement::Argument { name: "token" };
        let json = Some("application/json");
        for (body, expected) in
            [("{}", r#"{"token":"T\"1"}"#), (r#"{"type":"PERSON"}"#, r#"{"token":"T\"1","type":"PERSON"}"#)]
        {
            assert_eq!(put(&placement, "T\"1", request("/create", json, body)).body, expected);
        }
        for (path, expected) in [("/list", "/list?token=T%2F1"), ("/list?a=b&c=d", "/list?token=T%2F1&a=b&c=d")] {
            assert_eq!(put(&placement, "T/1", request(path, None, "")).path, expected);
        }
        let multipart = Some("multipart/form-data; boundary=x");
        let sent = put(&placement, "T1", request("/add", multipart, "--x--\r\n"));
        let part = "--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nT1\r\n";
        assert_eq!(sent.body, format!("{part}--x--\r\n"));
        assert!(matches!(placement.prepare(&Secret::new("two\r\nlines")), Err(SessionError::Malformed)));
    }

    #[test]
    fn a_placed_credential_does_not_print() {
        for placement in [Placement::bearer(), Placement::BasicUser, Placement::Argument { name: "token" }] {
            let placed = placement.prepare(&Secret::new("canary")).unwrap();
            assert!(!format!("{placed:?}").contains("canary"), "{placement:?}");
        }
    }
}
