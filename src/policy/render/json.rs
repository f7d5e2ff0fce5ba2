//! Renders policies as JSON: `/policy`, the hash of a set, and metadata in answers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::api_keys_json::describe_api_keys;
use super::limit_json::describe_limit;
use crate::policy::model::{
    AbuseEntries, AnswerMetadata, AnswerSettings, Budget, Candidate, Capacity, Choice, Classes,
    Domain, Idempotency, Metadata, MetadataValue, Only, Overlay, PolicySet, PriceLine, Prices,
    RefusalIdPlaces, Reservations, Rule, RuleLimit, Share, Weights,
};
use crate::policy::problem::Problem;

/// Hexadecimal digits of a policy's hash.
const HASH_LEN: usize = 16;

impl PolicySet {
    /// The complete set as JSON, with domains by name and rules in the order of their files.
    pub fn describe(&self) -> Value {
        let domain = |domain: &Domain| {
            let rules = domain.rules().iter();
            let rules = rules.map(|rule| describe_rule(&domain.classes, rule, Shown::WithPlaces));
            let mut described = describe_domain(domain);
            described["descriptors"] = rules.collect();
            described
        };
        let mut described = json!({
            "hash": self.hash(),
            "domains": self.domains().into_iter().map(domain).collect::<Value>(),
        });
        if !self.overlays().is_empty() {
            described["overlays"] = self.overlays().iter().map(describe_overlay).collect();
        }
        if let Some(origin) = self.origin() {
            described["source"] = origin.source.into();
            if let Some(version) = &origin.version {
                described["version"] = version.as_str().into();
            }
        }
        described
    }
}

/// A hash of all that [`PolicySet::describe`] returns for domains by name, computed rule by rule: a large set's
/// description is many times as large as the set.
pub fn digest<'a>(domains: impl Iterator<Item = &'a Domain>) -> String {
    let mut hasher = Sha256::new();
    let mut add = |value: &Value| hasher.update(value.to_string().as_bytes());
    for domain in domains {
        add(&describe_domain(domain));
        let describe = |rule| describe_rule(&domain.classes, rule, Shown::Decided);
        domain.rules().iter().for_each(|rule| add(&describe(rule)));
    }
    let mut hash: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    hash.truncate(HASH_LEN);
    hash
}

/// Metadata as JSON.
pub fn metadata_json(metadata: &Metadata) -> Map<String, Value> {
    metadata.iter().map(|(name, value)| (name.clone(), value_json(value))).collect()
}

fn value_json(value: &MetadataValue) -> Value {
    match value {
        MetadataValue::Null => Value::Null,
        MetadataValue::Bool(value) => (*value).into(),
        MetadataValue::Integer(value) => integer_json(*value),
        MetadataValue::Float(value) => (*value).into(),
        MetadataValue::Text(text) => text.as_str().into(),
        MetadataValue::List(items) => items.iter().map(value_json).collect(),
        MetadataValue::Map(map) => metadata_json(map).into(),
    }
}

fn integer_json(value: i128) -> Value {
    match u64::try_from(value) {
        Ok(value) => value.into(),
        Err(_) => i64::try_from(value).map_or(Value::Null, Value::from),
    }
}

/// All except the rules.
pub fn describe_domain(domain: &Domain) -> Value {
    let mut described = json!({
        "domain": domain.name,
        "timezone": domain.zone.iana_name(),
        "answer": describe_answer(&domain.answer),
    });
    if let Some(classes) = describe_classes(&domain.classes) {
        described["caller"] = classes;
    }
    let AbuseEntries { address, api_key, identifier } = &domain.abuse;
    if domain.abuse != AbuseEntries::default() {
        described["abuse"] =
            json!({ "address": address, "api_key": api_key, "identifier": identifier });
    }
    if let Some(api_keys) = &domain.api_keys {
        described["api_keys"] = describe_api_keys(&domain.classes, api_keys);
    }
    if let Some(idempotency) = domain.idempotency(None) {
        described["idempotency"] = describe_idempotency(idempotency);
    }
    if let Some(prices) = &domain.prices {
        let Budget { day, month } = prices.budget;
        if prices.budget != Budget::default() {
            described["budget"] = json!({ "day_micros": day, "month_micros": month });
        }
        described["prices"] =
            prices.lines.iter().map(|line| describe_price(prices, line)).collect();
    }
    if !domain.choices.is_empty() {
        described["choices"] = domain.choices.iter().map(describe_choice).collect();
    }
    described
}

