//! The `choices:` of a policy: how the best of several values, such as providers, is found for a request.
//!
//! A score is a weighted mean of three parts, each from 0 to 1: simple additive weighting with ratios to
//! the best (Hwang and Yoon, Multiple Attribute Decision Making, 1981). It needs no scale that somebody
//! would have to set: only how much the parts count.

use serde_json::Value;
use serde_json::json;
use smallvec::SmallVec;

use super::classes::Classes;
use super::fields::Reader;
use super::problem::Problem;
use super::problem::Severity;
use super::problem::Source;
use super::rate::parse_length_ms;
use super::rule::Domain;
use super::rule::RuleValue;
use super::schema::CandidateFile;
use super::schema::ChoiceFile;
use super::schema::PolicyFile;
use super::schema::Spanned;
use super::schema::WeightsFile;

/// Names to choose from: each costs a look at its limits.
pub const CANDIDATES_MAX: usize = 16;

/// Choices of one policy.
const CHOICES_MAX: usize = 16;

/// The largest weight.
pub const WEIGHT_MAX: u64 = 1_000;

/// The longest latency that can be told: a day.
pub const LATENCY_MS_MAX: f64 = 86_400_000.0;

/// The largest price: it stays exact to six digits after the point.
const PRICE_MAX: f64 = 1_000_000_000.0;

/// Letters of a currency's code (ISO 4217).
const CURRENCY_LEN: usize = 3;

/// What answers say at the place where the chosen name goes.
const ANSWER_WORDS: [&str; 8] =
    ["caller", "choice", "domain", "fallback", "limits", "metadata", "pressure", "reason"];

/// An entry that stands for the best of several values.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The entry's key.
    pub key: Box<str>,
    /// The value that leaves the choice to us.
    pub value: Box<str>,
    /// In the order of the file.
    pub candidates: Vec<Candidate>,
    /// The key of the entry that tells latencies.
    pub latency_key: Option<Box<str>>,
    /// The header that carries the chosen name to the upstream.
    pub header: Option<Box<str>>,
    pub weights: Weights,
}

/// A name to choose.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub name: Box<str>,
    pub price: Option<f64>,
    /// Until something else is known.
    pub latency_ms: Option<f64>,
}

/// What counts how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    pub capacity: f64,
    pub latency: f64,
    pub price: f64,
}

/// What is known of a candidate while a request is decided.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its index.
    pub candidate: usize,
    /// The part of its limits that is free, from 0 to 1; None while the store is out.
    pub free: Option<f64>,
    pub latency_ms: Option<f64>,
}

impl Choice {
    /// The choices of a file.
    pub(super) fn all(reader: &mut Reader<'_>, classes: &Classes, file: &PolicyFile) -> Vec<Self> {
        let Some(files) = &file.choices else { return Vec::new() };
        if CHOICES_MAX < files.value.len() {
            let message = format!("a policy has at most {CHOICES_MAX} choices");
            reader.error(files.span.clone(), message);
        }
        let mut choices: Vec<Self> = Vec::new();
        for file in files.value.iter().take(CHOICES_MAX) {
            let Some(choice) = Self::new(reader, classes, file) else { continue };
            if choices
                .iter()
                .any(|known| (&known.key, &known.value) == (&choice.key, &choice.value))
            {
                let message = format!("`{}={}` is a choice already", choice.key, choice.value);
                reader.error(file.span.clone(), message);
            }
            choices.push(choice);
        }
        choices
    }

    fn new(reader: &mut Reader<'_>, classes: &Classes, file: &ChoiceFile) -> Option<Self> {
        let (key, value, among) = (file.key.as_ref()?, file.value.as_ref()?, file.among.as_ref()?);
        if key.value.is_empty() || value.value.is_empty() {
            reader.error(file.span.clone(), "a choice without a `key` or a `value`");
        }
        if classes.qualifies(&key.value) {
            let message = format!("`{}` only qualifies requests; no rule can be for it", key.value);
            reader.error(key.span.clone(), message);
        }
        if ANSWER_WORDS.contains(&key.value.as_str()) {
            let message = format!("answers say `{}` of something else", key.value);
            reader.error(key.span.clone(), message);
        }
        let names = among.value.len();
        if !(2..=CANDIDATES_MAX).contains(&names) {
            let message = format!("a choice is among 2 to {CANDIDATES_MAX} names, not {names}");
            reader.error(among.span.clone(), message);
        }
        let mut prices = Prices::default();
        let mut candidates = Vec::new();
        for (name, candidate) in among.value.iter().take(CANDIDATES_MAX) {
            check_name(reader, name, &value.value);
            candidates.push(Candidate::new(reader, name, candidate, &mut prices));
        }
        prices.check(reader, among);
        Some(Self {
            key: key.value.as_str().into(),
            value: value.value.as_str().into(),
            candidates,
            latency_key: boxed(&file.latency_key),
            header: boxed(&file.header),
            weights: Weights::new(reader, file.weights.as_ref()),
        })
    }

    /// Whether a descriptor with these entries leaves the choice to us.
    pub fn is_left_by(&self, entries: &[(&str, &str)]) -> bool {
        entries.contains(&(&*self.key, &*self.value))
    }

