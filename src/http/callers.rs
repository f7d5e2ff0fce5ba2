//! `/v1/callers`: what is known of callers, as JSON in the form that files have.

use axum::Json;
use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::extract::rejection::PathRejection;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::change::Edit;
use super::change::Force;
use super::change::NewNames;
use super::change::check_name;
use super::change::etag;
use super::change::names;
use super::edge::Asked;
use super::edge::Edge;
use super::problem::Problem;
use crate::policy::CallerForm;
use crate::store::Record;

/// Callers on a page.
const PAGE_LEN_MAX: usize = 1_000;
const PAGE_LEN_DEFAULT: usize = 100;

/// Which page is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    #[serde(default)]
    after: String,
    limit: Option<usize>,
}

/// Some callers, in the order of their names.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Page")]
pub struct PageBody {
    items: Vec<Item>,
    /// What to ask for `after` to get the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A caller with its name.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Item {
    name: String,
    /// The caller's `ETag`; absent where files are the directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    caller: CallerForm,
}

/// A body that may not have arrived.
pub type Body = Result<Bytes, BytesRejection>;

/// What a path holds, if it is UTF-8.
pub type Parts<T> = Result<Path<T>, PathRejection>;

/// Lists callers by page.
pub async fn list(
    State(edge): State<Edge>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<PageBody>, Problem> {
    let Query(query) = query.map_err(|wrong| Problem::new(wrong.status(), wrong.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE_LEN_DEFAULT);
    if !(1..=PAGE_LEN_MAX).contains(&limit) {
        let detail = format!("`limit` is a number from 1 to {PAGE_LEN_MAX}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let page = edge.engine.directory().page(&query.after, limit).await?;
    let item = |(name, record): (String, Record)| {
        let etag = etag(&record);
        Item { name, etag, caller: CallerForm::from(&*record.caller) }
    };
    Ok(Json(PageBody { items: page.callers.into_iter().map(item).collect(), next: page.next }))
}

/// Tells what is known of a caller.
pub async fn read(
    State(edge): State<Edge>,
    name: Parts<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = part(name)?;
    check_name(&name)?;
    let record = edge.engine.directory().read(&name).await?.ok_or_else(|| absent(&name))?;
    if names(&headers, &header::IF_NONE_MATCH, Some(&record)) == Some(true) {
        return Ok((StatusCode::NOT_MODIFIED, tagged(&record)).into_response());
    }
    Ok(shown(StatusCode::OK, &record))
}

/// Says all that is known of a caller from now on.
pub async fn put(
    asked: Asked,
    name: Parts<String>,
    force: Force,
    body: Body,
) -> Result<Response, Problem> {
    let (name, names) = (part(name)?, NewNames::of(force)?);
    let form: CallerForm = json(body)?;
    let edit = Edit { asked: &asked, names, what: "put", name: &name };
    let made = edit.make(|_| Ok(Some(form.clone()))).await?;
    let status = if made.before.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    let record = made.after.ok_or_else(|| absent(&name))?;
    Ok(shown(status, &record))
}

/// Changes some of what is known of a caller, by a JSON merge patch (RFC 7396).
pub async fn patch(
    asked: Asked,
    name: Parts<String>,
    force: Force,
    body: Body,
) -> Result<Response, Problem> {
    let (name, names) = (part(name)?, NewNames::of(force)?);
    let patch: Value = json(body)?;
    let edit = Edit { asked: &asked, names, what: "patch", name: &name };
    let made = edit.make(|caller| {
        let caller = caller.ok_or_else(|| absent(&name))?;
        let mut form = serde_json::to_value(CallerForm::from(caller)).expect("a form is JSON");
        merge(&mut form, &patch);
        let wrong = |error: serde_json::Error| bad_request(&error.to_string());
        serde_json::from_value(form).map(Some).map_err(wrong)
    });
    let record = made.await?.after.ok_or_else(|| absent(&name))?;
    Ok(shown(StatusCode::OK, &record))
}

/// Forgets a caller.
pub async fn remove(asked: Asked, name: Parts<String>) -> Result<StatusCode, Problem> {
    let name = part(name)?;
    let edit = Edit { asked: &asked, names: NewNames::OfPolicies, what: "delete", name: &name };
    edit.make(|caller| caller.map(|_| None).ok_or_else(|| absent(&name))).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a path holds.
pub fn part<T>(path: Parts<T>) -> Result<T, Problem> {
    path.map(|Path(part)| part).map_err(|wrong| Problem::new(wrong.status(), wrong.body_text()))
}

/// Reads a body as a JSON object, whatever type it is declared as. Without a look at its beginning, a list
/// would be read too: as the fields in their order.
pub fn json<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let body = body.map_err(|wrong| Problem::new(wrong.status(), wrong.body_text()))?;
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(bad_request("the body is not a JSON object"));
    }
    serde_json::from_slice(&body).map_err(|error| bad_request(&error.to_string()))
}

/// Says that there is no such caller.
pub fn absent(name: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no caller `{name}`"))
}

fn bad_request(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

fn shown(status: StatusCode, record: &Record) -> Response {
    (status, tagged(record), Json(CallerForm::from(&*record.caller))).into_response()
}

/// The headers that say which revision it is.
fn tagged(record: &Record) -> HeaderMap {
    let tag = etag(record).and_then(|tag| HeaderValue::try_from(tag).ok());
    tag.into_iter().map(|tag| (header::ETAG, tag)).collect()
}

/// Applies a merge patch: null takes a field away, a map goes into a map, anything else replaces.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_merge_patch_does_as_the_standard_says() {
        let check = |mut target: Value, patch: Value, expected: Value| {
            merge(&mut target, &patch);
            assert_eq!(target, expected, "{patch}");
        };
        // The examples of RFC 7396, appendix A.
        check(json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"}));
        check(json!({"a": "b"}), json!({"a": null}), json!({}));
        check(json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"}));
        check(json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]}));
        check(
            json!({"a": {"b": "c"}}),
            json!({"a": {"b": "d", "c": null}}),
            json!({"a": {"b": "d"}}),
        );
        check(json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]}));
        check(json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"]));
        check(json!({"a": "b"}), json!(["c"]), json!(["c"]));
        check(json!({"a": "foo"}), json!(null), json!(null));
        check(json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1}));
        check(json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"}));
        check(json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}}));
    }
}
