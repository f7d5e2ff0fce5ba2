//! Load shedding: the part of each limit that the caller of a request may use, by its tier and by the pressure level.

use smallvec::SmallVec;

use crate::limit::{Fit, Limit, Scale};
use crate::policy::{Capacity, Only, PressureLevel, Rule, RuleLimit};
use crate::store::{Gauge, Mark, Open, Outcome, Pressed};

use super::builder::Builder;
use super::model::Plan;

impl<'p> Builder<'_, 'p, '_> {
    /// How much of a rule's limit is open to the caller: what a signal and a cap leave of it, and of that what is not reserved.
    pub(super) fn open(
        &self,
        rule: Option<&Rule>,
        (of, cap): (&RuleLimit, Option<Scale>),
        limit: &Limit,
    ) -> Open {
        let capacity = rule.and_then(|rule| rule.capacity.as_ref());
        if capacity.is_none() && of.adjust.is_none() && cap.is_none() {
            return Open::all();
        }
        let whole = limit.reference_capacity();
        let left = of.adjusted(whole);
        let left = cap.map_or(left, |cap| cap.of(whole).min(left));
        let open = |capacity: &Capacity| capacity.at(self.plan.at).open(self.caller.tier, left);
        Open { hits: capacity.map_or(left, |capacity| open(capacity)), ..Open::all() }
    }

    /// Adds a gauge of the pressure level for the charges under a key, if the rule has levels.
    pub(super) fn gauge(&mut self, key_index: usize, rule: Option<&'p Rule>) {
        let Some(rule) = rule else { return };
        let Some(capacity) = rule.capacity.as_ref().filter(|one| one.has_levels()) else {
            return;
        };
        // While no level counts, a gauge without marks falls.
        let levels = &capacity.at(self.plan.at).levels;
        let mut marks = SmallVec::new();
        let charges = self.plan.batch.charges.iter().zip(&self.plan.limits).enumerate();
        for (charge, (measured, of)) in charges {
            if measured.key_index != key_index {
                continue;
            }
            for (number, level) in (1..).zip(levels) {
                let whole = of.adjusted(measured.limit.reference_capacity());
                let (rise, fall) = (level.above.of(whole), level.until.of(whole));
                marks.push(Mark { charge, level: number, rise, fall });
            }
        }
        let has_charges =
            self.plan.batch.charges.iter().any(|charge| charge.key_index == key_index);
        if !marks.is_empty() || levels.is_empty() && has_charges {
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
            let capacity = capacity.at(self.plan.at);
            let charges = self.plan.batch.charges.iter_mut().zip(&self.plan.rules);
            for (charge, of) in charges {
                let whole = charge.limit.reference_capacity().min(charge.open.hits);
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

impl Plan<'_> {
    /// Has refusals tell no longer wait than until a schedule changes a capacity that they come from.
    pub fn end_waits_at_edges(&self, outcome: &mut Outcome) {
        let charges = self.batch.charges.iter().zip(&self.rules).zip(&mut outcome.decisions);
        for ((charge, rule), decision) in charges {
            let is_open = charge.limit.reference_capacity() <= charge.open.hits;
            let own = rule.filter(|_| !is_open);
            let pressing = charge.open.pressed.iter().map(|pressed| self.gauges[pressed.gauge]);
            let capacities =
                own.into_iter().chain(pressing).filter_map(|rule| rule.capacity.as_ref());
            let edges = capacities.filter_map(|capacity| capacity.changes_after(self.at));
            let Some(edge) = edges.min() else { continue };
            let left_ms = edge.as_ms().saturating_sub(outcome.at.as_ms());
            decision.fit = match decision.fit {
                Fit::AfterMs(ms) => Fit::AfterMs(ms.min(left_ms)),
                // More than all of the limit fits at no time.
                Fit::Never if charge.hits.amount() <= charge.limit.capacity() => {
                    Fit::AfterMs(left_ms)
                }
                fit => fit,
            };
        }
    }
}
