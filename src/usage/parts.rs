//! What a record adds to sums: the counts of its request, of its price, and of each limit that applied to it.

use smallvec::SmallVec;

use crate::engine::{ChargeRecord, Code, DecisionRecord};
use crate::limit::Hits;

use super::counts::Counts;
use super::series::{Outcome, Series, Subject};

/// The additions of most records.
pub const PARTS: usize = 4;

/// The addition of a record to a series.
pub type Part<'r> = (Series<&'r str>, Counts);

/// The additions of a record: its request, and each limit that applied to it.
pub fn parts(record: &DecisionRecord) -> SmallVec<[Part<'_>; PARTS]> {
    let outcome = match (record.code, record.reason) {
        (Code::Ok, _) => Outcome::Allowed,
        (Code::OverLimit, reason) => Outcome::Refused(reason.unwrap_or_default()),
        (Code::Unavailable, _) => Outcome::Error,
    };
    let is_refused_step = !record.is_request && record.code != Code::Ok;
    if is_refused_step && !record.charges.iter().any(|charge| charge.counted) {
        // It has changed nothing.
        return SmallVec::new();
    }
    let (domain, tier) = (record.domain(), record.tier());
    let spend = record.spend();
    let provider = record.chosen().next().or(spend.and_then(|spend| spend.provider));
    let series = |subject, outcome| Series { domain, tier, provider, subject, outcome };
    let is_shadow_refused =
        |charge: &ChargeRecord| record.code == Code::Ok && !charge.mode.refuses() && !charge.fits;
    let request = |shadow_refused: bool| match record.is_request {
        true => Counts {
            requests: 1,
            shadow_refused: shadow_refused.into(),
            fallback: record.fallback.into(),
            waited: (!record.waited().is_zero()).into(),
            ..Counts::default()
        },
        false => Counts::default(),
    };

    let mut parts = SmallVec::<[Part<'_>; PARTS]>::new();
    let shadow_refused = record.charges.iter().any(is_shadow_refused);
    parts.push((series(Subject::Request, outcome), request(shadow_refused)));
    if let Some(spend) = spend.filter(|spend| spend.spent != 0 || spend.given_back != 0) {
        let (hits_spent, hits_given_back) = (spend.spent, spend.given_back);
        let counts = Counts { requests: 1, hits_spent, hits_given_back, ..Counts::default() };
        let subject = Subject::Spend { currency: spend.currency, kind: spend.kind };
        // Only a settlement costs something although its request was refused: by a limit that had nothing held.
        parts.push((series(subject, Outcome::Allowed), counts));
    }
    let mut limits: SmallVec<[_; 4]> = record.limits().collect();
    if limits.is_empty() && record.code == Code::OverLimit {
        parts.push((series(Subject::NoLimit, outcome), request(false)));
    }
    // A limit may apply several times, for example to two users in one request.
    limits.sort_by_key(|(label, _)| *label);
    for charges in limits.chunk_by(|(one, _), (next, _)| one == next) {
        let Some((label, _)) = charges.first() else { continue };
        let charges = charges.iter().map(|(_, charge)| *charge);
        let refusal = charges.clone().filter_map(|charge| charge.refusal).max();
        let outcome = match (record.code, refusal) {
            (_, Some(reason)) if record.code == Code::OverLimit => Outcome::Refused(reason),
            (Code::OverLimit, _) => Outcome::RefusedElsewhere,
            _ => outcome,
        };
        let mut counts = request(charges.clone().any(is_shadow_refused));
        charges.for_each(|charge| add_hits(&mut counts, record.code, charge));
        parts.push((series(Subject::Limit(label), outcome), counts));
    }
    if is_refused_step {
        parts.retain(|(_, counts)| counts.hits_spent != 0 || counts.hits_given_back != 0);
    } else if !record.is_request {
        parts.retain(|(_, counts)| *counts != Counts::default());
    }
    parts
}

/// Adds the hits of a charge to the counts of its limit.
fn add_hits(counts: &mut Counts, code: Code, charge: &ChargeRecord) {
    let fits = charge.fits;
    if charge.missed != 0 {
        let sum = match charge.mode.refuses() {
            true => &mut counts.hits_refused,
            false => &mut counts.hits_shadow_refused,
        };
        *sum = sum.saturating_add(charge.missed);
    }
    let sum = match charge.hits {
        Hits::Spend(_) if charge.counted || (fits && code == Code::Ok) => &mut counts.hits_spent,
        Hits::Spend(_) if !fits && !charge.mode.refuses() => &mut counts.hits_shadow_refused,
        Hits::Spend(_) if !fits => &mut counts.hits_refused,
        Hits::GiveBack(_) if code == Code::Ok => &mut counts.hits_given_back,
        // The limit had the hits, but another one refused.
        _ => return,
    };
    *sum = sum.saturating_add(charge.hits.amount());
}
