//! Ports for servers that tests start, on loopback.

use std::net::{Ipv4Addr, TcpListener};

use rand::{RngExt, rng};

/// Among these a block is looked for.
const PORTS_FROM: u16 = 20_000;
const PORTS_TO: u16 = 29_000;

/// The first of so many ports in a row that nobody listens on.
pub(crate) fn free_block(ports: u16) -> u16 {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    for _ in 0..100 {
        let first = rng().random_range(PORTS_FROM..PORTS_TO);
        if (first..first + ports).all(free) {
            return first;
        }
    }
    panic!("no {ports} ports in a row are free between {PORTS_FROM} and {PORTS_TO}");
}
