//! The settings of the process itself.

use std::time::Duration;

use super::setting::{DURATION, component};
use super::value::{self, optional};

component! {
    /// The process: its threads and its end.
    pub struct ProcessSettings in "Process";

    drain_delay: Duration {
        name: "drain_delay",
        value: "DURATION",
        default: "5s",
        expected: DURATION,
        help: "Time after SIGTERM in which requests are still answered while health reports not ready, \
               so that gateways notice. An interrupt from the keyboard skips it",
        read: value::duration,
    }

    shutdown_grace: Duration {
        name: "shutdown_grace",
        value: "DURATION",
        default: "15s",
        expected: DURATION,
        help: "Time for the requests in flight to end after that",
        read: value::duration,
    }

    /// None: one for each core.
    worker_threads: Option<usize> {
        name: "worker_threads",
        value: "NUMBER",
        default: "",
        expected: "a whole number from 1 to 1024",
        help: "Threads that serve; by default one per core",
        read: optional(|text| value::number(text, 1..=1024)),
    }
}
