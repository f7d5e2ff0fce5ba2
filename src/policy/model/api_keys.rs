//! How a domain checks API keys: where requests have them, what they need for a route, and what the upstream is told.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

/// Maximum number of methods that routes name: each has a router of its own.
const METHODS_MAX: usize = 32;

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

/// The routes, by method and path.
#[derive(Clone, Default)]
pub struct ApiKeyRoutes {
    routes: Vec<ApiKeyRoute>,
    /// The paths of all methods, as written, so that two that can't be told apart are refused.
    paths: matchit::Router<()>,
    known: HashSet<Box<str>>,
    /// For each method that a route names: its routes, and those for all methods.
    by_method: HashMap<Box<str>, MethodRoutes>,
    /// For the other methods.
    of_all: MethodRoutes,
    allows_others: bool,
}

/// The routes of a method, by path.
#[derive(Clone, Default)]
struct MethodRoutes {
    /// The indexes in `found`.
    router: matchit::Router<usize>,
    found: Vec<FoundRoute>,
    /// The same indexes, by paths without the names of their parameters.
    by_shape: HashMap<String, usize>,
}

/// The indexes of the routes for a path, each the first of its kind.
#[derive(Clone, Copy, Default)]
struct FoundRoute {
    /// With this path. If there is one, the others do not count.
    own: Option<usize>,
    /// With this path but for a slash at its end.
    slashed: Option<usize>,
    /// With `{*rest}` after this path.
    rest: Option<usize>,
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKeyNeeds<'p> {
    /// Any API key.
    Nothing,
    Route(&'p ApiKeyRoute),
    /// The needs of both: an upstream may take the path for either.
    Both(&'p ApiKeyRoute, &'p ApiKeyRoute),
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
        if !self.known.contains(&route.path) {
            self.paths
                .insert(&*route.path, ())
                .map_err(|error| format!("invalid path `{}`: {error}", route.path))?;
            self.known.insert(route.path.clone());
        }
        for method in &route.methods {
            if !self.by_method.contains_key(method) {
                if self.by_method.len() == METHODS_MAX {
                    return Err(format!("too many methods; at most {METHODS_MAX} are allowed"));
                }
                self.by_method.insert(method.clone(), self.of_all.clone());
            }
        }
        if route.methods.is_empty() {
            self.of_all.add(&route.path, index)?;
        }
        for (method, routes) in &mut self.by_method {
            if route.methods.is_empty() || route.methods.contains(method) {
                routes.add(&route.path, index)?;
            }
        }
        self.routes.push(route);
        Ok(())
    }

    /// The methods that have a route for this path, in order, if the others have none. The path has no query.
    pub fn methods_of(&self, path: &str) -> Vec<&str> {
        if self.of_all.has(path) {
            return Vec::new();
        }
        let known = self.by_method.iter().filter(|(_, routes)| routes.has(path));
        let mut methods: Vec<&str> = known.map(|(method, _)| &**method).collect();
        methods.sort_unstable();
        methods
    }

    /// What a request with this method and path needs: the most specific path counts of those with the method. The path has
    /// no query.
    pub fn needs(&self, method: &str, path: &str) -> ApiKeyNeeds<'_> {
        if self.routes.is_empty() {
            return ApiKeyNeeds::Nothing;
        }
        let routes = self.by_method.get(method).unwrap_or(&self.of_all);
        let [first, second] = routes.at(path).map(|index| self.routes.get(index?));
        match (first, second) {
            (Some(first), Some(second)) => ApiKeyNeeds::Both(first, second),
            (Some(route), None) | (None, Some(route)) => ApiKeyNeeds::Route(route),
            (None, None) if self.allows_others => ApiKeyNeeds::Nothing,
            (None, None) => ApiKeyNeeds::NoRoute,
        }
    }
}

impl MethodRoutes {
    /// Adds a route, with `{*rest}` also for the path without the rest, and else for the path with or without a slash at its
    /// end: most upstreams read both alike.
    fn add(&mut self, path: &str, index: usize) -> Result<(), String> {
        self.put(path, index, |found| &mut found.own)?;
        if let Some((base, _)) = path.rsplit_once("/{*") {
            for base in [base, &format!("{base}/")] {
                self.put(base, index, |found| &mut found.rest)?;
            }
            return Ok(());
        }
        // Nothing can follow a rest, such as that of `/a{*rest}`, which covers the slash. Doubled braces are text.
        if path.match_indices("{*").any(|(at, _)| !path[..at].ends_with('{')) {
            return Ok(());
        }
        match path.strip_suffix('/') {
            Some(bare) => self.put(bare, index, |found| &mut found.slashed),
            None => self.put(&format!("{path}/"), index, |found| &mut found.slashed),
        }
    }

