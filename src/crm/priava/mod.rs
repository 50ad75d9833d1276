//! Priava: one upsert of a single contact, keyed by our contact id.
//!
//! Nothing can be looked up, read back or deleted, so there is nothing to plan: one call carries the whole contact, and
//! repeating it is harmless because `externalIntegrationId` and `integrationSrc` go with it from the first write on.
//! (Without the id, Priava would match by name and e-mail address, and a renamed person would become a second contact.)
//!
//! What Priava answers to a write is not documented. Any 2xx is taken as success, whatever its body.
//!
//! # Organisations
//!
//! A contact of kind organization goes, where that is switched on, to an endpoint of its own, and is there another thing than
//! a person with the same key. So a contact whose kind changes changes the thing: the new one is written first, and then the
//! old one is made inactive, as the policy for deleted contacts wants it, in the same delivery. Where the document no longer
//! has what Priava insists on for that (the names and address of a person, the name of an organisation), nothing is sent at
//! all and the change ends as unsupported: two active things for one contact would be worse than one that is out of date. An
//! erasure empties both.

mod countries;
mod login;
mod mapping;
mod wire;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{
    HeaderName, HeaderValue,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::Value;

pub use self::wire::NameError;
use self::{
    mapping::{Mapping, Policies},
    wire::{Entity, Holds},
};
use super::{
    Accepted, Answer, Connector, Delivery, Failure, FailureClass, Field, Loss, NotSettable, Projection, REMOTE_CONTACT,
    Request, RequestKind, SetupError, Step, Verdict, classify,
    classify::StatusClasses,
    naming::{ENTITY, EXTERNAL, Naming},
    remote::{NoReader, Reader},
    session::{
        SecretSource, Session,
        login::{LoginSession, LoginTerms},
        placement::Placement,
        static_token::StaticToken,
    },
};
use crate::{
    config::{ClearWith, CrmSettings, PriavaAuth, PriavaSettings},
    contact::{ContactRecord, record::Status},
    crm::link::Link,
    event::{Operation, ReasonCode},
};

/// The connector of one tenant.
#[derive(Debug)]
pub struct Priava {
    path: String,
    organisations_path: String,
    /// Whether organisations are sent.
    organisations: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
    mapping: Mapping,
    /// Paths that may be cleared in Priava.
    clearable: BTreeMap<String, Holds>,
    /// Paths of all that can be emptied, whatever is configured: what an erasure goes by.
    optional: BTreeMap<String, Holds>,
    clear_with: ClearWith,
    status_classes: StatusClasses,
}

impl Priava {
    /// `instance` is the `integrationSrc` where none is configured.
    pub fn new(crm: &CrmSettings, instance: &str) -> Result<Self, SetupError> {
        let settings = section(crm)?;
        Self::with(settings, Policies { on_delete: crm.on_delete, on_erase: crm.on_erase }, instance)
    }

    fn with(settings: &PriavaSettings, policies: Policies, instance: &str) -> Result<Self, SetupError> {
        let bad = |key: &'static str, why: &'static str| SetupError::Setting { key, why };
        for (key, path) in [("path", &settings.path), ("organisations_path", &settings.organisations_path)] {
            if !path.starts_with('/') {
                return Err(bad(key, "it does not begin with a slash"));
            }
        }
        let integration_src =
            if settings.integration_src.is_empty() { instance } else { settings.integration_src.as_str() };
        let mut headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (ACCEPT, HeaderValue::from_static("application/json")),
        ];
        headers.extend(region(settings)?);
        let mapping = Mapping::new(settings, integration_src, policies)?;
        let mut optional = mapping.names(Entity::Person).clearable();
        optional.extend(mapping.names(Entity::Organisation).clearable());
        let mut clearable = optional.clone();
        if let Some(unknown) = settings.never_cleared.iter().find(|path| !clearable.contains_key(*path)) {
            return Err(NameError::Unknown { name: unknown.clone() }.into());
        }
        clearable.retain(|path, _| !settings.never_cleared.contains(path));
        if !settings.send_organisation {
            // What is no longer sent is left to Priava's users, not wiped.
            for path in mapping.names(Entity::Person).organisation() {
                clearable.remove(&path);
            }
        }
        let is_alpha2 = |code: &&String| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        if !settings.countries.keys().all(|code| is_alpha2(&code)) {
            return Err(bad("countries", "a key is not an ISO 3166-1 alpha-2 code in upper case"));
        }
        Ok(Self {
            path: settings.path.clone(),
            organisations_path: settings.organisations_path.clone(),
            organisations: settings.organisations,
            headers,
            mapping,
            clearable,
            optional,
            clear_with: settings.clear_with,
            status_classes: StatusClasses::parse(&settings.status_classes)?,
        })
    }

