//! `check`: whether the settings are right, and what they point to is there.
//!
//! It changes nothing: topics that are missing are told, not created. All that is wrong is told before it ends.

use std::{collections::BTreeMap, io::Write, time::Duration};

use url::Url;

use super::{
    CommandError, Exit, reach,
    topics::{Surveyed, survey},
};
use crate::{
    config::{Adopt, CrmSettings, LogKind, SearchKey, Settings},
    crm,
    log::{
        Log, LogError,
        local::{self, Presence},
    },
};

/// How long each thing outside may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn run(settings: &Settings, output: &mut impl Write) -> Result<Exit, CommandError> {
    let told = || CommandError::io("writing to standard output");
    writeln!(output, "ok    settings").map_err(told())?;
    let mut report = Vec::new();
    match presence(settings) {
        Some(line) => report.push(Ok(line)),
        None => match super::open_log(settings).await {
            Ok(log) => report.extend(topics(settings, &*log).await),
            Err(error) => report.push(Err(format!("log: {error}"))),
        },
    }
    for crm in &settings.crm {
        report.push(reachable(&crm.name, &crm.base_url, crm.delivery.connect_timeout.min(PATIENCE)).await);
    }
    for line in losses(settings) {
        writeln!(output, "loss  {line}").map_err(told())?;
    }
    for warning in warnings(settings) {
        writeln!(output, "warn  {warning}").map_err(told())?;
    }
    let mut exit = Exit::Done;
    for line in report {
        match line {
            Ok(text) => writeln!(output, "ok    {text}"),
            Err(text) => {
                exit = Exit::CheckFailed;
                writeln!(output, "FAIL  {text}")
            }
        }
        .map_err(told())?;
    }
    Ok(exit)
}

/// What is allowed and costs something.
fn warnings(settings: &Settings) -> Vec<String> {
    let alone = settings.log.kind == LogKind::Kafka && settings.log.kafka.replication_factor == 1;
    let alone = alone.then(|| {
        "log.kafka.replication_factor is 1: when the one broker of a partition goes down while a transaction ends there, Kafka may \
         leave it open for good, and everybody waits behind it; for more than a trial, 3"
            .to_owned()
    });
    let without_number = settings.crm.iter().filter(|crm| {
        let previsto = crm.previsto.as_ref();
        previsto.is_some_and(|previsto| !previsto.plant_number || !previsto.search_by.contains(&SearchKey::Number))
    });
    let warning = |crm: &CrmSettings| {
        format!(
            "crm {}: contacts cannot be searched for by our reference (plant_number, search_by); after a lost create, one \
             whose e-mail address and telephone are changed in the CRM meanwhile may be made twice, and one that has \
             neither stops with ambiguous_match",
            crm.name
        )
    };
    let without_reference = settings.crm.iter().filter(|crm| {
        let logisense = crm.logisense.as_ref();
        crm.adopt == Adopt::ByKey && logisense.is_some_and(|logisense| logisense.contact_points.reference.is_empty())
    });
    let nobody_adopted = |crm: &CrmSettings| {
        format!(
            "crm {}: no contact that is there already is adopted, since none can be marked as ours; name a type of contact \
             points that holds our reference (contact_points.reference), say with `links` who is who, or set adopt to never",
            crm.name
        )
    };
    alone.into_iter().chain(without_number.map(warning)).chain(without_reference.map(nobody_adopted)).collect()
}

/// What each CRM cannot carry, a line for each reason.
fn losses(settings: &Settings) -> Vec<String> {
    let mut lines = Vec::new();
    for settings_of_crm in &settings.crm {
        let Ok(connector) = crm::connector(settings_of_crm, &settings.instance) else { continue };
        let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for loss in connector.cannot_carry() {
            by_reason.entry(loss.why).or_default().push(loss.field);
        }
        let line = |(why, mut fields): (&str, Vec<&str>)| {
            fields.sort_unstable();
            format!("crm {}: {why}: {}", settings_of_crm.name, fields.join(", "))
        };
        lines.extend(by_reason.into_iter().map(line));
        let untold = crm::CONSENTS.into_iter().filter(|consent| connector.consent_field(consent).is_none());
        let untold: Vec<&str> = untold.collect();
        if !untold.is_empty() {
            lines.push(format!(
                "crm {}: a withdrawn consent cannot be told, only counted (consent_not_expressible_total): {}",
                settings_of_crm.name,
                untold.join(", ")
            ));
        }
    }
    lines
}

async fn reachable(name: &str, base_url: &str, patience: Duration) -> Result<String, String> {
    let url = Url::parse(base_url).map_err(|error| format!("crm {name}: {error}"))?;
    match reach::reach(&url, patience).await {
        Ok(reached) => {
            let how = if reached.encrypted { "its certificate is trusted" } else { "without encryption" };
            Ok(format!(
                "crm {name}: {} can be reached, {how}; the credential is seen with the first delivery",
                reached.address
            ))
        }
        Err(error) => Err(format!("crm {name}: {error}; correct its base_url, or ask who runs it")),
    }
}

