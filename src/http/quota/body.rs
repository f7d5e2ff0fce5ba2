//! What is told of a quota, as JSON.

use std::collections::BTreeSet;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mark;
use crate::engine::{BonusStanding, Preview, Reading, Standing, TierSource, Verdict};
use crate::observe::audit::instant;
use crate::policy::{Mode, Window};

/// The limits that apply to a caller, each as it stands.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Quota")]
pub struct QuotaBody {
    pub caller: String,
    /// Redis was unavailable: the numbers are those that this sidecar counts alone.
    pub fallback: bool,
    /// The hits that the request got, or would get, if it may get fewer than it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted: Option<u64>,
    pub items: Vec<QuotaItem>,
}

/// A limit as it stands for a caller.
#[derive(Debug, Serialize, JsonSchema)]
pub struct QuotaItem {
    pub domain: String,
    /// As metrics and usage name it.
    pub limit: String,
    /// The caller or the pool whose counter it is; absent if it is this caller, and for a caller without a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The tier by which the amount is chosen; absent if the policy has no tiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// What says the tier; absent if the policy has no tiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier_source: Option<TierSourceName>,
    /// Hits that may be spent: the amount of the limit (its burst, of a token bucket), and valid bonuses.
    pub quota: u64,
    /// Valid bonuses in it, with what was carried over.
    pub bonuses: u64,
    /// Each of them, in the order in which they are spent once the amount is used up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<GrantItem>,
    /// Hits in use; more than `quota` where the limit is overdrawn.
    pub used: u64,
    /// Hits in `used` that reservations hold.
    pub held: u64,
    /// Hits of the quota that are left; 0 during a grace.
    pub remaining: u64,
    /// What the limit's grace lets pass beyond that; absent if that is nothing, and more than the limit is not in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<QuotaGrace>,
    /// `used` of `quota`, from 0 to 100; above 100 where the limit is overdrawn.
    pub percent: f64,
    /// When nothing will be in use any more, if nothing more is spent; absent if nothing is in use, and for a limit that never
    /// resets.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset_at: Option<String>,
    pub mode: ModeName,
    /// The override that replaces the policy's amount; absent if none applies.
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    pub overridden: Option<QuotaOverride>,
    /// For a limit that never resets: what `recalculate` takes as its `mark`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
}

/// An override that applies.
#[derive(Debug, Serialize, JsonSchema)]
pub struct QuotaOverride {
    /// When it ends; absent if it never does.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// What a grace lets pass.
#[derive(Debug, Serialize, JsonSchema)]
pub struct QuotaGrace {
    /// Hits.
    pub left: u64,
    /// When it ends; absent if it has not begun, or less than the limit is in use.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A bonus as it stands.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "QuotaGrant")]
pub struct GrantItem {
    pub id: String,
    /// Hits that it has, in this period if it recurs.
    pub amount: u64,
    /// Hits that were left of the period before, and count in this one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub carried: u64,
    pub spent: u64,
    pub remaining: u64,
    pub priority: u8,
    /// When what remains ends: with its period, if it recurs; absent if it never ends.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// How often it comes anew: absent if it comes once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
}

/// What says the tier of a caller.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "TierSource")]
pub enum TierSourceName {
    /// An entry among the given ones.
    Entry,
    /// The directory of callers.
    Directory,
    /// The caller's last request with usage of the last 31 days.
    Usage,
    /// The policy.
    Default,
}

/// What a limit does with a request that is over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "QuotaMode")]
pub enum ModeName {
    Enforce,
    Strict,
    Warn,
    Shadow,
    Quota,
}

impl QuotaBody {
    /// The limits of previews.
    pub fn new(caller: &str, previews: &[Preview<'_>]) -> Self {
        Self {
            caller: caller.to_owned(),
            fallback: previews.iter().any(|preview| preview.verdict.fallback),
            granted: None,
            items: QuotaItem::all(caller, previews).collect(),
        }
    }
}

impl QuotaItem {
    /// The limits of previews for a caller, each once: a limit that cascades is in several.
    pub fn all<'p>(caller: &'p str, previews: &'p [Preview<'_>]) -> impl Iterator<Item = Self> {
        let mut known = BTreeSet::new();
        let standings = previews.iter().flat_map(|preview| {
            preview.standings().map(move |standing| (&preview.verdict, standing))
        });
        let standings = standings.filter(move |(verdict, standing)| {
            let rule = standing.charge.rule.map(|rule| &*rule.path);
            let limit = &standing.charge.limit;
            // The limits of an API key have one number.
            known.insert((verdict.domain, rule, limit.index, &*limit.label, standing.account))
        });
        standings.map(move |(verdict, standing)| Self::new(caller, verdict, standing))
    }

