//! What a Previsto should hold of a contact, and how its books are read.
//!
//! This is the table of fields a second time, written from Previsto's side and sharing nothing with the connector: a
//! mapping that judged itself would always be right. It knows the settings' defaults, and of all that a contact can be
//! only what those who are simulated say; a sandbox that is set up otherwise has to be judged otherwise.
//!
//! An update of Previsto's carries what changed and no more, so a request by itself says little. Requests are therefore
//! replayed in the order of their effects, and each is judged by the whole contact as it left it.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::{Expectation, Fields};
use crate::{
    config::CrmKind,
    contact::{ContactRecord, record::Status},
    sandbox::Action,
};

/// Our id, as a contact carries it.
pub(super) const REFERENCE: &str = "meta.externalRef";
/// What Previsto makes of other fields by itself, or keeps for itself; and the mark of those who were there before us.
const NOT_SENT: &[&str] = &["id", "location", "agentIds", "remoteId", "remoteOrderId", "meta.adopted"];
/// Fields whose `false` means the same as their absence.
const FALSE_BY_DEFAULT: &[&str] = &["archived", "notifyBeforeWork"];

/// The defaults of an organisation in Previsto.
#[derive(Debug, Clone)]
pub(super) struct Organisation {
    /// What is told as the source of every contact.
    pub(super) instance: String,
    /// Goes before the names of free attributes.
    pub(super) attribute_prefix: String,
    /// Whether `number` is ours.
    pub(super) plants_number: bool,
    /// Whether who is deleted goes for good, instead of into the archive.
    pub(super) deletes: bool,
}

/// Where each text goes that is sent as it is.
const TEXTS: &[(&str, &str)] = &[
    ("/notes", "note"),
    ("/kind", "meta.kind"),
    ("/organization/department", "meta.department"),
    ("/organization/title", "meta.jobTitle"),
    ("/birthDate", "meta.birthDate"),
    ("/gender", "meta.gender"),
    ("/preferredLanguage", "meta.language"),
];
const FLAGS: &[(&str, &str)] =
    &[("/consent/marketing", "meta.consentMarketing"), ("/consent/dataProcessing", "meta.consentDataProcessing")];
const OF_ADDRESS: &[(&str, &str)] =
    &[("apartment", "appartment"), ("postalCode", "postalCode"), ("locality", "city"), ("country", "countryCode")];

impl Expectation for Organisation {
    fn kind(&self) -> CrmKind {
        CrmKind::Previsto
    }

