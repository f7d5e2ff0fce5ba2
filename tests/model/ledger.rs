//! What has been spent of one limit under one key, as a plain list.
//!
//! Each line says how many hits count until when. Only a bucket has a list of its own: what was taken and
//! given back, and when, from which its debt is worked out from the beginning each time.

use std::collections::{BTreeMap, HashMap};

use jiff::tz::TimeZone;

use super::schedule::Span;
use super::who::part_of;
use super::world::{Algorithm, Change, Condition, Overdraft, WHOLE, Window};

/// How fast a bucket is refilled, from when on.
type Rates = Vec<(u64, u64)>;

/// A limit as it is for whoever asks.
#[derive(Clone, Debug)]
pub struct Form {
    pub algorithm: Algorithm,
    pub window: Window,
    pub overdraft: Overdraft,
    pub amount: u64,
    /// A bucket's.
    pub burst: u64,
    /// What becomes of it, and when.
    pub when: Vec<(Condition, Change)>,
    /// The largest amount that it has at any time.
    pub most: u64,
    /// The most that can be spent at once at any of its times; 0 if it has none.
    pub most_capacity: u64,
    /// How fast a bucket is refilled from when on.
    rates: Rates,
}

/// The list of one limit under one key.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Until when, and how many.
    lines: Vec<(u64, u64)>,
    /// Of a bucket: when, how many in units of a hit by a millisecond of the window, and how fast it was refilled until then.
    taken: Vec<(u64, i64, Rates)>,
    /// When a grace has begun, and when another one may, if time alone allows it.
    pub grace: Option<(u64, Option<u64>)>,
    /// When the last grace ends.
    pub grace_ends: u64,
    /// Thresholds that were reported, in percent: until when each stays so, and whether less was in use since.
    pub reported: BTreeMap<u64, (u64, bool)>,
}

/// Ends of calendar periods.
#[derive(Clone, Debug)]
pub struct Periods {
    zone: TimeZone,
    /// By unit: a period's end, and an instant from which on it is that.
    known: HashMap<&'static str, (u64, u64)>,
}

impl Form {
    /// A limit that is always the same.
    pub fn new((algorithm, window): (Algorithm, Window), amount: u64) -> Self {
        let overdraft = Overdraft::None;
        let (burst, most, rates) = (amount, amount, vec![(0, amount.max(1))]);
        let (when, most_capacity) = (Vec::new(), 0);
        Self { algorithm, window, overdraft, amount, burst, when, most, most_capacity, rates }
    }

    /// The most that can be spent at once.
    pub fn capacity(&self) -> u64 {
        if self.algorithm == Algorithm::Bucket { self.burst } else { self.amount }
    }

    /// Another amount of the same; a bucket's burst in the same proportion, at least one hit.
    pub fn with_amount(&self, amount: u64) -> Self {
        let burst = if amount == 0 { 0 } else { (self.burst * amount / self.amount.max(1)).max(1) };
        let rates = vec![(0, amount.max(1))];
        Self { amount, burst, most: amount, most_capacity: 0, rates, ..self.clone() }
    }

    /// The same with an overdraft.
    pub fn overdrawn(self, overdraft: Overdraft) -> Self {
        Self { overdraft, ..self }
    }

    /// The same for somebody who was given another amount: its times scale that, and name no other.
    pub fn given(&self, amount: u64) -> Self {
        let kept = |(condition, change): &(Condition, Change)| match change {
            Change::Scale(_) => (condition.clone(), *change),
            Change::Rate(_) => (condition.clone(), Change::Scale(WHOLE)),
        };
        let when = self.when.iter().map(kept).collect();
        Self { when, ..self.with_amount(amount) }
    }

    /// A part of it, whatever it is.
    pub fn part(&self, share: u64) -> Self {
        let part = |(condition, change): &(Condition, Change)| match change {
            Change::Scale(_) => (condition.clone(), *change),
            Change::Rate(amount) => (condition.clone(), Change::Rate(part_of(share, *amount))),
        };
        let when = self.when.iter().map(part).collect();
        Self { when, ..self.with_amount(part_of(share, self.amount)) }
    }

