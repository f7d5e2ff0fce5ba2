//! Explains a request without a charge: the plan by which it would be decided, with the source of each of its parts.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::policy::{
    Capacity, Choice, Domain, Lineage, Only, PriceLine, Rule, RuleLimit, RuleTrace, SourceLocation,
};
use crate::store::{Charge, IdempotencyMark, Mark};

use super::Engine;
use super::caller::{Account, AmountSource, CallerContext, Overridden, TierSource, entry};
use super::decide::Trace;
use super::dry_run::CandidateState;
use super::plan::{Notes, Origin, Plan, Uncharged};
use super::provider_choice::{Ranking, filled};
use super::reason::Reason;
use super::request::Request;
use super::verdict::Code;

/// The explanation of a request.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub caller: ExplainedCaller,
    pub choices: Vec<ExplainedChoice>,
    /// One for each descriptor, in order, with the chosen names in it.
    pub descriptors: Vec<ExplainedDescriptor>,
    /// The charges, made in one step.
    pub limits: Vec<ExplainedLimit>,
    /// Limits that apply but are not charged.
    pub uncharged: Vec<UnchargedLimit>,
    /// The rules with pressure levels, in the order of the charges' gauges.
    pub pressure: Vec<ExplainedPressure>,
    /// The line of the policy's prices that applies, and its currency.
    pub price: Option<(PriceLine, Box<str>)>,
    /// The reason of a refusal although nothing has been spent; None if it passes.
    pub refusal: Option<Reason>,
}

/// The caller, its tier and its priority.
#[derive(Clone, Debug)]
pub struct ExplainedCaller {
    /// None if the request has no caller.
    pub name: Option<String>,
    /// The index of the tier among those of the policy.
    pub tier: usize,
    pub tier_source: TierSource,
    /// At the lowest pressure level.
    pub priority: u8,
    /// The caller and its parents; empty if it is unknown to the directory.
    pub lineage: Lineage,
}

/// How an open choice would be made.
#[derive(Clone, Debug)]
pub struct ExplainedChoice {
    pub choice: Choice,
    pub chosen: String,
    /// One for each candidate, in order.
    pub candidates: Vec<ExplainedCandidate>,
}

/// The state of a candidate.
#[derive(Clone, Copy, Debug)]
pub struct ExplainedCandidate {
    pub state: CandidateState,
    /// If it is not excluded.
    pub score: Option<f64>,
    /// Its latency, if it is known and the candidate is not excluded.
    pub latency_ms: Option<f64>,
}

/// The rules and limits of one descriptor.
#[derive(Clone, Debug)]
pub struct ExplainedDescriptor {
    pub trace: RuleTrace,
    /// Limits of the explanation, by index.
    pub limits: Vec<usize>,
    /// Rules that refuse the caller, each with the tiers and priorities that may pass.
    pub closed: Vec<(RuleName, Only)>,
}

/// The place of a rule.
#[derive(Clone, Debug)]
pub struct RuleName {
    pub path: String,
    pub location: SourceLocation,
    /// The place of the overlay's rule that adds to it.
    pub overlay: Option<SourceLocation>,
    pub cascade: bool,
}

/// A limit that would be charged.
#[derive(Clone, Debug)]
pub struct ExplainedLimit {
    /// None if the request brings the limit along.
    pub rule: Option<RuleName>,
    pub limit: RuleLimit,
    /// The key of the counter.
    pub key: String,
    /// The charge for this caller.
    pub charge: Charge,
    /// The account that owns the counter, and the source of its amount, if the caller is known to a directory.
    pub account: Option<(Arc<str>, AmountSource)>,
    /// The override that it comes from.
    pub overridden: Option<Overridden>,
    /// The reserves by tier, if the rule has any.
    pub capacity: Option<Capacity>,
    /// The idempotency key in the store, and the mark, if the charge has one.
    pub mark: Option<(String, IdempotencyMark)>,
    /// Whether it has the hits if nothing has been spent.
    pub fits: bool,
}

/// A limit that applies but is not charged.
#[derive(Clone, Debug)]
pub struct UnchargedLimit {
    pub rule: Option<RuleName>,
    pub label: Arc<str>,
    pub why: Uncharged,
}

/// A rule with pressure levels.
#[derive(Clone, Debug)]
pub struct ExplainedPressure {
    pub rule: RuleName,
    pub capacity: Capacity,
    /// When its levels rise and fall.
    pub marks: Vec<Mark>,
}

