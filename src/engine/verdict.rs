//! The verdict: the answer to one request as a value, with the decision on each of its charges.
//!
//! It contains no text of any protocol; the layer `answer` renders it.

use std::mem::take;
use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::limit::{Fit, Hits, Limit};
use crate::policy::{Choice, Domain, Mode, Rule};
use crate::store::{Charge, Decision, GroupFit, INLINE_CAP, Notice, Outcome, Retry, Tally};

use super::caller::CallerContext;
use super::plan::{Denial, DescriptorMatch, Plan, PlannedLimit, VERDICT_INLINE_CAP};
use super::reason::Reason;
use super::refusal_id::RefusalId;
use super::request::Request;
use super::reserving::Reserving;

/// The answer to a request or a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Ok,
    OverLimit,
    /// Unknown: the store is unavailable, and a limit of the request has `on_outage: error`. Only for a request, never
    /// for one of its descriptors.
    Unavailable,
}

/// The answer to a request. It borrows from the policy snapshot and from the request.
#[derive(Clone, Debug)]
pub struct Verdict<'v> {
    /// The domain of the request.
    pub domain: &'v str,
    /// None if the domain is unknown: the request passes.
    pub policy: Option<&'v Domain>,
    /// None without a policy.
    pub caller: Option<CallerContext<'v>>,
    /// The time of the decision: by the store's clock, if the store was asked.
    pub at: Timestamp,
    /// One for each descriptor, in order.
    pub descriptors: SmallVec<[DescriptorMatch<'v>; VERDICT_INLINE_CAP]>,
    /// Each rule of the request with pressure levels, with its level.
    pub levels: SmallVec<[(&'v Rule, u8); 1]>,
    /// The open provider choices of the request.
    pub choices: Vec<ProviderChoice<'v>>,
    /// Time that the request was held for capacity.
    pub waited: Duration,
    /// For a refusal of a request that could have waited longer.
    pub queued: Option<Queued>,
    /// The request is denied, regardless of its limits.
    pub denial: Option<Denial>,
    /// The store was unavailable and `on_outage` decided.
    pub fallback: bool,
    /// For a refusal, if the policy's `answer` has ids.
    pub refusal_id: Option<RefusalId>,
    /// Reports of the store beside the decisions.
    pub(super) notices: Vec<Notice>,
    charges: Vec<ChargeDecision<'v>>,
    code: Code,
    /// There are quotas, and all are exhausted.
    no_quota_left: bool,
}

/// The result of a question to the store.
#[derive(Debug, Default)]
pub struct Decided {
    /// None if the store was not asked.
    pub outcome: Option<Outcome>,
    /// Time that the request was held.
    pub waited: Duration,
    /// For a refusal of a request that could have waited longer.
    pub queued: Option<Queued>,
}

/// The position of a request in its queue, or the position that it would have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// From 1.
    pub position: usize,
    /// The expected time of its turn, at the rate of the limit; None if the limit has no rate.
    pub expected: Option<Duration>,
}

/// A choice of a provider or another value.
#[derive(Clone, Debug)]
pub struct ProviderChoice<'v> {
    pub choice: &'v Choice,
    /// The name of the chosen candidate.
    pub chosen: &'v str,
    /// The candidates that are not excluded, by index, the best first, with their scores.
    pub scores: SmallVec<[(usize, f64); INLINE_CAP]>,
}

/// The decision on one limit of a request.
#[derive(Clone, Debug)]
pub struct ChargeDecision<'v> {
    /// None for a limit that the request brings along.
    pub rule: Option<&'v Rule>,
    pub limit: PlannedLimit<'v>,
    /// The requested hits.
    pub hits: Hits,
    /// A descriptor is a peek.
    pub peeks: bool,
    /// All its descriptors set their hits, as Envoy does after a response.
    pub sets_hits: bool,
    /// A descriptor sets the hits, and they may count although the request is refused.
    pub is_debit: bool,
    /// Fewer hits may be taken than the request asks for.
    pub is_partial: bool,
    /// What it does with reservations.
    pub reserving: Reserving,
    /// The amount in a window, for this caller.
    pub amount: u64,
    /// The maximum that can be spent at once if nothing has been spent, for this caller.
    pub capacity: u64,
    /// The base of the remaining hits: the capacity plus valid bonuses.
    pub quota: u64,
    /// The store's decision: the fit, the remaining hits, leased hits, and whether it failed.
    pub decision: Decision,
    /// The mode by which the request is judged.
    pub mode: Mode,
    /// The reason of a refusal; the default if the limit had the hits.
    pub reason: Reason,
    /// Limits of one group are decided together.
    group: usize,
}

