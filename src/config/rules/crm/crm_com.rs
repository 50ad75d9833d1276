//! What holds of the settings of a CRM.COM.

use std::{collections::BTreeSet, time::Duration};

use humantime_serde::re::humantime::format_duration;

use super::{
    super::{DAY, HOUR, MINUTE, Rules, quoted},
    status_classes,
};
use crate::{
    config::{CrmComAddressFormat, CrmComLogin, CrmComSettings},
    crm,
};

/// Most codes that one meaning has.
const CODES_MAX: usize = 20;

pub(super) fn check(at: &str, crm_com: &CrmComSettings, rules: &mut Rules<'_>) {
    let key = |name: &str| format!("{at}.{name}");
    if crm_com.login == CrmComLogin::User {
        for (name, text) in [("username", &crm_com.username), ("organisation", &crm_com.organisation)] {
            let reason = "a login by user needs it";
            rules.require(!text.trim().is_empty(), &[&key(name)], quoted(text), reason, "write it as CRM.COM knows it");
        }
    }
    rules.lasting(&key("token_life"), crm_com.token_life, MINUTE..=DAY);
    rules.lasting(&key("renew_before"), crm_com.renew_before, Duration::ZERO..=HOUR);
    rules.lasting(&key("login_interval"), crm_com.login_interval, Duration::ZERO..=HOUR);
    rules.require(
        crm_com.renew_before < crm_com.token_life,
        &[&key("renew_before"), &key("token_life")],
        format_duration(crm_com.renew_before),
        "no token would ever be young enough",
        "choose less than token_life",
    );
    crm_com_slots(at, crm_com, rules);
    let mut seen = BTreeSet::new();
    let searched = &crm_com.search_by;
    rules.require(
        !searched.is_empty() && searched.iter().all(|by| seen.insert(*by)),
        &[&key("search_by")],
        format!("{} keys", searched.len()),
        "each key of a search is named once, and one at least",
        "write [\"email_address\", \"phone_number\"], or others",
    );
    rules.within(&key("page_size"), crm_com.page_size, 1..=500);
    rules.within(&key("search_pages_max"), crm_com.search_pages_max, 1..=1000);
    rules.within(&key("photo_bytes_max"), crm_com.photo_bytes_max, 0..=5 * 1024 * 1024);
    let mut seen = BTreeSet::new();
    for name in &crm_com.overflow_types {
        let holds = crm::crm_com::is_custom_type(name) && seen.insert(name);
        let remedy = "use CUSTOM1 to CUSTOM5, each once";
        rules.require(holds, &[&key("overflow_types")], quoted(name), "this is no type for what is left", remedy);
    }
    let mut seen = BTreeSet::new();
    for media_type in &crm_com.photo_types {
        let holds = crm::crm_com::is_photo_type(media_type) && seen.insert(media_type);
        let remedy = "use image/jpeg, image/png and image/gif, each once";
        rules.require(holds, &[&key("photo_types")], quoted(media_type), "this is no photo", remedy);
    }
    for (name, codes) in
        [("no_hits_codes", &crm_com.no_hits_codes), ("unknown_reference_codes", &crm_com.unknown_reference_codes)]
    {
        let reason = "these are too many codes for one meaning";
        let remedy = "name 20 codes at most";
        rules.require(codes.len() <= CODES_MAX, &[&key(name)], format!("{} codes", codes.len()), reason, remedy);
        for code in codes {
            let holds = code != "OK" && !code.trim().is_empty();
            let remedy = "write a code of a failure, as in NOT_FOUND";
            rules.require(holds, &[&key(name)], quoted(code), "this is no code of a failure", remedy);
        }
    }
    let party = &crm_com.relation_party;
    rules.require(
        ["contact_information", "contact_information_identifier"].contains(&party.as_str()),
        &[&key("relation_party")],
        quoted(party),
        "no other contact is called so",
        "choose contact_information or contact_information_identifier",
    );
    address_parts(at, crm_com, rules);
    let is_code = |code: &str| code.len() == 2 && code.chars().all(|letter| letter.is_ascii_uppercase());
    let country = &crm_com.phone_country;
    let remedy = "write two capital letters (ISO 3166-1), or leave it empty";
    let holds = country.is_empty() || is_code(country);
    rules.require(holds, &[&key("phone_country")], quoted(country), "this names no country", remedy);
    let reason = "a country has to be named somehow";
    let remedy = "write [\"two_character_code\"], or more ways";
    rules.require(!crm_com.country_by.is_empty(), &[&key("country_by")], "[]", reason, remedy);
    for (code, name) in &crm_com.countries {
        let holds = is_code(code) && !name.is_empty() && name != "id:";
        let remedy = "write two capital letters (ISO 3166-1) and the name, or id: and the id";
        rules.require(holds, &[&key(&format!("countries.{code}"))], quoted(name), "this names no country", remedy);
    }
    for (name, by) in [
        ("category_by", &crm_com.category_by),
        ("group_by", &crm_com.group_by),
        ("privacy_level_by", &crm_com.privacy_level_by),
        ("industry_by", &crm_com.industry_by),
        ("industry_sector_by", &crm_com.industry_sector_by),
    ] {
        let holds = ["name", "id", "code", "alternative_code", "number"].contains(&by.as_str());
        let remedy = "choose from name, id, code, alternative_code, number";
        rules.require(holds, &[&key(name)], quoted(by), "nothing is named by this", remedy);
    }
    for (word, of_type) in &crm_com.relation_types {
        let known = crm::crm_com::is_relation_type(of_type);
        let place = key(&format!("relation_types.{word}"));
        let remedy = "use CRM.COM's types, as in EMPLOYER, FAMILY_MEMBER, CUSTOM1";
        rules.require(known, &[&place], quoted(of_type), "there is no such relation", remedy);
    }
    for field in &crm_com.never_cleared {
        let known = crm::crm_com::is_clearable(field);
        let remedy = "use CRM.COM's names, as in notes, demographics.gender, phone_set.CUSTOM1";
        rules.require(known, &[&key("never_cleared")], quoted(field), "no field of this name is ever cleared", remedy);
    }
    for (name, text) in [
        ("blank_first_name", &crm_com.blank_first_name),
        ("blank_last_name", &crm_com.blank_last_name),
        ("blank_company_name", &crm_com.blank_company_name),
    ] {
        let holds = !text.trim().is_empty() && text.chars().count() <= 200 && !text.chars().any(char::is_control);
        let remedy = "use 1 to 200 visible letters";
        rules.require(holds, &[&key(name)], quoted(text), "CRM.COM takes no contact without it", remedy);
    }
    status_classes(at, crm_com.status_classes.keys(), rules);
}

