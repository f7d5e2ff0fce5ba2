//! Limits that requests bring along (`limit` of a descriptor, or those of their API key), in place of the policy's own.
//!
//! Envoy may send a limit with a descriptor. It has an amount and a unit; all else comes from the file's `defaults`. As
//! in the reference, the rule's own `shadow_mode` and `quota_mode` don't apply to it. The limits of an API key are the same, but for
//! their names: they have an amount and a window.

use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::limit::{Algorithm, Bucket, Calendar, Fixed, LimitName, Overdraft, Sliding};

use super::estimate::Estimate;
use super::idempotency::Idempotency;
use super::lease::Lease;
use super::mode::Mode;
use super::outage::OnOutage;
use super::share::Share;
use super::wait::Wait;
use super::window::Window;

/// The name of limits that requests bring along in metrics, and in answers if the policy has no name for them.
pub const OVERRIDE_LABEL: &str = "override";

/// The name of all limits of API keys in metrics and in usage: there may be very many.
pub const API_KEY_LABEL: &str = "api_key";

/// An algorithm without its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlgorithmKind {
    Sliding,
    Fixed,
    Bucket,
    Calendar,
}

/// The settings of limits that requests bring along.
#[derive(Debug)]
pub struct Brought {
    /// The unit of their counters.
    pub name: Arc<LimitName>,
    /// The same for limits of API keys.
    pub api_key_name: Arc<LimitName>,
    pub zone: TimeZone,
    /// From `defaults`.
    pub algorithm: Option<AlgorithmKind>,
    pub mode: Mode,
    pub strict: bool,
    pub enforced: Option<Share>,
    pub on_outage: OnOutage,
    pub overdraft: Overdraft,
    pub wait: Option<Wait>,
    pub lease: Lease,
    pub estimate: Option<Estimate>,
    pub idempotency: Option<Arc<Idempotency>>,
}

impl Brought {
    /// The algorithm of `defaults`, or the usual one if that does not support the window.
    pub fn algorithm(&self, amount: u64, window: Window) -> Algorithm {
        let calendar = |unit| Algorithm::Calendar(Calendar::new(unit, self.zone.clone()));
        let window_ms = match window {
            Window::Calendar(unit) => return calendar(unit),
            Window::Total => return Algorithm::Total,
            Window::Length(window_ms) => window_ms,
        };
        let said = match self.algorithm {
            Some(AlgorithmKind::Calendar) => window.calendar_unit().map(calendar),
            Some(AlgorithmKind::Fixed) => Some(Algorithm::Fixed(Fixed::new(window_ms))),
            Some(AlgorithmKind::Bucket) => {
                Bucket::new(amount, window_ms, amount).map(Algorithm::Bucket)
            }
            Some(AlgorithmKind::Sliding) | None => None,
        };
        said.unwrap_or_else(|| Algorithm::Sliding(Sliding::new(window_ms, amount)))
    }
}
