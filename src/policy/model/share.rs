//! A share of a whole, such as `20%`.

use std::fmt;

/// A part of a whole, exact to a hundredth of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

/// The parts that make a whole.
const WHOLE: u16 = 10_000;

impl Share {
    /// The whole.
    pub const ALL: Self = Self(WHOLE);

    /// Nothing.
    pub const NOTHING: Self = Self(0);

    /// Parses `20%`, `12.5%` or `0.8`: at most 100 %, to a hundredth of a percent.
    ///
    /// # Errors
    /// A clause with the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let problem = || {
            format!(
                "invalid share `{text}`; use a percentage up to 100% or a fraction up to 1, such as 20% or 0.8"
            )
        };
        let (number, places) = match text.trim().strip_suffix('%') {
            Some(percent) => (percent.trim_end(), 2),
            None => (text.trim(), 4),
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || places < part.len() {
            return Err(problem());
        }
        let parts = format!("{whole}{part:0<places$}").parse::<u16>().ok();
        parts.filter(|parts| *parts <= WHOLE).map(Self).ok_or_else(problem)
    }

    /// This part of `amount`, rounded down.
    pub fn of(self, amount: u64) -> u64 {
        let part = u128::from(amount) * u128::from(self.0) / u128::from(WHOLE);
        u64::try_from(part).expect("a part is at most the whole")
    }

    /// The difference, or nothing if the other is larger.
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Share {
    /// As a percentage: `20%`, `12.5%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact() {
        let check = |text: &str, amount: u64, part: u64, shown: &str| {
            let share = Share::parse(text).unwrap();
            assert_eq!((share.of(amount), share.to_string().as_str()), (part, shown), "{text}");
        };
        check("20%", 10, 2, "20%");
        check("12.5 %", 1_000, 125, "12.5%");
        check("0.8", 7, 5, "80%");
        check("1", 7, 7, "100%");
        check("0", 7, 0, "0%");
        check("33.33%", 10_000, 3_333, "33.33%");
        check("100%", u64::MAX, u64::MAX, "100%");
    }

    #[test]
    fn what_is_no_share_is_named() {
        for text in
            ["", "%", "101%", "1.1", "-1%", "20.123%", "0.12345", "x", "1e2", ".5", "99999999%"]
        {
            let error = Share::parse(text).unwrap_err();
            assert!(error.contains(&format!("invalid share `{text}`")), "{error}");
        }
    }
}
