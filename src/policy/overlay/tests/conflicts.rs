//! Tests of overlays that conflict with their resources.

use super::*;

/// The problems of a single overlay.
fn problems(set: &PolicySet) -> Vec<String> {
    let shown =
        |one: &Problem| format!("{}:{}:{}: {}", one.path, one.line, one.column, one.message);
    set.overlays()[0].problems.iter().map(shown).collect()
}

/// A single overlay is left out.
#[track_caller]
fn check_rejected(overlay: &str, expected: &[&str]) {
    let set = compiled(&[overlay], None);
    assert_eq!(problems(&set), expected);
    assert_eq!(set.overlays()[0].state, OverlayState::Rejected);
    assert_eq!(set.hash(), compiled(&[], None).hash());
}

/// The only limits of a single overlay are left out.
#[track_caller]
fn check_left_out(overlay: &str, expected: &[&str]) {
    let (set, plain) = (compiled(&[overlay], None), compiled(&[], None));
    assert_eq!(problems(&set), expected);
    assert_eq!(set.overlays()[0].state, OverlayState::Partial);
    for entries in [[CART, ALICE], [PAY, ALICE]] {
        let tags = |set: &PolicySet| {
            let rule = shop(set).walk(&entries).end().unwrap();
            rule.limits.iter().map(|limit| limit.limit.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(tags(&set), tags(&plain));
    }
}

#[test]
fn conflicts_are_told_with_both_places() {
    let rule = |text: &str| {
        over(&format!("- key: generic_key\n  descriptors:\n  - {{key: rule-0-match-0, {text}}}\n"))
    };
    check_left_out(
        &rule("limits: [7/minute]"),
        &[
            "1.yaml:7:36: duplicate limit in this rule; give it a `name`, so that its count is kept when \
             the rule is edited; the other is in xds:shop:8",
        ],
    );
    check_rejected(
        &rule("shadow_mode: true, rate_limit: {unit: day, requests_per_unit: 1}"),
        &[
            "1.yaml:7:46: an overlay adds `limits`, not `rate_limit`",
            "1.yaml:7:27: `shadow_mode` would change the limits of the resource; set it in the limits of the overlay",
        ],
    );
    check_left_out(
        &rule("limits: [{rate: sent, grace: 10%}, {rate: sent}]"),
        &[
            "1.yaml:7:37: `grace` can't change a limit of the resource; write a limit of the overlay beside it",
            "1.yaml:7:63: `rate: sent` occurs twice in this rule",
        ],
    );
    check_left_out(&rule("limits: unlimited"), &["1.yaml:7:35: an overlay can't take limits away"]);
    check_left_out(
        &over("- {key: generic_key, limits: [{rate: sent}]}\n"),
        &["1.yaml:5:32: the resource has no limit in this rule (xds:shop:4)"],
    );
    check_left_out(
        &over(
            "- {key: generic_key, descriptors: [{key: masked_remote_address, limits: [1/day]}]}\n",
        ),
        &["1.yaml:5:73: the resource says that no limit applies here (xds:shop:20)"],
    );
    check_rejected(
        &format!("{}mode: shadow\ndefaults: {{grace: 10%}}\n", over("- {key: generic_key}\n")),
        &[
            "1.yaml:6:1: `mode` would change the limits of the resource; set it in the limits of the overlay",
            "1.yaml:7:12: `grace` would change the limits of the resource; set it in the limits of the overlay",
        ],
    );
    check_rejected(
        &over("- {key: generic_key, limit: [1/day]}\n"),
        &["1.yaml:5:22: unknown key `limit` in a rule; did you mean `limits`?"],
    );
}

#[test]
fn a_key_that_both_say_is_a_conflict() {
    let sent = "domain: d\ndescriptors:\n- key: a\n  metadata: {x: 1}\n";
    let overlay = source("o.yaml", "domain: d\ndescriptors:\n- {key: a, metadata: {x: 2}}\n");
    let sent = [source("xds:d", sent)];
    let overlays = [overlay];
    let set = compile_with_overlays((&sent, &overlays), CompileOptions::default(), None).unwrap();
    let problem = &set.overlays()[0].problems[0];
    assert_eq!((problem.line, problem.column), (3, 12));
    let expected = "the resource says `metadata` here already, in xds:d:4";
    assert_eq!(problem.message, expected);
}

/// The set with what a server sends, after `before`.
fn sent(text: &str, overlay: &str, before: Option<&PolicySet>) -> PolicySet {
    let (sent, overlays) = ([source("xds:d", text)], [source("o.yaml", overlay)]);
    compile_with_overlays((&sent, &overlays), CompileOptions::default(), before).unwrap()
}

/// The limits of the rules of a resource with the keys `a` to `d`.
fn counts(set: &PolicySet) -> Vec<usize> {
    let domain = set.domain("d").unwrap();
    let limits = |key| domain.walk(&[(key, "x")]).end().map_or(0, |rule| rule.limits.len());
    ["a", "b", "c", "d"].iter().map(|key| limits(key)).collect()
}

#[test]
fn what_an_update_of_the_resource_conflicts_with_is_left_out_there_alone() {
    let limit = "rate_limit: {unit: minute, requests_per_unit: 60}";
    let all = format!(
        "domain: d\ndescriptors: [{{key: a, {limit}}}, {{key: b, {limit}}}, {{key: c, {limit}}}, {{key: d, {limit}}}]"
    );
    let overlay = "domain: d\ndescriptors: [{key: a, detailed_metric: true, limits: [9/day]}, \
                   {key: '*', limits: [{rate: sent, overdraft: allow}, 9/day]}]";
    let first = sent(&all, overlay, None);
    assert_eq!(
        (first.overlays()[0].state, counts(&first)),
        (OverlayState::InForce, vec![2, 2, 2, 2])
    );
    // A key that the resource has now, a rule without a limit, and one that may have none.
    let update = format!(
        "domain: d\ndescriptors: [{{key: a, detailed_metric: true, {limit}}}, {{key: b}}, \
         {{key: c, rate_limit: {{unlimited: true}}}}, {{key: d, {limit}}}]"
    );
    let second = sent(&update, overlay, Some(&first));
    assert_eq!(
        problems(&second),
        [
            "o.yaml:2:24: the resource says `detailed_metric` here already, in xds:d:2",
            "o.yaml:2:84: the resource says that no limit applies here (xds:d:2)",
            "o.yaml:2:86: the resource has no limit in this rule (xds:d:2)",
        ]
    );
    let state = second.overlays()[0].state;
    assert_eq!((state, counts(&second)), (OverlayState::Partial, vec![2, 0, 0, 2]));
    // The same after a restart, and all is well with the resource before it.
    let restarted = sent(&update, overlay, None);
    assert_eq!((restarted.hash(), problems(&restarted)), (second.hash(), problems(&second)));
    let third = sent(&all, overlay, Some(&second));
    assert_eq!((third.overlays()[0].state, third.hash()), (OverlayState::InForce, first.hash()));
    // A text before a broken edit does as well.
    let kept = sent(&update, "domain: [", Some(&first));
    assert_eq!((kept.overlays()[0].state, kept.hash()), (OverlayState::Kept, second.hash()));
}

#[test]
fn a_rule_out_of_reach_stays_a_warning_of_the_resource() {
    let limit = "rate_limit: {unit: minute, requests_per_unit: 60}";
    let text = format!(
        "domain: d\ndescriptors: [{{key: a, value: gpt*, {limit}}}, {{key: a, value: gpt-4*, {limit}}}]"
    );
    let set = sent(&text, "domain: d\ndescriptors: [{key: a, limits: [9/day]}]", None);
    assert_eq!((set.overlays()[0].state, problems(&set)), (OverlayState::InForce, Vec::new()));
    let [warning] = set.warnings() else { panic!("{:?}", set.warnings()) };
    assert!(warning.message.starts_with("unreachable rule `a=gpt-4*`"), "{}", warning.message);
    // It is told once, whatever else is wrong.
    let broken =
        sent(&text, "domain: d\ntiers: [a, a]\ndescriptors: [{key: a, limits: [9/day]}]", None);
    assert!(
        problems(&broken).iter().all(|one| one.starts_with("o.yaml:")),
        "{:?}",
        problems(&broken)
    );
}
