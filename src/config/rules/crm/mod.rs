//! What holds of CRMs of any kind, and how fast they are spoken to. What holds of one kind alone is in a file of its own.

mod crm_com;
mod logisense;
mod nextinteract_sam;
mod previsto;
mod priava;

use std::{collections::BTreeSet, time::Duration};

use humantime_serde::re::humantime::format_duration;

use super::{DAY, MINUTE, Rules, quoted};
use crate::{
    config::{CrmKind, CrmSettings, DeliverySettings, Settings},
    crm,
};
pub(super) fn check(settings: &Settings, rules: &mut Rules<'_>) {
    rules.require(!settings.crm.is_empty(), &["crm"], "[]", "there is no CRM to deliver to", "add a [[crm]]");
    let mut names = BTreeSet::new();
    for (index, crm) in settings.crm.iter().enumerate() {
        let at = format!("crm[{index}]");
        let key = format!("{at}.name");
        rules.name(&key, &crm.name);
        rules.require(
            names.insert(&crm.name),
            &[&key],
            quoted(&crm.name),
            "two CRMs have this name",
            "rename one of them",
        );
        rules.require(
            &*crm.name != "resolver",
            &[&key],
            quoted(&crm.name),
            "the resolver's group and metrics have this name",
            "choose another",
        );
        rules.require(
            &*crm.name != "operator",
            &[&key],
            quoted(&crm.name),
            "what operators ask for is written under this name",
            "choose another",
        );
        base_url(&format!("{at}.base_url"), &crm.base_url, rules);
        delivery(&at, &crm.delivery, rules);
        kind(&at, crm, rules);
        for misfit in crm::misfits(crm, &settings.instance) {
            // Constants are not shown: nobody knows what they hold.
            rules.require_unseen(false, &format!("{at}.{}", misfit.key), misfit.reason, misfit.remedy);
        }
    }
}

fn kind(at: &str, crm: &CrmSettings, rules: &mut Rules<'_>) {
    let tables = [
        (CrmKind::Priava, "priava", crm.priava.is_some()),
        (CrmKind::Previsto, "previsto", crm.previsto.is_some()),
        (CrmKind::CrmCom, "crm_com", crm.crm_com.is_some()),
        (CrmKind::Logisense, "logisense", crm.logisense.is_some()),
        (CrmKind::NextinteractSam, "nextinteract_sam", crm.nextinteract_sam.is_some()),
    ];
    for (kind, name, is_there) in tables {
        let key = format!("{at}.{name}");
        if kind == crm.kind {
            let remedy = format!("write a table [crm.{name}]");
            rules.require_unseen(is_there, &key, "settings of this kind are missing", remedy);
        } else {
            rules.require_unseen(!is_there, &key, "this CRM is of another kind", "remove the table");
        }
    }
    if let Some(settings) = &crm.priava {
        priava::check(&format!("{at}.priava"), settings, rules);
    }
    if let Some(settings) = &crm.previsto {
        previsto::check(&format!("{at}.previsto"), settings, rules);
    }
    if let Some(settings) = &crm.crm_com {
        crm_com::check(&format!("{at}.crm_com"), settings, rules);
    }
    if let Some(settings) = &crm.logisense {
        logisense::check(&format!("{at}.logisense"), settings, rules);
    }
    if let Some(settings) = &crm.nextinteract_sam {
        nextinteract_sam::check(&format!("{at}.nextinteract_sam"), settings, rules);
    }
}

fn status_classes<'a>(at: &str, statuses: impl Iterator<Item = &'a String>, rules: &mut Rules<'_>) {
    for status in statuses {
        let holds = status.len() == 3 && status.parse::<u16>().is_ok_and(|status| (300..=599).contains(&status));
        let key = format!("{at}.status_classes.{status}");
        rules.require_unseen(holds, &key, "this is not the status of a failure", "write a status from 300 to 599");
    }
}

