//! What a request asks of the store: which limits it meets, under which keys, for how many hits.

use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::limit::Hits;
use crate::policy::Domain;
use crate::policy::Key;
use crate::policy::Mode;
use crate::policy::Rule;
use crate::policy::RuleLimit;
use crate::policy::Walk;
use crate::store::Batch;
use crate::store::Charge;
use crate::store::FEW;
use crate::store::Open;

use super::Descriptor;
use super::Request;

/// What a request asks of the store, and what each part of it is for.
#[derive(Debug, Default)]
pub struct Plan<'p> {
    pub batch: Batch,
    /// The limit of each charge of the batch.
    pub limits: SmallVec<[Arc<RuleLimit>; FEW]>,
    /// One for each descriptor, in order.
    pub descriptors: SmallVec<[Part<'p>; FEW]>,
    /// The hits under each key of the batch.
    asked: SmallVec<[Asked; FEW]>,
}

/// What one descriptor meets.
#[derive(Debug, Default)]
pub struct Part<'p> {
    /// The rule at its end.
    pub rule: Option<&'p Rule>,
    /// Charges of the batch, by index.
    pub charges: SmallVec<[usize; FEW]>,
}

/// Hits that meet on one key.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    /// By descriptors that end at the rule; they add up.
    own: Sum,
    /// By descriptors that pass through a cascading rule; together they are one request, so the most
    /// of them counts, and only what exceeds the rule's own.
    inherited: Sum,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    spent: u64,
    given_back: u64,
}

