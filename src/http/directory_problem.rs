//! The problem of a directory of callers that fails.

use std::error::Error;

use axum::http::StatusCode;

use super::problem::Problem;
use crate::store::{DirectoryError, EmbeddedError};

impl From<DirectoryError> for Problem {
    fn from(error: DirectoryError) -> Self {
        let status = match &error {
            DirectoryError::None => StatusCode::NOT_FOUND,
            DirectoryError::Files => StatusCode::CONFLICT,
            DirectoryError::Store(_) | DirectoryError::Embedded(EmbeddedError::File(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            DirectoryError::Embedded(EmbeddedError::Full { .. }) => {
                StatusCode::INSUFFICIENT_STORAGE
            }
        };
        Self::new(status, reason(&error))
    }
}

/// The error with its cause, for example that Redis is a replica.
pub fn reason(error: &DirectoryError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
