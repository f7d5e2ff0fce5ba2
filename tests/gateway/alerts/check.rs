//! `tollgate check --alerts`, the JSON Schema, and edits of the file under a running process.

use std::fs;

use serde_json::Value;

use super::AlertFile;
use crate::support::eventually;
use crate::support::store::Store;
use crate::support::tollgate;

#[test]
fn a_file_is_checked_with_carets() {
    let check = |text: &str| {
        let file = AlertFile::new(text);
        let path = file.path.to_str().unwrap();
        let output = tollgate::command().args(["check", "--alerts", path]).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let said =
        check("alerts:\n  slow: { when: latency, above: 50ms }\nchannels: { log: { type: log } }");
    assert!(said.contains("1 file, 1 alert, 1 channel: no errors"), "{said}");
    let said = check("alerts:\n  slow: { when: latency, above: 50 }");
    assert!(said.contains("invalid value `50`; use a duration, such as 50ms, 2s or 14d"), "{said}");
    assert!(said.contains("^^") && said.contains("1 file: 1 error, no warnings"), "{said}");
    let template = |title: &str| {
        check(&format!(
            "channels:\n  log:\n    type: slack\n    url: https://a.example\n    title: {title}\nalerts: {{ a: {{ when: store_down }} }}"
        ))
    };
    let said = template("'{{ alert.rule }} {{ alert.labels.user }}'");
    assert!(said.contains("unknown field `alert.labels.user`; there are address, "), "{said}");
    let caret = format!(" {}\n", "^".repeat("alert.labels.user".len()));
    assert!(said.contains("alerts.yaml:5:33") && said.contains(&caret), "{said}");
    let said = template("|\n      first\n      {{ alert.rule|shout }}");
    assert!(said.contains("invalid template: unknown filter"), "{said}");
    assert!(said.contains("7 |       {{ alert.rule|shout }}"), "{said}");
}

#[test]
fn what_a_channel_needs_and_does_not_have_is_a_warning() {
    let file = AlertFile::new(
        "channels:\n  ops:\n    type: webhook\n    url: http://127.1:9000/\n    secret_file: /nowhere/secret\n\
         alerts: { a: { when: store_down } }",
    );
    let path = file.path.to_str().unwrap();
    let check = |more: &[&str]| {
        let check = ["check", "--alerts", path];
        let output = tollgate::command().args(check).args(more).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let (is_fine, said) = check(&[]);
    assert!(is_fine, "{said}");
    for part in [
        "the receiver is at the private address 127.0.0.1",
        "4 |     url: http://127.1:9000/",
        "can't read `/nowhere/secret`",
        "5 |     secret_file: /nowhere/secret",
        "^^^",
        "1 file, 1 alert, 1 channel: no errors, 2 warnings",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!check(&["--deny-warnings"]).0);
    let (_, said) = check(&["--format", "json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["problems"][1]["line"], 5, "{report:#}");
    assert_eq!(report["problems"][1]["severity"], "warning");
}

#[test]
fn what_rules_name_is_found_in_policies() {
    let file = AlertFile::new(
        "alerts:\n  risky: { when: risk, above: 70, answer: { tier: restrictd, for: 1h } }\n  \
         full: { when: capacity, above: 90%, provider: hotelbed }\n  \
         denied: { when: denials, above: 5, domain: gat }\n",
    );
    let policy = file.beside("policy.yaml");
    let text = "domain: gate\ntiers: [restricted, free]\ncaller: { key: user, tier: { key: tier } }
descriptors:\n- { key: user, limits: [10/day] }
- { key: provider, value: hotelbeds, limits: [10/day], capacity: { reserve: { free: 10% } } }\n";
    fs::write(&policy, text).unwrap();
    let check = |more: &[&str]| {
        let check = ["check", "--alerts", file.path.to_str().unwrap()];
        let output = tollgate::command().args(check).args(more).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    assert!(check(&[]).0, "without policies, any name may be known");
    let (is_fine, said) = check(&["--policies", policy.to_str().unwrap()]);
    assert!(!is_fine, "{said}");
    for part in [
        "unknown tier `restrictd`, so its answer restricts nobody; did you mean `restricted`?",
        "alerts.yaml:2:51",
        &format!(" {}\n", "^".repeat("restrictd".len())),
        "unknown provider `hotelbed`, so it never fires; did you mean `hotelbeds`?",
        "unknown domain `gat`, so it never fires; did you mean `gate`?",
        "3 errors",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Policies that are invalid are told themselves.
    fs::write(&policy, "domain: gate\nlimits: []").unwrap();
    let (is_fine, said) = check(&["--policies", policy.to_str().unwrap()]);
    assert!(!is_fine && said.contains("policy.yaml:2"), "{said}");
    let output = tollgate::command().args(["check", "--policies", "a", "b"]).output().unwrap();
    assert!(!output.status.success(), "it needs --alerts or --callers");
}

#[test]
fn the_schema_has_every_key() {
    let output = tollgate::command().args(["schema", "--alerts"]).output().unwrap();
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["title"], "Tollgate alerts");
    assert!(schema["$defs"]["AlertRuleFile"]["properties"]["for"].is_object(), "{schema:#}");
}

#[test]
fn the_example_passes_the_check() {
    let check = ["check", "--deny-warnings", "--alerts", "config/alerts.yaml"];
    let output = tollgate::command().args(check).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let check = ["check", "--alerts", "config/alerts.yaml", "--policies", "config/policies"];
    let output = tollgate::command().args(check).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && said.contains("3 warnings"), "{said}");
    let page = fs::read_to_string("config/alerts.md").unwrap();
    let examples = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    for example in examples {
        let file = AlertFile::new(example);
        let path = file.path.to_str().unwrap();
        let output = tollgate::command().args(["check", "--alerts", path]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn an_edit_is_live_and_a_bad_one_changes_nothing() {
    let file = AlertFile::new("alerts: {}");
    let tollgate = file.serve(&Store::Embedded).await;
    file.edit("alerts: { a: { when: store_dwn } }");
    eventually("the error", async || {
        tollgate.output().contains("the previous alerts stay in force").then_some(())
    })
    .await;
    file.edit("channels: { log: { type: log } }\nalerts: { quick: { when: latency, above: 1ms } }");
    eventually("the edit", async || tollgate.output().contains("rules=1").then_some(())).await;
    // A name that no policy has is told once, before anything fires.
    file.edit("alerts: { risky: { when: risk, above: 70, answer: { tier: none, for: 1h } }, two: { when: queue, above: 9 } }");
    let warning = "alert `risky`: unknown tier `none`, so its answer restricts nobody";
    eventually("the warning", async || tollgate.output().contains(warning).then_some(())).await;
    file.edit("alerts: { risky: { when: risk, above: 71, answer: { tier: none, for: 1h } } }");
    eventually("the edit", async || {
        (tollgate.output().matches("rules=1").count() == 2).then_some(())
    })
    .await;
    assert_eq!(tollgate.output().matches(warning).count(), 1);
}
