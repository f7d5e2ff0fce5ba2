//! The slots of a Redis Cluster: each key has one, and each master some of them.

use std::ops::RangeInclusive;

use crc::{CRC_16_XMODEM, Crc};

/// The number of slots of every cluster.
pub const SLOTS: u16 = 16_384;

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// The slot of a key: of its first part in braces if there is one, otherwise of the whole key
/// (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>).
pub fn slot_of(key: &str) -> u16 {
    let braced = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let hashed = braced.map(|(tag, _)| tag).filter(|tag| !tag.is_empty()).unwrap_or(key);
    CRC.checksum(hashed.as_bytes()) % SLOTS
}

/// A text whose slot is in these ranges, the same in every process, for the braces in a key; None if the ranges are
/// empty.
pub fn tag_in(slots: &[RangeInclusive<u16>]) -> Option<String> {
    let any = slots.iter().any(|range| !range.is_empty());
    let mut tags = (0_u32..).map(|number| number.to_string());
    any.then(|| tags.find(|tag| slots.iter().any(|range| range.contains(&slot_of(tag))))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `CLUSTER KEYSLOT` answers.
    #[test]
    fn keys_have_the_slots_that_redis_gives_them() {
        for (key, slot) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("", 0),
            ("{foo}bar", 12_182),
            ("a{foo}{bar}", 12_182),
            ("foo{}", slot_of("foo{}")),
        ] {
            assert_eq!(slot_of(key), slot, "{key}");
        }
        assert_ne!(slot_of("{}foo"), slot_of("{}bar"));
        assert_ne!(slot_of("{foo"), slot_of("foo"));
    }

    #[test]
    fn every_slot_has_a_tag() {
        for slot in [0_u16, 1, 5_460, 16_383] {
            let tag = tag_in(&[slot..=slot]).unwrap();
            assert_eq!(slot_of(&format!("tg1!sidecars{{{tag}}}")), slot);
        }
        assert_eq!(tag_in(&[]), None);
    }
}
