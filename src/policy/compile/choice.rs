//! Compiles the `choices` of a file.

use crate::policy::model::{
    Candidate, Choice, Classes, Domain, LATENCY_MS_MAX, RuleValue, Weights,
};
use crate::policy::problem::{Problem, Severity, Source};
use crate::policy::schema::{CandidateFile, ChoiceFile, PolicyFile, WeightsFile};
use crate::policy::yaml::{Reader, Spanned};

use super::rate::parse_length_ms;

/// Maximum number of names in a choice: each costs a check of its limits.
const CANDIDATES_MAX: usize = 16;

/// Maximum number of choices in a policy.
const CHOICES_MAX: usize = 16;

/// Maximum price: it is exact to six decimals.
const PRICE_MAX: f64 = 1_000_000_000.0;

/// Letters of a currency's code (ISO 4217).
const CURRENCY_LEN: usize = 3;

/// Metadata fields of answers that a choice's key must not replace.
const ANSWER_WORDS: [&str; 8] =
    ["caller", "choice", "domain", "fallback", "limits", "metadata", "pressure", "reason"];

impl Choice {
    /// The choices of a file.
    pub(super) fn compile_all(
        reader: &mut Reader<'_>,
        classes: &Classes,
        file: &PolicyFile,
    ) -> Vec<Self> {
        let Some(files) = &file.choices else { return Vec::new() };
        if CHOICES_MAX < files.value.len() {
            let message = format!("too many choices; a policy may have at most {CHOICES_MAX}");
            reader.error(files.span.clone(), message);
        }
        let mut choices: Vec<Self> = Vec::new();
        for file in files.value.iter().take(CHOICES_MAX) {
            let Some(choice) = Self::compile(reader, classes, file) else { continue };
            if choices
                .iter()
                .any(|known| (&known.key, &known.value) == (&choice.key, &choice.value))
            {
                let message = format!("duplicate choice `{}={}`", choice.key, choice.value);
                reader.error(file.span.clone(), message);
            }
            choices.push(choice);
        }
        choices
    }

    fn compile(reader: &mut Reader<'_>, classes: &Classes, file: &ChoiceFile) -> Option<Self> {
        let (key, value, among) = (file.key.as_ref()?, file.value.as_ref()?, file.among.as_ref()?);
        if key.value.is_empty() || value.value.is_empty() {
            reader.error(file.span.clone(), "empty `key` or `value` in a choice");
        }
        if classes.qualifies(&key.value) {
            let message = format!("`{}` is a qualifier and can't be the key of a rule", key.value);
            reader.error(key.span.clone(), message);
        }
        if ANSWER_WORDS.contains(&key.value.as_str()) {
            let message =
                format!("reserved key `{}`: answers use it for other metadata", key.value);
            reader.error(key.span.clone(), message);
        }
        let names = among.value.len();
        if !(2..=CANDIDATES_MAX).contains(&names) {
            let message = format!("a choice needs 2 to {CANDIDATES_MAX} names, not {names}");
            reader.error(among.span.clone(), message);
        }
        let mut prices = Prices::default();
        let mut candidates = Vec::new();
        for (name, candidate) in among.value.iter().take(CANDIDATES_MAX) {
            check_name(reader, name, &value.value);
            candidates.push(Candidate::compile(reader, name, candidate, &mut prices));
        }
        prices.check(reader, among);
        Some(Self {
            key: key.value.as_str().into(),
            value: value.value.as_str().into(),
            candidates,
            latency_key: boxed(&file.latency_key),
            header: boxed(&file.header),
            weights: Weights::compile(reader, file.weights.as_ref()),
        })
    }
}

impl Candidate {
    fn compile(
        reader: &mut Reader<'_>,
        name: &Spanned<String>,
        file: &CandidateFile,
        prices: &mut Prices,
    ) -> Self {
        let latency = file.latency.as_ref().and_then(|text| {
            let length = parse_length_ms(&text.value);
            length.map_err(|message| reader.error(text.span.clone(), message)).ok()
        });
        Self {
            name: name.value.as_str().into(),
            price: file.price.as_ref().and_then(|text| prices.read(reader, text)),
            latency_ms: latency.map(|ms| number(ms).min(LATENCY_MS_MAX)),
        }
    }
}

impl Weights {
    fn compile(reader: &mut Reader<'_>, file: Option<&Spanned<WeightsFile>>) -> Self {
        let weight = |said: Option<&Spanned<u64>>| said.map_or(1.0, |weight| number(weight.value));
        let said = file.map(|file| &file.value);
        let weights = Self {
            capacity: weight(said.and_then(|file| file.capacity.as_ref())),
            latency: weight(said.and_then(|file| file.latency.as_ref())),
            price: weight(said.and_then(|file| file.price.as_ref())),
        };
        if let Some(file) = file
            && weights == (Self { capacity: 0.0, latency: 0.0, price: 0.0 })
        {
            reader.error(file.span.clone(), "all weights are 0; at least one must be positive");
        }
        weights
    }
}

