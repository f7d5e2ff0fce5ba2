//! Estimates of what requests will cost: a request holds one, and a debit settles the oldest of its counter. Nothing that both
//! have in common is needed but the counter.

use crate::engine::caller::entry;
use crate::engine::request::{HitsSource, Request};
use crate::limit::Hits;
use crate::policy::{Estimate, EstimateAt, Refused, RuleLimit};
use crate::store::Reservation;

use super::model::{DescriptorMatch, Plan};

/// Has charges of limits with an `estimate` hold it, or settle one.
pub fn estimate(plan: &mut Plan<'_>, request: &Request<'_>) {
    if plan.limits.iter().all(|limit| limit.estimate.is_none()) {
        return;
    }
    let parts = request.descriptors().iter().zip(&plan.descriptors);
    let all_named = parts.into_iter().all(|(descriptor, part)| {
        let debits = descriptor.hits != Hits::Spend(0) || debits_none(plan, part);
        descriptor.hits_source == HitsSource::Descriptor && debits
    });
    let charges = plan.batch.charges.iter_mut().zip(&plan.limits).zip(&plan.requested);
    for ((charge, limit), asked) in charges {
        let Some(estimate) = limit.estimate.as_ref().filter(|_| charge.reservation.is_none())
        else {
            continue;
        };
        let begins = match estimate.at {
            EstimateAt::Request => asked.unnamed,
            EstimateAt::Peek => asked.peeks && charge.hits == Hits::Spend(0),
        };
        // Where the directory or a schedule leaves less than an estimate, a request can pass while nothing is used.
        let open = charge.open.hits.min(charge.limit.at(plan.at).capacity());
        let step = match charge.hits {
            Hits::Spend(hits) if begins => {
                let hits = estimated(limit, estimate, request).min(open.saturating_sub(hits));
                // Those of one size are few, whatever requests state.
                let each = if estimate.stated.is_some() { hits.min(1) } else { hits };
                let life_ms = u32::try_from(estimate.life.as_millis()).unwrap_or(u32::MAX);
                Reservation::Estimate { hits, each, life_ms }
            }
            Hits::Spend(hits) if !asked.unnamed && (0 < hits || debits_zero(estimate)) => {
                // What was used counts, whatever other limits say.
                charge.refused = Refused::Booked.in_request(all_named);
                let held = estimated(limit, estimate, request).min(open.saturating_sub(1));
                match (&estimate.stated, held) {
                    (None, _) => Reservation::SettleEstimate { hits: 0 },
                    (Some(_), 0) => Reservation::Count,
                    (Some(_), hits) => Reservation::SettleEstimate { hits },
                }
            }
            Hits::Spend(_) | Hits::GiveBack(_) => Reservation::Count,
        };
        charge.reservation = Some(Box::new(step));
    }
}

/// Whether a request that names 0 hits is a debit of none.
fn debits_zero(estimate: &Estimate) -> bool {
    estimate.at == EstimateAt::Request
}

/// The same of all limits that a descriptor meets.
fn debits_none(plan: &Plan<'_>, part: &DescriptorMatch<'_>) -> bool {
    let mut limits = part.charges.iter().map(|index| &plan.limits[*index]);
    !part.charges.is_empty() && limits.all(|limit| limit.estimate.as_ref().is_some_and(debits_zero))
}

