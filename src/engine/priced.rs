//! The price of a request: which line of the policy's prices applies to it, and how many times.

use crate::limit::Hits;
use crate::policy::Prices;

use super::caller::entry;
use super::request::Request;
use super::reserving::Reserving;
use super::verdict::{ChargeDecision, Verdict};

/// The price of a request, as a record keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PricedUnits {
    /// The index of the line.
    pub line: u16,
    /// How many times its price applies.
    pub units: u32,
    /// The request gives hits back.
    pub gives_back: bool,
}

/// What a request costs, in micro-units of a currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spend<'a> {
    /// The provider whose price it is.
    pub provider: Option<&'a str>,
    /// The kind of request.
    pub kind: &'a str,
    pub currency: &'a str,
    pub spent: u64,
    pub given_back: u64,
}

impl PricedUnits {
    /// The price of a request with that verdict; None if no line matches.
    pub fn of(prices: &Prices, verdict: &Verdict<'_>, request: &Request<'_>) -> Option<Self> {
        let index = prices.line(|key| {
            let value = entry(request, key)?;
            let mut choices = verdict.choices.iter();
            let chosen = choices.find(|one| *one.choice.key == *key && *one.choice.value == *value);
            Some(chosen.map_or(value, |one| one.chosen))
        })?;
        let (hits, gives_back) = hits(verdict, request);
        let line = prices.lines.get(index)?;
        let units = if gives_back { line.units_back(hits) } else { line.units(hits) };
        Some(Self {
            line: u16::try_from(index).ok()?,
            units: u32::try_from(units).unwrap_or(u32::MAX),
            gives_back,
        })
    }
}

/// The most hits that a descriptor of a request spends, as far as it got them, or gives back if none spends: then as many as came
/// back to one of its limits. None of a retry. A reservation is priced when it is settled.
fn hits(verdict: &Verdict<'_>, request: &Request<'_>) -> (u64, bool) {
    let charges = verdict.charges();
    let is = |reserving: Reserving| charges.iter().any(|charge| charge.reserving == reserving);
    let is_held = is(Reserving::Holds) || is(Reserving::Extends);
    if is_held || charges.iter().any(ChargeDecision::is_retry) {
        return (0, false);
    }
    if is(Reserving::Settles) {
        let settled = charges.iter().enumerate().map(|(index, _)| verdict.hits_of(index).amount());
        return (settled.max().unwrap_or_default(), false);
    }
    let (mut spent, mut given_back) = (0, 0);
    for descriptor in request.descriptors() {
        match descriptor.hits {
            Hits::Spend(_) => spent = descriptor.hits.amount().max(spent),
            Hits::GiveBack(_) => given_back = descriptor.hits.amount().max(given_back),
        }
    }
    match spent {
        // Without such a limit nothing is known of what was spent.
        0 => {
            let comes_back =
                |charge: &ChargeDecision<'_>| matches!(charge.hits, Hits::GiveBack(1..));
            (part_of(verdict, given_back, comes_back), true)
        }
        _ => (part_of(verdict, spent, |charge| charge.is_partial), false),
    }
}

/// How many of the hits of a request the limits of a kind took, or gave back: the most. All if it has no such limit.
fn part_of(verdict: &Verdict<'_>, hits: u64, is: impl Fn(&ChargeDecision<'_>) -> bool) -> u64 {
    let parts = verdict.charges().iter().filter(|charge| is(charge)).map(|charge| {
        // A limit may count a request by a cost of its own.
        let (asked, taken) = (charge.hits.amount(), charge.taken().amount());
        let part = u128::from(hits) * u128::from(taken) / u128::from(asked.max(1));
        u64::try_from(part).unwrap_or(hits)
    });
    parts.max().unwrap_or(hits)
}
