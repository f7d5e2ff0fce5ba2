//! Tests of overlays.

mod conflicts;

use super::*;
use crate::policy::model::Domain;

/// Two routes as Envoy Gateway sends them.
const SENT: &str = r"
domain: shop
descriptors:
- key: generic_key
  value: httproute/shop/cart/rule/0
  descriptors:
  - key: rule-0-match-0
    rate_limit: {unit: minute, requests_per_unit: 60}
  - key: rule-1-match-0
    value: rule-1-match-0
    shadow_mode: true
    rate_limit: {unit: hour, requests_per_unit: 9, name: hourly}
- key: generic_key
  value: httproute/shop/pay/rule/0
  descriptors:
  - key: rule-0-match-0
    rate_limit: {unit: minute, requests_per_unit: 5}
  - key: masked_remote_address
    value: 10.0.0.0/8
    rate_limit: {unlimited: true}
";

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

fn compiled(overlays: &[&str], before: Option<&PolicySet>) -> PolicySet {
    let overlays: Vec<Source> =
        (1..).zip(overlays).map(|(number, text)| source(&format!("{number}.yaml"), text)).collect();
    let sent = [source("xds:shop", SENT)];
    let set = compile_with_overlays((&sent, &overlays), CompileOptions::default(), before);
    set.unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// An overlay with these rules.
fn over(rules: &str) -> String {
    format!(
        "domain: shop\ntiers: [free, paid]\ncaller: {{ key: rule-0-match-0 }}\ndescriptors:\n{rules}"
    )
}

fn shop(set: &PolicySet) -> &Domain {
    set.domain("shop").unwrap()
}

/// The limits of the rule for these entries, each with its place.
fn limits(set: &PolicySet, entries: &[(&str, &str)]) -> Vec<String> {
    let rule = shop(set).walk(entries).end().unwrap();
    let place = |limit: &crate::policy::RuleLimit| {
        limit.places.as_ref().map(|places| places.rate.to_string()).unwrap_or_default()
    };
    rule.limits.iter().map(|limit| format!("{} {}", limit.limit, place(limit))).collect()
}

const CART: (&str, &str) = ("generic_key", "httproute/shop/cart/rule/0");
const PAY: (&str, &str) = ("generic_key", "httproute/shop/pay/rule/0");
const ALICE: (&str, &str) = ("rule-0-match-0", "alice");

#[test]
fn a_rule_adds_limits_beside_the_one_that_was_sent() {
    let set = compiled(
        &[&over(
            "\
- key: generic_key
  value: httproute/shop/cart/rule/0
  descriptors:
  - key: rule-0-match-0
    on_outage: local
    limits:
    - {rate: sent, wait: {up_to: 2s}}
    - {name: daily, by_tier: {free: 100/day, paid: 1000/day}}
",
        )],
        None,
    );
    let overlay = &set.overlays()[0];
    assert_eq!((overlay.state, overlay.met_count), (OverlayState::InForce, 2), "{overlay:?}");
    let found = limits(&set, &[CART, ALICE]);
    assert_eq!(found, ["60/minute xds:shop:8", "100/day 1.yaml:12"]);
    assert_eq!(limits(&set, &[PAY, ALICE]), ["5/minute "]);
    let rule = shop(&set).walk(&[CART, ALICE]).end().unwrap();
    assert_eq!(rule.location.to_string(), "xds:shop:7");
    assert_eq!(rule.overlay.as_ref().unwrap().to_string(), "1.yaml:8");
    assert!(rule.of_caller, "the overlay names the caller");
    let [sent, daily] = &rule.limits[..] else { panic!("{rule:?}") };
    assert!(sent.wait.is_some() && daily.wait.is_none());
    assert_eq!(sent.places.as_ref().unwrap().more.as_ref().unwrap().to_string(), "1.yaml:11");
    assert!(rule.limits.iter().all(|limit| limit.on_outage.to_string() == "local"));
    // The count of what was sent goes on, with the overlay and without it.
    let plain = compiled(&[], None);
    let before = shop(&plain).walk(&[CART, ALICE]).end().unwrap();
    assert_eq!(before.limits[0].limit.tag(), sent.limit.tag());
    assert!(before.limits[0].places.is_none());
}

#[test]
fn a_rule_meets_as_a_rule_is_met_by_a_request() {
    let limit =
        |amount: u32| format!("descriptors: [{{key: rule-0-match-0, limits: [{amount}/day]}}]");
    let rules = format!(
        "- {{key: generic_key, value: 'httproute/*', {}}}\n- {{key: generic_key, value: httproute/shop/pay/rule/0, {}}}\n",
        limit(1),
        limit(2),
    );
    let set = compiled(&[&over(&rules)], None);
    assert_eq!(limits(&set, &[CART, ALICE])[1], "1/day 1.yaml:5");
    assert_eq!(limits(&set, &[PAY, ALICE])[1], "2/day 1.yaml:6");
    // A key alone meets all values; a `*` may be in a key.
    let rules = "- {key: generic_key, descriptors: [{key: 'rule-*-match-*', limits: [3/day]}]}\n";
    let set = compiled(&[&over(rules)], None);
    let hourly = ("rule-1-match-0", "rule-1-match-0");
    assert_eq!(limits(&set, &[CART, ALICE])[1], "3/day 1.yaml:5");
    assert_eq!(limits(&set, &[CART, hourly])[1], "3/day 1.yaml:5");
    assert_eq!(limits(&set, &[PAY, ALICE])[1], "3/day 1.yaml:5");
    assert_eq!(set.overlays()[0].met_count, 5);
    // What was sent in shadow mode stays so, and what is added there is so too.
    let rule = shop(&set).walk(&[CART, hourly]).end().unwrap();
    assert!(rule.limits.iter().all(|limit| limit.mode.to_string() == "shadow"));
    assert_eq!(&*rule.limits[0].label, "hourly");
}

#[test]
fn what_the_resource_does_not_have_waits_and_says_so() {
    let rules = "\
- key: generic_key
  value: httproute/shop/cart/rule/0
  descriptors:
  - {key: rule-0-match-1, limits: [1/day]}
  - {key: rule-0-match-0, limits: [1/day]}
- {key: other, descriptors: [{key: a, limits: [1/day]}]}
";
    let set = compiled(&[&over(rules), "domain: elsewhere\ndescriptors: []"], None);
    let [shop, elsewhere] = set.overlays() else { panic!("{:?}", set.overlays()) };
    assert_eq!(shop.state, OverlayState::InForce);
    let told = |problem: &Problem| (problem.severity, problem.line, problem.message.clone());
    let warning = |line, text: &str| (Severity::Warning, line, text.to_owned());
    let at = "generic_key=httproute/shop/cart/rule/0";
    assert_eq!(
        shop.problems.iter().map(told).collect::<Vec<_>>(),
        [
            warning(
                8,
                &format!(
                    "this waits: the resource has no rule `{at}/rule-0-match-1`; did you mean `rule-0-match-0`?"
                )
            ),
            warning(
                10,
                &format!("this waits: the resource has no rule `other`; it has `{at}` here")
            ),
        ]
    );
    assert_eq!(elsewhere.state, OverlayState::Waiting);
    let expected = "this waits: there is no resource of the domain `elsewhere`";
    assert_eq!(elsewhere.problems[0].message, expected);
    assert!(set.domain("elsewhere").is_none());
    assert_eq!(limits(&set, &[CART, ALICE]).len(), 2);
}

#[test]
fn a_rule_in_place_of_which_another_meets_is_told() {
    let rules = "\
- {key: generic_key, value: httproute/shop/cart/rule/0}
- {key: generic_key, value: 'httproute/*'}
- {key: generic_key, value: httproute/shop/cart/rule/0}
- {key: generic_key, value: 'httproute/shop/*'}
";
    let set = compiled(&[&over(rules)], None);
    let told: Vec<(usize, &str)> =
        set.overlays()[0].problems.iter().map(|one| (one.line, one.message.as_str())).collect();
    let adds_nothing = |line: usize| {
        format!(
            "this adds nothing: the rule of the overlay in line {line} meets \
             `generic_key=httproute/shop/cart/rule/0` already"
        )
    };
    assert_eq!(told, [(7, &*adds_nothing(5)), (8, &*adds_nothing(5))]);
}

#[test]
fn a_rule_that_waits_is_checked_at_once() {
    let rules = "- {key: later, one_of: [a, b]}\n";
    let set = compiled(&[&over(rules), "domain: elsewhere\nmode: shadow"], None);
    let messages = set.overlays().iter().map(|one| (one.state, &*one.problems[0].message));
    let messages: Vec<_> = messages.collect();
    assert!(messages.iter().all(|(state, _)| *state == OverlayState::Rejected), "{messages:?}");
    assert!(messages[0].1.starts_with("`one_of` is invalid in an overlay"), "{messages:?}");
}

#[test]
fn what_waits_is_told_up_to_a_maximum() {
    let rules: String = (0..150).map(|number| format!("- {{key: other-{number}}}\n")).collect();
    let set = compiled(&[&over(&rules)], None);
    let problems = &set.overlays()[0].problems;
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[100].message, "more rules wait; they are not shown");
}