/// How many hits a request holds, or its debit settles: what it states, or else what the policy says.
fn estimated(limit: &RuleLimit, estimate: &Estimate, request: &Request<'_>) -> u64 {
    let stated = estimate.stated.as_ref().and_then(|stated| {
        let hits: u64 = entry(request, &stated.key)?.parse().ok()?;
        let priced = match &limit.cost {
            Some(cost) => cost.of(hits, |key| entry(request, key)),
            None => hits,
        };
        (0 < hits).then_some(priced.min(stated.max))
    });
    stated.unwrap_or(estimate.hits)
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
- { key: spent, limits: [{ name: spent, rate: 1/day, estimate: 0 }] }
- { key: stated, limits: [{ name: stated, rate: 1000/day, estimate: { hits: 30, key: max_tokens, max: 400 } }] }
- { key: told, limits: [{ name: told, rate: 1000/day, estimate: { hits: 0, key: max_tokens, max: 400 } }] }
- { key: priced, limits: [{ name: priced, rate: 10000/day, cost: tokens, estimate: { hits: 50, key: max_tokens, max: 4000 } }] }
qualifiers: [model]
costs: { tokens: [{ when: { model: large }, hits: 5, per: 1 }] }";

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
            [&own[..], &[(request, refused), (debit, (true, 17)), (peek, (true, 47))]].concat();
        check("own=1", &own).await;
        let peeked = [(peek, (true, 60)), (request, (true, 59)), (peek, (true, 19))];
        check("peeked=1", &[&peeked[..], &[(peek, (false, 19)), (debit, (true, 39))]].concat())
            .await;
    }

    /// A debit of `own=1`, beside one of a limit that is exhausted.
    async fn check_refused_debit(bench: &Bench, hits: u64) {
        let debit = |text, hits| Descriptor {
            hits: Hits::Spend(hits),
            hits_source: HitsSource::Descriptor,
            ..descriptor(text)
        };
        let debits = vec![debit("own=1", hits), debit("spent=1", 1)];
        let request = Request::try_new("d", debits).unwrap();
        let snapshot = bench.engine.snapshot();
        let verdict = bench.engine.check(&snapshot, &request).await;
        assert_eq!(verdict.code(), Code::OverLimit);
    }

    /// The answer was sent, so its tokens were used.
    #[tokio::test]
    async fn a_debit_counts_although_another_limit_refuses_it() {
        let bench = bench(POLICY, ModeSettings::default());
        assert_eq!(ask(&bench, "spent=1", Some(1)).await, (true, 0));
        assert_eq!(ask(&bench, "own=1", None).await, (true, 69));
        check_refused_debit(&bench, 20).await;
        assert_eq!(ask(&bench, "own=1", Some(0)).await, (true, 79), "1 and 20 are spent");
    }

    /// Envoy's two calls have the same entries, so the debit tells what was held.
    #[tokio::test]
    async fn a_request_holds_what_it_states() {
        let (request, debit) = (None, Some(20));
        let bench = bench(POLICY, ModeSettings::default());
        let mut left = 1_000;
        // The text of the entry, and what it holds.
        let stated = [
            ("stated=1", 30),
            ("stated=1,max_tokens=100", 100),
            ("max_tokens=7,stated=1", 7),
            ("stated=1,max_tokens=4000", 400),
            ("stated=1,max_tokens=99999999999999999999", 30),
            ("stated=1,max_tokens=0", 30),
            ("stated=1,max_tokens=-5", 30),
            ("stated=1,max_tokens=1e3", 30),
        ];
        for (text, held) in stated {
            left -= held + 1;
            assert_eq!(ask(&bench, text, request).await, (true, left), "{text}");
        }
        assert_eq!(ask(&bench, "stated=1,max_tokens=5000", request).await, (false, left));
        // The last one ends first.
        for (text, held) in stated.into_iter().rev() {
            left = left + held - 20;
            assert_eq!(ask(&bench, text, debit).await, (true, left), "{text}");
        }
        assert_eq!(left, 1_000 - 8 - 8 * 20);
    }

    #[tokio::test]
    async fn a_request_that_states_nothing_holds_nothing_where_the_policy_says_0() {
        let asks = [(None, (true, 999)), (Some(20), (true, 979)), (Some(0), (true, 979))];
        check("told=1", &asks).await;
        let bench = bench(POLICY, ModeSettings::default());
        let stated = "told=1,max_tokens=100";
        assert_eq!(ask(&bench, stated, None).await, (true, 899));
        assert_eq!(ask(&bench, "told=1", Some(20)).await, (true, 879), "nothing is settled");
        assert_eq!(ask(&bench, stated, Some(0)).await, (true, 979));
    }

    #[tokio::test]
    async fn what_is_stated_costs_as_much_as_what_is_debited() {
        let bench = bench(POLICY, ModeSettings::default());
        let large = "priced=1,model=large,max_tokens=100";
        assert_eq!(ask(&bench, large, None).await, (true, 10_000 - 5 - 500));
        assert_eq!(ask(&bench, large, Some(80)).await, (true, 10_000 - 5 - 400));
    }

    /// An answer without tokens, of a request that another limit would refuse by now.
    #[tokio::test]
    async fn a_debit_of_0_settles_although_another_limit_refuses() {
        let bench = bench(POLICY, ModeSettings::default());
        assert_eq!(ask(&bench, "spent=1", Some(1)).await, (true, 0));
        assert_eq!(ask(&bench, "own=1", None).await, (true, 69));
        check_refused_debit(&bench, 0).await;
        assert_eq!(ask(&bench, "own=1", Some(1)).await, (true, 98), "nothing is held");
    }

    #[tokio::test]
    async fn reading_the_pressure_holds_nothing() {
        const POLICY: &str = "
domain: d
tiers: [free, paid]
descriptors:
- key: own
  value: x
  limits: [{ name: own, rate: 100/day, estimate: 30 }]
  capacity: { pressure: [{ above: 50%, only: { tier: [paid] } }] }";
        let bench = bench(POLICY, ModeSettings::default());
        bench.engine.read_pressure().await;
        assert_eq!(ask(&bench, "own=x", None).await, (true, 69));
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
