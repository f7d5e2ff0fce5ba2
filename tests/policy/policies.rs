//! Every broken policy in `bad/` is rejected with the expected message beside it.
//!
//! The same for every broken caller file in `bad_callers/`.
//!
//! `UPDATE_EXPECTED=1 cargo test policies` updates the messages; review them before you commit.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::{env, fs};

use crate::support::tollgate::command;

const FOLDER: &str = "tests/policy/bad";

#[test]
fn a_broken_policy_is_refused_with_the_message_beside_it() {
    check_folder(FOLDER, &["check"]);
}

#[test]
fn a_broken_file_of_callers_is_refused_with_the_message_beside_it() {
    check_folder("tests/policy/bad_callers", &["check", "--callers"]);
}

fn check_folder(folder: &str, arguments: &[&str]) {
    let mut wrong = Vec::new();
    for policy in broken(folder) {
        let name = policy.file_name().unwrap().to_string_lossy().into_owned();
        let output = command().args(arguments).arg(&name).current_dir(folder).output().unwrap();
        let printed = printed(&output);
        let expected = policy.with_extension("expected");
        if env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &printed).unwrap();
        }
        if output.status.code() != Some(1) {
            wrong.push(format!("{name}: {}, expected exit status 1\n{printed}", output.status));
        } else if printed != fs::read_to_string(&expected).unwrap_or_default() {
            wrong.push(format!("{name}: not as in {}:\n{printed}", expected.display()));
        } else if !places_a_problem(&printed, &name) {
            wrong.push(format!("{name}: no line and column in\n{printed}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The files, and the folders that are a broken set of files.
pub fn broken_policies() -> Vec<PathBuf> {
    broken(FOLDER)
}

fn broken(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let expected = |path: &Path| path.extension().is_some_and(|extension| extension == "expected");
    let mut policies: Vec<PathBuf> = entries.filter(|path| !expected(path)).collect();
    policies.sort();
    assert!(!policies.is_empty());
    policies
}

fn printed(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    text(&output.stdout) + &text(&output.stderr)
}

/// Whether there is a `FILE:LINE:COLUMN` of `name` or, if that is a folder, of a file in it.
fn places_a_problem(printed: &str, name: &str) -> bool {
    let number = |text: Option<&str>| text.is_some_and(|text| text.trim().parse::<u32>().is_ok());
    printed.split_whitespace().filter(|word| word.starts_with(name)).any(|word| {
        let mut parts = word.trim_end_matches(':').rsplit(':');
        number(parts.next()) && number(parts.next())
    })
}
