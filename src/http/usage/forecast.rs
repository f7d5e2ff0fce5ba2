//! `/v1/forecast`: when the limits of a caller will be used up, from what was spent of them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reading::{Scope, read};
use crate::clock::Timestamp;
use crate::engine::{Code, Verdict};
use crate::http::auth::{Authorized, Own};
use crate::http::edge::Edge;
use crate::http::extract::UrlQuery;
use crate::http::problem::Problem;
use crate::http::quota::{AskedTarget, QuotaParams, Target, TierSourceName, tier};
use crate::limit::Hits;
use crate::observe::audit::instant;
use crate::usage::forecast::{Expected, Forecast, LimitForecast, Season, SpentPast, Trend};

const HOUR_MS: u64 = 3_600_000;

/// The query of a forecast.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForecastParams {
    caller: String,
    /// Only limits of this domain; absent: of all domains whose policy names callers.
    domain: Option<String>,
    /// More entries after the caller's, as `key=value,key=value`: the limits of a request with these entries.
    #[serde(default)]
    entries: String,
    /// Also the limits of the rules below that have a value, such as those of all kinds of resources.
    #[serde(default)]
    below: bool,
}

/// The limits of a caller, each with its forecast.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Forecasts")]
pub struct ForecastsBody {
    /// `fleet`: from the usage of all sidecars of the store. `sidecar`: of this one alone.
    pub scope: Scope,
    pub caller: String,
    pub items: Vec<ForecastItem>,
}

/// When a limit will be used up.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LimitForecast")]
pub struct ForecastItem {
    pub domain: String,
    pub limit: String,
    /// The tier by which the amount is chosen; absent if the policy has no tiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// What says the tier; absent if the policy has no tiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier_source: Option<TierSourceName>,
    pub quota: u64,
    pub used: u64,
    pub remaining: u64,
    /// How many whole days or hours of use the forecast is made from.
    pub known: u64,
    /// Days, or hours for windows of at most a day.
    pub step: StepName,
    /// Why there is no forecast.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    #[serde(flatten)]
    pub expected: Option<ExpectedBody>,
}

/// What is expected.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ExpectedBody {
    /// Hits a day (or an hour), on average over the last 7 days (or 24 hours).
    pub average: f64,
    /// By the Mann-Kendall test at 5 %.
    pub trend: TrendName,
    /// The change of the average by each day (or hour); 0 if it is steady.
    pub change: f64,
    /// All hits that are asked for; absent if none of the past were refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demand: Option<DemandBody>,
    /// What is spent on each weekday, or in each hour of the day in UTC, relative to the average: known after three weeks, or
    /// three days.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pattern: BTreeMap<String, f64>,
    /// When the limit is expected to be used up; absent if not before `until`.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached_at: Option<String>,
    /// Days until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days_left: Option<f64>,
    /// The start of the 80 % interval of `reached_at`.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earliest_at: Option<String>,
    /// Its end; absent if the limit may also last.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_at: Option<String>,
    /// The end of the forecast: when the limit is whole again, or as far as a forecast goes.
    #[schemars(extend("format" = "date-time"))]
    pub until: String,
    /// The hits a day with which the limit lasts; absent for a limit that never resets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_per_day: Option<u64>,
}

/// All hits that are asked for: those that are spent, and those that the limit refuses. A client that retries asks again each time.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ForecastDemand")]
pub struct DemandBody {
    /// Hits a day (or an hour), on average over the last 7 days (or 24 hours).
    pub average: f64,
    /// By the Mann-Kendall test at 5 %.
    pub trend: TrendName,
    /// The change of the average by each day (or hour); 0 if it is steady.
    pub change: f64,
}

#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ForecastStep")]
pub enum StepName {
    Day,
    Hour,
}

#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ForecastTrend")]
pub enum TrendName {
    Rising,
    Falling,
    Steady,
}

/// Forecasts the limits of a caller.
pub async fn forecast(
    by: Authorized<Own>,
    State(edge): State<Edge>,
    UrlQuery(params): UrlQuery<ForecastParams>,
) -> Result<Json<ForecastsBody>, Problem> {
    by.principal.may_read(Some(&params.caller))?;
    let target =
        QuotaParams::new(params.domain, params.entries, params.below).target(params.caller)?;
    forecasts(&edge, target).await.map(Json)
}

