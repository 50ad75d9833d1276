//! The trail on a log in memory.

use std::net::Ipv4Addr;

use super::*;
use crate::log::{
    Cleanup, Record, TopicSpec,
    local::{Faults, LocalLog, Point, Settings, Verdict},
};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn operator(by: Option<&str>, reason: Option<&str>) -> Result<Operator, AuditError> {
    Operator::new(by, reason, Authentication::Loopback, HERE)
}

async fn log() -> LocalLog {
    let log = LocalLog::new(Settings::default(), Clock::System);
    let spec = |name: &str| TopicSpec {
        name: name.into(),
        partitions: 1,
        cleanup: Cleanup::Delete { after: Duration::from_secs(3600) },
        message_bytes_max: 1 << 20,
    };
    log.ensure_topics(&[spec("audit"), spec("work")]).await.unwrap();
    log
}

fn trail(log: &LocalLog) -> Trail {
    Trail::new(Arc::new(log.clone()), "audit".into(), "ours".into(), "w0".into(), Clock::System)
}

fn work() -> NewRecord {
    let to = TopicPartition::new("work", 0);
    NewRecord { to, key: Some("k".into()), value: Some("v".into()), headers: Vec::new() }
}

/// All committed records of a topic.
async fn read(log: &LocalLog, topic: &str) -> Vec<Record> {
    let at = TopicPartition::new(topic, 0);
    let mut follower = log.follower().await.unwrap();
    follower.assign(at.clone(), 0).await.unwrap();
    let end = log.watermarks(&at).await.unwrap().high;
    let (mut records, mut position) = (Vec::new(), 0);
    while position < end {
        let progress = follower.poll(100, Duration::from_secs(1)).await.unwrap();
        records.extend(progress.records);
        position = progress.positions.last().map_or(position, |(_, position)| *position);
    }
    records
}

#[tokio::test(start_paused = true)]
async fn an_action_and_its_audit_are_there_together() {
    let log = log().await;
    let ann = operator(Some(" ann "), Some("a ticket")).unwrap();
    trail(&log).act(&ann, Action::Pause, Target::default(), vec![work()]).await.unwrap();
    assert_eq!(read(&log, "work").await.len(), 1);
    let told = read(&log, "audit").await;
    assert_eq!(told.len(), 1);
    let data: serde_json::Value = serde_json::from_slice(told[0].value.as_ref().unwrap()).unwrap();
    assert_eq!((&data["by"], &data["reason"], &data["peer"]), (&"ann".into(), &"a ticket".into(), &"127.0.0.1".into()));
}

#[tokio::test(start_paused = true)]
async fn who_says_no_name_or_no_reason_where_one_is_needed_does_nothing() {
    let log = log().await;
    let trail = trail(&log);
    for (by, reason, action, refused) in [
        (None, Some("r"), Action::Pause, true),
        (None, None, Action::Resume, true),
        (Some("ann"), None, Action::Pause, true),
        (Some("ann"), None, Action::Resume, false),
    ] {
        let before = read(&log, "work").await.len();
        let done = trail.act(&operator(by, reason).unwrap(), action, Target::default(), vec![work()]).await;
        assert_eq!(done.is_err(), refused, "{by:?} {reason:?} {action}");
        assert_eq!(read(&log, "work").await.len() - before, usize::from(!refused));
    }
}

#[test]
fn names_and_reasons_are_plain_text_of_bounded_length() {
    let long = |length: usize| "ä".repeat(length);
    for (by, reason, fits) in [
        (long(NAME_LENGTH_MAX), long(REASON_LENGTH_MAX), true),
        (long(NAME_LENGTH_MAX + 1), "r".to_owned(), false),
        ("ann".to_owned(), long(REASON_LENGTH_MAX + 1), false),
        (" ".to_owned(), "r".to_owned(), false),
        ("ann".to_owned(), "a\nforged line".to_owned(), false),
        ("an\u{1b}[31mn".to_owned(), "r".to_owned(), false),
    ] {
        let made = operator(Some(&by), Some(&reason));
        assert_eq!(made.is_ok(), fits, "{by} {reason}");
        assert!(!format!("{made:?}").contains("forged"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_certainly_not_written_is_tried_again_and_what_is_unknown_is_said_to_be() {
    for (verdict, done, written) in [
        (Verdict::FailAborted, true, 1),
        (Verdict::Refused, true, 1),
        (Verdict::UnknownButCommitted, false, 1),
        (Verdict::UnknownAndAborted, false, 0),
    ] {
        let log = log().await;
        // The first commit only.
        let once = parking_lot::Mutex::new(Some(verdict));
        let faults = move |point: Point, _: &str| match point {
            Point::BeforeCommit => once.lock().take().unwrap_or(Verdict::Proceed),
            _ => Verdict::Proceed,
        };
        log.set_faults(Some(Arc::new(faults) as Arc<dyn Faults>));
        let ann = operator(Some("ann"), None).unwrap();
        let ended = trail(&log).act(&ann, Action::Resume, Target::default(), vec![work()]).await;
        assert_eq!(ended.is_ok(), done, "{ended:?}");
        // Nothing is left open, so that a reader comes to the end at once.
        let (worked, told) = (read(&log, "work").await.len(), read(&log, "audit").await.len());
        assert_eq!((worked, told), (written, written));
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_was_fenced_is_opened_anew() {
    let log = log().await;
    let trail = trail(&log);
    let ann = operator(Some("ann"), None).unwrap();
    trail.act(&ann, Action::Resume, Target::default(), vec![work()]).await.unwrap();
    drop(log.writer(&format!("{}w0", writer_prefix("ours"))).await.unwrap());
    trail.act(&ann, Action::Resume, Target::default(), vec![work()]).await.unwrap();
    assert_eq!(read(&log, "work").await.len(), 2);
}
