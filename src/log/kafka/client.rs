//! How every rdkafka client is configured, how it speaks, and what its errors mean to us.
//!
//! Correctness hangs on a few dozen properties of librdkafka (isolation, offsets never stored by themselves, idempotent
//! producers). They are set here and nowhere else, and the operator's own properties cannot replace them.
//!
//! A client whose broker is away reports each failed connection attempt of each broker, by the hundred. [`Context`]
//! lets one line of a kind through per interval and counts the rest.

use std::{
    collections::HashMap,
    fmt, panic,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list,
};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::names::LostNames;
use crate::{
    config::KafkaSettings,
    log::{LogError, Offset, TopicPartition},
};

/// Longest that one question to a broker may take.
pub(super) const QUERY_DEADLINE: Duration = Duration::from_secs(5);
/// Largest request that a producer sends for one record: an event at its limit must fit, wrapped, into a dead letter.
const MESSAGE_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Records that wait inside one producer.
const PRODUCER_QUEUE_KIB: u32 = 128 * 1024;
/// Records fetched ahead by one consumer. librdkafka's own default is eight times as much, per consumer.
const CONSUMER_QUEUE_KIB: u32 = 8 * 1024;
/// One line of a kind per this.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// What an operator may not set, because the meaning of the log rests on it or another setting of ours names it.
pub(crate) const OURS: [&str; 22] = [
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "isolation.level",
    "log.queue",
    "max.poll.interval.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "plugin.library.paths",
    "request.required.acks",
    "session.timeout.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// What we were about, for errors: the words, and what the broker must permit on the topic for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task {
    pub(super) doing: &'static str,
    pub(super) needs: &'static str,
}

impl Task {
    pub(super) const fn new(doing: &'static str, needs: &'static str) -> Self {
        Self { doing, needs }
    }
}

/// What a task needs that writes.
pub(super) const WRITE: &str = "WRITE";
/// What a question about a topic needs. Whoever lacks it lacks what he is there for, too.
pub(super) const DESCRIBE: &str = "DESCRIBE (which READ and WRITE bring)";
const CREDENTIALS: &str =
    "our credentials are refused; correct sasl.username and sasl.password under log.kafka.properties";

/// Makes the configuration of clients.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) settings: Arc<KafkaSettings>,
    pub(super) lost_names: Arc<LostNames>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The properties may hold a password.
        write!(f, "Connection({})", self.settings.bootstrap_servers)
    }
}

impl Connection {
    /// Checks all that can be told without a broker.
    ///
    /// # Errors
    /// [`LogError::Unusable`] with the property at fault; never with its value.
    pub(super) fn new(settings: KafkaSettings) -> Result<Self, LogError> {
        if settings.bootstrap_servers.trim().is_empty() {
            return Err(unusable("bootstrap_servers is empty"));
        }
        if settings.min_insync_replicas > settings.replication_factor {
            return Err(unusable(format!(
                "min_insync_replicas is {}, of {} replicas: nothing could ever be written",
                settings.min_insync_replicas, settings.replication_factor
            )));
        }
        for name in settings.properties.keys() {
            if OURS.contains(&name.as_str()) {
                return Err(unusable(format!("property {name} is set by this program and cannot be passed through")));
            }
        }
        if !cfg!(feature = "ssl")
            && let Some(reason) = needs_ssl(&settings.properties)
        {
            return Err(unusable(reason));
        }
        // Or OpenSSL would tidy up at the end of the process under the feet of threads that still close their connections.
        #[cfg(feature = "ssl")]
        openssl_sys::init();
        let connection = Self { settings: Arc::new(settings), lost_names: Arc::default() };
        for config in
            [connection.consumer("check", "read_committed"), connection.producer(), connection.transactional("check")]
        {
            config.create_native_config().map_err(|error| unusable(configuration_fault(&error)))?;
        }
        Ok(connection)
    }

    /// For the administration of topics.
    pub(super) fn administration(&self) -> ClientConfig {
        self.with_properties(self.common())
    }

    /// The operator's properties go last. What the meaning of the log rests on is not among them.
    fn with_properties(&self, mut config: ClientConfig) -> ClientConfig {
        for (name, value) in &self.settings.properties {
            config.set(name, value);
        }
        config
    }

