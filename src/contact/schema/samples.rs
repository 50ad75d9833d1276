//! Contacts for property tests.

use proptest::{collection, option, prelude::*, sample::select};
use serde_json::json;

use super::*;

/// Right in type and value; some attributes are unknown, null, or empty.
pub(crate) fn contact() -> impl Strategy<Value = Value> {
    collection::btree_map(member_name(), Just(()), 0..8)
        .prop_flat_map(|names| names.into_keys().map(|name| (Just(name), value_of(name))).collect::<Vec<_>>())
        .prop_map(|members| Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

fn member_name() -> impl Strategy<Value = &'static str> {
    let mut names: Vec<_> = attributes().collect();
    names.push("unheardOf");
    select(names)
}

fn value_of(name: &'static str) -> BoxedStrategy<Value> {
    match CONTACT.iter().find(|attribute| attribute.name == name) {
        None => Just(json!([{"any": "thing"}])).boxed(),
        Some(attribute) => prop_oneof![1 => Just(Value::Null), 5 => form(&attribute.form)].boxed(),
    }
}

fn text() -> impl Strategy<Value = Value> {
    "[ -~äł]{0,12}".prop_map(Value::String)
}

fn form(form: &'static Form) -> BoxedStrategy<Value> {
    match form {
        Form::Text => text().boxed(),
        Form::Boolean => any::<bool>().prop_map(Value::Bool).boxed(),
        Form::Degrees(bound) => (-bound..*bound).prop_map(|degrees| json!(degrees)).boxed(),
        Form::Choice(labels) | Form::Label(labels) => select(*labels).prop_map(|label| json!(label)).boxed(),
        Form::Date => select(vec!["1980-02-29", "2001-12-31"]).prop_map(|date| json!(date)).boxed(),
        Form::Country => select(vec!["CH", "DE", "NL"]).prop_map(|country| json!(country)).boxed(),
        Form::Language => select(vec!["de-CH", "en", "zh-Hant"]).prop_map(|language| json!(language)).boxed(),
        Form::Photo => select(vec!["https://photos.example.com/1", "data:image/png;base64,AAAA"])
            .prop_map(|photo| json!(photo))
            .boxed(),
        Form::Object(attributes) => object(attributes),
        Form::Array(attributes) => collection::vec(object(attributes), 0..3).prop_map(Value::Array).boxed(),
        Form::TextMap => collection::btree_map("[a-z/~_]{1,3}", prop_oneof![text(), Just(Value::Null)], 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
            .boxed(),
        Form::ScalarMap => {
            let scalar = prop_oneof![
                text(),
                Just(Value::Null),
                any::<bool>().prop_map(Value::Bool),
                any::<i64>().prop_map(|number| json!(number))
            ];
            collection::btree_map("[a-z/~_]{1,3}", scalar, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect()))
                .boxed()
        }
    }
}

fn object(attributes: &'static [Attribute]) -> BoxedStrategy<Value> {
    let members: Vec<_> = attributes
        .iter()
        .map(|attribute| {
            let value = prop_oneof![1 => Just(Value::Null), 3 => form(&attribute.form)];
            option::of(value).prop_map(|value| value.map(|value| (attribute.name.to_owned(), value)))
        })
        .collect();
    members.prop_map(|members| Value::Object(members.into_iter().flatten().collect())).boxed()
}
