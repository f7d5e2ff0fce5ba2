//! A preview: the current answer to a request, from the state of its limits, without a charge and without counting it.
//! Giving hits back uses the same state, so that at most the hits in use come back.

use std::iter;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::clock::{Now, Timestamp};
use crate::limit::{Hits, Limit, Overdraft};
use crate::policy::{Domain, Mode, Refused};
use crate::store::{Batch, Charge, Decision, INLINE_CAP, Outcome};

use super::caller::{Account, CallerContext, Overridden};
use super::credits::BonusStanding;
use super::deadline::DeadlineBudget;
use super::decider::Decider;
use super::dry_run::DryRun;
use super::plan::{Notes, Plan, Question};
use super::request::Request;
use super::snapshot::Snapshot;
use super::verdict::{ChargeDecision, Code, Decided, Verdict, quota};

/// A verdict, and the state of each of its limits.
#[derive(Debug)]
pub struct Preview<'v> {
    pub verdict: Box<Verdict<'v>>,
    /// By charge.
    used: SmallVec<[u64; INLINE_CAP]>,
    /// By charge, those that are valid.
    bonuses: SmallVec<[Vec<BonusStanding>; INLINE_CAP]>,
    /// By charge; None if it is not a limit of the caller's own, or the caller is unknown to the directory.
    accounts: SmallVec<[Option<Account>; INLINE_CAP]>,
    /// By charge.
    limits: SmallVec<[Arc<Limit>; INLINE_CAP]>,
}

/// The state of a limit.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'p, 'v> {
    pub charge: &'p ChargeDecision<'v>,
    /// Hits in use; above the quota if the limit is overdrawn.
    pub used: u64,
    /// What its grace allows beyond what remains; None if that is nothing and at most the limit is in use.
    pub grace: Option<GraceStanding>,
    /// Those of them that reservations hold.
    pub held: u64,
    /// The bonuses that are valid, in the order in which they are spent; none while the store is unavailable.
    pub bonuses: &'p [BonusStanding],
    /// The caller or pool that owns the counter, if the directory knows it.
    pub account: Option<&'p str>,
    /// The override in the directory that replaces the policy's amount.
    pub overridden: Option<Overridden>,
    /// The limit, for this caller.
    pub limit: &'p Arc<Limit>,
}

impl Standing<'_, '_> {
    /// Hits that may be spent: the amount, and valid bonuses with what was carried over.
    pub fn quota(&self) -> u64 {
        let carried: u64 = self.bonuses.iter().map(|standing| standing.stand.carried).sum();
        self.charge.quota.saturating_add(carried)
    }
}

/// The state of a grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceStanding {
    /// Hits.
    pub left: u64,
    /// Its end, while more than the limit is in use.
    pub until: Option<Timestamp>,
}

/// How many hits to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveBack {
    /// The hits of the request.
    Asked,
    /// All hits in use.
    All,
}

/// The plan of a request, and the state of its limits.
pub struct Inspection<'v> {
    domain: &'v Domain,
    pub caller: CallerContext<'v>,
    pub plan: Plan<'v>,
    pub accounts: SmallVec<[Option<Account>; INLINE_CAP]>,
    /// None if the request was denied.
    pub outcome: Option<Outcome>,
    pub used: SmallVec<[u64; INLINE_CAP]>,
    bonuses: SmallVec<[Vec<BonusStanding>; INLINE_CAP]>,
}

impl<'v> Preview<'v> {
    /// The limits of the request, without duplicates.
    pub fn standings(&self) -> impl Iterator<Item = Standing<'_, 'v>> {
        let accounts = self.accounts.iter().map(|account| {
            let caller = self.verdict.caller.as_ref()?;
            account.map(|account| (caller, account))
        });
        let bonuses = self.bonuses.iter().map(Vec::as_slice).chain(iter::repeat(&[][..]));
        let charges = self.verdict.charges().iter().enumerate().zip(&self.limits);
        let charges = charges.zip(&self.used).zip(bonuses).zip(accounts);
        charges.map(|(((((index, charge), limit), used), bonuses), account)| {
            let notice = self.verdict.notice(index);
            let grace = notice
                .map(|notice| GraceStanding { left: notice.grace_left, until: notice.grace_until });
            let grace = grace.filter(|grace| grace.left != 0 || grace.until.is_some());
            let held = self.verdict.held_of(index);
            let overridden =
                account.and_then(|(caller, account)| caller.overridden(account, &charge.limit));
            let account = account.map(|(caller, account)| caller.account_name(account));
            Standing { charge, used: *used, held, grace, bonuses, account, overridden, limit }
        })
    }

