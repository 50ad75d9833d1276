//! What CRM.COM shows, compared with what it should hold.
//!
//! Much comes back otherwise than it was sent although nobody touched it: members have other names, an item of a list comes as
//! the whole item and not as what named it, labels come in another case, telephone numbers with their calling code, and notes
//! behind a stamp that says who wrote them and when. None of that is a difference.

use serde_json::{Map, Value};

use super::{
    CrmCom, fields, sets,
    wire::{self, Contact, Set, inner},
};
use crate::crm::remote::plain;

/// Labels, which come back in the case that the release prefers.
const LABELS: [&str; 2] = [wire::TYPE, wire::PREFERRED_LANGUAGE];

impl CrmCom {
    /// Whether something else is shown under a path than is to be there; null: nothing.
    pub(super) fn differs(&self, shown: &Contact, path: &str, expected: &Value) -> bool {
        if let Some((set, of_type)) = Set::of_path(path) {
            let entry = shown.entries(set).find(|entry| entry.of_type().as_deref() == Some(of_type));
            return sets::differs(&self.settings, set, expected, entry);
        }
        let held = shown.value(path);
        !match expected {
            Value::Null => is_nothing(held),
            Value::Bool(flag) => plain(Some(held)).is_some_and(|held| is_flag(&held, *flag)),
            Value::Number(number) => number.as_f64() == number_of(held),
            Value::String(text) => is_same_text(path, text, held),
            Value::Object(date) if is_day(path) => is_same_date(date, held),
            Value::Object(identifier) => is_named(identifier, held),
            Value::Array(_) => plain(Some(expected)) == plain(Some(held)),
        }
    }
}

/// A flag that is not set is shown as one that is not.
fn is_nothing(held: &Value) -> bool {
    match held {
        Value::Bool(flag) => !flag,
        Value::Object(members) => members.values().all(is_nothing),
        held => plain(Some(held)).is_none(),
    }
}

fn is_flag(held: &str, flag: bool) -> bool {
    let words = if flag { ["true", "1"] } else { ["false", "0"] };
    words.iter().any(|word| held.eq_ignore_ascii_case(word))
}

fn number_of(held: &Value) -> Option<f64> {
    held.as_f64().or_else(|| held.as_str()?.trim().parse().ok())
}

fn is_same_text(path: &str, expected: &str, held: &Value) -> bool {
    let (expected, held) =
        (plain(Some(&Value::from(expected))).unwrap_or_default(), plain(Some(held)).unwrap_or_default());
    if path == wire::NOTES {
        // Behind a stamp, or with what others wrote around it.
        return words(&held).contains(&words(&expected));
    }
    if LABELS.contains(&path) || path.ends_with(inner::GENDER) {
        return expected.eq_ignore_ascii_case(&held);
    }
    if fields::is_moment(path) {
        let moment = |text: &str| text.trim_end_matches('Z').parse::<jiff::civil::DateTime>().ok();
        return moment(&expected).is_some() && moment(&expected) == moment(&held);
    }
    expected == held
}

/// The words of a text with one blank between them.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_same_date(expected: &Map<String, Value>, held: &Value) -> bool {
    ["day", "month", "year"].iter().all(|part| expected.get(*part).and_then(number_of) == number_of(&held[*part]))
}

fn is_day(path: &str) -> bool {
    path.split_once('.').is_some_and(|(_, member)| wire::is_day(member))
}

/// Whether an item of a list is the one that an identifier names. An item that does not show what it was named by may be.
fn is_named(identifier: &Map<String, Value>, held: &Value) -> bool {
    identifier.iter().all(|(member, name)| {
        let shown = match held {
            Value::Object(item) if !is_nothing(held) => item.get(member).and_then(wire::text_of),
            Value::String(text) => Some(text.clone()),
            _ => return false,
        };
        let name = wire::text_of(name).unwrap_or_default();
        shown.is_none_or(|shown| shown.trim().eq_ignore_ascii_case(name.trim()))
    })
}
