//! How a contact of a CRM is named where an operator says which of ours it is.
//!
//! Most CRMs give each contact an id of their own. Two take a key of ours with each write and have nothing else that a
//! contact could be named by (Priava, NextInteract SAM): there it is named by that key, which is our contact id unless
//! somebody said otherwise.
//!
//! Pure.

use std::collections::BTreeMap;

use super::{REMOTE_CONTACT, link::Link};
use crate::contact::ContactId;

/// The role of a key that goes with each write in the place of our contact id, in CRMs that give ids of their own beside it.
pub const EXTERNAL: &str = "external";

/// The role of the word for what a CRM has the contact as, where it keeps persons and organisations apart under one key.
/// Without it, as a person.
pub const ENTITY: &str = "entity";

/// The names of one CRM's contacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Naming {
    /// Under which of the remote ids of a link the name is.
    role: &'static str,
    form: Form,
    /// It is a key of ours.
    ours: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A whole number above zero, as it is usually written.
    Number,
    /// Letters, digits, `-`, `_` and `.`.
    Word,
    /// Anything that can be printed, with no white space around it.
    Text,
}

/// Longest name that is taken.
pub const NAME_BYTES_MAX: usize = 200;

/// Why a text names no contact of a CRM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NamingError {
    #[error("contacts of this CRM have whole numbers above 0 for ids")]
    Number,
    #[error("ids of this CRM are of letters, digits, -, _ and .")]
    Word,
    #[error("it has white space around it, or what cannot be printed")]
    Text,
    #[error("it is empty, or longer than {NAME_BYTES_MAX} bytes")]
    Length,
}

impl Naming {
    /// By ids of the CRM that are numbers.
    pub const fn numbers() -> Self {
        Self { role: REMOTE_CONTACT, form: Form::Number, ours: false }
    }

    /// By ids of the CRM of which nothing is known but that they stand in paths.
    pub const fn words() -> Self {
        Self { role: REMOTE_CONTACT, form: Form::Word, ours: false }
    }

    /// By a key that goes with each write, kept under `role`.
    pub const fn keys(role: &'static str) -> Self {
        Self { role, form: Form::Text, ours: true }
    }

    /// The remote ids of a contact that is named so.
    ///
    /// # Errors
    /// Why no contact of the CRM can have this name. It is not repeated.
    pub fn read(&self, name: &str) -> Result<BTreeMap<String, String>, NamingError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(NamingError::Length);
        }
        match self.form {
            Form::Number => {
                let number: u64 = name.parse().map_err(|_none| NamingError::Number)?;
                if number == 0 || number.to_string() != name {
                    return Err(NamingError::Number);
                }
            }
            Form::Word => {
                let is_of_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
                // A path that ends there is another one.
                if !name.bytes().all(is_of_word) || name.bytes().all(|byte| byte == b'.') {
                    return Err(NamingError::Word);
                }
            }
            Form::Text => {
                if name.trim() != name || name.chars().any(char::is_control) {
                    return Err(NamingError::Text);
                }
            }
        }
        Ok(BTreeMap::from([(self.role.to_owned(), name.to_owned())]))
    }

    /// What the contact of `link` is named by, as far as is known: `None` if nothing of it may be there.
    pub fn of(&self, link: &Link) -> Option<String> {
        let known = link.remote_ids.get(self.role).cloned();
        known.or_else(|| (self.ours && link.may_be_there()).then(|| link.contact_id.key()))
    }

    /// The contact of ours that a name belongs to without anybody having said so.
    pub fn owner(&self, name: &str) -> Option<ContactId> {
        if self.ours { ContactId::from_key(name.as_bytes()) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn each_form_takes_what_a_contact_can_be_named_by_and_nothing_else() {
        let long = "7".repeat(NAME_BYTES_MAX + 1);
        let longest = "x".repeat(NAME_BYTES_MAX);
        for (naming, good, bad) in [
            (
                Naming::numbers(),
                &["1", "18446744073709551615"][..],
                &["", "0", "-1", "+1", "07", "1.0", " 1", "1e3", "18446744073709551616", "con_1"][..],
            ),
            (Naming::words(), &["con_90a1", "7", "a-b.c", &longest], &["", "a/b", "a b", "a?b", "..", "\u{e9}", &long]),
            (Naming::keys(EXTERNAL), &["CRM 17/x", "\u{e9}", &longest], &["", " a", "a\n", "a\u{7}b", &long]),
        ] {
            for name in good {
                assert_eq!(naming.read(name).unwrap().into_values().collect::<Vec<_>>(), [*name]);
            }
            for name in bad {
                assert!(naming.read(name).is_err(), "{name:?}");
            }
        }
    }

    #[test]
    fn a_contact_is_named_by_our_key_where_the_crm_takes_one_until_somebody_says_otherwise() {
        let contact = ContactId(Uuid::from_u128(7));
        let mut link = Link::new(contact);
        let (by_key, by_id) = (Naming::keys(EXTERNAL), Naming::words());
        assert_eq!((by_key.of(&link), by_id.of(&link)), (None, None));
        link.remote_ids.insert(REMOTE_CONTACT.to_owned(), "40117".to_owned());
        assert_eq!((by_key.of(&link), by_id.of(&link)), (Some(contact.key()), Some("40117".to_owned())));
        link.remote_ids.extend(by_key.read("K-1").unwrap());
        assert_eq!(by_key.of(&link).as_deref(), Some("K-1"));
        assert_eq!((by_key.owner(&contact.key()), by_key.owner("K-1")), (Some(contact), None));
        assert_eq!(by_id.owner(&contact.key()), None);
    }
}
