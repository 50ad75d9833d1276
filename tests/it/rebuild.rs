//! The view is disposable: removed or damaged, it comes back from the log, and no CRM notices.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use contact_replicator::{
    config::TopicNames,
    log::{Log, TopicPartition},
    metrics::Metrics,
    view::{View, follower::Follower},
};

use crate::{
    scene::{Scene, change, play},
    world::{CRM, PARTITIONS, World},
};

const CONTACTS: u64 = 50;

async fn told(scene: &mut Scene) -> usize {
    for round in 1..=4 {
        scene
            .world
            .publish((0..CONTACTS).map(|n| change(&format!("s{n}"), round, &format!("N{round}"))).collect())
            .await;
        scene.settled().await;
    }
    scene.world.sandbox.requests().len()
}

/// Over all that a view holds once it has followed everything, links of all partitions included. `data` is the folder of
/// a worker that does not run, or an empty one.
async fn digest_at_the_end(world: &World, data: &Path) -> String {
    let (settings, metrics) = (&world.settings, Metrics::noop());
    let view = View::open(data, &settings.view, &settings.topics, world.clock, &metrics).expect("the view opens");
    let log: Arc<dyn Log> = Arc::new(world.log.clone());
    let (follower, following) =
        Follower::new(view.clone(), log, &settings.view, &settings.topics, [], world.clock, metrics);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(follower.run(async { stopped.await.unwrap_or(()) }));
    let names = TopicNames::new("");
    for partition in 0..PARTITIONS {
        following.start(CRM, partition).await.expect("the follower runs");
    }
    let keyed = (0..PARTITIONS).flat_map(|partition| {
        [names.keys.clone(), names.records.clone(), names.links(CRM)].map(|topic| TopicPartition::new(topic, partition))
    });
    for at in keyed.chain([TopicPartition::new(names.resolver.clone(), 0)]) {
        let end = world.log.watermarks(&at).await.expect("the topic exists").high;
        view.reached(&at, end).await.expect("the follower runs");
    }
    let digest = view.digest().expect("the view can be read");
    drop(stop);
    running.await.expect("the follower does not panic").expect("the follower ends in order");
    digest
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the view is a folder") {
        let entry = entry.expect("the view can be listed");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a file or a folder").is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

/// After a start: nothing is repeated, and the next change costs one call.
async fn goes_on_without_repeats(scene: &mut Scene, calls: usize, round: u64) -> usize {
    scene.world.publish(vec![change("s0", round, &format!("N{round}"))]).await;
    scene.settled_as_promised(0).await;
    assert_eq!(scene.world.sandbox.requests().len(), calls + 1, "one change, one call");
    calls + 1
}

#[test]
fn a_view_that_was_removed_comes_back_the_same_and_no_call_is_repeated() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        let calls = told(&mut scene).await;
        assert!(scene.world.stop(0).await);
        let view = scene.world.data(0).join("view");
        let kept = tempfile::tempdir().expect("a temporary folder");
        copy(&view, &kept.path().join("view"));
        fs::remove_dir_all(&view).expect("the view of a stopped worker is removed");

        scene.world.start(0);
        scene.ready(0).await;
        goes_on_without_repeats(&mut scene, calls, 5).await;
        assert!(scene.world.stop(0).await);
        let data = scene.world.data(0).to_owned();
        let rebuilt = digest_at_the_end(&scene.world, &data).await;
        assert_eq!(rebuilt, digest_at_the_end(&scene.world, kept.path()).await, "the one that was never removed");
        let empty = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(rebuilt, digest_at_the_end(&scene.world, empty.path()).await, "one read from the beginning");
    });
}

/// What happens to the files of a view, by name, and whether it must be noticed: of a file that ends early sled takes the
/// beginning, which is a view of an earlier time, data and positions together, so that following on mends it.
type Damage = (&'static str, bool, fn(&Path));

const DAMAGES: &[Damage] = &[
    ("the database cut in half", false, |view| {
        let file = fs::OpenOptions::new().write(true).open(view.join("db")).expect("the database");
        // Of what is written: the file ends with room for more.
        let bytes = fs::read(view.join("db")).expect("the database");
        let written = bytes.iter().rposition(|byte| *byte != 0).expect("it is not empty");
        file.set_len(written as u64 / 2).expect("it is cut");
    }),
    ("the database emptied", true, |view| {
        fs::File::create(view.join("db")).expect("the database");
    }),
    ("bytes turned over all through the database", true, |view| flip(&view.join("db"), 997)),
    ("the settings of sled lost", true, |view| fs::write(view.join("conf"), b"no settings").expect("a file")),
    ("the snapshots spoiled", true, |view| {
        let snapshots = files(view).into_iter().filter(|file| file.to_string_lossy().contains("snap"));
        snapshots.for_each(|file| flip(&file, 3));
        // Without one, sled reads the database itself.
        flip(&view.join("db"), 1_009);
    }),
];

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the view is a folder").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.is_file()).collect()
}

/// Turns over every `step`-th byte.
fn flip(path: &Path, step: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("the file");
    let length = file.metadata().expect("its length").len();
    for at in (step..length).step_by(usize::try_from(step).expect("a small step")) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("within the file");
        file.write_all_at(&[!byte[0]], at).expect("within the file");
    }
}

#[test]
fn a_damaged_view_is_rebuilt_by_itself_and_no_call_is_repeated() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        let mut calls = told(&mut scene).await;
        for ((name, must_be_noticed, damage), round) in DAMAGES.iter().zip(5..) {
            assert!(scene.world.stop(0).await);
            damage(&scene.world.data(0).join("view"));
            scene.world.start(0);
            scene.ready(0).await;
            let rebuilds = scene.world.metric(0, "view_rebuilds_total");
            assert!(rebuilds == 1.0 || !must_be_noticed, "{name}");
            calls = goes_on_without_repeats(&mut scene, calls, round).await;
            assert!(scene.world.stop(0).await);
            let data = scene.world.data(0).to_owned();
            let empty = tempfile::tempdir().expect("a temporary folder");
            let whole = digest_at_the_end(&scene.world, empty.path()).await;
            assert_eq!(digest_at_the_end(&scene.world, &data).await, whole, "{name}");
            scene.world.start(0);
        }
    });
}