    fn common(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        // What is worth a line is decided by `Context`, not by the `log` crate's global level.
        config.set_log_level(RDKafkaLogLevel::Info);
        config.set("client.id", "contact-replicator");
        config.set("reconnect.backoff.max.ms", "1000");
        // Partitions may be added to an input topic, and a producer takes none that it has not heard of.
        config.set("topic.metadata.refresh.interval.ms", "10000");
        config.set("socket.keepalive.enable", "true");
        config.set("bootstrap.servers", &self.settings.bootstrap_servers);
        // `send_offsets_to_transaction` ignores its own time-out and takes up to this one.
        config.set("socket.timeout.ms", "10000");
        config.set("retry.backoff.ms", "10");
        config.set("message.max.bytes", MESSAGE_BYTES_MAX.to_string());
        config
    }

    /// A consumer of `group` that commits, stores and resets nothing by itself.
    pub(super) fn consumer(&self, group: &str, isolation: &str) -> ClientConfig {
        let mut config = self.common();
        config.set("group.id", group);
        config.set("isolation.level", isolation);
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("enable.partition.eof", "false");
        config.set("allow.auto.create.topics", "false");
        config.set("auto.offset.reset", "error");
        config.set("queued.max.messages.kbytes", CONSUMER_QUEUE_KIB.to_string());
        config.set("fetch.queue.backoff.ms", "10");
        // A partition assigned while a broker holds an empty fetch is asked for only in the next one. With the default of
        // 500 ms each takeover would wait for two of them: the birth record's, and that of what follows.
        config.set("fetch.wait.max.ms", "50");
        self.with_properties(config)
    }

    /// A consumer without a group, for questions about topics. High watermarks include open transactions.
    pub(super) fn inquirer(&self) -> ClientConfig {
        let mut config = self.consumer("", "read_uncommitted");
        config.remove("group.id");
        config
    }

    /// A producer outside any transaction.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.idempotent();
        config.set("message.timeout.ms", "10000");
        self.with_properties(config)
    }

    /// A producer of transactions.
    pub(super) fn transactional(&self, transactional_id: &str) -> ClientConfig {
        let mut config = self.idempotent();
        let timeout = self.settings.transaction_timeout.as_millis().to_string();
        config.set("transactional.id", transactional_id);
        config.set("message.timeout.ms", &timeout);
        config.set("transaction.timeout.ms", timeout);
        self.with_properties(config)
    }

    fn idempotent(&self) -> ClientConfig {
        let mut config = self.common();
        config.set("enable.idempotence", "true");
        config.set("acks", "all");
        config.set("compression.type", "lz4");
        config.set("linger.ms", "0");
        config.set("queue.buffering.max.kbytes", PRODUCER_QUEUE_KIB.to_string());
        config
    }
}

/// Why `properties` need TLS, if they do. SCRAM is computed with OpenSSL too, even on a plain connection.
fn needs_ssl(properties: &std::collections::BTreeMap<String, String>) -> Option<String> {
    let value = |name: &str| properties.get(name).map(|value| value.to_ascii_lowercase());
    let protocol = value("security.protocol").filter(|protocol| protocol.ends_with("ssl"));
    if let Some(protocol) = protocol {
        return Some(format!(
            "security.protocol={protocol} needs TLS, which this build lacks; build with --features ssl"
        ));
    }
    ["sasl.mechanism", "sasl.mechanisms"].into_iter().find_map(|name| {
        let mechanism = value(name).filter(|mechanism| mechanism.starts_with("scram") || mechanism == "oauthbearer")?;
        Some(format!("{name}={mechanism} needs OpenSSL, which this build lacks; build with --features ssl"))
    })
}

/// Says which property librdkafka refused. Its own words may quote the value, which may be a password.
fn configuration_fault(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, _, name, _) => {
            format!("librdkafka does not know property {name}, or not this value of it")
        }
        KafkaError::Nul(_) => "a property contains a zero byte".to_owned(),
        KafkaError::ClientCreation(reason) => format!("a client could not be made: {reason}"),
        other => format!("a client could not be made: {other}"),
    }
}

fn unusable(reason: impl Into<String>) -> LogError {
    LogError::Unusable { reason: reason.into() }
}

/// The error of a client that could not be made at all.
pub(super) fn creation_error(error: &KafkaError) -> LogError {
    unusable(configuration_fault(error))
}

