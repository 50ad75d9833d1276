//! Each error that the documents of a CRM name, through the whole pipeline: what becomes of the contact that met it, and
//! what an operator sees.
//!
//! A table for each CRM, a row for each error, named after the section and the code of the document that has it. A row
//! says which call is answered so, and what follows. All rows of a CRM meet the same worker, one after the other, so that
//! what one leaves behind would show in the next.

mod crm_com;
mod logisense;
mod nextinteract_sam;
mod previsto;
mod priava;

use std::{collections::BTreeMap, time::Duration};

use contact_replicator::{
    config::CrmKind,
    event::{Operation, Outcome, OutcomeKind, ReasonCode},
    explain::{Asked, Paused, words},
    sandbox::{Action, Fault, FaultPlan, Instead, LoggedRequest, Only, Scripted, Window},
};
use tokio::time::{Instant, sleep};

use crate::{
    history::event,
    lines::Lines,
    scene::{Scene, change, play},
    world::{REQUEST_DEADLINE, Setup, Tenant, World},
};

/// The call that an error answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// That makes the contact.
    Create,
    /// That carries another name of a contact which is known.
    Update,
    /// As [`At::Update`], but of the parts that the CRM keeps apart from the contact.
    Parts,
    /// As [`At::Parts`], the call that reads them.
    ReadParts,
    /// That looks for the contact before it is made.
    Search,
    /// That deletes it.
    Delete,
    /// That gets a credential, when the one in use has ended.
    Login,
}

/// What is answered.
#[derive(Debug, Clone)]
enum Answered {
    With {
        status: u16,
        body: String,
    },
    /// With a wish for patience, in seconds.
    Patience {
        status: u16,
        body: String,
        seconds: u64,
    },
    /// The connection breaks before the effect, or after it.
    ResetBefore,
    ResetAfter,
    /// The effect takes place, and the answer comes after the deadline.
    TooLate,
}

/// What follows, as the operator sees it.
#[derive(Debug, Clone, Copy)]
enum Becomes {
    /// Another credential is got, and the contact is delivered without another try.
    Renewed,
    /// Nothing more is sent, nothing is given up, and when the error is over all goes on, without a try used up.
    Paused(Paused),
    /// The contact is tried again and delivered.
    TriedAgain,
    /// The whole CRM is left alone for as long as it asked, and the contact is delivered without another try.
    LeftAlone,
    /// The contact is rejected with this reason; after so many tries.
    Rejected(ReasonCode, u32),
    /// The contact that is gone is made anew.
    MadeAnew,
    /// Which is what was wanted.
    Done(Operation),
}

struct Row {
    /// Section and code of the document.
    name: &'static str,
    at: At,
    answered: Answered,
    becomes: Becomes,
    /// The CRM's own code, as outcomes and log lines show it.
    code: Option<&'static str>,
    /// How many calls are answered so, of an error that is over by itself.
    times: u64,
}

fn row(name: &'static str, at: At, answered: Answered, becomes: Becomes) -> Row {
    Row { name, at, answered, becomes, code: None, times: 1 }
}

impl Row {
    fn coded(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }
}

fn with(status: u16, body: impl ToString) -> Answered {
    Answered::With { status, body: body.to_string() }
}

/// At least the time that each CRM's settings demand between two logins.
const LOGIN_INTERVAL: Duration = Duration::from_secs(60);
/// Longer than any row lasts.
const LASTING: Duration = Duration::from_secs(100_000);
/// How long a pause is watched.
const WATCHED: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(100);

/// One CRM, and where its calls go.
struct Table {
    tenant: &'static [Tenant],
    prepare: fn(&mut World),
    only: fn(At) -> Only,
    rows: Vec<Row>,
}

