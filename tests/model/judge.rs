//! The plain model: decides requests from lists of what was spent, by trying every instant there is.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::bonuses::{Gift, Gone};
use super::holdings::{Action, Held};
use super::ledger::{Ledger, Periods};
use super::people::People;
use super::plan::{Charge, Plan};
use super::reported;
use super::reported::Reported;
use super::retries::{Made, Mark, RetryKey};
use super::schedule::Schedules;
use super::who::{Parts, Who, part_of};
use super::world::{Ask, Capacity, Level, Mode, Only, Overdraft, WHOLE, World};

/// How far below its beginning a level of pressure ends, if nothing says it.
const HYSTERESIS: u64 = 500;

/// Whether hits pass, and if not, when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Now,
    AfterMs(u64),
    Never,
}

/// How one limit decided.
#[derive(Clone, Debug)]
pub struct Decision {
    pub fit: Fit,
    pub remaining: u64,
    pub reset_ms: Option<u64>,
    /// Why it would refuse.
    pub reason: &'static str,
    /// An earlier attempt was charged.
    pub is_retry: bool,
    /// What the request gets, of what may be taken in part.
    pub granted: u64,
    /// Hits that reservations hold, and those that were spent by settling one.
    pub held: u64,
    pub settled: u64,
    /// Thresholds that it crosses, in percent.
    pub crossed: Vec<u64>,
    /// Until when a grace lets more pass, if more is in use.
    pub grace_until: Option<u64>,
}

/// All that is remembered.
#[derive(Clone)]
pub struct Model {
    /// By path and tag.
    pub ledgers: HashMap<(String, String), Ledger>,
    /// What was spent of bonuses, by path, tag, owner and id.
    pub gifts: HashMap<(String, String, String, String), Gone>,
    /// When bonuses come anew that the last request saw.
    renewals: Vec<u64>,
    /// What reservations hold, by path and tag.
    pub held: HashMap<(String, String), Vec<Held>>,
    /// Charges that requests with an idempotency key have made, by path, tag, caller and key.
    pub marks: HashMap<(String, String, String, String), Mark>,
    /// Levels of pressure, by path.
    levels: HashMap<String, usize>,
    pub periods: Periods,
    pub schedules: Schedules,
    pub parts: Arc<Parts>,
}

/// A path whose rule knows pressure, with the level at which it stands.
struct Gauge<'w> {
    path: String,
    capacity: &'w Capacity,
    level: usize,
}

/// One request on its way.
pub struct Case<'c, 'w> {
    pub model: &'c mut Model,
    who: &'c Who<'w>,
    pub charges: &'c [Charge<'w>],
    /// One for each charge.
    pub ledgers: Vec<Ledger>,
    gauges: Vec<Gauge<'w>>,
    pub retry_key: Option<RetryKey>,
    pub now: u64,
}

impl Model {
    pub fn new(zone: &str, parts: Arc<Parts>) -> Self {
        Self {
            ledgers: HashMap::new(),
            gifts: HashMap::new(),
            renewals: Vec::new(),
            held: HashMap::new(),
            marks: HashMap::new(),
            levels: HashMap::new(),
            periods: Periods::new(zone),
            schedules: Schedules::new(zone),
            parts,
        }
    }

