//! `tollgate settings`: the reference of all settings, as Markdown.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Command;

use super::print;
use crate::settings::{Setting, table};

const INTRODUCTION: &str = "\
# Settings

<!-- Printed by `tollgate settings`. Do not edit: UPDATE_EXPECTED=1 cargo test pages -->

A setting can be given in three ways. The later one wins:

| where | how | example |
|---|---|---|
| settings file | `tollgate --config FILE`, or `TOLLGATE_CONFIG=FILE` | `store_deadline: 5ms` |
| environment | `TOLLGATE_` and the name in capitals | `TOLLGATE_STORE_DEADLINE=5ms` |
| command line | `--` and the name with dashes | `--store-deadline 5ms` |

[`tollgate.yaml`](tollgate.yaml) is a settings file with every default, to copy from. Lists are separated by commas; in the \
file they may also be YAML lists. Settings are read at the start, and every problem is reported at once, with its place; \
policies are read again whenever their files change. A default of – means that the setting is not set.
";

/// The command line of the command.
pub fn command() -> Command {
    Command::new("settings").about("Print the reference of all settings, as Markdown")
}

/// Prints the reference.
pub fn run() -> ExitCode {
    print(&reference().trim_end())
}

fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut group = "";
    for setting in table() {
        if setting.group != group {
            group = setting.group;
            let heading = "| setting | value | default | meaning |\n|---|---|---|---|\n";
            // Writing to a String can't fail.
            write!(page, "\n## {group}\n\n{heading}").ok();
        }
        page += &row(setting);
    }
    page
}

fn row(setting: &Setting) -> String {
    let default = match setting.default {
        "" => "–".to_owned(),
        default => format!("`{default}`"),
    };
    let cells =
        [format!("`{}`", setting.name), cell(setting.expected), default, cell(setting.help)];
    format!("| {} |\n", cells.join(" | "))
}

/// Escapes a text for Markdown, except code in backticks.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*")
}
