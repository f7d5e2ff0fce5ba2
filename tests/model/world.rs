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
    /// For how many milliseconds all rules hold hits for reservations that don't say their own.
    pub holding_ms: Option<u64>,
    /// Conditions with a name.
    pub schedules: Vec<(String, Condition)>,
    /// How all limits are enforced that don't say their own.
    pub mode: Option<Enforcement>,
    pub defaults: Defaults,
    pub rules: Vec<Rule>,
}

/// What holds for limits that don't say their own.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    pub overdraft: Overdraft,
    pub grace: Option<Grace>,
    pub thresholds: Vec<u64>,
}

/// When something holds. All that is said has to; what is empty says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Ranges of months, from 1 to 12; they may go over the new year.
    pub months: Vec<(i8, i8)>,
    /// Ranges of days, Monday is 1; they may go over the end of the week.
    pub weekdays: Vec<(i8, i8)>,
    /// Ranges of minutes of the day; those that cross midnight belong to the day on which they begin.
    pub hours: Vec<(u64, u64)>,
    pub dates: Vec<Dates>,
    pub except: Vec<Dates>,
}

/// Days from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dates {
    /// Of one year: year, month and day.
    Once((i16, i8, i8), (i16, i8, i8)),
    /// Of each year: month and day. They may go over the new year.
    Yearly((i8, i8), (i8, i8)),
}

/// What becomes of a limit while a condition holds.
#[derive(Clone, Debug)]
pub struct When {
    /// One of the world's schedules by its place; a condition of its own if none.
    pub during: Option<usize>,
    pub own: Condition,
    pub change: Change,
    /// If it tells tiers apart: their places, each with a number in place of that of the change. It says nothing to others.
    pub by_tier: BTreeMap<usize, u64>,
}

/// What a number of a `when` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Parts of the whole, also more than that.
    Scale(u64),
    /// Another amount.
    Rate(u64),
}

/// How much more passes for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    pub percent: u64,
    pub for_ms: u64,
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
    pub mode: Option<Enforcement>,
    pub only: Option<Only>,
    pub capacity: Option<Capacity>,
    /// For how many milliseconds it holds hits for reservations.
    pub holding_ms: Option<u64>,
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
    Warn,
    Shadow,
    Off,
}

/// How limits are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcement {
    pub mode: Mode,
    /// Without an overdraft or a grace.
    pub strict: bool,
    /// For so much of the callers, if not for all.
    pub share: Option<u64>,
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
    pub mode: Option<Enforcement>,
    pub cost: Option<usize>,
    pub overdraft: Overdraft,
    /// The first that holds counts.
    pub when: Vec<When>,
    pub grace: Option<Grace>,
    /// In percent; none if nothing is to be reported.
    pub thresholds: Vec<u64>,
    /// Whether a request gets what is left if that is less.
    pub partial: bool,
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overdraft {
    /// The default holds.
    #[default]
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

impl Mode {
    /// Whether a request may be refused.
    pub fn refuses(self) -> bool {
        matches!(self, Self::Enforce | Self::Quota)
    }
}

impl Enforcement {
    /// For all.
    pub fn of(mode: Mode) -> Self {
        Self { mode, strict: false, share: None }
    }
}

impl World {
    /// How a limit of a rule is enforced: as the nearest says that says it.
    pub fn enforcement(&self, rule: &Rule, limit: &Limit) -> Enforcement {
        limit.mode.or(rule.mode).or(self.mode).unwrap_or(Enforcement::of(Mode::Enforce))
    }

    /// What becomes of hits that a limit does not have.
    pub fn overdraft(&self, rule: &Rule, limit: &Limit) -> Overdraft {
        match (self.enforcement(rule, limit).strict, limit.overdraft) {
            (true, _) => Overdraft::None,
            (false, Overdraft::None) => self.defaults.overdraft,
            (false, own) => own,
        }
    }

    /// The grace of a limit: its own, or the default if it can have that.
    pub fn grace(&self, rule: &Rule, limit: &Limit) -> Option<Grace> {
        let by_default = self.defaults.grace.filter(|grace| self.may_have(rule, limit, *grace));
        limit.grace.or(by_default)
    }

    /// Whether a limit can have a grace.
    pub fn may_have(&self, rule: &Rule, limit: &Limit, grace: Grace) -> bool {
        let enforcement = self.enforcement(rule, limit);
        let ends = matches!(limit.algorithm, Algorithm::Fixed | Algorithm::Calendar);
        let is_whole = limit.window.ms.filter(|_| ends).is_none_or(|ms| grace.for_ms < ms);
        enforcement.mode.refuses()
            && !enforcement.strict
            && self.overdraft(rule, limit) == Overdraft::None
            && is_whole
    }

    /// Whether a limit can be taken in part.
    pub fn may_be_partial(&self, rule: &Rule, limit: &Limit) -> bool {
        let is_quota = self.enforcement(rule, limit).mode == Mode::Quota;
        !is_quota && limit.cost.is_none() && self.overdraft(rule, limit) == Overdraft::None
    }

    /// For how long hits of a rule's limits are held; None if they can't be reserved.
    pub fn holding_ms(&self, rule: &Rule) -> Option<u64> {
        rule.holding_ms.or(self.holding_ms)
    }

    /// Whether any limits can be reserved.
    pub fn has_holdings(&self) -> bool {
        fn of(rule: &Rule) -> bool {
            rule.holding_ms.is_some() || rule.below.iter().any(of)
        }
        self.holding_ms.is_some() || self.rules.iter().any(of)
    }

    /// The thresholds of a limit: its own, or those of the default that it can reach.
    pub fn thresholds(&self, rule: &Rule, limit: &Limit) -> Vec<u64> {
        if !limit.thresholds.is_empty() {
            return limit.thresholds.clone();
        }
        let most = self.used_most(rule, limit);
        self.defaults.thresholds.iter().copied().filter(|percent| *percent <= most).collect()
    }

    /// How much of a limit can come to be used, in percent.
    pub fn used_most(&self, rule: &Rule, limit: &Limit) -> u64 {
        match (self.overdraft(rule, limit), self.grace(rule, limit)) {
            (Overdraft::None, None) | (Overdraft::Clip, _) => 100,
            (Overdraft::None, Some(grace)) => 100 + grace.percent,
            _ => 1_000,
        }
    }

    /// Visits every rule, with whether its limits are a caller's own. The world that is shown has no rules meanwhile.
    pub fn each_rule(&mut self, visit: &mut impl FnMut(&World, &mut Rule, bool)) {
        let mut rules = std::mem::take(&mut self.rules);
        self.each_of(&mut rules, false, visit);
        self.rules = rules;
    }

    fn each_of(
        &self,
        rules: &mut [Rule],
        above: bool,
        visit: &mut impl FnMut(&World, &mut Rule, bool),
    ) {
        let key = self.caller.as_ref().map(|caller| caller.key.as_str());
        for rule in rules {
            let of_caller = above || key == Some(rule.key.as_str());
            visit(self, rule, of_caller);
            self.each_of(&mut rule.below, of_caller, visit);
        }
    }

    /// Visits every limit of every rule.
    pub fn each_limit(&mut self, visit: &mut impl FnMut(&World, &Rule, &mut Limit)) {
        self.each_rule(&mut |world, rule, _| {
            let mut limits = std::mem::take(&mut rule.limits);
            limits.iter_mut().for_each(|limit| visit(world, rule, limit));
            rule.limits = limits;
        });
    }
}
