//! What is told of usage, as JSON.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::Reason;
use crate::observe::audit::instant;
use crate::usage::{Dimension, Group, GroupName, Total, UsageQuery, View};

/// The sums of one group. It has the names of the dimensions that were asked for; null stands for none, such as the tier
/// of a request whose policy has no tiers.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Usage")]
pub struct UsageItem {
    /// The start of the minute, hour or day.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(flatten)]
    names: NamesBody,
    requests: u64,
    allowed: u64,
    /// Requests that were refused; of a limit, for this one.
    refused: u64,
    /// The same by reason.
    refused_by: BTreeMap<&'static str, u64>,
    /// Of a limit: requests that were refused for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_elsewhere: Option<u64>,
    /// Requests whose decision failed, because the store was unavailable.
    errors: u64,
    /// Allowed requests that a shadow limit would have refused.
    shadow_refused: u64,
    /// Requests that `on_outage` decided.
    fallback: u64,
    /// Requests that were held for capacity.
    waited: u64,
    /// Of a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    hits: Option<HitsBody>,
    /// The time of the last request.
    last_at: String,
}

/// The refusals of one caller for one limit and reason.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Denial")]
pub struct DenialItem {
    #[serde(flatten)]
    names: NamesBody,
    /// How many requests were refused.
    count: u64,
    last_at: String,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
struct NamesBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<Option<String>>,
    /// Whether `caller` is no name, but stands for all callers beyond the busiest.
    #[serde(skip_serializing_if = "is_false")]
    other: bool,
    /// The value that the request's provider choice selected.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Option<String>>,
}

/// Hits of a limit.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "UsageHits")]
struct HitsBody {
    /// What counts against the limit.
    spent: u64,
    /// What the limit did not have.
    refused: u64,
    /// What it did not have while it is a shadow limit.
    shadow_refused: u64,
    given_back: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl UsageItem {
    /// The sums of a group.
    pub fn new(query: &UsageQuery, group: &Group, total: &Total) -> Self {
        let counts = &total.counts;
        let reasons = Reason::ALL.iter().map(|reason| reason.name());
        let of_limit = query.view == View::Limits;
        Self {
            start: group.start.map(instant),
            names: NamesBody::new(query, group),
            requests: counts.requests,
            allowed: total.allowed,
            refused: total.refused,
            refused_by: reasons.zip(total.refused_by).filter(|(_, count)| *count != 0).collect(),
            refused_elsewhere: of_limit.then_some(total.refused_elsewhere),
            errors: total.errors,
            shadow_refused: counts.shadow_refused,
            fallback: counts.fallback,
            waited: counts.waited,
            hits: of_limit.then_some(HitsBody {
                spent: counts.hits_spent,
                refused: counts.hits_refused,
                shadow_refused: counts.hits_shadow_refused,
                given_back: counts.hits_given_back,
            }),
            last_at: instant(counts.last_at),
        }
    }
}

impl DenialItem {
    /// The refusals of a group.
    pub fn new(query: &UsageQuery, group: &Group, total: &Total) -> Self {
        Self {
            names: NamesBody::new(query, group),
            count: total.refused,
            last_at: instant(total.counts.last_at),
        }
    }
}

impl NamesBody {
    fn new(query: &UsageQuery, group: &Group) -> Self {
        let mut names = Self::default();
        for (dimension, name) in query.group_by.iter().zip(&group.names) {
            let field = match dimension {
                Dimension::Domain => &mut names.domain,
                Dimension::Limit => &mut names.limit,
                Dimension::Tier => &mut names.tier,
                Dimension::Caller => &mut names.caller,
                Dimension::Provider => &mut names.provider,
                Dimension::Code => &mut names.code,
                Dimension::Reason => &mut names.reason,
            };
            *field = Some(name.text().map(str::to_owned));
            names.other |= *name == GroupName::Other;
        }
        names
    }
}
