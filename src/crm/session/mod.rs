//! The credential of a CRM: gets it, puts it on requests, and renews it when it runs out or the CRM refuses it.
//!
//! Connectors are pure and know no credential; whoever sends a request asks the session just before. Each credential
//! has a number, because several requests carry one at the same time: when all of them come back refused, the first
//! renewal replaces it, and the others, which name the number they were refused under, are told so and do nothing. A
//! password is so tried once, not once per request in flight.
//!
//! [`static_token`] is for credentials that are configured, [`login`] for those that a login gives. Where on a request they
//! go is a [`placement`].

pub mod login;
pub mod placement;
mod secret;
pub mod static_token;

use std::{fmt, io, path::PathBuf};

use async_trait::async_trait;

pub use self::secret::SecretSource;
use super::{Failure, Request, Response, transport::Transport};

/// Names the credential that a request went out with. Numbers rise with each renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CredentialNumber(pub u64);

#[async_trait]
pub trait Session: Send + Sync + fmt::Debug {
    /// Sees to it that there is a credential, and that it lasts for another request. Called before each one.
    ///
    /// Single-flight and cancel-safe, as [`Session::renew`].
    async fn ready(&self, _transport: &dyn Transport) -> Result<(), RenewalError> {
        Ok(())
    }

    /// Puts the current credential on `request`, and says which one that is.
    fn authorize(&self, request: &mut Request) -> CredentialNumber;

    /// Called with each answer to a request that went out with the credential `used`: it may bring another.
    fn answered(&self, _used: CredentialNumber, _response: &Response) {}

    /// Called when a request with the credential `refused` was answered with class `Auth`. Returns whether another
    /// credential is in use now, so that the request is worth sending again. `false`: only an operator can help.
    ///
    /// Single-flight. Cancel-safe: a renewal that is dropped half-way leaves the credential as it was.
    async fn renew(&self, refused: CredentialNumber, transport: &dyn Transport) -> Result<bool, RenewalError>;

    /// Called before a request that probes a paused CRM: a secret that was replaced meanwhile takes the place of the one in
    /// use. A credential without a right is not refused as one, so no answer would ever ask for it to be renewed.
    ///
    /// A secret that cannot be read leaves the credential as it is.
    async fn look_again(&self) {}

    /// Called once no more deliveries leave: what can be given back is. Nothing depends on whether that succeeds.
    async fn end(&self, _transport: &dyn Transport) {}
}

/// Why there is no other credential now.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// What the credential is made from cannot be read.
    #[error(transparent)]
    Secret(#[from] SessionError),
    /// The login did not succeed. Its class says what comes next, as it does for any request: `Auth`, that only other
    /// secrets help.
    #[error("the login failed")]
    Login(Failure),
}

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("set exactly one of the two keys that say where the secret is, by variable or by file")]
    NoSource,
    #[error("the environment variable {name} is not set or is not UTF-8")]
    Variable { name: String },
    #[error("the secret file {} cannot be read", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the secret file {} cannot be written", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the secret is empty or holds characters that no request can carry")]
    Malformed,
}
