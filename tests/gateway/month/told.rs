//! What a sidecar says of the month, over HTTP, as commands in JSON and in CSV, beside the truth.

use std::process;

use serde_json::{Value, json};

use super::truth::{CALLERS, DAYS, Groups, Request, START, Sums, Truth};
use crate::support::client::Http;
use crate::support::tollgate::{Tollgate, command};
use crate::support::usage::items;

/// What a command prints.
fn printed(tollgate: &Tollgate, arguments: &[&str]) -> String {
    let url = format!("http://{}", tollgate.http_address);
    let process::Output { status, stdout, stderr } =
        command().env("TOLLGATE_API_URL", url).args(arguments).output().unwrap();
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

async fn get(tollgate: &Tollgate, path: &str) -> Value {
    let answer = Http::new().get(&format!("http://{}{path}", tollgate.http_address), &[]).await;
    assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
    answer.json()
}

/// Items as groups, by the fields that tell them apart.
fn groups(items: &[Value], names: &[&str]) -> Groups {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let group = |item: &Value| {
        let name = |name: &&str| item[*name].as_str().unwrap_or_default().to_owned();
        let sums = Sums {
            requests: number(&item["requests"]),
            allowed: number(&item["allowed"]),
            refused: number(&item["refused"]),
            elsewhere: number(&item["refused_elsewhere"]),
            micros: number(&item["cost"]["spent_micros"]),
        };
        assert_eq!(number(&item["errors"]), 0, "{item}");
        if let Some(hits) = item["hits"].as_object() {
            assert_eq!(number(&hits["spent"]), sums.allowed, "{item}");
            assert_eq!(number(&hits["refused"]), sums.refused, "{item}");
        }
        (names.iter().map(name).collect(), sums)
    };
    let groups: Groups = items.iter().map(group).collect();
    assert_eq!(groups.len(), items.len(), "each group is one item");
    groups
}

/// CSV without quotes as groups.
fn csv_groups(text: &str, names: &[&str]) -> Groups {
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let group = |cells: Vec<&str>| {
        let cell = |name: &str| {
            let at = head.iter().position(|column| *column == name);
            at.map_or("", |at| cells[at])
        };
        let number = |name: &str| cell(name).parse().unwrap_or_default();
        let sums = Sums {
            requests: number("requests"),
            allowed: number("allowed"),
            refused: number("refused"),
            elsewhere: number("refused_elsewhere"),
            micros: number("cost_spent_micros"),
        };
        let reasons = head.iter().filter(|column| column.starts_with("refused_by_"));
        assert_eq!(reasons.map(|reason| number(reason)).sum::<u64>(), sums.refused, "{cells:?}");
        (names.iter().map(|name| cell(name).to_owned()).collect(), sums)
    };
    lines.map(group).collect()
}

/// The start of a day, or of an hour of it, as answers show it.
fn start(request: Request, of_hour: bool) -> String {
    let hour = if of_hour { request.hour } else { 0 };
    format!("2030-03-{:02}T{hour:02}:00:00Z", request.day + 1)
}

/// The same question over HTTP, as a command in JSON, and as a command in CSV.
async fn usage(tollgate: &Tollgate, (granularity, names): (&str, &[&str]), mut expected: Groups) {
    let group_by = names.join(",");
    let names = [&["start"], names].concat();
    let path =
        format!("/v1/usage?domain=gate&granularity={granularity}&from={START}&group_by={group_by}");
    let (all, _) = items(tollgate, &path).await;
    assert_eq!(groups(&all, &names), expected, "{path}");
    let arguments =
        ["usage", "--domain", "gate", "-g", granularity, "--from", START, "-b", &group_by];
    let json = printed(tollgate, &[&arguments[..], &["-o", "json"]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(groups(json["items"].as_array().unwrap(), &names), expected, "{arguments:?}");
    let csv = printed(tollgate, &[&arguments[..], &["-o", "csv"]].concat());
    // Commands print money in units.
    expected.values_mut().for_each(|sums| sums.micros = 0);
    assert_eq!(csv_groups(&csv, &names), expected, "{arguments:?}");
}

async fn report(tollgate: &Tollgate, truth: &Truth) {
    let names = ["domain", "limit", "tier", "caller"];
    let mut expected = truth.limits(|one, limit| texts(&["gate", limit, one.tier(), one.name()]));
    let report = get(tollgate, "/v1/report").await;
    assert_eq!(groups(report["items"].as_array().unwrap(), &names), expected);
    let csv = printed(tollgate, &["report", "--output", "csv"]);
    assert_eq!(csv_groups(&csv, &names), expected);
    let by_provider = "/v1/report?group_by=provider,tier&format=csv";
    let url = format!("http://{}{by_provider}", tollgate.http_address);
    let csv = String::from_utf8(Http::new().get(&url, &[]).await.body.to_vec()).unwrap();
    expected = truth.requests(|one, _| texts(&[one.provider, one.tier()]));
    assert_eq!(csv_groups(&csv, &["provider", "tier"]), expected);
    // The week from Monday, the 11th, to the 17th.
    let arguments = ["report", "--period", "week", "--at", "2030-03-15T12:00:00Z", "-b", "caller"];
    let csv = printed(tollgate, &[&arguments[..], &["-o", "csv"]].concat());
    let mut week = truth.requests(|one, _| match one.day {
        10..=16 => texts(&[one.name()]),
        _ => Vec::new(),
    });
    week.remove(&Vec::new());
    assert_eq!(csv_groups(&csv, &["caller"]), week);
}

async fn denials(tollgate: &Tollgate, truth: &Truth) {
    let refusals = truth.limits(|one, limit| texts(&[one.name(), limit, "over_limit"]));
    let mut expected: Vec<(u64, Vec<String>)> =
        refusals.into_iter().map(|(names, sums)| (sums.refused, names)).collect();
    expected.retain(|(count, _)| *count != 0);
    expected.sort();
    let path = format!("/v1/denials?granularity=day&from={START}");
    let (all, _) = items(tollgate, &path).await;
    let denial = |item: &Value| {
        let names = ["caller", "limit", "reason"].map(|name| item[name].as_str().unwrap());
        (item["count"].as_u64().unwrap(), texts(&names))
    };
    let mut reported: Vec<_> = all.iter().map(denial).collect();
    reported.sort();
    assert_eq!(reported, expected);
    assert!(8 < expected.len(), "{expected:?}");
    let csv = printed(tollgate, &["denials", "-g", "day", "--from", START, "-o", "csv"]);
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        (cells[4].parse().unwrap(), texts(&cells[1..4]))
    };
    let mut reported: Vec<_> = csv.lines().skip(1).map(row).collect();
    reported.sort();
    assert_eq!(reported, expected);
}

async fn costs(tollgate: &Tollgate, truth: &Truth) {
    let all: u64 = truth.requests(|_, _| Vec::new())[&Vec::new()].micros;
    let costs = get(tollgate, "/v1/costs").await;
    assert_eq!(
        (&costs["items"][0]["month_micros"], &costs["currency"]),
        (&json!(all), &json!("EUR"))
    );
    let last = truth.requests(|one, _| texts(&[&one.day.to_string()]));
    let day = last[&texts(&[&(DAYS - 1).to_string()])].micros;
    assert_eq!(costs["items"][0]["day_micros"], day);
    let table = printed(tollgate, &["costs", "-o", "csv"]);
    let cells: Vec<&str> = table.lines().nth(1).unwrap().split(',').collect();
    let money = |micros: u64| format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let money = |micros: u64| money(micros).trim_end_matches('0').to_owned();
    assert_eq!((cells[2], cells[6]), (&*money(day), &*money(all)), "{table}");
}

async fn forecasts(tollgate: &Tollgate, truth: &Truth) {
    for (caller, (name, _)) in CALLERS.iter().enumerate() {
        let forecast = get(tollgate, &format!("/v1/forecast?caller={name}")).await;
        let all = forecast["items"].as_array().unwrap();
        let monthly = all.iter().find(|item| item["limit"] == "monthly").unwrap();
        assert_eq!(monthly["used"], truth.spent(caller), "{name}: {monthly}");
        let average = truth.average(caller, DAYS - 1);
        let reported = monthly["average"].as_f64().unwrap();
        assert!((reported - average).abs() < 0.01, "{name}: {average} {monthly}");
        let printed = printed(tollgate, &["forecast", name, "--output", "json"]);
        let printed: Value = serde_json::from_str(&printed).unwrap();
        let others = printed["items"].as_array().unwrap();
        let other = others.iter().find(|item| item["limit"] == "monthly").unwrap();
        for field in ["used", "quota", "average", "trend", "known"] {
            assert_eq!(other[field], monthly[field], "{name}: {field}");
        }
    }
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Compares everything that a sidecar says of the month with the truth.
pub async fn check(sidecar: &Tollgate, truth: &Truth) {
    let code = |passes| if passes { "ok" } else { "over_limit" };
    let of_code =
        truth.requests(|one, passes| texts(&[&start(one, false), one.tier(), code(passes)]));
    usage(sidecar, ("day", &["tier", "code"]), of_code).await;
    let of_caller = truth.requests(|one, _| texts(&[&start(one, true), one.name()]));
    usage(sidecar, ("hour", &["caller"]), of_caller).await;
    let of_limit = truth.limits(|one, limit| texts(&[&start(one, false), one.name(), limit]));
    usage(sidecar, ("day", &["caller", "limit"]), of_limit).await;
    let of_provider = truth.requests(|one, _| texts(&[&start(one, false), one.provider]));
    usage(sidecar, ("day", &["provider"]), of_provider).await;
    report(sidecar, truth).await;
    denials(sidecar, truth).await;
    costs(sidecar, truth).await;
    forecasts(sidecar, truth).await;
}
