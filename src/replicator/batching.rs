//! Joins the requests of several contacts into one call, and gives each of them an answer of its own.
//!
//! An attempt does not know of it: it hands over its request (a *row*) and waits. Rows that are alike gather until there
//! are enough of them, or enough bytes, or the first has waited long enough. Then the call takes its turn in the rate, and
//! only after that is it settled who comes along: a row whose partition was lost meanwhile, or whose attempt is gone, stays
//! behind. From here on the call is like any other, so its rate, its concurrency and its metrics count calls.
//!
//! How rows are joined and an answer is taken apart is the connector's business ([`Batching`]). Where the CRM refuses the
//! whole call for the sake of some rows, each half goes by itself, until the culprit is alone and the answer is its own: of
//! `n` rows one culprit costs at most `2 × ⌈log2 n⌉` more calls. Each half takes its turn, and is looked at again before it
//! leaves.
//!
//! A collector is owned by those who send with it: when it is dropped, what it has under way is given up.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::oneshot, task::JoinSet, time::Instant};

use super::way::{Passenger, Sent, Way};
use crate::crm::{BatchLimits, Batching, Request, Split, remote::Turn as _};

/// Gathers rows for the calls to one CRM.
#[derive(Debug)]
pub(super) struct Collector {
    batching: Arc<dyn Batching>,
    way: Arc<Way>,
    limits: BatchLimits,
    gathered: Arc<Mutex<Gathered>>,
    /// One task for each call that gathers or is under way.
    calls: Mutex<JoinSet<()>>,
}

/// The calls to be: one of each sort of request at most.
#[derive(Debug, Default)]
struct Gathered {
    calls: Vec<Gathering>,
    /// How many there have been.
    count: u64,
}

/// A call to be: rows that are alike.
#[derive(Debug)]
struct Gathering {
    number: u64,
    rows: Vec<Row>,
    bytes: usize,
    /// Hands the rows to the task of the call before its time.
    leaves: oneshot::Sender<Vec<Row>>,
}

/// The request of one contact on its way.
#[derive(Debug)]
struct Row {
    key: String,
    request: Request,
    passenger: Passenger,
    reply: oneshot::Sender<Sent>,
}

impl Row {
    /// Whether a request may be in one call with this.
    fn is_like(&self, other: &Request) -> bool {
        let own = &self.request;
        (own.kind, &own.method, &own.path, &own.headers) == (other.kind, &other.method, &other.path, &other.headers)
    }

    /// Whether nobody waits for its answer any more.
    fn is_given_up(&self) -> bool {
        self.reply.is_closed()
    }

    fn answer(self, sent: Sent) {
        if self.reply.send(sent).is_err() {
            tracing::debug!("nobody waits for the answer to a row any more");
        }
    }
}

impl Gathered {
    fn like(&self, request: &Request) -> Option<usize> {
        self.calls.iter().position(|call| call.rows.first().is_some_and(|row| row.is_like(request)))
    }

    /// Takes the rows of a call that gathers no longer.
    fn take(&mut self, number: u64) -> Option<Vec<Row>> {
        let index = self.calls.iter().position(|call| call.number == number)?;
        Some(self.calls.swap_remove(index).rows)
    }

    /// Lets a call leave before its time.
    fn close(&mut self, index: usize) {
        let Gathering { rows, leaves, .. } = self.calls.swap_remove(index);
        if leaves.send(rows).is_err() {
            tracing::error!("the task of a call is gone before the call");
        }
    }
}

impl Collector {
    pub(super) fn new(batching: Arc<dyn Batching>, way: Arc<Way>) -> Self {
        let limits = batching.limits();
        Self { batching, way, limits, gathered: Arc::default(), calls: Mutex::default() }
    }

    /// What names this request among the rows of a call; `None`: it travels alone.
    pub(super) fn row_key(&self, request: &Request) -> Option<String> {
        let fits = self.limits.rows_max > 1 && request.body.len() <= self.limits.bytes_max;
        if fits { self.batching.row_key(request) } else { None }
    }

    /// Sends the request with others. Cancel-safe: a row for whose answer nobody waits any more stays behind, unless its
    /// call has left.
    ///
    /// # Panics
    /// If a row of this key gathers already: at most one request of a contact is under way.
    pub(super) async fn send(&self, request: Request, key: String, passenger: Passenger) -> Sent {
        let (reply, answered) = oneshot::channel();
        self.gather(Row { key, request, passenger, reply });
        answered.await.expect("each row of a call is answered")
    }

