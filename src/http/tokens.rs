//! Who may use the API, and as what.
//!
//! The settings hold the hash of a token alone: it has 32 random bytes, so that nobody can guess it from
//! the hash. Without tokens the API serves who asks from this machine, by its own name and for itself:
//! a browser that was led here by another site's name or page is not that, nor is what a proxy passed on.

use std::fmt;
use std::hint::black_box;
use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use sha2::Digest;
use sha2::Sha256;

use super::problem::Problem;

/// Bytes of a token's name, which the audit log tells.
const NAME_LEN_MAX: usize = 64;

/// What the audit log calls who needs no token.
const LOOPBACK: &str = "loopback";

/// Headers that say that a request was passed on.
const FORWARDED: [HeaderName; 2] = [header::FORWARDED, header::VIA];
const FORWARDED_PREFIXES: [&str; 3] = ["x-forwarded-", "x-envoy-", "x-real-ip"];

/// What somebody may do; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Edits callers, gives and takes bonuses.
    Operator,
    /// Makes and deletes callers.
    Admin,
}

impl Role {
    /// All roles by name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("viewer", Self::Viewer), ("operator", Self::Operator), ("admin", Self::Admin)];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, role)| role == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

/// A token that is let in, known by its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    name: String,
    role: Role,
    hash: [u8; 32],
}

impl ApiToken {
    /// The token `text` of somebody.
    pub fn new(name: &str, role: Role, text: &str) -> Self {
        Self { name: name.to_owned(), role, hash: Sha256::digest(text.as_bytes()).into() }
    }

    /// Reads `NAME:ROLE:SHA256`, the hash in hexadecimal.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (name, role, hex) = (parts.next()?, parts.next()?, parts.next()?);
        let role = Role::NAMES.iter().find(|(name, _)| *name == role)?.1;
        let mut hash = [0; 32];
        if parts.next().is_some() || !Self::is_name(name) || hex.len() != 2 * hash.len() {
            return None;
        }
        for (index, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self { name: name.to_owned(), role, hash })
    }

    /// Whether a token can have this name: letters, digits, `-`, `_` and `.`.
    pub fn is_name(name: &str) -> bool {
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (1..=NAME_LEN_MAX).contains(&name.len()) && name != LOOPBACK && name.bytes().all(is_fine)
    }

    /// Who has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether `hash` is its own, in a time that does not tell how much of it is.
    fn has(&self, hash: &[u8; 32]) -> bool {
        let differences = self.hash.iter().zip(hash).map(|(one, other)| one ^ other);
        differences.fold(0, |all, difference| black_box(all | difference)) == 0
    }
}

impl fmt::Display for ApiToken {
    /// As the settings have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.name, self.role)?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

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
    let hash = Sha256::digest(text.as_bytes()).into();
    // All are looked at, so that the time doesn't tell which one it is.
    let known =
        tokens.iter().fold(None, |known, token| if token.has(&hash) { Some(token) } else { known });
    let token = known.ok_or(Refusal::Unknown("the bearer token is not known here"))?;
    Ok(Asker { name: token.name.clone(), role: token.role })
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
        let line = token.to_string();
        assert!(line.starts_with("ops:operator:2bb80d53"), "{line}");
        assert_eq!(ApiToken::parse(&line), Some(token.clone()));
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
        for wrong in [
            "",
            "ops",
            "ops:admin",
            "ops:root:00",
            &line.replace("ops", "o s"),
            &line[1..].replace("2b", "xy"),
        ] {
            assert_eq!(ApiToken::parse(wrong), None, "{wrong}");
        }
        for wrong in [&format!("{line}0"), &format!("{line}:"), &line.replace("ops", "loopback")] {
            assert_eq!(ApiToken::parse(wrong), None, "{wrong}");
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
