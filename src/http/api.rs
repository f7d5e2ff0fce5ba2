//! The API under `/v1`: its paths, and who is let in to them.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::FromRequestParts;
use axum::extract::MatchedPath;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::request::Parts as HttpParts;
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
use super::latencies;
use super::openapi;
use super::tokens::ApiToken;
use super::tokens::Asker;
use super::tokens::Refusal;
use super::tokens::Role;
use super::tokens::identify;
use crate::observe::audit::Audit;

pub const ROOT: &str = "/v1";
pub const CALLERS: &str = "/v1/callers";
pub const CALLER: &str = "/v1/callers/{name}";
pub const BONUSES: &str = "/v1/callers/{name}/bonuses";
pub const BONUS: &str = "/v1/callers/{name}/bonuses/{id}";
pub const LATENCIES: &str = "/v1/latencies";
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

/// What a request to change something says besides its path and body.
#[derive(Clone, Debug)]
pub struct Asked {
    pub edge: Edge,
    pub origin: Origin,
    /// With the conditions of the request.
    pub headers: HeaderMap,
}

impl FromRequestParts<Edge> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut HttpParts, edge: &Edge) -> Result<Self, Infallible> {
        let origin = parts.extensions.get().cloned().expect("nobody comes here but by `admit`");
        Ok(Self { edge: edge.clone(), origin, headers: parts.headers.clone() })
    }
}

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
