//! Which limits a request meets, by the documentation.

use super::bonuses::Gift;
use super::holdings::{ACTION_KEY, Acting, Action, ID_KEY};
use super::ledger::Form;
use super::people::Bonus;
use super::schedule::Schedules;
use super::who::{Allowance, Who, base, of_tier, value_of};
use super::world::{
    Ask, AskPart, Condition, CostTable, Enforcement, Grace, Limit, Mode, Rule, Value, World,
};

/// A limit that a request meets.
#[derive(Clone)]
pub struct Charge<'w> {
    /// Its place among those of the request.
    pub index: usize,
    /// Names the counter, with `tag`.
    pub path: String,
    pub tag: String,
    pub rule: &'w Rule,
    pub limit: &'w Limit,
    pub label: String,
    pub mode: Mode,
    pub grace: Option<Grace>,
    pub thresholds: Vec<u64>,
    /// The limit as it is now.
    pub form: Form,
    /// As it is from when on, as far as a wait sees.
    pub forms: Vec<(u64, Form)>,
    /// Bonuses, in the order in which they are spent.
    pub gifts: Vec<Gift>,
    /// Whether the request takes what is left if that is less.
    pub partial: bool,
    /// For how long its rule holds hits for reservations, if it does.
    pub holding_ms: Option<u64>,
    /// What the request asks of reservations.
    pub acting: Option<Acting>,
    /// Whether it is the caller's own.
    pub of_caller: bool,
    pub strict: bool,
    /// What to spend, or, below zero, to give back.
    pub hits: i64,
    /// Whether any descriptor asks, and doesn't only give back.
    pub asks: bool,
    /// By descriptors that end there; spent and given back.
    ending: (i64, i64),
    /// By those that pass through.
    passing: (i64, i64),
}

/// What one descriptor meets.
#[derive(Default)]
pub struct Part {
    pub charges: Vec<usize>,
    pub denied: bool,
    /// It would be denied if that were enforced.
    pub warned: bool,
    /// It ends at limits, none of which is one for the caller.
    pub unlimited: bool,
}

impl Part {
    /// The caller has none of a limit in that mode, and asks for hits.
    fn has_none(&mut self, mode: Mode, hits: i64) {
        self.denied |= mode.refuses() && 0 <= hits;
        self.warned |= mode == Mode::Warn && 0 <= hits;
    }
}

pub struct Plan<'w> {
    world: &'w World,
    ask: &'w Ask,
    who: &'w Who<'w>,
    pub charges: Vec<Charge<'w>>,
    pub parts: Vec<Part>,
    now: u64,
}

/// A rule on the way of a descriptor.
struct Met<'w> {
    rule: &'w Rule,
    /// The rule's place in the policy.
    place: String,
    /// Entries that lead there, as what they count under.
    steps: Vec<(String, String)>,
    passing: bool,
}

impl Charge<'_> {
    /// Whether its hits have been used of what was held, or should have been.
    pub fn is_used(&self) -> bool {
        self.acting.as_ref().is_some_and(|acting| acting.action == Action::Settle)
    }

    /// The limit as it is at a time from now on.
    pub fn form_at(&self, at: u64) -> &Form {
        let begun = self.forms.iter().rfind(|(from, _)| *from <= at);
        begun.map_or(&self.form, |(_, form)| form)
    }

    fn find_forms(&mut self, schedules: &mut Schedules, now: u64) {
        if self.form.when.is_empty() {
            return;
        }
        let conditions: Vec<Condition> =
            self.form.when.iter().map(|(condition, _)| condition.clone()).collect();
        self.forms = self.form.over(&schedules.around(&conditions, now));
        self.form = self.form_at(now).clone();
    }
}

impl<'w> Plan<'w> {
    pub fn new(
        (world, ask): (&'w World, &'w Ask),
        who: &'w Who<'w>,
        (schedules, now): (&mut Schedules, u64),
    ) -> Self {
        let mut plan = Self { world, ask, who, charges: Vec::new(), parts: Vec::new(), now };
        for part in &ask.parts {
            let part = plan.part(part);
            plan.parts.push(part);
        }
        for charge in &mut plan.charges {
            let spent = charge.ending.0.max(charge.passing.0);
            charge.hits = spent - charge.ending.1.max(charge.passing.1);
            charge.find_forms(schedules, now);
            charge.acting = Acting::of(world, ask, charge);
            charge.partial &= 0 < charge.hits && charge.acting.is_none();
        }
        plan
    }