    /// Of several routes of one kind for a path the first counts.
    fn put(
        &mut self,
        path: &str,
        index: usize,
        kind: impl Fn(&mut FoundRoute) -> &mut Option<usize>,
    ) -> Result<(), String> {
        if path.is_empty() {
            return Ok(());
        }
        let shape = shape(path);
        let place = match self.by_shape.get(&shape) {
            Some(known) => *known,
            None => {
                let place = self.found.len();
                let invalid = |error| format!("invalid path `{path}`: {error}");
                self.router.insert(path, place).map_err(invalid)?;
                self.by_shape.insert(shape, place);
                self.found.push(FoundRoute::default());
                place
            }
        };
        if let Some(found) = self.found.get_mut(place) {
            kind(found).get_or_insert(index);
        }
        Ok(())
    }

    /// The indexes of the routes for a path, all of which count.
    fn at(&self, path: &str) -> [Option<usize>; 2] {
        let matched = self.router.at(path).ok();
        let found = matched.and_then(|matched| self.found.get(*matched.value));
        match found {
            Some(FoundRoute { own: Some(own), .. }) => [Some(*own), None],
            Some(FoundRoute { slashed, rest, .. }) => [*slashed, *rest],
            None => [None, None],
        }
    }

    fn has(&self, path: &str) -> bool {
        self.at(path).iter().any(Option::is_some)
    }
}

