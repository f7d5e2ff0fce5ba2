//! The state that the handlers of HTTP share.

use std::sync::Arc;

use crate::api_token::ApiToken;
use crate::engine::{Engine, Readiness};
use crate::metrics::Metrics;
use crate::observe::audit::Audit;
use crate::observe::invalid::InvalidRequests;
use crate::store::SumsStore;
use crate::usage::{Retention, UsageMemory};

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

/// The tokens of the API, the audit log of its changes, and the usage that it tells.
#[derive(Clone, Debug, Default)]
pub struct Api {
    /// Empty: only this machine is served.
    pub tokens: Vec<ApiToken>,
    pub audit: Audit,
    /// None: usage is not counted.
    pub usage: Option<UsageSources>,
}

/// Where usage is told from.
#[derive(Clone, Debug)]
pub struct UsageSources {
    /// What this process has counted.
    pub memory: Arc<UsageMemory>,
    /// What outlives it. None: nothing does.
    pub sums: Option<Arc<SumsStore>>,
    /// For how long that is kept.
    pub retention: Retention,
}
