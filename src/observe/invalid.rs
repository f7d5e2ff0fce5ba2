//! Reports invalid requests: each in the metrics, some in the logs.
//!
//! A gateway treats an error as it is set up to, and by default lets the request pass. So it must be reported, and a
//! flood of such requests must not become one of lines.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Throttle;
use crate::engine::text::Shown;
use crate::metrics::{Invalid, Metrics, Port};

/// The least time between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Characters of an error that are logged.
const ERROR_LEN_MAX: usize = 256;

/// Tells of requests on one port that can't be decided.
#[derive(Clone, Debug)]
pub struct InvalidRequests {
    port: Port,
    metrics: Arc<Metrics>,
    throttle: Arc<Throttle>,
}

impl InvalidRequests {
    /// Tells of those that come in at `port`.
    pub fn new(port: Port, metrics: Arc<Metrics>) -> Self {
        Self { port, metrics, throttle: Arc::new(Throttle::new(INTERVAL)) }
    }

    /// Tells of one. What its `error` says may be the caller's own words.
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
