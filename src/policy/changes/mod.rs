//! Which limits start a new count when one policy set takes the place of another.
//!
//! A count is kept under the key of a path and the tag of a limit. So requests that stand for all others
//! (`samples.rs`) are led through both sets, and the counters that they meet at their ends are compared. A limit that
//! has no counterpart is new, and of no concern here; one that stands where another limit has gone has taken its place
//! without its count.

mod samples;

use std::collections::HashSet;
use std::fmt;
use std::ptr;

use crate::policy::model::{Key, PolicySet, Rule, RuleLevel, RuleLimit};
use samples::Samples;

/// Requests by which two sets are compared; more take too long for an edit that is to be live within a second.
const COMPARISONS_MAX: usize = 200_000;

/// A warning for [`Restarts::is_cut`].
pub const NOT_ALL_COMPARED: &str =
    "too many rules to compare all: more limits may start a new count";

/// What an edit does to the counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    /// In the order of domains and rules.
    pub limits: Vec<Restart>,
    /// Whether there were too many rules to compare them all.
    pub is_cut: bool,
}

/// A limit that starts a new count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    pub domain: String,
    /// The rule's path.
    pub rule: String,
    /// What metrics and answers call the limit.
    pub limit: String,
    /// The path of the rule that the requests met before, if it is another one: only these requests are concerned.
    pub rule_before: Option<String>,
    /// What has changed, as a clause.
    pub reason: String,
}

impl Restart {
    /// The reason, and which requests are concerned.
    pub fn told(&self) -> String {
        match &self.rule_before {
            Some(before) => {
                format!(" for requests that met rule `{before}` before: {}", self.reason)
            }
            None => format!(": {}", self.reason),
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, rule, limit, .. } = self;
        write!(f, "domain `{domain}`, rule `{rule}`: `{limit}` starts a new count{}", self.told())
    }
}

/// The limits of `new` that start a new count where `old` was in force.
pub fn restarts(old: &PolicySet, new: &PolicySet) -> Restarts {
    let mut all = Restarts::default();
    let mut left = COMPARISONS_MAX;
    for domain in new.domains() {
        let Some(before) = old.domain(&domain.name) else { continue };
        let (found, told, is_cut) = (Vec::new(), HashSet::new(), false);
        let mut changes = Changes { domain: &domain.name, found, told, left, is_cut };
        let key = Key::of_domain(&domain.name);
        changes.level((&before.rules, &key), (&domain.rules, &key), None);
        left = changes.left;
        all.is_cut |= changes.is_cut;
        changes.found.sort_by_key(|(index, _)| *index);
        all.limits.extend(changes.found.into_iter().map(|(_, restart)| restart));
    }
    all
}

struct Changes<'a> {
    domain: &'a str,
    /// Each with the number of its limit in the domain.
    found: Vec<(usize, Restart)>,
    /// The numbers of their limits, and the rules that the requests met before.
    told: HashSet<(usize, *const Rule)>,
    /// Comparisons that may still be made.
    left: usize,
    is_cut: bool,
}

