//! A limit of a rule, with its settings.

use std::fmt;
use std::sync::Arc;

use crate::limit::{Limit, Overdraft};

use super::adjust::Adjust;
use super::cost::Cost;
use super::estimate::Estimate;
use super::lease::Lease;
use super::mode::Mode;
use super::outage::OnOutage;
use super::share::Share;
use super::source_location::SourceLocation;
use super::wait::Wait;
use super::window::Window;

/// A limit of a rule.
#[derive(Clone, Debug)]
pub struct RuleLimit {
    /// Its number among the limits of its domain, from 0.
    pub index: usize,
    /// The name in the policy; empty if there is none.
    pub name: Arc<str>,
    /// The name in metrics, logs and answers: `name`, or else the rule's path and the rate.
    pub label: Arc<str>,
    /// For all tiers without a limit of their own.
    pub limit: Arc<Limit>,
    /// By tier; empty if all tiers have the same.
    pub by_tier: Box<[TierLimit]>,
    /// The cost table; None if a request costs its own hits.
    pub cost: Option<Arc<Cost>>,
    /// The currency of its counts; None if they are hits.
    pub currency: Option<Box<str>>,
    /// The settings of a `wait`.
    pub wait: Option<Wait>,
    /// Whether hits may be taken ahead.
    pub lease: Lease,
    /// What a request holds until its cost is debited; None if nothing.
    pub estimate: Option<Estimate>,
    /// A request that asks for more hits than it has gets those that it has.
    pub partial: bool,
    pub window: Window,
    pub mode: Mode,
    /// Enforced without exceptions: its overdraft and its `on_outage` say so too.
    pub strict: bool,
    /// The part of the callers for whom it is enforced; all if None. The others are warned.
    pub enforced: Option<Share>,
    pub on_outage: OnOutage,
    pub refused: Refused,
    /// It charges each attempt at a request, whatever its rule says of retries.
    pub charges_retries: bool,
    /// How it follows a signal; not at all if None.
    pub adjust: Option<Arc<Adjust>>,
    /// Where it is said, if its rule has an overlay.
    pub places: Option<Box<LimitPlaces>>,
}

/// Where a limit of a rule with an overlay is said.
#[derive(Clone, Debug)]
pub struct LimitPlaces {
    /// Its rate, in the resource or in the overlay.
    pub rate: SourceLocation,
    /// What the overlay adds to a limit of the resource, if it adds anything.
    pub more: Option<SourceLocation>,
}

/// A limit for callers of one tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TierLimit {
    Limit(Arc<Limit>),
    /// The tier has no access.
    None,
    /// The tier is unlimited.
    Unlimited,
}

impl fmt::Display for TierLimit {
    /// The text in a policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(limit) => limit.fmt(f),
            Self::None => f.write_str("none"),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl RuleLimit {
    /// How much of a capacity is left by the signal that it follows.
    pub fn adjusted(&self, capacity: u64) -> u64 {
        self.adjust.as_ref().map_or(capacity, |adjust| adjust.scale().of(capacity).min(capacity))
    }

    /// The limit for callers of this tier.
    pub fn of_tier(&self, tier: usize) -> TierLimit {
        match self.by_tier.get(tier) {
            Some(limit) => limit.clone(),
            None => TierLimit::Limit(self.limit.clone()),
        }
    }
}

/// The effect of a refusal on hits that a descriptor sets. They may be spent already: Envoy sends the cost of a
/// response in this way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refused {
    /// They cost nothing.
    #[default]
    Free,
    /// They count, unless the limit is already overdrawn; then a peek is refused until it no longer is. This applies to
    /// limits in the format of envoyproxy/ratelimit.
    Counted,
    /// They count as far as the limit's overdraft admits them, regardless of the limits of other rules.
    Booked,
}

impl Refused {
    /// For a limit with this overdraft, in the reference's format or in ours.
    pub fn of(overdraft: Overdraft, in_reference: bool) -> Self {
        match overdraft {
            Overdraft::Allow | Overdraft::Clip => Self::Booked,
            Overdraft::None if in_reference => Self::Counted,
            Overdraft::None | Overdraft::Owed => Self::Free,
        }
    }

    /// The same in one request. Unless all its descriptors set their hits, as after a response, a limit that refuses
    /// the request's own hits, or a peek, may have refused it before anything was spent.
    pub fn in_request(self, all_named: bool) -> Self {
        if self == Self::Booked && !all_named { Self::Counted } else { self }
    }
}
