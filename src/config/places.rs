//! Where in a file of settings each key stands, so that a value and a fault can say their line.
//!
//! Keys are named as faults name them (`crm[0].delivery.retry_delay`). What the file does not say has no place; the nearest
//! table above it may have one, which is where an operator would write it.

use std::{collections::BTreeMap, ops::Range};

use toml::de::{DeTable, DeValue};

use super::fault::Fault;

/// The line of each key of a file, counted from 1.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<String, usize>);

impl Places {
    /// # Errors
    /// The one fault that `text` is not TOML, with line and column. What stands there is not quoted: it may be a secret.
    pub(super) fn of(text: &str) -> Result<Self, Fault> {
        let table = DeTable::parse(text).map_err(|error| not_toml(text, &error))?;
        let mut places = BTreeMap::new();
        note_table(text, "", table.get_ref(), &mut places);
        Ok(Self(places))
    }

    /// Where this very key stands.
    pub(super) fn line(&self, key: &str) -> Option<usize> {
        self.0.get(key).copied()
    }

    /// The same, or else where the nearest table or list above it does.
    pub(super) fn nearest(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.line(key) {
                return Some(line);
            }
            key = key.get(..key.rfind(['.', '['])?).unwrap_or_default();
        }
    }
}

fn note_table(text: &str, above: &str, table: &DeTable<'_>, places: &mut BTreeMap<String, usize>) {
    for (name, value) in table {
        let key = if above.is_empty() { name.get_ref().to_string() } else { format!("{above}.{}", name.get_ref()) };
        note(text, key, name.span(), value.get_ref(), places);
    }
}

fn note(text: &str, key: String, span: Range<usize>, value: &DeValue<'_>, places: &mut BTreeMap<String, usize>) {
    match value {
        DeValue::Table(table) => note_table(text, &key, table, places),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                note(text, format!("{key}[{index}]"), item.span(), item.get_ref(), places);
            }
        }
        _ => {}
    }
    places.insert(key, line_and_column(text, span.start).0);
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_begins = before.rfind('\n').map_or(0, |end| end + 1);
    let column = before.get(line_begins..).unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

fn not_toml(text: &str, error: &toml::de::Error) -> Fault {
    let (line, column) = line_and_column(text, error.span().map_or(0, |span| span.start));
    // The message tells what TOML has in such a place. The error's own text would quote the line.
    let reason = format!("column {column} is not TOML: {}", error.message().lines().collect::<Vec<_>>().join(", "));
    let remedy = "see config/reference.toml for how each key is written";
    Fault { key: String::new(), value: None, line: Some(line), reason, remedy: remedy.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_the_line_that_it_stands_in_and_what_is_not_there_that_of_what_is_above_it() {
        let text =
            "a = 1\n[b]\n\"c.d\" = 2\ne = [\n  3,\n  4,\n]\n[[crm]]\nname = 'x'\n[crm.delivery]\n[[crm]]\nname = 'y'\n";
        let places = Places::of(text).expect("this is TOML");
        for (key, line) in [
            ("a", 1),
            ("b", 2),
            ("b.c.d", 3),
            ("b.e", 4),
            ("b.e[1]", 6),
            ("crm[0].name", 9),
            ("crm[0].delivery", 10),
            ("crm[1].name", 12),
        ] {
            assert_eq!(places.line(key), Some(line), "{key}");
        }
        assert_eq!(places.line("crm[0].delivery.retry_delay"), None);
        assert_eq!(places.nearest("crm[0].delivery.retry_delay"), Some(10));
        assert_eq!(places.nearest("crm[1].kind"), Some(11));
        assert_eq!(places.nearest("worker.id"), None);
    }
}
