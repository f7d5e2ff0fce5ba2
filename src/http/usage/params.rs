//! Query parameters of the operations on usage.

use std::ops::Range;

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::engine::Reason;
use crate::http::problem::Problem;
use crate::usage::{Dimension, Granularity, Rank, UsageQuery, View};

/// Items on a page.
const PAGE_LEN_MAX: usize = 1_000;
const PAGE_LEN_DEFAULT: usize = 100;

/// The dimensions that `group_by` names.
const DIMENSIONS: [(&str, Dimension); 8] = [
    ("domain", Dimension::Domain),
    ("limit", Dimension::Limit),
    ("tier", Dimension::Tier),
    ("caller", Dimension::Caller),
    ("provider", Dimension::Provider),
    ("code", Dimension::Code),
    ("reason", Dimension::Reason),
    ("kind", Dimension::Kind),
];

/// Declares the query of an operation that answers a page of groups: its own fields, then those of all such queries.
macro_rules! page_query {
    ($(#[$about:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $(#[$about])*
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($own)*
            /// Start with the minute, hour or day that contains this time (RFC 3339); if absent, 2 hours, 2 days or 31 days ago.
            from: Option<String>,
            /// End before this time (RFC 3339).
            to: Option<String>,
            domain: Option<String>,
            limit: Option<String>,
            /// The currency of costs; if absent, that of the prices in the policies.
            currency: Option<String>,
            /// Items on the page.
            #[serde(default = "page_len_default")]
            #[schemars(range(min = 1, max = PAGE_LEN_MAX))]
            page_size: usize,
            /// The `next` of the previous page.
            #[serde(default)]
            after: usize,
        }

        impl $name {
            /// A question about requests in the range, with the page.
            fn page_of(&self, granularity: Granularity, now: Timestamp) -> Result<UsageQuery, Problem> {
                let range = time_range((self.from.as_deref(), self.to.as_deref()), granularity, now)?;
                let currency = self.currency.clone();
                Ok(UsageQuery { currency, ..page(range, granularity, (self.after, self.page_size))? })
            }
        }
    };
}

page_query! {
    /// The query of `/v1/usage`.
    pub struct UsageParams {
        #[serde(default)]
        granularity: GranularityParam,
        /// The dimensions to group by, separated by commas: domain, limit, tier, caller, provider, code, reason, kind. With limit,
        /// also as a filter, a request counts once for each limit that applied to it, and there are hits. Minutes have no callers.
        #[serde(default)]
        group_by: String,
        tier: Option<String>,
        caller: Option<String>,
        provider: Option<String>,
        code: Option<CodeParam>,
        /// Only refusals for this reason.
        reason: Option<String>,
    }
}

page_query! {
    /// The query of `/v1/denials`.
    pub struct DenialsParams {
        #[serde(default)]
        granularity: CallerGranularityParam,
        caller: Option<String>,
        reason: Option<String>,
    }
}

page_query! {
    /// The query of `/v1/top`.
    pub struct TopParams {
        /// What to list.
        #[serde(default)]
        of: TopOf,
        /// What to rank by. Hits of different limits can't be added: hits of callers and of providers need `limit`.
        #[serde(default)]
        by: TopBy,
        #[serde(default)]
        granularity: GranularityParam,
    }
}

/// The length of time of each sum, in UTC.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Granularity")]
enum GranularityParam {
    Minute,
    #[default]
    Hour,
    Day,
}

/// The length of time of each sum by caller, in UTC.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "CallerGranularity")]
enum CallerGranularityParam {
    #[default]
    Hour,
    Day,
}

