//! Draws policies, and the amounts of edited ones.

use std::collections::{BTreeMap, BTreeSet};

use super::draw::Draw;
use super::plan::tag;
use super::timed::{ZONES, number, thresholds};
use super::world::{
    Algorithm, CallerBlock, Capacity, Change, CostLine, CostTable, Enforcement, Level, Limit, Mode,
    Only, Overdraft, Priority, Retries, Rule, Tiered, Value, WHOLE, Window, World,
};

pub const TIERS: [&str; 4] = ["free", "basic", "premium", "enterprise"];
pub const ROLES: [&str; 2] = ["partner", "staff"];
pub const LIMIT_NAMES: [&str; 4] = ["daily", "daily", "daily", "balance"];
pub const OPERATIONS: [&str; 3] = ["search", "book", "pay"];
pub const PROVIDERS: [&str; 4] = ["hotelbeds", "amadeus", "airline", "expedia"];

/// Windows of a length, as Tollgate writes them too.
const LENGTHS: [(&str, u64); 7] = [
    ("100ms", 100),
    ("second", 1_000),
    ("10s", 10_000),
    ("minute", 60_000),
    ("90m", 5_400_000),
    ("hour", 3_600_000),
    ("day", 86_400_000),
];

/// Calendar periods, with how long the protocol takes them to be.
const PERIODS: [(&str, u64); 6] = [
    ("minute", 60_000),
    ("hour", 3_600_000),
    ("day", 86_400_000),
    ("week", 604_800_000),
    ("month", 2_592_000_000),
    ("year", 31_536_000_000),
];

/// A policy.
pub fn world(draw: &mut Draw) -> World {
    let tiers = draw.between(0, 4);
    let tiers = TIERS.iter().take(usize::try_from(tiers).unwrap());
    let mut world = World {
        domain: "model".to_owned(),
        zone: draw.name(&ZONES),
        tiers: tiers.map(ToString::to_string).collect(),
        ..World::default()
    };
    world.caller = draw.maybe(92, |draw| caller_block(draw, &world));
    world.qualifiers = draw.several((0, 1), |_| "operation".to_owned());
    world.costs = costs(draw);
    world.retries = draw.maybe(50, retries);
    if draw.chance(30) {
        world.rules = vec![lone_rule(draw, &world)];
        return world;
    }
    let mut rules = caller_rules(draw, &world);
    rules.extend(provider_rules(draw, &world));
    world.rules = rules;
    world
}

/// Other amounts and thresholds of some limits; whatever else stays. A bucket keeps its amounts: when a debt at another rate
/// is forgotten depends on when the store looks.
pub fn edit(draw: &mut Draw, world: &mut World) {
    world.each_limit(&mut |world, rule, limit| {
        if draw.chance(20) {
            if let Some(grace) = &mut limit.grace {
                grace.percent = draw.pick(&[1, 10, 50]);
            }
            limit.thresholds = thresholds(draw, world.used_most(rule, limit));
        }
        if limit.algorithm != Algorithm::Bucket && draw.chance(30) {
            edit_amounts(draw, limit);
        }
    });
}

fn edit_amounts(draw: &mut Draw, limit: &mut Limit) {
    limit.rate = limit.rate.map(|_| amount(draw));
    for when in &mut limit.when {
        when.change = match when.change {
            Change::Scale(_) => Change::Scale(number(draw, false)),
            Change::Rate(_) => Change::Rate(number(draw, true)),
        };
    }
    for said in &mut limit.by_tier {
        match said {
            Tiered::Rate(_) => *said = Tiered::Rate(amount(draw)),
            Tiered::None if draw.chance(20) => *said = Tiered::Unlimited,
            Tiered::Unlimited if draw.chance(20) => *said = Tiered::None,
            _ => {}
        }
    }
}

