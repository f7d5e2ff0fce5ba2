//! A share of a whole, such as `20%`.

use std::fmt;

/// A part of a whole, exact to a hundredth of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

/// The parts that make a whole.
const WHOLE: u16 = 10_000;

/// Of the hash FNV-1a.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

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

    /// In hundredths of a percent.
    pub fn hundredths(self) -> u32 {
        self.0.into()
    }

    /// This part of `amount`, rounded down.
    pub fn of(self, amount: u64) -> u64 {
        let part = u128::from(amount) * u128::from(self.0) / u128::from(WHOLE);
        u64::try_from(part).expect("a part is at most the whole")
    }

    /// Whether a name is among this part of all names: always the same ones, and those of a smaller part are among those
    /// of a larger one.
    pub fn takes(self, name: &str) -> bool {
        let hash = name
            .bytes()
            .fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
        // The finalizer of MurmurHash3: names that differ in one letter lie far from each other.
        let mixed = [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53];
        let mixed = mixed.iter().fold(hash, |hash, by| (hash ^ hash >> 33).wrapping_mul(*by));
        (mixed ^ mixed >> 33) % u64::from(WHOLE) < u64::from(self.0)
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
    fn a_share_takes_the_same_names_and_a_larger_one_takes_more() {
        let names: Vec<String> = (0..10_000).map(|number| format!("user-{number}")).collect();
        let shares = ["0%", "1%", "25%", "50%", "100%"].map(|text| Share::parse(text).unwrap());
        let taken = shares.map(|share| names.iter().filter(|name| share.takes(name)).count());
        for (share, taken) in shares.iter().zip(taken) {
            let expected = usize::try_from(share.of(10_000)).unwrap();
            assert!(taken.abs_diff(expected) < 200, "{share}: {taken}");
        }
        for name in &names {
            let takes = shares.map(|share| share.takes(name));
            assert!(takes.is_sorted(), "{name}");
        }
        // Other versions must not choose others.
        let quarter = shares[2];
        let first = names.iter().filter(|name| quarter.takes(name)).take(3);
        assert_eq!(first.collect::<Vec<_>>(), FIRST_OF_A_QUARTER);
    }

    const FIRST_OF_A_QUARTER: [&str; 3] = ["user-3", "user-4", "user-5"];

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
