//! Compares one domain in two policy sets, by sample requests.

use std::collections::{BTreeMap, HashSet};
use std::ptr;

use super::position::{EntryMatch, Met, Position};
use super::reason;
use super::report::{Gone, Restart};
use super::samples::{Samples, stands_for};
use crate::policy::model::{Domain, Rule, RuleLevel, RuleLimit};

/// The comparison of one domain.
pub struct Comparison<'p> {
    domain: &'p str,
    /// The number of comparisons left.
    pub left: usize,
    pub is_cut: bool,
    /// Each with the number of its limit in the new domain.
    restarts: Vec<(usize, Restart)>,
    /// The numbers of their limits, and the old rules of the requests.
    reported: HashSet<(usize, *const Rule)>,
    /// Limits whose counters no request uses any more, by their numbers in the old domain.
    gone: BTreeMap<usize, Gone>,
    /// The numbers of old limits that were replaced by another.
    taken: HashSet<usize>,
}

impl<'p> Comparison<'p> {
    /// Compares a domain in two sets by at most `left` requests.
    pub fn of(old: &'p Domain, new: &'p Domain, left: usize) -> Self {
        let mut all = Self::none(&old.name, left);
        all.longer((&Position::start(old), &Position::start(new)), true, 0);
        all
    }

    /// A removed domain.
    pub fn without(old: &'p Domain, left: usize) -> Self {
        let mut all = Self::none(&old.name, left);
        old.rules().iter().for_each(|rule| all.lose(rule));
        all
    }

    fn none(domain: &'p str, left: usize) -> Self {
        let (restarts, reported, gone) = (Vec::new(), HashSet::new(), BTreeMap::new());
        Self { domain, left, is_cut: false, restarts, reported, gone, taken: HashSet::new() }
    }

    /// In the order of the rules.
    pub fn restarts(&mut self) -> impl Iterator<Item = Restart> + use<> {
        self.restarts.sort_by_key(|(index, _)| *index);
        std::mem::take(&mut self.restarts).into_iter().map(|(_, restart)| restart)
    }

    /// In the order of the rules. Unknown if some requests were not compared.
    pub fn gone(&mut self) -> impl Iterator<Item = Gone> + use<> {
        let mut gone = std::mem::take(&mut self.gone);
        gone.retain(|index, _| !self.is_cut && !self.taken.contains(index));
        gone.into_values()
    }

    /// Compares the requests that start with this one. `is_own`: it is the sample of the old rules on its path.
    fn longer(&mut self, (old, new): (&Position<'p>, &Position<'p>), is_own: bool, number: usize) {
        let none = RuleLevel::default();
        let (rules, rules_now) = (old.below.unwrap_or(&none), new.below.unwrap_or(&none));
        let samples = Samples::of(rules, rules_now, self.left);
        self.is_cut |= samples.is_cut;
        self.left -= samples.entries.len();
        let mut steps = Vec::with_capacity(samples.entries.len());
        for (key, value) in &samples.entries {
            let (before, now) = (old.entry(key, value), new.entry(key, value));
            let is_rule = |found: &EntryMatch<'p>| matches!(found, EntryMatch::Rule(_));
            if is_rule(&before) || is_rule(&now) {
                let stands = match before {
                    EntryMatch::Rule(rule) => stands_for(rule, key, value),
                    EntryMatch::Qualifier | EntryMatch::Unknown => true,
                };
                steps.push((is_own && stands, before, now, (key.as_str(), value.as_str())));
            }
        }
        // Of requests with the same rules the first is enough; it is their sample.
        steps.sort_by_key(|(is_own, ..)| !is_own);
        let mut compared = HashSet::new();
        for (is_own, before, now, entry) in steps {
            if !compared.insert((before.identity(), now.identity())) {
                continue;
            }
            let (old, new) = (old.after(before, entry, number), new.after(now, entry, number));
            // Without qualifiers: an entry that only the old set ignores leads away from the same rule in the new one.
            let alone = old.end.as_ref().filter(|end| is_own && end.path.len() == number + 1);
            let own_rule = alone.map(|end| end.rule);
            if new.is_over() {
                own_rule.into_iter().for_each(|rule| self.lose(rule));
            } else if !old.is_over() {
                self.ended((&old.met(), &new.met()), own_rule, is_own);
                self.longer((&old, &new), is_own, number + 1);
            }
        }
    }

    /// Compares the limits of one complete request. `own_rule`: the old rule at its end, if the request is the sample
    /// of that rule's counters.
    fn ended(
        &mut self,
        (old, new): (&[Met<'_, 'p>], &[Met<'_, 'p>]),
        own_rule: Option<&'p Rule>,
        is_own: bool,
    ) {
        let gone: Vec<&Met<'_, 'p>> = old.iter().filter(|met| !met.is_among(new)).collect();
        if let Some(rule) = own_rule {
            let lost = gone.iter().filter(|met| ptr::eq(rule, met.at.rule));
            lost.for_each(|met| self.lose_limit(rule, met.limit));
        }
        for fresh in new.iter().filter(|met| !met.is_among(old)) {
            let Some(before) = reason::predecessor(&gone, fresh) else { continue };
            if is_own {
                self.taken.insert(before.limit.index);
            }
            let (old, new) = (before.at.rule, fresh.at.rule);
            if !self.reported.insert((fresh.limit.index, ptr::from_ref(old))) {
                continue;
            }
            let restart = Restart {
                domain: self.domain.to_owned(),
                rule: new.path.clone(),
                limit: fresh.limit.label.to_string(),
                rule_before: (old.path != new.path).then(|| old.path.clone()),
                reason: reason::of(before, fresh),
            };
            self.restarts.push((fresh.limit.index, restart));
        }
    }

    /// Records that no request uses the counters of a rule, and of those below it, any more.
    fn lose(&mut self, rule: &Rule) {
        rule.limits.iter().for_each(|limit| self.lose_limit(rule, limit));
        rule.rules().iter().for_each(|rule| self.lose(rule));
    }

    fn lose_limit(&mut self, rule: &Rule, limit: &RuleLimit) {
        let (domain, rule) = (self.domain.to_owned(), rule.path.clone());
        let gone = Gone { domain, rule, limit: limit.label.to_string() };
        self.gone.insert(limit.index, gone);
    }
}
