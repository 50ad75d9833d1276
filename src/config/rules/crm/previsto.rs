//! What holds of the settings of a Previsto.

use std::collections::BTreeSet;

use super::{
    super::{Rules, quoted},
    status_classes,
};
use crate::{config::PrevistoSettings, crm};
pub(super) fn check(at: &str, previsto: &PrevistoSettings, rules: &mut Rules<'_>) {
    let key = |name: &str| format!("{at}.{name}");
    let mut seen = BTreeSet::new();
    let searched = &previsto.search_by;
    rules.require(
        !searched.is_empty() && searched.iter().all(|by| seen.insert(*by)),
        &[&key("search_by")],
        format!("{searched:?}").to_lowercase(),
        "each key of a search is named once, and one at least",
        "write [\"number\", \"email\", \"phone\"], or some of them",
    );
    // Older pages of Previsto say 100, newer ones 1000.
    rules.within(&key("page_size"), previsto.page_size, 1..=1000);
    rules.within(&key("search_pages_max"), previsto.search_pages_max, 2..=1000);
    let prefix = &previsto.attribute_prefix;
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    // Our own keys are made of letters alone: with such an end, no attribute can take the place of one.
    let holds = prefix.len() <= 32 && prefix.chars().all(fits) && prefix.ends_with(['_', '-', '.']);
    rules.require(
        holds,
        &[&key("attribute_prefix")],
        quoted(prefix),
        "this does not set attributes apart",
        "use up to 32 letters and digits, and end with _, - or .",
    );
    let name = &previsto.blank_name;
    let holds = !name.trim().is_empty() && name.chars().count() <= 200 && !name.chars().any(char::is_control);
    let remedy = "use 1 to 200 visible letters";
    rules.require(holds, &[&key("blank_name")], quoted(name), "a contact in Previsto has a name", remedy);
    for field in &previsto.never_cleared {
        let known = crm::previsto::is_clearable(field, prefix);
        let remedy = "use Previsto's names, with `meta.` before those of meta";
        rules.require(known, &[&key("never_cleared")], quoted(field), "no field of this name is ever cleared", remedy);
    }
    status_classes(at, previsto.status_classes.keys(), rules);
}
