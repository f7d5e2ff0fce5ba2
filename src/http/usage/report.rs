//! `/v1/report`: the usage of a day, a week or a month, in one piece, as JSON or CSV.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, ToSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::body::UsageItem;
use super::dropped;
use super::params::{checked, dimensions, filters, time};
use super::reading::{Scope, read};
use crate::clock::Timestamp;
use crate::engine::Reason;
use crate::http::auth::{Authorized, Own};
use crate::http::edge::Edge;
use crate::http::extract::UrlQuery;
use crate::http::openapi::{Description, Output};
use crate::http::problem::Problem;
use crate::observe::audit::instant;
use crate::printable;
use crate::usage::{Dimension, Granularity, Group, SpendTotal, Total, UsageQuery, View};

/// The columns of sums in CSV, behind those of names, and before `refused_by_` and each reason.
const COLUMNS: [&str; 12] = [
    "requests",
    "allowed",
    "refused",
    "refused_elsewhere",
    "errors",
    "shadow_refused",
    "fallback",
    "waited",
    "hits_spent",
    "hits_refused",
    "hits_given_back",
    "hits_shadow_refused",
];

/// Further columns, if policies have prices.
const COST_COLUMNS: [&str; 3] = ["cost_spent_micros", "cost_given_back_micros", "currency"];

/// The query of a report.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportParams {
    #[serde(default)]
    format: Format,
    #[serde(default)]
    period: Period,
    /// A time in the period (RFC 3339); absent: now.
    at: Option<String>,
    /// Which sums to tell apart, by commas: domain, limit, tier, caller, provider, code, reason, kind.
    #[serde(default = "group_by_default")]
    group_by: String,
    domain: Option<String>,
    limit: Option<String>,
    tier: Option<String>,
    caller: Option<String>,
    provider: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ReportFormat")]
enum Format {
    #[default]
    Json,
    Csv,
}

/// In UTC. A week begins with Monday.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ReportPeriod")]
enum Period {
    Day,
    Week,
    #[default]
    Month,
}

/// A report: all its groups.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Report")]
pub struct ReportBody {
    scope: Scope,
    /// The start of the period, or of what is kept of it.
    from: String,
    /// The end of the period.
    to: String,
    /// The currency of `cost`: that of the policies' prices; absent if they have none, or several.
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<String>,
    /// Requests of this sidecar that are in no sum, because more came than could be recorded.
    dropped: u64,
    items: Vec<UsageItem>,
}

/// A report in a format.
pub enum Report {
    Json(Json<ReportBody>),
    Csv(String),
}

fn group_by_default() -> String {
    "domain,limit,tier,caller".to_owned()
}

impl IntoResponse for Report {
    fn into_response(self) -> Response {
        match self {
            Self::Json(body) => body.into_response(),
            Self::Csv(text) => {
                ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response()
            }
        }
    }
}

impl Output for Report {
    fn describe(description: &mut Description<'_>) {
        let answer = description.answer::<ReportBody>(200);
        answer["content"]["text/csv"] = json!({ "schema": { "type": "string" } });
        description.problem("503", "The store is unavailable");
    }
}

/// Reports a period.
pub async fn report(
    by: Authorized<Own>,
    State(edge): State<Edge>,
    UrlQuery(params): UrlQuery<ReportParams>,
) -> Result<Report, Problem> {
    by.principal.may_read(params.caller.as_deref())?;
    let format = params.format;
    let query = params.query(edge.engine.now())?;
    let to = query.to;
    let reading = read(&edge, query).await?.stored()?;
    let (query, page) = (&reading.query, &reading.page);
    Ok(match format {
        Format::Csv => Report::Csv(csv(query, &page.groups)),
        Format::Json => {
            let items =
                page.groups.iter().map(|(group, total)| UsageItem::new(query, group, total));
            Report::Json(Json(ReportBody {
                scope: reading.scope,
                from: instant(page.from),
                to: instant(to),
                currency: query.currency.clone().filter(|_| query.has_money()),
                dropped: dropped(&edge),
                items: items.collect(),
            }))
        }
    })
}

impl ReportParams {
    /// The present month as CSV, by these dimensions.
    pub fn csv(group_by: &str) -> Self {
        Self {
            format: Format::Csv,
            period: Period::Month,
            at: None,
            group_by: group_by.to_owned(),
            domain: None,
            limit: None,
            tier: None,
            caller: None,
            provider: None,
        }
    }

