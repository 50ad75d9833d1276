//! What fills one field in place of the connector's mapping, and whether it can.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Misfit, place::Place};
use crate::{
    config::{FieldRule, RuleTable},
    contact::{Document, document::Said, schema::Holds},
    crm::{Field, Takes},
};

/// A rule that fits its field.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    pub(super) field: Field,
    source: Source,
}

#[derive(Debug, Clone, PartialEq)]
enum Source {
    Constant(Value),
    Left,
    From { place: Place, values: Option<BTreeMap<String, Value>>, otherwise: Otherwise, invert: bool },
}

#[derive(Debug, Clone, PartialEq)]
enum Otherwise {
    Omit,
    Reject,
    Value(Value),
}

/// What a rule makes of a document.
#[derive(Debug, PartialEq)]
pub(super) enum Made {
    Value(Value),
    /// Known to be empty.
    Empty,
    /// The document says nothing.
    Nothing,
    /// What the document says is nothing for this field.
    Unfit,
    /// What the document says is not to be sent, and neither is the contact.
    Refused,
}

/// What an `otherwise` says that is no value.
const OMIT: &str = "omit";
const REJECT: &str = "reject";

impl Rule {
    /// # Errors
    /// All that is wrong with it. `key` is that of the field.
    pub(super) fn new(written: &FieldRule, field: Field, key: &str) -> Result<Self, Vec<Misfit>> {
        let table = match written {
            FieldRule::Pointer(pointer) => RuleTable { from: Some(pointer.clone()), ..RuleTable::default() },
            FieldRule::Table(table) => table.clone(),
        };
        let at = |member: &str| match written {
            FieldRule::Pointer(_) => key.to_owned(),
            FieldRule::Table(_) => format!("{key}.{member}"),
        };
        let misfit = |key: String, reason: &str, remedy: String| Misfit { key, reason: reason.to_owned(), remedy };
        let one = |key: String, reason: &str, remedy: String| Err(vec![misfit(key, reason, remedy)]);
        let sources = [table.from.is_some(), table.constant.is_some(), table.omit];
        if sources.into_iter().filter(|is_there| *is_there).count() != 1 {
            let remedy = "write exactly one of `from`, `constant` and `omit = true`".to_owned();
            return one(key.to_owned(), "it is not clear where the value comes from", remedy);
        }
        if table.from.is_none() && (table.values.is_some() || table.otherwise.is_some() || table.invert) {
            let remedy = "remove `values`, `otherwise` and `invert`, or write `from`".to_owned();
            return one(key.to_owned(), "only a value of the contact can be looked up or inverted", remedy);
        }
        if table.omit {
            if field.required {
                let remedy = "remove the rule, or say where the value comes from".to_owned();
                return one(at("omit"), "the CRM takes no contact without this field", remedy);
            }
            return Ok(Self { field, source: Source::Left });
        }
        if field.takes == Takes::Parts {
            let remedy = "leave it to the CRM's users with `omit = true`, or remove the rule".to_owned();
            return one(key.to_owned(), "this field is no single value", remedy);
        }
        if let Some(constant) = &table.constant {
            return match field.takes.fit(constant) {
                Some(value) => Ok(Self { field, source: Source::Constant(value) }),
                None => one(format!("{key}.constant"), "the field does not take this value", field.takes.remedy()),
            };
        }
        let pointer = table.from.as_deref().expect("one of the three is there");
        let place = match Place::new(pointer) {
            Ok(place) => place,
            Err(reason) => {
                return one(
                    at("from"),
                    reason,
                    "name one of the contact document, as in \"/attributes/tier\"".to_owned(),
                );
            }
        };
        if place.holds() == Holds::Others {
            return one(at("from"), "there are several values at this place", "name one of those below it".to_owned());
        }
        let mut misfits = Vec::new();
        let is_flag = matches!(place.holds(), Holds::Boolean | Holds::Scalar);
        if table.invert && (!is_flag || table.values.is_some()) {
            let remedy = "remove `invert`; `values` can do the same".to_owned();
            misfits.push(misfit(at("invert"), "only a boolean by itself can be inverted", remedy));
        }
        if table.values.is_none() && !field.takes.may_take(place.holds()) {
            misfits.push(misfit(at("from"), "the field does not take what is there", field.takes.remedy()));
        }
        let unfit = |(_, sent): &(&String, &Value)| field.takes.fit(sent).is_none();
        for (found, _) in table.values.iter().flatten().filter(unfit) {
            let key = format!("{key}.values.{found}");
            misfits.push(misfit(key, "the field does not take this value", field.takes.remedy()));
        }
        let as_sent = |(found, sent): (&String, &Value)| Some((found.clone(), field.takes.fit(sent)?));
        let values = table.values.as_ref().map(|values| values.iter().filter_map(as_sent).collect());
        let otherwise = match &table.otherwise {
            None => Otherwise::Omit,
            Some(Value::String(word)) if word == OMIT => Otherwise::Omit,
            Some(Value::String(word)) if word == REJECT => Otherwise::Reject,
            Some(value) => match field.takes.fit(value) {
                Some(value) => Otherwise::Value(value),
                None => {
                    let remedy = format!("write \"{OMIT}\", \"{REJECT}\", or a value: {}", field.takes.remedy());
                    misfits.push(misfit(at("otherwise"), "the field does not take this value", remedy));
                    Otherwise::Omit
                }
            },
        };
        if misfits.is_empty() {
            Ok(Self { field, source: Source::From { place, values, otherwise, invert: table.invert } })
        } else {
            Err(misfits)
        }
    }