/// What there is to say of a log on disk that is not to be opened now.
fn presence(settings: &Settings) -> Option<String> {
    if settings.log.kind != LogKind::Local {
        return None;
    }
    let folder = settings.log_folder();
    match local::presence(&folder) {
        Presence::Missing => Some(format!("log: {} is made by the first worker", folder.display())),
        Presence::InUse => Some(format!("log: {} is open in a running process", folder.display())),
        Presence::Free => None,
    }
}

fn log_fault(settings: &Settings, error: &LogError) -> String {
    let servers = &settings.log.kafka.bootstrap_servers;
    let says_what_to_do = matches!(error, LogError::Connection { .. });
    match error.is_transient() && !says_what_to_do && settings.log.kind == LogKind::Kafka {
        true => format!("log: {error}; start a broker at {servers}, or correct log.kafka.bootstrap_servers"),
        false => format!("log: {error}"),
    }
}

/// A line for each topic that is read or written, and for each way in which one is not as needed.
async fn topics(settings: &Settings, log: &dyn Log) -> Vec<Result<String, String>> {
    match survey(settings, log).await {
        Ok(surveyed) => surveyed.iter().flat_map(lines).collect(),
        Err(error) => vec![Err(log_fault(settings, &error))],
    }
}

fn lines(topic: &Surveyed) -> Vec<Result<String, String>> {
    let Surveyed { topic: name, is_input, needed, found, differences, .. } = topic;
    let kind = if *is_input { "input topic" } else { "topic" };
    let grave: Vec<_> = differences.iter().filter(|difference| difference.matters).collect();
    match (found, needed.partitions) {
        (None, None) => {
            vec![Err(format!("{kind} {name}: it is missing; whoever publishes to it creates it"))]
        }
        (None, Some(needed)) => {
            vec![Ok(format!("{kind} {name}: missing; the first worker creates it with {needed} partitions"))]
        }
        (Some(found), _) if grave.is_empty() => vec![Ok(format!("{kind} {name}: {} partitions", found.partitions))],
        (Some(_), _) => grave.into_iter().map(|difference| Err(difference.to_string())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FieldRule, RuleTable};

    #[test]
    fn what_a_crm_cannot_carry_is_told_with_the_reason_and_a_rule_that_carries_it_silences_that() {
        let mut settings = Settings::reference();
        settings.crm[0].priava.as_mut().unwrap().send_organisation = false;
        let of_priava = |settings: &Settings| losses(settings)[..2].join("\n");
        let told = of_priava(&settings);
        assert!(told.starts_with("crm priava: no field for it: /addresses/geo, "), "{told}");
        assert!(
            told.contains("/gender, ") && told.contains("switched off by configuration: /organization/marketSector, ")
        );
        let rule = |pointer: &str| FieldRule::Pointer(pointer.to_owned());
        settings.crm[0].fields.insert("title".to_owned(), rule("/gender"));
        assert!(!of_priava(&settings).contains("/gender"));
        let left = FieldRule::Table(RuleTable { omit: true, ..RuleTable::default() });
        settings.crm[0].fields.insert("marketingOptOut".to_owned(), left);
        let all = losses(&settings).join("\n");
        assert!(
            all.contains("cannot be told, only counted (consent_not_expressible_total): /consent/marketing"),
            "{all}"
        );
    }

    #[test]
    fn a_topic_on_one_broker_is_warned_of() {
        let mut settings = sound();
        settings.log.kafka.replication_factor = 1;
        assert!(warnings(&settings)[0].starts_with("log.kafka.replication_factor is 1: "));
        settings.log.kind = LogKind::Local;
        assert_eq!(warnings(&settings), Vec::<String>::new());
    }

    /// The reference, with nothing to warn of.
    fn sound() -> Settings {
        let mut settings = Settings::reference();
        settings.log.kafka.replication_factor = 3;
        let logisense = settings.crm.iter_mut().find(|crm| crm.logisense.is_some()).unwrap();
        logisense.adopt = Adopt::Never;
        assert_eq!(warnings(&settings), Vec::<String>::new());
        settings
    }

    #[test]
    fn a_logisense_that_cannot_mark_whom_it_adopts_is_warned_of() {
        let mut settings = sound();
        let crm = settings.crm.iter_mut().find(|crm| crm.logisense.is_some()).unwrap();
        crm.adopt = Adopt::ByKey;
        assert!(warnings(&settings)[0].starts_with("crm logisense: "), "{:?}", warnings(&settings));
        let logisense = settings.crm.iter_mut().find_map(|crm| crm.logisense.as_mut()).unwrap();
        logisense.contact_points.reference = "reference".to_owned();
        assert_eq!(warnings(&settings), Vec::<String>::new());
    }

    #[test]
    fn a_previsto_without_our_number_is_warned_of() {
        let mut settings = sound();
        let previsto = settings.crm.iter_mut().find_map(|crm| crm.previsto.as_mut()).unwrap();
        previsto.plant_number = false;
        assert!(warnings(&settings)[0].starts_with("crm previsto: "));
        let previsto = settings.crm.iter_mut().find_map(|crm| crm.previsto.as_mut()).unwrap();
        (previsto.plant_number, previsto.search_by) = (true, vec![SearchKey::Email]);
        assert_eq!(warnings(&settings).len(), 1);
    }
}
