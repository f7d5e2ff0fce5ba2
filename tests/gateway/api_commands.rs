//! The commands that use the API, as a person and a script use them: `tollgate quota`, `usage`, `top`, `denials`, `report`, `costs`.

use std::fs::{self, OpenOptions};
use std::io;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::ask::DomainClient;
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, api_token, command};
use crate::support::usage::requests;

const POLICY: &str = "
domain: shop
tiers: [free, paid]
caller: { key: user, tier: { key: tier } }
descriptors:
  - key: user
    cascade: true
    limits: [{ name: daily, by_tier: { free: 10/day, paid: 100/day } }]
    descriptors:
      - { key: kind, value: booking, limits: [{ name: booking, rate: 3/day }] }
";

/// Runs a command against a Tollgate.
fn run(tollgate: &Tollgate, arguments: &[&str]) -> Output {
    command()
        .env("TOLLGATE_API_URL", format!("http://{}", tollgate.http_address))
        .args(arguments)
        .output()
        .unwrap()
}

/// What a command prints, which must succeed.
#[track_caller]
fn printed(tollgate: &Tollgate, arguments: &[&str]) -> String {
    let output = run(tollgate, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    // Of CSV, what makes the numbers less than they seem is said there.
    let remarks = ["only what one sidecar counted", "costs are in EUR"];
    let is_quiet = stderr.lines().all(|line| remarks.iter().any(|one| line.starts_with(one)));
    assert!(output.status.success() && is_quiet, "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command complains of, and its exit status.
fn complaint(tollgate: &Tollgate, arguments: &[&str]) -> (i32, String) {
    let output = run(tollgate, arguments);
    assert!(output.stdout.is_empty(), "{arguments:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// The lines of a table, their cells joined by one space.
fn rows(table: &str) -> Vec<String> {
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_shown_charged_and_given_back() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let status = ["quota", "status", "ann", "-e", "kind=booking"];
        let consume = ["quota", "consume", "ann", "2", "-e", "kind=booking"];
        printed(&tollgate, &consume);
        let table = rows(&printed(&tollgate, &status));
        let [head, daily, booking] = &table[..] else { panic!("{table:?}") };
        let columns = "DOMAIN LIMIT ACCOUNT TIER QUOTA USED REMAINING PERCENT RESET_AT MODE \
                       STATE BONUSES HELD GRACE OVERRIDE";
        assert_eq!(head, columns);
        assert!(daily.starts_with("shop daily - free 10 2 8 20.0 % 20"), "{daily}");
        assert!(booking.starts_with("shop booking - free 3 2 1 66.66 % 20"), "{booking}");

        let validate = ["quota", "validate", "ann", "2", "--entry", "kind=booking"];
        let (code, text) = complaint(&tollgate, &validate);
        assert_eq!(code, 3, "{text}");
        let expected =
            "error: `booking` has 1 of the 2 hits (QUOTA_EXCEEDED, status 429); it has them in ";
        assert!(text.starts_with(expected), "{text}");
        let refused = run(&tollgate, &[&validate[..], &["-o", "json"]].concat());
        let problem: Value = serde_json::from_slice(&refused.stdout).unwrap();
        assert_eq!((refused.status.code(), &problem["limit"]), (Some(3), &json!("booking")));
        printed(&tollgate, &["quota", "release", "ann", "1", "-e", "kind=booking"]);
        printed(&tollgate, &validate);

        let with =
            |format: &str| printed(&tollgate, &[&status[..], &["--output", format]].concat());
        let json: Value = serde_json::from_str(&with("json")).unwrap();
        assert_eq!(json["items"][1]["used"], 1, "{json}");
        assert!(with("yaml").contains("remaining: 9"), "{}", with("yaml"));
        let csv = with("csv");
        assert!(csv.starts_with("domain,limit,account,tier,quota,used,"), "{csv}");
        assert!(csv.contains("\nshop,daily,,free,10,1,9,10.0,20"), "{csv}");

        for (hits, state) in [("7", "near"), ("2", "full")] {
            let consume = ["quota", "consume", "ann", hits, "-o", "csv"];
            let csv = printed(&tollgate, &consume);
            assert!(csv.ends_with(&format!(",enforce,{state},0,0,,\n")), "{csv}");
        }
        printed(&tollgate, &["quota", "reset", "ann", "-e", "kind=booking"]);
        assert!(printed(&tollgate, &status).contains("0.0 %"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_listed_in_tables_and_for_programs() {
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &["--usage=true"]).await;
    let mut client = DomainClient::new(&tollgate, "shop").await;
    for _ in 0..12 {
        client.ask(&["user=ann"], 1).await;
    }
    client.ask(&["user=a\"b\""], 1).await;
    eventually("the requests in the usage", async || {
        (requests(&tollgate).await == 13).then_some(())
    })
    .await;

    let day = ["-g", "day"];
    let table = printed(&tollgate, &[&["top", "callers", "--by", "refused"][..], &day].concat());
    assert!(rows(&table)[1].starts_with("shop ann 12 10 2 0"), "{table}");
    assert!(table.contains("only what one sidecar counted"), "{table}");
    let denials = [&["denials", "--output", "csv"][..], &day].concat();
    let csv = printed(&tollgate, &denials);
    assert!(
        csv.starts_with("domain,caller,limit,reason,count,last_at\nshop,ann,daily,over_limit,2,"),
        "{csv}"
    );
    let usage = ["usage", "--group-by", "caller,limit", "--output", "json"];
    let json: Value =
        serde_json::from_str(&printed(&tollgate, &[&usage[..], &day].concat())).unwrap();
    assert_eq!(json["items"][1]["hits"]["spent"], 10, "{json}");
    let csv = printed(&tollgate, &[&["usage", "-b", "caller", "-o", "csv"][..], &day].concat());
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let (head, ann) = (lines.next().unwrap(), lines.nth(1).unwrap());
    let cell = |name: &str| ann[head.iter().position(|column| *column == name).unwrap()];
    let told = ["caller", "refused", "refused_by_over_limit", "refused_by_pressure", "waited"];
    assert_eq!(told.map(cell), ["ann", "2", "2", "", "0"], "{csv}");
    let report = printed(&tollgate, &["report", "--period", "day", "--output", "csv"]);
    assert!(report.contains("shop,daily,free,\"a\"\"b\"\"\",1,1,"), "{report}");
    let mut lines = report.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let ann = lines.find(|cells| cells.contains(&"ann")).unwrap();
    let cell = |name: &str| ann[head.iter().position(|column| *column == name).unwrap()];
    assert_eq!(told.map(cell), ["ann", "2", "2", "0", "0"], "{report}");
    let forecast = printed(&tollgate, &["forecast", "ann"]);
    assert!(forecast.contains("not enough data: 0 of 24 whole hours"), "{forecast}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_that_are_granted_in_part_are_told_by_the_exit_status() {
    let policy = POLICY.replace("rate: 3/day", "rate: 3/day, partial: true");
    let tollgate = Tollgate::serve(&policy, &Store::Embedded).await;
    let consume =
        |hits: &str| run(&tollgate, &["quota", "consume", "ann", hits, "-e", "kind=booking"]);
    assert_eq!(consume("2").status.code(), Some(0));
    let output = consume("5");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("1 hits were granted") && text.contains("booking"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_command_is_told_before_it_is_sent() {
    let folder = TempDir::new().unwrap();
    let (empty, missing) = (folder.path().join("empty"), folder.path().join("missing"));
    fs::write(&empty, "\n").unwrap();
    let (empty, missing) = (empty.display().to_string(), missing.display().to_string());
    let check = |arguments: &[&str], expected: &str| {
        let output = command().args(arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(expected), "{arguments:?}: {text}");
        output.status.code().unwrap()
    };
    let status = |flags: &[&'static str]| [&["quota", "status", "ann"][..], flags].concat();
    let url = status(&["--api-url", "localhost:8080"]);
    assert_eq!(check(&url, "invalid API address `localhost:8080`; use one such as http://"), 2);
    let with_token = ["quota", "status", "ann", "--api-token-file", &missing];
    assert_eq!(check(&with_token, "can't read the token file "), 2);
    let with_token = ["quota", "status", "ann", "--api-token-file", &empty];
    assert_eq!(check(&with_token, "is empty"), 2);
    let with_ca = ["quota", "status", "ann", "--api-ca-file", &empty];
    assert_eq!(check(&with_ca, "can't use the certificates in "), 1);
    assert_eq!(check(&status(&["-e", "kind"]), "use KEY=VALUE"), 2);
    assert_eq!(check(&status(&["--timeout", "soon"]), "use a duration up to an hour"), 2);
    assert_eq!(check(&["denials", "-g", "minute"], "possible values: hour, day"), 2);
    assert_eq!(check(&["top", "-n", "0"], "0 is not in 1..=1000"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_takes_at_most_the_timeout() {
    // It accepts connections, and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let arguments = ["quota", "status", "ann", "--api-url", &url, "--timeout", "200ms"];
    let output = command().args(arguments).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("timeout"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_the_most_has_as_many_rows_as_asked() {
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &["--usage", "true"]).await;
    let mut client = DomainClient::new(&tollgate, "shop").await;
    for name in ["user=ann", "user=bob", "user=eve"] {
        client.ask(&[name], 1).await;
    }
    eventually("the requests in the usage", async || {
        (requests(&tollgate).await == 3).then_some(())
    })
    .await;
    let top = |count: &str| printed(&tollgate, &["top", "-g", "day", "-n", count, "-o", "json"]);
    for (count, expected) in [("2", 2), ("9", 3)] {
        let page: Value = serde_json::from_str(&top(count)).unwrap();
        assert_eq!(page["items"].as_array().unwrap().len(), expected, "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_an_unknown_caller_says_how_to_create_it() {
    let Some(server) = Server::start(&[]) else { return };
    let store = Store::Redis(server);
    let tollgate = Tollgate::serve(POLICY, &store).await;
    let hint = "unknown caller `bob` (status 404); create the caller first: PUT /v1/callers/NAME";
    let until =
        |time| ["quota", "grant", "bob", "--limit", "daily", "--amount", "5", "--until", time];
    let (code, text) = complaint(&tollgate, &until("2026-01-01"));
    assert!(code == 1 && text.contains("`until`: 2026-01-01 is in the past"), "{text}");
    let (code, text) = complaint(&tollgate, &until("2999-01-01"));
    assert!(code == 1 && text.contains(hint), "{text}");
    let url = format!("http://{}/v1/callers/bob", tollgate.http_address);
    assert_eq!(Http::new().put(&url, "{}").await.status, 201);
    let (code, text) = complaint(&tollgate, &until("9999-12-31"));
    assert!(
        code == 1 && text.contains("`9999-12-31`; use one from 1970-01-01 to 9999-12-29"),
        "{text}"
    );
    // In files, none can be created.
    let files = ["--callers", "config/callers.yaml"];
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &files).await;
    let (code, text) = complaint(&tollgate, &until("2999-01-01"));
    assert!(code == 1 && text.contains("the directory is in files"), "{text}");
    assert!(!text.contains("create the caller first"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_callers_in_files_nobody_is_told_to_create_one() {
    let files = ["--callers", "config/callers.yaml"];
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &files).await;
    let grant = ["quota", "grant", "bob", "--limit", "daily", "--amount", "5"];
    let (code, text) = complaint(&tollgate, &grant);
    assert!(code == 1 && text.contains("the directory is in files"), "{text}");
    assert!(!text.contains("create the caller"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_limit_is_set_by_force() {
    let Some(server) = Server::start(&[]) else { return };
    let store = Store::Redis(server);
    let tollgate = Tollgate::serve(POLICY, &store).await;
    let set = ["quota", "set", "ann", "monthly", "5"];
    let (code, text) = complaint(&tollgate, &set);
    assert!(code == 1 && text.contains("`--force`"), "{text}");
    let output = run(&tollgate, &[&set[..], &["--force"]].concat());
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_has_its_report() {
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &["--usage=true"]).await;
    DomainClient::new(&tollgate, "shop").await.ask(&["user=ann"], 1).await;
    eventually("the request in the usage", async || (requests(&tollgate).await == 1).then_some(()))
        .await;
    let report = |command: &[&str]| {
        printed(&tollgate, &[command, &["report", "--period", "day", "-o", "csv"]].concat())
    };
    let of_quota = report(&["quota"]);
    assert!(of_quota.contains("ann"), "{of_quota}");
    assert_eq!(of_quota, report(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_are_granted_given_and_explained() {
    let Some(server) = Server::start(&[]) else { return };
    let policy = POLICY.replace("10/day, paid: 100/day", "2/total, paid: 100/total");
    let store = Store::Redis(server);
    let tollgate = Tollgate::serve(&policy, &store).await;
    for name in ["ann", "bob"] {
        let url = format!("http://{}/v1/callers/{name}", tollgate.http_address);
        let answer = Http::new().put(&url, "{}").await;
        assert_eq!(answer.status, 201, "{name}");
    }
    let grant = |arguments: &[&str]| {
        printed(
            &tollgate,
            &[&["quota", "grant", "ann", "--limit", "daily"][..], arguments].concat(),
        )
    };
    grant(&["--amount", "5", "--id", "bought", "--priority", "9"]);
    let plan =
        grant(&["--amount", "3", "--id", "plan", "--every", "month", "--rollover", "2", "-o=json"]);
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!((&plan["every"], &plan["rollover"]["max"]), (&json!("month"), &json!(2)), "{plan}");

    let gift = |hits| {
        ["quota", "gift", "ann", "bob", hits, "--limit", "daily", "--id", "g1", "--bonus", "bought"]
    };
    let made = printed(&tollgate, &gift("4"));
    assert!(made.contains("state: done") && made.contains("hits: 4"), "{made}");
    // Made once, however often it is sent, and no other with its id.
    assert_eq!(printed(&tollgate, &gift("4")), made);
    let (code, text) = complaint(&tollgate, &gift("1"));
    assert!(code == 1 && text.contains("IDEMPOTENCY_CONFLICT, status 409"), "{text}");
    let more = ["quota", "gift", "ann", "bob", "9", "--limit", "daily"];
    let (code, text) = complaint(&tollgate, &more);
    assert!(code == 3 && text.contains("no bonus of `ann` has 9 hits; the most is 3"), "{text}");
    assert_eq!(printed(&tollgate, &["quota", "gift-status", "ann", "g1"]), made);
    assert_eq!(complaint(&tollgate, &["quota", "gift-status", "bob", "g1"]).0, 1);

    let ledger = |name, format| printed(&tollgate, &["quota", "ledger", name, "-o", format]);
    let table = rows(&ledger("ann", "table"));
    assert_eq!(table[0], "DOMAIN LIMIT ACCOUNT BALANCE KIND HITS BONUS GIFT WITH AT");
    assert!(table.iter().any(|row| row.contains("6 granted 5 bought")), "{table:?}");
    assert!(table.iter().any(|row| row.contains("6 given -4 bought g1 bob 20")), "{table:?}");
    let csv = ledger("bob", "csv");
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap()[3..6], ["balance", "kind", "hits"]);
    let hits: i64 = lines.map(|cells| cells[5].parse::<i64>().unwrap()).sum();
    assert_eq!(hits, 6, "{csv}");
    let json: Value = serde_json::from_str(&ledger("bob", "json")).unwrap();
    assert_eq!(json["items"][0]["balance"], 6, "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn costs_and_what_a_switch_saves_are_shown_in_money() {
    let prices = "
budget: { day: 1 EUR }
prices:
- { when: { provider: near, kind: booking }, price: 0.35 EUR }
- { when: { provider: far, kind: booking }, price: 0.25 EUR }
";
    let policy = POLICY
        .replace("descriptors:\n  - key: user", &format!("{prices}descriptors:\n  - key: user"));
    for store in Store::every() {
        let tollgate = Tollgate::serve_with(&policy, &store, &["--usage=true"]).await;
        let mut client = DomainClient::new(&tollgate, "shop").await;
        client.ask(&["user=ann", "kind=booking,provider=near"], 1).await;
        eventually("the request in the usage", async || {
            (requests(&tollgate).await == 1).then_some(())
        })
        .await;
        let costs = rows(&printed(&tollgate, &["costs"]));
        let expected = "shop 0.35 0.35 8.40 1.00 projected_over 0.35 ";
        assert!(costs[1].starts_with(expected), "{costs:?}");
        assert!(costs.contains(&"costs are in EUR".to_owned()), "{costs:?}");
        let csv = printed(&tollgate, &["costs", "--providers", "-o", "csv"]);
        assert!(csv.contains("\nshop,kind=booking,near,0.35,"), "{csv}");
        assert!(csv.contains(",0.35,0.10,far,"), "{csv}");
        let json = printed(&tollgate, &["costs", "--domain", "shop", "-o", "json"]);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["items"][0]["day_micros"], 350_000, "{json}");
        assert!(printed(&tollgate, &["costs", "-o", "yaml"]).contains("saving_micros: 100000"));
        // Without a price in it, an answer has no money.
        let other = rows(&printed(&tollgate, &["costs", "--currency", "USD"]));
        assert!(other.contains(&"nothing found".to_owned()), "{other:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_and_tokens_come_from_files() {
    let (token, line) = api_token("ann", "self");
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &["--api-tokens", &line]).await;
    let folder = TempDir::new().unwrap();
    let (token_file, contexts) = (folder.path().join("token"), folder.path().join("contexts.yaml"));
    fs::write(&token_file, format!("{token}\n")).unwrap();
    let text = format!(
        "current: here\ncontexts:\n  here: {{ url: 'http://{}', token_file: '{}' }}\n  away: {{ url: 'http://127.0.0.1:1' }}\n",
        tollgate.http_address,
        token_file.display()
    );
    fs::write(&contexts, text).unwrap();
    let run = |arguments: &[&str]| {
        let output =
            command().env("TOLLGATE_CONTEXTS", &contexts).args(arguments).output().unwrap();
        let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code().unwrap(), texts.concat())
    };
    let (code, text) = run(&["quota", "status", "ann"]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = run(&["quota", "status", "bob"]);
    assert!(code == 1 && text.contains("INSUFFICIENT_PERMISSIONS, status 403"), "{code} {text}");
    let (code, text) = run(&["quota", "status", "ann", "--context", "away"]);
    assert!(code == 1 && text.contains("http://127.0.0.1:1/v1/callers/ann/quota"), "{code} {text}");
    let (code, text) = run(&["quota", "status", "ann", "--context", "nowhere"]);
    assert!(code == 2 && text.contains("has no context `nowhere`"), "{code} {text}");
    // The token of a context is for its own address.
    let address = format!("http://{}", tollgate.http_address);
    let (code, text) = run(&["quota", "status", "ann", "--api-url", &address]);
    assert!(code == 1 && text.contains("status 401"), "{code} {text}");
    // A process that serves ignores these variables.
    assert!(!tollgate.output().contains("TOLLGATE_API"));
    assert!(!text.contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_standard_output_is_told_and_a_closed_one_is_not() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let url = format!("http://{}", tollgate.http_address);
    let run = |arguments: &[&str], stdout: Stdio| {
        let output =
            command().env("TOLLGATE_API_URL", &url).args(arguments).stdout(stdout).output();
        let output = output.unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let full = "error: can't write to standard output: No space left on device (os error 28)\n";
    let refused = "error: `daily` has 10 of the 11 hits (QUOTA_EXCEEDED, status 429)\n";
    for format in ["table", "json", "yaml", "csv"] {
        let status = ["quota", "status", "ann", "-o", format];
        let validate = ["quota", "validate", "ann", "11", "-o", format];
        let device = || OpenOptions::new().write(true).open("/dev/full").unwrap().into();
        assert_eq!(run(&status, device()), (1, full.to_owned()), "{format}");
        let text = if format == "json" { format!("{full}{refused}") } else { refused.to_owned() };
        assert_eq!(run(&validate, device()), (3, text), "{format}");
        // As of `tollgate quota status ann | head -0`.
        let closed = || Stdio::from(io::pipe().unwrap().1);
        assert_eq!(run(&status, closed()), (0, String::new()), "{format}");
        assert_eq!(run(&validate, closed()), (3, refused.to_owned()), "{format}");
    }
}
