//! Ours to theirs: what Priava should hold of a contact, and what of it Priava has no place for.
//!
//! The whole contact is mapped each time, so the result is right whether Priava reads an absent field as "keep" or as
//! "remove". A value that Priava would refuse although the contact is fine without it (a title that is not in the
//! tenant's list, an unknown country) is left out and reported as lost, since refusing the whole contact for a salutation
//! serves nobody. A value that Priava cannot do without is checked here, which saves a call and names the attribute.
//!
//! Every attribute of the document is either carried or reported; [`NOWHERE`] lists those without any counterpart.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{
    countries,
    wire::{AddressField, AddressPart, Entity, Field, NameError, Names},
};
use crate::{
    config::{CountryForm, MiddleName, OnDelete, OnErase, PriavaSettings},
    contact::{ContactRecord, document::Said, record::Status},
    crm::{
        Loss, Presence, Projection, REMOTE_CONTACT, Verdict,
        draft::{
            self, NAME_PARTS,
            why::{NO_FIELD, NOT_IN_LIST, ONE_ONLY, SWITCHED_OFF},
        },
        link::{Link, Sent},
        naming::{ENTITY, EXTERNAL},
        reading::{
            Items, complete_name, is_fax, is_of_type, member, member_text, post_office_box, says_something,
            street_lines, value,
        },
    },
    event::ReasonCode,
};

/// The rules of one tenant.
#[derive(Debug)]
pub(super) struct Mapping {
    person: Side,
    organisation: Side,
    policies: Policies,
}

/// The rules for what goes to one of the two endpoints.
#[derive(Debug)]
pub(super) struct Side {
    names: Names,
    integration_src: String,
    settings: Arc<PriavaSettings>,
}

/// What becomes of a contact that is no longer to be there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policies {
    pub(super) on_delete: OnDelete,
    pub(super) on_erase: OnErase,
}

/// Attributes that Priava has no field for.
const NOWHERE: &[&str] = &[
    "/name/honorificSuffix",
    "/organization/registrationNumber",
    "/organization/vatNumber",
    "/organization/industry",
    "/birthDate",
    "/gender",
    "/preferredLanguage",
    "/notes",
    "/owner",
    "/photos",
    "/relations",
];

/// Attributes that an organisation of Priava has no field for, and a person has.
const OF_PERSONS: &[&str] =
    &["/organization/department", "/organization/title", "/consent/marketing", "/consent/dataProcessing"];

const TWO_ONLY: &str = "room for two only";

/// The attribute that is Priava's debtor number.
const DEBTOR_NUMBER: &str = "debtor_number";

impl Mapping {
    /// # Errors
    /// If a configured name cannot be meant.
    pub(super) fn new(settings: &PriavaSettings, integration_src: &str, policies: Policies) -> Result<Self, NameError> {
        let shared = Arc::new(settings.clone());
        let side = |names| Side { names, integration_src: integration_src.to_owned(), settings: Arc::clone(&shared) };
        Ok(Self {
            person: side(Names::new(Entity::Person, &settings.field_names)?),
            organisation: side(Names::new(Entity::Organisation, &settings.organisation_field_names)?),
            policies,
        })
    }

    fn side(&self, entity: Entity) -> &Side {
        match entity {
            Entity::Person => &self.person,
            Entity::Organisation => &self.organisation,
        }
    }

    pub(super) fn names(&self, entity: Entity) -> &Names {
        &self.side(entity).names
    }

    /// What no contact can bring to this tenant. Of arrays of which one item is carried, nothing is told.
    pub(super) fn cannot_carry(&self) -> Vec<Loss> {
        let settings = &self.person.settings;
        let unnamed = !settings.send_organisation && !settings.organisations;
        let switches = [
            (settings.middle_name == MiddleName::Drop, "/name/middleName", NO_FIELD),
            (unnamed, "/organization/name", SWITCHED_OFF),
            (unnamed, "/organization/type", SWITCHED_OFF),
            (unnamed, "/organization/marketSector", SWITCHED_OFF),
            (settings.external_reference_no.is_empty(), "/identifiers", NO_FIELD),
            (true, "/addresses/geo", NO_FIELD),
            (true, "/attributes", NO_FIELD),
        ];
        let switched = switches.into_iter().filter(|(holds, ..)| *holds).map(|(_, field, why)| Loss { field, why });
        NOWHERE.iter().map(|field| Loss { field, why: NO_FIELD }).chain(switched).collect()
    }