fn describe_overlay(overlay: &Overlay) -> Value {
    let problem =
        |one: &Problem| json!({ "line": one.line, "column": one.column, "message": one.message });
    json!({
        "file": &*overlay.file,
        "domain": overlay.domain,
        "state": overlay.state.name(),
        "rules": overlay.met_count,
        "problems": overlay.problems.iter().map(problem).collect::<Value>(),
    })
}

/// What is shown of rules.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// What is decided.
    Decided,
    /// The same without the rules below.
    Alone,
    /// Also where the parts of a rule with an overlay are said.
    WithPlaces,
}

/// What a rule decides, without the rules below it.
pub fn describe_rule_alone(classes: &Classes, rule: &Rule) -> Value {
    describe_rule(classes, rule, Shown::Alone)
}

fn describe_rule(classes: &Classes, rule: &Rule, shown: Shown) -> Value {
    let mut map = Map::new();
    map.insert("path".to_owned(), rule.path.as_str().into());
    let flags = [
        ("share_threshold", rule.is_shared()),
        ("unlimited", rule.unlimited),
        ("cascade", rule.cascade),
    ];
    for (name, _) in flags.into_iter().filter(|(_, set)| *set) {
        map.insert(name.to_owned(), true.into());
    }
    if let Some(matcher) = rule.matcher() {
        // The path has only the first of many values.
        map.insert("values".to_owned(), matcher.id().into());
    }
    let mut list = |name: &str, items: Value| {
        if items.as_array().is_some_and(|items| !items.is_empty()) {
            map.insert(name.to_owned(), items);
        }
    };
    let limit = |limit: &Arc<RuleLimit>| {
        let mut described = describe_limit(classes, limit);
        if let Some(places) = limit.places.as_ref().filter(|_| shown == Shown::WithPlaces) {
            described["source"] = places.rate.to_string().into();
            if let Some(more) = &places.more {
                described["overlay"] = more.to_string().into();
            }
        }
        described
    };
    list("limits", rule.limits.iter().map(limit).collect());
    list("replaces", rule.replaces.iter().map(String::as_str).collect());
    let below = rule.rules().iter().filter(|_| shown != Shown::Alone);
    list("descriptors", below.map(|rule| describe_rule(classes, rule, shown)).collect());
    if let Some(only) = &rule.only {
        map.insert("only".to_owned(), describe_only(classes, only));
    }
    if let Some(capacity) = &rule.capacity {
        map.insert("capacity".to_owned(), describe_capacity(classes, capacity));
    }
    if let Some(idempotency) = &rule.idempotency {
        map.insert("idempotency".to_owned(), describe_idempotency(idempotency));
    }
    if let Some(reservations) = &rule.reservations {
        map.insert("reservation".to_owned(), describe_reservations(reservations));
    }
    if let Some(metadata) = &rule.metadata {
        map.insert("metadata".to_owned(), metadata_json(metadata).into());
    }
    if let Some(overlay) = rule.overlay.as_ref().filter(|_| shown == Shown::WithPlaces) {
        map.insert("source".to_owned(), rule.location.to_string().into());
        map.insert("overlay".to_owned(), overlay.to_string().into());
    }
    map.into()
}

fn describe_price(prices: &Prices, line: &PriceLine) -> Value {
    let when: Map<String, Value> =
        line.when.iter().map(|(key, value)| (key.to_string(), (&**value).into())).collect();
    json!({
        "when": when,
        "provider": line.provider,
        "kind": line.kind,
        "price_micros": line.micros,
        "currency": prices.currency,
        "per": line.per,
    })
}

fn describe_idempotency(idempotency: &Idempotency) -> Value {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "key": idempotency.key,
        "for_ms": ms(idempotency.life),
        "fingerprint_ms": idempotency.fingerprint.map(ms),
        "retries": idempotency.retries_max,
    })
}

fn describe_reservations(reservations: &Reservations) -> Value {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let entries = reservations.entries.as_ref();
    json!({
        "key": entries.map(|entries| &entries.id),
        "action": entries.map(|entries| &entries.action),
        "ttl_ms": ms(reservations.ttl),
        "ttl_max_ms": ms(reservations.ttl_max),
    })
}

