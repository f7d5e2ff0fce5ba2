//! What a request spends by the plain model, once it is decided.

use super::judge::{Case, Decision};
use super::plan::Charge;
use super::retries::Made;
use super::world::Overdraft;

impl Case<'_, '_> {
    /// How many hits the request gets of limits that may be taken in part: as many as the one has that has least. An earlier
    /// attempt got what it got.
    pub fn grant(&self) -> u64 {
        let partial = self.charges.iter().filter(|charge| charge.partial);
        let has = partial.map(|charge| match self.made(charge) {
            Made::Before(mark) => mark.granted,
            _ => charge.hits.unsigned_abs().min(self.left_with_grace(charge, self.now)),
        });
        has.min().unwrap_or(0)
    }

    /// Spends unless an earlier attempt has.
    pub fn spend_once(&mut self, charge: &Charge<'_>, decision: &mut Decision, grant: u64) {
        let made = self.made(charge);
        let hits = charge.hits.unsigned_abs();
        decision.granted = match made {
            Made::Before(mark) => mark.granted.min(grant),
            _ => hits.min(self.left_with_grace(charge, self.now)).min(grant),
        };
        let hits = if charge.partial { decision.granted } else { hits };
        self.note(charge, hits);
        if matches!(made, Made::Before(_)) {
            return;
        }
        if let Some(acting) = &charge.acting {
            (decision.settled, decision.crossed) = self.act(charge, acting);
        } else if charge.hits != 0 {
            let before = self.used(charge, self.now);
            match charge.hits < 0 {
                true => self.give_back(charge, hits),
                false => self.spend(charge, hits, charge.form.overdraft),
            }
            decision.crossed = self.report(charge, before);
        }
    }

    /// Spends first what is open, then the bonuses; beyond them as the overdraft says, or else of the grace.
    pub fn spend(&mut self, charge: &Charge<'_>, hits: u64, overdraft: Overdraft) {
        let passing = match overdraft {
            Overdraft::Clip => hits.min(self.left(charge, self.now)),
            Overdraft::None | Overdraft::Allow => hits,
        };
        let open = self.open(charge, self.now);
        let base = passing.min(open.saturating_sub(self.used(charge, self.now)));
        let rest = self.spend_gifts(charge, passing - base);
        let base = if overdraft == Overdraft::Clip { base } else { base + rest };
        let periods = &mut self.model.periods;
        if 0 < base {
            self.ledgers[charge.index].spend(&charge.form, periods, (base, self.now));
        }
    }

    /// Gives back to the bonuses first, the last to end first.
    fn give_back(&mut self, charge: &Charge<'_>, hits: u64) {
        let rest = self.return_gifts(charge, hits);
        self.ledgers[charge.index].give_back(&charge.form, (rest, self.now));
    }
}
