//! Cost tables: from the hits and entries of a request to the hits that a limit charges.

use crate::limit::AMOUNT_MAX;

/// A table of costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The name that limits use.
    pub name: Box<str>,
    pub lines: Vec<CostLine>,
    /// The currency, if the lines are in money.
    pub currency: Option<Box<str>>,
}

/// The cost of requests with certain entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostLine {
    /// Keys and values of entries that the request must have.
    pub when: Vec<(Box<str>, Box<str>)>,
    pub hits: u64,
    /// Charged per this many requested hits; None: flat.
    pub per: Option<u64>,
}

impl Cost {
    /// The cost of a request with these hits; `entry` returns the value of an entry by key. The first line that matches
    /// applies; if none does, the cost is the requested hits. A part of `per` counts in full.
    pub fn of<'a>(&self, asked: u64, entry: impl Fn(&str) -> Option<&'a str>) -> u64 {
        let fits =
            |line: &&CostLine| line.when.iter().all(|(key, value)| entry(key) == Some(value));
        match self.lines.iter().find(fits) {
            None => asked,
            Some(CostLine { hits: 0, .. }) => 0,
            // 0 hits remain a peek without a cost.
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
