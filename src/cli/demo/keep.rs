//! A demo that goes on: what can be tried while it does, and its end.

use std::{fmt, future::Future, net::Ipv4Addr, path::PathBuf, sync::Arc};

use super::{
    generator::SOURCES,
    run::DemoError,
    stage::{Stage, Worker},
};
use crate::admin::Admin;

/// An installation that was judged and still runs.
pub struct Kept {
    stage: Stage,
    worker: Worker,
    admin: Admin,
    folder: PathBuf,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Kept {
    pub(super) async fn new(stage: Stage, worker: Worker) -> Result<Self, DemoError> {
        let any_port = (Ipv4Addr::LOCALHOST, 0).into();
        let admin = Admin::start(any_port, stage.registry.clone(), stage.readiness.clone(), stage.desk.clone()).await;
        let admin = admin.map_err(DemoError::io("listening for health and metrics"))?;
        let folder = stage.settings.worker.data.clone();
        Ok(Self { stage, worker, admin, folder })
    }

    /// Goes on until `stop` ends, then drains the worker, and returns what that left undone. The folder stays.
    ///
    /// # Errors
    /// If the worker ends before.
    pub async fn serve(self, stop: impl Future<Output = &'static str>) -> Result<Vec<Arc<str>>, DemoError> {
        let Self { stage, mut worker, admin, .. } = self;
        let ended = tokio::select! {
            error = worker.ended() => Err(error),
            _signal = stop => worker.stop().await,
        };
        admin.stop().await;
        stage.strike().await;
        ended
    }
}

/// What can be tried.
impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (admin, ingest) = (self.admin.address(), &self.stage.settings.ingest.listen);
        let shop = SOURCES[0].1;
        writeln!(f, "\nIt goes on until Ctrl-C, with its data in {}, which stays. To try:", self.folder.display())?;
        writeln!(f, "  curl http://{admin}/metrics    # also /readyz")?;
        for (_, name, _) in self.stage.server.hosted() {
            let server = self.stage.server.address();
            writeln!(f, "  curl http://{server}/{name}/_sandbox/contacts    # also requests")?;
        }
        writeln!(
            f,
            "  curl http://{ingest}/events -H 'content-type: application/cloudevents+json' -d '{{\"specversion\":\"1.0\",\
             \"id\":\"mine-1\",\"source\":\"{shop}\",\"type\":\"com.example.contact.created.v1\",\"subject\":\"mine\",\
             \"data\":{{\"name\":{{\"givenName\":\"Ada\",\"familyName\":\"Lovelace\"}},\
             \"emails\":[{{\"value\":\"ada.lovelace@example.com\"}}],\
             \"phoneNumbers\":[{{\"value\":\"+447700900123\",\"type\":\"mobile\"}}]}}}}'"
        )?;
        writeln!(f, "  contact-replicator explain --admin http://{admin} ada.lovelace@example.com")?;
        writeln!(f, "The CRMs behave now. To lose every fifth answer of one, and to end that:")?;
        for (_, name, _) in self.stage.server.hosted().take(1) {
            let faults = format!("http://{}/{name}/_sandbox/faults", self.stage.server.address());
            let plan = r#"{"chances":[{"probability":0.2,"fault":{"instead":{"kind":"reset_after"}}}]}"#;
            writeln!(f, "  curl {faults} -d '{plan}'")?;
            writeln!(f, "  curl {faults} -d '{{}}'")?;
        }
        Ok(())
    }
}
