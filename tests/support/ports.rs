//! Ports for programs that can't choose a free one themselves.
//!
//! Test processes that run at the same time don't choose the same ports: each takes blocks of them, of which it locks a file. The
//! system drops the locks of a process that ends, however it ends.

use std::env;
use std::fs::{self, File};
use std::net::TcpListener;
use std::sync::Mutex;

/// Below the range that the system uses for clients and for `127.0.0.1:0` (from 32,768 on Linux), so that nothing takes
/// a port between this choice and the start of the program.
const FIRST: u16 = 10_000;
const BLOCK_LEN: u16 = 100;
const BLOCKS: u16 = 100;

/// The offset of the port on which nodes of a Redis cluster communicate.
const BUS: u16 = 10_000;

static PORTS: Mutex<Ports> = Mutex::new(Ports::new());

/// A free port, whose port as a node of a cluster is free too. Each is chosen once in this process, and in no other one that
/// runs now.
pub fn free_port() -> u16 {
    PORTS.lock().unwrap().next()
}

/// Ports of one process.
struct Ports {
    /// Of the blocks that it has taken; locked until the process ends.
    locks: Vec<File>,
    next_block: u16,
    next: u16,
    end: u16,
}

impl Ports {
    const fn new() -> Self {
        Self { locks: Vec::new(), next_block: 0, next: 0, end: 0 }
    }

    fn next(&mut self) -> u16 {
        loop {
            if self.next == self.end {
                self.take_block();
            }
            let port = self.next;
            self.next += 1;
            if [port, port + BUS].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
            {
                return port;
            }
        }
    }

    /// Takes the next block that no other process has.
    fn take_block(&mut self) {
        let folder = env::temp_dir().join("tollgate-test-ports");
        fs::create_dir_all(&folder).unwrap();
        while self.next_block < BLOCKS {
            let first = FIRST + self.next_block * BLOCK_LEN;
            self.next_block += 1;
            // A file of another user can't be opened.
            let Ok(file) = File::create(folder.join(first.to_string())) else { continue };
            if file.try_lock().is_ok() {
                self.locks.push(file);
                (self.next, self.end) = (first, first + BLOCK_LEN);
                return;
            }
        }
        panic!("no free port between {FIRST} and {}", FIRST + BLOCKS * BLOCK_LEN);
    }
}

#[test]
fn processes_that_start_together_choose_different_ports() {
    let (mut one, mut other) = (Ports::new(), Ports::new());
    let chosen: Vec<u16> = (0..150).map(|_| one.next()).collect();
    let others: Vec<u16> = (0..150).map(|_| other.next()).collect();
    assert!(others.iter().all(|port| !chosen.contains(port)), "{chosen:?} {others:?}");
}
