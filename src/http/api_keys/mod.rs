//! `/v1/api-keys`: API keys, which are shown once, when they are made or rotated.

mod author;
mod body;
mod edit;
mod limits;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::auth::{Admin, Authorized, Operator, Viewer};
use super::edge::Edge;
use super::extract::{JsonObject, OptionalJsonObject, UrlPath, UrlQuery};
use super::merge_patch::MergePatch;
use super::openapi::{self, NO_RANDOMNESS, Operation, StatusText};
use super::problem::Problem;
use super::reply::{Created, NoContent};
use crate::api_keys::ApiKeyForm;
use body::{ApiKeyBody, ListQuery, PageBody};

const API_KEYS: &str = "/v1/api-keys";
const API_KEY: &str = "/v1/api-keys/{id}";

pub use author::Author;
pub use body::{CreatedBody, RotateForm};
pub use edit::{check_change, check_new, erase, fresh_id, keys, read as read_record};
pub use limits::{prefix_of, standing as limits_of};

const UNKNOWN: StatusText = (404, "There are no API keys, or none has this id");
const CONFLICT: StatusText = (409, "The API key is in a file, or other changes came first");
const INVALID: StatusText = (422, "The API key is invalid: for example, no policy has its tier");
const FULL: StatusText = (507, "The store has the most API keys that it keeps");

pub fn operations() -> [Operation; 6] {
    [
        openapi::get(API_KEYS, "listApiKeys", "List API keys by id, page by page", list)
            .or([UNKNOWN]),
        openapi::post(API_KEYS, "createApiKey", "Create an API key, which is shown once", create)
            .or([UNKNOWN, (409, "The id is in use"), INVALID, FULL, NO_RANDOMNESS]),
        openapi::get(API_KEY, "getApiKey", "Show an API key, without its text", read).or([UNKNOWN]),
        openapi::patch(
            API_KEY,
            "patchApiKey",
            "Change some fields of an API key, by a JSON merge patch (RFC 7396)",
            patch,
        )
        .or([UNKNOWN, CONFLICT, INVALID, FULL]),
        openapi::post(
            "/v1/api-keys/{id}/rotate",
            "rotateApiKey",
            "Replace the text of an API key, which is shown once; the earlier one may stay valid for some time",
            rotate,
        )
        .or([UNKNOWN, CONFLICT, INVALID, FULL, NO_RANDOMNESS]),
        openapi::delete(API_KEY, "deleteApiKey", "Delete an API key", remove).or([UNKNOWN, CONFLICT]),
    ]
}

/// The query of a new API key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainQuery {
    /// The domain whose policy checks it; needed if several domains have `api_keys`.
    domain: Option<String>,
}

/// Lists API keys by page.
async fn list(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
    UrlQuery(query): UrlQuery<ListQuery>,
) -> Result<Json<PageBody>, Problem> {
    let limit = query.checked_limit()?;
    let keys = keys(&edge)?;
    let page = keys.store.page(query.caller.as_deref(), (&query.after, limit)).await?;
    let ids: Vec<&str> = page.records.iter().map(|record| &*record.id).collect();
    let last_uses = keys.last_uses(&ids).await?;
    let items = page.records.iter().zip(last_uses);
    let items = items.map(|(record, last)| ApiKeyBody::of(record, last, &keys.peppers)).collect();
    Ok(Json(PageBody { items, next: page.next }))
}

/// Shows an API key.
async fn read(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
    UrlPath(id): UrlPath<String>,
) -> Result<Json<ApiKeyBody>, Problem> {
    let keys = keys(&edge)?;
    let record = edit::read(&edge, &id).await?;
    let last_use = keys.last_uses(&[&id]).await?.into_iter().next().flatten();
    let quota = limits::standing(&edge, &record).await;
    Ok(Json(ApiKeyBody::of(&record, last_use, &keys.peppers).with_quota(quota)))
}

/// Creates an API key.
async fn create(
    by: Authorized<Admin>,
    State(edge): State<Edge>,
    UrlQuery(query): UrlQuery<DomainQuery>,
    JsonObject(form): JsonObject<ApiKeyForm>,
) -> Result<Created<CreatedBody>, Problem> {
    let id = fresh_id()?;
    let author = Author { edge: &edge, principal: &by.principal, revision: None };
    author.create(&id, (query.domain.as_deref(), &form)).await.map(Created)
}

/// Changes some fields of an API key.
async fn patch(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(id): UrlPath<String>,
    patch: MergePatch<ApiKeyForm>,
) -> Result<Json<ApiKeyBody>, Problem> {
    let author = Author { edge: &edge, principal: &by.principal, revision: None };
    author.revise(&id, |before| patch.apply(before)).await.map(Json)
}

/// Replaces the text of an API key.
async fn rotate(
    by: Authorized<Admin>,
    State(edge): State<Edge>,
    UrlPath(id): UrlPath<String>,
    OptionalJsonObject(form): OptionalJsonObject<RotateForm>,
) -> Result<Json<CreatedBody>, Problem> {
    let overlap = form.checked_overlap()?;
    let author = Author { edge: &edge, principal: &by.principal, revision: None };
    author.rotate(&id, overlap).await.map(Json)
}

/// Deletes an API key.
async fn remove(
    by: Authorized<Admin>,
    State(edge): State<Edge>,
    UrlPath(id): UrlPath<String>,
) -> Result<NoContent, Problem> {
    let author = Author { edge: &edge, principal: &by.principal, revision: None };
    author.remove(&id).await.map(|()| NoContent)
}
