//! The classes of callers: the entries for a caller's name and tier, and for the priority of a request.

use std::collections::BTreeMap;

/// The lowest and the highest priority.
pub const PRIORITY_MIN: u8 = 1;
pub const PRIORITY_MAX: u8 = 4;

/// The base priority if nothing sets one.
pub const PRIORITY_DEFAULT: u8 = 2;

/// The entries that identify callers, and their tiers and priorities. By default all callers are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// The key of the entry that names the caller.
    pub caller_key: Option<Box<str>>,
    /// Lowest first.
    pub tiers: Vec<Box<str>>,
    /// The key of the entry with the caller's tier.
    pub tier_key: Option<Box<str>>,
    /// The tier of callers without one.
    pub default_tier: usize,
    pub priority: Priority,
    /// Keys of entries that are not part of a path.
    pub qualifiers: Vec<Box<str>>,
}

/// Addends, by name.
pub type Addends = BTreeMap<Box<str>, i8>;

/// The rules for a request's priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priority {
    /// The key of an entry with the priority.
    pub key: Option<Box<str>>,
    pub default: u8,
    pub by_tier: Vec<i8>,
    pub by_role: Addends,
    /// By the value of the entry with this key.
    pub by_entry: Vec<(Box<str>, Addends)>,
    pub under_pressure: i8,
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
    /// The index of the tier with this name.
    pub fn tier(&self, name: &str) -> Option<usize> {
        self.tiers.iter().position(|tier| **tier == *name)
    }

    /// Whether entries with this key are not part of a path.
    pub fn qualifies(&self, key: &str) -> bool {
        self.qualifiers.iter().any(|qualifier| **qualifier == *key)
    }

    /// Whether any entry is not part of a path.
    pub fn has_qualifiers(&self) -> bool {
        !self.qualifiers.is_empty()
    }
}

impl Priority {
    /// The priority without pressure: the default plus the addends of the tier, the caller's roles and the entries.
    /// [`Priority::under`] limits it to the valid range.
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

    /// The highest priority that any request can have at a pressure level.
    pub(in crate::policy) fn most(&self, level: u8) -> u8 {
        let tables = self.by_entry.iter().map(|(_, table)| table.values().copied().max());
        let by_entry = tables.map(|most| i16::from(most.unwrap_or_default().max(0)));
        // A caller may have all of the roles.
        let by_role = self.by_role.values().map(|add| i16::from((*add).max(0)));
        let by_tier = self.by_tier.iter().copied().max().unwrap_or_default();
        let sum =
            i16::from(self.default) + i16::from(by_tier) + by_entry.chain(by_role).sum::<i16>();
        if self.key.is_some() { PRIORITY_MAX } else { self.under(sum, level) }
    }

    /// The priority at a pressure level, from 1 to 4.
    pub fn under(&self, sum: i16, level: u8) -> u8 {
        let sum = sum + i16::from(self.under_pressure) * i16::from(level);
        let cut = sum.clamp(PRIORITY_MIN.into(), PRIORITY_MAX.into());
        u8::try_from(cut).expect("it was cut to one digit")
    }
}

/// The priority in an entry's value, if it is valid.
pub fn parse_priority(text: &str) -> Option<u8> {
    text.parse().ok().filter(|priority| (PRIORITY_MIN..=PRIORITY_MAX).contains(priority))
}
