//! Rows of a table: each is looked at, and those that can be followed become entries of the work list.

use std::collections::HashMap;

use tracing::info;
use uuid::Uuid;

use super::{Imported, LinksError, Named, Refused, Row, Why, entry, holder, is_in_shadow};
use crate::{
    audit::Operator,
    contact::{ContactId, Version},
    event::{
        audit::{Action, Target},
        entry::LinkTo,
    },
    explain::{self, Asked, AskedMember, ExplainError, Shown},
    log::TopicPartition,
};

/// Rows of one order; the rest is for the next one.
pub const ROWS_MAX: usize = 1_000;

/// What the rows before this one said.
#[derive(Default)]
struct Said<'a> {
    names: HashMap<ContactId, &'a str>,
    holders: HashMap<&'a str, ContactId>,
}

/// What is to become of a row.
enum Followed {
    /// A link says so already, or a row before this one does.
    Known,
    Linked {
        contact: ContactId,
        version: Version,
        link_to: LinkTo,
    },
}

/// Imports `rows` while the CRM is in shadow, or only checks them.
pub(super) async fn import(
    shown: &Shown,
    named: &Named,
    rows: &[Row],
    check: bool,
    operator: &Operator,
) -> Result<Imported, LinksError> {
    if rows.is_empty() {
        return Err(LinksError::NoRows);
    }
    if rows.len() > ROWS_MAX {
        return Err(LinksError::TooMany);
    }
    let parts = shown.parts();
    if !is_in_shadow(parts, &named.crm)? {
        return Err(LinksError::NotInShadow { crm: named.crm.clone() });
    }
    let mut said = Said::default();
    let (mut linked, mut known, mut refused) = (Vec::new(), 0, Vec::new());
    for (place, row) in rows.iter().enumerate() {
        match look_at(shown, named, row, &mut said)? {
            Ok(Followed::Known) => known += 1,
            Ok(Followed::Linked { contact, version, link_to }) => linked.push((contact, version, link_to, row)),
            Err(why) => refused.push(Refused { place, why }),
        }
    }
    let count = linked.len() as u64;
    if check || linked.is_empty() {
        return Ok(Imported { id: None, linked: count, known, refused });
    }
    let (id, now) = (Uuid::new_v4().to_string(), parts.clock.now());
    let entries = linked
        .iter()
        .map(|(contact, version, link_to, _)| entry(parts, named, (*contact, *version), link_to.clone(), &id, now));
    let contact_ids = linked.iter().map(|(contact, ..)| *contact).collect();
    let target = Target { crm: Some(named.crm.clone()), cause: Some(id.clone()), contact_ids, letters: Vec::new() };
    parts.trail.act(operator, Action::LinksImport, target, entries.collect()).await?;
    for (contact, _, _, row) in &linked {
        parts.lately.note(&named.crm, *contact, Some(&row.remote_id));
    }
    info!(crm = %named.crm, id, linked = count, known, refused = refused.len(), "links are imported");
    Ok(Imported { id: Some(id), linked: count, known, refused })
}

fn look_at<'a>(
    shown: &Shown,
    named: &Named,
    row: &'a Row,
    said: &mut Said<'a>,
) -> Result<Result<Followed, Why>, LinksError> {
    let parts = shown.parts();
    let name = row.remote_id.as_str();
    let ids = match named.naming.read(name) {
        Ok(ids) => ids,
        Err(error) => return Ok(Err(error.into())),
    };
    let member = AskedMember { source: row.source.clone(), subject: row.subject.clone() };
    let contact = match shown.find(&Asked::Member(member)) {
        Ok(contact) => contact,
        // Nobody has an empty source or subject.
        Err(ExplainError::Question(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let version = contact.map(|contact| parts.view.record_version(contact)).transpose();
    let (Some(contact), Some(version)) = (contact, version.map_err(ExplainError::from)?.flatten()) else {
        return Ok(Err(Why::Unknown));
    };
    match said.names.get(&contact) {
        Some(other) if *other != name => return Ok(Err(Why::Contradicted(contact))),
        Some(_) => return Ok(Ok(Followed::Known)),
        None => {}
    }
    let taken = match said.holders.get(name) {
        Some(holder) => Some(*holder),
        None => holder(parts, named, name, contact)?,
    };
    if let Some(holder) = taken {
        return Ok(Err(Why::Taken(holder)));
    }
    said.names.insert(contact, name);
    said.holders.insert(name, contact);
    if is_called(parts, named, contact, name)? {
        return Ok(Ok(Followed::Known));
    }
    Ok(Ok(Followed::Linked { contact, version, link_to: LinkTo::Remote(ids) }))
}

/// Whether the contact is linked so already, or will be in a moment.
fn is_called(
    parts: &explain::Parts,
    Named { crm, naming }: &Named,
    contact: ContactId,
    name: &str,
) -> Result<bool, LinksError> {
    if let Some(is_called) = parts.lately.is_called(crm, contact, name) {
        return Ok(is_called);
    }
    let view = &parts.view;
    let at = TopicPartition::new(parts.topics.links(crm), view.partition(contact));
    if view.position(&at).is_none() {
        return Ok(false);
    }
    let link = view.link(crm, contact).map_err(ExplainError::from)?;
    // Our own key is as good as none until a contact was written under it.
    Ok(link.is_some_and(|link| naming.of(&link).as_deref() == Some(name)))
}