fn describe_answer(answer: &AnswerSettings) -> Value {
    let sets = [
        (answer.ratelimit, "ratelimit"),
        (answer.ratelimit_legacy, "ratelimit-legacy"),
        (answer.x_ratelimit, "x-ratelimit"),
        (answer.retry_after, "retry-after"),
    ];
    let headers = sets.into_iter().filter(|(on, _)| *on).map(|(_, word)| word);
    let fixed = |headers: &[(String, String)]| {
        headers
            .iter()
            .map(|(name, text)| (name.clone(), Value::from(text.as_str())))
            .collect::<Value>()
    };
    let RefusalIdPlaces { header, metadata, body } = answer.refusal_id;
    let places = [(header, "header"), (metadata, "metadata"), (body, "body")];
    let places = places.into_iter().filter(|(on, _)| *on).map(|(_, word)| word);
    let mut described = json!({
        "headers": headers.collect::<Value>(),
        "limits": if answer.all_limits { "all" } else { "tightest" },
        "body": if answer.problem_body { "problem" } else { "empty" },
        "metadata": match answer.metadata {
            AnswerMetadata::Always => "always",
            AnswerMetadata::Refused => "refused",
            AnswerMetadata::Never => "never",
        },
        "request_headers": fixed(&answer.request_headers),
        "response_headers": fixed(&answer.response_headers),
    });
    if answer.refusal_id.is_any() {
        described["refusal_id"] = places.collect();
    }
    if let Some(address) = &answer.upgrade_url {
        described["upgrade_url"] = Value::from(&**address);
    }
    described
}

/// None without `caller`, `tiers` and `qualifiers`.
fn describe_classes(classes: &Classes) -> Option<Value> {
    if *classes == Classes::default() {
        return None;
    }
    let priority = &classes.priority;
    Some(json!({
        "key": classes.caller_key,
        "tier": { "key": classes.tier_key, "default": classes.tiers.get(classes.default_tier) },
        "tiers": classes.tiers,
        "qualifiers": classes.qualifiers,
        "priority": {
            "key": priority.key,
            "default": priority.default,
            "add": { "tier": priority.by_tier, "role": priority.by_role, "entry": priority.by_entry },
            "under_pressure": priority.under_pressure,
        },
    }))
}

fn describe_choice(choice: &Choice) -> Value {
    let candidate = |one: &Candidate| json!({ "name": one.name, "price": one.price, "latency_ms": one.latency_ms });
    let Weights { capacity, latency, price } = choice.weights;
    json!({
        "key": choice.key,
        "value": choice.value,
        "among": choice.candidates.iter().map(candidate).collect::<Value>(),
        "weights": { "capacity": capacity, "latency": latency, "price": price },
        "latency_key": choice.latency_key,
        "header": choice.header,
    })
}

/// The part that each tier may use, and the pressure levels.
fn describe_capacity(classes: &Classes, capacity: &Capacity) -> Value {
    let levels = capacity.levels.iter().map(|level| {
        json!({
            "above": level.above.to_string(),
            "until": level.until.to_string(),
            "scale": by_tier(classes, &level.scale),
            "only": level.only.as_ref().map(|only| describe_only(classes, only)),
        })
    });
    let mut described = json!({
        "open": by_tier(classes, &capacity.ceilings),
        "pressure": levels.collect::<Value>(),
    });
    if let Some(scheduled) = &capacity.scheduled {
        let conditions = scheduled.timetable.conditions().iter();
        let when = conditions.zip(&scheduled.capacities).map(|(condition, capacity)| {
            let mut entry = describe_capacity(classes, capacity);
            entry["during"] = (*condition.name).into();
            entry["holds"] = condition.text().into();
            entry
        });
        described["when"] = when.collect();
    }
    described
}

fn describe_only(classes: &Classes, only: &Only) -> Value {
    let named = classes.tiers.iter().zip(&only.tiers).filter(|(_, on)| **on);
    let tiers: Vec<&str> = named.map(|(tier, _)| &**tier).collect();
    json!({ "tier": tiers, "priority": only.priority })
}

/// Shares by the names of their tiers.
fn by_tier(classes: &Classes, shares: &[Share]) -> Value {
    let named = classes.tiers.iter().zip(shares);
    named.map(|(tier, share)| (tier.to_string(), Value::from(share.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_without_domains_has_one_hash() {
        assert_eq!(PolicySet::empty().hash(), digest(std::iter::empty()));
    }
}
