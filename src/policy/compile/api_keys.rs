//! Compiles the `api_keys:` of a file.

use super::classes::tier_named;
use super::rate::Rate;
use crate::policy::model::{
    ApiKeyHeaders, ApiKeyOutage, ApiKeyPlace, ApiKeyPolicy, ApiKeyRoute, ApiKeyRoutes, Classes,
    HeaderPlace, Window,
};
use crate::policy::schema::{
    ApiKeyHeadersFile, ApiKeyOutageFile, ApiKeyPlaceFile, ApiKeyRouteFile, ApiKeysFile,
    OtherRoutesFile, is_header_name,
};
use crate::policy::yaml::{Reader, Spanned};

const PREFIX_DEFAULT: &str = "tg";
const PREFIX_LEN_MAX: usize = 32;

/// Unknown API keys of one address.
const UNKNOWN_DEFAULT: Rate = Rate { amount: 60, window: Window::Length(MINUTE_MS) };
const MINUTE_MS: u64 = 60_000;

/// The longest window of unknown API keys.
const UNKNOWN_WINDOW_MS_MAX: u64 = 3_600_000;

/// Maximum numbers: of places, each of which is looked at for each request, and of routes.
const PLACES_MAX: usize = 8;
const ROUTES_MAX: usize = 1_000;

/// The policy in the file.
pub fn api_keys(reader: &mut Reader<'_>, classes: &Classes, file: &ApiKeysFile) -> ApiKeyPolicy {
    let flag =
        |said: &Option<Spanned<bool>>, default| said.as_ref().map_or(default, |one| one.value);
    let (unknown_max, unknown_window_ms) = unknown(reader, file.unknown_keys.as_ref());
    ApiKeyPolicy {
        prefix: prefix(reader, file.prefix.as_ref()),
        places: places(reader, file.from.as_deref()),
        forwards: flag(&file.forward, false),
        is_required: flag(&file.required, true),
        headers: file.headers.as_ref().map(|said| headers(reader, said)).unwrap_or_default(),
        routes: routes(reader, classes, file),
        other_scopes: names(file.scopes.as_deref()),
        charges: charges(reader, classes, file.charge.as_ref()),
        trusted_proxies: file
            .trusted_proxies
            .as_ref()
            .map_or(0, |said| usize::try_from(said.value).unwrap_or(usize::MAX)),
        on_outage: match file.on_outage.as_ref().map(|said| said.value) {
            Some(ApiKeyOutageFile::Cached) => ApiKeyOutage::Cached,
            Some(ApiKeyOutageFile::Deny) | None => ApiKeyOutage::Deny,
        },
        unknown_max,
        unknown_window_ms,
    }
}

fn prefix(reader: &mut Reader<'_>, said: Option<&Spanned<String>>) -> Box<str> {
    let Some(said) = said else { return PREFIX_DEFAULT.into() };
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if said.value.is_empty()
        || PREFIX_LEN_MAX < said.value.len()
        || !said.value.bytes().all(is_fine)
    {
        let message = format!(
            "invalid prefix `{}`; use 1 to {PREFIX_LEN_MAX} letters, digits, `-` and `_`",
            said.value
        );
        reader.error(said.span.clone(), message);
    }
    said.value.as_str().into()
}

fn charges(reader: &mut Reader<'_>, classes: &Classes, said: Option<&Spanned<bool>>) -> bool {
    let Some(said) = said.filter(|said| said.value) else { return false };
    if classes.caller_key.is_none() {
        reader.error(said.span.clone(), "`charge` requires the `key` of `caller`");
    }
    true
}

fn unknown(reader: &mut Reader<'_>, said: Option<&Spanned<String>>) -> (u32, u64) {
    let rate = match said.map(|said| (said, Rate::parse(&said.value))) {
        None => UNKNOWN_DEFAULT,
        Some((_, Ok(rate))) => rate,
        Some((said, Err(message))) => {
            reader.error(said.span.clone(), message);
            UNKNOWN_DEFAULT
        }
    };
    let amount = u32::try_from(rate.amount).ok();
    match (amount, rate.window) {
        (Some(amount), Window::Length(ms)) if ms <= UNKNOWN_WINDOW_MS_MAX => (amount, ms),
        _ => {
            if let Some(said) = said {
                let message = format!("invalid rate `{}`; use a window up to 1h", said.value);
                reader.error(said.span.clone(), message);
            }
            (0, MINUTE_MS)
        }
    }
}