/// Where the parts of an address go: each to a member of its own.
fn address_parts(at: &str, crm_com: &CrmComSettings, rules: &mut Rules<'_>) {
    let mut taken = BTreeSet::new();
    for (part, member) in crm_com.address_parts.each().into_iter().filter(|(_, member)| !member.is_empty()) {
        let place = format!("{at}.address_parts.{part}");
        let in_one_line = crm_com.address_format == CrmComAddressFormat::International;
        let holds = crm::crm_com::is_address_member(member, in_one_line);
        let remedy = "use area (not in the international format), town_city, district, municipality, postal_code, po_box, \
                      po_box_postal_code, care_of";
        rules.require(holds, &[&place], quoted(member), "no address has this", remedy);
        let reason = "this member holds something else already";
        rules.require(
            taken.insert(member),
            &[&place],
            quoted(member),
            reason,
            "choose another, or leave one of them empty",
        );
    }
}

/// The user-defined fields of a CRM.COM: each exists, and holds one thing.
fn crm_com_slots(at: &str, crm_com: &CrmComSettings, rules: &mut Rules<'_>) {
    let key = |name: &str| format!("{at}.{name}");
    let mut taken = BTreeSet::new();
    let mut slot = |place: String, name: &str, is_text: bool| {
        let known = crm::crm_com::user_defined(name);
        let fits = if is_text { known == Some(true) } else { known.is_some() };
        let remedy = if is_text {
            "use udf_string_1 to 16"
        } else {
            "use udf_string_1 to 16, udf_float_1 to 8 or udf_date_1 to 8"
        };
        rules.require(fits, &[&place], quoted(name), "there is no such user-defined field", remedy);
        let reason = "this field holds something else already";
        rules.require(taken.insert(name.to_owned()), &[&place], quoted(name), reason, "choose another");
    };
    slot(key("external_ref_slot"), &crm_com.external_ref_slot, true);
    if !crm_com.source_slot.is_empty() {
        slot(key("source_slot"), &crm_com.source_slot, true);
    }
    for (pointer, name) in &crm_com.user_defined {
        slot(key(&format!("user_defined.{pointer}")), name, false);
    }
    for (pointer, name) in &crm_com.user_defined {
        let place = key(&format!("user_defined.{pointer}"));
        let remedy = "write a JSON pointer to one value, as in /organization/department or /attributes/shoe";
        rules.require(
            crm::crm_com::is_single(pointer),
            &[&place],
            quoted(name),
            "no document has one value there",
            remedy,
        );
    }
}