    /// How good each candidate is for a request, from 0 to 1, the higher the better:
    ///
    /// ```text
    /// score = (w_capacity * free + w_latency * least / latency + w_price * lowest / price)
    ///         / (w_capacity + w_latency + w_price)
    /// ```
    ///
    /// `least` and `lowest` are those of the candidates given. A latency that nobody knows counts as the mean of
    /// those that are known; what is 0 is as good as can be. While the store is out, capacity is left out.
    pub fn scores(&self, seen: &[Seen]) -> SmallVec<[f64; 4]> {
        let known: SmallVec<[f64; 4]> = seen.iter().filter_map(|one| one.latency_ms).collect();
        let mean = || known.iter().sum::<f64>() / number(known.len());
        let latency =
            |one: &Seen| if known.is_empty() { 1.0 } else { one.latency_ms.unwrap_or_else(mean) };
        let price = |one: &Seen| self.candidates[one.candidate].price.unwrap_or(1.0);
        let least = seen.iter().map(latency).fold(f64::INFINITY, f64::min);
        let lowest = seen.iter().map(price).fold(f64::INFINITY, f64::min);
        let Weights { capacity, latency: by_latency, price: by_price } = self.weights;
        let capacity = if seen.iter().all(|one| one.free.is_some()) { capacity } else { 0.0 };
        let weights = capacity + by_latency + by_price;
        let score = |one: &Seen| {
            let sum = capacity * one.free.unwrap_or(0.0)
                + by_latency * ratio(least, latency(one))
                + by_price * ratio(lowest, price(one));
            if weights == 0.0 { 0.0 } else { sum / weights }
        };
        seen.iter().map(score).collect()
    }

    /// What a text such as `a=120,b=85` says of a candidate's latency in milliseconds. What can't be read
    /// says nothing: it is the request's own.
    pub fn told_latency(&self, text: &str, candidate: usize) -> Option<f64> {
        let name = &*self.candidates[candidate].name;
        let mut pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        let (_, ms) = pairs.find(|(told, _)| told.trim() == name)?;
        ms.trim().parse().ok().filter(|ms| (0.0..=LATENCY_MS_MAX).contains(ms))
    }

    /// In the words of the policy.
    pub(super) fn describe(&self) -> Value {
        let candidate = |one: &Candidate| json!({ "name": one.name, "price": one.price, "latency_ms": one.latency_ms });
        let Weights { capacity, latency, price } = self.weights;
        json!({
            "key": self.key,
            "value": self.value,
            "among": self.candidates.iter().map(candidate).collect::<Value>(),
            "weights": { "capacity": capacity, "latency": latency, "price": price },
            "latency_key": self.latency_key,
            "header": self.header,
        })
    }
}

impl Candidate {
    fn new(
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
    fn new(reader: &mut Reader<'_>, file: Option<&Spanned<WeightsFile>>) -> Self {
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
            reader.error(file.span.clone(), "all weights are 0: nothing is left to choose by");
        }
        weights
    }
}

/// What holds for the prices of a choice together.
#[derive(Default)]
struct Prices {
    /// The first one's currency.
    currency: Option<String>,
}

impl Prices {
    /// Reads a price, and notes what is wrong with it.
    fn read(&mut self, reader: &mut Reader<'_>, text: &Spanned<String>) -> Option<f64> {
        let Some((price, currency)) = parse_price(&text.value) else {
            let message = format!(
                "`{}` is no price; write a number with up to six digits after the point, such as 12, 0.35 or 12.50 EUR",
                text.value
            );
            reader.error(text.span.clone(), message);
            return None;
        };
        let first = self.currency.get_or_insert_with(|| currency.to_owned());
        if first != currency {
            let message = format!("`{}` is not in the unit of the prices before it", text.value);
            reader.error(text.span.clone(), message);
        }
        Some(price)
    }

    /// Either all candidates have a price or none.
    fn check(
        &self,
        reader: &mut Reader<'_>,
        among: &Spanned<Vec<(Spanned<String>, CandidateFile)>>,
    ) {
        let without = among.value.iter().filter(|(_, candidate)| candidate.price.is_none());
        for (name, _) in without.filter(|_| self.currency.is_some()) {
            let message = format!("`{}` has no price, though others have one", name.value);
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

/// What has no effect in a choice of a compiled domain: names that no rule limits, and a rule for the value that
/// is never met.
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
            RuleValue::Any => true,
        })
    };
    let mut problems = Vec::new();
    for (name, _) in among.value.iter().filter(|(name, _)| !meets(&name.value)) {
        let message = format!("no rule is for `{}={}`: nothing limits it", key.value, name.value);
        problems.push(Problem::at(source, Severity::Warning, name.span.clone(), message));
    }
    let own = |rule: &&RuleValue| matches!(rule, RuleValue::Exact(exact) if *exact == value.value);
    if rules.iter().any(own) {
        let message =
            format!("a rule for `{}={}` is never met: it is a choice", key.value, value.value);
        problems.push(Problem::at(source, Severity::Warning, value.span.clone(), message));
    }
    problems
}

