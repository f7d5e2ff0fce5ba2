//! The settings of the store.

use std::time::Duration;

use super::setting::{DURATION, component};
use super::value::{self, optional};

component! {
    /// The store, whichever it is.
    pub struct StoreSettings in "Store";

    deadline: Duration {
        name: "store_deadline",
        value: "DURATION",
        default: "10ms",
        expected: DURATION,
        help: "How long a request waits for Redis before the policy's on_outage answers. \
               Envoy itself waits 20ms unless told otherwise",
        read: value::some_time,
    }

    memory_keys_max: usize {
        name: "memory_keys_max",
        value: "NUMBER",
        default: "1000000",
        expected: "a whole number from 1 to 1000000000",
        help: "Counters that are kept in memory, by the embedded store or while Redis is out, before those \
               nearest to their end are given up",
        read: |text| value::number(text, 1..=1_000_000_000),
    }

    /// None: as many as send heartbeats.
    outage_sidecars: Option<u32> {
        name: "outage_sidecars",
        value: "NUMBER",
        default: "",
        expected: "a whole number from 1 to 1000000",
        help: "Among how many processes a limit with on_outage: local is shared while Redis is out. \
               Unless set, they are counted by their heartbeats while it is there",
        read: optional(|text| value::number(text, 1..=1_000_000)),
        needs: &["redis_url"],
    }
}
