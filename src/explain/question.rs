//! What is asked: a contact by its id, what a source calls somebody, or an e-mail address.
//!
//! A person types one word and means one of three things. How it is read depends on the word and on the configured
//! sources alone, never on what happens to be known: the same word always asks the same question.
//!
//! 1. A UUID is a contact.
//! 2. With a slash in it, it is `SOURCE/SUBJECT`. Sources are URIs, which have slashes too, so the longest configured
//!    source that it begins with is taken: short names before URIs. Of a source that is not configured, everything up to
//!    the last slash is the source.
//! 3. With an `@` and no slash, it is an e-mail address.
//!
//! Whoever asks about a subject with a slash in it, of a source that is not configured, says source and subject apart.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{config::SourceSettings, contact::ContactId, privacy::Secret};

/// What stands in a request. Whatever it is, it may be personal.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Asked {
    /// As a person wrote it; see [`Question::read`].
    About(String),
    Member(AskedMember),
}

/// A source by its short name or its URI, and whom it speaks of.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedMember {
    pub source: String,
    pub subject: String,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked")
    }
}

impl fmt::Debug for AskedMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AskedMember")
    }
}

/// A question that can be looked up.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Question {
    Contact(ContactId),
    Member { source: Arc<str>, subject: Arc<str> },
    Email(Secret),
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Question about {:?}", self.kind())
    }
}

/// Of which kind a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Contact,
    Member,
    Email,
}

/// Why a question cannot be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    #[error("this is neither the id of a contact, nor SOURCE/SUBJECT, nor an e-mail address")]
    NoneOfThem,
    #[error("the source or the subject is empty")]
    Empty,
}

impl Question {
    /// # Errors
    /// [`QuestionError`], which repeats nothing of the question.
    pub(super) fn read(asked: &Asked, sources: &[SourceSettings]) -> Result<Self, QuestionError> {
        match asked {
            Asked::About(text) => Self::of_text(text.trim(), sources),
            Asked::Member(AskedMember { source, subject }) => {
                let named = sources.iter().find(|known| *known.name == **source);
                Self::member(named.map_or_else(|| source.as_str().into(), |known| known.uri.clone()), subject)
            }
        }
    }

    fn of_text(text: &str, sources: &[SourceSettings]) -> Result<Self, QuestionError> {
        if let Ok(id) = Uuid::try_parse(text) {
            return Ok(Self::Contact(ContactId(id)));
        }
        let Some((before, after)) = text.rsplit_once('/') else {
            return if text.contains('@') {
                Ok(Self::Email(Secret::new(text)))
            } else {
                Err(QuestionError::NoneOfThem)
            };
        };
        let begun_with = |source: &str| text.strip_prefix(source)?.strip_prefix('/');
        let longest = |by: fn(&SourceSettings) -> &str| {
            let fitting = sources.iter().filter_map(|source| Some((source, begun_with(by(source))?)));
            fitting.max_by_key(|(source, _)| by(source).len())
        };
        match longest(|source| &source.name).or_else(|| longest(|source| &source.uri)) {
            Some((source, subject)) => Self::member(source.uri.clone(), subject),
            None => Self::member(before.into(), after),
        }
    }

    fn member(source: Arc<str>, subject: &str) -> Result<Self, QuestionError> {
        if source.is_empty() || subject.is_empty() {
            return Err(QuestionError::Empty);
        }
        Ok(Self::Member { source, subject: subject.into() })
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Contact(_) => Kind::Contact,
            Self::Member { .. } => Kind::Member,
            Self::Email(_) => Kind::Email,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn sources() -> Vec<SourceSettings> {
        let shown = Settings::reference().source.into_iter().next().unwrap();
        let source = |name: &str, uri: &str| SourceSettings { name: name.into(), uri: uri.into(), ..shown.clone() };
        vec![
            source("shop", "https://shop.example.com"),
            source("shop-eu", "https://shop.example.com/eu"),
            source("erp", "/erp"),
            source("urn", "urn:crm"),
        ]
    }

    fn member(source: &str, subject: &str) -> Question {
        Question::Member { source: source.into(), subject: subject.into() }
    }

    #[test]
    fn one_word_asks_one_question() {
        let id = "0190c0de-0000-8000-8000-000000000007";
        for (text, expected) in [
            (id, Question::Contact(ContactId(id.parse().unwrap()))),
            (" 0190C0DE000080008000000000000007 ", Question::Contact(ContactId(id.parse().unwrap()))),
            ("ann@example.com", Question::Email(Secret::new("ann@example.com"))),
            ("Ann <ann@example.com>", Question::Email(Secret::new("Ann <ann@example.com>"))),
            // Short names come first, then configured URIs, the longest of each.
            ("shop/42", member("https://shop.example.com", "42")),
            ("shop/42/7", member("https://shop.example.com", "42/7")),
            ("shop/ann@example.com", member("https://shop.example.com", "ann@example.com")),
            ("https://shop.example.com/42", member("https://shop.example.com", "42")),
            ("https://shop.example.com/eu/42", member("https://shop.example.com/eu", "42")),
            ("https://shop.example.com/europe/42", member("https://shop.example.com", "europe/42")),
            ("/erp/a/b", member("/erp", "a/b")),
            ("urn:crm/7", member("urn:crm", "7")),
            // Of others, the last slash parts.
            ("https://other.example.com/a/b", member("https://other.example.com/a", "b")),
            ("shopping/42", member("shopping", "42")),
            // An id is a subject where a source is named.
            (&format!("shop/{id}"), member("https://shop.example.com", id)),
        ] {
            let asked = Asked::About(text.to_owned());
            assert!(Question::read(&asked, &sources()) == Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("", QuestionError::NoneOfThem),
            ("Ann Roth", QuestionError::NoneOfThem),
            ("shop/", QuestionError::Empty),
            ("/42", QuestionError::Empty),
        ] {
            assert_eq!(Question::read(&Asked::About(text.to_owned()), &sources()), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_source_that_is_named_apart_is_a_short_name_or_a_uri() {
        for (source, subject, expected) in [
            ("shop", "4/2", member("https://shop.example.com", "4/2")),
            ("https://other.example.com/a", "b/c", member("https://other.example.com/a", "b/c")),
        ] {
            let asked = Asked::Member(AskedMember { source: source.into(), subject: subject.into() });
            assert!(Question::read(&asked, &sources()) == Ok(expected), "{source}");
        }
    }

    #[test]
    fn a_question_does_not_print() {
        let asked = Asked::About("ann@example.com".to_owned());
        let question = Question::read(&asked, &[]).unwrap();
        let text = format!("{asked:?} {question:?} {:?}", member("/shop", "ann@example.com"));
        assert!(!text.contains("example"), "{text}");
    }

    #[test]
    fn a_request_has_one_of_two_forms() {
        let about: Asked = serde_json::from_str(r#"{"about":"shop/42"}"#).unwrap();
        assert!(about == Asked::About("shop/42".into()));
        let apart: Asked = serde_json::from_str(r#"{"member":{"source":"shop","subject":"42"}}"#).unwrap();
        assert!(apart == Asked::Member(AskedMember { source: "shop".into(), subject: "42".into() }));
        for wrong in ["{}", r#"{"email":"a"}"#, r#"{"member":{"source":"shop"}}"#, r#""shop/42""#] {
            assert!(serde_json::from_str::<Asked>(wrong).is_err(), "{wrong}");
        }
    }
}
