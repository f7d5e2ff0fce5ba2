//! `tollgate check`: everything that is wrong with policies, each with its place and carets.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Arg;
use clap::ArgAction;
use clap::ArgMatches;
use clap::Command;
use clap::value_parser;
use serde_json::Value;
use serde_json::json;

use super::PROBLEMS;
use super::callers_arg;
use super::complain;
use super::files_of;
use super::format_arg;
use super::is_json;
use super::merge_domains_arg;
use super::path_arg;
use super::print;
use super::sources_of;
use crate::app::SourceFilesError;
use crate::policy::CallersFor;
use crate::policy::CompileOptions;
use crate::policy::PolicySet;
use crate::policy::Problem;
use crate::policy::Restart;
use crate::policy::Severity;
use crate::policy::Source;
use crate::policy::compile;
use crate::policy::compile_callers_for;
use crate::policy::render;
use crate::policy::restarts;

const EXAMPLES: &str = "\
Examples:
  tollgate check config/policies                  A directory, as `tollgate serve` reads it
  tollgate check --deny-warnings a.yaml b.yaml    In CI: stricter, and for several files together
  tollgate check --callers config/callers.yaml    Files of callers
  tollgate check --callers callers.yaml --policies policies
                                                  And whether policies have their tiers and limits
  tollgate check new.yaml --against old.yaml      Before an edit: which limits would start a new count
  kubectl get configmap policies -o jsonpath='{.data.shop\\.yaml}' | tollgate check /dev/stdin

The exit status is 0 if the policies can be used, 1 if not.";

pub fn command() -> Command {
    Command::new("check")
        .about("Find what is wrong with policies, all of it at once")
        .after_help(EXAMPLES)
        .arg(path_arg().num_args(1..).action(ArgAction::Append))
        .arg(merge_domains_arg())
        .arg(callers_arg().help("Check files of callers instead"))
        .arg(
            Arg::new("policies")
                .long("policies")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .action(ArgAction::Append)
                .requires("callers")
                .help("With --callers: the policies whose tiers and limits they may name"),
        )
        .arg(
            Arg::new("deny_warnings")
                .long("deny-warnings")
                .action(ArgAction::SetTrue)
                .help("Take a warning for an error"),
        )
        .arg(
            Arg::new("against")
                .long("against")
                .value_name("OLD")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("callers")
                .help("Tell which limits would start a new count where the policies at OLD are in force"),
        )
        .arg(format_arg())
}

/// What was found.
struct Report {
    problems: Vec<Problem>,
    sources: Vec<Source>,
    /// What there is, if it can be used.
    found: String,
    /// The limits that would start a new count.
    restarts: Vec<Restart>,
    /// Files that were passed over because of their names.
    skipped: Vec<PathBuf>,
    is_fine: bool,
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let mut report = match report(matches) {
        Ok(report) => report,
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
    report.is_fine &= report.is_quiet() || !matches.get_flag("deny_warnings");
    let printed = if is_json(matches) { report.print_json() } else { report.print_text() };
    if report.is_fine { printed } else { ExitCode::from(PROBLEMS) }
}

fn report(matches: &ArgMatches) -> Result<Report, SourceFilesError> {
    let reading = files_of(matches, "path").read();
    let report = report_of(matches, reading.sources?)?;
    Ok(Report { skipped: reading.skipped, ..report })
}

fn report_of(matches: &ArgMatches, sources: Vec<Source>) -> Result<Report, SourceFilesError> {
    let options = CompileOptions { merge_domains: matches.get_flag("merge_domains") };
    if !matches.get_flag("callers") {
        let old = matches.contains_id("against").then(|| sources_of(matches, "against"));
        return Ok(Report::new(sources, old.transpose()?, options));
    }
    if !matches.contains_id("policies") {
        return Ok(Report::of_callers(sources, None));
    }
    let policies = sources_of(matches, "policies")?;
    Ok(match compile(&policies, options) {
        Ok(policies) => Report::of_callers(sources, Some(&policies)),
        Err(problems) => Report::of_problems(problems, policies),
    })
}

impl Report {
    fn new(new: Vec<Source>, old: Option<Vec<Source>>, options: CompileOptions) -> Self {
        let old = old.map(|old| compile(&old, options).map_err(|problems| (problems, old)));
        let old = match old.transpose() {
            Ok(old) => old,
            Err((problems, sources)) => return Self::of_problems(problems, sources),
        };
        match compile(&new, options) {
            Ok(policies) => Self {
                problems: policies.warnings().to_vec(),
                sources: new,
                found: counted(policies.domains().len(), "domain"),
                restarts: old.map_or_else(Vec::new, |old| restarts(&old, &policies)),
                skipped: Vec::new(),
                is_fine: true,
            },
            Err(problems) => Self::of_problems(problems, new),
        }
    }

    fn of_callers(sources: Vec<Source>, policies: Option<&PolicySet>) -> Self {
        // An error: whoever names the policies asks whether the callers are for them.
        let whom = policies.map(|policies| CallersFor { policies, severity: Severity::Error });
        match compile_callers_for(&sources, whom) {
            Ok(callers) => {
                let found = counted(callers.len(), "caller");
                Self { found, is_fine: true, ..Self::of_problems(Vec::new(), sources) }
            }
            Err(problems) => Self::of_problems(problems, sources),
        }
    }

    fn of_problems(problems: Vec<Problem>, sources: Vec<Source>) -> Self {
        let (found, restarts, skipped) = (String::new(), Vec::new(), Vec::new());
        Self { problems, sources, found, restarts, skipped, is_fine: false }
    }

    /// Whether there is nothing to warn of.
    fn is_quiet(&self) -> bool {
        self.problems.is_empty() && self.restarts.is_empty() && self.skipped.is_empty()
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }

    fn print_text(&self) -> ExitCode {
        if !self.problems.is_empty() {
            complain(&render(&self.problems, &self.sources));
            complain(&"");
        }
        for restart in &self.restarts {
            complain(&format_args!("warning: {restart}"));
        }
        let errors = counted(self.count(Severity::Error), "error");
        for path in &self.skipped {
            complain(&format_args!("warning: {}", skipped(path)));
        }
        let warnings = self.count(Severity::Warning) + self.restarts.len() + self.skipped.len();
        let warnings = counted(warnings, "warning");
        let files = counted(self.sources.len(), "file");
        if self.is_fine {
            return print(&format_args!("{files}, {}: no errors, {warnings}", self.found));
        }
        complain(&format_args!("{files}: {errors}, {warnings}"));
        ExitCode::SUCCESS
    }

    fn print_json(&self) -> ExitCode {
        let skipped = self.skipped.iter().map(|path| {
            let file = path.display().to_string();
            json!({ "severity": "warning", "file": file, "message": skipped(path) })
        });
        let problems: Value = self.problems.iter().map(problem_json).chain(skipped).collect();
        let restarts: Value = self.restarts.iter().map(restart_json).collect();
        let told = json!({ "ok": self.is_fine, "problems": problems, "restarts": restarts });
        print(&format_args!("{told:#}"))
    }
}

fn counted(count: usize, noun: &str) -> String {
    match count {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

fn skipped(path: &Path) -> String {
    format!("{} is not read: its name ends in neither .yaml nor .yml", path.display())
}

fn restart_json(restart: &Restart) -> Value {
    let Restart { domain, rule, limit, reason } = restart;
    json!({ "domain": domain, "rule": rule, "limit": limit, "reason": reason })
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
