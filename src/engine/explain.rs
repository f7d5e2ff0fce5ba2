//! What a request meets and would be charged, without charging it: the plan by which it would be decided, with
//! where each part of it comes from.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::policy::Capacity;
use crate::policy::Choice;
use crate::policy::Domain;
use crate::policy::Lineage;
use crate::policy::Only;
use crate::policy::Place;
use crate::policy::Rule;
use crate::policy::RuleLimit;
use crate::policy::RuleTrace;
use crate::store::Charge;
use crate::store::Mark;
use crate::store::memory::Memory;

use super::Code;
use super::Engine;
use super::Reason;
use super::Request;
use super::answer::Happened;
use super::answer::Judgement;
use super::asker::Account;
use super::asker::AmountSource;
use super::asker::Asker;
use super::asker::TierSource;
use super::choice::Ranking;
use super::choice::Scene;
use super::choice::filled;
use super::decide::Decided;
use super::patience::Patience;
use super::peek::Stand;
use super::plan::Notes;
use super::plan::Origin;
use super::plan::Plan;
use super::plan::Uncharged;

/// What a request meets, and what it would be charged.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub caller: ExplainedCaller,
    pub choices: Vec<ExplainedChoice>,
    /// One for each descriptor, in order, with the chosen names in it.
    pub descriptors: Vec<ExplainedDescriptor>,
    /// What would be charged, in one step.
    pub limits: Vec<ExplainedLimit>,
    /// Limits that are met and not charged.
    pub uncharged: Vec<UnchargedLimit>,
    /// The rules whose pressure the request meets, in the order in which charges name them.
    pub pressure: Vec<ExplainedPressure>,
    /// Why it is refused though nothing has been spent; None if it passes then.
    pub refusal: Option<Reason>,
}

/// Who asks, and as what.
#[derive(Clone, Debug)]
pub struct ExplainedCaller {
    /// None if the request names nobody.
    pub name: Option<String>,
    /// The index of the tier among those of the policy.
    pub tier: usize,
    pub tier_source: TierSource,
    /// While nothing presses.
    pub priority: u8,
    /// The caller and those it belongs to; empty if the directory doesn't know the caller.
    pub lineage: Lineage,
}

/// How a choice that the request leaves open would be made.
#[derive(Clone, Debug)]
pub struct ExplainedChoice {
    pub choice: Choice,
    pub chosen: String,
    /// One for each candidate, in order.
    pub candidates: Vec<ExplainedCandidate>,
}

/// How a candidate of a choice stands.
#[derive(Clone, Copy, Debug)]
pub struct ExplainedCandidate {
    pub stand: Stand,
    /// If it is in the running.
    pub score: Option<f64>,
    /// The latency that is known of it, if it is in the running.
    pub latency_ms: Option<f64>,
}

/// What one descriptor meets.
#[derive(Clone, Debug)]
pub struct ExplainedDescriptor {
    pub trace: RuleTrace,
    /// Limits of the explanation, by index.
    pub limits: Vec<usize>,
    /// Rules that keep the caller out, each with whom it lets pass.
    pub closed: Vec<(RuleName, Only)>,
}

/// Where a rule stands.
#[derive(Clone, Debug)]
pub struct RuleName {
    pub path: String,
    pub place: Place,
    pub cascade: bool,
}

/// A limit that would be charged.
#[derive(Clone, Debug)]
pub struct ExplainedLimit {
    /// None if the request brings the limit along.
    pub rule: Option<RuleName>,
    pub limit: RuleLimit,
    /// The counter's name.
    pub key: String,
    /// What the store would be asked, for this caller.
    pub charge: Charge,
    /// Whose counter it is, and where its amount comes from, if a directory knows the caller.
    pub account: Option<(Arc<str>, AmountSource)>,
    /// How much is kept for whom, if the rule says.
    pub capacity: Option<Capacity>,
    /// Whether it has the hits if nothing has been spent.
    pub fits: bool,
}

/// A limit that is met and not charged.
#[derive(Clone, Debug)]
pub struct UnchargedLimit {
    pub rule: Option<RuleName>,
    pub label: Arc<str>,
    pub why: Uncharged,
}

/// A rule that can come under pressure.
#[derive(Clone, Debug)]
pub struct ExplainedPressure {
    pub rule: RuleName,
    pub capacity: Capacity,
    /// When its level rises and falls.
    pub marks: Vec<Mark>,
}

