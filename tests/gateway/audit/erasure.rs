//! Erasing a caller: nothing of it is left, and all of the others.

use std::fs;

use axum::http::Request;
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Audited, POLICY, verify};
use crate::support::client::Http;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::redis::Server;
use crate::support::store::Store;

/// Every text in a Redis: names of keys and contents.
async fn texts(server: &Server) -> String {
    let mut raw = server.raw().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut raw).unwrap();
    let content = |raw: &mut redis::Connection, key: &str| {
        let kind: String = redis::cmd("TYPE").arg(key).query(raw).unwrap();
        let mut command = match kind.as_str() {
            "hash" => redis::cmd("HGETALL"),
            "zset" => redis::cmd("ZRANGE"),
            "list" => redis::cmd("LRANGE"),
            "stream" => redis::cmd("XRANGE"),
            _ => redis::cmd("GET"),
        };
        command.arg(key);
        match kind.as_str() {
            "zset" | "list" => command.arg(0).arg(-1),
            "stream" => command.arg("-").arg("+"),
            _ => &mut command,
        };
        format!("{key} {:?}\n", command.query::<redis::Value>(raw).unwrap())
    };
    keys.iter().map(|key| content(&mut raw, key)).collect()
}

/// The callers of the usage, each with its requests.
async fn callers(audited: &Audited) -> Vec<(Value, Value)> {
    let path = "/v1/usage?granularity=day&group_by=caller";
    let items = audited.get(path, &[]).await.json()["items"].clone();
    let item = |item: &Value| (item["caller"].clone(), item["requests"].clone());
    items.as_array().unwrap().iter().map(item).collect()
}

/// Sends requests of two callers until each is refused, and waits until usage and log have them. Returns the id of the
/// last refusal.
async fn spend(audited: &Audited) -> String {
    let mut id = String::new();
    for caller in ["alice", "bob"] {
        for _ in 0..5 {
            let answer = audited.ask(caller).await;
            if let Some(header) = answer.response_headers_to_add.first() {
                id = header.value.clone();
            }
        }
    }
    eventually("the usage", async || {
        let counted = callers(audited).await;
        let sum: u64 = counted.iter().filter_map(|(_, count)| count.as_u64()).sum();
        (10 <= sum).then_some(())
    })
    .await;
    eventually("the line of bob", async || {
        audited.lines().iter().any(|line| line["caller"] == "bob").then_some(())
    })
    .await;
    id
}

/// Checks that nothing of alice is left, and all of bob is.
async fn check_erased(servers: &[&Server], audited: &Audited, other: Option<&Audited>) {
    let text = fs::read_to_string(audited.file()).unwrap();
    assert!(!text.contains("alice") && !text.contains("Alice") && text.contains("bob"), "{text}");
    let (status, reported) = verify(&[&audited.file()], &[]);
    assert!(
        status == Some(0) && reported.contains("without a caller that was erased"),
        "{reported}"
    );
    if let Some(other) = other {
        let mut all = String::new();
        for server in servers {
            all += &texts(server).await;
        }
        assert!(!all.contains("alice") && all.contains("bob"), "{all}");
        eventually("the other audit log", async || {
            let text = fs::read_to_string(other.file()).unwrap();
            (!text.contains("alice")).then_some(())
        })
        .await;
        assert_eq!(verify(&[&other.file()], &[]).0, Some(0));
    }
    let counted = eventually("the usage of bob", async || {
        let counted = callers(audited).await;
        counted.contains(&(json!("bob"), json!(5))).then_some(counted)
    })
    .await;
    assert!(counted.iter().all(|(caller, _)| *caller != "alice"), "{counted:?}");
}

/// Bob gives a hit to alice, and gets one of hers.
async fn gifts(audited: &Audited) {
    let url = |path: &str| format!("http://{}/v1/callers/{path}", audited.tollgate.http_address);
    let request = Request::put(url("bob")).body(Full::new(Bytes::from("{}"))).unwrap();
    assert_eq!(Http::new().send(request).await.status, 201);
    for (from, to) in [("bob", "alice"), ("alice", "bob")] {
        let bonus = json!({ "limit": "daily", "amount": 1, "until": "2999-01-01" });
        assert_eq!(audited.post(&format!("{from}/bonuses"), &bonus).await, 201);
        let gift =
            json!({ "to": to, "limit": "daily", "hits": 1, "id": format!("gift-{}", from.len()) });
        assert_eq!(audited.post(&format!("{from}/gifts"), &gift).await, 201);
    }
}

