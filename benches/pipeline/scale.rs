//! Deciding, and following what was decided, over a view that is full of contacts.
//!
//! The view is filled once, by its own follower, with what the resolver and a replicator write about each contact: its
//! record, the keys of its source id and of its e-mail address, and its link. At each size some thousand events are
//! decided in batches as a term decides them, and each batch is then followed. Of the events 65 % change a title of a
//! contact drawn evenly (the hardest on any cache), 5 % an e-mail address too, 15 % come from a second source that
//! knows an address, and 15 % are about somebody new.
//!
//! The yardstick of deciding is the same events, read and decided the same way, with all that they look up in a map in
//! memory; that of following, the same bytes in the same batches put into a sled of their own that holds nothing else.
//! The second sled takes as much disk as the first, so it is left out beyond the first size.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    convert::Infallible,
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use contact_replicator::{
    clock::Clock,
    config::{Settings, SubjectForm, TopicNames},
    contact::{ContactId, ContactRecord, format::encode},
    crm::{
        Presence, REMOTE_CONTACT,
        link::{Link, Sent, Settled},
    },
    event::{
        Operation, OutcomeKind,
        change::{self, Change, Rules},
        outcome::Subjects,
    },
    identity::{
        self, Context, Decision, Known, Policy,
        keys::{KeyEntry, KeyHash},
    },
    log::{NewRecord, Record, TopicPartition, partition_of},
    metrics::Metrics,
    privacy::Hasher,
    protection::Protections,
    resolver::{self, rehearsal::Rehearsal},
    view::{Following, View, ViewError, follower::Follower},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_blocking},
    time::Instant,
};

use crate::{
    Measured, Wanted,
    feed::Feed,
    load::{PARTITIONS, Told, told},
    usage,
    world::{self, CRM},
};

const CONTACTS: usize = 100_000;
const CONTACTS_FULL: usize = 1_000_000;
/// Events decided at each size.
const EVENTS: usize = 20_000;
/// Contacts that are made and followed at once while the view is filled.
const FILL_AT_ONCE: usize = 2_000;
/// Events that come after the fill are newer than all of it.
const FIRST_NUMBER: usize = 100_000_000;
const SEED: u64 = 23;
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures and tells each size.
pub(crate) async fn measure(wanted: &Wanted) {
    let sizes = if wanted.full { &[CONTACTS, CONTACTS_FULL][..] } else { &[CONTACTS] };
    if !wanted.wants("scale") && !sizes.iter().any(|size| wanted.wants(&name("", *size))) {
        return;
    }
    let mut world = World::open().await;
    for (place, size) in sizes.iter().enumerate() {
        if place > 0 {
            world.bare = None;
        }
        world.fill(*size).await;
        world.decide(*size).await;
    }
    world.close().await;
}

fn name(what: &str, size: usize) -> String {
    format!("scale {}k {what}", size / 1_000)
}

/// What is followed.
struct World {
    view: View,
    feed: Feed,
    rules: Rules,
    context: Context,
    parts: resolver::Parts,
    topics: TopicNames,
    /// Contacts in the view.
    contacts: usize,
    /// The yardstick of the view.
    bare: Option<Bare>,
    folder: TempDir,
    follower: JoinHandle<Result<(), ViewError>>,
    stop: oneshot::Sender<()>,
    _following: Following,
}

/// A sled that is written to without any of the follower's work.
struct Bare {
    database: sled::Db,
    _folder: TempDir,
}

/// A record for the log, with the key that the view would give it.
struct Entry {
    record: NewRecord,
    key: Vec<u8>,
}

/// Time and processor time of something that is done in parts.
#[derive(Default)]
struct Sum {
    count: usize,
    took: Duration,
    processor: Duration,
}

impl Sum {
    fn add(&mut self, count: usize, begun: &Begun) {
        self.count += count;
        self.took += begun.at.elapsed();
        self.processor += usage::processor_time(std::process::id()) - begun.processor;
    }

    fn rate(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }

    fn tell(self, name: String, disk_mebibytes: Option<u64>, bare: Option<f64>) {
        let measured = Measured {
            name,
            events: self.count,
            took: self.took,
            calls: None,
            processor: self.processor,
            crm_processor: Duration::ZERO,
            peak_mebibytes: usage::peak_mebibytes(),
            disk_mebibytes,
        };
        measured.tell(bare);
    }
}

struct Begun {
    at: Instant,
    processor: Duration,
}

impl Begun {
    fn now() -> Self {
        Self { processor: usage::processor_time(std::process::id()), at: Instant::now() }
    }
}

