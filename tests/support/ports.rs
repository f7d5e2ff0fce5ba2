//! Ports for programs that have to be told theirs.

use std::net::TcpListener;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what the system gives to clients and to `127.0.0.1:0` (from 32,768 on Linux): none of those takes a port
/// between this choice and the start of the program.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// A node of a Redis cluster talks to the other nodes on a port so much above its own.
const BUS: u16 = 10_000;

static CHOSEN: AtomicU16 = AtomicU16::new(0);

/// A port on which nothing listens, nor on the one that it would have as a node of a cluster. It is chosen once in this
/// process; another process of tests begins elsewhere.
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