    fn without_policy(request: &Request<'v>, now: Now) -> Self {
        let verdict = Verdict::without_policy(request, now.timestamp(), Code::Ok);
        let (used, bonuses, accounts, limits) = Default::default();
        Self { verdict, used, bonuses, accounts, limits }
    }
}

impl Decider {
    /// The verdict that a request would get. A wait in it is an upper bound: until the limit is unused. Choices are not
    /// made, and idempotency keys are ignored.
    pub async fn preview<'v>(
        &self,
        snapshot: &'v Snapshot,
        request: &Request<'v>,
        now: Now,
    ) -> Preview<'v> {
        let budget = DeadlineBudget::patient();
        match self.inspect(snapshot, request, (now, &budget)).await {
            None => Preview::without_policy(request, now),
            Some(inspection) => inspection.preview(),
        }
    }

    /// Gives hits back to the limits of a request, at most those in use. Idempotency keys are ignored.
    pub async fn give_back<'v>(
        &self,
        snapshot: &'v Snapshot,
        request: &Request<'v>,
        (how, now): (GiveBack, Now),
    ) -> Preview<'v> {
        let budget = DeadlineBudget::patient();
        let Some(mut inspection) = self.inspect(snapshot, request, (now, &budget)).await else {
            return Preview::without_policy(request, now);
        };
        // The hits in use are unknown while the store is unavailable.
        let is_known = inspection.outcome.as_ref().is_some_and(|outcome| !outcome.fallback);
        if is_known || (how == GiveBack::Asked && inspection.outcome.is_some()) {
            for (charge, used) in inspection.plan.batch.charges.iter_mut().zip(&mut inspection.used)
            {
                let hits = match how {
                    GiveBack::Asked if is_known => charge.hits.amount().min(*used),
                    GiveBack::Asked => charge.hits.amount(),
                    GiveBack::All => *used,
                };
                charge.hits = Hits::GiveBack(hits);
                charge.reservation = charge.counting();
                *used = used.saturating_sub(hits);
            }
            let time = self.time(now, &budget);
            inspection.outcome = Some(self.charge(&inspection.plan.batch, &budget, time).await);
        }
        inspection.preview()
    }

    /// Takes the hits of a request from its limits, whether or not they have them, unless the store is unavailable.
    pub async fn take_all<'v>(
        &self,
        snapshot: &'v Snapshot,
        request: &Request<'v>,
        now: Now,
    ) -> Preview<'v> {
        let budget = DeadlineBudget::patient();
        let Some(mut inspection) = self.inspect(snapshot, request, (now, &budget)).await else {
            return Preview::without_policy(request, now);
        };
        if inspection.outcome.as_ref().is_some_and(|outcome| !outcome.fallback) {
            for charge in &mut inspection.plan.batch.charges {
                let limit = Limit::clone(&charge.limit).overdrawn(Overdraft::Owed);
                (charge.limit, charge.refused) = (Arc::new(limit), Refused::Free);
            }
            let time = self.time(now, &budget);
            inspection.outcome = Some(self.charge(&inspection.plan.batch, &budget, time).await);
        }
        inspection.preview()
    }

    /// The plan of a request, and the state of its limits; None if the domain is unknown.
    pub async fn inspect<'v>(
        &self,
        snapshot: &'v Snapshot,
        request: &Request<'v>,
        (now, budget): (Now, &DeadlineBudget),
    ) -> Option<Inspection<'v>> {
        let domain = snapshot.policies.domain(request.domain())?;
        let modes = self.settings.modes;
        let lineage = self.lineage(domain, request, budget).await;
        let at = now.timestamp();
        let caller = snapshot.caller(domain, request, (lineage, at));
        let question = Question { domain, request, caller: &caller, modes, now: at };
        let mut notes = Notes::default();
        let mut plan = Plan::new(question, Some(&mut notes));
        plan.batch.charges.iter_mut().for_each(|charge| charge.once = None);
        let accounts = notes.origins.iter().map(|origin| origin.account).collect();
        let (mut outcome, mut used, mut bonuses) = (None, SmallVec::new(), SmallVec::new());
        if plan.denial.is_none() {
            let mut dry_run = DryRun::default();
            let descriptors: Vec<usize> = (0..plan.descriptors.len()).collect();
            dry_run.add(&plan, &descriptors);
            dry_run.report_bonuses();
            let state = self.charge(&dry_run.batch, budget, self.time(now, budget)).await;
            bonuses = dry_run.bonuses(&state);
            let state = dry_run.plan_outcome(state);
            used = self.used((&plan.batch, &bonuses), &state, (now, budget)).await;
            outcome = Some(state);
        }
        Some(Inspection { domain, caller, plan, accounts, outcome, used, bonuses })
    }

    /// The hits in use of each charge of a batch in that state. They follow from the remaining hits, unless none remain
    /// or the request may use only a part of the limit. Then they follow from the remaining hits of the same counter
    /// under a limit that is never exhausted.
    async fn used(
        &self,
        (batch, bonuses): (&Batch, &[Vec<BonusStanding>]),
        state: &Outcome,
        (now, budget): (Now, &DeadlineBudget),
    ) -> SmallVec<[u64; INLINE_CAP]> {
        let carried = |index: usize| -> u64 {
            let bonuses = bonuses.get(index).into_iter().flatten();
            bonuses.map(|standing| standing.stand.carried).sum()
        };
        let used = |index: usize, charge: &Charge, decision: &Decision| {
            let quota = quota(charge, state.at).saturating_add(carried(index));
            quota.saturating_sub(decision.standing.remaining)
        };
        let charges = || batch.charges.iter().zip(&state.decisions);
        let mut all: SmallVec<[u64; INLINE_CAP]> = charges()
            .enumerate()
            .map(|(index, (charge, decision))| used(index, charge, decision))
            .collect();
        let (mut measuring, mut places) = (Batch::default(), Vec::new());
        for (index, (charge, decision)) in charges().enumerate() {
            let whole = charge.limit.reference_capacity();
            let is_open = charge.open.pressed.is_empty() && whole <= charge.open.hits;
            if state.fallback || (is_open && decision.standing.remaining != 0) {
                continue;
            }
            let Some(limit) = charge.limit.measuring(state.at) else { continue };
            let key_index = measuring.key_index(batch.keys[charge.key_index].clone());
            measuring.charges.push(Charge {
                group: measuring.charges.len(),
                mode: Mode::Shadow,
                bonuses: charge.bonuses.clone(),
                reservation: charge.counting(),
                ..Charge::plain(key_index, Arc::new(limit), Hits::Spend(0))
            });
            places.push(index);
        }
        let measured = self.charge(&measuring, budget, self.time(now, budget)).await;
        let charges = measuring.charges.iter().zip(&measured.decisions);
        for (place, (charge, decision)) in places.into_iter().zip(charges) {
            if !measured.fallback {
                all[place] = used(place, charge, decision);
            }
        }
        all
    }
}

impl<'v> Inspection<'v> {
    /// The hits in use of a charge that no reservation only holds.
    pub(super) fn spent(&self, index: usize) -> u64 {
        let notices = self.outcome.iter().flat_map(|outcome| &outcome.notices);
        let held = notices.filter(|notice| notice.charge == index).map(|notice| notice.held);
        self.used[index].saturating_sub(held.sum())
    }

    fn preview(mut self) -> Preview<'v> {
        let decided = Decided { outcome: self.outcome, ..Decided::default() };
        let verdict = Verdict::new(self.domain, self.caller, &mut self.plan, decided);
        let limits = self.plan.batch.charges.iter().map(|charge| charge.limit.clone()).collect();
        let Self { used, bonuses, accounts, .. } = self;
        Preview { verdict, used, bonuses, accounts, limits }
    }
}
