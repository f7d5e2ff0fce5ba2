//! What the page of one API key shows.

use std::sync::Arc;

use super::state::KeyState;
use crate::api_keys::{ApiKeyForm, ApiKeyRecord, ApiKeySecret, KeyRefusal, LastUse, may_take};
use crate::engine::api_key_tier;
use crate::http::api_keys::{keys, limits_of, prefix_of, read_record};
use crate::http::dashboard::failure::Failure;
use crate::http::edge::Edge;
use crate::http::problem::Problem;
use crate::http::quota::QuotaItem;
use crate::policy::{ApiKeyPolicy, ApiKeyRoute, Domain};
use crate::store::StoreWait;

/// An API key as it stands.
#[derive(Debug)]
pub struct KeyPage {
    pub record: Arc<ApiKeyRecord>,
    pub form: ApiKeyForm,
    pub state: KeyState,
    pub last_use: Option<LastUse>,
    /// The pepper of each of its texts.
    pub peppers: Vec<&'static str>,
    /// What it may do in each domain whose policy knows its prefix.
    pub domains: Vec<DomainRoutes>,
    /// Its own limits as they stand.
    pub limits: Vec<QuotaItem>,
    pub now_ms: u64,
}

/// What an API key may do in a domain.
#[derive(Debug)]
pub struct DomainRoutes {
    pub domain: String,
    /// The tier of its requests, if the policy has tiers.
    pub tier: Option<String>,
    pub routes: Vec<RouteRow>,
    /// Whether it may make requests without a route.
    pub allows_others: bool,
}

/// A route of a policy.
#[derive(Debug)]
pub struct RouteRow {
    /// All if empty.
    pub methods: String,
    pub path: String,
    pub scopes: String,
    /// All if empty.
    pub tiers: String,
    /// Why the API key may not take it.
    pub refusal: Option<KeyRefusal>,
}

impl KeyPage {
    /// Reads it.
    pub async fn read(edge: &Edge, id: &str) -> Result<Self, Failure> {
        let keys = keys(edge)?;
        let record = read_record(edge, id).await?;
        let last_use = keys.last_uses(&[id]).await.map_err(Problem::from)?;
        let lineage =
            edge.engine.directory().lineage(&record.key.caller, StoreWait::patient()).await;
        let policies = edge.engine.policies();
        let prefix = prefix_of(&record);
        let mut domains = Vec::new();
        for domain in policies.domains() {
            let Some(policy) = &domain.api_keys else { continue };
            if *policy.prefix == *prefix {
                let tier = api_key_tier(domain, &record.key, &lineage);
                domains.push(DomainRoutes::of((domain, policy), &record, tier));
            }
        }
        let now = edge.engine.now();
        let pepper = |secret: &ApiKeySecret| match keys.peppers.place(&secret.pepper) {
            Some(0) => "current",
            Some(_) => "earlier",
            None => "unknown",
        };
        Ok(Self {
            peppers: record.secrets.iter().map(pepper).collect(),
            form: ApiKeyForm::from(&record.key),
            state: KeyState::of(&record, &keys.peppers, now),
            last_use: last_use.into_iter().next().flatten(),
            domains,
            limits: limits_of(edge, &record).await,
            now_ms: now.as_ms(),
            record,
        })
    }
}

impl DomainRoutes {
    fn of((domain, policy): (&Domain, &ApiKeyPolicy), record: &ApiKeyRecord, tier: usize) -> Self {
        let tiers = &domain.classes.tiers;
        let named = |tier: &usize| tiers.get(*tier).map(|name| &**name);
        let row = |route: &ApiKeyRoute| RouteRow {
            methods: route.methods.join(", "),
            path: route.path.to_string(),
            scopes: route.scopes.join(", "),
            tiers: route
                .tiers
                .as_ref()
                .map(|tiers| tiers.iter().filter_map(named).collect::<Vec<_>>().join(", "))
                .unwrap_or_default(),
            refusal: may_take(route, &record.key.scopes, tier).err(),
        };
        let routes = policy.routes.routes();
        Self {
            domain: domain.name.to_string(),
            tier: named(&tier).map(str::to_owned),
            routes: routes.iter().map(row).collect(),
            allows_others: routes.is_empty() || policy.routes.allows_others(),
        }
    }
}