impl World {
    async fn open() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = world::settings("http://127.0.0.1:1", 1, &folder);
        let view = open_view(&settings, &folder);
        let feed = Feed::default();
        let topics = TopicNames::new(&settings.topics.prefix);
        let (follower, following) = Follower::new(
            view.clone(),
            Arc::new(feed.clone()),
            &settings.view,
            &settings.topics,
            [],
            Clock::System,
            Metrics::default(),
        );
        let (stop, stopped) = oneshot::channel::<()>();
        let follower = tokio::spawn(follower.run(async { stopped.await.unwrap_or(()) }));
        for partition in 0..PARTITIONS {
            following.start(CRM, partition).await.expect("the follower runs");
            for topic in [&topics.keys, &topics.records] {
                let followed = view.reached(&TopicPartition::new(topic.clone(), partition), 0).await;
                followed.expect("the follower runs");
            }
        }
        let hasher = Hasher::new(settings.identity.secret.as_ref().expect("the settings hold a secret"));
        let policy = Arc::new(Policy::new(&settings.identity, &settings.source));
        let context = Context {
            epoch: 1,
            now: Clock::System.now(),
            hasher: hasher.clone(),
            source_priority: Arc::new([]),
            policy: policy.clone(),
        };
        let rules = Rules::new(&settings.input, &settings.source);
        let parts = resolver::Parts {
            worker: "bench".into(),
            static_membership: false,
            log: Arc::new(feed.clone()),
            view: view.clone(),
            clock: Clock::System,
            metrics: Metrics::default(),
            subjects: Subjects::new(SubjectForm::Plain, &hasher),
            traces: Default::default(),
            hasher,
            instance: settings.instance.clone(),
            topics: topics.clone(),
            inputs: Vec::new(),
            rules: Arc::new(rules.clone()),
            source_priority: Arc::new([]),
            policy,
            tell_identity_events: false,
            resyncs: Arc::new([]),
            shadows: BTreeSet::new(),
            settings: settings.resolver.clone(),
            protections: Protections::default(),
        };
        let bare = Some(Bare::open(settings.view.cache_bytes));
        let _following = following;
        Self { view, feed, rules, context, parts, topics, contacts: 0, bare, folder, follower, stop, _following }
    }

    async fn close(self) {
        drop((self.parts, self.stop));
        self.follower.await.expect("the follower does not panic").expect("the view can be written");
    }

    /// Brings the view to so many contacts, each known to one source and delivered once.
    async fn fill(&mut self, size: usize) {
        usage::reset_peak();
        let (mut ours, mut bare) = (Sum::default(), Sum::default());
        let mut next = self.founded(size);
        while let Some(making) = next.take() {
            let entries = making.await.expect("contacts are made without a panic");
            self.contacts = (self.contacts + FILL_AT_ONCE).min(size);
            // Nothing else is made while it is measured.
            self.follow(entries, &mut ours, &mut bare).await;
            next = self.founded(size);
        }
        let bare_rate = (bare.count > 0).then(|| bare.rate());
        if let Some(sled) = &self.bare {
            bare.tell(name("filled, sled alone", size), Some(usage::disk_mebibytes(sled._folder.path())), None);
        }
        ours.tell(name("filled, log records", size), Some(self.disk_mebibytes()), bare_rate);
    }

    /// Makes the next contacts, those after them up to `size`.
    fn founded(&self, size: usize) -> Option<JoinHandle<Vec<Entry>>> {
        let contacts = self.contacts..(self.contacts + FILL_AT_ONCE).min(size);
        if contacts.is_empty() {
            return None;
        }
        let (rules, context, topics) = (self.rules.clone(), self.context.clone(), self.topics.clone());
        Some(spawn_blocking(move || {
            let decisions: Vec<Decision> = contacts
                .map(|contact| {
                    let input = input(Told { source: "/shop", contact, number: contact, moved: false });
                    let change = change::read(&input, &rules, context.now).expect("the load is made of good events");
                    let Ok(decision) = identity::resolve(&change, &Remembered::default(), &context);
                    decision
                })
                .collect();
            written(&decisions, &topics)
        }))
    }

    /// Publishes entries and waits until the view has them; puts them into the yardstick too.
    async fn follow(&self, entries: Vec<Entry>, ours: &mut Sum, bare: &mut Sum) {
        let count = entries.len();
        if let Some(sled) = &self.bare {
            // In batches of the follower's size.
            let begun = Begun::now();
            for entries in entries.chunks(2_000) {
                sled.put(entries);
            }
            bare.add(count, &begun);
        }
        let records = entries.into_iter().map(|entry| entry.record).collect();
        let begun = Begun::now();
        for (at, end) in self.feed.publish(records) {
            let reached = tokio::time::timeout(PATIENCE, self.view.reached(&at, end)).await;
            reached.expect("the view comes to the end in time").expect("the view can be written");
        }
        ours.add(count, &begun);
    }

    fn disk_mebibytes(&self) -> u64 {
        usage::disk_mebibytes(self.folder.path())
    }

    async fn decide(&mut self, size: usize) {
        usage::reset_peak();
        let mut random = StdRng::seed_from_u64(SEED);
        let mut rehearsal = Rehearsal::new(&self.parts, self.context.epoch);
        let (mut read, mut decided, mut remembered) = (Sum::default(), Sum::default(), Sum::default());
        let (mut followed, mut bare) = (Sum::default(), Sum::default());
        let batch = self.parts.settings.batch_events_max;
        for first in (0..EVENTS).step_by(batch) {
            let inputs: Vec<Record> = (first..first + batch)
                .map(|number| input(self.some(&mut random, size, FIRST_NUMBER + size + number)))
                .collect();

            let begun = Begun::now();
            let heard = rehearsal.read(inputs.clone());
            read.add(batch, &begun);

            let begun = Begun::now();
            let decisions = rehearsal.decide(heard, self.context.now).expect("the view can be read");
            decided.add(batch, &begun);

            let begun = self.remembered(&inputs, &decisions);
            remembered.add(batch, &begun);

            self.follow(written(&decisions, &self.topics), &mut followed, &mut bare).await;
            rehearsal.followed();
        }
        let bound = remembered.rate();
        read.tell(name("read, one thread", size), None, None);
        remembered.tell(name("decide, all in memory", size), None, None);
        decided.tell(name("decide, from the view", size), None, Some(bound));
        let bare_rate = (bare.count > 0).then(|| bare.rate());
        if bare_rate.is_some() {
            bare.tell(name("changed, sled alone", size), None, None);
        }
        followed.tell(name("changed, log records", size), Some(self.disk_mebibytes()), bare_rate);
    }

    /// The next event of the mix.
    fn some(&mut self, random: &mut StdRng, size: usize, number: usize) -> Told {
        let known = random.random_range(0..size);
        match random.random_range(0..100) {
            0..65 => Told { source: "/shop", contact: known, number, moved: false },
            65..70 => Told { source: "/shop", contact: known, number, moved: true },
            70..85 => Told { source: "/erp", contact: known, number, moved: false },
            _ => Told { source: "/shop", contact: number, number, moved: false },
        }
    }

    /// Decides the same with all that is known in memory, and holds the decisions to those that were made from the view.
    /// Returns when the second time began, in which nothing is looked up on a disk.
    fn remembered(&self, inputs: &[Record], decisions: &[Decision]) -> Begun {
        let read = |input| change::read(input, &self.rules, self.context.now).expect("the load is made of good events");
        let changes: Vec<Change> = inputs.iter().map(read).collect();
        let gathering = Gathering { view: &self.view, before: Remembered::default(), since: Remembered::default() };
        for (change, expected) in changes.iter().zip(decisions) {
            let decision = identity::resolve(change, &gathering, &self.context).expect("the view can be read");
            assert_eq!(decision, *expected, "where it is looked up changes no decision");
            gathering.since.remember(decision);
        }
        let known = gathering.before;
        let begun = Begun::now();
        for change in &changes {
            let Ok(decision) = identity::resolve(change, &known, &self.context);
            known.remember(decision);
        }
        begun
    }
}

