//! Which charges of a request take fewer hits than it asks for if their limits have no more, and which of them take as many as
//! each other.

use super::model::Plan;
use crate::engine::request::{HitsSource, Request, Taking};
use crate::policy::{Mode, RuleLimit};
use crate::store::PARTS_MAX;

/// The part of descriptors that the request itself gives their hits. Each of the others is a part of its own.
const OF_REQUEST: u8 = 1;

/// Numbers the charges that may be made in part.
pub fn number(plan: &mut Plan<'_>, request: &Request<'_>) {
    let may_be = |limit: &RuleLimit| match request.taking() {
        Taking::AsLimitsSay => limit.partial,
        Taking::Whole => false,
        Taking::InPart => limit.cost.is_none(),
    };
    if !plan.limits.iter().any(|limit| may_be(limit)) {
        return;
    }
    let mut last = OF_REQUEST;
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
            if may_be(limit) && charge.mode == Mode::Enforce && charge.part == 0 {
                charge.part = number;
            }
        }
    }
}
