//! A page: its HTML, and the headers that keep a browser from loading, running, framing or keeping anything else.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::Markup;

use super::session::nonce;
use super::view::layout::{self, Frame, Section};
use crate::http::auth::Principal;

/// No page may show it in a frame.
const NOBODY: &str = "'none'";

/// A page.
#[derive(Debug)]
pub struct Page {
    status: StatusCode,
    cookie: Option<HeaderValue>,
    frame_ancestors: String,
    html: Result<(String, String), getrandom::Error>,
}

impl Page {
    /// A page of the dashboard for a principal, and its form token.
    pub fn of_principal(
        principal: (&Principal, &str),
        (section, title): (Section, &str),
        body: &Markup,
    ) -> Self {
        Self::of(&Frame { title, section: Some(section), principal: Some(principal) }, body)
    }

    /// With a cookie.
    pub fn with_cookie(self, cookie: HeaderValue) -> Self {
        Self { cookie: Some(cookie), ..self }
    }

    /// With that status.
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Pages of these origins may show it in a frame.
    pub fn framed_by(self, origins: &[String]) -> Self {
        match origins {
            [] => self,
            origins => Self { frame_ancestors: origins.join(" "), ..self },
        }
    }

    fn of(frame: &Frame<'_>, body: &Markup) -> Self {
        let html = nonce().map(|nonce| {
            let html = layout::page(frame, &nonce, body).into_string();
            (nonce, html)
        });
        Self { status: StatusCode::OK, cookie: None, frame_ancestors: NOBODY.to_owned(), html }
    }
}

/// A page without the frame of the dashboard, such as the login.
pub fn bare(title: &str, body: &Markup) -> Page {
    Page::of(&Frame { title, section: None, principal: None }, body)
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let Ok((nonce, html)) = self.html else {
            return (StatusCode::INTERNAL_SERVER_ERROR, "no random bytes").into_response();
        };
        let policy = format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self'; \
             connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors {}",
            self.frame_ancestors
        );
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value: HeaderValue| {
            headers.insert(name, value);
        };
        set(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        set(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        set(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        set(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        let opener = HeaderName::from_static("cross-origin-opener-policy");
        set(opener, HeaderValue::from_static("same-origin"));
        let denies = HeaderValue::from_static("default-src 'none'");
        set(header::CONTENT_SECURITY_POLICY, HeaderValue::try_from(policy).unwrap_or(denies));
        if self.frame_ancestors == NOBODY {
            set(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        }
        if let Some(cookie) = self.cookie {
            set(header::SET_COOKIE, cookie);
        }
        (self.status, headers, html).into_response()
    }
}
