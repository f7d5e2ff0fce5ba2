//! A record of one verdict, for consumers off the data path: small, and without borrowed data.
//!
//! The names of a policy are shared: a record holds one reference and numbers. So it may outlive the policy of its
//! decision.

use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::limit::{Fit, Hits};
use crate::policy::{AbuseEntries, AbuseEntrySet, Domain, Mode, Prices};

use super::observed::Observed;
use super::plan::VERDICT_INLINE_CAP;
use super::priced::{PricedUnits, Spend};
use super::reason::Reason;
use super::record_name::stored_name;
use super::refusal_id::RefusalId;
use super::request::Request;
use super::verdict::{ChargeDecision, Code, Verdict};

/// The names that records of a domain share.
#[derive(Debug)]
pub struct DomainNames {
    pub domain: Box<str>,
    /// By the index of the tier.
    pub tiers: Box<[Box<str>]>,
    /// By the index of the limit.
    pub limits: Box<[Arc<str>]>,
    /// None if the policy has none.
    pub prices: Option<Arc<Prices>>,
    /// What alerts about abuse read.
    pub abuse: AbuseEntries,
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
    pub caller: Option<CompactString>,
    tier: u32,
    /// From 1 to 4; 0 without a policy.
    pub priority: u8,
    /// The highest pressure level of the request's rules.
    pub level: u8,
    /// True if the store was unavailable and `on_outage` decided.
    pub fallback: bool,
    /// False if it extends, settles or cancels a reservation: its request was counted when that was made. And if it passes a check
    /// of its API key alone: it is counted by what comes after that.
    pub is_request: bool,
    price: Option<PricedUnits>,
    pub charges: SmallVec<[ChargeRecord; VERDICT_INLINE_CAP]>,
    /// None for most requests.
    rare: Option<Box<Rare>>,
    /// What alerts about abuse read of the request, as far as a rule needs it and the request has it.
    pub observed: Observed,
}

/// What is recorded of a verdict beside its decisions.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordExtras {
    /// The details of a refusal in the sample.
    pub is_sampled: bool,
    /// The entries that alerts about abuse read.
    pub observed: AbuseEntrySet,
}

/// The parts of a record that few requests have.
#[derive(Clone, Debug)]
struct Rare {
    /// Time that the request was held for capacity.
    waited: Duration,
    /// The names of the chosen providers.
    chosen: Box<[Box<str>]>,
    crossings: Box<[CrossingRecord]>,
    refusal: Option<RefusalRecord>,
}

/// What is recorded of a refusal in addition to the record of its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalRecord {
    /// If the policy's `answer` has ids.
    pub id: Option<RefusalId>,
    /// It is in the sample for the audit log.
    pub is_sampled: bool,
    /// Time until the same request would pass.
    pub wait: Option<Duration>,
    /// By charge of the record.
    pub limits: Box<[RefusedLimit]>,
}

/// The state of a limit when a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedLimit {
    /// The amount in a window, for this caller.
    pub amount: u64,
    /// The base of the remaining hits: the capacity plus valid bonuses.
    pub quota: u64,
    /// Remaining hits.
    pub remaining: u64,
    /// Time until the limit has the hits; None if it has them, and if it never will.
    pub wait: Option<Duration>,
    /// Time until nothing of the limit is in use.
    pub reset: Option<Duration>,
}

/// A threshold of a limit that the request has crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CrossingRecord {
    limit: u32,
    percent: u16,
}

/// The decision on one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChargeRecord {
    limit: u32,
    /// The requested hits; none if an earlier attempt was charged, or if a reservation holds them. If a reservation is
    /// settled, the hits that were spent. They are spent if the request passes, or if they count although it is refused.
    pub hits: Hits,
    /// Hits on top of them that the limit did not have, of a request that passes with fewer than it asked for, or of a settlement.
    pub missed: u64,
    /// Whether the limit had the hits.
    pub fits: bool,
    pub mode: Mode,
    /// The hits count although the request was refused.
    pub counted: bool,
    /// The reason of this limit's refusal, if it refuses.
    pub refusal: Option<Reason>,
}

impl DomainNames {
    /// The names of a domain.
    pub fn new(domain: &Domain) -> Self {
        Self {
            domain: domain.name.as_str().into(),
            tiers: domain.classes.tiers.iter().map(|tier| (**tier).into()).collect(),
            limits: domain.labels().into(),
            prices: domain.prices.clone(),
            abuse: domain.abuse.clone(),
        }
    }

    /// The name of a tier, by its number.
    pub fn tier(&self, tier: u32) -> Option<&str> {
        self.tiers.get(usize::try_from(tier).ok()?).map(|tier| &**tier)
    }

    fn label(&self, limit: u32) -> Option<&str> {
        self.limits.get(usize::try_from(limit).ok()?).map(|label| &**label)
    }
}

