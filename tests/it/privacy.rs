//! No value of a contact leaves this program but to the CRMs and to the topics that are made to hold contacts.
//!
//! Every value that the schema knows is a canary: text that nothing else would write. A run in which everything goes
//! wrong that may quote a contact happens in a process of its own, because the lines that count are the real ones, of all
//! crates, as `telemetry` sends them to standard error, and so is what a panic prints. The process searches what it
//! published and shows; this one searches what it printed.
//!
//! A canary is searched in every form in which a value leaks without anybody meaning it: as it is, percent-encoded,
//! escaped as JSON may escape, in base64 at each of three alignments, in hexadecimal digits, and as a list of numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    net::Ipv4Addr,
    process::Command,
    sync::atomic::Ordering,
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use bytes::Bytes;
use contact_replicator::{
    admin::{Admin, Readiness},
    config::{LogFormat, SubjectForm},
    contact::{Document, schema},
    crm::{
        Request, RequestKind,
        transport::{Http, Transport},
    },
    event::OutcomeKind,
    explain::{Asked, AskedMember, Desk, words},
    log::{Header, Log, NewRecord, Record, TopicPartition},
    metrics::Registry,
    sandbox::{Chance, Fault, FaultPlan, Instead, Only, server::Server},
    telemetry,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    history::event,
    scene::{Scene, play},
    world::{INPUT, World, input_of},
};

/// In every text of a contact.
const WORD: &str = "zqcanary";
/// Values of forms that cannot hold a word.
const OTHERS: [&str; 5] = ["446681794", "7.123456789", "47.987654321", "1903-07-29", "4711.0815"];
/// In every subject, which outcomes are told to hash.
const SUBJECT: &str = "zqsubject";

/// Forms in which nothing can be hidden: two or so words to choose from.
const UNSEARCHABLE: [&str; 10] = [
    "/kind",
    "/emails/type",
    "/emails/primary",
    "/phoneNumbers/type",
    "/phoneNumbers/primary",
    "/addresses/type",
    "/addresses/country",
    "/addresses/primary",
    "/consent/marketing",
    "/consent/dataProcessing",
];

fn contact(number: u32) -> Value {
    let word = |place: &str| format!("{WORD}{number}{place}");
    json!({
        "kind": "person",
        "name": {
            "honorificPrefix": word("prefix"), "givenName": word("given"), "middleName": word("middle"),
            "familyName": word("family"), "honorificSuffix": word("suffix"), "formatted": word("formatted"),
        },
        "emails": [
            { "value": format!("{WORD}{number}@{WORD}.example"), "type": "work", "primary": true },
            { "value": format!("{WORD}{number}@home.example"), "type": word("label") },
        ],
        "phoneNumbers": [{ "value": "+41446681794", "type": "mobile", "primary": true }],
        "addresses": [{
            "type": "postal", "streetAddress": format!("{WORD} {number}\n{WORD} street"), "streetNumber": word("house"),
            "apartment": word("apartment"), "floor": word("floor"), "poBox": word("box"), "locality": word("locality"),
            "district": word("district"), "region": word("region"), "postalCode": word("code"), "country": "CH",
            "geo": { "longitude": 7.123456789, "latitude": 47.987654321 }, "primary": true,
        }],
        "organization": {
            "name": word("organisation"), "department": word("department"), "title": word("job"),
            "registrationNumber": word("registration"), "vatNumber": word("vat"), "type": word("type"),
            "marketSector": word("sector"), "industry": word("industry"),
        },
        "birthDate": "1903-07-29",
        "gender": word("gender"),
        "preferredLanguage": format!("de-x-{WORD}"),
        "notes": format!("{WORD}: \"quoted\" / ünïcode \u{1f600} {number}"),
        "consent": { "marketing": true, "dataProcessing": true },
        "active": true,
        "identifiers": { "customer_no": word("customer"), "passport": word("passport") },
        "owner": word("owner"),
        "photos": [{ "value": format!("data:image/png;base64,{}", STANDARD.encode(word("photo"))), "type": word("kind") }],
        "relations": [{ "type": word("relation"), "source": word("source"), "subject": word("other"), "notes": word("note") }],
        "attributes": { "colour": word("colour"), "size": 4711.0815, "debtor_number": word("debtor") },
        word("unknown"): { word("name"): [word("value")] },
    })
}

