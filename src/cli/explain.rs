//! `tollgate explain`: which rules and limits a descriptor meets, and why not others.

use std::process::ExitCode;

use clap::Arg;
use clap::ArgMatches;
use clap::Command;

use super::PROBLEMS;
use super::USAGE;
use super::complain;
use super::format_arg;
use super::is_json;
use super::merge_domains_arg;
use super::path_arg;
use super::print;
use super::sources;
use crate::policy::CompileOptions;
use crate::policy::compile;
use crate::policy::render;

const EXAMPLES: &str = "\
Examples:
  tollgate explain config/policies basic 'user_id=alice'
  tollgate explain config/policies travel 'provider=hotelbeds,endpoint=search'

The order of the entries counts: Envoy sends them in the order of the `actions` in its `rate_limits`.";

pub fn command() -> Command {
    Command::new("explain")
        .about("Tell which rules and limits a descriptor meets, and why not others")
        .after_help(EXAMPLES)
        .arg(path_arg())
        .arg(
            Arg::new("domain").value_name("DOMAIN").required(true).help("The domain that is asked"),
        )
        .arg(
            Arg::new("descriptor")
                .value_name("DESCRIPTOR")
                .required(true)
                .help("Its entries in order, such as 'user_id=alice,request_type=search'"),
        )
        .arg(merge_domains_arg())
        .arg(format_arg())
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let (domain, descriptor) = (text("domain"), text("descriptor"));
    let Some(entries) = entries(descriptor) else {
        complain(&format_args!("error: `{descriptor}` is not a list like key=value,key=value"));
        return ExitCode::from(USAGE);
    };
    let sources = match sources(matches) {
        Ok(sources) => sources,
        Err(error) => {
            complain(&format_args!("error: {error}"));
            return ExitCode::from(PROBLEMS);
        }
    };
    let options = CompileOptions { merge_domains: matches.get_flag("merge_domains") };
    match compile(&sources, options) {
        Ok(policies) => {
            let explanation = policies.explain(domain, &entries);
            if is_json(matches) {
                print(&format_args!("{:#}", explanation.to_json()))
            } else {
                print(&explanation.to_string().trim_end())
            }
        }
        Err(problems) => {
            complain(&render(&problems, &sources));
            ExitCode::from(PROBLEMS)
        }
    }
}

/// The entries of `k=v,k=v`. A value may be empty, and hold further equals signs.
fn entries(descriptor: &str) -> Option<Vec<(&str, &str)>> {
    descriptor
        .split(',')
        .map(|entry| entry.split_once('=').filter(|(key, _)| !key.is_empty()))
        .collect()
}
