//! The alerts of a process: what is in force, what was taken of records, and the book.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::intake::Intake;
use super::keeper::Keeper;
use super::past::UsageSeen;
use crate::engine::DecisionRecord;
use crate::policy::AlertPolicy;

/// The alerts of a process.
#[derive(Clone, Debug)]
pub struct Alerts {
    pub policy: Arc<ArcSwap<AlertPolicy>>,
    pub intake: Arc<Intake>,
    pub keeper: Arc<Keeper>,
    /// What rules saw in stored usage.
    pub past: Arc<UsageSeen>,
}

impl Alerts {
    /// Takes records of decisions.
    pub fn add(&self, records: &[DecisionRecord]) {
        self.intake.add(&self.policy.load(), records);
    }

    /// Forgets callers in what rules have seen.
    pub fn erase(&self, is_erased: &dyn Fn(&str) -> bool) {
        self.intake.erase(is_erased);
        self.past.erase(is_erased);
    }
}
