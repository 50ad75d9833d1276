//! Single stages of the pipeline, without a CRM: where its ceiling is when the CRM is not.

use std::{cell::RefCell, collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use contact_replicator::{
    clock::Clock,
    config::Settings,
    contact::{ContactId, ContactRecord},
    event::change::{self, Rules},
    identity::{
        self, Context, Decision, Known, Policy,
        keys::{KeyEntry, KeyHash},
    },
    log::{NewRecord, Record, TopicPartition},
    metrics::{Metrics, Registry},
    privacy::Hasher,
    view::{View, follower::Follower},
};
use contact_replicator::{config::TopicNames, log::Log};
use tokio::sync::oneshot;

use crate::{
    Measured, Wanted, Watch, events,
    load::{Contacts, PARTITIONS},
    world::{self, Worker},
};

const DECIDE: &str = "read and decide (one thread)";
const RESOLVE: &str = "resolver and view";
const FOLLOW: &str = "view, records applied anew";

pub(crate) async fn measure(wanted: &Wanted) -> Vec<Measured> {
    let contacts = Contacts::Zipf { among: 20_000 }.draw(wanted.size(30_000, 100_000));
    let events = events(&contacts);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = world::settings("http://127.0.0.1:1", 1, &folder);
    let mut measured = Vec::new();
    if wanted.wants(DECIDE) {
        measured.push(decide(&settings, &events));
    }
    if wanted.wants(RESOLVE) || wanted.wants(FOLLOW) {
        let log = world::log().await;
        measured.push(resolve(settings.clone(), &log, events).await);
        measured.push(follow(&settings, &log).await);
    }
    measured
}

/// What was decided so far, all of it in memory.
#[derive(Default)]
struct Remembered {
    keys: RefCell<HashMap<KeyHash, Arc<KeyEntry>>>,
    records: RefCell<HashMap<ContactId, Arc<ContactRecord>>>,
}

impl Known for Remembered {
    type Error = Infallible;

    fn key(&self, key: KeyHash) -> Result<Option<Arc<KeyEntry>>, Infallible> {
        Ok(self.keys.borrow().get(&key).cloned())
    }

    fn record(&self, contact: ContactId) -> Result<Option<Arc<ContactRecord>>, Infallible> {
        Ok(self.records.borrow().get(&contact).cloned())
    }
}

impl Remembered {
    fn remember(&self, decision: Decision) {
        self.keys.borrow_mut().extend(decision.keys.into_iter().map(|new| (new.hash, new.entry)));
        let records = decision.records.into_iter().map(|new| (new.record.contact_id, new.record));
        self.records.borrow_mut().extend(records);
    }
}

/// Reading and deciding alone, one event after the other.
fn decide(settings: &Settings, events: &[NewRecord]) -> Measured {
    let now = Clock::System.now();
    let context = Context {
        epoch: 1,
        now,
        hasher: Hasher::new(settings.identity.secret.as_ref().expect("the settings hold a secret")),
        source_priority: Arc::new([]),
        policy: Arc::new(Policy::new(&settings.identity, &settings.source)),
    };
    let rules = Rules::new(&settings.input, &settings.source);
    let known = Remembered::default();
    let watch = Watch::start(None);
    for (offset, new) in (0..).zip(events.iter().cloned()) {
        let NewRecord { to, key, value, headers } = new;
        let record = Record { at: to, offset, timestamp: now, key, value, headers };
        let change = change::read(&record, &rules, now).expect("the load is made of good events");
        let Ok(decision) = identity::resolve(&change, &known, &context);
        known.remember(decision);
    }
    watch.stop(DECIDE, events.len(), None)
}

/// A worker without any CRM: resolver, log, and the view behind it.
async fn resolve(
    mut settings: Settings,
    log: &contact_replicator::log::local::LocalLog,
    events: Vec<NewRecord>,
) -> Measured {
    settings.crm.clear();
    let worker = Worker::start(settings, log.clone()).await;
    let count = events.len();
    let watch = Watch::start(None);
    worker.publish(events).await;
    worker.counts("events_read_total", count).await;
    let measured = watch.stop(RESOLVE, count, None);
    worker.stop().await;
    measured
}

/// Builds a view from nothing out of what the resolver wrote.
async fn follow(settings: &Settings, log: &contact_replicator::log::local::LocalLog) -> Measured {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = Registry::new();
    let metrics = Metrics::new(&registry, &[]).expect("the registry is empty");
    let view = View::open(folder.path(), &settings.view, &settings.topics, Clock::System, &metrics)
        .expect("an empty folder can be opened");
    let (follower, _following) = Follower::new(
        view.clone(),
        Arc::new(log.clone()),
        &settings.view,
        &settings.topics,
        [],
        Clock::System,
        metrics,
    );
    let names = TopicNames::new(&settings.topics.prefix);
    let watch = Watch::start(None);
    let (stop, stopped) = oneshot::channel::<()>();
    let following = tokio::spawn(follower.run(async { stopped.await.unwrap_or(()) }));
    for topic in [names.keys, names.records] {
        for partition in 0..PARTITIONS {
            let at = TopicPartition::new(topic.clone(), partition);
            let end = log.watermarks(&at).await.expect("the topic is there").high;
            let reached = tokio::time::timeout(Duration::from_secs(120), view.reached(&at, end)).await;
            reached.expect("the view comes to the end in time").expect("the view can be written");
        }
    }
    let families = registry.gather();
    let applied = families.iter().find(|family| family.name().ends_with("view_applied_records_total"));
    let applied = applied.map_or(0.0, |family| family.get_metric()[0].get_counter().get_value());
    let measured = watch.stop(FOLLOW, applied as usize, None);
    drop(stop);
    following.await.expect("the follower does not panic").expect("the view can be written");
    measured
}
