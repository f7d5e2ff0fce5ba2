//! `tollgate explain`: shows the rules that apply to a request, its charges, and why other rules don't apply.

mod at;
mod build;
mod entries;
mod estimate;
mod limit_text;
mod limits;
mod report;
mod route;
mod text;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde::Serialize;
use serde_json::json;

use super::{
    PROBLEMS, USAGE, complain, format_arg, is_json, merge_domains_arg, overlay_arg, overlays,
    path_arg, print, sources,
};
use crate::app::SourceFiles;
use crate::clock::{Clock, Timestamp};
use crate::engine::{
    AnyStore, Descriptor, Engine, EngineSettings, HitsSource, ModeSettings, NearLimit, Request,
};
use crate::limit::Hits;
use crate::metrics::Metrics;
use crate::policy::{
    CompileOptions, Domain, Lineage, OverlayState, PolicySet, Problem, compile_callers,
    compile_with_overlays, nearest, render,
};
use crate::printable;
use crate::store::Directory;
use crate::store::embedded::Memory;

use at::At;
use build::Setting;
use entries::parse_entries;
use report::Report;
use route::RouteReport;

/// Maximum number of counters in the store for candidates of choices; it stays empty.
const COUNTERS_MAX: usize = 1;

/// The present time is rounded: more precision is not useful to a reader.
const SECOND_MS: u64 = 1_000;

const EXAMPLES: &str = r"Examples:
  tollgate explain config/policies basic 'user_id=alice'
  tollgate explain config/policies travel 'provider=any,endpoint=search' 'user_id=alice'
  tollgate explain config/policies travel --caller carol --callers config/callers.yaml
  tollgate explain config/policies tokens user_id=u operation=translate --hits 1500
  tollgate explain config/policies shop --route 'GET /hotels/7' --scope hotels:read --tier premium
  tollgate explain config/policies tokens user_id=u --at 2026-11-30T23:59
  tollgate explain config/overlays/sent shop --overlay config/overlays 'generic_key=route,user=a'
  tollgate explain config/policies basic 'user_id=Doe\, John' -o json | jq '.limits[].key'

The order of the entries counts: Envoy sends them in the order of the `actions` in its
`rate_limits`. Several descriptors are one request.

In an entry, write `\,` `\=` `\\` for a comma, an equals sign and a backslash, and `\x2c` for any
byte. Equals signs in a value need no escape.

Exit status: 0 if the policy applies to the request; 1 if not (unknown domain, or no limit
applies), or if the files are invalid; 2 if the command line is invalid.";

const NO_DESCRIPTOR: &str = "missing DESCRIPTOR: the entries that Envoy sends, in order. For example: \
                             tollgate explain config/policies basic 'user_id=alice'";

pub fn command() -> Command {
    Command::new("explain")
        .about("Show the rules and limits that apply to a request, its cost, and why others do not apply")
        .after_help(EXAMPLES)
        .arg(path_arg())
        .arg(
            Arg::new("domain")
                .value_name("DOMAIN")
                .required(true)
                .help("The domain, as set in Envoy's rate limit filter"),
        )
        .arg(
            Arg::new("descriptor")
                .value_name("DESCRIPTOR")
                .num_args(1..)
                .action(ArgAction::Append)
                .help("Entries in order, such as 'user_id=alice,request_type=search'"),
        )
        .arg(
            Arg::new("hits")
                .long("hits")
                .value_name("N")
                .default_value("1")
                .allow_negative_numbers(true)
                .value_parser(value_parser!(i64))
                .help("Hits of each descriptor; 0 is a peek, negative hits give back"),
        )
        .args(route::args())
        .arg(Arg::new("caller").long("caller").value_name("NAME").help(
            "The caller, if no descriptor names it: adds a descriptor of the policy's `caller.key`",
        ))
        .arg(
            Arg::new("callers")
                .long("callers")
                .value_name("PATH")
                .action(ArgAction::Append)
                .value_delimiter(',')
                .value_parser(value_parser!(PathBuf))
                .help("The directory: caller files, or directories of caller files"),
        )
        .arg(
            Arg::new("at")
                .long("at")
                .value_name("TIME")
                .value_parser(value_parser!(At))
                .help("The time, such as 2026-11-27T10:00:00Z, or 2026-11-27 in the policy's time zone [default: now]"),
        )
        .arg(merge_domains_arg())
        .arg(overlay_arg())
        .arg(format_arg())
}

