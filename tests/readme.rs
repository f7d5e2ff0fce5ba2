//! What README.md shows is what happens.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::support::find_program;
use crate::support::store::Store;
use crate::support::tollgate;
use crate::support::tollgate::Tollgate;

/// The fenced blocks of README.md in a language.
fn blocks(language: &str) -> Vec<String> {
    let page = fs::read_to_string("README.md").unwrap();
    let fence = format!("```{language}\n");
    let blocks = page.split(&fence).skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_policy_passes_the_check() {
    let policies = blocks("yaml").into_iter().filter(|text| text.starts_with("domain:"));
    let folder = TempDir::new().unwrap();
    for (number, policy) in policies.enumerate() {
        fs::write(folder.path().join(format!("{number}.yaml")), policy).unwrap();
    }
    // As a reader would: beside the policies that are there.
    let output = tollgate::command()
        .args(["check", "--deny-warnings", "config/policies"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_first_policy_passes_the_check_and_its_mistake_is_shown_as_printed() {
    let policy = blocks("yaml").into_iter().find(|text| text.starts_with("domain:")).unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("hotels.yaml");
    fs::write(&path, &policy).unwrap();
    let check = || {
        let mut command = tollgate::command();
        command.args(["check", "--deny-warnings", "hotels.yaml"]).current_dir(folder.path());
        command.output().unwrap()
    };
    assert!(check().status.success());

    let shown = blocks("console").into_iter().find(|text| text.contains("tollgate check")).unwrap();
    let (_, expected) = shown.split_once('\n').unwrap();
    fs::write(&path, policy.replace("50/minute", "50/minuet")).unwrap();
    let output = check();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(expected.trim_end()), "{said}\nbut README.md shows\n{expected}");
}

#[tokio::test]
async fn the_first_commands_are_refused_at_the_eleventh_time() {
    if find_program("curl", "CURL", None).is_none() {
        return;
    }
    let policy = fs::read_to_string("config/policies/basic.yaml").unwrap();
    let tollgate = Tollgate::serve(&policy, &Store::Embedded).await;
    let command = blocks("sh").into_iter().find(|text| text.contains("curl")).unwrap();
    let command = command.replace("localhost:8080", &tollgate.http_address.to_string());
    let output = Command::new("bash").args(["-c", &command]).output().unwrap();
    let codes = String::from_utf8(output.stdout).unwrap();
    assert_eq!(codes, "200 ".repeat(10) + "429 ", "{command}");
}

#[test]
fn the_commands_on_top_exist() {
    let first = &blocks("sh")[0];
    let commands: Vec<&str> =
        first.lines().map(|line| line.split('#').next().unwrap().trim()).collect();
    assert_eq!(commands, ["cargo run --release", "tests/run.sh"]);
    assert!(fs::metadata("tests/run.sh").is_ok());
}
