//! The policies and examples in `config/` work as described.

use std::fs;
use std::path::Path;
use std::process::Command;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tempfile::TempDir;

use crate::support::ask::request;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;
use crate::support::{find_program, tollgate};

const POLICIES: &str = "config/policies";
const CALLERS_PAGE: &str = "config/callers.md";
const QUOTA_PAGE: &str = "config/quota.md";
const RESERVATIONS_PAGE: &str = "config/reservations.md";
const CREDITS_PAGE: &str = "config/credits.md";
const USAGE_PAGE: &str = "config/usage.md";
const COSTS_PAGE: &str = "config/costs.md";
const PROVIDERS_PAGE: &str = "config/providers.md";
const API_KEYS_PAGE: &str = "config/api-keys.md";
const RESOURCES_PAGE: &str = "config/resources.md";

/// Other pages with links.
const OTHER_PAGES: [&str; 18] = [
    API_KEYS_PAGE,
    "config/ai-gateway.md",
    "config/alerts.md",
    CALLERS_PAGE,
    PROVIDERS_PAGE,
    CREDITS_PAGE,
    USAGE_PAGE,
    "README.md",
    "config/dashboard.md",
    "config/glossary.md",
    "config/metrics.md",
    "config/migration.md",
    "config/recipes.md",
    "config/settings.md",
    "config/xds.md",
    "deploy/README.md",
    "tests/bench/README.md",
    "tests/faults/README.md",
];

/// The pages about the policy language.
const PAGES: [&str; 10] = [
    "config/README.md",
    "config/sharing.md",
    "config/choice.md",
    COSTS_PAGE,
    "config/schedules.md",
    RESOURCES_PAGE,
    "config/adjust.md",
    RESERVATIONS_PAGE,
    "config/estimates.md",
    "config/audit.md",
];

/// A request: its descriptors as `key=value,key=value`, and the hits that it asks for.
type Ask<'a> = (&'a [&'a str], u32);

/// Checks that requests, one after the other, pass or are refused by a policy of `config/policies`.
async fn check(domain: &str, file: &str, asks: &[(Ask<'_>, Code)]) {
    let policy = fs::read_to_string(format!("{POLICIES}/{file}")).unwrap();
    let tollgate = Tollgate::serve(&policy, &Store::Embedded).await;
    let mut client = tollgate.client().await;
    for ((descriptors, hits), code) in asks {
        let answer = client.should_rate_limit(request(domain, descriptors, *hits)).await.unwrap();
        let answer = answer.into_inner();
        assert_eq!(answer.overall_code(), *code, "{domain} {descriptors:?} {hits}: {answer:?}");
    }
}

/// Checks that `tollgate check` reports nothing for a file or folder.
fn check_clean(path: &str) {
    let output = tollgate::command().args(["check", "--deny-warnings", path]).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{path}\n{said}");
}

#[test]
fn every_policy_passes_the_check_without_a_warning() {
    check_clean(POLICIES);
}

#[test]
fn every_example_of_the_language_pages_passes_the_check() {
    for page in PAGES {
        let text = fs::read_to_string(page).unwrap();
        let fenced = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        let examples: Vec<&str> = fenced.filter(|text| text.starts_with("domain:")).collect();
        assert!(!examples.is_empty(), "{page}");
        let folder = TempDir::new().unwrap();
        for (index, example) in examples.iter().enumerate() {
            fs::write(folder.path().join(format!("{index}.yaml")), example).unwrap();
        }
        check_clean(folder.path().to_str().unwrap());
    }
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    for page in PAGES.into_iter().chain(OTHER_PAGES) {
        let text = fs::read_to_string(page).unwrap();
        let links = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for link in links.filter(|link| !link.contains("://")) {
            let (path, place) = link.split_once('#').unwrap_or((link, ""));
            let folder = Path::new(page).parent().unwrap();
            let target = if path.is_empty() { page.into() } else { folder.join(path) };
            assert!(target.exists(), "{page}: {link}");
            if !place.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#')).map(anchor);
                assert!(headings.any(|heading| heading == place), "{page}: {link}");
            }
        }
    }
}

/// The anchor of a heading.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = |character: &char| character.is_alphanumeric() || "- _".contains(*character);
    words.chars().filter(kept).map(|one| if one == ' ' { '-' } else { one }).collect()
}

#[test]
fn every_example_of_callers_passes_the_check() {
    let page = fs::read_to_string(CALLERS_PAGE).unwrap();
    let example = fenced(&page, "yaml");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("page.yaml");
    fs::write(&file, example).unwrap();
    for path in ["config/callers.yaml", file.to_str().unwrap()] {
        let check = ["check", "--callers", path, "--policies", POLICIES];
        let output = tollgate::command().args(check).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success() && said.contains("5 callers"), "{path}\n{said}");
    }
}

