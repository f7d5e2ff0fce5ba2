//! What the model says to a request, in the words of an answer.

use std::cmp::Reverse;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tollgate::answer::{Status, StatusLimit};
use tollgate::engine::Code;
use tollgate::policy::Unit;

use super::judge::{Decision, Fit};
use super::plan::{Charge, Part, Plan};
use super::who::Who;
use super::world::{Mode, Window, World};

/// An answer, as far as the model has a say in it.
#[derive(Debug, PartialEq)]
pub struct Reported {
    pub code: Code,
    pub statuses: Vec<Status>,
    pub metadata: Json,
}

impl Reported {
    /// Whether both refuse, for the same reason and as long. What remains of limits isn't looked at: a refusal
    /// that is held tells it as it was up to a quarter of a second before.
    pub fn refuses_like(&self, other: &Self) -> bool {
        let refusal = |reported: &Self| {
            let limits = reported.metadata["limits"].as_array().cloned().unwrap_or_default();
            let waits: Vec<(Json, Json)> = limits
                .iter()
                .map(|limit| (limit["over"].clone(), limit["wait_ms"].clone()))
                .collect();
            (reported.code, reported.metadata["reason"].clone(), waits)
        };
        self.code == Code::OverLimit && refusal(self) == refusal(other)
    }

    /// Whether a limit refuses, or would if it were enforced.
    pub fn tells_refusal(&self) -> bool {
        let mut limits = self.metadata["limits"].as_array().into_iter().flatten();
        self.code == Code::OverLimit || limits.any(|limit| limit["over"] == true)
    }
}

/// Reasons, from what waiting helps most to what it never helps.
const REASONS: [&str; 6] = [
    "over_limit",
    "reserved",
    "pressure",
    "idempotency_conflict",
    "reservation_conflict",
    "no_access",
];

/// The answer to a request that may not pass whatever the limits say.
pub fn denied(world: &World, who: &Who<'_>, plan: &Plan<'_>, denial: &str) -> Reported {
    let status = |part: &Part| {
        let is_over = part.denied || denial == "disabled";
        let code = if is_over { Code::OverLimit } else { Code::Ok };
        Status { code, limit: None, remaining: 0, reset: None }
    };
    let mut metadata = json!({ "domain": world.domain, "limits": [], "reason": denial });
    tell_caller(&mut metadata, who, 0);
    tell_access(&mut metadata, plan);
    let statuses = plan.parts.iter().map(status).collect();
    Reported { code: Code::OverLimit, statuses, metadata }
}

/// The answer to a request that its limits decided at a level of pressure.
pub fn decided(
    world: &World,
    who: &Who<'_>,
    plan: &Plan<'_>,
    (admitted, decisions, level, now): (bool, &[Decision], usize, u64),
) -> Reported {
    let all: Vec<(&Charge<'_>, &Decision)> = plan.charges.iter().zip(decisions).collect();
    let limits: Json = all.iter().map(|(charge, decision)| describe(charge, decision)).collect();
    let mut metadata = json!({ "domain": world.domain, "limits": limits });
    tell_caller(&mut metadata, who, level);
    tell_access(&mut metadata, plan);
    if 0 < level {
        metadata["pressure"] = json!(level);
    }
    if admitted && decisions.iter().any(|decision| decision.is_retry) {
        metadata["retry"] = json!(true);
    }
    let warning = |(charge, decision): &&(&Charge<'_>, &Decision)| {
        charge.mode == Mode::Warn && decision.fit != Fit::Now
    };
    let warned: Vec<&str> =
        all.iter().filter(warning).map(|(charge, _)| charge.label.as_str()).collect();
    if !warned.is_empty() {
        metadata["warned"] = json!(warned);
    }
    tell_notices(&mut metadata, &all, now);
    tell_shares(&mut metadata, &all, admitted);
    let quota_left = has_quota_left(&all);
    let all: Vec<Met<'_>> = all
        .into_iter()
        .map(|(charge, decision)| {
            let over = decision.fit != Fit::Now;
            let refuses = match charge.mode {
                Mode::Enforce => over,
                Mode::Quota => over && !quota_left,
                Mode::Warn | Mode::Shadow | Mode::Off => false,
            };
            Met { charge, decision, refuses }
        })
        .collect();
    if !admitted {
        let refusing = all.iter().filter(|met| met.refuses);
        let rank = |reason: &str| REASONS.iter().position(|known| *known == reason);
        let worst = refusing.map(|met| met.decision.reason).max_by_key(|one| rank(one));
        metadata["reason"] = json!(worst);
    }
    // Before the first that refuses none is shown that has as little left.
    let mut has_refused = admitted;
    let status = |part: &Part| {
        let met: Vec<Met<'_>> = part.charges.iter().map(|index| all[*index]).collect();
        let (mut status, refuses) = status(part, &met, now);
        has_refused |= refuses;
        if !has_refused && status.remaining == 0 {
            status.limit = None;
        }
        status
    };
    let statuses = plan.parts.iter().map(status).collect();
    Reported { code: if admitted { Code::Ok } else { Code::OverLimit }, statuses, metadata }
}

/// A limit that a request meets, and how it decided.
#[derive(Clone, Copy)]
struct Met<'m> {
    charge: &'m Charge<'m>,
    decision: &'m Decision,
    /// The request is refused for it, or would be.
    refuses: bool,
}

