//! Notes on how a plan was made, for `explain`. Decisions make no notes.

use crate::engine::caller::Account;
use crate::policy::Rule;

use super::model::PlannedLimit;

/// The notes on a plan.
#[derive(Debug, Default)]
pub struct Notes<'p> {
    /// The source of each charge of the batch.
    pub origins: Vec<Origin<'p>>,
    /// Limits that apply but are not charged.
    pub uncharged: Vec<(Origin<'p>, PlannedLimit<'p>, Uncharged)>,
    /// Rules whose `only` excludes the caller, each with the index of the descriptor.
    pub closed: Vec<(usize, &'p Rule)>,
}

/// The source of a limit.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'p> {
    /// None if the request brings the limit along.
    pub rule: Option<&'p Rule>,
    /// The account that owns the counter, for limits of the caller's own if the directory knows the caller.
    pub account: Option<Account>,
}

/// The reason that a limit is not charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncharged {
    /// Another rule that matches the request replaces it.
    Replaced,
    /// It doesn't limit the caller's tier.
    Unlimited,
    /// The caller's tier has no access.
    NoAccess,
    /// It is off.
    Off,
}

impl<'p> Notes<'p> {
    /// Adds a limit that is not charged, unless it was added before.
    pub fn uncharged(&mut self, origin: Origin<'p>, limit: &PlannedLimit<'p>, why: Uncharged) {
        let is_known =
            |(_, known, _): &(Origin<'_>, PlannedLimit<'_>, Uncharged)| known.index == limit.index;
        if !self.uncharged.iter().any(is_known) {
            self.uncharged.push((origin, limit.clone(), why));
        }
    }
}
