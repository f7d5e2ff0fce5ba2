//! What the handlers of HTTP look at, and where a request to change something comes from.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::tokens::Asker;
use crate::api_token::ApiToken;
use crate::engine::{Engine, Readiness};
use crate::metrics::Metrics;
use crate::observe::audit::Audit;
use crate::observe::invalid::InvalidRequests;

/// What the handlers look at.
#[derive(Clone, Debug)]
pub struct Edge {
    pub engine: Arc<Engine>,
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    pub api: Arc<Api>,
    /// Tells of requests for a decision that can't be decided.
    pub invalid: InvalidRequests,
}

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

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Infallible> {
        let origin = parts.extensions.get().cloned().expect("nobody comes here but by `admit`");
        Ok(Self { edge: edge.clone(), origin, headers: parts.headers.clone() })
    }
}
