//! The dynamic metadata of an answer, for the gateway's logs and later filters: the limits in numbers, and the metadata
//! of rules.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::engine::{ChargeDecision, Code, ProviderChoice, Verdict};
use crate::policy::{AnswerMetadata, Domain, Mode, metadata_json};

/// The limits in numbers, the metadata of rules of passing descriptors, and the choices; None if there are none of
/// these.
pub fn metadata(verdict: &Verdict<'_>, policy: &Domain) -> Option<Map<String, Value>> {
    let mut map = Map::new();
    let is_full = match policy.answer.metadata {
        AnswerMetadata::Always => true,
        AnswerMetadata::Refused => {
            verdict.code() == Code::OverLimit
                || verdict.charges().iter().any(ChargeDecision::warns)
                || verdict.warns_of_access()
        }
        AnswerMetadata::Never => false,
    };
    if policy.answer.metadata != AnswerMetadata::Never {
        if is_full {
            add_limits(&mut map, verdict);
        }
        if let Some(id) = verdict.refusal_id.filter(|_| policy.answer.refusal_id.metadata) {
            map.insert("refusal_id".to_owned(), id.to_string().into());
        }
        add_wait(&mut map, verdict);
        add_crossed(&mut map, verdict);
        add_graces(&mut map, verdict);
        add_granted(&mut map, verdict);
        add_reserved(&mut map, verdict);
        let carried = carried(verdict);
        if !carried.is_empty() {
            map.insert("metadata".to_owned(), carried.into());
        }
    }
    for one in verdict.choices.iter().filter(|_| verdict.code() == Code::Ok) {
        map.insert(one.choice.key.to_string(), one.chosen.into());
    }
    if is_full && !verdict.choices.is_empty() {
        let choices = verdict.choices.iter();
        let choices = choices.map(|one| (one.choice.key.to_string(), describe_choice(one)));
        map.insert("choice".to_owned(), choices.collect::<Map<_, _>>().into());
    }
    (!map.is_empty()).then_some(map)
}

fn add_limits(map: &mut Map<String, Value>, verdict: &Verdict<'_>) {
    map.insert("domain".to_owned(), verdict.domain.into());
    map.insert("limits".to_owned(), verdict.charges().iter().map(describe).collect());
    if verdict.is_retry() {
        map.insert("retry".to_owned(), true.into());
    }
    let warning = verdict.charges().iter().filter(|charge| charge.warns());
    let warning: Vec<Value> = warning.map(|charge| (&*charge.limit.label).into()).collect();
    if !warning.is_empty() {
        map.insert("warned".to_owned(), warning.into());
    }
    if verdict.warns_of_access() {
        map.insert("access_warned".to_owned(), true.into());
    }
    if verdict.fallback {
        map.insert("fallback".to_owned(), true.into());
    }
    if verdict.code() == Code::OverLimit {
        map.insert("reason".to_owned(), verdict.reason().to_string().into());
    }
    if let Some(caller) = caller(verdict) {
        map.insert("caller".to_owned(), caller);
    }
    let level = verdict.level();
    if 0 < level {
        map.insert("pressure".to_owned(), level.into());
    }
}

/// The tier and priority of the caller, if the policy has tiers.
fn caller(verdict: &Verdict<'_>) -> Option<Value> {
    let caller = verdict.caller.as_ref()?;
    let tier = caller.tier_name()?;
    let priority = caller.priority(verdict.level());
    Some(json!({ "tier": tier, "priority": priority, "roles": caller.roles() }))
}

fn add_wait(map: &mut Map<String, Value>, verdict: &Verdict<'_>) {
    if !verdict.waited.is_zero() {
        map.insert("waited_ms".to_owned(), ms(verdict.waited));
    }
    if let Some(queued) = verdict.queued.filter(|_| verdict.code() == Code::OverLimit) {
        let expected = queued.expected.map(ms);
        let queue = json!({ "place": queued.position, "expected_wait_ms": expected });
        map.insert("queue".to_owned(), queue);
    }
}

/// The thresholds that the request has crossed, by limit.
fn add_crossed(map: &mut Map<String, Value>, verdict: &Verdict<'_>) {
    let crossed = verdict.crossed().map(|(charge, percents)| {
        json!({ "name": &*charge.limit.label, "mode": mode_name(charge), "crossed_percent": percents.as_slice() })
    });
    let crossed: Vec<Value> = crossed.collect();
    if !crossed.is_empty() {
        map.insert("thresholds".to_owned(), crossed.into());
    }
}

