//! The visitor of a page: who asks, by the session in the cookie; and forms, which only the own pages can send.

use std::net::SocketAddr;

use axum::Form;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use maud::Markup;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use super::page::Page;
use super::session::{SESSION_S, Session};
use super::site::Dashboard;
use super::view::layout::Section;
use crate::api_token::{ApiToken, LOOPBACK, Role};
use crate::http::auth::{Authorized, Principal, RequiredRole, check_local};
use crate::http::edge::Edge;

const COOKIE: &str = "tollgate_session";

/// What the session of a principal without a token depends on.
const NO_SECRET: &str = "";

/// The visitor of a page.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub principal: Principal,
    pub session: Session,
    /// The token that forms must send back.
    pub form_token: String,
    /// A cookie for a new session.
    pub cookie: Option<HeaderValue>,
}

/// A form that a visitor has sent from a page of this process.
#[derive(Debug)]
pub struct Submitted<T> {
    pub visitor: Visitor,
    pub form: T,
}

#[derive(Debug, Deserialize)]
struct FormToken {
    form_token: String,
}

impl Visitor {
    /// The same principal with the role `R`.
    pub fn authorized<R: RequiredRole>(&self) -> Result<Authorized<R>, Failure> {
        Authorized::of(self.principal.clone()).map_err(|refusal| Failure::refused(&refusal))
    }

    /// A page for the visitor.
    pub fn page(&self, section: Section, title: &str, body: &Markup) -> Page {
        let page = Page::of_principal((&self.principal, &self.form_token), (section, title), body);
        match &self.cookie {
            Some(cookie) => page.with_cookie(cookie.clone()),
            None => page,
        }
    }

    /// Whether the principal has at least this role.
    pub fn may(&self, role: Role) -> bool {
        role <= self.principal.role
    }
}

impl FromRequestParts<Edge> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Failure> {
        let dashboard = dashboard(edge)?;
        let peer = parts.extensions.get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| *peer);
        let peer = peer.map(|peer| peer.ip());
        let session = session_of(edge, &parts.headers);
        if edge.api.tokens.is_empty() {
            check_local(peer, &parts.uri, &parts.headers)
                .map_err(|reason| Failure::new(StatusCode::FORBIDDEN, reason))?;
            let known = session.filter(|session| session.name == LOOPBACK);
            let principal = Principal { name: LOOPBACK.to_owned(), role: Role::Admin, peer };
            let (session, cookie) = match known {
                Some(session) => (session, None),
                None => {
                    let session = new_session(edge, LOOPBACK)?;
                    let cookie = session_cookie(edge, &session, &parts.headers)?;
                    (session, Some(cookie))
                }
            };
            let form_token = session.form_token(&dashboard.key);
            return Ok(Self { principal, session, form_token, cookie });
        }
        let login = || Failure::Login {
            next: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        };
        let session = session.ok_or_else(login)?;
        let tokens = &edge.api.tokens;
        let token = tokens.iter().find(|token| token.name() == session.name).ok_or_else(login)?;
        let principal = Principal { name: session.name.clone(), role: token.role(), peer };
        let form_token = session.form_token(&dashboard.key);
        Ok(Self { principal, session, form_token, cookie: None })
    }
}

impl<T: DeserializeOwned> FromRequest<Edge> for Submitted<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, edge: &Edge) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, edge).await;
        let visitor = visitor.map_err(Failure::without_next)?;
        let form = own_form(edge, &visitor.session, parts, body).await?;
        Ok(Self { visitor, form })
    }
}

