//! Until when a certificate holds, read from its DER (RFC 5280, section 4.1).
//!
//! Whoever shakes hands by it reads the rest. What can't be read here has no known end, and is served all the same.

use jiff::civil::Date;
use jiff::civil::DateTime;
use jiff::civil::Time;
use jiff::tz::TimeZone;

const SEQUENCE: u8 = 0x30;
/// What the version is in, which the oldest certificates don't have.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate ends, in seconds since the Unix epoch.
pub fn expiry_s(der: &[u8]) -> Option<u64> {
    let (_, certificate, _) = element(der)?;
    let (_, mut fields, _) = element(certificate)?;
    if fields.first() == Some(&VERSION) {
        (_, _, fields) = element(fields)?;
    }
    // The number, the algorithm and the issuer.
    for _ in 0..3 {
        (_, _, fields) = element(fields)?;
    }
    let (tag, validity, _) = element(fields)?;
    let (_, _, rest) = element(validity)?;
    let (kind, end, _) = element(rest)?;
    let end = (tag == SEQUENCE).then(|| time(kind, end))??;
    let second = end.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    u64::try_from(second).ok()
}

/// The first element: its tag, what is in it, and what comes after it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, rest) = match first.checked_sub(0x80) {
        None => (usize::from(*first), rest),
        Some(count @ 1..=4) => {
            let (len, rest) = rest.split_at_checked(usize::from(count))?;
            (len.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        Some(_) => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((*tag, content, rest))
}

/// `YYMMDDHHMMSSZ`, of 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn time(kind: u8, text: &[u8]) -> Option<DateTime> {
    let text = str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match kind {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2_000 + year } else { 1_900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    if rest.len() != 10 || !(1..=9_999).contains(&year) {
        return None;
    }
    let day = Date::new(year, part(0)?, part(2)?).ok()?;
    let time = Time::new(part(4)?, part(6)?, part(8)?, 0).ok()?;
    Some(day.to_datetime(time))
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateParams;
    use rcgen::KeyPair;
    use rcgen::date_time_ymd;

    use super::*;

    fn made(year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["tollgate.test".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 2, 28);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        for (year, expected) in [(2_030, 1_898_467_200), (2_060, 2_845_152_000)] {
            assert_eq!(expiry_s(&made(year)), Some(expected), "{year}");
        }
    }

    #[test]
    fn what_is_cut_off_or_changed_has_no_end_and_does_no_harm() {
        let whole = made(2_030);
        for len in 0..whole.len() {
            assert_eq!(expiry_s(&whole[..len]), None, "{len}");
        }
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 0xff;
            let _ = expiry_s(&changed);
        }
    }
}
