//! Renders limits as JSON.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::limit::{Algorithm, Condition, Limit, Overdraft};
use crate::policy::model::{
    Adjust, Classes, Cost, CostLine, Estimate, Lease, RuleLimit, StatedEstimate, TierLimit,
};

/// A limit as JSON, with all its settings.
pub fn describe_limit(classes: &Classes, limit: &RuleLimit) -> Value {
    let mut map = Map::new();
    let mut text = |name: &str, value: String| map.insert(name.to_owned(), value.into());
    text("rate", limit.limit.to_string());
    text("algorithm", limit.limit.algorithm().to_string());
    if let Algorithm::Calendar(calendar) = limit.limit.algorithm() {
        text("timezone", calendar.zone_name().to_owned());
    }
    text("mode", if limit.strict { "strict".to_owned() } else { limit.mode.to_string() });
    if let Some(share) = limit.enforced {
        text("enforce", share.to_string());
    }
    text("on_outage", limit.on_outage.to_string());
    if !limit.name.is_empty() {
        text("name", limit.name.to_string());
    }
    if limit.limit.capacity() != limit.limit.amount() {
        map.insert("burst".to_owned(), limit.limit.capacity().into());
    }
    if !limit.by_tier.is_empty() {
        let of_tier = classes.tiers.iter().zip(&limit.by_tier);
        let described = of_tier.map(|(tier, limit)| (tier.to_string(), limit.to_string().into()));
        map.insert("by_tier".to_owned(), described.collect::<Map<_, _>>().into());
    }
    let when = describe_when(classes, limit);
    if !when.is_null() {
        map.insert("when".to_owned(), when);
    }
    describe_charging(limit, &mut map);
    describe_softening(limit, &mut map);
    map.into()
}

/// What a request is charged, and what becomes of one that does not fit.
fn describe_charging(limit: &RuleLimit, map: &mut Map<String, Value>) {
    if let Some(cost) = &limit.cost {
        map.insert("cost".to_owned(), describe_cost(cost));
        map.insert("cost_table".to_owned(), (&*cost.name).into());
    }
    if let Some(currency) = &limit.currency {
        map.insert("currency".to_owned(), (&**currency).into());
    }
    if limit.limit.overdraft() != Overdraft::None {
        map.insert("overdraft".to_owned(), limit.limit.overdraft().to_string().into());
    }
    if let Some(Estimate { hits, stated, life, at }) = &limit.estimate {
        let for_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        let mut estimate = json!({ "hits": hits, "for_ms": for_ms, "at": at.name() });
        if let Some(StatedEstimate { key, max }) = stated {
            (estimate["key"], estimate["max"]) = ((**key).into(), (*max).into());
        }
        map.insert("estimate".to_owned(), estimate);
    }
    if limit.partial {
        map.insert("partial".to_owned(), true.into());
    }
    if let Some(wait) = limit.wait {
        let up_to_ms = u64::try_from(wait.up_to.as_millis()).unwrap_or(u64::MAX);
        map.insert("wait".to_owned(), json!({ "up_to_ms": up_to_ms, "queue": wait.queue }));
    }
    if limit.charges_retries {
        map.insert("idempotency".to_owned(), false.into());
    }
    if limit.lease == Lease::Auto {
        map.insert("lease".to_owned(), "auto".into());
    }
}

/// What comes before and after a limit is used up, and what changes its amount.
fn describe_softening(limit: &RuleLimit, map: &mut Map<String, Value>) {
    if let Some(grace) = limit.limit.grace() {
        let over = format!("{}%", grace.percent());
        map.insert("grace".to_owned(), json!({ "over": over, "for_ms": grace.for_ms() }));
    }
    if let Some(thresholds) = limit.limit.thresholds() {
        let described = thresholds.percents().iter().map(|percent| format!("{percent}%").into());
        map.insert("thresholds".to_owned(), Value::Array(described.collect()));
    }
    if let Some(adjust) = &limit.adjust {
        map.insert("adjust".to_owned(), describe_adjust(adjust));
    }
}

/// How a limit follows a signal, and how much of it is in force.
fn describe_adjust(adjust: &Adjust) -> Value {
    let own = &adjust.adjustment;
    let now = adjust.in_force().map(|in_force| {
        let signal = in_force.state.map(|state| state.signal);
        json!({
            "scale": in_force.adjusted.scale.to_string(),
            "reason": in_force.adjusted.reason.name(),
            "value": signal.map(|signal| signal.value),
            "at_ms": signal.map(|signal| signal.at.as_ms()),
        })
    });
    json!({
        "signal": adjust.signal.to_string(),
        "above": own.above,
        "below": own.below,
        "least": own.least.to_string(),
        "step": own.step.to_string(),
        "every_ms": own.every_ms,
        "stale_after_ms": own.stale_after_ms,
        "stale": own.stale.to_string(),
        "now": now,
    })
}

/// The rates of a limit by schedule, and by tier if they differ; null if there are none.
fn describe_when(classes: &Classes, limit: &RuleLimit) -> Value {
    let describe = |limit: &Limit| {
        let scheduled = limit.scheduled()?;
        let entries = scheduled.timetable().conditions().iter().zip(scheduled.limits());
        let entry = |(condition, limit): (&Condition, &Arc<Limit>)| json!({ "during": &*condition.name, "holds": condition.text(), "rate": limit.to_string() });
        Some(Value::from(entries.map(entry).collect::<Vec<_>>()))
    };
    let tiers = classes.tiers.iter().zip(&limit.by_tier);
    let by_tier = tiers.filter_map(|(tier, limit)| match limit {
        TierLimit::Limit(limit) => Some((tier.to_string(), describe(limit)?)),
        TierLimit::None | TierLimit::Unlimited => None,
    });
    let by_tier: Map<String, Value> = by_tier.collect();
    match by_tier.is_empty() {
        true => describe(&limit.limit).unwrap_or_default(),
        false => by_tier.into(),
    }
}

/// The lines of a table of costs.
fn describe_cost(cost: &Cost) -> Value {
    let when = |line: &CostLine| {
        let when = line.when.iter();
        when.map(|(key, value)| (key.to_string(), Value::from(&**value))).collect::<Value>()
    };
    let line = |line: &CostLine| json!({ "when": when(line), "hits": line.hits, "per": line.per });
    cost.lines.iter().map(line).collect()
}
