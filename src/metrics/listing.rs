//! What metrics there are: names, types, labels and help, as they are exposed.

use std::collections::BTreeMap;

use super::{Metrics, MetricsError, PREFIX, Registry, render};

/// One metric.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// In the order of the alphabet.
    pub labels: Vec<String>,
    /// What it means.
    pub help: String,
}

/// Every metric by its name, which begins with [`PREFIX`] and is told without.
///
/// # Errors
/// If the metrics cannot be shown, which would be our fault.
pub fn listing() -> Result<BTreeMap<String, Listed>, MetricsError> {
    const CRM: &str = "crm";
    let registry = Registry::new();
    let metrics = Metrics::new(&registry, &[CRM.into()])?;
    // Series by field or topic appear with the first one.
    metrics.field_lost(CRM, "/notes");
    metrics.input_lost("topic", 1);
    let prefix = format!("{PREFIX}_");
    let mut listed: BTreeMap<String, Listed> = BTreeMap::new();
    for line in render(&registry)?.lines() {
        let comment = |begins: &str| line.strip_prefix(begins)?.strip_prefix(&prefix)?.split_once(' ');
        if let Some((name, help)) = comment("# HELP ") {
            listed.entry(name.to_owned()).or_default().help = unescaped(help);
        } else if let Some((name, kind)) = comment("# TYPE ") {
            listed.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if let Some((series, labels)) = line.strip_prefix(&prefix).and_then(|line| line.split_once('{')) {
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end)).unwrap_or(series);
            if let Some(metric) = listed.get_mut(name).filter(|metric| metric.labels.is_empty()) {
                let names = labels.split("=\"").filter_map(|part| part.rsplit(['{', ',']).next());
                let names =
                    names.filter(|name| name.chars().all(|letter| letter.is_ascii_alphabetic()) && *name != "le");
                metric.labels = names.map(str::to_owned).collect();
            }
        }
    }
    Ok(listed)
}

/// As the help was written: in the text format of Prometheus a backslash and a line end are escaped.
fn unescaped(help: &str) -> String {
    help.replace("\\\\", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_is_listed_with_its_type_its_labels_and_what_it_means() {
        let listed = listing().unwrap();
        for (name, kind, labels) in [
            ("events_read_total", "counter", &[][..]),
            ("outcomes_total", "counter", &["code", "crm", "outcome"]),
            ("request_duration_seconds", "histogram", &["crm", "result"]),
            ("fields_lost_total", "counter", &["crm", "field"]),
            ("entries_pending", "gauge", &["crm"]),
        ] {
            let metric = &listed[name];
            assert_eq!(
                (metric.kind.as_str(), metric.labels.iter().map(String::as_str).collect::<Vec<_>>()),
                (kind, labels.to_vec())
            );
        }
        for (name, metric) in listed {
            assert!(!metric.kind.is_empty() && metric.help.ends_with('.'), "{name}: {metric:?}");
        }
    }
}
