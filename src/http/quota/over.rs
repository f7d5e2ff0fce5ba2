//! `/v1/over`: the callers that use more of a limit than they have, such as after it was lowered.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::{ModeName, QuotaItem};
use super::limits::{LOOK, unavailable};
use super::params::{QuotaParams, check_domain};
use super::resolved::{Target, check_rules};
use crate::engine::Code;
use crate::http::auth::{Authorized, Viewer};
use crate::http::edge::Edge;
use crate::http::extract::UrlQuery;
use crate::http::problem::Problem;

/// Callers that are looked at for a page: each costs up to two questions to the store.
const CALLERS_MAX: usize = 500;
const CALLERS_DEFAULT: usize = 100;

/// The name of a caller, if there is none.
const ANY: &str = "any";

/// The query of a page.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverParams {
    /// Start after this caller; the `next` of the page before.
    #[serde(default)]
    after: String,
    /// Callers of the directory that are looked at for the page.
    #[serde(default = "callers_default")]
    #[schemars(range(min = 1, max = CALLERS_MAX))]
    limit: usize,
    /// Only limits of this domain; absent: of all domains whose policy names callers.
    domain: Option<String>,
    /// More entries after the caller's, as `key=value,key=value` or as a JSON list of objects with one key each: the limits of a
    /// request with these entries.
    #[serde(default)]
    entries: String,
    /// Also the limits of the rules below that have a value, such as those of all kinds of resources.
    #[serde(default)]
    below: bool,
    /// Only limits in this mode; absent: in any.
    mode: Option<ModeName>,
}

/// The callers of a page that are over a limit.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Over")]
pub struct OverBody {
    /// In the order of the callers' names; also empty where a later page has some.
    items: Vec<OverItem>,
    /// The `after` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A limit of which a caller uses more than it has.
#[derive(Debug, Serialize, JsonSchema)]
struct OverItem {
    caller: String,
    /// Hits in use beyond the quota.
    over: u64,
    #[serde(flatten)]
    limit: QuotaItem,
}

fn callers_default() -> usize {
    CALLERS_DEFAULT
}

/// Lists callers over their limits by page. A pool is listed under its own name alone.
pub async fn list(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
    UrlQuery(params): UrlQuery<OverParams>,
) -> Result<Json<OverBody>, Problem> {
    let OverParams { after, limit, domain, entries, below, mode } = params;
    if !(1..=CALLERS_MAX).contains(&limit) {
        let detail = format!("`limit` must be a number from 1 to {CALLERS_MAX}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    check_domain(&edge.engine.policies(), domain.as_deref())?;
    let has_entries = !entries.is_empty();
    let asked = QuotaParams::new(domain, entries, below);
    let snapshot = edge.engine.snapshot();
    let page = edge.engine.directory().page(&after, limit).await?;
    if page.callers.is_empty() {
        check_rules(asked.clone().target(ANY.to_owned())?, LOOK, &snapshot)?;
    }
    // An entry that no rule has, if no caller meets a limit.
    let mut unmet = None;
    let mut has_met = !has_entries;
    let mut items = Vec::new();
    let callers = page.callers.into_iter();
    let targets = callers.map(|(name, _)| asked.clone().target(name)).collect::<Result<_, _>>()?;
    for target in Target::resolve_all(&edge, targets).await {
        let name = target.caller();
        let mut previews = Vec::new();
        for request in &target.requests(&snapshot, LOOK)? {
            let preview = edge.engine.preview(&snapshot, request).await;
            // What the fallback counts is not what is in use.
            if preview.verdict.code() == Code::Unavailable || preview.verdict.fallback {
                return Err(unavailable());
            }
            previews.push(preview);
        }
        has_met = has_met || QuotaItem::all(name, &previews).next().is_some();
        if !has_met {
            let mut domains = previews.iter().filter_map(|preview| preview.verdict.policy);
            unmet = domains.find_map(|domain| target.unknown_entry(domain));
        }
        let of_caller = QuotaItem::all(name, &previews)
            .filter(|item| item.is_own() && mode.is_none_or(|mode| mode == item.mode()));
        items.extend(of_caller.filter_map(|limit| {
            let over = limit.over()?;
            Some(OverItem { caller: name.to_owned(), over, limit })
        }));
    }
    match unmet {
        // An empty list would say that nobody is over.
        Some(problem) if !has_met => Err(problem),
        _ => Ok(Json(OverBody { items, next: page.next })),
    }
}