    /// Whether the field is left to the CRM's users.
    pub(super) fn is_left(&self) -> bool {
        self.source == Source::Left
    }

    pub(super) fn place(&self) -> Option<&Place> {
        match &self.source {
            Source::From { place, .. } => Some(place),
            Source::Constant(_) | Source::Left => None,
        }
    }

    pub(super) fn make(&self, document: &Document) -> Made {
        let (place, values, otherwise, invert) = match &self.source {
            Source::Constant(value) => return Made::Value(value.clone()),
            Source::Left => return Made::Nothing,
            Source::From { place, values, otherwise, invert } => (place, values, otherwise, *invert),
        };
        let value = match place.one(document) {
            Said::Value(value) => value,
            Said::Empty => return Made::Empty,
            Said::Absent => return Made::Nothing,
        };
        let sent = match (values, value) {
            (Some(values), value) => plain(value).and_then(|text| values.get(&text)).cloned(),
            (None, Value::Bool(flag)) if invert => self.field.takes.fit(&Value::Bool(!flag)),
            (None, _) if invert => None,
            (None, value) => self.field.takes.fit(value),
        };
        match (sent, otherwise) {
            (Some(value), _) => Made::Value(value),
            (None, Otherwise::Value(value)) => Made::Value(value.clone()),
            (None, Otherwise::Omit) => Made::Unfit,
            (None, Otherwise::Reject) => Made::Refused,
        }
    }
}

/// A scalar as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl Takes {
    /// A value as the field takes it.
    fn fit(self, value: &Value) -> Option<Value> {
        match self {
            Self::Text => plain(value).filter(|text| !text.trim().is_empty()).map(Value::from),
            Self::Choice(choices) => value.as_str().filter(|text| choices.contains(text)).map(Value::from),
            Self::Number => match value {
                Value::Number(_) => Some(value.clone()),
                // Only what reads back as the same digits.
                Value::String(text) => serde_json::from_str::<serde_json::Number>(text)
                    .ok()
                    .filter(|number| number.to_string() == *text)
                    .map(Value::Number),
                _ => None,
            },
            Self::Boolean => value.is_boolean().then(|| value.clone()),
            Self::Scalar => plain(value).map(|_| value.clone()),
            Self::Date => {
                // A day is a moment as well: its midnight.
                let text = value.as_str().map(str::trim)?;
                text.parse::<jiff::civil::DateTime>().is_ok().then(|| text.into())
            }
            Self::Parts => None,
        }
    }

    /// Whether anything that is at such a place may fit.
    fn may_take(self, holds: Holds) -> bool {
        match (self, holds) {
            (_, Holds::Others) | (Self::Parts, _) => false,
            (_, Holds::Scalar) | (Self::Text | Self::Scalar, _) => true,
            (Self::Choice(_), holds) => matches!(holds, Holds::Text | Holds::Choice(_)),
            (Self::Date, holds) => holds == Holds::Text,
            (Self::Number, holds) => matches!(holds, Holds::Number | Holds::Text),
            (Self::Boolean, holds) => holds == Holds::Boolean,
        }
    }

    fn remedy(self) -> String {
        match self {
            Self::Text => "it takes a text that is not blank".to_owned(),
            Self::Choice(choices) => format!("it takes one of: {}", choices.join(", ")),
            Self::Number => "it takes a number".to_owned(),
            Self::Boolean => "it takes true or false; `values` can turn a text into one".to_owned(),
            Self::Scalar => "it takes a text, a number, true or false".to_owned(),
            Self::Date => "it takes a day (2026-11-23) or a moment without a zone (2026-11-23T18:30:00)".to_owned(),
            Self::Parts => "it can only be left to the CRM's users, with `omit = true`".to_owned(),
        }
    }
}
