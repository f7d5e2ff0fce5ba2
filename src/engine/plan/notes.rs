//! Notes on how a plan was made, for `explain`. Requests that are decided note nothing.

use crate::engine::caller::Account;
use crate::policy::Rule;

use super::model::MetLimit;

/// What is noted beside a plan.
#[derive(Debug, Default)]
pub struct Notes<'p> {
    /// Where each charge of the batch comes from.
    pub origins: Vec<Origin<'p>>,
    /// Limits that are met and not charged.
    pub uncharged: Vec<(Origin<'p>, MetLimit<'p>, Uncharged)>,
    /// Rules whose `only` keeps the caller out, each with the index of the descriptor.
    pub closed: Vec<(usize, &'p Rule)>,
}

/// Where a limit comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'p> {
    /// None if the request brings the limit along.
    pub rule: Option<&'p Rule>,
    /// The account whose counter it is, if it is the caller's own and a directory knows the caller.
    pub account: Option<Account>,
}

/// Why a limit is not charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncharged {
    /// Another rule that the request meets replaces it.
    Replaced,
    /// It doesn't limit the caller's tier.
    Unlimited,
    /// The caller's tier may not pass.
    NoAccess,
}

impl<'p> Notes<'p> {
    /// Notes a limit that is not charged, unless it is known.
    pub fn uncharged(&mut self, origin: Origin<'p>, limit: &MetLimit<'p>, why: Uncharged) {
        let is_known =
            |(_, known, _): &(Origin<'_>, MetLimit<'_>, Uncharged)| known.index == limit.index;
        if !self.uncharged.iter().any(is_known) {
            self.uncharged.push((origin, limit.clone(), why));
        }
    }
}
