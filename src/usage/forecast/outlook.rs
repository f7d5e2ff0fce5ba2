//! When a limit will be used up, if its use goes on as forecast.

use super::history::{Forecast, History};
use super::trend::count;

/// The two-sided 80 % quantile of the normal distribution.
pub const Z_80_PERCENT: f64 = 1.2816;
/// The steps that are looked at, where nothing ends the outlook before.
const STEPS_MAX: usize = 400;
const DAY_MS: f64 = 24.0 * 3_600_000.0;

/// How spent hits come back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Comeback {
    /// All at this time, in milliseconds since the epoch: the end of a fixed window or calendar period.
    AtOnce {
        at_ms: u64,
    },
    /// Each so long after it was spent: a sliding window.
    Sliding {
        window_ms: u64,
    },
    /// Steadily, so many a millisecond: a token bucket.
    Steady {
        per_ms: f64,
    },
    Never,
}

/// A limit as it stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub now_ms: u64,
    pub quota: f64,
    pub used: f64,
    /// What was spent in the step that is under way.
    pub spent_in_step: f64,
    pub comeback: Comeback,
}

/// When a limit will be used up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outlook {
    /// When it is expected, in milliseconds since the epoch; None if not before `until_ms`.
    pub reached_ms: Option<u64>,
    /// The start of the 80 % interval.
    pub earliest_ms: Option<u64>,
    /// Its end; None if it may also not happen.
    pub latest_ms: Option<u64>,
    /// The end of the outlook: the limit is whole again, or nothing is known beyond.
    pub until_ms: u64,
    /// The hits a day with which the limit lasts for ever, or until it is whole again; None where hits never come back.
    pub budget_per_day: Option<f64>,
}

/// A way to a quota, looked at in steps.
struct Path<'p> {
    history: &'p History,
    forecast: &'p Forecast,
    standing: Standing,
}

/// What will be in use at a time, and how much more or less it may be.
struct Point {
    at: f64,
    used: f64,
    band: f64,
}

/// Finds when a line between two points passes 0.
#[derive(Default)]
struct Crossing {
    at: Option<f64>,
}

impl Standing {
    /// When the limit will be used up after that history.
    pub fn outlook(self, history: &History, forecast: &Forecast) -> Outlook {
        let path = Path { history, forecast, standing: self };
        let now = ms(self.now_ms);
        let step = ms(forecast.season().step_ms());
        let end = match self.comeback {
            Comeback::AtOnce { at_ms } => ms(at_ms),
            _ => now + step * count(STEPS_MAX),
        };
        let (mut reached, mut earliest, mut latest) =
            (Crossing::default(), Crossing::default(), Crossing::default());
        let mut from = Point { at: now, used: self.used, band: 0.0 };
        let mut spent = 0.0;
        for (ahead, until) in path.points(end) {
            let expected = forecast.step(ahead) * (until - from.at) / step;
            spent += expected;
            let used = match self.comeback {
                Comeback::Steady { per_ms } => {
                    (from.used + expected - per_ms * (until - from.at)).max(0.0)
                }
                Comeback::Sliding { window_ms } => {
                    self.used + spent - path.returned(window_ms, until)
                }
                Comeback::AtOnce { .. } | Comeback::Never => self.used + spent,
            };
            let band = Z_80_PERCENT * forecast.deviation((until - now) / step);
            let to = Point { at: until, used, band };
            reached.look(&from, &to, |point| point.used - self.quota);
            earliest.look(&from, &to, |point| point.used + point.band - self.quota);
            latest.look(&from, &to, |point| point.used - point.band - self.quota);
            from = to;
        }
        Outlook {
            reached_ms: reached.at.and_then(whole),
            earliest_ms: earliest.at.and_then(whole),
            latest_ms: latest.at.and_then(whole),
            until_ms: whole(end).unwrap_or(self.now_ms),
            budget_per_day: self.budget(now),
        }
    }

