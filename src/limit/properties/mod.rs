//! Properties of every limit and every history, checked with random ones.

mod allowance;
mod schedule;

use proptest::prelude::*;

use super::{
    AMOUNT_MAX, Algorithm, Bucket, Calendar, CalendarUnit, Fit, Fixed, Hits, Limit, Sliding, State,
};
use crate::clock::Timestamp;

const START_MS: u64 = 1_750_000_000_123;

/// A number of hits or milliseconds, absolute or in thousandths of a limit's amount or window, so that a history
/// reaches the edges of any limit.
#[derive(Clone, Copy, Debug)]
enum Size {
    Exact(u64),
    Share(u64),
}

impl Size {
    fn of(self, whole: u64) -> u64 {
        match self {
            Self::Exact(number) => number,
            Self::Share(thousandths) => whole * thousandths / 1_000,
        }
    }
}

/// The next step: time passes, and then hits are requested or given back.
#[derive(Clone, Copy, Debug)]
struct Event {
    step: Size,
    hits: Size,
    back: bool,
}

/// One counter and its clock.
struct Counter {
    limit: Limit,
    state: State,
    now_ms: u64,
}

impl Counter {
    fn new(limit: Limit) -> Self {
        Self { limit, state: State::default(), now_ms: START_MS }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.now_ms)
    }

    fn fit(&mut self, hits: Hits) -> Fit {
        let now = self.now();
        self.limit.settle(&mut self.state, now);
        self.limit.fit(&self.state, hits, now)
    }

    /// Spends if the hits fit, and returns whether they do.
    fn ask(&mut self, hits: Hits) -> bool {
        let fits = self.fit(hits) == Fit::Now;
        if fits {
            let now = self.now();
            self.limit.charge(&mut self.state, hits, now);
        }
        fits
    }

    fn remaining(&mut self) -> u64 {
        let now = self.now();
        self.limit.settle(&mut self.state, now);
        self.limit.standing(&self.state, now).remaining
    }

    /// Lets time pass, requests hits, and returns the admitted hits.
    fn play(&mut self, event: Event) -> u64 {
        self.now_ms += event.step.of(self.window_ms());
        let hits = event.hits.of(self.limit.capacity());
        match self.ask(if event.back { Hits::GiveBack(hits) } else { Hits::Spend(hits) }) {
            true => hits,
            false => 0,
        }
    }

    fn window_ms(&self) -> u64 {
        match self.limit.algorithm() {
            Algorithm::Sliding(sliding) => sliding.window_ms(),
            Algorithm::Fixed(fixed) => fixed.window_ms(),
            Algorithm::Bucket(bucket) => bucket.window_ms(),
            Algorithm::Calendar(_) | Algorithm::Total => 3_600_000,
        }
    }
}

fn sliding(amount: u64, window_ms: u64) -> Limit {
    Limit::new(amount, Algorithm::Sliding(Sliding::new(window_ms, amount)))
}

fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![1_u64..10, 1_u64..70, 62_u64..2_000]
}

fn window_ms() -> impl Strategy<Value = u64> {
    prop_oneof![1_u64..100, 100_u64..5_000, Just(60_000)]
}

fn limit() -> impl Strategy<Value = Limit> {
    let zone = prop::sample::select(vec!["UTC", "Europe/Madrid", "Australia/Lord_Howe"]);
    let unit = prop_oneof![
        Just(CalendarUnit::Minute),
        Just(CalendarUnit::Hour),
        Just(CalendarUnit::Day),
        Just(CalendarUnit::Month),
    ];
    prop_oneof![
        (amount(), window_ms()).prop_map(|(amount, window_ms)| sliding(amount, window_ms)),
        (amount(), window_ms()).prop_map(|(amount, window_ms)| {
            Limit::new(amount, Algorithm::Fixed(Fixed::new(window_ms)))
        }),
        (amount(), window_ms(), amount()).prop_map(|(amount, window_ms, burst)| {
            let bucket = Bucket::new(amount, window_ms, burst).unwrap();
            Limit::new(amount, Algorithm::Bucket(bucket))
        }),
        (amount(), unit, zone).prop_map(|(amount, unit, zone)| {
            let zone = jiff::tz::TimeZone::get(zone).unwrap();
            Limit::new(amount, Algorithm::Calendar(Calendar::new(unit, zone)))
        }),
        amount().prop_map(|amount| Limit::new(amount, Algorithm::Total)),
    ]
}

