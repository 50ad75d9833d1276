//! What holds of the settings of a Priava.

use std::collections::BTreeSet;

use super::{
    super::{Rules, quoted},
    status_classes,
};
use crate::config::{PriavaAuth, PriavaSettings};
pub(super) fn check(at: &str, priava: &PriavaSettings, rules: &mut Rules<'_>) {
    let key = |name: &str| format!("{at}.{name}");
    let header = &priava.token_header;
    let holds = http::HeaderName::try_from(header.as_str()).is_ok();
    rules.require(
        holds,
        &[&key("token_header")],
        quoted(header),
        "this cannot name a header",
        "write it as in APIToken",
    );
    for (name, value) in [("token_prefix", &priava.token_prefix), ("tenant_region", &priava.tenant_region)] {
        let holds = http::HeaderValue::try_from(value.as_str()).is_ok();
        rules.require_unseen(holds, &key(name), "a header cannot carry this", "use visible letters");
    }
    rules.path(&key("path"), &priava.path);
    rules.path(&key("organisations_path"), &priava.organisations_path);
    if priava.auth == PriavaAuth::Oauth2 {
        let missing = |value: &str| value.trim().is_empty();
        for (name, value, remedy) in [
            ("client_id", &priava.client_id, "write what Priava was told when the grant was made"),
            ("redirect_uri", &priava.redirect_uri, "write what Priava was told when the grant was made"),
            ("tenant_region", &priava.tenant_region, "write where the tenant is: APAC, EU or US"),
        ] {
            rules.require(!missing(value), &[&key(name)], quoted(value), "\"oauth2\" does not work without it", remedy);
        }
        rules.path(&key("oauth_path"), &priava.oauth_path);
    }
    for (name, value) in [
        ("placeholder_first_name", &priava.placeholder_first_name),
        ("placeholder_last_name", &priava.placeholder_last_name),
        ("placeholder_organisation", &priava.placeholder_organisation),
    ] {
        let holds = !value.trim().is_empty();
        rules.require(holds, &[&key(name)], quoted(value), "Priava takes no contact without it", "write a word");
    }
    for (name, list) in [("organisation_types", &priava.organisation_types), ("market_sectors", &priava.market_sectors)]
    {
        let holds = list.iter().all(|entry| !entry.trim().is_empty());
        rules.require(holds, &[&key(name)], "\"\"", "an entry is empty", "write it as Priava has it, or remove it");
    }
    let email = &priava.placeholder_email;
    let holds = email
        .split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !email.contains(char::is_whitespace));
    let remedy = "write one that nobody has, as in erased@example.invalid";
    rules.require(holds, &[&key("placeholder_email")], quoted(email), "this is no e-mail address", remedy);
    for (code, name) in &priava.countries {
        let holds = code.len() == 2 && code.chars().all(|letter| letter.is_ascii_uppercase()) && !name.is_empty();
        let remedy = "write two capital letters (ISO 3166-1) and the name";
        rules.require(holds, &[&key(&format!("countries.{code}"))], quoted(name), "this names no country", remedy);
    }
    for (table, replaced) in
        [("field_names", &priava.field_names), ("organisation_field_names", &priava.organisation_field_names)]
    {
        let mut names = BTreeSet::new();
        for (ours, theirs) in replaced {
            let key = key(&format!("{table}.{ours}"));
            let remedy = "write the tenant's name, or remove the key";
            rules.require(!theirs.is_empty(), &[&key], "\"\"", "a field has a name", remedy);
            let holds = names.insert(theirs);
            rules.require(holds, &[&key], quoted(theirs), "two fields have this name", "rename one of them");
        }
    }
    status_classes(at, priava.status_classes.keys(), rules);
}
