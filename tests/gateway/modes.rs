//! Modes through a real Envoy: what is off, what warns, what is enforced for some, and what is strict.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::client::Http;
use crate::support::eventually;
use crate::support::gateway::{Gateway, tcp};
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

/// A policy of one request an hour for each user, with what is said of its enforcement.
fn policy(said: &str) -> String {
    format!(
        "domain: gate\nanswer: {{ headers: [ratelimit] }}\n{said}\ncaller: {{ key: user }}\n\
         descriptors:\n- key: user\n  limits: [{{ name: hourly, rate: 1/hour }}]\n"
    )
}

/// Those of forty users whose second request is refused.
async fn refused(gateway: &Gateway) -> BTreeSet<String> {
    let mut refused = BTreeSet::new();
    for number in 0..40 {
        let user = format!("user-{number}");
        gateway.caller.ask(&user, "").await;
        let second = gateway.caller.ask(&user, "").await;
        let warning = second.header("x-ratelimit-warning");
        match second.status {
            429 => assert_eq!(warning, ""),
            _ => assert_eq!(warning, "\"hourly\"", "{user}: {second:?}"),
        }
        if second.status == 429 {
            refused.insert(user);
        }
    }
    refused
}

/// Waits until a policy is in force that has the first text and not the second.
async fn wait_for(tollgate: &Tollgate, (text, absent): (&str, &str)) {
    let url = format!("http://{}/policy", tollgate.http_address);
    eventually(text, async || {
        let shown = String::from_utf8(Http::new().get(&url, &[]).await.body.to_vec()).unwrap();
        (shown.contains(text) && !shown.contains(absent)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_policy_is_rolled_out_from_off_over_a_warning_to_all_callers() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(&policy("mode: off"), &store).await;
        let Some(gateway) = Gateway::start(&[tcp(tollgate.grpc_address)]).await else { return };
        for _ in 0..3 {
            let answer = gateway.caller.ask("off", "").await;
            assert_eq!((answer.status, answer.header("ratelimit")), (200, ""), "{answer:?}");
        }

        tollgate.edit(&policy("mode: warn"));
        wait_for(&tollgate, ("\"warn\"", "\"off\"")).await;
        let first = gateway.caller.ask("ann", "").await;
        assert_eq!((first.status, first.header("x-ratelimit-warning")), (200, ""));
        assert_eq!(first.header("ratelimit"), "\"hourly\";r=0;t=3600");
        let second = gateway.caller.ask("ann", "").await;
        assert_eq!((second.status, second.header("x-ratelimit-warning")), (200, "\"hourly\""));
        assert!(second.header("ratelimit").starts_with("\"hourly\";r=0;t="), "{second:?}");
        let url = format!("http://{}/metrics", tollgate.http_address);
        let metrics = Http::new().get(&url, &[]).await.body.to_vec();
        let warned = r#"tollgate_decisions_total{domain="gate",limit="hourly",outcome="warned"} 1"#;
        assert!(String::from_utf8(metrics).unwrap().contains(warned));

        let mut before = BTreeSet::new();
        for (share, expected) in [("25%", 4..20), ("60%", 15..34), ("100%", 40..41)] {
            tollgate.edit(&policy(&format!("enforce: {share}")));
            // A share of all callers is not shown.
            let shown = if share == "100%" { ("\"enforce\"", "60%") } else { (share, "\"warn\"") };
            wait_for(&tollgate, shown).await;
            let now = refused(&gateway).await;
            assert!(expected.contains(&now.len()), "{share}: {now:?}");
            assert!(before.is_subset(&now), "{share}: {before:?} {now:?}");
            before = now;
        }
    }
}

/// Envoy answers 500 if Tollgate does not decide.
#[tokio::test]
async fn a_strict_limit_refuses_while_the_store_is_out() {
    let Some(server) = Server::start(&[]) else { return };
    let flags = ["--redis-url", &server.url()];
    let tollgate = Tollgate::serve_with(&policy("mode: strict"), &Store::Embedded, &flags).await;
    let Some(gateway) = Gateway::start(&[tcp(tollgate.grpc_address)]).await else { return };
    // Each probe is another user: a probe that passes spends what its user has.
    let mut probes = 0;
    eventually("an answer of the store", async || {
        probes += 1;
        let answer = gateway.caller.ask(&format!("probe-{probes}"), "").await;
        (answer.status == 200).then_some(())
    })
    .await;
    drop(server);
    gateway.caller.gets("bob", 429).await;
    assert_eq!(gateway.caller.ask("eve", "").await.status, 429);
}

/// Callers of the directory `alice`, `bob`, `carol` and `dave`, each with so many projects.
const PROJECTS: [(&str, u64); 4] = [("alice", 8), ("bob", 2), ("carol", 3), ("dave", 5)];

/// A policy by which each user may have so many projects.
fn projects(amount: u64) -> String {
    format!(
        "domain: gate\nmode: strict\ncaller: {{ key: user }}\ndescriptors:\n\
         - key: user\n  limits: [{{ name: projects, rate: {amount}/total }}, {{ name: hourly, rate: 1/hour, mode: warn }}]\n"
    )
}

#[tokio::test]
async fn callers_over_a_lowered_limit_are_listed_until_they_give_back() {
    for store in Store::every() {
        let folder = TempDir::new().unwrap();
        let callers = folder.path().join("callers.yaml");
        fs::write(&callers, "callers: { alice: {}, bob: {}, carol: {}, dave: {} }").unwrap();
        let flags = ["--callers", callers.to_str().unwrap()];
        let tollgate = Tollgate::serve_with(&projects(10), &store, &flags).await;
        let url = |path: &str| format!("http://{}/v1/{path}", tollgate.http_address);
        let post = async |path: String, hits: u64| {
            let body = json!({ "hits": hits }).to_string();
            Http::new().post(&url(&path), &[], &body).await.status
        };
        let over = async |query: &str| {
            let answer = Http::new().get(&url(&format!("over{query}")), &[]).await;
            assert_eq!(answer.status, 200, "{query}: {answer:?}");
            let body = answer.json();
            let item = |item: &Value| {
                json!([
                    item["caller"],
                    item["limit"],
                    item["quota"],
                    item["used"],
                    item["over"],
                    item["mode"]
                ])
            };
            let items: Vec<Value> = body["items"].as_array().unwrap().iter().map(item).collect();
            (items, body["next"].as_str().map(str::to_owned))
        };
        for (name, count) in PROJECTS {
            assert_eq!(post(format!("callers/{name}/quota/consume"), count).await, 200, "{name}");
        }
        assert_eq!(over("").await, (vec![], None));

        tollgate.edit(&projects(3));
        let all = vec![
            json!(["alice", "projects", 3, 8, 5, "strict"]),
            json!(["dave", "projects", 3, 5, 2, "strict"]),
        ];
        eventually("the lowered limit", async || {
            (over("").await == (all.clone(), None)).then_some(())
        })
        .await;
        assert_eq!(over("?mode=warn").await, (vec![], None));
        assert_eq!(over("?domain=gate&mode=strict").await.0, all);
        let (mut paged, mut query) = (Vec::new(), "?limit=1".to_owned());
        let mut pages = 0;
        loop {
            let (items, next) = over(&query).await;
            paged.extend(items);
            pages += 1;
            let Some(next) = next else { break };
            query = format!("?limit=1&after={next}");
        }
        assert!((4..=5).contains(&pages), "{pages}");
        assert_eq!(paged, all);

        assert_eq!(post("callers/alice/quota/release".to_owned(), 5).await, 200);
        assert_eq!(over("").await.0, all[1..]);
        for (query, status) in [("?limit=0", 400), ("?mode=hard", 400), ("?domain=other", 422)] {
            assert_eq!(Http::new().get(&url(&format!("over{query}")), &[]).await.status, status);
        }
    }
}