fn places(reader: &mut Reader<'_>, said: Option<&[ApiKeyPlaceFile]>) -> Vec<ApiKeyPlace> {
    let header = |name: &str, scheme: Option<&str>| {
        let scheme = scheme.map(Box::from);
        ApiKeyPlace::Header(HeaderPlace { name: name.into(), scheme })
    };
    let Some(said) = said else {
        return vec![header("x-api-key", None), header("authorization", Some("Bearer"))];
    };
    if let Some(one) = said.get(PLACES_MAX) {
        reader
            .error(one.span.clone(), format!("too many places; at most {PLACES_MAX} are allowed"));
    }
    let mut places = Vec::new();
    for file in said.iter().take(PLACES_MAX) {
        if let Some(name) = &file.header {
            let scheme = file.scheme.as_ref().map(|scheme| scheme.value.as_str());
            places.push(header(&header_name(reader, name), scheme));
        } else if let Some(name) = &file.query {
            places.push(ApiKeyPlace::Query(name.value.as_str().into()));
        } else if let Some(name) = &file.cookie {
            places.push(ApiKeyPlace::Cookie(name.value.as_str().into()));
        }
    }
    places
}

fn headers(reader: &mut Reader<'_>, said: &ApiKeyHeadersFile) -> ApiKeyHeaders {
    let mut known: Vec<String> = Vec::new();
    let mut name = |said: &Option<Spanned<String>>| {
        let said = said.as_ref()?;
        let name = header_name(reader, said);
        if known.contains(&name) {
            reader.error(said.span.clone(), format!("duplicate header `{name}`"));
        }
        known.push(name.clone());
        Some(name.into())
    };
    ApiKeyHeaders {
        caller: name(&said.caller),
        tier: name(&said.tier),
        scopes: name(&said.scopes),
        key_id: name(&said.key_id),
    }
}

fn header_name(reader: &mut Reader<'_>, said: &Spanned<String>) -> String {
    let name = said.value.to_ascii_lowercase();
    if !is_header_name(&name) {
        reader.error(said.span.clone(), format!("invalid or reserved header name `{name}`"));
    }
    name
}

fn routes(reader: &mut Reader<'_>, classes: &Classes, file: &ApiKeysFile) -> ApiKeyRoutes {
    let others = file.other_routes.as_ref();
    let allows_others = others.is_some_and(|said| said.value == OtherRoutesFile::Allow);
    let mut routes = ApiKeyRoutes::new(allows_others);
    let said = file.routes.as_deref().unwrap_or_default();
    if let Some(one) = said.get(ROUTES_MAX) {
        reader
            .error(one.span.clone(), format!("too many routes; at most {ROUTES_MAX} are allowed"));
    }
    for one in said.iter().take(ROUTES_MAX) {
        let Some(path) = &one.path else { continue };
        if !path.value.starts_with('/') {
            reader
                .error(path.span.clone(), format!("invalid path `{}`; begin with `/`", path.value));
        } else if let Err(message) = routes.add(route(reader, classes, one, &path.value)) {
            reader.error(path.span.clone(), message);
        }
    }
    routes
}

fn route(
    reader: &mut Reader<'_>,
    classes: &Classes,
    file: &ApiKeyRouteFile,
    path: &str,
) -> ApiKeyRoute {
    let mut methods = Vec::new();
    for method in file.methods.iter().flatten() {
        if method.value.is_empty() || !method.value.bytes().all(|byte| byte.is_ascii_uppercase()) {
            let message = format!("invalid method `{}`; use capitals, such as GET", method.value);
            reader.error(method.span.clone(), message);
        }
        methods.push(method.value.as_str().into());
    }
    let scopes = names(file.scopes.as_deref());
    let tiers = file
        .tiers
        .as_ref()
        .map(|names| names.iter().filter_map(|name| tier_named(reader, classes, name)).collect());
    ApiKeyRoute { path: path.into(), methods, scopes, tiers }
}

fn names(said: Option<&[Spanned<String>]>) -> Vec<Box<str>> {
    said.into_iter().flatten().map(|name| name.value.as_str().into()).collect()
}
