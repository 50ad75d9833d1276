//! Dead letters that an operator lists, shows and sends in again, once what was wrong is mended.

use contact_replicator::{
    config::{Settings, SourceSettings},
    event::{OutcomeKind, ReasonCode},
    letters::{self, Filter, Letter, LettersError, Line, Now, Of, Order, Which},
    log::NewRecord,
};

use crate::{
    scene::{Scene, change, play},
    world::{World, operator},
};

async fn tell(world: &World, order: Order) -> Vec<Line> {
    let mut lines = letters::begin(world.desk(0), &order, &operator()).expect("the worker takes it");
    let mut told = Vec::new();
    while let Some(line) = lines.recv().await {
        assert!(!matches!(line, Line::Failed { .. }), "{line:?}");
        told.push(line);
    }
    assert!(matches!(told.last(), Some(Line::Ended { .. })));
    told
}

async fn list(world: &World, filter: Filter) -> Vec<Letter> {
    let lines = tell(world, Order::List { filter, limit: 100 }).await;
    lines.into_iter().filter_map(|line| if let Line::Letter(letter) = line { Some(letter) } else { None }).collect()
}

/// How many were meant and sent in.
async fn replay(world: &World, code: ReasonCode, (dry_run, undated, again): (bool, bool, bool)) -> (u64, u64) {
    let which = Which::Filter(Filter { code: Some(code), ..Filter::default() });
    let lines = tell(world, Order::Replay { which, dry_run, undated, again }).await;
    let Some(Line::Ended { found, replayed }) = lines.last() else { unreachable!("just seen") };
    (*found, *replayed)
}

fn source(uri: &str) -> SourceSettings {
    let name = uri.trim_start_matches('/').into();
    SourceSettings { uri: uri.into(), name, ..Settings::reference().source.remove(0) }
}

/// Without anything that orders it but its position.
fn undated(mut record: NewRecord) -> NewRecord {
    record.headers.retain(|header| header.name != "ce_sequence" && header.name != "ce_time");
    record
}

#[test]
fn what_died_of_a_setting_is_sent_in_again_once_and_what_would_fail_again_stays() {
    play(async {
        let mut world = World::new(1, 1).await;
        world.settings.source = vec![source("/erp")];
        world.settings.input.known_sources_only = true;
        let mut scene = Scene::begin(world).await;
        let mut torn = change("s2", 1, "Cid");
        torn.value = Some("{\"name\":".into());
        scene.world.publish(vec![change("s0", 1, "Ann"), undated(change("s1", 1, "Bob")), torn]).await;
        scene.settled().await;
        let known = Filter { code: Some(ReasonCode::UnknownSource), ..Filter::default() };
        let listed = list(&scene.world, known.clone()).await;
        assert!(
            !listed.is_empty() && listed.iter().all(|letter| matches!(letter.now, Now::Fails { .. })),
            "{listed:?}"
        );
        assert_eq!(replay(&scene.world, ReasonCode::UnknownSource, (false, true, true)).await.1, 0);

        // The source is listed now.
        assert!(scene.world.stop(0).await);
        scene.world.settings.source.push(source("/shop"));
        scene.world.start(0);
        scene.ready(0).await;
        let found = listed.len() as u64;
        assert_eq!(replay(&scene.world, ReasonCode::UnknownSource, (true, true, false)).await.0, found);
        let before = scene.evidence().await.outcomes.len();
        let (_, dated) = replay(&scene.world, ReasonCode::UnknownSource, (false, false, false)).await;
        let (_, rest) = replay(&scene.world, ReasonCode::UnknownSource, (false, true, false)).await;
        assert_eq!(rest, 1, "the one that only its position orders");
        assert!(dated >= 1);
        assert_eq!(replay(&scene.world, ReasonCode::UnknownSource, (false, true, false)).await.1, 0, "each once");
        let evidence = scene.settled().await;
        let delivered = evidence.outcomes[before..].iter().filter(|outcome| outcome.outcome == OutcomeKind::Delivered);
        assert_eq!(delivered.count(), 2, "each is a new event with an outcome of its own");
        let listed = list(&scene.world, known).await;
        assert!(listed.iter().filter(|letter| letter.now != Now::NoInput).any(|letter| letter.replayed), "{listed:?}");

        // Sent in again all the same, an event that was taken says nothing new.
        let (_, again) = replay(&scene.world, ReasonCode::UnknownSource, (false, false, true)).await;
        assert!(again >= 1);
        let evidence = scene.settled().await;
        let last = evidence.outcomes.last().expect("there are many").outcome;
        assert!(matches!(last, OutcomeKind::Duplicate | OutcomeKind::Stale | OutcomeKind::Quarantined), "{last}");
    });
}

#[test]
fn a_letter_is_shown_by_either_position_and_its_body_only_where_it_is_asked_for() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        let mut torn = change("s0", 1, "Ann");
        torn.value = Some("{\"name\":".into());
        scene.world.publish(vec![torn]).await;
        scene.settled().await;
        let [letter] = &list(&scene.world, Filter::default()).await[..] else { panic!("one letter") };
        assert_eq!((letter.code, letter.replayed), (ReasonCode::NotJson, false));
        for position in [letter.at.to_string(), letter.of.to_string()] {
            for body in [false, true] {
                let lines = tell(&scene.world, Order::Show { letter: position.clone(), body }).await;
                assert_eq!(lines.first(), Some(&Line::Letter(letter.clone())));
                let parts = lines.iter().filter(|line| matches!(line, Line::Part { of: Of::Value, .. })).count();
                assert_eq!(parts, usize::from(body), "{position}");
                assert!(!format!("{lines:?}").contains("Ann"));
            }
        }
        let nowhere = tell(&scene.world, Order::Show { letter: "contact-changes[0]@999".to_owned(), body: true }).await;
        assert_eq!(nowhere, [Line::Ended { found: 0, replayed: 0 }]);
        let all =
            Order::Replay { which: Which::Filter(Filter::default()), dry_run: true, undated: false, again: false };
        let refused = letters::begin(scene.world.desk(0), &all, &operator());
        assert!(matches!(refused, Err(LettersError::Nothing)));
    });
}