    pub(super) fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        let may_be_there = link.is_some_and(Link::may_be_there);
        let presence = match record.status {
            Status::Live => None,
            _ if !may_be_there => return Err(Verdict::never_sent()),
            Status::Erased => return self.erase(record, link),
            Status::Deleted | Status::Merged => match self.policies.on_delete {
                OnDelete::Keep => return Err(Verdict::kept()),
                OnDelete::Delete => return Err(Verdict::unsupported(ReasonCode::Delete)),
                // Priava wants a name with each write, of a person also an e-mail address, this one too.
                OnDelete::Deactivate if record.contact.is_none() => {
                    return Err(Verdict::unsupported(ReasonCode::Deactivate));
                }
                OnDelete::Deactivate => Some(Presence::Inactive),
            },
        };
        let entity = self.entity(record, link);
        let held = link.and_then(|link| self.held(link));
        // What Priava has of a contact can be retired although no more of its kind are to be sent.
        let is_let_in = entity == Entity::Person
            || self.organisation.settings.organisations
            || record.status != Status::Live && held == Some(entity);
        if !is_let_in {
            return Err(Verdict::unsupported(ReasonCode::Kind));
        }
        if record.status == Status::Live && held == Some(entity.other()) && !self.may_change_kind(record, link) {
            return Err(Verdict::unsupported(ReasonCode::Kind));
        }
        let ever_sent = link.is_some_and(|link| match held {
            Some(held) => held == entity || self.was_written(link, entity),
            None => link.may_be_there(),
        });
        let side = self.side(entity);
        let mut draft = Draft::new(side, record, BTreeMap::new()).never_clearing(&side.settings.never_cleared);
        draft.keys(external_id(record, link));
        match entity {
            Entity::Person => draft.person(ever_sent),
            Entity::Organisation => draft.organisation_itself(ever_sent),
        }
        .map_err(|missing| match (record.status, entity == kind_of(record)) {
            // The document is of the other kind: it lacks nothing.
            (Status::Deleted | Status::Merged, false) => Verdict::unsupported(ReasonCode::Deactivate),
            _ => missing,
        })?;
        // Of whom Priava was told as the other also, this may have been made inactive for that.
        let was_told = link.is_some_and(|link| {
            link.sent.contains_key(&*side.names.field(Field::Inactive)) || self.was_written(link, entity.other())
        });
        let presence = draft.presence(presence, was_told);
        Ok(draft.finish(presence))
    }

    /// What the record is, or is to be, in Priava: what its document says; once nothing is left but to retire it, what
    /// Priava has it as.
    pub(super) fn entity(&self, record: &ContactRecord, link: Option<&Link>) -> Entity {
        match record.status {
            Status::Live => kind_of(record),
            Status::Deleted | Status::Merged | Status::Erased => {
                link.and_then(|link| self.held(link)).unwrap_or_else(|| kind_of(record))
            }
        }
    }

    /// What Priava has the contact as, for all that is known here.
    pub(super) fn held(&self, link: &Link) -> Option<Entity> {
        match link.remote_ids.get(ENTITY) {
            Some(name) => Entity::ALL.into_iter().find(|entity| entity.name() == name),
            None if link.remote_ids.contains_key(REMOTE_CONTACT) => Some(Entity::Person),
            None => Entity::ALL.into_iter().find(|entity| self.was_written(link, *entity)),
        }
    }

    /// Whether anything was ever sent of the contact as this, or was about to be. Our key goes with each write, and nothing
    /// else says so: what a dead predecessor is suspected of has no key.
    fn was_written(&self, link: &Link, entity: Entity) -> bool {
        link.sent.contains_key(&*self.names(entity).field(Field::ExternalIntegrationId))
    }

    /// Whether the contact, which Priava has as the other kind, may be sent as what it is now: not before the other is
    /// retired as far as the policy for deleted contacts wants it.
    fn may_change_kind(&self, record: &ContactRecord, link: Option<&Link>) -> bool {
        match self.policies.on_delete {
            OnDelete::Keep => true,
            OnDelete::Delete => false,
            OnDelete::Deactivate => link.is_some_and(|link| self.other_call(record, link).is_some()),
        }
    }

    /// What the other endpoint is to be told after the contact itself: that what the contact was before its kind changed is
    /// inactive, or, of a person who asked to be forgotten, that nothing of it is left.
    pub(super) fn other_call(&self, record: &ContactRecord, link: &Link) -> Option<BTreeMap<String, Value>> {
        let other = self.entity(record, Some(link)).other();
        let side = self.side(other);
        match (record.status, self.policies.on_delete) {
            (Status::Erased, _) if self.was_written(link, other) => Some(self.blank(record, link, other).fields),
            (Status::Live, OnDelete::Deactivate) => {
                let key = side.names.field(Field::ExternalIntegrationId);
                // Of a call that nobody knows the answer of, and of all that a takeover doubts, it may be there as well.
                let may_be_active = self.held(link) == Some(other) || link.sent.get(&*key) == Some(&Sent::Void);
                if !may_be_active {
                    return None;
                }
                let mut draft = Draft::new(side, record, BTreeMap::new());
                draft.keys(external_id(record, Some(link)));
                match other {
                    Entity::Person => draft.name().and_then(|()| draft.email()),
                    Entity::Organisation => draft.organisation_name(),
                }
                .ok()?;
                draft.presence(Some(Presence::Inactive), true);
                Some(draft.fields)
            }
            _ => None,
        }
    }

    /// What is left of a contact whose person asked to be forgotten: our key, so that the same contact is meant whatever
    /// happens to this call, placeholders for what Priava insists on, and the flag. All else that was ever sent is
    /// emptied, also what is otherwise left to Priava's users.
    fn erase(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        match self.policies.on_erase {
            OnErase::Keep => return Err(Verdict::kept()),
            OnErase::Delete => return Err(Verdict::unsupported(ReasonCode::Erase)),
            OnErase::Blank => {}
        }
        let nothing = Link::new(record.contact_id);
        let link = link.unwrap_or(&nothing);
        let mut draft = self.blank(record, link, self.entity(record, Some(link)));
        let presence = draft.presence(Some(Presence::Inactive), true);
        Ok(draft.finish(presence))
    }

    fn blank<'a>(&'a self, record: &ContactRecord, link: &Link, entity: Entity) -> Draft<'a> {
        let side = self.side(entity);
        let sent = link.sent.keys().filter(|path| Entity::of(path) == entity);
        let sent = sent.map(|path| (path.to_string(), Value::Null)).collect();
        let mut draft = Draft::of_nothing(side, sent);
        draft.keys(external_id(record, Some(link)));
        let settings = &side.settings;
        match entity {
            Entity::Person => {
                draft.set_field(Field::FirstName, settings.placeholder_first_name.as_str());
                draft.set_field(Field::LastName, settings.placeholder_last_name.as_str());
                draft.set_field(Field::Email, settings.placeholder_email.as_str());
            }
            Entity::Organisation => draft.set_field(Field::Name, settings.placeholder_organisation.as_str()),
        }
        draft.presence(Some(Presence::Inactive), true);
        draft
    }
}