    /// When anything is to change by itself, as far as that is known.
    pub fn moments(&self, now: u64) -> Vec<u64> {
        let ledgers = self.ledgers.values().flat_map(Ledger::moments);
        let marks = self.marks.values().map(|mark| mark.until_ms);
        let lapses = self.held.values().flatten().map(Held::until_ms);
        let all = ledgers.chain(marks).chain(self.schedules.moments(now)).chain(lapses);
        let all = all.chain(self.renewals.iter().copied());
        let mut all: Vec<u64> = all.filter(|at| now < *at).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// On how many counters' records a request is charged.
    pub fn records(&mut self, (world, people): (&World, &People), ask: &Ask, now: u64) -> usize {
        let parts = self.parts.clone();
        let who = Who::new((world, people), ask, &parts);
        let plan = Plan::new((world, ask), &who, (&mut self.schedules, now));
        plan.charges.iter().map(|charge| &charge.path).collect::<BTreeSet<_>>().len()
    }

    /// The answer to a request.
    pub fn answer(&mut self, (world, people): (&World, &People), ask: &Ask, now: u64) -> Reported {
        let parts = self.parts.clone();
        let who = Who::new((world, people), ask, &parts);
        let plan = Plan::new((world, ask), &who, (&mut self.schedules, now));
        if let Some(denial) = plan.denial() {
            return reported::denied(world, &who, &plan, denial);
        }
        let charges = &plan.charges;
        let take = |charge| self.ledgers.remove(&counter(charge)).unwrap_or_default();
        let ledgers = charges.iter().map(take).collect();
        let renewals = |gift: &Gift| gift.renewals(now).into_iter().next();
        self.renewals = charges.iter().flat_map(|one| &one.gifts).filter_map(renewals).collect();
        let mut case = Case::new(self, &who, charges, now);
        (case.ledgers, case.retry_key) = (ledgers, RetryKey::of(world, ask));
        let (admitted, decisions) = case.decide();
        let level = case.gauges.iter().map(|gauge| gauge.level).max().unwrap_or(0);
        let kept = charges.iter().map(counter).zip(case.ledgers);
        self.ledgers.extend(kept);
        reported::decided(world, &who, &plan, (admitted, &decisions, level, now))
    }
}

impl<'c, 'w> Case<'c, 'w> {
    /// A request of which nothing is known yet.
    pub fn new(
        model: &'c mut Model,
        who: &'c Who<'w>,
        charges: &'c [Charge<'w>],
        now: u64,
    ) -> Self {
        let (ledgers, gauges, retry_key) = (Vec::new(), Vec::new(), None);
        Self { model, who, charges, ledgers, gauges, retry_key, now }
    }

