//! `/v1/callers/{name}/erase`: erases the data of a caller everywhere.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api_keys;
use super::auth::Admin;
use super::change::{ChangeBy, Edit, NewNames};
use super::edge::Edge;
use super::extract::{JsonObject, UrlPath};
use super::openapi::{self, Description, Operation, Output};
use super::problem::Problem;
use super::replicated::confirmed;
use crate::observe::eraser::{EraseError, Erased};

pub fn operations() -> [Operation; 2] {
    [
        openapi::post(
            "/v1/callers/{name}/erase",
            "eraseCaller",
            "Erase a caller: its record, API keys, counters, gifts, reservations, usage and refusals, and its data in the audit log",
            erase,
        ),
        openapi::post(
            "/v1/erase",
            "eraseName",
            "Erase a caller by any name that requests may have, also an empty one",
            erase_name,
        ),
    ]
}

/// The caller to erase.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Erasure")]
struct EraseForm {
    caller: String,
}

/// What was erased.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Erased")]
struct ErasedBody {
    /// The caller had a record in the directory.
    record: bool,
    /// Counters and marks of retries.
    counters: u64,
    /// Gifts, and lines of ledgers about them.
    gifts: u64,
    /// API keys.
    api_keys: u64,
    /// Records of reservations.
    reservations: u64,
    /// Sums of usage, by hour and by day.
    usage: u64,
    /// Refusals in Redis; without Redis, those in this process.
    refusals: u64,
    /// Alerts about it, and their notifications.
    alerts: u64,
    /// Lines of this process's audit log.
    audit_lines: u64,
    /// What may be left of it, and where: a sentence for each place.
    left: Vec<&'static str>,
}

struct Report(Json<ErasedBody>);

impl IntoResponse for Report {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl Output for Report {
    fn describe(description: &mut Description<'_>) {
        description.answer::<ErasedBody>(200);
        description.problem("409", "The directory is in files, which have the caller");
        description.problem("503", "Not all was erased; repeat the request");
    }
}

/// Erases a caller.
async fn erase(
    by: ChangeBy<Admin>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
) -> Result<Report, Problem> {
    erase_all(&by, &edge, &name).await
}

/// Erases a caller whose name may not fit in a path.
async fn erase_name(
    by: ChangeBy<Admin>,
    State(edge): State<Edge>,
    JsonObject(form): JsonObject<EraseForm>,
) -> Result<Report, Problem> {
    erase_all(&by, &edge, &form.caller).await
}

async fn erase_all(by: &ChangeBy<Admin>, edge: &Edge, name: &str) -> Result<Report, Problem> {
    let names = NewNames::OfPolicies;
    let edit = Edit { request: &by.request, names, action: "erase", name };
    let record = edit.remove().await?;
    let gifts = edge.engine.directory().erase_gifts(name).await?;
    if gifts.is_pending {
        let detail = "a gift of the caller is not done yet, and nothing else was erased; repeat the request in 15 seconds";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    }
    let api_keys = api_keys::erase(edge, name).await?;
    let counters = edge.engine.erase(name).await.map_err(|error| incomplete(&error.into()))?;
    let erased = edge.api.eraser.erase(name, edge.engine.now()).await;
    let Erased { reservations, sums, refusals, alerts, audit_lines } =
        erased.map_err(|error| incomplete(&error))?;
    let is_replicated = match &edge.api.api_keys {
        Some(keys) => keys.store.is_replicated().await,
        None => edge.engine.directory().is_replicated().await,
    };
    confirmed(is_replicated, "the caller is erased")?;
    let usage = sums;
    Ok(Report(Json(ErasedBody {
        record,
        counters,
        gifts: gifts.count,
        api_keys,
        reservations,
        usage,
        refusals,
        alerts,
        audit_lines,
        left: edge.api.eraser.left(name),
    })))
}

fn incomplete(error: &EraseError) -> Problem {
    let detail = format!("not all was erased; repeat the request: {error}");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}