impl Table {
    fn holds(self) {
        play(async {
            let (lines, _listening) = Lines::begin();
            let mut world = World::of(Setup { crms: self.tenant, ..Setup::default() }).await;
            (self.prepare)(&mut world);
            let scene = Scene::begin(world).await;
            scene.ready(0).await;
            let kind = self.tenant[0].kind;
            let mut stage = Stage { scene, lines, crm: self.tenant[0].name, kind, only: self.only, number: 0 };
            stage.begin().await;
            let mut broken = Vec::new();
            for row in &self.rows {
                if let Err(why) = stage.play(row).await {
                    broken.push(format!("{} ({:?}): {why}", row.name, row.at));
                    stage.mended().await;
                }
            }
            assert!(broken.is_empty(), "{} of {} rows:\n{}", broken.len(), self.rows.len(), broken.join("\n"));
        });
    }
}

/// What a row is played on.
struct Stage {
    scene: Scene,
    lines: Lines,
    crm: &'static str,
    kind: CrmKind,
    only: fn(At) -> Only,
    /// Of the row.
    number: usize,
}

/// What is not as the row says.
type Broken = String;

fn expect(holds: bool, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(what()) }
}

impl Stage {
    /// Two contacts, after which the worker is logged in and has read what it needs.
    async fn begin(&mut self) {
        let subjects = ["r0a".to_owned(), "r0b".to_owned()];
        self.say(&subjects, 1, At::Create).await;
        self.ended(&subjects, 1).await.expect("nothing goes wrong yet");
    }

    async fn play(&mut self, row: &Row) -> Result<(), Broken> {
        self.number += 1;
        self.accept_all_secrets();
        if row.at == At::Login || matches!(row.becomes, Becomes::Renewed) {
            sleep(LOGIN_INTERVAL).await;
        }
        let subjects = [format!("r{}a", self.number), format!("r{}b", self.number)];
        let is_known = matches!(row.at, At::Update | At::Parts | At::ReadParts | At::Delete);
        if is_known {
            self.say(&subjects, 1, row.at).await;
            self.ended(&subjects, 1).await?;
        }
        self.lines.take();
        let gone = self.metric("remote_contacts_gone_total");
        let calls = self.scene.world.sandbox.calls();
        let begun = Instant::now();
        self.scene.world.set_faults(self.faults(row));
        let sequence = if is_known { 2 } else { 1 };
        self.say(&subjects, sequence, row.at).await;
        if let Becomes::Paused(why) = row.becomes {
            self.is_paused(row, why, &subjects, sequence, calls).await?;
        }
        let ends = self.ended(&subjects, sequence).await;
        self.scene.world.set_faults(FaultPlan::default());
        let ends = ends?;
        let [first, second] = [&ends[0], &ends[1]];
        let calls: Vec<_> = self.scene.world.sandbox.requests().split_off(calls as usize);
        match row.becomes {
            Becomes::Rejected(code, attempts) => {
                for end in [first, second] {
                    expect(end.outcome == OutcomeKind::Rejected, || format!("not rejected, but {end:?}"))?;
                    let reason = end.reason.clone().ok_or("it was rejected without a reason")?;
                    expect(reason.code == code, || format!("the reason is {reason:?}"))?;
                    expect(reason.http_status == Some(row.status()), || format!("the status is {reason:?}"))?;
                    expect(reason.crm_code.as_deref() == row.code, || format!("the CRM's code is {reason:?}"))?;
                    expect(end.attempts == attempts, || format!("{} tries", end.attempts))?;
                }
                expect(self.metric("crm_paused") == 0.0, || "a contact's own fault paused the CRM".to_owned())
            }
            Becomes::Renewed => {
                delivered(first, |tries| tries == 1)?;
                delivered(second, |tries| tries == 1)?;
                let logins = calls.iter().filter(|call| self.is_login(call)).count();
                expect(logins == 1, || format!("{logins} logins"))
            }
            Becomes::Paused(_) => {
                delivered(first, |tries| tries == 1)?;
                delivered(second, |tries| tries == 1)?;
                self.metrics_say(None)?;
                let goes_on = self.lines.take().iter().any(|line| line.contains("the CRM takes requests again"));
                expect(goes_on, || "the log does not say that it goes on".to_owned())
            }
            Becomes::TriedAgain => {
                delivered(first, |tries| tries <= 2)?;
                delivered(second, |tries| tries <= 2)?;
                expect(first.attempts + second.attempts > 2, || "nobody was tried again".to_owned())?;
                expect(self.metric("crm_paused") == 0.0, || "one failure paused the CRM".to_owned())
            }
            Becomes::LeftAlone => {
                delivered(first, |tries| tries == 1)?;
                delivered(second, |tries| tries == 1)?;
                let Answered::Patience { seconds, .. } = row.answered else { panic!("{} asks for patience", row.name) };
                expect(begun.elapsed() >= Duration::from_secs(seconds), || format!("after {:?}", begun.elapsed()))?;
                self.metrics_say(None)
            }
            // What the CRM says is gone is made although it may be there.
            Becomes::MadeAnew => {
                delivered(first, |tries| tries <= 2)?;
                delivered(second, |tries| tries <= 2)?;
                let lost = self.metric("remote_contacts_gone_total") - gone;
                return expect(lost >= 1.0, || format!("{lost} contacts are counted as gone"));
            }
            Becomes::Done(operation) => {
                delivered(first, |tries| tries == 1)?;
                expect(first.operation == Some(operation), || format!("{first:?}"))
            }
        }?;
        self.nobody_is_there_twice(&subjects)
    }

