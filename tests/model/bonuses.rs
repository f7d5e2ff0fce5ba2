//! What the plain model knows of bonuses: what is spent of each, what is carried over, and gifts of them.

use super::judge::{Case, Model, counter};
use super::people::{Every, NEVER_MS, People, Recurs};
use super::plan::{Charge, Plan};
use super::retries::Mark;
use super::who::Who;
use super::world::{Ask, AskPart, Overdraft, World};

/// Periods ahead of which a promised wait sees what they bring.
const RENEWALS: usize = 8;

/// How long a gift is known that was taken.
const GIFT_LIFE_MS: u64 = 30 * 86_400_000;

/// A bonus that somebody in the line has on a limit.
#[derive(Clone, Debug)]
pub struct Gift {
    pub owner: String,
    pub id: String,
    pub amount: u64,
    pub until_ms: u64,
    pub priority: u64,
    pub recurs: Option<Recurs>,
}

/// What was spent of a bonus.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gone {
    spent: u64,
    /// Until when that is remembered, of one that comes once.
    until_ms: u64,
    /// Of one that recurs: when, and what had been carried into that period.
    at_ms: u64,
    carried: u64,
}

/// Hits that one gives to another.
#[derive(Clone, Debug)]
pub struct Giving {
    pub id: String,
    pub from: String,
    pub to: String,
    pub limit: String,
    pub hits: u64,
    pub bonus: String,
    /// When the bonus ends, as the giver sees it.
    pub until_ms: u64,
}

impl Gift {
    /// When what it has now ends.
    pub fn ends(&self, now: u64) -> u64 {
        self.recurs.map_or(NEVER_MS, |recurs| recurs.every.end(now)).min(self.until_ms)
    }

    /// When it comes anew, as far as a wait sees.
    pub fn renewals(&self, now: u64) -> Vec<u64> {
        let Some(Recurs { every, .. }) = self.recurs else { return Vec::new() };
        let next = |end: &u64| Some(every.end(*end));
        std::iter::successors(Some(every.end(now)), next).take(RENEWALS).collect()
    }
}

impl Case<'_, '_> {
    /// What is left at a time of the bonuses that hold then.
    pub fn given(&self, charge: &Charge<'_>, at: u64) -> u64 {
        let live = charge.gifts.iter().filter(|gift| at < gift.until_ms);
        live.map(|gift| self.left_of(charge, gift, at)).sum()
    }

    /// What is left of a bonus at a time, if nothing is spent until then.
    fn left_of(&self, charge: &Charge<'_>, gift: &Gift, at: u64) -> u64 {
        let gone = self.gone(charge, gift);
        let mut left = (gift.amount + gone.carried).saturating_sub(gone.spent);
        if let Some(recurs) = gift.recurs {
            for _ in gift.renewals(self.now).iter().filter(|renews| **renews <= at) {
                left = gift.amount + left.min(recurs.rollover);
            }
        }
        left
    }

    /// What has been spent of a bonus, of one that recurs in the present period.
    fn gone(&self, charge: &Charge<'_>, gift: &Gift) -> Gone {
        let known = self.model.gifts.get(&gift_key(charge, gift)).copied();
        let Some(Recurs { every, from_ms, rollover }) = gift.recurs else {
            return known.filter(|gone| self.now < gone.until_ms).unwrap_or_default();
        };
        let mut gone = known.unwrap_or(Gone { at_ms: from_ms, ..Gone::default() });
        if rollover == 0 && every.end(gone.at_ms) <= self.now {
            return Gone { at_ms: self.now, ..Gone::default() };
        }
        // One period after the other.
        while every.end(gone.at_ms) <= self.now {
            let left = (gift.amount + gone.carried).saturating_sub(gone.spent);
            let at_ms = every.end(gone.at_ms);
            gone = Gone { at_ms, carried: left.min(rollover), ..Gone::default() };
        }
        gone
    }

    /// Whoever prolongs a bonus does not give it anew.
    pub fn remember_gifts(&mut self, charge: &Charge<'_>) {
        for gift in charge.gifts.iter().filter(|gift| self.now < gift.until_ms) {
            let known = self.model.gifts.get_mut(&gift_key(charge, gift));
            if let Some(gone) = known.filter(|gone| self.now < gone.until_ms) {
                gone.until_ms = gift.until_ms.max(gone.until_ms);
            }
        }
    }

