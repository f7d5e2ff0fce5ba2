//! Who asks, by the documentation: the tier, the priority, and whose limits are spent.

use std::collections::BTreeMap;

use super::ledger::Form;
use super::people::{People, Person};
use super::world::{Ask, Change, Enforcement, Limit, Mode, Only, Priority, Tiered, WHOLE, World};

/// The least part of all callers that each is among.
pub type Parts = BTreeMap<String, u64>;

/// So much of a whole, rounded down.
pub fn part_of(share: u64, whole: u64) -> u64 {
    whole * share / WHOLE
}

/// The value of the first entry with that key, in any descriptor.
pub fn value_of<'a>(ask: &'a Ask, key: &str) -> Option<&'a str> {
    let entries = ask.parts.iter().flat_map(|part| &part.entries);
    entries.into_iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// Who asks.
pub struct Who<'w> {
    world: &'w World,
    name: Option<&'w str>,
    parts: &'w Parts,
    /// The caller and those it belongs to, as the directory knows them.
    pub line: Vec<(&'w str, &'w Person)>,
    pub tier: usize,
    said_priority: Option<i64>,
    sum: i64,
    under_pressure: i64,
}

/// What a limit is for somebody.
pub enum Allowance {
    Counted(Form),
    /// It is counted elsewhere.
    Elsewhere,
    None,
    Unlimited,
}

impl<'w> Who<'w> {
    pub fn new((world, people): (&'w World, &'w People), ask: &'w Ask, parts: &'w Parts) -> Self {
        let caller = world.caller.as_ref();
        let name = caller.and_then(|caller| value_of(ask, &caller.key));
        let mut line = Vec::new();
        let mut next = name;
        while let Some((name, person)) = next.and_then(|name| people.get_key_value(name)) {
            line.push((name.as_str(), person));
            next = person.parent.as_deref();
        }
        let (said_priority, sum, under_pressure) = (None, 2, 0);
        let mut who =
            Self { world, name, parts, line, tier: 0, said_priority, sum, under_pressure };
        let said_tier = caller
            .and_then(|caller| caller.tier_key.as_ref())
            .and_then(|key| who.tier_named(value_of(ask, key)?));
        who.tier = said_tier.unwrap_or_else(|| who.known_tier(0));
        if let Some(priority) = caller.and_then(|caller| caller.priority.as_ref()) {
            who.add_up(priority, ask);
        }
        who
    }

    fn add_up(&mut self, priority: &Priority, ask: &Ask) {
        let said = priority.key.as_ref().and_then(|key| value_of(ask, key)?.parse().ok());
        self.said_priority = said.filter(|said| (1..=4).contains(said));
        self.sum = priority.default.unwrap_or(2);
        self.under_pressure = priority.under_pressure.unwrap_or(0);
        for (what, table) in &priority.add {
            let names: Vec<&str> = match what.as_str() {
                "tier" => self.tier_name().into_iter().collect(),
                "role" => self.roles().iter().map(String::as_str).collect(),
                key => value_of(ask, key).into_iter().collect(),
            };
            self.sum += names.iter().filter_map(|name| table.get(*name)).sum::<i64>();
        }
    }

    /// From 1 to 4, at a level of pressure.
    pub fn priority(&self, level: usize) -> i64 {
        let under = self.under_pressure * i64::try_from(level).unwrap();
        self.said_priority.unwrap_or((self.sum + under).clamp(1, 4))
    }

