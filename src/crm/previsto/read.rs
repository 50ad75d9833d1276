//! What Previsto holds, read back: one contact by its id, and lists whose pages count from zero and end with an empty one.
//!
//! The order of a list is not documented, and contacts that come or go shift it, so a walk goes on until a page is empty,
//! however many contacts the page before it had.
//!
//! `location` is never compared: Previsto derives one from the address, also where none was sent. Telephone numbers and
//! e-mail addresses are compared as what they mean.

use std::collections::BTreeSet;

use http::Method;
use serde_json::Value;

use super::{About, CONTACTS, Previsto, body_of, wire, written};
use crate::{
    config::FormClear,
    crm::{
        Answer, Effect, Failure, FailureClass, RequestKind,
        remote::{Compared, Held, One, Page, ReadStep, Reader, RemoteView, Walk, plain},
    },
    event::{Reason, ReasonCode},
};

/// What a list is narrowed by.
const SEARCH: &str = "search";
/// A longitude, a comma and a latitude: the nearest first.
const NEARBY: &str = "nearby";

impl Previsto {
    fn get<T>(&self, path: String) -> ReadStep<T> {
        ReadStep::Call(self.request(Method::GET, path, None, RequestKind::Read))
    }

    fn unread<T>(&self, answer: &Answer, about: About) -> Option<ReadStep<T>> {
        let (mut failure, said) = self.classified(answer, about)?;
        // Nothing of a contact was sent that a code could quote; an id is no value.
        failure.reason.crm_code = said.kind.and_then(|kind| crate::crm::classify::crm_code(&kind, std::iter::empty()));
        Some(ReadStep::Failed(failure))
    }

    fn differs(&self, compared: &Compared<'_>, path: &str, expected: &Value) -> bool {
        let document = &compared.held.document;
        let actual = match wire::meta_key(path) {
            Some(key) => document.get("meta").and_then(|meta| meta.get(key)),
            None => document.get(path),
        };
        let (expected, actual) = (plain(Some(expected)), plain(actual));
        match (path, &expected, &actual) {
            // A flag that is not set is shown as one that is not.
            (_, None, Some(text)) if wire::is_flag(path) => text != "false",
            (wire::PHONE, Some(one), Some(other)) => !same(one, other, written::phone),
            (wire::EMAIL, Some(one), Some(other)) => !same(one, other, written::email),
            (_, _, _) => expected != actual,
        }
    }

    /// Whether a difference of this field is one that a delivery could close.
    fn is_kept_equal(&self, compared: &Compared<'_>, path: &str, expected: &Value) -> bool {
        let is_said = compared.projection.fields.contains_key(path);
        match path {
            wire::LOCATION => false,
            wire::ARCHIVED => self.settings.archived_on_update,
            _ if !expected.is_null() => true,
            _ => self.forms.clear != FormClear::Omit && (is_said || self.may_clear(path, compared.record)),
        }
    }
}

/// Whether two texts mean the same; what means nothing is compared as it stands.
fn same(one: &str, other: &str, meaning: fn(&str) -> Option<String>) -> bool {
    match (meaning(one), meaning(other)) {
        (Some(one), Some(other)) => one == other,
        (_, _) => one == other,
    }
}

fn unreadable<T>(answer: &Answer) -> ReadStep<T> {
    let http_status = answer.as_ref().ok().map(|response| response.status.as_u16());
    let reason = Reason { http_status, ..ReasonCode::Refused.into() };
    ReadStep::Failed(Failure { class: FailureClass::Transient, effect: Effect::None, reason, retry_after: None })
}

fn held(document: Value) -> Option<Held> {
    let id = document.as_object()?.get("id").and_then(wire::text_of);
    Some(Held { id, document })
}

impl Reader for Previsto {
    fn views(&self) -> &'static [RemoteView] {
        &[RemoteView { name: "contact", shows: "all fields of the contact", lists: true, shows_one: true }]
    }

    fn keys(&self) -> &'static [&'static str] {
        &[SEARCH, NEARBY]
    }

    fn one(&self, one: &One<'_>, answers: &[Answer]) -> ReadStep<Held> {
        let Some(answer) = answers.last() else {
            return self.get(format!("{CONTACTS}/{}", wire::escape(one.id)));
        };
        if let Some(failed) = self.unread(answer, About::Linked) {
            return failed;
        }
        let held = serde_json::from_slice(body_of(answer)).ok().and_then(held);
        held.map_or_else(|| unreadable(answer), ReadStep::Done)
    }

    fn page(&self, walk: &Walk<'_>, answers: &[Answer]) -> ReadStep<Page> {
        let page = walk.at.unwrap_or_default();
        let Some(answer) = answers.last() else {
            let by = walk.by.map(|(key, value)| format!("&{key}={}", wire::escape(value))).unwrap_or_default();
            return self.get(format!("{CONTACTS}?size={}&page={page}{by}", self.settings.page_size));
        };
        if let Some(failed) = self.unread(answer, About::Contacts) {
            return failed;
        }
        let items: Option<Vec<Value>> = serde_json::from_slice(body_of(answer)).ok();
        let items: Option<Vec<Held>> = items.and_then(|items| items.into_iter().map(held).collect());
        let Some(items) = items else { return unreadable(answer) };
        let next = (!items.is_empty()).then_some(page + 1);
        let total = answer.as_ref().ok().and_then(|response| response.headers.get("x-total-count"));
        let total = total.and_then(|total| total.to_str().ok()?.trim().parse().ok());
        ReadStep::Done(Page { items, next, total })
    }

    fn differences(&self, compared: &Compared<'_>, _answers: &[Answer]) -> ReadStep<BTreeSet<String>> {
        let only_said = super::stays_as_it_is(compared.record);
        let expected = compared.expected().into_iter();
        let expected = expected.filter(|(path, _)| !only_said || compared.projection.fields.contains_key(*path));
        let differing = expected.filter(|(path, expected)| {
            self.is_kept_equal(compared, path, expected) && self.differs(compared, path, expected)
        });
        ReadStep::Done(differing.map(|(path, _)| path.to_owned()).collect())
    }
}
