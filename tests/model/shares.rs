//! Draws what policies say of hits that are held or taken in part, what requests ask of reservations, and bonuses that recur.

use super::bonuses::{EVERY, Giving};
use super::draw::Draw;
use super::histories;
use super::holdings::{ACTION_KEY, ID_KEY};
use super::people::{Bonus, Every, NEVER_MS, People, Recurs};
use super::policies::LIMIT_NAMES;
use super::world::{Ask, World};

const DAY_MS: u64 = 86_400_000;

/// For how long hits are held.
const HOLDING_MS: [u64; 6] = [1, 900, 30_000, 600_000, 5 * 3_600_000, 7 * DAY_MS];

/// Lets a policy say which limits can be reserved, and which be taken in part.
pub fn add(draw: &mut Draw, world: &mut World) {
    let of_all = draw.chance(20);
    let of_some = draw.chance(40);
    world.holding_ms = of_all.then(|| draw.pick(&HOLDING_MS));
    world.each_rule(&mut |_, rule, _| {
        if of_some && !rule.limits.is_empty() && draw.chance(60) {
            rule.holding_ms = Some(draw.pick(&HOLDING_MS));
        }
    });
    let percent = draw.pick(&[0, 0, 30, 80]);
    world.each_limit(&mut |world, rule, limit| {
        limit.partial = draw.chance(percent) && world.may_be_partial(rule, limit);
    });
}

/// Ids of reservations: those that were made last are asked for again.
#[derive(Default)]
pub struct Ids(u64);

impl Ids {
    /// Lets a request ask something of reservations.
    pub fn reserve(&mut self, draw: &mut Draw, ask: &mut Ask) {
        let action = draw.name(&[
            "reserve", "reserve", "reserve", "settle", "settle", "settle", "extend", "cancel", "no",
        ]);
        if action == "reserve" && draw.chance(80) {
            self.0 += 1;
        }
        let id = self.0.saturating_sub(draw.pick(&[0, 0, 0, 1, 1, 2, 3]));
        let id = if draw.chance(3) { String::new() } else { id.to_string() };
        let index = draw.index(ask.parts.len());
        let entries = &mut ask.parts[index].entries;
        entries.push((ID_KEY.to_owned(), id));
        if action != "no" || draw.chance(50) {
            entries.insert(draw.index(entries.len()), (ACTION_KEY.to_owned(), action));
        }
    }
}

/// A bonus of the person of that number, of whom no other bonus has the priority.
pub fn bonus(draw: &mut Draw, (number, others): (u64, &[Bonus]), now_ms: u64) -> Option<Bonus> {
    let priority = draw.between(0, 15) * 6 + number;
    if others.iter().any(|other| other.priority == priority) {
        return None;
    }
    let lasts_ms = draw.pick(&[60_000, 90_000_000, 900_000_000, 900_000_000, 40_000_000_000]);
    let until_ms = now_ms + draw.between(lasts_ms / 10, lasts_ms);
    let recurs = draw.maybe(35, |draw| recurs(draw, now_ms));
    // Some ids are as long as they may be. Nobody finds another one anew under the id of one that recurs.
    let id = match recurs {
        Some(_) => format!("r{:x}", draw.between(0, u64::from(u32::MAX))),
        None => draw.name(&["a", "b", "c", "d", "bonus-whose-id-has-no-room-to-go"]),
    };
    let until_ms = if draw.chance(20) { NEVER_MS } else { until_ms };
    let (limit, amount) = (draw.name(&LIMIT_NAMES), draw.between(1, 12));
    Some(Bonus { id, limit, amount, until_ms, priority, recurs })
}

fn recurs(draw: &mut Draw, now_ms: u64) -> Recurs {
    let every: Every = draw.pick(&EVERY);
    let back_ms = draw.pick(&[1, 1, 10, 40]) * draw.pick(&[3_600_000, DAY_MS]);
    let ahead_ms = draw.pick(&[60_000, 3_600_000, DAY_MS]);
    let from_ms = match draw.between(0, 9) {
        0 => 0,
        1..=3 => now_ms + draw.between(1, ahead_ms),
        _ => now_ms - draw.between(0, back_ms),
    };
    let rollover = draw.pick(&[0, 1, 5, 20, 100]);
    Recurs { every, from_ms, rollover: if from_ms == 0 { 0 } else { rollover } }
}

/// Now and then hits that somebody who pools with nobody gives to another: a new gift, or one of those before again.
pub fn maybe_giving(
    draw: &mut Draw,
    (people, gifts): (&People, &[Giving]),
    now_ms: u64,
) -> Option<Giving> {
    if !draw.chance(4) || people.is_empty() {
        return None;
    }
    let new = giving(draw, people, (gifts.len() as u64, now_ms));
    let again = draw.maybe(30, |draw| draw.index(gifts.len().max(1)));
    let giving = again.and_then(|index| gifts.get(index).cloned()).or(new)?;
    let pools = people.get(&giving.from).is_none_or(|one| one.pool);
    (!pools).then_some(giving)
}

/// Hits of a bonus that somebody gives to another; that number tells it from other gifts.
fn giving(draw: &mut Draw, people: &People, (number, now_ms): (u64, u64)) -> Option<Giving> {
    let names: Vec<&String> = people.keys().collect();
    let (from, to) = (names[draw.index(names.len())], names[draw.index(names.len())]);
    let person = &people[from];
    if from == to || person.pool || person.bonuses.is_empty() {
        return None;
    }
    let bonus = draw.pick(&person.bonuses);
    let every_ms = bonus.recurs.map_or(NEVER_MS, |recurs| recurs.every.end(now_ms));
    Some(Giving {
        id: format!("gift-{number}"),
        from: from.clone(),
        to: to.clone(),
        limit: bonus.limit,
        hits: draw.between(1, 6),
        bonus: bonus.id,
        until_ms: every_ms.min(bonus.until_ms),
    })
}

/// The receiver of a gift has its hits in a bonus, if there is room for it.
pub fn receive(draw: &mut Draw, people: &mut People, giving: &Giving) {
    let number = histories::number(&giving.to);
    let person = people.get_mut(&giving.to).unwrap();
    let priority = draw.between(0, 15) * 6 + number;
    let is_free = |other: &Bonus| other.priority != priority && other.id != giving.id;
    if person.bonuses.iter().all(is_free) {
        let (id, limit, amount) = (giving.id.clone(), giving.limit.clone(), giving.hits);
        let until_ms = giving.until_ms;
        person.bonuses.push(Bonus { id, limit, amount, until_ms, priority, recurs: None });
    }
}
