//! `tollgate costs`: what is spent, what the budget will be, and what another provider would save.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::args::{domain_arg, text_arg, with_common};
use super::question::{Question, parts};
use super::table::Column;

const EXAMPLES: &str = "\
Examples:
  tollgate costs                                  Spend, projections and budgets of each domain
  tollgate costs --providers                      The providers of each kind of request, and what a switch saves
  tollgate costs --output csv > costs.csv";

pub fn command() -> Command {
    let command = Command::new("costs")
        .about("Show costs, budgets and the cheapest and best providers, over the API")
        .after_help(EXAMPLES)
        .arg(domain_arg())
        .arg(text_arg("currency", "CURRENCY").help("Currency, if prices have several"))
        .arg(
            Arg::new("providers")
                .long("providers")
                .action(ArgAction::SetTrue)
                .help("Compare the providers of each kind of request"),
        );
    with_common(command)
}

pub fn costs(matches: &ArgMatches) -> Question {
    let text = |name: &'static str| Some((name, matches.get_one::<String>(name)?.clone()));
    let question = Question {
        method: "GET",
        path: "/v1/costs".to_owned(),
        query: ["domain", "currency"].into_iter().filter_map(text).collect(),
        columns: spend_columns(),
        ..Question::default()
    };
    if matches.get_flag("providers") {
        return Question {
            columns: offer_columns(),
            rows: Some(|costs| parts(costs, "kinds", ("providers", "offer"))),
            ..question
        };
    }
    question
}

fn spend_columns() -> Vec<Column> {
    vec![
        Column::text("domain", "/domain"),
        Column::money("hour", "/hour_micros"),
        Column::money("day", "/day_micros"),
        Column::money("projected_day", "/projected_day_micros"),
        Column::money("day_budget", "/day_budget_micros"),
        Column::text("day_status", "/day"),
        Column::money("month", "/month_micros"),
        Column::money("projected_month", "/projected_month_micros"),
        Column::money("month_budget", "/month_budget_micros"),
        Column::text("month_status", "/month"),
    ]
}

fn offer_columns() -> Vec<Column> {
    vec![
        Column::text("domain", "/domain"),
        Column::text("kind", "/kind"),
        Column::text("provider", "/offer/provider"),
        Column::money("price", "/offer/price_micros"),
        Column::number("per", "/offer/per"),
        Column::number("latency_ms", "/offer/latency_ms"),
        Column::number("success", "/offer/success"),
        Column::number("free", "/offer/free"),
        Column::number("score", "/offer/score"),
        Column::money("spent", "/offer/spent_micros"),
        Column::money("saving", "/offer/saving_micros"),
        Column::text("cheapest", "/cheapest"),
        Column::text("best", "/best"),
    ]
}
