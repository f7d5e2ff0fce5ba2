//! Builds the plan of a request: adds up the charges of all its descriptors.

use std::iter;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::api_keys::ApiKeyLimit;
use crate::engine::caller::{Account, CallerContext, entry};
use crate::engine::request::{BroughtLimits, Descriptor, HitsSource, Override, Request};
use crate::limit::{Hits, Scale};
use crate::policy::{
    Domain, Key, Lease, Mode, Only, Rate, Rule, RuleLimit, Share, TierLimit, Walk,
};
use crate::store::{Charge, INLINE_CAP};

use super::model::{DescriptorMatch, Plan, PlannedLimit};
use super::notes::{Notes, Origin, Uncharged};
use super::requested_hits::RequestedHits;

/// The path of a descriptor through the policy.
pub struct Way<'w, 'p> {
    pub walk: &'w Walk<'p>,
    pub path: &'w [(&'w str, &'w str)],
    pub hits: Hits,
    pub hits_source: HitsSource,
}

/// The key of the limit that a descriptor brings along.
fn override_key(domain: &Domain, path: &[(&str, &str)]) -> Key {
    let mut key = Key::of_override(&domain.name);
    path.iter().for_each(|(name, value)| key.push_value(name, value));
    key.finish()
}

/// Collects the charges of all descriptors of a request.
pub struct Builder<'b, 'p, 'r> {
    pub plan: &'b mut Plan<'p>,
    /// None while requests are decided.
    pub notes: Option<&'b mut Notes<'p>>,
    pub domain: &'p Domain,
    pub request: &'r Request<'r>,
    pub caller: &'r CallerContext<'r>,
    /// Names of limits that are replaced in this request, sorted.
    pub replaced: SmallVec<[&'p str; INLINE_CAP]>,
}

/// Limits of one rule that apply to a descriptor.
#[derive(Clone, Copy)]
struct RuleLimits<'a, 'p> {
    /// None for a limit that the request brings along.
    rule: Option<&'p Rule>,
    limits: &'a [PlannedLimit<'p>],
    /// The path of the rule in the request; empty for a limit that the request brings along.
    path: &'a [(&'a str, &'a str)],
    /// The account that owns the counter, for limits of the caller's own if the directory knows the caller.
    account: Option<Account>,
    hits: Hits,
    hits_source: HitsSource,
    /// The descriptor passes through the rule, and ends below it.
    inherited: bool,
}

impl<'p> Builder<'_, 'p, '_> {
    /// Adds all limits of a descriptor.
    pub fn descriptor(&mut self, descriptor: &Descriptor<'_>, way: &Way<'_, 'p>) {
        let part = self.part(descriptor, way);
        self.plan.descriptors.push(part);
    }