    /// After a row that broke the next one begins as if nothing had been.
    async fn mended(&mut self) {
        self.scene.world.replace_token(&secret(self.number));
        self.scene.world.set_faults(FaultPlan::default());
        self.scene.settled().await;
    }

    fn faults(&self, row: &Row) -> FaultPlan {
        let only = (self.only)(row.at);
        let fault = row.fault();
        // What is over by itself strikes once; what is not, until somebody sees to it.
        let once =
            matches!(row.becomes, Becomes::Renewed | Becomes::TriedAgain | Becomes::LeftAlone | Becomes::MadeAnew);
        let mut plan = FaultPlan::default();
        if once {
            plan.script.push(Scripted { only, times: row.times, ..Scripted::at(1, fault) });
        } else {
            plan.windows.push(Window { from: Duration::ZERO, lasts: LASTING, only, fault });
        }
        if row.at == At::Login {
            let first = (self.only)(At::Create);
            plan.script.push(Scripted { only: first, ..Scripted::at(1, Instead::ExpireToken) });
        }
        plan
    }

    /// Whatever the workers' secrets become, the CRM accepts them.
    fn accept_all_secrets(&self) {
        let all = (0..=self.number).map(secret);
        self.scene.world.sandbox.set_tokens(all);
    }

    async fn say(&self, subjects: &[String], sequence: u64, at: At) {
        let say = |subject: &String| {
            if at == At::Delete && sequence == 2 {
                return event("/shop", subject, &format!("{subject}-2"), "contact.deleted", 2, None);
            }
            let mut said = change(subject, sequence, &format!("N{sequence}"));
            if matches!(at, At::Parts | At::ReadParts) {
                let mut person = crate::scene::person(subject, "N1");
                if sequence == 2 {
                    person["emails"][0]["value"] = format!("{subject}.new@example.com").into();
                    person["phoneNumbers"] = serde_json::json!([{ "value": "+41446681800", "type": "work" }]);
                }
                said.value = Some(person.to_string().into());
            }
            said
        };
        self.scene.world.publish(subjects.iter().map(say).collect()).await;
    }

