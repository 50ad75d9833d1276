//! A CRM that nobody sells, to show how little a connector is.
//!
//! It has a REST API in JSON with a static token: `POST /people`, `PATCH` and `DELETE /people/{id}`, where `null` clears a
//! member, and `GET /people?number=…`, which finds people by a number of ours. There is no upsert, so a create is preceded
//! by the search for our number, by which one whose answer was lost is found again.
//!
//! A real connector has the same parts, each in a file of its own once it grows: the names on the wire, the mapping, the
//! conversation, the classes of failures, and the session.

mod people;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

pub(crate) use self::people::People;
use super::{
    Answer, Connector, Delivery, Effect, Failure, FailureClass, Field, LookUpKeys, Loss, NotSettable, Presence,
    Projection, REMOTE_CONTACT, Request, RequestKind, SetupError, Step, Takes, Verdict, classify,
    classify::StatusClasses,
    dialogue::{
        Answers, Heard, ambiguous, body_of, changed, done, failed, json_request, judged, remote_ids, unknown_contact,
        unreadable, without_clears,
    },
    draft::{Draft, why::NO_FIELD},
    link::Link,
    reading::{Items, member_text},
    session::{SecretSource, SessionError, placement::Placement, static_token::StaticToken},
};
use crate::{
    config::{CrmSettings, OnDelete, OnErase},
    contact::{ContactRecord, record::Status},
    event::{Operation, OutcomeKind, ReasonCode},
};

// The wire.

const NUMBER: &str = "number";
const NAME: &str = "name";
const EMAIL: &str = "email";
const NOTES: &str = "notes";
const NEWSLETTER: &str = "newsletter";
const CLEARABLE: [&str; 4] = [NAME, EMAIL, NOTES, NEWSLETTER];

/// The ids of all people in an answer; `None` if it is none of theirs.
fn ids(answer: &Answer) -> Option<Vec<String>> {
    let said: Value = serde_json::from_slice(body_of(answer)).ok()?;
    let people = said.as_array().cloned().unwrap_or_else(|| vec![said]);
    people.iter().map(|person| person["id"].as_u64().map(|id| id.to_string())).collect()
}

fn body(fields: &BTreeMap<String, Value>) -> Option<Bytes> {
    Some(json!(fields).to_string().into())
}

// The mapping.

/// Attributes that a person there has no member for.
const NOWHERE: &[&str] = &[
    "/phoneNumbers",
    "/addresses",
    "/organization",
    "/birthDate",
    "/gender",
    "/preferredLanguage",
    "/consent/dataProcessing",
    "/active",
    "/identifiers",
    "/owner",
    "/photos",
    "/relations",
    "/attributes",
];

impl Draft<'_, Rolodex> {
    fn all(&mut self) {
        let full = ["/name/formatted"];
        let parts = ["/name/givenName", "/name/familyName"];
        let words =
            |pointers: &[&str]| pointers.iter().filter_map(|part| self.words(part)).collect::<Vec<_>>().join(" ");
        let name = [words(&full), words(&parts)].into_iter().find(|name| !name.is_empty());
        if let Some(name) = name {
            self.set(NAME, name);
        }
        let emails = Items::of(self.document, "/emails", |item| member_text(item, "value").is_some());
        match emails.first(|_| true).and_then(|item| member_text(item, "value")) {
            Some(email) => self.set(EMAIL, email),
            None if emails.are_empty => self.clear(EMAIL),
            None => {}
        }
        if emails.count() > 1 {
            self.lose("/emails/value", "room for one only");
        }
        self.say(NOTES, self.text("/notes"));
        self.say_consent(NEWSLETTER, "/consent/marketing");
        self.lose_each_said(NOWHERE, NO_FIELD);
    }
}

// The connector.

#[derive(Debug)]
pub(crate) struct Rolodex {
    on_delete: OnDelete,
    on_erase: OnErase,
    status_classes: StatusClasses,
}

/// The session of one tenant: a bearer token that is configured.
pub(crate) fn session(token: SecretSource) -> Result<StaticToken, SessionError> {
    StaticToken::new(token, Placement::bearer())
}

impl Rolodex {
    pub(crate) fn new(crm: &CrmSettings, classes: &BTreeMap<String, FailureClass>) -> Result<Self, SetupError> {
        let status_classes = StatusClasses::parse(classes)?;
        Ok(Self { on_delete: crm.on_delete, on_erase: crm.on_erase, status_classes })
    }

    /// Nothing but our number, which tells nobody anything.
    fn blank(record: &ContactRecord) -> Projection {
        let mut fields: BTreeMap<_, _> = CLEARABLE.map(|name| (name.to_owned(), Value::Null)).into();
        fields.extend(Self::number(record));
        Projection { fields, presence: Presence::Inactive, losses: Vec::new() }
    }

    fn number(record: &ContactRecord) -> BTreeMap<String, Value> {
        BTreeMap::from([(NUMBER.to_owned(), record.contact_id.key().into())])
    }
}

