//! What operators change about the mapping of a CRM: a connector around the one of its kind.
//!
//! It keeps away the contacts that the CRM is not to have, and lays the configured fields over the projection that the
//! connector made. Everything else is the connector's: how a field is written and cleared, what an erasure empties.
//!
//! - A field that is filled from the contact takes the place of what the mapping made, also where the contact says nothing.
//!   Where it was sent before, it is then cleared like any other.
//! - A field that is left to the CRM's users is neither sent nor cleared, and what was once sent of it stays known: an
//!   erasure clears it all the same.
//! - Who was sent and is to leave is treated as if all its sources had deleted it, under the policy for that. Whoever has
//!   left is left alone until it may come back.
//! - A rule for a field that a contact does not have (a company has no first name) says nothing of that contact.
//! - What is gone is not held up: a rule that would reject a contact changes nothing of one that is retired.
//!
//! Pure.

mod filter;
mod place;
mod rule;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde_json::Value;

use self::{
    filter::Filter,
    rule::{Made, Rule},
};
use super::{
    Answer, Batching, Connector, Delivery, Field, LookUpKeys, Loss, Naming, NoReader, NotSettable, Presence,
    Projection, Reader, References, Relation, Step, Verdict, link::Link,
};
use crate::{
    config::{CrmSettings, OnDelete, OnLeave},
    contact::{ContactRecord, Document, record::Status},
    event::{OutcomeKind, ReasonCode},
};

/// A setting that does not fit the CRM or the contact document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}; {remedy}")]
pub struct Misfit {
    /// Below the CRM: `fields.title.from`.
    pub key: String,
    pub reason: String,
    pub remedy: String,
}

const UNFIT: &str = "not what the field takes";
const LEFT: &str = "left to the CRM's users";

/// What operators changed.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    filter: Filter,
    rules: BTreeMap<String, Rule>,
}

impl Overrides {
    /// What `settings` say, for a CRM that `connector` speaks to.
    ///
    /// # Errors
    /// Everything that does not fit.
    pub(super) fn new(settings: &CrmSettings, connector: &dyn Connector) -> Result<Self, Vec<Misfit>> {
        let mut misfits = Vec::new();
        let filter = Filter::new(&settings.filter, "where").unwrap_or_else(|found| {
            misfits.extend(found);
            Filter::default()
        });
        let mut rules = BTreeMap::new();
        for (name, written) in &settings.fields {
            let key = format!("fields.{name}");
            let rule = connector.field(name).map_err(|why| vec![refused(&key, why)]);
            match rule.and_then(|field| Rule::new(written, field, &key)) {
                Ok(rule) => drop(rules.insert(name.clone(), rule)),
                Err(found) => misfits.extend(found),
            }
        }
        if misfits.is_empty() { Ok(Self { filter, rules }) } else { Err(misfits) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filter.is_empty() && self.rules.is_empty()
    }
}

fn refused(key: &str, why: NotSettable) -> Misfit {
    let (reason, remedy) = match why {
        NotSettable::Unknown => {
            ("the CRM has no such field", "use its own names, with quotes around one that has dots")
        }
        NotSettable::Id => ("the CRM gives this field by itself", "remove the rule"),
        NotSettable::Form => (
            "this field decides which others a contact has",
            "remove the rule; /kind decides, and what the contact says",
        ),
        NotSettable::Entry => (
            "this is an entry among others, each written by an action of its own",
            "remove the rule; /emails, /phoneNumbers, /addresses, /photos and /relations decide",
        ),
        NotSettable::Reference => {
            ("this field marks a contact as ours, and is how it is found again", "remove the rule")
        }
        NotSettable::Presence => {
            ("this field says whether the contact is active", "remove the rule; /active and the policies decide")
        }
    };
    Misfit { key: key.to_owned(), reason: reason.to_owned(), remedy: remedy.to_owned() }
}

/// A connector under what operators changed.
#[derive(Debug)]
pub(super) struct Overridden {
    inner: Arc<dyn Connector>,
    on_leave: OnLeave,
    /// Retires who leaves; `None`: they stay.
    retiring: Option<Arc<dyn Connector>>,
    overrides: Overrides,
}

impl Overridden {
    /// `with` makes the connector for a policy about deleted contacts.
    ///
    /// # Errors
    /// If it makes none.
    pub(super) fn new<E>(
        inner: Arc<dyn Connector>,
        overrides: Overrides,
        on_leave: OnLeave,
        with: impl FnOnce(OnDelete) -> Result<Arc<dyn Connector>, E>,
    ) -> Result<Self, E> {
        let retiring = match on_leave {
            OnLeave::Keep => None,
            OnLeave::Deactivate => Some(with(OnDelete::Deactivate)?),
            OnLeave::Delete => Some(with(OnDelete::Delete)?),
        };
        Ok(Self { inner, on_leave, retiring, overrides })
    }