fn retries(draw: &mut Draw) -> Retries {
    let key = draw.maybe(80, |_| "request_id".to_owned());
    let has_fingerprint = key.is_none() || draw.chance(30);
    let fingerprint_ms = has_fingerprint.then(|| draw.between(1, 100_000));
    Retries {
        key,
        life_ms: draw.pick(&[2_000, 90_000, 600_000_000, 600_000_000]),
        fingerprint_ms,
        free: draw.pick(&[1, 1, 2, 5]),
    }
}

fn caller_block(draw: &mut Draw, world: &World) -> CallerBlock {
    CallerBlock {
        key: "user".to_owned(),
        tier_key: draw.maybe(70, |_| "tier".to_owned()),
        default_tier: draw
            .maybe(50, |draw| draw.index(world.tiers.len().max(1)))
            .filter(|_| !world.tiers.is_empty()),
        priority: draw.maybe(70, |draw| priority(draw, world)),
    }
}

fn priority(draw: &mut Draw, world: &World) -> Priority {
    let mut add = BTreeMap::new();
    let table = |draw: &mut Draw, names: &[&str]| {
        names
            .iter()
            .map(ToString::to_string)
            .map(|name| (name, draw.addend(2)))
            .collect::<BTreeMap<_, _>>()
    };
    let tiers: Vec<&str> = world.tiers.iter().map(String::as_str).collect();
    if draw.chance(50) && !tiers.is_empty() {
        add.insert("tier".to_owned(), table(draw, &tiers));
    }
    if draw.chance(40) {
        add.insert("role".to_owned(), table(draw, &ROLES));
    }
    if draw.chance(50) {
        let key = draw.name(&["op", "operation"]);
        add.insert(key, table(draw, &OPERATIONS));
    }
    Priority {
        key: draw.maybe(40, |_| "priority".to_owned()),
        default: draw.maybe(50, |draw| i64::try_from(draw.between(1, 4)).unwrap()),
        add,
        under_pressure: draw.maybe(75, |draw| draw.addend(2)),
    }
}

fn costs(draw: &mut Draw) -> Vec<CostTable> {
    let names = draw.several((0, 2), |_| ()).len();
    let line = |draw: &mut Draw| {
        let key = draw.name(&["operation", "op", "provider"]);
        let values: &[&str] = if key == "provider" { &PROVIDERS } else { &OPERATIONS };
        let when = draw.maybe(80, |draw| (key, draw.name(values)));
        CostLine {
            when: when.into_iter().collect(),
            hits: draw.between(0, 7),
            per: draw.maybe(40, |draw| draw.between(1, 9)),
        }
    };
    let table = |name: &str| CostTable { name: name.to_owned(), lines: Vec::new() };
    let mut tables: Vec<CostTable> =
        ["tokens", "money"].into_iter().take(names).map(table).collect();
    tables.iter_mut().for_each(|table| table.lines = draw.several((1, 3), line));
    tables
}

/// A rule of callers alone with few hits for a long time, so that bonuses and pools come to bear.
fn lone_rule(draw: &mut Draw, world: &World) -> Rule {
    let mut user = rule(draw, world, ("user", Value::Any, (1, 2)));
    (user.mode, user.only) = (None, None);
    let windows = [("day", 86_400_000), ("month", 2_592_000_000)];
    for limit in &mut user.limits {
        let (text, ms) = draw.pick(&windows);
        limit.name = Some("daily".to_owned());
        limit.window = Window { text, ms: Some(ms) };
        limit.algorithm = Algorithm::Calendar;
        limit.burst = None;
        limit.rate = limit.rate.map(|_| draw.between(0, 6));
        limit.mode = None;
    }
    tell_apart(&mut user.limits);
    user
}

