//! Bonuses in the embedded store: what is left of them, what is spent, and how they stand. `redis/special.lua` mirrors this.

use smallvec::SmallVec;

use super::decide::Decider;
use super::kept::KeptBonus;
use crate::limit::{Allowance, Bonus, BonusLeft, BonusUse, Fit, Hits};
use crate::store::{BonusStand, Charge, Notice, Once};

impl Decider<'_> {
    /// Keeps in the mark of a charge how many of its hits were taken of which bonuses.
    pub(super) fn keep_taken(
        &mut self,
        charge: &Charge,
        before: &[BonusLeft],
        allowance: &Allowance,
    ) {
        let Some(Once::Mark(mark)) = charge.once else { return };
        let live = charge.bonuses.iter().filter(|bonus| self.now < bonus.until);
        let both = live.zip(before.iter().zip(&allowance.bonuses));
        let taken = both.map(|(bonus, (before, after))| {
            (bonus.id.clone(), after.spent.saturating_sub(before.spent))
        });
        let taken: Box<[_]> = taken.filter(|(_, hits)| *hits != 0).collect();
        if !taken.is_empty()
            && let Some(known) = self.mark(charge, mark)
        {
            known.bonuses = taken;
        }
    }

    /// Keeps what is spent of bonuses as long as they ask for now: those that were edited are not given anew.
    pub(super) fn prolong_bonuses(&mut self, charge: &Charge) {
        let now = self.now;
        let record = &mut self.records[charge.key_index];
        for bonus in charge.bonuses.iter().filter(|bonus| now < bonus.until) {
            let Some(known) = record.bonus(charge.limit.tag(), &bonus.id) else { continue };
            let until_ms = match (&bonus.recurs, known.spent) {
                (None, KeptBonus::Once(_)) => bonus.until.as_ms(),
                (Some(_), KeptBonus::Recurring(used)) => {
                    let left = BonusLeft::recurring(bonus, Some(used), now);
                    let given_anew = BonusLeft::recurring(bonus, None, now);
                    let is_same =
                        (left.amount, left.spent) == (given_anew.amount, given_anew.spent);
                    // What says no more than nothing would may be forgotten.
                    if is_same { 0 } else { kept_ms(bonus, &left) }
                }
                _ => continue,
            };
            known.until_ms = known.until_ms.max(until_ms);
        }
    }

    /// What is left of the bonuses of a charge that haven't ended.
    pub(super) fn bonuses(&mut self, charge: &Charge) -> SmallVec<[BonusLeft; 1]> {
        let (tag, now) = (charge.limit.tag(), self.now);
        let record = &mut self.records[charge.key_index];
        let live = charge.bonuses.iter().filter(|bonus| now < bonus.until);
        let left = live.map(|bonus| {
            let known = record.bonus(tag, &bonus.id).map(|known| known.spent);
            match (&bonus.recurs, known) {
                (None, Some(KeptBonus::Once(spent))) => BonusLeft::new(bonus, spent),
                (None, _) => BonusLeft::new(bonus, 0),
                (Some(_), Some(KeptBonus::Recurring(used))) => {
                    BonusLeft::recurring(bonus, Some(used), now)
                }
                (Some(_), _) => BonusLeft::recurring(bonus, None, now),
            }
        });
        left.collect()
    }

    /// Where the bonus that alone has the hits of a charge stands among those that haven't ended.
    fn place_alone(&self, charge: &Charge, alone: usize) -> Option<usize> {
        let bonus = charge.bonuses.get(alone).filter(|bonus| self.now < bonus.until)?;
        let mut live = charge.bonuses.iter().filter(|bonus| self.now < bonus.until);
        live.position(|known| known.id == bonus.id)
    }

    /// Whether the bonus that alone may has the hits of a charge, beside what is held.
    pub(super) fn fit_alone(&self, (index, alone): (usize, usize), allowance: &Allowance) -> Fit {
        let charge = &self.batch.charges[index];
        let place = self.place_alone(charge, alone);
        let left = place.map_or(0, |place| allowance.bonuses[place].left());
        let most = left.min(allowance.remaining(&self.settled(index)));
        if charge.hits.amount() <= most { Fit::Now } else { Fit::Never }
    }

    /// Takes hits of the bonus that alone has those of a charge.
    pub(super) fn take_alone(
        &self,
        (charge, alone): (&Charge, usize),
        allowance: &mut Allowance,
        hits: Hits,
    ) -> Hits {
        if let Some(place) = self.place_alone(charge, alone) {
            let bonus = &mut allowance.bonuses[place];
            bonus.spent += bonus.left().min(hits.amount());
        }
        Hits::Spend(0)
    }

    /// Keeps what is spent of the bonuses of a charge, of which so much was `before`.
    pub(super) fn keep_bonuses(
        &mut self,
        index: usize,
        before: &[BonusLeft],
        allowance: &Allowance,
    ) {
        let charge = &self.batch.charges[index];
        if charge.tells_bonuses() {
            let both = before.iter().zip(&allowance.bonuses);
            let taken = both.map(|(before, after)| after.spent.saturating_sub(before.spent));
            let taken = taken.map(|taken| BonusStand { taken, ..BonusStand::default() });
            Notice::of_charge(&mut self.notices, index).bonuses = taken.collect();
        }
        let (tag, now) = (charge.limit.tag(), self.now);
        let record = &mut self.records[charge.key_index];
        let live = charge.bonuses.iter().filter(|bonus| now < bonus.until);
        let changed = live
            .zip(before.iter().zip(&allowance.bonuses))
            .filter(|(_, (before, after))| before.spent != after.spent);
        for (bonus, (_, after)) in changed {
            let (spent, until_ms) = (kept(after), kept_ms(bonus, after));
            match record.bonus(tag, &bonus.id) {
                Some(known) => {
                    known.spent = spent;
                    known.until_ms = known.until_ms.max(until_ms);
                }
                None => record.add_bonus(tag, &bonus.id, (spent, until_ms)),
            }
        }
    }

    /// Reports how the bonuses of charges stand that ask for it.
    pub(super) fn report_bonuses(&mut self) {
        let batch = self.batch;
        for (index, charge) in batch.charges.iter().enumerate() {
            if !charge.tells_bonuses() {
                continue;
            }
            let mut bonuses: Vec<BonusStand> =
                self.bonuses(charge).iter().map(BonusStand::of).collect();
            let notice = Notice::of_charge(&mut self.notices, index);
            for (stand, taken) in bonuses.iter_mut().zip(&notice.bonuses) {
                stand.taken = taken.taken;
            }
            notice.bonuses = bonuses;
        }
        self.notices.sort_unstable_by_key(|notice| notice.charge);
    }
}

