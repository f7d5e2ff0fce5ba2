//! `/v1/costs`: what is spent, what the budget will be, and what another provider would save.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, ToSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dropped;
use super::kinds::{KindBody, kinds};
use super::reading::{Reading, Scope, read};
use crate::clock::Timestamp;
use crate::http::auth::{Authorized, Viewer};
use crate::http::edge::Edge;
use crate::http::extract::UrlQuery;
use crate::http::problem::Problem;
use crate::http::quota::check_domain;
use crate::observe::audit::instant;
use crate::policy::{Budget, Domain};
use crate::usage::{Dimension, Granularity, Group, Total, UsageQuery, View};

const HOUR: Duration = Duration::from_secs(3_600);
/// The days whose spend a switch of the provider is compared with.
const SWITCH_DAYS: u32 = 30;
const HOURS_OF_DAY: u64 = 24;

/// The query of costs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CostsParams {
    /// Only this domain.
    domain: Option<String>,
    /// The currency of costs; if absent, that of the prices in the policies.
    currency: Option<String>,
}

/// What is spent. Money is in millionths of the currency; what was given back is subtracted.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Costs")]
pub struct CostsBody {
    /// `fleet`: of all sidecars of the store. `sidecar`: of this one alone.
    pub scope: Scope,
    /// Absent if the policies have no prices, or several currencies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// Requests of this sidecar that are in no sum, because more came than could be recorded.
    pub dropped: u64,
    /// The spend of each domain with prices.
    pub items: Vec<SpendBody>,
    /// The kinds of requests with prices, each with the providers that can serve it.
    pub kinds: Vec<KindBody>,
}

/// The spend of a domain.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Spend")]
pub struct SpendBody {
    pub domain: String,
    /// In the last 60 minutes.
    pub hour_micros: u64,
    /// Since the start of the day, in UTC.
    pub day_micros: u64,
    /// Since the start of the month, in UTC.
    pub month_micros: u64,
    /// `hour_micros` x 24.
    pub projected_day_micros: u64,
    /// `month_micros` x the length of the month / its elapsed part.
    pub projected_month_micros: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_budget_micros: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub month_budget_micros: Option<u64>,
    pub day: BudgetStatus,
    pub month: BudgetStatus,
}

/// Whether a budget holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetStatus {
    /// There is no budget.
    None,
    Within,
    /// The projection exceeds it.
    ProjectedOver,
    /// More than it is spent.
    Over,
}

/// Shows costs.
pub async fn show(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
    UrlQuery(params): UrlQuery<CostsParams>,
) -> Result<Json<CostsBody>, Problem> {
    costs_of(&edge, &params, Reading::stored).await.map(Json)
}

/// What is spent; while the store is unavailable, at this sidecar.
///
/// # Errors
/// If usage is not counted.
pub async fn costs(edge: &Edge, params: &CostsParams) -> Result<CostsBody, Problem> {
    costs_of(edge, params, Ok).await
}

/// What is spent, by readings that are good enough.
async fn costs_of(
    edge: &Edge,
    params: &CostsParams,
    checked: fn(Reading) -> Result<Reading, Problem>,
) -> Result<CostsBody, Problem> {
    check_domain(&edge.engine.policies(), params.domain.as_deref())?;
    let now = edge.engine.now();
    let (day, month) = (start_of(now, Span::Day), start_of(now, Span::Month));
    let asked = async |view, granularity, from, group_by: &[Dimension]| {
        let domain = params.domain.clone().map(|domain| (Dimension::Domain, domain));
        let query = UsageQuery {
            group_by: group_by.to_vec(),
            currency: params.currency.clone(),
            filters: domain.into_iter().collect(),
            ..UsageQuery::since(view, granularity, from)
        };
        read(edge, query).await.and_then(checked)
    };
    let spend = |granularity, from, group_by| asked(View::Requests, granularity, from, group_by);
    let by_domain = [Dimension::Domain];
    let hour_ago = Timestamp::from_ms(now.as_ms().saturating_sub(ms(HOUR)));
    let first = spend(Granularity::Minute, hour_ago, &by_domain).await?;
    let days = spend(Granularity::Hour, day, &by_domain).await?;
    let months = spend(Granularity::Day, month, &by_domain).await?;
    let since = now.as_ms().saturating_sub(u64::from(SWITCH_DAYS) * HOURS_OF_DAY * ms(HOUR));
    let by_kind = [Dimension::Domain, Dimension::Provider, Dimension::Kind];
    let switch = spend(Granularity::Day, Timestamp::from_ms(since), &by_kind).await?;
    let by_limit = [Dimension::Domain, Dimension::Provider, Dimension::Limit];
    let limits = asked(View::Limits, Granularity::Minute, hour_ago, &by_limit).await?;

    let [hours, days, months] = [&first, &days, &months].map(|reading| sums(&reading.page.groups));
    let policies = edge.engine.policies();
    let domains = policies.domains().into_iter();
    let wanted =
        domains.filter(|domain| params.domain.as_ref().is_none_or(|name| *name == domain.name));
    let priced: Vec<_> = wanted
        .filter_map(|domain| Some((domain, domain.prices.as_deref()?)))
        .filter(|(_, prices)| first.query.currency.as_deref() == Some(&*prices.currency))
        .collect();
    let items = priced.iter().map(|(domain, prices)| {
        let spent = [&hours, &days, &months].map(|sums| sums.get(&domain.name).copied());
        SpendBody::new(domain, prices.budget, (spent.map(Option::unwrap_or_default), now))
    });
    let items = items.collect();
    let states =
        edge.engine.providers(|domain, _| priced.iter().any(|(own, _)| own.name == domain)).await;
    Ok(CostsBody {
        scope: first.scope,
        currency: first.query.currency.clone(),
        at: instant(now),
        dropped: dropped(edge),
        items,
        kinds: kinds(&priced, &states, (&limits.page.groups, &switch.page.groups)),
    })
}

