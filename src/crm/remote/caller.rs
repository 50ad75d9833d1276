//! Drives a read: asks for leave before each request, puts the credential on it, sends it, and renews a credential that the
//! CRM refuses, once.
//!
//! Nothing is tried again here: whether that is worth it differs between a person who waits and a run over all contacts.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;

use super::ReadStep;
use crate::crm::{
    Answer, Failure, FailureClass, RequestKind, TransportError,
    reference::{Library, References},
    session::{CredentialNumber, RenewalError, Session},
    transport::Transport,
};

/// Requests of one read: a contact takes one or two, lists that it refers to a few.
const REQUESTS_MAX: u32 = 100;

/// Gives leave to send, and hears what came of it.
#[async_trait]
pub trait Turn: Send + Sync + fmt::Debug {
    /// Waits until a request may leave. Cancel-safe.
    async fn wait(&self);

    /// An exchange ended with this answer.
    fn ended(&self, _answer: &Answer, _took: Duration) {}
}

/// What it takes to read a CRM.
#[derive(Debug, Clone)]
pub struct Caller {
    pub session: Arc<dyn Session>,
    pub transport: Arc<dyn Transport>,
    pub library: Arc<Library>,
    pub turn: Arc<dyn Turn>,
}

/// Why nothing was read. No text holds a value of a contact, or a credential.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{}", told(failure, transport.as_deref()))]
    Failed {
        failure: Failure,
        /// Of an answer that could not be had or used, what happened.
        transport: Option<String>,
    },
    #[error("there is no credential")]
    Credential(#[from] RenewalError),
    #[error("the read did not end within {REQUESTS_MAX} requests")]
    Endless,
}

impl ReadError {
    /// What comes next.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed { failure, .. } | Self::Credential(RenewalError::Login(failure)) => Some(failure),
            Self::Credential(RenewalError::Secret(_)) | Self::Endless => None,
        }
    }

    pub fn is_gone(&self) -> bool {
        self.failure().is_some_and(|failure| failure.class == FailureClass::Gone)
    }
}

/// A failure in words, with the remedy.
fn told(failure: &Failure, transport: Option<&str>) -> String {
    let status = failure.reason.http_status.map_or_else(|| "no answer".to_owned(), |status| format!("HTTP {status}"));
    let code = failure.reason.crm_code.as_ref().map(|code| format!(", code {code}")).unwrap_or_default();
    let trouble = transport.map(|trouble| format!(", {trouble}")).unwrap_or_default();
    let remedy = match failure.class {
        FailureClass::Transient => "ask again in a moment",
        FailureClass::Throttled => "the CRM asks for patience: ask again later",
        FailureClass::Auth => "the credential was refused: see that it is the right one for this base_url",
        FailureClass::Connection => "see that base_url is right, and that the credential may read contacts",
        FailureClass::Gone => "the CRM has no such contact",
        FailureClass::Conflict | FailureClass::Rejected => "the CRM does not take the question as it stands",
    };
    format!("{remedy} ({status}{code}{trouble})")
}

impl Caller {
    /// Asks until `next` has what it wants.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read<T>(
        &self,
        next: impl Fn(&References, &[Answer]) -> ReadStep<T> + Send + Sync,
    ) -> Result<T, ReadError> {
        let mut references = self.library.at(Instant::now());
        let mut answers: Vec<Answer> = Vec::new();
        let (mut credential, mut renewed, mut requests) = (None, false, 0);
        loop {
            match next(&references, &answers) {
                ReadStep::Call(request) => {
                    assert!(request.kind == RequestKind::Read, "a reader only reads");
                    requests += 1;
                    if requests > REQUESTS_MAX {
                        return Err(ReadError::Endless);
                    }
                    let (answer, used) = self.exchange(request).await?;
                    credential = Some(used);
                    answers.push(answer);
                }
                ReadStep::Learned(learned) => {
                    self.library.keep(learned, Instant::now());
                    references = self.library.at(Instant::now());
                    answers.clear();
                }
                ReadStep::Done(done) => return Ok(done),
                ReadStep::Failed(failure) => {
                    let refused = credential.filter(|_| failure.class == FailureClass::Auth && !renewed);
                    if let Some(refused) = refused
                        && self.session.renew(refused, &*self.transport).await?
                    {
                        renewed = true;
                        answers.clear();
                        continue;
                    }
                    return Err(ReadError::Failed { failure, transport: trouble(answers.last()) });
                }
            }
        }
    }

    async fn exchange(&self, mut request: crate::crm::Request) -> Result<(Answer, CredentialNumber), ReadError> {
        self.session.ready(&*self.transport).await?;
        self.turn.wait().await;
        let credential = self.session.authorize(&mut request);
        let started = Instant::now();
        let answer = self.transport.exchange(request).await;
        self.turn.ended(&answer, started.elapsed());
        if let Ok(response) = &answer {
            self.session.answered(credential, response);
        }
        Ok((answer, credential))
    }
}