/// The error of a thread that the machine would not give us.
pub(super) fn thread_error(error: &std::io::Error) -> LogError {
    unusable(format!("a thread could not be started: {error}"))
}

/// librdkafka's code of an error, wherever rdkafka keeps it.
pub(super) fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// What `error` means for the caller. `subject` names what it concerns, with its kind: `topic contact-keys`.
pub(super) fn log_error(task: Task, subject: &str, error: &KafkaError) -> LogError {
    match code_of(error) {
        Some(code) => error_of_code(task, subject, code),
        None => LogError::Unavailable { doing: task.doing, reason: format!("{subject}: {error}") },
    }
}

pub(super) fn error_of_code(task: Task, subject: &str, code: RDKafkaErrorCode) -> LogError {
    use RDKafkaErrorCode as Code;
    let doing = task.doing;
    let refused =
        |permission: String| LogError::Unauthorized { doing, reason: format!("the broker refuses {permission}") };
    match code {
        Code::TopicAuthorizationFailed => refused(format!("{} on {subject}", task.needs)),
        // A subject may go on with the topic that was asked about.
        Code::GroupAuthorizationFailed => {
            refused(format!("READ on {}", subject.split_once(',').map_or(subject, |(group, _)| group)))
        }
        Code::TransactionalIdAuthorizationFailed => refused(format!("WRITE on {subject}")),
        // What a producer needs once, beside what it needs on each topic (KIP-679).
        Code::ClusterAuthorizationFailed if task.needs == WRITE => {
            refused(format!("WRITE on {subject}, and on every other topic"))
        }
        Code::ClusterAuthorizationFailed => refused(format!("{} on the cluster ({subject})", task.needs)),
        Code::Authentication | Code::SaslAuthenticationFailed => {
            LogError::Connection { reason: CREDENTIALS.to_owned() }
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            LogError::UnknownTopic { topic: subject.strip_prefix("topic ").unwrap_or(subject).into() }
        }
        Code::UnsupportedSASLMechanism
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::InvalidTransactionTimeout
        | Code::InvalidSessionTimeout
        | Code::InconsistentGroupProtocol
        | Code::InvalidConfig
        | Code::InvalidReplicationFactor
        | Code::PolicyViolation => unusable(format!("{subject}: {code} while {doing}")),
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => {
            unusable(format!("{subject}: the record is larger than the topic takes"))
        }
        _ => LogError::Unavailable { doing, reason: format!("{subject}: {code}") },
    }
}

/// Whether `code` only says that no broker could be reached.
fn is_transport(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
    )
}

/// What a person has to correct before a connection can come about; `None` for what may pass by itself.
fn connection_fault(code: RDKafkaErrorCode, reason: &str) -> Option<String> {
    match code {
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
            // The words of librdkafka and of the broker; neither quotes a password.
            let mechanism = reason.to_ascii_lowercase().contains("mechanism") && reason.contains("supported");
            Some(match mechanism {
                true => {
                    format!("set sasl.mechanism under log.kafka.properties to one that the listener takes ({reason})")
                }
                false => format!("{CREDENTIALS} ({reason})"),
            })
        }
        RDKafkaErrorCode::SSL => Some(format!(
            "TLS fails; check ssl.ca.location and, where the listener asks for one, ssl.certificate.location and \
             ssl.key.location under log.kafka.properties, and that the listener's certificate names the host ({reason})"
        )),
        _ => None,
    }
}

/// Lets one line of a kind through per [`REPORT_INTERVAL`].
#[derive(Debug, Default)]
struct Limiter(Mutex<HashMap<String, Kind>>);

#[derive(Debug)]
struct Kind {
    last: Instant,
    held_back: u64,
}

impl Limiter {
    /// The number of lines held back since the last one that passed; `None` holds this one back too.
    fn pass(&self, kind: &str, now: Instant) -> Option<u64> {
        /// librdkafka has a few dozen facilities; a bound all the same.
        const KINDS_MAX: usize = 64;
        let mut kinds = self.0.lock();
        if let Some(kind) = kinds.get_mut(kind) {
            if now.duration_since(kind.last) < REPORT_INTERVAL {
                kind.held_back += 1;
                return None;
            }
            kind.last = now;
            return Some(std::mem::take(&mut kind.held_back));
        }
        if kinds.len() >= KINDS_MAX {
            return None;
        }
        kinds.insert(kind.to_owned(), Kind { last: now, held_back: 0 });
        Some(0)
    }
}

