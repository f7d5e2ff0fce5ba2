//! What `tollgate explain --route` tells of a request with an API key: the route that it matches, what it needs, and whether an
//! API key with these scopes and this tier may make it.

use std::fmt;

use clap::{Arg, ArgAction, ArgMatches};
use serde::Serialize;

use crate::api_keys::{ApiKey, KeyRefusal, may_take, needs, plain_path};
use crate::engine::api_key_tier;
use crate::policy::{ApiKeyNeeds, ApiKeyPolicy, ApiKeyRoute, Domain, Lineage, nearest};

/// The request, and what it needs.
#[derive(Debug, Serialize)]
pub struct RouteReport {
    pub domain: String,
    pub method: String,
    pub path: String,
    /// Of the API key.
    pub scopes: Vec<String>,
    /// Of the API key or its caller; null if the policy has no tiers.
    pub tier: Option<String>,
    /// The route that it matches; null if there is none.
    pub route: Option<NeedsReport>,
    pub passes: bool,
    /// `route`, `tier` or `scope` if it is refused.
    pub reason: Option<&'static str>,
    pub why: String,
    /// Scopes that no policy names.
    pub unknown_scopes: Vec<String>,
}

/// What a route needs.
#[derive(Debug, Serialize)]
pub struct NeedsReport {
    pub path: String,
    /// Empty: all.
    pub methods: Vec<String>,
    /// All of them are needed.
    pub scopes: Vec<String>,
    /// One of them is needed; null: any.
    pub tiers: Option<Vec<String>>,
}

/// The arguments of a request with an API key.
pub fn args() -> [Arg; 3] {
    let route = Arg::new("route").long("route").value_name("METHOD PATH").conflicts_with("descriptor").help(
        "A request with an API key, such as 'GET /hotels/7': which route of `api_keys` it matches, and whether the API key may make it",
    );
    let scope = Arg::new("scope").long("scope").value_name("SCOPE").requires("route");
    let scope = scope.action(ArgAction::Append).value_delimiter(',');
    let tier = Arg::new("tier").long("tier").value_name("TIER").requires("route");
    [
        route,
        scope.help("A scope of the API key; may be repeated"),
        tier.help("The tier of the API key, instead of the caller's"),
    ]
}

impl RouteReport {
    /// The report, by the arguments and the lineage of the caller.
    ///
    /// # Errors
    /// If the policy has no API keys, or an argument is invalid.
    pub fn of(matches: &ArgMatches, domain: &Domain, lineage: &Lineage) -> Result<Self, String> {
        let asked = matches.get_one::<String>("route").map_or("", String::as_str);
        let scopes: Vec<Box<str>> = matches
            .get_many::<String>("scope")
            .unwrap_or_default()
            .map(|scope| scope.as_str().into())
            .collect();
        let (method, path) = asked
            .split_once(' ')
            .filter(|(method, path)| !method.is_empty() && path.starts_with('/'))
            .ok_or_else(|| {
                format!("invalid route `{asked}`; use method and path, such as 'GET /hotels/7'")
            })?;
        let Some(policy) = &domain.api_keys else {
            return Err(format!("the policy of the domain `{}` has no `api_keys`", domain.name));
        };
        let tier = tier(matches, domain, lineage)?;
        let needed = needs(policy, (method, path));
        let judged = match needed {
            ApiKeyNeeds::Nothing => Ok(()),
            ApiKeyNeeds::NoRoute => Err(KeyRefusal::Route),
            ApiKeyNeeds::Route(route) => may_take(route, &scopes, tier),
            ApiKeyNeeds::Both(one, other) => {
                may_take(one, &scopes, tier).and_then(|()| may_take(other, &scopes, tier))
            }
        };
        let route = match needed {
            ApiKeyNeeds::Route(route) => Some(NeedsReport::of(route, domain)),
            ApiKeyNeeds::Both(one, other) => {
                Some(NeedsReport::of(one, domain).and(&NeedsReport::of(other, domain)))
            }
            ApiKeyNeeds::Nothing | ApiKeyNeeds::NoRoute => None,
        };
        let known = policy.known_scopes();
        let unknown = scopes.iter().filter(|scope| !known.is_empty() && !known.contains(&***scope));
        Ok(Self {
            domain: domain.name.clone(),
            method: method.to_owned(),
            path: path.to_owned(),
            tier: domain.classes.tiers.get(tier).map(ToString::to_string),
            passes: judged.is_ok(),
            reason: judged.err().map(KeyRefusal::name),
            why: why(policy, (method, path), (route.as_ref(), &scopes, judged)),
            unknown_scopes: unknown.map(ToString::to_string).collect(),
            scopes: scopes.iter().map(ToString::to_string).collect(),
            route,
        })
    }
}