/// What a document says that its contact is.
fn kind_of(record: &ContactRecord) -> Entity {
    let kind = record.contact.as_ref().map(|document| document.text("/kind"));
    if kind == Some(Said::Value("organization")) { Entity::Organisation } else { Entity::Person }
}

/// The key that goes with each write: our contact id, unless somebody said otherwise.
pub(super) fn external_id(record: &ContactRecord, link: Option<&Link>) -> String {
    link.and_then(|link| link.remote_ids.get(EXTERNAL)).cloned().unwrap_or_else(|| record.contact_id.key())
}

/// A projection in the making.
type Draft<'a> = draft::Draft<'a, Side>;

impl<'a> Draft<'a> {
    fn set_field(&mut self, field: Field, value: impl Into<Value>) {
        self.set(self.rules.names.field(field), value);
    }

    fn clear_field(&mut self, field: Field) {
        self.clear(self.rules.names.field(field));
    }

    fn copy_text(&mut self, field: Field, pointer: &str) {
        self.say(self.rules.names.field(field), self.text(pointer));
    }

    /// What makes a repeat harmless: Priava finds the contact by these two, from the first write on.
    fn keys(&mut self, external_id: String) {
        self.set_field(Field::ExternalIntegrationId, external_id);
        self.set_field(Field::IntegrationSrc, self.rules.integration_src.as_str());
    }

