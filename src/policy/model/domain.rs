//! The policy of one domain, and the rules that match a descriptor.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::tz::TimeZone;
use smallvec::SmallVec;

use crate::limit::{Limit, LimitName};

use super::abuse::AbuseEntries;
use super::answer::AnswerSettings;
use super::api_keys::ApiKeyPolicy;
use super::brought::{API_KEY_LABEL, Brought, OVERRIDE_LABEL};
use super::choice::Choice;
use super::classes::Classes;
use super::idempotency::Idempotency;
use super::key::Key;
use super::price::Prices;
use super::rule::{Rule, RuleLevel};
use super::rule_limit::{Refused, RuleLimit};
use super::unit::Unit;
use super::window::Window;

/// The policy of one domain.
#[derive(Debug)]
pub struct Domain {
    pub name: String,
    pub answer: AnswerSettings,
    /// What alerts about abuse read.
    pub abuse: AbuseEntries,
    /// None: it checks no API keys.
    pub api_keys: Option<ApiKeyPolicy>,
    /// The classes of callers.
    pub classes: Arc<Classes>,
    /// Entries that are replaced by the best of several values.
    pub choices: Vec<Choice>,
    /// What requests cost at providers; None: nothing is known of it.
    pub prices: Option<Arc<Prices>>,
    /// The time zone of calendar windows.
    pub(in crate::policy) zone: TimeZone,
    pub(in crate::policy) rules: RuleLevel,
    /// Whether any of its limits has `idempotency`.
    pub(in crate::policy) has_retries: bool,
    /// Whether hits of any of its limits may be held.
    pub(in crate::policy) has_reservations: bool,
    /// The settings of limits that requests bring along.
    pub(in crate::policy) brought: Brought,
    /// Limits of all its rules.
    pub(in crate::policy) limit_count: usize,
}

/// Number of steps of most walks, which need no allocation.
const STEPS_INLINE: usize = 4;

/// The rules that match a descriptor's entries.
#[derive(Debug)]
pub struct Walk<'p> {
    /// One for each entry, up to the first without a rule.
    steps: SmallVec<[&'p Rule; STEPS_INLINE]>,
    entries: usize,
}

/// Keys and values of the entries of a path.
pub type Path<'a> = Cow<'a, [(&'a str, &'a str)]>;

