//! Bonuses that recur: their hits come anew in each calendar period, with what is left of the period before up to a maximum.
//!
//! The period in which something was spent last is kept, with what was carried into it and what is spent of it. What became
//! of the periods since follows from that. `redis/special.lua` mirrors this.

use jiff::tz::TimeZone;
use smallvec::SmallVec;

use super::{Calendar, CalendarUnit};
use crate::clock::Timestamp;

/// What tells the numbers of months from those of days: a number is a multiple of it, and one of each unit.
const UNITS: u64 = 8;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// How many periods ahead a wait looks.
const RENEWALS_MAX: u64 = 8;

/// How a bonus recurs: in the calendar of UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recurrence {
    calendar: Calendar,
    from: Timestamp,
    rollover_max: u64,
}

/// A period of a recurring bonus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BonusPeriod {
    /// Greater than that of the period before by the same step each time; of another unit, it never is the same.
    pub number: u64,
    /// In milliseconds since the Unix epoch.
    pub start_ms: u64,
    /// The first millisecond after it.
    pub end_ms: u64,
}

/// What is kept of a recurring bonus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BonusUse {
    /// The number of the period.
    pub period: u64,
    /// Hits that were left of the period before, and count in this one.
    pub carried: u64,
    /// Hits that are spent of both.
    pub spent: u64,
    /// Hits that were left of the period before, and are gone.
    pub expired: u64,
}

impl Recurrence {
    /// Anew in each period of `unit`, from the one on that holds `from`; at most `rollover_max` hits are carried into
    /// the next period.
    pub fn new(unit: CalendarUnit, from: Timestamp, rollover_max: u64) -> Self {
        Self { calendar: Calendar::new(unit, TimeZone::UTC), from, rollover_max }
    }

    /// How often.
    pub fn every(&self) -> CalendarUnit {
        self.calendar.unit()
    }

    /// When it begins.
    pub fn from(&self) -> Timestamp {
        self.from
    }

    /// The most hits that are carried from a period to the next one.
    pub fn rollover_max(&self) -> u64 {
        self.rollover_max
    }

    /// The number of the first period.
    pub fn first(&self) -> u64 {
        self.number(self.from)
    }

    /// The period that holds `now`.
    pub fn period(&self, now: Timestamp) -> BonusPeriod {
        BonusPeriod {
            number: self.number(now),
            start_ms: self.calendar.start_of(now).as_ms(),
            end_ms: self.calendar.end_after(now).as_ms(),
        }
    }

    /// When the next periods begin, in milliseconds since the Unix epoch: those with which more of a bonus of `amount` may be
    /// left, but not more than a few.
    pub fn renewals(&self, amount: u64, period: BonusPeriod) -> SmallVec<[u64; 1]> {
        let saturated = 1 + self.rollover_max.div_ceil(amount.max(1));
        let mut renewals: SmallVec<[u64; 1]> = SmallVec::from_elem(period.end_ms, 1);
        for _ in 1..saturated.min(RENEWALS_MAX) {
            let last = Timestamp::from_ms(renewals[renewals.len() - 1]);
            renewals.push(self.calendar.end_after(last).as_ms());
        }
        renewals
    }

    /// What is kept of a bonus of `amount`, brought to the period of that number. Nothing was kept, unless `known` was, of the
    /// same unit.
    pub fn renewed(&self, amount: u64, known: Option<BonusUse>, number: u64) -> BonusUse {
        let of_unit = |known: &BonusUse| known.period % UNITS == number % UNITS;
        let first = BonusUse { period: self.first(), ..BonusUse::default() };
        let known = known.filter(of_unit).unwrap_or(first);
        let periods = number.saturating_sub(known.period) / UNITS;
        if periods == 0 {
            return known;
        }
        let rollover = |left: u64| left.min(self.rollover_max);
        let left = (amount + known.carried).saturating_sub(known.spent);
        let (mut carried, mut expired) = (rollover(left), left - rollover(left));
        if let Some(more) = periods.checked_sub(2) {
            let left = amount + rollover(carried.saturating_add(more.saturating_mul(amount)));
            (carried, expired) = (rollover(left), left - rollover(left));
        }
        BonusUse { period: number, carried, spent: 0, expired }
    }

    /// When what is kept of a bonus of `amount` says no more than nothing would: as much is carried as can be by then.
    pub fn forgotten_ms(&self, amount: u64, period: BonusPeriod) -> u64 {
        if self.rollover_max == 0 {
            return period.end_ms;
        }
        let periods = self.rollover_max.div_ceil(amount.max(1)) + 1;
        let later_ms = periods.saturating_mul(self.period_ms_max());
        Timestamp::from_ms(period.end_ms.saturating_add(later_ms)).as_ms()
    }