impl DecisionRecord {
    /// The record of a verdict; the names are those of its policy. A refusal in the sample has its details.
    pub fn new(
        verdict: &Verdict<'_>,
        request: &Request<'_>,
        names: Option<&Arc<DomainNames>>,
        RecordExtras { is_sampled, observed }: RecordExtras,
    ) -> Self {
        let prices = names.and_then(|names| names.prices.as_deref());
        let caller = verdict.caller.as_ref();
        let level = verdict.level();
        let code = verdict.code();
        let is_counted_later = code == Code::Ok && request.is_counted_later();
        Self {
            names: names.cloned(),
            at: verdict.at,
            code,
            reason: (code == Code::OverLimit).then(|| verdict.reason()),
            caller: caller.and_then(|caller| caller.name).map(|name| stored_name(name).into()),
            tier: caller.map_or(0, |caller| number(caller.tier)),
            priority: caller.map_or(0, |caller| caller.priority(level)),
            level,
            fallback: verdict.fallback,
            is_request: !is_counted_later
                && !verdict.charges().iter().any(|charge| charge.reserving.follows()),
            price: prices
                .filter(|_| !is_counted_later)
                .and_then(|prices| PricedUnits::of(prices, verdict, request)),
            charges: verdict
                .charges()
                .iter()
                .enumerate()
                .map(|(index, charge)| ChargeRecord::new(verdict, index, charge))
                .collect(),
            rare: Rare::of(verdict, is_sampled),
            observed: names.map_or_else(Observed::default, |names| {
                Observed::of(&names.abuse, request, observed)
            }),
        }
    }

    /// The time that the request was held for capacity.
    pub fn waited(&self) -> Duration {
        self.rare.as_ref().map_or(Duration::ZERO, |rare| rare.waited)
    }

    /// The details of a refusal that is audited or has an id.
    pub fn refusal(&self) -> Option<&RefusalRecord> {
        self.rare.as_ref()?.refusal.as_ref()
    }

    /// What it costs, if a price applies to it: nothing of it unless it passed, or settled a reservation all the same.
    pub fn spend(&self) -> Option<Spend<'_>> {
        let (priced, prices) = (self.price?, self.names.as_ref()?.prices.as_deref()?);
        let line = prices.lines.get(usize::from(priced.line))?;
        let is_settled = !self.is_request && self.charges.iter().any(|charge| charge.counted);
        let passed = self.code == Code::Ok || is_settled;
        let cost = if passed { line.cost(u64::from(priced.units)) } else { 0 };
        let (spent, given_back) = if priced.gives_back { (0, cost) } else { (cost, 0) };
        Some(Spend {
            provider: line.provider.as_deref(),
            kind: &line.kind,
            currency: &prices.currency,
            spent,
            given_back,
        })
    }

    /// The names of the chosen providers.
    pub fn chosen(&self) -> impl Iterator<Item = &str> {
        self.rare.iter().flat_map(|rare| &rare.chosen).map(|name| &**name)
    }

    /// Whether a threshold was crossed.
    pub fn has_crossings(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.crossings.is_empty())
    }

    /// The crossed thresholds, each with its limit's label and its percentage. Each is reported once for each caller,
    /// limit and window.
    pub fn crossings(&self) -> impl Iterator<Item = (&str, u16)> {
        self.names.iter().flat_map(|names| {
            let crossings = self.rare.iter().flat_map(|rare| &rare.crossings);
            crossings.filter_map(|crossing| Some((names.label(crossing.limit)?, crossing.percent)))
        })
    }

    /// The domain; None if it is unknown.
    pub fn domain(&self) -> Option<&str> {
        self.names.as_ref().map(|names| &*names.domain)
    }

    /// The names of its domain, and the number of the caller's tier; None if the domain is unknown.
    pub fn class(&self) -> Option<(&Arc<DomainNames>, u32)> {
        self.names.as_ref().map(|names| (names, self.tier))
    }

    /// The caller's tier; None if the policy has no tiers.
    pub fn tier(&self) -> Option<&str> {
        self.names.as_ref()?.tier(self.tier)
    }

    /// The limits of the request, each by its label, with their decisions.
    pub fn limits(&self) -> impl Iterator<Item = (&str, &ChargeRecord)> {
        self.names.iter().flat_map(|names| {
            self.charges.iter().filter_map(|charge| Some((names.label(charge.limit)?, charge)))
        })
    }
}

impl RefusalRecord {
    /// The record of a refused verdict.
    pub fn new(verdict: &Verdict<'_>, is_sampled: bool) -> Self {
        let limit = |charge: &ChargeDecision<'_>| RefusedLimit {
            amount: charge.amount,
            quota: charge.quota,
            remaining: charge.remaining(),
            wait: charge.wait(),
            reset: charge.reset(),
        };
        Self {
            id: verdict.refusal_id,
            is_sampled,
            wait: verdict.wait(),
            limits: verdict.charges().iter().map(limit).collect(),
        }
    }
}

impl ChargeRecord {
    fn new(verdict: &Verdict<'_>, index: usize, charge: &ChargeDecision<'_>) -> Self {
        Self {
            limit: number(charge.limit.index),
            hits: verdict.hits_of(index),
            missed: verdict.missed_of(index),
            fits: charge.decision.fit == Fit::Now,
            mode: charge.mode,
            counted: charge.decision.counted,
            refusal: verdict.refuses(charge).then_some(charge.reason),
        }
    }
}

impl Rare {
    fn of(verdict: &Verdict<'_>, is_sampled: bool) -> Option<Box<Self>> {
        let refusal = (is_sampled || verdict.refusal_id.is_some())
            .then(|| RefusalRecord::new(verdict, is_sampled));
        let crossed = verdict.crossed().flat_map(|(charge, percents)| {
            let limit = number(charge.limit.index);
            percents.into_iter().map(move |percent| CrossingRecord { limit, percent })
        });
        let crossings: Box<[CrossingRecord]> = crossed.collect();
        let is_plain = verdict.waited.is_zero() && verdict.choices.is_empty();
        if is_plain && crossings.is_empty() && refusal.is_none() {
            return None;
        }
        let chosen = verdict.choices.iter().map(|choice| choice.chosen.into()).collect();
        Some(Box::new(Self { waited: verdict.waited, chosen, crossings, refusal }))
    }
}

/// An index as a record keeps it.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
