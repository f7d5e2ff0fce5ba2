//! A record of one verdict, for consumers off the data path: small, and without borrowed data.
//!
//! The names of a policy are shared: a record holds one reference and numbers. So it may outlive the policy of its
//! decision.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::limit::{Fit, Hits};
use crate::policy::{Domain, Mode, NAME_LEN_MAX, OVERRIDE_LABEL};

use super::plan::VERDICT_INLINE_CAP;
use super::reason::Reason;
use super::verdict::{ChargeDecision, Code, Verdict};

/// The names that records of a domain share.
#[derive(Debug)]
pub struct DomainNames {
    pub domain: Box<str>,
    /// By the index of the tier.
    pub tiers: Box<[Box<str>]>,
    /// By the index of the limit; the last is for limits that requests bring along.
    pub limits: Box<[Arc<str>]>,
}

/// The decision on one request.
#[derive(Clone, Debug)]
pub struct DecisionRecord {
    /// None if the domain is unknown.
    names: Option<Arc<DomainNames>>,
    pub at: Timestamp,
    pub code: Code,
    /// For requests over a limit.
    pub reason: Option<Reason>,
    /// The caller's name in the request, truncated to the maximum length in the directory.
    pub caller: Option<Box<str>>,
    tier: usize,
    /// From 1 to 4; 0 without a policy.
    pub priority: u8,
    /// The highest pressure level of the request's rules.
    pub level: u8,
    /// True if the store was unavailable and `on_outage` decided.
    pub fallback: bool,
    /// Time that the request was held for capacity.
    pub waited: Duration,
    /// The names of the chosen providers.
    pub chosen: Vec<Box<str>>,
    pub charges: SmallVec<[ChargeRecord; VERDICT_INLINE_CAP]>,
    crossings: Vec<CrossingRecord>,
}

/// A threshold of a limit that the request has crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CrossingRecord {
    limit: usize,
    percent: u16,
}

/// The decision on one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChargeRecord {
    limit: usize,
    /// The requested hits; none if an earlier attempt was charged. They are spent if the request passes, or if they
    /// count although it is refused.
    pub hits: Hits,
    pub fit: Fit,
    /// Remaining hits.
    pub remaining: u64,
    pub mode: Mode,
    /// The hits count although the request was refused.
    pub counted: bool,
    /// The reason of this limit's refusal, if it refuses.
    pub refusal: Option<Reason>,
}

impl DomainNames {
    /// The names of a domain.
    pub fn new(domain: &Domain) -> Self {
        let mut limits = vec![Arc::from(OVERRIDE_LABEL); domain.limit_count() + 1];
        domain.limits().iter().for_each(|limit| limits[limit.index] = limit.label.clone());
        Self {
            domain: domain.name.as_str().into(),
            tiers: domain.classes.tiers.iter().map(|tier| (**tier).into()).collect(),
            limits: limits.into(),
        }
    }
}

impl DecisionRecord {
    /// The record of a verdict; the names are those of its policy.
    pub fn new(verdict: &Verdict<'_>, names: Option<&Arc<DomainNames>>) -> Self {
        let caller = verdict.caller.as_ref();
        let level = verdict.level();
        let code = verdict.code();
        Self {
            names: names.cloned(),
            at: verdict.at,
            code,
            reason: (code == Code::OverLimit).then(|| verdict.reason()),
            caller: caller.and_then(|caller| caller.name).map(|name| cut(name).into()),
            tier: caller.map_or(0, |caller| caller.tier),
            priority: caller.map_or(0, |caller| caller.priority(level)),
            level,
            fallback: verdict.fallback,
            waited: verdict.waited,
            chosen: verdict.choices.iter().map(|choice| choice.chosen.into()).collect(),
            charges: verdict
                .charges()
                .iter()
                .map(|charge| ChargeRecord::new(verdict, charge))
                .collect(),
            crossings: crossings(verdict),
        }
    }

    /// The crossed thresholds, each with its limit's label and its percentage. Each is reported once for each caller,
    /// limit and window.
    pub fn crossings(&self) -> impl Iterator<Item = (&str, u16)> {
        self.names.iter().flat_map(|names| {
            self.crossings.iter().filter_map(|crossing| {
                Some((&**names.limits.get(crossing.limit)?, crossing.percent))
            })
        })
    }

    /// The domain; None if it is unknown.
    pub fn domain(&self) -> Option<&str> {
        self.names.as_ref().map(|names| &*names.domain)
    }

    /// The caller's tier; None if the policy has no tiers.
    pub fn tier(&self) -> Option<&str> {
        self.names.as_ref()?.tiers.get(self.tier).map(|tier| &**tier)
    }

    /// The limits of the request, each by its label, with their decisions.
    pub fn limits(&self) -> impl Iterator<Item = (&str, &ChargeRecord)> {
        self.names.iter().flat_map(|names| {
            self.charges
                .iter()
                .filter_map(|charge| Some((&**names.limits.get(charge.limit)?, charge)))
        })
    }
}

impl ChargeRecord {
    fn new(verdict: &Verdict<'_>, charge: &ChargeDecision<'_>) -> Self {
        Self {
            limit: charge.limit.index,
            hits: if charge.is_retry() { Hits::Spend(0) } else { charge.hits },
            fit: charge.decision.fit,
            remaining: charge.remaining(),
            mode: charge.mode,
            counted: charge.decision.counted,
            refusal: verdict.refuses(charge).then_some(charge.reason),
        }
    }
}

fn crossings(verdict: &Verdict<'_>) -> Vec<CrossingRecord> {
    let crossed = verdict.crossed().flat_map(|(charge, percents)| {
        let limit = charge.limit.index;
        percents.into_iter().map(move |percent| CrossingRecord { limit, percent })
    });
    crossed.collect()
}

/// A name truncated to the maximum length in the directory, so that records stay small.
fn cut(name: &str) -> &str {
    let mut len = name.len().min(NAME_LEN_MAX);
    while !name.is_char_boundary(len) {
        len -= 1;
    }
    &name[..len]
}
