//! Ours to theirs: what Priava should hold of a contact, and what of it Priava has no place for.
//!
//! The whole contact is mapped each time, so the result is right whether Priava reads an absent field as "keep" or as
//! "remove". A value that Priava would refuse although the contact is fine without it (a title that is not in the
//! tenant's list, an unknown country) is left out and reported as lost, since refusing the whole contact for a salutation
//! serves nobody. A value that Priava cannot do without is checked here, which saves a call and names the attribute.
//!
//! Every attribute of the document is either carried or reported; [`NOWHERE`] lists those without any counterpart.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    countries,
    wire::{AddressField, AddressPart, Field, Names},
};
use crate::{
    config::{CountryForm, MiddleName, OnDelete, OnErase, PriavaSettings},
    contact::{ContactRecord, document::Said, record::Status},
    crm::{
        Loss, Presence, Projection, Verdict,
        draft::{
            self,
            why::{NO_FIELD, NOT_IN_LIST, ONE_ONLY, SWITCHED_OFF},
        },
        link::Link,
        naming::EXTERNAL,
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
    names: Names,
    integration_src: String,
    settings: PriavaSettings,
    policies: Policies,
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

/// The attribute that is Priava's debtor number.
const DEBTOR_NUMBER: &str = "debtor_number";

impl Mapping {
    pub(super) fn new(settings: &PriavaSettings, names: Names, integration_src: String, policies: Policies) -> Self {
        Self { names, integration_src, settings: settings.clone(), policies }
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// What no contact can bring to this tenant. Of arrays of which one item is carried, nothing is told.
    pub(super) fn cannot_carry(&self) -> Vec<Loss> {
        let settings = &self.settings;
        let switches = [
            (settings.middle_name == MiddleName::Drop, "/name/middleName", NO_FIELD),
            (!settings.send_organisation, "/organization/name", SWITCHED_OFF),
            (!settings.send_organisation, "/organization/type", SWITCHED_OFF),
            (!settings.send_organisation, "/organization/marketSector", SWITCHED_OFF),
            (settings.external_reference_no.is_empty(), "/identifiers", NO_FIELD),
            (true, "/addresses/geo", NO_FIELD),
            (true, "/attributes", NO_FIELD),
        ];
        let switched = switches.into_iter().filter(|(holds, ..)| *holds).map(|(_, field, why)| Loss { field, why });
        NOWHERE.iter().map(|field| Loss { field, why: NO_FIELD }).chain(switched).collect()
    }

    pub(super) fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        let ever_sent = link.is_some_and(Link::may_be_there);
        let presence = match record.status {
            Status::Live => None,
            _ if !ever_sent => return Err(Verdict::never_sent()),
            Status::Erased => return self.erase(record, link),
            Status::Deleted | Status::Merged => match self.policies.on_delete {
                OnDelete::Keep => return Err(Verdict::kept()),
                OnDelete::Delete => return Err(Verdict::unsupported(ReasonCode::Delete)),
                // Priava wants a name and an e-mail address with each write, this one too.
                OnDelete::Deactivate if record.contact.is_none() => {
                    return Err(Verdict::unsupported(ReasonCode::Deactivate));
                }
                OnDelete::Deactivate => Some(Presence::Inactive),
            },
        };
        let mut draft = Draft::new(self, record, BTreeMap::new()).never_clearing(&self.settings.never_cleared);
        if draft.is_organization() {
            return Err(Verdict::unsupported(ReasonCode::Kind));
        }
        draft.keys(external_id(record, link));
        draft.name()?;
        draft.email()?;
        draft.phones(ever_sent)?;
        draft.addresses();
        draft.organization();
        draft.consent();
        draft.free_attributes();
        draft.lose_each_said(NOWHERE, NO_FIELD);
        let was_told = link.is_some_and(|link| link.sent.contains_key(self.names.field(Field::Inactive)));
        let presence = draft.presence(presence, was_told);
        Ok(draft.finish(presence))
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
        let forgotten = ContactRecord { contact: None, ..record.clone() };
        let sent = link.into_iter().flat_map(|link| link.sent.keys()).map(|path| (path.to_string(), Value::Null));
        let mut draft = Draft::new(self, &forgotten, sent.collect());
        draft.keys(external_id(record, link));
        draft.set_field(Field::FirstName, self.settings.placeholder_first_name.as_str());
        draft.set_field(Field::LastName, self.settings.placeholder_last_name.as_str());
        draft.set_field(Field::Email, self.settings.placeholder_email.as_str());
        let presence = draft.presence(Some(Presence::Inactive), true);
        Ok(draft.finish(presence))
    }
}

/// The key that goes with each write: our contact id, unless somebody said otherwise.
pub(super) fn external_id(record: &ContactRecord, link: Option<&Link>) -> String {
    link.and_then(|link| link.remote_ids.get(EXTERNAL)).cloned().unwrap_or_else(|| record.contact_id.key())
}

/// A projection in the making.
type Draft<'a> = draft::Draft<'a, Mapping>;

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

    fn name(&mut self) -> Result<(), Verdict> {
        self.title();
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
                self.copy_text(field, pointer);
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
                match value.as_str().filter(|_| visible).and_then(whole_number) {
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

impl Mapping {
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
