//! `tollgate explain` shows the decision that would be made.

use std::fs;
use std::path::Path;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::ask::request;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, command};

const TRAVEL: &str = "config/policies/travel.yaml";
const CALLERS: &str = "config/callers.yaml";

/// Callers, shared capacity, costs, and all other settings of a limit.
const POLICY: &str = r#"
domain: d
timezone: Europe/Madrid
tiers: [free, basic, premium]
caller: { key: user, tier: { key: tier } }
qualifiers: [op]
costs:
  money: [{ when: { op: book }, hits: 0.35 EUR }]
descriptors:
- key: user
  cascade: true
  limits:
  - { name: monthly, rate: 100/month }
  - { name: budget, rate: 1 EUR/day, cost: money, overdraft: allow, on_outage: deny }
  descriptors:
  - key: path
    rate_limit: { name: paths, unit: second, requests_per_unit: 9, replaces: [{ name: budget }] }
- key: user
  value: root
  rate_limit: { unlimited: true }
- key: shared
  limits: [{ name: shared, rate: 10/minute, wait: { up_to: 2s, queue: 7 }, mode: quota }]
  capacity: { reserve: { premium: 20% }, pressure: [{ above: 50%, only: { tier: [premium] } }] }
- key: closed
  only: { tier: [premium] }
  limits: [9/minute]
- key: tiers
  limits: [{ name: tiers, by_tier: { free: none, basic: 5/day, premium: unlimited } }]
- key: "comma, equals=, backslash\\"
  limits: [1/minute]
- key: fixed
  limits: [{ rate: 6/hour, algorithm: fixed_window, mode: shadow }]
- key: bucket
  limits: [{ rate: 5/second, algorithm: token_bucket, burst: 9 }]
- key: soft
  limits: [{ name: soft, rate: 50/month, grace: 10%, thresholds: [75%, 110%] }]
- key: leased
  limits: [{ rate: 6/hour, lease: auto }]
"#;

const KNOWN: &str = "
callers:
  team: { tier: premium, overrides: { monthly: 500 } }
  ann: { parent: team, share: 50%, bonuses: [{ id: gift, limit: monthly, amount: 7, until: 2026-12-31 }] }
  ben: { parent: team, pool: true }
  off: { disabled: true }
";

/// A folder with the policy and the callers above.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("policy.yaml"), POLICY).unwrap();
    fs::write(folder.path().join("callers.yaml"), KNOWN).unwrap();
    folder
}

/// The exit status and the output.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = command().current_dir(folder).arg("explain").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The JSON output for a request to the policy above, with this exit status.
#[track_caller]
fn reported(status: i32, arguments: &[&str]) -> Value {
    let folder = folder();
    let at: &[&str] = match arguments.contains(&"--at") {
        true => &[],
        false => &["--at", "2026-11-27T10:00:00Z"],
    };
    let fixed = ["policy.yaml", "d", "-o", "json"];
    let (code, out, err) = run(folder.path(), &[&fixed, at, arguments].concat());
    assert_eq!(code, status, "{arguments:?}\n{out}\n{err}");
    serde_json::from_str(&out).unwrap()
}

/// The same with the directory above.
#[track_caller]
fn known(status: i32, arguments: &[&str]) -> Value {
    reported(status, &[&["--callers", "callers.yaml"], arguments].concat())
}

/// A field of every limit.
fn each(reported: &Value, field: &str) -> Vec<Value> {
    reported["limits"].as_array().unwrap().iter().map(|limit| limit[field].clone()).collect()
}

#[test]
fn several_descriptors_are_one_request() {
    let both = reported(0, &["user=u,path=p", "user=u", "user=u,path=p"]);
    assert_eq!(each(&both, "name"), ["monthly", "paths"]);
    // The cascading limit is charged once, with the largest amount; hits of descriptors that end at one rule are added.
    assert_eq!(each(&both, "cost"), [1, 2]);
    assert_eq!(each(&both, "descriptors"), [json!([1, 2, 3]), json!([1, 3])]);
    assert_eq!(both["not_charged"][0]["label"], "budget");
    assert_eq!(both["not_charged"][0]["why"], "replaced");
    assert_eq!(both["descriptors"][0]["steps"][1]["rule"]["path"], "user/path");
    assert_eq!(both["descriptors"][1]["steps"][0]["others"][0]["why_not"], "the value is `root`");
}

