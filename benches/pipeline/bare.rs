//! The bare loop: posts each event as a request of its own, in order for each contact, and promises nothing.
//!
//! What it reaches on a machine is what the machine, the client and the simulated CRM allow; everything that the worker
//! does beside is the difference.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use contact_replicator::crm::{Request, RequestKind, transport::Transport};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::task::JoinSet;

use crate::load::request_body;

/// Events that may wait for an earlier one of their contact, as many as the worker may hold unanswered.
const WAITING_MAX: usize = 6_000;

/// Posts the events about `contacts` and returns when all are answered.
pub(crate) async fn run(transport: Arc<dyn Transport>, contacts: &[usize], in_flight_max: usize) {
    let mut waiting: HashMap<usize, VecDeque<Bytes>> = HashMap::new();
    let mut waits = 0;
    let mut in_flight = JoinSet::new();
    let mut events = contacts.iter().copied().enumerate();
    let mut more = true;
    loop {
        while more && in_flight.len() < in_flight_max && waits < WAITING_MAX {
            let Some((number, contact)) = events.next() else {
                more = false;
                break;
            };
            let body = request_body(number, contact);
            if let Some(behind) = waiting.get_mut(&contact) {
                behind.push_back(body);
                waits += 1;
            } else {
                waiting.insert(contact, VecDeque::new());
                in_flight.spawn(post(transport.clone(), contact, body));
            }
        }
        let Some(ended) = in_flight.join_next().await else { return };
        let contact = ended.expect("a request does not panic");
        match waiting.get_mut(&contact).and_then(VecDeque::pop_front) {
            Some(body) => {
                waits -= 1;
                in_flight.spawn(post(transport.clone(), contact, body));
            }
            None => {
                waiting.remove(&contact);
            }
        }
    }
}

async fn post(transport: Arc<dyn Transport>, contact: usize, body: Bytes) -> usize {
    let headers = [("content-type", "application/json"), ("accept", "application/json"), ("apitoken", "sandbox-token")];
    let request = Request {
        method: Method::POST,
        path: "/v1/crm/contacts".to_owned(),
        headers: headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).to_vec(),
        body,
        kind: RequestKind::Set,
    };
    let answer = transport.exchange(request).await.expect("the simulated CRM answers");
    assert_eq!(answer.status, StatusCode::OK, "the simulated CRM takes what the loop sends");
    contact
}
