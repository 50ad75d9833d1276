//! Whether source records that share a key may be one contact.
//!
//! A pure function of two groups of source records, which returns its reasons: the one source record of a change against
//! those of a candidate, or all of one contact against all of another. A source id is not judged: what a source itself
//! calls a contact is that contact. Every weaker key only suggests, and here something may object.

use super::{
    keys::{AssertedKey, KeyHash, KeyType},
    policy::Policy,
};
use crate::{
    config::{Guard, RuleKey},
    contact::{
        ContactRecord, Document,
        document::Said,
        normalise::{
            id,
            name::{Name, Need},
        },
        record::{Member, Status},
    },
    event::labels::labels,
};

labels! {
    /// A reason against making one of two.
    pub enum Refusal {
        /// The contact is deleted, merged away or erased.
        NotLive = "not_live",
        /// One source speaks of both: to that source they are two people.
        SameSource = "same_source",
        /// The contact would have more source records than it may have.
        TooManyRecords = "too_many_records",
        /// The contact would have more e-mail addresses than it may have.
        TooManyEmails = "too_many_emails",
        /// They were not born on one day.
        BirthDate = "birth_date",
        /// They pay taxes under different numbers.
        TaxId = "tax_id",
        /// Their names contradict each other.
        Name = "name_incompatible",
        /// Nothing speaks against it, but contacts that exist are not merged.
        NotMerged = "not_merged",
    }
}

/// What speaks against a candidate; nothing does when it is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    pub refusals: Vec<Refusal>,
}

impl Judgement {
    pub fn is_admissible(&self) -> bool {
        self.refusals.is_empty()
    }
}

/// What is judged of a source record.
#[derive(Debug)]
pub struct Party<'a> {
    source: &'a str,
    keys: &'a [AssertedKey],
    name: Name,
    birth_date: Option<&'a str>,
    tax_id: Option<String>,
}

impl<'a> Party<'a> {
    pub fn new(source: &'a str, view: &'a Document, keys: &'a [AssertedKey]) -> Self {
        let text = |pointer| match view.text(pointer) {
            Said::Value(text) => Some(text),
            Said::Absent | Said::Empty => None,
        };
        let tax_id = text("/organization/vatNumber").or_else(|| text("/identifiers/vat"));
        Self { source, keys, name: Name::of(view), birth_date: text("/birthDate"), tax_id: tax_id.and_then(id::id) }
    }

    /// The live ones among source records.
    pub fn of_members(members: &'a [Member]) -> Vec<Self> {
        let one = |member: &'a Member| Self::new(&member.source, &member.state.view, &member.state.membership.keys);
        members.iter().filter(|member| member.state.live).map(one).collect()
    }

    fn emails(&self) -> impl Iterator<Item = KeyHash> {
        self.keys.iter().filter(|key| key.key_type == KeyType::Email).map(|key| key.hash)
    }
}

/// Judges whether the contact `record` may take in `joining`, which a key of type `by` suggests.
pub fn judge(joining: &Party<'_>, record: &ContactRecord, by: &KeyType, policy: &Policy) -> Judgement {
    if record.status != Status::Live {
        return Judgement { refusals: vec![Refusal::NotLive] };
    }
    judge_groups(std::slice::from_ref(joining), &Party::of_members(&record.members), by, policy)
}

/// Judges whether two groups of source records may be one contact's.
pub fn judge_groups(one: &[Party<'_>], other: &[Party<'_>], by: &KeyType, policy: &Policy) -> Judgement {
    let all = || one.iter().chain(other);
    let pairs = || one.iter().flat_map(|one| other.iter().map(move |other| (one, other)));
    let disagree = |fact: fn(&Party<'_>) -> Option<String>| {
        pairs().any(|(one, other)| matches!((fact(one), fact(other)), (Some(one), Some(other)) if one != other))
    };
    let mut refusals = Vec::new();

    // A source that only one side has is that side's own affair.
    let too_many_of =
        |source: &str| all().filter(|party| party.source == source).count() > policy.source_ids_max(source);
    if pairs().any(|(one, other)| one.source == other.source && too_many_of(one.source)) {
        refusals.push(Refusal::SameSource);
    }
    if all().count() > policy.limits.records {
        refusals.push(Refusal::TooManyRecords);
    }
    let mut emails: Vec<KeyHash> = all().flat_map(Party::emails).collect();
    emails.sort_unstable();
    emails.dedup();
    if emails.len() > policy.limits.emails {
        refusals.push(Refusal::TooManyEmails);
    }
    for guard in &policy.guards {
        let (disagree, refusal) = match guard {
            Guard::BirthDate => (disagree(|party| party.birth_date.map(str::to_owned)), Refusal::BirthDate),
            Guard::TaxId => (disagree(|party| party.tax_id.clone()), Refusal::TaxId),
        };
        if disagree {
            refusals.push(refusal);
        }
    }
    if let Some(need) = need_of_names(by, policy)
        && pairs().any(|(one, other)| !one.name.is_compatible(&other.name, need))
    {
        refusals.push(Refusal::Name);
    }
    Judgement { refusals }
}

