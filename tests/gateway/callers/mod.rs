//! `/v1`: callers over HTTP and in files.

use std::fs;
use std::path::PathBuf;

use axum::http::Request;
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::client::{Answer, Http};
use crate::support::eventually;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, api_token};

mod hostile;
mod overrides;
mod races;

const POLICY: &str = "
domain: d
caller: {key: user}
tiers: [free, premium, enterprise]
descriptors:
- key: user
  limits: [{name: daily, rate: 1/day}, {name: booking, rate: 100/day}]
- {key: provider, limits: [{name: search, rate: 9/day}]}
";

/// A Tollgate with an API, and a client.
struct Api {
    tollgate: Tollgate,
    http: Http,
    headers: Vec<(String, String)>,
}

impl Api {
    async fn start(store: &Store, flags: &[&str]) -> Self {
        let tollgate = Tollgate::serve_with(POLICY, store, flags).await;
        Self { tollgate, http: Http::new(), headers: Vec::new() }
    }

    /// A Tollgate on a Redis of its own.
    async fn on_redis(flags: &[&str]) -> Option<(Self, Store)> {
        let store = Store::Redis(Server::start(&[])?);
        Some((Self::start(&store, flags).await, store))
    }

    /// A Tollgate on each store.
    async fn on_every() -> Vec<(Self, Store)> {
        let mut all = Vec::new();
        for store in Store::every() {
            all.push((Self::start(&store, &[]).await, store));
        }
        all
    }

    async fn ask(&self, line: &str, headers: &[(&str, &str)], body: impl ToString) -> Answer {
        let (method, path) = line.split_once(' ').unwrap();
        let uri = format!("http://{}{path}", self.tollgate.http_address);
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in own.chain(headers.iter().copied()) {
            request = request.header(name, value);
        }
        let body = Full::new(Bytes::from(body.to_string()));
        self.http.send(request.body(body).unwrap()).await
    }

    /// Sends a request and checks the status.
    async fn check(&self, line: &str, body: impl ToString, status: u16) -> Answer {
        let answer = self.ask(line, &[], body).await;
        assert_eq!(answer.status, status, "{line}: {}", String::from_utf8_lossy(&answer.body));
        if 400 <= status {
            assert_eq!(answer.header("content-type"), "application/problem+json", "{line}");
        }
        answer
    }

    async fn caller(&self, name: &str) -> Value {
        self.check(&format!("GET /v1/callers/{name}"), "", 200).await.json()
    }
}

