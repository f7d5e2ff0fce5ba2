//! What a policy file may say of callers of different worth, and of what they share.

use std::collections::BTreeMap;

use super::Named;
use super::map::{map, start_of};
use super::readers::{level, name_list, named, number, one, spanned_list, text, texts};
use crate::limit::AMOUNT_MAX;
use crate::policy::yaml::{Node, Reader, Spanned, Value};

/// The largest number that a priority is made of; what comes of it is cut to 1 to 4 anyway.
const ADDEND_MAX: i64 = 4;

map! {
    /// Who asks, and as what.
    pub struct CallerFile in "`caller`" requires ["key"];

    /// The key of the entry that names the caller.
    #[schemars(required)]
    key: Spanned<String> = text;
    /// Where the caller's tier comes from.
    tier: TierFile = one;
    /// Where the request's priority comes from.
    priority: PriorityFile = one;
}

map! {
    /// Where a caller's tier comes from: the entry, else the directory, else the default.
    pub struct TierFile in "`tier`";

    /// The key of an entry that says it.
    key: Spanned<String> = text;
    /// The tier of those of whom nothing is said; the lowest if absent.
    default: Spanned<String> = text;
}

map! {
    /// Where a request's priority comes from: 1 low, 2 medium, 3 high, 4 urgent.
    pub struct PriorityFile in "`priority`";

    /// The key of an entry that says it.
    key: Spanned<String> = text;
    /// The priority to start from where no entry says it; 2 if absent.
    default: Spanned<u64> = level;
    /// What is added: by `tier`, by `role`, or by the value of an entry with this key.
    #[schemars(with = "Option<BTreeMap<String, BTreeMap<String, i8>>>")]
    add: Named<Named<Spanned<i64>>> = add;
    /// What is added for each level of pressure; -1 subtracts one.
    under_pressure: Spanned<i64> = addend;
}

map! {
    /// How much of a rule's limits is open to whom.
    pub struct CapacityFile in "`capacity`";

    /// The last part of each limit is open to this tier and those above it only.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    reserve: Named<Spanned<String>> = texts;
    /// What holds once so much of a limit is used.
    pressure: Spanned<Vec<PressureFile>> = spanned_list;
}

map! {
    /// A level of pressure. What a level says holds at the levels above it too, unless they ask for more still.
    pub struct PressureFile in "a level of `pressure`" requires ["above"] at span;

    /// The use of any of the rule's limits above which it holds, such as 80%.
    #[schemars(required)]
    above: Spanned<String> = text;
    /// The use below which it ends; five percent points less if absent.
    until: Spanned<String> = text;
    /// How much of their own limits the callers of these tiers keep.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    scale: Named<Spanned<String>> = texts;
    /// Who passes at all.
    only: OnlyFile = one;
}

map! {
    /// Who passes: whoever one of these holds for.
    pub struct OnlyFile in "`only`" checked by check_only;

    /// Callers of these tiers.
    tier: Vec<Spanned<String>> = name_list;
    /// Requests of this priority or a higher one.
    priority: Spanned<u64> = level;
}

map! {
    /// What a request costs: the first line that fits it says it.
    pub struct CostFile in "a cost" requires ["hits"];

    /// Entries that the request must have, in any of its descriptors; none if absent.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    when: Named<Spanned<String>> = texts;
    /// How many hits it costs, or how much money, such as 0.35 EUR.
    #[schemars(required)]
    hits: Spanned<String> = text;
    /// For so many of the request's own hits; in all if absent.
    per: Spanned<u64> = number::<AMOUNT_MAX>;
}

fn check_only(file: &OnlyFile, reader: &mut Reader<'_>, node: &Node) {
    // What stands there instead has been noted.
    let Value::Map(entries) = &node.value else { return };
    let no_tier = entries.is_empty() || file.tier.as_ref().is_some_and(Vec::is_empty);
    if node.get("priority").is_none() && no_tier {
        reader.error(start_of(node), "`only` is empty; add `tier`, `priority` or both");
    }
}

fn addend(reader: &mut Reader<'_>, node: &Node, _: &str) -> Option<Spanned<i64>> {
    reader.integer(node, "an addend must be a whole number", -ADDEND_MAX..=ADDEND_MAX)
}

/// Tables of addends.
fn add(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Named<Named<Spanned<i64>>>> {
    let addend = |reader: &mut Reader<'_>, node: &Node| addend(reader, node, "");
    let table = |reader: &mut Reader<'_>, node: &Node| {
        Some(named(reader, node, "a table of `add`", addend))
    };
    Some(named(reader, node, what, table))
}
