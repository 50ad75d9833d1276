//! What holds of the settings of a NextInteract SAM.

use std::time::Duration;

use super::{
    super::{DAY, HOUR, MINUTE, Rules, SECOND, quoted},
    status_classes,
};
use crate::config::NextinteractSamSettings;
pub(super) fn check(at: &str, sam: &NextinteractSamSettings, rules: &mut Rules<'_>) {
    let key = |name: &str| format!("{at}.{name}");
    let platform = &sam.platform;
    let holds = platform.len() <= 64 && platform.chars().all(|letter| letter.is_ascii_graphic() || letter == ' ');
    rules.require(
        holds,
        &[&key("platform")],
        quoted(platform),
        "this is no name",
        "use up to 64 visible letters, or none",
    );
    let device = &sam.device_type;
    let known = ["iPad", "iPhone", "Desktop", "Android Tablet", "Android Phone"].contains(&device.as_str());
    let remedy = "choose from iPad, iPhone, Desktop, Android Tablet, Android Phone";
    rules.require(known, &[&key("device_type")], quoted(device), "SAM knows no such device", remedy);
    rules.lasting(&key("token_life"), sam.token_life, MINUTE..=DAY);
    rules.lasting(&key("renew_before"), sam.renew_before, Duration::ZERO..=HOUR);
    rules.lasting(&key("login_interval_min"), sam.login_interval_min, SECOND..=HOUR);
    if let Some(after) = sam.locked_retry_after {
        rules.lasting(&key("locked_retry_after"), after, MINUTE..=30 * DAY);
    }
    // Above, a SAM is taken to refuse the whole call.
    rules.within(&key("batch_rows_max"), sam.batch_rows_max, 1..=500);
    rules.within(&key("batch_bytes_max"), sam.batch_bytes_max, 1024..=64 * 1024 * 1024);
    rules.lasting(&key("batch_age_max"), sam.batch_age_max, Duration::ZERO..=10 * SECOND);
    rules.within(&key("unstored_retries_max"), sam.unstored_retries_max, 0..=5);
    rules.within(&key("company_service_tries_max"), sam.company_service_tries_max, 1..=1000);
    let name = &sam.blank_last_name;
    let holds = !name.trim().is_empty() && name.chars().count() <= 200 && !name.chars().any(char::is_control);
    let remedy = "use 1 to 200 visible letters";
    rules.require(holds, &[&key("blank_last_name")], quoted(name), "a contact in SAM has a last name", remedy);
    let code_key = &sam.error_code_key;
    let holds = (1..=64).contains(&code_key.len()) && code_key.chars().all(|letter| letter.is_ascii_graphic());
    let remedy = "use 1 to 64 visible letters";
    rules.require(holds, &[&key("error_code_key")], quoted(code_key), "a member of an error has a name", remedy);
    status_classes(at, sam.status_classes.keys(), rules);
    for code in sam.code_classes.keys() {
        let holds = code.len() == 4 && code.parse::<u16>().is_ok_and(|code| code >= 1000);
        let key = key(&format!("code_classes.{code}"));
        rules.require_unseen(holds, &key, "this is no code of SAM", "write a number from 1000 to 9999");
    }
}
