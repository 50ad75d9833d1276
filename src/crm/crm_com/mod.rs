//! CRM.COM: create, partial update by CRM.COM's own id, sets that are changed entry by entry, and lists by a few keys.
//!
//! There is no delete, no upsert, and nothing of ours that can be searched for: our reference stands in a user-defined
//! field, where it tells whose a contact is once an e-mail address, a telephone number or the like has found it. So what a
//! create can be found by is committed before it leaves (its keys are never "planted"), and a contact that was found is
//! committed before anything is written to it that might make it unfindable.
//!
//! A contact of nobody that may be ours is taken in steps that can each be lost: it is stamped, with a mark that says that
//! it was there before us; read back, since somebody else may have stamped it; committed; and only then written to.
//! As long as we have not once brought it all of the record, what it holds beyond that is its owner's.
//!
//! The photo is a request of its own, after those for the contact itself. What these brought is committed before it
//! ([`Step::Part`]), so that a photo that fails costs nothing but itself; only where all that was sent is in doubt anyway, or
//! the contact is being adopted or erased, both follow each other at once. A photo whose last request got no answer is looked at
//! before it is sent again.
//!
//! Relations to other contacts are requests of their own too, between the contact and its photo, one for each: that CRM.COM does
//! not take one, because the other is no longer there, says nothing of the rest.
//!
//! Sets are read before they are written, each time: what was sent may be there although its answer was lost.
//!
//! What CRM.COM does not document is a setting; see [`CrmComSettings`].

mod compare;
mod countries;
mod delivery;
mod fields;
mod login;
mod mapping;
mod phone;
mod photo;
mod read;
mod refusals;
mod sets;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::Value;

pub(super) use self::login::session;
use self::{
    delivery::Conversation,
    mapping::Mapping,
    refusals::Refusals,
    wire::{Members, Set, inner},
};
use super::{
    Answer, Connector, Delivery, Field, LookUpKeys, Loss, NotSettable, Projection, Request, RequestKind, SetupError,
    Step, Verdict,
    dialogue::json_request,
    remote::{NoReader, Reader},
};
use crate::{
    config::{Adopt, CrmComKey, CrmComPhoneSearch, CrmComSettings, CrmComVatSearch, CrmSettings},
    contact::{ContactRecord, record::Status},
    crm::{link::Link, relation::Relation},
};

/// The connector of one tenant.
#[derive(Debug)]
pub struct CrmCom {
    settings: CrmComSettings,
    adopt: Adopt,
    mapping: Mapping,
    refusals: Refusals,
    /// Fields that operators fill.
    ruled: BTreeSet<String>,
    /// What leads from the base URL to the server, below which files are.
    to_server: String,
}

impl CrmCom {
    /// `instance` is what the source is called.
    pub fn new(crm: &CrmSettings, instance: &str) -> Result<Self, SetupError> {
        let settings = section(crm)?.clone();
        Ok(Self {
            adopt: crm.adopt,
            mapping: Mapping::new(&settings, crm.on_delete, crm.on_erase, instance),
            refusals: Refusals::new(&settings)?,
            ruled: crm.fields.iter().filter(|(_, rule)| !rule.is_omitted()).map(|(name, _)| name.clone()).collect(),
            to_server: read::to_server(&crm.base_url),
            settings,
        })
    }

    /// What a contact with `fields` can be found by.
    fn keys(&self, fields: &BTreeMap<String, Value>) -> LookUpKeys {
        let keys = self.settings.search_by.iter();
        let values = keys.filter_map(|key| Some((name_of(*key).to_owned(), self.value_of(*key, fields)?)));
        // A user-defined field can be read, and not searched for.
        LookUpKeys { values: values.collect(), planted: false }
    }

