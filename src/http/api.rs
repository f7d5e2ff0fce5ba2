//! The API under `/v1`: its paths, and who is let in to them.

use std::net::SocketAddr;

use axum::Extension;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::MatchedPath;
use axum::extract::Request;
use axum::extract::State;
use axum::middleware;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::delete;
use axum::routing::get;
use axum::routing::post;

use super::Edge;
use super::bonuses;
use super::callers;
use super::openapi;
use super::tokens::ApiToken;
use super::tokens::Asker;
use super::tokens::Refusal;
use super::tokens::Role;
use super::tokens::identify;
use crate::observe::audit::Audit;

pub const CALLERS: &str = "/v1/callers";
pub const CALLER: &str = "/v1/callers/{name}";
pub const BONUSES: &str = "/v1/callers/{name}/bonuses";
pub const BONUS: &str = "/v1/callers/{name}/bonuses/{id}";
pub const OPENAPI: &str = "/v1/openapi.json";

/// Who may use the API, and where its changes are told.
#[derive(Clone, Debug, Default)]
pub struct Api {
    /// Empty: who asks from this machine.
    pub tokens: Vec<ApiToken>,
    pub audit: Audit,
}

/// Who asks, and from where.
#[derive(Clone, Debug)]
pub struct Origin {
    pub asker: Asker,
    pub peer: Option<SocketAddr>,
}

/// The paths of the API.
pub fn routes(edge: &Edge) -> Router<Edge> {
    Router::new()
        .route(CALLERS, get(callers::list))
        .route(
            CALLER,
            get(callers::read).put(callers::put).patch(callers::patch).delete(callers::remove),
        )
        .route(BONUSES, post(bonuses::give))
        .route(BONUS, delete(bonuses::take))
        .route(OPENAPI, get(openapi::document))
        .route_layer(middleware::from_fn_with_state(edge.clone(), admit))
}

/// Lets in who may do what is asked.
async fn admit(
    State(edge): State<Edge>,
    path: MatchedPath,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let peer = peer.map(|Extension(ConnectInfo(peer))| peer);
    let ip = peer.map(|peer| peer.ip());
    let asker = identify(&edge.api.tokens, ip, request.uri(), request.headers())?;
    // What the table does not know is none of the API; the safe role, should it be served all the same.
    let operation = openapi::operation(request.method(), path.as_str());
    let needed = operation.map_or(Role::Admin, |operation| operation.role);
    if asker.role < needed {
        let reason =
            format!("this needs the role {needed}, and `{}` is {}", asker.name, asker.role);
        return Err(Refusal::Forbidden(reason));
    }
    request.extensions_mut().insert(Origin { asker, peer });
    Ok(next.run(request).await.into_response())
}
