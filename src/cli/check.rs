//! `tollgate check`: reports all problems of policies, each with its place and carets.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use serde_json::{Value, json};

use super::{
    PROBLEMS, alerts_arg, callers_arg, complain, files_of, format_arg, is_json, merge_domains_arg,
    overlay_arg, overlays, path_arg, print, print_json, sources_of,
};
use crate::alerts::check_need;
use crate::app::SourceFilesError;
use crate::clock::Clock;
use crate::policy::{
    AlertChecks, CallersFor, CompileOptions, CountChanges, Gone, NOT_ALL_COMPARED, PolicySet,
    Problem, Restart, Severity, Source, compile, compile_alerts_with, compile_callers_for,
    compile_with_overlays, count_changes, render,
};
use crate::printable;

const EXAMPLES: &str = "\
Examples:
  tollgate check config/policies                  A directory, as for `tollgate serve`
  tollgate check --deny-warnings a.yaml b.yaml    In CI: strict, and several files together
  tollgate check --callers config/callers.yaml    Caller files
  tollgate check --alerts config/alerts.yaml      Files of alerts
  tollgate check --callers callers.yaml --policies policies
                                                  Also check their tiers and limits
  tollgate check --alerts alerts.yaml --policies policies
                                                  Also check their tiers, domains and providers
  tollgate check sent.yaml --overlay overlays     Files that add to policies of an xDS server
  tollgate check new.yaml --against old.yaml      Before an edit: which limits would lose their counts
  kubectl get configmap policies -o jsonpath='{.data.shop\\.yaml}' | tollgate check /dev/stdin

Exit status: 0 if the policies are valid, 1 if not.";

pub fn command() -> Command {
    Command::new("check")
        .about("Validate policies and report all problems")
        .after_help(EXAMPLES)
        .arg(path_arg().num_args(1..).action(ArgAction::Append))
        .arg(merge_domains_arg())
        .arg(overlay_arg().conflicts_with_all(["callers", "alerts"]))
        .arg(callers_arg().help("Validate caller files instead"))
        .arg(alerts_arg().conflicts_with_all(["callers", "against"]).help("Validate files of alerts instead"))
        .arg(
            Arg::new("policies")
                .long("policies")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .action(ArgAction::Append)
                .requires("kind")
                .help("With --callers or --alerts: policies that must have the tiers and limits of callers, or the domains, tiers and providers of alerts"),
        )
        .arg(
            Arg::new("deny_warnings")
                .long("deny-warnings")
                .action(ArgAction::SetTrue)
                .help("Treat warnings as errors"),
        )
        .arg(
            Arg::new("against")
                .long("against")
                .value_name("OLD")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("callers")
                .help("Report the limits that start a new count or are gone if these policies replace those at OLD"),
        )
        .arg(format_arg())
        .group(ArgGroup::new("kind").args(["callers", "alerts"]))
}

/// The policies in force.
struct Old<'a> {
    path: &'a Path,
    sources: Vec<Source>,
}