    fn budget(self, now: f64) -> Option<f64> {
        match self.comeback {
            Comeback::AtOnce { at_ms } => {
                // A budget of a day needs no more than what is left.
                let days = ((ms(at_ms) - now) / DAY_MS).max(1.0);
                Some((self.quota - self.used).max(0.0) / days)
            }
            Comeback::Sliding { window_ms } => Some(self.quota / (ms(window_ms) / DAY_MS).max(1.0)),
            Comeback::Steady { per_ms } => Some(per_ms * DAY_MS),
            Comeback::Never => None,
        }
    }
}

impl Path<'_> {
    /// The times up to `end` between which use grows evenly, each with the step before it.
    fn points(&self, end: f64) -> Vec<(usize, f64)> {
        let now = ms(self.standing.now_ms);
        // From then on, what is spent from now on comes back.
        let turn = match self.standing.comeback {
            Comeback::Sliding { window_ms } => now + ms(window_ms),
            _ => now,
        };
        let mut points = Vec::new();
        let mut from = now;
        for ahead in 0..STEPS_MAX {
            let step_end = self.end_of(ahead);
            for until in [turn.min(step_end), step_end].map(|until| until.min(end)) {
                if from < until {
                    points.push((ahead, until));
                    from = until;
                }
            }
        }
        points
    }

    fn end_of(&self, ahead: usize) -> f64 {
        let step = self.forecast.next() + u64::try_from(ahead).unwrap_or_default() + 1;
        ms(step) * ms(self.forecast.season().step_ms())
    }

    /// What has come back from now until then: what was spent, or will be, in the time that leaves the window.
    fn returned(&self, window_ms: u64, until: f64) -> f64 {
        let now = ms(self.standing.now_ms);
        let (from, to) = (now - ms(window_ms), until - ms(window_ms));
        self.spent_between(from, to.min(now)).min(self.standing.used)
            + self.expected_between(now, to)
    }

    /// What the history has between two times.
    fn spent_between(&self, from: f64, to: f64) -> f64 {
        let step = ms(self.history.season.step_ms());
        let first = ms(self.history.first);
        let whole = self.history.spent.iter().enumerate().map(|(index, spent)| {
            let start = (first + count(index)) * step;
            spent * overlap((start, start + step), (from, to)) / step
        });
        let start = (first + count(self.history.spent.len())) * step;
        let present = (start, ms(self.standing.now_ms).max(start + 1.0));
        let present_len = present.1 - present.0;
        whole.sum::<f64>()
            + self.standing.spent_in_step * overlap(present, (from, to)) / present_len
    }

    /// What is expected between two times from now on.
    fn expected_between(&self, from: f64, to: f64) -> f64 {
        let step = ms(self.history.season.step_ms());
        let parts = (0..STEPS_MAX).map(|ahead| {
            let end = self.end_of(ahead);
            self.forecast.step(ahead) * overlap((end - step, end), (from, to)) / step
        });
        if to <= from { 0.0 } else { parts.sum() }
    }
}

impl Crossing {
    fn look(&mut self, from: &Point, to: &Point, height: impl Fn(&Point) -> f64) {
        let (low, high) = (height(from), height(to));
        if self.at.is_none() && (0.0 <= low || 0.0 <= high) {
            let part = if 0.0 <= low { 0.0 } else { low / (low - high) };
            self.at = Some(from.at + (to.at - from.at) * part);
        }
    }
}

fn overlap(one: (f64, f64), other: (f64, f64)) -> f64 {
    (one.1.min(other.1) - one.0.max(other.0)).max(0.0)
}

/// Exact for times and amounts: below 2^53.
fn ms(value: u64) -> f64 {
    value as f64
}

/// A time as milliseconds; None beyond what can be named.
fn whole(time: f64) -> Option<u64> {
    std::time::Duration::try_from_secs_f64(time / 1_000.0)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
}

#[cfg(test)]
mod tests {
    use super::super::Season;
    use super::*;

