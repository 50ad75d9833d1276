//! A place in a contact document that a setting names, and what a document says there.

use serde_json::{Map, Value};

use crate::{
    contact::{
        Document,
        document::Said,
        schema::{self, Holds, Named, unescape},
    },
    crm::reading::{Items, says_something},
};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    /// As it was configured.
    pub(super) pointer: String,
    named: Named,
}

impl Place {
    /// # Errors
    /// Why no document has such a place.
    pub(super) fn new(pointer: &str) -> Result<Self, &'static str> {
        let named = schema::named(pointer).ok_or(if pointer.starts_with('/') {
            "no contact has an attribute there"
        } else {
            "this is no JSON pointer, which begins with a slash"
        })?;
        Ok(Self { pointer: pointer.to_owned(), named })
    }

    /// The attribute, as loss reports name it.
    pub(super) fn path(&self) -> &'static str {
        self.named.path
    }

    pub(super) fn holds(&self) -> Holds {
        self.named.holds
    }

    /// The one value that a field gets: of an array without index, that of the primary item that has it, else of the first.
    pub(super) fn one<'a>(&self, document: &'a Document) -> Said<&'a Value> {
        let said = match &self.named.each {
            None => document.at(&self.pointer),
            Some((array, member)) => {
                let items = Items::of(document, array, |item| item.pointer(member).is_some_and(is_said));
                match items.first(|_| true).and_then(|item| item.pointer(member)) {
                    Some(value) => Said::Value(value),
                    None if items.are_empty => Said::Empty,
                    None => Said::Absent,
                }
            }
        };
        match said {
            Said::Value(value) if !is_said(value) => Said::Empty,
            said => said,
        }
    }

    /// All that is said there: of an array without index, by each of its items.
    pub(super) fn all<'a>(&self, document: &'a Document) -> Vec<&'a Value> {
        let Some((array, member)) = &self.named.each else {
            return match self.one(document) {
                Said::Value(value) => vec![value],
                Said::Empty | Said::Absent => Vec::new(),
            };
        };
        let items = Items::of(document, array, |item| item.pointer(member).is_some_and(is_said));
        items.each().filter_map(|item| item.pointer(member)).collect()
    }

    /// Takes out of a document what [`Place::one`] finds there.
    pub(super) fn take_from(&self, document: &mut Document) {
        let Said::Value(value) = self.one(document) else { return };
        let value = value.clone();
        match &self.named.each {
            None => remove(&mut document.0, &self.pointer, &value),
            Some((array, member)) => {
                let items = document.0.get_mut(array.trim_start_matches('/')).and_then(Value::as_array_mut);
                let item = items.into_iter().flatten().find(|item| item.pointer(member) == Some(&value));
                if let Some(members) = item.and_then(Value::as_object_mut) {
                    remove(members, member, &value);
                }
            }
        }
    }
}

fn is_said(value: &Value) -> bool {
    says_something(Said::Value(value))
}

/// Removes the member that a pointer names, if it is `value`.
fn remove(members: &mut Map<String, Value>, pointer: &str, value: &Value) {
    let Some((above, last)) = pointer.rsplit_once('/') else { return };
    let mut steps = above.split('/').skip(1).map(unescape);
    let found = match steps.next() {
        None => Some(members),
        Some(first) => steps
            .try_fold(members.get_mut(&*first), |place, step| {
                Some(match place? {
                    Value::Object(members) => members.get_mut(&*step),
                    Value::Array(items) => step.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
                    _ => None,
                })
            })
            .flatten()
            .and_then(Value::as_object_mut),
    };
    if let Some(members) = found
        && members.get(&*unescape(last)) == Some(value)
    {
        members.remove(&*unescape(last));
    }
}
