//! The alert rules and the boards in `deploy/helm/monitoring`: their expressions are valid, and name only metrics and labels
//! that Tollgate exports. `pages.rs` checks that `config/metrics.md` has the metrics of a running Tollgate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::tools::{documents, required, run};

const RULES: &str = "deploy/helm/monitoring/alerts.yaml";
const TESTS: &str = "tests/house/alerts.yaml";
const BOARDS: &str = "deploy/helm/monitoring/boards";

/// Labels that Prometheus adds when it scrapes.
const TARGET_LABELS: [&str; 3] = ["namespace", "job", "instance"];

/// The labels of a metric, each with its values; none if they come from policies.
type Labels = BTreeMap<String, BTreeSet<String>>;

fn promtool() -> Command {
    required("promtool", "prometheus/promtool")
}

/// The metrics on the page, by the names of their series.
fn exported() -> BTreeMap<String, Labels> {
    let page = fs::read_to_string("config/metrics.md").unwrap();
    let (_, table) = page.split_once("| metric | type | labels | meaning |").unwrap();
    let quoted = |text: &str| {
        let parts = text.split('`').skip(1).step_by(2);
        parts.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut metrics = BTreeMap::new();
    for row in table.lines().filter(|row| row.starts_with("| `")) {
        let [_, name, kind, labels, ..] = row.split('|').collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        let labels: Labels = labels
            .split(';')
            .map(|label| quoted(label).into_iter())
            .filter_map(|mut words| Some((words.next()?, words.collect())))
            .collect();
        let name = quoted(name).remove(0);
        if kind.trim() == "histogram" {
            let mut of_bucket = labels.clone();
            of_bucket.insert("le".to_owned(), BTreeSet::new());
            metrics.insert(format!("{name}_bucket"), of_bucket);
            for end in ["sum", "count"] {
                metrics.insert(format!("{name}_{end}"), labels.clone());
            }
        } else {
            metrics.insert(name, labels);
        }
    }
    metrics
}

/// A part of an expression.
#[derive(Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Text(&'a str),
    Sign(&'a str),
}

/// The words, texts and signs of an expression.
fn tokens(expression: &str) -> Vec<Token<'_>> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "_$".contains(letter);
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = if first == '"' {
            let len = rest[1..].find('"').unwrap_or_else(|| panic!("{expression}")) + 2;
            tokens.push(Token::Text(&rest[1..len - 1]));
            len
        } else if is_word(first) {
            let len = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
            tokens.push(Token::Word(&rest[..len]));
            len
        } else {
            let len = if rest.starts_with("=~") || rest.starts_with("!~") || rest.starts_with("!=")
            {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(Token::Sign(&rest[..len]));
            len
        };
        rest = rest[len..].trim_start();
    }
    tokens
}

/// What in an expression Tollgate does not export.
fn flaws(expression: &str, metrics: &BTreeMap<String, Labels>) -> Vec<String> {
    let tokens = tokens(expression);
    let mut flaws = Vec::new();
    let mut known: BTreeSet<&str> = TARGET_LABELS.into();
    let mut is_about_tollgate = false;
    for (index, token) in tokens.iter().enumerate() {
        let Token::Word(name) = token else { continue };
        if !name.starts_with("tollgate_") && !name.starts_with("process_") {
            continue;
        }
        is_about_tollgate = true;
        let Some(labels) = metrics.get(*name) else {
            flaws.push(format!("no metric {name}"));
            continue;
        };
        known.extend(labels.keys().map(String::as_str));
        if tokens.get(index + 1) != Some(&Token::Sign("{")) {
            continue;
        }
        let matchers = tokens[index + 2..].split(|token| *token == Token::Sign("}")).next();
        for matcher in matchers.unwrap().split(|token| *token == Token::Sign(",")) {
            let [Token::Word(label), Token::Sign(_), Token::Text(text)] = matcher else {
                panic!("{expression}: {matcher:?}")
            };
            let values = labels.get(*label);
            if values.is_none() && !TARGET_LABELS.contains(label) {
                flaws.push(format!("{name} has no label {label}"));
            }
            for value in text.split('|').filter(|value| !value.contains('$')) {
                if values.is_some_and(|known| !known.is_empty() && !known.contains(value)) {
                    flaws.push(format!("{name} has no {label}={value}"));
                }
            }
        }
    }
    if !is_about_tollgate {
        flaws.push("no metric of Tollgate".to_owned());
    }
    for (index, token) in tokens.iter().enumerate() {
        if *token == Token::Word("by") {
            let labels = tokens[index + 2..].split(|token| *token == Token::Sign(")")).next();
            for label in labels.unwrap() {
                if let Token::Word(label) = label
                    && !known.contains(label)
                {
                    flaws.push(format!("no metric has the label {label}"));
                }
            }
        }
    }
    flaws
}

fn check(origin: &str, expression: &str, metrics: &BTreeMap<String, Labels>) {
    let flaws = flaws(expression, metrics);
    assert!(flaws.is_empty(), "{origin}: {expression}\n{flaws:#?}");
}

