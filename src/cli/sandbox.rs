//! `sandbox`: the simulated CRMs on a port, each below a path of its own, with what should go wrong given by flags or a file.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use humantime_serde::re::humantime::parse_duration;

use super::{CommandError, Exit, UsageError, run::Signals};
use crate::{
    config::{LogFormat, Surroundings},
    sandbox::{
        Chance, CrmComSettings, Fault, FaultPlan, Instead, Kind, LogisenseSettings, NextinteractSamSettings, Only,
        PrevistoSettings, RateLimit, SamDoorSettings, Sandbox, SandboxSettings, Window, server::Server,
    },
    telemetry,
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator sandbox --listen 127.0.0.1:8701 --token sandbox-token
  contact-replicator sandbox --latency 50ms --rate-limit 20 --fail 0.05 --lose 0.02 --seed 7
  contact-replicator sandbox --kind previsto --search-lag 2s --lose 0.1
  contact-replicator sandbox --kind nextinteract_sam --token-life 2m --refuse Poison
  contact-replicator sandbox --down-after 10s --down-for 1m

It says where each simulated CRM is, and listens until SIGTERM or SIGINT. While it runs:
  curl http://127.0.0.1:8701/priava/_sandbox/contacts       what one holds
  curl http://127.0.0.1:8701/previsto/_sandbox/requests     what one was asked
A POST to its _sandbox/faults replaces what goes wrong, one to _sandbox/tokens what it accepts.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Address to listen on; with port 0, any free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8701")]
    listen: SocketAddr,
    /// Simulate this CRM; may be given several times. Without it, all that are known.
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    kind: Vec<Kind>,
    /// API token, key or password that is accepted, by each; may be given several times.
    #[arg(long, value_name = "TOKEN", default_value = "sandbox-token")]
    token: Vec<String>,
    /// Decides the ids given out and the calls struck by chance.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How long every answer takes, such as 50ms.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "0s")]
    latency: Duration,
    /// How long a new contact is not found by searching, in a CRM that can be searched, such as 2s.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "0s")]
    search_lag: Duration,
    /// How long a token lives that a login gives, in a CRM that has logins, such as 2m.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30m")]
    token_life: Duration,
    /// Contacts by this last name make the whole call a bad one, in a CRM that takes many in one; may be given several times.
    #[arg(long, value_name = "NAME")]
    refuse: Vec<String>,
    /// Calls a second above which 429 is answered, by each.
    #[arg(long, value_name = "CALLS")]
    rate_limit: Option<u32>,
    /// Probability of a 503 without effect, 0 to 1.
    #[arg(long, value_name = "PROBABILITY")]
    fail: Option<f64>,
    /// Probability that the effect takes place and the answer is lost, 0 to 1.
    #[arg(long, value_name = "PROBABILITY")]
    lose: Option<f64>,
    /// 503 to all calls, from this long after the start on.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "down_for")]
    down_after: Option<Duration>,
    /// How long that lasts.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "down_after")]
    down_for: Option<Duration>,
    /// Keep what was sent and answered with each request, and not only a hash of it. It is kept in memory.
    #[arg(long)]
    keep_bodies: bool,
    /// How many requests each remembers; older ones are forgotten, and counted.
    #[arg(long, value_name = "REQUESTS", default_value_t = SandboxSettings::default().log_max)]
    remember: usize,
    /// File with a whole plan of faults in JSON, in place of the flags for faults.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rate_limit", "fail", "lose", "down_after"])]
    faults: Option<PathBuf>,
}

pub(super) async fn run(arguments: Arguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    telemetry::start(LogFormat::Text, "info", telemetry::coloured(surroundings))?;
    let mut signals = Signals::new().map_err(CommandError::io("listening for signals"))?;
    let listen = arguments.listen;
    let server = Server::host(listen, sandboxes(arguments)?).await.map_err(|source| CommandError::Listen {
        key: "--listen",
        address: listen,
        source,
    })?;
    let lines: String = server
        .hosted()
        .map(|(sandbox, _, base_url)| format!("a simulated {} is at {base_url}\n", sandbox.kind().title()))
        .collect();
    // At once: whoever waits for the first line may not stay for the others.
    io::stdout().lock().write_all(lines.as_bytes()).map_err(CommandError::io("writing to standard output"))?;
    signals.next().await;
    server.stop().await;
    Ok(Exit::Done)
}

fn kinds() -> impl TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(Kind::ALL.map(Kind::name)).try_map(|name| name.parse::<Kind>())
}

/// The simulated CRMs, each with its name.
fn sandboxes(arguments: Arguments) -> Result<Vec<(String, Sandbox)>, UsageError> {
    let all = settings(arguments)?;
    let sandbox = |settings: SandboxSettings| {
        let name = settings.kind.name().to_owned();
        let sandbox = Sandbox::new(settings).map_err(|bad| UsageError(format!("the faults cannot be had: {bad}")))?;
        Ok((name, sandbox))
    };
    all.into_iter().map(sandbox).collect()
}

