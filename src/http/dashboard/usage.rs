//! What the page of usage shows: a trend, what it is made of, refusals, and costs.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use jiff::Timestamp as Instant;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::chart::Column;
use super::failure::Failure;
use super::page::Page;
use super::view;
use super::view::layout::Section;
use super::visitor::Visitor;
use crate::clock::Timestamp;
use crate::http::auth::{Own, Viewer};
use crate::http::edge::Edge;
use crate::http::extract::UrlQuery;
use crate::http::quota::QuotaParams;
use crate::http::usage::{
    CostsBody, CostsParams, DenialItem, ForecastItem, Report, ReportParams, Scope, UsageItem,
    answer, costs, forecasts, report,
};
use crate::usage::{Dimension, Granularity, Rank, UsageQuery, View};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Rows of a list.
const ROWS_MAX: usize = 50;

/// The query of the page.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct UsageParams {
    pub period: Period,
    /// What to tell apart.
    pub by: By,
    /// Only the requests with this name in that dimension.
    pub value: String,
    /// Only refusals with this reason.
    pub reason: String,
}

/// The time that is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// By hour.
    #[default]
    Day,
    /// By day.
    Month,
    /// By month.
    Year,
}

/// A dimension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    #[default]
    Caller,
    Limit,
    Tier,
    Provider,
    Domain,
    Code,
    /// Of refusals.
    Reason,
}

/// What the page shows.
#[derive(Debug)]
pub struct UsagePage {
    pub params: UsageParams,
    pub columns: Vec<Column>,
    pub items: Vec<UsageItem>,
    pub denials: Vec<DenialItem>,
    pub costs: Option<CostsBody>,
    /// Of the limits of the caller that is selected, or why there are none; None: none is.
    pub forecasts: Option<Result<Vec<ForecastItem>, String>>,
    pub of_fleet: bool,
    pub from: String,
    /// Why there is nothing.
    pub reason: Option<String>,
    pub now_ms: u64,
}

impl Period {
    pub const ALL: [(Self, &'static str, &'static str); 3] = [
        (Self::Day, "day", "24 hours"),
        (Self::Month, "month", "31 days"),
        (Self::Year, "year", "12 months"),
    ];

    fn granularity(self) -> Granularity {
        match self {
            Self::Day => Granularity::Hour,
            Self::Month | Self::Year => Granularity::Day,
        }
    }

    /// The starts of the columns, the oldest first.
    fn starts(self, now_ms: u64) -> Vec<u64> {
        let steps = |step: u64, count: u64| {
            let last = now_ms / step;
            (0..count).map(move |back| (last + 1 + back).saturating_sub(count) * step)
        };
        match self {
            Self::Day => steps(HOUR_MS, 24).collect(),
            Self::Month => steps(DAY_MS, 31).collect(),
            Self::Year => months(now_ms),
        }
    }

    fn label(self, start_ms: u64) -> String {
        let format = match self {
            Self::Day => "%H:%M",
            Self::Month => "%b %d",
            Self::Year => "%b %Y",
        };
        let at = i64::try_from(start_ms).ok().and_then(|ms| Instant::from_millisecond(ms).ok());
        at.map_or_else(String::new, |at| at.strftime(format).to_string())
    }
}

/// The starts of the last twelve months, in UTC.
fn months(now_ms: u64) -> Vec<u64> {
    let now = i64::try_from(now_ms).ok().and_then(|ms| Instant::from_millisecond(ms).ok());
    let first = now.unwrap_or_default().to_zoned(TimeZone::UTC).date().first_of_month();
    let start = |back: i64| {
        let month = first.checked_sub(jiff::Span::new().months(back)).ok()?;
        let at = month.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond();
        u64::try_from(at).ok()
    };
    (0..12).rev().filter_map(start).collect()
}

impl By {
    pub const ALL: [(Self, &'static str, &'static str); 7] = [
        (Self::Caller, "caller", "caller"),
        (Self::Limit, "limit", "limit"),
        (Self::Tier, "tier", "tier"),
        (Self::Provider, "provider", "provider"),
        (Self::Domain, "domain", "domain"),
        (Self::Code, "code", "answer"),
        (Self::Reason, "reason", "reason of refusal"),
    ];

    fn dimension(self) -> Dimension {
        match self {
            Self::Caller => Dimension::Caller,
            Self::Limit => Dimension::Limit,
            Self::Tier => Dimension::Tier,
            Self::Provider => Dimension::Provider,
            Self::Domain => Dimension::Domain,
            Self::Code => Dimension::Code,
            Self::Reason => Dimension::Reason,
        }
    }

    /// Its name in a query.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(by, _, _)| *by == self).map_or("", |(_, name, _)| name)
    }
}

impl UsagePage {
    async fn read(edge: &Edge, params: UsageParams) -> Self {
        let now_ms = edge.engine.now().as_ms();
        let starts = params.period.starts(now_ms);
        let mut page = Self {
            params: params.clone(),
            columns: Vec::new(),
            items: Vec::new(),
            denials: Vec::new(),
            costs: None,
            forecasts: None,
            of_fleet: false,
            from: String::new(),
            reason: None,
            now_ms,
        };
        if let Err(problem) = page.fill(edge, &starts).await {
            page.reason = Some(problem.detail);
        }
        page
    }

