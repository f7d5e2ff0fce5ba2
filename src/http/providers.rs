//! `/v1/providers`: how much of the capacity of each provider is in use.

use axum::Json;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::{Authorized, Viewer};
use super::edge::Edge;
use super::extract::{AlwaysAvailable, UrlPath, UrlQuery};
use super::openapi::{self, Description, Operation, Output};
use super::problem::Problem;
use super::provider_controls::ControlBody;
use super::quota::{check_domain, percent};
use crate::engine::{ProviderLimit, ProviderState, Waiting};
use crate::observe::audit::instant;

pub fn operations() -> [Operation; 2] {
    [
        openapi::get(
            "/v1/providers",
            "listProviders",
            "List providers: capacity, use, pressure, queue and latency of each",
            list,
        )
        .or([(422, "No policy has the domain (INVALID_RESOURCE_TYPE)")]),
        openapi::get(
            "/v1/providers/{name}",
            "getProvider",
            "Show the capacity, use, pressure, queue and latency of a provider",
            show,
        ),
    ]
}

/// The query of providers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProvidersParams {
    /// Only providers of this domain.
    domain: Option<String>,
}

/// All providers, by domain.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Providers")]
pub struct ProvidersBody {
    /// Redis was unavailable: the hits in use are those that this sidecar counts alone.
    pub fallback: bool,
    pub items: Vec<ProviderBody>,
}

/// A provider: a name in a choice, or the value of the first entry of a rule with `capacity`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Provider")]
pub struct ProviderBody {
    pub domain: String,
    /// The key of the entry with the provider's name.
    pub key: String,
    pub provider: String,
    pub status: Status,
    /// The time of these numbers.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// Redis was unavailable: the hits in use are those that this sidecar counts alone.
    pub fallback: bool,
    /// The highest level of pressure of its rules; 0: none.
    pub level: u8,
    /// Requests that this sidecar holds for capacity.
    pub waiting: usize,
    /// The latency that choices assume, in milliseconds; absent if it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// The source of the latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_from: Option<LatencyFrom>,
    /// Its changes for a while that hold.
    pub controls: Vec<ControlBody>,
    /// The limit of which the largest part is in use; absent without limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fullest: Option<ProviderLimitBody>,
    /// Each limit with a single counter.
    pub limits: Vec<ProviderLimitBody>,
}

/// Whether a provider has capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ProviderStatus")]
pub enum Status {
    Available,
    /// A level of pressure is in force.
    Pressure,
    /// Nothing is left of a limit.
    Exhausted,
    /// Redis is unavailable.
    Unknown,
}

/// The source of a latency.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LatencyFrom {
    /// Reports to this sidecar.
    Reported,
    Policy,
}

/// A limit of a provider, for all callers together.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProviderLimit")]
pub struct ProviderLimitBody {
    /// The path of its rule.
    pub rule: String,
    /// As metrics and usage name it.
    pub limit: String,
    /// Whether it refuses requests; false in the modes `warn` and `shadow`.
    pub enforced: bool,
    /// Hits that can be in use now, under its schedule, the signal that it follows and a cap for all.
    pub capacity: u64,
    pub used: u64,
    pub remaining: u64,
    /// `used` of `capacity`; above 100 where the limit is overdrawn, or lowered.
    pub percent: f64,
    /// The part of the limit that the signal leaves, from 0 to 100; absent if it follows none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adjusted_percent: Option<f64>,
    /// When nothing will be in use any more, if nothing more is spent; absent if nothing is in use.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset_at: Option<String>,
    /// The level of pressure of its rule; absent if it has no levels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    /// The requests that this sidecar holds for it; absent if it has no `wait`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueBody>,
    /// What each tier may use, the lowest first; absent without a reserve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserve: Vec<ReserveBody>,
}

/// What callers of a tier may use of a limit with a reserve. Pressure may leave less.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProviderReserve")]
pub struct ReserveBody {
    pub tier: String,
    /// Hits that lower tiers can't use, for this tier and those above it.
    pub reserved: u64,
    /// Hits that can be in use before callers of this tier are refused.
    pub capacity: u64,
    /// Hits that are left to them.
    pub remaining: u64,
}

/// Held requests by priority.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProviderQueue")]
pub struct QueueBody {
    pub waiting: usize,
    pub low: usize,
    pub medium: usize,
    pub high: usize,
    pub urgent: usize,
    /// How long the one has waited that has waited longest.
    pub longest_wait_ms: LongestWaitBody,
}

/// The longest waits by priority, in milliseconds; absent if none waits.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProviderLongestWait")]
pub struct LongestWaitBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub medium: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub urgent: Option<u64>,
}

/// One provider.
struct Shown(Json<ProviderBody>);

impl axum::response::IntoResponse for Shown {
    fn into_response(self) -> axum::response::Response {
        self.0.into_response()
    }
}

impl Output for Shown {
    fn describe(description: &mut Description<'_>) {
        description.answer::<ProviderBody>(200);
        description.problem("404", "No policy has the provider");
        description.problem("422", "Several domains have the provider: `domain` is required");
    }
}

