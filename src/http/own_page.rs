//! `/v1/callers/{name}/link`: a signed link to the page of a caller for itself.

use axum::Json;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::{Authorized, Operator};
use super::change::check_name;
use super::dashboard::OwnLink;
use super::extract::{AlwaysAvailable, UrlPath};
use super::openapi::{self, Operation};
use super::problem::Problem;
use crate::observe::audit::instant;

pub fn operations() -> [Operation; 1] {
    [openapi::post(
        "/v1/callers/{name}/link",
        "linkCaller",
        "Make a link to the page of a caller for itself, valid for a week",
        link,
    )
    .or([(404, "There is no dashboard")])]
}

/// A link to the page of a caller.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CallerLink")]
pub struct LinkBody {
    /// Its path and query, behind the address of this port.
    pub path: String,
    #[schemars(extend("format" = "date-time"))]
    pub expires_at: String,
}

/// Makes a link.
pub async fn link(
    _: Authorized<Operator>,
    AlwaysAvailable(edge): AlwaysAvailable,
    UrlPath(name): UrlPath<String>,
) -> Result<Json<LinkBody>, Problem> {
    check_name(&name)?;
    let Some(dashboard) = &edge.api.dashboard else {
        let detail = "this sidecar has no pages: its setting `dashboard` is false";
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    let OwnLink { path, expires } = OwnLink::new(&dashboard.key, &name, edge.engine.now());
    Ok(Json(LinkBody { path, expires_at: instant(expires) }))
}
