//! The capacity of a rule: how much of a shared limit is open to each tier, and how pressure changes it.

use super::share::Share;

/// Levels of pressure; as many as a store's gauge has.
pub const PRESSURE_LEVELS_MAX: usize = 4;

/// Reserved capacity and pressure levels of a rule's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// By tier: the part of each limit that is open to it; empty if all is open to all.
    pub ceilings: Vec<Share>,
    /// Levels of pressure, from 1 on.
    pub levels: Vec<PressureLevel>,
}

/// A level of pressure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PressureLevel {
    /// It holds when more than this part of a limit is used,
    pub above: Share,
    /// until no more than this part of any is.
    pub until: Share,
    /// By tier: how much of their own limits callers keep; empty if all.
    pub scale: Vec<Share>,
    /// The tiers and priorities that may pass; all if None.
    pub only: Option<Only>,
}

/// Who passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// By tier.
    pub tiers: Vec<bool>,
    /// From this priority on others pass too; they don't if None.
    pub priority: Option<u8>,
}

impl Capacity {
    /// How much of a limit's `capacity` is open to a tier while nothing presses.
    pub fn open(&self, tier: usize, capacity: u64) -> u64 {
        self.ceilings.get(tier).map_or(capacity, |share| share.of(capacity))
    }
}

impl PressureLevel {
    /// How much of their own limits callers of a tier keep.
    pub fn keeps(&self, tier: usize) -> Share {
        self.scale.get(tier).copied().unwrap_or(Share::ALL)
    }
}

impl Only {
    /// Whether a request of that tier and priority passes.
    pub fn admits(&self, tier: usize, priority: u8) -> bool {
        self.admits_tier(tier) || self.priority.is_some_and(|least| least <= priority)
    }

    /// Whether every request of that tier passes.
    pub fn admits_tier(&self, tier: usize) -> bool {
        self.tiers.get(tier).copied().unwrap_or_default()
    }
}
