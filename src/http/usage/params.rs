//! The queries of usage.

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::http::problem::Problem;
use crate::usage::{Dimension, Granularity, Rank, UsageQuery, View};

/// Items on a page.
const PAGE_LEN_MAX: usize = 1_000;
const PAGE_LEN_DEFAULT: usize = 100;

/// The dimensions that `group_by` names.
const DIMENSIONS: [(&str, Dimension); 6] = [
    ("domain", Dimension::Domain),
    ("limit", Dimension::Limit),
    ("tier", Dimension::Tier),
    ("caller", Dimension::Caller),
    ("provider", Dimension::Provider),
    ("code", Dimension::Code),
];

/// The query of `/v1/usage`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageParams {
    #[serde(default)]
    granularity: GranularityParam,
    /// Start with the minute, hour or day of this time (RFC 3339); absent: 2 hours, 2 days or 31 days ago.
    from: Option<String>,
    /// End before this time.
    to: Option<String>,
    /// Which sums to tell apart, by commas: domain, limit, tier, caller, provider, code. With limit, and with a filter on
    /// it, each limit that a request met is counted, and hits are told. Minutes have no callers.
    #[serde(default)]
    group_by: String,
    domain: Option<String>,
    limit: Option<String>,
    tier: Option<String>,
    caller: Option<String>,
    provider: Option<String>,
    code: Option<CodeParam>,
    /// Items on the page.
    #[serde(default = "page_len_default")]
    #[schemars(range(min = 1, max = PAGE_LEN_MAX))]
    page_size: usize,
    /// The `next` of the page before.
    #[serde(default)]
    after: usize,
}

/// The query of `/v1/denials`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenialsParams {
    #[serde(default)]
    granularity: CallerGranularityParam,
    /// Start with the hour or day of this time (RFC 3339); absent: 2 hours, 2 days or 31 days ago.
    from: Option<String>,
    /// End before this time.
    to: Option<String>,
    domain: Option<String>,
    limit: Option<String>,
    caller: Option<String>,
    reason: Option<String>,
    /// Items on the page.
    #[serde(default = "page_len_default")]
    #[schemars(range(min = 1, max = PAGE_LEN_MAX))]
    page_size: usize,
    /// The `next` of the page before.
    #[serde(default)]
    after: usize,
}

/// The query of `/v1/top`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopParams {
    /// What to list.
    #[serde(default)]
    of: TopOf,
    /// What to rank by. Hits of different limits don't add up: those of callers and providers need `limit`.
    #[serde(default)]
    by: TopBy,
    #[serde(default)]
    granularity: GranularityParam,
    /// Start with the minute, hour or day of this time (RFC 3339); absent: 2 hours, 2 days or 31 days ago.
    from: Option<String>,
    /// End before this time.
    to: Option<String>,
    domain: Option<String>,
    limit: Option<String>,
    /// Items on the page.
    #[serde(default = "page_len_default")]
    #[schemars(range(min = 1, max = PAGE_LEN_MAX))]
    page_size: usize,
    /// The `next` of the page before.
    #[serde(default)]
    after: usize,
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

/// The same where callers are named.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "CallerGranularity")]
enum CallerGranularityParam {
    #[default]
    Hour,
    Day,
}

/// How requests ended, as in metrics.
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
}

/// The range and the page of a query.
struct Bounds {
    from: Option<String>,
    to: Option<String>,
    page_size: usize,
    after: usize,
}

fn page_len_default() -> usize {
    PAGE_LEN_DEFAULT
}

impl UsageParams {
    /// The only caller that is asked for.
    pub fn caller(&self) -> Option<&str> {
        self.caller.as_deref()
    }

    /// The question that is meant.
    pub fn query(self) -> Result<UsageQuery, Problem> {
        let Self { from, to, page_size, after, .. } = self;
        let bounds = Bounds { from, to, page_size, after };
        let code = self.code.map(|code| code.name().to_owned());
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
            ]),
            ..bounds.query(self.granularity.into())?
        };
        checked(query)
    }
}

