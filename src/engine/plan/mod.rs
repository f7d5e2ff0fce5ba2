//! What a request asks of the store: which limits it meets, under which keys, for how many hits.

mod builder;
mod notes;
mod press;

use std::ops::Deref;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::limit::Hits;
use crate::policy::Domain;
use crate::policy::Mode;
use crate::policy::Path;
use crate::policy::Rule;
use crate::policy::RuleLimit;
use crate::policy::Walk;
use crate::store::Batch;
use crate::store::FEW;

use super::Descriptor;
use super::HitsSource;
use super::Request;
use super::asker::Asker;

use builder::Builder;
use builder::Way;

pub use notes::Notes;
pub use notes::Origin;
pub use notes::Uncharged;

/// What a request asks of the store, and what each part of it is for.
#[derive(Debug, Default)]
pub struct Plan<'p> {
    pub batch: Batch,
    /// The limit of each charge of the batch.
    pub limits: SmallVec<[MetLimit<'p>; FEW]>,
    /// The rule of each gauge of the batch.
    pub gauges: SmallVec<[&'p Rule; 1]>,
    /// One for each descriptor, in order.
    pub descriptors: SmallVec<[Part<'p>; FEW]>,
    /// Nothing is to be charged, because the caller may not pass whatever the limits say.
    pub denial: Option<Denial>,
    /// Every limit is a quota, and one of the descriptors meets none: it counts as a quota that is left, whatever those
    /// of the others say.
    pub quota_left: bool,
    /// What is asked of each charge of the batch.
    asked: SmallVec<[Asked; FEW]>,
    /// Whether each charge is of a limit of the caller's own.
    of_caller: SmallVec<[bool; FEW]>,
}

/// A limit that a request meets. Those of the policy are borrowed: counting references to them would have all
/// cores write to one place.
#[derive(Clone, Debug)]
pub enum MetLimit<'p> {
    OfPolicy(&'p RuleLimit),
    /// The request brings it along.
    Brought(Arc<RuleLimit>),
}

impl Deref for MetLimit<'_> {
    type Target = RuleLimit;

    fn deref(&self) -> &RuleLimit {
        match self {
            Self::OfPolicy(limit) => limit,
            Self::Brought(limit) => limit,
        }
    }
}

/// Why a caller may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The directory says that nothing of the caller passes.
    Disabled,
    /// The policy keeps the caller's tier out of what is asked for.
    NoAccess,
}

/// What one descriptor meets.
#[derive(Debug, Default)]
pub struct Part<'p> {
    /// The rule at its end.
    pub rule: Option<&'p Rule>,
    /// Charges of the batch, by index.
    pub charges: SmallVec<[usize; FEW]>,
    /// The rule doesn't limit this caller.
    pub unlimited: bool,
    /// It may not pass.
    pub denied: bool,
}

/// Hits that meet on one charge.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    /// By descriptors that end at the rule; they add up.
    own: Sum,
    /// By descriptors that pass through a cascading rule; together they are one request, so the most
    /// of them counts, and only what exceeds the rule's own.
    inherited: Sum,
    /// Whether any of them asks, if only for a look.
    spends: bool,
    /// Whether any of them doesn't say itself for how many.
    unnamed: bool,
    /// Whether any of them only asks how the limit stands.
    peeks: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    spent: u64,
    given_back: u64,
}

impl Asked {
    fn add(&mut self, (hits, source): (Hits, HitsSource), inherited: bool) {
        let sum = if inherited { &mut self.inherited } else { &mut self.own };
        self.unnamed |= source == HitsSource::Request;
        let amount = hits.amount();
        self.spends |= matches!(hits, Hits::Spend(_));
        let total = match hits {
            Hits::Spend(_) => &mut sum.spent,
            Hits::GiveBack(_) => &mut sum.given_back,
        };
        *total = if inherited { amount.max(*total) } else { total.saturating_add(amount) };
    }

    fn hits(self) -> Hits {
        let spent = self.own.spent.max(self.inherited.spent);
        let given_back = self.own.given_back.max(self.inherited.given_back);
        match spent.checked_sub(given_back) {
            Some(hits) if self.spends => Hits::Spend(hits),
            Some(_) => Hits::GiveBack(0),
            None => Hits::GiveBack(given_back - spent),
        }
    }
}

/// Modes that the settings lay over those of the policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModeSettings {
    /// Decide and record everything, enforce nothing.
    pub shadow: bool,
    /// Every enforced limit is a quota.
    pub quota: bool,
}

impl ModeSettings {
    /// The mode by which a request is judged.
    pub fn judged(self, mode: Mode) -> Mode {
        if self.quota && mode == Mode::Enforce { Mode::Quota } else { mode }
    }

