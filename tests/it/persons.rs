//! Who is who, while the resolver dies: several sources know the same people by other ids, and the contacts at the end are
//! the persons, whoever decided and however often it was decided again.
//!
//! A few people, each known to three sources, whose names and addresses are written differently everywhere; and two of
//! one family who share a mailbox, who must stay two. Every step of the resolver is broken by a death, once with the
//! same worker started again and once with another that takes over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use contact_replicator::{
    cli::demo::evidence::Evidence,
    config::TopicNames,
    contact::{ContactId, record::MemberRef},
    log::{Log, NewRecord, TopicPartition, local::Point},
};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::{Value, json};

use crate::{
    history::event,
    invariants,
    scene::{Scene, play},
    world::{Break, Moment, PARTITIONS, RESOLVER_GROUP, Setup, World},
};

const PEOPLE: usize = 3;
/// The two who share a mailbox, behind all others.
const FAMILY: usize = 2;
const SOURCES: [&str; 3] = ["/shop", "/erp", "/web"];
const POINTS: [Point; 3] = [Point::BeforePrepare, Point::BeforeCommit, Point::AfterCommit];
/// A death is carried out before its worker does anything more.
const LOOKED_AT: Duration = Duration::from_millis(10);

/// What one source says of one person, and whom it means.
#[derive(Debug, Clone)]
struct Said {
    person: usize,
    member: MemberRef,
    record: NewRecord,
}

/// Everything that is said, in an order of its own for each seed: each person by each source, twice.
fn said(seed: u64) -> Vec<Said> {
    let mut all = Vec::new();
    for person in 0..PEOPLE + FAMILY {
        let is_family = person >= PEOPLE;
        for (number, source) in SOURCES.iter().enumerate().take(if is_family { 1 } else { SOURCES.len() }) {
            // Of those who share a mailbox each is known to another source.
            let source = if is_family { SOURCES[person - PEOPLE] } else { source };
            let subject = format!("{}-{person}", source.trim_start_matches('/'));
            for time in 1..=2 {
                let record = event(
                    source,
                    &subject,
                    &format!("{subject}-{time}"),
                    "contact.updated",
                    time,
                    Some(document(person, number, time)),
                );
                let member = MemberRef { source: source.into(), subject: subject.as_str().into() };
                all.push(Said { person, member, record });
            }
        }
    }
    all.shuffle(&mut StdRng::seed_from_u64(seed));
    // What one source says of one subject it says in order.
    all.sort_by_key(|said| said.record.headers.iter().any(|header| header.value.as_ref() == b"2"));
    all
}

/// A person as the `number`th source writes it.
fn document(person: usize, number: usize, time: u64) -> Value {
    const GIVEN: [&str; PEOPLE + FAMILY] = ["Ann", "Zoë", "Łukasz", "Jonas", "Maja"];
    let given = GIVEN[person];
    let given = [given.to_owned(), given.to_uppercase(), given.chars().take(1).collect()][number].clone();
    let (mailbox, family) =
        if person >= PEOPLE { (PEOPLE, "Weiss".to_owned()) } else { (person, format!("F{person}")) };
    let address = format!("person.{mailbox}@example.com");
    let address = [address.clone(), address.to_uppercase(), format!(" <{address}>")][number].clone();
    json!({
        "name": { "givenName": given, "familyName": family },
        "emails": [{ "value": address }],
        "phoneNumbers": [{ "value": format!("+4144668180{person}"), "type": "mobile" }],
        "organization": { "title": format!("t{time}") },
    })
}

/// The source records of each live contact.
fn contacts(evidence: &Evidence) -> BTreeMap<ContactId, BTreeSet<MemberRef>> {
    let mut contacts = BTreeMap::new();
    for record in &evidence.records {
        let members = record.members.iter();
        let members =
            members.map(|member| MemberRef { source: member.source.clone(), subject: member.subject.clone() });
        contacts.insert(record.contact_id, members.collect());
    }
    contacts
}