#[test]
fn every_attribute_of_the_schema_has_a_canary_or_cannot_have_one() {
    let document: Document = serde_json::from_value(contact(1)).expect("a contact");
    let said: BTreeSet<&str> = schema::leaves_said(&document).collect();
    let silent: Vec<&str> = schema::leaves().filter(|leaf| !said.contains(leaf)).collect();
    assert_eq!(silent, Vec::<&str>::new());
    let needles = needles(values().iter());
    for leaf in schema::leaves().filter(|leaf| !UNSEARCHABLE.contains(leaf) && *leaf != "/active") {
        // The leaf alone.
        let text = serde_json::to_string(&only(&contact(1), &leaf.split('/').skip(1).collect::<Vec<_>>()));
        assert!(found(text.expect("JSON").as_bytes(), &needles).is_some(), "{leaf} has no canary");
    }
}

fn only(value: &Value, steps: &[&str]) -> Value {
    match (steps, value) {
        ([], value) => value.clone(),
        (steps, Value::Array(items)) => items.iter().map(|item| only(item, steps)).collect(),
        ([step, rest @ ..], value) => value.get(*step).map_or(Value::Null, |member| only(member, rest)),
    }
}

/// What to look for, with the name of its form. `true`: whatever the case.
struct Needle {
    form: String,
    text: String,
    any_case: bool,
}

fn needles<'a>(secrets: impl Iterator<Item = &'a &'a str>) -> Vec<Needle> {
    let mut needles = Vec::new();
    for secret in secrets {
        let bytes = secret.as_bytes();
        let each = |write: fn(&u8) -> String| bytes.iter().map(write).collect::<Vec<_>>();
        let mut add = |form: &str, text: String, any_case| {
            needles.push(Needle { form: format!("{secret}, {form}"), text, any_case });
        };
        add("as it is", secret.to_lowercase(), true);
        add("percent-encoded", each(|byte| format!("%{byte:02x}")).concat(), true);
        add("escaped", each(|byte| format!("\\u{byte:04x}")).concat(), true);
        add("escaped as by Rust", each(|byte| format!("\\u{{{byte:x}}}")).concat(), true);
        add("in hexadecimal", each(|byte| format!("{byte:02x}")).concat(), true);
        add("in hexadecimal with spaces", each(|byte| format!("{byte:02x}")).join(" "), true);
        add("as numbers", each(|byte| byte.to_string()).join(", "), true);
        add("as numbers without spaces", each(|byte| byte.to_string()).join(","), true);
        for before in 0..3 {
            let padded = [vec![0; before], bytes.to_vec()].concat();
            // Only what does not depend on the neighbours.
            let (from, to) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
            for (form, engine) in [("in base64", &STANDARD), ("in base64 for URLs", &URL_SAFE)] {
                let text = engine.encode(&padded);
                add(form, text.get(from..to).expect("ASCII").to_owned(), false);
            }
        }
    }
    needles
}

/// The first canary in `text`, by form and surroundings.
fn found(text: &[u8], needles: &[Needle]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let lower = text.to_ascii_lowercase();
    needles.iter().find_map(|needle| {
        let at = if needle.any_case { lower.find(&needle.text) } else { text.find(&needle.text) }?;
        let (from, to) = (at.saturating_sub(300), (at + 100).min(text.len()));
        let around = String::from_utf8_lossy(text.as_bytes().get(from..to).unwrap_or_default()).into_owned();
        Some(format!("{}: …{around}…", needle.form))
    })
}

