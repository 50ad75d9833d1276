//! What goes wrong, and when: by script, in windows of time, above a rate, or by chance under a seed.
//!
//! At most one fault strikes a request. The script comes first, because a test that names the third call means that one;
//! then windows, the rate limit, and chance. Given the same seed and the same order of calls, the same calls are struck.
//! All but the rate limit can be kept to some of the calls, by what they would do or where they go ([`Only`]).

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Deserialize;
use tokio::time::Instant;

use super::system::Action;

/// What happens to one request. The default is nothing out of the ordinary.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// Between arrival and effect.
    #[serde(with = "humantime_serde")]
    pub delay_before: Duration,
    /// Between effect and answer.
    #[serde(with = "humantime_serde")]
    pub delay_after: Duration,
    pub instead: Instead,
}

/// What happens in place of the ordinary effect and answer.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Instead {
    #[default]
    Nothing,
    /// This answer, after the ordinary effect or without it.
    Status {
        status: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        #[serde(default)]
        body: String,
        #[serde(default)]
        effect: bool,
    },
    /// The connection breaks before the effect.
    ResetBefore,
    /// The connection breaks after the effect.
    ResetAfter,
    /// The request does not arrive.
    Unreachable,
    /// The body comes this much later than the head.
    SlowBody {
        #[serde(with = "humantime_serde")]
        pause: Duration,
    },
    /// The effect takes place, and the answer's body has this many bytes.
    LongBody { bytes: usize },
    /// The token of this request is valid no longer.
    ExpireToken,
}

impl Fault {
    pub fn delay_before(delay: Duration) -> Self {
        Self { delay_before: delay, ..Self::default() }
    }

    pub fn delay_after(delay: Duration) -> Self {
        Self { delay_after: delay, ..Self::default() }
    }

    pub fn status(status: u16) -> Self {
        Instead::Status { status, headers: BTreeMap::new(), body: String::new(), effect: false }.into()
    }

    /// A refusal that asks for patience.
    pub fn retry_after(status: u16, seconds: u64) -> Self {
        let headers = BTreeMap::from([("retry-after".to_owned(), seconds.to_string())]);
        Instead::Status { status, headers, body: String::new(), effect: false }.into()
    }

    /// The effect takes place, but the answer says otherwise.
    pub fn status_after_effect(status: u16) -> Self {
        Instead::Status { status, headers: BTreeMap::new(), body: String::new(), effect: true }.into()
    }

    /// The answer of [`Instead::Status`].
    pub(super) fn answer(&self) -> http::Response<Bytes> {
        let Instead::Status { status, headers, body, .. } = &self.instead else {
            unreachable!("only a status fault has an answer of its own")
        };
        let mut response = http::Response::new(Bytes::from(body.clone()));
        *response.status_mut() = StatusCode::from_u16(*status).expect("checked with the plan");
        for (name, value) in headers {
            let name = HeaderName::try_from(name).expect("checked with the plan");
            response.headers_mut().insert(name, HeaderValue::try_from(value).expect("checked with the plan"));
        }
        response
    }
}

impl From<Instead> for Fault {
    fn from(instead: Instead) -> Self {
        Self { instead, ..Self::default() }
    }
}

/// All that is to go wrong from now on.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultPlan {
    pub script: Vec<Scripted>,
    pub windows: Vec<Window>,
    pub rate_limit: Option<RateLimit>,
    pub chances: Vec<Chance>,
}

impl FaultPlan {
    /// One fault, at the `call`-th call from now on.
    pub fn at(call: u64, fault: impl Into<Fault>) -> Self {
        Self { script: vec![Scripted::at(call, fault)], ..Self::default() }
    }
}

/// Which calls a fault is meant for: those to which all applies that is said here.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Only {
    /// Calls that would do this.
    pub action: Option<Action>,
    /// Calls with this HTTP method.
    pub method: Option<String>,
    /// Calls whose path begins so, below the sandbox's own.
    pub path: Option<String>,
    /// Calls about the contact with this reference, where that can be told.
    pub contact: Option<String>,
}

impl Only {
    pub fn action(action: Action) -> Self {
        Self { action: Some(action), ..Self::default() }
    }