impl Asked {
    fn hits(self) -> Hits {
        let spent = self.own.spent.max(self.inherited.spent);
        let given_back = self.own.given_back.max(self.inherited.given_back);
        match spent.checked_sub(given_back) {
            Some(hits) => Hits::Spend(hits),
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

impl<'p> Plan<'p> {
    /// What `request` asks of the store under the policy of its domain.
    pub fn new(domain: &'p Domain, request: &Request<'_>, modes: ModeSettings) -> Self {
        let walks: SmallVec<[Walk<'p>; FEW]> = request
            .descriptors()
            .iter()
            .map(|descriptor| match descriptor.limit {
                None => domain.walk(&descriptor.entries),
                Some(_) => domain.walk(&[]),
            })
            .collect();
        let ends = walks.iter().filter_map(|walk| walk.end());
        let replaced: HashSet<&str> =
            ends.flat_map(|rule| rule.replaces.iter().map(String::as_str)).collect();

        let mut plan = Self::default();
        let mut builder = Builder { plan: &mut plan, replaced, modes };
        for (descriptor, walk) in request.descriptors().iter().zip(&walks) {
            let mut part = Part { rule: walk.end(), charges: SmallVec::new() };
            let hits = descriptor.hits;
            if let Some(brought) = descriptor.limit {
                let limit = Arc::new(domain.override_limit(brought.amount, brought.unit));
                let key = override_key(domain, descriptor);
                builder.meet(&mut part, key, Met { limits: &[limit], hits, inherited: false });
            }
            let entries = &descriptor.entries;
            for (depth, rule) in walk.cascading() {
                let key = domain.key(walk, entries, depth);
                builder.meet(&mut part, key, Met { limits: &rule.limits, hits, inherited: true });
            }
            if let Some(rule) = walk.end().filter(|rule| !rule.limits.is_empty()) {
                let key = domain.key(walk, entries, entries.len());
                builder.meet(&mut part, key, Met { limits: &rule.limits, hits, inherited: false });
            }
            builder.plan.descriptors.push(part);
        }
        for charge in &mut plan.batch.charges {
            charge.hits = plan.asked[charge.key_index].hits();
        }
        plan
    }
}

/// The key of the limit that a descriptor brings along.
fn override_key(domain: &Domain, descriptor: &Descriptor<'_>) -> Key {
    let mut key = Key::of_override(&domain.name);
    descriptor.entries.iter().for_each(|(name, value)| key.push_value(name, value));
    key.finish()
}

struct Builder<'b, 'p, 'r> {
    plan: &'b mut Plan<'p>,
    /// Names of limits that don't count in this request.
    replaced: HashSet<&'r str>,
    modes: ModeSettings,
}

/// Limits of one rule that a descriptor meets.
#[derive(Clone, Copy)]
struct Met<'a> {
    limits: &'a [Arc<RuleLimit>],
    hits: Hits,
    /// The descriptor passes through the rule on its way.
    inherited: bool,
}

impl<'p> Builder<'_, 'p, '_> {
    /// Notes that a descriptor meets limits under `key`.
    fn meet(&mut self, part: &mut Part<'p>, key: Key, met: Met<'_>) {
        let Met { limits, hits, inherited } = met;
        let known = self.plan.batch.keys.len();
        let key_index = self.plan.batch.key_index(key);
        if key_index == known {
            self.plan.asked.push(Asked::default());
            self.charge(key_index, limits);
        } else {
            self.tighten(key_index, limits);
        }
        let asked = &mut self.plan.asked[key_index];
        let sum = if inherited { &mut asked.inherited } else { &mut asked.own };
        let add = |sum: &mut u64| {
            let hits = hits.amount();
            *sum = if inherited { hits.max(*sum) } else { sum.saturating_add(hits) };
        };
        match hits {
            Hits::Spend(_) => add(&mut sum.spent),
            Hits::GiveBack(_) => add(&mut sum.given_back),
        }
        let charges = self.plan.batch.charges.iter().enumerate();
        let of_key = charges.filter(|(_, charge)| charge.key_index == key_index);
        part.charges.extend(of_key.map(|(index, _)| index));
    }

    /// Adds charges for the limits of one rule, those of one mode side by side as one group.
    fn charge(&mut self, key_index: usize, limits: &[Arc<RuleLimit>]) {
        let counts = |limit: &&Arc<RuleLimit>| !self.replaced.contains(&*limit.name);
        let mut limits: SmallVec<[&Arc<RuleLimit>; FEW]> = limits.iter().filter(counts).collect();
        limits.sort_by_key(|limit| limit.mode);
        let last = self.plan.batch.charges.last();
        let mut group = last.map_or(0, |charge| charge.group + 1);
        let mut previous = None;
        for limit in limits {
            let mode = self.modes.charged(limit.mode);
            group += usize::from(previous.is_some_and(|previous| previous != limit.mode));
            previous = Some(limit.mode);
            self.plan.batch.charges.push(Charge {
                key_index,
                group,
                mode,
                limit: limit.limit.clone(),
                hits: Hits::Spend(0),
                open: Open::all(),
                bonuses: Vec::new(),
            });
            self.plan.limits.push(limit.clone());
        }
    }

    /// Two descriptors of one path that bring different amounts along: the smaller one holds.
    fn tighten(&mut self, key_index: usize, limits: &[Arc<RuleLimit>]) {
        let charges = self.plan.batch.charges.iter_mut().zip(&mut self.plan.limits);
        for (charge, known) in charges.filter(|(charge, _)| charge.key_index == key_index) {
            let same = limits.iter().find(|limit| limit.limit.tag() == charge.limit.tag());
            if let Some(limit) = same.filter(|limit| limit.limit.amount() < charge.limit.amount()) {
                charge.limit = limit.limit.clone();
                *known = limit.clone();
            }
        }
        let tags = |limit: &&Arc<RuleLimit>| {
            let charges = self.plan.batch.charges.iter();
            let mut of_key = charges.filter(|charge| charge.key_index == key_index);
            !of_key.any(|charge| charge.limit.tag() == limit.limit.tag())
        };
        let new: SmallVec<[Arc<RuleLimit>; FEW]> = limits.iter().filter(tags).cloned().collect();
        if !new.is_empty() {
            self.charge(key_index, &new);
        }
    }
}
