//! Parses a rate: `10/second`, `250/15m`, `500/month`, `3/total`.

use crate::limit::{AMOUNT_MAX, WINDOW_MS_MAX};

use crate::policy::model::{Unit, Window};

/// An amount of hits in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub amount: u64,
    pub window: Window,
}

/// The short units of a window's length.
const SHORT_UNITS: [(&str, u64); 6] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

impl Rate {
    /// Parses a rate.
    ///
    /// # Errors
    /// A clause with the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((amount, window)) = text.split_once('/') else {
            return Err(format!("invalid rate `{text}`; use AMOUNT/WINDOW, such as 10/second"));
        };
        Ok(Self { amount: parse_amount(amount.trim())?, window: parse_window(window.trim())? })
    }
}

/// Letters of a currency code (ISO 4217), and the number of decimals of amounts: money is counted in hundredths, in any
/// currency.
const CURRENCY_LEN: usize = 3;
const CENT_DIGITS: usize = 2;

/// Parses an amount: a whole number, or money such as `1000 EUR` or `0.35 USD`, which is counted in hundredths. `_` may
/// group its digits.
///
/// # Errors
/// A clause with the reason.
pub fn parse_amount(text: &str) -> Result<u64, String> {
    let digits: String = text.chars().filter(|character| *character != '_').collect();
    let amount = match digits.split_once(' ') {
        Some((number, currency)) if is_currency(currency.trim()) => cents(number),
        _ => digits.parse().ok(),
    };
    amount.filter(|amount| *amount <= AMOUNT_MAX).ok_or_else(|| {
        format!(
            "invalid amount `{text}`; use a whole number from 0 to {AMOUNT_MAX}, or money such as 0.35 EUR"
        )
    })
}

/// The currency of an amount or a rate; None for a plain number.
pub fn currency(text: &str) -> Option<&str> {
    let amount = text.split_once('/').map_or(text, |(amount, _)| amount);
    let (_, currency) = amount.trim().split_once(' ')?;
    Some(currency.trim()).filter(|currency| is_currency(currency))
}

/// Whether a text is the code of a currency.
pub fn is_currency(text: &str) -> bool {
    text.len() == CURRENCY_LEN && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn cents(number: &str) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "00"));
    let exact = part.len() <= CENT_DIGITS && !part.is_empty();
    let digits = format!("{whole}{part:0<CENT_DIGITS$}");
    let plain = !whole.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if exact && plain { digits.parse().ok() } else { None }
}

/// Parses a length of time with a short unit, such as `15m`, in milliseconds.
///
/// # Errors
/// A clause with the reason.
pub fn parse_length_ms(text: &str) -> Result<u64, String> {
    match parse_window(text) {
        Ok(Window::Length(ms)) => Ok(ms),
        _ => Err(format!(
            "invalid duration `{text}`; use a number with ms, s, m, h or d, such as 2s"
        )),
    }
}

/// Parses a window; the error is a clause with the reason.
fn parse_window(text: &str) -> Result<Window, String> {
    if text.eq_ignore_ascii_case("total") {
        return Ok(Window::Total);
    }
    if let Some(unit) = Unit::parse(text) {
        return Ok(unit.into());
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let unit_ms = SHORT_UNITS.iter().find(|(name, _)| *name == unit.trim());
    let count = if count.is_empty() { Ok(1) } else { count.parse::<u64>() };
    let (Ok(count), Some((_, unit_ms))) = (count, unit_ms) else {
        return Err(format!(
            "unknown window `{text}`; use second, minute, hour, day, week, month, year or total, \
             or a length in ms, s, m, h, d or w, such as 15m"
        ));
    };
    match count.checked_mul(*unit_ms) {
        Some(0) => Err(format!("invalid window `{text}`: it must be longer than 0")),
        Some(window_ms) if window_ms <= WINDOW_MS_MAX => Ok(Window::Length(window_ms)),
        _ => Err(format!("window `{text}` exceeds the maximum of 366d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::CalendarUnit;

    fn check(text: &str, amount: u64, window: Window) {
        assert_eq!(Rate::parse(text), Ok(Rate { amount, window }), "{text}");
    }

    fn check_refused(text: &str, message: &str) {
        let error = Rate::parse(text).unwrap_err();
        assert!(error.contains(message), "{text}: {error}");
    }

    #[test]
    fn rates_are_read() {
        check("10/second", 10, Window::Length(1_000));
        check(" 1_000 / Day ", 1_000, Window::Length(86_400_000));
        check("250/15m", 250, Window::Length(900_000));
        check("10/s", 10, Window::Length(1_000));
        check("1/250ms", 1, Window::Length(250));
        check("0/2w", 0, Window::Length(1_209_600_000));
        check("500/month", 500, Window::Calendar(CalendarUnit::Month));
        check("3/total", 3, Window::Total);
        check("1000 EUR/day", 100_000, Window::Length(86_400_000));
        check("0.3 USD/total", 30, Window::Total);
    }

    #[test]
    fn what_is_no_rate_is_named() {
        check_refused("10", "invalid rate `10`");
        check_refused("x/second", "invalid amount `x`");
        check_refused("-1/second", "invalid amount `-1`");
        check_refused("/second", "invalid amount ``");
        check_refused("1000000000000001/second", "invalid amount");
        check_refused("0.355 EUR/day", "invalid amount `0.355 EUR`");
        check_refused("1.5/day", "invalid amount `1.5`");
        check_refused("5 euro/day", "invalid amount `5 euro`");
        check_refused("10/fortnight", "unknown window `fortnight`");
        check_refused("10/0s", "invalid window `0s`: it must be longer than 0");
        check_refused("10/367d", "exceeds the maximum of 366d");
        check_refused("10/99999999999999999999w", "unknown window");
        check_refused("10/9999999999999999w", "exceeds the maximum of 366d");
    }
}