impl DenialsParams {
    /// The question that is meant.
    pub fn query(self) -> Result<UsageQuery, Problem> {
        let Self { from, to, page_size, after, .. } = self;
        let bounds = Bounds { from, to, page_size, after };
        let granularity = match self.granularity {
            CallerGranularityParam::Hour => Granularity::Hour,
            CallerGranularityParam::Day => Granularity::Day,
        };
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
            ..bounds.query(granularity)?
        })
    }
}

impl TopParams {
    /// The question that is meant.
    pub fn query(self) -> Result<UsageQuery, Problem> {
        let Self { from, to, page_size, after, .. } = self;
        let bounds = Bounds { from, to, page_size, after };
        let dimension = match self.of {
            TopOf::Callers => Dimension::Caller,
            TopOf::Limits => Dimension::Limit,
            TopOf::Providers => Dimension::Provider,
        };
        if self.by == TopBy::Hits && dimension != Dimension::Limit && self.limit.is_none() {
            return Err(invalid("hits of different limits don't add up: name one by `limit`"));
        }
        let query = UsageQuery {
            group_by: vec![Dimension::Domain, dimension],
            named_only: true,
            filters: filters([(Dimension::Domain, self.domain), (Dimension::Limit, self.limit)]),
            rank: match self.by {
                TopBy::Requests => Rank::Requests,
                TopBy::Refused => Rank::Refused,
                TopBy::Hits => Rank::HitsSpent,
            },
            ..bounds.query(self.granularity.into())?
        };
        checked(query)
    }
}

impl Bounds {
    /// A question about requests in the range.
    fn query(self, granularity: Granularity) -> Result<UsageQuery, Problem> {
        if !(1..=PAGE_LEN_MAX).contains(&self.page_size) {
            let detail = format!("`page_size` is a number from 1 to {PAGE_LEN_MAX}");
            return Err(invalid(detail));
        }
        let from = self.from.map(|text| time("from", &text)).transpose()?.unwrap_or_default();
        let to = self.to.map(|text| time("to", &text)).transpose()?.unwrap_or(Timestamp::MAX);
        if to <= from {
            return Err(invalid("`to` is not after `from`"));
        }
        Ok(UsageQuery {
            view: View::Requests,
            granularity,
            from,
            to,
            by_time: false,
            group_by: Vec::new(),
            named_only: false,
            filters: Vec::new(),
            rank: Rank::Group,
            range: self.after..self.after.saturating_add(self.page_size),
        })
    }
}

/// A question about usage, in the view that its dimensions need.
pub fn checked(mut query: UsageQuery) -> Result<UsageQuery, Problem> {
    let names = |dimension: Dimension| {
        let filtered = query.filters.iter().any(|(filter, _)| *filter == dimension);
        filtered || query.group_by.contains(&dimension)
    };
    if names(Dimension::Caller) && !query.granularity.has_callers() {
        return Err(invalid("minutes have no callers: use the granularity hour or day"));
    }
    if names(Dimension::Limit) {
        query.view = View::Limits;
    }
    Ok(query)
}

/// The dimensions that a text names, with commas between them.
pub fn dimensions(text: &str) -> Result<Vec<Dimension>, Problem> {
    let mut dimensions = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let known = DIMENSIONS.iter().find(|(known, _)| *known == name);
        let (_, dimension) = known.ok_or_else(|| {
            let known = DIMENSIONS.map(|(known, _)| known).join(", ");
            invalid(format!("group_by: `{name}` is not one of {known}"))
        })?;
        if !dimensions.contains(dimension) {
            dimensions.push(*dimension);
        }
    }
    Ok(dimensions)
}

/// The filters that have a name.
pub fn filters<const N: usize>(all: [(Dimension, Option<String>); N]) -> Vec<(Dimension, String)> {
    all.into_iter().filter_map(|(dimension, name)| Some((dimension, name?))).collect()
}

/// The time that the parameter `name` tells.
pub fn time(name: &str, text: &str) -> Result<Timestamp, Problem> {
    let at = text.parse::<jiff::Timestamp>().map_err(|_| {
        invalid(format!("{name}: `{text}` is not a time such as 2026-12-31T12:00:00Z"))
    })?;
    // What was before 1970 begins then.
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
