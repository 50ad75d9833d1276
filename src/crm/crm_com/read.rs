//! What CRM.COM holds, read back: one contact by its id, lists by a key, and the profile photo.
//!
//! A list needs a key, has no total, and skips as many contacts as it is told to. How many a page has at most is not
//! documented, so a page that is shorter than asked for need not be the last one: a walk goes on until a page is empty.
//!
//! The file of a photo is not below the base URL but below the server, at an address that CRM.COM tells. Only a path on that
//! server is followed, since the token goes with the request.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, header::ACCEPT};
use serde_json::{Map, Value};

use super::{CrmCom, delivery::is_apart, get, identified, name_of, photo, refusals, wire, wire::Contact};
use crate::{
    config::CrmComKey,
    crm::{
        Answer, Effect, Failure, FailureClass, Request,
        dialogue::stays_as_it_is,
        remote::{Compared, Held, One, Page, ReadStep, Reader, RemoteView, Walk},
    },
    event::ReasonCode,
};

const PHOTO: &str = "photo";
const PHOTO_FILE: &str = "photo_file";

/// Where the facts of a photo say that its file is.
const FILE_ADDRESS: &str = "file_content_url";
/// The file itself, which CRM.COM gives elsewhere.
const FILE: &str = "file_content";
/// Begins the path that the documents give all calls.
const API: &str = "crmapi";

impl CrmCom {
    /// What a success holds. `one`: a contact was named, and may be missing.
    fn data(&self, answer: &Answer, one: bool, sent: Option<&str>) -> Result<Value, Failure> {
        let failure = match self.refusals.read(answer) {
            Ok(Some(envelope)) => return Ok(envelope.data),
            Ok(None) => return Err(unreadable(answer)),
            Err(failure) => failure,
        };
        let is_built_in = !self.settings.code_classes.contains_key("NOT_FOUND");
        let class = match failure.class {
            FailureClass::Gone if !one && is_built_in => FailureClass::Rejected,
            class => class,
        };
        Err(refusals::told(Failure { class, ..failure }, answer, sent))
    }

    fn contact(&self, id: &str, answers: &[Answer]) -> Result<ReadStep<Held>, Failure> {
        let Some(answer) = answers.last() else { return Ok(ReadStep::Call(get(identified("show", id)))) };
        held(self.data(answer, true, None)?).map(ReadStep::Done).ok_or_else(|| unreadable(answer))
    }

    fn photo(&self, one: &One<'_>, answers: &[Answer]) -> Result<ReadStep<Held>, Failure> {
        let Some(answer) = answers.first() else {
            return Ok(ReadStep::Call(get(identified(photo::VIEW, one.id))));
        };
        let done = |document| Ok(ReadStep::Done(Held { id: Some(one.id.to_owned()), document }));
        let mut facts = match self.data(answer, true, None)? {
            Value::Object(facts) => facts,
            // It has none.
            Value::Null => return done(Value::Null),
            _ => return Err(unreadable(answer)),
        };
        let address = address_in(&mut facts);
        let Some(address) = address.filter(|_| one.view == PHOTO_FILE) else { return done(facts.into()) };
        if !address.starts_with('/') || address.starts_with("//") {
            // On another server, which is not to have the token.
            let reason = ReasonCode::Refused.into();
            let class = FailureClass::Connection;
            return Err(refusals::told(
                Failure { class, effect: Effect::None, reason, retry_after: None },
                answer,
                None,
            ));
        }
        let Some(file) = answers.get(1) else { return Ok(ReadStep::Call(self.file_at(&address))) };
        match (self.refusals.read(file), file) {
            (Err(failure), _) => Err(refusals::told(failure, file, None)),
            (Ok(None), Ok(response)) => {
                facts.insert(FILE.to_owned(), STANDARD.encode(&response.body).into());
                done(facts.into())
            }
            (Ok(_), _) => Err(unreadable(file)),
        }
    }

    fn file_at(&self, address: &str) -> Request {
        Request {
            headers: vec![(ACCEPT, HeaderValue::from_static("*/*"))],
            ..get(format!("{}{address}", self.to_server))
        }
    }

    fn list(&self, walk: &Walk<'_>, answers: &[Answer]) -> Result<ReadStep<Page>, Failure> {
        let offset = walk.at.unwrap_or_default();
        let Some(answer) = answers.last() else {
            let by = walk.by.map(|(key, value)| format!("{key}={}&", wire::escape(value))).unwrap_or_default();
            let size = self.settings.page_size;
            let paging = format!("number_of_results={size}&offset={offset}");
            let asked = if self.settings.send_paging { format!("{by}{paging}") } else { by };
            let path = format!("/contact_information/list?{}", asked.trim_end_matches('&'));
            return Ok(ReadStep::Call(get(path)));
        };
        if self.refusals.found_nothing(answer) {
            return Ok(ReadStep::Done(Page { items: Vec::new(), next: None, total: None }));
        }
        let items = match self.data(answer, false, walk.by.map(|(_, value)| value))? {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            _ => return Err(unreadable(answer)),
        };
        let items: Option<Vec<Held>> = items.into_iter().map(held).collect();
        let items = items.ok_or_else(|| unreadable(answer))?;
        let more = self.settings.send_paging && !items.is_empty();
        let next = more.then_some(offset + items.len() as u64);
        Ok(ReadStep::Done(Page { items, next, total: None }))
    }