impl Charge {
    /// Whether it reports how its bonuses stand.
    pub fn tells_bonuses(&self) -> bool {
        self.tells_bonuses && !self.bonuses.is_empty()
    }

    /// Which of its bonuses alone has the hits that it spends.
    pub(in crate::store) fn alone(&self) -> Option<usize> {
        self.bonus_alone.filter(|_| matches!(self.hits, Hits::Spend(1..)))
    }

    /// Whether there may be something to report beside its decision.
    pub fn may_notice(&self) -> bool {
        let reports = self.thresholds().is_some() || self.grace().is_some();
        reports || self.reservation.is_some() || self.tells_bonuses()
    }
}

impl BonusStand {
    fn of(left: &BonusLeft) -> Self {
        let (carried, expired) =
            left.period.as_ref().map_or((0, 0), |one| (one.carried, one.expired));
        Self { carried, spent: left.spent, expired, taken: 0 }
    }
}

fn kept(left: &BonusLeft) -> KeptBonus {
    match &left.period {
        None => KeptBonus::Once(left.spent),
        Some(period) => KeptBonus::Recurring(BonusUse {
            period: period.number,
            carried: period.carried,
            spent: left.spent,
            expired: period.expired,
        }),
    }
}

/// Until when it is kept, in milliseconds since the Unix epoch.
fn kept_ms(bonus: &Bonus, left: &BonusLeft) -> u64 {
    left.period.as_ref().map_or(bonus.until.as_ms(), |period| period.kept_ms)
}