    fn person(&mut self, ever_sent: bool) -> Result<(), Verdict> {
        self.title();
        self.name()?;
        self.email()?;
        self.phones(ever_sent)?;
        self.addresses();
        self.organization();
        self.consent();
        self.free_attributes();
        self.lose_each_said(NOWHERE, NO_FIELD);
        Ok(())
    }

    fn name(&mut self) -> Result<(), Verdict> {
        let mut given = self.words("/name/givenName").map(str::to_owned);
        let mut family = self.words("/name/familyName").map(str::to_owned);
        let middle = self.words("/name/middleName");
        let formatted = self.words("/name/formatted");
        if let Some(formatted) = formatted {
            if given.is_none() || family.is_none() {
                let around = [self.words("/name/honorificPrefix"), self.words("/name/honorificSuffix")];
                (given, family) = complete_name(formatted, around, middle, given, family);
            } else {
                self.lose("/name/formatted", NO_FIELD);
            }
        }
        let mut first_name = given.ok_or_else(|| Verdict::missing("/name/givenName"))?;
        let last_name = family.ok_or_else(|| Verdict::missing("/name/familyName"))?;
        if let Some(middle) = middle {
            match self.rules.settings.middle_name {
                MiddleName::Drop => self.lose("/name/middleName", NO_FIELD),
                MiddleName::Append => {
                    first_name.push(' ');
                    first_name.push_str(middle);
                }
            }
        }
        self.set_field(Field::FirstName, first_name);
        self.set_field(Field::LastName, last_name);
        Ok(())
    }

    fn title(&mut self) {
        match self.text("/name/honorificPrefix") {
            Said::Value(prefix) => {
                let wanted = plain_title(prefix);
                let mapping = self.rules;
                match mapping.settings.titles.iter().find(|title| plain_title(title) == wanted) {
                    Some(title) => self.set_field(Field::Title, title.as_str()),
                    None => self.lose("/name/honorificPrefix", NOT_IN_LIST),
                }
            }
            Said::Empty => self.clear_field(Field::Title),
            Said::Absent => {}
        }
    }

    fn email(&mut self) -> Result<(), Verdict> {
        let emails = Items::of(self.document, "/emails", |item| member_text(item, "value").is_some());
        let email = emails.first(|_| true).and_then(|item| member_text(item, "value"));
        self.set_field(Field::Email, email.ok_or_else(|| Verdict::missing("/emails"))?);
        if emails.count() > 1 {
            self.lose("/emails/value", ONE_ONLY);
        }
        Ok(())
    }

    fn phones(&mut self, ever_sent: bool) -> Result<(), Verdict> {
        let phones = Items::of(self.document, "/phoneNumbers", |item| member_text(item, "value").is_some());
        let mut carried = 0;
        for (field, is_mobile) in [(Field::Mobile, true), (Field::PhoneNumber, false)] {
            let chosen = phones.first(|phone| !is_fax(phone) && is_of_type(phone, "mobile") == is_mobile);
            if let Some(number) = chosen.and_then(|phone| member_text(phone, "value")) {
                self.set_field(field, number);
                carried += 1;
            } else if phones.are_empty {
                self.clear_field(field);
            }
        }
        if phones.each().any(is_fax) {
            self.lose("/phoneNumbers/value", NO_FIELD);
        }
        if phones.each().filter(|phone| !is_fax(phone)).count() > carried {
            self.lose("/phoneNumbers/value", ONE_ONLY);
        }
        // Either number does to create a contact. A contact that Priava has may lose its last one.
        if carried == 0 && !ever_sent {
            return Err(Verdict::missing("/phoneNumbers"));
        }
        Ok(())
    }

