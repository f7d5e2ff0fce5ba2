//! `tollgate usage`, `top`, `denials`, `report` and `forecast`: what was used, and what is coming.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, value_parser};

use super::args::{below, below_arg, caller_arg, domain_arg, entries, entry_arg, with_common};
use super::question::Question;
use super::table::Column;
use crate::engine::Reason;

const USAGE_EXAMPLES: &str = "\
Examples:
  tollgate usage --group-by tier,code             Requests of each hour by tier and outcome
  tollgate usage --granularity day --caller alice --group-by limit
  tollgate usage --from 2026-11-01T00:00:00Z --output csv > usage.csv";

const TOP_EXAMPLES: &str = "\
Examples:
  tollgate top callers                            The callers with the most requests
  tollgate top limits --by refused --granularity minute -n 5
  tollgate top providers";

const REPORT_EXAMPLES: &str = "\
Examples:
  tollgate report                                 This month by domain, limit, tier and caller
  tollgate report --period week --at 2026-11-27T00:00:00Z --output csv";

const FORECAST_EXAMPLES: &str = "\
Examples:
  tollgate forecast alice                         When each limit will be used up
  tollgate forecast alice -e request_type=search --output json";

/// Rows of `top`: the longest page of the API.
const COUNT_MAX: u64 = 1_000;

const GRANULARITIES: [&str; 3] = ["minute", "hour", "day"];

pub fn usage_command() -> Command {
    let command = Command::new("usage")
        .about("Sum requests and hits over time, over the API")
        .after_help(USAGE_EXAMPLES)
        .arg(granularity_arg())
        .arg(group_by_arg());
    with_common(with_filters(
        with_range(command),
        &["domain", "limit", "tier", "caller", "provider", "reason"],
    ))
}

pub fn top_command() -> Command {
    let command = Command::new("top")
        .about("List the callers, limits or providers with the most requests, over the API")
        .after_help(TOP_EXAMPLES)
        .arg(
            Arg::new("of")
                .value_name("OF")
                .default_value("callers")
                .value_parser(PossibleValuesParser::new(["callers", "limits", "providers"]))
                .help("What to list"),
        )
        .arg(
            Arg::new("by")
                .long("by")
                .value_name("BY")
                .value_parser(PossibleValuesParser::new(["requests", "refused", "hits", "cost"]))
                .help("What to rank by"),
        )
        .arg(granularity_arg())
        .arg(
            Arg::new("count")
                .long("count")
                .short('n')
                .value_name("NUMBER")
                .value_parser(value_parser!(u64).range(1..=COUNT_MAX))
                .help("Number of rows; 100 if absent"),
        );
    with_common(with_filters(with_range(command), &["domain", "limit"]))
}

pub fn denials_command() -> Command {
    let command = Command::new("denials")
        .about("List refusals by caller, limit and reason, over the API")
        // Each refusal is listed with its caller, and minutes have none.
        .arg(granularity_arg().value_parser(PossibleValuesParser::new(["hour", "day"])));
    with_common(with_filters(with_range(command), &["domain", "limit", "caller", "reason"]))
}

pub fn report_command() -> Command {
    let command = Command::new("report")
        .about("Report the usage of a day, a week or a month, over the API")
        .after_help(REPORT_EXAMPLES)
        .arg(
            Arg::new("period")
                .long("period")
                .value_name("PERIOD")
                .value_parser(PossibleValuesParser::new(["day", "week", "month"]))
                .help("Length of time; a month if absent"),
        )
        .arg(
            Arg::new("at")
                .long("at")
                .value_name("TIME")
                .help("A time in the period (RFC 3339); now if absent"),
        )
        .arg(group_by_arg());
    with_common(with_filters(command, &["domain", "limit", "tier", "caller", "provider"]))
}

pub fn forecast_command() -> Command {
    let command = Command::new("forecast")
        .about("Forecast when the limits of a caller will be used up, over the API")
        .after_help(FORECAST_EXAMPLES)
        .arg(caller_arg())
        .arg(domain_arg())
        .arg(entry_arg())
        .arg(below_arg());
    with_common(command)
}

pub fn usage(matches: &ArgMatches) -> Question {
    let groups = groups(matches, "");
    let of_limits = groups.iter().any(|group| group == "limit") || has(matches, "limit");
    let mut columns = vec![Column::text("start", "/start")];
    columns.extend(names(&groups));
    columns.extend(sums(of_limits));
    columns.extend(rare_sums(matches));
    let names = [
        "granularity",
        "from",
        "to",
        "group_by",
        "domain",
        "limit",
        "tier",
        "caller",
        "provider",
        "reason",
    ];
    get("/v1/usage", paged(query(matches, &names)), columns)
}

pub fn top(matches: &ArgMatches) -> Question {
    let of = matches.get_one::<String>("of").map_or("callers", String::as_str);
    let mut columns = match of {
        "limits" => names(&["domain".to_owned(), "limit".to_owned()]),
        "providers" => names(&["domain".to_owned(), "provider".to_owned()]),
        _ => names(&["domain".to_owned(), "caller".to_owned()]),
    };
    columns.extend(sums(of == "limits" || has(matches, "limit")));
    columns.extend(rare_sums(matches));
    let names = ["of", "by", "granularity", "from", "to", "domain", "limit"];
    let mut query = query(matches, &names);
    query.extend(matches.get_one::<u64>("count").map(|count| ("page_size", count.to_string())));
    Question { is_one_page: true, ..get("/v1/top", query, columns) }
}

