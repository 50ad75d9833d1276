//! The program as processes, as tests see them from outside: exit codes, lines, ports, what they cost.
//!
//! Shared by all tests that start it. Processes die with the test, however it ends.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_contact-replicator");
/// What the identity index is keyed with.
pub(crate) const SECRET: &str = "only for tests, and of no use to anybody";
/// What the simulated CRMs take for a credential.
pub(crate) const TOKEN: &str = "sandbox-token";
/// Where the program looks for the credentials of CRMs.
pub(crate) const CREDENTIALS: [&str; 6] = [
    "PRIAVA_API_TOKEN",
    "PREVISTO_API_KEY",
    "NEXTINTERACT_SAM_EMAIL",
    "NEXTINTERACT_SAM_PASSWORD",
    "CRM_COM_SECRET",
    "LOGISENSE_SECRET",
];
/// As many requests as a long run makes, so that none is forgotten.
const REQUESTS_MAX: &str = "2000000";
/// How long a process may take to answer, or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);

/// The program, with what it needs of its surroundings.
pub(crate) fn program() -> Command {
    let mut program = Command::new(PROGRAM);
    program.env("CONTACT_REPLICATOR_SECRET", SECRET).envs(CREDENTIALS.map(|variable| (variable, TOKEN)));
    program
}

/// A process of ours. Ends with its value.
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) child: Child,
}

impl Process {
    pub(crate) fn start(name: &str, command: &mut Command, output: Stdio, errors: Stdio) -> Self {
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn().unwrap();
        Self { name: name.to_owned(), child }
    }

    #[track_caller]
    pub(crate) fn assert_runs(&mut self, lines: &Lines) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("{} ended with {status}:\n{}", self.name, lines.last(20));
        }
    }

    /// Asks it to stop, and waits for its end.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        eventually(&format!("{} ends", self.name), PATIENCE, async || self.child.try_wait().unwrap()).await
    }

    /// Sends it a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success(), "{} is not there any more", self.name);
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it costs.
    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ended = self.child.kill().is_err();
        let _status = self.child.wait().is_err();
    }
}

/// What a process costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Resident memory, in MiB.
    pub(crate) resident: u64,
    /// The most of it so far, in MiB.
    pub(crate) most: u64,
    /// Processor time so far, in seconds.
    pub(crate) cpu: f64,
}

impl Usage {
    /// That of the process with this number, which must run.
    pub(crate) fn of(process: u32) -> Self {
        let proc = Path::new("/proc").join(process.to_string());
        let status = fs::read_to_string(proc.join("status")).unwrap();
        let mebibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
        };
        let stat = fs::read_to_string(proc.join("stat")).unwrap();
        // Behind the parenthesised name, which may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
        Self { resident: mebibytes("VmRSS:"), most: mebibytes("VmHWM:"), cpu: (ticks(11) + ticks(12)) / 100.0 }
    }
}

/// What a process wrote to standard error since it was started.
pub(crate) struct Lines {
    path: PathBuf,
    begins: usize,
}

impl Lines {
    /// Those that will be appended to `path`, and a file for the process to do so.
    pub(crate) fn of(path: PathBuf) -> (Self, File) {
        let file = File::options().create(true).append(true).open(&path).unwrap();
        let begins = usize::try_from(file.metadata().unwrap().len()).unwrap();
        (Self { path, begins }, file)
    }

    pub(crate) fn all(&self) -> Vec<String> {
        let bytes = fs::read(&self.path).unwrap();
        let text = String::from_utf8_lossy(bytes.get(self.begins..).unwrap_or_default()).into_owned();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn last(&self, count: usize) -> String {
        let lines = self.all();
        lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect::<Vec<_>>().join("\n")
    }

    /// The address that the line about `what` names; a line that is still being written names none.
    fn address(&self, what: &str) -> Option<SocketAddr> {
        let lines = self.all();
        let line = lines.iter().find(|line| line.contains(what))?;
        line.rsplit_once("address=")?.1.split_whitespace().next()?.parse().ok()
    }

    /// Where the worker that writes them answers about its health.
    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        self.address("health and metrics are served")
    }