    fn gather(&self, row: Row) {
        let mut gathered = self.gathered.lock();
        let bytes = row.request.body.len();
        if let Some(index) = gathered.like(&row.request)
            && gathered.calls[index].bytes + bytes > self.limits.bytes_max
        {
            gathered.close(index);
        }
        let index = gathered.like(&row.request).unwrap_or_else(|| {
            gathered.count += 1;
            let (leaves, left) = oneshot::channel();
            let number = gathered.count;
            gathered.calls.push(Gathering { number, rows: Vec::new(), bytes: 0, leaves });
            self.prepare(number, left);
            gathered.calls.len() - 1
        });
        let call = &mut gathered.calls[index];
        // One that was given up may still lie here, and will not leave.
        let is_twice = call.rows.iter().any(|other| other.key == row.key && !other.is_given_up());
        assert!(!is_twice, "at most one request of a contact is under way");
        call.bytes += bytes;
        call.rows.push(row);
        if call.rows.len() >= self.limits.rows_max {
            gathered.close(index);
        }
    }

    /// Begins the task of a call, which leaves when it is told to, or when its time has come.
    fn prepare(&self, number: u64, mut left: oneshot::Receiver<Vec<Row>>) {
        let (gathered, age_max) = (self.gathered.clone(), self.limits.age_max);
        let carrier = Carrier { batching: self.batching.clone(), way: self.way.clone() };
        let mut calls = self.calls.lock();
        while calls.try_join_next().is_some() {}
        calls.spawn(async move {
            let rows = match tokio::time::timeout(age_max, &mut left).await {
                Ok(rows) => rows.ok(),
                Err(_elapsed) => {
                    let gathered = gathered.lock().take(number);
                    if gathered.is_some() { gathered } else { left.await.ok() }
                }
            };
            carrier.carry(rows.unwrap_or_default()).await;
        });
    }
}

/// Brings rows to the CRM.
struct Carrier {
    batching: Arc<dyn Batching>,
    way: Arc<Way>,
}

impl Carrier {
    /// In one call, and in more where the CRM refuses all for the sake of some.
    async fn carry(&self, rows: Vec<Row>) {
        let mut parts = vec![rows];
        while let Some(rows) = parts.pop() {
            if let Some((first, second)) = self.call(rows).await {
                parts.extend([second, first]);
            }
        }
    }

    /// One call. Returns the halves, if it was refused for the sake of some of its rows.
    async fn call(&self, mut rows: Vec<Row>) -> Option<(Vec<Row>, Vec<Row>)> {
        rows.retain(|row| !row.is_given_up());
        if rows.is_empty() {
            return None;
        }
        self.way.rate.wait().await;
        let mut boarded = Vec::with_capacity(rows.len());
        for row in rows {
            match self.way.kept_back(&row.passenger) {
                _ if row.is_given_up() => {}
                Some(end) => row.answer(Sent::Kept(end)),
                None => boarded.push(row),
            }
        }
        let joined = match boarded.as_slice() {
            [] => return None,
            [alone] => alone.request.clone(),
            several => {
                let requests: Vec<&Request> = several.iter().map(|row| &row.request).collect();
                self.batching.join(&requests)
            }
        };
        let keys: Vec<&str> = boarded.iter().map(|row| row.key.as_str()).collect();
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "no contact is twice in a call");
        let sent_at = Instant::now();
        let call = self.way.traces.call(boarded.iter().map(|row| &row.passenger.place));
        let (answer, credential) = self.way.exchange(joined, &call).await;
        let answers = match keys.as_slice() {
            [_alone] => vec![answer],
            several => match self.batching.split(&answer, several) {
                Split::Rows(answers) => answers,
                Split::Halve => {
                    let (crm, rows) = (&self.way.crm, boarded.len());
                    tracing::debug!(%crm, rows, "a call was refused for the sake of some of its rows: it is halved");
                    let second = boarded.split_off(boarded.len() / 2);
                    return Some((boarded, second));
                }
            },
        };
        assert_eq!(answers.len(), boarded.len(), "each row has its answer");
        for (row, answer) in boarded.into_iter().zip(answers) {
            row.answer(Sent::Left { answer, credential, sent_at, shared: call.shared() });
        }
        None
    }
}

#[cfg(test)]
mod tests;