    fn addresses(&mut self) {
        let addresses = Items::of(self.document, "/addresses", |_| true);
        let mut carried = 0;
        for address_field in AddressField::ALL {
            match addresses.first(|item| address_field_of(item) == address_field) {
                Some(address) => {
                    carried += 1;
                    self.address(address_field, address);
                }
                None if addresses.are_empty => {
                    for part in AddressPart::ALL {
                        self.clear(self.rules.names.part(address_field, part));
                    }
                }
                None => {}
            }
        }
        if addresses.count() > carried {
            self.lose("/addresses", ONE_ONLY);
        }
    }

    fn address(&mut self, field: AddressField, address: &'a Value) {
        self.address_lines(field, address);
        let suburb = match (member(address, "locality"), member(address, "district")) {
            (Said::Value(locality), district) => {
                if value(district).is_some() {
                    self.lose("/addresses/district", NO_FIELD);
                }
                Said::Value(locality)
            }
            (_, Said::Value(district)) => Said::Value(district),
            (Said::Empty, _) | (_, Said::Empty) => Said::Empty,
            (Said::Absent, Said::Absent) => Said::Absent,
        };
        self.address_part(field, AddressPart::Suburb, suburb);
        self.address_part(field, AddressPart::State, member(address, "region"));
        self.address_part(field, AddressPart::Postcode, member(address, "postalCode"));
        let country = match member(address, "country") {
            Said::Value(code) => match self.rules.country(code) {
                Some(country) => Said::Value(country),
                None => {
                    self.lose("/addresses/country", NOT_IN_LIST);
                    Said::Absent
                }
            },
            Said::Empty => Said::Empty,
            Said::Absent => Said::Absent,
        };
        match country {
            Said::Value(country) => self.address_part(field, AddressPart::Country, Said::Value(&country)),
            Said::Empty => self.address_part(field, AddressPart::Country, Said::Empty),
            Said::Absent => {}
        }
        if address.get("geo").is_some_and(|geo| says_something(Said::Value(geo))) {
            self.lose("/addresses/geo", NO_FIELD);
        }
    }

    fn address_part(&mut self, field: AddressField, part: AddressPart, said: Said<&str>) {
        self.say(self.rules.names.part(field, part), said);
    }

    /// Box, street with number, apartment, floor: one line each; what exceeds the third line is joined onto it.
    fn address_lines(&mut self, field: AddressField, address: &'a Value) {
        let mut lines: Vec<String> = Vec::new();
        if let Said::Value(number) = member(address, "poBox") {
            if field == AddressField::Postal {
                lines.push(post_office_box(number));
            } else {
                self.lose("/addresses/poBox", NO_FIELD);
            }
        }
        let street = member(address, "streetAddress");
        lines.append(&mut street_lines(address, self.rules.settings.street_number));
        lines.extend(
            ["apartment", "floor"].into_iter().filter_map(|name| value(member(address, name))).map(str::to_owned),
        );

        if lines.is_empty() {
            if street == Said::Empty {
                for part in AddressPart::LINES {
                    self.address_part(field, part, Said::Empty);
                }
            }
            return;
        }
        let last = AddressPart::LINES.len() - 1;
        if lines.len() > last {
            let overflow = lines.split_off(last).join(", ");
            lines.push(overflow);
        }
        for (part, line) in AddressPart::LINES.into_iter().zip(&lines) {
            self.address_part(field, part, Said::Value(line));
        }
    }

    /// An organisation in its own right. It has no place for a person's name, nor for what a person agrees to.
    fn organisation_itself(&mut self, ever_sent: bool) -> Result<(), Verdict> {
        self.organisation_name()?;
        self.organisation_emails();
        self.organisation_phones(ever_sent)?;
        self.addresses();
        self.listed(Field::Type, "/organization/type");
        self.listed(Field::MarketSector, "/organization/marketSector");
        self.free_attributes();
        self.lose_each_said(OF_PERSONS, NO_FIELD);
        self.lose_each_said(NOWHERE, NO_FIELD);
        Ok(())
    }

