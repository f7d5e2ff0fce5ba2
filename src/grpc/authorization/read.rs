//! Reads what Envoy tells of a request: its API key, its path, and the address of its client.

use std::borrow::Cow;
use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use percent_encoding::percent_decode_str;
use tonic::Status;

use crate::api_keys::client_address;
use crate::policy::{ApiKeyPlace, ApiKeyPolicy, HeaderPlace};

/// The name in `context_extensions` of the domain whose policy checks the API key.
const DOMAIN: &str = "domain";

const COOKIE: &str = "cookie";

/// What Envoy tells of a request.
#[derive(Clone, Copy)]
pub struct Attributes<'m> {
    context: &'m AttributeContext,
    http: &'m HttpRequest,
}

impl<'m> Attributes<'m> {
    /// Reads a message.
    ///
    /// # Errors
    /// If it is not about an HTTP request.
    pub fn of(message: &'m CheckRequest) -> Result<Self, Status> {
        let context = message.attributes.as_ref();
        let http = context.and_then(|context| context.request.as_ref()?.http.as_ref());
        match context.zip(http) {
            Some((context, http)) => Ok(Self { context, http }),
            None => Err(Status::invalid_argument("the message has no HTTP request")),
        }
    }

    /// The domain that the route names.
    pub fn domain(&self) -> Option<&'m str> {
        self.context.context_extensions.get(DOMAIN).map(String::as_str)
    }

    pub fn method(&self) -> &'m str {
        &self.http.method
    }

    /// With the query.
    pub fn path(&self) -> &'m str {
        &self.http.path
    }

    /// The API key of the request: what the first place with any has. Several values in it are no API key: joined
    /// by commas, they are refused as one that is malformed.
    pub fn presented(&self, policy: &ApiKeyPolicy) -> Option<String> {
        policy.places.iter().find_map(|place| match place {
            ApiKeyPlace::Header(header) => self.in_header(policy, header),
            ApiKeyPlace::Query(name) => self.in_query(name),
            ApiKeyPlace::Cookie(name) => self.in_cookie(name),
        })
    }

    /// The API key in a header. After a scheme there may be something else, such as a JWT, which is no API key. Envoy joins
    /// several headers with a comma.
    pub fn in_header(&self, policy: &ApiKeyPolicy, place: &HeaderPlace) -> Option<String> {
        let text = self.header(&place.name)?;
        let values = text.split(',').map(str::trim);
        let Some(scheme) = &place.scheme else { return joined(values) };
        let own = |value: &str| {
            let (stated, text) = value.split_once([' ', '\t'])?;
            let text = Some(text.trim()).filter(|_| stated.eq_ignore_ascii_case(scheme))?;
            text.strip_prefix(&*policy.prefix)?.starts_with('_').then(|| text.to_owned())
        };
        let has_own = values.clone().any(|value| own(value).is_some());
        let texts: Vec<String> =
            values.map(|value| own(value).unwrap_or_else(|| value.to_owned())).collect();
        has_own.then(|| joined(texts.iter().map(String::as_str))).flatten()
    }

    /// The values of the parameters of the query with this name that are not empty, without escapes.
    pub fn in_query(&self, name: &str) -> Option<String> {
        let values = self.parameters(name);
        let values: Vec<_> =
            values.map(|(_, value)| percent_decode_str(value).decode_utf8_lossy()).collect();
        joined(values.iter().map(|value| &**value))
    }

    /// The parameters of the query with this name, which upstreams also find if it is escaped: each name as it is written, and
    /// its value.
    pub fn parameters(&self, name: &str) -> impl Iterator<Item = (&'m str, &'m str)> {
        let query = self.http.path.split_once('?').map_or("", |(_, query)| query);
        let query = query.split('#').next().unwrap_or_default();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(move |(written, _)| percent_decode_str(written).eq(name.bytes()))
    }

    /// The values of the cookies with this name that are not empty.
    pub fn in_cookie(&self, name: &str) -> Option<String> {
        let header = self.header(COOKIE)?;
        let pairs = header.split(';').filter_map(|cookie| cookie.split_once('='));
        joined(pairs.filter(|(known, _)| known.trim() == name).map(|(_, value)| value.trim()))
    }

    /// The header of the cookies without those with these names; the others are as they were.
    pub fn other_cookies(&self, names: &[&str]) -> String {
        let header = self.header(COOKIE).unwrap_or_default();
        let is_other = |cookie: &&str| {
            let name = cookie.split_once('=').map(|(name, _)| name.trim());
            name.is_none_or(|name| !names.contains(&name))
        };
        let others: Vec<&str> = header.split(';').filter(is_other).collect();
        others.join(";").trim_ascii().to_owned()
    }

    /// Whether a cookie has bytes that are no UTF-8. Envoy tells of them with `encode_raw_headers`, and can't be told any.
    pub fn has_binary_cookies(&self) -> bool {
        let raw = self.http.header_map.iter().flat_map(|map| &map.headers);
        let mut cookies = raw.filter(|header| header.key == COOKIE);
        cookies.any(|header| str::from_utf8(&header.raw_value).is_err())
    }

    /// The address of the client behind so many proxies.
    pub fn address(&self, proxies: usize) -> Option<IpAddr> {
        let source = self.context.source.as_ref().and_then(ip_of);
        client_address(source, self.header("x-forwarded-for").as_deref(), proxies)
    }

    /// The origin of the page that makes the request: its own statement, or else that of the page's address.
    pub fn origin(&self) -> Option<Cow<'m, str>> {
        self.header("origin").or_else(|| {
            let referrer = self.header("referer")?;
            let (scheme, rest) = referrer.split_once("://")?;
            let host = rest.split(['/', '?', '#']).next()?;
            let origin = referrer.get(..scheme.len() + "://".len() + host.len())?;
            Some(Cow::Owned(origin.to_owned()))
        })
    }

    /// The value of a header, by its name in lower case. Several are joined.
    pub fn header(&self, name: &str) -> Option<Cow<'m, str>> {
        if let Some(value) = self.http.headers.get(name) {
            return Some(Cow::Borrowed(value));
        }
        // With `encode_raw_headers`.
        let raw = self.http.header_map.iter().flat_map(|map| &map.headers);
        let values =
            raw.filter(|header| header.key == name).map(|header| match header.value.is_empty() {
                true => String::from_utf8_lossy(&header.raw_value),
                false => Cow::Borrowed(header.value.as_str()),
            });
        let separator = if name == COOKIE { "; " } else { "," };
        values.reduce(|before, value| Cow::Owned(format!("{before}{separator}{value}")))
    }
}