impl Engine {
    /// Explains a request; None if its domain is unknown.
    pub async fn explain(&self, request: &Request<'_>) -> Option<Explanation> {
        let snapshot = &*self.snapshot();
        // Boxed, because it is large.
        let dry_run = self.decider.dry_run(snapshot, request, self.decider.settings.clock.now());
        let (verdict, Trace { plan, notes, rankings }) = Box::pin(dry_run).await;
        let (domain, caller) = (verdict.policy?, verdict.caller.as_ref()?);
        let mut limits = limits(&plan, &notes, caller);
        for (limit, charge) in limits.iter_mut().zip(verdict.charges()) {
            limit.fits = !charge.is_over();
        }
        let asked = filled(request, &rankings);
        let price = domain.prices.as_ref().and_then(|prices| {
            let line = prices.line(|key| entry(&asked, key))?;
            Some((prices.lines.get(line)?.clone(), prices.currency.clone()))
        });
        Some(Explanation {
            caller: ExplainedCaller::new(caller),
            choices: rankings.iter().map(ExplainedChoice::new).collect(),
            descriptors: descriptors(domain, &asked, &plan, &notes),
            limits,
            uncharged: uncharged(&notes),
            pressure: pressure(&plan, verdict.at),
            price,
            refusal: (verdict.code() != Code::Ok).then(|| verdict.reason()),
        })
    }
}

impl ExplainedCaller {
    fn new(caller: &CallerContext<'_>) -> Self {
        Self {
            name: caller.name.map(str::to_owned),
            tier: caller.tier,
            tier_source: caller.tier_source,
            priority: caller.priority(0),
            lineage: caller.lineage().clone(),
        }
    }
}

impl ExplainedChoice {
    fn new(ranking: &Ranking<'_>) -> Self {
        let candidate = |(index, state): (usize, &CandidateState)| {
            let score = ranking.running.iter().find(|(candidate, _)| *candidate == index);
            let figures = ranking.figures.iter().find(|figures| figures.candidate == index);
            ExplainedCandidate {
                state: *state,
                score: score.map(|(_, score)| *score),
                latency_ms: figures.and_then(|figures| figures.latency_ms),
            }
        };
        Self {
            choice: ranking.choice.clone(),
            chosen: ranking.chosen().to_owned(),
            candidates: ranking.states.iter().enumerate().map(candidate).collect(),
        }
    }
}

impl RuleName {
    fn new(rule: &Rule) -> Self {
        Self {
            path: rule.path.clone(),
            location: rule.location.clone(),
            overlay: rule.overlay.as_deref().cloned(),
            cascade: rule.cascade,
        }
    }

    fn of(origin: &Origin<'_>) -> Option<Self> {
        origin.rule.map(Self::new)
    }
}

fn descriptors(
    domain: &Domain,
    request: &Request<'_>,
    plan: &Plan<'_>,
    notes: &Notes<'_>,
) -> Vec<ExplainedDescriptor> {
    let parts = request.descriptors().iter().zip(&plan.descriptors).enumerate();
    let explained = parts.map(|(index, (descriptor, part))| {
        let closed = notes.closed.iter().filter(|(part, _)| *part == index);
        let closed = closed.filter_map(|(_, rule)| Some((RuleName::new(rule), rule.only.clone()?)));
        ExplainedDescriptor {
            trace: domain.trace(&descriptor.entries),
            limits: part.charges.to_vec(),
            closed: closed.collect(),
        }
    });
    explained.collect()
}

fn limits(plan: &Plan<'_>, notes: &Notes<'_>, caller: &CallerContext<'_>) -> Vec<ExplainedLimit> {
    let charges = plan.batch.charges.iter().zip(&plan.limits).zip(&notes.origins);
    let explained = charges.map(|((charge, limit), origin)| {
        let account = |account: Account| {
            (caller.account_name(account).into(), caller.amount_source(account, limit))
        };
        let capacity = origin.rule.and_then(|rule| rule.capacity.as_deref());
        ExplainedLimit {
            rule: RuleName::of(origin),
            limit: (**limit).clone(),
            key: plan.batch.keys[charge.key_index].as_str().to_owned(),
            charge: charge.clone(),
            account: origin.account.map(account),
            overridden: origin.account.and_then(|account| caller.overridden(account, limit)),
            capacity: capacity.cloned(),
            mark: charge.once.and_then(|once| {
                let mark = *once.mark()?;
                Some((plan.batch.keys[usize::from(mark.key_index)].to_string(), mark))
            }),
            fits: true,
        }
    });
    explained.collect()
}

fn uncharged(notes: &Notes<'_>) -> Vec<UnchargedLimit> {
    let explained = notes.uncharged.iter().map(|(origin, limit, why)| UnchargedLimit {
        rule: RuleName::of(origin),
        label: limit.label.clone(),
        why: *why,
    });
    explained.collect()
}

fn pressure(plan: &Plan<'_>, at: Timestamp) -> Vec<ExplainedPressure> {
    let gauges = plan.batch.gauges.iter().zip(&plan.gauges);
    let explained = gauges.filter_map(|(gauge, rule)| {
        let capacity = rule.capacity.as_deref()?.at(plan.at).clone();
        let in_hits = |mark: &Mark| {
            let charge = &plan.batch.charges[mark.charge];
            let [rise, fall] =
                [mark.rise, mark.fall].map(|point| charge.scaled(point, charge.limit.at(at)));
            Mark { rise, fall, ..*mark }
        };
        let marks = gauge.marks.iter().map(in_hits).collect();
        Some(ExplainedPressure { rule: RuleName::new(rule), capacity, marks })
    });
    explained.collect()
}