#[test]
fn a_limit_is_told_with_all_that_it_says() {
    let user = reported(0, &["user=u,op=book"]);
    assert_eq!(each(&user, "rate"), ["100/month", "100/day"]);
    let (monthly, budget) = (&user["limits"][0], &user["limits"][1]);
    assert_eq!(monthly["key"], "tg1|d|user=u");
    assert_eq!(monthly["algorithm"], "calendar");
    assert_eq!(monthly["cost"], 1);
    assert_eq!((&budget["cost"], &budget["currency"]), (&json!(35), &json!("EUR")));
    assert_eq!((&budget["overdraft"], &budget["on_outage"]), (&json!("allow"), &json!("deny")));
    assert_eq!(user["descriptors"][0]["qualifiers"][0], json!({ "key": "op", "value": "book" }));

    let shared = reported(0, &["shared=s,tier=free"]);
    let limit = &shared["limits"][0];
    assert_eq!((&limit["capacity"], &limit["open"]), (&json!(10), &json!(8)));
    assert_eq!(limit["open_by_tier"][2], json!({ "tier": "premium", "open": 10 }));
    let pressed = json!([{ "pressure": 1, "level": 1, "open": 0 }]);
    assert_eq!(limit["open_under_pressure"], pressed);
    assert_eq!((&limit["mode"], &limit["lease"]), (&json!("quota"), &json!("off")));
    assert_eq!(limit["wait"], json!({ "up_to_ms": 2_000, "queue": 7 }));
    let level = &shared["pressure"][0]["levels"][0];
    assert_eq!((&level["above"], &level["until"]), (&json!("50%"), &json!("45%")));
    assert_eq!(level["marks"][0], json!({ "limit": 1, "rise": 5, "fall": 4 }));
    let premium = reported(0, &["shared=s,tier=premium"]);
    assert_eq!(
        (each(&premium, "open"), premium["caller"]["tier"].clone()),
        (vec![json!(10)], json!("premium"))
    );

    let fixed = reported(0, &["fixed=1"]);
    assert_eq!(fixed["limits"][0]["mode"], "shadow");
    let soft = reported(0, &["soft=1"]);
    let limit = &soft["limits"][0];
    assert_eq!(limit["grace"], json!({ "percent": 10, "hits": 5, "for_ms": 86_400_000 }));
    let points = json!([{ "percent": 75, "hits": 38 }, { "percent": 110, "hits": 55 }]);
    assert_eq!(limit["thresholds"], points);
    assert_eq!(reported(0, &["leased=1"])["limits"][0]["lease"], "auto");
    assert_eq!(reported(0, &["bucket=1"])["limits"][0]["burst"], 9);
}

#[test]
fn periods_are_those_of_the_time_and_the_zone() {
    let check = |at: &str, start: &str, end: &str| {
        let period = &reported(0, &["user=u", "--at", at])["limits"][0]["period"].clone();
        assert_eq!((&period["start"], &period["end"]), (&json!(start), &json!(end)), "{at}");
    };
    let november = ("2026-11-01T00:00:00+01:00", "2026-12-01T00:00:00+01:00");
    check("2026-11-30T22:59:59Z", november.0, november.1);
    check("2026-11-30T23:59:59", november.0, november.1);
    check("2026-11-30T23:00:00Z", november.1, "2027-01-01T00:00:00+01:00");
    check("2026-10-25", "2026-10-01T00:00:00+02:00", november.0);
    let hour = reported(0, &["fixed=1"])["limits"][0]["period"].clone();
    assert_eq!(
        (&hour["start"], &hour["ends_in_ms"]),
        (&json!("2026-11-27T11:00:00+01:00"), &json!(3_600_000))
    );
}

