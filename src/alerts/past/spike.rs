//! Spikes: callers with more requests in an hour than in the same hour of the week before: the rule `spike`.
//!
//! The count of an hour is compared with the median of the counts in the same hour of the last 12 weeks. The difference is
//! told in deviations. A deviation is the median absolute deviation (MAD) of these counts, times 1.4826, which makes it the
//! standard deviation of normal counts, and a factor for few weeks. It is at least the square root of the median, as of
//! counts that are random alone, at least a tenth of the median, since a MAD of few weeks may be small by chance or 0, and
//! at least 1. A single spike in the past changes neither the median nor the MAD by much.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::hour::of_hour;
use super::names::{CallerOf, caller_of, labels, top_callers};
use super::sources::UsageSources;
use crate::alerts::conditions::Seen;
use crate::clock::Timestamp;
use crate::policy::AlertRule;
use crate::store::sums::SumsError;
use crate::usage::{Dimension, Granularity, Rank, UsageQuery};

/// Weeks before an hour that it is compared with.
pub const WEEKS: u64 = 12;

/// Weeks without which nothing is said.
const WEEKS_MIN: usize = 4;

/// Hours of a week.
const HOURS_OF_WEEK: u64 = 168;

/// The standard deviation of a normal distribution by its MAD.
const MAD_TO_DEVIATION: f64 = 1.4826;

/// Factors by which the MAD of 4 to 9 values is too small on average (Croux and Rousseeuw, 1992). Beyond that, it is `n / (n -
/// 0.8)`.
const MAD_OF_FEW: [f64; 6] = [1.363, 1.206, 1.2, 1.14, 1.129, 1.107];

/// The least deviation, as a part of the median.
const DEVIATION_MIN: f64 = 0.1;

/// The past of callers, so that it is read once an hour.
#[derive(Debug, Default)]
pub struct SpikePast {
    /// By the number of an hour: the counts of the same hour of the weeks before, newest first.
    hours: BTreeMap<u64, HashMap<CallerOf, Vec<u64>>>,
}

/// How many deviations a count is above the median of the weeks before, newest first. None: the caller had requests in this
/// hour for the first time less than 4 weeks ago.
pub fn deviations(count: u64, weeks: &[u64]) -> Option<f64> {
    let known = weeks.iter().rposition(|count| *count != 0)? + 1;
    if known < WEEKS_MIN {
        return None;
    }
    let mut counts: Vec<f64> = weeks[..known].iter().map(|count| *count as f64).collect();
    let median = median(&mut counts);
    let mut distances: Vec<f64> = counts.iter().map(|count| (count - median).abs()).collect();
    let of_few = known.checked_sub(WEEKS_MIN).and_then(|place| MAD_OF_FEW.get(place));
    let factor = of_few.copied().unwrap_or_else(|| known as f64 / (known as f64 - 0.8));
    let mad = self::median(&mut distances) * MAD_TO_DEVIATION * factor;
    let deviation = mad.max(median.sqrt()).max(median * DEVIATION_MIN).max(1.0);
    Some((count as f64 - median) / deviation)
}

/// The median; the values are sorted then. Never of none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

impl SpikePast {
    /// The deviations of the busiest callers in this hour and in the one before, whichever are more: so an alert does not
    /// resolve because an hour begins.
    ///
    /// # Errors
    /// If usage can't be read.
    pub async fn spikes(
        &mut self,
        sources: &UsageSources,
        rule: &AlertRule,
        now: Timestamp,
    ) -> Result<Vec<Seen>, SumsError> {
        let this = Granularity::Hour.number(now);
        self.hours.retain(|hour, _| this <= *hour + 1);
        let mut most: BTreeMap<CallerOf, f64> = BTreeMap::new();
        for hour in [this, this.saturating_sub(1)] {
            for (caller, count) in busiest(sources, rule, (hour, now)).await? {
                let known = self.hours.entry(hour).or_default();
                if !known.contains_key(&caller) {
                    let weeks = weeks_before(sources, &caller, (hour, now)).await?;
                    known.insert(caller.clone(), weeks);
                }
                if let Some(value) = known.get(&caller).and_then(|weeks| deviations(count, weeks)) {
                    let most = most.entry(caller).or_insert(value);
                    *most = most.max(value);
                }
            }
        }
        Ok(most
            .into_iter()
            .map(|(caller, value)| Seen { labels: labels(&caller), value })
            .collect())
    }
}

/// The callers with the most requests in an hour, and with enough of them.
async fn busiest(
    sources: &UsageSources,
    rule: &AlertRule,
    (hour, now): (u64, Timestamp),
) -> Result<Vec<(CallerOf, u64)>, SumsError> {
    let query = top_callers(rule, Rank::Requests, of_hour(hour));
    let page = sources.read(&Arc::new(query), now).await?;
    let groups = page.groups.iter();
    let groups =
        groups.filter_map(|(group, total)| Some((caller_of(group)?, total.counts.requests)));
    Ok(groups.filter(|(_, requests)| rule.least <= *requests).collect())
}

