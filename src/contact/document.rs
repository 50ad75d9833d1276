//! The contact document: what a source may say, and what a CRM is told.
//!
//! A document that exists holds only known attributes of the right form: [`Document::parse`] checks what comes from
//! outside against the one table in [`schema`], and so is every merge patch before [`Document::patched`] applies it.
//! Nobody checks again.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::schema::{self, DocumentFault};

/// A checked contact document: a JSON object that holds only known attributes of the right type.
///
/// Each attribute has three states: absent (nothing is said), `null` (known to be empty), and a value.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(pub(crate) Map<String, Value>);

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "document of {} attributes", self.0.len())
    }
}

/// What a document says at one place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Said<T> {
    /// Nothing is said.
    Absent,
    /// Known to be empty.
    Empty,
    Value(T),
}

impl Document {
    /// Checks a whole contact. With it comes how many attributes and labels were not known and left out.
    ///
    /// # Errors
    /// The first place whose type or value is wrong.
    pub fn parse(value: Value) -> Result<(Self, u32), DocumentFault> {
        let (members, ignored) = schema::check(value)?;
        Ok((Self(members), ignored))
    }

    /// The document that an RFC 7396 merge patch makes of this one. [`schema::check`] must have passed the patch.
    pub fn patched(&self, patch: &Map<String, Value>) -> Self {
        let mut members = self.0.clone();
        merge_patch(&mut members, patch);
        Self(members)
    }

    /// What is said at a JSON pointer (RFC 6901). Below something empty or absent, the same is said.
    pub fn at(&self, pointer: &str) -> Said<&Value> {
        let mut steps = pointer.split('/').skip(1).map(schema::unescape);
        let Some(first) = steps.next() else {
            return Said::Absent;
        };
        let mut current = match self.0.get(&*first) {
            None => return Said::Absent,
            Some(value) => value,
        };
        for step in steps {
            let next = match current {
                Value::Null => return Said::Empty,
                Value::Object(members) => members.get(&*step),
                Value::Array(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
                _ => None,
            };
            match next {
                None => return Said::Absent,
                Some(value) => current = value,
            }
        }
        if current.is_null() { Said::Empty } else { Said::Value(current) }
    }

    /// As [`Document::at`], for text.
    pub fn text(&self, pointer: &str) -> Said<&str> {
        match self.at(pointer) {
            Said::Value(Value::String(text)) => Said::Value(text),
            Said::Value(_) | Said::Absent => Said::Absent,
            Said::Empty => Said::Empty,
        }
    }

    pub fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl JsonSchema for Document {
    fn schema_name() -> Cow<'static, str> {
        "Contact".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        schema::json_schema().try_into().expect("a schema that is an object")
    }
}

/// RFC 7396. Recurses as deep as the patch, which the schema bounds.
fn merge_patch(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(members) => {
                let place = target.entry(name.as_str()).or_insert(Value::Null);
                match place {
                    Value::Object(current) => merge_patch(current, members),
                    // Whatever else stood there gives way; a null inside the patch then has nothing to remove.
                    _ => {
                        let mut fresh = Map::new();
                        merge_patch(&mut fresh, members);
                        *place = Value::Object(fresh);
                    }
                }
            }
            _ => {
                target.insert(name.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::contact::schema::samples;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(members) => members,
            _ => panic!("an object"),
        }
    }

    #[test]
    fn a_merge_patch_does_what_rfc_7396_lists() {
        // Appendix A, the rows whose target and patch are objects.
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!({"a": null}), json!({"a": {"b": 1, "c": null}}), json!({"a": {"b": 1}})),
        ] {
            let mut members = object(target.clone());
            merge_patch(&mut members, &object(patch.clone()));
            assert_eq!(Value::Object(members), result, "{target} patched with {patch}");
        }
    }

    #[test]
    fn a_place_below_something_empty_is_empty() {
        let (document, _) = Document::parse(json!({"organization": null, "name": {"givenName": "Ann"}})).unwrap();
        assert_eq!(document.at("/organization/title"), Said::Empty);
        assert_eq!(document.text("/name/givenName"), Said::Value("Ann"));
        assert_eq!(document.at("/name/familyName"), Said::Absent);
        assert_eq!(document.at("/emails/0/value"), Said::Absent);
        assert_eq!(document.at(""), Said::Absent);
    }

    #[test]
    fn a_pointer_reaches_names_with_slashes_and_tildes() {
        let (document, _) = Document::parse(json!({"attributes": {"a/b": 1, "c~d": 2, "~1": 3}})).unwrap();
        assert_eq!(document.at("/attributes/a~1b"), Said::Value(&json!(1)));
        assert_eq!(document.at("/attributes/c~0d"), Said::Value(&json!(2)));
        assert_eq!(document.at("/attributes/~01"), Said::Value(&json!(3)));
    }

    #[test]
    fn debug_does_not_show_what_a_document_holds() {
        let (document, _) = Document::parse(json!({"name": {"givenName": "Ann"}})).unwrap();
        assert_eq!(format!("{document:?}"), "document of 1 attributes");
    }

    proptest! {
        #[test]
        fn a_patched_document_needs_no_second_check(view in samples::contact(), patch in samples::contact()) {
            let (view, _) = Document::parse(view).unwrap();
            let (patch, _) = schema::check(patch).unwrap();
            let patched = view.patched(&patch);
            let (checked, ignored) = Document::parse(Value::Object(patched.members().clone())).unwrap();
            prop_assert_eq!(&checked, &patched);
            prop_assert_eq!(ignored, 0);
        }

        #[test]
        fn a_patch_applied_twice_changes_nothing_more(view in samples::contact(), patch in samples::contact()) {
            let (view, _) = Document::parse(view).unwrap();
            let (patch, _) = schema::check(patch).unwrap();
            let once = view.patched(&patch);
            prop_assert_eq!(once.patched(&patch), once);
        }
    }
}
