//! Schedules compared with a slow model that checks every minute.

use std::sync::Arc;

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};
use proptest::prelude::*;

use super::super::{
    Algorithm, Bucket, Condition, DateRange, Effect, Fixed, Hits, HourRange, Limit, Scale, State,
    Timetable, pay,
};
use crate::clock::Timestamp;

const MINUTE_MS: u64 = 60_000;

/// Minutes that the model checks after a time.
const MINUTES: u64 = 3 * 1_440;

fn ms(text: &str) -> u64 {
    let at: jiff::Timestamp = text.parse().unwrap();
    at.as_millisecond().try_into().unwrap()
}

fn shown(at_ms: u64, zone: &TimeZone) -> Zoned {
    let at = jiff::Timestamp::from_millisecond(at_ms.try_into().unwrap()).unwrap();
    at.to_zoned(zone.clone())
}

/// Whether a condition is active, implemented differently from the condition itself: a range of hours is a number of
/// minutes after local midnight of the day on which it starts.
fn holds(condition: &Condition, at: &Zoned) -> bool {
    let minute = i64::from(at.hour()) * 60 + i64::from(at.minute());
    let whole_day = HourRange { start: 0, end: 1_440 };
    let hours = if condition.hours.is_empty() { vec![whole_day] } else { condition.hours.clone() };
    hours.iter().any(|range| {
        let (start, end) = (i64::from(range.start), i64::from(range.end));
        let end = if start < end { end } else { end + 1_440 };
        (0..2).any(|days| {
            let day = at.date() - i64::from(days).days();
            (start..end).contains(&(minute + i64::from(days) * 1_440)) && holds_on(condition, day)
        })
    })
}

fn holds_on(condition: &Condition, day: Date) -> bool {
    let months: Vec<i8> = (1..=12).filter(|month| condition.months & (1 << month) != 0).collect();
    let weekdays: Vec<i8> = (0..7).filter(|day| condition.weekdays & (1 << day) != 0).collect();
    let within = |range: &DateRange| match *range {
        DateRange::Once { first, last } => first <= day && day <= last,
        DateRange::Yearly { first, last } => {
            // The range that starts this year or the year before.
            [day.year(), day.year() - 1].iter().any(|year| {
                let first_day = Date::new(*year, first.0, first.1).unwrap();
                let ends = if first <= last { *year } else { year + 1 };
                let last_day = Date::new(ends, last.0, last.1).unwrap();
                first_day <= day && day <= last_day
            })
        }
    };
    (months.is_empty() || months.contains(&day.month()))
        && (weekdays.is_empty() || weekdays.contains(&day.weekday().to_monday_zero_offset()))
        && (condition.dates.is_empty() || condition.dates.iter().any(within))
        && !condition.except.iter().any(within)
}

fn condition() -> impl Strategy<Value = Condition> {
    let minute = prop_oneof![Just(0_u16), 0_u16..1_440, (0_u16..24).prop_map(|hour| hour * 60)];
    let hours =
        (minute.clone(), minute.prop_map(|minute| if minute == 0 { 1_440 } else { minute }))
            .prop_filter("a range has a length", |(start, end)| start != end)
            .prop_map(|(start, end)| HourRange { start, end });
    let range = prop_oneof![
        (0_i64..800, 0_i64..60).prop_map(|(from, days)| {
            let first = date(2025, 1, 1) + from.days();
            DateRange::Once { first, last: first + days.days() }
        }),
        ((1_i8..=12, 1_i8..=28), (1_i8..=12, 1_i8..=28))
            .prop_map(|(first, last)| DateRange::Yearly { first, last }),
    ];
    let months = prop_oneof![3 => Just(0_u16), 1 => (1_u16..4_096).prop_map(|months| months << 1)];
    let weekdays = prop_oneof![2 => Just(0_u8), 1 => 1_u8..128];
    let few = |from: usize| from..from + 2;
    (
        months,
        weekdays,
        prop::collection::vec(hours, 0..3),
        prop::collection::vec(range.clone(), few(0)),
        prop::collection::vec(range, few(0)),
    )
        .prop_map(|(months, weekdays, hours, dates, except)| Condition {
            months,
            weekdays,
            hours,
            dates,
            except,
            ..Condition::default()
        })
}

/// Times around clock changes, and any others.
fn at_ms() -> impl Strategy<Value = u64> {
    let settings = [
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-03-08T07:00:00Z",
        "2026-11-01T06:00:00Z",
        "2026-04-04T15:00:00Z",
        "2026-10-03T15:30:00Z",
    ];
    let near = (prop::sample::select(settings.to_vec()), 0..2 * 86_400_000_u64)
        .prop_map(|(at, before)| ms(at) - before);
    prop_oneof![1 => near, 1 => ms("2025-01-01T00:00:00Z")..ms("2027-01-01T00:00:00Z")]
}

