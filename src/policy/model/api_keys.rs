//! How a domain checks API keys: where requests have them, what they need for a route, and what the upstream is told.

use std::collections::BTreeSet;
use std::fmt;

/// How API keys are checked.
#[derive(Debug)]
pub struct ApiKeyPolicy {
    /// The beginning of API keys.
    pub prefix: Box<str>,
    /// Where a request may have its API key; the first place that has one counts.
    pub places: Vec<ApiKeyPlace>,
    /// Whether the upstream gets the API key.
    pub forwards: bool,
    /// Whether a request without an API key is refused.
    pub is_required: bool,
    pub headers: ApiKeyHeaders,
    pub routes: ApiKeyRoutes,
    /// Scopes that no route needs, but upstreams.
    pub other_scopes: Vec<Box<str>>,
    /// Whether the check charges limits.
    pub charges: bool,
    /// Number of proxies in front of Envoy.
    pub trusted_proxies: usize,
    pub on_outage: ApiKeyOutage,
    /// Unknown API keys of one address, in a window.
    pub unknown_max: u32,
    pub unknown_window_ms: u64,
}

impl ApiKeyPolicy {
    /// The scopes that API keys may have; empty: any.
    pub fn known_scopes(&self) -> BTreeSet<&str> {
        let of_routes = self.routes.routes.iter().flat_map(|route| &route.scopes);
        of_routes.chain(&self.other_scopes).map(|scope| &**scope).collect()
    }
}

/// A place of a request with an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiKeyPlace {
    Header(HeaderPlace),
    /// A parameter of the query.
    Query(Box<str>),
    Cookie(Box<str>),
}

/// A header, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderPlace {
    pub name: Box<str>,
    /// The word before the API key. A header with another one has no API key.
    pub scheme: Option<Box<str>>,
}

/// The names of headers for the upstream, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiKeyHeaders {
    pub caller: Option<Box<str>>,
    pub tier: Option<Box<str>>,
    pub scopes: Option<Box<str>>,
    pub key_id: Option<Box<str>>,
}

impl ApiKeyHeaders {
    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [&self.caller, &self.tier, &self.scopes, &self.key_id]
            .into_iter()
            .flatten()
            .map(|one| &**one)
    }
}

/// What holds while the store is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKeyOutage {
    Deny,
    /// API keys pass as they were last known.
    Cached,
}

/// What an API key needs for some requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyRoute {
    /// The pattern of the path, as written.
    pub path: Box<str>,
    /// Empty: all.
    pub methods: Vec<Box<str>>,
    /// All of them are needed.
    pub scopes: Vec<Box<str>>,
    /// The indexes of tiers, one of which is needed. None: all.
    pub tiers: Option<Vec<usize>>,
}

/// The routes, by path.
#[derive(Clone, Default)]
pub struct ApiKeyRoutes {
    routes: Vec<ApiKeyRoute>,
    /// The indexes of the routes with one path, by the number of the path.
    groups: Vec<Vec<usize>>,
    /// The numbers of paths.
    by_path: matchit::Router<usize>,
    allows_others: bool,
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKeyNeeds<'p> {
    /// Any API key.
    Nothing,
    Route(&'p ApiKeyRoute),
    /// No API key is enough.
    NoRoute,
}

impl fmt::Debug for ApiKeyRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.routes).finish()
    }
}

impl ApiKeyRoutes {
    /// No routes yet; requests without a route may pass.
    pub fn new(allows_others: bool) -> Self {
        Self { allows_others, ..Self::default() }
    }

    /// Whether requests without a route pass.
    pub fn allows_others(&self) -> bool {
        self.allows_others
    }

    /// The routes in the order of the file.
    pub fn routes(&self) -> &[ApiKeyRoute] {
        &self.routes
    }

