//! Compiles the `prices` of a file.

use std::collections::BTreeSet;

use super::rate::is_currency;
use crate::limit::AMOUNT_MAX;
use crate::policy::model::{Budget, Choice, MICROS, PriceLine, Prices};
use crate::policy::problem::Severity;
use crate::policy::schema::{PolicyFile, PriceFile};
use crate::policy::yaml::{Reader, Spanned};

/// Maximum number of lines: each request is compared with them.
const LINES_MAX: usize = 256;

/// Digits after the point of a price.
const MICRO_DIGITS: usize = 6;

impl Prices {
    /// The prices of a file; None if it has none.
    pub(super) fn compile(
        reader: &mut Reader<'_>,
        choices: &[Choice],
        file: &PolicyFile,
    ) -> Option<Self> {
        let Some(files) = &file.prices else {
            if let Some(budget) = &file.budget {
                let message = "`budget` has no effect without `prices`";
                reader.error(budget.span.clone(), message);
            }
            return None;
        };
        if LINES_MAX < files.value.len() {
            let message = format!("too many prices; a policy may have at most {LINES_MAX}");
            reader.error(files.span.clone(), message);
        }
        let mut currency: Option<&str> = None;
        let mut lines = Vec::new();
        for file in files.value.iter().take(LINES_MAX) {
            let Some(text) = &file.price else { continue };
            let Some((micros, own)) = parse_price(&text.value) else {
                let message = format!(
                    "invalid price `{}`; use money with up to six digits after the point, such as 0.0125 EUR",
                    text.value
                );
                reader.error(text.span.clone(), message);
                continue;
            };
            let first = *currency.get_or_insert(own);
            if first != own {
                let message = format!("all prices must have one currency; {own} follows {first}");
                reader.error(text.span.clone(), message);
            }
            if let Some(per) = file.per.as_ref().filter(|per| per.value == 0) {
                reader.error(per.span.clone(), "`per` must be 1 or more");
            }
            lines.push(line(choices, file, micros));
        }
        warn_unreached(reader, &files.value);
        let currency = currency?;
        let budget = file.budget.as_ref().map(|budget| &budget.value);
        let mut amount = |text: Option<&Spanned<String>>| {
            let text = text?;
            let known = parse_price(&text.value).filter(|(_, own)| *own == currency);
            if known.is_none() {
                let message = format!(
                    "invalid budget `{}`; use money in the currency of the prices, such as 200 {currency}",
                    text.value
                );
                reader.error(text.span.clone(), message);
            }
            known.map(|(micros, _)| micros)
        };
        let budget = Budget {
            day: amount(budget.and_then(|budget| budget.day.as_ref())),
            month: amount(budget.and_then(|budget| budget.month.as_ref())),
        };
        Some(Self { currency: currency.into(), lines, budget })
    }
}

fn line(choices: &[Choice], file: &PriceFile, micros: u64) -> PriceLine {
    let when: Vec<(Box<str>, Box<str>)> = file
        .when
        .iter()
        .flatten()
        .map(|(key, value)| (key.value.as_str().into(), value.value.as_str().into()))
        .collect();
    let is_chosen = |(key, _): &(Box<str>, Box<str>)| choices.iter().any(|one| one.key == *key);
    let provider = when.iter().position(is_chosen).or((!when.is_empty()).then_some(0));
    let others = when.iter().enumerate().filter(|(index, _)| Some(*index) != provider);
    let others: BTreeSet<String> =
        others.map(|(_, (key, value))| format!("{key}={value}")).collect();
    let kind = others.into_iter().collect::<Vec<_>>().join(",");
    PriceLine {
        provider: provider.map(|index| when[index].1.clone()),
        kind: kind.into(),
        micros,
        per: file.per.as_ref().map(|per| per.value),
        when,
    }
}

/// Warns of lines that never apply, because an earlier one matches all of their requests.
fn warn_unreached(reader: &mut Reader<'_>, files: &[PriceFile]) {
    let entries = |file: &PriceFile| -> BTreeSet<(String, String)> {
        let when = file.when.iter().flatten();
        when.map(|(key, value): &(Spanned<String>, Spanned<String>)| {
            (key.value.clone(), value.value.clone())
        })
        .collect()
    };
    for (index, file) in files.iter().enumerate() {
        let own = entries(file);
        if files[..index].iter().any(|earlier| entries(earlier).is_subset(&own)) {
            let message = "this price never applies: an earlier one matches all of its requests";
            reader.note(Severity::Warning, file.span.clone(), message);
        }
    }
}

/// A price in micro-units, and its currency.
fn parse_price(text: &str) -> Option<(u64, &str)> {
    let (number, currency) = text.trim().split_once(' ')?;
    let currency = currency.trim();
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || MICRO_DIGITS < part.len() || !is_currency(currency) {
        return None;
    }
    let part: u64 = format!("{part:0<MICRO_DIGITS$}").parse().ok()?;
    let micros = whole.parse::<u64>().ok()?.checked_mul(MICROS)?.checked_add(part)?;
    (micros <= AMOUNT_MAX).then_some((micros, currency))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{CompileOptions, Source, compile};

    #[test]
    fn a_price_is_exact_to_a_millionth() {
        for (text, expected) in [
            ("12 EUR", Some((12_000_000, "EUR"))),
            ("0.000001 USD", Some((1, "USD"))),
            ("0.1 EUR", Some((100_000, "EUR"))),
            ("1000000000 EUR", Some((AMOUNT_MAX, "EUR"))),
        ] {
            assert_eq!(parse_price(text), expected, "{text}");
        }
        for text in [
            "",
            "12",
            "-1 EUR",
            "1e3 EUR",
            ".5 EUR",
            "1. EUR",
            "0.0000001 EUR",
            "1 eur",
            "1000000001 EUR",
        ] {
            assert_eq!(parse_price(text), None, "{text}");
        }
    }

    #[test]
    fn a_line_names_its_provider_and_the_kind_of_request() {
        let text = "
domain: d
choices: [{ key: provider, value: any, among: { near: {}, far: {} } }]
prices:
- { when: { op: book, provider: near, zone: eu }, price: 1 EUR }
- { when: { model: large, zone: eu }, price: 2 EUR, per: 1000 }
- { price: 3 EUR }
descriptors: [{ key: provider, limits: [1/day] }]";
        let source = Source { path: "a.yaml".to_owned(), text: text.to_owned() };
        let policies = compile(&[source], CompileOptions::default()).unwrap();
        let prices = policies.domain("d").unwrap().prices.clone().unwrap();
        let told: Vec<(Option<&str>, &str)> =
            prices.lines.iter().map(|line| (line.provider.as_deref(), &*line.kind)).collect();
        assert_eq!(
            told,
            [(Some("near"), "op=book,zone=eu"), (Some("large"), "zone=eu"), (None, "")]
        );
    }
}
