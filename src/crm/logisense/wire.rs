//! LogiSense's side of the wire: names of fields, bodies in the documented order of members, and what is read of answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned, ser::SerializeMap};
use serde_json::Value;

use crate::config::{PatchItems, PatchShape};

pub(super) const CONTACT_TYPE: &str = "contactTypeId";
pub(super) const TITLE: &str = "title";
pub(super) const FIRST_NAME: &str = "firstName";
pub(super) const LAST_NAME: &str = "lastName";
pub(super) const USED_FOR_TAX: &str = "isUsedForTax";

/// The fields of a contact itself.
pub(super) const OWN: [&str; 5] = [CONTACT_TYPE, TITLE, FIRST_NAME, LAST_NAME, USED_FOR_TAX];

/// The fields of the address, as a projection names them. Country and state are codes there, and ids on the wire.
pub(super) mod address {
    pub(crate) const PREFIX: &str = "address.";
    pub(crate) const LINE_1: &str = "address.address1";
    pub(crate) const LINE_2: &str = "address.address2";
    pub(crate) const CITY: &str = "address.cityName";
    pub(crate) const STATE: &str = "address.stateId";
    pub(crate) const COUNTRY: &str = "address.countryId";
    pub(crate) const ZIP_CODE: &str = "address.zipCode";
    pub(crate) const LATITUDE: &str = "address.latitude";
    pub(crate) const LONGITUDE: &str = "address.longitude";

    pub(crate) const ALL: [&str; 8] = [LINE_1, LINE_2, CITY, COUNTRY, STATE, ZIP_CODE, LATITUDE, LONGITUDE];
}

/// What a contact point is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PointKind {
    Email,
    Mobile,
    Work,
    Home,
    Fax,
    Reference,
}

const POINT: &str = "contactPoint.";

impl PointKind {
    pub(super) const ALL: [Self; 6] = [Self::Email, Self::Mobile, Self::Work, Self::Home, Self::Fax, Self::Reference];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Mobile => "mobile",
            Self::Work => "work",
            Self::Home => "home",
            Self::Fax => "fax",
            Self::Reference => "reference",
        }
    }

    /// The path of the how many-th point of this kind, from 1, in a projection; also its role among remote ids.
    pub(super) fn path(self, number: usize) -> String {
        format!("{POINT}{}.{number}", self.name())
    }

    /// The kind of the point that a path stands for.
    pub(super) fn of(path: &str) -> Option<Self> {
        let (name, _) = path.strip_prefix(POINT)?.split_once('.')?;
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The number of a point among those of its kind.
pub(super) fn number_of(path: &str) -> usize {
    path.rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

/// Fields that can be cleared, with so many points of each kind.
pub(super) fn clearable(points_max: usize) -> impl Iterator<Item = String> {
    let points = PointKind::ALL.into_iter().flat_map(move |kind| {
        let most = if kind == PointKind::Reference { 1 } else { points_max };
        (1..=most).map(move |number| kind.path(number))
    });
    [TITLE, FIRST_NAME].into_iter().chain(address::ALL).map(str::to_owned).chain(points)
}

/// Members of a contact itself; those that are not there stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Own {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) contact_type_id: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) title: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_name: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_name: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) is_used_for_tax: Option<Value>,
}

impl Own {
    pub(super) fn set(&mut self, field: &str, value: Value) {
        let member = match field {
            CONTACT_TYPE => &mut self.contact_type_id,
            TITLE => &mut self.title,
            FIRST_NAME => &mut self.first_name,
            LAST_NAME => &mut self.last_name,
            USED_FOR_TAX => &mut self.is_used_for_tax,
            _ => unreachable!("a contact has no member of its own called {field}"),
        };
        *member = Some(value);
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The fields that are said.
    pub(super) fn fields(&self) -> impl Iterator<Item = &'static str> {
        let Self { contact_type_id, title, first_name, last_name, is_used_for_tax } = self;
        let members = [contact_type_id, title, first_name, last_name, is_used_for_tax];
        OWN.into_iter().zip(members).filter(|(_, said)| said.is_some()).map(|(field, _)| field)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PointPatch {
    pub(super) patch_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) patch_client_id: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) contact_point_type_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AddressPatch {
    pub(super) patch_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) patch_client_id: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address1: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address2: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    city_name: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_id: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    country_id: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zip_code: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latitude: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    longitude: Option<Value>,
}

impl AddressPatch {
    /// One that sets these fields, by their paths in a projection.
    pub(super) fn setting(patch_type: &'static str, fields: &BTreeMap<&'static str, Value>) -> Self {
        let member = |path: &str| fields.get(path).cloned();
        Self {
            patch_type,
            patch_client_id: None,
            identity: None,
            address1: member(address::LINE_1),
            address2: member(address::LINE_2),
            city_name: member(address::CITY),
            state_id: member(address::STATE),
            country_id: member(address::COUNTRY),
            zip_code: member(address::ZIP_CODE),
            latitude: member(address::LATITUDE),
            longitude: member(address::LONGITUDE),
        }
    }

    /// Of an address that is there.
    pub(super) fn of(self, identity: u64) -> Self {
        Self { identity: Some(identity), ..self }
    }
}

/// Changes to the children of a contact.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Children {
    pub(super) points: Vec<PointPatch>,
    pub(super) address: Option<AddressPatch>,
}