    fn value_of(&self, key: CrmComKey, fields: &BTreeMap<String, Value>) -> Option<String> {
        let entry = |set: Set, types: &[&str]| {
            let mut types = types.iter().chain(&wire::CUSTOM_TYPES);
            types.find_map(|of_type| fields.get(&set.path(of_type))?.as_object())
        };
        match key {
            CrmComKey::EmailAddress => {
                entry(Set::Emails, &["BUSINESS", "PERSONAL"])?.get("email_address")?.as_str().map(str::to_owned)
            }
            CrmComKey::PhoneNumber => {
                let phone = entry(Set::Phones, &["MOBILE", "LANDLINE", "FAX"])?;
                match self.settings.phone_search {
                    CrmComPhoneSearch::Full => sets::full_number(phone),
                    CrmComPhoneSearch::National => phone.get("number")?.as_str().map(str::to_owned),
                }
            }
            key => {
                let (object, member) = place_of(&self.settings, key)?;
                fields.get(&format!("{object}.{member}"))?.as_str().map(str::to_owned)
            }
        }
    }

    fn may_clear(&self, path: &str, record: &ContactRecord, link: Option<&Link>) -> bool {
        let kept = self.settings.never_cleared.contains(path) && record.status != Status::Erased;
        !kept && self.is_clearable(path, link)
    }

    /// Names and our own references are overwritten, never cleared.
    fn is_clearable(&self, path: &str, link: Option<&Link>) -> bool {
        let fixed = [wire::TYPE, wire::FIRST_NAME, wire::LAST_NAME, wire::COMPANY_NAME];
        let reference = path == self.settings.external_ref_slot || path == self.settings.source_slot;
        !reference && !fixed.contains(&path) && self.is_ours(path, link)
    }

    /// Whether a field is one that a delivery may carry. The user-defined ones, and what no attribute of the document fills,
    /// are others' to use but for those that the settings name, or that we once filled.
    fn is_ours(&self, path: &str, link: Option<&Link>) -> bool {
        let is_filled = |slot: &str| {
            self.settings.user_defined.values().any(|named| named == slot)
                || self.ruled.contains(slot)
                || link.is_some_and(|link| link.sent.contains_key(slot))
        };
        let is_known = wire::relations::of_path(path).is_some() || wire::paths().any(|known| known == path);
        is_known && (!wire::is_by_rule_alone(path) || is_filled(path))
    }
}

impl Connector for CrmCom {
    fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        let mut projection = self.mapping.project(record, link)?;
        if record.status == Status::Erased {
            // The fields that others use for their own ends stay theirs.
            let references = self.mapping.references(record.contact_id);
            projection.fields.retain(|path, _| self.is_ours(path, link) || references.contains_key(path));
        }
        Ok(projection)
    }

    fn fields(&self) -> Vec<String> {
        wire::paths().filter(|path| self.is_clearable(path, None)).collect()
    }

    fn field(&self, name: &str) -> Result<Field, NotSettable> {
        fields::settable(&self.settings, name)
    }

    fn has_field(&self, name: &str, projection: &Projection) -> bool {
        let of_type = projection.fields.get(wire::TYPE).and_then(Value::as_str);
        of_type.is_none_or(|of_type| wire::belongs(name, of_type))
    }

    fn shaped(&self, name: &str, value: Value) -> Value {
        fields::shaped(&self.settings, name, value)
    }

    fn cannot_carry(&self) -> Vec<Loss> {
        self.mapping.cannot_carry()
    }

    fn consent_field(&self, pointer: &str) -> Option<String> {
        self.mapping.consent_field(pointer).map(str::to_owned)
    }

    fn look_up_keys(&self, record: &ContactRecord, projection: &Projection) -> Option<LookUpKeys> {
        Some(match record.status {
            Status::Live => self.keys(&projection.fields),
            // What is to be retired is found by what it was.
            Status::Deleted | Status::Merged | Status::Erased => self.keys(&self.mapping.reachable(record)),
        })
    }

    fn reader(&self) -> Result<&dyn Reader, NoReader> {
        Ok(self)
    }

    fn relations(&self, record: &ContactRecord) -> Vec<Relation> {
        self.mapping.relations(record)
    }

    fn relates(&self) -> bool {
        true
    }

    fn next(&self, delivery: &Delivery<'_>, answers: &[Answer]) -> Step {
        Conversation::new(self, delivery, answers).run().unwrap_or_else(|step| *step)
    }
}

