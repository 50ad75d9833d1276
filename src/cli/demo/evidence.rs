//! What a run leaves behind, gathered from outside: from the topics anybody may read, and from the CRM's own books.
//!
//! Nothing here asks the program under judgement what it did. Topics are read by a plain follower, which sees committed
//! records only, as any other reader would, so the same code serves every log. What a CRM stored and which requests it
//! got comes as plain JSON from the sandbox's control addresses, which differ with the kind of CRM ([`Expectation::kind`]).
//! What a record *should* look like in its CRM is an [`Expectation`]: for Priava and SAM, which are sent whole contacts, it is
//! taken from the connector, whose mapping is judged by tests of its own; for each other it is a table beside this file.
//!
//! Gathering goes on while the run does: [`Reader::read_on`] adds what is new, and [`Evidence`] is at any moment all that
//! was seen so far.

mod crm_com;
mod logisense;
mod nextinteract_sam;
mod previsto;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::{
    config::{CrmKind, CrmSettings, OnDelete, TopicNames},
    contact::{ContactId, ContactRecord, document::Said, format},
    crm::{
        self, Connector,
        link::{Link, Sent},
    },
    event::{Entry, Outcome, dead_letter::DeadLetter},
    log::{Follower, Log, LogError, Offset, Record, TopicPartition},
    sandbox::Action,
    view::follower::BIRTH_KEY,
};

/// All that is known of a run.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Every record of the input topics, readable or not.
    pub inputs: Vec<Record>,
    pub entries: Vec<Entry>,
    /// Every version that the log still has, in its order: all of them, unless compaction ran.
    pub records: Vec<ContactRecord>,
    pub outcomes: Vec<Outcome>,
    pub dead_letters: Vec<DeadLetter>,
    /// Records of our own topics that could not be read, and why.
    pub unreadable: Vec<String>,
    pub crms: Vec<CrmEvidence>,
    /// By CRM, the newest link of each contact.
    pub links: BTreeMap<Arc<str>, Links>,
    /// How many accepted calls may be without an outcome: those of workers that were killed before they could commit.
    pub repeats_allowed: usize,
}

/// What the program keeps of its contacts in one CRM.
pub type Links = BTreeMap<ContactId, Link>;

/// What one CRM has to say.
#[derive(Debug, Clone)]
pub struct CrmEvidence {
    pub name: Arc<str>,
    pub stored: Vec<Stored>,
    /// In order of arrival.
    pub calls: Vec<Call>,
    /// Calls that the CRM's log no longer has.
    pub calls_dropped: u64,
    pub expectation: Arc<dyn Expectation>,
}

/// Fields by their names on the wire, nested ones dotted; without those that are empty, and so comparable.
pub type Fields = BTreeMap<String, Value>;

/// A contact as the CRM stores it.
#[derive(Clone, PartialEq)]
pub struct Stored {
    /// The CRM's own id.
    pub remote_id: String,
    /// Our id, as the CRM was told it.
    pub external_id: Option<String>,
    pub fields: Fields,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} fields", self.external_id.as_deref().unwrap_or("nobody"), self.fields.len())
    }
}

/// A request as the CRM saw it.
#[derive(Clone, PartialEq)]
pub struct Call {
    /// In order of arrival.
    pub sequence: u64,
    pub arrived: Duration,
    /// The same moment by the clock that all processes of a run share.
    pub arrived_at: Timestamp,
    /// The other end of its connection; absent without a connection.
    pub peer: Option<SocketAddr>,
    /// When all was done that would be done, the answer apart.
    pub ended: Option<Duration>,
    pub action: Action,
    /// Absent where it cannot be told, as of a search that finds nobody.
    pub external_id: Option<String>,
    /// The contact that it makes of the one that was there: what was sent, where that is always all of it. `None` if the
    /// CRM does not keep it.
    pub fields: Option<Fields>,
    /// Whether it begins a contact that other calls complete: what is not in `fields` is still to come.
    pub begins: bool,
    /// Number of its effect in order of effects; absent if nothing was stored.
    pub effect: Option<u64>,
    pub status: Option<u16>,
    /// Whether the answer refuses, whatever its status.
    pub refused: bool,
    /// Whether the caller was there to hear the answer.
    pub answered: bool,
    /// The patience that the answer asked for.
    pub retry_after: Option<Duration>,
}

