//! What was spent step by step, and what the next steps are expected to spend.

use super::trend::{Trend, count, mean, median, slope, trend};

/// The seasons from which the shares of weekdays (or hours) are known.
const SEASONS_MIN: usize = 3;
/// The seasons that the shares are taken from.
const SEASONS_OF_SHARES: usize = 8;
/// The seasons that trend and errors are taken from.
const SEASONS_RECENT: usize = 4;
/// Steps with a smaller share say nothing about the level.
const SHARE_MIN: f64 = 0.1;
/// What remains of a trend after one more step: it does not go on for ever.
const DAMPING: f64 = 0.95;

/// What repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Season {
    /// Steps are days.
    Week,
    /// Steps are hours.
    Day,
}

/// What was spent in each whole step, the oldest first.
#[derive(Clone, Debug)]
pub struct History {
    pub season: Season,
    /// The number of the first step since the epoch.
    pub first: u64,
    pub spent: Vec<f64>,
}

/// What the steps after a history are expected to spend.
#[derive(Clone, Debug)]
pub struct Forecast {
    season: Season,
    /// The number of the step after the history.
    next: u64,
    /// The mean of a step over the last season.
    pub level: f64,
    pub trend: Trend,
    /// The change of the level a step; 0 if it is steady.
    pub change: f64,
    /// The share of each step of a season, relative to their mean. The first is that of step 0 of the epoch: Thursday, or
    /// midnight.
    pub shares: Vec<f64>,
    /// The standard deviation of the errors of a single step.
    pub error: f64,
}

impl Season {
    /// Its steps.
    pub fn steps(self) -> usize {
        match self {
            Self::Week => 7,
            Self::Day => 24,
        }
    }

    /// The length of a step in milliseconds.
    pub fn step_ms(self) -> u64 {
        match self {
            Self::Week => 24 * 3_600_000,
            Self::Day => 3_600_000,
        }
    }

    fn position(self, step: u64) -> usize {
        usize::try_from(step % u64::try_from(self.steps()).unwrap_or(1)).unwrap_or_default()
    }
}

impl History {
    /// What is expected after it; None before a whole season is known.
    pub fn forecast(&self) -> Option<Forecast> {
        let shares = self.shares();
        let forecast = self.forecast_with(&shares, self.spent.len())?;
        Some(Forecast { error: self.error(&shares), ..forecast })
    }

    /// The forecast from the first `len` steps, without its error.
    fn forecast_with(&self, shares: &[f64], len: usize) -> Option<Forecast> {
        let known = &self.spent[..len];
        let season = self.season.steps();
        let level = mean(&known[known.len().checked_sub(season)?..])?;
        let recent_from = known.len().saturating_sub(SEASONS_RECENT * season);
        let recent: Vec<f64> = (recent_from..len)
            .map(|index| (known[index], shares[self.position(index)]))
            .filter(|(_, share)| SHARE_MIN <= *share)
            .map(|(spent, share)| spent / share)
            .collect();
        let trend = trend(&recent);
        let change = if trend == Trend::Steady { 0.0 } else { slope(&recent) };
        Some(Forecast {
            season: self.season,
            next: self.first + u64::try_from(len).unwrap_or_default(),
            level,
            trend,
            change,
            shares: shares.to_vec(),
            error: 0.0,
        })
    }

    /// The share of each step of a season: the median over the last seasons of what it is to the mean of its season. All are 1
    /// while too few seasons are known.
    fn shares(&self) -> Vec<f64> {
        let len = self.season.steps();
        let equal = vec![1.0; len];
        let seasons = self.spent.rchunks_exact(len).take(SEASONS_OF_SHARES);
        if seasons.len() < SEASONS_MIN {
            return equal;
        }
        let mut found = vec![Vec::new(); len];
        for (back, season) in seasons.enumerate() {
            let Some(mean) = mean(season).filter(|mean| 0.0 < *mean) else { continue };
            let start = self.spent.len() - (back + 1) * len;
            for (index, spent) in season.iter().enumerate() {
                found[self.position(start + index)].push(spent / mean);
            }
        }
        let medians: Vec<f64> =
            found.iter_mut().map(|shares| median(shares).unwrap_or(1.0)).collect();
        match mean(&medians) {
            Some(mean) if 0.0 < mean => medians.iter().map(|share| share / mean).collect(),
            _ => equal,
        }
    }

    /// The standard deviation of the errors of the next step, had each of the last seasons' steps been forecast.
    fn error(&self, shares: &[f64]) -> f64 {
        let len = self.spent.len();
        let from =
            len.saturating_sub(SEASONS_RECENT * self.season.steps()).max(self.season.steps());
        let errors: Vec<f64> = (from..len)
            .filter_map(|index| {
                let forecast = self.forecast_with(shares, index)?;
                Some((forecast.step(0) - self.spent[index]).powi(2))
            })
            .collect();
        let level =
            mean(&self.spent[len.saturating_sub(self.season.steps())..]).unwrap_or_default();
        match mean(&errors) {
            // With few errors they may be small by chance.
            Some(square) if self.season.steps() <= errors.len() => square.sqrt(),
            square => square.unwrap_or_default().sqrt().max(level.max(1.0).sqrt()),
        }
    }

    fn position(&self, index: usize) -> usize {
        self.season.position(self.first + u64::try_from(index).unwrap_or_default())
    }
}

