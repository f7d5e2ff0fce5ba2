//! What the plain model reports of limits beside whether they fit: thresholds that are crossed, and graces.

use super::holdings::Action;
use super::judge::Case;
use super::plan::Charge;
use super::world::{Algorithm, Overdraft};

/// How long at least a threshold of a limit that never resets stays reported.
const TOTAL_PAUSE_MS: u64 = 86_400_000;

impl Case<'_, '_> {
    /// For how long more passes by a grace: of a limit that has at least a hit beyond its amount at some time, for a request that
    /// spends.
    fn grace_ms(&self, charge: &Charge<'_>) -> Option<u64> {
        let grace = charge.grace.filter(|_| charge.form.overdraft == Overdraft::None)?;
        let action = charge.acting.as_ref().map(|acting| acting.action);
        let spends = !matches!(action, Some(Action::Hold | Action::Extend));
        let most = charge.form.capacity().max(charge.form.most_capacity);
        (spends && 100 <= most * grace.percent).then_some(grace.for_ms)
    }

    /// What passes at a time beyond so much.
    fn over(charge: &Charge<'_>, capacity: u64) -> u64 {
        charge.grace.map_or(0, |grace| capacity * grace.percent / 100)
    }

    /// What is left of a grace at a time, for those to whom all of the limit is open then.
    pub fn grace_left(&self, charge: &Charge<'_>, at: u64) -> u64 {
        let Some(for_ms) = self.grace_ms(charge) else { return 0 };
        let capacity = charge.form_at(at).capacity();
        let holds = self.ledgers[charge.index].grace.is_none_or(|(since, again)| {
            at < since + for_ms || again.is_some_and(|again| again <= at)
        });
        if !holds || self.open(charge, at) < capacity {
            return 0;
        }
        let most = capacity + Self::over(charge, capacity);
        most.saturating_sub(self.used(charge, at).max(capacity))
    }

    /// Until when a grace lets more pass, if more than the limit is in use.
    pub fn grace_until(&self, charge: &Charge<'_>) -> Option<u64> {
        let for_ms = self.grace_ms(charge)?;
        let (since, _) = self.ledgers[charge.index].grace?;
        let is_over = charge.form.capacity() < self.used(charge, self.now);
        Some(since + for_ms).filter(|ends| is_over && self.now < *ends)
    }

    /// Notes what a charge leaves in use, where so much was before; the thresholds that it crosses.
    pub fn report(&mut self, charge: &Charge<'_>, before: u64) -> Vec<u64> {
        let after = self.used(charge, self.now);
        self.note_grace(charge, after);
        // While a policy has no thresholds, what was reported before stays.
        if charge.thresholds.is_empty() {
            return Vec::new();
        }
        let capacity = charge.form.capacity();
        let reached = |percent: u64, used: u64| (capacity * percent).div_ceil(100).max(1) <= used;
        let until = match charge.form.algorithm {
            Algorithm::Total => self.now + TOTAL_PAUSE_MS,
            Algorithm::Sliding | Algorithm::Bucket => self.now + charge.form.pause().unwrap(),
            Algorithm::Fixed | Algorithm::Calendar => {
                charge.form.until(&mut self.model.periods, self.now)
            }
        };
        let thresholds: &[u64] = if capacity == 0 { &[] } else { &charge.thresholds };
        let known = &mut self.ledgers[charge.index].reported;
        // What an edit has left out is forgotten once it may be reported again.
        known.retain(|percent, (until, fell)| {
            let stays = thresholds.contains(percent) && !*fell && reached(*percent, before);
            self.now < *until || stays
        });
        let is_due = |percent: &&u64| {
            before < after && reached(**percent, after) && !known.contains_key(*percent)
        };
        let crossed: Vec<u64> = thresholds.iter().filter(is_due).copied().collect();
        for (percent, (_, fell)) in known.iter_mut() {
            *fell |= thresholds.contains(percent) && !reached(*percent, before.min(after));
        }
        known.extend(crossed.iter().map(|percent| (*percent, (until, false))));
        crossed
    }

    fn note_grace(&mut self, charge: &Charge<'_>, after: u64) {
        let Some(for_ms) = self.grace_ms(charge) else { return };
        let capacity = charge.form.capacity();
        let over = Self::over(charge, capacity);
        let is_total = charge.form.algorithm == Algorithm::Total;
        let ends = match charge.form.algorithm {
            Algorithm::Fixed | Algorithm::Calendar => {
                Some(charge.form.until(&mut self.model.periods, self.now))
            }
            _ => charge.form.pause().map(|pause| self.now + for_ms + pause),
        };
        let ledger = &mut self.ledgers[charge.index];
        let grace = &mut ledger.grace;
        if grace.is_none() && capacity < after {
            *grace = Some((self.now, ends));
            ledger.grace_ends = self.now + for_ms;
        } else if is_total && after <= capacity.saturating_sub(over) {
            *grace = None;
        }
    }
}