/// Whether this is a member of an address that may hold a part of the document's. `in_one_line`: of the international format.
pub(crate) fn is_address_member(member: &str, in_one_line: bool) -> bool {
    wire::address::PLACES.contains(&member) && !(in_one_line && wire::address::APART.contains(&member))
}

/// Whether photos of this media type can be sent.
pub(crate) fn is_photo_type(media_type: &str) -> bool {
    photo::is_known(media_type)
}

/// Whether a field of this name can be told never to be cleared.
pub(crate) fn is_clearable(field: &str) -> bool {
    let fixed = [wire::TYPE, wire::FIRST_NAME, wire::LAST_NAME, wire::COMPANY_NAME];
    wire::paths().any(|known| known == field) && !fixed.contains(&field)
}

/// Whether a user-defined field of this name exists, and whether it holds text.
pub(crate) fn user_defined(slot: &str) -> Option<bool> {
    wire::slot(slot).map(|slot| slot == wire::Slot::Text)
}

/// Whether one field can hold what a document has at this JSON pointer.
pub(crate) fn is_single(pointer: &str) -> bool {
    mapping::is_single(pointer)
}

/// Whether this is what CRM.COM calls something that a contact can be to another.
pub(crate) fn is_relation_type(name: &str) -> bool {
    wire::relations::of_text(name) == Some(name)
}

/// The types that entries may have beside those with a meaning of their own.
pub(crate) fn is_custom_type(name: &str) -> bool {
    wire::CUSTOM_TYPES.contains(&name)
}

/// A key as a list takes it.
const fn name_of(key: CrmComKey) -> &'static str {
    match key {
        CrmComKey::EmailAddress => "email_address",
        CrmComKey::PhoneNumber => "phone_number",
        CrmComKey::VatRegistrationNumber => inner::VAT_REGISTRATION_NUMBER,
        CrmComKey::IdNumber => inner::ID_NUMBER,
        CrmComKey::PassportNumber => inner::PASSPORT_NUMBER,
        CrmComKey::SocialSecurityNumber => inner::SOCIAL_SECURITY_NUMBER,
    }
}

/// The object and the member that a key of a number is.
fn place_of(settings: &CrmComSettings, key: CrmComKey) -> Option<(&'static str, &'static str)> {
    match key {
        CrmComKey::EmailAddress | CrmComKey::PhoneNumber => None,
        CrmComKey::VatRegistrationNumber => {
            let member = match settings.vat_search {
                CrmComVatSearch::VatRegistrationNumber => inner::VAT_REGISTRATION_NUMBER,
                CrmComVatSearch::RegistrationNumber => inner::REGISTRATION_NUMBER,
            };
            Some((wire::COMPANY_PROFILE, member))
        }
        key => Some((wire::DEMOGRAPHICS, name_of(key))),
    }
}

fn identified(what: &str, id: &str) -> String {
    format!("/contact_information/{what}?contact_information_identifier=id={}", wire::escape(id))
}

fn get(path: String) -> Request {
    json_request(Method::GET, path, None, RequestKind::Read)
}

fn post(path: &str, body: &Members, kind: RequestKind) -> Request {
    json_request(Method::POST, path.to_owned(), Some(body.body()), kind)
}

fn section(crm: &CrmSettings) -> Result<&CrmComSettings, SetupError> {
    crm.crm_com.as_ref().ok_or(SetupError::Section { kind: "crm_com" })
}

#[cfg(test)]
mod driven;
#[cfg(test)]
mod read_back;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;
