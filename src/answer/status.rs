//! The status of each descriptor: the reported limit, its remaining hits, and one time.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{ChargeDecision, Code, DescriptorMatch, Verdict};
use crate::policy::Unit;

/// The status of one descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: Code,
    /// The limit that is closest to refusing, or the one with the longest wait; None if no limit applies to the
    /// descriptor.
    pub limit: Option<StatusLimit>,
    /// Remaining hits. The protocol has 32 bits for them: `u32::MAX` may be more.
    pub remaining: u32,
    /// For a refusal, the time until the same request would pass; otherwise the time until nothing of the limit is in
    /// use. None if time has no effect.
    pub reset: Option<Duration>,
}

/// A limit, as far as the protocol can represent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusLimit {
    /// The name in the policy; empty if there is none.
    pub name: Arc<str>,
    /// Hits in a window.
    pub amount: u32,
    /// The window; None if the protocol has no unit for it.
    pub unit: Option<Unit>,
}

impl Status {
    /// For a descriptor without a reported limit.
    fn without_limit(code: Code, remaining: u32) -> Self {
        Self { code, limit: None, remaining, reset: None }
    }
}

/// One status for each descriptor. Envoy's own headers show the limit of the first descriptor with the least remaining
/// hits, so before the refusing one no other status reports a limit with none.
pub fn statuses(verdict: &Verdict<'_>) -> Vec<Status> {
    let mut refuses = verdict.code() != Code::OverLimit;
    let of_descriptor = |descriptor| {
        let reported = reported(verdict, descriptor);
        let mut status = status(verdict, descriptor, reported);
        refuses |= reported.is_some_and(|charge| verdict.refuses(charge));
        status.limit = status.limit.filter(|_| refuses || status.remaining != 0);
        status
    };
    verdict.descriptors.iter().map(of_descriptor).collect()
}

/// The refusing limit with the longest wait, else an exceeded one, else the one with the least remaining hits; among
/// equals, the one with the latest reset.
pub fn tightest<'a, 'v: 'a>(
    verdict: &Verdict<'v>,
    charges: impl Iterator<Item = &'a ChargeDecision<'v>>,
) -> Option<&'a ChargeDecision<'v>> {
    charges.min_by_key(|charge| {
        let (refuses, over) = (verdict.refuses(charge), charge.is_over());
        let never = charge.wait().is_none();
        let wait = charge.wait().unwrap_or_default();
        let by_wait = if over { (never, wait) } else { (false, Duration::ZERO) };
        let left = if over { 0 } else { charge.remaining() };
        (!refuses, !over, Reverse(by_wait), left, Reverse(charge.reset()))
    })
}

/// The wait of a refusal, otherwise the reset: the protocol has one field for both. If the request can never pass, it
/// is the time until the limit is unused, at most its window.
pub fn reported_time(charge: &ChargeDecision<'_>) -> Option<Duration> {
    if !charge.is_over() {
        return charge.reset();
    }
    let window = || charge.limit.window.nominal_ms().map(Duration::from_millis);
    charge.wait().or_else(|| charge.reset().filter(|reset| !reset.is_zero())).or_else(window)
}

/// The limit in the status of a descriptor. A caller without access was not checked against any limit.
fn reported<'a, 'v>(
    verdict: &'a Verdict<'v>,
    descriptor: &'a DescriptorMatch<'v>,
) -> Option<&'a ChargeDecision<'v>> {
    if verdict.denial.is_some() {
        return None;
    }
    tightest(verdict, verdict.of(descriptor).filter(|charge| charge.is_reported()))
        .or_else(|| tightest(verdict, verdict.of(descriptor)))
}

fn status(
    verdict: &Verdict<'_>,
    descriptor: &DescriptorMatch<'_>,
    reported: Option<&ChargeDecision<'_>>,
) -> Status {
    if verdict.denial.is_some() {
        let is_over = descriptor.denied && verdict.code() == Code::OverLimit;
        return Status::without_limit(if is_over { Code::OverLimit } else { Code::Ok }, 0);
    }
    let Some(reported) = reported else {
        let unlimited = descriptor.unlimited || descriptor.rule.is_some_and(|rule| rule.unlimited);
        let unlimited = unlimited && descriptor.charges.is_empty();
        return Status::without_limit(Code::Ok, if unlimited { u32::MAX } else { 0 });
    };
    let over = reported.is_over() && !reported.is_shadow();
    Status {
        code: if over { Code::OverLimit } else { Code::Ok },
        limit: Some(StatusLimit {
            name: reported.limit.name.clone(),
            amount: saturate(reported.quota),
            unit: reported.limit.window.unit(),
        }),
        // As in the reference; our own headers report the hits that remain for a smaller request.
        remaining: if over { 0 } else { saturate(reported.remaining()) },
        reset: if over { reported_time(reported) } else { reported.reset() },
    }
}

fn saturate(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
