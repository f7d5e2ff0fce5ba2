//! The types of `api_keys` in a policy file.

use super::map::{MapFile, map, start_of};
use super::readers::{flag, list, name_list, number, one, text, word};
use super::words::{ApiKeyOutageFile, OtherRoutesFile};
use crate::policy::yaml::{Node, Reader, Spanned, Value};

/// Maximum number of proxies in front of Envoy.
const PROXIES_MAX: u64 = 16;

map! {
    /// API keys, which Envoy's ext_authz filter has Tollgate check.
    pub struct ApiKeysFile in "`api_keys`";

    /// The beginning of each new API key, such as tg in tg_4vQ...; tg if absent.
    prefix: Spanned<String> = text;
    /// Where a request may have its API key; the first place that has one counts. The header x-api-key, and the header
    /// authorization with the scheme Bearer, if absent.
    from: Vec<ApiKeyPlaceFile> = list;
    /// Whether the upstream gets the API key; false if absent.
    forward: Spanned<bool> = flag;
    /// Whether a request without an API key is refused; true if absent.
    required: Spanned<bool> = flag;
    /// The names of the headers that tell the upstream of the caller.
    headers: ApiKeyHeadersFile = one;
    /// What an API key needs for a request, by path and method. Every API key may make every request if absent.
    routes: Vec<ApiKeyRouteFile> = list;
    /// Scopes that API keys may have beside those of `routes`, for upstreams.
    scopes: Vec<Spanned<String>> = name_list;
    /// Whether requests that match none of `routes` pass; deny if absent.
    other_routes: Spanned<OtherRoutesFile> = word;
    /// Whether the check also charges the limits of the caller and of the API key, so that no rate limit filter is needed; false
    /// if absent.
    charge: Spanned<bool> = flag;
    /// The number of proxies in front of Envoy that add to x-forwarded-for; 0 if absent.
    trusted_proxies: Spanned<u64> = number::<PROXIES_MAX>;
    /// What holds for API keys while the store is unavailable; deny if absent.
    on_outage: Spanned<ApiKeyOutageFile> = word;
    /// How many unknown or invalid API keys an address may send before they are refused without a look at the store, such as
    /// 20/minute; 60/minute if absent.
    unknown_keys: Spanned<String> = text;
}

map! {
    /// A place of a request that may have an API key: a header, a parameter of the query, or a cookie.
    pub struct ApiKeyPlaceFile in "a place in `from`" at span checked by check_place;

    /// The name of a header.
    header: Spanned<String> = text;
    /// The scheme before the API key in the header, such as Bearer.
    scheme: Spanned<String> = text;
    /// The name of a parameter of the query.
    query: Spanned<String> = text;
    /// The name of a cookie.
    cookie: Spanned<String> = text;
}

map! {
    /// Names of headers for the upstream. Headers with these names that the client has sent are removed.
    pub struct ApiKeyHeadersFile in "`headers`";

    /// The header with the caller's name.
    caller: Spanned<String> = text;
    /// The header with the caller's tier.
    tier: Spanned<String> = text;
    /// The header with the scopes, separated by spaces.
    scopes: Spanned<String> = text;
    /// The header with the id of the API key, which is no secret.
    key_id: Spanned<String> = text;
}

map! {
    /// What an API key needs for some requests.
    pub struct ApiKeyRouteFile in "a route" requires ["path"] at span;

    /// A pattern of paths: {name} stands for one segment, {*name} at the end for the rest.
    path: Spanned<String> = text;
    /// The methods; all if absent.
    methods: Vec<Spanned<String>> = name_list;
    /// The scopes that the API key must have.
    scopes: Vec<Spanned<String>> = name_list;
    /// The tiers whose callers may make the request; all if absent.
    tiers: Vec<Spanned<String>> = name_list;
}

fn check_place(file: &ApiKeyPlaceFile, reader: &mut Reader<'_>, node: &Node) {
    if !matches!(node.value, Value::Map(_)) {
        return;
    }
    let places = ApiKeyPlaceFile::SHAPE.keys.iter().filter(|key| **key != "scheme");
    if places.filter(|key| node.get(key).is_some()).count() != 1 {
        let message = "use one of `header`, `query` and `cookie` in a place";
        reader.error(start_of(node), message);
    }
    if let Some(scheme) = file.scheme.as_ref().filter(|_| node.get("header").is_none()) {
        reader.error(scheme.span.clone(), "`scheme` requires `header`");
    }
}
