//! The compiled policy: the rules and limits that a request meets.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use jiff::tz::TimeZone;
use smallvec::SmallVec;

use crate::limit::Limit;
use crate::limit::Overdraft;

use super::Key;
use super::Mode;
use super::answer::AnswerSettings;
use super::brought::Brought;
use super::brought::OVERRIDE_LABEL;
use super::capacity::Capacity;
use super::capacity::Only;
use super::choice::Choice;
use super::classes::Classes;
use super::cost::Cost;
use super::lease::Lease;
use super::level::Level;
use super::outage::OnOutage;
use super::pattern::Pattern;
use super::rate::Window;
use super::unit::Unit;
use super::wait::Wait;

/// The policy of one domain.
#[derive(Debug)]
pub struct Domain {
    pub name: String,
    pub answer: AnswerSettings,
    /// Who is asking, and as what.
    pub classes: Arc<Classes>,
    /// Entries that stand for the best of several values.
    pub choices: Vec<Choice>,
    /// The time zone of calendar windows.
    pub(super) zone: TimeZone,
    pub(super) rules: Level,
    /// What holds for limits that requests bring along.
    pub(super) brought: Brought,
    /// Limits of all its rules.
    pub(super) limit_count: usize,
}

/// What holds for a descriptor whose path ends here.
#[derive(Debug)]
pub struct Rule {
    pub key: String,
    pub value: RuleValue,
    /// The way to this rule, such as `user_id/request_type=search`.
    pub path: String,
    pub limits: Vec<Arc<RuleLimit>>,
    pub unlimited: bool,
    pub cascade: bool,
    /// Its path names the caller: its limits are the caller's own.
    pub of_caller: bool,
    /// Who passes at all; everybody if None.
    pub only: Option<Only>,
    /// Who doesn't is let pass all the same.
    pub shadow: bool,
    /// How much of the limits is open to whom; all to everybody if None.
    pub capacity: Option<Box<Capacity>>,
    /// Names of limits that don't count in a request that meets this rule.
    pub replaces: Vec<String>,
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    pub location: SourceLocation,
    pub(super) below: Level,
}

/// Which values of an entry a rule is for.
#[derive(Debug)]
pub enum RuleValue {
    /// This one.
    Exact(String),
    /// Those that match; `shared`: all on one counter.
    Pattern { pattern: Pattern, shared: bool },
    /// Key and value, joined by `_`, match, as the reference has it for keys with a `*`; `shared`: all values of
    /// one key on one counter.
    Joined { pattern: Pattern, shared: bool },
    /// Any, each with counters of its own.
    Any,
}

/// The file and line of a rule.
#[derive(Clone, Debug)]
pub struct SourceLocation {
    pub file: Arc<str>,
    pub line: usize,
}

/// A limit of a rule.
#[derive(Clone, Debug)]
pub struct RuleLimit {
    /// Its number among the limits of its domain, from 0.
    pub index: usize,
    /// The name that the policy gives it; empty if it gives none.
    pub name: Arc<str>,
    /// What metrics, logs and answers call it: its name, or else its rule's path and its rate.
    pub label: Arc<str>,
    /// For everybody, if the tiers have none of their own.
    pub limit: Arc<Limit>,
    /// By tier; empty if it is one for all.
    pub by_tier: Box<[TierLimit]>,
    /// What a request costs; what it asks for if None.
    pub cost: Option<Arc<Cost>>,
    /// What it is counted in, if that is money; hits if None.
    pub currency: Option<Box<str>>,
    /// Whether to wait for capacity.
    pub wait: Option<Wait>,
    /// Whether hits may be taken ahead where they can.
    pub lease: Lease,
    pub window: Window,
    pub mode: Mode,
    pub on_outage: OnOutage,
    pub refused: Refused,
}

/// A limit as it is for callers of one tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TierLimit {
    Limit(Arc<Limit>),
    /// They may not pass.
    None,
    /// They pass.
    Unlimited,
}