fn zone() -> impl Strategy<Value = &'static str> {
    let zones = [
        "UTC",
        "Asia/Kolkata",
        "Europe/Madrid",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Havana",
    ];
    prop::sample::select(zones.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn edges_are_where_a_look_at_every_minute_finds_them(
        conditions in prop::collection::vec(condition(), 1..4),
        at_ms in at_ms(),
        name in zone(),
    ) {
        let zone = TimeZone::get(name).unwrap();
        let timetable = Timetable::new(conditions.clone(), zone.clone());
        let model = |ms| {
            let shown = shown(ms, &zone);
            conditions.iter().position(|condition| holds(condition, &shown))
        };
        let now = model(at_ms);
        prop_assert_eq!(timetable.holding(Timestamp::from_ms(at_ms)), now);
        let first_ms = at_ms - at_ms % MINUTE_MS;
        let minutes = (1..=MINUTES).map(|minute| first_ms + minute * MINUTE_MS);
        let expected = minutes.into_iter().find(|ms| model(*ms) != now);
        let edge = timetable.next_edge(Timestamp::from_ms(at_ms)).map(Timestamp::as_ms);
        let last_ms = first_ms + MINUTES * MINUTE_MS;
        prop_assert_eq!(edge.filter(|edge_ms| *edge_ms <= last_ms), expected);
        if let Some(edge_ms) = edge {
            prop_assert_eq!(model(edge_ms - 1), now);
            prop_assert_ne!(model(edge_ms), now);
        }
        // A known timeline stays valid, and gives the same result.
        for ms in [at_ms, at_ms + 40 * 86_400_000, at_ms + 3_600_000] {
            let at = Timestamp::from_ms(ms);
            prop_assert_eq!(timetable.holding_now(at), model(ms));
            let timeline = timetable.timeline(at);
            let (past, later) = timeline.split(at);
            prop_assert_eq!(later.first().map(|span| span.from_ms),
                timetable.next_edge(at).map(Timestamp::as_ms));
            for span in past.iter().skip(1) {
                prop_assert_eq!(model(span.from_ms), span.holding);
                prop_assert_ne!(model(span.from_ms - 1), span.holding);
            }
        }
    }

    /// A bucket's debt after any time equals the result of a payment every millisecond.
    #[test]
    fn a_bucket_pays_at_the_rate_of_each_time(
        spent in 0_u64..150, spent_ms in 0_u64..150_000, after_ms in 0_u64..300_000,
    ) {
        let start_ms = ms("2026-05-04T08:59:00Z");
        let limit = nine_to_ten(bucket(60, 60_000), Scale::of_hundredths(5_000));
        let at_ms = start_ms + spent_ms;
        let (mut state, owed) = (State::Empty, spent * 60_000);
        limit.charge(&mut state, Hits::Spend(spent), Timestamp::from_ms(at_ms));
        let now = Timestamp::from_ms(at_ms + after_ms);
        let past = limit.outlook(now).unwrap().past;
        pay(&mut state, &past);
        let limit_now = limit.at(now);
        limit_now.settle(&mut state, now);
        let halved = ms("2026-05-04T09:00:00Z")..ms("2026-05-04T09:02:00Z");
        let rate = |ms: u64| if halved.contains(&ms) { 30 } else { 60 };
        let expected = (at_ms..now.as_ms()).fold(owed, |debt, ms| debt.saturating_sub(rate(ms)));
        prop_assert_eq!(limit_now.used(&state, now), expected.div_ceil(60_000));
    }
}

fn bucket(amount: u64, window_ms: u64) -> Limit {
    Limit::new(amount, Algorithm::Bucket(Bucket::new(amount, window_ms, amount).unwrap()))
}

/// A percentage of a limit from nine o'clock to two minutes past it, in UTC.
fn nine_to_ten(limit: Limit, scale: Scale) -> Arc<Limit> {
    let hours = vec![HourRange { start: 540, end: 542 }];
    let condition = Condition { hours, ..Condition::default() };
    let timetable = Timetable::new(vec![condition], TimeZone::UTC);
    Arc::new(limit.on_schedule(Arc::new(timetable), [Effect::Scale(scale)].into()))
}

/// The changes after a time, in local time of the zone.
fn edges(condition: Condition, at: &str, count: usize) -> Vec<String> {
    let at: Zoned = at.parse().unwrap();
    let timetable = Timetable::new(vec![condition], at.time_zone().clone());
    let mut now = Timestamp::from_ms(at.timestamp().as_millisecond().try_into().unwrap());
    let mut edges = Vec::new();
    for _ in 0..count {
        let Some(edge) = timetable.next_edge(now) else { break };
        now = edge;
        let shown = shown(edge.as_ms(), at.time_zone());
        edges.push(shown.strftime("%Y-%m-%d %H:%M %:z").to_string());
    }
    edges
}

