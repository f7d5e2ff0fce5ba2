//! A preview: what a request would be answered now, from how its limits stand. Nothing is charged, and nothing is counted.

use crate::clock::Now;

use super::caller::CallerContext;
use super::deadline::DeadlineBudget;
use super::decider::Decider;
use super::dry_run::DryRun;
use super::plan::{Plan, Question};
use super::request::Request;
use super::snapshot::Snapshot;
use super::verdict::{Decided, Verdict};

impl Decider {
    /// The verdict that a request would get. A wait in it is an upper bound: until the limit is whole. A request that
    /// leaves a choice to us is taken as it is.
    pub async fn preview<'v>(
        &self,
        snapshot: &'v Snapshot,
        request: &Request<'v>,
        now: Now,
    ) -> Verdict<'v> {
        let Some(domain) = snapshot.policies.domain(request.domain()) else {
            return Verdict::without_policy(request, now.timestamp());
        };
        let (modes, budget) = (self.settings.modes, &DeadlineBudget::default());
        let lineage = self.lineage(domain, request, budget).await;
        let caller = CallerContext::new(&domain.classes, request, lineage);
        let at = now.timestamp();
        let question = Question { domain, request, caller: &caller, modes, now: at };
        let plan = Plan::new(question, None);
        let mut decided = Decided::default();
        if plan.denial.is_none() {
            let mut dry_run = DryRun::default();
            let descriptors: Vec<usize> = (0..plan.descriptors.len()).collect();
            dry_run.add(&plan, &descriptors);
            let outcome = self.charge(&dry_run.batch, budget, self.time(now, budget)).await;
            decided.outcome = Some(dry_run.foreseen(outcome));
        }
        Verdict::new(domain, caller, &plan, decided)
    }
}
