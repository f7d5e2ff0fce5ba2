//! Whether an API key may make a request.

use std::net::IpAddr;

use super::form::ORIGIN_ANY_SUFFIX;
use super::peppers::ApiKeyHash;
use super::record::{ApiKey, ApiKeyRecord};
use crate::clock::Timestamp;
use crate::policy::{ApiKeyNeeds, ApiKeyPolicy, ApiKeyRoute};
use crate::printable;

/// What is asked of an API key.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub method: &'a str,
    /// With the query.
    pub path: &'a str,
    /// The address of the client, if it is known.
    pub address: Option<IpAddr>,
    /// The origin of the page that makes the request.
    pub origin: Option<&'a str>,
    /// The index of the caller's tier.
    pub tier: usize,
    pub now: Timestamp,
}

/// The reason that an API key may not make a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRefusal {
    /// It was rotated, and the overlap is over.
    Rotated,
    Disabled,
    Expired,
    /// It may be used at other times.
    Time,
    Address,
    Origin,
    Scope,
    Tier,
    Route,
}

impl KeyRefusal {
    /// Whether the API key itself is fine, but may not make this request. Otherwise the client must not learn that the API
    /// key exists.
    pub fn is_of_request(self) -> bool {
        matches!(self, Self::Scope | Self::Tier | Self::Route)
    }

    /// A word for each, for metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rotated => "rotated",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Time => "time",
            Self::Address => "address",
            Self::Origin => "origin",
            Self::Scope => "scope",
            Self::Tier => "tier",
            Self::Route => "route",
        }
    }
}

/// Decides whether the API key with this hash may make a request.
///
/// # Errors
/// The first reason against it.
pub fn judge(
    record: &ApiKeyRecord,
    hash: ApiKeyHash,
    policy: &ApiKeyPolicy,
    asked: &Asked<'_>,
) -> Result<(), KeyRefusal> {
    let key = &record.key;
    let refuse_if = |is_refused: bool, refusal| if is_refused { Err(refusal) } else { Ok(()) };
    refuse_if(record.secret(hash, asked.now).is_none(), KeyRefusal::Rotated)?;
    refuse_if(key.disabled, KeyRefusal::Disabled)?;
    refuse_if(key.expires_at.is_some_and(|end| end <= asked.now), KeyRefusal::Expired)?;
    let is_in_time = key.when.as_ref().is_none_or(|times| times.contains(asked.now));
    refuse_if(!is_in_time, KeyRefusal::Time)?;
    refuse_if(!is_from(key, asked.address), KeyRefusal::Address)?;
    refuse_if(!is_of_origin(key, asked.origin), KeyRefusal::Origin)?;
    match needs(policy, (asked.method, asked.path)) {
        ApiKeyNeeds::Nothing => Ok(()),
        ApiKeyNeeds::NoRoute => Err(KeyRefusal::Route),
        ApiKeyNeeds::Route(route) => may_take(route, &key.scopes, asked.tier),
        ApiKeyNeeds::Both(one, other) => {
            may_take(one, &key.scopes, asked.tier)?;
            may_take(other, &key.scopes, asked.tier)
        }
    }
}

/// What a request needs, by its method and its path with the query.
pub fn needs<'p>(policy: &'p ApiKeyPolicy, (method, path): (&str, &str)) -> ApiKeyNeeds<'p> {
    if policy.routes.routes().is_empty() {
        return ApiKeyNeeds::Nothing;
    }
    plain_path(path).map_or(ApiKeyNeeds::NoRoute, |path| policy.routes.needs(method, &path))
}

/// Decides whether scopes and a tier are enough for a route.
///
/// # Errors
/// The first reason against it.
pub fn may_take(route: &ApiKeyRoute, scopes: &[Box<str>], tier: usize) -> Result<(), KeyRefusal> {
    if route.tiers.as_ref().is_some_and(|tiers| !tiers.contains(&tier)) {
        return Err(KeyRefusal::Tier);
    }
    match route.scopes.iter().all(|scope| scopes.contains(scope)) {
        true => Ok(()),
        false => Err(KeyRefusal::Scope),
    }
}

/// Whether the API key may be used from an address. One with addresses needs a known address.
fn is_from(key: &ApiKey, address: Option<IpAddr>) -> bool {
    key.addresses.is_empty()
        || address
            .is_some_and(|address| key.addresses.iter().any(|network| network.contains(&address)))
}

/// Whether the API key may be used by pages of an origin. One with origins needs a known origin.
fn is_of_origin(key: &ApiKey, origin: Option<&str>) -> bool {
    if key.origins.is_empty() {
        return true;
    }
    let Some(origin) = origin.map(str::to_ascii_lowercase) else { return false };
    key.origins.iter().any(|allowed| match allowed.split_once(ORIGIN_ANY_SUFFIX) {
        Some((scheme, domain)) => {
            let below = origin
                .strip_prefix(scheme)
                .and_then(|host| host.strip_suffix(domain))
                .and_then(|host| host.strip_suffix('.'));
            below.is_some_and(|below| !below.is_empty() && !below.contains(['/', ':']))
        }
        None => **allowed == *origin,
    })
}

