//! Worlds as YAML, as a user would write them.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::holdings::{ACTION_KEY, ID_KEY};
use super::people::{Bonus, NEVER_MS, People, Person};
use super::world::{
    Algorithm, Capacity, CostLine, Defaults, Enforcement, Level, Limit, Mode, Only, Overdraft,
    Priority, Retries, Rule, Tiered, Value, WHOLE, World,
};
use super::yaml_times::{grace, schedules, when};

/// A map without what is absent.
pub fn map<const N: usize>(fields: [(&str, Json); N]) -> Json {
    let there = fields.into_iter().filter(|(_, value)| !is_absent(value));
    there.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
}

fn is_absent(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::Array(items) => items.is_empty(),
        Json::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// The policy of a world.
pub fn policy(world: &World) -> String {
    let caller = world.caller.as_ref().map(|caller| {
        let default = caller.default_tier.map(|tier| world.tiers[tier].clone());
        map([
            ("key", json!(caller.key)),
            ("tier", map([("key", json!(caller.tier_key)), ("default", json!(default))])),
            ("priority", caller.priority.as_ref().map_or(Json::Null, priority)),
        ])
    });
    let costs = world.costs.iter().map(|table| {
        let lines: Json = table.lines.iter().map(cost).collect();
        (table.name.clone(), lines)
    });
    let policy = map([
        ("domain", json!(world.domain)),
        ("timezone", json!(world.zone)),
        ("tiers", json!(world.tiers)),
        ("caller", caller.unwrap_or_default()),
        ("qualifiers", json!(world.qualifiers)),
        ("costs", costs.collect::<Map<_, _>>().into()),
        ("schedules", schedules(world)),
        ("idempotency", world.retries.as_ref().map_or(Json::Null, retries)),
        ("reservation", world.holding_ms.map_or(Json::Null, reservation)),
        ("answer", json!({ "metadata": "always" })),
        ("mode", world.mode.map_or(Json::Null, mode)),
        ("enforce", world.mode.map_or(Json::Null, enforce)),
        ("defaults", defaults(&world.defaults)),
        ("descriptors", world.rules.iter().map(|one| rule(world, one)).collect()),
    ]);
    text(&policy)
}

fn reservation(holding_ms: u64) -> Json {
    json!({ "key": ID_KEY, "action": ACTION_KEY, "ttl": format!("{holding_ms}ms") })
}

fn retries(retries: &Retries) -> Json {
    let ms = |ms: u64| json!(format!("{ms}ms"));
    map([
        ("key", json!(retries.key)),
        ("for", retries.key.as_ref().map_or(Json::Null, |_| ms(retries.life_ms))),
        ("fingerprint", retries.fingerprint_ms.map_or(Json::Null, ms)),
        ("retries", json!(retries.free)),
    ])
}

/// A directory.
pub fn directory(people: &People) -> String {
    let people = people.iter().map(|(name, one)| (name.clone(), person(one)));
    text(&json!({ "callers": people.collect::<Map<_, _>>() }))
}

/// An instant as RFC 3339 has it.
pub fn instant(ms: u64) -> String {
    jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap().to_string()
}

/// A share as a percentage, or, where it is even, as a fraction.
pub fn share(parts: u64) -> String {
    match parts % 200 {
        0 => format!("{}.{:04}", parts / WHOLE, parts % WHOLE),
        _ => format!("{}.{:02}%", parts / 100, parts % 100),
    }
}

fn shares(by_tier: &BTreeMap<String, u64>) -> Json {
    let shares = by_tier.iter().map(|(tier, parts)| (tier.clone(), json!(share(*parts))));
    shares.collect::<Map<_, _>>().into()
}

fn priority(priority: &Priority) -> Json {
    map([
        ("key", json!(priority.key)),
        ("default", json!(priority.default)),
        ("add", json!(priority.add)),
        ("under_pressure", json!(priority.under_pressure)),
    ])
}

fn cost(line: &CostLine) -> Json {
    map([("when", json!(line.when)), ("hits", json!(line.hits)), ("per", json!(line.per))])
}

fn rule(world: &World, one: &Rule) -> Json {
    let value = match &one.value {
        Value::Any => Json::Null,
        Value::Exact(value) => json!(value),
        Value::Prefix { prefix, .. } => json!(format!("{prefix}*")),
    };
    let has_flag = one.mode.is_some_and(|said| matches!(said.mode, Mode::Shadow | Mode::Quota));
    map([
        ("key", json!(one.key)),
        ("value", value),
        ("share_threshold", json!(matches!(one.value, Value::Prefix { shared: true, .. }))),
        ("cascade", json!(one.cascade)),
        ("shadow_mode", json!(one.mode == Some(Enforcement::of(Mode::Shadow)))),
        ("quota_mode", json!(one.mode == Some(Enforcement::of(Mode::Quota)))),
        ("mode", one.mode.filter(|_| !has_flag).map_or(Json::Null, mode)),
        ("enforce", one.mode.map_or(Json::Null, enforce)),
        ("reservation", one.holding_ms.map_or(Json::Null, reservation)),
        ("only", one.only.as_ref().map_or(Json::Null, only)),
        ("limits", one.limits.iter().map(|one| limit(world, one)).collect()),
        ("capacity", one.capacity.as_ref().map_or(Json::Null, capacity)),
        ("descriptors", one.below.iter().map(|one| rule(world, one)).collect()),
    ])
}

fn limit(world: &World, limit: &Limit) -> Json {
    let rate = |amount: u64| json!(format!("{amount}/{}", limit.window.text));
    let by_tier = world.tiers.iter().zip(&limit.by_tier).filter_map(|(tier, said)| {
        let said = match said {
            Tiered::Unsaid => return None,
            Tiered::Rate(amount) => rate(*amount),
            Tiered::None => json!("none"),
            Tiered::Unlimited => json!("unlimited"),
        };
        Some((tier.clone(), said))
    });
    let algorithm = match limit.algorithm {
        Algorithm::Fixed => json!("fixed_window"),
        Algorithm::Bucket => json!("token_bucket"),
        Algorithm::Calendar => json!("calendar"),
        Algorithm::Sliding | Algorithm::Total => Json::Null,
    };
    map([
        ("name", json!(limit.name)),
        ("rate", limit.rate.map_or(Json::Null, rate)),
        ("by_tier", by_tier.collect::<Map<_, _>>().into()),
        ("algorithm", algorithm),
        ("burst", json!(limit.burst)),
        ("mode", limit.mode.map_or(Json::Null, mode)),
        ("enforce", limit.mode.map_or(Json::Null, enforce)),
        ("cost", json!(limit.cost.map(|cost| &world.costs[cost].name))),
        ("overdraft", overdraft(limit.overdraft)),
        ("when", limit.when.iter().map(|one| when(world, limit, one)).collect()),
        ("grace", limit.grace.map_or(Json::Null, grace)),
        ("thresholds", percents(&limit.thresholds)),
        ("partial", json!(limit.partial)),
    ])
}

fn mode(said: Enforcement) -> Json {
    match said.mode {
        Mode::Enforce if said.strict => json!("strict"),
        // A share says it alone.
        Mode::Enforce if said.share.is_some_and(|share| share % 2 == 0) => Json::Null,
        Mode::Enforce => json!("enforce"),
        Mode::Quota => json!("quota"),
        Mode::Warn => json!("warn"),
        Mode::Shadow => json!("shadow"),
        Mode::Off => json!("off"),
    }
}

fn enforce(said: Enforcement) -> Json {
    said.share.map_or(Json::Null, |parts| json!(share(parts)))
}

fn overdraft(overdraft: Overdraft) -> Json {
    match overdraft {
        Overdraft::None => Json::Null,
        Overdraft::Allow => json!("allow"),
        Overdraft::Clip => json!("clip"),
    }
}

fn defaults(defaults: &Defaults) -> Json {
    map([
        ("overdraft", overdraft(defaults.overdraft)),
        ("grace", defaults.grace.map_or(Json::Null, grace)),
        ("thresholds", percents(&defaults.thresholds)),
    ])
}

fn percents(percents: &[u64]) -> Json {
    percents.iter().map(|percent| format!("{percent}%")).collect()
}

fn only(only: &Only) -> Json {
    map([("tier", json!(only.tiers)), ("priority", json!(only.priority))])
}

fn capacity(capacity: &Capacity) -> Json {
    let level = |level: &Level| {
        map([
            ("above", json!(share(level.above))),
            ("until", json!(level.until.map(share))),
            ("scale", shares(&level.scale)),
            ("only", level.only.as_ref().map_or(Json::Null, only)),
        ])
    };
    map([
        ("reserve", shares(&capacity.reserve)),
        ("pressure", capacity.pressure.iter().map(level).collect()),
    ])
}

fn person(person: &Person) -> Json {
    map([
        ("tier", json!(person.tier)),
        ("parent", json!(person.parent)),
        ("share", json!(person.share.map(share))),
        ("pool", json!(person.pool)),
        ("roles", json!(person.roles)),
        ("overrides", json!(person.overrides)),
        ("bonuses", person.bonuses.iter().map(bonus).collect()),
        ("disabled", json!(person.disabled)),
    ])
}

fn bonus(bonus: &Bonus) -> Json {
    let recurs = bonus.recurs.as_ref();
    let until = Some(bonus.until_ms).filter(|until| *until != NEVER_MS);
    let from = recurs.map(|recurs| recurs.from_ms).filter(|from| *from != 0);
    let rollover = recurs.map(|recurs| recurs.rollover).filter(|most| *most != 0);
    map([
        ("id", json!(bonus.id)),
        ("limit", json!(bonus.limit)),
        ("amount", json!(bonus.amount)),
        ("until", json!(until.map(instant))),
        ("priority", json!(bonus.priority)),
        ("every", json!(recurs.map(|recurs| recurs.every.text()))),
        ("from", json!(from.map(instant))),
        ("rollover", rollover.map_or(Json::Null, |most| json!({ "max": most }))),
    ])
}

/// A tree as YAML: blocks as far as they hold more, and scalars as JSON has them.
fn text(tree: &Json) -> String {
    let mut lines = Vec::new();
    push(&mut lines, "", tree);
    lines.join("\n") + "\n"
}

fn push(lines: &mut Vec<String>, indent: &str, tree: &Json) {
    let deeper = format!("{indent}  ");
    let mut item = |head: String, value: &Json| match value {
        value if is_flat(value) => lines.push(format!("{indent}{head} {value}")),
        value => {
            lines.push(format!("{indent}{head}"));
            push(lines, &deeper, value);
        }
    };
    match tree {
        Json::Object(fields) => {
            fields.iter().for_each(|(name, value)| item(format!("{name}:"), value));
        }
        Json::Array(items) => items.iter().for_each(|value| item("-".to_owned(), value)),
        scalar => lines.push(format!("{indent}{scalar}")),
    }
}

/// Whether a tree is short enough for one line.
fn is_flat(tree: &Json) -> bool {
    let is_scalar = |value: &Json| !value.is_array() && !value.is_object();
    match tree {
        Json::Object(fields) => fields.values().all(is_scalar),
        Json::Array(items) => items.iter().all(is_scalar),
        _ => true,
    }
}