/// The index of the tier of the API key.
fn tier(matches: &ArgMatches, domain: &Domain, lineage: &Lineage) -> Result<usize, String> {
    let said = matches.get_one::<String>("tier").map(String::as_str);
    if let Some(name) = said.filter(|name| domain.classes.tier(name).is_none()) {
        let known: Vec<&str> = domain.classes.tiers.iter().map(|tier| &**tier).collect();
        let meant = nearest(name, &known).map(|meant| format!("; did you mean `{meant}`?"));
        return Err(format!("unknown tier `{name}`{}", meant.unwrap_or_default()));
    }
    let key = ApiKey { tier: said.map(Box::from), ..ApiKey::default() };
    Ok(api_key_tier(domain, &key, lineage))
}

fn why(
    policy: &ApiKeyPolicy,
    (method, path): (&str, &str),
    (route, scopes, judged): (Option<&NeedsReport>, &[Box<str>], Result<(), KeyRefusal>),
) -> String {
    let Some(route) = route else {
        if policy.routes.routes().is_empty() {
            return "the policy has no `routes`: an API key may make every request".to_owned();
        }
        let Some(plain) = plain_path(path) else {
            return "upstreams may read the path in several ways, so it matches no route"
                .to_owned();
        };
        let others = policy.routes.methods_of(&plain);
        let others = match others.as_slice() {
            [] => String::new(),
            others => format!(" (its path has routes for {}, not for {method})", others.join(", ")),
        };
        return match judged {
            Ok(()) => format!("no route matches{others}, and `other_routes` is `allow`"),
            Err(_) => format!("no route matches{others}, and `other_routes` is `deny`"),
        };
    };
    match judged {
        Ok(()) => "scopes and tier are enough".to_owned(),
        Err(KeyRefusal::Tier) => {
            let tiers = route.tiers.as_deref().unwrap_or_default();
            format!("it needs one of the tiers {}", tiers.join(", "))
        }
        Err(_) => {
            let missing =
                route.scopes.iter().filter(|scope| !scopes.iter().any(|one| **one == ***scope));
            let missing: Vec<&str> = missing.map(String::as_str).collect();
            format!("the API key has not {}", missing.join(", "))
        }
    }
}

impl NeedsReport {
    fn of(route: &ApiKeyRoute, domain: &Domain) -> Self {
        let texts = |texts: &[Box<str>]| texts.iter().map(ToString::to_string).collect();
        let tier = |tier: &usize| domain.classes.tiers.get(*tier).map(ToString::to_string);
        Self {
            path: route.path.to_string(),
            methods: texts(&route.methods),
            scopes: texts(&route.scopes),
            tiers: route.tiers.as_ref().map(|tiers| tiers.iter().filter_map(tier).collect()),
        }
    }

    /// The needs of both.
    fn and(mut self, other: &Self) -> Self {
        self.path = format!("{} and {}", self.path, other.path);
        let more = other.scopes.iter().filter(|scope| !self.scopes.contains(scope)).cloned();
        self.scopes.extend(more.collect::<Vec<_>>());
        self.tiers = match (self.tiers, &other.tiers) {
            (Some(tiers), Some(others)) => {
                Some(tiers.into_iter().filter(|tier| others.contains(tier)).collect())
            }
            (tiers, others) => tiers.or_else(|| others.clone()),
        };
        self
    }
}

impl fmt::Display for RouteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |items: &[String], none: &str| match items {
            [] => none.to_owned(),
            items => items.join(", "),
        };
        writeln!(f, "{} {} in the domain {}", self.method, self.path, self.domain)?;
        write!(f, "  API key with the scopes {}", or(&self.scopes, "(none)"))?;
        match &self.tier {
            Some(tier) => writeln!(f, ", tier {tier}")?,
            None => writeln!(f)?,
        }
        for scope in &self.unknown_scopes {
            writeln!(f, "  unknown scope `{scope}`: the policy does not have it")?;
        }
        match &self.route {
            Some(route) => {
                write!(f, "  route {} {}: ", or(&route.methods, "(all methods)"), route.path)?;
                write!(f, "scopes {}", or(&route.scopes, "(none)"))?;
                writeln!(
                    f,
                    ", tiers {}",
                    route.tiers.as_ref().map_or("(all)".to_owned(), |tiers| tiers.join(", "))
                )?;
            }
            None => writeln!(f, "  no route")?,
        }
        let word = if self.passes { "may make it" } else { "is refused with 403" };
        writeln!(f, "the API key {word}: {}", self.why)
    }
}