/// A path without the names of its parameters.
fn shape(path: &str) -> String {
    let mut shape = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        shape.push_str(before);
        shape.push('{');
        rest = match after.strip_prefix('{') {
            // An escaped brace.
            Some(after) => {
                shape.push('{');
                after
            }
            None => {
                shape.push_str(if after.starts_with('*') { "*}" } else { "}" });
                after.split_once('}').map_or("", |(_, after)| after)
            }
        };
    }
    shape.push_str(rest);
    shape
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
            ApiKeyNeeds::Both(one, other) => Some(format!("{} {}", one.scopes[0], other.scopes[0])),
            ApiKeyNeeds::Nothing | ApiKeyNeeds::NoRoute => None,
        };
        assert_eq!(scope_of(routes.needs(method, path)).as_deref(), scope, "{method} {path}");
    }

    #[test]
    fn the_most_specific_path_with_the_method_decides() {
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
        check(&routes, "DELETE", "/v1/hotels/7", Some("all"));
        check(&routes, "POST", "/v1/hotels/search", Some("search"));
        check(&routes, "GET", "/v1/flights/a/b", Some("all"));
        check(&routes, "GET", "/v2", None);
        assert_eq!(routes.needs("GET", "/v2"), ApiKeyNeeds::NoRoute);
        routes.allows_others = true;
        assert_eq!(routes.needs("GET", "/v2"), ApiKeyNeeds::Nothing);
    }

    #[test]
    fn a_route_for_one_method_opens_nothing_for_others() {
        let mut routes = ApiKeyRoutes::new(true);
        routes.add(route("/a/{*rest}", &["GET"], "read")).unwrap();
        routes.add(route("/a/{*rest}", &[], "all")).unwrap();
        check(&routes, "GET", "/a/x", Some("read"));
        routes.add(route("/a/x", &["POST"], "write")).unwrap();
        check(&routes, "POST", "/a/x", Some("write"));
        check(&routes, "GET", "/a/x", Some("read"));
        check(&routes, "PUT", "/a/x", Some("all"));
        check(&routes, "POST", "/a/y", Some("all"));
        // The first of two routes for one path and method counts.
        routes.add(route("/a/x", &[], "late")).unwrap();
        routes.add(route("/a/x", &["POST", "PUT"], "later")).unwrap();
        check(&routes, "POST", "/a/x", Some("write"));
        check(&routes, "PUT", "/a/x", Some("late"));
        check(&routes, "GET", "/a/x", Some("late"));
    }

    #[test]
    fn a_route_with_a_rest_covers_the_path_without_it() {
        let mut routes = ApiKeyRoutes::new(true);
        routes.add(route("/admin/{*rest}", &[], "admin")).unwrap();
        routes.add(route("/{x}", &[], "one")).unwrap();
        routes.add(route("/t/{tenant}/{*rest}", &["GET"], "tenant")).unwrap();
        for path in ["/admin", "/admin/", "/admin/a", "/admin/a/b"] {
            check(&routes, "GET", path, Some("admin"));
            check(&routes, "POST", path, Some("admin"));
        }
        check(&routes, "GET", "/other", Some("one"));
        check(&routes, "GET", "/t/7", Some("tenant"));
        check(&routes, "GET", "/t/7/", Some("tenant"));
        check(&routes, "POST", "/t/7", None);
        // A route for the path itself counts more, wherever it is written.
        routes.add(route("/t/{id}", &[], "id")).unwrap();
        routes.add(route("/admin", &["GET"], "page")).unwrap();
        check(&routes, "GET", "/t/7", Some("id"));
        check(&routes, "GET", "/admin", Some("page"));
        // Some upstreams take `/admin/` for the page, some for what is below it.
        check(&routes, "GET", "/admin/", Some("page admin"));
        check(&routes, "POST", "/admin", Some("admin"));
        check(&routes, "POST", "/admin/", Some("admin"));
        let mut all = ApiKeyRoutes::new(true);
        all.add(route("/{*rest}", &[], "rest")).unwrap();
        all.add(route("/admin/{*rest}", &["GET"], "admin")).unwrap();
        check(&all, "GET", "/", Some("rest"));
        check(&all, "GET", "/admin", Some("admin"));
        check(&all, "POST", "/admin/x", Some("rest"));
    }

    #[test]
    fn a_slash_at_the_end_leads_around_no_route() {
        for allows_others in [true, false] {
            let mut routes = ApiKeyRoutes::new(allows_others);
            routes.add(route("/{*rest}", &[], "rest")).unwrap();
            routes.add(route("/admin", &[], "admin")).unwrap();
            routes.add(route("/files/", &["GET"], "files")).unwrap();
            routes.add(route("/users/{id}", &[], "user")).unwrap();
            for (path, scope) in [
                ("/admin", "admin"),
                ("/admin/", "admin"),
                ("/admin/x", "rest"),
                ("/files", "files"),
                ("/files/", "files"),
                ("/users/7", "user"),
                ("/users/7/", "user"),
                ("/users/", "rest"),
                ("/", "rest"),
            ] {
                check(&routes, "GET", path, Some(scope));
            }
            check(&routes, "POST", "/files", Some("rest"));
            // Both may be written, in any order.
            routes.add(route("/admin/", &[], "folder")).unwrap();
            routes.add(route("/files", &["GET"], "file")).unwrap();
            routes.add(route("/users/{name}/", &["POST"], "write")).unwrap();
            for (method, path, scope) in [
                ("GET", "/admin", "admin"),
                ("GET", "/admin/", "folder"),
                ("GET", "/files", "file"),
                ("GET", "/files/", "files"),
                ("POST", "/users/7", "user"),
                ("POST", "/users/7/", "write"),
            ] {
                check(&routes, method, path, Some(scope));
            }
        }
        let mut root = ApiKeyRoutes::new(false);
        root.add(route("/", &[], "root")).unwrap();
        root.add(route("/a/{x}", &[], "x")).unwrap();
        root.add(route("/a/b/{*rest}", &[], "b")).unwrap();
        check(&root, "GET", "/", Some("root"));
        check(&root, "GET", "/a/b/", Some("b"));
        check(&root, "GET", "/a/c/", Some("x"));
    }

    /// Whatever can be written side by side can be, also with the paths that are added with and without a slash.
    #[test]
    fn a_slash_that_is_added_conflicts_with_no_other_route() {
        let paths = [
            "/",
            "/a",
            "/a/",
            "/{x}",
            "/{x}/",
            "/{*r}",
            "/a/{x}",
            "/a/{x}/",
            "/a/{*r}",
            "/a/b",
            "/a/b/",
            "/{x}/b",
            "/{x}/{y}",
            "/{y}/b/",
            "/a/{x}/c",
            "/a{x}",
            "/a{x}/",
            "/{x}/{*r}",
            "/ab{*r}",
        ];
        for first in paths {
            for second in paths {
                for third in paths {
                    let all = [first, second, third];
                    let mut router = matchit::Router::new();
                    let distinct: HashSet<&str> = all.into_iter().collect();
                    if distinct.into_iter().any(|path| router.insert(path, ()).is_err()) {
                        continue;
                    }
                    let mut routes = ApiKeyRoutes::new(true);
                    for path in all {
                        assert_eq!(routes.add(route(path, &[], path)), Ok(()), "{all:?}");
                    }
                    for path in all.into_iter().filter(|path| !path.contains('{')) {
                        check(&routes, "GET", path, Some(path));
                    }
                }
            }
        }
    }

    #[test]
    fn routes_have_a_bounded_number_of_methods() {
        let mut routes = ApiKeyRoutes::default();
        let names: Vec<String> = (0..METHODS_MAX).map(|index| format!("M{index}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        routes.add(route("/a", &names, "s")).unwrap();
        assert!(routes.add(route("/b", &["GET"], "s")).unwrap_err().contains("too many methods"));
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
