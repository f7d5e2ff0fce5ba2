//! The gauges of a batch in the embedded store: their levels now, and when they fall. `redis/special.lua` mirrors this.

use smallvec::SmallVec;

use super::decide::Decider;
use crate::limit::AvailableCapacity;
use crate::store::{Charge, Gauge, INLINE_CAP};

impl Decider<'_> {
    /// Finds the level of each gauge, and keeps it.
    pub(super) fn read_gauges(&mut self) {
        for gauge in &self.batch.gauges {
            let known = self.records[gauge.key_index].level();
            let passed = gauge.marks.iter().filter(|mark| {
                let point = if mark.level <= known { mark.fall } else { mark.rise };
                let settled = self.settled(mark.charge);
                let point = self.batch.charges[mark.charge].scaled(point, settled.limit);
                point < settled.used_or_held()
            });
            let level = passed.map(|mark| mark.level).max().unwrap_or(0);
            self.records[gauge.key_index].set_level(level);
            self.levels.push(level);
        }
    }

    /// What is open to a charge each time that a gauge falls.
    pub(super) fn later_capacity(
        &self,
        charge: &Charge,
    ) -> SmallVec<[AvailableCapacity; INLINE_CAP]> {
        let mut available = SmallVec::new();
        for pressed in &charge.open.pressed {
            for level in 1..=self.levels[pressed.gauge] {
                if let Some(from_ms) = self.falls_below_ms(pressed.gauge, level) {
                    let limit = charge.limit.at(self.now);
                    let hits = charge.open_at(limit, |gauge| self.level_at(gauge, from_ms));
                    available.push(AvailableCapacity { from_ms, until_ms: u64::MAX, hits });
                }
            }
        }
        available
    }

    /// The level of a gauge at a time from now on, if nobody spends until then.
    pub(super) fn level_at(&self, gauge: usize, at_ms: u64) -> u8 {
        let stands = |level: &u8| {
            let falls_ms = self.falls_below_ms(gauge, *level);
            falls_ms.is_none_or(|falls_ms| at_ms < falls_ms)
        };
        (1..=self.levels[gauge]).rev().find(stands).unwrap_or(0)
    }

    /// When a gauge will stand below a level that it has now; None if time alone doesn't bring it there.
    fn falls_below_ms(&self, gauge: usize, level: u8) -> Option<u64> {
        let Gauge { marks, .. } = &self.batch.gauges[gauge];
        let holding = level..=self.levels[gauge];
        let mut marks = marks.iter().filter(|mark| holding.contains(&mark.level));
        marks.try_fold(self.now.as_ms(), |latest, mark| {
            let settled = self.settled(mark.charge);
            let fall = self.batch.charges[mark.charge].scaled(mark.fall, settled.limit);
            let falls_ms = settled.falls_with_held_to_ms(fall)?;
            Some(latest.max(falls_ms))
        })
    }
}