fn open_view(settings: &Settings, folder: &TempDir) -> View {
    View::open(&folder.path().join("data"), &settings.view, &settings.topics, Clock::System, &Metrics::default())
        .expect("an empty folder can be opened")
}

impl Bare {
    fn open(cache_bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = sled::Config::new()
            .path(folder.path())
            .cache_capacity(cache_bytes)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(Some(1_000));
        Self { database: config.open().expect("an empty folder can be opened"), _folder: folder }
    }

    fn put(&self, entries: &[Entry]) {
        let mut batch = sled::Batch::default();
        for Entry { record, key } in entries {
            match &record.value {
                Some(value) => batch.insert(&key[..], value.as_ref()),
                None => batch.remove(&key[..]),
            }
        }
        self.database.apply_batch(batch).expect("the disk takes it");
    }
}

/// The input record with which `what` is told.
fn input(what: Told) -> Record {
    let NewRecord { to, key, value, headers } = told(what);
    let timestamp = Clock::System.now();
    Record { at: to, offset: what.number as u64, timestamp, key, value, headers }
}

/// What is published of decisions, and the links once they are delivered.
fn written(decisions: &[Decision], topics: &TopicNames) -> Vec<Entry> {
    let links = topics.links(CRM);
    let mut entries = Vec::new();
    let mut add = |topic: &Arc<str>, tag: u8, id: &[u8; 16], key: String, value: Option<bytes::Bytes>| {
        let to = TopicPartition::new(topic.clone(), partition_of(key.as_bytes(), PARTITIONS));
        let record = NewRecord { to, key: Some(key.into()), value, headers: Vec::new() };
        entries.push(Entry { record, key: [&[tag][..], id].concat() });
    };
    for new in newest(decisions.iter().flat_map(|decision| &decision.keys).map(|new| (new.hash, new))) {
        let value = (!new.entry.is_void()).then(|| encode(&*new.entry));
        add(&topics.keys, b'k', &new.hash.0, new.hash.key(), value);
    }
    let records = decisions.iter().flat_map(|decision| &decision.records);
    for new in newest(records.map(|new| (new.record.contact_id, new))) {
        let contact = new.record.contact_id;
        add(&topics.records, b'r', contact.0.as_bytes(), contact.key(), Some(new.encoded.clone()));
        add(&links, b'l', contact.0.as_bytes(), contact.key(), Some(encode(&link(&new.record))));
    }
    entries
}