/// The common unit of all prices of a choice.
#[derive(Default)]
struct Prices {
    /// The currency of the first price.
    currency: Option<String>,
}

impl Prices {
    /// Parses a price, and reports problems.
    fn read(&mut self, reader: &mut Reader<'_>, text: &Spanned<String>) -> Option<f64> {
        let Some((price, currency)) = parse_price(&text.value) else {
            let message = format!(
                "invalid price `{}`; use a number with up to six digits after the point, such as 12, 0.35 or 12.50 EUR",
                text.value
            );
            reader.error(text.span.clone(), message);
            return None;
        };
        let first = self.currency.get_or_insert_with(|| currency.to_owned());
        if first != currency {
            let message =
                format!("price `{}` has another unit than the prices before it", text.value);
            reader.error(text.span.clone(), message);
        }
        Some(price)
    }

    /// All candidates have a price, or none has.
    fn check(
        &self,
        reader: &mut Reader<'_>,
        among: &Spanned<Vec<(Spanned<String>, CandidateFile)>>,
    ) {
        let without = among.value.iter().filter(|(_, candidate)| candidate.price.is_none());
        for (name, _) in without.filter(|_| self.currency.is_some()) {
            let message = format!(
                "missing price for `{}`: either all names have a price, or none",
                name.value
            );
            reader.error(name.span.clone(), message);
        }
    }
}

/// A price and its currency, which is empty if it has none.
fn parse_price(text: &str) -> Option<(f64, &str)> {
    let (amount, currency) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let currency = currency.trim();
    let is_currency =
        currency.len() == CURRENCY_LEN && currency.bytes().all(|byte| byte.is_ascii_uppercase());
    let (whole, part) = amount.split_once('.').unwrap_or((amount, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits(whole) && digits(part) && part.len() <= 6;
    let price = amount.parse().ok().filter(|price| *price <= PRICE_MAX && plain)?;
    (currency.is_empty() || is_currency).then_some((price, currency))
}

/// Warnings for the choices of a compiled domain: names without limits, and a rule for the value that is never matched.
pub(super) fn unruled(source: &Source, domain: &Domain, file: &ChoiceFile) -> Vec<Problem> {
    let (Some(key), Some(value), Some(among)) = (&file.key, &file.value, &file.among) else {
        return Vec::new();
    };
    let mut rules = Vec::new();
    domain.rules.each(&mut |rule| {
        let is_joined = matches!(rule.value, RuleValue::Joined { .. });
        rules.extend((is_joined || rule.key == key.value).then_some(&rule.value));
    });
    let meets = |name: &str| {
        rules.iter().any(|value| match value {
            RuleValue::Exact(exact) => exact == name,
            RuleValue::Pattern { pattern, .. } => pattern.matches(name),
            RuleValue::Joined { pattern, .. } => pattern.matches(&format!("{}_{name}", key.value)),
            RuleValue::Among { matcher, .. } => matcher.matches(name),
            RuleValue::Any => true,
        })
    };
    let mut problems = Vec::new();
    for (name, _) in among.value.iter().filter(|(name, _)| !meets(&name.value)) {
        let message = format!("no rule for `{}={}`: it is unlimited", key.value, name.value);
        problems.push(Problem::at(source, Severity::Warning, name.span.clone(), message));
    }
    let own = |rule: &&RuleValue| matches!(rule, RuleValue::Exact(exact) if *exact == value.value);
    if rules.iter().any(own) {
        let message = format!(
            "unreachable rule `{}={}`: requests with this entry are a choice",
            key.value, value.value
        );
        problems.push(Problem::at(source, Severity::Warning, value.span.clone(), message));
    }
    problems
}

/// A name is used in a header and in a path.
fn check_name(reader: &mut Reader<'_>, name: &Spanned<String>, placeholder: &str) {
    if name.value.is_empty() {
        reader.error(name.span.clone(), "empty name in `among`");
    } else if name.value == placeholder {
        let message = format!("`{placeholder}` requests the choice and can't be one of its names");
        reader.error(name.span.clone(), message);
    }
}

fn boxed(text: &Option<Spanned<String>>) -> Option<Box<str>> {
    text.as_ref().map(|text| text.value.as_str().into())
}

/// The nearest floating-point number.
fn number(whole: impl TryInto<u32>) -> f64 {
    whole.try_into().map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_a_number_with_or_without_a_currency() {
        for (text, expected) in [
            ("12", Some((12.0, ""))),
            ("0.350001", Some((0.350_001, ""))),
            ("12.50 EUR", Some((12.5, "EUR"))),
            ("0", Some((0.0, ""))),
        ] {
            assert_eq!(parse_price(text), expected, "{text}");
        }
        for text in
            ["", "-1", "1e3", "x", ".5", "1.", "1.1234567", "1 eur", "1 EURO", "99999999999"]
        {
            assert_eq!(parse_price(text), None, "{text}");
        }
    }
}
