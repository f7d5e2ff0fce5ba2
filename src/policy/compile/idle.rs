//! Warns of parts of a policy file that have no effect.
//!
//! `reach.rs` reports unreachable rules; unknown names are reported where they are resolved.

use std::collections::{BTreeMap, BTreeSet};

use super::rate::Rate;
use crate::policy::model::{Capacity, Classes, Domain, LEASED_AMOUNT_MIN, Mode, Window};
use crate::policy::problem::{Problem, Severity, Source};
use crate::policy::schema::{
    AlgorithmFile, CapacityFile, CostFile, DefaultsFile, LeaseFile, LimitFile, LimitMapFile,
    ModeFile, OnlyFile, OverdraftFile, PolicyFile, PressureFile, RuleFile, ThresholdsFile,
    WhenFile,
};
use crate::policy::yaml::{Reader, Spanned};

/// Warns of parts of a file without effect.
pub fn warn(reader: &mut Reader<'_>, classes: &Classes, file: &PolicyFile) {
    if let Some(tiers) = file.tiers.as_ref().filter(|_| classes.caller_key.is_none()) {
        let message = "without `caller`, every request has the first tier";
        reader.note(Severity::Warning, tiers.span.clone(), message);
    }
    let mut costs = BTreeSet::new();
    let rules = file.descriptors.as_deref().unwrap_or_default();
    let none = DefaultsFile::default();
    let defaults = file.defaults.as_ref().unwrap_or(&none);
    let mut used = BTreeSet::new();
    names_of(defaults.when.as_ref(), &mut used);
    let mode = file.mode.as_ref().or(defaults.mode.as_ref());
    let (costs, schedules) = (&mut costs, &mut used);
    let mut idle = Idle { reader, classes, defaults, mode, costs, schedules };
    rules.iter().for_each(|rule| idle.rule(rule));
    for (name, _) in file.schedules.iter().flatten() {
        if !used.contains(&name.value) {
            let message = format!("unused schedule `{}`", name.value);
            reader.note(Severity::Warning, name.span.clone(), message);
        }
    }
    for (name, lines) in file.costs.iter().flatten() {
        if !costs.contains(&name.value) {
            let message = format!("unused cost table `{}`", name.value);
            reader.note(Severity::Warning, name.span.clone(), message);
        }
        unreached(reader, lines);
    }
}

struct Idle<'i, 'r> {
    reader: &'i mut Reader<'r>,
    classes: &'i Classes,
    defaults: &'i DefaultsFile,
    /// The policy's.
    mode: Option<&'i Spanned<ModeFile>>,
    /// The tables that limits use.
    costs: &'i mut BTreeSet<String>,
    schedules: &'i mut BTreeSet<String>,
}

/// Adds the schedules that a `when` uses.
fn names_of(when: Option<&Spanned<Vec<WhenFile>>>, names: &mut BTreeSet<String>) {
    let entries = when.iter().flat_map(|list| &list.value);
    add_names(entries.map(|one| one.during.as_ref()), names);
}

fn add_names<'f>(
    during: impl Iterator<Item = Option<&'f Spanned<String>>>,
    names: &mut BTreeSet<String>,
) {
    names.extend(during.flatten().map(|name| name.value.clone()));
}

impl Idle<'_, '_> {
    fn note<T>(&mut self, said: &Spanned<T>, message: &str) {
        self.reader.note(Severity::Warning, said.span.clone(), message);
    }

