//! The settings of the store.

use std::path::PathBuf;
use std::time::Duration;

use super::setting::{DURATION, PATH, component};
use super::value::{self, optional};

component! {
    /// The store, embedded or Redis.
    pub struct StoreSettings in "Store";

    deadline: Duration {
        name: "store_deadline",
        value: "DURATION",
        default: "10ms",
        expected: DURATION,
        help: "Maximum time that a request waits for Redis; then the policy's on_outage answers. A gRPC call waits at most three \
               quarters of its timeout, if its client sends one (grpc-timeout): with Envoy's default of 20ms, 15ms. \
               What the HTTP API reads and changes waits up to 1s",
        read: value::some_time,
    }

    memory_keys_max: usize {
        name: "memory_keys_max",
        value: "NUMBER",
        default: "1000000",
        expected: "a whole number from 1 to 1000000000",
        help: "Maximum number of counters in memory, in the embedded store or while Redis is unavailable; beyond it \
               the least costly counters are evicted",
        read: |text| value::number(text, 1..=1_000_000_000),
    }

    /// None: usage and counters end with the process.
    data_dir: Option<PathBuf> {
        name: "data_dir",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "Folder for files that keep callers, usage, and counters of windows of an hour and more, without Redis. If \
               absent, they end with the process",
        read: optional(|text| Some(PathBuf::from(text))),
        excludes: &["redis_url"],
    }

    /// None: the number of sidecars with a heartbeat.
    outage_sidecars: Option<u32> {
        name: "outage_sidecars",
        value: "NUMBER",
        default: "",
        expected: "a whole number from 1 to 1000000",
        help: "Number of processes that share a limit with on_outage: local while Redis is unavailable. \
               By default Tollgate counts them by their heartbeats in Redis",
        read: optional(|text| value::number(text, 1..=1_000_000)),
        needs: &["redis_url"],
    }
}
