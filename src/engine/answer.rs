//! Makes the verdict from the store's outcome: which limits are over, which one is reported, and what goes with it.

use std::cmp::Reverse;
use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::limit::Fit;
use crate::limit::Hits;
use crate::policy::Domain;
use crate::policy::Mode;
use crate::policy::RuleLimit;
use crate::store::Charge;
use crate::store::Decision;
use crate::store::FEW;
use crate::store::GroupFit;
use crate::store::Outcome;
use crate::store::Tally;

use super::Code;
use super::ModeSettings;
use super::Status;
use super::StatusLimit;
use super::Verdict;
use super::asker::Asker;
use super::decide::Decided;
use super::headers;
use super::plan::Denial;
use super::plan::Part;
use super::plan::Plan;
use super::reason::Reason;

/// A request's plan and what came of it.
#[derive(Debug)]
pub struct Judgement<'p> {
    pub(super) domain: &'p Domain,
    pub(super) asker: &'p Asker<'p>,
    pub(super) parts: &'p [Part<'p>],
    pub(super) charges: SmallVec<[Charged<'p>; FEW]>,
    pub(super) decided: &'p Decided,
    /// The highest level of pressure that the request met.
    pub(super) level: u8,
    pub(super) denial: Option<Denial>,
    pub(super) code: Code,
    /// There are quotas, and all are over.
    no_quota_left: bool,
    pub(super) fallback: bool,
}

/// What happened to a request.
#[derive(Clone, Copy, Debug)]
pub struct Happened<'p, 'r> {
    pub plan: &'p Plan<'r>,
    pub asker: &'p Asker<'r>,
    pub decided: &'p Decided,
}

/// A limit of the request, and how it decided.
#[derive(Clone, Copy, Debug)]
pub struct Charged<'p> {
    pub limit: &'p RuleLimit,
    charge: &'p Charge,
    pub decision: Decision,
    /// A descriptor only asks how the limit stands.
    pub peeks: bool,
    /// When it was decided.
    at: Timestamp,
    /// The mode by which the request is judged.
    pub(super) mode: Mode,
    reason: Reason,
}

impl Charged<'_> {
    /// How much is allowed in a window, for who asks.
    pub fn amount(&self) -> u64 {
        self.charge.limit.amount()
    }

    /// The most that can be spent at once when nothing has been, for who asks.
    pub fn capacity(&self) -> u64 {
        self.charge.limit.capacity()
    }

    /// What remains counts against this: all that can be spent at once when nothing has been. That is a bucket's burst and not
    /// its rate, and includes the bonuses that hold.
    pub fn quota(&self) -> u64 {
        let live = self.charge.bonuses.iter().filter(|bonus| self.at < bonus.until);
        live.fold(self.capacity(), |sum, bonus| sum.saturating_add(bonus.amount))
    }

    /// Whether the limit did not have the hits, or denies them while the store is out.
    pub fn over(&self) -> bool {
        self.decision.fit != Fit::Now
    }

    /// Whether it is unknown if the limit had the hits.
    pub fn failed(&self) -> bool {
        self.decision.failed
    }

    /// What was asked of it.
    pub fn hits(&self) -> Hits {
        self.charge.hits
    }

    /// Whether it is only told.
    pub fn is_shadow(&self) -> bool {
        self.mode == Mode::Shadow
    }

    /// Why it would refuse.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// How long until the same request would pass, if it doesn't and ever would.
    pub fn wait(&self) -> Option<Duration> {
        match self.decision.fit {
            Fit::AfterMs(ms) => Some(Duration::from_millis(ms)),
            Fit::Now | Fit::Never => None,
        }
    }

    /// Hits that would still pass.
    pub fn remaining(&self) -> u64 {
        self.decision.standing.remaining
    }

    /// How long until the limit is whole again.
    pub fn reset(&self) -> Option<Duration> {
        self.decision.standing.reset_ms.map(Duration::from_millis)
    }

    /// The wait of a refusal, or else the reset: the one time that the protocol has room for. What never
    /// passes has the time in which the limit is whole, at most its window.
    pub fn told_time(&self) -> Option<Duration> {
        if !self.over() {
            return self.reset();
        }
        let window = || self.limit.window.nominal_ms().map(Duration::from_millis);
        self.wait().or_else(|| self.reset().filter(|reset| !reset.is_zero())).or_else(window)
    }
}

