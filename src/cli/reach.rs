//! Whether a CRM can be reached: its name, its port, and its certificate.
//!
//! Nothing is asked of the CRM itself. Some have no call that would be harmless, and a wrong credential used by a check
//! may count against an account; that the credential is right is seen with the first delivery.

use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{task::spawn_blocking, time::timeout};
use url::Url;

/// Why it cannot be reached, and how far we came.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReachError {
    #[error("the address names no host")]
    NoHost,
    #[error("the name {host} is not known: {reason}")]
    Name { host: String, reason: String },
    #[error("{address} cannot be connected to: {reason}")]
    Connection { address: SocketAddr, reason: String },
    #[error("{host} has no certificate that this machine trusts: {reason}")]
    Certificate { host: String, reason: String },
}

/// How far [`reach`] came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) address: SocketAddr,
    pub(super) encrypted: bool,
}

/// Resolves the name of `base_url`, connects, and verifies the certificate where there is one; each within `patience`.
pub(super) async fn reach(base_url: &Url, patience: Duration) -> Result<Reached, ReachError> {
    let host = base_url.host_str().ok_or(ReachError::NoHost)?;
    // Brackets of an IPv6 address belong to the URL, not to the name.
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = base_url.port_or_known_default().ok_or(ReachError::NoHost)?;
    let address = resolve(&host, port, patience).await?;
    let encrypted = base_url.scheme() == "https";
    let probe = spawn_blocking(move || probe(address, host, encrypted, patience)).await;
    match probe {
        Ok(result) => result.map(|()| Reached { address, encrypted }),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

async fn resolve(host: &str, port: u16, patience: Duration) -> Result<SocketAddr, ReachError> {
    let unknown = |reason: String| ReachError::Name { host: host.to_owned(), reason };
    let mut addresses = timeout(patience, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_elapsed| unknown(format!("no answer within {patience:?}")))?
        .map_err(|error| unknown(error.to_string()))?;
    addresses.next().ok_or_else(|| unknown("it has no address".into()))
}

fn probe(address: SocketAddr, host: String, encrypted: bool, patience: Duration) -> Result<(), ReachError> {
    let refused = |error: std::io::Error| ReachError::Connection { address, reason: error.to_string() };
    let mut stream = TcpStream::connect_timeout(&address, patience).map_err(refused)?;
    if !encrypted {
        return Ok(());
    }
    stream.set_read_timeout(Some(patience)).map_err(refused)?;
    stream.set_write_timeout(Some(patience)).map_err(refused)?;
    let untrusted = |reason: String| ReachError::Certificate { host: host.clone(), reason };
    let server = ServerName::try_from(host.clone()).map_err(|error| untrusted(error.to_string()))?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|error| untrusted(error.to_string()))?
        .with_no_client_auth();
    let mut connection =
        ClientConnection::new(Arc::new(config), server).map_err(|error| untrusted(error.to_string()))?;
    while connection.is_handshaking() {
        let (read, written) = connection.complete_io(&mut stream).map_err(|error| untrusted(error.to_string()))?;
        if read + written == 0 {
            return Err(untrusted("it closed the connection".into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpListener, thread};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn an_open_port_is_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}/api").parse().unwrap();
        assert_eq!(reach(&url, PATIENCE).await.unwrap(), Reached { address, encrypted: false });
    }

    #[tokio::test]
    async fn a_closed_port_is_a_fault_of_the_connection() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{address}/").parse().unwrap();
        assert!(matches!(reach(&url, PATIENCE).await, Err(ReachError::Connection { .. })));
    }

    #[tokio::test]
    async fn a_server_without_tls_is_a_fault_of_the_certificate() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port()).parse().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Some of the greeting is read, so that closing is an end and not a reset.
            let read = stream.read(&mut [0; 16]).unwrap();
            assert!(read > 0);
        });
        let error = reach(&url, PATIENCE).await.unwrap_err();
        // Where localhost is an IPv6 address first, nobody listens there.
        assert!(matches!(error, ReachError::Certificate { .. } | ReachError::Connection { .. }), "{error}");
        drop(server);
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_said_to_be_unknown() {
        let url = "https://nobody.invalid/".parse().unwrap();
        assert!(matches!(reach(&url, PATIENCE).await, Err(ReachError::Name { .. })));
    }
}