    /// Whether a difference of this field is one that a delivery could close.
    fn is_kept_equal(&self, compared: &Compared<'_>, path: &str, expected: &Value) -> bool {
        if is_apart(path) {
            // A contact does not show its photo, and what it is to others is not said without their links.
            return false;
        }
        let is_said = compared.projection.fields.contains_key(path);
        is_said
            || !expected.is_null()
            || !stays_as_it_is(compared.record) && self.may_clear(path, compared.record, Some(compared.link))
    }
}

fn held(document: Value) -> Option<Held> {
    let id = document.as_object()?.get("id").and_then(wire::text_of);
    Some(Held { id, document })
}

/// Where the file of a photo is, without a token, which neither goes twice nor is printed.
fn address_in(facts: &mut Map<String, Value>) -> Option<String> {
    let address = facts.get(FILE_ADDRESS)?.as_str()?;
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let arguments: Vec<&str> =
        query.split('&').filter(|argument| !argument.is_empty() && !argument.starts_with("token=")).collect();
    let address = if arguments.is_empty() { path.to_owned() } else { format!("{path}?{}", arguments.join("&")) };
    facts.insert(FILE_ADDRESS.to_owned(), address.as_str().into());
    Some(address)
}

/// From the base URL up to the server: above the path that all calls have in common, or above all of it.
pub(super) fn to_server(base_url: &str) -> String {
    let after_scheme = base_url.split_once("://").map_or(base_url, |(_, rest)| rest);
    let segments: Vec<&str> = after_scheme.split('/').skip(1).filter(|segment| !segment.is_empty()).collect();
    let kept = segments.iter().rposition(|segment| *segment == API).unwrap_or_default();
    "/..".repeat(segments.len() - kept)
}

fn unreadable(answer: &Answer) -> Failure {
    let reason = ReasonCode::Refused.into();
    let failure = Failure { class: FailureClass::Transient, effect: Effect::None, reason, retry_after: None };
    refusals::told(failure, answer, None)
}

impl Reader for CrmCom {
    fn views(&self) -> &'static [RemoteView] {
        &[
            RemoteView { name: "contact", shows: "all that is shown of the contact", lists: true, shows_one: true },
            RemoteView { name: PHOTO, shows: "what is known of its profile photo", lists: false, shows_one: true },
            RemoteView { name: PHOTO_FILE, shows: "the same and the file, in base64", lists: false, shows_one: true },
        ]
    }

    fn keys(&self) -> &'static [&'static str] {
        const KEYS: [&str; 6] = [
            name_of(CrmComKey::EmailAddress),
            name_of(CrmComKey::PhoneNumber),
            name_of(CrmComKey::VatRegistrationNumber),
            name_of(CrmComKey::IdNumber),
            name_of(CrmComKey::PassportNumber),
            name_of(CrmComKey::SocialSecurityNumber),
        ];
        &KEYS
    }

    fn needs_key(&self) -> bool {
        true
    }

    fn one(&self, one: &One<'_>, answers: &[Answer]) -> ReadStep<Held> {
        let step = match one.view {
            PHOTO | PHOTO_FILE => self.photo(one, answers),
            _ => self.contact(one.id, answers),
        };
        step.unwrap_or_else(ReadStep::Failed)
    }

    fn page(&self, walk: &Walk<'_>, answers: &[Answer]) -> ReadStep<Page> {
        self.list(walk, answers).unwrap_or_else(ReadStep::Failed)
    }

    fn differences(&self, compared: &Compared<'_>, _answers: &[Answer]) -> ReadStep<BTreeSet<String>> {
        let Some(shown) = Contact::of(compared.held.document.clone()) else {
            let reason = ReasonCode::Refused.into();
            let class = FailureClass::Transient;
            return ReadStep::Failed(Failure { class, effect: Effect::None, reason, retry_after: None });
        };
        let theirs = shown.contact_type();
        let expected = compared.expected().into_iter().filter(|(path, expected)| {
            // A company has nothing that only persons have.
            let belongs = theirs.as_deref().is_none_or(|theirs| wire::belongs(path, theirs));
            belongs && self.is_kept_equal(compared, path, expected)
        });
        let differing = expected.filter(|(path, expected)| self.differs(&shown, path, expected));
        ReadStep::Done(differing.map(|(path, _)| path.to_owned()).collect())
    }
}
