//! What a delivery has to do: compares what the CRM should hold with what it last accepted.
//!
//! Values are not stored: the link holds keyed hashes per field, so that a difference, and a field that must be
//! cleared, can be told without keeping the contact.
//!
//! Pure.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::{
    crm::{
        Accepted, Presence, Projection, REMOTE_CONTACT,
        link::{Link, Linked, Sent},
    },
    event::{Operation, OutcomeKind},
    privacy::Hasher,
};

/// What the CRM holds after a delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct AcceptedState {
    pub sent: BTreeMap<Arc<str>, Sent>,
    pub presence: Presence,
    pub remote_ids: BTreeMap<String, String>,
}

/// The difference between a projection and a link.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Hashes of the projection, as the link will hold them once it is accepted.
    hashes: BTreeMap<Arc<str>, Sent>,
    /// Fields that differ from what was last accepted.
    pub changes: Vec<Arc<str>>,
    /// Fields that were sent and are no longer said: to be cleared.
    pub clears: Vec<String>,
    /// What the delivery is called in its outcome.
    pub operation: Operation,
    /// The CRM certainly holds all of it already: no call.
    pub unchanged: bool,
}

impl Plan {
    /// Compares. `unchanged` needs certainty: the last version ended well, nothing is parked, nothing was sent since
    /// without an answer (void equals nothing). What was sent of a field that `leaves_alone` stays as it is.
    pub fn new(
        crm: &str,
        projection: &Projection,
        link: &Link,
        hasher: &Hasher,
        leaves_alone: impl Fn(&str) -> bool,
    ) -> Self {
        let hash = |field: &str, value: &Value| hash(crm, hasher, field, value);
        let mut hashes: BTreeMap<Arc<str>, Sent> =
            projection.fields.iter().map(|(field, value)| (Arc::from(field.as_str()), hash(field, value))).collect();
        let changes =
            hashes.iter().filter(|(field, hash)| link.sent.get(*field) != Some(hash)).map(|(field, _)| field.clone());
        let changes = changes.collect();
        let mut clears = Vec::new();
        for (field, sent) in &link.sent {
            if hashes.contains_key(field) {
                continue;
            }
            if leaves_alone(field) {
                hashes.insert(field.clone(), *sent);
                continue;
            }
            let cleared = hash(field, &Value::Null);
            if *sent != cleared {
                clears.push(field.to_string());
            }
            hashes.insert(field.clone(), cleared);
        }
        let ended_well = link
            .settled
            .as_ref()
            .is_some_and(|settled| matches!(settled.outcome, OutcomeKind::Delivered | OutcomeKind::Unchanged));
        let unchanged =
            ended_well && link.open.is_none() && link.presence == Some(projection.presence) && hashes == link.sent;
        let operation = match (link.presence, projection.presence) {
            (_, Presence::Absent) => Operation::Delete,
            (Some(Presence::Absent), _) => Operation::Create,
            (Some(Presence::Inactive), Presence::Active) => Operation::Reactivate,
            (Some(Presence::Active), Presence::Inactive) => Operation::Deactivate,
            // A create whose answer was lost may stand there: it is a contact to deactivate, not one to create.
            (None, Presence::Inactive) => Operation::Deactivate,
            (None, Presence::Active) if link.incomplete => Operation::Create,
            // Found by a search or named by an operator, and not written to yet.
            (None, Presence::Active)
                if link.remote_ids.contains_key(REMOTE_CONTACT) || link.linked == Some(Linked::Existing) =>
            {
                Operation::Adopt
            }
            (None, Presence::Active) => Operation::Create,
            (Some(_), _) => Operation::Update,
        };
        Self { hashes, changes, clears, operation, unchanged }
    }

    /// The fields that this plan carries and that `link` does not know to have been sent, where that must be committed
    /// before they are: were this worker to die after sending them, its successor could not know that they are to be
    /// cleared once the record has them no longer.
    ///
    /// The first write of a contact goes without: a successor finds its entry unanswered, and clears all that it does not
    /// carry. A parked contact has no entry to be found, so there even the first write is announced. So it is where the
    /// contact was there before us: what we did not send, a successor must not clear.
    pub fn unannounced(&self, link: &Link) -> Vec<Arc<str>> {
        if link.sent.is_empty() && link.open.is_none() && link.linked != Some(Linked::Existing) {
            return Vec::new();
        }
        self.hashes.keys().filter(|field| !link.sent.contains_key(*field)).cloned().collect()
    }

