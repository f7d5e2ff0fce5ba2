//! The plan of a request: the batch of charges, and the source of each.

use std::ops::Deref;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::limit::Hits;
use crate::policy::{Mode, Rule, RuleLimit};
use crate::store::{Batch, INLINE_CAP};

use super::requested_hits::RequestedHits;

/// The number of descriptors of most requests. More of them need an allocation in a verdict.
pub const VERDICT_INLINE_CAP: usize = 2;

/// The batch of a request's charges, with the source of each part.
#[derive(Debug, Default)]
pub struct Plan<'p> {
    /// The time for which it was made.
    pub at: Timestamp,
    /// The modes for which it was made.
    pub modes: ModeSettings,
    pub batch: Batch,
    /// The limit of each charge of the batch.
    pub limits: SmallVec<[PlannedLimit<'p>; INLINE_CAP]>,
    /// The rule of each charge of the batch; None for a limit that the request brings along.
    pub rules: SmallVec<[Option<&'p Rule>; INLINE_CAP]>,
    /// The rule of each gauge of the batch.
    pub gauges: SmallVec<[&'p Rule; 1]>,
    /// One for each descriptor, in order.
    pub descriptors: SmallVec<[DescriptorMatch<'p>; VERDICT_INLINE_CAP]>,
    /// The caller is denied regardless of the limits, so nothing is charged.
    pub denial: Option<Denial>,
    /// Every limit is a quota, and one of the descriptors has no limit: it counts as a quota with capacity, regardless
    /// of the others.
    pub quota_left: bool,
    /// The requested hits of each charge of the batch.
    pub(super) requested: SmallVec<[RequestedHits; INLINE_CAP]>,
}

impl Plan<'_> {
    /// The mode by which a charge of the batch is judged: that of its limit, or a warning where that is not enforced for the
    /// caller.
    pub fn mode(&self, charge: usize) -> Mode {
        match self.batch.charges[charge].mode {
            Mode::Warn => Mode::Warn,
            _ => self.modes.verdict_mode(self.limits[charge].mode),
        }
    }

    /// Whether all descriptors of a charge set their hits, as Envoy does after a response.
    pub fn sets_hits(&self, charge: usize) -> bool {
        self.requested.get(charge).is_some_and(|requested| !requested.unnamed)
    }

    /// Whether a descriptor of a charge is a peek, regardless of its cost.
    pub fn peeks(&self, charge: usize) -> bool {
        self.requested.get(charge).is_some_and(|requested| requested.peeks)
    }
}

/// A limit of a request. Limits of the policy are borrowed: if their references were counted, all cores would write to
/// one place.
#[derive(Clone, Debug)]
pub enum PlannedLimit<'p> {
    OfPolicy(&'p RuleLimit),
    /// The request brings it along.
    Brought(Arc<RuleLimit>),
}

impl Deref for PlannedLimit<'_> {
    type Target = RuleLimit;

    fn deref(&self) -> &RuleLimit {
        match self {
            Self::OfPolicy(limit) => limit,
            Self::Brought(limit) => limit,
        }
    }
}

/// The reason of a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The caller is disabled in the directory.
    Disabled,
    /// The caller's tier has no access.
    NoAccess,
}

/// The rules and limits of one descriptor.
#[derive(Clone, Debug, Default)]
pub struct DescriptorMatch<'p> {
    /// The rule at its end.
    pub rule: Option<&'p Rule>,
    /// Charges of the batch, by index.
    pub charges: SmallVec<[usize; INLINE_CAP]>,
    /// The rule doesn't limit this caller.
    pub unlimited: bool,
    /// The caller has no access.
    pub denied: bool,
    /// The caller would have no access if that were enforced.
    pub warned: bool,
}

impl DescriptorMatch<'_> {
    /// The caller has none of a limit in that mode, and asks for hits.
    pub(super) fn has_none(&mut self, mode: Mode, hits: Hits) {
        let spends = matches!(hits, Hits::Spend(_));
        self.denied |= spends && mode.refuses();
        self.warned |= spends && mode == Mode::Warn;
    }
}

/// Modes of the settings, which override those of the policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModeSettings {
    /// Decide and record everything, enforce nothing.
    pub shadow: bool,
    /// Every enforced limit is a quota.
    pub quota: bool,
}

impl ModeSettings {
    /// The mode that decides about a request.
    pub fn verdict_mode(self, mode: Mode) -> Mode {
        if self.quota && mode == Mode::Enforce { Mode::Quota } else { mode }
    }

    /// The mode by which the store charges. One that warns warns in shadow mode too.
    pub(super) fn charged(self, mode: Mode) -> Mode {
        match mode {
            Mode::Warn => Mode::Warn,
            _ if self.shadow => Mode::Shadow,
            _ => self.verdict_mode(mode),
        }
    }
}