#[test]
fn a_canary_is_found_in_each_form() {
    let needles = needles([WORD].iter());
    let hidden = |text: String| found(format!("before {text} after").as_bytes(), &needles).is_some();
    assert!(!hidden("nothing of the kind".into()));
    assert!(hidden("Hans.ZQCanary7@example.com".into()));
    assert!(hidden(WORD.bytes().map(|byte| format!("%{byte:02X}")).collect()));
    assert!(hidden(WORD.chars().map(|c| format!("\\u{:04X}", c as u32)).collect()));
    assert!(hidden(WORD.chars().map(|c| c.escape_unicode().to_string()).collect()));
    assert!(hidden(format!("{:?}", WORD.as_bytes())));
    assert!(hidden(format!("{:02X?}", WORD.as_bytes()).replace(", ", "")));
    for before in ["", "a", "ab", "abc"] {
        for engine in [&STANDARD, &URL_SAFE] {
            assert!(hidden(engine.encode(format!("{before}{WORD}>>>???"))), "{before:?}");
        }
    }
}

#[test]
fn no_value_of_a_contact_is_printed_at_any_level() {
    for format in ["text", "json"] {
        let program = std::env::current_exe().expect("this test is a program");
        let run = Command::new(program)
            .args(["--ignored", "--exact", "privacy::observed_run", "--nocapture", "--test-threads=1"])
            .env(FORMAT, format)
            .env("RUST_BACKTRACE", "0")
            .output()
            .expect("this test can be run again");
        let printed = [run.stdout, run.stderr].concat();
        if let Some(leak) = found(&printed, &needles(values_and_subjects().iter())) {
            panic!("{format}: {leak}");
        }
        let text = String::from_utf8_lossy(&printed);
        let tail: Vec<&str> = text.lines().rev().take(20).collect();
        assert!(run.status.success(), "{format}: the run failed; its last lines: {tail:#?}");
        // Silence is no proof.
        let lines = [
            "TRACE",
            "the worker runs",
            "partition taken over",
            "the CRM is paused: it refuses the credential",
            "the CRM is paused: base URL, path or rights are wrong",
            "a thread panicked, which is a fault of this program",
            "hyper",
        ];
        for line in lines {
            assert!(text.contains(line), "{format}: no line says {line:?}; the last ones: {tail:#?}");
        }
    }
}

const FORMAT: &str = "OBSERVED_FORMAT";

#[test]
#[ignore = "runs as a process of its own, started by the test above"]
fn observed_run() {
    #[expect(clippy::disallowed_methods, reason = "the test that starts this one has no other way to say it")]
    let format = std::env::var(FORMAT).unwrap_or_default();
    let format = if format == "json" { LogFormat::Json } else { LogFormat::Text };
    telemetry::hide_panic_messages();
    let level = "trace,sled=trace".to_owned();
    telemetry::start(format, &level, false).expect("nobody took the lines");

    let panicked = std::panic::catch_unwind(|| panic!("{}", contact(0)));
    assert!(panicked.is_err());
    let mut shown = (Registry::new(), Readiness::default(), Desk::default());
    play(async { shown = simulated().await });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(over_tcp(shown));
}

/// Values of contacts.
fn values() -> Vec<&'static str> {
    [&[WORD][..], &OTHERS].concat()
}

/// Values of contacts, and subjects.
fn values_and_subjects() -> Vec<&'static str> {
    [values(), vec![SUBJECT]].concat()
}

/// Fails if one of `secrets` is in `text`, without telling which: this process must print no canary.
fn ensure_clean(what: &str, text: &[u8], secrets: &[&str]) {
    for (number, secret) in secrets.iter().enumerate() {
        if let Some(leak) = found(text, &needles([*secret].iter())) {
            let form = leak.split(": …").next().unwrap_or_default().replace(secret, "");
            eprintln!("{what} shows secret number {number}{form}");
            panic!("the line above says where");
        }
    }
}

fn say(number: u32, sequence: u64, verb: &str, data: Option<Value>) -> NewRecord {
    event("/shop", &format!("{SUBJECT}{number}"), &format!("e-{number}-{sequence}"), verb, sequence, data)
}

