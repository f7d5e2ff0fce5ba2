//! Numbers and times as people read them.

use std::time::Duration;

use jiff::Timestamp as Instant;

/// With separators between thousands.
pub fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// With one digit behind the point below a hundred.
pub fn decimal(number: f64) -> String {
    if number < 100.0 { format!("{number:.1}") } else { whole(rounded(number)) }
}

/// A part of a hundred, with one digit behind the point if it is not whole.
pub fn percent(percent: f64) -> String {
    let tenths = (percent * 10.0).round() / 10.0;
    if tenths.fract() == 0.0 { format!("{tenths:.0} %") } else { format!("{tenths:.1} %") }
}

/// A short time in the largest unit that fits.
pub fn latency(duration: Duration) -> String {
    let us = duration.as_secs_f64() * 1e6;
    match us {
        ..1_000.0 => format!("{us:.0} µs"),
        ..100_000.0 => format!("{:.1} ms", us / 1e3),
        ..1_000_000.0 => format!("{:.0} ms", us / 1e3),
        _ => format!("{:.1} s", us / 1e6),
    }
}

/// Money in millionths: in hundredths, or as far as it needs below one hundredth.
pub fn money(micros: u64, currency: &str) -> String {
    match micros {
        1..10_000 => format!("{} {currency}", format!("0.{micros:06}").trim_end_matches('0')),
        _ => format!("{}.{:02} {currency}", whole(micros / 1_000_000), micros % 1_000_000 / 10_000),
    }
}

/// A time in RFC 3339 as people read it: the day and the minute, in UTC.
pub fn time(text: &str) -> String {
    let Ok(at) = text.parse::<Instant>() else { return text.to_owned() };
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// How far a time in RFC 3339 is from now.
pub fn distance(text: &str, now_ms: u64) -> String {
    let Ok(at) = text.parse::<Instant>() else { return String::new() };
    let at = u64::try_from(at.as_millisecond()).unwrap_or_default();
    if now_ms <= at {
        format!("in {}", span((at - now_ms).div_ceil(1_000)))
    } else {
        format!("{} ago", span((now_ms - at) / 1_000))
    }
}

/// Seconds in the two largest units.
fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = units.iter().position(|(unit, _)| *unit <= seconds);
    let Some(first) = first else { return "0 s".to_owned() };
    let mut left = seconds;
    let parts = units.iter().skip(first).take(2).filter_map(|(unit, name)| {
        let count = left / unit;
        left %= unit;
        (count != 0).then(|| format!("{count} {name}"))
    });
    parts.collect::<Vec<_>>().join(" ")
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn rounded(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(whole), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.04, 12.34, 99.96, 1234.5].map(decimal), ["0.0", "12.3", "100.0", "1,235"]);
        assert_eq!([0.0, 80.0, 99.96, 33.33].map(percent), ["0 %", "80 %", "100 %", "33.3 %"]);
        let monies = [0, 1_200, 9_999, 10_000, 1_234_567_890].map(|micros| money(micros, "EUR"));
        assert_eq!(
            monies.map(|text| text.replace(" EUR", "")),
            ["0.00", "0.0012", "0.009999", "0.01", "1,234.56"]
        );
        let latencies = [3, 1_500, 150_000, 2_000_000].map(Duration::from_micros).map(latency);
        assert_eq!(latencies, ["3 µs", "1.5 ms", "150 ms", "2.0 s"]);
    }

    #[test]
    fn times_are_told_from_now() {
        assert_eq!(time("2026-11-28T01:02:03Z"), "2026-11-28 01:02 UTC");
        assert_eq!(time("soon"), "soon");
        assert_eq!(distance("1970-01-02T01:00:00Z", 1_000), "in 1 d");
        assert_eq!(distance("1970-01-01T00:00:01Z", 62_000), "1 min 1 s ago");
        assert_eq!(distance("1970-01-01T00:00:01Z", 1_000), "in 0 s");
    }
}
