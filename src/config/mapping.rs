//! What operators change about the mapping of a CRM, whatever its kind: fields that are filled otherwise, and contacts
//! that are kept away.
//!
//! What is read here has the right form and no more. Whether the CRM has the field, and the contact the attribute, is
//! known where both are ([`crate::crm::Misfit`]).

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;

/// Where the value of a field comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FieldRule {
    /// A JSON pointer into the contact document.
    Pointer(String),
    Table(RuleTable),
}

impl FieldRule {
    /// Whether it leaves the field to the CRM's users.
    pub fn is_omitted(&self) -> bool {
        matches!(self, Self::Table(table) if table.omit)
    }
}

/// The long form of a rule. Of `from`, `constant` and `omit` there is exactly one.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleTable {
    /// A JSON pointer into the contact document.
    #[serde(default)]
    pub from: Option<String>,
    /// The same for every contact.
    #[serde(default)]
    pub constant: Option<Value>,
    /// The field is left to the CRM's users.
    #[serde(default)]
    pub omit: bool,
    /// What is sent for each value that may be found.
    #[serde(default)]
    pub values: Option<BTreeMap<String, Value>>,
    /// What is sent for one that is not listed; `"omit"` and `"reject"` are no values.
    #[serde(default)]
    pub otherwise: Option<Value>,
    /// A boolean is sent as its contrary.
    #[serde(default)]
    pub invert: bool,
}

impl<'de> Deserialize<'de> for FieldRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rule;

        impl<'de> Visitor<'de> for Rule {
            type Value = FieldRule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pointer such as \"/attributes/tier\", or a table")
            }

            fn visit_str<E: Error>(self, pointer: &str) -> Result<FieldRule, E> {
                Ok(FieldRule::Pointer(pointer.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<FieldRule, A::Error> {
                RuleTable::deserialize(MapAccessDeserializer::new(members)).map(FieldRule::Table)
            }
        }

        deserializer.deserialize_any(Rule)
    }
}

/// One condition on the contact document: `at` with exactly one test, or `any`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// A JSON pointer into the contact document.
    #[serde(default)]
    pub at: Option<String>,
    #[serde(default)]
    pub is: Option<Value>,
    #[serde(default)]
    pub is_not: Option<Value>,
    #[serde(default)]
    pub one_of: Option<Vec<Value>>,
    #[serde(default)]
    pub present: Option<bool>,
    #[serde(default)]
    pub absent: Option<bool>,
    /// One of these holds.
    #[serde(default)]
    pub any: Option<Vec<Condition>>,
}

/// Whether a CRM is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Live,
    /// It is only told what would be sent.
    Shadow,
}

/// What becomes of a contact that is no longer to be in the CRM although it still is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLeave {
    Keep,
    Deactivate,
    Delete,
}
