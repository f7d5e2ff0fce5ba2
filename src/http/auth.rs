//! Authentication and authorization of the API: by a token, or by a connection from this machine.
//!
//! Without tokens, only clients on this machine may use the API, under its own host name. Requests of a browser from
//! the pages of other sites, or with a foreign host name, are refused, and so are requests through a proxy.

use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::edge::Edge;
use super::openapi::Guard;
use super::problem::Problem;
use crate::api_token::{ApiToken, LOOPBACK, Role};

/// Headers that a proxy adds.
const FORWARDED: [HeaderName; 2] = [header::FORWARDED, header::VIA];
const FORWARDED_PREFIXES: [&str; 3] = ["x-forwarded-", "x-envoy-", "x-real-ip"];

/// The code of the problem for an insufficient role.
const FORBIDDEN_CODE: &str = "INSUFFICIENT_PERMISSIONS";

/// A role as a type, for [`Authorized`].
pub trait RequiredRole {
    const ROLE: Role;
}

/// At least [`Role::Own`]: the handler asks [`Principal::may_read`].
#[derive(Debug)]
pub struct Own;

/// At least [`Role::Viewer`].
#[derive(Debug)]
pub struct Viewer;

/// At least [`Role::Operator`].
#[derive(Debug)]
pub struct Operator;

/// [`Role::Admin`].
#[derive(Debug)]
pub struct Admin;

impl RequiredRole for Own {
    const ROLE: Role = Role::Own;
}

impl RequiredRole for Viewer {
    const ROLE: Role = Role::Viewer;
}

impl RequiredRole for Operator {
    const ROLE: Role = Role::Operator;
}

impl RequiredRole for Admin {
    const ROLE: Role = Role::Admin;
}

/// A request from a principal that has the role `R` or a higher one.
#[derive(Debug)]
pub struct Authorized<R> {
    pub principal: Principal,
    role: PhantomData<R>,
}

/// The sender of a request, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The name of the token, or [`LOOPBACK`].
    pub name: String,
    pub role: Role,
    /// Its address, or that of the last proxy.
    pub peer: Option<IpAddr>,
}

impl Principal {
    /// For the role `self`: refuses access to callers other than the one with the principal's name.
    pub fn may_read(&self, caller: Option<&str>) -> Result<(), Problem> {
        if self.role == Role::Own && caller != Some(&self.name) {
            let detail = format!("`{0}` may only read what is of the caller `{0}`", self.name);
            return Err(Problem::new(StatusCode::FORBIDDEN, detail).coded(FORBIDDEN_CODE));
        }
        Ok(())
    }
}

/// The reason for a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The token is missing or unknown.
    Unknown(&'static str),
    /// The role of the principal is insufficient.
    Forbidden(String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown(reason) => {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                (challenge, Problem::new(StatusCode::UNAUTHORIZED, reason)).into_response()
            }
            Self::Forbidden(reason) => {
                let problem = Problem::new(StatusCode::FORBIDDEN, reason);
                problem.coded(FORBIDDEN_CODE).into_response()
            }
        }
    }
}

impl<R: RequiredRole> Guard for Authorized<R> {
    const ROLE: Role = R::ROLE;
}

impl<R: RequiredRole> FromRequestParts<Edge> for Authorized<R> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Refusal> {
        let peer = parts.extensions.get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| *peer);
        let peer = peer.map(|peer| peer.ip());
        let principal = authenticate(&edge.api.tokens, peer, &parts.uri, &parts.headers)?;
        Self::of(principal)
    }
}

impl<R: RequiredRole> Authorized<R> {
    /// A principal that has the role.
    ///
    /// # Errors
    /// If its role is lower.
    pub fn of(principal: Principal) -> Result<Self, Refusal> {
        if principal.role < R::ROLE {
            let (needed, Principal { name, role, .. }) = (R::ROLE, principal);
            let reason = format!("the role {needed} is required; the role of `{name}` is {role}");
            return Err(Refusal::Forbidden(reason));
        }
        Ok(Self { principal, role: PhantomData })
    }
}