    /// Where it takes events over HTTP.
    pub(crate) fn ingest(&self) -> Option<SocketAddr> {
        self.address("events are taken over HTTP")
    }
}

/// The sum of a metric of a worker over all its labels.
pub(crate) async fn metric(admin: SocketAddr, name: &str) -> f64 {
    metric_if_any(admin, name).await.unwrap_or_else(|| panic!("there is no metric {name}"))
}

/// The same of a worker that may not be there any more.
pub(crate) async fn metric_if_any(admin: SocketAddr, name: &str) -> Option<f64> {
    let answer = exchange(admin, "GET", "/metrics", "", b"").await.ok()?;
    let name = format!("contact_replicator_{name}");
    let values: Vec<f64> = answer
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix(&name))
        .filter(|rest| rest.starts_with([' ', '{']))
        .filter_map(|rest| rest.rsplit_once(' ')?.1.parse().ok())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// Whether the worker says that it is ready.
pub(crate) async fn is_ready(admin: SocketAddr) -> bool {
    exchange(admin, "GET", "/readyz", "", b"").await.is_ok_and(|answer| answer.status == 200)
}

/// The simulated CRMs, one of each kind, as one process.
pub(crate) struct Sandbox {
    pub(crate) address: SocketAddr,
    #[allow(dead_code, reason = "it ends with this value; what it costs is not everybody's question")]
    pub(crate) process: Process,
}

impl Sandbox {
    pub(crate) async fn start(folder: &Path, latency: Duration) -> Self {
        Self::start_with(folder, latency, &["--keep-bodies", "--remember", REQUESTS_MAX]).await
    }

    /// The same, with flags of the caller's choice.
    pub(crate) async fn start_with(folder: &Path, latency: Duration, flags: &[&str]) -> Self {
        let errors = File::create(folder.join("sandbox.log")).unwrap();
        let mut command = program();
        command.args(["sandbox", "--listen", "127.0.0.1:0", "--token", TOKEN]).args(flags);
        command.arg("--latency").arg(format!("{}ms", latency.as_millis()));
        let mut process = Process::start("sandbox", &mut command, Stdio::piped(), errors.into());
        let output = process.child.stdout.take().unwrap();
        let address = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).unwrap();
            let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()?.parse().ok());
            address.unwrap_or_else(|| panic!("the sandbox said {line:?}"))
        });
        Self { address: address.await.unwrap(), process }
    }

    /// What a control address of the CRM of this kind answers.
    pub(crate) async fn page(&self, kind: &str, name: &str) -> Vec<u8> {
        let answer = exchange(self.address, "GET", &format!("/{kind}/_sandbox/{name}"), "", b"").await.unwrap();
        assert_eq!(answer.status, 200);
        answer.body
    }

    /// Replaces what goes wrong in the CRM of this kind; `plan` is a plan of faults in JSON.
    pub(crate) async fn misbehave(&self, kind: &str, plan: &Value) {
        let (path, plan) = (format!("/{kind}/_sandbox/faults"), plan.to_string());
        let answer = exchange(self.address, "POST", &path, "", plan.as_bytes()).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(':'));
        headers.find(|(found, _)| *found == name).map(|(_, value)| value.trim())
    }
}

/// One HTTP exchange; each of `headers` ends its line. An answer that was cut off is none.
pub(crate) async fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> io::Result<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await??;
    let ends = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&answer[..ends]).to_lowercase();
    assert!(!head.contains("transfer-encoding"), "this client does not read {head}");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    let answer = Answer { status, head, body: answer[ends + 4..].to_vec() };
    let length = answer.header("content-length").and_then(|length| length.parse().ok());
    if length.is_some_and(|length: usize| length != answer.body.len()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

/// Waits until `look` finds something, and says what if it never does.
pub(crate) async fn eventually<T>(what: &str, patience: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(LOOK).await;
    }
}
