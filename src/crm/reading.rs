//! How a mapping reads the document of a contact: what is said, what is known to be empty, and which item of an array is
//! the one to take.
//!
//! The same for every CRM, because it is about the document. Which attribute becomes which field is the mapping's own.

use serde_json::Value;

use crate::{
    config::StreetNumber,
    contact::{Document, document::Said},
};

/// The items of an array that say something, and whether the array is known to be empty.
pub(super) struct Items<'a> {
    items: Vec<&'a Value>,
    pub(super) are_empty: bool,
}

impl<'a> Items<'a> {
    pub(super) fn of(document: &'a Document, pointer: &str, says_something: impl Fn(&Value) -> bool) -> Self {
        match document.at(pointer) {
            Said::Value(Value::Array(items)) => {
                Self { items: items.iter().filter(|item| says_something(item)).collect(), are_empty: items.is_empty() }
            }
            Said::Empty => Self { items: Vec::new(), are_empty: true },
            Said::Value(_) | Said::Absent => Self { items: Vec::new(), are_empty: false },
        }
    }

    /// Of those that fit, the primary one, else the first.
    pub(super) fn first(&self, fits: impl Fn(&Value) -> bool) -> Option<&'a Value> {
        let fitting = || self.items.iter().copied().filter(|item| fits(item));
        fitting().find(|item| is_primary(item)).or_else(|| fitting().next())
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &'a Value> {
        self.items.iter().copied()
    }

    pub(super) fn count(&self) -> usize {
        self.items.len()
    }
}

/// What is said, if it is a value.
pub(super) fn value<T>(said: Said<T>) -> Option<T> {
    match said {
        Said::Value(value) => Some(value),
        Said::Absent | Said::Empty => None,
    }
}

/// A text of blanks alone says as little as `null`.
pub(super) fn blank_is_empty(said: Said<&str>) -> Said<&str> {
    match said {
        Said::Value(text) if text.trim().is_empty() => Said::Empty,
        said => said,
    }
}

/// Whether there is anything that a CRM could hold.
pub(super) fn says_something(said: Said<&Value>) -> bool {
    match said {
        Said::Absent | Said::Empty => false,
        Said::Value(Value::String(text)) => !text.trim().is_empty(),
        Said::Value(Value::Array(items)) => !items.is_empty(),
        Said::Value(Value::Object(members)) => members.values().any(|member| !member.is_null()),
        Said::Value(_) => true,
    }
}

/// What an item of an array says about one of its members.
pub(super) fn member<'a>(item: &'a Value, name: &str) -> Said<&'a str> {
    match item.get(name) {
        Some(Value::String(text)) => blank_is_empty(Said::Value(text)),
        Some(Value::Null) => Said::Empty,
        Some(_) | None => Said::Absent,
    }
}

pub(super) fn member_text<'a>(item: &'a Value, name: &str) -> Option<&'a str> {
    value(member(item, name))
}

pub(super) fn is_of_type(item: &Value, label: &str) -> bool {
    member_text(item, "type").is_some_and(|text| text.eq_ignore_ascii_case(label))
}

pub(super) fn is_fax(phone: &Value) -> bool {
    is_of_type(phone, "fax")
}

pub(super) fn is_primary(item: &Value) -> bool {
    item.get("primary").and_then(Value::as_bool) == Some(true)
}

/// The lines of the street of an address, none of them blank, the first one with its number.
pub(super) fn street_lines(address: &Value, place: StreetNumber) -> Vec<String> {
    let street = member_text(address, "streetAddress").into_iter().flat_map(str::lines).map(str::trim);
    let mut lines: Vec<String> = street.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if let Some(number) = member_text(address, "streetNumber") {
        match lines.first_mut() {
            None => lines.push(number.to_owned()),
            Some(street) => *street = with_number(street, number, place),
        }
    }
    lines
}

pub(super) fn with_number(street: &str, number: &str, place: StreetNumber) -> String {
    match place {
        StreetNumber::Before => format!("{number} {street}"),
        StreetNumber::After => format!("{street} {number}"),
    }
}

/// Where an address is, in degrees.
pub(super) enum Position {
    Unsaid,
    Empty,
    Known {
        latitude: Value,
        longitude: Value,
    },
    /// One of the two, which is no place.
    Half,
}