fn event(back: bool) -> impl Strategy<Value = Event> {
    let step = prop_oneof![
        4 => (0_u64..3).prop_map(Size::Exact),
        6 => (0_u64..100).prop_map(Size::Share),
        1 => (0_u64..2_000).prop_map(Size::Share),
    ];
    let hits = prop_oneof![
        4 => (0_u64..5).prop_map(Size::Exact),
        6 => (0_u64..400).prop_map(Size::Share),
        1 => any::<u64>().prop_map(Size::Exact),
    ];
    let back = prop::bool::weighted(if back { 0.3 } else { 0.0 });
    (step, hits, back).prop_map(|(step, hits, back)| Event { step, hits, back })
}

fn spends() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(event(false), 1..100)
}

fn spends_and_returns() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(event(true), 1..60)
}

proptest! {
    // A failure prints its smallest input, which belongs in a test of its own, not in a file.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_interval_of_a_window_sees_more_than_the_amount(
        amount in amount(), window_ms in window_ms(), history in spends(),
    ) {
        let mut counter = Counter::new(sliding(amount, window_ms));
        let mut log = Vec::new();
        for event in history {
            let admitted = counter.play(event);
            log.push((counter.now_ms, admitted));
            // Any interval with more would end, or could be moved to end, at an admitted request.
            let seen: u64 = log
                .iter()
                .filter(|(at, _)| counter.now_ms < at + window_ms)
                .map(|(_, hits)| hits)
                .sum();
            prop_assert!(seen <= amount, "{} hits of {}", seen, amount);
        }
    }

    /// Limits count in whole milliseconds, so the distance of two hits is known to a millisecond. The property for
    /// intervals of the window's length is exact to a millisecond for finer clocks.
    #[test]
    fn between_milliseconds_no_interval_of_a_window_less_one_sees_more_than_the_amount(
        amount in amount(), window_ms in 2_u64..100, steps_us in prop::collection::vec(0_u64..20_000, 1..200),
    ) {
        let mut counter = Counter::new(sliding(amount, window_ms));
        let mut now_us = START_MS * 1_000;
        let mut log = Vec::new();
        for step_us in steps_us {
            now_us += step_us;
            counter.now_ms = now_us / 1_000;
            log.push((now_us, u64::from(counter.ask(Hits::Spend(1)))));
            let length_us = (window_ms - 1) * 1_000;
            let seen = log.iter().filter(|(at_us, _)| now_us <= at_us + length_us);
            let seen: u64 = seen.map(|(_, hits)| hits).sum();
            prop_assert!(seen <= amount, "{} hits of {}", seen, amount);
        }
    }

    #[test]
    fn capacity_is_back_at_most_a_slot_late(
        amount in amount(), window_ms in window_ms(), history in spends(),
    ) {
        let shape = Sliding::new(window_ms, amount);
        let mut counter = Counter::new(sliding(amount, window_ms));
        let mut log = Vec::new();
        for event in history {
            let admitted = counter.play(event);
            log.push((counter.now_ms, admitted));
            let first_ms = counter.now_ms.saturating_sub(window_ms + shape.slot_ms());
            let counted: u64 =
                log.iter().filter(|(at, _)| first_ms < *at).map(|(_, hits)| hits).sum();
            prop_assert!(amount.saturating_sub(counted) <= counter.remaining());
        }
    }

    #[test]
    fn a_window_keeps_no_more_slots_than_it_has(
        amount in amount(), window_ms in window_ms(), history in spends_and_returns(),
    ) {
        let mut counter = Counter::new(sliding(amount, window_ms));
        let slots_max = window_ms.div_ceil(Sliding::new(window_ms, amount).slot_ms()) + 1;
        for event in history {
            counter.play(event);
            if let State::Sliding(slots) = &counter.state {
                let len = slots.len() as u64;
                prop_assert!(len <= amount.min(slots_max), "{} slots", len);
                prop_assert!(len <= 61);
            }
        }
    }

    #[test]
    fn a_bucket_never_lets_through_more_than_its_burst_and_refill(
        amount in amount(), window_ms in window_ms(), burst in amount(), history in spends(),
    ) {
        let bucket = Bucket::new(amount, window_ms, burst).unwrap();
        let mut counter = Counter::new(Limit::new(amount, Algorithm::Bucket(bucket)));
        let mut log: Vec<(u64, u64)> = Vec::new();
        for event in history {
            let admitted = counter.play(event);
            log.push((counter.now_ms, admitted));
            let mut seen = 0;
            for (at_ms, hits) in log.iter().rev() {
                seen += hits;
                let refilled = (counter.now_ms - at_ms) * amount;
                prop_assert!(seen * window_ms <= burst * window_ms + refilled);
            }
        }
    }

    #[test]
    fn the_promised_wait_is_exact(
        limit in limit(), history in spends_and_returns(), share in 0_u64..1_000,
    ) {
        let mut counter = Counter::new(limit);
        history.into_iter().for_each(|event| {
            counter.play(event);
        });
        let refused_at_ms = counter.now_ms;
        let hits = Size::Share(share).of(counter.limit.capacity()) + 1;
        if let Fit::AfterMs(wait_ms) = counter.fit(Hits::Spend(hits)) {
            prop_assert!(0 < wait_ms);
            counter.now_ms = refused_at_ms + wait_ms - 1;
            prop_assert_ne!(counter.fit(Hits::Spend(hits)), Fit::Now);
            counter.now_ms = refused_at_ms + wait_ms;
            prop_assert_eq!(counter.fit(Hits::Spend(hits)), Fit::Now);
        }
    }

    #[test]
    fn the_promised_reset_frees_the_whole_amount(
        limit in limit(), history in spends_and_returns(),
    ) {
        let mut counter = Counter::new(limit);
        history.into_iter().for_each(|event| {
            counter.play(event);
        });
        counter.remaining();
        if let Some(reset_ms) = counter.limit.standing(&counter.state, counter.now()).reset_ms {
            counter.now_ms += reset_ms;
            prop_assert_eq!(counter.remaining(), counter.limit.capacity());
        }
    }

    #[test]
    fn what_remains_is_what_fits_and_never_more_than_the_capacity(
        limit in limit(), history in spends_and_returns(),
    ) {
        let mut counter = Counter::new(limit);
        for event in history {
            counter.play(event);
            let remaining = counter.remaining();
            prop_assert!(remaining <= counter.limit.capacity());
            // So no smaller request is refused where a larger one passes.
            prop_assert_eq!(counter.fit(Hits::Spend(remaining)), Fit::Now);
            prop_assert_eq!(counter.fit(Hits::Spend(remaining / 2)), Fit::Now);
            prop_assert_ne!(counter.fit(Hits::Spend(remaining + 1)), Fit::Now);
        }
    }

    #[test]
    fn what_is_given_back_can_be_spent_again_and_no_more(
        limit in limit(), spent in 1_u64..300, back in any::<u64>(),
    ) {
        let mut counter = Counter::new(limit);
        let before = counter.remaining();
        if counter.ask(Hits::Spend(spent)) {
            counter.ask(Hits::GiveBack(back));
            prop_assert_eq!(counter.remaining(), before - spent + back.min(spent));
        }
    }

    #[test]
    fn arithmetic_holds_at_its_bounds(window_ms in window_ms(), step_ms in any::<u64>()) {
        for algorithm in [
            Algorithm::Sliding(Sliding::new(window_ms, AMOUNT_MAX)),
            Algorithm::Fixed(Fixed::new(window_ms)),
            Algorithm::Total,
        ] {
            let mut counter = Counter::new(Limit::new(u64::MAX, algorithm));
            prop_assert!(counter.ask(Hits::Spend(AMOUNT_MAX)));
            prop_assert!(!counter.ask(Hits::Spend(u64::MAX)));
            counter.now_ms = counter.now_ms.saturating_add(step_ms);
            counter.ask(Hits::Spend(AMOUNT_MAX));
            prop_assert!(counter.ask(Hits::GiveBack(u64::MAX)));
            prop_assert_eq!(counter.remaining(), AMOUNT_MAX);
        }
    }

    #[test]
    fn a_period_holds_its_instants(
        seconds in 0_i64..4_000_000_000,
        unit in prop::sample::select(vec![
            CalendarUnit::Minute, CalendarUnit::Hour, CalendarUnit::Day,
            CalendarUnit::Week, CalendarUnit::Month, CalendarUnit::Year,
        ]),
        zone in prop::sample::select(vec![
            "UTC", "Europe/Madrid", "Asia/Kolkata", "America/St_Johns", "America/Sao_Paulo",
            "America/Havana", "Pacific/Apia", "Africa/Casablanca", "Asia/Kathmandu",
        ]),
    ) {
        let calendar = Calendar::new(unit, jiff::tz::TimeZone::get(zone).unwrap());
        let now = Timestamp::from_ms(u64::try_from(seconds).unwrap() * 1_000 + 7);
        let (start, end) = (calendar.start_of(now), calendar.end_after(now));
        prop_assert!(start <= now && now < end);
        prop_assert_eq!(calendar.end_after(start), end);
        let last = Timestamp::from_ms(end.as_ms() - 1);
        prop_assert_eq!(calendar.end_after(last), end);
    }
}
