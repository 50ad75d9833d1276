//! The requests of one delivery, in order.
//!
//! Written down as if answers came at once: the function that decides runs from its beginning each time, takes the
//! answers that are there, and ends with the first request that has none yet. Lists are looked into before anything is
//! written, since a list that has to be read first begins the delivery anew.

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, StatusCode};
use serde_json::Value;

use super::{
    About, BY_EMAIL, BY_FIRST_NAME, BY_LAST_NAME, BY_PHONE, BY_REFERENCE, BY_TITLE, Logisense,
    children::{self, Plan, Remembered, Wanted, WantedPoint, is_child, is_of_address},
    lists::{self, Lists, PointType, Unread},
    wire::{self, Contact, Own, PointKind, address},
};
use crate::{
    config::{Adopt, BeyondWalk, ClearWith, UnknownPlace},
    contact::{ContactId, normalise, record::Status},
    crm::{
        Answer, Delivery, Effect, Failure, FailureClass, LookUpKeys, Presence, REMOTE_CONTACT, Request, RequestKind,
        Step, Verdict,
        dialogue::{
            self, Answers, Heard, ambiguous, body_of, failed, is_compatible, judged, remote_ids, unknown_contact,
            unreadable,
        },
        link::Sent,
        reference::Known,
    },
    event::{Operation, OutcomeKind, Reason, ReasonCode},
};

pub(super) struct Conversation<'a> {
    logisense: &'a Logisense,
    delivery: &'a Delivery<'a>,
    answers: Answers<'a>,
}