    /// The whole contact, and `null` for what it had and has no longer.
    fn upsert(&self, delivery: &Delivery<'_>) -> Request {
        let entity = self.mapping.entity(delivery.record, delivery.link);
        let fields = &delivery.projection.fields;
        let said = fields.iter().map(|(path, value)| (path.as_str(), value.clone()));
        let gone = delivery.clears.iter().map(String::as_str);
        let gone = gone.filter(|path| {
            Entity::of(path) == entity && !fields.contains_key(*path) && self.clearable.contains_key(*path)
        });
        self.request(entity, said.chain(gone.map(|path| (path, Value::Null))))
    }

    /// What the other endpoint is to be told beside.
    fn other_upsert(&self, delivery: &Delivery<'_>) -> Option<Request> {
        let fields = self.mapping.other_call(delivery.record, delivery.link?)?;
        let entity = self.mapping.entity(delivery.record, delivery.link).other();
        Some(self.request(entity, fields.iter().map(|(path, value)| (path.as_str(), value.clone()))))
    }

    fn request<'a>(&self, entity: Entity, fields: impl Iterator<Item = (&'a str, Value)>) -> Request {
        let body = wire::body(fields.filter_map(|(path, value)| {
            let value = if value.is_null() { self.cleared(path)? } else { value };
            Some((path, value))
        }));
        let path = match entity {
            Entity::Person => &self.path,
            Entity::Organisation => &self.organisations_path,
        };
        Request {
            method: http::Method::POST,
            path: path.clone(),
            headers: self.headers.clone(),
            body,
            kind: RequestKind::Set,
        }
    }

    /// How `path` is cleared on the wire; `None`: by leaving it out.
    fn cleared(&self, path: &str) -> Option<Value> {
        match (self.clear_with, self.optional.get(path)) {
            (ClearWith::Omit, _) => None,
            (ClearWith::Empty, Some(Holds::Text)) => Some(Value::from("")),
            (ClearWith::Empty | ClearWith::Null, _) => Some(Value::Null),
        }
    }

    /// What the answer to a call means, if it is no success.
    fn failure(&self, delivery: &Delivery<'_>, answer: &Answer) -> Option<Step> {
        let failure = classify::failure(answer, &self.status_classes)?;
        let body = answer.as_ref().map(|response| response.body.as_ref()).unwrap_or_default();
        Some(Step::Failed(with_code(failure, body, delivery.projection)))
    }

    /// All is there, says the answer to the call about the contact itself.
    fn done(&self, delivery: &Delivery<'_>, answer: &Answer) -> Step {
        let body = answer.as_ref().map(|response| response.body.as_ref()).unwrap_or_default();
        let (record, link) = (delivery.record, delivery.link);
        let entity = self.mapping.entity(record, link);
        let held = link.and_then(|link| self.mapping.held(link));
        let known = link.filter(|_| held == Some(entity)).and_then(|link| link.remote_ids.get(REMOTE_CONTACT)).cloned();
        let id = wire::remote_id(body).or(known).unwrap_or_else(|| mapping::external_id(record, link));
        let mut remote_ids = BTreeMap::from([(REMOTE_CONTACT.to_owned(), id)]);
        if entity == Entity::Organisation || link.is_some_and(|link| link.remote_ids.contains_key(ENTITY)) {
            remote_ids.insert(ENTITY.to_owned(), entity.name().to_owned());
        }
        let operation = match record.status {
            Status::Erased => Operation::Blank,
            // Another thing there, made now.
            Status::Live if held == Some(entity.other()) => Operation::Create,
            _ => delivery.operation,
        };
        Step::Done(Accepted { operation, remote_ids })
    }
}

/// Adds Priava's own code to a failure, where the body holds one.
fn with_code(mut failure: Failure, body: &[u8], projection: &Projection) -> Failure {
    let Some(code) = wire::error_code(body) else {
        return failure;
    };
    let sent = projection.fields.values().filter_map(Value::as_str);
    failure.reason.crm_code = classify::crm_code(&code, sent);
    if failure.class == FailureClass::Rejected && failure.reason.code == ReasonCode::InvalidField {
        let code = code.to_lowercase();
        if code.contains("missing") || code.contains("required") {
            failure.reason.code = ReasonCode::MissingField;
        }
    }
    failure
}

