//! Shared helpers of the tests: programs, clients, conditions.
//!
//! Black-box helpers use no internals of Tollgate. A test waits for conditions, never for time to pass.

pub mod ads;
pub mod ask;
pub mod batch;
pub mod browser;
pub mod claims;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod engine;
pub mod envoy;
pub mod fields;
pub mod gateway;
pub mod http2;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod redis;
pub mod store;
pub mod sums;
pub mod tls;
pub mod tollgate;
pub mod upstream;
pub mod usage;

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

/// Maximum time of anything on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The seed of random histories and cases, if nothing says another one: the tests of one commit say the same each time.
const SEED: u64 = 1000;

/// Interval of checks of a condition.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);

/// The seed of random histories and cases: that of `TOLLGATE_TEST_SEED`, which may be `random`.
pub fn random_seed() -> u64 {
    match env::var("TOLLGATE_TEST_SEED") {
        Ok(text) if text == "random" => RandomState::new().hash_one(text),
        Ok(text) => text.parse().expect("TOLLGATE_TEST_SEED is a number or `random`"),
        Err(_) => SEED,
    }
}

/// Waits until `probe` returns something, and fails the test after [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let probing = async {
        let mut ticks = tokio::time::interval(PROBE_INTERVAL);
        loop {
            ticks.tick().await;
            if let Some(found) = probe().await {
                return found;
            }
        }
    };
    match tokio::time::timeout(PATIENCE, probing).await {
        Ok(found) => found,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// The path of a program: in the variable, on the PATH, or at `fallback`. If it is missing, that is printed, and fails
/// in CI.
pub fn find_program(name: &str, variable: &str, fallback: Option<PathBuf>) -> Option<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|folder| folder.join(name));
    let found = named.into_iter().chain(on_path).chain(fallback).find(|program| program.is_file());
    if found.is_none() {
        assert!(env::var_os("CI").is_none(), "{name} is absent, and this is CI: see tests/run.sh");
        eprintln!("skipped what needs {name}, which is absent: tests/run.sh installs it");
    }
    found
}
