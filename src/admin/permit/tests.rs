//! The door by itself: what it lets pass, and how it counts. Over a socket it is tried in `tests/it/admin.rs`.

use std::{fs, path::PathBuf};

use super::*;
use crate::config::Settings;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
const RIGHT: &str = "0123456789abcdef0123456789abcdef";

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 1).into()
}

fn elsewhere() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, 1).into()
}

fn guarded(file: PathBuf, change: impl FnOnce(&mut AdminSettings)) -> Access {
    let mut settings = Settings::reference().admin;
    settings.token_file = Some(file);
    settings.token = Some(Secret::new(RIGHT));
    change(&mut settings);
    Access::new(&settings)
}

fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    for (name, value) in of {
        headers.insert(*name, value.parse().unwrap());
    }
    headers
}

async fn status(door: &Door, uri: &str, of: &[(&'static str, &str)]) -> u16 {
    let admitted = door.admit(PEER, &uri.parse().unwrap(), &headers(of)).await;
    admitted.map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
}

#[tokio::test]
async fn on_loopback_only_names_of_this_machine_pass_and_no_web_page() {
    let door = Access::default().at(loopback());
    for (of, expected) in [
        (&[("host", "localhost")][..], 200),
        (&[("host", "LOCALHOST:9464")], 200),
        (&[("host", "127.0.0.1:9464")], 200),
        (&[("host", "127.8.0.1")], 200),
        (&[("host", "[::1]:9464"), ("content-type", "application/json; charset=utf-8")], 200),
        (&[("host", "example.com")], 403),
        (&[("host", "localhost.example.com")], 403),
        (&[("host", "127.0.0.1.example.com")], 403),
        (&[("host", "0.0.0.0:9464")], 403),
        (&[("host", "10.0.0.1")], 403),
        (&[("host", "")], 403),
        (&[], 403),
        (&[("host", "localhost"), ("origin", "http://localhost:9464")], 403),
        (&[("host", "localhost"), ("origin", "null")], 403),
        (&[("host", "localhost"), ("content-type", "text/plain")], 415),
        (&[("host", "localhost"), (OPERATOR, "%ff")], 400),
        (&[("host", "localhost"), (REASON, "a%0Ab")], 400),
    ] {
        assert_eq!(status(&door, "/explain", of).await, expected, "{of:?}");
    }
    for (uri, expected) in [("http://localhost:1/explain", 200), ("http://example.com/explain", 403)] {
        assert_eq!(status(&door, uri, &[("host", "localhost")]).await, expected, "{uri}");
    }
}

#[tokio::test]
async fn who_asks_is_told_with_the_question() {
    let door = Access::default().at(loopback());
    let of = headers(&[("host", "localhost"), (OPERATOR, "J%C3%BCrg"), (REASON, "100 %25")]);
    let operator = door.admit(PEER, &"/resync".parse().unwrap(), &of).await.unwrap();
    assert_eq!((operator.by(), operator.reason()), (Some("Jürg"), Some("100 %")));
    let nobody = door.admit(PEER, &"/resync".parse().unwrap(), &headers(&[("host", "localhost")])).await.unwrap();
    assert_eq!((nobody.by(), nobody.reason()), (None, None));
}

#[tokio::test]
async fn an_address_that_others_can_reach_answers_nobody_without_a_token_in_the_settings() {
    let refused = Access::default().at(elsewhere()).admit(PEER, &"/explain".parse().unwrap(), &headers(&[])).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.status, 403);
    assert!(refused.why.contains("admin.operator_listen") && refused.why.contains("admin.token_file"), "{refused:?}");
}

#[tokio::test]
async fn with_a_token_elsewhere_it_is_asked_for_and_on_loopback_where_the_settings_say_so() {
    let (right, longer) = (format!("Bearer {RIGHT}"), format!("Bearer {RIGHT}0"));
    let hosts = |settings: &mut AdminSettings| settings.hosts = vec!["worker.example.com".to_owned()];
    let access = guarded("/nowhere".into(), hosts);
    let door = access.at(elsewhere());
    for (of, expected) in [
        (&[("host", "10.0.0.7:9464"), ("authorization", right.as_str())][..], 200),
        (&[("host", "[fd00::7]:9464"), ("authorization", &right)], 200),
        (&[("host", "Worker.Example.com:1"), ("authorization", &right)], 200),
        (&[("host", "other.example.com"), ("authorization", &right)], 403),
        (&[("host", "10.0.0.7"), ("authorization", &right), ("origin", "http://10.0.0.7")], 403),
        (&[("host", "10.0.0.7")], 401),
        (&[("host", "10.0.0.7"), ("authorization", RIGHT)], 401),
        (&[("host", "10.0.0.7"), ("authorization", "Bearer ")], 401),
        (&[("host", "10.0.0.7"), ("authorization", &longer)], 401),
    ] {
        assert_eq!(status(&door, "/explain", of).await, expected, "{of:?}");
    }
    assert_eq!(status(&access.at(loopback()), "/explain", &[("host", "localhost")]).await, 200);
    let strict = guarded("/nowhere".into(), |settings| settings.token_on_loopback = true).at(loopback());
    assert_eq!(status(&strict, "/explain", &[("host", "localhost")]).await, 401);
    assert_eq!(status(&strict, "/explain", &[("host", "localhost"), ("authorization", &right)]).await, 200);
}

#[tokio::test(start_paused = true)]
async fn another_token_in_the_file_counts_without_a_restart_and_a_file_that_is_gone_takes_none_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let door = guarded(file.clone(), |_| {}).at(elsewhere());
    let shows = async |token: &str| {
        let shown = format!("Bearer {token}");
        status(&door, "/explain", &[("host", "10.0.0.7"), ("authorization", &shown)]).await
    };
    let later = TOKEN_AGE_MAX + Duration::from_millis(1);
    tokio::time::advance(later).await;
    assert_eq!(shows(RIGHT).await, 200, "there is no file");
    fs::write(&file, "another token that is long enough\n").unwrap();
    assert_eq!(shows("another token that is long enough").await, 401, "it was looked at a moment ago");
    tokio::time::advance(later).await;
    assert_eq!(shows("another token that is long enough").await, 200);
    assert_eq!(shows(RIGHT).await, 401);
}

