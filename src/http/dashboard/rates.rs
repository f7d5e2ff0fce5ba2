//! Rates of the last seconds, from counters that only grow.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::metrics::{Answers, LatencyCounts, Metrics};

/// The time over which rates are told.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// The time over which shares and latencies are told, and the longest that counts are kept.
const WINDOW: Duration = Duration::from_secs(60);

/// The most counts that are kept: two a second.
const COUNTS_MAX: usize = 130;

/// Counters at a time.
#[derive(Clone, Copy, Debug)]
pub struct CountsAt {
    at: Timestamp,
    pub answers: Answers,
    latencies: LatencyCounts,
}

/// The counters of the last minute.
#[derive(Debug, Default)]
pub struct Recent(VecDeque<CountsAt>);

/// Rates of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Decisions a second, over 5 seconds.
    pub decisions: f64,
    /// The refused part of them over a minute, in percent; None without decisions.
    pub refused_percent: Option<f64>,
    /// The time to decide that 99 % don't exceed, over a minute; None without decisions.
    pub p99: Option<Duration>,
}

impl CountsAt {
    /// The counters now.
    pub fn read(metrics: &Metrics, at: Timestamp) -> Self {
        let (answers, latencies) = (metrics.answers(), metrics.check_duration.counts());
        Self { at, answers, latencies }
    }
}

impl Recent {
    /// Adds counters, and forgets those that are older than a minute.
    pub fn push(&mut self, counts: CountsAt) {
        let is_old = |old: &CountsAt| WINDOW < counts.at.since(old.at);
        while self.0.front().is_some_and(is_old) || COUNTS_MAX <= self.0.len() {
            self.0.pop_front();
        }
        self.0.push_back(counts);
    }

    /// The rates; None until there are two counts.
    pub fn rates(&self) -> Option<Rates> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        // If readings are late, since the one before.
        let before = self.0.iter().rev().nth(1)?;
        let is_recent = |counts: &&CountsAt| last.at.since(counts.at) <= RATE_WINDOW;
        let start = self.0.iter().find(is_recent).filter(|start| start.at < last.at);
        let start = start.unwrap_or(before);
        let elapsed = last.at.since(start.at);
        if elapsed.is_zero() {
            return None;
        }
        let decided = sum(last.answers).saturating_sub(sum(start.answers));
        let in_minute = sum(last.answers).saturating_sub(sum(first.answers));
        let refused = last.answers.over_limit.saturating_sub(first.answers.over_limit);
        Some(Rates {
            decisions: decided as f64 / elapsed.as_secs_f64(),
            refused_percent: (in_minute != 0).then(|| refused as f64 * 100.0 / in_minute as f64),
            p99: last.latencies.since(&first.latencies).quantile(0.99),
        })
    }
}

/// All decisions.
pub fn sum(answers: Answers) -> u64 {
    answers.ok + answers.over_limit + answers.error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let metrics = Metrics::new();
        let domain = metrics.domain("d");
        let mut recent = Recent::default();
        let mut push = |ms: u64| {
            recent.push(CountsAt::read(&metrics, Timestamp::from_ms(ms)));
            recent.rates()
        };
        assert_eq!(push(0), None);
        domain.ok.inc_by(30);
        domain.over_limit.inc_by(10);
        metrics.check_duration.observe(Duration::from_micros(2));
        let rates = push(500).unwrap();
        assert_eq!((rates.decisions, rates.refused_percent), (80.0, Some(25.0)));
        assert_eq!(rates.p99, Some(Duration::from_nanos(1_990)));
        let rates = push(20_000).unwrap();
        assert_eq!((rates.decisions, rates.refused_percent), (0.0, Some(25.0)));
        assert_eq!(push(70_000).unwrap(), Rates::default());
    }
}
