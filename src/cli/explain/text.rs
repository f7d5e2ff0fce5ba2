//! The report of `tollgate explain` as text.

use std::fmt;

use super::entries::entry_text;
use crate::cli::money::money;
use crate::printable;

use super::limit_text::{list, of_rule, rule_text, write_limits};
use super::report::{
    CallerReport, ChoiceReport, DescriptorReport, EntryReport, LevelReport, LimitReport,
    OnlyReport, PressureReport, PriceReport, Report, StepReport,
};

/// Maximum number of rules shown at one level, beside the matching one.
const OTHERS_MAX: usize = 20;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "domain {} at {} ({})", self.domain, self.at, self.timezone)?;
        write_caller(f, &self.caller)?;
        for choice in &self.choices {
            write_choice(f, choice)?;
        }
        for (number, descriptor) in (1..).zip(&self.descriptors) {
            write_descriptor(f, number, descriptor)?;
        }
        let same = |one: &LimitReport, next: &LimitReport| one.key == next.key;
        for limits in self.limits.chunk_by(same) {
            write_limits(f, limits, self)?;
        }
        if !self.not_charged.is_empty() {
            writeln!(f, "\nnot charged")?;
        }
        for limit in &self.not_charged {
            let why = match limit.why {
                "replaced" => "replaced by another rule of this request",
                "unlimited" => "unlimited for the caller's tier",
                _ => "`none` for the caller's tier: the request is refused",
            };
            writeln!(f, "  {}{}: {why}", limit.label, of_rule(limit.rule.as_ref()))?;
        }
        for pressure in &self.pressure {
            write_pressure(f, pressure)?;
        }
        if let Some(price) = &self.price {
            write_price(f, price)?;
        }
        writeln!(f, "\n{}", self.conclusion())
    }
}

impl Report {
    /// The result.
    fn conclusion(&self) -> String {
        match self.reason {
            Some("disabled") => {
                "refused: the caller is disabled in the directory; nothing is charged".to_owned()
            }
            Some("no_access") => {
                let mut closed = self.descriptors.iter().flat_map(|part| &part.closed_by);
                match closed.next() {
                    Some(closed) => format!(
                        "refused: {} lets only {} pass; nothing is charged",
                        rule_text(&closed.rule),
                        only_text(&closed.only)
                    ),
                    None => "refused: a limit is `none` or 0 for this caller; nothing is charged"
                        .to_owned(),
                }
            }
            Some(reason) => {
                let numbers = self.limits.iter().filter(|limit| !limit.fits && !limit.is_shadow());
                let numbers: Vec<String> = numbers.map(|limit| limit.number.to_string()).collect();
                let numbers = numbers.join(", ");
                format!(
                    "refused even if nothing has been spent ({reason}): it exceeds the capacity of limit {numbers}"
                )
            }
            None if !self.matched => "passes: the policy does not apply to it".to_owned(),
            None if self.limits.is_empty() => "passes: no limit applies".to_owned(),
            None => {
                let has = |mode: &str| self.limits.iter().any(|limit| limit.mode == mode);
                match (has("enforce") || has("strict"), has("quota")) {
                    (true, true) => "passes if every enforced limit above, and one of the quotas, has enough hits left".to_owned(),
                    (true, false) => "passes if every enforced limit above has enough hits left; all are charged in one step, or none".to_owned(),
                    (false, true) => "passes if one of the quotas above has enough hits left".to_owned(),
                    (false, false) => "passes: all its limits are in shadow mode".to_owned(),
                }
            }
        }
    }
}

fn write_caller(f: &mut fmt::Formatter<'_>, caller: &CallerReport) -> fmt::Result {
    if caller.key.is_none() && caller.tier.is_none() {
        return Ok(());
    }
    match (&caller.name, &caller.key) {
        (Some(name), _) => write!(f, "caller {name}")?,
        (None, Some(key)) => write!(f, "no caller: no entry `{key}`")?,
        (None, None) => write!(f, "no caller")?,
    }
    if let Some(tier) = &caller.tier {
        let from = match caller.tier_from {
            "request" => "from its entry",
            "directory" => "from the directory",
            _ => "the policy's default",
        };
        write!(f, ", tier {tier} ({from}), priority {}", caller.priority)?;
    }
    writeln!(f)?;
    if let Some(tier) = &caller.unknown_tier {
        writeln!(f, "  unknown tier `{tier}`: the policy does not have it")?;
    }
    if caller.known == Some(false) {
        writeln!(f, "  not in the directory")?;
    }
    for member in &caller.lineage {
        let mut parts = vec![member.name.clone()];
        parts.extend(member.tier.iter().map(|tier| format!("tier {tier}")));
        parts.extend(member.share.iter().map(|share| format!("{share} of its parent's limits")));
        parts.extend(member.pool.then(|| "spends from its parent's counters".to_owned()));
        if !member.roles.is_empty() {
            parts.push(format!("roles {}", member.roles.join(", ")));
        }
        parts.extend(member.disabled.then(|| "disabled".to_owned()));
        writeln!(f, "  in the directory: {}", parts.join(", "))?;
    }
    Ok(())
}

