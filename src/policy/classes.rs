//! The classes of callers: the entries that name a caller, its tier, and the priority of a request.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use super::fields::Reader;
use super::fields::nearest;
use super::schema::CallerFile;
use super::schema::PolicyFile;
use super::schema::PriorityFile;
use super::schema::Spanned;

/// The lowest and the highest priority.
pub const PRIORITY_MIN: u8 = 1;
pub const PRIORITY_MAX: u8 = 4;

/// The priority to start from where nothing says another.
const PRIORITY_DEFAULT: u8 = 2;

/// Tiers of one policy: each has its own form of every limit that tells them apart.
const TIERS_MAX: usize = 32;

/// Who is asking, and as what. Without any of it, nobody is told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// The key of the entry that names the caller.
    pub caller_key: Option<Box<str>>,
    /// Lowest first.
    pub tiers: Vec<Box<str>>,
    /// The key of the entry that says the caller's tier.
    pub tier_key: Option<Box<str>>,
    /// The tier of those of whom nothing is said.
    pub default_tier: usize,
    pub priority: Priority,
    /// Keys of entries that are no part of a path.
    qualifiers: Vec<Box<str>>,
}

/// What is added, by name.
type Addends = BTreeMap<Box<str>, i8>;

/// How a request's priority is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priority {
    /// The key of an entry that says it.
    pub key: Option<Box<str>>,
    default: u8,
    by_tier: Vec<i8>,
    by_role: Addends,
    /// By the value of the entry with that key.
    by_entry: Vec<(Box<str>, Addends)>,
    under_pressure: i8,
}

impl Default for Priority {
    fn default() -> Self {
        Self {
            key: None,
            default: PRIORITY_DEFAULT,
            by_tier: Vec::new(),
            by_role: Addends::new(),
            by_entry: Vec::new(),
            under_pressure: 0,
        }
    }
}

impl Classes {
    /// What the file says.
    pub(super) fn new(reader: &mut Reader<'_>, file: &PolicyFile) -> Self {
        let mut classes = Self { tiers: tiers(reader, file), ..Self::default() };
        let none = CallerFile::default();
        let caller = file.caller.as_ref().unwrap_or(&none);
        let key = |key: &Option<Spanned<String>>| key.as_ref().map(|key| key.value.as_str().into());
        classes.caller_key = key(&caller.key);
        if let Some(tier) = &caller.tier {
            classes.tier_key = key(&tier.key);
            let default = tier.default.as_ref();
            classes.default_tier =
                default.and_then(|name| classes.tier_named(reader, name)).unwrap_or_default();
        }
        if let Some(priority) = &caller.priority {
            classes.priority = classes.priority(reader, priority);
        }
        let listed = file.qualifiers.iter().flat_map(|names| &names.value);
        let choices = file.choices.iter().flat_map(|choices| &choices.value);
        let latencies = choices.filter_map(|choice| choice.latency_key.as_ref());
        classes.qualifiers =
            listed.chain(latencies).map(|name| name.value.as_str().into()).collect();
        let own = [&classes.tier_key, &classes.priority.key];
        let own: Vec<Box<str>> = own.into_iter().flatten().cloned().collect();
        classes.qualifiers.extend(own);
        if let Some(key) = caller.key.as_ref().filter(|key| classes.qualifies(&key.value)) {
            let message = format!("`{}` names the caller; it can't be a qualifier too", key.value);
            reader.error(key.span.clone(), message);
        }
        classes
    }

    /// The index of the tier of that name.
    pub fn tier(&self, name: &str) -> Option<usize> {
        self.tiers.iter().position(|tier| **tier == *name)
    }

    /// Whether entries of that key are no part of a path.
    pub fn qualifies(&self, key: &str) -> bool {
        self.qualifiers.iter().any(|qualifier| **qualifier == *key)
    }

    /// Whether any entry is no part of a path.
    pub fn has_qualifiers(&self) -> bool {
        !self.qualifiers.is_empty()
    }

    /// The index of a tier that the file names, which must be there.
    pub(super) fn tier_named(
        &self,
        reader: &mut Reader<'_>,
        name: &Spanned<String>,
    ) -> Option<usize> {
        let index = self.tier(&name.value);
        if index.is_none() {
            let names: Vec<&str> = self.tiers.iter().map(|tier| &**tier).collect();
            let message = match (names.as_slice(), nearest(&name.value, &names)) {
                ([], _) => {
                    let message = format!("`{}` is no tier; the policy has no `tiers`", name.value);
                    reader.error_once(name.span.clone(), "no `tiers`", message);
                    return None;
                }
                (_, Some(meant)) => {
                    format!("`{}` is no tier; did you mean `{meant}`?", name.value)
                }
                _ => format!("`{}` is no tier; there are {}", name.value, names.join(", ")),
            };
            reader.error(name.span.clone(), message);
        }
        index
    }