    /// Whether the counter is the caller's, not that of a pool.
    pub fn is_own(&self) -> bool {
        self.account.is_none()
    }

    /// What the limit does with a request that is over it.
    pub fn mode(&self) -> ModeName {
        self.mode
    }

    /// Hits in use beyond the quota; None if there are none.
    pub fn over(&self) -> Option<u64> {
        self.used.checked_sub(self.quota).filter(|over| *over != 0)
    }

    fn new(caller: &str, verdict: &Verdict<'_>, standing: Standing<'_, '_>) -> Self {
        let Standing { charge, used, held, grace, bonuses, account, overridden, .. } = standing;
        let quota = standing.quota();
        let (tier, tier_source) = tier(verdict).unzip();
        let may_recalculate = charge.limit.window == Window::Total && !verdict.fallback;
        let reset = charge.reset().filter(|reset| used != 0 && *reset != Duration::ZERO);
        Self {
            domain: verdict.domain.to_owned(),
            limit: charge.limit.label.to_string(),
            account: account.filter(|account| *account != caller).map(str::to_owned),
            tier,
            tier_source,
            quota,
            bonuses: quota.saturating_sub(charge.capacity),
            grants: bonuses.iter().map(GrantItem::new).collect(),
            used,
            held,
            remaining: charge.remaining(),
            grace: grace
                .map(|grace| QuotaGrace { left: grace.left, until: grace.until.map(instant) }),
            percent: percent(used, quota),
            reset_at: reset.map(|reset| instant(verdict.at.after(reset))),
            mode: match charge.mode {
                Mode::Enforce if charge.limit.strict => ModeName::Strict,
                Mode::Enforce => ModeName::Enforce,
                Mode::Warn => ModeName::Warn,
                Mode::Shadow | Mode::Off => ModeName::Shadow,
                Mode::Quota => ModeName::Quota,
            },
            overridden: overridden.map(|one| QuotaOverride { until: one.until.map(instant) }),
            mark: may_recalculate.then(|| {
                let used = used.saturating_sub(held);
                mark::write(Reading { used, at: verdict.at })
            }),
        }
    }
}

impl GrantItem {
    /// A bonus as it stands.
    pub fn new(standing: &BonusStanding) -> Self {
        let bonus = &standing.bonus;
        Self {
            id: bonus.id.to_string(),
            amount: bonus.amount,
            carried: standing.stand.carried,
            spent: standing.stand.spent,
            remaining: standing.remaining(),
            priority: bonus.priority,
            expires_at: standing.expires.map(instant),
            every: bonus.recurs.as_ref().map(|recurs| recurs.every().to_string()),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(hits: &u64) -> bool {
    *hits == 0
}

/// The tier of the caller, and what says it; None if the policy has no tiers.
pub fn tier(verdict: &Verdict<'_>) -> Option<(String, TierSourceName)> {
    let caller = verdict.caller.as_ref()?;
    let source = match caller.tier_source {
        TierSource::Request => TierSourceName::Entry,
        TierSource::Directory => TierSourceName::Directory,
        TierSource::Usage => TierSourceName::Usage,
        TierSource::Default => TierSourceName::Default,
    };
    Some((caller.tier_name()?.to_owned(), source))
}

/// `used` of `quota`, from 0 to 100 and above, to a hundredth.
pub fn percent(used: u64, quota: u64) -> f64 {
    if quota == 0 {
        return 100.0;
    }
    let hundredths = u128::from(used) * 10_000 / u128::from(quota);
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
}
