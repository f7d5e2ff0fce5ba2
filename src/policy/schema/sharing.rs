//! The types of `caller`, `capacity`, `only` and `costs` in a policy file.

use std::collections::BTreeMap;

use super::Named;
use super::map::{map, start_of};
use super::readers::{level, name_list, named, number, one, spanned_list, text, texts};
use super::schedule::{ScheduleFile, TextsFile, check_condition, one_or_many, when};
use crate::limit::AMOUNT_MAX;
use crate::policy::yaml::{Node, Reader, Spanned, Value};

/// Maximum number that can be added to a priority. The sum is limited to 1 to 4.
const ADDEND_MAX: i64 = 4;

map! {
    /// The entries that identify the caller, its tier and its priority.
    pub struct CallerFile in "`caller`" requires ["key"];

    /// The key of the entry with the caller's name.
    #[schemars(required)]
    key: Spanned<String> = text;
    /// The source of the caller's tier.
    tier: TierFile = one;
    /// The source of the request's priority.
    priority: PriorityFile = one;
}

map! {
    /// The source of a caller's tier: the entry, else the directory, else the default.
    pub struct TierFile in "`tier`";

    /// The key of an entry with the value.
    key: Spanned<String> = text;
    /// The tier of other callers; the lowest one if absent.
    default: Spanned<String> = text;
}

map! {
    /// The source of a request's priority: 1 low, 2 medium, 3 high, 4 urgent.
    pub struct PriorityFile in "`priority`";

    /// The key of an entry with the value.
    key: Spanned<String> = text;
    /// The base priority if no entry has one; 2 if absent.
    default: Spanned<u64> = level;
    /// Numbers that are added to the base: by `tier`, by `role`, or by the value of an entry with this key.
    #[schemars(with = "Option<BTreeMap<String, BTreeMap<String, i8>>>")]
    add: Named<Named<Spanned<i64>>> = add;
    /// A number that is added for each pressure level, such as -1.
    under_pressure: Spanned<i64> = addend;
}

map! {
    /// Reserved capacity and pressure levels of a rule's limits.
    pub struct CapacityFile in "`capacity`";

    /// Reserved parts of each limit, such as 10%: the last part is open only to the tier and to higher tiers.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    reserve: Named<Spanned<String>> = texts;
    /// Pressure levels: restrictions from a utilization of a limit on.
    pressure: Spanned<Vec<PressureFile>> = spanned_list;
    /// Other reserves and pressure levels while schedules hold: the first entry that holds counts.
    when: Spanned<Vec<CapacityWhenFile>> = when;
}

map! {
    /// What holds in place of a rule's reserves or pressure levels while a schedule holds. What it does not name stays.
    pub struct CapacityWhenFile in "an entry of `when`" at span checked by check_capacity_when;

    /// The name of a schedule; a condition of its own if absent.
    during: Spanned<String> = text;
    /// As in a schedule.
    months: TextsFile = one_or_many;
    /// As in a schedule.
    weekdays: TextsFile = one_or_many;
    /// As in a schedule.
    hours: TextsFile = one_or_many;
    /// As in a schedule.
    dates: TextsFile = one_or_many;
    /// As in a schedule.
    except: TextsFile = one_or_many;
    /// The reserved parts then; `{}` for none.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    reserve: Named<Spanned<String>> = texts;
    /// The pressure levels then; `[]` for none.
    pressure: Spanned<Vec<PressureFile>> = spanned_list;
}

map! {
    /// A pressure level. Its restrictions also apply at higher levels, unless those are stricter.
    pub struct PressureFile in "a level of `pressure`" requires ["above"] at span;

    /// The level applies if the utilization of any limit of the rule is above this, such as 80%.
    #[schemars(required)]
    above: Spanned<String> = text;
    /// The level ends if the utilization is below this; five percentage points less than `above` if absent.
    until: Spanned<String> = text;
    /// The part of their own limits that callers of these tiers keep, such as 0.8.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    scale: Named<Spanned<String>> = texts;
    /// The tiers and priorities that may pass; all others are refused.
    only: OnlyFile = one;
}

map! {
    /// The tiers and priorities that may pass. A request passes if one of them applies.
    pub struct OnlyFile in "`only`" checked by check_only;

    /// Callers of these tiers pass.
    tier: Vec<Spanned<String>> = name_list;
    /// Requests of this priority or a higher one pass.
    priority: Spanned<u64> = level;
}

map! {
    /// A line of a cost table. The first line that matches the request determines its cost.
    pub struct CostFile in "a cost" requires ["hits"];

    /// Entries that the request must have, in any of its descriptors. If absent, every request matches.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    when: Named<Spanned<String>> = texts;
    /// The cost in hits, or in money, such as 0.35 EUR.
    #[schemars(required)]
    hits: Spanned<String> = text;
    /// Charged per N requested hits, rounded up; a flat cost if absent.
    per: Spanned<u64> = number::<AMOUNT_MAX>;
}

impl CapacityWhenFile {
    /// The condition that it says itself.
    pub fn condition(&self) -> ScheduleFile {
        let Self { months, weekdays, hours, dates, except, span, .. } = self.clone();
        ScheduleFile { months, weekdays, hours, dates, except, span }
    }
}

fn check_capacity_when(_: &CapacityWhenFile, reader: &mut Reader<'_>, node: &Node) {
    if !matches!(node.value, Value::Map(_)) {
        return;
    }
    check_condition(reader, node);
    if node.get("reserve").is_none() && node.get("pressure").is_none() {
        reader.error(start_of(node), "missing `reserve` or `pressure`");
    }
}

fn check_only(file: &OnlyFile, reader: &mut Reader<'_>, node: &Node) {
    // The invalid value has been reported.
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
