//! The rules of the installation, ready for use.

use std::{collections::BTreeMap, sync::Arc};

use regex::RegexSet;

use super::Limits;
use crate::{
    config::{Guard, IdentityBlock, IdentitySettings, Requirement, RuleKey, SourceSettings},
    contact::normalise::email::EmailRules,
};

/// Which keys count, what speaks against joining, and how much is too much.
#[derive(Debug, Clone)]
pub struct Policy {
    pub limits: Limits,
    /// Rules on keys beside the source id, the strongest first.
    pub(super) rules: Vec<Rule>,
    pub(super) guards: Vec<Guard>,
    pub(super) email: EmailRules,
    pub(super) block: Block,
    /// Where it differs from [`Limits::source_ids_per_source`], by the source's URI.
    source_ids: BTreeMap<Arc<str>, usize>,
}

/// What one kind of key asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) key: RuleKey,
    pub(super) names_must_agree: bool,
}

/// Values that are no keys.
#[derive(Debug, Clone)]
pub(super) struct Block {
    email_local: Vec<String>,
    email_domain: Vec<String>,
    values: RegexSet,
}

impl Policy {
    /// # Panics
    /// If a pattern is none: settings are checked.
    pub fn new(settings: &IdentitySettings, sources: &[SourceSettings]) -> Self {
        let limits = &settings.limits;
        let own_limit = |source: &SourceSettings| Some((Arc::clone(&source.uri), source.source_ids_per_source?));
        let rule = |rule: &crate::config::IdentityRule| Rule {
            key: rule.key,
            names_must_agree: rule.require.contains(&Requirement::NameCompatible),
        };
        Self {
            limits: Limits {
                source_ids_per_source: limits.source_ids_per_source,
                emails: limits.emails,
                records: limits.records,
                keys_per_event: limits.keys_per_event,
                generic_after: limits.generic_after,
                record_bytes_max: settings.record_bytes_max,
            },
            rules: settings.rule.iter().filter(|rule| rule.key != RuleKey::SourceId).map(rule).collect(),
            guards: settings.guards.disagree.clone(),
            email: EmailRules { providers: settings.email_providers.clone() },
            block: Block::new(&settings.block),
            source_ids: sources.iter().filter_map(own_limit).collect(),
        }
    }

    /// Live records of `source` that one contact may have.
    pub(super) fn source_ids_max(&self, source: &str) -> usize {
        match self.source_ids.get(source).copied().unwrap_or(self.limits.source_ids_per_source) {
            0 => usize::MAX,
            limit => limit,
        }
    }
}

impl Block {
    fn new(settings: &IdentityBlock) -> Self {
        Self {
            email_local: settings.email_local.clone(),
            email_domain: settings.email_domain.clone(),
            values: RegexSet::new(&settings.value_regex).expect("checked settings hold regular expressions"),
        }
    }

    /// Whether a value as it is written says nothing.
    pub(super) fn is_value(&self, shown: &str) -> bool {
        self.values.is_match(shown)
    }

    pub(super) fn is_role(&self, local: &str) -> bool {
        self.email_local.iter().any(|blocked| blocked == local)
    }

    pub(super) fn is_domain(&self, domain: &str) -> bool {
        self.email_domain.iter().any(|blocked| {
            domain.strip_suffix(blocked.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}
