//! The login by a token of the API, and its end.

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::failure::{Failure, LOGIN};
use super::page::{Page, bare};
use super::view;
use super::visitor::{
    Submitted, new_session, no_session_cookie, own_form, session_cookie, session_of, stranger,
};
use crate::api_token::{ApiToken, Role};
use crate::http::edge::Edge;

const HOME: &str = "/dashboard";
const OWN_PAGE: &str = "/me";

#[derive(Debug, Default, Deserialize)]
pub struct LoginQuery {
    #[serde(default)]
    next: String,
}

#[derive(Debug, Deserialize)]
struct LoginForm {
    token: String,
    #[serde(default)]
    next: String,
}

#[derive(Debug, Deserialize)]
pub struct Nothing {}

/// Shows the form.
pub async fn show(
    State(edge): State<Edge>,
    Query(query): Query<LoginQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    if edge.api.tokens.is_empty() {
        return Ok(redirect(HOME));
    }
    form(&edge, &headers, &query.next, None).map(IntoResponse::into_response)
}

/// Begins a session.
pub async fn login(State(edge): State<Edge>, request: Request) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let headers = parts.headers.clone();
    let Some(session) = session_of(&edge, &headers) else {
        let reason = "The form was too old. Try again.";
        return form(&edge, &headers, "", Some(reason)).map(IntoResponse::into_response);
    };
    let sent: LoginForm = own_form(&edge, &session, parts, body).await?;
    let Some(token) = ApiToken::find(&edge.api.tokens, sent.token.trim()) else {
        tracing::info!("login to the dashboard failed: unknown token");
        let page = form(&edge, &headers, &sent.next, Some("The token is unknown."))?;
        return Ok(page.with_status(StatusCode::UNAUTHORIZED).into_response());
    };
    tracing::info!(name = token.name(), "logged in to the dashboard");
    let session = new_session(&edge, token.name())?;
    let cookie = session_cookie(&edge, &session, &headers)?;
    let next = match token.role() {
        Role::Own => OWN_PAGE,
        _ if is_own_path(&sent.next) => &sent.next,
        _ => HOME,
    };
    Ok(with_cookie(redirect(next), cookie))
}

/// Ends a session.
pub async fn logout(
    State(edge): State<Edge>,
    headers: HeaderMap,
    Submitted { visitor, form: Nothing {} }: Submitted<Nothing>,
) -> Response {
    tracing::info!(name = visitor.principal.name, "logged out of the dashboard");
    with_cookie(redirect(LOGIN), no_session_cookie(&edge, &headers))
}

fn form(
    edge: &Edge,
    headers: &HeaderMap,
    next: &str,
    reason: Option<&str>,
) -> Result<Page, Failure> {
    let (session, cookie) = stranger(edge, headers)?;
    let key = edge.api.dashboard.as_ref().map(|dashboard| session.form_token(&dashboard.key));
    let body = view::login::form(&key.unwrap_or_default(), next, reason);
    Ok(bare("Log in", &body).with_cookie(cookie))
}

/// Whether it is a path of the dashboard, and not an address elsewhere.
fn is_own_path(next: &str) -> bool {
    let is_under = |path| {
        next.strip_prefix(path)
            .is_some_and(|rest: &str| rest.is_empty() || rest.starts_with(['/', '?']))
    };
    (is_under(HOME) || is_under(OWN_PAGE))
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

/// Sends the browser to another page.
pub fn redirect(path: &str) -> Response {
    let location = HeaderValue::try_from(path).unwrap_or(HeaderValue::from_static(HOME));
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

fn with_cookie(mut response: Response, cookie: HeaderValue) -> Response {
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_pages_of_the_dashboard_alone() {
        for path in ["/dashboard", "/dashboard/usage?by=hour", "/dashboard?x", "/me"] {
            assert!(is_own_path(path), "{path}");
        }
        for path in [
            "",
            "//evil",
            "/dashboards",
            "/dashboard\\x",
            "https://evil",
            "/metrics",
            "/dashboard/\r\nx",
        ] {
            assert!(!is_own_path(path), "{path}");
        }
    }
}