/// What each domain spent.
fn sums(groups: &[(Group, Total)]) -> BTreeMap<String, u64> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for (group, total) in groups {
        if let Some(domain) = group.names.first().and_then(|name| name.text()) {
            let sum = sums.entry(domain.to_owned()).or_default();
            *sum = sum.saturating_add(total.spend.net());
        }
    }
    sums
}

/// `sum * whole / part`, rounded down.
fn scaled(sum: u64, whole: u64, part: u64) -> u64 {
    let scaled = u128::from(sum) * u128::from(whole) / u128::from(part.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// A time that a period begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    Day,
    Month,
    NextMonth,
}

/// When a period of the present begins, in UTC.
pub(super) fn start_of(now: Timestamp, span: Span) -> Timestamp {
    let start = || {
        let now = Instant::from_millisecond(i64::try_from(now.as_ms()).ok()?).ok()?;
        let day = now.to_zoned(TimeZone::UTC).date();
        let first = match span {
            Span::Day => day,
            Span::Month => day.first_of_month(),
            Span::NextMonth => day.first_of_month().checked_add(1.month()).ok()?,
        };
        let ms = first.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond();
        u64::try_from(ms).ok().map(Timestamp::from_ms)
    };
    start().unwrap_or(now)
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl SpendBody {
    /// What a domain spent in the last hour, the day and the month.
    fn new(
        domain: &Domain,
        budget: Budget,
        ([hour, day, month], now): ([u64; 3], Timestamp),
    ) -> Self {
        let (start, end) = (start_of(now, Span::Month).as_ms(), start_of(now, Span::NextMonth));
        let elapsed = now.as_ms().saturating_sub(start).max(1);
        let projected_day = hour.saturating_mul(HOURS_OF_DAY);
        let projected_month = scaled(month, end.as_ms().saturating_sub(start), elapsed);
        Self {
            domain: domain.name.clone(),
            hour_micros: hour,
            day_micros: day,
            month_micros: month,
            projected_day_micros: projected_day,
            projected_month_micros: projected_month,
            day_budget_micros: budget.day,
            month_budget_micros: budget.month,
            day: BudgetStatus::of(budget.day, day, projected_day),
            month: BudgetStatus::of(budget.month, month, projected_month),
        }
    }
}

impl BudgetStatus {
    fn of(budget: Option<u64>, spent: u64, projected: u64) -> Self {
        match budget {
            None => Self::None,
            Some(budget) if budget < spent => Self::Over,
            Some(budget) if budget < projected => Self::ProjectedOver,
            Some(_) => Self::Within,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_compared_with_what_is_spent_and_projected() {
        let check = |budget, spent, projected, expected| {
            assert_eq!(BudgetStatus::of(budget, spent, projected), expected);
        };
        check(None, 9, 9, BudgetStatus::None);
        check(Some(10), 10, 10, BudgetStatus::Within);
        check(Some(10), 5, 11, BudgetStatus::ProjectedOver);
        check(Some(10), 11, 5, BudgetStatus::Over);
    }

    #[test]
    fn days_and_months_are_those_of_utc() {
        let at = |text: &str| {
            let at: Instant = text.parse().unwrap();
            Timestamp::from_ms(u64::try_from(at.as_millisecond()).unwrap())
        };
        let now = at("2028-02-29T23:59:59Z");
        assert_eq!(start_of(now, Span::Day), at("2028-02-29T00:00:00Z"));
        assert_eq!(start_of(now, Span::Month), at("2028-02-01T00:00:00Z"));
        assert_eq!(start_of(now, Span::NextMonth), at("2028-03-01T00:00:00Z"));
        assert_eq!(start_of(Timestamp::MAX, Span::Day), Timestamp::MAX);
    }

    #[test]
    fn a_month_is_projected_from_its_elapsed_part() {
        assert_eq!(scaled(1_000, 30, 10), 3_000);
        assert_eq!(scaled(u64::MAX, u64::MAX, 1), u64::MAX);
        assert_eq!(scaled(7, 1, 0), 7);
    }
}
