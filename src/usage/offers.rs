//! Compares the providers of one kind of request: which is the cheapest, which is the best, and what a switch would save.

/// Largest number of parts of a score.
pub const PARTS: [&str; 4] = ["price", "latency", "success", "capacity"];

/// A provider that can serve a kind of request, and what is known of it.
#[derive(Clone, Debug)]
pub struct Offer {
    pub provider: String,
    /// The price in micro-units.
    pub micros: u64,
    /// The number of hits that the price is for; None if it is for a request.
    pub per: Option<u64>,
    pub latency_ms: Option<f64>,
    /// The part of its requests that passed, from 0 to 1.
    pub success: Option<f64>,
    /// The free part of its fullest limit, from 0 to 1.
    pub free: Option<f64>,
    /// What was spent there on this kind of request, in micro-units.
    pub spent: u64,
}

/// The score of an offer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// From 0 to 1; higher is better.
    pub total: f64,
    /// The parts in the order of [`PARTS`]; None if it is known of no offer.
    pub parts: [Option<f64>; PARTS.len()],
}

/// The index of the offer with the lowest price; of equal ones, the first.
pub fn cheapest(offers: &[Offer]) -> Option<usize> {
    (0..offers.len()).reduce(|best, other| {
        let is_lower = offers[other].price() < offers[best].price();
        if is_lower { other } else { best }
    })
}

/// The score of each offer: the mean of the parts that are known of any offer. Price and latency are ratios of the lowest one
/// to the own one. What is unknown of an offer counts as the mean of the others.
pub fn scores(offers: &[Offer]) -> Vec<Score> {
    let columns = [
        ratios(offers.iter().map(|offer| Some(offer.price().as_f64())).collect()),
        ratios(offers.iter().map(|offer| offer.latency_ms).collect()),
        filled(offers.iter().map(|offer| offer.success).collect()),
        filled(offers.iter().map(|offer| offer.free).collect()),
    ];
    let score = |index: usize| {
        let parts = [0, 1, 2, 3].map(|part: usize| columns[part].get(index).copied().flatten());
        let known: Vec<f64> = parts.into_iter().flatten().collect();
        let count = known.iter().fold(0.0, |count, _| count + 1.0);
        Score { total: known.iter().sum::<f64>() / f64::max(count, 1.0), parts }
    };
    (0..offers.len()).map(score).collect()
}

/// The index of the best offer, and the parts in which no other one is better.
pub fn best(scores: &[Score]) -> Option<(usize, Vec<&'static str>)> {
    let best = (0..scores.len()).reduce(|best, other| {
        if scores[best].total < scores[other].total { other } else { best }
    })?;
    let leads = |part: usize| {
        let own = scores[best].parts[part];
        own.is_some() && scores.iter().all(|score| score.parts[part] <= own)
    };
    let parts = PARTS.into_iter().enumerate().filter(|(part, _)| leads(*part));
    Some((best, parts.map(|(_, name)| name).collect()))
}

/// What would not have been spent at an offer at the price of another one, in micro-units, rounded down:
/// `spent * (1 - other price / own price)`.
pub fn saving(own: &Offer, other: &Offer) -> u64 {
    let (own_price, other_price) = (own.price(), other.price());
    if own_price <= other_price {
        return 0;
    }
    // The price of the other is a part of the own one: micros/per over micros/per.
    let numerator = u128::from(other.micros) * u128::from(own_price.per);
    let denominator = u128::from(own.micros) * u128::from(other_price.per);
    let spent = u128::from(own.spent);
    let at_other = spent.checked_mul(numerator).map(|product| product.div_ceil(denominator));
    let at_other = at_other.unwrap_or(spent);
    u64::try_from(spent.saturating_sub(at_other)).unwrap_or(u64::MAX)
}

/// The price of a hit or a request.
#[derive(Clone, Copy, Debug)]
struct Price {
    micros: u64,
    per: u64,
}

impl Offer {
    fn price(&self) -> Price {
        Price { micros: self.micros, per: self.per.unwrap_or(1).max(1) }
    }
}

