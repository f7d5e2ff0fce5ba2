//! `tollgate check`: everything that is wrong with policies, each with its place and carets.

use std::process::ExitCode;

use clap::Arg;
use clap::ArgAction;
use clap::ArgMatches;
use clap::Command;
use serde_json::Value;
use serde_json::json;

use super::PROBLEMS;
use super::callers_arg;
use super::complain;
use super::format_arg;
use super::is_json;
use super::merge_domains_arg;
use super::path_arg;
use super::print;
use super::sources;
use crate::policy::CompileOptions;
use crate::policy::Problem;
use crate::policy::Severity;
use crate::policy::Source;
use crate::policy::compile;
use crate::policy::compile_callers;
use crate::policy::render;

const EXAMPLES: &str = "\
Examples:
  tollgate check config/policies                  A directory, as `tollgate serve` reads it
  tollgate check --deny-warnings a.yaml b.yaml    In CI: stricter, and for several files together
  tollgate check --callers config/callers.yaml    Files of callers
  kubectl get configmap policies -o jsonpath='{.data.shop\\.yaml}' | tollgate check /dev/stdin

The exit status is 0 if the policies can be used, 1 if not.";

pub fn command() -> Command {
    Command::new("check")
        .about("Find what is wrong with policies, all of it at once")
        .after_help(EXAMPLES)
        .arg(path_arg().num_args(1..).action(ArgAction::Append))
        .arg(merge_domains_arg())
        .arg(callers_arg().help("Check files of callers instead").conflicts_with("merge_domains"))
        .arg(
            Arg::new("deny_warnings")
                .long("deny-warnings")
                .action(ArgAction::SetTrue)
                .help("Take a warning for an error"),
        )
        .arg(format_arg())
}

/// What was found.
struct Report {
    problems: Vec<Problem>,
    sources: Vec<Source>,
    /// What there is, if it can be used.
    found: String,
    is_fine: bool,
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let sources = match sources(matches) {
        Ok(sources) => sources,
        Err(error) => {
            if is_json(matches) {
                let problem = json!({ "severity": "error", "message": error.to_string() });
                print(&format_args!("{:#}", json!({ "ok": false, "problems": [problem] })));
            } else {
                complain(&format_args!("error: {error}"));
            }
            return ExitCode::from(PROBLEMS);
        }
    };
    let options = CompileOptions { merge_domains: matches.get_flag("merge_domains") };
    let report = match matches.get_flag("callers") {
        true => Report::of_callers(sources),
        false => Report::new(sources, options, matches.get_flag("deny_warnings")),
    };
    let printed = if is_json(matches) { report.print_json() } else { report.print_text() };
    if report.is_fine { printed } else { ExitCode::from(PROBLEMS) }
}

impl Report {
    fn new(sources: Vec<Source>, options: CompileOptions, deny_warnings: bool) -> Self {
        match compile(&sources, options) {
            Ok(policies) => {
                let problems = policies.warnings().to_vec();
                let is_fine = problems.is_empty() || !deny_warnings;
                let found = counted(policies.domains().len(), "domain");
                Self { problems, sources, found, is_fine }
            }
            Err(problems) => Self::of_problems(problems, sources),
        }
    }

    fn of_callers(sources: Vec<Source>) -> Self {
        match compile_callers(&sources) {
            Ok(callers) => {
                let found = counted(callers.len(), "caller");
                Self { problems: Vec::new(), sources, found, is_fine: true }
            }
            Err(problems) => Self::of_problems(problems, sources),
        }
    }

    fn of_problems(problems: Vec<Problem>, sources: Vec<Source>) -> Self {
        Self { problems, sources, found: String::new(), is_fine: false }
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }

    fn print_text(&self) -> ExitCode {
        if !self.problems.is_empty() {
            complain(&render(&self.problems, &self.sources));
            complain(&"");
        }
        let errors = counted(self.count(Severity::Error), "error");
        let warnings = counted(self.count(Severity::Warning), "warning");
        let files = counted(self.sources.len(), "file");
        if self.is_fine {
            return print(&format_args!("{files}, {}: no errors, {warnings}", self.found));
        }
        complain(&format_args!("{files}: {errors}, {warnings}"));
        ExitCode::SUCCESS
    }

    fn print_json(&self) -> ExitCode {
        let problems: Value = self.problems.iter().map(problem_json).collect();
        print(&format_args!("{:#}", json!({ "ok": self.is_fine, "problems": problems })))
    }
}

fn counted(count: usize, noun: &str) -> String {
    match count {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

fn problem_json(problem: &Problem) -> Value {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    json!({
        "severity": severity,
        "file": problem.path,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
    })
}