    fn of(&self, record: &ContactRecord, stored: bool) -> Option<Fields> {
        let is_live = record.status == Status::Live;
        let goes = record.status == Status::Erased || (record.status == Status::Deleted && self.deletes);
        if goes || !(is_live || stored) {
            return None;
        }
        let document = Value::Object(record.contact.as_ref()?.members().clone());
        let mut fields = Fields::new();
        let mut set = |name: &str, value: &str| {
            if !value.trim().is_empty() {
                fields.insert(name.to_owned(), value.into());
            }
        };
        set("name", &name(&document)?);
        if self.plants_number {
            set("number", &record.contact_id.key());
        }
        set(REFERENCE, &record.contact_id.key());
        set("meta.source", &self.instance);
        for (pointer, field) in TEXTS {
            set(field, text(&document, pointer));
        }
        for (pointer, field) in FLAGS {
            if let Some(flag) = document.pointer(pointer).and_then(Value::as_bool) {
                set(field, &flag.to_string());
            }
        }
        let vat = text(&document, "/organization/vatNumber");
        set("registrationNo", if vat.is_empty() { text(&document, "/organization/registrationNumber") } else { vat });
        if text(&document, "/kind") != "organization" {
            set("meta.organization", text(&document, "/organization/name"));
        }
        set("email", chosen(&document, "/emails", &[]).map_or("", |email| text(email, "/value")));
        set("phone", chosen(&document, "/phoneNumbers", &["mobile"]).map_or("", |phone| text(phone, "/value")));
        if let Some(address) = chosen(&document, "/addresses", &["work", "home"]) {
            let street = [text(address, "/streetAddress"), text(address, "/streetNumber")];
            set("address", street.join(" ").trim());
            for (member, field) in OF_ADDRESS {
                set(field, address.get(member).and_then(Value::as_str).unwrap_or_default());
            }
        }
        for (attribute, value) in document.get("attributes").and_then(Value::as_object).into_iter().flatten() {
            set(&format!("meta.{}{attribute}", self.attribute_prefix), value.as_str().unwrap_or_default());
        }
        let is_active = document.get("active").and_then(Value::as_bool).unwrap_or(true);
        if !is_live || !is_active {
            fields.insert("archived".to_owned(), true.into());
        }
        Some(fields)
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// One line for a person or an organisation; nobody without one is sent.
fn name(document: &Value) -> Option<String> {
    let organization = text(document, "/organization/name");
    if text(document, "/kind") == "organization" && !organization.is_empty() {
        return Some(organization.to_owned());
    }
    let formatted = text(document, "/name/formatted");
    if !formatted.is_empty() {
        return Some(formatted.to_owned());
    }
    let parts = ["/name/givenName", "/name/middleName", "/name/familyName"].map(|part| text(document, part));
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// The one of several that there is room for: of the first of these types that there is, else of any, the primary one.
fn chosen<'a>(document: &'a Value, list: &str, types: &[&str]) -> Option<&'a Value> {
    let items = document.pointer(list).and_then(Value::as_array)?;
    let primary = |fits: &dyn Fn(&Value) -> bool| {
        let fitting: Vec<&Value> = items.iter().filter(|item| fits(item)).collect();
        fitting.iter().find(|item| item["primary"] == Value::Bool(true)).or(fitting.first()).copied()
    };
    let of_type = types.iter().find_map(|wanted| primary(&|item| text(item, "/type") == *wanted));
    of_type.or_else(|| primary(&|_| true))
}

/// A contact as it is shown, without what says nothing.
pub(super) fn normal(fields: impl IntoIterator<Item = (String, Value)>) -> Fields {
    let mut normal = Fields::new();
    for (name, value) in fields {
        super::flatten(name, value, &mut normal);
    }
    normal.retain(|name, value| {
        let is_default = FALSE_BY_DEFAULT.contains(&name.as_str()) && *value == Value::Bool(false);
        !value.is_null() && !is_default && !NOT_SENT.contains(&name.as_str())
    });
    normal
}

/// The contacts as requests left them, one effect after the other.
#[derive(Debug, Default)]
pub(super) struct Replay {
    contacts: HashMap<String, BTreeMap<String, Value>>,
}

impl Replay {
    /// The contact after the effect of a request, if that can be told.
    pub(super) fn after(&mut self, action: Action, remote_id: Option<&str>, body: Option<&str>) -> Option<Fields> {
        let id = remote_id?;
        match action {
            Action::Create | Action::Update => {}
            Action::Delete => {
                self.contacts.remove(id);
                return None;
            }
            Action::Upsert | Action::Search | Action::Get | Action::Other => return None,
        }
        let contact = self.contacts.entry(id.to_owned()).or_default();
        for pair in body?.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            let name = match name.strip_prefix("meta[").and_then(|key| key.strip_suffix(']')) {
                Some(key) => format!("meta.{key}"),
                None => name,
            };
            match value.as_str() {
                "" => drop(contact.remove(&name)),
                flag @ ("true" | "false") if FALSE_BY_DEFAULT.contains(&name.as_str()) => {
                    contact.insert(name, Value::Bool(flag == "true"));
                }
                text => drop(contact.insert(name, text.into())),
            }
        }
        Some(normal(contact.clone().into_iter().collect::<Map<_, _>>()))
    }
}

fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    Some(percent_encoding::percent_decode_str(&text).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::contact::{ContactId, Document, record::FORMAT};

    fn record(status: Status, said: Value) -> ContactRecord {
        ContactRecord {
            contact_id: ContactId(uuid::Uuid::nil()),
            version: 1,
            status,
            merged_into: None,
            contact: Some(Document::parse(said).unwrap().0),
            provenance: BTreeMap::new(),
            members: Vec::new(),
            event: None,
            received_at: Timestamp::UNIX_EPOCH,
            epoch: 1,
            format: FORMAT,
        }
    }

    fn organisation() -> Organisation {
        let (instance, attribute_prefix) = ("demo".to_owned(), "attr_".to_owned());
        Organisation { instance, attribute_prefix, plants_number: true, deletes: false }
    }

    #[test]
    fn a_contact_is_what_the_documents_say_of_it() {
        let said = json!({
            "name": {"givenName": "Ilka", "familyName": "Sundstrom", "honorificPrefix": "Dr"},
            "emails": [{"value": "a@example.com"}, {"value": "b@example.com", "primary": true}],
            "phoneNumbers": [{"value": "+441", "type": "work"}, {"value": "+442", "type": "mobile"}],
            "addresses": [{"type": "postal", "locality": "Lyon"}, {"type": "work", "streetAddress": "Kanalgade",
                "streetNumber": "14", "postalCode": "8000", "locality": "Aarhus", "country": "DK"}],
            "organization": {"name": "Old Mill", "title": "Buyer"},
            "consent": {"marketing": false},
            "attributes": {"debtor_number": "D7"},
            "active": false,
        });
        let id = ContactId(uuid::Uuid::nil()).key();
        let expected = json!({"name": "Ilka Sundstrom", "email": "b@example.com", "phone": "+442", "archived": true,
            "address": "Kanalgade 14", "postalCode": "8000", "city": "Aarhus", "countryCode": "DK", "number": id,
            "meta": {"externalRef": id, "source": "demo", "organization": "Old Mill", "jobTitle": "Buyer",
                "consentMarketing": "false", "attr_debtor_number": "D7"}});
        let Value::Object(expected) = expected else { unreachable!("built as an object") };
        assert_eq!(organisation().of(&record(Status::Live, said), false), Some(normal(expected)));
    }

    #[test]
    fn a_number_that_is_not_ours_is_not_expected() {
        let said = record(Status::Live, json!({"name": {"givenName": "Ilka"}}));
        let (ours, theirs) = (organisation(), Organisation { plants_number: false, ..organisation() });
        let (mut ours, theirs) = (ours.of(&said, false).unwrap(), theirs.of(&said, false).unwrap());
        assert!(ours.remove("number").is_some());
        assert_eq!(ours, theirs);
    }

    #[test]
    fn who_is_gone_is_archived_if_there_and_otherwise_not_sent() {
        let gone = record(Status::Deleted, json!({"name": {"givenName": "Ilka"}}));
        assert_eq!(organisation().of(&gone, false), None);
        assert_eq!(organisation().of(&gone, true).unwrap().get("archived"), Some(&Value::Bool(true)));
        assert_eq!(organisation().of(&record(Status::Live, json!({"notes": "nameless"})), true), None);
        assert_eq!(Organisation { deletes: true, ..organisation() }.of(&gone, true), None);
    }

    #[test]
    fn the_number_is_expected_only_where_it_is_ours() {
        let there = record(Status::Live, json!({"name": {"givenName": "Ilka"}}));
        let number = |plants_number| {
            let organisation = Organisation { plants_number, ..organisation() };
            organisation.of(&there, true).unwrap().contains_key("number")
        };
        assert_eq!((number(true), number(false)), (true, false));
    }

    #[test]
    fn requests_add_up_to_a_contact() {
        let mut replay = Replay::default();
        let created = "name=Ilka+S%C3%B8rensen&phone=%2B45&archived=true&meta%5Bkind%5D=person&meta%5Ba%5D=1";
        let first = replay.after(Action::Create, Some("con_1"), Some(created)).unwrap();
        assert_eq!((first.len(), first.get("name")), (5, Some(&"Ilka Sørensen".into())));
        let second = replay.after(Action::Update, Some("con_1"), Some("phone=&archived=false&meta%5Ba%5D=")).unwrap();
        assert_eq!(second.keys().collect::<Vec<_>>(), ["meta.kind", "name"]);
        assert_eq!(replay.after(Action::Search, None, None), None);
        assert_eq!(replay.after(Action::Delete, Some("con_1"), None), None);
        let third = replay.after(Action::Update, Some("con_1"), Some("name=B")).unwrap();
        assert_eq!(third.len(), 1, "nothing is left of what was deleted");
    }
}