/// Two sidecars on Redis, or one without, erase a caller.
async fn check(servers: &[&Server], flags: &[&str]) {
    let policy =
        format!("{POLICY}\nreservation: {{ ttl: 10m }}\nanswer: {{ refusal_id: [header] }}");
    let flags = [&["--usage=true", "--audit-refusals", "1"], flags].concat();
    let serve = || Audited::serving(&policy, &Store::Embedded, &flags);
    let audited = serve().await;
    let other = match servers {
        [] => None,
        _ => Some(serve().await),
    };
    if let Some(other) = &other {
        let url = format!("http://{}/v1/callers/alice", audited.tollgate.http_address);
        let body = r#"{"tier":"free","notes":"call Alice"}"#;
        let request = Request::put(url).body(Full::new(Bytes::from(body))).unwrap();
        assert_eq!(Http::new().send(request).await.status, 201);
        gifts(&audited).await;
        other.post("alice/quota/consume", &json!({})).await;
        assert_eq!(other.lines()[0]["caller"], "alice");
    }
    let held = format!("http://{}/v1/callers/alice/reservations", audited.tollgate.http_address);
    let answer = Http::new().post(&held, &[], r#"{"id":"job","hits":1}"#).await;
    assert_eq!(answer.status, 201, "{}", answer.json());
    let id = spend(&audited).await;
    assert_eq!(audited.get(&format!("/v1/why/{id}"), &[]).await.status, 200);

    let (status, report) = audited.command(&["callers", "erase", "alice", "--output", "json"]);
    assert_eq!(status, Some(0), "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["record"], json!(other.is_some()));
    if other.is_some() {
        assert_eq!(
            report["gifts"], 5,
            "two gifts, a line of bob about each, and the ledger of alice"
        );
    }
    for count in ["counters", "reservations", "usage", "audit_lines"] {
        assert!(report[count].as_u64().is_some_and(|count| 0 < count), "{count}: {report}");
    }
    check_erased(servers, &audited, other.as_ref()).await;
    assert_eq!(audited.get(&format!("/v1/why/{id}"), &[]).await.status, 200, "that is bob's");
    // A sidecar remembers a refusal for up to a second.
    eventually("a new counter", async || {
        (audited.ask("alice").await.overall_code == 1).then_some(())
    })
    .await;
    assert_eq!(audited.ask("bob").await.overall_code, 2);
}

#[tokio::test]
async fn an_erased_caller_is_nowhere_without_redis() {
    let data = TempDir::new().unwrap();
    check(&[], &["--data-dir", data.path().to_str().unwrap()]).await;
}

#[tokio::test]
async fn an_erased_caller_is_nowhere_in_redis() {
    let Some(server) = Server::start(&[]) else { return };
    check(&[&server], &["--redis-url", &server.url(), "--store-deadline", "10s"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_caller_is_nowhere_on_a_cluster() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let flags = cluster.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let flags = [&flags[..], &["--store-deadline", "10s"]].concat();
    check(&cluster.nodes.iter().collect::<Vec<_>>(), &flags).await;
}

/// The callers of the lines.
fn named(audited: &Audited) -> Vec<Value> {
    let lines = audited.lines();
    let callers = lines.iter().map(|line| line["caller"].clone());
    callers.filter(|caller| !caller.is_null()).collect()
}

#[tokio::test]
async fn a_caller_is_erased_from_logs_with_other_salts() {
    let Some(server) = Server::start(&[]) else { return };
    let folder = TempDir::new().unwrap();
    let serve = async |salt: &str| {
        let path = folder.path().join(salt);
        fs::write(&path, format!("the salt of {salt:>9}")).unwrap();
        let url = server.url();
        let flags = ["--redis-url", &url, "--store-deadline", "10s", "--audit-salt-file"];
        let flags = [&flags[..], &[path.to_str().unwrap()]].concat();
        Audited::serving(POLICY, &Store::Embedded, &flags).await
    };
    let (one, other) = (serve("one").await, serve("other").await);
    let mut shown = Vec::new();
    for audited in [&one, &other] {
        for caller in ["alice", "bob"] {
            audited.post(&format!("{caller}/quota/consume"), &json!({})).await;
        }
        shown.push(named(audited)[0].clone());
        assert_eq!(named(audited).len(), 2);
    }
    assert_ne!(shown[0], shown[1], "each has a salt of its own");
    // A sidecar says at its start which salt it has.
    let mut raw = server.raw().await;
    eventually("both salts", async || {
        let salts: u64 = redis::cmd("ZCARD").arg("tgw1{tgc1}-salts").query(&mut raw).unwrap();
        (salts == 2).then_some(())
    })
    .await;
    let (status, report) = one.command(&["callers", "erase", "alice", "--output", "json"]);
    assert_eq!(status, Some(0), "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(report["left"].to_string().contains("other sidecars"), "{report}");
    for audited in [&one, &other] {
        eventually("only bob", async || (named(audited).len() == 1).then_some(())).await;
        assert_eq!(verify(&[&audited.file()], &[]).0, Some(0));
    }
}

#[tokio::test]
async fn any_name_that_requests_may_have_can_be_erased() {
    for store in Store::every() {
        let flags = ["--usage=true", "--audit-refusals", "1"];
        let audited = Audited::start(&store, &flags).await;
        let long = "é".repeat(200);
        let names = ["", "a\u{1}b\n", &long];
        for name in names {
            for _ in 0..4 {
                audited.ask(name).await;
            }
        }
        audited.ask("bob").await;
        eventually("the usage", async || (callers(&audited).await.len() == 4).then_some(())).await;
        eventually("the lines", async || (named(&audited).len() == 3).then_some(())).await;
        for name in names {
            let kept: String = name.chars().take(128).collect();
            let is_counted = async || callers(&audited).await.iter().any(|(one, _)| *one == kept);
            assert!(is_counted().await, "{name:?}");
            let (status, report) = audited.command(&["callers", "erase", name, "-o", "json"]);
            assert_eq!(status, Some(0), "{report}");
            let report: Value = serde_json::from_str(&report).unwrap();
            // Its refusal, and the line of the erasure.
            assert_eq!(report["audit_lines"], 2, "{name:?}: {report}");
            assert!(report["counters"].as_u64().is_some_and(|count| count != 0), "{report}");
            assert!(!is_counted().await, "{name:?}");
        }
        assert_eq!(named(&audited), Vec::<Value>::new());
        assert_eq!(audited.ask(&long).await.overall_code, 1, "it begins anew");
        assert_eq!(verify(&[&audited.file()], &[]).0, Some(0));
    }
}
