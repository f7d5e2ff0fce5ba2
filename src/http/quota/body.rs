//! What is told of a quota, as JSON.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::{ChargeDecision, Verdict};
use crate::observe::audit::instant;
use crate::policy::Mode;

/// The limits that apply to a caller, each as it stands.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Quota")]
pub struct QuotaBody {
    pub caller: String,
    /// Redis was unavailable: the limits are told as far as this sidecar knows.
    pub fallback: bool,
    pub items: Vec<QuotaItem>,
}

/// A limit as it stands for a caller.
#[derive(Debug, Serialize, JsonSchema)]
pub struct QuotaItem {
    domain: String,
    /// As metrics and usage name it.
    limit: String,
    /// The tier by which the amount is chosen; absent if the policy has no tiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    /// Hits that may be spent: the amount of the limit (its burst, of a token bucket), and valid bonuses.
    quota: u64,
    /// Valid bonuses in it.
    bonuses: u64,
    used: u64,
    remaining: u64,
    /// `used` of `quota`, from 0 to 100; above where a limit may be overdrawn.
    percent: f64,
    /// When the limit is whole again, if nothing more is spent; absent if it is whole, or never is by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    reset_at: Option<String>,
    mode: ModeName,
}

/// What a limit does with a request that is over it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "QuotaMode")]
enum ModeName {
    Enforce,
    Shadow,
    Quota,
}

impl QuotaBody {
    /// The limits of verdicts.
    pub fn new(caller: &str, verdicts: &[Verdict<'_>]) -> Self {
        let items = verdicts.iter().flat_map(|verdict| {
            verdict.charges().iter().map(|charge| QuotaItem::new(verdict, charge))
        });
        Self {
            caller: caller.to_owned(),
            fallback: verdicts.iter().any(|verdict| verdict.fallback),
            items: items.collect(),
        }
    }
}

impl QuotaItem {
    fn new(verdict: &Verdict<'_>, charge: &ChargeDecision<'_>) -> Self {
        let (quota, remaining) = (charge.quota, charge.remaining());
        let used = quota.saturating_sub(remaining);
        let tiers = verdict.policy.map(|policy| &policy.classes.tiers);
        let tier = verdict.caller.as_ref().map(|caller| caller.tier);
        let tier = tiers.zip(tier).and_then(|(tiers, tier)| tiers.get(tier));
        let reset = charge.reset().filter(|reset| *reset != Duration::ZERO);
        Self {
            domain: verdict.domain.to_owned(),
            limit: charge.limit.label.to_string(),
            tier: tier.map(|tier| tier.to_string()),
            quota,
            bonuses: quota.saturating_sub(charge.capacity),
            used,
            remaining,
            percent: percent(used, quota),
            reset_at: reset.map(|reset| instant(verdict.at.after(reset))),
            mode: match charge.mode {
                Mode::Enforce => ModeName::Enforce,
                Mode::Shadow => ModeName::Shadow,
                Mode::Quota => ModeName::Quota,
            },
        }
    }
}

/// To a hundredth.
fn percent(used: u64, quota: u64) -> f64 {
    if quota == 0 {
        return 100.0;
    }
    let hundredths = u128::from(used) * 10_000 / u128::from(quota);
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
}
