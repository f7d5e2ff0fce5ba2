//! Draws directories, their edits, and requests.

use std::collections::BTreeMap;

use super::draw::Draw;
use super::people::{People, Person};
use super::policies::{LIMIT_NAMES, OPERATIONS, PROVIDERS, ROLES, TIERS};
use super::shares::{self, Ids};
use super::world::{Algorithm, Ask, AskPart, WHOLE, World};

/// Who may be in the directory, each with who may be its parent.
const LINES: [(&str, &[&str]); 6] = [
    ("cat", &["ann", "corp"]),
    ("ann", &["team"]),
    ("bob", &["team", "corp"]),
    ("team", &["corp"]),
    ("corp", &["group"]),
    ("group", &[]),
];

/// Who may ask: some of those, and one whom no directory knows.
pub const CALLERS: [&str; 6] = ["ann", "ann", "bob", "cat", "team", "eve"];

/// Who asks in one history, for whose offers: few, so that they spend from the same counters.
pub struct Cast {
    callers: Vec<String>,
    providers: Vec<String>,
    /// Whether nothing but callers' own limits is asked for.
    alone: bool,
    /// Whether requests have idempotency keys.
    retries: bool,
    /// Ids of reservations, if hits can be held.
    ids: Option<Ids>,
}

impl Cast {
    pub fn new(draw: &mut Draw, world: &World) -> Self {
        let callers = draw.several((1, 4), |draw| draw.name(&CALLERS));
        let providers = draw.several((1, 3), |draw| draw.name(&PROVIDERS));
        let (alone, retries) = (world.rules.len() == 1, world.retries.is_some());
        let ids = world.has_holdings().then(Ids::default);
        Self { callers, providers, alone, retries, ids }
    }
}

/// What happens between two requests.
const STEPS: [(u64, u64); 10] = [
    (0, 0),
    (0, 2),
    (0, 2),
    (1, 60),
    (1, 60),
    (1, 2_000),
    (1, 2_000),
    (1_000, 90_000),
    (1, 4_000_000),
    (1, 200_000_000),
];

/// When the next request comes: often just before, at or just after one of the moments at which anything changes.
pub fn next(draw: &mut Draw, now_ms: u64, moments: &[u64]) -> u64 {
    if !moments.is_empty() && draw.chance(35) {
        let near = if draw.chance(85) { moments.len().min(6) } else { moments.len() };
        let moment = moments[draw.index(near)];
        if moment < now_ms + FAR_MS {
            return (moment - 1 + draw.between(0, 2)).max(now_ms);
        }
    }
    let (low, high) = draw.pick(&STEPS);
    now_ms + draw.between(low, high)
}

/// Farther away than this no moment is waited for.
const FAR_MS: u64 = 20 * 86_400_000;

/// A directory.
pub fn people(draw: &mut Draw, now_ms: u64) -> People {
    let mut people = People::new();
    // From the top down, so that parents are there.
    for (name, parents) in LINES.into_iter().rev() {
        if !draw.chance(90) {
            continue;
        }
        let parents: Vec<&str> =
            parents.iter().copied().filter(|parent| may_be_above(&people, parent)).collect();
        let parent =
            if parents.is_empty() { None } else { draw.maybe(85, |draw| draw.name(&parents)) };
        let has_parent = parent.is_some();
        let person = Person {
            tier: draw.maybe(50, tier),
            parent,
            share: draw.maybe(40, |draw| draw.between(0, WHOLE)).filter(|_| has_parent),
            pool: draw.chance(60) && has_parent,
            roles: draw.several((0, 2), |draw| draw.name(&ROLES)),
            overrides: draw.several((0, 1), override_).into_iter().collect(),
            bonuses: Vec::new(),
            disabled: draw.chance(3),
        };
        people.insert(name.to_owned(), person);
        for _ in 0..draw.between(0, 5) {
            add_bonus(draw, (people.get_mut(name).unwrap(), name), now_ms);
        }
    }
    people
}

/// Whether somebody is there and may have one more below.
fn may_be_above(people: &People, name: &str) -> bool {
    let mut length = 0;
    let mut next = Some(name);
    while let Some(person) = next.map(|name| people.get(name)) {
        let Some(person) = person else { return false };
        next = person.parent.as_deref();
        length += 1;
    }
    length <= 3
}