impl Call {
    /// Whether it only asks.
    pub fn is_read(&self) -> bool {
        matches!(self.action, Action::Search | Action::Get)
    }

    /// Whether the CRM took it and the caller knows.
    pub fn was_accepted(&self) -> bool {
        self.answered && !self.refused && self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} about {}", self.sequence, self.external_id.as_deref().unwrap_or("nobody"))
    }
}

/// Knows what a CRM should hold.
pub trait Expectation: Send + Sync + fmt::Debug {
    /// Which words the CRM's books are in.
    fn kind(&self) -> CrmKind;

    /// The fields of `record` in the CRM, given whether the CRM has the contact; `None` if nothing of it is to be sent.
    fn of(&self, record: &ContactRecord, stored: bool) -> Option<Fields>;
}

/// What is to be expected of a CRM that has these settings.
///
/// # Errors
/// If the settings are not fit for a connector.
pub fn expectation(settings: &CrmSettings, instance: &str) -> Result<Arc<dyn Expectation>, crm::SetupError> {
    let CrmSettings { previsto, crm_com, .. } = settings;
    Ok(match settings.kind {
        CrmKind::Priava => Arc::new(Projected(crm::build(settings, instance)?.connector)),
        CrmKind::Previsto => {
            let previsto = previsto.as_ref().expect("each CRM has the settings of its kind");
            Arc::new(previsto::Organisation {
                instance: instance.to_owned(),
                attribute_prefix: previsto.attribute_prefix.clone(),
                plants_number: previsto.plant_number,
                deletes: settings.on_delete == OnDelete::Delete,
            })
        }
        CrmKind::CrmCom => {
            let crm_com = crm_com.as_ref().expect("each CRM has the settings of its kind");
            Arc::new(crm_com::Tenant {
                instance: instance.to_owned(),
                reference_slot: crm_com.external_ref_slot.clone(),
                source_slot: crm_com.source_slot.clone(),
            })
        }
        CrmKind::Logisense => Arc::new(logisense::Tenant),
        CrmKind::NextinteractSam => Arc::new(nextinteract_sam::Company(crm::build(settings, instance)?.connector)),
    })
}

/// What the connector of a Priava makes of a record.
#[derive(Debug, Clone)]
pub struct Projected(pub Arc<dyn Connector>);

impl Expectation for Projected {
    fn kind(&self) -> CrmKind {
        CrmKind::Priava
    }

    fn of(&self, record: &ContactRecord, stored: bool) -> Option<Fields> {
        let mut link = Link::new(record.contact_id);
        let kind = record.contact.as_ref().map(|document| document.text("/kind"));
        let prefix = if kind == Some(Said::Value("organization")) { OF_ORGANISATIONS } else { "" };
        if stored {
            link.sent.insert(format!("{prefix}{EXTERNAL_ID}").into(), Sent::Void);
        }
        let projection = self.0.project(record, Some(&link)).ok()?;
        let on_the_wire = |name: &str| name.strip_prefix(OF_ORGANISATIONS).unwrap_or(name).to_owned();
        Some(normal(projection.fields.into_iter().map(|(name, value)| (on_the_wire(&name), value))))
    }
}

// The words of the simulated Priava.
const EXTERNAL_ID: &str = "externalIntegrationId";
/// Goes before fields of organisations in projections.
const OF_ORGANISATIONS: &str = "organisation:";
/// Fields that the CRM uses but does not keep with the contact.
const NOT_KEPT: &[&str] = &["organisationType", "organisationMarketSector"];
/// A field whose `false` means the same as its absence.
const FALSE_BY_DEFAULT: &str = "inactive";

/// A page of the CRM's books that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the answer of the control address `{address}` is not as expected")]
pub struct Unexpected {
    address: &'static str,
    #[source]
    source: serde_json::Error,
}

impl CrmEvidence {
    /// From the answers of the control addresses `contacts` and `requests`.
    ///
    /// # Errors
    /// If these are not what a sandbox answers.
    pub fn read(
        name: &str,
        contacts: &[u8],
        requests: &[u8],
        expectation: Arc<dyn Expectation>,
    ) -> Result<Self, Unexpected> {
        let unexpected = |address| move |source| Unexpected { address, source };
        let contacts: ContactsPage = serde_json::from_slice(contacts).map_err(unexpected("contacts"))?;
        let requests: RequestsPage = serde_json::from_slice(requests).map_err(unexpected("requests"))?;
        let kind = expectation.kind();
        Ok(Self {
            name: name.into(),
            stored: contacts.contacts.into_iter().map(|contact| contact.into_evidence(kind)).collect(),
            calls: calls(requests.requests, kind),
            calls_dropped: requests.dropped,
            expectation,
        })
    }
}