impl Forecast {
    /// What a step is expected to spend: 0 is the one after the history.
    pub fn step(&self, ahead: usize) -> f64 {
        let len = self.season.steps();
        let position = self.season.position(self.next + u64::try_from(ahead).unwrap_or_default());
        // The level is that of the middle of the last season.
        let steps = count(ahead) + f64::midpoint(count(len), 1.0);
        let damped = (1.0 - DAMPING.powf(steps)) / (1.0 - DAMPING);
        (self.level + self.change * damped).max(0.0) * self.shares[position]
    }

    /// The standard deviation of the sum of so many steps from the next on: each has an error of its own, and that of the level
    /// is common to them.
    pub fn deviation(&self, steps: f64) -> f64 {
        self.error * (steps + steps * steps / count(self.season.steps())).sqrt()
    }

    /// The season.
    pub fn season(&self) -> Season {
        self.season
    }

    /// The number of the first step that it is about.
    pub fn next(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Noise;
    use super::*;

    /// The mean absolute error of the next 7 days, and those of two naive forecasts: the last day again, and the same day of
    /// the week before.
    struct Errors {
        ours: f64,
        last: f64,
        week_before: f64,
    }

    /// Forecasts a week again and again over a series of 15 weeks, from the 5th week on.
    fn errors(value: impl Fn(usize) -> f64, noise: f64) -> Errors {
        let mut random = Noise::new(11);
        let days = 15 * 7;
        let series: Vec<f64> =
            (0..days).map(|day| (value(day) * (1.0 + noise * random.next())).max(0.0)).collect();
        let mut sums = Errors { ours: 0.0, last: 0.0, week_before: 0.0 };
        for from in 28..days - 7 {
            let history =
                History { season: Season::Week, first: 0, spent: series[..from].to_vec() };
            let forecast = history.forecast().unwrap();
            for ahead in 0..7 {
                let truth = series[from + ahead];
                sums.ours += (forecast.step(ahead) - truth).abs();
                sums.last += (series[from - 1] - truth).abs();
                sums.week_before += (series[from + ahead - 7] - truth).abs();
            }
        }
        sums
    }

    fn weekly(day: usize) -> f64 {
        if day % 7 < 5 { 1_000.0 } else { 200.0 }
    }

    #[test]
    fn known_series_are_forecast_better_than_by_naive_methods() {
        let check = |name: &str, value: &dyn Fn(usize) -> f64, [last, week_before]: [f64; 2]| {
            let errors = errors(value, 0.1);
            let ratios = [errors.ours / errors.last, errors.ours / errors.week_before];
            assert!(ratios[0] < last && ratios[1] < week_before, "{name}: {ratios:.2?}");
        };
        check("steady", &|_| 1_000.0, [0.9, 0.9]);
        check("weekly", &weekly, [0.25, 0.95]);
        check("rising", &|day| 500.0 + 20.0 * count(day), [1.0, 0.9]);
        check("weekly and rising", &|day| weekly(day) * (1.0 + 0.02 * count(day)), [0.35, 0.9]);
        check("falling", &|day| 3_000.0 - 25.0 * count(day), [1.0, 0.9]);
    }

    #[test]
    fn exact_patterns_are_continued_exactly() {
        let history = History {
            season: Season::Week,
            first: 20_000,
            spent: (0..28).map(|day| weekly(day + 3)).collect(),
        };
        let forecast = history.forecast().unwrap();
        assert_eq!(forecast.trend, Trend::Steady);
        for ahead in 0..14 {
            let expected = weekly(28 + 3 + ahead);
            assert!((forecast.step(ahead) - expected).abs() < 1e-9, "{ahead}");
        }
        assert!(forecast.deviation(7.0) < 1e-9);
    }

    #[test]
    fn too_little_is_no_forecast() {
        let history = |spent: Vec<f64>| History { season: Season::Week, first: 0, spent };
        assert!(history(vec![1.0; 6]).forecast().is_none());
        assert!(history(Vec::new()).forecast().is_none());
        let forecast = history(vec![4.0; 7]).forecast().unwrap();
        assert_eq!(forecast.shares, [1.0; 7], "a week says nothing about weekdays");
        assert!(0.0 < forecast.error, "a week is not certain because it was even");
    }

    #[test]
    fn nothing_spent_is_nothing_expected() {
        let history = History { season: Season::Day, first: 5, spent: vec![0.0; 100] };
        let forecast = history.forecast().unwrap();
        assert_eq!((forecast.step(0), forecast.step(50)), (0.0, 0.0));
        assert_eq!((forecast.trend, forecast.level), (Trend::Steady, 0.0));
    }

    #[test]
    fn the_interval_holds_four_times_of_five() {
        let mut random = Noise::new(3);
        let (mut inside, mut all) = (0, 0);
        for _ in 0..300 {
            let series: Vec<f64> =
                (0..35).map(|day| weekly(day) * (1.0 + 0.2 * random.next())).collect();
            let (known, coming) = series.split_at(28);
            let history = History { season: Season::Week, first: 0, spent: known.to_vec() };
            let forecast = history.forecast().unwrap();
            let expected: f64 = (0..7).map(|ahead| forecast.step(ahead)).sum();
            let truth: f64 = coming.iter().sum();
            let half = super::super::outlook::Z_80_PERCENT * forecast.deviation(7.0);
            inside += usize::from((expected - truth).abs() <= half);
            all += 1;
        }
        assert!(all * 7 / 10 <= inside, "{inside} of {all}");
    }
}