impl<'p> Judgement<'p> {
    /// Judges what happened.
    pub fn new(domain: &'p Domain, happened: Happened<'p, '_>, modes: ModeSettings) -> Self {
        let Happened { plan, asker, decided } = happened;
        let outcome = decided.outcome.as_ref();
        let fallback = outcome.is_some_and(|outcome| outcome.fallback);
        let levels = outcome.map_or(&[][..], |outcome| &outcome.levels);
        let charges = outcome.map(|outcome| charges(plan, outcome, modes)).unwrap_or_default();
        let mut tally = Tally::default();
        if plan.quota_left {
            tally.count(Mode::Quota, GroupFit::Fits);
        }
        let mut left = charges.as_slice();
        for group in plan.batch.groups().take_while(|_| plan.denial.is_none()) {
            let (group, rest) = left.split_at(group.len());
            left = rest;
            let mode = group.first().map_or(Mode::Shadow, |charged| charged.mode);
            tally.count(mode, GroupFit::of(group.iter().map(|charged| &charged.decision)));
        }
        let code = match plan.denial {
            _ if modes.shadow => Code::Ok,
            Some(_) => Code::OverLimit,
            None if tally.refused() => Code::OverLimit,
            None if tally.failed() => Code::Unavailable,
            None => Code::Ok,
        };
        Self {
            domain,
            asker,
            parts: &plan.descriptors,
            charges,
            decided,
            level: levels.iter().copied().max().unwrap_or_default(),
            denial: plan.denial,
            code,
            no_quota_left: tally.no_quota_left(),
            fallback,
        }
    }

    /// Every limit of the request, each once.
    pub fn charges(&self) -> &[Charged<'p>] {
        &self.charges
    }

    /// Whether the store was out, and the limits said what to answer then.
    pub fn is_fallback(&self) -> bool {
        self.fallback
    }

    /// Whether the request passes, is refused, or neither is known.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The answer.
    pub fn verdict(&self) -> Verdict {
        let answer = &self.domain.answer;
        let mut response_headers = answer.response_headers.clone();
        let told: SmallVec<[&Charged<'_>; FEW]> =
            self.charges.iter().filter(|one| !one.is_shadow()).collect();
        let tightest = self.tightest(told.iter().copied());
        let refused = self.code == Code::OverLimit;
        if let Some(tightest) = tightest {
            let limits = if answer.all_limits { told.as_slice() } else { &[tightest] };
            headers::push_limits(&mut response_headers, answer, tightest, limits);
            if refused && answer.retry_after {
                headers::push_retry_after(&mut response_headers, self.wait());
            }
        }
        let body = if refused && answer.problem_body {
            headers::push_problem(&mut response_headers);
            headers::problem_body(self)
        } else {
            Vec::new()
        };
        Verdict {
            code: self.code,
            statuses: self.statuses(),
            response_headers,
            request_headers: answer.request_headers.clone(),
            body,
            metadata: self.metadata(),
            fallback: self.fallback,
        }
    }

    /// How long until the same request would pass: when all limits that refuse have the hits, and of quotas the first.
    /// None if it never would, or nobody knows.
    pub fn wait(&self) -> Option<Duration> {
        self.refusing().next()?;
        let groups = self.charges.chunk_by(|one, next| one.charge.group == next.charge.group);
        let mut longest = Duration::ZERO;
        let mut first_quota = None;
        for group in groups {
            let mut refusing = group.iter().filter(|charged| self.refuses(charged)).peekable();
            let Some(mode) = refusing.peek().map(|charged| charged.mode) else { continue };
            let wait = refusing
                .try_fold(Duration::ZERO, |longest, charged| Some(longest.max(charged.wait()?)));
            match mode {
                Mode::Quota => first_quota = first_quota.into_iter().chain(wait).min(),
                Mode::Enforce | Mode::Shadow => longest = longest.max(wait?),
            }
        }
        match self.no_quota_left {
            true => first_quota.map(|first| first.max(longest)),
            false => Some(longest),
        }
    }

    /// Why the request is refused; of several reasons the one that waiting helps least.
    pub fn reason(&self) -> Reason {
        match self.denial {
            Some(Denial::Disabled) => Reason::Disabled,
            Some(Denial::NoAccess) => Reason::NoAccess,
            None => self.refusing().map(|charged| charged.reason).max().unwrap_or_default(),
        }
    }

    /// The limits for which the request is refused, or would be.
    pub fn refusing(&self) -> impl Iterator<Item = &Charged<'p>> {
        self.charges.iter().filter(|charged| self.refuses(charged))
    }