    fn rule(&mut self, rule: &RuleFile) {
        let limits = || rule.limits.iter().flat_map(|limits| &limits.value);
        self.costs
            .extend(limits().filter_map(|limit| Some(limit.map.cost.as_ref()?.value.clone())));
        limits().for_each(|limit| names_of(limit.map.when.as_ref(), self.schedules));
        let on = |flag: &Option<Spanned<bool>>| flag.as_ref().is_some_and(|flag| flag.value);
        if let Some(quota) = rule.quota_mode.as_ref().filter(|_| on(&rule.quota_mode)) {
            if on(&rule.shadow_mode) {
                self.note(quota, "no effect: `shadow_mode` takes precedence");
            } else if rule.limits.is_none() && rule.rate_limit.is_none() {
                self.note(quota, "no effect in a rule without limits");
            }
        }
        self.without_limits(rule);
        for limit in limits() {
            let auto = |said: &&Spanned<LeaseFile>| said.value == LeaseFile::Auto;
            if let Some(said) = limit.map.lease.as_ref().filter(auto)
                && let Some(why) = self.unleased(rule, limit)
            {
                self.note(said, &format!("no effect: leases are not used {why}"));
            }
        }
        if let Some(only) = &rule.only {
            self.only(only, 0);
        }
        if let Some(capacity) = &rule.capacity {
            let CapacityFile { reserve, pressure, when } = &capacity.value;
            let when = when.as_ref().map_or(&[][..], |when| &when.value);
            add_names(when.iter().map(|one| one.during.as_ref()), self.schedules);
            let levels = pressure.as_ref().map_or(&[][..], |levels| &levels.value);
            let is_empty = levels.is_empty() && reserve.as_ref().is_none_or(Vec::is_empty);
            if is_empty && when.is_empty() {
                self.note(
                    capacity,
                    "`capacity` has no effect: it has no reserve and no pressure level",
                );
            }
            let overdrawn = |said: &Spanned<OverdraftFile>| said.value == OverdraftFile::Allow;
            let can_be_passed = limits().any(|limit| {
                limit
                    .map
                    .overdraft
                    .as_ref()
                    .or(self.defaults.overdraft.as_ref())
                    .is_some_and(overdrawn)
            });
            let scheduled = when.iter().filter_map(|one| one.pressure.as_ref());
            let scheduled = scheduled.map(|levels| levels.value.as_slice());
            for levels in std::iter::once(levels).chain(scheduled) {
                for (number, level) in (1..).zip(levels) {
                    self.level(level, number, can_be_passed);
                }
            }
        }
        rule.descriptors.iter().flatten().for_each(|below| self.rule(below));
    }

    /// Warns of settings for limits in a rule without limits.
    fn without_limits(&mut self, rule: &RuleFile) {
        let limit = rule.rate_limit.as_ref().and_then(|limit| limit.value.unlimited.as_ref());
        let is_unlimited = limit.is_some_and(|unlimited| unlimited.value);
        let has_limits = rule.limits.is_some() && !rule.is_exempt();
        if has_limits || rule.rate_limit.is_some() && !is_unlimited {
            return;
        }
        if let Some(said) = &rule.on_outage {
            self.note(said, "no effect in a rule without limits, nor on rules below");
        }
        let shadow = rule.shadow_mode.as_ref().filter(|shadow| shadow.value);
        if let Some(said) = shadow.filter(|_| rule.only.is_none()) {
            self.note(said, "no effect in a rule without limits, nor on rules below");
        }
    }

    /// The reason that a limit can never be leased.
    fn unleased(&self, rule: &RuleFile, limit: &LimitFile) -> Option<&'static str> {
        let LimitMapFile {
            rate,
            by_tier,
            name,
            algorithm,
            mode,
            shadow,
            overdraft,
            estimate,
            thresholds,
            grace,
            when,
            adjust,
            ..
        } = &limit.map;
        let thresholds = thresholds.as_ref().or(self.defaults.thresholds.as_ref());
        let on = |flag: &Option<Spanned<bool>>| flag.as_ref().is_some_and(|flag| flag.value);
        let by_rule = on(shadow) || on(&rule.shadow_mode) || on(&rule.quota_mode);
        let default = rule.mode.as_ref().or(self.mode);
        let mode = mode.as_ref().or(default.filter(|_| !by_rule)).map(|mode| mode.value);
        let enforces = mode.map_or(!by_rule, |mode| Mode::from(mode) == Mode::Enforce);
        // A strict limit takes none of the two from the file.
        let is_strict = mode == Some(ModeFile::Strict);
        let overdraft =
            overdraft.as_ref().or(self.defaults.overdraft.as_ref().filter(|_| !is_strict));
        let by_tier = by_tier.iter().flat_map(|by_tier| &by_tier.value).map(|(_, text)| text);
        let rates = rate.iter().chain(by_tier).filter_map(|text| Rate::parse(&text.value).ok());
        let algorithm = algorithm.as_ref().or(self.defaults.algorithm.as_ref());
        let slides = |rate: &Rate| {
            let said = algorithm.is_none_or(|said| said.value == AlgorithmFile::SlidingWindow);
            said && matches!(rate.window, Window::Length(_))
        };
        // The directory may raise the amount of a limit that has a name.
        let is_large = |rate: &Rate| LEASED_AMOUNT_MIN <= rate.amount || name.is_some();
        if rule.capacity.is_some() {
            Some("for a limit with a `capacity`")
        } else if when.is_some() || self.defaults.when.is_some() {
            Some("for a limit with a `when`")
        } else if adjust.is_some() {
            Some("for a limit with `adjust`")
        } else if overdraft.is_some_and(|said| said.value != OverdraftFile::None) {
            Some("for a limit with an `overdraft`")
        } else if estimate.is_some() || self.defaults.estimate.is_some() {
            Some("for a limit with an `estimate`")
        } else if thresholds.is_some_and(|said| !matches!(said, ThresholdsFile::None)) {
            Some("for a limit with `thresholds`")
        } else if grace.is_some() || (self.defaults.grace.is_some() && !is_strict) {
            Some("for a limit with a `grace`")
        } else if !enforces {
            Some("in a mode other than `enforce`")
        } else if !rates.clone().any(|rate| slides(&rate)) {
            Some("for a limit that doesn't slide")
        } else if !rates.clone().any(|rate| is_large(&rate)) {
            Some("for an amount below 64")
        } else {
            None
        }
    }

    fn level(&mut self, level: &PressureFile, number: u8, can_be_passed: bool) {
        let above = level.above.as_ref().filter(|above| Capacity::is_all(&above.value));
        if let Some(above) = above.filter(|_| !can_be_passed) {
            self.note(above, "unreachable level: usage never exceeds 100%");
        }
        if let Some(only) = &level.only {
            self.only(only, number);
        }
        let scaled = level.scale.iter().flatten().map(|(tier, _)| tier).next();
        if let Some(tier) = scaled.filter(|_| self.classes.caller_key.is_none()) {
            self.note(tier, "`scale` has no effect without `caller`: no limit belongs to a caller");
        }
    }

    /// Warns of a priority that no request can have, if no tier is allowed either.
    fn only(&mut self, only: &OnlyFile, level: u8) {
        let is_by_tier = only.tier.as_ref().is_some_and(|tiers| !tiers.is_empty());
        let most = self.classes.priority.most(level);
        let out_of_reach = |least: &&Spanned<u64>| u64::from(most) < least.value;
        if let Some(least) = only.priority.as_ref().filter(out_of_reach) {
            let so = if is_by_tier { "this admits no other requests" } else { "no request passes" };
            let message = format!("no request has a priority above {most} here: {so}");
            self.note(least, &message);
        }
    }
}