    fn means(&self, call: &Arrival<'_>) -> bool {
        self.action.is_none_or(|action| action == call.action)
            && self.method.as_deref().is_none_or(|method| method.eq_ignore_ascii_case(call.method))
            && self.path.as_deref().is_none_or(|path| call.path.starts_with(path))
            && self.contact.as_deref().is_none_or(|contact| call.contact == Some(contact))
    }
}

/// What the faults know of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) action: Action,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) contact: Option<&'a str>,
}

/// Strikes calls by number.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scripted {
    /// The first call that is struck, from 1, counted since the plan was set.
    pub call: u64,
    /// How many calls in a row are struck.
    #[serde(default = "once")]
    pub times: u64,
    /// After so many calls all that begins again: with 3, from the third call on, every third one.
    #[serde(default)]
    pub every: Option<u64>,
    /// Counts and strikes only these.
    #[serde(default)]
    pub only: Only,
    pub fault: Fault,
}

impl Scripted {
    /// The `call`-th call, once.
    pub fn at(call: u64, fault: impl Into<Fault>) -> Self {
        Self { call, times: 1, every: None, only: Only::default(), fault: fault.into() }
    }

    /// Every `number`-th call that would do this.
    pub fn every(number: u64, action: Action, fault: impl Into<Fault>) -> Self {
        Self { every: Some(number), only: Only::action(action), ..Self::at(number, fault) }
    }

    fn strikes(&self, counted: u64) -> bool {
        let Some(since_first) = counted.checked_sub(self.call) else { return false };
        since_first % self.every.unwrap_or(u64::MAX) < self.times
    }
}

/// Strikes every call in a stretch of time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Since the plan was set.
    #[serde(with = "humantime_serde")]
    pub from: Duration,
    #[serde(with = "humantime_serde")]
    pub lasts: Duration,
    #[serde(default)]
    pub only: Only,
    pub fault: Fault,
}

/// Answers 429 to all calls above a rate.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Calls let through within any second.
    pub per_second: u32,
    /// `Retry-After` of the refusals, in whole seconds.
    pub retry_after_seconds: u64,
}

/// Strikes by chance, and then so many calls in a row: with more than one, a burst.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chance {
    /// That a call is struck, from 0 to 1.
    pub probability: f64,
    #[serde(default = "once")]
    pub times: u64,
    #[serde(default)]
    pub only: Only,
    pub fault: Fault,
}

fn once() -> u64 {
    1
}

/// A plan that cannot be carried out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadPlan {
    #[error("{status} is not an HTTP status from 200 to 599")]
    Status { status: u16 },
    #[error("{name:?} with its value is not an HTTP header")]
    Header { name: String },
    #[error("{probability} is not a probability")]
    Probability { probability: f64 },
    #[error("calls are counted from 1")]
    Call,
    #[error("{times} calls cannot be struck of every {every}")]
    Every { times: u64, every: u64 },
}

/// A plan being carried out.
#[derive(Debug)]
pub(super) struct Faults {
    plan: FaultPlan,
    since: Instant,
    /// Per entry of the script, the calls counted so far.
    counted: Vec<u64>,
    /// Per entry of the chances, the calls of its burst that are still to come.
    bursts: Vec<u64>,
    /// When calls were let through, within the last second.
    let_through: VecDeque<Instant>,
    random: StdRng,
}

impl Faults {
    pub(super) fn new(plan: FaultPlan, seed: u64, since: Instant) -> Result<Self, BadPlan> {
        check(&plan)?;
        Ok(Self {
            counted: vec![0; plan.script.len()],
            bursts: vec![0; plan.chances.len()],
            plan,
            since,
            let_through: VecDeque::new(),
            random: StdRng::seed_from_u64(seed),
        })
    }

    /// The fault that strikes the call that arrives now.
    pub(super) fn strike(&mut self, call: &Arrival<'_>, now: Instant) -> Fault {
        // Each source of faults sees each call, struck or not, so that one does not shift the counts of another.
        let scripted = self.scripted(call);
        let in_window = self.in_window(call, now);
        let by_chance = self.by_chance(call);
        scripted.or(in_window).or_else(|| self.above_rate(now)).or(by_chance).unwrap_or_default()
    }

    fn scripted(&mut self, call: &Arrival<'_>) -> Option<Fault> {
        let mut struck = None;
        for (scripted, counted) in self.plan.script.iter().zip(&mut self.counted) {
            if !scripted.only.means(call) {
                continue;
            }
            *counted += 1;
            if scripted.strikes(*counted) && struck.is_none() {
                struck = Some(scripted.fault.clone());
            }
        }
        struck
    }

