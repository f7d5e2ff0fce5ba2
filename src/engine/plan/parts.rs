//! Which charges of a request take fewer hits than it asks for if their limits have no more, and which of them take as many as
//! each other.

use super::model::Plan;
use crate::engine::request::{HitsSource, Request, Taking};
use crate::policy::{Mode, RuleLimit};
use crate::store::PARTS_MAX;

/// The part of descriptors that the request itself gives their hits. Each of the others is a part of its own.
const OF_REQUEST: u8 = 1;

/// Numbers the charges that may be made in part. None may if a charge belongs to descriptors of different parts: it can't take as
/// many as each of them.
pub fn number(plan: &mut Plan<'_>, request: &Request<'_>) {
    let may_be = |limit: &RuleLimit| match request.taking() {
        Taking::AsLimitsSay => limit.partial,
        Taking::Whole => false,
        Taking::InPart => limit.cost.is_none(),
    };
    if !plan.limits.iter().any(|limit| may_be(limit)) {
        return;
    }
    let (mut last, mut is_shared) = (OF_REQUEST, false);
    for (descriptor, part) in request.descriptors().iter().zip(&plan.descriptors) {
        let number = match descriptor.hits_source {
            HitsSource::Request => OF_REQUEST,
            HitsSource::Descriptor => {
                last = last.saturating_add(1).min(PARTS_MAX);
                last
            }
        };
        for index in &part.charges {
            let (charge, limit) = (&mut plan.batch.charges[*index], &plan.limits[*index]);
            if may_be(limit) && charge.mode == Mode::Enforce {
                // Those of the request are one part, and each of the others is met by its own descriptor alone.
                let is_own = charge.part == 0 || (charge.part == number && number == OF_REQUEST);
                is_shared |= !is_own;
                charge.part = number;
            }
        }
    }
    if is_shared {
        plan.batch.charges.iter_mut().for_each(|charge| charge.part = 0);
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::{bench, descriptor};
    use crate::engine::{Code, Descriptor, HitsSource, ModeSettings, Request};
    use crate::limit::Hits;

    const POLICY: &str = "
domain: d
descriptors:
- key: u
  cascade: true
  limits: [{ name: all, rate: 10/total, partial: true }]
  descriptors: [{ key: r, limits: [{ name: kind, rate: 8/total, partial: true }] }]";

    /// What a request with hits of its own in each descriptor is answered, and what remains of the limit above.
    async fn ask(hits: [u64; 2]) -> (Code, u64) {
        let bench = bench(POLICY, ModeSettings::default());
        let part = |(text, hits): (&'static str, u64)| Descriptor {
            hits: Hits::Spend(hits),
            hits_source: HitsSource::Descriptor,
            ..descriptor(text)
        };
        let descriptors = ["u=x,r=a", "u=x,r=b"].into_iter().zip(hits).map(part).collect();
        let request = Request::try_new("d", descriptors).unwrap();
        let snapshot = bench.engine.snapshot();
        let verdict = bench.engine.check(&snapshot, &request).await;
        let all = verdict.charges().iter().find(|charge| &*charge.limit.label == "all").unwrap();
        (verdict.code(), all.remaining())
    }

    #[tokio::test]
    async fn a_limit_above_descriptors_with_different_hits_is_charged_whole() {
        assert_eq!(ask([2, 3]).await, (Code::Ok, 7));
        assert_eq!(ask([1, 8]).await, (Code::Ok, 2));
        assert_eq!(ask([8, 1]).await, (Code::Ok, 2));
        assert_eq!(ask([1, 9]).await.0, Code::OverLimit, "in whole or not at all");
    }

    #[tokio::test]
    async fn a_caller_whom_a_limit_only_warns_gets_all_hits() {
        const POLICY: &str = "
domain: d
caller: { key: u }
descriptors: [{ key: u, limits: [{ name: all, rate: 10/total, partial: true, enforce: 0% }] }]";
        let bench = bench(POLICY, ModeSettings::default());
        let request = Request::try_new("d", vec![descriptor("u=x")]).unwrap();
        let part = Descriptor { hits: Hits::Spend(12), ..descriptor("u=x") };
        let asked = Request::try_new("d", vec![part]).unwrap();
        let snapshot = bench.engine.snapshot();
        let verdict = bench.engine.check(&snapshot, &asked).await;
        assert_eq!((verdict.code(), verdict.granted().count()), (Code::Ok, 0));
        let verdict = bench.engine.check(&snapshot, &request).await;
        assert_eq!(verdict.charges()[0].remaining(), 9, "the request before was not charged");
    }
}