fn calls(mut logged: Vec<LoggedCall>, kind: CrmKind) -> Vec<Call> {
    if kind == CrmKind::NextinteractSam {
        logged = logged.into_iter().flat_map(nextinteract_sam::by_contact).collect();
    }
    let mut contents: Vec<Option<Fields>> = match kind {
        CrmKind::Priava => logged.iter().map(LoggedCall::content).collect(),
        CrmKind::NextinteractSam => logged.iter().map(nextinteract_sam::content).collect(),
        CrmKind::CrmCom | CrmKind::Logisense => logged.iter().map(|call| call.left_behind(kind)).collect(),
        CrmKind::Previsto => vec![None; logged.len()],
    };
    if kind == CrmKind::Previsto {
        let mut effects: Vec<usize> = (0..logged.len()).filter(|index| logged[*index].effect.is_some()).collect();
        effects.sort_by_key(|index| logged[*index].effect);
        let mut replay = previsto::Replay::default();
        for index in effects {
            let call = &logged[index];
            contents[index] = replay.after(call.action, call.remote_id.as_deref(), call.body.as_deref());
        }
    }
    logged.into_iter().zip(contents).map(|(call, content)| call.into_evidence(kind, content)).collect()
}

#[derive(Deserialize)]
struct ContactsPage {
    contacts: Vec<StoredContact>,
}

#[derive(Deserialize)]
struct StoredContact {
    /// A number or a text.
    id: Value,
    /// What the sandbox knows it by.
    reference: Option<String>,
    fields: Map<String, Value>,
}

impl StoredContact {
    fn into_evidence(self, kind: CrmKind) -> Stored {
        let mut remote_id = self.id.as_str().map_or_else(|| self.id.to_string(), str::to_owned);
        let text = |fields: &Fields, name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        let (external_id, fields) = match kind {
            CrmKind::Priava => {
                let fields = normal(self.fields);
                (text(&fields, EXTERNAL_ID), fields)
            }
            CrmKind::Previsto => {
                let fields = previsto::normal(self.fields);
                (text(&fields, previsto::REFERENCE), fields)
            }
            CrmKind::CrmCom => (self.reference, crm_com::normal(&self.fields)),
            CrmKind::Logisense => {
                let fields = logisense::normal(&self.fields, self.reference.as_deref());
                (self.reference, fields)
            }
            CrmKind::NextinteractSam => {
                let fields = nextinteract_sam::normal(self.fields);
                (text(&fields, nextinteract_sam::REFERENCE), fields)
            }
        };
        if kind == CrmKind::NextinteractSam {
            // Its own id is told to nobody: our reference is all that a link can name.
            remote_id = external_id.clone().unwrap_or(remote_id);
        }
        Stored { remote_id, external_id, fields }
    }
}

#[derive(Deserialize)]
struct RequestsPage {
    dropped: u64,
    requests: Vec<LoggedCall>,
}

#[derive(Clone, Deserialize)]
struct LoggedCall {
    sequence: u64,
    since_start_ms: u64,
    arrived_at: Timestamp,
    peer: Option<SocketAddr>,
    ended_since_start_ms: Option<u64>,
    action: Action,
    contact: Option<String>,
    remote_id: Option<String>,
    body: Option<String>,
    effect: Option<u64>,
    status: Option<u16>,
    answer: Option<String>,
    left: Option<Map<String, Value>>,
    answered: bool,
    retry_after: Option<u64>,
}

impl LoggedCall {
    /// What an upsert sent.
    fn content(&self) -> Option<Fields> {
        let body: Map<String, Value> = serde_json::from_str(self.body.as_deref()?).ok()?;
        Some(normal(body))
    }

    /// The contact as the call left it, where the books tell.
    fn left_behind(&self, kind: CrmKind) -> Option<Fields> {
        let left = self.left.as_ref()?;
        Some(match kind {
            CrmKind::Logisense => logisense::normal(left, self.contact.as_deref()),
            _ => crm_com::normal(left),
        })
    }

