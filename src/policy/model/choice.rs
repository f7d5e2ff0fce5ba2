//! Choices: how the best of several values, such as providers, is selected for a request.
//!
//! A score is a weighted mean of three parts, each from 0 to 1: simple additive weighting with ratios to the best
//! (Hwang and Yoon, Multiple Attribute Decision Making, 1981). It needs no scales, only the weights of the parts.

use smallvec::SmallVec;

/// Maximum latency: a day.
pub const LATENCY_MS_MAX: f64 = 86_400_000.0;

/// An entry that is replaced by the best of several values.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The entry's key.
    pub key: Box<str>,
    /// The value that requests a choice.
    pub value: Box<str>,
    /// In the order of the file.
    pub candidates: Vec<Candidate>,
    /// The key of the entry with latencies.
    pub latency_key: Option<Box<str>>,
    /// The header with the chosen name, for the upstream.
    pub header: Option<Box<str>>,
    pub weights: Weights,
}

/// A candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub name: Box<str>,
    pub price: Option<f64>,
    /// The assumed latency until one is known.
    pub latency_ms: Option<f64>,
}

/// The weights of the parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    pub capacity: f64,
    pub latency: f64,
    pub price: f64,
}

/// The state of a candidate for one decision.
#[derive(Clone, Copy, Debug)]
pub struct CandidateFigures {
    /// Its index.
    pub candidate: usize,
    /// The free part of its limits, from 0 to 1; None while the store is unavailable.
    pub free: Option<f64>,
    pub latency_ms: Option<f64>,
}

impl Choice {
    /// Whether a descriptor with these entries has an open choice.
    pub fn is_left_by(&self, entries: &[(&str, &str)]) -> bool {
        entries.contains(&(&*self.key, &*self.value))
    }

    /// The score of each candidate, from 0 to 1; higher is better:
    ///
    /// ```text
    /// score = (w_capacity * free + w_latency * least / latency + w_price * lowest / price)
    ///         / (w_capacity + w_latency + w_price)
    /// ```
    ///
    /// `least` and `lowest` are those of the given candidates. An unknown latency counts as the mean of the known ones.
    /// A value of 0 is optimal. While the store is unavailable, capacity is ignored.
    pub fn scores(&self, figures: &[CandidateFigures]) -> SmallVec<[f64; 4]> {
        let known: SmallVec<[f64; 4]> = figures.iter().filter_map(|one| one.latency_ms).collect();
        let mean = || known.iter().sum::<f64>() / number(known.len());
        let latency = |one: &CandidateFigures| {
            if known.is_empty() { 1.0 } else { one.latency_ms.unwrap_or_else(mean) }
        };
        let price = |one: &CandidateFigures| self.candidates[one.candidate].price.unwrap_or(1.0);
        let least = figures.iter().map(latency).fold(f64::INFINITY, f64::min);
        let lowest = figures.iter().map(price).fold(f64::INFINITY, f64::min);
        let Weights { capacity, latency: by_latency, price: by_price } = self.weights;
        let capacity = if figures.iter().all(|one| one.free.is_some()) { capacity } else { 0.0 };
        let weights = capacity + by_latency + by_price;
        let score = |one: &CandidateFigures| {
            let sum = capacity * one.free.unwrap_or(0.0)
                + by_latency * ratio(least, latency(one))
                + by_price * ratio(lowest, price(one));
            if weights == 0.0 { 0.0 } else { sum / weights }
        };
        figures.iter().map(score).collect()
    }

    /// The latency of a candidate in milliseconds, in a text such as `a=120,b=85`. Invalid parts are ignored: the text
    /// comes from the request.
    pub fn reported_latency(&self, text: &str, candidate: usize) -> Option<f64> {
        let name = &*self.candidates[candidate].name;
        let mut pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        let (_, ms) = pairs.find(|(reported, _)| reported.trim() == name)?;
        ms.trim().parse().ok().filter(|ms| (0.0..=LATENCY_MS_MAX).contains(ms))
    }
}

/// The score of a number if less is better; 0 is optimal.
fn ratio(least: f64, own: f64) -> f64 {
    if own <= 0.0 { 1.0 } else { least / own }
}

/// The nearest floating-point number.
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
        let figures = |(candidate, (free, latency_ms, _)): (usize, &(_, _, _))| CandidateFigures {
            candidate,
            free: *free,
            latency_ms: *latency_ms,
        };
        let figures: Vec<CandidateFigures> = candidates.iter().enumerate().map(figures).collect();
        let scores = choice(weights, &prices).scores(&figures);
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
    fn an_unknown_latency_or_price_is_neutral() {
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
            let reported = [0, 1].map(|candidate| choice.reported_latency(text, candidate));
            assert_eq!(reported, expected, "{text}");
        };
        check("c0=120,c1=85.5", [Some(120.0), Some(85.5)]);
        check(" c1 = 7 ,x=1", [None, Some(7.0)]);
        for text in ["", "c0", "c0=", "c0=x", "c0=-1", "c0=NaN", "c0=inf", "c0=1e300"] {
            check(text, [None, None]);
        }
    }
}
