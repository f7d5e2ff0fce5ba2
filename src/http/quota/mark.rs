//! The mark of a count: what was in use of a limit, and when. To clients it is a text without a meaning.

use crate::clock::Timestamp;
use crate::engine::Reading;

/// The mark of a reading.
pub fn write(reading: Reading) -> String {
    format!("{}.{}", reading.used, reading.at.as_ms())
}

/// The reading of a mark; None for a text that is none.
pub fn read(mark: &str) -> Option<Reading> {
    let (used, at_ms) = mark.split_once('.')?;
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<u64>().ok()).flatten()
    };
    Some(Reading { used: number(used)?, at: Timestamp::from_ms(number(at_ms)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_what_was_read() {
        let reading = Reading { used: 815, at: Timestamp::from_ms(1_764_259_200_123) };
        assert_eq!(read(&write(reading)), Some(reading));
        for wrong in
            ["", "815", ".", "815.", ".1", "8 15.1", "+8.1", "8.-1", "99999999999999999999.1"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
