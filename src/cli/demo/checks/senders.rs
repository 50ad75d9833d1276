//! What is known of those who send, beside what a CRM's books say: whether they heard an answer, and whether they still
//! had the right to send.
//!
//! HTTP cannot be fenced. A process that is frozen just before it sends, for longer than its partitions wait for it, sends
//! afterwards what its successor has overtaken. No rule can prevent that, so what it leaves behind is no fault: it is told
//! by name, as a list of [`Leftover`]s, to be mended. Each field that differs must be one that such a request changed, and
//! must still be as that request left it; whatever else differs is a fault.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::demo::evidence::{Call, CrmEvidence, Fields},
    contact::ContactId,
    sandbox::Action,
};

/// How the sender of a call stands to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// It had the answer.
    Heard,
    /// It may not know the answer: it had given up, or could not hear it.
    Unheard,
    /// Others had taken over from it by then, and it did not know.
    Deposed,
}

/// Tells how the sender of each call stands to it.
pub type Senders<'a> = dyn Fn(&CrmEvidence, &Call) -> Sender + 'a;

/// All that the CRM's books say of it.
pub fn as_the_crm_says(_: &CrmEvidence, call: &Call) -> Sender {
    if call.answered { Sender::Heard } else { Sender::Unheard }
}

/// What a deposed sender left behind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Leftover {
    pub contact: ContactId,
    pub crm: Arc<str>,
    /// The number of the call that did it, in the books of the CRM.
    pub call: u64,
    pub what: Left,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// The CRM does not hold what the record says. The contact's next write mends it.
    Differs,
    /// The CRM holds the contact once more. Nobody but a person can mend it.
    Duplicate,
}

/// What still stands in one contact of what deposed senders did to it.
#[derive(Debug, Default)]
pub(super) struct Stains {
    /// By field, what it was made (`None`: emptied), and the call that did it.
    fields: BTreeMap<String, (Option<Value>, u64)>,
    /// The deposed call that made the contact, or wrote to it, when it may have been gone.
    written: Option<u64>,
    /// The deposed call that removed it.
    removed: Option<u64>,
    /// What the last effect left.
    before: Option<Fields>,
}

impl Stains {
    /// After all calls about one contact.
    pub(super) fn of(crm: &CrmEvidence, calls: &[&Call], senders: &Senders<'_>) -> Self {
        let mut calls: Vec<&Call> = calls.iter().copied().filter(|call| call.effect.is_some()).collect();
        calls.sort_by_key(|call| call.effect);
        let mut stains = Self::default();
        for call in calls {
            stains.add(call, senders(crm, call) == Sender::Deposed);
        }
        stains
    }

    /// Takes in the next effect.
    pub(super) fn add(&mut self, call: &Call, deposed: bool) {
        if call.action == Action::Delete {
            *self = Self { removed: deposed.then_some(call.sequence), ..Self::default() };
            return;
        }
        self.removed = None;
        let Some(fields) = &call.fields else { return };
        if deposed {
            self.written = Some(call.sequence);
            let nothing = Fields::new();
            for name in differing(self.before.as_ref().unwrap_or(&nothing), fields) {
                self.fields.insert(name.clone(), (fields.get(&name).cloned(), call.sequence));
            }
        } else {
            self.fields.retain(|name, (made, _)| fields.get(name) == made.as_ref());
        }
        self.before = Some(fields.clone());
    }

    /// The fields that `call` changed and nobody after it, with what it made of them.
    pub(super) fn made_by(&self, call: &Call) -> impl Iterator<Item = (&str, Option<&Value>)> {
        let of_call = self.fields.iter().filter(|(_, (_, number))| *number == call.sequence);
        of_call.map(|(name, (made, _))| (name.as_str(), made.as_ref()))
    }

    /// The call to blame if `found` is not `wanted`; `None` if not all of that is of deposed senders.
    pub(super) fn explain(&self, found: &Fields, wanted: &Fields) -> Option<u64> {
        if self.fields.is_empty() {
            return None;
        }
        let mut to_blame = None;
        for name in differing(found, wanted) {
            let (made, call) = self.fields.get(&name)?;
            if found.get(&name) != made.as_ref() {
                return None;
            }
            to_blame = to_blame.max(Some(*call));
        }
        to_blame
    }

    /// Whether `found` is `wanted`, apart from what deposed senders made of it.
    pub(super) fn allow(&self, found: &Fields, wanted: &Fields) -> bool {
        found == wanted || self.explain(found, wanted).is_some()
    }

    /// The call to blame if the contact is there and should not be.
    pub(super) fn written(&self) -> Option<u64> {
        self.written
    }

    /// The call to blame if the contact should be there and is not.
    pub(super) fn removed(&self) -> Option<u64> {
        self.removed
    }
}

/// The names of the fields that are not the same in both.
pub(super) fn differing(found: &Fields, wanted: &Fields) -> Vec<String> {
    let mut names: Vec<&String> = found.keys().chain(wanted.keys().filter(|name| !found.contains_key(*name))).collect();
    names.retain(|name| found.get(*name) != wanted.get(*name));
    names.sort_unstable();
    names.into_iter().cloned().collect()
}
