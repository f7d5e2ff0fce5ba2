//! The effect on counts when one policy set replaces another.
//!
//! The key of a count consists of the path and the tag of a limit. So sample requests (`samples.rs`) are matched in
//! both sets (`position.rs`), and the counters of each complete request are compared (`comparison.rs`). A limit without
//! a counterpart is new, and ignored. A limit that replaces another one for a request starts a new count. A limit whose
//! counters no request uses any more is gone.

mod comparison;
mod position;
mod reason;
mod report;
mod samples;

use crate::policy::model::PolicySet;
use comparison::Comparison;

pub use report::{CountChanges, Gone, NOT_ALL_COMPARED, Restart};

/// Maximum number of requests to compare; more take too long for an edit that must be live within a second.
const COMPARISONS_MAX: usize = 200_000;

/// The effect on the counts of `old` if `new` replaces it.
pub fn count_changes(old: &PolicySet, new: &PolicySet) -> CountChanges {
    let mut all = CountChanges::default();
    let mut left = COMPARISONS_MAX;
    for before in old.domains() {
        let mut found = match new.domain(&before.name) {
            Some(now) => Comparison::of(before, now, left),
            None => Comparison::without(before, left),
        };
        left = found.left;
        all.is_cut |= found.is_cut;
        all.restarts.extend(found.restarts());
        all.gone.extend(found.gone());
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::{prop_assert, proptest};

    use super::*;
    use crate::policy::{CompileOptions, Key, Source, compile};

    fn set(descriptors: &str) -> PolicySet {
        let costs = "costs: {tokens: [{hits: 2}], words: [{hits: 3}], prices: [{hits: 0.35 EUR}]}";
        let tiers = "caller: {key: u}\ntiers: [free, paid]";
        let text = format!("domain: d\n{costs}\n{tiers}\ndescriptors: {descriptors}");
        let source = Source { path: "a.yaml".to_owned(), text };
        compile(&[source], CompileOptions::default()).unwrap()
    }

    /// The limits that start a new count, as `limit: reason`.
    #[track_caller]
    fn check(old: &str, new: &str, expected: &[&str]) {
        let found = count_changes(&set(old), &set(new));
        assert!(!found.is_cut);
        let reported = |one: &Restart| format!("{} {}{}", one.rule, one.limit, one.reason_text());
        let reported: Vec<_> = found.restarts.iter().map(reported).collect();
        assert_eq!(reported, expected, "{old} -> {new}");
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
        // A new rule for one value continues the count of the value, if window and name are equal.
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
        // Values with a counter each keep it under any rule.
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
        let reported = count_changes(&many, &many);
        assert!(
            reported.is_cut && reported.restarts.is_empty() && reported.gone.is_empty(),
            "{reported:?}"
        );
        assert!(!reported.keep_all());
    }

    /// A set of complete files.
    fn files(texts: &[&str]) -> PolicySet {
        let file = |(number, text): (usize, &&str)| Source {
            path: format!("{number}.yaml"),
            text: (*text).to_owned(),
        };
        let sources: Vec<Source> = texts.iter().enumerate().map(file).collect();
        compile(&sources, CompileOptions::default()).unwrap()
    }

    /// The limits that start a new count, and those that are gone.
    #[track_caller]
    fn check_files(old: &[&str], new: &[&str], restarts: &[&str], gone: &[&str]) {
        let found = count_changes(&files(old), &files(new));
        let reported = |one: &Restart| format!("{} {}{}", one.rule, one.limit, one.reason_text());
        let reported: Vec<_> = found.restarts.iter().map(reported).collect();
        assert_eq!(reported, restarts, "{old:?} -> {new:?}");
        let lost = |one: &Gone| format!("{} {} {}", one.domain, one.rule, one.limit);
        let lost: Vec<_> = found.gone.iter().map(lost).collect();
        assert_eq!(lost, gone, "{old:?} -> {new:?}");
        assert_eq!(found.keep_all(), restarts.is_empty() && gone.is_empty());
    }

    #[test]
    fn an_entry_that_becomes_a_qualifier_moves_the_counts_of_the_path() {
        let path = "domain: d\ndescriptors: [{key: u, descriptors: [{key: op, limits: [10/day]}]}]";
        let qualified = "domain: d\nqualifiers: [op]\ncaller: {key: u}\ndescriptors: [{key: u, limits: [10/day]}]";
        let tier = "domain: d\ntiers: [a]\ncaller: {key: u, tier: {key: op}}\ndescriptors: [{key: u, limits: [10/day]}]";
        let reported = "u u 10/day for requests that met rule `u/op` before: its path was `u/op`";
        check_files(&[path], &[qualified], &[reported], &[]);
        check_files(&[path], &[tier], &[reported], &[]);
        let reported = "u/op u/op 10/day for requests that met rule `u` before: its path was `u`";
        check_files(&[qualified], &[path], &[reported], &[]);
        check_files(&[tier], &[path], &[reported], &[]);
        check_files(&[qualified], &[tier], &[], &[]);
        let first =
            "domain: d\ndescriptors: [{key: op, descriptors: [{key: u, limits: [10/day]}]}]";
        let reported = "u u 10/day for requests that met rule `op/u` before: its path was `op/u`";
        check_files(&[first], &[qualified], &[reported], &[]);
    }

    #[test]
    fn a_limit_that_moves_to_another_depth_is_told() {
        check(
            "[{key: u, cascade: true, limits: [10/day], descriptors: [{key: m}]}]",
            "[{key: u, descriptors: [{key: m, limits: [10/day]}]}]",
            &["u/m u/m 10/day for requests that met rule `u` before: its path was `u`"],
        );
        check(
            "[{key: u, descriptors: [{key: m, limits: [10/day]}]}]",
            "[{key: u, cascade: true, limits: [10/day], descriptors: [{key: m}]}]",
            &["u u 10/day for requests that met rule `u/m` before: its path was `u/m`"],
        );
        // By name, even if another limit is now at its place.
        check(
            "[{key: u, cascade: true, limits: [{name: n, rate: 10/day}], descriptors: [{key: m}]}]",
            "[{key: u, cascade: true, limits: [1/hour], descriptors: [{key: m, limits: [{name: n, rate: 10/day}]}]}]",
            &[
                "u u 1/hour: its window was `day`, its name was `n`",
                "u/m n for requests that met rule `u` before: its path was `u`",
            ],
        );
        // An entry without a rule ends the path, but not cascading limits.
        check(
            "[{key: u, cascade: true, limits: [10/day]}]",
            "[{key: u, descriptors: [{key: m, limits: [10/day]}]}]",
            &["u/m u/m 10/day for requests that met rule `u` before: its path was `u`"],
        );
    }

    #[test]
    fn limits_that_are_added_take_nothing_away() {
        let one = "domain: d\ndescriptors: [{key: u, limits: [10/day]}]";
        for more in [
            "domain: d\ndescriptors: [{key: u, limits: [10/day], descriptors: [{key: m, limits: [10/day]}]}]",
            "domain: d\ndescriptors: [{key: u, cascade: true, limits: [10/day, 10/hour], descriptors: [{key: m, limits: [10/day]}]}]",
            "domain: d\ndescriptors: [{key: u, limits: [10/day]}, {key: u, value: admin, rate_limit: {unlimited: true}}]",
            "domain: d\ndescriptors: [{key: u, value: 'a*', limits: [1/day]}, {key: u, limits: [10/day]}, {key: v}]",
            "domain: d\nqualifiers: [op]\ndescriptors: [{key: u, limits: [10/day]}]",
        ] {
            check_files(
                &[one],
                &[more, "domain: e\ndescriptors: [{key: u, limits: [1/day]}]"],
                &[],
                &[],
            );
        }
    }

    #[test]
    fn limits_whose_counts_nothing_uses_are_gone() {
        let domain = |name: &str, rules: &str| format!("domain: {name}\ndescriptors: [{rules}]");
        let (u, v) = ("{key: u, limits: [{name: n, rate: 9/day}]}", "{key: v, limits: [1/day]}");
        let both = domain("d", &format!("{u}, {v}"));
        let check = |new: &str, gone: &[&str]| check_files(&[&both], &[new], &[], gone);
        check(&both, &[]);
        check(&domain("e", &format!("{u}, {v}")), &["d u n", "d v v 1/day"]);
        check(&domain("d", v), &["d u n"]);
        check(&domain("d", &format!("{}, {v}", u.replace("key: u", "key: w"))), &["d u n"]);
        check(&domain("d", &format!("{{key: u}}, {v}")), &["d u n"]);
        check(
            &domain("d", &format!("{{key: u, rate_limit: {{unlimited: true}}}}, {v}")),
            &["d u n"],
        );
        check(
            &domain("d", &format!("{}, {v}", u.replace("key: u", "key: u, value: a"))),
            &["d u n"],
        );
        let (one, other) = (domain("d", u), domain("e", v));
        check_files(&[&one, &other], &[&one], &[], &["e v v 1/day"]);
        let below =
            domain("d", &format!("{{key: m, cascade: true, limits: [2/day], descriptors: [{u}]}}"));
        check_files(&[&below], &[&domain("d", "{key: m, limits: [2/day]}")], &[], &["d m/u n"]);
        check_files(&[&below], &[&domain("d", u)], &[], &["d m m 2/day", "d m/u n"]);
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

    /// The limits that start a new count for requests with these entries, each with the new and the old rule.
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
                let reported = count_changes(&old, &new).restarts.into_iter().map(|one| {
                    (one.rule_before.unwrap_or_else(|| one.rule.clone()), one.rule, one.limit)
                });
                let reported: BTreeSet<_> = reported.collect();
                let missed: Vec<_> = found_by_requests(&old, &new).difference(&reported).cloned().collect();
                prop_assert!(missed.is_empty(), "missed {:?}", missed);
            }
        }
    }

    /// Rules for `u` and `m`, one below the other, by the numbers of their limits and whether they cascade.
    type Nested = [(usize, bool, usize); 2];

    /// No rule for an entry that is a qualifier.
    fn nested(qualifier: usize, rules: Nested) -> PolicySet {
        let qualifier = ["", "u", "m"][qualifier];
        let rule = |key: &str, more: String| match key == qualifier {
            true => String::new(),
            false => format!("{{key: {key}{more}}}"),
        };
        let limits = |number: usize| match LIMITS[number % LIMITS.len()] {
            "" => String::new(),
            limits => format!(", {limits}"),
        };
        let whole = |(key, below): (&str, &str), (own, cascade, deep): (usize, bool, usize)| {
            let (own, below) = (limits(own), rule(below, limits(deep)));
            let cascade = cascade && !own.is_empty();
            rule(key, format!("{own}, cascade: {cascade}, descriptors: [{below}]"))
        };
        let rules = [whole(("u", "m"), rules[0]), whole(("m", "u"), rules[1])];
        let rules: Vec<&str> =
            rules.iter().map(String::as_str).filter(|rule| !rule.is_empty()).collect();
        let qualifiers = if qualifier.is_empty() {
            String::new()
        } else {
            format!("qualifiers: [{qualifier}]\n")
        };
        files(&[&format!("domain: d\n{qualifiers}descriptors: [{}]", rules.join(", "))])
    }

    /// The key of a counter and the tag of its limit.
    type Counter = (Key, Arc<str>);

    /// The counters of a request, each with its rule's path and its limit's label.
    fn counters(set: &PolicySet, entries: &[(&str, &str)]) -> Vec<(Counter, (String, String))> {
        let domain = set.domain("d").unwrap();
        let path = domain.path(entries);
        let walk = domain.walk(&path);
        let end = walk.end().map(|rule| (path.len(), rule));
        let met = walk.cascading().chain(end);
        met.flat_map(|(depth, rule)| {
            let key = domain.key(&walk, &path, depth);
            rule.limits.iter().map(move |limit| {
                let counter = (key.clone(), Arc::clone(limit.limit.tag()));
                (counter, (rule.path.clone(), limit.label.to_string()))
            })
        })
        .collect()
    }

    proptest! {
        #[test]
        fn what_whole_requests_lose_is_told_and_nothing_else_is_gone(
            old in (0..3usize, any::<Nested>()),
            new in (0..3usize, any::<Nested>()),
        ) {
            let (old, new) = (nested(old.0, old.1), nested(new.0, new.1));
            let reported = count_changes(&old, &new);
            let requests: [&[(&str, &str)]; 4] =
                [&[("u", "x")], &[("m", "x")], &[("u", "x"), ("m", "x")], &[("m", "x"), ("u", "x")]];
            let used: Vec<_> = requests.iter().flat_map(|request| counters(&new, request)).collect();
            let is_used = |counter: &Counter| used.iter().any(|(other, _)| other == counter);
            for request in requests {
                let (before, now) = (counters(&old, request), counters(&new, request));
                let is_now = |counter: &Counter| now.iter().any(|(other, _)| other == counter);
                let gone: Vec<_> = before.iter().filter(|(counter, _)| !is_now(counter)).collect();
                for (counter, (rule, limit)) in &now {
                    let is_fresh = !before.iter().any(|(other, _)| other == counter);
                    let is_moved = gone.iter().any(|((_, tag), _)| *tag == counter.1);
                    let is_reported = reported.restarts.iter().any(|one| one.rule == *rule && one.limit == *limit);
                    prop_assert!(!is_fresh || !is_moved || is_reported, "{rule} {limit}: {reported:?}");
                }
                for (counter, (rule, limit)) in &before {
                    let is_gone = reported.gone.iter().any(|one| one.rule == *rule && one.limit == *limit);
                    let is_taken = reported.restarts.iter().any(|one| one.rule_before.as_ref().unwrap_or(&one.rule) == rule);
                    prop_assert!(is_used(counter) || is_gone || is_taken, "{rule} {limit}: {reported:?}");
                    prop_assert!(!is_used(counter) || !is_gone, "{rule} {limit} is not gone: {reported:?}");
                }
            }
        }
    }
}
