//! From the store's outcome to the answer: who is over, which limit is told of, and what goes with it.

use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use smallvec::SmallVec;

use crate::limit::Fit;
use crate::policy::AnswerMetadata;
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
    domain: &'p Domain,
    asker: &'p Asker<'p>,
    parts: &'p [Part<'p>],
    charges: SmallVec<[Charged<'p>; FEW]>,
    decided: &'p Decided,
    /// The highest level of pressure that the request met.
    level: u8,
    denial: Option<Denial>,
    code: Code,
    fallback: bool,
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
    /// The mode by which the request is judged.
    mode: Mode,
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

    /// Whether the limit did not have the hits, or denies them while the store is out.
    pub fn over(&self) -> bool {
        self.decision.fit != Fit::Now
    }

    /// Whether it is unknown if the limit had the hits.
    pub fn failed(&self) -> bool {
        self.decision.failed
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
        let tightest = tightest(told.iter().copied());
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
            statuses: self.parts.iter().map(|part| self.status(part)).collect(),
            response_headers,
            request_headers: answer.request_headers.clone(),
            body,
            metadata: self.metadata(),
            fallback: self.fallback,
        }
    }

    /// How long until the same request would pass: the longest wait of the limits that refuse. None if it
    /// never would, or nobody knows.
    pub fn wait(&self) -> Option<Duration> {
        let mut waits = self.refusing().map(Charged::wait);
        let first = waits.next()??;
        waits.try_fold(first, |longest, wait| Some(longest.max(wait?)))
    }

    /// Why the request is refused; of several reasons the one that waiting helps least.
    pub fn reason(&self) -> Reason {
        match self.denial {
            Some(Denial::Disabled) => Reason::Disabled,
            Some(Denial::NoAccess) => Reason::NoAccess,
            None => self.refusing().map(|charged| charged.reason).max().unwrap_or_default(),
        }
    }

    /// The limits that don't have the hits.
    pub fn refusing(&self) -> impl Iterator<Item = &Charged<'p>> {
        self.charges.iter().filter(|charged| charged.over() && !charged.is_shadow())
    }

    fn of<'a>(&'a self, part: &'a Part<'_>) -> impl Iterator<Item = &'a Charged<'p>> + Clone {
        part.charges.iter().map(|index| &self.charges[*index])
    }

    fn status(&self, part: &Part<'_>) -> Status {
        if self.denial.is_some() {
            let code = if part.denied && self.code == Code::OverLimit {
                Code::OverLimit
            } else {
                Code::Ok
            };
            return Status { code, limit: None, remaining: 0, reset: None };
        }
        let unlimited = part.unlimited || part.rule.is_some_and(|rule| rule.unlimited);
        let told = tightest(self.of(part).filter(|charged| !charged.is_shadow()))
            .or_else(|| tightest(self.of(part)));
        let Some(told) = told else {
            let unlimited = unlimited && part.charges.is_empty();
            let remaining = if unlimited { u32::MAX } else { 0 };
            return Status { code: Code::Ok, limit: None, remaining, reset: None };
        };
        let over = told.over() && !told.is_shadow();
        Status {
            code: if over { Code::OverLimit } else { Code::Ok },
            limit: Some(StatusLimit {
                name: told.limit.name.clone(),
                amount: saturate(told.amount()),
                unit: told.limit.window.unit(),
            }),
            remaining: saturate(told.remaining()),
            reset: if over { told.told_time() } else { told.reset() },
        }
    }

    /// As what the caller was told apart, if the policy does.
    fn caller(&self) -> Option<Value> {
        let tier = self.asker.tier_name()?;
        let priority = self.asker.priority(self.level);
        Some(json!({ "tier": tier, "priority": priority, "roles": self.asker.roles() }))
    }

    /// Whether the answer carries metadata on its limits.
    pub fn tells_metadata(&self) -> bool {
        match self.domain.answer.metadata {
            AnswerMetadata::Always => true,
            AnswerMetadata::Refused => self.code == Code::OverLimit,
            AnswerMetadata::Never => false,
        }
    }

    /// The limits in numbers, and what the rules of passing descriptors carry.
    fn metadata(&self) -> Option<Map<String, Value>> {
        let mut map = Map::new();
        if self.tells_metadata() {
            map.insert("domain".to_owned(), self.domain.name.as_str().into());
            map.insert("limits".to_owned(), self.charges.iter().map(describe).collect());
            if self.fallback {
                map.insert("fallback".to_owned(), true.into());
            }
            if self.code == Code::OverLimit {
                map.insert("reason".to_owned(), self.reason().to_string().into());
            }
            if let Some(caller) = self.caller() {
                map.insert("caller".to_owned(), caller);
            }
            if 0 < self.level {
                map.insert("pressure".to_owned(), self.level.into());
            }
        }
        let ms = |time: Duration| Value::from(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        if !self.decided.waited.is_zero() {
            map.insert("waited_ms".to_owned(), ms(self.decided.waited));
        }
        if let Some(queued) = self.decided.queued.filter(|_| self.code == Code::OverLimit) {
            let expected = queued.expected.map(ms);
            let told = json!({ "place": queued.place, "expected_wait_ms": expected });
            map.insert("queue".to_owned(), told);
        }
        let mut carried = Map::new();
        for part in self.parts.iter().filter(|_| self.denial.is_none()) {
            let passes = !self.of(part).any(|charged| charged.over() && !charged.is_shadow());
            // As in the reference, what is unlimited carries none.
            let rule = part.rule.filter(|rule| !rule.unlimited);
            let metadata = rule.and_then(|rule| rule.metadata.as_ref());
            if let Some(metadata) = metadata.filter(|_| passes) {
                merge(&mut carried, metadata);
            }
        }
        if !carried.is_empty() {
            map.insert("metadata".to_owned(), carried.into());
        }
        (!map.is_empty()).then_some(map)
    }
}

