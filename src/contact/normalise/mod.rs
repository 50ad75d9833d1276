//! What makes two ways of writing the same thing equal: texts, e-mail addresses, telephone numbers, names, ids.
//!
//! For matching only. What a source wrote goes to the CRMs as it was written; a normal form is compared, hashed or
//! searched for, and then forgotten. So a normaliser may lose what tells nobody apart, and must refuse what identifies
//! nobody: it is better to miss a match than to take two people for one.
//!
//! Every normaliser is a function of its arguments alone, the same in every locale and on every machine, and leaves its
//! own results as they are. [`VERSION`] rises with any change that makes a different form of what had one: the hashes of
//! all keys would be others.

pub mod email;
pub mod id;
pub mod name;
pub mod phone;
pub mod text;

/// Names this set of normalisers.
pub const VERSION: u32 = 1;

/// The normal form of an e-mail address, under the default rules for providers; `None` if it is none.
pub fn email(address: &str) -> Option<String> {
    email::EmailRules::default().normalise(address)
}

/// A telephone number as E.164; `None` if it is none, or not the number of one line. `region` (ISO 3166-1 alpha-2) is
/// where it is dialled when it is written without its country.
pub fn phone(number: &str, region: Option<&str>) -> Option<String> {
    phone::parse(number, region).ok()
}
