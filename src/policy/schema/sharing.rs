//! What a policy file may say of callers of different worth, and of what they share.

use std::collections::BTreeMap;
use std::ops::Range;

use schemars::JsonSchema;

use crate::policy::yaml::Spanned;

/// Requests that may wait for one counter, at most.
pub const QUEUE_MAX: u64 = 100_000;

/// Texts by name, in the order of the file.
pub type Named<T> = Vec<(Spanned<String>, T)>;

/// Who asks, and as what.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CallerFile {
    /// The key of the entry that names the caller.
    #[schemars(required)]
    pub key: Option<Spanned<String>>,
    /// Where the caller's tier comes from.
    pub tier: Option<TierFile>,
    /// Where the request's priority comes from.
    pub priority: Option<PriorityFile>,
}

/// Where a caller's tier comes from: the entry, else the directory, else the default.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TierFile {
    /// The key of an entry that says it.
    pub key: Option<Spanned<String>>,
    /// The tier of those of whom nothing is said; the lowest if absent.
    pub default: Option<Spanned<String>>,
}

/// Where a request's priority comes from: 1 low, 2 medium, 3 high, 4 urgent.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PriorityFile {
    /// The key of an entry that says it.
    pub key: Option<Spanned<String>>,
    /// The priority to start from where no entry says it; 2 if absent.
    pub default: Option<Spanned<u64>>,
    /// What is added: by `tier`, by `role`, or by the value of an entry with this key.
    #[schemars(with = "Option<BTreeMap<String, BTreeMap<String, i8>>>")]
    pub add: Option<Named<Named<Spanned<i64>>>>,
    /// What is added for each level of pressure; -1 subtracts one.
    pub under_pressure: Option<Spanned<i64>>,
}

/// How much of a rule's limits is open to whom.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CapacityFile {
    /// The last part of each limit is open to this tier and those above it only.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub reserve: Option<Named<Spanned<String>>>,
    /// What holds once so much of a limit is used.
    pub pressure: Option<Spanned<Vec<PressureFile>>>,
}

/// A level of pressure. What a level says holds at the levels above it too, unless they ask for more still.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PressureFile {
    /// The use of any of the rule's limits above which it holds, such as 80%.
    #[schemars(required)]
    pub above: Option<Spanned<String>>,
    /// The use below which it ends; five percent points less if absent.
    pub until: Option<Spanned<String>>,
    /// How much of their own limits the callers of these tiers keep.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub scale: Option<Named<Spanned<String>>>,
    /// Who passes at all.
    pub only: Option<OnlyFile>,
    /// Where it stands.
    #[schemars(skip)]
    pub span: Range<usize>,
}

/// Who passes: whoever one of these holds for.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct OnlyFile {
    /// Callers of these tiers.
    pub tier: Option<Vec<Spanned<String>>>,
    /// Requests of this priority or a higher one.
    pub priority: Option<Spanned<u64>>,
}

/// What a request costs: the first line that fits it says it.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CostFile {
    /// Entries that the request must have, in any of its descriptors; none if absent.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub when: Option<Named<Spanned<String>>>,
    /// How many hits it costs, or how much money, such as 0.35 EUR.
    #[schemars(required)]
    pub hits: Option<Spanned<String>>,
    /// For so many of the request's own hits; in all if absent.
    pub per: Option<Spanned<u64>>,
}

/// Waiting for capacity instead of refusing.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct WaitFile {
    /// The longest wait, such as 2s.
    #[schemars(required)]
    pub up_to: Option<Spanned<String>>,
    /// How many requests may wait for one counter; 1000 if absent.
    pub queue: Option<Spanned<u64>>,
}
