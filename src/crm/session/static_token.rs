//! A credential that is configured and never runs out by itself.

use std::fmt;

use async_trait::async_trait;
use parking_lot::RwLock;

use super::{
    CredentialNumber, RenewalError, SecretSource, Session, SessionError,
    placement::{Placed, Placement},
};
use crate::crm::{Request, transport::Transport};

/// A credential that is read from where it is configured, and read again once it is refused.
pub struct StaticToken {
    source: SecretSource,
    placement: Placement,
    current: RwLock<Current>,
    /// Held by the one renewal under way.
    renewal: tokio::sync::Mutex<()>,
}

struct Current {
    number: CredentialNumber,
    placed: Placed,
}

impl fmt::Debug for StaticToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticToken")
            .field("source", &self.source)
            .field("placement", &self.placement)
            .finish_non_exhaustive()
    }
}

impl StaticToken {
    /// Reads the token; blocks for the time of reading a small file.
    pub fn new(source: SecretSource, placement: Placement) -> Result<Self, SessionError> {
        let placed = placement.prepare(&source.read()?)?;
        let current = RwLock::new(Current { number: CredentialNumber(0), placed });
        Ok(Self { source, placement, current, renewal: tokio::sync::Mutex::default() })
    }
}

#[async_trait]
impl Session for StaticToken {
    fn authorize(&self, request: &mut Request) -> CredentialNumber {
        let current = self.current.read();
        current.placed.put(request);
        current.number
    }

    async fn renew(&self, refused: CredentialNumber, _transport: &dyn Transport) -> Result<bool, RenewalError> {
        let _alone = self.renewal.lock().await;
        if self.current.read().number != refused {
            return Ok(true);
        }
        let source = self.source.clone();
        // The environment of a process does not change from outside, a file does; both take the same path.
        let token = tokio::task::spawn_blocking(move || source.read()).await;
        let placed = self.placement.prepare(&token.expect("reading a token does not panic")?)?;
        let mut current = self.current.write();
        if current.placed == placed {
            return Ok(false);
        }
        *current = Current { number: CredentialNumber(refused.0 + 1), placed };
        Ok(true)
    }

    async fn look_again(&self) {
        let number = self.current.read().number;
        let source = self.source.clone();
        let token = tokio::task::spawn_blocking(move || source.read()).await;
        let Ok(token) = token.expect("reading a token does not panic") else { return };
        let Ok(placed) = self.placement.prepare(&token) else { return };
        let mut current = self.current.write();
        if current.number == number && current.placed != placed {
            *current = Current { number: CredentialNumber(number.0 + 1), placed };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use bytes::Bytes;
    use http::HeaderName;

    use super::*;
    use crate::crm::{Answer, RequestKind};

    /// Nothing is to be sent.
    #[derive(Debug)]
    struct NoTransport;

    #[async_trait]
    impl Transport for NoTransport {
        async fn exchange(&self, request: Request) -> Answer {
            unreachable!("{request:?}")
        }
    }

    fn token_of(session: &StaticToken) -> (String, CredentialNumber) {
        let mut request = Request {
            method: http::Method::POST,
            path: "/".to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            kind: RequestKind::Set,
        };
        let number = session.authorize(&mut request);
        let [(name, value)] = request.headers.as_slice() else { panic!("one header") };
        assert_eq!(name, "apitoken");
        (value.to_str().unwrap().to_owned(), number)
    }

    fn session(path: PathBuf) -> Result<StaticToken, SessionError> {
        let placement = Placement::Header { name: HeaderName::from_static("apitoken"), prefix: String::new() };
        StaticToken::new(SecretSource::File(path), placement)
    }

    #[tokio::test]
    async fn a_refused_token_is_read_again_and_a_second_refusal_of_the_old_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "first\n").unwrap();
        let session = session(path.clone()).unwrap();
        let (token, first) = token_of(&session);
        assert_eq!(token, "first");

        assert!(!session.renew(first, &NoTransport).await.unwrap(), "the file still holds the refused token");
        std::fs::write(&path, "second").unwrap();
        assert!(session.renew(first, &NoTransport).await.unwrap());
        let (token, second) = token_of(&session);
        assert_eq!(token, "second");

        std::fs::remove_file(&path).unwrap();
        assert!(session.renew(first, &NoTransport).await.unwrap(), "another request has renewed it already");
        session.renew(second, &NoTransport).await.unwrap_err();
        assert_eq!(token_of(&session), ("second".to_owned(), second), "a failed renewal leaves the token as it was");
    }

    #[tokio::test]
    async fn a_token_that_was_replaced_is_found_although_nobody_refused_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "first").unwrap();
        let session = session(path.clone()).unwrap();
        let (_, first) = token_of(&session);
        session.look_again().await;
        assert_eq!(token_of(&session), ("first".to_owned(), first), "it is the same, under the same number");
        std::fs::write(&path, "second").unwrap();
        session.look_again().await;
        let (token, second) = token_of(&session);
        assert_eq!((token.as_str(), second > first), ("second", true));
        for unusable in ["", "two\nlines"] {
            std::fs::write(&path, unusable).unwrap();
            session.look_again().await;
            assert_eq!(token_of(&session), ("second".to_owned(), second), "{unusable:?}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "two\nlines").unwrap();
        assert!(matches!(session(path), Err(SessionError::Malformed)));
        assert!(matches!(session(folder.path().join("absent")), Err(SessionError::File { .. })));
    }

    #[test]
    fn a_session_does_not_print_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "token-canary").unwrap();
        assert!(!format!("{:?}", session(path).unwrap()).contains("canary"));
    }
}
