//! The people that [`Rolodex`](super::Rolodex) speaks to, in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use crate::crm::{Answer, Request, Response};

#[derive(Debug, Default)]
pub(crate) struct People {
    people: BTreeMap<u64, Map<String, Value>>,
    made: u64,
}

impl People {
    pub(crate) fn answer(&mut self, request: &Request) -> Answer {
        let said = || serde_json::from_slice::<Map<String, Value>>(&request.body).unwrap();
        let id: Option<u64> = request.path.strip_prefix("/people/").map(|id| id.parse().unwrap());
        let (status, body) = match (request.method.as_str(), id) {
            ("GET", None) => {
                let number = request.path.strip_prefix("/people?number=").unwrap();
                let hits = self.people.iter().filter(|(_, person)| person.get("number") == Some(&json!(number)));
                (200, hits.map(|(id, _)| json!({ "id": id })).collect())
            }
            ("POST", None) => {
                self.made += 1;
                self.people.insert(self.made, said());
                (201, json!({ "id": self.made }))
            }
            (method, Some(id)) => match (method, self.people.get_mut(&id)) {
                (_, None) => (404, json!({ "error": "not_found" })),
                ("DELETE", Some(_)) => {
                    self.people.remove(&id);
                    (204, Value::Null)
                }
                ("PATCH", Some(person)) => {
                    person.extend(said());
                    person.retain(|_, value| !value.is_null());
                    (200, json!({ "id": id }))
                }
                _ => (405, Value::Null),
            },
            _ => (405, Value::Null),
        };
        let status = StatusCode::from_u16(status).unwrap();
        Ok(Response { status, headers: HeaderMap::new(), body: Bytes::from(body.to_string()) })
    }

    /// What is there, ids apart.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Map<String, Value>> {
        self.people.values()
    }

    /// Somebody removes them all.
    pub(crate) fn vanish(&mut self) {
        self.people.clear();
    }
}