/// The limits that are exceeded by a grace.
fn add_graces(map: &mut Map<String, Value>, verdict: &Verdict<'_>) {
    let graces = verdict.graces().map(|(charge, until)| {
        let left_ms = until.as_ms().saturating_sub(verdict.at.as_ms());
        json!({ "name": &*charge.limit.label, "until_ms": until.as_ms(), "left_ms": left_ms })
    });
    let graces: Vec<Value> = graces.collect();
    if !graces.is_empty() {
        map.insert("grace".to_owned(), graces.into());
    }
}

/// The hits that the request got of limits that may be taken in part.
fn add_granted(map: &mut Map<String, Value>, verdict: &Verdict<'_>) {
    let granted = verdict.granted().map(|(charge, granted)| {
        let asked = charge.hits.amount();
        json!({ "name": &*charge.limit.label, "asked": asked, "granted": granted })
    });
    let granted: Vec<Value> = granted.collect();
    if !granted.is_empty() {
        map.insert("granted".to_owned(), granted.into());
    }
}

/// The limits of which reservations hold hits, and what was settled of them.
fn add_reserved(map: &mut Map<String, Value>, verdict: &Verdict<'_>) {
    let reserved = verdict.reserved().map(|(charge, held, settled)| {
        json!({ "name": &*charge.limit.label, "held": held, "settled": settled })
    });
    let reserved: Vec<Value> = reserved.collect();
    if !reserved.is_empty() {
        map.insert("reservations".to_owned(), reserved.into());
    }
}

/// The metadata of the rules of passing descriptors.
fn carried(verdict: &Verdict<'_>) -> Map<String, Value> {
    let mut carried = Map::new();
    for descriptor in verdict.descriptors.iter().filter(|_| verdict.denial.is_none()) {
        let passes = !verdict.of(descriptor).any(|one| one.is_over() && !one.is_shadow());
        // As in the reference, an unlimited rule has none.
        let rule = descriptor.rule.filter(|rule| !rule.unlimited);
        let metadata = rule.and_then(|rule| rule.metadata.as_ref());
        if let Some(metadata) = metadata.filter(|_| passes) {
            merge(&mut carried, metadata_json(metadata));
        }
    }
    carried
}

/// The scores of a choice.
fn describe_choice(one: &ProviderChoice<'_>) -> Value {
    let name = |index: &usize| one.choice.candidates[*index].name.to_string();
    let rounded = |score: &f64| Value::from((score * 1_000.0).round() / 1_000.0);
    let scores = one.scores.iter().map(|(index, score)| (name(index), rounded(score)));
    json!({ "chosen": one.chosen, "scores": scores.collect::<Value>() })
}

/// The name of a limit's mode, which may be `strict`.
fn mode_name(charge: &ChargeDecision<'_>) -> &'static str {
    match charge.mode {
        Mode::Enforce if charge.limit.strict => "strict",
        mode => mode.name(),
    }
}

fn ms(time: Duration) -> Value {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into()
}

fn describe(charge: &ChargeDecision<'_>) -> Value {
    let mut map = Map::new();
    map.insert("name".to_owned(), (&*charge.limit.label).into());
    map.insert("mode".to_owned(), mode_name(charge).into());
    map.insert("over".to_owned(), charge.is_over().into());
    map.insert("amount".to_owned(), charge.amount.into());
    if charge.capacity != charge.amount {
        map.insert("burst".to_owned(), charge.capacity.into());
    }
    map.insert("remaining".to_owned(), charge.remaining().into());
    if charge.is_retry() {
        map.insert("retry".to_owned(), true.into());
    }
    if let Some(wait) = charge.wait() {
        map.insert("wait_ms".to_owned(), ms(wait));
    }
    if let Some(reset) = charge.reset() {
        map.insert("reset_ms".to_owned(), ms(reset));
    }
    map.into()
}

/// Adds new fields. Maps within maps are merged; otherwise the first value is kept, as in the reference.
fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Object(known)), Value::Object(more)) => merge(known, more),
            (Some(_), _) => {}
            (None, value) => {
                into.insert(name, value);
            }
        }
    }
}
