//! Whose word counts: merges what several sources say of one contact into one document, unit by unit.
//!
//! A unit is what is taken whole from one source, so that no name is half of one and half of another. Most attributes
//! are one unit each; of `organization`, `identifiers` and `attributes` each member is one. The sources are put in one
//! order, the most trusted first, and the first that says anything about a unit has the word; that it knows the unit
//! to be empty counts as saying something. `consent` alone goes by content: for each of its members the most
//! restrictive word of all.
//!
//! The result depends on the set of members alone, not on their order, and is made of what the sources wrote.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Map, Value};

use super::{
    Document,
    record::{Member, MemberRef},
    schema,
};

/// Merges the views of the live ones among `members`. `priority` lists sources by their URI, the most trusted first;
/// those it leaves out come after, and among equals the one that spoke last goes first.
///
/// With the document comes, per unit in it (a JSON pointer), the member that it is from.
pub fn merge(members: &[Member], priority: &[Arc<str>]) -> (Document, BTreeMap<String, MemberRef>) {
    let mut trusted: Vec<&Member> = members.iter().filter(|member| member.state.live).collect();
    trusted.sort_by_key(|member| {
        let rank = priority.iter().position(|source| *source == member.source);
        (rank.unwrap_or(priority.len()), Reverse(member.state.spoke_at), &*member.source, &*member.subject)
    });

    let mut merged = Merged::default();
    for name in schema::attributes() {
        match name {
            "organization" | "identifiers" | "attributes" => merged.by_member(&trusted, name, first_to_say),
            "consent" => merged.by_member(&trusted, name, most_restrictive),
            _ => merged.whole(&trusted, name),
        }
    }
    (Document(merged.document), merged.provenance)
}

/// What one member says about a unit.
type Word<'a> = (&'a Member, &'a Value);

/// Of the words on a unit, the most trusted first, the one that counts.
type Policy = for<'a> fn(Vec<Word<'a>>) -> Option<Word<'a>>;

fn first_to_say(words: Vec<Word<'_>>) -> Option<Word<'_>> {
    words.into_iter().next()
}

/// "No" before "known to be empty" before "yes". Among equals the most trusted is named.
fn most_restrictive(words: Vec<Word<'_>>) -> Option<Word<'_>> {
    words.into_iter().min_by_key(|(_, value)| match value {
        Value::Bool(false) => 0,
        Value::Null => 1,
        _ => 2,
    })
}

#[derive(Default)]
struct Merged {
    document: Map<String, Value>,
    provenance: BTreeMap<String, MemberRef>,
}

impl Merged {
    fn whole(&mut self, trusted: &[&Member], name: &str) {
        let word = words(trusted, name).find(|(_, value)| !is_empty_object(value));
        if let Some((member, value)) = word {
            self.document.insert(name.to_owned(), value.clone());
            self.provenance.insert(format!("/{name}"), reference(member));
        }
    }

    fn by_member(&mut self, trusted: &[&Member], name: &str, policy: Policy) {
        let said: Vec<Word<'_>> = words(trusted, name).collect();
        let mut units: BTreeSet<&str> = said
            .iter()
            .filter_map(|(_, value)| value.as_object())
            .flat_map(|members| members.keys())
            .map(String::as_str)
            .collect();
        let empty = said.iter().find(|(_, value)| value.is_null());
        if let Some((member, _)) = empty {
            if units.is_empty() {
                self.document.insert(name.to_owned(), Value::Null);
                self.provenance.insert(format!("/{name}"), reference(member));
                return;
            }
            // Who knows the whole to be empty says so of each member, also of those that nobody else names.
            for unit in schema::members_of(name) {
                units.insert(unit);
            }
        }

        let mut members = Map::new();
        for unit in units {
            let on_unit = said
                .iter()
                .filter_map(|(member, value)| match value {
                    Value::Object(members) => Some((*member, members.get(unit)?)),
                    _ => Some((*member, &Value::Null)),
                })
                .collect();
            if let Some((member, value)) = policy(on_unit) {
                members.insert(unit.to_owned(), value.clone());
                self.provenance.insert(format!("/{name}/{}", schema::escape(unit)), reference(member));
            }
        }
        if !members.is_empty() {
            self.document.insert(name.to_owned(), Value::Object(members));
        }
    }
}

fn words<'a>(trusted: &[&'a Member], name: &str) -> impl Iterator<Item = Word<'a>> {
    trusted.iter().filter_map(move |member| Some((*member, member.state.view.members().get(name)?)))
}

