//! Carries out a script: each fault in a task of its own, written down with its beginning and its end.
//!
//! A fault that comes late, because what it is about is still being mended, waits for it: whoever does something to a
//! process or to the broker holds it. Whether a worker becomes ready again is not waited for: while other faults go on, it
//! may not.

use std::{fs, path::Path, sync::Arc, time::Duration};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    crm_line::Condition,
    history::What,
    proxy::Moment,
    script::{Fault, Kind, Script},
    world::{REQUEST_DEADLINE, Seat, World, name_of},
};

/// How long a commit may be waited for that is to be cut. A worker that owns nothing has none.
const COMMIT_WITHIN: Duration = Duration::from_secs(5);
/// Between two steps of a storm.
const STEP: Duration = Duration::from_millis(2_500);

/// Returns when all that was to happen has happened, and is mended.
pub(crate) async fn carry_out(world: &World, script: &Script, begun: Instant) {
    let all = script.faults.iter().map(async |fault| {
        tokio::time::sleep_until(begun + fault.at).await;
        carry_out_one(world, fault).await;
    });
    join_all(all).await;
}

async fn carry_out_one(world: &World, fault: &Fault) {
    let lasts = fault.lasts;
    match fault.kind {
        Kind::Kill | Kind::ViewDeleted | Kind::ViewTorn => kill(world, fault).await,
        Kind::Freeze => freeze(world, &world.seats[fault.whom], lasts).await,
        Kind::Storm => storm(world, fault).await,
        Kind::BrokerStop => {
            let second = world.brokers.second().await;
            let doing = world.recorder.begin(What::BrokerRestarted);
            world.brokers.restart(second, lasts).await;
            doing.end();
        }
        Kind::BrokerKill => {
            let second = world.brokers.second().await;
            let doing = world.recorder.begin(What::BrokerKilled);
            world.brokers.crash(second, lasts).await;
            doing.end();
        }
        Kind::BrokerDelay | Kind::BrokerCut => trouble_line(world, fault).await,
        Kind::CommitCut => cut_in_commit(world, fault).await,
        Kind::CrmCut => {
            let seat = &world.seats[fault.whom];
            let doing = world.recorder.begin(What::CrmCut { worker: Arc::clone(&seat.worker) });
            seat.lines.iter().for_each(|line| line.set(Condition::Refused));
            tokio::time::sleep(lasts).await;
            seat.lines.iter().for_each(|line| line.set(Condition::Open));
            doing.end();
        }
        Kind::CrmRefused | Kind::CrmSilent => {
            let what = What::CrmDown { crm: name_of(crate::kinds()[fault.whom]) };
            let doing = world.recorder.begin(what);
            let condition = if fault.kind == Kind::CrmRefused { Condition::Refused } else { Condition::Silent };
            world.set_lines_to(fault.whom, condition);
            tokio::time::sleep(lasts).await;
            world.set_lines_to(fault.whom, Condition::Open);
            doing.end();
        }
        Kind::CrmDown | Kind::Throttled | Kind::AnswersLost | Kind::AnswersLate => misbehave(world, fault).await,
    }
}

/// A crash, with what may happen to the folder of the view while nobody runs.
async fn kill(world: &World, fault: &Fault) {
    let seat = &world.seats[fault.whom];
    let mut running = seat.running.lock().await;
    world.kill(seat, &mut running).await;
    let (worker, view) = (Arc::clone(&seat.worker), world.data(&seat.worker).join("view"));
    // One that was started without a broker has none yet.
    match fault.kind {
        Kind::ViewDeleted if view.exists() => {
            world.recorder.begin(What::ViewDeleted { worker }).end();
            fs::remove_dir_all(view).unwrap();
        }
        Kind::ViewTorn if view.exists() => {
            world.recorder.begin(What::ViewTorn { worker }).end();
            tear(&view, fault.draw);
        }
        _ => {}
    }
    tokio::time::sleep(fault.lasts).await;
    world.start(seat, &mut running);
}

/// Cuts a file short, as a host that loses power may leave it: any but the smallest, at any place.
fn tear(folder: &Path, draw: u64) {
    let mut files = Vec::new();
    list(folder, &mut files);
    files.sort();
    if files.is_empty() {
        return;
    }
    let path = &files[usize::try_from(draw % files.len() as u64).unwrap()];
    let file = fs::File::options().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length * (draw % 97) / 97).unwrap();
}

fn list(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, files);
        } else if path.metadata().unwrap().len() > 0 {
            files.push(path);
        }
    }
}

