//! What of a contact's children is to be created, changed and removed: contact points, and the one address.
//!
//! Two ways lead to the changes. Where the link knows what was accepted and under which ids, they follow from the record
//! alone. Where it does not (an answer was lost, a worker died, the contact was just made or found), the contact is read
//! first and only what is missing or differs is sent: a child that was created by a request whose answer was lost is there
//! already, and to send it again would make a second one.
//!
//! A point that is there and that no link names is ours if it has one of our types, unless it was there when the contact
//! was adopted. An address may hang on other contacts too, so one that no link names is never changed: another takes its
//! place.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::wire::{self, AddressPatch, Children, Held, Point, PointPatch, address};

/// The role of the address among the remote ids of a link.
pub(super) const ADDRESS: &str = "address";
/// The role of the children that an adopted contact had before, by their ids.
pub(super) const KEPT: &str = "kept";
/// Stands for the id of a child that is no more: what a link knows is only ever added to.
const NONE: &str = "";

/// What the contact is to have in one place for a point.
#[derive(Clone, PartialEq)]
pub(super) struct WantedPoint {
    /// Its path in a projection, which is its role in the link.
    pub(super) role: String,
    /// Type and value; `None`: it is not to be there.
    pub(super) held: Option<(u64, String)>,
}

/// What the contact is to have, as far as it is spoken of.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Wanted {
    /// In the order of their roles.
    pub(super) points: Vec<WantedPoint>,
    /// By their paths in a projection, as on the wire; null: nothing.
    pub(super) address: BTreeMap<&'static str, Value>,
    /// The whole address as it is to be where another takes its place.
    pub(super) whole_address: BTreeMap<&'static str, Value>,
    /// Types of which a point that no link names is ours.
    pub(super) own_types: BTreeSet<u64>,
}

/// The changes, and what is known once they are made.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) changes: Children,
    /// Roles of the points that are created, in order.
    created: Vec<String>,
    /// Ids by role; those of what is created are not among them.
    known: BTreeMap<String, String>,
    /// Roles of points, and paths of the address, that are not as they are to be.
    pub(super) differing: BTreeSet<String>,
    /// Types of the points that are one too many, and that no link names.
    pub(super) surplus: Vec<u64>,
}

/// The ids that a link has, by role.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remembered<'a>(pub(super) Option<&'a BTreeMap<String, String>>);

impl Remembered<'_> {
    fn id(self, role: &str) -> Option<u64> {
        self.0?.get(role)?.parse().ok()
    }

    fn kept(self) -> BTreeSet<u64> {
        let ids = self.0.and_then(|ids| ids.get(KEPT)).map(String::as_str).unwrap_or_default();
        ids.split(',').filter_map(|id| id.parse().ok()).collect()
    }

    fn roles(self) -> impl Iterator<Item = (String, u64)> {
        let roles = self.0.into_iter().flatten();
        let roles = roles.filter(|(role, _)| wire::PointKind::of(role).is_some());
        roles.filter_map(|(role, id)| Some((role.clone(), id.parse().ok()?))).collect::<Vec<_>>().into_iter()
    }
}

/// The ids of what a contact has that is adopted, for the link.
pub(super) fn kept(held: &Held) -> String {
    let points = held.contact_points.iter().map(|point| point.identity);
    let ids = points.chain(held.address.iter().map(|address| address.identity));
    ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
}

impl Plan {
    /// From what the link remembers; `None` where it does not know an id that is needed.
    pub(super) fn remembered(wanted: &Wanted, ids: Remembered<'_>) -> Option<Self> {
        let mut plan = Self::default();
        for point in &wanted.points {
            let id = ids.id(&point.role)?;
            match &point.held {
                Some((_, value)) => plan.update(&point.role, id, value),
                None => plan.delete(&point.role, id),
            }
        }
        if !wanted.address.is_empty() {
            let id = ids.id(ADDRESS)?;
            if wanted.whole_address.values().all(Value::is_null) {
                plan.remove_address(wire::DELETE, id);
            } else {
                plan.change_address(id, &wanted.address);
            }
        }
        Some(plan.finished())
    }

