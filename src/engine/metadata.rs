//! What an answer tells the gateway's logs and later filters: the limits in numbers, and what the rules carry.

use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::policy::AnswerMetadata;

use super::Code;
use super::answer::Charged;
use super::answer::Judgement;

impl Judgement<'_> {
    /// As what the caller was told apart, if the policy does.
    fn caller(&self) -> Option<Value> {
        let tier = self.asker.tier_name()?;
        let priority = self.asker.priority(self.level);
        Some(json!({ "tier": tier, "priority": priority, "roles": self.asker.roles() }))
    }

    /// Whether the answer carries metadata on its limits.
    pub fn tells_metadata(&self) -> bool {
        match self.domain.answer.metadata {
            AnswerMetadata::Always => true,
            AnswerMetadata::Refused => self.code == Code::OverLimit,
            AnswerMetadata::Never => false,
        }
    }

    /// The limits in numbers, and what the rules of passing descriptors carry.
    pub fn metadata(&self) -> Option<Map<String, Value>> {
        if self.domain.answer.metadata == AnswerMetadata::Never {
            return None;
        }
        let mut map = Map::new();
        if self.tells_metadata() {
            map.insert("domain".to_owned(), self.domain.name.as_str().into());
            map.insert("limits".to_owned(), self.charges.iter().map(describe).collect());
            if self.fallback {
                map.insert("fallback".to_owned(), true.into());
            }
            if self.code == Code::OverLimit {
                map.insert("reason".to_owned(), self.reason().to_string().into());
            }
            if let Some(caller) = self.caller() {
                map.insert("caller".to_owned(), caller);
            }
            if 0 < self.level {
                map.insert("pressure".to_owned(), self.level.into());
            }
        }
        let ms = |time: Duration| Value::from(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        if !self.decided.waited.is_zero() {
            map.insert("waited_ms".to_owned(), ms(self.decided.waited));
        }
        if let Some(queued) = self.decided.queued.filter(|_| self.code == Code::OverLimit) {
            let expected = queued.expected.map(ms);
            let told = json!({ "place": queued.place, "expected_wait_ms": expected });
            map.insert("queue".to_owned(), told);
        }
        let mut carried = Map::new();
        for part in self.parts.iter().filter(|_| self.denial.is_none()) {
            let passes = !self.of(part).any(|charged| charged.over() && !charged.is_shadow());
            // As in the reference, what is unlimited carries none.
            let rule = part.rule.filter(|rule| !rule.unlimited);
            let metadata = rule.and_then(|rule| rule.metadata.as_ref());
            if let Some(metadata) = metadata.filter(|_| passes) {
                merge(&mut carried, metadata);
            }
        }
        if !carried.is_empty() {
            map.insert("metadata".to_owned(), carried.into());
        }
        (!map.is_empty()).then_some(map)
    }
}

fn describe(charged: &Charged<'_>) -> Value {
    let mut map = Map::new();
    map.insert("name".to_owned(), (&*charged.limit.label).into());
    map.insert("mode".to_owned(), charged.mode.to_string().into());
    map.insert("over".to_owned(), charged.over().into());
    map.insert("amount".to_owned(), charged.amount().into());
    if charged.capacity() != charged.amount() {
        map.insert("burst".to_owned(), charged.capacity().into());
    }
    map.insert("remaining".to_owned(), charged.remaining().into());
    let ms = |time: Duration| Value::from(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    if let Some(wait) = charged.wait() {
        map.insert("wait_ms".to_owned(), ms(wait));
    }
    if let Some(reset) = charged.reset() {
        map.insert("reset_ms".to_owned(), ms(reset));
    }
    map.into()
}

/// Adds what is new; maps within maps are merged, else what came first stays, as in the reference.
fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (name, value) in from {
        match (into.get_mut(name), value) {
            (Some(Value::Object(known)), Value::Object(more)) => merge(known, more),
            (Some(_), _) => {}
            (None, value) => {
                into.insert(name.clone(), value.clone());
            }
        }
    }
}