#[test]
fn a_broken_edit_leaves_the_overlay_before_it() {
    let rules = |limit: &str| {
        over(&format!(
            "- {{key: generic_key, descriptors: [{{key: rule-0-match-0, limits: [{limit}]}}]}}\n"
        ))
    };
    let first = compiled(&[&rules("7/day")], None);
    for broken in [
        rules("7/minute"),
        "domain: shop\nmode: shadow".to_owned(),
        "domain: [".to_owned(),
        String::new(),
    ] {
        let second = compiled(&[&broken], Some(&first));
        let overlay = &second.overlays()[0];
        assert_eq!(overlay.state, OverlayState::Kept, "{broken}");
        assert!(has_error(&overlay.problems), "{overlay:?}");
        assert_eq!(second.hash(), first.hash());
        // And again, after the resource was sent anew.
        let third = compiled(&[&broken], Some(&second));
        assert_eq!(third.overlays()[0].state, OverlayState::Kept);
        let mended = compiled(&[&rules("8/day")], Some(&third));
        assert_eq!(mended.overlays()[0].state, OverlayState::InForce);
        assert_ne!(mended.hash(), first.hash());
    }
    // A file that is gone adds nothing.
    assert_eq!(compiled(&[], Some(&first)).hash(), compiled(&[], None).hash());
}

