//! Reports invalid requests: all in the metrics, some in the log.
//!
//! By default, a gateway lets a request pass after an error. So errors must be reported, but a flood of invalid
//! requests must not become a flood of log lines.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Throttle;
use crate::engine::text::Shown;
use crate::metrics::{Invalid, Metrics, Port};

/// Minimum time between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of logged characters of an error.
const ERROR_LEN_MAX: usize = 256;

/// Reports invalid requests on one port.
#[derive(Clone, Debug)]
pub struct InvalidRequests {
    port: Port,
    metrics: Arc<Metrics>,
    throttle: Arc<Throttle>,
}

impl InvalidRequests {
    /// Reports those that arrive at `port`.
    pub fn new(port: Port, metrics: Arc<Metrics>) -> Self {
        Self { port, metrics, throttle: Arc::new(Throttle::new(INTERVAL)) }
    }

    /// Reports one. The text of its `error` may come from the client.
    pub fn note(&self, why: Invalid, error: impl Display) {
        self.metrics.invalid.count(self.port, why);
        let Some(unlogged) = self.throttle.pass() else { return };
        tracing::warn!(
            port = self.port.as_str(),
            reason = why.as_str(),
            error = %Shown::new(&error.to_string()).up_to(ERROR_LEN_MAX),
            unlogged,
            "invalid request; Envoy's failure_mode_deny decides",
        );
    }
}