    async fn fill(
        &mut self,
        edge: &Edge,
        starts: &[u64],
    ) -> Result<(), crate::http::problem::Problem> {
        let params = self.params.clone();
        let from = starts.first().copied().unwrap_or_default();
        let query = |by_time: bool, rank: Rank, rows: usize| UsageQuery {
            by_time,
            filters: params.filter(),
            rank,
            range: 0..rows,
            ..UsageQuery::since(
                if params.by == By::Limit { View::Limits } else { View::Requests },
                params.period.granularity(),
                Timestamp::from_ms(from),
            )
        };
        let trend = answer(edge, query(true, Rank::Group, usize::MAX), UsageItem::new).await?;
        self.of_fleet = matches!(trend.scope, Scope::Fleet);
        self.from = trend.from;
        self.columns = columns(params.period, starts, &trend.items);
        if params.by != By::Reason {
            let group_by = vec![params.by.dimension()];
            let rows = UsageQuery { group_by, ..query(false, Rank::Requests, ROWS_MAX) };
            self.items = answer(edge, rows, UsageItem::new).await?.items;
        }
        let denials = UsageQuery {
            view: View::Denials,
            granularity: params.period.granularity(),
            group_by: vec![
                Dimension::Caller,
                Dimension::Domain,
                Dimension::Limit,
                Dimension::Reason,
            ],
            filters: params.denial_filter(),
            ..query(false, Rank::Refused, ROWS_MAX)
        };
        self.denials = answer(edge, denials, DenialItem::new).await?.items;
        if params.by == By::Caller && !params.value.is_empty() {
            let target = QuotaParams::default().target(params.value.clone());
            let found = match target {
                Ok(target) => forecasts(edge, target).await.map(|body| body.items),
                Err(problem) => Err(problem),
            };
            self.forecasts = Some(found.map_err(|problem| problem.detail));
        }
        let has_prices =
            edge.engine.policies().domains().iter().any(|domain| domain.prices.is_some());
        if has_prices {
            self.costs = Some(costs(edge, &CostsParams::default()).await?);
        }
        Ok(())
    }
}

impl UsageParams {
    fn filter(&self) -> Vec<(Dimension, String)> {
        match (self.by, self.value.is_empty()) {
            (By::Reason, _) | (_, true) => Vec::new(),
            (by, false) => vec![(by.dimension(), self.value.clone())],
        }
    }

    fn denial_filter(&self) -> Vec<(Dimension, String)> {
        let mut filters = self.filter();
        filters.retain(|(dimension, _)| {
            matches!(dimension, Dimension::Caller | Dimension::Limit | Dimension::Domain)
        });
        if !self.reason.is_empty() {
            filters.push((Dimension::Reason, self.reason.clone()));
        }
        filters
    }
}

/// The sums of each column: those that start in it.
fn columns(period: Period, starts: &[u64], items: &[UsageItem]) -> Vec<Column> {
    let mut sums: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for item in items {
        let at = item.start.as_deref().and_then(|start| start.parse::<Instant>().ok());
        let at = at.and_then(|at| u64::try_from(at.as_millisecond()).ok()).unwrap_or_default();
        let Some(index) = starts.iter().rposition(|start| *start <= at) else { continue };
        let (passed, refused) = sums.entry(index).or_default();
        *passed += item.allowed;
        *refused += item.refused;
    }
    let column = |(index, start): (usize, &u64)| {
        let (passed, refused) = sums.get(&index).copied().unwrap_or_default();
        Column { label: period.label(*start), passed, refused }
    };
    starts.iter().enumerate().map(column).collect()
}

/// Shows the page.
pub async fn show(
    visitor: Visitor,
    State(edge): State<Edge>,
    Query(params): Query<UsageParams>,
) -> Result<Page, Failure> {
    visitor.authorized::<Viewer>()?;
    let usage = UsagePage::read(&edge, params).await;
    Ok(visitor.page(Section::Usage, "Usage", &view::usage::page(&usage)))
}

/// The month as CSV, as `/v1/report` has it.
pub async fn download(
    visitor: Visitor,
    State(edge): State<Edge>,
    Query(params): Query<UsageParams>,
) -> Result<Report, Failure> {
    visitor.authorized::<Viewer>()?;
    let by = visitor.authorized::<Own>()?;
    let group_by = match params.by {
        By::Reason => "domain,caller",
        by => by.name(),
    };
    Ok(report(by, State(edge), UrlQuery(ReportParams::csv(group_by))).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_a_period_end_with_the_present_one() {
        let at = |text: &str| {
            let at: Instant = text.parse().unwrap();
            u64::try_from(at.as_millisecond()).unwrap()
        };
        let now = at("2028-02-29T12:34:56Z");
        let check = |period: Period, count, first: &str, last: &str| {
            let starts = period.starts(now);
            assert_eq!((starts.len(), starts[0], starts[count - 1]), (count, at(first), at(last)));
        };
        check(Period::Day, 24, "2028-02-28T13:00:00Z", "2028-02-29T12:00:00Z");
        check(Period::Month, 31, "2028-01-30T00:00:00Z", "2028-02-29T00:00:00Z");
        check(Period::Year, 12, "2027-03-01T00:00:00Z", "2028-02-01T00:00:00Z");
        assert_eq!(Period::Year.label(now), "Feb 2028");
    }
}
