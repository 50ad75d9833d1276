//! The load: contact-change events of about 900 bytes, about contacts drawn in a fixed manner from a fixed seed.

use bytes::Bytes;
use contact_replicator::log::{Header, NewRecord, TopicPartition, partition_of};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

pub(crate) const INPUT: &str = "contact-changes";
pub(crate) const PARTITIONS: u32 = 6;
const SEED: u64 = 17;

/// Which contact each event is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Contacts {
    /// Each about another one.
    Unique,
    /// Contact number n comes up with a weight of 1 / n^1.1.
    Zipf { among: usize },
}

impl Contacts {
    /// The contacts of `events` events, by number.
    pub(crate) fn draw(self, events: usize) -> Vec<usize> {
        match self {
            Self::Unique => (0..events).collect(),
            Self::Zipf { among } => {
                let weights = (1..=among).scan(0.0, |sum, rank| {
                    *sum += (rank as f64).powf(-1.1);
                    Some(*sum)
                });
                let sums: Vec<f64> = weights.collect();
                let total = sums.last().copied().unwrap_or_default();
                let mut random = StdRng::seed_from_u64(SEED);
                let one = |_| {
                    let point = random.random::<f64>() * total;
                    sums.partition_point(|sum| *sum < point).min(among - 1)
                };
                (0..events).map(one).collect()
            }
        }
    }
}

/// A source that speaks of a contact.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) source: &'static str,
    pub(crate) contact: usize,
    /// Counts the changes of all contacts.
    pub(crate) number: usize,
    /// The contact has another e-mail address since this change.
    pub(crate) moved: bool,
}

/// The whole view of a contact after its change number `change`; each change tells something new.
fn view(contact: usize, change: usize, moved: bool) -> Value {
    let mailbox = if moved { format!("moved{change}") } else { format!("winterthurer{contact}") };
    json!({
        "name": { "givenName": format!("Johanna{contact}"), "familyName": format!("Winterthurer-Roth{contact}"),
            "honorificPrefix": "Dr" },
        "emails": [{ "value": format!("johanna.{mailbox}@mail.example.com"), "type": "work", "primary": true }],
        "phoneNumbers": [
            { "value": format!("+4144{:07}", contact), "type": "work" },
            { "value": format!("+4179{:07}", contact), "type": "mobile" },
        ],
        "addresses": [
            { "type": "postal", "streetAddress": "Technikumstrasse 9", "postalCode": "8400", "locality": "Winterthur",
                "region": "ZH", "country": "CH" },
            { "type": "work", "streetAddress": "Hardturmstrasse 201", "postalCode": "8005", "locality": "Zürich",
                "region": "ZH", "country": "CH" },
        ],
        "organization": { "name": format!("Kongresshaus {} AG", contact % 500), "title": format!("Leitung {change}"),
            "department": "Veranstaltungen" },
        "consent": { "marketing": false, "dataProcessing": true },
    })
}

/// Input record number `number`, about `contact`.
pub(crate) fn event(number: usize, contact: usize) -> NewRecord {
    told(Told { source: "/shop", contact, number, moved: false })
}

/// The input record with which a source tells it.
pub(crate) fn told(Told { source, contact, number, moved }: Told) -> NewRecord {
    let subject = contact.to_string();
    let header = |name: &str, value: String| Header::new(name, Bytes::from(value));
    let headers = vec![
        header("ce_specversion", "1.0".into()),
        header("ce_id", format!("event-{number:012}")),
        header("ce_source", source.into()),
        header("ce_subject", subject.clone()),
        header("ce_type", "com.example.contact.updated.v1".into()),
        header("ce_sequence", number.to_string()),
        header("content-type", "application/json".into()),
    ];
    NewRecord {
        to: TopicPartition::new(INPUT, partition_of(subject.as_bytes(), PARTITIONS)),
        key: Some(subject.into()),
        value: Some(view(contact, number, moved).to_string().into()),
        headers,
    }
}

/// What the connector makes of event number `number`, for callers that do without all the rest.
pub(crate) fn request_body(number: usize, contact: usize) -> Bytes {
    let address = |line: &str, postcode: &str, suburb: &str| json!({ "addressLine1": line, "postcode": postcode, "suburb": suburb, "state": "ZH", "country": "Switzerland" });
    let body = json!({
        "externalIntegrationId": format!("00000000-0000-8000-8000-{contact:012}"),
        "integrationSrc": "bench",
        "firstName": format!("Johanna{contact}"),
        "lastName": format!("Winterthurer-Roth{contact}"),
        "title": "Dr",
        "email": format!("johanna.winterthurer{contact}@mail.example.com"),
        "phoneNumber": format!("+4144{:07}", contact),
        "mobile": format!("+4179{:07}", contact),
        "postalAddress": address("Technikumstrasse 9", "8400", "Winterthur"),
        "organisationAddress": address("Hardturmstrasse 201", "8005", "Zürich"),
        "organisation": format!("Kongresshaus {} AG", contact % 500),
        "jobTitle": format!("Leitung {number}"),
        "department": "Veranstaltungen",
        "marketingOptOut": true,
        "personalInformationConsent": true,
    });
    Bytes::from(body.to_string())
}
