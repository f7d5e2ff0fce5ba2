//! The callers that are nearest to a limit, among the busiest ones.

use std::collections::BTreeSet;

use crate::clock::Timestamp;
use crate::http::edge::Edge;
use crate::http::quota::{QuotaItem, QuotaParams, Target, standing};
use crate::http::usage::{UsageItem, answer};
use crate::usage::{Dimension, Granularity, Rank, UsageQuery, View};

/// Callers whose limits are read: each costs up to two questions to the store.
const CALLERS_MAX: usize = 20;

/// From which part of a limit on a caller is near it.
const NEAR_PERCENT: f64 = 80.0;

/// A caller that is near a limit.
#[derive(Debug)]
pub struct NearCaller {
    pub name: String,
    pub limit: QuotaItem,
}

/// The limits of the busiest callers of the present hour that are used to 80 %, the most used first.
///
/// # Errors
/// If usage is not counted.
pub async fn callers(edge: &Edge) -> Result<Vec<NearCaller>, String> {
    let names = busiest(edge, CALLERS_MAX).await?;
    let mut near = Vec::new();
    let targets = names.into_iter().filter_map(|name| QuotaParams::default().target(name).ok());
    for target in Target::resolve_all(edge, targets.collect()).await {
        // A name without limits.
        let Ok(limits) = standing(edge, &target).await else { continue };
        let items = limits.into_body().items.into_iter();
        let items = items.filter(|item| NEAR_PERCENT <= item.percent && item.is_own());
        near.extend(items.map(|limit| NearCaller { name: target.caller().to_owned(), limit }));
    }
    near.sort_by(|one, other| other.limit.percent.total_cmp(&one.limit.percent));
    Ok(near)
}

/// The names of the callers with the most requests in the present hour and the one before.
///
/// # Errors
/// If usage is not counted.
pub async fn busiest(edge: &Edge, max: usize) -> Result<BTreeSet<String>, String> {
    let now = edge.engine.now();
    let query = UsageQuery {
        group_by: vec![Dimension::Caller],
        named_only: true,
        rank: Rank::Requests,
        range: 0..max,
        ..UsageQuery::since(
            View::Requests,
            Granularity::Hour,
            Timestamp::from_ms(now.as_ms().saturating_sub(3_600_000)),
        )
    };
    let page = answer(edge, query, UsageItem::new).await.map_err(|problem| problem.detail)?;
    Ok(page.items.into_iter().filter_map(|item| item.names.caller.flatten()).collect())
}
