//! The allowance of a request: available capacity, plus bonuses, plus overdraft, and from when on.
//!
//! While nothing is spent, use only falls, available capacity only grows, and bonuses only end. So the earliest time at which
//! hits fit is the earliest one for some step of capacity and some of the bonuses, namely those that end last. A bonus
//! that recurs is looked at twice: until its period ends, and from then on.

use smallvec::SmallVec;

use super::{BonusLeft, COUNT_MAX, Fit, HeldFrom, Hits, Holdings, Limit, Overdraft, State};
use crate::clock::Timestamp;

/// The hits that a request may spend of a limit, now and later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// The capacity available now and from later times on, as lower bounds.
    pub available: SmallVec<[AvailableCapacity; 1]>,
    /// The bonuses that haven't ended, the soonest to end first.
    pub bonuses: SmallVec<[BonusLeft; 1]>,
    /// What passes beyond the limit when bonuses are spent, if all of its capacity is available.
    pub grace: Option<GraceLeft>,
    /// What reservations hold, now and from their lapses on; empty if nothing is held.
    pub held: Vec<HeldFrom>,
    /// The request is a reservation: it holds all its hits, whatever the overdraft, or else none.
    pub holds: bool,
}

/// What is left of a limit's grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceLeft {
    /// Hits beyond the capacity.
    pub hits: u64,
    /// When it ends, in milliseconds since the Unix epoch; the latest time if it has not begun.
    pub until_ms: u64,
    /// When another one may begin, if time alone brings it.
    pub again_ms: Option<u64>,
}

/// Capacity that is available from a time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvailableCapacity {
    /// In milliseconds since the Unix epoch.
    pub from_ms: u64,
    /// Until when, the same way; the latest time but for a grace.
    pub until_ms: u64,
    /// At most the capacity, and a grace.
    pub hits: u64,
}

/// A limit's settled state, and the time that it was settled for.
#[derive(Clone, Copy, Debug)]
pub struct Settled<'a> {
    pub limit: &'a Limit,
    pub state: &'a State,
    pub now: Timestamp,
    /// What reservations hold.
    pub held: &'a Holdings,
}

impl Settled<'_> {
    /// See [`Limit::used`].
    pub fn used(&self) -> u64 {
        self.limit.used(self.state, self.now)
    }

    /// See [`Limit::falls_to_ms`].
    pub fn falls_to_ms(&self, used_max: u64) -> Option<u64> {
        self.limit.falls_to_ms(self.state, used_max, self.now)
    }

    /// The hits that are spent and those that are held.
    pub fn used_or_held(&self) -> u64 {
        self.used().saturating_add(self.held.hits())
    }

    /// When at most `used_max` of both will be left; see [`Limit::falls_to_ms`].
    pub fn falls_with_held_to_ms(&self, used_max: u64) -> Option<u64> {
        if self.held.is_empty() {
            return self.falls_to_ms(used_max);
        }
        self.limit.falls_with_held_to_ms((self.state, self.held), used_max, self.now)
    }
}

impl Allowance {
    /// Whether more is in use than is open, by a grace too, and no bonus has anything left.
    pub fn is_overdrawn(&self, on: &Settled<'_>) -> bool {
        let used = on.used().saturating_add(self.held_now());
        self.open_now() + self.grace_now(on) < used && self.remaining(on) == 0
    }

    /// Whether `hits` pass now, on a settled state.
    pub fn suffice(&self, on: &Settled<'_>, hits: Hits) -> bool {
        let need = self.need(on.limit, hits);
        need == 0 || need <= self.left(on)
    }

    /// When `hits` that don't pass now will.
    pub fn wait(&self, on: &Settled<'_>, hits: Hits) -> Fit {
        let need = self.need(on.limit, hits);
        let mut earliest_ms = self.earliest_ms(on, need);
        for renews_ms in BonusLeft::renewals(&self.bonuses) {
            let later_ms = self.renewed(renews_ms).earliest_ms(on, need);
            earliest_ms = [earliest_ms, later_ms].into_iter().flatten().min();
        }
        match earliest_ms {
            Some(at_ms) => Fit::AfterMs(at_ms.saturating_sub(on.now.as_ms())),
            None => Fit::Never,
        }
    }

    /// The allowance from a time on at which one of its bonuses comes anew.
    fn renewed(&self, at_ms: u64) -> Self {
        let from = |capacity: &AvailableCapacity| AvailableCapacity {
            from_ms: capacity.from_ms.max(at_ms),
            ..*capacity
        };
        let available = self.available.iter().map(from).collect();
        let bonuses = BonusLeft::at(&self.bonuses, at_ms);
        Self { available, bonuses, grace: None, held: self.held.clone(), holds: self.holds }
    }

    /// When so much will be left, if no bonus comes anew, in milliseconds since the Unix epoch.
    fn earliest_ms(&self, on: &Settled<'_>, need: u64) -> Option<u64> {
        let nothing = HeldFrom { from_ms: 0, hits: 0 };
        let held = if self.held.is_empty() { &[nothing] } else { self.held.as_slice() };
        held.iter().filter_map(|held| self.earliest_beside_ms(on, need, *held)).min()
    }