    /// From what is there.
    pub(super) fn compared(wanted: &Wanted, ids: Remembered<'_>, held: &Held) -> Self {
        let mut plan = Self::default();
        plan.points(wanted, ids, &held.contact_points);
        plan.address(wanted, ids, held);
        plan.finished()
    }

    fn finished(mut self) -> Self {
        self.changes = self.changes.numbered();
        self
    }

    /// Points that are as wanted stay, others of the same role or of ours are changed, and what is then left of ours goes.
    fn points(&mut self, wanted: &Wanted, ids: Remembered<'_>, held: &[Point]) {
        let kept = ids.kept();
        let named: BTreeMap<u64, String> = ids.roles().map(|(role, id)| (id, role)).collect();
        let spoken: BTreeSet<&str> = wanted.points.iter().map(|point| point.role.as_str()).collect();
        let is_named_elsewhere =
            |point: &Point| named.get(&point.identity).is_some_and(|role| !spoken.contains(role.as_str()));
        let mut free: Vec<&Point> = held.iter().filter(|point| !is_named_elsewhere(point)).collect();
        let mut take = |fits: &dyn Fn(&Point) -> bool| {
            let place = free.iter().position(|point| fits(point))?;
            Some(free.remove(place))
        };
        let mut missing = Vec::new();
        for WantedPoint { role, held } in &wanted.points {
            let Some((type_id, value)) = held else { continue };
            let is_same =
                |point: &Point| point.contact_point_type_id == *type_id && point.value.as_deref() == Some(value);
            let of_role = |point: &Point| is_same(point) && ids.id(role) == Some(point.identity);
            match take(&of_role).or_else(|| take(&is_same)) {
                Some(point) => drop(self.known.insert(role.clone(), point.identity.to_string())),
                None => missing.push((role, *type_id, value)),
            }
        }
        for (role, type_id, value) in missing {
            let of_role =
                |point: &Point| point.contact_point_type_id == type_id && ids.id(role) == Some(point.identity);
            let is_ours = |point: &Point| {
                point.contact_point_type_id == type_id
                    && wanted.own_types.contains(&type_id)
                    && !kept.contains(&point.identity)
                    && !named.contains_key(&point.identity)
            };
            match take(&of_role).or_else(|| take(&is_ours)) {
                Some(point) => self.update(role, point.identity, value),
                None => self.create(role, type_id, value),
            }
        }
        for point in free {
            let was_ours = named.get(&point.identity);
            let is_ours = wanted.own_types.contains(&point.contact_point_type_id) && !kept.contains(&point.identity);
            if was_ours.is_some() || is_ours {
                match was_ours {
                    Some(role) => drop(self.differing.insert(role.clone())),
                    None => self.surplus.push(point.contact_point_type_id),
                }
                self.changes.points.push(PointPatch {
                    patch_type: wire::DELETE,
                    identity: Some(point.identity),
                    ..PointPatch::default()
                });
            }
        }
        for WantedPoint { role, held } in &wanted.points {
            if held.is_none() && ids.id(role).is_some() {
                self.known.insert(role.clone(), NONE.to_owned());
            }
        }
    }

    fn address(&mut self, wanted: &Wanted, ids: Remembered<'_>, held: &Held) {
        if wanted.address.is_empty() {
            return;
        }
        let holds = |path: &str, value: &Value| match &held.address {
            Some(there) => there.holds(path, value),
            None => value.is_null(),
        };
        let differing = wanted.address.iter().filter(|(path, value)| !holds(path, value));
        let differing: BTreeSet<String> = differing.map(|(path, _)| (*path).to_owned()).collect();
        let is_empty = wanted.whole_address.values().all(Value::is_null);
        let ours = ids.id(ADDRESS);
        match &held.address {
            None if is_empty => self.forget_address(ours),
            None => self.create_address(&wanted.whole_address),
            Some(there) if is_empty => {
                if ours == Some(there.identity) {
                    self.remove_address(wire::DELETE, there.identity);
                } else if !ids.kept().contains(&there.identity) {
                    self.remove_address(wire::DETACH, there.identity);
                } else {
                    self.forget_address(ours);
                }
            }
            Some(there) => {
                let differs = wanted.address.iter().filter(|(path, value)| !there.holds(path, value));
                let differs: BTreeMap<&'static str, Value> =
                    differs.map(|(path, value)| (*path, value.clone())).collect();
                if ours == Some(there.identity) {
                    if !differs.is_empty() {
                        self.change_address(there.identity, &differs);
                    }
                } else if differs.is_empty() {
                    self.forget_address(ours);
                } else {
                    self.create_address(&wanted.whole_address);
                }
            }
        }
        if self.changes.address.is_some() {
            self.differing.extend(differing);
        }
    }

