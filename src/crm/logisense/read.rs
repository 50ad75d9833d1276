//! What LogiSense holds, read back: one contact or all of them, bare or with their points and address.
//!
//! What differs is what a delivery would send if nothing were known of the contact: the same plan, made of what was read. So
//! what cannot be sent (a state that is not in the tenant's list, a second point of a type with room for one) is no difference,
//! and an address that stands on several contacts is compared as it stands on this one.

use std::{collections::BTreeSet, sync::Arc};

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{
    About, CODE_MAX, Logisense, body_of,
    conversation::Conversation,
    wire::{self, Contact},
};
use crate::{
    crm::{
        Answer, Delivery, Effect, Failure, FailureClass, RequestKind, Step,
        dialogue::unreadable,
        link::Sent,
        remote::{Compared, Held, One, Page, ReadStep, Reader, RemoteView, Walk},
    },
    event::{Operation, ReasonCode},
};

const DETAIL: &str = "detail";
const CONTACT: &str = "contact";
const ALL: &str = "all";

impl Logisense {
    fn get<T>(&self, rest: &str) -> ReadStep<T> {
        ReadStep::Call(self.request(Method::GET, rest, None, RequestKind::Read))
    }

    /// Why nothing was read, with the tracking id in the log.
    fn unread(&self, answer: &Answer, about: About) -> Option<Failure> {
        let (mut failure, said) = self.classified(answer, about)?;
        // Nothing of a contact was sent that a code could quote.
        failure.reason.crm_code = said.code.filter(|code| *code <= CODE_MAX).map(|code| code.to_string());
        let tracking_id = said.tracking_id.as_deref().unwrap_or_default();
        tracing::debug!(crm = %self.crm, tracking_id, "LogiSense refused a read");
        Some(failure)
    }

    fn instance(&self, answer: &Answer) -> Result<Held, Failure> {
        self.unread(answer, About::Linked).map_or(Ok(()), Err)?;
        let gone = || {
            let (class, effect) = (FailureClass::Gone, Effect::None);
            Failure { class, effect, reason: ReasonCode::Gone.into(), retry_after: None }
        };
        let document: Option<Value> =
            wire::instance(body_of(answer)).ok_or_else(|| unreadable(answer, Effect::None))?;
        held(document.ok_or_else(gone)?).ok_or_else(|| unreadable(answer, Effect::None))
    }

    fn listed(&self, answer: &Answer, at: Option<u64>) -> Result<Page, Failure> {
        self.unread(answer, About::Tenant).map_or(Ok(()), Err)?;
        let body = body_of(answer);
        let read: Option<wire::Page<Value>> = if at.is_some() { wire::page(body) } else { wire::all(body) };
        let wire::Page { total_count, items } = read.ok_or_else(|| unreadable(answer, Effect::None))?;
        let size = wire::page_size(body).unwrap_or(self.settings.page_size.into());
        let items: Option<Vec<Held>> = items.into_iter().map(held).collect();
        let items = items.ok_or_else(|| unreadable(answer, Effect::None))?;
        let is_last =
            |number: u64| items.is_empty() || total_count.is_some_and(|total| number.saturating_mul(size) >= total);
        let next = at.filter(|number| !is_last(*number)).map(|number| number + 1);
        Ok(Page { next, total: total_count, items })
    }
}

fn held(document: Value) -> Option<Held> {
    let id = document.as_object()?.get("identity")?.as_u64()?.to_string();
    Some(Held { id: Some(id), document })
}

impl Reader for Logisense {
    fn views(&self) -> &'static [RemoteView] {
        &[
            RemoteView { name: DETAIL, shows: "the contact, its points and its address", lists: true, shows_one: true },
            RemoteView { name: CONTACT, shows: "the contact alone", lists: true, shows_one: true },
            RemoteView { name: ALL, shows: "the contacts alone, in one answer", lists: true, shows_one: false },
        ]
    }

    fn keys(&self) -> &'static [&'static str] {
        &[]
    }

    fn one(&self, one: &One<'_>, answers: &[Answer]) -> ReadStep<Held> {
        let Some(answer) = answers.last() else {
            let id = utf8_percent_encode(one.id, NON_ALPHANUMERIC);
            return self.get(&if one.view == DETAIL {
                format!("Contact/{id}/Detail")
            } else {
                format!("Contact/{id}")
            });
        };
        self.instance(answer).map_or_else(ReadStep::Failed, ReadStep::Done)
    }

    fn page(&self, walk: &Walk<'_>, answers: &[Answer]) -> ReadStep<Page> {
        let at = (walk.view != ALL).then(|| walk.at.unwrap_or(1));
        let Some(answer) = answers.last() else {
            let paged = if walk.view == DETAIL { "Contact/Paged/Detail" } else { "Contact/Paged" };
            return self.get(&at.map_or_else(|| "Contact/".to_owned(), |page| self.page_path(paged, page)));
        };
        self.listed(answer, at).map_or_else(ReadStep::Failed, ReadStep::Done)
    }

    fn differences(&self, compared: &Compared<'_>, answers: &[Answer]) -> ReadStep<BTreeSet<String>> {
        let failed =
            |class, reason| ReadStep::Failed(Failure { class, effect: Effect::None, reason, retry_after: None });
        let Ok(there) = serde_json::from_value::<Contact>(compared.held.document.clone()) else {
            return failed(FailureClass::Transient, ReasonCode::Refused.into());
        };
        let Compared { record, projection, references, .. } = *compared;
        let mut link = compared.link.clone();
        link.sent.values_mut().for_each(|sent| *sent = Sent::Void);
        let changes: Vec<Arc<str>> = projection.fields.keys().map(|path| path.as_str().into()).collect();
        let gone = link.sent.keys().filter(|path| !projection.fields.contains_key(&***path));
        let clears: Vec<String> = gone.map(|path| path.to_string()).collect();
        let delivery = Delivery {
            record,
            link: Some(&link),
            projection,
            changes: &changes,
            clears: &clears,
            operation: Operation::Update,
            look_up: None,
            references,
            tries: 0,
        };
        match Conversation::new(self, &delivery, answers).differences(&there) {
            Ok(fields) => ReadStep::Done(fields),
            Err(step) => match *step {
                Step::Call(request) => ReadStep::Call(request),
                Step::Learned(learned) => ReadStep::Learned(learned),
                Step::Failed(failure) => ReadStep::Failed(failure),
                // The tenant no longer has what the record names.
                Step::Judged(verdict) => failed(FailureClass::Rejected, verdict.reason),
                step => unreachable!("a comparison looks into lists, and does no more: {step:?}"),
            },
        }
    }
}
