//! Draws what policies say of times: schedules, graces and thresholds.

use std::collections::BTreeMap;

use super::draw::Draw;
use super::policies::amount;
use super::world::{Algorithm, Change, Condition, Dates, Grace, Limit, Tiered, When, World};

/// Time zones whose clocks are set by an hour, by half an hour, and never.
pub const ZONES: [&str; 4] = ["UTC", "Europe/Madrid", "America/New_York", "Australia/Lord_Howe"];

/// When clocks of those zones are set.
const CLOCKS_SET_MS: [u64; 8] = [
    1_759_591_800_000,
    1_761_440_400_000,
    1_762_063_200_000,
    1_772_953_200_000,
    1_774_746_000_000,
    1_775_314_800_000,
    1_791_041_400_000,
    1_792_890_000_000,
];

const DAY_MS: u64 = 86_400_000;
const QUARTERS: u64 = 96;

/// A time at which a history may begin: some begin shortly before clocks are set.
pub fn beginning(draw: &mut Draw, start_ms: u64) -> u64 {
    match draw.chance(40) {
        true => draw.pick(&CLOCKS_SET_MS) - draw.between(1, 3 * DAY_MS),
        false => start_ms + draw.between(0, 40_000_000_000),
    }
}

/// Lets a policy say something of times.
pub fn add(draw: &mut Draw, world: &mut World, now_ms: u64) {
    let is_on_schedule = draw.chance(60);
    if is_on_schedule {
        let names = ["peak", "office", "christmas"].iter().take(draw.index(4));
        world.schedules = names.map(|name| (name.to_string(), condition(draw, now_ms))).collect();
    }
    world.each_rule(&mut |_, rule, _| {
        if let (true, Some(capacity)) = (is_on_schedule, &mut rule.capacity) {
            // While a provider is under pressure, a wait is as exact as the present amount.
            capacity.pressure.clear();
        }
    });
    world.each_limit(&mut |world, rule, limit| {
        if is_on_schedule && draw.chance(60) {
            limit.when = draw.several((1, 3), |draw| when(draw, (world, now_ms), limit));
        }
        if draw.chance(if limit.when.is_empty() { 50 } else { 30 }) {
            let grace = grace(draw, limit);
            limit.grace = Some(grace).filter(|grace| world.may_have(rule, limit, *grace));
        }
        if draw.chance(60) {
            limit.thresholds = thresholds(draw, world.used_most(rule, limit));
        }
    });
}

/// Leaves out pressure, of which masters of a cluster learn one after the other; and with idempotency keys hits that are taken in
/// part, of which each master knows how many it had.
pub fn calm(world: &mut World) {
    if world.retries.is_some() {
        world.each_limit(&mut |_, _, limit| limit.partial = false);
    }
    world.each_rule(&mut |_, rule, _| {
        rule.capacity.iter_mut().for_each(|capacity| capacity.pressure.clear());
    });
}

fn when(draw: &mut Draw, (world, now_ms): (&World, u64), limit: &Limit) -> When {
    let is_named = !world.schedules.is_empty() && draw.chance(60);
    let during = is_named.then(|| draw.index(world.schedules.len()));
    let own = if is_named { Condition::default() } else { condition(draw, now_ms) };
    let is_rate = draw.chance(35);
    let mut by_tier = BTreeMap::new();
    // A bucket that several tiers use would have a rate for each.
    if limit.algorithm != Algorithm::Bucket && draw.chance(35) {
        for tier in 0..world.tiers.len() {
            let said = limit.by_tier.get(tier);
            let has_amount = !matches!(said, Some(Tiered::None | Tiered::Unlimited));
            if has_amount && draw.chance(50) {
                by_tier.insert(tier, number(draw, is_rate));
            }
        }
    }
    let own_number = number(draw, is_rate);
    let change = if is_rate { Change::Rate(own_number) } else { Change::Scale(own_number) };
    When { during, own, change, by_tier }
}

/// An amount, or parts of a whole.
pub fn number(draw: &mut Draw, is_rate: bool) -> u64 {
    match is_rate {
        true => amount(draw),
        false => {
            draw.pick(&[0, 2_500, 3_333, 5_000, 7_500, 9_999, 12_000, 15_000, 20_000, 100_000])
        }
    }
}

fn condition(draw: &mut Draw, now_ms: u64) -> Condition {
    let mut condition = Condition::default();
    let [hours, weekdays, months, dates] = match draw.between(0, 9) {
        0..=3 => [100, 30, 0, 0],
        4 | 5 => [40, 100, 0, 0],
        6 => [30, 20, 100, 0],
        7 | 8 => [30, 0, 0, 100],
        _ => [70, 70, 50, 0],
    };
    if draw.chance(hours) {
        condition.hours = draw.several((1, 2), hour_range);
    }
    if draw.chance(weekdays) {
        condition.weekdays = draw.several((1, 2), |draw| range(draw, 7));
    }
    if draw.chance(months) {
        condition.months = draw.several((1, 2), |draw| range(draw, 12));
    }
    if draw.chance(dates) {
        condition.dates = draw.several((1, 2), |draw| days(draw, now_ms));
    } else if draw.chance(25) || condition == Condition::default() {
        condition.except = draw.several((1, 3), |draw| days(draw, now_ms));
    }
    condition
}

fn range(draw: &mut Draw, last: u64) -> (i8, i8) {
    let mut one = || i8::try_from(draw.between(1, last)).unwrap();
    (one(), one())
}

/// Some begin or end where clocks are set.
fn hour_range(draw: &mut Draw) -> (u64, u64) {
    let quarter = |draw: &mut Draw| match draw.chance(40) {
        true => draw.between(2, 14),
        false => draw.between(0, QUARTERS - 1),
    };
    let start = quarter(draw);
    let end = if draw.chance(10) { QUARTERS } else { quarter(draw) };
    // They may not end when they start.
    let end = if start == end { (end + 3) % QUARTERS } else { end };
    (start * 15, end * 15)
}

/// Up to six days near a time.
fn days(draw: &mut Draw, now_ms: u64) -> Dates {
    let first_ms = now_ms - 5 * DAY_MS + draw.between(0, 60 * DAY_MS);
    let last_ms = first_ms + draw.between(0, 5) * DAY_MS;
    let [first, last] = [first_ms, last_ms].map(|ms| {
        let at = jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap();
        jiff::tz::TimeZone::UTC.to_datetime(at).date()
    });
    match draw.chance(50) {
        true => Dates::Once(
            (first.year(), first.month(), first.day()),
            (last.year(), last.month(), last.day()),
        ),
        false => Dates::Yearly((first.month(), first.day()), (last.month(), last.day())),
    }
}

pub fn grace(draw: &mut Draw, limit: &Limit) -> Grace {
    let percent = draw.pick(&[1, 5, 10, 20, 50, 100]);
    let ends = matches!(limit.algorithm, Algorithm::Fixed | Algorithm::Calendar);
    let for_ms = match limit.window.ms.filter(|_| ends) {
        Some(ms) => draw.pick(&[ms.div_ceil(10), ms / 2, ms - 1]),
        None => draw.pick(&[500, 30_000, 3_600_000, DAY_MS, 3 * DAY_MS]),
    };
    Grace { percent, for_ms }
}

/// Percentages up to the most that can be used, the lowest first.
pub fn thresholds(draw: &mut Draw, most: u64) -> Vec<u64> {
    let mut all = vec![1, 10, 33, 50, 75, 80, 90, 95, 99, 100, 101, 110, 150, 200, 400];
    all.retain(|percent| *percent <= most && draw.chance(40));
    all.truncate(8);
    all
}
