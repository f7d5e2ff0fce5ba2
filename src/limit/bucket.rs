//! The token bucket: up to `burst` at once, refilled steadily at amount per window.
//!
//! The state is a debt: the hits that have been taken and not yet refilled, in units of one hit divided by the window's
//! milliseconds. A hit adds `window_ms` units, and a millisecond removes `amount` units, so every step is exact integer
//! arithmetic.

use super::arithmetic::Arithmetic;
use super::{AMOUNT_MAX, FAR_MS, Refund};

/// The shape of a token bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    amount: u64,
    window_ms: u64,
    burst: u64,
}

/// Maximum debt of a burst: Lua numbers and their sums are exact up to 2^53.
pub const DEBT_MAX: u64 = 1 << 52;

/// Maximum debt, which only overdraft reaches.
pub const OWED_MAX: u64 = 2 * DEBT_MAX;

impl Bucket {
    /// A bucket of `burst` hits that refills `amount` hits in `window_ms` (at least 1). None if its arithmetic would
    /// not be exact, because burst times window exceeds `DEBT_MAX`, and if the burst would never refill.
    pub fn new(amount: u64, window_ms: u64, burst: u64) -> Option<Self> {
        let debt_max = burst.checked_mul(window_ms)?;
        let exact = debt_max <= DEBT_MAX && amount.max(burst) <= AMOUNT_MAX;
        let refills = 0 < amount || burst == 0;
        (exact && refills && 0 < window_ms).then_some(Self { amount, window_ms, burst })
    }

    /// A bucket that refills `amount` in the same window, with its burst in the same proportion, or as close to it as
    /// exact arithmetic permits.
    pub fn with_amount(&self, amount: u64) -> Self {
        let scaled = |whole: u64| {
            let scaled = u128::from(whole) * u128::from(amount) / u128::from(self.amount.max(1));
            u64::try_from(scaled).unwrap_or(u64::MAX)
        };
        let burst = scaled(self.burst).clamp(amount.min(1), DEBT_MAX / self.window_ms);
        Self { amount, window_ms: self.window_ms, burst: if amount == 0 { 0 } else { burst } }
    }

    /// A bucket with the same rate and the largest burst; None if it doesn't refill.
    pub fn of_most(&self) -> Option<Self> {
        let burst = (DEBT_MAX / self.window_ms).min(AMOUNT_MAX);
        Self::new(self.amount, self.window_ms, burst.max(self.burst))
    }

    /// The hits that refill in a window.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// The time in which the amount refills, in milliseconds.
    pub fn window_ms(&self) -> u64 {
        self.window_ms
    }

    /// The hits that pass at once when the bucket is full.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// The units of these hits, limited to the maximum debt.
    pub fn units(&self, hits: u64) -> u64 {
        hits.saturating_mul(self.window_ms).min(OWED_MAX)
    }

    /// The units that a millisecond removes. A bucket with the amount 0 pays an old debt as slowly as one with the
    /// amount 1.
    pub fn paid_per_ms(&self) -> u64 {
        self.amount.max(1)
    }

    /// A full bucket at `now_ms`.
    pub fn unspent(&self, now_ms: u64) -> Debt {
        Debt { at_ms: now_ms, units: 0 }
    }

    /// Pays a debt up to a time, and stores the rest.
    pub fn pay_until(&self, debt: &mut Debt, now_ms: u64) {
        self.rewrite(debt, now_ms, |owed| owed);
    }

    /// The units that are left of a debt at `now_ms`.
    fn owed(&self, debt: &Debt, now_ms: u64) -> u64 {
        let elapsed_ms = now_ms.saturating_sub(debt.at_ms);
        debt.units.saturating_sub(elapsed_ms.saturating_mul(self.paid_per_ms()))
    }

    /// Pays up to `now_ms`, and then replaces the debt by the result of `change`.
    fn rewrite(&self, debt: &mut Debt, now_ms: u64, change: impl FnOnce(u64) -> u64) {
        let units = change(self.owed(debt, now_ms));
        *debt = Debt { at_ms: now_ms.max(debt.at_ms), units };
    }
}

/// The debt of a bucket. It stays as written until it is changed: its current value follows from the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debt {
    pub(super) at_ms: u64,
    /// In hits times milliseconds of the window.
    pub(super) units: u64,
}

impl Debt {
    /// The time at which it was written, in milliseconds since the Unix epoch.
    pub fn at_ms(&self) -> u64 {
        self.at_ms
    }
}

impl Arithmetic for Bucket {
    type State = Debt;

    fn settle(&self, debt: &mut Debt, now_ms: u64) {
        if self.owed(debt, now_ms) == 0 {
            debt.units = 0;
        }
    }

    fn is_unspent(&self, debt: &Debt) -> bool {
        debt.units == 0
    }

    fn used(&self, debt: &Debt, now_ms: u64) -> u64 {
        self.owed(debt, now_ms).div_ceil(self.window_ms)
    }

    fn falls_to_ms(&self, debt: &Debt, used_max: u64, now_ms: u64) -> Option<u64> {
        let excess = self.owed(debt, now_ms).saturating_sub(self.units(used_max));
        let at_ms = now_ms.max(debt.at_ms) + excess.div_ceil(self.paid_per_ms());
        Some(at_ms.min(FAR_MS))
    }

    fn whole_at_ms(&self, debt: &Debt) -> Option<u64> {
        self.falls_to_ms(debt, 0, debt.at_ms)
    }

    fn spend(&self, debt: &mut Debt, hits: u64, now_ms: u64) {
        self.rewrite(debt, now_ms, |owed| (owed + self.units(hits)).min(OWED_MAX));
    }

    fn give_back(&self, debt: &mut Debt, hits: u64, now_ms: u64) {
        self.rewrite(debt, now_ms, |owed| owed.saturating_sub(self.units(hits)));
    }

    /// The part that was refilled since they were spent is not given back: other requests may have it.
    fn take_back(&self, debt: &mut Debt, refund: Refund, now_ms: u64) {
        let left_ms = refund.until.as_ms().saturating_sub(now_ms);
        let units = self.units(refund.hits).min(left_ms.saturating_mul(self.paid_per_ms()));
        self.rewrite(debt, now_ms, |owed| owed.saturating_sub(units));
    }
}