    fn leaves_crm(&self, record: &ContactRecord) -> bool {
        let passes = |document: &Document| self.overrides.filter.lets_pass(document);
        record.status == Status::Live && !record.contact.as_ref().is_some_and(passes)
    }

    /// The connector for a record, and the record as that one is to see it.
    fn seen<'a>(&'a self, record: &'a ContactRecord) -> (&'a dyn Connector, Cow<'a, ContactRecord>) {
        match &self.retiring {
            Some(retiring) if self.leaves_crm(record) => {
                (&**retiring, Cow::Owned(ContactRecord { status: Status::Deleted, ..record.clone() }))
            }
            _ => (&*self.inner, Cow::Borrowed(record)),
        }
    }

    /// Who is not let in, or has left already.
    fn is_kept_away(&self, record: &ContactRecord, link: Option<&Link>) -> bool {
        self.leaves_crm(record)
            && (self.retiring.is_none()
                || link.is_none_or(|link| self.has_left(link) || !self.may_be_there(record, link)))
    }

    fn has_left(&self, link: &Link) -> bool {
        let is_gone = link.presence == Some(Presence::Absent);
        let is_retired = self.on_leave == OnLeave::Deactivate && link.presence == Some(Presence::Inactive);
        (is_gone || is_retired) && link.intent.is_none()
    }

    /// Whether there may be anybody to retire. Where that is suspected of a predecessor and nothing more, only a search may
    /// tell: an upsert would make the very contact that is not to be there.
    fn may_be_there(&self, record: &ContactRecord, link: &Link) -> bool {
        if link.presence.is_some() || !link.remote_ids.is_empty() || link.intent.is_some() {
            return true;
        }
        // Our reference goes with each first write; it is not among what can be cleared, which is all that is suspected.
        let clearable = self.fields();
        link.sent.keys().any(|field| !clearable.iter().any(|known| **known == **field))
            || !link.sent.is_empty() && self.inner.look_up_keys(record, &Projection::default()).is_some()
    }

    /// Lays the configured fields over a projection.
    fn lay_over(
        &self,
        projection: &mut Projection,
        record: &ContactRecord,
        document: &Document,
    ) -> Result<(), Verdict> {
        let is_live = record.status == Status::Live;
        for (name, rule) in &self.overrides.rules {
            if !self.inner.has_field(name, projection) {
                continue;
            }
            let pointer = || rule.place().map_or_else(|| name.clone(), |place| place.pointer.clone());
            let made = rule.make(document);
            let code = match made {
                Made::Refused => Some(ReasonCode::InvalidField),
                Made::Unfit if rule.field.required => Some(ReasonCode::InvalidField),
                Made::Empty | Made::Nothing if rule.field.required => Some(ReasonCode::MissingField),
                Made::Value(_) | Made::Empty | Made::Nothing | Made::Unfit => None,
            };
            match code {
                Some(code) if is_live => return Err(Verdict::field(OutcomeKind::Rejected, code, pointer())),
                Some(_) => continue,
                None => {}
            }
            if made == Made::Unfit
                && let Some(place) = rule.place()
            {
                projection.losses.push(Loss { field: place.path(), why: UNFIT });
            }
            match made {
                Made::Value(value) => drop(projection.fields.insert(name.clone(), self.inner.shaped(name, value))),
                Made::Empty => drop(projection.fields.insert(name.clone(), Value::Null)),
                Made::Nothing | Made::Unfit | Made::Refused => drop(projection.fields.remove(name)),
            }
        }
        Ok(())
    }