impl Children {
    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.address.is_none()
    }

    /// Numbers what is created, in the order in which it stands in the request.
    pub(super) fn numbered(mut self) -> Self {
        let points = self.points.iter_mut().map(|point| (point.patch_type, &mut point.patch_client_id));
        let address = self.address.iter_mut().map(|address| (address.patch_type, &mut address.patch_client_id));
        let created = points.chain(address).filter(|(patch_type, _)| *patch_type == CREATE);
        created.zip(1..).for_each(|((_, id), number)| *id = Some(number));
        self
    }
}

pub(super) const CREATE: &str = "create";
pub(super) const UPDATE: &str = "update";
pub(super) const DELETE: &str = "delete";
pub(super) const DETACH: &str = "detach";

#[derive(Serialize)]
struct Items<T> {
    items: Vec<T>,
}

/// Changes to children of one kind, in one of the forms that they may have.
struct Changes<'a, T> {
    list: Vec<&'a T>,
    written_as: PatchItems,
}

impl<T: Serialize> Serialize for Changes<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.written_as, self.list.as_slice()) {
            (PatchItems::Items, list) => Items { items: list.to_vec() }.serialize(serializer),
            (PatchItems::Single, [only]) => only.serialize(serializer),
            (PatchItems::List | PatchItems::Single, list) => list.serialize(serializer),
        }
    }
}

/// The changes to all children, by the names that the settings give them.
struct Details<'a> {
    children: &'a Children,
    shape: &'a PatchShape,
}

impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { children, shape } = self;
        let mut members = serializer.serialize_map(None)?;
        if !children.points.is_empty() {
            let list = children.points.iter().collect();
            members.serialize_entry(&shape.contact_points, &Changes { list, written_as: shape.contact_points_as })?;
        }
        if let Some(address) = &children.address {
            members.serialize_entry(&shape.address, &Changes { list: vec![address], written_as: shape.address_as })?;
        }
        members.end()
    }
}

fn written(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("texts and numbers can be written as JSON").into()
}

pub(super) fn create_body(own: &Own) -> Bytes {
    written(own)
}

pub(super) fn put_body(identity: u64, own: &Own) -> Bytes {
    #[derive(Serialize)]
    struct Put<'a> {
        identity: u64,
        #[serde(flatten)]
        own: &'a Own,
    }
    written(&Put { identity, own })
}