impl<'v> Verdict<'v> {
    /// The verdict for an unknown domain: the request passes, or `code`.
    pub fn without_policy(request: &Request<'v>, at: Timestamp, code: Code) -> Box<Self> {
        let descriptors = request.descriptors().iter().map(|_| DescriptorMatch::default());
        Box::new(Self {
            domain: request.domain(),
            policy: None,
            caller: None,
            at,
            descriptors: descriptors.collect(),
            levels: SmallVec::new(),
            choices: Vec::new(),
            waited: Duration::ZERO,
            queued: None,
            denial: None,
            fallback: false,
            refusal_id: None,
            notices: Vec::new(),
            charges: Vec::new(),
            code,
            no_quota_left: false,
        })
    }

    /// The verdict on the outcome of `plan`, whose descriptors it takes.
    pub fn new(
        policy: &'v Domain,
        caller: CallerContext<'v>,
        plan: &mut Plan<'v>,
        decided: Decided,
    ) -> Box<Self> {
        let Decided { mut outcome, waited, queued } = decided;
        let notices = outcome.as_mut().map(|outcome| take(&mut outcome.notices));
        let charges = outcome.as_ref().map(|outcome| charges(plan, outcome));
        let charges = charges.unwrap_or_default();
        let tally = tally(plan, &charges);
        let code = match plan.denial {
            _ if plan.modes.shadow => Code::Ok,
            Some(_) => Code::OverLimit,
            None if tally.refused() => Code::OverLimit,
            None if tally.failed() => Code::Unavailable,
            None => Code::Ok,
        };
        let levels = outcome.iter().flat_map(|outcome| outcome.levels.iter().copied());
        Box::new(Self {
            domain: &policy.name,
            policy: Some(policy),
            caller: Some(caller),
            at: outcome.as_ref().map_or(plan.at, |outcome| outcome.at),
            descriptors: take(&mut plan.descriptors),
            levels: plan.gauges.iter().copied().zip(levels).collect(),
            choices: Vec::new(),
            waited,
            queued,
            denial: plan.denial,
            fallback: outcome.is_some_and(|outcome| outcome.fallback),
            refusal_id: None,
            notices: notices.unwrap_or_default(),
            charges,
            code,
            no_quota_left: tally.no_quota_left(),
        })
    }

    /// Whether the request passes, is refused, or is undecided.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Whether the policy's `answer` has ids of refusals.
    pub fn has_refusal_ids(&self) -> bool {
        self.policy.is_some_and(|policy| policy.answer.refusal_id.is_any())
    }

    /// Whether the request passes as a retry: an earlier attempt was charged for some or all of its limits.
    pub fn is_retry(&self) -> bool {
        self.code == Code::Ok && self.charges.iter().any(ChargeDecision::is_retry)
    }

    /// The decisions on all limits of the request, without duplicates. None if it was denied.
    pub fn charges(&self) -> &[ChargeDecision<'v>] {
        &self.charges
    }