    fn part(&mut self, descriptor: &Descriptor<'_>, way: &Way<'_, 'p>) -> DescriptorMatch<'p> {
        let mut part = DescriptorMatch { rule: way.walk.end(), ..DescriptorMatch::default() };
        if let Some(brought) = descriptor.limit {
            let (key, limits) = self.brought(brought, way.path);
            let Way { hits, hits_source, .. } = *way;
            let rule_limits = RuleLimits {
                rule: None,
                limits: &limits,
                path: &[],
                account: None,
                hits,
                hits_source,
                inherited: false,
            };
            self.add_limits(&mut part, key, rule_limits);
        }
        for rule in way.walk.steps() {
            let spends = matches!(way.hits, Hits::Spend(_));
            let outside = |only: &Only| !only.admits(self.caller.tier, self.caller.priority(0));
            if !spends || !rule.only.as_ref().is_some_and(outside) {
                continue;
            }
            let closed = rule.mode.refuses() && self.is_enforced(rule.enforced, &rule.path);
            part.denied |= closed;
            part.warned |= !closed && (rule.mode.refuses() || rule.mode == Mode::Warn);
            if let Some(notes) = self.notes.as_mut().filter(|_| closed) {
                notes.closed.push((self.plan.descriptors.len(), rule));
            }
        }
        for (depth, rule) in way.walk.cascading() {
            self.rule(&mut part, way, (depth, rule));
        }
        part.unlimited = false;
        if let Some(rule) = way.walk.end() {
            self.rule(&mut part, way, (way.path.len(), rule));
            part.unlimited &= part.charges.is_empty();
        }
        part
    }

    /// The limits that a descriptor brings along, and the key of their counters.
    fn brought(
        &self,
        brought: BroughtLimits<'_>,
        path: &[(&str, &str)],
    ) -> (Key, SmallVec<[PlannedLimit<'p>; INLINE_CAP]>) {
        let planned = |limit| PlannedLimit::Brought(Arc::new(limit));
        match brought {
            BroughtLimits::Override(Override { amount, unit }) => {
                let limit = self.domain.override_limit((amount, unit), path);
                (override_key(self.domain, path), iter::once(planned(limit)).collect())
            }
            BroughtLimits::OfApiKey(id, limits) => {
                let limit = |limit: &ApiKeyLimit| {
                    let Rate { amount, window } = limit.rate;
                    planned(self.domain.api_key_limit((amount, window), &limit.label))
                };
                (Key::of_api_key(id), limits.iter().map(limit).collect())
            }
        }
    }

    /// Adds a rule at a depth of a descriptor's path: under the key of the request, or under the keys of the accounts
    /// of the caller's own limits.
    fn rule(
        &mut self,
        part: &mut DescriptorMatch<'p>,
        way: &Way<'_, 'p>,
        (depth, rule): (usize, &'p Rule),
    ) {
        let inherited = depth < way.path.len();
        let limits = rule.limits.iter().map(|limit| PlannedLimit::OfPolicy(limit));
        let limits: &SmallVec<[PlannedLimit<'p>; INLINE_CAP]> = &limits.collect();
        if limits.is_empty() {
            return;
        }
        let Way { hits, hits_source, .. } = *way;
        let rule_limits = RuleLimits {
            rule: Some(rule),
            limits,
            path: &way.path[..depth],
            account: None,
            hits,
            hits_source,
            inherited,
        };
        let caller = self.caller;
        let caller_key = self.domain.classes.caller_key.as_deref();
        let names_caller =
            |(key, value): &(&str, &str)| Some(*key) == caller_key && Some(*value) == caller.name;
        let place = way.path[..depth].iter().position(names_caller);
        let Some(place) = place.filter(|_| rule.of_caller && !caller.accounts.is_empty()) else {
            let key = self.domain.key(way.walk, way.path, depth);
            return self.add_limits(part, key, rule_limits);
        };
        let mut path: SmallVec<[(&str, &str); INLINE_CAP]> = way.path.into();
        for account in caller.accounts.iter().copied() {
            path[place].1 = caller.account_name(account);
            let key = self.domain.key(way.walk, &path, depth);
            self.add_limits(part, key, RuleLimits { account: Some(account), ..rule_limits });
        }
    }

    /// Adds limits under `key`.
    fn add_limits(
        &mut self,
        part: &mut DescriptorMatch<'p>,
        key: Key,
        rule_limits: RuleLimits<'_, 'p>,
    ) {
        let known = self.plan.batch.keys.len();
        let key_index = self.plan.batch.key_index(key);
        let first = self.plan.batch.charges.len();
        if key_index == known {
            self.charge(part, key_index, rule_limits);
        } else {
            self.tighten(part, key_index, rule_limits);
        }
        self.plan.requested.resize(self.plan.batch.charges.len(), RequestedHits::default());
        if self.plan.batch.charges.len() == first && key_index == known {
            self.plan.batch.keys.pop();
            return;
        }
        let charges = self.plan.batch.charges.iter().zip(&self.plan.limits);
        for (index, (charge, limit)) in charges.enumerate() {
            if charge.key_index == key_index {
                part.charges.push(index);
                let hits = cost(limit, self.request, rule_limits.hits);
                let asked = &mut self.plan.requested[index];
                asked.peeks |= rule_limits.hits == Hits::Spend(0);
                asked.add((hits, rule_limits.hits_source), rule_limits.inherited);
            }
        }
    }

    /// Adds charges for the limits of one rule; those of one mode are adjacent, as one group.
    fn charge(
        &mut self,
        part: &mut DescriptorMatch<'p>,
        key_index: usize,
        rule_limits: RuleLimits<'_, 'p>,
    ) {
        let origin = Origin { rule: rule_limits.rule, account: rule_limits.account };
        // A limit that a request brings along is not replaced by others.
        let counts = |limit: &&PlannedLimit<'_>| match limit {
            PlannedLimit::OfPolicy(limit) => self.replaced.binary_search(&&*limit.name).is_err(),
            PlannedLimit::Brought(_) => true,
        };
        let is_off = |limit: &&PlannedLimit<'_>| limit.mode == Mode::Off;
        let key = self.plan.batch.keys[key_index].as_str();
        let mut limits: SmallVec<[(Mode, &PlannedLimit<'p>); INLINE_CAP]> = rule_limits
            .limits
            .iter()
            .filter(|one| counts(one) && !is_off(one))
            .map(|limit| (self.mode(limit, key), limit))
            .collect();
        if let Some(notes) = &mut self.notes {
            let uncharged = rule_limits.limits.iter().filter(|one| !counts(one) || is_off(one));
            uncharged.for_each(|limit| {
                let why = if counts(&limit) { Uncharged::Off } else { Uncharged::Replaced };
                notes.uncharged(origin, limit, why);
            });
        }
        limits.sort_by_key(|(mode, _)| *mode);
        let last = self.plan.batch.charges.last();
        let mut group = last.map_or(0, |charge| charge.group + 1);
        let mut previous = None;
        for (mode, rule_limit) in limits {
            let limit = match self.limit(rule_limit, rule_limits.account) {
                Some(TierLimit::Limit(limit)) => limit,
                Some(TierLimit::Unlimited) => {
                    part.unlimited = true;
                    self.note(origin, rule_limit, Uncharged::Unlimited);
                    continue;
                }
                None => continue,
                Some(TierLimit::None) => {
                    part.has_none(mode, rule_limits.hits);
                    self.note(origin, rule_limit, Uncharged::NoAccess);
                    continue;
                }
            };
            group += usize::from(previous.is_some_and(|previous| previous != mode));
            previous = Some(mode);
            let bonuses = self.caller.bonuses(rule_limits.account, rule_limit, self.plan.at);
            let cap = self.caller.cap(rule_limits.path, rule_limit.index);
            self.plan.batch.charges.push(Charge {
                group,
                mode: self.plan.modes.charged(mode),
                open: self.open(rule_limits.rule, (rule_limit, cap), &limit),
                bonuses,
                lease: lease(rule_limits.rule, (rule_limit, cap)),
                on_outage: rule_limit.on_outage,
                ..Charge::plain(key_index, limit, Hits::Spend(0))
            });
            self.plan.limits.push(rule_limit.clone());
            self.plan.rules.push(rule_limits.rule);
            if let Some(notes) = &mut self.notes {
                notes.origins.push(origin);
            }
        }
        self.gauge(key_index, rule_limits.rule);
    }

    /// The mode of a limit for the caller: that of the limit, or a warning if it is enforced for others only.
    fn mode(&self, limit: &RuleLimit, key: &str) -> Mode {
        let is_enforced = limit.enforced.is_none() || self.is_enforced(limit.enforced, key);
        if is_enforced { limit.mode } else { Mode::Warn }
    }

    /// Whether the caller, or the counter of a request that names none, is among that part of all.
    fn is_enforced(&self, share: Option<Share>, key: &str) -> bool {
        share.is_none_or(|share| share.takes(self.caller.name.unwrap_or(key)))
    }

    fn note(&mut self, origin: Origin<'p>, limit: &PlannedLimit<'p>, why: Uncharged) {
        if let Some(notes) = &mut self.notes {
            notes.uncharged(origin, limit, why);
        }
    }

    /// A limit for the caller; None if it does not count at the account.
    fn limit(&self, rule_limit: &RuleLimit, account: Option<Account>) -> Option<TierLimit> {
        match account {
            Some(account) => self.caller.limit(account, rule_limit),
            None => Some(rule_limit.of_tier(self.caller.tier)),
        }
    }

    /// Two descriptors of one path bring different amounts along: the smaller one applies.
    fn tighten(
        &mut self,
        part: &mut DescriptorMatch<'p>,
        key_index: usize,
        rule_limits: RuleLimits<'_, 'p>,
    ) {
        let charges = self.plan.batch.charges.iter_mut().zip(&mut self.plan.limits);
        for (charge, known) in charges.filter(|(charge, _)| charge.key_index == key_index) {
            let same =
                rule_limits.limits.iter().find(|limit| limit.limit.tag() == charge.limit.tag());
            if let Some(limit) = same.filter(|limit| limit.limit.amount() < known.limit.amount()) {
                charge.limit = limit.limit.clone();
                *known = limit.clone();
            }
        }
        let tags = |limit: &&PlannedLimit<'_>| {
            let charges = self.plan.batch.charges.iter();
            let mut of_key = charges.filter(|charge| charge.key_index == key_index);
            !of_key.any(|charge| charge.limit.tag() == limit.limit.tag())
        };
        let new: SmallVec<[PlannedLimit<'p>; INLINE_CAP]> =
            rule_limits.limits.iter().filter(tags).cloned().collect();
        if !new.is_empty() {
            self.charge(part, key_index, RuleLimits { rule: None, limits: &new, ..rule_limits });
        }
    }
}

/// Whether hits of a limit may be taken ahead: only if all of it is open to everybody.
fn lease(rule: Option<&Rule>, (limit, cap): (&RuleLimit, Option<Scale>)) -> Lease {
    let is_whole =
        limit.adjust.is_none() && cap.is_none() && rule.is_none_or(|rule| rule.capacity.is_none());
    if is_whole { limit.lease } else { Lease::Off }
}

/// The cost of a request's hits under a limit.
fn cost(limit: &RuleLimit, request: &Request<'_>, hits: Hits) -> Hits {
    let Some(cost) = &limit.cost else { return hits };
    let of = |asked| cost.of(asked, |key| entry(request, key));
    match hits {
        Hits::Spend(asked) => Hits::Spend(of(asked)),
        Hits::GiveBack(asked) => Hits::GiveBack(of(asked)),
    }
}
