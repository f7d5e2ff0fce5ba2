//! What a caller is advised, by what it has used.

use super::caller::CallerPage;

/// A recommendation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// A limit is nearly used up, and this tier has more of it.
    Higher { tier: String, limit: String, percent: u64, amount: String },
    /// What is used fits the tier.
    Keep,
}

/// From which part of a limit on a higher tier is recommended.
const NEAR_PERCENT: f64 = 80.0;

/// The recommendation for a caller; None if it has no limit, or no tiers.
pub fn recommendation(caller: &CallerPage) -> Option<Advice> {
    let own = caller.tier()?;
    let items = caller.limits.as_ref().ok()?;
    let fullest = items.iter().filter(|item| item.is_own());
    let fullest = fullest.max_by(|one, other| one.percent.total_cmp(&other.percent))?;
    let will_be_reached = caller
        .forecast(fullest)
        .and_then(|forecast| forecast.expected.as_ref())
        .is_some_and(|expected| expected.reached_at.is_some());
    if fullest.percent < NEAR_PERCENT && !will_be_reached {
        return Some(Advice::Keep);
    }
    let index = caller.tiers.tiers.iter().position(|tier| tier == own)?;
    let row = caller
        .tiers
        .rows
        .iter()
        .find(|(domain, limit, _)| *domain == fullest.domain && *limit == fullest.limit)?;
    let (_, limit, amounts) = row;
    let present = amounts.get(index)?;
    // The next tier with another amount: tiers are in order, the lowest first.
    let higher = amounts.iter().enumerate().skip(index + 1).find(|(_, amount)| *amount != present);
    let (higher, amount) = higher?;
    Some(Advice::Higher {
        tier: caller.tiers.tiers.get(higher)?.clone(),
        limit: limit.clone(),
        percent: whole(fullest.percent),
        amount: amount.clone(),
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(percent: f64) -> u64 {
    percent as u64
}