/// Each charge of a plan with its decision.
fn charges<'p>(
    plan: &'p Plan<'_>,
    outcome: &Outcome,
    modes: ModeSettings,
) -> SmallVec<[Charged<'p>; FEW]> {
    let charges = plan.limits.iter().zip(&plan.batch.charges).zip(&outcome.decisions);
    charges
        .map(|((limit, charge), decision)| Charged {
            limit,
            charge,
            decision: *decision,
            mode: modes.judged(limit.mode),
            reason: Reason::of(charge, outcome),
        })
        .collect()
}

/// The limit that refuses longest, or else the one with the least left; of equals, the one that resets
/// last.
fn tightest<'a, 'p: 'a>(charges: impl Iterator<Item = &'a Charged<'p>>) -> Option<&'a Charged<'p>> {
    charges.min_by_key(|charged| {
        let over = charged.over();
        let never = charged.wait().is_none();
        let wait = charged.wait().unwrap_or_default();
        let by_wait = if over { (never, wait) } else { (false, Duration::ZERO) };
        let left = if over { 0 } else { charged.remaining() };
        (!over, std::cmp::Reverse(by_wait), left, std::cmp::Reverse(charged.reset()))
    })
}

fn describe(charged: &Charged<'_>) -> Value {
    let mut map = Map::new();
    map.insert("name".to_owned(), (&*charged.limit.label).into());
    map.insert("mode".to_owned(), charged.mode.to_string().into());
    map.insert("over".to_owned(), charged.over().into());
    map.insert("amount".to_owned(), charged.amount().into());
    map.insert("remaining".to_owned(), charged.remaining().into());
    let ms = |time: Duration| Value::from(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    if let Some(wait) = charged.wait() {
        map.insert("wait_ms".to_owned(), ms(wait));
    }
    if let Some(reset) = charged.reset() {
        map.insert("reset_ms".to_owned(), ms(reset));
    }
    map.into()
}

/// Adds what is new; maps within maps are merged, else what came first stays, as in the reference.
fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (name, value) in from {
        match (into.get_mut(name), value) {
            (Some(Value::Object(known)), Value::Object(more)) => merge(known, more),
            (Some(_), _) => {}
            (None, value) => {
                into.insert(name.clone(), value.clone());
            }
        }
    }
}

fn saturate(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
