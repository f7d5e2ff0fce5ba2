//! Cost tables: from a request's own hits and entries to the hits that a limit is charged.

use serde_json::Value;
use serde_json::json;

use crate::limit::AMOUNT_MAX;

use super::fields::Reader;
use super::rate::currency;
use super::rate::parse_amount;
use super::schema::CostFile;

/// A table of costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    name: Box<str>,
    lines: Vec<Line>,
    /// What the lines are in, if it is money.
    currency: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// Keys and values of entries that the request must have.
    when: Vec<(Box<str>, Box<str>)>,
    hits: u64,
    /// For so many of the request's own hits; None: in all.
    per: Option<u64>,
}

impl Cost {
    /// What the file says.
    pub(super) fn new(reader: &mut Reader<'_>, name: &str, files: &[CostFile]) -> Self {
        let mut known: Option<&str> = None;
        for text in files.iter().filter_map(|file| file.hits.as_ref()) {
            let Some(own) = currency(&text.value) else { continue };
            let first = *known.get_or_insert(own);
            if first != own {
                let message =
                    format!("a table of costs has one currency, but {own} follows {first}");
                reader.error(text.span.clone(), message);
            }
        }
        let lines = files.iter().filter_map(|file| Line::new(reader, file)).collect();
        Self { name: name.into(), lines, currency: known.map(Into::into) }
    }

    /// What limits call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What it is in, if that is money.
    pub fn currency(&self) -> Option<&str> {
        self.currency.as_deref()
    }

    /// The cost of a request that asks for so many hits and whose entries `entry` tells by key: that of the
    /// first line that fits, and what it asks for where none does. What is asked for in part of `per`
    /// is rounded up.
    pub fn of<'a>(&self, asked: u64, entry: impl Fn(&str) -> Option<&'a str>) -> u64 {
        let fits = |line: &&Line| line.when.iter().all(|(key, value)| entry(key) == Some(value));
        match self.lines.iter().find(fits) {
            None => asked,
            Some(Line { hits: 0, .. }) => 0,
            // A peek stays one: it asks for nothing and pays nothing.
            Some(_) if asked == 0 => 0,
            Some(Line { hits, per: None, .. }) => *hits,
            Some(Line { hits, per: Some(per), .. }) => {
                let cost = (u128::from(asked) * u128::from(*hits)).div_ceil(u128::from(*per));
                u64::try_from(cost).unwrap_or(u64::MAX).min(AMOUNT_MAX + 1)
            }
        }
    }
}

impl Cost {
    /// Its lines, in the words of the policy.
    pub(super) fn describe(&self) -> Value {
        let when = |line: &Line| {
            let when = line.when.iter();
            when.map(|(key, value)| (key.to_string(), Value::from(&**value))).collect::<Value>()
        };
        let line = |line: &Line| json!({ "when": when(line), "hits": line.hits, "per": line.per });
        self.lines.iter().map(line).collect()
    }
}

impl Line {
    fn new(reader: &mut Reader<'_>, file: &CostFile) -> Option<Self> {
        let text = file.hits.as_ref()?;
        let hits = parse_amount(&text.value)
            .map_err(|message| reader.error(text.span.clone(), message))
            .ok()?;
        if let Some(per) = file.per.as_ref().filter(|per| per.value == 0) {
            reader.error(per.span.clone(), "`per` is 0, but a cost is for one hit or more");
            return None;
        }
        let when = file.when.iter().flatten();
        Some(Self {
            when: when
                .map(|(key, value)| (key.value.as_str().into(), value.value.as_str().into()))
                .collect(),
            hits,
            per: file.per.as_ref().map(|per| per.value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(when: &[(&str, &str)], hits: u64, per: Option<u64>) -> Line {
        let when = when.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Line { when, hits, per }
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