impl Position {
    pub(super) fn of(address: &Value) -> Self {
        let geo = match address.get("geo") {
            None => return Self::Unsaid,
            Some(Value::Null) => return Self::Empty,
            Some(geo) => geo,
        };
        let degrees = |name: &str| geo.get(name).filter(|degrees| degrees.is_number()).cloned();
        match (degrees("latitude"), degrees("longitude")) {
            (Some(latitude), Some(longitude)) => Self::Known { latitude, longitude },
            (None, None) => Self::Unsaid,
            (Some(_), None) | (None, Some(_)) => Self::Half,
        }
    }
}

/// How a post office box stands in a line of an address.
pub(super) fn post_office_box(number: &str) -> String {
    const LABEL: &str = "PO Box";
    let labelled = number.get(..LABEL.len()).is_some_and(|start| start.eq_ignore_ascii_case(LABEL));
    if labelled { number.to_owned() } else { format!("{LABEL} {number}") }
}

/// Fills in the given or family name that is missing, from the full name. Only what can be told apart for certain is
/// filled in: `"Vale, Ilka"` is turned round, but `"Ilka Vale, PhD"` is not taken for a family name before a comma.
pub(super) fn complete_name(
    formatted: &str,
    [prefix, suffix]: [Option<&str>; 2],
    middle: Option<&str>,
    given: Option<String>,
    family: Option<String>,
) -> (Option<String>, Option<String>) {
    let text = without_first(formatted.trim(), prefix);
    let text = without_last(text, suffix).trim_end_matches(',').trim_end();
    let nonempty = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    match (given, family) {
        (Some(given), None) => {
            let rest = without_first(text, Some(&given));
            let family = if rest == text { None } else { nonempty(without_first(rest, middle)) };
            (Some(given), family)
        }
        (None, Some(family)) => {
            let rest = without_last(text, Some(&family));
            let given = if rest == text { None } else { nonempty(without_last(rest, middle)) };
            (given, Some(family))
        }
        (None, None) => match text.split_once(',') {
            Some((before, after)) => {
                let (before, after) = (before.trim(), after.trim());
                let one_word = !before.contains(char::is_whitespace) && !after.contains(',');
                if one_word { (nonempty(after), nonempty(before)) } else { (None, None) }
            }
            None => match text.rsplit_once(char::is_whitespace) {
                Some((before, family)) => (nonempty(without_last(before.trim_end(), middle)), nonempty(family)),
                None => (None, None),
            },
        },
        both => both,
    }
}

/// `text` without `word` at its beginning, if it stands there by itself.
fn without_first<'a>(text: &'a str, word: Option<&str>) -> &'a str {
    let rest = word.and_then(|word| text.strip_prefix(word));
    rest.filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)).map_or(text, str::trim_start)
}

/// `text` without `word` at its end, if it stands there by itself.
fn without_last<'a>(text: &'a str, word: Option<&str>) -> &'a str {
    let rest = word.and_then(|word| text.strip_suffix(word));
    rest.filter(|rest| rest.is_empty() || rest.ends_with(char::is_whitespace)).map_or(text, str::trim_end)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_primary_item_that_fits_is_taken_else_the_first() {
        let (document, _) = Document::parse(json!({ "phoneNumbers": [
            { "value": "1", "type": "fax", "primary": true }, { "value": "2", "type": "work" }, { "value": " " },
            { "value": "3", "type": "work", "primary": true },
        ] }))
        .unwrap();
        let phones = Items::of(&document, "/phoneNumbers", |item| member_text(item, "value").is_some());
        let number = |fits: fn(&Value) -> bool| phones.first(fits).and_then(|phone| member_text(phone, "value"));
        assert_eq!(phones.count(), 3, "blanks say nothing");
        assert_eq!(number(|phone| !is_fax(phone)), Some("3"));
        assert_eq!(number(|phone| phone.get("primary").is_none()), Some("2"));
        assert_eq!(number(|phone| is_of_type(phone, "home")), None);
        assert!(!phones.are_empty);
    }

    #[test]
    fn an_array_without_items_is_known_to_be_empty_and_one_that_is_left_out_is_not() {
        for (written, expected) in [(json!({"emails": []}), true), (json!({"emails": null}), true), (json!({}), false)]
        {
            let (document, _) = Document::parse(written.clone()).unwrap();
            assert_eq!(Items::of(&document, "/emails", |_| true).are_empty, expected, "{written}");
        }
    }

    #[test]
    fn a_post_office_box_is_labelled_once() {
        for (written, expected) in [("88", "PO Box 88"), ("po box 88", "po box 88"), ("P", "PO Box P")] {
            assert_eq!(post_office_box(written), expected);
        }
    }
}