/// The answer to a request, as in metrics.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "UsageCode")]
enum CodeParam {
    Ok,
    OverLimit,
    Error,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum TopOf {
    #[default]
    Callers,
    Limits,
    Providers,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum TopBy {
    #[default]
    Requests,
    Refused,
    Hits,
    Cost,
}

fn page_len_default() -> usize {
    PAGE_LEN_DEFAULT
}

impl UsageParams {
    /// The caller that the query selects.
    pub fn caller(&self) -> Option<&str> {
        self.caller.as_deref()
    }

    /// The question to the sums.
    pub fn query(self, now: Timestamp) -> Result<UsageQuery, Problem> {
        let page = self.page_of(self.granularity.into(), now)?;
        let code = self.code.map(|code| code.name().to_owned());
        check_reason(self.reason.as_deref())?;
        let query = UsageQuery {
            by_time: true,
            group_by: dimensions(&self.group_by)?,
            filters: filters([
                (Dimension::Domain, self.domain),
                (Dimension::Limit, self.limit),
                (Dimension::Tier, self.tier),
                (Dimension::Caller, self.caller),
                (Dimension::Provider, self.provider),
                (Dimension::Code, code),
                (Dimension::Reason, self.reason),
            ]),
            ..page
        };
        checked(query)
    }
}

impl DenialsParams {
    /// The caller that the query selects.
    pub fn caller(&self) -> Option<&str> {
        self.caller.as_deref()
    }

    /// The question to the sums.
    pub fn query(self, now: Timestamp) -> Result<UsageQuery, Problem> {
        let granularity = match self.granularity {
            CallerGranularityParam::Hour => Granularity::Hour,
            CallerGranularityParam::Day => Granularity::Day,
        };
        check_reason(self.reason.as_deref())?;
        let page = self.page_of(granularity, now)?;
        Ok(UsageQuery {
            view: View::Denials,
            group_by: vec![
                Dimension::Caller,
                Dimension::Domain,
                Dimension::Limit,
                Dimension::Reason,
            ],
            filters: filters([
                (Dimension::Domain, self.domain),
                (Dimension::Limit, self.limit),
                (Dimension::Caller, self.caller),
                (Dimension::Reason, self.reason),
            ]),
            rank: Rank::Refused,
            ..page
        })
    }
}

impl TopParams {
    /// The question to the sums.
    pub fn query(self, now: Timestamp) -> Result<UsageQuery, Problem> {
        let page = self.page_of(self.granularity.into(), now)?;
        let dimension = match self.of {
            TopOf::Callers => Dimension::Caller,
            TopOf::Limits => Dimension::Limit,
            TopOf::Providers => Dimension::Provider,
        };
        if self.by == TopBy::Hits && dimension != Dimension::Limit && self.limit.is_none() {
            return Err(invalid(
                "hits of different limits can't be added; select one with `limit`",
            ));
        }
        if self.by == TopBy::Cost && (dimension == Dimension::Limit || self.limit.is_some()) {
            return Err(invalid("limits have no cost; rank callers or providers, without `limit`"));
        }
        let query = UsageQuery {
            group_by: vec![Dimension::Domain, dimension],
            named_only: true,
            filters: filters([(Dimension::Domain, self.domain), (Dimension::Limit, self.limit)]),
            rank: match self.by {
                TopBy::Requests => Rank::Requests,
                TopBy::Refused => Rank::Refused,
                TopBy::Hits => Rank::HitsSpent,
                TopBy::Cost => Rank::Spent,
            },
            ..page
        };
        checked(query)
    }
}

/// The range between two texts. Without the first one, it starts with the oldest sums that a sidecar keeps.
fn time_range(
    (from, to): (Option<&str>, Option<&str>),
    granularity: Granularity,
    now: Timestamp,
) -> Result<Range<Timestamp>, Problem> {
    let from = from.map(|text| time("from", text)).transpose()?;
    let to = to.map(|text| time("to", text)).transpose()?.unwrap_or(Timestamp::MAX);
    if from.is_some_and(|from| to <= from) {
        return Err(invalid("`to` must be later than `from`"));
    }
    Ok(from.unwrap_or_else(|| granularity.oldest(now))..to)
}

/// A question about requests in a range of time: a page of the groups after the first ones.
fn page(
    Range { start: from, end: to }: Range<Timestamp>,
    granularity: Granularity,
    (after, page_size): (usize, usize),
) -> Result<UsageQuery, Problem> {
    if !(1..=PAGE_LEN_MAX).contains(&page_size) {
        return Err(invalid(format!("`page_size` must be a number from 1 to {PAGE_LEN_MAX}")));
    }
    Ok(UsageQuery {
        to,
        range: after..after.saturating_add(page_size),
        ..UsageQuery::since(View::Requests, granularity, from)
    })
}

/// A question about usage, with the view that its dimensions require.
pub fn checked(mut query: UsageQuery) -> Result<UsageQuery, Problem> {
    let names = |dimension: Dimension| {
        let filtered = query.filters.iter().any(|(filter, _)| *filter == dimension);
        filtered || query.group_by.contains(&dimension)
    };
    if names(Dimension::Caller) && !query.granularity.has_callers() {
        return Err(invalid("minutes have no callers; use the granularity hour or day"));
    }
    if names(Dimension::Limit) {
        query.view = View::Limits;
    }
    Ok(query)
}

/// The dimensions in a text, which are separated by commas.
pub fn dimensions(text: &str) -> Result<Vec<Dimension>, Problem> {
    let mut dimensions = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let known = DIMENSIONS.iter().find(|(known, _)| *known == name);
        let (_, dimension) = known.ok_or_else(|| {
            let known = DIMENSIONS.map(|(known, _)| known).join(", ");
            invalid(format!("group_by: unknown dimension `{name}`; use {known}"))
        })?;
        if !dimensions.contains(dimension) {
            dimensions.push(*dimension);
        }
    }
    Ok(dimensions)
}

/// The filters that are set.
pub fn filters<const N: usize>(all: [(Dimension, Option<String>); N]) -> Vec<(Dimension, String)> {
    all.into_iter().filter_map(|(dimension, name)| Some((dimension, name?))).collect()
}

/// Checks that there are refusals for a reason.
fn check_reason(reason: Option<&str>) -> Result<(), Problem> {
    match reason.filter(|reason| Reason::ALL.iter().all(|known| known.name() != *reason)) {
        None => Ok(()),
        Some(unknown) => {
            let known = Reason::ALL.map(Reason::name).join(", ");
            Err(invalid(format!("unknown reason `{unknown}`; use {known}")))
        }
    }
}

/// The time in the parameter `name`.
pub fn time(name: &str, text: &str) -> Result<Timestamp, Problem> {
    let at = text.parse::<jiff::Timestamp>().map_err(|_| {
        let detail = "use a time before 9999-12-31, such as 2026-12-31T12:00:00Z";
        invalid(format!("{name}: invalid time `{text}`; {detail}"))
    })?;
    // Times before 1970 count as its start.
    Ok(Timestamp::from_ms(u64::try_from(at.as_millisecond()).unwrap_or_default()))
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

impl From<GranularityParam> for Granularity {
    fn from(param: GranularityParam) -> Self {
        match param {
            GranularityParam::Minute => Self::Minute,
            GranularityParam::Hour => Self::Hour,
            GranularityParam::Day => Self::Day,
        }
    }
}

impl CodeParam {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::OverLimit => "over_limit",
            Self::Error => "error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_without_a_start_is_recent_and_one_from_1970_has_all_sums() {
        let now = time("now", "2026-11-29T12:34:56Z").unwrap();
        let check = |from, to, expected: Result<&str, ()>| {
            let range = time_range((from, to), Granularity::Hour, now).map_err(drop);
            let expected = expected.map(|start| time("start", start).unwrap());
            assert_eq!(range.map(|range| range.start), expected, "{from:?} {to:?}");
        };
        let epoch = "1970-01-01T00:00:00Z";
        check(None, None, Ok("2026-11-27T13:00:00Z"));
        check(None, Some("2026-11-29T00:00:00Z"), Ok("2026-11-27T13:00:00Z"));
        check(Some(epoch), None, Ok(epoch));
        check(Some("1969-12-31T23:59:59Z"), None, Ok(epoch));
        check(Some(epoch), Some(epoch), Err(()));
        check(Some("yesterday"), None, Err(()));
    }
}