/// Rules whose limits are the callers' own.
fn caller_rules(draw: &mut Draw, world: &World) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut user = rule(draw, world, ("user", Value::Any, (1, 3)));
    user.below = nested(draw, world);
    rules.push(user);
    if draw.chance(30) {
        let name = draw.name(&["ann", "bob"]);
        let mut exact = rule(draw, world, ("user", Value::Exact(name), (0, 2)));
        // A parent may count on it beside the rule above, where buckets would be of different rates.
        exact.limits.retain(|limit| limit.algorithm != Algorithm::Bucket);
        exact.cascade &= !exact.limits.is_empty();
        rules.push(exact);
    }
    if draw.chance(30) {
        let mut api = rule(draw, world, ("api", Value::Any, (0, 1)));
        api.below = vec![rule(draw, world, ("user", Value::Any, (1, 2)))];
        rules.push(api);
    }
    rules
}

/// Rules below a caller, for what it does.
fn nested(draw: &mut Draw, world: &World) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for operation in OPERATIONS.into_iter().take(2) {
        if draw.chance(60) {
            rules.push(rule(draw, world, ("op", Value::Exact(operation.to_owned()), (0, 2))));
        }
    }
    if draw.chance(40) {
        let mut any = rule(draw, world, ("op", Value::Any, (0, 2)));
        any.below = draw.several((0, 1), |draw| rule(draw, world, ("size", Value::Any, (1, 1))));
        rules.push(any);
    }
    rules
}

/// Rules whose limits callers share.
fn provider_rules(draw: &mut Draw, world: &World) -> Vec<Rule> {
    let mut values = vec![Value::Exact("hotelbeds".to_owned()), Value::Any];
    if draw.chance(40) {
        let shared = draw.chance(60);
        values.insert(1, Value::Prefix { prefix: "a".to_owned(), shared });
    }
    let mut rules = Vec::new();
    for value in values {
        let mut provider = rule(draw, world, ("provider", value, (0, 3)));
        let below = |draw: &mut Draw| {
            let mut endpoint = rule(draw, world, ("endpoint", Value::Any, (1, 2)));
            endpoint.capacity = draw.maybe(60, |draw| capacity(draw, world));
            endpoint
        };
        provider.below = draw.several((0, 1), below);
        if !provider.limits.is_empty() && draw.chance(75) {
            provider.capacity = Some(capacity(draw, world));
        }
        rules.push(provider);
    }
    rules
}

fn rule(draw: &mut Draw, world: &World, (key, value, limits): (&str, Value, (u64, u64))) -> Rule {
    let mut limits = draw.several(limits, |draw| limit(draw, world));
    tell_apart(&mut limits);
    Rule {
        key: key.to_owned(),
        value,
        cascade: !limits.is_empty() && draw.chance(40),
        limits,
        mode: draw.maybe(10, |draw| Enforcement::of(draw.pick(&[Mode::Quota, Mode::Shadow]))),
        only: draw.maybe(8, |draw| only(draw, world)),
        capacity: None,
        holding_ms: None,
        below: Vec::new(),
    }
}

/// Leaves out limits that nothing tells apart from one before them, which is a mistake.
fn tell_apart(limits: &mut Vec<Limit>) {
    let mut known = BTreeSet::new();
    limits.retain(|limit| known.insert(tag(limit)));
}

fn limit(draw: &mut Draw, world: &World) -> Limit {
    let length = draw.pick(&LENGTHS);
    let period = draw.pick(&PERIODS);
    let window = |(text, ms)| Window { text, ms: Some(ms) };
    let (algorithm, window) = match draw.between(0, 9) {
        0..=4 => (Algorithm::Sliding, window(length)),
        5 => (Algorithm::Fixed, window(length)),
        6 => (Algorithm::Bucket, window(length)),
        7 | 8 => (Algorithm::Calendar, window(period)),
        _ => (Algorithm::Total, Window { text: "total", ms: None }),
    };
    let is_bucket = algorithm == Algorithm::Bucket;
    let mut limit = Limit {
        // Overrides are by name, and would make buckets of different rates.
        name: draw.maybe(80, |draw| draw.name(&LIMIT_NAMES)).filter(|_| !is_bucket),
        rate: Some(amount(draw)),
        by_tier: Vec::new(),
        window,
        algorithm,
        burst: None,
        mode: draw
            .maybe(25, |draw| draw.pick(&[Mode::Enforce, Mode::Quota, Mode::Shadow]))
            .map(Enforcement::of),
        cost: draw.maybe(25, |draw| draw.index(world.costs.len().max(1))),
        overdraft: draw.pick(&[
            Overdraft::None,
            Overdraft::None,
            Overdraft::None,
            Overdraft::Allow,
            Overdraft::Clip,
        ]),
        when: Vec::new(),
        grace: None,
        thresholds: Vec::new(),
        partial: false,
    };
    limit.cost = limit.cost.filter(|_| !world.costs.is_empty());
    if is_bucket {
        limit.rate = limit.rate.map(|amount| amount.max(1));
        limit.burst = draw.maybe(60, |draw| draw.between(1, 40));
    } else if !world.tiers.is_empty() && draw.chance(45) {
        by_tier(draw, world, &mut limit);
    }
    limit
}