/// The same for each kind, but for the kind.
fn settings(arguments: Arguments) -> Result<Vec<SandboxSettings>, UsageError> {
    let faults = match &arguments.faults {
        None => plan(&arguments),
        Some(path) => {
            let bad = |reason: String| UsageError(format!("{} is no plan of faults: {reason}", path.display()));
            let text = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
            serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?
        }
    };
    let wanted = |kind: &Kind| arguments.kind.is_empty() || arguments.kind.contains(kind);
    let settings = Kind::ALL.into_iter().filter(wanted).map(|kind| SandboxSettings {
        seed: arguments.seed,
        tokens: arguments.token.iter().cloned().collect(),
        latency: arguments.latency,
        log_bodies: arguments.keep_bodies,
        log_max: arguments.remember,
        faults: faults.clone(),
        previsto: PrevistoSettings { search_lag: arguments.search_lag, ..PrevistoSettings::default() },
        crm_com: CrmComSettings { search_lag: arguments.search_lag, ..CrmComSettings::default() },
        logisense: LogisenseSettings { search_lag: arguments.search_lag, ..LogisenseSettings::default() },
        nextinteract_sam: NextinteractSamSettings {
            door: SamDoorSettings { token_life: arguments.token_life, ..SamDoorSettings::default() },
            refused: arguments.refuse.iter().cloned().collect(),
            ..NextinteractSamSettings::default()
        },
        ..SandboxSettings::of(kind)
    });
    Ok(settings.collect())
}

fn plan(arguments: &Arguments) -> FaultPlan {
    let chance = |probability: Option<f64>, fault: Fault| {
        probability.map(|probability| Chance { probability, times: 1, only: Only::default(), fault })
    };
    FaultPlan {
        script: Vec::new(),
        windows: arguments
            .down_after
            .zip(arguments.down_for)
            .map(|(from, lasts)| Window { from, lasts, only: Only::default(), fault: Fault::status(503) })
            .into_iter()
            .collect(),
        rate_limit: arguments.rate_limit.map(|per_second| RateLimit { per_second, retry_after_seconds: 1 }),
        chances: [chance(arguments.fail, Fault::status(503)), chance(arguments.lose, Instead::ResetAfter.into())]
            .into_iter()
            .flatten()
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn arguments(line: &str) -> Result<Arguments, clap::Error> {
        Alone::try_parse_from(std::iter::once("sandbox").chain(line.split_whitespace())).map(|alone| alone.arguments)
    }

    #[test]
    fn without_flags_nothing_goes_wrong() {
        let all = settings(arguments("").unwrap()).unwrap();
        let kinds: Vec<Kind> = all.iter().map(|settings| settings.kind).collect();
        assert_eq!(kinds, Kind::ALL, "and every kind is simulated");
        for settings in all {
            assert_eq!(settings.faults, FaultPlan::default());
            assert!(!settings.log_bodies);
            assert_eq!(settings.log_max, SandboxSettings::default().log_max);
            assert!(settings.tokens.contains("sandbox-token"));
            assert_eq!(settings.previsto.search_lag, Duration::ZERO);
            assert_eq!(settings.crm_com.search_lag, Duration::ZERO);
        }
    }

    #[test]
    fn each_flag_adds_its_fault() {
        let line = "--rate-limit 20 --fail 0.05 --lose 0.02 --down-after 10s --down-for 1m --latency 50ms --remember 7";
        let all = settings(arguments(line).unwrap()).unwrap();
        let settings = &all[1];
        let faults = &settings.faults;
        assert_eq!((settings.latency, settings.log_max), (Duration::from_millis(50), 7));
        assert_eq!(faults.rate_limit, Some(RateLimit { per_second: 20, retry_after_seconds: 1 }));
        assert_eq!(
            (faults.windows[0].from, faults.windows[0].lasts),
            (Duration::from_secs(10), Duration::from_secs(60))
        );
        let chances: Vec<_> = faults.chances.iter().map(|chance| (chance.probability, chance.fault.clone())).collect();
        assert_eq!(chances, [(0.05, Fault::status(503)), (0.02, Instead::ResetAfter.into())]);
    }

    #[test]
    fn kinds_can_be_picked_and_have_their_own_flags() {
        let all = settings(arguments("--kind previsto --search-lag 2s").unwrap()).unwrap();
        assert_eq!(all.iter().map(|settings| settings.kind).collect::<Vec<_>>(), [Kind::Previsto]);
        assert_eq!(all[0].previsto.search_lag, Duration::from_secs(2));
        let sam = &settings(arguments("--kind nextinteract_sam --token-life 2m --refuse A").unwrap()).unwrap()[0];
        let sam = &sam.nextinteract_sam;
        assert_eq!((sam.door.token_life, &sam.refused), (Duration::from_secs(120), &["A".to_owned()].into()));
        assert!(arguments("--kind nothing").is_err());
    }

    #[test]
    fn an_outage_has_a_beginning_and_an_end() {
        assert!(arguments("--down-after 10s").is_err());
        assert!(arguments("--down-for 10s").is_err());
    }

    #[test]
    fn a_plan_that_cannot_be_carried_out_is_refused() {
        assert!(sandboxes(arguments("--fail 1.5").unwrap()).is_err());
    }
}
