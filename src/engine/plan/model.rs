//! The plan of a request: the batch of charges, and what each part of it is for.

use std::ops::Deref;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::policy::{Mode, Rule, RuleLimit};
use crate::store::{Batch, INLINE_CAP};

use super::requested_hits::RequestedHits;

/// Descriptors, and charges, of most requests: so many are kept inline in a verdict, which is moved several times on its
/// way to the edge. More take an allocation.
pub const VERDICT_INLINE_CAP: usize = 2;

/// What a request asks of the store, and what each part of it is for.
#[derive(Debug, Default)]
pub struct Plan<'p> {
    /// The time for which it was made.
    pub at: Timestamp,
    /// The modes for which it was made.
    pub modes: ModeSettings,
    pub batch: Batch,
    /// The limit of each charge of the batch.
    pub limits: SmallVec<[MetLimit<'p>; INLINE_CAP]>,
    /// The rule of each charge of the batch; None for a limit that the request brings along.
    pub rules: SmallVec<[Option<&'p Rule>; INLINE_CAP]>,
    /// The rule of each gauge of the batch.
    pub gauges: SmallVec<[&'p Rule; 1]>,
    /// One for each descriptor, in order.
    pub descriptors: SmallVec<[DescriptorMatch<'p>; VERDICT_INLINE_CAP]>,
    /// Nothing is to be charged, because the caller may not pass whatever the limits say.
    pub denial: Option<Denial>,
    /// Every limit is a quota, and one of the descriptors meets none: it counts as a quota that is left, whatever those
    /// of the others say.
    pub quota_left: bool,
    /// What is asked of each charge of the batch.
    pub(super) requested: SmallVec<[RequestedHits; INLINE_CAP]>,
}

impl Plan<'_> {
    /// Whether a descriptor of a charge only asks how its limit stands, whatever that would cost.
    pub fn peeks(&self, charge: usize) -> bool {
        self.requested.get(charge).is_some_and(|requested| requested.peeks)
    }
}

/// A limit that a request meets. Those of the policy are borrowed: counting references to them would have all
/// cores write to one place.
#[derive(Clone, Debug)]
pub enum MetLimit<'p> {
    OfPolicy(&'p RuleLimit),
    /// The request brings it along.
    Brought(Arc<RuleLimit>),
}

impl Deref for MetLimit<'_> {
    type Target = RuleLimit;

    fn deref(&self) -> &RuleLimit {
        match self {
            Self::OfPolicy(limit) => limit,
            Self::Brought(limit) => limit,
        }
    }
}

/// Why a caller may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The directory says that nothing of the caller passes.
    Disabled,
    /// The policy keeps the caller's tier out of what is asked for.
    NoAccess,
}

/// What one descriptor meets.
#[derive(Clone, Debug, Default)]
pub struct DescriptorMatch<'p> {
    /// The rule at its end.
    pub rule: Option<&'p Rule>,
    /// Charges of the batch, by index.
    pub charges: SmallVec<[usize; VERDICT_INLINE_CAP]>,
    /// The rule doesn't limit this caller.
    pub unlimited: bool,
    /// It may not pass.
    pub denied: bool,
}

/// Modes that the settings lay over those of the policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModeSettings {
    /// Decide and record everything, enforce nothing.
    pub shadow: bool,
    /// Every enforced limit is a quota.
    pub quota: bool,
}

impl ModeSettings {
    /// The mode by which a request is judged.
    pub fn judged(self, mode: Mode) -> Mode {
        if self.quota && mode == Mode::Enforce { Mode::Quota } else { mode }
    }

    /// The mode by which the store charges.
    pub(super) fn charged(self, mode: Mode) -> Mode {
        if self.shadow { Mode::Shadow } else { self.judged(mode) }
    }
}
