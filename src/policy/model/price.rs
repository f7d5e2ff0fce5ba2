//! Prices: what requests cost at providers, in money. They decide nothing; usage sums them.
//!
//! Money is counted in micro-units: millionths of the currency, in whole numbers.

use crate::limit::AMOUNT_MAX;

/// Micro-units in one unit of a currency.
pub const MICROS: u64 = 1_000_000;

/// The prices of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// The code of the currency (ISO 4217).
    pub currency: Box<str>,
    /// The first line that matches a request applies.
    pub lines: Vec<PriceLine>,
    pub budget: Budget,
}

/// What may be spent, in micro-units. It decides nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// In a day of UTC.
    pub day: Option<u64>,
    /// In a calendar month of UTC.
    pub month: Option<u64>,
}

/// The price of requests with certain entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceLine {
    /// Keys and values of entries that the request must have.
    pub when: Vec<(Box<str>, Box<str>)>,
    /// The provider: the value of the entry with the key of a choice, else of the first entry; None without entries.
    pub provider: Option<Box<str>>,
    /// The kind of request: the other entries, as `key=value,key=value`.
    pub kind: Box<str>,
    /// In micro-units.
    pub micros: u64,
    /// Charged per this many hits; None: flat.
    pub per: Option<u64>,
}

impl Prices {
    /// The index of the line for a request; `entry` returns the value of an entry by key.
    pub fn line<'a>(&self, entry: impl Fn(&str) -> Option<&'a str>) -> Option<usize> {
        self.lines.iter().position(|line| {
            line.when.iter().all(|(key, value)| entry(key).is_some_and(|own| *own == **value))
        })
    }
}

impl PriceLine {
    /// How many times the price applies to that many hits: never for none; a part of `per` counts in full.
    pub fn units(&self, hits: u64) -> u64 {
        match self.per {
            None => hits.min(1),
            Some(per) => hits.div_ceil(per.max(1)),
        }
    }

    /// The same of hits that come back: those of a part of `per` stay paid, so never more comes back than was spent.
    pub fn units_back(&self, hits: u64) -> u64 {
        match self.per {
            None => hits.min(1),
            Some(per) => hits / per.max(1),
        }
    }

    /// What so many units cost, in micro-units.
    pub fn cost(&self, units: u64) -> u64 {
        self.micros.saturating_mul(units).min(AMOUNT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_says_the_price() {
        let line = |when: &[(&str, &str)], micros, per| PriceLine {
            when: when.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            provider: None,
            kind: "".into(),
            micros,
            per,
        };
        let prices = Prices {
            currency: "EUR".into(),
            budget: Budget::default(),
            lines: vec![
                line(&[("provider", "near"), ("op", "book")], 350_000, None),
                line(&[("provider", "near")], 1, Some(1_000)),
            ],
        };
        let check = |entries: &[(&str, &'static str)], hits, expected: Option<u64>| {
            let entry =
                |key: &str| entries.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
            let line = prices.line(entry).map(|line| &prices.lines[line]);
            assert_eq!(
                line.map(|line| line.cost(line.units(hits))),
                expected,
                "{entries:?} {hits}"
            );
        };
        check(&[("provider", "near"), ("op", "book")], 1, Some(350_000));
        check(&[("op", "book"), ("provider", "near")], 7, Some(350_000));
        check(&[("op", "book"), ("provider", "near")], 0, Some(0));
        check(&[("provider", "near")], 1_000, Some(1));
        check(&[("provider", "near")], 1_001, Some(2));
        check(&[("provider", "near")], u64::MAX, Some(AMOUNT_MAX));
        check(&[("provider", "far")], 1, None);
        check(&[], 1, None);
    }
}