    /// How it is in each of some spans, which know no more of each other than how fast a bucket is refilled.
    pub fn over(&self, spans: &[Span]) -> Vec<(u64, Self)> {
        let changed = |change: Change| match change {
            Change::Scale(parts) => part_of(parts, self.amount),
            Change::Rate(amount) => amount,
        };
        let all = self.when.iter().map(|(_, change)| changed(*change));
        let most = all.fold(self.amount, u64::max);
        let forms = spans.iter().map(|(from, holding)| {
            let amount = holding.map_or(self.amount, |index| changed(self.when[index].1));
            (*from, self.with_amount(amount))
        });
        let mut forms: Vec<(u64, Self)> = forms.collect();
        let rates: Vec<(u64, u64)> =
            forms.iter().map(|(from, form)| (*from, form.amount.max(1))).collect();
        let most_capacity = self.with_amount(most).capacity();
        for (_, form) in &mut forms {
            (form.most, form.most_capacity, form.rates) = (most, most_capacity, rates.clone());
        }
        forms
    }

    fn ms(&self) -> u64 {
        self.window.ms.unwrap()
    }

    /// What a bucket pays back in a millisecond: at least one unit, so that an old debt ends.
    fn paid(&self) -> u64 {
        self.amount.max(1)
    }

    /// How long at least a threshold stays reported, and after its end a grace ends another one may begin, where there is no window
    /// that ends.
    pub fn pause(&self) -> Option<u64> {
        match self.algorithm {
            Algorithm::Sliding | Algorithm::Bucket => self.window.ms,
            Algorithm::Fixed | Algorithm::Calendar | Algorithm::Total => None,
        }
    }

    /// The first instant at which a hit of `now` does not count any more.
    pub fn until(&self, periods: &mut Periods, now: u64) -> u64 {
        match self.algorithm {
            Algorithm::Total | Algorithm::Bucket => u64::MAX,
            Algorithm::Calendar => periods.end(self.window, now),
            Algorithm::Fixed => now - now % self.ms() + self.ms(),
            Algorithm::Sliding => {
                let slots = if self.ms() <= 1_000 { 20 } else { 60 };
                let slot = if self.most <= 61 { 1 } else { self.ms().div_ceil(slots) };
                // The last millisecond of the slot counts for a whole window.
                now - now % slot + slot - 1 + self.ms()
            }
        }
    }
}

impl Ledger {
    /// Forgets lines that don't count any more, and a grace after which another one may begin.
    pub fn tidy(&mut self, now: u64) {
        self.lines.retain(|(until, hits)| now < *until && 0 < *hits);
        self.grace = self.grace.filter(|(_, again)| again.is_none_or(|again| now < again));
    }

    /// When anything of it changes by itself.
    pub fn moments(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.lines.iter().map(|(until, _)| *until).collect();
        all.extend(self.grace.and_then(|(_, again)| again));
        all.extend(self.reported.values().map(|(until, _)| *until));
        all.push(self.grace_ends);
        all
    }

    /// Hits that count at a time from now on.
    pub fn used(&self, form: &Form, at: u64) -> u64 {
        if form.algorithm == Algorithm::Bucket {
            return self.debt(form, at).div_ceil(form.ms());
        }
        self.lines.iter().filter(|(until, _)| at < *until).map(|(_, hits)| hits).sum()
    }

    pub fn spend(&mut self, form: &Form, periods: &mut Periods, (hits, now): (u64, u64)) {
        if form.algorithm == Algorithm::Bucket {
            let units = i64::try_from(hits * form.ms()).unwrap();
            self.taken.push((now, units, form.rates.clone()));
            return;
        }
        // Slots may have been wider: a hit counts at least as long as those before it.
        let newest = self.lines.iter().map(|(until, _)| *until).max().unwrap_or(0);
        self.lines.push((form.until(periods, now).max(newest), hits));
    }

