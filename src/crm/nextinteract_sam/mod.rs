//! NextInteract SAM: an upsert of many contacts in one call, keyed by our contact id.
//!
//! Nothing can be looked up, read back or deleted; what SAM shows is the caller's own address (`own`). One row carries the whole contact, and repeating it is harmless because
//! `externalId` goes with it from the first write on. A contact is planned as if it travelled alone, as an array of one;
//! rows of many contacts are joined on their way ([`Batching`]), and the answer is taken apart by `recordId`.
//!
//! SAM tells the fate of a row as a count and no more. A row that was not stored is sent once more by itself before its
//! contact is rejected; one that is not mentioned may or may not be there, and is sent again.

mod failures;
mod login;
mod mapping;
mod own;
mod wire;

use std::{collections::BTreeMap, sync::Arc};

use http::{
    HeaderValue, Method,
    header::{ACCEPT, CONTENT_TYPE},
};

use self::{
    failures::{COMPANY_SERVICE, Reading, unreadable},
    login::UserLogin,
    mapping::Mapping,
    wire::{Rows, Stored},
};
use super::{
    Accepted, Answer, BatchLimits, Batching, Connector, Delivery, Effect, Failure, FailureClass, Field, Loss,
    NotSettable, Projection, REMOTE_CONTACT, Request, RequestKind, Response, SetupError, Split, Step, TransportError,
    Verdict,
    naming::Naming,
    remote::{NoReader, Reader},
    session::{
        SecretSource,
        login::{LoginSession, LoginTerms},
        placement::Placement,
    },
};
use crate::{
    config::{CrmSettings, NextinteractSamSettings, StampModified},
    contact::{ContactRecord, record::Status},
    crm::link::Link,
    event::{Operation, Reason, ReasonCode},
};

const UPSERT: &str = "/rest/company/contact/upsert";

/// The connector of one company.
#[derive(Debug)]
pub struct NextinteractSam {
    settings: NextinteractSamSettings,
    mapping: Mapping,
    reading: Reading,
    batching: Arc<Contacts>,
}

impl NextinteractSam {
    pub fn new(crm: &CrmSettings, instance: &str) -> Result<Self, SetupError> {
        let settings = section(crm)?;
        let reading = Reading::new(settings)?;
        Ok(Self {
            settings: settings.clone(),
            mapping: Mapping::new(crm, settings, instance),
            batching: Arc::new(Contacts {
                limits: BatchLimits {
                    rows_max: settings.batch_rows_max,
                    bytes_max: settings.batch_bytes_max,
                    age_max: settings.batch_age_max,
                },
                reading: reading.clone(),
            }),
            reading,
        })
    }

    /// The whole contact.
    fn upsert(&self, delivery: &Delivery<'_>) -> Request {
        let modified = match self.settings.modified {
            StampModified::ReceivedAt => Some(delivery.record.received_at.as_millisecond()),
            StampModified::Null => None,
        };
        let fields = &delivery.projection.fields;
        Request {
            method: Method::POST,
            path: UPSERT.to_owned(),
            headers: vec![
                (CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (ACCEPT, HeaderValue::from_static("application/json")),
            ],
            body: wire::array_of_one(fields, modified, self.settings.clear_with),
            kind: RequestKind::Set,
        }
    }

    /// What the newest of `answers` means.
    fn conclude(&self, delivery: &Delivery<'_>, answers: &[Answer], answer: &Answer) -> Step {
        if let Some(read) = self.reading.write(answer) {
            if read.code == Some(COMPANY_SERVICE) {
                return self.company_service_failed(delivery, answers, read.failure);
            }
            return Step::Failed(read.failure);
        }
        let reference = mapping::external_id(delivery.record, delivery.link);
        let rows = answer.as_ref().ok().and_then(|response| Rows::read(&response.body));
        match rows.map(|rows| rows.say_of(&reference)) {
            Some(Stored::Yes) => {
                let erased = delivery.record.status == Status::Erased;
                Step::Done(Accepted {
                    operation: if erased { Operation::Blank } else { delivery.operation },
                    remote_ids: BTreeMap::from([(REMOTE_CONTACT.to_owned(), reference)]),
                })
            }
            Some(Stored::No) if answers.len() <= self.settings.unstored_retries_max as usize => {
                Step::CallAlone(self.upsert(delivery))
            }
            Some(Stored::No) => Step::Failed(Failure {
                class: FailureClass::Rejected,
                effect: Effect::None,
                reason: Reason { http_status: Some(200), ..ReasonCode::Refused.into() },
                retry_after: None,
            }),
            Some(Stored::NotSaid) | None => Step::Failed(unreadable(answer)),
        }
    }

    /// The company service failed. That passes, unless it is about this very contact: after a few tries it goes once by
    /// itself, and if that fails too, it is the contact.
    fn company_service_failed(&self, delivery: &Delivery<'_>, answers: &[Answer], mut failure: Failure) -> Step {
        let tries = delivery.tries.saturating_add(1);
        if failure.class != FailureClass::Transient || tries < self.settings.company_service_tries_max {
            return Step::Failed(failure);
        }
        let failed =
            |answer: &&Answer| self.reading.write(answer).is_some_and(|read| read.code == Some(COMPANY_SERVICE));
        if answers.iter().filter(failed).count() < 2 {
            return Step::CallAlone(self.upsert(delivery));
        }
        failure.class = FailureClass::Rejected;
        failure.retry_after = None;
        Step::Failed(failure)
    }
}

impl Connector for NextinteractSam {
    fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        self.mapping.project(record, link)
    }

