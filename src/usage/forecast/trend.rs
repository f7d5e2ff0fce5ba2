//! Whether a series rises or falls, and by how much a step.

use std::cmp::Ordering;

/// The two-sided 5 % quantile of the normal distribution.
const Z_TWO_SIDED_5_PERCENT: f64 = 1.96;

/// The direction of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trend {
    Rising,
    Falling,
    Steady,
}

/// The direction of a series by the Mann-Kendall test, two-sided at 5 %: whether later values are larger than earlier ones
/// more often than in a random order. It asks for no distribution, and a few spikes don't move it.
/// (H. B. Mann, Econometrica 13 (1945); the variance with ties: M. G. Kendall, Rank Correlation Methods (1975).)
pub fn trend(values: &[f64]) -> Trend {
    let n = count(values.len());
    let (mut score, mut ties) = (0.0_f64, 0.0_f64);
    for (index, earlier) in values.iter().enumerate() {
        for later in &values[index + 1..] {
            score += match later.total_cmp(earlier) {
                Ordering::Greater => 1.0,
                Ordering::Equal => 0.0,
                Ordering::Less => -1.0,
            };
        }
        // Each group of t equal values is counted t times, once from each of them.
        let equal = count(values.iter().filter(|value| value.total_cmp(earlier).is_eq()).count());
        ties += (equal - 1.0) * (2.0 * equal + 5.0);
    }
    let variance = (n * (n - 1.0) * (2.0 * n + 5.0) - ties) / 18.0;
    if variance <= 0.0 {
        return Trend::Steady;
    }
    // Corrected by 1 for continuity.
    let z = (score - score.signum() * f64::min(1.0, score.abs())) / variance.sqrt();
    match z {
        z if Z_TWO_SIDED_5_PERCENT < z => Trend::Rising,
        z if z < -Z_TWO_SIDED_5_PERCENT => Trend::Falling,
        _ => Trend::Steady,
    }
}

/// The change a step: the median of the slopes between any two values (Theil-Sen). 0 for fewer than two.
pub fn slope(values: &[f64]) -> f64 {
    let mut slopes = Vec::with_capacity(values.len() * values.len().saturating_sub(1) / 2);
    for (index, earlier) in values.iter().enumerate() {
        for (distance, later) in values[index + 1..].iter().enumerate() {
            slopes.push((later - earlier) / count(distance + 1));
        }
    }
    median(&mut slopes).unwrap_or_default()
}

/// The median; None of nothing.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], upper)
    } else {
        upper
    })
}

/// The mean; None of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / count(values.len()))
}

/// A number of values. Series are short.
pub fn count(len: usize) -> f64 {
    f64::from(u32::try_from(len).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Noise;
    use super::*;

    #[test]
    fn the_direction_is_that_of_most_pairs() {
        let line = |slope: f64| (0..10).map(|at| f64::from(at) * slope).collect::<Vec<_>>();
        assert_eq!(trend(&line(2.0)), Trend::Rising);
        assert_eq!(trend(&line(-2.0)), Trend::Falling);
        assert_eq!(trend(&line(0.0)), Trend::Steady);
        assert_eq!(trend(&[]), Trend::Steady);
        assert_eq!(trend(&[1.0, 2.0, 3.0]), Trend::Steady, "too few to be sure");
        let mut spiked = line(1.0);
        spiked[2] = 1_000.0;
        assert_eq!(trend(&spiked), Trend::Rising, "one spike is one value");
        assert!((slope(&spiked) - 1.0).abs() < 0.1);
    }

    /// The score and the variance of a published example with ties: Gilbert, Statistical Methods for Environmental Pollution
    /// Monitoring (1987), section 16.4: 23, 24, 29, 6, 29, 24, 24, 29, 23 has groups of 2, 3 and 3 equal values.
    #[test]
    fn equal_values_make_the_variance_smaller() {
        let values = [23.0, 24.0, 29.0, 6.0, 29.0, 24.0, 24.0, 29.0, 23.0];
        assert_eq!(trend(&values), Trend::Steady);
        // 9 values rising by steps of equal pairs: 32 of 36 pairs rise, and Z is 3.1.
        let steps = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0];
        assert_eq!(trend(&steps), Trend::Rising);
    }

    #[test]
    fn noise_is_steady_19_times_of_20() {
        let mut noise = Noise::new(7);
        let found = (0..1_000)
            .filter(|_| {
                let values: Vec<f64> = (0..28).map(|_| noise.next()).collect();
                trend(&values) != Trend::Steady
            })
            .count();
        assert!((30..=70).contains(&found), "{found} of 1,000");
    }
}
