//! Answers of the API, with their statuses and bodies for the OpenAPI document.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::openapi::{Description, Output};

/// Success without a body.
#[derive(Clone, Copy, Debug)]
pub struct NoContent;

/// A created resource.
#[derive(Debug)]
pub struct Created<T>(pub T);

/// A resource with the `ETag` of its revision, if it has one.
#[derive(Debug)]
pub struct Tagged<T> {
    pub etag: Option<String>,
    pub body: T,
}

/// A resource, or 304 if `If-None-Match` has its revision.
#[derive(Debug)]
pub enum Conditional<T> {
    Modified(Tagged<T>),
    NotModified { etag: Option<String> },
}

/// A resource that was created, or that has replaced one.
#[derive(Debug)]
pub enum Stored<T> {
    Created(Tagged<T>),
    Replaced(Tagged<T>),
}

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl Output for NoContent {
    fn describe(description: &mut Description<'_>) {
        description.empty_answer(204, "");
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Json(self.0)).into_response()
    }
}

impl<T: JsonSchema> Output for Created<T> {
    fn describe(description: &mut Description<'_>) {
        description.answer::<T>(201);
    }
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        (headers(self.etag), Json(self.body)).into_response()
    }
}

impl<T: JsonSchema> Output for Tagged<T> {
    fn describe(description: &mut Description<'_>) {
        describe_tagged::<T>(description, 200);
    }
}

impl<T: Serialize> IntoResponse for Conditional<T> {
    fn into_response(self) -> Response {
        match self {
            Self::Modified(tagged) => tagged.into_response(),
            Self::NotModified { etag } => (StatusCode::NOT_MODIFIED, headers(etag)).into_response(),
        }
    }
}

impl<T: JsonSchema> Output for Conditional<T> {
    fn describe(description: &mut Description<'_>) {
        Tagged::<T>::describe(description);
        description.empty_answer(304, "The revision matches If-None-Match");
    }
}

impl<T: Serialize> IntoResponse for Stored<T> {
    fn into_response(self) -> Response {
        match self {
            Self::Created(tagged) => (StatusCode::CREATED, tagged).into_response(),
            Self::Replaced(tagged) => tagged.into_response(),
        }
    }
}

impl<T: JsonSchema> Output for Stored<T> {
    fn describe(description: &mut Description<'_>) {
        Tagged::<T>::describe(description);
        describe_tagged::<T>(description, 201);
    }
}

fn headers(etag: Option<String>) -> HeaderMap {
    let etag = etag.and_then(|etag| HeaderValue::try_from(etag).ok());
    etag.into_iter().map(|etag| (header::ETAG, etag)).collect()
}

fn describe_tagged<T: JsonSchema>(description: &mut Description<'_>, status: u16) {
    let etag = json!({ "description": "The revision", "schema": { "type": "string" } });
    description.answer::<T>(status)["headers"] = json!({ "ETag": etag });
}