#[test]
fn the_directory_determines_the_source_of_amounts() {
    let ann = known(0, &["--caller", "ann"]);
    assert_eq!(
        (&ann["caller"]["known"], &ann["caller"]["tier_from"]),
        (&json!(true), &json!("directory"))
    );
    assert_eq!(ann["limits"][0]["rate"], "250/month");
    let from = json!({ "source": "share", "account": "ann", "share": "50%" });
    assert_eq!(ann["limits"][0]["amount_from"], from);
    assert_eq!(ann["limits"][0]["bonuses"][0]["amount"], 7);
    let later = known(0, &["--caller", "ann", "--at", "2027-01-02"]);
    assert_eq!(later["limits"][0]["bonuses"], json!([]));

    let ben = known(0, &["user=ben", "--caller", "ben"]);
    assert_eq!(each(&ben, "key"), ["tg1|d|user=team", "tg1|d|user=team"]);
    assert_eq!(ben["limits"][0]["amount_from"]["source"], "override");
    assert_eq!(ben["caller"]["lineage"][0]["pool"], true);

    let stranger = known(0, &["user=eve,tier=gold"]);
    assert_eq!(stranger["caller"]["known"], false);
    assert_eq!(
        (&stranger["caller"]["tier"], &stranger["caller"]["unknown_tier"]),
        (&json!("free"), &json!("gold"))
    );
    let off = known(0, &["--caller", "off"]);
    assert_eq!((&off["passes"], &off["reason"]), (&json!(false), &json!("disabled")));
}

#[test]
fn refusals_that_no_limit_makes_are_told() {
    let closed = reported(0, &["closed=1", "user=u"]);
    assert_eq!((&closed["passes"], &closed["reason"]), (&json!(false), &json!("no_access")));
    let by = &closed["descriptors"][0]["closed_by"][0];
    assert_eq!(
        (&by["rule"]["path"], &by["only"]["tiers"]),
        (&json!("closed"), &json!(["premium"]))
    );
    assert_eq!(reported(0, &["closed=1,tier=premium"])["passes"], true);
    let none = reported(0, &["tiers=1"]);
    assert_eq!(
        (&none["reason"], &none["not_charged"][0]["why"]),
        (&json!("no_access"), &json!("no_access"))
    );
    let unlimited = reported(0, &["tiers=1,tier=premium"]);
    assert_eq!(
        (&unlimited["passes"], &unlimited["not_charged"][0]["why"]),
        (&json!(true), &json!("unlimited"))
    );
    assert_eq!(reported(0, &["user=root"])["descriptors"][0]["end"], "unlimited");
}

#[test]
fn what_never_passes_is_told() {
    let check = |hits: &str, passes: bool, reason: Value| {
        let reported = reported(0, &["shared=s", "--hits", hits]);
        assert_eq!((&reported["passes"], &reported["reason"]), (&json!(passes), &reason), "{hits}");
    };
    check("8", true, Value::Null);
    check("9", false, json!("reserved"));
    check("-3", true, Value::Null);
    assert_eq!(reported(0, &["user=u,path=p", "--hits", "10"])["reason"], "over_limit");
    assert_eq!(reported(0, &["user=u", "--hits", "-3"])["limits"][0]["cost"], -3);
}