    fn into_evidence(self, kind: CrmKind, fields: Option<Fields>) -> Call {
        Call {
            begins: kind == CrmKind::Logisense && self.action == Action::Create,
            refused: kind == CrmKind::CrmCom && self.answer.as_deref().is_some_and(crm_com::refuses),
            sequence: self.sequence,
            arrived: Duration::from_millis(self.since_start_ms),
            arrived_at: self.arrived_at,
            peer: self.peer,
            ended: self.ended_since_start_ms.map(Duration::from_millis),
            action: self.action,
            external_id: self.contact,
            fields,
            effect: self.effect,
            status: self.status,
            answered: self.answered,
            retry_after: self.retry_after.map(Duration::from_secs),
        }
    }
}

/// Fields in a form in which equal means that the CRM holds the same.
fn normal(fields: impl IntoIterator<Item = (String, Value)>) -> Fields {
    let mut normal = Fields::new();
    for (name, value) in fields {
        flatten(name, value, &mut normal);
    }
    normal.retain(|name, value| {
        let says_nothing = value.is_null() || (name == FALSE_BY_DEFAULT && *value == Value::Bool(false));
        !says_nothing && !NOT_KEPT.contains(&name.as_str())
    });
    normal
}

/// Only objects are nested in what is sent, and the connectors bound how deep.
fn flatten(name: String, value: Value, fields: &mut Fields) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                flatten(format!("{name}.{member}"), value, fields);
            }
        }
        value => {
            fields.insert(name, value);
        }
    }
}

/// Gathers the evidence that is in the log.
pub struct Reader {
    follower: Box<dyn Follower>,
    inputs: BTreeSet<Arc<str>>,
    topics: TopicNames,
    /// Topics of links, with the CRM that each is about.
    links: BTreeMap<Arc<str>, Arc<str>>,
    positions: BTreeMap<TopicPartition, Offset>,
    evidence: Evidence,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("positions", &self.positions).finish_non_exhaustive()
    }
}

/// Why evidence could not be gathered.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the topics could not be read")]
    Log(#[from] LogError),
    #[error("{at} was read up to {position}, but its end is {end}")]
    Deadline { at: TopicPartition, position: Offset, end: Offset },
}

/// Records read at a time.
const RECORDS_MAX: usize = 2_000;

impl Reader {
    /// Begins at the oldest record of the input topics and of our own.
    ///
    /// # Errors
    /// If a topic is missing, or the log fails.
    pub async fn open(log: &dyn Log, inputs: &[Arc<str>], topics: &TopicNames) -> Result<Self, LogError> {
        let mut reader = Self {
            follower: log.follower().await?,
            inputs: inputs.iter().cloned().collect(),
            topics: topics.clone(),
            links: BTreeMap::new(),
            positions: BTreeMap::new(),
            evidence: Evidence::default(),
        };
        let ours = [&topics.records, &topics.versions, &topics.outcomes, &topics.dead_letters];
        for topic in inputs.iter().chain(ours) {
            reader.begin(log, topic).await?;
        }
        Ok(reader)
    }

    /// Reads the links of these CRMs too, from the oldest.
    ///
    /// # Errors
    /// If a topic is missing, or the log fails.
    pub async fn follow_links(&mut self, log: &dyn Log, crms: &[Arc<str>]) -> Result<(), LogError> {
        for crm in crms {
            let topic = self.topics.links(crm);
            self.begin(log, &topic).await?;
            self.links.insert(topic, Arc::clone(crm));
            self.evidence.links.entry(Arc::clone(crm)).or_default();
        }
        Ok(())
    }

    async fn begin(&mut self, log: &dyn Log, topic: &Arc<str>) -> Result<(), LogError> {
        let partitions = log.partitions(topic).await?;
        let partitions = partitions.ok_or_else(|| LogError::UnknownTopic { topic: Arc::clone(topic) })?;
        for partition in 0..partitions {
            let at = TopicPartition::new(Arc::clone(topic), partition);
            let low = log.watermarks(&at).await?.low;
            self.follower.assign(at.clone(), low).await?;
            self.positions.insert(at, low);
        }
        Ok(())
    }

