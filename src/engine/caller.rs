//! The caller of a request: its tier, its priority and its limits.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::limit::{Bonus, Limit, Scale};
use crate::policy::{
    CallerBonus, Classes, Lineage, Member, OverrideAmount, RuleLimit, Share, TierLimit,
    parse_priority,
};
use crate::store::BONUS_ID_LEN_MAX;

use super::controls::RequestControls;
use super::request::Request;

/// Bytes of a hash that distinguishes the bonuses of callers on a shared counter. Its hexadecimal digits have the
/// maximum length of an id.
const FOREIGN_ID_LEN: usize = BONUS_ID_LEN_MAX / 2;

/// The caller of a request, with what determines its tier, its priority and its limits.
#[derive(Clone, Debug)]
pub struct CallerContext<'a> {
    classes: &'a Classes,
    /// The caller's name in the request; None if it has none.
    pub name: Option<&'a str>,
    /// The time of the request, for overrides that end.
    now: Timestamp,
    lineage: Lineage,
    /// The index of the caller's tier.
    pub tier: usize,
    pub tier_source: TierSource,
    /// The changes of providers that hold for the request.
    pub controls: Option<Box<RequestControls>>,
    /// The priority in an entry.
    requested_priority: Option<u8>,
    /// The priority by the policy's table.
    priority_sum: i16,
    /// The members of the lineage whose counters the caller's own limits use.
    pub accounts: SmallVec<[Account; 2]>,
}

/// A member of the caller's lineage with counters of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    member: usize,
    /// Only limits with an amount for this member count here; the others count at the pool.
    own_only: bool,
}

/// An override that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overridden {
    /// None: it never ends.
    pub until: Option<Timestamp>,
}

/// The source of a caller's tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierSource {
    /// An entry of the request.
    Request,
    /// The directory.
    Directory,
    /// Usage: the tier that the caller last had.
    Usage,
    /// The policy's default.
    Default,
}

/// The source of the amount of a caller's own limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmountSource {
    /// The policy, by tier or for all tiers.
    Policy,
    /// An override in the directory.
    Override(u64),
    /// An override in the directory: the amount of the tier with this index.
    Tier(usize),
    /// A share of the parent's amount.
    Share(Share),
}

/// The first value of an entry with this key, in any descriptor.
pub fn entry<'a>(request: &Request<'a>, key: &str) -> Option<&'a str> {
    let entries = request.descriptors().iter().flat_map(|descriptor| &descriptor.entries);
    entries.into_iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
}

impl<'a> CallerContext<'a> {
    /// The caller of `request`; `lineage` is its record in the directory with its parents.
    pub fn new(
        classes: &'a Classes,
        request: &Request<'a>,
        (lineage, now): (Lineage, Timestamp),
    ) -> Self {
        let value_of = |key: &Option<Box<str>>| key.as_ref().and_then(|key| entry(request, key));
        let requested_tier = value_of(&classes.tier_key).and_then(|name| classes.tier(name));
        let priority = &classes.priority;
        let mut caller = Self {
            classes,
            name: value_of(&classes.caller_key),
            now,
            tier: requested_tier.unwrap_or(classes.default_tier),
            tier_source: TierSource::Request,
            requested_priority: value_of(&priority.key).and_then(parse_priority),
            priority_sum: 0,
            controls: None,
            accounts: accounts(&lineage),
            lineage,
        };
        if requested_tier.is_none() {
            let of_directory = || Some((caller.directory_tier(0)?, TierSource::Directory));
            let of_usage = || Some((classes.tier(request.last_tier()?)?, TierSource::Usage));
            let known = of_directory().or_else(of_usage);
            (caller.tier, caller.tier_source) =
                known.unwrap_or((classes.default_tier, TierSource::Default));
        }
        caller.priority_sum = priority.sum(caller.tier, caller.roles(), |key| entry(request, key));
        caller
    }

    /// Whether the caller or one of its parents is disabled in the directory.
    pub fn is_disabled(&self) -> bool {
        self.lineage.members.iter().any(|member| member.caller.disabled)
    }

