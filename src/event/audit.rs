//! Audit records: who did what to what, and why, of each action of an operator.
//!
//! CloudEvents in binary mode on `contact-audit`, keyed by the CRM that is concerned. Of contacts they hold ids alone. The name
//! and the reason are the operator's own words: they stand here and in the record of a pause, and in no log line or metric.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{labels::labels, outcome::Encoded};
use crate::{contact::ContactId, log::Header};

/// What the `type` of an audit record begins with; its action follows.
pub const TYPE_PREFIX: &str = "contact.audit.";

labels! {
    /// What an operator does.
    pub enum Action {
        ResyncStart = "resync_start",
        ResyncRestart = "resync_restart",
        ResyncStop = "resync_stop",
        /// Contacts that are named are driven anew.
        ResyncContacts = "resync_contacts",
        /// What `verify` found to differ is driven anew.
        Repair = "repair",
        LinksImport = "links_import",
        LinksSet = "links_set",
        /// Contacts that are stuck are tried now.
        Retry = "retry",
        /// What waits of contacts is given up.
        Skip = "skip",
        /// The body of a dead letter is told.
        DeadLettersShow = "dead_letters_show",
        /// Dead letters are sent in again.
        DeadLettersReplay = "dead_letters_replay",
        Pause = "pause",
        Resume = "resume",
    }
}

impl Action {
    /// Whether it is done only with a reason: it holds work up, or gives work up.
    pub const fn needs_reason(self) -> bool {
        match self {
            Self::Pause | Self::Skip | Self::DeadLettersReplay => true,
            Self::ResyncStart
            | Self::ResyncRestart
            | Self::ResyncStop
            | Self::ResyncContacts
            | Self::Repair
            | Self::LinksImport
            | Self::LinksSet
            | Self::Retry
            | Self::DeadLettersShow
            | Self::Resume => false,
        }
    }
}

labels! {
    /// How it is known that an operator may ask.
    pub enum Authentication {
        /// The question came in at an address that only its machine can reach.
        Loopback = "loopback",
        /// The question came with the token.
        Token = "token",
    }
}

/// What an action concerns. What is absent is not concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Target {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crm: Option<Arc<str>>,
    /// The cause that outcomes of the action carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contact_ids: Vec<ContactId>,
    /// Positions on the topic of dead letters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub letters: Vec<String>,
}

/// One action of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deed {
    /// Who asked, in their own word.
    pub by: String,
    pub authenticated: Authentication,
    /// The address that they asked from.
    pub peer: String,
    pub action: Action,
    pub target: Target,
    /// Why, in their own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The worker that was asked.
    pub worker: Arc<str>,
}

impl Deed {
    /// The deed as an event of `instance`, which is never told apart from another but by its `id`.
    pub fn encode(&self, id: Uuid, instance: &str, now: Timestamp) -> Encoded {
        let header = |name: &str, value: String| Header::new(name, Bytes::from(value));
        let mut headers = vec![
            header("ce_specversion", "1.0".to_owned()),
            header("ce_id", id.to_string()),
            header("ce_source", instance.to_owned()),
            header("ce_type", format!("{TYPE_PREFIX}{}", self.action)),
            header("ce_time", now.to_string()),
        ];
        headers.extend(self.target.crm.iter().map(|crm| header("ce_subject", crm.to_string())));
        headers.push(header("content-type", "application/json".to_owned()));
        Encoded {
            key: self.target.crm.as_ref().map(|crm| Bytes::from(crm.to_string())),
            headers,
            value: serde_json::to_vec(self).expect("a deed is made of what JSON can express").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_deed_tells_who_did_what_to_what_and_why() {
        let contact = ContactId(Uuid::from_u128(7));
        let mut deed = Deed {
            by: "ann".to_owned(),
            authenticated: Authentication::Token,
            peer: "10.0.0.7".to_owned(),
            action: Action::Pause,
            target: Target { crm: Some("venues".into()), cause: None, contact_ids: Vec::new(), letters: Vec::new() },
            reason: Some("their migration".to_owned()),
            worker: "w0".into(),
        };
        let now = "2026-03-01T10:00:00Z".parse().unwrap();
        let encoded = deed.encode(Uuid::from_u128(1), "ours", now);
        let headers: Vec<_> = encoded.headers.iter().map(|header| (&*header.name, &*header.value)).collect();
        let said: [(&str, &str); 7] = [
            ("ce_specversion", "1.0"),
            ("ce_id", "00000000-0000-0000-0000-000000000001"),
            ("ce_source", "ours"),
            ("ce_type", "contact.audit.pause"),
            ("ce_time", "2026-03-01T10:00:00Z"),
            ("ce_subject", "venues"),
            ("content-type", "application/json"),
        ];
        assert_eq!(headers, said.map(|(name, value)| (name, value.as_bytes())));
        assert_eq!(encoded.key.as_deref(), Some("venues".as_bytes()));
        let data: Value = serde_json::from_slice(&encoded.value).unwrap();
        let expected = json!({
            "by": "ann", "authenticated": "token", "peer": "10.0.0.7", "action": "pause", "target": {"crm": "venues"},
            "reason": "their migration", "worker": "w0",
        });
        assert_eq!(data, expected);

        deed.target =
            Target { crm: None, cause: Some("r-1".to_owned()), contact_ids: vec![contact], letters: Vec::new() };
        deed.reason = None;
        let encoded = deed.encode(Uuid::from_u128(1), "ours", now);
        assert!(encoded.key.is_none() && encoded.headers.iter().all(|header| header.name != "ce_subject"));
        let data: Value = serde_json::from_slice(&encoded.value).unwrap();
        assert_eq!(data["target"], json!({"cause": "r-1", "contact_ids": [contact]}));
        assert!(data.get("reason").is_none());
    }
}
