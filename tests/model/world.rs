//! A world in plain words: what its policy, its directory and its requests say.
//!
//! It is drawn first. `yaml.rs` writes it as a user would, for the engines; the model reads it as it is.

use std::collections::BTreeMap;

/// Parts that make a whole, where shares are counted.
pub const WHOLE: u64 = 10_000;

/// A policy.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub domain: String,
    pub zone: String,
    /// Lowest first.
    pub tiers: Vec<String>,
    pub caller: Option<CallerBlock>,
    /// Those that the policy lists; the keys of tier and priority are qualifiers anyway.
    pub qualifiers: Vec<String>,
    pub costs: Vec<CostTable>,
    /// Which requests are retries.
    pub retries: Option<Retries>,
    pub rules: Vec<Rule>,
}

/// Which requests are retries of earlier ones.
#[derive(Clone, Debug)]
pub struct Retries {
    /// The key of the entry that says it.
    pub key: Option<String>,
    pub life_ms: u64,
    /// For those without that entry that ask the same.
    pub fingerprint_ms: Option<u64>,
    /// How many are free.
    pub free: u64,
}

/// Who asks, and as what.
#[derive(Clone, Debug)]
pub struct CallerBlock {
    pub key: String,
    pub tier_key: Option<String>,
    pub default_tier: Option<usize>,
    pub priority: Option<Priority>,
}

#[derive(Clone, Debug, Default)]
pub struct Priority {
    pub key: Option<String>,
    pub default: Option<i64>,
    /// What is added: by `tier`, by `role`, or by the value of an entry with this key.
    pub add: BTreeMap<String, BTreeMap<String, i64>>,
    pub under_pressure: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct CostTable {
    pub name: String,
    pub lines: Vec<CostLine>,
}

#[derive(Clone, Debug)]
pub struct CostLine {
    pub when: BTreeMap<String, String>,
    pub hits: u64,
    pub per: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub key: String,
    pub value: Value,
    pub limits: Vec<Limit>,
    pub cascade: bool,
    /// Of limits that don't say their own.
    pub mode: Option<Mode>,
    pub only: Option<Only>,
    pub capacity: Option<Capacity>,
    pub below: Vec<Rule>,
}

/// Which values of an entry a rule is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Any,
    Exact(String),
    /// Values that begin so; `shared`: all on one counter.
    Prefix {
        prefix: String,
        shared: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Enforce,
    Quota,
    Shadow,
}

#[derive(Clone, Debug)]
pub struct Limit {
    pub name: Option<String>,
    pub rate: Option<u64>,
    /// One for each tier; none if the limit doesn't tell them apart.
    pub by_tier: Vec<Tiered>,
    pub window: Window,
    pub algorithm: Algorithm,
    pub burst: Option<u64>,
    pub mode: Option<Mode>,
    pub cost: Option<usize>,
    pub overdraft: Overdraft,
}

/// What a limit says of one tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiered {
    /// The limit's own rate holds.
    Unsaid,
    Rate(u64),
    None,
    Unlimited,
}

/// A window as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub text: &'static str,
    /// Its nominal length; none of a total.
    pub ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sliding,
    Fixed,
    Bucket,
    Calendar,
    Total,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdraft {
    None,
    Allow,
    Clip,
}

#[derive(Clone, Debug, Default)]
pub struct Only {
    pub tiers: Vec<String>,
    pub priority: Option<i64>,
}

#[derive(Clone, Debug, Default)]
pub struct Capacity {
    /// Shares by tier.
    pub reserve: BTreeMap<String, u64>,
    pub pressure: Vec<Level>,
}

#[derive(Clone, Debug)]
pub struct Level {
    pub above: u64,
    pub until: Option<u64>,
    /// Shares by tier.
    pub scale: BTreeMap<String, u64>,
    pub only: Option<Only>,
}

/// A directory: what is known of callers, by name.
pub type People = BTreeMap<String, Person>;

#[derive(Clone, Debug, Default)]
pub struct Person {
    pub tier: Option<String>,
    pub parent: Option<String>,
    pub share: Option<u64>,
    pub pool: bool,
    pub roles: Vec<String>,
    pub overrides: BTreeMap<String, u64>,
    pub bonuses: Vec<Bonus>,
    pub disabled: bool,
}

#[derive(Clone, Debug)]
pub struct Bonus {
    pub id: String,
    pub limit: String,
    pub amount: u64,
    pub until_ms: u64,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    pub parts: Vec<AskPart>,
}

/// A descriptor; negative hits are given back.
#[derive(Clone, Debug)]
pub struct AskPart {
    pub entries: Vec<(String, String)>,
    pub hits: i64,
}

impl World {
    /// Visits every limit, with whether it is a caller's own.
    pub fn each_limit(&mut self, visit: &mut impl FnMut(&mut Limit, bool)) {
        let key = self.caller.as_ref().map(|caller| caller.key.clone());
        each_limit(&mut self.rules, (key.as_deref(), false), visit);
    }
}

fn each_limit(
    rules: &mut [Rule],
    (caller_key, above): (Option<&str>, bool),
    visit: &mut impl FnMut(&mut Limit, bool),
) {
    for rule in rules {
        let of_caller = above || caller_key == Some(rule.key.as_str());
        rule.limits.iter_mut().for_each(|limit| visit(limit, of_caller));
        each_limit(&mut rule.below, (caller_key, of_caller), visit);
    }
}