pub(super) fn patch_body(own: &Own, children: &Children, shape: &PatchShape) -> Bytes {
    #[derive(Serialize)]
    struct Bare<'a> {
        #[serde(flatten)]
        own: &'a Own,
        #[serde(flatten)]
        details: Details<'a>,
    }
    struct Held<'a> {
        details: Details<'a>,
    }
    impl Serialize for Held<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut members = serializer.serialize_map(Some(1))?;
            members.serialize_entry(&self.details.shape.details, &self.details)?;
            members.end()
        }
    }
    #[derive(Serialize)]
    struct Patch<'a> {
        #[serde(flatten)]
        own: &'a Own,
        #[serde(flatten)]
        held: Held<'a>,
    }
    let details = Details { children, shape };
    if shape.details.is_empty() {
        written(&Bare { own, details })
    } else {
        written(&Patch { own, held: Held { details } })
    }
}

pub(super) fn delete_body(identity: u64) -> Bytes {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ContactPatch {
        patch_type: &'static str,
        identity: u64,
    }
    #[derive(Serialize)]
    struct Patch {
        details: BTreeMap<(), ()>,
        contacts: Items<ContactPatch>,
    }
    let contacts = Items { items: vec![ContactPatch { patch_type: DELETE, identity }] };
    written(&Patch { details: BTreeMap::new(), contacts })
}

/// A search for contacts in which each of these members is what is said.
pub(super) fn search_body(criteria: &[(&str, &str)], page_size: u32) -> Bytes {
    #[derive(Serialize)]
    struct Criterion<'a> {
        name: &'a str,
        operator: &'static str,
        value: &'a str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Pagination {
        page_number: u32,
        page_size: u32,
    }
    #[derive(Serialize)]
    struct Query<'a> {
        top: u32,
        search: Vec<Criterion<'a>>,
        pagination: Pagination,
    }
    #[derive(Serialize)]
    struct Search<'a> {
        query: Query<'a>,
    }
    let search = criteria.iter().map(|(name, value)| Criterion { name, operator: "eq", value }).collect();
    let pagination = Pagination { page_number: 1, page_size };
    written(&Search { query: Query { top: page_size, search, pagination } })
}

/// What is read of a contact.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Contact {
    pub(super) identity: u64,
    pub(super) contact_type_id: Option<u64>,
    pub(super) title: Option<String>,
    pub(super) first_name: Option<String>,
    pub(super) last_name: Option<String>,
    pub(super) is_used_for_tax: Option<bool>,
    /// Which of it is there depends on what the contact has.
    #[serde(default, deserialize_with = "or_default")]
    pub(super) details: Held,
}

/// The children of a contact.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Held {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) contact_points: Vec<Point>,
    #[serde(default)]
    pub(super) address: Option<Address>,
}

#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Point {
    pub(super) identity: u64,
    pub(super) contact_point_type_id: u64,
    pub(super) value: Option<String>,
}

#[derive(Clone, PartialEq, Deserialize)]
pub(super) struct Address {
    pub(super) identity: u64,
    #[serde(flatten)]
    members: BTreeMap<String, Value>,
}

impl Address {
    /// Whether it holds this under this path of a projection.
    pub(super) fn holds(&self, path: &str, value: &Value) -> bool {
        let member = path.strip_prefix(address::PREFIX).unwrap_or(path);
        match (self.members.get(member), value) {
            (None | Some(Value::Null), Value::Null) => true,
            (Some(Value::String(text)), Value::Null) => text.is_empty(),
            // 52 and 52.0 are one place.
            (Some(Value::Number(one)), Value::Number(other)) => one.as_f64() == other.as_f64(),
            (held, value) => held == Some(value),
        }
    }
}

impl Contact {
    /// Whether one of its own fields holds this.
    pub(super) fn holds(&self, field: &str, value: &Value) -> bool {
        let text = |held: &Option<String>| match value {
            Value::Null => held.as_ref().is_none_or(String::is_empty),
            value => held.as_deref() == value.as_str(),
        };
        match field {
            CONTACT_TYPE => self.contact_type_id == value.as_u64(),
            TITLE => text(&self.title),
            FIRST_NAME => text(&self.first_name),
            LAST_NAME => text(&self.last_name),
            USED_FOR_TAX => self.is_used_for_tax == value.as_bool(),
            _ => false,
        }
    }
}

impl std::fmt::Debug for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "contact {}", self.identity)
    }
}

fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