fn peer(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(number).into()
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_guesses_is_not_heard_for_a_while_and_others_are() {
    let (mut tries, now) = (Tries::default(), Instant::now());
    for number in 1..=WRONG_TOKENS_PER_PEER {
        let last = number == WRONG_TOKENS_PER_PEER;
        assert_eq!(tries.judge(peer(1), false, now), Verdict::Wrong { last });
    }
    for _ in 0..1_000 {
        assert_eq!(tries.judge(peer(1), false, now), Verdict::Later(WINDOW));
    }
    assert_eq!(tries.judge(peer(1), true, now), Verdict::Later(WINDOW), "or guessing would go on");
    assert_eq!(tries.judge(peer(2), true, now), Verdict::Right);
    let half = now + WINDOW / 2;
    assert_eq!(tries.judge(peer(1), true, half), Verdict::Later(WINDOW / 2));
    assert_eq!(tries.judge(peer(1), true, now + WINDOW), Verdict::Right);
}

#[tokio::test(start_paused = true)]
async fn while_many_guess_those_who_showed_the_right_token_lately_are_heard() {
    let (mut tries, now) = (Tries::default(), Instant::now());
    assert_eq!(tries.judge(peer(0), true, now), Verdict::Right);
    let guess = |tries: &mut Tries, number| tries.judge(peer(1_000 + number), false, now);
    for number in 0..WRONG_TOKENS_IN_TOTAL {
        assert_eq!(guess(&mut tries, number), Verdict::Wrong { last: false });
    }
    assert_eq!(guess(&mut tries, WRONG_TOKENS_IN_TOTAL), Verdict::Later(WINDOW));
    assert_eq!(tries.judge(peer(0), true, now), Verdict::Right);
    assert_eq!(tries.judge(peer(1), true, now), Verdict::Later(WINDOW), "nobody knows this one");
    assert_eq!(tries.judge(peer(1), true, now + WINDOW), Verdict::Right);
    // What is remembered is forgotten in time.
    assert_eq!(tries.judge(peer(1), false, now + WINDOW), Verdict::Wrong { last: false });
    assert_eq!(tries.wrong.len(), 1);
    tries.judge(peer(1), true, now + TRUST);
    assert_eq!(tries.trusted.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_trusted_is_bounded_and_a_network_of_ipv6_is_one_peer() {
    let (mut tries, now) = (Tries::default(), Instant::now());
    for number in 0..=u32::try_from(TRUSTED_MAX).unwrap() {
        assert_eq!(tries.judge(peer(number), true, now), Verdict::Right);
    }
    assert_eq!(tries.trusted.len(), TRUSTED_MAX);
    let mut tries = Tries::default();
    for number in 0..WRONG_TOKENS_PER_PEER {
        let address = Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(number));
        assert!(matches!(tries.judge(address.into(), false, now), Verdict::Wrong { .. }));
    }
    let (same, other): (Ipv6Addr, Ipv6Addr) = ("fd00::1:2".parse().unwrap(), "fd00:0:0:1::1".parse().unwrap());
    assert_eq!(tries.judge(same.into(), true, now), Verdict::Later(WINDOW));
    assert_eq!(tries.judge(other.into(), true, now), Verdict::Right);
}