/// Whether the limits of one rule that are quotas have all their hits.
fn has_quota_left(all: &[(&Charge<'_>, &Decision)]) -> bool {
    let quotas = || all.iter().filter(|(charge, _)| charge.mode == Mode::Quota);
    quotas().any(|(one, _)| {
        quotas()
            .filter(|(other, _)| other.path == one.path)
            .all(|(_, decision)| decision.fit == Fit::Now)
    })
}

fn tell_caller(metadata: &mut Json, who: &Who<'_>, level: usize) {
    if let Some(tier) = who.tier_name() {
        let priority = who.priority(level);
        metadata["caller"] = json!({ "tier": tier, "priority": priority, "roles": who.roles() });
    }
}

fn tell_access(metadata: &mut Json, plan: &Plan<'_>) {
    if plan.parts.iter().any(|part| part.warned) {
        metadata["access_warned"] = json!(true);
    }
}

/// Tells of thresholds that are crossed, and of graces by which more than a limit is in use.
fn tell_notices(metadata: &mut Json, all: &[(&Charge<'_>, &Decision)], now: u64) {
    let crossing = all.iter().filter(|(_, decision)| !decision.crossed.is_empty());
    let crossed: Vec<Json> = crossing
        .map(|(charge, decision)| {
            let (name, mode) = (&charge.label, mode(charge));
            json!({ "name": name, "mode": mode, "crossed_percent": decision.crossed })
        })
        .collect();
    if !crossed.is_empty() {
        metadata["thresholds"] = json!(crossed);
    }
    let graces = all.iter().filter_map(|(charge, decision)| {
        let until = decision.grace_until?;
        Some(json!({ "name": charge.label, "until_ms": until, "left_ms": until - now }))
    });
    let graces: Vec<Json> = graces.collect();
    if !graces.is_empty() {
        metadata["grace"] = json!(graces);
    }
}

/// Tells what a request that passes gets of limits that may be taken in part, and of reservations.
fn tell_shares(metadata: &mut Json, all: &[(&Charge<'_>, &Decision)], admitted: bool) {
    let partial = all.iter().filter(|(charge, _)| charge.partial && admitted);
    let granted: Vec<Json> = partial
        .map(|(charge, decision)| {
            let (asked, granted) = (charge.hits, decision.granted);
            json!({ "name": charge.label, "asked": asked, "granted": granted })
        })
        .collect();
    if !granted.is_empty() {
        metadata["granted"] = json!(granted);
    }
    let reserved = all.iter().filter(|(_, decision)| 0 < decision.held + decision.settled);
    let reserved: Vec<Json> = reserved
        .map(|(charge, Decision { held, settled, .. })| {
            json!({ "name": charge.label, "held": held, "settled": settled })
        })
        .collect();
    if !reserved.is_empty() {
        metadata["reservations"] = json!(reserved);
    }
}

fn mode(charge: &Charge<'_>) -> &'static str {
    match charge.mode {
        Mode::Enforce if charge.strict => "strict",
        Mode::Enforce => "enforce",
        Mode::Quota => "quota",
        Mode::Warn => "warn",
        Mode::Shadow => "shadow",
        Mode::Off => "off",
    }
}

fn describe(charge: &Charge<'_>, decision: &Decision) -> Json {
    let mut limit = json!({
        "name": charge.label,
        "mode": mode(charge),
        "over": decision.fit != Fit::Now,
        "amount": charge.form.amount,
        "remaining": decision.remaining,
    });
    if charge.form.capacity() != charge.form.amount {
        limit["burst"] = json!(charge.form.capacity());
    }
    if decision.is_retry {
        limit["retry"] = json!(true);
    }
    if let Fit::AfterMs(wait_ms) = decision.fit {
        limit["wait_ms"] = json!(wait_ms);
    }
    if let Some(reset_ms) = decision.reset_ms {
        limit["reset_ms"] = json!(reset_ms);
    }
    limit
}

/// Tells of the limit that refuses longest, else of one that is over, else of the one with the least left; of equals, the
/// one that resets last; a shadow only if there is nothing else. And whether that limit refuses.
fn status(part: &Part, met: &[Met<'_>], now: u64) -> (Status, bool) {
    let shown = met.iter().filter(|met| met.charge.mode < Mode::Shadow);
    let reported = shown.min_by_key(tightness).or_else(|| met.iter().min_by_key(tightness));
    let Some(Met { charge, decision, refuses }) = reported else {
        let remaining = if part.unlimited { u32::MAX } else { 0 };
        return (Status { code: Code::Ok, limit: None, remaining, reset: None }, false);
    };
    let is_over = charge.mode.refuses() && decision.fit != Fit::Now;
    let name = charge.limit.name.clone().unwrap_or_default();
    let limit = StatusLimit {
        name: name.into(),
        amount: u32::try_from(quota(charge, now)).unwrap(),
        unit: unit(charge.limit.window),
    };
    let until_whole = decision.reset_ms;
    let ms = match decision.fit {
        _ if !is_over => until_whole,
        Fit::AfterMs(wait_ms) => Some(wait_ms),
        // What never passes has at most the window.
        _ => until_whole.filter(|ms| 0 < *ms).or(charge.limit.window.ms),
    };
    let status = Status {
        code: if is_over { Code::OverLimit } else { Code::Ok },
        limit: Some(limit),
        remaining: if is_over { 0 } else { u32::try_from(decision.remaining).unwrap() },
        reset: ms.map(Duration::from_millis),
    };
    (status, *refuses)
}

/// All that could be spent at once: of a bucket its burst, and of gifts those that hold.
fn quota(charge: &Charge<'_>, now: u64) -> u64 {
    let gifts = charge.gifts.iter().filter(|gift| now < gift.until_ms);
    charge.form.capacity() + gifts.map(|gift| gift.amount).sum::<u64>()
}

/// What is smallest comes first.
fn tightness(met: &&Met<'_>) -> impl Ord + use<> {
    let Met { decision, refuses, .. } = met;
    let resets = Reverse(decision.reset_ms);
    let by_wait = match decision.fit {
        Fit::Never => (0, 0, resets),
        Fit::AfterMs(wait_ms) => (1, u64::MAX - wait_ms, resets),
        Fit::Now => (2, decision.remaining, resets),
    };
    (!refuses, by_wait)
}

/// The protocol's unit of a window, if it has one.
fn unit(window: Window) -> Option<Unit> {
    match window.text {
        "second" => Some(Unit::Second),
        "minute" => Some(Unit::Minute),
        "hour" => Some(Unit::Hour),
        "day" => Some(Unit::Day),
        "week" => Some(Unit::Week),
        "month" => Some(Unit::Month),
        "year" => Some(Unit::Year),
        _ => None,
    }
}