fn base_url(key: &str, text: &str, rules: &mut Rules<'_>) {
    let remedy = "write it as in https://api.example.com/rest";
    // Never shown: it may hold a password until we know that it does not.
    let Ok(url) = url::Url::parse(text) else {
        rules.require_unseen(false, key, "this is not an absolute address", remedy);
        return;
    };
    let personal = !url.username().is_empty() || url.password().is_some();
    rules.require_unseen(
        !personal,
        key,
        "an address is no place for a user or password",
        "remove what stands before the @",
    );
    rules.require_unseen(
        url.query().is_none() && url.fragment().is_none(),
        key,
        "this has a query or a fragment",
        "remove what follows the path",
    );
    let spoken = matches!(url.scheme(), "http" | "https") && url.has_host();
    rules.require(spoken, &[key], quoted(text), "only http and https are spoken", remedy);
}

fn delivery(at: &str, delivery: &DeliverySettings, rules: &mut Rules<'_>) {
    let key = |name: &str| format!("{at}.delivery.{name}");
    let shortest = Duration::from_millis(1);
    rules.within(&key("in_flight_max"), delivery.in_flight_max, 1..=4096);
    rules.require(
        (1..=delivery.in_flight_max).contains(&delivery.in_flight_min),
        &[&key("in_flight_min"), &key("in_flight_max")],
        delivery.in_flight_min,
        format!("it is not between 1 and in_flight_max, which is {}", delivery.in_flight_max),
        "lower it, or raise in_flight_max",
    );
    for (name, rate) in [
        ("requests_per_second", delivery.requests_per_second),
        ("resync_contacts_per_second", delivery.resync_contacts_per_second),
        ("verify_contacts_per_second", delivery.verify_contacts_per_second),
    ] {
        rules.require(
            rate == 0.0 || (0.001..=1_000_000.0).contains(&rate),
            &[&key(name)],
            rate,
            "this is out of bounds",
            "choose from 0.001 to 1000000, or 0 for no limit",
        );
    }
    rules.lasting(&key("request_deadline"), delivery.request_deadline, 100 * shortest..=5 * MINUTE);
    rules.lasting(&key("connect_timeout"), delivery.connect_timeout, shortest..=5 * MINUTE);
    rules.within(&key("response_bytes_max"), delivery.response_bytes_max, 1024..=64 * 1024 * 1024);
    rules.within(&key("tries_before_parking"), delivery.tries_before_parking, 1..=100);
    rules.within(&key("unanswered_max"), delivery.unanswered_max, 1..=100_000);
    rules.within(&key("failures_before_pause"), delivery.failures_before_pause, 1..=100_000);
    for (name, delay) in [
        ("retry_delay", delivery.retry_delay),
        ("retry_delay_max", delivery.retry_delay_max),
        ("parked_delay", delivery.parked_delay),
        ("parked_delay_max", delivery.parked_delay_max),
        ("probe_delay", delivery.probe_delay),
        ("probe_delay_max", delivery.probe_delay_max),
        ("retry_after_max", delivery.retry_after_max),
        ("reference_age_max", delivery.reference_age_max),
        ("reference_miss_age", delivery.reference_miss_age),
    ] {
        rules.lasting(&key(name), delay, shortest..=30 * DAY);
    }
    rules.lasting(&key("search_lag"), delivery.search_lag, Duration::ZERO..=60 * MINUTE);
    if let Some(max_age) = delivery.max_age {
        rules.lasting(&key("max_age"), max_age, Duration::from_secs(1)..=36_500 * DAY);
        rules.require(
            max_age > delivery.request_deadline,
            &[&key("max_age"), &key("request_deadline")],
            format_duration(max_age),
            "an event would be given up at its first failure",
            format!("choose more than request_deadline ({})", format_duration(delivery.request_deadline)),
        );
    }
    for (lower, upper) in [
        (("connect_timeout", delivery.connect_timeout), ("request_deadline", delivery.request_deadline)),
        (("retry_delay", delivery.retry_delay), ("retry_delay_max", delivery.retry_delay_max)),
        (("parked_delay", delivery.parked_delay), ("parked_delay_max", delivery.parked_delay_max)),
        (("probe_delay", delivery.probe_delay), ("probe_delay_max", delivery.probe_delay_max)),
        (("reference_miss_age", delivery.reference_miss_age), ("reference_age_max", delivery.reference_age_max)),
    ] {
        rules.ordered((&key(lower.0), lower.1), (&key(upper.0), upper.1));
    }
}