    /// How the changes of these subjects ended.
    async fn ended(&mut self, subjects: &[String], sequence: u64) -> Result<Vec<Outcome>, Broken> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ends = self.ends(subjects, sequence).await;
            if ends.iter().all(Option::is_some) {
                return Ok(ends.into_iter().flatten().collect());
            }
            expect(Instant::now() < deadline, || format!("they did not end, but: {ends:?}"))?;
            sleep(PAUSE).await;
        }
    }

    async fn ends(&mut self, subjects: &[String], sequence: u64) -> Vec<Option<Outcome>> {
        self.scene.reader.catch_up(&self.scene.world.log, PATIENCE).await.expect("the log can be read");
        let outcomes = &self.scene.reader.evidence().outcomes;
        let of = |subject: &String| {
            let id = format!("{subject}-{sequence}");
            let is_its = |outcome: &&Outcome| {
                outcome.event.as_ref().is_some_and(|event| event.id.as_deref() == Some(id.as_str()))
            };
            outcomes.iter().find(is_its).cloned()
        };
        subjects.iter().map(of).collect()
    }

    /// Waits for the pause, looks at all places where it shows, and mends what it is for.
    async fn is_paused(
        &mut self,
        row: &Row,
        why: Paused,
        subjects: &[String],
        sequence: u64,
        calls: u64,
    ) -> Result<(), Broken> {
        let deadline = Instant::now() + PATIENCE;
        while self.metric("crm_paused") == 0.0 {
            expect(Instant::now() < deadline, || "it is not paused".to_owned())?;
            sleep(PAUSE).await;
        }
        self.metrics_say(Some(why))?;
        let (line, remedy) = match why {
            Paused::Credentials => ("it refuses the credential", "replace it where the configuration says"),
            Paused::Connection => ("base URL, path or rights are wrong", "run check, or ask who administers it"),
            Paused::Failing => ("contact after contact fails", ""),
            Paused::Operator => unreachable!("no fault of a CRM is an operator\'s word"),
        };
        let lines = self.lines.take();
        let told: Vec<_> = lines.iter().filter(|told| told.contains("the CRM is paused")).collect();
        let [told] = told.as_slice() else { return Err(format!("not one line of the pause, but {told:?}")) };
        let says = |word: &str| told.contains(word);
        expect(says(line) && says(remedy), || format!("the log says {told}"))?;
        expect(says(&format!("crm={}", self.crm)), || format!("the log says {told}"))?;
        expect(says(&format!("status={}", row.status())), || format!("the log says {told}"))?;
        let code = row.code.is_none_or(|code| says(&format!("code=\"{code}\"")));
        expect(code, || format!("the log has another code: {told}"))?;
        sleep(WATCHED).await;
        self.metrics_say(Some(why))?;
        let asked = Asked::About(format!("/shop/{}", subjects[0]));
        let answer = self.scene.world.desk(0).explain(&asked).await.map_err(|error| error.to_string())?;
        expect(answer.crms[0].paused == Some(why), || format!("explain says {:?}", answer.crms[0].paused))?;
        let page = words::told(&answer);
        let remedy = match why {
            Paused::Credentials => "it refuses the credential; correct it",
            Paused::Connection => "base URL, path or rights are wrong",
            Paused::Failing => "contact after contact fails",
            Paused::Operator => unreachable!("no fault of a CRM is an operator\'s word"),
        };
        expect(page.contains("THE CRM IS PAUSED") && page.contains(remedy), || format!("explain says {page}"))?;
        let links = self.scene.evidence_so_far().await.links;
        let parked = links.values().flat_map(BTreeMap::values).filter(|link| link.open.is_some()).count();
        expect(parked == 0, || format!("{parked} contacts are parked"))?;
        let given_up: Vec<_> = self.ends(subjects, sequence).await.into_iter().flatten().collect();
        expect(given_up.is_empty(), || format!("given up: {given_up:?}"))?;
        // The first calls of both contacts, and then probes at growing distance.
        let calls = self.scene.world.sandbox.requests().split_off(calls as usize);
        let refused = calls.iter().filter(|call| call.faulty).count();
        expect(refused <= 25, || format!("{refused} calls were refused while it is paused"))?;
        if why == Paused::Credentials {
            self.scene.world.replace_token(&secret(self.number));
        }
        self.scene.world.set_faults(FaultPlan::default());
        Ok(())
    }

    fn metrics_say(&self, why: Option<Paused>) -> Result<(), Broken> {
        for (reason, label) in
            [(Paused::Credentials, "credentials"), (Paused::Connection, "connection"), (Paused::Failing, "failing")]
        {
            let series = format!("crm_pause_reason{{crm=\"{}\",reason=\"{label}\"}}", self.crm);
            let value = self.scene.world.metric(0, &series);
            expect((value == 1.0) == (why == Some(reason)), || format!("{series} is {value}"))?;
        }
        let paused = self.metric("crm_paused");
        expect((paused == 1.0) == why.is_some(), || format!("crm_paused is {paused}"))
    }

    fn metric(&self, name: &str) -> f64 {
        self.scene.world.metric(0, &format!("{name}{{crm=\"{}\"}}", self.crm))
    }

    fn is_login(&self, call: &LoggedRequest) -> bool {
        let login = (self.only)(At::Login).path;
        login.is_some_and(|path| call.path.starts_with(&path))
    }

    /// A contact is there once, or not at all: whatever was lost, nothing was made twice.
    fn nobody_is_there_twice(&self, subjects: &[String]) -> Result<(), Broken> {
        let held = self.scene.world.sandbox.contacts();
        for subject in subjects {
            let family = format!("F{subject}");
            let named = |contact: &&serde_json::Value| contact["fields"].to_string().contains(&family);
            let count = held.iter().filter(named).count();
            expect(count <= 1, || format!("{subject} is there {count} times in {:?}", self.kind))?;
        }
        Ok(())
    }
}

