//! The API under `/v1`: its paths, and who is let in to them.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use super::edge::{Edge, Origin};
use super::openapi::{self, BONUS, BONUSES, CALLER, CALLERS, LATENCIES, OPENAPI, ROOT};
use super::tokens::{Refusal, identify};
use super::{bonuses, callers, latencies};
use crate::api_token::Role;

/// The paths of the API.
pub fn routes(edge: &Edge) -> Router<Edge> {
    Router::new()
        .route(ROOT, get(openapi::list))
        .route(CALLERS, get(callers::list))
        .route(
            CALLER,
            get(callers::read).put(callers::put).patch(callers::patch).delete(callers::remove),
        )
        .route(BONUSES, post(bonuses::give))
        .route(BONUS, delete(bonuses::take))
        .route(LATENCIES, get(latencies::list).post(latencies::note))
        .route(OPENAPI, get(openapi::document))
        .route_layer(middleware::from_fn_with_state(edge.clone(), admit))
}

/// Lets in who may do what is asked.
async fn admit(
    State(edge): State<Edge>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let peer = request.extensions().get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| *peer);
    let ip = peer.map(|peer| peer.ip());
    let asker = identify(&edge.api.tokens, ip, request.uri(), request.headers())?;
    let path = request.extensions().get().map_or("", MatchedPath::as_str);
    // What the table does not know is none of the API; the safe role, should it be served all the same.
    let operation = openapi::operation(request.method(), path);
    let needed = operation.map_or(Role::Admin, |operation| operation.role);
    if asker.role < needed {
        let reason =
            format!("this needs the role {needed}, and `{}` is {}", asker.name, asker.role);
        return Err(Refusal::Forbidden(reason));
    }
    request.extensions_mut().insert(Origin { asker, peer });
    Ok(next.run(request).await.into_response())
}
