//! Reads what Envoy tells of a request: its API key, its path, and the address of its client.

use std::borrow::Cow;
use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use tonic::Status;

use crate::api_keys::client_address;
use crate::policy::{ApiKeyPlace, ApiKeyPolicy, HeaderPlace};

/// The name in `context_extensions` of the domain whose policy checks the API key.
const DOMAIN: &str = "domain";

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

    /// The API key of the request: what the first place with any has.
    pub fn presented(&self, policy: &ApiKeyPolicy) -> Option<Cow<'m, str>> {
        policy.places.iter().find_map(|place| match place {
            ApiKeyPlace::Header(header) => self.in_header(policy, header).map(Cow::Borrowed),
            ApiKeyPlace::Query(name) => self.in_query(name).map(Cow::Borrowed),
            ApiKeyPlace::Cookie(name) => self.in_cookie(name).map(Cow::Borrowed),
        })
    }

    /// The API key in a header. After a scheme there may be something else, such as a JWT, which is no API key.
    pub fn in_header(&self, policy: &ApiKeyPolicy, place: &HeaderPlace) -> Option<&'m str> {
        let value = self.header(&place.name)?;
        let Some(scheme) = &place.scheme else {
            return Some(value.trim()).filter(|value| !value.is_empty());
        };
        let (stated, text) = value.trim_start().split_once(' ')?;
        let is_ours = stated.eq_ignore_ascii_case(scheme);
        let text = Some(text.trim()).filter(|_| is_ours)?;
        text.strip_prefix(&*policy.prefix)?.starts_with('_').then_some(text)
    }

    /// The value of a parameter of the query, if it is not empty.
    pub fn in_query(&self, name: &str) -> Option<&'m str> {
        let (_, query) = self.http.path.split_once('?')?;
        let query = query.split('#').next().unwrap_or_default();
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.find(|(known, _)| *known == name).map(|(_, value)| value);
        value.filter(|value| !value.is_empty())
    }

    /// The value of a cookie, if it is not empty.
    pub fn in_cookie(&self, name: &str) -> Option<&'m str> {
        let value = self.cookies().find(|(known, _)| *known == name).map(|(_, value)| value);
        value.filter(|value| !value.is_empty())
    }

    /// The cookies. Envoy joins several headers with `; ` or `,`.
    pub fn cookies(&self) -> impl Iterator<Item = (&'m str, &'m str)> + use<'m> {
        let cookies = self.header("cookie").unwrap_or_default().split([';', ',']);
        cookies.filter_map(|cookie| cookie.trim().split_once('='))
    }

    /// The address of the client behind so many proxies.
    pub fn address(&self, proxies: usize) -> Option<IpAddr> {
        let source = self.context.source.as_ref().and_then(ip_of);
        client_address(source, self.header("x-forwarded-for"), proxies)
    }

    /// The origin of the page that makes the request: its own statement, or else that of the page's address.
    pub fn origin(&self) -> Option<&'m str> {
        self.header("origin").or_else(|| {
            let referrer = self.header("referer")?;
            let (scheme, rest) = referrer.split_once("://")?;
            let host = rest.split(['/', '?', '#']).next()?;
            referrer.get(..scheme.len() + "://".len() + host.len())
        })
    }

    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&'m str> {
        if let Some(value) = self.http.headers.get(name) {
            return Some(value);
        }
        // With `encode_raw_headers`.
        let raw = self.http.header_map.iter().flat_map(|map| &map.headers);
        let found = raw.into_iter().find(|header| header.key == name)?;
        match found.value.is_empty() {
            true => str::from_utf8(&found.raw_value).ok(),
            false => Some(&found.value),
        }
    }
}

fn ip_of(peer: &Peer) -> Option<IpAddr> {
    match peer.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => socket.address.parse().ok(),
        _ => None,
    }
}