/// One change of somebody's.
pub fn edit(draw: &mut Draw, world: &mut World, people: &mut People, now_ms: u64) {
    let mut buckets = false;
    world.each_rule(&mut |_, rule, own| {
        let mut limits = rule.limits.iter();
        buckets |= own && limits.any(|limit| limit.algorithm == Algorithm::Bucket);
    });
    let names: Vec<String> = people.keys().cloned().collect();
    if names.is_empty() {
        return;
    }
    let name = draw.pick(&names);
    let person = people.get_mut(&name).unwrap();
    match draw.between(0, 7) {
        0 => person.tier = draw.maybe(80, tier),
        1 => person.overrides = draw.several((0, 2), override_).into_iter().collect(),
        2 | 3 => add_bonus(draw, (person, &name), now_ms),
        4 => {
            for bonus in person.bonuses.iter_mut().filter(|bonus| bonus.recurs.is_none()) {
                bonus.amount = draw.between(1, 15);
                bonus.until_ms = now_ms + draw.between(1, 900_000_000);
            }
        }
        5 if draw.chance(30) => person.bonuses.clear(),
        5 => person.disabled = draw.chance(25),
        6 => person.pool = person.parent.is_some() && draw.chance(50),
        // A share would make buckets of different rates.
        _ if buckets => person.roles = draw.several((0, 2), |draw| draw.name(&ROLES)),
        _ => person.share = person.parent.as_ref().map(|_| draw.between(0, WHOLE)),
    }
}

fn tier(draw: &mut Draw) -> String {
    if draw.chance(10) { "gold".to_owned() } else { draw.name(&TIERS) }
}

fn override_(draw: &mut Draw) -> (String, u64) {
    let amount = if draw.chance(10) { 0 } else { draw.between(1, 90) };
    (draw.name(&LIMIT_NAMES), amount)
}

/// A number for each who may be in the directory.
pub fn number(name: &str) -> u64 {
    LINES.iter().position(|(known, _)| *known == name).unwrap() as u64
}

fn add_bonus(draw: &mut Draw, (person, name): (&mut Person, &str), now_ms: u64) {
    let number = number(name);
    if let Some(bonus) = shares::bonus(draw, (number, &person.bonuses), now_ms)
        && person.bonuses.iter().all(|other| other.id != bonus.id)
    {
        person.bonuses.push(bonus);
    }
}

/// A request.
pub fn ask(draw: &mut Draw, cast: &mut Cast) -> Ask {
    let caller = draw.pick(&cast.callers);
    let provider = draw.pick(&cast.providers);
    let operation = draw.name(&OPERATIONS);
    let names: BTreeMap<&str, &str> =
        BTreeMap::from([("user", caller.as_str()), ("provider", &provider), ("op", &operation)]);
    let mut parts = draw.several((1, 3), |draw| part(draw, cast, &names));
    for (key, values) in [
        ("tier", ["free", "premium", "enterprise", "silver"].as_slice()),
        ("priority", ["1", "2", "3", "4", "5", "low"].as_slice()),
        ("operation", OPERATIONS.as_slice()),
        ("request_id", ["1", "2", ""].as_slice()),
    ] {
        let is_retry_key = key == "request_id" && cast.retries;
        if draw.chance(if is_retry_key { 70 } else { 25 }) {
            let index = draw.index(parts.len());
            let entries = &mut parts[index].entries;
            let place = draw.index(entries.len() + 1);
            entries.insert(place, (key.to_owned(), draw.name(values)));
        }
    }
    let mut ask = Ask { parts };
    if let Some(ids) = cast.ids.as_mut().filter(|_| draw.chance(45)) {
        ids.reserve(draw, &mut ask);
    }
    ask
}

fn part(draw: &mut Draw, cast: &Cast, names: &BTreeMap<&str, &str>) -> AskPart {
    const WAYS: [&[&str]; 12] = [
        &["user"],
        &["user"],
        &["user", "op"],
        &["user", "op"],
        &["user", "op", "size"],
        &["provider"],
        &["provider"],
        &["provider"],
        &["provider", "endpoint"],
        &["provider", "endpoint"],
        &["api", "user"],
        &["nothing"],
    ];
    let way = if cast.alone { WAYS[0] } else { draw.pick(&WAYS) };
    let entry = |key: &&str| {
        let value = names.get(key).copied().unwrap_or("x");
        (key.to_string(), value.to_owned())
    };
    let entries = way.iter().map(entry).collect();
    let hits = match draw.between(0, 19) {
        0 => 0,
        1..=11 => 1,
        12..=16 => i64::try_from(draw.between(2, 6)).unwrap(),
        17 | 18 => i64::try_from(draw.between(5, 120)).unwrap(),
        _ => -i64::try_from(draw.between(1, 12)).unwrap(),
    };
    AskPart { entries, hits }
}