pub fn denials(matches: &ArgMatches) -> Question {
    let groups = ["domain", "caller", "limit", "reason"].map(str::to_owned);
    let mut columns = names(&groups);
    columns.push(Column::number("count", "/count"));
    columns.push(Column::text("last_at", "/last_at"));
    let names = ["granularity", "from", "to", "domain", "limit", "caller", "reason"];
    get("/v1/denials", paged(query(matches, &names)), columns)
}

pub fn report(matches: &ArgMatches) -> Question {
    let groups = groups(matches, "domain,limit,tier,caller");
    let mut columns = names(&groups);
    columns.extend(sums(groups.iter().any(|group| group == "limit") || has(matches, "limit")));
    let names = ["period", "at", "group_by", "domain", "limit", "tier", "caller", "provider"];
    let mut query = query(matches, &names);
    if matches.get_one::<String>("output").is_some_and(|output| output == "csv") {
        query.push(("format", "csv".to_owned()));
    }
    get("/v1/report", query, columns)
}

pub fn forecast(matches: &ArgMatches) -> Question {
    let mut query = query(matches, &["caller", "domain"]);
    let entries: Vec<String> =
        entries(matches).iter().map(|(key, value)| format!("{key}={value}")).collect();
    if !entries.is_empty() {
        query.push(("entries", entries.join(",")));
    }
    query.extend(below(matches));
    let columns = vec![
        Column::text("domain", "/domain"),
        Column::text("limit", "/limit"),
        Column::number("used", "/used"),
        Column::number("quota", "/quota"),
        Column::number("average", "/average"),
        Column::text("per", "/step"),
        Column::text("trend", "/trend"),
        Column::number("demand", "/demand/average"),
        Column::number("days_left", "/days_left"),
        Column::text("earliest_at", "/earliest_at"),
        Column::text("reached_at", "/reached_at"),
        Column::text("latest_at", "/latest_at"),
        Column::number("budget_per_day", "/budget_per_day"),
        Column::text("unknown", "/unknown"),
    ];
    get("/v1/forecast", query, columns)
}

fn get(path: &str, query: Vec<(&'static str, String)>, columns: Vec<Column>) -> Question {
    Question { method: "GET", path: path.to_owned(), query, columns, ..Question::default() }
}

/// The parameters of the query that were given.
fn query(matches: &ArgMatches, names: &[&'static str]) -> Vec<(&'static str, String)> {
    let text = |name: &&'static str| {
        matches.try_get_one::<String>(name).ok().flatten().map(|text| (*name, text.clone()))
    };
    names.iter().filter_map(text).collect()
}

/// Pages as long as they may be: all of them are read.
fn paged(mut query: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
    query.push(("page_size", "1000".to_owned()));
    query
}

fn has(matches: &ArgMatches, name: &str) -> bool {
    matches.contains_id(name)
}

/// The dimensions by which sums are told apart.
fn groups(matches: &ArgMatches, absent: &str) -> Vec<String> {
    let text = matches.get_one::<String>("group_by").map_or(absent, String::as_str);
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn names(groups: &[String]) -> Vec<Column> {
    groups.iter().map(|name| Column::text(name, &format!("/{name}"))).collect()
}

fn sums(of_limits: bool) -> Vec<Column> {
    let mut columns = vec![
        Column::number("requests", "/requests"),
        Column::number("allowed", "/allowed"),
        Column::number("refused", "/refused"),
        Column::number("errors", "/errors"),
    ];
    columns.push(Column::money("cost", "/cost/spent_micros"));
    if of_limits {
        columns.push(Column::number("refused_elsewhere", "/refused_elsewhere"));
        columns.push(Column::number("hits_spent", "/hits/spent"));
        columns.push(Column::number("hits_refused", "/hits/refused"));
        columns.push(Column::number("hits_given_back", "/hits/given_back"));
    }
    columns
}

/// The sums for which a terminal has no place: in CSV alone.
fn rare_sums(matches: &ArgMatches) -> Vec<Column> {
    if matches.get_one::<String>("output").is_none_or(|output| output != "csv") {
        return Vec::new();
    }
    let counts = ["shadow_refused", "fallback", "waited"];
    let counts = counts.iter().map(|name| Column::number(name, &format!("/{name}")));
    let reasons = Reason::ALL.iter().map(|reason| reason.name());
    let reasons = reasons.map(|reason| {
        Column::number(&format!("refused_by_{reason}"), &format!("/refused_by/{reason}"))
    });
    counts.chain(reasons).collect()
}

fn granularity_arg() -> Arg {
    Arg::new("granularity")
        .long("granularity")
        .short('g')
        .value_name("LENGTH")
        .value_parser(PossibleValuesParser::new(GRANULARITIES))
        .help("Length of time of each sum; hour if absent")
}

fn group_by_arg() -> Arg {
    Arg::new("group_by").long("group-by").short('b').value_name("DIMENSIONS").help(
        "Dimensions to sum by, with commas: domain, limit, tier, caller, provider, code, reason, kind",
    )
}

fn with_range(command: Command) -> Command {
    let time = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("TIME").help(help)
    };
    command
        .arg(time("from", "Start with the minute, hour or day of this time (RFC 3339)"))
        .arg(time("to", "End before this time"))
}

fn with_filters(mut command: Command, names: &[&'static str]) -> Command {
    for name in names {
        let arg = Arg::new(*name)
            .long(*name)
            .value_name(name.to_uppercase())
            .help(format!("Only this {name}"));
        command = command.arg(arg);
    }
    command
}
