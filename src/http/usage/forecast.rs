//! `/v1/forecast`: when the limits of a caller will be used up, from what was spent of them.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::last_tiers::with_last_tiers;
use super::reading::{Reading, Scope, read};
use crate::clock::Timestamp;
use crate::engine::{Code, Preview, Standing, Verdict};
use crate::http::auth::{Authorized, Own};
use crate::http::edge::Edge;
use crate::http::extract::UrlQuery;
use crate::http::problem::Problem;
use crate::http::quota::{QuotaParams, Target, TierSourceName, tier};
use crate::limit::{Algorithm, Hits};
use crate::observe::audit::instant;
use crate::usage::forecast::{
    Comeback, Forecast, History, Outlook, Season, Standing as LimitStanding, Trend,
};
use crate::usage::{Dimension, Granularity, Rank, UsageQuery, View};

const HOUR_MS: u64 = 3_600_000;
/// A day of a calendar has up to 25 hours.
const DAY_MS_MAX: u64 = 25 * HOUR_MS;
/// How many steps of the past are read: 8 weeks of days, 8 days of hours.
const SEASONS_READ: u64 = 8;

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

/// What was spent by domain and limit: by the number of the day or hour.
type Spent = HashMap<(String, String), BTreeMap<u64, f64>>;

/// The usage of a caller by days and by hours.
struct Past {
    scope: Scope,
    days: Spent,
    hours: Spent,
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
    forecasts(&edge, &target).await.map(Json)
}

/// The forecasts of the limits of a caller.
///
/// # Errors
/// If usage is not counted, no limit applies, or the store is unavailable.
pub async fn forecasts(edge: &Edge, target: &Target) -> Result<ForecastsBody, Problem> {
    let target = &with_last_tiers(edge, target).await;
    let past = Past::read(edge, target.caller()).await?;
    let snapshot = edge.engine.snapshot();
    let (mut items, mut domains) = (Vec::new(), Vec::new());
    for request in &target.requests(&snapshot, Hits::GiveBack(0))? {
        let preview = edge.engine.preview(&snapshot, request).await;
        if preview.verdict.code() == Code::Unavailable || preview.verdict.fallback {
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the store is unavailable"));
        }
        items.extend(past.items(&preview, target.caller()));
        domains.extend(preview.verdict.policy);
    }
    if items.is_empty() {
        return Err(target.unmet(domains));
    }
    Ok(ForecastsBody { scope: past.scope, caller: target.caller().to_owned(), items })
}

impl Past {
    async fn read(edge: &Edge, caller: &str) -> Result<Self, Problem> {
        let now = edge.engine.now();
        let (days, hours) = (query(caller, Season::Week, now), query(caller, Season::Day, now));
        let (days, hours) = (read(edge, days).await?, read(edge, hours).await?);
        for reading in [&days, &hours] {
            if let Some(reason) = &reading.unavailable {
                // The usage of one sidecar would give a wrong forecast.
                return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason.clone()));
            }
        }
        Ok(Self { scope: days.scope, days: spent(&days), hours: spent(&hours) })
    }

    fn items(&self, preview: &Preview<'_>, caller: &str) -> Vec<ForecastItem> {
        let verdict = &preview.verdict;
        preview.standings().map(|standing| self.item(verdict, standing, caller)).collect()
    }

    fn item(
        &self,
        verdict: &Verdict<'_>,
        standing: Standing<'_, '_>,
        caller: &str,
    ) -> ForecastItem {
        let charge = standing.charge;
        let now = verdict.at;
        let (season, comeback) = comeback(standing.limit.at(now).algorithm(), now);
        let name = (verdict.domain.to_owned(), charge.limit.label.to_string());
        let all = match season {
            Season::Week => &self.days,
            Season::Day => &self.hours,
        };
        let present = now.as_ms() / season.step_ms();
        let history = history(all.get(&name), (season, present));
        let spent_in_step = all.get(&name).and_then(|spent| spent.get(&present)).copied();
        let is_shared = standing.account.is_some_and(|account| account != caller);
        let (unknown, expected) = match (history.forecast(), comeback) {
            _ if is_shared => (Some("its counter is shared with other callers".to_owned()), None),
            (_, None) => (Some("its window is shorter than an hour".to_owned()), None),
            (None, _) => (Some(too_little(&history)), None),
            (Some(forecast), Some(comeback)) => {
                let standing = LimitStanding {
                    now_ms: now.as_ms(),
                    quota: number(charge.quota),
                    used: number(standing.used),
                    spent_in_step: spent_in_step.unwrap_or_default(),
                    comeback,
                };
                let outlook = standing.outlook(&history, &forecast);
                (None, Some(ExpectedBody::new(&forecast, outlook, now)))
            }
        };
        let (tier, tier_source) = tier(verdict).unzip();
        ForecastItem {
            domain: name.0,
            limit: name.1,
            tier,
            tier_source,
            quota: charge.quota,
            used: standing.used,
            remaining: charge.remaining(),
            known: u64::try_from(history.spent.len()).unwrap_or(u64::MAX),
            step: match season {
                Season::Week => StepName::Day,
                Season::Day => StepName::Hour,
            },
            unknown,
            expected,
        }
    }
}

