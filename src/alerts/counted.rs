//! Signals that are counted over a time, from counters that only grow.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::metrics::{Answers, LatencyCounts, Metrics};
use crate::policy::{AlertRule, AlertSignal};

/// Readings that are kept of the time of a rule.
const READINGS_MAX: u32 = 60;

/// The part of requests whose time a rule sees.
const QUANTILE: f64 = 0.99;

/// Requests without which a share says nothing.
const REQUESTS_MIN: u64 = 10;

/// The counters of the process at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub answers: Answers,
    pub latencies: LatencyCounts,
    pub waits: LatencyCounts,
    pub store_errors: u64,
}

/// The counters in the time of one rule, oldest first.
#[derive(Debug, Default)]
pub struct Recent(VecDeque<(Timestamp, Counters)>);

impl Counters {
    /// The counters now.
    pub fn read(metrics: &Metrics) -> Self {
        Self {
            answers: metrics.answers(),
            latencies: metrics.check_duration.counts(),
            waits: metrics.sharing.wait_duration.counts(),
            store_errors: metrics.store_errors(),
        }
    }
}

impl Recent {
    /// Adds counters, and returns the signal of the rule over its time; None if it says nothing.
    pub fn push(&mut self, rule: &AlertRule, counters: Counters, now: Timestamp) -> Option<f64> {
        let interval = rule.over / READINGS_MAX;
        let is_due = self.0.back().is_none_or(|(at, _)| interval <= now.since(*at));
        if is_due {
            self.0.push_back((now, counters));
        }
        // The newest that is older than the time stays: it is where the time begins.
        while self.0.get(1).is_some_and(|(at, _)| rule.over <= now.since(*at)) {
            self.0.pop_front();
        }
        let (_, first) = self.0.front()?;
        value(rule.signal, first, &counters)
    }
}

fn value(signal: AlertSignal, first: &Counters, last: &Counters) -> Option<f64> {
    let since = |last: u64, first: u64| last.saturating_sub(first);
    let ok = since(last.answers.ok, first.answers.ok);
    let refused = since(last.answers.over_limit, first.answers.over_limit);
    let failed = since(last.answers.error, first.answers.error);
    let all = ok + refused + failed;
    let share = |part: u64| (REQUESTS_MIN <= all).then(|| part as f64 * 100.0 / all as f64);
    let quantile = |last: &LatencyCounts, first| {
        last.since(first).quantile(QUANTILE).as_ref().map(Duration::as_secs_f64)
    };
    match signal {
        AlertSignal::Refused => share(refused),
        AlertSignal::Errors => share(failed),
        AlertSignal::StoreErrors => Some(since(last.store_errors, first.store_errors) as f64),
        AlertSignal::Latency => quantile(&last.latencies, &first.latencies),
        AlertSignal::QueueDelay => quantile(&last.waits, &first.waits),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Source, compile_alerts};

    fn rule(text: &str) -> AlertRule {
        let text = format!("alerts:\n  a: {text}");
        let sources = [Source { path: "alerts.yaml".to_owned(), text }];
        compile_alerts(&sources).unwrap().rules.remove(0)
    }

    #[test]
    fn a_share_is_that_of_the_time_and_needs_some_requests() {
        let rule = rule("{ when: refused, above: 20%, over: 1m }");
        let metrics = Metrics::new();
        let domain = metrics.domain("d");
        let mut recent = Recent::default();
        let mut push = |second: u64| {
            recent.push(&rule, Counters::read(&metrics), Timestamp::from_ms(second * 1_000))
        };
        assert_eq!(push(0), None);
        domain.over_limit.inc_by(5);
        assert_eq!(push(1), None, "too few requests");
        domain.ok.inc_by(15);
        assert_eq!(push(2), Some(25.0));
        domain.ok.inc_by(20);
        assert_eq!(push(61), Some(0.0), "the refusals are older than a minute");
        (62..400).for_each(|second| {
            push(second);
        });
        assert!(recent.0.len() <= 62, "{}", recent.0.len());
    }

    #[test]
    fn latencies_and_errors_are_those_of_the_time() {
        let metrics = Metrics::new();
        let (slow, errors) =
            (rule("{ when: latency, above: 5ms }"), rule("{ when: store_errors, above: 1 }"));
        let (mut of_slow, mut of_errors) = (Recent::default(), Recent::default());
        let mut push = |second: u64| {
            let (now, counters) = (Timestamp::from_ms(second * 1_000), Counters::read(&metrics));
            (of_slow.push(&slow, counters, now), of_errors.push(&errors, counters, now))
        };
        assert_eq!(push(0), (None, Some(0.0)));
        metrics.check_duration.observe(Duration::from_millis(9));
        metrics.store_error("late");
        metrics.store_error("broken");
        let (latency, errors) = push(1);
        assert!((0.005..0.0101).contains(&latency.unwrap()), "{latency:?}");
        assert_eq!(errors, Some(2.0));
        assert_eq!(push(70), (None, Some(0.0)));
    }
}