impl Domain {
    /// A descriptor's entries without qualifiers.
    pub fn path<'a>(&self, entries: &'a [(&'a str, &'a str)]) -> Path<'a> {
        let qualifies = |(key, _): &(&str, &str)| self.classes.qualifies(key);
        if !self.classes.has_qualifiers() || !entries.iter().any(qualifies) {
            return Cow::Borrowed(entries);
        }
        Cow::Owned(entries.iter().copied().filter(|entry| !qualifies(entry)).collect())
    }

    /// The rules that match a descriptor's entries. There is no backtracking: an entry without a rule ends the search.
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
        self.rules.rules()
    }

    /// The time zone of calendar windows.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The limit that a request brings along with a descriptor of this path. Its number is one higher than those of the
    /// domain's own limits.
    pub fn override_limit(&self, rate: (u64, Unit), path: &[(&str, &str)]) -> RuleLimit {
        let (amount, unit) = rate;
        let window = Window::from(unit);
        let rule = self.walk(path).end();
        let named = rule.and_then(|rule| rule.limit_of(window)).map(|limit| limit.name.clone());
        let name = named.unwrap_or_default();
        let label = if name.is_empty() { OVERRIDE_LABEL.into() } else { name.clone() };
        let of = (self.limit_count, &self.brought.name);
        RuleLimit { label, name, ..self.brought_limit((amount, window), of) }
    }

    /// A limit of an API key, with its label for people. Its number follows that of limits that requests bring along. No request
    /// is held for it, and each of them is charged: an API key is checked before anybody knows that a request is a retry.
    pub fn api_key_limit(&self, rate: (u64, Window), label: &Arc<str>) -> RuleLimit {
        let of = (self.limit_count + 1, &self.brought.api_key_name);
        let brought = self.brought_limit(rate, of);
        RuleLimit {
            label: label.clone(),
            wait: None,
            estimate: None,
            charges_retries: true,
            ..brought
        }
    }

    fn brought_limit(
        &self,
        (amount, window): (u64, Window),
        (index, name): (usize, &Arc<LimitName>),
    ) -> RuleLimit {
        let Brought { mode, strict, enforced, on_outage, overdraft, wait, lease, .. } =
            self.brought;
        let limit = Limit::new(amount, self.brought.algorithm(amount, window));
        let estimate = self.brought.estimate.as_ref();
        let estimate = estimate.filter(|one| !strict && one.most() < limit.capacity()).cloned();
        let limit = limit.named(Arc::clone(name));
        RuleLimit {
            index,
            label: (*name.label).into(),
            name: "".into(),
            limit: Arc::new(limit.overdrawn(overdraft)),
            by_tier: [].into(),
            cost: None,
            currency: None,
            wait,
            lease,
            estimate,
            partial: false,
            window,
            mode,
            strict,
            enforced,
            on_outage,
            refused: if strict { Refused::Free } else { Refused::of(overdraft, true) },
            charges_retries: false,
            adjust: None,
            places: None,
        }
    }

    /// Whether any of its limits has `idempotency`.
    pub fn has_retries(&self) -> bool {
        self.has_retries
    }

    /// Whether hits of any of its limits may be held by reservations.
    pub fn has_reservations(&self) -> bool {
        self.has_reservations
    }

    /// The `idempotency` of a rule's limits, or of limits that requests bring along.
    pub fn idempotency<'p>(&'p self, rule: Option<&'p Rule>) -> Option<&'p Idempotency> {
        rule.map_or(&self.brought.idempotency, |rule| &rule.idempotency).as_deref()
    }

    /// The rules with pressure levels.
    pub fn rules_with_pressure(&self) -> Vec<&Rule> {
        let mut rules = Vec::new();
        self.rules.each(&mut |rule| {
            if rule.has_pressure() {
                rules.push(rule);
            }
        });
        rules
    }

    /// The entries of each rule with pressure levels, if the rules determine all of them: if the rule has a single
    /// counter.
    pub fn paths_with_pressure(&self) -> Vec<Vec<(&str, &str)>> {
        let mut paths = Vec::new();
        self.rules.exact_paths(&[], Rule::has_pressure, &mut paths);
        paths
    }

    /// Entries that lead on from those of a descriptor to each rule below, where the rules say all values.
    pub fn paths_below<'a>(
        &'a self,
        entries: &[(&'a str, &'a str)],
    ) -> Vec<Vec<(&'a str, &'a str)>> {
        let mut paths = Vec::new();
        if let Some(rule) = self.walk(&self.path(entries)).end() {
            rule.below.exact_paths(entries, |_| true, &mut paths);
        }
        paths
    }

    /// The number of limits of the domain; their indexes are below it.
    pub fn limit_count(&self) -> usize {
        self.limit_count
    }

    /// The label of each limit by its index: those of the domain, then that of limits that requests bring along, and that of
    /// limits of API keys if the domain checks any.
    pub fn labels(&self) -> Vec<Arc<str>> {
        let mut labels = vec![Arc::from(OVERRIDE_LABEL); self.limit_count + 1];
        self.limits().iter().for_each(|limit| labels[limit.index] = limit.label.clone());
        labels.extend(self.api_keys.iter().map(|_| Arc::from(API_KEY_LABEL)));
        labels
    }

    /// Every limit of the domain, in no particular order.
    pub fn limits(&self) -> Vec<&Arc<RuleLimit>> {
        let mut limits = Vec::new();
        self.rules.each(&mut |rule| limits.extend(&rule.limits));
        limits
    }

    /// The key of a walk's counters for the rule of its `depth`-th entry, from 1.
    pub fn key(&self, walk: &Walk<'_>, entries: &[(&str, &str)], depth: usize) -> Key {
        let mut key = Key::of_domain(&self.name);
        for (rule, (name, value)) in walk.steps[..depth].iter().zip(entries) {
            rule.push_step(&mut key, name, value);
        }
        key.finish()
    }
}

impl<'p> Walk<'p> {
    /// The matching rules, one for each entry from the first on.
    pub fn steps(&self) -> &[&'p Rule] {
        &self.steps
    }

    /// The rule at the descriptor's end, if all its entries have one.
    pub fn end(&self) -> Option<&'p Rule> {
        if self.steps.len() == self.entries { self.steps.last().copied() } else { None }
    }

    /// The cascading rules before the end, each with its depth from 1.
    pub fn cascading(&self) -> impl Iterator<Item = (usize, &'p Rule)> {
        let depths = 1..=self.steps.len();
        let end = self.entries;
        depths
            .zip(self.steps.iter().copied())
            .filter(move |(depth, rule)| rule.cascade && *depth < end)
    }
}