#[test]
fn what_would_be_structure_can_be_escaped() {
    let entry = r"comma\, equals\=, backslash\\=\x61=b";
    let escaped = reported(0, &[&entry.replace("=, ", r"=\, ")]);
    let read = json!({ "key": r"comma, equals=, backslash\", "value": "a=b" });
    assert_eq!(escaped["descriptors"][0]["entries"], json!([read]));
    assert_eq!(escaped["limits"][0]["key"], r"tg1|d|comma,%20equals%3d,%20backslash\=a%3db");
}

#[test]
fn bytes_that_are_no_text_have_counters_of_their_own() {
    let reported = reported(0, &[r"user=k\xff", r"user=k\xfe"]);
    assert_eq!(reported["descriptors"][0]["entries"][0]["value"], r"k\xff");
    let keys = each(&reported, "key");
    assert_eq!(keys.len(), 4);
    assert_ne!(keys[0], keys[2]);
    let folder = folder();
    let (_, out, _) = run(folder.path(), &["policy.yaml", "d", r"user=k\xff"]);
    assert!(out.contains("descriptor 1: user=k\\xff\n") && out.contains("caller k\\xff,"), "{out}");
}

#[test]
fn the_exit_status_says_whether_the_policy_says_anything() {
    let folder = folder();
    let check = |arguments: &[&str], status: i32, text: &str| {
        let arguments = [&["policy.yaml"], arguments].concat();
        let (code, out, err) = run(folder.path(), &arguments);
        assert_eq!(code, status, "{arguments:?}\n{out}\n{err}");
        assert!(format!("{out}{err}").contains(text), "no {text:?} in\n{out}\n{err}");
    };
    check(&["d", "user=u"], 0, "passes if");
    check(&["d", "closed=1"], 0, "refused: closed");
    check(&["d", "other=1"], 1, "passes: the policy does not apply to it");
    check(&["d", "user=u,other=1", "op=x"], 0, "no limit applies");
    check(&["b", "user=u"], 1, "unknown domain `b`: its requests pass unlimited; there is `d`");
    check(&["d", "user"], 2, "is a list like key=value");
    check(&["d", r"user=\q"], 2, r"invalid escape `\q`");
    check(&["d"], 2, "DESCRIPTOR");
    check(&["", "user=u"], 1, "unknown domain ``");
    check(&["d", "user=u", "--caller", "v"], 2, "conflicts with user=u in a descriptor");
    check(&["d", "user=u", "--at", "noon"], 2, "2026-11-27T10:00");
    check(&["d", "user=u", "--hits", "many"], 2, "--hits");
    check(&["d", "user=u", "--callers", "gone.yaml"], 1, "can't read gone.yaml");
    check(&["d", "user=u", "--callers", "policy.yaml"], 1, "--> policy.yaml");
    let (code, out, err) = run(folder.path(), &["policy.yaml", "b", "user=u", "--format", "json"]);
    let reported: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, err.as_str(), &reported["domains"]), (1, "", &json!(["d"])));
    fs::write(
        folder.path().join("plain.yaml"),
        "domain: p\ndescriptors: [{ key: a, limits: [1/day] }]",
    )
    .unwrap();
    let (code, _, err) = run(folder.path(), &["plain.yaml", "p", "a=1", "--caller", "x"]);
    assert!(code == 1 && err.contains("no `caller: { key: ... }`"), "{code} {err}");
}

#[test]
fn a_choice_is_made_as_if_nothing_had_been_spent() {
    // The descriptors of deploy/envoy/choice.yaml.
    let ask = |tier: &str| {
        let user = format!("user_id=u,request_type=search,tier={tier}");
        let asked = [TRAVEL, "travel", &user, "provider=any,endpoint=search", "-o", "json"];
        let (code, out, err) = run(Path::new("."), &asked);
        assert_eq!(code, 0, "{err}");
        serde_json::from_str::<Value>(&out).unwrap()["choices"][0].clone()
    };
    let free = ask("free");
    assert_eq!(
        (&free["chosen"], &free["candidates"][2]["denied"]),
        (&json!("hotelbeds"), &json!(true))
    );
    assert_eq!(free["candidates"][2]["score"], Value::Null);
    assert_eq!(free["candidates"][1]["latency_ms"], 120.0);
    let enterprise = ask("enterprise");
    assert_eq!(
        (&enterprise["chosen"], &enterprise["candidates"][2]["score"]),
        (&json!("expedia"), &json!(1.0))
    );
}

/// Reads the open hits of every limit, then requests that many hits and one more: the explanation matches the decision.
#[tokio::test]
async fn what_is_explained_is_what_is_decided() {
    let policy = fs::read_to_string(TRAVEL).unwrap();
    for caller in ["alice", "carol", "dave"] {
        let user = format!("user_id={caller},request_type=booking");
        let ask = ["provider=hotelbeds,endpoint=booking", user.as_str()];
        let explain = |hits: u64| {
            let hits = hits.to_string();
            let fixed = [TRAVEL, "travel", "-o", "json", "--callers", CALLERS, "--hits", &hits];
            let (code, out, err) = run(Path::new("."), &[&fixed[..], &ask].concat());
            assert_eq!(code, 0, "{err}");
            serde_json::from_str::<Value>(&out).unwrap()
        };
        let reported = explain(1);
        let most = |limit: &Value| {
            let bonuses = limit["bonuses"].as_array().unwrap().iter();
            let more: u64 = bonuses.map(|bonus| bonus["amount"].as_u64().unwrap()).sum();
            limit["open"].as_u64().unwrap() + more
        };
        let most = reported["limits"].as_array().unwrap().iter().map(most).min().unwrap();
        let tollgate =
            Tollgate::serve_with(&policy, &Store::Embedded, &["--callers", CALLERS]).await;
        let mut client = tollgate.client().await;
        for (hits, code) in [(most + 1, Code::OverLimit), (most, Code::Ok)] {
            assert_eq!(explain(hits)["passes"], code == Code::Ok, "{caller} {hits}");
            let request = request("travel", &ask, hits.try_into().unwrap());
            let answer = client.should_rate_limit(request).await.unwrap().into_inner();
            assert_eq!(answer.overall_code(), code, "{caller} {hits}: {answer:?}");
        }
    }
}