/// How far names must agree for a key of this type.
fn need_of_names(by: &KeyType, policy: &Policy) -> Option<Need> {
    let (key, need) = match by {
        KeyType::Email => (RuleKey::Email, Need::Given),
        KeyType::SourceId | KeyType::SharedId(_) | KeyType::Phone => return None,
    };
    policy.rules.iter().any(|rule| rule.key == key && rule.names_must_agree).then_some(need)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::identity::tests::{policy, record_of};

    /// Judges a source record of `source` with this view against a contact of these.
    #[track_caller]
    fn check((source, view): (&str, Value), members: &[(&str, &str, bool, Value)], expected: &[Refusal]) {
        let (view, _) = Document::parse(view).unwrap();
        let joining = Party::new(source, &view, &[]);
        assert_eq!(judge(&joining, &record_of(members), &KeyType::Email, &policy()).refusals, expected);
    }

    #[test]
    fn two_live_records_of_one_source_are_two_people_unless_the_source_is_known_to_repeat_itself() {
        check(("shop", json!({})), &[("shop", "2", true, json!({}))], &[Refusal::SameSource]);
        check(("shop", json!({})), &[("shop", "2", false, json!({})), ("erp", "2", true, json!({}))], &[]);
        check(("old", json!({})), &[("old", "2", true, json!({})), ("old", "3", true, json!({}))], &[]);
        // What one side has too many of alone is not held against the other.
        check(("erp", json!({})), &[("shop", "1", true, json!({})), ("shop", "2", true, json!({}))], &[]);
    }

    #[test]
    fn a_contact_that_is_full_or_not_live_is_joined_by_nobody() {
        let members: Vec<_> = (0..policy().limits.records).map(|_| ("old", "2", true, json!({}))).collect();
        check(("shop", json!({})), &members[1..], &[]);
        check(("shop", json!({})), &members, &[Refusal::TooManyRecords]);
        let mut record = record_of(&[("erp", "2", true, json!({}))]);
        record.status = Status::Deleted;
        let (view, _) = Document::parse(json!({})).unwrap();
        let judged = judge(&Party::new("shop", &view, &[]), &record, &KeyType::Email, &policy());
        assert_eq!(judged.refusals, [Refusal::NotLive]);
    }

    #[test]
    fn addresses_beyond_the_limit_join_nothing() {
        let keys = |range: std::ops::Range<u8>| -> Vec<_> {
            range.map(|hash| AssertedKey { key_type: KeyType::Email, hash: KeyHash([hash; 16]) }).collect()
        };
        let (view, _) = Document::parse(json!({})).unwrap();
        let (one, five, six) = (keys(0..1), keys(0..5), keys(0..6));
        let judged = |keys: &[AssertedKey]| {
            judge_groups(
                &[Party::new("shop", &view, &one)],
                &[Party::new("erp", &view, keys)],
                &KeyType::Email,
                &policy(),
            )
        };
        assert!(judged(&five).is_admissible());
        assert_eq!(judged(&six).refusals, [Refusal::TooManyEmails]);
    }

    #[test]
    fn facts_that_disagree_and_names_that_contradict_are_objections() {
        let erp = |view: Value| [("erp", "2", true, view)];
        let born = |date: &str| json!({"birthDate": date});
        check(("shop", born("1980-01-01")), &erp(born("1980-01-01")), &[]);
        check(("shop", born("1980-01-01")), &erp(json!({"birthDate": null})), &[]);
        check(("shop", born("1980-01-01")), &erp(born("1980-01-02")), &[Refusal::BirthDate]);
        let vat = json!({"organization": {"vatNumber": "CHE-1"}});
        check(("shop", vat.clone()), &erp(json!({"identifiers": {"vat": " CHE-1"}})), &[]);
        check(("shop", vat), &erp(json!({"identifiers": {"vat": "CHE-2"}})), &[Refusal::TaxId]);
        let named = |given: &str| json!({"name": {"givenName": given, "familyName": "Roth"}});
        check(("shop", named("Ann")), &erp(named("A.")), &[]);
        check(("shop", named("Ann")), &erp(json!({})), &[]);
        check(("shop", named("Ann")), &erp(named("Bob")), &[Refusal::Name]);
        // Every member has a say.
        check(
            ("shop", named("Ann")),
            &[("erp", "2", true, json!({})), ("web", "3", true, named("Bob")), ("app", "3", false, named("Cid"))],
            &[Refusal::Name],
        );
    }
}