/// The values that are not empty, with commas between them.
fn joined<'v>(values: impl Iterator<Item = &'v str>) -> Option<String> {
    let mut joined: Option<String> = None;
    for value in values.filter(|value| !value.is_empty()) {
        match &mut joined {
            None => joined = Some(value.to_owned()),
            Some(joined) => {
                joined.push(',');
                joined.push_str(value);
            }
        }
    }
    joined
}

fn ip_of(peer: &Peer) -> Option<IpAddr> {
    match peer.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => socket.address.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};

    use super::*;
    use crate::policy::{CompileOptions, Source, compile};

    const PLACES: &str = "
domain: d
api_keys:
  from: [{ header: x-api-key }, { header: authorization, scheme: Bearer }, { query: k }, { cookie: k }]
";

    fn http(path: &str, headers: &[(&str, &str)]) -> HttpRequest {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        HttpRequest {
            path: path.into(),
            headers: headers.collect::<HashMap<_, _>>(),
            ..HttpRequest::default()
        }
    }

    fn presented(http: &HttpRequest) -> Option<String> {
        let source = Source { path: "a.yaml".to_owned(), text: PLACES.to_owned() };
        let set = compile(&[source], CompileOptions::default()).unwrap();
        let policy = set.api_key_domain(None).unwrap().api_keys.as_ref().unwrap();
        let context = AttributeContext::default();
        Attributes { context: &context, http }.presented(policy)
    }

    fn check(path: &str, headers: &[(&str, &str)], expected: Option<&str>) {
        let found = presented(&http(path, headers));
        assert_eq!(found.as_deref(), expected, "{path} {headers:?}");
    }

    #[test]
    fn several_values_in_a_place_are_no_api_key() {
        check("/?k=&k=tg_1", &[], Some("tg_1"));
        check("/?k=tg_1&k=", &[], Some("tg_1"));
        check("/?k=tg_1&k=tg_2", &[], Some("tg_1,tg_2"));
        check("/?%6b=tg_1", &[], Some("tg_1"));
        check("/?%6B=tg_1&k=tg_2#k=x", &[], Some("tg_1,tg_2"));
        check("/?%6=a&%=b&kk=c&k%00=d&%+b=e", &[], None);
        check("/?k=%74g%5F1", &[], Some("tg_1"));
        check("/?k=tg%5f1&%6B=tg_2&k=%", &[], Some("tg_1,tg_2,%"));
        check("/?k=tg_1%ff", &[], Some("tg_1\u{fffd}"));
        check("/", &[("cookie", "k=; k=tg_1")], Some("tg_1"));
        check("/", &[("cookie", "k=tg_1;k = tg_2")], Some("tg_1,tg_2"));
        check("/", &[("cookie", "a=b,k=c; k")], None);
        check("/", &[("x-api-key", " tg_1 ")], Some("tg_1"));
        check("/", &[("x-api-key", ",tg_1")], Some("tg_1"));
        check("/", &[("x-api-key", "tg_1,tg_2")], Some("tg_1,tg_2"));
        check("/", &[("authorization", "bearer \ttg_1")], Some("tg_1"));
        check("/", &[("authorization", "Bearer abc,Bearer tg_1")], Some("Bearer abc,tg_1"));
        check("/", &[("authorization", "Bearer tg_1, Basic x")], Some("tg_1,Basic x"));
        check("/", &[("authorization", "Bearer abc,Digest a=\"b\"")], None);
        check("/", &[("authorization", "Bearer,tg_1")], None);
    }

    #[test]
    fn raw_headers_are_joined() {
        let raw = |key: &str, value: &[u8]| HeaderValue {
            key: key.into(),
            raw_value: value.into(),
            ..HeaderValue::default()
        };
        let headers = vec![
            raw("authorization", b"Bearer abc"),
            raw("authorization", b"Bearer tg_1"),
            raw("cookie", b"a=1"),
            raw("cookie", b"k=2"),
        ];
        let http =
            HttpRequest { header_map: Some(HeaderMap { headers }), ..HttpRequest::default() };
        assert_eq!(presented(&http).as_deref(), Some("Bearer abc,tg_1"));
        let context = AttributeContext::default();
        let attributes = Attributes { context: &context, http: &http };
        assert_eq!(attributes.header(COOKIE).as_deref(), Some("a=1; k=2"));
    }

    #[test]
    fn other_cookies_stay_as_they_were() {
        let check = |header: &str, expected: &str| {
            let http = http("/", &[("cookie", header)]);
            let context = AttributeContext::default();
            let attributes = Attributes { context: &context, http: &http };
            assert_eq!(attributes.other_cookies(&["k"]), expected, "{header}");
        };
        check("pref=a,b; c=d=e; flag; k=tg_1", "pref=a,b; c=d=e; flag");
        check("k=tg_1; a=1;b = 2 ; k=;  d", "a=1;b = 2 ;  d");
        check("a=\"x y\"; k=1; k; kk=2", "a=\"x y\"; k; kk=2");
        check("k=1; k =2", "");
    }
}
