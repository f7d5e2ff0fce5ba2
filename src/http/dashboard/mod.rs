//! The dashboard: pages made on the server, for people. They are made of what the operations of the API answer, by the same
//! functions, and under the same roles.

mod alerts;
mod api_keys;
mod assets;
mod audit;
mod caller;
mod callers;
mod change;
mod change_form;
mod chart;
mod failure;
mod format;
mod link;
mod live;
mod login;
mod me;
mod near;
mod overview;
mod own_link;
mod page;
mod policies;
mod providers;
mod rates;
mod recommendation;
mod sampler;
mod session;
mod signing;
mod site;
mod stream;
mod usage;
mod view;
mod visitor;

use axum::Router;
use axum::extract::{Query, State};
use axum::routing::{get, post};
use maud::PreEscaped;
use serde::Deserialize;

use super::auth::Viewer;
use super::edge::Edge;
use crate::api_token::Role;
use caller::CallerPage;
use callers::{Callers, CallersQuery};
use failure::Failure;
use overview::Overview;
use page::Page;
use view::layout::Section;
use visitor::Visitor;

pub use live::Live;
pub use own_link::OwnLink;
pub use signing::SigningKey;
pub use site::Dashboard;

/// The paths of the dashboard.
pub fn routes() -> Router<Edge> {
    Router::new()
        .route("/dashboard", get(overview))
        .route("/dashboard/", get(overview))
        .route("/dashboard/login", get(login::show).post(login::login))
        .route("/dashboard/logout", post(login::logout))
        .route("/dashboard/callers", get(list_callers))
        .route("/dashboard/caller", get(show_caller))
        .route("/dashboard/caller/link", post(me::make_link))
        .route("/dashboard/caller/{action}", post(change::change))
        .route("/dashboard/api-keys", get(api_keys::list))
        .route("/dashboard/api-keys/new", get(api_keys::new))
        .route("/dashboard/api-key", get(api_keys::show))
        .route("/dashboard/api-key/{action}", post(api_keys::change))
        .route("/dashboard/providers", get(providers::show))
        .route("/dashboard/providers/{action}", post(providers::change))
        .route("/dashboard/policies", get(policies::show))
        .route("/dashboard/policies/check", post(policies::check))
        .route("/dashboard/usage", get(usage::show))
        .route("/dashboard/usage.csv", get(usage::download))
        .route("/dashboard/alerts", get(alerts::show))
        .route("/dashboard/alerts/{action}", post(alerts::act))
        .route("/dashboard/audit", get(audit::show))
        .route("/me", get(me::show))
        .route("/dashboard/live/{topic}", get(stream::stream))
        .route("/dashboard/assets/{name}", get(assets::serve))
}

/// Updates open pages until `shutdown`.
pub async fn run(edge: Edge, shutdown: impl Future<Output = ()>) {
    if let Some(dashboard) = &edge.api.dashboard {
        sampler::run(&edge, &dashboard.live, shutdown).await;
    }
}

async fn overview(visitor: Visitor, State(edge): State<Edge>) -> Result<Page, Failure> {
    visitor.authorized::<Viewer>()?;
    let latest = edge.api.dashboard.as_ref().and_then(|dashboard| dashboard.live.latest());
    let live = match latest {
        Some(update) => PreEscaped(update.overview.to_string()),
        None => view::overview::live(&Overview::read(&edge, None).await),
    };
    Ok(visitor.page(Section::Overview, "Overview", &view::overview::page(&live)))
}

/// The query of the page of a caller.
#[derive(Debug, Deserialize)]
struct CallerQuery {
    name: String,
    /// The change that was just made.
    changed: Option<String>,
}

async fn list_callers(
    visitor: Visitor,
    State(edge): State<Edge>,
    Query(query): Query<CallersQuery>,
) -> Result<Page, Failure> {
    visitor.authorized::<Viewer>()?;
    let callers = Callers::read(&edge, query).await?;
    let body = view::callers::page(&callers, edge.engine.now().as_ms());
    Ok(visitor.page(Section::Callers, "Callers", &body))
}

async fn show_caller(
    visitor: Visitor,
    State(edge): State<Edge>,
    Query(CallerQuery { name, changed }): Query<CallerQuery>,
) -> Result<Page, Failure> {
    visitor.authorized::<Viewer>()?;
    let caller = CallerPage::read(&edge, name).await?;
    let form_token = visitor.may(Role::Operator).then_some(visitor.form_token.as_str());
    let changed = changed.as_deref().and_then(change::sentence);
    let body = view::caller::page(&caller, form_token, changed);
    Ok(visitor.page(Section::Callers, &caller.name, &body))
}