impl Connector for Rolodex {
    fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        match record.status {
            Status::Live => {
                let mut draft = Draft::new(self, record, Self::number(record));
                draft.all();
                Ok(draft.finish(Presence::Active))
            }
            _ if !link.is_some_and(Link::may_be_held) => Err(Verdict::never_sent()),
            Status::Deleted | Status::Merged => match self.on_delete {
                OnDelete::Keep => Err(Verdict::kept()),
                OnDelete::Delete => Ok(Projection::absent()),
                OnDelete::Deactivate => Err(Verdict::unsupported(ReasonCode::Deactivate)),
            },
            Status::Erased => match self.on_erase {
                OnErase::Keep => Err(Verdict::kept()),
                OnErase::Delete => Ok(Projection::absent()),
                OnErase::Blank => Ok(Self::blank(record)),
            },
        }
    }

    fn fields(&self) -> Vec<String> {
        CLEARABLE.map(str::to_owned).to_vec()
    }

    fn field(&self, name: &str) -> Result<Field, NotSettable> {
        match name {
            NUMBER => Err(NotSettable::Reference),
            NEWSLETTER => Ok(Field::optional(Takes::Boolean)),
            NAME | EMAIL | NOTES => Ok(Field::optional(Takes::Text)),
            _ => Err(NotSettable::Unknown),
        }
    }

    fn cannot_carry(&self) -> Vec<Loss> {
        NOWHERE.iter().map(|field| Loss { field, why: NO_FIELD }).collect()
    }

    fn consent_field(&self, pointer: &str) -> Option<String> {
        (pointer == "/consent/marketing").then(|| NEWSLETTER.to_owned())
    }

    fn look_up_keys(&self, record: &ContactRecord, _projection: &Projection) -> Option<LookUpKeys> {
        Some(LookUpKeys { values: [(NUMBER.to_owned(), record.contact_id.key())].into(), planted: true })
    }

    fn next(&self, delivery: &Delivery<'_>, answers: &[Answer]) -> Step {
        let conversation = Conversation { rolodex: self, delivery, answers: Answers::new(answers) };
        conversation.run().unwrap_or_else(|step| *step)
    }
}

// The conversation.

struct Conversation<'a> {
    rolodex: &'a Rolodex,
    delivery: &'a Delivery<'a>,
    answers: Answers<'a>,
}

impl Conversation<'_> {
    fn run(mut self) -> Heard<Step> {
        let delivery = self.delivery;
        let known = delivery.link.and_then(|link| link.remote_ids.get(REMOTE_CONTACT));
        let is_live = delivery.record.status == Status::Live;
        let Some(id) = known else {
            let is_new = is_live && delivery.look_up.is_none();
            return match if is_new { None } else { self.find()? } {
                // Committed before anything is sent to it.
                Some(id) => Ok(Step::Found(remote_ids(id))),
                None if is_live => self.create(),
                None => unknown_contact(),
            };
        };
        if delivery.projection.presence == Presence::Absent {
            self.delete(id)?
        } else {
            self.update(id)?
        }
        Ok(done(delivery, remote_ids(id)))
    }

    fn find(&mut self) -> Heard<Option<String>> {
        let path = format!("/people?number={}", self.delivery.record.contact_id.key());
        let answer = self.answers.to(json_request(Method::GET, path, None, RequestKind::Read))?;
        self.succeed(answer, false)?;
        match ids(answer).as_deref() {
            Some([]) => Ok(None),
            Some([id]) => Ok(Some(id.clone())),
            Some(_) => ambiguous(),
            None => failed(unreadable(answer, Effect::None)),
        }
    }

    fn create(&mut self) -> Heard<Step> {
        let body = body(&without_clears(&self.delivery.projection.fields));
        let answer = self.answers.to(json_request(Method::POST, "/people".into(), body, RequestKind::Create))?;
        self.succeed(answer, false)?;
        match ids(answer).as_deref() {
            Some([id]) => {
                let (operation, remote_ids) = (Operation::Create, remote_ids(id));
                Ok(Step::Done(super::Accepted { operation, remote_ids }))
            }
            _ => failed(unreadable(answer, Effect::Unknown)),
        }
    }

    fn update(&mut self, id: &str) -> Heard<()> {
        let said = &self.delivery.projection.fields;
        let gone = self.delivery.clears.iter().filter(|path| !said.contains_key(*path));
        let mut fields = changed(self.delivery);
        fields.extend(gone.map(|path| (path.clone(), Value::Null)));
        if fields.is_empty() {
            return judged(Verdict::new(OutcomeKind::Unchanged, ReasonCode::SameProjection));
        }
        let request = json_request(Method::PATCH, format!("/people/{id}"), body(&fields), RequestKind::Set);
        let answer = self.answers.to(request)?;
        self.succeed(answer, true)
    }

    fn delete(&mut self, id: &str) -> Heard<()> {
        let request: Request = json_request(Method::DELETE, format!("/people/{id}"), None, RequestKind::Set);
        let answer = self.answers.to(request)?;
        let is_gone = answer.as_ref().is_ok_and(|response| response.status == StatusCode::NOT_FOUND);
        if is_gone { Ok(()) } else { self.succeed(answer, true) }
    }

    /// Whether an answer is a success. That there is no such person says so of the one that the link names only.
    fn succeed(&self, answer: &Answer, is_about_linked: bool) -> Heard<()> {
        let Some(failure) = classify::failure(answer, &self.rolodex.status_classes) else { return Ok(()) };
        let is_gone = is_about_linked && failure.reason.http_status == Some(404);
        let class = if is_gone { FailureClass::Gone } else { failure.class };
        failed(Failure { class, ..failure })
    }
}

#[cfg(test)]
mod tests;
