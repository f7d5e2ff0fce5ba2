//! What a request asks of the store: which limits it meets, under which keys, for how many hits.

use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::limit::Hits;
use crate::limit::Limit;
use crate::policy::Domain;
use crate::policy::Key;
use crate::policy::Level;
use crate::policy::Mode;
use crate::policy::Only;
use crate::policy::Path;
use crate::policy::Rule;
use crate::policy::RuleLimit;
use crate::policy::TierLimit;
use crate::policy::Walk;
use crate::store::Batch;
use crate::store::Charge;
use crate::store::FEW;
use crate::store::Gauge;
use crate::store::Mark;
use crate::store::Open;
use crate::store::Pressed;

use super::Descriptor;
use super::Request;
use super::asker::Account;
use super::asker::Asker;
use super::asker::entry;

/// What a request asks of the store, and what each part of it is for.
#[derive(Debug, Default)]
pub struct Plan<'p> {
    pub batch: Batch,
    /// The limit of each charge of the batch.
    pub limits: SmallVec<[Arc<RuleLimit>; FEW]>,
    /// The rule of each gauge of the batch.
    pub gauges: SmallVec<[&'p Rule; 1]>,
    /// One for each descriptor, in order.
    pub descriptors: SmallVec<[Part<'p>; FEW]>,
    /// Nothing is to be charged, because the caller may not pass whatever the limits say.
    pub denial: Option<Denial>,
    /// What is asked of each charge of the batch.
    asked: SmallVec<[Asked; FEW]>,
    /// Whether each charge is of a limit of the caller's own.
    of_caller: SmallVec<[bool; FEW]>,
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
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    spent: u64,
    given_back: u64,
}

impl Asked {
    fn add(&mut self, hits: Hits, inherited: bool) {
        let sum = if inherited { &mut self.inherited } else { &mut self.own };
        let amount = hits.amount();
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
    pub fn new(
        domain: &'p Domain,
        request: &Request<'_>,
        asker: &Asker<'_>,
        modes: ModeSettings,
    ) -> Self {
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
        let replaced: HashSet<&str> =
            ends.flat_map(|rule| rule.replaces.iter().map(String::as_str)).collect();

        let mut plan = Self::default();
        let mut builder = Builder { plan: &mut plan, domain, request, asker, replaced, modes };
        for ((descriptor, path), walk) in request.descriptors().iter().zip(&paths).zip(&walks) {
            let way = Way { walk, path, hits: descriptor.hits };
            let part = builder.part(descriptor, &way);
            builder.plan.descriptors.push(part);
        }
        builder.press();
        let spends = |part: &Descriptor<'_>| matches!(part.hits, Hits::Spend(_));
        let denied = plan.descriptors.iter().any(|part| part.denied);
        plan.denial = if asker.is_disabled() && request.descriptors().iter().any(spends) {
            plan.descriptors.iter_mut().for_each(|part| part.denied = true);
            Some(Denial::Disabled)
        } else {
            denied.then_some(Denial::NoAccess)
        };
        for (charge, asked) in plan.batch.charges.iter_mut().zip(&plan.asked) {
            charge.hits = asked.hits();
        }
        plan
    }
}

/// A descriptor's way through the policy.
struct Way<'w, 'p> {
    walk: &'w Walk<'p>,
    path: &'w [(&'w str, &'w str)],
    hits: Hits,
}

/// The key of the limit that a descriptor brings along.
fn override_key(domain: &Domain, path: &[(&str, &str)]) -> Key {
    let mut key = Key::of_override(&domain.name);
    path.iter().for_each(|(name, value)| key.push_value(name, value));
    key.finish()
}

struct Builder<'b, 'p, 'r> {
    plan: &'b mut Plan<'p>,
    domain: &'p Domain,
    request: &'r Request<'r>,
    asker: &'r Asker<'r>,
    /// Names of limits that don't count in this request.
    replaced: HashSet<&'p str>,
    modes: ModeSettings,
}

/// Limits of one rule that a descriptor meets.
#[derive(Clone, Copy)]
struct Met<'a, 'p> {
    /// None for a limit that the request brings along.
    rule: Option<&'p Rule>,
    limits: &'a [Arc<RuleLimit>],
    /// Whose counter it is, if it is the caller's own and a directory knows the caller.
    account: Option<Account>,
    hits: Hits,
    /// The descriptor passes through the rule on its way.
    inherited: bool,
}

impl<'p> Builder<'_, 'p, '_> {
    /// What a descriptor meets on its way.
    fn part(&mut self, descriptor: &Descriptor<'_>, way: &Way<'_, 'p>) -> Part<'p> {
        let mut part = Part { rule: way.walk.end(), ..Part::default() };
        if let Some(brought) = descriptor.limit {
            let limit = Arc::new(self.domain.override_limit(brought.amount, brought.unit));
            let key = override_key(self.domain, way.path);
            let limits = &[limit];
            let met = Met { rule: None, limits, account: None, hits: way.hits, inherited: false };
            self.meet(&mut part, key, met);
        }
        for rule in way.walk.steps() {
            let spends = matches!(way.hits, Hits::Spend(_));
            let outside = |only: &Only| !only.admits(self.asker.tier, self.asker.priority(0));
            part.denied |= spends && rule.only.as_ref().is_some_and(outside);
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

    /// Notes that a descriptor meets a rule at a depth of its way: under the request's own key, or under
    /// those of the accounts that a caller's limits are spent from.
    fn rule(&mut self, part: &mut Part<'p>, way: &Way<'_, 'p>, (depth, rule): (usize, &'p Rule)) {
        let inherited = depth < way.path.len();
        let limits = rule.limits.as_slice();
        let met = Met { rule: Some(rule), limits, account: None, hits: way.hits, inherited };
        let asker = self.asker;
        let caller_key = self.domain.classes.caller_key.as_deref();
        let names_caller =
            |(key, value): &(&str, &str)| Some(*key) == caller_key && Some(*value) == asker.name;
        let place = way.path[..depth].iter().position(names_caller);
        let Some(place) = place.filter(|_| rule.of_caller && !asker.accounts.is_empty()) else {
            let key = self.domain.key(way.walk, way.path, depth);
            return self.meet(part, key, met);
        };
        let mut path: SmallVec<[(&str, &str); FEW]> = way.path.into();
        for account in asker.accounts.iter().copied() {
            path[place].1 = asker.account_name(account);
            let key = self.domain.key(way.walk, &path, depth);
            self.meet(part, key, Met { account: Some(account), ..met });
        }
    }

    /// Notes that a descriptor meets limits under `key`.
    fn meet(&mut self, part: &mut Part<'p>, key: Key, met: Met<'_, 'p>) {
        let known = self.plan.batch.keys.len();
        let key_index = self.plan.batch.key_index(key);
        let first = self.plan.batch.charges.len();
        if key_index == known {
            self.charge(part, key_index, met);
        } else {
            self.tighten(part, key_index, met);
        }
        self.plan.asked.resize(self.plan.batch.charges.len(), Asked::default());
        if self.plan.batch.charges.len() == first && key_index == known {
            self.plan.batch.keys.pop();
            return;
        }
        let charges = self.plan.batch.charges.iter().zip(&self.plan.limits);
        for (index, (charge, limit)) in charges.enumerate() {
            if charge.key_index == key_index {
                part.charges.push(index);
                let hits = cost(limit, self.request, met.hits);
                self.plan.asked[index].add(hits, met.inherited);
            }
        }
    }

    /// Adds charges for the limits of one rule, those of one mode side by side as one group.
    fn charge(&mut self, part: &mut Part<'p>, key_index: usize, met: Met<'_, 'p>) {
        let counts = |limit: &&Arc<RuleLimit>| !self.replaced.contains(&*limit.name);
        let mut limits: SmallVec<[&Arc<RuleLimit>; FEW]> =
            met.limits.iter().filter(counts).collect();
        limits.sort_by_key(|limit| limit.mode);
        let last = self.plan.batch.charges.last();
        let mut group = last.map_or(0, |charge| charge.group + 1);
        let mut previous = None;
        for rule_limit in limits {
            let limit = match self.limit(rule_limit, met.account) {
                Some(TierLimit::Limit(limit)) => limit,
                Some(TierLimit::Unlimited) => {
                    part.unlimited = true;
                    continue;
                }
                None => continue,
                Some(TierLimit::None) => {
                    let enforced = rule_limit.mode != Mode::Shadow;
                    part.denied |= enforced && matches!(met.hits, Hits::Spend(_));
                    continue;
                }
            };
            group += usize::from(previous.is_some_and(|previous| previous != rule_limit.mode));
            previous = Some(rule_limit.mode);
            let bonuses = met.account.map(|account| self.asker.bonuses(account, rule_limit));
            self.plan.batch.charges.push(Charge {
                key_index,
                group,
                mode: self.modes.charged(rule_limit.mode),
                open: self.open(met.rule, &limit),
                limit,
                hits: Hits::Spend(0),
                bonuses: bonuses.unwrap_or_default(),
            });
            self.plan.limits.push(rule_limit.clone());
            self.plan.of_caller.push(met.rule.is_some_and(|rule| rule.of_caller));
        }
        self.gauge(key_index, met.rule);
    }

    /// A limit as it is for who asks; None if it isn't counted at the account.
    fn limit(&self, rule_limit: &RuleLimit, account: Option<Account>) -> Option<TierLimit> {
        match account {
            Some(account) => self.asker.limit(account, rule_limit),
            None => Some(rule_limit.of_tier(self.asker.tier)),
        }
    }

    /// How much of a rule's limit is open to who asks.
    fn open(&self, rule: Option<&Rule>, limit: &Limit) -> Open {
        match rule.and_then(|rule| rule.capacity.as_ref()) {
            None => Open::all(),
            Some(capacity) => {
                let hits = capacity.open(self.asker.tier, limit.capacity());
                Open { hits, ..Open::all() }
            }
        }
    }

    /// Has the level of pressure told by the charges under a key, if the rule has any.
    fn gauge(&mut self, key_index: usize, rule: Option<&'p Rule>) {
        let Some(rule) = rule else { return };
        let Some(capacity) = rule.capacity.as_ref().filter(|one| !one.levels.is_empty()) else {
            return;
        };
        let mut marks = SmallVec::new();
        let charges = self.plan.batch.charges.iter().enumerate();
        for (charge, told) in charges.filter(|(_, charge)| charge.key_index == key_index) {
            for (number, level) in (1..).zip(&capacity.levels) {
                let whole = told.limit.capacity();
                let (rise, fall) = (level.above.of(whole), level.until.of(whole));
                marks.push(Mark { charge, level: number, rise, fall });
            }
        }
        if !marks.is_empty() {
            self.plan.batch.gauges.push(Gauge { key_index, marks });
            self.plan.gauges.push(rule);
        }
    }

    /// Says what each gauge leaves open of the charges that it presses: of the limits under its own key
    /// nothing to those who don't pass, of the caller's own limits the part that its tier keeps.
    fn press(&mut self) {
        let gauges = self.plan.batch.gauges.iter().zip(&self.plan.gauges).enumerate();
        for (gauge, (Gauge { key_index, .. }, rule)) in gauges {
            let Some(capacity) = &rule.capacity else { continue };
            let charges = self.plan.batch.charges.iter_mut().zip(&self.plan.of_caller);
            for (charge, of_caller) in charges {
                let whole = charge.limit.capacity().min(charge.open.hits);
                let levels = (1..).zip(&capacity.levels);
                let mut least = whole;
                let mut open = |hits: u64| {
                    least = least.min(hits);
                    least
                };
                let hits: SmallVec<[u64; 2]> = if charge.key_index == *key_index {
                    let passes = |number, level: &Level| {
                        let priority = self.asker.priority(number);
                        let admits = |only: &Only| only.admits(self.asker.tier, priority);
                        level.only.as_ref().is_none_or(admits)
                    };
                    let hits = |(number, level)| if passes(number, level) { whole } else { 0 };
                    levels.map(|level| open(hits(level))).collect()
                } else if *of_caller {
                    let tier = self.asker.tier;
                    levels.map(|(_, level)| open(level.keeps(tier).of(whole))).collect()
                } else {
                    continue;
                };
                if hits.iter().any(|open| *open < whole) {
                    charge.open.pressed.push(Pressed { gauge, hits });
                }
            }
        }
    }

    /// Two descriptors of one path that bring different amounts along: the smaller one holds.
    fn tighten(&mut self, part: &mut Part<'p>, key_index: usize, met: Met<'_, 'p>) {
        let charges = self.plan.batch.charges.iter_mut().zip(&mut self.plan.limits);
        for (charge, known) in charges.filter(|(charge, _)| charge.key_index == key_index) {
            let same = met.limits.iter().find(|limit| limit.limit.tag() == charge.limit.tag());
            if let Some(limit) = same.filter(|limit| limit.limit.amount() < known.limit.amount()) {
                charge.limit = limit.limit.clone();
                *known = limit.clone();
            }
        }
        let tags = |limit: &&Arc<RuleLimit>| {
            let charges = self.plan.batch.charges.iter();
            let mut of_key = charges.filter(|charge| charge.key_index == key_index);
            !of_key.any(|charge| charge.limit.tag() == limit.limit.tag())
        };
        let new: SmallVec<[Arc<RuleLimit>; FEW]> =
            met.limits.iter().filter(tags).cloned().collect();
        if !new.is_empty() {
            self.charge(part, key_index, Met { rule: None, limits: &new, ..met });
        }
    }
}

/// What a request's hits cost under a limit.
fn cost(limit: &RuleLimit, request: &Request<'_>, hits: Hits) -> Hits {
    let Some(cost) = &limit.cost else { return hits };
    let of = |asked| cost.of(asked, |key| entry(request, key));
    match hits {
        Hits::Spend(asked) => Hits::Spend(of(asked)),
        Hits::GiveBack(asked) => Hits::GiveBack(of(asked)),
    }
}
