//! What has been spent of one limit under one key, as a plain list.
//!
//! Each line says how many hits count until when. Only a bucket has a list of its own: what was taken and
//! given back, and when, from which its debt is worked out from the beginning each time.

use std::collections::HashMap;

use jiff::tz::TimeZone;

use super::world::{Algorithm, Overdraft, Window};

/// A limit as it is for whoever asks.
#[derive(Clone, Debug)]
pub struct Form {
    pub algorithm: Algorithm,
    pub window: Window,
    pub overdraft: Overdraft,
    pub amount: u64,
    /// A bucket's.
    pub burst: u64,
}

/// The list of one limit under one key.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Until when, and how many.
    lines: Vec<(u64, u64)>,
    /// Of a bucket: when, and how many in units of a hit by a millisecond of the window.
    taken: Vec<(u64, i64)>,
}

/// Ends of calendar periods.
#[derive(Debug)]
pub struct Periods {
    zone: TimeZone,
    /// By unit: a period's end, and an instant from which on it is that.
    known: HashMap<&'static str, (u64, u64)>,
}

impl Form {
    /// The most that can be spent at once.
    pub fn capacity(&self) -> u64 {
        if self.algorithm == Algorithm::Bucket { self.burst } else { self.amount }
    }

    /// Another amount of the same; a bucket's burst in the same proportion, at least one hit.
    pub fn with_amount(&self, amount: u64) -> Self {
        let burst = if amount == 0 { 0 } else { (self.burst * amount / self.amount.max(1)).max(1) };
        Self { amount, burst, ..self.clone() }
    }

    fn ms(&self) -> u64 {
        self.window.ms.unwrap()
    }

    /// What a bucket pays back in a millisecond: at least one unit, so that an old debt ends.
    fn paid(&self) -> u64 {
        self.amount.max(1)
    }

    /// The first instant at which a hit of `now` does not count any more.
    fn until(&self, periods: &mut Periods, now: u64) -> u64 {
        match self.algorithm {
            Algorithm::Total | Algorithm::Bucket => u64::MAX,
            Algorithm::Calendar => periods.end(self.window, now),
            Algorithm::Fixed => now - now % self.ms() + self.ms(),
            Algorithm::Sliding => {
                let slots = if self.ms() <= 1_000 { 20 } else { 60 };
                let slot = if self.amount <= 61 { 1 } else { self.ms().div_ceil(slots) };
                // The last millisecond of the slot counts for a whole window.
                now - now % slot + slot - 1 + self.ms()
            }
        }
    }
}

impl Ledger {
    /// Forgets lines that don't count any more.
    pub fn tidy(&mut self, now: u64) {
        self.lines.retain(|(until, hits)| now < *until && 0 < *hits);
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
            self.taken.push((now, i64::try_from(hits * form.ms()).unwrap()));
            return;
        }
        // Slots may have been wider: a hit counts at least as long as those before it.
        let newest = self.lines.iter().map(|(until, _)| *until).max().unwrap_or(0);
        self.lines.push((form.until(periods, now).max(newest), hits));
    }

    /// Takes hits out, the oldest first.
    pub fn give_back(&mut self, form: &Form, (hits, now): (u64, u64)) {
        if form.algorithm == Algorithm::Bucket {
            self.taken.push((now, -i64::try_from(hits * form.ms()).unwrap()));
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
                let debt = self.debt(form, now);
                let left = (0..debt.div_ceil(form.ms())).map(|used| debt - used * form.ms());
                left.map(|debt| now + debt.div_ceil(form.paid())).collect()
            }
            _ => self.lines.iter().map(|(until, _)| *until).collect(),
        }
    }

    fn debt(&self, form: &Form, now: u64) -> u64 {
        let (mut debt, mut then) = (0_i64, 0);
        for (at, units) in self.taken.iter().copied().chain([(now, 0)]) {
            let paid = i64::try_from((at - then) * form.paid()).unwrap();
            debt = ((debt - paid).max(0) + units).max(0);
            then = at;
        }
        u64::try_from(debt).unwrap()
    }
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