    /// The decisions on the limits of a descriptor.
    pub fn of<'a>(
        &'a self,
        descriptor: &'a DescriptorMatch<'v>,
    ) -> impl Iterator<Item = &'a ChargeDecision<'v>> + Clone {
        descriptor.charges.iter().filter_map(|index| self.charges.get(*index))
    }

    /// The highest pressure level of the request's rules.
    pub fn level(&self) -> u8 {
        self.levels.iter().map(|(_, level)| *level).max().unwrap_or_default()
    }

    /// The reason of the refusal; of several, the one that time resolves least.
    pub fn reason(&self) -> Reason {
        match self.denial {
            Some(Denial::Disabled) => Reason::Disabled,
            Some(Denial::NoAccess) => Reason::NoAccess,
            None => self.refusing().map(|charge| charge.reason).max().unwrap_or_default(),
        }
    }

    /// The limits that refuse the request, or would refuse it.
    pub fn refusing(&self) -> impl Iterator<Item = &ChargeDecision<'v>> {
        self.charges.iter().filter(|charge| self.refuses(charge))
    }

    /// Whether this limit refuses the request, or would refuse it. An exhausted quota does not refuse while another
    /// quota has capacity.
    pub fn refuses(&self, charge: &ChargeDecision<'_>) -> bool {
        charge.is_over()
            && match charge.mode {
                Mode::Enforce => true,
                Mode::Quota => self.no_quota_left,
                Mode::Warn | Mode::Shadow | Mode::Off => false,
            }
    }

    /// Time until the same request would pass: until all refusing limits have the hits; of quotas, the first one. None
    /// if it never would, or that is unknown.
    pub fn wait(&self) -> Option<Duration> {
        self.refusing().next()?;
        let groups = self.charges.chunk_by(|one, next| one.group == next.group);
        let mut longest = Duration::ZERO;
        let mut first_quota = None;
        for group in groups {
            let mut refusing = group.iter().filter(|charge| self.refuses(charge)).peekable();
            let Some(mode) = refusing.peek().map(|charge| charge.mode) else { continue };
            let wait = refusing
                .try_fold(Duration::ZERO, |longest, charge| Some(longest.max(charge.wait()?)));
            match mode {
                Mode::Quota => first_quota = first_quota.into_iter().chain(wait).min(),
                _ => longest = longest.max(wait?),
            }
        }
        match self.no_quota_left {
            true => first_quota.map(|first| first.max(longest)),
            false => Some(longest),
        }
    }
}

impl ChargeDecision<'_> {
    /// Whether the limit did not have the hits, or `on_outage` refuses them.
    pub fn is_over(&self) -> bool {
        self.decision.fit != Fit::Now
    }

    /// Whether it is unknown if the limit had the hits.
    pub fn is_failed(&self) -> bool {
        self.decision.failed
    }

    /// Whether an earlier attempt was charged for this limit, so that it is not charged again.
    pub fn is_retry(&self) -> bool {
        self.decision.retry.is_some_and(Retry::is_free)
    }

    /// Whether it is recorded and not enforced.
    pub fn is_shadow(&self) -> bool {
        !self.mode.refuses()
    }

    /// Whether callers are told of it: also of a limit that only warns.
    pub fn is_reported(&self) -> bool {
        self.mode.refuses() || self.mode == Mode::Warn
    }

    /// Whether the request would be refused for it, and is not.
    pub fn warns(&self) -> bool {
        self.mode == Mode::Warn && self.is_over()
    }

    /// Time until the same request would pass, if it is refused and ever would.
    pub fn wait(&self) -> Option<Duration> {
        match self.decision.fit {
            Fit::AfterMs(ms) => Some(Duration::from_millis(ms)),
            Fit::Now | Fit::Never => None,
        }
    }

    /// Remaining hits.
    pub fn remaining(&self) -> u64 {
        self.decision.standing.remaining
    }

    /// Time until nothing of the limit is in use.
    pub fn reset(&self) -> Option<Duration> {
        self.decision.standing.reset_ms.map(Duration::from_millis)
    }
}

/// The groups of a plan with their outcomes.
fn tally(plan: &Plan<'_>, charges: &[ChargeDecision<'_>]) -> Tally {
    let mut tally = Tally::default();
    if plan.quota_left {
        tally.count(Mode::Quota, GroupFit::Fits);
    }
    for group in charges.chunk_by(|one, next| one.group == next.group) {
        let mode = group.first().map_or(Mode::Shadow, |charge| charge.mode);
        tally.count(mode, GroupFit::of(group.iter().map(|charge| &charge.decision)));
    }
    tally
}

