//! A limit of a rule, with what holds for it.

use std::fmt;
use std::sync::Arc;

use crate::limit::{Limit, Overdraft};

use super::cost::Cost;
use super::lease::Lease;
use super::mode::Mode;
use super::outage::OnOutage;
use super::wait::Wait;
use super::window::Window;

/// A limit of a rule.
#[derive(Clone, Debug)]
pub struct RuleLimit {
    /// Its number among the limits of its domain, from 0.
    pub index: usize,
    /// The name that the policy gives it; empty if it gives none.
    pub name: Arc<str>,
    /// What metrics, logs and answers call it: its name, or else its rule's path and its rate.
    pub label: Arc<str>,
    /// For all callers, if the tiers have none of their own.
    pub limit: Arc<Limit>,
    /// By tier; empty if it is one for all.
    pub by_tier: Box<[TierLimit]>,
    /// What a request costs; what it asks for if None.
    pub cost: Option<Arc<Cost>>,
    /// What it is counted in, if that is money; hits if None.
    pub currency: Option<Box<str>>,
    /// Whether to wait for capacity.
    pub wait: Option<Wait>,
    /// Whether hits may be taken ahead where they can.
    pub lease: Lease,
    pub window: Window,
    pub mode: Mode,
    pub on_outage: OnOutage,
    pub refused: Refused,
}

/// A limit as it is for callers of one tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TierLimit {
    Limit(Arc<Limit>),
    /// They may not pass.
    None,
    /// They pass.
    Unlimited,
}

impl fmt::Display for TierLimit {
    /// As a policy would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(limit) => limit.fmt(f),
            Self::None => f.write_str("none"),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl RuleLimit {
    /// The limit as it is for callers of that tier.
    pub fn of_tier(&self, tier: usize) -> TierLimit {
        match self.by_tier.get(tier) {
            Some(limit) => limit.clone(),
            None => TierLimit::Limit(self.limit.clone()),
        }
    }
}

/// What becomes of hits that a descriptor names when the request is refused. They may have been spent before anybody could
/// ask: Envoy names what a response cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refused {
    /// They cost nothing.
    #[default]
    Free,
    /// They count all the same, unless the limit is overdrawn already; then a peek is refused until it no longer is. So it
    /// is for limits in the words of envoyproxy/ratelimit.
    Counted,
    /// They count as far as the limit's overdraft lets them pass, whatever the limits of other rules say.
    Booked,
}

impl Refused {
    /// For a limit with that overdraft, in the reference's words or in ours.
    pub fn of(overdraft: Overdraft, in_reference: bool) -> Self {
        match overdraft {
            Overdraft::Allow | Overdraft::Clip => Self::Booked,
            Overdraft::None if in_reference => Self::Counted,
            Overdraft::None | Overdraft::Owed => Self::Free,
        }
    }

    /// The same in one request. Unless all its descriptors name hits, as after a response, a limit that refuses the request's
    /// own hits, or a peek, may have refused it before anything was spent.
    pub fn in_request(self, all_named: bool) -> Self {
        if self == Self::Booked && !all_named { Self::Counted } else { self }
    }
}