fn by_tier(draw: &mut Draw, world: &World, limit: &mut Limit) {
    let unsaid = draw.chance(40);
    limit.by_tier = world
        .tiers
        .iter()
        .map(|_| match draw.between(0, 9) {
            0 => Tiered::None,
            1 => Tiered::Unlimited,
            2 | 3 if unsaid => Tiered::Unsaid,
            _ => Tiered::Rate(amount(draw)),
        })
        .collect();
    if !limit.by_tier.iter().any(|said| matches!(said, Tiered::Rate(_))) {
        limit.by_tier[0] = Tiered::Rate(amount(draw));
    }
    limit.rate = limit.rate.filter(|_| unsaid);
}

pub fn amount(draw: &mut Draw) -> u64 {
    match draw.between(0, 19) {
        0 => 0,
        1..=8 => draw.between(1, 6),
        9..=15 => draw.between(4, 40),
        _ => draw.between(60, 250),
    }
}

fn only(draw: &mut Draw, world: &World) -> Only {
    let mut tiers = world.tiers.clone();
    tiers.retain(|_| draw.chance(50));
    let priority =
        if tiers.is_empty() || draw.chance(50) { Some(draw.between(1, 4)) } else { None };
    Only { tiers, priority: priority.map(|one| i64::try_from(one).unwrap()) }
}

/// Whom both let pass: a level that lets pass whom the one below keeps out is a mistake.
fn narrower(mut only: Only, below: &Only) -> Only {
    only.tiers.retain(|tier| below.tiers.contains(tier));
    only.priority = only.priority.zip(below.priority).map(|(one, other)| one.max(other));
    if only.tiers.is_empty() && only.priority.is_none() { below.clone() } else { only }
}

fn capacity(draw: &mut Draw, world: &World) -> Capacity {
    let mut reserve = BTreeMap::new();
    let mut open = WHOLE;
    for tier in world.tiers.iter().skip(1).rev() {
        if draw.chance(60) {
            let share = draw.between(0, open * 6 / 10);
            open -= share;
            reserve.insert(tier.clone(), share);
        }
    }
    let mut pressure: Vec<Level> = Vec::new();
    let mut above = draw.between(500, 7_000);
    let mut kept: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..draw.between(1, 4) {
        if WHOLE < above {
            break;
        }
        let mut scale = BTreeMap::new();
        for tier in &world.tiers {
            if draw.chance(40) {
                let share = draw.between(1, 10) * kept.get(tier).unwrap_or(&WHOLE) / 10;
                kept.insert(tier.clone(), share);
                scale.insert(tier.clone(), share);
            }
        }
        let only = if scale.is_empty() || draw.chance(60) { Some(only(draw, world)) } else { None };
        let below = pressure.iter().rev().find_map(|level| level.only.as_ref());
        let only = only.map(|only| below.map_or(only.clone(), |below| narrower(only, below)));
        let until = draw.maybe(60, |draw| draw.between(0, above));
        pressure.push(Level { above, until, scale, only });
        above += draw.between(1, 3_000);
    }
    Capacity { reserve, pressure }
}
