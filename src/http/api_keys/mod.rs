//! `/v1/api-keys`: API keys, which are shown once, when they are made or rotated.

mod body;
mod edit;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::auth::{Admin, Authorized, Operator, Viewer};
use super::edge::Edge;
use super::extract::{JsonObject, UrlPath, UrlQuery};
use super::merge_patch::MergePatch;
use super::openapi::{self, Operation};
use super::problem::Problem;
use super::reply::{Created, NoContent};
use crate::api_keys::{ApiKeyForm, ApiKeyRecord, ApiKeySecret, ApiKeyText, hint_of, new_id};
use crate::engine::ApiKeys;
use body::{ApiKeyBody, CreatedBody, ListQuery, PageBody, RotateForm};
use edit::{Change, keys};

const API_KEYS: &str = "/v1/api-keys";
const API_KEY: &str = "/v1/api-keys/{id}";

pub use edit::erase;

pub fn operations() -> [Operation; 6] {
    [
        openapi::get(API_KEYS, "listApiKeys", "List API keys by id, page by page", list),
        openapi::post(API_KEYS, "createApiKey", "Create an API key, which is shown once", create),
        openapi::get(API_KEY, "getApiKey", "Show an API key, without its text", read),
        openapi::patch(
            API_KEY,
            "patchApiKey",
            "Change some fields of an API key, by a JSON merge patch (RFC 7396)",
            patch,
        ),
        openapi::post(
            "/v1/api-keys/{id}/rotate",
            "rotateApiKey",
            "Replace the text of an API key, which is shown once; the earlier one may stay valid for some time",
            rotate,
        ),
        openapi::delete(API_KEY, "deleteApiKey", "Delete an API key", remove),
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
    let record = keys.store.read(&id).await?.ok_or_else(|| edit::unknown(&id))?;
    let last_use = keys.last_uses(&[&id]).await?.into_iter().next().flatten();
    Ok(Json(ApiKeyBody::of(&record, last_use, &keys.peppers)))
}

/// Creates an API key.
async fn create(
    by: Authorized<Admin>,
    State(edge): State<Edge>,
    UrlQuery(query): UrlQuery<DomainQuery>,
    JsonObject(form): JsonObject<ApiKeyForm>,
) -> Result<Created<CreatedBody>, Problem> {
    let peppers = &keys(&edge)?.peppers;
    let prefix = edit::checked_prefix(&edge, query.domain.as_deref(), &form)?;
    let key = edit::checked(&form)?;
    let now = edge.engine.now();
    let text = ApiKeyText::random(&prefix).map_err(|error| edit::no_randomness(&error))?;
    let secret = secret(&edge, (&prefix, &text))?;
    let id = new_id().map_err(|error| edit::no_randomness(&error))?;
    let record =
        ApiKeyRecord { id: id.into(), key, secrets: vec![secret], created_at: now, revision: 0 };
    let change = Change { edge: &edge, principal: &by.principal, what: "create api key" };
    change.write(None, Some(&record)).await?.ok_or_else(edit::conflict)?;
    Ok(Created(CreatedBody::of(&text, ApiKeyBody::of(&record, None, peppers))))
}

/// Changes some fields of an API key.
async fn patch(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(id): UrlPath<String>,
    patch: MergePatch<ApiKeyForm>,
) -> Result<Json<ApiKeyBody>, Problem> {
    let change = Change { edge: &edge, principal: &by.principal, what: "patch api key" };
    let record = change
        .apply(&id, |before| {
            let form = patch.apply(&ApiKeyForm::from(&before.key))?;
            if *form.caller != *before.key.caller {
                let detail = "the caller of an API key can't be changed; create another API key";
                return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
            }
            edit::check_tier(&edge, &form)?;
            Ok(ApiKeyRecord { key: edit::checked(&form)?, ..before.clone() })
        })
        .await?;
    Ok(Json(shown(keys(&edge)?, &record).await))
}

/// Replaces the text of an API key.
async fn rotate(
    by: Authorized<Admin>,
    State(edge): State<Edge>,
    UrlPath(id): UrlPath<String>,
    JsonObject(form): JsonObject<RotateForm>,
) -> Result<Json<CreatedBody>, Problem> {
    let overlap = form.checked_overlap()?;
    let change = Change { edge: &edge, principal: &by.principal, what: "rotate api key" };
    let known = keys(&edge)?.store.read(&id).await?.ok_or_else(|| edit::unknown(&id))?;
    let prefix = edit::prefix_of(&known);
    let text = ApiKeyText::random(&prefix).map_err(|error| edit::no_randomness(&error))?;
    let secret = secret(&edge, (&prefix, &text))?;
    let record = change
        .apply(&id, |before| {
            let mut after = before.clone();
            let now = secret.created_at;
            after.rotate(secret.clone(), now.after(overlap), now);
            Ok(after)
        })
        .await?;
    Ok(Json(CreatedBody::of(&text, shown(keys(&edge)?, &record).await)))
}

/// Deletes an API key.
async fn remove(
    by: Authorized<Admin>,
    State(edge): State<Edge>,
    UrlPath(id): UrlPath<String>,
) -> Result<NoContent, Problem> {
    let change = Change { edge: &edge, principal: &by.principal, what: "delete api key" };
    change.remove(&id).await?;
    Ok(NoContent)
}

/// What is shown of a record that was changed. Its change is told also if its last use can't be read.
async fn shown(keys: &ApiKeys, record: &ApiKeyRecord) -> ApiKeyBody {
    let last_use = keys.last_uses(&[&record.id]).await;
    let last_use = last_use.ok().and_then(|uses| uses.into_iter().next().flatten());
    ApiKeyBody::of(record, last_use, &keys.peppers)
}

/// The secret of a new text.
fn secret(edge: &Edge, (prefix, text): (&str, &ApiKeyText)) -> Result<ApiKeySecret, Problem> {
    let peppers = &keys(edge)?.peppers;
    let hash = peppers.hashes(text.expose()).first().copied();
    let hash = hash.ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no pepper"))?;
    Ok(ApiKeySecret {
        hash,
        hint: hint_of(prefix, text),
        pepper: peppers.mark().to_owned(),
        created_at: edge.engine.now(),
        until: None,
    })
}
