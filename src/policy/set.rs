//! All domains that are in force together, and their JSON for `/policy`.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use serde_json::Value;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;

use crate::limit::Algorithm;
use crate::limit::Overdraft;

use super::choice::Choice;
use super::classes::Classes;
use super::lease::Lease;
use super::problem::Problem;
use super::rule::Domain;
use super::rule::Rule;
use super::rule::RuleLimit;

/// Hexadecimal digits of a policy's hash.
const HASH_LEN: usize = 16;

/// All the domains that are in force together.
#[derive(Debug)]
pub struct PolicySet {
    domains: HashMap<Box<str>, Domain, RandomState>,
    warnings: Vec<Problem>,
    hash: String,
}

impl PolicySet {
    pub(super) fn new(domains: impl Iterator<Item = Domain>, warnings: Vec<Problem>) -> Self {
        let domains = domains.map(|domain| (domain.name.as_str().into(), domain)).collect();
        let mut set = Self { domains, warnings, hash: String::new() };
        set.hash = set.digest();
        set
    }

    /// A hash of all that [`PolicySet::describe`] tells, made a rule at a time: a large set's description is many
    /// times as large as the set.
    fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        let mut add = |told: &Value| hasher.update(told.to_string().as_bytes());
        for domain in self.domains() {
            add(&describe_domain(domain));
            domain.rules().iter().for_each(|rule| add(&describe_rule(&domain.classes, rule)));
        }
        let mut hash: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        hash.truncate(HASH_LEN);
        hash
    }

    /// A set without any domain: every request passes.
    pub fn empty() -> Self {
        Self::new(std::iter::empty(), Vec::new())
    }

    /// The policy of a domain.
    pub fn domain(&self, name: &str) -> Option<&Domain> {
        self.domains.get(name)
    }

    /// Every domain, by name.
    pub fn domains(&self) -> Vec<&Domain> {
        let mut domains: Vec<&Domain> = self.domains.values().collect();
        domains.sort_unstable_by_key(|domain| domain.name.as_str());
        domains
    }

    /// What works but has no effect.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Tells apart sets that decide differently, whatever files they came from.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The whole set as JSON, domains by name and rules in the order of their files.
    pub fn describe(&self) -> Value {
        let domain = |domain: &Domain| {
            let rules = domain.rules().iter().map(|rule| describe_rule(&domain.classes, rule));
            let mut told = describe_domain(domain);
            told["descriptors"] = rules.collect();
            told
        };
        json!({ "hash": self.hash, "domains": self.domains().into_iter().map(domain).collect::<Value>() })
    }
}

/// All but the rules.
fn describe_domain(domain: &Domain) -> Value {
    let mut told = json!({
        "domain": domain.name,
        "timezone": domain.zone.iana_name(),
        "answer": domain.answer.describe(),
    });
    if let Some(classes) = domain.classes.describe() {
        told["caller"] = classes;
    }
    if !domain.choices.is_empty() {
        told["choices"] = domain.choices.iter().map(Choice::describe).collect();
    }
    told
}

fn describe_rule(classes: &Classes, rule: &Rule) -> Value {
    let mut map = serde_json::Map::new();
    map.insert("path".to_owned(), rule.path.as_str().into());
    let flags = [
        ("share_threshold", rule.shared_pattern().is_some()),
        ("unlimited", rule.unlimited),
        ("cascade", rule.cascade),
    ];
    for (name, _) in flags.into_iter().filter(|(_, set)| *set) {
        map.insert(name.to_owned(), true.into());
    }
    let mut list = |name: &str, items: Value| {
        if items.as_array().is_some_and(|items| !items.is_empty()) {
            map.insert(name.to_owned(), items);
        }
    };
    list("limits", rule.limits.iter().map(|limit| describe_limit(classes, limit)).collect());
    list("replaces", rule.replaces.iter().map(String::as_str).collect());
    list("descriptors", rule.rules().iter().map(|rule| describe_rule(classes, rule)).collect());
    if let Some(only) = &rule.only {
        map.insert("only".to_owned(), only.describe(classes));
    }
    if let Some(capacity) = &rule.capacity {
        map.insert("capacity".to_owned(), capacity.describe(classes));
    }
    if let Some(metadata) = &rule.metadata {
        map.insert("metadata".to_owned(), metadata.clone().into());
    }
    map.into()
}

/// A limit as JSON: what it allows, how, and what happens when it is over or can't be asked.
fn describe_limit(classes: &Classes, limit: &RuleLimit) -> Value {
    let mut map = serde_json::Map::new();
    let mut text = |name: &str, value: String| map.insert(name.to_owned(), value.into());
    text("rate", limit.limit.to_string());
    text("algorithm", limit.limit.algorithm().to_string());
    if let Algorithm::Calendar(calendar) = limit.limit.algorithm() {
        text("timezone", calendar.zone_name().to_owned());
    }
    text("mode", limit.mode.to_string());
    text("on_outage", limit.on_outage.to_string());
    if !limit.name.is_empty() {
        text("name", limit.name.to_string());
    }
    if limit.limit.capacity() != limit.limit.amount() {
        map.insert("burst".to_owned(), limit.limit.capacity().into());
    }
    if !limit.by_tier.is_empty() {
        let of_tier = classes.tiers.iter().zip(&limit.by_tier);
        let told = of_tier.map(|(tier, limit)| (tier.to_string(), limit.to_string().into()));
        map.insert("by_tier".to_owned(), told.collect::<serde_json::Map<_, _>>().into());
    }
    if let Some(cost) = &limit.cost {
        map.insert("cost".to_owned(), cost.describe());
        map.insert("cost_table".to_owned(), cost.name().into());
    }
    if let Some(currency) = &limit.currency {
        map.insert("currency".to_owned(), (&**currency).into());
    }
    if limit.limit.overdraft() != Overdraft::None {
        map.insert("overdraft".to_owned(), limit.limit.overdraft().to_string().into());
    }
    if let Some(wait) = limit.wait {
        let up_to_ms = u64::try_from(wait.up_to.as_millis()).unwrap_or(u64::MAX);
        map.insert("wait".to_owned(), json!({ "up_to_ms": up_to_ms, "queue": wait.queue }));
    }
    if limit.lease == Lease::Auto {
        map.insert("lease".to_owned(), "auto".into());
    }
    map.into()
}