    /// The name of the caller's tier; None if the policy has no tiers.
    pub fn tier_name(&self) -> Option<&'a str> {
        self.classes.tiers.get(self.tier).map(|tier| &**tier)
    }

    /// The request's priority at a level of pressure, from 1 to 4.
    pub fn priority(&self, level: u8) -> u8 {
        let changed = self.controls.as_ref().and_then(|controls| controls.priority);
        changed
            .or(self.requested_priority)
            .unwrap_or_else(|| self.classes.priority.under(self.priority_sum, level))
    }

    /// What a change of a provider leaves of a limit with this index, of a rule with this path.
    pub fn cap(&self, path: &[(&str, &str)], limit: usize) -> Option<Scale> {
        self.controls.as_ref()?.cap(path, limit)
    }

    /// Whether the request does not wait for capacity, because of a change of a provider.
    pub fn is_paused(&self) -> bool {
        self.controls.as_ref().is_some_and(|controls| controls.is_paused)
    }

    /// The caller's roles in the directory.
    pub fn roles(&self) -> &[String] {
        self.lineage.members.first().map_or(&[], |member| &member.caller.roles)
    }

    /// The name under which an account counts.
    pub fn account_name(&self, account: Account) -> &str {
        &self.lineage.members[account.member].name
    }

    /// The caller's own limit for an account; None if it does not count there.
    pub fn limit(&self, account: Account, rule: &RuleLimit) -> Option<TierLimit> {
        let caller = &self.lineage.members[account.member].caller;
        let own = caller.share.is_some() || self.override_of(account.member, rule).is_some();
        (own || !account.own_only).then(|| self.member_limit(account.member, rule))
    }

    /// The source of a limit's amount for an account.
    pub fn amount_source(&self, account: Account, rule: &RuleLimit) -> AmountSource {
        self.member_amount(account.member, rule)
    }

    /// The lineage in the directory.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// The bonuses of a limit for an account, in the order in which they are spent: the member's own, and those of the
    /// members below it that use its counter. None where no caller is charged.
    pub fn bonuses(
        &self,
        account: Option<Account>,
        rule: &RuleLimit,
        now: Timestamp,
    ) -> Vec<Bonus> {
        let mut bonuses = Vec::new();
        let Some(account) = account else { return bonuses };
        for (index, member) in self.lineage.members[..=account.member].iter().enumerate() {
            let counts = |one: &&CallerBonus| *one.limit == *rule.name && one.bonus.has_begun(now);
            let of_limit = member.caller.bonuses.iter().filter(counts);
            let foreign = index < account.member;
            bonuses.extend(of_limit.map(|one| match foreign {
                true => Bonus { id: foreign_id(member, &one.bonus.id), ..one.bonus.clone() },
                false => one.bonus.clone(),
            }));
        }
        Bonus::sort(&mut bonuses, now);
        bonuses
    }

    fn member_limit(&self, index: usize, rule: &RuleLimit) -> TierLimit {
        let of_directory = || self.directory_tier(index).unwrap_or(self.classes.default_tier);
        let tier = if index == 0 { self.tier } else { of_directory() };
        let of_tier = rule.of_tier(tier);
        match self.member_amount(index, rule) {
            AmountSource::Policy => of_tier,
            AmountSource::Tier(tier) => rule.of_tier(tier),
            AmountSource::Override(amount) => {
                let base: &Limit = match &of_tier {
                    TierLimit::Limit(limit) => limit,
                    TierLimit::None | TierLimit::Unlimited => &rule.limit,
                };
                TierLimit::Limit(Arc::new(base.with_amount(amount)))
            }
            AmountSource::Share(share) => match self.member_limit(index + 1, rule) {
                TierLimit::Limit(limit) => {
                    TierLimit::Limit(Arc::new(limit.map_amounts(|amount| share.of(amount))))
                }
                other => other,
            },
        }
    }

    fn member_amount(&self, index: usize, rule: &RuleLimit) -> AmountSource {
        let caller = &self.lineage.members[index].caller;
        let of_directory = self.override_of(index, rule);
        let share = caller.share.filter(|_| index + 1 < self.lineage.members.len());
        let of_parent = share.map(AmountSource::Share);
        of_directory.or(of_parent).unwrap_or(AmountSource::Policy)
    }

    /// The override of a member that applies now; None if the policy does not have its tier.
    fn override_of(&self, index: usize, rule: &RuleLimit) -> Option<AmountSource> {
        let known = self.lineage.members[index].caller.overrides.get(&*rule.name)?;
        match &known.amount {
            _ if !known.holds(self.now) => None,
            OverrideAmount::Hits(amount) => Some(AmountSource::Override(*amount)),
            OverrideAmount::Tier(tier) => self.classes.tier(tier).map(AmountSource::Tier),
        }
    }

    /// The override of an account's limit that applies now.
    pub fn overridden(&self, account: Account, rule: &RuleLimit) -> Option<Overridden> {
        self.override_of(account.member, rule)?;
        let known = self.lineage.members[account.member].caller.overrides.get(&*rule.name)?;
        Some(Overridden { until: known.until })
    }

    /// The tier of a member in the directory: its own, or that of the nearest parent with one.
    fn directory_tier(&self, index: usize) -> Option<usize> {
        let members = self.lineage.members.iter().skip(index);
        let mut tiers =
            members.filter_map(|member| self.classes.tier(member.caller.tier.as_ref()?));
        tiers.next()
    }
}

