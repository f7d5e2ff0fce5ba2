//! `/v1/over`, where only requests say the tiers of callers.

use std::fs;
use std::time::SystemTime;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::ask::DomainClient;
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::redis::{Server, calls};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: shop
tiers: [free, paid]
caller: { key: user, tier: { key: tier } }
mode: warn
descriptors:
- { key: user, limits: [{ name: daily, by_tier: { free: 10/day, paid: 100/day } }] }
";

/// Callers of the directory; the last one never asks.
const CALLERS: usize = 20;

fn name(caller: usize) -> String {
    format!("caller-{caller:02}")
}

/// The pages of `/v1/over`, as one list, and their number.
async fn over(tollgate: &Tollgate, limit: usize) -> (Vec<Value>, u64) {
    let (mut all, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let address = tollgate.http_address;
        let url = format!("http://{address}/v1/over?limit={limit}&after={after}");
        let page = Http::new().get(&url, &[]).await.json();
        all.extend(
            page["items"].as_array().unwrap().iter().map(|item| {
                json!([item["caller"], item["over"], item["tier"], item["tier_source"]])
            }),
        );
        pages += 1;
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => return (all, pages),
        }
    }
}

/// Each third caller has paid and is free now, so that it uses too much; the others pay, and would use too much if they didn't.
async fn ask_all(tollgate: &Tollgate) -> Vec<Value> {
    let mut client = DomainClient::new(tollgate, "shop").await;
    let mut ask = async |caller: usize, tier: &str, hits: u32| {
        let entries = [&*format!("user={}", name(caller)), &format!("tier={tier}")];
        assert!(client.ask(&entries, hits).await.passed);
    };
    for caller in 0..CALLERS - 1 {
        ask(caller, "paid", 30).await;
    }
    // The time of a request in usage is known to a second.
    let second = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let before = second();
    eventually("another second", async || (before < second()).then_some(())).await;
    let mut expected = Vec::new();
    for caller in (0..CALLERS - 1).step_by(3) {
        // Beyond the limit it passes, and is not counted.
        ask(caller, "free", 1).await;
        expected.push(json!([name(caller), 20, "free", "usage"]));
    }
    expected
}

#[tokio::test]
async fn callers_over_the_limit_of_the_tier_that_they_last_had_are_listed_from_every_source_of_usage()
 {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("callers.yaml");
    let callers: Vec<String> =
        (0..CALLERS).map(|caller| format!("{}: {{}}", name(caller))).collect();
    fs::write(&file, format!("callers: {{ {} }}", callers.join(", "))).unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let flags = ["--usage=true", "--callers", file.to_str().unwrap()];
    let in_file = [&flags[..], &["--data-dir", data.to_str().unwrap()]].concat();
    let redis = Server::start(&[]).map(Store::Redis);
    let memory_and_file = [(Store::Embedded, &flags[..]), (Store::Embedded, &in_file)];
    let sources = memory_and_file.into_iter().chain(redis.map(|redis| (redis, &flags[..])));
    for (store, flags) in sources {
        let tollgate = Tollgate::serve_with(POLICY, &store, flags).await;
        let expected = ask_all(&tollgate).await;
        eventually("the tiers in usage", async || {
            (over(&tollgate, CALLERS).await.0 == expected).then_some(())
        })
        .await;
        // A page of one caller is asked about in another way.
        assert_eq!(over(&tollgate, 1).await.0, expected);
        let (of_pages, pages) = over(&tollgate, 7).await;
        assert_eq!(of_pages, expected);
        assert!(pages <= 4, "{pages}");
        if let Store::Redis(server) = &store {
            let mut raw = server.raw().await;
            let before = calls(&mut raw, "hgetall");
            over(&tollgate, CALLERS).await;
            let asked = calls(&mut raw, "hgetall") - before;
            // The names of series in 31 days, and not those again for each caller.
            assert!((1..3 * 32).contains(&asked), "{asked}");
        }
    }
}