#[test]
fn a_text_that_was_in_force_is_so_again_when_its_resource_returns() {
    let good =
        over("- {key: generic_key, descriptors: [{key: rule-0-match-0, limits: [7/day]}]}\n");
    let away = |text: &str, before: &PolicySet| {
        let overlays = [source("1.yaml", text)];
        let options = CompileOptions::default();
        compile_with_overlays((&[], &overlays), options, Some(before)).unwrap()
    };
    let first = compiled(&[&good], None);
    for broken in ["domain: [".to_owned(), good.replace("7/day", "7/minute")] {
        let kept = compiled(&[&broken], Some(&first));
        // Broken before the resource goes, and while it is away.
        for before in [&kept, &first] {
            let gone = away(&broken, before);
            assert!(!gone.overlays()[0].state.is_in_force());
            let gone = away(&broken, &gone);
            let back = compiled(&[&broken], Some(&gone));
            assert_eq!(back.overlays()[0].state, OverlayState::Kept, "{broken}");
            assert_eq!(back.hash(), first.hash());
        }
    }
    // A file that has moved to another domain does not come back.
    let moved = compiled(&["domain: elsewhere"], Some(&first));
    assert_eq!(moved.overlays()[0].state, OverlayState::Waiting);
    let broken = compiled(&["domain: ["], Some(&moved));
    assert_eq!(broken.overlays()[0].state, OverlayState::Rejected);
}

#[test]
fn a_second_file_never_takes_the_place_of_the_first() {
    let shown = |set: &PolicySet| -> Vec<(String, &str)> {
        set.overlays().iter().map(|one| (one.file.to_string(), one.state.name())).collect()
    };
    let sent = [source("xds:shop", SENT)];
    let laid = |resources: &[Source], overlays: &[Source], before: &PolicySet| {
        let options = CompileOptions::default();
        compile_with_overlays((resources, overlays), options, Some(before)).unwrap()
    };
    let [a, b] = ["a.yaml", "b.yaml"].map(|path| source(path, "domain: shop"));
    let first = laid(&sent, std::slice::from_ref(&b), &PolicySet::empty());
    let both = [a.clone(), b];
    let second = laid(&sent, &both, &first);
    let expected = [("a.yaml".to_owned(), "rejected"), ("b.yaml".to_owned(), "in_force")];
    assert_eq!(shown(&second), expected);
    let message = "the domain `shop` has an overlay already, in b.yaml";
    assert_eq!(second.overlays()[0].problems[0].message, message);
    // Also after an edit that is broken, and after the resource was away.
    let broken = [a, source("b.yaml", "domain: [")];
    let kept = laid(&sent, &broken, &second);
    assert_eq!(kept.overlays()[1].state, OverlayState::Kept);
    let gone = laid(&[], &both, &kept);
    assert_eq!(shown(&laid(&sent, &both, &gone)), expected);
    // A file that was elsewhere does not, either.
    let elsewhere = source("a.yaml", "domain: other");
    let others = [source("xds:shop", SENT), source("xds:other", "domain: other")];
    let apart = laid(&others, &[elsewhere, both[1].clone()], &first);
    assert!(apart.overlays().iter().all(|one| one.state == OverlayState::InForce));
    let states = laid(&others, &both, &apart);
    assert_eq!(
        states.overlays().iter().map(|one| one.state.name()).collect::<Vec<_>>(),
        ["kept", "in_force"]
    );
}

#[test]
fn one_file_adds_to_a_domain() {
    let set = compiled(&[&over("- {key: generic_key}\n"), "domain: shop"], None);
    let [_, second] = set.overlays() else { panic!("{:?}", set.overlays()) };
    assert_eq!(second.state, OverlayState::Rejected);
    let expected = "the domain `shop` has an overlay already, in 1.yaml";
    assert_eq!(second.problems[0].message, expected);
}

#[test]
fn what_is_wrong_in_the_resource_is_told_of_it_alone() {
    let sent = [source(
        "xds:shop",
        "domain: shop\ndescriptors: [{key: a, rate_limit: {unit: eon, requests_per_unit: 1}}]",
    )];
    let overlays = [source("o.yaml", "domain: shop\nnonsense: 1")];
    let options = CompileOptions::default();
    let problems = compile_with_overlays((&sent, &overlays), options, None).unwrap_err();
    assert!(problems.iter().all(|problem| problem.path == "xds:shop"), "{problems:?}");
}