impl Connector for Priava {
    fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        self.mapping.project(record, link)
    }

    fn fields(&self) -> Vec<String> {
        // Also what is never cleared: an erasure clears it.
        let paths = self.optional.keys();
        paths.filter(|path| self.organisations || Entity::of(path) == Entity::Person).cloned().collect()
    }

    fn field(&self, name: &str) -> Result<Field, NotSettable> {
        let entity = Entity::of(name);
        if entity == Entity::Organisation && !self.organisations {
            return Err(NotSettable::Unknown);
        }
        self.mapping.names(entity).settable(name)
    }

    fn has_field(&self, name: &str, projection: &Projection) -> bool {
        projection.fields.keys().next().is_none_or(|path| Entity::of(path) == Entity::of(name))
    }

    fn leaves_alone(&self, record: &ContactRecord, field: &str) -> bool {
        record.status != Status::Erased && self.optional.contains_key(field) && !self.clearable.contains_key(field)
    }

    fn cannot_carry(&self) -> Vec<Loss> {
        self.mapping.cannot_carry()
    }

    fn consent_field(&self, pointer: &str) -> Option<String> {
        let field = match pointer {
            "/consent/marketing" => wire::Field::MarketingOptOut,
            "/consent/dataProcessing" => wire::Field::PersonalInformationConsent,
            _ => return None,
        };
        Some(self.mapping.names(Entity::Person).field(field))
    }

    fn takes_consents(&self, record: &ContactRecord) -> bool {
        self.mapping.entity(record, None) == Entity::Person
    }

    fn reader(&self) -> Result<&dyn Reader, NoReader> {
        Err(NoReader("its API takes contacts and organisations, and has no call that gives one back"))
    }

    fn naming(&self) -> Naming {
        Naming::keys(EXTERNAL)
    }

    fn next(&self, delivery: &Delivery<'_>, answers: &[Answer]) -> Step {
        let Some(first) = answers.first() else { return Step::Call(self.upsert(delivery)) };
        if let Some(failed) = self.failure(delivery, first) {
            return failed;
        }
        match (self.other_upsert(delivery), answers.get(1)) {
            (Some(request), None) => Step::Call(request),
            (Some(_), Some(second)) => self.failure(delivery, second).unwrap_or_else(|| self.done(delivery, first)),
            (None, _) => self.done(delivery, first),
        }
    }
}

fn section(crm: &CrmSettings) -> Result<&PriavaSettings, SetupError> {
    crm.priava.as_ref().ok_or(SetupError::Section { kind: "priava" })
}

/// The header that says where the tenant is, if it is to be sent.
fn region(settings: &PriavaSettings) -> Result<Option<(HeaderName, HeaderValue)>, SetupError> {
    if settings.tenant_region.is_empty() {
        return Ok(None);
    }
    let bad = |_invalid| SetupError::Setting { key: "tenant_region", why: "no header can carry it" };
    let value = HeaderValue::try_from(&settings.tenant_region).map_err(bad)?;
    Ok(Some((HeaderName::from_static("tenantregion"), value)))
}

/// Before its end an access token is renewed this early.
const RENEW_BEFORE: Duration = Duration::from_secs(5 * 60);
/// Between two token calls: nothing is documented, and nothing but a fault needs more.
const LOGIN_INTERVAL_MIN: Duration = Duration::from_secs(10);

/// The session of one tenant.
pub(super) fn session(crm: &CrmSettings) -> Result<Arc<dyn Session>, SetupError> {
    let settings = section(crm)?;
    match settings.auth {
        PriavaAuth::ApiToken => {
            let bad = |_invalid| SetupError::Setting { key: "token_header", why: "it is not the name of a header" };
            let name = HeaderName::try_from(&settings.token_header).map_err(bad)?;
            let source = SecretSource::new(settings.token_env.as_deref(), settings.token_file.as_deref())?;
            let placement = Placement::Header { name, prefix: settings.token_prefix.clone() };
            Ok(Arc::new(StaticToken::new(source, placement)?))
        }
        PriavaAuth::Oauth2 => {
            let client =
                SecretSource::new(settings.client_secret_env.as_deref(), settings.client_secret_file.as_deref())?;
            let grant = SecretSource::new(None, settings.refresh_token_file.as_deref())?;
            let code = (settings.authorization_code_env.as_deref(), settings.authorization_code_file.as_deref());
            let secrets = if code == (None, None) {
                vec![client, grant]
            } else {
                let code = SecretSource::new(code.0, code.1)?;
                // Before the first exchange there is a code only, and after it the code may go.
                grant.read().or_else(|_none| code.read())?;
                let if_any = |source| SecretSource::IfAny(Box::new(source));
                vec![client, if_any(grant), if_any(code)]
            };
            let terms = LoginTerms {
                crm: crm.name.clone(),
                secrets,
                placement: Placement::bearer(),
                renew_before: RENEW_BEFORE,
                interval_min: LOGIN_INTERVAL_MIN,
                refresh_token_file: settings.refresh_token_file.clone(),
            };
            Ok(Arc::new(LoginSession::new(login::OAuth::new(settings, region(settings)?), terms)?))
        }
    }
}

#[cfg(test)]
mod conversation;
#[cfg(test)]
mod organisations;
#[cfg(test)]
mod tests;