fn at_hours(start: u16, end: u16) -> Condition {
    Condition { hours: vec![HourRange { start, end }], ..Condition::default() }
}

#[test]
fn hours_that_clocks_skip_do_not_hold_and_those_that_they_show_twice_hold_twice() {
    // On 29 March 2026 Madrid's clocks went from 02:00 to 03:00, on 25 October from 03:00 back to 02:00.
    let night = || at_hours(150, 210);
    let spring = edges(night(), "2026-03-28T12:00[Europe/Madrid]", 2);
    assert_eq!(spring, ["2026-03-29 03:00 +02:00", "2026-03-29 03:30 +02:00"]);
    let autumn = edges(night(), "2026-10-24T12:00[Europe/Madrid]", 4);
    let expected = [
        "2026-10-25 02:30 +02:00",
        "2026-10-25 02:00 +01:00",
        "2026-10-25 02:30 +01:00",
        "2026-10-25 03:30 +01:00",
    ];
    assert_eq!(autumn, expected);
    let skipped = edges(at_hours(120, 180), "2026-03-08T00:00[America/New_York]", 1);
    assert_eq!(skipped, ["2026-03-09 02:00 -04:00"]);
    let twice = edges(at_hours(60, 120), "2026-11-01T00:00[America/New_York]", 2);
    assert_eq!(twice, ["2026-11-01 01:00 -04:00", "2026-11-01 02:00 -05:00"]);
    // Lord Howe's clocks go back by half an hour, from 02:00 to 01:30.
    let half = edges(at_hours(90, 105), "2026-04-05T00:00[Australia/Lord_Howe]", 4);
    let expected = [
        "2026-04-05 01:30 +11:00",
        "2026-04-05 01:45 +11:00",
        "2026-04-05 01:30 +10:30",
        "2026-04-05 01:45 +10:30",
    ];
    assert_eq!(half, expected);
    let plain = edges(at_hours(540, 1_080), "2026-03-29T12:00[Asia/Kolkata]", 2);
    assert_eq!(plain, ["2026-03-29 18:00 +05:30", "2026-03-30 09:00 +05:30"]);
}

#[test]
fn a_night_belongs_to_the_day_on_which_it_begins() {
    let friday = Condition { weekdays: 1 << 4, ..at_hours(1_320, 360) };
    let edges = edges(friday, "2026-05-07T12:00[Europe/Madrid]", 3);
    let expected =
        ["2026-05-08 22:00 +02:00", "2026-05-09 06:00 +02:00", "2026-05-15 22:00 +02:00"];
    assert_eq!(edges, expected);
}

#[test]
fn months_begin_and_end_at_midnight_and_exceptions_interrupt_them() {
    let except = vec![DateRange::Yearly { first: (8, 15), last: (8, 15) }];
    let season = Condition { months: 0b11_1110_0000, except, ..Condition::default() };
    let expected = [
        "2026-05-01 00:00 +02:00",
        "2026-08-15 00:00 +02:00",
        "2026-08-16 00:00 +02:00",
        "2026-10-01 00:00 +02:00",
    ];
    assert_eq!(edges(season, "2026-01-01T00:00[Europe/Madrid]", 4), expected);
}

#[test]
fn a_scheduled_limit_is_one_counter_with_one_width_of_slots() {
    let fixed = Limit::new(100, Algorithm::Fixed(Fixed::new(MINUTE_MS)));
    let limit = nine_to_ten(fixed, Scale::of_hundredths(7_550));
    let at = |text: &str| limit.at(Timestamp::from_ms(ms(text)));
    let amounts = ["2026-05-04T08:59:59.999Z", "2026-05-04T09:00:00Z", "2026-05-04T09:02:00Z"];
    assert_eq!(amounts.map(|text| at(text).amount()), [100, 75, 100]);
    assert_eq!(at(amounts[1]).tag(), limit.tag());
    let own = Arc::new(limit.with_amount(1_000));
    assert_eq!(own.at(Timestamp::from_ms(ms(amounts[1]))).amount(), 755);
    let sliding = |amount| super::super::Sliding::new(MINUTE_MS, amount);
    let small = Limit::new(10, Algorithm::Sliding(sliding(10)));
    let limit = nine_to_ten(small, Scale::of_hundredths(100_000));
    let now = Timestamp::from_ms(ms(amounts[1]));
    assert_eq!((limit.amount(), limit.at(now).amount()), (10, 100));
    let algorithm = Algorithm::Sliding(sliding(100));
    assert_eq!((limit.algorithm(), limit.at(now).algorithm()), (&algorithm, &algorithm));
    assert_eq!(limit.at(now).fit(&State::Empty, Hits::Spend(100), now), super::super::Fit::Now);
}