    /// Spends of the bonuses, the first to end first; what is left to be spent.
    pub fn spend_gifts(&mut self, charge: &Charge<'_>, hits: u64) -> u64 {
        let (mut rest, now) = (hits, self.now);
        for gift in charge.gifts.iter().filter(|gift| now < gift.until_ms) {
            let gone = self.gone(charge, gift);
            let part = rest.min((gift.amount + gone.carried).saturating_sub(gone.spent));
            rest -= part;
            self.note_gone(charge, gift, Gone { spent: gone.spent + part, ..gone });
        }
        rest
    }

    /// Gives back what was spent of the bonuses, the last to end first; what is left to be given back.
    pub fn return_gifts(&mut self, charge: &Charge<'_>, hits: u64) -> u64 {
        let (mut rest, now) = (hits, self.now);
        for gift in charge.gifts.iter().rev().filter(|gift| now < gift.until_ms) {
            let gone = self.gone(charge, gift);
            let part = rest.min(gone.spent);
            rest -= part;
            self.note_gone(charge, gift, Gone { spent: gone.spent - part, ..gone });
        }
        rest
    }

    fn note_gone(&mut self, charge: &Charge<'_>, gift: &Gift, gone: Gone) {
        let gone = match (gift.recurs, gone.spent) {
            (Some(_), _) => Gone { until_ms: 0, ..gone },
            // What is whole again is new.
            (None, 0) => Gone::default(),
            // What was forgotten starts anew.
            (None, _) => Gone { until_ms: gone.until_ms.max(gift.until_ms), ..gone },
        };
        self.model.gifts.insert(gift_key(charge, gift), gone);
    }
}

impl Model {
    /// Takes hits of a bonus that are given away, once; whether they were there, or were taken before.
    pub fn give(&mut self, (world, people): (&World, &People), giving: &Giving, now: u64) -> bool {
        let Some(caller) = &world.caller else { return false };
        let entries = vec![(caller.key.clone(), giving.from.clone())];
        let ask = Ask { parts: vec![AskPart { entries, hits: 0 }] };
        let parts = self.parts.clone();
        let who = Who::new((world, people), &ask, &parts);
        let mut plan = Plan::new((world, &ask), &who, (&mut self.schedules, now));
        let of_name = |charge: &Charge<'_>| charge.limit.name.as_ref() == Some(&giving.limit);
        let Some(index) = plan.charges.iter().position(of_name) else { return false };
        let mut charge = plan.charges.swap_remove(index);
        (charge.index, charge.grace, charge.acting) = (0, None, None);
        charge.form = charge.form.overdrawn(Overdraft::None);
        let (path, tag) = counter(&charge);
        let key = (path, tag, format!("caller {}", giving.from), format!("gift {}", giving.id));
        let is_made = self.marks.get(&key).is_some_and(|mark| now < mark.until_ms);
        let ledger = self.ledgers.remove(&counter(&charge)).unwrap_or_default();
        let charges = std::slice::from_ref(&charge);
        let mut case = Case::new(self, &who, charges, now);
        case.ledgers.push(ledger);
        case.ledgers[0].tidy(now);
        case.remember_gifts(&charge);
        let amount = charge.form_at(now).capacity();
        let unheld = amount.saturating_sub(case.used(&charge, now)) + case.given(&charge, now);
        let left = unheld.saturating_sub(case.held(&charge, now, true));
        let mut alone = charge.clone();
        alone.gifts.retain(|gift| gift.id == giving.bonus && gift.owner == giving.from);
        let is_there = giving.hits <= left.min(case.given(&alone, now));
        if is_there && !is_made {
            case.spend_gifts(&alone, giving.hits);
            let used = case.used(&charge, now);
            let crossed = case.report(&charge, used);
            assert!(crossed.is_empty(), "nothing is spent of the limit");
        }
        let ledger = case.ledgers.remove(0);
        self.ledgers.insert(counter(&charge), ledger);
        if is_made {
            return true;
        }
        if is_there {
            self.marks.insert(key, Mark::new(giving.hits, now + GIFT_LIFE_MS));
        }
        is_there
    }
}

fn gift_key(charge: &Charge<'_>, gift: &Gift) -> (String, String, String, String) {
    let (path, tag) = counter(charge);
    (path, tag, gift.owner.clone(), gift.id.clone())
}

/// Every way in which a bonus may recur.
pub const EVERY: [Every; 5] = [Every::Hour, Every::Day, Every::Week, Every::Month, Every::Year];