impl Price {
    fn as_f64(self) -> f64 {
        self.micros as f64 / self.per as f64
    }
}

impl PartialEq for Price {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other).is_some_and(std::cmp::Ordering::is_eq)
    }
}

impl PartialOrd for Price {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        let own = u128::from(self.micros) * u128::from(other.per);
        Some(own.cmp(&(u128::from(other.micros) * u128::from(self.per))))
    }
}

/// The ratio of the lowest value to each one; 0 is the best.
fn ratios(values: Vec<Option<f64>>) -> Vec<Option<f64>> {
    let values = filled(values);
    let lowest = values.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let ratio = |own: f64| if own <= 0.0 { 1.0 } else { lowest / own };
    values.into_iter().map(|value| value.map(ratio)).collect()
}

/// The values, with the mean of the known ones for those that are unknown; all None if none is known.
fn filled(values: Vec<Option<f64>>) -> Vec<Option<f64>> {
    let (sum, count) =
        values.iter().flatten().fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    let mean = (0.0 < count).then(|| sum / count);
    values.into_iter().map(|value| value.or(mean)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(provider: &str, micros: u64) -> Offer {
        Offer {
            provider: provider.to_owned(),
            micros,
            per: None,
            latency_ms: None,
            success: None,
            free: None,
            spent: 0,
        }
    }

    #[test]
    fn the_cheapest_has_the_lowest_price_of_a_hit() {
        let per = |micros, per| Offer { per: Some(per), ..offer("x", micros) };
        let check = |offers: &[Offer], expected| assert_eq!(cheapest(offers), expected);
        check(&[], None);
        check(&[offer("a", 3), offer("b", 2), offer("c", 2)], Some(1));
        check(&[per(20, 1_000), per(3, 100), per(19, 1_000)], Some(2));
    }

    #[test]
    fn the_best_is_that_with_the_highest_mean_of_what_is_known() {
        let near = Offer { latency_ms: Some(100.0), free: Some(0.5), ..offer("near", 2) };
        let far = Offer { latency_ms: Some(400.0), free: Some(0.9), ..offer("far", 1) };
        let told = scores(&[near.clone(), far.clone()]);
        // Price 1/2, latency 1, capacity 0.5; price 1, latency 1/4, capacity 0.9.
        assert_eq!(told[0].parts, [Some(0.5), Some(1.0), None, Some(0.5)]);
        assert!(
            (told[0].total - 2.0 / 3.0).abs() < 1e-9 && (told[1].total - 2.15 / 3.0).abs() < 1e-9
        );
        assert_eq!(best(&told), Some((1, vec!["price", "capacity"])));
        let failing = Offer { success: Some(0.5), ..far };
        let told = scores(&[Offer { success: Some(1.0), ..near }, failing]);
        assert_eq!(best(&told), Some((0, vec!["latency", "success"])));
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn an_unknown_part_counts_as_the_mean_of_the_others() {
        let known = Offer { success: Some(0.5), ..offer("a", 1) };
        let told = scores(&[known, offer("b", 1), offer("c", 0)]);
        assert_eq!(told[1].parts[2], Some(0.5));
        // Nothing is better than a price of 0.
        assert_eq!([told[0].parts[0], told[2].parts[0]], [Some(0.0), Some(1.0)]);
    }

    #[test]
    fn a_saving_is_exact_and_never_negative() {
        let check = |own: (u64, Option<u64>, u64), other: (u64, Option<u64>), expected: u64| {
            let (micros, per, spent) = own;
            let own = Offer { per, spent, ..offer("own", micros) };
            let other = Offer { per: other.1, ..offer("other", other.0) };
            assert_eq!(saving(&own, &other), expected, "{own:?} {other:?}");
        };
        check((350_000, None, 1_050_000), (250_001, None), 299_997);
        check((2, None, 100), (3, None), 0);
        check((2, None, 100), (2, None), 0);
        check((20, Some(1_000), 40), (1, Some(100)), 20);
        check((3, None, 10), (1, None), 6);
        check((7, None, u64::MAX), (0, None), u64::MAX);
    }
}
