//! The credential of a CRM: puts it on requests, and renews it when the CRM refuses it.
//!
//! Connectors are pure and know no credential; whoever sends a request asks the session just before. Each credential
//! has a number, because several requests carry one at the same time: when all of them come back refused, the first
//! renewal replaces it, and the others, which name the number they were refused under, are told so and do nothing. A
//! password is so tried once, not once per request in flight.
//!
//! A session that logs in fits the same two calls: a request that goes out before the first login is refused, and the
//! renewal logs in.

use std::{fmt, io, path::PathBuf};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use parking_lot::RwLock;

use super::Request;
use crate::privacy::Secret;

/// Names the credential that a request went out with. Numbers rise with each renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialNumber(pub u64);

#[async_trait]
pub trait Session: Send + Sync + fmt::Debug {
    /// Puts the current credential on `request`, and says which one that is.
    fn authorize(&self, request: &mut Request) -> CredentialNumber;

    /// Called when a request with the credential `refused` was answered with class `Auth`. Returns whether another
    /// credential is in use now, so that the request is worth sending again. `false`: only an operator can help.
    ///
    /// Single-flight. Cancel-safe: a renewal that is dropped half-way leaves the credential as it was.
    async fn renew(&self, refused: CredentialNumber) -> Result<bool, SessionError>;
}

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("set exactly one of the two keys that say where the token is, by variable or by file")]
    NoSource,
    #[error("the environment variable {name} is not set or is not UTF-8")]
    Variable { name: String },
    #[error("the token file {} cannot be read", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the token is empty or holds characters that no header can carry")]
    Malformed,
}

/// Where a static token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    Variable(String),
    File(PathBuf),
}

impl TokenSource {
    /// From the two settings of which exactly one is to be set.
    pub fn new(variable: Option<&str>, file: Option<&std::path::Path>) -> Result<Self, SessionError> {
        match (variable, file) {
            (Some(name), None) => Ok(Self::Variable(name.to_owned())),
            (None, Some(path)) => Ok(Self::File(path.to_owned())),
            (None, None) | (Some(_), Some(_)) => Err(SessionError::NoSource),
        }
    }

    fn read(&self) -> Result<Secret, SessionError> {
        match self {
            Self::Variable(name) => {
                #[expect(clippy::disallowed_methods, reason = "the configuration names the variable, never its value")]
                let value = std::env::var(name);
                value.map(Secret::new).map_err(|_unset| SessionError::Variable { name: name.clone() })
            }
            Self::File(path) => {
                let read = std::fs::read_to_string(path);
                read.map(Secret::new).map_err(|source| SessionError::File { path: path.clone(), source })
            }
        }
    }
}

/// A token that never expires by itself: sent with each request in one header.
pub struct StaticToken {
    source: TokenSource,
    header: HeaderName,
    form: Form,
    current: RwLock<Current>,
    /// Held by the one renewal under way.
    renewal: tokio::sync::Mutex<()>,
}

/// How a header carries the token.
#[derive(Clone)]
enum Form {
    /// As it is, behind this.
    Behind(String),
    /// As the user name of HTTP Basic, with an empty password (RFC 7617).
    BasicUser,
}

impl Form {
    fn value(&self, token: &Secret) -> Result<HeaderValue, SessionError> {
        let token = token.expose().trim();
        if token.is_empty() {
            return Err(SessionError::Malformed);
        }
        let text = match self {
            Self::Behind(prefix) => format!("{prefix}{token}"),
            // A colon would end the user name, and what is not visible is a slip of whoever wrote the file.
            Self::BasicUser if !token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') => {
                return Err(SessionError::Malformed);
            }
            Self::BasicUser => format!("Basic {}", STANDARD.encode(format!("{token}:"))),
        };
        let mut value = HeaderValue::try_from(text).map_err(|_invalid| SessionError::Malformed)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

struct Current {
    number: CredentialNumber,
    value: HeaderValue,
}

impl fmt::Debug for StaticToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticToken")
            .field("source", &self.source)
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl StaticToken {
    /// Reads the token; blocks for the time of reading a small file.
    pub fn new(source: TokenSource, header: HeaderName, prefix: &str) -> Result<Self, SessionError> {
        Self::with(source, header, Form::Behind(prefix.to_owned()))
    }

    /// As [`StaticToken::new`], for a token that is the user name of HTTP Basic.
    pub fn basic_user(source: TokenSource) -> Result<Self, SessionError> {
        Self::with(source, AUTHORIZATION, Form::BasicUser)
    }

    fn with(source: TokenSource, header: HeaderName, form: Form) -> Result<Self, SessionError> {
        let value = form.value(&source.read()?)?;
        let current = RwLock::new(Current { number: CredentialNumber(0), value });
        Ok(Self { source, header, form, current, renewal: tokio::sync::Mutex::default() })
    }
}

#[async_trait]
impl Session for StaticToken {
    fn authorize(&self, request: &mut Request) -> CredentialNumber {
        let current = self.current.read();
        request.headers.retain(|(name, _)| *name != self.header);
        request.headers.push((self.header.clone(), current.value.clone()));
        current.number
    }

