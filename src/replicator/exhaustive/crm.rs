//! Two kinds of CRM with as little to them as matters: how they are spoken to, and what they hold.
//!
//! The *upsert* CRM sets fields by our own key, so that it makes a contact if there is none. The *create* CRM makes another contact each
//! time it is told to create, updates by its own id, and can be searched: by our reference, if it keeps one, or by the
//! contact's first field, as one searches by e-mail address, or by a mark that a contact bears until it is finished. A search
//! sees what has landed.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    contact::ContactRecord,
    crm::{
        Accepted, Answer, Connector, Delivery, Effect, Failure, FailureClass, LookUpKeys, Presence, Projection,
        REMOTE_CONTACT, Request, RequestKind, Response, Step, TransportError, Verdict, link::Link,
    },
    event::{Operation, OutcomeKind, ReasonCode},
};

pub(super) const FIELDS: [&str; 2] = ["mail", "name"];

/// What a record says, or what a contact holds, per field; 0: nothing.
pub(super) type Fields = [u8; FIELDS.len()];

/// A version that says that the CRM should not hold the contact.
pub(super) const ABSENT: Fields = [8; FIELDS.len()];

/// In the place of the last field: what a contact is found by that was created and is not finished.
const MARK: u8 = 6;

/// In a request: the field is not spoken of.
const UNTOUCHED: u8 = 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Upsert,
    /// Creates are found by our own reference, or only by the contact's first field.
    Create {
        planted: bool,
    },
    /// Creates with the first field alone and sets the rest by a second request; found by our own reference.
    Stepwise,
    /// Creates with the first field and a mark in the place of the second, which a second request overwrites; found by the
    /// mark.
    Marked,
}

/// Speaks to the small CRM. What a record says follows from its version alone.
#[derive(Debug)]
pub(super) struct SmallConnector {
    pub(super) kind: Kind,
    /// What each version says, from the first on.
    pub(super) contents: Vec<Fields>,
}

/// The contact of the world, as one CRM may hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Remote {
    #[default]
    Never,
    Held(Fields),
    Deleted,
}

/// Contacts that the CRM may hold, duplicates included: two are one too many.
pub(super) type Remotes = [Remote; 3];

/// An answer of the CRM, in a form that is small to remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Code {
    Ok,
    Created(u8),
    /// One bit for each contact found.
    Found(u8),
    Refused,
    /// The credential is refused; whether a renewal brought another.
    Unauthorized {
        renewed: bool,
    },
    Gone,
    ServerError,
    NotSent,
    Lost,
}

impl Code {
    pub(super) fn answer(self) -> Answer {
        let (status, body) = match self {
            Self::Lost => return Err(TransportError::Unanswered { reason: "reset".to_owned() }),
            Self::NotSent => return Err(TransportError::NotSent { reason: "no route".to_owned() }),
            Self::Ok => (200, Vec::new()),
            Self::Created(id) => (201, vec![id]),
            Self::Found(ids) => (200, (0..8).filter(|id| ids & 1 << id != 0).collect()),
            Self::Refused => (400, Vec::new()),
            Self::Unauthorized { .. } => (401, Vec::new()),
            Self::Gone => (410, Vec::new()),
            Self::ServerError => (500, Vec::new()),
        };
        let status = http::StatusCode::from_u16(status).expect("one of ours");
        Ok(Response { status, headers: http::HeaderMap::new(), body: body.into() })
    }
}

/// Lets a request take effect.
pub(super) fn apply(remotes: &mut Remotes, request: &Request) -> Code {
    let id = || request.path.strip_prefix("/contacts/").and_then(|id| id.parse::<usize>().ok()).expect("an id");
    match request.path.as_str() {
        "/upsert" => {
            let held = if let Remote::Held(held) = remotes[0] { held } else { Fields::default() };
            remotes[0] = Remote::Held(with(held, &request.body));
            Code::Ok
        }
        "/delete" => {
            if let Remote::Held(_) = remotes[0] {
                remotes[0] = Remote::Deleted;
            }
            Code::Ok
        }
        "/contacts" => {
            let new = remotes.iter().position(|remote| *remote == Remote::Never).expect("two break an invariant");
            remotes[new] = Remote::Held(with(Fields::default(), &request.body));
            Code::Created(u8::try_from(new).expect("few"))
        }
        "/search" => {
            let matches = |remote: &Remote| match (remote, request.body.first()) {
                (Remote::Held(held), Some(&MARK)) => held[1] == MARK,
                (Remote::Held(held), Some(mail)) => held[0] == *mail,
                (Remote::Held(_), None) => true,
                _ => false,
            };
            let found = remotes.iter().enumerate().filter(|(_, remote)| matches(remote));
            Code::Found(found.fold(0, |found, (id, _)| found | 1 << id))
        }
        _ => match &mut remotes[id()] {
            Remote::Held(held) => {
                *held = with(*held, &request.body);
                Code::Ok
            }
            Remote::Never | Remote::Deleted => Code::Gone,
        },
    }
}

