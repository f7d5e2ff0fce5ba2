//! The state that the handlers of HTTP share.

use std::sync::Arc;

use crate::api_token::ApiToken;
use crate::engine::{Engine, Readiness};
use crate::metrics::Metrics;
use crate::observe::audit::Audit;
use crate::observe::invalid::InvalidRequests;

/// The state that the handlers share.
#[derive(Clone, Debug)]
pub struct Edge {
    pub engine: Arc<Engine>,
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    pub api: Arc<Api>,
    /// Counts and logs invalid requests for a decision.
    pub invalid: InvalidRequests,
}

/// The tokens of the API, and the audit log of its changes.
#[derive(Clone, Debug, Default)]
pub struct Api {
    /// Empty: only this machine is served.
    pub tokens: Vec<ApiToken>,
    pub audit: Audit,
}