/// A name goes into a header and into a path.
fn check_name(reader: &mut Reader<'_>, name: &Spanned<String>, placeholder: &str) {
    if name.value.is_empty() {
        reader.error(name.span.clone(), "a name to choose is empty");
    } else if name.value == placeholder {
        let message = format!("`{placeholder}` stands for the choice; it can't be chosen");
        reader.error(name.span.clone(), message);
    }
}

/// How good a number is of which less is better; nothing is better than 0.
fn ratio(least: f64, own: f64) -> f64 {
    if own <= 0.0 { 1.0 } else { least / own }
}

fn boxed(text: &Option<Spanned<String>>) -> Option<Box<str>> {
    text.as_ref().map(|text| text.value.as_str().into())
}

/// The nearest number with a point.
fn number(whole: impl TryInto<u32>) -> f64 {
    whole.try_into().map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(weights: [f64; 3], prices: &[Option<f64>]) -> Choice {
        let [capacity, latency, price] = weights;
        let candidate = |(index, price): (usize, &Option<f64>)| Candidate {
            name: format!("c{index}").into(),
            price: *price,
            latency_ms: None,
        };
        Choice {
            key: "provider".into(),
            value: "any".into(),
            candidates: prices.iter().enumerate().map(candidate).collect(),
            latency_key: None,
            header: None,
            weights: Weights { capacity, latency, price },
        }
    }

    /// Scores in percent of candidates given as (free, latency, price).
    #[track_caller]
    fn check(
        weights: [f64; 3],
        candidates: &[(Option<f64>, Option<f64>, Option<f64>)],
        expected: &[u32],
    ) {
        let prices: Vec<_> = candidates.iter().map(|(_, _, price)| *price).collect();
        let seen = |(candidate, (free, latency_ms, _)): (usize, &(_, _, _))| Seen {
            candidate,
            free: *free,
            latency_ms: *latency_ms,
        };
        let seen: Vec<Seen> = candidates.iter().enumerate().map(seen).collect();
        let scores = choice(weights, &prices).scores(&seen);
        let percent: Vec<String> =
            scores.iter().map(|score| format!("{:.0}", score * 100.0)).collect();
        let expected: Vec<String> = expected.iter().map(u32::to_string).collect();
        assert_eq!(percent, expected, "{weights:?} {candidates:?}");
    }

    #[test]
    fn a_score_is_the_weighted_mean_of_free_capacity_and_ratios_to_the_best() {
        let some = |free, latency, price| (Some(free), Some(latency), Some(price));
        check([1.0, 1.0, 1.0], &[some(1.0, 100.0, 10.0), some(0.5, 200.0, 20.0)], &[100, 50]);
        check([2.0, 1.0, 1.0], &[some(0.5, 100.0, 10.0), some(1.0, 200.0, 20.0)], &[75, 75]);
        check([0.0, 0.0, 1.0], &[some(0.0, 900.0, 12.0), some(1.0, 1.0, 15.0)], &[100, 80]);
        check([1.0, 0.0, 0.0], &[some(0.25, 1.0, 0.0), some(0.75, 9.0, 9.0)], &[25, 75]);
    }

    #[test]
    fn what_is_not_known_favours_nobody() {
        let unknown = (Some(1.0), None, None);
        check([1.0, 1.0, 1.0], &[unknown, unknown], &[100, 100]);
        let latency = |ms| (Some(1.0), ms, None);
        check(
            [0.0, 1.0, 0.0],
            &[latency(Some(100.0)), latency(None), latency(Some(300.0))],
            &[100, 50, 33],
        );
    }

    #[test]
    fn nothing_beats_what_costs_or_takes_nothing() {
        let of = |latency, price| (Some(1.0), Some(latency), Some(price));
        check([0.0, 0.0, 1.0], &[of(1.0, 0.0), of(1.0, 5.0), of(1.0, 0.0)], &[100, 0, 100]);
        check([0.0, 1.0, 0.0], &[of(0.0, 1.0), of(9.0, 1.0)], &[100, 0]);
    }

    #[test]
    fn without_a_store_latency_and_price_decide() {
        let out = |latency| (None, Some(latency), Some(1.0));
        check([9.0, 1.0, 1.0], &[out(100.0), out(50.0)], &[75, 100]);
        check([9.0, 0.0, 0.0], &[out(100.0), out(50.0)], &[0, 0]);
    }

    #[test]
    fn a_request_tells_latencies_by_name() {
        let choice = choice([1.0, 1.0, 1.0], &[None, None]);
        let check = |text: &str, expected: [Option<f64>; 2]| {
            let told = [0, 1].map(|candidate| choice.told_latency(text, candidate));
            assert_eq!(told, expected, "{text}");
        };
        check("c0=120,c1=85.5", [Some(120.0), Some(85.5)]);
        check(" c1 = 7 ,x=1", [None, Some(7.0)]);
        for text in ["", "c0", "c0=", "c0=x", "c0=-1", "c0=NaN", "c0=inf", "c0=1e300"] {
            check(text, [None, None]);
        }
    }

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