impl Row {
    fn status(&self) -> u16 {
        match self.answered {
            Answered::With { status, .. } | Answered::Patience { status, .. } => status,
            Answered::ResetBefore | Answered::ResetAfter | Answered::TooLate => 0,
        }
    }

    fn fault(&self) -> Fault {
        let answer = |status: u16, body: &str, headers| {
            Instead::Status { status, headers, body: body.to_owned(), effect: false }.into()
        };
        match &self.answered {
            Answered::With { status, body } => answer(*status, body, BTreeMap::new()),
            Answered::Patience { status, body, seconds } => {
                answer(*status, body, BTreeMap::from([("retry-after".to_owned(), seconds.to_string())]))
            }
            Answered::ResetBefore => Instead::ResetBefore.into(),
            Answered::ResetAfter => Instead::ResetAfter.into(),
            Answered::TooLate => Fault::delay_after(REQUEST_DEADLINE * 2),
        }
    }
}

fn delivered(end: &Outcome, tries: impl Fn(u32) -> bool) -> Result<(), Broken> {
    expect(end.outcome == OutcomeKind::Delivered, || format!("not delivered, but {end:?}"))?;
    expect(tries(end.attempts), || format!("after {} tries", end.attempts))
}

/// The secret that the workers are given in place of a refused one, of each row another.
fn secret(number: usize) -> String {
    if number == 0 { "sandbox-token".to_owned() } else { format!("sandbox-token-{number}") }
}

/// What every CRM may answer that none of the documents explains: by its status alone.
fn by_status(at: At) -> Vec<Row> {
    let patience = Answered::Patience { status: 429, body: String::new(), seconds: 7 };
    let mut rows = vec![row("429", at, patience, Becomes::LeftAlone)];
    for (name, status) in [("408", 408), ("500", 500), ("502", 502), ("503", 503), ("504", 504)] {
        rows.push(row(name, at, with(status, ""), Becomes::TriedAgain));
    }
    for (name, answered) in [
        ("reset before the effect", Answered::ResetBefore),
        ("reset after the effect", Answered::ResetAfter),
        ("time-out", Answered::TooLate),
    ] {
        rows.push(row(name, at, answered, Becomes::TriedAgain));
    }
    rows
}

fn action(action: Action) -> Only {
    Only::action(action)
}

fn path(path: &str) -> Only {
    Only { path: Some(path.to_owned()), ..Only::default() }
}
