//! Under which mapping a contact was written: a short hash of all in the settings that shapes what a CRM is sent.
//!
//! A link says it of the contact's last write, so that an operator who changes a rule can see how many contacts were made
//! under another one. Nothing is sent because of it: a changed mapping reaches a contact with its next change, or by a
//! resync.
//!
//! What belongs to it is said where a setting is declared: serialised, settings are what shapes projections and requests,
//! and what only says how a CRM is reached, asked and waited for is left out. So a setting that nobody thought about counts
//! in, which at worst asks for a resync too many.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::link::hex64;
use crate::config::CrmSettings;

/// Raised when a release maps the same contact otherwise under the same settings.
const REVISION: u32 = 1;

/// Equal for equal mappings, and as good as never for others. 64 bits, written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(#[serde(with = "hex64")] pub u64);

impl Fingerprint {
    /// Of what `settings` make of contacts in the installation `instance`, whose name some CRMs are told.
    pub fn of(settings: &CrmSettings, instance: &str) -> Self {
        let shaping =
            serde_json::to_vec(&(REVISION, instance, settings)).expect("settings are made of what JSON can express");
        let digest = Sha256::digest(&shaping);
        let first = digest.first_chunk().expect("a digest has 32 bytes");
        Self(u64::from_be_bytes(*first))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        config::{ClearWith, FieldRule, Mode, OnDelete, OnGone},
        crm::testing::{crm_com_crm, crm_settings, logisense_crm, previsto_crm, sam_crm},
    };

    fn of(settings: &CrmSettings) -> Fingerprint {
        Fingerprint::of(settings, "hub")
    }

    #[test]
    fn what_shapes_what_is_sent_changes_it_and_nothing_else_does() {
        let plain = crm_settings("token".into());
        assert_eq!(of(&plain), of(&plain.clone()));
        let changed = |change: fn(&mut CrmSettings)| {
            let mut settings = plain.clone();
            change(&mut settings);
            of(&settings) != of(&plain)
        };
        let shaping: [fn(&mut CrmSettings); 6] = [
            |crm| drop(crm.fields.insert("department".to_owned(), FieldRule::Pointer("/attributes/team".to_owned()))),
            |crm| crm.filter.push(crate::config::Condition::default()),
            |crm| crm.on_delete = OnDelete::Keep,
            |crm| crm.priava.as_mut().unwrap().clear_with = ClearWith::Empty,
            |crm| drop(crm.priava.as_mut().unwrap().countries.insert("DK".to_owned(), "Danmark".to_owned())),
            |crm| crm.priava.as_mut().unwrap().integration_src = "other".to_owned(),
        ];
        for (number, change) in shaping.into_iter().enumerate() {
            assert!(changed(change), "{number}");
        }
        let other: [fn(&mut CrmSettings); 6] = [
            |crm| crm.name = "another".into(),
            |crm| crm.base_url = "http://127.0.0.2/".to_owned(),
            |crm| crm.mode = Mode::Shadow,
            |crm| crm.delivery.in_flight_max += 1,
            |crm| crm.on_gone = OnGone::Drop,
            |crm| crm.priava.as_mut().unwrap().token_file = Some("elsewhere".into()),
        ];
        for (number, change) in other.into_iter().enumerate() {
            assert!(!changed(change), "{number}");
        }
        assert_ne!(Fingerprint::of(&plain, "a"), Fingerprint::of(&plain, "b"));
    }

    /// It is kept in links: another one for the same settings would count all of them as made under another mapping.
    #[test]
    fn no_credential_no_deadline_and_no_address_is_in_it() {
        let here = || PathBuf::from("secret-file");
        let all = [crm_settings(here()), previsto_crm(), crm_com_crm(), logisense_crm(), sam_crm(here(), here())];
        for settings in all {
            let shaping = serde_json::to_value(&settings).unwrap();
            let text = shaping.to_string();
            for word in ["secret", "token", "_env", "_file", "password", "login", "deadline", "127.0.0.1", "page_size"]
            {
                assert!(!text.contains(word), "{word} in {text}");
            }
            let kind = shaping["kind"].as_str().unwrap();
            assert!(shaping[kind].as_object().is_some_and(|section| section.len() > 5), "{text}");
        }
    }

    #[test]
    fn it_is_written_as_hexadecimal_digits() {
        assert_eq!(serde_json::to_value(Fingerprint(0x2a)).unwrap(), json!("000000000000002a"));
        assert!(serde_json::from_value::<Fingerprint>(Value::from("x")).is_err());
    }
}