    /// Whether the request is refused, or would be, for this limit: a quota that is over doesn't refuse while another is
    /// left.
    fn refuses(&self, charged: &Charged<'_>) -> bool {
        charged.over()
            && match charged.mode {
                Mode::Enforce => true,
                Mode::Quota => self.no_quota_left,
                Mode::Shadow => false,
            }
    }

    pub(super) fn of<'a>(
        &'a self,
        part: &'a Part<'_>,
    ) -> impl Iterator<Item = &'a Charged<'p>> + Clone {
        part.charges.iter().map(|index| &self.charges[*index])
    }

    /// One status for each descriptor. Envoy's own headers show the limit of the first with the least remaining, so in
    /// front of the one that refuses no other has none left and a limit to show.
    fn statuses(&self) -> Vec<Status> {
        let mut refuses = self.code != Code::OverLimit;
        let status = |part| {
            let told = self.told(part);
            let mut status = self.status(part, told);
            refuses |= told.is_some_and(|told| self.refuses(told));
            status.limit = status.limit.filter(|_| refuses || status.remaining != 0);
            status
        };
        self.parts.iter().map(status).collect()
    }

    /// The limit that the status of a descriptor tells of. Where the caller may not pass, no limit was asked.
    fn told<'a>(&'a self, part: &'a Part<'_>) -> Option<&'a Charged<'p>> {
        if self.denial.is_some() {
            return None;
        }
        self.tightest(self.of(part).filter(|charged| !charged.is_shadow()))
            .or_else(|| self.tightest(self.of(part)))
    }

    fn status(&self, part: &Part<'_>, told: Option<&Charged<'_>>) -> Status {
        if self.denial.is_some() {
            let code = if part.denied && self.code == Code::OverLimit {
                Code::OverLimit
            } else {
                Code::Ok
            };
            return Status { code, limit: None, remaining: 0, reset: None };
        }
        let Some(told) = told else {
            let unlimited = part.unlimited || part.rule.is_some_and(|rule| rule.unlimited);
            let unlimited = unlimited && part.charges.is_empty();
            let remaining = if unlimited { u32::MAX } else { 0 };
            return Status { code: Code::Ok, limit: None, remaining, reset: None };
        };
        let over = told.over() && !told.is_shadow();
        Status {
            code: if over { Code::OverLimit } else { Code::Ok },
            limit: Some(StatusLimit {
                name: told.limit.name.clone(),
                amount: saturate(told.quota()),
                unit: told.limit.window.unit(),
            }),
            // As in the reference; what is left for a smaller request is told by our own headers.
            remaining: if over { 0 } else { saturate(told.remaining()) },
            reset: if over { told.told_time() } else { told.reset() },
        }
    }

    /// The limit that refuses longest, else one that is over, else the one with the least left; of equals, the one that
    /// resets last.
    fn tightest<'a>(
        &self,
        charges: impl Iterator<Item = &'a Charged<'p>>,
    ) -> Option<&'a Charged<'p>>
    where
        'p: 'a,
    {
        charges.min_by_key(|charged| {
            let (refuses, over) = (self.refuses(charged), charged.over());
            let never = charged.wait().is_none();
            let wait = charged.wait().unwrap_or_default();
            let by_wait = if over { (never, wait) } else { (false, Duration::ZERO) };
            let left = if over { 0 } else { charged.remaining() };
            (!refuses, !over, Reverse(by_wait), left, Reverse(charged.reset()))
        })
    }
}

/// Each charge of a plan with its decision.
fn charges<'p>(
    plan: &'p Plan<'_>,
    outcome: &Outcome,
    modes: ModeSettings,
) -> SmallVec<[Charged<'p>; FEW]> {
    let charges = plan.limits.iter().zip(&plan.batch.charges).zip(&outcome.decisions).enumerate();
    charges
        .map(|(index, ((limit, charge), decision))| Charged {
            limit,
            charge,
            decision: *decision,
            peeks: plan.peeks(index),
            at: outcome.at,
            mode: modes.judged(limit.mode),
            reason: Reason::of(charge, outcome),
        })
        .collect()
}

fn saturate(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
