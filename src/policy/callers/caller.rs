//! A caller as a directory knows it: its tier, parent, share, amounts and bonuses.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::limit::Bonus;

/// How far parents are followed: a user, its workspace, its team, its company.
pub const PARENTS_MAX: usize = 3;

/// What a directory says of a caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The tier's name; a policy that has no such tier takes its default.
    pub tier: Option<String>,
    /// The caller that this one belongs to. It gives the tier where this one has none.
    pub parent: Option<String>,
    /// This caller's limits are so much of its parent's.
    pub share: Option<Share>,
    /// This caller spends from its parent's counters; with a share, at most so much of them.
    pub pool: bool,
    /// Labels for priorities and answers.
    pub roles: Vec<String>,
    /// Amounts instead of the policy's, by the limit's name.
    pub overrides: BTreeMap<String, u64>,
    pub bonuses: Vec<CallerBonus>,
    /// Nothing passes.
    pub disabled: bool,
    /// For people.
    pub notes: String,
}

/// A bonus of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerBonus {
    /// The name of the limit that it adds to.
    pub limit: String,
    pub bonus: Bonus,
}

/// A caller and those it belongs to, the nearest first; empty if the directory doesn't know the caller.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    pub members: SmallVec<[Member; 2]>,
    /// The directory did not answer, so the next of them is unknown.
    pub is_incomplete: bool,
}

impl Lineage {
    /// The parent that comes next; None at the end, where parents go round in a circle, and where there are
    /// too many.
    pub fn next(&self) -> Option<&str> {
        let parent = self.members.last()?.caller.parent.as_deref()?;
        let is_known = self.members.iter().any(|member| *member.name == *parent);
        (self.members.len() <= PARENTS_MAX && !is_known).then_some(parent)
    }

    /// The next of a lineage that begins with `caller`.
    pub fn next_or(&self, caller: &str) -> Option<String> {
        let next = if self.members.is_empty() { Some(caller) } else { self.next() };
        next.map(str::to_owned)
    }
}

/// A caller with its name.
#[derive(Clone, Debug)]
pub struct Member {
    pub name: Arc<str>,
    pub caller: Arc<Caller>,
}

/// A part of a whole, exact to a hundredth of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

/// The parts that make a whole.
const WHOLE: u16 = 10_000;

impl Share {
    /// All of it.
    pub const ALL: Self = Self(WHOLE);

    /// None of it.
    pub const NOTHING: Self = Self(0);

    /// Reads `20%`, `12.5%` or `0.8`: at most all, to a hundredth of a percent.
    ///
    /// # Errors
    /// A clause that names what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let problem = || {
            format!(
                "`{text}` is no share; write a percentage up to 100% or a fraction up to 1, such as 20% or 0.8"
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

    /// So much of `amount`, rounded down.
    pub fn of(self, amount: u64) -> u64 {
        let part = u128::from(amount) * u128::from(self.0) / u128::from(WHOLE);
        u64::try_from(part).expect("a part is at most the whole")
    }

    /// The part that is left when the other is taken from this, or nothing.
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
            assert!(error.contains(&format!("`{text}` is no share")), "{error}");
        }
    }
}
