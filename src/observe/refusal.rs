//! A refusal as JSON: in the audit log, in Redis and over HTTP.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::instant::instant;
use crate::engine::{ChargeRecord, DecisionRecord, Reason, RefusalRecord, RefusedLimit};

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Refusal")]
pub struct RefusalForm {
    /// Absent if the policy's `answer` has no ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The time of the decision, by the clock of the store.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    pub domain: String,
    /// Absent if the request names no caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Absent if the policy has no tiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    pub priority: u8,
    /// `over_limit`, `reserved`, `pressure`, `idempotency_conflict`, `no_access` or `disabled`.
    pub reason: String,
    /// The level of pressure; absent without pressure.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pressure: u8,
    /// The store was unavailable, and `on_outage` refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fallback: bool,
    /// Milliseconds after which the same request would pass, if nothing else is spent; absent if it never would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    pub limits: Vec<RefusalLimit>,
}

/// The state of a limit when the request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusalLimit {
    /// As metrics and usage name it.
    pub limit: String,
    /// Why it refuses; absent if it had the hits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `enforce`, `quota` or `shadow`.
    pub mode: String,
    /// The requested hits.
    pub attempted: u64,
    /// The amount in a window, for this caller.
    pub amount: u64,
    /// Hits that may be spent: the amount (the burst of a token bucket), and valid bonuses.
    pub quota: u64,
    /// Hits in use; absent if some of the quota is not open to the caller, and during an outage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// Hits that the caller could still spend.
    pub remaining: u64,
    /// Milliseconds after which the limit has the hits; absent if it has them, and if it never would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// Milliseconds until nothing of the limit is in use; absent for a limit that never resets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_ms: Option<u64>,
}

/// The limits of a refusal to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitsShown {
    All,
    /// Those that refuse.
    Refusing,
}

impl RefusalForm {
    /// The refusal of a record; None if it has no details.
    pub fn new(record: &DecisionRecord, shown: LimitsShown) -> Option<Self> {
        let details: &RefusalRecord = record.refusal()?;
        let limits = record.limits().zip(&details.limits);
        let limits =
            limits.filter(|((_, charge), _)| shown == LimitsShown::All || charge.refusal.is_some());
        Some(Self {
            id: details.id.map(|id| id.to_string()),
            at: instant(record.at),
            domain: record.domain().unwrap_or_default().to_owned(),
            caller: record.caller.as_deref().map(str::to_owned),
            tier: record.tier().map(str::to_owned),
            priority: record.priority,
            reason: record.reason.unwrap_or_default().name().to_owned(),
            pressure: record.level,
            fallback: record.fallback,
            wait_ms: details.wait.map(ms),
            limits: limits
                .map(|((label, charge), state)| {
                    RefusalLimit::new(label, (charge, state), record.fallback)
                })
                .collect(),
        })
    }

    /// The refusal as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("it has only texts, numbers and lists")
    }

    /// The refusal of a JSON text; None if it is not one.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl RefusalLimit {
    fn new(
        label: &str,
        (charge, state): (&ChargeRecord, &RefusedLimit),
        is_fallback: bool,
    ) -> Self {
        let is_open = matches!(charge.refusal, None | Some(Reason::OverLimit)) && !is_fallback;
        Self {
            limit: label.to_owned(),
            reason: charge.refusal.map(|reason| reason.name().to_owned()),
            mode: charge.mode.to_string(),
            attempted: charge.hits.amount(),
            amount: state.amount,
            quota: state.quota,
            used: is_open.then(|| state.quota.saturating_sub(state.remaining)),
            remaining: state.remaining,
            wait_ms: state.wait.map(ms),
            reset_ms: state.reset.map(ms),
        }
    }
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
