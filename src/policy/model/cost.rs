//! Cost tables: from a request's own hits and entries to the hits that a limit is charged.

use crate::limit::AMOUNT_MAX;

/// A table of costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// What limits call it.
    pub name: Box<str>,
    pub lines: Vec<CostLine>,
    /// What the lines are in, if it is money.
    pub currency: Option<Box<str>>,
}

/// What requests with certain entries cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostLine {
    /// Keys and values of entries that the request must have.
    pub when: Vec<(Box<str>, Box<str>)>,
    pub hits: u64,
    /// For so many of the request's own hits; None: in all.
    pub per: Option<u64>,
}

impl Cost {
    /// The cost of a request that asks for so many hits and whose entries `entry` tells by key: that of the
    /// first line that fits, and what it asks for where none does. What is asked for in part of `per`
    /// is rounded up.
    pub fn of<'a>(&self, asked: u64, entry: impl Fn(&str) -> Option<&'a str>) -> u64 {
        let fits =
            |line: &&CostLine| line.when.iter().all(|(key, value)| entry(key) == Some(value));
        match self.lines.iter().find(fits) {
            None => asked,
            Some(CostLine { hits: 0, .. }) => 0,
            // A peek stays one: it asks for nothing and pays nothing.
            Some(_) if asked == 0 => 0,
            Some(CostLine { hits, per: None, .. }) => *hits,
            Some(CostLine { hits, per: Some(per), .. }) => {
                let cost = (u128::from(asked) * u128::from(*hits)).div_ceil(u128::from(*per));
                u64::try_from(cost).unwrap_or(u64::MAX).min(AMOUNT_MAX + 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(when: &[(&str, &str)], hits: u64, per: Option<u64>) -> CostLine {
        let when = when.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        CostLine { when, hits, per }
    }

    #[test]
    fn the_first_line_that_fits_says_the_cost() {
        let cost = Cost {
            name: "".into(),
            currency: None,
            lines: vec![
                line(&[("op", "translate")], 5, Some(1_000)),
                line(&[("op", "book"), ("provider", "amadeus")], 35, None),
                line(&[("op", "free")], 0, None),
            ],
        };
        let check = |entries: &[(&str, &'static str)], asked, expected| {
            let entry =
                |key: &str| entries.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
            assert_eq!(cost.of(asked, entry), expected, "{entries:?} {asked}");
        };
        check(&[("op", "translate")], 1_000, 5);
        check(&[("op", "translate")], 1, 1);
        check(&[("op", "translate")], 1_001, 6);
        check(&[("op", "translate")], 0, 0);
        check(&[("op", "translate")], u64::MAX, AMOUNT_MAX + 1);
        check(&[("op", "book"), ("provider", "amadeus")], 3, 35);
        check(&[("op", "book")], 3, 3);
        check(&[("op", "free")], 3, 0);
        check(&[], 3, 3);
    }
}
