//! What was done to an installation, and when.
//!
//! The judge must know it, and nothing else of how it came about: a worker that was killed may have had answers in its
//! hands, one that was frozen may have sent a request long after its deadline, and a CRM that was down is nobody's fault.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;

/// All that was done, in the order of its beginning.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) acts: Vec<Act>,
    /// When the last fault was over and everything was as it should be.
    pub(crate) healed: Option<Timestamp>,
    /// Connections to the CRMs, in the order of their beginning: what a CRM's books call the peer, and whose it was.
    pub(crate) lines: Vec<Line>,
}

/// A connection of a worker to the CRMs.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) from: Timestamp,
    pub(crate) peer: SocketAddr,
    pub(crate) worker: Arc<str>,
}

/// Something that was done. Instants are of the wall clock, which all processes of a run share.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    pub(crate) from: Timestamp,
    /// When it was over; the same as `from` for what takes no time.
    pub(crate) until: Timestamp,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A worker was started, with or without a view of before; `until`: it was ready.
    Started { worker: Arc<str> },
    /// SIGTERM; `until`: it had ended.
    Stopped { worker: Arc<str> },
    /// SIGKILL.
    Killed { worker: Arc<str> },
    /// SIGSTOP until SIGCONT.
    Frozen { worker: Arc<str> },
    /// The folder of its view was removed while it did not run.
    ViewDeleted { worker: Arc<str> },
    /// A file of its view was cut short while it did not run.
    ViewTorn { worker: Arc<str> },
    /// The second broker was asked to stop and started again; `until`: it was as if it had never been away.
    BrokerRestarted,
    /// The same after it was killed.
    BrokerKilled,
    /// What passes between a worker and the broker took this much longer.
    BrokerDelayed { worker: Arc<str>, by: Duration },
    /// The line between a worker and the broker was cut, and could not be opened again before it was over.
    BrokerCut { worker: Arc<str> },
    /// The line was cut as soon as a transaction was being committed over it.
    CommitCut { worker: Arc<str> },
    /// The line between a worker and all CRMs was cut.
    CrmCut { worker: Arc<str> },
    /// A CRM answered nobody, or with 503 alone.
    CrmDown { crm: Arc<str> },
    /// A CRM refused with 429 and asked for this patience.
    CrmThrottled { crm: Arc<str>, patience: Duration },
    /// A CRM lost answers, or gave them late, after or before the effect.
    AnswersLost { crm: Arc<str> },
}

impl What {
    /// Which kind of thing was done, in a word or two.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Stopped { .. } => "stopped",
            Self::Killed { .. } => "killed",
            Self::Frozen { .. } => "frozen",
            Self::ViewDeleted { .. } => "view deleted",
            Self::ViewTorn { .. } => "view torn",
            Self::BrokerRestarted => "broker restarted",
            Self::BrokerKilled => "broker killed",
            Self::BrokerDelayed { .. } => "line to the broker delayed",
            Self::BrokerCut { .. } => "line to the broker cut",
            Self::CommitCut { .. } => "line cut in a commit",
            Self::CrmCut { .. } => "line to the CRMs cut",
            Self::CrmDown { .. } => "CRM down",
            Self::CrmThrottled { .. } => "CRM throttled",
            Self::AnswersLost { .. } => "answers lost or late",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { worker } => write!(f, "{worker} is started"),
            Self::Stopped { worker } => write!(f, "{worker} is asked to stop"),
            Self::Killed { worker } => write!(f, "{worker} is killed"),
            Self::Frozen { worker } => write!(f, "{worker} is frozen"),
            Self::ViewDeleted { worker } => write!(f, "the view of {worker} is deleted"),
            Self::ViewTorn { worker } => write!(f, "a file in the view of {worker} is cut short"),
            Self::BrokerRestarted => write!(f, "the second broker is asked to stop"),
            Self::BrokerKilled => write!(f, "the second broker is killed"),
            Self::BrokerDelayed { worker, by } => write!(f, "the line of {worker} to the broker takes {by:?} longer"),
            Self::BrokerCut { worker } => write!(f, "the line of {worker} to the broker is cut"),
            Self::CommitCut { worker } => write!(f, "the line of {worker} to the broker is cut in a commit"),
            Self::CrmCut { worker } => write!(f, "the line of {worker} to the CRMs is cut"),
            Self::CrmDown { crm } => write!(f, "{crm} is down"),
            Self::CrmThrottled { crm, patience } => write!(f, "{crm} asks for {patience:?} of patience"),
            Self::AnswersLost { crm } => write!(f, "{crm} loses answers or gives them late"),
        }
    }
}