/// The reason that nothing is explained.
enum Failure {
    /// The arguments are invalid.
    Usage(String),
    /// The files are unreadable or invalid.
    Files(String),
    /// The policy can't answer. If the domain is unknown, `domains` are the known ones.
    Policy { message: String, domains: Option<Vec<String>> },
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    if matches.contains_id("route") {
        let explained = explain_route(matches);
        return explained
            .map_or_else(|failure| tell(matches, failure), |told| show(matches, &told));
    }
    match explain(matches) {
        Ok(report) if report.matched => show(matches, &report),
        Ok(report) => {
            show(matches, &report);
            ExitCode::from(PROBLEMS)
        }
        Err(failure) => tell(matches, failure),
    }
}

/// Prints a report.
fn show(matches: &ArgMatches, report: &(impl Serialize + fmt::Display)) -> ExitCode {
    match is_json(matches) {
        true => print_json(report),
        false => print(&report.to_string().trim_end()),
    }
}

/// Tells why there is no report.
fn tell(matches: &ArgMatches, failure: Failure) -> ExitCode {
    match failure {
        Failure::Usage(message) => {
            complain(&format_args!("error: {}", printable::line(&message)));
            ExitCode::from(USAGE)
        }
        Failure::Files(message) => {
            complain(&message);
            ExitCode::from(PROBLEMS)
        }
        Failure::Policy { message, domains } => {
            if is_json(matches) {
                super::print_json(&format_args!(
                    "{:#}",
                    json!({ "error": message, "domains": domains })
                ));
            } else {
                complain(&format_args!("error: {}", printable::line(&message)));
            }
            ExitCode::from(PROBLEMS)
        }
    }
}

/// What a request with an API key needs.
fn explain_route(matches: &ArgMatches) -> Result<RouteReport, Failure> {
    let name = matches.get_one::<String>("domain").map_or("", String::as_str);
    let policies = policies(matches)?;
    let domain = policies.domain(name).ok_or_else(|| unknown(name, &policies))?;
    let lineage = match matches.get_one::<String>("caller") {
        Some(caller) => directory(matches)?.cached(caller).unwrap_or_default(),
        None => Lineage::default(),
    };
    if domain.api_keys.is_none() {
        let message = format!("the policy of the domain `{name}` has no `api_keys`");
        return Err(Failure::Policy { message, domains: None });
    }
    RouteReport::of(matches, domain, &lineage).map_err(Failure::Usage)
}

fn explain(matches: &ArgMatches) -> Result<Report, Failure> {
    let usage = |error: &dyn ToString| Failure::Usage(error.to_string());
    let texts = matches.get_many::<String>("descriptor").unwrap_or_default();
    let parsed = texts.map(|text| parse_entries(text)).collect::<Result<Vec<_>, _>>();
    let mut descriptors = parsed.map_err(|error| usage(&error))?;
    if descriptors.is_empty() && !matches.contains_id("caller") {
        return Err(Failure::Usage(NO_DESCRIPTOR.to_owned()));
    }
    let name = matches.get_one::<String>("domain").map_or("", String::as_str);
    let policies = policies(matches)?;
    let directory = directory(matches)?;
    let has_directory = !matches!(directory, Directory::None);
    let domain = policies.domain(name).ok_or_else(|| unknown(name, &policies))?;
    if let Some(caller) = matches.get_one::<String>("caller") {
        add_caller(&mut descriptors, caller, domain)?;
    }
    let now = now(matches, domain)?;
    let hits = match matches.get_one::<i64>("hits").copied().unwrap_or(1) {
        hits @ 0.. => Hits::Spend(hits.unsigned_abs()),
        hits => Hits::GiveBack(hits.unsigned_abs()),
    };
    let asked = descriptors.iter().map(|entries| Descriptor {
        entries: entries.iter().map(|(key, value)| (&**key, &**value)).collect(),
        hits,
        hits_source: HitsSource::Request,
        limit: None,
    });
    let request = Request::try_new(name, asked.collect()).map_err(|error| usage(&error))?;
    let engine = Engine::new(EngineSettings {
        store: AnyStore::Memory(Memory::new(COUNTERS_MAX)),
        directory,
        clock: Clock::manual(now),
        modes: ModeSettings::default(),
        near_limit: NearLimit::default(),
        metrics: Arc::new(Metrics::new()),
    });
    engine.replace(policies);
    let policies = engine.policies();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| Failure::Files(format!("error: {error}")))?;
    let explanation = runtime.block_on(engine.explain(&request));
    let (Some(explanation), Some(domain)) = (explanation, policies.domain(name)) else {
        return Err(unknown(name, &policies));
    };
    Ok(Report::new(&explanation, Setting { domain, at: now, hits, has_directory }))
}

