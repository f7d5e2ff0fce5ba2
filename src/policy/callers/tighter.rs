//! Finds the limits of which a tier has less than others, so that a caller can be restricted to it.

use std::collections::BTreeMap;

use crate::limit::Limit;
use crate::policy::model::{Domain, PolicySet, Rule, RuleLimit, TierLimit};

/// How the amounts of a tier compare with those that a caller may have.
#[derive(Clone, Copy, Debug, Default)]
struct Compared {
    is_lower: bool,
    is_higher: bool,
}

/// The names of the limits of callers of which a tier has less than a caller may have, and in no policy more. `tier_of` is the
/// index of the caller's tier in a domain; None: it may be any. With `domain`, limits that only other domains have are left out.
pub fn tighter_limits(
    policies: &PolicySet,
    (tier, domain): (&str, Option<&str>),
    tier_of: impl Fn(&Domain) -> Option<usize>,
) -> Vec<String> {
    let mut limits: BTreeMap<&str, Compared> = BTreeMap::new();
    for one in policies.domains() {
        let Some(restricted) = one.classes.tier(tier) else { continue };
        let own = tier_of(one);
        let tiers =
            (0..one.classes.tiers.len()).filter(|index| own.is_none_or(|own| own == *index));
        let tiers: Vec<usize> = tiers.collect();
        let is_meant = domain.is_none_or(|domain| domain == one.name);
        each_of_caller(one.rules(), &mut |limit| {
            let compared = limits.entry(&limit.name).or_default();
            for tier in &tiers {
                let (of_tier, other) = (limit.of_tier(restricted), limit.of_tier(*tier));
                let (is_lower, is_higher) = compare(&of_tier, &other);
                compared.is_lower |= is_lower && is_meant;
                compared.is_higher |= is_higher;
            }
        });
    }
    let tighter = limits.into_iter().filter(|(_, one)| one.is_lower && !one.is_higher);
    tighter.map(|(name, _)| name.to_owned()).collect()
}

fn each_of_caller<'p>(rules: &'p [Rule], see: &mut impl FnMut(&'p RuleLimit)) {
    for rule in rules {
        let limits = rule.limits.iter().filter(|limit| rule.of_caller && !limit.name.is_empty());
        limits.for_each(|limit| see(limit));
        each_of_caller(rule.rules(), see);
    }
}

/// Whether some amount of a tier is lower, and whether some is higher, than that of another one.
fn compare(one: &TierLimit, other: &TierLimit) -> (bool, bool) {
    let (one, other) = (amounts(one), amounts(other));
    let len = one.len().max(other.len());
    // Without a schedule, the amount is always the same.
    let at = |amounts: &[u64], index: usize| amounts.get(index).or(amounts.first()).copied();
    let pairs: Vec<_> = (0..len).map(|index| (at(&one, index), at(&other, index))).collect();
    (pairs.iter().any(|(one, other)| one < other), pairs.iter().any(|(one, other)| one > other))
}

/// The amount, and those at the times of its schedule.
fn amounts(limit: &TierLimit) -> Vec<u64> {
    match limit {
        TierLimit::None => vec![0],
        TierLimit::Unlimited => vec![u64::MAX],
        TierLimit::Limit(limit) => {
            let scheduled = limit.scheduled().into_iter().flat_map(|scheduled| scheduled.limits());
            let amount = |limit: &Limit| limit.capacity().max(limit.amount());
            std::iter::once(amount(limit)).chain(scheduled.map(|one| amount(one))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{CompileOptions, Source, compile};

    const POLICY: &str = "
domain: d
tiers: [restricted, free, premium]
caller: { key: user }
descriptors:
- key: user
  limits:
  - { name: daily, by_tier: { restricted: 5/day, free: 10/day, premium: unlimited } }
  - { name: odd, by_tier: { restricted: 7/hour, free: 6/hour, premium: 9/hour } }
  - { name: same, rate: 7/minute }
  - by_tier: { restricted: 1/second, free: 2/second, premium: 3/second }
  descriptors: [{ key: op, limits: [{ name: op, by_tier: { restricted: none, free: 1/day, premium: 2/day } }] }]
- { key: provider, limits: [{ name: pool, by_tier: { restricted: 1/day, free: 2/day, premium: 3/day } }] }";

    fn check((tier, domain): (&str, Option<&str>), own: Option<usize>, expected: &[&str]) {
        let source = Source { path: "p.yaml".to_owned(), text: POLICY.to_owned() };
        let policies = compile(&[source], CompileOptions::default()).unwrap();
        let found = tighter_limits(&policies, (tier, domain), |_| own);
        assert_eq!(found, expected, "{tier} {own:?}");
    }

    #[test]
    fn only_limits_of_which_the_tier_has_less_are_found() {
        check(("restricted", None), None, &["daily", "op"]);
        check(("restricted", Some("d")), Some(2), &["daily", "odd", "op"]);
        check(("restricted", Some("d")), Some(1), &["daily", "op"]);
        check(("restricted", None), Some(0), &[]);
        check(("restricted", Some("other")), None, &[]);
        check(("free", None), Some(2), &["daily", "odd", "op"]);
        check(("free", None), None, &["odd"]);
        check(("premium", None), Some(1), &[]);
        check(("none", None), None, &[]);
    }
}
