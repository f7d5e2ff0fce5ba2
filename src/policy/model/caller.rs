//! A caller in the directory: its tier, parent, share, amounts and bonuses.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::limit::Bonus;

use super::share::Share;

/// Maximum number of levels of callers: a user, its workspace, its team, its company.
pub const PARENTS_MAX: usize = 3;

/// The record of a caller in the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The name of the tier; if the policy has no such tier, the default applies.
    pub tier: Option<String>,
    /// The caller that this one belongs to. Its tier applies if this one has none.
    pub parent: Option<String>,
    /// The part of the parent's limits that this caller has.
    pub share: Option<Share>,
    /// This caller uses its parent's counters; with a share, at most that part of them.
    pub pool: bool,
    /// Labels for priorities and answers.
    pub roles: Vec<String>,
    /// What replaces the policy's amounts, by the limit's name.
    pub overrides: BTreeMap<String, CallerOverride>,
    pub bonuses: Vec<CallerBonus>,
    /// All requests are refused.
    pub disabled: bool,
    /// Comments.
    pub notes: String,
}

/// What replaces the policy's amount of a limit for a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerOverride {
    pub amount: OverrideAmount,
    /// None: it never ends.
    pub until: Option<Timestamp>,
}

/// The amount of an override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverrideAmount {
    Hits(u64),
    /// The amount of the tier with this name; the policy's amount if it has no such tier.
    Tier(String),
}

impl CallerOverride {
    /// Whether it applies at a time.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A bonus of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerBonus {
    /// The name of its limit.
    pub limit: String,
    pub bonus: Bonus,
}

/// A caller and its parents, nearest first; empty if the caller is unknown to the directory.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    pub members: SmallVec<[Member; 2]>,
    /// The directory did not answer, so the next parent is unknown.
    pub is_incomplete: bool,
}

impl Lineage {
    /// The next parent; None at the end, for cyclic parents, and beyond the maximum number of levels.
    pub fn next(&self) -> Option<&str> {
        let parent = self.members.last()?.caller.parent.as_deref()?;
        let is_known = self.members.iter().any(|member| *member.name == *parent);
        (self.members.len() <= PARENTS_MAX && !is_known).then_some(parent)
    }

    /// The next parent of a lineage that starts with `caller`.
    pub fn next_or(&self, caller: &str) -> Option<String> {
        let next = if self.members.is_empty() { Some(caller) } else { self.next() };
        next.map(str::to_owned)
    }
}

/// A caller with its name.
#[derive(Clone, Debug)]
pub struct Member {
    pub name: Arc<str>,
    pub caller: Arc<Caller>,
}