/// What a client tells us beside its results.
#[derive(Debug)]
pub(super) struct Context {
    /// What the client is for, in its log lines.
    client: &'static str,
    /// It has the name of a group and takes no part in one, so a broker that keeps it from that takes nothing.
    groupless: bool,
    limiter: Limiter,
    /// Connections lost and requests unanswered, ever.
    transport_failures: AtomicU64,
    /// Why the last connection did not come about, until one does.
    connection_fault: Mutex<Option<String>>,
}

impl Context {
    pub(super) fn new(client: &'static str) -> Self {
        Self {
            client,
            groupless: false,
            limiter: Limiter::default(),
            transport_failures: AtomicU64::new(0),
            connection_fault: Mutex::default(),
        }
    }

    /// Of a consumer that chooses its partitions itself.
    pub(super) fn groupless(client: &'static str) -> Self {
        Self { groupless: true, ..Self::new(client) }
    }

    pub(super) fn transport_failures(&self) -> u64 {
        self.transport_failures.load(Ordering::Relaxed)
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let client = self.client;
        match level {
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                debug!(client, facility, message, "librdkafka reports");
            }
            // A property of consumers that a producer is given too: we pass the operator's to both.
            _ if facility == "CONFWARN" => debug!(client, facility, message, "librdkafka reports"),
            _ => {
                if let Some(held_back) = self.limiter.pass(facility, Instant::now()) {
                    warn!(client, facility, message, held_back, "librdkafka warns");
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = code_of(&error) else { return };
        let of_no_concern = self.groupless && code == RDKafkaErrorCode::GroupAuthorizationFailed;
        if code == RDKafkaErrorCode::PartitionEOF || of_no_concern {
            return;
        }
        if let Some(fault) = connection_fault(code, reason) {
            if self.limiter.pass("connection", Instant::now()).is_some() {
                error!(client = self.client, "the brokers accept no connection of ours: {fault}");
            }
            *self.connection_fault.lock() = Some(fault);
            return;
        }
        let kind = if is_transport(code) {
            self.transport_failures.fetch_add(1, Ordering::Relaxed);
            "transport".to_owned()
        } else {
            format!("{code:?}")
        };
        if let Some(held_back) = self.limiter.pass(&kind, Instant::now()) {
            warn!(client = self.client, error = %code, reason, held_back, "a Kafka client reports an error");
        }
    }
}

impl ConsumerContext for Context {}

/// Serves what has gathered in the queue of a consumer that nobody polls for records.
pub(super) fn serve(consumer: &BaseConsumer<Context>) {
    /// A broker that is away fills the queue faster than one would wish; the rest is served next time.
    const EVENTS_MAX: usize = 64;
    for _ in 0..EVENTS_MAX {
        // Whatever comes has been told to the context; a consumer without an assignment has no records.
        if consumer.poll(Duration::from_millis(1)).is_none() {
            break;
        }
    }
}

/// The answer to a question that `consumer` was asked. One that was not answered for a reason that somebody has to correct
/// says so.
pub(super) fn answered<T>(consumer: &BaseConsumer<Context>, answer: Result<T, LogError>) -> Result<T, LogError> {
    /// How long the reason may take to come out of the queue, behind the lines about it.
    const REASON_WITHIN: Duration = Duration::from_millis(200);
    let fault = &consumer.context().connection_fault;
    let Err(LogError::Unavailable { .. }) = answer else {
        fault.lock().take();
        return answer;
    };
    let deadline = Instant::now() + REASON_WITHIN;
    loop {
        serve(consumer);
        if let Some(reason) = fault.lock().clone() {
            return Err(LogError::Connection { reason });
        }
        if Instant::now() >= deadline {
            return answer;
        }
    }
}

/// Holds this thread still. Only threads of this folder call it, never one of the runtime.
pub(super) fn nap(duration: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "a thread of its own, and tokio's timer is not at hand inside a callback"
    )]
    std::thread::sleep(duration);
}

/// Runs what may panic because a foreign program wrote text that is not UTF-8: rdkafka unwraps where it should not.
pub(super) fn unless_garbled<T>(read: impl FnOnce() -> T) -> Option<T> {
    panic::catch_unwind(panic::AssertUnwindSafe(read)).ok()
}

