//! Ids of refusals, for a later explanation.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

/// The digits of ids (Crockford's base 32): no letters that look like digits.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Digits of an id: 64 bits.
const ID_LEN: usize = 13;

/// The id of a refusal, unique among all sidecars: random, and each only once in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RefusalId(NonZeroU64);

/// Makes ids.
#[derive(Debug)]
pub struct RefusalIds(AtomicU64);

impl RefusalId {
    /// Parses the text of an id, in upper or lower case.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != ID_LEN {
            return None;
        }
        let number = text.bytes().try_fold(0_u64, |number, byte| {
            let digit = DIGITS.iter().position(|digit| *digit == byte.to_ascii_lowercase())?;
            number.checked_mul(32)?.checked_add(u64::try_from(digit).ok()?)
        });
        NonZeroU64::new(number?).map(Self)
    }

    /// The id as a number.
    pub fn number(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for RefusalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |place: usize| {
            let value = usize::try_from(self.0.get() >> (5 * (ID_LEN - 1 - place)) & 31);
            char::from(DIGITS[value.unwrap_or_default()])
        };
        (0..ID_LEN).try_for_each(|place| write!(f, "{}", digit(place)))
    }
}

impl RefusalIds {
    /// Ids that begin at a random place.
    pub fn new() -> Self {
        let mut bytes = [0; 8];
        // Without randomness, sidecars that start alike make the same ids.
        let _ = getrandom::fill(&mut bytes);
        Self(AtomicU64::new(u64::from_le_bytes(bytes)))
    }

    /// The next id.
    pub fn next(&self) -> RefusalId {
        let number = scrambled(self.0.fetch_add(1, Ordering::Relaxed));
        RefusalId(NonZeroU64::new(number).unwrap_or(NonZeroU64::MAX))
    }
}

/// Mixes the bits of a number, each result once: the finalizer of `SplitMix64`.
fn scrambled(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_id_is_a_short_text_that_can_be_parsed() {
        let ids = RefusalIds::new();
        let mut texts = HashSet::new();
        for _ in 0..1_000 {
            let id = ids.next();
            let text = id.to_string();
            assert_eq!(text.len(), ID_LEN);
            assert_eq!(RefusalId::parse(&text), Some(id));
            assert_eq!(RefusalId::parse(&text.to_uppercase()), Some(id));
            assert!(texts.insert(text));
        }
        let highest = RefusalId(NonZeroU64::MAX).to_string();
        assert_eq!(highest, "fzzzzzzzzzzzz");
        for text in
            ["", "0000000000000", "gzzzzzzzzzzzz", "ozzzzzzzzzzzz", "fzzzzzzzzzzz", "é00000000000"]
        {
            assert_eq!(RefusalId::parse(text), None, "{text}");
        }
    }
}