/// The last value of each key.
fn newest<K: Hash + Eq + Copy, V>(values: impl DoubleEndedIterator<Item = (K, V)>) -> Vec<V> {
    let mut seen = HashSet::new();
    let mut newest: Vec<V> = values.rev().filter(|(key, _)| seen.insert(*key)).map(|(_, value)| value).collect();
    newest.reverse();
    newest
}

/// The link of a contact whose newest version was delivered.
fn link(record: &ContactRecord) -> Link {
    const FIELDS: [&str; 16] = [
        "address",
        "building",
        "department",
        "email",
        "externalIntegrationId",
        "firstName",
        "integrationSrc",
        "jobTitle",
        "lastName",
        "marketingOptOut",
        "mobile",
        "organisation",
        "organisationAddress",
        "phoneNumber",
        "postalAddress",
        "title",
    ];
    let sent = FIELDS.iter().zip(1_u64..).map(|(field, place)| {
        let hash = (record.version + place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (Arc::from(*field), Sent::Hash(hash))
    });
    let settled = Settled {
        version: record.version,
        outcome: OutcomeKind::Delivered,
        operation: Some(if record.version == 1 { Operation::Create } else { Operation::Update }),
        reason: None,
        attempts: 1,
    };
    let contact_id = record.contact_id;
    Link {
        remote_ids: BTreeMap::from([(REMOTE_CONTACT.to_owned(), contact_id.key())]),
        sent: sent.collect(),
        presence: Some(Presence::Active),
        settled: Some(settled),
        answered: record.version,
        ..Link::new(contact_id)
    }
}

/// Keys and records in memory. What is not there does not exist.
#[derive(Default)]
struct Remembered {
    keys: RefCell<HashMap<KeyHash, Option<Arc<KeyEntry>>>>,
    records: RefCell<HashMap<ContactId, Option<Arc<ContactRecord>>>>,
}

impl Remembered {
    fn remember(&self, decision: Decision) {
        self.keys.borrow_mut().extend(decision.keys.into_iter().map(|new| (new.hash, Some(new.entry))));
        let records = decision.records.into_iter().map(|new| (new.record.contact_id, Some(new.record)));
        self.records.borrow_mut().extend(records);
    }
}

impl Known for Remembered {
    type Error = Infallible;

    fn key(&self, key: KeyHash) -> Result<Option<Arc<KeyEntry>>, Infallible> {
        Ok(self.keys.borrow().get(&key).cloned().flatten())
    }

    fn record(&self, contact: ContactId) -> Result<Option<Arc<ContactRecord>>, Infallible> {
        Ok(self.records.borrow().get(&contact).cloned().flatten())
    }
}

/// Remembers what the view held before, and what was decided since.
struct Gathering<'a> {
    view: &'a View,
    before: Remembered,
    since: Remembered,
}

impl Known for Gathering<'_> {
    type Error = ViewError;

    fn key(&self, key: KeyHash) -> Result<Option<Arc<KeyEntry>>, ViewError> {
        if let Some(entry) = self.since.keys.borrow().get(&key) {
            return Ok(entry.clone());
        }
        let entry = self.view.key(key)?.map(Arc::new);
        self.before.keys.borrow_mut().insert(key, entry.clone());
        Ok(entry)
    }

    fn record(&self, contact: ContactId) -> Result<Option<Arc<ContactRecord>>, ViewError> {
        if let Some(record) = self.since.records.borrow().get(&contact) {
            return Ok(record.clone());
        }
        let record = self.view.record(contact)?.map(Arc::new);
        self.before.records.borrow_mut().insert(contact, record.clone());
        Ok(record)
    }
}