    /// Its own name, else the full name that its source wrote.
    fn organisation_name(&mut self) -> Result<(), Verdict> {
        let own = self.words("/organization/name");
        let name = own.or_else(|| self.words("/name/formatted"));
        self.set_field(Field::Name, name.ok_or_else(|| Verdict::missing("/organization/name"))?);
        for part in NAME_PARTS {
            if own.is_some() || part != "/name/formatted" {
                self.lose_if_said(part, "an organisation goes by its own name");
            }
        }
        Ok(())
    }

    fn organisation_emails(&mut self) {
        let emails = Items::of(self.document, "/emails", |item| member_text(item, "value").is_some());
        let chosen = emails.first(|_| true);
        let second = emails.each().find(|item| !chosen.is_some_and(|chosen| std::ptr::eq(*item, chosen)));
        for (field, email) in [(Field::Email, chosen), (Field::EmailOther, second)] {
            if let Some(email) = email.and_then(|item| member_text(item, "value")) {
                self.set_field(field, email);
            } else if emails.are_empty {
                self.clear_field(field);
            }
        }
        if emails.count() > 2 {
            self.lose("/emails/value", TWO_ONLY);
        }
    }

    /// A number of its office, any other one, and a fax.
    fn organisation_phones(&mut self, ever_sent: bool) -> Result<(), Verdict> {
        let phones = Items::of(self.document, "/phoneNumbers", |item| member_text(item, "value").is_some());
        let office = phones.first(|phone| !is_fax(phone) && !is_of_type(phone, "mobile"));
        let is_office = |phone: &Value| office.is_some_and(|office| std::ptr::eq(phone, office));
        let other = phones.first(|phone| !is_fax(phone) && !is_office(phone));
        let chosen = [(Field::BusinessPhone, office), (Field::OtherPhone, other), (Field::Fax, phones.first(is_fax))];
        let mut carried = 0;
        for (field, phone) in chosen {
            if let Some(number) = phone.and_then(|phone| member_text(phone, "value")) {
                self.set_field(field, number);
                carried += 1;
            } else if phones.are_empty {
                self.clear_field(field);
            }
        }
        if phones.count() > carried {
            self.lose("/phoneNumbers/value", TWO_ONLY);
        }
        if office.is_none() && other.is_none() && !ever_sent {
            return Err(Verdict::missing("/phoneNumbers"));
        }
        Ok(())
    }

    /// A text that the tenant has a list for; one that is not in the list would cost the whole contact. An empty list is one
    /// that nobody wrote down: Priava decides.
    fn listed(&mut self, field: Field, pointer: &'static str) {
        let settings = &self.rules.settings;
        let list = match field {
            Field::Type | Field::OrganisationType => &settings.organisation_types,
            _ => &settings.market_sectors,
        };
        match self.text(pointer) {
            Said::Value(text) if !list.is_empty() => {
                match list.iter().find(|entry| entry.trim().to_lowercase() == text.trim().to_lowercase()) {
                    Some(entry) => self.set_field(field, entry.as_str()),
                    None => self.lose(pointer, NOT_IN_LIST),
                }
            }
            said => self.say(self.rules.names.field(field), said),
        }
    }

    fn organization(&mut self) {
        self.copy_text(Field::Department, "/organization/department");
        self.copy_text(Field::JobTitle, "/organization/title");
        let only_with_name = [
            (Field::OrganisationType, "/organization/type"),
            (Field::OrganisationMarketSector, "/organization/marketSector"),
        ];
        if !self.rules.settings.send_organisation {
            self.lose_if_said("/organization/name", SWITCHED_OFF);
            self.lose_each_said(&only_with_name.map(|(_, pointer)| pointer), SWITCHED_OFF);
            return;
        }
        self.copy_text(Field::Organisation, "/organization/name");
        for (field, pointer) in only_with_name {
            // Both describe the organisation that the name may create, and are nothing by themselves.
            if self.words("/organization/name").is_some() {
                self.listed(field, pointer);
            } else {
                self.lose_if_said(pointer, "used only together with the name of the organization");
            }
        }
    }