/// The path without its query, as upstreams read it: with the escapes of plain characters resolved. None if upstreams may read
/// it in several ways: with empty segments, with dots as segments, with escaped slashes. Some of them cut off what follows a
/// dot, such as spaces and control characters, and some read invalid UTF-8 leniently.
pub fn plain_path(path: &str) -> Option<String> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut plain = String::with_capacity(path.len());
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        decoded.extend_from_slice(before.as_bytes());
        // Digits alone: `from_str_radix` permits a sign.
        let digits = after.get(..2).filter(|two| two.bytes().all(|one| one.is_ascii_hexdigit()))?;
        let code = u8::from_str_radix(digits, 16).ok()?;
        match code {
            b'/' | b'%' => return None,
            code if code.is_ascii_alphanumeric() || b"-._~".contains(&code) => {
                plain.push(char::from(code));
            }
            _ => plain.extend(['%'].into_iter().chain(digits.chars())),
        }
        decoded.push(code);
        rest = &after[2..];
    }
    plain.push_str(rest);
    decoded.extend_from_slice(rest.as_bytes());
    let decoded = str::from_utf8(&decoded).ok()?;
    let is_open = decoded.contains(['\\', ';']) || decoded.contains(printable::is_control);
    let (_, segments) = decoded.split_once('/').filter(|(before, _)| before.is_empty())?;
    let mut inner = segments.split('/').peekable();
    while let Some(segment) = inner.next() {
        let is_last = inner.peek().is_none();
        if is_dots(segment) || segment.is_empty() && !is_last {
            return None;
        }
    }
    (!is_open).then_some(plain)
}

/// Whether some upstream may take a segment for `.`, `..` or an empty one: it has dots and characters that show nothing alone,
/// up to an escaped `?` or `#`.
fn is_dots(segment: &str) -> bool {
    let seen = segment.split(['?', '#']).next().unwrap_or_default();
    !seen.is_empty() && printable::is_blank(&seen.replace('.', ""))
}

#[cfg(test)]
mod tests {
    use super::super::{ApiKeyForm, ApiKeySecret, Peppers};
    use super::*;
    use crate::policy::{CompileOptions, Source, compile};

    const POLICY: &str = "
domain: d
tiers: [free, premium]
api_keys:
  routes:
    - { path: '/v1/hotels/{*rest}', methods: [GET], scopes: [hotels:read] }
    - { path: '/v1/hotels/{*rest}', methods: [POST], scopes: [hotels:read, hotels:book] }
    - { path: /v1/flights, tiers: [premium] }
";