/// An answer that quotes whatever it was sent.
fn quoting(status: u16, effect: bool) -> Fault {
    let body = json!({ "error": format!("{WORD}1given"), "message": contact(1).to_string(), "id": null }).to_string();
    let headers = BTreeMap::from([
        ("location".to_owned(), format!("/{WORD}")),
        ("x-error".to_owned(), format!("{WORD}1")),
        ("www-authenticate".to_owned(), format!("Bearer realm=\"{WORD}\"")),
    ]);
    Instead::Status { status, headers, body, effect }.into()
}

fn plan(faults: impl IntoIterator<Item = Fault>, probability: f64) -> FaultPlan {
    let chances =
        faults.into_iter().map(|fault| Chance { probability, times: 1, only: Only::default(), fault }).collect();
    FaultPlan { chances, ..FaultPlan::default() }
}

/// Everything that may quote a contact, over the log in memory. Returns what the admin address would show.
async fn simulated() -> (Registry, Readiness, Desk) {
    let mut world = World::new(1, 2).await;
    world.settings.outcomes.subject = SubjectForm::Hashed;
    let mut scene = Scene::begin(world).await;

    // What goes well.
    for sequence in 1..=3 {
        let whole = (1..=6)
            .map(|number| say(number, sequence, "contact.updated", Some(contact(number * 10 + sequence as u32))));
        scene.world.publish(whole.collect()).await;
        scene.settled().await;
    }
    let patch = json!({ "organization": { "title": format!("{WORD}patched") }, "notes": null });
    scene.world.publish(vec![say(1, 4, "contact.patched", Some(patch)), say(2, 4, "contact.deleted", None)]).await;
    scene.settled().await;

    // What cannot be read.
    scene.world.publish(malformed()).await;
    scene.settled().await;

    // What the CRM answers in anger, and answers that never come.
    for status in [400, 409, 413, 422, 429, 500, 503] {
        scene.world.set_faults(plan([quoting(status, false), quoting(status, true)], 0.3));
        let again = (1..=6)
            .map(|n| say(n, 10 + u64::from(status), "contact.updated", Some(contact(n * 1_000 + u32::from(status)))));
        scene.world.publish(again.collect()).await;
        scene.settled().await;
    }
    let lost = [Instead::ResetAfter.into(), Instead::ResetBefore.into(), Instead::LongBody { bytes: 2 << 20 }.into()];
    scene.world.set_faults(plan(lost, 0.3));
    scene.world.publish((1..=6).map(|n| say(n, 2_000, "contact.updated", Some(contact(n * 7 + 1)))).collect()).await;
    scene.settled().await;
    for (sequence, fault) in (3_000..).zip([401, 403, 302].map(|status| quoting(status, false))) {
        scene.world.set_faults(plan([fault], 1.0));
        scene
            .world
            .publish(
                (1..=6).map(|n| say(n, sequence, "contact.updated", Some(contact(n * 9 + sequence as u32)))).collect(),
            )
            .await;
        let paused = |world: &World| (0..2).any(|worker| world.metric(worker, r#"crm_paused{crm="priava"}"#) == 1.0);
        scene.until("a paused CRM", paused).await;
        scene.world.set_faults(FaultPlan::default());
        scene.settled().await;
    }

    // A worker that is killed, and one that crashes with a contact in its message.
    scene.world.kill(1).await;
    scene.world.start(1);
    scene.world.stop(1).await;
    scene.world.fate.panics.store(true, Ordering::Relaxed);
    scene.world.publish(vec![say(1, 4_000, "contact.updated", Some(contact(4_000)))]).await;
    let failure = scene.world.failed(0).await;
    ensure_clean("the error of a crash", told(&failure).as_bytes(), &values_and_subjects());
    scene.world.start(0);
    let evidence = scene.settled().await;

    for kind in [OutcomeKind::Delivered, OutcomeKind::Rejected, OutcomeKind::Quarantined] {
        assert!(evidence.outcomes.iter().any(|outcome| outcome.outcome == kind), "no outcome is {kind}");
    }
    let told_crm = scene
        .world
        .sandbox
        .requests()
        .iter()
        .filter_map(|request| request.body.clone())
        .any(|body| found(&body, &needles(values().iter())).is_some());
    assert!(told_crm, "contacts went to the CRM");
    let letters = all(&scene.world, "contact-dead-letters").await;
    assert!(!letters.is_empty());
    for letter in letters {
        for Header { name, value } in letter.headers.iter().filter(|header| header.name.starts_with("dead_letter")) {
            ensure_clean("a header of a dead letter", &[name.as_bytes(), value].concat(), &values_and_subjects());
        }
    }
    for record in all(&scene.world, "contact-keys").await {
        ensure_clean("a key", &whole(&record), &values_and_subjects());
    }
    for number in 1..=6 {
        let member = AskedMember { source: "/shop".into(), subject: format!("{SUBJECT}{number}") };
        let asked = [Asked::Member(member), Asked::About(format!("{WORD}{number}@{WORD}.example"))];
        for asked in asked {
            let answer = scene.world.desk(0).explain(&asked).await.expect("the worker answers");
            let json = serde_json::to_vec(&answer).expect("an answer is JSON");
            ensure_clean("an explanation", &json, &values_and_subjects());
            ensure_clean("an explanation in words", words::told(&answer).as_bytes(), &values_and_subjects());
        }
    }
    for worker in 0..2 {
        ensure_clean("metrics", scene.world.metrics(worker).as_bytes(), &values_and_subjects());
    }
    scene.world.shown(0)
}

/// Events at fault, with canaries wherever a value can be.
fn malformed() -> Vec<NewRecord> {
    let saying = |number: u32, value: Vec<u8>| NewRecord {
        value: Some(value.into()),
        ..say(number, 1, "contact.updated", None)
    };
    let json = |number: u32, value: Value| saying(number, value.to_string().into_bytes());
    let json_with = |number: u32, path: &str, value: Value| {
        let mut whole = contact(number);
        whole[path] = value;
        json(number, whole)
    };
    let text = contact(100).to_string();
    let mut cut = text.clone().into_bytes();
    cut.truncate(cut.len() - 20);
    let mut no_text = text.clone().into_bytes();
    no_text.push(0xff);
    let mut faults = vec![
        saying(100, cut),
        saying(101, no_text),
        saying(102, format!("\"{WORD}\"").into_bytes()),
        json(103, json!([contact(103)])),
        json_with(104, "birthDate", WORD.into()),
        json_with(105, "birthDate", json!(19030729)),
        json_with(106, "emails", WORD.into()),
        json_with(107, "emails", json!([WORD])),
        json_with(108, "addresses", json!([{ "country": WORD }])),
        json_with(109, "addresses", json!([{ "geo": { "longitude": WORD } }])),
        json_with(110, "preferredLanguage", format!("{WORD} {WORD}").into()),
        json_with(111, "photos", json!([{ "value": format!("data:{WORD}") }])),
        json_with(112, "attributes", json!({ "colour": [WORD] })),
        json_with(113, "kind", WORD.into()),
        json_with(114, "consent", json!({ "marketing": WORD })),
        json_with(115, "notes", WORD.repeat(40_000).into()),
        json_with(116, "deep", (0..80).fold(Value::from(WORD), |inner, _| json!([inner]))),
        // Nobody says what it is, and so nobody can say that it is no contact.
        NewRecord { headers: Vec::new(), ..json(117, contact(117)) },
        // Not in the form in which the header says it is.
        NewRecord {
            headers: vec![Header::new("content-type", &b"application/cloudevents+json"[..])],
            ..json(118, contact(118))
        },
    ];
    for header in ["ce_time", "ce_sequence", "ce_traceparent", "ce_specversion"] {
        let mut record = json(119, contact(119));
        record.headers.retain(|there| there.name != header);
        record.headers.push(Header::new(header, Bytes::from(format!("{WORD}\u{7}"))));
        faults.push(record);
    }
    let key = format!("{SUBJECT}120");
    faults.push(NewRecord {
        to: TopicPartition::new(INPUT, input_of(key.as_bytes()).partition),
        key: Some(key.into()),
        value: None,
        headers: Vec::new(),
    });
    faults
}

fn told(error: &dyn Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(" {error} {error:?}"));
        source = error.source();
    }
    text
}

