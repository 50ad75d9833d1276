//! LogiSense Billing: a bare contact by one request, all that belongs to it by a second.
//!
//! There is no upsert, nothing is unique, and a create takes neither contact points nor an address. What must not happen
//! is that the first request is answered to nobody and its half contact forgotten: it is sent with our contact id for a
//! title, by which it is found again, and its id is committed ([`Step::Created`]) before the second request replaces that
//! title by the real one. Whatever is not certain then, because an answer was lost, is read before anything is sent.
//!
//! A contact that was there before us is adopted only where our reference can be put on it for good, as a contact point of a
//! type that the tenant has for that. Elsewhere nothing would tell an adopted contact from one that is nobody's.
//!
//! Types, countries and states are numbers that each tenant has its own of: `lists` looks them up. Which changes the
//! children need is decided in `children`; the requests of a delivery, one after the other, are in `conversation`.
//!
//! What LogiSense does not document is a setting; see [`LogisenseSettings`].

mod children;
mod conversation;
mod fields;
mod lists;
mod login;
mod mapping;
mod read;
mod wire;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use self::{
    conversation::Conversation,
    lists::Lists,
    mapping::Mapping,
    wire::{PointKind, Said},
};
use super::{
    Answer, Connector, Delivery, Effect, Failure, FailureClass, Field, LookUpKeys, Loss, NotSettable, Projection,
    Request, RequestKind, SetupError, Step, Verdict, classify,
    classify::StatusClasses,
    dialogue::{body_of, json_request},
    link::Link,
    naming::Naming,
    reference::References,
    remote::{NoReader, Reader},
    session::{
        SecretSource,
        login::{LoginSession, LoginTerms},
        placement::Placement,
    },
};
use crate::{
    config::{Adopt, CreateMarker, CrmSettings, LogisenseSettings},
    contact::{ContactRecord, record::Status},
    event::{Reason, ReasonCode},
};

/// The connector of one tenant.
#[derive(Debug)]
pub struct Logisense {
    crm: Arc<str>,
    settings: LogisenseSettings,
    adopt: Adopt,
    mapping: Mapping,
    status_classes: StatusClasses,
}

// By what a contact is looked for.
const BY_TITLE: &str = "title";
const BY_REFERENCE: &str = "reference";
const BY_FIRST_NAME: &str = "firstName";
const BY_LAST_NAME: &str = "lastName";
const BY_EMAIL: &str = "email";
const BY_PHONE: &str = "phone";

impl Logisense {
    pub fn new(crm: &CrmSettings) -> Result<Self, SetupError> {
        let settings = section(crm)?.clone();
        Ok(Self {
            crm: crm.name.clone(),
            // Who cannot be marked as ours would be taken for another's next: two of ours would write to one contact.
            adopt: if settings.contact_points.reference.is_empty() { Adopt::Never } else { crm.adopt },
            mapping: Mapping::new(&settings, crm.on_delete, crm.on_erase),
            status_classes: StatusClasses::parse(&settings.status_classes)?,
            settings,
        })
    }

    fn lists<'a>(&'a self, references: &'a References) -> Lists<'a> {
        Lists { settings: &self.settings, references }
    }

    fn marks_creates(&self) -> bool {
        self.settings.create_marker == CreateMarker::Title
    }

    /// What a contact of `record` can be found by, with `fields` as they are sent.
    ///
    /// The marker alone makes creates safe to find: a reference among the contact points comes with the second request.
    fn keys(&self, record: &ContactRecord, fields: &BTreeMap<String, Value>) -> LookUpKeys {
        let planted = self.marks_creates();
        let ours = [(BY_TITLE, planted), (BY_REFERENCE, !self.settings.contact_points.reference.is_empty())];
        let ours = ours.into_iter().filter(|(_, is_there)| *is_there).map(|(key, _)| (key, record.contact_id.key()));
        let mut values: BTreeMap<String, String> = ours.map(|(key, value)| (key.to_owned(), value)).collect();
        let is_marked = !self.settings.contact_points.reference.is_empty();
        if !planted || is_marked || self.adopt == Adopt::ByKey {
            let text = |path: &str| fields.get(path).and_then(Value::as_str).map(str::to_owned);
            let phone = [PointKind::Mobile, PointKind::Work, PointKind::Home];
            let phone = phone.into_iter().find_map(|kind| text(&kind.path(1)));
            for (key, value) in [
                (BY_FIRST_NAME, text(wire::FIRST_NAME)),
                (BY_LAST_NAME, text(wire::LAST_NAME)),
                (BY_EMAIL, text(&PointKind::Email.path(1))),
                (BY_PHONE, phone),
            ] {
                values.extend(value.map(|value| (key.to_owned(), value)));
            }
        }
        LookUpKeys { values, planted }
    }

    fn may_clear(&self, path: &str, record: &ContactRecord) -> bool {
        let kept = self.settings.never_cleared.contains(path) && record.status != Status::Erased;
        // The points of an older `points_max` go too.
        let fixed = PointKind::of(path).is_none() && !wire::clearable(0).any(|clearable| clearable == path);
        !kept && !fixed
    }

    /// A request to the resource server.
    fn request(&self, method: Method, rest: &str, body: Option<Bytes>, kind: RequestKind) -> Request {
        json_request(method, format!("{}/{rest}", self.settings.resource_path), body, kind)
    }