    /// Adds a route.
    ///
    /// # Errors
    /// If its path is invalid, or it can't be told from another one: a clause with the reason.
    pub fn add(&mut self, route: ApiKeyRoute) -> Result<(), String> {
        let index = self.routes.len();
        let first = |group: &&mut Vec<usize>| {
            group.first().is_some_and(|first| self.routes[*first].path == route.path)
        };
        match self.groups.iter_mut().find(first) {
            Some(group) => group.push(index),
            None => {
                let number = self.groups.len();
                self.by_path
                    .insert(&*route.path, number)
                    .map_err(|error| format!("invalid path `{}`: {error}", route.path))?;
                self.groups.push(vec![index]);
            }
        }
        self.routes.push(route);
        Ok(())
    }

    /// The methods that have a route with this path, if it is one of some methods alone. The path has no query.
    pub fn methods_of(&self, path: &str) -> Vec<&str> {
        let group = self.by_path.at(path).ok().and_then(|found| self.groups.get(*found.value));
        let routes = group.into_iter().flatten().filter_map(|one| self.routes.get(*one));
        routes.flat_map(|route| &route.methods).map(|method| &**method).collect()
    }

    /// What a request with this method and path needs. The path has no query.
    pub fn needs(&self, method: &str, path: &str) -> ApiKeyNeeds<'_> {
        if self.routes.is_empty() {
            return ApiKeyNeeds::Nothing;
        }
        let group = self.by_path.at(path).ok().and_then(|found| self.groups.get(*found.value));
        let mut routes = group.into_iter().flatten().filter_map(|one| self.routes.get(*one));
        let is_of = |route: &&ApiKeyRoute| {
            route.methods.is_empty() || route.methods.iter().any(|one| **one == *method)
        };
        match routes.find(is_of) {
            Some(route) => ApiKeyNeeds::Route(route),
            None if self.allows_others => ApiKeyNeeds::Nothing,
            None => ApiKeyNeeds::NoRoute,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str, methods: &[&str], scope: &str) -> ApiKeyRoute {
        ApiKeyRoute {
            path: path.into(),
            methods: methods.iter().map(|one| (*one).into()).collect(),
            scopes: vec![scope.into()],
            tiers: None,
        }
    }

    fn check(routes: &ApiKeyRoutes, method: &str, path: &str, scope: Option<&str>) {
        let scope_of = |needs| match needs {
            ApiKeyNeeds::Route(route) => Some(route.scopes[0].to_string()),
            _ => None,
        };
        assert_eq!(scope_of(routes.needs(method, path)).as_deref(), scope, "{method} {path}");
    }

    #[test]
    fn the_most_specific_path_decides_and_then_the_method() {
        let mut routes = ApiKeyRoutes::default();
        assert_eq!(routes.needs("GET", "/x"), ApiKeyNeeds::Nothing);
        for one in [
            route("/v1/{*rest}", &[], "all"),
            route("/v1/hotels/{id}", &["GET", "HEAD"], "read"),
            route("/v1/hotels/{id}", &["POST"], "write"),
            route("/v1/hotels/search", &[], "search"),
        ] {
            routes.add(one).unwrap();
        }
        check(&routes, "GET", "/v1/hotels/7", Some("read"));
        check(&routes, "POST", "/v1/hotels/7", Some("write"));
        check(&routes, "DELETE", "/v1/hotels/7", None);
        check(&routes, "POST", "/v1/hotels/search", Some("search"));
        check(&routes, "GET", "/v1/flights/a/b", Some("all"));
        check(&routes, "GET", "/v2", None);
        assert_eq!(routes.needs("GET", "/v2"), ApiKeyNeeds::NoRoute);
        routes.allows_others = true;
        assert_eq!(routes.needs("GET", "/v2"), ApiKeyNeeds::Nothing);
    }

    #[test]
    fn paths_that_can_not_be_told_apart_are_refused() {
        let mut routes = ApiKeyRoutes::default();
        routes.add(route("/a/{x}", &[], "s")).unwrap();
        for wrong in ["/a/{y}", "/b/{", "/c/{*x}/d"] {
            let message = routes.add(route(wrong, &[], "s")).unwrap_err();
            assert!(message.contains(&format!("invalid path `{wrong}`")), "{message}");
        }
    }
}
