//! A projection in the making: what a mapping says, clears and reports as lost.
//!
//! The same for every CRM. Which attribute becomes which field is the mapping's own, written as methods on a [`Draft`] of
//! its rules.
//!
//! Three things may be done with a field: it is set, it is cleared (unless the settings leave what is there to the CRM's
//! users), or nothing is said of it. Whatever the document says and no field carries is a loss.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use serde_json::Value;

use super::{
    Loss, Presence, Projection, Verdict,
    reading::{blank_is_empty, says_something, value},
};
use crate::contact::{ContactRecord, Document, document::Said};

/// Why something is lost, where several CRMs have the same reason.
pub(super) mod why {
    pub(in crate::crm) const NO_FIELD: &str = "no field for it";
    pub(in crate::crm) const ONE_ONLY: &str = "room for one only";
    pub(in crate::crm) const NOT_IN_LIST: &str = "not in the list of allowed values";
    pub(in crate::crm) const SWITCHED_OFF: &str = "switched off by configuration";
    pub(in crate::crm) const HALF_POSITION: &str = "half of a position";
}

/// The parts of a person's name.
pub(super) const NAME_PARTS: [&str; 6] = [
    "/name/honorificPrefix",
    "/name/givenName",
    "/name/middleName",
    "/name/familyName",
    "/name/honorificSuffix",
    "/name/formatted",
];

/// A record without a document says nothing.
static NOTHING: LazyLock<Document> = LazyLock::new(Document::default);

/// What is drafted so far of the projection of one record, under the rules `R` of a mapping.
pub(super) struct Draft<'a, R> {
    pub(super) rules: &'a R,
    pub(super) document: &'a Document,
    pub(super) fields: BTreeMap<String, Value>,
    losses: BTreeSet<Loss>,
    never_cleared: Option<&'a BTreeSet<String>>,
}

impl<'a, R> Draft<'a, R> {
    /// Nothing is said yet, but that `fields` are to be there.
    pub(super) fn new(rules: &'a R, record: &'a ContactRecord, fields: BTreeMap<String, Value>) -> Self {
        let document = record.contact.as_ref().unwrap_or(&NOTHING);
        Self { rules, document, fields, losses: BTreeSet::new(), never_cleared: None }
    }

    /// As [`Draft::new`], of a record whose document is of no account.
    pub(super) fn of_nothing(rules: &'a R, fields: BTreeMap<String, Value>) -> Self {
        Self { rules, document: &NOTHING, fields, losses: BTreeSet::new(), never_cleared: None }
    }

    /// These fields are left as they are where there is nothing to put into them.
    pub(super) fn never_clearing(self, fields: &'a BTreeSet<String>) -> Self {
        Self { never_cleared: Some(fields), ..self }
    }

    pub(super) fn finish(self, presence: Presence) -> Projection {
        Projection { fields: self.fields, presence, losses: self.losses.into_iter().collect() }
    }

