//! `/v1/callers`: callers as JSON, in the same form as in files.

use std::convert::Infallible;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::{Admin, Authorized, Operator, Own, Viewer};
use super::change::{ChangeBy, Edit, NewNames, check_name, etag, matches_etag};
use super::edge::Edge;
use super::extract::{JsonObject, UrlPath, UrlQuery};
use super::merge_patch::MergePatch;
use super::openapi::{self, Description, Input, NO_CALLER, Operation};
use super::problem::Problem;
use super::reply::{Conditional, NoContent, Stored, Tagged};
use crate::policy::{Caller, CallerForm};
use crate::store::Record;

/// Maximum number of callers on a page.
const PAGE_LEN_MAX: usize = 1_000;
const PAGE_LEN_DEFAULT: usize = 100;

const CALLERS: &str = "/v1/callers";
const CALLER: &str = "/v1/callers/{name}";

pub fn operations() -> [Operation; 5] {
    [
        openapi::get(CALLERS, "listCallers", "List callers by name, page by page", list)
            .or([NO_CALLER]),
        openapi::get(CALLER, "getCaller", "Show a caller", read).or([NO_CALLER]),
        openapi::put(CALLER, "putCaller", "Create a caller, or replace all of it", put),
        openapi::patch(
            CALLER,
            "patchCaller",
            "Change some fields of a caller, by a JSON merge patch (RFC 7396)",
            patch,
        ),
        openapi::delete(CALLER, "deleteCaller", "Delete a caller", remove),
    ]
}

/// The query of a page.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    /// Start after this name: the `next` of the previous page.
    #[serde(default)]
    after: String,
    /// Callers on the page.
    #[serde(default = "page_len_default")]
    #[schemars(range(min = 1, max = PAGE_LEN_MAX))]
    limit: usize,
}

fn page_len_default() -> usize {
    PAGE_LEN_DEFAULT
}

/// A page of callers, ordered by name.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Page")]
pub struct PageBody {
    pub items: Vec<Item>,
    /// The `after` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A caller with its name.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Item {
    pub name: String,
    /// The caller's `ETag`; absent if the directory is in files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    pub caller: CallerForm,
}

/// The headers of a request, for `If-None-Match`.
struct IfNoneMatch(HeaderMap);

impl FromRequestParts<Edge> for IfNoneMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Edge) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.clone()))
    }
}

impl Input for IfNoneMatch {
    fn describe(description: &mut Description<'_>) {
        description.header("If-None-Match", "Answer 304 if the caller's ETag is one of these");
    }
}

/// Lists callers by page.
async fn list(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
    UrlQuery(PageQuery { after, limit }): UrlQuery<PageQuery>,
) -> Result<Json<PageBody>, Problem> {
    if !(1..=PAGE_LEN_MAX).contains(&limit) {
        let detail = format!("`limit` must be a number from 1 to {PAGE_LEN_MAX}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let page = edge.engine.directory().page(&after, limit).await?;
    let item = |(name, record): (String, Record)| {
        let etag = etag(&record);
        Item { name, etag, caller: CallerForm::from(&*record.caller) }
    };
    Ok(Json(PageBody { items: page.callers.into_iter().map(item).collect(), next: page.next }))
}

/// Shows a caller, unless the client has it already (`If-None-Match`).
async fn read(
    by: Authorized<Own>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    IfNoneMatch(headers): IfNoneMatch,
) -> Result<Conditional<CallerForm>, Problem> {
    check_name(&name)?;
    by.principal.may_read(Some(&name))?;
    let record = edge.engine.directory().read(&name).await?;
    let record = record.ok_or_else(|| unknown_caller(&name))?;
    if matches_etag(&headers, &header::IF_NONE_MATCH, Some(&record)) == Some(true) {
        return Ok(Conditional::NotModified { etag: etag(&record) });
    }
    Ok(Conditional::Modified(tagged(&record)))
}

/// Creates a caller, or replaces all of it.
pub async fn put(
    by: ChangeBy<Admin>,
    UrlPath(name): UrlPath<String>,
    names: NewNames,
    JsonObject(form): JsonObject<CallerForm>,
) -> Result<Stored<CallerForm>, Problem> {
    let edit = Edit { request: &by.request, names, action: "put", name: &name };
    let edited = edit.apply(|_| Ok(Some(form.clone()))).await?;
    let record = edited.after.ok_or_else(|| unknown_caller(&name))?;
    Ok(match edited.before {
        Some(_) => Stored::Replaced(tagged(&record)),
        None => Stored::Created(tagged(&record)),
    })
}

/// Changes some fields of a caller.
pub async fn patch(
    by: ChangeBy<Operator>,
    UrlPath(name): UrlPath<String>,
    names: NewNames,
    patch: MergePatch<CallerForm>,
) -> Result<Tagged<CallerForm>, Problem> {
    let edit = Edit { request: &by.request, names, action: "patch", name: &name };
    let edited = edit.apply(|caller| patch.apply(&form_of(caller, &name)?).map(Some)).await?;
    let record = edited.after.ok_or_else(|| unknown_caller(&name))?;
    Ok(tagged(&record))
}

/// Deletes a caller.
async fn remove(by: ChangeBy<Admin>, UrlPath(name): UrlPath<String>) -> Result<NoContent, Problem> {
    let names = NewNames::OfPolicies;
    let edit = Edit { request: &by.request, names, action: "delete", name: &name };
    edit.apply(|caller| form_of(caller, &name).map(|_| None)).await?;
    Ok(NoContent)
}

/// The form of an existing caller.
pub fn form_of(caller: Option<&Caller>, name: &str) -> Result<CallerForm, Problem> {
    caller.map(CallerForm::from).ok_or_else(|| unknown_caller(name))
}

/// A problem: the caller is unknown.
pub fn unknown_caller(name: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("unknown caller `{name}`"))
}

fn tagged(record: &Record) -> Tagged<CallerForm> {
    Tagged { etag: etag(record), body: CallerForm::from(&*record.caller) }
}