/// The requests of a caller in the same hour of the weeks before, newest first.
async fn weeks_before(
    sources: &UsageSources,
    (domain, caller): &CallerOf,
    (hour, now): (u64, Timestamp),
) -> Result<Vec<u64>, SumsError> {
    let mut weeks = Vec::new();
    for week in 1..=WEEKS {
        let before = hour.saturating_sub(week * HOURS_OF_WEEK);
        let start = Granularity::Hour.start_of(before);
        if sources.sums.is_none() || start < sources.retention.oldest(Granularity::Hour, now) {
            break;
        }
        let filters =
            vec![(Dimension::Domain, domain.clone()), (Dimension::Caller, caller.clone())];
        let query = Arc::new(UsageQuery { filters, ..of_hour(before) });
        let page = sources.read(&query, now).await?;
        weeks.push(page.groups.iter().map(|(_, total)| total.counts.requests).sum());
    }
    Ok(weeks)
}

/// The counts of the same hour of the weeks before in the counts of all hours, newest first.
pub fn weeks_of(hours: &BTreeMap<u64, u64>, hour: u64) -> Vec<u64> {
    let before = (1..=WEEKS).filter_map(|week| hour.checked_sub(week * HOURS_OF_WEEK));
    before.map(|hour| hours.get(&hour).copied().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::alerts::past::testing::{Counted, rule};

    #[test]
    fn a_count_is_compared_with_the_same_hour_of_earlier_weeks() {
        let check = |count: u64, weeks: &[u64], expected: Option<f64>| {
            let found = deviations(count, weeks);
            let is_near =
                found.zip(expected).is_some_and(|(one, other)| (one - other).abs() < 0.01);
            assert!(is_near || found == expected, "{count} {weeks:?}: {found:?}");
        };
        // The median is 1,000 and the MAD 100.
        check(1_894, &[900, 1_100, 1_000, 1_100, 900], Some(5.0));
        check(1_000, &[900, 1_100, 1_000, 1_100, 900], Some(0.0));
        check(821, &[900, 1_100, 1_000, 1_100, 900], Some(-1.0));
        // A MAD of 0: a deviation is a tenth of the median, or its root, or 1.
        check(1_600, &[1_000; 12], Some(6.0));
        check(76, &[16; 12], Some(15.0));
        check(7, &[0, 0, 0, 0, 0, 1], Some(7.0));
        // An old spike hides no new one.
        check(1_600, &[1_000, 1_000, 90_000, 1_000, 1_000], Some(6.0));
        // Not enough weeks, or none.
        check(9_000, &[1_000, 1_000, 1_000], None);
        check(9_000, &[1_000, 1_000, 1_000, 0, 0, 0, 0], None);
        check(9_000, &[0; 12], None);
        check(9_000, &[], None);
        check(u64::MAX, &[u64::MAX; 4], Some(0.0));
    }

    #[tokio::test]
    async fn a_spike_of_a_caller_is_seen_from_stored_usage() {
        const WEEK: Duration = Duration::from_secs(3_600 * HOURS_OF_WEEK);
        let policy =
            "{domain: d, caller: {key: user}, descriptors: [{key: user, limits: [1/hour]}]}";
        let counted = Counted::new(policy);
        let rule = rule("{ when: spike, above: 6, least: 10 }");
        let mut past = SpikePast::default();
        for week in 0..=4 {
            counted.ask(&["user=ann"], 16).await;
            counted.ask(&["user=bob"], 16).await;
            if week == 4 {
                counted.ask(&["user=ann"], 60).await;
                counted.ask(&["user=new"], 60).await;
                break;
            }
            assert_eq!(past.spikes(&counted.sources, &rule, counted.now()).await.unwrap(), []);
            counted.advance(WEEK);
        }
        let seen = past.spikes(&counted.sources, &rule, counted.now()).await.unwrap();
        let labels = |caller: &str| labels(&("d".to_owned(), caller.to_owned()));
        let expected = [("ann", 15.0), ("bob", 0.0)]
            .map(|(caller, value)| Seen { labels: labels(caller), value });
        assert_eq!(seen, expected);
        // The next hour has nothing yet, and the spike still counts.
        counted.advance(Duration::from_secs(3_600));
        assert_eq!(past.spikes(&counted.sources, &rule, counted.now()).await.unwrap(), expected);
        counted.advance(Duration::from_secs(3_600));
        assert_eq!(past.spikes(&counted.sources, &rule, counted.now()).await.unwrap(), []);
        assert!(past.hours.is_empty(), "the past is not kept");
    }

    #[test]
    fn the_weeks_before_an_hour_are_found() {
        let hours = BTreeMap::from([(832, 3), (664, 2), (663, 9), (496, 1)]);
        assert_eq!(weeks_of(&hours, 1_000)[..4], [3, 2, 1, 0]);
        assert!(weeks_of(&hours, 100).is_empty());
    }

    /// Draws numbers by SplitMix64: the same on every machine.
    struct Draw(u64);

    impl Draw {
        fn bits(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut bits = self.0;
            bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            bits ^ bits >> 31
        }

        /// From 0 to 1, without 0.
        fn part(&mut self) -> f64 {
            ((self.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
        }

        /// A normal number, by Box and Muller.
        fn normal(&mut self) -> f64 {
            let radius = (-2.0 * self.part().ln()).sqrt();
            radius * (std::f64::consts::TAU * self.part()).cos()
        }

        /// The number of random events if so many are expected.
        fn poisson(&mut self, expected: f64) -> f64 {
            if 50.0 <= expected {
                return (expected + expected.sqrt() * self.normal()).round().max(0.0);
            }
            let (least, mut product, mut count) = ((-expected).exp(), self.part(), 0.0);
            while least < product {
                product *= self.part();
                count += 1.0;
            }
            count
        }
    }

    /// A kind of traffic: how many requests are expected in an hour of a week.
    struct Traffic {
        name: &'static str,
        /// By the hour since the first one.
        expected: fn(u64) -> f64,
        /// The standard deviation of the logarithm of what is expected, beside the noise of counting.
        noise: f64,
        /// The part of hours with three times as much, which no one planted.
        bursts: f64,
    }

    /// Requests by day and by night, and fewer at weekends.
    fn by_day(hour: u64) -> f64 {
        let of_day = (hour % 24) as f64;
        let day = 1_000.0 * (1.2 - (std::f64::consts::TAU * (of_day - 2.0) / 24.0).cos());
        if hour % HOURS_OF_WEEK < 120 { day } else { day * 0.4 }
    }

    const TRAFFICS: [Traffic; 6] = [
        Traffic { name: "flat, 200 an hour", expected: |_| 200.0, noise: 0.0, bursts: 0.0 },
        Traffic {
            name: "by day and week, 200 to 2,200",
            expected: by_day,
            noise: 0.0,
            bursts: 0.0,
        },
        Traffic { name: "the same, 20 % noise", expected: by_day, noise: 0.2, bursts: 0.0 },
        Traffic { name: "the same, 40 % noise", expected: by_day, noise: 0.4, bursts: 0.0 },
        Traffic {
            name: "20 % noise, 3 times as much in 1 % of the hours",
            expected: by_day,
            noise: 0.2,
            bursts: 0.01,
        },
        Traffic {
            name: "20 % noise, 5 % more each week",
            expected: |hour| by_day(hour) * 1.05_f64.powf((hour / HOURS_OF_WEEK) as f64),
            noise: 0.2,
            bursts: 0.0,
        },
    ];

    const CALLERS: u64 = 100;
    const WEEKS_EVALUATED: u64 = 4;
    const ABOVE: f64 = 6.0;
    const LEAST: u64 = 100;

    impl Traffic {
        fn counts(&self, hours: u64, draw: &mut Draw) -> BTreeMap<u64, u64> {
            let count = |hour: u64| {
                let noise = (self.noise * draw.normal()).exp();
                let burst = if draw.part() < self.bursts { 3.0 } else { 1.0 };
                let count = draw.poisson((self.expected)(hour) * noise * burst);
                (hour, format!("{count}").parse().unwrap())
            };
            (0..hours).map(count).collect()
        }

        /// A row of the table: false alarms of a caller in a week, and the found part of spikes that are so many times as
        /// high as the hour.
        fn measured(&self, weeks: u64) -> String {
            let mut draw = Draw(7);
            let fires = |count: u64, counts: &BTreeMap<u64, u64>, hour: u64| {
                let known = &weeks_of(counts, hour)[..usize::try_from(weeks).unwrap()];
                LEAST <= count && deviations(count, known).is_some_and(|value| ABOVE < value)
            };
            let (mut alarms, mut found, mut planted) = (0, [0; 3], 0);
            for _ in 0..CALLERS {
                let first = WEEKS * HOURS_OF_WEEK;
                let last = first + WEEKS_EVALUATED * HOURS_OF_WEEK;
                let counts = self.counts(last, &mut draw);
                for hour in first..last {
                    alarms += u64::from(fires(counts[&hour], &counts, hour));
                    if hour % 24 == draw.bits() % 24 {
                        planted += 1;
                        for (times, found) in [2, 3, 5].into_iter().zip(&mut found) {
                            *found += u64::from(fires(counts[&hour] * times, &counts, hour));
                        }
                    }
                }
            }
            let alarms = alarms as f64 / (CALLERS * WEEKS_EVALUATED) as f64;
            let part =
                |found: u64| format!("{} %", (found as f64 * 100.0 / planted as f64).round());
            let [twice, thrice, five] = found.map(part);
            format!("| {} | {weeks} | {alarms:.2} | {twice} | {thrice} | {five} |", self.name)
        }
    }

    #[test]
    fn the_table_of_the_page_is_what_was_measured() {
        let page = include_str!("../../../config/alerts.md");
        let rows: Vec<String> = TRAFFICS
            .iter()
            .flat_map(|traffic| [4, 12].map(|weeks| traffic.measured(weeks)))
            .collect();
        for row in &rows {
            assert!(page.contains(row), "config/alerts.md does not have:\n{}", rows.join("\n"));
        }
    }
}