/// What no version says.
const HAUNTED: u8 = 7;

/// What the CRM holds once a worker that was thought dead has written to the first contact, if that is possible. It had sent
/// no field that `link` does not know to have been sent; whom it brings back it may give all of them.
pub(super) fn haunted(kind: Kind, remotes: &Remotes, link: &Link) -> Option<Remotes> {
    let mut after = *remotes;
    after[0] =
        match (kind, after[0]) {
            (Kind::Upsert, Remote::Deleted) => Remote::Held([HAUNTED; FIELDS.len()]),
            (_, Remote::Held(held)) if !link.sent.is_empty() => Remote::Held(std::array::from_fn(|field| {
                if link.sent.contains_key(FIELDS[field]) { HAUNTED } else { held[field] }
            })),
            (_, _) => return None,
        };
    Some(after)
}

fn with(held: Fields, body: &[u8]) -> Fields {
    std::array::from_fn(|field| if body[field] == UNTOUCHED { held[field] } else { body[field] })
}

/// A request in words.
pub(super) fn describe(request: &Request) -> String {
    let said = |(field, value): (&&str, &u8)| match *value {
        UNTOUCHED => None,
        MARK => Some(format!("mark {field}")),
        0 => Some(format!("clear {field}")),
        value => Some(format!("{field}={value}")),
    };
    let said: Vec<_> = FIELDS.iter().zip(&request.body).filter_map(said).collect();
    format!("{} {} ({})", request.method, request.path, said.join(", "))
}

impl SmallConnector {
    fn write(&self, delivery: &Delivery<'_>, only_changes: bool) -> Bytes {
        let mut body = FIELDS.map(|field| {
            let said = delivery.projection.fields.get(field).and_then(Value::as_u64);
            let is_change = delivery.changes.iter().any(|change| **change == *field);
            match said {
                Some(value) if is_change || !only_changes => u8::try_from(value).expect("small"),
                None if delivery.clears.iter().any(|clear| clear == field) => 0,
                _ => UNTOUCHED,
            }
        });
        if delivery.link.is_some_and(|link| link.incomplete) && body[1] == UNTOUCHED {
            body[1] = 0;
        }
        Bytes::copy_from_slice(&body)
    }

    /// What a create carries.
    fn first(&self, delivery: &Delivery<'_>) -> Bytes {
        let whole = self.write(delivery, false);
        match self.kind {
            Kind::Upsert | Kind::Create { .. } => whole,
            Kind::Stepwise => Bytes::copy_from_slice(&[whole[0], UNTOUCHED]),
            Kind::Marked => Bytes::copy_from_slice(&[whole[0], MARK]),
        }
    }

    /// What follows a create that carried the first field alone.
    fn second(&self, delivery: &Delivery<'_>, answers: &[Answer], last: &Answer) -> Step {
        let [Ok(created), rest @ ..] = answers else { return conclude(last, |_| unreachable!("it failed")) };
        if !created.status.is_success() {
            return conclude(last, |_| unreachable!("it failed"));
        }
        let id = created.body[0].to_string();
        match rest {
            [] => Step::Call(request("/contacts/", Some(&id), self.write(delivery, false), RequestKind::Set)),
            _ => conclude(last, |_| accepted(Operation::Create, id)),
        }
    }

