//! What a CRM was asked, and what of it should not have been.
//!
//! The load gives each change a number that rises from change to change and that every call carries, so a call tells by
//! itself whether the CRM held that already, or something newer.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

/// One request to the CRM.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) arrived: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) contact: Option<String>,
    /// Number of the change that it carried, if the CRM keeps bodies.
    pub(crate) change: Option<u64>,
    /// In order of effects; absent if it stored nothing.
    pub(crate) effect: Option<u64>,
    pub(crate) status: Option<u16>,
}

#[derive(Deserialize)]
struct Page {
    dropped: usize,
    requests: Vec<Logged>,
}

#[derive(Deserialize)]
struct Logged {
    arrived_at: Timestamp,
    since_start_ms: i64,
    ended_since_start_ms: Option<i64>,
    contact: Option<String>,
    body: Option<String>,
    effect: Option<u64>,
    status: Option<u16>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "jobTitle")]
    title: String,
}

impl Call {
    /// The calls on the page of the CRM's log, in order of arrival, and how many older ones the log has dropped.
    pub(crate) fn read(page: &[u8]) -> (Vec<Self>, usize) {
        let Page { dropped, requests } = serde_json::from_slice(page).expect("the log of requests is as expected");
        (requests.into_iter().map(Self::of).collect(), dropped)
    }

    fn of(logged: Logged) -> Self {
        let took = logged.ended_since_start_ms.map(|ended| SignedDuration::from_millis(ended - logged.since_start_ms));
        let change = logged.body.as_deref().map(|body| {
            let Body { title } = serde_json::from_str(body).expect("each change has a new title");
            title.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a title ends with its number")
        });
        Self {
            arrived: logged.arrived_at,
            ended: took.map(|took| logged.arrived_at + took),
            contact: logged.contact,
            change,
            effect: logged.effect,
            status: logged.status,
        }
    }

    fn failed(&self, status: u16) -> bool {
        self.status == Some(status)
    }
}

/// Calls that told the CRM what it knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Repeats {
    /// What it held already.
    pub(crate) same: usize,
    /// Something older than what it held.
    pub(crate) older: usize,
}

/// Judges the effects in the order in which they took place.
pub(crate) fn repeats(calls: &[Call]) -> Repeats {
    let mut effects: Vec<&Call> = calls.iter().filter(|call| call.effect.is_some()).collect();
    effects.sort_unstable_by_key(|call| call.effect);
    let mut held: HashMap<&str, u64> = HashMap::new();
    let mut repeats = Repeats::default();
    for call in effects {
        let contact = call.contact.as_deref().expect("what is stored is about a contact");
        let change = call.change.expect("the CRM keeps bodies");
        match held.get(contact) {
            Some(before) if *before == change => repeats.same += 1,
            Some(before) if *before > change => repeats.older += 1,
            _ => {
                held.insert(contact, change);
            }
        }
    }
    repeats
}

/// The longest time within `from` and `until` in which no call arrived, with its beginning.
pub(crate) fn longest_silence(calls: &[Call], from: Timestamp, until: Timestamp) -> (SignedDuration, Timestamp) {
    let inside = calls.iter().map(|call| call.arrived).filter(|arrived| (from..=until).contains(arrived));
    let moments: Vec<Timestamp> = std::iter::once(from).chain(inside).chain(std::iter::once(until)).collect();
    let silences = moments.windows(2).map(|pair| (pair[1].duration_since(pair[0]), pair[0]));
    silences.max().expect("there are a beginning and an end")
}

/// Calls that failed with `status` though the CRM had told of its trouble before they arrived: what was under way at
/// its first refusal could not know.
pub(crate) fn needless_failures(calls: &[Call], status: u16) -> usize {
    let refusals = || calls.iter().filter(|call| call.failed(status));
    let Some(first) = refusals().filter_map(|call| call.ended).min() else { return 0 };
    refusals().filter(|call| call.arrived > first).count()
}

/// Calls that arrived within the `asked` time after a 429, `grace` of it apart, in which a refusal is still on its way
/// to a sender.
pub(crate) fn inside_retry_after(calls: &[Call], asked: SignedDuration, grace: SignedDuration) -> usize {
    let mut refusals: Vec<Timestamp> =
        calls.iter().filter(|call| call.failed(429)).filter_map(|call| call.ended).collect();
    refusals.sort_unstable();
    let inside = |call: &&Call| {
        // The earliest refusal whose time is not over yet decides: its grace is over first.
        let live = refusals.partition_point(|ended| *ended + asked <= call.arrived);
        refusals.get(live).is_some_and(|ended| *ended + grace < call.arrived)
    };
    calls.iter().filter(inside).count()
}