    /// Where one page of the contacts is, of those counted from 1.
    fn page_path(&self, paged: &str, page: u64) -> String {
        let settings = &self.settings;
        let number = page.saturating_sub(1) + u64::from(settings.first_page);
        let arguments = [
            (&settings.page_number_argument, number.to_string()),
            (&settings.page_size_argument, settings.page_size.to_string()),
            (&settings.exclude_total_argument, "false".to_owned()),
        ];
        let said = arguments.into_iter().filter(|(name, _)| !name.is_empty());
        let said: Vec<String> = said.map(|(name, value)| format!("{name}={value}")).collect();
        format!("{paged}?{}", said.join("&"))
    }

    /// Why an answer is not a success.
    fn failure(&self, answer: &Answer, about: About, delivery: &Delivery<'_>) -> Option<Failure> {
        let (mut failure, said) = self.classified(answer, about)?;
        let status = failure.reason.http_status.unwrap_or_default();
        failure.reason.crm_code = said.code.and_then(|code| code_of(code, delivery));
        tracing::debug!(
            crm = %self.crm,
            contact = %delivery.record.contact_id.key(),
            status,
            tracking_id = said.tracking_id.as_deref().unwrap_or_default(),
            "LogiSense refused a request"
        );
        Some(failure)
    }

    /// Why an answer is not a success, and what it says of itself.
    fn classified(&self, answer: &Answer, about: About) -> Option<(Failure, Said)> {
        let said = wire::said(body_of(answer));
        let mut failure = match classify::failure(answer, &self.status_classes) {
            Some(failure) => failure,
            None => refused(answer, &said)?,
        };
        if failure.reason.http_status == Some(404) && !self.settings.status_classes.contains_key("404") {
            match about {
                About::Linked => failure.class = FailureClass::Gone,
                About::Tenant => {}
            }
        }
        Some((failure, said))
    }
}

/// A success by its status that says otherwise.
fn refused(answer: &Answer, said: &Said) -> Option<Failure> {
    let effect = match said {
        Said { is_partial: true, .. } => Effect::Unknown,
        Said { is_refusal: true, .. } => Effect::None,
        Said { .. } => return None,
    };
    let http_status = answer.as_ref().ok().map(|response| response.status.as_u16());
    let reason = Reason { http_status, ..ReasonCode::InvalidField.into() };
    Some(Failure { class: FailureClass::Rejected, effect, reason, retry_after: None })
}

/// Highest number that is taken for the code of an error.
const CODE_MAX: u64 = 999_999_999;

/// A number of an error, unless it may be something that was sent.
fn code_of(code: u64, delivery: &Delivery<'_>) -> Option<String> {
    let text = code.to_string();
    let keys = delivery.look_up.into_iter().flat_map(|keys| keys.values.values().map(String::as_str));
    let mut sent = delivery.projection.fields.values().filter_map(Value::as_str).chain(keys);
    (code <= CODE_MAX && !sent.any(|value| value.contains(&text))).then_some(text)
}

impl Connector for Logisense {
    fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        self.mapping.project(record, link)
    }

    fn fields(&self) -> Vec<String> {
        wire::clearable(self.settings.points_max).collect()
    }

    fn field(&self, name: &str) -> Result<Field, NotSettable> {
        fields::settable(name)
    }

    fn look_up_keys(&self, record: &ContactRecord, projection: &Projection) -> Option<LookUpKeys> {
        Some(match record.status {
            Status::Live => self.keys(record, &projection.fields),
            // What is to go is found by what it was.
            Status::Deleted | Status::Merged | Status::Erased => self.keys(record, &self.mapping.recognisable(record)),
        })
    }

    fn cannot_carry(&self) -> Vec<Loss> {
        Mapping::cannot_carry()
    }

    fn naming(&self) -> Naming {
        Naming::numbers()
    }

    fn losses(&self, projection: &Projection, references: &References) -> Vec<Loss> {
        self.lists(references).losses(projection)
    }

    fn reader(&self) -> Result<&dyn Reader, NoReader> {
        Ok(self)
    }

    fn next(&self, delivery: &Delivery<'_>, answers: &[Answer]) -> Step {
        Conversation::new(self, delivery, answers).run().unwrap_or_else(|step| *step)
    }
}

/// Whether a field of this name can be told never to be cleared.
pub(crate) fn is_clearable(field: &str, points_max: usize) -> bool {
    wire::clearable(points_max).any(|clearable| clearable == field)
}

/// What the path of a request names, and so what a 404 says.
#[derive(Debug, Clone, Copy)]
enum About {
    /// What every tenant has.
    Tenant,
    /// The contact that the link names.
    Linked,
}

fn section(crm: &CrmSettings) -> Result<&LogisenseSettings, SetupError> {
    crm.logisense.as_ref().ok_or(SetupError::Section { kind: "logisense" })
}

/// The session of one tenant: a login by form, and a bearer token that is refreshed.
pub(super) fn session(crm: &CrmSettings) -> Result<LoginSession, SetupError> {
    let settings = section(crm)?;
    let source = SecretSource::new(settings.secret_env.as_deref(), settings.secret_file.as_deref())?;
    let terms = LoginTerms {
        crm: crm.name.clone(),
        secrets: vec![source],
        placement: Placement::bearer(),
        renew_before: settings.renew_before,
        interval_min: settings.login_interval_min,
        refresh_token_file: None,
    };
    let door = login::Door::new(settings, StatusClasses::parse(&settings.status_classes)?);
    Ok(LoginSession::new(door, terms)?)
}

#[cfg(test)]
mod driven;
#[cfg(test)]
mod read_back;
#[cfg(test)]
mod tests;
