//! Where a command asks a running worker: its address of health and metrics.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use clap::Args;
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
}

impl WorkerAddress {
    /// As if these had been given on the command line; both are not.
    pub(super) fn of(admin: Option<String>, config: Option<PathBuf>) -> Self {
        Self { admin, config }
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
            let address = WorkerAddress { admin: admin.map(str::to_owned), config: None };
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
    fn an_address_for_operators_goes_before_one_that_others_reach() {
        let admin = |operators: &str| AdminSettings { listen: "0.0.0.0:7".into(), operator_listen: operators.into() };
        assert_eq!(for_operators(&admin("")), "0.0.0.0:7");
        assert_eq!(for_operators(&admin("127.0.0.1:8")), "127.0.0.1:8");
    }
}