    async fn renew(&self, refused: CredentialNumber) -> Result<bool, SessionError> {
        let _alone = self.renewal.lock().await;
        if self.current.read().number != refused {
            return Ok(true);
        }
        let source = self.source.clone();
        // The environment of a process does not change from outside, a file does; both take the same path.
        let token = tokio::task::spawn_blocking(move || source.read()).await;
        let value = self.form.value(&token.expect("reading a token does not panic")?)?;
        let mut current = self.current.write();
        if current.value == value {
            return Ok(false);
        }
        *current = Current { number: CredentialNumber(refused.0 + 1), value };
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn token_of(session: &StaticToken) -> (String, CredentialNumber) {
        let mut request = Request {
            method: http::Method::POST,
            path: "/".to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            kind: crate::crm::RequestKind::Set,
        };
        let number = session.authorize(&mut request);
        let [(name, value)] = request.headers.as_slice() else { panic!("one header") };
        assert_eq!(name, "apitoken");
        assert!(value.is_sensitive());
        (value.to_str().unwrap().to_owned(), number)
    }

    fn session(path: PathBuf, prefix: &str) -> Result<StaticToken, SessionError> {
        StaticToken::new(TokenSource::File(path), HeaderName::from_static("apitoken"), prefix)
    }

    #[tokio::test]
    async fn a_refused_token_is_read_again_and_a_second_refusal_of_the_old_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "first\n").unwrap();
        let session = session(path.clone(), "").unwrap();
        let (token, first) = token_of(&session);
        assert_eq!(token, "first");

        assert!(!session.renew(first).await.unwrap(), "the file still holds the refused token");
        std::fs::write(&path, "second").unwrap();
        assert!(session.renew(first).await.unwrap());
        let (token, second) = token_of(&session);
        assert_eq!(token, "second");

        std::fs::remove_file(&path).unwrap();
        assert!(session.renew(first).await.unwrap(), "another request has renewed it already");
        session.renew(second).await.unwrap_err();
        assert_eq!(token_of(&session), ("second".to_owned(), second), "a failed renewal leaves the token as it was");
    }

    #[test]
    fn a_prefix_goes_before_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(token_of(&session(path, "Bearer ").unwrap()).0, "Bearer abc");
    }

    #[test]
    fn a_basic_user_is_sent_with_an_empty_password() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "sk_demo\n").unwrap();
        let session = StaticToken::basic_user(TokenSource::File(path.clone())).unwrap();
        let mut request = Request {
            method: http::Method::GET,
            path: "/".to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            kind: crate::crm::RequestKind::Read,
        };
        session.authorize(&mut request);
        let [(name, value)] = request.headers.as_slice() else { panic!("one header") };
        assert_eq!((name, value.to_str().unwrap()), (&AUTHORIZATION, "Basic c2tfZGVtbzo="));
        assert!(value.is_sensitive());
        for malformed in ["", "sk:demo", "sk demo", "sk\ndemo", "schl\u{fc}ssel"] {
            std::fs::write(&path, malformed).unwrap();
            let refused = StaticToken::basic_user(TokenSource::File(path.clone()));
            assert!(matches!(refused, Err(SessionError::Malformed)), "{malformed:?}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for malformed in ["", " \n", "two\nlines"] {
            std::fs::write(&path, malformed).unwrap();
            assert!(matches!(session(path.clone(), ""), Err(SessionError::Malformed)), "{malformed:?}");
        }
        assert!(matches!(session(folder.path().join("absent"), ""), Err(SessionError::File { .. })));
        let unset = TokenSource::Variable("CONTACT_REPLICATOR_NO_SUCH_VARIABLE".to_owned());
        assert!(matches!(unset.read(), Err(SessionError::Variable { .. })));
        assert!(matches!(TokenSource::new(None, None), Err(SessionError::NoSource)));
    }

    #[test]
    fn a_token_can_come_from_the_environment() {
        // Cargo sets it for every test.
        assert!(TokenSource::Variable("CARGO_PKG_NAME".to_owned()).read().is_ok());
    }

    #[test]
    fn a_session_does_not_print_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "token-canary").unwrap();
        assert!(!format!("{:?}", session(path, "").unwrap()).contains("canary"));
    }
}