/// The charges of a plan with their decisions.
fn charges<'v>(plan: &Plan<'v>, outcome: &Outcome) -> Vec<ChargeDecision<'v>> {
    let charges = plan.batch.charges.iter().zip(&outcome.decisions).enumerate();
    let origins = plan.limits.iter().zip(&plan.rules);
    let decided = charges.zip(origins).map(|((index, (charge, decision)), (limit, rule))| {
        let in_force = charge.limit.at(outcome.at);
        let is_refused = decision.fit != Fit::Now || decision.failed;
        let reason = is_refused.then(|| Reason::of(charge, decision, outcome));
        ChargeDecision {
            rule: *rule,
            limit: limit.clone(),
            hits: charge.hits,
            peeks: plan.peeks(index),
            sets_hits: plan.sets_hits(index),
            is_debit: charge.is_debit(),
            is_partial: charge.is_partial(),
            reserving: Reserving::of(charge),
            amount: in_force.amount(),
            capacity: in_force.capacity(),
            quota: quota_of(in_force, charge, outcome.at),
            decision: *decision,
            mode: plan.mode(index),
            reason: match reason {
                Some(Reason::Reserved) if rule.is_none_or(|rule| rule.capacity.is_none()) => {
                    Reason::Adjusted
                }
                reason => reason.unwrap_or_default(),
            },
            group: charge.group,
        }
    });
    decided.collect()
}

/// The maximum that can be spent at once if nothing has been spent: the burst of a bucket, not its rate, plus valid
/// bonuses.
pub(super) fn quota(charge: &Charge, at: Timestamp) -> u64 {
    quota_of(charge.limit.at(at), charge, at)
}

/// The same under the limit that is in force then.
fn quota_of(in_force: &Limit, charge: &Charge, at: Timestamp) -> u64 {
    let valid = charge.bonuses.iter().filter(|bonus| at < bonus.until);
    valid.fold(in_force.capacity(), |sum, bonus| sum.saturating_add(bonus.amount))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ModeSettings;
    use crate::engine::testing::{bench, descriptor};

    /// The quota `none` is always exhausted, for a more severe reason than the others.
    const QUOTAS: &str = "
domain: d
descriptors:
- {key: none, limits: [{rate: 0/day, name: none, mode: quota}]}
- {key: hour, limits: [{rate: 1/hour, name: hour, mode: quota}]}
- {key: minute, limits: [{rate: 1/minute, name: minute}]}";

    #[tokio::test]
    async fn a_quota_that_is_over_refuses_only_when_no_other_is_left() {
        let bench = bench(QUOTAS, ModeSettings::default());
        let check = async |ask: &[&str], code: Code, refusing: &[&str], reason, wait_s| {
            let descriptors = ask.iter().map(|text| descriptor(text)).collect();
            let request = Request::try_new("d", descriptors).unwrap();
            let snapshot = bench.engine.snapshot();
            let verdict = bench.engine.check(&snapshot, &request).await;
            let refused: Vec<&str> = verdict.refusing().map(|one| &*one.limit.label).collect();
            assert_eq!((verdict.code(), refused.as_slice()), (code, refusing), "{ask:?}");
            assert_eq!(verdict.reason(), reason, "{ask:?}");
            assert_eq!(verdict.wait(), wait_s, "{ask:?}");
            let record =
                snapshot.record(&verdict, &request, crate::engine::RecordExtras::default());
            let recorded = record.limits().filter(|(_, charge)| charge.refusal.is_some());
            assert_eq!(recorded.map(|(label, _)| label).collect::<Vec<_>>(), refusing, "{ask:?}");
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let all = ["none=1", "hour=1", "minute=1"];
        check(&all[..1], Code::OverLimit, &["none"], Reason::NoAccess, None).await;
        check(&all[..2], Code::Ok, &[], Reason::OverLimit, None).await;
        let both = ["none", "hour"];
        check(&all[..2], Code::OverLimit, &both, Reason::NoAccess, seconds(3_600)).await;
        // Under another key, that quota has capacity.
        check(&["minute=1"], Code::Ok, &[], Reason::OverLimit, None).await;
        let left = ["none=1", "hour=2", "minute=1"];
        check(&left, Code::OverLimit, &["minute"], Reason::OverLimit, seconds(60)).await;
    }
}