    /// What was read so far.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    pub fn into_evidence(self) -> Evidence {
        self.evidence
    }

    /// Waits up to `wait` for more, and adds it.
    ///
    /// # Errors
    /// Those of the follower.
    pub async fn read_on(&mut self, wait: Duration) -> Result<(), LogError> {
        let progress = self.follower.poll(RECORDS_MAX, wait).await?;
        for record in progress.records {
            self.add(record);
        }
        self.positions.extend(progress.positions);
        Ok(())
    }

    /// Reads up to what is the end now.
    ///
    /// # Errors
    /// [`ReadError::Deadline`] if that takes longer than `patience`.
    pub async fn catch_up(&mut self, log: &dyn Log, patience: Duration) -> Result<(), ReadError> {
        let deadline = Instant::now() + patience;
        let places: Vec<TopicPartition> = self.positions.keys().cloned().collect();
        for at in places {
            let end = log.watermarks(&at).await?.high;
            loop {
                let position = self.positions.get(&at).copied().unwrap_or_default();
                if position >= end {
                    break;
                }
                if Instant::now() >= deadline {
                    return Err(ReadError::Deadline { at, position, end });
                }
                self.read_on(Duration::from_millis(200)).await?;
            }
        }
        Ok(())
    }

    fn add(&mut self, record: Record) {
        let topic = &record.at.topic;
        let evidence = &mut self.evidence;
        if self.inputs.contains(topic) {
            evidence.inputs.push(record);
            return;
        }
        // Said about the topic, not in it.
        if record.key.as_deref() == Some(BIRTH_KEY.as_bytes()) && *topic != self.topics.dead_letters {
            return;
        }
        let value = record.value.as_deref().unwrap_or_default();
        let added = if *topic == self.topics.versions {
            Entry::decode(value).map(|entry| evidence.entries.push(entry))
        } else if *topic == self.topics.records {
            format::decode(value).map(|record| evidence.records.push(record))
        } else if *topic == self.topics.outcomes {
            Outcome::decode(&record).map(|outcome| evidence.outcomes.push(outcome))
        } else if let Some(crm) = self.links.get(topic) {
            let links = evidence.links.entry(Arc::clone(crm)).or_default();
            format::decode(value).map(|link: Link| drop(links.insert(link.contact_id, link)))
        } else {
            DeadLetter::read(&record).map(|letter| evidence.dead_letters.push(letter))
        };
        if let Err(error) = added {
            evidence.unreadable.push(format!("{record:?}: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        clock::Clock,
        contact::{ContactId, record::FORMAT},
        log::{
            Cleanup, NewRecord, TopicSpec, Transaction,
            local::{LocalLog, Settings},
        },
        sandbox::{Fault, FaultPlan, Sandbox, SandboxSettings},
    };

    const INPUT: &str = "contact-changes";
    const PATIENCE: Duration = Duration::from_secs(5);

    async fn log(names: &TopicNames) -> LocalLog {
        let log = LocalLog::new(Settings::default(), Clock::simulated(Timestamp::UNIX_EPOCH));
        let topics = [&INPUT.into(), &names.records, &names.versions, &names.outcomes, &names.dead_letters];
        let cleanup = Cleanup::Delete { after: Duration::from_secs(86_400) };
        let specs =
            topics.map(|name| TopicSpec { name: Arc::clone(name), partitions: 2, cleanup, message_bytes_max: 1 << 20 });
        log.ensure_topics(&specs).await.unwrap();
        log
    }

    fn record(topic: &str, key: &'static str, value: impl Into<bytes::Bytes>) -> NewRecord {
        let to = TopicPartition::new(topic, 1);
        NewRecord { to, key: Some(key.into()), value: Some(value.into()), headers: Vec::new() }
    }

    fn entry() -> Entry {
        Entry {
            contact_id: ContactId(uuid::Uuid::nil()),
            version: 1,
            event: None,
            received_at: Timestamp::UNIX_EPOCH,
            traceparent: None,
            cause: None,
            crm: None,
            link_to: None,
            epoch: 1,
            format: FORMAT,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_reader_sees_what_was_committed_and_names_what_it_cannot_read() {
        let names = TopicNames::new("");
        let log = log(&names).await;
        let mut reader = Reader::open(&log, &[INPUT.into()], &names).await.unwrap();
        log.append(vec![
            record(INPUT, "42", "{"),
            record(&names.versions, BIRTH_KEY, "an id"),
            record(&names.versions, "k", "{"),
        ])
        .await
        .unwrap();
        let entries = |count: usize| Transaction {
            records: vec![record(&names.versions, "k", entry().encode()); count],
            offsets: None,
        };
        log.writer("lost").await.unwrap().prepare(entries(5)).await.unwrap();
        // A writer of the same id ends what the one before it had open.
        log.writer("lost").await.unwrap().write(entries(2)).await.unwrap();

        reader.catch_up(&log, PATIENCE).await.unwrap();
        let evidence = reader.into_evidence();
        assert_eq!((evidence.inputs.len(), evidence.entries.len()), (1, 2));
        assert_eq!(evidence.unreadable.len(), 1, "{:?}", evidence.unreadable);
        assert!(evidence.unreadable[0].starts_with("contact-versions[1]@1: "), "{:?}", evidence.unreadable);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_transaction_is_not_waited_for_beyond_patience() {
        let names = TopicNames::new("");
        let log = log(&names).await;
        let mut reader = Reader::open(&log, &[INPUT.into()], &names).await.unwrap();
        let records = vec![record(&names.versions, "k", entry().encode())];
        let mut writer = log.writer("slow").await.unwrap();
        writer.prepare(Transaction { records, offsets: None }).await.unwrap();
        let error = reader.catch_up(&log, PATIENCE).await.unwrap_err();
        assert!(matches!(error, ReadError::Deadline { position: 0, .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_is_missing_is_named() {
        let log = LocalLog::new(Settings::default(), Clock::simulated(Timestamp::UNIX_EPOCH));
        let error = Reader::open(&log, &[INPUT.into()], &TopicNames::new("")).await.unwrap_err();
        assert!(matches!(error, LogError::UnknownTopic { topic } if &*topic == INPUT));
    }

    #[derive(Debug)]
    struct Nothing;

    impl Expectation for Nothing {
        fn kind(&self) -> CrmKind {
            CrmKind::Priava
        }

        fn of(&self, _: &ContactRecord, _: bool) -> Option<Fields> {
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_books_of_a_sandbox_can_be_read() {
        let faults = FaultPlan::at(1, Fault::retry_after(429, 3));
        let settings = SandboxSettings {
            log_bodies: true,
            latency: Duration::from_millis(7),
            faults,
            ..SandboxSettings::default()
        };
        let sandbox = Sandbox::new(settings).unwrap();
        let contact = json!({"externalIntegrationId": "c-1", "firstName": "Ada", "lastName": "Roth", "title": null,
            "email": "ada@example.com", "mobile": "1", "inactive": false, "postalAddress": {"suburb": "Glebe"}});
        for _ in 0..2 {
            let request = http::Request::post("/api/rest/v1/crm/contacts")
                .header("content-type", "application/json")
                .header("APIToken", "sandbox-token")
                .body(bytes::Bytes::from(contact.to_string()))
                .unwrap();
            sandbox.handle(request).await.unwrap();
        }
        let page = async |name: &str| {
            let request = http::Request::get(format!("/_sandbox/{name}")).body(bytes::Bytes::new()).unwrap();
            sandbox.handle(request).await.unwrap().into_body()
        };
        let (contacts, requests) = (page("contacts").await, page("requests").await);
        let books = CrmEvidence::read("venues", &contacts, &requests, Arc::new(Nothing)).unwrap();

        let expected = normal(match contact {
            Value::Object(members) => members,
            _ => unreachable!("built as an object"),
        });
        assert_eq!(expected.len(), 6, "neither what is empty nor a false that means nothing: {:?}", expected.keys());
        assert_eq!(expected.get("postalAddress.suburb"), Some(&json!("Glebe")));
        assert_eq!(
            books.stored,
            [Stored {
                remote_id: books.stored[0].remote_id.clone(),
                external_id: Some("c-1".to_owned()),
                fields: expected.clone()
            }]
        );
        let [refused, accepted] = books.calls.as_slice() else { panic!("two calls: {:?}", books.calls) };
        assert_eq!(
            (refused.status, refused.retry_after, refused.effect),
            (Some(429), Some(Duration::from_secs(3)), None)
        );
        assert!(!refused.was_accepted() && accepted.was_accepted());
        assert_eq!((accepted.effect, accepted.fields.as_ref()), (Some(1), Some(&expected)));
        assert!(refused.ended.unwrap() <= accepted.arrived && accepted.ended.unwrap() > accepted.arrived);
    }
}
