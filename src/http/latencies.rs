//! `/v1/latencies`: how long those that a policy may choose take to answer, told by whoever measures it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::ConnectInfo;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;

use super::Edge;
use super::problem::Problem;

/// Where the request comes from, as the listener says.
type Peer = Option<Extension<ConnectInfo<SocketAddr>>>;

/// Tells the latency of every name in milliseconds; null if nobody has told it lately.
pub async fn list(
    State(edge): State<Edge>,
    peer: Peer,
) -> Result<Json<BTreeMap<String, Option<f64>>>, Problem> {
    check_local(peer)?;
    Ok(Json(edge.engine.latencies()))
}

/// Notes latencies in milliseconds by name: `{"hotelbeds": 123.4, "amadeus": 80}`; all of them or none.
pub async fn note(
    State(edge): State<Edge>,
    peer: Peer,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    check_local(peer)?;
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let told: BTreeMap<String, f64> = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    edge.engine
        .note_latencies(&told)
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whoever tells latencies turns requests away from others, so only this machine may.
fn check_local(peer: Peer) -> Result<(), Problem> {
    match peer {
        Some(Extension(ConnectInfo(peer))) if peer.ip().to_canonical().is_loopback() => Ok(()),
        _ => Err(Problem::new(StatusCode::FORBIDDEN, "only this machine is served")),
    }
}