impl Changes<'_> {
    /// Compares the rules of a level that the same requests reach, by the keys of their paths; `moved` says why these
    /// are others than before.
    fn level(&mut self, old: (&RuleLevel, &Key), new: (&RuleLevel, &Key), moved: Option<&str>) {
        let mut compared = HashSet::new();
        let samples = Samples::of(old.0, new.0, self.left);
        self.is_cut |= samples.is_cut;
        self.left -= samples.entries.len();
        for (key, value) in samples.entries {
            let rules = (old.0.find(&key, &value), new.0.find(&key, &value));
            let (Some(before), Some(now)) = rules else { continue };
            if !compared.insert((ptr::from_ref(before), ptr::from_ref(now))) {
                continue;
            }
            let step = |rule: &Rule, path: &Key| {
                let mut path = path.clone();
                rule.push_step(&mut path, &key, &value);
                path
            };
            let paths = (step(before, old.1), step(now, new.1));
            let other = (paths.0 != paths.1).then(|| other_counters(before, now));
            let moved = moved.or(other.as_deref());
            self.rule(before, now, moved);
            self.level((&before.below, &paths.0), (&now.below, &paths.1), moved);
        }
    }

    fn rule(&mut self, old: &Rule, new: &Rule, moved: Option<&str>) {
        let is_kept = |limit: &RuleLimit, others: &Rule| {
            let mut others = others.limits.iter();
            moved.is_none() && others.any(|other| other.limit.tag() == limit.limit.tag())
        };
        let mut gone: Vec<&RuleLimit> = old.limits.iter().map(|limit| &**limit).collect();
        gone.retain(|limit| !is_kept(limit, new));
        for limit in new.limits.iter().filter(|limit| !is_kept(limit, old)) {
            let Some(before) = nearest(&gone, limit) else { continue };
            if !self.told.insert((limit.index, ptr::from_ref(old))) {
                continue;
            }
            let restart = Restart {
                domain: self.domain.to_owned(),
                rule: new.path.clone(),
                limit: limit.label.to_string(),
                rule_before: (old.path != new.path).then(|| old.path.clone()),
                reason: moved.map_or_else(|| difference(before, limit), str::to_owned),
            };
            self.found.push((limit.index, restart));
        }
    }
}

/// Why the values of a rule have other counters than before.
fn other_counters(old: &Rule, new: &Rule) -> String {
    match (old.shared_pattern(), new.shared_pattern()) {
        (None, _) => "its values share one counter now".to_owned(),
        (Some(_), None) => "its values share no counter any more".to_owned(),
        (Some(before), Some(_)) => {
            format!("its values shared the counter of `{}`", before.as_str())
        }
    }
}

/// The limit whose place another one has most likely taken.
fn nearest<'a>(gone: &[&'a RuleLimit], limit: &RuleLimit) -> Option<&'a RuleLimit> {
    let named = |other: &&&RuleLimit| !limit.name.is_empty() && other.name == limit.name;
    let timed = |other: &&&RuleLimit| other.window == limit.window;
    let found = gone.iter().find(named).or_else(|| gone.iter().find(timed));
    found.or_else(|| gone.first()).copied()
}

/// What is different between two limits that makes their counters two.
fn difference(old: &RuleLimit, new: &RuleLimit) -> String {
    let mut parts = Vec::new();
    let (before, now) = (old.limit.algorithm().to_string(), new.limit.algorithm().to_string());
    if before != now {
        parts.push(format!("its algorithm was `{before}`"));
    }
    if window(old) != window(new) {
        parts.push(format!("its window was `{}`", window(old)));
    }
    let cost = |limit: &RuleLimit| limit.cost.as_ref().map(|cost| cost.name.to_string());
    if old.name != new.name {
        parts.push(match &*old.name {
            "" => "it had no name".to_owned(),
            name => format!("its name was `{name}`"),
        });
    } else if new.name.is_empty() && cost(old) != cost(new) {
        parts.push(match cost(old) {
            None => "it counted the requests' own hits".to_owned(),
            Some(table) => format!("its cost was `{table}`"),
        });
    }
    if old.currency != new.currency {
        parts.push(match &old.currency {
            None => "it counted hits".to_owned(),
            Some(currency) => format!("it counted {currency}"),
        });
    }
    if parts.is_empty() {
        // Only `rate_limit` has a name that doesn't count.
        parts.push("`rate_limit` is counted without its name, `limits` by it".to_owned());
    }
    parts.join(", ")
}

