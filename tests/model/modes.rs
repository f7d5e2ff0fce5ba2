//! Draws how limits are enforced, and for which part of the callers; and finds out in which part each caller is.

use tollgate::clock::{Clock, Timestamp};
use tollgate::engine::{Code, Request};

use super::draw::Draw;
use super::histories::CALLERS;
use super::timed::thresholds;
use super::who::Parts;
use super::world::{Enforcement, Grace, Mode, Overdraft, Rule, WHOLE, World};
use super::yaml::share;
use crate::support::engine;
use crate::support::engine::{Bench, descriptor};

/// Lets a policy, some of its rules and some of its limits say how they are enforced.
pub fn add(draw: &mut Draw, world: &mut World) {
    let has_caller = world.caller.is_some();
    // Others than a caller's own limits have requests of no caller, whose part of all nobody knows.
    world.mode = draw.maybe(20, |draw| said(draw, false));
    match draw.between(0, 9) {
        0 => world.defaults.overdraft = draw.pick(&[Overdraft::Allow, Overdraft::Clip]),
        1..=3 => {
            let for_ms = draw.pick(&[5_000, 600_000, 86_400_000]);
            world.defaults.grace = Some(Grace { percent: draw.pick(&[5, 10, 25, 100]), for_ms });
        }
        _ => {}
    }
    if draw.chance(20) {
        world.defaults.thresholds = thresholds(draw, 200);
    }
    world.each_rule(&mut |world, rule, of_caller| {
        let of_caller = of_caller && has_caller;
        if rule.mode.is_none() && draw.chance(12) {
            rule.mode = Some(said(draw, of_caller));
        }
        change(draw, (world, rule, of_caller), 15);
    });
}

/// Lets some limits say something else.
pub fn edit(draw: &mut Draw, world: &mut World) {
    let has_caller = world.caller.is_some();
    world.each_rule(&mut |world, rule, of_caller| {
        change(draw, (world, rule, of_caller && has_caller), 10);
    });
}

/// Lets so many percent of a rule's limits say something else, and leaves out what they can't have then.
fn change(draw: &mut Draw, (world, rule, of_caller): (&World, &mut Rule, bool), percent: u64) {
    let mut limits = std::mem::take(&mut rule.limits);
    for limit in &mut limits {
        if draw.chance(percent) {
            limit.mode = draw.maybe(80, |draw| said(draw, of_caller));
        }
        if world.enforcement(rule, limit).strict || limit.grace.is_some() {
            limit.overdraft = Overdraft::None;
        }
        limit.grace = limit.grace.filter(|grace| world.may_have(rule, limit, *grace));
        limit.partial &= world.may_be_partial(rule, limit);
        let most = world.used_most(rule, limit);
        limit.thresholds.retain(|threshold| *threshold <= most);
    }
    rule.limits = limits;
}

fn said(draw: &mut Draw, of_caller: bool) -> Enforcement {
    let mode = draw.pick(&[
        Mode::Enforce,
        Mode::Enforce,
        Mode::Enforce,
        Mode::Warn,
        Mode::Warn,
        Mode::Shadow,
        Mode::Quota,
        Mode::Off,
    ]);
    let enforces = mode == Mode::Enforce;
    let share = draw.maybe(60, |draw| draw.between(0, WHOLE)).filter(|_| enforces && of_caller);
    Enforcement { mode, strict: enforces && draw.chance(50), share }
}

/// The least part of all callers that each caller is among, as a policy of its own shows: those who ask, and who may give.
pub async fn parts() -> Parts {
    let bench = Bench::in_memory(&Clock::manual(Timestamp::from_ms(0)));
    let mut parts = Parts::new();
    for name in CALLERS.into_iter().chain(["corp", "group"]) {
        let (mut least, mut most) = (0, WHOLE);
        while least < most {
            let middle = least.midpoint(most);
            if is_among(&bench, name, middle).await {
                most = middle;
            } else {
                least = middle + 1;
            }
        }
        parts.insert(name.to_owned(), least);
    }
    parts
}

/// Whether a limit that is enforced for so much of all callers is for this one.
async fn is_among(bench: &Bench, name: &str, parts: u64) -> bool {
    let policy = format!(
        "domain: parts\ncaller: {{ key: user }}\nenforce: '{}'\ndescriptors: [{{ key: user, limits: [0/day] }}]",
        share(parts)
    );
    bench.put_in_force(&policy).unwrap();
    let entry = format!("user={name}");
    let request = Request::try_new("parts", vec![descriptor(&entry, 1)]).unwrap();
    engine::ask(&bench.engine, &request).await.code == Code::OverLimit
}