    const DAY: u64 = 24 * 3_600_000;
    const TODAY: u64 = 20_000;

    /// 28 days of 100 hits, and what is used at noon.
    fn outlook(quota: f64, used: f64, comeback: Comeback) -> Outlook {
        let history = History { season: Season::Week, first: TODAY - 28, spent: vec![100.0; 28] };
        let forecast = history.forecast().unwrap();
        let now_ms = TODAY * DAY + DAY / 2;
        let standing = Standing { now_ms, quota, used, spent_in_step: 50.0, comeback };
        standing.outlook(&history, &forecast)
    }

    fn after_noon(outlook: Outlook) -> Option<f64> {
        let noon = ms(TODAY * DAY + DAY / 2);
        outlook.reached_ms.map(|at| ((ms(at) - noon) / DAY_MS * 100.0).round() / 100.0)
    }

    #[test]
    fn a_total_is_used_up_when_the_rest_is_spent() {
        assert_eq!(after_noon(outlook(1_000.0, 700.0, Comeback::Never)), Some(3.0));
        assert_eq!(after_noon(outlook(1_000.0, 1_000.0, Comeback::Never)), Some(0.0));
        assert_eq!(after_noon(outlook(1e9, 0.0, Comeback::Never)), None, "in more than 400 days");
        assert_eq!(outlook(1_000.0, 700.0, Comeback::Never).budget_per_day, None);
    }

    #[test]
    fn a_period_ends_the_outlook() {
        let comeback = Comeback::AtOnce { at_ms: (TODAY + 10) * DAY + DAY / 2 };
        let outlook_of = |quota| outlook(quota, 500.0, comeback);
        assert_eq!(after_noon(outlook_of(1_400.0)), Some(9.0));
        assert_eq!(after_noon(outlook_of(1_600.0)), None, "whole again before");
        assert_eq!(outlook_of(1_500.0).budget_per_day, Some(100.0));
        assert_eq!(outlook_of(1_400.0).until_ms, (TODAY + 10) * DAY + DAY / 2);
    }

    #[test]
    fn a_sliding_window_gives_back_what_was_spent() {
        // A week of 100 a day uses 700, for ever.
        let comeback = Comeback::Sliding { window_ms: 7 * DAY };
        assert_eq!(after_noon(outlook(701.0, 700.0, comeback)), None);
        // Less was used of this one than a week of it: it fills up.
        assert_eq!(after_noon(outlook(690.0, 0.0, comeback)), Some(6.9));
        assert_eq!(outlook(700.0, 0.0, comeback).budget_per_day, Some(100.0));
    }

    #[test]
    fn a_bucket_fills_up_only_where_more_is_spent_than_comes_back() {
        let steady = |per_day: f64| Comeback::Steady { per_ms: per_day / DAY_MS };
        assert_eq!(after_noon(outlook(1_000.0, 500.0, steady(100.0))), None);
        assert_eq!(after_noon(outlook(1_000.0, 500.0, steady(50.0))), Some(10.0));
        assert_eq!(outlook(1.0, 0.0, steady(50.0)).budget_per_day.map(f64::round), Some(50.0));
    }

    #[test]
    fn an_uneven_past_makes_the_interval_wide() {
        let spent = (0..28).map(|day| if day % 3 == 0 { 280.0 } else { 10.0 }).collect();
        let history = History { season: Season::Week, first: TODAY - 28, spent };
        let forecast = history.forecast().unwrap();
        let standing = Standing {
            now_ms: TODAY * DAY,
            quota: 2_000.0,
            used: 0.0,
            spent_in_step: 0.0,
            comeback: Comeback::Never,
        };
        let outlook = standing.outlook(&history, &forecast);
        let [earliest, reached, latest] =
            [outlook.earliest_ms, outlook.reached_ms, outlook.latest_ms].map(Option::unwrap);
        assert!(earliest < reached && reached < latest);
        assert!(2 * DAY < latest - earliest);
    }
}