/// A form, if a page of this session sent it.
///
/// # Errors
/// If another page did, or the form is invalid.
pub async fn own_form<T: DeserializeOwned>(
    edge: &Edge,
    session: &Session,
    parts: Parts,
    body: Body,
) -> Result<T, Failure> {
    check_origin(&parts.headers)?;
    let body = Bytes::from_request(Request::from_parts(parts.clone(), body), edge).await;
    let body = body.map_err(|error| Failure::new(error.status(), error.body_text()))?;
    let request = || Request::from_parts(parts.clone(), Body::from(body.clone()));
    let token = Form::<FormToken>::from_request(request(), edge).await;
    let Form(FormToken { form_token }) = token.map_err(|_| foreign_form())?;
    if !session.has_form_token(&dashboard(edge)?.key, &form_token) {
        return Err(foreign_form());
    }
    let form = Form::<T>::from_request(request(), edge).await;
    form.map(|Form(form)| form).map_err(|error| Failure::new(error.status(), error.body_text()))
}

/// The session of a visitor before the login, and its cookie.
///
/// # Errors
/// If the system has no random bytes.
pub fn stranger(edge: &Edge, headers: &HeaderMap) -> Result<(Session, HeaderValue), Failure> {
    let session = new_session(edge, "")?;
    let cookie = session_cookie(edge, &session, headers)?;
    Ok((session, cookie))
}

/// The session of the cookie.
pub fn session_of(edge: &Edge, headers: &HeaderMap) -> Option<Session> {
    let key = &edge.api.dashboard.as_ref()?.key;
    let secret_of = |name: &str| secret_of(edge, name);
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(name, text)| {
        (name.trim() == COOKIE)
            .then(|| Session::read(text.trim(), key, edge.engine.now(), secret_of))?
    })
}

/// A new session.
///
/// # Errors
/// If the system has no random bytes.
pub fn new_session(edge: &Edge, name: &str) -> Result<Session, Failure> {
    Session::new(name, edge.engine.now()).map_err(|error| {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("no random bytes: {error}"))
    })
}

/// The cookie of a session, which scripts can't read, and which requests from other sites don't have.
///
/// # Errors
/// If the dashboard is off.
pub fn session_cookie(
    edge: &Edge,
    session: &Session,
    headers: &HeaderMap,
) -> Result<HeaderValue, Failure> {
    let secret = secret_of(edge, &session.name).unwrap_or_default();
    let text = session.text(&dashboard(edge)?.key, &secret);
    Ok(cookie(edge, headers, &text, SESSION_S))
}

/// The cookie that ends a session.
pub fn no_session_cookie(edge: &Edge, headers: &HeaderMap) -> HeaderValue {
    cookie(edge, headers, "", 0)
}

fn cookie(edge: &Edge, headers: &HeaderMap, text: &str, age_s: u64) -> HeaderValue {
    let has_tls = edge.api.dashboard.as_ref().is_some_and(|dashboard| dashboard.has_tls);
    // A proxy that ends TLS says so; if a client does, it harms itself alone.
    let by_proxy = headers.get("x-forwarded-proto").is_some_and(|value| value == "https");
    let secure = if has_tls || by_proxy { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={text}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age_s}{secure}");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// What the session of a name depends on: the hash of its token. None if there is no such name.
fn secret_of(edge: &Edge, name: &str) -> Option<String> {
    let tokens = &edge.api.tokens;
    match name {
        "" => Some(NO_SECRET.to_owned()),
        LOOPBACK => tokens.is_empty().then(|| NO_SECRET.to_owned()),
        _ => tokens.iter().find(|token| token.name() == name).map(ApiToken::to_string),
    }
}

/// Refuses what the browser says comes from a page of another site.
fn check_origin(headers: &HeaderMap) -> Result<(), Failure> {
    let text =
        |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    let site = text(HeaderName::from_static("sec-fetch-site"));
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(foreign_form());
    }
    let host = text(header::HOST);
    let origin = text(header::ORIGIN);
    let is_own = origin.is_none_or(|origin| {
        origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host)
    });
    if is_own { Ok(()) } else { Err(foreign_form()) }
}

fn foreign_form() -> Failure {
    let reason = "the form is not from a page of this session; open the page again and repeat it";
    Failure::new(StatusCode::FORBIDDEN, reason)
}

fn dashboard(edge: &Edge) -> Result<&Dashboard, Failure> {
    edge.api
        .dashboard
        .as_deref()
        .ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "the dashboard is off"))
}
