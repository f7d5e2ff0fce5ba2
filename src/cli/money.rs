//! Money as text.

/// Micro-units in units of the currency, with at least two digits after the point.
pub fn money(micros: u64) -> String {
    let (whole, part) = (micros / 1_000_000, format!("{:06}", micros % 1_000_000));
    let part = part.trim_end_matches('0');
    format!("{whole}.{part:0<2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_shown_in_units_without_a_loss() {
        let check = |micros: u64, expected: &str| assert_eq!(money(micros), expected);
        check(0, "0.00");
        check(1, "0.000001");
        check(12_500_000, "12.50");
        check(u64::MAX, "18446744073709.551615");
    }
}