    pub fn tier_name(&self) -> Option<&'w str> {
        self.world.tiers.get(self.tier).map(String::as_str)
    }

    /// Whom something may be reserved for.
    pub fn tiers_above(&self) -> &'w [String] {
        self.world.tiers.get(self.tier + 1..).unwrap_or_default()
    }

    pub fn roles(&self) -> &'w [String] {
        self.line.first().map_or(&[], |(_, person)| &person.roles)
    }

    /// The mode of what is enforced so, for the caller.
    pub fn mode(&self, said: Enforcement) -> Mode {
        let least = self.parts.get(self.name.unwrap_or_default());
        let is_among = said.share.is_none_or(|share| least.is_some_and(|least| *least <= share));
        if is_among { said.mode } else { Mode::Warn }
    }

    pub fn is_disabled(&self) -> bool {
        self.line.iter().any(|(_, person)| person.disabled)
    }

    /// Whether one of those who pass.
    pub fn is_among(&self, only: &Only, level: usize) -> bool {
        only.tiers.iter().any(|tier| Some(tier.as_str()) == self.tier_name())
            || only.priority.is_some_and(|least| least <= self.priority(level))
    }

    /// Members of the line whose counters the caller's own limits are spent from: itself, and whom it pools with.
    pub fn accounts(&self) -> usize {
        let pools = |index: usize| self.line[index].1.pool && index + 1 < self.line.len();
        let pooling = (0..self.line.len()).take_while(|index| pools(*index)).count();
        self.line.len().min(pooling + 1)
    }

    /// What a limit is for a member of the line; one that pools has it only if it has a part of its own.
    pub fn allowance(&self, member: usize, limit: &Limit) -> Allowance {
        let (_, person) = self.line[member];
        let has_own = person.share.is_some() || self.overridden(member, limit).is_some();
        if member + 1 < self.accounts() && !has_own {
            return Allowance::Elsewhere;
        }
        self.of_member(member, limit)
    }

    fn overridden(&self, member: usize, limit: &Limit) -> Option<u64> {
        let name = limit.name.as_ref()?;
        self.line[member].1.overrides.get(name).copied()
    }

    fn of_member(&self, member: usize, limit: &Limit) -> Allowance {
        let tier = if member == 0 { self.tier } else { self.known_tier(member) };
        let of_tier = of_tier(self.world, limit, tier);
        if let Some(amount) = self.overridden(member, limit) {
            let form = match of_tier {
                Allowance::Counted(form) => form,
                _ => form(self.world, limit, (tier, base(limit))),
            };
            return Allowance::Counted(form.given(amount));
        }
        match self.line[member].1.share.filter(|_| member + 1 < self.line.len()) {
            None => of_tier,
            Some(share) => match self.of_member(member + 1, limit) {
                Allowance::Counted(form) => Allowance::Counted(form.part(share)),
                other => other,
            },
        }
    }

    fn tier_named(&self, name: &str) -> Option<usize> {
        self.world.tiers.iter().position(|tier| tier == name)
    }

    /// The tier of the nearest of whom the directory says one that the policy has.
    fn known_tier(&self, member: usize) -> usize {
        let said = self.line[member.min(self.line.len())..].iter();
        let mut said = said.filter_map(|(_, person)| self.tier_named(person.tier.as_ref()?));
        let default = self.world.caller.as_ref().and_then(|caller| caller.default_tier);
        said.next().or(default).unwrap_or(0)
    }
}

/// A limit as it is for a tier.
pub fn of_tier(world: &World, limit: &Limit, tier: usize) -> Allowance {
    let amount = match limit.by_tier.get(tier) {
        None => base(limit),
        Some(Tiered::None) => return Allowance::None,
        Some(Tiered::Unlimited) => return Allowance::Unlimited,
        Some(Tiered::Rate(amount)) => *amount,
        Some(Tiered::Unsaid) => limit.rate.unwrap(),
    };
    Allowance::Counted(form(world, limit, (tier, amount)))
}

/// The amount of a limit for those of whom nothing else is said: its own rate, or that of the first tier that has one.
pub fn base(limit: &Limit) -> u64 {
    let of_tiers = limit.by_tier.iter().find_map(|said| match said {
        Tiered::Rate(amount) => Some(*amount),
        _ => None,
    });
    limit.rate.or(of_tiers).unwrap()
}

/// A limit of an amount for a tier, with what becomes of it at times.
fn form(world: &World, limit: &Limit, (tier, amount): (usize, u64)) -> Form {
    let mut form = Form::new((limit.algorithm, limit.window), base(limit));
    form.burst = limit.burst.unwrap_or(form.amount);
    let mut form = form.with_amount(amount);
    for when in &limit.when {
        let condition = when.during.map_or(&when.own, |index| &world.schedules[index].1);
        let change = match (when.by_tier.get(&tier), when.change) {
            (Some(parts), Change::Scale(_)) => Some(Change::Scale(*parts)),
            (Some(amount), Change::Rate(_)) => Some(Change::Rate(*amount)),
            (None, change) => Some(change).filter(|_| when.by_tier.is_empty()),
        };
        form.when.extend(change.map(|change| (condition.clone(), change)));
    }
    form
}