/// The contact of an answer about one, as whatever it is to be read as; `Some(None)`: there is none.
pub(super) fn instance<T: DeserializeOwned>(body: &[u8]) -> Option<Option<T>> {
    let envelope: BTreeMap<String, Value> = read(body)?;
    match envelope.get("instance")? {
        Value::Null => Some(None),
        contact => serde_json::from_value(contact.clone()).ok().map(Some),
    }
}

/// A list of contacts, or one page of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<T> {
    /// Of the whole list.
    #[serde(default)]
    pub(super) total_count: Option<u64>,
    pub(super) items: Vec<T>,
}

/// What a search found: a page of contacts, or, since nothing documents it, as bare as a whole list comes.
pub(super) fn hits(body: &[u8]) -> Option<Page<Contact>> {
    page(body).or_else(|| all(body))
}

/// A page with anything but contacts in it is none: what is passed over might be the one looked for.
pub(super) fn page<T: DeserializeOwned>(body: &[u8]) -> Option<Page<T>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Paged<T> {
        paged_results: Page<T>,
    }
    read::<Paged<T>>(body).map(|paged| paged.paged_results)
}

/// All contacts at once.
pub(super) fn all<T: DeserializeOwned>(body: &[u8]) -> Option<Page<T>> {
    read(body)
}

/// How many contacts the pages of an answer have at most, where it says so: it may be less than was asked for.
pub(super) fn page_size(body: &[u8]) -> Option<u64> {
    let envelope: BTreeMap<String, Value> = read(body)?;
    envelope.get("pagination")?.get("pageSize")?.as_u64()
}

/// The entries of a reference list.
pub(super) fn list(body: &[u8]) -> Option<Vec<BTreeMap<String, Value>>> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<BTreeMap<String, Value>>,
    }
    read::<List>(body).map(|list| list.items)
}

/// What a write did, by its own account.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Changed {
    pub(super) identity: u64,
    /// Only of patches.
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    dto_type_key: Option<String>,
}

impl Changed {
    pub(super) fn is_new(&self, kind: &str) -> bool {
        self.action.as_deref() == Some("created") && self.dto_type_key.as_deref() == Some(kind)
    }
}

pub(super) fn results(body: &[u8]) -> Option<Vec<Changed>> {
    #[derive(Deserialize)]
    struct Results {
        items: Vec<Changed>,
    }
    #[derive(Deserialize)]
    struct Written {
        results: Results,
    }
    read::<Written>(body).map(|written| written.results.items)
}

/// What an answer says of how it went, its messages apart, which may quote the contact.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Said {
    /// By which the support of LogiSense finds the call.
    pub(super) tracking_id: Option<String>,
    /// Of the first fault.
    pub(super) code: Option<u64>,
    /// Faults are listed, and no results.
    pub(super) is_refusal: bool,
    /// A single change is said not to have been made.
    pub(super) is_partial: bool,
}

/// Longest text that is taken for a tracking id.
const TRACKING_ID_LENGTH_MAX: usize = 64;

pub(super) fn said(body: &[u8]) -> Said {
    let Some(envelope) = read::<BTreeMap<String, Value>>(body) else { return Said::default() };
    let is_id = |text: &&str| {
        (1..=TRACKING_ID_LENGTH_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    };
    let tracking_id = envelope.get("trackingId").and_then(Value::as_str).filter(is_id);
    let errors = envelope.get("errors").and_then(Value::as_array).filter(|errors| !errors.is_empty());
    let results = envelope.get("results").filter(|results| !results.is_null());
    let items = results.and_then(|results| results.get("items")).and_then(Value::as_array);
    let failed = |item: &Value| {
        [item, &item["instance"]].iter().any(|part| part["Successful"] == false || part["ErrorsFound"] == true)
    };
    Said {
        tracking_id: tracking_id.map(str::to_owned),
        code: errors.and_then(|errors| errors[0]["code"].as_u64()),
        is_refusal: errors.is_some() && results.is_none(),
        is_partial: items.is_some_and(|items| items.iter().any(failed)),
    }
}
