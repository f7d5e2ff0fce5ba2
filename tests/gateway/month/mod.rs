//! A month of traffic of three tiers through a real Envoy and two sidecars on one Redis, one of which is replaced in the middle:
//! the API, the commands and CSV agree with an independent count, to the hit.

mod truth;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, process};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::support::client::Http;
use crate::support::clock::Clock;
use crate::support::eventually;
use crate::support::gateway::{Gateway, pipe};
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, command};
use crate::support::usage::{counted, items};
use truth::{CALLERS, DAYS, Groups, HOURS, Request, START, Sums, Truth};

/// Days after which all usage must be stored: a sidecar that can't store keeps the hours of two days.
const STORED_DAYS: u32 = 2;

/// The day on which a sidecar is replaced.
const REPLACED_ON: u32 = 15;

/// The time by the real clock in which a sidecar ends the refusals that it keeps, and takes what was decided into its sums: those
/// that are not taken before the clock is set count in the next hour.
const SETTLED: Duration = Duration::from_millis(250);

/// Sidecars whose sockets have names that stay.
struct Stage {
    clock: Clock,
    store: Store,
    folder: TempDir,
}

impl Stage {
    /// None without faketime or Redis.
    fn start() -> Option<Self> {
        let clock = Clock::new()?;
        set(&clock, 0, 0);
        let mut server = Server::prepare(&[])?;
        server.environment = clock.environment();
        // The allocator of Redis asks for the time before faketime is ready: that of libc does not.
        let library = server.environment.iter_mut().find(|(name, _)| name == "LD_PRELOAD");
        library.unwrap().1.push_str(":libc.so.6");
        server.launch();
        Some(Self { clock, store: Store::Redis(server), folder: TempDir::new().unwrap() })
    }

    fn socket(&self, index: usize) -> PathBuf {
        self.folder.path().join(index.to_string())
    }

    /// Starts a sidecar at one of the sockets.
    async fn serve(&self, index: usize) -> Tollgate {
        let mut command = command();
        command.envs(self.clock.environment());
        let policy = truth::policy();
        let tollgate = Tollgate::serve_by(command, &policy, &self.store, &["--usage=true"]).await;
        let _ = fs::remove_file(self.socket(index));
        symlink(tollgate.socket(), self.socket(index)).unwrap();
        tollgate
    }
}

/// Sets a clock to an hour of a day of the month, some minutes after its start.
fn set(clock: &Clock, day: u32, hour: u32) {
    let hours = i64::from(day * 24 + hour);
    let start: Timestamp = START.parse().unwrap();
    let at = start + SignedDuration::from_hours(hours) + SignedDuration::from_mins(5);
    clock.step_to(at.duration_since(Timestamp::now()).as_mins());
}

/// Waits until a sidecar has noticed the time of its Redis.
async fn noticed(tollgate: &Tollgate) {
    let url = format!("http://{}/v1/callers/probe/quota", tollgate.http_address);
    eventually("the new time", async || {
        let answer = Http::new().get(&url, &[]).await;
        (answer.status == 200 && answer.json()["fallback"] != true).then_some(())
    })
    .await;
}

async fn ask(gateway: &Gateway, request: Request) -> bool {
    let headers = [
        ("x-user", request.name()),
        ("x-tier", request.tier()),
        ("x-provider", request.provider),
        ("x-op", request.op),
    ];
    match gateway.caller.get("/", &headers).await.status {
        200 => true,
        429 => false,
        other => panic!("{request:?}: {other}"),
    }
}

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
async fn check_usage(
    tollgate: &Tollgate,
    (granularity, names): (&str, &[&str]),
    mut expected: Groups,
) {
    let group_by = names.join(",");
    let names = [&["start"], names].concat();
    let path =
        format!("/v1/usage?domain=gate&granularity={granularity}&from={START}&group_by={group_by}");
    let (all, scope) = items(tollgate, &path).await;
    assert_eq!((groups(&all, &names), scope.as_str()), (expected.clone(), "fleet"), "{path}");
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

async fn check_report(tollgate: &Tollgate, truth: &Truth) {
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

async fn check_denials(tollgate: &Tollgate, truth: &Truth) {
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

async fn check_costs(tollgate: &Tollgate, truth: &Truth) {
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

async fn check_forecasts(tollgate: &Tollgate, truth: &Truth) {
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

fn rate_limits() -> Value {
    let header = |name: &str, key: &str| json!({ "request_headers": { "header_name": name, "descriptor_key": key } });
    json!([
        { "actions": [header("x-user", "user"), header("x-tier", "tier")] },
        { "actions": [header("x-provider", "provider")] },
        { "actions": [header("x-op", "op")] },
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_of_traffic_is_told_to_the_hit_by_api_commands_and_csv() {
    let Some(stage) = Stage::start() else { return };
    let mut sidecars = [stage.serve(0).await, stage.serve(1).await];
    let addresses = [stage.socket(0), stage.socket(1)].map(|path| pipe(Path::new(&path)));
    let Some(gateway) = Gateway::limiting(&rate_limits(), &addresses).await else { return };
    let mut truth = Truth::default();
    for day in 0..DAYS {
        if day == REPLACED_ON {
            sidecars[1].terminate();
            gateway.healthy(1).await;
            assert!(sidecars[1].exit().await.success());
        }
        for hour in HOURS {
            sleep(SETTLED).await;
            set(&stage.clock, day, hour);
            for sidecar in &sidecars[..if day == REPLACED_ON { 1 } else { 2 }] {
                noticed(sidecar).await;
            }
            for request in truth::requests(day, hour) {
                let passed = ask(&gateway, request).await;
                assert_eq!(passed, truth.decide(request), "{request:?}");
            }
        }
        if day == REPLACED_ON {
            sidecars[1] = stage.serve(1).await;
            gateway.healthy(2).await;
        }
        if day % STORED_DAYS == 1 {
            counted(&sidecars[0], truth.count()).await;
        }
    }
    counted(&sidecars[0], truth.count()).await;
    for sidecar in &sidecars {
        let code = |passes| if passes { "ok" } else { "over_limit" };
        let of_code =
            truth.requests(|one, passes| texts(&[&start(one, false), one.tier(), code(passes)]));
        check_usage(sidecar, ("day", &["tier", "code"]), of_code).await;
        let of_caller = truth.requests(|one, _| texts(&[&start(one, true), one.name()]));
        check_usage(sidecar, ("hour", &["caller"]), of_caller).await;
        let of_limit = truth.limits(|one, limit| texts(&[&start(one, false), one.name(), limit]));
        check_usage(sidecar, ("day", &["caller", "limit"]), of_limit).await;
        let of_provider = truth.requests(|one, _| texts(&[&start(one, false), one.provider]));
        check_usage(sidecar, ("day", &["provider"]), of_provider).await;
        check_report(sidecar, &truth).await;
        check_denials(sidecar, &truth).await;
        check_costs(sidecar, &truth).await;
        check_forecasts(sidecar, &truth).await;
    }
}