    /// Why nothing is asked of any limit, if so.
    pub fn denial(&self) -> Option<&'static str> {
        let spends = self.ask.parts.iter().any(|part| 0 <= part.hits);
        if self.who.is_disabled() && spends {
            return Some("disabled");
        }
        self.parts.iter().any(|part| part.denied).then_some("no_access")
    }

    fn part(&mut self, asked: &AskPart) -> Part {
        let mut part = Part::default();
        let path: Vec<&(String, String)> =
            asked.entries.iter().filter(|(key, _)| !self.is_qualifier(key)).collect();
        let mut way: Vec<Met<'w>> = Vec::new();
        let mut level = &self.world.rules;
        for (key, value) in path.iter().copied() {
            let Some(rule) = find(level, key, value) else { break };
            let (place, step) = match &rule.value {
                Value::Any => (key.clone(), value.clone()),
                Value::Exact(value) => (format!("{key}={value}"), value.clone()),
                Value::Prefix { prefix, shared: false } => {
                    (format!("{key}={prefix}*"), value.clone())
                }
                Value::Prefix { prefix, shared: true } => {
                    (format!("{key}={prefix}*"), format!("{prefix}*"))
                }
            };
            let (place, mut steps) = match way.last() {
                None => (place, Vec::new()),
                Some(above) => (format!("{}/{place}", above.place), above.steps.clone()),
            };
            steps.push((key.clone(), step));
            let passing = steps.len() < path.len();
            way.push(Met { rule, place, steps, passing });
            level = &rule.below;
        }
        for met in &way {
            let is_out = met.rule.only.as_ref().is_some_and(|only| !self.who.is_among(only, 0));
            let said = met.rule.mode.or(self.world.mode).unwrap_or(Enforcement::of(Mode::Enforce));
            let (mode, spends) = (self.who.mode(said), 0 <= asked.hits);
            part.denied |= is_out && spends && mode.refuses();
            part.warned |= is_out && spends && mode == Mode::Warn;
        }
        for met in way.iter().filter(|met| met.rule.cascade || !met.passing) {
            self.meet(&mut part, met, asked.hits);
            // Only what the rule at the end says of the caller counts.
            part.unlimited &= !met.passing;
        }
        part.unlimited &= part.charges.is_empty();
        part
    }

    fn is_qualifier(&self, key: &str) -> bool {
        let caller = self.world.caller.as_ref();
        let of_tier = caller.and_then(|caller| caller.tier_key.as_deref());
        let priority = caller.and_then(|caller| caller.priority.as_ref());
        let of_priority = priority.and_then(|priority| priority.key.as_deref());
        let of_retries = self.world.retries.as_ref().and_then(|retries| retries.key.as_deref());
        let of_reservations = self.world.has_holdings() && [ID_KEY, ACTION_KEY].contains(&key);
        of_reservations
            || self.world.qualifiers.iter().any(|name| name == key)
            || [of_tier, of_priority, of_retries].contains(&Some(key))
    }

    /// Meets a rule on each counter that it has for the caller.
    fn meet(&mut self, part: &mut Part, met: &Met<'w>, hits: i64) {
        let key = self.world.caller.as_ref().map(|caller| caller.key.as_str());
        let is_name = |(name, _): &(String, String)| Some(name.as_str()) == key;
        let of_caller = met.steps.iter().any(is_name);
        if !of_caller || self.who.line.is_empty() {
            return self.meet_on(part, met, (None, hits));
        }
        for member in 0..self.who.accounts() {
            self.meet_on(part, met, (Some(member), hits));
        }
    }

    /// Names a counter: the way to it, with the member's name for the caller's.
    fn path(&self, met: &Met<'w>, member: Option<usize>) -> String {
        let key = self.world.caller.as_ref().map(|caller| caller.key.as_str());
        let step = |(name, value): &(String, String)| match member {
            Some(member) if Some(name.as_str()) == key => {
                format!("{name}={}", self.who.line[member].0)
            }
            _ => format!("{name}={value}"),
        };
        let path: Vec<String> = met.steps.iter().map(step).collect();
        path.join("|")
    }

    /// The limits of a rule that are not off, each with its mode for the caller, in the order in which they are asked.
    fn in_order(&self, rule: &'w Rule) -> Vec<(Mode, &'w Limit)> {
        let mode = |limit| self.who.mode(self.world.enforcement(rule, limit));
        let limits = rule.limits.iter().map(|limit| (mode(limit), limit));
        let mut limits: Vec<(Mode, &'w Limit)> =
            limits.filter(|(mode, _)| *mode != Mode::Off).collect();
        limits.sort_by_key(|(mode, _)| *mode);
        limits
    }

    fn meet_on(&mut self, part: &mut Part, met: &Met<'w>, (member, hits): (Option<usize>, i64)) {
        let key = self.world.caller.as_ref().map(|caller| caller.key.as_str());
        let of_caller = met.steps.iter().any(|(name, _)| Some(name.as_str()) == key);
        let path = self.path(met, member);
        for (mode, limit) in self.in_order(met.rule) {
            let allowance = match member {
                None => of_tier(self.world, limit, self.who.tier),
                Some(member) => self.who.allowance(member, limit),
            };
            let overdraft = self.world.overdraft(met.rule, limit);
            let strict = self.world.enforcement(met.rule, limit).strict;
            let form = match allowance {
                Allowance::Counted(form) => form.overdrawn(overdraft),
                Allowance::Elsewhere => continue,
                Allowance::Unlimited => {
                    part.unlimited = true;
                    continue;
                }
                Allowance::None => {
                    part.has_none(mode, hits);
                    continue;
                }
            };
            let tag = tag(limit);
            let known = self.charges.iter().position(|one| one.path == path && one.tag == tag);
            let place = known.unwrap_or(self.charges.len());
            if known.is_none() {
                self.charges.push(Charge {
                    index: place,
                    path: path.clone(),
                    tag,
                    rule: met.rule,
                    limit,
                    label: label(&met.place, limit),
                    mode,
                    strict,
                    grace: self.world.grace(met.rule, limit),
                    thresholds: self.world.thresholds(met.rule, limit),
                    form,
                    forms: Vec::new(),
                    gifts: member
                        .map_or(Vec::new(), |member| gifts((self.who, self.now), member, limit)),
                    partial: limit.partial && mode == Mode::Enforce && !strict,
                    holding_ms: self.world.holding_ms(met.rule),
                    acting: None,
                    of_caller,
                    hits: 0,
                    asks: false,
                    ending: (0, 0),
                    passing: (0, 0),
                });
            }
            part.charges.push(place);
            let costs = limit.cost.map(|cost| &self.world.costs[cost]);
            let cost = costs.map_or(hits.abs(), |table| cost(table, self.ask, hits.abs()));
            let charge = &mut self.charges[place];
            charge.asks |= 0 <= hits;
            // Descriptors that end there add up; those that pass through are one request.
            let sums = if met.passing { &mut charge.passing } else { &mut charge.ending };
            let sum = if hits < 0 { &mut sums.1 } else { &mut sums.0 };
            *sum = if met.passing { cost.max(*sum) } else { cost + *sum };
        }
    }
}

