//! What the page of one caller shows.

use axum::http::StatusCode;

use super::failure::Failure;
use crate::clock::Timestamp;
use crate::http::alerts::{RiskBody, risk_of};
use crate::http::edge::Edge;
use crate::http::problem::Problem;
use crate::http::quota::{QuotaItem, QuotaParams, Target, standing};
use crate::http::usage::{DenialItem, ForecastItem, UsageItem, answer, forecasts};
use crate::policy::{CallerForm, check_caller_name};
use crate::usage::{Dimension, Granularity, Rank, UsageQuery, View};

const HOUR_MS: u64 = 3_600_000;

/// Hours of the history.
const HOURS: u64 = 24;

const DENIALS_MAX: usize = 20;

/// A caller as it stands.
#[derive(Debug)]
pub struct CallerPage {
    pub name: String,
    /// Its record in the directory.
    pub record: Option<CallerForm>,
    /// Why callers can't be changed here.
    pub unwritable: Option<String>,
    /// Whether API keys are kept.
    pub has_api_keys: bool,
    /// Its limits, or why there are none.
    pub limits: Result<Vec<QuotaItem>, String>,
    /// Its forecasts, or why there are none.
    pub forecasts: Result<Vec<ForecastItem>, String>,
    /// By hour, the oldest first; or why there is none.
    pub history: Result<Vec<UsageItem>, String>,
    pub denials: Vec<DenialItem>,
    /// None: there are no alerts.
    pub risk: Option<RiskBody>,
    /// Amounts by tier.
    pub tiers: TierTable,
    pub now_ms: u64,
}

/// The limits of a caller in each tier.
#[derive(Debug, Default)]
pub struct TierTable {
    /// The lowest first; empty if the policies of its limits have none.
    pub tiers: Vec<String>,
    /// Domain, limit, and its amount by tier.
    pub rows: Vec<(String, String, Vec<String>)>,
}

impl CallerPage {
    /// Reads it.
    pub async fn read(edge: &Edge, name: String) -> Result<Self, Failure> {
        check_caller_name(&name).map_err(|reason| Failure::new(StatusCode::BAD_REQUEST, reason))?;
        let directory = edge.engine.directory();
        let record = directory.read(&name).await.ok().flatten();
        let limits = limits(edge, &name).await;
        let unavailable = |problem: Problem| problem.detail;
        let forecasts = match QuotaParams::default().target(name.clone()) {
            Ok(target) => forecasts(edge, target).await.map(|body| body.items),
            Err(problem) => Err(problem),
        };
        let now = edge.engine.now();
        let history = answer(edge, history(&name, now), UsageItem::new).await;
        let denials = answer(edge, denials(&name, now), DenialItem::new).await;
        let items = limits.as_deref().unwrap_or_default();
        Ok(Self {
            record: record.map(|record| CallerForm::from(&*record.caller)),
            unwritable: directory.writable().err().map(|error| error.to_string()),
            has_api_keys: edge.api.api_keys.is_some(),
            tiers: TierTable::of(edge, items),
            limits,
            forecasts: forecasts.map_err(unavailable),
            history: history.map(|page| page.items).map_err(unavailable),
            risk: risk_of(edge, name.clone()).await.ok(),
            denials: denials.map(|page| page.items).unwrap_or_default(),
            now_ms: now.as_ms(),
            name,
        })
    }

    /// The forecast of a limit.
    pub fn forecast(&self, limit: &QuotaItem) -> Option<&ForecastItem> {
        let items = self.forecasts.as_deref().unwrap_or_default();
        items.iter().find(|item| item.domain == limit.domain && item.limit == limit.limit)
    }

    /// The names of its limits, each once.
    pub fn limit_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.limits.iter().flatten().map(|item| &*item.limit).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The domains of its limits, each once.
    pub fn domains(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.limits.iter().flatten().map(|item| &*item.domain).collect();
        names.dedup();
        names
    }

    /// The tier by which its amounts are chosen.
    pub fn tier(&self) -> Option<&str> {
        self.limits.iter().flatten().find_map(|item| item.tier.as_deref())
    }
}

impl TierTable {
    /// Of the limits of a caller.
    pub fn of(edge: &Edge, items: &[QuotaItem]) -> Self {
        let policies = edge.engine.policies();
        let mut table = Self::default();
        for item in items {
            let Some(domain) = policies.domain(&item.domain) else { continue };
            let limit = domain.limits().into_iter().find(|limit| *limit.label == *item.limit);
            let Some(limit) = limit else { continue };
            let tiers = &domain.classes.tiers;
            if tiers.len() < 2 || (!table.tiers.is_empty() && table.tiers.len() != tiers.len()) {
                continue;
            }
            let names: Vec<String> = tiers.iter().map(|tier| (**tier).to_owned()).collect();
            if !table.tiers.is_empty() && table.tiers != names {
                continue;
            }
            table.tiers = names;
            let amounts = (0..tiers.len()).map(|tier| limit.of_tier(tier).to_string()).collect();
            table.rows.push((item.domain.clone(), item.limit.clone(), amounts));
        }
        table
    }

    /// The amounts of a tier, with the limits that they are of.
    pub fn amounts<'t>(&'t self, tier: &str) -> Vec<(&'t str, &'t str)> {
        let index = self.tiers.iter().position(|name| name == tier);
        let rows = self.rows.iter();
        rows.filter_map(|(_, limit, amounts)| Some((limit.as_str(), amounts.get(index?)?.as_str())))
            .collect()
    }
}

/// The limits of a caller, or why there are none.
///
/// # Errors
/// The reason.
pub async fn limits(edge: &Edge, name: &str) -> Result<Vec<QuotaItem>, String> {
    let target =
        QuotaParams::default().target(name.to_owned()).map_err(|problem| problem.detail)?;
    let target = Target::resolve(edge, target).await;
    let limits = standing(edge, &target).await.map_err(|problem| problem.detail)?;
    Ok(limits.into_body().items)
}

fn history(name: &str, now: Timestamp) -> UsageQuery {
    UsageQuery {
        by_time: true,
        filters: vec![(Dimension::Caller, name.to_owned())],
        ..UsageQuery::since(
            View::Requests,
            Granularity::Hour,
            Timestamp::from_ms(now.as_ms().saturating_sub((HOURS - 1) * HOUR_MS)),
        )
    }
}

fn denials(name: &str, now: Timestamp) -> UsageQuery {
    UsageQuery {
        view: View::Denials,
        by_time: false,
        group_by: vec![Dimension::Domain, Dimension::Limit, Dimension::Reason],
        rank: Rank::Refused,
        range: 0..DENIALS_MAX,
        ..history(name, now)
    }
}