/// rdkafka's number of a partition.
pub(super) fn partition_id(at: &TopicPartition) -> i32 {
    i32::try_from(at.partition).unwrap_or(i32::MAX)
}

/// rdkafka's form of an offset.
pub(super) fn native_offset(offset: Offset) -> topic_partition_list::Offset {
    topic_partition_list::Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX))
}

/// A list of partitions without offsets. It must be dropped before its consumer is: one that went through pause or
/// resume and lives on makes the consumer's end hang for ever.
pub(super) fn list_of<'a>(partitions: impl IntoIterator<Item = (&'a str, i32)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        list.add_partition(topic, partition);
    }
    list
}

/// Drops a client on a thread of its own: closing one waits for brokers, up to some seconds.
#[derive(Debug)]
pub(super) struct Offloaded<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Offloaded<T> {
    pub(super) fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send + 'static> std::ops::Deref for Offloaded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("the client is taken by drop alone")
    }
}

impl<T: Send + 'static> Drop for Offloaded<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        if let Err(error) = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(client)) {
            // The closure, and the client with it, was dropped on this thread instead: slow, but closed.
            debug!(%error, "a Kafka client was closed without a thread of its own");
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::log::kafka) fn settings(properties: &[(&str, &str)]) -> KafkaSettings {
        KafkaSettings {
            bootstrap_servers: "127.0.0.1:1".to_owned(),
            session_timeout: Duration::from_secs(6),
            heartbeat_interval: Duration::from_secs(1),
            transaction_timeout: Duration::from_secs(10),
            drain_deadline: Duration::from_secs(5),
            replication_factor: 1,
            min_insync_replicas: 1,
            properties: properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    fn fault(properties: &[(&str, &str)]) -> String {
        Connection::new(settings(properties)).expect_err("must be refused").to_string()
    }

    #[test]
    fn properties_that_carry_the_guarantees_cannot_be_replaced() {
        for name in OURS {
            assert!(fault(&[(name, "x")]).contains(name));
        }
    }

    #[test]
    fn an_unknown_property_is_named_without_its_value() {
        let fault = fault(&[("sasl.pasword", "hunter2")]);
        assert!(fault.contains("sasl.pasword") && !fault.contains("hunter2"), "{fault}");
    }

    #[cfg(not(feature = "ssl"))]
    #[test]
    fn tls_without_the_feature_is_refused_with_the_remedy() {
        for properties in
            [("security.protocol", "SASL_SSL"), ("security.protocol", "ssl"), ("sasl.mechanism", "SCRAM-SHA-512")]
        {
            assert!(fault(&[properties]).contains("--features ssl"));
        }
    }

    #[test]
    fn ordinary_properties_pass() {
        Connection::new(settings(&[("client.id", "x"), ("client.rack", "a"), ("security.protocol", "plaintext")]))
            .expect("harmless");
    }

    #[test]
    fn a_refusal_names_the_permission_and_the_subject() {
        let task = Task::new("reading", "READ");
        let error = error_of_code(task, "topic contact-keys", RDKafkaErrorCode::TopicAuthorizationFailed);
        assert!(
            matches!(&error, LogError::Unauthorized { reason, .. } if reason.contains("READ on topic contact-keys")),
            "{error}"
        );
        assert!(!error.is_transient());
    }

    #[test]
    fn a_missing_topic_is_named_bare() {
        let error = error_of_code(Task::new("reading", "READ"), "topic x", RDKafkaErrorCode::UnknownTopicOrPartition);
        assert!(matches!(error, LogError::UnknownTopic { topic } if &*topic == "x"));
    }

    #[test]
    fn noise_of_one_kind_passes_once_per_interval_and_is_counted() {
        let limiter = Limiter::default();
        let start = Instant::now();
        assert_eq!(limiter.pass("FAIL", start), Some(0));
        for _ in 0..100 {
            assert_eq!(limiter.pass("FAIL", start), None);
        }
        assert_eq!(limiter.pass("OTHER", start), Some(0));
        assert_eq!(limiter.pass("FAIL", start + REPORT_INTERVAL), Some(100));
    }

    #[test]
    fn garbled_text_of_a_stranger_is_no_panic_of_ours() {
        assert_eq!(unless_garbled(|| String::from_utf8(vec![0xff]).expect("it is not")), None);
    }
}