    fn fields(&self) -> Vec<String> {
        wire::clearable().map(str::to_owned).collect()
    }

    fn field(&self, name: &str) -> Result<Field, NotSettable> {
        wire::settable(name)
    }

    fn cannot_carry(&self) -> Vec<Loss> {
        self.mapping.cannot_carry()
    }

    fn reader(&self) -> Result<&dyn Reader, NoReader> {
        Err(NoReader(
            "its API has no call that gives a contact back: what `GET /rest/user/contact` shows is the caller's own record",
        ))
    }

    fn shows(&self) -> Result<&dyn Reader, NoReader> {
        Ok(self)
    }

    fn naming(&self) -> Naming {
        Naming::keys(REMOTE_CONTACT)
    }

    fn next(&self, delivery: &Delivery<'_>, answers: &[Answer]) -> Step {
        match answers.last() {
            None => Step::Call(self.upsert(delivery)),
            Some(answer) => self.conclude(delivery, answers, answer),
        }
    }

    fn batching(&self) -> Option<Arc<dyn Batching>> {
        Some(self.batching.clone())
    }
}

/// How upserts share a call.
#[derive(Debug)]
struct Contacts {
    limits: BatchLimits,
    reading: Reading,
}

impl Batching for Contacts {
    fn limits(&self) -> BatchLimits {
        self.limits
    }

    fn row_key(&self, request: &Request) -> Option<String> {
        wire::reference(&request.body)
    }

    fn join(&self, rows: &[&Request]) -> Request {
        let first = *rows.first().expect("a call has a row");
        Request { body: wire::joined(rows.iter().map(|row| row.body.as_ref())), ..first.clone() }
    }

    fn split(&self, answer: &Answer, keys: &[&str]) -> Split {
        let all = || Split::Rows(vec![answer.clone(); keys.len()]);
        if let Some(read) = self.reading.write(answer) {
            // What is wrong with one is answered to all, and nothing of it is stored.
            let about_a_row =
                matches!(read.failure.class, FailureClass::Rejected | FailureClass::Conflict | FailureClass::Gone);
            return if about_a_row && read.failure.effect == Effect::None { Split::Halve } else { all() };
        }
        let Ok(Response { status, headers, body }) = answer else { return all() };
        let Some(rows) = Rows::read(body) else { return all() };
        let of =
            |key: &&str| -> Answer { Ok(Response { status: *status, headers: headers.clone(), body: rows.of(key) }) };
        Split::Rows(keys.iter().map(of).collect::<Vec<Result<_, TransportError>>>())
    }
}

fn section(crm: &CrmSettings) -> Result<&NextinteractSamSettings, SetupError> {
    crm.nextinteract_sam.as_ref().ok_or(SetupError::Section { kind: "nextinteract_sam" })
}

/// The session of one user of a company: a login.
pub(super) fn session(crm: &CrmSettings) -> Result<LoginSession, SetupError> {
    let settings = section(crm)?;
    let source = |variable: &Option<String>, file: &Option<std::path::PathBuf>| {
        SecretSource::new(variable.as_deref(), file.as_deref())
    };
    let terms = LoginTerms {
        crm: crm.name.clone(),
        secrets: vec![
            source(&settings.email_env, &settings.email_file)?,
            source(&settings.password_env, &settings.password_file)?,
        ],
        placement: Placement::Header { name: login::TOKEN, prefix: String::new() },
        renew_before: settings.renew_before,
        interval_min: settings.login_interval_min,
        refresh_token_file: None,
    };
    Ok(LoginSession::new(UserLogin::new(settings, Reading::new(settings)?), terms)?)
}

#[cfg(test)]
mod conversation;
#[cfg(test)]
mod tests;
