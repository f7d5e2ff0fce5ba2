//! Recalculation: sets the count of a limit that never resets to a number that was counted elsewhere.
//!
//! The count moves by the difference between what was counted and what was in use when it was read, so requests that were decided
//! since then still count. The store makes at most one such correction of a reading: an attempt whose answer was lost is found by
//! the next one, and one that was made meanwhile for another number refuses this one.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Now, Timestamp};
use crate::limit::{Algorithm, Hits, Limit, Overdraft};
use crate::policy::{Mode, OnOutage, Refused};
use crate::store::{Batch, CORRECTION_LIFE_MS, Charge, Once, Open, Retry};

use super::deadline::DeadlineBudget;
use super::decider::Decider;
use super::preview::{Inspection, Preview};
use super::request::Request;
use super::snapshot::Snapshot;

/// How old a reading may be, in milliseconds: less than the time for which the store remembers corrections.
const READING_AGE_MS_MAX: u64 = CORRECTION_LIFE_MS / 2;

/// How often a preview is made until the store's clock has left the millisecond of a correction, so that whoever sees the answer
/// reads the count at a later time.
const LOOKS_MAX: usize = 3;

/// What was counted of a limit.
#[derive(Clone, Copy, Debug)]
pub struct Recount<'c> {
    /// The name of the limit; None for the only one of the request that never resets.
    pub limit: Option<&'c str>,
    /// The true number.
    pub counted: u64,
    /// What was in use when the counting began; None for now.
    pub reading: Option<Reading>,
}

/// How much of a limit was in use at a time by the store's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub used: u64,
    pub at: Timestamp,
}

/// Why a count was not corrected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecalculateError {
    #[error("no limit applies")]
    NoLimit,
    #[error("no limit of that kind never resets")]
    NoTotal,
    #[error("several limits never reset: {}", .0.join(", "))]
    Several(Vec<String>),
    #[error("the limit is counted with the caller `{0}`")]
    OfOther(String),
    #[error("the reading is too old")]
    Old,
    #[error("the count was corrected by another number since the reading")]
    Corrected,
    #[error("the store is unavailable")]
    Unavailable,
}

impl Decider {
    /// Corrects the count of one limit of a request, and says how the limits stand then.
    ///
    /// # Errors
    /// When there is no such limit, or the reading does not hold any more, or the store is unavailable.
    pub async fn recalculate<'v>(
        &self,
        snapshot: &'v Snapshot,
        request: &Request<'v>,
        (recount, now): (Recount<'_>, Now),
    ) -> Result<Preview<'v>, RecalculateError> {
        let budget = DeadlineBudget::patient();
        let inspection = self.inspect(snapshot, request, (now, &budget)).await;
        let inspection = inspection.ok_or(RecalculateError::NoLimit)?;
        let outcome = inspection.outcome.as_ref().filter(|outcome| !outcome.fallback);
        let at = outcome.ok_or(RecalculateError::Unavailable)?.at;
        let index = inspection.total(recount.limit)?;
        let reading = recount.reading.unwrap_or(Reading { used: inspection.spent(index), at });
        if READING_AGE_MS_MAX < at.as_ms().saturating_sub(reading.at.as_ms()) {
            return Err(RecalculateError::Old);
        }
        let batch = correction(&inspection.plan.batch, index, (recount.counted, reading));
        let outcome = self.charge(&batch, &budget, self.time(now, &budget)).await;
        let retry = outcome.decisions.first().and_then(|decision| decision.retry);
        match outcome.fallback {
            true => return Err(RecalculateError::Unavailable),
            false if retry == Some(Retry::Conflict) => return Err(RecalculateError::Corrected),
            false => {}
        }
        let mut preview = self.preview(snapshot, request, self.settings.clock.now()).await;
        for _ in 1..LOOKS_MAX {
            if outcome.at < preview.verdict.at {
                break;
            }
            // The clock is the store's, and reports nothing.
            tokio::time::sleep(Duration::from_millis(1)).await;
            preview = self.preview(snapshot, request, self.settings.clock.now()).await;
        }
        Ok(preview)
    }
}

impl Inspection<'_> {
    /// The charge on the limit of that name that never resets and is counted with the caller itself.
    fn total(&self, name: Option<&str>) -> Result<usize, RecalculateError> {
        let charges = self.plan.batch.charges.iter().zip(&self.plan.limits).enumerate();
        let totals = charges.filter(|(_, (charge, limit))| {
            let is_meant = name.is_none_or(|name| *limit.label == *name);
            is_meant && *charge.limit.algorithm() == Algorithm::Total
        });
        let totals: Vec<(usize, &str)> =
            totals.map(|(index, (_, limit))| (index, &*limit.label)).collect();
        let owner = |index: usize| self.accounts[index].map(|one| self.caller.account_name(one));
        let is_own =
            |index: usize| owner(index).is_none_or(|owner| Some(owner) == self.caller.name);
        let own: Vec<(usize, &str)> =
            totals.iter().copied().filter(|(index, _)| is_own(*index)).collect();
        match (own.as_slice(), totals.first()) {
            ([(index, _)], _) => Ok(*index),
            ([], _) if self.plan.limits.is_empty() => Err(RecalculateError::NoLimit),
            ([], None) => Err(RecalculateError::NoTotal),
            ([], Some((index, _))) => {
                let owner = owner(*index).unwrap_or_default();
                Err(RecalculateError::OfOther(owner.to_owned()))
            }
            (several, _) => {
                let names = several.iter().map(|(_, label)| (*label).to_owned());
                Err(RecalculateError::Several(names.collect()))
            }
        }
    }
}

/// The batch that corrects the count of a charge of another batch.
fn correction(batch: &Batch, index: usize, (counted, reading): (u64, Reading)) -> Batch {
    let charge = &batch.charges[index];
    // What was counted is there already, whether or not the limit has it.
    let (hits, overdraft) = match counted.checked_sub(reading.used) {
        Some(more) => (Hits::Spend(more), Overdraft::Owed),
        None => (Hits::GiveBack(reading.used - counted), Overdraft::None),
    };
    let mut correction = Batch::default();
    let key_index = correction.key_index(batch.keys[charge.key_index].clone());
    correction.charges.push(Charge {
        key_index,
        group: 0,
        mode: Mode::Enforce,
        limit: Arc::new(Limit::clone(&charge.limit).overdrawn(overdraft)),
        hits,
        open: Open::all(),
        refused: Refused::Free,
        on_outage: OnOutage::Error,
        once: Some(Once::Correction { read_at: reading.at }),
        part: 0,
        ..charge.clone()
    });
    correction
}