#[test]
fn the_example_of_the_docs_is_what_is_printed() {
    let page = fs::read_to_string("config/README.md").unwrap();
    let shown = page.split("```console\n$ tollgate explain ").nth(1).unwrap();
    let (arguments, shown) = shown.split("```").next().unwrap().split_once('\n').unwrap();
    let arguments: Vec<&str> = arguments.split(' ').map(|one| one.trim_matches('\'')).collect();
    let (code, out, err) = run(Path::new("."), &arguments);
    assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
    assert_eq!(out, shown);
}

#[test]
fn grace_and_thresholds_are_told_in_words() {
    let folder = folder();
    let (code, out, err) = run(folder.path(), &["policy.yaml", "d", "soft=1"]);
    assert_eq!(code, 0, "{out}{err}");
    for line in [
        "  grace      5 more (10%) for 1d from the first breach\n",
        "  thresholds 75% from 38, 110% from 55\n",
    ] {
        assert!(out.contains(line), "{line}{out}");
    }
}

#[test]
fn a_reservation_is_told_beside_its_name() {
    let folder = TempDir::new().unwrap();
    let policy = folder.path().join("policy.yaml");
    let text = "{domain: d, descriptors: [{key: a, reservation: {}, limits: [9/day]}]}";
    fs::write(&policy, text).unwrap();
    let (_, told, _) = run(folder.path(), &["policy.yaml", "d", "a=1"]);
    assert!(told.contains("reservation hits that are held count as used"), "{told}");
}