    /// Unknown consent is left out; it is never sent as a guess.
    fn consent(&mut self) {
        if let Said::Value(Value::Bool(marketing)) = self.document.at("/consent/marketing") {
            self.set_field(Field::MarketingOptOut, !marketing);
        }
        if let Said::Value(Value::Bool(consents)) = self.document.at("/consent/dataProcessing") {
            self.set_field(Field::PersonalInformationConsent, *consents);
        }
    }

    fn free_attributes(&mut self) {
        if let Said::Value(Value::Object(attributes)) = self.document.at("/attributes") {
            for (name, value) in attributes {
                if name == DEBTOR_NUMBER {
                    self.debtor_number(value);
                } else if !value.is_null() {
                    self.lose("/attributes", NO_FIELD);
                }
            }
        }
        let namespace = self.rules.settings.external_reference_no.as_str();
        if let Said::Value(Value::Object(identifiers)) = self.document.at("/identifiers") {
            for (name, value) in identifiers {
                let visible = !namespace.is_empty() && name == namespace;
                match value.as_str().filter(|_| visible).and_then(|text| self.rules.reference_no(text)) {
                    Some(number) => self.set_field(Field::ExternalReferenceNo, number),
                    None if value.is_null() && visible => self.clear_field(Field::ExternalReferenceNo),
                    None if value.is_null() => {}
                    None => self.lose("/identifiers", if visible { "not a whole number" } else { NO_FIELD }),
                }
            }
        }
    }

    fn debtor_number(&mut self, value: &Value) {
        match value {
            Value::String(text) if !text.trim().is_empty() => self.set_field(Field::DebtorNumber, text.as_str()),
            Value::Number(number) => self.set_field(Field::DebtorNumber, number.to_string()),
            Value::Null | Value::String(_) => self.clear_field(Field::DebtorNumber),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => self.lose("/attributes", NO_FIELD),
        }
    }

    /// `decided` by the record's status, or else by what the document says. Where it says nothing, a contact is active:
    /// Priava's own default, so it is told only if it was told something before.
    fn presence(&mut self, decided: Option<Presence>, was_told: bool) -> Presence {
        let told = decided.or(self.presence_said()).or(was_told.then_some(Presence::Active));
        let inactive = self.rules.settings.inactive_value;
        if let Some(presence) = told {
            self.set_field(Field::Inactive, if presence == Presence::Inactive { inactive } else { !inactive });
        }
        told.unwrap_or_default()
    }
}

impl Side {
    /// The visible reference: a whole number of a contact, any text of an organisation.
    fn reference_no(&self, text: &str) -> Option<Value> {
        match self.names.entity() {
            Entity::Person => whole_number(text).map(Value::from),
            Entity::Organisation => (!text.trim().is_empty()).then(|| Value::from(text.trim())),
        }
    }

    fn country(&self, alpha2: &str) -> Option<String> {
        let code = alpha2.trim().to_ascii_uppercase();
        let listed = self.settings.countries.get(&code).map(String::as_str);
        let name = listed.or_else(|| countries::english_name(&code))?;
        match self.settings.country_form {
            CountryForm::Name => Some(name.to_owned()),
            CountryForm::Alpha2 => Some(code),
        }
    }
}

fn address_field_of(address: &Value) -> AddressField {
    if is_of_type(address, "work") {
        AddressField::Organisation
    } else if is_of_type(address, "postal") {
        AddressField::Postal
    } else {
        AddressField::Other
    }
}

/// A title as it is compared: `"MR."` is `"Mr"`.
fn plain_title(title: &str) -> String {
    title.trim().trim_end_matches('.').to_lowercase()
}

/// A number that reads back as the same digits; longer ones would lose digits on their way through JSON.
fn whole_number(text: &str) -> Option<u64> {
    const DIGITS_MAX: usize = 15;
    let plain = text.len() <= DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number: &u64| plain && number.to_string() == text)
}
