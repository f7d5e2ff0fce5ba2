//! What the list of callers shows.

use serde::Deserialize;

use super::failure::Failure;
use crate::clock::Timestamp;
use crate::http::edge::Edge;
use crate::http::usage::{Scope, UsageItem, answer};
use crate::usage::{Dimension, Granularity, Rank, UsageQuery, View};

/// Callers of the usage that a search considers.
const CONSIDERED_MAX: usize = 1_000;

/// Callers that are shown.
const SHOWN_MAX: usize = 100;

const DAY_MS: u64 = 24 * 3_600_000;

/// The query of the list.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CallersQuery {
    /// Part of the name.
    #[serde(default)]
    pub search: String,
    #[serde(default)]
    pub sort: Sort,
    /// By name: start after this one.
    #[serde(default)]
    pub after: String,
}

/// The order of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    #[default]
    Requests,
    Refused,
    /// The callers of the directory.
    Name,
}

/// Some callers.
#[derive(Debug)]
pub struct Callers {
    pub query: CallersQuery,
    /// Of all sidecars, and not of this one alone.
    pub of_fleet: bool,
    pub items: Vec<CallerRow>,
    /// Why there is no usage.
    pub reason: Option<String>,
    /// There are more.
    pub has_more: bool,
    /// The `after` of the next page.
    pub next: Option<String>,
}

/// A caller of the list.
#[derive(Debug)]
pub struct CallerRow {
    pub name: String,
    pub tier: Option<String>,
    /// In 24 hours; None without usage.
    pub requests: Option<(u64, u64)>,
    pub last_at: Option<String>,
}

impl Callers {
    /// Reads the list.
    pub async fn read(edge: &Edge, query: CallersQuery) -> Result<Self, Failure> {
        match query.sort {
            Sort::Name => Self::of_directory(edge, query).await,
            Sort::Requests | Sort::Refused => Ok(Self::of_usage(edge, query).await),
        }
    }

    async fn of_usage(edge: &Edge, query: CallersQuery) -> Self {
        let rank = match query.sort {
            Sort::Refused => Rank::Refused,
            _ => Rank::Requests,
        };
        let usage = UsageQuery {
            group_by: vec![Dimension::Caller, Dimension::Tier],
            rank,
            range: 0..CONSIDERED_MAX,
            ..UsageQuery::since(
                View::Requests,
                Granularity::Hour,
                Timestamp::from_ms(edge.engine.now().as_ms().saturating_sub(DAY_MS)),
            )
        };
        let mut callers = Self {
            query,
            of_fleet: false,
            items: Vec::new(),
            reason: None,
            has_more: false,
            next: None,
        };
        let page = match answer(edge, usage, UsageItem::new).await {
            Ok(page) => page,
            Err(problem) => return Self { reason: Some(problem.detail), ..callers },
        };
        callers.of_fleet = matches!(page.scope, Scope::Fleet);
        callers.has_more = page.next.is_some();
        let search = callers.query.search.to_lowercase();
        for item in page.items {
            let Some(name) = item.names.caller.flatten() else { continue };
            if !name.to_lowercase().contains(&search) {
                continue;
            }
            if let Some(known) = callers.items.iter_mut().find(|known| known.name == name) {
                // Its tier has changed.
                let (requests, refused) = known.requests.unwrap_or_default();
                known.requests = Some((requests + item.requests, refused + item.refused));
                continue;
            }
            if SHOWN_MAX <= callers.items.len() {
                callers.has_more = true;
                continue;
            }
            callers.items.push(CallerRow {
                name,
                tier: item.names.tier.flatten(),
                requests: Some((item.requests, item.refused)),
                last_at: Some(item.last_at),
            });
        }
        callers
    }

    async fn of_directory(edge: &Edge, query: CallersQuery) -> Result<Self, Failure> {
        let page = edge.engine.directory().page(&query.after, SHOWN_MAX).await;
        let page =
            page.map_err(|error| Failure::from(crate::http::problem::Problem::from(error)))?;
        let search = query.search.to_lowercase();
        let found =
            page.callers.into_iter().filter(|(name, _)| name.to_lowercase().contains(&search));
        let row = |(name, record): (String, crate::store::Record)| CallerRow {
            name,
            tier: record.caller.tier.clone(),
            requests: None,
            last_at: None,
        };
        Ok(Self {
            items: found.map(row).collect(),
            of_fleet: true,
            reason: None,
            has_more: page.next.is_some(),
            next: page.next,
            query,
        })
    }
}
