//! The state that all HTTP handlers share.

use std::sync::Arc;

use super::dashboard::Dashboard;
use crate::alerts::{Alerts, UsageSources};
use crate::api_token::ApiToken;
use crate::engine::{ApiKeys, Engine, Readiness};
use crate::metrics::Metrics;
use crate::observe::audit::Audit;
use crate::observe::eraser::Eraser;
use crate::observe::invalid::InvalidRequests;
use crate::observe::recent_refusals::RecentRefusals;
use crate::store::ReservationRecords;
use crate::store::redis::RedisRefusals;

/// The state that all handlers share.
#[derive(Clone, Debug)]
pub struct Edge {
    pub engine: Arc<Engine>,
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    pub api: Arc<Api>,
    /// Counts and logs invalid requests for a decision.
    pub invalid: InvalidRequests,
}

/// The tokens of the API, its audit log, the records of reservations, recent refusals, the sources of usage, and the dashboard.
#[derive(Clone, Debug, Default)]
pub struct Api {
    /// If empty, only this machine may use the API.
    pub tokens: Vec<ApiToken>,
    pub audit: Audit,
    /// None: no API keys are kept.
    pub api_keys: Option<Arc<ApiKeys>>,
    /// The records of reservations that are made over HTTP.
    pub reservations: Arc<ReservationRecords>,
    pub eraser: Eraser,
    pub refusals: RefusalSources,
    /// None: usage is not counted.
    pub usage: Option<UsageSources>,
    /// None: there are no files of alerts.
    pub alerts: Option<Alerts>,
    /// None: it is off.
    pub dashboard: Option<Arc<Dashboard>>,
}

/// The places of refusals with an id.
#[derive(Clone, Debug, Default)]
pub struct RefusalSources {
    /// Those of this process.
    pub recent: Arc<RecentRefusals>,
    /// Those of all processes. None: there is no Redis.
    pub stored: Option<Arc<RedisRefusals>>,
}