impl fmt::Display for TierLimit {
    /// As a policy would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(limit) => limit.fmt(f),
            Self::None => f.write_str("none"),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl RuleLimit {
    /// The limit as it is for callers of that tier.
    pub fn of_tier(&self, tier: usize) -> TierLimit {
        match self.by_tier.get(tier) {
            Some(limit) => limit.clone(),
            None => TierLimit::Limit(self.limit.clone()),
        }
    }
}

/// What becomes of hits that a descriptor names when the request is refused. They may have been spent before anybody could
/// ask: Envoy names what a response cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refused {
    /// They cost nothing.
    #[default]
    Free,
    /// They count all the same, unless the limit is overdrawn already; then a peek is refused until it no longer is. So it
    /// is for limits in the words of envoyproxy/ratelimit.
    Counted,
    /// They count as far as the limit's overdraft lets them pass, whatever the limits of other rules say.
    Booked,
}

impl Refused {
    /// For a limit with that overdraft, in the reference's words or in ours.
    pub fn of(overdraft: Overdraft, in_reference: bool) -> Self {
        match overdraft {
            Overdraft::Allow | Overdraft::Clip => Self::Booked,
            Overdraft::None if in_reference => Self::Counted,
            Overdraft::None | Overdraft::Owed => Self::Free,
        }
    }

    /// The same in one request. Unless all its descriptors name hits, as after a response, a limit that refuses the request's
    /// own hits, or a peek, may have refused it before anything was spent.
    pub fn in_request(self, all_named: bool) -> Self {
        if self == Self::Booked && !all_named { Self::Counted } else { self }
    }
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Steps of most walks: so many take no allocation.
const STEPS_FEW: usize = 4;

/// The rules that a descriptor's entries lead through.
#[derive(Debug)]
pub struct Walk<'p> {
    /// One for each entry, as far as rules were found.
    steps: SmallVec<[&'p Rule; STEPS_FEW]>,
    entries: usize,
}

impl Rule {
    /// Whether the rule has a wildcard whose values share one counter.
    pub(super) fn shared_pattern(&self) -> Option<&Pattern> {
        match &self.value {
            RuleValue::Pattern { pattern, shared: true }
            | RuleValue::Joined { pattern, shared: true } => Some(pattern),
            _ => None,
        }
    }

    /// Adds an entry that meets this rule to the key of its counters.
    pub(super) fn push_step(&self, key: &mut Key, name: &str, value: &str) {
        match &self.value {
            RuleValue::Pattern { pattern, shared: true } => key.push_shared(name, pattern.as_str()),
            RuleValue::Joined { pattern, shared: true } => key.push_joined(name, pattern.as_str()),
            _ => key.push_value(name, value),
        }
    }

    /// The limit whose place one takes that a request brings along: that of the same window, or the only one.
    fn limit_of(&self, window: Window) -> Option<&RuleLimit> {
        let same = self.limits.iter().find(|limit| limit.window == window);
        let only = || self.limits.first().filter(|_| self.limits.len() == 1);
        same.or_else(only).map(|limit| &**limit)
    }

    /// Whether its capacity can come under pressure.
    pub(super) fn is_pressed(&self) -> bool {
        self.capacity.as_ref().is_some_and(|capacity| !capacity.levels.is_empty())
    }