/// What a patch leaves of an object after taking out its last member: no opinion any more.
fn is_empty_object(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

fn reference(member: &Member) -> MemberRef {
    MemberRef { source: member.source.clone(), subject: member.subject.clone() }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::{collection, prelude::*};
    use serde_json::json;

    use super::*;
    use crate::{
        contact::{record::MemberState, schema::samples},
        event::SourceVersion,
        identity::Membership,
    };

    fn member(source: &str, subject: &str, spoke_at: i64, view: Value) -> Member {
        let (view, _) = Document::parse(view).expect("a sound view");
        Member {
            source: source.into(),
            subject: subject.into(),
            state: MemberState {
                live: true,
                version: SourceVersion { sequence: None, time: None, topic: "in".into(), partition: 0, offset: 0 },
                view,
                spoke_at: Timestamp::from_second(spoke_at).unwrap(),
                event_ids: Vec::new(),
                content: String::new(),
                membership: Membership::default(),
            },
        }
    }

    /// Merges, and checks document and the source of each unit.
    #[track_caller]
    fn check(members: &[Member], priority: &[&str], document: Value, provenance: &[(&str, &str)]) {
        let priority: Vec<Arc<str>> = priority.iter().map(|source| Arc::from(*source)).collect();
        let (merged, from) = merge(members, &priority);
        assert_eq!(Value::Object(merged.members().clone()), document);
        let from: Vec<(&str, &str)> = from.iter().map(|(unit, member)| (unit.as_str(), &*member.source)).collect();
        assert_eq!(from, provenance);
    }

    #[test]
    fn the_listed_source_has_the_word_before_the_one_that_spoke_last() {
        let members = [
            member("erp", "9", 10, json!({"name": {"familyName": "Old"}})),
            member("shop", "1", 20, json!({"name": {"familyName": "New"}})),
        ];
        check(&members, &["erp", "shop"], json!({"name": {"familyName": "Old"}}), &[("/name", "erp")]);
        check(&members, &["shop"], json!({"name": {"familyName": "New"}}), &[("/name", "shop")]);
        check(&members, &[], json!({"name": {"familyName": "New"}}), &[("/name", "shop")]);
    }

    #[test]
    fn among_equals_the_lower_source_and_subject_have_the_word() {
        let members = [
            member("shop", "2", 10, json!({"owner": "second"})),
            member("shop", "10", 10, json!({"owner": "first"})),
            member("Web", "1", 5, json!({"owner": "older"})),
        ];
        check(&members, &[], json!({"owner": "first"}), &[("/owner", "shop")]);
    }

    #[test]
    fn a_unit_is_taken_whole_from_one_source() {
        let members = [
            member("erp", "9", 10, json!({"name": {"givenName": "Ann"}, "emails": [{"value": "a@example.com"}]})),
            member("shop", "1", 20, json!({"name": {"familyName": "Roth"}, "emails": [], "notes": "n"})),
        ];
        check(
            &members,
            &["erp"],
            json!({"name": {"givenName": "Ann"}, "emails": [{"value": "a@example.com"}], "notes": "n"}),
            &[("/emails", "erp"), ("/name", "erp"), ("/notes", "shop")],
        );
        check(
            &members,
            &["shop"],
            json!({"name": {"familyName": "Roth"}, "emails": [], "notes": "n"}),
            &[("/emails", "shop"), ("/name", "shop"), ("/notes", "shop")],
        );
    }

    #[test]
    fn what_is_known_to_be_empty_is_a_word_and_what_is_left_out_is_none() {
        let members = [
            member("erp", "9", 10, json!({"birthDate": null, "name": {}})),
            member("shop", "1", 20, json!({"birthDate": "1980-01-01", "name": {"givenName": "Ann"}, "gender": "f"})),
        ];
        check(
            &members,
            &["erp"],
            json!({"birthDate": null, "name": {"givenName": "Ann"}, "gender": "f"}),
            &[("/birthDate", "erp"), ("/gender", "shop"), ("/name", "shop")],
        );
    }

    #[test]
    fn members_of_organization_identifiers_and_attributes_are_taken_one_by_one() {
        let members = [
            member(
                "erp",
                "9",
                10,
                json!({"organization": {"name": "Roth AG", "title": null}, "identifiers": {"customer_no": "7"},
                    "attributes": {"a/b": 1}}),
            ),
            member(
                "shop",
                "1",
                20,
                json!({"organization": {"title": "Buyer", "department": "Sales"}, "identifiers": {"vat": "C"},
                    "attributes": {"a/b": 2, "c": true}}),
            ),
        ];
        check(
            &members,
            &["erp"],
            json!({
                "organization": {"name": "Roth AG", "title": null, "department": "Sales"},
                "identifiers": {"customer_no": "7", "vat": "C"},
                "attributes": {"a/b": 1, "c": true},
            }),
            &[
                ("/attributes/a~1b", "erp"),
                ("/attributes/c", "shop"),
                ("/identifiers/customer_no", "erp"),
                ("/identifiers/vat", "shop"),
                ("/organization/department", "shop"),
                ("/organization/name", "erp"),
                ("/organization/title", "erp"),
            ],
        );
    }

    #[test]
    fn an_object_known_to_be_empty_empties_each_of_its_members() {
        let empty = member("erp", "9", 10, json!({"organization": null, "identifiers": null}));
        check(
            std::slice::from_ref(&empty),
            &[],
            json!({"organization": null, "identifiers": null}),
            &[("/identifiers", "erp"), ("/organization", "erp")],
        );

        let members =
            [empty, member("shop", "1", 20, json!({"organization": {"name": "Roth AG"}, "identifiers": {"vat": "C"}}))];
        let (trusting_erp, _) = merge(&members, &["erp".into()]);
        assert_eq!(trusting_erp.at("/organization/name"), crate::contact::document::Said::Empty);
        assert_eq!(trusting_erp.at("/identifiers/vat"), crate::contact::document::Said::Empty);
        let (trusting_shop, from) = merge(&members, &["shop".into()]);
        assert_eq!(trusting_shop.text("/organization/name"), crate::contact::document::Said::Value("Roth AG"));
        assert_eq!(trusting_shop.text("/organization/title"), crate::contact::document::Said::Empty);
        assert_eq!(&*from["/organization/title"].source, "erp");
    }

    #[test]
    fn of_consent_the_most_restrictive_word_counts_whoever_says_it() {
        let members = [
            member("shop", "1", 20, json!({"consent": {"marketing": true, "dataProcessing": true}})),
            member("erp", "9", 10, json!({"consent": {"marketing": false}})),
            member("web", "5", 30, json!({"consent": {"dataProcessing": null}})),
        ];
        check(
            &members,
            &["shop"],
            json!({"consent": {"marketing": false, "dataProcessing": null}}),
            &[("/consent/dataProcessing", "web"), ("/consent/marketing", "erp")],
        );
    }

    #[test]
    fn deleted_members_have_no_word() {
        let mut deleted = member("erp", "9", 10, json!({"notes": "n"}));
        deleted.state.live = false;
        check(&[deleted], &["erp"], json!({}), &[]);
    }

    fn some_members() -> impl Strategy<Value = Vec<Member>> {
        let one = (prop_oneof!["a", "b", "c"], 0..3_i64, samples::contact());
        collection::vec(one, 1..5).prop_map(|members| {
            members
                .into_iter()
                .enumerate()
                .map(|(subject, (source, spoke_at, view))| member(&source, &subject.to_string(), spoke_at, view))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_order_of_the_members_does_not_matter(
            (members, shuffled) in some_members()
                .prop_flat_map(|members| (Just(members.clone()), Just(members).prop_shuffle())),
        ) {
            let priority = ["b".into()];
            prop_assert_eq!(merge(&members, &priority), merge(&shuffled, &priority));
        }

        #[test]
        fn each_unit_is_what_the_member_named_for_it_says(members in some_members()) {
            let (document, provenance) = merge(&members, &["b".into()]);
            for (unit, from) in &provenance {
                let named = members.iter().find(|member| member.source == from.source && member.subject == from.subject);
                let view = &named.expect("a member").state.view;
                prop_assert_eq!(document.at(unit), view.at(unit), "{}", unit);
            }
            // And nothing is in the document without a member that is named for it.
            for (name, value) in document.members() {
                let whole = provenance.contains_key(&format!("/{name}"));
                let each = value.as_object().is_some_and(|members| {
                    members.keys().all(|member| provenance.contains_key(&format!("/{name}/{}", schema::escape(member))))
                });
                prop_assert!(whole || each, "{}", name);
            }
        }

        #[test]
        fn a_merged_document_is_a_sound_one(members in some_members()) {
            let (document, _) = merge(&members, &[]);
            let (checked, ignored) = Document::parse(Value::Object(document.members().clone())).unwrap();
            prop_assert_eq!(checked, document);
            prop_assert_eq!(ignored, 0);
        }

        #[test]
        fn one_source_alone_is_taken_at_its_word(view in samples::contact()) {
            let alone = member("a", "1", 0, view);
            let (document, _) = merge(std::slice::from_ref(&alone), &[]);
            let said = |document: &Document| -> Map<String, Value> {
                document.members().clone().into_iter().filter(|(_, value)| !is_empty_object(value)).collect()
            };
            prop_assert_eq!(said(&document), said(&alone.state.view));
        }
    }
}