impl ExpectedBody {
    fn new(forecast: &Forecast, outlook: Outlook, now: Timestamp) -> Self {
        let at = |ms: u64| instant(Timestamp::from_ms(ms));
        let days_left = outlook.reached_ms.map(|reached| {
            rounded(number(reached.saturating_sub(now.as_ms())) / number(24 * HOUR_MS))
        });
        Self {
            average: rounded(forecast.level),
            trend: match forecast.trend {
                Trend::Rising => TrendName::Rising,
                Trend::Falling => TrendName::Falling,
                Trend::Steady => TrendName::Steady,
            },
            change: rounded(forecast.change),
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

fn query(caller: &str, season: Season, now: Timestamp) -> UsageQuery {
    let steps = SEASONS_READ * u64::try_from(season.steps()).unwrap_or_default();
    UsageQuery {
        view: View::Limits,
        granularity: match season {
            Season::Week => Granularity::Day,
            Season::Day => Granularity::Hour,
        },
        from: Timestamp::from_ms(now.as_ms().saturating_sub(steps * season.step_ms())),
        to: Timestamp::MAX,
        by_time: true,
        group_by: vec![Dimension::Domain, Dimension::Limit],
        named_only: true,
        currency: None,
        filters: vec![(Dimension::Caller, caller.to_owned())],
        rank: Rank::Group,
        range: 0..usize::MAX,
    }
}

fn spent(reading: &Reading) -> Spent {
    let mut spent = Spent::new();
    for (group, total) in &reading.page.groups {
        let (Some(start), [domain, limit]) = (group.start, &group.names[..]) else { continue };
        let (Some(domain), Some(limit)) = (domain.text(), limit.text()) else { continue };
        let hits = total.counts.hits_spent.saturating_sub(total.counts.hits_given_back);
        let number_of_step = reading.query.granularity.number(start);
        let steps = spent.entry((domain.to_owned(), limit.to_owned())).or_default();
        steps.insert(number_of_step, number(hits));
    }
    spent
}

/// The whole steps before the present one, from the first with any use on.
fn history(spent: Option<&BTreeMap<u64, f64>>, (season, present): (Season, u64)) -> History {
    let first = spent.and_then(|spent| spent.keys().next().copied()).unwrap_or(present);
    // The first step may have begun before the usage was counted.
    let first = (first + 1).min(present);
    let at = |step: u64| spent.and_then(|spent| spent.get(&step)).copied().unwrap_or_default();
    History { season, first, spent: (first..present).map(at).collect() }
}

/// Whether hours or days are looked at, and how hits come back; None for windows of less than an hour.
fn comeback(algorithm: &Algorithm, now: Timestamp) -> (Season, Option<Comeback>) {
    let (window_ms, comeback) = match algorithm {
        Algorithm::Total => return (Season::Week, Some(Comeback::Never)),
        Algorithm::Sliding(sliding) => {
            let window_ms = sliding.window_ms();
            (window_ms, Comeback::Sliding { window_ms })
        }
        Algorithm::Bucket(bucket) => {
            let per_ms = number(bucket.amount()) / number(bucket.window_ms());
            // It is whole again after the time that its burst takes.
            let whole_ms = bucket.window_ms() * bucket.burst().div_ceil(bucket.amount().max(1));
            (whole_ms, Comeback::Steady { per_ms })
        }
        Algorithm::Fixed(_) | Algorithm::Calendar(_) => {
            let Some(period) = algorithm.period(now) else { return (Season::Week, None) };
            let len = period.end.as_ms().saturating_sub(period.start.as_ms());
            (len, Comeback::AtOnce { at_ms: period.end.as_ms() })
        }
    };
    let season = if window_ms <= DAY_MS_MAX { Season::Day } else { Season::Week };
    (season, (HOUR_MS <= window_ms).then_some(comeback))
}

fn too_little(history: &History) -> String {
    let (needed, known) = (history.season.steps(), history.spent.len());
    let steps = match history.season {
        Season::Week => "days",
        Season::Day => "hours",
    };
    format!("not enough data: {known} of {needed} whole {steps}")
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
