//! `tollgate providers`: how much of the capacity of each provider is in use, and changes of one for a while.

use clap::{ArgMatches, Command};

use super::args::{domain_arg, name_arg, segment, with_common};
use super::provider_controls;
use super::question::Question;
use super::table::Column;

const EXAMPLES: &str = "\
Examples:
  tollgate providers                              Each provider, with the limit that is used most
  tollgate providers hotelbeds                    Each limit of a provider
  tollgate providers --output csv > providers.csv
  tollgate providers pause hotelbeds --until 2026-12-05T06:00:00Z
  tollgate providers resume hotelbeds
  tollgate providers cap hotelbeds 50 --tier free --until 2026-12-05T06:00:00Z
  tollgate providers priority hotelbeds 1 --entry endpoint=search --until 2026-12-05
  tollgate providers changes                      What was changed for a while";

pub fn command() -> Command {
    let command = Command::new("providers")
        .about("Show the capacity, use, pressure and queue of providers, or change one for a while")
        .args_conflicts_with_subcommands(true)
        .subcommands(provider_controls::commands())
        .after_help(EXAMPLES)
        .arg(
            name_arg("provider", "PROVIDER")
                .required(false)
                .help("Name of a provider; all if absent"),
        )
        .arg(domain_arg());
    with_common(command)
}

pub fn providers(matches: &ArgMatches) -> Question {
    let name = matches.get_one::<String>("provider");
    let domain = matches.get_one::<String>("domain").map(|domain| ("domain", domain.clone()));
    let (path, columns) = match name {
        Some(name) => (format!("/v1/providers/{}", segment(name)), limit_columns()),
        None => ("/v1/providers".to_owned(), provider_columns()),
    };
    Question {
        method: "GET",
        path,
        query: domain.into_iter().collect(),
        columns,
        ..Question::default()
    }
}

/// The columns of a list of providers.
pub fn provider_columns() -> Vec<Column> {
    vec![
        Column::text("domain", "/domain"),
        Column::text("provider", "/provider"),
        Column::text("status", "/status"),
        Column::number("level", "/level"),
        Column::text("limit", "/fullest/limit"),
        Column::number("capacity", "/fullest/capacity"),
        Column::number("used", "/fullest/used"),
        Column::number("remaining", "/fullest/remaining"),
        Column::percent("percent", "/fullest/percent"),
        Column::number("waiting", "/waiting"),
        Column::number("latency_ms", "/latency_ms"),
    ]
}

fn limit_columns() -> Vec<Column> {
    vec![
        Column::text("rule", "/rule"),
        Column::text("limit", "/limit"),
        Column::number("capacity", "/capacity"),
        Column::number("used", "/used"),
        Column::number("remaining", "/remaining"),
        Column::percent("percent", "/percent"),
        Column::number("level", "/level"),
        Column::number("waiting", "/queue/waiting"),
        Column::text("reset_at", "/reset_at"),
    ]
}
