//! The difference between two maps of a cluster: masters that stay, start and end, and the master of each slot.
//!
//! It is pure; `explorer.rs` applies it.

use std::ops::RangeInclusive;

use super::cluster_slots::{Address, SlotRange};
use super::slot::SLOTS;

/// The index for a slot without a master.
pub const NOWHERE: u16 = u16::MAX;

/// The change from one map to the next.
#[derive(Debug, PartialEq, Eq)]
pub struct MapChange {
    /// The masters of the next map, in the cluster's order.
    pub masters: Vec<NextMaster>,
    /// The index in `masters` for each slot; [`NOWHERE`] if it has none.
    pub slots: Vec<u16>,
    /// The masters of the old map that have no slots any more, by index.
    pub gone: Vec<usize>,
}

/// A master of the next map.
#[derive(Debug, PartialEq, Eq)]
pub struct NextMaster {
    pub address: Address,
    /// Its index in the old map; None if it is new.
    pub old: Option<usize>,
    pub ranges: Vec<RangeInclusive<u16>>,
}

impl MapChange {
    /// The change from a map with these masters to the slots of the cluster.
    pub fn between(old: &[Address], now: &[SlotRange]) -> Self {
        let mut masters: Vec<NextMaster> = Vec::new();
        let mut slots = vec![NOWHERE; SLOTS.into()];
        for (range, address) in now {
            let known = masters.iter().position(|master| master.address == *address);
            let index = known.unwrap_or_else(|| {
                let old = old.iter().position(|old| old == address);
                masters.push(NextMaster { address: address.clone(), old, ranges: Vec::new() });
                masters.len() - 1
            });
            masters[index].ranges.push(range.clone());
            let index = u16::try_from(index).unwrap_or(NOWHERE);
            range.clone().for_each(|slot| slots[usize::from(slot % SLOTS)] = index);
        }
        let stays = |index: &usize| masters.iter().any(|master| master.old == Some(*index));
        let gone = (0..old.len()).filter(|index| !stays(index)).collect();
        Self { masters, slots, gone }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str) -> Address {
        (name.to_owned(), 6379)
    }

    #[test]
    fn masters_that_stay_are_kept_and_others_begin_and_end() {
        let old = [address("a"), address("b"), address("c")];
        let now = [(0..=5, address("c")), (6..=6, address("d")), (9..=10, address("c"))];
        let change = MapChange::between(&old, &now);
        let masters = change.masters.iter().map(|next| (&*next.address.0, next.old));
        assert_eq!(masters.collect::<Vec<_>>(), [("c", Some(2)), ("d", None)]);
        assert_eq!(change.masters[0].ranges, [0..=5, 9..=10]);
        assert_eq!(change.gone, [0, 1]);
        let first = [0, 0, 0, 0, 0, 0, 1, NOWHERE, NOWHERE, 0, 0, NOWHERE];
        assert_eq!(change.slots[..first.len()], first);
        assert_eq!(change.slots.len(), usize::from(SLOTS));
    }

    #[test]
    fn the_same_map_changes_nothing() {
        let old = [address("a"), address("b")];
        let now = [(0..=0, address("b")), (1..=1, address("a"))];
        let change = MapChange::between(&old, &now);
        assert!(change.gone.is_empty());
        assert!(change.masters.iter().all(|master| master.old.is_some()));
        let all_end = MapChange::between(&old, &[]);
        assert_eq!((all_end.masters.len(), all_end.gone), (0, vec![0, 1]));
    }
}
