//! What holds of the settings of a LogiSense.

use std::time::Duration;

use super::{
    super::{DAY, Rules, SECOND, quoted},
    status_classes,
};
use crate::{
    config::{LoginAs, LogisenseSettings, PatchItems},
    crm,
};

pub(super) fn check(at: &str, logisense: &LogisenseSettings, rules: &mut Rules<'_>) {
    let key = |name: &str| format!("{at}.{name}");
    let needed = |name: &str, text: &str, remedy: &str, rules: &mut Rules<'_>| {
        let holds = !text.trim().is_empty() && text.chars().count() <= 200 && !text.chars().any(char::is_control);
        rules.require(holds, &[&key(name)], quoted(text), "LogiSense does not do without it", remedy);
    };
    if logisense.login == LoginAs::User {
        needed("username", &logisense.username, "write the name of a user, or set login = \"client\"", rules);
    }
    needed("client_id", &logisense.client_id, "write the id of the client", rules);
    needed("contact_type", &logisense.contact_type, "write a name of the list ContactType", rules);
    needed("blank_name", &logisense.blank_name, "use 1 to 200 visible letters", rules);
    needed("code_member", &logisense.code_member, "write the name of a member of Country and State", rules);
    for (name, path) in [("login_path", &logisense.login_path), ("resource_path", &logisense.resource_path)] {
        let fits = |letter: char| letter.is_ascii_graphic() && !"?#".contains(letter);
        let holds = path.starts_with('/') && !path.ends_with('/') && path.chars().all(fits);
        let remedy = "begin with /, end without, and leave out query and blanks";
        rules.require(holds, &[&key(name)], quoted(path), "this is no path", remedy);
    }
    rules.within(&key("first_page"), logisense.first_page, 0..=1);
    paging_and_patches(at, logisense, rules);
    rules.within(&key("page_size"), logisense.page_size, 2..=1000);
    rules.within(&key("walk_pages_max"), logisense.walk_pages_max, 1..=10_000);
    rules.within(&key("candidates_max"), logisense.candidates_max, 1..=1000);
    rules.within(&key("points_max"), logisense.points_max, 1..=20);
    rules.lasting(&key("renew_before"), logisense.renew_before, SECOND..=DAY);
    rules.lasting(&key("login_interval_min"), logisense.login_interval_min, Duration::ZERO..=DAY);
    for field in &logisense.never_cleared {
        let known = crm::logisense::is_clearable(field, logisense.points_max);
        let remedy = "use title, firstName, address.… or contactPoint.… as LogiSense names them";
        rules.require(known, &[&key("never_cleared")], quoted(field), "no field of this name is ever cleared", remedy);
    }
    for (code, name) in &logisense.countries {
        let holds = code.len() == 2 && code.chars().all(|letter| letter.is_ascii_uppercase()) && !name.is_empty();
        let remedy = "write two capital letters (ISO 3166-1) and what the tenant has";
        rules.require(holds, &[&key(&format!("countries.{code}"))], quoted(name), "this names no country", remedy);
    }
    status_classes(at, logisense.status_classes.keys(), rules);
}

/// The names of query arguments and of members of a patch: such as can stand there, each for one thing.
fn paging_and_patches(at: &str, logisense: &LogisenseSettings, rules: &mut Rules<'_>) {
    let is_name = |text: &str| {
        text.len() <= 100 && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.$".contains(letter))
    };
    let patch = &logisense.patch;
    for (name, text, may_be_empty) in [
        ("page_number_argument", &logisense.page_number_argument, false),
        ("page_size_argument", &logisense.page_size_argument, true),
        ("exclude_total_argument", &logisense.exclude_total_argument, true),
        ("patch.details", &patch.details, true),
        ("patch.contact_points", &patch.contact_points, false),
        ("patch.address", &patch.address, false),
    ] {
        let holds = is_name(text) && (may_be_empty || !text.is_empty());
        let remedy = "use 1 to 100 letters, digits, _, -, . and $";
        rules.require(holds, &[&format!("{at}.{name}")], quoted(text), "nothing can be called so", remedy);
    }
    let place = format!("{at}.patch.address");
    let reason = "contact points stand there already";
    rules.require(patch.address != patch.contact_points, &[&place], quoted(&patch.address), reason, "choose another");
    let place = format!("{at}.patch.contact_points_as");
    let holds = patch.contact_points_as != PatchItems::Single;
    rules.require(holds, &[&place], "single", "there may be several changes to contact points", "choose items or list");
}