    /// The mode by which the store charges.
    fn charged(self, mode: Mode) -> Mode {
        if self.shadow { Mode::Shadow } else { self.judged(mode) }
    }
}

/// What a plan is made for.
#[derive(Clone, Copy)]
struct Question<'p, 'r> {
    domain: &'p Domain,
    request: &'r Request<'r>,
    asker: &'r Asker<'r>,
    modes: ModeSettings,
}

impl<'p> Plan<'p> {
    /// Whether a descriptor of a charge only asks how its limit stands, whatever that would cost.
    pub fn peeks(&self, charge: usize) -> bool {
        self.asked.get(charge).is_some_and(|asked| asked.peeks)
    }

    /// What `request` asks of the store under the policy of its domain.
    pub fn new(
        domain: &'p Domain,
        request: &Request<'_>,
        asker: &Asker<'_>,
        modes: ModeSettings,
    ) -> Self {
        Self::build(Question { domain, request, asker, modes }, None)
    }

    /// The same, with notes on it.
    pub fn noted(
        domain: &'p Domain,
        request: &Request<'_>,
        asker: &Asker<'_>,
        modes: ModeSettings,
    ) -> (Self, Notes<'p>) {
        let mut notes = Notes::default();
        let plan = Self::build(Question { domain, request, asker, modes }, Some(&mut notes));
        (plan, notes)
    }

    fn build(question: Question<'p, '_>, notes: Option<&mut Notes<'p>>) -> Self {
        let Question { domain, request, asker, modes } = question;
        let descriptors = request.descriptors().iter();
        let paths: SmallVec<[Path<'_>; FEW]> =
            descriptors.map(|descriptor| domain.path(&descriptor.entries)).collect();
        let walks: SmallVec<[Walk<'p>; FEW]> = request
            .descriptors()
            .iter()
            .zip(&paths)
            .map(|(descriptor, path)| match descriptor.limit {
                None => domain.walk(path),
                Some(_) => domain.walk(&[]),
            })
            .collect();
        let ends = walks.iter().filter_map(|walk| walk.end());
        let mut replaced: SmallVec<[&str; FEW]> =
            ends.flat_map(|rule| rule.replaces.iter().map(String::as_str)).collect();
        replaced.sort_unstable();

        let mut plan = Self::default();
        let mut builder =
            Builder { plan: &mut plan, notes, domain, request, asker, replaced, modes };
        for ((descriptor, path), walk) in request.descriptors().iter().zip(&paths).zip(&walks) {
            let Descriptor { hits, hits_source, .. } = *descriptor;
            let way = Way { walk, path, hits, hits_source };
            builder.descriptor(descriptor, &way);
        }
        builder.press();
        if modes.quota && plan.has_free_descriptor() {
            plan.leave_quota();
        }
        let spends = |part: &Descriptor<'_>| matches!(part.hits, Hits::Spend(_));
        let denied = plan.descriptors.iter().any(|part| part.denied);
        plan.denial = if asker.is_disabled() && request.descriptors().iter().any(spends) {
            plan.descriptors.iter_mut().for_each(|part| part.denied = true);
            Some(Denial::Disabled)
        } else {
            denied.then_some(Denial::NoAccess)
        };
        let named = |part: &Descriptor<'_>| {
            part.hits_source == HitsSource::Descriptor && part.hits != Hits::Spend(0)
        };
        let all_named = request.descriptors().iter().all(named);
        let charges = plan.batch.charges.iter_mut().zip(&plan.limits).zip(&plan.asked);
        for ((charge, limit), asked) in charges {
            charge.hits = asked.hits();
            if !asked.unnamed && matches!(charge.hits, Hits::Spend(_)) {
                charge.refused = limit.refused.in_request(all_named);
            }
        }
        plan
    }

    /// Whether one of the descriptors meets no limit, or none that may refuse.
    fn has_free_descriptor(&self) -> bool {
        let only_told = |charge: &usize| self.limits[*charge].mode == Mode::Shadow;
        self.descriptors.iter().any(|part| {
            let unlimited = part.unlimited || part.rule.is_some_and(|rule| rule.unlimited);
            !unlimited && !part.denied && part.charges.iter().all(only_told)
        })
    }

    /// Has quotas charged that are left and refuse nothing, as those do that are only told.
    fn leave_quota(&mut self) {
        self.quota_left = true;
        let quotas = self.batch.charges.iter_mut().filter(|charge| charge.mode == Mode::Quota);
        quotas.for_each(|charge| charge.mode = Mode::Shadow);
    }
}
