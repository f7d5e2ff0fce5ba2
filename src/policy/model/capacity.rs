//! The capacity of a rule: the part of a shared limit that each tier may use, and the effect of pressure and schedules on
//! it.

use std::sync::Arc;

use super::share::Share;
use crate::clock::Timestamp;
use crate::limit::Timetable;

/// Maximum number of pressure levels: that of a gauge in the store.
pub const PRESSURE_LEVELS_MAX: usize = 4;

/// Reserved capacity and pressure levels of a rule's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The part of each limit that a tier may use, by tier; empty if all tiers may use all of it.
    pub ceilings: Vec<Share>,
    /// Pressure levels, from 1 on.
    pub levels: Vec<PressureLevel>,
    /// What takes its place while schedules hold; nothing if None.
    pub scheduled: Option<Box<ScheduledCapacity>>,
}

/// The capacity of a rule while schedules hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledCapacity {
    pub timetable: Arc<Timetable>,
    /// One for each condition of the timetable; without schedules of their own.
    pub capacities: Box<[Capacity]>,
}

/// A level of pressure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PressureLevel {
    /// The level begins when more than this part of a limit is used,
    pub above: Share,
    /// and ends when no more than this part of any limit is.
    pub until: Share,
    /// The part of their own limits that callers may use, by tier; empty if all.
    pub scale: Vec<Share>,
    /// The tiers and priorities that may pass; all if None.
    pub only: Option<Only>,
}

/// The requests that may pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// By tier.
    pub tiers: Vec<bool>,
    /// From this priority on, requests of other tiers pass too; none if None.
    pub priority: Option<u8>,
}

impl Capacity {
    /// The capacity at a time.
    pub fn at(&self, now: Timestamp) -> &Self {
        let scheduled = self.scheduled.as_deref();
        let holding = scheduled.and_then(|scheduled| scheduled.holding(now));
        holding.unwrap_or(self)
    }

    /// When another capacity takes its place; None if that is not known to happen.
    pub fn changes_after(&self, now: Timestamp) -> Option<Timestamp> {
        self.scheduled.as_ref()?.timetable.known_edge(now)
    }

    /// Whether it ever has levels of pressure.
    pub fn has_levels(&self) -> bool {
        let scheduled = self.scheduled.iter().flat_map(|scheduled| &scheduled.capacities);
        std::iter::once(self).chain(scheduled).any(|capacity| !capacity.levels.is_empty())
    }

    /// The part of a limit's `capacity` that a tier may use without pressure.
    pub fn open(&self, tier: usize, capacity: u64) -> u64 {
        self.ceilings.get(tier).map_or(capacity, |share| share.of(capacity))
    }
}

impl ScheduledCapacity {
    fn holding(&self, now: Timestamp) -> Option<&Capacity> {
        self.timetable.holding_now(now).and_then(|index| self.capacities.get(index))
    }
}

impl PressureLevel {
    /// The part of their own limits that callers of a tier may use.
    pub fn keeps(&self, tier: usize) -> Share {
        self.scale.get(tier).copied().unwrap_or(Share::ALL)
    }
}

impl Only {
    /// Whether a request of this tier and priority passes.
    pub fn admits(&self, tier: usize, priority: u8) -> bool {
        self.admits_tier(tier) || self.priority.is_some_and(|least| least <= priority)
    }

    /// Whether every request of this tier passes.
    pub fn admits_tier(&self, tier: usize) -> bool {
        self.tiers.get(tier).copied().unwrap_or_default()
    }
}
