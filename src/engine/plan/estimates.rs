//! Estimates of what requests will cost: a request holds one, and a debit settles the oldest of its counter. Nothing that both
//! have in common is needed but the counter.

use crate::limit::Hits;
use crate::policy::{EstimateAt, Refused};
use crate::store::Reservation;

use super::model::Plan;

/// Has charges of limits with an `estimate` hold it, or settle one. `all_named`: all descriptors of the request name their hits.
pub fn estimate(plan: &mut Plan<'_>, all_named: bool) {
    let charges = plan.batch.charges.iter_mut().zip(&plan.limits).zip(&plan.requested);
    for ((charge, limit), asked) in charges {
        let Some(estimate) = limit.estimate.filter(|_| charge.reservation.is_none()) else {
            continue;
        };
        let begins = match estimate.at {
            EstimateAt::Request => asked.unnamed,
            EstimateAt::Peek => asked.peeks && charge.hits == Hits::Spend(0),
        };
        let step = match charge.hits {
            Hits::Spend(hits) if begins => {
                // Where the directory or a schedule leaves less than an estimate, a request can pass while nothing is used.
                let open = charge.open.hits.min(charge.limit.at(plan.at).capacity());
                let hits = estimate.hits.min(open.saturating_sub(hits));
                let life_ms = u32::try_from(estimate.life.as_millis()).unwrap_or(u32::MAX);
                Reservation::Estimate { hits, life_ms }
            }
            Hits::Spend(1..) if !asked.unnamed => {
                // What was used counts, whatever other limits say.
                charge.refused = Refused::Booked.in_request(all_named);
                Reservation::SettleEstimate
            }
            Hits::Spend(_) | Hits::GiveBack(_) => Reservation::Count,
        };
        charge.reservation = Some(Box::new(step));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::ModeSettings;
    use crate::engine::request::{Descriptor, HitsSource, Request};
    use crate::engine::testing::{Bench, bench, descriptor};
    use crate::engine::verdict::Code;

    const POLICY: &str = "
domain: d
defaults: { estimate: { hits: 40, at: peek } }
descriptors:
- { key: own, limits: [{ name: own, rate: 100/day, estimate: 30 }] }
- { key: peeked, rate_limit: { unit: day, requests_per_unit: 100 } }
- { key: small, rate_limit: { unit: day, requests_per_unit: 40 } }
- { key: held, reservation: {}, limits: [{ name: held, rate: 100/day }] }
- { key: none, limits: [{ name: none, rate: 100/day, estimate: 0 }] }
- { key: spent, limits: [{ name: spent, rate: 1/day, estimate: 0 }] }";

    /// Sends hits of the request, or hits that the descriptor names; tells whether it passes, and what is left.
    async fn ask(bench: &Bench, text: &'static str, named: Option<u64>) -> (bool, u64) {
        let mut part = descriptor(text);
        if let Some(hits) = named {
            part =
                Descriptor { hits: Hits::Spend(hits), hits_source: HitsSource::Descriptor, ..part };
        }
        let request = Request::try_new("d", vec![part]).unwrap();
        let snapshot = bench.engine.snapshot();
        let verdict = bench.engine.check(&snapshot, &request).await;
        (verdict.code() == Code::Ok, verdict.charges()[0].remaining())
    }

    async fn check(text: &'static str, asks: &[(Option<u64>, (bool, u64))]) {
        let bench = bench(POLICY, ModeSettings::default());
        for (number, (named, expected)) in asks.iter().enumerate() {
            assert_eq!(ask(&bench, text, *named).await, *expected, "{text}, {number}");
        }
    }

    #[tokio::test]
    async fn requests_hold_and_debits_settle() {
        let (request, peek, debit) = (None, Some(0), Some(20));
        let refused = (false, 7);
        let own = [(request, (true, 69)), (request, (true, 38)), (request, (true, 7))];
        let own =
            [&own[..], &[(request, refused), (peek, (true, 7)), (debit, (true, 17))]].concat();
        check("own=1", &own).await;
        let peeked = [(peek, (true, 60)), (request, (true, 59)), (peek, (true, 19))];
        check("peeked=1", &[&peeked[..], &[(peek, (false, 19)), (debit, (true, 39))]].concat())
            .await;
    }

    /// The answer was sent, so its tokens were used.
    #[tokio::test]
    async fn a_debit_counts_although_another_limit_refuses_it() {
        let bench = bench(POLICY, ModeSettings::default());
        assert_eq!(ask(&bench, "spent=1", Some(1)).await, (true, 0));
        assert_eq!(ask(&bench, "own=1", None).await, (true, 69));
        let debit = |text, hits| Descriptor {
            hits: Hits::Spend(hits),
            hits_source: HitsSource::Descriptor,
            ..descriptor(text)
        };
        let request = Request::try_new("d", vec![debit("own=1", 20), debit("spent=1", 1)]).unwrap();
        let snapshot = bench.engine.snapshot();
        let verdict = bench.engine.check(&snapshot, &request).await;
        assert_eq!(verdict.code(), Code::OverLimit);
        assert_eq!(ask(&bench, "own=1", Some(0)).await, (true, 79), "1 and 20 are spent");
    }

    #[tokio::test]
    async fn a_default_is_for_limits_that_are_larger() {
        check("small=1", &[(Some(0), (true, 40)), (Some(0), (true, 40))]).await;
    }

    #[tokio::test]
    async fn limits_without_an_estimate_hold_nothing() {
        check("held=1", &[(Some(0), (true, 100)), (None, (true, 99))]).await;
        check("none=1", &[(Some(0), (true, 100)), (None, (true, 99))]).await;
    }
}