    fn query(self, now: Timestamp) -> Result<UsageQuery, Problem> {
        let at = self.at.map(|text| time("at", &text)).transpose()?.unwrap_or(now);
        if at == Timestamp::default() {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "`at` must be later than 1970-01-01",
            ));
        }
        let (from, to) = self.period.around(at).ok_or_else(|| {
            Problem::new(StatusCode::BAD_REQUEST, "`at` is too far in the future")
        })?;
        checked(UsageQuery {
            to,
            group_by: dimensions(&self.group_by)?,
            filters: filters([
                (Dimension::Domain, self.domain),
                (Dimension::Limit, self.limit),
                (Dimension::Tier, self.tier),
                (Dimension::Caller, self.caller),
                (Dimension::Provider, self.provider),
            ]),
            ..UsageQuery::since(View::Requests, Granularity::Day, from)
        })
    }
}

impl Period {
    /// The start and the end of the period that `at` lies in.
    fn around(self, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let at = Instant::from_millisecond(i64::try_from(at.as_ms()).ok()?).ok()?;
        let day = at.to_zoned(TimeZone::UTC).date();
        let (first, last) = match self {
            Self::Day => (day, day),
            Self::Week => {
                let since_monday = i64::from(day.weekday().since(Weekday::Monday));
                let monday = day.checked_sub(since_monday.days()).ok()?;
                (monday, monday.checked_add(6.days()).ok()?)
            }
            Self::Month => (day.first_of_month(), day.last_of_month()),
        };
        Some((start(first)?, start(last.tomorrow().ok()?)?))
    }
}

fn start(day: Date) -> Option<Timestamp> {
    let ms = day.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond();
    u64::try_from(ms).ok().map(Timestamp::from_ms)
}

/// Groups as CSV (RFC 4180), with the names of the columns on top.
fn csv(query: &UsageQuery, groups: &[(Group, Total)]) -> String {
    let names = query.group_by.iter().map(|dimension| name(*dimension));
    let money = query.currency.as_deref().filter(|_| query.has_money());
    let names = names.chain(COLUMNS).map(str::to_owned);
    let reasons = Reason::ALL.iter().map(|reason| format!("refused_by_{reason}"));
    let of_money = money.iter().flat_map(|_| COST_COLUMNS).map(str::to_owned);
    let head: Vec<String> = names.chain(reasons).chain(of_money).collect();
    let mut text = format!("{}\r\n", head.join(","));
    for (group, total) in groups {
        let names = group.names.iter();
        let names = names.map(|name| printable::csv_text(name.text().unwrap_or_default()));
        let sums = sums(total).into_iter().chain(total.refused_by).map(|sum| sum.to_string());
        let cost = money.iter().flat_map(|currency| {
            let SpendTotal { spent, given_back, .. } = total.spend;
            [spent.to_string(), given_back.to_string(), (*currency).to_owned()]
        });
        let row: Vec<String> = names.chain(sums).chain(cost).collect();
        text.push_str(&row.join(","));
        text.push_str("\r\n");
    }
    text
}

/// In the order of [`COLUMNS`].
fn sums(total: &Total) -> [u64; COLUMNS.len()] {
    let counts = &total.counts;
    [
        counts.requests,
        total.allowed,
        total.refused,
        total.refused_elsewhere,
        total.errors,
        counts.shadow_refused,
        counts.fallback,
        counts.waited,
        counts.hits_spent,
        counts.hits_refused,
        counts.hits_given_back,
        counts.hits_shadow_refused,
    ]
}

fn name(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Domain => "domain",
        Dimension::Limit => "limit",
        Dimension::Tier => "tier",
        Dimension::Caller => "caller",
        Dimension::Provider => "provider",
        Dimension::Code => "code",
        Dimension::Reason => "reason",
        Dimension::Kind => "kind",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_whole_days_of_utc() {
        let at = |text: &str| time("at", text).unwrap();
        let check = |period: Period, time: &str, from: &str, to: &str| {
            assert_eq!(period.around(at(time)), Some((at(from), at(to))), "{period:?} {time}");
        };
        let late = "2026-11-29T23:59:59.999Z";
        check(Period::Day, late, "2026-11-29T00:00:00Z", "2026-11-30T00:00:00Z");
        check(Period::Week, late, "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
        let monday = "2026-11-30T00:00:00Z";
        check(Period::Week, monday, monday, "2026-12-07T00:00:00Z");
        check(Period::Month, monday, "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
        let leap = "2028-02-29T12:00:00Z";
        check(Period::Month, leap, "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z");
        assert_eq!(Period::Month.around(Timestamp::MAX), None);
    }
}
