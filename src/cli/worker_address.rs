//! Where a command asks a running worker: its address of health and metrics, and the token that is shown there.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use clap::Args;
use http::{HeaderMap, HeaderValue, header};
use url::Url;

use super::{CommandError, UsageError, client};
use crate::config::{AdminSettings, Settings, Surroundings};

#[derive(Debug, Args)]
pub(super) struct WorkerAddress {
    /// Address of a worker's health and metrics; without it, admin.listen of the settings.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// File of settings, for admin.listen; without it, the default of that key.
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    config: Option<PathBuf>,
    /// File with the worker's admin token; without it, the variable CONTACT_REPLICATOR_ADMIN_TOKEN, or that of --config.
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
}

/// Holds the token, which has no place among the arguments: other users of the machine can read those.
const TOKEN: &str = "CONTACT_REPLICATOR_ADMIN_TOKEN";

impl WorkerAddress {
    /// As if these had been given on the command line; the first two are not both.
    pub(super) fn of(admin: Option<String>, config: Option<PathBuf>, admin_token_file: Option<PathBuf>) -> Self {
        Self { admin, config, admin_token_file }
    }

    /// The address of `path` there.
    pub(super) fn url(&self, path: &str, surroundings: Surroundings<'_>) -> Result<Url, CommandError> {
        let mut url = match (&self.admin, &self.config) {
            (Some(admin), _) => client::address(admin)?,
            (None, Some(file)) => listened_on(for_operators(&Settings::load(file, surroundings)?.admin))?,
            (None, None) => listened_on(for_operators(&Settings::reference().admin))?,
        };
        url.set_path(path);
        url.set_query(None);
        Ok(url)
    }

    /// What shows the worker the token, if there is one.
    pub(super) fn headers(&self, surroundings: Surroundings<'_>) -> Result<HeaderMap, CommandError> {
        let variable = (surroundings.variable)(TOKEN).filter(|token| !token.trim().is_empty());
        let token = match (&self.admin_token_file, variable, &self.config) {
            (Some(file), _, _) => {
                Some((surroundings.file)(file).map_err(CommandError::io("reading --admin-token-file"))?)
            }
            (None, Some(token), _) => Some(token),
            (None, None, Some(file)) => {
                Settings::load(file, surroundings)?.admin.token.map(|token| token.expose().to_owned())
            }
            (None, None, None) => None,
        };
        let Some(token) = token else { return Ok(HeaderMap::new()) };
        let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let mut value =
            value.map_err(|_unsendable| UsageError("the admin token holds what no header carries".into()))?;
        value.set_sensitive(true);
        Ok(HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
    }
}

/// Where these settings let operators ask.
fn for_operators(admin: &AdminSettings) -> &str {
    if admin.operator_listen.is_empty() { &admin.listen } else { &admin.operator_listen }
}

/// The address of a worker on this machine that listens on `listen`.
fn listened_on(listen: &str) -> Result<Url, UsageError> {
    let address: SocketAddr = listen
        .parse()
        .map_err(|_off| UsageError("admin.listen is off in these settings, so there is no worker to ask".into()))?;
    // Whoever listens on all addresses listens on this one, and says itself that it tells nothing there.
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let url = Url::parse(&format!("http://{}/", SocketAddr::new(ip, address.port())));
    url.map_err(|_not_one| UsageError("admin.listen is no address that can be asked: use --admin".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_of_this_machine_is_asked_unless_another_is_named() {
        let nothing = Surroundings { variable: &|_| None, ..Surroundings::process() };
        let of = |admin: Option<&str>| {
            let address = WorkerAddress { admin: admin.map(str::to_owned), config: None, admin_token_file: None };
            address.url("/explain", nothing).map(String::from)
        };
        assert_eq!(of(None).unwrap(), "http://127.0.0.1:9464/explain");
        assert_eq!(of(Some("http://localhost:1/metrics?a")).unwrap(), "http://localhost:1/explain");
        assert!(matches!(of(Some("localhost:1")), Err(CommandError::Http(_))));
        for (listen, expected) in [
            ("0.0.0.0:7", Some("http://127.0.0.1:7/")),
            ("[::]:7", Some("http://[::1]:7/")),
            ("10.1.2.3:7", Some("http://10.1.2.3:7/")),
            ("", None),
        ] {
            assert_eq!(listened_on(listen).ok().map(String::from).as_deref(), expected, "{listen}");
        }
    }

    #[test]
    fn a_token_comes_from_a_file_or_a_variable_and_is_not_shown() {
        let of = |file: Option<&str>, variable: Option<&str>| {
            let variable = |name: &str| variable.filter(|_| name == TOKEN).map(str::to_owned);
            let surroundings = Surroundings {
                variable: &variable,
                file: &|path| match path.to_str() {
                    Some("token") => Ok(" of-file\n".to_owned()),
                    Some("broken") => Ok("of\nfile".to_owned()),
                    _ => Err(std::io::ErrorKind::NotFound.into()),
                },
                ..Surroundings::process()
            };
            WorkerAddress { admin: None, config: None, admin_token_file: file.map(PathBuf::from) }.headers(surroundings)
        };
        assert_eq!(of(Some("token"), Some("other")).unwrap()[header::AUTHORIZATION], "Bearer of-file");
        let headers = of(None, Some("of-variable")).unwrap();
        assert_eq!(headers[header::AUTHORIZATION], "Bearer of-variable");
        assert!(!format!("{headers:?}").contains("of-variable"));
        assert!(of(None, None).unwrap().is_empty() && of(None, Some(" ")).unwrap().is_empty());
        assert!(matches!(of(Some("missing"), None), Err(CommandError::Io { .. })));
        assert!(matches!(of(Some("broken"), None), Err(CommandError::Usage(_))));
    }

    #[test]
    fn an_address_for_operators_goes_before_one_that_others_reach() {
        let admin = |operators: &str| AdminSettings {
            listen: "0.0.0.0:7".into(),
            operator_listen: operators.into(),
            ..Settings::reference().admin
        };
        assert_eq!(for_operators(&admin("")), "0.0.0.0:7");
        assert_eq!(for_operators(&admin("127.0.0.1:8")), "127.0.0.1:8");
    }
}
