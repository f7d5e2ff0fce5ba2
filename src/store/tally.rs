//! How the groups of a batch were decided, and whether its request passes.

use super::Decision;
use crate::limit::Fit;
use crate::policy::Mode;

/// Counts groups as they are decided, and says whether the request passes.
#[derive(Debug, Default)]
pub struct Tally {
    refused: bool,
    failed: bool,
    quotas: usize,
    quotas_over: usize,
}

/// How the charges of one group were decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupFit {
    /// All limits had the hits.
    Fits,
    /// One of them did not.
    Over,
    /// All that are known did; of one it is unknown ([`Decision::failed`]).
    Failed,
}

impl GroupFit {
    /// Of these decisions.
    pub fn of<'d>(decisions: impl IntoIterator<Item = &'d Decision>) -> Self {
        let mut group = Self::Fits;
        for decision in decisions {
            match decision {
                decision if decision.fit != Fit::Now => return Self::Over,
                decision if decision.failed => group = Self::Failed,
                _ => {}
            }
        }
        group
    }
}

impl Tally {
    /// Counts a group of `mode`.
    pub fn count(&mut self, mode: Mode, group: GroupFit) {
        let is_over = group == GroupFit::Over;
        match mode {
            Mode::Enforce => self.refused |= is_over,
            Mode::Quota => {
                self.quotas += 1;
                self.quotas_over += usize::from(is_over);
            }
            Mode::Warn | Mode::Shadow | Mode::Off => return,
        }
        self.failed |= group == GroupFit::Failed;
    }

    /// Whether an enforced group is over, or all quotas are.
    pub fn refused(&self) -> bool {
        self.refused || self.no_quota_left()
    }

    /// Whether it is unknown if the request passes: nothing refuses it, and a limit could not be asked.
    pub fn failed(&self) -> bool {
        self.failed && !self.refused()
    }

    /// Whether the request passes.
    pub fn admitted(&self) -> bool {
        !self.failed && !self.refused()
    }

    /// Whether there are quotas, and all are over.
    pub fn no_quota_left(&self) -> bool {
        self.quotas != 0 && self.quotas_over == self.quotas
    }
}