#[test]
fn what_a_request_holds_as_an_estimate_is_told() {
    let folder = TempDir::new().unwrap();
    let policy = folder.path().join("policy.yaml");
    let text = "{domain: d, descriptors: [{key: a, limits: [{rate: 90/day, estimate: {hits: 40, for: 90s}}]}]}";
    fs::write(&policy, text).unwrap();
    let (_, told, _) = run(folder.path(), &["policy.yaml", "d", "a=1"]);
    let line = "estimate   holds 40 hits until a debit settles them, or for 1m 30s";
    assert!(told.contains(line), "{told}");
    let (_, json, _) = run(folder.path(), &["policy.yaml", "d", "a=1", "-o", "json"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    let expected = json!({ "hits": 40, "held": 40, "for_ms": 90_000, "at": "request" });
    assert_eq!(report["limits"][0]["estimate"], expected);
    let text = text.replace("hits: 40,", "hits: 40, key: max_tokens, max: 80,");
    fs::write(&policy, text).unwrap();
    let (_, told, _) = run(folder.path(), &["policy.yaml", "d", "a=1,max_tokens=75"]);
    assert!(told.contains(&line.replace("40", "75")), "{told}");
    assert!(told.contains("max_tokens=75 is a qualifier"), "{told}");
}

/// The request of an API key, with scopes and a tier, and the reason of the refusal.
#[test]
fn the_route_of_a_request_with_an_api_key_is_told() {
    let told = |arguments: &[&str]| -> Value {
        let fixed = ["config/policies", "shop", "-o", "json"];
        let (code, out, err) = run(Path::new("."), &[&fixed[..], arguments].concat());
        assert_eq!(code, 0, "{arguments:?}\n{out}\n{err}");
        serde_json::from_str(&out).unwrap()
    };
    let read = ["--route", "GET /hotels/7?a=b", "--scope", "hotels:read"];
    let report = told(&read);
    assert_eq!((&report["passes"], &report["tier"]), (&json!(true), &json!("free")), "{report}");
    assert_eq!(report["route"]["path"], "/hotels/{*rest}");
    assert_eq!(report["route"]["scopes"], json!(["hotels:read"]));
    for (arguments, reason, why) in [
        (vec!["--route", "GET /hotels/7"], "scope", "the API key has not hotels:read"),
        (vec!["--route", "POST /hotels/7"], "route", "its path has routes for GET, not for POST"),
        (vec!["--route", "GET /x/../admin/y"], "route", "in several ways"),
        (
            vec!["--route", "POST /bookings/7", "--scope", "hotels:book"],
            "tier",
            "it needs one of the tiers premium, enterprise",
        ),
    ] {
        let report = told(&arguments);
        assert_eq!((&report["passes"], &report["reason"]), (&json!(false), &json!(reason)));
        assert!(report["why"].as_str().unwrap().contains(why), "{report}");
    }
    let book =
        ["--route", "POST /bookings/7", "--scope", "hotels:book,hotel:read", "--tier", "premium"];
    let report = told(&book);
    assert_eq!((&report["passes"], &report["tier"]), (&json!(true), &json!("premium")), "{report}");
    assert_eq!(report["unknown_scopes"], json!(["hotel:read"]));
    let of_caller = ["--route", "GET /amadeus/x", "--caller", "carol", "--callers", CALLERS];
    assert_eq!(told(&of_caller)["tier"], "premium");

    let here = Path::new(".");
    let page = fs::read_to_string("config/api-keys.md").unwrap();
    let (_, example) = page.split_once("$ tollgate explain config/policies shop --route").unwrap();
    let (_, example) = example.split_once('\n').unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let asked = ["--route", "POST /bookings/7", "--scope", "hotels:book"];
    let (_, text, _) = run(here, &[&["config/policies", "shop"], &asked[..]].concat());
    assert_eq!(text, example);
    let (status, text, _) = run(here, &[&["config/policies", "shop"], &read[..]].concat());
    assert_eq!(status, 0);
    assert!(text.contains("route GET /hotels/{*rest}: scopes hotels:read, tiers (all)"), "{text}");
    assert!(text.ends_with("the API key may make it: scopes and tier are enough\n"), "{text}");
    for (domain, arguments, status, message) in [
        ("shop", vec!["--route", "hotels"], 2, "use method and path, such as 'GET /hotels/7'"),
        ("shop", vec!["--route", "GET /x", "--tier", "premum"], 2, "did you mean `premium`?"),
        ("basic", vec!["--route", "GET /x"], 1, "has no `api_keys`"),
        ("shop", vec!["--scope", "a"], 2, "--route"),
    ] {
        let all = [&["config/policies", domain], &arguments[..]].concat();
        let (code, _, error) = run(here, &all);
        assert_eq!(code, status, "{error}");
        assert!(error.contains(message), "{error}");
    }
}

/// An upstream may take `/a/` for `/a` or for what is below it, so both routes count.
#[test]
fn a_path_with_a_slash_at_its_end_needs_what_both_routes_need() {
    let folder = TempDir::new().unwrap();
    let policy = folder.path().join("policy.yaml");
    let text = "{domain: d, tiers: [free, paid, gold], caller: {key: user, tier: {key: tier, default: free}}, \
                api_keys: {routes: [{path: /a, scopes: [x], tiers: [paid, gold]}, \
                {path: '/a/{*rest}', scopes: [x, y], tiers: [free, gold]}]}, descriptors: []}";
    fs::write(&policy, text).unwrap();
    for (path, scopes, tier, passes, told) in [
        (
            "/a/",
            "x,y",
            "gold",
            true,
            "route (all methods) /a and /a/{*rest}: scopes x, y, tiers gold",
        ),
        ("/a/", "x", "gold", false, "the API key has not y"),
        ("/a/", "x,y", "paid", false, "it needs one of the tiers gold"),
        ("/a", "x", "paid", true, "route (all methods) /a: scopes x, tiers paid, gold"),
    ] {
        let route = format!("GET {path}");
        let asked = ["policy.yaml", "d", "--route", &route, "--scope", scopes, "--tier", tier];
        let (_, out, error) = run(folder.path(), &asked);
        assert!(out.contains(told), "{path} {scopes} {tier}: {out}{error}");
        assert_eq!(out.contains("may make it"), passes, "{out}");
    }
}