/// The identity events, by their ids: pairs of contacts that are in conflict.
async fn conflicts(world: &World) -> Vec<(String, BTreeSet<String>)> {
    let topic = TopicNames::new(&world.settings.topics.prefix).identity_events;
    let mut follower = world.log.follower().await.expect("the log in memory is there");
    let mut found = Vec::new();
    for partition in 0..PARTITIONS {
        let at = TopicPartition::new(topic.clone(), partition);
        let Ok(bounds) = world.log.watermarks(&at).await else { continue };
        follower.assign(at.clone(), bounds.low).await.expect("the low end exists");
        loop {
            let progress = follower.poll(1_000, Duration::from_secs(1)).await.expect("the follower reads on");
            if progress.positions.is_empty() {
                break;
            }
            for record in progress.records {
                let header = |name: &str| {
                    let header = record.headers.iter().find(|header| header.name == name);
                    header.map(|header| String::from_utf8_lossy(&header.value).into_owned())
                };
                if header("ce_type").as_deref() == Some("contact.identity.conflict") {
                    let data: Value = serde_json::from_slice(&record.value.expect("a value")).expect("JSON");
                    let of = |name: &str| data[name].as_str().expect("an id").to_owned();
                    let pair = BTreeSet::from([of("contact_id"), of("other_contact_id")]);
                    found.push((header("ce_id").expect("every event has an id"), pair));
                }
            }
        }
        follower.unassign(&at).await.expect("it was assigned");
    }
    found
}

/// Plays the seed with the resolver dying at its `strike`th pass of `point`, and returns whether it did.
async fn persons_stay_who_they_are(seed: u64, point: Point, strike: usize, by_another: bool) -> bool {
    let world = World::of(Setup { seed, workers: 2, ..Setup::default() }).await;
    let passed = AtomicUsize::new(0);
    world.fate.follow(move |moment| {
        let is_here = matches!(moment, Moment::Transaction { writer: RESOLVER_GROUP, point: here } if here == point);
        (is_here && passed.fetch_add(1, Ordering::Relaxed) == strike).then_some(Break::Die)
    });
    let mut scene = Scene::begin_with(world, &[0]).await;
    let story = format!("seed {seed}, death {strike} at {point:?}, by another {by_another}");
    let mut deaths = 0;
    let all = said(seed);
    for said in &all {
        scene.world.publish(vec![said.record.clone()]).await;
        for _ in 0..3 {
            tokio::time::sleep(LOOKED_AT).await;
            let dead = scene.world.bury().await;
            if dead > 0 {
                scene.world.start(usize::from(by_another));
            }
            deaths += dead;
        }
    }
    let evidence = scene.settled_as_promised(4).await;

    let mut persons: BTreeMap<usize, BTreeSet<MemberRef>> = BTreeMap::new();
    for said in &all {
        persons.entry(said.person).or_default().insert(said.member.clone());
    }
    let contacts = contacts(&evidence);
    let found: BTreeSet<_> = contacts.values().cloned().collect();
    assert_eq!(found, persons.values().cloned().collect(), "{story}: contacts equal persons");
    assert_eq!(contacts.len(), persons.len(), "{story}: nobody is two contacts");

    let conflicts = conflicts(&scene.world).await;
    let ids: BTreeSet<_> = conflicts.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), conflicts.len(), "{story}: no conflict is told twice");
    let family = contacts
        .iter()
        .filter(|(_, members)| (PEOPLE..PEOPLE + FAMILY).any(|person| persons.get(&person) == Some(members)));
    let family: BTreeSet<String> = family.map(|(contact, _)| contact.key()).take(FAMILY).collect();
    let pairs: BTreeSet<_> = conflicts.into_iter().map(|(_, pair)| pair).collect();
    assert_eq!(pairs, BTreeSet::from([family]), "{story}: those who share a mailbox are told, and nobody else");
    let links = invariants::links(&scene.world).await;
    assert_eq!(links.len(), persons.len(), "{story}: one link for each");
    deaths > 0
}

/// Plays until no death comes any more, because the resolver is done before.
fn at_every_step(by_another: bool) {
    let mut died = 0;
    for point in POINTS {
        for strike in 0.. {
            let mut dead = false;
            play(async {
                dead = Box::pin(persons_stay_who_they_are(strike as u64 % 5, point, strike, by_another)).await;
            });
            died += usize::from(dead);
            if !dead {
                break;
            }
        }
    }
    assert!(died >= 3 * (PEOPLE * SOURCES.len()), "only {died} deaths");
}

#[test]
fn contacts_equal_persons_whenever_the_resolver_dies_and_comes_back() {
    at_every_step(false);
}

#[test]
fn contacts_equal_persons_whenever_another_resolver_takes_over() {
    at_every_step(true);
}