    fn decide(&mut self) -> (bool, Vec<Decision>) {
        self.ledgers.iter_mut().for_each(|ledger| ledger.tidy(self.now));
        self.read_gauges();
        let mut decisions: Vec<Decision> = Vec::new();
        for charge in self.charges {
            self.remember_gifts(charge);
            let (fit, reason, is_retry) = match self.made(charge) {
                Made::No => (self.fit(charge), self.reason(charge), false),
                Made::Before(_) => (Fit::Now, self.reason(charge), true),
                Made::Otherwise(reason) => (Fit::Never, reason, false),
            };
            decisions.push(Decision { is_retry, ..Decision::new(fit, reason) });
        }
        // The limits of one rule in one mode stand or fall together.
        let group = |charge: &Charge<'_>| (charge.path.clone(), charge.mode);
        let all_of = |one: &Charge<'_>, fine: &dyn Fn(&Charge<'_>, &Decision) -> bool| {
            let all = self.charges.iter().zip(&decisions);
            all.filter(|(other, _)| group(other) == group(one))
                .all(|(other, made)| fine(other, made))
        };
        let fits = |one: &Charge<'_>| all_of(one, &|_, made| made.fit == Fit::Now);
        let of_mode = |mode| self.charges.iter().filter(move |charge| charge.mode == mode);
        let enforced = of_mode(Mode::Enforce).all(fits);
        let quotas = of_mode(Mode::Quota).count() == 0 || of_mode(Mode::Quota).any(fits);
        let admitted = enforced && quotas;
        // What has been used is spent although other limits refuse the request.
        let counts = |one: &Charge<'_>, made: &Decision| {
            made.fit == Fit::Now || one.is_used() && 0 < one.hits
        };
        let spending = self.charges.iter().zip(&decisions).map(|(one, made)| {
            let is_new = matches!(self.made(one), Made::No);
            admitted && fits(one)
                || made.fit == Fit::Now && is_new && one.is_used() && all_of(one, &counts)
        });
        let spending: Vec<bool> = spending.collect();
        let grant = if admitted { self.grant() } else { 0 };
        for ((charge, spends), decision) in self.charges.iter().zip(spending).zip(&mut decisions) {
            if spends {
                self.spend_once(charge, decision, grant);
            }
        }
        for (charge, decision) in self.charges.iter().zip(&mut decisions) {
            decision.remaining = self.left(charge, self.now);
            decision.held = self.held(charge, self.now, true);
            decision.grace_until = self.grace_until(charge);
            let ledger = &self.ledgers[charge.index];
            decision.reset_ms = ledger.reset(&charge.form, &mut self.model.periods, self.now);
        }
        (admitted, decisions)
    }

    /// Finds how high pressure is on each path of the request whose rule knows some.
    fn read_gauges(&mut self) {
        for charge in self.charges {
            let Some(capacity) = &charge.rule.capacity else { continue };
            let is_known = self.gauges.iter().any(|gauge| gauge.path == charge.path);
            if is_known || capacity.pressure.is_empty() {
                continue;
            }
            let known = self.model.levels.get(&charge.path).copied().unwrap_or(0);
            let mut gauge = Gauge { path: charge.path.clone(), capacity, level: known };
            gauge.level = self.level_at(&gauge, self.now);
            self.model.levels.insert(gauge.path.clone(), gauge.level);
            self.gauges.push(gauge);
        }
    }

    /// The level at which a gauge stands at a time, if nobody spends until then: the highest that any
    /// limit's use is above. One that held before holds until the use is down at its end.
    fn level_at(&self, gauge: &Gauge<'_>, at: u64) -> usize {
        let levels =
            gauge.capacity.pressure.iter().enumerate().map(|(index, level)| (index + 1, level));
        let holds = |(number, level): &(usize, &Level)| {
            let until = level.until.unwrap_or(level.above.saturating_sub(HYSTERESIS));
            let point = if *number <= gauge.level { until } else { level.above };
            let mut own = self.charges.iter().filter(|charge| charge.path == gauge.path);
            own.any(|charge| {
                part_of(point, charge.form_at(at).capacity()) < self.used_or_held(charge, at)
            })
        };
        levels.filter(holds).map(|(number, _)| number).max().unwrap_or(0)
    }

    pub fn used(&self, charge: &Charge<'_>, at: u64) -> u64 {
        self.ledgers[charge.index].used(&charge.form, at)
    }

    fn used_or_held(&self, charge: &Charge<'_>, at: u64) -> u64 {
        self.used(charge, at) + self.held(charge, at, true)
    }

    /// How much of a limit is open to the caller's tier at a time: all but what is reserved for those above.
    fn unreserved(&self, charge: &Charge<'_>, at: u64) -> u64 {
        let tiers = self.who.tiers_above();
        let reserved = charge
            .rule
            .capacity
            .iter()
            .flat_map(|capacity| tiers.iter().filter_map(|tier| capacity.reserve.get(tier)));
        part_of(WHOLE - reserved.sum::<u64>(), charge.form_at(at).capacity())
    }

    /// The same at a time, with what pressure leaves of it then.
    pub fn open(&self, charge: &Charge<'_>, at: u64) -> u64 {
        let unreserved = self.unreserved(charge, at);
        let mut open = unreserved;
        for gauge in &self.gauges {
            // A request is decided, and told of, by the level that it finds.
            let level = if at == self.now { gauge.level } else { self.level_at(gauge, at) };
            let mut only: Option<&Only> = None;
            for (index, level) in gauge.capacity.pressure.iter().take(level).enumerate() {
                // What a level says, holds above it until another says something else; but nobody whom
                // a level keeps out gets in again further up.
                only = level.only.as_ref().or(only);
                if charge.path == gauge.path {
                    let is_out = only.is_some_and(|only| !self.who.is_among(only, index + 1));
                    open = if is_out { 0 } else { open };
                } else if charge.of_caller {
                    let tier = self.who.tier_name().and_then(|tier| level.scale.get(tier));
                    open = open.min(part_of(*tier.unwrap_or(&WHOLE), unreserved));
                }
            }
        }
        open
    }

    fn unheld(&self, charge: &Charge<'_>, at: u64) -> u64 {
        self.open(charge, at).saturating_sub(self.used(charge, at)) + self.given(charge, at)
    }

    pub fn left(&self, charge: &Charge<'_>, at: u64) -> u64 {
        self.unheld(charge, at).saturating_sub(self.held(charge, at, false))
    }

    pub fn left_with_grace(&self, charge: &Charge<'_>, at: u64) -> u64 {
        let left = self.unheld(charge, at) + self.grace_left(charge, at);
        left.saturating_sub(self.held(charge, at, false))
    }

    fn fits_at(&self, charge: &Charge<'_>, at: u64) -> bool {
        let holds = charge.acting.as_ref().is_some_and(|one| one.action == Action::Hold);
        let need = match (u64::try_from(charge.hits), charge.form.overdraft) {
            (Err(_), _) => 0,
            _ if !charge.asks => 0,
            (Ok(0), _) => 0,
            (Ok(hits), _) if holds => hits,
            (Ok(_), _) if charge.partial => 1,
            (Ok(hits), Overdraft::None) => hits,
            // Something must be left, whatever is asked for.
            (Ok(_), Overdraft::Allow | Overdraft::Clip) => 1,
        };
        need <= self.left_with_grace(charge, at)
    }

    /// When a charge fits: now, or at the first instant of all at which anything changes.
    fn fit(&self, charge: &Charge<'_>) -> Fit {
        if self.fits_by_reservation(charge) || self.fits_at(charge, self.now) {
            return Fit::Now;
        }
        let all = self.charges.iter();
        let changes = |one: &Charge<'_>| {
            let ledger = &self.ledgers[one.index];
            let again = ledger.grace.and_then(|(_, again)| again);
            let edges = one.forms.iter().map(|(from, _)| *from);
            let falls = ledger.falls(&one.form, self.now);
            let renewals = one.gifts.iter().flat_map(|gift| gift.renewals(self.now));
            let all = falls.into_iter().chain(again).chain(edges).chain(renewals);
            all.chain(self.lapses(one)).collect::<Vec<u64>>()
        };
        let mut instants: Vec<u64> = all.flat_map(changes).filter(|at| self.now < *at).collect();
        instants.sort_unstable();
        instants.dedup();
        match instants.into_iter().find(|at| self.fits_at(charge, *at)) {
            None => Fit::Never,
            Some(at) => {
                assert!(!self.fits_at(charge, at - 1), "the model has overlooked an instant");
                Fit::AfterMs(at - self.now)
            }
        }
    }

    fn reason(&self, charge: &Charge<'_>) -> &'static str {
        let capacity = charge.form.capacity();
        let unreserved = self.unreserved(charge, self.now);
        let has_gifts = charge.gifts.iter().any(|gift| self.now < gift.until_ms);
        if capacity == 0 && !has_gifts {
            "no_access"
        } else if self.open(charge, self.now) < unreserved {
            "pressure"
        } else if unreserved < capacity {
            "reserved"
        } else {
            "over_limit"
        }
    }
}

impl Decision {
    fn new(fit: Fit, reason: &'static str) -> Self {
        let (remaining, reset_ms, is_retry) = (0, None, false);
        let (granted, held, settled) = (0, 0, 0);
        let (crossed, grace_until) = (Vec::new(), None);
        Self {
            fit,
            remaining,
            reset_ms,
            reason,
            is_retry,
            granted,
            held,
            settled,
            crossed,
            grace_until,
        }
    }
}

pub fn counter(charge: &Charge<'_>) -> (String, String) {
    (charge.path.clone(), charge.tag.clone())
}