    fn check(
        form: serde_json::Value,
        change: impl Fn(&mut Asked<'_>),
        expected: Result<(), KeyRefusal>,
    ) {
        let source = Source { path: "a.yaml".to_owned(), text: POLICY.to_owned() };
        let set = compile(&[source], CompileOptions::default()).unwrap();
        let policy = set.api_key_domain(None).unwrap().api_keys.as_ref().unwrap();
        let hash = Peppers::parse(&"p".repeat(32)).unwrap().hashes("a")[0];
        let secret = ApiKeySecret {
            hash,
            hint: String::new(),
            pepper: String::new(),
            created_at: Timestamp::default(),
            until: None,
        };
        let form: ApiKeyForm = serde_json::from_value(form).unwrap();
        let record = ApiKeyRecord {
            id: "key_1".into(),
            key: form.check().unwrap(),
            secrets: vec![secret],
            created_at: Timestamp::default(),
            revision: 1,
        };
        let mut asked = Asked {
            method: "GET",
            path: "/v1/hotels/7?a=b",
            address: Some("192.0.2.7".parse().unwrap()),
            origin: None,
            tier: 0,
            now: Timestamp::from_ms(1_000),
        };
        change(&mut asked);
        assert_eq!(judge(&record, hash, policy, &asked), expected, "{asked:?}");
    }

    fn reader() -> serde_json::Value {
        serde_json::json!({ "caller": "a", "scopes": ["hotels:read"] })
    }

    fn with(field: &str, value: serde_json::Value) -> serde_json::Value {
        let mut form = reader();
        form[field] = value;
        form
    }

    #[test]
    fn scopes_and_tiers_open_routes() {
        check(reader(), |_| {}, Ok(()));
        check(with("scopes", ["other"].into()), |_| {}, Err(KeyRefusal::Scope));
        check(reader(), |asked| asked.method = "POST", Err(KeyRefusal::Scope));
        let both = with("scopes", ["hotels:read", "hotels:book"].into());
        check(both, |asked| asked.method = "POST", Ok(()));
        check(reader(), |asked| asked.method = "DELETE", Err(KeyRefusal::Route));
        check(reader(), |asked| asked.path = "/v1/flights", Err(KeyRefusal::Tier));
        check(reader(), |asked| (asked.path, asked.tier) = ("/v1/flights", 1), Ok(()));
        check(reader(), |asked| asked.path = "/", Err(KeyRefusal::Route));
    }

    #[test]
    fn a_path_that_can_be_read_in_several_ways_has_no_route() {
        check(reader(), |asked| asked.path = "/v1/%68otels/7", Ok(()));
        for path in ["caf%C3%A9", "a%20b", "a..b", "..a", "v1.2", ".well-known", "what%3f", "a/"] {
            let path = format!("/v1/hotels/{path}");
            check(reader(), |asked| asked.path = path.clone().leak(), Ok(()));
        }
        for path in [
            "/v1/hotels/../flights",
            "/v1/hotels/%2e%2e/flights",
            "/v1/hotels//7",
            "/v1/hotels%2f7",
            "/v1/hotels/%252e",
            "/v1/hotels\\7",
            "/v1/hotels/7;a",
            "/v1/hotels/..;/flights",
            "/v1/hotels/..%3b/flights",
            "/v1/hotels/..%3Bx=y/flights",
            "/v1/hotels/7%3ba",
            "/v1/hotels/..%20/flights",
            "/v1/hotels/%20../flights",
            "/v1/hotels/%09../flights",
            "/v1/hotels/..%09/flights",
            "/v1/hotels/.%0a./flights",
            "/v1/hotels/..%00/flights",
            "/v1/hotels/..%c2%a0/flights",
            "/v1/hotels/..%e2%80%8b/flights",
            "/v1/hotels/.%20./flights",
            "/v1/hotels/..%20",
            "/v1/hotels/.../flights",
            "/v1/hotels/..%3f/flights",
            "/v1/hotels/..%23x/flights",
            "/v1/hotels/%20/flights",
            "/v1/hotels/%5c../flights",
            "/v1/hotels/%c0%ae%c0%ae/flights",
            "/v1/hotels/%e0%80%ae/flights",
            "/v1/hotels/%ff",
            "/v1/hotels/%c3",
            "/v1/hotels/%+2f",
            "/v1/hotels/%zz",
            "/v1/hotels/%4",
            "v1/hotels/7",
            "",
            "*",
        ] {
            check(reader(), |asked| asked.path = path, Err(KeyRefusal::Route));
        }
    }

    #[test]
    fn an_api_key_ends_at_its_instant() {
        let key = || with("expires_at", "1970-01-01T00:00:02Z".into());
        check(key(), |asked| asked.now = Timestamp::from_ms(1_999), Ok(()));
        check(key(), |asked| asked.now = Timestamp::from_ms(2_000), Err(KeyRefusal::Expired));
        check(with("disabled", true.into()), |_| {}, Err(KeyRefusal::Disabled));
    }

    #[test]
    fn an_api_key_is_used_at_its_times_alone() {
        let key = || with("when", serde_json::json!({ "hours": ["00:00-00:01"] }));
        check(key(), |asked| asked.now = Timestamp::from_ms(59_999), Ok(()));
        check(key(), |asked| asked.now = Timestamp::from_ms(60_000), Err(KeyRefusal::Time));
    }

    #[test]
    fn an_api_key_is_used_from_its_networks_alone() {
        let key = || with("addresses", ["192.0.2.0/24", "2001:db8::/32"].into());
        let from = |address: &'static str| {
            move |asked: &mut Asked<'_>| asked.address = address.parse().ok()
        };
        check(key(), from("192.0.2.255"), Ok(()));
        check(key(), from("192.0.3.0"), Err(KeyRefusal::Address));
        check(key(), from("2001:db8:ffff::1"), Ok(()));
        check(key(), from("2001:db9::1"), Err(KeyRefusal::Address));
        check(key(), from("unknown"), Err(KeyRefusal::Address));
    }

    #[test]
    fn an_api_key_is_used_by_pages_of_its_origins_alone() {
        let key = || with("origins", ["https://app.example.com", "https://*.example.org"].into());
        for (origin, is_fine) in [
            ("https://app.example.com", true),
            ("HTTPS://App.Example.com", true),
            ("https://app.example.com:8443", false),
            ("http://app.example.com", false),
            ("https://app.example.com.evil.test", false),
            ("https://a.example.org", true),
            ("https://a.b.example.org", true),
            ("https://example.org", false),
            ("https://.example.org", false),
            ("https://evil.test/.example.org", false),
            ("https://evilexample.org", false),
            ("null", false),
        ] {
            let expected = if is_fine { Ok(()) } else { Err(KeyRefusal::Origin) };
            check(key(), |asked| asked.origin = Some(origin), expected);
        }
        check(key(), |asked| asked.origin = None, Err(KeyRefusal::Origin));
    }
}
