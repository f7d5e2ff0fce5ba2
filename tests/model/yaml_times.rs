//! What worlds say of times, as YAML.

use serde_json::{Map, Value as Json, json};

use super::world::{Change, Condition, Dates, Grace, Limit, When, World};
use super::yaml::{map, share};

const MONTHS: [&str; 12] = [
    "january", "feb", "march", "april", "may", "june", "july", "august", "sep", "october",
    "november", "december",
];
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wed", "thursday", "friday", "saturday", "sun"];

/// The conditions that have a name.
pub fn schedules(world: &World) -> Json {
    let all = world.schedules.iter();
    all.map(|(name, condition)| (name.clone(), Json::Object(said(condition))))
        .collect::<Map<_, _>>()
        .into()
}

/// An entry of a limit's `when`.
pub fn when(world: &World, limit: &Limit, when: &When) -> Json {
    let mut entry = match when.during {
        Some(index) => Map::from_iter([("during".to_owned(), json!(world.schedules[index].0))]),
        None => said(&when.own),
    };
    let scale = |parts: u64| json!(share(parts));
    let rate = |amount: u64| json!(format!("{amount}/{}", limit.window.text));
    let (key, own, write): (&str, u64, &dyn Fn(u64) -> Json) = match when.change {
        Change::Scale(parts) => ("scale", parts, &scale),
        Change::Rate(amount) => ("rate", amount, &rate),
    };
    let tiers = when.by_tier.iter().map(|(tier, own)| (world.tiers[*tier].clone(), write(*own)));
    let tiers: Map<String, Json> = tiers.collect();
    entry.insert(key.to_owned(), if tiers.is_empty() { write(own) } else { tiers.into() });
    entry.into()
}

/// A grace, in short where it can be.
pub fn grace(grace: Grace) -> Json {
    let over = format!("{}%", grace.percent);
    match grace.for_ms {
        86_400_000 => json!(over),
        ms => map([("over", json!(over)), ("for", json!(format!("{ms}ms")))]),
    }
}

fn said(condition: &Condition) -> Map<String, Json> {
    let named = |names: &'static [&'static str], ranges: &[(i8, i8)]| -> Json {
        let name = |one: i8| names[usize::try_from(one - 1).unwrap()];
        let range = |(first, last): &(i8, i8)| match first == last {
            true => name(*first).to_owned(),
            false => format!("{}-{}", name(*first), name(*last)),
        };
        one_or_many(ranges.iter().map(range).collect())
    };
    let hour = |minute: u64| format!("{:02}:{:02}", minute / 60, minute % 60);
    let hours = condition.hours.iter();
    let hours = hours.map(|(start, end)| format!("{}-{}", hour(*start), hour(*end)));
    let said = map([
        ("months", named(&MONTHS, &condition.months)),
        ("weekdays", named(&WEEKDAYS, &condition.weekdays)),
        ("hours", one_or_many(hours.collect())),
        ("dates", one_or_many(condition.dates.iter().map(dates).collect())),
        ("except", one_or_many(condition.except.iter().map(dates).collect())),
    ]);
    said.as_object().unwrap().clone()
}

fn one_or_many(mut texts: Vec<String>) -> Json {
    match texts.len() {
        1 => json!(texts.remove(0)),
        _ => json!(texts),
    }
}

fn dates(dates: &Dates) -> String {
    let yearly = |(month, day): (i8, i8)| format!("{month:02}-{day:02}");
    let of_year = |(year, month, day): (i16, i8, i8)| format!("{year}-{}", yearly((month, day)));
    let (first, last) = match *dates {
        Dates::Once(first, last) => (of_year(first), of_year(last)),
        Dates::Yearly(first, last) => (yearly(first), yearly(last)),
    };
    if first == last { first } else { format!("{first}..{last}") }
}
