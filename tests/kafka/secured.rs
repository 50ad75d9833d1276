//! A cluster that encrypts, asks who one is, and permits only what was granted.
//!
//! Needs the broker of `deploy/kafka/secured.sh start`, of which `KAFKA_SECURED` names the folder (its `KAFKA_DATA`).

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use contact_replicator::{
    config::{KafkaSettings, Settings, Surroundings, TopicNames},
    log::{Cleanup, Log, LogError, NewRecord, TopicPartition, TopicSpec, kafka::KafkaLog},
    worker::{self, Operation, Permission, Resource},
};
use futures::future::join_all;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    conformance::{Attended, fresh, group_spec, numbered, offset_only, read_all, values, write},
    identity::change,
    processes::{self, Lines, Process, SECRET, Sandbox, TOKEN, eventually, program},
    settings,
};

const PATIENCE: Duration = Duration::from_secs(60);
const SHOP: (&str, &str) = ("shop", "https://shop.example.com");
const CRM: &str = "venues";
const PARTITIONS: u32 = 2;

/// What the script made for clients.
struct Secured {
    folder: PathBuf,
    port: u16,
    password: String,
}

/// What a client says otherwise than it should.
type Changed<'a> = &'a [(&'static str, &'a str)];

/// The listeners, by how far their ports are from the first.
const SSL: u16 = 2;
const SASL_PLAINTEXT: u16 = 3;
const SASL_SSL: u16 = 4;

impl Secured {
    fn find() -> Self {
        #[expect(clippy::disallowed_methods, reason = "tests have no settings file")]
        let folder = std::env::var("KAFKA_SECURED")
            .expect("KAFKA_SECURED names the folder of the broker of deploy/kafka/secured.sh start");
        let folder = PathBuf::from(folder).join("clients");
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap().trim().to_owned();
        Self { port: read("port").parse().unwrap(), password: read("password"), folder }
    }

    fn address(&self, listener: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port + listener))
    }

    fn permits(&self) -> crate::permits::Permits {
        crate::permits::Permits { address: self.address(0) }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// At the listener where everybody may do anything.
    fn administrator(&self) -> KafkaLog {
        KafkaLog::new(settings(self.address(0).to_string(), "administrator")).unwrap()
    }

    /// What a client says to be let in at a listener, as the user `worker`.
    fn properties(&self, listener: u16) -> BTreeMap<&'static str, String> {
        let mut properties = match listener {
            SSL => BTreeMap::from([
                ("security.protocol", "SSL".to_owned()),
                ("ssl.certificate.location", self.file("client.pem")),
                ("ssl.key.location", self.file("client.key")),
            ]),
            SASL_PLAINTEXT => BTreeMap::from([
                ("security.protocol", "SASL_PLAINTEXT".to_owned()),
                ("sasl.mechanism", "PLAIN".to_owned()),
            ]),
            _ => BTreeMap::from([
                ("security.protocol", "SASL_SSL".to_owned()),
                ("sasl.mechanism", "SCRAM-SHA-512".to_owned()),
            ]),
        };
        if listener != SSL {
            properties.insert("sasl.username", "worker".to_owned());
            properties.insert("sasl.password", self.password.clone());
        }
        if listener != SASL_PLAINTEXT {
            properties.insert("ssl.ca.location", self.file("ca.pem"));
        }
        properties
    }

    /// A log that speaks to a listener as a client does, but for `changed`.
    fn log(&self, listener: u16, changed: Changed<'_>) -> KafkaLog {
        let mut properties = self.properties(listener);
        properties.extend(changed.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let properties = properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        KafkaLog::new(KafkaSettings { properties, ..settings(self.address(listener).to_string(), "client") }).unwrap()
    }
}

fn all_on(topic: &Arc<str>, group: &str) -> Vec<Permission> {
    let topic = || Resource::Topic(topic.clone());
    let group: Arc<str> = group.into();
    let operations = [Operation::Read, Operation::Write, Operation::Create, Operation::DescribeConfigs];
    let on_topic = operations.map(|operation| Permission { operation, resource: topic() });
    let on_group = Permission { operation: Operation::Read, resource: Resource::Group(group.clone()) };
    let on_id = Permission { operation: Operation::Write, resource: Resource::TransactionalId(group) };
    on_topic.into_iter().chain([on_group, on_id]).collect()
}