/// What a delivery speaks of.
struct Spoken<'a> {
    /// Fields of the contact itself; null: to be cleared.
    own: BTreeMap<&'a str, Value>,
    /// Roles of points, and paths of the address.
    children: BTreeSet<&'a str>,
    /// Those among them of which it is not known what LogiSense has.
    uncertain: BTreeSet<&'a str>,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(logisense: &'a Logisense, delivery: &'a Delivery<'a>, answers: &'a [Answer]) -> Self {
        Self { logisense, delivery, answers: Answers::new(answers) }
    }

    pub(super) fn run(&mut self) -> Heard<Step> {
        let delivery = self.delivery;
        let id = delivery.link.and_then(|link| link.remote_ids.get(REMOTE_CONTACT)).and_then(|id| id.parse().ok());
        match (delivery.projection.presence, id) {
            (Presence::Absent, Some(id)) => {
                self.delete(id)?;
                Ok(self.done(remote_ids(id.to_string())))
            }
            (Presence::Absent, None) => self.find_to_delete(),
            (Presence::Active | Presence::Inactive, Some(id)) => self.bring(id),
            (Presence::Active | Presence::Inactive, None) if delivery.record.status == Status::Live => {
                self.find_or_create()
            }
            (Presence::Active | Presence::Inactive, None) => self.find_to_blank(),
        }
    }

    fn done(&self, remote_ids: BTreeMap<String, String>) -> Step {
        dialogue::done(self.delivery, remote_ids)
    }

    fn key(&self) -> String {
        self.delivery.record.contact_id.key()
    }

    // What is said to LogiSense, one request each.

    fn ask(&mut self, request: Request) -> Heard<&'a Answer> {
        self.answers.to(request)
    }

    fn succeed(&self, answer: &Answer, about: About) -> Heard<()> {
        self.logisense.failure(answer, about, self.delivery).map_or(Ok(()), failed)
    }

    fn read(&mut self, rest: &str, about: About) -> Heard<&'a Answer> {
        let answer = self.ask(self.logisense.request(Method::GET, rest, None, RequestKind::Read))?;
        self.succeed(answer, about)?;
        Ok(answer)
    }

    /// Nothing: it is not there any more.
    fn detail_if_any(&mut self, id: u64) -> Heard<Option<Contact>> {
        let rest = format!("Contact/{id}/Detail");
        let answer = self.ask(self.logisense.request(Method::GET, &rest, None, RequestKind::Read))?;
        let is_nowhere = answer.as_ref().is_ok_and(|response| response.status == StatusCode::NOT_FOUND);
        if is_nowhere && !self.logisense.settings.status_classes.contains_key("404") {
            return Ok(None);
        }
        self.succeed(answer, About::Linked)?;
        wire::instance(body_of(answer)).map_or_else(|| failed(unreadable(answer, Effect::None)), Ok)
    }

    fn detail(&mut self, id: u64) -> Heard<Contact> {
        match self.detail_if_any(id)? {
            Some(contact) => Ok(contact),
            None => failed(Failure {
                class: FailureClass::Gone,
                effect: Effect::None,
                reason: ReasonCode::Gone.into(),
                retry_after: None,
            }),
        }
    }

    fn create(&mut self, own: &Own) -> Heard<Step> {
        let body = Some(wire::create_body(own));
        let answer = self.ask(self.logisense.request(Method::POST, "Contact/", body, RequestKind::Create))?;
        self.succeed(answer, About::Tenant)?;
        match wire::results(body_of(answer)).as_deref() {
            Some([made]) => Ok(Step::Created(remote_ids(made.identity.to_string()))),
            _ => failed(unreadable(answer, Effect::Unknown)),
        }
    }

    fn put(&mut self, id: u64, own: &Own) -> Heard<()> {
        let body = Some(wire::put_body(id, own));
        let answer = self.ask(self.logisense.request(Method::PUT, &format!("Contact/{id}"), body, RequestKind::Set))?;
        self.succeed(answer, About::Linked)
    }

    fn patch(&mut self, id: u64, body: bytes::Bytes) -> Heard<&'a Answer> {
        let rest = format!("Contact/{id}");
        self.ask(self.logisense.request(Method::PATCH, &rest, Some(body), RequestKind::Set))
    }

    fn delete(&mut self, id: u64) -> Heard<()> {
        let answer = self.patch(id, wire::delete_body(id))?;
        let is_gone = answer.as_ref().is_ok_and(|response| response.status == StatusCode::NOT_FOUND);
        if is_gone && !self.logisense.settings.status_classes.contains_key("404") {
            return Ok(());
        }
        self.succeed(answer, About::Linked)
    }

    // The tenant's lists.

    fn lists(&self) -> Lists<'a> {
        Lists { settings: &self.logisense.settings, references: self.delivery.references }
    }

    /// What is found in the lists, which are read first where they have to be.
    fn looked<T>(&mut self, looked: Result<T, Unread>) -> Heard<T> {
        let Unread(list) = match looked {
            Ok(found) => return Ok(found),
            Err(unread) => unread,
        };
        let answer = self.read(&format!("{}/", lists::entity(list)), About::Tenant)?;
        match wire::list(body_of(answer)) {
            Some(items) => {
                let learned = lists::learned(list, &items, &self.logisense.settings.code_member);
                Err(Box::new(Step::Learned(learned)))
            }
            None => failed(unreadable(answer, Effect::None)),
        }
    }

    fn contact_type(&mut self) -> Heard<Option<u64>> {
        let Some(name) = self.delivery.projection.fields.get(wire::CONTACT_TYPE).and_then(Value::as_str) else {
            return Ok(None);
        };
        if let Some(id) = self.looked(self.lists().contact_type(name))? {
            return Ok(Some(id));
        }
        let settings = &self.logisense.settings;
        if name == settings.contact_type.trim() || name == settings.organization_contact_type.trim() {
            // Every contact goes by these settings: there is no sense in refusing one after the other.
            return failed(Failure {
                class: FailureClass::Connection,
                effect: Effect::None,
                reason: Reason { field: Some(wire::CONTACT_TYPE.to_owned()), ..ReasonCode::InvalidField.into() },
                retry_after: None,
            });
        }
        judged(Verdict::field(OutcomeKind::Rejected, ReasonCode::InvalidField, "/attributes"))
    }

    fn point_types(&mut self, contact_type: u64) -> Heard<BTreeMap<PointKind, PointType>> {
        let mut types = BTreeMap::new();
        for kind in PointKind::ALL {
            let found = self.looked(self.lists().point_type(kind, contact_type))?;
            types.extend(found.map(|found| (kind, found)));
        }
        Ok(types)
    }

    /// The address as it is to be, with numbers for country and state.
    fn address(&mut self) -> Heard<BTreeMap<&'static str, Value>> {
        let fields = &self.delivery.projection.fields;
        let places = self.looked(self.lists().places(fields))?;
        let mut whole = BTreeMap::new();
        for path in address::ALL {
            let Some(said) = fields.get(path) else { continue };
            let (number, pointer) = match path {
                address::COUNTRY => (places.country, "/addresses/country"),
                address::STATE => (places.state, "/addresses/region"),
                _ => {
                    whole.insert(path, said.clone());
                    continue;
                }
            };
            match number {
                Some(number) => drop(whole.insert(path, number.into())),
                None if !said.is_null() && self.logisense.settings.unknown_place == UnknownPlace::Reject => {
                    return judged(Verdict::field(OutcomeKind::Rejected, ReasonCode::InvalidField, pointer));
                }
                // Better none than the one of an older address.
                None => drop(whole.insert(path, Value::Null)),
            }
        }
        Ok(whole)
    }

    // What a delivery does with them.

    fn spoken(&self) -> Spoken<'a> {
        let Delivery { projection, link, changes, clears, record, .. } = *self.delivery;
        let is_new = link.is_some_and(|link| link.incomplete) || self.delivery.operation == Operation::Adopt;
        let changed = changes.iter().map(|path| &**path);
        let cleared = clears.iter().map(String::as_str).filter(|path| !projection.fields.contains_key(*path));
        let cleared = cleared.filter(|path| self.logisense.may_clear(path, record));
        // Of a contact that was adopted and then lost sight of, nobody knows what is from us: the rest is its owner's.
        let is_theirs = self.delivery.operation == Operation::Adopt
            && !link.is_some_and(|link| link.sent.contains_key(wire::LAST_NAME));
        let cleared = cleared.filter(move |path| !is_theirs || PointKind::of(path).is_some());
        let all = projection.fields.keys().map(String::as_str).filter(|_| is_new);
        let paths: BTreeSet<&str> = changed.chain(cleared).chain(all).collect();
        let is_certain =
            |path: &str| !is_new && link.is_some_and(|link| matches!(link.sent.get(path), Some(Sent::Hash(_))));
        let value = |path: &str| projection.fields.get(path).cloned().unwrap_or_default();
        let (children, own): (BTreeSet<&str>, BTreeSet<&str>) = paths.into_iter().partition(|path| is_child(path));
        Spoken {
            own: own.into_iter().map(|path| (path, value(path))).collect(),
            uncertain: children.iter().copied().filter(|path| !is_certain(path)).collect(),
            children,
        }
    }

    /// Brings a contact that is known by its id to the projection.
    fn bring(&mut self, id: u64) -> Heard<Step> {
        let spoken = self.spoken();
        let is_incomplete = self.delivery.link.is_some_and(|link| link.incomplete);
        if spoken.own.is_empty() && spoken.children.is_empty() && !is_incomplete {
            return judged(Verdict::new(OutcomeKind::Unchanged, ReasonCode::SameProjection));
        }
        let is_retyped = self.is_retyped(&spoken);
        let is_erased = self.delivery.record.status == Status::Erased;
        let must_read = is_incomplete || is_retyped || is_erased || !spoken.uncertain.is_empty();
        let mut there = if must_read { Some(self.detail(id)?) } else { None };
        let (contact_type, wanted) = self.resolved(&spoken, there.as_ref())?;
        loop {
            let own = self.own(&spoken, contact_type, there.as_ref());
            let plan = match &there {
                Some(there) => {
                    let wanted = self.with_own_types(&wanted, &spoken, is_retyped, there);
                    Plan::compared(&wanted, self.remembered(), &there.details)
                }
                None => match Plan::remembered(&wanted, self.remembered()) {
                    Some(plan) => plan,
                    None => {
                        there = Some(self.detail(id)?);
                        continue;
                    }
                },
            };
            if plan.changes.is_empty() {
                if !own.is_empty() {
                    self.put(id, &own)?;
                }
                return self.brought(id, plan.ids(&[]));
            }
            let answer = self.patch(id, wire::patch_body(&own, &plan.changes, &self.logisense.settings.patch))?;
            let failure = self.logisense.failure(answer, About::Linked, self.delivery);
            if there.is_none() && failure.as_ref().is_some_and(|failure| failure.class == FailureClass::Rejected) {
                // A child that the link names may have been removed by somebody.
                there = Some(self.detail(id)?);
                continue;
            }
            if let Some(failure) = failure {
                return failed(failure);
            }
            let Some(results) = wire::results(body_of(answer)) else {
                return failed(unreadable(answer, Effect::Unknown));
            };
            return self.brought(id, plan.ids(&results));
        }
    }

    /// Whether the contact is told its type, on which the types of its points depend.
    fn is_retyped(&self, spoken: &Spoken<'_>) -> bool {
        let mut fields = self.delivery.projection.fields.keys();
        spoken.own.contains_key(wire::CONTACT_TYPE) && fields.any(|path| PointKind::of(path).is_some())
    }

    /// The type of the contact if it is needed, and what the contact is to have, with the tenant's numbers.
    fn resolved(&mut self, spoken: &Spoken<'_>, there: Option<&Contact>) -> Heard<(Option<u64>, Wanted)> {
        let is_retyped = self.is_retyped(spoken);
        let needs_types = is_retyped || spoken.children.iter().any(|path| PointKind::of(path).is_some());
        let names_type = spoken.own.contains_key(wire::CONTACT_TYPE);
        let contact_type = if needs_types || names_type { self.contact_type()? } else { None };
        let types = match contact_type.or_else(|| there.and_then(|there| there.contact_type_id)) {
            Some(contact_type) if needs_types => self.point_types(contact_type)?,
            _ => BTreeMap::new(),
        };
        let whole_address =
            if spoken.children.iter().any(|path| is_of_address(path)) { self.address()? } else { BTreeMap::new() };
        let wanted = self.wanted(spoken, &types, whole_address, is_retyped);
        Ok((contact_type, wanted))
    }

    /// The fields of which something would be sent to bring `there` to the projection.
    pub(super) fn differences(&mut self, there: &Contact) -> Heard<BTreeSet<String>> {
        let spoken = self.spoken();
        let (contact_type, wanted) = self.resolved(&spoken, Some(there))?;
        let own = self.own(&spoken, contact_type, Some(there));
        let wanted = self.with_own_types(&wanted, &spoken, self.is_retyped(&spoken), there);
        let Plan { mut differing, surplus, .. } = Plan::compared(&wanted, self.remembered(), &there.details);
        let lists = self.lists();
        for point_type in surplus {
            // By the place behind the last one of its kind.
            let kind = PointKind::ALL.into_iter().find(|kind| lists.is_of_kind(point_type, *kind));
            let taken = |kind: PointKind| {
                wanted
                    .points
                    .iter()
                    .filter(|point| point.held.is_some() && PointKind::of(&point.role) == Some(kind))
                    .count()
            };
            differing.extend(kind.map(|kind| kind.path(taken(kind) + 1)));
        }
        differing.extend(own.fields().map(str::to_owned));
        Ok(differing)
    }

    /// The contact is as it should be. One that was adopted is looked at once more: somebody else may have put their
    /// reference on it just then.
    fn brought(&mut self, id: u64, ids: BTreeMap<String, String>) -> Heard<Step> {
        let is_stamped = !self.logisense.settings.contact_points.reference.is_empty();
        if self.delivery.operation == Operation::Adopt && is_stamped {
            let there = self.detail(id)?;
            let key = self.key();
            if self.references_on(&there).any(|reference| reference != key) {
                return ambiguous();
            }
        }
        let mut remote_ids = remote_ids(id.to_string());
        remote_ids.extend(ids);
        Ok(self.done(remote_ids))
    }

    fn remembered(&self) -> Remembered<'a> {
        Remembered(self.delivery.link.map(|link| &link.remote_ids))
    }

    /// What a request says of the contact itself: what is spoken of, and differs if it is known what is there.
    fn own(&self, spoken: &Spoken<'_>, contact_type: Option<u64>, there: Option<&Contact>) -> Own {
        let mut own = Own::default();
        for (field, value) in &spoken.own {
            let value = match *field {
                wire::CONTACT_TYPE => contact_type.into(),
                // A flag is never empty: it is cleared to what it is by default.
                wire::USED_FOR_TAX if value.is_null() => false.into(),
                _ => value.clone(),
            };
            if !there.is_some_and(|there| there.holds(field, &value)) {
                let value = if value.is_null() { self.cleared() } else { Some(value) };
                value.into_iter().for_each(|value| own.set(field, value));
            }
        }
        let bears_marker = there.is_some_and(|there| there.title == Some(self.key()));
        if bears_marker && own.title.is_none() {
            // Nobody's title is a number of ours.
            own.set(wire::TITLE, self.cleared().unwrap_or_default());
        }
        own
    }

    /// How a value is cleared; nothing: not at all.
    fn cleared(&self) -> Option<Value> {
        match self.logisense.settings.clear_with {
            ClearWith::Null => Some(Value::Null),
            ClearWith::Empty => Some(Value::from("")),
            ClearWith::Omit => None,
        }
    }

    fn wanted(
        &self,
        spoken: &Spoken<'_>,
        types: &BTreeMap<PointKind, PointType>,
        whole_address: BTreeMap<&'static str, Value>,
        is_retyped: bool,
    ) -> Wanted {
        let fields = &self.delivery.projection.fields;
        let paths = fields.keys().map(String::as_str).chain(spoken.children.iter().copied());
        let mut roles: Vec<(PointKind, usize, &str)> = paths
            .filter_map(|path| Some((PointKind::of(path)?, wire::number_of(path), path)))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        roles.sort_unstable();
        // A type with room for one holds the first that goes by it, and another once that one is gone.
        let id_if_single =
            |kind: &PointKind| types.get(kind).filter(|found| !found.allows_multiple).map(|found| found.id);
        let spoken_kinds = spoken.children.iter().filter_map(|path| PointKind::of(path));
        let moved: BTreeSet<u64> = spoken_kinds.filter_map(|kind| id_if_single(&kind)).collect();
        let mut taken = BTreeSet::new();
        let mut wanted = Wanted::default();
        for (kind, _, role) in roles {
            let said = fields.get(role).and_then(Value::as_str);
            let held = said.zip(types.get(&kind)).filter(|(_, found)| found.allows_multiple || taken.insert(found.id));
            let held = held.map(|(value, found)| (found.id, value.to_owned()));
            let is_moved = id_if_single(&kind).is_some_and(|id| moved.contains(&id));
            if is_retyped || is_moved || spoken.children.contains(role) {
                wanted.points.push(WantedPoint { role: role.to_owned(), held });
            }
        }
        let cleared = |value: &Value| if value.is_null() { self.cleared() } else { Some(value.clone()) };
        for path in address::ALL.into_iter().filter(|path| spoken.children.contains(path)) {
            let value = whole_address.get(path).unwrap_or(&Value::Null);
            wanted.address.extend(cleared(value).map(|value| (path, value)));
        }
        // A state is one of its country.
        if wanted.address.contains_key(address::COUNTRY)
            && let Some(state) = whole_address.get(address::STATE).and_then(cleared)
        {
            wanted.address.insert(address::STATE, state);
        }
        wanted.whole_address = whole_address;
        wanted
    }

    /// With the types of which points that no link names are ours: where it is not known what we made.
    fn with_own_types(&self, wanted: &Wanted, spoken: &Spoken<'_>, is_retyped: bool, there: &Contact) -> Wanted {
        let doubtful = spoken.uncertain.iter().filter_map(|path| PointKind::of(path));
        let mut doubtful: BTreeSet<PointKind> = doubtful.collect();
        if is_retyped {
            // Of a kind that was never sent, points are their owner's.
            let sent = self.delivery.link.into_iter().flat_map(|link| link.sent.keys().map(|path| &**path));
            let said = self.delivery.projection.fields.keys().map(String::as_str);
            doubtful.extend(sent.chain(said).filter_map(PointKind::of));
        }
        let lists = self.lists();
        let is_ours = |id: &u64| doubtful.iter().any(|kind| lists.is_of_kind(*id, *kind));
        let there = there.details.contact_points.iter().map(|point| point.contact_point_type_id);
        Wanted { own_types: there.filter(is_ours).collect(), ..wanted.clone() }
    }

    fn find_or_create(&mut self) -> Heard<Step> {
        // What would keep a create from being made is told before anything is looked for.
        let contact_type = self.contact_type()?;
        self.address()?;
        let found = match self.delivery.look_up {
            None => Found::default(),
            Some(keys) if keys.values.is_empty() && self.may_be_there() => return ambiguous(),
            Some(keys) => self.search(keys)?,
        };
        match (found.halves.as_slice(), found.ours.as_slice(), found.others.as_slice()) {
            ([half], [], _) => return Ok(Step::Created(remote_ids(half.identity.to_string()))),
            ([], [one], _) => return Ok(Step::Found(remote_ids(one.identity.to_string()))),
            ([], [], [one]) => {
                let mut ids = remote_ids(one.identity.to_string());
                ids.insert(children::KEPT.to_owned(), children::kept(&one.details));
                return Ok(Step::Found(ids));
            }
            ([], [], []) => {}
            _ => return ambiguous(),
        }
        let mut own = Own::default();
        let fields = &self.delivery.projection.fields;
        for field in wire::OWN {
            match (field, fields.get(field)) {
                (wire::TITLE, _) if self.logisense.marks_creates() => own.set(field, self.key().into()),
                (wire::CONTACT_TYPE, Some(_)) => own.set(field, contact_type.into()),
                (_, Some(value)) if !value.is_null() => own.set(field, value.clone()),
                _ => {}
            }
        }
        self.create(&own)
    }

    /// Deletes whatever is ours.
    fn find_to_delete(&mut self) -> Heard<Step> {
        let ours = self.find_ours()?;
        for one in &ours {
            self.delete(*one)?;
        }
        match ours.first() {
            Some(first) => Ok(self.done(remote_ids(first.to_string()))),
            None => unknown_contact(),
        }
    }

    /// What is ours is committed first, and then blanked.
    fn find_to_blank(&mut self) -> Heard<Step> {
        match self.find_ours()?.as_slice() {
            [] => unknown_contact(),
            [one] => Ok(Step::Found(remote_ids(one.to_string()))),
            [..] => ambiguous(),
        }
    }

    /// By the keys of the create, or by those of the record as it last was.
    fn find_ours(&mut self) -> Heard<Vec<u64>> {
        let record = self.delivery.record;
        let own = self.logisense.keys(record, &self.logisense.mapping.recognisable(record));
        let keys = self.delivery.look_up.unwrap_or(&own);
        if keys.values.is_empty() && self.may_be_there() {
            return ambiguous();
        }
        let found = self.search(keys)?;
        let is_told_apart = keys.values.contains_key(BY_TITLE) || found.halves.len() < 2;
        if !is_told_apart {
            return ambiguous();
        }
        Ok(found.halves.iter().chain(&found.ours).map(|one| one.identity).collect())
    }

    /// Whether a create may have left for this contact that bore no marker.
    fn may_be_there(&self) -> bool {
        self.delivery.link.is_some_and(|link| link.intent.is_some())
    }

    // Looking for contacts.

    fn search(&mut self, keys: &LookUpKeys) -> Heard<Found> {
        if keys.values.contains_key(BY_REFERENCE) {
            // The lists say which of the contact points is the reference.
            self.looked(self.lists().contact_type(&self.logisense.settings.contact_type.clone()))?.map_or(
                Ok(()),
                |contact_type| {
                    let found = self.lists().point_type(PointKind::Reference, contact_type);
                    self.looked(found).map(drop)
                },
            )?;
        }
        let can_search = self.logisense.settings.search
            && self.delivery.references.find(lists::ABILITIES, lists::SEARCH) != Known::As(lists::UNAVAILABLE);
        let walks = !can_search || keys.values.contains_key(BY_REFERENCE);
        let walked = if walks { self.walk()? } else { None };
        let candidates = match walked {
            Some(all) => all,
            None if can_search && !(walks && self.logisense.settings.beyond_walk == BeyondWalk::Stop) => {
                self.search_by_names(keys)?
            }
            None => {
                let settings = &self.logisense.settings;
                tracing::warn!(
                    crm = %self.logisense.crm,
                    contact = %self.key(),
                    page_size = settings.page_size,
                    walk_pages_max = settings.walk_pages_max,
                    "LogiSense has more contacts than may be gone through: raise page_size or walk_pages_max"
                );
                return ambiguous();
            }
        };
        let key = self.key();
        let mut found = Found::default();
        for candidate in candidates {
            let is_half = match (keys.values.get(BY_TITLE), &candidate.title) {
                (Some(marker), Some(title)) => marker == title,
                _ => false,
            };
            if is_half || self.may_be_a_bare_create(&candidate, keys) {
                found.halves.push(candidate);
            } else if self.references_on(&candidate).any(|reference| reference == key) {
                found.ours.push(candidate);
            } else if self.may_be_adopted(&candidate, keys) {
                found.others.push(candidate);
            }
        }
        Ok(found)
    }

    /// First what bears the marker, then namesakes with their children.
    fn search_by_names(&mut self, keys: &LookUpKeys) -> Heard<Vec<Contact>> {
        if let Some(marker) = keys.values.get(BY_TITLE) {
            let marked = self.searched(&[(BY_TITLE, marker)])?;
            if !marked.is_empty() {
                return Ok(marked);
            }
        }
        let named = [BY_LAST_NAME, BY_FIRST_NAME];
        let named: Vec<(&str, &str)> =
            named.into_iter().filter_map(|key| Some((key, keys.values.get(key)?.as_str()))).collect();
        let is_recognisable = [BY_EMAIL, BY_PHONE, BY_REFERENCE].iter().any(|key| keys.values.contains_key(*key));
        if named.is_empty() || keys.planted && !is_recognisable {
            return Ok(Vec::new());
        }
        let namesakes = self.searched(&named)?;
        if namesakes.len() > self.logisense.settings.candidates_max as usize {
            return ambiguous();
        }
        let mut whole = Vec::new();
        for namesake in namesakes {
            whole.extend(self.detail_if_any(namesake.identity)?);
        }
        Ok(whole)
    }

    fn searched(&mut self, criteria: &[(&str, &str)]) -> Heard<Vec<Contact>> {
        let most = self.logisense.settings.page_size;
        let body = Some(wire::search_body(criteria, most));
        let answer = self.ask(self.logisense.request(Method::POST, "Contact/Search", body, RequestKind::Read))?;
        let is_nowhere = |status: StatusCode| matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
        if answer.as_ref().is_ok_and(|response| is_nowhere(response.status)) {
            return Err(Box::new(Step::Learned(lists::without_search())));
        }
        self.succeed(answer, About::Tenant)?;
        let Some(page) = wire::hits(body_of(answer)) else { return failed(unreadable(answer, Effect::None)) };
        // What a search leaves out might be the one. It may give fewer than it was asked for.
        let count = page.items.len();
        let is_whole = page.total_count.map_or(count < most as usize, |total| total <= count as u64);
        if is_whole { Ok(page.items) } else { ambiguous() }
    }

    /// All contacts there are; `None` if there are more than may be read, which the first page tells where it has a total.
    fn walk(&mut self) -> Heard<Option<Vec<Contact>>> {
        let pages_max = self.logisense.settings.walk_pages_max;
        // By id, since a page may show again what the one before it showed.
        let mut contacts: BTreeMap<u64, Contact> = BTreeMap::new();
        for number in 1..=u64::from(pages_max) {
            let answer = self.read(&self.logisense.page_path("Contact/Paged/Detail", number), About::Tenant)?;
            let page = wire::page::<Contact>(body_of(answer));
            let Some(page) = page else { return failed(unreadable(answer, Effect::None)) };
            // A page may have fewer than were asked for, and says so.
            let size = wire::page_size(body_of(answer)).unwrap_or(self.logisense.settings.page_size.into());
            let is_last = page.items.is_empty()
                || page.total_count.map_or((page.items.len() as u64) < size, |total| number * size >= total);
            if page.total_count.is_some_and(|total| total > size.saturating_mul(pages_max.into())) {
                return Ok(None);
            }
            contacts.extend(page.items.into_iter().map(|contact| (contact.identity, contact)));
            if is_last {
                return Ok(Some(contacts.into_values().collect()));
            }
        }
        Ok(None)
    }

    /// The references that stand on a contact, whosever they are.
    fn references_on<'b>(&self, there: &'b Contact) -> impl Iterator<Item = &'b str> + use<'b, 'a> {
        let lists = self.lists();
        let points = there.details.contact_points.iter();
        let points = points.filter(move |point| lists.is_of_kind(point.contact_point_type_id, PointKind::Reference));
        points.filter_map(|point| point.value.as_deref())
    }

    /// Whether a contact is what a create without a marker leaves, if one may have been sent.
    fn may_be_a_bare_create(&self, there: &Contact, keys: &LookUpKeys) -> bool {
        let is_bare = there.details.contact_points.is_empty() && there.details.address.is_none();
        let same = |key: &str, theirs: &Option<String>| keys.values.get(key) == theirs.as_ref();
        let is_named = keys.values.contains_key(BY_LAST_NAME)
            && same(BY_LAST_NAME, &there.last_name)
            && same(BY_FIRST_NAME, &there.first_name);
        self.may_be_there() && !keys.planted && is_bare && is_named
    }

    /// Whether a hit is nobody's, and likely the contact.
    fn may_be_adopted(&self, there: &Contact, keys: &LookUpKeys) -> bool {
        let is_marked = there.title.as_ref().is_some_and(|title| ContactId::from_key(title.as_bytes()).is_some())
            || self.references_on(there).next().is_some();
        let values = || there.details.contact_points.iter().filter_map(|point| point.value.as_deref());
        let has = |key: &str, normalised: fn(&str) -> Option<String>| {
            let ours = keys.values.get(key).and_then(|text| normalised(text));
            ours.is_some() && values().any(|value| normalised(value) == ours)
        };
        let full =
            |first: Option<&str>, last: Option<&str>| [first, last].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let text = |key: &str| keys.values.get(key).map(String::as_str);
        let ours = full(text(BY_FIRST_NAME), text(BY_LAST_NAME));
        let theirs = full(there.first_name.as_deref(), there.last_name.as_deref());
        self.logisense.adopt == Adopt::ByKey
            && !is_marked
            && (has(BY_EMAIL, normalise::email) || has(BY_PHONE, |text| normalise::phone(text, None)))
            && is_compatible(&ours, &theirs)
    }
}

/// What a search found: contacts of which nothing but the create was sent, whole ones with our reference, and such as may
/// be adopted.
#[derive(Default)]
struct Found {
    halves: Vec<Contact>,
    ours: Vec<Contact>,
    others: Vec<Contact>,
}
