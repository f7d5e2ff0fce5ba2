//! Hits on top of a limit, until a day: spent only when the limit has none left.

use std::sync::Arc;

use super::recurrence::Recurrence;
use crate::clock::Timestamp;

/// The priority of a bonus for which none is given.
pub const BONUS_PRIORITY_DEFAULT: u8 = 50;

/// The greatest priority, which is spent last.
pub const BONUS_PRIORITY_MAX: u8 = 100;

/// So many hits more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bonus {
    /// Tells it apart from other bonuses on the same counter.
    pub id: Arc<str>,
    /// How many hits it has in all, or in each period; at most [`super::AMOUNT_MAX`].
    pub amount: u64,
    /// When it ends: the first instant at which it doesn't count. [`Timestamp::MAX`] for never.
    pub until: Timestamp,
    /// Of those that end at the same time, the lowest is spent first; at most [`BONUS_PRIORITY_MAX`].
    pub priority: u8,
    /// None if its hits come once.
    pub recurs: Option<Arc<Recurrence>>,
}

impl Bonus {
    /// A bonus that comes once.
    pub fn new(id: impl Into<Arc<str>>, amount: u64, until: Timestamp) -> Self {
        Self { id: id.into(), amount, until, priority: BONUS_PRIORITY_DEFAULT, recurs: None }
    }

    /// Whether it has begun.
    pub fn has_begun(&self, now: Timestamp) -> bool {
        self.recurs.as_ref().is_none_or(|recurs| recurs.from() <= now)
    }

    /// When its hits end that count now: with the present period, if it recurs.
    pub fn expires(&self, now: Timestamp) -> Timestamp {
        let end_ms = self.recurs.as_ref().map(|recurs| recurs.period(now).end_ms);
        end_ms.map_or(self.until, |end_ms| Timestamp::from_ms(end_ms).min(self.until))
    }

    /// Sorts bonuses in the order in which they are spent: the soonest to end first, then by priority.
    pub fn sort(bonuses: &mut [Self], now: Timestamp) {
        if bonuses.len() < 2 {
            return;
        }
        bonuses.sort_by_cached_key(|bonus| (bonus.expires(now), bonus.priority, bonus.id.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::CalendarUnit;
    use super::*;

    /// 2026-11-27T00:00:00Z, a Friday.
    const AT: Timestamp = Timestamp::from_ms(1_795_737_600_000);
    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn a_bonus_that_recurs_begins_at_its_time() {
        let from = |ms| {
            let recurs = Recurrence::new(CalendarUnit::Month, Timestamp::from_ms(ms), 0);
            Bonus { recurs: Some(Arc::new(recurs)), ..Bonus::new("b", 1, Timestamp::MAX) }
        };
        assert!(from(AT.as_ms()).has_begun(AT));
        assert!(!from(AT.as_ms() + 1).has_begun(AT));
        assert!(Bonus::new("b", 1, AT).has_begun(AT));
    }

    #[test]
    fn bonuses_are_sorted_by_their_end_and_then_by_priority() {
        let ends = |id: &str, days: u64, priority| {
            let until = Timestamp::from_ms(AT.as_ms() + days * DAY_MS);
            Bonus { priority, ..Bonus::new(id, 1, until) }
        };
        let monthly = Recurrence::new(CalendarUnit::Month, AT, 0);
        let never = Bonus::new("never", 1, Timestamp::MAX);
        let monthly = Bonus { recurs: Some(Arc::new(monthly)), ..never.clone() };
        let monthly = Bonus { id: "monthly".into(), ..monthly };
        let mut bonuses = [
            never,
            ends("b", 5, 50),
            ends("a", 5, 50),
            ends("late", 5, 51),
            ends("early", 5, 0),
            ends("soon", 1, 100),
            monthly,
        ];
        Bonus::sort(&mut bonuses, AT);
        let ids: Vec<&str> = bonuses.iter().map(|bonus| &*bonus.id).collect();
        // The month ends in four days.
        assert_eq!(ids, ["soon", "monthly", "early", "a", "b", "late", "never"]);
    }
}