    fn create_or_update(&self, delivery: &Delivery<'_>, answers: &[Answer]) -> Step {
        let known = delivery.link.and_then(|link| link.remote_ids.get(REMOTE_CONTACT));
        if let Some(id) = known {
            return match answers.last() {
                None => Step::Call(request("/contacts/", Some(id), self.write(delivery, true), RequestKind::Set)),
                Some(answer) => conclude(answer, |_| accepted(delivery.operation, id.clone())),
            };
        }
        let (found, rest) = match (delivery.look_up, answers) {
            (None, rest) => (Vec::new(), rest),
            (Some(keys), []) => {
                let mail = keys.values.get("mail").filter(|_| !keys.planted);
                let mail = mail.map(|mail| mail.parse::<u8>().expect("small"));
                let mail = mail.or((self.kind == Kind::Marked).then_some(MARK)).into_iter().collect();
                return Step::Call(request("/search", None, mail, RequestKind::Read));
            }
            (Some(_), [search, rest @ ..]) => match search {
                Ok(response) if response.status.is_success() => (response.body.to_vec(), rest),
                failed => return conclude(failed, |_| unreachable!("it failed")),
            },
        };
        let contact = |id: String| BTreeMap::from([(REMOTE_CONTACT.to_owned(), id)]);
        match (found.as_slice(), rest.last()) {
            ([id], _) if self.kind == Kind::Marked => Step::Created(contact(id.to_string())),
            ([id], _) if self.kind != (Kind::Create { planted: true }) => Step::Found(contact(id.to_string())),
            ([], None) => Step::Call(request("/contacts", None, self.first(delivery), RequestKind::Create)),
            ([], Some(answer)) if self.kind == Kind::Stepwise => self.second(delivery, rest, answer),
            ([], Some(answer)) if self.kind == Kind::Marked => {
                match conclude(answer, |body| accepted(Operation::Create, body[0].to_string())) {
                    Step::Done(Accepted { remote_ids, .. }) => Step::Created(remote_ids),
                    step => step,
                }
            }
            ([], Some(answer)) => conclude(answer, |body| accepted(Operation::Create, body[0].to_string())),
            ([id], None) => {
                Step::Call(request("/contacts/", Some(&id.to_string()), self.write(delivery, false), RequestKind::Set))
            }
            ([id], Some(answer)) => conclude(answer, |_| accepted(Operation::Adopt, id.to_string())),
            (_, _) => Step::Judged(Verdict::new(OutcomeKind::Rejected, ReasonCode::AmbiguousMatch)),
        }
    }
}

fn request(path: &str, id: Option<&str>, body: Bytes, kind: RequestKind) -> Request {
    let path = format!("{path}{}", id.unwrap_or_default());
    Request { method: http::Method::POST, path, headers: Vec::new(), body, kind }
}

fn accepted(operation: Operation, id: String) -> Accepted {
    Accepted { operation, remote_ids: BTreeMap::from([(REMOTE_CONTACT.to_owned(), id)]) }
}

fn conclude(answer: &Answer, done: impl FnOnce(&[u8]) -> Accepted) -> Step {
    let (class, effect) = match answer {
        Ok(response) if response.status.is_success() => return Step::Done(done(&response.body)),
        Ok(response) if response.status == http::StatusCode::GONE => (FailureClass::Gone, Effect::None),
        Ok(response) if response.status == http::StatusCode::UNAUTHORIZED => (FailureClass::Auth, Effect::None),
        Ok(response) if response.status.is_client_error() => (FailureClass::Rejected, Effect::None),
        Err(TransportError::NotSent { .. }) => (FailureClass::Transient, Effect::None),
        Ok(_) | Err(_) => (FailureClass::Transient, Effect::Unknown),
    };
    Step::Failed(Failure { class, effect, reason: ReasonCode::Refused.into(), retry_after: None })
}

impl Connector for SmallConnector {
    fn project(&self, record: &ContactRecord, _: Option<&Link>) -> Result<Projection, Verdict> {
        let said = self.contents[usize::try_from(record.version).expect("small") - 1];
        let fields = FIELDS.iter().zip(said).filter(|(_, value)| *value != 0 && said != ABSENT);
        Ok(Projection {
            fields: fields.map(|(field, value)| ((*field).to_owned(), json!(value))).collect(),
            presence: if said == ABSENT { Presence::Absent } else { Presence::Active },
            losses: Vec::new(),
        })
    }

    fn fields(&self) -> Vec<String> {
        FIELDS.map(ToOwned::to_owned).to_vec()
    }

    fn look_up_keys(&self, _: &ContactRecord, projection: &Projection) -> Option<LookUpKeys> {
        let planted = match self.kind {
            Kind::Upsert => return None,
            Kind::Create { planted } => planted,
            Kind::Stepwise | Kind::Marked => true,
        };
        let mail = projection.fields.get("mail").filter(|_| !planted);
        let (key, value) = mail.map_or(("reference", "ours".to_owned()), |mail| ("mail", mail.to_string()));
        Some(LookUpKeys { values: BTreeMap::from([(key.to_owned(), value)]), planted })
    }

    fn next(&self, delivery: &Delivery<'_>, answers: &[Answer]) -> Step {
        match (self.kind, answers.last()) {
            (Kind::Create { .. } | Kind::Stepwise | Kind::Marked, _) => self.create_or_update(delivery, answers),
            (Kind::Upsert, None) if delivery.projection.presence == Presence::Absent => {
                let body = Bytes::copy_from_slice(&[UNTOUCHED; FIELDS.len()]);
                Step::Call(request("/delete", None, body, RequestKind::Set))
            }
            (Kind::Upsert, None) => Step::Call(request("/upsert", None, self.write(delivery, false), RequestKind::Set)),
            (Kind::Upsert, Some(answer)) => conclude(answer, |_| accepted(delivery.operation, "0".to_owned())),
        }
    }
}