/// All that the log is, over each listener: topics, records, a group, a transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_works_alike_over_tls_and_over_each_way_to_say_who_one_is() {
    let secured = Secured::find();
    for listener in [SSL, SASL_PLAINTEXT, SASL_SSL] {
        let topic: Arc<str> = fresh("secured").into();
        let spec = group_spec(&topic);
        secured.permits().grant("worker", &all_on(&topic, &spec.group)).await;
        let log = secured.log(listener, &[]);
        let spec_of_topic = TopicSpec {
            name: topic.clone(),
            partitions: 1,
            cleanup: Cleanup::Delete { after: Duration::from_secs(3600) },
            message_bytes_max: 64 * 1024,
        };
        assert_eq!(log.ensure_topics(&[spec_of_topic]).await.unwrap().len(), 1);
        let at = TopicPartition::new(topic, 0);
        log.append(numbered(&at, 0..3)).await.unwrap();
        let member = Attended::join_and_own(&log, &spec, 1).await;
        let mut writer = log.writer(&spec.group).await.unwrap();
        let mut transaction = offset_only(&member.handle, &at, 3, member.handle.owned().into_iter().collect());
        transaction.records = numbered(&at, 3..4);
        write(writer.as_mut(), transaction).await;
        assert_eq!(values(&read_all(&log, &at).await), ["0", "1", "2", "3"]);
        member.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_a_client_out_is_said_with_what_to_correct() {
    let secured = Secured::find();
    let stranger = secured.file("stranger.pem");
    let wrong: [(u16, Changed<'_>, &str); 6] = [
        (SASL_SSL, &[("ssl.ca.location", &stranger)], "check ssl.ca.location"),
        (SSL, &[("ssl.ca.location", &stranger)], "check ssl.ca.location"),
        (SASL_PLAINTEXT, &[("sasl.password", "not this one")], "correct sasl.username and sasl.password"),
        (SASL_SSL, &[("sasl.password", "not this one")], "correct sasl.username and sasl.password"),
        (SASL_PLAINTEXT, &[("sasl.mechanism", "SCRAM-SHA-512")], "set sasl.mechanism"),
        (SASL_SSL, &[("sasl.mechanism", "PLAIN")], "set sasl.mechanism"),
    ];
    let answers = wrong.map(async |(listener, changed, remedy)| {
        let log = secured.log(listener, changed);
        // Of workers, and of `check` and `topics`.
        let partitions = log.partitions("any").await.map(drop);
        (changed, remedy, [partitions, log.describe_topics(&["any".into()]).await.map(drop)])
    });
    for (changed, remedy, answers) in join_all(answers).await {
        for answer in answers {
            let Err(error @ LogError::Connection { .. }) = answer else { panic!("{changed:?}: {answer:?}") };
            let sentence = error.to_string();
            assert!(sentence.contains(remedy), "{changed:?}: {sentence}");
            assert!(error.is_transient(), "somebody may correct it on the other side");
            assert!(!sentence.contains("not this one") && !sentence.contains(&secured.password), "{sentence}");
        }
    }
}

/// One input topic, one CRM, and a worker that speaks SASL_SSL.
struct Site {
    secured: Secured,
    administrator: KafkaLog,
    name: String,
    input: Arc<str>,
    sandbox: Sandbox,
    folder: TempDir,
}

impl Site {
    async fn new() -> Self {
        let secured = Secured::find();
        let administrator = secured.administrator();
        let name = fresh("site").replace("conformance-", "");
        let input: Arc<str> = format!("{name}.contact-changes").into();
        let spec = TopicSpec {
            name: input.clone(),
            partitions: 1,
            cleanup: Cleanup::Delete { after: Duration::from_secs(3600) },
            message_bytes_max: 1024 * 1024,
        };
        administrator.ensure_topics(&[spec]).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::start(folder.path(), Duration::ZERO).await;
        Self { secured, administrator, name, input, sandbox, folder }
    }

    fn topics(&self) -> TopicNames {
        TopicNames::new(&format!("{}.", self.name))
    }

    fn settings_text(&self) -> String {
        let Self { name, input, secured, .. } = self;
        let properties: String = secured
            .properties(SASL_SSL)
            .into_iter()
            .map(|(name, value)| match name {
                "sasl.password" => format!("\"sasl.password_file\" = {:?}\n", secured.file("password")),
                name => format!("{name:?} = {value:?}\n"),
            })
            .collect();
        format!(
            r#"
            instance = {name:?}
            [worker]
            id = "worker-1"
            data = {data:?}
            shutdown_deadline = "10s"
            [log.kafka]
            bootstrap_servers = "{servers}"
            session_timeout = "6s"
            heartbeat_interval = "500ms"
            drain_deadline = "4s"
            [log.kafka.properties]
            {properties}
            [topics]
            prefix = "{name}."
            partitions = {PARTITIONS}
            [[input.topics]]
            name = "{input}"
            [[crm]]
            name = "{CRM}"
            kind = "priava"
            base_url = "http://{sandbox}/priava/api/rest"
            [crm.delivery]
            requests_per_second = 0.0
            request_deadline = "1s"
            connect_timeout = "500ms"
            [ingest]
            listen = "127.0.0.1:0"
            [admin]
            listen = "127.0.0.1:0"
            "#,
            data = self.folder.path().join("data"),
            servers = secured.address(SASL_SSL),
            sandbox = self.sandbox.address,
        )
    }

    fn permissions(&self) -> Vec<Permission> {
        let variable = |name: &str| match name {
            "CONTACT_REPLICATOR_SECRET" => Some(SECRET.to_owned()),
            "PRIAVA_API_TOKEN" => Some(TOKEN.to_owned()),
            _ => None,
        };
        let surroundings = Surroundings { variable: &variable, ..Surroundings::process() };
        worker::permissions(&Settings::parse(&self.settings_text(), surroundings).unwrap())
    }

    fn launch(&self) -> (Process, Lines) {
        let config = self.folder.path().join("worker.toml");
        fs::write(&config, self.settings_text()).unwrap();
        let (lines, file) = Lines::of(self.folder.path().join("worker.log"));
        let mut command = program();
        command.arg("run").arg("--config").arg(config);
        (Process::start("worker", &mut command, Stdio::null(), file.into()), lines)
    }

    /// A bit of everything that a worker writes of: two people, a conflict, and what is no event.
    async fn feed(&self, number: usize) {
        let at = TopicPartition::new(self.input.clone(), 0);
        let person = json!({"name": {"givenName": "Ann", "familyName": "Roth"},
            "emails": [{"value": format!("person-{number}@example.com")}],
            "phoneNumbers": [{"value": format!("+447700{:06}", 900_000 + number), "type": "mobile"}]});
        let subject = |one: &str| format!("{number}-{one}");
        let broken = NewRecord {
            to: at.clone(),
            key: None,
            value: Some(format!("no event {number}").into()),
            headers: Vec::new(),
        };
        let events = vec![
            change(at.clone(), SHOP, &subject("one"), "created", &person),
            change(at, SHOP, &subject("other"), "created", &person),
            broken,
        ];
        self.administrator.append(events).await.unwrap();
    }

    /// How many outcomes there are.
    async fn outcomes(&self) -> usize {
        let mut count = 0;
        for partition in 0..PARTITIONS {
            let at = TopicPartition::new(self.topics().outcomes, partition);
            count += read_all(&self.administrator, &at).await.len();
        }
        count
    }

    /// Starts a worker that lacks `missing` and waits for its end, which must name it.
    async fn refused(&self, missing: &Permission) {
        let (mut process, lines) = self.launch();
        let mut post = 0;
        let deadline = Instant::now() + PATIENCE / 2;
        let status = eventually(&format!("a worker without {missing} ends"), PATIENCE, async || {
            if matches!((&missing.resource, missing.operation), (Resource::Topic(topic), Operation::Write) if *topic == self.input)
            {
                // Only a sender over HTTP makes it write there, and only he is told.
                if let Some(address) = lines.ingest() {
                    post += 1;
                    let headers = "content-type: application/cloudevents+json\r\n";
                    let event = json!({"specversion": "1.0", "id": post.to_string(), "source": SHOP.1,
                        "type": "contact.created", "subject": "http", "data": {"name": {"familyName": "Roth"}}});
                    let answer =
                        processes::exchange(address, "POST", "/events", headers, event.to_string().as_bytes()).await;
                    if answer.is_ok_and(|answer| answer.status == 500) {
                        process.terminate().await;
                    }
                }
            }
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_some() || Instant::now() < deadline, "it does not end:\n{}", lines.last(40));
            ended
        })
        .await;
        let text = lines.all().join("\n");
        let name = match &missing.resource {
            Resource::Topic(topic) => format!("topic {topic}"),
            Resource::Group(group) => format!("group {group}"),
            Resource::TransactionalId(id) | Resource::TransactionalIds { prefix: id } => {
                format!("transactional id {id}")
            }
        };
        let operation = match missing.operation {
            Operation::Read => "READ",
            Operation::Write => "WRITE",
            Operation::Create => "CREATE",
            Operation::DescribeConfigs => "DESCRIBE_CONFIGS",
        };
        let named = text
            .lines()
            .any(|line| line.contains("the broker refuses") && line.contains(operation) && ends_with_name(line, &name));
        eprintln!("  {missing}: {status}");
        assert!(named, "a worker without {missing} ended with {status} and said:\n{text}");
    }
}

/// Whether `name` stands in the line as a whole; what goes on after a prefix is part of it.
fn ends_with_name(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        name.ends_with('-')
            || !line
                .get(at + name.len()..)
                .unwrap_or_default()
                .starts_with(|next: char| next.is_alphanumeric() || "._-".contains(next))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_works_with_exactly_its_permissions_and_names_each_that_is_missing() {
    let site = Site::new().await;
    let all = site.permissions();
    let permits = site.secured.permits();
    // What topics are made with, their births included, is needed once.
    let is_for_births = |id: &str| id.ends_with("-topics");
    let (create, other): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|permission| {
        permission.operation == Operation::Create
            || matches!(&permission.resource, Resource::TransactionalId(id) if is_for_births(id))
    });
    permits.grant("worker", &other).await;
    // Topics come one after the other, so that each lacks its own; births come last.
    for missing in &create {
        site.refused(missing).await;
        permits.grant("worker", std::slice::from_ref(missing)).await;
    }

    let (mut process, lines) = site.launch();
    let admin = eventually("the worker serves", PATIENCE, async || {
        process.assert_runs(&lines);
        lines.admin()
    })
    .await;
    eventually("the worker is ready", PATIENCE, async || processes::is_ready(admin).await.then_some(())).await;
    site.feed(0).await;
    // Two delivered, one quarantined.
    eventually("its outcomes are there", PATIENCE, async || (site.outcomes().await == 3).then_some(())).await;
    let letters = TopicPartition::new(site.topics().dead_letters, 0);
    assert_eq!(read_all(&site.administrator, &letters).await.len(), 1);
    let status = process.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", lines.last(20));
    let complaints: Vec<String> =
        lines.all().into_iter().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");

    // What operators ask for is read and written when they ask, and they are told then.
    let is_for_operators = |permission: &Permission| match &permission.resource {
        Resource::Topic(name) => match permission.operation {
            Operation::Write => *name == site.topics().audit,
            Operation::Read => [site.topics().audit, site.topics().dead_letters].contains(name),
            Operation::Create | Operation::DescribeConfigs => false,
        },
        Resource::TransactionalIds { prefix } => prefix.ends_with("-operator-"),
        _ => false,
    };
    for (number, missing) in other.iter().filter(|permission| !is_for_operators(permission)).enumerate() {
        permits.revoke("worker", std::slice::from_ref(missing)).await;
        site.feed(number + 1).await;
        site.refused(missing).await;
        permits.grant("worker", std::slice::from_ref(missing)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_a_wrong_password_says_so_and_waits_until_it_is_asked_to_stop() {
    let mut site = Site::new().await;
    let wrong = site.folder.path().join("wrong");
    fs::write(&wrong, "not this one").unwrap();
    // The settings name the file of the password; the folder of a site has another one.
    let right = std::mem::replace(&mut site.secured.folder, site.folder.path().to_owned());
    fs::copy(right.join("ca.pem"), site.folder.path().join("ca.pem")).unwrap();
    fs::rename(wrong, site.folder.path().join("password")).unwrap();
    let (mut process, lines) = site.launch();
    eventually("it says what to correct", PATIENCE, async || {
        process.assert_runs(&lines);
        let said = |line: &String| {
            line.contains("the worker waits for the log") && line.contains("correct sasl.username and sasl.password")
        };
        lines.all().iter().any(said).then_some(())
    })
    .await;
    let answer = processes::exchange(lines.admin().unwrap(), "GET", "/readyz", "", b"").await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("correct sasl.username"), "{}", answer.text());
    assert_eq!(process.terminate().await.code(), Some(0));
    assert!(!lines.all().iter().any(|line| line.contains("not this one")), "a password is in a line");
}