    fn in_window(&self, call: &Arrival<'_>, now: Instant) -> Option<Fault> {
        let elapsed = now.duration_since(self.since);
        let holds = |window: &&Window| {
            elapsed >= window.from && elapsed - window.from < window.lasts && window.only.means(call)
        };
        self.plan.windows.iter().find(holds).map(|window| window.fault.clone())
    }

    fn above_rate(&mut self, now: Instant) -> Option<Fault> {
        let limit = self.plan.rate_limit.as_ref()?;
        while self.let_through.front().is_some_and(|earliest| now.duration_since(*earliest) >= Duration::from_secs(1)) {
            self.let_through.pop_front();
        }
        if self.let_through.len() < limit.per_second as usize {
            self.let_through.push_back(now);
            return None;
        }
        Some(Fault::retry_after(429, limit.retry_after_seconds))
    }

    fn by_chance(&mut self, call: &Arrival<'_>) -> Option<Fault> {
        let mut struck = None;
        for (chance, burst) in self.plan.chances.iter().zip(&mut self.bursts) {
            // Drawn for calls that are not meant as well: the draws follow from the number of the call alone.
            let begins = self.random.random_bool(chance.probability);
            if !chance.only.means(call) {
                continue;
            }
            if *burst == 0 && begins {
                *burst = chance.times;
            }
            if *burst > 0 {
                *burst -= 1;
                struck.get_or_insert_with(|| chance.fault.clone());
            }
        }
        struck
    }
}

