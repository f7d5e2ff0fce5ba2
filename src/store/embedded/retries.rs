//! Which charges of a batch were made before, in the embedded store: by a sidecar's number, or under the idempotency key of
//! the request. `redis/retries.lua` mirrors this.

use super::decide::{Decider, Made};
use super::kept::KeptMark;
use crate::store::{Charge, IdempotencyMark, Once, Retry};

impl Decider<'_> {
    /// Whether a charge that is made once has been made.
    pub(super) fn made(&mut self, charge: &Charge) -> Made {
        let made = self.made_once(charge);
        if charge.reservation.is_some() { self.made_of_reservation(charge, made) } else { made }
    }

    fn made_once(&mut self, charge: &Charge) -> Made {
        let (tag, now_ms) = (charge.limit.tag(), self.now.as_ms());
        match charge.once {
            None => Made::No,
            Some(Once::Token(token)) => {
                let is_made = self.records[charge.key_index].has_seen(tag, token);
                if is_made { Made::Yes } else { Made::No }
            }
            Some(Once::Mark(_)) if charge.hits.amount() == 0 && !charge.settles() => Made::No,
            Some(once @ (Once::Mark(mark) | Once::Look(mark))) => match self.mark(charge, mark) {
                Some(known) if once == Once::Mark(mark) && known.differs(charge.hits) => {
                    Made::Retried(Retry::Conflict)
                }
                Some(known) if known.retries < mark.retries_max => {
                    let left_ms = known.until_ms.saturating_sub(now_ms);
                    let age_ms = u64::from(mark.life_ms).saturating_sub(left_ms);
                    let retry = Retry::Free { age_ms: u32::try_from(age_ms).unwrap_or(u32::MAX) };
                    if known.is_refused { Made::Refused(retry) } else { Made::Retried(retry) }
                }
                _ => Made::No,
            },
            Some(Once::Correction { read_at }) => {
                let known = self.records[charge.key_index].correction(tag);
                match known.filter(|known| read_at.as_ms() <= known.at_ms) {
                    Some(known) if known.differs(charge.hits) => Made::Retried(Retry::Conflict),
                    Some(known) => {
                        let age_ms = now_ms.saturating_sub(known.at_ms);
                        let age_ms = u32::try_from(age_ms).unwrap_or(u32::MAX);
                        Made::Retried(Retry::Free { age_ms })
                    }
                    None => Made::No,
                }
            }
            Some(Once::Undo(mark)) => {
                let known = self.mark(charge, mark);
                let is_last = known.is_some_and(|known| *known.attempts == [mark.attempt]);
                if is_last { Made::No } else { Made::Yes }
            }
        }
    }

    /// What is kept under the idempotency key of a charge.
    pub(super) fn mark(&mut self, charge: &Charge, mark: IdempotencyMark) -> Option<&mut KeptMark> {
        self.records[usize::from(mark.key_index)].mark(charge.limit.tag())
    }

    /// Removes the mark that a charge undoes, once its hits have come back.
    pub(super) fn remove_undone(&mut self, charge: &Charge) {
        if let Some(Once::Undo(mark)) = charge.once {
            self.records[usize::from(mark.key_index)].remove_mark(charge.limit.tag());
        }
    }

    /// Notes in its record that a charge is made now, or that it is retried.
    pub(super) fn note(&mut self, charge: &Charge, made: Made) {
        let (tag, now) = (charge.limit.tag(), self.now);
        match (charge.once, made) {
            (Some(Once::Token(token)), Made::No) => {
                self.records[charge.key_index].see(tag, token, now);
            }
            (Some(Once::Correction { .. }), Made::No) => {
                self.records[charge.key_index].set_correction(tag, charge.hits, now);
            }
            (Some(Once::Mark(mark)), Made::No) => {
                let record = &mut self.records[usize::from(mark.key_index)];
                record.set_mark((tag, charge.hits), (mark, charge.alone().is_some()), now);
            }
            (
                Some(Once::Mark(mark)),
                Made::Retried(Retry::Free { .. }) | Made::Refused(Retry::Free { .. }),
            ) => {
                if let Some(known) = self.mark(charge, mark) {
                    if !known.attempts.contains(&mark.attempt) {
                        known.attempts.push(mark.attempt);
                    }
                    known.retries = known.retries.saturating_add(1);
                    known.is_refused = false;
                }
            }
            (Some(Once::Undo(mark)), Made::Yes) => {
                if let Some(known) = self.mark(charge, mark)
                    && known.attempts.contains(&mark.attempt)
                {
                    known.attempts.retain(|attempt| *attempt != mark.attempt);
                    known.retries = known.retries.saturating_sub(1);
                    // The attempts that are left have found it made, and reported nothing.
                    self.take_reports_back(charge);
                }
            }
            _ => {}
        }
    }
}