fn window(limit: &RuleLimit) -> String {
    let shown = limit.limit.to_string();
    shown.split_once('/').map_or("", |(_, window)| window).to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::prop_assert;
    use proptest::proptest;

    use super::*;
    use crate::policy::CompileOptions;
    use crate::policy::Source;
    use crate::policy::compile;

    fn set(descriptors: &str) -> PolicySet {
        let costs = "costs: {tokens: [{hits: 2}], words: [{hits: 3}], prices: [{hits: 0.35 EUR}]}";
        let tiers = "caller: {key: u}\ntiers: [free, paid]";
        let text = format!("domain: d\n{costs}\n{tiers}\ndescriptors: {descriptors}");
        let source = Source { path: "a.yaml".to_owned(), text };
        compile(&[source], CompileOptions::default()).unwrap()
    }

    /// What starts anew, as `limit: reason`.
    #[track_caller]
    fn check(old: &str, new: &str, expected: &[&str]) {
        let found = restarts(&set(old), &set(new));
        assert!(!found.is_cut);
        let told = |one: &Restart| format!("{} {}{}", one.rule, one.limit, one.told());
        let told: Vec<_> = found.limits.iter().map(told).collect();
        assert_eq!(told, expected, "{old} -> {new}");
    }

    /// The same for the limits of one rule.
    #[track_caller]
    fn check_limits(old: &str, new: &str, expected: &[&str]) {
        let rule = |limits| format!("[{{key: u, {limits}}}]");
        check(&rule(old), &rule(new), expected);
    }

    #[test]
    fn edits_that_keep_every_count() {
        for (old, new) in [
            ("limits: [10/minute]", "limits: [{name: x, rate: 5/minute, mode: shadow}, 10/minute]"),
            (
                "limits: [{name: a, rate: 10/day}, {name: b, rate: 9/day, cost: tokens}]",
                "limits: [{name: b, rate: 8/day, cost: words}, {name: a, rate: 11/day}]",
            ),
            ("limits: [10/day]", "limits: [{rate: 10/day, by_tier: {paid: 20/day}}]"),
            ("limits: [{by_tier: {free: 1/day, paid: none}}]", "limits: [7/24h]"),
            ("limits: [10/day]", "limits: [{rate: 10/day, overdraft: allow, lease: auto}]"),
            ("limits: [10/day]", "rate_limit: {unit: day, requests_per_unit: 3}"),
            (
                "rate_limit: {unit: day, requests_per_unit: 3}",
                "rate_limit: {unit: day, requests_per_unit: 4, name: x}",
            ),
            ("limits: [10/day]", "limits: [10/day, 5/hour], cascade: true"),
            ("limits: [10/day, 5/hour]", "limits: [5/hour]"),
        ] {
            check_limits(old, new, &[]);
        }
    }

    #[test]
    fn edits_that_can_not_keep_a_count_are_told() {
        check_limits(
            "limits: [10/day]",
            "limits: [10/hour]",
            &["u u 10/hour: its window was `day`"],
        );
        check_limits(
            "limits: [10/day]",
            "limits: [{name: x, rate: 10/day, algorithm: fixed_window}]",
            &["u x: its algorithm was `sliding_window`, it had no name"],
        );
        check_limits(
            "limits: [{rate: 10/day, cost: tokens}]",
            "limits: [{rate: 10/day, cost: words}]",
            &["u u 10/day: its cost was `tokens`"],
        );
        check_limits(
            "limits: [10/day]",
            "limits: [{rate: 10/day, cost: words}]",
            &["u u 10/day: it counted the requests' own hits"],
        );
        check_limits(
            "rate_limit: {unit: day, requests_per_unit: 3, name: x}",
            "limits: [{name: x, rate: 3/day}]",
            &["u x: `rate_limit` is counted without its name, `limits` by it"],
        );
    }

    #[test]
    fn another_unit_of_what_is_counted_is_told() {
        check_limits(
            "limits: [{name: spend, rate: 1000/day}]",
            "limits: [{name: spend, rate: 10 EUR/day}]",
            &["u spend: it counted hits"],
        );
        check_limits(
            "limits: [10 EUR/day]",
            "limits: [10 USD/day]",
            &["u u 1000/day: it counted EUR"],
        );
        check_limits(
            "limits: [{name: spend, rate: 10/day, cost: prices}]",
            "limits: [{name: spend, rate: 10/day, cost: tokens}]",
            &["u spend: it counted EUR"],
        );
        check_limits(
            "limits: [{name: x, rate: 10 EUR/day}]",
            "limits: [{name: x, rate: 9 EUR/day}]",
            &[],
        );
        check_limits(
            "limits: [{name: x, rate: 10 EUR/day}]",
            "limits: [{name: x, rate: 999/day, cost: prices}]",
            &[],
        );
    }

    #[test]
    fn edits_of_rules_are_told_where_they_move_counters() {
        let rule = |more: &str| {
            format!("[{{key: f, {more}, descriptors: [{{key: k, limits: [1/day]}}]}}]")
        };
        let shared = rule("value: a*, limits: [1/hour], share_threshold: true");
        check(
            &rule("value: a*, limits: [1/hour]"),
            &shared,
            &[
                "f=a* f=a* 1/hour: its values share one counter now",
                "f=a*/k f=a*/k 1/day: its values share one counter now",
            ],
        );
        check(
            &shared,
            &rule("value: ab*, limits: [1/hour], share_threshold: true"),
            &[
                "f=ab* f=ab* 1/hour for requests that met rule `f=a*` before: its values shared the counter of `a*`",
                "f=ab*/k f=ab*/k 1/day for requests that met rule `f=a*/k` before: its values shared the counter of `a*`",
            ],
        );
        // A rule of its own for a value goes on with the value's count if window and name are those.
        check(
            "[{key: u, limits: [1/day]}]",
            "[{key: u, limits: [1/day]}, {key: u, value: a, limits: [9/day]}]",
            &[],
        );
        check(
            "[{key: u, limits: [1/day]}]",
            "[{key: u, limits: [1/day]}, {key: u, value: a, limits: [9/hour]}]",
            &["u=a u=a 9/hour for requests that met rule `u` before: its window was `day`"],
        );
        check(
            "[{key: u, limits: [1/day]}, {key: u, value: a, limits: [9/hour]}]",
            "[{key: u, limits: [1/day]}]",
            &["u u 1/day for requests that met rule `u=a` before: its window was `hour`"],
        );
    }

    #[test]
    fn a_rule_that_takes_over_values_of_another_is_told() {
        check(
            "[{key: f, value: 'a*', share_threshold: true, limits: [1/day]}]",
            "[{key: f, value: '*z', share_threshold: true, limits: [1/day]},
              {key: f, value: 'a*', share_threshold: true, limits: [1/day]}]",
            &[
                "f=*z f=*z 1/day for requests that met rule `f=a*` before: its values shared the counter of `a*`",
            ],
        );
        // Values that each have a counter go on with it, whichever rule they meet.
        check(
            "[{key: f, value: 'a*', limits: [1/day]}]",
            "[{key: f, value: '*z', limits: [2/day]}, {key: f, value: 'a*', limits: [1/day]}]",
            &[],
        );
    }

    #[test]
    fn a_wildcard_in_a_key_is_told_where_it_moves_counters() {
        let shared =
            |key: &str| format!("[{{key: '{key}', share_threshold: true, limits: [1/day]}}]");
        check("[{key: u, limits: [1/day]}]", "[{key: 'u*', limits: [1/day]}]", &[]);
        check(
            "[{key: u, limits: [1/day]}]",
            &shared("u*"),
            &[
                "u* u* 1/day for requests that met rule `u` before: its values share one counter now",
            ],
        );
        check(
            &shared("h_*"),
            &shared("h_a*"),
            &[
                "h_a* h_a* 1/day for requests that met rule `h_*` before: its values shared the counter of `h_*`",
            ],
        );
        check(
            &shared("h_*"),
            "[{key: 'h_*', limits: [1/day]}]",
            &["h_* h_* 1/day: its values share no counter any more"],
        );
    }

    #[test]
    fn more_rules_than_can_be_compared_are_told() {
        let rules: Vec<String> = (0..2_100)
            .map(|number| format!("{{key: f, value: 'v{number}_*', limits: [1/day]}}"))
            .collect();
        let many = set(&format!("[{}]", rules.join(", ")));
        let told = restarts(&many, &many);
        assert!(told.is_cut && told.limits.is_empty(), "{told:?}");
    }

    const KEYS: [&str; 4] = ["a", "ab", "a*", "*b"];
    const VALUES: [&str; 7] = ["", "x", "xy", "x*", "*y", "x*y", "*x*"];
    const LIMITS: [&str; 3] = [
        "",
        "rate_limit: {unit: day, requests_per_unit: 1}",
        "limits: [1/day, {name: n, rate: 1/hour}]",
    ];

    /// Rules by their numbers in these lists, and whether their values share counters.
    fn rules(numbers: &[(usize, usize, usize, bool)]) -> Option<PolicySet> {
        let rule = |(key, value, limits, shared): &(usize, usize, usize, bool)| {
            let shared = *shared && (KEYS[*key].contains('*') || VALUES[*value].contains('*'));
            let (key, value, limits) = (KEYS[*key], VALUES[*value], LIMITS[*limits]);
            format!("{{key: '{key}', value: '{value}', share_threshold: {shared}, {limits}}}")
        };
        let rules: Vec<String> = numbers.iter().map(rule).collect();
        let text = format!("domain: d\ndescriptors: [{}]", rules.join(", "));
        let source = Source { path: "a.yaml".to_owned(), text };
        compile(&[source], CompileOptions::default()).ok()
    }

    /// The limits that start anew as requests with these entries find it, each with the rules before and now.
    fn found_by_requests(old: &PolicySet, new: &PolicySet) -> BTreeSet<(String, String, String)> {
        let mut texts = vec![String::new()];
        for len in 0..3 {
            let longest: Vec<String> =
                texts.iter().filter(|text| text.len() == len).cloned().collect();
            texts.extend(
                longest.iter().flat_map(|text| ["x", "y", "z"].map(|end| format!("{text}{end}"))),
            );
        }
        let keys = ["a", "b", "ab", "az", "zb", "azb"];
        let entries =
            keys.iter().flat_map(|key| texts.iter().map(move |value| (*key, value.as_str())));
        let met = |set: &PolicySet, entry: (&str, &str)| {
            let domain = set.domain("d")?;
            let walk = domain.walk(&[entry]);
            let rule = walk.end()?;
            let key = domain.key(&walk, &[entry], 1);
            let counters = rule.limits.iter().map(|limit| (key.clone(), limit.limit.tag().clone()));
            let labels = rule.limits.iter().map(|limit| limit.label.to_string());
            Some((rule.path.clone(), counters.collect::<Vec<_>>(), labels.collect::<Vec<_>>()))
        };
        let mut found = BTreeSet::new();
        for entry in entries {
            let (Some(before), Some(now)) = (met(old, entry), met(new, entry)) else { continue };
            if before.1.iter().all(|counter| now.1.contains(counter)) {
                continue;
            }
            let fresh = now.1.iter().zip(&now.2).filter(|(counter, _)| !before.1.contains(counter));
            found.extend(fresh.map(|(_, label)| (before.0.clone(), now.0.clone(), label.clone())));
        }
        found
    }

    proptest! {
        #[test]
        fn no_count_that_requests_find_lost_is_missed(
            old in vec((0..4usize, 0..7usize, 0..3usize, any::<bool>()), 1..4),
            new in vec((0..4usize, 0..7usize, 0..3usize, any::<bool>()), 1..4),
        ) {
            if let (Some(old), Some(new)) = (rules(&old), rules(&new)) {
                let told = restarts(&old, &new).limits.into_iter().map(|one| {
                    (one.rule_before.unwrap_or_else(|| one.rule.clone()), one.rule, one.limit)
                });
                let told: BTreeSet<_> = told.collect();
                let missed: Vec<_> = found_by_requests(&old, &new).difference(&told).cloned().collect();
                prop_assert!(missed.is_empty(), "missed {:?}", missed);
            }
        }
    }
}