    fn create(&mut self, role: &str, type_id: u64, value: &str) {
        self.created.push(role.to_owned());
        self.differing.insert(role.to_owned());
        self.changes.points.push(PointPatch {
            patch_type: wire::CREATE,
            contact_point_type_id: Some(type_id),
            value: Some(value.to_owned()),
            ..PointPatch::default()
        });
    }

    fn update(&mut self, role: &str, id: u64, value: &str) {
        self.known.insert(role.to_owned(), id.to_string());
        self.differing.insert(role.to_owned());
        self.changes.points.push(PointPatch {
            patch_type: wire::UPDATE,
            identity: Some(id),
            value: Some(value.to_owned()),
            ..PointPatch::default()
        });
    }

    fn delete(&mut self, role: &str, id: u64) {
        self.known.insert(role.to_owned(), NONE.to_owned());
        let patch = PointPatch { patch_type: wire::DELETE, identity: Some(id), ..PointPatch::default() };
        self.changes.points.push(patch);
    }

    fn create_address(&mut self, fields: &BTreeMap<&'static str, Value>) {
        let said = fields.iter().filter(|(_, value)| !value.is_null());
        let said = said.map(|(path, value)| (*path, value.clone())).collect();
        self.changes.address = Some(AddressPatch::setting(wire::CREATE, &said));
        self.known.insert(ADDRESS.to_owned(), NONE.to_owned());
    }

    fn change_address(&mut self, id: u64, fields: &BTreeMap<&'static str, Value>) {
        let patch = AddressPatch::setting(wire::UPDATE, fields);
        self.changes.address = Some(patch.of(id));
    }

    fn remove_address(&mut self, patch_type: &'static str, id: u64) {
        let patch = AddressPatch::setting(patch_type, &BTreeMap::new());
        self.changes.address = Some(patch.of(id));
        self.known.insert(ADDRESS.to_owned(), NONE.to_owned());
    }

    /// The address that we made is no longer the contact's.
    fn forget_address(&mut self, ours: Option<u64>) {
        if ours.is_some() {
            self.known.insert(ADDRESS.to_owned(), NONE.to_owned());
        }
    }

    /// The ids by role, with those of `results` for what was created: the n-th of a kind is the n-th that was asked for.
    /// Without them a child stays unknown, and the contact is read before it is changed.
    pub(super) fn ids(self, results: &[wire::Changed]) -> BTreeMap<String, String> {
        let new = |kind: &'static str| results.iter().filter(move |changed| changed.is_new(kind));
        let mut ids = self.known;
        if new("contactPoint").count() == self.created.len() {
            let created = self.created.into_iter().zip(new("contactPoint"));
            ids.extend(created.map(|(role, changed)| (role, changed.identity.to_string())));
        }
        let makes_address = self.changes.address.is_some_and(|address| address.patch_type == wire::CREATE);
        if let (true, Some(changed)) = (makes_address, new("address").next()) {
            ids.insert(ADDRESS.to_owned(), changed.identity.to_string());
        }
        ids
    }
}

/// Whether a path of a projection belongs to a child.
pub(super) fn is_child(path: &str) -> bool {
    wire::PointKind::of(path).is_some() || is_of_address(path)
}

pub(super) fn is_of_address(path: &str) -> bool {
    path.starts_with(address::PREFIX)
}