impl Engine {
    /// What a request meets and would be charged; None if there is no policy for its domain.
    pub async fn explain(&self, request: &Request<'_>) -> Option<Explanation> {
        let live = self.live.load_full();
        let domain = live.policies.domain(request.domain())?;
        let patience = &Patience::default();
        let lineage = &self.lineage(domain, request, patience).await;
        let scene = Scene { live: &live, domain, lineage, patience };
        // Boxed, because it is large.
        let rankings = Box::pin(self.rankings(scene, request)).await;
        let request = filled(request, &rankings);
        let asker = Asker::new(&domain.classes, &request, lineage.clone());
        let modes = self.settings.modes;
        let (plan, notes) = Plan::noted(domain, &request, &asker, modes);
        let decided = untouched(&plan, self.now());
        let happened = Happened { plan: &plan, asker: &asker, decided: &decided };
        let judgement = Judgement::new(domain, happened, modes);
        let mut limits = limits(&plan, &notes, &asker);
        for (limit, charged) in limits.iter_mut().zip(judgement.charges()) {
            limit.fits = !charged.over();
        }
        Some(Explanation {
            caller: ExplainedCaller::new(&asker),
            choices: rankings.iter().map(ExplainedChoice::new).collect(),
            descriptors: descriptors(domain, &request, &plan, &notes),
            limits,
            uncharged: uncharged(&notes),
            pressure: pressure(&plan),
            refusal: (judgement.code() != Code::Ok).then(|| judgement.reason()),
        })
    }
}

impl ExplainedCaller {
    fn new(asker: &Asker<'_>) -> Self {
        Self {
            name: asker.name.map(str::to_owned),
            tier: asker.tier,
            tier_source: asker.tier_source,
            priority: asker.priority(0),
            lineage: asker.lineage().clone(),
        }
    }
}

impl ExplainedChoice {
    fn new(ranking: &Ranking<'_>) -> Self {
        let candidate = |(index, stand): (usize, &Stand)| {
            let score = ranking.running.iter().find(|(candidate, _)| *candidate == index);
            let seen = ranking.seen.iter().find(|seen| seen.candidate == index);
            ExplainedCandidate {
                stand: *stand,
                score: score.map(|(_, score)| *score),
                latency_ms: seen.and_then(|seen| seen.latency_ms),
            }
        };
        Self {
            choice: ranking.choice.clone(),
            chosen: ranking.chosen().to_owned(),
            candidates: ranking.stands.iter().enumerate().map(candidate).collect(),
        }
    }
}

impl RuleName {
    fn new(rule: &Rule) -> Self {
        Self { path: rule.path.clone(), place: rule.place.clone(), cascade: rule.cascade }
    }

    fn of(origin: &Origin<'_>) -> Option<Self> {
        origin.rule.map(Self::new)
    }
}

/// How a plan would be decided if nothing had been spent.
fn untouched(plan: &Plan<'_>, now: Timestamp) -> Decided {
    let store = Memory::new(plan.batch.keys.len().max(1));
    let outcome = plan.denial.is_none().then(|| store.charge_at(&plan.batch, now));
    Decided { outcome, ..Decided::default() }
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

fn limits(plan: &Plan<'_>, notes: &Notes<'_>, asker: &Asker<'_>) -> Vec<ExplainedLimit> {
    let charges = plan.batch.charges.iter().zip(&plan.limits).zip(&notes.origins);
    let explained = charges.map(|((charge, limit), origin)| {
        let account = |account: Account| {
            (asker.account_name(account).into(), asker.amount_source(account, limit))
        };
        let capacity = origin.rule.and_then(|rule| rule.capacity.as_deref());
        ExplainedLimit {
            rule: RuleName::of(origin),
            limit: (**limit).clone(),
            key: plan.batch.keys[charge.key_index].as_str().to_owned(),
            charge: charge.clone(),
            account: origin.account.map(account),
            capacity: capacity.cloned(),
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

fn pressure(plan: &Plan<'_>) -> Vec<ExplainedPressure> {
    let gauges = plan.batch.gauges.iter().zip(&plan.gauges);
    let explained = gauges.filter_map(|(gauge, rule)| {
        let capacity = rule.capacity.as_deref()?.clone();
        let marks = gauge.marks.to_vec();
        Some(ExplainedPressure { rule: RuleName::new(rule), capacity, marks })
    });
    explained.collect()
}
