//! The dashboard: pages made on the server, for people. They are made of what the operations of the API answer, by the same
//! functions, and under the same roles.

mod assets;
mod failure;
mod format;
mod link;
mod live;
mod login;
mod near;
mod overview;
mod page;
mod rates;
mod sampler;
mod session;
mod signing;
mod site;
mod stream;
mod view;
mod visitor;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use maud::PreEscaped;

use super::auth::Viewer;
use super::edge::Edge;
use failure::Failure;
use overview::Overview;
use page::Page;
use view::layout::Section;
use visitor::Visitor;

pub use live::Live;
pub use signing::SigningKey;
pub use site::Dashboard;

/// The paths of the dashboard.
pub fn routes() -> Router<Edge> {
    Router::new()
        .route("/dashboard", get(overview))
        .route("/dashboard/", get(overview))
        .route("/dashboard/login", get(login::show).post(login::login))
        .route("/dashboard/logout", post(login::logout))
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
