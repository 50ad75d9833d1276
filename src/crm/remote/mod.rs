//! What a CRM holds, read back, for people who want to see it and for the comparison with our records.
//!
//! Some CRMs can be read and some cannot ([`NoReader`]); a connector that can has a [`Reader`], as pure as the rest of it: from
//! the answers so far it makes the next request of a read, or what came of it. [`Caller`] drives it. A reader changes nothing: it makes
//! requests of kind [`RequestKind::Read`](super::RequestKind::Read) alone, and the caller holds it to that.
//!
//! What is read is shown as the CRM wrote it. For the comparison a reader knows which fields come back otherwise than they
//! were sent although nobody touched them (a position that is derived, a telephone number in another form): these are no
//! differences, or every run would find the same contacts again and mend nothing.

mod caller;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

pub use self::caller::{Caller, ReadError, Turn};
use super::{
    Answer, Failure, Projection, Request,
    link::{Link, Sent},
    reference::{Learned, References},
};
use crate::contact::ContactRecord;

/// Reads the contacts of one CRM. Pure.
pub trait Reader: Send + Sync + fmt::Debug {
    /// The ways in which the CRM shows contacts. The first is taken where none is asked for; it shows single contacts, with
    /// all that [`Reader::differences`] looks at.
    fn views(&self) -> &'static [RemoteView];

    /// By what a list can be narrowed.
    fn keys(&self) -> &'static [&'static str];

    /// The CRM lists only what a key selects.
    fn needs_key(&self) -> bool {
        false
    }

    /// The next request to read one contact, or what is held of it. A contact that is not there is a failure of class
    /// [`Gone`](super::FailureClass::Gone).
    fn one(&self, one: &One<'_>, answers: &[Answer]) -> ReadStep<Held>;

    /// The next request to read one page of a list, or the page.
    fn page(&self, walk: &Walk<'_>, answers: &[Answer]) -> ReadStep<Page>;

    /// The next request for a list that the comparison looks into, or the fields, as a projection names them, in which the
    /// CRM holds something else than it should.
    fn differences(&self, compared: &Compared<'_>, answers: &[Answer]) -> ReadStep<BTreeSet<String>>;
}

/// Why the contacts of a CRM cannot be read back: a clause that continues a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoReader(pub &'static str);

/// A way of showing contacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteView {
    pub name: &'static str,
    /// What it shows, for help texts.
    pub shows: &'static str,
    /// Contacts can be listed in it.
    pub lists: bool,
    /// Single contacts can be shown in it.
    pub shows_one: bool,
}

/// Which contact is to be read.
#[derive(Debug, Clone, Copy)]
pub struct One<'a> {
    pub id: &'a str,
    /// Name of one of [`Reader::views`].
    pub view: &'a str,
    pub references: &'a References,
}

/// Which page of a list is to be read.
#[derive(Clone, Copy)]
pub struct Walk<'a> {
    /// Name of one of [`Reader::views`].
    pub view: &'a str,
    /// One of [`Reader::keys`], and what it is to be.
    pub by: Option<(&'a str, &'a str)>,
    /// Where the page begins, in the CRM's own counting (a page, or contacts before it): what the page before it gave as
    /// [`Page::next`]. `None`: the first one.
    pub at: Option<u64>,
    pub references: &'a References,
}

/// What comes next in a read.
#[derive(Debug)]
pub enum ReadStep<T> {
    Call(Request),
    /// A list of the CRM that contacts refer to was read. The read begins anew with it at hand.
    Learned(Learned),
    Done(T),
    Failed(Failure),
}

/// What a CRM holds of a contact, as the CRM wrote it.
#[derive(Clone, PartialEq)]
pub struct Held {
    /// What the CRM calls it, where the view says so.
    pub id: Option<String>,
    pub document: Value,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The document is the contact.
        f.write_str("Held")
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// In the order of the CRM. Where lists shift while they are walked, a contact may come again on a later page.
    pub items: Vec<Held>,
    /// Where the next page begins; `None`: this was the last one.
    pub next: Option<u64>,
    /// How many contacts the whole list has, where the CRM says so.
    pub total: Option<u64>,
}

/// What should be there, and what is.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    pub record: &'a ContactRecord,
    pub link: &'a Link,
    pub projection: &'a Projection,
    pub held: &'a Held,
    pub references: &'a References,
}

impl<'a> Compared<'a> {
    /// What is to be there, per field: what the projection says, and nothing where something was sent once and is said no
    /// longer.
    pub fn expected(&self) -> BTreeMap<&'a str, &'a Value> {
        const NOTHING: &Value = &Value::Null;
        let gone = self.link.sent.iter().filter(|(_, sent)| matches!(sent, Sent::Hash(_)));
        let gone = gone.map(|(field, _)| (&**field, NOTHING));
        gone.chain(self.projection.fields.iter().map(|(field, value)| (field.as_str(), value))).collect()
    }
}

/// A value as people read it, for comparisons in which the form makes no difference: numbers and flags as text, line ends
/// and blanks around it as everywhere. Nothing, an empty text and an empty list are the same.
pub(super) fn plain(value: Option<&Value>) -> Option<String> {
    let text = match value? {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Array(items) if items.is_empty() => return None,
        Value::Object(members) if members.is_empty() => return None,
        whole @ (Value::Array(_) | Value::Object(_)) => whole.to_string(),
    };
    let text = text.replace("\r\n", "\n").trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_form_of_a_value_makes_no_difference_and_nothing_has_many_forms() {
        for (one, other, same) in [
            (json!("5"), json!(5), true),
            (json!(true), json!("true"), true),
            (json!("a\r\nb "), json!("a\nb"), true),
            (json!(null), json!(""), true),
            (json!([]), json!({}), true),
            (json!("a"), json!("A"), false),
            (json!("a"), json!(null), false),
            (json!([1]), json!([2]), false),
        ] {
            assert_eq!(plain(Some(&one)) == plain(Some(&other)), same, "{one} and {other}");
        }
        assert_eq!(plain(None), None);
    }
}
