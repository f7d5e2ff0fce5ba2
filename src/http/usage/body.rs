//! Sums of usage and refusals, as JSON.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::Reason;
use crate::observe::audit::instant;
use crate::usage::{Dimension, Group, GroupName, Total, UsageQuery, View};

/// The sums of one group. It has the names in the dimensions of `group_by`; null if there is none, such as the tier of a
/// request whose policy has no tiers.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Usage")]
pub struct UsageItem {
    /// The start of the minute, hour or day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    #[serde(flatten)]
    pub names: NamesBody,
    pub requests: u64,
    pub allowed: u64,
    /// Refused requests; in sums of a limit, those that this limit refused.
    pub refused: u64,
    /// Refused requests by reason.
    pub refused_by: BTreeMap<&'static str, u64>,
    /// In sums of a limit: requests that only other limits refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_elsewhere: Option<u64>,
    /// Requests whose decision failed, because the store was unavailable.
    pub errors: u64,
    /// Allowed requests that a shadow limit would have refused.
    pub shadow_refused: u64,
    /// Requests that `on_outage` decided.
    pub fallback: u64,
    /// Requests that were held for capacity.
    pub waited: u64,
    /// In sums of a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hits: Option<HitsBody>,
    /// In sums of requests, if policies have prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostBody>,
    /// The time of the last request.
    pub last_at: String,
}

/// The refusals of one caller for one limit and reason.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Denial")]
pub struct DenialItem {
    #[serde(flatten)]
    pub names: NamesBody,
    /// Number of refused requests.
    pub count: u64,
    pub last_at: String,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct NamesBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<Option<String>>,
    /// True if the group is not one caller, but all callers except the busiest ones.
    #[serde(default, skip_serializing_if = "is_false")]
    pub other: bool,
    /// The provider that a choice selected for the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Option<String>>,
    /// The kind of a request with a price; null in sums of all requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Option<String>>,
}

/// Hits of a limit.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "UsageHits")]
pub struct HitsBody {
    /// Hits that count against the limit.
    pub spent: u64,
    /// Hits that the limit refused: of refused requests, of those that passed with fewer hits than they asked for, and of
    /// settlements that used more.
    pub refused: u64,
    /// Hits that the limit would have refused, in shadow mode.
    pub shadow_refused: u64,
    pub given_back: u64,
}

/// The money that requests cost, in millionths of the currency.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "UsageCost")]
pub struct CostBody {
    pub spent_micros: u64,
    pub given_back_micros: u64,
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
            cost: query.has_money().then_some(CostBody {
                spent_micros: total.spend.spent,
                given_back_micros: total.spend.given_back,
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
                Dimension::Kind => &mut names.kind,
            };
            *field = Some(name.text().map(str::to_owned));
            names.other |= *name == GroupName::Other;
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use schemars::schema_for;
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::Timestamp;
    use crate::usage::Granularity;

    /// Checks that an item without optional fields has all that its schema requires.
    fn check(schema: &schemars::Schema, item: impl Serialize) {
        let item = serde_json::to_value(item).unwrap();
        let required = schema.get("required").and_then(Value::as_array).unwrap();
        assert!(!required.is_empty());
        for field in required {
            assert!(item.get(field.as_str().unwrap()).is_some(), "{field} is missing in {item}");
        }
    }

    #[test]
    fn the_schema_requires_only_fields_that_every_answer_has() {
        let query = UsageQuery {
            group_by: vec![Dimension::Caller],
            range: 0..1,
            ..UsageQuery::since(View::Requests, Granularity::Hour, Timestamp::default())
        };
        let total = Total::default();
        let named = Group { start: None, names: vec![GroupName::Name("alice".to_owned())] };
        check(&schema_for!(UsageItem), UsageItem::new(&query, &named, &total));
        check(&schema_for!(DenialItem), DenialItem::new(&query, &named, &total));

        let rest = Group { names: vec![GroupName::Other], ..named };
        let item = serde_json::to_value(DenialItem::new(&query, &rest, &total)).unwrap();
        assert_eq!(item["other"], json!(true));
    }
}