    /// When so much will be left of what is not held, from a time on from which no more than that is held.
    fn earliest_beside_ms(&self, on: &Settled<'_>, need: u64, held: HeldFrom) -> Option<u64> {
        let mut earliest_ms: Option<u64> = None;
        let mut kept = 0;
        // The kept bonuses are the last ones to end: first none, then one more at a time.
        for first in (0..=self.bonuses.len()).rev() {
            let first = self.bonuses.get(first);
            kept = first.map_or(0, |bonus| COUNT_MAX.min(kept + bonus.left()));
            // A peek passes if any bonus has a hit left that is not held.
            let need = if 0 < kept { need.max(1) } else { need } + held.hits;
            let base = need.saturating_sub(kept);
            for capacity in self.available.iter().filter(|capacity| base <= capacity.hits) {
                let falls_ms = match base {
                    0 if 0 < kept => Some(on.now.as_ms()),
                    base => on.falls_to_ms(capacity.hits - base),
                };
                let Some(falls_ms) = falls_ms else { continue };
                let at_ms = falls_ms.max(capacity.from_ms).max(held.from_ms);
                let ends_ms = first.map_or(u64::MAX, |bonus| bonus.until_ms);
                if at_ms < ends_ms.min(capacity.until_ms) {
                    earliest_ms = Some(earliest_ms.map_or(at_ms, |earliest| earliest.min(at_ms)));
                }
            }
        }
        earliest_ms
    }

    /// The hits that a limit without overdraft would let pass now.
    pub fn remaining(&self, on: &Settled<'_>) -> u64 {
        self.unheld(on).saturating_sub(self.held_now())
    }

    /// The same if nothing were held.
    fn unheld(&self, on: &Settled<'_>) -> u64 {
        let base = self.base_left(on);
        self.bonuses.iter().fold(base, |sum, bonus| COUNT_MAX.min(sum + bonus.left()))
    }

    /// The hits that pass now, by a grace too.
    pub fn left(&self, on: &Settled<'_>) -> u64 {
        (self.unheld(on) + self.grace_left(on)).saturating_sub(self.held_now())
    }

    /// Divides `hits` that pass between bonuses, whose counts change here, and the limit itself, for which
    /// it returns its share, and how many are forgiven; `overdraft` says what becomes of those that there is no room for.
    /// The base is spent first and then what ends soonest; what comes back goes where it was taken last.
    pub fn divide(&mut self, on: &Settled<'_>, hits: Hits, overdraft: Overdraft) -> (Hits, u64) {
        let mut rest = hits.amount();
        if let Hits::GiveBack(_) = hits {
            for bonus in self.bonuses.iter_mut().rev() {
                let back = rest.min(bonus.spent);
                bonus.spent -= back;
                rest -= back;
            }
            return (Hits::GiveBack(rest), 0);
        }
        let mut forgiven = 0;
        if overdraft == Overdraft::Clip {
            let passing = rest.min(self.remaining(on));
            (forgiven, rest) = (rest - passing, passing);
        }
        let base = rest.min(self.base_left(on));
        rest -= base;
        for bonus in &mut self.bonuses {
            let taken = rest.min(bonus.left());
            bonus.spent += taken;
            rest -= taken;
        }
        match overdraft {
            Overdraft::Allow | Overdraft::Owed => {
                let room = COUNT_MAX.saturating_sub(on.used() + base);
                (Hits::Spend(base + rest.min(room)), 0)
            }
            Overdraft::Clip => (Hits::Spend(base), forgiven),
            Overdraft::None => (Hits::Spend(base + rest.min(self.grace_left(on))), 0),
        }
    }

    /// Adds what the grace allows, now and later, to the capacity that is available now and later: nothing unless all of it
    /// is.
    pub fn add_grace(&mut self, on: &Settled<'_>) {
        let capacity = on.limit.capacity();
        let whole = self.available.iter().filter(|one| capacity <= one.hits);
        let whole = whole.map(|one| one.from_ms).min();
        if let (Some(grace), Some(from_ms)) = (self.grace, whole) {
            let (hits, until_ms) = (capacity + grace.hits, grace.until_ms);
            self.available.push(AvailableCapacity { from_ms, until_ms, hits });
            if let Some(again_ms) = grace.again_ms {
                let from_ms = from_ms.max(again_ms);
                self.available.push(AvailableCapacity { from_ms, until_ms: u64::MAX, hits });
            }
        }
    }

    /// What is left of the grace now, beyond what is available.
    pub fn grace_left(&self, on: &Settled<'_>) -> u64 {
        let capacity = on.limit.capacity();
        (capacity + self.grace_now(on)).saturating_sub(on.used().max(capacity))
    }

    /// What the grace adds to what is available now.
    fn grace_now(&self, on: &Settled<'_>) -> u64 {
        let is_whole = on.limit.capacity() <= self.open_now();
        let grace = self.grace.filter(|grace| is_whole && on.now.as_ms() < grace.until_ms);
        grace.map_or(0, |grace| grace.hits)
    }

    /// What is left of what is open now.
    fn base_left(&self, on: &Settled<'_>) -> u64 {
        self.open_now().saturating_sub(on.used())
    }

    fn open_now(&self) -> u64 {
        self.available.first().map_or(0, |capacity| capacity.hits)
    }

    fn held_now(&self) -> u64 {
        self.held.first().map_or(0, |held| held.hits)
    }

    /// How much must be left for `hits` to pass. None need anything, whatever the limit owes.
    fn need(&self, limit: &Limit, hits: Hits) -> u64 {
        match (hits, limit.overdraft()) {
            (Hits::GiveBack(_) | Hits::Spend(0), _) => 0,
            (Hits::Spend(_), _) if self.holds => hits.amount(),
            (_, Overdraft::Owed) => 0,
            (Hits::Spend(_), Overdraft::None) => hits.amount(),
            (Hits::Spend(_), Overdraft::Allow | Overdraft::Clip) => 1,
        }
    }
}