/// Warns of lines after a line that always matches first.
fn unreached(reader: &mut Reader<'_>, lines: &[CostFile]) {
    let entries = |line: &CostFile| -> BTreeSet<(String, String)> {
        let when = line.when.iter().flatten();
        when.map(|(key, value)| (key.value.clone(), value.value.clone())).collect()
    };
    let mut known: Vec<BTreeSet<(String, String)>> = Vec::new();
    for line in lines {
        let own = entries(line);
        if known.iter().any(|before| before.is_subset(&own))
            && let Some(hits) = &line.hits
        {
            let message = "unreachable line: an earlier line matches whenever this one does";
            reader.note(Severity::Warning, hits.span.clone(), message);
        }
        known.push(own);
    }
}

/// The names in a file's `replaces`.
pub struct Replacer<'a> {
    pub source: &'a Source,
    pub domain: String,
    pub replaced: Vec<Spanned<String>>,
}

impl Replacer<'_> {
    /// Names that no limit of the domain has. The reference accepts them, so they are not errors.
    pub fn unnamed(self, domains: &BTreeMap<String, Domain>) -> Vec<Problem> {
        let limits = domains.get(&self.domain).into_iter().flat_map(Domain::limits);
        let names: BTreeSet<&str> = limits.map(|limit| &*limit.name).collect();
        let unnamed = self.replaced.into_iter().filter(|name| !names.contains(name.value.as_str()));
        let problem = |name: Spanned<String>| {
            let message = format!("unknown limit name `{}`", name.value);
            Problem::at(self.source, Severity::Warning, name.span, message)
        };
        unnamed.map(problem).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::{CompileOptions, Source, compile};

    /// The warnings of a policy with these parts, in order.
    #[track_caller]
    fn check(head: &str, rules: &str, places: &[(&str, &str)]) {
        let text = format!("domain: d\n{head}\ndescriptors: [{rules}]");
        let source = Source { path: "a.yaml".to_owned(), text: text.clone() };
        let set = compile(&[source], CompileOptions::default()).unwrap();
        let reported: Vec<_> = set
            .warnings()
            .iter()
            .map(|one| (&text[one.span.clone()], one.message.as_str()))
            .collect();
        assert_eq!(reported.len(), places.len(), "{reported:?}");
        for ((place, message), (expected_place, expected)) in reported.iter().zip(places) {
            assert!(
                place.starts_with(expected_place) && message.contains(expected),
                "{reported:?}"
            );
        }
    }

    #[test]
    fn what_has_no_effect_is_told_where_it_stands() {
        let user = "{key: user, limits: [1/day]}";
        check("tiers: [a, b]", user, &[("[", "every request has the first tier")]);
        check("costs: {x: [{hits: 2}]}", user, &[("x", "unused cost table `x`")]);
        check(
            "costs: {x: [{when: {op: a}, hits: 2}, {hits: 3}, {when: {op: b}, hits: 4}]}",
            "{key: user, limits: [{rate: 1/day, cost: x}]}",
            &[("4", "unreachable line")],
        );
        check(
            "",
            "{key: user, shadow_mode: true, quota_mode: true, limits: [1/day]}",
            &[("true", "`shadow_mode` takes precedence")],
        );
        check(
            "",
            "{key: user, quota_mode: true}",
            &[("true", "no effect in a rule without limits")],
        );
        check(
            "",
            "{key: user, limits: [1/day], capacity: {}}",
            &[("{", "`capacity` has no effect")],
        );
    }

    #[test]
    fn what_is_said_of_limits_that_a_rule_has_not_is_told() {
        let below = "descriptors: [{key: op, limits: [1/day]}]";
        let rule = |said: &str| format!("{{key: user, {said}, {below}}}");
        check("", &rule("on_outage: deny"), &[("deny", "nor on rules below")]);
        check("", &rule("shadow_mode: true"), &[("true", "nor on rules below")]);
        check("", &rule("shadow_mode: false"), &[]);
        check("", &rule("on_outage: deny, shadow_mode: true, limits: [1/day]"), &[]);
        check("caller: {key: user}", "{key: user, shadow_mode: true, only: {priority: 1}}", &[]);
        let unlimited = "{key: user, on_outage: deny, rate_limit: {unlimited: true}}";
        check("", unlimited, &[("deny", "nor on rules below")]);
    }

    #[test]
    fn leases_of_limits_that_can_have_none_are_told() {
        let rule = |limit: &str| format!("{{key: user, limits: [{{{limit}, lease: auto}}]}}");
        check("", &rule("rate: 64/day"), &[]);
        check("", &rule("name: x, rate: 10/day"), &[]);
        check("", &rule("rate: 63/day"), &[("auto", "for an amount below 64")]);
        check("", &rule("rate: 100/month"), &[("auto", "that doesn't slide")]);
        check("", &rule("rate: 100/total"), &[("auto", "that doesn't slide")]);
        check(
            "",
            &rule("rate: 100/day, algorithm: token_bucket"),
            &[("auto", "that doesn't slide")],
        );
        check("", &rule("rate: 100/day, overdraft: clip"), &[("auto", "with an `overdraft`")]);
        check("", &rule("rate: 100/day, mode: quota"), &[("auto", "other than `enforce`")]);
        check("defaults: {mode: shadow}", &rule("rate: 100/day"), &[("auto", "other than")]);
        check("defaults: {mode: shadow}", &rule("rate: 100/day, mode: enforce"), &[]);
        let shared =
            "{key: p, limits: [{rate: 100/day, lease: auto}], capacity: {reserve: {b: 10%}}}";
        check("caller: {key: user}\ntiers: [a, b]", shared, &[("auto", "with a `capacity`")]);
    }

    #[test]
    fn nothing_is_scaled_without_callers() {
        let rule =
            "{key: p, limits: [9/day], capacity: {pressure: [{above: 80%, scale: {a: 0.5}}]}}";
        let tiers = "tiers: [a, b]";
        check(
            tiers,
            rule,
            &[("[", "every request has the first tier"), ("a", "`scale` has no effect")],
        );
        check(&format!("caller: {{key: user}}\n{tiers}"), rule, &[]);
    }

    #[test]
    fn unreachable_rules_are_reported_with_their_place() {
        let only = "{key: user, only: {priority: 3}, limits: [1/day]}";
        check("", only, &[("3", "no request has a priority above 2 here: no request passes")]);
        check("caller: {key: user, priority: {key: p}}", only, &[]);
        check("caller: {key: user, priority: {add: {role: {boss: 1}}}}", only, &[]);
        let pressed = |limit: &str, level: &str| {
            format!("{{key: p, limits: [{limit}], capacity: {{pressure: [{level}]}}}}")
        };
        let four = "{above: 100%, only: {priority: 4}}";
        let under = "caller: {key: user, priority: {under_pressure: 2}}";
        check(under, &pressed("9/day", four), &[("100%", "unreachable level")]);
        check(under, &pressed("{rate: 9/day, overdraft: allow}", four), &[]);
    }
}