/// The result of a check.
struct Report {
    problems: Vec<Problem>,
    sources: Vec<Source>,
    /// The policies, if they are valid.
    found: String,
    /// The effect on counts, with `--against`.
    count_changes: Option<CountChanges>,
    /// The reason that the effect on counts is unknown.
    incomparable: Option<String>,
    /// Files that were ignored because of their names.
    skipped: Vec<PathBuf>,
    is_fine: bool,
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let mut report = match report(matches) {
        Ok(report) => report,
        Err(error) => {
            if is_json(matches) {
                let problem = json!({ "severity": "error", "message": error.to_string() });
                print_json(&format_args!("{:#}", json!({ "ok": false, "problems": [problem] })));
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
    let options = CompileOptions {
        merge_domains: matches.get_flag("merge_domains"),
        ..CompileOptions::default()
    };
    let (of_callers, of_alerts) = (matches.get_flag("callers"), matches.get_flag("alerts"));
    if !of_callers && !of_alerts {
        return match matches.get_one::<PathBuf>("against") {
            None => Ok(Report::of_policies((sources, overlays(matches)?), options, None)),
            Some(path) => {
                let old = Old { path, sources: sources_of(matches, "against")? };
                Ok(Report::of_edit((sources, overlays(matches)?), options, old))
            }
        };
    }
    let of = if of_alerts { Report::of_alerts } else { Report::of_callers };
    if !matches.contains_id("policies") {
        return Ok(of(sources, None));
    }
    let policies = sources_of(matches, "policies")?;
    Ok(match compile(&policies, options) {
        Ok(policies) => of(sources, Some(&policies)),
        Err(problems) => Report::of_problems(problems, policies),
    })
}

impl Report {
    /// Checks policies and their overlays.
    fn of_policies(
        (mut sources, overlays): (Vec<Source>, Vec<Source>),
        options: CompileOptions,
        old: Option<&PolicySet>,
    ) -> Self {
        let policies = match compile_with_overlays((&sources, &overlays), options, None) {
            Ok(policies) => policies,
            Err(problems) => return Self::of_problems(problems, sources),
        };
        let of_overlays = policies.overlays().iter().flat_map(|overlay| &overlay.problems);
        let problems: Vec<Problem> =
            policies.warnings().iter().chain(of_overlays).cloned().collect();
        sources.extend(overlays);
        Self {
            found: counted(policies.domains().len(), "domain"),
            count_changes: old.map(|old| count_changes(old, &policies)),
            is_fine: problems.iter().all(|problem| problem.severity == Severity::Warning),
            ..Self::of_problems(problems, sources)
        }
    }

    /// Checks the new policies, and their effect on counts. If the old policies are invalid, both are reported.
    fn of_edit(new: (Vec<Source>, Vec<Source>), options: CompileOptions, old: Old<'_>) -> Self {
        let problems = match compile(&old.sources, options.clone()) {
            Ok(policies) => return Self::of_policies(new, options, Some(&policies)),
            Err(problems) => problems,
        };
        let mut report = Self::of_policies(new, options, None);
        report.problems.splice(0..0, problems);
        report.sources.extend(old.sources);
        let path = printable::path(old.path);
        report.incomparable = Some(format!(
            "the policies of `--against {path}` are invalid: the effect on counts is unknown"
        ));
        Self { is_fine: false, ..report }
    }

    fn of_callers(sources: Vec<Source>, policies: Option<&PolicySet>) -> Self {
        // An error, not a warning: `--policies` asks whether the callers fit these policies.
        let callers_for =
            policies.map(|policies| CallersFor { policies, severity: Severity::Error });
        match compile_callers_for(&sources, callers_for) {
            Ok(callers) => {
                let found = counted(callers.len(), "caller");
                Self { found, is_fine: true, ..Self::of_problems(Vec::new(), sources) }
            }
            Err(problems) => Self::of_problems(problems, sources),
        }
    }

    fn of_alerts(sources: Vec<Source>, policies: Option<&PolicySet>) -> Self {
        let now = Clock::system().now().timestamp();
        let checks = AlertChecks { need: &check_need, policies, now: Some(now) };
        match compile_alerts_with(&sources, &checks) {
            Ok(policy) => {
                let (rules, channels) = (policy.rules.len(), policy.channels.len());
                let found =
                    format!("{}, {}", counted(rules, "alert"), counted(channels, "channel"));
                Self { found, is_fine: true, ..Self::of_problems(policy.warnings, sources) }
            }
            Err(problems) => Self::of_problems(problems, sources),
        }
    }

    fn of_problems(problems: Vec<Problem>, sources: Vec<Source>) -> Self {
        Self {
            problems,
            sources,
            found: String::new(),
            count_changes: None,
            incomparable: None,
            skipped: Vec::new(),
            is_fine: false,
        }
    }

    /// Whether there are no warnings.
    fn is_quiet(&self) -> bool {
        self.problems.is_empty() && self.warnings().is_empty()
    }

    /// Warnings that are not problems of the files.
    fn warnings(&self) -> Vec<String> {
        let changes = self.count_changes.iter();
        let restarts = changes.clone().flat_map(|changes| &changes.restarts);
        let cut = changes.filter(|changes| changes.is_cut).map(|_| NOT_ALL_COMPARED.to_owned());
        let skipped = self.skipped.iter().map(|path| skipped(path));
        restarts.map(Restart::to_string).chain(cut).chain(skipped).collect()
    }

    /// Limits that would be gone. The edit may intend that, so they are not warnings.
    fn gone(&self) -> impl Iterator<Item = &Gone> {
        self.count_changes.iter().flat_map(|changes| &changes.gone)
    }

    /// Whether all counts are kept, with `--against` and if it is known.
    fn keeps_counts(&self) -> Option<bool> {
        self.count_changes.as_ref().map(CountChanges::keep_all)
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }

    fn print_text(&self) -> ExitCode {
        if !self.problems.is_empty() {
            complain(&render(&self.problems, &self.sources));
            complain(&"");
        }
        let others = self.warnings();
        others.iter().for_each(|warning| complain(&format_args!("warning: {warning}")));
        self.gone().for_each(|gone| complain(&format_args!("gone: {gone}")));
        if let Some(message) = &self.incomparable {
            complain(&format_args!("error: {message}"));
        }
        let errors = counted(self.count(Severity::Error), "error");
        let warnings = counted(self.count(Severity::Warning) + others.len(), "warning");
        let files = counted(self.sources.len(), "file");
        if !self.is_fine {
            complain(&format_args!("{files}: {errors}, {warnings}"));
            return ExitCode::SUCCESS;
        }
        let kept = match self.keeps_counts() {
            Some(true) => "\nall existing limits keep their counts",
            Some(false) | None => "",
        };
        print(&format_args!("{files}, {}: no errors, {warnings}{kept}", self.found))
    }

    fn print_json(&self) -> ExitCode {
        let skipped = self.skipped.iter().map(|path| {
            let file = printable::path(path);
            json!({ "severity": "warning", "file": file, "message": skipped(path) })
        });
        let incomparable = self
            .incomparable
            .iter()
            .map(|message| json!({ "severity": "error", "message": message }));
        let problems = self.problems.iter().map(problem_json);
        let problems: Value = problems.chain(skipped).chain(incomparable).collect();
        let restarts = self.count_changes.iter().flat_map(|changes| &changes.restarts);
        let restarts: Value = restarts.map(restart_json).collect();
        let mut report = json!({ "ok": self.is_fine, "problems": problems, "restarts": restarts });
        if let Some(kept) = self.keeps_counts() {
            report["gone"] = self.gone().map(gone_json).collect();
            report["counts_kept"] = kept.into();
        }
        print_json(&format_args!("{report:#}"))
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
    format!("{} is ignored: its name ends in neither .yaml nor .yml", printable::path(path))
}

fn restart_json(restart: &Restart) -> Value {
    let Restart { domain, rule, limit, rule_before, reason } = restart;
    let mut report = json!({ "domain": domain, "rule": rule, "limit": limit, "reason": reason });
    if let Some(before) = rule_before {
        report["rule_before"] = before.as_str().into();
    }
    report
}

fn gone_json(gone: &Gone) -> Value {
    let Gone { domain, rule, limit } = gone;
    json!({ "domain": domain, "rule": rule, "limit": limit })
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