    /// The rules for the next entry, in the order of the file.
    pub fn rules(&self) -> &[Rule] {
        &self.below.rules
    }
}

/// Keys and values of the entries that make a path.
pub type Path<'a> = Cow<'a, [(&'a str, &'a str)]>;

impl Domain {
    /// A descriptor's entries without those that only qualify it.
    pub fn path<'a>(&self, entries: &'a [(&'a str, &'a str)]) -> Path<'a> {
        let qualifies = |(key, _): &(&str, &str)| self.classes.qualifies(key);
        if !self.classes.has_qualifiers() || !entries.iter().any(qualifies) {
            return Cow::Borrowed(entries);
        }
        Cow::Owned(entries.iter().copied().filter(|entry| !qualifies(entry)).collect())
    }

    /// The rules that a descriptor's entries lead through. There is no going back: an entry without a
    /// rule ends the way.
    pub fn walk(&self, entries: &[(&str, &str)]) -> Walk<'_> {
        let mut level = &self.rules;
        let mut steps = SmallVec::new();
        for (key, value) in entries {
            let Some(rule) = level.find(key, value) else { break };
            steps.push(rule);
            level = &rule.below;
        }
        Walk { steps, entries: entries.len() }
    }

    /// The rules at the top, in the order of the file.
    pub fn rules(&self) -> &[Rule] {
        &self.rules.rules
    }

    /// The time zone of calendar windows.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The limit that a request brings along with a descriptor of this path. Its number is one past those of the
    /// domain's own.
    pub fn override_limit(&self, rate: (u64, Unit), path: &[(&str, &str)]) -> RuleLimit {
        let (amount, unit) = rate;
        let Brought { mode, on_outage, overdraft, wait, lease, .. } = self.brought;
        let window = Window::from(unit);
        let rule = self.walk(path).end();
        let named = rule.and_then(|rule| rule.limit_of(window)).map(|limit| limit.name.clone());
        let name = named.unwrap_or_default();
        let limit = Limit::new(amount, self.brought.algorithm(amount, window));
        let limit = limit.named(Arc::clone(&self.brought.name));
        RuleLimit {
            index: self.limit_count,
            label: if name.is_empty() { OVERRIDE_LABEL.into() } else { name.clone() },
            name,
            limit: Arc::new(limit.overdrawn(overdraft)),
            by_tier: [].into(),
            cost: None,
            currency: None,
            wait,
            lease,
            window,
            mode,
            on_outage,
            refused: Refused::of(overdraft, true),
        }
    }

    /// The rules whose capacity can come under pressure.
    pub fn pressed_rules(&self) -> Vec<&Rule> {
        let mut rules = Vec::new();
        self.rules.each(&mut |rule| {
            if rule.is_pressed() {
                rules.push(rule);
            }
        });
        rules
    }

    /// The entries that lead to each rule whose capacity can come under pressure, where the rules say them
    /// all: that is, where the rule has one counter.
    pub fn pressed_paths(&self) -> Vec<Vec<(&str, &str)>> {
        let mut paths = Vec::new();
        self.rules.pressed_paths(&[], &mut paths);
        paths
    }

    /// How many limits the domain has; their indexes are below.
    pub fn limit_count(&self) -> usize {
        self.limit_count
    }

    /// Every limit of the domain, in no particular order.
    pub fn limits(&self) -> Vec<&Arc<RuleLimit>> {
        let mut limits = Vec::new();
        self.rules.each(&mut |rule| limits.extend(&rule.limits));
        limits
    }

    /// The key of a walk's counters at the rule of its `depth`-th entry, from 1.
    pub fn key(&self, walk: &Walk<'_>, entries: &[(&str, &str)], depth: usize) -> Key {
        let mut key = Key::of_domain(&self.name);
        for (rule, (name, value)) in walk.steps[..depth].iter().zip(entries) {
            rule.push_step(&mut key, name, value);
        }
        key.finish()
    }
}

impl<'p> Walk<'p> {
    /// The rules found, one for each entry from the first on.
    pub fn steps(&self) -> &[&'p Rule] {
        &self.steps
    }

    /// The rule at the descriptor's end, if all its entries have one.
    pub fn end(&self) -> Option<&'p Rule> {
        if self.steps.len() == self.entries { self.steps.last().copied() } else { None }
    }

    /// The rules before the end that hold for every path below them, each with its depth from 1.
    pub fn cascading(&self) -> impl Iterator<Item = (usize, &'p Rule)> {
        let depths = 1..=self.steps.len();
        let end = self.entries;
        depths
            .zip(self.steps.iter().copied())
            .filter(move |(depth, rule)| rule.cascade && *depth < end)
    }
}