    /// In the words of the policy; None if it tells nobody apart.
    pub(super) fn describe(&self) -> Option<Value> {
        if *self == Self::default() {
            return None;
        }
        let priority = &self.priority;
        Some(json!({
            "key": self.caller_key,
            "tier": { "key": self.tier_key, "default": self.tiers.get(self.default_tier) },
            "tiers": self.tiers,
            "qualifiers": self.qualifiers,
            "priority": {
                "key": priority.key,
                "default": priority.default,
                "add": { "tier": priority.by_tier, "role": priority.by_role, "entry": priority.by_entry },
                "under_pressure": priority.under_pressure,
            },
        }))
    }

    fn priority(&self, reader: &mut Reader<'_>, file: &PriorityFile) -> Priority {
        let mut priority = Priority {
            key: file.key.as_ref().map(|key| key.value.as_str().into()),
            default: file.default.as_ref().map_or(PRIORITY_DEFAULT, |one| clamp(one.value)),
            by_tier: vec![0; self.tiers.len()],
            under_pressure: file.under_pressure.as_ref().map_or(0, |one| addend(one.value)),
            ..Priority::default()
        };
        for (what, table) in file.add.iter().flatten() {
            let table = table.iter().map(|(name, add)| (name, addend(add.value)));
            match what.value.as_str() {
                "tier" => {
                    for (name, add) in table {
                        if let Some(tier) = self.tier_named(reader, name) {
                            priority.by_tier[tier] = add;
                        }
                    }
                }
                "role" => {
                    priority.by_role =
                        table.map(|(name, add)| (name.value.as_str().into(), add)).collect();
                }
                key => {
                    let table = table.map(|(name, add)| (name.value.as_str().into(), add));
                    priority.by_entry.push((key.into(), table.collect()));
                }
            }
        }
        priority
    }
}

impl Priority {
    /// What is said of the request before any pressure: the sum of what its tier, its caller's roles and
    /// its entries add to the default. [`Priority::under`] cuts it.
    pub fn sum<'a>(
        &self,
        tier: usize,
        roles: &[String],
        entry: impl Fn(&str) -> Option<&'a str>,
    ) -> i16 {
        let by_tier = self.by_tier.get(tier).copied().unwrap_or_default();
        let by_role = roles.iter().filter_map(|role| self.by_role.get(role.as_str()));
        let by_entry = self.by_entry.iter().filter_map(|(key, table)| table.get(entry(key)?));
        let added = by_role.chain(by_entry).map(|add| i16::from(*add));
        i16::from(self.default) + i16::from(by_tier) + added.sum::<i16>()
    }

    /// The highest priority that any request can have at a level of pressure.
    pub(super) fn most(&self, level: u8) -> u8 {
        let tables = self.by_entry.iter().map(|(_, table)| table.values().copied().max());
        let by_entry = tables.map(|most| i16::from(most.unwrap_or_default().max(0)));
        // A caller has as many roles as it is given.
        let by_role = self.by_role.values().map(|add| i16::from((*add).max(0)));
        let by_tier = self.by_tier.iter().copied().max().unwrap_or_default();
        let sum =
            i16::from(self.default) + i16::from(by_tier) + by_entry.chain(by_role).sum::<i16>();
        if self.key.is_some() { PRIORITY_MAX } else { self.under(sum, level) }
    }

    /// The priority at a level of pressure, from 1 to 4.
    pub fn under(&self, sum: i16, level: u8) -> u8 {
        let sum = sum + i16::from(self.under_pressure) * i16::from(level);
        let cut = sum.clamp(PRIORITY_MIN.into(), PRIORITY_MAX.into());
        u8::try_from(cut).expect("it was cut to one digit")
    }
}

/// The priority that an entry's value says, if it says one.
pub fn parse_priority(text: &str) -> Option<u8> {
    text.parse().ok().filter(|priority| (PRIORITY_MIN..=PRIORITY_MAX).contains(priority))
}

fn tiers(reader: &mut Reader<'_>, file: &PolicyFile) -> Vec<Box<str>> {
    let mut tiers: Vec<Box<str>> = Vec::new();
    let Some(names) = &file.tiers else { return tiers };
    if TIERS_MAX < names.value.len() {
        let count = names.value.len();
        let message = format!("a policy has at most {TIERS_MAX} tiers, but these are {count}");
        reader.error(names.span.clone(), message);
    }
    for name in names.value.iter().take(TIERS_MAX) {
        if name.value.is_empty() {
            reader.error(name.span.clone(), "a tier without a name");
        } else if tiers.iter().any(|tier| **tier == *name.value) {
            reader.error(name.span.clone(), format!("the tier `{}` occurs twice", name.value));
        } else {
            tiers.push(name.value.as_str().into());
        }
    }
    tiers
}

fn clamp(number: u64) -> u8 {
    u8::try_from(number).unwrap_or(PRIORITY_MAX).clamp(PRIORITY_MIN, PRIORITY_MAX)
}

fn addend(number: i64) -> i8 {
    i8::try_from(number).expect("the reader lets one digit pass")
}