    fn number(&self, at: Timestamp) -> u64 {
        let unit = match self.calendar.unit() {
            CalendarUnit::Minute => 1,
            CalendarUnit::Hour => 2,
            CalendarUnit::Day => 3,
            CalendarUnit::Week => 4,
            CalendarUnit::Month => 5,
            CalendarUnit::Year => 6,
        };
        self.calendar.number_of(at) * UNITS + unit
    }

    fn period_ms_max(&self) -> u64 {
        match self.calendar.unit() {
            CalendarUnit::Minute => 60_000,
            CalendarUnit::Hour => HOUR_MS,
            CalendarUnit::Day => DAY_MS,
            CalendarUnit::Week => 7 * DAY_MS,
            CalendarUnit::Month => 31 * DAY_MS,
            CalendarUnit::Year => 366 * DAY_MS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-27T00:00:00Z, a Friday.
    const AT: Timestamp = Timestamp::from_ms(1_795_737_600_000);

    fn months(rollover_max: u64) -> Recurrence {
        Recurrence::new(CalendarUnit::Month, AT, rollover_max)
    }

    /// What is carried into the period after so many, and has expired by then, of 10 a month of which so much was spent in
    /// the first.
    fn check(rollover_max: u64, spent: u64, periods: u64, expected: (u64, u64)) {
        let recurs = months(rollover_max);
        let known = BonusUse { spent, ..recurs.renewed(10, None, recurs.first()) };
        let renewed = recurs.renewed(10, Some(known), recurs.first() + periods * UNITS);
        assert_eq!((renewed.carried, renewed.expired), expected);
        // One period after the other comes to the same.
        let mut stepped = known;
        for period in 1..=periods {
            stepped = recurs.renewed(10, Some(stepped), recurs.first() + period * UNITS);
        }
        assert_eq!(stepped, renewed, "{rollover_max} {spent} {periods}");
    }

    #[test]
    fn what_is_left_is_carried_up_to_the_maximum() {
        check(0, 3, 1, (0, 7));
        check(5, 3, 1, (5, 2));
        check(5, 8, 1, (2, 0));
        check(25, 0, 1, (10, 0));
        check(25, 0, 2, (20, 0));
        check(25, 0, 3, (25, 5));
        check(25, 0, 40, (25, 10));
        check(25, 10, 2, (10, 0));
        check(25, 12, 2, (10, 0));
    }

    #[test]
    fn nothing_kept_is_nothing_spent_since_the_beginning() {
        let recurs = months(25);
        for periods in 0..5 {
            let number = recurs.first() + periods * UNITS;
            assert_eq!(recurs.renewed(10, None, number).carried, (periods * 10).min(25));
        }
    }

    #[test]
    fn what_is_forgotten_said_no_more_than_nothing() {
        for rollover_max in [0, 1, 9, 10, 11, 25, 100] {
            let recurs = months(rollover_max);
            let period = recurs.period(AT);
            let forgotten = Timestamp::from_ms(recurs.forgotten_ms(10, period));
            let number = recurs.period(forgotten).number;
            let spent = BonusUse { period: period.number, spent: 10, ..BonusUse::default() };
            let kept = recurs.renewed(10, Some(spent), number);
            let nothing = recurs.renewed(10, None, number);
            assert_eq!((kept.carried, kept.spent), (nothing.carried, nothing.spent));
        }
    }

    #[test]
    fn periods_of_a_unit_are_numbered_one_by_one() {
        for unit in [
            CalendarUnit::Hour,
            CalendarUnit::Day,
            CalendarUnit::Week,
            CalendarUnit::Month,
            CalendarUnit::Year,
        ] {
            let recurs = Recurrence::new(unit, AT, 0);
            let mut period = recurs.period(AT);
            for _ in 0..60 {
                let next = recurs.period(Timestamp::from_ms(period.end_ms));
                assert_eq!(next.number, period.number + UNITS, "{unit}");
                assert_eq!(next.start_ms, period.end_ms);
                assert_eq!(recurs.period(Timestamp::from_ms(period.end_ms - 1)), period);
                period = next;
            }
        }
    }

    #[test]
    fn a_changed_unit_begins_anew() {
        let days = Recurrence::new(CalendarUnit::Day, AT, 5);
        let months = months(5);
        let kept = BonusUse { spent: 10, ..months.renewed(10, None, months.first()) };
        assert_eq!(
            days.renewed(10, Some(kept), days.first()),
            BonusUse { period: days.first(), ..BonusUse::default() }
        );
    }
}