/// The principal: by a token if there are `tokens`, else by a connection from this machine.
fn authenticate(
    tokens: &[ApiToken],
    peer: Option<IpAddr>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Principal, Refusal> {
    if tokens.is_empty() {
        check_local(peer, uri, headers).map_err(|reason| Refusal::Forbidden(reason.to_owned()))?;
        return Ok(Principal { name: LOOPBACK.to_owned(), role: Role::Admin, peer });
    }
    let text = bearer(headers).ok_or(Refusal::Unknown("a bearer token is required"))?;
    let token = ApiToken::find(tokens, text).ok_or(Refusal::Unknown("unknown bearer token"))?;
    Ok(Principal { name: token.name().to_owned(), role: token.role(), peer })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Refuses requests that are not from this machine itself.
///
/// # Errors
/// The reason.
pub fn check_local(
    peer: Option<IpAddr>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), &'static str> {
    if !peer.is_some_and(|peer| peer.to_canonical().is_loopback()) {
        return Err("without api_tokens, only requests from this machine are allowed");
    }
    let passed_on = |name: &HeaderName| {
        FORWARDED.contains(name)
            || FORWARDED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
    };
    if headers.keys().any(passed_on) {
        return Err("without api_tokens, requests through a proxy are not allowed");
    }
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    if ![host, uri.authority().map(|name| name.as_str())].into_iter().flatten().all(is_local) {
        return Err(
            "without api_tokens, the Host must be this machine's own name, such as localhost",
        );
    }
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let authority = |origin| Some(str::split_once(origin, "://")?.1);
    if origin.is_some_and(|origin| authority(origin) != host) {
        return Err("without api_tokens, requests from pages of other sites are not allowed");
    }
    Ok(())
}

/// Whether a host, with or without a port, is a name of this machine and of no other.
fn is_local(host: &str) -> bool {
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        pairs.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
    }

    #[test]
    fn a_token_is_known_by_its_hash() {
        let token = ApiToken::new("ops", Role::Operator, "secret");
        let ask = |authorization: &str| {
            let headers = headers(&[("authorization", authorization)]);
            let tokens = [ApiToken::new("other", Role::Admin, "x"), token.clone()];
            authenticate(&tokens, None, &Uri::from_static("/"), &headers)
                .map(|principal| principal.role)
        };
        assert_eq!(ask("Bearer secret"), Ok(Role::Operator));
        assert_eq!(ask("bearer  secret"), Ok(Role::Operator));
        for wrong in ["Bearer secre", "Bearer secrets", "Basic secret", "secret", ""] {
            assert!(matches!(ask(wrong), Err(Refusal::Unknown(_))), "{wrong}");
        }
    }

    #[test]
    fn without_tokens_only_this_machine_itself_is_served() {
        let check = |peer: &str, pairs: &[(&'static str, &str)], is_served: bool| {
            let peer = Some(peer.parse().unwrap());
            let principal =
                authenticate(&[], peer, &Uri::from_static("/v1/callers"), &headers(pairs));
            assert_eq!(principal.is_ok(), is_served, "{peer:?} {pairs:?}");
        };
        let here = ("host", "localhost:8080");
        check("127.0.0.1", &[here], true);
        check("::1", &[("host", "[::1]:8080")], true);
        check("::ffff:127.0.0.1", &[("host", "127.0.0.1")], true);
        check("127.0.0.1", &[], true);
        check("10.0.0.1", &[here], false);
        check("127.0.0.1", &[("host", "evil.example:8080")], false);
        check("127.0.0.1", &[("host", "127.0.0.1.evil.example")], false);
        check("127.0.0.1", &[here, ("x-forwarded-for", "10.0.0.1")], false);
        check("127.0.0.1", &[here, ("forwarded", "for=10.0.0.1")], false);
        check("127.0.0.1", &[here, ("x-envoy-external-address", "10.0.0.1")], false);
        check("127.0.0.1", &[here, ("origin", "http://localhost:8080")], true);
        check("127.0.0.1", &[here, ("origin", "http://evil.example")], false);
        check("127.0.0.1", &[here, ("origin", "null")], false);
        let uri = Uri::from_static("http://evil.example/v1/callers");
        let peer = Some("127.0.0.1".parse().unwrap());
        assert!(authenticate(&[], peer, &uri, &headers(&[here])).is_err());
        assert!(authenticate(&[], None, &Uri::from_static("/"), &headers(&[here])).is_err());
    }
}