    /// The text at a pointer; blank text says as little as `null`.
    pub(super) fn text(&self, pointer: &str) -> Said<&'a str> {
        blank_is_empty(self.document.text(pointer))
    }

    /// The text at a pointer, if there is any that is not blank.
    pub(super) fn words(&self, pointer: &str) -> Option<&'a str> {
        value(self.text(pointer))
    }

    /// As [`Draft::words`], where a contact without it is none.
    ///
    /// # Errors
    /// That the record is to be rejected, with the attribute that is missing.
    pub(super) fn required(&self, pointer: &'static str) -> Result<&'a str, Verdict> {
        self.words(pointer).ok_or_else(|| Verdict::missing(pointer))
    }

    pub(super) fn is_organization(&self) -> bool {
        self.document.text("/kind") == Said::Value("organization")
    }

    /// Whether the document says that the contact is active, or that it is not.
    pub(super) fn presence_said(&self) -> Option<Presence> {
        match self.document.at("/active") {
            Said::Value(Value::Bool(true)) => Some(Presence::Active),
            Said::Value(Value::Bool(false)) => Some(Presence::Inactive),
            _ => None,
        }
    }

    pub(super) fn set(&mut self, path: impl Into<String>, value: impl Into<Value>) {
        self.fields.insert(path.into(), value.into());
    }

    pub(super) fn clear(&mut self, path: impl Into<String>) {
        let path = path.into();
        if self.never_cleared.is_none_or(|never| !never.contains(&path)) {
            self.fields.insert(path, Value::Null);
        }
    }

    /// Sets a field to a text as it was written, or clears it, or says nothing of it.
    pub(super) fn say(&mut self, path: impl Into<String>, said: Said<&str>) {
        match said {
            Said::Value(text) => self.set(path, text),
            Said::Empty => self.clear(path),
            Said::Absent => {}
        }
    }

    /// As [`Draft::say`], without blanks around it.
    pub(super) fn say_trimmed(&mut self, path: impl Into<String>, said: Said<&str>) {
        let said = match said {
            Said::Value(text) => Said::Value(text.trim()),
            said => said,
        };
        self.say(path, said);
    }

    /// Sets a field to what is agreed to, or not. Unknown consent is left out; it is never sent as a guess.
    pub(super) fn say_consent(&mut self, path: impl Into<String>, pointer: &str) {
        match self.document.at(pointer) {
            Said::Value(Value::Bool(consents)) => self.set(path, *consents),
            Said::Empty => self.clear(path),
            Said::Value(_) | Said::Absent => {}
        }
    }

    pub(super) fn lose(&mut self, field: &'static str, why: &'static str) {
        self.losses.insert(Loss { field, why });
    }

    pub(super) fn lose_if_said(&mut self, field: &'static str, why: &'static str) {
        if says_something(self.document.at(field)) {
            self.lose(field, why);
        }
    }

    pub(super) fn lose_each_said(&mut self, fields: &[&'static str], why: &'static str) {
        fields.iter().for_each(|field| self.lose_if_said(field, why));
    }

    /// What turns out to be carried all the same is not lost.
    pub(super) fn find_again(&mut self, is_carried: impl Fn(&str) -> bool) {
        self.losses.retain(|loss| !is_carried(loss.field));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crm::testing::live;

    #[test]
    fn a_field_is_set_or_cleared_or_nothing_is_said_of_it() {
        let record = live(&json!({ "notes": " as written ", "gender": null, "owner": " " }));
        let mut draft = Draft::new(&(), &record, BTreeMap::new());
        draft.say("notes", draft.text("/notes"));
        draft.say_trimmed("trimmed", draft.text("/notes"));
        draft.say("gender", draft.text("/gender"));
        draft.say("owner", draft.text("/owner"));
        draft.say("birthday", draft.text("/birthDate"));
        let expected = json!({ "notes": " as written ", "trimmed": "as written", "gender": null, "owner": null });
        assert_eq!(json!(draft.finish(Presence::Active).fields), expected);
    }

    #[test]
    fn what_is_never_cleared_can_be_set() {
        let record = live(&json!({ "notes": "Hello", "gender": null }));
        let never = BTreeSet::from(["notes".to_owned(), "gender".to_owned()]);
        let mut draft = Draft::new(&(), &record, BTreeMap::new()).never_clearing(&never);
        draft.say("notes", draft.text("/notes"));
        draft.say("gender", draft.text("/gender"));
        assert_eq!(json!(draft.finish(Presence::Active).fields), json!({ "notes": "Hello" }));
    }

    #[test]
    fn only_what_is_said_is_lost_and_each_loss_is_told_once() {
        let record = live(&json!({ "notes": "Hello", "gender": null, "owner": "Ilka" }));
        let mut draft = Draft::new(&(), &record, BTreeMap::new());
        draft.lose_each_said(&["/notes", "/gender", "/birthDate", "/notes", "/owner"], why::NO_FIELD);
        draft.find_again(|field| field == "/owner");
        let losses = draft.finish(Presence::Active).losses;
        assert_eq!(losses, [Loss { field: "/notes", why: why::NO_FIELD }]);
    }

    #[test]
    fn unknown_consent_is_not_sent_as_a_guess() {
        for (written, expected) in [
            (json!({ "consent": { "marketing": false } }), json!({ "mail": false })),
            (json!({ "consent": { "marketing": null } }), json!({ "mail": null })),
            (json!({}), json!({})),
        ] {
            let record = live(&written);
            let mut draft = Draft::new(&(), &record, BTreeMap::new());
            draft.say_consent("mail", "/consent/marketing");
            assert_eq!(json!(draft.finish(Presence::Active).fields), expected, "{written}");
        }
    }
}