/// The accounts of a caller's own limits: the parents, as far as `pool` is set, and members without `pool` or with a
/// share of their own.
fn accounts(lineage: &Lineage) -> SmallVec<[Account; 2]> {
    let members = &lineage.members;
    let mut accounts = SmallVec::new();
    for (member, known) in members.iter().enumerate() {
        let pools = known.caller.pool && member + 1 < members.len();
        accounts.push(Account { member, own_only: pools });
        if !pools {
            break;
        }
    }
    accounts
}

/// The id of a member's bonus on a counter of another member, where ids of several members may be equal.
fn foreign_id(member: &Member, id: &str) -> Arc<str> {
    let mut hash = Sha256::new();
    // With its length, so that no name can look like the start of a longer one.
    hash.update(member.name.len().to_le_bytes());
    hash.update(member.name.as_bytes());
    hash.update(id.as_bytes());
    let hash = hash.finalize();
    let hex: String = hash[..FOREIGN_ID_LEN].iter().map(|byte| format!("{byte:02x}")).collect();
    hex.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Code;
    use super::super::testing::Bench;
    use crate::answer::Answer;

    const POLICY: &str = "
domain: d
tiers: [free, premium]
caller: { key: user, tier: { key: tier, default: free } }
descriptors:
- key: user
  limits:
  - { name: daily, by_tier: { free: 4/day, premium: 10/day } }";

    async fn check(bench: &Bench, ask: &str, code: Code, remaining: u32) -> Answer {
        let verdict = bench.ask_for(&[ask]).await;
        assert_eq!((verdict.code, verdict.statuses[0].remaining), (code, remaining), "{ask}");
        verdict
    }

    fn reason(verdict: &Answer) -> &str {
        verdict.metadata.as_ref().unwrap()["reason"].as_str().unwrap()
    }

    #[tokio::test]
    async fn the_tier_comes_from_the_entry_then_the_directory_then_the_default() {
        let bench =
            Bench::with_callers(POLICY, "callers: {ann: {tier: premium}, bob: {tier: gold}}");
        check(&bench, "user=ann", Code::Ok, 9).await;
        check(&bench, "user=ann,tier=free", Code::Ok, 2).await;
        check(&bench, "user=ann,tier=silver", Code::Ok, 7).await;
        check(&bench, "user=bob", Code::Ok, 3).await;
        check(&bench, "user=eve,tier=premium", Code::Ok, 9).await;
    }

    #[tokio::test]
    async fn an_upgrade_takes_effect_at_once_and_keeps_the_count() {
        let bench = Bench::with_callers(POLICY, "callers: {ann: {tier: free}}");
        for remaining in (0..4).rev() {
            check(&bench, "user=ann", Code::Ok, remaining).await;
        }
        check(&bench, "user=ann", Code::OverLimit, 0).await;
        bench.set_callers("callers: {ann: {tier: premium}}");
        check(&bench, "user=ann", Code::Ok, 5).await;
        bench.set_callers("callers: {ann: {tier: free}}");
        check(&bench, "user=ann", Code::OverLimit, 0).await;
    }

    #[tokio::test]
    async fn an_override_is_one_callers_amount() {
        let bench = Bench::with_callers(
            POLICY,
            "callers: {ann: {overrides: {daily: 500}}, bob: {overrides: {daily: 0}}}",
        );
        check(&bench, "user=ann", Code::Ok, 499).await;
        let refused = check(&bench, "user=bob", Code::OverLimit, 0).await;
        assert_eq!(reason(&refused), "no_access");
    }

    #[tokio::test]
    async fn an_override_ends_and_may_be_the_amount_of_a_tier() {
        // The tests' clock is at 2023-11-14T22:13:20Z.
        let bench = Bench::with_callers(
            POLICY,
            "callers:
               ann: {overrides: {daily: {amount: 6, until: 2023-11-14}}}
               bob: {overrides: {daily: {tier: premium}}}
               eve: {overrides: {daily: {tier: gold}}}",
        );
        check(&bench, "user=ann", Code::Ok, 5).await;
        check(&bench, "user=bob", Code::Ok, 9).await;
        check(&bench, "user=eve", Code::Ok, 3).await;
        for remaining in (0..5).rev() {
            check(&bench, "user=ann", Code::Ok, remaining).await;
        }
        check(&bench, "user=ann", Code::OverLimit, 0).await;
        bench.clock.advance(Duration::from_secs(2 * 3_600));
        let ended = check(&bench, "user=ann", Code::OverLimit, 0).await;
        assert_eq!(ended.statuses[0].limit.as_ref().unwrap().amount, 4);
        bench.clock.advance(Duration::from_secs(24 * 3_600));
        check(&bench, "user=ann", Code::Ok, 3).await;
    }

    #[tokio::test]
    async fn a_limit_of_zero_is_no_access_again_when_its_bonus_has_ended() {
        let bench = Bench::with_callers(
            POLICY,
            "callers: {ann: {overrides: {daily: 0}, bonuses: [
               {limit: daily, amount: 1, until: 2023-11-14}]}}",
        );
        check(&bench, "user=ann", Code::Ok, 0).await;
        let spent = check(&bench, "user=ann", Code::OverLimit, 0).await;
        assert_eq!(reason(&spent), "over_limit");
        bench.clock.advance(Duration::from_secs(2 * 3_600));
        let ended = check(&bench, "user=ann", Code::OverLimit, 0).await;
        assert_eq!(reason(&ended), "no_access");
    }

    #[tokio::test]
    async fn a_disabled_caller_is_refused_for_that_and_with_its_children() {
        let bench =
            Bench::with_callers(POLICY, "callers: {acme: {disabled: true}, ann: {parent: acme}}");
        for user in ["user=acme", "user=ann"] {
            let refused = check(&bench, user, Code::OverLimit, 0).await;
            assert_eq!(reason(&refused), "disabled");
        }
        check(&bench, "user=bob", Code::Ok, 3).await;
    }

    #[tokio::test]
    async fn bonuses_are_spent_after_the_base_and_the_soonest_to_end_first() {
        // The tests' clock is at 2023-11-14T22:13:20Z.
        let bench = Bench::with_callers(
            POLICY,
            "callers: {ann: {bonuses: [
               {id: late, limit: daily, amount: 3, until: 2023-11-30},
               {id: soon, limit: daily, amount: 2, until: 2023-11-14}]}}",
        );
        for remaining in (3..9).rev() {
            check(&bench, "user=ann", Code::Ok, remaining).await;
        }
        // The bonus has ended, and its remaining hits with it: none. The base is still spent.
        bench.clock.advance(Duration::from_secs(2 * 3_600));
        for remaining in (0..3).rev() {
            check(&bench, "user=ann", Code::Ok, remaining).await;
        }
        check(&bench, "user=ann", Code::OverLimit, 0).await;
    }

    #[tokio::test]
    async fn a_child_has_its_share_of_its_parents_limit() {
        let bench = Bench::with_callers(
            POLICY,
            "callers: {acme: {tier: premium}, ann: {parent: acme, share: 50%}, bob: {parent: acme}}",
        );
        check(&bench, "user=ann", Code::Ok, 4).await;
        check(&bench, "user=bob", Code::Ok, 9).await;
        check(&bench, "user=acme", Code::Ok, 9).await;
    }

    #[tokio::test]
    async fn a_pool_is_one_counter_with_ceilings_for_some() {
        let bench = Bench::with_callers(
            POLICY,
            "callers:
               acme: {tier: premium}
               ann: {parent: acme, pool: true}
               bob: {parent: acme, pool: true, share: 20%}",
        );
        check(&bench, "user=ann", Code::Ok, 9).await;
        check(&bench, "user=bob", Code::Ok, 1).await;
        check(&bench, "user=bob", Code::Ok, 0).await;
        check(&bench, "user=bob", Code::OverLimit, 0).await;
        check(&bench, "user=acme", Code::Ok, 6).await;
        for remaining in (0..6).rev() {
            check(&bench, "user=ann", Code::Ok, remaining).await;
        }
        check(&bench, "user=ann", Code::OverLimit, 0).await;
        check(&bench, "user=acme", Code::OverLimit, 0).await;
    }

    #[tokio::test]
    async fn bonuses_of_children_on_one_pool_are_their_own() {
        let bonus = "bonuses: [{id: x, limit: daily, amount: 1, until: 2030-01-01}]";
        let callers = format!(
            "callers:
               acme: {{overrides: {{daily: 1}}}}
               ann: {{parent: acme, pool: true, {bonus}}}
               bob: {{parent: acme, pool: true, {bonus}}}"
        );
        let bench = Bench::with_callers(POLICY, &callers);
        check(&bench, "user=ann", Code::Ok, 1).await;
        check(&bench, "user=ann", Code::Ok, 0).await;
        check(&bench, "user=ann", Code::OverLimit, 0).await;
        check(&bench, "user=bob", Code::Ok, 0).await;
        check(&bench, "user=bob", Code::OverLimit, 0).await;
        check(&bench, "user=acme", Code::OverLimit, 0).await;
    }
}
