//! Who may use the API, and as what.
//!
//! Without tokens the API serves who asks from this machine, by its own name and for itself:
//! a browser that was led here by another site's name or page is not that, nor is what a proxy passed on.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use crate::api_token::{ApiToken, LOOPBACK, Role};

/// Headers that say that a request was passed on.
const FORWARDED: [HeaderName; 2] = [header::FORWARDED, header::VIA];
const FORWARDED_PREFIXES: [&str; 3] = ["x-forwarded-", "x-envoy-", "x-real-ip"];

/// Who asks, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The token's name, or a word for who needs none.
    pub name: String,
    pub role: Role,
}

/// Why somebody isn't let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no token in the request, or none that is known.
    Unknown(&'static str),
    /// The asker may not do this.
    Forbidden(String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown(reason) => {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                (challenge, Problem::new(StatusCode::UNAUTHORIZED, reason)).into_response()
            }
            Self::Forbidden(reason) => Problem::new(StatusCode::FORBIDDEN, reason).into_response(),
        }
    }
}

/// Says who asks: by a token if there are `tokens`, else by coming from this machine.
///
/// # Errors
/// When nobody of that kind is let in.
pub fn identify(
    tokens: &[ApiToken],
    peer: Option<IpAddr>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Asker, Refusal> {
    if tokens.is_empty() {
        check_local(peer, uri, headers).map_err(|reason| Refusal::Forbidden(reason.to_owned()))?;
        return Ok(Asker { name: LOOPBACK.to_owned(), role: Role::Admin });
    }
    let text = bearer(headers).ok_or(Refusal::Unknown("a bearer token is needed"))?;
    let token = ApiToken::find(tokens, text)
        .ok_or(Refusal::Unknown("the bearer token is not known here"))?;
    Ok(Asker { name: token.name().to_owned(), role: token.role() })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn check_local(peer: Option<IpAddr>, uri: &Uri, headers: &HeaderMap) -> Result<(), &'static str> {
    if !peer.is_some_and(|peer| peer.to_canonical().is_loopback()) {
        return Err("without api_tokens only this machine is served");
    }
    let passed_on = |name: &HeaderName| {
        FORWARDED.contains(name)
            || FORWARDED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
    };
    if headers.keys().any(passed_on) {
        return Err("without api_tokens nothing is served that a proxy passed on");
    }
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    if ![host, uri.authority().map(|name| name.as_str())].into_iter().flatten().all(is_local) {
        return Err(
            "without api_tokens this machine is served by its own name alone, as localhost",
        );
    }
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    if origin.is_some_and(|origin| origin.strip_prefix("http://") != host) {
        return Err("without api_tokens no other site's pages are served");
    }
    Ok(())
}

/// Whether a host, with or without a port, is this machine by a name that nobody else can give.
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
            identify(&tokens, None, &Uri::from_static("/"), &headers).map(|asker| asker.role)
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
            let asked = identify(&[], peer, &Uri::from_static("/v1/callers"), &headers(pairs));
            assert_eq!(asked.is_ok(), is_served, "{peer:?} {pairs:?}");
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
        assert!(identify(&[], peer, &uri, &headers(&[here])).is_err());
        assert!(identify(&[], None, &Uri::from_static("/"), &headers(&[here])).is_err());
    }
}