/// Lists providers.
async fn list(
    _: Authorized<Viewer>,
    AlwaysAvailable(edge): AlwaysAvailable,
    UrlQuery(ProvidersParams { domain }): UrlQuery<ProvidersParams>,
) -> Result<Json<ProvidersBody>, Problem> {
    check_domain(&edge.engine.policies(), domain.as_deref())?;
    Ok(Json(providers(&edge, domain.as_deref()).await))
}

/// The providers of a domain, or of all.
pub async fn providers(edge: &Edge, domain: Option<&str>) -> ProvidersBody {
    let is_wanted = |of: &str| domain.is_none_or(|domain| domain == of);
    let states = edge.engine.providers(|of, _| is_wanted(of)).await;
    let items: Vec<ProviderBody> = states.iter().map(ProviderBody::from).collect();
    ProvidersBody { fallback: items.iter().any(|item| item.fallback), items }
}

/// Shows a provider.
async fn show(
    _: Authorized<Viewer>,
    AlwaysAvailable(edge): AlwaysAvailable,
    UrlPath(name): UrlPath<String>,
    UrlQuery(ProvidersParams { domain }): UrlQuery<ProvidersParams>,
) -> Result<Shown, Problem> {
    check_domain(&edge.engine.policies(), domain.as_deref())?;
    let is_wanted = |of: &str| domain.as_deref().is_none_or(|domain| domain == of);
    let mut states = edge.engine.providers(|of, own| is_wanted(of) && own == name).await;
    if 1 < states.len() {
        let domains: Vec<&str> = states.iter().map(|state| state.domain.as_str()).collect();
        let detail = format!("name the `domain`: one of {}", domains.join(", "));
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let state = states.pop().ok_or_else(|| {
        let detail = format!("no policy has the provider `{name}`; see /v1/providers");
        Problem::new(StatusCode::NOT_FOUND, detail)
    })?;
    Ok(Shown(Json(ProviderBody::from(&state))))
}

impl From<&ProviderState> for ProviderBody {
    fn from(state: &ProviderState) -> Self {
        let limits: Vec<_> =
            state.limits.iter().map(|limit| ProviderLimitBody::new(state, limit)).collect();
        let fullest = limits.iter().max_by(|one, other| one.percent.total_cmp(&other.percent));
        let level = state.limits.iter().filter_map(|limit| limit.level).max().unwrap_or_default();
        let queues = limits.iter().filter_map(|limit| limit.queue);
        let is_exhausted = |limit: &ProviderLimit| limit.refuses && limit.remaining() == 0;
        let status = match state {
            _ if state.fallback => Status::Unknown,
            _ if state.limits.iter().any(is_exhausted) => Status::Exhausted,
            _ if 0 < level => Status::Pressure,
            _ => Status::Available,
        };
        Self {
            domain: state.domain.clone(),
            key: state.key.clone(),
            provider: state.name.clone(),
            status,
            at: instant(state.at),
            fallback: state.fallback,
            level,
            waiting: queues.map(|queue| queue.waiting).sum(),
            latency_ms: state.latency.map(|latency| latency.ms),
            latency_from: state.latency.map(|latency| match latency.is_reported {
                true => LatencyFrom::Reported,
                false => LatencyFrom::Policy,
            }),
            controls: state.controls.iter().map(ControlBody::from).collect(),
            fullest: fullest.cloned(),
            limits,
        }
    }
}

impl ProviderLimitBody {
    fn new(state: &ProviderState, limit: &ProviderLimit) -> Self {
        let reset = limit.reset.filter(|reset| limit.used != 0 && !reset.is_zero());
        Self {
            rule: limit.rule.clone(),
            limit: limit.label.clone(),
            enforced: limit.refuses,
            capacity: limit.capacity,
            used: limit.used,
            remaining: limit.remaining(),
            percent: percent(limit.used, limit.capacity),
            adjusted_percent: limit.scale.map(|scale| f64::from(scale.hundredths()) / 100.0),
            reset_at: reset.map(|reset| instant(state.at.after(reset))),
            level: limit.level,
            queue: limit.waiting.map(QueueBody::from),
            reserve: reserve(limit),
        }
    }
}

/// What each tier may use; empty without a reserve.
fn reserve(limit: &ProviderLimit) -> Vec<ReserveBody> {
    let below = std::iter::once(None).chain(limit.open.iter().map(Some));
    let bodies = limit.open.iter().zip(below).map(|(open, below)| ReserveBody {
        tier: open.tier.to_string(),
        reserved: below.map_or(0, |below| open.hits.saturating_sub(below.hits)),
        capacity: open.hits,
        remaining: open.hits.saturating_sub(limit.used),
    });
    bodies.collect()
}

impl From<Waiting> for QueueBody {
    fn from(by_priority: Waiting) -> Self {
        let [low, medium, high, urgent] = by_priority.map(|of| of.requests);
        let longest = by_priority.map(|of| {
            let ms = u64::try_from(of.longest.as_millis()).unwrap_or(u64::MAX);
            (of.requests != 0).then_some(ms)
        });
        let waiting = low + medium + high + urgent;
        let [low_ms, medium_ms, high_ms, urgent_ms] = longest;
        let longest_wait_ms =
            LongestWaitBody { low: low_ms, medium: medium_ms, high: high_ms, urgent: urgent_ms };
        Self { waiting, low, medium, high, urgent, longest_wait_ms }
    }
}
