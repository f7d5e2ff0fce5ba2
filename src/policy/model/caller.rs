//! A caller as a directory knows it: its tier, parent, share, amounts and bonuses.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::limit::Bonus;

use super::share::Share;

/// How far parents are followed: a user, its workspace, its team, its company.
pub const PARENTS_MAX: usize = 3;

/// What a directory says of a caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The tier's name; a policy that has no such tier takes its default.
    pub tier: Option<String>,
    /// The caller that this one belongs to. It gives the tier where this one has none.
    pub parent: Option<String>,
    /// This caller's limits are so much of its parent's.
    pub share: Option<Share>,
    /// This caller spends from its parent's counters; with a share, at most so much of them.
    pub pool: bool,
    /// Labels for priorities and answers.
    pub roles: Vec<String>,
    /// Amounts instead of the policy's, by the limit's name.
    pub overrides: BTreeMap<String, u64>,
    pub bonuses: Vec<CallerBonus>,
    /// Nothing passes.
    pub disabled: bool,
    /// For people.
    pub notes: String,
}

/// A bonus of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerBonus {
    /// The name of the limit that it adds to.
    pub limit: String,
    pub bonus: Bonus,
}

/// A caller and those it belongs to, the nearest first; empty if the directory doesn't know the caller.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    pub members: SmallVec<[Member; 2]>,
    /// The directory did not answer, so the next of them is unknown.
    pub is_incomplete: bool,
}

impl Lineage {
    /// The parent that comes next; None at the end, where parents go round in a circle, and where there are
    /// too many.
    pub fn next(&self) -> Option<&str> {
        let parent = self.members.last()?.caller.parent.as_deref()?;
        let is_known = self.members.iter().any(|member| *member.name == *parent);
        (self.members.len() <= PARENTS_MAX && !is_known).then_some(parent)
    }

    /// The next of a lineage that begins with `caller`.
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