fn print_json(report: &impl Serialize) -> ExitCode {
    match serde_json::to_string_pretty(report) {
        Ok(text) => super::print_json(&text),
        Err(error) => {
            complain(&format_args!("error: {error}"));
            ExitCode::from(PROBLEMS)
        }
    }
}

/// The time of the explanation.
fn now(matches: &ArgMatches, domain: &Domain) -> Result<Timestamp, Failure> {
    match matches.get_one::<At>("at") {
        None => {
            let now_ms = Clock::system().now().timestamp().as_ms();
            Ok(Timestamp::from_ms(now_ms - now_ms % SECOND_MS))
        }
        Some(at) => {
            let at = at.timestamp(domain.zone());
            at.ok_or_else(|| Failure::Usage(at::AtError.to_string()))
        }
    }
}

fn policies(matches: &ArgMatches) -> Result<PolicySet, Failure> {
    let options = CompileOptions {
        merge_domains: matches.get_flag("merge_domains"),
        ..CompileOptions::default()
    };
    let unreadable = |error| Failure::Files(format!("error: {error}"));
    let sources = sources(matches).map_err(unreadable)?;
    let overlays = overlays(matches).map_err(unreadable)?;
    // A problem that both make together may be at a place of either.
    let failure = |problems: Vec<Problem>| {
        Failure::Files(render(&problems, &[sources.as_slice(), &overlays].concat()))
    };
    let policies = compile_with_overlays((&sources, &overlays), options, None).map_err(failure)?;
    let invalid = policies
        .overlays()
        .iter()
        .filter(|one| matches!(one.state, OverlayState::Rejected | OverlayState::Partial));
    let problems: Vec<Problem> = invalid.flat_map(|one| one.problems.clone()).collect();
    match problems.is_empty() {
        true => Ok(policies),
        false => Err(failure(problems)),
    }
}

/// The directory from the files in `--callers`.
fn directory(matches: &ArgMatches) -> Result<Directory, Failure> {
    let Some(paths) = matches.get_many::<PathBuf>("callers") else { return Ok(Directory::None) };
    let sources = SourceFiles::new(paths.cloned().collect()).read().sources;
    let sources = sources.map_err(|error| Failure::Files(format!("error: {error}")))?;
    let callers = compile_callers(&sources)
        .map_err(|problems| Failure::Files(render(&problems, &sources)))?;
    let directory = Directory::files();
    directory.replace(callers);
    Ok(directory)
}

fn unknown(name: &str, policies: &PolicySet) -> Failure {
    let names: Vec<&str> =
        policies.domains().into_iter().map(|domain| domain.name.as_str()).collect();
    let there_are = match names.as_slice() {
        [] => "there are no domains".to_owned(),
        [only] => format!("there is `{only}`"),
        names => format!("there are {}", quoted(names)),
    };
    let meant = nearest(name, &names).map(|meant| format!("; did you mean `{meant}`?"));
    let message = format!(
        "unknown domain `{name}`: its requests pass unlimited; {there_are}{}",
        meant.unwrap_or_default()
    );
    let domains = names.into_iter().map(str::to_owned).collect();
    Failure::Policy { message, domains: Some(domains) }
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// Adds a descriptor with the caller, unless a descriptor has one.
fn add_caller(
    descriptors: &mut Vec<Vec<(String, String)>>,
    caller: &str,
    domain: &Domain,
) -> Result<(), Failure> {
    let Some(key) = domain.classes.caller_key.as_deref() else {
        let message = format!(
            "`--caller {caller}` has no effect on the domain `{}`: its policy has no `caller: {{ key: ... }}`",
            domain.name
        );
        return Err(Failure::Policy { message, domains: None });
    };
    match descriptors.iter().flatten().find(|(name, _)| name == key) {
        None => descriptors.push(vec![(key.to_owned(), caller.to_owned())]),
        Some((_, named)) if named == caller => {}
        Some((_, named)) => {
            let message =
                format!("`--caller {caller}` conflicts with {key}={named} in a descriptor");
            return Err(Failure::Usage(message));
        }
    }
    Ok(())
}
