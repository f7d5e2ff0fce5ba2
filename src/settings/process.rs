//! The settings of the process itself.

use std::time::Duration;

use super::setting::{DURATION, component};
use super::value::{self, optional};

component! {
    /// The process: its threads and its shutdown.
    pub struct ProcessSettings in "Process";

    drain_delay: Duration {
        name: "drain_delay",
        value: "DURATION",
        default: "5s",
        expected: DURATION,
        help: "Time after SIGTERM in which Tollgate still answers but health reports not ready, \
               so that gateways switch to others. Ctrl-C skips it",
        read: value::duration,
    }

    shutdown_grace: Duration {
        name: "shutdown_grace",
        value: "DURATION",
        default: "15s",
        expected: DURATION,
        help: "Maximum time for requests in flight to complete after drain_delay",
        read: value::duration,
    }

    /// None: one per core.
    worker_threads: Option<usize> {
        name: "worker_threads",
        value: "NUMBER",
        default: "",
        expected: "a whole number from 1 to 1024",
        help: "Number of worker threads; one per core by default",
        read: optional(|text| value::number(text, 1..=1024)),
    }
}