fn write_choice(f: &mut fmt::Formatter<'_>, choice: &ChoiceReport) -> fmt::Result {
    let ChoiceReport { key, value, chosen, weights, .. } = choice;
    writeln!(f, "\nchoice {}: {chosen}, if nothing has been spent", entry_text(key, value))?;
    let width = choice.candidates.iter().map(|one| one.name.len()).max().unwrap_or_default();
    for candidate in &choice.candidates {
        let mut parts = Vec::new();
        match candidate.score {
            Some(score) => parts.push(format!("score {score}")),
            None if candidate.denied => parts.push("excluded: the caller has no access".to_owned()),
            None => parts.push("excluded: too few hits are left for this caller".to_owned()),
        }
        parts.extend(candidate.price.map(|price| format!("price {price}")));
        parts.extend(candidate.latency_ms.map(|ms| format!("latency {ms} ms")));
        writeln!(f, "  {:width$}  {}", candidate.name, parts.join(", "))?;
    }
    writeln!(
        f,
        "  weights: capacity {}, latency {}, price {}; the choice changes with usage and latency",
        weights.capacity, weights.latency, weights.price
    )
}

fn write_price(f: &mut fmt::Formatter<'_>, price: &PriceReport) -> fmt::Result {
    let PriceReport { provider, kind, micros, currency, per } = price;
    write!(f, "\nprice: {} {currency}", money(*micros))?;
    if let Some(per) = per {
        write!(f, " for each {per} hits")?;
    }
    if let Some(provider) = provider {
        write!(f, " at {}", printable::line(provider))?;
    }
    match &**kind {
        "" => writeln!(f),
        kind => writeln!(f, ", {}", printable::line(kind)),
    }
}

fn write_descriptor(
    f: &mut fmt::Formatter<'_>,
    number: usize,
    descriptor: &DescriptorReport,
) -> fmt::Result {
    let entries: Vec<String> = descriptor.entries.iter().map(entry).collect();
    writeln!(f, "\ndescriptor {number}: {}", entries.join(","))?;
    descriptor.steps.iter().try_for_each(|step| write_step(f, step))?;
    for qualifier in &descriptor.qualifiers {
        writeln!(f, "  {} is a qualifier, not part of the path", entry(qualifier))?;
    }
    for closed in &descriptor.closed_by {
        let only = only_text(&closed.only);
        writeln!(f, "  refused: {} lets only {only} pass", rule_text(&closed.rule))?;
    }
    let numbers = list(&descriptor.limits);
    let limits = match descriptor.limits.as_slice() {
        [] if descriptor.end == "limits" => "no charged limit applies".to_owned(),
        [] => "no limit applies".to_owned(),
        [_] => format!("limit {numbers} applies"),
        _ => format!("limits {numbers} apply"),
    };
    match descriptor.end {
        "unlimited" => writeln!(f, "  {limits}: its rule is unlimited"),
        "no_limit" => writeln!(f, "  {limits}: the last rule has no limits of its own"),
        "no_rule" => {
            writeln!(f, "  {limits}: no rule matches its entry {}", descriptor.steps.len())
        }
        "no_path" => writeln!(f, "  {limits}: it has only qualifiers"),
        _ => writeln!(f, "  {limits}"),
    }
}

fn write_step(f: &mut fmt::Formatter<'_>, step: &StepReport) -> fmt::Result {
    match &step.rule {
        Some(rule) => writeln!(f, "  {} matches {}", entry(&step.entry), rule_text(rule))?,
        None => writeln!(f, "  {} matches no rule", entry(&step.entry))?,
    }
    let mut parts: Vec<(&str, Vec<&str>)> = Vec::new();
    for other in step.others.iter().take(OTHERS_MAX) {
        match parts.iter_mut().find(|(why_not, _)| *why_not == other.why_not) {
            Some((_, rules)) => rules.push(&other.rule),
            None => parts.push((&other.why_not, vec![&other.rule])),
        }
    }
    for (why_not, rules) in parts {
        writeln!(f, "    not {}: {why_not}", rules.join(", "))?;
    }
    match step.others.len().saturating_sub(OTHERS_MAX) {
        0 => Ok(()),
        more => writeln!(f, "    nor {more} others; --output json lists all"),
    }
}

fn write_pressure(f: &mut fmt::Formatter<'_>, pressure: &PressureReport) -> fmt::Result {
    writeln!(f, "\npressure {}, of {}", pressure.number, rule_text(&pressure.rule))?;
    for level in &pressure.levels {
        writeln!(f, "  {}", level_text(level))?;
    }
    Ok(())
}

fn level_text(level: &LevelReport) -> String {
    let scale = level
        .scale
        .iter()
        .map(|one| format!("{} callers keep {} of their own limits", one.tier, one.rate));
    let mut parts: Vec<String> = scale.collect();
    parts.extend(level.only.as_ref().map(|only| format!("only {} passes", only_text(only))));
    let LevelReport { level, above, until, .. } = level;
    format!("level {level}, above {above} of any of its limits until {until}: {}", parts.join("; "))
}

fn only_text(only: &OnlyReport) -> String {
    let mut parts = Vec::new();
    if !only.tiers.is_empty() {
        parts.push(format!("tier {}", only.tiers.join(", ")));
    }
    parts.extend(only.priority.map(|priority| format!("priority {priority} and above")));
    parts.join(" or ")
}

fn entry(entry: &EntryReport) -> String {
    entry_text(&entry.key, &entry.value)
}