    /// The fields that a request of this plan carries.
    pub fn carried(&self) -> Vec<Arc<str>> {
        self.hashes.keys().cloned().collect()
    }

    /// What the CRM holds once it accepted all of the plan but these fields: of them, what it held before.
    pub fn but(mut self, left: &[Arc<str>], crm: &str, before: &Link, hasher: &Hasher) -> BTreeMap<Arc<str>, Sent> {
        // What was never sent to a contact is not there.
        let known = |field: &Arc<str>| before.sent.get(field).copied();
        let held = |field: &Arc<str>| known(field).unwrap_or_else(|| hash(crm, hasher, field, &Value::Null));
        self.hashes.extend(left.iter().map(|field| (field.clone(), held(field))));
        self.hashes
    }

    /// What the CRM holds once it accepted the plan.
    pub fn accepted(self, projection: &Projection, accepted: Accepted) -> AcceptedState {
        AcceptedState { sent: self.hashes, presence: projection.presence, remote_ids: accepted.remote_ids }
    }
}

fn hash(crm: &str, hasher: &Hasher, field: &str, value: &Value) -> Sent {
    let value = serde_json::to_vec(value).expect("a JSON value serialises");
    Sent::Hash(hasher.hash64("sent", &[crm.as_bytes(), field.as_bytes(), &value]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{contact::ContactId, crm::link::Settled, event::entry::LinkTo, privacy::Secret};

    fn hasher() -> Hasher {
        Hasher::new(&Secret::new("a secret of the tests"))
    }

    fn projection(fields: &[(&str, Value)]) -> Projection {
        Projection {
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            ..Projection::default()
        }
    }

    /// The link after `projection` was delivered.
    fn delivered(projection: &Projection) -> Link {
        let mut link = Link::new(ContactId(uuid::Uuid::nil()));
        let plan = Plan::new("crm", projection, &link, &hasher(), |_| false);
        let state = plan.accepted(projection, Accepted { operation: Operation::Create, remote_ids: BTreeMap::new() });
        link.sent = state.sent;
        link.presence = Some(state.presence);
        link.settled = Some(Settled {
            version: 1,
            outcome: OutcomeKind::Delivered,
            operation: Some(Operation::Create),
            reason: None,
            attempts: 1,
        });
        link
    }

    fn plan(projection: &Projection, link: &Link) -> Plan {
        Plan::new("crm", projection, link, &hasher(), |_| false)
    }

    #[test]
    fn the_first_delivery_is_a_create() {
        let link = Link::new(ContactId(uuid::Uuid::nil()));
        let plan = plan(&projection(&[("a", json!("x"))]), &link);
        assert_eq!((plan.operation, plan.unchanged), (Operation::Create, false));
    }

    #[test]
    fn the_same_projection_is_unchanged_and_another_value_is_not() {
        let link = delivered(&projection(&[("a", json!("x")), ("b", json!(null))]));
        assert!(plan(&projection(&[("a", json!("x")), ("b", json!(null))]), &link).unchanged);
        assert!(!plan(&projection(&[("a", json!("y")), ("b", json!(null))]), &link).unchanged);
    }

    #[test]
    fn a_field_that_is_no_longer_said_is_cleared_once() {
        let mut link = delivered(&projection(&[("a", json!("x")), ("b", json!("y"))]));
        let without = projection(&[("a", json!("x"))]);
        let clearing = plan(&without, &link);
        assert_eq!((clearing.clears.as_slice(), clearing.unchanged), (&["b".to_owned()][..], false));
        link.sent = clearing.hashes;
        let again = plan(&without, &link);
        assert!(again.clears.is_empty() && again.unchanged);
    }

    #[test]
    fn a_field_that_is_left_alone_is_not_cleared_and_what_was_sent_of_it_stays_known() {
        let mut link = delivered(&projection(&[("a", json!("x")), ("b", json!("y"))]));
        let without = projection(&[("a", json!("x"))]);
        let leaving = |link: &Link| Plan::new("crm", &without, link, &hasher(), |field| field == "b");
        assert!(leaving(&link).clears.is_empty() && leaving(&link).unchanged);
        link.sent = leaving(&link).hashes;
        assert_eq!(plan(&without, &link).clears, ["b"], "what is to go goes later also");
        let emptied = projection(&[("a", json!("x")), ("b", json!(null))]);
        assert_eq!(plan(&emptied, &link).changes, ["b".into()]);
    }

    #[test]
    fn unchanged_needs_certainty() {
        let said = projection(&[("a", json!("x"))]);
        let link = delivered(&said);
        let mut void = link.clone();
        void.sent.insert("a".into(), Sent::Void);
        assert!(!plan(&said, &void).unchanged, "void");
        let mut rejected = link.clone();
        rejected.settled.as_mut().unwrap().outcome = OutcomeKind::Rejected;
        assert!(!plan(&said, &rejected).unchanged, "the last version was rejected");
        let mut other_presence = said.clone();
        other_presence.presence = Presence::Inactive;
        assert!(!plan(&other_presence, &link).unchanged, "presence differs");
    }

    #[test]
    fn a_field_known_to_be_empty_is_cleared_again_where_a_lost_write_may_have_filled_it() {
        let mut link = delivered(&projection(&[("a", json!("x")), ("b", json!("y"))]));
        let without = projection(&[("a", json!("x"))]);
        link.sent = plan(&without, &link).hashes;
        link.sent.values_mut().for_each(|sent| *sent = Sent::Void);
        assert_eq!(plan(&without, &link).clears, ["b"]);
    }

    #[test]
    fn a_field_sent_for_the_first_time_is_announced_except_with_the_first_write() {
        let said = projection(&[("a", json!("x"))]);
        let nobody = Link::new(ContactId(uuid::Uuid::nil()));
        assert!(plan(&said, &nobody).unannounced(&nobody).is_empty());
        let link = delivered(&said);
        let more = projection(&[("a", json!("x")), ("b", json!("y"))]);
        assert_eq!(plan(&more, &link).unannounced(&link), [Arc::from("b")]);
    }

    #[test]
    fn even_the_first_write_to_a_contact_that_was_there_before_us_is_announced() {
        let said = projection(&[("a", json!("x"))]);
        let mut link = Link::new(ContactId(uuid::Uuid::nil()));
        let ids = BTreeMap::from([(REMOTE_CONTACT.to_owned(), "1".to_owned())]);
        link.take_in(&LinkTo::Remote(ids), 7);
        assert_eq!(plan(&said, &link).unannounced(&link), [Arc::from("a")]);
        assert_eq!(plan(&said, &link).operation, Operation::Adopt);
    }

    #[test]
    fn what_was_found_is_adopted_and_what_was_deleted_is_created_anew() {
        let said = projection(&[("a", json!("x"))]);
        let mut link = Link::new(ContactId(uuid::Uuid::nil()));
        link.remote_ids.insert(REMOTE_CONTACT.to_owned(), "1".to_owned());
        assert_eq!(plan(&said, &link).operation, Operation::Adopt);
        let mut link = delivered(&said);
        link.forget_remote();
        link.presence = Some(Presence::Absent);
        for presence in [Presence::Active, Presence::Inactive] {
            let again = plan(&Projection { presence, ..said.clone() }, &link);
            assert_eq!((again.operation, again.unchanged), (Operation::Create, false));
        }
    }

    #[test]
    fn what_is_left_of_a_plan_is_held_as_before() {
        let said = projection(&[("a", json!("x")), ("photo", json!("p"))]);
        let nobody = Link::new(ContactId(uuid::Uuid::nil()));
        let first = plan(&said, &nobody).but(&["photo".into()], "crm", &nobody, &hasher());
        let with = |photo: Value| delivered(&projection(&[("a", json!("x")), ("photo", photo)]));
        assert_eq!(first, with(Value::Null).sent, "a contact that is made has none");
        let mut known = with(json!("older"));
        let older = known.sent.clone();
        assert_eq!(plan(&said, &known).but(&["photo".into()], "crm", &known, &hasher()), older);
        known.sent.insert("photo".into(), Sent::Void);
        assert_eq!(plan(&said, &known).but(&["photo".into()], "crm", &known, &hasher()), known.sent);
    }

    #[test]
    fn what_is_gone_is_not_unchanged() {
        let said = projection(&[("a", json!("x"))]);
        let mut link = delivered(&said);
        assert!(plan(&said, &link).unchanged);
        link.forget_remote();
        assert!(!plan(&said, &link).unchanged);
    }

    #[test]
    fn hashes_of_two_crms_do_not_match() {
        let said = projection(&[("a", json!("x"))]);
        assert!(!Plan::new("other", &said, &delivered(&said), &hasher(), |_| false).unchanged);
    }
}
