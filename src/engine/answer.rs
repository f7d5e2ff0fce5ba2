//! From the store's outcome to the answer: who is over, which limit is told of, and what goes with it.

use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use smallvec::SmallVec;

use crate::limit::Fit;
use crate::limit::Hits;
use crate::policy::AnswerMetadata;
use crate::policy::Domain;
use crate::policy::Mode;
use crate::policy::OnOutage;
use crate::policy::RuleLimit;
use crate::store::Decision;
use crate::store::FEW;
use crate::store::Outcome;
use crate::store::Tally;

use super::Code;
use super::ModeSettings;
use super::Status;
use super::StatusLimit;
use super::Verdict;
use super::headers;
use super::plan::Part;
use super::plan::Plan;

/// A request's plan and what came of it.
#[derive(Debug)]
pub struct Judgement<'p> {
    domain: &'p Domain,
    parts: &'p [Part<'p>],
    charges: SmallVec<[Charged<'p>; FEW]>,
    code: Code,
    admitted: bool,
    fallback: bool,
}

/// A limit of the request, and how it decided.
#[derive(Clone, Copy, Debug)]
pub struct Charged<'p> {
    pub limit: &'p RuleLimit,
    /// None while the store is out.
    pub decision: Option<Decision>,
    /// The hits that are asked for; what is given back or only looked at always fits.
    hits: Hits,
    /// The mode by which the request is judged.
    mode: Mode,
}

impl Charged<'_> {
    /// Whether the limit did not have the hits, or would be answered so while the store is out.
    pub fn over(&self) -> bool {
        match self.decision {
            Some(decision) => decision.fit != Fit::Now,
            None => match self.hits {
                Hits::Spend(hits) => 0 < hits && self.limit.on_outage == OnOutage::Deny,
                Hits::GiveBack(_) => false,
            },
        }
    }

    /// Whether it is only told.
    pub fn is_shadow(&self) -> bool {
        self.mode == Mode::Shadow
    }

    /// How long until the same request would pass, if it doesn't and ever would.
    pub fn wait(&self) -> Option<Duration> {
        match self.decision?.fit {
            Fit::AfterMs(ms) => Some(Duration::from_millis(ms)),
            Fit::Now | Fit::Never => None,
        }
    }

    /// Hits that would still pass. While the store is out: all or none.
    pub fn remaining(&self) -> u64 {
        match self.decision {
            Some(decision) => decision.standing.remaining,
            None if self.over() => 0,
            None => self.limit.limit.capacity(),
        }
    }

    /// How long until the limit is whole again.
    pub fn reset(&self) -> Option<Duration> {
        self.decision?.standing.reset_ms.map(Duration::from_millis)
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
    /// Judges an outcome; None is a store that is out.
    pub fn new(
        domain: &'p Domain,
        plan: &'p Plan<'_>,
        modes: ModeSettings,
        outcome: Option<&Outcome>,
    ) -> Self {
        let fallback = outcome.is_none();
        let decisions = outcome.into_iter().flat_map(|outcome| &outcome.decisions);
        let mut decisions = decisions.copied().map(Some).chain(std::iter::repeat(None));
        let charges: SmallVec<[Charged<'p>; FEW]> = plan
            .limits
            .iter()
            .zip(&plan.batch.charges)
            .map(|(limit, charge)| Charged {
                limit,
                hits: charge.hits,
                decision: decisions.next().flatten(),
                mode: modes.judged(limit.mode),
            })
            .collect();
        let mut tally = Tally::default();
        let mut left = charges.as_slice();
        for group in plan.batch.groups() {
            let (group, rest) = left.split_at(group.len());
            left = rest;
            let mode = group.first().map_or(Mode::Shadow, |charged| charged.mode);
            tally.count(mode, !group.iter().any(Charged::over));
        }
        let passes = tally.admitted() || modes.shadow;
        let code = if passes { Code::Ok } else { Code::OverLimit };
        Self { domain, parts: &plan.descriptors, charges, code, admitted: passes, fallback }
    }

    /// Every limit of the request, each once.
    pub fn charges(&self) -> &[Charged<'p>] {
        &self.charges
    }

    /// Whether the request passes.
    pub fn admitted(&self) -> bool {
        self.admitted
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
        let waits = self.refusing().map(Charged::wait);
        waits.collect::<Option<Vec<Duration>>>()?.into_iter().max()
    }

    /// The limits that don't have the hits.
    pub fn refusing(&self) -> impl Iterator<Item = &Charged<'p>> {
        self.charges.iter().filter(|charged| charged.over() && !charged.is_shadow())
    }

    fn of<'a>(&'a self, part: &'a Part<'_>) -> impl Iterator<Item = &'a Charged<'p>> + Clone {
        part.charges.iter().map(|index| &self.charges[*index])
    }

    fn status(&self, part: &Part<'_>) -> Status {
        let unlimited = part.charges.is_empty() && part.rule.is_some_and(|rule| rule.unlimited);
        let told = tightest(self.of(part).filter(|charged| !charged.is_shadow()))
            .or_else(|| tightest(self.of(part)));
        let Some(told) = told else {
            let remaining = if unlimited { u32::MAX } else { 0 };
            return Status { code: Code::Ok, limit: None, remaining, reset: None };
        };
        let over = told.over() && !told.is_shadow();
        Status {
            code: if over { Code::OverLimit } else { Code::Ok },
            limit: Some(StatusLimit {
                name: told.limit.name.clone(),
                amount: saturate(told.limit.limit.amount()),
                unit: told.limit.window.unit(),
            }),
            remaining: saturate(told.remaining()),
            reset: if over { told.told_time() } else { told.reset() },
        }
    }

    /// The limits in numbers, and what the rules of passing descriptors carry.
    fn metadata(&self) -> Option<Map<String, Value>> {
        let mut map = Map::new();
        let wanted = match self.domain.answer.metadata {
            AnswerMetadata::Always => true,
            AnswerMetadata::Refused => self.code == Code::OverLimit,
            AnswerMetadata::Never => false,
        };
        if wanted {
            map.insert("domain".to_owned(), self.domain.name.as_str().into());
            map.insert("limits".to_owned(), self.charges.iter().map(describe).collect());
            if self.fallback {
                map.insert("fallback".to_owned(), true.into());
            }
        }
        let mut carried = Map::new();
        for part in self.parts {
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
    map.insert("amount".to_owned(), charged.limit.limit.amount().into());
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