fn check(plan: &FaultPlan) -> Result<(), BadPlan> {
    let faults = plan.script.iter().map(|scripted| &scripted.fault);
    let faults = faults.chain(plan.windows.iter().map(|window| &window.fault));
    for fault in faults.chain(plan.chances.iter().map(|chance| &chance.fault)) {
        let Instead::Status { status, headers, .. } = &fault.instead else {
            continue;
        };
        if !(200..600).contains(status) {
            return Err(BadPlan::Status { status: *status });
        }
        let usable = |(name, value): &(&String, &String)| {
            HeaderName::try_from(name.as_str()).is_ok() && HeaderValue::try_from(value.as_str()).is_ok()
        };
        if let Some((name, _)) = headers.iter().find(|header| !usable(header)) {
            return Err(BadPlan::Header { name: name.clone() });
        }
    }
    if plan.script.iter().any(|scripted| scripted.call == 0) {
        return Err(BadPlan::Call);
    }
    for scripted in &plan.script {
        if let Some(every) = scripted.every
            && (every == 0 || scripted.times > every)
        {
            return Err(BadPlan::Every { times: scripted.times, every });
        }
    }
    match plan.chances.iter().find(|chance| !(0.0..=1.0).contains(&chance.probability)) {
        Some(chance) => Err(BadPlan::Probability { probability: chance.probability }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(plan: FaultPlan) -> Faults {
        Faults::new(plan, 7, Instant::now()).unwrap()
    }

    fn scripted(call: u64, times: u64, contact: Option<&str>, status: u16) -> Scripted {
        let only = Only { contact: contact.map(str::to_owned), ..Only::default() };
        Scripted { times, only, ..Scripted::at(call, Fault::status(status)) }
    }

    fn about(contact: Option<&str>) -> Arrival<'_> {
        Arrival { action: Action::Upsert, method: "POST", path: "/v1/contacts", contact }
    }

    fn doing(action: Action) -> Arrival<'static> {
        Arrival { action, ..about(None) }
    }

    #[test]
    fn the_script_strikes_the_calls_it_names_and_no_others() {
        let script = vec![scripted(2, 2, None, 500), scripted(2, 1, Some("b"), 409)];
        let mut faults = faults(FaultPlan { script, ..FaultPlan::default() });
        let now = Instant::now();
        let calls = ["a", "b", "a", "b", "b"];
        let struck: Vec<Fault> = calls.iter().map(|contact| faults.strike(&about(Some(contact)), now)).collect();
        let (none, failed, conflict) = (Fault::default(), Fault::status(500), Fault::status(409));
        assert_eq!(struck, [none.clone(), failed.clone(), failed, conflict, none]);
    }

    #[test]
    fn every_third_create_is_struck_whatever_comes_between() {
        let lost = Fault::from(Instead::ResetAfter);
        let script = vec![Scripted::every(3, Action::Create, lost.clone())];
        let mut faults = faults(FaultPlan { script, ..FaultPlan::default() });
        let mut struck = Vec::new();
        for number in 1..=9 {
            for action in [Action::Search, Action::Create, Action::Update] {
                if faults.strike(&doing(action), Instant::now()) == lost {
                    struck.push((number, action));
                }
            }
        }
        assert_eq!(struck, [3, 6, 9].map(|number| (number, Action::Create)));
    }

    #[test]
    fn a_script_that_begins_again_keeps_its_first_call_and_its_length() {
        let script = vec![Scripted { times: 2, every: Some(4), ..Scripted::at(3, Fault::status(500)) }];
        let mut faults = faults(FaultPlan { script, ..FaultPlan::default() });
        let strikes = (1..=12).map(|_| faults.strike(&about(None), Instant::now()) != Fault::default());
        let struck: Vec<usize> =
            strikes.enumerate().filter(|(_, struck)| *struck).map(|(index, _)| index + 1).collect();
        assert_eq!(struck, [3, 4, 7, 8, 11, 12]);
    }

    #[test]
    fn all_that_is_said_of_the_calls_that_are_meant_has_to_apply() {
        let text = |text: &str| Some(text.to_owned());
        let call = Arrival { action: Action::Delete, method: "DELETE", path: "/contacts/con_1", contact: Some("c-1") };
        let meant = Only {
            action: Some(Action::Delete),
            method: text("delete"),
            path: text("/contacts/"),
            contact: text("c-1"),
        };
        assert!(Only::default().means(&call));
        assert!(meant.means(&call));
        for other in [
            Only { action: Some(Action::Get), ..meant.clone() },
            Only { method: text("POST"), ..meant.clone() },
            Only { path: text("/contacts/con_2"), ..meant.clone() },
            Only { contact: text("c-2"), ..meant.clone() },
        ] {
            assert!(!other.means(&call), "{other:?}");
        }
        assert!(!meant.means(&Arrival { contact: None, ..call }), "it cannot be told, so it is not meant");
    }

    #[test]
    fn windows_and_chances_keep_to_the_calls_they_are_meant_for() {
        let only = Only::action(Action::Search);
        let (lasts, fault) = (Duration::from_secs(1), Fault::status(503));
        let window = Window { from: Duration::ZERO, lasts, only: only.clone(), fault: fault.clone() };
        let chance = Chance { probability: 1.0, times: 1, only, fault: fault.clone() };
        for plan in [
            FaultPlan { windows: vec![window], ..FaultPlan::default() },
            FaultPlan { chances: vec![chance], ..FaultPlan::default() },
        ] {
            let mut faults = faults(plan);
            let now = faults.since;
            assert_eq!(faults.strike(&doing(Action::Create), now), Fault::default());
            assert_eq!(faults.strike(&doing(Action::Search), now), fault);
        }
    }

    #[test]
    fn a_window_strikes_from_its_beginning_up_to_its_end() {
        let down = Fault::from(Instead::ResetBefore);
        let window = Window {
            from: Duration::from_secs(5),
            lasts: Duration::from_secs(2),
            only: Only::default(),
            fault: down.clone(),
        };
        let mut faults = faults(FaultPlan { windows: vec![window], ..FaultPlan::default() });
        let start = faults.since;
        for (milliseconds, expected) in [
            (0, Fault::default()),
            (4999, Fault::default()),
            (5000, down.clone()),
            (6999, down),
            (7000, Fault::default()),
        ] {
            assert_eq!(
                faults.strike(&about(None), start + Duration::from_millis(milliseconds)),
                expected,
                "{milliseconds}"
            );
        }
    }

    #[test]
    fn the_rate_limit_counts_what_it_lets_through() {
        let rate_limit = Some(RateLimit { per_second: 2, retry_after_seconds: 3 });
        let mut faults = faults(FaultPlan { rate_limit, ..FaultPlan::default() });
        let start = faults.since;
        let refused = Fault::retry_after(429, 3);
        let mut strike = |milliseconds| faults.strike(&about(None), start + Duration::from_millis(milliseconds));
        assert_eq!(strike(0), Fault::default());
        assert_eq!(strike(500), Fault::default());
        assert_eq!(strike(999), refused);
        assert_eq!(strike(1000), Fault::default());
        assert_eq!(strike(1400), refused);
        assert_eq!(strike(1500), Fault::default());
    }

    #[test]
    fn chance_repeats_under_the_same_seed_and_comes_in_bursts() {
        let chance =
            |probability, times| Chance { probability, times, only: Only::default(), fault: Fault::status(503) };
        let strikes = |seed, chance: Chance| {
            let plan = FaultPlan { chances: vec![chance], ..FaultPlan::default() };
            let mut faults = Faults::new(plan, seed, Instant::now()).unwrap();
            (0..1000).map(|_| faults.strike(&about(None), Instant::now()) != Fault::default()).collect::<Vec<bool>>()
        };
        let single = strikes(1, chance(0.1, 1));
        assert_eq!(single, strikes(1, chance(0.1, 1)));
        assert_ne!(single, strikes(2, chance(0.1, 1)));
        let count = single.iter().filter(|struck| **struck).count();
        assert!((50..200).contains(&count), "{count}");
        let burst = strikes(1, chance(0.01, 5));
        let first = burst.iter().position(|struck| *struck).unwrap();
        assert!(burst[first..].iter().take(5).all(|struck| *struck));
        assert!(strikes(1, chance(0.0, 1)).iter().all(|struck| !struck));
        assert!(strikes(1, chance(1.0, 1)).iter().all(|struck| *struck));
    }

    #[test]
    fn a_plan_that_cannot_be_carried_out_is_refused() {
        let refused = |plan| Faults::new(plan, 0, Instant::now()).unwrap_err();
        assert_eq!(refused(FaultPlan::at(1, Fault::status(99))), BadPlan::Status { status: 99 });
        assert_eq!(refused(FaultPlan::at(0, Fault::status(500))), BadPlan::Call);
        let plan =
            FaultPlan { script: vec![Scripted::every(0, Action::Create, Fault::status(500))], ..FaultPlan::default() };
        assert_eq!(refused(plan), BadPlan::Call);
        for (times, every) in [(3, 2), (0, 0)] {
            let script = vec![Scripted { times, every: Some(every), ..Scripted::at(1, Fault::status(500)) }];
            assert_eq!(refused(FaultPlan { script, ..FaultPlan::default() }), BadPlan::Every { times, every });
        }
        let chance = Chance { probability: 1.5, times: 1, only: Only::default(), fault: Fault::default() };
        let plan = FaultPlan { chances: vec![chance], ..FaultPlan::default() };
        assert_eq!(refused(plan), BadPlan::Probability { probability: 1.5 });
        let headers = BTreeMap::from([("no name".to_owned(), String::new())]);
        let status = Instead::Status { status: 500, headers, body: String::new(), effect: false };
        assert_eq!(refused(FaultPlan::at(1, status)), BadPlan::Header { name: "no name".to_owned() });
    }

    #[test]
    fn a_plan_can_be_written_as_json() {
        let plan: FaultPlan = serde_json::from_str(
            r#"{
                "script": [
                    { "call": 3, "fault": { "delay_before": "2s", "instead": { "kind": "reset_after" } } },
                    { "call": 3, "every": 3, "only": { "action": "create" }, "fault": { "instead": { "kind": "reset_after" } } }
                ],
                "windows": [{ "from": "10s", "lasts": "1m", "fault": { "instead": { "kind": "status", "status": 503 } } }],
                "rate_limit": { "per_second": 5, "retry_after_seconds": 1 },
                "chances": [{ "probability": 0.01, "fault": { "instead": { "kind": "slow_body", "pause": "3s" } } }]
            }"#,
        )
        .unwrap();
        assert_eq!(plan.script[0].times, 1);
        assert_eq!(plan.script[0].fault.instead, Instead::ResetAfter);
        assert_eq!(plan.script[1], Scripted::every(3, Action::Create, Instead::ResetAfter));
        assert_eq!(plan.windows[0].fault, Fault::status(503));
        assert_eq!(plan.chances[0].fault.instead, Instead::SlowBody { pause: Duration::from_secs(3) });
        assert!(serde_json::from_str::<FaultPlan>(r#"{ "scripts": [] }"#).is_err());
    }
}
