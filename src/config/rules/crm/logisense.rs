//! What holds of the settings of a LogiSense.

use std::time::Duration;

use super::{
    super::{DAY, Rules, SECOND, quoted},
    status_classes,
};
use crate::{
    config::{LoginAs, LogisenseSettings},
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
