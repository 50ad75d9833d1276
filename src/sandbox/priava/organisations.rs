//! The organisations of a tenant: made by calls of their own, and by contacts that name one that is not there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use super::{
    ForeignKey, Invalid, Kind, PriavaSettings, check_organisation_lists, foreign_key, invalid, merge, text_of,
};

/// The documented fields, and those whose names are assumed (the other address, and the flag).
pub(super) const FIELDS: &[(&str, Kind)] = &[
    ("name", Kind::Text),
    ("externalIntegrationId", Kind::Text),
    ("integrationSrc", Kind::Text),
    ("externalReferenceNo", Kind::Text),
    ("parent", Kind::Text),
    ("type", Kind::Text),
    ("marketSector", Kind::Text),
    ("website", Kind::Text),
    ("email", Kind::Text),
    ("emailOther", Kind::Text),
    ("debtorNumber", Kind::Text),
    ("businessPhone", Kind::Text),
    ("otherPhone", Kind::Text),
    ("fax", Kind::Text),
    ("organisationAddress", Kind::Address),
    ("postalAddress", Kind::Address),
    ("otherAddress", Kind::Address),
    ("inactive", Kind::Boolean),
];

struct Organisation {
    name: String,
    fields: Map<String, Value>,
    /// How often a call of its own wrote it.
    writes: u64,
}

impl Organisation {
    fn shown(&self, id: u64) -> Value {
        json!({
            "id": id,
            "name": self.name,
            "reference": text_of(&self.fields, "externalIntegrationId"),
            "writes": self.writes,
            "fields": self.fields,
        })
    }
}

#[derive(Default)]
pub(super) struct Organisations {
    stored: BTreeMap<u64, Organisation>,
    by_foreign_key: HashMap<ForeignKey, u64>,
    by_name: HashMap<String, BTreeSet<u64>>,
}

fn name_key(name: &str) -> String {
    name.trim().to_lowercase()
}

impl Organisations {
    pub(super) fn name(&self, id: u64) -> Option<&str> {
        self.stored.get(&id).map(|organisation| organisation.name.as_str())
    }

    /// The oldest of this name, without regard to case.
    pub(super) fn named(&self, name: &str) -> Option<u64> {
        self.by_name.get(&name_key(name))?.first().copied()
    }

    pub(super) fn create(&mut self, id: u64, name: String, fields: Map<String, Value>) {
        self.by_name.entry(name_key(&name)).or_default().insert(id);
        self.stored.insert(id, Organisation { name, fields, writes: 0 });
    }

    pub(super) fn shown(&self) -> Vec<Value> {
        self.stored.iter().map(|(id, organisation)| organisation.shown(*id)).collect()
    }

    /// Those that calls of their own wrote.
    pub(super) fn written(&self) -> impl Iterator<Item = Value> {
        let written = self.stored.iter().filter(|(_, organisation)| organisation.writes > 0);
        written.map(|(id, organisation)| organisation.shown(*id))
    }

    /// The fields of the newest with this id, whatever its source.
    pub(super) fn referred_to(&self, reference: &str) -> Option<&Map<String, Value>> {
        let is_it = |fields: &&Map<String, Value>| text_of(fields, "externalIntegrationId") == Some(reference);
        self.stored.values().rev().map(|organisation| &organisation.fields).find(is_it)
    }

    /// Checks everything, then writes everything. `next_id` is for one that is not there.
    pub(super) fn upsert(
        &mut self,
        settings: &PriavaSettings,
        said: Map<String, Value>,
        next_id: u64,
    ) -> Result<(u64, bool), Invalid> {
        let Some(name) = text_of(&said, "name").map(|name| name.trim().to_owned()) else {
            return invalid("name is required");
        };
        let known = match foreign_key(&said) {
            Some(key) => {
                let by_name = || self.named(&name).filter(|_| settings.organisations_fall_back_to_name);
                self.by_foreign_key.get(&key).copied().or_else(by_name)
            }
            None => self.named(&name),
        };
        let has_phone = ["businessPhone", "otherPhone"].iter().any(|field| text_of(&said, field).is_some());
        if known.is_none() && !has_phone {
            return invalid("businessPhone or otherPhone is required");
        }
        if text_of(&said, "parent").is_some_and(|parent| self.named(parent).is_none()) {
            return invalid("parent names no organisation");
        }
        check_organisation_lists(settings, &said, ["type", "marketSector"])?;

        let id = known.unwrap_or(next_id);
        let mut organisation = match known.and_then(|id| self.stored.remove(&id)) {
            Some(organisation) => organisation,
            None => Organisation { name: String::new(), fields: Map::new(), writes: 0 },
        };
        if let Some(key) = foreign_key(&organisation.fields) {
            self.by_foreign_key.remove(&key);
        }
        if let Some(ids) = self.by_name.get_mut(&name_key(&organisation.name)) {
            ids.remove(&id);
        }
        if settings.absent_clears {
            organisation.fields.clear();
        }
        said.into_iter().for_each(|(field, value)| merge(&mut organisation.fields, field, value));
        organisation.name = name;
        organisation.writes += 1;
        if let Some(key) = foreign_key(&organisation.fields) {
            self.by_foreign_key.insert(key, id);
        }
        self.by_name.entry(name_key(&organisation.name)).or_default().insert(id);
        self.stored.insert(id, organisation);
        Ok((id, known.is_none()))
    }
}
