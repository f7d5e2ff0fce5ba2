//! The pipeline: a request becomes a verdict.
//!
//! Find the caller, rank the candidates of open choices, plan the charges, have the store charge them in one step, and
//! evaluate the outcome. If only the chosen candidate refuses, the steps are repeated with the next one. A dry run uses
//! the same pipeline with an empty store, and records how the plan was made.

use std::mem;

use crate::clock::Now;
use crate::store::Outcome;
use crate::store::embedded::Memory;

use super::caller::CallerContext;
use super::deadline::DeadlineBudget;
use super::decider::Decider;
use super::hold::Hold;
use super::plan::{Notes, Plan, Question};
use super::provider_choice;
use super::provider_choice::{Ranking, Scene};
use super::request::Request;
use super::snapshot::Snapshot;
use super::verdict::{Code, Decided, Verdict};

/// The explanation of a dry run's verdict.
#[derive(Debug, Default)]
pub struct Trace<'v> {
    pub plan: Plan<'v>,
    pub notes: Notes<'v>,
    pub rankings: Vec<Ranking<'v>>,
}

/// A run of the pipeline.
struct Run<'t, 'v> {
    now: Now,
    /// For a dry run.
    trace: Option<&'t mut Trace<'v>>,
}

/// When, and within which time, a request asks the store.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    now: Now,
    budget: &'a DeadlineBudget,
    /// Whether the request may be held for capacity.
    may_hold: bool,
}

impl Decider {
    /// Decides a request under a snapshot.
    pub async fn decide<'v>(
        &self,
        snapshot: &'v Snapshot,
        request: &Request<'v>,
        now: Now,
    ) -> Box<Verdict<'v>> {
        self.run(snapshot, request, Run { now, trace: None }).await
    }

    /// The verdict if nothing had been spent, with its explanation. Nothing is charged.
    pub async fn dry_run<'v>(
        &self,
        snapshot: &'v Snapshot,
        request: &Request<'v>,
        now: Now,
    ) -> (Box<Verdict<'v>>, Trace<'v>) {
        let mut trace = Trace::default();
        let verdict = self.run(snapshot, request, Run { now, trace: Some(&mut trace) }).await;
        (verdict, trace)
    }

    async fn run<'v>(
        &self,
        snapshot: &'v Snapshot,
        request: &Request<'v>,
        Run { now, mut trace }: Run<'_, 'v>,
    ) -> Box<Verdict<'v>> {
        let Some(domain) = snapshot.policies.domain(request.domain()) else {
            // Before the first policies, nothing is known of any domain.
            let code = if snapshot.policies.is_pending() { Code::Unavailable } else { Code::Ok };
            return Verdict::without_policy(request, now.timestamp(), code);
        };
        let budget = &DeadlineBudget::at_most(request.store_wait_max());
        let modes = self.settings.modes;
        let mut lineage = self.lineage(domain, request, budget).await;
        let mut rankings = Vec::new();
        if provider_choice::is_open(domain, request) {
            let scene = Scene { snapshot, domain, lineage: &lineage, budget, now };
            // Boxed, because it is large and rare.
            rankings = Box::pin(self.rankings(scene, request)).await;
        }
        // A request is held only if no other candidate can be asked.
        let mut may_hold = false;
        loop {
            let request = provider_choice::filled(request, &rankings);
            // Only a request with choices needs it again.
            let known = if rankings.is_empty() { mem::take(&mut lineage) } else { lineage.clone() };
            let at = now.timestamp();
            let caller = snapshot.caller(domain, &request, (known, at));
            let question = Question { domain, request: &request, caller: &caller, modes, now: at };
            let mut plan = Plan::new(question, trace.as_mut().map(|trace| &mut trace.notes));
            may_hold |= !rankings.iter().any(Ranking::has_next);
            let mut decided = match trace {
                Some(_) => untouched(&plan),
                None => self.ask(&plan, &caller, Attempt { now, budget, may_hold }).await,
            };
            if let Some(outcome) = decided.outcome.as_mut().filter(|outcome| !outcome.admitted) {
                plan.end_waits_at_edges(outcome);
            }
            // Hits that count although the request is refused count once.
            let is_charged = decided.outcome.as_ref().is_some_and(Outcome::is_charged);
            let mut verdict = Verdict::new(domain, caller, &mut plan, decided);
            let is_final = verdict.code() == Code::Ok || may_hold || is_charged || trace.is_some();
            if !is_final {
                let selected = provider_choice::select_next(&mut rankings, &plan, &verdict);
                may_hold = !selected && plan.limits.iter().any(|limit| limit.wait.is_some());
                if selected || may_hold {
                    continue;
                }
            }
            verdict.choices = rankings.iter().map(Ranking::choice).collect();
            if let Some(trace) = trace {
                // The verdict has taken them.
                plan.descriptors = verdict.descriptors.clone();
                (trace.plan, trace.rankings) = (plan, rankings);
            }
            return verdict;
        }
    }

    /// Asks the store to decide a plan.
    async fn ask(
        &self,
        plan: &Plan<'_>,
        caller: &CallerContext<'_>,
        attempt: Attempt<'_>,
    ) -> Decided {
        let Attempt { now, budget, may_hold } = attempt;
        if plan.denial.is_some() {
            return Decided::default();
        }
        let waits = || plan.limits.iter().any(|limit| limit.wait.is_some());
        if may_hold && !self.settings.modes.shadow && waits() {
            // Boxed, because it is large and rare.
            return Box::pin(Hold { decider: self, plan, caller, budget }.decide()).await;
        }
        let outcome = self.charge(&plan.batch, budget, self.time(now, budget)).await;
        Decided { outcome: Some(outcome), ..Decided::default() }
    }
}

/// The outcome of a plan if nothing had been spent.
fn untouched(plan: &Plan<'_>) -> Decided {
    let store = Memory::new(plan.batch.keys.len().max(1));
    let outcome = plan.denial.is_none().then(|| store.charge_at(&plan.batch, plan.at));
    Decided { outcome, ..Decided::default() }
}
