//! Ports for programs that can't choose a free one themselves.

use std::net::TcpListener;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range that the system uses for clients and for `127.0.0.1:0` (from 32,768 on Linux), so that nothing takes
/// a port between this choice and the start of the program.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// The offset of the port on which nodes of a Redis cluster communicate.
const BUS: u16 = 10_000;

static CHOSEN: AtomicU16 = AtomicU16::new(0);

/// A free port, whose port as a node of a cluster is free too. Each is chosen once in this process; another test
/// process starts at another number.
pub fn free_port() -> u16 {
    let start = u16::try_from(process::id() % u32::from(COUNT)).unwrap();
    for _ in 0..COUNT {
        let offset = (start + CHOSEN.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        let port = FIRST + offset;
        if [port, port + BUS].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
