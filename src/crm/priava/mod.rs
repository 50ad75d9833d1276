//! Priava: one upsert of a single contact, keyed by our contact id.
//!
//! Nothing can be looked up, read back or deleted, so there is nothing to plan: one call carries the whole contact, and
//! repeating it is harmless because `externalIntegrationId` and `integrationSrc` go with it from the first write on.
//! (Without the id, Priava would match by name and e-mail address, and a renamed person would become a second contact.)
//!
//! What Priava answers to a write is not documented. Any 2xx is taken as success, whatever its body.

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
    wire::{Holds, Names},
};
use super::{
    Accepted, Answer, Connector, Delivery, Failure, FailureClass, Field, Loss, NotSettable, Projection, REMOTE_CONTACT,
    Request, RequestKind, SetupError, Step, Verdict, classify,
    classify::StatusClasses,
    naming::{EXTERNAL, Naming},
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
        if !settings.path.starts_with('/') {
            return Err(bad("path", "it does not begin with a slash"));
        }
        let integration_src =
            if settings.integration_src.is_empty() { instance } else { settings.integration_src.as_str() };
        let mut headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (ACCEPT, HeaderValue::from_static("application/json")),
        ];
        headers.extend(region(settings)?);
        let names = Names::new(&settings.field_names)?;
        let optional = names.clearable();
        let mut clearable = optional.clone();
        if let Some(unknown) = settings.never_cleared.iter().find(|path| !clearable.contains_key(*path)) {
            return Err(NameError::Unknown { name: unknown.clone() }.into());
        }
        clearable.retain(|path, _| !settings.never_cleared.contains(path));
        if !settings.send_organisation {
            // What is no longer sent is left to Priava's users, not wiped.
            for path in names.organisation() {
                clearable.remove(path);
            }
        }
        let is_alpha2 = |code: &&String| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        if !settings.countries.keys().all(|code| is_alpha2(&code)) {
            return Err(bad("countries", "a key is not an ISO 3166-1 alpha-2 code in upper case"));
        }
        Ok(Self {
            path: settings.path.clone(),
            headers,
            mapping: Mapping::new(settings, names, integration_src.to_owned(), policies),
            clearable,
            optional,
            clear_with: settings.clear_with,
            status_classes: StatusClasses::parse(&settings.status_classes)?,
        })
    }

    /// The whole contact, and `null` for what it had and has no longer.
    fn upsert(&self, delivery: &Delivery<'_>) -> Request {
        let fields = &delivery.projection.fields;
        let said = fields.iter().map(|(path, value)| (path.as_str(), value.clone()));
        let gone = delivery.clears.iter().map(String::as_str);
        let gone = gone.filter(|path| !fields.contains_key(*path) && self.clearable.contains_key(*path));
        let all = said.chain(gone.map(|path| (path, Value::Null)));
        let body = wire::body(all.filter_map(|(path, value)| {
            let value = if value.is_null() { self.cleared(path)? } else { value };
            Some((path, value))
        }));
        Request {
            method: http::Method::POST,
            path: self.path.clone(),
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

    fn conclude(&self, delivery: &Delivery<'_>, answer: &Answer) -> Step {
        let body = answer.as_ref().map(|response| response.body.as_ref()).unwrap_or_default();
        match classify::failure(answer, &self.status_classes) {
            None => {
                let known = delivery.link.and_then(|link| link.remote_ids.get(REMOTE_CONTACT)).cloned();
                let id = wire::remote_id(body)
                    .or(known)
                    .unwrap_or_else(|| mapping::external_id(delivery.record, delivery.link));
                let erased = delivery.record.status == Status::Erased;
                Step::Done(Accepted {
                    operation: if erased { Operation::Blank } else { delivery.operation },
                    remote_ids: BTreeMap::from([(REMOTE_CONTACT.to_owned(), id)]),
                })
            }
            Some(failure) => Step::Failed(with_code(failure, body, delivery.projection)),
        }
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
        self.optional.keys().cloned().collect()
    }

    fn field(&self, name: &str) -> Result<Field, NotSettable> {
        self.mapping.names().settable(name)
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
        Some(self.mapping.names().field(field).to_owned())
    }

    fn reader(&self) -> Result<&dyn Reader, NoReader> {
        Err(NoReader("its API takes contacts, and has no call that gives one back"))
    }

    fn naming(&self) -> Naming {
        Naming::keys(EXTERNAL)
    }

    fn next(&self, delivery: &Delivery<'_>, answers: &[Answer]) -> Step {
        match answers.last() {
            None => Step::Call(self.upsert(delivery)),
            Some(answer) => self.conclude(delivery, answer),
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
            let terms = LoginTerms {
                crm: crm.name.clone(),
                secrets: vec![client, grant],
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
mod tests;