/// The rule for an entry: exact, else the first prefix, else any.
fn find<'w>(level: &'w [Rule], key: &str, value: &str) -> Option<&'w Rule> {
    let rules = || level.iter().filter(|rule| rule.key == key);
    let exact = rules().find(|rule| matches!(&rule.value, Value::Exact(own) if own == value));
    let prefix = || {
        rules().find(
            |rule| matches!(&rule.value, Value::Prefix { prefix, .. } if value.starts_with(prefix)),
        )
    };
    exact.or_else(prefix).or_else(|| rules().find(|rule| rule.value == Value::Any))
}

/// Names a limit on a path by what an edit of its amount leaves alone: algorithm, window, and its name or else
/// its costs.
pub fn tag(limit: &Limit) -> String {
    let Limit { algorithm, window, name, cost, .. } = limit;
    match name {
        Some(name) => format!("{algorithm:?} {} {name}", window.text),
        None => format!("{algorithm:?} {} {cost:?}", window.text),
    }
}

/// What answers call a limit.
fn label(place: &str, limit: &Limit) -> String {
    let window = limit.window.text;
    match &limit.name {
        Some(name) => name.clone(),
        None if !limit.by_tier.is_empty() => format!("{place} by_tier/{window}"),
        None => format!("{place} {}/{window}", base(limit)),
    }
}

/// The bonuses of a member and of those below it in the line, as they are spent: the first to end, then by priority.
fn gifts((who, now): (&Who<'_>, u64), member: usize, limit: &Limit) -> Vec<Gift> {
    let mut gifts = Vec::new();
    for (owner, person) in &who.line[..=member] {
        let holds = |bonus: &&Bonus| {
            let has_begun = bonus.recurs.is_none_or(|recurs| recurs.from_ms <= now);
            Some(&bonus.limit) == limit.name.as_ref() && has_begun
        };
        gifts.extend(person.bonuses.iter().filter(holds).map(|bonus| Gift {
            owner: (*owner).to_owned(),
            id: bonus.id.clone(),
            amount: bonus.amount,
            until_ms: bonus.until_ms,
            priority: bonus.priority,
            recurs: bonus.recurs,
        }));
    }
    gifts.sort_by_key(|gift| (gift.ends(now), gift.priority));
    gifts
}

fn cost(table: &CostTable, ask: &Ask, asked: i64) -> i64 {
    let fits = |when: (&String, &String)| value_of(ask, when.0) == Some(when.1);
    let Some(line) = table.lines.iter().find(|line| line.when.iter().all(fits)) else {
        return asked;
    };
    let asked = u64::try_from(asked).unwrap();
    let cost = match line.per {
        _ if asked == 0 => 0,
        None => line.hits,
        Some(per) => (asked * line.hits).div_ceil(per),
    };
    i64::try_from(cost).unwrap()
}
