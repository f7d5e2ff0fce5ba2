//! The body of a refusal as a JSON problem (RFC 9457).

use serde_json::json;

use crate::engine::Verdict;

/// The problem type that draft-ietf-httpapi-ratelimit-headers registers for a refusal.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// A refusal as a JSON problem (RFC 9457), with the limits that refused.
pub fn body(verdict: &Verdict<'_>) -> Vec<u8> {
    let violated: Vec<&str> = verdict.refusing().map(|charge| &*charge.limit.label).collect();
    let mut problem = json!({
        "type": QUOTA_EXCEEDED,
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": 429,
        "reason": verdict.reason().name(),
        "violated-policies": violated,
    });
    if let Some(title) = verdict.reason().title() {
        problem["type"] = "about:blank".into();
        problem["title"] = title.into();
    }
    if let Some(wait) = verdict.wait() {
        problem["retry_after_ms"] = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).into();
    }
    if let Some(until) = verdict.graces().map(|(_, until)| until).min() {
        let left_ms = until.as_ms().saturating_sub(verdict.at.as_ms());
        problem["grace_left_ms"] = left_ms.into();
    }
    let has_id = verdict.policy.is_some_and(|policy| policy.answer.refusal_id.body);
    if let Some(id) = verdict.refusal_id.filter(|_| has_id) {
        problem["refusal_id"] = id.to_string().into();
    }
    if let Some(address) = verdict.policy.and_then(|policy| policy.answer.upgrade_url.as_deref()) {
        problem["upgrade_url"] = address.into();
    }
    problem.to_string().into_bytes()
}