#[tokio::test]
async fn the_commands_of_the_page_on_callers_work() {
    if find_program("curl", "CURL", None).is_none() {
        return;
    }
    let Some(server) = Server::start(&[]) else { return };
    let store = Store::Redis(server);
    let policy = fs::read_to_string(format!("{POLICIES}/travel.yaml")).unwrap();
    let tollgate = Tollgate::serve(&policy, &store).await;
    let said = run_commands(CALLERS_PAGE, &tollgate);
    assert!(said.contains(r#"{"parent":"acme","share":"20%"}"#), "{said}");
}

#[tokio::test]
async fn the_commands_of_the_page_on_usage_work() {
    if find_program("curl", "CURL", None).is_none() {
        return;
    }
    let policy = fs::read_to_string(format!("{POLICIES}/travel.yaml")).unwrap();
    let tollgate = Tollgate::serve_with(&policy, &Store::Embedded, &["--usage=true"]).await;
    let said = run_commands(USAGE_PAGE, &tollgate);
    assert_eq!(said.matches(r#""scope":"sidecar""#).count(), 8, "{said}");
}

#[tokio::test]
async fn the_commands_of_the_page_on_quotas_work() {
    if find_program("curl", "CURL", None).is_none() {
        return;
    }
    let policy = fs::read_to_string(format!("{POLICIES}/travel.yaml")).unwrap();
    let tollgate = Tollgate::serve(&policy, &Store::Embedded).await;
    let said = run_commands(QUOTA_PAGE, &tollgate);
    assert_eq!(said.matches(r#""caller":"alice""#).count(), 6, "{said}");
    assert!(said.contains(r#""limit":"search""#), "{said}");
}

#[tokio::test]
async fn the_commands_of_the_page_on_reservations_work() {
    if find_program("curl", "CURL", None).is_none() {
        return;
    }
    let policy = fs::read_to_string(format!("{POLICIES}/generations.yaml")).unwrap();
    let tollgate = Tollgate::serve(&policy, &Store::Embedded).await;
    let said = run_commands(RESERVATIONS_PAGE, &tollgate);
    assert!(said.contains(r#""held":200"#), "{said}");
    assert!(said.contains(r#""state":"settled","used":57"#), "{said}");
}

#[tokio::test]
async fn the_commands_of_the_page_on_costs_work() {
    if find_program("curl", "CURL", None).is_none() {
        return;
    }
    let page = fs::read_to_string(COSTS_PAGE).unwrap();
    let policy = fenced(&page, "yaml");
    let tollgate = Tollgate::serve_with(policy, &Store::Embedded, &["--usage=true"]).await;
    let said = run_commands(COSTS_PAGE, &tollgate);
    assert_eq!(said.matches(r#""currency":"EUR""#).count(), 5, "{said}");
    assert!(said.contains(",cost_spent_micros,cost_given_back_micros,currency"), "{said}");
}

#[tokio::test]
async fn the_commands_of_the_page_on_providers_work() {
    if find_program("curl", "CURL", None).is_none() {
        return;
    }
    let policy = fs::read_to_string(format!("{POLICIES}/travel.yaml")).unwrap();
    let tollgate = Tollgate::serve(&policy, &Store::Embedded).await;
    let said = run_commands(PROVIDERS_PAGE, &tollgate);
    assert_eq!(said.matches(r#""provider":"hotelbeds""#).count(), 2, "{said}");
    assert!(said.contains(r#""waiting":0"#), "{said}");
}

#[tokio::test]
async fn the_commands_of_the_page_on_resources_work() {
    if find_program("curl", "CURL", None).is_none() {
        return;
    }
    let policy = fs::read_to_string(format!("{POLICIES}/workspace.yaml")).unwrap();
    let tollgate = Tollgate::serve(&policy, &Store::Embedded).await;
    let page = fs::read_to_string(RESOURCES_PAGE).unwrap();
    let said = run(&all_fenced(&page, "bash"), &tollgate);
    let used: Vec<&str> = said.lines().filter(|line| line.contains(r#""used":8"#)).collect();
    assert!(used[0].contains(r#""used":812"#) && used[1].contains(r#""used":815"#), "{said}");
}

/// The callers of the page have what it says of a policy without tiers.
#[test]
fn the_callers_of_the_page_on_resources_have_parts_of_their_parents() {
    let page = fs::read_to_string(RESOURCES_PAGE).unwrap();
    let mut callers = page.split("```yaml\n").map(|rest| rest.split("```").next().unwrap());
    let callers = callers.find(|text| text.starts_with("callers:")).unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("callers.yaml");
    fs::write(&file, callers).unwrap();
    let policy = format!("{POLICIES}/workspace.yaml");
    for (caller, resource, reported) in [
        ("acme", "users", "limit 1: users, 5000/total"),
        ("acme-eu", "users", "limit 1: users, 1250/total"),
        ("acme-eu", "users", "  account    acme-eu: the amount is 25% of its parent's"),
        ("acme-eu", "segments", "limit 1: segments, 12/total"),
        ("acme-lab", "users", "limit 1: users, 125/total"),
        ("acme-lab", "journeys", "limit 1: journeys, 5/total"),
        ("acme-test", "users", "limit 1: users, 500/total"),
        ("acme-test", "users", "limit 2: users, 5000/total"),
        ("acme-test", "users", "  account    acme: with a counter that this caller shares"),
    ] {
        let descriptor = format!("workspace_id={caller},resource={resource}");
        let mut explain = tollgate::command();
        explain.args(["explain", &policy, "workspace", &descriptor, "--callers"]).arg(&file);
        let said = String::from_utf8(explain.output().unwrap().stdout).unwrap();
        assert!(
            said.lines().any(|line| line.starts_with(reported)),
            "{caller}: {reported}\n{said}"
        );
    }
}

#[tokio::test]
async fn the_commands_of_the_page_on_credits_work() {
    if find_program("curl", "CURL", None).is_none() {
        return;
    }
    let Some(server) = Server::start(&[]) else { return };
    let policy = fs::read_to_string(format!("{POLICIES}/tokens.yaml")).unwrap();
    let store = Store::Redis(server);
    let tollgate = Tollgate::serve(&policy, &store).await;
    let said = run_commands(CREDITS_PAGE, &tollgate);
    assert_eq!(said.matches(r#""bonus":"plan","expires_at""#).count(), 2, "{said}");
    assert!(said.contains(r#"{"kind":"given","hits":-50,"bonus":"plan""#), "{said}");
}

#[tokio::test]
async fn the_commands_of_the_page_on_api_keys_work() {
    if find_program("curl", "CURL", None).is_none() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let pepper = folder.path().join("pepper");
    fs::write(&pepper, "p".repeat(32)).unwrap();
    let policy = fs::read_to_string(format!("{POLICIES}/api-keys.yaml")).unwrap();
    let flags = ["--api-key-pepper-file", pepper.to_str().unwrap()];
    let tollgate = Tollgate::serve_with(&policy, &Store::Embedded, &flags).await;
    let said = run_commands(API_KEYS_PAGE, &tollgate);
    assert_eq!(said.matches(r#""api_key":"shop_"#).count(), 2, "{said}");
    assert_eq!(said.matches(r#""disabled":true"#).count(), 2, "{said}");
}

/// The output of the commands of a page.
fn run_commands(page: &str, tollgate: &Tollgate) -> String {
    let page = fs::read_to_string(page).unwrap();
    run(fenced(&page, "bash"), tollgate)
}

/// The output of commands.
fn run(commands: &str, tollgate: &Tollgate) -> String {
    let address = tollgate.http_address.to_string();
    let strict = "set -e; curl() { command curl -sS --fail-with-body \"$@\"; echo; }\n";
    let script = strict.to_owned() + &commands.replace("localhost:8080", &address);
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

/// All examples of a page in a language.
fn all_fenced(page: &str, language: &str) -> String {
    let fence = format!("```{language}\n");
    let examples = page.split(&fence).skip(1);
    examples.map(|rest| rest.split("```").next().unwrap()).collect()
}

/// The first example of a page in a language.
fn fenced<'a>(page: &'a str, language: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split("```").next().unwrap()
}

#[tokio::test]
async fn the_basic_policy_limits_users_writes_addresses_and_all_together() {
    let alice: Ask = (&["user_id=alice"], 1);
    let mut asks = vec![(alice, Code::Ok); 10];
    asks.extend([
        (alice, Code::OverLimit),
        ((&["user_id=bob"], 10), Code::Ok),
        ((&["user_id=carol", "user_id=carol,method=POST"], 3), Code::Ok),
        ((&["user_id=carol", "user_id=carol,method=POST"], 1), Code::OverLimit),
        // The refused write has cost her nothing.
        ((&["user_id=carol", "user_id=carol,method=GET"], 7), Code::Ok),
        ((&["user_id=health-probe"], 1_000_000), Code::Ok),
        ((&["remote_address=192.0.2.1"], 301), Code::OverLimit),
        ((&["remote_address=192.0.2.1"], 300), Code::Ok),
        ((&["generic_key=upstream"], 201), Code::OverLimit),
        ((&["generic_key=upstream"], 200), Code::Ok),
    ]);
    check("basic", "basic.yaml", &asks).await;
}

#[tokio::test]
async fn the_basic_policys_command_is_refused_at_the_eleventh_time() {
    if find_program("curl", "CURL", None).is_none() {
        return;
    }
    let policy = fs::read_to_string(format!("{POLICIES}/basic.yaml")).unwrap();
    let tollgate = Tollgate::serve(&policy, &Store::Embedded).await;
    let lines: Vec<&str> = policy.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    let address = tollgate.http_address.to_string();
    let command = lines.join("\n").replace("localhost:8080", &address);
    let output = Command::new("bash").args(["-c", &command]).output().unwrap();
    let codes = String::from_utf8(output.stdout).unwrap();
    assert_eq!(codes, "200\n".repeat(10) + "429\n", "{command}");
}

#[tokio::test]
async fn the_migrated_policy_means_what_it_meant() {
    let asks: &[(Ask, Code)] = &[
        ((&["message_type=marketing,to_number=1"], 5), Code::Ok),
        ((&["message_type=marketing,to_number=1"], 1), Code::OverLimit),
        ((&["message_type=marketing"], 1_000), Code::Ok),
        ((&["to_number=2"], 100), Code::Ok),
        ((&["to_number=2"], 1), Code::OverLimit),
        ((&["to_number=2", "campaign=spring"], 1), Code::Ok),
        ((&["to_number=2061111111"], 1_000), Code::Ok),
        ((&["path=files/a"], 300), Code::Ok),
        ((&["path=files/b"], 1), Code::OverLimit),
        ((&["trial=x"], 21), Code::Ok),
        ((&["included=me"], 1_000), Code::Ok),
        ((&["included=me"], 1), Code::OverLimit),
        ((&["included=me", "bought=me"], 1), Code::Ok),
    ];
    check("migration", "migration.yaml", asks).await;
}

#[tokio::test]
async fn the_providers_limits_are_theirs() {
    let windows = ["second", "minute", "hour", "day"];
    let limits: [(&str, [u32; 4]); 6] = [
        ("provider=hotelbeds,endpoint=search,tier=enterprise", [10, 600, 3_600, 86_400]),
        ("provider=hotelbeds,endpoint=booking,tier=enterprise", [5, 120, 2_000, 20_000]),
        ("provider=amadeus,endpoint=search,tier=enterprise", [20, 900, 9_000, 100_000]),
        ("provider=amadeus,endpoint=booking,tier=enterprise", [5, 150, 1_500, 15_000]),
        ("provider=expedia,endpoint=search,tier=enterprise", [15, 700, 7_000, 70_000]),
        ("provider=expedia,endpoint=booking,tier=enterprise", [4, 100, 1_200, 12_000]),
    ];
    let file = format!("{POLICIES}/travel.yaml");
    for (descriptor, amounts) in &limits {
        let explain = ["explain", &file, "travel", descriptor];
        let output = tollgate::command().args(explain).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        for (amount, window) in amounts.iter().zip(windows) {
            assert!(said.contains(&format!("{amount}/{window}")), "{descriptor}\n{said}");
        }
        let asks: [(Ask, Code); 2] = [
            ((&[descriptor], amounts[0] + 1), Code::OverLimit),
            ((&[descriptor], amounts[0]), Code::Ok),
        ];
        check("travel", "travel.yaml", &asks).await;
    }
}
