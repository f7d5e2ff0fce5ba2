//! The API under `/v1`: all its operations, and the two that describe them.

use std::sync::LazyLock;

use axum::routing::get;
use axum::{Json, Router};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::auth::{Authorized, Viewer};
use super::edge::Edge;
use super::openapi::{self, Operation};
use super::{
    alerts, api_keys, bonuses, callers, credits, erase, latencies, own_page, provider_controls,
    provider_counts, providers, quota, reservations, signals, usage, why,
};

const OPENAPI: &str = "/v1/openapi.json";

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| openapi::document(&operations()));
static LIST: LazyLock<OperationsBody> = LazyLock::new(|| OperationsBody {
    openapi: OPENAPI,
    operations: operations().iter().map(OperationItem::from).collect(),
});

/// All operations of the API. Each resource lists its operations beside their handlers.
fn operations() -> Vec<Operation> {
    let list = [openapi::get("/v1", "listOperations", "List the operations of the API", list)];
    let document = [openapi::get(OPENAPI, "getOpenApi", "This document", document)];
    list.into_iter()
        .chain(callers::operations())
        .chain(bonuses::operations())
        .chain(erase::operations())
        .chain(quota::operations())
        .chain(quota::overrides::operations())
        .chain(own_page::operations())
        .chain(reservations::operations())
        .chain(credits::operations())
        .chain(api_keys::operations())
        .chain(latencies::operations())
        .chain(providers::operations())
        .chain([provider_counts::operation()])
        .chain(provider_controls::operations())
        .chain(signals::operations())
        .chain(usage::operations())
        .chain(why::operations())
        .chain(alerts::operations())
        .chain(document)
        .collect()
}

/// The paths of the API and their handlers. The list is also at the path with a trailing slash.
pub fn routes() -> Router<Edge> {
    let add = |router: Router<Edge>, one: Operation| router.route(one.path, one.checked_route());
    let router = Router::new().route("/v1/", get(list));
    operations().into_iter().fold(router, add)
}

/// The list of operations.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Operations")]
struct OperationsBody {
    /// The path of the OpenAPI document.
    openapi: &'static str,
    operations: Vec<OperationItem>,
}

/// A method of a path.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Operation")]
struct OperationItem {
    method: String,
    path: &'static str,
    /// The least role that is required: self, viewer, operator or admin.
    role: String,
    summary: &'static str,
}

impl From<&Operation> for OperationItem {
    fn from(operation: &Operation) -> Self {
        Self {
            method: operation.method.to_string(),
            path: operation.path,
            role: operation.role.to_string(),
            summary: operation.summary,
        }
    }
}

/// Lists the operations.
async fn list(_: Authorized<Viewer>) -> Json<&'static OperationsBody> {
    Json(&LIST)
}

/// Shows the OpenAPI document.
async fn document(_: Authorized<Viewer>) -> Json<&'static Value> {
    Json(&DOCUMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_that_may_find_something_unavailable_has_a_503() {
        let methods = DOCUMENT["paths"].as_object().unwrap().values();
        let all = methods.flat_map(|methods| methods.as_object().unwrap().values());
        let available = all.filter(|one| one["responses"]["503"].is_null());
        let mut available: Vec<_> =
            available.map(|one| one["operationId"].as_str().unwrap()).collect();
        available.sort_unstable();
        let expected = [
            "getOpenApi",
            "getProvider",
            "linkCaller",
            "listLatencies",
            "listOperations",
            "listProviders",
            "listSignals",
        ];
        assert_eq!(available, expected);
    }
}