fn trouble(answer: Option<&Answer>) -> Option<String> {
    answer?.as_ref().err().map(TransportError::to_string)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use parking_lot::Mutex;

    use super::*;
    use crate::{
        crm::{
            Effect, Request, Response,
            reference::{Known, Learned},
        },
        event::ReasonCode,
    };

    /// Answers with one status after the other; without any left, with 200.
    #[derive(Debug, Default)]
    struct Scripted(Mutex<Vec<u16>>);

    #[async_trait]
    impl Transport for Scripted {
        async fn exchange(&self, _request: Request) -> Answer {
            let status = self.0.lock().pop().unwrap_or(200);
            let status = http::StatusCode::from_u16(status).expect("a status");
            Ok(Response { status, headers: http::HeaderMap::new(), body: Bytes::new() })
        }
    }

    /// Has another credential as often as it is said.
    #[derive(Debug)]
    struct Renewing(Mutex<u32>);

    #[async_trait]
    impl Session for Renewing {
        fn authorize(&self, _request: &mut Request) -> CredentialNumber {
            CredentialNumber(0)
        }

        async fn renew(&self, _refused: CredentialNumber, _transport: &dyn Transport) -> Result<bool, RenewalError> {
            let mut left = self.0.lock();
            let is_left = *left > 0;
            *left = left.saturating_sub(1);
            Ok(is_left)
        }
    }

    /// Counts the requests that took their turn, and the answers that were heard of.
    #[derive(Debug, Default)]
    struct Counting {
        waited: Mutex<u32>,
        ended: Mutex<Vec<u16>>,
    }

    #[async_trait]
    impl Turn for Counting {
        async fn wait(&self) {
            *self.waited.lock() += 1;
        }

        fn ended(&self, answer: &Answer, _took: Duration) {
            self.ended.lock().push(status_of(answer));
        }
    }

    #[tokio::test]
    async fn each_request_takes_its_turn_and_its_answer_is_heard_of() {
        let turn = Arc::new(Counting::default());
        let caller = Caller { turn: turn.clone(), ..caller(&[401, 200], 1) };
        caller.read(one).await.unwrap();
        assert_eq!((*turn.waited.lock(), &*turn.ended.lock()), (2, &vec![401, 200]));
    }

    fn caller(statuses: &[u16], renewals: u32) -> Caller {
        Caller {
            session: Arc::new(Renewing(Mutex::new(renewals))),
            transport: Arc::new(Scripted(Mutex::new(statuses.iter().rev().copied().collect()))),
            library: Arc::new(Library::new(Duration::from_secs(3600), Duration::from_secs(60))),
            turn: Arc::new(Counting::default()),
        }
    }

    fn ask<T>() -> ReadStep<T> {
        ReadStep::Call(Request {
            method: http::Method::GET,
            path: "/".to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            kind: RequestKind::Read,
        })
    }

    fn failed<T>(class: FailureClass) -> ReadStep<T> {
        ReadStep::Failed(Failure { class, effect: Effect::None, reason: ReasonCode::Refused.into(), retry_after: None })
    }

    fn status_of(answer: &Answer) -> u16 {
        answer.as_ref().map_or(0, |response| response.status.as_u16())
    }

    fn one(_: &References, answers: &[Answer]) -> ReadStep<u16> {
        match answers.last().map(status_of) {
            None => ask(),
            Some(200) => ReadStep::Done(200),
            Some(401) => failed(FailureClass::Auth),
            Some(_) => failed(FailureClass::Transient),
        }
    }

    #[tokio::test]
    async fn a_refused_credential_is_renewed_once_and_the_read_begins_anew() {
        assert_eq!(caller(&[401], 1).read(one).await.unwrap(), 200);
        for (statuses, renewals) in [(&[401][..], 0), (&[401, 401], 2)] {
            let error = caller(statuses, renewals).read(one).await.unwrap_err();
            assert!(error.to_string().contains("the credential was refused"), "{error}");
        }
    }

    #[tokio::test]
    async fn nothing_else_is_tried_again() {
        let caller = caller(&[503], 1);
        let error = caller.read(one).await.unwrap_err();
        assert_eq!(error.failure().map(|failure| failure.class), Some(FailureClass::Transient));
        assert_eq!(caller.read(one).await.unwrap(), 200);
    }

    #[tokio::test]
    async fn a_list_that_is_needed_is_read_once_for_all_reads() {
        let caller = caller(&[], 0);
        let asked = Mutex::new(0);
        let country = |references: &References, answers: &[Answer]| match references.find("country", "DK") {
            Known::As(id) => ReadStep::Done(id.to_owned()),
            _ if answers.is_empty() => {
                *asked.lock() += 1;
                ask()
            }
            _ => {
                let rows = BTreeMap::from([("DK".to_owned(), "28".to_owned())]);
                ReadStep::Learned(Learned { list: "country", rows })
            }
        };
        for _ in 0..2 {
            assert_eq!(caller.read(country).await.unwrap(), "28");
        }
        assert_eq!(*asked.lock(), 1);
    }

    #[tokio::test]
    async fn a_read_ends_within_its_bound() {
        let asked = Mutex::new(0);
        let error = caller(&[], 0)
            .read(|_, _| {
                *asked.lock() += 1;
                ask::<()>()
            })
            .await;
        assert!(matches!(error, Err(ReadError::Endless)), "{error:?}");
        assert_eq!(*asked.lock(), REQUESTS_MAX + 1);
    }
}