fn whole(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in record.key.iter().chain(&record.value) {
        bytes.extend_from_slice(part);
        bytes.push(b'\n');
    }
    for Header { name, value } in &record.headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(value);
        bytes.push(b'\n');
    }
    bytes
}

/// All records of one of our topics.
async fn all(world: &World, topic: &str) -> Vec<Record> {
    let mut follower = world.log.follower().await.expect("the log in memory is there");
    let mut records = Vec::new();
    let partitions = world.log.partitions(topic).await.expect("the log in memory is there").expect("the topic exists");
    for partition in 0..partitions {
        let at = TopicPartition::new(topic, partition);
        let bounds = world.log.watermarks(&at).await.expect("the topic exists");
        follower.assign(at.clone(), bounds.low).await.expect("the low end exists");
        let mut position = bounds.low;
        while position < bounds.high {
            let progress = follower.poll(1_000, Duration::from_secs(1)).await.expect("the follower reads on");
            records.extend(progress.records.into_iter().filter(|record| record.at == at));
            position = progress.positions.into_iter().find(|(moved, _)| *moved == at).map_or(position, |(_, to)| to);
        }
    }
    records
}

/// What only happens over sockets: the HTTP client's own lines, its errors, and the admin address.
async fn over_tcp((registry, readiness, desk): (Registry, Readiness, Desk)) {
    let admin = Admin::start((Ipv4Addr::LOCALHOST, 0).into(), registry, readiness, desk).await.expect("a port");
    for path in ["/livez", "/readyz", "/metrics", "/status", "/nowhere"] {
        let mut stream = tokio::net::TcpStream::connect(admin.address()).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it listens");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("it answers");
        ensure_clean(path, &answer, &values_and_subjects());
    }
    admin.stop().await;

    let world = World::new(2, 0).await;
    let server = Server::start(world.sandbox.clone()).await.expect("a port");
    let base_url = server.base_url(&world.sandbox);
    let mut delivery = world.settings.crm[0].delivery.clone();
    delivery.request_deadline = Duration::from_millis(500);
    let http = Http::new(&base_url, &delivery).expect("an address");
    let request = || Request {
        method: http::Method::POST,
        path: format!("/v1/crm/contacts?search={WORD}&email={WORD}%40example.com"),
        headers: vec![
            (http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json")),
            (http::HeaderName::from_static("apitoken"), http::HeaderValue::from_static("sandbox-token")),
        ],
        body: contact(5_000).to_string().into(),
        kind: RequestKind::Set,
    };
    let faults = [
        Fault::default(),
        quoting(400, false),
        quoting(302, false),
        quoting(500, true),
        Instead::ResetAfter.into(),
        Instead::SlowBody { pause: Duration::from_secs(2) }.into(),
        Instead::LongBody { bytes: 2 << 20 }.into(),
        Fault::delay_before(Duration::from_secs(2)),
    ];
    for fault in faults {
        world.set_faults(plan([fault], 1.0));
        let sent = request();
        ensure_clean("the debug form of a request", format!("{sent:?}").as_bytes(), &values_and_subjects());
        match http.exchange(sent).await {
            Ok(response) => {
                ensure_clean("the debug form of an answer", format!("{response:?}").as_bytes(), &values_and_subjects())
            }
            Err(error) => ensure_clean("the error of an exchange", told(&error).as_bytes(), &values_and_subjects()),
        }
    }
    server.stop().await;
    let refused = http.exchange(request()).await.expect_err("nobody listens any more");
    ensure_clean("the error of a refused connection", told(&refused).as_bytes(), &values_and_subjects());
}
