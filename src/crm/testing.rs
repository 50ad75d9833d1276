//! What the tests of connectors share: settings, from the same text that operators see, and records.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde_json::Value;

use crate::{
    config::{Adopt, CrmKind, CrmSettings, DeliverySettings, Mode, OnDelete, OnErase, OnGone, OnLeave, PriavaSettings},
    contact::{ContactId, ContactRecord, Document, record::Status},
    crm::{
        Presence, REMOTE_CONTACT,
        link::{Link, Sent},
    },
};

/// The contact that tests are about.
pub(crate) const CONTACT: ContactId = ContactId(uuid::Uuid::from_u128(451));
/// The key of [`CONTACT`].
pub(crate) const KEY: &str = "00000000-0000-0000-0000-0000000001c3";

/// A live record of [`CONTACT`] that holds a document as it is written.
pub(crate) fn live(contact: &Value) -> ContactRecord {
    let (document, _) = Document::parse(contact.clone()).unwrap();
    ContactRecord { contact: Some(document), ..without_document() }
}

/// As [`live`], of a document as the resolver would never store it, or of none.
pub(crate) fn record(contact: Value) -> ContactRecord {
    let contact = serde_json::from_value::<Option<Document>>(contact).unwrap();
    ContactRecord { contact, ..without_document() }
}

/// A link that says that these fields were accepted, by a contact of this id.
pub(crate) fn link_with(sent: &[&str], id: Option<&str>) -> Link {
    let mut link = Link::new(CONTACT);
    link.sent = sent.iter().map(|path| ((*path).into(), Sent::Hash(1))).collect();
    link.presence = Some(Presence::Active);
    link.remote_ids.extend(id.map(|id| (REMOTE_CONTACT.to_owned(), id.to_owned())));
    link
}

/// A record of [`CONTACT`] of which nothing is said.
pub(crate) fn without_document() -> ContactRecord {
    ContactRecord {
        contact_id: CONTACT,
        version: 1,
        status: Status::Live,
        merged_into: None,
        contact: None,
        provenance: BTreeMap::new(),
        members: Vec::new(),
        event: None,
        received_at: jiff::Timestamp::UNIX_EPOCH,
        epoch: 1,
        format: 1,
    }
}

pub(crate) fn delivery_settings() -> DeliverySettings {
    DeliverySettings {
        in_flight_max: 8,
        in_flight_min: 1,
        requests_per_second: 0.0,
        resync_contacts_per_second: 0.0,
        verify_contacts_per_second: 0.0,
        request_deadline: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(2),
        response_bytes_max: 64 * 1024,
        retry_delay: Duration::from_secs(1),
        retry_delay_max: Duration::from_secs(60),
        tries_before_parking: 6,
        parked_delay: Duration::from_secs(60),
        parked_delay_max: Duration::from_secs(3600),
        unanswered_max: 1000,
        failures_before_pause: 20,
        probe_delay: Duration::from_secs(5),
        probe_delay_max: Duration::from_secs(300),
        retry_after_max: Duration::from_secs(3600),
        search_lag: Duration::ZERO,
        reference_age_max: Duration::from_secs(12 * 60 * 60),
        reference_miss_age: Duration::from_secs(60),
        max_age: None,
    }
}

pub(crate) fn priava_settings() -> PriavaSettings {
    let example = crate::config::Settings::reference().crm.remove(0);
    PriavaSettings { token_env: None, ..example.priava.expect("the reference shows it") }
}

/// A Previsto as the reference has it.
pub(crate) fn previsto_crm() -> CrmSettings {
    let entries = crate::config::Settings::reference().crm;
    let mut crm = entries.into_iter().find(|crm| crm.kind == CrmKind::Previsto).expect("the reference shows one");
    crm.previsto.as_mut().expect("it has its table").api_key_env = None;
    crm
}

/// A CRM.COM as the reference has it.
pub(crate) fn crm_com_crm() -> CrmSettings {
    let entries = crate::config::Settings::reference().crm;
    let mut crm = entries.into_iter().find(|crm| crm.kind == CrmKind::CrmCom).expect("the reference shows one");
    crm.crm_com.as_mut().expect("it has its table").secret_env = None;
    crm
}

/// A LogiSense as the reference has it.
pub(crate) fn logisense_crm() -> CrmSettings {
    let entries = crate::config::Settings::reference().crm;
    let mut crm = entries.into_iter().find(|crm| crm.kind == CrmKind::Logisense).expect("the reference shows one");
    crm.logisense.as_mut().expect("it has its table").secret_env = None;
    crm
}

/// A NextInteract SAM as the reference has it, with its credentials in these files.
pub(crate) fn sam_crm(email: PathBuf, password: PathBuf) -> CrmSettings {
    let entries = crate::config::Settings::reference().crm;
    let mut crm =
        entries.into_iter().find(|crm| crm.kind == CrmKind::NextinteractSam).expect("the reference shows one");
    let sam = crm.nextinteract_sam.as_mut().expect("it has its table");
    (sam.email_env, sam.email_file) = (None, Some(email));
    (sam.password_env, sam.password_file) = (None, Some(password));
    crm
}

pub(crate) fn crm_settings(token_file: PathBuf) -> CrmSettings {
    CrmSettings {
        name: "venues".into(),
        kind: CrmKind::Priava,
        base_url: "http://127.0.0.1/api/rest".to_owned(),
        mode: Mode::Live,
        delivery: delivery_settings(),
        on_delete: OnDelete::Deactivate,
        on_erase: OnErase::Blank,
        on_gone: OnGone::Recreate,
        find_before_create: true,
        adopt: Adopt::ByKey,
        filter: Vec::new(),
        on_leave: OnLeave::Keep,
        fields: BTreeMap::new(),
        priava: Some(PriavaSettings { token_file: Some(token_file), ..priava_settings() }),
        previsto: None,
        crm_com: None,
        logisense: None,
        nextinteract_sam: None,
    }
}
