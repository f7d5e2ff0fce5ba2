//! Problem documents (RFC 9457): the answers to failed requests.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    /// The reason, as a clause.
    pub detail: String,
    /// A code for programs, if the status alone is not precise enough.
    pub code: Option<&'static str>,
    /// The limit that would refuse the request.
    pub limit: Option<String>,
    /// Time until the same request may pass.
    pub retry_after: Option<Duration>,
}

/// A problem as a JSON document.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub struct Document<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    /// A code for programs, if the status alone is not precise enough: `QUOTA_EXCEEDED`, `QUOTA_NOT_FOUND`, `QUOTA_CHANGED`,
    /// `IDEMPOTENCY_CONFLICT`, `RESERVATION_CONFLICT`, `RESERVATION_NOT_FOUND`, `INVALID_RESOURCE_TYPE` or
    /// `INSUFFICIENT_PERMISSIONS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    /// The limit that would refuse the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    /// Milliseconds until the same request may pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Problem {
    /// A problem with that status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), code: None, limit: None, retry_after: None }
    }

    /// The same problem with a code for programs.
    pub fn coded(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The status and the code, without the names that the detail may have.
    pub fn reason(&self) -> String {
        let code = self.code.map_or_else(String::new, |code| format!(" ({code})"));
        format!("{}{code}", self.status)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            // Only the status identifies the kind of problem.
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            limit: self.limit.as_deref(),
            retry_after_ms: self
                .retry_after
                .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        };
        let content_type = HeaderValue::from_static("application/problem+json");
        let seconds = self.retry_after.map(|wait| wait.as_millis().div_ceil(1_000).to_string());
        let retry_after = seconds.and_then(|seconds| HeaderValue::try_from(seconds).ok());
        let mut response =
            (self.status, [(header::CONTENT_TYPE, content_type)], Json(document)).into_response();
        if let Some(retry_after) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, retry_after);
        }
        response
    }
}