/// The alerts of the rules, by their names.
fn alerts() -> BTreeMap<String, Value> {
    let file = documents(&fs::read_to_string(RULES).unwrap()).remove(0);
    let rules = file["groups"].as_array().unwrap().iter();
    let rules = rules.flat_map(|group| group["rules"].as_array().unwrap().clone());
    rules.map(|rule| (rule["alert"].as_str().unwrap().to_owned(), rule)).collect()
}

/// The boards, each with its file.
fn boards() -> Vec<(String, Value)> {
    let files = fs::read_dir(BOARDS).unwrap().map(|file| file.unwrap().path());
    let read = |path: std::path::PathBuf| {
        let board = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        (path.display().to_string(), board)
    };
    let boards: Vec<(String, Value)> = files.map(read).collect();
    assert!(!boards.is_empty());
    boards
}

/// The expressions of a board: of its panels, and of its annotations.
fn expressions(board: &Value) -> Vec<String> {
    let of = |list: &Value| -> Vec<String> {
        let list = list.as_array().into_iter().flatten();
        list.filter_map(|one| Some(one["expr"].as_str()?.to_owned())).collect()
    };
    let panels = board["panels"].as_array().unwrap();
    let mut expressions: Vec<String> =
        panels.iter().flat_map(|panel| of(&panel["targets"])).collect();
    expressions.extend(of(&board["annotations"]["list"]));
    expressions
}

#[test]
fn every_alert_names_what_tollgate_exports() {
    let metrics = exported();
    for (name, rule) in alerts() {
        check(&name, rule["expr"].as_str().unwrap(), &metrics);
        let severity = rule["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("critical" | "warning")), "{name}: {severity:?}");
    }
    run(promtool().args(["check", "rules", RULES]));
}

#[test]
fn every_alert_fires_in_its_test_and_is_silent_if_all_is_well() {
    run(promtool().args(["test", "rules", TESTS]));
    let file = documents(&fs::read_to_string(TESTS).unwrap()).remove(0);
    let mut fired = BTreeSet::new();
    let mut silent = BTreeSet::new();
    for test in file["tests"].as_array().unwrap() {
        for alert in test["alert_rule_test"].as_array().unwrap() {
            let names = if alert["exp_alerts"].is_array() { &mut fired } else { &mut silent };
            names.insert(alert["alertname"].as_str().unwrap().to_owned());
        }
    }
    let all: BTreeSet<String> = alerts().into_keys().collect();
    assert_eq!(all, fired);
    assert_eq!(all, silent);
}

#[test]
fn every_board_names_what_tollgate_exports() {
    let metrics = exported();
    let mut rules = Vec::new();
    for (path, board) in boards() {
        let expressions = expressions(&board);
        assert!(!expressions.is_empty(), "{path}");
        let variables = board["templating"]["list"].as_array().unwrap();
        let is_declared = |name: &str| variables.iter().any(|variable| variable["name"] == name);
        for expression in &expressions {
            check(&path, expression, &metrics);
            for used in expression.split('$').skip(1) {
                let end =
                    used.find(|letter: char| letter != '_' && !letter.is_ascii_alphanumeric());
                let name = &used[..end.unwrap_or(used.len())];
                assert!(name.starts_with("__") || is_declared(name), "{path}: ${name}");
            }
            let expr = expression.replace("$__rate_interval", "5m");
            rules.push(json!({ "record": format!("board:{}", rules.len()), "expr": expr }));
        }
        for query in variables.iter().filter(|variable| variable["type"] == "query") {
            // The name of a label is an argument, as after `by`.
            let query = query["query"].as_str().unwrap();
            let inside =
                query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (metric, label) = inside.unwrap().rsplit_once(", ").unwrap();
            check(&path, &format!("count by ({label}) ({metric})"), &metrics);
        }
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("rules.yaml");
    let groups = json!({ "groups": [{ "name": "boards", "rules": rules }] });
    fs::write(&file, groups.to_string()).unwrap();
    run(promtool().args(["check", "rules"]).arg(&file));
}

#[test]
fn the_panels_of_a_board_have_different_numbers_and_places() {
    let mut uids = BTreeSet::new();
    for (path, board) in boards() {
        assert!(uids.insert(board["uid"].as_str().unwrap().to_owned()), "{path}");
        let mut ids = BTreeSet::new();
        let mut places = BTreeSet::new();
        for panel in board["panels"].as_array().unwrap() {
            let title = &panel["title"];
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{path}: {title}");
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(place.0 < 24 && places.insert(place), "{path}: {title}");
            }
        }
    }
}

#[test]
fn names_that_tollgate_does_not_export_are_found() {
    let metrics = exported();
    for (expression, flaw) in [
        ("rate(tollgate_request_total[5m])", "no metric tollgate_request_total"),
        ("tollgate_check_duration_seconds", "no metric tollgate_check_duration_seconds"),
        (r#"tollgate_requests_total{caller="ann"}"#, "tollgate_requests_total has no label caller"),
        (r#"tollgate_requests_total{code="no"}"#, "tollgate_requests_total has no code=no"),
        (r#"tollgate_requests_total{code=~"ok|no"}"#, "tollgate_requests_total has no code=no"),
        ("sum by (tier) (tollgate_callers)", "no metric has the label tier"),
        ("up == 0", "no metric of Tollgate"),
    ] {
        assert_eq!(flaws(expression, &metrics), [flaw], "{expression}");
    }
}
