//! What keeps a page from being shown: there is no session, or the request is refused or fails.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::link::encoded;
use super::page::bare;
use super::view;
use crate::http::auth::Refusal;
use crate::http::problem::Problem;

/// The page of the login.
pub const LOGIN: &str = "/dashboard/login";

/// Why there is no page.
#[derive(Clone, Debug)]
pub enum Failure {
    /// Somebody has to log in, and may then go on to the page `next`.
    Login {
        next: String,
    },
    Refused {
        status: StatusCode,
        reason: String,
    },
}

impl Failure {
    /// A failure with that status.
    pub fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self::Refused { status, reason: reason.into() }
    }

    /// The role is too low.
    pub fn refused(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Unknown(reason) => Self::new(StatusCode::UNAUTHORIZED, *reason),
            Refusal::Forbidden(reason) => Self::new(StatusCode::FORBIDDEN, reason),
        }
    }

    /// The same, without a page to go on to: that of a form can't be opened.
    pub fn without_next(self) -> Self {
        match self {
            Self::Login { .. } => Self::Login { next: String::new() },
            refused @ Self::Refused { .. } => refused,
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::new(problem.status, problem.detail)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Login { next } => {
                let next = if next.is_empty() { next } else { format!("?next={}", encoded(&next)) };
                let location = HeaderValue::try_from(format!("{LOGIN}{next}"));
                let location = location.unwrap_or(HeaderValue::from_static(LOGIN));
                (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
            }
            Self::Refused { status, reason } => {
                let title = status.canonical_reason().unwrap_or("Error");
                let page = bare(title, &view::layout::failure(title, &reason));
                (status, page).into_response()
            }
        }
    }
}
