//! Reads usage: of all sidecars from the store, or of this one from its memory.

use std::sync::Arc;

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::alerts::UsageSources;
use crate::clock::Timestamp;
use crate::http::edge::Edge;
use crate::http::problem::Problem;
use crate::http::quota::check_domain;
use crate::policy::PolicySet;
use crate::store::StoreError;
use crate::store::sums::SumsError;
use crate::usage::{Dimension, Page, UsageQuery};

/// Whose requests are summed.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "UsageScope")]
pub enum Scope {
    Fleet,
    Sidecar,
}

/// Some groups of what was counted, and whose requests they are of.
#[derive(Debug)]
pub struct Reading {
    pub scope: Scope,
    pub query: Arc<UsageQuery>,
    pub page: Page,
    /// Why the store was not read although there is one.
    unavailable: Option<StoreError>,
    /// When this sidecar began to count.
    pub since: Timestamp,
}

impl Reading {
    /// The same, if the store was read or there is none.
    ///
    /// # Errors
    /// If it was unavailable: the sums of one sidecar would look like those of all, and those of its memory like those of its
    /// file.
    pub fn stored(self) -> Result<Self, Problem> {
        match self.unavailable {
            Some(error) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
            None => Ok(self),
        }
    }
}

/// Sums what a query asks for. While the store is unavailable, of this sidecar alone.
pub async fn read(edge: &Edge, mut query: UsageQuery) -> Result<Reading, Problem> {
    query.currency = query.currency.or_else(|| currency(edge));
    let sources = edge.api.usage.clone().ok_or_else(usage_is_off)?;
    let now = edge.engine.now();
    let query = Arc::new(query);
    let (scope, page, unavailable) = match sources.stored(&query, now).await {
        Ok(Some(page)) => {
            let is_shared = sources.sums.as_ref().is_some_and(|sums| sums.is_shared());
            (if is_shared { Scope::Fleet } else { Scope::Sidecar }, page, None)
        }
        Ok(None) => (Scope::Sidecar, counted(&sources, &query, now).await?, None),
        Err(error @ (SumsError::TooMany | SumsError::Full)) => {
            let detail = format!("{error}: choose a shorter time, or select a caller");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        Err(SumsError::Store(error)) => {
            (Scope::Sidecar, counted(&sources, &query, now).await?, Some(error))
        }
    };
    // A domain without a policy may still have sums.
    if page.groups.is_empty() && query.range.start == 0 {
        let domain = query.filters.iter().find(|(dimension, _)| *dimension == Dimension::Domain);
        let domain = domain.map(|(_, domain)| domain.as_str());
        check_domain(&edge.engine.policies(), domain)?;
        check_tier(&edge.engine.policies(), &query)?;
    }
    Ok(Reading { scope, query, page, unavailable, since: sources.memory.since() })
}

/// What this sidecar has counted.
async fn counted(
    sources: &UsageSources,
    query: &Arc<UsageQuery>,
    now: Timestamp,
) -> Result<Page, Problem> {
    sources.counted(query, now).await.map_err(|error| not_summed(&error))
}

/// Checks that a policy has the tier of a query, if it has one.
fn check_tier(policies: &PolicySet, query: &UsageQuery) -> Result<(), Problem> {
    let tier = query.filters.iter().find(|(dimension, _)| *dimension == Dimension::Tier);
    let Some((_, tier)) = tier else { return Ok(()) };
    match policies.domains().into_iter().any(|domain| domain.classes.tier(tier).is_some()) {
        true => Ok(()),
        false => {
            let detail = format!("no policy has the tier `{tier}`");
            Err(Problem::new(StatusCode::BAD_REQUEST, detail))
        }
    }
}

/// The currency of the prices in the policies; None if they have none, or several.
fn currency(edge: &Edge) -> Option<String> {
    let policies = edge.engine.policies();
    let prices = policies.domains().into_iter().filter_map(|domain| domain.prices.clone());
    let mut currencies: Vec<String> = prices.map(|prices| prices.currency.to_string()).collect();
    currencies.dedup();
    currencies.pop().filter(|_| currencies.is_empty())
}

fn not_summed(error: &StoreError) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the usage was not summed: {error}"))
}

/// The problem of a process that counts no usage.
pub fn usage_is_off() -> Problem {
    let detail = "this sidecar does not count usage: its setting `usage` is false";
    Problem::new(StatusCode::NOT_FOUND, detail)
}
