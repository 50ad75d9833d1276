//! Grants and takes permissions, in the three requests that Kafka's own tools send for it (CreateAcls, DeleteAcls and
//! DescribeAcls, version 1 each), because the client library has none of them and a Java process each time would take seconds.

use std::{net::SocketAddr, time::Duration};

use contact_replicator::worker::{Operation, Permission, Resource};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::processes::eventually;

const PATIENCE: Duration = Duration::from_secs(20);

/// Numbers of requests.
const DESCRIBE: i16 = 29;
const CREATE: i16 = 30;
const DELETE: i16 = 31;
const VERSION: i16 = 1;
/// Codes of the protocol.
const ALLOW: i8 = 3;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const EVERYWHERE: &str = "*";

/// Who administers the permissions of a broker, at a listener where it may.
pub(crate) struct Permits {
    pub(crate) address: SocketAddr,
}

impl Permits {
    /// Grants `permissions` to `user`, and waits until the broker goes by them.
    pub(crate) async fn grant(&self, user: &str, permissions: &[Permission]) {
        let mut body = count(permissions);
        for permission in permissions {
            body.extend(binding(user, permission));
        }
        let answer = self.ask(CREATE, body).await;
        // Behind the number of results.
        let mut rest = &answer[12..];
        for permission in permissions {
            let (code, after) = rest.split_at(2);
            assert_eq!(code, [0, 0], "{permission} was not granted");
            rest = &after[2 + text_length(after)..];
        }
        self.until(user, permissions, true).await;
    }

    /// Takes `permissions` from `user`, and waits until the broker goes by that.
    pub(crate) async fn revoke(&self, user: &str, permissions: &[Permission]) {
        let mut body = count(permissions);
        for permission in permissions {
            body.extend(binding(user, permission));
        }
        self.ask(DELETE, body).await;
        self.until(user, permissions, false).await;
    }

    async fn until(&self, user: &str, permissions: &[Permission], granted: bool) {
        for permission in permissions {
            let what = format!("the broker goes by {permission}");
            eventually(&what, PATIENCE, async || (self.is_granted(user, permission).await == granted).then_some(()))
                .await;
        }
    }

    async fn is_granted(&self, user: &str, permission: &Permission) -> bool {
        let answer = self.ask(DESCRIBE, binding(user, permission)).await;
        let after_throttle = &answer[8..];
        assert_eq!(after_throttle[..2], [0, 0], "permissions cannot be told");
        let after_message = &after_throttle[4 + text_length(&after_throttle[2..])..];
        after_message[..4] != [0, 0, 0, 0]
    }

    /// One request on a connection of its own; the answer begins with its correlation and a throttle time.
    async fn ask(&self, request: i16, body: Vec<u8>) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(request.to_be_bytes());
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(1_i32.to_be_bytes());
        bytes.extend(text("permits"));
        bytes.extend(body);
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(&u32::try_from(bytes.len()).unwrap().to_be_bytes()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length).try_into().unwrap()];
        stream.read_exact(&mut answer).await.unwrap();
        answer
    }
}

/// One permission of a user; a request that looks for it has the same form.
fn binding(user: &str, permission: &Permission) -> Vec<u8> {
    let (kind, name, pattern) = match &permission.resource {
        Resource::Topic(name) => (2_i8, name, LITERAL),
        Resource::Group(name) => (3, name, LITERAL),
        Resource::TransactionalId(id) => (5, id, LITERAL),
        Resource::TransactionalIds { prefix } => (5, prefix, PREFIXED),
    };
    let operation = match permission.operation {
        Operation::Read => 3_i8,
        Operation::Write => 4,
        Operation::Create => 5,
        Operation::DescribeConfigs => 10,
    };
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend(text(name));
    bytes.extend(pattern.to_be_bytes());
    bytes.extend(text(&format!("User:{user}")));
    bytes.extend(text(EVERYWHERE));
    bytes.extend(operation.to_be_bytes());
    bytes.extend(ALLOW.to_be_bytes());
    bytes
}

fn count(permissions: &[Permission]) -> Vec<u8> {
    i32::try_from(permissions.len()).unwrap().to_be_bytes().to_vec()
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = i16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// The length of the text that `bytes` begin with, behind its own two bytes; an absent one has none.
fn text_length(bytes: &[u8]) -> usize {
    usize::try_from(i16::from_be_bytes([bytes[0], bytes[1]])).unwrap_or(0)
}
