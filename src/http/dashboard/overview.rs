//! What the overview shows.

use super::near::{NearCaller, callers};
use super::rates::{Rates, sum};
use crate::http::edge::Edge;
use crate::http::providers::{ProvidersBody, providers};
use crate::http::usage::{DenialItem, Scope, answer};
use crate::metrics::Answers;
use crate::usage::{Dimension, Granularity, Rank, UsageQuery, View};

/// Reasons of refusals on the overview.
const REASONS_MAX: usize = 12;

/// The state of the process and of what it serves.
#[derive(Debug)]
pub struct Overview {
    /// None until there are two readings.
    pub rates: Option<Rates>,
    /// Since the start of this process.
    pub answers: Answers,
    /// Requests that this process holds for capacity.
    pub waiting: u64,
    pub store: StoreState,
    pub sidecars: u64,
    pub providers: ProvidersBody,
    /// The callers nearest to a limit, or why they are unknown.
    pub near: Result<Vec<NearCaller>, String>,
    pub denials: Denials,
    /// Open alerts, and whether one of them is an error or critical. None: there are no files of alerts.
    pub alerts: Option<(u64, bool)>,
    pub now_ms: u64,
}

/// The state of the store.
#[derive(Debug)]
pub struct StoreState {
    pub is_available: bool,
    /// None: it is in this process.
    pub address: Option<String>,
}

/// Refusals by reason.
#[derive(Debug)]
pub struct Denials {
    /// Of all sidecars, and not of this one alone.
    pub of_fleet: bool,
    /// The start of the hour they are counted from; None: since the start of the process.
    pub from: Option<String>,
    /// The most frequent first.
    pub items: Vec<(String, u64)>,
}

impl Overview {
    /// Reads it.
    pub async fn read(edge: &Edge, rates: Option<Rates>) -> Self {
        let metrics = &edge.metrics;
        let store = edge.engine.store();
        let number = |gauge: i64| u64::try_from(gauge).unwrap_or_default();
        Self {
            rates,
            answers: metrics.answers(),
            waiting: number(metrics.sharing.waiting.get()),
            store: StoreState {
                is_available: store.is_available(),
                address: store.address().map(str::to_owned),
            },
            sidecars: number(metrics.shared.sidecars.get()).max(1),
            providers: providers(edge, None).await,
            near: callers(edge).await,
            denials: Denials::read(edge).await,
            alerts: open_alerts(edge).await,
            now_ms: edge.engine.now().as_ms(),
        }
    }

    /// All decisions since the start of this process.
    pub fn decisions(&self) -> u64 {
        sum(self.answers)
    }
}

/// The number of open alerts, and whether one of them is an error or critical.
async fn open_alerts(edge: &Edge) -> Option<(u64, bool)> {
    let book = edge.api.alerts.as_ref()?.keeper.book().await;
    let is_grave = |severity: &str| ["error", "critical"].contains(&severity);
    let count = u64::try_from(book.open_alerts().count()).unwrap_or(u64::MAX);
    Some((count, book.open_alerts().any(|alert| is_grave(&alert.severity))))
}

impl Denials {
    /// From the usage of the present hour if it is counted, else of this process.
    async fn read(edge: &Edge) -> Self {
        if let Some(denials) = Self::of_usage(edge).await {
            return denials;
        }
        let counts = edge.metrics.sharing.refusals_by_reason();
        let counts = counts.into_iter().filter(|(_, count)| *count != 0);
        let mut items: Vec<_> = counts.map(|(reason, count)| (reason.to_owned(), count)).collect();
        items.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Self { of_fleet: false, from: None, items }
    }

    async fn of_usage(edge: &Edge) -> Option<Self> {
        edge.api.usage.as_ref()?;
        let query = UsageQuery {
            group_by: vec![Dimension::Reason],
            rank: Rank::Refused,
            range: 0..REASONS_MAX,
            ..UsageQuery::since(View::Denials, Granularity::Hour, edge.engine.now())
        };
        let page = answer(edge, query, DenialItem::new).await.ok()?;
        let item = |item: DenialItem| (item.names.reason.flatten().unwrap_or_default(), item.count);
        Some(Self {
            of_fleet: matches!(page.scope, Scope::Fleet),
            from: Some(page.from),
            items: page.items.into_iter().map(item).collect(),
        })
    }
}