    /// Takes hits out, the oldest first.
    pub fn give_back(&mut self, form: &Form, (hits, now): (u64, u64)) {
        if form.algorithm == Algorithm::Bucket {
            let units = -i64::try_from(hits * form.ms()).unwrap();
            self.taken.push((now, units, form.rates.clone()));
            return;
        }
        let mut left = hits;
        for (_, count) in &mut self.lines {
            let back = left.min(*count);
            *count -= back;
            left -= back;
        }
        self.tidy(now);
    }

    /// Milliseconds until the limit is whole again; None if time alone does nothing.
    pub fn reset(&self, form: &Form, periods: &mut Periods, now: u64) -> Option<u64> {
        match form.algorithm {
            Algorithm::Total => None,
            Algorithm::Fixed | Algorithm::Calendar => Some(form.until(periods, now) - now),
            Algorithm::Sliding => {
                let last = self.lines.iter().map(|(until, _)| *until).max();
                Some(last.map_or(0, |last| last - now))
            }
            Algorithm::Bucket => Some(self.debt(form, now).div_ceil(form.paid())),
        }
    }

    /// Every instant at which the use falls.
    pub fn falls(&self, form: &Form, now: u64) -> Vec<u64> {
        match form.algorithm {
            Algorithm::Total => Vec::new(),
            Algorithm::Bucket => {
                let mut falls = Vec::new();
                let ends = form.rates.iter().skip(1).map(|(from, _)| *from).chain([u64::MAX]);
                for ((from, paid), end) in form.rates.iter().zip(ends).filter(|(_, end)| now < *end)
                {
                    let from = now.max(*from);
                    let debt = self.debt(form, from);
                    let left = (0..debt.div_ceil(form.ms())).map(|used| debt - used * form.ms());
                    let all = left.map(|debt| from + debt.div_ceil(*paid));
                    falls.extend(all.filter(|at| *at < end));
                }
                falls
            }
            _ => self.lines.iter().map(|(until, _)| *until).collect(),
        }
    }

    fn debt(&self, form: &Form, at: u64) -> u64 {
        let (mut debt, mut then) = (0_i64, 0);
        let last = (at, 0, form.rates.clone());
        for (at, units, rates) in self.taken.iter().chain([&last]) {
            debt = (debt - paid(rates, then, *at)).max(0);
            debt = (debt + units).max(0);
            then = *at;
        }
        u64::try_from(debt).unwrap()
    }
}

/// What is refilled from one time to another; the first rate has held ever before.
fn paid(rates: &[(u64, u64)], from: u64, to: u64) -> i64 {
    let ends = rates.iter().skip(1).map(|(from, _)| *from).chain([u64::MAX]);
    let mut begins = 0;
    let mut sum = 0;
    for ((_, paid), end) in rates.iter().zip(ends) {
        sum += to.min(end).saturating_sub(from.max(begins)) * paid;
        begins = end;
    }
    i64::try_from(sum).unwrap()
}

impl Periods {
    pub fn new(zone: &str) -> Self {
        Self { zone: TimeZone::get(zone).unwrap(), known: HashMap::new() }
    }

    /// The first instant of the next period.
    fn end(&mut self, window: Window, now: u64) -> u64 {
        if let Some((from, end)) = self.known.get(window.text)
            && (*from..*end).contains(&now)
        {
            return *end;
        }
        // What the calendar shows changes once between these two.
        let (mut within, mut after) = (now, now + 2 * window.ms.unwrap());
        while within + 1 < after {
            let middle = within.midpoint(after);
            if self.shown(window, middle) == self.shown(window, now) {
                within = middle;
            } else {
                after = middle;
            }
        }
        self.known.insert(window.text, (now, after));
        after
    }

    /// What a calendar and a clock show of the period at a time.
    fn shown(&self, window: Window, ms: u64) -> String {
        let at = jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap();
        let at = at.to_zoned(self.zone.clone());
        // An hour that a clock shows twice is two.
        let format = match window.text {
            "minute" => "%F %H:%M %z",
            "hour" => "%F %H %z",
            "day" => "%F",
            "week" => "%G-%V",
            "month" => "%Y-%m",
            _ => "%Y",
        };
        at.strftime(format).to_string()
    }
}
