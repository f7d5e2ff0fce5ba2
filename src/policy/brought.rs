//! Limits that requests bring along in the place of the policy's own.
//!
//! Envoy may send a limit with a descriptor. It has an amount and a unit; all else is as the file's `defaults` say. As in the
//! reference it is neither a shadow nor a quota because the rule is one.

use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::limit::Algorithm;
use crate::limit::Bucket;
use crate::limit::Calendar;
use crate::limit::Fixed;
use crate::limit::Limit;
use crate::limit::Overdraft;
use crate::limit::Sliding;

use super::Mode;
use super::lease::Lease;
use super::limits::Defaults;
use super::rate::Window;
use super::rule::OnOutage;
use super::rule::Rule;
use super::rule::RuleLimit;
use super::schema::AlgorithmFile;
use super::unit::Unit;
use super::wait::Wait;

/// What metrics call the limits that requests bring along, and answers where the policy has no name for them.
pub const OVERRIDE_LABEL: &str = "override";

/// What holds for the limits that requests bring along.
#[derive(Debug)]
pub struct Brought {
    zone: TimeZone,
    algorithm: Option<AlgorithmFile>,
    mode: Mode,
    on_outage: OnOutage,
    overdraft: Overdraft,
    wait: Option<Wait>,
    lease: Lease,
}

impl Brought {
    pub fn new(defaults: &Defaults) -> Self {
        Self {
            zone: defaults.zone.clone(),
            algorithm: defaults.algorithm,
            mode: defaults.mode.unwrap_or_default(),
            on_outage: defaults.on_outage.unwrap_or_default(),
            overdraft: defaults.overdraft,
            wait: defaults.wait,
            lease: defaults.lease,
        }
    }

    /// The limit of a request whose descriptor would else meet `rule`, with its number among those of the domain.
    pub fn limit(
        &self,
        index: usize,
        (amount, unit): (u64, Unit),
        rule: Option<&Rule>,
    ) -> RuleLimit {
        let window = Window::from(unit);
        let name = rule.and_then(|rule| replaced(rule, window)).map(|limit| limit.name.clone());
        let name = name.unwrap_or_default();
        let limit = Limit::new(amount, self.algorithm(amount, window)).overdrawn(self.overdraft);
        RuleLimit {
            index,
            label: if name.is_empty() { OVERRIDE_LABEL.into() } else { name.clone() },
            name,
            limit: Arc::new(limit),
            by_tier: [].into(),
            cost: None,
            wait: self.wait,
            lease: self.lease,
            window,
            mode: self.mode,
            on_outage: self.on_outage,
        }
    }

    /// The algorithm of `defaults`, or the usual one where that has no such window.
    fn algorithm(&self, amount: u64, window: Window) -> Algorithm {
        let calendar = |unit| Algorithm::Calendar(Calendar::new(unit, self.zone.clone()));
        let window_ms = match window {
            Window::Calendar(unit) => return calendar(unit),
            Window::Total => return Algorithm::Total,
            Window::Length(window_ms) => window_ms,
        };
        let said = match self.algorithm {
            Some(AlgorithmFile::Calendar) => window.calendar_unit().map(calendar),
            Some(AlgorithmFile::FixedWindow) => Some(Algorithm::Fixed(Fixed::new(window_ms))),
            Some(AlgorithmFile::TokenBucket) => {
                Bucket::new(amount, window_ms, amount).map(Algorithm::Bucket)
            }
            Some(AlgorithmFile::SlidingWindow) | None => None,
        };
        said.unwrap_or_else(|| Algorithm::Sliding(Sliding::new(window_ms, amount)))
    }
}

/// The rule's limit whose place the request's takes: that of the same window, or the only one.
fn replaced(rule: &Rule, window: Window) -> Option<&RuleLimit> {
    let same = rule.limits.iter().find(|limit| limit.window == window);
    let only = || rule.limits.first().filter(|_| rule.limits.len() == 1);
    same.or_else(only).map(|limit| &**limit)
}