    /// What is still lost where rules carry some of it. A rule for a field that the contact has not carries nothing.
    fn still_lost(
        &self,
        projection: &Projection,
        record: &ContactRecord,
        document: &Document,
        link: Option<&Link>,
    ) -> Vec<Loss> {
        let losses = projection.losses.clone();
        let carries = |(name, rule): &(&String, &Rule)| {
            self.inner.has_field(name, projection) && matches!(rule.make(document), Made::Value(_))
        };
        let carried = self.overrides.rules.iter().filter(carries).filter_map(|(_, rule)| rule.place());
        let carried: Vec<_> =
            carried.filter(|place| losses.iter().any(|loss| place.path().starts_with(loss.field))).collect();
        if carried.is_empty() {
            return losses;
        }
        let mut rest = document.clone();
        carried.iter().for_each(|place| place.take_from(&mut rest));
        // What the connector loses of the rest alone it loses of the whole.
        match self.inner.project(&ContactRecord { contact: Some(rest), ..record.clone() }, link) {
            Ok(projection) => losses.into_iter().filter(|loss| projection.losses.contains(loss)).collect(),
            Err(_) => losses,
        }
    }
}

impl Connector for Overridden {
    fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        if self.is_kept_away(record, link) {
            return Err(Verdict::new(OutcomeKind::Filtered, ReasonCode::Where));
        }
        let (connector, seen) = self.seen(record);
        let mut projection = connector.project(&seen, link)?;
        let document = seen.contact.as_ref().filter(|_| seen.status != Status::Erased);
        if let Some(document) = document.filter(|_| projection.presence != Presence::Absent) {
            projection.losses = self.still_lost(&projection, &seen, document, link);
            self.lay_over(&mut projection, &seen, document)?;
        }
        Ok(projection)
    }

    fn fields(&self) -> Vec<String> {
        let mut fields = self.inner.fields();
        let sent = self.overrides.rules.iter().filter(|(_, rule)| !rule.is_left() && !rule.field.required);
        let more: Vec<String> = sent.map(|(name, _)| name.clone()).filter(|name| !fields.contains(name)).collect();
        fields.extend(more);
        fields
    }

    fn field(&self, name: &str) -> Result<Field, NotSettable> {
        self.inner.field(name)
    }

    fn leaves_alone(&self, record: &ContactRecord, field: &str) -> bool {
        let is_left = self.overrides.rules.get(field).is_some_and(Rule::is_left);
        is_left && record.status != Status::Erased || self.inner.leaves_alone(record, field)
    }

    fn cannot_carry(&self) -> Vec<Loss> {
        let mut losses = self.inner.cannot_carry();
        let carried = |loss: &Loss| {
            let mut places = self.overrides.rules.values().filter_map(Rule::place);
            places.any(|place| place.path() == loss.field && place.pointer == loss.field)
        };
        losses.retain(|loss| !carried(loss));
        for pointer in super::CONSENTS {
            if self.inner.consent_field(pointer).is_some() && self.consent_field(pointer).is_none() {
                losses.push(Loss { field: pointer, why: LEFT });
            }
        }
        losses
    }

    fn consent_field(&self, pointer: &str) -> Option<String> {
        let rules = &self.overrides.rules;
        let from_here = |rule: &Rule| rule.place().is_some_and(|place| place.pointer == pointer);
        let own = self.inner.consent_field(pointer).filter(|field| rules.get(field).is_none_or(from_here));
        own.or_else(|| rules.iter().find(|(_, rule)| from_here(rule)).map(|(name, _)| name.clone()))
    }

    fn takes_consents(&self, record: &ContactRecord) -> bool {
        self.inner.takes_consents(record)
    }

    fn look_up_keys(&self, record: &ContactRecord, projection: &Projection) -> Option<LookUpKeys> {
        let (connector, seen) = self.seen(record);
        connector.look_up_keys(&seen, projection)
    }

    fn naming(&self) -> Naming {
        self.inner.naming()
    }

    fn relations(&self, record: &ContactRecord) -> Vec<Relation> {
        let (connector, seen) = self.seen(record);
        connector.relations(&seen)
    }

    fn relates(&self) -> bool {
        self.inner.relates()
    }

    fn losses(&self, projection: &Projection, references: &References) -> Vec<Loss> {
        self.inner.losses(projection, references)
    }

    fn batching(&self) -> Option<Arc<dyn Batching>> {
        self.inner.batching()
    }

    fn reader(&self) -> Result<&dyn Reader, NoReader> {
        self.inner.reader()
    }

    fn shows(&self) -> Result<&dyn Reader, NoReader> {
        self.inner.shows()
    }

    fn next(&self, delivery: &Delivery<'_>, answers: &[Answer]) -> Step {
        let (connector, seen) = self.seen(delivery.record);
        connector.next(&Delivery { record: &seen, ..*delivery }, answers)
    }
}

#[cfg(test)]
mod on_the_wire;
#[cfg(test)]
mod tests;
