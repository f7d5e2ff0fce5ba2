//! The plan of a request: its limits, their keys, and the hits of each.

mod requested_hits;
mod builder;
mod estimates;
mod load_shedding;
mod model;
mod notes;
mod parts;
mod reservations;
mod retries;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::limit::Hits;
use crate::policy::{Domain, Mode, Path, Walk};
use crate::store::INLINE_CAP;

use super::caller::CallerContext;
use super::request::{Descriptor, HitsSource, Request};

use builder::{Builder, Way};

pub use model::{Denial, DescriptorMatch, ModeSettings, Plan, PlannedLimit, VERDICT_INLINE_CAP};
pub use notes::{Notes, Origin, Uncharged};

/// The context of a plan.
#[derive(Clone, Copy)]
pub struct Question<'p, 'r> {
    pub domain: &'p Domain,
    pub request: &'r Request<'r>,
    pub caller: &'r CallerContext<'r>,
    pub modes: ModeSettings,
    pub now: Timestamp,
}

impl<'p> Plan<'p> {
    /// The plan of a request under the policy of its domain. If `notes` is set, it records how the plan was made.
    pub fn new(question: Question<'p, '_>, notes: Option<&mut Notes<'p>>) -> Self {
        let Question { domain, request, caller, modes, now } = question;
        let descriptors = request.descriptors().iter();
        let paths: SmallVec<[Path<'_>; INLINE_CAP]> =
            descriptors.map(|descriptor| domain.path(&descriptor.entries)).collect();
        let walks: SmallVec<[Walk<'p>; INLINE_CAP]> = request
            .descriptors()
            .iter()
            .zip(&paths)
            .map(|(descriptor, path)| match descriptor.limit {
                None => domain.walk(path),
                Some(_) => domain.walk(&[]),
            })
            .collect();
        let ends = walks.iter().filter_map(|walk| walk.end());
        let mut replaced: SmallVec<[&str; INLINE_CAP]> =
            ends.flat_map(|rule| rule.replaces.iter().map(String::as_str)).collect();
        replaced.sort_unstable();

        let mut plan = Self { at: now, modes, ..Self::default() };
        let mut builder = Builder { plan: &mut plan, notes, domain, request, caller, replaced };
        for ((descriptor, path), walk) in request.descriptors().iter().zip(&paths).zip(&walks) {
            let Descriptor { hits, hits_source, .. } = *descriptor;
            let way = Way { walk, path, hits, hits_source };
            builder.descriptor(descriptor, &way);
        }
        builder.shed_load();
        if modes.quota && plan.has_free_descriptor() {
            plan.leave_quota();
        }
        let spends = |part: &Descriptor<'_>| matches!(part.hits, Hits::Spend(_));
        let denied = plan.descriptors.iter().any(|part| part.denied);
        plan.denial = if caller.is_disabled() && request.descriptors().iter().any(spends) {
            plan.descriptors.iter_mut().for_each(|part| part.denied = true);
            Some(Denial::Disabled)
        } else {
            denied.then_some(Denial::NoAccess)
        };
        let named = |part: &Descriptor<'_>| {
            part.hits_source == HitsSource::Descriptor && part.hits != Hits::Spend(0)
        };
        let all_named = request.descriptors().iter().all(named);
        let charges = plan.batch.charges.iter_mut().zip(&plan.limits).zip(&plan.requested);
        for ((charge, limit), asked) in charges {
            charge.hits = asked.hits();
            if !asked.unnamed && matches!(charge.hits, Hits::Spend(_)) {
                charge.refused = limit.refused.in_request(all_named);
            }
        }
        parts::number(&mut plan, request);
        reservations::reserve(&mut plan, question);
        estimates::estimate(&mut plan, request);
        if domain.has_retries() {
            retries::mark(&mut plan, question);
        }
        plan
    }

    /// Whether one of the descriptors has no limit, or none that may refuse.
    fn has_free_descriptor(&self) -> bool {
        let is_shadow = |charge: &usize| !self.mode(*charge).refuses();
        self.descriptors.iter().any(|part| {
            let unlimited = part.unlimited || part.rule.is_some_and(|rule| rule.unlimited);
            !unlimited && !part.denied && part.charges.iter().all(is_shadow)
        })
    }

    /// Charges quotas that have capacity and refuse nothing, like limits in shadow mode.
    fn leave_quota(&mut self) {
        self.quota_left = true;
        let quotas = self.batch.charges.iter_mut().filter(|charge| charge.mode == Mode::Quota);
        quotas.for_each(|charge| charge.mode = Mode::Shadow);
    }
}
