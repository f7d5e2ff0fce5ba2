//! Load shedding: the part of each limit that the caller of a request may use, by its tier and by the pressure level.

use smallvec::SmallVec;

use crate::limit::Limit;
use crate::policy::{Only, PressureLevel, Rule};
use crate::store::{Gauge, Mark, Open, Pressed};

use super::builder::Builder;

impl<'p> Builder<'_, 'p, '_> {
    /// The part of a rule's limit that the caller may use.
    pub(super) fn open(&self, rule: Option<&Rule>, limit: &Limit) -> Open {
        match rule.and_then(|rule| rule.capacity.as_ref()) {
            None => Open::all(),
            Some(capacity) => {
                let hits = capacity.open(self.caller.tier, limit.capacity());
                Open { hits, ..Open::all() }
            }
        }
    }

    /// Adds a gauge of the pressure level for the charges under a key, if the rule has levels.
    pub(super) fn gauge(&mut self, key_index: usize, rule: Option<&'p Rule>) {
        let Some(rule) = rule else { return };
        let Some(capacity) = rule.capacity.as_ref().filter(|one| !one.levels.is_empty()) else {
            return;
        };
        let mut marks = SmallVec::new();
        let charges = self.plan.batch.charges.iter().enumerate();
        for (charge, measured) in charges.filter(|(_, charge)| charge.key_index == key_index) {
            for (number, level) in (1..).zip(&capacity.levels) {
                let whole = measured.limit.capacity();
                let (rise, fall) = (level.above.of(whole), level.until.of(whole));
                marks.push(Mark { charge, level: number, rise, fall });
            }
        }
        if !marks.is_empty() {
            self.plan.batch.gauges.push(Gauge { key_index, marks });
            self.plan.gauges.push(rule);
        }
    }

    /// Sets what each level of a gauge leaves of the affected charges: nothing of the limits under its own key for
    /// excluded callers, and a part of the caller's own limits for its tier.
    pub(super) fn shed_load(&mut self) {
        let gauges = self.plan.batch.gauges.iter().zip(&self.plan.gauges).enumerate();
        for (gauge, (Gauge { key_index, .. }, rule)) in gauges {
            let Some(capacity) = &rule.capacity else { continue };
            let charges = self.plan.batch.charges.iter_mut().zip(&self.plan.rules);
            for (charge, of) in charges {
                let whole = charge.limit.capacity().min(charge.open.hits);
                let levels = (1..).zip(&capacity.levels);
                let mut least = whole;
                let mut open = |hits: u64| {
                    least = least.min(hits);
                    least
                };
                let hits: SmallVec<[u64; 2]> = if charge.key_index == *key_index {
                    let passes = |number, level: &PressureLevel| {
                        let priority = self.caller.priority(number);
                        let admits = |only: &Only| only.admits(self.caller.tier, priority);
                        level.only.as_ref().is_none_or(admits)
                    };
                    let hits = |(number, level)| if passes(number, level) { whole } else { 0 };
                    levels.map(|level| open(hits(level))).collect()
                } else if of.is_some_and(|rule| rule.of_caller) {
                    let tier = self.caller.tier;
                    levels.map(|(_, level)| open(level.keeps(tier).of(whole))).collect()
                } else {
                    continue;
                };
                if hits.iter().any(|open| *open < whole) {
                    charge.open.pressed.push(Pressed { gauge, hits });
                }
            }
        }
    }
}
