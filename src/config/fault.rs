//! What is wrong with a configuration, said so that it can be mended: where, what stands there, why not, what instead.

use std::{fmt, path::PathBuf};

use serde::Serialize;

/// One thing that is wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Path of the key (`crm[0].delivery.retry_delay`); empty for the file as a whole.
    pub key: String,
    /// What stands there. Never a secret: absent wherever one could have been written by mistake.
    pub value: Option<String>,
    /// Where it stands in the file, or would have to, counted from 1.
    pub line: Option<usize>,
    pub reason: String,
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            f.write_str(&self.key)?;
            if let Some(value) = &self.value {
                write!(f, " = {value}")?;
            }
            f.write_str(": ")?;
        }
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

/// A configuration that cannot be used, with every fault that was found.
#[derive(Debug, Clone, thiserror::Error)]
pub struct ConfigError {
    pub file: PathBuf,
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be used:", self.file.display())?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// Collects faults, at most one for each key: a key that could not be read is not judged further.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(
        &mut self,
        key: &str,
        value: Option<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if !self.holds_any(&[key]) {
            let (reason, remedy) = (reason.into(), remedy.into());
            self.0.push(Fault { key: key.to_owned(), value, line: None, reason, remedy });
        }
    }

    /// Whether one of `keys`, or something above or below it, is at fault already.
    pub(super) fn holds_any(&self, keys: &[&str]) -> bool {
        self.0.iter().any(|fault| keys.iter().any(|key| related(&fault.key, key)))
    }

    pub(super) fn into_vec(self) -> Vec<Fault> {
        self.0
    }
}

/// Whether one of two keys is the other, or above it.
pub(super) fn related(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_fault_and_so_has_all_above_and_below_it() {
        let mut faults = Faults::default();
        faults.add("log.kafka", None, "first", "mend it");
        for key in ["log.kafka", "log.kafka.properties", "log"] {
            faults.add(key, None, "later", "mend it");
        }
        faults.add("log.kafkaesque", None, "another key", "mend it");
        let keys: Vec<_> = faults.into_vec().into_iter().map(|fault| fault.key).collect();
        assert_eq!(keys, ["log.kafka", "log.kafkaesque"]);
    }

    #[test]
    fn an_error_shows_every_fault_on_a_line_of_its_own() {
        let fault = |key: &str, value: Option<&str>| Fault {
            key: key.into(),
            value: value.map(Into::into),
            line: value.map(|_| 3),
            reason: "reason".into(),
            remedy: "remedy".into(),
        };
        let error = ConfigError {
            file: "a.toml".into(),
            faults: vec![fault("a.b", Some("5")), fault("c", None), fault("", None)],
        };
        assert_eq!(
            error.to_string(),
            "a.toml cannot be used:\n  line 3: a.b = 5: reason; remedy\n  c: reason; remedy\n  reason; remedy"
        );
    }
}