#[tokio::test]
async fn callers_are_put_patched_and_deleted() {
    for (api, _store) in Api::on_every().await {
        let acme = json!({ "tier": "enterprise", "roles": ["partner"] });
        assert_eq!(api.check("PUT /v1/callers/acme", &acme, 201).await.json(), acme);
        api.check("PUT /v1/callers/acme", &acme, 200).await;
        let alice = json!({ "parent": "acme", "share": "20%", "notes": "x", "disabled": true });
        api.check("PUT /v1/callers/alice", &alice, 201).await;
        let patch = json!({ "notes": null, "disabled": false, "overrides": { "daily": 5 } });
        let patched = json!({ "parent": "acme", "share": "20%", "overrides": { "daily": 5 } });
        assert_eq!(api.check("PATCH /v1/callers/alice", patch, 200).await.json(), patched);
        assert_eq!(api.caller("alice").await, patched);
        assert!(api.check("DELETE /v1/callers/alice", "", 204).await.body.is_empty());
        for line in ["GET", "PATCH", "DELETE"] {
            api.check(&format!("{line} /v1/callers/alice"), "{}", 404).await;
        }
        // A name may be any text.
        api.check("PUT /v1/callers/a%2Fb%20%C3%A9", "{}", 201).await;
        assert_eq!(api.caller("a%2Fb%20%C3%A9").await, json!({}));
        api.check("GET /v1/callers/%FF", "", 400).await;
        api.check(&format!("GET /v1/callers/{}", "x".repeat(257)), "", 400).await;
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_and_changes_nothing() {
    for (api, _store) in Api::on_every().await {
        let check = async |line: &str, body: &str, status: u16, reported: &[&str]| {
            let answer = api.check(line, body, status).await;
            let detail = answer.json()["detail"].to_string();
            reported.iter().for_each(|text| assert!(detail.contains(text), "{line}: {detail}"));
        };
        check("PUT /v1/callers/a", "{", 400, &["EOF"]).await;
        check("PUT /v1/callers/a", r#"{"teir":"x"}"#, 400, &["unknown field `teir`"]).await;
        let two = r#"{"tier":"","bonuses":[{"limit":"x","amount":1,"until":"soon"}]}"#;
        check("PUT /v1/callers/a", two, 422, &["tier: the tier is empty", "bonuses.0.until"]).await;
        check("PUT /v1/callers/a", r#"{"parent":"b"}"#, 422, &["unknown parent `b`"]).await;
        check("PUT /v1/callers/a", r#"{"parent":"a"}"#, 422, &["a → a"]).await;
        check("GET /v1/callers/a", "", 404, &[]).await;
        for (name, parent) in [("b", None), ("c", Some("b")), ("d", Some("c")), ("e", Some("d"))] {
            let line = format!("PUT /v1/callers/{name}");
            api.check(&line, json!({ "parent": parent }), 201).await;
        }
        check("PUT /v1/callers/f", r#"{"parent":"e"}"#, 422, &["at most 3 are allowed"]).await;
        check("PATCH /v1/callers/b", r#"{"parent":"d"}"#, 422, &["b → d → c → b"]).await;
        check("PATCH /v1/callers/b", r#"{"pool":7}"#, 400, &["invalid type"]).await;
        check("GET /v1/callers?limit=0", "", 400, &["from 1 to 1000"]).await;
        check("GET /v1/callers?before=x", "", 400, &["unknown field"]).await;
        check("POST /v1/callers/b", "", 405, &["does not support POST"]).await;
        let large = " ".repeat(300_000);
        check("PUT /v1/callers/a", &large, 413, &[]).await;
    }
}

#[tokio::test]
async fn names_that_no_policy_in_force_has_are_refused_unless_forced() {
    for (api, _store) in Api::on_every().await {
        let tier = |tier: &str| json!({ "tier": tier });
        let limit = |limit: &str| json!({ "overrides": { limit: 5 } });
        let bonus = |limit: &str| json!({ "limit": limit, "amount": 1, "until": "2099-01-01" });
        let refused = async |line: &str, body: Value, reported: &str| {
            let before = api.caller("acme").await;
            let detail = api.check(line, body, 422).await.json()["detail"].to_string();
            assert!(
                detail.contains(reported) && detail.contains("?force=true"),
                "{line}: {detail}"
            );
            assert_eq!(api.caller("acme").await, before, "{line}");
        };
        api.check("PUT /v1/callers/acme", json!({ "notes": "x" }), 201).await;
        let meant = "tier: unknown tier `premiun`; did you mean `premium`?";
        refused("PATCH /v1/callers/acme", tier("premiun"), meant).await;
        refused("PUT /v1/callers/acme", tier("premiun"), meant).await;
        refused("PATCH /v1/callers/acme", limit("dayly"), "did you mean `daily`?").await;
        refused("PATCH /v1/callers/acme", limit("search"), "`search` does not belong to a caller")
            .await;
        refused("POST /v1/callers/acme/bonuses", bonus("bookings"), "did you mean `booking`?")
            .await;
        refused("PATCH /v1/callers/acme?force=false", tier("premiun"), meant).await;

        api.check("PATCH /v1/callers/acme?force=true", tier("premiun"), 200).await;
        api.check("PATCH /v1/callers/acme?force=true", limit("dayly"), 200).await;
        api.check("POST /v1/callers/acme/bonuses?force=true", bonus("bookings"), 201).await;
        assert_eq!(api.caller("acme").await["tier"], "premiun");
        api.check("PATCH /v1/callers/acme", json!({ "disabled": true }), 200).await;
        refused("PATCH /v1/callers/acme", tier("gold"), "`gold`; known names: enterprise, free")
            .await;
        api.check("PATCH /v1/callers/acme", tier("premium"), 200).await;
        api.check("PATCH /v1/callers/acme?force=yes", "{}", 400).await;
        api.check("PATCH /v1/callers/acme?forced=true", "{}", 400).await;
    }
}

#[tokio::test]
async fn names_that_a_policy_has_after_an_edit_are_taken() {
    for (api, _store) in Api::on_every().await {
        api.check("PUT /v1/callers/a", json!({ "tier": "gold" }), 422).await;
        api.tollgate.edit(&POLICY.replace("enterprise]", "gold]"));
        eventually("the policy with the tier", async || {
            let answer = api.ask("PUT /v1/callers/a", &[], json!({ "tier": "gold" })).await;
            (answer.status == 201).then_some(())
        })
        .await;
        api.check("PUT /v1/callers/b", json!({ "tier": "enterprise" }), 422).await;
    }
}

#[tokio::test]
async fn a_condition_on_the_revision_holds_or_nothing_is_changed() {
    for (api, _store) in Api::on_every().await {
        let check = async |line: &str, header: (&str, &str), status: u16| {
            let answer = api.ask(line, &[header], r#"{"tier":"free"}"#).await;
            assert_eq!(answer.status, status, "{line} {header:?}");
            answer.header("etag").to_owned()
        };
        let line = "PUT /v1/callers/a";
        check(line, ("if-match", "*"), 412).await;
        let first = check(line, ("if-none-match", "*"), 201).await;
        check(line, ("if-none-match", "*"), 412).await;
        check("GET /v1/callers/a", ("if-none-match", &first), 304).await;
        api.check("PATCH /v1/callers/a", json!({ "notes": "changed" }), 200).await;
        check("DELETE /v1/callers/a", ("if-match", &first), 412).await;
        let second = check("GET /v1/callers/a", ("if-none-match", &first), 200).await;
        assert_ne!(first, second);
        let either = format!("{first}, {second}");
        check("PATCH /v1/callers/a", ("if-match", &either), 200).await;
        check("DELETE /v1/callers/a", ("if-match", "*"), 204).await;
    }
}

#[tokio::test]
async fn bonuses_are_given_and_taken_one_by_one() {
    for (api, _store) in Api::on_every().await {
        let bonus = json!({ "limit": "booking", "amount": 40, "until": "2026-12-31" });
        let line = "POST /v1/callers/carol/bonuses";
        api.check(line, &bonus, 404).await;
        api.check("PUT /v1/callers/carol", json!({}), 201).await;
        let given = api.check(line, &bonus, 201).await.json();
        let again = api.check(line, &bonus, 201).await.json();
        assert_eq!(given["until"], "2027-01-01T00:00:00Z");
        assert_ne!(given["id"], again["id"]);
        let mut named = bonus.clone();
        named["id"] = json!("launch");
        api.check(line, &named, 201).await;
        api.check(line, &named, 409).await;
        named["id"] = json!("la nch");
        api.check(line, &named, 422).await;
        let path = format!("DELETE /v1/callers/carol/bonuses/{}", given["id"].as_str().unwrap());
        api.check(&path, "", 204).await;
        api.check(&path, "", 404).await;
        let left = api.caller("carol").await["bonuses"].as_array().unwrap().len();
        assert_eq!(left, 2);
    }
}

#[tokio::test]
async fn metrics_tell_whether_changes_are_heard_of() {
    let Some((api, store)) = Api::on_redis(&[]).await else { return };
    let wait = async |line: &str| {
        eventually(line, async || {
            let answer = api.ask("GET /metrics", &[], "").await;
            str::from_utf8(&answer.body).unwrap().contains(line).then_some(())
        })
        .await;
    };
    wait("tollgate_callers_subscribed 1\n").await;
    let Store::Redis(server) = &store else { unreachable!() };
    server.signal("STOP");
    wait("tollgate_callers_subscribed 0\n").await;
    server.signal("CONT");
    wait("tollgate_callers_subscribed 1\n").await;
}

#[tokio::test]
async fn pages_tell_of_every_caller_once_and_in_order() {
    for (api, _store) in Api::on_every().await {
        assert_eq!(api.check("GET /v1/callers", "", 200).await.json(), json!({ "items": [] }));
        for name in ["c", "a", "e", "b%20b", "d"] {
            api.check(&format!("PUT /v1/callers/{name}"), "{}", 201).await;
        }
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let line = format!("GET /v1/callers?limit=2&after={}", after.replace(' ', "%20"));
            let page = api.check(&line, "", 200).await.json();
            let items = page["items"].as_array().unwrap();
            assert!(
                items.iter().all(|item| item["caller"].is_object() && item["etag"].is_string())
            );
            names.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(names, ["a", "b b", "c", "d", "e"]);
    }
}

#[tokio::test]
async fn two_sidecars_write_beside_each_other_and_lose_nothing() {
    let Some((one, store)) = Api::on_redis(&[]).await else { return };
    let other = Api::start(&store, &["--callers-cache", "50"]).await;
    one.check("PUT /v1/callers/a", "{}", 201).await;
    let give = async |api: &Api, id: usize| {
        let bonus =
            json!({ "id": id.to_string(), "limit": "daily", "amount": 1, "until": "2099-01-01" });
        api.check("POST /v1/callers/a/bonuses", bonus, 201).await;
    };
    for id in 0..10 {
        tokio::join!(give(&one, 3 * id), give(&other, 3 * id + 1), give(&one, 3 * id + 2));
    }
    assert_eq!(other.caller("a").await["bonuses"].as_array().unwrap().len(), 30);
}

#[tokio::test]
async fn a_token_lets_in_as_far_as_its_role() {
    let Some(server) = Server::start(&[]) else { return };
    let roles = ["viewer", "operator", "admin"];
    let tokens = roles.map(|role| api_token(&format!("{role}-1"), role));
    let lines = tokens.each_ref().map(|(_, line)| line.as_str()).join(",");
    let store = Store::Redis(server);
    let mut api = Api::start(&store, &["--api-tokens", &lines]).await;
    let answer = api.check("GET /v1/callers", "", 401).await;
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    let needs = [
        ("GET /v1/callers", 0, 200),
        ("GET /v1/openapi.json", 0, 200),
        ("PUT /v1/callers/a", 2, 201),
        ("GET /v1/callers/a", 0, 200),
        ("PATCH /v1/callers/a", 1, 200),
        ("POST /v1/callers/a/bonuses", 1, 400),
        ("DELETE /v1/callers/a/bonuses/x", 1, 404),
        ("DELETE /v1/callers/a", 2, 204),
    ];
    for (line, needed, status) in needs {
        for (rank, (token, _)) in tokens.iter().enumerate() {
            api.headers = vec![("authorization".to_owned(), format!("Bearer {token}"))];
            if rank < needed {
                let answer = api.check(line, "{}", 403).await;
                assert!(answer.json()["detail"].to_string().contains(roles[needed]));
            } else if rank == needed {
                api.check(line, "{}", status).await;
            }
        }
    }
    api.headers = vec![("authorization".to_owned(), "Bearer 00".to_owned())];
    api.check("GET /v1/callers", "", 401).await;
    assert_eq!(api.ask("GET /metrics", &[], "").await.status, 200);
}

#[tokio::test]
async fn without_tokens_only_this_machine_itself_is_served() {
    let api = Api::start(&Store::Embedded, &["--callers", "config/callers.yaml"]).await;
    let check = async |header: (&str, &str), status: u16| {
        assert_eq!(api.ask("GET /v1/callers", &[header], "").await.status, status, "{header:?}");
    };
    check(("accept", "*/*"), 200).await;
    check(("host", "evil.example"), 403).await;
    check(("x-forwarded-for", "10.0.0.1"), 403).await;
    check(("forwarded", "for=10.0.0.1"), 403).await;
    check(("origin", "http://evil.example"), 403).await;
    assert_eq!(api.ask("GET /metrics", &[("host", "evil.example")], "").await.status, 200);
}

#[tokio::test]
async fn every_change_has_a_line_in_the_audit_log() {
    let folder = TempDir::new().unwrap();
    let logs = folder.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let path = logs.join("audit.jsonl");
    let flags = ["--audit-log", path.to_str().unwrap()];
    let Some((api, _store)) = Api::on_redis(&flags).await else { return };
    api.check("PUT /v1/callers/a", json!({ "tier": "free" }), 201).await;
    api.check("PATCH /v1/callers/a", json!({ "tier": "premium" }), 200).await;
    api.check("PATCH /v1/callers/a", json!({ "tier": "" }), 422).await;
    api.check("DELETE /v1/callers/a", "", 204).await;
    let text = fs::read_to_string(&path).unwrap();
    // After that of the start.
    let lines = text.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    let reported: Vec<_> = lines
        .iter()
        .map(|line| (line["what"].as_str().unwrap(), line["before"].clone(), line["after"].clone()))
        .collect();
    let (free, premium) = (json!({ "tier": "free" }), json!({ "tier": "premium" }));
    let expected = [
        ("put", Value::Null, free.clone()),
        ("patch", free, premium.clone()),
        ("delete", premium, Value::Null),
    ];
    assert_eq!(reported, expected);
    assert!(lines.iter().all(|line| line["who"] == "loopback" && line["peer"] == "127.0.0.1"));

    fs::remove_dir_all(&logs).unwrap();
    api.check("PUT /v1/callers/b", "{}", 503).await;
    api.check("GET /v1/callers/b", "", 404).await;
}

#[tokio::test]
async fn without_an_audit_log_changes_are_logged() {
    for (api, _store) in Api::on_every().await {
        api.check("PUT /v1/callers/a", "{}", 201).await;
        eventually("the line", async || {
            api.tollgate.output().contains(r#""what":"put","caller":"a""#).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn while_redis_is_out_the_api_says_so() {
    let Some((api, mut store)) = Api::on_redis(&[]).await else { return };
    let Store::Redis(server) = &mut store else { unreachable!() };
    server.kill();
    for line in ["GET /v1/callers", "GET /v1/callers/a", "PUT /v1/callers/a"] {
        api.check(line, "{}", 503).await;
    }
}

/// Without Redis they are in a file, which is written before a change is answered.
#[tokio::test]
async fn a_data_dir_keeps_callers_over_a_kill() {
    let folder = TempDir::new().unwrap();
    let data_dir = format!("--data-dir={}", folder.path().display());
    let api = Api::start(&Store::Embedded, &[&data_dir]).await;
    let alice = json!({ "tier": "premium", "overrides": { "daily": 5 } });
    // Where nothing is kept, a rolling update can start the next process on the same folder.
    api.check("POST /v1/callers/nobody/erase", "{}", 200).await;
    assert!(!folder.path().join("callers.redb").exists());
    api.check("PUT /v1/callers/alice", &alice, 201).await;
    api.check("PUT /v1/callers/bob", "{}", 201).await;
    let tag = api.check("PUT /v1/callers/bob", r#"{"tier": "free"}"#, 200).await;
    let tag = tag.header("etag").to_owned();
    api.check("DELETE /v1/callers/bob", "", 204).await;
    // Ended by SIGKILL.
    drop(api);

    let api = Api::start(&Store::Embedded, &[&data_dir]).await;
    assert_eq!(api.caller("alice").await, alice);
    api.check("GET /v1/callers/bob", "", 404).await;
    // No revision is used twice, not even that of a caller who was deleted.
    let again = api.check("PUT /v1/callers/bob", r#"{"tier": "free"}"#, 201).await;
    assert_ne!(again.header("etag"), tag);
}

#[tokio::test]
async fn files_are_read_and_live_when_edited_but_not_written() {
    let folder = TempDir::new().unwrap();
    let path: PathBuf = folder.path().join("callers.yaml");
    let write = |text: &str| {
        let draft = folder.path().join("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, &path).unwrap();
    };
    write("callers: {a: {tier: free}, b: }");
    let api = Api::start(&Store::Embedded, &["--callers", path.to_str().unwrap()]).await;
    let page = api.check("GET /v1/callers?limit=1", "", 200).await.json();
    let expected = json!({ "items": [{ "name": "a", "caller": { "tier": "free" } }], "next": "a" });
    assert_eq!(page, expected);
    for line in ["PUT", "PATCH", "DELETE"] {
        let answer = api.check(&format!("{line} /v1/callers/a"), "{}", 409).await;
        assert!(answer.json()["detail"].to_string().contains("is in files"));
    }
    let tier = async |tier: &str| {
        eventually(tier, async || (api.caller("a").await["tier"] == tier).then_some(())).await;
    };
    write("callers: {a: {tier: premium}}");
    tier("premium").await;
    write("callers: {a: {teir: gold}, b: {parent: c}}");
    eventually("both problems in the log", async || {
        let output = api.tollgate.output();
        let reported =
            output.contains("did you mean `tier`?") && output.contains("unknown parent `c`");
        (reported && output.contains("the previous callers stay in force")).then_some(())
    })
    .await;
    tier("premium").await;
    // The policies are reloaded automatically.
    api.tollgate.edit(&POLICY.replace("1/day", "2/day"));
    eventually("the policy", async || {
        let answer = api.ask("GET /policy", &[], "").await;
        answer.json().to_string().contains("2/day").then_some(())
    })
    .await;
    write("callers: {a: {tier: gold}}");
    tier("gold").await;
    eventually("the warning", async || {
        api.tollgate.output().contains("unknown tier `gold`").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_openapi_document_tells_what_is_served() {
    let Some((api, _store)) = Api::on_redis(&[]).await else { return };
    let document = api.check("GET /v1/openapi.json", "", 200).await.json();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/v1/callers/{name}/quota") && paths.contains_key("/v1/usage"));
    let listed = api.check("GET /v1", "", 200).await.json();
    assert_eq!(api.check("GET /v1/", "", 200).await.json(), listed);
    assert_eq!(listed["openapi"], "/v1/openapi.json");
    let listed: Vec<String> = listed["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let (method, path) = (one["method"].as_str().unwrap(), one["path"].as_str().unwrap());
            let described = &document["paths"][path][method.to_lowercase()];
            assert_eq!(described["security"][0]["token"][0], one["role"], "{method} {path}");
            format!("{method} {path}")
        })
        .collect();
    let operations = paths.values().map(|operations| operations.as_object().unwrap().len());
    assert_eq!(listed.len(), operations.sum::<usize>());
    for (path, operations) in paths {
        for method in operations.as_object().unwrap().keys() {
            let line = format!("{} {path}", method.to_uppercase());
            assert!(listed.contains(&line), "{line}");
            let line = line.replace("{name}", "a").replace("{id}", "b");
            let forced = ["PUT", "PATCH", "POST"].iter().any(|method| line.starts_with(method))
                && line.starts_with(&format!("{} /v1/callers", method.to_uppercase()))
                && !["/quota/", "/reservations", "/gifts", "/erase", "/link"]
                    .iter()
                    .any(|part| line.contains(part));
            let reported = operations[method]["parameters"].to_string();
            assert_eq!(reported.contains(r#""name":"force""#), forced, "{line}");
            let answer = api.ask(&line, &[], "{}").await;
            let detail = answer.json()["detail"].to_string();
            assert!(answer.status != 405 && !detail.contains("no such path"), "{line}");
        }
    }
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}