async fn freeze(world: &World, seat: &Seat, lasts: Duration) {
    let running = seat.running.lock().await;
    let Some(frozen) = running.as_ref() else { return };
    let doing = world.recorder.begin(What::Frozen { worker: Arc::clone(&seat.worker) });
    frozen.process.signal("STOP");
    tokio::time::sleep(lasts).await;
    frozen.process.signal("CONT");
    doing.end();
}

/// One comes, one goes, one comes back, the first goes: and so on until the time is over.
async fn storm(world: &World, fault: &Fault) {
    let (regular, newcomer) = (&world.seats[fault.whom], &world.seats[world.shape.workers]);
    let ends = Instant::now() + fault.lasts;
    for (step, seat) in [newcomer, regular].into_iter().cycle().enumerate() {
        if Instant::now() >= ends {
            break;
        }
        let mut running = seat.running.lock().await;
        // The newcomer comes first, the other is there.
        if step / 2 % 2 == usize::from(std::ptr::eq(seat, regular)) {
            world.start(seat, &mut running);
        } else {
            world.stop(seat, &mut running).await;
        }
        drop(running);
        tokio::time::sleep(STEP).await;
    }
    let mut running = newcomer.running.lock().await;
    world.stop(newcomer, &mut running).await;
    drop(running);
    world.start(regular, &mut *regular.running.lock().await);
}

async fn trouble_line(world: &World, fault: &Fault) {
    let (seat, lines) = (&world.seats[fault.whom], &world.brokers.lines);
    let (worker, client_id) = (Arc::clone(&seat.worker), world.client_id(seat));
    let doing = if fault.kind == Kind::BrokerCut {
        let doing = world.recorder.begin(What::BrokerCut { worker });
        lines.cut(&client_id);
        doing
    } else {
        let by = Duration::from_millis(50 + fault.draw % 250);
        let doing = world.recorder.begin(What::BrokerDelayed { worker, by });
        lines.delay(&client_id, by);
        doing
    };
    tokio::time::sleep(fault.lasts).await;
    lines.mend(&client_id);
    doing.end();
}

async fn cut_in_commit(world: &World, fault: &Fault) {
    let (seat, lines) = (&world.seats[fault.whom], &world.brokers.lines);
    let client_id = world.client_id(seat);
    let moments = [Moment::BeforeTheEnd, Moment::AfterTheEnd, Moment::AfterTheOffsets, Moment::AfterTheRecords];
    let moment = moments[(fault.draw % moments.len() as u64) as usize];
    let cut = lines.cut_at(&client_id, moment);
    if tokio::time::timeout(COMMIT_WITHIN, cut).await.is_ok_and(|cut| cut.is_ok()) {
        let doing = world.recorder.begin(What::CommitCut { worker: Arc::clone(&seat.worker) });
        tokio::time::sleep(fault.lasts).await;
        lines.mend(&client_id);
        doing.end();
    } else {
        lines.mend(&client_id);
        world.recorder.say(&format!("{} had no commit to be cut", seat.worker));
    }
}

/// What a CRM does wrong of itself.
async fn misbehave(world: &World, fault: &Fault) {
    let kind = crate::kinds()[fault.whom];
    let crm = name_of(kind);
    let patience = Duration::from_secs(1 + fault.draw % 2);
    let text = |duration: Duration| format!("{}ms", duration.as_millis());
    let status =
        |status: u16, headers: Value| json!({ "instead": { "kind": "status", "status": status, "headers": headers } });
    let chance =
        |probability: f64, fault: Value| json!({ "chances": [{ "probability": probability, "fault": fault }] });
    let (what, plan) = match fault.kind {
        Kind::Throttled => {
            let refusal = status(429, json!({ "retry-after": patience.as_secs().to_string() }));
            (What::CrmThrottled { crm, patience }, chance(0.1, refusal))
        }
        Kind::AnswersLost => {
            let lost = json!({ "instead": { "kind": "reset_after" } });
            (What::AnswersLost { crm }, chance(0.2, lost))
        }
        Kind::AnswersLate => {
            // The effect comes well within the deadline, which is what is asked of a CRM; the answer does not.
            let before = if fault.draw.is_multiple_of(2) { REQUEST_DEADLINE / 4 } else { Duration::ZERO };
            let late = json!({ "delay_before": text(before), "delay_after": text(REQUEST_DEADLINE) });
            (What::AnswersLost { crm }, chance(0.1, late))
        }
        _ => (What::CrmDown { crm }, chance(1.0, status(503, json!({})))),
    };
    let doing = world.recorder.begin(what);
    world.misbehave(kind, &plan).await;
    tokio::time::sleep(fault.lasts).await;
    world.misbehave(kind, &json!({})).await;
    doing.end();
}