/// The forecasts of the limits of a caller.
///
/// # Errors
/// If usage is not counted, no limit applies, or the store is unavailable.
pub async fn forecasts(edge: &Edge, asked: AskedTarget) -> Result<ForecastsBody, Problem> {
    let target = &Target::resolve(edge, asked).await;
    let (scope, past) = read_past(edge, target.caller()).await?;
    let snapshot = edge.engine.snapshot();
    let (mut items, mut domains) = (Vec::new(), Vec::new());
    for request in &target.requests(&snapshot, Hits::GiveBack(0))? {
        let preview = edge.engine.preview(&snapshot, request).await;
        if preview.verdict.code() == Code::Unavailable || preview.verdict.fallback {
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the store is unavailable"));
        }
        let forecasts = past.forecasts(&preview, target.caller()).into_iter();
        items.extend(forecasts.map(|forecast| ForecastItem::new(forecast, &preview.verdict)));
        domains.extend(preview.verdict.policy);
    }
    if items.is_empty() {
        return Err(target.unmet(domains));
    }
    Ok(ForecastsBody { scope, caller: target.caller().to_owned(), items })
}

/// The usage of a caller, and whose it is.
async fn read_past(edge: &Edge, caller: &str) -> Result<(Scope, SpentPast), Problem> {
    let [days, hours] = SpentPast::queries(caller, edge.engine.now());
    let (days, hours) = (read(edge, days).await?.stored()?, read(edge, hours).await?.stored()?);
    Ok((days.scope, SpentPast::new([&days.page, &hours.page])))
}

impl ForecastItem {
    fn new(forecast: LimitForecast, verdict: &Verdict<'_>) -> Self {
        let (expected, unknown) = match forecast.expected {
            Ok(expected) => (Some(ExpectedBody::new(&expected, verdict.at)), None),
            Err(reason) => (None, Some(reason.to_string())),
        };
        let (tier, tier_source) = tier(verdict).unzip();
        Self {
            domain: forecast.domain,
            limit: forecast.limit,
            tier,
            tier_source,
            quota: forecast.quota,
            used: forecast.used,
            remaining: forecast.remaining,
            known: u64::try_from(forecast.known).unwrap_or(u64::MAX),
            step: match forecast.season {
                Season::Week => StepName::Day,
                Season::Day => StepName::Hour,
            },
            unknown,
            expected,
        }
    }
}

impl ExpectedBody {
    fn new(Expected { forecast, outlook, demand }: &Expected, now: Timestamp) -> Self {
        let at = |ms: u64| instant(Timestamp::from_ms(ms));
        let days_left = outlook.reached_ms.map(|reached| {
            rounded(number(reached.saturating_sub(now.as_ms())) / number(24 * HOUR_MS))
        });
        Self {
            average: rounded(forecast.level),
            trend: TrendName::of(forecast.trend),
            change: rounded(forecast.change),
            demand: demand.as_ref().map(|demand| DemandBody {
                average: rounded(demand.level),
                trend: TrendName::of(demand.trend),
                change: rounded(demand.change),
            }),
            pattern: pattern(forecast),
            reached_at: outlook.reached_ms.map(at),
            days_left,
            earliest_at: outlook.earliest_ms.map(at),
            latest_at: outlook.latest_ms.map(at),
            until: at(outlook.until_ms),
            budget_per_day: outlook.budget_per_day.map(whole),
        }
    }
}

impl TrendName {
    fn of(trend: Trend) -> Self {
        match trend {
            Trend::Rising => Self::Rising,
            Trend::Falling => Self::Falling,
            Trend::Steady => Self::Steady,
        }
    }
}

/// The shares of a season by name; empty if they are all the same.
fn pattern(forecast: &Forecast) -> BTreeMap<String, f64> {
    if forecast.shares.iter().all(|share| (share - 1.0).abs() < 0.005) {
        return BTreeMap::new();
    }
    // The epoch began with a Thursday, at midnight.
    const WEEKDAYS: [&str; 7] =
        ["thursday", "friday", "saturday", "sunday", "monday", "tuesday", "wednesday"];
    let shares = forecast.shares.iter().enumerate();
    let name = |position: usize| match forecast.season() {
        Season::Week => WEEKDAYS[position % WEEKDAYS.len()].to_owned(),
        Season::Day => format!("{position:02}:00"),
    };
    shares.map(|(position, share)| (name(position), rounded(*share))).collect()
}

/// To a hundredth.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Without its fraction; amounts are below 2^53.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(value: f64) -> u64 {
    value as u64
}

/// Exact for amounts and times: below 2^53.
fn number(value: u64) -> f64 {
    value as f64
}
