//! Extractors for handlers of the API: the path, the query and a JSON body. Invalid input is a problem.

use std::convert::Infallible;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::edge::Edge;
use super::openapi::{Description, Input};
use super::problem::Problem;

/// The state of a handler that answers whatever else is unavailable: it asks this process alone, or does without the answer of
/// the store.
#[derive(Debug)]
pub struct AlwaysAvailable(pub Edge);

/// The parameters of the path.
#[derive(Debug)]
pub struct UrlPath<T>(pub T);

/// The parameters of the query.
#[derive(Debug)]
pub struct UrlQuery<T>(pub T);

/// A body that is a JSON object, regardless of its content type.
#[derive(Debug)]
pub struct JsonObject<T>(pub T);

/// A [`JsonObject`] whose fields all have defaults: a request without a body has these.
#[derive(Debug)]
pub struct OptionalJsonObject<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Edge> for UrlPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        let Path(path) = Path::from_request_parts(parts, edge).await?;
        Ok(Self(path))
    }
}

impl<T> Input for UrlPath<T> {
    /// The path describes its own parameters.
    fn describe(_: &mut Description<'_>) {}
}

impl<T: DeserializeOwned> FromRequestParts<Edge> for UrlQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        let Query(query) = Query::from_request_parts(parts, edge).await?;
        Ok(Self(query))
    }
}

impl<T: JsonSchema> Input for UrlQuery<T> {
    fn describe(description: &mut Description<'_>) {
        description.query::<T>();
    }
}

impl<T: DeserializeOwned> FromRequest<Edge> for JsonObject<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, edge: &Edge) -> Result<Self, Problem> {
        parse(&Bytes::from_request(request, edge).await?).map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<Edge> for OptionalJsonObject<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, edge: &Edge) -> Result<Self, Problem> {
        let body = Bytes::from_request(request, edge).await?;
        parse(if body.is_empty() { b"{}" } else { &body }).map(Self)
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde would also accept a list, as the fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        let detail = match body {
            [] => "the body is empty; it must be a JSON object",
            _ => "the body is not a JSON object",
        };
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    Ok(serde_json::from_slice(body)?)
}

impl<T: JsonSchema> Input for JsonObject<T> {
    fn describe(description: &mut Description<'_>) {
        description.body::<T>();
    }
}

impl<T: JsonSchema> Input for OptionalJsonObject<T> {
    fn describe(description: &mut Description<'_>) {
        description.optional_body::<T>();
    }
}

impl Input for State<Edge> {
    /// What a handler needs it for may be unavailable.
    fn describe(description: &mut Description<'_>) {
        description.usual_problem("503", "The store, or the audit log, is unavailable");
    }
}

impl FromRequestParts<Edge> for AlwaysAvailable {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, edge: &Edge) -> Result<Self, Infallible> {
        Ok(Self(edge.clone()))
    }
}

impl Input for AlwaysAvailable {
    fn describe(_: &mut Description<'_>) {}
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

/// A body that is not JSON, or has another type.
impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}
